//! The eviction rule of a full store, the same for every store.
//!
//! Knows: the account that pays for a record, the record's age in the store, and the order of eviction. Must not know:
//! what a record is, or how a store keeps one. A store implements [`Accounts`] over ordered maps or tables, calls
//! [`update_accounts`] for each record that is added, changed or removed, and removes the [`victims`] before it writes
//! one.
//!
//! # The rule
//!
//! * The peer that sent a record pays for it, and so does its IP group where groups count. If several peers sent it,
//!   the one with the fewest records pays, see [`Cost::sent_again`].
//! * Records that holders replicate are paid by separate accounts, below [`Account::REPLICATED`]. They are evicted
//!   first while they fill more than half of the store, and a new one never evicts a record that was kept for
//!   [`SETTLED_AFTER`].
//! * Records near this node, those for which it is one of the k closest, are evicted last: a far new record never
//!   evicts a near one, and a near one is evicted only when the accounts that have to give way have no far records
//!   left.
//! * A full store evicts from the group with the greatest weight, and within it from the peer with the greatest weight.
//!   The new record counts for its sender, so the heaviest sender evicts only its own records. Between equal accounts
//!   the less settled record is evicted, then the one of the higher account number, which is secret and random.
//! * Of one peer's far or near records, new ones from a single sender are evicted before those that were kept for
//!   [`SETTLED_AFTER`] or had several senders; among these the one with the higher rank, a hash under the store's
//!   secret seed.
//! * A new version of a stored record is always accepted. If a holder sends it, it evicts far settled records only when
//!   no other far ones are left, and near ones after those. This node's own records pay nothing and are never evicted.
//!
//! # Alternatives
//!
//! *Dropped:* a random rank over keys, under which a million keys from one peer left 16 of 500 values; refusing records
//! when full, which lets whichever peer came first starve all others until its records expire; evicting the oldest
//! first, which rewards loud peers; counting what a holder replicates as its own, by which a flooded holder loses what
//! it published.

#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::time::Duration;

use crate::core::time::Timestamp;

/// Age at which a record counts as settled, which is evicted after new ones of the same account. Source: holders
/// replicate once an hour, so a settled record has lived through a whole round.
pub const SETTLED_AFTER: Duration = Duration::from_secs(3600);

/// Bytes of one share, the unit of weight; a shorter record weighs one share too. Source: both stores allow this many
/// bytes for each value by default.
pub const SHARE: u64 = 1_024;

/// Maximum number of records that one write evicts, and looks at in each class. Source: a value of 64 KiB, the
/// longest that a store takes by default, takes as many bytes as 1,638 values of 40 bytes with their keys.
pub const MAX_STEPS: usize = 2_048;

/// Maximum number of accounts of equal weight that one write searches for a less settled record than the new one.
/// Source: if half of them have one, it is found with a chance of 255 in 256.
const MAX_EQUALS: usize = 8;

/// The same where a near record searches for far ones. Source: if a tenth of the accounts have one, it is found with a
/// chance of 998 in 1,000.
const MAX_EQUALS_OF_NEAR: usize = 64;

/// Account that pays for records: a peer, its IP group, or all groups of one kind. A number under the store's secret
/// seed.
///
/// The account of one peer pays for a record, and with it the accounts above.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Account(u64);

impl Account {
    /// All groups, for records that their peers published or sent for others.
    pub const PUBLISHED: Account = Account(0);
    /// All groups, for records that their peers replicated as holders, that is as one of the k peers closest to the
    /// key.
    pub const REPLICATED: Account = Account(1 << 63);

    /// The account of a peer, in one of the two kinds. Both hashes are made by the store, under its secret seed and
    /// differently for peers and groups; `group` is the hash of the peer's IP group where groups count, else the peer
    /// is a group of its own.
    pub fn of_peer(peer: u64, group: Option<u64>, kind: Account) -> Account {
        // From the highest bit: kind 1, group 31, peer 32. A group and a peer have their lowest bit set, so that they
        // differ from the account above, whose bits below are zero.
        let group = (group.unwrap_or(peer) >> 33 | 1) << 32;
        Account(kind.0 | group | (peer & 0xffff_ffff) | 1)
    }

    /// The account that [`Account::to_bits`] gave these bits.
    pub const fn from_bits(bits: u64) -> Account {
        Account(bits)
    }

    /// The account in 64 bits, to be kept beside a record.
    pub const fn to_bits(self) -> u64 {
        self.0
    }

