//! Lots: who stays where not all can, drawn under a secret seed.
//!
//! Knows: hashes and distances. Must not know: what is kept. A lot does not change from one announcement to the next,
//! nobody can foresee it without the seed, and the lower one stays.

use sha2::{Digest, Sha256};

use crate::core::key::Key;

pub(crate) struct Lots {
    seed: [u8; 32],
    near: Option<Key>,
}

impl Lots {
    pub(crate) fn new(seed: [u8; 32]) -> Lots {
        Lots { seed, near: None }
    }

    pub(crate) fn set_near(&mut self, place: Key) {
        self.near = Some(place);
    }

    /// Of a provider, by the bytes of its id, among those of one key.
    pub(crate) fn of_record(&self, place: &Key, peer: &[u8]) -> u32 {
        leading(&self.draw(b'r', &place.to_bytes(), peer)) as u32
    }

    /// Of a peer among all.
    pub(crate) fn of_peer(&self, peer: &[u8]) -> u32 {
        leading(&self.draw(b'p', peer, &[])) as u32
    }

    /// Of a key with providers among all.
    pub(crate) fn of_key(&self, place: &Key) -> u32 {
        leading(&self.draw(b'k', &place.to_bytes(), &[])) as u32
    }

    /// Of a value among all: times its distance where a place is set, and times the shares of room that it takes. So
    /// its chance is in proportion to its nearness and to its smallness.
    pub(crate) fn of_value(&self, place: &Key, shares: usize) -> u64 {
        let lot = leading(&self.draw(b'v', &place.to_bytes(), &[])) >> 16;
        let lot = match self.near.map(|near| leading(&near.to_bytes()) ^ leading(&place.to_bytes())) {
            Some(distance) => ((u128::from(lot) * u128::from(distance)) >> 64) as u64,
            None => lot,
        };
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
