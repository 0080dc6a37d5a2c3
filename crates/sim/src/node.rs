//! The kinds of nodes, behind the same doors.
//!
//! Knows: how to hand each kind what it understands. Must not know: the network.

use std::sync::Arc;
use std::time::Duration;

use libp2p_identity::PeerId;

use super::adversary::Adversary;
use super::directory::{Directory, Index};
use super::random::Random;
use super::stock::Player;
use libp2p_kad_dht::core::store::StoreExt as _;
use libp2p_kad_dht::core::{
    BucketSnapshot, Dht, DhtConfig, InboundId, Input, MemoryStore, MemoryStoreConfig, Mode, Operation, Output, QueryId,
    QueryOptions, RecordKey, Reply, Request, RequestError, RequestId, Response, Stats, Timestamp,
};

/// One node; `Absent` while it is offline, or for an id that nobody answers for.
#[derive(Default)]
pub(crate) enum Node {
    #[default]
    Absent,
    Ours(Box<Dht>),
    Stock(Box<Player>),
    Adversary(Box<Adversary>),
}

/// One of our own nodes, with these peers in its table by the rules that hold for peers that answered.
#[expect(clippy::expect_used, reason = "scenarios check their configuration; a wrong one is a mistake in a scenario")]
pub(crate) fn ours(directory: &Directory, now: u64, index: Index, config: &Arc<DhtConfig>, known: &[Index]) -> Node {
    let now = Timestamp::from_micros(now);
    let local = Arc::clone(directory.contact(index));
    let mut random = Random::new(directory.seed(), "node", index.into());
    let store = Box::new(MemoryStore::new(MemoryStoreConfig::default(), random.bytes()));
    let mut dht = Dht::new(now, local, store, random.bytes(), Arc::clone(config)).expect("a valid configuration");
    dht.handle_input(now, Input::LocalAddrs(directory.contact(index).addrs().collect()));
    for peer in known {
        dht.admit_verified(now, directory.contact(*peer));
    }
    Node::Ours(Box::new(dht))
}

impl Node {
    /// Whether it keeps a value under this key.
    pub(crate) fn holds(&mut self, now: u64, key: &RecordKey) -> bool {
        match self {
            Node::Ours(dht) => {
                matches!(dht.store().get(Timestamp::from_micros(now), key), Ok(Some(_)))
            }
            Node::Stock(player) => player.holds(key),
            Node::Absent | Node::Adversary(_) => false,
        }
    }

    /// Whether it keeps the record that this peer provides this key.
    pub(crate) fn knows_provider(&mut self, now: u64, key: &RecordKey, provider: &PeerId) -> bool {
        let Node::Ours(dht) = self else { return false };
        let Ok(records) = dht.store().providers(Timestamp::from_micros(now), key) else { return false };
        records.iter().any(|record| record.provider.peer() == provider)
    }

    /// How many values of others it keeps.
    pub(crate) fn values_kept(&mut self) -> usize {
        let Node::Ours(dht) = self else { return 0 };
        dht.store().usage().values
    }

    /// What it did so far; only of our own nodes.
    pub(crate) fn stats(&self) -> Option<&Stats> {
        let Node::Ours(dht) = self else { return None };
        Some(dht.stats())
    }

    /// The buckets of its table, and whether each is full; only of our own nodes.
    pub(crate) fn buckets(&self, directory: &Directory) -> Vec<(bool, Vec<Index>)> {
        let Node::Ours(dht) = self else { return Vec::new() };
        let of = |bucket: &BucketSnapshot| {
            let entries = bucket.entries.iter().filter_map(|entry| directory.index_of(&entry.peer)).collect();
            (bucket.entries.len() >= bucket.capacity, entries)
        };
        dht.routing_snapshot().buckets.iter().map(of).collect()
    }

