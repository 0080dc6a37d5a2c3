//! Values and provided keys that must outlive the nodes that hold them.
//!
//! One node in a hundred never leaves; these publish. All others are under churn and come back with an empty store.
//! Lookups could be answered by publishers alone, so the stores of the closest nodes are measured as well.

mod measured;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use self::measured::{Measured, RecordStats};
use super::live_network::{HOUR, LiveNetwork, Setup, TICK};
use super::{Params, Scenario};
use crate::{
    Churn, Latency, Link, Monitor, NetworkEvent, NodeIndex, Outcome, Random, SortedPeers, config_with_k, key_position,
};
use libp2p_kad_dht::core::config::Interval;
use libp2p_kad_dht::core::{DhtConfig, Operation, QueryEvent, QueryId, QueryOptions, RecordKey};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "records",
    paper: "Maymounkov & Mazières, Kademlia, 2002, 2.5: republication; sessions after RFM2, ProbeLab 2022",
    about: "as many values and provided keys as nodes, hour by hour for 48 h: what is found and what keeping it costs",
    nodes: 1_000,
    run,
};

const K: usize = 20;

/// Exponential with a median of 1 h: a node that is online is gone an hour later with probability one half, however
/// long it has been online. That is harder than the sessions of IPFS at half their length, where some nodes stay for
/// days.
const HARDER: Churn = Churn::Poisson(Duration::from_secs(5_194));

/// The interval in which a publisher announces all its records, in hours.
const ANNOUNCEMENT: f64 = 22.0;

/// One network and how it is measured.
struct Setting {
    /// The name in the report.
    name: &'static str,
    hours: u64,
    /// Whether records are announced and replicated again.
    republishes: bool,
    /// Whether every record is looked up every hour; otherwise once, so that reads do not keep it alive.
    reads_all: bool,
}

fn run(params: &Params, monitor: &mut Monitor<'_>) -> Outcome {
    let mut outcome = Outcome::new(SCENARIO.name, params.size(), params.seed);
    // `samples` is the number of hours here.
    let hours = params.samples.unwrap_or(48).max(1) as u64;
    let models = params.churn.map_or(vec![Churn::Ipfs2022, HARDER], |churn| vec![churn]);
    for churn in models {
        let (model, line) = match churn {
            Churn::Ipfs2022 => ("ipfs_2022", 1.0),
            HARDER => ("median_1h", 0.999),
            _ => ("given", 0.999),
        };
        let settings = [
            Setting { name: "ours", hours, republishes: true, reads_all: true },
            Setting { name: "off", hours, republishes: false, reads_all: false },
            Setting { name: "unread", hours: hours.min(12), republishes: true, reads_all: false },
        ];
        let mut all = Vec::new();
        for setting in settings {
            monitor.stage(setting.name);
            let measured = watch(params, churn, &setting, monitor, &mut outcome);
            measured.put(outcome.ours.group(model).group(setting.name));
            if setting.republishes {
                judge(&mut outcome, &format!("{model}, {}", setting.name), line, &measured);
            }
            all.push((setting.name, measured));
            if monitor.stopped() {
                break;
            }
        }
        draw(&mut outcome, model, &all);
        if monitor.stopped() {
            break;
        }
    }
    note(&mut outcome);
    outcome
}

/// Runs a network and measures every hour.
fn watch(
    params: &Params,
    churn: Churn,
    setting: &Setting,
    monitor: &mut Monitor<'_>,
    outcome: &mut Outcome,
) -> Measured {
    let setup = Setup {
        churn,
        link: Link::public(Latency::Geo6),
        config: config_of(setting),
        hours: setting.hours,
        clients: 0.0,
    };
    let mut live_network = LiveNetwork::new(params, &setup, monitor);
    let published = publish(&mut live_network, params.size(), params.seed);
    let mut measured = Measured::new(params.size());
    let mut lookups = OpenLookups::new();
    let mut random = Random::new(params.seed, "gets", 0);
    live_network.network.set_timer(HOUR / 2, TICK);
    while let Some(news) = live_network.next(monitor) {
        match news {
            NetworkEvent::Timer(TICK) => {
                // No lookup takes an hour: one without an end belongs to a node that went offline.
                measured.close_hour(&live_network, std::mem::take(&mut lookups).len());
                if !setting.republishes && measured.no_record_left {
                    break;
                }
                let live = live_network.network.servers();
                measured.measure_stores(&mut live_network, &published, &live);
                read(&mut live_network, (&published, &live), setting, &mut random, &mut lookups);
                live_network.network.set_timer(live_network.network.now() + HOUR, TICK);
            }
            NetworkEvent::Query { node, id, event: QueryEvent::Finished(result), .. } => {
                if let Some(which) = lookups.remove(&(node, id)) {
                    measured.on_end(&live_network, &published[which], *result);
                }
            }
            _ => {}
        }
    }
    if live_network.hour() > measured.hours {
        measured.close_hour(&live_network, lookups.len());
    }
    measured.finish(&live_network);
    outcome.check_invariants(setting.name, &live_network.network.traffic());
    measured
}

fn config_of(setting: &Setting) -> DhtConfig {
    let mut config = config_with_k(K);
    if !setting.republishes {
        let maintenance = &mut config.maintenance;
        (maintenance.announce_interval, maintenance.region_interval, maintenance.replicate_interval) =
            (Interval::Never, Interval::Never, Interval::Never);
    }
    config
}

