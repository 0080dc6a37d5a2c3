//! Addresses of peers, with what each is worth: those of clients, candidates and first contacts above all.
//!
//! Knows: how each address became known, when the peer was last heard of, and when it may be tried again. Must not know:
//! who serves. Bounded: the longest unused are forgotten first, those that the application named only for others that it
//! named; and what is old is as good as forgotten.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::back_off::back_off;
use super::contact::{Contact, MAX_ADDRS};
use super::ip_group::IpGroup;
use super::key::Key;
use super::time::Timestamp;

/// The addresses of a peer that is not connected, and that the application did not name, are kept for so long after it was
/// heard of. Source: the IPFS specification's term for addresses, 30 min; clients that want to be found connect every 10
/// min (rule A37), so that it takes three misses to lose one.
pub(crate) const ADDRESS_TIME: Duration = Duration::from_secs(30 * 60);
/// So many addresses of a peer are taken from what others say of it. Source: half of what a contact holds, so that what is
/// known has room beside it; a peer that is told of costs so many dials at most.
pub(crate) const MAX_RUMOURS: usize = MAX_ADDRS / 2;
/// Where peers are told apart by networks, those of one network get this part of the book at most. Source: so it takes eight
/// networks to fill it.
const SHARE: usize = 8;

/// How an address became known; the later the better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Source {
    /// Someone else says so.
    Rumour,
    /// The peer itself says so, over a connection that is up.
    Itself,
    /// The peer was reached there.
    Reached,
    /// The application says so.
    Application,
}

/// Which go first when there is no room: those that the application did not name, nor this node remembers, of them those
/// that are not connected, of them the longest unused.
type Rank = (bool, bool, u64);

#[derive(Debug)]
struct Note {
    /// The addresses at which it was reached or that the application named come first, then its own word, then rumours;
    /// among each, the newest.
    contact: Arc<Contact>,
    /// How many of them are of the first kind.
    sure: u8,
    /// How many are of the first two kinds.
    known: u8,
    /// Where it is not, whatever others say.
    wrong: Option<Arc<Contact>>,
    rank: Rank,
    /// It counts as named since it was in the table of an earlier life, and only until it fails.
    remembered: bool,
    heard: Timestamp,
    group: Option<IpGroup>,
    /// How often it failed since it last answered, was reached or named.
    failures: u8,
    /// Not to be tried before this.
    retry_at: Timestamp,
}

/// Contacts by their places in the keyspace, which are shorter than peer ids.
#[derive(Debug)]
pub(crate) struct AddressBook {
    notes: BTreeMap<Key, Note>,
    order: BTreeMap<Rank, Key>,
    /// The same of each network, where they count.
    groups: BTreeMap<(IpGroup, Rank), Key>,
    sizes: BTreeMap<IpGroup, usize>,
    next: u64,
    now: Timestamp,
    limit: usize,
    by_group: bool,
}

impl AddressBook {
    /// Holds so many peers; `by_group` if no network may fill it.
    pub(crate) fn new(limit: usize, by_group: bool) -> AddressBook {
        AddressBook {
            notes: BTreeMap::new(),
            order: BTreeMap::new(),
            groups: BTreeMap::new(),
            sizes: BTreeMap::new(),
            next: 0,
            now: Timestamp::ZERO,
            limit,
            by_group,
        }
    }

    /// It is this late.
    pub(crate) fn advance(&mut self, now: Timestamp) {
        self.now = self.now.max(now);
    }

    /// Notes a peer's addresses, beside those known; returns all of them.
    pub(crate) fn note(&mut self, contact: &Arc<Contact>, source: Source, connected: bool) -> Arc<Contact> {
        let key = *contact.key();
        let contact = &if source == Source::Rumour { self.plausible(contact) } else { Arc::clone(contact) };
        let old = self.take(&key);
        let wrong = old.as_ref().and_then(|old| old.wrong.clone());
        let wrong = wrong.filter(|wrong| !wrong.raw_addrs().iter().any(|addr| contact.raw_addrs().contains(addr)));
        let named = source == Source::Application || old.as_ref().is_some_and(|old| old.rank.0);
        let (noted, sure, known) = match &old {
            Some(old) => old.with(contact, source),
            None => first(contact, source),
        };
        let remembered = source != Source::Application && old.as_ref().is_some_and(|old| old.remembered);
        let (rank, heard) = ((named, connected, self.next), self.now);
        let group = if self.by_group { group_of(&noted) } else { None };
        let failed = old.filter(|_| source < Source::Reached).map(|old| (old.failures, old.retry_at));
        let (failures, retry_at) = failed.unwrap_or((0, Timestamp::ZERO));
        self.next += 1;
        let contact = Arc::clone(&noted);
        self.put(key, Note { contact, sure, known, wrong, rank, remembered, heard, group, failures, retry_at });
        self.make_room(group);
        noted
    }

