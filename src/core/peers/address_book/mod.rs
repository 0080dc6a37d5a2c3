//! Addresses of peers and how far to trust each, above all of peers that are not in the table: clients, candidates and
//! first contacts.
//!
//! Knows: how each address became known, and when there was last a sign of the peer. Must not know: which peers serve,
//! or which failed. Bounded: the peers unused for longest are forgotten first, but those that the application named
//! only to make room for others that it named. Old notes count as forgotten.
//!
//! A note takes about 200 bytes, a third of what the contact and its places in three maps would take: id and addresses
//! are packed into one allocation, from which a contact is made when someone asks, and the maps refer to it by number.
//!
//! Peers of an earlier run are first contacts like those that the application names, but one that fails while others
//! are in the table is no longer asked first. *Dropped:* treating them as boot nodes: with 19 of 39 gone each lookup
//! asked all 19, for as long as the process lived.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::addresses::{AddrSource, Addresses, Packed};
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
/// that are connected, and among equals the longest unused first. One number: two flags above the number of the use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct NoteRank(u64);

impl NoteRank {
    const BOOT_NODE: u64 = 1 << 63;
    const CONNECTED: u64 = 1 << 62;
    const FIRST_BOOT_NODE: NoteRank = NoteRank(NoteRank::BOOT_NODE);
    const LAST: NoteRank = NoteRank(u64::MAX);

    fn is_boot_node(self) -> bool {
        self.0 & NoteRank::BOOT_NODE != 0
    }

    fn is_connected(self) -> bool {
        self.0 & NoteRank::CONNECTED != 0
    }

    fn set_boot_node(&mut self, yes: bool) {
        self.set(NoteRank::BOOT_NODE, yes);
    }

    fn set_connected(&mut self, yes: bool) {
        self.set(NoteRank::CONNECTED, yes);
    }

    fn set_used(&mut self, used: u64) {
        self.0 = self.0 & (NoteRank::BOOT_NODE | NoteRank::CONNECTED) | used;
    }

    fn set(&mut self, flag: u64, yes: bool) {
        self.0 = if yes { self.0 | flag } else { self.0 & !flag };
    }
}

#[derive(Debug)]
struct Note {
    key: Key,
    addrs: Packed,
    rank: NoteRank,
    heard: Timestamp,
    group: Option<IpGroup>,
    /// It counts as a boot node only since it was in the table before a restart, and until it fails.
    restored: bool,
}

impl Note {
    fn change_addrs(&mut self, change: impl FnOnce(&mut Addresses)) {
        if let Some(mut addrs) = self.addrs.unpack(&self.key) {
            change(&mut addrs);
            self.addrs = Packed::new(&addrs);
        }
    }
}

/// The number of a note: its place among all.
type NoteId = u32;

