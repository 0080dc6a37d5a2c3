//! What this node keeps, behind one small trait.
//!
//! Knows: records, quotas, expiry, order in the keyspace. Must not know: peers other than as values, requests, or
//! who asks. A store is called inside the event loop, so it never blocks: what takes time is answered `Pending` and
//! finished later.

#[cfg(any(test, feature = "testing"))]
pub mod conformance;
#[cfg(any(test, feature = "testing"))]
pub mod deferred;
pub mod eviction;
pub(crate) mod lots;
pub mod memory;
pub mod remember;

use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

pub use memory::{MemoryStore, MemoryStoreConfig};

use super::contact::Contact;
use super::key::Key;
use super::record::{ProviderRecord, Record, RecordKey};
use super::time::Timestamp;
use libp2p_identity::PeerId;

/// Keeps values and provider records.
///
/// The contract, which the tests in `conformance` check (feature `testing`):
///
/// * A write that returned [`Write::Kept`], or was reported by [`Store::poll_done`] without an error, is read back by
///   every later read until it is replaced, removed, expired or has given way. A write that failed changed nothing.
///   Between the two, while a write is pending, a read may find the state before it or after it.
/// * Expired records may linger until [`Store::expire`] takes them, but are never returned by a read with a `now` at
///   or after their expiry. A store may also forget them of itself whenever it learns of a `now`.
/// * Own records (`own == true`) do not count against the quotas of remote ones and are never evicted for them. Remote
///   records may give way to other remote ones where there is no room for all; which ones, a store decides and says.
/// * A store does not judge: who may replace what, how long it lives and whether it is valid is decided before. So a
///   remote value put under the key of an own one replaces it and is a remote one.
/// * Keys are any bytes, up to [`MAX_KEY_LEN`](super::config::MAX_KEY_LEN) for values and up to
///   [`MAX_PROVIDER_KEY_LEN`](super::config::MAX_PROVIDER_KEY_LEN) for provider records. Longer ones may be refused as
///   [`StoreError::TooLarge`].
/// * Addresses are facts about a peer: a store may keep one set for all records of a peer, the one written last, and
///   fewer of them than it was given. A record without addresses need not clear those that are known.
/// * The bytes of a record may be part of a larger message, which they keep alive; a store in memory copies them.
/// * Each ticket is reported exactly once, and never before the call that returned it did.
/// * Nothing blocks and nothing panics, whatever the keys and values.
pub trait Store: Send {
    /// The value kept under `key`, unless it is over at `now`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Failed`] if the store cannot tell.
    fn get(&mut self, now: Timestamp, key: &RecordKey) -> Result<Read<Option<Record>>, StoreError>;

    /// Keeps a value, in place of an earlier one under the same key.
    ///
    /// # Errors
    ///
    /// [`StoreError::Full`] or [`StoreError::TooLarge`] if there is no room, [`StoreError::Failed`] if it cannot.
    fn put(&mut self, now: Timestamp, record: Record) -> Result<Write, StoreError>;

    /// Forgets the value under `key`, though not its sequence number, so that no copy of it that is still about comes
    /// back in place of a newer one; not an error if there is none.
    ///
    /// # Errors
    ///
    /// [`StoreError::Failed`] if it cannot.
    fn remove(&mut self, key: &RecordKey) -> Result<Write, StoreError>;

    /// The providers of `key` that are not over at `now`; addresses past their own expiry are left out.
    ///
    /// # Errors
    ///
    /// [`StoreError::Failed`] if the store cannot tell.
    fn providers(&mut self, now: Timestamp, key: &RecordKey) -> Result<Read<Vec<ProviderRecord>>, StoreError>;

    /// Keeps a provider record, in place of an earlier one of the same key and provider.
    ///
    /// # Errors
    ///
    /// As [`Store::put`].
    fn add_provider(&mut self, now: Timestamp, record: ProviderRecord) -> Result<Write, StoreError>;

    /// Forgets that `provider` provides `key`; not an error if it is not known to.
    ///
    /// # Errors
    ///
    /// [`StoreError::Failed`] if it cannot.
    fn remove_provider(&mut self, key: &RecordKey, provider: &PeerId) -> Result<Write, StoreError>;

    /// Up to `limit` items of this kind in order of their place in the keyspace, from just after `after` (from the start
    /// without it). Several items can lie at one place; a page never splits them, so it can be longer than `limit`. A page
    /// shorter than `limit` is the last one. Expired items that linger are among them, as they were written.
    ///
    /// # Errors
    ///
    /// [`StoreError::Failed`] if it cannot.
    fn scan(&mut self, what: Scan, after: Option<&Key>, limit: usize) -> Result<Read<Vec<Item>>, StoreError>;

    /// The highest sequence number of a value that was kept under `key` and is over by now, or was removed, or had to
    /// give way, as far as it is remembered: for [`SEQUENCE_MEMORY`] after its expiry, or as long after it as that was after
    /// its receipt if this is longer, and for four days from its receipt or announcement if it had no expiry. Where there
    /// are too many, those that would be forgotten first go first. Asked only where no value is kept.
    ///
    /// # Errors
    ///
    /// [`StoreError::Failed`] if the store cannot tell.
    fn sequence(&mut self, now: Timestamp, key: &RecordKey) -> Result<Read<Option<u64>>, StoreError>;

    /// Whether this store outlives the process, so that peers are worth keeping in it. Not with this default.
    fn keeps_peers(&self) -> bool {
        false
    }

