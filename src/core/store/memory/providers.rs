//! The remote provider records of a memory store: by key, by expiry, and by how many a key has.
//!
//! Knows: how to keep, find and drop them. Must not know: values, own records, or who gives way to whom (`room`). The
//! place stands for the key: it is its SHA-256. Each key is kept once and named by four bytes, as each peer is.

mod room;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use libp2p_identity::PeerId;

use super::config::MemoryStoreConfig;
use super::peers::{Moved, Peers, Slot, id_bytes};
use crate::core::contact::Contact;
use crate::core::key::Key;
use crate::core::record::{ProviderRecord, RecordKey};
use crate::core::store::StoreError;
use crate::core::store::lots::Lots;
use crate::core::time::Timestamp;

/// Where a key is in the table.
pub(super) type KeySlot = u32;

#[derive(Default)]
pub(super) struct Providers {
    places: BTreeMap<Key, KeySlot>,
    keys: Vec<Option<Provided>>,
    free: Vec<KeySlot>,
    /// One entry for each key: when the first of its records is over.
    expiry: BTreeSet<(Timestamp, KeySlot)>,
    /// One entry for each key: how many records it has, and its lot.
    sizes: BTreeSet<(u32, u32, KeySlot)>,
    peers: Peers,
    records: usize,
}

/// A key and its providers.
pub(super) struct Provided {
    place: Key,
    name: RecordKey,
    /// First that of the peer to whom the key is charged.
    entries: Vec<Entry>,
    lot: u32,
}

/// One provider of one key: 20 bytes.
pub(super) struct Entry {
    /// In two halves, since a whole one would make the entry a multiple of eight bytes long.
    expires: [u32; 2],
    /// Of too many providers of this key those with the lowest stay.
    lot: u32,
    peer: Slot,
    /// Where the key is in the peer's list.
    at: u32,
}

impl Providers {
    pub(super) fn get(&mut self, now: Timestamp, place: &Key) -> Vec<ProviderRecord> {
        let Some(provided) = self.places.get(place).and_then(|key| self.keys[*key as usize].as_ref()) else {
            return Vec::new();
        };
        let current = provided.entries.iter().filter(|entry| entry.expires() > now);
        current.filter_map(|entry| Some(entry.record(&provided.name, self.peers.current(entry.peer, now)?))).collect()
    }

    /// Keeps `record`, whose key's length is checked already.
    pub(super) fn add(
        &mut self,
        now: Timestamp,
        place: Key,
        record: &ProviderRecord,
        lots: &Lots,
        config: &MemoryStoreConfig,
    ) -> Result<(), StoreError> {
        let id = record.provider.peer();
        let (mut key, mut peer) = (self.places.get(&place).copied(), self.peers.slot(id));
        let slot = match self.position(key, peer) {
            Some((key, index, slot)) => {
                self.renew(key, index, record.expires);
                slot
            }
            None => {
                let lot = lots.of_record(&place, &id_bytes(id));
                if !self.has_room(key, peer, config) {
                    self.make_room(now, &place, id, lot, lots, config)?;
                    // What gave way may have been the last of either.
                    (key, peer) = (self.places.get(&place).copied(), self.peers.slot(id));
                }
                self.insert(place, record, (key, peer), lot, lots)?
            }
        };
        self.peers.take_addrs(now, slot, &record.provider, record.addrs_expire, config);
        Ok(())
    }

    pub(super) fn remove(&mut self, place: &Key, provider: &PeerId) {
        let key = self.places.get(place).copied();
        if let Some((key, index, _)) = key.and_then(|key| self.position(Some(key), self.peers.slot(provider))) {
            self.drop_entry(key, index);
        }
    }

    /// Forgets up to `limit` records that are over at `now`.
    pub(super) fn expire(&mut self, now: Timestamp, limit: usize) -> usize {
        let mut taken = 0;
        while taken < limit {
            match self.expiry.first() {
                Some((at, key)) if *at <= now => taken += self.expire_at(*key, now, limit - taken),
                _ => break,
            }
        }
        taken
    }

    pub(super) fn next_expiry(&self) -> Option<Timestamp> {
        self.expiry.first().map(|(at, _)| *at)
    }

    /// The places of all keys, from just after this one.
    pub(super) fn after(&self, place: Option<&Key>) -> impl Iterator<Item = Key> {
        self.places.range((place.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded)).map(|(place, _)| *place)
    }

    /// Those of a key as they are kept.
    pub(super) fn at(&self, place: &Key) -> impl Iterator<Item = ProviderRecord> {
        let provided = self.places.get(place).and_then(|key| self.keys[*key as usize].as_ref());
        provided.into_iter().flat_map(|provided| {
            let record = |entry: &Entry| Some(entry.record(&provided.name, self.peers.kept(entry.peer)?));
            provided.entries.iter().filter_map(record)
        })
    }

