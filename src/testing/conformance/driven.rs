//! A store whose pending operations are driven to their end, so that a test reads like one of a store in memory.
//!
//! Knows: tickets, and what may be reported when. Must not know: which test uses it.
#![expect(clippy::panic, reason = "a test kit: a broken contract is reported by a panic that names it")]

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Wake, Waker};

use libp2p_identity::PeerId;

use crate::core::Contact;
use crate::core::Key;
use crate::core::Timestamp;
use crate::core::store::{Done, Item, Judge, Op, OpOutput, Put, Scan, Sender, Store, StoreError, Ticket, Usage};
use crate::core::{ProviderRecord, Record, RecordKey};

/// A store under test. Every operation returns when it is done, and every ticket is followed.
///
/// # Panics
///
/// All methods panic if an operation does not end, ends twice, or returns a result of another kind of operation.
pub struct Driven<'a> {
    store: Box<dyn Store>,
    pump: Rc<RefCell<dyn FnMut() + 'a>>,
    polls: usize,
    next: u64,
    open: BTreeSet<Ticket>,
    done: BTreeMap<Ticket, Done>,
}

impl<'a> Driven<'a> {
    pub(super) fn new(store: Box<dyn Store>, pump: Rc<RefCell<dyn FnMut() + 'a>>, polls: usize) -> Driven<'a> {
        Driven { store, pump, polls, next: 0, open: BTreeSet::new(), done: BTreeMap::new() }
    }

    /// The store, to close it.
    pub fn into_store(self) -> Box<dyn Store> {
        self.store
    }

    /// The store itself.
    pub fn store(&mut self) -> &mut dyn Store {
        &mut *self.store
    }

    /// Begins an operation. [`Driven::ended`] waits for its end.
    pub fn begin(&mut self, now: Timestamp, op: Op) -> Ticket {
        self.next += 1;
        let ticket = Ticket::new(self.next);
        match self.store.run(now, ticket, op) {
            Some(done) => _ = self.done.insert(ticket, done),
            None => _ = self.open.insert(ticket),
        }
        ticket
    }

    /// Runs an operation to its end.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub fn run(&mut self, now: Timestamp, op: Op) -> Done {
        let ticket = self.begin(now, op);
        self.ended(ticket)
    }

