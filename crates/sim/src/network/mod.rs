//! The engine: one queue of events in virtual time, and the nodes that they happen to.
//!
//! Knows: time, links, connections, requests in flight. Must not know: what a message means or why a node sends it. It
//! keeps a driver's promises to the core: each [`Output::Send`] ends in one [`Input::Response`] unless the node cancels
//! it, and each inbound request has an id of its own. Deadlines belong to the nodes: after a lost message there is
//! silence.

mod connections;
mod transit;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::sync::Arc;

use super::directory::{Directory, NodeIndex, SortedPeers};
use super::link::Link;
use super::message_size::{request_size, response_size};
use super::node::Node;
use super::random::Random;
use super::rpc::{Payload, Rpc, RpcState, Rpcs};
use super::traffic::Traffic;
use libp2p_kad_dht::core::{
    Contact, DialCause, Event, InboundId, Input, Operation, Output, QueryEvent, QueryId, QueryOptions, Reply, Request,
    RequestError, RequestId, Response, Unreachable,
};

/// An event that [`Network::next`] reports.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly all events are those of queries")]
#[non_exhaustive]
pub enum NetworkEvent {
    /// A query reported progress or its result.
    Query {
        /// The node that runs the query.
        node: NodeIndex,
        /// The query, as [`Network::start`] returned it.
        id: QueryId,
        /// The event that it reported.
        event: QueryEvent,
        /// The rounds of the lookup: the longest chain of requests, each caused by the answer to the one before, that
        /// the node sent since it last started a query while none was running.
        rounds: u32,
    },
    /// A timer set with [`Network::set_timer`] expired; this is its token.
    Timer(u32),
    /// Another 16,384 events were handled: a good moment for [`Monitor::report`](crate::Monitor::report).
    Progress,
}

/// A scheduled event, and the node or request that it happens to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Scheduled {
    Wake { node: NodeIndex, generation: u32 },
    Connected { rpc: u32 },
    DialFailed { rpc: u32 },
    Arrival { rpc: u32 },
    Return { rpc: u32 },
    GivenUp { rpc: u32 },
    Idle { a: NodeIndex, b: NodeIndex },
    Timer { token: u32 },
}

/// A node with what the network knows about it.
#[derive(Default)]
struct Host {
    node: Node,
    /// Counts sessions: a message sent to an earlier session does not reach this one.
    session: u32,
    /// The node's side of a partition: it reaches only nodes on the same side.
    partition: u8,
    /// Counts the wakes scheduled for this node; only the newest counts.
    generation: u32,
    /// When the newest wake is due.
    wake: Option<u64>,
    connections: BTreeMap<NodeIndex, Connection>,
    rpcs: BTreeMap<RequestId, u32>,
    queries: BTreeSet<QueryId>,
    rounds: u32,
    bytes: u64,
}

#[derive(Clone, Copy)]
struct Connection {
    peer_session: u32,
    /// When the connection is or was established, or when the dial fails.
    ready: u64,
    fails: bool,
    used: u64,
}

/// A network in virtual time: nodes, the links between them, and the clock.
///
/// Times are microseconds since the start of the simulation. Time passes only in [`next`](Network::next).
pub struct Network {
    /// All peers that exist, online or not.
    pub directory: Directory,
    link: Link,
    seed: u64,
    now: u64,
    sequence: u64,
    /// Events within the next two seconds.
    near: Queue,
    /// Events that were further ahead when they were scheduled: idle connections, deadlines, maintenance. They are the
    /// great majority; apart from them the queue of all others is short enough for a CPU cache.
    far: Queue,
    rpcs: Rpcs,
    hosts: Vec<Host>,
    events: VecDeque<NetworkEvent>,
    random: Random,
    traffic: Traffic,
    /// The length of the chain of requests that led to the input being handled.
    depth: u32,
}

/// Events in order of time, then in the order in which they were scheduled.
type Queue = BinaryHeap<Reverse<(u64, u64, Scheduled)>>;

/// Up to this many microseconds ahead, an event goes into the near queue. Most dials and messages do.
const NEAR: u64 = 2_000_000;

/// The number of events between two [`NetworkEvent::Progress`].
const PROGRESS_INTERVAL: u64 = 1 << 14;

impl Network {
    /// A network at time 0 in which every peer of the directory is offline.
    ///
    /// Takes the jitter and the loss of messages from `seed`, and the round trips of pairs of peers.
    pub fn new(seed: u64, directory: Directory, link: Link) -> Network {
        let mut network = Network {
            directory,
            link,
            seed,
            now: 0,
            sequence: 0,
            near: Queue::new(),
            far: Queue::new(),
            rpcs: Rpcs::default(),
            hosts: Vec::new(),
            events: VecDeque::new(),
            random: Random::new(seed, "network", 0),
            traffic: Traffic::default(),
            depth: 0,
        };
        network.grow();
        network
    }

