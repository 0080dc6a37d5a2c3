//! The view that a query has of its node, and the lookups that it starts with it.
//!
//! Knows: how the configuration shapes a lookup. Must not know: what a lookup is for.

use std::num::NonZeroUsize;
use std::sync::Arc;

use libp2p_identity::PeerId;

use crate::core::config::DhtConfig;
use crate::core::contact::Contact;
use crate::core::io::{PeerRecord, QueryOptions};
use crate::core::key::{Distance, Key};
use crate::core::lookup::{Lookup, Shape};
use crate::core::peers::Peers;
use crate::core::quorum::Quorum;
use crate::core::rtt::RttEstimator;
use crate::core::time::{NodeTime, Timestamp};

/// The view that a query has of its node.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    /// The node's own time.
    pub(crate) now: Timestamp,
    /// The host's date, which decides when records expire.
    pub(crate) date: Timestamp,
    pub(crate) config: &'a DhtConfig,
    pub(crate) peers: &'a Peers,
    pub(crate) rtt: &'a RttEstimator,
}

impl<'a> Context<'a> {
    pub(crate) fn new(time: &NodeTime, config: &'a DhtConfig, peers: &'a Peers, rtt: &'a RttEstimator) -> Context<'a> {
        Context { now: time.now, date: time.date, config, peers, rtt }
    }

    /// A lookup for the `count` peers closest to `target`. It starts from twice as many of the closest known peers,
    /// since where many peers are dead, their neighbours name the same dead ones.
    pub(crate) fn lookup(&self, target: Key, count: usize, paths: Option<NonZeroUsize>) -> Lookup {
        let seeds = self.peers.seeds(self.now, &target, count.saturating_mul(2));
        self.lookup_from(target, count, paths, &seeds, false)
    }

    /// The lookup of a query: for the k closest peers, or of the peers that its options name.
    pub(crate) fn lookup_for(&self, target: Key, options: &QueryOptions) -> Lookup {
        let Some(only) = &options.only else { return self.lookup(target, self.replication(), options.paths) };
        let count = only.len();
        let shape = Shape {
            count,
            parallelism: count,
            resiliency: count,
            paths: 1,
            spare: 0,
            frontier: count,
            bytes: 0,
            wary: false,
            closed: true,
        };
        Lookup::new(target, &self.contacts(only), shape)
    }

    /// These peers, each with the addresses that this node knows.
    pub(crate) fn contacts(&self, peers: &[PeerId]) -> Vec<Arc<Contact>> {
        let contact = |peer: &PeerId| self.peers.contact(peer).unwrap_or_else(|| Contact::new(*peer, []));
        peers.iter().map(contact).collect()
    }

    /// The number of peers that a quorum is of: those that the options name, else k.
    pub(crate) fn quorum(&self, quorum: Quorum, options: &QueryOptions) -> NonZeroUsize {
        let named = options.only.as_ref().and_then(|only| NonZeroUsize::new(only.len()));
        quorum.of(named.unwrap_or(self.config.lookup.replication))
    }

    /// A lookup along one path that also starts from the `known` peers, and ends when the `answers` nearest peers have
    /// answered. With fewer than k answers, it stops trusting an answer whose peers fail.
    pub(crate) fn short_lookup(&self, target: Key, answers: usize, known: &[Arc<Contact>]) -> Lookup {
        let mut seeds = self.peers.seeds(self.now, &target, self.replication().saturating_mul(2));
        seeds.extend(known.iter().cloned());
        self.lookup_from(target, answers, Some(NonZeroUsize::MIN), &seeds, answers < self.replication())
    }

    /// The distance from its target within which a finished lookup knows all peers. In a small network, where fewer
    /// than k answered, that is the whole keyspace. In others nothing is known beyond the farthest peer that was named.
    pub(crate) fn reach(&self, lookup: &Lookup) -> Distance {
        let (k, found) = (self.replication(), lookup.closest());
        if found.len() < k && self.is_small() {
            return Distance::MAX;
        }
        let farthest = || found.last().map_or(Distance::ZERO, |peer| peer.key().distance(lookup.target()));
        lookup.reach(k).unwrap_or_else(farthest)
    }

    fn lookup_from(
        &self,
        target: Key,
        count: usize,
        paths: Option<NonZeroUsize>,
        seeds: &[Arc<Contact>],
        wary: bool,
    ) -> Lookup {
        let config = &self.config.lookup;
        let shape = Shape {
            count,
            parallelism: config.parallelism.get(),
            resiliency: config.resiliency.get(),
            paths: paths.unwrap_or(config.paths).get().min(count),
            spare: self.rtt.failing_of(count),
            frontier: self.config.limit.frontier.max(count),
            bytes: self.config.limit.lookup_bytes,
            wary,
            closed: false,
        };
        Lookup::new(target, seeds, shape)
    }

    /// A peer as reported to the application. The query may have begun before this node's own addresses changed, so the
    /// peer's addresses are filtered once more.
    pub(crate) fn record_of(&self, peer: &Arc<Contact>) -> PeerRecord {
        PeerRecord::from(&*self.peers.filtered(peer))
    }

    /// Whether the whole network may be fewer than k peers.
    pub(crate) fn is_small(&self) -> bool {
        self.peers.table.len() < self.replication()
    }

    /// The replication factor k.
    pub(crate) fn replication(&self) -> usize {
        self.config.lookup.replication.get()
    }
}