    /// The account above this one: a peer's group, a group's kind; none is above [`Account::PUBLISHED`] and
    /// [`Account::REPLICATED`].
    pub const fn parent(self) -> Option<Account> {
        let (group, kind) = (self.0 & (u64::MAX << 32), self.0 & (1 << 63));
        match self.0 {
            of_peer if of_peer != group => Some(Account(group)),
            of_group if of_group != kind => Some(Account(kind)),
            _ => None,
        }
    }

    const fn kind(self) -> Account {
        Account(self.0 & (1 << 63))
    }

    /// This account and those above it.
    fn line(self) -> impl Iterator<Item = Account> {
        std::iter::successors(Some(self), |account| account.parent())
    }
}

/// Cost of a remote record, and the account that pays it. A store keeps this with each record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "each store writes all of it down")]
pub struct Cost {
    /// Account that pays now.
    pub account: Account,
    /// Account of the first sender, which pays again once `account` has become the heavier one. So a fresh account
    /// cannot take over the records of others and have them evicted in a flood of its own.
    pub first: Account,
    /// Bytes that it takes.
    pub bytes: u32,
    /// When the store began to keep it.
    pub since: Timestamp,
    /// Whether more than one account sent it.
    pub several: bool,
    /// Whether this node is among the k peers closest to its key.
    pub near: bool,
    /// Whether [`Accounts::next`] finds it among the settled ones. The rule itself sets this.
    pub settled: bool,
}

impl Cost {
    /// The cost of a record that this account sends for the first time.
    pub const fn new(account: Account, bytes: u32, now: Timestamp, near: bool) -> Cost {
        Cost { account, first: account, bytes, since: now, several: false, near, settled: false }
    }

    /// The weight in shares, at least one.
    pub fn shares(&self) -> u64 {
        u64::from(self.bytes).div_ceil(SHARE).max(1)
    }

    /// The order in which an account's records are evicted, lowest first.
    pub const fn tier(&self) -> u8 {
        2 * self.near as u8 + self.settled as u8
    }

    /// The cost after `by` sent the same record again: the lighter account pays.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub fn sent_again<A: Accounts>(mut self, accounts: &A, by: Account) -> Result<Cost, A::Error> {
        self.several |= by != self.first || by != self.account;
        // A record that several peers sent is settled at once: a flood would have to send it from two accounts.
        self.settled |= self.several;
        if is_lighter(accounts, by, &self)? {
            self.account = by;
        }
        Ok(self)
    }

    /// The cost after `by` sent another version of the record, with this many bytes: `by` pays. It stays settled only
    /// if `by` paid before.
    pub const fn replaced(self, by: Account, bytes: u32, now: Timestamp) -> Cost {
        let mut cost = Cost::new(by, bytes, now, self.near);
        if by.0 == self.account.0 || by.0 == self.first.0 {
            (cost.since, cost.settled) = (self.since, self.settled && !self.several);
        }
        cost
    }

    /// The shares that it adds to its account, and to those above that one.
    fn weights(&self) -> impl Iterator<Item = (Account, u64)> {
        let shares = self.shares();
        self.account.line().map(move |account| (account, shares))
    }

    fn size(&self) -> Size {
        Size { records: 1, bytes: self.bytes.into() }
    }

    fn is_old(&self, now: Timestamp) -> bool {
        now.since(self.since) >= SETTLED_AFTER
    }
}

/// A number of records and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "two numbers")]
pub struct Size {
    /// Number of records.
    pub records: u64,
    /// Number of bytes of all of them.
    pub bytes: u64,
}

impl std::ops::AddAssign for Size {
    fn add_assign(&mut self, other: Size) {
        self.records += other.records;
        self.bytes += other.bytes;
    }
}

/// A record in the order of eviction.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "each store makes and reads it")]
pub struct Ranked<Id> {
    /// The store's name for it.
    pub id: Id,
    /// A hash of the record's key (and provider) under the store's secret seed: it must be the same each time.
    pub rank: u64,
    /// Its cost.
    pub cost: Cost,
}

/// Space that a write needs, asked for before the write.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_enums, reason = "a store asks for nothing else")]
pub enum Wanted<'c, Id> {
    /// Space for a record that is not stored yet, with this rank.
    New(u64, &'c Cost),
    /// Space for another version of this record: its cost until now, and from now on. It is always accepted.
    Update(Id, &'c Cost, &'c Cost),
    /// No space: the bounds were lowered, and the store has to shrink.
    Less,
}

