//! The kinds of nodes behind one interface.
//!
//! Knows: which inputs each kind understands. Must not know: the network.

use std::sync::Arc;

use libp2p_identity::PeerId;

use super::adversary::Adversary;
use super::directory::{Directory, NodeIndex};
use super::random::Random;
use super::stock::StockNode;
use libp2p_kad_dht::core::store::StoreExt as _;
use libp2p_kad_dht::core::{
    BucketSnapshot, Dht, DhtConfig, InboundId, Input, MemoryStore, MemoryStoreConfig, Mode, Operation, Output, QueryId,
    QueryOptions, RecordKey, Reply, Request, RequestError, RequestId, Response, Stats, Timestamp,
};

/// A node.
#[derive(Default)]
#[non_exhaustive]
pub enum Node {
    /// No node: the peer is offline.
    #[default]
    Absent,
    /// A node of this library.
    Ours(Box<Dht>),
    /// A node that does lookups by the rules of another implementation.
    Stock(Box<StockNode>),
    /// A node that works against the others.
    Adversary(Box<Adversary>),
}

impl Node {
    /// A node of this library with an empty store. Its routing table takes in `known`, in this order and by the rules
    /// for peers that have answered. `now` is the virtual time in microseconds.
    ///
    /// # Panics
    ///
    /// When the configuration is not valid, or the directory has no peer with one of these indices.
    #[expect(clippy::expect_used, reason = "a scenario with a configuration that is not valid has no use")]
    pub fn ours(
        directory: &Directory,
        now: u64,
        index: NodeIndex,
        config: &Arc<DhtConfig>,
        known: &[NodeIndex],
    ) -> Node {
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

    /// Whether the node stores a value under this key.
    pub fn has_value(&mut self, now: u64, key: &RecordKey) -> bool {
        match self {
            Node::Ours(dht) => {
                matches!(dht.store().get(Timestamp::from_micros(now), key), Ok(Some(_)))
            }
            Node::Stock(player) => player.has_value(key),
            Node::Absent | Node::Adversary(_) => false,
        }
    }

    /// Whether the node stores the record that this peer provides this key; `false` for nodes that are not ours.
    pub fn has_provider(&mut self, now: u64, key: &RecordKey, provider: &PeerId) -> bool {
        let Node::Ours(dht) = self else { return false };
        let Ok(records) = dht.store().providers(Timestamp::from_micros(now), key) else { return false };
        records.iter().any(|record| record.provider.peer() == provider)
    }

    /// The number of values in its store; 0 for nodes that are not ours.
    pub fn stored_values(&mut self) -> usize {
        let Node::Ours(dht) = self else { return 0 };
        dht.store().usage().values
    }

    /// Its counters; `None` for nodes that are not ours.
    pub fn stats(&self) -> Option<&Stats> {
        let Node::Ours(dht) = self else { return None };
        Some(dht.stats())
    }

    /// For each bucket of its routing table, whether it is full, and its entries; empty for nodes that are not ours.
    pub fn buckets(&self, directory: &Directory) -> Vec<(bool, Vec<NodeIndex>)> {
        let Node::Ours(dht) = self else { return Vec::new() };
        let of = |bucket: &BucketSnapshot| {
            let entries = bucket.entries.iter().filter_map(|entry| directory.index_of(&entry.peer)).collect();
            (bucket.entries.len() >= bucket.capacity, entries)
        };
        dht.routing_snapshot().buckets.iter().map(of).collect()
    }

    /// The entries of its routing table.
    pub fn table_entries(&self, directory: &Directory) -> Vec<NodeIndex> {
        match self {
            Node::Ours(dht) => {
                let table = dht.routing_snapshot();
                table.entries().filter_map(|entry| directory.index_of(&entry.peer)).collect()
            }
            Node::Stock(player) => player.table().iter().collect(),
            Node::Absent | Node::Adversary(_) => Vec::new(),
        }
    }

    /// Whether the peer is online.
    pub fn is_present(&self) -> bool {
        !matches!(self, Node::Absent)
    }

    /// Whether the node is online as a server, which other nodes may have in their tables.
    pub fn serves(&self) -> bool {
        match self {
            Node::Absent => false,
            Node::Ours(dht) => dht.mode() == Mode::Server,
            Node::Stock(_) | Node::Adversary(_) => true,
        }
    }

    /// The time after a failed dial in which another dial to the same peer fails at once, in microseconds.
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

    /// Passes a request to the node. Stock nodes and adversaries reply at once.
    pub(crate) fn handle_request(
        &mut self,
        now: u64,
        directory: &Directory,
        (from, peer): (NodeIndex, PeerId),
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
            Node::Adversary(adversary) => adversary.handle_request(directory, from, request),
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

    /// The request was sent, over a connection that is established.
    pub(crate) fn on_sent(&mut self, now: u64, id: RequestId) {
        match self {
            Node::Ours(_) => self.handle_input(now, Input::Sent { id }),
            Node::Stock(player) => player.on_connected(now, id),
            Node::Absent | Node::Adversary(_) => {}
        }
    }

    /// Passes any other input; only our own nodes have a use for it.
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
