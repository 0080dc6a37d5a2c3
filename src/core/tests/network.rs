//! A handful of nodes and the messages between them, with a constant delay and dead nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use libp2p_identity::PeerId;
use rand_chacha::ChaCha8Rng;
use rand_core::Rng as _;

use crate::core::io::{Answer, Event, InboundId, Input, Operation, Output, QueryEvent, QueryId, QueryOptions, Reply};
use crate::core::message::{Request, RequestError, Response};
use crate::core::{
    Contact, Dht, DhtConfig, DialCause, MemoryStore, QueryError, RequestId, Store, Timestamp, Unreachable,
};

pub(crate) const DELAY: Duration = Duration::from_millis(50);

enum Packet {
    Request {
        from: usize,
        id: RequestId,
        request: Request,
    },
    Response {
        id: RequestId,
        result: Result<Response, RequestError>,
    },
    /// A request that fails on its way.
    Spoilt {
        from: usize,
        id: RequestId,
    },
}

/// The way in which a request fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Reset,
    NoAnswer,
    Closed,
}

/// Some nodes.
pub(crate) struct Network {
    pub(crate) now: Timestamp,
    pub(crate) nodes: Vec<Dht>,
    /// These nodes do nothing, and cannot be reached.
    pub(crate) dead: BTreeSet<usize>,
    /// These can be reached and do not answer.
    pub(crate) silent: BTreeSet<usize>,
    /// These let dials time out.
    pub(crate) black_holes: BTreeSet<usize>,
    /// These nodes take this long to answer.
    pub(crate) slow: BTreeMap<usize, Duration>,
    /// These reset every request.
    pub(crate) rude: BTreeSet<usize>,
    /// These refuse every value.
    pub(crate) full: BTreeSet<usize>,
    /// The percentage of requests that fail, how they fail, and the generator that chooses them.
    pub(crate) fault: Option<(u32, Fault, ChaCha8Rng)>,
    /// Messages to these nodes arrive only after this time.
    stopped: BTreeMap<usize, Timestamp>,
    /// Whether connections report which peers serve, and where each listens.
    pub(crate) identify: bool,
    /// Whether a peer can be dialled where it dials from.
    pub(crate) reuses_ports: bool,
    /// The peer of each dial back.
    pub(crate) dialled_back: Vec<usize>,
    pub(crate) events: Vec<(usize, Event)>,
    pub(crate) sent: usize,
    config: Arc<DhtConfig>,
    index: BTreeMap<PeerId, usize>,
    packets: BTreeMap<(Timestamp, u64), (usize, Packet)>,
    inbound: BTreeMap<(usize, InboundId), (usize, RequestId)>,
    open: BTreeSet<(usize, RequestId)>,
    connected: BTreeSet<(usize, usize)>,
    next: u64,
}

impl Network {
    pub(crate) fn new(count: usize, config: DhtConfig) -> Network {
        Network::with_stores(count, config, || {
            Box::new(MemoryStore::new(crate::core::MemoryStoreConfig::default(), [7; 32]))
        })
    }

    pub(crate) fn with_stores(count: usize, config: DhtConfig, store: impl Fn() -> Box<dyn Store>) -> Network {
        let config = Arc::new(config);
        let mut network = Network {
            now: Timestamp::from_secs(1_000_000),
            nodes: Vec::new(),
            dead: BTreeSet::new(),
            silent: BTreeSet::new(),
            black_holes: BTreeSet::new(),
            slow: BTreeMap::new(),
            rude: BTreeSet::new(),
            full: BTreeSet::new(),
            fault: None,
            stopped: BTreeMap::new(),
            identify: true,
            reuses_ports: true,
            dialled_back: Vec::new(),
            events: Vec::new(),
            sent: 0,
            config: Arc::clone(&config),
            index: BTreeMap::new(),
            packets: BTreeMap::new(),
            inbound: BTreeMap::new(),
            open: BTreeSet::new(),
            connected: BTreeSet::new(),
            next: 0,
        };
        for i in 0..count {
            let peer = peer(i);
            let local = Contact::new(peer, [format!("/memory/{}", i + 1).parse().unwrap()]);
            let seed = [i as u8; 32];
            network.nodes.push(Dht::new(network.now, local, store(), seed, Arc::clone(&config)).unwrap());
            network.index.insert(peer, i);
        }
        network
    }

