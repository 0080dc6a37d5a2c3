//! What becomes of provider records: kept, removed, over, and everything that is counted about the row of their key.
//!
//! Knows: rows of providers and their indices. Must not know: values, or who gives way to whom (`room`).

use libp2p_identity::PeerId;
use redb::StorageError;

use super::super::row::{Entry, Provided};
use super::super::tables::{Kind, Place, Tag, expiry_key, own_key, place_of, size_key};
use super::{Group, wide};
use libp2p_kad_dht::core::store::StoreError;
use libp2p_kad_dht::core::{Key, ProviderRecord, Timestamp};

/// What the indices say about the row of one key.
#[derive(Clone, Copy, Default)]
pub(super) struct Tally {
    first: Option<Timestamp>,
    remote: u64,
    own: u64,
    pub(super) addr_bytes: u64,
    /// To whom the key is charged.
    charged: Option<Tag>,
}

impl Group<'_, '_> {
    pub(super) fn add_provider(
        &mut self,
        now: Timestamp,
        record: &ProviderRecord,
    ) -> Result<Result<(), StoreError>, StorageError> {
        let place = place_of(&record.key.key());
        let peer = record.provider.peer().to_bytes();
        if !record.own && !self.make_provider_room(now, &place, &peer)? {
            return Ok(Err(StoreError::Full));
        }
        let mut row = self.provided_at(&place)?;
        let before = self.tally(&row);
        row.name = record.key.as_bytes().to_vec();
        let at = row.position(&peer);
        let allowed = if record.own { usize::MAX } else { self.config.max_addr_bytes_per_record };
        let entry = Entry::new(record, allowed);
        match at {
            Some(at) if row.entries[at].own == record.own => row.entries[at] = entry,
            Some(at) => {
                row.entries.remove(at);
                row.entries.push(entry);
            }
            None => row.entries.push(entry),
        }
        if !record.own {
            self.make_addr_room(now, &place, &before, &mut row, &peer)?;
        }
        if at.is_none() && !record.own {
            self.charge_the_newcomer(&mut row, &before)?;
        }
        self.write_provided(&place, before, &mut row)?;
        Ok(Ok(()))
    }

    pub(super) fn remove_provider(&mut self, place: &Place, provider: &PeerId) -> Result<(), StorageError> {
        let mut row = self.provided_at(place)?;
        let before = self.tally(&row);
        let Some(at) = row.position(&provider.to_bytes()) else { return Ok(()) };
        row.entries.remove(at);
        self.write_provided(place, before, &mut row)
    }

    pub(super) fn expire_provided(
        &mut self,
        now: Timestamp,
        place: &Place,
        limit: usize,
    ) -> Result<usize, StorageError> {
        let mut row = self.provided_at(place)?;
        let before = self.tally(&row);
        let mut taken = 0;
        row.entries.retain(|entry| {
            let goes = taken < limit && entry.expires <= now;
            taken += usize::from(goes);
            !goes
        });
        if taken > 0 {
            self.write_provided(place, before, &mut row)?;
        }
        Ok(taken)
    }

    /// Writes the row of one key, and everything that is counted about it. If he is gone to whom the key was charged, it
    /// is charged to that of the others who has the fewest.
    pub(super) fn write_provided(
        &mut self,
        place: &Place,
        before: Tally,
        row: &mut Provided,
    ) -> Result<(), StorageError> {
        let mut after = self.tally(row);
        if before.charged.is_some() && after.charged != before.charged && !self.names(row, before.charged) {
            self.charge_the_lightest(row)?;
            after = self.tally(row);
        }
        if row.entries.is_empty() {
            self.tables.provided.remove(place)?;
        } else {
            self.tables.provided.insert(place, row.encode().as_slice())?;
        }
        self.index(place, &before, &after)?;
        let counts = &mut self.counts;
        counts.providers = (counts.providers + after.remote).saturating_sub(before.remote);
        counts.own = (counts.own + after.own).saturating_sub(before.own);
        counts.addr_bytes = (counts.addr_bytes + after.addr_bytes).saturating_sub(before.addr_bytes);
        let keys = counts.provided_keys + u64::from(after.remote > 0);
        counts.provided_keys = keys.saturating_sub(u64::from(before.remote > 0));
        self.changed.insert((Kind::Provided, *place));
        Ok(())
    }

