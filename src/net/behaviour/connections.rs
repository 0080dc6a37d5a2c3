//! Connections, dials and addresses: which connections belong to this node's network, and what the core and the dialer
//! learn from them.
//!
//! Knows: the swarm's events. Must not know: the requests on the connections.

use std::sync::Arc;

use libp2p_core::{ConnectedPoint, Multiaddr};
use libp2p_identity::PeerId;
use libp2p_swarm::behaviour::{AddressChange, ConnectionClosed, ConnectionEstablished, DialFailure};
use libp2p_swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p_swarm::{ConnectionId, ToSwarm};

use super::{Behaviour, notify};
use crate::core::{AddressPolicy, Contact, DialCause, Input, Mode, Origin};
use crate::net::dialer;
use crate::net::handler::Handler;
use crate::net::messages::ToHandler;

impl Behaviour {
    pub(super) fn on_established(&mut self, event: ConnectionEstablished<'_>) {
        let ConnectionEstablished { peer_id: peer, connection_id, endpoint, failed_addresses, .. } = event;
        if !self.is_of_network(endpoint.get_remote_address()) {
            self.foreign.on_established(peer, connection_id, None);
            return self.dialer.on_foreign_connection(peer);
        }
        self.on_own_established(peer, connection_id, endpoint);
        if !failed_addresses.is_empty() {
            // If another address worked, the swarm does not say why these failed.
            let addrs = failed_addresses.iter().map(|addr| (addr.clone(), DialCause::Unknown)).collect();
            self.input(Input::DialFailed { peer, addrs });
        }
    }

    /// A connection of this network is up.
    fn on_own_established(&mut self, peer: PeerId, connection: ConnectionId, endpoint: &ConnectedPoint) {
        let first = !self.dialer.is_connected(&peer);
        self.dialer.on_established(peer, connection);
        let outbound_addr = dialled_addr(endpoint).cloned();
        let inbound_addr = endpoint.is_listener().then(|| endpoint.get_remote_address().clone());
        if first || outbound_addr.is_some() {
            self.input(Input::Connected { peer, outbound_addr, inbound_addr });
        }
        if let Some(contact) = self.foreign.take_discovered(&peer) {
            self.input(Input::Discovered(contact));
        }
    }

    pub(super) fn on_dial_failure(&mut self, event: DialFailure<'_>) {
        let addrs = dialer::failed_addrs(event.error);
        match event.peer_id {
            Some(peer) if !addrs.is_empty() => self.input(Input::DialFailed { peer, addrs }),
            _ => {}
        }
        self.dialer.on_dial_failure(event.peer_id, event.connection_id, event.error);
    }

    /// Dials a connected peer at an address to find out whether it can be reached there. Uses a new port: a dial from
    /// the port that listens would have both addresses and ports of the existing connection.
    pub(super) fn dial_back(&mut self, peer: PeerId, addr: Multiaddr) {
        let opts = DialOpts::peer_id(peer).condition(PeerCondition::NotDialing).addresses(vec![addr]);
        self.effects.push_back(ToSwarm::Dial { opts: opts.allocate_new_port().build() });
    }

    pub(super) fn on_closed(&mut self, event: ConnectionClosed<'_>) {
        let ConnectionClosed { peer_id: peer, connection_id, .. } = event;
        if self.foreign.on_closed(peer, connection_id).is_none() {
            self.on_own_closed(peer, connection_id);
        }
    }

    /// A connection of this network closed, or left the network.
    fn on_own_closed(&mut self, peer: PeerId, connection: ConnectionId) {
        for id in self.pending_inbound.close(connection) {
            self.input(Input::RequestGone { id });
        }
        let before = self.dialer.serves(&peer);
        self.dialer.on_closed(peer, connection);
        if !self.dialer.is_connected(&peer) {
            self.input(Input::Disconnected { peer });
        } else if before == Some(true) && self.dialer.serves(&peer) == Some(false) {
            self.input(Input::Serves { peer, yes: false });
        }
    }

