//! Keeps what this node published where it is looked for.
//!
//! Knows: when each own record is due, and who has it. Must not know: how peers are found or reached.
//!
//! Each own record has a time at which it is due, which comes once in a cycle over the keyspace, so that neighbours in the
//! keyspace are due together. What was not announced for an interval then goes to all of the k closest, all else to those
//! that are newly among them: who has a record is remembered, 8 bytes for each of k peers. After a restart nobody
//! remembers; then a look asks a sample of the holders (`query::region`). What nobody was told of is due sooner: with the
//! first peer, or after a pause that grows with each failure of its own, so that what all refuse costs a look an hour in
//! the end, and holds up nothing else. All this is about 350 bytes for each own record, which the application alone makes
//! grow.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand_chacha::ChaCha8Rng;

use super::sweep::{Cycle, PAGE, SLICE};
use crate::core::announcement::{Announcement, AnnouncementOutcome, Recipients, RecordId};
use crate::core::config::DhtConfig;
use crate::core::key::Key;
use crate::core::store::Item;
use crate::core::time::{NodeTime, Timestamp};

/// Without a look at who is closest, records have their time so often in an announcement's interval.
const LOOKS: u32 = 22;
/// What nobody could be told of is tried again after this, doubled up to [`MAX_DOUBLINGS`] times. Source: a node that
/// starts without peers has some within a minute.
const PAUSE: Duration = Duration::from_secs(60);
const MAX_DOUBLINGS: u32 = 6;
/// What nobody was told of and is due within this time is tried together with what is due now.
const TOGETHER: Duration = Duration::from_secs(15);
/// The pause between two pages.
const NEXT_PAGE: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(crate) struct OwnRecords {
    announce: Option<Duration>,
    /// Whether those newly among the closest are told.
    look: bool,
    /// `None` if nothing is ever announced again.
    cycle: Option<Cycle>,
    records: BTreeMap<RecordId, OwnRecord>,
    /// One entry for each of these.
    due: BTreeSet<(Timestamp, RecordId)>,
    /// The place after which records of an earlier life are still to be read, until all are known.
    left: Option<Option<Key>>,
    /// No page is read before.
    not_before: Timestamp,
    reading: Option<Reading>,
}

/// Why a page is being read.
#[derive(Clone, Copy, Debug)]
enum Reading {
    /// Recipients know what an earlier life left.
    Left,
    /// This record is due.
    Due(RecordId),
}

#[derive(Debug)]
struct OwnRecord {
    due: Timestamp,
    /// How often it failed, while nobody was told of it.
    unannounced: Option<u32>,
    told: Option<AnnouncedTo>,
}

/// Who was told of a record.
#[derive(Debug)]
struct AnnouncedTo {
    /// The date on which all of the closest were.
    at: Timestamp,
    peers: Box<[u64]>,
}

impl OwnRecords {
    /// `kept` tells whether there are own records from an earlier life.
    pub(crate) fn new(config: &DhtConfig, kept: bool, rng: &mut ChaCha8Rng) -> OwnRecords {
        let (announce, look) = (config.announce_interval(), config.region_interval());
        let cycle = look.or(announce.map(|announce| announce / LOOKS)).map(|interval| Cycle::new(interval, rng));
        OwnRecords {
            announce,
            look: look.is_some(),
            cycle,
            records: BTreeMap::new(),
            due: BTreeSet::new(),
            left: cycle.filter(|_| kept).map(|_| None),
            not_before: Timestamp::ZERO,
            reading: None,
        }
    }

    /// When the next page is to be read.
    pub(super) fn due(&self) -> Option<Timestamp> {
        let left = self.left.map(|_| Timestamp::ZERO);
        let first = self.due.first().map(|(at, _)| *at);
        let due = left.into_iter().chain(first).min()?.max(self.not_before);
        self.reading.is_none().then_some(due)
    }

    /// The place after which to read it.
    pub(super) fn begin(&mut self, now: Timestamp) -> Option<Key> {
        let due = self.due.first().filter(|(at, _)| *at <= now).map(|(_, name)| *name);
        match (due, self.left) {
            (Some(name), _) => {
                self.reading = Some(Reading::Due(name));
                name.before()
            }
            (None, left) => {
                self.reading = Some(Reading::Left);
                left.flatten()
            }
        }
    }

