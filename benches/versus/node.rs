//! One node of either implementation: a swarm, and the operations that wait for their end.
//!
//! Knows: how to run a behaviour in a swarm. Must not know: which implementation it is.

use std::collections::HashMap;
use std::hash::Hash;
use std::pin::Pin;
use std::sync::{Arc, LazyLock, RwLock};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use futures::Stream;
use libp2p::core::ConnectedPoint;
use libp2p::identity::{Keypair, ed25519};
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::swarm::{Config, NetworkBehaviour, Swarm, SwarmEvent};
use libp2p::{Multiaddr, PeerId, StreamProtocol};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::transport::Kind;

/// The protocol of all nodes. Not that of the public network, where a node has to know how values are checked.
pub(crate) const PROTOCOL: StreamProtocol = StreamProtocol::new("/bench/kad/1.0.0");

/// An operation of a node, counted from 1.
pub(crate) type OperationId = u64;

/// The listen address of each peer of the run. It stands in for identify: a node learns the address of a peer that
/// connects.
pub(crate) type AddressBook = Arc<RwLock<HashMap<PeerId, Multiaddr>>>;

/// The end of one operation.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ended {
    pub(crate) operation: OperationId,
    pub(crate) ok: bool,
    /// The closest peers, or the providers.
    pub(crate) peers: Vec<PeerId>,
    /// Time from the start to the first value or provider.
    pub(crate) first: Option<Duration>,
    pub(crate) took: Duration,
    pub(crate) requests: usize,
}

/// The operations that an implementation of the DHT must offer.
pub(crate) trait Adapter: Send + 'static {
    type Behaviour: NetworkBehaviour<ToSwarm: Send> + Send;
    type Query: Hash + Eq + Send + Copy;

    fn behaviour(keypair: &Keypair) -> Self::Behaviour;
    /// The settings, to be shown beside the figures.
    fn settings() -> Value;
    fn learn(behaviour: &mut Self::Behaviour, peer: PeerId, addr: Multiaddr);
    /// Puts peers that cannot be reached into the table, as if they had answered.
    fn fill(behaviour: &mut Self::Behaviour, peers: &[(PeerId, Vec<Multiaddr>)]);
    /// Whether this node stores a value under the key.
    fn has(behaviour: &mut Self::Behaviour, key: &[u8]) -> bool;
    fn bootstrap(behaviour: &mut Self::Behaviour) -> Option<Self::Query>;
    fn closest(behaviour: &mut Self::Behaviour, key: &[u8]) -> Self::Query;
    /// Stores at all of the k closest peers and waits for each answer.
    fn put(behaviour: &mut Self::Behaviour, key: &[u8], value: Vec<u8>) -> Self::Query;
    fn get(behaviour: &mut Self::Behaviour, key: &[u8]) -> Self::Query;
    fn provide(behaviour: &mut Self::Behaviour, key: &[u8]) -> Self::Query;
    /// Notes the results that an event has for the running operations; returns the operation that it ends, if any.
    fn on_event(
        event: <Self::Behaviour as NetworkBehaviour>::ToSwarm,
        running: &mut Running<Self::Query>,
    ) -> Option<Ended>;
}

/// Operations that have not ended.
pub(crate) struct Running<Q> {
    last: OperationId,
    by_query: HashMap<Q, (Instant, Ended)>,
}

impl<Q: Hash + Eq> Running<Q> {
    fn start(&mut self, query: Q, begun: Instant) -> OperationId {
        self.last += 1;
        self.by_query.insert(query, (begun, Ended { operation: self.last, ..Ended::default() }));
        self.last
    }

    /// The operation of a query; `None` if the workload did not start it.
    pub(crate) fn get(&mut self, query: &Q) -> Option<&mut Ended> {
        self.by_query.get_mut(query).map(|(_, ended)| ended)
    }

    pub(crate) fn note_first(&mut self, query: &Q) {
        if let Some((begun, ended)) = self.by_query.get_mut(query) {
            ended.first.get_or_insert_with(|| begun.elapsed());
        }
    }

    pub(crate) fn end(&mut self, query: &Q) -> Option<Ended> {
        let (begun, mut ended) = self.by_query.remove(query)?;
        ended.took = begun.elapsed();
        Some(ended)
    }
}

/// The configuration of a node.
#[derive(Clone)]
pub(crate) struct NodeConfig {
    pub(crate) keypair: Keypair,
    pub(crate) listen: Multiaddr,
    pub(crate) transport: Kind,
    pub(crate) book: AddressBook,
}

