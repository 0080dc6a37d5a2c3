//! Keeps the records that this node publishes at the peers that are asked for them.
//!
//! Knows: when each own record is due, and which peers have it. Must not know: how peers are found or reached.
//!
//! Each own record is due once in a cycle over the keyspace, so that neighbours in the keyspace are due together. A
//! record that was not announced for an interval then goes to all of the k closest (rules L20 and A48), every other one
//! to those that are new among them: the peers that have a record are remembered, 8 bytes for each of k. A restart
//! forgets them; then a lookup asks a sample of the holders (`query::region`).
//!
//! A record that no peer has yet is due sooner: with the first peer, or after a pause that grows with each of its own
//! failures. So a record that every peer refuses costs one lookup an hour in the end, and delays no other. All this
//! takes about 350 bytes for each own record, and the application alone decides how many there are.
//!
//! A record that the application has batched is due at once, with all that are put at about the same time; its query
//! ends with the announcement.
//!
//! 3,000 records that were published without peers are announced within two minutes of the first peer. *Dropped:* a
//! sweep over own records with lists beside it of what failed and what is new; announcing everything after a restart,
//! 20,000 messages for 1,000 records of which ten are due; and waiting for 22 h, which loses records whose holders left
//! while the node was away.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand_chacha::ChaCha8Rng;

use super::sweep::{Cycle, SLICE, last_of_full};
use crate::core::announcement::{Announcement, AnnouncementOutcome, Recipients, RecordId};
use crate::core::config::DhtConfig;
use crate::core::key::Key;
use crate::core::store::Item;
use crate::core::time::{NodeTime, Timestamp};

/// Where new holders are not looked for, this many cycles fit into the interval of announcements.
const CYCLES: u32 = 22;
/// Pause after an announcement that reached no peer, doubled up to [`MAX_DOUBLINGS`] times. Source: a node that starts
/// without peers has some within a minute.
const PAUSE: Duration = Duration::from_secs(60);
const MAX_DOUBLINGS: u32 = 6;
/// Records that no peer has and that are due within this time are announced together with those due now.
const TOGETHER: Duration = Duration::from_secs(15);
/// Pause between two pages.
const NEXT_PAGE: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(crate) struct OwnRecords {
    announce_interval: Option<Duration>,
    /// Whether, between two announcements to all of the closest, records go to peers that are new among them.
    finds_new: bool,
    /// `None` if records are never announced again.
    cycle: Option<Cycle>,
    records: BTreeMap<RecordId, OwnRecord>,
    /// One entry for each of these.
    due: BTreeSet<(Timestamp, RecordId)>,
    /// The key after which records from before a restart are still to be read; `None` once all are known.
    unread: Option<Option<Key>>,
    /// No page is read before this.
    not_before: Timestamp,
    reading: Option<Reading>,
    /// The records that are due once that page is read: no more than the application puts meanwhile.
    hastened: Vec<(Timestamp, RecordId)>,
}

/// The reason why a page is being read.
#[derive(Clone, Copy, Debug)]
enum Reading {
    /// To find the records from before a restart.
    Restored,
    /// This record is due.
    Due(RecordId),
}

#[derive(Debug)]
struct OwnRecord {
    due: Timestamp,
    /// While no peer has it: the number of announcements that failed.
    unannounced: Option<u32>,
    announced: Option<AnnouncedTo>,
}

#[derive(Debug)]
struct AnnouncedTo {
    /// The date of the last announcement to all of the closest.
    at: Timestamp,
    /// The peers that have the record, by the first 64 bits of their keys.
    peers: Box<[u64]>,
}

impl OwnRecords {
    /// `restored` tells whether the store has own records from before a restart.
    pub(crate) fn new(config: &DhtConfig, restored: bool, rng: &mut ChaCha8Rng) -> OwnRecords {
        let (announce_interval, find_interval) = (config.announce_interval(), config.region_interval());
        let interval = find_interval.or(announce_interval.map(|interval| interval / CYCLES));
        let cycle = interval.map(|interval| Cycle::new(interval, rng));
        OwnRecords {
            announce_interval,
            finds_new: find_interval.is_some(),
            cycle,
            records: BTreeMap::new(),
            due: BTreeSet::new(),
            unread: if restored && cycle.is_some() { Some(None) } else { None },
            not_before: Timestamp::ZERO,
            reading: None,
            hastened: Vec::new(),
        }
    }

    /// When the next page is to be read.
    pub(super) fn due(&self) -> Option<Timestamp> {
        if self.reading.is_some() {
            return None;
        }
        let first = self.due.first().map(|(at, _)| *at);
        let due = if self.unread.is_some() { Timestamp::ZERO } else { first? };
        Some(due.max(self.not_before))
    }