    /// What is known of a peer, unless it is too old.
    pub(crate) fn get(&self, key: &Key) -> Option<&Arc<Contact>> {
        let note = self.notes.get(key).filter(|note| self.is_fresh(note))?;
        Some(&note.contact)
    }

    /// The addresses of a peer that are no rumours.
    pub(crate) fn known(&self, key: &Key) -> &[Bytes] {
        self.notes.get(key).map_or(&[], |note| &note.contact.raw_addrs()[..usize::from(note.known)])
    }

    /// What someone says of a peer without the addresses at which it is known not to be.
    pub(crate) fn plausible(&self, said: &Arc<Contact>) -> Arc<Contact> {
        let wrong = self.notes.get(said.key()).and_then(|note| note.wrong.as_ref());
        match wrong.map(|wrong| wrong.raw_addrs()) {
            Some(wrong) if said.raw_addrs().iter().any(|addr| wrong.contains(addr)) => {
                said.with_addrs(said.raw_addrs().iter().filter(|addr| !wrong.contains(addr)).cloned())
            }
            _ => Arc::clone(said),
        }
    }

    /// Someone wants to know of this peer: others go first when there is no room.
    pub(crate) fn used(&mut self, key: &Key) {
        if let Some(mut note) = self.take(key) {
            note.rank.2 = self.next;
            self.next += 1;
            self.put(*key, note);
        }
    }

    /// A noted peer was in the table of an earlier life: it counts as named, until it fails.
    pub(crate) fn remember(&mut self, key: &Key) {
        if let Some(mut note) = self.take(key) {
            note.remembered |= !note.rank.0;
            note.rank.0 = true;
            self.put(*key, note);
        }
    }

    /// A peer failed where others answer: if it was only remembered, it is a peer like any other from now on.
    pub(crate) fn give_up(&mut self, key: &Key) {
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
            note.rank.1 = yes;
            note.heard = self.now;
            self.put(*key, note);
        }
    }

    /// A peer failed: it is left alone for a while, longer each time until it answers or is reached.
    pub(crate) fn on_failure(&mut self, key: &Key) {
        let now = self.now;
        if let Some(note) = self.notes.get_mut(key).filter(|note| note.retry_at <= now) {
            note.failures = note.failures.saturating_add(1);
            note.retry_at = now + back_off(note.failures.into());
        }
    }

    /// A peer answered: it may be asked again at once.
    pub(crate) fn on_answer(&mut self, key: &Key) {
        if let Some(note) = self.notes.get_mut(key) {
            (note.failures, note.retry_at) = (0, Timestamp::ZERO);
        }
    }

    /// Whether a peer may be asked now: it did not fail, or its back-off is over.
    pub(crate) fn may_be_asked(&self, key: &Key) -> bool {
        self.notes.get(key).is_none_or(|note| note.retry_at <= self.now)
    }

    /// A peer is not at these addresses: where `strangers` answered, whoever said so is wrong; else only rumours are
    /// forgotten, since this node may not get to where others do. The application's word for where it is has to be taken
    /// back by itself, where it is all that is known.
    pub(crate) fn forget(&mut self, key: &Key, wrong: &[Bytes], strangers: bool) {
        let Some(mut note) = self.take(key) else { return };
        let from = if strangers { 0 } else { usize::from(note.known) };
        let stays = |i: usize, addr: &Bytes| i < from || !wrong.contains(addr);
        let any_left = note.contact.raw_addrs().iter().enumerate().any(|(i, addr)| stays(i, addr));
        if any_left || !note.rank.0 {
            note.keep(stays);
        }
        let left = note.contact.raw_addrs();
        let gone = note.contact.with_addrs(wrong.iter().filter(|addr| !left.contains(addr)).cloned());
        if gone.has_addrs() {
            note.wrong = Some(note.wrong.as_ref().map_or_else(|| Arc::clone(&gone), |wrong| wrong.merged(&gone)));
        }
        if any_left || note.rank.0 {
            self.put(*key, note);
        }
    }

    /// Of a peer's addresses only those of `contact` are left; without any it is forgotten.
    pub(crate) fn keep(&mut self, contact: &Contact) {
        let Some(mut note) = self.take(contact.key()) else { return };
        note.keep(|_, addr| contact.raw_addrs().contains(addr));
        if note.contact.has_addrs() {
            self.put(*contact.key(), note);
        }
    }

    /// All that is noted.
    pub(crate) fn contacts(&self) -> impl Iterator<Item = &Arc<Contact>> {
        self.notes.values().map(|note| &note.contact)
    }

    /// The peers that the application named, and those that are remembered, the longest unused first.
    pub(crate) fn named(&self) -> impl Iterator<Item = &Arc<Contact>> {
        let named = self.order.range((true, false, 0)..);
        named.filter_map(|(_, key)| self.get(key))
    }

    fn is_fresh(&self, note: &Note) -> bool {
        let (named, connected, _) = note.rank;
        named || connected || self.now.since(note.heard) < ADDRESS_TIME
    }

    /// Forgets whoever goes first while there are too many, of all or of this network, and some of what is old.
    fn make_room(&mut self, group: Option<IpGroup>) {
        if let Some(group) = group
            && self.sizes.get(&group).is_some_and(|size| *size > (self.limit / SHARE).max(1))
            && let Some(first) = self.groups.range((group, (false, false, 0))..).next().map(|(_, key)| *key)
        {
            self.take(&first);
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
            if let Some(size) = self.sizes.get_mut(&group) {
                *size -= 1;
                if *size == 0 {
                    self.sizes.remove(&group);
                }
            }
        }
        Some(note)
    }

    fn put(&mut self, key: Key, note: Note) {
        self.order.insert(note.rank, key);
        if let Some(group) = note.group {
            self.groups.insert((group, note.rank), key);
            *self.sizes.entry(group).or_default() += 1;
        }
        self.notes.insert(key, note);
    }
}

