//! Keeps what this node published where it is looked for.
//!
//! Knows: what was announced when, and who has it. Must not know: how peers are found or reached.
//!
//! A hand goes round the own records. What was not announced for an interval goes to all of the k closest, all else to
//! those that are newly among them: who has a record is remembered, 8 bytes for each of k peers. With its entry this is
//! about 300 bytes for each own record, which the application alone makes grow. After a restart nobody remembers; then a
//! look asks a sample of the holders (`query::region`). What was never announced, since the node stopped before, is
//! looked for a minute after the start. What nobody could be told is tried again soon, with a growing pause.

use std::collections::BTreeMap;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;

use super::retries::{NEXT_PAGE, PAUSE, Retries};
use super::sweep::{PAGE, Sweep};
use crate::core::config::MaintenanceConfig;
use crate::core::errand::{Ended, Errand, Name, To};
use crate::core::key::Key;
use crate::core::store::Item;
use crate::core::time::{NodeTime, Timestamp};

/// Without a look into the regions the hand goes round so often in an announcement's interval.
const TURNS: u32 = 22;

#[derive(Debug)]
pub(crate) struct Republish {
    announce: Option<Duration>,
    /// Whether those newly among the closest are told.
    look: bool,
    pub(super) sweep: Option<Sweep>,
    told: BTreeMap<Name, Told>,
    retries: Retries,
    unannounced: Option<Unannounced>,
}

/// The search, once after the start, for what was never announced.
#[derive(Debug)]
struct Unannounced {
    /// The place after which it goes on.
    cursor: Option<Key>,
    /// When; `None` while its page is being read.
    due: Option<Timestamp>,
}

/// Who was told of a record.
#[derive(Debug)]
struct Told {
    /// When all of the closest were.
    at: Timestamp,
    peers: Box<[u64]>,
}

impl Republish {
    /// `kept` tells whether there are own records from an earlier life.
    pub(crate) fn new(now: Timestamp, config: &MaintenanceConfig, kept: bool, rng: &mut ChaCha8Rng) -> Republish {
        let turn = config.region_interval.or(config.announce_interval.map(|interval| interval / TURNS));
        Republish {
            announce: config.announce_interval,
            look: config.region_interval.is_some(),
            sweep: turn.map(|turn| Sweep::new(now, turn.max(Duration::from_micros(1)), rng)),
            told: BTreeMap::new(),
            retries: Retries::default(),
            unannounced: turn.filter(|_| kept).map(|_| Unannounced { cursor: None, due: Some(now + PAUSE) }),
        }
    }

    /// When something is to be told that nobody, or nobody yet, was told of.
    pub(crate) fn retry_due(&self) -> Option<Timestamp> {
        let unannounced = self.unannounced.as_ref().and_then(|search| search.due);
        self.retries.due().into_iter().chain(unannounced).min()
    }

    /// The place after which to read the next page of what nobody was told of.
    pub(crate) fn begin_retry(&mut self, now: Timestamp) -> Option<Key> {
        match &mut self.unannounced {
            Some(search) if self.retries.due().is_none_or(|due| due > now) => {
                search.due = None;
                search.cursor
            }
            _ => self.retries.begin(),
        }
    }

    /// The page that the hand came to; `None` if it could not be read. Records that share `depth` bits with each other
    /// share their closest peers.
    pub(crate) fn on_swept(
        &mut self,
        time: &NodeTime,
        local: &Key,
        depth: u32,
        page: Option<Vec<Item>>,
    ) -> Vec<Errand> {
        let Some(sweep) = &mut self.sweep else { return Vec::new() };
        let page = sweep.take_page(time.now, page, depth);
        page.into_iter().filter_map(|item| self.errand(time.date, local, item)).collect()
    }

    /// The page of what nobody was told of.
    pub(crate) fn on_retry(&mut self, now: Timestamp, page: Option<Vec<Item>>) -> Vec<Errand> {
        let searching = self.unannounced.as_ref().is_some_and(|search| search.due.is_none());
        let page = if searching { self.searched(now, page) } else { self.tried(now, page) };
        page.into_iter().filter(Item::is_own).map(|item| Errand { item, to: To::Closest }).collect()
    }

