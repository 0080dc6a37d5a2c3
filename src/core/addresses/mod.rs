//! The addresses of one peer, in the one order in which the node dials them and hands them on.
//!
//! Knows: how each address became known. Must not know: whether the peer is alive, or who asks.
//!
//! First comes the address at which the peer was reached on the connection that is up, or was last; then what the peer (or
//! the application) says now, those first whose host is the one it is seen at; then what it said before, the newest first;
//! then hearsay. *Peers move. What a peer said once must not stand before what it says now, or after some moves everyone
//! who cuts the list, as every receiver does, has nothing but dead addresses.*

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use smallvec::SmallVec;

use super::contact::Contact;
use super::host::Host;
use super::time::Timestamp;

/// So many addresses of a peer are kept of what it says itself and of where it was reached, and so many are handed on.
/// Source: a host with IPv4 and IPv6, four transports each; real peers announce up to 25, most of which are such again.
pub(crate) const MAX_FIRST_HAND: usize = 8;
/// So many addresses of a peer are taken from what others say of it: as many as are handed on.
pub(crate) const MAX_HEARSAY: usize = MAX_FIRST_HAND;
/// What a peer says within this time is one list. Source: the swarm reports the addresses of one message one by one, within
/// milliseconds; identify speaks again after minutes, or when something changes.
const LIST_TIME: Duration = Duration::from_secs(1);

/// How an address became known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum AddrSource {
    /// Someone else says so.
    Hearsay,
    /// The peer itself says so, over a connection that is up.
    Peer,
    /// The peer itself says so, and that these are all.
    PeerList,
    /// The peer was reached there.
    Connection,
    /// The application says so.
    Application,
}

/// The place of an address in the order; the first is the best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum AddrRank {
    /// The peer was reached there, on its last connection.
    Reached,
    /// Of the present list, at the host where the peer is seen.
    Near,
    /// Of the present list.
    Listed,
    /// Known from before.
    Former,
    /// Hearsay.
    Hearsay,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct AddrNote {
    rank: AddrRank,
    /// Whether it is more than the peer's word: the peer was reached there, or the application said so.
    sure: bool,
}

/// Addresses with a mark each.
#[derive(Clone, Debug)]
pub(crate) struct Addresses {
    contact: Arc<Contact>,
    marks: SmallVec<[AddrNote; 8]>,
    /// When the peer last said something of the present list; `None` if it said nothing on this connection.
    listed: Option<Timestamp>,
    /// Whether it was reached on this connection.
    reached: bool,
}

impl Addresses {
    /// The addresses, if any, of a peer of which nothing else is known, or no longer.
    pub(crate) fn new(contact: &Arc<Contact>) -> Addresses {
        let mark = AddrNote { rank: AddrRank::Former, sure: false };
        Addresses {
            contact: Arc::clone(contact),
            marks: SmallVec::from_elem(mark, contact.raw_addrs().len()),
            listed: None,
            reached: false,
        }
    }

    /// All of them, in order.
    pub(crate) fn contact(&self) -> &Arc<Contact> {
        &self.contact
    }

    /// How many are no hearsay; they come first.
    pub(crate) fn first_hand(&self) -> usize {
        self.marks.iter().filter(|mark| mark.rank < AddrRank::Hearsay).count()
    }

    /// Whether an address is more than a word that anyone could have made up: the peer was reached there, the application
    /// said so, or the peer does, from that very host.
    pub(crate) fn is_trusted(&self, addr: &Bytes) -> bool {
        self.mark(addr).is_some_and(|mark| mark.sure || mark.rank == AddrRank::Near)
    }

    /// Whether an address is the peer's own word and nothing more.
    pub(crate) fn is_only_claimed(&self, addr: &Bytes) -> bool {
        self.mark(addr).is_some_and(|mark| mark.rank < AddrRank::Hearsay) && !self.is_trusted(addr)
    }

    /// The peer was not reached at these: of the same rank others are tried before them.
    pub(crate) fn failed(&mut self, addrs: &[Bytes]) {
        let (failed, others): (Vec<_>, Vec<_>) = self.iter().partition(|(addr, _)| addrs.contains(addr));
        self.arrange(others.into_iter().chain(failed).collect());
    }

    /// A connection comes up where there was none: what the peer says from now on is a new list.
    pub(crate) fn connected(&mut self) {
        (self.listed, self.reached) = (None, false);
    }