/// The accounts of a store and its records in order of eviction. The store keeps them, the rule reads and writes them.
///
/// A store with separate bounds for values and provider records implements this for each of the two.
///
/// # Errors
///
/// The store's own.
pub trait Accounts {
    /// The store's name for a record.
    type Id: Copy + PartialEq;
    /// How the store can fail; [`std::convert::Infallible`] in memory.
    type Error;

    /// The weight of this account in shares; zero if it is unknown.
    fn weight(&self, account: Account) -> Result<u64, Self::Error>;

    /// Subtracts `less` shares from the weight and adds `more`. An account that reaches zero is removed.
    fn change_weight(&mut self, account: Account, less: u64, more: u64) -> Result<(), Self::Error>;

    /// The heaviest account with this [`parent`](Account::parent): the last in the order of weight and account, of
    /// those before `before`.
    fn heaviest(
        &mut self,
        parent: Account,
        before: Option<(u64, Account)>,
    ) -> Result<Option<(u64, Account)>, Self::Error>;

    /// The next record of this peer's account in order of eviction, after the one given: the lowest
    /// [`tier`](Cost::tier), among those the highest rank.
    fn next(
        &mut self,
        account: Account,
        after: Option<&Ranked<Self::Id>>,
    ) -> Result<Option<Ranked<Self::Id>>, Self::Error>;

    /// Stores the cost of a record and moves it in the order of [`Accounts::next`]. `before` is `None` for a new
    /// record, which was written with its cost; `after` is `None` for one that is removed.
    fn set_cost(&mut self, id: Self::Id, before: Option<&Cost>, after: Option<&Cost>) -> Result<(), Self::Error>;

    /// Whether the bounds hold after this much is added and this much removed.
    fn has_room(&self, more: Size, less: Size) -> bool;
}

/// Updates the accounts for a remote record that was added (`before` is `None`), changed, or is removed for any reason
/// (`after` is `None`). A store calls this for each of them.
///
/// # Errors
///
/// The store's own.
pub fn update_accounts<A: Accounts>(
    accounts: &mut A,
    id: A::Id,
    before: Option<&Cost>,
    after: Option<&Cost>,
) -> Result<(), A::Error> {
    let weighs = |cost: Option<&Cost>| cost.map(|cost| (cost.account, cost.shares()));
    if weighs(before) != weighs(after) {
        for (account, shares) in before.into_iter().flat_map(Cost::weights) {
            accounts.change_weight(account, shares, 0)?;
        }
        for (account, shares) in after.into_iter().flat_map(Cost::weights) {
            accounts.change_weight(account, 0, shares)?;
        }
    }
    if before == after { Ok(()) } else { accounts.set_cost(id, before, after) }
}

/// The records to evict before a write, which the store removes; none if there is space. `None` if a new record would
/// itself be the first to be evicted, so that the store is full for it.
///
/// At most [`MAX_STEPS`] for each class. An update is accepted even if they do not suffice; later writes make up for
/// the rest.
///
/// # Errors
///
/// The store's own.
pub fn victims<A: Accounts>(
    accounts: &mut A,
    now: Timestamp,
    wanted: Wanted<'_, A::Id>,
) -> Result<Option<Vec<A::Id>>, A::Error> {
    let (more, less, known) = match wanted {
        Wanted::New(_, cost) => (cost.size(), Size::default(), None),
        Wanted::Update(id, before, after) => (after.size(), before.size(), Some(id)),
        Wanted::Less => (Size::default(), Size::default(), None),
    };
    if accounts.has_room(more, less) {
        return Ok(Some(Vec::new()));
    }
    let (new, classes): (_, &[_]) = match wanted {
        Wanted::New(rank, cost) if cost.near => (Some(New::of(accounts, rank, cost)?), &[Class::Far, Class::Near]),
        Wanted::New(rank, cost) => (Some(New::of(accounts, rank, cost)?), &[Class::Far]),
        Wanted::Update(_, _, after) if after.account.kind() == Account::REPLICATED => {
            (None, &[Class::Far, Class::FarSettled, Class::Near])
        }
        Wanted::Update(..) | Wanted::Less => (None, &[Class::Far, Class::Near]),
    };
    let is_new = new.is_some();
    let (victims, class, spares_settled) = (Vec::new(), Class::Far, classes.contains(&Class::FarSettled));
    let mut search =
        Search { accounts, now, new, known, more, less, victims, class, spares_settled, steps: 0, equals: 0 };
    for class in classes {
        (search.class, search.steps, search.equals) = (*class, 0, 0);
        if search.run()? {
            return Ok(Some(search.victims));
        }
    }
    Ok((!is_new).then_some(search.victims))
}

