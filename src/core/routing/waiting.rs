//! The replacement cache of a bucket: peers that answered and found no room, and some that only say that they serve.
//!
//! Knows: when they answered and how long it took. Must not know: when there is room.

use std::sync::Arc;
use std::time::Duration;

use super::entry::TableEntry;
use crate::core::contact::Contact;
use crate::core::key::{Distance, Key};
use crate::core::rtt::RoundTrip;
use crate::core::time::Timestamp;

/// Who answered within this time is likely to be there still, and the fastest of those is tried first; of the others the
/// one that answered last. Source: of the peers that IPFS nodes meet, one in ten is gone after it.
const FRESH: Duration = Duration::from_secs(600);

/// In the order in which they answered, the last one last.
#[derive(Debug, Default)]
pub(super) struct WaitingList(Vec<Waiting>);

#[derive(Debug)]
pub(super) struct Waiting {
    /// Beside the contact, so that a search does not look at each of them.
    key: Key,
    contact: Arc<Contact>,
    seen: Timestamp,
    rtt: RoundTrip,
}

impl WaitingList {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    #[cfg(test)]
    pub(super) fn keys(&self) -> impl Iterator<Item = &Key> {
        self.0.iter().map(|waiting| &waiting.key)
    }

    /// Remembers a peer that has just answered; where `limit` wait, the one that answered first makes room for it.
    pub(super) fn push(&mut self, now: Timestamp, contact: &Arc<Contact>, limit: usize) {
        let rtt = self.take(contact.key()).map_or_else(RoundTrip::default, |known| known.rtt);
        self.insert(Waiting { key: *contact.key(), contact: Arc::clone(contact), seen: now, rtt }, limit);
    }

    /// Remembers a peer that is connected and did not answer yet, if there is room; whoever answers next is preferred.
    pub(super) fn add(&mut self, now: Timestamp, contact: &Arc<Contact>, limit: usize) {
        let (key, room) = (*contact.key(), self.0.len() < limit);
        match self.0.iter_mut().find(|waiting| waiting.key == key) {
            Some(waiting) => waiting.seen = now,
            None if room => {
                self.0.insert(0, Waiting { key, contact: Arc::clone(contact), seen: now, rtt: RoundTrip::default() });
            }
            None => {}
        }
    }

    /// Whether someone waits who was there after this time.
    pub(super) fn has_later(&self, time: Timestamp) -> bool {
        self.0.iter().any(|waiting| waiting.seen > time)
    }

    /// Remembers a peer that has lost its place to others.
    pub(super) fn push_entry(&mut self, entry: TableEntry, limit: usize) {
        let key = *entry.contact.key();
        self.insert(Waiting { key, contact: entry.contact, seen: entry.last_seen, rtt: entry.rtt }, limit);
    }

    /// Whoever this is does not wait any more.
    pub(super) fn take(&mut self, key: &Key) -> Option<Waiting> {
        let at = self.0.iter().position(|waiting| waiting.key == *key)?;
        Some(self.0.remove(at))
    }

    /// Takes the time of an answer into account, of the peer that was remembered last.
    pub(super) fn record(&mut self, key: &Key, took: Duration) {
        if let Some(last) = self.0.last_mut().filter(|last| last.key == *key) {
            last.rtt.record(took);
        }
    }

    /// The peer to try first.
    pub(super) fn pop_best(&mut self, now: Timestamp) -> Option<Arc<Contact>> {
        let rank = |(at, waiting): (usize, &Waiting)| {
            let fresh = waiting.seen + FRESH > now;
            let time = waiting.rtt.smoothed().filter(|_| fresh).unwrap_or(Duration::MAX);
            (!fresh, time, std::cmp::Reverse(at))
        };
        let best = (0..self.0.len()).min_by_key(|at| rank((*at, &self.0[*at])))?;
        Some(self.0.remove(best).contact)
    }

    /// The peer nearest to `to`, if it is nearer than `within`.
    pub(super) fn pop_nearest(&mut self, to: &Key, within: &Distance) -> Option<Arc<Contact>> {
        let nearest = (0..self.0.len()).min_by_key(|at| self.0[*at].key.distance(to))?;
        (self.0[nearest].key.distance(to) < *within).then(|| self.0.remove(nearest).contact)
    }

    /// Those whose keys `pick` picks, as a list of their own.
    pub(super) fn split(&mut self, pick: impl Fn(&Key) -> bool) -> WaitingList {
        WaitingList(self.0.extract_if(.., |waiting| pick(&waiting.key)).collect())
    }

    fn insert(&mut self, waiting: Waiting, limit: usize) {
        if self.0.len() >= limit.max(1) {
            self.0.remove(0);
        }
        self.0.push(waiting);
    }
}

#[cfg(test)]
mod tests {
    use libp2p_identity::PeerId;

    use super::*;

    #[test]
    fn the_fastest_of_the_fresh_then_whoever_answered_last() {
        let mut list = WaitingList::default();
        let contacts: Vec<_> = (0..5).map(|_| Contact::new(PeerId::random(), [])).collect();
        let at = Timestamp::from_secs;
        for (i, (second, millis)) in [(0, 1), (10, 2), (500, 90), (510, 30), (520, 0)].into_iter().enumerate() {
            list.push(at(second), &contacts[i], 5);
            if millis > 0 {
                list.record(contacts[i].key(), Duration::from_millis(millis));
            }
        }
        let order: Vec<_> = std::iter::from_fn(|| list.pop_best(at(650))).collect();
        let expected = [3, 2, 4, 1, 0].map(|i: usize| Arc::clone(&contacts[i]));
        assert_eq!(order, expected, "30 ms, 90 ms, not measured; then the old ones");
    }

    #[test]
    fn the_nearest_within_reach() {
        let mut list = WaitingList::default();
        let contact = |bits| Contact::with_key(PeerId::random(), Key::from_bits(bits), []);
        for bits in ["0110", "0101", "0111"] {
            list.push(Timestamp::ZERO, &contact(bits), 5);
        }
        let local = Key::from_bits("0");
        assert!(list.pop_nearest(&local, &Key::from_bits("0101").distance(&local)).is_none());
        let nearest = list.pop_nearest(&local, &Key::from_bits("0110").distance(&local)).unwrap();
        assert_eq!(*nearest.key(), Key::from_bits("0101"));
        assert_eq!(list.len(), 2);
    }
}
