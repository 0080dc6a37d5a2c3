//! A k-bucket: up to k peers of one distance range, neighbours beyond that, and the peers that wait for a place.
//!
//! Knows: seniority and failures. Must not know: which range it covers, or which peers are neighbours.
//!
//! Entries are in order of seniority. Entries beyond the capacity are there because they are among the closest of all
//! to the node; when an entry leaves, the most senior of them takes its place.

use std::sync::Arc;
use std::time::Duration;

use libp2p_identity::PeerId;

use super::entry::{FORGOTTEN_AFTER, TableEntry};
use super::waiting::WaitingList;
use crate::core::contact::Contact;
use crate::core::key::{Distance, Key};
use crate::core::time::Timestamp;

/// A k-bucket.
#[derive(Debug, Default)]
pub(crate) struct Bucket {
    /// The entries' keys, in their order: a bucket is searched, and measured against a target, in one sweep of memory,
    /// without a look at the entries or their contacts, which lie elsewhere.
    keys: Vec<Key>,
    entries: Vec<TableEntry>,
    pub(super) waiting: WaitingList,
    challenge: Challenge,
}

/// The entry that is asked whether it is alive because others wait for a place: one at a time.
#[derive(Debug, Default)]
struct Challenge {
    asked: Option<Key>,
    /// Whether the last one answered.
    answered: bool,
    /// No entry is asked before this time.
    next: Timestamp,
}

/// Pause after an entry answered a challenge, before another of its bucket is challenged. Source: a peer restarts
/// within that time.
const FIRST_PAUSE: Duration = Duration::from_secs(10);
/// Pause after the second answer in a row and all that follow. Source: half of the interval in which entries are
/// checked anyway. Any failure in the bucket ends it.
const NEXT_PAUSE: Duration = Duration::from_secs(300);
/// A peer that gave a sign of life this recently is alive, unless its connection has just closed. Source: a process
/// takes as long to end and start again.
const MOMENT: Duration = Duration::from_secs(2);

/// Number of entries that a bucket allocates at first.
const FIRST_ROOM: usize = 4;

/// The outcome for a peer that was offered to the table.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// It is a new entry. These left the table for it: a questionable one, or peers that are no longer neighbours.
    Added(Vec<PeerId>),
    /// It was an entry before.
    Known,
    /// There is no room.
    Full,
    /// Its networks have as many entries as they may.
    Crowded,
}

impl Bucket {
    pub(crate) fn entries(&self) -> &[TableEntry] {
        &self.entries
    }

    /// The entries' keys, in their order.
    pub(crate) fn keys(&self) -> &[Key] {
        &self.keys
    }

    pub(crate) fn get(&self, key: &Key) -> Option<&TableEntry> {
        self.position(key).map(|at| &self.entries[at])
    }

    pub(crate) fn get_mut(&mut self, key: &Key) -> Option<&mut TableEntry> {
        self.position(key).map(|at| &mut self.entries[at])
    }

    /// The distances of the entries to `from`, questionable ones left out.
    pub(crate) fn live_distances(&self, from: &Key) -> impl Iterator<Item = Distance> {
        let live = self.keys.iter().zip(&self.entries).filter(|(_, entry)| !entry.is_questionable());
        live.map(|(key, _)| key.distance(from))
    }

    /// Whether a peer that is no entry could become one now.
    pub(crate) fn has_room(&self, capacity: usize) -> bool {
        self.entries.iter().filter(|entry| !entry.is_questionable()).count() < capacity
    }

    /// A peer has just answered. Returns whether it is an entry.
    pub(crate) fn on_answer(&mut self, now: Timestamp, contact: &Contact) -> bool {
        let Some(entry) = self.get_mut(contact.key()) else { return false };
        entry.on_answer(now, contact);
        if self.end_challenge(contact.key()) {
            let again = std::mem::replace(&mut self.challenge.answered, true);
            self.challenge.next = now + if again { NEXT_PAUSE } else { FIRST_PAUSE };
        }
        true
    }

    /// Makes an entry of a peer that is none and has just answered, if there is room. It may replace questionable
    /// entries, which are returned, but never a live one (rule A21). `None` if there is no room.
    pub(crate) fn insert(&mut self, now: Timestamp, contact: &Arc<Contact>, capacity: usize) -> Option<Vec<PeerId>> {
        if !self.has_room(capacity) {
            return None;
        }
        let mut replaced = Vec::new();
        while self.entries.len() >= capacity {
            let worst = (0..self.entries.len()).max_by_key(|at| self.entries[*at].failures());
            replaced.extend(worst.map(|worst| *self.take(worst).contact.peer()));
        }
        self.push(now, contact, capacity);
        Some(replaced)
    }

