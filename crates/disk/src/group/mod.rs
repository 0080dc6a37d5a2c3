//! The writes of one transaction, applied to the tables.
//!
//! Knows: the bounds, the counts, and the rules common to all kinds of records. Must not know: threads, tickets, or
//! when a transaction ends.

mod pool;
mod provided;
#[cfg(test)]
mod tests;
mod values;

use std::collections::BTreeSet;
use std::ops::Bound;

use redb::{ReadableTable as _, ReadableTableMetadata as _, StorageError};

use super::DiskStoreConfig;
use super::cache::Name;
use super::row::{self, Provided, value_size};
use super::seed::Seed;
use super::tables::{Counts, Place, Span, TableKind, Writable, expiry_key, expiry_of, expiry_span, own_key, place_of};
use libp2p_kad_dht::core::Record;
use libp2p_kad_dht::core::Timestamp;
use libp2p_kad_dht::core::store::eviction::Cost;
use libp2p_kad_dht::core::store::{Done, Item, Op, OpOutput, StoreError, touch_provider};

/// Maximum number of damaged rows that are kept for inspection; the others are deleted.
const MAX_DAMAGED: u64 = 1_024;

/// One write.
#[derive(Debug)]
pub(super) enum Task {
    Op(Timestamp, Op),
    /// Moves a damaged row aside, if it still cannot be read.
    PutAside(Name),
    /// Passes the time, so that a store above its bounds can shrink.
    Time(Timestamp),
}

impl Task {
    pub(super) fn time(&self) -> Option<Timestamp> {
        match self {
            Task::Op(now, _) | Task::Time(now) => Some(*now),
            Task::PutAside(_) => None,
        }
    }
}

/// The writes of one transaction.
pub(super) struct Group<'t, 'c> {
    tables: Writable<'t>,
    counts: Counts,
    changed: BTreeSet<Name>,
    config: &'c DiskStoreConfig,
    seed: Seed,
    /// Number of costs that were changed.
    settled: usize,
    /// Whether a row was moved aside, so that the counts are wrong.
    recount: bool,
}

impl<'t, 'c> Group<'t, 'c> {
    pub(super) fn new(
        tables: Writable<'t>,
        counts: Counts,
        config: &'c DiskStoreConfig,
        seed: [u8; 32],
    ) -> Group<'t, 'c> {
        Group { tables, counts, changed: BTreeSet::new(), config, seed: Seed::new(seed), settled: 0, recount: false }
    }

    /// Applies one write. After an error the whole group is lost.
    pub(super) fn apply(&mut self, task: &Task) -> Result<Done, StorageError> {
        let (now, op) = match task {
            Task::Op(now, op) => (*now, op),
            Task::PutAside((kind, place)) => {
                self.first_of(*kind, place)?;
                return Ok(Ok(OpOutput::Nothing));
            }
            Task::Time(_) => return Ok(Ok(OpOutput::Nothing)),
        };
        match op {
            Op::Put(put) => return self.put(now, put),
            Op::Touch(item, at) => self.touch(now, item, *at)?,
            Op::Remove(key) => self.forget_value(&place_of(&key.key()))?,
            Op::AddProvider(record, from) => {
                let kept = self.add_provider(now, record, from.as_ref())?;
                return Ok(kept.map(|()| OpOutput::Kept { superseded: false }));
            }
            Op::RemoveProvider(key, provider) => self.remove_provider(&place_of(&key.key()), provider)?,
            Op::SavePeers(peers) => {
                self.tables.meta.insert("peers", row::encode_peers(peers).as_slice())?;
            }
            Op::Expire { limit, latest } => {
                let cut = self.cut(now, *latest, *limit)?;
                return Ok(Ok(OpOutput::Expired(cut + self.expire(now, limit - cut)?)));
            }
            // These are reads, which the readers do.
            Op::Get(_) | Op::Providers(_) | Op::Scan { .. } | Op::SavedPeers => return Ok(Err(StoreError::Failed)),
        }
        Ok(Ok(OpOutput::Nothing))
    }

    /// Writes the counts; must be the last write of the group.
    pub(super) fn finish(&mut self) -> Result<Option<Span>, StorageError> {
        if self.recount {
            self.counts = self.counted()?;
        }
        self.tables.meta.insert("counts", self.counts.encode().as_slice())?;
        expiry_span(&self.tables.expiry)
    }

    /// Drops the tables. Returns the counts and the names of changed rows.
    pub(super) fn end(self) -> (Counts, BTreeSet<Name>) {
        (self.counts, self.changed)
    }

    fn touch(&mut self, now: Timestamp, item: &Item, at: Timestamp) -> Result<(), StorageError> {
        match item {
            Item::Value(read) => self.touch_value(now, read, at),
            Item::Provider(read) => {
                let row = self.provided_at(&place_of(&read.key.key()))?;
                let kept = row.records().find(|kept| kept.provider.peer() == read.provider.peer());
                let touched = kept
                    .filter(|kept| !kept.is_expired(now))
                    .and_then(|mut record| touch_provider(&mut record, read, at).then_some(record));
                touched.map_or(Ok(()), |record| self.add_provider(now, &record, None).map(drop))
            }
        }
    }

