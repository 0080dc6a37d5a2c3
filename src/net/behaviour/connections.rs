//! Connections, dials and what they teach of addresses: which of them count, and what the core and the dialler hear.
//!
//! Knows: the swarm's words for them. Must not know: what is pending_inbound over them.

use std::sync::Arc;

use libp2p_core::{ConnectedPoint, Multiaddr};
use libp2p_identity::PeerId;
use libp2p_swarm::behaviour::{AddressChange, ConnectionClosed, ConnectionEstablished, DialFailure};
use libp2p_swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p_swarm::{ConnectionId, ToSwarm};

use super::{Behaviour, notify};
use crate::core::{AddressPolicy, Contact, DialCause, Input, Mode};
use crate::net::dialer;
use crate::net::handler::Handler;
use crate::net::messages::ToHandler;

impl Behaviour {
    pub(super) fn on_established(&mut self, event: ConnectionEstablished<'_>) {
        let ConnectionEstablished { peer_id: peer, connection_id, endpoint, failed_addresses, .. } = event;
        if !self.is_of_network(endpoint.get_remote_address()) {
            self.foreign.on_established(peer, connection_id);
            return self.dialer.on_other_connection(peer);
        }
        self.on_counted(peer, connection_id, endpoint);
        if !failed_addresses.is_empty() {
            // The swarm does not tell why, where another address worked.
            let addrs = failed_addresses.iter().map(|addr| (addr.clone(), DialCause::Unknown)).collect();
            self.input(Input::DialFailed { peer, addrs });
        }
    }

    /// A connection that counts is there.
    fn on_counted(&mut self, peer: PeerId, connection: ConnectionId, endpoint: &ConnectedPoint) {
        let first = !self.dialer.is_connected(&peer);
        self.dialer.on_established(peer, connection);
        let outbound_addr = dialled_addr(endpoint).cloned();
        let inbound_addr = endpoint.is_listener().then(|| endpoint.get_remote_address().clone());
        if first || outbound_addr.is_some() {
            self.input(Input::Connected { peer, outbound_addr, inbound_addr });
        }
        if let Some(said) = self.foreign.take_said(&peer) {
            self.input(Input::Discovered(said));
        }
    }

    pub(super) fn on_dial_failure(&mut self, event: DialFailure<'_>) {
        let addrs = dialer::failed_addrs(event.error);
        if let Some(peer) = event.peer_id.filter(|_| !addrs.is_empty()) {
            self.input(Input::DialFailed { peer, addrs });
        }
        self.dialer.on_dial_failure(event.peer_id, event.connection_id, event.error);
    }

    /// Finds out whether a peer that is connected can be reached where it dialled from. A dial from the port that listens
    /// would be the very connection that is there.
    pub(super) fn dial_back(&mut self, peer: PeerId, addr: Multiaddr) {
        let opts = DialOpts::peer_id(peer).condition(PeerCondition::NotDialing).addresses(vec![addr]);
        self.effects.push_back(ToSwarm::Dial { opts: opts.allocate_new_port().build() });
    }

    pub(super) fn on_closed(&mut self, event: ConnectionClosed<'_>) {
        let ConnectionClosed { peer_id: peer, connection_id, .. } = event;
        if !self.foreign.on_closed(peer, connection_id) {
            self.on_uncounted(peer, connection_id);
        }
    }

    /// A connection that counted is gone.
    fn on_uncounted(&mut self, peer: PeerId, connection: ConnectionId) {
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

    /// The other end of a connection moved: perhaps out of this network, or into it.
    pub(super) fn on_address_change(&mut self, event: AddressChange<'_>) {
        let AddressChange { peer_id: peer, connection_id: connection, new, .. } = event;
        let counts = self.is_of_network(new.get_remote_address());
        match (self.foreign.has(peer, connection), counts) {
            (false, false) => self.on_moved_away(peer, connection),
            (true, true) => self.on_moved_here(peer, connection, new),
            _ => {
                if let (true, Some(addr)) = (counts, dialled_addr(new)) {
                    self.input(Input::Connected { peer, outbound_addr: Some(addr.clone()), inbound_addr: None });
                }
            }
        }
    }

    fn on_moved_away(&mut self, peer: PeerId, connection: ConnectionId) {
        let serves = self.dialer.serves_on(peer, connection);
        self.on_uncounted(peer, connection);
        self.foreign.on_established(peer, connection);
        if let Some(yes) = serves {
            self.foreign.on_serves(peer, connection, yes);
        }
        self.effects.push_back(notify(peer, connection, ToHandler::SetMode(Mode::Client)));
    }

    fn on_moved_here(&mut self, peer: PeerId, connection: ConnectionId, endpoint: &ConnectedPoint) {
        let serves = self.foreign.serves_on(peer, connection);
        self.on_counted(peer, connection, endpoint);
        self.foreign.on_closed(peer, connection);
        if let Some(yes) = serves {
            self.on_serves(peer, connection, yes);
        }
        self.effects.push_back(notify(peer, connection, ToHandler::SetMode(self.mode.current())));
    }

    /// What a peer says on one connection of whether it serves. It may take one for a connection from afar, which it sees
    /// from another side, and not serve there; it serves if it does on any that counts.
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
        if peer == self.local || !self.policy.admits(addr.as_ref()) {
            return;
        }
        let contact = Contact::new(peer, [addr]);
        // Who is somewhere else is not of this network, whatever address it has there; unless it turns up here too.
        if !self.dialer.is_connected(&peer) && self.foreign.on_discovered(&contact) {
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
