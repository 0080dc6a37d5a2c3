//! Recently read entries, within a bound of bytes.
//!
//! Knows: which entry was used last, and how many bytes each takes. Must not know: the database, or whether an entry is
//! still current; a change of the database removes the changed entries here.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::tables::{Place, TableKind};
use libp2p_kad_dht::core::Timestamp;
use libp2p_kad_dht::core::{ProviderRecord, Record};

pub(super) type Name = (TableKind, Place);

/// The content of a place in the database. That a place is empty is cached too.
#[derive(Debug)]
pub(super) enum CachedEntry {
    Value(Option<Record>),
    Provided(Vec<ProviderRecord>),
    /// A row that cannot be read. Never cached: it is about to be moved aside.
    Damaged,
}

impl CachedEntry {
    pub(super) fn value(&self, now: Timestamp) -> Option<Record> {
        match self {
            CachedEntry::Value(record) => record.clone().filter(|record| !record.is_expired(now)),
            CachedEntry::Provided(_) | CachedEntry::Damaged => None,
        }
    }

    pub(super) fn providers(&self, now: Timestamp) -> Vec<ProviderRecord> {
        let CachedEntry::Provided(records) = self else { return Vec::new() };
        let current = records.iter().filter(|record| !record.is_expired(now)).cloned();
        current
            .map(|mut record| {
                if record.addrs_expire <= now && record.provider.has_addrs() {
                    record.provider = record.provider.with_addrs([]);
                }
                record
            })
            .collect()
    }

    /// Estimated bytes of memory: the types, the nodes of two maps, and for each address its bytes twice, as decoded
    /// and as encoded.
    fn cost(&self) -> usize {
        const NODES: usize = 256;
        NODES
            + match self {
                CachedEntry::Value(None) | CachedEntry::Damaged => 0,
                CachedEntry::Value(Some(record)) => 64 + record.key.as_bytes().len() + record.value.len(),
                CachedEntry::Provided(records) => records.iter().map(provider_cost).sum(),
            }
    }
}

fn provider_cost(record: &ProviderRecord) -> usize {
    let addrs: usize = record.provider.raw_addrs().map(|addr| 2 * addr.len() + 64).sum();
    512 + addrs
}

/// The entries; the least recently used one is removed first.
#[derive(Debug)]
pub(super) struct Cache {
    entries: BTreeMap<Name, (u64, Arc<CachedEntry>)>,
    order: BTreeMap<u64, Name>,
    clock: u64,
    bytes: usize,
    max_bytes: usize,
}

impl Cache {
    pub(super) fn new(max_bytes: usize) -> Cache {
        Cache { entries: BTreeMap::new(), order: BTreeMap::new(), clock: 0, bytes: 0, max_bytes }
    }

    pub(super) fn get(&mut self, name: &Name) -> Option<Arc<CachedEntry>> {
        let (used, entry) = self.entries.get_mut(name)?;
        self.clock += 1;
        self.order.remove(used);
        self.order.insert(self.clock, *name);
        *used = self.clock;
        Some(Arc::clone(entry))
    }

    pub(super) fn insert(&mut self, name: Name, entry: Arc<CachedEntry>) {
        self.forget(&name);
        let cost = entry.cost();
        if cost > self.max_bytes {
            return;
        }
        self.clock += 1;
        self.bytes += cost;
        self.order.insert(self.clock, name);
        self.entries.insert(name, (self.clock, entry));
        while self.bytes > self.max_bytes {
            let Some((_, oldest)) = self.order.first_key_value() else { return };
            let oldest = *oldest;
            self.forget(&oldest);
        }
    }

    pub(super) fn forget(&mut self, name: &Name) {
        if let Some((used, entry)) = self.entries.remove(name) {
            self.order.remove(&used);
            self.bytes -= entry.cost();
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Cache::new(self.max_bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(len: usize) -> Arc<CachedEntry> {
        Arc::new(CachedEntry::Value(Some(Record::new("", vec![0; len], Timestamp::ZERO))))
    }

    #[test]
    fn what_was_used_longest_ago_goes_when_the_bytes_are_too_many() {
        let cost = entry(1_000).cost();
        let mut cache = Cache::new(3 * cost);
        let name = |n: u8| (TableKind::Value, [n; 32]);
        (0..3).for_each(|n| cache.insert(name(n), entry(1_000)));
        assert!(cache.get(&name(0)).is_some());
        cache.insert(name(3), entry(1_000));
        assert!(cache.get(&name(1)).is_none() && cache.get(&name(0)).is_some(), "1 was used longest ago");
        cache.insert(name(0), entry(10));
        assert!(cache.bytes < 3 * cost);
        cache.insert(name(9), entry(4 * cost));
        assert!(cache.get(&name(9)).is_none(), "an entry larger than the whole cache is not kept");
        (0..4).for_each(|n| cache.forget(&name(n)));
        assert_eq!((cache.bytes, cache.order.len(), cache.entries.len()), (0, 0, 0));
    }
}