    fn index(&mut self, place: &Place, before: &Tally, after: &Tally) -> Result<(), StorageError> {
        if before.first != after.first {
            if let Some(at) = before.first {
                self.tables.expiry.remove(expiry_key(at, Kind::Provided, place))?;
            }
            if let Some(at) = after.first {
                self.tables.expiry.insert(expiry_key(at, Kind::Provided, place), ())?;
            }
        }
        match (before.own > 0, after.own > 0) {
            (false, true) => drop(self.tables.own.insert(own_key(place, Kind::Provided), ())?),
            (true, false) => drop(self.tables.own.remove(own_key(place, Kind::Provided))?),
            _ => {}
        }
        if before.remote != after.remote {
            if before.remote > 0 {
                self.tables.sizes.remove(self.size_of(place, before.remote))?;
            }
            if after.remote > 0 {
                self.tables.sizes.insert(self.size_of(place, after.remote), ())?;
            }
        }
        if before.addr_bytes != after.addr_bytes {
            if before.addr_bytes > 0 {
                self.tables.addr_sizes.remove(self.size_of(place, before.addr_bytes))?;
            }
            if after.addr_bytes > 0 {
                self.tables.addr_sizes.insert(self.size_of(place, after.addr_bytes), ())?;
            }
        }
        self.charge(place, before.charged, after.charged)
    }

    /// Where a key stands among all by its remote providers, or by the bytes of their addresses.
    pub(super) fn size_of(&self, place: &Place, size: u64) -> [u8; 40] {
        let count = u32::try_from(size).unwrap_or(u32::MAX);
        size_key(count, self.lots.of_key(&Key::from_bytes(*place)), place)
    }

    pub(super) fn tally(&self, row: &Provided) -> Tally {
        let remote = row.remote();
        Tally {
            first: row.first(),
            remote,
            own: wide(row.entries.len()) - remote,
            addr_bytes: row.addr_bytes(),
            charged: row.charged().map(|entry| self.lots.tag_of_peer(&entry.peer)),
        }
    }

    /// Whether this peer is among the remote ones of the row.
    fn names(&self, row: &Provided, tag: Option<Tag>) -> bool {
        row.entries.iter().any(|entry| !entry.own && Some(self.lots.tag_of_peer(&entry.peer)) == tag)
    }

    /// Charges a key to its latest provider, if the one to whom it is charged has more by two or more.
    fn charge_the_newcomer(&self, row: &mut Provided, before: &Tally) -> Result<(), StorageError> {
        let (Some(now), Some(last)) = (before.charged, row.entries.len().checked_sub(1)) else { return Ok(()) };
        let newcomer = self.lots.tag_of_peer(&row.entries[last].peer);
        if self.charged(&newcomer)? + 1 < self.charged(&now)? {
            row.charge(last);
        }
        Ok(())
    }

    /// Puts that of the remote providers first that has the fewest keys to its charge.
    pub(super) fn charge_the_lightest(&self, row: &mut Provided) -> Result<(), StorageError> {
        let mut lightest = None;
        for (at, entry) in row.entries.iter().enumerate().filter(|(_, entry)| !entry.own) {
            let charged = self.charged(&self.lots.tag_of_peer(&entry.peer))?;
            if lightest.is_none_or(|(fewest, _)| charged < fewest) {
                lightest = Some((charged, at));
            }
        }
        if let Some((_, at)) = lightest {
            row.charge(at);
        }
        Ok(())
    }
}