/// A published record.
struct PublishedRecord {
    key: RecordKey,
    position: u64,
    publisher: NodeIndex,
    /// `None` for a provided key.
    value: Option<Bytes>,
}

/// Publishes `count` values and as many provided keys from the nodes that never leave.
fn publish(live_network: &mut LiveNetwork, count: usize, seed: u64) -> Vec<PublishedRecord> {
    let mut random = Random::new(seed, "records", 0);
    let mut published = Vec::with_capacity(2 * count);
    for i in 0..2 * count {
        let key = RecordKey::new(random.bytes().to_vec());
        let value = (i < count).then(|| Bytes::copy_from_slice(&random.bytes()));
        let publisher = live_network.boot[i % live_network.boot.len()];
        let operation = match &value {
            Some(value) => Operation::Put { key: key.clone(), value: value.clone() },
            None => Operation::Provide { key: key.clone() },
        };
        live_network.network.start(publisher, operation, QueryOptions::default());
        published.push(PublishedRecord { position: key_position(&key.key()), key, publisher, value });
    }
    published
}

/// The record that each open lookup is for.
type OpenLookups = BTreeMap<(NodeIndex, QueryId), usize>;

/// Looks up the records of this hour, each from a random node online that is not its publisher.
fn read(
    live_network: &mut LiveNetwork,
    (published, live): (&[PublishedRecord], &SortedPeers),
    setting: &Setting,
    random: &mut Random,
    lookups: &mut OpenLookups,
) {
    let hour = live_network.network.now() / HOUR;
    for (which, entry) in published.iter().enumerate() {
        if live.len() < 2 || !setting.reads_all && which as u64 % setting.hours != hour {
            continue;
        }
        let from = loop {
            let from = live.at(random.below(live.len() as u32) as usize);
            if from != entry.publisher {
                break from;
            }
        };
        let key = entry.key.clone();
        let operation = if entry.value.is_some() { Operation::Get { key } } else { Operation::Providers { key } };
        if let Some(id) = live_network.network.start(from, operation, QueryOptions::default()) {
            lookups.insert((from, id), which);
        }
    }
}

/// Adds the conditions for a network that keeps its records alive.
fn judge(outcome: &mut Outcome, who: &str, line: f64, measured: &Measured) {
    for (what, kept) in [("values", &measured.values), ("provided keys", &measured.providers)] {
        let (found, held) = (kept.found_share(), kept.held_share());
        outcome.check(format!("{who}: {what} found: ≥ {line}"), found, found >= line);
        let words = format!("{who}: {what} held by one of the {K} closest of those who churn: ≥ {line}");
        outcome.check(words, held, held >= line);
    }
    let replicated = measured.per_value_hour(measured.stores.replicated);
    let most = 1.1 * K as f64;
    outcome.check(format!("{who}: re-replication ≤ 1.1 k stores a value-hour"), replicated, replicated <= most);
    let arrivals = measured.arrivals();
    let (joined, most) = (measured.per_value_hour(measured.stores.joined), 2.0 * arrivals);
    outcome.check(format!("{who}: joins ≤ {most:.2} (2 arrivals) stores a value-hour"), joined, joined <= most);
    let (announced, most) = (measured.per_record_hour(measured.stores.announced), arrivals + K as f64 / ANNOUNCEMENT);
    let words = format!("{who}: announced again ≤ {most:.2} (arrivals + k / 22) stores a record-hour");
    outcome.check(words, announced, announced <= most);
}

fn draw(outcome: &mut Outcome, model: &str, all: &[(&str, Measured)]) {
    type Pick = fn(&RecordStats) -> &Vec<(f64, f64)>;
    let curves = |pick: Pick| {
        let of = |(name, measured): &(&str, Measured)| {
            let named = |what: &str, kept| (format!("{what}, {name}"), pick(kept).clone());
            [named("values", &measured.values), named("provided keys", &measured.providers)]
        };
        all.iter().flat_map(of).collect()
    };
    outcome.plot(&format!("Found, {model}"), ("hours", "share"), curves(|kept| &kept.found));
    let title = format!("Holders among the {K} closest, {model}");
    outcome.plot(&title, ("hours", "nodes"), curves(|kept| &kept.holders));
    for (name, measured) in all.iter().filter(|(name, _)| *name != "off") {
        let curves = measured.causes.iter().map(|(cause, points)| ((*cause).to_owned(), points.clone()));
        let title = format!("Stores by cause, {model}, {name}");
        outcome.plot(&title, ("hours", "for each value"), curves.collect());
    }
}

fn note(outcome: &mut Outcome) {
    outcome.note("A hundredth of the nodes (three at least) stay, and publish an equal share each of the values and of the provided keys. All others churn: three in ten come back under a new id, all with an empty store. ipfs_2022: as in churn; median_1h: exponential sessions and absences of median 1 h.");
    outcome.note("ours: every record is looked for every hour, from a random node online that is not its publisher. unread (12 h at most), and off (without republication; until only those who stay hold anything): each is looked for once in all, so that reads, which correct and cache, keep nothing alive.");
    outcome.note("holders: how many of the 20 nodes online closest to the key, the publisher left out, have it in their stores; looked at without a request. held: one of them at least has it that is not one of those who stay. fewest: the fewest holders that any record had at any hour.");
    outcome.note("arrivals: how many newcomers an hour are among the k closest to a key: joins an hour × k / nodes online, of whom some are gone before the hour is over. Each costs one store when the nearest holder meets it and one when the publisher looks: that bounds joined and announced.");
}
