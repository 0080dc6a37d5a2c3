//! The provider records of other peers, by key. A record names its peer by a slot of four bytes.
//!
//! A key that several records share, and a peer that provides several keys, count once. So a record that is evicted may
//! free more than it pays for, and a new one with a key and a peer of its own may evict up to eight small ones, which
//! leave room for as many.
//!
//! Knows: the bounds of provider records, and the room that the store leaves for them. Must not know: values or own
//! records.

#[cfg(test)]
mod tests;

use libp2p_identity::PeerId;

use super::config::{KEY_OVERHEAD, MemoryStoreConfig, PEER_OVERHEAD, PROVIDER_OVERHEAD};
use super::ledger::{Ledger, Pool, PoolAccounts};
use super::peers::{ProviderPeers, affordable};
use super::seed::Since;
use super::table::{Row, Slot, Table};
use crate::core::record::{ProviderRecord, RecordKey};
use crate::core::store::StoreError;
use crate::core::store::eviction::{Account, Cost, Ranked, Size, Wanted, one_too_many, update_accounts, victims};
use crate::core::time::Timestamp;

/// Maximum number of entries for which a key has space without need. Source: 80 bytes, little beside a key's own cost.
pub(super) const SPARE_ENTRIES: usize = 4;

pub(super) struct ProviderTable {
    keys: Table<ProvidedKey>,
    peers: ProviderPeers,
    /// Records are named by the slots of their key and peer.
    ledger: Ledger<(Slot, Slot)>,
    max_per_key: usize,
    max_addr_bytes: usize,
}

/// A key and its providers.
pub(super) struct ProvidedKey {
    name: Box<[u8]>,
    hash: u64,
    head: u64,
    entries: Vec<ProviderEntry>,
}

/// One provider of one key: 20 bytes.
#[derive(Clone, Copy)]
pub(super) struct ProviderEntry {
    /// In two halves, so that an entry need not begin at a multiple of eight.
    expires: [u32; 2],
    peer: Slot,
    since: Since,
    /// Cost of the addresses that it came with.
    bytes: u32,
}

impl ProviderTable {
    pub(super) fn new(config: &MemoryStoreConfig) -> ProviderTable {
        ProviderTable {
            keys: Table::new(),
            peers: ProviderPeers::new(),
            ledger: Ledger::new(config.max_providers, config.share_of_each(), PROVIDER_OVERHEAD),
            max_per_key: config.max_providers_per_key,
            max_addr_bytes: config.max_addr_bytes_per_peer,
        }
    }

    /// Sets the bytes that all provider records may take.
    pub(super) fn set_room(&mut self, bytes: u64) {
        self.ledger.set_room(bytes);
    }

    /// The bytes that all provider records take, with their keys and peers.
    pub(super) fn used(&self) -> u64 {
        self.ledger.used()
    }

    /// Evicts records until they take no more bytes than they may.
    pub(super) fn shrink(&mut self, now: Timestamp) {
        while !self.ledger.has_room(Size::default(), Size::default()) {
            let Ok(Some(goes)) = victims(&mut PoolAccounts(self), now, Wanted::Less) else { return };
            if goes.is_empty() {
                return;
            }
            for id in goes {
                if self.ledger.has_room(Size::default(), Size::default()) {
                    return;
                }
                self.remove(id);
            }
        }
    }

    /// The records of a key that have not expired.
    pub(super) fn get(&mut self, now: Timestamp, hash: u64, key: &RecordKey) -> Vec<ProviderRecord> {
        let Some(provided) = self.keys.find(hash, key.as_bytes()).and_then(|slot| self.keys.get(slot)) else {
            return Vec::new();
        };
        let mut found = Vec::with_capacity(provided.entries.len());
        for entry in provided.entries.iter().filter(|entry| entry.expires() > now) {
            self.peers.drop_expired_addrs(entry.peer, now);
            found.extend(entry.record(key, &self.peers));
        }
        found
    }