    /// Begins to read a page. Returns the key after which it begins.
    pub(super) fn begin(&mut self, now: Timestamp) -> Option<Key> {
        match self.due.first() {
            Some((at, id)) if *at <= now => {
                self.reading = Some(Reading::Due(*id));
                id.before()
            }
            _ => {
                self.reading = Some(Reading::Restored);
                self.unread.flatten()
            }
        }
    }

    /// Takes a page, `None` if the store failed, and returns what to announce. Keys that share `depth` leading bits
    /// have nearly the same closest peers.
    pub(super) fn on_page(
        &mut self,
        time: &NodeTime,
        local: &Key,
        depth: u32,
        page: Option<Vec<Item>>,
    ) -> Vec<Announcement> {
        let announcements = self.take_page(time, local, depth, page);
        for (at, id) in std::mem::take(&mut self.hastened) {
            self.hasten(at, id);
        }
        announcements
    }

    fn take_page(&mut self, time: &NodeTime, local: &Key, depth: u32, page: Option<Vec<Item>>) -> Vec<Announcement> {
        let (Some(cycle), Some(reading)) = (self.cycle, self.reading.take()) else { return Vec::new() };
        let Some(page) = page else {
            self.not_before = time.now + PAUSE;
            return Vec::new();
        };
        self.not_before = time.now + NEXT_PAGE;
        // A full page may not be the last.
        let end = last_of_full(&page);
        match reading {
            Reading::Restored => {
                self.unread = end.map(Some);
                self.learn(time, cycle, &page);
                Vec::new()
            }
            Reading::Due(first) => {
                self.forget_missing(time.now, &first, end, &page);
                let page = self.take_due(time.now, cycle, depth, &first, page);
                page.into_iter().filter_map(|item| self.announcement(time.date, local, item)).collect()
            }
        }
    }

    /// Schedules records from before a restart: those that no peer has are due soon, all others at their time in the
    /// cycle.
    fn learn(&mut self, time: &NodeTime, cycle: Cycle, page: &[Item]) {
        for item in page {
            let id = RecordId::of(item);
            if self.records.contains_key(&id) {
                continue;
            }
            match announced(item, time.date) {
                Some(_) => self.schedule(id, cycle.time_of(&id.place, time.now)),
                None => self.schedule_unannounced(id, time.now + PAUSE, 0),
            }
        }
    }

    /// Forgets records that are due and should be on the page, but are not: the store no longer has them, or they are
    /// no longer this node's.
    fn forget_missing(&mut self, now: Timestamp, first: &RecordId, end: Option<Key>, page: &[Item]) {
        let stored: BTreeSet<_> = page.iter().map(RecordId::of).collect();
        let due = self.due.iter().take_while(|(at, _)| *at <= now).map(|(_, id)| *id);
        let here = |id: &RecordId| id.place >= first.place && end.is_none_or(|end| id.place <= end);
        let missing: Vec<_> = due.filter(|id| here(id) && !stored.contains(id)).collect();
        for id in missing {
            self.forget(&id);
        }
    }

    /// The items of a page that are due together with `first`. Each is due again in the next cycle.
    fn take_due(&mut self, now: Timestamp, cycle: Cycle, depth: u32, first: &RecordId, page: Vec<Item>) -> Vec<Item> {
        // Records that no peer has go out together, however far apart their keys are.
        let unannounced = self.records.get(first).is_some_and(|first| first.unannounced.is_some());
        let depth = if unannounced { 0 } else { depth };
        let mut taken = Vec::new();
        for item in page.into_iter().take_while(|item| item.key().key().common_prefix_len(&first.place) >= depth) {
            let id = RecordId::of(&item);
            let Some(record) = self.records.get(&id) else { continue };
            let unannounced = record.unannounced.is_some();
            let within = if unannounced { TOGETHER } else { cycle.fraction(SLICE) };
            if record.due > now + within {
                continue;
            }
            // After a long sleep every record is overdue. Then each waits for its time in the cycle.
            let slept = !unannounced && record.due + cycle.fraction(2) < now;
            // Half a cycle on, since the time in this cycle may still lie ahead.
            let next = if slept { now } else { now + cycle.fraction(2) };
            self.schedule(id, cycle.time_of(&id.place, next));
            if !slept {
                taken.push(item);
            }
        }
        taken
    }

