//! What becomes of values: kept, forgotten, over, and who gives way.
//!
//! Knows: the bounds and lots of values. Must not know: provider records.

use redb::{ReadableTable as _, StorageError};

use super::super::row;
use super::super::tables::{Kind, Place, expiry_key, order_key, order_of, own_key, place_of};
use super::{Group, less, size, wide};
use libp2p_kad_dht::core::store::{Done, Found, Put, StoreError, remember, touch_value};
use libp2p_kad_dht::core::{Key, Record, Timestamp};

/// A value has one share of room for each so many bytes, and its lot counts as often. Not taken from the bounds, since
/// lots have to stay what they are when those change. Source: the defaults' bytes by their number of values.
const SHARE: u64 = 1_024;

/// So many values one write displaces at most.
const MAX_DISPLACED: usize = 64;

impl Group<'_, '_> {
    /// Keeps a value, if the judge lets it take the place of what is kept.
    pub(super) fn put(&mut self, now: Timestamp, put: &Put) -> Result<Done, StorageError> {
        let place = place_of(&put.record.key.key());
        let old = self.value_at(&place)?;
        let over = self.tables.sequences.get(place)?.map(|found| found.value());
        let over = over.filter(|(_, until)| now.as_micros() < *until).map(|(number, _)| number);
        let lingering = old.as_ref().filter(|old| old.is_expired(now)).and_then(|old| old.sequence);
        let judged = match put.judge.decide(now, old.as_ref(), lingering.max(over), put.record.clone()) {
            Ok(judged) => judged,
            Err(why) => return Ok(Err(why)),
        };
        let written = self.write_value(now, &place, &judged.record)?;
        Ok(written.map(|()| Found::Kept { superseded: judged.superseded }))
    }

    pub(super) fn touch_value(&mut self, now: Timestamp, read: &Record, at: Timestamp) -> Result<(), StorageError> {
        let place = place_of(&read.key.key());
        let Some(mut record) = self.value_at(&place)?.filter(|kept| !kept.is_expired(now)) else { return Ok(()) };
        if touch_value(&mut record, read, at) {
            self.tables.values.insert(place, row::encode_value(&record).as_slice())?;
            self.changed.insert((Kind::Value, place));
        }
        Ok(())
    }

    fn write_value(
        &mut self,
        now: Timestamp,
        place: &Place,
        record: &Record,
    ) -> Result<Result<(), StoreError>, StorageError> {
        let place = *place;
        if !record.own && !self.make_value_room(now, &place, record)? {
            return Ok(Err(StoreError::Full));
        }
        match self.value_at(&place)? {
            // Over, and nobody took it yet: what it leaves is remembered.
            Some(old) if old.is_expired(now) => self.forget_value(&place)?,
            _ => self.remove_value(&place)?,
        }
        if let Some(at) = record.expires {
            self.tables.expiry.insert(expiry_key(at, Kind::Value, &place), ())?;
        }
        if record.own {
            self.tables.own.insert(own_key(&place, Kind::Value), ())?;
        } else {
            self.tables.value_lots.insert(order_key(self.lot_of_value(&place, record), &place), ())?;
        }
        self.counts.add_value(record);
        self.tables.values.insert(place, row::encode_value(record).as_slice())?;
        self.changed.insert((Kind::Value, place));
        Ok(Ok(()))
    }

    /// Forgets a value, but not its sequence number: copies of it are still about.
    pub(super) fn forget_value(&mut self, place: &Place) -> Result<(), StorageError> {
        if let Some((sequence, until)) = self.value_at(place)?.as_ref().and_then(remember::left_by) {
            self.remember(place, sequence, until)?;
        }
        self.remove_value(place)
    }

    pub(super) fn expire_value(&mut self, at: Timestamp, place: &Place) -> Result<usize, StorageError> {
        if self.value_at(place)?.and_then(|old| old.expires) != Some(at) {
            return Ok(0);
        }
        self.forget_value(place)?;
        Ok(1)
    }

    fn remove_value(&mut self, place: &Place) -> Result<(), StorageError> {
        let Some(old) = self.value_at(place)? else { return Ok(()) };
        self.tables.values.remove(place)?;
        self.changed.insert((Kind::Value, *place));
        if let Some(at) = old.expires {
            self.tables.expiry.remove(expiry_key(at, Kind::Value, place))?;
        }
        if old.own {
            self.tables.own.remove(own_key(place, Kind::Value))?;
            less(&mut self.counts.own, 1);
        } else {
            self.tables.value_lots.remove(order_key(self.lot_of_value(place, &old), place))?;
            less(&mut self.counts.values, 1);
            less(&mut self.counts.value_bytes, size(&old));
        }
        Ok(())
    }

