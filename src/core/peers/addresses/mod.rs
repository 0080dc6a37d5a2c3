//! The addresses of one peer, in the one order in which the node dials them and hands them out.
//!
//! Knows: how each address became known. Must not know: whether the peer is alive, or why it is asked.
//!
//! First comes the address at which the peer was reached on its present or last connection; then the addresses that the
//! peer (or the application) lists now, those first that are on the host at which the peer is seen; then those that it
//! listed before, the newest first; then hearsay. Peers move: if former addresses came before the present list, after
//! some moves every receiver that cuts the list would be left with dead addresses only.

mod packed;

use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use super::host::Host;
use crate::core::contact::Contact;
use crate::core::time::Timestamp;
pub(crate) use packed::Packed;

/// Maximum number of addresses of a peer that are kept first-hand (claimed by the peer itself, or where it was
/// reached), and that are handed out. Source: a host with IPv4 and IPv6, four transports each; real peers announce up
/// to 25, most of which are repetitions of these.
pub(crate) const MAX_FIRST_HAND: usize = 8;
/// Maximum number of addresses of a peer that are kept on the word of others: as many as are handed out.
pub(crate) const MAX_HEARSAY: usize = MAX_FIRST_HAND;
/// Maximum number of bytes of a peer's addresses, all of them together. Source: 128 bytes for each; the longest that are
/// common, with the hashes of two certificates, have 130.
pub(crate) const MAX_BYTES: usize = 2_048;
/// Addresses that a peer states within this time are one list. Source: the swarm reports the addresses of one message
/// one by one, within milliseconds; identify sends its next list after minutes, or when something changes.
const LIST_TIME: Duration = Duration::from_secs(1);

/// How an address became known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum AddrSource {
    /// Another peer named it.
    Hearsay,
    /// The peer itself stated it, over a connection that is up.
    Peer,
    /// The peer itself stated it in an ADD_PROVIDER, as part of the complete list of its addresses.
    PeerList,
    /// The peer was reached there.
    Connection,
    /// The application stated it.
    Application,
}

/// The order of addresses; the first is the best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum AddrRank {
    /// The peer was reached there, on its last connection.
    Reached,
    /// On the present list, at the host where the peer is seen.
    Near,
    /// On the present list.
    Listed,
    /// Known from before.
    Former,
    /// Named by other peers only.
    Hearsay,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct AddrNote {
    rank: AddrRank,
    /// Whether the address is more than a claim: the peer was reached there, or the application stated it.
    trusted: bool,
}

/// Addresses with a note each.
#[derive(Clone, Debug)]
pub(crate) struct Addresses {
    contact: Arc<Contact>,
    notes: SmallVec<[AddrNote; 8]>,
    /// When the peer last stated part of the present list; `None` if it stated none on this connection.
    listed: Option<Timestamp>,
    /// Whether the peer was reached on this connection.
    reached: bool,
}

impl Addresses {
    /// The addresses, if any, of a peer of which nothing else is known, or no longer.
    pub(crate) fn new(contact: &Arc<Contact>) -> Addresses {
        let note = AddrNote { rank: AddrRank::Former, trusted: false };
        let notes = SmallVec::from_elem(note, contact.raw_addrs().count());
        let mut new = Addresses { contact: Arc::clone(contact), notes, listed: None, reached: false };
        if contact.raw_addrs().map(<[u8]>::len).sum::<usize>() > MAX_BYTES {
            new.set(new.noted(contact).collect());
        }
        new
    }

    /// All of them, in order.
    pub(crate) fn contact(&self) -> &Arc<Contact> {
        &self.contact
    }

    /// Number of addresses that are not hearsay; they come first.
    pub(crate) fn first_hand(&self) -> usize {
        self.notes.iter().filter(|note| note.rank < AddrRank::Hearsay).count()
    }

    /// Whether an address is more than a claim that any peer could make up: the peer was reached there, the application
    /// stated it, or the peer states it from that very host.
    pub(crate) fn is_trusted(&self, addr: &[u8]) -> bool {
        self.note(addr).is_some_and(|note| note.trusted || note.rank == AddrRank::Near)
    }

    /// Whether an address is the peer's own claim and nothing more.
    pub(crate) fn is_only_claimed(&self, addr: &[u8]) -> bool {
        self.note(addr).is_some_and(|note| note.rank < AddrRank::Hearsay) && !self.is_trusted(addr)
    }

    /// The peer could not be reached at the addresses of `failed`: others of the same rank are tried before them.
    pub(crate) fn on_failed(&mut self, failed: &Contact) {
        let known = Arc::clone(&self.contact);
        let (failed, mut all): (Vec<_>, Vec<_>) = self.noted(&known).partition(|(addr, _)| failed.has_addr(addr));
        all.extend(failed);
        self.arrange(all);
    }

    /// A connection is up where there was none: what the peer says from now on is a new list.
    pub(crate) fn on_connected(&mut self) {
        (self.listed, self.reached) = (None, false);
    }

