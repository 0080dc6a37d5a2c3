//! Rows in a slab, found by a hash and read in order of their places or of their expiry.
//!
//! Knows: slots, and what the [`Row`] trait tells. Must not know: what a row is. A slot has four bytes and only the
//! first 64 bits of a place are kept, so an entry of an order has sixteen bytes.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use hashbrown::HashTable;
use slab::Slab;

use crate::core::store::StoreError;
use crate::core::time::Timestamp;

pub(super) type Slot = u32;

/// Rows that may wait to be sorted in a table of any size. Source: sorting them takes a tenth of a millisecond.
const MIN_UNPLACED: usize = 1_024;

/// Minimum number of rows for which a table grows at once. Source: a small table doubles.
const MIN_GROWTH: usize = 16;

/// The rows that a table keeps.
pub(super) trait Row {
    type Name: ?Sized;

    /// A hash of the name under the store's seed.
    fn hash(&self) -> u64;
    fn has_name(&self, name: &Self::Name) -> bool;
    /// The head of its place in the keyspace, if it is walked by it.
    fn head(&self) -> Option<u64>;
    /// When it expires first, if it does.
    fn expires(&self) -> Option<Timestamp>;
}

pub(super) struct Table<R> {
    slab: Slab<R>,
    /// Each with half of its hash, so that growing touches no row.
    index: HashTable<(u32, Slot)>,
    /// All rows in order of their places, except for those in `unplaced`.
    places: BTreeSet<(u64, Slot)>,
    /// Rows added since the last scan, some of which may be removed by now. A scan sorts them in, so an insertion need
    /// not.
    unplaced: Vec<Slot>,
    ends: BTreeSet<(Timestamp, Slot)>,
}

impl<R: Row> Table<R> {
    pub(super) fn new() -> Table<R> {
        let (index, places, unplaced, ends) = (HashTable::new(), BTreeSet::new(), Vec::new(), BTreeSet::new());
        Table { slab: Slab::new(), index, places, unplaced, ends }
    }

    pub(super) fn find(&self, hash: u64, name: &R::Name) -> Option<Slot> {
        let same =
            |(half, slot): &(u32, Slot)| *half == hash as u32 && self.get(*slot).is_some_and(|row| row.has_name(name));
        self.index.find(spread(hash as u32), same).map(|(_, slot)| *slot)
    }

    pub(super) fn get(&self, slot: Slot) -> Option<&R> {
        self.slab.get(slot as usize)
    }

    pub(super) fn insert(&mut self, row: R) -> Result<Slot, StoreError> {
        let slot = Slot::try_from(self.slab.vacant_key()).map_err(|_| StoreError::Full)?;
        if row.head().is_some() {
            self.unplaced.push(slot);
        }
        self.ends.extend(row.expires().map(|at| (at, slot)));
        let half = row.hash() as u32;
        if self.slab.len() == self.slab.capacity() {
            // By a quarter, since twice as much would be a sixth of all that a value takes.
            self.slab.reserve_exact((self.slab.len() / 4).max(MIN_GROWTH));
        }
        self.slab.insert(row);
        self.index.insert_unique(spread(half), (half, slot), |(half, _)| spread(*half));
        // Sorting in half as many rows as are in order costs a constant for each row, and bounds the work of a scan.
        if self.unplaced.len() > self.places.len() / 2 + MIN_UNPLACED {
            self.place();
        }
        Ok(slot)
    }

    /// Sorts in the new rows.
    fn place(&mut self) {
        let new = std::mem::take(&mut self.unplaced).into_iter();
        let mut new: BTreeSet<_> = new.filter_map(|slot| Some((self.get(slot)?.head()?, slot))).collect();
        // `append` rebuilds the whole tree, `extend` searches it for each new row.
        if new.len() > self.places.len() / 8 { self.places.append(&mut new) } else { self.places.extend(new) }
    }

    /// A row, to change what is neither its name, its place nor its expiry.
    pub(super) fn get_mut(&mut self, slot: Slot) -> Option<&mut R> {
        self.slab.get_mut(slot as usize)
    }

    /// Changes a row, though neither its name nor its place.
    pub(super) fn change<T>(&mut self, slot: Slot, change: impl FnOnce(&mut R) -> T) -> Option<T> {
        let row = self.slab.get_mut(slot as usize)?;
        let before = row.expires();
        let changed = change(row);
        let after = row.expires();
        if before != after {
            before.map(|at| self.ends.remove(&(at, slot)));
            self.ends.extend(after.map(|at| (at, slot)));
        }
        Some(changed)
    }

    /// Changes all rows, though neither their names nor their places.
    pub(super) fn change_all(&mut self, change: impl Fn(&mut R)) {
        let all: Vec<_> = self.iter().map(|(slot, _)| slot).collect();
        all.into_iter().for_each(|slot| _ = self.change(slot, &change));
    }

    pub(super) fn remove(&mut self, slot: Slot) -> Option<R> {
        let row = self.slab.try_remove(slot as usize)?;
        row.head().map(|head| self.places.remove(&(head, slot)));
        row.expires().map(|at| self.ends.remove(&(at, slot)));
        if let Ok(entry) = self.index.find_entry(spread(row.hash() as u32), |(_, other)| *other == slot) {
            entry.remove();
        }
        if self.slab.is_empty() && self.slab.capacity() > MIN_UNPLACED {
            self.slab = Slab::new();
        }
        if is_too_wide(self.index.capacity(), self.index.len()) {
            self.index.shrink_to(0, |(half, _)| spread(*half));
        }
        Some(row)
    }

    /// The row that expires first, if it has expired at `now`.
    pub(super) fn expired(&self, now: Timestamp) -> Option<Slot> {
        self.ends.first().filter(|(at, _)| *at <= now).map(|(_, slot)| *slot)
    }

    pub(super) fn next_expiry(&self) -> Option<Timestamp> {
        self.ends.first().map(|(at, _)| *at)
    }

    /// All in order of their places, from this head on.
    pub(super) fn from(&mut self, head: u64) -> impl Iterator<Item = (u64, &R)> {
        self.place();
        self.places.range((head, 0)..).filter_map(|(head, slot)| Some((*head, self.get(*slot)?)))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Slot, &R)> {
        self.slab.iter().map(|(slot, row)| (slot as Slot, row))
    }

    pub(super) fn len(&self) -> usize {
        self.slab.len()
    }
}

/// Whether a hash table has room for four times as many entries as it has, so that it gives memory back.
pub(super) fn is_too_wide(capacity: usize, len: usize) -> bool {
    capacity > 4 * len + MIN_UNPLACED
}

/// The place of a row in the index.
fn spread(half: u32) -> u64 {
    u64::from(half).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
