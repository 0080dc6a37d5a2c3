//! The values of a memory store, by their place in the keyspace and by their expiry.
//!
//! Knows: the bounds of values. Must not know: provider records. The place stands for the key: it is its SHA-256.

use std::collections::{BTreeMap, BTreeSet, btree_map};
use std::ops::Bound;

use bytes::Bytes;

use super::config::MemoryStoreConfig;
use super::sequences::Sequences;
use crate::core::key::Key;
use crate::core::record::{Record, RecordKey};
use crate::core::store::StoreError;
use crate::core::time::Timestamp;

#[derive(Default)]
pub(super) struct Values {
    kept: BTreeMap<Key, Record>,
    /// One entry for each value that expires.
    expiry: BTreeSet<(Timestamp, Key)>,
    remote: usize,
    own: usize,
    /// Of remote values and their keys.
    bytes: usize,
    over: Sequences,
}

impl Values {
    pub(super) fn get(&self, now: Timestamp, place: &Key) -> Option<&Record> {
        self.kept.get(place).filter(|record| !record.is_expired(now))
    }

    /// Keeps `record`, whose lengths are checked already.
    pub(super) fn put(
        &mut self,
        now: Timestamp,
        mut record: Record,
        config: &MemoryStoreConfig,
    ) -> Result<(), StoreError> {
        let place = record.key.key();
        if !record.own {
            while !self.has_room(&place, &record, config) {
                if self.expire(now, 1) == 0 {
                    return Err(StoreError::Full);
                }
            }
            record.key = RecordKey::from(record.key.as_bytes());
            record.value = Bytes::copy_from_slice(&record.value);
        }
        self.remove(&place);
        self.expiry.extend(record.expires.map(|at| (at, place)));
        if record.own {
            self.own += 1;
        } else {
            self.remote += 1;
            self.bytes += size(&record);
        }
        self.kept.insert(place, record);
        Ok(())
    }

    pub(super) fn remove(&mut self, place: &Key) {
        let Some(record) = self.kept.remove(place) else { return };
        if let Some(at) = record.expires {
            self.expiry.remove(&(at, *place));
        }
        if record.own {
            self.own -= 1;
        } else {
            self.remote -= 1;
            self.bytes -= size(&record);
        }
    }

    /// Forgets up to `limit` values that are over at `now`.
    pub(super) fn expire(&mut self, now: Timestamp, limit: usize) -> usize {
        for taken in 0..limit {
            match self.expiry.first() {
                Some((at, place)) if *at <= now => {
                    let place = *place;
                    self.remember(&place);
                    self.remove(&place);
                }
                _ => return taken,
            }
        }
        limit
    }

    /// The highest sequence number that is remembered of a value that is over.
    pub(super) fn sequence(&self, now: Timestamp, place: &Key) -> Option<u64> {
        let kept = self.kept.get(place).filter(|record| record.is_expired(now)).and_then(|record| record.sequence);
        kept.max(self.over.get(now, place))
    }

    pub(super) fn next_expiry(&self) -> Option<Timestamp> {
        self.expiry.first().map(|(at, _)| *at)
    }

    pub(super) fn after(&self, place: Option<&Key>) -> btree_map::Range<'_, Key, Record> {
        self.kept.range((place.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded))
    }

    pub(super) fn remote(&self) -> usize {
        self.remote
    }

    pub(super) fn own(&self) -> usize {
        self.own
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Keeps in mind what sequence the value had that is over, for as long again as it lived.
    fn remember(&mut self, place: &Key) {
        let Some(record) = self.kept.get(place) else { return };
        if let (Some(sequence), Some(expires)) = (record.sequence, record.expires) {
            self.over.remember(*place, sequence, expires + expires.since(record.received));
        }
    }

    /// Whether the bounds allow `record` in place of what is at `place` now.
    fn has_room(&self, place: &Key, record: &Record, config: &MemoryStoreConfig) -> bool {
        let (count, bytes) = match self.kept.get(place).filter(|old| !old.own) {
            Some(old) => (self.remote - 1, self.bytes - size(old)),
            None => (self.remote, self.bytes),
        };
        count < config.max_values && bytes + size(record) <= config.max_value_bytes
    }
}

fn size(record: &Record) -> usize {
    record.key.as_bytes().len() + record.value.len()
}
