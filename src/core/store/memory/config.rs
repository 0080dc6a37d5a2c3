//! The bounds of a memory store, their defaults with the source, and the memory that they allow in all.
//!
//! Knows: numbers, and how many bytes a record costs in addition to its content. Must not know: how records are stored.
//!
//! Each store has a configuration of its own. *Dropped:* one type for the memory store and the disk store: only two of
//! their defaults are equal, addresses cost other bytes, and each has fields that the other cannot have.

/// Bytes that one value costs beside its key and itself: its place in a slab that grows by doubling, in an index, among
/// the rows that are not in order yet, and in three orders that are half empty. A test compares it with the sizes of
/// the types.
pub(super) const VALUE_OVERHEAD: usize = 640;
/// Bytes that one provider record costs where it is the only one of its key and of its peer: all three.
pub(super) const PROVIDER_OVERHEAD: usize = 1_280;
/// Bytes that one address costs beside its own, which are there twice: as they are, and in the encoded form that a
/// contact keeps once it was sent.
pub(super) const ADDR_OVERHEAD: usize = 48;

/// Maximum number of remembered sequence numbers of expired values. Source: twice the number of values.
pub(super) const MAX_SEQUENCES: usize = 65_536;
/// Bytes that one of them costs: two entries of ordered maps.
pub(super) const SEQUENCE_OVERHEAD: usize = 144;

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
    /// Maximum bytes of all remote values including their keys. Default:
    /// [`DEFAULT_MAX_VALUE_BYTES`](Self::DEFAULT_MAX_VALUE_BYTES).
    pub max_value_bytes: usize,
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
    /// Maximum cost of the addresses of all provider records, each with the addresses that it came with; those of one
    /// peer are stored once. Default: [`DEFAULT_MAX_ADDR_BYTES`](Self::DEFAULT_MAX_ADDR_BYTES).
    pub max_addr_bytes: usize,
}

impl MemoryStoreConfig {
    /// Default for [`MemoryStoreConfig::max_values`]. Source: 32 times the bound of libp2p-kad's memory store (1,024),
    /// which one peer can fill within a second.
    pub const DEFAULT_MAX_VALUES: usize = 32_768;
    /// Default for [`MemoryStoreConfig::max_value_len`]: 64 KiB. Source: libp2p-kad's memory store; the largest value
    /// of the public network is an IPNS record of at most 10 KiB.
    pub const DEFAULT_MAX_VALUE_LEN: usize = 64 * 1024;
    /// Default for [`MemoryStoreConfig::max_value_bytes`]: 32 MiB. Source: 1 KiB for each of
    /// [`DEFAULT_MAX_VALUES`](Self::DEFAULT_MAX_VALUES), twice the length of a usual IPNS record with its key.
    pub const DEFAULT_MAX_VALUE_BYTES: usize = 32 * 1024 * 1024;
    /// Default for [`MemoryStoreConfig::max_providers_per_key`]. Source: k, the number of peers that an answer should
    /// name; libp2p-kad's memory store has the same.
    pub const DEFAULT_MAX_PROVIDERS_PER_KEY: usize = 20;
    /// Default for [`MemoryStoreConfig::max_providers`]. Source: four for each of
    /// [`DEFAULT_MAX_VALUES`](Self::DEFAULT_MAX_VALUES).
    pub const DEFAULT_MAX_PROVIDERS: usize = 131_072;
    /// Default for [`MemoryStoreConfig::max_addr_bytes_per_peer`]: 4 KiB. Source: 25 addresses of 40 bytes, the most
    /// that real peers announce, cost 3,200 bytes.
    pub const DEFAULT_MAX_ADDR_BYTES_PER_PEER: usize = 4 * 1024;
    /// Default for [`MemoryStoreConfig::max_addr_bytes`]: 32 MiB. Source: two addresses of 40 bytes for each of
    /// [`DEFAULT_MAX_PROVIDERS`](Self::DEFAULT_MAX_PROVIDERS).
    pub const DEFAULT_MAX_ADDR_BYTES: usize = 32 * 1024 * 1024;
}

impl Default for MemoryStoreConfig {
    fn default() -> MemoryStoreConfig {
        MemoryStoreConfig {
            max_values: Self::DEFAULT_MAX_VALUES,
            max_value_len: Self::DEFAULT_MAX_VALUE_LEN,
            max_value_bytes: Self::DEFAULT_MAX_VALUE_BYTES,
            max_providers_per_key: Self::DEFAULT_MAX_PROVIDERS_PER_KEY,
            max_providers: Self::DEFAULT_MAX_PROVIDERS,
            max_addr_bytes_per_peer: Self::DEFAULT_MAX_ADDR_BYTES_PER_PEER,
            max_addr_bytes: Self::DEFAULT_MAX_ADDR_BYTES,
        }
    }
}

impl MemoryStoreConfig {
    /// The most bytes that remote peers can make such a store hold: 253 MiB for the defaults.
    ///
    /// Counted from the sizes of the types and half-empty ordered maps, without the allocator's own overhead.
    pub fn memory_bound(&self) -> usize {
        let parts = [
            (self.max_values, VALUE_OVERHEAD),
            (self.max_value_bytes, 1),
            (self.max_providers, PROVIDER_OVERHEAD),
            (self.max_addr_bytes, 1),
            (MAX_SEQUENCES, SEQUENCE_OVERHEAD),
        ];
        parts.into_iter().fold(0, |sum: usize, (count, size)| sum.saturating_add(count.saturating_mul(size)))
    }
}
