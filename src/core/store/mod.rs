//! What this node keeps, behind one small trait.
//!
//! Knows: records, quotas, expiry, order in the keyspace. Must not know: peers other than as values, requests, or
//! who asks. A store is called inside the event loop, so it never blocks: what takes time ends later.

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
/// A store is told what to do by an [`Op`] and says how it ended by a [`Done`]; [`StoreExt`] has a typed call for each.
///
/// The contract, which the tests in `testing::conformance` check (feature `testing`):
///
/// * A write that ended without an error is read back by every later read until it is replaced, removed, expired or has
///   given way. A write that failed changed nothing. While a write is under way, a read may find the state before it or
///   after it.
/// * The operations that concern one key take effect in the order in which they were begun, except that this node's own
///   writes may go before those of peers.
/// * Expired records may linger until [`Op::Expire`] takes them, but no read with a `now` at or after their expiry
///   returns them. A store may also forget them of itself whenever it learns of a `now`.
/// * A value is judged inside the write: the store finds what is kept under the key, and keeps what [`Judge::decide`]
///   returns. It decides nothing about values itself, and reads nothing but the expiry of those that it has.
/// * Own records (`own == true`) do not count against the quotas of remote ones and are never evicted for them. Remote
///   records may give way to other remote ones where there is no room for all; which ones, a store decides and says.
/// * Keys are any bytes, up to [`MAX_KEY_LEN`](super::config::MAX_KEY_LEN) for values and up to
///   [`MAX_PROVIDER_KEY_LEN`](super::config::MAX_PROVIDER_KEY_LEN) for provider records. Longer ones may be refused as
///   [`StoreError::TooLarge`].
/// * Addresses are facts about a peer: a store may keep one set for all records of a peer, the one written last, and
///   fewer of them than it was given. A record without addresses need not clear those that are known.
/// * The bytes of a record may be part of a larger message, which they keep alive; a store in memory copies them.
/// * Each operation ends exactly once: either [`Store::run`] returns its end, or [`Store::poll_done`] does later.
/// * Nothing blocks and nothing panics, whatever the keys and values.
///
/// A store that writes down what it is asked to do, and leaves the rest to the store in memory:
///
/// ```
/// use libp2p_kad_dht::store::{Done, Op, Ticket, Usage};
/// use libp2p_kad_dht::{MemoryStore, Store, Timestamp};
///
/// struct Logged(MemoryStore);
///
/// impl Store for Logged {
///     fn run(&mut self, now: Timestamp, ticket: Ticket, op: Op) -> Option<Done> {
///         println!("{op:?}");
///         self.0.run(now, ticket, op)
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
    /// Does `op` and returns how it ended, or begins with it and returns `None`: then [`Store::poll_done`] returns the end
    /// later, under `ticket`. The caller chooses tickets, each unique among the operations under way.
    fn run(&mut self, now: Timestamp, ticket: Ticket, op: Op) -> Option<Done>;

    /// The next operation that was under way and has ended; if there is none yet, registers `waker` (in place of an
    /// earlier one) and wakes it once there is.
    ///
    /// A store that does everything at once keeps this default.
    fn poll_done(&mut self, waker: &Waker) -> Option<(Ticket, Done)> {
        let _ = waker;
        None
    }

    /// Whether this store outlives the process, so that peers are worth keeping in it. Not with this default.
    fn keeps_peers(&self) -> bool {
        false
    }

    /// When the next item expires, so that the node can sleep until then; `None` if nothing expires. It is in the past
    /// while expired items linger.
    fn next_expiry(&self) -> Option<Timestamp>;

    /// How much is kept, expired items that linger included.
    fn usage(&self) -> Usage;
}

