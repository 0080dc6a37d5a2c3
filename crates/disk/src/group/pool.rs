//! The accounts of one kind of records for the eviction rule, in ordered tables beside the records.
//!
//! Knows: costs, and where they are stored. Must not know: which records are evicted. The cost of a record is in its
//! row; index rows without a record are removed when they are met.

use redb::{ReadableTable as _, StorageError};

use super::super::row::{Provided, decode_value, encode_value};
use super::super::tables::{Id, TableKind, charged_key, charged_of, heavy_key, heavy_of, weight_key};
use super::Group;
use libp2p_kad_dht::core::Timestamp;
use libp2p_kad_dht::core::store::eviction::{self, Account, Accounts, Cost, Ranked, Size, Wanted};

/// The records of one kind, which share their bounds.
pub(super) struct Pool<'g, 't, 'c> {
    group: &'g mut Group<'t, 'c>,
    kind: TableKind,
}

impl<'t, 'c> Group<'t, 'c> {
    pub(super) fn pool(&mut self, kind: TableKind) -> Pool<'_, 't, 'c> {
        Pool { group: self, kind }
    }

    /// Evicts records of a store above its bounds, for instance after they were lowered: as many as one write may
    /// evict. Returns their number, including records that were marked settled.
    pub(in super::super) fn shrink(&mut self, now: Timestamp) -> Result<usize, StorageError> {
        let (mut gone, settled) = (0, self.settled);
        if !self.config.is_exceeded(&self.counts) {
            return Ok(0);
        }
        for kind in [TableKind::Value, TableKind::Provided] {
            let victims = eviction::victims(&mut self.pool(kind), now, Wanted::Less)?.unwrap_or_default();
            gone += victims.len();
            self.drop_all(kind, victims)?;
        }
        Ok(gone + self.settled - settled)
    }

    /// Removes expired records until there is space for `more` of this kind, within the steps of one write.
    pub(super) fn expire_for(&mut self, now: Timestamp, kind: TableKind, more: Size) -> Result<(), StorageError> {
        for _ in 0..eviction::MAX_STEPS {
            if self.config.has_room(&self.counts, kind, more, Size::default()) || self.expire(now, 1)? == 0 {
                break;
            }
        }
        Ok(())
    }

    /// Removes evicted records.
    pub(super) fn drop_all(&mut self, kind: TableKind, victims: Vec<Id>) -> Result<(), StorageError> {
        for (place, rank) in victims {
            match kind {
                TableKind::Value => self.forget_value(&place)?,
                TableKind::Provided => self.drop_provider(&place, rank)?,
            }
        }
        Ok(())
    }

    /// The cost of a remote record, from its row.
    fn cost_of(&mut self, kind: TableKind, (place, rank): Id) -> Result<Option<Cost>, StorageError> {
        Ok(match kind {
            TableKind::Value => self.value_at(&place)?.filter(|(record, _)| !record.own).map(|(_, cost)| cost),
            TableKind::Provided => {
                let row = self.provided_at(&place)?;
                self.with_rank(&place, &row, rank).map(|at| row.entries[at].cost)
            }
        })
    }

    /// The index of the remote provider with this rank.
    pub(super) fn with_rank(&self, place: &super::Place, row: &Provided, rank: u64) -> Option<usize> {
        row.entries.iter().position(|entry| !entry.own && self.seed.of_provider(place, &entry.peer) == rank)
    }

    /// Writes the cost of a record into its row.
    fn note_cost(&mut self, kind: TableKind, (place, rank): Id, cost: &Cost) -> Result<(), StorageError> {
        match kind {
            TableKind::Value => {
                let row = self.tables.values.get(place)?.and_then(|row| decode_value(row.value()));
                if let Some((record, noted)) = row
                    && noted != *cost
                {
                    self.tables.values.insert(place, encode_value(&record, cost).as_slice())?;
                }
            }
            TableKind::Provided => {
                let mut row = self.provided_at(&place)?;
                if let Some(at) = self.with_rank(&place, &row, rank)
                    && row.entries[at].cost != *cost
                {
                    row.entries[at].cost = *cost;
                    self.tables.provided.insert(place, row.encode().as_slice())?;
                }
            }
        }
        Ok(())
    }
}