    /// [`Op::Get`], to its end.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub fn get(&mut self, now: Timestamp, key: &RecordKey) -> Result<Option<Record>, StoreError> {
        match self.run(now, Op::Get(key.clone()))? {
            OpOutput::Value(found) => Ok(found),
            other => panic!("a get finds a value, not {other:?}"),
        }
    }

    /// [`Op::Providers`], to its end.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub fn providers(&mut self, now: Timestamp, key: &RecordKey) -> Result<Vec<ProviderRecord>, StoreError> {
        match self.run(now, Op::Providers(key.clone()))? {
            OpOutput::Providers(found) => Ok(found),
            other => panic!("a read of providers finds providers, not {other:?}"),
        }
    }

    /// [`Op::Scan`], to its end.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub fn scan(&mut self, what: Scan, after: Option<&Key>, limit: usize) -> Result<Vec<Item>, StoreError> {
        match self.run(Timestamp::ZERO, Op::Scan { what, after: after.copied(), limit })? {
            OpOutput::Items(found) => Ok(found),
            other => panic!("a scan finds items, not {other:?}"),
        }
    }

    /// [`Op::SavedPeers`], to its end.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub fn saved_peers(&mut self) -> Result<Vec<Arc<Contact>>, StoreError> {
        match self.run(Timestamp::ZERO, Op::SavedPeers)? {
            OpOutput::Peers(found) => Ok(found),
            other => panic!("a read of peers finds peers, not {other:?}"),
        }
    }

    /// [`Op::SavePeers`], to its end.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub fn save_peers(&mut self, peers: Vec<Arc<Contact>>) -> Result<(), StoreError> {
        self.run(Timestamp::ZERO, Op::SavePeers(peers)).map(drop)
    }

    /// [`Op::Put`] of a value that replaces any other, to its end.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub fn put(&mut self, now: Timestamp, record: Record) -> Result<(), StoreError> {
        self.kept(now, Op::Put(Box::new(Put::new(record, Judge::of_the_last()))))
    }

    /// [`Op::Remove`], to its end.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub fn remove(&mut self, key: &RecordKey) -> Result<(), StoreError> {
        self.run(Timestamp::ZERO, Op::Remove(key.clone())).map(drop)
    }

    /// [`Op::AddProvider`] of a record that the provider itself sent, to its end.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub fn add_provider(&mut self, now: Timestamp, record: ProviderRecord) -> Result<(), StoreError> {
        self.kept(now, announced(record))
    }

    /// [`Op::RemoveProvider`], to its end.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub fn remove_provider(&mut self, key: &RecordKey, provider: &PeerId) -> Result<(), StoreError> {
        self.run(Timestamp::ZERO, Op::RemoveProvider(key.clone(), *provider)).map(drop)
    }

    /// [`Op::Expire`], to its end.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub fn expire(&mut self, now: Timestamp, limit: usize) -> Result<usize, StoreError> {
        self.expire_until(now, limit, Timestamp::MAX)
    }

    /// [`Op::Expire`] with a `latest` after which no item of another peer may expire, to its end.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub fn expire_until(&mut self, now: Timestamp, limit: usize, latest: Timestamp) -> Result<usize, StoreError> {
        match self.run(now, Op::Expire { limit, latest })? {
            OpOutput::Expired(count) => Ok(count),
            other => panic!("expiry finds a count, not {other:?}"),
        }
    }

    fn kept(&mut self, now: Timestamp, op: Op) -> Result<(), StoreError> {
        match self.run(now, op)? {
            OpOutput::Kept { .. } => Ok(()),
            other => panic!("a record that is not refused is kept, not {other:?}"),
        }
    }

    /// [`Store::next_expiry`].
    pub fn next_expiry(&self) -> Option<Timestamp> {
        self.store.next_expiry()
    }

    /// [`Store::usage`].
    pub fn usage(&self) -> Usage {
        self.store.usage()
    }

    /// Waits for a ticket as an executor does: after a poll without a result, it polls again only once it is woken.
    pub fn wait_for_wake(&mut self, ticket: Ticket) -> Done {
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        if let Some(done) = self.done.remove(&ticket) {
            return done;
        }
        for _ in 0..self.polls {
            let before = woken.0.load(Ordering::SeqCst);
            self.poll(&waker);
            if let Some(done) = self.done.remove(&ticket) {
                return done;
            }
            for _ in 0..self.polls {
                if woken.0.load(Ordering::SeqCst) > before {
                    break;
                }
                (self.pump.borrow_mut())();
            }
            assert!(woken.0.load(Ordering::SeqCst) > before, "a store wakes once something is done, but did not");
        }
        panic!("each ticket is reported, but {ticket} was not within {} polls", self.polls);
    }

    /// Lets the store finish its pending operations, and checks that it reports no result that is not waited for.
    pub fn settle(&mut self, polls: usize) {
        for _ in 0..polls {
            self.poll(Waker::noop());
            (self.pump.borrow_mut())();
        }
    }

    /// Waits for the end of an operation.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub fn ended(&mut self, ticket: Ticket) -> Done {
        for _ in 0..self.polls {
            if let Some(done) = self.done.remove(&ticket) {
                return done;
            }
            self.poll(Waker::noop());
            if !self.done.contains_key(&ticket) {
                (self.pump.borrow_mut())();
            }
        }
        panic!("each operation ends, but {ticket} did not within {} polls", self.polls);
    }

    fn poll(&mut self, waker: &Waker) {
        while let Some((ticket, done)) = self.store.poll_done(waker) {
            assert!(self.open.remove(&ticket), "each operation ends exactly once, but {ticket} is unknown or over");
            self.done.insert(ticket, done);
        }
    }
}

impl std::fmt::Debug for Driven<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Driven").field("open", &self.open).finish_non_exhaustive()
    }
}

/// A provider record as it comes over a connection from its provider, or one of this node's own.
pub(super) fn announced(record: ProviderRecord) -> Op {
    let sender = (!record.own).then(|| Sender::new(*record.provider.peer()));
    Op::AddProvider(Box::new(record), sender)
}

/// Counts how many times it was woken.
#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}
