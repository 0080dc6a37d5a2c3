//! Connections of the swarm that are none of this node's network.
//!
//! Knows: who is at their other ends, and what addresses they say to have here. Must not know: why they do not count.

use std::collections::BTreeMap;
use std::sync::Arc;

use libp2p_identity::PeerId;
use libp2p_swarm::ConnectionId;

use crate::core::Contact;

/// As many as the swarm has connections at most, and one contact for each peer.
#[derive(Debug, Default)]
pub(crate) struct ForeignConnections {
    peers: BTreeMap<PeerId, ForeignPeer>,
}

#[derive(Debug, Default)]
struct ForeignPeer {
    /// With what the peer says there of whether it serves.
    connections: BTreeMap<ConnectionId, Option<bool>>,
    said: Option<Arc<Contact>>,
}

impl ForeignConnections {
    pub(crate) fn on_established(&mut self, peer: PeerId, connection: ConnectionId) {
        self.peers.entry(peer).or_default().connections.insert(connection, None);
    }

    /// Whether it was one of these.
    pub(crate) fn on_closed(&mut self, peer: PeerId, connection: ConnectionId) -> bool {
        let Some(known) = self.peers.get_mut(&peer) else { return false };
        let removed = known.connections.remove(&connection).is_some();
        if known.connections.is_empty() {
            self.peers.remove(&peer);
        }
        removed
    }

    pub(crate) fn has(&self, peer: PeerId, connection: ConnectionId) -> bool {
        self.peers.get(&peer).is_some_and(|known| known.connections.contains_key(&connection))
    }

    /// Keeps what the peer says on a connection for when that counts; whether it is one of these.
    pub(crate) fn on_serves(&mut self, peer: PeerId, connection: ConnectionId, yes: bool) -> bool {
        let known = self.peers.get_mut(&peer).and_then(|known| known.connections.get_mut(&connection));
        known.map(|serves| *serves = Some(yes)).is_some()
    }

    /// What the peer said on this connection.
    pub(crate) fn serves_on(&self, peer: PeerId, connection: ConnectionId) -> Option<bool> {
        self.peers.get(&peer).and_then(|known| known.connections.get(&connection).copied().flatten())
    }

    /// Keeps addresses of a peer that is connected here for when it turns out to be of this network; whether it is.
    pub(crate) fn on_discovered(&mut self, contact: &Arc<Contact>) -> bool {
        let Some(known) = self.peers.get_mut(contact.peer()) else { return false };
        known.said = Some(match &known.said {
            Some(said) => said.merged(contact),
            None => Arc::clone(contact),
        });
        true
    }

    /// The peer is of this network after all: what was kept of it.
    pub(crate) fn take_said(&mut self, peer: &PeerId) -> Option<Arc<Contact>> {
        self.peers.get_mut(peer)?.said.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_peer_has_its_own() {
        let (one, two) = (PeerId::random(), PeerId::random());
        let [a, b] = [7, 8].map(ConnectionId::new_unchecked);
        let contact = |peer, port: u16| Contact::new(peer, [format!("/ip4/10.0.0.1/tcp/{port}").parse().unwrap()]);
        let mut foreign = ForeignConnections::default();
        assert!(!foreign.on_discovered(&contact(one, 1)), "nothing is kept of who is not there");
        foreign.on_established(one, a);
        foreign.on_established(one, b);
        assert!(foreign.has(one, a) && !foreign.has(two, a));
        assert!(foreign.on_discovered(&contact(one, 1)) && foreign.on_discovered(&contact(one, 2)));
        assert!(!foreign.on_discovered(&contact(two, 1)));
        assert_eq!(foreign.take_said(&one).unwrap().addrs().count(), 2);
        assert_eq!(foreign.take_said(&one), None);
        assert!(foreign.on_closed(one, a) && !foreign.on_closed(one, a) && !foreign.on_closed(two, b));
        foreign.on_discovered(&contact(one, 3));
        assert!(foreign.on_closed(one, b));
        assert_eq!(foreign.peers.len(), 0, "and all of it is forgotten with the last connection");
    }

    #[test]
    fn what_a_peer_says_is_bounded() {
        let (peer, mut foreign) = (PeerId::random(), ForeignConnections::default());
        foreign.on_established(peer, ConnectionId::new_unchecked(1));
        for port in 0..1_000 {
            foreign.on_discovered(&Contact::new(peer, [format!("/ip4/10.0.0.1/tcp/{port}").parse().unwrap()]));
        }
        assert!(foreign.take_said(&peer).unwrap().addrs().count() <= crate::core::MAX_ADDRS);
    }
}