    /// Keeps the peers of the routing table for the next start, in place of those kept before, with their addresses. A
    /// store that does not outlive the process keeps this default, which forgets them.
    ///
    /// # Errors
    ///
    /// [`StoreError::Failed`] if it cannot.
    fn save_peers(&mut self, peers: Vec<Arc<Contact>>) -> Result<Write, StoreError> {
        let _ = peers;
        Ok(Write::Kept)
    }

    /// The peers that were kept last; none with this default.
    ///
    /// # Errors
    ///
    /// [`StoreError::Failed`] if the store cannot tell.
    fn saved_peers(&mut self) -> Result<Read<Vec<Arc<Contact>>>, StoreError> {
        Ok(Read::Ready(Vec::new()))
    }

    /// Forgets up to `limit` items that are over at `now`, own ones too, and returns how many; fewer than `limit` means
    /// that none is left.
    ///
    /// # Errors
    ///
    /// [`StoreError::Failed`] if it cannot.
    fn expire(&mut self, now: Timestamp, limit: usize) -> Result<Read<usize>, StoreError>;

    /// When the next item is over, so that the node can sleep until then; `None` if nothing expires. It is in the past
    /// while expired items linger.
    fn next_expiry(&self) -> Option<Timestamp>;

    /// How much is kept, expired items that linger included.
    fn usage(&self) -> Usage;

    /// The next finished operation that was `Pending`; if there is none yet, registers `waker` (in place of an earlier
    /// one) and wakes it once there is.
    ///
    /// A store that never answers `Pending` keeps this default.
    fn poll_done(&mut self, waker: &Waker) -> Option<Done> {
        let _ = waker;
        None
    }
}

/// A sequence number outlives its value for so long at least. Source: the lifetime of values, 48 h: whoever stored the
/// value while it was alive has forgotten it by then.
pub const SEQUENCE_MEMORY: Duration = Duration::from_secs(48 * 3600);

/// What a [`Store::scan`] looks for. A store skips the others at little cost: there can be a million of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "each store has to know them all")]
pub enum Scan {
    /// Everything.
    #[default]
    All,
    /// Values, own ones included.
    Values,
    /// What this node published: its own values and its own provider records.
    Own,
}

impl Scan {
    /// Whether it looks for this.
    pub fn wants(self, item: &Item) -> bool {
        match self {
            Scan::All => true,
            Scan::Values => matches!(item, Item::Value(_)),
            Scan::Own => item.is_own(),
        }
    }
}

/// One thing that a [`Store::scan`] finds.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Item {
    /// A value.
    Value(Record),
    /// A provider record.
    Provider(ProviderRecord),
}

impl Item {
    /// The item's key.
    pub fn key(&self) -> &RecordKey {
        match self {
            Item::Value(record) => &record.key,
            Item::Provider(record) => &record.key,
        }
    }

    /// Whether it is over at `now`.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        match self {
            Item::Value(record) => record.is_expired(now),
            Item::Provider(record) => record.is_expired(now),
        }
    }

    /// Whether this node published it.
    pub fn is_own(&self) -> bool {
        match self {
            Item::Value(record) => record.own,
            Item::Provider(record) => record.own,
        }
    }
}

/// The answer to a read.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_enums, reason = "now or later: there is no third")]
pub enum Read<T> {
    /// Here it is.
    Ready(T),
    /// It will be reported under this ticket.
    Pending(Ticket),
}

/// The answer to a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "now or later: there is no third")]
pub enum Write {
    /// The write is kept, as durably as this store keeps anything.
    Kept,
    /// It will be reported under this ticket once it is kept.
    Pending(Ticket),
}

/// Names a pending operation of a store. Chosen by the store, unique among its pending ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

impl Ticket {
    /// A ticket of this number.
    pub const fn new(number: u64) -> Ticket {
        Ticket(number)
    }
}

impl std::fmt::Display for Ticket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "t{}", self.0)
    }
}

/// The end of a pending operation.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Done {
    /// A write ended.
    Stored {
        /// Which one.
        ticket: Ticket,
        /// How.
        result: Result<(), StoreError>,
    },
    /// A read ended.
    Loaded {
        /// Which one.
        ticket: Ticket,
        /// What it found.
        result: Result<Loaded, StoreError>,
    },
}

/// What a pending read found.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Loaded {
    /// The answer to a [`Store::get`].
    Value(Option<Record>),
    /// The answer to a [`Store::providers`].
    Providers(Vec<ProviderRecord>),
    /// The answer to a [`Store::scan`].
    Items(Vec<Item>),
    /// The answer to a [`Store::sequence`].
    Sequence(Option<u64>),
    /// The answer to a [`Store::saved_peers`].
    Peers(Vec<Arc<Contact>>),
    /// The answer to a [`Store::expire`].
    Expired(usize),
}

/// How much a store keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// Values of other peers.
    pub values: usize,
    /// Provider records of other peers.
    pub providers: usize,
    /// Own values and own provider records.
    pub own: usize,
}

/// Why a store did not do what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// There is no room for it.
    #[error("the store is full")]
    Full,
    /// The key or the value alone is larger than the store takes.
    #[error("the record is too large for the store")]
    TooLarge,
    /// The store itself failed; its own log says why.
    #[error("the store failed")]
    Failed,
    /// What is kept there cannot be read any more. The store puts it aside, so that the next read finds nothing and
    /// the next write finds room.
    #[error("what was kept there is damaged")]
    Damaged,
}
