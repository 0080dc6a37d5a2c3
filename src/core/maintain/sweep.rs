//! A sweep over what is kept, once round the keyspace in each interval.
//!
//! Knows: times and places. Must not know: what is done with the items that it comes to.
//!
//! Each place has its time in a cycle, another one on each node, so that no two nodes come to the same key at the same
//! time. A sweep is never in a hurry: what it cannot do in time delays all that follows, and after a restart, or a night's
//! sleep, what is overdue takes a whole cycle. It remembers nothing but how far it came, however much is kept.

use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_core::Rng as _;

use crate::core::key::Key;
use crate::core::store::Item;
use crate::core::time::Timestamp;

/// So many items are read at a time. Source: with values of 11 KiB this is 3 MB.
pub(crate) const PAGE: usize = 256;
/// What is due within this part of a cycle is done together with what is due now, if both share their closest peers.
/// Source: a node of a small network, whose keys all do, looks 32 times in a cycle at most.
pub(super) const SLICE: u32 = 32;
/// Two pages are this part of a cycle apart at least. Source: at a page each, a million records in a cycle.
const SPACING: u32 = 4_096;
/// A store that fails is asked again after this.
const RETRY: Duration = Duration::from_secs(60);

/// When each place of the keyspace has its time: once in an interval.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cycle {
    /// In microseconds, at least two.
    interval: u64,
    /// When a cycle begins, in microseconds of the first one.
    begin: u64,
}

impl Cycle {
    pub(super) fn new(interval: Duration, rng: &mut ChaCha8Rng) -> Cycle {
        let interval = u64::try_from(interval.as_micros()).unwrap_or(u64::MAX).clamp(2, u64::MAX >> 2);
        Cycle { interval, begin: rng.next_u64() % interval }
    }

    /// When it is this place's time, for the first time not before `from`.
    pub(super) fn time_of(&self, place: &Key, from: Timestamp) -> Timestamp {
        let phase = ((u128::from(self.interval) * u128::from(place.head())) >> 64) as u64;
        let wait = (phase + self.begin + self.interval - from.as_micros() % self.interval) % self.interval;
        from + Duration::from_micros(wait)
    }

    /// The place whose time is now.
    fn place_at(&self, now: Timestamp) -> Key {
        let phase = (now.as_micros() % self.interval + self.interval - self.begin) % self.interval;
        let head = (u128::from(phase) << 64) / u128::from(self.interval);
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&(head as u64).to_be_bytes());
        Key::from_bytes(bytes)
    }

    /// One of so many parts of a cycle.
    pub(super) fn part(&self, of: u32) -> Duration {
        Duration::from_micros((self.interval / u64::from(of)).max(1))
    }
}

#[derive(Debug)]
pub(super) struct Sweep {
    cycle: Cycle,
    /// Everything up to here had its turn in this cycle.
    cursor: Option<Key>,
    /// The time of what had its turn last.
    last: Timestamp,
    due: Timestamp,
    /// Whether a page is being read.
    reading: bool,
}

impl Sweep {
    pub(super) fn new(now: Timestamp, interval: Duration, rng: &mut ChaCha8Rng) -> Sweep {
        let cycle = Cycle::new(interval, rng);
        Sweep { cycle, cursor: Some(cycle.place_at(now)), last: now, due: now, reading: false }
    }

    /// When the next page is to be read.
    pub(super) fn due(&self) -> Option<Timestamp> {
        (!self.reading).then_some(self.due)
    }

    /// A page is being read from now on; it begins after this place.
    pub(super) fn begin(&mut self, now: Timestamp) -> Option<Key> {
        self.reading = true;
        if now > self.due + self.cycle.part(2) {
            (self.cursor, self.last) = (Some(self.cycle.place_at(now)), now);
        }
        self.cursor
    }

    /// What of a page is due now; nothing of one that could not be read. All of it shares `depth` bits.
    pub(super) fn take_page(&mut self, now: Timestamp, page: Option<Vec<Item>>, depth: u32) -> Vec<Item> {
        self.reading = false;
        let Some(mut page) = page else {
            self.due = now + RETRY;
            return Vec::new();
        };
        let soon = now + self.cycle.part(SPACING);
        let Some(first) = page.first().map(|item| item.key().key()) else {
            // The sweep is round, or nothing lies anywhere.
            self.due = if self.cursor.take().is_some() { soon } else { now + self.cycle.part(1) };
            self.last += Duration::from_micros(1);
            return page;
        };
        let time_of = |item: &Item| self.cycle.time_of(&item.key().key(), self.last);
        let reach = now + self.cycle.part(SLICE);
        let together = |item: &&Item| time_of(item) <= reach && item.key().key().common_prefix_len(&first) >= depth;
        let at = time_of(&page[0]);
        let taken = if at > now { 0 } else { page.iter().take_while(together).count() };
        let next = page.get(taken).map_or(soon, |next| if taken > 0 { time_of(next).max(soon) } else { at });
        if let Some(last) = page.get(taken.wrapping_sub(1)) {
            (self.cursor, self.last) = (Some(last.key().key()), time_of(last));
        }
        self.due = next;
        page.truncate(taken);
        page
    }
}
