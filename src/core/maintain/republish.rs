//! Keeps what this node published where it is looked for.
//!
//! Knows: what was announced when, and who has it. Must not know: how peers are found or reached.
//!
//! A hand goes round the own records. What was not announced for an interval goes to all of the k closest, all else to
//! those that are newly among them: who has a record is remembered, 8 bytes for each of k peers. With its entry this is
//! about 300 bytes for each own record, which the application alone makes grow. What nobody could be told is tried again
//! soon, with a growing pause.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand_chacha::ChaCha8Rng;

use super::sweep::{PAGE, Sweep};
use crate::core::config::MaintenanceConfig;
use crate::core::errand::{Ended, Errand, Name, To};
use crate::core::key::Key;
use crate::core::store::{Item, Store};
use crate::core::time::Timestamp;

/// So many records are tried again before the hand comes to them.
const MAX_RETRIES: usize = 1_024;
/// The first pause before that; doubled up to [`MAX_DOUBLINGS`] times. Source: a node that starts without peers has some
/// within a minute.
const PAUSE: Duration = Duration::from_secs(60);
const MAX_DOUBLINGS: u32 = 6;
/// The pause between two pages that are tried again.
const NEXT_PAGE: Duration = Duration::from_secs(1);
/// Without a look into the regions the hand goes round so often in an announcement's interval.
const TURNS: u32 = 22;

#[derive(Debug)]
pub(crate) struct Republish {
    announce: Option<Duration>,
    /// Whether those newly among the closest are told.
    look: bool,
    sweep: Option<Sweep>,
    told: BTreeMap<Name, Told>,
    retries: BTreeSet<Name>,
    /// When to try again; `None` while a page is being read.
    retry_at: Option<Timestamp>,
    failures: u32,
}

/// Who was told of a record.
#[derive(Debug)]
struct Told {
    /// When all of the closest were.
    at: Timestamp,
    peers: Box<[u64]>,
}

impl Republish {
    pub(crate) fn new(now: Timestamp, config: &MaintenanceConfig, rng: &mut ChaCha8Rng) -> Republish {
        let turn = config.region_interval.or(config.announce_interval.map(|interval| interval / TURNS));
        Republish {
            announce: config.announce_interval,
            look: config.region_interval.is_some(),
            sweep: turn.map(|turn| Sweep::new(now, turn.max(Duration::from_micros(1)), rng)),
            told: BTreeMap::new(),
            retries: BTreeSet::new(),
            retry_at: None,
            failures: 0,
        }
    }

    /// When the next page of own records is to be read.
    pub(crate) fn sweep_due(&self, store: &dyn Store) -> Option<Timestamp> {
        let sweep = self.sweep.as_ref().filter(|_| store.usage().own > 0)?;
        sweep.due()
    }

    /// When something is to be tried again.
    pub(crate) fn retry_due(&self) -> Option<Timestamp> {
        self.retry_at.filter(|_| !self.retries.is_empty())
    }

    /// The place after which to read the next page.
    pub(crate) fn begin_sweep(&mut self, now: Timestamp) -> Option<Key> {
        self.sweep.as_mut().and_then(|sweep| sweep.begin(now))
    }

    /// The same of what is to be tried again.
    pub(crate) fn begin_retry(&mut self) -> Option<Key> {
        self.retry_at = None;
        self.retries.first().and_then(Name::before)
    }

    /// The page that the hand came to; `None` if it could not be read. Records that share `depth` bits with each other
    /// share their closest peers.
    pub(crate) fn on_swept(&mut self, now: Timestamp, local: &Key, depth: u32, page: Option<Vec<Item>>) -> Vec<Errand> {
        let Some(sweep) = &mut self.sweep else { return Vec::new() };
        let page = sweep.take_page(now, page, depth);
        page.into_iter().filter_map(|item| self.errand(now, local, item)).collect()
    }

    /// The page of what is to be tried again.
    pub(crate) fn on_retry(&mut self, now: Timestamp, page: Option<Vec<Item>>) -> Vec<Errand> {
        let Some(page) = page else {
            self.retry_at = Some(now + PAUSE);
            return Vec::new();
        };
        // Whatever is due and no longer kept would be first in line for ever.
        let first = self.retries.pop_first();
        let mut errands = Vec::new();
        for item in page.into_iter().take(PAGE) {
            let name = Name::of(&item);
            if (Some(name) == first || self.retries.remove(&name)) && item.is_own() {
                errands.push(Errand { item, to: To::Closest });
            }
        }
        self.retry_at = Some(now + NEXT_PAGE);
        errands
    }

    /// The application's own announcement, or one of ours, is over. Returns whether to note that it was announced now.
    pub(crate) fn on_ended(&mut self, now: Timestamp, name: Name, ended: &Ended) -> bool {
        if self.sweep.is_none() {
            return false;
        }
        if ended.to_all {
            if ended.reached.is_empty() {
                self.told.remove(&name);
                self.retry(now, name);
                return false;
            }
            self.failures = 0;
            let peers = ended.reached.iter().copied().collect();
            self.told.insert(name, Told { at: now, peers });
            return true;
        }
        if let (Some(told), Some(closest)) = (self.told.get_mut(&name), &ended.closest) {
            // Who is no longer among the closest is told again if it comes back: it may have lost what it had.
            let still = told.peers.iter().copied().filter(|peer| closest.contains(peer));
            told.peers = still.chain(ended.reached.iter().copied()).collect();
        }
        false
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
        self.retries.remove(name);
    }

    fn retry(&mut self, now: Timestamp, name: Name) {
        if self.retries.len() >= MAX_RETRIES && !self.retries.contains(&name) {
            return;
        }
        self.retries.insert(name);
        let pause = self.pause();
        self.retry_at.get_or_insert(now + pause);
    }

    /// Nobody at all could be told of what was to be announced.
    pub(crate) fn on_failed_run(&mut self, now: Timestamp) {
        self.failures = (self.failures + 1).min(MAX_DOUBLINGS);
        self.retry_at = Some(now + self.pause());
    }

    fn pause(&self) -> Duration {
        PAUSE * (1 << self.failures)
    }

    fn errand(&self, now: Timestamp, local: &Key, item: Item) -> Option<Errand> {
        let name = Name::of(&item);
        let told = self.told.get(&name);
        let announced = match &item {
            Item::Value(record) if record.own => record.announced,
            Item::Provider(record) if record.own => record.announced,
            _ => return None,
        };
        let last = announced.max(told.map(|told| told.at));
        let over = self
            .announce
            .is_some_and(|interval| last.is_none_or(|last| last + sooner(interval, local, &name.place) <= now));
        match told {
            _ if over => Some(Errand { item, to: To::Closest }),
            Some(told) if self.look => Some(Errand { item, to: To::NewOfClosest(told.peers.clone()) }),
            // Announced in an earlier life: nobody knows to whom.
            None if self.look => Some(Errand { item, to: To::Closest }),
            _ => None,
        }
    }
}

/// The interval less a part of up to an eighth, which differs from node to node and from key to key.
fn sooner(interval: Duration, local: &Key, place: &Key) -> Duration {
    let lot = (local.head() ^ place.head()).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
    interval - interval.mul_f64(lot as f64 / f64::from(u32::MAX) / 8.0).min(interval)
}
