//! Lots: who stays where not all can, drawn under a secret seed.
//!
//! Knows: hashes and distances. Must not know: what is kept. A lot does not change from one announcement to the next,
//! nobody can foresee it without the seed, and the lower one stays.

use sha2::{Digest, Sha256};

use libp2p_kad_dht::core::Key;

pub(super) struct Lots {
    seed: [u8; 32],
}

impl Lots {
    pub(super) fn new(seed: [u8; 32]) -> Lots {
        Lots { seed }
    }

    /// Of a provider, by the bytes of its id, among those of one key.
    pub(super) fn of_record(&self, place: &Key, peer: &[u8]) -> u32 {
        leading(&self.draw(b'r', &place.to_bytes(), peer)) as u32
    }

    /// Of a peer among all, in so many bytes that it stands for the peer: no two have the same one.
    pub(super) fn tag_of_peer(&self, peer: &[u8]) -> [u8; 16] {
        let mut tag = [0; 16];
        tag.copy_from_slice(&self.draw(b'p', peer, &[])[..16]);
        tag
    }

    /// Of a key with providers among all.
    pub(super) fn of_key(&self, place: &Key) -> u32 {
        leading(&self.draw(b'k', &place.to_bytes(), &[])) as u32
    }

    /// Of a value among all: times the shares of room that it takes. So its chance is in proportion to its smallness.
    pub(super) fn of_value(&self, place: &Key, shares: usize) -> u64 {
        let lot = leading(&self.draw(b'v', &place.to_bytes(), &[])) >> 16;
        lot.saturating_mul(shares as u64)
    }

    fn draw(&self, kind: u8, what: &[u8], more: &[u8]) -> [u8; 32] {
        let hash = Sha256::new().chain_update(self.seed).chain_update([kind]).chain_update(what).chain_update(more);
        hash.finalize().into()
    }
}

fn leading(bytes: &[u8; 32]) -> u64 {
    bytes.iter().take(8).fold(0, |word, byte| (word << 8) | u64::from(*byte))
}
