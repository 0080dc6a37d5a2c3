//! The neighbours: the k closest live peers of all, which the capacity of their bucket does not limit.
//!
//! Knows: distances to the node itself. Must not know: seniority, or why it is asked.
//!
//! Nearly all of them have a place in the last buckets anyway. Neighbours in a full bucket are entries beyond its
//! capacity for as long as they are neighbours; after that they wait for a place like others. Questionable entries are
//! not counted, so that a dead neighbour does not keep the next closest out.

use std::sync::Arc;

use libp2p_identity::PeerId;

use super::{Bucket, RoutingTable};
use crate::core::contact::Contact;
use crate::core::key::{Distance, Key};

impl RoutingTable {
    /// Whether a peer with this key is one of the k closest to the node, or would be if it were in the table.
    pub(crate) fn is_neighbour(&self, key: &Key) -> bool {
        let k = self.config.bucket_size.get();
        let (index, distance) = (self.index(key), key.distance(&self.local));
        let nearer = self.live_beyond(index, k);
        let beside = self.buckets[index].live_distances(&self.local).filter(|other| *other < distance);
        nearer < k && nearer + beside.count() < k
    }

    /// Number of live entries that are nearer than all of a bucket, counted up to `enough`.
    fn live_beyond(&self, index: usize, enough: usize) -> usize {
        let entries = self.buckets[index + 1..].iter().flat_map(Bucket::entries);
        entries.filter(|entry| !entry.is_questionable()).take(enough).count()
    }

    /// Moves entries that are beyond the capacity of their bucket to those that wait, if they are no longer neighbours.
    /// Questionable ones go too: they are not counted among the k, so without this their number would only grow.
    pub(super) fn trim(&mut self) -> Vec<PeerId> {
        let mut removed = Vec::new();
        for index in 0..self.buckets.len() {
            let capacity = self.capacity(index);
            for at in (capacity..self.buckets[index].keys().len()).rev() {
                let key = self.buckets[index].keys()[at];
                if self.buckets[index].entries()[at].is_questionable() || !self.is_neighbour(&key) {
                    removed.push(self.buckets[index].demote(at, capacity));
                }
            }
        }
        removed
    }

    /// A peer that waits, in this bucket or a farther one, and would be a neighbour now.
    pub(super) fn next_neighbour(&mut self, index: usize) -> Option<Arc<Contact>> {
        let k = self.config.bucket_size.get();
        for index in (0..=index).rev() {
            let nearer = self.live_beyond(index, k);
            if nearer >= k {
                return None;
            }
            // A neighbour is nearer than the entry that makes the k full.
            let mut distances: Vec<_> = self.buckets[index].live_distances(&self.local).collect();
            distances.sort_unstable();
            let within = distances.get(k - nearer - 1).copied().unwrap_or(Distance::MAX);
            let found = self.buckets[index].waiting.pop_nearest(&self.local, &within);
            if found.is_some() {
                return found;
            }
        }
        None
    }
}
