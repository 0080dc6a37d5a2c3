//! Who we know: a table of buckets whose last one splits as it fills.
//!
//! Knows: distances to the node itself, seniority, failures. Must not know: queries, or why anyone was asked.
//!
//! Bucket `i` holds peers that share exactly `i` leading bits with the node, the last one all that share more. Only
//! the last can split, so parts of the keyspace without peers cost nothing. Beside the buckets, and whether they have
//! room or not, the table holds the k closest of all.

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
    len: usize,
    diversity: Option<Box<Diversity>>,
}

impl RoutingTable {
    pub(crate) fn new(local: Key, config: RoutingConfig) -> RoutingTable {
        let size = config.bucket_size.get();
        let diversity = config.diversity.clone().map(|config| Box::new(Diversity::new(config, size)));
        RoutingTable { local, config, buckets: vec![Bucket::default()], len: 0, diversity }
    }

    /// The place of the node itself.
    pub(crate) fn local(&self) -> &Key {
        &self.local
    }

    /// How many peers it holds.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// How many peers each bucket holds, the farthest first.
    pub(crate) fn bucket_sizes(&self) -> impl Iterator<Item = usize> {
        self.buckets.iter().map(|bucket| bucket.entries().len())
    }

    /// The entry of a peer.
    pub(crate) fn get(&self, key: &Key) -> Option<&TableEntry> {
        self.buckets[self.index(key)].get(key)
    }

