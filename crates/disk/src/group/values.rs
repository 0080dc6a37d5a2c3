//! Writes of values: judge, store, remove, expire.
//!
//! Knows: rows of values and their indices. Must not know: provider records, or which records are evicted (`eviction`).

use redb::{ReadableTable as _, StorageError};

use super::super::row::{NO_COST, encode_value, value_size};
use super::super::tables::{Id, Place, TableKind, expiry_key, order_key, order_of, own_key, place_of};
use super::{Group, less, wide};
use libp2p_kad_dht::core::store::eviction::{self, Cost, Size, Wanted};
use libp2p_kad_dht::core::store::{Done, OpOutput, Put, Sender, StoreError, tombstone, touch_value};
use libp2p_kad_dht::core::{Record, Timestamp};

impl Group<'_, '_> {
    /// Stores a value, if the judge lets it replace the stored one.
    pub(super) fn put(&mut self, now: Timestamp, put: &Put) -> Result<Done, StorageError> {
        let place = place_of(&put.record.key.key());
        let old = self.value_at(&place)?;
        let over = self.tables.sequences.get(place)?.map(|found| found.value());
        let over = over.filter(|(_, until)| now.as_micros() < *until).map(|(number, _)| number);
        let old_record = old.as_ref().map(|(record, _)| record);
        let lingering = old_record.filter(|old| old.is_expired(now)).and_then(|old| old.sequence);
        let judged = match put.judge.decide(now, old_record, lingering.max(over), put.record.clone()) {
            Ok(judged) => judged,
            Err(why) => return Ok(Err(why)),
        };
        let kept = match judged.record.own {
            true => self.write_value(&place, &judged.record, &NO_COST, old).map(Ok)?,
            false => self.put_remote(now, &place, &judged.record, old, put.from.as_ref())?,
        };
        Ok(kept.map(|()| OpOutput::Kept { superseded: judged.superseded }))
    }

    pub(super) fn touch_value(&mut self, now: Timestamp, read: &Record, at: Timestamp) -> Result<(), StorageError> {
        let place = place_of(&read.key.key());
        let kept = self.value_at(&place)?.filter(|(kept, _)| !kept.is_expired(now));
        let Some((mut record, cost)) = kept else { return Ok(()) };
        if touch_value(&mut record, read, at) {
            self.tables.values.insert(place, encode_value(&record, &cost).as_slice())?;
            self.changed.insert((TableKind::Value, place));
        }
        Ok(())
    }

    /// Stores a value of another peer in place of `old`. A newer version of a stored remote value is always accepted.
    fn put_remote(
        &mut self,
        now: Timestamp,
        place: &Place,
        record: &Record,
        old: Option<(Record, Cost)>,
        from: Option<&Sender>,
    ) -> Result<Result<(), StoreError>, StorageError> {
        let (by, near, bytes) = (self.seed.account(from), from.is_some_and(|from| from.near), value_size(record));
        let id = self.value_id(place);
        let known = old.as_ref().filter(|(old, _)| !old.own && !old.is_expired(now));
        let (victims, cost) = if let Some((old, before)) = known {
            let mut after = match old.value == record.value {
                true => before.sent_again(&self.pool(TableKind::Value), by)?,
                false => before.replaced(by, bytes, now),
            };
            (after.near, after.bytes) = (near, bytes);
            (eviction::victims(&mut self.pool(TableKind::Value), now, Wanted::Update(id, before, &after))?, after)
        } else {
            let cost = Cost::new(by, bytes, now, near);
            let size = Size { records: 1, bytes: bytes.into() };
            self.expire_for(now, TableKind::Value, size)?;
            (eviction::victims(&mut self.pool(TableKind::Value), now, Wanted::New(id.1, &cost))?, cost)
        };
        let Some(victims) = victims else { return Ok(Err(StoreError::Full)) };
        self.drop_all(TableKind::Value, victims)?;
        // The old value, if it expired, may have been removed by now.
        let old = self.value_at(place)?;
        self.write_value(place, record, &cost, old.filter(|(old, _)| !old.is_expired(now)))?;
        Ok(Ok(()))
    }

    fn value_id(&self, place: &Place) -> Id {
        (*place, self.seed.of_value(place))
    }

