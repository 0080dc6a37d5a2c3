//! The engine: one queue of events in virtual time, and the nodes that they happen to.
//!
//! Knows: time, links, connections, flights of requests. Must not know: what a message means or why a node sends it.
//! It keeps the promises of the doors: each [`Output::Send`] ends in one [`Input::Response`] unless it is cancelled,
//! each inbound request is named once. Deadlines belong to the nodes: a lost message is followed by silence.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::sync::Arc;

use super::directory::{Directory, Index};
use super::flight::{Flight, Flights, State};
use super::link::Link;
use super::node::Node;
use super::random::Random;
use super::size::{request_size, response_size};
use super::traffic::Traffic;
use crate::core::{
    Contact, Event, InboundId, Input, Operation, Output, QueryEvent, QueryId, QueryOptions, Reply, Request,
    RequestError, RequestId, Response, Unreachable,
};

/// What the one who runs a simulation hears of.
pub(crate) enum News {
    /// A query told something.
    Query {
        node: Index,
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
    queue: BinaryHeap<Reverse<(u64, u64, Happening)>>,
    flights: Flights,
    slots: Vec<Slot>,
    news: VecDeque<News>,
    random: Random,
    traffic: Traffic,
    /// How deep in a chain of requests the input is that is being handled.
    depth: u32,
}

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
            queue: BinaryHeap::new(),
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
            match self.queue.peek() {
                Some(Reverse((at, _, _))) if *at <= until => {}
                _ => {
                    self.now = self.now.max(until);
                    return None;
                }
            }
            if let Some(Reverse((at, _, happening))) = self.queue.pop() {
                self.now = at;
                self.traffic.events += 1;
                self.happen(happening);
            }
            if self.traffic.events.is_multiple_of(PULSE) {
                self.news.push_back(News::Pulse);
            }
        }
    }

    fn make_room(&mut self) {
        while self.slots.len() < self.directory.len() {
            self.slots.push(Slot {
                node: Node::Absent,
                session: 0,
                group: 0,
                generation: 0,
                armed: None,
                connections: BTreeMap::new(),
                flights: BTreeMap::new(),
                queries: BTreeMap::new(),
                rounds: 0,
                bytes: 0,
            });
        }
    }

    fn schedule(&mut self, at: u64, happening: Happening) {
        self.sequence += 1;
        self.queue.push(Reverse((at, self.sequence, happening)));
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
                Output::Event(Event::Query { id, event }) => self.on_query(index, id, event),
                Output::Event(_) => {}
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
        self.news.push_back(News::Query { node, event, rounds });
    }

    fn send(&mut self, from: Index, to: &Contact, id: RequestId, request: Request) {
        self.traffic.requests += 1;
        let depth = self.depth + 1;
        let session = self.slots[from as usize].session;
        let slot = &mut self.slots[from as usize];
        slot.rounds = slot.rounds.max(depth);
        let to = self.directory.index(to);
        let round_trip = to.map_or(0, |to| self.link.round_trip(self.seed, from, to));
        let flight = Flight::new((from, session), (to.unwrap_or(from), round_trip), id, request, depth);
        let flight = self.flights.insert(flight);
        self.slots[from as usize].flights.insert(id, flight);
        match to {
            Some(to) if to != from => self.reach(flight, from, to),
            // Nobody has this id, or the node asks itself: no dial can succeed.
            _ => self.later(0, flight, Happening::Undialled { flight }),
        }
    }

    /// Sends at once over a connection that is up, else dials or waits for the dial under way.
    fn reach(&mut self, flight: u32, from: Index, to: Index) {
        let round_trip = self.flights.get(flight).round_trip;
        let peer = &self.slots[to as usize];
        let (present, session, apart) =
            (peer.node.is_present(), peer.session, peer.group != self.slots[from as usize].group);
        let dialling = &self.link.dialling;
        if dialling.tcp_trips == 0 && present && !apart {
            self.slots[from as usize].node.on_ready(self.now, self.flights.get(flight).id);
            return self.transmit_request(flight);
        }
        if let Some(connection) = self.slots[from as usize].connections.get(&to).copied() {
            if connection.ready > self.now {
                let happening =
                    if connection.fails { Happening::Undialled { flight } } else { Happening::Connected { flight } };
                return self.later(connection.ready - self.now, flight, happening);
            }
            if connection.fails && connection.ready + self.slots[from as usize].node.dial_backoff() > self.now {
                return self.later(0, flight, Happening::Undialled { flight });
            }
            if !connection.fails {
                self.slots[from as usize].node.on_ready(self.now, self.flights.get(flight).id);
                return self.transmit_request(flight);
            }
        }
        self.traffic.dials += 1;
        let (delay, fails) = if apart {
            (dialling.give_up(), true)
        } else if present {
            (dialling.connect(self.seed, from, to, round_trip), false)
        } else {
            (dialling.fail(self.seed, to, round_trip), true)
        };
        let ready = self.now + delay;
        let connection = Connection { peer_session: session, ready, fails, used: ready };
        self.slots[from as usize].connections.insert(to, connection);
        let happening = if fails { Happening::Undialled { flight } } else { Happening::Connected { flight } };
        self.later(delay, flight, happening);
    }

    fn later(&mut self, delay: u64, flight: u32, happening: Happening) {
        self.flights.get_mut(flight).scheduled += 1;
        self.schedule(self.now + delay, happening);
    }

    fn on_connected(&mut self, flight: u32) {
        let Flight { from, to, id, wanted, .. } = *self.flights.landed(flight);
        let alive = self.slots[to as usize].session;
        match self.slots[from as usize].connections.get(&to).copied() {
            // The first flight that waited for this dial tells both sides.
            Some(connection) if connection.peer_session == alive && connection.used == connection.ready => {
                self.introduce(from, to);
            }
            _ => {}
        }
        if wanted {
            self.slots[from as usize].node.on_ready(self.now, id);
            self.transmit_request(flight);
            self.settle(from);
        } else {
            self.flights.end(flight);
        }
    }

    /// Both ends of a new connection learn of it, and who serves.
    fn introduce(&mut self, from: Index, to: Index) {
        let (now, session) = (self.now, self.slots[from as usize].session);
        if let Some(connection) = self.slots[from as usize].connections.get_mut(&to) {
            connection.used = now + 1;
        }
        // Where both dialled at once, the second connection is no news.
        let known = self.slots[to as usize].connections.get(&from);
        if known.is_some_and(|known| !known.fails && known.ready <= now && known.peer_session == session) {
            return;
        }
        let back = Connection { peer_session: session, ready: now, fails: false, used: now + 1 };
        self.slots[to as usize].connections.insert(from, back);
        self.schedule(now + self.link.dialling.idle, Happening::Idle { a: from, b: to });
        for (one, other, dialled) in [(from, to, true), (to, from, false)] {
            if !matches!(self.slots[one as usize].node, Node::Ours(_)) {
                continue;
            }
            let contact = Arc::clone(self.directory.contact(other));
            let peer = *contact.peer();
            let outbound_addr = contact.addrs().next().filter(|_| dialled);
            let serves = self.slots[other as usize].node.serves();
            self.depth = 0;
            let node = &mut self.slots[one as usize].node;
            node.handle_input(now, Input::Connected { peer, outbound_addr });
            node.handle_input(now, Input::Discovered(contact));
            node.handle_input(now, Input::Serves { peer, yes: serves });
            self.settle(one);
        }
    }

    fn on_undialled(&mut self, flight: u32) {
        let Flight { from, to, wanted, .. } = *self.flights.landed(flight);
        self.traffic.dials_failed += 1;
        let slot = &mut self.slots[from as usize];
        if slot.node.dial_backoff() == 0 && slot.connections.get(&to).is_some_and(|connection| connection.fails) {
            slot.connections.remove(&to);
        }
        if wanted {
            self.respond(flight, Err(RequestError::Unreachable(Unreachable::DialFailed)));
        } else {
            self.flights.end(flight);
        }
    }

    fn transmit_request(&mut self, flight: u32) {
        let Flight { from, to, round_trip, .. } = *self.flights.get(flight);
        let size = self.flights.get(flight).request.as_ref().map_or(0, request_size);
        self.flights.get_mut(flight).state = State::Outbound;
        // Over a connection to a session that is over, nothing arrives.
        let stale = self.slots[from as usize]
            .connections
            .get(&to)
            .is_some_and(|connection| connection.peer_session != self.slots[to as usize].session);
        if stale {
            self.slots[from as usize].connections.remove(&to);
        }
        match self.transmit((from, to), round_trip, size, stale) {
            Some(delay) => {
                self.flights.get_mut(flight).to_session = self.slots[to as usize].session;
                self.later(delay, flight, Happening::Arrival { flight });
            }
            None => self.flights.lose(flight),
        }
    }

    /// Puts a message on the wire; how long it takes, or `None` where it gets lost.
    fn transmit(&mut self, (from, to): (Index, Index), round_trip: u64, size: u64, stale: bool) -> Option<u64> {
        self.traffic.sent += 1;
        self.traffic.bytes += size;
        let apart = self.slots[from as usize].group != self.slots[to as usize].group;
        let slot = &mut self.slots[from as usize];
        slot.bytes += size;
        if self.link.dialling.tcp_trips > 0
            && let Some(connection) = slot.connections.get_mut(&to)
        {
            connection.used = connection.used.max(self.now);
        }
        let delay = if stale || apart { None } else { self.link.one_way(round_trip, &mut self.random) };
        if delay.is_some() {
            self.traffic.in_flight += 1;
        } else {
            self.traffic.lost += 1;
        }
        delay
    }

    fn on_arrival(&mut self, flight: u32) {
        self.traffic.in_flight -= 1;
        let Flight { from, to, to_session, serial, depth, .. } = *self.flights.landed(flight);
        let present = self.slots[to as usize].session == to_session && self.slots[to as usize].node.is_present();
        let apart = self.slots[from as usize].group != self.slots[to as usize].group;
        let request = self.flights.get_mut(flight).request.take();
        let (true, Some(request)) = (present && !apart, request) else {
            self.traffic.lost += 1;
            return self.flights.lose(flight);
        };
        self.traffic.delivered += 1;
        self.flights.get_mut(flight).state = State::Asked;
        let id = Flights::name(flight, serial);
        let peer = *self.directory.contact(from).peer();
        self.depth = depth;
        let node = &mut self.slots[to as usize].node;
        if let Some(reply) = node.handle_request(self.now, &self.directory, (from, peer), id, request) {
            self.reply(id, reply);
        }
        // Requests that others caused are no part of a chain of this node's own.
        self.depth = 0;
        if matches!(self.slots[to as usize].node, Node::Ours(_)) {
            self.settle(to);
        }
    }

    fn reply(&mut self, id: InboundId, reply: Reply) {
        let Some(flight) = self.flights.named(id) else { return };
        let Flight { from, to, round_trip, .. } = *self.flights.get(flight);
        let result = match reply {
            Reply::Answer(response) => Ok(response),
            Reply::Nothing => Ok(Response::AddProvider),
            Reply::Reset(_) => Err(RequestError::Refused),
        };
        // A reset, and the end of an announcement's stream, are no messages; they take as long as one.
        let delay = match &result {
            Ok(response) if !matches!(response, Response::AddProvider) => {
                let size = response_size(response);
                self.flights.get_mut(flight).is_message = true;
                self.transmit((to, from), round_trip, size, false)
            }
            _ => Some(round_trip / 2),
        };
        let Some(delay) = delay else { return self.flights.lose(flight) };
        let entry = self.flights.get_mut(flight);
        entry.state = State::Inbound;
        entry.result = Some(result);
        self.later(delay, flight, Happening::Return { flight });
    }

    fn on_return(&mut self, flight: u32) {
        let Flight { from, from_session, to, wanted, is_message, .. } = *self.flights.landed(flight);
        let slot = &self.slots[from as usize];
        let present = slot.session == from_session && slot.node.is_present();
        let apart = slot.group != self.slots[to as usize].group;
        if is_message {
            self.traffic.in_flight -= 1;
            let count = if present && !apart { &mut self.traffic.delivered } else { &mut self.traffic.lost };
            *count += 1;
        }
        let result = self.flights.get_mut(flight).result.take();
        match result {
            Some(result) if wanted && present && !apart => self.respond(flight, result),
            _ if wanted && present => self.flights.lose(flight),
            _ => self.flights.end(flight),
        }
    }

    /// Ends a flight with its sender.
    fn respond(&mut self, flight: u32, result: Result<Response, RequestError>) {
        let Flight { from, id, depth, .. } = *self.flights.get(flight);
        self.flights.end(flight);
        let slot = &mut self.slots[from as usize];
        if slot.flights.remove(&id).is_some() {
            self.traffic.ended += 1;
        }
        self.depth = depth;
        slot.node.handle_response(self.now, &self.directory, id, result);
        self.settle(from);
    }

    fn cancel(&mut self, index: Index, id: RequestId) {
        // One that ended already, or was never sent, breaks the law of `Traffic`.
        self.traffic.cancelled += 1;
        if let Some(flight) = self.slots[index as usize].flights.remove(&id) {
            self.give_up(flight);
        }
    }

    fn give_up(&mut self, flight: u32) {
        let entry = self.flights.get_mut(flight);
        entry.wanted = false;
        match entry.state {
            State::Lost => self.flights.end(flight),
            State::Asked => {
                let delay = self.flights.get(flight).round_trip / 2;
                self.later(delay, flight, Happening::Gone { flight });
            }
            State::Dialling | State::Outbound | State::Inbound => {}
        }
    }

    fn on_gone(&mut self, flight: u32) {
        let Flight { to, to_session, serial, state, .. } = *self.flights.landed(flight);
        match state {
            State::Lost => return self.flights.end(flight),
            State::Asked => self.flights.end(flight),
            State::Dialling | State::Outbound | State::Inbound => return,
        }
        if self.slots[to as usize].session == to_session {
            let id = Flights::name(flight, serial);
            self.slots[to as usize].node.handle_input(self.now, Input::RequestGone { id });
            self.depth = 0;
            self.settle(to);
        }
    }

    fn on_idle(&mut self, a: Index, b: Index) {
        let used = |from: Index, to: Index, slots: &[Slot]| {
            let connection = slots[from as usize].connections.get(&to).filter(|connection| !connection.fails);
            connection.map(|connection| connection.used)
        };
        let (one, other) = (used(a, b, &self.slots), used(b, a, &self.slots));
        let Some(last) = one.max(other) else { return };
        let end = last + self.link.dialling.idle;
        if end > self.now {
            return self.schedule(end, Happening::Idle { a, b });
        }
        for (from, to) in [(a, b), (b, a)] {
            if self.slots[from as usize].connections.remove(&to).is_some() {
                let peer = *self.directory.contact(to).peer();
                self.tell(from, Input::Disconnected { peer });
            }
        }
    }
}
