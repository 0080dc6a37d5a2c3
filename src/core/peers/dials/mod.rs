//! Lessons from past dials: addresses at which another peer answers, transports that this node has, and hosts that were
//! tried in vain.
//!
//! Knows: addresses that were dialled, and with what outcome. Must not know: the routing table, or why a peer is asked.
//!
//! **A dial must not be a weapon.** A peer that names another one names addresses that this node then dials, and ids
//! cost nothing. So dials of mere claims have a budget by destination: a host takes [`PER_HOST`] attempts that are not
//! known to have succeeded, a network [`PER_NETWORK`], within [`PERIOD`]. An attempt counts from its beginning, since
//! its outcome is not known yet; a success takes back what was spent at the host that answers, and at no other that was
//! tried at the same time. An attempt also does not count if all requests that wait for it are given up before it was
//! made. Trusted addresses ([`Addresses::is_trusted`]) are dialled outside all budgets, and do not count.
//!
//! A third of each budget is kept for others than the one that spends the rest: each [`Referrer`] has a share, so that
//! one that names useless addresses uses up only its own share. A referrer is the host of a peer that named the
//! address, since ids are free; one at the destination itself may spend all that is left.
//!
//! A request for which no attempt is left waits for the dials under way at the host, until a second after they began:
//! each that succeeds gives its attempt back. So a node that hears of twenty peers of one machine reaches all of them.
//! Three dead addresses hold up a lookup for that second, once a minute.
//!
//! *Promised:* a host receives at most three vain attempts a minute from this node for addresses that others name,
//! whichever peers name them and under however many ids. This does not keep out a new peer that connects, that the
//! application names, or at whose host others answer; nor one that is known by hearsay alone, if a peer elsewhere than
//! at the attacker's one host names it. *Not promised:* the same against attackers at two hosts; the new peer then
//! waits for up to a minute, and longer while they continue. A name that stands for any number of addresses
//! (`/dnsaddr`) is not dialled on hearsay.
//!
//! *Measured:* callers that announce a victim's addresses and hang up caused 42 connection attempts each, and now none.
//! *Dropped:* counting by peer, since strangers can make up peers; and waiting for longer, by which a lookup stands still
//! behind three dead addresses.
//!
//! [`Addresses::is_trusted`]: super::addresses::Addresses::is_trusted

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use super::host::{Host, Transport};
use crate::core::contact::Contact;
use crate::core::key::Key;
use crate::core::message::DialCause;
use crate::core::time::Timestamp;

/// Attempts on hearsay that a host takes. Source: a peer behind it has at most two addresses that are worth a try.
const PER_HOST: usize = 3;
/// Attempts on hearsay that a network takes. Source: a data centre of which a tenth is down does not use it up.
const PER_NETWORK: usize = 30;
/// Maximum number of additional attempts that a host takes at once after as many successes: no more than a network.
const MAX_SUCCESSES: usize = PER_NETWORK - PER_HOST;
/// Time after which a destination that was tried in vain may be tried again.
const PERIOD: Duration = Duration::from_secs(60);
/// Maximum number of hosts and networks remembered, about 100 bytes each; the oldest make room. Also the maximum number
/// of dials under way: beyond it all of them are forgotten, and their attempts stay spent.
const MAX_DESTINATIONS: usize = 4_096;
/// Number of destinations from which on those whose period has expired are searched for.
const FIRST_SWEEP: usize = 64;
/// Maximum number of transports remembered. Source: more than all combinations in use.
const MAX_TRANSPORTS: usize = 64;
/// A dial that succeeds does so within this time, nearly always. Source: three round trips around the
/// world, and the time to compute a handshake.
const PROMPT: Duration = Duration::from_secs(1);
/// A dial is taken for failed after this time. Source: the usual limit of transports.
const DIAL_TIME: Duration = Duration::from_secs(10);

/// Maximum number of times that a request is sent again after its dial revealed an address that is of no use. Source:
/// each time at least one of sixteen addresses is left out; other peers at more of them than this are no accident.
const MAX_RETRIES: u8 = 4;
/// The requests that waited for a dial end within this time after it. Source: one round of a driver's loop, on a busy
/// machine.
const RETRY_TIME: Duration = Duration::from_millis(100);

