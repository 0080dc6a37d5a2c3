//! This node's own records, apart from those of others and without a bound.
//!
//! Knows: their order and expiry. Must not know: remote records. Their number is up to the application.

use libp2p_identity::PeerId;

use super::table::{Row, Slot, Table};
use crate::core::record::{ProviderRecord, Record, RecordKey};
use crate::core::store::{Item, StoreError};
use crate::core::time::Timestamp;

pub(super) struct OwnItems {
    keys: Table<PublishedKey>,
    count: usize,
}

/// This node's own records under one key.
pub(super) struct PublishedKey {
    hash: u64,
    head: u64,
    items: Vec<Item>,
}

impl OwnItems {
    pub(super) fn new() -> OwnItems {
        OwnItems { keys: Table::new(), count: 0 }
    }

    pub(super) fn keep(&mut self, hash: u64, item: Item) -> Result<(), StoreError> {
        self.take(hash, item.key(), provider(&item));
        match self.keys.find(hash, item.key()) {
            Some(slot) => drop(self.keys.change(slot, |kept| kept.items.push(item))),
            None => drop(self.keys.insert(PublishedKey { hash, head: item.key().key().head(), items: vec![item] })?),
        }
        self.count += 1;
        Ok(())
    }

    pub(super) fn value(&self, hash: u64, key: &RecordKey) -> Option<&Record> {
        self.items(hash, key).iter().find_map(|item| if let Item::Value(record) = item { Some(record) } else { None })
    }

    /// The provider records of a key, expired or not.
    pub(super) fn providers(&self, hash: u64, key: &RecordKey) -> impl Iterator<Item = &ProviderRecord> {
        let items = self.items(hash, key).iter();
        items.filter_map(|item| if let Item::Provider(record) = item { Some(record) } else { None })
    }

    /// Takes out the value of a key, or the record of this provider.
    pub(super) fn take(&mut self, hash: u64, key: &RecordKey, of: Option<&PeerId>) -> Option<Item> {
        let slot = self.keys.find(hash, key)?;
        self.take_first(slot, |item| provider(item) == of)
    }

    /// Takes out one that has expired at `now`.
    pub(super) fn take_expired(&mut self, now: Timestamp) -> Option<Item> {
        let slot = self.keys.expired(now)?;
        self.take_first(slot, |item| item.is_expired(now))
    }

    pub(super) fn table(&self) -> &Table<PublishedKey> {
        &self.keys
    }

    pub(super) fn table_mut(&mut self) -> &mut Table<PublishedKey> {
        &mut self.keys
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    fn items(&self, hash: u64, key: &RecordKey) -> &[Item] {
        let slot = if self.keys.len() == 0 { None } else { self.keys.find(hash, key) };
        slot.and_then(|slot| self.keys.get(slot)).map_or(&[], |kept| &kept.items)
    }

    fn take_first(&mut self, slot: Slot, goes: impl Fn(&Item) -> bool) -> Option<Item> {
        let at = self.keys.get(slot)?.items.iter().position(goes)?;
        let item = self.keys.change(slot, |kept| kept.items.swap_remove(at));
        self.count -= 1;
        if self.keys.get(slot)?.items.is_empty() {
            self.keys.remove(slot);
        }
        item
    }
}

impl PublishedKey {
    pub(super) fn items(&self) -> &[Item] {
        &self.items
    }
}

impl Row for PublishedKey {
    type Name = RecordKey;

    fn hash(&self) -> u64 {
        self.hash
    }

    fn has_name(&self, key: &RecordKey) -> bool {
        self.items.first().is_some_and(|item| item.key() == key)
    }

    fn head(&self) -> Option<u64> {
        Some(self.head)
    }

    fn expires(&self) -> Option<Timestamp> {
        let ends = self.items.iter().filter_map(|item| match item {
            Item::Value(record) => record.expires,
            Item::Provider(record) => Some(record.expires),
        });
        ends.min()
    }
}

/// The provider of a provider record; `None` for a value.
fn provider(item: &Item) -> Option<&PeerId> {
    match item {
        Item::Value(_) => None,
        Item::Provider(record) => Some(record.provider.peer()),
    }
}
