//! Measurements of a network that keeps records.
//!
//! Knows: the stores of all nodes. Must not know: how records are published or read.

use super::super::live_network::LiveNetwork;
use super::{K, PublishedRecord};
use crate::{Measurements, NodeIndex, Samples, SortedPeers};
use libp2p_kad_dht::core::stats::Stores;
use libp2p_kad_dht::core::{Answer, Found, ProvidersFound, QueryError};

/// Measurements of values, or of provided keys.
#[derive(Default)]
pub(super) struct RecordStats {
    /// The share of lookups that found the record, hour by hour.
    pub(super) found: Vec<(f64, f64)>,
    /// The average number of the 20 closest nodes that hold a record, hour by hour.
    pub(super) holders: Vec<(f64, f64)>,
    all_found: usize,
    all_asked: usize,
    /// Records found and looked up in this hour.
    hour_found: usize,
    hour_asked: usize,
    /// The number of lookups that the publisher answered.
    by_publisher: usize,
    /// The fewest holders among the 20 closest.
    fewest: usize,
    /// The number of records looked for in the stores, and how many of them no node under churn held among the 20
    /// closest. Nodes that never leave would hold them forever.
    looked_at: usize,
    missing: usize,
}

impl RecordStats {
    pub(super) fn found_share(&self) -> f64 {
        self.all_found as f64 / self.all_asked as f64
    }

    pub(super) fn held_share(&self) -> f64 {
        1.0 - self.missing as f64 / self.looked_at as f64
    }

    fn put(&self, metrics: &mut Measurements) {
        let mean = |points: &[(f64, f64)]| points.iter().map(|(_, y)| y).sum::<f64>() / points.len() as f64;
        metrics.put("found_share", self.found_share());
        metrics.put("found_worst_hour", self.found.iter().fold(f64::NAN, |worst, (_, share)| share.min(worst)));
        metrics.put("found_last_hour", self.found.last().map_or(f64::NAN, |(_, share)| *share));
        metrics.put("asked", self.all_asked as f64);
        metrics.put("held_share", self.held_share());
        metrics.put("holders_true20", mean(&self.holders));
        metrics.put("holders_true20_last_hour", self.holders.last().map_or(f64::NAN, |(_, holders)| *holders));
        metrics.put("holders_true20_fewest", self.fewest as f64);
    }
}

