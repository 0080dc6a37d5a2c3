//! Who gives way in a full store: the one rule, for every store.
//!
//! Knows: who is charged for a record, how long it is kept, and the order in which records give way. Must not know: what
//! a record is, or how a store keeps one. A store implements [`Accounts`] over ordered maps or tables, calls [`update_accounts`] with
//! each record that comes, changes or goes, and removes the [`victims`] before it writes one.
//!
//! # The rule
//!
//! * A record is charged to whoever sent it: to an IP group where groups count, and within the group to a peer. One that
//!   several sent is charged to the one with fewest, see [`Cost::sent_again`].
//! * What holders replicate has accounts of its own, below [`Account::REPLICATED`]. It gives way first while it is more than half
//!   of the store, and it makes nothing give way that was kept for [`SETTLED_AFTER`].
//! * Records in this node's neighbourhood are the last to go: none gives way to a new record that is far, nor before the far
//!   ones of all that give way with it.
//! * In a full store the group with the greatest weight gives way, and within it the peer with the greatest weight. A new
//!   record counts among its sender's, so that whoever has the most displaces nobody but himself. Between equals the one
//!   whose record is less settled gives way, then the one with the higher account number, which is secret and random.
//! * Of one peer's records, far ones or those of the neighbourhood, what is new and
//!   had one sender before what was kept for [`SETTLED_AFTER`] or had several; among these, the one with the higher
//!   rank, a hash under the store's secret seed.
//! * A new version of a record that is kept is always taken. One that a holder brings makes far settled records give way only
//!   where no others are left. A record of this node is never charged and never gives way.
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

/// What was kept for so long is settled: within an account it outranks what is new. Source: issue 13; a holder replicates
/// once an hour, so that what settles was seen by a whole round.
pub const SETTLED_AFTER: Duration = Duration::from_secs(3600);

/// So many bytes count as one share of a store, and a shorter record counts as one too. Source: the default bounds of
/// both stores on the bytes of values are so much for each value.
pub const SHARE: u64 = 1_024;

/// One write makes at most so many records give way, and looks at no more than that in each class. Source: a value of 64 KiB, the longest by
/// default, takes the room of 1,638 that have 40 bytes with their keys.
pub const MAX_STEPS: usize = 2_048;

/// One write looks at so many accounts with the same weight, to find one whose record is less settled than the new one.
/// Source: enough to find one where half of them are, with a chance of 255 in 256.
const MAX_EQUALS: usize = 8;

/// The same where a near record looks for far ones. Source: enough to find one where a tenth of them are, with a chance of 998
/// in 1,000.
const MAX_EQUALS_OF_NEAR: usize = 64;

/// Who is charged for a record: a peer, its IP group, or all of them; a number under the store's secret seed.
///
/// A record is charged to the account of one peer, and with it to the accounts above that one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Account(u64);

impl Account {
    /// All groups of peers, for what they published or brought in another's name.
    pub const PUBLISHED: Account = Account(0);
    /// All groups of peers, for what they replicated as holders: as one of the k peers closest to the key.
    pub const REPLICATED: Account = Account(1 << 63);

