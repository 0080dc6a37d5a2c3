//! Answers, without asking anyone, which peers are near a key and which keys this node is near to.
//!
//! Knows: the routing table. Must not know: queries, or what the application does with it.

use super::*;
use crate::core::io::PeerRecord;
use crate::core::key::Distance;

impl Dht {
    /// The peers of the routing table closest to a key, nearest first, at most `count`: without this node, and without
    /// peers that failed lately. Asks nobody; [`Operation::ClosestPeers`] finds those that the table does not hold.
    ///
    /// ```
    /// # use libp2p_kad_dht::{Key, core::Dht};
    /// # fn example(dht: &Dht) {
    /// for peer in dht.nearest(&Key::hash(b"/my-app/greeting"), 3) {
    ///     println!("{} at {:?}", peer.id, peer.addrs);
    /// }
    /// # }
    /// ```
    pub fn nearest(&self, key: &Key, count: usize) -> Vec<PeerRecord> {
        let nearest = self.peers.table.closest(key, count, |_, _| true);
        nearest.iter().map(|peer| PeerRecord::from(&*self.peers.filtered(peer))).collect()
    }

    /// Whether the routing table holds a peer.
    pub fn knows_a_peer(&self) -> bool {
        self.peers.table.len() > 0
    }

    /// Whether this node is among the k nodes closest to a key, as far as it knows: whether it should hold the key's
    /// records. True while fewer than k peers are known.
    pub fn is_near(&self, key: &Key) -> bool {
        self.peers.is_near(key, self.k())
    }

    /// The distance from its own key within which this node is among the k nodes closest to every key, as far as it
    /// knows. [`Distance::MAX`] while fewer than k peers are known. Farther away [`Dht::is_near`] decides key by key.
    pub fn responsibility(&self) -> Distance {
        let local = self.peers.local.key();
        let neighbours = self.peers.table.closest(local, self.k(), |_, _| true);
        match neighbours.last() {
            // Of the peers that share more bits with this node than the kth neighbour does there are fewer than k, and
            // all others are farther than this node from a key that shares more bits.
            Some(farthest) if neighbours.len() == self.k() => {
                Distance::ZERO.at_most(farthest.key().common_prefix_len(local) + 1)
            }
            _ => Distance::MAX,
        }
    }
}