    pub(super) fn len(&self) -> usize {
        self.records
    }

    #[cfg(test)]
    pub(super) fn peers(&self) -> &Peers {
        &self.peers
    }

    /// Sees that all that is counted is so.
    #[cfg(test)]
    pub(super) fn assert_sound(&self, config: &MemoryStoreConfig) {
        let mut records = 0;
        let mut charged = BTreeMap::<Slot, usize>::new();
        for (place, key) in &self.places {
            let provided = self.key(*key).expect("a key that is named is there");
            assert_eq!(provided.place, *place);
            records += provided.entries.len();
            assert!((1..=config.max_providers_per_key).contains(&provided.entries.len()));
            let (first, count, lot) = self.tally(*key).expect("a key has records");
            assert!(self.expiry.contains(&(first, *key)) && self.sizes.contains(&(count, lot, *key)));
            for entry in &provided.entries {
                assert_eq!(self.peers.key_at(entry.peer, entry.at as usize), Some(*key), "each side names the other");
            }
            let mine = provided.entries.iter().filter(|entry| self.peers.is_charged(entry.peer, entry.at));
            let mine: Vec<_> = mine.map(|entry| entry.peer).collect();
            assert_eq!(mine, [provided.entries[0].peer], "a key is charged to one, which is the first");
            *charged.entry(mine[0]).or_default() += 1;
        }
        assert!(charged.iter().all(|(peer, count)| self.peers.charged(*peer) as usize == *count));
        assert_eq!(self.peers.most_charged().map(|(most, ..)| most as usize), charged.values().max().copied());
        assert_eq!(
            (self.records, self.expiry.len(), self.sizes.len()),
            (records, self.places.len(), self.places.len())
        );
        assert!(self.places.len() <= config.max_provided_keys && records <= config.max_providers);
        assert!(self.peers.len() <= config.max_peers);
        self.peers.assert_sound(config);
    }

    fn key(&self, key: KeySlot) -> Option<&Provided> {
        self.keys.get(key as usize)?.as_ref()
    }

    fn entries(&self, key: KeySlot) -> &[Entry] {
        self.key(key).map_or(&[], |provided| &provided.entries)
    }

    /// Where the record of this peer under this key is.
    fn position(&self, key: Option<KeySlot>, peer: Option<Slot>) -> Option<(KeySlot, usize, Slot)> {
        let (key, peer) = (key?, peer?);
        Some((key, self.entries(key).iter().position(|entry| entry.peer == peer)?, peer))
    }

    /// Whether no bound is reached, so that nothing has to give way to one more record.
    fn has_room(&self, key: Option<KeySlot>, peer: Option<Slot>, config: &MemoryStoreConfig) -> bool {
        let here = key.map_or(0, |key| self.entries(key).len());
        here < config.max_providers_per_key
            && self.records < config.max_providers
            && (key.is_some() || self.places.len() < config.max_provided_keys)
            && (peer.is_some() || self.peers.len() < config.max_peers)
    }

    fn renew(&mut self, key: KeySlot, index: usize, expires: Timestamp) {
        let before = self.tally(key);
        if let Some(provided) = self.keys[key as usize].as_mut() {
            provided.entries[index].expires = halves(expires);
        }
        self.count(key, before);
    }

    /// Adds a record for which there is room, of a key and a peer that may be known. Returns where the peer is.
    fn insert(
        &mut self,
        place: Key,
        record: &ProviderRecord,
        (key, peer): (Option<KeySlot>, Option<Slot>),
        lot: u32,
        lots: &Lots,
    ) -> Result<Slot, StoreError> {
        let key = match key {
            Some(key) => key,
            None => self.enter(place, &record.key, lots)?,
        };
        let id = record.provider.peer();
        let peer = match peer {
            Some(slot) => slot,
            None => self.peers.enter(id, lots.of_peer(&id_bytes(id)))?,
        };
        let before = self.tally(key);
        let at = self.peers.attach(peer, key);
        if let Some(provided) = self.keys[key as usize].as_mut() {
            let entries = &mut provided.entries;
            if entries.len() == entries.capacity() {
                // Doubling wastes half of what most records of the store cost.
                entries.reserve_exact(entries.len().clamp(1, 4));
            }
            entries.push(Entry { expires: halves(record.expires), lot, peer, at });
        }
        self.count(key, before);
        let last = self.entries(key).len() - 1;
        self.charge(key, last);
        Ok(peer)
    }

    /// A place for a key that has none. It has to be given a record.
    fn enter(&mut self, place: Key, name: &RecordKey, lots: &Lots) -> Result<KeySlot, StoreError> {
        let key = match self.free.pop() {
            Some(key) => key,
            None => {
                let key = KeySlot::try_from(self.keys.len()).map_err(|_| StoreError::Full)?;
                self.keys.push(None);
                key
            }
        };
        let name = RecordKey::from(name.as_bytes());
        self.keys[key as usize] = Some(Provided { place, name, entries: Vec::new(), lot: lots.of_key(&place) });
        self.places.insert(place, key);
        Ok(key)
    }