    /// The account of a peer, in one of the two kinds. Both hashes are made by the store, under its secret seed and
    /// differently for peers and groups; `group` is the hash of the peer's IP group where groups count, else the peer is a
    /// group of its own.
    pub fn of_peer(peer: u64, group: Option<u64>, kind: Account) -> Account {
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

/// What a store keeps beside each remote record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "each store writes all of it down")]
pub struct Cost {
    /// Who is charged.
    pub account: Account,
    /// Who sent it first, and is charged again once `account` has become the heavier one. So nobody can take over the
    /// records of others with a fresh account and let them give way beneath a flood.
    pub first: Account,
    /// How much room it takes in bytes.
    pub bytes: u32,
    /// Since when the store keeps it.
    pub since: Timestamp,
    /// Whether more than one account sent it.
    pub several: bool,
    /// Whether this node is among the k peers closest to its key.
    pub near: bool,
    /// Whether it stands among the settled ones in [`Accounts::next`]. The rule itself sets this.
    pub settled: bool,
}

impl Cost {
    /// The cost for a record that this account sends for the first time.
    pub const fn new(account: Account, bytes: u32, now: Timestamp, near: bool) -> Cost {
        Cost { account, first: account, bytes, since: now, several: false, near, settled: false }
    }

    /// How many shares of the store it counts as.
    pub fn shares(&self) -> u64 {
        u64::from(self.bytes).div_ceil(SHARE).max(1)
    }

    /// The order in which an account's records give way, the lowest first.
    pub const fn tier(&self) -> u8 {
        2 * self.near as u8 + self.settled as u8
    }

    /// The cost once `by` sent the same record again: it falls to the one with fewest.
    ///
    /// # Errors
    ///
    /// What the store says.
    pub fn sent_again<A: Accounts>(mut self, accounts: &A, by: Account) -> Result<Cost, A::Error> {
        self.several |= by != self.first || by != self.account;
        self.settled |= self.several;
        if is_lighter(accounts, by, &self)? {
            self.account = by;
        }
        Ok(self)
    }

    /// The cost once `by` sent another version of the record, of so many bytes: whoever sends it pays for it.
    pub const fn replaced(self, by: Account, bytes: u32, now: Timestamp) -> Cost {
        let mut cost = Cost::new(by, bytes, now, self.near);
        if by.0 == self.account.0 || by.0 == self.first.0 {
            (cost.since, cost.settled) = (self.since, self.settled && !self.several);
        }
        cost
    }

    /// How many shares it adds to its account, and to those above that one.
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
    /// How many records.
    pub records: u64,
    /// How many bytes they take together.
    pub bytes: u64,
}

impl std::ops::AddAssign for Size {
    fn add_assign(&mut self, other: Size) {
        self.records += other.records;
        self.bytes += other.bytes;
    }
}

/// A record that might give way, or that asks for room.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "each store makes and reads it")]
pub struct Ranked<Id> {
    /// What the store calls it.
    pub id: Id,
    /// A hash of the record's key (and provider) under the store's secret seed: it must be the same each time.
    pub rank: u64,
    /// What is charged for it.
    pub cost: Cost,
}

/// What a record asks for, before it is written.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_enums, reason = "a store asks for nothing else")]
pub enum Wanted<'c, Id> {
    /// Room for a record that is not kept yet, of this rank.
    New(u64, &'c Cost),
    /// Room for another version of this record: its cost until now, and from now on. It is always taken.
    Update(Id, &'c Cost, &'c Cost),
    /// Nothing: the bounds were lowered.
    Less,
}

/// The costs of a store in order, which the store keeps and the rule reads and writes.
///
/// The bounds of a store can be one pool or several (values, provider records); each pool implements this apart.
///
/// # Errors
///
/// What the store says.
pub trait Accounts {
    /// What the store calls a record.
    type Id: Copy + PartialEq;
    /// How the store can fail; [`std::convert::Infallible`] in memory.
    type Error;

    /// How many shares are charged to this account; zero if it is unknown.
    fn weight(&self, account: Account) -> Result<u64, Self::Error>;

    /// Changes that by so many less and so many more. An account with zero is forgotten.
    fn change_weight(&mut self, account: Account, less: u64, more: u64) -> Result<(), Self::Error>;

    /// The heaviest account with this [`parent`](Account::parent): the last in the order of weight and account, of those before
    /// `before`.
    fn heaviest(
        &mut self,
        parent: Account,
        before: Option<(u64, Account)>,
    ) -> Result<Option<(u64, Account)>, Self::Error>;

    /// The record charged to this account of a peer that gives way first, after the one given: the lowest
    /// [`tier`](Cost::tier), among those the highest rank.
    fn next(
        &mut self,
        account: Account,
        after: Option<&Ranked<Self::Id>>,
    ) -> Result<Option<Ranked<Self::Id>>, Self::Error>;

    /// Writes down what is charged for a record, and moves it in the order of [`Accounts::next`]. `before` is `None` for a new
    /// record, which is written with its cost already; `after` is `None` for one that goes.
    fn set_cost(&mut self, id: Self::Id, before: Option<&Cost>, after: Option<&Cost>) -> Result<(), Self::Error>;

    /// Whether the bounds hold with so much more and so much less than there is.
    fn has_room(&self, more: Size, less: Size) -> bool;
}

/// Charges for a record: to be called with each remote record that a store begins to keep (`before` is `None`), that goes,
/// whatever makes it go (`after` is `None`), or that changes.
///
/// # Errors
///
/// What the store says.
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

/// The records that have to give way, none where there is room; `None` if a new record itself would be the first to give way,
/// so that the store is full for it. The store removes them.
///
/// At most [`MAX_STEPS`]; what is still too much after a record that is taken in any case gives way to a later one.
///
/// # Errors
///
/// What the store says.
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

/// Which of the providers of one key gives way where there is one too many: of the group that has most of them, the one
/// with the highest rank. So those of one group leave the others their place, and late ones have the chance of early ones.
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

/// A record that asks for room.
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

/// Which records of an account may give way.
#[derive(Clone, Copy, PartialEq)]
enum May {
    /// All: the account is heavier.
    All,
    /// Those that stand lower than the new one; and those that stand as high where the account's number is the higher one.
    Lower { or_equal: bool },
    /// Those that may in the new one's own group, and those after it in the order of its own account.
    Own,
}

/// Records of which none gives way before all of the classes above that are charged to heavier accounts have. An account has
/// its records in this order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    Far,
    /// Set apart for a new version that a holder brings. In all other cases these are among the far ones.
    FarSettled,
    Near,
}

/// A walk over those who give way, the heaviest first.
struct Search<'a, A: Accounts> {
    accounts: &'a mut A,
    now: Timestamp,
    new: Option<New>,
    /// The record that is written anew and does not give way to itself.
    known: Option<A::Id>,
    more: Size,
    less: Size,
    victims: Vec<A::Id>,
    /// Whose turn it is.
    class: Class,
    spares_settled: bool,
    steps: usize,
    equals: usize,
}

impl<A: Accounts> Search<'_, A> {
    /// Whether enough was found.
    fn run(&mut self) -> Result<bool, A::Error> {
        let of = |kind| {
            let new = self.new.as_ref().filter(|new| new.cost.account.kind() == kind);
            self.accounts.weight(kind).map(|weight| weight + new.map_or(0, |new| new.cost.shares()))
        };
        if of(Account::REPLICATED)? <= of(Account::PUBLISHED)? {
            return self.walk(None, 0, May::Own);
        }
        let replicates = self.new.as_ref().is_some_and(|new| new.cost.account.kind() == Account::REPLICATED);
        // More than half: what is published need not even be lighter.
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
        // With the new record its own account is the heaviest that is left.
        match own.filter(|_| may == May::Own) {
            Some((_, own)) => self.take_from(own, level, May::Own),
            None => Ok(false),
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
        // All steps went into settling what the account has, so these are as good as what comes after them. Without this a
        // store whose records settle all at once would refuse whoever writes next.
        for record in settled {
            if self.class_of(&record.cost) == self.class && self.gives_way(&record, may) && self.take(&record) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Lets a record give way. Whether that is enough.
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

    /// Brings a record to where it belongs by now: among the settled ones, or back to whoever sent it first.
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
