//! The default store: slabs in memory with a hashed index. It is bounded, and every operation ends at once.
//!
//! Knows: its bounds. Must not know: this node, the network, why a record is kept, or which one is evicted at a bound
//! (`eviction`). It copies the bytes that remote peers send, since a part of a message keeps the whole message alive.

mod config;
mod ledger;
mod own_items;
mod peers;
mod providers;
mod seed;
mod sequences;
mod table;
#[cfg(test)]
mod tests;
mod values;

use std::fmt;
use std::iter::Peekable;

pub use config::MemoryStoreConfig;

use self::config::{KEY_OVERHEAD, PEER_OVERHEAD, PROVIDER_OVERHEAD, VALUE_OVERHEAD};
use self::own_items::OwnItems;
use self::providers::ProviderTable;
use self::seed::Seed;
use self::sequences::Sequences;
use self::values::ValueTable;
use super::eviction::Cost;
use super::tombstone::of_record;
use super::{
    Done, Item, Op, OpOutput, Put, Scan, Sender, Store, StoreError, Ticket, Usage, touch_provider, touch_value,
};
use crate::core::config::{MAX_KEY_LEN, MAX_PROVIDER_KEY_LEN};
use crate::core::key::Key;
use crate::core::record::{ProviderRecord, Record, RecordKey};
use crate::core::time::Timestamp;

/// Keeps records in memory, within the bounds of a [`MemoryStoreConfig`], until the process ends.
///
/// Every operation ends at once, and none ever ends as `Failed`.
/// With the default bounds, remote peers can make it hold at most 24 MiB, see [`MemoryStoreConfig::memory_bound`].
///
/// # Eviction
///
/// At a bound, expired records are removed first, then [the rule of eviction](super::eviction) decides: each sender
/// pays for its records, and the one with the most loses some. A new record that would itself be the first to go is
/// refused with [`StoreError::Full`], which changes nothing. A new version of a stored record is always accepted; if it
/// exceeds a bound, later writes make up for that.
///
/// * **Bytes**: one bound for values and provider records together, with what the store needs to find and to evict
///   them. A full store evicts among the records of the kind that it was given, unless the other kind takes more than
///   half: then it evicts of that one.
/// * **Values** and **provider records**: bounded in number. All records of a peer are paid by the group from which the
///   first of them came.
/// * **Providers of one key**: one of the IP group with the most of them is evicted, where groups count, else a random
///   one, so that of n each is kept with probability
///   [`max_providers_per_key`](MemoryStoreConfig::max_providers_per_key) / n.
/// * **Sequence numbers of expired values**: 16,384, of which those that end first are evicted first.
///
/// Own records do not count and are never evicted. A value's length is bounded for them too.
pub struct MemoryStore {
    config: MemoryStoreConfig,
    seed: Seed,
    values: ValueTable,
    providers: ProviderTable,
    own: OwnItems,
    over: Sequences,
    /// No record of another peer expires later.
    last_expiry: Timestamp,
}

impl MemoryStore {
    /// An empty store.
    ///
    /// `seed` decides which records are evicted. It has to be random and secret: with it, peer ids and keys can be made
    /// that are always kept.
    pub fn new(config: MemoryStoreConfig, seed: [u8; 32]) -> MemoryStore {
        MemoryStore {
            values: ValueTable::new(&config),
            providers: ProviderTable::new(&config),
            config,
            seed: Seed::new(seed),
            own: OwnItems::new(),
            over: Sequences::default(),
            last_expiry: Timestamp::ZERO,
        }
    }

    /// The bounds of this store.
    pub fn config(&self) -> &MemoryStoreConfig {
        &self.config
    }

    /// The value under a key, own or remote, expired or not.
    fn value(&self, hash: u64, key: RecordKey) -> Option<Record> {
        self.own.value(hash, &key).cloned().or_else(|| self.values.get(hash, key))
    }

    fn put_value(&mut self, now: Timestamp, put: Put) -> Done {
        let Put { record, judge, from } = put;
        let bytes = record.key.as_bytes().len() + record.value.len();
        if record.key.as_bytes().len() > MAX_KEY_LEN || record.value.len() > self.config.max_value_len {
            return Err(StoreError::TooLarge);
        }
        let hash = self.seed.of_key(record.key.as_bytes());
        let known = self.own.value(hash, &record.key).is_some() || self.values.has(hash, &record.key);
        let old = if known { self.value(hash, record.key.clone()) } else { None };
        let over = old.as_ref().filter(|old| old.is_expired(now));
        let remembered = self.over.get(now, hash).max(over.and_then(|old| old.sequence));
        let judged = judge.decide(now, old.as_ref(), remembered, record)?;
        if over.is_some() {
            // It was not removed yet: its sequence number has to be remembered.
            self.forget_value(hash, &judged.record.key);
        }
        if judged.record.own {
            self.own.keep(hash, Item::Value(judged.record))?;
            if let Some(old) = old {
                self.values.forget(hash, &old.key, None);
            }
        } else {
            let (by, near) = (self.seed.account(from.as_ref()), from.is_some_and(|from| from.near));
            let new = Cost::new(by, u32::try_from(bytes).unwrap_or(u32::MAX), now, near);
            self.last_expiry = self.last_expiry.max(judged.record.expires.unwrap_or_default());
            self.keep_remote(now, hash, judged.record, new)?;
            if let Some(old) = old {
                self.own.take(hash, &old.key, None);
            }
        }
        Ok(OpOutput::Kept { superseded: judged.superseded })
    }