    /// Stores `record`, whose key's length was checked, for the peer with this hash.
    pub(super) fn keep(
        &mut self,
        now: Timestamp,
        hash: u64,
        record: &ProviderRecord,
        of_peer: u64,
        near: bool,
        account: impl FnOnce() -> Account,
    ) -> Result<(), StoreError> {
        let (id, name) = (record.provider.peer(), record.key.as_bytes());
        let (count, addr_bytes) = affordable(record.provider.raw_addrs(), self.max_addr_bytes);
        let size = Size { records: 1, bytes: addr_bytes.into() };
        let (key, peer) = loop {
            let (key, peer) = (self.keys.find(hash, name), self.peers.find(of_peer, id));
            self.count_shared(key.is_none(), peer.is_none());
            let has_room = self.ledger.has_room(size, Size::default());
            self.count_shared(false, false);
            if has_room || self.expire(now, 1) == 0 {
                break (key, peer);
            }
        };
        let account = peer.and_then(|peer| self.peers.get(peer)).map_or_else(account, |peer| peer.account);
        let known = key.zip(peer).and_then(|id| self.ranked(id));
        let after = match &known {
            // A record without addresses does not clear the known ones, so it still pays for them.
            Some(known) if count == 0 => Cost { near, ..known.cost },
            Some(known) => Cost { near, bytes: addr_bytes, ..known.cost },
            None => Cost::new(account, addr_bytes, now, near),
        };
        let rank = rank(hash, of_peer);
        // A provider of the same key that it replaces, if the key has the maximum of providers.
        let gives_way = if known.is_none() { self.one_too_many(now, hash, name, (account, rank))? } else { None };
        let wanted = match known.as_ref().or(gives_way.as_ref()) {
            Some(known) => Wanted::Update(known.id, &known.cost, &after),
            None => Wanted::New(rank, &after),
        };
        self.count_shared(key.is_none(), peer.is_none());
        let Ok(goes) = victims(&mut PoolAccounts(self), now, wanted);
        self.count_shared(false, false);
        let goes = goes.ok_or(StoreError::Full)?.into_iter().chain(gives_way.map(|record| record.id));
        for id in goes {
            self.remove(id);
        }
        let (key, peer) = match &known {
            Some(known) => known.id,
            None => self.insert(hash, record, of_peer, &after)?,
        };
        if let Some(known) = &known {
            self.keys.change(key, |provided| provided.renew(peer, record.expires));
            self.peers.add_record(peer, after.bytes);
            self.peers.drop_record(peer, known.cost.bytes);
        }
        self.count_shared(false, false);
        let Ok(()) =
            update_accounts(&mut PoolAccounts(self), (key, peer), known.map(|known| known.cost).as_ref(), Some(&after));
        self.peers.take_addrs(peer, record.provider.raw_addrs().take(count), addr_bytes, record.addrs_expire);
        Ok(())
    }

    pub(super) fn forget(&mut self, hash: u64, key: &RecordKey, of_peer: u64, id: &PeerId) {
        if let (Some(key), Some(peer)) = (self.keys.find(hash, key.as_bytes()), self.peers.find(of_peer, id)) {
            self.remove((key, peer));
        }
    }

    /// Removes up to `limit` records that have expired at `now`.
    pub(super) fn expire(&mut self, now: Timestamp, limit: usize) -> usize {
        for taken in 0..limit {
            let Some(key) = self.keys.expired(now) else { return taken };
            self.remove_expired(now, key);
        }
        limit
    }

    /// Makes records that expire after `latest` expire at `latest`.
    pub(super) fn cut(&mut self, latest: Timestamp) {
        self.keys.change_all(|provided| {
            provided.entries.iter_mut().for_each(|entry| entry.expires = halves(entry.expires().min(latest)));
        });
    }

    pub(super) fn keys(&self) -> &Table<ProvidedKey> {
        &self.keys
    }

    /// The records of each key as they are kept, in order of the keys' places, from this head on.
    pub(super) fn from(&mut self, head: u64) -> impl Iterator<Item = (u64, Vec<ProviderRecord>)> {
        self.keys.from(head).map(|(head, provided)| {
            let key = RecordKey::from(&provided.name[..]);
            (head, provided.entries.iter().filter_map(|entry| entry.record(&key, &self.peers)).collect())
        })
    }

    pub(super) fn len(&self) -> usize {
        self.ledger.total().records as usize
    }

    /// Counts the keys and the peers, with a new one of each that needs room.
    fn count_shared(&mut self, new_key: bool, new_peer: bool) {
        let keys = (self.keys.len() + usize::from(new_key)) as u64 * KEY_OVERHEAD as u64;
        let peers = (self.peers.len() + usize::from(new_peer)) as u64 * PEER_OVERHEAD as u64;
        self.ledger.set_shared(keys + peers);
    }

    /// The provider of a key to evict if there is one too many with the new one; an error if it is the new one.
    fn one_too_many(
        &mut self,
        now: Timestamp,
        hash: u64,
        name: &[u8],
        new: (Account, u64),
    ) -> Result<Option<Ranked<(Slot, Slot)>>, StoreError> {
        let full = |provided: &&ProvidedKey| provided.entries.len() >= self.max_per_key;
        let Some(key) = self.keys.find(hash, name).filter(|key| self.keys.get(*key).as_ref().is_some_and(full)) else {
            return if self.max_per_key == 0 { Err(StoreError::Full) } else { Ok(None) };
        };
        if self.remove_expired(now, key) {
            return Ok(None);
        }
        let entries = self.keys.get(key).map_or(&[][..], |provided| &provided.entries);
        let kept: Vec<_> = entries.iter().filter_map(|entry| self.ranked((key, entry.peer))).collect();
        let all = kept.iter().map(|record| (record.cost.account, record.rank)).chain([new]);
        one_too_many(all).and_then(|at| kept.get(at).copied()).map(Some).ok_or(StoreError::Full)
    }

