//! The engine: one queue of events in virtual time, and the nodes that they happen to.
//!
//! Knows: time, links, connections, flights of requests. Must not know: what a message means or why a node sends it.
//! It keeps the promises of the doors: each [`Output::Send`] ends in one [`Input::Response`] unless it is cancelled,
//! each inbound request is named once. Deadlines belong to the nodes: a lost message is followed by silence.

mod connections;
mod transit;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::sync::Arc;

use super::directory::{Directory, Index};
use super::flight::{Flight, Flights, Load, State};
use super::link::Link;
use super::node::Node;
use super::random::Random;
use super::size::{request_size, response_size};
use super::traffic::Traffic;
use libp2p_kad_dht::core::{
    Contact, DialCause, Event, InboundId, Input, Operation, Output, QueryEvent, QueryId, QueryOptions, Reply, Request,
    RequestError, RequestId, Response, Unreachable,
};

/// What the one who runs a simulation hears of.
pub(crate) enum News {
    /// A query told something.
    Query {
        node: Index,
        id: QueryId,
        event: QueryEvent,
        /// The longest chain of requests, each caused by the one before, that the node sent since it last started a
        /// query with none running.
        rounds: u32,
    },
    /// A time noted by [`Network::mark`] has come.
    Mark(u32),
    /// Many events went by: time for a sign of life.
    Pulse,
}

/// What happens, and to whom.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Happening {
    Wake { node: Index, generation: u32 },
    Connected { flight: u32 },
    Undialled { flight: u32 },
    Arrival { flight: u32 },
    Return { flight: u32 },
    Gone { flight: u32 },
    Idle { a: Index, b: Index },
    Mark { token: u32 },
}

/// A node with what the network knows of it.
#[derive(Default)]
struct Slot {
    node: Node,
    /// Counts sessions: what was sent to an earlier one does not reach this one.
    session: u32,
    /// Who cannot talk to those of another number while a partition lasts.
    group: u8,
    generation: u32,
    armed: Option<u64>,
    connections: BTreeMap<Index, Connection>,
    flights: BTreeMap<RequestId, u32>,
    queries: BTreeMap<QueryId, ()>,
    rounds: u32,
    bytes: u64,
}

#[derive(Clone, Copy)]
struct Connection {
    peer_session: u32,
    /// When it is, or was, up; or when the dial fails.
    ready: u64,
    fails: bool,
    used: u64,
}

/// Everyone, the links between them, and the time.
pub(crate) struct Network {
    pub(crate) directory: Directory,
    link: Link,
    seed: u64,
    now: u64,
    sequence: u64,
    /// What happens soon.
    queue: Queue,
    /// What was far ahead when it was scheduled: looks at idle connections, deadlines, maintenance. That is nearly all
    /// there is, kept apart so that the queue of all the rest is short enough for a cache.
    far: Queue,
    flights: Flights,
    slots: Vec<Slot>,
    news: VecDeque<News>,
    random: Random,
    traffic: Traffic,
    /// How deep in a chain of requests the input is that is being handled.
    depth: u32,
}

/// What is to happen, in order of time, then of the order in which it was scheduled.
type Queue = BinaryHeap<Reverse<(u64, u64, Happening)>>;

/// How far ahead, in microseconds, something may be and still happen soon: dials and messages mostly do.
const SOON: u64 = 2_000_000;

/// How many events go by between two signs of life.
const PULSE: u64 = 1 << 14;

impl Network {
    pub(crate) fn new(seed: u64, directory: Directory, link: Link) -> Network {
        let mut network = Network {
            directory,
            link,
            seed,
            now: 0,
            sequence: 0,
            queue: Queue::new(),
            far: Queue::new(),
            flights: Flights::default(),
            slots: Vec::new(),
            news: VecDeque::new(),
            random: Random::new(seed, "network", 0),
            traffic: Traffic::default(),
            depth: 0,
        };
        network.make_room();
        network
    }

    pub(crate) fn now(&self) -> u64 {
        self.now
    }

    pub(crate) fn traffic(&self) -> Traffic {
        let running = self.slots.iter().map(|slot| slot.queries.len() as u64).sum();
        let open = self.slots.iter().map(|slot| slot.flights.len() as u64).sum();
        Traffic { running, open, ..self.traffic.clone() }
    }

    pub(crate) fn node(&self, index: Index) -> &Node {
        &self.slots[index as usize].node
    }

    pub(crate) fn node_mut(&mut self, index: Index) -> &mut Node {
        &mut self.slots[index as usize].node
    }

    /// Bytes that this node put on the wire.
    pub(crate) fn bytes_of(&self, index: Index) -> u64 {
        self.slots[index as usize].bytes
    }

    /// Brings a node online.
    pub(crate) fn join(&mut self, index: Index, node: Node) {
        self.make_room();
        self.slots[index as usize].node = node;
        self.settle(index);
    }

    /// Takes a node away without a word: whoever talks to it hears nothing more.
    pub(crate) fn leave(&mut self, index: Index) -> Node {
        let slot = &mut self.slots[index as usize];
        let node = std::mem::replace(&mut slot.node, Node::Absent);
        slot.session += 1;
        slot.armed = None;
        slot.generation += 1;
        slot.connections.clear();
        self.traffic.queries_abandoned += slot.queries.len() as u64;
        slot.queries.clear();
        let flights = std::mem::take(&mut slot.flights);
        self.traffic.abandoned += flights.len() as u64;
        flights.into_values().for_each(|flight| self.give_up(flight));
        node
    }

