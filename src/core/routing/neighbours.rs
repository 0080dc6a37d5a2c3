//! The neighbours: the k closest of all that answered, whom the room of their bucket does not limit.
//!
//! Knows: distances to the node itself. Must not know: seniority, or who asks.
//!
//! Nearly all of them have a place in the last buckets anyway. Those that lie in a bucket that is full are entries
//! beyond its capacity, for as long as they are neighbours; after that they wait for a place like others. Questionable
//! entries are not counted, so that a dead neighbour does not keep out the next closest.

use std::sync::Arc;

use libp2p_identity::PeerId;

use super::{Bucket, RoutingTable};
use crate::core::contact::Contact;
use crate::core::key::{Distance, Key};

impl RoutingTable {
    /// Whether a peer at this place is one of the k closest to the node, or would be.
    pub(crate) fn is_neighbour(&self, key: &Key) -> bool {
        let k = self.config.bucket_size.get();
        let index = self.index(key);
        let nearer = self.live_beyond(index, k);
        nearer < k && nearer + self.buckets[index].live_within(&self.local, &key.distance(&self.local)) < k
    }

    /// How many live entries are nearer than all of a bucket: counted up to `enough`.
    fn live_beyond(&self, index: usize, enough: usize) -> usize {
        let entries = self.buckets[index + 1..].iter().flat_map(Bucket::entries);
        entries.filter(|entry| !entry.is_questionable()).take(enough).count()
    }

    /// Has those wait for a place again who are beyond the capacity of their bucket and no longer neighbours, or
    /// questionable: since those are not counted, ever more of them would be kept beside the k that are.
    pub(super) fn trim(&mut self) -> Vec<PeerId> {
        let mut gone = Vec::new();
        for index in 0..self.buckets.len() {
            let capacity = self.capacity(index);
            for at in (capacity..self.buckets[index].keys().len()).rev() {
                let key = self.buckets[index].keys()[at];
                if self.buckets[index].entries()[at].is_questionable() || !self.is_neighbour(&key) {
                    gone.push(self.buckets[index].demote(at, capacity));
                }
            }
        }
        self.len -= gone.len();
        gone
    }

    /// A peer that waits, in this bucket or a farther one, and would be a neighbour now.
    pub(super) fn next_neighbour(&mut self, index: usize) -> Option<Arc<Contact>> {
        let k = self.config.bucket_size.get();
        for index in (0..=index).rev() {
            let nearer = self.live_beyond(index, k);
            if nearer >= k {
                return None;
            }
            let within = self.reach_in(index, k - nearer);
            let found = self.buckets[index].waiting.pop_nearest(&self.local, &within);
            if found.is_some() {
                return found;
            }
        }
        None
    }

    /// The distance within which a bucket has fewer than `count` live entries.
    fn reach_in(&self, index: usize, count: usize) -> Distance {
        let bucket = &self.buckets[index];
        let live = bucket.keys().iter().zip(bucket.entries()).filter(|(_, entry)| !entry.is_questionable());
        let mut distances: Vec<_> = live.map(|(key, _)| key.distance(&self.local)).collect();
        distances.sort_unstable();
        distances.get(count - 1).copied().unwrap_or(Distance::MAX)
    }
}
