//! This node's own provider records: apart from those of others, with no bound and no lot.
//!
//! Knows: their order and expiry. Must not know: remote records. There are as many as the application publishes.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use libp2p_identity::PeerId;

use crate::core::key::Key;
use crate::core::record::ProviderRecord;
use crate::core::time::Timestamp;

#[derive(Default)]
pub(super) struct OwnProviders {
    kept: BTreeMap<Key, BTreeMap<PeerId, ProviderRecord>>,
    expiry: BTreeSet<(Timestamp, Key, PeerId)>,
}

impl OwnProviders {
    pub(super) fn add(&mut self, record: ProviderRecord) {
        let (place, peer) = (record.key.key(), *record.provider.peer());
        self.remove(&place, &peer);
        self.expiry.insert((record.expires, place, peer));
        self.kept.entry(place).or_default().insert(peer, record);
    }

    pub(super) fn remove(&mut self, place: &Key, peer: &PeerId) {
        let Some(records) = self.kept.get_mut(place) else { return };
        if let Some(record) = records.remove(peer) {
            self.expiry.remove(&(record.expires, *place, *peer));
        }
        if records.is_empty() {
            self.kept.remove(place);
        }
    }

    /// Those of a key that are not over; without addresses that are.
    pub(super) fn get(&self, now: Timestamp, place: &Key) -> impl Iterator<Item = ProviderRecord> {
        let current = self.at(place).filter(move |record| !record.is_expired(now));
        current.map(move |mut record| {
            if record.addrs_expire <= now {
                record.provider = record.provider.with_addrs([]);
            }
            record
        })
    }

    /// Those of a key as they are kept.
    pub(super) fn at(&self, place: &Key) -> impl Iterator<Item = ProviderRecord> {
        self.kept.get(place).into_iter().flat_map(|records| records.values().cloned())
    }

    /// The places of all, from just after this one.
    pub(super) fn after(&self, place: Option<&Key>) -> impl Iterator<Item = Key> {
        self.kept.range((place.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded)).map(|(place, _)| *place)
    }

    pub(super) fn expire(&mut self, now: Timestamp, limit: usize) -> usize {
        for taken in 0..limit {
            match self.expiry.first().copied() {
                Some((at, place, peer)) if at <= now => self.remove(&place, &peer),
                _ => return taken,
            }
        }
        limit
    }

    pub(super) fn next_expiry(&self) -> Option<Timestamp> {
        self.expiry.first().map(|(at, ..)| *at)
    }

    pub(super) fn len(&self) -> usize {
        self.expiry.len()
    }
}