    /// An announcement of the application's or of this schedule has ended. Returns whether to note on the record that
    /// it was announced now.
    pub(crate) fn on_outcome(&mut self, time: &NodeTime, id: RecordId, outcome: &AnnouncementOutcome) -> bool {
        let Some(cycle) = self.cycle else { return false };
        let failures = self.records.get(&id).and_then(|record| record.unannounced).unwrap_or(0);
        let reached = outcome.reached.iter().copied();
        if outcome.to_all && outcome.reached.is_empty() {
            // No peer has it: it goes to all of the closest again, later with each failure.
            let again = time.now + PAUSE * (1 << failures.min(MAX_DOUBLINGS));
            self.schedule_unannounced(id, again, failures.saturating_add(1));
            return false;
        }
        if outcome.to_all {
            let next = cycle.time_of(&id.place, time.now + cycle.fraction(2));
            // After a failure the node may just have met its first peers, and not know all of the closest yet: it looks
            // for new ones in a minute.
            let due = if failures > 0 { next.min(time.now + PAUSE) } else { next };
            self.schedule(id, due);
            if let Some(record) = self.records.get_mut(&id) {
                record.unannounced = None;
                record.announced = Some(AnnouncedTo { at: time.date, peers: reached.collect() });
            }
        } else if let (Some(closest), Some(record)) = (&outcome.closest, self.records.get_mut(&id)) {
            // A peer that left the closest is forgotten: if it comes back it may have lost the record.
            let before = record.announced.iter().flat_map(|announced| announced.peers.iter().copied());
            let peers = before.filter(|peer| closest.contains(peer)).chain(reached).collect();
            // After a restart only the record itself tells when all of the closest had it.
            let at = record.announced.as_ref().map(|to| to.at).or(announced(&outcome.item, time.date));
            record.announced = at.map(|at| AnnouncedTo { at, peers });
        }
        outcome.to_all
    }

    /// More peers have the record, which another duty brought there.
    pub(crate) fn on_announced_to(&mut self, id: RecordId, peers: &[u64]) {
        if let Some(announced) = self.records.get_mut(&id).and_then(|record| record.announced.as_mut()) {
            announced.peers = announced.peers.iter().chain(peers).copied().collect();
        }
    }

    /// This node no longer publishes the record.
    pub(crate) fn forget(&mut self, id: &RecordId) {
        if let Some(record) = self.records.remove(id) {
            self.due.remove(&(record.due, *id));
        }
    }

    /// The application publishes the record, for the first time or again. Unless that succeeds it is due soon.
    pub(super) fn on_changed(&mut self, now: Timestamp, id: RecordId) {
        if self.cycle.is_some() {
            self.schedule_unannounced(id, now + PAUSE, 0);
        }
    }

    /// A record that no peer has is due at this time, or after the page that is being read, which may lack it.
    pub(crate) fn hasten(&mut self, at: Timestamp, id: RecordId) {
        if self.reading.is_some() {
            self.hastened.push((at, id));
        } else if self.records.contains_key(&id) {
            self.schedule(id, at);
        }
    }

    /// The first peer is known: the records that no peer has are due at once.
    pub(crate) fn make_unannounced_due(&mut self, now: Timestamp) {
        let waiting = self.records.iter().filter(|(_, record)| record.unannounced.is_some() && record.due > now);
        let waiting: Vec<_> = waiting.map(|(id, _)| *id).collect();
        for id in waiting {
            self.schedule(id, now);
        }
    }

    fn schedule(&mut self, id: RecordId, due: Timestamp) {
        let record = self.records.entry(id).or_insert(OwnRecord { due, unannounced: None, announced: None });
        self.due.remove(&(record.due, id));
        self.due.insert((due, id));
        record.due = due;
    }

    fn schedule_unannounced(&mut self, id: RecordId, due: Timestamp, failures: u32) {
        self.schedule(id, due);
        self.records.insert(id, OwnRecord { due, unannounced: Some(failures), announced: None });
    }

    /// The announcement of a record that is due; `None` if it needs none.
    fn announcement(&self, date: Timestamp, local: &Key, item: Item) -> Option<Announcement> {
        let id = RecordId::of(&item);
        let record = self.records.get(&id)?;
        let noted = record.announced.as_ref();
        // A time in the future was noted while the host's clock was wrong: it counts as none.
        let last = announced(&item, date).max(noted.map(|to| to.at).filter(|at| *at <= date));
        let is_over = |last| self.announce_interval.is_some_and(|time| last + jittered(time, local, &id.place) <= date);
        let to = match noted {
            _ if record.unannounced.is_some() || last.is_none_or(is_over) => Recipients::Closest,
            _ if !self.finds_new => return None,
            Some(to) => Recipients::NewOfClosest(to.peers.clone()),
            None => Recipients::ThoseWithout,
        };
        Some(Announcement { item, to })
    }
}

/// The time at which an own record was last announced to all of the closest, as noted on it.
fn announced(item: &Item, date: Timestamp) -> Option<Timestamp> {
    let at = match item {
        Item::Value(record) => record.announced,
        Item::Provider(record) => record.announced,
    };
    at.filter(|at| *at <= date)
}

/// The interval, up to an eighth shorter: each node and each key has a share of its own.
fn jittered(interval: Duration, local: &Key, place: &Key) -> Duration {
    let share = (local.head() ^ place.head()).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
    interval - interval.mul_f64(share as f64 / f64::from(u32::MAX) / 8.0).min(interval)
}