    /// What of a page was never announced, nor tried in this life.
    fn searched(&mut self, now: Timestamp, page: Option<Vec<Item>>) -> Vec<Item> {
        let Some(mut page) = page else {
            self.unannounced.iter_mut().for_each(|search| search.due = Some(now + PAUSE));
            return Vec::new();
        };
        let last = page.last().filter(|_| page.len() >= PAGE).map(|item| item.key().key());
        self.unannounced = last.map(|last| Unannounced { cursor: Some(last), due: Some(now + NEXT_PAGE) });
        page.retain(|item| announced(item).is_none() && !self.knows(&Name::of(item)));
        page
    }

    fn tried(&mut self, now: Timestamp, page: Option<Vec<Item>>) -> Vec<Item> {
        let names = page.as_ref().map(|page| page.iter().take(PAGE).map(Name::of).collect());
        let tried = self.retries.take(now, names);
        page.into_iter().flatten().filter(|item| tried.contains(&Name::of(item))).collect()
    }

    fn knows(&self, name: &Name) -> bool {
        self.told.contains_key(name) || self.retries.knows(name)
    }

    /// The application's own announcement, or one of ours, is over. Returns whether to note that it was announced now.
    pub(crate) fn on_ended(&mut self, time: &NodeTime, name: Name, ended: &Ended) -> bool {
        if self.sweep.is_none() {
            return false;
        }
        if ended.to_all && ended.reached.is_empty() {
            self.told.remove(&name);
            self.retries.failed(time.now, name);
            return false;
        }
        let reached = ended.reached.iter().copied();
        if ended.to_all {
            self.retries.forget(&name);
            self.told.insert(name, Told { at: time.date, peers: reached.collect() });
        } else if let Some(closest) = &ended.closest {
            // Who is no longer among the closest is told again if it comes back: it may have lost what it had.
            let told = self.told.get(&name);
            let still = told.iter().flat_map(|told| told.peers.iter().copied()).filter(|peer| closest.contains(peer));
            let peers = still.chain(reached).collect();
            let at = told.map(|told| told.at).or(announced(&ended.item));
            self.told.extend(at.map(|at| (name, Told { at, peers })));
        }
        ended.to_all
    }

    /// It was told to one more peer.
    pub(crate) fn on_told(&mut self, name: Name, peers: &[u64]) {
        if let Some(told) = self.told.get_mut(&name) {
            told.peers = told.peers.iter().chain(peers).copied().collect();
        }
    }

    /// This node no longer publishes it.
    pub(crate) fn forget(&mut self, name: &Name) {
        self.told.remove(name);
        self.retries.forget(name);
    }

    /// The application publishes it anew: what comes of that counts.
    pub(crate) fn on_changed(&mut self, name: &Name) {
        self.retries.forget(name);
    }

    fn errand(&self, date: Timestamp, local: &Key, item: Item) -> Option<Errand> {
        let name = Name::of(&item);
        // What failed is tried in its own time.
        if !item.is_own() || self.retries.knows(&name) {
            return None;
        }
        let told = self.told.get(&name);
        // A time in the future is none: the host's clock was wrong then.
        let last = [announced(&item), told.map(|told| told.at)].into_iter().flatten().filter(|at| *at <= date).max();
        let over = last.is_none_or(|last| {
            self.announce.is_some_and(|interval| last + sooner(interval, local, &name.place) <= date)
        });
        match told {
            _ if over => Some(Errand { item, to: To::Closest }),
            Some(told) if self.look => Some(Errand { item, to: To::NewOfClosest(told.peers.clone()) }),
            None if self.look => Some(Errand { item, to: To::WhoeverLacksIt }),
            _ => None,
        }
    }
}

/// When an own record was announced, as it is noted on it.
fn announced(item: &Item) -> Option<Timestamp> {
    match item {
        Item::Value(record) => record.announced,
        Item::Provider(record) => record.announced,
    }
}

/// The interval less a part of up to an eighth, which differs from node to node and from key to key.
fn sooner(interval: Duration, local: &Key, place: &Key) -> Duration {
    let lot = (local.head() ^ place.head()).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
    interval - interval.mul_f64(lot as f64 / f64::from(u32::MAX) / 8.0).min(interval)
}
