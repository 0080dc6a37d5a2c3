//! The default store: ordered maps in memory, bounded, and always done at once.
//!
//! Knows: its bounds and who gives way when they are reached. Must not know: this node, the network, or why something
//! is kept. It copies what remote peers send, since bytes that came in a message keep all of that message alive.

mod config;
mod own;
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

use self::own::OwnProviders;
use self::providers::Providers;
use self::values::Values;
use super::lots::Lots;
use super::{Done, Found, Item, Op, Put, Scan, Store, StoreError, Ticket, Usage, touch_provider, touch_value};
use crate::core::config::{MAX_KEY_LEN, MAX_PROVIDER_KEY_LEN};
use crate::core::key::Key;
use crate::core::record::ProviderRecord;
use crate::core::time::Timestamp;

/// Keeps everything in memory, within the bounds of a [`MemoryStoreConfig`]; nothing outlives the process.
///
/// Every operation is done at once, and none ever ends as [`StoreError::Failed`].
/// A default store that remote peers flood holds at most 143 MiB for them, see [`MemoryStoreConfig::memory_bound`].
///
/// # What gives way when a bound is reached
///
/// Expired records, first of all and wherever they are. Then lots decide: hashes under the store's secret seed. So
/// late and early ones have the same chance, however often they come again, and nobody can choose a key or an id that
/// wins. Who loses is refused with [`StoreError::Full`]; each node draws with another seed, so that it is in the samples
/// of others. A refused write changes nothing, and a bound holds at every moment.
///
/// * **Providers of one key**: those with the best lots stay. Of n that announce themselves each is kept with chance
///   [`max_providers_per_key`](MemoryStoreConfig::max_providers_per_key) / n.
/// * **Provider records in all**: the key with the most of them loses its last one, so that no key has many where another
///   has to do with few. Among equals the lots of the keys decide.
/// * **Keys with providers**: each key is charged to one of its providers, to that which has the fewest to its charge. A
///   newcomer takes the place of a key of the peer with the most, if it has fewer. So one peer, or a few, that announce
///   any number of keys cannot displace others; an attacker with n ids that announce keys apart gets n shares. Among
///   equals the lots of the peers decide. What a peer announces beyond its share is refused; its first keys stay.
/// * **Peers that provide**: those with the best lots stay. Of n each is kept with chance
///   [`max_peers`](MemoryStoreConfig::max_peers) / n. A peer with more than 64 records keeps its place.
/// * **Addresses**: those that are over go first. Then the peer whose addresses cost the most loses its last one, so that
///   nobody keeps many where a late one has to do with few. Among equals the lots of the peers decide.
/// * **Values**: those with the best lots stay. Who publishes a value is unauthenticated, so that there is nothing to
///   count by but keys and bytes: a value as large as several shares (a share is
///   [`max_value_bytes`](MemoryStoreConfig::max_value_bytes) / [`max_values`](MemoryStoreConfig::max_values)) has as much
///   less of a chance. With [`MemoryStore::near`] it is also in inverse proportion to the distance from this node: keys
///   made without effort lie far away and lose, while to make near ones costs as much work as it gains. Nearness alone
///   must not decide: whoever makes keys that are nearer than all others would displace them for certain.
/// * **Sequence numbers of values that are over**: 65,536; those that would be forgotten first go first.
///
/// Own records neither count nor give way. A value's length is bounded for them too.
pub struct MemoryStore {
    config: MemoryStoreConfig,
    lots: Lots,
    values: Values,
    providers: Providers,
    own: OwnProviders,
}

impl MemoryStore {
    /// An empty store.
    ///
    /// `seed` decides who stays where there is too much. Make it from randomness and keep it to yourself: who knows it
    /// can make peer ids and keys that are always kept.
    pub fn new(config: MemoryStoreConfig, seed: [u8; 32]) -> MemoryStore {
        MemoryStore {
            config,
            lots: Lots::new(seed),
            values: Values::default(),
            providers: Providers::default(),
            own: OwnProviders::default(),
        }
    }

    /// Lets values near `place`, this node's own, have a better chance than distant ones where not all can stay. Without
    /// it all have the same. It has to be set while the store is empty; later it is passed over.
    #[must_use]
    pub fn near(mut self, place: Key) -> MemoryStore {
        if self.values.remote() == 0 {
            self.lots.set_near(place);
        }
        self
    }

    /// The bounds of this store.
    pub fn config(&self) -> &MemoryStoreConfig {
        &self.config
    }

    fn put_value(&mut self, now: Timestamp, put: Put) -> Done {
        let Put { record, judge, .. } = put;
        if record.key.as_bytes().len() > MAX_KEY_LEN || record.value.len() > self.config.max_value_len {
            return Err(StoreError::TooLarge);
        }
        let place = record.key.key();
        let remembered = self.values.sequence(now, &place);
        let judged = judge.decide(now, self.values.get(now, &place), remembered, record)?;
        self.values.put(now, judged.record, &self.lots, &self.config)?;
        Ok(Found::Kept { superseded: judged.superseded })
    }

