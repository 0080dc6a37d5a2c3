//! Nodes of which some are dead, silent, slow or liars, and packets between them.
//!
//! Knows: delays and faults. Must not know: what nodes should make of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use libp2p_kad_dht::core::{
    DialCause, InboundId, Input, Operation, Output, QueryOptions, RecordKey, Reply, Request, RequestError, RequestId,
    Response, Timestamp, Unreachable,
};
use proptest::prelude::*;

use super::actions::{answer, contact, peer};
use super::lawful::{BEGIN, Lawful, QUERY_TIME, REQUEST_TIME, small};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Character {
    Good,
    Slow,
    Dead,
    Silent,
    /// Answers, but as the number says.
    Liar(u8),
    /// Resets every stream.
    Rude,
}

/// A network, and what is done in it.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// The character of each node, and whether its store answers later.
    pub(crate) nodes: Vec<(Character, bool)>,
    /// The node that starts a query, the query, and the time after which it does, in milliseconds.
    queries: Vec<(u8, u8, u16)>,
    seed: u32,
}

pub(crate) fn plan() -> impl Strategy<Value = Plan> {
    let character = prop_oneof![
        6 => Just(Character::Good),
        1 => Just(Character::Slow),
        1 => Just(Character::Dead),
        1 => Just(Character::Silent),
        2 => (0..5u8).prop_map(Character::Liar),
        1 => Just(Character::Rude),
    ];
    let nodes = prop::collection::vec((character, any::<bool>()), 5..=30);
    let queries = prop::collection::vec((any::<u8>(), any::<u8>(), 0..20_000u16), 1..40);
    (nodes, queries, any::<u32>()).prop_map(|(nodes, queries, seed)| Plan { nodes, queries, seed })
}

enum Packet {
    Start(u8),
    Request { from: usize, id: RequestId, request: Request },
    Response { id: RequestId, result: Result<Response, RequestError> },
}

pub(crate) struct Network {
    nodes: Vec<Lawful>,
    characters: Vec<Character>,
    packets: BTreeMap<(Timestamp, u64), (usize, Packet)>,
    /// The node that sent each inbound request, and its own id for it.
    inbound: BTreeMap<(usize, InboundId), (usize, RequestId)>,
    now: Timestamp,
    next: u64,
    chance: u32,
}

impl Network {
    pub(crate) fn new(plan: &Plan) -> Network {
        let nodes = plan.nodes.iter().enumerate();
        let mut network = Network {
            nodes: nodes.map(|(i, (_, deferred))| Lawful::new(&contact(i as u32), &small(), *deferred)).collect(),
            characters: plan.nodes.iter().map(|(character, _)| *character).collect(),
            packets: BTreeMap::new(),
            inbound: BTreeMap::new(),
            now: BEGIN,
            next: 0,
            chance: plan.seed | 1,
        };
        let count = network.nodes.len();
        for i in 0..count {
            for known in [0, (i + 1) % count, (i * 7 + 3) % count] {
                network.input(i, move || Input::AddPeer(contact(known as u32)));
            }
            network.send(i, Duration::from_millis(i as u64 * 40), Packet::Start(7));
        }
        for (who, what, after) in &plan.queries {
            network.send(usize::from(*who) % count, Duration::from_millis((*after).into()), Packet::Start(*what));
        }
        network
    }

    /// Lets everything happen, and every query come to its end.
    pub(crate) fn run(&mut self) {
        let end = BEGIN + Duration::from_secs(21) + QUERY_TIME + REQUEST_TIME;
        let mut steps = 0;
        loop {
            let packet = self.packets.keys().next().map(|(at, _)| *at);
            let wake = self.nodes.iter().enumerate().filter_map(|(i, node)| Some((node.dht.poll_timeout()?, i))).min();
            match (packet, wake) {
                (Some(at), wake) if at <= end && wake.is_none_or(|(wake, _)| at <= wake) => {
                    self.now = self.now.max(at);
                    let (_, (to, packet)) = self.packets.pop_first().unwrap();
                    self.deliver(to, packet);
                }
                (_, Some((at, i))) if at <= end => {
                    self.now = self.now.max(at);
                    self.nodes[i].now = self.now;
                    let outputs = self.nodes[i].wake();
                    self.perform(i, outputs);
                }
                _ => break,
            }
            steps += 1;
            assert!(steps < 200_000, "it goes on and on");
        }
        for node in &self.nodes {
            assert!(node.queries.values().all(Option::is_none), "a query hangs");
        }
    }

    fn chance(&mut self) -> u32 {
        self.chance = self.chance.wrapping_mul(0x0019_660D).wrapping_add(0x3C6E_F35F);
        self.chance >> 8
    }