    /// The virtual time in microseconds.
    pub fn now(&self) -> u64 {
        self.now
    }

    /// Counters of everything that happened so far.
    pub fn traffic(&self) -> Traffic {
        let running = self.hosts.iter().map(|host| host.queries.len() as u64).sum();
        let open = self.hosts.iter().map(|host| host.rpcs.len() as u64).sum();
        Traffic { running, open, ..self.traffic.clone() }
    }

    /// The node with this index; [`Node::Absent`] while the peer is offline.
    ///
    /// # Panics
    ///
    /// When the directory has no peer with this index.
    pub fn node(&self, index: NodeIndex) -> &Node {
        &self.hosts[index as usize].node
    }

    /// The node with this index, to read its store.
    ///
    /// # Panics
    ///
    /// When the directory has no peer with this index.
    pub fn node_mut(&mut self, index: NodeIndex) -> &mut Node {
        &mut self.hosts[index as usize].node
    }

    /// The bytes that this node sent so far.
    ///
    /// # Panics
    ///
    /// When the directory has no peer with this index.
    pub fn bytes_of(&self, index: NodeIndex) -> u64 {
        self.hosts[index as usize].bytes
    }

    /// All peers that are online as servers now, in the order of their keys.
    pub fn servers(&self) -> SortedPeers {
        let everyone = 0..self.directory.len() as NodeIndex;
        self.directory.sorted(everyone.filter(|peer| self.node(*peer).serves()))
    }

    /// Brings a peer online as this node.
    ///
    /// # Panics
    ///
    /// When the directory has no peer with this index.
    pub fn join(&mut self, index: NodeIndex, node: Node) {
        self.grow();
        self.hosts[index as usize].node = node;
        self.drain_outputs(index);
    }

    /// Takes a peer offline without notice, as a power cut does: it answers nothing from now on. Returns its node.
    ///
    /// # Panics
    ///
    /// When the directory has no peer with this index.
    pub fn leave(&mut self, index: NodeIndex) -> Node {
        let host = &mut self.hosts[index as usize];
        let node = std::mem::replace(&mut host.node, Node::Absent);
        host.session += 1;
        host.wake = None;
        host.generation += 1;
        host.connections.clear();
        self.traffic.queries_abandoned += host.queries.len() as u64;
        host.queries.clear();
        let rpcs = std::mem::take(&mut host.rpcs);
        self.traffic.abandoned += rpcs.len() as u64;
        for rpc in rpcs.into_values() {
            self.give_up(rpc);
        }
        node
    }

    /// Puts a peer on one side of a network partition: messages pass only between peers on the same side. All peers
    /// begin on side 0.
    ///
    /// # Panics
    ///
    /// When the directory has no peer with this index.
    pub fn set_partition(&mut self, index: NodeIndex, side: u8) {
        self.hosts[index as usize].partition = side;
    }

    /// Makes [`next`](Network::next) report [`NetworkEvent::Timer`] at this time; immediately if the time has passed.
    pub fn set_timer(&mut self, at: u64, token: u32) {
        self.schedule(at.max(self.now), Scheduled::Timer { token });
    }

    /// Starts an operation at a node. Its events come from [`next`](Network::next).
    ///
    /// `None` if the peer is offline or an adversary, or if the node runs too many queries.
    ///
    /// # Panics
    ///
    /// When the directory has no peer with this index.
    pub fn start(&mut self, index: NodeIndex, operation: Operation, options: QueryOptions) -> Option<QueryId> {
        let host = &mut self.hosts[index as usize];
        let id = host.node.start(self.now, &self.directory, operation, options)?;
        if host.queries.is_empty() {
            host.rounds = 0;
        }
        host.queries.insert(id);
        self.traffic.queries += 1;
        self.depth = 0;
        self.drain_outputs(index);
        Some(id)
    }

    /// Passes an input to one of our own nodes, such as a change of mode or a peer's contact; other nodes ignore it.
    ///
    /// # Panics
    ///
    /// When the directory has no peer with this index.
    pub fn handle_input(&mut self, index: NodeIndex, input: Input) {
        self.hosts[index as usize].node.handle_input(self.now, input);
        self.depth = 0;
        self.drain_outputs(index);
    }

