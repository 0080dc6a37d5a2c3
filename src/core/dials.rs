//! What dials taught: where someone else answers, which transports this node has, and which hosts were tried in vain.
//!
//! Knows: addresses that were dialled, and what came of it. Must not know: the routing table, or who wants to ask whom.
//!
//! **A dial is never a weapon.** Whoever names a peer names addresses that this node then dials, and ids cost nothing. So
//! dials of mere words have a budget by destination: a host takes [`PER_HOST`] attempts that are not known to have
//! succeeded, a network [`PER_NETWORK`], within [`PERIOD`]. An attempt counts from its beginning, and a success takes that
//! back: at once it is not known which it will be. Of each budget a third is left to others than the one who spent the
//! rest, so that whoever names rubbish does not use up what honest peers there need. What is sure ([`Addresses::is_sure`])
//! is dialled beside all budgets, and does not count.
//!
//! [`Addresses::is_sure`]: super::addresses::Addresses::is_sure

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use smallvec::SmallVec;

use super::contact::Contact;
use super::host::{Host, Transport};
use super::key::Key;
use super::message::DialCause;
use super::time::Timestamp;

/// A host takes so many attempts of hearsay. Source: a peer behind it has two addresses at most that are worth a try.
const PER_HOST: usize = 3;
/// A network takes so many. Source: a machine room of which a tenth is down does not use it up.
const PER_NETWORK: usize = 30;
/// A host at which dials succeed takes as many more at once, but no more than a network does.
const MAX_SUCCESSES: usize = PER_NETWORK - PER_HOST;
/// After so long a destination that was tried in vain may be tried again.
const PERIOD: Duration = Duration::from_secs(60);
/// So many hosts and networks are remembered; the oldest make room. About 100 bytes each.
const MAX_DESTINATIONS: usize = 4_096;
/// So many peers are remembered with who named them, in 16 bytes each; all are forgotten at once. Source: the peers that one
/// lookup asks, and as many again of several others; what was named long ago was dialled, or never will be.
const MAX_NAMERS: usize = 1_024;
/// From so many destinations on, those whose period is over are looked for.
const FIRST_SWEEP: usize = 64;
/// So many transports are remembered. Source: more than all combinations that anyone uses.
const MAX_TRANSPORTS: usize = 64;
/// A dial that is not over after this time is taken for a new one. Source: the usual limit of transports.
const DIAL_TIME: Duration = Duration::from_secs(10);

/// The requests that waited for a dial end within this time after it. Source: one turn of a driver's loop, on a busy machine.
const AGAIN: Duration = Duration::from_millis(100);

#[derive(Debug, Default)]
pub(crate) struct Dials {
    /// Addresses at which peers are not, whatever anyone says. Where there is no room all are forgotten: that costs a dial
    /// each, of those that are named again.
    wrong: BTreeMap<Key, Arc<Contact>>,
    limit: usize,
    /// Whether this node reached anyone by a transport, or does not have it.
    transports: BTreeMap<Transport, bool>,
    spent: BTreeMap<Destination, Spent>,
    /// At so many destinations those whose period is over are forgotten.
    sweep_at: usize,
    /// By the first bits of their places, as all who named.
    namers: BTreeMap<u64, u64>,
    /// Peers that are being dialled.
    under_way: BTreeMap<Key, UnderWay>,
    /// Of which peer a failed dial taught that the next will go elsewhere, and when.
    learnt: Option<(Key, Timestamp)>,
}

#[derive(Debug)]
struct UnderWay {
    at: Arc<Contact>,
    since: Timestamp,
    /// For whose words budgets were spent, and of which hosts.
    namer: u64,
    spent: Vec<Host>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Destination {
    Host(Host),
    /// By what stands for it.
    Network(Host),
}

impl Destination {
    fn of(host: Host) -> [Destination; 2] {
        [Destination::Host(host), Destination::Network(host.network())]
    }
}

/// What hearsay did to a destination in a period.
#[derive(Debug)]
struct Spent {
    since: Timestamp,
    /// For whose words each attempt was.
    namers: SmallVec<[u64; 3]>,
    successes: usize,
}

impl Dials {
    /// Remembers wrong addresses of so many peers.
    pub(crate) fn new(limit: usize) -> Dials {
        Dials { limit, sweep_at: FIRST_SWEEP, ..Dials::default() }
    }

