//! Whose addresses give way where their bound is reached: the rule of the memory store, for keys and their records.
//!
//! Knows: the bytes of addresses. Must not know: whose records stay (`room`). Nobody keeps many addresses where another
//! has to do with few: the key whose addresses take the most loses one, of that record which has the most.

use redb::{ReadableTable as _, StorageError};

use super::super::row::{Entry, Provided};
use super::super::tables::{Place, order_of};
use super::provided::Tally;
use super::{Group, wide};
use libp2p_kad_dht::core::{Key, Timestamp};

/// How many other keys lose addresses for those of one record, and how many entries that lead to nothing are cleared away.
const MAX_STEPS: usize = 16;

impl Group<'_, '_> {
    /// Sees that the addresses of all fit once this row is written, in which `peer` is new or renewed: as many of its
    /// addresses stay, in their order, as there is room for or others make room for.
    pub(super) fn make_addr_room(
        &mut self,
        now: Timestamp,
        place: &Place,
        before: &Tally,
        row: &mut Provided,
        peer: &[u8],
    ) -> Result<(), StorageError> {
        if self.excess(before, row) == 0 {
            return Ok(());
        }
        row.entries.iter_mut().filter(|entry| !entry.own && entry.peer != peer).for_each(|entry| entry.drop_over(now));
        let Some(mine) = row.position(peer) else { return Ok(()) };
        let offered = std::mem::take(&mut row.entries[mine].addrs);
        let mut steps = 0;
        for addr in offered {
            row.entries[mine].addrs.push(addr);
            while self.excess(before, row) > 0 {
                let others = steps < MAX_STEPS && self.trim_another(now, place, before, row)?;
                steps += 1;
                if !others && !self.trim_here(place, row, mine) {
                    row.entries[mine].addrs.pop();
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// How many bytes of addresses would be too many with this row.
    fn excess(&self, before: &Tally, row: &Provided) -> u64 {
        let others = self.counts.addr_bytes.saturating_sub(before.addr_bytes);
        (others + row.addr_bytes()).saturating_sub(wide(self.config.max_addr_bytes))
    }

    /// Takes addresses from that other key whose addresses take the most, as many as are needed and until this one has
    /// more. False if this one has more.
    fn trim_another(
        &mut self,
        now: Timestamp,
        place: &Place,
        before: &Tally,
        row: &Provided,
    ) -> Result<bool, StorageError> {
        let mine = self.rank(place, row);
        let Some(other) = self.largest_addrs(place, mine)? else { return Ok(false) };
        let mut theirs = self.provided_at(&other)?;
        let tally = self.tally(&theirs);
        theirs.entries.iter_mut().filter(|entry| !entry.own).for_each(|entry| entry.drop_over(now));
        let needed = self.excess(before, row);
        while tally.addr_bytes.saturating_sub(theirs.addr_bytes()) < needed && self.rank(&other, &theirs) > mine {
            let Some((_, at)) = self.largest_entry(&other, &theirs) else { break };
            theirs.entries[at].addrs.pop();
        }
        self.write_provided(&other, tally, &mut theirs)?;
        Ok(true)
    }

    /// Takes an address from that record of this key which has the most, if it is another one.
    fn trim_here(&self, place: &Place, row: &mut Provided, mine: usize) -> bool {
        match self.largest_entry(place, row) {
            Some((_, at)) if at != mine => row.entries[at].addrs.pop().is_some(),
            _ => false,
        }
    }

    /// Where a key stands among all by the bytes of its addresses.
    fn rank(&self, place: &Place, row: &Provided) -> u64 {
        order_of(&self.size_of(place, row.addr_bytes())).0
    }

    /// The key whose addresses take the most, of those other than this that stand above `rank`.
    fn largest_addrs(&mut self, place: &Place, rank: u64) -> Result<Option<Place>, StorageError> {
        for _ in 0..MAX_STEPS {
            let mut largest = None;
            for entry in self.tables.addr_sizes.iter()?.rev().take(2) {
                let entry = entry?.0.value();
                if order_of(&entry).1 != *place {
                    largest = Some(entry);
                    break;
                }
            }
            let Some(entry) = largest.filter(|entry| order_of(entry).0 > rank) else { return Ok(None) };
            let other = order_of(&entry).1;
            let bytes = self.provided_at(&other)?.addr_bytes();
            if self.size_of(&other, bytes) == entry {
                return Ok(Some(other));
            }
            // It leads to nothing.
            self.tables.addr_sizes.remove(entry)?;
        }
        Ok(None)
    }

    /// The remote record of a key whose addresses take the most, the worst lot among several.
    fn largest_entry(&self, place: &Place, row: &Provided) -> Option<((usize, u32), usize)> {
        let key = Key::from_bytes(*place);
        let remote = row.entries.iter().enumerate().filter(|(_, entry)| !entry.own && !entry.addrs.is_empty());
        remote.map(|(at, entry)| ((entry.addr_bytes(), self.lots.of_record(&key, &entry.peer)), at)).max()
    }
}

impl Entry {
    /// Forgets addresses that are over.
    fn drop_over(&mut self, now: Timestamp) {
        if self.addrs_expire <= now {
            self.addrs.clear();
        }
    }
}