    /// Adds the addresses of `news`. `seen` is the host at which the peer is seen.
    pub(crate) fn add(&mut self, now: Timestamp, news: &Contact, source: AddrSource, seen: Option<&Host>) {
        let claim = matches!(source, AddrSource::Peer | AddrSource::PeerList | AddrSource::Application);
        let new_list = claim && self.listed.is_none_or(|at| at + LIST_TIME <= now);
        let note = |addr: &[u8]| {
            let near = claim && seen.is_some() && Host::of(addr).as_ref() == seen;
            let rank = match source {
                AddrSource::Connection => AddrRank::Reached,
                AddrSource::Hearsay => AddrRank::Hearsay,
                _ if near => AddrRank::Near,
                _ => AddrRank::Listed,
            };
            AddrNote { rank, trusted: source >= AddrSource::Connection }
        };
        if claim && news.has_addrs() {
            self.listed = Some(now);
        }
        self.reached |= source == AddrSource::Connection;
        if self.has_all(news, new_list, note) {
            return;
        }
        // The addresses that the new ones replace become "known from before". The address at which the peer was reached
        // stays first only if that was on this connection: a list on a later one is newer.
        match source {
            AddrSource::Connection => self.make_former(&[AddrRank::Reached]),
            _ if new_list && self.reached => self.make_former(&[AddrRank::Near, AddrRank::Listed]),
            _ if new_list => self.make_former(&[AddrRank::Reached, AddrRank::Near, AddrRank::Listed]),
            _ => {}
        }
        self.merge(news, note, source == AddrSource::Hearsay);
        if source == AddrSource::PeerList && news.has_addrs() {
            let known = Arc::clone(&self.contact);
            let stays = |(addr, note): &(&[u8], AddrNote)| {
                note.trusted || note.rank == AddrRank::Hearsay || news.has_addr(addr)
            };
            self.set(self.noted(&known).filter(stays).collect());
        }
    }

    /// Forgets the addresses that `stays` does not pick.
    pub(crate) fn retain(&mut self, stays: impl Fn(&[u8]) -> bool) {
        let known = Arc::clone(&self.contact);
        self.set(self.noted(&known).filter(|(addr, _)| stays(addr)).collect());
    }

    fn note(&self, addr: &[u8]) -> Option<AddrNote> {
        let at = self.contact.raw_addrs().position(|known| known == addr)?;
        self.notes.get(at).copied()
    }

    /// The addresses with their notes. `known` is the contact, of which the caller holds a copy to change this.
    fn noted<'a>(&self, known: &'a Contact) -> impl Iterator<Item = (&'a [u8], AddrNote)> {
        known.raw_addrs().zip(self.notes.iter().copied())
    }

    /// Whether the news change nothing. The usual case: a peer that connects again says what it said before.
    fn has_all(&self, news: &Contact, new_list: bool, note: impl Fn(&[u8]) -> AddrNote) -> bool {
        let listed = self.notes.iter().filter(|note| matches!(note.rank, AddrRank::Near | AddrRank::Listed)).count();
        let has = |addr: &[u8]| {
            let new = note(addr);
            self.note(addr).is_some_and(|old| old.rank <= new.rank && old.trusted >= new.trusted)
        };
        news.raw_addrs().all(has) && (!new_list || !news.has_addrs() || listed <= news.raw_addrs().count())
    }

    fn make_former(&mut self, ranks: &[AddrRank]) {
        for note in self.notes.iter_mut().filter(|note| ranks.contains(&note.rank)) {
            note.rank = AddrRank::Former;
        }
        let known = Arc::clone(&self.contact);
        self.arrange(self.noted(&known).collect());
    }

    /// Moves each address of the news to its new rank, unless it has a better one. Within a rank news stand `first` or
    /// last.
    fn merge(&mut self, news: &Contact, note: impl Fn(&[u8]) -> AddrNote, first: bool) {
        let contact = Arc::clone(&self.contact);
        let (mut known, mut risen): (Vec<_>, Vec<_>) = (self.noted(&contact).collect(), Vec::new());
        for addr in news.raw_addrs() {
            let mut new = note(addr);
            if let Some(at) = known.iter().position(|(known, _)| *known == addr) {
                let old = &mut known[at].1;
                old.trusted |= new.trusted;
                new.trusted = old.trusted;
                if old.rank <= new.rank {
                    continue;
                }
                known.remove(at);
            }
            risen.push((addr, new));
        }
        let (mut all, mut rest) = if first { (risen, known) } else { (known, risen) };
        all.append(&mut rest);
        self.arrange(all);
    }

    /// Sorts by rank, and cuts. The best trusted address is never cut: a peer may claim many addresses of no use, and
    /// be reachable where the application said.
    fn arrange(&mut self, mut all: Vec<(&[u8], AddrNote)>) {
        all.sort_by_key(|(_, note)| note.rank);
        let mut hearsay = all.split_off(all.partition_point(|(_, note)| note.rank < AddrRank::Hearsay));
        hearsay.truncate(MAX_HEARSAY);
        if let Some(trusted) = all.iter().position(|(_, note)| note.trusted).filter(|at| *at >= MAX_FIRST_HAND) {
            all.swap(trusted, MAX_FIRST_HAND - 1);
        }
        all.truncate(MAX_FIRST_HAND);
        all.append(&mut hearsay);
        self.set(all);
    }

    /// Keeps those in this order that fit, and in any case the best trusted one.
    fn set(&mut self, mut all: Vec<(&[u8], AddrNote)>) {
        let best = all.iter().find(|(_, note)| note.trusted).map(|(addr, _)| *addr);
        let mut room = MAX_BYTES - best.map_or(0, <[u8]>::len).min(MAX_BYTES);
        all.retain(|(addr, _)| {
            let fits = addr.len() <= room || Some(*addr) == best;
            if fits && Some(*addr) != best {
                room -= addr.len();
            }
            fits
        });
        self.notes = all.iter().map(|(_, note)| *note).collect();
        self.contact = self.contact.readdressed(all.iter().map(|(addr, _)| *addr));
    }
}

#[cfg(test)]
mod tests;
