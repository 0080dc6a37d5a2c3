//! The provider records of a memory store, by key and by expiry, and who gives way when a key has too many.
//!
//! Knows: the bounds of provider records. Must not know: values. The place stands for the key: it is its SHA-256.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use libp2p_identity::PeerId;
use sha2::{Digest, Sha256};

use super::config::MemoryStoreConfig;
use super::peers::{Peers, Slot};
use crate::core::contact::Contact;
use crate::core::key::Key;
use crate::core::record::{ProviderRecord, RecordKey};
use crate::core::store::StoreError;
use crate::core::time::Timestamp;

pub(super) struct Providers {
    kept: BTreeMap<Key, Provided>,
    /// One entry for each key: when the first of its records is over.
    expiry: BTreeSet<(Timestamp, Key)>,
    peers: Peers,
    seed: [u8; 32],
    /// Keys that have remote providers.
    keys: usize,
    remote: usize,
    own: usize,
}

/// A key and its providers.
pub(super) struct Provided {
    name: RecordKey,
    entries: Vec<Entry>,
}

/// One provider of one key.
pub(super) struct Entry {
    expires: Timestamp,
    /// Its lot: of too many providers those with the lowest stay.
    rank: u64,
    peer: Slot,
    own: bool,
}

/// Whether one more record is possible.
enum Room {
    Free,
    /// If this peer's record of the same key goes.
    InsteadOf(Slot),
    /// Unless something expires.
    Full,
    /// Its lot is worse than those of all that are there.
    Outdrawn,
}

impl Providers {
    pub(super) fn new(seed: [u8; 32]) -> Providers {
        Providers {
            kept: BTreeMap::new(),
            expiry: BTreeSet::new(),
            peers: Peers::default(),
            seed,
            keys: 0,
            remote: 0,
            own: 0,
        }
    }

    pub(super) fn get(&mut self, now: Timestamp, place: &Key) -> Vec<ProviderRecord> {
        let Some(provided) = self.kept.get(place) else { return Vec::new() };
        let current = provided.entries.iter().filter(|entry| entry.expires > now);
        current.filter_map(|entry| Some(entry.record(&provided.name, self.peers.current(entry.peer, now)?))).collect()
    }

    /// Keeps `record`, whose key's length is checked already.
    pub(super) fn add(
        &mut self,
        now: Timestamp,
        record: ProviderRecord,
        config: &MemoryStoreConfig,
    ) -> Result<(), StoreError> {
        let place = record.key.key();
        let rank = self.rank(&place, record.provider.peer());
        let victim = if record.own { None } else { self.make_room(now, &record, &place, rank, config)? };
        let peer = self.peers.join(now, &record.provider, record.addrs_expire, record.own, config)?;
        let entry = Entry { expires: record.expires, rank, peer, own: record.own };
        let name = || if record.own { record.key.clone() } else { RecordKey::from(record.key.as_bytes()) };
        self.kept.entry(place).or_insert_with(|| Provided { name: name(), entries: Vec::new() });
        self.update(place, |entries, peers| {
            if let Some(victim) = victim {
                drop_where(entries, peers, usize::MAX, |entry| entry.peer == victim);
            }
            drop_where(entries, peers, usize::MAX, |old| old.peer == peer);
            if entries.len() == entries.capacity() {
                // Doubling wastes half of what most records of the store cost.
                entries.reserve_exact(entries.len().clamp(1, 4));
            }
            entries.push(entry);
        });
        Ok(())
    }

    pub(super) fn remove(&mut self, place: &Key, provider: &PeerId) {
        let Some(peer) = self.peers.slot(provider) else { return };
        self.update(*place, |entries, peers| {
            drop_where(entries, peers, usize::MAX, |entry| entry.peer == peer);
        });
    }

    /// Forgets up to `limit` records that are over at `now`.
    pub(super) fn expire(&mut self, now: Timestamp, limit: usize) -> usize {
        let mut taken = 0;
        while taken < limit {
            match self.expiry.first() {
                Some((at, place)) if *at <= now => taken += self.expire_at(*place, now, limit - taken),
                _ => break,
            }
        }
        taken
    }

    pub(super) fn next_expiry(&self) -> Option<Timestamp> {
        self.expiry.first().map(|(at, _)| *at)
    }

    pub(super) fn after(
        &self,
        place: Option<&Key>,
    ) -> impl Iterator<Item = (&Key, impl Iterator<Item = ProviderRecord>)> {
        let range = self.kept.range((place.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded));
        range.map(|(place, provided)| {
            let record = |entry: &Entry| Some(entry.record(&provided.name, self.peers.kept(entry.peer)?));
            (place, provided.entries.iter().filter_map(record))
        })
    }

    pub(super) fn remote(&self) -> usize {
        self.remote
    }

    pub(super) fn own(&self) -> usize {
        self.own
    }

    #[cfg(test)]
    pub(super) fn peers(&self) -> &Peers {
        &self.peers
    }