    /// Puts a node into a group; messages pass only within groups.
    pub(crate) fn set_group(&mut self, index: Index, group: u8) {
        self.slots[index as usize].group = group;
    }

    /// Has [`News::Mark`] come at this time.
    pub(crate) fn mark(&mut self, at: u64, token: u32) {
        self.schedule(at, Happening::Mark { token });
    }

    /// Starts an operation at a node; `None` if it cannot.
    pub(crate) fn start(&mut self, index: Index, operation: Operation, options: QueryOptions) -> Option<QueryId> {
        let slot = &mut self.slots[index as usize];
        let id = slot.node.start(self.now, &self.directory, operation, options)?;
        if slot.queries.is_empty() {
            slot.rounds = 0;
        }
        slot.queries.insert(id, ());
        self.traffic.queries += 1;
        self.depth = 0;
        self.settle(index);
        Some(id)
    }

    /// Tells one of our nodes something.
    pub(crate) fn tell(&mut self, index: Index, input: Input) {
        self.slots[index as usize].node.handle_input(self.now, input);
        self.depth = 0;
        self.settle(index);
    }

    /// Asks one peer something on behalf of an adversary, and forgets about it.
    pub(crate) fn ask(&mut self, from: Index, to: Index, request: Request) {
        let id = RequestId::new(self.sequence);
        let contact = Arc::clone(self.directory.contact(to));
        self.send(from, &contact, id, request);
    }

    /// Goes on until something is worth telling; `None` when the time `until` is reached, or nothing is left to
    /// happen before it.
    pub(crate) fn next(&mut self, until: u64) -> Option<News> {
        loop {
            if let Some(news) = self.news.pop_front() {
                return Some(news);
            }
            let Some((at, happening)) = self.pop(until) else {
                self.now = self.now.max(until);
                return None;
            };
            self.now = at;
            self.traffic.events += 1;
            self.happen(happening);
            if self.traffic.events.is_multiple_of(PULSE) {
                self.news.push_back(News::Pulse);
            }
        }
    }

    /// What happens first, if it does until then.
    fn pop(&mut self, until: u64) -> Option<(u64, Happening)> {
        let when = |queue: &Queue| queue.peek().map_or((u64::MAX, 0), |Reverse((at, sequence, _))| (*at, *sequence));
        let (next, far) = (when(&self.queue), when(&self.far));
        let (first, queue) = if far < next { (far, &mut self.far) } else { (next, &mut self.queue) };
        if first.0 > until {
            return None;
        }
        queue.pop().map(|Reverse((at, _, happening))| (at, happening))
    }

    fn make_room(&mut self) {
        self.slots.resize_with(self.directory.len(), Slot::default);
    }

    fn schedule(&mut self, at: u64, happening: Happening) {
        self.sequence += 1;
        let queue = if at - self.now > SOON { &mut self.far } else { &mut self.queue };
        queue.push(Reverse((at, self.sequence, happening)));
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Wake { node, generation } => self.on_wake(node, generation),
            Happening::Connected { flight } => self.on_connected(flight),
            Happening::Undialled { flight } => self.on_undialled(flight),
            Happening::Arrival { flight } => self.on_arrival(flight),
            Happening::Return { flight } => self.on_return(flight),
            Happening::Gone { flight } => self.on_gone(flight),
            Happening::Idle { a, b } => self.on_idle(a, b),
            Happening::Mark { token } => self.news.push_back(News::Mark(token)),
        }
    }

    fn on_wake(&mut self, index: Index, generation: u32) {
        let slot = &mut self.slots[index as usize];
        if slot.generation != generation {
            return;
        }
        slot.armed = None;
        // The node's deadline may have moved on since the wake was armed: then it is only armed anew.
        if slot.node.poll_timeout().is_some_and(|at| at <= self.now) {
            self.depth = slot.rounds;
            slot.node.handle_timeout(self.now, &self.directory);
        }
        self.settle(index);
    }

    /// Carries out what a node wants, then arms its wake.
    fn settle(&mut self, index: Index) {
        while let Some(output) = self.slots[index as usize].node.poll_output() {
            match output {
                Output::Send { to, id, request } => self.send(index, &to, id, request),
                Output::Cancel { id } => self.cancel(index, id),
                Output::Reply { id, reply, .. } => self.reply(id, reply),
                Output::Event(Event::QueryProgressed { id, event }) => self.on_query(index, id, event),
                // The simulator has no dial backs, and other events are for the application.
                _ => {}
            }
        }
        let slot = &mut self.slots[index as usize];
        let Some(at) = slot.node.poll_timeout() else { return };
        let at = at.max(self.now);
        if slot.armed.is_none_or(|armed| at < armed) {
            slot.generation += 1;
            slot.armed = Some(at);
            let generation = slot.generation;
            self.schedule(at, Happening::Wake { node: index, generation });
        }
    }

    fn on_query(&mut self, node: Index, id: QueryId, event: QueryEvent) {
        let slot = &mut self.slots[node as usize];
        let rounds = slot.rounds;
        if matches!(event, QueryEvent::Finished(_)) {
            // One that was not running, or finished before, breaks the law of `Traffic`.
            self.traffic.finished += 1;
            slot.queries.remove(&id);
        }
        self.news.push_back(News::Query { node, id, event, rounds });
    }
}