    /// Makes room for a remote value, if what is over frees enough, or values with worse lots do.
    fn make_value_room(&mut self, now: Timestamp, place: &Place, record: &Record) -> Result<bool, StorageError> {
        while !self.has_room(place, record, (0, 0))? {
            if self.expire(now, 1)? == 0 {
                return self.displace(place, record);
            }
        }
        Ok(true)
    }

    /// First it is seen that enough may go, and only then does anything go.
    fn displace(&mut self, place: &Place, record: &Record) -> Result<bool, StorageError> {
        let lot = self.lot_of_value(place, record);
        let (mut goes, mut bytes, mut last) = (Vec::new(), 0, None);
        while !self.has_room(place, record, (wide(goes.len()), bytes))? {
            let Some((their_lot, other)) = self.worst_value(last)? else { return Ok(false) };
            last = Some(order_key(their_lot, &other));
            let their_size = match self.value_at(&other)? {
                Some(kept) if !kept.own && self.lot_of_value(&other, &kept) == their_lot => size(&kept),
                _ => {
                    // It leads to nothing.
                    self.tables.value_lots.remove(order_key(their_lot, &other))?;
                    continue;
                }
            };
            if other == *place {
                continue;
            }
            if their_lot <= lot || goes.len() == MAX_DISPLACED {
                return Ok(false);
            }
            bytes += their_size;
            goes.push(other);
        }
        for other in goes {
            self.forget_value(&other)?;
        }
        Ok(true)
    }

    /// The remote value with the worst lot, of those before this entry.
    fn worst_value(&self, before: Option<[u8; 40]>) -> Result<Option<(u64, Place)>, StorageError> {
        let last = match before {
            Some(before) => self.tables.value_lots.range(..before)?.next_back().transpose()?,
            None => self.tables.value_lots.last()?,
        };
        Ok(last.map(|(key, _)| order_of(&key.value())))
    }

    /// Whether the bounds allow `record` in place of what is at `place` now, once so many others of so many bytes go.
    fn has_room(&mut self, place: &Place, record: &Record, (fewer, lighter): (u64, u64)) -> Result<bool, StorageError> {
        let old = self.value_at(place)?.filter(|old| !old.own);
        let count = self.counts.values.saturating_sub(u64::from(old.is_some()) + fewer);
        let bytes = self.counts.value_bytes.saturating_sub(old.as_ref().map_or(0, size) + lighter);
        Ok(count < wide(self.config.max_values) && bytes + size(record) <= wide(self.config.max_value_bytes))
    }

    /// A value that takes as much room as several may has as much the worse a lot.
    pub(super) fn lot_of_value(&self, place: &Place, record: &Record) -> u64 {
        let shares = usize::try_from(size(record).div_ceil(SHARE).max(1)).unwrap_or(usize::MAX);
        self.lots.of_value(&Key::from_bytes(*place), shares)
    }

    /// Keeps in mind what sequence a value had that is over.
    fn remember(&mut self, place: &Place, sequence: u64, until: Timestamp) -> Result<(), StorageError> {
        let before = self.tables.sequences.get(place)?.map(|found| found.value());
        let before = before.map(|(sequence, until)| (sequence, Timestamp::from_micros(until)));
        let (sequence, until) = remember::both((sequence, until), before);
        match before {
            Some((_, before)) => drop(self.tables.sequence_order.remove(order_key(before.as_micros(), place))?),
            None => self.counts.sequences += 1,
        }
        self.tables.sequences.insert(place, (sequence, until.as_micros()))?;
        self.tables.sequence_order.insert(order_key(until.as_micros(), place), ())?;
        self.changed.insert((Kind::Value, *place));
        while self.counts.sequences > wide(self.config.max_sequences) {
            let Some((_, first)) = self.tables.sequence_order.pop_first()?.map(|(key, _)| order_of(&key.value()))
            else {
                self.counts.sequences = 0;
                break;
            };
            self.tables.sequences.remove(first)?;
            self.changed.insert((Kind::Value, first));
            less(&mut self.counts.sequences, 1);
        }
        Ok(())
    }
}
