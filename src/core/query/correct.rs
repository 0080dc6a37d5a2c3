//! After a get: brings the best value, in the background, to peers that lack it.
//!
//! Knows: which of the peers that answered should have the value, and for how long. Must not know: what ended the get.
//!
//! Each of the k closest known peers that answered without the value receives a *correction*, with the lifetime that
//! remains (rules L16 and A59). The closest peer that answered without it and is not one of the k closest receives a
//! *copy* (Kademlia, §4.1), with a lifetime that halves with every k nodes that are nearer to the key. Neither makes
//! the value live longer. At most k peers are addressed after a get, so that provoking gets is of no use.
//!
//! A copy lives for the remaining lifetime times 2^(-b/k), where b is the number of nodes between its holder and the
//! closest one: by the estimated size of the network, or as many as the lookup saw if that is more. No copy is sent for
//! less than a minute, nor where an older value was seen, since it would not be corrected, nor where no holder names an
//! expiry, since the copy could outlive the value.
//!
//! *Dropped:* asking all of the k closest before answering, for which the caller would pay; and a queue of corrections
//! with limits of its own.

use std::sync::Arc;
use std::time::Duration;

use super::{Context, DELIVERY, Step};
use crate::core::config::MIN_CACHE_TTL;
use crate::core::contact::Contact;
use crate::core::error::Report;
use crate::core::io::Answer;
use crate::core::key::Key;
use crate::core::lookup::Lookup;
use crate::core::message::{Request, Value};
use crate::core::record::Record;
use crate::core::time::Timestamp;

/// A lifetime travels in whole seconds, and none at all means the longest.
const MIN_TTL: Duration = Duration::from_secs(1);
/// Subtracted from the lifetime that remains, for the time in transit: receivers count a lifetime from its arrival.
const TRANSIT: Duration = Duration::from_secs(1);

/// The findings of a get.
pub(crate) struct Read<'a> {
    pub(crate) lookup: &'a Lookup,
    pub(crate) best: &'a Record,
    /// Time at which the best value expires, if a holder names one.
    pub(crate) expires: Option<Timestamp>,
    /// The peers that answered without a value.
    pub(crate) missing: &'a [Arc<Contact>],
    /// The peers that held an older value.
    pub(crate) outdated: &'a [Arc<Contact>],
    /// The peers that sent an invalid value, which the lookup counts as failed.
    pub(crate) invalid: &'a [Arc<Contact>],
    /// Whether this node itself keeps an older value, or none.
    pub(crate) lacked_here: bool,
    /// Whether this node keeps an older value.
    pub(crate) older_here: bool,
}

/// The work that a get leaves to be done.
#[derive(Clone, Debug, Default)]
pub(crate) struct FollowUp {
    /// The value for this node's own store: to replace an older one, or to keep if this node is a server.
    pub(crate) keep: Option<Record>,
    /// Whether this node's own store has an older value.
    pub(crate) replaces: bool,
    /// The peers that get the value, nearest to the key first.
    pub(crate) corrected: Vec<Arc<Contact>>,
    /// The peer that gets a short-lived copy.
    pub(crate) cached: Option<Arc<Contact>>,
    /// The messages to these peers.
    requests: Vec<(Arc<Contact>, Request)>,
}

impl FollowUp {
    pub(crate) fn of(cx: &Context<'_>, read: &Read<'_>) -> FollowUp {
        let remaining = read.expires.map(|at| at.since(cx.date).saturating_sub(TRANSIT));
        let too_large = read.best.value.len() > cx.config.record.max_value_len;
        if too_large || remaining.is_some_and(|remaining| remaining < MIN_TTL) {
            return FollowUp::default();
        }
        let target = read.best.key.key();
        let closest = read.lookup.nearest(cx.replication());
        let near = would_be_closest(&target, &closest, cx.peers.local.key(), cx.replication());
        let keep = read.older_here || (read.lacked_here && near);
        let corrected = read.to_correct(cx, &target, &closest);
        let copy = if corrected.is_empty() { read.to_copy(cx, &target, remaining) } else { None };
        let mut requests = Vec::with_capacity(corrected.len() + usize::from(copy.is_some()));
        let ask = |ttl| Request::PutValue { value: read.value(cx, ttl) };
        requests.extend(corrected.iter().map(|peer| (Arc::clone(peer), ask(remaining))));
        requests.extend(copy.iter().map(|(peer, ttl)| (Arc::clone(peer), ask(Some(*ttl)))));
        let keep = keep.then(|| read.record(cx));
        FollowUp { keep, replaces: read.older_here, corrected, cached: copy.map(|(peer, _)| peer), requests }
    }