    /// The page; `None` if it could not be read. Records that share `depth` bits with each other share their closest peers.
    pub(super) fn on_page(
        &mut self,
        time: &NodeTime,
        local: &Key,
        depth: u32,
        page: Option<Vec<Item>>,
    ) -> Vec<Announcement> {
        let (Some(cycle), Some(reading)) = (self.cycle, self.reading.take()) else { return Vec::new() };
        let Some(page) = page else {
            self.not_before = time.now + PAUSE;
            return Vec::new();
        };
        self.not_before = time.now + NEXT_PAGE;
        match reading {
            Reading::Left => {
                self.learn(time, cycle, &page);
                Vec::new()
            }
            Reading::Due(first) => {
                self.forget_missing(time.now, &first, &page);
                let page = self.take_due(time.now, cycle, depth, &first, page);
                page.into_iter().filter_map(|item| self.announcement(time.date, local, item)).collect()
            }
        }
    }

    /// Forgets what is due and should be on the page, and is no longer kept, or no longer this node's.
    fn forget_missing(&mut self, now: Timestamp, first: &RecordId, page: &[Item]) {
        let last = page.last().filter(|_| page.len() >= PAGE).map(|item| item.key().key());
        let kept: BTreeSet<_> = page.iter().map(RecordId::of).collect();
        let due = self.due.iter().take_while(|(at, _)| *at <= now).map(|(_, name)| *name);
        let here = |name: &RecordId| name.place >= first.place && last.is_none_or(|last| name.place <= last);
        let missing: Vec<_> = due.filter(|name| here(name) && !kept.contains(name)).collect();
        missing.iter().for_each(|name| self.forget(name));
    }

    /// Makes known what an earlier life left. What it could tell nobody is due soon, all else at its time.
    fn learn(&mut self, time: &NodeTime, cycle: Cycle, page: &[Item]) {
        let last = page.last().filter(|_| page.len() >= PAGE).map(|item| item.key().key());
        self.left = last.map(Some);
        for item in page {
            let (name, announced) = (RecordId::of(item), announced(item, time.date));
            if !self.records.contains_key(&name) {
                let soon = time.now + PAUSE;
                let due = announced.map_or(soon, |_| cycle.time_of(&name.place, time.now));
                self.schedule(name, due).unannounced = if announced.is_none() { Some(0) } else { None };
            }
        }
    }

    /// What of a page is due together with `first`; each has its next time then.
    fn take_due(&mut self, now: Timestamp, cycle: Cycle, depth: u32, first: &RecordId, page: Vec<Item>) -> Vec<Item> {
        let unannounced = self.records.get(first).is_some_and(|known| known.unannounced.is_some());
        let depth = if unannounced { 0 } else { depth };
        let mut taken = Vec::new();
        for item in page.into_iter().take_while(|item| item.key().key().common_prefix_len(&first.place) >= depth) {
            let name = RecordId::of(&item);
            let Some(known) = self.records.get(&name) else { continue };
            let within = if known.unannounced.is_some() { TOGETHER } else { cycle.part(SLICE) };
            if known.due > now + within {
                continue;
            }
            // After a long sleep all are due: then each waits for its time.
            let slept = known.unannounced.is_none() && known.due + cycle.part(2) < now;
            let next = if slept { now } else { now + cycle.part(2) };
            self.schedule(name, cycle.time_of(&name.place, next));
            if !slept {
                taken.push(item);
            }
        }
        taken
    }

