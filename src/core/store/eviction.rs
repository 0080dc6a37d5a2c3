//! Who gives way in a full store: the one rule, for every store.
//!
//! Knows: who is charged for a record, how long it is kept, and the order in which records give way. Must not know: what
//! a record is, or how a store keeps one. A store implements [`Accounts`] over ordered maps or tables, calls [`charge`] and
//! [`discharge`] with each record that comes and goes, and asks [`room_for_new`] or [`room_for_known`] before it writes.
//!
//! # The rule
//!
//! * A record is charged to whoever sent it: to an IP group where groups count, and within the group to a peer. One that
//!   several sent is charged to the one with fewest, see [`Charge::sent_again`].
//! * What holders replicate has accounts of its own, [`Class::Replicated`]. It gives way first while it is more than half
//!   of the store, and it makes nothing give way that was kept for [`SETTLED_AFTER`].
//! * In a full store the group with the greatest charge gives way, and within it the peer with the greatest charge. A new
//!   record counts among its sender's, so that whoever has the most displaces nobody but himself. Between equals the one
//!   whose record is less settled gives way, then the one with the higher account number, which is secret and random.
//! * Of one peer's records those far from this node give way before those in its neighbourhood; among these, what is new and
//!   had one sender before what was kept for [`SETTLED_AFTER`] or had several; among these, the one with the higher
//!   rank, a hash under the store's secret seed.
//! * A new version of a record that is kept is always taken. A record of this node is never charged and never gives way.

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

/// One write makes at most so many records give way, and looks at no more than that. Source: a value of 64 KiB takes the
/// room of 64 that fill one share each; four times that.
pub const MAX_STEPS: usize = 256;

/// One write looks at so many accounts with the same charge, to find one whose record is less settled than the new one.
/// Source: enough to find one where half of them are, with a chance of 255 in 256.
const MAX_EQUALS: usize = 8;

/// For what a peer is charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(clippy::exhaustive_enums, reason = "each store has to know them all")]
pub enum Class {
    /// What it published, or brought in another's name.
    Published,
    /// What it replicated as a holder: as one of the k peers closest to the key.
    Replicated,
}

/// Who is charged for a record: a peer, by a number that tells its IP group and its class too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Account(u64);

/// Whose charge is added up: a class with all its groups, a group with all its accounts, or one account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(clippy::exhaustive_enums, reason = "each store has to know them all")]
pub enum Payer {
    /// Everything that was published, or everything that was replicated.
    Class(Class),
    /// One IP group in one class; a peer without a group is a group of its own.
    Group(u32),
    /// One peer within its group.
    Account(Account),
}

impl Account {
    /// The account of a peer. Both hashes are made by the store, under its secret seed and differently for peers and groups;
    /// `group` is the hash of the peer's IP group where groups count.
    pub const fn new(peer: u64, group: Option<u64>, class: Class) -> Account {
        let group = match group {
            Some(group) => group >> 33,
            None => peer >> 33,
        };
        let class = match class {
            Class::Published => 0,
            Class::Replicated => 1 << 63,
        };
        Account(class | (group << 32) | (peer & 0xffff_ffff))
    }

    /// The account that [`Account::to_bits`] gave these bits.
    pub const fn from_bits(bits: u64) -> Account {
        Account(bits)
    }

    /// The account in 64 bits, to be kept beside a record.
    pub const fn to_bits(self) -> u64 {
        self.0
    }

    /// For what the peer is charged in it.
    pub const fn class(self) -> Class {
        if self.0 >> 63 == 0 { Class::Published } else { Class::Replicated }
    }

    /// The account, its group and its class: all whose charge grows with a record of this account.
    pub const fn payers(self) -> [Payer; 3] {
        [Payer::Class(self.class()), self.group(), Payer::Account(self)]
    }

    const fn group(self) -> Payer {
        Payer::Group((self.0 >> 32) as u32)
    }
}

