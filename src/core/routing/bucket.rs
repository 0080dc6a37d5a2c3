//! The peers of one distance range: up to k of them, neighbours beyond that, and those that wait for a place.
//!
//! Knows: seniority and failures. Must not know: which range it is, or who is a neighbour.
//!
//! Entries are in order of seniority. Those beyond the capacity are there because they are among the closest of all to
//! the node; where an entry leaves, the most senior of them has its place.

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
    /// without a look at each entry or at its contact, which lies elsewhere.
    keys: Vec<Key>,
    entries: Vec<TableEntry>,
    pub(super) waiting: WaitingList,
    challenge: Challenge,
}

/// Who is asked whether it is there since others wait for a place: one at a time.
#[derive(Debug, Default)]
struct Challenge {
    asked: Option<Key>,
    /// Whether the last one answered.
    answered: bool,
    /// Nobody is asked before this.
    next: Timestamp,
}

/// After an entry that was asked for the sake of those who wait has answered, nobody in its bucket is asked for that before
/// this time has passed. Source: a peer restarts within as long.
const FIRST_PAUSE: Duration = Duration::from_secs(10);
/// Who was heard of this recently is there, unless its connection has just closed. Source: a process that ends and comes
/// back takes as long.
const MOMENT: Duration = Duration::from_secs(2);
/// The same after a second answer, and all that follow. Source: half of the interval in which entries are asked anyway. A
/// failure in the bucket, whoever met it, ends it.
const NEXT_PAUSE: Duration = Duration::from_secs(300);

/// A bucket has room for so many entries at first.
const FIRST_ROOM: usize = 4;

/// What became of a peer that was offered to a bucket.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// It is a new entry, and these gave way to it, if any: a questionable one, or who is no longer a neighbour.
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

    /// How many entries are not questionable.
    pub(crate) fn live(&self) -> usize {
        self.entries.iter().filter(|entry| !entry.is_questionable()).count()
    }

    /// How many entries that are not questionable are nearer to `to` than `distance`.
    pub(crate) fn live_within(&self, to: &Key, distance: &Distance) -> usize {
        let near = self.keys.iter().zip(&self.entries).filter(|(key, _)| key.distance(to) < *distance);
        near.filter(|(_, entry)| !entry.is_questionable()).count()
    }

    /// Whether a peer that is no entry could become one now.
    pub(crate) fn has_room(&self, capacity: usize) -> bool {
        self.live() < capacity
    }

    /// A peer has just answered. Tells whether it is an entry.
    pub(crate) fn answered(&mut self, now: Timestamp, contact: &Contact) -> bool {
        let Some(at) = self.position(contact.key()) else { return false };
        self.entries[at].on_answer(now, contact);
        if self.end_challenge(contact.key()) {
            let again = std::mem::replace(&mut self.challenge.answered, true);
            self.challenge.next = now + if again { NEXT_PAUSE } else { FIRST_PAUSE };
        }
        true
    }

    /// Makes an entry of a peer that is none and has just answered, if there is room. A live entry never gives way to it.
    /// Returns who did; `None` where there is no room.
    pub(crate) fn place(&mut self, now: Timestamp, contact: &Arc<Contact>, capacity: usize) -> Option<Vec<PeerId>> {
        if !self.has_room(capacity) {
            return None;
        }
        let mut gone = Vec::new();
        while self.entries.len() >= capacity {
            let worst = (0..self.entries.len()).max_by_key(|at| self.entries[*at].failures());
            gone.extend(worst.map(|worst| *self.take(worst).contact.peer()));
        }
        self.push(now, contact, capacity);
        Some(gone)
    }

    /// Adds a new entry, which is no entry yet, whether there is room or not; a bucket takes no more memory than its
    /// capacity needs.
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

    /// Has an entry wait for a place again.
    pub(crate) fn demote(&mut self, at: usize, capacity: usize) -> PeerId {
        let entry = self.take(at);
        let peer = *entry.contact.peer();
        self.waiting.push_entry(entry, capacity);
        peer
    }

    /// Whether an entry may be asked whether it is there for the sake of those who wait.
    pub(crate) fn may_challenge(&self, now: Timestamp) -> bool {
        self.waiting.len() > 0 && self.challenge.asked.is_none() && self.challenge.next <= now
    }

    /// Has an entry give way that could not be reached since it last answered, if someone waits who was there later. Tells
    /// whether there is one.
    pub(crate) fn demote_unreachable(&mut self) -> bool {
        let waiting = &self.waiting;
        let gone = |entry: &&mut TableEntry| entry.is_unreachable() && waiting.has_later(entry.last_seen);
        self.entries.iter_mut().find(gone).map(TableEntry::give_way).is_some()
    }

    /// An entry is asked whether it is there; nobody else is, unless others are silent for long, until its end is known.
    pub(crate) fn challenge(&mut self, key: &Key) {
        self.challenge.asked = Some(*key);
    }

    /// The one without a sign of life for longest, of those that did not fail and are not `connected`; nobody while one is
    /// asked, nor one that was there a moment ago.
    pub(crate) fn longest_silent(&self, now: Timestamp, connected: impl Fn(&Key) -> bool) -> Option<&TableEntry> {
        let silent = |entry: &TableEntry| entry.failures() == 0 && entry.last_seen + MOMENT <= now;
        let open = |entry: &&TableEntry| silent(entry) && !connected(entry.contact.key());
        let open = self.entries.iter().filter(|_| self.challenge.asked.is_none()).filter(open);
        open.min_by_key(|entry| entry.last_seen)
    }

    /// Whether this entry is asked so.
    pub(crate) fn is_challenged(&self, key: &Key) -> bool {
        self.challenge.asked.as_ref() == Some(key)
    }

    /// An entry is no longer asked; tells whether it was.
    pub(crate) fn end_challenge(&mut self, key: &Key) -> bool {
        self.challenge.asked.take_if(|asked| asked == key).is_some()
    }

    /// Notes that an entry failed a request; `Some` if it is forgotten for it.
    pub(crate) fn on_failure(&mut self, key: &Key, counts: bool, unreachable: bool) -> Option<PeerId> {
        let at = self.position(key)?;
        self.end_challenge(key);
        (self.challenge.answered, self.challenge.next) = (false, Timestamp::ZERO);
        let entry = &mut self.entries[at];
        entry.on_failure(counts, unreachable);
        (entry.failures() >= FORGOTTEN_AFTER).then(|| *self.take(at).contact.peer())
    }

    pub(crate) fn remove(&mut self, key: &Key) -> Option<PeerId> {
        self.waiting.take(key);
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
