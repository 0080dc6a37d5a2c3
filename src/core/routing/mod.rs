//! The Kademlia routing table: k-buckets, of which the last one splits when it is full (rule L4).
//!
//! Knows: distances to the node itself, seniority, failures. Must not know: queries, or why a peer was asked.
//!
//! Bucket `i` holds peers that share exactly `i` leading bits with the node; the last bucket holds all that share more
//! (rules L3 and A16). Only the last bucket can split, so keyspace without peers costs nothing. In addition the table
//! always holds the k closest peers of all (see `neighbours`), even where their bucket is full.

mod admission;
mod bucket;
mod diversity;
mod entry;
mod estimate;
mod neighbours;
mod snapshot;
#[cfg(test)]
mod tests;
#[cfg(feature = "serde")]
mod versioned;
mod waiting;

use std::sync::Arc;
use std::time::Duration;

use libp2p_identity::PeerId;

pub(crate) use admission::AdmissionQueue;
pub(crate) use bucket::Admission;
use bucket::Bucket;
use diversity::Diversity;
pub(crate) use entry::TableEntry;
pub use snapshot::{BucketSnapshot, EntrySnapshot, RoutingSnapshot};

use super::config::RoutingConfig;
use super::contact::Contact;
use super::key::{Distance, Key};
use super::time::Timestamp;

/// The routing table.
#[derive(Debug)]
pub(crate) struct RoutingTable {
    local: Key,
    config: RoutingConfig,
    buckets: Vec<Bucket>,
    diversity: Option<Box<Diversity>>,
}

impl RoutingTable {
    pub(crate) fn new(local: Key, config: RoutingConfig) -> RoutingTable {
        let k = config.bucket_size.get();
        let diversity = config.diversity.clone().map(|config| Box::new(Diversity::new(config, k)));
        RoutingTable { local, config, buckets: vec![Bucket::default()], diversity }
    }

    /// The node's own key.
    pub(crate) fn local(&self) -> &Key {
        &self.local
    }

    /// Number of entries.
    pub(crate) fn len(&self) -> usize {
        self.bucket_sizes().sum()
    }

    /// Number of entries of each bucket, the farthest bucket first.
    pub(crate) fn bucket_sizes(&self) -> impl Iterator<Item = usize> {
        self.buckets.iter().map(|bucket| bucket.entries().len())
    }

    pub(crate) fn get(&self, key: &Key) -> Option<&TableEntry> {
        self.buckets[self.index(key)].get(key)
    }