#[derive(Debug, Default)]
pub(crate) struct DialHistory {
    /// Addresses at which peers are not, whatever others say. When full, all are forgotten: that costs one dial for
    /// each of those that are named again.
    wrong: BTreeMap<Key, Arc<Contact>>,
    limit: usize,
    /// Whether each transport works: this node reached a peer by it, or does not have it.
    transports: BTreeMap<Transport, bool>,
    spent: BTreeMap<Destination, Spending>,
    /// Number of destinations at which those whose period has expired are forgotten.
    sweep_at: usize,
    under_way: BTreeMap<Key, UnderWay>,
    /// The peer whose failed dial showed that the next may succeed, the time of that, and the number of retries that it
    /// is worth.
    learnt: Option<(Key, Timestamp, u8)>,
}

/// A dial of a peer.
#[derive(Debug)]
struct UnderWay {
    at: Arc<Contact>,
    since: Timestamp,
    /// Number of requests that wait for it.
    requests: usize,
    /// The hosts at which an attempt was spent, and in whose share.
    spent: Vec<(Host, Referrer)>,
}

/// The host at which a peer is seen that named an address. `None` stands for all referrers whose host is not known, and
/// for an address without a referrer.
pub(crate) type Referrer = Option<Host>;

/// A host, or what stands for a network, and how many attempts it takes.
type Destination = (Host, usize);

fn destinations(host: Host) -> [Destination; 2] {
    [(host, PER_HOST), (host.network(), PER_NETWORK)]
}

/// The attempts spent at a destination in a period.
#[derive(Debug)]
struct Spending {
    since: Timestamp,
    /// In whose share each attempt was.
    attempts: SmallVec<[Referrer; PER_HOST]>,
    successes: usize,
}

impl DialHistory {
    /// Remembers wrong addresses of at most `limit` peers.
    pub(crate) fn new(limit: usize) -> DialHistory {
        DialHistory { limit, sweep_at: FIRST_SWEEP, ..DialHistory::default() }
    }

    /// Whether a peer is known not to be at an address.
    pub(crate) fn is_wrong(&self, key: &Key, addr: &[u8]) -> bool {
        self.wrong.get(key).is_some_and(|wrong| wrong.has_addr(addr))
    }

    /// Whether there is an address at which a peer is known not to be.
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

    /// A peer is at these addresses, by its own word, the application's, or since it was reached there.
    pub(crate) fn set_right(&mut self, contact: &Contact) {
        let Some(wrong) = self.wrong.get_mut(contact.key()) else { return };
        *wrong = wrong.filtered(|addr| !contact.has_addr(addr));
        if !wrong.has_addrs() {
            self.wrong.remove(contact.key());
        }
    }

    /// Whether this node has no transport for such an address.
    pub(crate) fn lacks_transport(&self, addr: &[u8]) -> bool {
        self.transports.get(&Transport::of(addr)) == Some(&false)
    }

    /// Whether this node reached a peer by the transport of this address, so that a failure there means something.
    pub(crate) fn is_transport_proven(&self, addr: &[u8]) -> bool {
        self.transports.get(&Transport::of(addr)) == Some(&true)
    }

    /// If a peer is being dialled, adds a request to its dial and returns the addresses of the dial.
    pub(crate) fn join(&mut self, now: Timestamp, key: &Key) -> Option<Arc<Contact>> {
        let dial = self.under_way.get_mut(key).filter(|dial| now < dial.since + DIAL_TIME)?;
        dial.requests += 1;
        Some(Arc::clone(&dial.at))
    }

    /// Whether a dial at this host that began a moment ago may succeed, and give its attempt back.
    pub(crate) fn may_have_attempt_soon(&self, now: Timestamp, host: Host) -> bool {
        let recent = |dial: &UnderWay| now < dial.since + PROMPT && dial.spent.iter().any(|(spent, _)| *spent == host);
        self.under_way.values().any(recent)
    }

    /// A peer is dialled at these addresses, for attempts that were spent on these hosts.
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

    /// Takes an attempt from the budgets of a host and its network, in the share of the first referrer that has one
    /// left in both. Returns that referrer.
    pub(crate) fn take_attempt(&mut self, now: Timestamp, host: Host, referrers: &[Referrer]) -> Option<Referrer> {
        let destinations = destinations(host);
        let left = |at, referrer| self.spent.get(at).is_none_or(|spent| spent.is_left(now, at, referrer));
        let referrer = *referrers.iter().find(|referrer| destinations.iter().all(|at| left(at, referrer)))?;
        for at in destinations {
            self.spending_at(now, at).attempts.push(referrer);
        }
        Some(referrer)
    }

    /// One of the requests that wait for the dial of a peer is given up before that dial was made.
    pub(crate) fn cancel(&mut self, peer: &Key) {
        let Some(dial) = self.under_way.get_mut(peer) else { return };
        dial.requests -= 1;
        if dial.requests == 0 {
            self.refund(peer, |_| true);
        }
    }

