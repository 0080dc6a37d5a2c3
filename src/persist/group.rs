//! What each write does to the tables, within one transaction, and who gives way when a bound is reached.
//!
//! Knows: the bounds, the counts and the indices. Must not know: threads, tickets, or when a transaction ends.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use libp2p_identity::PeerId;
use redb::{ReadableTable as _, StorageError};
use sha2::{Digest, Sha256};

use super::DiskStoreConfig;
use super::cache::Name;
use super::row::{self, Entry, Provided};
use super::tables::{Counts, Kind, Place, Tables, expiry_key, expiry_of, order_key, order_of, own_key, place_of};
use crate::core::Contact;
use crate::core::Timestamp;
use crate::core::store::{SEQUENCE_MEMORY, StoreError};
use crate::core::{ProviderRecord, Record, RecordKey};

/// How long the sequence number of a value without expiry is remembered once the application removed it. Source: as the
/// memory store.
const REMOVED_FOR: Duration = Duration::from_secs(96 * 3600);

/// One write.
#[derive(Debug)]
pub(super) enum Op {
    Put(Timestamp, Record),
    Remove(RecordKey),
    AddProvider(Timestamp, ProviderRecord),
    RemoveProvider(RecordKey, PeerId),
    SavePeers(Vec<Arc<Contact>>),
    Expire(Timestamp, usize),
}

/// How one write of a group ends, if the group is kept.
#[derive(Clone, Copy, Debug)]
pub(super) enum End {
    Stored(Result<(), StoreError>),
    Expired(usize),
}

/// The writes of one transaction.
pub(super) struct Group<'t, 'c> {
    tables: Tables<'t>,
    counts: Counts,
    changed: BTreeSet<Name>,
    config: &'c DiskStoreConfig,
    seed: [u8; 32],
}

/// Whether one more provider record is possible.
enum Room {
    Free,
    /// If this entry of the same key goes.
    InsteadOf(usize),
    /// Unless something expires.
    Full,
    /// Its lot is worse than those of all that are there.
    Outdrawn,
}

/// What is counted about the row of one key.
#[derive(Clone, Copy, Default)]
struct Tally {
    first: Option<Timestamp>,
    remote: u64,
    own: u64,
    addr_bytes: u64,
}

impl<'t, 'c> Group<'t, 'c> {
    pub(super) fn new(
        tables: Tables<'t>,
        counts: Counts,
        config: &'c DiskStoreConfig,
        seed: [u8; 32],
    ) -> Group<'t, 'c> {
        Group { tables, counts, changed: BTreeSet::new(), config, seed }
    }

    /// Makes one write. An error means that the whole group is lost.
    pub(super) fn apply(&mut self, op: &Op) -> Result<End, StorageError> {
        Ok(match op {
            Op::Put(now, record) => End::Stored(self.put(*now, record)?),
            Op::Remove(key) => {
                self.leave_sequence(&place_of(&key.key()))?;
                self.remove_value(&place_of(&key.key()))?;
                End::Stored(Ok(()))
            }
            Op::AddProvider(now, record) => End::Stored(self.add_provider(*now, record)?),
            Op::RemoveProvider(key, provider) => {
                self.remove_provider(&place_of(&key.key()), provider)?;
                End::Stored(Ok(()))
            }
            Op::SavePeers(peers) => {
                self.tables.meta.insert("peers", row::encode_peers(peers).as_slice())?;
                End::Stored(Ok(()))
            }
            Op::Expire(now, limit) => End::Expired(self.expire(*now, *limit)?),
        })
    }

    /// Writes the counts, as the last act of the group.
    pub(super) fn finish(&mut self) -> Result<Option<Timestamp>, StorageError> {
        self.tables.meta.insert("counts", self.counts.encode().as_slice())?;
        super::tables::first_expiry(&self.tables.expiry)
    }