    /// The query that sends the value to these peers; `None` if there are none.
    pub(crate) fn into_machine(self) -> Option<Correct> {
        let mut to_send = self.requests;
        to_send.reverse();
        (!to_send.is_empty()).then_some(Correct { to_send, waiting: 0 })
    }
}

impl Read<'_> {
    /// The closest peers that lack the value, at most k. Peers that sent an invalid one come after the others.
    fn to_correct(&self, cx: &Context<'_>, target: &Key, closest: &[Arc<Contact>]) -> Vec<Arc<Contact>> {
        let lacks = |peer: &Arc<Contact>| [self.missing, self.outdated].iter().any(|list| peer.is_among(list));
        let mut chosen: Vec<_> = closest.iter().filter(|peer| lacks(peer)).cloned().collect();
        let near = |peer: &Arc<Contact>| would_be_closest(target, closest, peer.key(), cx.replication());
        let fresh = self.invalid.iter().filter(|peer| !peer.is_among(closest) && near(peer));
        chosen.extend(fresh.take(cx.replication() - chosen.len()).cloned());
        chosen.sort_by_key(|peer| target.distance(peer.key()));
        chosen
    }

    /// The closest peer that held no value, if it is not one of the k closest, and the lifetime of its copy. There is
    /// no copy of a value of which an older version was found, nor of one without a known time of expiry.
    fn to_copy(&self, cx: &Context<'_>, target: &Key, remaining: Option<Duration>) -> Option<(Arc<Contact>, Duration)> {
        if !cx.config.record.path_caching || !self.outdated.is_empty() {
            return None;
        }
        let nearest = self.missing.iter().min_by_key(|peer| target.distance(peer.key()))?;
        let distance = target.distance(nearest.key());
        let nearer = |peer: &&Arc<Contact>| target.distance(peer.key()) < distance;
        let known = self.lookup.nearest(usize::MAX).iter().filter(nearer).count();
        let estimated = cx.peers.table.estimated_nodes() * distance.as_fraction();
        let ttl = copy_ttl(remaining?, estimated.max(known as f64), cx.replication());
        (ttl >= MIN_CACHE_TTL).then(|| (Arc::clone(nearest), ttl))
    }

    fn value(&self, cx: &Context<'_>, ttl: Option<Duration>) -> Value {
        let mut value = Value::new(self.best.key.clone(), self.best.value.clone());
        (value.publisher, value.ttl, value.received) = (self.best.publisher, ttl, Some(cx.date));
        value.age = self.best.age(cx.date);
        value
    }

    /// The best value, as if a peer had stored it here.
    fn record(&self, cx: &Context<'_>) -> Record {
        let mut record = Record::new(self.best.key.clone(), self.best.value.clone(), cx.date);
        (record.publisher, record.put) = (self.best.publisher, self.best.put);
        let longest = cx.date + cx.config.record.value_ttl;
        record.expires = Some(self.expires.map_or(longest, |expires| expires.min(longest)));
        record
    }
}

/// Whether `key` would be among the k closest, if these are the closest known peers.
fn would_be_closest(target: &Key, closest: &[Arc<Contact>], key: &Key, k: usize) -> bool {
    let distance = target.distance(key);
    closest.iter().filter(|peer| target.distance(peer.key()) < distance).count() < k
}

/// The lifetime of a copy at a peer when `nearer` nodes are nearer to the key: it halves with every k nodes between the
/// peer and the closest node. Source: the Kademlia paper, §4.1, asks for a lifetime exponentially inversely
/// proportional to the number of nodes between; since k of them halve it, the copies along a whole path live hardly
/// longer than one.
fn copy_ttl(remaining: Duration, nearer: f64, k: usize) -> Duration {
    let between = (nearer - 1.0).max(0.0);
    remaining.mul_f64(0.5_f64.powf(between / k as f64))
}

/// Sends the best value of a get to the peers that lack it.
#[derive(Clone, Debug)]
pub(crate) struct Correct {
    to_send: Vec<(Arc<Contact>, Request)>,
    waiting: usize,
}

impl Correct {
    pub(crate) fn next(&mut self, report: &mut Report) -> Step {
        match self.to_send.pop() {
            Some((to, request)) => {
                self.waiting += 1;
                Step::Ask(to, request, DELIVERY)
            }
            None if self.waiting == 0 => Step::Finish(Ok(Answer::Published(std::mem::take(report).into()))),
            None => Step::Wait,
        }
    }

    /// A peer answered or failed: no other is asked in its place.
    pub(crate) fn on_end(&mut self) {
        self.waiting = self.waiting.saturating_sub(1);
    }

    pub(crate) fn unasked(&self) -> usize {
        self.to_send.len()
    }
}

