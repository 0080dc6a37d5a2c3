//! Hashes under the store's secret seed: places in an index, ranks for eviction, numbers of accounts.
//!
//! Knows: bytes. Must not know: records. Without the seed no peer can fill one bucket of an index, or make a key or an
//! id that is never evicted.

use std::hash::{DefaultHasher, Hasher as _};

use libp2p_identity::PeerId;

use crate::core::store::Sender;
use crate::core::store::eviction::{Account, Cost};
use crate::core::time::Timestamp;

/// A hasher that has read the seed.
pub(super) struct Seed(DefaultHasher);

impl Seed {
    pub(super) fn new(seed: [u8; 32]) -> Seed {
        let mut hasher = DefaultHasher::new();
        hasher.write(&seed);
        Seed(hasher)
    }

    pub(super) fn of_key(&self, key: &[u8]) -> u64 {
        self.hash(0, key)
    }

    pub(super) fn of_peer(&self, peer: &PeerId) -> u64 {
        self.hash(1, peer.as_ref().digest())
    }

    /// The account of a sender; without one, that of this node.
    pub(super) fn account(&self, sender: Option<&Sender>) -> Account {
        let Some(sender) = sender else { return Account::of_peer(self.hash(3, &[]), None, Account::PUBLISHED) };
        let group = sender.group.map(|group| self.hash(2, &group.to_ne_bytes()));
        let kind = if sender.holder { Account::REPLICATED } else { Account::PUBLISHED };
        Account::of_peer(self.of_peer(&sender.peer), group, kind)
    }

    fn hash(&self, kind: u8, bytes: &[u8]) -> u64 {
        let mut hasher = self.0.clone();
        hasher.write_u8(kind);
        hasher.write(bytes);
        hasher.finish()
    }
}

/// The time since which a record is kept, with its tier, in four bytes.
#[derive(Clone, Copy)]
pub(super) struct Since(u32);

impl Since {
    const SETTLED: u32 = 1 << 31;
    const NEAR: u32 = 1 << 30;
    /// Times are kept to four seconds, which lasts until the year 2106.
    const SECS: u64 = 4;

    pub(super) fn of(cost: &Cost) -> Since {
        let secs = u32::try_from(cost.since.as_secs() / Since::SECS).unwrap_or(u32::MAX) & (Since::NEAR - 1);
        let flag = |set, bit| if set { bit } else { 0 };
        Since(secs | flag(cost.settled, Since::SETTLED) | flag(cost.near, Since::NEAR))
    }

    /// The cost of a record that only this account sent.
    pub(super) fn cost(self, account: Account, bytes: u32) -> Cost {
        let since = Timestamp::from_secs(u64::from(self.0 & (Since::NEAR - 1)) * Since::SECS);
        let mut cost = Cost::new(account, bytes, since, self.0 & Since::NEAR != 0);
        cost.settled = self.0 & Since::SETTLED != 0;
        cost
    }
}
