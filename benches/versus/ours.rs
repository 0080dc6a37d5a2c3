//! `libp2p-kad-dht`: the defaults of a private network.

use std::collections::HashMap;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use libp2p::core::transport::PortUse;
use libp2p::core::{ConnectedPoint, Endpoint};
use libp2p::identity::Keypair;
use libp2p::swarm::behaviour::{ConnectionClosed, ConnectionEstablished};
use libp2p::swarm::{FromSwarm, NetworkBehaviour, NotifyHandler, ToSwarm};
use libp2p::{Multiaddr, PeerId};
use libp2p_kad_dht::core::store::{Op, Ticket};
use libp2p_kad_dht::core::{
    Answer, Contact, Dht, DhtConfig, InboundId, Input, Kind, MemoryStore, MemoryStoreConfig, Output, QueryEvent,
    RecordKey, Reply, Report, Request, Response, Timestamp,
};
use libp2p_kad_dht::net::{FromHandler, ToHandler};
use libp2p_kad_dht::{Behaviour, Config, Event, QueryId, wire};
use serde_json::{Value, json};

use crate::node::{Adapter, Ended, PROTOCOL, Running, stranger};
use crate::parts::Table;

pub(crate) struct Ours;

impl Adapter for Ours {
    type Behaviour = Behaviour;
    type Query = QueryId;

    fn behaviour(keypair: &Keypair) -> Behaviour {
        Behaviour::new(keypair.public().to_peer_id(), Config::new(PROTOCOL)).expect("configuration")
    }

    fn settings() -> Value {
        let config = Config::new(PROTOCOL);
        let lookup = &config.core().lookup;
        json!({
            "k": lookup.replication.get(), "alpha": lookup.parallelism.get(), "beta": lookup.resiliency.get(),
            "paths": lookup.paths.get(), "get": "quorum 1, the default", "put": "all of k asked, quorum 1",
        })
    }

    fn learn(behaviour: &mut Behaviour, peer: PeerId, addr: Multiaddr) {
        behaviour.add_peer(peer, [addr]);
    }

    /// The table accepts peers that have answered: this answers for them.
    fn fill(behaviour: &mut Behaviour, peers: &[(PeerId, Vec<Multiaddr>)]) {
        let addrs: HashMap<PeerId, Multiaddr> = peers.iter().map(|(peer, addrs)| (*peer, addrs[0].clone())).collect();
        for (peer, of_peer) in peers {
            behaviour.add_peer(*peer, of_peer.clone());
            answer_all(behaviour, &addrs);
        }
    }

    fn has(behaviour: &mut Behaviour, key: &[u8]) -> bool {
        let done = behaviour.store().run(Timestamp::ZERO, Ticket::new(0), Op::Get(RecordKey::from(key)));
        matches!(done, Some(Ok(libp2p_kad_dht::core::store::OpOutput::Value(Some(_)))))
    }

    fn bootstrap(behaviour: &mut Behaviour) -> Option<QueryId> {
        behaviour.bootstrap().ok()
    }

    fn closest(behaviour: &mut Behaviour, key: &[u8]) -> QueryId {
        behaviour.closest_peers(key).expect("room for a query")
    }

    fn put(behaviour: &mut Behaviour, key: &[u8], value: Vec<u8>) -> QueryId {
        behaviour.put(key, value).expect("room for a query")
    }

    fn get(behaviour: &mut Behaviour, key: &[u8]) -> QueryId {
        behaviour.get(key).expect("room for a query")
    }

    fn provide(behaviour: &mut Behaviour, key: &[u8]) -> QueryId {
        behaviour.provide(key).expect("room for a query")
    }

    fn on_event(event: Event, running: &mut Running<QueryId>) -> Option<Ended> {
        let Event::QueryProgressed { id, event } = event else { return None };
        match event {
            QueryEvent::Value(_) | QueryEvent::Provider(_) => running.note_first(&id),
            QueryEvent::Finished(result) => {
                running.note_first(&id);
                let ended = running.get(&id)?;
                ended.ok = result.is_ok();
                if let Ok(answer) = *result {
                    note(ended, answer);
                }
                return running.end(&id);
            }
            _ => {}
        }
        None
    }
}

