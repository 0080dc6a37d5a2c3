//! The duties that keep records alive, side by side: which is due next, and how many of their announcements run.
//!
//! Knows: what each duty needs to see. Must not know: how an announcement is run.

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
use crate::core::storage::Duty;
use crate::core::store::{Item, Scan, Store};
use crate::core::time::{NodeTime, Timestamp};

/// So many runs of announcements at a time; while as many run, no further page is read. They count against no limit of the
/// application's queries, and it is not refused for them. Source: as many walks as a refresh has.
pub(crate) const RUNS: usize = 3;

#[derive(Debug)]
pub(crate) struct Upkeep {
    pub(crate) own_records: OwnRecords,
    /// Over the values of others, each of which is stored again after so long without a store.
    others: Option<(Sweep, Duration)>,
    pub(crate) newcomers: Newcomers,
    /// For what others published.
    budget: Budget,
    pub(crate) running: BTreeMap<QueryId, Run>,
    /// What was written while a page is being read, for each duty that reads one: the page may not know of it.
    reading: BTreeMap<Duty, Overtaken>,
}

/// So much of that is remembered. Source: as many own records as a page has, four times.
const MAX_OVERTAKEN: usize = 1_024;

/// What a page that is being read may have wrong.
#[derive(Debug, Default)]
struct Overtaken {
    names: BTreeSet<RecordId>,
    /// More than that was changed: the page is not to be used at all.
    page: bool,
}

/// Announcements that are being run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    pub(crate) duty: Duty,
    pub(crate) started: Timestamp,
}

impl Upkeep {
    /// `kept` tells whether there are own records from an earlier life.
    pub(crate) fn new(now: Timestamp, config: &DhtConfig, kept: bool, rng: &mut ChaCha8Rng) -> Upkeep {
        let replicate = config.replicate_interval();
        Upkeep {
            own_records: OwnRecords::new(config, kept, rng),
            others: replicate.map(|interval| (Sweep::new(now, interval, rng), interval)),
            newcomers: Newcomers::new(now, replicate),
            budget: Budget::new(now, config.maintenance.replicate_bytes),
            running: BTreeMap::new(),
            reading: BTreeMap::new(),
        }
    }

    /// Which duty wants to read a page next, and when. A client keeps nothing alive but its own.
    pub(crate) fn due(&self, store: &dyn Store, mode: Mode) -> Option<(Timestamp, Duty)> {
        if self.running.len() >= RUNS {
            return None;
        }
        let serving = |due: Option<Timestamp>| due.filter(|_| mode == Mode::Server);
        let others = self.others.as_ref().filter(|_| store.usage().values > 0);
        let all = [
            (self.own_records.due(), Duty::Republish),
            (serving(others.and_then(|(sweep, _)| sweep.due())), Duty::Replicate),
            (serving(self.newcomers.due(store)), Duty::Newcomers),
        ];
        all.into_iter().filter_map(|(at, duty)| Some((at?, duty))).min()
    }

    /// A page is being read for this duty. Returns what it consists of, and the place after which it begins.
    pub(crate) fn begin(&mut self, now: Timestamp, duty: Duty, peers: &Peers, k: usize) -> (Scan, Option<Key>) {
        self.reading.insert(duty, Overtaken::default());
        match duty {
            Duty::Republish => (Scan::Own, self.own_records.begin(now)),
            Duty::Replicate => (Scan::Values, self.others.as_mut().and_then(|(sweep, _)| sweep.begin(now))),
            Duty::Newcomers => (Scan::Values, self.newcomers.begin(now, &peers.table, k, &mut self.budget)),
        }
    }

    /// The page was read, or could not be. Returns what is to be done about it.
    pub(crate) fn on_page(
        &mut self,
        time: &NodeTime,
        duty: Duty,
        page: Option<Vec<Item>>,
        peers: &Peers,
        k: usize,
    ) -> Vec<Announcement> {
        let (table, local) = (&peers.table, peers.local.key());
        let overtaken = self.reading.remove(&duty).unwrap_or_default();
        let page = page.filter(|_| !overtaken.page);
        let mut announcements = match duty {
            Duty::Republish => self.own_records.on_page(time, local, depth(peers, k), page),
            Duty::Replicate => {
                let is_close = |place: &Key| {
                    // Who failed its last request does not count: where holders die, the next must notice that it is
                    // their turn. Where k is one the second acts too: the only holder may have been pushed out.
                    let count = k.max(2);
                    let near = table.closest(place, count, |_, entry| entry.failures() == 0);
                    let farthest = near.last().filter(|_| near.len() >= count);
                    farthest.is_none_or(|far| local.distance(place) < far.key().distance(place))
                };
                let Some((sweep, interval)) = &mut self.others else { return Vec::new() };
                let mut page = sweep.take_page(time.now, page, depth(peers, k));
                page.retain(|item| is_due(item, time.date, *interval) && is_close(&item.key().key()));
                let budget = &mut self.budget;
                page.retain(|item| budget.take(time.now, bytes(item) * (k - 1).max(1) as u64));
                page.into_iter().map(|item| Announcement { item, to: Recipients::Closest }).collect()
            }
            Duty::Newcomers => self.newcomers.on_page(time, page, (table, k), &mut self.budget),
        };
        announcements.retain(|announcement| !overtaken.names.contains(&RecordId::of(&announcement.item)));
        announcements
    }

    /// The application changes this: a page that is being read does not know.
    pub(crate) fn on_changed(&mut self, now: Timestamp, name: RecordId) {
        self.own_records.on_changed(now, name);
        for overtaken in self.reading.values_mut() {
            overtaken.page |= overtaken.names.len() >= MAX_OVERTAKEN;
            overtaken.names.extend(Some(name).filter(|_| !overtaken.page));
        }
    }

    /// A peer stored this: a page that is being read does not know. That many come is no reason not to use the page.
    pub(crate) fn on_stored(&mut self, name: RecordId) {
        let reading = self.reading.get_mut(&Duty::Replicate);
        if let Some(overtaken) = reading.filter(|overtaken| overtaken.names.len() < MAX_OVERTAKEN) {
            overtaken.names.insert(name);
        }
    }

    /// Whether values of others are being stored again, or looked at for that.
    pub(crate) fn replicates(&self) -> bool {
        self.reading.contains_key(&Duty::Replicate) || self.running.values().any(|run| run.duty == Duty::Replicate)
    }
}

/// Whether a value of another node is to be stored again: no store came for an interval, and it has more than another one
/// to live.
pub(super) fn is_due(item: &Item, date: Timestamp, interval: Duration) -> bool {
    let Item::Value(record) = item else { return false };
    // A time in the future is none: the host's clock was wrong then.
    let came = record.received <= date && date < record.received + interval;
    !record.own && !came && record.expires.is_none_or(|at| at > date + interval)
}

/// How many bits keys share whose closest peers are nearly the same: so that between one and a half and three times k
/// peers share them too.
fn depth(peers: &Peers, k: usize) -> u32 {
    let regions = peers.table.estimated_nodes() / (1.5 * k as f64);
    regions.max(1.0).log2() as u32
}