    /// A network in which all nodes have joined through the first one.
    pub(crate) fn joined(count: usize, config: DhtConfig) -> Network {
        let mut network = Network::new(count, config);
        network.join();
        network
    }

    pub(crate) fn join(&mut self) {
        let boot = self.contact(0);
        for i in 1..self.nodes.len() {
            self.input(i, Input::AddPeer(Arc::clone(&boot)));
            self.run(i, Operation::Bootstrap).unwrap();
        }
    }

    /// A node does nothing for a while, like a stopped process.
    pub(crate) fn stop_for(&mut self, i: usize, time: Duration) {
        self.stopped.insert(i, self.now + time);
    }

    pub(crate) fn contact(&self, i: usize) -> Arc<Contact> {
        Arc::clone(self.nodes[i].local())
    }

    pub(crate) fn input(&mut self, i: usize, input: Input) {
        self.nodes[i].handle_input(self.now, input);
        self.drain(i);
    }

    pub(crate) fn start(&mut self, i: usize, operation: Operation, options: QueryOptions) -> QueryId {
        let id = self.nodes[i].start(self.now, operation, options).unwrap();
        self.drain(i);
        id
    }

    /// Starts an operation and runs the network until it has ended.
    pub(crate) fn run(&mut self, i: usize, operation: Operation) -> Result<Answer, QueryError> {
        self.run_with(i, operation, QueryOptions::default())
    }

    pub(crate) fn run_with(
        &mut self,
        i: usize,
        operation: Operation,
        options: QueryOptions,
    ) -> Result<Answer, QueryError> {
        let id = self.start(i, operation, options);
        loop {
            if let Some(result) = self.finished(i, id) {
                return result;
            }
            assert!(self.step(), "query {id} of node {i} never ends");
        }
    }

    pub(crate) fn finished(&self, i: usize, id: QueryId) -> Option<Result<Answer, QueryError>> {
        self.events.iter().find_map(|(node, event)| match event {
            Event::QueryProgressed { id: of, event: QueryEvent::Finished(result) } if (*node, *of) == (i, id) => {
                Some((**result).clone())
            }
            _ => None,
        })
    }

    /// Lets the next event happen; `false` if there is none within an hour.
    pub(crate) fn step(&mut self) -> bool {
        let packet = self.packets.first_key_value().map(|((at, _), _)| *at);
        let wake = self.next_wake();
        match (packet, wake) {
            (Some(at), wake) if wake.is_none_or(|(wake, _)| at <= wake) => {
                let Some((_, (to, packet))) = self.packets.pop_first() else { return false };
                self.now = self.now.max(at);
                self.deliver(to, packet);
            }
            (_, Some((at, i))) if at < self.now + Duration::from_secs(3600) => {
                self.now = self.now.max(at);
                self.input(i, Input::Timeout);
            }
            _ => return false,
        }
        true
    }

