//! Connections of the swarm that are outside this node's network.
//!
//! Knows: their peers, and what these report about themselves. Must not know: why a connection is foreign.

use std::collections::BTreeMap;
use std::sync::Arc;

use libp2p_identity::PeerId;
use libp2p_swarm::ConnectionId;

use crate::core::Contact;

/// At most as many as the swarm has connections, and one contact for each peer.
#[derive(Debug, Default)]
pub(crate) struct ForeignConnections {
    peers: BTreeMap<PeerId, ForeignPeer>,
}

#[derive(Debug, Default)]
struct ForeignPeer {
    /// Each with whether the peer serves on it, if it said so.
    connections: BTreeMap<ConnectionId, Option<bool>>,
    /// The addresses that were discovered of the peer.
    discovered: Option<Arc<Contact>>,
}

impl ForeignConnections {
    pub(crate) fn on_established(&mut self, peer: PeerId, connection: ConnectionId, serves: Option<bool>) {
        self.peers.entry(peer).or_default().connections.insert(connection, serves);
    }

    /// Returns whether it was a foreign connection, and if so whether the peer serves on it.
    pub(crate) fn on_closed(&mut self, peer: PeerId, connection: ConnectionId) -> Option<Option<bool>> {
        let known = self.peers.get_mut(&peer)?;
        let removed = known.connections.remove(&connection);
        if known.connections.is_empty() {
            self.peers.remove(&peer);
        }
        removed
    }

    pub(crate) fn has(&self, peer: PeerId, connection: ConnectionId) -> bool {
        self.peers.get(&peer).is_some_and(|known| known.connections.contains_key(&connection))
    }

    /// Notes whether the peer serves on a connection. Returns whether it is a foreign one.
    pub(crate) fn on_serves(&mut self, peer: PeerId, connection: ConnectionId, yes: bool) -> bool {
        let serves = self.peers.get_mut(&peer).and_then(|known| known.connections.get_mut(&connection));
        serves.map(|serves| *serves = Some(yes)).is_some()
    }

    /// Notes addresses of a peer with a foreign connection, in case it joins this network. Returns whether it has one.
    pub(crate) fn on_discovered(&mut self, contact: &Arc<Contact>) -> bool {
        let Some(known) = self.peers.get_mut(contact.peer()) else { return false };
        known.discovered = Some(match &known.discovered {
            Some(discovered) => discovered.merged(contact),
            None => Arc::clone(contact),
        });
        true
    }

    /// The addresses that were noted, for a peer that joined this network.
    pub(crate) fn take_discovered(&mut self, peer: &PeerId) -> Option<Arc<Contact>> {
        self.peers.get_mut(peer)?.discovered.take()
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
        assert!(!foreign.on_discovered(&contact(one, 1)), "only peers with a foreign connection are known");
        foreign.on_established(one, a, None);
        foreign.on_established(one, b, Some(true));
        assert!(foreign.has(one, a) && !foreign.has(two, a));
        assert!(foreign.on_discovered(&contact(one, 1)) && foreign.on_discovered(&contact(one, 2)));
        assert!(!foreign.on_discovered(&contact(two, 1)));
        assert_eq!(foreign.take_discovered(&one).unwrap().addrs().count(), 2);
        assert_eq!(foreign.take_discovered(&one), None);
        assert_eq!(
            [foreign.on_closed(one, a), foreign.on_closed(one, a), foreign.on_closed(two, b)],
            [Some(None), None, None]
        );
        foreign.on_discovered(&contact(one, 3));
        assert_eq!(foreign.on_closed(one, b), Some(Some(true)));
        assert_eq!(foreign.peers.len(), 0, "a peer is forgotten with its last connection");
    }

    #[test]
    fn what_a_peer_says_is_bounded() {
        let (peer, mut foreign) = (PeerId::random(), ForeignConnections::default());
        foreign.on_established(peer, ConnectionId::new_unchecked(1), None);
        for port in 0..1_000 {
            foreign.on_discovered(&Contact::new(peer, [format!("/ip4/10.0.0.1/tcp/{port}").parse().unwrap()]));
        }
        assert!(foreign.take_discovered(&peer).unwrap().addrs().count() <= crate::core::MAX_ADDRS);
    }
}