    /// The remote address of a connection changed. The connection may leave this network by that, or join it.
    pub(super) fn on_address_change(&mut self, event: AddressChange<'_>) {
        let AddressChange { peer_id: peer, connection_id: connection, new, .. } = event;
        let is_own = self.is_of_network(new.get_remote_address());
        match (self.foreign.has(peer, connection), is_own) {
            (false, false) => self.on_left_network(peer, connection),
            (true, true) => self.on_joined_network(peer, connection, new),
            _ => {
                if let (true, Some(addr)) = (is_own, dialled_addr(new)) {
                    self.input(Input::Connected { peer, outbound_addr: Some(addr.clone()), inbound_addr: None });
                }
            }
        }
    }

    fn on_left_network(&mut self, peer: PeerId, connection: ConnectionId) {
        let serves = self.dialer.serves_on(peer, connection);
        self.on_own_closed(peer, connection);
        self.foreign.on_established(peer, connection, serves);
        self.effects.push_back(notify(peer, connection, ToHandler::SetMode(Mode::Client)));
    }

    fn on_joined_network(&mut self, peer: PeerId, connection: ConnectionId, endpoint: &ConnectedPoint) {
        self.on_own_established(peer, connection, endpoint);
        if let Some(Some(yes)) = self.foreign.on_closed(peer, connection) {
            self.on_serves(peer, connection, yes);
        }
        self.effects.push_back(notify(peer, connection, ToHandler::SetMode(self.mode.current())));
    }

    /// A peer says on one connection whether it serves. The peer judges a connection by the address that it sees, and
    /// may not serve on one that it takes for foreign; it serves if it does on any connection of this network.
    pub(super) fn on_serves(&mut self, peer: PeerId, connection: ConnectionId, yes: bool) {
        if self.foreign.on_serves(peer, connection, yes) {
            return;
        }
        self.dialer.on_serves(peer, connection, yes);
        if self.dialer.serves(&peer) == Some(yes) {
            self.input(Input::Serves { peer, yes });
        }
    }

    pub(super) fn on_discovered(&mut self, peer: PeerId, addr: Multiaddr) {
        if peer == self.local || !self.config.address_policy.admits(addr.as_ref()) {
            return;
        }
        let contact = Contact::new(peer, [addr]);
        // A peer with foreign connections only is not of this network, whatever address it reports: the address is kept
        // until a connection of this network shows that it is.
        if !self.dialer.is_connected(&peer) && self.foreign.on_discovered(&contact) {
            return;
        }
        self.input(Input::Discovered(contact));
    }

    /// Whether a connection belongs to this node's network. To a local network only local connections do: every host on
    /// earth has a local address, and could report it over a connection from anywhere.
    fn is_of_network(&self, remote: &Multiaddr) -> bool {
        let policy = self.config.address_policy;
        policy != AddressPolicy::Lan || policy.admits(remote.as_ref())
    }

    /// On a foreign connection the node accepts no streams, whatever its mode.
    pub(super) fn handler(&mut self, peer: PeerId, remote: &Multiaddr) -> Handler {
        self.next_handler = self.next_handler.wrapping_add(1);
        let mode = if self.is_of_network(remote) { self.mode.current() } else { Mode::Client };
        let asns = self.config.routing.diversity.as_ref().and_then(|diversity| diversity.asns.as_deref());
        let place = Origin::of_remote(remote.as_ref(), asns).share();
        Handler::new(peer, Arc::clone(&self.stream_config), mode, self.next_handler, place, Arc::clone(&self.streams))
    }
}

/// The address that this node dialled; `None` if the peer dialled.
fn dialled_addr(endpoint: &ConnectedPoint) -> Option<&Multiaddr> {
    match endpoint {
        ConnectedPoint::Dialer { address, .. } => Some(address),
        ConnectedPoint::Listener { .. } => None,
    }
}