    fn keep_provider(&mut self, now: Timestamp, record: ProviderRecord) -> Done {
        if record.key.as_bytes().len() > MAX_PROVIDER_KEY_LEN {
            return Err(StoreError::TooLarge);
        }
        let (place, peer) = (record.key.key(), *record.provider.peer());
        if record.own {
            self.providers.remove(&place, &peer);
            self.own.add(record);
        } else {
            self.providers.add(now, place, &record, &self.lots, &self.config)?;
            self.own.remove(&place, &peer);
        }
        Ok(Found::Kept { superseded: false })
    }

    fn touch(&mut self, now: Timestamp, item: &Item, at: Timestamp) {
        let place = item.key().key();
        match item {
            Item::Value(read) => {
                let Some(mut record) = self.values.get(now, &place).cloned() else { return };
                if touch_value(&mut record, read, at) {
                    // It takes the room that it has.
                    let _ = self.values.put(now, record, &self.lots, &self.config);
                }
            }
            Item::Provider(read) => {
                let kept = self.own.get(now, &place).find(|kept| kept.provider.peer() == read.provider.peer());
                if let Some(mut record) = kept.filter(|kept| kept.own)
                    && touch_provider(&mut record, read, at)
                {
                    self.own.add(record);
                }
            }
        }
    }

    fn providers_of(&mut self, now: Timestamp, place: &Key) -> Vec<ProviderRecord> {
        let mut found = self.providers.get(now, place);
        found.extend(self.own.get(now, place));
        found
    }

    fn forget_expired(&mut self, now: Timestamp, limit: usize) -> usize {
        let values = self.values.expire(now, limit, &self.lots, &self.config);
        let own = self.own.expire(now, limit - values);
        values + own + self.providers.expire(now, limit - values - own)
    }

    fn page(&self, what: Scan, mut after: Option<Key>, limit: usize) -> Vec<Item> {
        let mut items = Vec::new();
        while items.len() < limit {
            let Some(place) = self.next_place(what, after.as_ref()) else { break };
            let value = self.values.at(&place).cloned().map(Item::Value);
            items.extend(value.filter(|item| what.wants(item)));
            if what == Scan::All {
                items.extend(self.providers.at(&place).map(Item::Provider));
            }
            if what != Scan::Values {
                items.extend(self.own.at(&place).map(Item::Provider));
            }
            after = Some(place);
        }
        items
    }

    /// The next place that has something of this kind, just after `after`.
    fn next_place(&self, what: Scan, after: Option<&Key>) -> Option<Key> {
        let own = self.own.after(after).next();
        let places = match what {
            Scan::All => [self.values.after(after).next(), self.providers.after(after).next(), own],
            Scan::Values => [self.values.after(after).next(), None, None],
            Scan::Own => [self.values.own_after(after).next(), None, own],
        };
        places.into_iter().flatten().min()
    }
}

impl fmt::Debug for MemoryStore {
    /// What is kept, in numbers; never the seed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").field("usage", &self.usage()).finish_non_exhaustive()
    }
}

impl Store for MemoryStore {
    fn run(&mut self, now: Timestamp, _: Ticket, op: Op) -> Option<Done> {
        Some(match op {
            Op::Get(key) => Ok(Found::Value(self.values.get(now, &key.key()).cloned())),
            Op::Put(put) => self.put_value(now, *put),
            Op::Touch(item, at) => {
                self.touch(now, &item, at);
                Ok(Found::Nothing)
            }
            Op::Remove(key) => {
                self.values.remove(&key.key(), &self.lots, &self.config);
                Ok(Found::Nothing)
            }
            Op::Providers(key) => Ok(Found::Providers(self.providers_of(now, &key.key()))),
            Op::AddProvider(record, _) => self.keep_provider(now, *record),
            Op::RemoveProvider(key, provider) => {
                let place = key.key();
                self.providers.remove(&place, &provider);
                self.own.remove(&place, &provider);
                Ok(Found::Nothing)
            }
            Op::Scan { what, after, limit } => Ok(Found::Items(self.page(what, after, limit))),
            Op::SavePeers(_) => Ok(Found::Nothing),
            Op::SavedPeers => Ok(Found::Peers(Vec::new())),
            Op::Expire { limit } => Ok(Found::Expired(self.forget_expired(now, limit))),
        })
    }

    fn next_expiry(&self) -> Option<Timestamp> {
        let first = [self.values.next_expiry(), self.own.next_expiry(), self.providers.next_expiry()];
        first.into_iter().flatten().min()
    }

    fn usage(&self) -> Usage {
        Usage { values: self.values.remote(), providers: self.providers.len(), own: self.values.own() + self.own.len() }
    }
}