/// The provider to evict of a key that has one too many: in the group with the most of them, the one with the highest
/// rank. So one group cannot push out the others, and late providers have the same chance as early ones.
pub fn one_too_many(providers: impl Iterator<Item = (Account, u64)> + Clone) -> Option<usize> {
    let of_group = |account: Account| providers.clone().filter(|(other, _)| other.parent() == account.parent()).count();
    let places = providers.clone().enumerate();
    places.max_by_key(|(_, (account, rank))| (of_group(*account), *rank)).map(|(place, _)| place)
}

/// Whether this account would be lighter with the record than the one that pays for it now.
fn is_lighter<A: Accounts>(accounts: &A, to: Account, cost: &Cost) -> Result<bool, A::Error> {
    let (to, from) = match (cost.account.parent(), to.parent()) {
        (Some(from), Some(to)) if from != to => (to, from),
        _ => (to, cost.account),
    };
    Ok(accounts.weight(to)? + cost.shares() < accounts.weight(from)?)
}

/// A new record that needs space.
struct New {
    /// Its group and its peer, each with its weight and the record's.
    accounts: [(u64, Account); 2],
    rank: u64,
    cost: Cost,
}

impl New {
    fn of<A: Accounts>(accounts: &A, rank: u64, cost: &Cost) -> Result<New, A::Error> {
        let own = [cost.account.parent().unwrap_or(cost.account), cost.account];
        let with_this = |account| accounts.weight(account).map(|weight| (weight + cost.shares(), account));
        Ok(New { accounts: [with_this(own[0])?, with_this(own[1])?], rank, cost: *cost })
    }
}

/// The records of an account that may be evicted for a new one.
#[derive(Clone, Copy, PartialEq)]
enum May {
    /// All: the account is heavier.
    All,
    /// Records in a lower tier than the new one; with `or_equal`, if the account's number is the higher one, also
    /// records in the same tier.
    Lower { or_equal: bool },
    /// In the new record's own account, the records that would be evicted before it. In its group, also those that the
    /// two other variants allow to take from its other peers.
    Own,
}

/// Classes in which a search evicts, one pass over the accounts for each. An account has its records in this order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    Far,
    /// Separate only for a holder's new version of a record; in all other searches settled ones are among the far ones.
    FarSettled,
    Near,
}

/// A search for records to evict, heaviest accounts first.
struct Search<'a, A: Accounts> {
    accounts: &'a mut A,
    now: Timestamp,
    new: Option<New>,
    /// The record that is being updated, which is not evicted for itself.
    known: Option<A::Id>,
    more: Size,
    less: Size,
    victims: Vec<A::Id>,
    /// The class of this pass.
    class: Class,
    spares_settled: bool,
    steps: usize,
    equals: usize,
}

