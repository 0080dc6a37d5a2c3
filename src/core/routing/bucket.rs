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
    entries: Vec<Entry>,
    waiting: Vec<Arc<Contact>>,
}

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
}

impl Bucket {
    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub(crate) fn get(&self, key: &Key) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.key == *key)
    }

    pub(crate) fn get_mut(&mut self, key: &Key) -> Option<&mut Entry> {
        self.entries.iter_mut().find(|entry| entry.key == *key)
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
            self.entries.push(Entry::new(now, Arc::clone(contact)));
            self.forget_waiting(contact.key());
            return Offer::Added;
        }
        let worst = (0..self.entries.len()).max_by_key(|i| self.entries[*i].failures);
        match worst.filter(|i| self.entries[*i].is_questionable()) {
            Some(worst) => {
                let old = self.entries.remove(worst);
                self.entries.push(Entry::new(now, Arc::clone(contact)));
                self.forget_waiting(contact.key());
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
        self.waiting.push(contact);
    }

    /// The peer that began to wait last, which is the likeliest to be alive.
    pub(crate) fn next_waiting(&mut self) -> Option<Arc<Contact>> {
        self.waiting.pop()
    }

    /// Notes that an entry failed a request; `Some` if it is forgotten for it. A failure in a row counts only if
    /// `answers`, the number of answers of all peers, has grown since the one before.
    pub(crate) fn fail(&mut self, key: &Key, answers: u64) -> Option<PeerId> {
        let at = self.entries.iter().position(|entry| entry.key == *key)?;
        let entry = &mut self.entries[at];
        if entry.failures > 0 && entry.answers_at_failure == answers {
            return None;
        }
        entry.failures += 1;
        entry.answers_at_failure = answers;
        (entry.failures >= FORGOTTEN_AFTER).then(|| *self.entries.remove(at).contact.peer())
    }

    pub(crate) fn remove(&mut self, key: &Key) -> Option<PeerId> {
        self.forget_waiting(key);
        let at = self.entries.iter().position(|entry| entry.key == *key)?;
        Some(*self.entries.remove(at).contact.peer())
    }

    /// Moves what shares more than `prefix` bits with `local` into a bucket of its own.
    pub(crate) fn split(&mut self, local: &Key, prefix: u32) -> Bucket {
        let nearer = |key: &Key| key.common_prefix_len(local) > prefix;
        let (near, far) = self.entries.drain(..).partition(|entry| nearer(&entry.key));
        self.entries = far;
        let (waiting_near, waiting_far) = self.waiting.drain(..).partition(|contact| nearer(contact.key()));
        self.waiting = waiting_far;
        Bucket { entries: near, waiting: waiting_near }
    }

    fn forget_waiting(&mut self, key: &Key) {
        self.waiting.retain(|contact| contact.key() != key);
    }
}
