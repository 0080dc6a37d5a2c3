//! The bounds of a store on a disk, and their defaults with the source.
//!
//! Knows: numbers. Must not know: how records are kept.

use libp2p_kad_dht::core::store::eviction::Size;

#[cfg(any(test, feature = "testing"))]
use super::faults::DiskFaults;
use super::tables::{Counts, Kind};

/// How much a [`DiskStore`](super::DiskStore) keeps for remote peers, and what it needs for it.
///
/// Own records count in no quota; what happens at each bound is said at [`DiskStore`](super::DiskStore). A bound of
/// zero keeps nothing of its kind. A store that was filled under larger bounds shrinks in the background, by the same
/// rule as a full one, and goes on to take newer versions of what it keeps.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DiskStoreConfig {
    /// Remote values. Default: [`DEFAULT_MAX_VALUES`](Self::DEFAULT_MAX_VALUES).
    pub max_values: usize,
    /// The length of one value in bytes; holds for own values too. Default:
    /// [`DEFAULT_MAX_VALUE_LEN`](Self::DEFAULT_MAX_VALUE_LEN).
    pub max_value_len: usize,
    /// The bytes of all remote values with their keys. Default:
    /// [`DEFAULT_MAX_VALUE_BYTES`](Self::DEFAULT_MAX_VALUE_BYTES).
    pub max_value_bytes: usize,
    /// Remote providers of one key. Default: [`DEFAULT_MAX_PROVIDERS_PER_KEY`](Self::DEFAULT_MAX_PROVIDERS_PER_KEY).
    pub max_providers_per_key: usize,
    /// Remote provider records in all. Default: [`DEFAULT_MAX_PROVIDERS`](Self::DEFAULT_MAX_PROVIDERS).
    pub max_providers: usize,
    /// Bytes that the addresses of one remote record take, two for each address beside its own. Further addresses are
    /// dropped; the record is kept. Default:
    /// [`DEFAULT_MAX_ADDR_BYTES_PER_RECORD`](Self::DEFAULT_MAX_ADDR_BYTES_PER_RECORD).
    pub max_addr_bytes_per_record: usize,
    /// The bytes of all remote provider records: their keys, ids and addresses, and two for each address. Default:
    /// [`DEFAULT_MAX_PROVIDER_BYTES`](Self::DEFAULT_MAX_PROVIDER_BYTES).
    pub max_provider_bytes: usize,
    /// Remembered sequence numbers of removed and expired values. Those that end first are evicted first. Default:
    /// [`DEFAULT_MAX_SEQUENCES`](Self::DEFAULT_MAX_SEQUENCES).
    pub max_sequences: usize,
    /// Bytes of memory for records that were read lately. Default: [`DEFAULT_CACHE_BYTES`](Self::DEFAULT_CACHE_BYTES).
    pub cache_bytes: usize,
    /// Bytes of memory for the database's own pages. Default:
    /// [`DEFAULT_DATABASE_CACHE_BYTES`](Self::DEFAULT_DATABASE_CACHE_BYTES).
    pub database_cache_bytes: usize,
    /// Remote writes that wait for the disk; one more is refused with [`StoreError::Busy`]. This node's own writes have a bound
    /// of the same size. Default: [`DEFAULT_MAX_PENDING_WRITES`](Self::DEFAULT_MAX_PENDING_WRITES).
    ///
    /// [`StoreError::Busy`]: libp2p_kad_dht::core::StoreError::Busy
    pub max_pending_writes: usize,
    /// The bytes of remote writes that wait. Default: [`DEFAULT_MAX_PENDING_BYTES`](Self::DEFAULT_MAX_PENDING_BYTES).
    pub max_pending_bytes: usize,
    /// Reads that wait for the disk; one more fails. Default:
    /// [`DEFAULT_MAX_PENDING_READS`](Self::DEFAULT_MAX_PENDING_READS).
    pub max_pending_reads: usize,
    /// Threads that read, at least one. Default: [`DEFAULT_READERS`](Self::DEFAULT_READERS).
    pub readers: usize,
    /// Replaces the seed that is drawn when the database is made.
    pub(super) seed: Option<[u8; 32]>,
    /// Faults of the disk that a test asks for.
    #[cfg(any(test, feature = "testing"))]
    pub(super) faults: DiskFaults,
}

