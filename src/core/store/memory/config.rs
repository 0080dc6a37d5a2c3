//! The bounds of a memory store, their defaults with the source, and the memory that they allow in all.
//!
//! Knows: numbers, and how many bytes a record costs in addition to its content. Must not know: how records are stored.
//!
//! Each store has a configuration of its own. *Dropped:* one type for the memory store and the disk store: only two of
//! their defaults are equal, addresses cost other bytes, and each has fields that the other cannot have.

/// Bytes that one value costs beside its key and itself: its place in a slab that grows by a quarter, in an index that grows by doubling, among
/// the rows that are not in order yet, and in three orders that are half empty. A test compares it with the sizes of
/// the types.
pub(super) const VALUE_OVERHEAD: usize = 568;
/// Bytes that one provider record costs beside its addresses, its key and its peer.
pub(super) const PROVIDER_OVERHEAD: usize = 120;
/// Bytes that one key with providers costs.
pub(super) const KEY_OVERHEAD: usize = 376;
/// Bytes that one provider costs, however many keys it provides.
pub(super) const PEER_OVERHEAD: usize = 584;
/// Bytes that one address costs beside its own, which are there twice: as they are, and in the encoded form that a
/// contact keeps once it was sent.
pub(super) const ADDR_OVERHEAD: usize = 48;

/// Maximum number of remembered sequence numbers of expired values. Source: half the number of values, most of which
/// are stored again before they expire.
pub(super) const MAX_SEQUENCES: usize = 16_384;
/// Bytes that one of them costs: two entries of ordered maps.
pub(super) const SEQUENCE_OVERHEAD: usize = 136;

/// The bounds of a [`MemoryStore`](super::MemoryStore) on the records of other peers. Own records count towards no
/// bound, except for the length of a value.
///
/// [`MemoryStore`](super::MemoryStore) describes what happens at each bound. With a bound of zero, nothing of that kind
/// is kept.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct MemoryStoreConfig {
    /// Maximum number of remote values. Default: [`DEFAULT_MAX_VALUES`](Self::DEFAULT_MAX_VALUES).
    pub max_values: usize,
    /// Maximum length of one value in bytes, own values included. Default:
    /// [`DEFAULT_MAX_VALUE_LEN`](Self::DEFAULT_MAX_VALUE_LEN).
    pub max_value_len: usize,
    /// Maximum bytes of all records of other peers, values and provider records together. A value counts for its key,
    /// itself and 568 bytes; a provider record for its addresses and 120 bytes, and once for each key 376, and for each
    /// provider 584. Each of the two kinds may take what the other one leaves, and always half. Default:
    /// [`DEFAULT_MAX_BYTES`](Self::DEFAULT_MAX_BYTES).
    pub max_bytes: usize,
    /// Maximum number of remote providers of one key. Default:
    /// [`DEFAULT_MAX_PROVIDERS_PER_KEY`](Self::DEFAULT_MAX_PROVIDERS_PER_KEY).
    pub max_providers_per_key: usize,
    /// Maximum number of remote provider records in all. Default:
    /// [`DEFAULT_MAX_PROVIDERS`](Self::DEFAULT_MAX_PROVIDERS).
    pub max_providers: usize,
    /// Maximum cost of the addresses of one peer in bytes: twice their length, plus 48 bytes for each. Further
    /// addresses are dropped; the record is kept. Default:
    /// [`DEFAULT_MAX_ADDR_BYTES_PER_PEER`](Self::DEFAULT_MAX_ADDR_BYTES_PER_PEER).
    pub max_addr_bytes_per_peer: usize,
}

impl MemoryStoreConfig {
    /// Default for [`MemoryStoreConfig::max_values`]. Source: 32 times the bound of libp2p-kad's memory store (1,024),
    /// which one peer can fill within a second.
    pub const DEFAULT_MAX_VALUES: usize = 32_768;
    /// Default for [`MemoryStoreConfig::max_value_len`]: 64 KiB. Source: libp2p-kad's memory store; the largest value
    /// of the public network is an IPNS record of at most 10 KiB.
    pub const DEFAULT_MAX_VALUE_LEN: usize = 64 * 1024;
    /// Default for [`MemoryStoreConfig::max_bytes`]: 22,400 KiB. Source: with the sequence numbers of expired values
    /// 24 MiB, three eighths of what strangers may cost a node in all.
    pub const DEFAULT_MAX_BYTES: usize = 22_400 * 1024;
    /// Default for [`MemoryStoreConfig::max_providers_per_key`]. Source: k, the number of peers that an answer should
    /// name; libp2p-kad's memory store has the same.
    pub const DEFAULT_MAX_PROVIDERS_PER_KEY: usize = 20;
    /// Default for [`MemoryStoreConfig::max_providers`]. Source: four for each of
    /// [`DEFAULT_MAX_VALUES`](Self::DEFAULT_MAX_VALUES).
    pub const DEFAULT_MAX_PROVIDERS: usize = 131_072;
    /// Default for [`MemoryStoreConfig::max_addr_bytes_per_peer`]: 4 KiB. Source: 25 addresses of 40 bytes, the most
    /// that real peers announce, cost 3,200 bytes.
    pub const DEFAULT_MAX_ADDR_BYTES_PER_PEER: usize = 4 * 1024;
}

impl Default for MemoryStoreConfig {
    fn default() -> MemoryStoreConfig {
        MemoryStoreConfig {
            max_values: Self::DEFAULT_MAX_VALUES,
            max_value_len: Self::DEFAULT_MAX_VALUE_LEN,
            max_bytes: Self::DEFAULT_MAX_BYTES,
            max_providers_per_key: Self::DEFAULT_MAX_PROVIDERS_PER_KEY,
            max_providers: Self::DEFAULT_MAX_PROVIDERS,
            max_addr_bytes_per_peer: Self::DEFAULT_MAX_ADDR_BYTES_PER_PEER,
        }
    }
}

impl MemoryStoreConfig {
    /// The most bytes that remote peers can make such a store hold: 24 MiB for the defaults.
    ///
    /// Counted from the sizes of the types and half-empty ordered maps, without the allocator's own overhead.
    pub fn memory_bound(&self) -> usize {
        self.max_bytes.saturating_add(MAX_SEQUENCES * SEQUENCE_OVERHEAD)
    }

    /// The bytes that values, and provider records, may take whatever the other kind takes.
    pub(super) fn share_of_each(&self) -> u64 {
        self.max_bytes as u64 / 2
    }
}
