//! The default store: ordered maps in memory, bounded, and always done at once.
//!
//! Knows: its bounds and who gives way when they are reached. Must not know: this node, the network, or why something
//! is kept. It copies what remote peers send, since bytes that came in a message keep all of that message alive.

mod config;
mod peers;
mod providers;
mod sequences;
#[cfg(test)]
mod tests;
mod values;

use std::fmt;

pub use config::{
    DEFAULT_MAX_ADDR_BYTES, DEFAULT_MAX_ADDR_BYTES_PER_PEER, DEFAULT_MAX_PEERS, DEFAULT_MAX_PROVIDED_KEYS,
    DEFAULT_MAX_PROVIDERS, DEFAULT_MAX_PROVIDERS_PER_KEY, DEFAULT_MAX_VALUE_BYTES, DEFAULT_MAX_VALUE_LEN,
    DEFAULT_MAX_VALUES, MemoryStoreConfig,
};
use libp2p_identity::PeerId;

use self::providers::Providers;
use self::values::Values;
use super::{Item, Read, Scan, Store, StoreError, Usage, Write};
use crate::core::config::{MAX_KEY_LEN, MAX_PROVIDER_KEY_LEN};
use crate::core::key::Key;
use crate::core::record::{ProviderRecord, Record, RecordKey};
use crate::core::time::Timestamp;

/// Keeps everything in memory, within the bounds of a [`MemoryStoreConfig`]; nothing outlives the process.
///
/// Every answer is [`Read::Ready`] or [`Write::Kept`]; nothing is ever `Pending` and nothing is ever `Failed`.
/// A default store that remote peers flood holds at most 120 MiB for them, see [`MemoryStoreConfig::memory_bound`].
///
/// What gives way when a bound is reached:
///
/// * Expired records, first of all and wherever they are.
/// * A key that has as many remote providers as it may: a sample of all that announce themselves is kept, drawn by a
///   hash under the store's secret seed. So every provider has the same chance, late or early and however often it
///   announces itself, and no peer can choose an id that wins. Who is not in the sample is refused with
///   [`StoreError::Full`]; since each node draws with another seed, it is in the samples of others.
/// * Nothing else: a value, a key or a peer too many is refused with [`StoreError::Full`].
///
/// Own records neither count nor give way. A value's length is bounded for them too.
pub struct MemoryStore {
    config: MemoryStoreConfig,
    values: Values,
    providers: Providers,
}

impl MemoryStore {
    /// An empty store.
    ///
    /// `seed` decides which providers are kept where there are too many. Make it from randomness and keep it to
    /// yourself: who knows it can make peer ids that are always kept.
    pub fn new(config: MemoryStoreConfig, seed: [u8; 32]) -> MemoryStore {
        MemoryStore { config, values: Values::default(), providers: Providers::new(seed) }
    }

    /// The bounds of this store.
    pub fn config(&self) -> &MemoryStoreConfig {
        &self.config
    }
}

impl fmt::Debug for MemoryStore {
    /// What is kept, in numbers; never the seed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").field("usage", &self.usage()).finish_non_exhaustive()
    }
}

impl Store for MemoryStore {
    fn get(&mut self, now: Timestamp, key: &RecordKey) -> Result<Read<Option<Record>>, StoreError> {
        Ok(Read::Ready(self.values.get(now, &key.key()).cloned()))
    }

    fn put(&mut self, now: Timestamp, record: Record) -> Result<Write, StoreError> {
        if record.key.as_bytes().len() > MAX_KEY_LEN || record.value.len() > self.config.max_value_len {
            return Err(StoreError::TooLarge);
        }
        self.values.put(now, record, &self.config)?;
        Ok(Write::Kept)
    }

    fn remove(&mut self, key: &RecordKey) -> Result<Write, StoreError> {
        self.values.remove(&key.key());
        Ok(Write::Kept)
    }

    fn providers(&mut self, now: Timestamp, key: &RecordKey) -> Result<Read<Vec<ProviderRecord>>, StoreError> {
        Ok(Read::Ready(self.providers.get(now, &key.key())))
    }

    fn add_provider(&mut self, now: Timestamp, record: ProviderRecord) -> Result<Write, StoreError> {
        if record.key.as_bytes().len() > MAX_PROVIDER_KEY_LEN {
            return Err(StoreError::TooLarge);
        }
        self.providers.add(now, record, &self.config)?;
        Ok(Write::Kept)
    }

    fn remove_provider(&mut self, key: &RecordKey, provider: &PeerId) -> Result<Write, StoreError> {
        self.providers.remove(&key.key(), provider);
        Ok(Write::Kept)
    }

    fn scan(&mut self, what: Scan, after: Option<&Key>, limit: usize) -> Result<Read<Vec<Item>>, StoreError> {
        let mut items = Vec::new();
        let mut values = self.values.after(after).peekable();
        let mut provided = self.providers.after(after).peekable();
        while items.len() < limit {
            let places = [values.peek().map(|(place, _)| **place), provided.peek().map(|(place, _)| **place)];
            let Some(place) = places.into_iter().flatten().min() else { break };
            let value = values.next_if(|(at, _)| **at == place).map(|(_, record)| Item::Value(record.clone()));
            let provided = provided.next_if(|(at, _)| **at == place).map(|(_, records)| records.map(Item::Provider));
            items.extend(value.into_iter().chain(provided.into_iter().flatten()).filter(|item| what.wants(item)));
        }
        Ok(Read::Ready(items))
    }

    fn sequence(&mut self, now: Timestamp, key: &RecordKey) -> Result<Read<Option<u64>>, StoreError> {
        Ok(Read::Ready(self.values.sequence(now, &key.key())))
    }

    fn expire(&mut self, now: Timestamp, limit: usize) -> Result<usize, StoreError> {
        let values = self.values.expire(now, limit);
        Ok(values + self.providers.expire(now, limit - values))
    }

    fn next_expiry(&self) -> Option<Timestamp> {
        [self.values.next_expiry(), self.providers.next_expiry()].into_iter().flatten().min()
    }

    fn usage(&self) -> Usage {
        Usage {
            values: self.values.remote(),
            providers: self.providers.remote(),
            own: self.values.own() + self.providers.own(),
        }
    }
}