    /// Lets all events happen that are due within this time.
    pub(crate) fn advance(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let packet = self.packets.first_key_value().map(|((at, _), _)| *at);
            let wake = self.next_wake().map(|(at, _)| at);
            match packet.into_iter().chain(wake).min() {
                // A wake-up more than an hour away did nothing yet: the time has to come closer first.
                Some(at) if at <= end && !self.step() => self.now = at,
                Some(at) if at <= end => {}
                _ => break,
            }
        }
        self.now = end;
    }

    /// The living node that wakes next, and the time.
    fn next_wake(&self) -> Option<(Timestamp, usize)> {
        let living = (0..self.nodes.len()).filter(|i| !self.dead.contains(i));
        living.filter_map(|i| Some((self.nodes[i].poll_timeout()?, i))).min()
    }

    fn drain(&mut self, i: usize) {
        while let Some(output) = self.nodes[i].poll_output() {
            match output {
                Output::Send { to, id, request } => {
                    assert!(self.open.insert((i, id)), "{id} sent twice");
                    self.sent += 1;
                    let other = self.index.get(to.peer()).copied();
                    if other.is_none_or(|other| !self.connected.contains(&(i.min(other), i.max(other)))) {
                        self.nodes[i].handle_input(self.now, Input::Dialling { id });
                    }
                    if other.is_some_and(|other| self.black_holes.contains(&other)) {
                        continue;
                    }
                    self.nodes[i].handle_input(self.now, Input::Sent { id });
                    let there = self.index.get(to.peer()).copied().filter(|there| self.reaches(i, *there, &to));
                    let refused = |to| self.full.contains(to) && matches!(request, Request::PutValue { .. });
                    match there {
                        Some(to) if refused(&to) => self.send(to, DELAY, Packet::Spoilt { from: i, id }),
                        Some(to) if self.rude.contains(&to) || self.goes_wrong() => {
                            self.send(to, DELAY, Packet::Spoilt { from: i, id })
                        }
                        Some(to) => self.send(to, DELAY, Packet::Request { from: i, id, request }),
                        None => {
                            let result = Err(RequestError::Unreachable(Unreachable::DialFailed(DialCause::Unknown)));
                            self.send(i, DELAY, Packet::Response { id, result });
                        }
                    }
                }
                Output::Cancel { id } => assert!(self.open.remove(&(i, id)), "{id} cancelled but not open"),
                Output::DialBack { peer, addr } => self.dial_back(i, peer, addr),
                Output::Reply { id, reply, .. } => {
                    let (sender, request) = self.inbound.remove(&(i, id)).expect("one reply to each request");
                    let result = match reply {
                        Reply::Answer(response) => Ok(response),
                        Reply::Nothing => Ok(Response::AddProvider),
                        Reply::Reset(_) => Err(RequestError::Refused),
                    };
                    let slow = self.slow.get(&i).copied().unwrap_or_default();
                    self.send(sender, DELAY + slow, Packet::Response { id: request, result });
                }
                Output::Event(event) => self.events.push((i, event)),
            }
        }
    }

    /// Whether a peer is connected, or reachable at the addresses of this contact.
    fn reaches(&self, from: usize, to: usize, at: &Contact) -> bool {
        let connected = self.connected.contains(&(from.min(to), from.max(to)));
        let local = self.nodes[to].local();
        !self.dead.contains(&to) && (connected || !local.has_addrs() || local.raw_addrs().any(|addr| at.has_addr(addr)))
    }

    /// A node ends and begins again at another address, with only its identity, and joins through the first.
    pub(crate) fn restart_at(&mut self, i: usize, addr: &str) {
        let others: Vec<_> = self.connected.iter().copied().filter(|pair| pair.0 == i || pair.1 == i).collect();
        self.packets
            .retain(|_, (to, packet)| *to != i && !matches!(packet, Packet::Request { from, .. } if *from == i));
        self.open.retain(|(node, _)| *node != i);
        for pair in others {
            self.connected.remove(&pair);
            self.input(pair.0 + pair.1 - i, Input::Disconnected { peer: peer(i) });
        }
        let store = Box::new(MemoryStore::new(crate::core::MemoryStoreConfig::default(), [7; 32]));
        let local = Contact::new(peer(i), [addr.parse().unwrap()]);
        self.nodes[i] = Dht::new(self.now, local, store, [i as u8; 32], Arc::clone(&self.config)).unwrap();
        self.input(i, Input::AddPeer(self.contact(0)));
        self.run(i, Operation::Bootstrap).unwrap();
    }

    fn goes_wrong(&mut self) -> bool {
        self.fault.as_mut().is_some_and(|(percent, _, rng)| rng.next_u32() % 100 < *percent)
    }

    /// Reports to both sides of a new connection, as the swarm and identify do.
    pub(crate) fn connect(&mut self, from: usize, to: usize) {
        if !self.connected.insert((from.min(to), from.max(to))) {
            return;
        }
        for (me, other, dialled) in [(from, to, true), (to, from, false)] {
            let contact = self.contact(other);
            let from = if self.reuses_ports { contact.addrs().next() } else { "/memory/60000".parse().ok() };
            let (outbound_addr, inbound_addr) = if dialled { (contact.addrs().next(), None) } else { (None, from) };
            self.input(me, Input::Connected { peer: peer(other), outbound_addr, inbound_addr });
            if self.identify {
                self.input(me, Input::Discovered(contact));
                self.input(me, Input::Serves { peer: peer(other), yes: true });
            }
        }
    }

    fn dial_back(&mut self, me: usize, peer: PeerId, addr: multiaddr::Multiaddr) {
        let other = self.index[&peer];
        self.dialled_back.push(other);
        if self.contact(other).addrs().any(|known| known == addr) {
            self.input(me, Input::Connected { peer, outbound_addr: Some(addr), inbound_addr: None });
        }
    }

    /// One node sends a request to another, and ignores the answer.
    pub(crate) fn request(&mut self, to: usize, from: usize) {
        self.tell(to, from, Request::Ping);
    }

    /// One node sends this to another, and ignores the answer.
    pub(crate) fn tell(&mut self, to: usize, from: usize, request: Request) {
        self.next += 1;
        let id = RequestId::new(self.next + 1_000_000);
        self.deliver(to, Packet::Request { from, id, request });
    }

    /// The connection between two nodes closes.
    pub(crate) fn disconnect(&mut self, one: usize, other: usize) {
        if self.connected.remove(&(one.min(other), one.max(other))) {
            for (me, other) in [(one, other), (other, one)] {
                if !self.dead.contains(&me) {
                    self.input(me, Input::Disconnected { peer: peer(other) });
                }
            }
        }
    }

    /// A node disappears, with its connections.
    pub(crate) fn kill(&mut self, i: usize) {
        self.dead.insert(i);
        for other in 0..self.nodes.len() {
            self.disconnect(i, other);
        }
    }

    fn send(&mut self, to: usize, delay: Duration, packet: Packet) {
        self.next += 1;
        let stopped = self.stopped.get(&to).copied().unwrap_or(self.now);
        self.packets.insert(((self.now + delay).max(stopped), self.next), (to, packet));
    }

    fn deliver(&mut self, to: usize, packet: Packet) {
        match packet {
            Packet::Request { from, id, request } => {
                if self.silent.contains(&to) || self.dead.contains(&to) || self.dead.contains(&from) {
                    return;
                }
                self.connect(from, to);
                self.next += 1;
                let inbound = InboundId::new(self.next);
                self.inbound.insert((to, inbound), (from, id));
                self.input(to, Input::Request { from: peer(from), id: inbound, request });
            }
            Packet::Spoilt { from, id } => {
                self.connect(from, to);
                let why = match self.fault {
                    Some((_, Fault::NoAnswer, _)) => return,
                    Some((_, Fault::Closed, _)) => RequestError::ConnectionClosed,
                    Some((_, Fault::Reset, _)) | None => RequestError::Refused,
                };
                self.send(from, DELAY, Packet::Response { id, result: Err(why) });
            }
            Packet::Response { id, result } => {
                if self.open.remove(&(to, id)) {
                    self.input(to, Input::Response { id, result });
                }
            }
        }
    }
}

/// A peer id that is the same in every run.
pub(crate) fn peer(i: usize) -> PeerId {
    let mut bytes = [0; 34];
    bytes[..2].copy_from_slice(&[0x12, 0x20]);
    bytes[2..10].copy_from_slice(&(i as u64 + 1).to_be_bytes());
    PeerId::from_bytes(&bytes).unwrap()
}
