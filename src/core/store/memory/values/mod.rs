//! The values of other peers.
//!
//! Knows: the bounds of values, and the room that the store leaves for them. Must not know: provider records, own values, or who may replace what.

#[cfg(test)]
mod tests;

use bytes::Bytes;
use libp2p_identity::PeerId;

use super::config::{MemoryStoreConfig, VALUE_OVERHEAD};
use super::ledger::{Ledger, Pool, PoolAccounts};
use super::seed::Since;
use super::sequences::Sequences;
use super::table::{Row, Slot, Table};
use crate::core::record::{Record, RecordKey};
use crate::core::store::eviction::{Account, Cost, Ranked, Size, Wanted, update_accounts, victims};
use crate::core::store::{StoreError, tombstone};
use crate::core::time::Timestamp;

const EXPIRES: u8 = 1;
const CLAIMED: u8 = 2;
const SEQUENCE: u8 = 4;
const SEVERAL: u8 = 8;
const PUT: u8 = 16;

pub(super) struct ValueTable {
    table: Table<StoredValue>,
    ledger: Ledger<Slot>,
}

/// A value in 96 bytes and one allocation.
pub(super) struct StoredValue {
    /// The key and the value.
    data: Box<[u8]>,
    hash: u64,
    head: u64,
    received: Timestamp,
    expires: Timestamp,
    put: Timestamp,
    sequence: u64,
    account: Account,
    first: Account,
    rare: Option<Box<Rare>>,
    since: Since,
    key_len: u16,
    flags: u8,
}

/// Fields that few records have.
struct Rare {
    publisher: Option<PeerId>,
    announced: Option<Timestamp>,
    superseded: bool,
}

impl ValueTable {
    pub(super) fn new(config: &MemoryStoreConfig) -> ValueTable {
        let ledger = Ledger::new(config.max_values, config.share_of_each(), VALUE_OVERHEAD);
        ValueTable { table: Table::new(), ledger }
    }

    /// Sets the bytes that all values may take.
    pub(super) fn set_room(&mut self, bytes: u64) {
        self.ledger.set_room(bytes);
    }

    /// The bytes that all values take.
    pub(super) fn used(&self) -> u64 {
        self.ledger.used()
    }

    /// Evicts values until they take no more bytes than they may.
    pub(super) fn shrink(&mut self, now: Timestamp, over: &mut Sequences) {
        while !self.ledger.has_room(Size::default(), Size::default()) {
            let Ok(Some(goes)) = victims(&mut PoolAccounts(self), now, Wanted::Less) else { return };
            if goes.is_empty() {
                return;
            }
            for slot in goes {
                self.remove(slot, Some(over));
            }
        }
    }

    pub(super) fn has(&self, hash: u64, key: &RecordKey) -> bool {
        self.table.find(hash, key.as_bytes()).is_some()
    }

    /// The value under this key, whether it has expired or not.
    pub(super) fn get(&self, hash: u64, key: RecordKey) -> Option<Record> {
        Some(self.table.get(self.table.find(hash, key.as_bytes())?)?.record(key))
    }

    /// Stores `record` in place of an earlier one, at the cost `new` unless that one is a version of it.
    pub(super) fn keep(
        &mut self,
        now: Timestamp,
        hash: u64,
        record: Record,
        new: Cost,
        over: &mut Sequences,
    ) -> Result<(), StoreError> {
        let known = self.table.find(hash, record.key.as_bytes());
        let before = known.and_then(|slot| self.ranked(slot)).map(|known| known.cost);
        let (after, wanted) = match (known, &before) {
            (Some(slot), Some(before)) => {
                let same = self.table.get(slot).is_some_and(|kept| kept.value() == record.value);
                let Ok(again) = before.sent_again(&PoolAccounts(self), new.account);
                let after = if same { again } else { before.replaced(new.account, new.bytes, now) };
                (Cost { near: new.near, ..after }, Some((slot, before)))
            }
            _ => (new, None),
        };
        let wanted = match wanted {
            Some((slot, before)) => Wanted::Update(slot, before, &after),
            None => Wanted::New(hash, &after),
        };
        let size = Size { records: u64::from(known.is_none()), bytes: after.bytes.into() };
        while !self.ledger.has_room(size, Size::default()) && self.expire(now, 1, over) > 0 {}
        let Ok(goes) = victims(&mut PoolAccounts(self), now, wanted);
        for slot in goes.ok_or(StoreError::Full)? {
            self.remove(slot, Some(over));
        }
        let slot = match known {
            Some(slot) => {
                self.table.change(slot, |kept| *kept = StoredValue::new(hash, kept.head, record, &after));
                slot
            }
            None => self.table.insert(StoredValue::new(hash, record.key.key().head(), record, &after))?,
        };
        let Ok(()) = update_accounts(&mut PoolAccounts(self), slot, before.as_ref(), Some(&after));
        Ok(())
    }

    /// Notes when a value was received again, and when it was put.
    pub(super) fn touch(&mut self, hash: u64, record: &Record) {
        if let Some(slot) = self.table.find(hash, record.key.as_bytes()) {
            let (received, put) = (record.received, record.put.unwrap_or_default());
            self.table.change(slot, |value| (value.received, value.put) = (received, put));
        }
    }

