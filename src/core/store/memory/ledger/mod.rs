//! The weights of accounts, and the order in which records are evicted.
//!
//! Knows: costs. Must not know: what a record is. The order is built for the first eviction and dropped once the records
//! take a quarter of what they may, so a store that is never full keeps only sums.
//!
//! Addresses are charged to the records that they came with, so that one rule is enough. *Dropped:* a share of a common
//! space for addresses, which needs a second rule and two more orders.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::ops::Bound;

use hashbrown::HashTable;

use super::table::is_too_wide;
use crate::core::store::eviction::{Account, Accounts, Cost, Ranked, Size};

/// The accounts of one pool of records.
pub(super) struct Ledger<Id> {
    max_records: u64,
    /// The bytes that the pool may take now, which depends on what the other pool takes.
    room: u64,
    /// Fewer bytes than these never have to be evicted from.
    least: u64,
    /// Bytes that each record takes beside those of its cost.
    overhead: u64,
    /// Bytes that no record pays for alone, such as those of a key that several records share.
    shared: u64,
    total: Size,
    weights: HashTable<(Account, u64)>,
    order: Option<Order<Id>>,
}

struct Order<Id> {
    /// Parent, weight, account.
    accounts: BTreeSet<(Account, u64, Account)>,
    /// Account, tier, inverted rank, record.
    records: BTreeSet<(Account, u8, u64, Id)>,
}

/// Records that share bounds.
pub(super) trait Pool {
    type Id: Copy + Ord + Default;

    fn ledger(&mut self) -> &mut Ledger<Self::Id>;
    fn ledger_ref(&self) -> &Ledger<Self::Id>;
    fn ranked(&self, id: Self::Id) -> Option<Ranked<Self::Id>>;
    /// Stores this cost with a record, in place of another.
    fn note(&mut self, id: Self::Id, cost: &Cost);
    fn all(&self) -> Vec<Ranked<Self::Id>>;
}

/// A pool, seen by the eviction rule.
pub(super) struct PoolAccounts<'a, P>(pub(super) &'a mut P);

impl<Id: Copy + Ord + Default> Ledger<Id> {
    /// For at most so many records, each with this overhead; `least` bytes are always theirs.
    pub(super) fn new(records: usize, least: u64, overhead: usize) -> Ledger<Id> {
        let (max_records, overhead) = (records as u64, overhead as u64);
        let (weights, total) = (HashTable::new(), Size::default());
        Ledger { max_records, room: least, least, overhead, shared: 0, total, weights, order: None }
    }

    /// Sets the bytes that all records may take from now on.
    pub(super) fn set_room(&mut self, room: u64) {
        self.room = room;
    }

    /// Sets the bytes that no record pays for alone.
    pub(super) fn set_shared(&mut self, shared: u64) {
        self.shared = shared;
    }

    pub(super) fn total(&self) -> Size {
        self.total
    }

    /// The bytes that all records take.
    pub(super) fn used(&self) -> u64 {
        self.bytes_of(self.total).saturating_add(self.shared)
    }

    pub(super) fn has_room(&self, more: Size, less: Size) -> bool {
        let fits = |kept: u64, more: u64, less: u64, bound| kept.saturating_add(more).saturating_sub(less) <= bound;
        fits(self.total.records, more.records, less.records, self.max_records)
            && fits(self.used(), self.bytes_of(more), self.bytes_of(less), self.room)
    }

    fn bytes_of(&self, size: Size) -> u64 {
        size.bytes.saturating_add(size.records.saturating_mul(self.overhead))
    }

    fn order(&self, records: Vec<Ranked<Id>>) -> Order<Id> {
        let accounts = self.weights.iter().filter_map(|(account, weight)| Some((account.parent()?, *weight, *account)));
        Order { accounts: accounts.collect(), records: records.iter().map(|r| place(r.id, r.rank, &r.cost)).collect() }
    }
}

