//! A sweep over the stored values: once around the keyspace in each interval, one page at a time.
//!
//! Knows: times and keys. Must not know: the use that is made of the values.
//!
//! Each key is due once in a cycle, at a different time on each node, so that no two nodes handle a key at the same
//! time. A sweep does not hurry: if it falls behind, everything after that is delayed, and after a restart or a night's
//! sleep the overdue keys take a whole cycle. It remembers only how far it has come, however much is stored.
//!
//! *Dropped:* a random wait for each value, whose ties recur every hour (19 holders, a lookup of some seconds).

use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_core::Rng as _;

use crate::core::key::Key;
use crate::core::store::Item;
use crate::core::time::Timestamp;

/// Number of items read at a time. Source: with values of 11 KiB this is 3 MB.
pub(crate) const PAGE: usize = 256;
/// Keys due within this fraction of a cycle are handled together with those due now, if they share their closest peers.
/// Source: a node of a small network, where all keys share them, does at most 32 lookups in a cycle.
pub(super) const SLICE: u32 = 32;
/// Minimum pause between two pages, as a fraction of a cycle. Source: at a page each, a million records in a cycle.
const SPACING: u32 = 4_096;
/// Pause before a store that failed is read again.
const RETRY: Duration = Duration::from_secs(60);

/// The key of the last item of a page, if the page is full: more items may follow it.
pub(super) fn last_of_full(page: &[Item]) -> Option<Key> {
    if page.len() < PAGE {
        return None;
    }
    page.last().map(|item| item.key().key())
}

/// Maps each key of the keyspace to its time in an interval.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cycle {
    /// In microseconds, at least two.
    interval: u64,
    /// When the first cycle begins, in microseconds.
    begin: u64,
}

impl Cycle {
    pub(super) fn new(interval: Duration, rng: &mut ChaCha8Rng) -> Cycle {
        let interval = u64::try_from(interval.as_micros()).unwrap_or(u64::MAX).clamp(2, u64::MAX >> 2);
        Cycle { interval, begin: rng.next_u64() % interval }
    }

    /// The first time at which this key is due, not before `from`.
    pub(super) fn time_of(&self, key: &Key, from: Timestamp) -> Timestamp {
        let phase = ((u128::from(self.interval) * u128::from(key.head())) >> 64) as u64;
        let wait = (phase + self.begin + self.interval - from.as_micros() % self.interval) % self.interval;
        from + Duration::from_micros(wait)
    }

    /// The key that is due now.
    fn key_at(&self, now: Timestamp) -> Key {
        let phase = (now.as_micros() % self.interval + self.interval - self.begin) % self.interval;
        let head = (u128::from(phase) << 64) / u128::from(self.interval);
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&(head as u64).to_be_bytes());
        Key::from_bytes(bytes)
    }

    /// The duration of a cycle, divided by `by`.
    pub(super) fn fraction(&self, by: u32) -> Duration {
        Duration::from_micros((self.interval / u64::from(by)).max(1))
    }
}

#[derive(Debug)]
pub(super) struct Sweep {
    cycle: Cycle,
    /// The last key that was handled in this cycle; `None` at its beginning.
    cursor: Option<Key>,
    /// When that key was due.
    last: Timestamp,
    due: Timestamp,
    /// Whether a page is being read.
    reading: bool,
}

impl Sweep {
    pub(super) fn new(now: Timestamp, interval: Duration, rng: &mut ChaCha8Rng) -> Sweep {
        let cycle = Cycle::new(interval, rng);
        Sweep { cycle, cursor: Some(cycle.key_at(now)), last: now, due: now, reading: false }
    }

    /// When the next page is to be read; `None` while one is being read.
    pub(super) fn due(&self) -> Option<Timestamp> {
        (!self.reading).then_some(self.due)
    }

    /// Begins to read a page. Returns the key after which it begins.
    pub(super) fn begin(&mut self, now: Timestamp) -> Option<Key> {
        self.reading = true;
        if now > self.due + self.cycle.fraction(2) {
            (self.cursor, self.last) = (Some(self.cycle.key_at(now)), now);
        }
        self.cursor
    }

    /// Takes the items of a page that are due now: a run of keys that share `depth` leading bits. Empty where the page
    /// is `None`, since the store failed.
    pub(super) fn take_page(&mut self, now: Timestamp, page: Option<Vec<Item>>, depth: u32) -> Vec<Item> {
        self.reading = false;
        let Some(mut page) = page else {
            self.due = now + RETRY;
            return Vec::new();
        };
        let soon = now + self.cycle.fraction(SPACING);
        let Some(first) = page.first().map(|item| item.key().key()) else {
            // The end of the keyspace: the next page begins at its start. If that was empty too, so is the store.
            self.due = if self.cursor.take().is_some() { soon } else { now + self.cycle.fraction(1) };
            // Without this the last key would be due again at the same time.
            self.last += Duration::from_micros(1);
            return page;
        };
        // Times count from the last key, not from now: a late page is overdue, and not put off to the next cycle.
        let time_of = |item: &Item| self.cycle.time_of(&item.key().key(), self.last);
        let reach = now + self.cycle.fraction(SLICE);
        let together = |item: &&Item| time_of(item) <= reach && item.key().key().common_prefix_len(&first) >= depth;
        let at = time_of(&page[0]);
        let taken = if at > now { 0 } else { page.iter().take_while(together).count() };
        self.due = match page.get(taken) {
            Some(_) if taken == 0 => at,
            Some(next) => time_of(next).max(soon),
            // The key after the page is not known yet.
            None => soon,
        };
        page.truncate(taken);
        if let Some(last) = page.last() {
            (self.cursor, self.last) = (Some(last.key().key()), time_of(last));
        }
        page
    }
}