    /// Whether a peer is known not to be at an address.
    pub(crate) fn is_wrong(&self, key: &Key, addr: &Bytes) -> bool {
        self.wrong.get(key).is_some_and(|wrong| wrong.raw_addrs().contains(addr))
    }

    /// Whether a peer is known not to be at some address.
    pub(crate) fn has_wrong(&self, key: &Key) -> bool {
        self.wrong.contains_key(key)
    }

    /// A peer is not at these addresses.
    pub(crate) fn set_wrong(&mut self, wrong: &Arc<Contact>) {
        if self.wrong.len() >= self.limit && !self.has_wrong(wrong.key()) {
            self.wrong.clear();
        }
        let known = self.wrong.entry(*wrong.key()).or_insert_with(|| Arc::clone(wrong));
        *known = known.merged(wrong);
    }

    /// Whoever should know says that a peer is at these addresses.
    pub(crate) fn set_right(&mut self, contact: &Contact) {
        let Some(wrong) = self.wrong.get_mut(contact.key()) else { return };
        *wrong = wrong.filtered(|addr| !contact.raw_addrs().contains(addr));
        if !wrong.has_addrs() {
            self.wrong.remove(contact.key());
        }
    }

    /// Whether no transport takes such an address.
    pub(crate) fn lacks(&self, addr: &[u8]) -> bool {
        self.transports.get(&Transport::of(addr)) == Some(&false)
    }

    /// Whether this node reached anyone by the transport of this address: if it fails, that says something.
    pub(crate) fn works(&self, addr: &[u8]) -> bool {
        self.transports.get(&Transport::of(addr)) == Some(&true)
    }

    /// Someone named a peer.
    pub(crate) fn on_named(&mut self, peer: &Key, by: &Key) {
        if self.namers.len() >= MAX_NAMERS {
            self.namers.clear();
        }
        self.namers.insert(peer.head(), by.head());
    }

    /// Where a peer is being dialled now.
    pub(crate) fn under_way(&self, now: Timestamp, key: &Key) -> Option<&Arc<Contact>> {
        self.under_way.get(key).filter(|dial| now < dial.since + DIAL_TIME).map(|dial| &dial.at)
    }

    /// A peer is dialled here, for attempts that were spent on these hosts.
    pub(crate) fn begin(&mut self, now: Timestamp, at: &Arc<Contact>, spent: Vec<Host>) {
        // What has been going on for so long is forgotten; whoever waits for it ends by itself.
        if self.under_way.len() >= MAX_DESTINATIONS {
            self.under_way.retain(|_, dial| now < dial.since + DIAL_TIME);
        }
        let (key, namer) = (*at.key(), self.namer(at.key()));
        self.under_way.insert(key, UnderWay { at: Arc::clone(at), since: now, namer, spent });
    }

    /// The dial of a peer failed.
    pub(crate) fn end(&mut self, key: &Key) {
        self.under_way.remove(key);
    }

    /// Takes an attempt at this address from the budgets of its host and its network, if both have one left for who named
    /// the peer. What is on no network has no budget.
    pub(crate) fn spend(&mut self, now: Timestamp, peer: &Key, addr: &[u8]) -> bool {
        let Some(host) = Host::of(addr) else { return true };
        let (namer, destinations) = (self.namer(peer), Destination::of(host));
        let left = destinations.iter().all(|at| self.spent.get(at).is_none_or(|spent| spent.is_left(now, at, namer)));
        if left {
            destinations.into_iter().for_each(|at| self.spent_at(now, at).namers.push(namer));
        }
        left
    }