    /// Lets go of the tables. What is counted, and what changed.
    pub(super) fn end(self) -> (Counts, BTreeSet<Name>) {
        (self.counts, self.changed)
    }

    fn put(&mut self, now: Timestamp, record: &Record) -> Result<Result<(), StoreError>, StorageError> {
        let place = place_of(&record.key.key());
        if !record.own {
            while !self.has_room(&place, record)? {
                if self.expire(now, 1)? == 0 {
                    return Ok(Err(StoreError::Full));
                }
            }
        }
        if self.value_at(&place)?.is_some_and(|old| old.is_expired(now)) {
            // Over, and nobody took it yet: what it leaves is remembered.
            self.leave_sequence(&place)?;
        }
        self.remove_value(&place)?;
        if let Some(at) = record.expires {
            self.tables.expiry.insert(expiry_key(at, Kind::Value, &place), ())?;
        }
        if record.own {
            self.tables.own.insert(own_key(&place, Kind::Value), ())?;
            self.counts.own += 1;
        } else {
            self.counts.values += 1;
            self.counts.value_bytes += size(record);
        }
        self.tables.values.insert(place, row::encode_value(record).as_slice())?;
        self.changed.insert((Kind::Value, place));
        Ok(Ok(()))
    }

    /// Whether the bounds allow `record` in place of what is at `place` now.
    fn has_room(&self, place: &Place, record: &Record) -> Result<bool, StorageError> {
        let (values, bytes) = match self.value_at(place)?.filter(|old| !old.own) {
            Some(old) => (self.counts.values.saturating_sub(1), self.counts.value_bytes.saturating_sub(size(&old))),
            None => (self.counts.values, self.counts.value_bytes),
        };
        Ok(values < wide(self.config.max_values) && bytes + size(record) <= wide(self.config.max_value_bytes))
    }

    fn value_at(&self, place: &Place) -> Result<Option<Record>, StorageError> {
        let Some(found) = self.tables.values.get(place)? else { return Ok(None) };
        Ok(readable(row::decode_value(found.value()), place))
    }

    fn remove_value(&mut self, place: &Place) -> Result<(), StorageError> {
        let old = self.value_at(place)?;
        if self.tables.values.remove(place)?.is_none() {
            return Ok(());
        }
        self.changed.insert((Kind::Value, *place));
        let Some(old) = old else { return Ok(()) };
        if let Some(at) = old.expires {
            self.tables.expiry.remove(expiry_key(at, Kind::Value, place))?;
        }
        if old.own {
            self.tables.own.remove(own_key(place, Kind::Value))?;
            less(&mut self.counts.own, 1);
        } else {
            less(&mut self.counts.values, 1);
            less(&mut self.counts.value_bytes, size(&old));
        }
        Ok(())
    }

