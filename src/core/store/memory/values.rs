//! The values of a memory store, by their place in the keyspace, by their expiry and by their lot.
//!
//! Knows: the bounds of values. Must not know: provider records. The place stands for the key: it is its SHA-256.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use bytes::Bytes;

use super::config::MemoryStoreConfig;
use super::sequences::Sequences;
use crate::core::key::Key;
use crate::core::record::{Record, RecordKey};
use crate::core::store::lots::Lots;
use crate::core::store::{StoreError, remember};
use crate::core::time::Timestamp;

#[derive(Default)]
pub(super) struct Values {
    kept: BTreeMap<Key, Record>,
    /// The places of own values.
    own: BTreeSet<Key>,
    /// One entry for each value that expires.
    expiry: BTreeSet<(Timestamp, Key)>,
    /// One entry for each remote value: its lot.
    lots: BTreeSet<(u64, Key)>,
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
        lots: &Lots,
        config: &MemoryStoreConfig,
    ) -> Result<(), StoreError> {
        let place = record.key.key();
        let lot = lot(&place, &record, lots, config);
        if !record.own {
            self.make_room(now, &place, &record, lot, lots, config)?;
            record.key = RecordKey::from(record.key.as_bytes());
            record.value = Bytes::copy_from_slice(&record.value);
        }
        match self.kept.get(&place) {
            // Over, and nobody took it yet: what it leaves is remembered.
            Some(old) if old.is_expired(now) => self.remove(&place, lots, config),
            _ => drop(self.take(&place, lots, config)),
        }
        self.expiry.extend(record.expires.map(|at| (at, place)));
        if record.own {
            self.own.insert(place);
        } else {
            self.lots.insert((lot, place));
            self.bytes += size(&record);
        }
        self.kept.insert(place, record);
        Ok(())
    }

    /// Forgets a value, but not its sequence number: copies of it are still about.
    pub(super) fn remove(&mut self, place: &Key, lots: &Lots, config: &MemoryStoreConfig) {
        let Some(record) = self.take(place, lots, config) else { return };
        if let Some(left) = remember::left_by(&record) {
            self.over.remember(*place, left);
        }
    }

    /// Forgets up to `limit` values that are over at `now`.
    pub(super) fn expire(&mut self, now: Timestamp, limit: usize, lots: &Lots, config: &MemoryStoreConfig) -> usize {
        for taken in 0..limit {
            match self.expiry.first() {
                Some((at, place)) if *at <= now => {
                    let place = *place;
                    self.remove(&place, lots, config);
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

    pub(super) fn at(&self, place: &Key) -> Option<&Record> {
        self.kept.get(place)
    }

    /// The places of all values, from just after this one.
    pub(super) fn after(&self, place: Option<&Key>) -> impl Iterator<Item = Key> {
        self.kept.range(from(place)).map(|(place, _)| *place)
    }

    /// The places of own values, from just after this one.
    pub(super) fn own_after(&self, place: Option<&Key>) -> impl Iterator<Item = Key> {
        self.own.range(from(place)).copied()
    }

    pub(super) fn remote(&self) -> usize {
        self.lots.len()
    }

    pub(super) fn own(&self) -> usize {
        self.own.len()
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes a value out, and all that is counted about it.
    fn take(&mut self, place: &Key, lots: &Lots, config: &MemoryStoreConfig) -> Option<Record> {
        let record = self.kept.remove(place)?;
        if let Some(at) = record.expires {
            self.expiry.remove(&(at, *place));
        }
        if record.own {
            self.own.remove(place);
        } else {
            self.lots.remove(&(lot(place, &record, lots, config), *place));
            self.bytes -= size(&record);
        }
        Some(record)
    }

    /// Makes room for a remote value, if what is over frees enough, or values with worse lots do.
    fn make_room(
        &mut self,
        now: Timestamp,
        place: &Key,
        record: &Record,
        lot: u64,
        lots: &Lots,
        config: &MemoryStoreConfig,
    ) -> Result<(), StoreError> {
        while !self.has_room(place, record, config, (0, 0)) && self.expire(now, 1, lots, config) > 0 {}
        let (mut goes, mut bytes) = (Vec::new(), 0);
        let mut others = self.lots.iter().rev().filter(|(_, other)| other != place);
        while !self.has_room(place, record, config, (goes.len(), bytes)) {
            let (_, other) = others.next().filter(|(their_lot, _)| *their_lot > lot).ok_or(StoreError::Full)?;
            bytes += self.kept.get(other).map_or(0, size);
            goes.push(*other);
        }
        goes.iter().for_each(|other| self.remove(other, lots, config));
        Ok(())
    }

    /// Whether the bounds allow `record` in place of what is at `place` now, once so many others of so many bytes go.
    fn has_room(
        &self,
        place: &Key,
        record: &Record,
        config: &MemoryStoreConfig,
        (fewer, less): (usize, usize),
    ) -> bool {
        let old = self.kept.get(place).filter(|old| !old.own);
        let count = self.lots.len() - usize::from(old.is_some()) - fewer;
        let bytes = self.bytes - old.map_or(0, size) - less;
        count < config.max_values && bytes + size(record) <= config.max_value_bytes
    }
}

fn from(place: Option<&Key>) -> (Bound<&Key>, Bound<&Key>) {
    (place.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded)
}

/// A value that takes as much room as several may has as much the worse a lot.
fn lot(place: &Key, record: &Record, lots: &Lots, config: &MemoryStoreConfig) -> u64 {
    let fair = (config.max_value_bytes / config.max_values.max(1)).max(1);
    lots.of_value(place, size(record).div_ceil(fair).max(1))
}

fn size(record: &Record) -> usize {
    record.key.as_bytes().len() + record.value.len()
}
