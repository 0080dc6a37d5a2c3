//! Addresses at which someone else answered than the peer that was said to be there.
//!
//! Knows: what dials met. Must not know: requests or connections. Bounded: the longest known is forgotten first.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use libp2p_core::Multiaddr;
use libp2p_identity::PeerId;

use crate::core::Contact;

/// So many peers are remembered, with as many addresses of each as a contact holds. Source: as many as the core remembers
/// addresses of.
const LIMIT: usize = 4_096;

/// The addresses that are wrong for a peer.
#[derive(Debug, Default)]
pub(super) struct Disproved {
    peers: BTreeMap<PeerId, Arc<Contact>>,
    /// The longest known first.
    order: VecDeque<PeerId>,
}

impl Disproved {
    /// Someone else answered at this address of the peer.
    pub(super) fn on_stranger(&mut self, peer: PeerId, addr: &Multiaddr) {
        let wrong = Contact::new(peer, [addr.clone()]);
        if let Some(known) = self.peers.get_mut(&peer) {
            *known = known.merged(&wrong);
            return;
        }
        if self.peers.len() >= LIMIT
            && let Some(oldest) = self.order.pop_front()
        {
            self.peers.remove(&oldest);
        }
        self.order.push_back(peer);
        self.peers.insert(peer, wrong);
    }

    /// The peer without the addresses that are wrong; `None` if it had some and none is left.
    pub(super) fn without(&self, contact: &Arc<Contact>) -> Option<Arc<Contact>> {
        let Some(wrong) = self.peers.get(contact.peer()) else { return Some(Arc::clone(contact)) };
        let good = contact.raw_addrs().iter().filter(|addr| !wrong.raw_addrs().contains(addr));
        let rest = contact.with_addrs(good.cloned());
        (rest.has_addrs() || !contact.has_addrs()).then_some(rest)
    }

    /// Whether any address of the peer is known to be wrong.
    pub(super) fn knows(&self, peer: &PeerId) -> bool {
        self.peers.contains_key(peer)
    }

    /// The application names the peer: it may know better.
    pub(super) fn on_named(&mut self, peer: &PeerId) {
        if self.peers.remove(peer).is_some() {
            self.order.retain(|known| known != peer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(port: u16) -> Multiaddr {
        format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap()
    }

    #[test]
    fn leaves_the_addresses_that_may_be_right() {
        let peer = PeerId::random();
        let mut disproved = Disproved::default();
        let contact = Contact::new(peer, [addr(1), addr(2)]);
        assert_eq!(disproved.without(&contact), Some(Arc::clone(&contact)));
        disproved.on_stranger(peer, &addr(1).with_p2p(peer).unwrap());
        assert_eq!(disproved.without(&contact), Some(Contact::new(peer, [addr(2)])));
        disproved.on_stranger(peer, &addr(2));
        assert_eq!(disproved.without(&contact), None);
        let unknown = Contact::new(peer, []);
        assert_eq!(disproved.without(&unknown), Some(unknown), "others may know an address");
        disproved.on_named(&peer);
        assert_eq!(disproved.without(&contact), Some(contact));
        assert!(disproved.peers.is_empty() && disproved.order.is_empty());
    }

    #[test]
    fn is_bounded() {
        let mut disproved = Disproved::default();
        let peers: Vec<_> = (0..LIMIT + 1000).map(|_| PeerId::random()).collect();
        for (peer, port) in peers.iter().zip((1..1000).cycle()) {
            disproved.on_stranger(*peer, &addr(port));
            disproved.on_stranger(*peer, &addr(port + 1));
        }
        assert_eq!((disproved.peers.len(), disproved.order.len()), (LIMIT, LIMIT));
        assert!(disproved.peers.contains_key(&peers[LIMIT]));
        for port in 1..1000 {
            disproved.on_stranger(peers[LIMIT], &addr(port));
        }
        assert_eq!(disproved.peers[&peers[LIMIT]].raw_addrs().len(), crate::core::MAX_ADDRS);
    }
}
