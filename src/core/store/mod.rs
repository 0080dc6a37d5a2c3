//! The store of records, behind one small trait.
//!
//! Knows: records, quotas, expiry, order in the keyspace. Must not know: peers other than as values, requests, or the
//! caller. A store is called inside the event loop, so it never blocks: an operation that takes time ends later.

pub mod eviction;
mod ext;
mod judge;
pub mod memory;
mod none;
pub mod tombstone;
mod touch;

use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

pub use ext::StoreExt;
pub use judge::{Judge, Judged};
pub use memory::{MemoryStore, MemoryStoreConfig};
pub use none::NoStore;
pub use touch::{touch_provider, touch_value};

use super::contact::Contact;
use super::key::Key;
use super::record::{ProviderRecord, Record, RecordKey};
use super::time::Timestamp;
use libp2p_identity::PeerId;

/// Keeps values and provider records.
///
/// Each operation is an [`Op`], its result a [`Done`]; [`StoreExt`] has a typed call for each.
///
/// The contract, which the tests in `testing::conformance` check (feature `testing`):
///
/// * A write that ended without an error is read back by every later read until it is replaced, removed, expired or
///   evicted. A write that failed changed nothing, unless it failed as [`StoreError::Failed`]: then it may have been
///   done. While a write is pending, a read may find the state before it or after it.
/// * The operations that concern one key take effect in the order in which they were begun, except that this node's own
///   writes may go before those of peers.
/// * Expired records may linger until [`Op::Expire`] takes them, but no read with a `now` at or after their expiry
///   returns them. A store may also remove them by itself at any operation with a later `now`.
/// * A value is judged inside the write: the store finds what is kept under the key, and keeps what [`Judge::decide`]
///   returns. It decides nothing about values itself, and reads only the expiry of those that it keeps.
/// * Own records (`own == true`) do not count against the quotas of remote ones and are never evicted for them. Remote
///   records may be evicted for other remote ones in a full store, by the rule in [`eviction`] or by one that the store
///   documents. So servers may hold different provider records (rule A40).
/// * Keys are any bytes, up to [`MAX_KEY_LEN`](super::config::MAX_KEY_LEN) for values and up to
///   [`MAX_PROVIDER_KEY_LEN`](super::config::MAX_PROVIDER_KEY_LEN) for provider records. Longer ones may be refused as
///   [`StoreError::TooLarge`].
/// * Addresses are facts about a peer: a store may keep one set for all records of a peer, the one written last, and
///   fewer of them than it was given (rule L24). A record without addresses need not clear those that are known.
/// * The bytes of a record may be part of a larger message, which they keep alive; a store in memory copies them.
/// * Each operation ends exactly once: either [`Store::run`] returns its end, or [`Store::poll_done`] does later.
/// * Nothing blocks and nothing panics, whatever the keys and values.
///
/// A store that prints each operation and leaves the rest to another store. It passes on `poll_done` and `keeps_peers`
/// too, which have defaults: without them operations of a store that takes time, such as `DiskStore`, would never end.
///
/// ```
/// use std::task::Waker;
///
/// use libp2p_kad_dht::store::{Done, Op, Ticket, Usage};
/// use libp2p_kad_dht::{Store, Timestamp};
///
/// struct Logged<S>(S);
///
/// impl<S: Store> Store for Logged<S> {
///     fn run(&mut self, now: Timestamp, ticket: Ticket, op: Op) -> Option<Done> {
///         println!("{op:?}");
///         self.0.run(now, ticket, op)
///     }
///
///     fn poll_done(&mut self, waker: &Waker) -> Option<(Ticket, Done)> {
///         self.0.poll_done(waker)
///     }
///
///     fn keeps_peers(&self) -> bool {
///         self.0.keeps_peers()
///     }
///
///     fn next_expiry(&self) -> Option<Timestamp> {
///         self.0.next_expiry()
///     }
///
///     fn usage(&self) -> Usage {
///         self.0.usage()
///     }
/// }
/// ```
pub trait Store: Send {
    /// Runs `op` and returns its result, or begins it and returns `None`: then [`Store::poll_done`] returns the result
    /// later, under `ticket`. The caller chooses tickets, each unique among the pending operations.
    fn run(&mut self, now: Timestamp, ticket: Ticket, op: Op) -> Option<Done>;

