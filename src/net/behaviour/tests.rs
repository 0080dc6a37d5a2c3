//! Swarm events of connections, made by hand: connections of this network, and foreign ones.

use std::task::Waker;

use libp2p_core::transport::PortUse;
use libp2p_core::{ConnectedPoint, Endpoint};
use libp2p_swarm::behaviour::{AddressChange, ConnectionClosed, ConnectionEstablished};

use super::*;
use crate::core::{AddressPolicy, RequestId};
use crate::net::stream::Turn;

const NAME: StreamProtocol = StreamProtocol::new("/test/kad/1.0.0");
const LOCAL: &str = "/ip4/192.168.0.7/tcp/1";
const AFAR: &str = "/ip4/8.8.8.8/tcp/1";

/// A server in a local network, one peer, and the messages of the node to its handlers.
struct Stage {
    behaviour: Behaviour,
    peer: PeerId,
    modes: Vec<(ConnectionId, Mode)>,
    asked: Vec<(ConnectionId, RequestId)>,
}

fn at(addr: &str) -> ConnectedPoint {
    let address = addr.parse().unwrap();
    ConnectedPoint::Dialer { address, role_override: Endpoint::Dialer, port_use: PortUse::Reuse }
}

fn id(number: usize) -> ConnectionId {
    ConnectionId::new_unchecked(number)
}

impl Stage {
    fn new() -> Stage {
        Stage::with(Config::new(NAME).with_address_policy(AddressPolicy::Lan).with_mode(Some(Mode::Server)))
    }

    fn with(config: Config) -> Stage {
        let behaviour = Behaviour::new(PeerId::random(), config).unwrap();
        Stage { behaviour, peer: PeerId::random(), modes: Vec::new(), asked: Vec::new() }
    }

    fn drain(&mut self) {
        let mut cx = Context::from_waker(Waker::noop());
        while let Poll::Ready(effect) = self.behaviour.poll(&mut cx) {
            let ToSwarm::NotifyHandler { handler: NotifyHandler::One(connection), event, .. } = effect else {
                continue;
            };
            match event {
                ToHandler::SetMode(mode) => self.modes.push((connection, mode)),
                ToHandler::Send { id, .. } => self.asked.push((connection, id)),
                _ => {}
            }
        }
    }

    fn established(&mut self, connection: ConnectionId, addr: &str) {
        self.established_at(connection, &at(addr));
    }

    fn established_at(&mut self, connection: ConnectionId, endpoint: &ConnectedPoint) {
        self.behaviour.on_swarm_event(FromSwarm::ConnectionEstablished(ConnectionEstablished {
            peer_id: self.peer,
            connection_id: connection,
            endpoint,
            failed_addresses: &[],
            other_established: 0,
        }));
        self.drain();
    }

    fn moved(&mut self, connection: ConnectionId, old: &str, new: &str) {
        self.behaviour.on_swarm_event(FromSwarm::AddressChange(AddressChange {
            peer_id: self.peer,
            connection_id: connection,
            old: &at(old),
            new: &at(new),
        }));
        self.drain();
    }

    fn closed(&mut self, connection: ConnectionId, addr: &str) {
        self.behaviour.on_swarm_event(FromSwarm::ConnectionClosed(ConnectionClosed {
            peer_id: self.peer,
            connection_id: connection,
            endpoint: &at(addr),
            cause: None,
            remaining_established: 0,
        }));
        self.drain();
    }

    fn says(&mut self, connection: ConnectionId, event: FromHandler) {
        self.behaviour.on_connection_handler_event(self.peer, connection, event);
        self.drain();
    }

    /// The peer answers all requests, so that it is in the table.
    fn answers(&mut self) {
        while let Some((connection, id)) = self.asked.pop() {
            let result = Ok(crate::core::Response::FindNode { closer: Vec::new() });
            self.says(connection, FromHandler::Response { id, result });
        }
    }

    fn asked_on(&self) -> Vec<ConnectionId> {
        self.asked.iter().map(|(connection, _)| *connection).collect()
    }

    fn knows(&self) -> bool {
        self.behaviour.routing_table().entries().any(|entry| entry.peer == self.peer)
    }
}

