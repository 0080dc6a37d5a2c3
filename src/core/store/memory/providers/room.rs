//! Who gives way where a bound of provider records is reached.
//!
//! Knows: the rules, which the documentation of `MemoryStore` states. Must not know: how a record is kept. First it is
//! decided whether a newcomer has a claim under every bound that is reached, and only then does anything go.

use libp2p_identity::PeerId;

use super::{KeySlot, Providers, id_bytes};
use crate::core::key::Key;
use crate::core::store::StoreError;
use crate::core::store::lots::Lots;
use crate::core::store::memory::config::MemoryStoreConfig;
use crate::core::time::Timestamp;

/// How many keys one operation charges to another of their providers before it gives up.
const MAX_CHARGES: usize = 64;

/// Which record goes for the newcomer's.
#[derive(Clone, Copy, PartialEq)]
enum Goes {
    /// None has to.
    Nobody,
    /// The last of the same key.
    Here,
    /// The last of the key that has the most.
    Elsewhere,
}

impl Providers {
    /// Makes room for a record of a provider that is not among those of this key, if it has a claim to it.
    pub(super) fn make_room(
        &mut self,
        now: Timestamp,
        place: &Key,
        peer: &PeerId,
        lot: u32,
        lots: &Lots,
        config: &MemoryStoreConfig,
    ) -> Result<(), StoreError> {
        if let Some(key) = self.places.get(place).copied()
            && self.entries(key).len() >= config.max_providers_per_key
        {
            self.expire_at(key, now, usize::MAX);
        }
        while self.is_tight(place, peer, config) && self.expire(now, 1) > 0 {}
        if config.max_providers_per_key.min(config.max_provided_keys).min(config.max_peers).min(config.max_providers)
            == 0
        {
            return Err(StoreError::Full);
        }
        let goes = self.record_that_goes(place, lot, lots, config)?;
        self.claim_key(place, peer, lots, config)?;
        self.claim_peer(place, peer, goes, lots, config)?;
        self.clear(place, peer, goes, config);
        Ok(())
    }

    /// Whether one more record would be more than the bounds of the whole store allow.
    fn is_tight(&self, place: &Key, peer: &PeerId, config: &MemoryStoreConfig) -> bool {
        let here = self.places.get(place).map_or(0, |key| self.entries(*key).len());
        let one_record = here >= config.max_providers_per_key || self.records < config.max_providers;
        !one_record || !self.has_key_room(place, config) || !self.has_peer_room(peer, config)
    }

    fn has_key_room(&self, place: &Key, config: &MemoryStoreConfig) -> bool {
        self.places.contains_key(place) || self.places.len() < config.max_provided_keys
    }

    fn has_peer_room(&self, peer: &PeerId, config: &MemoryStoreConfig) -> bool {
        self.peers.len() < config.max_peers || self.peers.slot(peer).is_some()
    }

    /// Of one key those with the best lots stay. In the whole store no key keeps many where another has to do with few.
    fn record_that_goes(
        &self,
        place: &Key,
        lot: u32,
        lots: &Lots,
        config: &MemoryStoreConfig,
    ) -> Result<Goes, StoreError> {
        let key = self.places.get(place).copied();
        let here = key.map_or(0, |key| self.entries(key).len());
        if here < config.max_providers_per_key && self.records < config.max_providers {
            return Ok(Goes::Nobody);
        }
        if here < config.max_providers_per_key
            && let Some((most, their_lot, _)) = self.sizes.last().copied()
            && (here as u32 + 1, lots.of_key(place)) < (most, their_lot)
        {
            return Ok(Goes::Elsewhere);
        }
        let outdraws = key.and_then(|key| self.last_of(key)).is_some_and(|(last, _)| lot < last);
        if outdraws { Ok(Goes::Here) } else { Err(StoreError::Full) }
    }