    pub(crate) fn get_mut(&mut self, key: &Key) -> Option<&mut TableEntry> {
        self.bucket_mut(key).get_mut(key)
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = &TableEntry> {
        self.buckets.iter().flat_map(Bucket::entries)
    }

    /// Whether a peer that is not in the table could enter it now.
    pub(crate) fn has_room(&self, key: &Key) -> bool {
        let index = self.index(key);
        let room = self.can_split(index) || self.buckets[index].has_room(self.capacity(index));
        *key != self.local && (room || self.is_neighbour(key))
    }

    /// Offers a peer that has just answered a request, as only servers do. This is the only way into the table (rules
    /// L7 and A17).
    pub(crate) fn offer(&mut self, now: Timestamp, contact: &Arc<Contact>) -> Admission {
        if *contact.key() == self.local {
            return Admission::Full;
        }
        let Some(contact) = &self.check_diversity(now, contact) else { return Admission::Crowded };
        if self.bucket_mut(contact.key()).on_answer(now, contact) {
            return Admission::Known;
        }
        let admission = self.insert(now, contact);
        if let (Some(diversity), Admission::Added(replaced)) = (&mut self.diversity, &admission) {
            replaced.iter().for_each(|peer| diversity.remove(peer));
            diversity.add(now, contact);
        }
        admission
    }

    /// Makes an entry of a peer that is none, or has it wait.
    fn insert(&mut self, now: Timestamp, contact: &Arc<Contact>) -> Admission {
        let mut replaced = loop {
            let index = self.index(contact.key());
            let capacity = self.capacity(index);
            if let Some(replaced) = self.buckets[index].insert(now, contact, capacity) {
                break replaced;
            } else if self.can_split(index) {
                self.split_last();
            } else if self.is_neighbour(contact.key()) {
                self.buckets[index].push(now, contact, capacity);
                break Vec::new();
            } else {
                self.buckets[index].waiting.push(now, contact, capacity);
                return Admission::Full;
            }
        };
        replaced.extend(self.trim());
        Admission::Added(replaced)
    }

    /// Records how long a peer that has just been offered took to answer.
    pub(crate) fn record(&mut self, key: &Key, took: Duration) {
        let bucket = self.bucket_mut(key);
        match bucket.get_mut(key) {
            Some(entry) => entry.rtt.record(took),
            None => bucket.waiting.record(key, took),
        }
    }

    /// Records a failed request. The first failure always counts, a further one only if it `counts`; `unreachable` says
    /// that no connection could be made. Returns the peer if it is removed for it (rule A25).
    pub(crate) fn on_failure(&mut self, key: &Key, counts: bool, unreachable: bool) -> Option<PeerId> {
        let removed = self.bucket_mut(key).on_failure(key, counts, unreachable);
        self.on_removed(removed)
    }

    /// A waiting peer to try for a place that a missing or questionable entry at `key` leaves: one of the same bucket
    /// if that has room, or else one that would be a neighbour.
    pub(crate) fn next_waiting(&mut self, now: Timestamp, key: &Key) -> Option<Arc<Contact>> {
        let index = self.index(key);
        let room = self.buckets[index].has_room(self.capacity(index));
        let next = if room { self.buckets[index].waiting.pop_best(now) } else { None };
        next.or_else(|| self.next_neighbour(index))
    }

    /// Up to `count` entries whose liveness is due for a check, by the time that `check_at` gives: those that failed
    /// first, then those silent for longest.
    pub(crate) fn due(
        &self,
        now: Timestamp,
        count: usize,
        check_at: impl Fn(&TableEntry) -> Timestamp,
    ) -> Vec<Arc<Contact>> {
        let mut due: Vec<_> = self.entries().filter(|entry| check_at(entry) <= now).collect();
        due.sort_by_key(|entry| (entry.failures() == 0, entry.last_seen, *entry.contact.key()));
        due.into_iter().take(count).map(|entry| Arc::clone(&entry.contact)).collect()
    }

    /// If peers wait for a place in the full bucket at `key`, the entry to ask whether it is still alive: the one at
    /// `key` if it is to be `first`, or else, of those that are not `connected`, the one silent for longest. One at a
    /// time in a bucket.
    pub(crate) fn challenge(
        &mut self,
        now: Timestamp,
        key: &Key,
        first: bool,
        connected: impl Fn(&Key) -> bool,
    ) -> Option<Arc<Contact>> {
        let full = self.is_full(self.index(key));
        let bucket = self.bucket_mut(key);
        if !full || !bucket.may_challenge(now) {
            return None;
        }
        let first = if first { bucket.get(key) } else { None };
        let next = Arc::clone(&first.or_else(|| bucket.longest_silent(now, connected))?.contact);
        bucket.challenge(next.key());
        Some(next)
    }

    /// After an entry turned out to be unreachable, which may have happened to others at the same time: the next entry
    /// to ask, in a bucket where none is being asked.
    pub(crate) fn challenge_next(&mut self, now: Timestamp, connected: impl Fn(&Key) -> bool) -> Option<Arc<Contact>> {
        let open = self.buckets.iter().filter_map(|bucket| bucket.longest_silent(now, &connected));
        let next = Arc::clone(&open.min_by_key(|entry| entry.last_seen)?.contact);
        self.bucket_mut(next.key()).challenge(next.key());
        Some(next)
    }

    /// Whether this entry is being asked whether it is alive.
    pub(crate) fn is_challenged(&self, key: &Key) -> bool {
        self.buckets[self.index(key)].is_challenged(key)
    }

    /// An entry that was to be asked was not, or its answer says nothing.
    pub(crate) fn end_challenge(&mut self, key: &Key) {
        self.bucket_mut(key).end_challenge(key);
    }

    /// If the bucket at `key` is full of live entries and peers wait for a place in it, makes an unreachable entry
    /// questionable at once. Returns whether there was such an entry.
    pub(crate) fn demote_unreachable(&mut self, key: &Key) -> bool {
        let index = self.index(key);
        let full = self.is_full(index) && !self.buckets[index].has_room(self.capacity(index));
        full && self.buckets[index].demote_unreachable()
    }

    /// Has a peer wait for a place that says to serve but has not answered yet.
    pub(crate) fn add_waiting(&mut self, now: Timestamp, contact: &Arc<Contact>) {
        let index = self.index(contact.key());
        let capacity = self.capacity(index);
        self.buckets[index].waiting.add(now, contact, capacity);
    }

    /// Forgets a peer, whether it is an entry or waits. Returns it if it was an entry.
    pub(crate) fn remove(&mut self, key: &Key) -> Option<PeerId> {
        let removed = self.bucket_mut(key).remove(key);
        self.on_removed(removed)
    }

    fn on_removed(&mut self, peer: Option<PeerId>) -> Option<PeerId> {
        if let (Some(peer), Some(diversity)) = (&peer, &mut self.diversity) {
            diversity.remove(peer);
        }
        peer
    }

    /// The `count` entries closest to `target` that are not questionable and that `admit` accepts, closest first.
    pub(crate) fn closest(
        &self,
        target: &Key,
        count: usize,
        mut admit: impl FnMut(&Key, &TableEntry) -> bool,
    ) -> Vec<Arc<Contact>> {
        self.closest_of_all(target, count, |key, entry| !entry.is_questionable() && admit(key, entry))
    }

    /// The same, questionable entries included.
    pub(crate) fn closest_of_all(
        &self,
        target: &Key,
        count: usize,
        mut admit: impl FnMut(&Key, &TableEntry) -> bool,
    ) -> Vec<Arc<Contact>> {
        // Groups of buckets in order of distance to the target: its own bucket, then all buckets nearer to the node
        // (equally far from the target), then the farther ones one by one.
        let home = self.index(target);
        let mut found = Vec::with_capacity(count.min(self.len()));
        let mut candidates: Vec<RankedEntry> = Vec::new();
        let groups = [home..home + 1, home + 1..self.buckets.len()];
        for group in groups.into_iter().chain((0..home).rev().map(|i| i..i + 1)) {
            candidates.clear();
            for bucket in group {
                let keys = self.buckets[bucket].keys().iter().enumerate();
                candidates.extend(keys.map(|(at, key)| RankedEntry { distance: key.distance(target), bucket, at }));
            }
            // Keys first, entries only of those that are near enough: an entry is elsewhere in memory.
            let mut rest = &mut candidates[..];
            while found.len() < count && !rest.is_empty() {
                let (nearest, farther) = split_nearest(rest, count - found.len());
                for RankedEntry { bucket, at, .. } in nearest {
                    let (key, entry) = (&self.buckets[*bucket].keys()[*at], &self.buckets[*bucket].entries()[*at]);
                    if admit(key, entry) {
                        found.push(Arc::clone(&entry.contact));
                    }
                }
                rest = farther;
            }
            if found.len() >= count {
                break;
            }
        }
        found
    }

    /// Up to `count` peers that have addresses and are not questionable, those in the table for longest first.
    pub(crate) fn longest_known(&self, count: usize) -> Vec<Arc<Contact>> {
        let mut entries: Vec<_> = self.entries().collect();
        entries.retain(|entry| !entry.is_questionable() && entry.contact.has_addrs());
        entries.sort_by_key(|entry| (entry.since, *entry.contact.key()));
        entries.into_iter().take(count).map(|entry| Arc::clone(&entry.contact)).collect()
    }

    /// The table as plain values; `connected` says which peers a connection is up to.
    pub(crate) fn snapshot(&self, local: PeerId, connected: impl Fn(&Key) -> bool) -> RoutingSnapshot {
        let buckets = self.buckets.iter().enumerate().map(|(index, bucket)| BucketSnapshot {
            prefix: index as u32,
            capacity: self.capacity(index),
            entries: bucket
                .entries()
                .iter()
                .map(|entry| EntrySnapshot::of(entry, connected(entry.contact.key())))
                .collect(),
            waiting: bucket.waiting.len(),
        });
        RoutingSnapshot { local, buckets: buckets.collect(), estimated_nodes: self.estimated_nodes().round() as u64 }
    }

    /// Maximum number of entries of a bucket: k, or more in low buckets that the configuration widens. The last bucket
    /// splits at k, so that neither half of it is too large for its place.
    fn capacity(&self, index: usize) -> usize {
        let k = self.config.bucket_size.get();
        if self.can_split(index) {
            return k;
        }
        self.config.wide_low_buckets.checked_shr(index as u32).unwrap_or(0).max(k)
    }

    fn index(&self, key: &Key) -> usize {
        (self.local.common_prefix_len(key) as usize).min(self.buckets.len() - 1)
    }

    fn bucket_mut(&mut self, key: &Key) -> &mut Bucket {
        let index = self.index(key);
        &mut self.buckets[index]
    }

    fn is_full(&self, index: usize) -> bool {
        !self.can_split(index) && self.buckets[index].entries().len() >= self.capacity(index)
    }

    fn can_split(&self, index: usize) -> bool {
        index + 1 == self.buckets.len() && self.buckets.len() < Key::BITS as usize
    }

    fn split_last(&mut self) {
        let prefix = self.buckets.len() - 1;
        let near = self.buckets[prefix].split(&self.local, prefix as u32);
        self.buckets.push(near);
    }
}

/// An entry's distance to a target, and its position in the table.
struct RankedEntry {
    distance: Distance,
    bucket: usize,
    at: usize,
}

/// The `count` nearest in order, and the others unsorted.
fn split_nearest(entries: &mut [RankedEntry], count: usize) -> (&[RankedEntry], &mut [RankedEntry]) {
    let count = count.min(entries.len());
    if 0 < count && count < entries.len() {
        entries.select_nth_unstable_by_key(count - 1, |entry| entry.distance);
    }
    let (nearest, farther) = entries.split_at_mut(count);
    nearest.sort_unstable_by_key(|entry| entry.distance);
    (nearest, farther)
}
