//! The three duties that keep records alive, side by side: which is due next, and how many of their announcements run.
//!
//! Knows: what each duty needs to see. Must not know: how an announcement is run.
//!
//! Records that change while a page of the store is read are left out of that page. With k = 1 a holder counts itself
//! among the closest only if its lookup found it, so the one holder stores the value with no peer if it is the closest,
//! and with the closest if not.
//!
//! Only a store by one of the k closest counts as a replication. *Dropped:* counting every store: a stranger who sent a
//! value again every 45 min kept its holders from replicating it at all (11,058 stores in 12 h, then none).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand_chacha::ChaCha8Rng;

use super::budget::{Budget, bytes};
use super::sweep::Sweep;
use super::{Newcomers, OwnRecords};
use crate::core::announcement::{Announcement, Recipients, RecordId};
use crate::core::config::DhtConfig;
use crate::core::io::{Mode, QueryId};
use crate::core::key::Key;
use crate::core::peers::Peers;
use crate::core::store::{Item, Scan, Store};
use crate::core::store_ops::Duty;
use crate::core::time::{NodeTime, Timestamp};

/// Maximum number of runs of announcements at a time; while as many run, no further page is read. They do not count
/// against the limit of the application's queries. Source: as many as the lookups of a refresh.
pub(crate) const RUNS: usize = 3;
/// Maximum number of records that are remembered as changed while a page is being read. Source: four pages of own
/// records.
const MAX_CHANGED: usize = 1_024;

#[derive(Debug)]
pub(crate) struct Upkeep {
    pub(crate) own_records: OwnRecords,
    /// A sweep over other nodes' values, each of which is stored again if it was not stored for this long.
    replication: Option<(Sweep, Duration)>,
    pub(crate) newcomers: Newcomers,
    /// For other nodes' values.
    budget: Budget,
    pub(crate) running: BTreeMap<QueryId, Run>,
    /// For each duty that is reading a page: the records written since, which the page may have in an older version.
    /// `None` if there are too many to remember: then the page is not used.
    reading: BTreeMap<Duty, Option<BTreeSet<RecordId>>>,
}

/// Announcements that are being run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    pub(crate) duty: Duty,
    pub(crate) started: Timestamp,
}

impl Upkeep {
    /// `restored` tells whether the store has own records from before a restart.
    pub(crate) fn new(now: Timestamp, config: &DhtConfig, restored: bool, rng: &mut ChaCha8Rng) -> Upkeep {
        let interval = config.replicate_interval();
        Upkeep {
            own_records: OwnRecords::new(config, restored, rng),
            replication: interval.map(|interval| (Sweep::new(now, interval, rng), interval)),
            newcomers: Newcomers::new(now, interval.is_some()),
            budget: Budget::new(now, config.maintenance.replicate_bytes),
            running: BTreeMap::new(),
            reading: BTreeMap::new(),
        }
    }

    /// The duty that reads a page next, and when. A client keeps only its own records alive.
    pub(crate) fn due(&self, store: &dyn Store, mode: Mode) -> Option<(Timestamp, Duty)> {
        if self.running.len() >= RUNS {
            return None;
        }
        let serves = mode == Mode::Server;
        let replication = if serves && store.usage().values > 0 { self.replication.as_ref() } else { None };
        let due = [
            (self.own_records.due(), Duty::Republish),
            (replication.and_then(|(sweep, _)| sweep.due()), Duty::Replicate),
            (if serves { self.newcomers.due(store) } else { None }, Duty::Newcomers),
        ];
        due.into_iter().filter_map(|(at, duty)| Some((at?, duty))).min()
    }

