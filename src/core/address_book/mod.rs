//! Addresses of peers, with what each is worth: those of clients, candidates and first contacts above all.
//!
//! Knows: how each address became known, and when the peer was last heard of. Must not know: who serves, or who failed.
//! Bounded: the longest unused are forgotten first, those that the application named only for others that it named; and
//! what is old is as good as forgotten.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::addresses::{AddrSource, Addresses};
use super::contact::Contact;
use super::host::Host;
use super::ip_group::IpGroup;
use super::key::Key;
use super::time::Timestamp;

/// The addresses of a peer that is not connected, and that the application did not name, are kept for so long after it was
/// heard of. Source: the IPFS specification's term for addresses, 30 min; clients that want to be found connect every 10
/// min (rule A37), so that it takes three misses to lose one.
pub(crate) const ADDRESS_TIME: Duration = Duration::from_secs(30 * 60);
/// Where peers are told apart by networks, those of one network get this part of the book at most. Source: so it takes eight
/// networks to fill it.
const SHARE: usize = 8;

/// What a connection tells of a peer.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LinkState {
    pub(crate) connected: bool,
    /// Where the other end is; `None` where that is not known, or on no network.
    pub(crate) host: Option<Host>,
}

/// Which go first when there is no room: those that the application did not name, nor this node remembers, of them those
/// that are not connected, of them the longest unused.
type NoteRank = (bool, bool, u64);

#[derive(Debug)]
struct Note {
    addrs: Addresses,
    rank: NoteRank,
    /// It counts as named since it was in the table of an earlier life, and only until it fails.
    remembered: bool,
    heard: Timestamp,
    group: Option<IpGroup>,
}

/// Contacts by their places in the keyspace, which are shorter than peer ids.
#[derive(Debug, Default)]
pub(crate) struct AddressBook {
    notes: BTreeMap<Key, Note>,
    order: BTreeMap<NoteRank, Key>,
    /// The same of each network, where they count.
    groups: BTreeMap<(IpGroup, NoteRank), Key>,
    next: u64,
    now: Timestamp,
    limit: usize,
    by_group: bool,
}

impl AddressBook {
    /// Holds so many peers; `by_group` if no network may fill it.
    pub(crate) fn new(limit: usize, by_group: bool) -> AddressBook {
        AddressBook { limit, by_group, ..AddressBook::default() }
    }

    /// It is this late.
    pub(crate) fn advance(&mut self, now: Timestamp) {
        self.now = self.now.max(now);
    }

    /// Notes a peer's addresses; `seen` is the host at which it is seen, if it is connected, and `entry` what the table has
    /// of it.
    pub(crate) fn note(
        &mut self,
        contact: &Arc<Contact>,
        source: AddrSource,
        seen: &LinkState,
        entry: Option<&Arc<Contact>>,
    ) {
        let key = *contact.key();
        let old = self.take(&key);
        let named = source == AddrSource::Application || old.as_ref().is_some_and(|old| old.rank.0);
        let remembered = source != AddrSource::Application && old.as_ref().is_some_and(|old| old.remembered);
        let (rank, heard) = ((named, seen.connected, self.next), self.now);
        let former = || entry.map_or_else(|| contact.with_addrs([]), Arc::clone);
        let mut addrs = old.map_or_else(|| Addresses::new(&former()), |old| old.addrs);
        addrs.add(self.now, contact.raw_addrs(), source, seen.host.as_ref());
        let group = if self.by_group { group_of(addrs.contact()) } else { None };
        self.next += 1;
        self.put(key, Note { addrs, rank, remembered, heard, group });
        self.make_room(group);
    }

    /// What is known of a peer, unless it is too old.
    pub(crate) fn get(&self, key: &Key) -> Option<&Arc<Contact>> {
        self.addrs(key).map(Addresses::contact)
    }

    /// The same with how each address became known.
    pub(crate) fn addrs(&self, key: &Key) -> Option<&Addresses> {
        self.notes.get(key).filter(|note| self.is_fresh(note)).map(|note| &note.addrs)
    }

    /// Someone wants to know of this peer: others go first when there is no room.
    pub(crate) fn on_used(&mut self, key: &Key) {
        if let Some(mut note) = self.take(key) {
            note.rank.2 = self.next;
            self.next += 1;
            self.put(*key, note);
        }
    }

    /// A noted peer was in the table of an earlier life: it counts as named, until it fails.
    pub(crate) fn keep_as_boot_node(&mut self, key: &Key) {
        if let Some(mut note) = self.take(key) {
            note.remembered |= !note.rank.0;
            note.rank.0 = true;
            self.put(*key, note);
        }
    }