    /// Whom it has in its routing table now.
    pub(crate) fn known(&self, directory: &Directory) -> Vec<Index> {
        match self {
            Node::Ours(dht) => {
                let table = dht.routing_snapshot();
                table.entries().filter_map(|entry| directory.index_of(&entry.peer)).collect()
            }
            Node::Stock(player) => player.table().iter().collect(),
            Node::Absent | Node::Adversary(_) => Vec::new(),
        }
    }

    pub(crate) fn is_present(&self) -> bool {
        !matches!(self, Node::Absent)
    }

    /// Whether others may keep it in their tables.
    pub(crate) fn serves(&self) -> bool {
        match self {
            Node::Absent => false,
            Node::Ours(dht) => dht.mode() == Mode::Server,
            Node::Stock(_) | Node::Adversary(_) => true,
        }
    }

    /// For how long after a failed dial another one to the same peer fails at once, in microseconds.
    pub(crate) fn dial_backoff(&self) -> u64 {
        match self {
            Node::Stock(player) => player.dial_backoff(),
            Node::Absent | Node::Ours(_) | Node::Adversary(_) => 0,
        }
    }

    pub(crate) fn start(
        &mut self,
        now: u64,
        directory: &Directory,
        operation: Operation,
        options: QueryOptions,
    ) -> Option<QueryId> {
        match self {
            Node::Ours(dht) => dht.start(Timestamp::from_micros(now), operation, options).ok(),
            Node::Stock(player) => Some(player.start(now, directory, operation)),
            Node::Absent | Node::Adversary(_) => None,
        }
    }

    /// Hands over a request; the reply comes back at once from those who never think about it.
    pub(crate) fn handle_request(
        &mut self,
        now: u64,
        directory: &Directory,
        (from, peer): (Index, PeerId),
        id: InboundId,
        request: Request,
    ) -> Option<Reply> {
        match self {
            Node::Absent => None,
            Node::Ours(dht) => {
                dht.handle_input(Timestamp::from_micros(now), Input::Request { from: peer, id, request });
                None
            }
            Node::Stock(player) => Some(player.handle_request(directory, from, request)),
            Node::Adversary(adversary) => adversary.reply(directory, from, request),
        }
    }

    pub(crate) fn handle_response(
        &mut self,
        now: u64,
        directory: &Directory,
        id: RequestId,
        result: Result<Response, RequestError>,
    ) {
        match self {
            Node::Ours(dht) => dht.handle_input(Timestamp::from_micros(now), Input::Response { id, result }),
            Node::Stock(player) => player.handle_response(now, directory, id, result),
            Node::Absent | Node::Adversary(_) => {}
        }
    }

    /// The connection that this request waits for is up, and the request is sent.
    pub(crate) fn on_ready(&mut self, now: u64, id: RequestId) {
        match self {
            Node::Ours(_) => self.handle_input(now, Input::Sent { id, settle: Duration::ZERO }),
            Node::Stock(player) => player.on_connected(now, id),
            Node::Absent | Node::Adversary(_) => {}
        }
    }

    /// Anything else that only our own nodes listen to.
    pub(crate) fn handle_input(&mut self, now: u64, input: Input) {
        if let Node::Ours(dht) = self {
            dht.handle_input(Timestamp::from_micros(now), input);
        }
    }

    pub(crate) fn handle_timeout(&mut self, now: u64, directory: &Directory) {
        match self {
            Node::Ours(dht) => dht.handle_input(Timestamp::from_micros(now), Input::Timeout),
            Node::Stock(player) => player.handle_timeout(now, directory),
            Node::Absent | Node::Adversary(_) => {}
        }
    }

    pub(crate) fn poll_output(&mut self) -> Option<Output> {
        match self {
            Node::Ours(dht) => dht.poll_output(),
            Node::Stock(player) => player.poll_output(),
            Node::Absent | Node::Adversary(_) => None,
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<u64> {
        match self {
            Node::Ours(dht) => dht.poll_timeout().filter(|at| *at != Timestamp::MAX).map(Timestamp::as_micros),
            Node::Stock(player) => player.poll_timeout(),
            Node::Absent | Node::Adversary(_) => None,
        }
    }
}