impl Pool<'_, '_, '_> {
    /// Removes the weight of an account without records, whose rows were damaged.
    fn forget_weight(&mut self, account: Account) -> Result<(), StorageError> {
        let gone = self.weight(account)?;
        for account in std::iter::successors(Some(account), |account| account.parent()) {
            self.change_weight(account, gone, 0)?;
        }
        Ok(())
    }
}

impl Accounts for Pool<'_, '_, '_> {
    type Id = Id;
    type Error = StorageError;

    fn weight(&self, account: Account) -> Result<u64, StorageError> {
        Ok(self.group.tables.weights.get(weight_key(self.kind, account))?.map_or(0, |weight| weight.value()))
    }

    fn change_weight(&mut self, account: Account, less: u64, more: u64) -> Result<(), StorageError> {
        let from = self.weight(account)?;
        let to = from.saturating_sub(less).saturating_add(more);
        let tables = &mut self.group.tables;
        match to {
            0 => drop(tables.weights.remove(weight_key(self.kind, account))?),
            _ => drop(tables.weights.insert(weight_key(self.kind, account), to)?),
        }
        if from == to {
            return Ok(());
        }
        let Some(parent) = account.parent() else { return Ok(()) };
        if from > 0 {
            tables.heaviest.remove(heavy_key(self.kind, parent, (from, account)))?;
        }
        if to > 0 {
            tables.heaviest.insert(heavy_key(self.kind, parent, (to, account)), ())?;
        }
        Ok(())
    }

    fn heaviest(
        &mut self,
        parent: Account,
        before: Option<(u64, Account)>,
    ) -> Result<Option<(u64, Account)>, StorageError> {
        let start = heavy_key(self.kind, parent, (0, Account::from_bits(0)));
        let end = heavy_key(self.kind, parent, before.unwrap_or((u64::MAX, Account::from_bits(u64::MAX))));
        let last = self.group.tables.heaviest.range(start..end)?.next_back().transpose()?;
        Ok(last.map(|(key, _)| heavy_of(&key.value())))
    }

    fn next(&mut self, account: Account, after: Option<&Ranked<Id>>) -> Result<Option<Ranked<Id>>, StorageError> {
        let mut start = match after {
            Some(record) => std::ops::Bound::Excluded(charged_key(self.kind, account, record.cost.tier(), record.id)),
            None => std::ops::Bound::Included(charged_key(self.kind, account, 0, ([0; 32], u64::MAX))),
        };
        let end = std::ops::Bound::Included(charged_key(self.kind, account, u8::MAX, ([u8::MAX; 32], 0)));
        for _ in 0..eviction::MAX_STEPS {
            let first = self.group.tables.charged.range::<[u8; 50]>((start, end))?.next().transpose()?;
            let Some(key) = first.map(|(key, _)| key.value()) else {
                if after.is_none() {
                    self.forget_weight(account)?;
                }
                return Ok(None);
            };
            let (tier, id) = charged_of(&key);
            match self.group.cost_of(self.kind, id)? {
                Some(cost) if cost.account == account && cost.tier() == tier => {
                    return Ok(Some(Ranked { id, rank: id.1, cost }));
                }
                // The row of this record was moved aside.
                _ => drop(self.group.tables.charged.remove(key)?),
            }
            start = std::ops::Bound::Excluded(key);
        }
        Ok(None)
    }

    fn set_cost(&mut self, id: Id, before: Option<&Cost>, after: Option<&Cost>) -> Result<(), StorageError> {
        let key = |cost: &Cost| charged_key(self.kind, cost.account, cost.tier(), id);
        let (from, to) = (before.map(key), after.map(key));
        if from != to {
            let charged = &mut self.group.tables.charged;
            from.map(|key| charged.remove(key).map(drop)).transpose()?;
            to.map(|key| charged.insert(key, ()).map(drop)).transpose()?;
        }
        match (before, after) {
            (Some(_), Some(after)) => {
                self.group.settled += 1;
                self.group.note_cost(self.kind, id, after)
            }
            _ => Ok(()),
        }
    }

    fn has_room(&self, more: Size, less: Size) -> bool {
        self.group.config.has_room(&self.group.counts, self.kind, more, less)
    }
}
