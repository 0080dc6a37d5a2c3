//! Writes of provider records: add, remove, expire, with the index rows of their key.
//!
//! Knows: rows of providers and their indices. Must not know: values, or which records are evicted (`eviction`).

use libp2p_identity::PeerId;
use redb::StorageError;

use super::super::row::{Entry, NO_COST, Provided, narrow};
use super::super::tables::{Id, Place, TableKind, expiry_key, own_key, place_of};
use super::{Group, less, wide};
use libp2p_kad_dht::core::store::eviction::{self, Cost, Size, Wanted};
use libp2p_kad_dht::core::store::{Sender, StoreError};
use libp2p_kad_dht::core::{ProviderRecord, Timestamp};

impl Group<'_, '_> {
    pub(super) fn add_provider(
        &mut self,
        now: Timestamp,
        record: &ProviderRecord,
        from: Option<&Sender>,
    ) -> Result<Result<(), StoreError>, StorageError> {
        let place = place_of(&record.key.key());
        let entry = match record.own {
            true => Entry::new(record, usize::MAX, NO_COST),
            false => {
                let announced = Sender::new(*record.provider.peer());
                let from = from.unwrap_or(&announced);
                let cost = Cost::new(self.seed.account(Some(from)), 0, now, from.near);
                let mut entry = Entry::new(record, self.config.max_addr_bytes_per_record, cost);
                entry.cost.bytes = narrow(entry.size(record.key.as_bytes().len()));
                let Some(cost) = self.make_provider_room(now, &place, &entry)? else {
                    return Ok(Err(StoreError::Full));
                };
                Entry { cost, ..entry }
            }
        };
        let old = self.provided_at(&place)?;
        let mut row = old.clone();
        row.name = record.key.as_bytes().to_vec();
        match row.position(&entry.peer) {
            Some(at) => row.entries[at] = entry,
            None => row.entries.push(entry),
        }
        self.write_provided(&place, &old, &row)?;
        Ok(Ok(()))
    }

    pub(super) fn remove_provider(&mut self, place: &Place, provider: &PeerId) -> Result<(), StorageError> {
        let old = self.provided_at(place)?;
        match old.position(&provider.to_bytes()) {
            Some(at) => self.drop_entry(place, &old, at),
            None => Ok(()),
        }
    }

    /// Removes the remote provider of a key that has this rank.
    pub(super) fn drop_provider(&mut self, place: &Place, rank: u64) -> Result<(), StorageError> {
        let old = self.provided_at(place)?;
        match self.with_rank(place, &old, rank) {
            Some(at) => self.drop_entry(place, &old, at),
            None => Ok(()),
        }
    }

    fn drop_entry(&mut self, place: &Place, old: &Provided, at: usize) -> Result<(), StorageError> {
        let mut row = old.clone();
        row.entries.remove(at);
        self.write_provided(place, old, &row)
    }

    pub(super) fn expire_provided(
        &mut self,
        now: Timestamp,
        place: &Place,
        limit: usize,
    ) -> Result<usize, StorageError> {
        let old = self.provided_at(place)?;
        let (mut row, mut taken) = (old.clone(), 0);
        row.entries.retain(|entry| {
            let goes = taken < limit && entry.expires <= now;
            taken += usize::from(goes);
            !goes
        });
        if taken > 0 {
            self.write_provided(place, &old, &row)?;
        }
        Ok(taken)
    }

    /// Makes other peers' provider records of a key, and their addresses, expire at `latest` if they would expire
    /// later.
    pub(super) fn cut_provided(&mut self, latest: Timestamp, place: &Place) -> Result<(), StorageError> {
        let old = self.provided_at(place)?;
        let mut new = old.clone();
        for entry in new.entries.iter_mut().filter(|entry| !entry.own) {
            (entry.expires, entry.addrs_expire) = (entry.expires.min(latest), entry.addrs_expire.min(latest));
        }
        self.write_provided(place, &old, &new)
    }

