//! The operations under way in the store, for peers and queries: which waiter gets the result of which.
//!
//! Knows: the store, the validator, and the waiters. Must not know: what a reply looks like or what a query does next.
//!
//! An operation that takes time is pending here under its ticket, and [`StoreOps::on_done`] returns its result with its
//! waiter. Of the valid PUTs of peers to one key, one is with the store and one waits (`write_queue`).

#[cfg(test)]
mod tests;
mod write_queue;

use std::collections::BTreeMap;
use std::fmt;

use super::config::RecordConfig;
use super::io::QueryId;
use super::message::Value;
use super::record::{Record, RecordKey};
use super::store::{Done, Judge, Op, OpOutput, Put, Sender, Store, StoreError, Ticket};
use super::time::Timestamp;
use super::validate::InvalidValue;
use write_queue::WriteQueue;

/// Number of a peer's request that waits for the store. It is never used twice, unlike the driver's id for the request:
/// that is free again once the peer has disconnected, while the store may still be at work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct InboundTicket(pub(crate) u64);

/// The part of the node that gets the result of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waiter {
    /// A peer.
    Inbound(InboundTicket),
    /// A query of this node.
    Query(QueryId),
    /// A duty of this node.
    Duty(Duty),
    /// No part waits, but the value, which a read or an announcement found, may supersede an own one.
    Adopt,
    /// No part waits: for times noted on records, and peers saved for the next start.
    Nobody,
    /// The start, which reads the saved peers.
    Restore,
    /// The removal of expired records.
    Expiry,
}

/// The periodic tasks that scan records, each one page at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Duty {
    /// Announces again what this node published.
    Republish,
    /// Stores the values of others again.
    Replicate,
    /// Brings values to newcomers.
    Newcomers,
}

pub(crate) struct StoreOps {
    store: Box<dyn Store>,
    config: RecordConfig,
    next: u64,
    /// Bounded: the server limits the operations of peers, and no query starts while there are too many.
    waiting: BTreeMap<Ticket, PendingOp>,
    /// The keys to which peers write while a write of a peer is under way.
    queued: BTreeMap<RecordKey, WriteQueue>,
    /// Waiters whose PUT was pushed out of the queue by another one.
    displaced: Vec<(Waiter, Done)>,
    /// Keys under which another value took the place of this node's own. Taken after each operation.
    superseded: Vec<RecordKey>,
}

/// An operation under way.
#[derive(Debug)]
struct PendingOp {
    waiter: Waiter,
    /// The key of a PUT.
    put: Option<RecordKey>,
    /// Whether PUTs of other peers may be queued behind it.
    queued: bool,
}

impl fmt::Debug for StoreOps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreOps").field("usage", &self.store.usage()).field("waiting", &self.waiting).finish()
    }
}

impl StoreOps {
    pub(crate) fn new(store: Box<dyn Store>, config: RecordConfig) -> StoreOps {
        let (waiting, queued, displaced, superseded) = Default::default();
        StoreOps { store, config, next: 0, waiting, queued, displaced, superseded }
    }

    pub(crate) fn store(&mut self) -> &mut dyn Store {
        &mut *self.store
    }

    /// Replaces the store by one made of it. The new store must end what is pending in the old one.
    #[cfg(feature = "driver")]
    pub(crate) fn wrap(&mut self, wrapper: impl FnOnce(Box<dyn Store>) -> Box<dyn Store>) {
        let store = std::mem::replace(&mut self.store, Box::new(super::store::NoStore));
        self.store = wrapper(store);
    }

    pub(crate) fn peek(&self) -> &dyn Store {
        &*self.store
    }

    /// Number of operations pending here, including those whose waiter has given up.
    pub(crate) fn jobs(&self) -> usize {
        self.waiting.len() + self.queued.values().filter(|key| key.waits()).count()
    }

    /// Runs an operation. Returns its result, or `None` if it takes time.
    pub(crate) fn run(&mut self, now: Timestamp, waiter: Waiter, op: Op) -> Option<Done> {
        self.begin(now, waiter, op, false)
    }

    fn begin(&mut self, now: Timestamp, waiter: Waiter, op: Op, queued: bool) -> Option<Done> {
        let ticket = Ticket::new(self.next);
        self.next += 1;
        let put = if let Op::Put(put) = &op { Some(put.record.key.clone()) } else { None };
        let done = self.store.run(now, ticket, op);
        match &done {
            Some(done) => self.note_superseded(done, put),
            None if waiter == Waiter::Nobody => {}
            None => _ = self.waiting.insert(ticket, PendingOp { waiter, put, queued }),
        }
        done
    }