pub(crate) struct Node<A: Adapter> {
    swarm: Swarm<A::Behaviour>,
    running: Running<A::Query>,
    book: AddressBook,
}

impl<A: Adapter> Node<A> {
    /// A node that listens. Called inside of a tokio runtime.
    pub(crate) fn spawn(config: NodeConfig) -> Node<A> {
        let peer = config.keypair.public().to_peer_id();
        let swarm_config = Config::with_tokio_executor().with_idle_connection_timeout(Duration::from_secs(600));
        let transport = config.transport.build(&config.keypair);
        let mut swarm = Swarm::new(transport, A::behaviour(&config.keypair), peer, swarm_config);
        swarm.listen_on(config.listen.clone()).expect("listens");
        swarm.add_external_address(config.listen.clone());
        config.book.write().expect("no panic").insert(peer, config.listen);
        Node { swarm, running: Running { last: 0, by_query: HashMap::new() }, book: config.book }
    }

    pub(crate) fn peer(&self) -> PeerId {
        *self.swarm.local_peer_id()
    }

    pub(crate) fn connect(&mut self, peer: PeerId, addr: Multiaddr) {
        self.swarm.dial(DialOpts::peer_id(peer).addresses(vec![addr]).build()).ok();
    }

    pub(crate) fn behaviour(&mut self) -> &mut A::Behaviour {
        self.swarm.behaviour_mut()
    }

    /// Starts an operation.
    pub(crate) fn start(&mut self, operation: impl FnOnce(&mut A::Behaviour) -> A::Query) -> OperationId {
        let begun = Instant::now();
        let query = operation(self.swarm.behaviour_mut());
        self.running.start(query, begun)
    }

    pub(crate) fn bootstrap(&mut self) -> Option<OperationId> {
        let begun = Instant::now();
        let query = A::bootstrap(self.swarm.behaviour_mut())?;
        Some(self.running.start(query, begun))
    }

    /// Runs the node for one event, which may end an operation.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Ended>> {
        match ready!(Pin::new(&mut self.swarm).poll_next(cx)).expect("a swarm does not end") {
            SwarmEvent::Behaviour(event) => return Poll::Ready(A::on_event(event, &mut self.running)),
            SwarmEvent::ConnectionEstablished { peer_id, endpoint: ConnectedPoint::Listener { .. }, .. } => {
                let addr = self.book.read().expect("no panic").get(&peer_id).cloned();
                if let Some(addr) = addr {
                    A::learn(self.swarm.behaviour_mut(), peer_id, addr);
                }
            }
            _ => {}
        }
        Poll::Ready(None)
    }
}

/// The key pair of node `n`, the same for all implementations.
pub(crate) fn keypair(seed: u64, n: u64) -> Keypair {
    let mut secret: [u8; 32] = Sha256::digest([seed.to_le_bytes(), n.to_le_bytes()].concat()).into();
    Keypair::from(ed25519::Keypair::from(ed25519::SecretKey::try_from_bytes(&mut secret).expect("32 bytes")))
}

pub(crate) fn peer(seed: u64, n: u64) -> PeerId {
    keypair(seed, n).public().to_peer_id()
}

/// A peer in no table, for which requests are answered.
pub(crate) fn stranger() -> PeerId {
    static STRANGER: LazyLock<PeerId> = LazyLock::new(|| peer(9, 9));
    *STRANGER
}

/// The place of these bytes in the keyspace.
pub(crate) fn place(preimage: &[u8]) -> [u8; 32] {
    Sha256::digest(preimage).into()
}

/// The share of the true 20 peers closest to `key` that is among `found`.
pub(crate) fn recall(all: &[(PeerId, [u8; 32])], key: &[u8], found: &[PeerId]) -> f64 {
    let closest = true_closest(all, key);
    closest.iter().filter(|peer| found.contains(peer)).count() as f64 / closest.len() as f64
}

/// The 20 of `all` that are closest to `key`.
pub(crate) fn true_closest(all: &[(PeerId, [u8; 32])], key: &[u8]) -> Vec<PeerId> {
    let target = place(key);
    let distance = |place: &[u8; 32]| -> [u8; 32] { std::array::from_fn(|byte| place[byte] ^ target[byte]) };
    let mut sorted: Vec<_> = all.iter().map(|(peer, place)| (distance(place), *peer)).collect();
    sorted.sort();
    sorted.into_iter().take(20).map(|(_, peer)| peer).collect()
}
