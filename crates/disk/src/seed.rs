//! Hashes under the store's secret seed: the eviction rank of each record, and the account that it counts for.
//!
//! Knows: bytes. Must not know: records. The hashes are stored in the file, so they are the same in every version.
//! Without the seed, no peer can construct a key or an id that is never evicted.

use libp2p_kad_dht::core::store::Sender;
use libp2p_kad_dht::core::store::eviction::Account;
use sha2::{Digest as _, Sha256};

use super::tables::Place;

pub(super) struct Seed([u8; 32]);

impl Seed {
    pub(super) fn new(seed: [u8; 32]) -> Seed {
        Seed(seed)
    }

    /// The rank of a value.
    pub(super) fn of_value(&self, place: &Place) -> u64 {
        self.hash(b'v', place, &[])
    }

    /// The rank of a provider of a key, by the bytes of its id.
    pub(super) fn of_provider(&self, place: &Place, peer: &[u8]) -> u64 {
        self.hash(b'r', place, peer)
    }

    /// The account of a record's sender; this node's own account without a sender.
    pub(super) fn account(&self, sender: Option<&Sender>) -> Account {
        let Some(sender) = sender else { return Account::of_peer(self.hash(b'n', &[], &[]), None, Account::PUBLISHED) };
        let group = sender.group.map(|group| self.hash(b'g', &group.to_be_bytes(), &[]));
        let kind = if sender.holder { Account::REPLICATED } else { Account::PUBLISHED };
        Account::of_peer(self.hash(b'p', &sender.peer.to_bytes(), &[]), group, kind)
    }

    fn hash(&self, kind: u8, what: &[u8], more: &[u8]) -> u64 {
        let hash =
            Sha256::new().chain_update(self.0).chain_update([kind]).chain_update(what).chain_update(more).finalize();
        hash.iter().take(8).fold(0, |word, byte| (word << 8) | u64::from(*byte))
    }
}
