//! Connections, dials and what they teach of addresses: which of them count, and what the core and the dialler hear.
//!
//! Knows: the swarm's words for them. Must not know: what is asked over them.

use std::sync::Arc;

use libp2p_core::{ConnectedPoint, Multiaddr};
use libp2p_identity::PeerId;
use libp2p_swarm::behaviour::{AddressChange, ConnectionClosed, ConnectionEstablished, DialFailure};

use super::Behaviour;
use crate::core::{AddressPolicy, Contact, Input, Mode};
use crate::net::dialer;
use crate::net::handler::Handler;

impl Behaviour {
    pub(super) fn on_established(&mut self, event: ConnectionEstablished<'_>) {
        let ConnectionEstablished { peer_id: peer, connection_id, endpoint, failed_addresses, .. } = event;
        if !self.is_of_network(endpoint.get_remote_address()) {
            self.elsewhere.on_established(peer, connection_id);
            return self.dialer.on_other_connection(peer);
        }
        let first = !self.dialer.is_connected(&peer);
        self.dialer.on_established(peer, connection_id);
        let outbound_addr = dialled_addr(endpoint).cloned();
        if first {
            self.input(Input::Connected { peer, outbound_addr });
        } else if let Some(addr) = outbound_addr {
            self.on_discovered(peer, addr);
        }
        if let Some(said) = self.elsewhere.take_said(&peer) {
            self.input(Input::Discovered(said));
        }
        if !failed_addresses.is_empty() {
            self.input(Input::NotThere { peer, addrs: failed_addresses.to_vec(), strangers: false });
        }
    }

    pub(super) fn on_dial_failure(&mut self, event: DialFailure<'_>) {
        let now = self.clock.now();
        if let (Some(peer), Some(addr)) = (event.peer_id, dialer::strangers_addr(event.error)) {
            self.input(Input::NotThere { peer, addrs: vec![addr.clone()], strangers: true });
        }
        self.dialer.on_dial_failure(now, event.peer_id, event.connection_id, event.error);
    }

    pub(super) fn on_closed(&mut self, event: ConnectionClosed<'_>) {
        let ConnectionClosed { peer_id: peer, connection_id, .. } = event;
        if self.elsewhere.on_closed(peer, connection_id) {
            return;
        }
        for id in self.asked.close(connection_id) {
            self.input(Input::RequestGone { id });
        }
        let now = self.clock.now();
        self.dialer.on_closed(now, peer, connection_id);
        if !self.dialer.is_connected(&peer) {
            self.input(Input::Disconnected { peer });
        }
    }

    pub(super) fn on_address_change(&mut self, event: AddressChange<'_>) {
        if let Some(addr) = dialled_addr(event.new) {
            self.on_discovered(event.peer_id, addr.clone());
        }
    }

    pub(super) fn on_discovered(&mut self, peer: PeerId, addr: Multiaddr) {
        if peer == self.local || !self.policy.admits(addr.as_ref()) {
            return;
        }
        let contact = Contact::new(peer, [addr]);
        // Who is somewhere else is not of this network, whatever address it has there; unless it turns up here too.
        if !self.dialer.is_connected(&peer) && self.elsewhere.on_discovered(&contact) {
            return;
        }
        self.input(Input::Discovered(contact));
    }

    /// Whether a connection counts. In a local network only those do that are local: every host on earth has a local
    /// address, and would be one of this network as soon as it said so on a connection from afar.
    fn is_of_network(&self, remote: &Multiaddr) -> bool {
        self.policy != AddressPolicy::Lan || self.policy.admits(remote.as_ref())
    }

    /// On a connection that does not count the node takes no streams, whatever its mode.
    pub(super) fn handler(&mut self, remote: &Multiaddr) -> Handler {
        self.next_handler = self.next_handler.wrapping_add(1);
        let mode = if self.is_of_network(remote) { self.mode.current() } else { Mode::Client };
        Handler::new(Arc::clone(&self.stream), mode, self.next_handler, Arc::clone(&self.streams))
    }
}

/// The address at which this node dialled; `None` on a connection that the peer made.
fn dialled_addr(endpoint: &ConnectedPoint) -> Option<&Multiaddr> {
    match endpoint {
        ConnectedPoint::Dialer { address, .. } => Some(address),
        ConnectedPoint::Listener { .. } => None,
    }
}