impl<P: Pool> Accounts for PoolAccounts<'_, P> {
    type Id = P::Id;
    type Error = Infallible;

    fn weight(&self, account: Account) -> Result<u64, Infallible> {
        let weights = &self.0.ledger_ref().weights;
        Ok(weights.find(hash_of(account), |entry| entry.0 == account).map_or(0, |entry| entry.1))
    }

    fn change_weight(&mut self, account: Account, less: u64, more: u64) -> Result<(), Infallible> {
        let ledger = self.0.ledger();
        let entry = ledger.weights.entry(hash_of(account), |entry| entry.0 == account, |entry| hash_of(entry.0));
        let mut entry = entry.or_insert((account, 0));
        let from = entry.get().1;
        let to = from.saturating_sub(less) + more;
        entry.get_mut().1 = to;
        if to == 0 {
            entry.remove();
            if is_too_wide(ledger.weights.capacity(), ledger.weights.len()) {
                ledger.weights.shrink_to(0, |entry| hash_of(entry.0));
            }
        }
        if let (Some(order), Some(parent)) = (&mut ledger.order, account.parent()) {
            order.accounts.remove(&(parent, from, account));
            order.accounts.extend((to > 0).then_some((parent, to, account)));
        }
        Ok(())
    }

    fn heaviest(
        &mut self,
        parent: Account,
        before: Option<(u64, Account)>,
    ) -> Result<Option<(u64, Account)>, Infallible> {
        if self.0.ledger_ref().order.is_none() {
            let records = self.0.all();
            let order = self.0.ledger().order(records);
            self.0.ledger().order = Some(order);
        }
        let (weight, account) = before.unwrap_or((u64::MAX, Account::PUBLISHED));
        let order = self.0.ledger_ref().order.as_ref();
        let last = order
            .and_then(|order| order.accounts.range((parent, 0, Account::PUBLISHED)..(parent, weight, account)).last());
        Ok(last.map(|(_, weight, account)| (*weight, *account)))
    }

    fn next(&mut self, account: Account, after: Option<&Ranked<P::Id>>) -> Result<Option<Ranked<P::Id>>, Infallible> {
        let from = match after {
            Some(after) => Bound::Excluded(place(after.id, after.rank, &after.cost)),
            None => Bound::Included((account, 0, 0, P::Id::default())),
        };
        let order = self.0.ledger_ref().order.as_ref();
        let next = order.and_then(|order| order.records.range((from, Bound::Unbounded)).next());
        Ok(next.filter(|(of, ..)| *of == account).and_then(|(.., id)| self.0.ranked(*id)))
    }

    fn set_cost(&mut self, id: P::Id, before: Option<&Cost>, after: Option<&Cost>) -> Result<(), Infallible> {
        if let (Some(_), Some(after)) = (before, after) {
            self.0.note(id, after);
        }
        let rank = self.0.ledger_ref().order.as_ref().and_then(|_| self.0.ranked(id)).map(|record| record.rank);
        let ledger = self.0.ledger();
        let bytes = |cost: Option<&Cost>| cost.map_or(0, |cost| u64::from(cost.bytes));
        ledger.total.records = ledger.total.records + u64::from(after.is_some()) - u64::from(before.is_some());
        ledger.total.bytes = ledger.total.bytes + bytes(after) - bytes(before);
        if ledger.total.records < ledger.max_records / 2 && ledger.used() < ledger.least / 2 {
            ledger.order = None;
        }
        if let (Some(order), Some(rank)) = (&mut ledger.order, rank) {
            before.map(|before| order.records.remove(&place(id, rank, before)));
            order.records.extend(after.map(|after| place(id, rank, after)));
        }
        Ok(())
    }

    fn has_room(&self, more: Size, less: Size) -> bool {
        self.0.ledger_ref().has_room(more, less)
    }
}

/// An account is a hash already.
fn hash_of(account: Account) -> u64 {
    account.to_bits().wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32)
}

fn place<Id>(id: Id, rank: u64, cost: &Cost) -> (Account, u8, u64, Id) {
    (cost.account, cost.tier(), !rank, id)
}
