//! Who gives way where a bound of provider records is reached: the rules of the memory store.
//!
//! Knows: the rules, which the documentation of `DiskStore` states. Must not know: how a record is kept. First it is
//! decided whether a newcomer has a claim under every bound that is reached, and only then does anything go.

use redb::{ReadableTable as _, StorageError};

use super::super::row::Provided;
use super::super::tables::{Place, Tag, order_of};
use super::{Group, wide};
use libp2p_kad_dht::core::{Key, Timestamp};

/// How many keys one write charges to another of their providers before it gives up, and how many entries that lead to
/// nothing it clears away.
const MAX_STEPS: usize = 16;

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

impl Group<'_, '_> {
    /// Makes room for a remote record of this provider, if it has a claim to it.
    pub(super) fn make_provider_room(
        &mut self,
        now: Timestamp,
        place: &Place,
        peer: &[u8],
    ) -> Result<bool, StorageError> {
        let mut row = self.provided_at(place)?;
        if row.entries.iter().any(|entry| !entry.own && entry.peer == peer) {
            return Ok(true);
        }
        if row.remote() >= self.per_key() && self.expire_provided(now, place, usize::MAX)? > 0 {
            row = self.provided_at(place)?;
        }
        while self.is_tight(&row) && self.expire(now, 1)? > 0 {
            row = self.provided_at(place)?;
        }
        let config = self.config;
        if config.max_providers_per_key.min(config.max_provided_keys).min(config.max_providers) == 0 {
            return Ok(false);
        }
        let Some(goes) = self.record_that_goes(place, peer, &row)? else { return Ok(false) };
        let Some(key) = self.key_that_goes(&row, peer)? else { return Ok(false) };
        if goes == Goes::Here {
            self.drop_last_of(place)?;
        }
        if let Some(key) = key {
            self.drop_remote(&key)?;
        }
        if goes == Goes::Elsewhere
            && self.counts.providers >= wide(config.max_providers)
            && let Some((_, key)) = self.largest()?
        {
            self.drop_last_of(&key)?;
        }
        Ok(true)
    }

    fn per_key(&self) -> u64 {
        wide(self.config.max_providers_per_key)
    }

    /// Whether one more record would be more than the bounds of the whole store allow.
    fn is_tight(&self, row: &Provided) -> bool {
        let one_record = row.remote() >= self.per_key() || self.counts.providers < wide(self.config.max_providers);
        !one_record || !self.has_key_room(row)
    }

    fn has_key_room(&self, row: &Provided) -> bool {
        row.remote() > 0 || self.counts.provided_keys < wide(self.config.max_provided_keys)
    }

    /// Of one key those with the best lots stay. In the whole store no key keeps many where another has to do with few.
    fn record_that_goes(&mut self, place: &Place, peer: &[u8], row: &Provided) -> Result<Option<Goes>, StorageError> {
        let here = row.remote();
        if here < self.per_key() && self.counts.providers < wide(self.config.max_providers) {
            return Ok(Some(Goes::Nobody));
        }
        if here < self.per_key()
            && let Some((most, _)) = self.largest()?
            && order_of(&self.size_of(place, here + 1)).0 < most
        {
            return Ok(Some(Goes::Elsewhere));
        }
        let key = Key::from_bytes(*place);
        let last = self.last_of(place, row).map(|(lot, _)| lot);
        Ok(last.filter(|last| self.lots.of_record(&key, peer) < *last).map(|_| Goes::Here))
    }

    /// Of all keys those stay whose providers have the fewest to their charge; among equals the lots of the providers
    /// decide. `None` if the newcomer has no claim, the key that goes for its own if one has to.
    fn key_that_goes(&mut self, row: &Provided, peer: &[u8]) -> Result<Option<Option<Place>>, StorageError> {
        if self.has_key_room(row) {
            return Ok(Some(None));
        }
        let mine: Tag = self.lots.tag_of_peer(peer);
        let with_this = self.charged(&mine)? + 1;
        for _ in 0..MAX_STEPS {
            let Some((most, tag, place)) = self.most_charged()? else { return Ok(None) };
            if (with_this, mine) >= (most, tag) {
                return Ok(None);
            }
            let mut other = self.provided_at(&place)?;
            let before = self.tally(&other);
            if other.charged().is_none_or(|entry| self.lots.tag_of_peer(&entry.peer) != tag) {
                // It leads to nothing.
                self.charge(&place, Some(tag), None)?;
                continue;
            }
            self.charge_the_lightest(&mut other)?;
            let lightest = other.charged().map(|entry| self.lots.tag_of_peer(&entry.peer));
            let lighter = match lightest {
                Some(lightest) if lightest != tag => self.charged(&lightest)? + 1 < most,
                _ => false,
            };
            if !lighter {
                return Ok(Some(Some(place)));
            }
            self.write_provided(&place, before, &mut other)?;
        }
        Ok(None)
    }

    /// The key with the most remote providers, and its rank among keys.
    fn largest(&mut self) -> Result<Option<(u64, Place)>, StorageError> {
        for _ in 0..MAX_STEPS {
            let Some(entry) = self.tables.sizes.last()?.map(|(key, _)| key.value()) else { return Ok(None) };
            let (rank, place) = order_of(&entry);
            let remote = self.provided_at(&place)?.remote();
            if self.size_of(&place, remote) == entry {
                return Ok(Some((rank, place)));
            }
            // It leads to nothing.
            self.tables.sizes.remove(entry)?;
        }
        Ok(None)
    }

    /// The worst lot among the remote records of a key, and where it is.
    fn last_of(&self, place: &Place, row: &Provided) -> Option<(u32, usize)> {
        let key = Key::from_bytes(*place);
        let remote = row.entries.iter().enumerate().filter(|(_, entry)| !entry.own);
        remote.map(|(at, entry)| (self.lots.of_record(&key, &entry.peer), at)).max()
    }

    fn drop_last_of(&mut self, place: &Place) -> Result<(), StorageError> {
        let mut row = self.provided_at(place)?;
        let before = self.tally(&row);
        let Some((_, at)) = self.last_of(place, &row) else { return Ok(()) };
        row.entries.remove(at);
        self.write_provided(place, before, &mut row)
    }

    /// Drops all remote records of a key.
    fn drop_remote(&mut self, place: &Place) -> Result<(), StorageError> {
        let mut row = self.provided_at(place)?;
        let before = self.tally(&row);
        row.entries.retain(|entry| entry.own);
        self.write_provided(place, before, &mut row)
    }
}
