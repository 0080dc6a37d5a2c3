//! The replacement cache of a bucket: peers that answered but found no room, and some that only say that they serve.
//!
//! Knows: when they answered and how long it took. Must not know: when there is room.
//!
//! The fastest of those that answered within 10 min is tried first, then the one that answered last. An entry is never
//! displaced for being slow.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use super::entry::TableEntry;
use crate::core::contact::Contact;
use crate::core::key::{Distance, Key};
use crate::core::rtt::RoundTrip;
use crate::core::time::Timestamp;

/// A peer that answered within this time is likely to be alive still: the fastest of these is tried first, then the
/// others, the last to answer first. Source: of the peers that IPFS nodes meet, one in ten is gone after it.
const FRESH: Duration = Duration::from_secs(600);

/// In the order in which they answered, the latest last.
#[derive(Debug, Default)]
pub(super) struct WaitingList(Vec<WaitingPeer>);

#[derive(Debug)]
pub(super) struct WaitingPeer {
    /// A copy of the contact's, so that a search does not touch each contact.
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

    /// Adds a peer that has just answered; if `limit` wait already, the one that answered first is dropped.
    pub(super) fn push(&mut self, now: Timestamp, contact: &Arc<Contact>, limit: usize) {
        let rtt = self.take(contact.key()).map_or_else(RoundTrip::default, |known| known.rtt);
        self.insert(WaitingPeer { key: *contact.key(), contact: Arc::clone(contact), seen: now, rtt }, limit);
    }

    /// Adds a peer that is connected but has not answered yet, if there is room; the first to be dropped.
    pub(super) fn add(&mut self, now: Timestamp, contact: &Arc<Contact>, limit: usize) {
        let key = *contact.key();
        if let Some(waiting) = self.0.iter_mut().find(|waiting| waiting.key == key) {
            waiting.seen = now;
        } else if self.0.len() < limit {
            let waiting = WaitingPeer { key, contact: Arc::clone(contact), seen: now, rtt: RoundTrip::default() };
            self.0.insert(0, waiting);
        }
    }

    /// Whether a peer waits that was seen after this time.
    pub(super) fn has_later(&self, time: Timestamp) -> bool {
        self.0.iter().any(|waiting| waiting.seen > time)
    }

    /// Adds a peer that was an entry.
    pub(super) fn push_entry(&mut self, entry: TableEntry, limit: usize) {
        let key = *entry.contact.key();
        self.insert(WaitingPeer { key, contact: entry.contact, seen: entry.last_seen, rtt: entry.rtt }, limit);
    }

    /// Removes a peer, if it waits.
    pub(super) fn take(&mut self, key: &Key) -> Option<WaitingPeer> {
        let at = self.0.iter().position(|waiting| waiting.key == *key)?;
        Some(self.0.remove(at))
    }

    /// Records how long an answer took, if it is that of the peer added last.
    pub(super) fn record(&mut self, key: &Key, took: Duration) {
        if let Some(last) = self.0.last_mut().filter(|last| last.key == *key) {
            last.rtt.record(took);
        }
    }

    /// Removes and returns the peer to try first.
    pub(super) fn pop_best(&mut self, now: Timestamp) -> Option<Arc<Contact>> {
        let rank = |at: &usize| {
            let waiting = &self.0[*at];
            let fresh = waiting.seen + FRESH > now;
            let rtt = if fresh { waiting.rtt.smoothed() } else { None };
            (!fresh, rtt.unwrap_or(Duration::MAX), Reverse(*at))
        };
        let best = (0..self.0.len()).min_by_key(rank)?;
        Some(self.0.remove(best).contact)
    }

    /// Removes and returns the peer nearest to `to`, if it is nearer than `within`.
    pub(super) fn pop_nearest(&mut self, to: &Key, within: &Distance) -> Option<Arc<Contact>> {
        let nearest = (0..self.0.len()).min_by_key(|at| self.0[*at].key.distance(to))?;
        (self.0[nearest].key.distance(to) < *within).then(|| self.0.remove(nearest).contact)
    }

    /// Moves those whose keys `pick` picks into a list of their own.
    pub(super) fn split(&mut self, pick: impl Fn(&Key) -> bool) -> WaitingList {
        WaitingList(self.0.extract_if(.., |waiting| pick(&waiting.key)).collect())
    }

    fn insert(&mut self, waiting: WaitingPeer, limit: usize) {
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
    fn the_fastest_of_the_fresh_then_the_last_to_answer() {
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
