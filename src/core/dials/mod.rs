//! What dials taught: where someone else answers, which transports this node has, and which hosts were tried in vain.
//!
//! Knows: addresses that were dialled, and what came of it. Must not know: the routing table, or who wants to ask whom.
//!
//! **A dial is never a weapon.** Whoever names a peer names addresses that this node then dials, and ids cost nothing. So
//! dials of mere words have a budget by destination: a host takes [`PER_HOST`] attempts that are not known to have
//! succeeded, a network [`PER_NETWORK`], within [`PERIOD`]. An attempt counts from its beginning, since it is not known what
//! it will be; a success takes back what was spent at the host that answers, and at no other that was tried beside it. Nor
//! does it count if nobody waits for it any more before it was made. What is sure ([`Addresses::is_trusted`]) is dialled beside
//! all budgets, and does not count.
//!
//! A third of each budget is left to others than the one who spends the rest: each [`Referrer`] has a share, so that whoever
//! names rubbish uses up its own. A referrer is the host of a peer that named the address, since ids are free; whoever is at
//! the destination itself may spend all that is left.
//!
//! [`Addresses::is_trusted`]: super::addresses::Addresses::is_trusted

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
/// So many hosts and networks are remembered; the oldest make room. About 100 bytes each. And so many dials under way; all are
/// forgotten at once, and what was spent on them stays spent.
const MAX_DESTINATIONS: usize = 4_096;
/// From so many destinations on, those whose period is over are looked for.
const FIRST_SWEEP: usize = 64;
/// So many transports are remembered. Source: more than all combinations that anyone uses.
const MAX_TRANSPORTS: usize = 64;
/// A dial that is not over after this time is taken for a new one. Source: the usual limit of transports.
const DIAL_TIME: Duration = Duration::from_secs(10);

/// So often a request is sent again after its dial taught where not to dial. Source: each time at least one of sixteen
/// addresses is left out; strangers at more of them than this are no accident.
const MAX_AGAIN: u8 = 4;
/// The requests that waited for a dial end within this time after it. Source: one turn of a driver's loop, on a busy machine.
const AGAIN: Duration = Duration::from_millis(100);

#[derive(Debug, Default)]
pub(crate) struct DialHistory {
    /// Addresses at which peers are not, whatever anyone says. Where there is no room all are forgotten: that costs a dial
    /// each, of those that are named again.
    wrong: BTreeMap<Key, Arc<Contact>>,
    limit: usize,
    /// Whether this node reached anyone by a transport, or does not have it.
    transports: BTreeMap<Transport, bool>,
    spent: BTreeMap<Destination, Spending>,
    /// At so many destinations those whose period is over are forgotten.
    sweep_at: usize,
    /// Peers that are being dialled.
    under_way: BTreeMap<Key, UnderWay>,
    /// Of which peer a failed dial taught that the next may come out otherwise, when, and how many that is worth.
    learnt: Option<(Key, Timestamp, u8)>,
}

#[derive(Debug)]
struct UnderWay {
    at: Arc<Contact>,
    since: Timestamp,
    /// How many requests were sent that it is for.
    requests: usize,
    /// The hosts of whose budgets an attempt was taken, and of whose share.
    spent: Vec<(Host, Referrer)>,
}

/// Where a peer is seen that named an address. `None` stands for all of whom that is not known, and for nobody.
pub(crate) type Referrer = Option<Host>;

/// A host, or what stands for a network, and how many attempts it takes.
type Destination = (Host, usize);

fn destinations(host: Host) -> [Destination; 2] {
    [(host, PER_HOST), (host.network(), PER_NETWORK)]
}

/// What hearsay did to a destination in a period.
#[derive(Debug)]
struct Spending {
    since: Timestamp,
    /// Of whose share each attempt was.
    attempts: SmallVec<[Referrer; PER_HOST]>,
    successes: usize,
}