    /// A lot that nobody can foresee without the seed, and that does not change from one announcement to the next.
    fn rank(&self, place: &Key, peer: &PeerId) -> u64 {
        let hash = Sha256::new().chain_update(self.seed).chain_update(place.to_bytes()).chain_update(peer.to_bytes());
        let digest: [u8; 32] = hash.finalize().into();
        digest.iter().take(8).fold(0, |rank, byte| (rank << 8) | u64::from(*byte))
    }

    /// Sees to it that the bounds allow one more remote record. Returns the peer whose record of this key goes for it.
    fn make_room(
        &mut self,
        now: Timestamp,
        record: &ProviderRecord,
        place: &Key,
        rank: u64,
        config: &MemoryStoreConfig,
    ) -> Result<Option<Slot>, StoreError> {
        let peer = record.provider.peer();
        if self.remote_at(place) >= config.max_providers_per_key && !self.is_remote_at(place, peer) {
            self.expire_at(*place, now, usize::MAX);
        }
        loop {
            match self.room(place, peer, rank, config) {
                Room::Free => return Ok(None),
                Room::InsteadOf(victim) => return Ok(Some(victim)),
                Room::Outdrawn => return Err(StoreError::Full),
                Room::Full if self.expire(now, 1) == 0 => return Err(StoreError::Full),
                Room::Full => {}
            }
        }
    }

    fn room(&self, place: &Key, peer: &PeerId, rank: u64, config: &MemoryStoreConfig) -> Room {
        if self.is_remote_at(place, peer) {
            return Room::Free;
        }
        let known = self.peers.slot(peer).is_some_and(|slot| self.peers.remote_records(slot) > 0);
        let one_more_peer = known || self.peers.remote() < config.max_peers;
        let here = self.remote_at(place);
        if here >= config.max_providers_per_key {
            return match self.last_at(place) {
                Some(last) if rank < last.rank => {
                    let frees_peer = self.peers.remote_records(last.peer) == 1;
                    if one_more_peer || frees_peer { Room::InsteadOf(last.peer) } else { Room::Full }
                }
                _ => Room::Outdrawn,
            };
        }
        let one_more_key = here > 0 || self.keys < config.max_provided_keys;
        if one_more_peer && one_more_key && self.remote < config.max_providers { Room::Free } else { Room::Full }
    }

    fn entries_at(&self, place: &Key) -> &[Entry] {
        self.kept.get(place).map_or(&[], |provided| &provided.entries)
    }

    fn remote_at(&self, place: &Key) -> usize {
        self.entries_at(place).iter().filter(|entry| !entry.own).count()
    }

    fn is_remote_at(&self, place: &Key, peer: &PeerId) -> bool {
        let slot = self.peers.slot(peer);
        self.entries_at(place).iter().any(|entry| !entry.own && Some(entry.peer) == slot)
    }

    /// The remote record of this key that goes first.
    fn last_at(&self, place: &Key) -> Option<&Entry> {
        self.entries_at(place).iter().filter(|entry| !entry.own).max_by_key(|entry| entry.rank)
    }

    fn expire_at(&mut self, place: Key, now: Timestamp, limit: usize) -> usize {
        let mut taken = 0;
        self.update(place, |entries, peers| taken = drop_where(entries, peers, limit, |entry| entry.expires <= now));
        taken
    }

    /// Changes the records of one key, and everything that is counted about them.
    fn update(&mut self, place: Key, change: impl FnOnce(&mut Vec<Entry>, &mut Peers)) {
        let Some(provided) = self.kept.get_mut(&place) else { return };
        let before = Tally::of(&provided.entries);
        change(&mut provided.entries, &mut self.peers);
        let after = Tally::of(&provided.entries);
        if provided.entries.is_empty() {
            self.kept.remove(&place);
        }
        if before.first != after.first {
            before.first.map(|at| self.expiry.remove(&(at, place)));
            self.expiry.extend(after.first.map(|at| (at, place)));
        }
        self.remote = self.remote + after.remote - before.remote;
        self.own = self.own + after.own - before.own;
        self.keys = self.keys + usize::from(after.remote > 0) - usize::from(before.remote > 0);
    }
}

impl Entry {
    fn record(&self, name: &RecordKey, (contact, addrs_expire): (Arc<Contact>, Timestamp)) -> ProviderRecord {
        let mut record = ProviderRecord::new(name.clone(), contact, self.expires, addrs_expire);
        record.own = self.own;
        record
    }
}

/// What is counted about the records of one key.
struct Tally {
    first: Option<Timestamp>,
    remote: usize,
    own: usize,
}

impl Tally {
    fn of(entries: &[Entry]) -> Tally {
        let own = entries.iter().filter(|entry| entry.own).count();
        Tally { first: entries.iter().map(|entry| entry.expires).min(), remote: entries.len() - own, own }
    }
}

/// Drops up to `limit` entries of this kind, and returns how many.
fn drop_where(entries: &mut Vec<Entry>, peers: &mut Peers, limit: usize, over: impl Fn(&Entry) -> bool) -> usize {
    let mut dropped = 0;
    entries.retain(|entry| {
        let goes = dropped < limit && over(entry);
        if goes {
            dropped += 1;
            peers.leave(entry.peer, entry.own);
        }
        !goes
    });
    dropped
}