    /// Forgets up to `limit` items that are over at `now`.
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
                Kind::Value => self.expire_value(at, &place)?,
                Kind::Provided => self.expire_provided(now, &place, limit - taken)?,
            };
            // An entry that leads to nothing must not be met for ever.
            if self.first_of(kind, &place)? != Some(at) {
                self.tables.expiry.remove(key)?;
            }
        }
        Ok(taken)
    }

    /// When what is at this place is over first.
    fn first_of(&self, kind: Kind, place: &Place) -> Result<Option<Timestamp>, StorageError> {
        Ok(match kind {
            Kind::Value => self.value_at(place)?.and_then(|record| record.expires),
            Kind::Provided => Tally::of(&self.provided_at(place)?).first,
        })
    }

    fn expire_value(&mut self, at: Timestamp, place: &Place) -> Result<usize, StorageError> {
        let Some(old) = self.value_at(place)? else {
            self.remove_value(place)?;
            return Ok(0);
        };
        if old.expires != Some(at) {
            return Ok(0);
        }
        self.leave_sequence(place)?;
        self.remove_value(place)?;
        Ok(1)
    }

    /// Keeps in mind what sequence the value at this place has, before it goes: copies of it are still about.
    fn leave_sequence(&mut self, place: &Place) -> Result<(), StorageError> {
        let Some(old) = self.value_at(place)? else { return Ok(()) };
        let Some(sequence) = old.sequence else { return Ok(()) };
        let until = match old.expires {
            Some(expires) => expires + expires.since(old.received).max(SEQUENCE_MEMORY),
            None => old.announced.unwrap_or_default().max(old.received) + REMOVED_FOR,
        };
        self.remember(place, sequence, until)
    }

    /// Keeps in mind what sequence a value had that is over.
    fn remember(&mut self, place: &Place, sequence: u64, until: Timestamp) -> Result<(), StorageError> {
        let before = self.tables.sequences.get(place)?.map(|found| found.value());
        let until = until.as_micros();
        let (sequence, until) = before.map_or((sequence, until), |(s, u)| (sequence.max(s), until.max(u)));
        match before {
            Some((_, before)) => drop(self.tables.sequence_order.remove(order_key(before, place))?),
            None => self.counts.sequences += 1,
        }
        self.tables.sequences.insert(place, (sequence, until))?;
        self.tables.sequence_order.insert(order_key(until, place), ())?;
        self.changed.insert((Kind::Value, *place));
        while self.counts.sequences > wide(self.config.max_sequences) {
            let Some(first) = self.tables.sequence_order.pop_first()?.map(|(key, _)| order_of(&key.value())) else {
                self.counts.sequences = 0;
                break;
            };
            self.tables.sequences.remove(first)?;
            self.changed.insert((Kind::Value, first));
            less(&mut self.counts.sequences, 1);
        }
        Ok(())
    }

    fn add_provider(
        &mut self,
        now: Timestamp,
        record: &ProviderRecord,
    ) -> Result<Result<(), StoreError>, StorageError> {
        let place = place_of(&record.key.key());
        let peer = record.provider.peer().to_bytes();
        loop {
            let mut row = self.provided_at(&place)?;
            let before = Tally::of(&row);
            row.name = record.key.as_bytes().to_vec();
            if !record.own {
                match self.room(now, &place, &peer, &mut row) {
                    Room::Free => {}
                    Room::InsteadOf(victim) => drop(row.entries.remove(victim)),
                    Room::Outdrawn => return Ok(Err(StoreError::Full)),
                    Room::Full if self.expire(now, 1)? == 0 => return Ok(Err(StoreError::Full)),
                    Room::Full => continue,
                }
            }
            row.entries.retain(|entry| entry.peer != peer);
            let others = Tally::of(&row).addr_bytes;
            let elsewhere = self.counts.addr_bytes.saturating_sub(before.addr_bytes);
            let left = wide(self.config.max_addr_bytes).saturating_sub(elsewhere + others);
            let left = usize::try_from(left).unwrap_or(usize::MAX).min(self.config.max_addr_bytes_per_record);
            row.entries.push(Entry::new(record, if record.own { usize::MAX } else { left }));
            self.write_provided(&place, before, &row)?;
            return Ok(Ok(()));
        }
    }

    /// Whether the bounds allow one more remote record of this key. Those of it that are over give way first.
    fn room(&self, now: Timestamp, place: &Place, peer: &[u8], row: &mut Provided) -> Room {
        let remote = |row: &Provided| row.entries.iter().filter(|entry| !entry.own).count();
        if row.entries.iter().any(|entry| !entry.own && entry.peer == peer) {
            return Room::Free;
        }
        let had_remote = remote(row) > 0;
        if remote(row) >= self.config.max_providers_per_key {
            row.entries.retain(|entry| entry.expires > now);
        }
        if remote(row) >= self.config.max_providers_per_key {
            let entries = row.entries.iter().enumerate().filter(|(_, entry)| !entry.own);
            let last = entries.map(|(i, entry)| (self.rank(place, &entry.peer), i)).max();
            return match last {
                Some((worst, i)) if self.rank(place, peer) < worst => Room::InsteadOf(i),
                _ => Room::Outdrawn,
            };
        }
        let one_more_key = had_remote || self.counts.provided_keys < wide(self.config.max_provided_keys);
        if one_more_key && self.counts.providers < wide(self.config.max_providers) { Room::Free } else { Room::Full }
    }

    /// A lot that nobody can foresee without the seed, and that does not change from one announcement to the next.
    fn rank(&self, place: &Place, peer: &[u8]) -> u64 {
        let digest = Sha256::new().chain_update(self.seed).chain_update(place).chain_update(peer).finalize();
        digest.iter().take(8).fold(0, |rank, byte| (rank << 8) | u64::from(*byte))
    }

    fn remove_provider(&mut self, place: &Place, provider: &PeerId) -> Result<(), StorageError> {
        let mut row = self.provided_at(place)?;
        let before = Tally::of(&row);
        let (peer, count) = (provider.to_bytes(), row.entries.len());
        row.entries.retain(|entry| entry.peer != peer);
        if row.entries.len() == count { Ok(()) } else { self.write_provided(place, before, &row) }
    }

    fn expire_provided(&mut self, now: Timestamp, place: &Place, limit: usize) -> Result<usize, StorageError> {
        let mut row = self.provided_at(place)?;
        let before = Tally::of(&row);
        let mut taken = 0;
        row.entries.retain(|entry| {
            let goes = taken < limit && entry.expires <= now;
            taken += usize::from(goes);
            !goes
        });
        self.write_provided(place, before, &row)?;
        Ok(taken)
    }

    fn provided_at(&self, place: &Place) -> Result<Provided, StorageError> {
        let Some(found) = self.tables.provided.get(place)? else { return Ok(Provided::default()) };
        Ok(readable(Provided::decode(found.value()), place).unwrap_or_default())
    }

    /// Writes the row of one key, and everything that is counted about it.
    fn write_provided(&mut self, place: &Place, before: Tally, row: &Provided) -> Result<(), StorageError> {
        let after = Tally::of(row);
        if row.entries.is_empty() {
            self.tables.provided.remove(place)?;
        } else {
            self.tables.provided.insert(place, row.encode().as_slice())?;
        }
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
        let counts = &mut self.counts;
        counts.providers = (counts.providers + after.remote).saturating_sub(before.remote);
        counts.own = (counts.own + after.own).saturating_sub(before.own);
        counts.addr_bytes = (counts.addr_bytes + after.addr_bytes).saturating_sub(before.addr_bytes);
        let keys = counts.provided_keys + u64::from(after.remote > 0);
        counts.provided_keys = keys.saturating_sub(u64::from(before.remote > 0));
        self.changed.insert((Kind::Provided, *place));
        Ok(())
    }
}

impl Tally {
    fn of(row: &Provided) -> Tally {
        let mut tally = Tally::default();
        for entry in &row.entries {
            tally.first = Some(tally.first.map_or(entry.expires, |first| first.min(entry.expires)));
            if entry.own {
                tally.own += 1;
            } else {
                tally.remote += 1;
                tally.addr_bytes += wide(entry.addr_bytes());
            }
        }
        tally
    }
}

/// What was read, or a line in the log: a row that cannot be read is as good as none.
pub(super) fn readable<T>(row: Option<T>, place: &Place) -> Option<T> {
    if row.is_none() {
        let start = u32::from_be_bytes([place[0], place[1], place[2], place[3]]);
        tracing::error!(place = format!("{start:08x}"), "a row of the store cannot be read and is passed over");
    }
    row
}

fn size(record: &Record) -> u64 {
    wide(record.key.as_bytes().len() + record.value.len())
}

fn wide(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

fn less(count: &mut u64, by: u64) {
    *count = count.saturating_sub(by);
}