    /// Writes a value in place of `old`, with its index rows. The sequence number of a removed or expired value is
    /// remembered.
    fn write_value(
        &mut self,
        place: &Place,
        record: &Record,
        cost: &Cost,
        old: Option<(Record, Cost)>,
    ) -> Result<(), StorageError> {
        let id = self.value_id(place);
        match old {
            Some((old, before)) if !old.own && !record.own => {
                self.index_value(place, Some(&old), Some(record))?;
                self.tables.values.insert(place, encode_value(record, cost).as_slice())?;
                eviction::update_accounts(&mut self.pool(TableKind::Value), id, Some(&before), Some(cost))?;
            }
            _ => {
                self.forget_value(place)?;
                self.index_value(place, None, Some(record))?;
                self.tables.values.insert(place, encode_value(record, cost).as_slice())?;
                if !record.own {
                    eviction::update_accounts(&mut self.pool(TableKind::Value), id, None, Some(cost))?;
                }
            }
        }
        self.changed.insert((TableKind::Value, *place));
        Ok(())
    }

    /// Updates the counts and index rows of a value, except for its cost.
    fn index_value(&mut self, place: &Place, old: Option<&Record>, new: Option<&Record>) -> Result<(), StorageError> {
        if let Some(old) = old {
            old.expires
                .map(|at| self.tables.expiry.remove(expiry_key(at, TableKind::Value, place)).map(drop))
                .transpose()?;
            if old.own {
                self.tables.own.remove(own_key(place, TableKind::Value))?;
                less(&mut self.counts.own, 1);
            } else {
                less(&mut self.counts.values, 1);
                less(&mut self.counts.value_bytes, value_size(old).into());
            }
        }
        if let Some(new) = new {
            new.expires
                .map(|at| self.tables.expiry.insert(expiry_key(at, TableKind::Value, place), ()).map(drop))
                .transpose()?;
            if new.own {
                self.tables.own.insert(own_key(place, TableKind::Value), ())?;
            }
            self.counts.add_value(new);
        }
        Ok(())
    }

    /// Removes a value but remembers its sequence number, since other nodes may hold copies.
    pub(super) fn forget_value(&mut self, place: &Place) -> Result<(), StorageError> {
        let Some((old, cost)) = self.value_at(place)? else { return Ok(()) };
        if let Some((sequence, until)) = tombstone::of_record(&old) {
            self.remember(place, sequence, until)?;
        }
        self.index_value(place, Some(&old), None)?;
        if !old.own {
            let id = self.value_id(place);
            eviction::update_accounts(&mut self.pool(TableKind::Value), id, Some(&cost), None)?;
        }
        self.tables.values.remove(place)?;
        self.changed.insert((TableKind::Value, *place));
        Ok(())
    }

    pub(super) fn expire_value(&mut self, at: Timestamp, place: &Place) -> Result<usize, StorageError> {
        if self.value_at(place)?.and_then(|(old, _)| old.expires) != Some(at) {
            return Ok(0);
        }
        self.forget_value(place)?;
        Ok(1)
    }

    /// Makes a value expire at `latest` if it would expire later.
    pub(super) fn cut_value(&mut self, now: Timestamp, latest: Timestamp, place: &Place) -> Result<(), StorageError> {
        let Some((old, cost)) = self.value_at(place)?.filter(|(old, _)| !old.own) else { return Ok(()) };
        let mut new = old.clone();
        new.expires = old.expires.map(|at| at.min(latest));
        new.put = old.put.map(|at| at.min(now));
        self.index_value(place, Some(&old), Some(&new))?;
        self.tables.values.insert(place, encode_value(&new, &cost).as_slice())?;
        self.changed.insert((TableKind::Value, *place));
        Ok(())
    }

    /// Remembers the sequence number of a removed or expired value.
    fn remember(&mut self, place: &Place, sequence: u64, until: Timestamp) -> Result<(), StorageError> {
        let before = self.tables.sequences.get(place)?.map(|found| found.value());
        let before = before.map(|(sequence, until)| (sequence, Timestamp::from_micros(until)));
        let (sequence, until) = tombstone::merged((sequence, until), before);
        match before {
            Some((_, before)) => drop(self.tables.sequence_order.remove(order_key(before.as_micros(), place))?),
            None => self.counts.sequences += 1,
        }
        self.tables.sequences.insert(place, (sequence, until.as_micros()))?;
        self.tables.sequence_order.insert(order_key(until.as_micros(), place), ())?;
        self.changed.insert((TableKind::Value, *place));
        while self.counts.sequences > wide(self.config.max_sequences) {
            let Some((_, first)) = self.tables.sequence_order.pop_first()?.map(|(key, _)| order_of(&key.value()))
            else {
                self.counts.sequences = 0;
                break;
            };
            self.tables.sequences.remove(first)?;
            self.changed.insert((TableKind::Value, first));
            less(&mut self.counts.sequences, 1);
        }
        Ok(())
    }
}