    /// Drops one record, and its key with the last one.
    fn drop_entry(&mut self, key: KeySlot, index: usize) {
        let before = self.tally(key);
        let Some(provided) = self.keys[key as usize].as_mut() else { return };
        let entry = provided.entries.swap_remove(index);
        let left = provided.entries.len();
        let moved = self.peers.detach(entry.peer, entry.at);
        self.settle(entry.peer, moved);
        self.count(key, before);
        if index == 0 && left > 0 {
            self.charge_lightest(key);
        }
        if left > 0 {
            return;
        }
        if let Some(provided) = self.keys[key as usize].take() {
            self.places.remove(&provided.place);
            self.free.push(key);
        }
    }

    fn expire_at(&mut self, key: KeySlot, now: Timestamp, limit: usize) -> usize {
        let mut taken = 0;
        while taken < limit {
            let Some(index) = self.entries(key).iter().position(|entry| entry.expires() <= now) else { break };
            self.drop_entry(key, index);
            taken += 1;
        }
        taken
    }

    /// Charges a key to that of its providers that has the fewest, where that makes a difference.
    fn charge_lightest(&mut self, key: KeySlot) {
        let lightest = self.entries(key).iter().enumerate().min_by_key(|(_, entry)| self.peers.charged(entry.peer));
        if let Some((index, _)) = lightest {
            self.charge(key, index);
        }
    }

    /// Charges a key to this one of its providers, if it is charged to nobody or to one that has more by two or more.
    fn charge(&mut self, key: KeySlot, index: usize) {
        let Some([now, to]) = self.key(key).and_then(|provided| {
            let entry = |index: usize| provided.entries.get(index).map(|entry| (entry.peer, entry.at));
            Some([entry(0)?, entry(index)?])
        }) else {
            return;
        };
        if self.peers.is_charged(now.0, now.1) {
            if self.peers.charged(to.0) + 1 >= self.peers.charged(now.0) {
                return;
            }
            let moved = self.peers.discharge(now.0, now.1);
            self.settle(now.0, moved);
        }
        let moved = self.peers.charge(to.0, to.1);
        self.settle(to.0, moved);
        if let Some(provided) = self.keys[key as usize].as_mut() {
            provided.entries.swap(0, index);
        }
    }

    /// Writes down where a peer's list has what now.
    fn settle(&mut self, peer: Slot, moved: Moved) {
        for at in moved {
            let Some(key) = self.peers.key_at(peer, at) else { continue };
            let provided = self.keys.get_mut(key as usize).and_then(Option::as_mut);
            let entry = provided.and_then(|provided| provided.entries.iter_mut().find(|entry| entry.peer == peer));
            if let Some(entry) = entry {
                entry.at = at as u32;
            }
        }
    }

    /// What is counted about a key: when its first record is over, how many there are, its lot.
    fn tally(&self, key: KeySlot) -> Option<(Timestamp, u32, u32)> {
        let provided = self.key(key)?;
        let first = provided.entries.iter().map(Entry::expires).min()?;
        Some((first, provided.entries.len() as u32, provided.lot))
    }

    /// Counts a key anew that was changed.
    fn count(&mut self, key: KeySlot, before: Option<(Timestamp, u32, u32)>) {
        let after = self.tally(key);
        let first = |tally: Option<(Timestamp, u32, u32)>| tally.map(|(first, ..)| (first, key));
        if first(before) != first(after) {
            first(before).map(|entry| self.expiry.remove(&entry));
            self.expiry.extend(first(after));
        }
        let size = |tally: Option<(Timestamp, u32, u32)>| tally.map(|(_, count, lot)| (count, lot, key));
        if size(before) != size(after) {
            size(before).map(|entry| self.sizes.remove(&entry));
            self.sizes.extend(size(after));
        }
        let count = |tally: Option<(Timestamp, u32, u32)>| tally.map_or(0, |(_, count, _)| count as usize);
        self.records = self.records + count(after) - count(before);
    }
}

impl Entry {
    fn expires(&self) -> Timestamp {
        Timestamp::from_micros((u64::from(self.expires[0]) << 32) | u64::from(self.expires[1]))
    }

    fn record(&self, name: &RecordKey, (contact, addrs_expire): (Arc<Contact>, Timestamp)) -> ProviderRecord {
        ProviderRecord::new(name.clone(), contact, self.expires(), addrs_expire)
    }
}

fn halves(at: Timestamp) -> [u32; 2] {
    let micros = at.as_micros();
    [(micros >> 32) as u32, micros as u32]
}