impl<A: Accounts> Search<'_, A> {
    /// Searches. Returns whether enough was found.
    fn run(&mut self) -> Result<bool, A::Error> {
        let of = |kind| {
            let new = self.new.as_ref().filter(|new| new.cost.account.kind() == kind);
            self.accounts.weight(kind).map(|weight| weight + new.map_or(0, |new| new.cost.shares()))
        };
        if of(Account::REPLICATED)? <= of(Account::PUBLISHED)? {
            return self.walk(None, 0, May::Own);
        }
        let replicates = self.new.as_ref().is_some_and(|new| new.cost.account.kind() == Account::REPLICATED);
        // Replicated records fill more than half: they are evicted for a published one, whatever its account weighs.
        let enough = self.walk(Some(Account::REPLICATED), 0, if replicates { May::Own } else { May::All })?;
        if enough || replicates { Ok(enough) } else { self.walk(Some(Account::PUBLISHED), 0, May::Own) }
    }

    /// Takes from the groups of one kind or of both (level 0), or from the peers of a group (level 1).
    fn walk(&mut self, parent: Option<Account>, level: usize, may: May) -> Result<bool, A::Error> {
        let own = self.new.as_ref().and_then(|new| new.accounts.get(level)).copied();
        let mut before = None;
        while let Some((weight, account)) = self.heaviest(parent, before)? {
            before = Some((weight, account));
            let may = match own {
                None => May::All,
                // Inside a group that is not the new record's own, its peers are as free to take from as the group.
                Some(_) if may != May::Own => may,
                Some((_, own)) if own == account => May::Own,
                Some((own, _)) if weight > own => May::All,
                Some((equal, own)) if weight == equal => May::Lower { or_equal: account > own },
                Some(_) => break,
            };
            let enough = self.take_from(account, level, may)?;
            if enough || may == May::Own || self.is_tired() {
                return Ok(enough);
            }
        }
        // All heavier accounts were searched: with the new record, its own account is the heaviest of the rest.
        match own {
            Some((_, own)) if may == May::Own => self.take_from(own, level, May::Own),
            _ => Ok(false),
        }
    }

    fn heaviest(
        &mut self,
        parent: Option<Account>,
        before: Option<(u64, Account)>,
    ) -> Result<Option<(u64, Account)>, A::Error> {
        if let Some(parent) = parent {
            return self.accounts.heaviest(parent, before);
        }
        let published = self.accounts.heaviest(Account::PUBLISHED, before)?;
        Ok(published.max(self.accounts.heaviest(Account::REPLICATED, before)?))
    }

    fn take_from(&mut self, account: Account, level: usize, may: May) -> Result<bool, A::Error> {
        if level == 0 {
            return self.walk(Some(account), 1, may);
        }
        self.equals += usize::from(matches!(may, May::Lower { .. }));
        let (mut after, mut settled) = (None, Vec::new());
        while !self.is_tired() {
            self.steps += 1;
            let Some(mut record) = self.accounts.next(account, after.as_ref())? else { return Ok(false) };
            if Some(record.id) != self.known {
                if self.settle(&mut record)? {
                    settled.extend((record.cost.account == account).then_some(record));
                    continue;
                }
                let class = self.class_of(&record.cost);
                if class > self.class || class == self.class && !self.gives_way(&record, may) {
                    return Ok(false);
                }
                if class == self.class && self.take(&record) {
                    return Ok(true);
                }
            }
            after = Some(record);
        }
        // All steps went into settling records of this account, so evict from those. If the search gave up instead, a
        // store whose records all settle in the same minute would refuse honest writes.
        for record in settled {
            if self.class_of(&record.cost) == self.class && self.gives_way(&record, may) && self.take(&record) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Adds a victim. Returns whether there is space now.
    fn take(&mut self, record: &Ranked<A::Id>) -> bool {
        self.victims.push(record.id);
        self.less += record.cost.size();
        self.accounts.has_room(self.more, self.less)
    }

    fn class_of(&self, cost: &Cost) -> Class {
        match cost.near {
            true => Class::Near,
            false if self.spares_settled && cost.settled => Class::FarSettled,
            false => Class::Far,
        }
    }

    fn is_tired(&self) -> bool {
        let seeks_far = self.class == Class::Far && self.new.as_ref().is_some_and(|new| new.cost.near);
        self.steps >= MAX_STEPS || self.equals >= if seeks_far { MAX_EQUALS_OF_NEAR } else { MAX_EQUALS }
    }

    /// Moves a record to where it belongs by now: to the settled ones, or back to the account of its first sender.
    /// Records are settled only when a search meets them, so no timer has to.
    fn settle(&mut self, record: &mut Ranked<A::Id>) -> Result<bool, A::Error> {
        let before = record.cost;
        let now = &mut record.cost;
        now.settled |= now.several || now.is_old(self.now);
        if now.first != now.account && is_lighter(self.accounts, now.first, now)? {
            now.account = now.first;
        }
        update_accounts(self.accounts, record.id, Some(&before), Some(now))?;
        Ok(*now != before)
    }

    fn gives_way(&self, record: &Ranked<A::Id>, may: May) -> bool {
        let Some(new) = &self.new else { return true };
        if new.cost.account.kind() == Account::REPLICATED && record.cost.is_old(self.now) {
            return false;
        }
        let (theirs, ours) = (record.cost.tier(), new.cost.tier());
        match may {
            May::All => true,
            May::Lower { or_equal } => theirs < ours || (or_equal && theirs == ours),
            May::Own => (theirs, Reverse(record.rank)) < (ours, Reverse(new.rank)),
        }
    }
}