/// Notes by key, which is shorter than a peer id.
#[derive(Debug, Default)]
pub(crate) struct AddressBook {
    notes: Vec<Option<Note>>,
    /// Places among the notes that are free.
    free: Vec<NoteId>,
    /// The notes by the first bits of their keys.
    by_key: BTreeSet<(u64, NoteId)>,
    order: BTreeMap<NoteRank, NoteId>,
    /// The same by network, if networks are told apart.
    groups: BTreeMap<(IpGroup, NoteRank), NoteId>,
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
        let id = self.find(&key).unwrap_or_else(|| {
            // A peer of the table that the book has forgotten keeps the addresses of its entry.
            let known = entry.map_or_else(|| contact.with_addrs([]), Arc::clone);
            self.insert(key, Packed::new(&Addresses::new(&known)))
        });
        let (used, now, by_group) = (self.next_use(), self.now, self.by_group);
        let mut group = None;
        self.change(id, |note| {
            if source == AddrSource::Application {
                note.rank.set_boot_node(true);
                note.restored = false;
            }
            note.rank.set_connected(link.connected);
            note.rank.set_used(used);
            note.heard = now;
            note.change_addrs(|addrs| addrs.add(now, contact, source, link.host.as_ref()));
            // The network that its best address is in now: it may have moved, and then counts for another one.
            let network = |addr| IpGroup::of_addr(addr, None);
            note.group = if by_group { note.addrs.addrs().find_map(network) } else { None };
            group = note.group;
        });
        self.make_room(group);
    }

    /// The contact of a peer, unless it is too old.
    pub(crate) fn get(&self, key: &Key) -> Option<Arc<Contact>> {
        self.fresh(key)?.addrs.contact(key)
    }

    /// The same with how each address became known.
    pub(crate) fn addrs(&self, key: &Key) -> Option<Addresses> {
        self.fresh(key)?.addrs.unpack(key)
    }

    /// Whether a peer is known at exactly these addresses, in this order: then this contact can stand for what is known
    /// of it.
    pub(crate) fn is_known_as(&self, contact: &Contact) -> bool {
        self.fresh(contact.key()).is_some_and(|note| note.addrs.addrs().eq(contact.raw_addrs()))
    }

    /// The same of its addresses that are not hearsay.
    pub(crate) fn is_known_first_hand_as(&self, contact: &Contact) -> bool {
        self.fresh(contact.key()).is_some_and(|note| note.addrs.first_hand().eq(contact.raw_addrs()))
    }

    /// A peer was asked for: others are forgotten before it.
    pub(crate) fn on_used(&mut self, key: &Key) {
        let used = self.next_use();
        self.change_at(key, |note| note.rank.set_used(used));
    }

    /// A noted peer was in the table before a restart: it counts as a boot node until it fails.
    pub(crate) fn keep_as_boot_node(&mut self, key: &Key) {
        self.change_at(key, |note| {
            note.restored |= !note.rank.is_boot_node();
            note.rank.set_boot_node(true);
        });
    }

    /// A peer failed while others answer: it no longer counts as a boot node, unless the application named it.
    pub(crate) fn on_failure(&mut self, key: &Key) {
        self.change_at(key, |note| {
            if std::mem::take(&mut note.restored) {
                note.rank.set_boot_node(false);
            }
        });
    }

    /// A peer is connected now, or no longer; in either case it is alive.
    pub(crate) fn set_connected(&mut self, key: &Key, yes: bool) {
        let now = self.now;
        self.change_at(key, |note| {
            if yes && !note.rank.is_connected() {
                note.change_addrs(Addresses::on_connected);
            }
            note.rank.set_connected(yes);
            note.heard = now;
        });
    }

    /// A peer is not at the addresses of `wrong`. If nothing else is known of a boot node it keeps them: only the
    /// application can take back what it said.
    pub(crate) fn forget(&mut self, key: &Key, wrong: &Contact) {
        let Some(id) = self.find(key) else { return };
        let Some(note) = self.at_mut(id) else { return };
        if note.addrs.addrs().any(|addr| !wrong.has_addr(addr)) {
            note.change_addrs(|addrs| addrs.retain(|addr| !wrong.has_addr(addr)));
        } else if !note.rank.is_boot_node() {
            self.remove(id);
        }
    }

    /// A peer was reached neither at the addresses of `failed` nor at any other.
    pub(crate) fn on_dial_failed(&mut self, key: &Key, failed: &Contact) {
        if let Some(note) = self.find(key).and_then(|id| self.at_mut(id)) {
            note.change_addrs(|addrs| addrs.on_failed(failed));
        }
    }

    /// Keeps of a peer's addresses only those of `contact`; without any the peer is forgotten.
    pub(crate) fn keep(&mut self, contact: &Contact) {
        let Some(id) = self.find(contact.key()) else { return };
        let Some(note) = self.at_mut(id) else { return };
        note.change_addrs(|addrs| addrs.retain(|addr| contact.has_addr(addr)));
        if note.addrs.addrs().next().is_none() {
            self.remove(id);
        }
    }

    /// All contacts, however old.
    pub(crate) fn contacts(&self) -> impl Iterator<Item = Arc<Contact>> {
        self.by_key.iter().filter_map(|(_, id)| self.at(*id)).filter_map(|note| note.addrs.contact(&note.key))
    }

    /// The keys of the peers that the application named (rule A5), and of those that were in the table before a
    /// restart, the longest unused first.
    pub(crate) fn boot_nodes(&self) -> impl Iterator<Item = &Key> {
        self.noted_boot_nodes().map(|note| &note.key)
    }

    /// Whether the application named a peer.
    pub(crate) fn has_boot_nodes(&self) -> bool {
        self.noted_boot_nodes().any(|note| !note.restored)
    }

    fn noted_boot_nodes(&self) -> impl Iterator<Item = &Note> {
        self.order.range(NoteRank::FIRST_BOOT_NODE..).filter_map(|(_, id)| self.at(*id))
    }

    fn fresh(&self, key: &Key) -> Option<&Note> {
        self.at(self.find(key)?).filter(|note| self.is_fresh(note))
    }

    fn is_fresh(&self, note: &Note) -> bool {
        note.rank.is_boot_node() || note.rank.is_connected() || self.now.since(note.heard) < ADDRESS_TIME
    }

    fn next_use(&mut self) -> u64 {
        self.uses += 1;
        self.uses
    }

    /// Makes room where there are too many peers, of all or of this network, and forgets some of what is old.
    fn make_room(&mut self, group: Option<IpGroup>) {
        if let Some(group) = group {
            let all = (group, NoteRank::default())..=(group, NoteRank::LAST);
            let mut members = self.groups.range(all).map(|(_, id)| *id);
            let (first, share) = (members.next(), (self.limit / SHARE).max(1));
            if members.count() >= share
                && let Some(first) = first
            {
                self.remove(first);
            }
        }
        // Two for each that is added, so that what is old is gone sooner or later without a search through all.
        for _ in 0..2 {
            let Some((_, &first)) = self.order.first_key_value() else { return };
            let old = self.at(first).is_some_and(|note| !self.is_fresh(note));
            if old || self.order.len() > self.limit {
                self.remove(first);
            }
        }
    }

    /// Changes a note, if there is one, and its place in the orders with it.
    fn change_at(&mut self, key: &Key, change: impl FnOnce(&mut Note)) {
        if let Some(id) = self.find(key) {
            self.change(id, change);
        }
    }

    fn change(&mut self, id: NoteId, change: impl FnOnce(&mut Note)) {
        self.unlink(id);
        if let Some(note) = self.at_mut(id) {
            change(note);
        }
        self.link(id);
    }

    fn find(&self, key: &Key) -> Option<NoteId> {
        let alike = (key.head(), NoteId::MIN)..=(key.head(), NoteId::MAX);
        let mut ids = self.by_key.range(alike).map(|(_, id)| *id);
        ids.find(|id| self.at(*id).is_some_and(|note| note.key == *key))
    }

    fn at(&self, id: NoteId) -> Option<&Note> {
        self.notes.get(id as usize)?.as_ref()
    }

    fn at_mut(&mut self, id: NoteId) -> Option<&mut Note> {
        self.notes.get_mut(id as usize)?.as_mut()
    }

    /// Adds a note, without a place in the orders yet.
    fn insert(&mut self, key: Key, addrs: Packed) -> NoteId {
        let note = Note { key, addrs, rank: NoteRank::default(), heard: self.now, group: None, restored: false };
        let id = self.free.pop().unwrap_or_else(|| {
            if self.notes.len() == self.notes.capacity() {
                // By a quarter and never beyond the limit and the one more that is there for a moment, since twice as
                // much would be half of all that the book takes.
                let room = (self.limit + 1).saturating_sub(self.notes.len()).max(1);
                self.notes.reserve_exact((self.notes.len() / 4).max(16).min(room));
            }
            self.notes.push(None);
            (self.notes.len() - 1) as NoteId
        });
        self.notes[id as usize] = Some(note);
        self.by_key.insert((key.head(), id));
        id
    }

    fn remove(&mut self, id: NoteId) {
        self.unlink(id);
        if let Some(note) = self.notes.get_mut(id as usize).and_then(Option::take) {
            self.by_key.remove(&(note.key.head(), id));
            self.free.push(id);
        }
    }

    /// Takes a note out of the orders.
    fn unlink(&mut self, id: NoteId) {
        let Some((rank, group)) = self.at(id).map(|note| (note.rank, note.group)) else { return };
        self.order.remove(&rank);
        if let Some(group) = group {
            self.groups.remove(&(group, rank));
        }
    }

    /// Puts a note into the orders.
    fn link(&mut self, id: NoteId) {
        let Some((rank, group)) = self.at(id).map(|note| (note.rank, note.group)) else { return };
        self.order.insert(rank, id);
        if let Some(group) = group {
            self.groups.insert((group, rank), id);
        }
    }
}