    /// The result of the next pending operation that has ended; if there is none yet, registers `waker` (in place of an
    /// earlier one) and wakes it once there is.
    ///
    /// A store that does everything at once keeps this default.
    fn poll_done(&mut self, waker: &Waker) -> Option<(Ticket, Done)> {
        let _ = waker;
        None
    }

    /// Whether this store outlives the process, so that peers are worth saving in it. `false` by default.
    fn keeps_peers(&self) -> bool {
        false
    }

    /// When the next item expires, so that the node can sleep until then; `None` if no item expires. It is in the past
    /// while expired items linger.
    fn next_expiry(&self) -> Option<Timestamp>;

    /// Numbers of stored items, including expired ones that linger.
    fn usage(&self) -> Usage;
}

impl<S: Store + ?Sized> Store for Box<S> {
    fn run(&mut self, now: Timestamp, ticket: Ticket, op: Op) -> Option<Done> {
        (**self).run(now, ticket, op)
    }

    fn poll_done(&mut self, waker: &Waker) -> Option<(Ticket, Done)> {
        (**self).poll_done(waker)
    }

    fn keeps_peers(&self) -> bool {
        (**self).keeps_peers()
    }

    fn next_expiry(&self) -> Option<Timestamp> {
        (**self).next_expiry()
    }

    fn usage(&self) -> Usage {
        (**self).usage()
    }
}

/// An operation of a store.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_enums, reason = "each store has to know them all")]
pub enum Op {
    /// Finds the value under this key, unless it has expired: [`OpOutput::Value`].
    Get(RecordKey),
    /// Keeps a value, if the judge lets it replace the one under its key: [`OpOutput::Kept`], or the judge's error;
    /// [`StoreError::Full`] or [`StoreError::TooLarge`] if there is no space.
    Put(Box<Put>),
    /// Notes that an own record was announced, or another's value stored again, at this time: `announced` or `received`
    /// becomes that time, unless the record was stored since. Only if the same value, or the same own provider record,
    /// is still kept. [`OpOutput::Nothing`].
    Touch(Item, Timestamp),
    /// Removes the value under this key but remembers its sequence number, so that no older copy from another node
    /// replaces it: [`OpOutput::Nothing`], also if there is none.
    Remove(RecordKey),
    /// Finds the providers of this key that have not expired; addresses past their own expiry are left out:
    /// [`OpOutput::Providers`].
    Providers(RecordKey),
    /// Keeps a provider record, in place of an earlier one of the same key and provider: [`OpOutput::Kept`], or an
    /// error as for [`Op::Put`]. The second field is the peer that sent it; `None` for this node itself.
    AddProvider(Box<ProviderRecord>, Option<Sender>),
    /// Removes the record that this peer provides this key: [`OpOutput::Nothing`], also if there is none.
    RemoveProvider(RecordKey, PeerId),
    /// Finds the items of this kind in order of their place in the keyspace, from just after `after` (from the start
    /// without it), up to `limit`: [`OpOutput::Items`]. Several items can lie at one place; a page never splits them,
    /// so it can be longer than `limit`. A page shorter than `limit` is the last one. Expired items that linger are
    /// among them, as they were written.
    Scan {
        /// Kind of items.
        what: Scan,
        /// Place after which to begin.
        after: Option<Key>,
        /// Number of items to find.
        limit: usize,
    },
    /// Saves the peers of the routing table with their addresses for the next start, in place of those saved before:
    /// [`OpOutput::Nothing`]. A store that does not outlive the process ignores them.
    SavePeers(Vec<Arc<Contact>>),
    /// Finds the peers that were saved last: [`OpOutput::Peers`].
    SavedPeers,
    /// Removes up to `limit` expired items, own ones too: [`OpOutput::Expired`]. Before that, items of other peers that
    /// expire after `latest` expire at `latest` from now on, and count for the limit. Such items remain after the
    /// host's clock was ahead.
    Expire {
        /// Maximum number of items.
        limit: usize,
        /// No item of another peer may expire later.
        latest: Timestamp,
    },
}

impl Op {
    /// The one key that it concerns; `None` for operations on many.
    pub fn key(&self) -> Option<&RecordKey> {
        match self {
            Op::Get(key) | Op::Remove(key) | Op::Providers(key) | Op::RemoveProvider(key, _) => Some(key),
            Op::Put(put) => Some(&put.record.key),
            Op::Touch(item, _) => Some(item.key()),
            Op::AddProvider(record, _) => Some(&record.key),
            Op::Scan { .. } | Op::SavePeers(_) | Op::SavedPeers | Op::Expire { .. } => None,
        }
    }
}

