//! Addresses of peers and how far to trust each, above all of peers that are not in the table: clients, candidates and
//! first contacts.
//!
//! Knows: how each address became known, and when there was last a sign of the peer. Must not know: which peers serve,
//! or which failed. Bounded: the peers unused for longest are forgotten first, but those that the application named
//! only to make room for others that it named. Old notes count as forgotten.
//!
//! Peers of an earlier run are first contacts like those that the application names, but one that fails while others
//! are in the table is no longer asked first. *Dropped:* treating them as boot nodes: with 19 of 39 gone each lookup
//! asked all 19, for as long as the process lived.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::addresses::{AddrSource, Addresses};
use super::host::Host;
use crate::core::contact::Contact;
use crate::core::ip_group::IpGroup;
use crate::core::key::Key;
use crate::core::time::Timestamp;

/// The time for which the addresses of a peer are kept after the last sign of it, unless it is connected or the
/// application named it. Source: the IPFS specification's term for addresses, 30 min; clients that want to be found
/// connect every 10 min (rule A37), so that it takes three misses to lose one.
pub(crate) const ADDRESS_TIME: Duration = Duration::from_secs(30 * 60);
/// If networks are told apart, one network may fill 1/`SHARE` of the book. Source: it then takes eight networks to fill
/// it.
const SHARE: usize = 8;

/// Facts about a peer that its connection reveals.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LinkState {
    pub(crate) connected: bool,
    /// The host at the other end; `None` if it is not known, or on no network.
    pub(crate) host: Option<Host>,
}

/// The order in which peers are forgotten when there is no room: those that count as boot nodes last, before them those
/// that are connected, and among equals the longest unused first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct NoteRank {
    boot_node: bool,
    connected: bool,
    used: u64,
}

impl NoteRank {
    const FIRST_BOOT_NODE: NoteRank = NoteRank { boot_node: true, connected: false, used: 0 };
    const LAST: NoteRank = NoteRank { boot_node: true, connected: true, used: u64::MAX };
}

#[derive(Debug)]
struct Note {
    addrs: Addresses,
    rank: NoteRank,
    /// It counts as a boot node only since it was in the table before a restart, and until it fails.
    restored: bool,
    heard: Timestamp,
    group: Option<IpGroup>,
}

/// Contacts by key, which is shorter than a peer id.
#[derive(Debug, Default)]
pub(crate) struct AddressBook {
    notes: BTreeMap<Key, Note>,
    order: BTreeMap<NoteRank, Key>,
    /// The same by network, if networks are told apart.
    groups: BTreeMap<(IpGroup, NoteRank), Key>,
    uses: u64,
    now: Timestamp,
    limit: usize,
    by_group: bool,
}

impl AddressBook {
    /// A book for at most `limit` peers; `by_group` if no single network may fill it.
    pub(crate) fn new(limit: usize, by_group: bool) -> AddressBook {
        AddressBook { limit, by_group, ..AddressBook::default() }
    }

    /// Sets the time.
    pub(crate) fn advance(&mut self, now: Timestamp) {
        self.now = self.now.max(now);
    }

    /// Notes a peer's addresses, such as those that an answer names (rule L40). `link` is what its connection reveals,
    /// `entry` what the table has of it.
    pub(crate) fn note(
        &mut self,
        contact: &Arc<Contact>,
        source: AddrSource,
        link: &LinkState,
        entry: Option<&Arc<Contact>>,
    ) {
        let key = *contact.key();
        // A note is taken out and put back, since its place in the order changes with it.
        let mut note = self.take(&key).unwrap_or_else(|| {
            // A peer of the table that the book has forgotten keeps the addresses of its entry.
            let known = entry.map_or_else(|| contact.with_addrs([]), Arc::clone);
            let (addrs, rank) = (Addresses::new(&known), NoteRank::default());
            Note { addrs, rank, restored: false, heard: self.now, group: None }
        });
        if source == AddrSource::Application {
            (note.rank.boot_node, note.restored) = (true, false);
        }
        (note.rank.connected, note.rank.used, note.heard) = (link.connected, self.next_use(), self.now);
        note.addrs.add(self.now, contact, source, link.host.as_ref());
        // The network that its best address is in now: it may have moved, and then counts for another one.
        let group_of = |contact: &Contact| contact.raw_addrs().find_map(|addr| IpGroup::of_addr(addr, None));
        let group = if self.by_group { group_of(note.addrs.contact()) } else { None };
        note.group = group;
        self.put(key, note);
        self.make_room(group);
    }

    /// The contact of a peer, unless it is too old.
    pub(crate) fn get(&self, key: &Key) -> Option<&Arc<Contact>> {
        self.addrs(key).map(Addresses::contact)
    }