    /// The application's own announcement, or one of ours, is over. Returns whether to note that it was announced now.
    pub(crate) fn on_outcome(&mut self, time: &NodeTime, name: RecordId, ended: &AnnouncementOutcome) -> bool {
        let Some(cycle) = self.cycle else { return false };
        let failures = self.records.get(&name).and_then(|known| known.unannounced);
        if ended.to_all && ended.reached.is_empty() {
            let failures = failures.unwrap_or(0);
            let again = time.now + PAUSE * (1 << failures.min(MAX_DOUBLINGS));
            let known = self.schedule(name, again);
            (known.unannounced, known.told) = (Some(failures.saturating_add(1)), None);
            return false;
        }
        let reached = ended.reached.iter().copied();
        if ended.to_all {
            // Who could tell nobody until now may not know all of the closest yet.
            let again = failures.is_some_and(|failures| failures > 0).then(|| time.now + PAUSE);
            let next = cycle.time_of(&name.place, time.now + cycle.part(2));
            let known = self.schedule(name, again.map_or(next, |again| next.min(again)));
            (known.unannounced, known.told) = (None, Some(AnnouncedTo { at: time.date, peers: reached.collect() }));
        } else if let (Some(closest), Some(known)) = (&ended.closest, self.records.get_mut(&name)) {
            // Who is no longer among the closest is told again if it comes back: it may have lost what it had.
            let told = known.told.iter().flat_map(|told| told.peers.iter().copied());
            let peers = told.filter(|peer| closest.contains(peer)).chain(reached).collect();
            let at = known.told.as_ref().map(|told| told.at).or(announced(&ended.item, time.date));
            known.told = at.map(|at| AnnouncedTo { at, peers });
        }
        ended.to_all
    }

    /// It was told to one more peer.
    pub(crate) fn on_announced_to(&mut self, name: RecordId, peers: &[u64]) {
        if let Some(told) = self.records.get_mut(&name).and_then(|known| known.told.as_mut()) {
            told.peers = told.peers.iter().chain(peers).copied().collect();
        }
    }

    /// This node no longer publishes it.
    pub(crate) fn forget(&mut self, name: &RecordId) {
        if let Some(known) = self.records.remove(name) {
            self.due.remove(&(known.due, *name));
        }
    }

    /// The application publishes it, for the first time or again. If nothing comes of that it is due soon.
    pub(super) fn on_changed(&mut self, now: Timestamp, name: RecordId) {
        if self.cycle.is_some() {
            let known = self.schedule(name, now + PAUSE);
            (known.unannounced, known.told) = (Some(0), None);
        }
    }

    /// Someone is there to be told: what nobody was told of is due at once.
    pub(crate) fn make_unannounced_due(&mut self, now: Timestamp) {
        let unannounced = self.records.iter().filter(|(_, known)| known.unannounced.is_some() && known.due > now);
        let unannounced: Vec<_> = unannounced.map(|(name, _)| *name).collect();
        unannounced.into_iter().for_each(|name| _ = self.schedule(name, now));
    }

    fn schedule(&mut self, name: RecordId, due: Timestamp) -> &mut OwnRecord {
        let known = self.records.entry(name).or_insert(OwnRecord { due, unannounced: None, told: None });
        self.due.remove(&(known.due, name));
        self.due.insert((due, name));
        known.due = due;
        known
    }

    fn announcement(&self, date: Timestamp, local: &Key, item: Item) -> Option<Announcement> {
        let name = RecordId::of(&item);
        let known = self.records.get(&name)?;
        let told = known.told.as_ref();
        // A time in the future is none: the host's clock was wrong then.
        let last = announced(&item, date).max(told.map(|told| told.at).filter(|at| *at <= date));
        let over = last.is_none_or(|last| {
            self.announce.is_some_and(|interval| last + sooner(interval, local, &name.place) <= date)
        });
        let to = match told {
            _ if over || known.unannounced.is_some() => Recipients::Closest,
            Some(told) if self.look => Recipients::NewOfClosest(told.peers.clone()),
            None if self.look => Recipients::ThoseWithout,
            _ => return None,
        };
        Some(Announcement { item, to })
    }
}

/// When an own record was announced, as it is noted on it.
fn announced(item: &Item, date: Timestamp) -> Option<Timestamp> {
    match item {
        Item::Value(record) => record.announced,
        Item::Provider(record) => record.announced,
    }
    .filter(|at| *at <= date)
}

/// The interval less a part of up to an eighth, which differs from node to node and from key to key.
fn sooner(interval: Duration, local: &Key, place: &Key) -> Duration {
    let lot = (local.head() ^ place.head()).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
    interval - interval.mul_f64(lot as f64 / f64::from(u32::MAX) / 8.0).min(interval)
}