    /// Takes addresses in. `seen` is the host at which the peer is seen.
    pub(crate) fn add(&mut self, now: Timestamp, news: &[Bytes], source: AddrSource, seen: Option<&Host>) {
        let told = matches!(source, AddrSource::Peer | AddrSource::PeerList | AddrSource::Application);
        let begins = told && self.listed.is_none_or(|at| at + LIST_TIME <= now);
        let mark = |addr: &Bytes| {
            let near = told && seen.is_some() && Host::of(addr).as_ref() == seen;
            let rank = match source {
                AddrSource::Connection => AddrRank::Reached,
                AddrSource::Hearsay => AddrRank::Hearsay,
                _ if near => AddrRank::Near,
                _ => AddrRank::Listed,
            };
            AddrNote { rank, sure: source >= AddrSource::Connection }
        };
        if told && !news.is_empty() {
            self.listed = Some(now);
        }
        self.reached |= source == AddrSource::Connection;
        if self.has_all(news, begins, mark) {
            return;
        }
        match source {
            AddrSource::Connection => self.demote(&[AddrRank::Reached]),
            _ if begins && self.reached => self.demote(&[AddrRank::Near, AddrRank::Listed]),
            _ if begins => self.demote(&[AddrRank::Reached, AddrRank::Near, AddrRank::Listed]),
            _ => {}
        }
        self.merge(news, mark, source == AddrSource::Hearsay);
        if source == AddrSource::PeerList && !news.is_empty() {
            let kept =
                self.iter().filter(|(addr, mark)| mark.sure || mark.rank == AddrRank::Hearsay || news.contains(addr));
            self.set(kept.collect());
        }
    }

    /// Forgets the addresses that do not stay.
    pub(crate) fn keep(&mut self, stays: impl Fn(&Bytes) -> bool) {
        let kept = self.iter().filter(|(addr, _)| stays(addr)).collect();
        self.set(kept);
    }

    fn mark(&self, addr: &Bytes) -> Option<AddrNote> {
        let at = self.contact.raw_addrs().iter().position(|known| known == addr)?;
        self.marks.get(at).copied()
    }

    fn iter(&self) -> impl Iterator<Item = (Bytes, AddrNote)> + '_ {
        self.contact.raw_addrs().iter().cloned().zip(self.marks.iter().copied())
    }

    /// Whether news change nothing. The usual case: a peer that connects again says what it said before.
    fn has_all(&self, news: &[Bytes], begins: bool, mark: impl Fn(&Bytes) -> AddrNote) -> bool {
        let listed = self.marks.iter().filter(|mark| matches!(mark.rank, AddrRank::Near | AddrRank::Listed)).count();
        let has = |addr| self.mark(addr).is_some_and(|old| old.rank <= mark(addr).rank && old.sure >= mark(addr).sure);
        news.iter().all(has) && (!begins || news.is_empty() || listed <= news.len())
    }

    fn demote(&mut self, ranks: &[AddrRank]) {
        self.marks.iter_mut().filter(|mark| ranks.contains(&mark.rank)).for_each(|mark| mark.rank = AddrRank::Former);
        self.arrange(self.iter().collect());
    }

    /// Puts each address of the news where it belongs, unless it stands before that already. Of the same rank hearsay comes
    /// before what was heard earlier, all else after it.
    fn merge(&mut self, news: &[Bytes], mark: impl Fn(&Bytes) -> AddrNote, first: bool) {
        let rises = |addr: &Bytes| self.mark(addr).is_none_or(|old| mark(addr).rank < old.rank);
        let risen = news.iter().filter(|addr| rises(addr)).map(|addr| {
            let sure = mark(addr).sure || self.mark(addr).is_some_and(|old| old.sure);
            (addr.clone(), AddrNote { sure, ..mark(addr) })
        });
        let others = self.iter().filter(|(addr, _)| !news.contains(addr) || !rises(addr)).map(|(addr, old)| {
            let sure = old.sure || news.contains(&addr) && mark(&addr).sure;
            (addr, AddrNote { sure, ..old })
        });
        let all = if first { risen.chain(others).collect() } else { others.chain(risen).collect() };
        self.arrange(all);
    }

    /// Sorts by rank, and cuts. The best address that is more than someone's word is never cut: a peer may say much that
    /// nobody can use, and be reachable where the application said.
    fn arrange(&mut self, mut all: Vec<(Bytes, AddrNote)>) {
        all.sort_by_key(|(_, mark)| mark.rank);
        let mut rumours = all.split_off(all.partition_point(|(_, mark)| mark.rank < AddrRank::Hearsay));
        rumours.truncate(MAX_HEARSAY);
        if let Some(sure) = all.iter().position(|(_, mark)| mark.sure).filter(|at| *at >= MAX_FIRST_HAND) {
            all.swap(sure, MAX_FIRST_HAND - 1);
        }
        all.truncate(MAX_FIRST_HAND);
        all.append(&mut rumours);
        self.set(all);
    }

    fn set(&mut self, all: Vec<(Bytes, AddrNote)>) {
        self.marks = all.iter().map(|(_, mark)| *mark).collect();
        if !all.iter().map(|(addr, _)| addr).eq(self.contact.raw_addrs()) {
            self.contact = self.contact.with_addrs(all.into_iter().map(|(addr, _)| addr));
        }
    }
}

#[cfg(test)]
mod tests;