impl Payer {
    /// Of whose charge this one is a part; `None` for a class.
    pub const fn parent(self) -> Option<Payer> {
        match self {
            Payer::Class(_) => None,
            Payer::Group(group) if group >> 31 == 0 => Some(Payer::Class(Class::Published)),
            Payer::Group(_) => Some(Payer::Class(Class::Replicated)),
            Payer::Account(account) => Some(account.group()),
        }
    }

    /// The payer as bytes that compare as payers do, for a store that keeps them in a table.
    pub fn to_bytes(self) -> [u8; 9] {
        let (kind, number) = match self {
            Payer::Class(class) => (0, u64::from(class == Class::Replicated)),
            Payer::Group(group) => (1, u64::from(group)),
            Payer::Account(account) => (2, account.0),
        };
        let mut bytes = [kind; 9];
        bytes[1..].copy_from_slice(&number.to_be_bytes());
        bytes
    }

    /// The payer that has these bytes; bytes of no payer give some payer.
    pub fn from_bytes(bytes: [u8; 9]) -> Payer {
        let number = bytes[1..].iter().fold(0, |number, byte| (number << 8) | u64::from(*byte));
        match bytes[0] {
            0 if number == 0 => Payer::Class(Class::Published),
            0 => Payer::Class(Class::Replicated),
            1 => Payer::Group(number as u32),
            _ => Payer::Account(Account(number)),
        }
    }
}

/// What a store keeps beside each remote record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "each store writes all of it down")]
pub struct Charge {
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

impl Charge {
    /// The charge for a record that this account sends for the first time.
    pub const fn new(account: Account, bytes: u32, now: Timestamp, near: bool) -> Charge {
        Charge { account, first: account, bytes, since: now, several: false, near, settled: false }
    }

    /// How many shares of the store it counts as.
    pub fn shares(&self) -> u64 {
        u64::from(self.bytes).div_ceil(SHARE).max(1)
    }

    /// The order in which an account's records give way, the lowest first.
    pub const fn standing(&self) -> u8 {
        2 * self.near as u8 + self.settled as u8
    }

    /// The charge once `by` sent the same record again: it falls to the one with fewest.
    ///
    /// # Errors
    ///
    /// What the store says.
    pub fn sent_again<A: Accounts>(mut self, accounts: &A, by: Account) -> Result<Charge, A::Error> {
        self.several |= by != self.first || by != self.account;
        self.settled |= self.several;
        if is_lighter(accounts, by, &self)? {
            self.account = by;
        }
        Ok(self)
    }

    /// The charge once `by` sent another version of the record, of so many bytes: whoever sends it pays for it.
    pub const fn replaced(self, by: Account, bytes: u32, now: Timestamp) -> Charge {
        let mut charge = Charge::new(by, bytes, now, self.near);
        if by.0 == self.account.0 || by.0 == self.first.0 {
            (charge.since, charge.settled) = (self.since, self.settled && !self.several);
        }
        charge
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
    pub charge: Charge,
}

/// The charges of a store in order, which the store keeps and the rule reads and writes.
///
/// The bounds of a store can be one pool or several (values, provider records); each pool implements this apart.
pub trait Accounts {
    /// What the store calls a record.
    type Id: Copy + PartialEq;
    /// How the store can fail; [`std::convert::Infallible`] in memory.
    type Error;

    /// How many shares are charged to this payer; zero if it is unknown.
    ///
    /// # Errors
    ///
    /// What the store says.
    fn weight(&self, payer: Payer) -> Result<u64, Self::Error>;

    /// Changes that from one number to another. A payer with zero is forgotten.
    ///
    /// # Errors
    ///
    /// What the store says.
    fn set_weight(&mut self, payer: Payer, from: u64, to: u64) -> Result<(), Self::Error>;

    /// The payer with the greatest weight among those of this [`parent`](Payer::parent): the last in the order of weight and
    /// payer, of those before `before`.
    ///
    /// # Errors
    ///
    /// What the store says.
    fn heaviest(&mut self, parent: Payer, before: Option<(u64, Payer)>) -> Result<Option<(u64, Payer)>, Self::Error>;

