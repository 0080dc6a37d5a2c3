//! The peers of one distance range: up to k of them, and those that wait for a place.
//!
//! Knows: seniority and failures. Must not know: which range it is.

use std::sync::Arc;

use libp2p_identity::PeerId;

use super::entry::{Entry, FORGOTTEN_AFTER};
use crate::core::contact::Contact;
use crate::core::key::Key;
use crate::core::time::Timestamp;

/// A k-bucket: entries in order of seniority.
#[derive(Debug, Default)]
pub(crate) struct Bucket {
    /// The entries' keys, in their order: a bucket is searched, and measured against a target, in one sweep of memory,
    /// without a look at each entry or at its contact, which lies elsewhere.
    keys: Vec<Key>,
    entries: Vec<Entry>,
    /// With their keys, for the same reason; the last began to wait last.
    waiting: Vec<(Key, Arc<Contact>)>,
}

/// A bucket has room for so many entries at first.
const FIRST_ROOM: usize = 4;

/// What became of a peer that was offered to a bucket.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Offer {
    /// It is a new entry.
    Added,
    /// It is a new entry, in place of a questionable one.
    Replaced(PeerId),
    /// It was an entry before.
    Known,
    /// There is no room.
    Full,
    /// Its networks have as many entries as they may.
    Crowded,
}

impl Bucket {
    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The entries' keys, in their order.
    pub(crate) fn keys(&self) -> &[Key] {
        &self.keys
    }

    pub(crate) fn get(&self, key: &Key) -> Option<&Entry> {
        self.position(key).map(|at| &self.entries[at])
    }

    pub(crate) fn get_mut(&mut self, key: &Key) -> Option<&mut Entry> {
        self.position(key).map(|at| &mut self.entries[at])
    }

    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Whether a peer that is no entry could become one now.
    pub(crate) fn has_room(&self, capacity: usize) -> bool {
        self.entries.len() < capacity || self.entries.iter().any(Entry::is_questionable)
    }

    /// Offers a peer that has just answered. A live entry never gives way to it.
    pub(crate) fn offer(&mut self, now: Timestamp, contact: &Arc<Contact>, capacity: usize) -> Offer {
        if let Some(entry) = self.get_mut(contact.key()) {
            entry.contact = entry.contact.merged(contact);
            entry.last_seen = now;
            entry.failures = 0;
            entry.unreachable = false;
            return Offer::Known;
        }
        if self.entries.len() < capacity {
            self.push(now, contact, capacity);
            return Offer::Added;
        }
        let worst = (0..self.entries.len()).max_by_key(|i| self.entries[*i].failures);
        match worst.filter(|i| self.entries[*i].is_questionable()) {
            Some(worst) => {
                let old = self.take(worst);
                self.push(now, contact, capacity);
                Offer::Replaced(*old.contact.peer())
            }
            None => Offer::Full,
        }
    }

    /// Remembers a peer that found no room; the longest waiting makes room for it.
    pub(crate) fn wait(&mut self, contact: Arc<Contact>, capacity: usize) {
        self.forget_waiting(contact.key());
        if self.waiting.len() >= capacity {
            self.waiting.remove(0);
        }
        self.waiting.push((*contact.key(), contact));
    }

    /// The peer that began to wait last, which is the likeliest to be alive.
    pub(crate) fn next_waiting(&mut self) -> Option<Arc<Contact>> {
        self.waiting.pop().map(|(_, contact)| contact)
    }

    /// Notes that an entry failed a request; `Some` if it is forgotten for it. A failure in a row counts only if
    /// `answers`, the number of answers of all peers, has grown since the one before.
    pub(crate) fn fail(&mut self, key: &Key, answers: u64) -> Option<PeerId> {
        let at = self.position(key)?;
        let entry = &mut self.entries[at];
        if entry.failures > 0 && entry.answers_at_failure == answers {
            return None;
        }
        entry.failures += 1;
        entry.answers_at_failure = answers;
        (entry.failures >= FORGOTTEN_AFTER).then(|| *self.take(at).contact.peer())
    }

    pub(crate) fn remove(&mut self, key: &Key) -> Option<PeerId> {
        self.forget_waiting(key);
        let at = self.position(key)?;
        Some(*self.take(at).contact.peer())
    }

    /// Moves what shares more than `prefix` bits with `local` into a bucket of its own.
    pub(crate) fn split(&mut self, local: &Key, prefix: u32) -> Bucket {
        let nearer = |key: &Key| key.common_prefix_len(local) > prefix;
        // What is near has come to stay and will grow: it gets the room that a full bucket needs.
        let mut split = Bucket {
            keys: Vec::with_capacity(self.keys.len()),
            entries: Vec::with_capacity(self.keys.len()),
            waiting: Vec::new(),
        };
        let mut keys = self.keys.iter();
        split.entries.extend(self.entries.extract_if(.., |_| keys.next().is_some_and(nearer)));
        split.keys.extend(self.keys.extract_if(.., |key| nearer(key)));
        split.waiting.extend(self.waiting.extract_if(.., |(key, _)| nearer(key)));
        split
    }

    fn position(&self, key: &Key) -> Option<usize> {
        self.keys.iter().position(|other| other == key)
    }

    /// Adds a new entry; a bucket takes no more memory than its capacity needs.
    fn push(&mut self, now: Timestamp, contact: &Arc<Contact>, capacity: usize) {
        let len = self.entries.len();
        if len == self.entries.capacity() || len == self.keys.capacity() {
            let room = (len * 2).clamp(FIRST_ROOM, capacity.max(FIRST_ROOM)).max(len + 1) - len;
            self.keys.reserve_exact(room);
            self.entries.reserve_exact(room);
        }
        self.keys.push(*contact.key());
        self.entries.push(Entry::new(now, Arc::clone(contact)));
        self.forget_waiting(contact.key());
    }

    fn take(&mut self, at: usize) -> Entry {
        self.keys.remove(at);
        self.entries.remove(at)
    }

    fn forget_waiting(&mut self, key: &Key) {
        self.waiting.retain(|(other, _)| other != key);
    }
}