    /// Removes up to `limit` items that have expired at `now`.
    fn expire(&mut self, now: Timestamp, limit: usize) -> Result<usize, StorageError> {
        let mut taken = 0;
        while taken < limit {
            let Some((key, (at, kind, place))) =
                self.tables.expiry.first()?.map(|(key, _)| (key.value(), expiry_of(&key.value())))
            else {
                break;
            };
            if at > now {
                break;
            }
            taken += match kind {
                TableKind::Value => self.expire_value(at, &place)?,
                TableKind::Provided => self.expire_provided(now, &place, limit - taken)?,
            };
            // Otherwise an index row without a record would be found again and again.
            if self.first_of(kind, &place)? != Some(at) {
                self.tables.expiry.remove(key)?;
            }
        }
        Ok(taken)
    }

    /// Makes items of other peers that expire after `latest` expire at `latest`, up to `limit` rows. Such items remain
    /// after a clock that was ahead is set back.
    fn cut(&mut self, now: Timestamp, latest: Timestamp, limit: usize) -> Result<usize, StorageError> {
        let (after, own) = (expiry_key(latest, TableKind::Provided, &[u8::MAX; 32]), narrow(self.counts.own));
        let rows = self.tables.expiry.range::<[u8; 41]>((Bound::Excluded(after), Bound::Unbounded))?.rev();
        let keys = rows.take(limit.saturating_add(own)).map(|row| row.map(|(key, _)| key.value()));
        let mut cut = 0;
        for key in keys.collect::<Result<Vec<_>, _>>()? {
            if cut == limit {
                break;
            }
            let (at, kind, place) = expiry_of(&key);
            match kind {
                TableKind::Value => self.cut_value(now, latest, &place)?,
                TableKind::Provided => self.cut_provided(latest, &place)?,
            }
            if self.first_of(kind, &place)? != Some(at) {
                self.tables.expiry.remove(key)?;
                cut += 1;
            }
        }
        Ok(cut)
    }

    /// The first expiry at this place.
    fn first_of(&mut self, kind: TableKind, place: &Place) -> Result<Option<Timestamp>, StorageError> {
        Ok(match kind {
            TableKind::Value => self.value_at(place)?.and_then(|(record, _)| record.expires),
            TableKind::Provided => self.provided_at(place)?.first(),
        })
    }

    fn value_at(&mut self, place: &Place) -> Result<Option<(Record, Cost)>, StorageError> {
        let Some(row) = self.tables.values.get(place)? else { return Ok(None) };
        let found = row::decode_value(row.value());
        drop(row);
        if found.is_none() {
            self.put_aside((TableKind::Value, *place))?;
        }
        Ok(found)
    }

    fn provided_at(&mut self, place: &Place) -> Result<Provided, StorageError> {
        let Some(row) = self.tables.provided.get(place)? else { return Ok(Provided::default()) };
        let found = Provided::decode(row.value());
        drop(row);
        if found.is_none() {
            self.put_aside((TableKind::Provided, *place))?;
        }
        Ok(found.unwrap_or_default())
    }

    /// Moves a damaged row to the table of damaged rows. Its index rows are removed when they are next met.
    fn put_aside(&mut self, (kind, place): Name) -> Result<(), StorageError> {
        report(&place);
        let key = own_key(&place, kind);
        let table = match kind {
            TableKind::Value => &mut self.tables.values,
            TableKind::Provided => &mut self.tables.provided,
        };
        if let Some(row) = table.remove(place)?
            && self.tables.damaged.len()? < MAX_DAMAGED
        {
            self.tables.damaged.insert(key, row.value())?;
        }
        self.tables.own.remove(key)?;
        self.changed.insert((kind, place));
        self.recount = true;
        Ok(())
    }

    /// Counts everything again, which takes seconds with a million records; done once for all rows that a group moves
    /// aside.
    fn counted(&self) -> Result<Counts, StorageError> {
        let mut counts = Counts { sequences: self.tables.sequences.len()?, ..Counts::default() };
        for row in self.tables.values.iter()? {
            if let Some((record, _)) = row::decode_value(row?.1.value()) {
                counts.add_value(&record);
            }
        }
        for row in self.tables.provided.iter()? {
            if let Some(row) = Provided::decode(row?.1.value()) {
                counts.add_provided(&row);
            }
        }
        Ok(counts)
    }
}

impl Counts {
    fn add_value(&mut self, record: &Record) {
        if record.own {
            self.own += 1;
        } else {
            self.values += 1;
            self.value_bytes += u64::from(value_size(record));
        }
    }

    fn add_provided(&mut self, row: &Provided) {
        self.own += wide(row.entries.iter().filter(|entry| entry.own).count());
        for entry in row.remote() {
            self.providers += 1;
            self.provider_bytes += u64::from(entry.cost.bytes);
        }
    }
}

/// Logs that a row cannot be read.
pub(super) fn report(place: &Place) {
    let start = u32::from_be_bytes([place[0], place[1], place[2], place[3]]);
    tracing::error!(place = format!("{start:08x}"), "a row of the store cannot be read and is moved aside");
}

fn wide(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

fn narrow(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn less(count: &mut u64, by: u64) {
    *count = count.saturating_sub(by);
}
