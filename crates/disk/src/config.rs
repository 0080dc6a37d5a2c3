//! The bounds of a store on a disk, and their defaults with the source.
//!
//! Knows: numbers. Must not know: how records are stored.

use libp2p_kad_dht::core::store::eviction::Size;

#[cfg(any(test, feature = "testing"))]
use super::faults::DiskFaults;
use super::tables::{Counts, TableKind};

/// The bounds of a [`DiskStore`](super::DiskStore): how many records of other peers it keeps, and how many resources it
/// uses.
///
/// Own records count towards no bound, except for the length of a value. [`DiskStore`](super::DiskStore) describes what
/// happens at each bound. With a bound of zero, nothing of that kind is kept. A store that was filled under larger
/// bounds shrinks in the background, by the same rule as a full one, and still accepts newer versions of the records
/// that it keeps.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DiskStoreConfig {
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
    /// Maximum bytes of the addresses of one remote record, plus two bytes for each address. Further addresses are
    /// dropped; the record is kept. Default:
    /// [`DEFAULT_MAX_ADDR_BYTES_PER_RECORD`](Self::DEFAULT_MAX_ADDR_BYTES_PER_RECORD).
    pub max_addr_bytes_per_record: usize,
    /// Maximum bytes of all remote provider records: their keys, ids and addresses, plus two bytes for each address.
    /// Default: [`DEFAULT_MAX_PROVIDER_BYTES`](Self::DEFAULT_MAX_PROVIDER_BYTES).
    pub max_provider_bytes: usize,
    /// Maximum number of remembered sequence numbers of removed and expired values. The first to end are evicted first.
    /// Default: [`DEFAULT_MAX_SEQUENCES`](Self::DEFAULT_MAX_SEQUENCES).
    pub max_sequences: usize,
    /// Memory in bytes for recently read records. Default: [`DEFAULT_CACHE_BYTES`](Self::DEFAULT_CACHE_BYTES).
    pub cache_bytes: usize,
    /// Memory in bytes for the database's own pages. Default:
    /// [`DEFAULT_DATABASE_CACHE_BYTES`](Self::DEFAULT_DATABASE_CACHE_BYTES).
    pub database_cache_bytes: usize,
    /// Maximum number of remote writes that wait for the disk; one more is refused with [`StoreError::Busy`]. This
    /// node's own writes have a separate bound of the same size. Default:
    /// [`DEFAULT_MAX_PENDING_WRITES`](Self::DEFAULT_MAX_PENDING_WRITES).
    ///
    /// [`StoreError::Busy`]: libp2p_kad_dht::core::StoreError::Busy
    pub max_pending_writes: usize,
    /// Maximum bytes of the remote writes that wait. Default:
    /// [`DEFAULT_MAX_PENDING_BYTES`](Self::DEFAULT_MAX_PENDING_BYTES).
    pub max_pending_bytes: usize,
    /// Maximum number of reads that wait for the disk; one more fails. Default:
    /// [`DEFAULT_MAX_PENDING_READS`](Self::DEFAULT_MAX_PENDING_READS).
    pub max_pending_reads: usize,
    /// Number of threads that read, at least one. Default: [`DEFAULT_READERS`](Self::DEFAULT_READERS).
    pub readers: usize,
    /// Replaces the random seed of a new database.
    pub(super) seed: Option<[u8; 32]>,
    /// Faults of the disk that a test injects.
    #[cfg(any(test, feature = "testing"))]
    pub(super) faults: DiskFaults,
}

impl DiskStoreConfig {
    /// Default for [`DiskStoreConfig::max_values`]. Source: four times the memory store's bound; a disk has the space.
    pub const DEFAULT_MAX_VALUES: usize = 131_072;
    /// Default for [`DiskStoreConfig::max_value_len`]: 64 KiB. Source: as the memory store.
    pub const DEFAULT_MAX_VALUE_LEN: usize = 64 * 1024;
    /// Default for [`DiskStoreConfig::max_value_bytes`]: 128 MiB. Source: 1 KiB for each of
    /// [`DEFAULT_MAX_VALUES`](Self::DEFAULT_MAX_VALUES).
    pub const DEFAULT_MAX_VALUE_BYTES: usize = 128 * 1024 * 1024;
    /// Default for [`DiskStoreConfig::max_providers_per_key`]. Source: k, the number of peers that an answer should
    /// name.
    pub const DEFAULT_MAX_PROVIDERS_PER_KEY: usize = 20;
    /// Default for [`DiskStoreConfig::max_providers`]. Source: the measured workload, rounded up.
    pub const DEFAULT_MAX_PROVIDERS: usize = 1_048_576;
    /// Default for [`DiskStoreConfig::max_addr_bytes_per_record`]: 2 KiB. Source: 25 addresses of 40 bytes, the most
    /// that real peers announce, take 1,050 bytes; twice that allows for longer ones.
    pub const DEFAULT_MAX_ADDR_BYTES_PER_RECORD: usize = 2 * 1024;
    /// Default for [`DiskStoreConfig::max_provider_bytes`]: 256 MiB. Source: 256 bytes for each of
    /// [`DEFAULT_MAX_PROVIDERS`](Self::DEFAULT_MAX_PROVIDERS): a key, an id and four addresses of 40 bytes.
    pub const DEFAULT_MAX_PROVIDER_BYTES: usize = 256 * 1024 * 1024;
    /// Default for [`DiskStoreConfig::max_sequences`]. Source: half the number of values.
    pub const DEFAULT_MAX_SEQUENCES: usize = 65_536;
    /// Default for [`DiskStoreConfig::cache_bytes`]: 16 MiB. Source: the answers for some 2,000 keys with all their
    /// providers.
    pub const DEFAULT_CACHE_BYTES: usize = 16 * 1024 * 1024;
    /// Default for [`DiskStoreConfig::database_cache_bytes`]: 32 MiB. Source: with it, a process that keeps a million
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
    /// Default for [`DiskStoreConfig::readers`]. Source: one read that waits for the disk must not delay all others.
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
    /// Whether the counts stay within the bounds after `more` is added and `less` is removed.
    pub(super) fn has_room(&self, counts: &Counts, kind: TableKind, more: Size, less: Size) -> bool {
        let (records, bytes) = match kind {
            TableKind::Value => (self.max_values, self.max_value_bytes),
            TableKind::Provided => (self.max_providers, self.max_provider_bytes),
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
        !holds(TableKind::Value) || !holds(TableKind::Provided)
    }

    /// Sets the seed by which a new store chooses the records to evict; an existing store keeps its seed.
    ///
    /// For repeatable tests. By default the seed is random and secret, and outside tests it has to be: with the seed
    /// known, peer ids and keys can be constructed whose records are never evicted.
    #[must_use]
    pub fn with_seed(mut self, seed: [u8; 32]) -> DiskStoreConfig {
        self.seed = Some(seed);
        self
    }

    /// Makes the disk slow or full when the test says so.
    #[cfg(any(test, feature = "testing"))]
    #[must_use]
    pub fn with_faults(mut self, faults: &DiskFaults) -> DiskStoreConfig {
        self.faults = faults.clone();
        self
    }
}