    /// Adds a record for which there is space. Its key and its peer may be known.
    fn insert(
        &mut self,
        hash: u64,
        record: &ProviderRecord,
        of_peer: u64,
        new: &Cost,
    ) -> Result<(Slot, Slot), StoreError> {
        let peer = match self.peers.find(of_peer, record.provider.peer()) {
            Some(peer) => peer,
            None => self.peers.enter(of_peer, &record.provider, new.account)?,
        };
        let entry = ProviderEntry { expires: halves(record.expires), peer, since: Since::of(new), bytes: new.bytes };
        self.peers.add_record(peer, new.bytes);
        let key = match self.keys.find(hash, record.key.as_bytes()) {
            Some(key) => key,
            None => {
                let (name, head) = (Box::from(record.key.as_bytes()), record.key.key().head());
                return Ok((self.keys.insert(ProvidedKey { name, hash, head, entries: vec![entry] })?, peer));
            }
        };
        self.keys.change(key, |provided| {
            if provided.entries.len() == provided.entries.capacity() {
                // Doubling would waste as much memory as most of the records take.
                provided.entries.reserve_exact(provided.entries.len().clamp(1, SPARE_ENTRIES));
            }
            provided.entries.push(entry);
        });
        Ok((key, peer))
    }

    /// Removes a record of this key that has expired at `now`, if there is one.
    fn remove_expired(&mut self, now: Timestamp, key: Slot) -> bool {
        let entries = self.keys.get(key).map_or(&[][..], |provided| &provided.entries);
        let Some(peer) = entries.iter().find(|entry| entry.expires() <= now).map(|entry| entry.peer) else {
            return false;
        };
        self.remove((key, peer));
        true
    }

    /// Removes a record, and its key and its peer with their last one.
    fn remove(&mut self, (key, peer): (Slot, Slot)) {
        let Some(record) = self.ranked((key, peer)) else { return };
        let Ok(()) = update_accounts(&mut PoolAccounts(self), record.id, Some(&record.cost), None);
        let left = self.keys.change(key, |provided| {
            provided.entries.retain(|entry| entry.peer != peer);
            if provided.entries.capacity() > provided.entries.len() + SPARE_ENTRIES {
                provided.entries.shrink_to_fit();
            }
            provided.entries.len()
        });
        if left == Some(0) {
            self.keys.remove(key);
        }
        self.peers.drop_record(peer, record.cost.bytes);
        self.count_shared(false, false);
    }
}

/// The rank of a record, from the hashes of its key and of its provider, which are secret.
fn rank(key: u64, peer: u64) -> u64 {
    let mixed = (key ^ peer.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ (mixed >> 32)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

impl Pool for ProviderTable {
    type Id = (Slot, Slot);

    fn ledger(&mut self) -> &mut Ledger<Self::Id> {
        &mut self.ledger
    }

    fn ledger_ref(&self) -> &Ledger<Self::Id> {
        &self.ledger
    }

    fn ranked(&self, id: Self::Id) -> Option<Ranked<Self::Id>> {
        let (provided, peer) = (self.keys.get(id.0)?, self.peers.get(id.1)?);
        let entry = provided.entries.iter().find(|entry| entry.peer == id.1)?;
        let cost = entry.since.cost(peer.account, entry.bytes);
        Some(Ranked { id, rank: rank(provided.hash, peer.hash()), cost })
    }

    fn note(&mut self, (key, peer): Self::Id, cost: &Cost) {
        let provided = self.keys.get_mut(key);
        if let Some(entry) = provided.and_then(|provided| provided.entries.iter_mut().find(|entry| entry.peer == peer))
        {
            (entry.since, entry.bytes) = (Since::of(cost), cost.bytes);
        }
    }

    fn all(&self) -> Vec<Ranked<Self::Id>> {
        let ids =
            self.keys.iter().flat_map(|(key, provided)| provided.entries.iter().map(move |entry| (key, entry.peer)));
        ids.filter_map(|id| self.ranked(id)).collect()
    }
}

impl Row for ProvidedKey {
    type Name = [u8];

    fn hash(&self) -> u64 {
        self.hash
    }

    fn has_name(&self, key: &[u8]) -> bool {
        self.name[..] == *key
    }

    fn head(&self) -> Option<u64> {
        Some(self.head)
    }

    fn expires(&self) -> Option<Timestamp> {
        self.entries.iter().map(ProviderEntry::expires).min()
    }
}

impl ProvidedKey {
    fn renew(&mut self, peer: Slot, expires: Timestamp) {
        let known = self.entries.iter_mut().filter(|entry| entry.peer == peer);
        known.for_each(|entry| entry.expires = halves(expires));
    }
}

impl ProviderEntry {
    fn expires(&self) -> Timestamp {
        Timestamp::from_micros((u64::from(self.expires[0]) << 32) | u64::from(self.expires[1]))
    }

    fn record(&self, key: &RecordKey, peers: &ProviderPeers) -> Option<ProviderRecord> {
        let (contact, addrs_expire) = peers.get(self.peer)?.kept();
        Some(ProviderRecord::new(key.clone(), contact, self.expires(), addrs_expire))
    }
}

fn halves(at: Timestamp) -> [u32; 2] {
    let micros = at.as_micros();
    [(micros >> 32) as u32, micros as u32]
}