    /// Adds an entry whether there is room or not. Memory grows in steps, to no more than the capacity needs.
    pub(crate) fn push(&mut self, now: Timestamp, contact: &Arc<Contact>, capacity: usize) {
        let len = self.entries.len();
        if len == self.entries.capacity() || len == self.keys.capacity() {
            let room = (len * 2).clamp(FIRST_ROOM, capacity.max(FIRST_ROOM)).max(len + 1) - len;
            self.keys.reserve_exact(room);
            self.entries.reserve_exact(room);
        }
        self.keys.push(*contact.key());
        self.entries.push(TableEntry::new(now, Arc::clone(contact)));
        self.waiting.take(contact.key());
    }

    /// Moves an entry to those that wait.
    pub(crate) fn demote(&mut self, at: usize, capacity: usize) -> PeerId {
        let entry = self.take(at);
        let peer = *entry.contact.peer();
        self.waiting.push_entry(entry, capacity);
        peer
    }

    /// Whether an entry may be asked whether it is alive for the sake of those that wait.
    pub(crate) fn may_challenge(&self, now: Timestamp) -> bool {
        self.waiting.len() > 0 && self.challenge.asked.is_none() && self.challenge.next <= now
    }

    /// Makes an entry questionable that is unreachable, if a peer waits that was seen later. Returns whether there is
    /// one.
    pub(crate) fn demote_unreachable(&mut self) -> bool {
        let waiting = &self.waiting;
        let gone = |entry: &&mut TableEntry| entry.is_unreachable() && waiting.has_later(entry.last_seen);
        self.entries.iter_mut().find(gone).map(TableEntry::make_questionable).is_some()
    }

    /// An entry is being asked whether it is alive; no other is until the outcome is known.
    pub(crate) fn challenge(&mut self, key: &Key) {
        self.challenge.asked = Some(*key);
    }

    /// The entry without a sign of life for longest, of those that did not fail, are not `connected` and were not seen
    /// just now. `None` while one is being asked.
    pub(crate) fn longest_silent(&self, now: Timestamp, connected: impl Fn(&Key) -> bool) -> Option<&TableEntry> {
        if self.challenge.asked.is_some() {
            return None;
        }
        let silent = |entry: &&TableEntry| entry.failures() == 0 && entry.last_seen + MOMENT <= now;
        let silent = self.entries.iter().filter(silent).filter(|entry| !connected(entry.contact.key()));
        silent.min_by_key(|entry| entry.last_seen)
    }

    /// Whether this entry is being asked whether it is alive.
    pub(crate) fn is_challenged(&self, key: &Key) -> bool {
        self.challenge.asked.as_ref() == Some(key)
    }

    /// An entry is no longer asked. Returns whether it was.
    pub(crate) fn end_challenge(&mut self, key: &Key) -> bool {
        self.challenge.asked.take_if(|asked| asked == key).is_some()
    }

    /// Records that an entry failed a request. Returns it if it is removed for that.
    pub(crate) fn on_failure(&mut self, key: &Key, counts: bool, unreachable: bool) -> Option<PeerId> {
        let at = self.position(key)?;
        self.challenge = Challenge { asked: self.challenge.asked.filter(|asked| asked != key), ..Challenge::default() };
        let entry = &mut self.entries[at];
        entry.on_failure(counts, unreachable);
        (entry.failures() >= FORGOTTEN_AFTER).then(|| *self.take(at).contact.peer())
    }

    pub(crate) fn remove(&mut self, key: &Key) -> Option<PeerId> {
        self.waiting.take(key);
        let at = self.position(key)?;
        Some(*self.take(at).contact.peer())
    }

    /// Moves all that share more than `prefix` bits with `local` into a bucket of their own.
    pub(crate) fn split(&mut self, local: &Key, prefix: u32) -> Bucket {
        let nearer = |key: &Key| key.common_prefix_len(local) > prefix;
        // The new bucket is the one that will grow: it gets the memory that a full bucket needs.
        let mut split = Bucket {
            keys: Vec::with_capacity(self.keys.len()),
            entries: Vec::with_capacity(self.keys.len()),
            waiting: self.waiting.split(nearer),
            challenge: Challenge { asked: self.challenge.asked.take_if(|asked| nearer(asked)), ..Challenge::default() },
        };
        let mut keys = self.keys.iter();
        split.entries.extend(self.entries.extract_if(.., |_| keys.next().is_some_and(nearer)));
        split.keys.extend(self.keys.extract_if(.., |key| nearer(key)));
        split
    }

    fn position(&self, key: &Key) -> Option<usize> {
        self.keys.iter().position(|other| other == key)
    }

    fn take(&mut self, at: usize) -> TableEntry {
        let key = self.keys.remove(at);
        self.end_challenge(&key);
        self.entries.remove(at)
    }
}