    /// Makes room for a remote record, and returns its cost; `None` if the record itself would be the first to be
    /// evicted.
    fn make_provider_room(
        &mut self,
        now: Timestamp,
        place: &Place,
        entry: &Entry,
    ) -> Result<Option<Cost>, StorageError> {
        let id = self.provider_id(place, entry);
        let mut row = self.provided_at(place)?;
        if let Some(known) = row.remote().find(|known| known.peer == entry.peer).map(|known| known.cost) {
            let mut after = known.sent_again(&self.pool(TableKind::Provided), entry.cost.account)?;
            (after.bytes, after.near) = (entry.cost.bytes, entry.cost.near);
            self.make_room(now, Wanted::Update(id, &known, &after))?;
            return Ok(Some(after));
        }
        let max = self.config.max_providers_per_key;
        if row.remote().count() >= max && self.expire_provided(now, place, usize::MAX)? > 0 {
            row = self.provided_at(place)?;
        }
        // After the bound was lowered, the key may have several providers too many.
        for _ in max..row.remote().count() {
            let ranks: Vec<_> =
                row.remote().map(|kept| (kept.cost.account, self.seed.of_provider(place, &kept.peer))).collect();
            let Some(last) = eviction::one_too_many(ranks.iter().copied()) else { break };
            self.drop_provider(place, ranks[last].1)?;
            row = self.provided_at(place)?;
        }
        if row.remote().count() >= max {
            let ranks = row.remote().map(|kept| (kept.cost.account, self.seed.of_provider(place, &kept.peer)));
            let ranks: Vec<_> = ranks.chain([(entry.cost.account, id.1)]).collect();
            let last = eviction::one_too_many(ranks.iter().copied()).and_then(|last| ranks.get(last));
            let Some((_, goes)) = last.filter(|(_, rank)| *rank != id.1).copied() else { return Ok(None) };
            let Some(at) = self.with_rank(place, &row, goes) else { return Ok(None) };
            self.make_room(now, Wanted::Update((*place, goes), &row.entries[at].cost, &entry.cost))?;
            self.drop_provider(place, goes)?;
            return Ok(Some(entry.cost));
        }
        let size = Size { records: 1, bytes: entry.cost.bytes.into() };
        self.expire_for(now, TableKind::Provided, size)?;
        Ok(self.make_room(now, Wanted::New(id.1, &entry.cost))?.then_some(entry.cost))
    }

    /// Evicts records; false if the new record itself would be the first to be evicted.
    fn make_room(&mut self, now: Timestamp, wanted: Wanted<'_, Id>) -> Result<bool, StorageError> {
        let Some(victims) = eviction::victims(&mut self.pool(TableKind::Provided), now, wanted)? else {
            return Ok(false);
        };
        self.drop_all(TableKind::Provided, victims)?;
        Ok(true)
    }

    fn provider_id(&self, place: &Place, entry: &Entry) -> Id {
        (*place, self.seed.of_provider(place, &entry.peer))
    }

    /// Replaces the row `old` of one key, and updates its index rows.
    fn write_provided(&mut self, place: &Place, old: &Provided, new: &Provided) -> Result<(), StorageError> {
        match new.entries.is_empty() {
            true => drop(self.tables.provided.remove(place)?),
            false => drop(self.tables.provided.insert(place, new.encode().as_slice())?),
        }
        self.changed.insert((TableKind::Provided, *place));
        if old.first() != new.first() {
            let key = |at| expiry_key(at, TableKind::Provided, place);
            old.first().map(|at| self.tables.expiry.remove(key(at)).map(drop)).transpose()?;
            new.first().map(|at| self.tables.expiry.insert(key(at), ()).map(drop)).transpose()?;
        }
        let own = |row: &Provided| row.entries.iter().filter(|entry| entry.own).count();
        match (own(old), own(new)) {
            (0, 1..) => drop(self.tables.own.insert(own_key(place, TableKind::Provided), ())?),
            (1.., 0) => drop(self.tables.own.remove(own_key(place, TableKind::Provided))?),
            _ => {}
        }
        less(&mut self.counts.own, wide(own(old)));
        self.counts.own += wide(own(new));
        self.update_row_accounts(place, old, new)
    }

    /// Updates the counts and the accounts for the remote providers that were added, changed and removed.
    fn update_row_accounts(&mut self, place: &Place, old: &Provided, new: &Provided) -> Result<(), StorageError> {
        for entry in old.remote() {
            less(&mut self.counts.providers, 1);
            less(&mut self.counts.provider_bytes, entry.cost.bytes.into());
            if !new.remote().any(|kept| kept.peer == entry.peer) {
                let id = self.provider_id(place, entry);
                eviction::update_accounts(&mut self.pool(TableKind::Provided), id, Some(&entry.cost), None)?;
            }
        }
        for entry in new.remote() {
            self.counts.providers += 1;
            self.counts.provider_bytes += u64::from(entry.cost.bytes);
            let known = old.remote().find(|known| known.peer == entry.peer).map(|known| &known.cost);
            if known != Some(&entry.cost) {
                let id = self.provider_id(place, entry);
                eviction::update_accounts(&mut self.pool(TableKind::Provided), id, known, Some(&entry.cost))?;
            }
        }
        Ok(())
    }
}