    fn send(&mut self, to: usize, delay: Duration, packet: Packet) {
        self.next += 1;
        self.packets.insert((self.now + delay, self.next), (to, packet));
    }

    fn input(&mut self, i: usize, input: impl Fn() -> Input + 'static) {
        let now = self.now;
        self.nodes[i].now = now;
        self.nodes[i].call(move |dht, _| dht.handle_input(now, input()));
        let outputs = self.nodes[i].drain();
        self.perform(i, outputs);
    }

    fn perform(&mut self, i: usize, outputs: Vec<Output>) {
        for output in outputs {
            let delay = Duration::from_millis(u64::from(self.chance() % 100) + 1);
            match output {
                Output::Send { to, id, request } => {
                    let to = (0..self.nodes.len()).find(|i| peer(*i as u32) == *to.peer());
                    let now = self.now;
                    self.nodes[i].call(move |dht, _| dht.handle_input(now, Input::Sent { id }));
                    match to.filter(|to| self.characters[*to] != Character::Dead) {
                        Some(to) => self.send(to, delay, Packet::Request { from: i, id, request }),
                        None => {
                            let result = Err(RequestError::Unreachable(Unreachable::DialFailed(DialCause::Unknown)));
                            self.send(i, delay, Packet::Response { id, result });
                        }
                    }
                }
                Output::Reply { id, reply, .. } => {
                    let (sender, id) = self.inbound.remove(&(i, id)).unwrap();
                    let result = match reply {
                        Reply::Answer(response) => Ok(response),
                        Reply::Nothing => Ok(Response::AddProvider),
                        _ => Err(RequestError::Refused),
                    };
                    let slow = if self.characters[i] == Character::Slow { 15 } else { 1 };
                    self.send(sender, delay * slow, Packet::Response { id, result });
                }
                _ => {}
            }
        }
        // Its store takes a moment, for each operation.
        if self.nodes[i].pending() > 0 {
            self.nodes[i].call(|_, control| control.iter_mut().for_each(|control| control.release_at(0)));
            let outputs = self.nodes[i].drain();
            self.perform(i, outputs);
        }
    }

    fn deliver(&mut self, to: usize, packet: Packet) {
        self.nodes[to].now = self.now;
        match packet {
            Packet::Start(what) => {
                self.nodes[to].start(operation(what), QueryOptions::default());
                let outputs = self.nodes[to].drain();
                self.perform(to, outputs);
            }
            Packet::Request { from, id, request } => self.on_request(from, to, id, request),
            Packet::Response { id, result } => {
                // Unless it was cancelled meanwhile.
                if self.nodes[to].open.contains_key(&id) {
                    self.nodes[to].respond(id, result);
                    let outputs = self.nodes[to].drain();
                    self.perform(to, outputs);
                }
            }
        }
    }

    fn on_request(&mut self, from: usize, to: usize, id: RequestId, request: Request) {
        let peers = self.chance();
        let delay = Duration::from_millis(5);
        match self.characters[to] {
            Character::Dead | Character::Silent => {}
            Character::Rude => self.send(from, delay, Packet::Response { id, result: Err(RequestError::Refused) }),
            Character::Liar(how) => {
                let lie = answer(&request, how, peers | 1 << (from % 24));
                self.send(from, delay, Packet::Response { id, result: Ok(lie) });
            }
            Character::Good | Character::Slow => {
                for (me, other) in [(from, to), (to, from)] {
                    let peer = peer(other as u32);
                    self.input(me, move || Input::Connected { peer, outbound_addr: None, inbound_addr: None });
                    self.input(me, move || Input::Discovered(Arc::clone(&contact(other as u32))));
                    self.input(me, move || Input::Serves { peer, yes: true });
                }
                self.next += 1;
                let inbound = InboundId::new(self.next);
                self.inbound.insert((to, inbound), (from, id));
                self.nodes[to].now = self.now;
                self.nodes[to].request(peer(from as u32), inbound, request);
                let outputs = self.nodes[to].drain();
                self.perform(to, outputs);
            }
        }
    }
}

fn operation(what: u8) -> Operation {
    let key = RecordKey::from(format!("/key/{}", what / 8 % 4).into_bytes());
    match what % 8 {
        0 => Operation::ClosestPeers { key: key.to_shared() },
        1 => Operation::FindPeer { peer: peer(u32::from(what)) },
        2 | 3 => Operation::Get { key },
        4 => Operation::Put { key, value: Bytes::from(vec![b'v', what]) },
        5 => Operation::Provide { key },
        6 => Operation::Providers { key },
        _ => Operation::Bootstrap,
    }
}