#[test]
fn a_connection_that_moves_into_the_local_network_is_used_from_then_on() {
    let mut stage = Stage::new();
    stage.established(id(1), AFAR);
    stage.says(id(1), FromHandler::Serves(true));
    assert!(!stage.behaviour.dialer.is_connected(&stage.peer) && stage.asked.is_empty());
    stage.moved(id(1), AFAR, LOCAL);
    assert!(stage.behaviour.dialer.is_connected(&stage.peer));
    assert_eq!(stage.modes, [(id(1), Mode::Server)]);
    assert_eq!(stage.asked_on(), [id(1)], "it reported that it serves, and is tried");
    stage.answers();
    assert!(stage.knows());
    stage.closed(id(1), LOCAL);
    assert!(!stage.behaviour.dialer.is_connected(&stage.peer));
}

#[test]
fn a_connection_that_moves_out_of_the_local_network_is_no_longer_used() {
    let mut stage = Stage::new();
    stage.established(id(1), LOCAL);
    stage.says(id(1), FromHandler::Serves(true));
    let request = crate::core::Request::Ping;
    stage.behaviour.streams.turns.join(1, Default::default());
    let turn = Turn::take(&stage.behaviour.streams.turns, 1, Waker::noop()).unwrap();
    stage.says(id(1), FromHandler::Request { id: InboundId::new(9), request, turn });
    stage.moved(id(1), LOCAL, AFAR);
    assert!(!stage.behaviour.dialer.is_connected(&stage.peer));
    assert_eq!(stage.modes, [(id(1), Mode::Client)]);
    assert_eq!(stage.behaviour.pending_inbound.len(), 0);
    stage.moved(id(1), AFAR, "/ip4/8.8.4.4/tcp/1");
    assert_eq!(stage.modes.len(), 1, "foreign before and after");
    stage.moved(id(1), AFAR, LOCAL);
    assert_eq!(stage.modes.len(), 2);
}

#[test]
fn a_peer_serves_if_it_does_on_any_connection() {
    let mut stage = Stage::new();
    stage.established(id(1), LOCAL);
    stage.says(id(1), FromHandler::Serves(true));
    stage.answers();
    assert!(stage.knows());
    stage.established(id(2), LOCAL);
    stage.says(id(2), FromHandler::Serves(false));
    assert!(stage.knows(), "the peer takes this one for a foreign connection");
    stage.drain(); // what is due comes after all events
    stage.asked.clear();
    for n in 0..4 {
        let operation = Operation::ClosestPeers { key: vec![n].into() };
        stage.behaviour.start(operation, QueryOptions::default()).unwrap();
        stage.drain();
    }
    assert_eq!(stage.asked_on(), [id(1); 4], "where it serves");
    stage.closed(id(1), LOCAL);
    assert!(!stage.knows(), "the remaining connection is one on which it does not serve");
    stage.says(id(2), FromHandler::Serves(true));
    stage.answers();
    assert!(stage.knows());
    stage.says(id(2), FromHandler::Serves(false));
    assert!(!stage.knows());
}

#[test]
fn a_peer_that_dials_in_belongs_to_the_network_it_dials_from() {
    let mut config = Config::new(NAME).with_address_policy(AddressPolicy::Public).with_mode(Some(Mode::Server));
    config = config.with_diversity(Some(crate::core::config::DiversityConfig::default()));
    let mut stage = Stage::with(config);
    for host in 1..20 {
        stage.peer = PeerId::random();
        let send_back_addr = format!("/ip4/20.1.0.{host}/tcp/50000").parse().unwrap();
        let endpoint = ConnectedPoint::Listener { local_addr: LOCAL.parse().unwrap(), send_back_addr };
        stage.established_at(id(host), &endpoint);
        let contact = Contact::new(stage.peer, [format!("/ip4/30.{host}.0.1/tcp/1").parse().unwrap()]);
        stage.behaviour.input(Input::Discovered(contact));
        stage.says(id(host), FromHandler::Serves(true));
        stage.answers();
    }
    assert_eq!(stage.behaviour.routing_table().entries().count(), 2, "of 19 that claim to be in as many networks");
}