    /// The record charged to this account that gives way first, after the one given: the lowest
    /// [`standing`](Charge::standing), among those the highest rank.
    ///
    /// # Errors
    ///
    /// What the store says.
    fn next(
        &mut self,
        account: Account,
        after: Option<&Ranked<Self::Id>>,
    ) -> Result<Option<Ranked<Self::Id>>, Self::Error>;

    /// Writes down what is charged for a record, and moves it in the order of [`Accounts::next`]. `before` is `None` for a new
    /// record, `after` is `None` for one that goes.
    ///
    /// # Errors
    ///
    /// What the store says.
    fn set_charge(&mut self, id: Self::Id, before: Option<&Charge>, after: Option<&Charge>) -> Result<(), Self::Error>;

    /// Whether the bounds hold with so much more and so much less than there is.
    fn has_room(&self, more: Size, less: Size) -> bool;
}

/// Charges for a record: to be called with each remote record that a store begins to keep.
///
/// # Errors
///
/// What the store says.
pub fn charge<A: Accounts>(accounts: &mut A, id: A::Id, charge: &Charge) -> Result<(), A::Error> {
    change(accounts, id, None, Some(charge))
}

/// Takes a charge back: to be called with each remote record that goes, whatever makes it go.
///
/// # Errors
///
/// What the store says.
pub fn discharge<A: Accounts>(accounts: &mut A, id: A::Id, charge: &Charge) -> Result<(), A::Error> {
    change(accounts, id, Some(charge), None)
}

/// Changes what is charged for a record, to whom, or both.
///
/// # Errors
///
/// What the store says.
pub fn recharge<A: Accounts>(accounts: &mut A, id: A::Id, before: &Charge, after: &Charge) -> Result<(), A::Error> {
    if before == after { Ok(()) } else { change(accounts, id, Some(before), Some(after)) }
}

/// The records that have to give way for a new one, none where there is room; `None` if the new one itself would be the
/// first to give way, so that the store is full for it. The store removes them.
///
/// # Errors
///
/// What the store says.
pub fn room_for_new<A: Accounts>(
    accounts: &mut A,
    now: Timestamp,
    rank: u64,
    charge: &Charge,
) -> Result<Option<Vec<A::Id>>, A::Error> {
    let mut search = Search::new(accounts, now, charge.size(), Size::default());
    if search.has_room() {
        return Ok(Some(Vec::new()));
    }
    let shares = charge.shares();
    let [_, group, account] = charge.account.payers();
    let weights = [search.weight(group)? + shares, search.weight(account)? + shares];
    search.new = Some(New { payers: [group, account], weights, rank, charge: *charge });
    Ok(search.run()?.then_some(search.victims))
}

/// The records that have to give way for a new version of one that is kept, which is always taken; and for no record at all
/// where the bounds were lowered. At most [`MAX_STEPS`] of them: what is too much after that gives way to a later write.
///
/// # Errors
///
/// What the store says.
pub fn room_for_known<A: Accounts>(
    accounts: &mut A,
    now: Timestamp,
    update: Option<(A::Id, &Charge, &Charge)>,
) -> Result<Vec<A::Id>, A::Error> {
    let size = |charge: Option<&Charge>| charge.map(Charge::size).unwrap_or_default();
    let (more, less) = (size(update.map(|(_, _, after)| after)), size(update.map(|(_, before, _)| before)));
    let mut search = Search::new(accounts, now, more, less);
    search.known = update.map(|(id, ..)| id);
    if !search.has_room() {
        search.run()?;
    }
    Ok(search.victims)
}

/// Which of the providers of one key gives way where there is one too many: of the group that has most of them, the one
/// with the highest rank. So those of one group leave the others their place, and late ones have the chance of early ones.
pub fn one_too_many(providers: impl Iterator<Item = (Account, u64)> + Clone) -> Option<usize> {
    let of_group = |account: Account| providers.clone().filter(|(other, _)| other.group() == account.group()).count();
    let places = providers.clone().enumerate();
    places.max_by_key(|(_, (account, rank))| (of_group(*account), *rank)).map(|(place, _)| place)
}

fn change<A: Accounts>(
    accounts: &mut A,
    id: A::Id,
    before: Option<&Charge>,
    after: Option<&Charge>,
) -> Result<(), A::Error> {
    let weighs = |charge: Option<&Charge>| charge.map(|charge| (charge.account, charge.shares()));
    if weighs(before) != weighs(after) {
        weigh(accounts, weighs(before), u64::saturating_sub)?;
        weigh(accounts, weighs(after), u64::saturating_add)?;
    }
    accounts.set_charge(id, before, after)
}

fn weigh<A: Accounts>(
    accounts: &mut A,
    charged: Option<(Account, u64)>,
    change: fn(u64, u64) -> u64,
) -> Result<(), A::Error> {
    let Some((account, shares)) = charged else { return Ok(()) };
    for payer in account.payers() {
        let weight = accounts.weight(payer)?;
        accounts.set_weight(payer, weight, change(weight, shares))?;
    }
    Ok(())
}

/// Whether this account would be lighter with the record than the one that pays for it now.
fn is_lighter<A: Accounts>(accounts: &A, to: Account, charge: &Charge) -> Result<bool, A::Error> {
    let (to, from) = match charge.account.group() == to.group() {
        true => (Payer::Account(to), Payer::Account(charge.account)),
        false => (to.group(), charge.account.group()),
    };
    Ok(accounts.weight(to)? + charge.shares() < accounts.weight(from)?)
}

/// A record that asks for room.
struct New {
    /// Its group and its account, and what they weigh with it.
    payers: [Payer; 2],
    weights: [u64; 2],
    rank: u64,
    charge: Charge,
}

/// Which records of a payer may give way.
#[derive(Clone, Copy, PartialEq)]
enum May {
    /// All: the payer weighs more.
    All,
    /// Those that stand lower than the new one; and those that stand as high where the payer's number is the higher one.
    Lower { or_equal: bool },
    /// Those after the new one in the order of its own account.
    Own,
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
    steps: usize,
    equals: usize,
}

impl<'a, A: Accounts> Search<'a, A> {
    fn new(accounts: &'a mut A, now: Timestamp, more: Size, less: Size) -> Search<'a, A> {
        Search { accounts, now, new: None, known: None, more, less, victims: Vec::new(), steps: 0, equals: 0 }
    }

    fn has_room(&self) -> bool {
        self.accounts.has_room(self.more, self.less)
    }

    fn weight(&self, payer: Payer) -> Result<u64, A::Error> {
        self.accounts.weight(payer)
    }

    /// Whether enough was found.
    fn run(&mut self) -> Result<bool, A::Error> {
        let first = self.replicated_first()?;
        // What is published goes before replicated records that are too many, whoever publishes it.
        let published = |new: &mut New| new.charge.account.class() == Class::Published;
        if first {
            self.new.take_if(published);
        }
        let mut before = None;
        while let Some((weight, group)) = self.heaviest_group(first, before)? {
            before = Some((weight, group));
            let Some(may) = self.may(0, weight, group) else { break };
            if self.take_from_group(group, may)? {
                return Ok(true);
            }
            if self.is_tired() || may == May::Own {
                return Ok(false);
            }
        }
        // With the new record its own group is the heaviest that is left.
        match self.new.as_ref().map(|new| new.payers[0]) {
            Some(own) => self.take_from_group(own, May::Own),
            None => Ok(false),
        }
    }

    /// Whether what is replicated is more than half of the store, and so gives way first.
    fn replicated_first(&self) -> Result<bool, A::Error> {
        let new = self.new.as_ref().map(|new| (new.charge.account.class(), new.charge.shares()));
        let of = |class| {
            let more = new.filter(|(of, _)| *of == class).map_or(0, |(_, shares)| shares);
            self.weight(Payer::Class(class)).map(|weight| weight + more)
        };
        Ok(of(Class::Replicated)? > of(Class::Published)?)
    }

    fn heaviest_group(
        &mut self,
        replicated_alone: bool,
        before: Option<(u64, Payer)>,
    ) -> Result<Option<(u64, Payer)>, A::Error> {
        let replicated = self.accounts.heaviest(Payer::Class(Class::Replicated), before)?;
        let published = match replicated_alone {
            true => None,
            false => self.accounts.heaviest(Payer::Class(Class::Published), before)?,
        };
        Ok(replicated.max(published))
    }

    /// What of this payer may give way to the new record; `None` if the new one's own payer is the heavier one.
    fn may(&self, level: usize, weight: u64, payer: Payer) -> Option<May> {
        let Some(new) = &self.new else { return Some(May::All) };
        let (own, with_new) = (new.payers[level], new.weights[level]);
        match weight.cmp(&with_new) {
            _ if payer == own => Some(May::Own),
            std::cmp::Ordering::Greater => Some(May::All),
            std::cmp::Ordering::Equal => Some(May::Lower { or_equal: payer > own }),
            std::cmp::Ordering::Less => None,
        }
    }

    fn take_from_group(&mut self, group: Payer, may: May) -> Result<bool, A::Error> {
        let mut before = None;
        while let Some((weight, payer)) = self.accounts.heaviest(group, before)? {
            before = Some((weight, payer));
            let of_this = if may == May::Own { self.may(1, weight, payer) } else { Some(may) };
            let (Some(of_this), Payer::Account(account)) = (of_this, payer) else { break };
            if self.take_from(account, of_this)? {
                return Ok(true);
            }
            if self.is_tired() || of_this == May::Own {
                return Ok(false);
            }
        }
        match (may, self.new.as_ref().map(|new| new.charge.account)) {
            (May::Own, Some(own)) => self.take_from(own, May::Own),
            _ => Ok(false),
        }
    }

    fn take_from(&mut self, account: Account, may: May) -> Result<bool, A::Error> {
        self.equals += usize::from(matches!(may, May::Lower { .. }));
        let mut after = None;
        while !self.is_tired() {
            self.steps += 1;
            let Some(record) = self.accounts.next(account, after.as_ref())? else { break };
            if Some(record.id) != self.known {
                if self.settle(&record)? {
                    continue;
                }
                if !self.gives_way(&record, may) {
                    break;
                }
                self.victims.push(record.id);
                self.less += record.charge.size();
                if self.has_room() {
                    return Ok(true);
                }
            }
            after = Some(record);
        }
        Ok(false)
    }

    fn is_tired(&self) -> bool {
        self.steps >= MAX_STEPS || self.equals >= MAX_EQUALS
    }

    /// Brings a record to where it belongs by now: among the settled ones, or back to whoever sent it first.
    fn settle(&mut self, record: &Ranked<A::Id>) -> Result<bool, A::Error> {
        let mut charge = record.charge;
        charge.settled |= charge.several || charge.is_old(self.now);
        if charge.first != charge.account && is_lighter(self.accounts, charge.first, &charge)? {
            charge.account = charge.first;
        }
        recharge(self.accounts, record.id, &record.charge, &charge)?;
        Ok(charge != record.charge)
    }

    fn gives_way(&self, record: &Ranked<A::Id>, may: May) -> bool {
        let Some(new) = &self.new else { return true };
        if new.charge.account.class() == Class::Replicated && record.charge.is_old(self.now) {
            return false;
        }
        let (theirs, ours) = (record.charge.standing(), new.charge.standing());
        match may {
            May::All => true,
            May::Lower { or_equal } => theirs < ours || (or_equal && theirs == ours),
            May::Own => (theirs, Reverse(record.rank)) < (ours, Reverse(new.rank)),
        }
    }
}