fn note(ended: &mut Ended, answer: Answer) {
    let requests = |report: &Report| report.requests;
    match answer {
        Answer::ClosestPeers(closest) => {
            ended.requests = requests(&closest.report);
            ended.peers = closest.peers.iter().map(|peer| peer.id).collect();
        }
        Answer::Value(found) => ended.requests = requests(&found.report),
        Answer::Published(published) => ended.requests = requests(&published.report),
        _ => {}
    }
}

/// Answers every request for the peer that it goes to, until the behaviour wants nothing more.
fn answer_all(behaviour: &mut Behaviour, addrs: &HashMap<PeerId, Multiaddr>) {
    let mut cx = Context::from_waker(futures::task::noop_waker_ref());
    let mut open = Vec::new();
    while let Poll::Ready(wanted) = behaviour.poll(&mut cx) {
        match wanted {
            ToSwarm::Dial { opts } => {
                let peer_id = opts.get_peer_id().expect("a peer");
                let endpoint = ConnectedPoint::Dialer {
                    address: addrs[&peer_id].clone(),
                    role_override: Endpoint::Dialer,
                    port_use: PortUse::Reuse,
                };
                let connection_id = opts.connection_id();
                behaviour.on_swarm_event(FromSwarm::ConnectionEstablished(ConnectionEstablished {
                    peer_id,
                    connection_id,
                    endpoint: &endpoint,
                    failed_addresses: &[],
                    other_established: 0,
                }));
                open.push((peer_id, connection_id, endpoint));
            }
            ToSwarm::NotifyHandler {
                peer_id,
                handler: NotifyHandler::One(connection),
                event: ToHandler::Send { id, request: Request::FindNode { .. }, .. },
            } => {
                let answer = FromHandler::Response { id, result: Ok(Response::FindNode { closer: Vec::new() }) };
                behaviour.on_connection_handler_event(peer_id, connection, answer);
            }
            _ => {}
        }
    }
    for (peer_id, connection_id, endpoint) in open {
        behaviour.on_swarm_event(FromSwarm::ConnectionClosed(ConnectionClosed {
            peer_id,
            connection_id,
            endpoint: &endpoint,
            cause: None,
            remaining_established: 0,
        }));
    }
    while behaviour.poll(&mut cx).is_ready() {}
}

const NOW: Timestamp = Timestamp::from_secs(1_000_000);

/// The core alone, whose table accepts peers immediately.
pub(crate) struct OurTable {
    dht: Dht,
    last: u64,
}

impl OurTable {
    fn ask(&mut self, key: &[u8]) -> Response {
        self.last += 1;
        let request = Request::FindNode { key: Bytes::copy_from_slice(key) };
        let input = Input::Request { from: stranger(), id: InboundId::new(self.last), request };
        self.dht.handle_input(NOW, input);
        let mut answer = None;
        while let Some(output) = self.dht.poll_output() {
            if let Output::Reply { reply: Reply::Answer(response), .. } = output {
                answer = Some(response);
            }
        }
        answer.expect("an answer")
    }
}

impl Table for OurTable {
    fn new(local: PeerId) -> OurTable {
        let store = Box::new(MemoryStore::new(MemoryStoreConfig::default(), [1; 32]));
        let config = Arc::new(DhtConfig::default());
        let dht = Dht::new(NOW, Contact::new(local, []), store, [2; 32], config);
        OurTable { dht: dht.expect("configuration"), last: 0 }
    }

    fn add(&mut self, peer: &PeerId, addrs: &[Multiaddr]) {
        self.dht.admit_verified(NOW, &Contact::new(*peer, addrs.iter().cloned()));
        while self.dht.poll_output().is_some() {}
    }

    fn closest(&mut self, key: &[u8]) -> usize {
        match self.ask(key) {
            Response::FindNode { closer } => std::hint::black_box(closer).len(),
            _ => 0,
        }
    }

    fn answer(&mut self, key: &[u8], out: &mut BytesMut) {
        let response = self.ask(key);
        *out = wire::encode_response(&response, wire::MAX_OUT).expect("encodes").into();
    }

    fn decode(body: Bytes) -> usize {
        match wire::decode_response(Kind::FindNode, body) {
            Ok(Response::FindNode { closer }) => std::hint::black_box(closer).len(),
            _ => 0,
        }
    }
}
