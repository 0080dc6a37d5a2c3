//! The bounds of a memory store, their defaults with the source, and what they sum up to.
//!
//! Knows: numbers, and how many bytes a record costs beside its own. Must not know: how records are kept.

/// Default for [`MemoryStoreConfig::max_values`]. Source: 32 times what libp2p-kad's memory store takes (1,024), which
/// one peer fills within a second.
pub const DEFAULT_MAX_VALUES: usize = 32_768;
/// Default for [`MemoryStoreConfig::max_value_len`]: 64 KiB. Source: libp2p-kad's memory store; the largest value of
/// the public network is an IPNS record of at most 10 KiB.
pub const DEFAULT_MAX_VALUE_LEN: usize = 64 * 1024;
/// Default for [`MemoryStoreConfig::max_value_bytes`]: 32 MiB. Source: 1 KiB for each of [`DEFAULT_MAX_VALUES`], twice
/// the length of a usual IPNS record with its key.
pub const DEFAULT_MAX_VALUE_BYTES: usize = 32 * 1024 * 1024;
/// Default for [`MemoryStoreConfig::max_provided_keys`]. Source: as [`DEFAULT_MAX_VALUES`].
pub const DEFAULT_MAX_PROVIDED_KEYS: usize = 32_768;
/// Default for [`MemoryStoreConfig::max_providers_per_key`]. Source: k, the number of peers that an answer is meant to
/// name; libp2p-kad's memory store has the same.
pub const DEFAULT_MAX_PROVIDERS_PER_KEY: usize = 20;
/// Default for [`MemoryStoreConfig::max_providers`]. Source: four for each of [`DEFAULT_MAX_PROVIDED_KEYS`]; most
/// content has one or two providers.
pub const DEFAULT_MAX_PROVIDERS: usize = 131_072;
/// Default for [`MemoryStoreConfig::max_peers`]. Source: one for each of [`DEFAULT_MAX_PROVIDED_KEYS`], the case of a
/// network in which each peer provides one thing.
pub const DEFAULT_MAX_PEERS: usize = 32_768;
/// Default for [`MemoryStoreConfig::max_addr_bytes_per_peer`]: 4 KiB. Source: 25 addresses, the most that real peers
/// announce, of 40 bytes each count 3,200 bytes.
pub const DEFAULT_MAX_ADDR_BYTES_PER_PEER: usize = 4 * 1024;
/// Default for [`MemoryStoreConfig::max_addr_bytes`]: 16 MiB. Source: four addresses of 40 bytes for each of
/// [`DEFAULT_MAX_PEERS`].
pub const DEFAULT_MAX_ADDR_BYTES: usize = 16 * 1024 * 1024;

/// Bytes that one value costs beside its key and itself: three entries of ordered maps that are half empty, and
/// the counters of two shared buffers. A test compares it with the sizes of the types.
pub(super) const VALUE_OVERHEAD: usize = 896;
/// Bytes that one key with providers costs, its own included.
pub(super) const KEY_OVERHEAD: usize = 544;
/// Bytes that one provider record costs at most: an entry of a list that grows by doubling while it is short.
pub(super) const PROVIDER_OVERHEAD: usize = 64;
/// Bytes that one peer costs beside its addresses.
pub(super) const PEER_OVERHEAD: usize = 832;
/// Bytes that one address costs beside its own, which are there twice: as they are, and in the encoded form that a
/// contact keeps once it was sent.
pub(super) const ADDR_OVERHEAD: usize = 48;

/// So many sequence numbers of values that are over are remembered. Source: twice as many as values.
pub(super) const MAX_SEQUENCES: usize = 65_536;
/// Bytes that one of them costs: two entries of ordered maps.
pub(super) const SEQUENCE_OVERHEAD: usize = 256;

/// How much a [`MemoryStore`](super::MemoryStore) keeps for remote peers. Own records count nowhere.
///
/// Each bound holds at every moment; what happens at each is said at [`MemoryStore`](super::MemoryStore). A bound of
/// zero keeps nothing of its kind.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct MemoryStoreConfig {
    /// Remote values. Default: [`DEFAULT_MAX_VALUES`].
    pub max_values: usize,
    /// The length of one value in bytes; holds for own values too. Default: [`DEFAULT_MAX_VALUE_LEN`].
    pub max_value_len: usize,
    /// The bytes of all remote values with their keys. Default: [`DEFAULT_MAX_VALUE_BYTES`].
    pub max_value_bytes: usize,
    /// Keys that have remote providers. Default: [`DEFAULT_MAX_PROVIDED_KEYS`].
    pub max_provided_keys: usize,
    /// Remote providers of one key. Default: [`DEFAULT_MAX_PROVIDERS_PER_KEY`].
    pub max_providers_per_key: usize,
    /// Remote provider records in all. Default: [`DEFAULT_MAX_PROVIDERS`].
    pub max_providers: usize,
    /// Peers that provide something. Default: [`DEFAULT_MAX_PEERS`].
    pub max_peers: usize,
    /// Bytes that the addresses of one peer may cost: twice their length and 48 bytes for each. Further addresses are
    /// dropped; the record is kept. Default: [`DEFAULT_MAX_ADDR_BYTES_PER_PEER`].
    pub max_addr_bytes_per_peer: usize,
    /// The same of all peers together. Where it is reached nobody keeps many addresses while another has few; a provider
    /// that has none is kept all the same. Default: [`DEFAULT_MAX_ADDR_BYTES`].
    pub max_addr_bytes: usize,
}

impl Default for MemoryStoreConfig {
    fn default() -> MemoryStoreConfig {
        MemoryStoreConfig {
            max_values: DEFAULT_MAX_VALUES,
            max_value_len: DEFAULT_MAX_VALUE_LEN,
            max_value_bytes: DEFAULT_MAX_VALUE_BYTES,
            max_provided_keys: DEFAULT_MAX_PROVIDED_KEYS,
            max_providers_per_key: DEFAULT_MAX_PROVIDERS_PER_KEY,
            max_providers: DEFAULT_MAX_PROVIDERS,
            max_peers: DEFAULT_MAX_PEERS,
            max_addr_bytes_per_peer: DEFAULT_MAX_ADDR_BYTES_PER_PEER,
            max_addr_bytes: DEFAULT_MAX_ADDR_BYTES,
        }
    }
}

impl MemoryStoreConfig {
    /// The most bytes that remote peers can make such a store hold: 143 MiB for the defaults.
    ///
    /// Counted from the sizes of the types and half-empty ordered maps, without the allocator's own overhead.
    pub fn memory_bound(&self) -> usize {
        let parts = [
            (self.max_values, VALUE_OVERHEAD),
            (self.max_value_bytes, 1),
            (self.max_provided_keys, KEY_OVERHEAD),
            (self.max_providers, PROVIDER_OVERHEAD),
            (self.max_peers, PEER_OVERHEAD),
            (self.max_addr_bytes, 1),
            (MAX_SEQUENCES, SEQUENCE_OVERHEAD),
        ];
        parts.into_iter().fold(0, |sum: usize, (count, size)| sum.saturating_add(count.saturating_mul(size)))
    }
}