    /// A peer failed where others answer: if it was only remembered, it is a peer like any other from now on.
    pub(crate) fn on_failure(&mut self, key: &Key) {
        if !self.notes.get(key).is_some_and(|note| note.remembered) {
            return;
        }
        if let Some(mut note) = self.take(key) {
            (note.remembered, note.rank.0) = (false, false);
            self.put(*key, note);
        }
    }

    /// A peer is connected now, or no longer; in either case it is there.
    pub(crate) fn set_connected(&mut self, key: &Key, yes: bool) {
        if let Some(mut note) = self.take(key) {
            if yes && !note.rank.1 {
                note.addrs.connected();
            }
            note.rank.1 = yes;
            note.heard = self.now;
            self.put(*key, note);
        }
    }

    /// A peer is not at these addresses. The application's word is for it to take back, where it is all that is known.
    pub(crate) fn forget(&mut self, key: &Key, wrong: &[Bytes]) {
        let Some(mut note) = self.take(key) else { return };
        let any_left = note.addrs.contact().raw_addrs().iter().any(|addr| !wrong.contains(addr));
        if any_left || !note.rank.0 {
            note.addrs.keep(|addr| !wrong.contains(addr));
        }
        if any_left || note.rank.0 {
            self.put(*key, note);
        }
    }

    /// A peer was not reached at these addresses, nor at any other.
    pub(crate) fn failed(&mut self, key: &Key, addrs: &[Bytes]) {
        if let Some(note) = self.notes.get_mut(key) {
            note.addrs.failed(addrs);
        }
    }

    /// Of a peer's addresses only those of `contact` are left; without any it is forgotten.
    pub(crate) fn keep(&mut self, contact: &Contact) {
        let Some(mut note) = self.take(contact.key()) else { return };
        note.addrs.keep(|addr| contact.raw_addrs().contains(addr));
        if note.addrs.contact().has_addrs() {
            self.put(*contact.key(), note);
        }
    }

    /// All that is noted.
    pub(crate) fn contacts(&self) -> impl Iterator<Item = &Arc<Contact>> {
        self.notes.values().map(|note| note.addrs.contact())
    }

    /// The peers that the application named, and those that are remembered, the longest unused first.
    pub(crate) fn boot_nodes(&self) -> impl Iterator<Item = &Arc<Contact>> {
        let named = self.order.range((true, false, 0)..);
        named.filter_map(|(_, key)| self.get(key))
    }

    /// Whether the application named anyone.
    pub(crate) fn has_boot_nodes(&self) -> bool {
        let mut named = self.order.range((true, false, 0)..);
        named.any(|(_, key)| self.notes.get(key).is_some_and(|note| !note.remembered))
    }

    fn is_fresh(&self, note: &Note) -> bool {
        let (named, connected, _) = note.rank;
        named || connected || self.now.since(note.heard) < ADDRESS_TIME
    }

    /// Forgets whoever goes first while there are too many, of all or of this network, and some of what is old.
    fn make_room(&mut self, group: Option<IpGroup>) {
        if let Some(group) = group {
            let all = (group, (false, false, 0))..=(group, (true, true, u64::MAX));
            let mut members = self.groups.range(all).map(|(_, key)| *key);
            let (first, share) = (members.next(), (self.limit / SHARE).max(1));
            if members.count() >= share {
                first.and_then(|first| self.take(&first));
            }
        }
        for _ in 0..2 {
            let Some(first) = self.order.first_key_value().map(|(_, key)| *key) else { return };
            let old = self.notes.get(&first).is_some_and(|note| !self.is_fresh(note));
            if old || self.notes.len() > self.limit {
                self.take(&first);
            }
        }
    }

    fn take(&mut self, key: &Key) -> Option<Note> {
        let note = self.notes.remove(key)?;
        self.order.remove(&note.rank);
        if let Some(group) = note.group {
            self.groups.remove(&(group, note.rank));
        }
        Some(note)
    }

    fn put(&mut self, key: Key, note: Note) {
        self.order.insert(note.rank, key);
        if let Some(group) = note.group {
            self.groups.insert((group, note.rank), key);
        }
        self.notes.insert(key, note);
    }
}

/// The network of its best address.
fn group_of(contact: &Contact) -> Option<IpGroup> {
    contact.raw_addrs().iter().find_map(|addr| IpGroup::of_addr(addr, None))
}