/// A value to keep.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Put {
    /// The value. It was validated.
    pub record: Record,
    /// Decides whether it replaces the stored value.
    pub judge: Judge,
    /// The peer that sent it; `None` for this node itself.
    pub from: Option<Sender>,
}

impl Put {
    /// A value of this node itself.
    pub fn new(record: Record, judge: Judge) -> Put {
        Put { record, judge, from: None }
    }

    /// The same, sent by this peer.
    #[must_use]
    pub fn from(self, sender: Sender) -> Put {
        Put { from: Some(sender), ..self }
    }
}

/// The peer that sent a record over a connection. In a full store it pays for the record, see [`eviction`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sender {
    /// The peer at the other end of the connection.
    pub peer: PeerId,
    /// Number of its IP group, where groups count: the peers of one group pay together.
    pub group: Option<u64>,
    /// Whether the peer is one of the k closest peers to the record that this node knows, so that it probably holds the
    /// record for others and replicates it.
    pub holder: bool,
    /// Whether this node itself is one of the k closest to the record. Such records are evicted last.
    pub near: bool,
}

impl Sender {
    /// A peer without a group that is no holder of the record, which is not near this node.
    pub fn new(peer: PeerId) -> Sender {
        Sender { peer, group: None, holder: false, near: false }
    }
}

/// Result of an operation.
pub type Done = Result<OpOutput, StoreError>;

/// The result of a successful operation.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_enums, reason = "each store has to know them all")]
pub enum OpOutput {
    /// Success, without a result.
    Nothing,
    /// The record is stored, as durably as this store can.
    Kept {
        /// Whether the record replaced another value that this node itself had put.
        superseded: bool,
    },
    /// The answer to [`Op::Get`].
    Value(Option<Record>),
    /// The answer to [`Op::Providers`].
    Providers(Vec<ProviderRecord>),
    /// The answer to [`Op::Scan`].
    Items(Vec<Item>),
    /// The answer to [`Op::SavedPeers`].
    Peers(Vec<Arc<Contact>>),
    /// Number of items that [`Op::Expire`] removed or made expire earlier; fewer than its limit means that none is
    /// left.
    Expired(usize),
}

/// Minimum time for which a sequence number is remembered after its value, while there is space for it (each store has
/// a bound: 16,384 in memory, 65,536 on the disk). Source: the lifetime of values, 48 h, after which every other holder has dropped the
/// value too.
pub const SEQUENCE_MEMORY: Duration = Duration::from_secs(48 * 3600);

/// Kind of items that an [`Op::Scan`] finds. A store skips others at little cost, since there can be a million of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "each store has to know them all")]
pub enum Scan {
    /// Everything.
    #[default]
    All,
    /// Values, own ones included.
    Values,
    /// This node's own values and provider records.
    Own,
}

impl Scan {
    /// Whether the scan finds this item.
    pub fn wants(self, item: &Item) -> bool {
        match self {
            Scan::All => true,
            Scan::Values => matches!(item, Item::Value(_)),
            Scan::Own => item.is_own(),
        }
    }
}

/// A stored item, as an [`Op::Scan`] finds it.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_enums, reason = "each store has to know them all")]
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

    /// Whether the item has expired at `now`.
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

/// Number of a pending operation, chosen by the caller and unique among those pending.
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

/// Numbers of items in a store.
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

/// The reason why an operation failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum StoreError {
    /// There is no space for the record.
    #[error("the store is full")]
    Full,
    /// Too many operations are pending, or too many writes to this key; a later attempt may succeed.
    #[error("the store is busy")]
    Busy,
    /// The judge prefers the stored value, or a value with a higher sequence number was stored before.
    #[error("a newer value is stored there")]
    Old,
    /// The judge does not let the value replace the stored one.
    #[error("a different value is stored there than the one to replace")]
    Conflict,
    /// The application did not accept the record.
    #[error("the application does not accept the record")]
    Refused,
    /// The key or the value alone is larger than the store takes.
    #[error("the record is too large for the store")]
    TooLarge,
    /// The store itself failed; its own log says why. A write that ends so may have been done.
    #[error("the store failed")]
    Failed,
    /// The stored record is damaged and cannot be read. The store moves it aside, so that the next read finds none and
    /// the next write succeeds.
    #[error("the stored record is damaged")]
    Damaged,
}
