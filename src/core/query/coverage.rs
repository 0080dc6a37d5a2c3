//! Which regions of the keyspace are known completely, and the peers in them.
//!
//! Knows: the results of lookups. Must not know: their purpose.
//!
//! A peer that answers a lookup names the k closest to the target, dead or not. So all peers as near to the target as
//! the farthest of these are known: a ball. The k closest to another key are known as soon as the balls of some lookups
//! cover all keys as near to it as the k-th closest known peer. *A ball that reached to the k-th living peer would
//! claim too much: no answer names the living peers beyond the k-th named one.*

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::core::contact::Contact;
use crate::core::key::{Distance, Key};

/// Depth of the search for gaps, in bits beyond the prefix that a key shares with its k-th closest peer. Source: a cell
/// of this size holds a sixteenth of k peers.
const GRAIN: u32 = 4;

/// The joint result of several lookups.
#[derive(Clone, Debug, Default)]
pub(crate) struct Coverage {
    /// The peers that are not known to be dead.
    peers: BTreeMap<Key, Arc<Contact>>,
    dead: BTreeSet<Key>,
    balls: Vec<(Key, Distance)>,
}

/// A region of the keyspace that is not known completely: all keys that share this many leading bits with `key`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) key: Key,
    pub(crate) bits: u32,
}

impl Coverage {
    /// A lookup for `target` knows all peers within `reach` of it; its answers named these.
    pub(crate) fn add(&mut self, target: &Key, reach: Distance, named: &[Arc<Contact>]) {
        self.balls.push((*target, reach));
        let fresh = named.iter().filter(|peer| !self.dead.contains(peer.key()));
        self.peers.extend(fresh.map(|peer| (*peer.key(), Arc::clone(peer))));
    }

    /// Notes that a peer is dead, however often it is named.
    pub(crate) fn mark_dead(&mut self, peer: &Key) {
        self.peers.remove(peer);
        self.dead.insert(*peer);
    }

    pub(crate) fn is_dead(&self, peer: &Key) -> bool {
        self.dead.contains(peer)
    }

    /// The `count` closest known peers to `key`, nearest first.
    pub(crate) fn nearest(&self, key: &Key, count: usize) -> Vec<Arc<Contact>> {
        let mut all: Vec<_> = self.peers.values().collect();
        let distance = |peer: &&Arc<Contact>| peer.key().distance(key);
        if all.len() > count && count > 0 {
            all.select_nth_unstable_by_key(count - 1, distance);
            all.truncate(count);
        }
        all.sort_unstable_by_key(distance);
        all.into_iter().cloned().collect()
    }

    /// A region in which there may be unknown peers that belong to the `count` closest to `key`; `None` if those are
    /// known.
    pub(crate) fn gap(&self, key: &Key, count: usize) -> Option<Cell> {
        if self.is_whole() {
            return None;
        }
        let nearest = self.nearest(key, count);
        let farthest = if nearest.len() >= count { nearest.last() } else { None };
        let Some(farthest) = farthest else {
            return Some(Cell { key: *key, bits: Key::BITS });
        };
        let radius = farthest.key().distance(key);
        if self.balls.iter().any(|(target, reach)| target == key && *reach >= radius) {
            return None;
        }
        let bits = farthest.key().common_prefix_len(key);
        self.gap_within(Cell { key: *key, bits }, (key, radius), bits + GRAIN)
    }

    /// The same for more peers than one lookup finds: the nearest region that is not known completely. Its size follows
    /// from the smallest ball.
    pub(crate) fn next_gap(&self, key: &Key, count: usize) -> Option<Cell> {
        if self.is_whole() {
            return None;
        }
        let nearest = self.nearest(key, count);
        let farthest = if nearest.len() >= count { nearest.last() } else { None };
        let radius = farthest.map_or(Distance::MAX, |farthest| farthest.key().distance(key));
        let smallest = self.balls.iter().map(|(_, radius)| radius.leading_zeros()).max()?;
        self.gap_within(Cell { key: *key, bits: 0 }, (key, radius), smallest + GRAIN)
    }

    /// Whether the whole network is known.
    fn is_whole(&self) -> bool {
        self.balls.iter().any(|(_, radius)| *radius == Distance::MAX)
    }

    /// A part of `cell` that lies in no ball and overlaps the wanted ball.
    fn gap_within(&self, cell: Cell, wanted: (&Key, Distance), depth: u32) -> Option<Cell> {
        let nearest = |target: &Key| target.distance(&cell.key).at_least(cell.bits);
        let farthest = |target: &Key| target.distance(&cell.key).at_most(cell.bits);
        let (key, radius) = wanted;
        if nearest(key) > radius || self.balls.iter().any(|(target, radius)| farthest(target) <= *radius) {
            return None;
        }
        let untouched = self.balls.iter().all(|(target, radius)| nearest(target) > *radius);
        if untouched || cell.bits >= depth.min(Key::BITS) {
            return Some(cell);
        }
        let (near, bits) = (cell.key, cell.bits + 1);
        let here = self.gap_within(Cell { key: near, bits }, wanted, depth);
        here.or_else(|| self.gap_within(Cell { key: near.flipped(cell.bits), bits }, wanted, depth))
    }
}

#[cfg(test)]
mod tests {
    use libp2p_identity::PeerId;
    use rand_chacha::ChaCha8Rng;
    use rand_core::SeedableRng;

    use super::*;

    const K: usize = 20;

    fn closest(all: &[Arc<Contact>], key: &Key, count: usize) -> Vec<Arc<Contact>> {
        let mut all = all.to_vec();
        all.sort_by_key(|peer| peer.key().distance(key));
        all.truncate(count);
        all
    }

    /// Lookups into the gaps find the true k closest of every key, and take far fewer lookups than keys.
    #[test]
    fn known_closest_peers_are_the_true_ones_and_take_few_lookups() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for nodes in [5, 30, 300, 3_000] {
            let all: Vec<_> =
                (0..nodes).map(|_| Contact::with_key(PeerId::random(), Key::random(&mut rng), [])).collect();
            let region = Key::random(&mut rng);
            let prefix = (nodes as f64 / 30.0).log2().max(0.0) as u32;
            let (mut coverage, mut lookups) = (Coverage::default(), 0);
            for i in 0..100 {
                let key = region.random_with_prefix(prefix + i % 8, &mut rng);
                let mut tries = 0;
                while let Some(gap) = coverage.gap(&key, K) {
                    let target = Key::random(&mut rng);
                    let target = (0..gap.bits.min(Key::BITS)).fold(target, |target, bit| {
                        let differs = target.distance(&gap.key).at_least(bit + 1).at_most(bit + 1);
                        if differs.leading_zeros() == bit { target.flipped(bit) } else { target }
                    });
                    let found = closest(&all, &target, K);
                    let last = found.last().map_or(Distance::ZERO, |last| last.key().distance(&target));
                    coverage.add(&target, if nodes < K { Distance::MAX } else { last }, &found);
                    lookups += 1;
                    tries += 1;
                    assert!(tries < 20, "{gap:?} stays");
                }
                let (found, truth) = (coverage.nearest(&key, K), closest(&all, &key, K));
                assert!(found.iter().zip(&truth).all(|(a, b)| a.peer() == b.peer()) && found.len() == truth.len());
            }
            assert!(lookups <= 12, "{lookups} lookups for 100 keys among {nodes} nodes");
        }
    }
}