    /// Keeps a value of another peer. Provider records give way to it where they take more than their share.
    fn keep_remote(&mut self, now: Timestamp, hash: u64, record: Record, new: Cost) -> Result<(), StoreError> {
        let needed = new.bytes as usize + VALUE_OVERHEAD;
        while !self.has_room(needed) && self.providers.expire(now, 1) > 0 {}
        self.values.set_room(self.room_beside(self.providers.used()));
        self.values.keep(now, hash, record, new, &mut self.over)?;
        self.providers.set_room(self.room_beside(self.values.used()));
        self.providers.shrink(now);
        Ok(())
    }

    /// Whether there is room for this many bytes more, so that nothing has to be evicted.
    fn has_room(&self, bytes: usize) -> bool {
        let used = self.values.used().saturating_add(self.providers.used());
        used.saturating_add(bytes as u64) <= self.config.max_bytes as u64
    }

    /// The bytes that one kind of records may take while the other takes these.
    fn room_beside(&self, other: u64) -> u64 {
        (self.config.max_bytes as u64).saturating_sub(other).max(self.config.share_of_each())
    }

    /// Removes a value but remembers its sequence number, since other nodes may hold copies.
    fn forget_value(&mut self, hash: u64, key: &RecordKey) {
        self.values.forget(hash, key, Some(&mut self.over));
        if let Some(own) = self.own.take(hash, key, None) {
            self.remember(&own);
        }
    }

    fn remember(&mut self, item: &Item) {
        if let Item::Value(record) = item
            && let Some(left) = of_record(record)
        {
            self.over.remember(self.seed.of_key(record.key.as_bytes()), left);
        }
    }

    fn keep_provider(&mut self, now: Timestamp, record: ProviderRecord, from: Option<Sender>) -> Done {
        if record.key.as_bytes().len() > MAX_PROVIDER_KEY_LEN {
            return Err(StoreError::TooLarge);
        }
        let (hash, key, peer) = (self.seed.of_key(record.key.as_bytes()), record.key.clone(), *record.provider.peer());
        let of_peer = self.seed.of_peer(&peer);
        if record.own {
            self.own.keep(hash, Item::Provider(record))?;
            self.providers.forget(hash, &key, of_peer, &peer);
        } else {
            let from = from.unwrap_or_else(|| Sender::new(peer));
            self.last_expiry = self.last_expiry.max(record.expires);
            let needed = PROVIDER_OVERHEAD + KEY_OVERHEAD + PEER_OVERHEAD + self.config.max_addr_bytes_per_peer;
            while !self.has_room(needed) && self.values.expire(now, 1, &mut self.over) > 0 {}
            self.providers.set_room(self.room_beside(self.values.used()));
            self.providers.keep(now, hash, &record, of_peer, from.near, || self.seed.account(Some(&from)))?;
            self.values.set_room(self.room_beside(self.providers.used()));
            self.values.shrink(now, &mut self.over);
            self.own.take(hash, &key, Some(&peer));
        }
        Ok(OpOutput::Kept { superseded: false })
    }

    fn touch(&mut self, now: Timestamp, item: &Item, at: Timestamp) -> Done {
        let (hash, key) = (self.seed.of_key(item.key().as_bytes()), item.key());
        match item {
            Item::Value(read) => {
                let kept = self.value(hash, key.clone()).filter(|kept| !kept.is_expired(now));
                if let Some(mut kept) = kept.filter(|kept| kept.own == read.own)
                    && touch_value(&mut kept, read, at)
                {
                    self.values.touch(hash, &kept);
                    if kept.own {
                        self.own.keep(hash, Item::Value(kept))?;
                    }
                }
            }
            Item::Provider(read) => {
                let mut kept = self.own.providers(hash, key).filter(|kept| !kept.is_expired(now)).cloned();
                let mine = kept.find(|kept| kept.provider.peer() == read.provider.peer());
                drop(kept);
                if let Some(mut kept) = mine
                    && touch_provider(&mut kept, read, at)
                {
                    self.own.keep(hash, Item::Provider(kept))?;
                }
            }
        }
        Ok(OpOutput::Nothing)
    }