impl DialHistory {
    /// Remembers wrong addresses of so many peers.
    pub(crate) fn new(limit: usize) -> DialHistory {
        DialHistory { limit, sweep_at: FIRST_SWEEP, ..DialHistory::default() }
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
    pub(crate) fn lacks_transport(&self, addr: &[u8]) -> bool {
        self.transports.get(&Transport::of(addr)) == Some(&false)
    }

    /// Whether this node reached anyone by the transport of this address: if it fails, that says something.
    pub(crate) fn is_transport_proven(&self, addr: &[u8]) -> bool {
        self.transports.get(&Transport::of(addr)) == Some(&true)
    }

    /// Where a peer is being dialled now, for one more request.
    pub(crate) fn join(&mut self, now: Timestamp, key: &Key) -> Option<Arc<Contact>> {
        let dial = self.under_way.get_mut(key).filter(|dial| now < dial.since + DIAL_TIME)?;
        dial.requests += 1;
        Some(Arc::clone(&dial.at))
    }

    /// A peer is dialled here, for attempts that were spent on these hosts.
    pub(crate) fn begin(&mut self, now: Timestamp, at: &Arc<Contact>, spent: Vec<(Host, Referrer)>) {
        if self.under_way.len() >= MAX_DESTINATIONS {
            self.under_way.clear();
        }
        self.under_way.insert(*at.key(), UnderWay { at: Arc::clone(at), since: now, requests: 1, spent });
    }

    /// The dial of a peer failed.
    pub(crate) fn end(&mut self, key: &Key) {
        self.under_way.remove(key);
    }

    /// Takes an attempt from the budgets of a host and its network, and of the share of the first of the referrers of whose
    /// both have one left. Says of whose.
    pub(crate) fn take_attempt(&mut self, now: Timestamp, host: Host, referrers: &[Referrer]) -> Option<Referrer> {
        let destinations = destinations(host);
        let left = |at, referrer: &&Referrer| self.spent.get(at).is_none_or(|spent| spent.is_left(now, at, referrer));
        let referrer = *referrers.iter().find(|referrer| destinations.iter().all(|at| left(at, referrer)))?;
        destinations.into_iter().for_each(|at| self.spent_at(now, at).attempts.push(referrer));
        Some(referrer)
    }

    /// One of the requests that a peer was to be dialled for is given up, before that dial was made.
    pub(crate) fn cancel(&mut self, peer: &Key) {
        let Some(dial) = self.under_way.get_mut(peer) else { return };
        dial.requests -= 1;
        if dial.requests == 0 {
            self.refund(peer, |_| true);
        }
    }

    /// The dial of a peer is over: what was spent on it at such hosts did not fail.
    fn refund(&mut self, peer: &Key, of: impl Fn(&Host) -> bool) {
        let spent = self.under_way.remove(peer).map_or_else(Vec::new, |dial| dial.spent);
        let both = |(host, referrer)| destinations(host).map(|at| (at, referrer));
        for (at, referrer) in spent.into_iter().filter(|(host, _)| of(host)).flat_map(both) {
            if let Some(spent) = self.spent.get_mut(&at)
                && let Some(at) = spent.attempts.iter().position(|of| *of == referrer)
            {
                spent.attempts.swap_remove(at);
            }
        }
    }

    /// A connection to a peer is up, by a dial or by the peer's own, with its other `end` there, as far as that is known.
    pub(crate) fn on_connected(&mut self, peer: &Key, end: Option<&[u8]>, dialled: bool) {
        let host = end.and_then(Host::of);
        self.refund(peer, |spent| Some(*spent) == host);
        let Some(addr) = end.filter(|_| dialled) else { return };
        self.set_transport(addr, true);
        host.into_iter().for_each(|host| self.on_success(host));
    }

    /// A peer answered. Where a driver has no connections, this alone tells that its dial succeeded; at which host is known
    /// where it was tried at one.
    pub(crate) fn on_answer(&mut self, peer: &Key) {
        let Some(dial) = self.under_way.get(peer) else { return };
        let host = dial.spent.first().map(|(host, _)| *host);
        let host = host.filter(|host| dial.spent.iter().all(|(other, _)| other == host));
        self.refund(peer, |spent| Some(*spent) == host);
        host.into_iter().for_each(|host| self.on_success(host));
    }

    /// A dial at a host succeeded: nothing that was spent there counts, and one more may be.
    fn on_success(&mut self, host: Host) {
        if let Some(spent) = self.spent.get_mut(&(host, PER_HOST)) {
            *spent = Spending { successes: (spent.successes + 1).min(MAX_SUCCESSES), ..Spending::new(spent.since) };
        }
    }

    /// A dial of a peer failed at this address; `lower` says whether this node's place is the lower one of both.
    ///
    /// Two that dial each other at once may end up on one connection that both believe to have dialled, which no handshake
    /// survives. Which error that is nobody tells, so after any of these one of both dials again, once; the other one is
    /// found by that.
    pub(crate) fn on_failed(&mut self, now: Timestamp, peer: &Key, addr: &[u8], cause: DialCause, lower: bool) {
        let worth = match cause {
            DialCause::WrongPeer => MAX_AGAIN,
            DialCause::NoTransport if !self.is_transport_proven(addr) && self.set_transport(addr, false) => MAX_AGAIN,
            DialCause::Unknown | DialCause::Closed | DialCause::Handshake => u8::from(lower),
            _ => 0,
        };
        if worth > self.retries_left(now, peer) {
            self.learnt = Some((*peer, now, worth));
        }
    }

    /// How often a request may be sent again whose dial of the peer failed just now, since the next may come out otherwise.
    pub(crate) fn retries_left(&self, now: Timestamp, peer: &Key) -> u8 {
        self.learnt.filter(|(of, at, _)| of == peer && now < *at + AGAIN).map_or(0, |(_, _, worth)| worth)
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

    fn spent_at(&mut self, now: Timestamp, at: Destination) -> &mut Spending {
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
        let spent = self.spent.entry(at).or_insert_with(|| Spending::new(now));
        if now >= spent.since + PERIOD {
            *spent = Spending::new(now);
        }
        spent
    }
}

impl Spending {
    fn new(since: Timestamp) -> Spending {
        Spending { since, attempts: SmallVec::new(), successes: 0 }
    }

    /// Whether there may be one more attempt here for this referrer.
    fn is_left(&self, now: Timestamp, at: &Destination, referrer: &Referrer) -> bool {
        let (limit, others) = (at.1 + self.successes, at.1 / 3);
        let is_there = referrer.is_some_and(|referrer| destinations(referrer).contains(at));
        let own = self.attempts.iter().filter(|of| *of == referrer).count();
        now >= self.since + PERIOD || self.attempts.len() < limit && (is_there || own + others < limit)
    }
}

#[cfg(test)]
mod tests;