    pub(crate) fn get_mut(&mut self, key: &Key) -> Option<&mut TableEntry> {
        let index = self.index(key);
        self.buckets[index].get_mut(key)
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

    /// Offers a peer that has just answered a request. This is the only way into the table.
    pub(crate) fn offer(&mut self, now: Timestamp, contact: &Arc<Contact>) -> Admission {
        if *contact.key() == self.local {
            return Admission::Full;
        }
        let Some(contact) = &self.check_diversity(now, contact) else { return Admission::Crowded };
        let index = self.index(contact.key());
        if self.buckets[index].answered(now, contact) {
            return Admission::Known;
        }
        let offer = self.place(now, contact);
        self.count(now, contact, &offer);
        offer
    }

    /// Finds a place for a peer that is no entry.
    fn place(&mut self, now: Timestamp, contact: &Arc<Contact>) -> Admission {
        let mut gone = loop {
            let index = self.index(contact.key());
            let capacity = self.capacity(index);
            if let Some(gone) = self.buckets[index].place(now, contact, capacity) {
                break gone;
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
        self.len += 1;
        self.len -= gone.len();
        gone.extend(self.trim());
        Admission::Added(gone)
    }

    /// Takes into account how long the answer of a peer took that has just been offered.
    pub(crate) fn record(&mut self, key: &Key, took: Duration) {
        let index = self.index(key);
        match self.buckets[index].get_mut(key) {
            Some(entry) => entry.rtt.record(took),
            None => self.buckets[index].waiting.record(key, took),
        }
    }

    /// Notes that a peer failed a request, for the first time or so that it `counts` as a further failure; `unreachable` if
    /// no connection to it could be had. `Some` if it is forgotten for it.
    pub(crate) fn on_failure(&mut self, key: &Key, counts: bool, unreachable: bool) -> Option<PeerId> {
        let index = self.index(key);
        let gone = self.buckets[index].on_failure(key, counts, unreachable);
        self.len -= usize::from(gone.is_some());
        self.release(gone)
    }

    /// A peer to try for the place of a questionable or missing entry at `key`: in its bucket, where that has room, or
    /// else among the neighbours.
    pub(crate) fn next_waiting(&mut self, now: Timestamp, key: &Key) -> Option<Arc<Contact>> {
        let index = self.index(key);
        let room = self.buckets[index].has_room(self.capacity(index));
        let next = if room { self.buckets[index].waiting.pop_best(now) } else { None };
        next.or_else(|| self.next_neighbour(index))
    }

    /// Up to `count` entries that are worth a question whether they are there, as `check_at` tells: first those that
    /// failed, then the longest silent.
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

    /// The entry to ask whether it is there where someone waits for a place in the full bucket at `key`: `first` or, of those
    /// that are not `connected`, the one without a sign of life for longest. One at a time in a bucket.
    pub(crate) fn challenge(
        &mut self,
        now: Timestamp,
        key: &Key,
        first: bool,
        connected: impl Fn(&Key) -> bool,
    ) -> Option<Arc<Contact>> {
        let index = self.index(key);
        let full = self.is_full(index);
        let bucket = &mut self.buckets[index];
        if !full || !bucket.may_challenge(now) {
            return None;
        }
        let first = bucket.get(key).filter(|_| first);
        let next = Arc::clone(&first.or_else(|| bucket.longest_silent(now, connected))?.contact);
        bucket.challenge(next.key());
        Some(next)
    }

    /// Where the bucket at `key` is full and someone waits, an entry that could not be reached gives way at once. Tells
    /// whether there is one.
    pub(crate) fn demote_unreachable(&mut self, key: &Key) -> bool {
        let index = self.index(key);
        self.is_full(index)
            && !self.buckets[index].has_room(self.capacity(index))
            && self.buckets[index].demote_unreachable()
    }

    fn is_full(&self, index: usize) -> bool {
        !self.can_split(index) && self.buckets[index].entries().len() >= self.capacity(index)
    }

    /// An entry could not be reached, and others may be gone with it: the next to ask, if no other of its bucket is asked.
    pub(crate) fn challenge_next(&mut self, now: Timestamp, connected: impl Fn(&Key) -> bool) -> Option<Arc<Contact>> {
        let open = self.buckets.iter().filter_map(|bucket| bucket.longest_silent(now, &connected));
        let next = Arc::clone(&open.min_by_key(|entry| entry.last_seen)?.contact);
        let index = self.index(next.key());
        self.buckets[index].challenge(next.key());
        Some(next)
    }

    /// Whether this entry is asked for one of these reasons.
    pub(crate) fn is_challenged(&self, key: &Key) -> bool {
        self.buckets[self.index(key)].is_challenged(key)
    }

    /// An entry that was asked for that was not, or neither answered nor failed.
    pub(crate) fn end_challenge(&mut self, key: &Key) {
        let index = self.index(key);
        self.buckets[index].end_challenge(key);
    }

    /// Has a peer wait for a place that serves and did not answer yet.
    pub(crate) fn add_waiting(&mut self, now: Timestamp, contact: &Arc<Contact>) {
        let index = self.index(contact.key());
        let capacity = self.capacity(index);
        self.buckets[index].waiting.add(now, contact, capacity);
    }

    /// Forgets a peer.
    pub(crate) fn remove(&mut self, key: &Key) -> Option<PeerId> {
        let index = self.index(key);
        let gone = self.buckets[index].remove(key);
        self.len -= usize::from(gone.is_some());
        self.release(gone)
    }

    /// The `count` entries nearest to `target` that are not questionable and that `admit` lets pass, nearest first.
    pub(crate) fn closest(
        &self,
        target: &Key,
        count: usize,
        mut admit: impl FnMut(&Key, &TableEntry) -> bool,
    ) -> Vec<Arc<Contact>> {
        self.closest_of_all(target, count, |key, entry| !entry.is_questionable() && admit(key, entry))
    }

    /// The same of all entries.
    ///
    /// The buckets come in order of distance to the target: its own, then all nearer to the node (which are equally
    /// far from the target), then the farther ones one by one. Keys are compared before entries are looked at, since
    /// few entries are in the answer, and each look is one at memory that lies elsewhere.
    pub(crate) fn closest_of_all(
        &self,
        target: &Key,
        count: usize,
        mut admit: impl FnMut(&Key, &TableEntry) -> bool,
    ) -> Vec<Arc<Contact>> {
        let home = self.index(target);
        let mut found = Vec::with_capacity(count.min(self.len));
        let mut places: Vec<RankedEntry> = Vec::new();
        let groups = [home..home + 1, home + 1..self.buckets.len()];
        for group in groups.into_iter().chain((0..home).rev().map(|i| i..i + 1)) {
            places.clear();
            for bucket in group {
                let keys = self.buckets[bucket].keys().iter().enumerate();
                places.extend(keys.map(|(entry, key)| RankedEntry { distance: key.distance(target), bucket, entry }));
            }
            let mut rest = &mut places[..];
            while found.len() < count && !rest.is_empty() {
                let (nearest, farther) = split_nearest(rest, count - found.len());
                for place in nearest {
                    let bucket = &self.buckets[place.bucket];
                    let (key, entry) = (&bucket.keys()[place.entry], &bucket.entries()[place.entry]);
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

    /// Up to `count` peers with addresses that are not questionable, the longest known first.
    pub(crate) fn longest_known(&self, count: usize) -> Vec<Arc<Contact>> {
        let longest_known = |entry: &&TableEntry| !entry.is_questionable() && entry.contact.has_addrs();
        let mut entries: Vec<_> = self.entries().filter(longest_known).collect();
        entries.sort_by_key(|entry| (entry.since, *entry.contact.key()));
        entries.into_iter().take(count).map(|entry| Arc::clone(&entry.contact)).collect()
    }

    /// The table for people; `connected` tells to whom a connection is up.
    pub(crate) fn snapshot(&self, local: PeerId, connected: impl Fn(&Key) -> bool) -> RoutingSnapshot {
        let buckets = self.buckets.iter().enumerate().map(|(index, bucket)| BucketSnapshot {
            prefix: index as u32,
            capacity: self.capacity(index),
            entries: bucket.entries().iter().map(|entry| entry_snapshot(entry, &connected)).collect(),
            waiting: bucket.waiting.len(),
        });
        RoutingSnapshot { local, buckets: buckets.collect(), estimated_nodes: self.estimated_nodes().round() as u64 }
    }

    /// How many entries a bucket may hold: k, or more in the low ones where the configuration widens them. The last one
    /// splits at k, so that neither half of it is ever too large for its place.
    fn capacity(&self, index: usize) -> usize {
        let wide = self.config.wide_low_buckets.checked_shr(index as u32).unwrap_or(0);
        let wide = if self.can_split(index) { 0 } else { wide };
        self.config.bucket_size.get().max(wide)
    }

    fn index(&self, key: &Key) -> usize {
        (self.local.common_prefix_len(key) as usize).min(self.buckets.len() - 1)
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

/// An entry's distance to a target, and where in the table it is.
struct RankedEntry {
    distance: Distance,
    bucket: usize,
    entry: usize,
}

/// The `count` nearest in order, and the others; only the first are sorted.
fn split_nearest(places: &mut [RankedEntry], count: usize) -> (&[RankedEntry], &mut [RankedEntry]) {
    let count = count.min(places.len());
    if 0 < count && count < places.len() {
        places.select_nth_unstable_by_key(count - 1, |place| place.distance);
    }
    let (nearest, farther) = places.split_at_mut(count);
    nearest.sort_unstable_by_key(|place| place.distance);
    (nearest, farther)
}

fn entry_snapshot(entry: &TableEntry, connected: &impl Fn(&Key) -> bool) -> EntrySnapshot {
    EntrySnapshot {
        peer: *entry.contact.peer(),
        addrs: entry.contact.addrs().collect(),
        connected: connected(entry.contact.key()),
        since: entry.since,
        last_seen: entry.last_seen,
        last_useful: entry.last_useful(),
        failures: entry.failures().into(),
        rtt: entry.rtt.smoothed(),
    }
}