/// Stores of one cause for each value, hour by hour.
type Causes = [(&'static str, Vec<(f64, f64)>); 5];

/// Measurements of one network.
#[derive(Default)]
pub(super) struct Measured {
    pub(super) values: RecordStats,
    pub(super) providers: RecordStats,
    /// The stores at other nodes in all.
    pub(super) stores: Stores,
    pub(super) causes: Causes,
    /// Whether in the last hour no node under churn held any record.
    pub(super) no_record_left: bool,
    /// The number of values, and of provided keys.
    count: f64,
    pub(super) hours: f64,
    joins: f64,
    online: Samples,
    /// Stored copies for each value, without those of publishers.
    copies: Samples,
    /// Lookups of nodes that went offline before the answer.
    abandoned: usize,
    requests_per_node_s: f64,
    bytes_per_node_s: f64,
}

impl Measured {
    pub(super) fn new(count: usize) -> Measured {
        let causes = ["replicated", "joined", "announced", "corrected", "cached"].map(|cause| (cause, Vec::new()));
        let kept = || RecordStats { fewest: K, ..RecordStats::default() };
        Measured {
            values: kept(),
            providers: kept(),
            causes,
            count: count as f64,
            requests_per_node_s: f64::NAN,
            bytes_per_node_s: f64::NAN,
            ..Measured::default()
        }
    }

    /// Measures the stores of the closest nodes to each record.
    pub(super) fn measure_stores(
        &mut self,
        live_network: &mut LiveNetwork,
        published: &[PublishedRecord],
        live: &SortedPeers,
    ) {
        let (hour, now) = (live_network.hour(), live_network.network.now());
        let mut held = [0, 0];
        let missing = self.missing();
        for entry in published {
            let publisher = *live_network.network.directory.contact(entry.publisher).peer();
            let near = live.closest(entry.position, K + 1).into_iter().filter(|peer| *peer != entry.publisher);
            let holders = near.take(K).filter(|peer| {
                let node = live_network.network.node_mut(*peer);
                match entry.value {
                    Some(_) => node.has_value(now, &entry.key),
                    None => node.has_provider(now, &entry.key, &publisher),
                }
            });
            let holders: Vec<NodeIndex> = holders.collect();
            let kept = self.kept(entry);
            kept.fewest = kept.fewest.min(holders.len());
            kept.looked_at += 1;
            kept.missing += usize::from(holders.iter().all(|holder| live_network.boot.contains(holder)));
            held[usize::from(entry.value.is_none())] += holders.len();
        }
        self.values.holders.push((hour, held[0] as f64 / self.count));
        self.providers.holders.push((hour, held[1] as f64 / self.count));
        self.no_record_left = self.missing() - missing == published.len();
        self.online.push(live.len() as f64);
        let everyone = 0..live_network.network.directory.len() as NodeIndex;
        let copies: usize = everyone.map(|peer| live_network.network.node_mut(peer).stored_values()).sum();
        self.copies.push(copies as f64 / self.count);
    }

    fn missing(&self) -> usize {
        self.values.missing + self.providers.missing
    }

    /// Notes the end of a lookup for this record.
    pub(super) fn on_end(
        &mut self,
        live_network: &LiveNetwork,
        entry: &PublishedRecord,
        result: Result<Answer, QueryError>,
    ) {
        let publisher = live_network.network.directory.contact(entry.publisher).peer();
        let (found, by_publisher) = match result {
            Ok(Answer::Value(Found { record, from, .. })) => {
                (Some(&record.value) == entry.value.as_ref(), from.as_ref() == Some(publisher))
            }
            Ok(Answer::Providers(ProvidersFound { found, .. })) => (found > 0, false),
            _ => (false, false),
        };
        let kept = self.kept(entry);
        kept.hour_asked += 1;
        kept.hour_found += usize::from(found);
        kept.by_publisher += usize::from(by_publisher);
    }

    /// Ends the hour; `abandoned` lookups of it had no end.
    pub(super) fn close_hour(&mut self, live_network: &LiveNetwork, abandoned: usize) {
        let hour = live_network.hour();
        for kept in [&mut self.values, &mut self.providers] {
            if kept.hour_asked > 0 {
                kept.found.push((hour - 1.0, kept.hour_found as f64 / kept.hour_asked as f64));
            }
            kept.all_found += std::mem::take(&mut kept.hour_found);
            kept.all_asked += std::mem::take(&mut kept.hour_asked);
        }
        self.abandoned += abandoned;
        let (old, new) = (by_cause(&self.stores), live_network.stores());
        let span = (hour - self.hours).max(f64::MIN_POSITIVE);
        for (i, now) in by_cause(&new).into_iter().enumerate() {
            self.causes[i].1.push((hour, (now - old[i]) as f64 / self.count / span));
        }
        (self.stores, self.hours) = (new, hour);
    }

    /// Notes the totals at the end of the run.
    pub(super) fn finish(&mut self, live_network: &LiveNetwork) {
        self.joins = live_network.joins as f64;
        let traffic = live_network.network.traffic();
        let node_seconds = self.hours * 3600.0 * self.count;
        self.requests_per_node_s = traffic.requests as f64 / node_seconds;
        self.bytes_per_node_s = traffic.bytes as f64 / node_seconds;
    }

    fn kept(&mut self, entry: &PublishedRecord) -> &mut RecordStats {
        if entry.value.is_some() { &mut self.values } else { &mut self.providers }
    }

    /// The number of joining nodes an hour that are among the k closest to a key.
    pub(super) fn arrivals(&self) -> f64 {
        self.joins / self.hours * K as f64 / self.online.mean()
    }

    pub(super) fn per_value_hour(&self, stores: u64) -> f64 {
        stores as f64 / self.count / self.hours
    }

    /// The same for stores of both values and provided keys.
    pub(super) fn per_record_hour(&self, stores: u64) -> f64 {
        self.per_value_hour(stores) / 2.0
    }

    pub(super) fn put(&self, metrics: &mut Measurements) {
        self.values.put(metrics.group("values"));
        metrics.group("values").put("by_publisher", self.values.by_publisher as f64 / self.values.all_asked as f64);
        metrics.group("values").put("copies", self.copies.mean());
        self.providers.put(metrics.group("providers"));
        let stores = metrics.group("stores_per_value_hour");
        stores.put("replicated", self.per_value_hour(self.stores.replicated));
        stores.put("replicated_worst_hour", self.causes[0].1.iter().fold(f64::NAN, |worst, (_, y)| y.max(worst)));
        stores.put("joined", self.per_value_hour(self.stores.joined));
        stores.put("corrected", self.per_value_hour(self.stores.corrected));
        stores.put("cached", self.per_value_hour(self.stores.cached));
        let stores = metrics.group("stores_per_record_hour");
        stores.put("announced", self.per_record_hour(self.stores.announced));
        stores.put("published", self.per_record_hour(self.stores.published));
        metrics.put("arrivals_per_record_hour", self.arrivals());
        metrics.put("joins_per_hour", self.joins / self.hours);
        metrics.put("online", self.online.mean());
        metrics.put("lookups_abandoned", self.abandoned as f64);
        metrics.put("requests_per_node_s", self.requests_per_node_s);
        metrics.put("bytes_per_node_s", self.bytes_per_node_s);
        metrics.put("hours", self.hours);
    }
}

/// In the order of [`Measured::causes`].
fn by_cause(stores: &Stores) -> [u64; 5] {
    [stores.replicated, stores.joined, stores.announced, stores.corrected, stores.cached]
}