impl Note {
    /// How an address of it became known; `None` if it is not.
    fn source(&self, addr: &Bytes) -> Option<Source> {
        let at = self.contact.raw_addrs().iter().position(|known| known == addr)?;
        Some(match at {
            at if at < usize::from(self.sure) => Source::Reached,
            at if at < usize::from(self.known) => Source::Itself,
            _ => Source::Rumour,
        })
    }

    /// Forgets the addresses that do not stay.
    fn keep(&mut self, stays: impl Fn(usize, &Bytes) -> bool) {
        let addrs = self.contact.raw_addrs();
        let left: Vec<_> = addrs.iter().enumerate().filter(|(i, addr)| stays(*i, addr)).collect();
        if left.len() < addrs.len() {
            let count = |end: u8| left.iter().filter(|(i, _)| *i < usize::from(end)).count() as u8;
            (self.sure, self.known) = (count(self.sure), count(self.known));
            self.contact = self.contact.with_addrs(left.into_iter().map(|(_, addr)| addr.clone()));
        }
    }

    /// Its addresses with those of `news`, and how many are sure and known.
    fn with(&self, news: &Arc<Contact>, source: Source) -> (Arc<Contact>, u8, u8) {
        let rises = |addr: &Bytes| self.source(addr).is_none_or(|old| old < source.min(Source::Reached));
        if !news.raw_addrs().iter().any(rises) {
            return (Arc::clone(&self.contact), self.sure, self.known);
        }
        let fresh = news.raw_addrs().iter().map(|addr| (self.source(addr).map_or(source, |old| old.max(source)), addr));
        let others = self.contact.raw_addrs().iter().filter(|addr| !news.raw_addrs().contains(addr));
        let others = others.map(|addr| (self.source(addr).unwrap_or(Source::Rumour), addr));
        // Where it was reached comes before what the application says.
        let mut all: Vec<_> = match source {
            Source::Application => others.chain(fresh).collect(),
            _ => fresh.chain(others).collect(),
        };
        all.sort_by_key(|(source, _)| std::cmp::Reverse((*source).min(Source::Reached)));
        let count = |least: Source| all.iter().filter(|(source, _)| *source >= least).count().min(MAX_ADDRS);
        let (sure, known) = (count(Source::Reached), count(Source::Itself));
        let contact = self.contact.with_addrs(all.into_iter().map(|(_, addr)| addr.clone()).take(known + MAX_RUMOURS));
        (contact, sure as u8, known as u8)
    }
}

/// What is noted of a peer that is new.
fn first(contact: &Arc<Contact>, source: Source) -> (Arc<Contact>, u8, u8) {
    let len = contact.raw_addrs().len() as u8;
    match source {
        Source::Application | Source::Reached => (Arc::clone(contact), len, len),
        Source::Itself => (Arc::clone(contact), 0, len),
        Source::Rumour => (contact.at_most(MAX_RUMOURS), 0, 0),
    }
}

/// The network of its best address.
fn group_of(contact: &Contact) -> Option<IpGroup> {
    contact.raw_addrs().iter().find_map(|addr| IpGroup::of_addr(addr, None))
}
