//! Bare cores with their handles, joined by a driver in a dozen lines.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::task::noop_waker;
use libp2p_identity::PeerId;
use libp2p_kad_dht::core::{
    Contact, Dht, DhtConfig, Event, InboundId, Input, MemoryStore, Output, Reply, RequestError, RequestId, Timestamp,
};
use libp2p_kad_dht::handle::{Commands, DriverRequest};
use libp2p_kad_dht::{DhtHandle, Query, QueryError};

use super::poll;

/// Nodes that reach each other immediately, and peers that are mute.
pub(crate) struct Network {
    pub(crate) now: Timestamp,
    pub(crate) nodes: Vec<Node>,
    /// Requests to peers without a node.
    pub(crate) mute: BTreeMap<RequestId, PeerId>,
}

pub(crate) struct Node {
    pub(crate) peer: PeerId,
    pub(crate) dht: Dht,
    pub(crate) commands: Commands,
    pub(crate) requests: Vec<DriverRequest>,
    pub(crate) events: Vec<Event>,
    pub(crate) next_inbound: u64,
    pub(crate) asked: BTreeMap<InboundId, (usize, RequestId)>,
}

pub(crate) fn addrs(n: usize) -> [multiaddr::Multiaddr; 1] {
    [format!("/memory/{}", n + 1).parse().unwrap()]
}

impl Network {
    pub(crate) fn new(count: usize) -> Network {
        Network::with(count, DhtConfig::default())
    }

    pub(crate) fn with(count: usize, config: DhtConfig) -> Network {
        let now = Timestamp::from_secs(1_000_000);
        let config = Arc::new(config);
        let node = |n: usize| {
            let peer = PeerId::from_bytes(&[&[0x00, 8][..], &(n as u64).to_be_bytes()].concat()).unwrap();
            let store = Box::new(MemoryStore::new(Default::default(), [7; 32]));
            let dht = Dht::new(now, Contact::new(peer, addrs(n)), store, [n as u8; 32], Arc::clone(&config)).unwrap();
            let commands = Commands::new();
            Node { peer, dht, commands, requests: vec![], events: vec![], next_inbound: 0, asked: BTreeMap::new() }
        };
        Network { now, nodes: (0..count).map(node).collect(), mute: BTreeMap::new() }
    }

    pub(crate) fn handle(&self, n: usize) -> DhtHandle {
        self.nodes[n].commands.handle()
    }

    pub(crate) fn introduce(&mut self) {
        self.introduce_first(self.nodes.len());
    }

    /// Introduces the first nodes to each other.
    pub(crate) fn introduce_first(&mut self, count: usize) {
        for n in 0..count {
            for m in (0..count).filter(|m| *m != n) {
                let contact = Contact::new(self.nodes[m].peer, addrs(m));
                self.nodes[n].dht.handle_input(self.now, Input::AddPeer(contact));
            }
        }
        self.run();
    }

    /// Runs until nothing more happens at this time.
    pub(crate) fn run(&mut self) {
        while (0..self.nodes.len()).any(|n| self.step(n)) {}
    }

    pub(crate) fn step(&mut self, n: usize) -> bool {
        let waker = noop_waker();
        let (now, node) = (self.now, &mut self.nodes[n]);
        let mut busy = false;
        while let Poll::Ready(request) = node.commands.poll(&mut Context::from_waker(&waker), now, &mut node.dht) {
            if let DriverRequest::AddPeer(contact) = &request {
                node.dht.handle_input(now, Input::AddPeer(Arc::clone(contact)));
            }
            node.requests.push(request);
        }
        node.dht.poll_store(now, &waker);
        while let Some(output) = self.nodes[n].dht.poll_output() {
            busy = true;
            self.carry_out(n, output);
        }
        busy
    }

    pub(crate) fn carry_out(&mut self, n: usize, output: Output) {
        let now = self.now;
        match output {
            Output::Send { to, id, request } => {
                self.nodes[n].dht.handle_input(now, Input::Sent { id });
                let Some(m) = self.nodes.iter().position(|node| node.peer == *to.peer()) else {
                    self.mute.insert(id, *to.peer());
                    return;
                };
                let from = self.nodes[n].peer;
                let node = &mut self.nodes[m];
                node.next_inbound += 1;
                let inbound = InboundId::new(node.next_inbound);
                node.asked.insert(inbound, (n, id));
                node.dht.handle_input(now, Input::Request { from, id: inbound, request });
            }
            Output::Reply { id, reply, .. } => {
                let Some((m, id)) = self.nodes[n].asked.remove(&id) else { return };
                let result = match reply {
                    Reply::Answer(response) => Ok(response),
                    Reply::Nothing => Ok(libp2p_kad_dht::core::Response::AddProvider),
                    _ => Err(RequestError::Refused),
                };
                self.nodes[m].dht.handle_input(now, Input::Response { id, result });
            }
            Output::Cancel { id } => {
                self.mute.remove(&id);
            }
            Output::Event(event) => {
                let node = &mut self.nodes[n];
                if let Some(event) = node.commands.handle_event(event) {
                    node.events.push(event);
                }
            }
            _ => {}
        }
    }

    pub(crate) fn advance(&mut self, by: Duration) {
        let end = self.now + by;
        while let Some(at) = self.nodes.iter().filter_map(|node| node.dht.poll_timeout()).min().filter(|at| *at < end) {
            self.wake(self.now.max(at));
        }
        self.wake(end);
    }

    fn wake(&mut self, now: Timestamp) {
        self.now = now;
        for node in &mut self.nodes {
            node.dht.handle_input(now, Input::Timeout);
        }
        self.run();
    }

    /// Runs the network until the query has ended; it must not need any time.
    pub(crate) fn finish<T: 'static>(&mut self, query: impl IntoFuture<IntoFuture = Query<T>>) -> Result<T, QueryError>
    where
        Query<T>: Future<Output = Result<T, QueryError>>,
    {
        let mut query = query.into_future();
        for _ in 0..10 {
            if let Poll::Ready(end) = poll(&mut query) {
                return end;
            }
            self.run();
        }
        panic!("the query does not end");
    }

    pub(crate) fn assert_idle(&self) {
        for node in &self.nodes {
            assert_eq!(node.dht.query_snapshots(), []);
            assert_eq!(node.commands.running(), 0);
        }
        assert!(self.mute.is_empty(), "requests are left: {:?}", self.mute);
    }
}