/// What a store is to do.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_enums, reason = "each store has to know them all")]
pub enum Op {
    /// Finds the value under this key, unless it has expired: [`Found::Value`].
    Get(RecordKey),
    /// Keeps a value, if the judge lets it take the place of what is kept under its key: [`Found::Kept`], or the judge's
    /// error; [`StoreError::Full`] or [`StoreError::TooLarge`] if there is no room.
    Put(Box<Put>),
    /// Notes on an own record that it was announced at this time, on another's value that it was stored again: `announced`
    /// or `received` becomes that time, unless a store came since. Only if the same value, or the same own provider
    /// record, is still kept; else nothing changes. [`Found::Nothing`].
    Touch(Item, Timestamp),
    /// Forgets the value under this key, though not its sequence number, so that no older copy that is still about comes
    /// back: [`Found::Nothing`], also if there is none.
    Remove(RecordKey),
    /// Finds the providers of this key that have not expired; addresses past their own expiry are left out:
    /// [`Found::Providers`].
    Providers(RecordKey),
    /// Keeps a provider record, in place of an earlier one of the same key and provider: [`Found::Kept`], or an error as for
    /// [`Op::Put`]. Beside it, who brought it.
    AddProvider(Box<ProviderRecord>, Option<Sender>),
    /// Forgets that this peer provides this key: [`Found::Nothing`], also if it is not known to.
    RemoveProvider(RecordKey, PeerId),
    /// Finds the items of this kind in order of their place in the keyspace, from just after `after` (from the start
    /// without it), up to `limit`: [`Found::Items`]. Several items can lie at one place; a page never splits them, so it can
    /// be longer than `limit`. A page shorter than `limit` is the last one. Expired items that linger are among them, as
    /// they were written.
    Scan {
        /// Of which kind.
        what: Scan,
        /// The place after which to begin.
        after: Option<Key>,
        /// How many.
        limit: usize,
    },
    /// Keeps the peers of the routing table for the next start, in place of those kept before, with their addresses:
    /// [`Found::Nothing`]. A store that does not outlive the process forgets them.
    SavePeers(Vec<Arc<Contact>>),
    /// Finds the peers that were kept last: [`Found::Peers`].
    SavedPeers,
    /// Forgets up to `limit` items that have expired, own ones too: [`Found::Expired`]. Before that, items of other
    /// peers that expire after `latest` expire at `latest` from now on, and count for the limit: a host's clock that was ahead leaves
    /// such.
    Expire {
        /// How many.
        limit: usize,
        /// No item of another peer may expire later.
        latest: Timestamp,
    },
}

impl Op {
    /// The key that it concerns, if it is one.
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
    /// The value. It is valid.
    pub record: Record,
    /// Decides whether it takes the place of what is kept.
    pub judge: Judge,
    /// Who brought it; `None` is this node itself.
    pub from: Option<Sender>,
}

impl Put {
    /// A value that nobody else brought, to be judged so.
    pub fn new(record: Record, judge: Judge) -> Put {
        Put { record, judge, from: None }
    }

    /// The same, brought by this peer.
    #[must_use]
    pub fn from(self, sender: Sender) -> Put {
        Put { from: Some(sender), ..self }
    }
}

/// Who brought a record over a connection: where there is no room for all records, it is charged for this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sender {
    /// The peer at the other end of the connection.
    pub peer: PeerId,
    /// A number for the IP group of its address, where groups count: whoever is in one group is charged together.
    pub group: Option<u64>,
    /// Whether it is one of the k closest to the record that this node knows, so that the record is likely to be one that it
    /// keeps for others and brings to this node in its turn.
    pub holder: bool,
    /// Whether this node itself is one of the k closest to the record: its own neighbourhood gives way last.
    pub near: bool,
}

impl Sender {
    /// A peer that is in no group, and no holder of what it brings.
    pub fn new(peer: PeerId) -> Sender {
        Sender { peer, group: None, holder: false, near: false }
    }
}

/// How an operation ended.
pub type Done = Result<Found, StoreError>;

/// What an operation that did not fail has to say.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_enums, reason = "each store has to know them all")]
pub enum Found {
    /// It is done.
    Nothing,
    /// The record is kept, as durably as this store keeps anything.
    Kept {
        /// Whether it took the place of another value that this node itself had put.
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
    /// How many items [`Op::Expire`] forgot or let expire earlier; fewer than its limit means that none is left.
    Expired(usize),
}

/// A sequence number outlives its value for so long at least. Source: the lifetime of values, 48 h: whoever stored the
/// value while it was alive has forgotten it by then.
pub const SEQUENCE_MEMORY: Duration = Duration::from_secs(48 * 3600);

/// What an [`Op::Scan`] looks for. A store skips the others at little cost: there can be a million of them.
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

/// One thing that an [`Op::Scan`] finds.
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

    /// Whether it has expired at `now`.
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

/// Names an operation under way. Chosen by the caller, unique among those under way.
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
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum StoreError {
    /// There is no room for it.
    #[error("the store is full")]
    Full,
    /// Too much waits for the store, or for the place under this key; a later attempt may find room.
    #[error("the store is busy")]
    Busy,
    /// The judge prefers what is kept, or a higher sequence number was kept before.
    #[error("a newer value is stored there")]
    Old,
    /// The judge does not let the value take the place of the one that is kept.
    #[error("another value is stored there than the one to replace")]
    Conflict,
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
