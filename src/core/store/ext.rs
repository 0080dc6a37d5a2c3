//! Typed calls for the operations of a store whose operations end at once.
//!
//! Knows: which answer belongs to which operation. Must not know: any store.

use std::sync::Arc;

use libp2p_identity::PeerId;

use super::{Item, Judge, Op, OpOutput, Put, Scan, Store, StoreError, Ticket};
use crate::core::contact::Contact;
use crate::core::key::Key;
use crate::core::record::{ProviderRecord, Record, RecordKey};
use crate::core::time::Timestamp;

/// Typed calls, for a store whose operations end at once, such as a [`MemoryStore`](super::MemoryStore).
///
/// ```
/// use libp2p_kad_dht::core::store::{MemoryStore, StoreExt as _};
/// use libp2p_kad_dht::core::{Record, RecordKey, Timestamp};
///
/// let mut store = MemoryStore::new(Default::default(), [7; 32]);
/// let now = Timestamp::from_secs(1);
/// store.put(now, Record::new("/app/x", "value", now))?;
/// assert!(store.get(now, &RecordKey::from("/app/x"))?.is_some());
/// # Ok::<(), libp2p_kad_dht::core::StoreError>(())
/// ```
///
/// # Errors
///
/// The store's own. [`StoreError::Failed`] if the operation takes time: it was begun nevertheless, and its result comes
/// under a ticket that no caller knows.
pub trait StoreExt: Store {
    /// [`Op::Get`].
    fn get(&mut self, now: Timestamp, key: &RecordKey) -> Result<Option<Record>, StoreError> {
        now_or_never(
            self,
            now,
            Op::Get(key.clone()),
            |found| if let OpOutput::Value(it) = found { Some(it) } else { None },
        )
    }

    /// [`Op::Put`] of a value that replaces any other.
    fn put(&mut self, now: Timestamp, record: Record) -> Result<(), StoreError> {
        written(self, now, Op::Put(Box::new(Put::new(record, Judge::of_the_last()))))
    }

    /// [`Op::Remove`].
    fn remove(&mut self, key: &RecordKey) -> Result<(), StoreError> {
        written(self, Timestamp::ZERO, Op::Remove(key.clone()))
    }

    /// [`Op::Providers`].
    fn providers(&mut self, now: Timestamp, key: &RecordKey) -> Result<Vec<ProviderRecord>, StoreError> {
        let op = Op::Providers(key.clone());
        now_or_never(self, now, op, |found| if let OpOutput::Providers(it) = found { Some(it) } else { None })
    }

    /// [`Op::AddProvider`] without a sender.
    fn add_provider(&mut self, now: Timestamp, record: ProviderRecord) -> Result<(), StoreError> {
        written(self, now, Op::AddProvider(Box::new(record), None))
    }

    /// [`Op::RemoveProvider`].
    fn remove_provider(&mut self, key: &RecordKey, provider: &PeerId) -> Result<(), StoreError> {
        written(self, Timestamp::ZERO, Op::RemoveProvider(key.clone(), *provider))
    }

    /// [`Op::Scan`].
    fn scan(&mut self, what: Scan, after: Option<&Key>, limit: usize) -> Result<Vec<Item>, StoreError> {
        let op = Op::Scan { what, after: after.copied(), limit };
        now_or_never(self, Timestamp::ZERO, op, |found| if let OpOutput::Items(it) = found { Some(it) } else { None })
    }

    /// [`Op::SavedPeers`].
    fn saved_peers(&mut self) -> Result<Vec<Arc<Contact>>, StoreError> {
        let op = Op::SavedPeers;
        now_or_never(self, Timestamp::ZERO, op, |found| if let OpOutput::Peers(it) = found { Some(it) } else { None })
    }

    /// [`Op::Expire`].
    fn expire(&mut self, now: Timestamp, limit: usize) -> Result<usize, StoreError> {
        let op = Op::Expire { limit, latest: Timestamp::MAX };
        now_or_never(self, now, op, |found| if let OpOutput::Expired(it) = found { Some(it) } else { None })
    }
}

impl<S: Store + ?Sized> StoreExt for S {}

fn written<S: Store + ?Sized>(store: &mut S, now: Timestamp, op: Op) -> Result<(), StoreError> {
    now_or_never(store, now, op, |found| matches!(found, OpOutput::Nothing | OpOutput::Kept { .. }).then_some(()))
}

fn now_or_never<S: Store + ?Sized, T>(
    store: &mut S,
    now: Timestamp,
    op: Op,
    answer: fn(OpOutput) -> Option<T>,
) -> Result<T, StoreError> {
    answer(store.run(now, Ticket::new(u64::MAX), op).unwrap_or(Err(StoreError::Failed))?).ok_or(StoreError::Failed)
}