    /// Of all keys those stay whose providers have the fewest to their charge; among equals the lots of the providers
    /// decide.
    fn claim_key(
        &mut self,
        place: &Key,
        peer: &PeerId,
        lots: &Lots,
        config: &MemoryStoreConfig,
    ) -> Result<(), StoreError> {
        if self.has_key_room(place, config) {
            return Ok(());
        }
        let with_this = self.peers.slot(peer).map_or(0, |slot| self.peers.charged(slot)) + 1;
        let (most, their_lot, _) = self.key_of_the_most_charged().ok_or(StoreError::Full)?;
        if (with_this, lots.of_peer(&id_bytes(peer))) < (most, their_lot) { Ok(()) } else { Err(StoreError::Full) }
    }

    /// Of all peers those with the best lots stay.
    fn claim_peer(
        &self,
        place: &Key,
        peer: &PeerId,
        goes: Goes,
        lots: &Lots,
        config: &MemoryStoreConfig,
    ) -> Result<(), StoreError> {
        if self.has_peer_room(peer, config) || self.frees_a_peer(place, goes) {
            return Ok(());
        }
        let (last, _) = self.peers.last_drawn().ok_or(StoreError::Full)?;
        if lots.of_peer(&id_bytes(peer)) < last { Ok(()) } else { Err(StoreError::Full) }
    }

    /// Whether the record of this key that goes is the only one of its peer.
    fn frees_a_peer(&self, place: &Key, goes: Goes) -> bool {
        let last = self.places.get(place).filter(|_| goes == Goes::Here).and_then(|key| self.last_of(*key));
        last.is_some_and(|(_, slot)| self.peers.records(slot) == 1)
    }

    /// Lets go what has to; each step only if it is still needed after the one before.
    fn clear(&mut self, place: &Key, peer: &PeerId, goes: Goes, config: &MemoryStoreConfig) {
        if goes == Goes::Here {
            self.places.get(place).copied().into_iter().for_each(|key| self.drop_last_of(key));
        }
        if !self.has_peer_room(peer, config)
            && let Some((_, slot)) = self.peers.last_drawn()
        {
            while let Some(key) = self.peers.key_at(slot, 0) {
                let Some(index) = self.entries(key).iter().position(|entry| entry.peer == slot) else { break };
                self.drop_entry(key, index);
            }
        }
        if !self.has_key_room(place, config)
            && let Some(key) = self.key_to_drop()
        {
            while !self.entries(key).is_empty() {
                self.drop_entry(key, 0);
            }
        }
        if self.records >= config.max_providers
            && let Some((_, _, key)) = self.sizes.last().copied()
        {
            self.drop_last_of(key);
        }
    }

    /// The worst lot among the records of a key, and whose it is.
    fn last_of(&self, key: KeySlot) -> Option<(u32, u32)> {
        self.entries(key).iter().map(|entry| (entry.lot, entry.peer)).max()
    }

    fn drop_last_of(&mut self, key: KeySlot) {
        let last = self.entries(key).iter().enumerate().max_by_key(|(_, entry)| (entry.lot, entry.peer));
        if let Some((index, _)) = last {
            self.drop_entry(key, index);
        }
    }

    /// A key that is charged to the peer with the most, none of whose providers has fewer: how many that peer has, its
    /// lot, and the key. None if it takes too long to find one.
    fn key_of_the_most_charged(&mut self) -> Option<(u32, u32, KeySlot)> {
        for _ in 0..MAX_CHARGES {
            let (most, lot, slot) = self.peers.most_charged()?;
            let key = self.peers.key_at(slot, most as usize - 1)?;
            self.charge_lightest(key);
            if self.peers.most_charged() == Some((most, lot, slot)) {
                return Some((most, lot, key));
            }
        }
        None
    }

    /// The same without giving up, since something has to go.
    fn key_to_drop(&mut self) -> Option<KeySlot> {
        if let Some((_, _, key)) = self.key_of_the_most_charged() {
            return Some(key);
        }
        let (most, _, slot) = self.peers.most_charged()?;
        self.peers.key_at(slot, most as usize - 1)
    }
}