    /// Removes a value; with `over` its sequence number is remembered there, since other nodes may hold copies.
    pub(super) fn forget(&mut self, hash: u64, key: &RecordKey, over: Option<&mut Sequences>) {
        if let Some(slot) = self.table.find(hash, key.as_bytes()) {
            self.remove(slot, over);
        }
    }

    /// Removes up to `limit` values that have expired at `now`.
    pub(super) fn expire(&mut self, now: Timestamp, limit: usize, over: &mut Sequences) -> usize {
        for taken in 0..limit {
            let Some(slot) = self.table.expired(now) else { return taken };
            self.remove(slot, Some(over));
        }
        limit
    }

    /// Makes values that expire after `latest` expire at `latest`, and dates those put after `now` at `now`.
    pub(super) fn cut(&mut self, now: Timestamp, latest: Timestamp) {
        self.table.change_all(|value| {
            (value.expires, value.put) = (value.expires.min(latest), value.put.min(now));
        });
    }

    pub(super) fn table(&self) -> &Table<StoredValue> {
        &self.table
    }

    pub(super) fn table_mut(&mut self) -> &mut Table<StoredValue> {
        &mut self.table
    }

    fn remove(&mut self, slot: Slot, over: Option<&mut Sequences>) {
        let Some(known) = self.ranked(slot) else { return };
        let Ok(()) = update_accounts(&mut PoolAccounts(self), slot, Some(&known.cost), None);
        if let (Some(value), Some(over)) = (self.table.remove(slot), over)
            && value.has(SEQUENCE)
            && let Some(left) = tombstone::of_record(&value.copied())
        {
            over.remember(value.hash, left);
        }
    }
}

impl Pool for ValueTable {
    type Id = Slot;

    fn ledger(&mut self) -> &mut Ledger<Slot> {
        &mut self.ledger
    }

    fn ledger_ref(&self) -> &Ledger<Slot> {
        &self.ledger
    }

    fn ranked(&self, id: Slot) -> Option<Ranked<Slot>> {
        self.table.get(id).map(|value| Ranked { id, rank: value.hash, cost: value.cost() })
    }

    fn note(&mut self, id: Slot, cost: &Cost) {
        if let Some(value) = self.table.get_mut(id) {
            value.note(cost);
        }
    }

    fn all(&self) -> Vec<Ranked<Slot>> {
        self.table.iter().filter_map(|(slot, _)| self.ranked(slot)).collect()
    }
}

impl Row for StoredValue {
    type Name = [u8];

    fn hash(&self) -> u64 {
        self.hash
    }

    fn has_name(&self, key: &[u8]) -> bool {
        self.key() == key
    }

    fn head(&self) -> Option<u64> {
        Some(self.head)
    }

    fn expires(&self) -> Option<Timestamp> {
        self.has(EXPIRES).then_some(self.expires)
    }
}

impl StoredValue {
    fn new(hash: u64, head: u64, record: Record, cost: &Cost) -> StoredValue {
        let (key, value) = (record.key.as_bytes(), &record.value[..]);
        let flag = |set, flag| if set { flag } else { 0 };
        let is_rare = record.publisher.is_some() || record.announced.is_some() || record.superseded;
        let Record { publisher, announced, superseded, .. } = record;
        StoredValue {
            data: [key, value].concat().into_boxed_slice(),
            hash,
            head,
            received: record.received,
            expires: record.expires.unwrap_or_default(),
            put: record.put.unwrap_or_default(),
            sequence: record.sequence.unwrap_or_default(),
            account: cost.account,
            first: cost.first,
            rare: is_rare.then(|| Box::new(Rare { publisher, announced, superseded })),
            since: Since::of(cost),
            // At most `MAX_KEY_LEN`.
            key_len: key.len() as u16,
            flags: flag(record.expires.is_some(), EXPIRES)
                | flag(record.claimed, CLAIMED)
                | flag(record.sequence.is_some(), SEQUENCE)
                | flag(cost.several, SEVERAL)
                | flag(record.put.is_some(), PUT),
        }
    }

    fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    fn key(&self) -> &[u8] {
        &self.data[..self.key_len.into()]
    }

    fn value(&self) -> &[u8] {
        &self.data[self.key_len.into()..]
    }

    /// The record, with this key, which is its own.
    fn record(&self, key: RecordKey) -> Record {
        let rare = self.rare.as_deref();
        Record {
            key,
            value: Bytes::copy_from_slice(self.value()),
            publisher: rare.and_then(|rare| rare.publisher),
            expires: self.expires(),
            claimed: self.has(CLAIMED),
            put: self.has(PUT).then_some(self.put),
            received: self.received,
            own: false,
            announced: rare.and_then(|rare| rare.announced),
            superseded: rare.is_some_and(|rare| rare.superseded),
            sequence: self.has(SEQUENCE).then_some(self.sequence),
        }
    }

    /// A copy of the record.
    pub(super) fn copied(&self) -> Record {
        self.record(RecordKey::from(self.key()))
    }

    fn cost(&self) -> Cost {
        let cost = self.since.cost(self.account, self.data.len() as u32);
        Cost { first: self.first, several: self.has(SEVERAL), ..cost }
    }

    fn note(&mut self, cost: &Cost) {
        (self.account, self.first, self.since) = (cost.account, cost.first, Since::of(cost));
        self.flags = self.flags & !SEVERAL | if cost.several { SEVERAL } else { 0 };
    }
}