    /// The same with how each address became known.
    pub(crate) fn addrs(&self, key: &Key) -> Option<&Addresses> {
        self.notes.get(key).filter(|note| self.is_fresh(note)).map(|note| &note.addrs)
    }

    /// A peer was asked for: others are forgotten before it.
    pub(crate) fn on_used(&mut self, key: &Key) {
        let used = self.next_use();
        self.change(key, |note| note.rank.used = used);
    }

    /// A noted peer was in the table before a restart: it counts as a boot node until it fails.
    pub(crate) fn keep_as_boot_node(&mut self, key: &Key) {
        self.change(key, |note| {
            note.restored |= !note.rank.boot_node;
            note.rank.boot_node = true;
        });
    }

    /// A peer failed while others answer: it no longer counts as a boot node, unless the application named it.
    pub(crate) fn on_failure(&mut self, key: &Key) {
        if self.notes.get(key).is_some_and(|note| note.restored) {
            self.change(key, |note| (note.restored, note.rank.boot_node) = (false, false));
        }
    }

    /// A peer is connected now, or no longer; in either case it is alive.
    pub(crate) fn set_connected(&mut self, key: &Key, yes: bool) {
        let now = self.now;
        self.change(key, |note| {
            if yes && !note.rank.connected {
                note.addrs.on_connected();
            }
            (note.rank.connected, note.heard) = (yes, now);
        });
    }

    /// A peer is not at the addresses of `wrong`. If nothing else is known of a boot node it keeps them: only the application
    /// can take back what it said.
    pub(crate) fn forget(&mut self, key: &Key, wrong: &Contact) {
        let Some(mut note) = self.take(key) else { return };
        let any_left = note.addrs.contact().raw_addrs().any(|addr| !wrong.has_addr(addr));
        if any_left {
            note.addrs.retain(|addr| !wrong.has_addr(addr));
        }
        if any_left || note.rank.boot_node {
            self.put(*key, note);
        }
    }

    /// A peer was reached neither at the addresses of `failed` nor at any other.
    pub(crate) fn on_dial_failed(&mut self, key: &Key, failed: &Contact) {
        if let Some(note) = self.notes.get_mut(key) {
            note.addrs.on_failed(failed);
        }
    }

    /// Keeps of a peer's addresses only those of `contact`; without any the peer is forgotten.
    pub(crate) fn keep(&mut self, contact: &Contact) {
        let Some(mut note) = self.take(contact.key()) else { return };
        note.addrs.retain(|addr| contact.has_addr(addr));
        if note.addrs.contact().has_addrs() {
            self.put(*contact.key(), note);
        }
    }

    /// All contacts, however old.
    pub(crate) fn contacts(&self) -> impl Iterator<Item = &Arc<Contact>> {
        self.notes.values().map(|note| note.addrs.contact())
    }

    /// The peers that the application named (rule A5), and those that were in the table before a restart, the longest
    /// unused first.
    pub(crate) fn boot_nodes(&self) -> impl Iterator<Item = &Arc<Contact>> {
        self.order.range(NoteRank::FIRST_BOOT_NODE..).filter_map(|(_, key)| self.get(key))
    }

    /// Whether the application named a peer.
    pub(crate) fn has_boot_nodes(&self) -> bool {
        let mut all = self.order.range(NoteRank::FIRST_BOOT_NODE..);
        all.any(|(_, key)| self.notes.get(key).is_some_and(|note| !note.restored))
    }

    fn is_fresh(&self, note: &Note) -> bool {
        note.rank.boot_node || note.rank.connected || self.now.since(note.heard) < ADDRESS_TIME
    }

    fn next_use(&mut self) -> u64 {
        self.uses += 1;
        self.uses
    }

    /// Makes room where there are too many peers, of all or of this network, and forgets some of what is old.
    fn make_room(&mut self, group: Option<IpGroup>) {
        if let Some(group) = group {
            let all = (group, NoteRank::default())..=(group, NoteRank::LAST);
            let mut members = self.groups.range(all).map(|(_, key)| *key);
            let (first, share) = (members.next(), (self.limit / SHARE).max(1));
            if members.count() >= share {
                first.and_then(|first| self.take(&first));
            }
        }
        // Two for each that is added, so that what is old is gone sooner or later without a search through all.
        for _ in 0..2 {
            let Some((_, &first)) = self.order.first_key_value() else { return };
            let old = self.notes.get(&first).is_some_and(|note| !self.is_fresh(note));
            if old || self.notes.len() > self.limit {
                self.take(&first);
            }
        }
    }

    /// Changes a note, if there is one, and its place in the order with it.
    fn change(&mut self, key: &Key, change: impl FnOnce(&mut Note)) {
        if let Some(mut note) = self.take(key) {
            change(&mut note);
            self.put(*key, note);
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