    /// A connection to a peer is up, by a dial at this address, or by the peer's own: what was spent on its dial did not fail.
    pub(crate) fn on_connected(&mut self, now: Timestamp, peer: &Key, dialled: Option<&[u8]>) {
        if let Some(UnderWay { namer, spent, .. }) = self.under_way.remove(peer) {
            spent.into_iter().flat_map(Destination::of).for_each(|at| self.spent_at(now, at).give_back(namer));
        }
        let Some(addr) = dialled else { return };
        self.set_transport(addr, true);
        if let Some(host) = Host::of(addr)
            && let Some(spent) = self.spent.get_mut(&Destination::Host(host))
        {
            *spent = Spent { successes: (spent.successes + 1).min(MAX_SUCCESSES), ..Spent::new(spent.since) };
        }
    }

    /// A dial of a peer failed at this address. The next dial goes elsewhere if that is news of where not to dial at all.
    pub(crate) fn on_failed(&mut self, now: Timestamp, peer: &Key, addr: &[u8], cause: DialCause) {
        self.end(peer);
        let news = match cause {
            DialCause::WrongPeer => true,
            DialCause::NoTransport => self.set_transport(addr, false),
            _ => false,
        };
        if news {
            self.learnt = Some((*peer, now));
        }
    }

    /// Whether a dial of the peer that failed just now would go elsewhere if it were begun again.
    pub(crate) fn has_learnt(&self, now: Timestamp, peer: &Key) -> bool {
        self.learnt.is_some_and(|(of, at)| of == *peer && now < at + AGAIN)
    }

    /// Tells whether this is news. What works is remembered before what does not.
    fn set_transport(&mut self, addr: &[u8], works: bool) -> bool {
        let transport = Transport::of(addr);
        if self.transports.len() >= MAX_TRANSPORTS {
            self.transports.retain(|known, works| *works || *known == transport);
        }
        let room = self.transports.len() < MAX_TRANSPORTS || self.transports.contains_key(&transport);
        room && self.transports.insert(transport, works) != Some(works)
    }

    fn namer(&self, peer: &Key) -> u64 {
        self.namers.get(&peer.head()).copied().unwrap_or(peer.head())
    }

    fn spent_at(&mut self, now: Timestamp, at: Destination) -> &mut Spent {
        if self.spent.len() >= self.sweep_at {
            self.spent.retain(|_, spent| now < spent.since + PERIOD);
            self.sweep_at = (self.spent.len() * 2).max(FIRST_SWEEP);
        }
        if self.spent.len() >= MAX_DESTINATIONS
            && !self.spent.contains_key(&at)
            && let Some(oldest) = self.spent.iter().min_by_key(|(_, spent)| spent.since).map(|(at, _)| *at)
        {
            self.spent.remove(&oldest);
        }
        let spent = self.spent.entry(at).or_insert_with(|| Spent::new(now));
        if now >= spent.since + PERIOD {
            *spent = Spent::new(now);
        }
        spent
    }
}

impl Spent {
    fn new(since: Timestamp) -> Spent {
        Spent { since, namers: SmallVec::new(), successes: 0 }
    }

    /// Whether whoever is named by this peer may be tried here once more.
    fn is_left(&self, now: Timestamp, at: &Destination, namer: u64) -> bool {
        let limit = match at {
            Destination::Host(_) => PER_HOST + self.successes,
            Destination::Network(_) => PER_NETWORK,
        };
        let own = self.namers.iter().filter(|known| **known == namer).count();
        now >= self.since + PERIOD || (self.namers.len() < limit && own < limit - limit / 3)
    }

    /// What was spent for this peer's words did not fail.
    fn give_back(&mut self, namer: u64) {
        if let Some(at) = self.namers.iter().position(|known| *known == namer) {
            self.namers.swap_remove(at);
        }
    }
}

#[cfg(test)]
mod tests;