    fn providers_of(&mut self, now: Timestamp, key: &RecordKey) -> Vec<ProviderRecord> {
        let hash = self.seed.of_key(key.as_bytes());
        let mut found = self.providers.get(now, hash, key);
        for record in self.own.providers(hash, key).filter(|record| !record.is_expired(now)) {
            let mut record = record.clone();
            if record.addrs_expire <= now {
                record.provider = record.provider.with_addrs([]);
            }
            found.push(record);
        }
        found
    }

    /// Makes records that expire after `latest` expire at `latest`: they were stored while the clock was ahead. That is
    /// rare, so one call goes through all records.
    fn cut(&mut self, now: Timestamp, latest: Timestamp) {
        if self.last_expiry > latest {
            self.values.cut(now, latest);
            self.providers.cut(latest);
            self.last_expiry = latest;
        }
    }

    fn forget_expired(&mut self, now: Timestamp, limit: usize) -> usize {
        let mut taken = self.values.expire(now, limit, &mut self.over);
        while taken < limit
            && let Some(own) = self.own.take_expired(now)
        {
            self.remember(&own);
            taken += 1;
        }
        taken + self.providers.expire(now, limit - taken)
    }

    fn page(&mut self, what: Scan, after: Option<&Key>, limit: usize) -> Vec<Item> {
        let from = after.map_or(0, Key::head);
        let values = self.values.table_mut().from(from).map(|(head, value)| (head, vec![Item::Value(value.copied())]));
        let providers =
            self.providers.from(from).map(|(head, all)| (head, all.into_iter().map(Item::Provider).collect()));
        let own = self.own.table_mut().from(from).map(|(head, own)| (head, own.items().to_vec()));
        let mut sources = Vec::<Peekable<Box<dyn Iterator<Item = (u64, Vec<Item>)> + '_>>>::new();
        if what != Scan::Own {
            sources.push((Box::new(values) as Box<dyn Iterator<Item = _>>).peekable());
        }
        if what == Scan::All {
            sources.push((Box::new(providers) as Box<dyn Iterator<Item = _>>).peekable());
        }
        sources.push((Box::new(own) as Box<dyn Iterator<Item = _>>).peekable());
        let mut page = Vec::new();
        while page.len() < limit
            && let Some(head) = sources.iter_mut().filter_map(|source| source.peek().map(|(head, _)| *head)).min()
        {
            let mut here = Vec::new();
            for source in &mut sources {
                while let Some((_, items)) = source.next_if(|(other, _)| *other == head) {
                    here.extend(items.into_iter().filter(|item| what.wants(item)));
                }
            }
            if head == from {
                here.retain(|item| after.is_none_or(|after| item.key().key() > *after));
            }
            if here.iter().any(|item| item.key() != here[0].key()) {
                here.sort_by_cached_key(|item| item.key().key());
            }
            page.append(&mut here);
        }
        page
    }
}

impl fmt::Debug for MemoryStore {
    /// The numbers of records; never the seed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").field("usage", &self.usage()).finish_non_exhaustive()
    }
}

impl Store for MemoryStore {
    fn run(&mut self, now: Timestamp, _: Ticket, op: Op) -> Option<Done> {
        Some(match op {
            Op::Get(key) => {
                let found = self.value(self.seed.of_key(key.as_bytes()), key);
                Ok(OpOutput::Value(found.filter(|record| !record.is_expired(now))))
            }
            Op::Put(put) => self.put_value(now, *put),
            Op::Touch(item, at) => self.touch(now, &item, at),
            Op::Remove(key) => {
                self.forget_value(self.seed.of_key(key.as_bytes()), &key);
                Ok(OpOutput::Nothing)
            }
            Op::Providers(key) => Ok(OpOutput::Providers(self.providers_of(now, &key))),
            Op::AddProvider(record, from) => self.keep_provider(now, *record, from),
            Op::RemoveProvider(key, provider) => {
                let hash = self.seed.of_key(key.as_bytes());
                self.providers.forget(hash, &key, self.seed.of_peer(&provider), &provider);
                self.own.take(hash, &key, Some(&provider));
                Ok(OpOutput::Nothing)
            }
            Op::Scan { what, after, limit } => Ok(OpOutput::Items(self.page(what, after.as_ref(), limit))),
            Op::SavePeers(_) => Ok(OpOutput::Nothing),
            Op::SavedPeers => Ok(OpOutput::Peers(Vec::new())),
            Op::Expire { limit, latest } => {
                self.cut(now, latest);
                Ok(OpOutput::Expired(self.forget_expired(now, limit)))
            }
        })
    }

    fn next_expiry(&self) -> Option<Timestamp> {
        let (values, providers, own) = (self.values.table(), self.providers.keys(), self.own.table());
        let first = [values.next_expiry(), providers.next_expiry(), own.next_expiry()];
        first.into_iter().flatten().min()
    }

    fn usage(&self) -> Usage {
        Usage { values: self.values.table().len(), providers: self.providers.len(), own: self.own.len() }
    }
}