impl DiskStoreConfig {
    /// Default for [`DiskStoreConfig::max_values`]. Source: four times what the memory store takes; a disk has the
    /// room.
    pub const DEFAULT_MAX_VALUES: usize = 131_072;
    /// Default for [`DiskStoreConfig::max_value_len`]: 64 KiB. Source: as the memory store.
    pub const DEFAULT_MAX_VALUE_LEN: usize = 64 * 1024;
    /// Default for [`DiskStoreConfig::max_value_bytes`]: 128 MiB. Source: 1 KiB for each of
    /// [`DEFAULT_MAX_VALUES`](Self::DEFAULT_MAX_VALUES).
    pub const DEFAULT_MAX_VALUE_BYTES: usize = 128 * 1024 * 1024;
    /// Default for [`DiskStoreConfig::max_providers_per_key`]. Source: k, the number of peers that an answer is meant
    /// to name.
    pub const DEFAULT_MAX_PROVIDERS_PER_KEY: usize = 20;
    /// Default for [`DiskStoreConfig::max_providers`]. Source: the measured workload, rounded up.
    pub const DEFAULT_MAX_PROVIDERS: usize = 1_048_576;
    /// Default for [`DiskStoreConfig::max_addr_bytes_per_record`]: 2 KiB. Source: 25 addresses, the most that real
    /// peers announce, of 40 bytes each count 1,050 bytes; twice that for longer ones.
    pub const DEFAULT_MAX_ADDR_BYTES_PER_RECORD: usize = 2 * 1024;
    /// Default for [`DiskStoreConfig::max_provider_bytes`]: 256 MiB. Source: 256 bytes for each of
    /// [`DEFAULT_MAX_PROVIDERS`](Self::DEFAULT_MAX_PROVIDERS): a key, an id and four addresses of 40 bytes.
    pub const DEFAULT_MAX_PROVIDER_BYTES: usize = 256 * 1024 * 1024;
    /// Default for [`DiskStoreConfig::max_sequences`]. Source: as the memory store.
    pub const DEFAULT_MAX_SEQUENCES: usize = 65_536;
    /// Default for [`DiskStoreConfig::cache_bytes`]: 16 MiB. Source: the answers of some 2,000 well-provided keys.
    pub const DEFAULT_CACHE_BYTES: usize = 16 * 1024 * 1024;
    /// Default for [`DiskStoreConfig::database_cache_bytes`]: 32 MiB. Source: with it a process that keeps a million
    /// provider records was measured well below 200 MB.
    pub const DEFAULT_DATABASE_CACHE_BYTES: usize = 32 * 1024 * 1024;
    /// Default for [`DiskStoreConfig::max_pending_writes`]. Source: half a second of the measured rate of grouped
    /// writes.
    pub const DEFAULT_MAX_PENDING_WRITES: usize = 4_096;
    /// Default for [`DiskStoreConfig::max_pending_bytes`]: 8 MiB. Source: 2 KiB for each of
    /// [`DEFAULT_MAX_PENDING_WRITES`](Self::DEFAULT_MAX_PENDING_WRITES).
    pub const DEFAULT_MAX_PENDING_BYTES: usize = 8 * 1024 * 1024;
    /// Default for [`DiskStoreConfig::max_pending_reads`]. Source: as
    /// [`DEFAULT_MAX_PENDING_WRITES`](Self::DEFAULT_MAX_PENDING_WRITES).
    pub const DEFAULT_MAX_PENDING_READS: usize = 4_096;
    /// Default for [`DiskStoreConfig::readers`]. Source: one read that waits for the disk must not hold up all others.
    pub const DEFAULT_READERS: usize = 2;
}

impl Default for DiskStoreConfig {
    fn default() -> DiskStoreConfig {
        DiskStoreConfig {
            max_values: Self::DEFAULT_MAX_VALUES,
            max_value_len: Self::DEFAULT_MAX_VALUE_LEN,
            max_value_bytes: Self::DEFAULT_MAX_VALUE_BYTES,
            max_providers_per_key: Self::DEFAULT_MAX_PROVIDERS_PER_KEY,
            max_providers: Self::DEFAULT_MAX_PROVIDERS,
            max_addr_bytes_per_record: Self::DEFAULT_MAX_ADDR_BYTES_PER_RECORD,
            max_provider_bytes: Self::DEFAULT_MAX_PROVIDER_BYTES,
            max_sequences: Self::DEFAULT_MAX_SEQUENCES,
            cache_bytes: Self::DEFAULT_CACHE_BYTES,
            database_cache_bytes: Self::DEFAULT_DATABASE_CACHE_BYTES,
            max_pending_writes: Self::DEFAULT_MAX_PENDING_WRITES,
            max_pending_bytes: Self::DEFAULT_MAX_PENDING_BYTES,
            max_pending_reads: Self::DEFAULT_MAX_PENDING_READS,
            readers: Self::DEFAULT_READERS,
            seed: None,
            #[cfg(any(test, feature = "testing"))]
            faults: DiskFaults::default(),
        }
    }
}

impl DiskStoreConfig {
    /// Whether the bounds hold for these counts after this much is added and this much removed.
    pub(super) fn has_room(&self, counts: &Counts, kind: Kind, more: Size, less: Size) -> bool {
        let (records, bytes) = match kind {
            Kind::Value => (self.max_values, self.max_value_bytes),
            Kind::Provided => (self.max_providers, self.max_provider_bytes),
        };
        let fits = |kept: u64, more: u64, less: u64, most: usize| {
            kept.saturating_add(more).saturating_sub(less) <= u64::try_from(most).unwrap_or(u64::MAX)
        };
        let total = counts.total(kind);
        fits(total.records, more.records, less.records, records) && fits(total.bytes, more.bytes, less.bytes, bytes)
    }

    /// Whether these counts exceed the bounds.
    pub(super) fn is_exceeded(&self, counts: &Counts) -> bool {
        let holds = |kind| self.has_room(counts, kind, Size::default(), Size::default());
        !holds(Kind::Value) || !holds(Kind::Provided)
    }

    /// Seed of a new store for its choice of records to evict; an existing one keeps the seed that it was made with.
    ///
    /// For tests that have to be repeatable. Without it the seed is random and secret, as it has to be: with the seed, peer ids
    /// and keys can be made that are always kept.
    #[must_use]
    pub fn with_seed(mut self, seed: [u8; 32]) -> DiskStoreConfig {
        self.seed = Some(seed);
        self
    }

    /// A disk that is slow or full when the test says so.
    #[cfg(any(test, feature = "testing"))]
    #[must_use]
    pub fn with_faults(mut self, faults: &DiskFaults) -> DiskStoreConfig {
        self.faults = faults.clone();
        self
    }
}