    fn note_superseded(&mut self, done: &Done, put: Option<RecordKey>) {
        if matches!(done, Ok(OpOutput::Kept { superseded: true })) {
            self.superseded.extend(put);
        }
    }

    /// A value as it may be kept, with its place in a sequence and the end of its validity (rules L18 and A54).
    ///
    /// # Errors
    ///
    /// Why it is not valid.
    pub(crate) fn checked(&self, now: Timestamp, mut record: Record) -> Result<Record, InvalidValue> {
        self.config.validator.validate(now, &record.key, &record.value)?.note_on(&mut record);
        Ok(record)
    }

    /// Keeps a value of this node's own, or one that it read, unless a better one is kept.
    pub(crate) fn put(&mut self, now: Timestamp, waiter: Waiter, record: Record) -> Option<Done> {
        let judge = if waiter == Waiter::Adopt { self.judge().of_what_others_hold() } else { self.judge() };
        self.run(now, waiter, Op::Put(Box::new(Put::new(record, judge))))
    }

    /// Keeps a value that a peer sent, unless a better one is kept, or one waits that goes before it.
    pub(crate) fn put_of_peer(
        &mut self,
        now: Timestamp,
        waiter: Waiter,
        record: Record,
        sender: Sender,
    ) -> Option<Done> {
        let judge = if sender.holder { self.judge() } else { self.judge().of_stranger() };
        let put = Put::new(record, judge).from(sender);
        if let Some(queued) = self.queued.get_mut(&put.record.key) {
            let pushed_out = queued.offer(waiter, put)?;
            if pushed_out == waiter {
                return Some(Err(StoreError::Busy));
            }
            self.displaced.push((pushed_out, Err(StoreError::Busy)));
            return None;
        }
        let key = put.record.key.clone();
        let done = self.begin(now, waiter, Op::Put(Box::new(put)), true);
        if done.is_none() {
            self.queued.insert(key, WriteQueue::new(&sender));
        }
        done
    }

    /// To be called when a pending operation has ended. Returns its waiter and its result, and those of the PUTs queued
    /// behind it that ended at once.
    pub(crate) fn on_done(&mut self, now: Timestamp, ticket: Ticket, mut done: Done) -> Vec<(Waiter, Done)> {
        let Some(PendingOp { waiter, put, queued }) = self.waiting.remove(&ticket) else { return Vec::new() };
        self.note_superseded(&done, put.clone());
        if let Ok(OpOutput::Value(value)) = &mut done {
            // The read may have begun before it expired.
            value.take_if(|value| value.is_expired(now));
        }
        let mut ends = vec![(waiter, done)];
        if queued && let Some(key) = put {
            self.next_put(now, &key, &mut ends);
        }
        ends
    }

    /// Begins the PUT that is queued for the key, if there is one.
    fn next_put(&mut self, now: Timestamp, key: &RecordKey, ends: &mut Vec<(Waiter, Done)>) {
        while let Some((waiter, put)) = self.queued.get_mut(key).and_then(WriteQueue::take) {
            match self.begin(now, waiter, Op::Put(Box::new(put)), true) {
                Some(done) => ends.push((waiter, done)),
                None => return,
            }
        }
        self.queued.remove(key);
    }

    /// Waiters whose PUT was pushed out since the last call.
    pub(crate) fn take_displaced(&mut self) -> Vec<(Waiter, Done)> {
        std::mem::take(&mut self.displaced)
    }

    /// A key under which another value took the place of this node's own since the last call.
    pub(crate) fn take_superseded(&mut self) -> Option<RecordKey> {
        self.superseded.pop()
    }

    fn judge(&self) -> Judge {
        Judge::new(self.config.validator.clone(), self.config.value_ttl)
    }
}

/// A value that came from a peer, as a record. Its lifetime is that stated by the peer, within the bound for values.
/// Its age is that stated by the peer: a peer that overstates it only makes its value lose against others.
pub(crate) fn received(now: Timestamp, config: &RecordConfig, value: Value) -> Record {
    let ttl = value.ttl.map_or(config.value_ttl, |ttl| ttl.min(config.value_ttl));
    let mut record = Record::new(value.key, value.value, now);
    record.publisher = value.publisher;
    record.expires = Some(now + ttl);
    record.claimed = value.ttl.is_some();
    record.put = value.age.map(|age| now - age);
    record
}
