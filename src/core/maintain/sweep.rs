//! A hand that goes round the keyspace once an interval, and visits what it passes.
//!
//! Knows: times and places. Must not know: what is done with what it visits.
//!
//! It begins at a place of its own, so that no two nodes visit the same key at the same time, and visits each key at the
//! same point of each turn. It is never in a hurry: what it cannot visit in time delays all that follows, so after a
//! restart, or a night's sleep, what is overdue takes a whole turn. Beside the hand nothing is remembered, however much
//! is kept.

use std::time::Duration;

use rand_chacha::ChaCha8Rng;

use crate::core::key::Key;
use crate::core::store::Item;
use crate::core::time::Timestamp;

/// So many items are read at a time. Source: with values of 11 KiB this is 3 MB.
pub(crate) const PAGE: usize = 256;
/// What lies within this part of a turn ahead of the hand is visited together with what it passes, if they share their
/// closest peers. Source: a node of a small network, whose keys all do, looks 32 times in a turn at most.
const SLICE: u32 = 32;
/// Two visits are this part of a turn apart at least. Source: at a page each, a million records in a turn.
const SPACING: u32 = 4_096;
/// A store that fails is asked again after this.
const RETRY: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(crate) struct Sweep {
    interval: Duration,
    /// Everything up to here was visited in this turn.
    cursor: Option<Key>,
    /// Where the hand was, and when.
    anchor: (Timestamp, u64),
    due: Timestamp,
    /// Whether a page is being read.
    reading: bool,
}

impl Sweep {
    pub(crate) fn new(now: Timestamp, interval: Duration, rng: &mut ChaCha8Rng) -> Sweep {
        let begin = Key::random(rng);
        Sweep { interval, cursor: Some(begin), anchor: (now, begin.head()), due: now, reading: false }
    }

    /// When the next page is to be read.
    pub(crate) fn due(&self) -> Option<Timestamp> {
        (!self.reading).then_some(self.due)
    }

    /// A page is being read from now on; it begins after this place.
    pub(crate) fn begin(&mut self, now: Timestamp) -> Option<Key> {
        self.reading = true;
        if now > self.due + self.interval / SLICE {
            self.anchor = (now, self.cursor.map_or(0, |cursor| cursor.head()));
        }
        self.cursor
    }

    /// What is visited now of a page; nothing of one that could not be read.
    pub(crate) fn take_page(&mut self, now: Timestamp, page: Option<Vec<Item>>, depth: u32) -> Vec<Item> {
        let Some(mut page) = page else {
            self.failed(now);
            return Vec::new();
        };
        let visited = self.on_page(now, &page, depth);
        page.truncate(visited);
        page
    }

    /// Here is the page. Returns how many of its first items are visited now; those visited together share `depth` bits.
    pub(super) fn on_page(&mut self, now: Timestamp, items: &[Item], depth: u32) -> usize {
        self.reading = false;
        let soon = now + self.spacing();
        let Some(first) = items.first().map(|item| item.key().key()) else {
            self.turn(now);
            return 0;
        };
        let at = self.at(first.head());
        if at > now {
            self.due = at;
            return 0;
        }
        if now > at + self.interval / SLICE {
            self.anchor = (now, first.head());
        }
        let reach = self.hand(now).saturating_add(u64::MAX / u64::from(SLICE));
        let together = |item: &&Item| {
            let key = item.key().key();
            key.head() <= reach && key.common_prefix_len(&first) >= depth
        };
        let visited = items.iter().take_while(together).count().max(1);
        self.cursor = items.get(visited - 1).map(|item| item.key().key());
        self.due = items.get(visited).map_or(soon, |next| self.at(next.key().key().head()).max(soon));
        visited
    }

    /// The page could not be read.
    pub(super) fn failed(&mut self, now: Timestamp) {
        self.reading = false;
        self.due = now + RETRY;
    }

    /// Nothing lies ahead: the next turn begins when the hand is round, or at the end of a whole turn if nothing lies
    /// anywhere.
    fn turn(&mut self, now: Timestamp) {
        let end = match self.cursor.take() {
            Some(_) => self.at(u64::MAX),
            None => now + self.interval,
        };
        self.due = end.max(now + self.spacing());
        self.anchor = (self.due, 0);
    }

    fn spacing(&self) -> Duration {
        (self.interval / SPACING).max(Duration::from_micros(1))
    }

    /// When the hand is there.
    fn at(&self, place: u64) -> Timestamp {
        let (since, from) = self.anchor;
        let ahead = u128::from(place.saturating_sub(from));
        // Below 2^64 microseconds, or for ever.
        let micros = (self.interval.as_micros().min(u64::MAX.into()) * ahead) >> 64;
        since + Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
    }

    /// Where the hand is.
    fn hand(&self, now: Timestamp) -> u64 {
        let (since, from) = self.anchor;
        let since = now.since(since).as_micros().min(u64::MAX.into());
        let turned = (since << 64) / self.interval.as_micros().max(1);
        from.saturating_add(u64::try_from(turned).unwrap_or(u64::MAX))
    }
}