    /// The dial of a peer has ended: the attempts spent on it at the hosts that `of` picks are given back.
    fn refund(&mut self, peer: &Key, of: impl Fn(&Host) -> bool) {
        let Some(dial) = self.under_way.remove(peer) else { return };
        for (host, referrer) in dial.spent.into_iter().filter(|(host, _)| of(host)) {
            for at in destinations(host) {
                if let Some(spent) = self.spent.get_mut(&at)
                    && let Some(at) = spent.attempts.iter().position(|of| *of == referrer)
                {
                    spent.attempts.swap_remove(at);
                }
            }
        }
    }

    /// A connection to a peer is up, whichever side dialled, with its other `end` there, as far as that is known.
    pub(crate) fn on_connected(&mut self, peer: &Key, end: Option<&[u8]>, dialled: bool) {
        let host = end.and_then(Host::of);
        self.refund(peer, |spent| Some(*spent) == host);
        if let Some(addr) = end
            && dialled
        {
            self.set_transport(addr, true);
            self.on_success(host);
        }
    }

    /// A peer answered. If a driver has no connections, this alone shows that its dial succeeded; the host is known if
    /// it was tried at only one.
    pub(crate) fn on_answer(&mut self, peer: &Key) {
        let Some(dial) = self.under_way.get(peer) else { return };
        let host = dial.spent.first().map(|(host, _)| *host);
        let host = host.filter(|host| dial.spent.iter().all(|(other, _)| other == host));
        self.refund(peer, |spent| Some(*spent) == host);
        self.on_success(host);
    }

    /// A dial at a host succeeded: its attempts no longer count, and one more is allowed.
    fn on_success(&mut self, host: Option<Host>) {
        if let Some(host) = host
            && let Some(spent) = self.spent.get_mut(&(host, PER_HOST))
        {
            *spent = Spending { successes: (spent.successes + 1).min(MAX_SUCCESSES), ..Spending::new(spent.since) };
        }
    }

    /// A dial of a peer failed at this address; `lower` says whether this node's key is the lower of the two.
    ///
    /// Two peers that dial each other at the same time may end up on one connection that both believe to have dialled,
    /// which no handshake survives. The error does not tell, so after any of these one of the two, the lower one, dials
    /// again, once; the other one is found by that.
    pub(crate) fn on_failed(&mut self, now: Timestamp, peer: &Key, addr: &[u8], cause: DialCause, lower: bool) {
        let retries = match cause {
            DialCause::WrongPeer => MAX_RETRIES,
            DialCause::NoTransport if !self.is_transport_proven(addr) && self.set_transport(addr, false) => MAX_RETRIES,
            DialCause::Unknown | DialCause::Closed | DialCause::Handshake => u8::from(lower),
            _ => 0,
        };
        if retries > self.retries_left(now, peer) {
            self.learnt = Some((*peer, now, retries));
        }
    }

    /// Number of times that a request may be sent again whose dial of the peer failed just now, since the next dial may
    /// succeed.
    pub(crate) fn retries_left(&self, now: Timestamp, peer: &Key) -> u8 {
        match self.learnt {
            Some((of, at, retries)) if of == *peer && now < at + RETRY_TIME => retries,
            _ => 0,
        }
    }

    /// Returns whether this is news. Transports that work are remembered before those that are lacking.
    fn set_transport(&mut self, addr: &[u8], works: bool) -> bool {
        let transport = Transport::of(addr);
        if self.transports.len() >= MAX_TRANSPORTS {
            self.transports.retain(|known, works| *works || *known == transport);
        }
        let room = self.transports.len() < MAX_TRANSPORTS || self.transports.contains_key(&transport);
        room && self.transports.insert(transport, works) != Some(works)
    }

    fn spending_at(&mut self, now: Timestamp, at: Destination) -> &mut Spending {
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

    /// Whether one more attempt is allowed here in the share of this referrer.
    fn is_left(&self, now: Timestamp, at: &Destination, referrer: &Referrer) -> bool {
        let (limit, others) = (at.1 + self.successes, at.1 / 3);
        let is_there = referrer.is_some_and(|referrer| destinations(referrer).contains(at));
        let own = self.attempts.iter().filter(|of| *of == referrer).count();
        now >= self.since + PERIOD || self.attempts.len() < limit && (is_there || own + others < limit)
    }
}

#[cfg(test)]
mod tests;