#[cfg(test)]
mod tests {
    use libp2p_identity::PeerId;

    use super::*;
    use crate::core::config::DhtConfig;
    use crate::core::lookup::Shape;
    use crate::core::peers::Peers;
    use crate::core::rtt::RttEstimator;
    use crate::core::time::NodeTime;

    const HOUR: Duration = Duration::from_secs(3_600);
    const NOW: Timestamp = Timestamp::from_secs(1_000_000);

    fn contact(key: Key) -> Arc<Contact> {
        Contact::with_key(PeerId::random(), key, ["/memory/1".parse().unwrap()])
    }

    /// A contact at this distance from the key.
    fn at(place: u8) -> Arc<Contact> {
        let mut bytes = best().key.key().to_bytes();
        bytes[0] ^= place;
        contact(Key::from_bytes(bytes))
    }

    fn best() -> Record {
        Record::new("/a/b", "v", NOW)
    }

    /// The follow-up of a get that all of `heard` answered, `invalid` with an invalid value.
    fn follow_up(heard: &[Arc<Contact>], missing: &[Arc<Contact>], invalid: &[Arc<Contact>]) -> FollowUp {
        let mut config = DhtConfig::default();
        config.lookup.replication = 4.try_into().unwrap();
        let peers = Peers::new(at(0xff), &config);
        let rtt = RttEstimator::default();
        let cx = Context::new(&NodeTime::new(NOW), &config, &peers, &rtt);
        let shape = Shape {
            count: 4,
            parallelism: 99,
            resiliency: 3,
            paths: 1,
            spare: 0,
            frontier: 512,
            bytes: 0,
            wary: false,
            closed: false,
        };
        let mut lookup = Lookup::new(best().key.key(), heard, shape);
        while let crate::core::lookup::Next::Ask(peer) = lookup.next() {
            match peer.is_among(invalid) {
                true => lookup.on_failure(peer.key()),
                false => drop(lookup.on_answer(peer.key(), &[])),
            }
        }
        let expires = Some(NOW + HOUR);
        let read = Read {
            lookup: &lookup,
            best: &best(),
            expires,
            missing,
            outdated: &[],
            invalid,
            lacked_here: true,
            older_here: false,
        };
        FollowUp::of(&cx, &read)
    }

    #[test]
    fn k_at_most_are_corrected_those_in_good_order_before_the_others() {
        let peers: Vec<_> = (1..=40).map(at).collect();
        let all_lack = follow_up(&peers, &peers, &[]);
        assert_eq!(all_lack.corrected, peers[..4]);
        assert_eq!((all_lack.requests.len(), &all_lack.cached, &all_lack.keep), (4, &None, &None));
        // Three liars nearer than everyone else take nothing from those who only lack it.
        let (liars, honest) = (&peers[..3], &peers[3..]);
        assert_eq!(follow_up(&peers, honest, liars).corrected, honest[..4]);
        // Where the honest hold it, the liars are corrected, nearest first.
        assert_eq!(follow_up(&peers, &[], liars).corrected, *liars);
        // Far away they are none of the closest.
        assert!(follow_up(&peers, &[], &peers[10..]).corrected.is_empty());
    }

    #[test]
    fn a_copy_goes_to_the_nearest_that_held_none() {
        let peers: Vec<_> = (1..=40).map(at).collect();
        let follow_up = follow_up(&peers, &peers[8..], &[]);
        assert_eq!((follow_up.corrected.len(), &follow_up.cached), (0, &Some(Arc::clone(&peers[8]))));
        let [(to, Request::PutValue { value })] = &follow_up.requests[..] else { panic!("{follow_up:?}") };
        assert_eq!(to, &peers[8]);
        // Eight nodes are nearer, and seven of them between: 2^-(7/4) of an hour.
        assert_eq!(value.ttl.map(|ttl| ttl.as_secs()), Some(1_069));
    }

    #[test]
    fn copies_live_half_as_long_for_every_k_nodes_between() {
        assert_eq!(copy_ttl(HOUR, 0.0, 20), HOUR);
        assert_eq!(copy_ttl(HOUR, 1.0, 20), HOUR);
        assert_eq!(copy_ttl(HOUR, 21.0, 20), HOUR / 2);
        assert_eq!(copy_ttl(HOUR, 61.0, 20), HOUR / 8);
        assert!(copy_ttl(48 * HOUR, 260.0, 20) < 6 * MIN_CACHE_TTL);
        assert_eq!(copy_ttl(48 * HOUR, 1e9, 20), Duration::ZERO);
        assert_eq!(copy_ttl(48 * HOUR, f64::INFINITY, 20), Duration::ZERO);
    }
}