    /// Sends one request on behalf of an adversary, which ignores the answer.
    ///
    /// # Panics
    ///
    /// When the directory has no peer with one of these indices.
    pub fn send_request(&mut self, from: NodeIndex, to: NodeIndex, request: Request) {
        let id = RequestId::new(self.sequence);
        let contact = Arc::clone(self.directory.contact(to));
        self.send(from, &contact, id, request);
    }

    /// Lets time pass until there is something to report.
    ///
    /// `None` when nothing more happens up to the time `until`, which it is then. Pass less than `u64::MAX`: a node
    /// with periodic maintenance is never idle.
    pub fn next(&mut self, until: u64) -> Option<NetworkEvent> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Some(event);
            }
            let Some((at, event)) = self.pop(until) else {
                self.now = self.now.max(until);
                return None;
            };
            self.now = at;
            self.traffic.events += 1;
            self.dispatch(event);
            if self.traffic.events.is_multiple_of(PROGRESS_INTERVAL) {
                self.events.push_back(NetworkEvent::Progress);
            }
        }
    }

    /// The next scheduled event, if it is due by `until`.
    fn pop(&mut self, until: u64) -> Option<(u64, Scheduled)> {
        let when = |queue: &Queue| queue.peek().map_or((u64::MAX, 0), |Reverse((at, sequence, _))| (*at, *sequence));
        let (near, far) = (when(&self.near), when(&self.far));
        let (first, queue) = if far < near { (far, &mut self.far) } else { (near, &mut self.near) };
        if first.0 > until {
            return None;
        }
        queue.pop().map(|Reverse((at, _, event))| (at, event))
    }

    fn grow(&mut self) {
        self.hosts.resize_with(self.directory.len(), Host::default);
    }

    fn schedule(&mut self, at: u64, event: Scheduled) {
        self.sequence += 1;
        let queue = if at - self.now > NEAR { &mut self.far } else { &mut self.near };
        queue.push(Reverse((at, self.sequence, event)));
    }

    fn dispatch(&mut self, event: Scheduled) {
        match event {
            Scheduled::Wake { node, generation } => self.on_wake(node, generation),
            Scheduled::Connected { rpc } => self.on_connected(rpc),
            Scheduled::DialFailed { rpc } => self.on_dial_failed(rpc),
            Scheduled::Arrival { rpc } => self.on_arrival(rpc),
            Scheduled::Return { rpc } => self.on_return(rpc),
            Scheduled::GivenUp { rpc } => self.on_given_up(rpc),
            Scheduled::Idle { a, b } => self.on_idle(a, b),
            Scheduled::Timer { token } => self.events.push_back(NetworkEvent::Timer(token)),
        }
    }

    fn on_wake(&mut self, index: NodeIndex, generation: u32) {
        let host = &mut self.hosts[index as usize];
        if host.generation != generation {
            return;
        }
        host.wake = None;
        // The deadline may have moved since the wake was scheduled: then only another wake is scheduled.
        if host.node.poll_timeout().is_some_and(|at| at <= self.now) {
            self.depth = host.rounds;
            host.node.handle_timeout(self.now, &self.directory);
        }
        self.drain_outputs(index);
    }

    /// Carries out all outputs of a node, then schedules its next wake.
    fn drain_outputs(&mut self, index: NodeIndex) {
        while let Some(output) = self.hosts[index as usize].node.poll_output() {
            match output {
                Output::Send { to, id, request } => self.send(index, &to, id, request),
                Output::Cancel { id } => self.cancel(index, id),
                Output::Reply { id, reply, .. } => self.reply(id, reply),
                Output::Event(Event::QueryProgressed { id, event }) => self.on_query(index, id, event),
                // A dial back needs addresses that differ in what they reach; other events are for the application.
                _ => {}
            }
        }
        let host = &mut self.hosts[index as usize];
        let Some(at) = host.node.poll_timeout() else { return };
        let at = at.max(self.now);
        if host.wake.is_none_or(|wake| at < wake) {
            host.generation += 1;
            host.wake = Some(at);
            let generation = host.generation;
            self.schedule(at, Scheduled::Wake { node: index, generation });
        }
    }

    fn on_query(&mut self, node: NodeIndex, id: QueryId, event: QueryEvent) {
        let host = &mut self.hosts[node as usize];
        let rounds = host.rounds;
        if matches!(event, QueryEvent::Finished(_)) {
            // A query that was not running, or finished before, breaks an invariant of `Traffic`.
            self.traffic.finished += 1;
            host.queries.remove(&id);
        }
        self.events.push_back(NetworkEvent::Query { node, id, event, rounds });
    }
}