    /// Begins to read a page for a duty. Returns what it consists of, and the key after which it begins.
    pub(crate) fn begin(&mut self, now: Timestamp, duty: Duty, peers: &Peers, k: usize) -> (Scan, Option<Key>) {
        self.reading.insert(duty, Some(BTreeSet::new()));
        match duty {
            Duty::Republish => (Scan::Own, self.own_records.begin(now)),
            Duty::Replicate => (Scan::Values, self.replication.as_mut().and_then(|(sweep, _)| sweep.begin(now))),
            Duty::Newcomers => (Scan::Values, self.newcomers.begin(now, &peers.table, k, &mut self.budget)),
        }
    }

    /// Takes a page, `None` if the store failed, and returns what to announce.
    pub(crate) fn on_page(
        &mut self,
        time: &NodeTime,
        duty: Duty,
        page: Option<Vec<Item>>,
        peers: &Peers,
        k: usize,
    ) -> Vec<Announcement> {
        let (table, local) = (&peers.table, peers.local.key());
        let changed = self.reading.remove(&duty).unwrap_or_else(|| Some(BTreeSet::new()));
        let page = if changed.is_some() { page } else { None };
        let mut announcements = match duty {
            Duty::Republish => self.own_records.on_page(time, local, depth(peers, k), page),
            Duty::Replicate => {
                let is_close = |place: &Key| {
                    // A peer that failed its last request does not count: where holders leave, the next node must
                    // notice that it is one now. Where k is one the second acts too: the only holder may have been
                    // pushed out.
                    let count = k.max(2);
                    let near = table.closest(place, count, |_, entry| entry.failures() == 0);
                    let farthest = near.get(count - 1);
                    farthest.is_none_or(|far| local.distance(place) < far.key().distance(place))
                };
                let Some((sweep, interval)) = &mut self.replication else { return Vec::new() };
                let mut page = sweep.take_page(time.now, page, depth(peers, k));
                page.retain(|item| is_due(item, time.date, *interval) && is_close(&item.key().key()));
                let budget = &mut self.budget;
                page.retain(|item| budget.take(time.now, bytes(item) * (k - 1).max(1) as u64));
                page.into_iter().map(|item| Announcement { item, to: Recipients::Closest }).collect()
            }
            Duty::Newcomers => self.newcomers.on_page(time, page, (table, k), &mut self.budget),
        };
        if let Some(changed) = changed {
            announcements.retain(|announcement| !changed.contains(&RecordId::of(&announcement.item)));
        }
        announcements
    }

    /// The application changes this record: pages that are being read may have it as it was.
    pub(crate) fn on_changed(&mut self, now: Timestamp, id: RecordId) {
        self.own_records.on_changed(now, id);
        for changed in self.reading.values_mut() {
            match changed {
                Some(ids) if ids.len() < MAX_CHANGED => _ = ids.insert(id),
                _ => *changed = None,
            }
        }
    }

    /// A peer stored this value: it need not be stored again. However many peers store, the page is used.
    pub(crate) fn on_stored(&mut self, id: RecordId) {
        if let Some(Some(ids)) = self.reading.get_mut(&Duty::Replicate)
            && ids.len() < MAX_CHANGED
        {
            ids.insert(id);
        }
    }

    /// Whether other nodes' values are being stored again, or read for that.
    pub(crate) fn replicates(&self) -> bool {
        self.reading.contains_key(&Duty::Replicate) || self.running.values().any(|run| run.duty == Duty::Replicate)
    }
}

/// Whether another node's value is to be stored again: it was not stored for an interval, and lives for longer than
/// another.
pub(super) fn is_due(item: &Item, date: Timestamp, interval: Duration) -> bool {
    let Item::Value(record) = item else { return false };
    // A time in the future was noted while the host's clock was wrong: it counts as none.
    let is_fresh = record.received <= date && date < record.received + interval;
    !record.own && !is_fresh && record.expires.is_none_or(|at| at > date + interval)
}

/// Number of leading bits that keys share whose closest peers are nearly the same: between one and a half and three
/// times k peers share them too.
fn depth(peers: &Peers, k: usize) -> u32 {
    let regions = peers.table.estimated_nodes() / (1.5 * k as f64);
    regions.max(1.0).log2() as u32
}
