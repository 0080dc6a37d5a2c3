//! Keys, values and peers drawn from a seed, the same for all implementations.

use libp2p::{Multiaddr, PeerId};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use crate::node::peer;

pub(crate) struct Random(ChaCha8Rng);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(ChaCha8Rng::seed_from_u64(seed))
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.0.fill_bytes(&mut bytes);
        bytes
    }

    /// A SHA-256 multihash, like the name of content.
    pub(crate) fn key(&mut self) -> Vec<u8> {
        [&[0x12, 0x20][..], &self.bytes(32)].concat()
    }

    pub(crate) fn keys(&mut self, count: usize) -> Vec<Vec<u8>> {
        (0..count).map(|_| self.key()).collect()
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.0.next_u64() % end as u64) as usize
    }

    pub(crate) fn shuffle<T>(&mut self, list: &mut [T]) {
        for last in (1..list.len()).rev() {
            list.swap(last, self.below(last + 1));
        }
    }

    /// Peers with addresses that no transport here can dial.
    pub(crate) fn peers(&mut self, count: u64, addrs: usize) -> Vec<(PeerId, Vec<Multiaddr>)> {
        let addr = |random: &mut Random| {
            let [a, b, c, d] = std::array::from_fn(|_| random.below(256));
            let text = format!("/ip4/{a}.{b}.{c}.{d}/udp/{}/quic-v1", 1024 + random.below(60_000));
            text.parse().expect("an address")
        };
        (0..count).map(|n| (peer(77, n), (0..addrs).map(|_| addr(self)).collect())).collect()
    }
}
