//! A store whose pending operations are driven to their end, so that a test reads like one of a store in memory.
//!
//! Knows: tickets, and what may be reported when. Must not know: which test drives it.
#![expect(clippy::panic, reason = "a test kit: a broken contract is reported by a panic that names it")]

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Wake, Waker};

use libp2p_identity::PeerId;

use crate::core::contact::Contact;
use crate::core::key::Key;
use crate::core::record::{ProviderRecord, Record, RecordKey};
use crate::core::store::{Done, Item, Loaded, Read, Scan, Store, StoreError, Ticket, Usage, Write};
use crate::core::time::Timestamp;

/// A store under test. Every operation returns when it is done, and every ticket is followed.
///
/// # Panics
///
/// All methods panic if a ticket is never reported, reported twice, unknown, or of the wrong kind.
pub struct Driven<'a> {
    store: Box<dyn Store>,
    pump: Rc<RefCell<dyn FnMut() + 'a>>,
    polls: usize,
    open: BTreeSet<Ticket>,
    done: BTreeMap<Ticket, Done>,
}

impl<'a> Driven<'a> {
    pub(super) fn new(store: Box<dyn Store>, pump: Rc<RefCell<dyn FnMut() + 'a>>, polls: usize) -> Driven<'a> {
        Driven { store, pump, polls, open: BTreeSet::new(), done: BTreeMap::new() }
    }

    /// The store, to close it.
    pub fn into_store(self) -> Box<dyn Store> {
        self.store
    }

    /// The store itself.
    pub fn store(&mut self) -> &mut dyn Store {
        &mut *self.store
    }

    /// [`Store::get`], to its end.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub fn get(&mut self, now: Timestamp, key: &RecordKey) -> Result<Option<Record>, StoreError> {
        match self.store.get(now, key)? {
            Read::Ready(found) => Ok(found),
            Read::Pending(ticket) => match self.loaded(ticket)? {
                Loaded::Value(found) => Ok(found),
                other => panic!("a pending get is answered with a value, not with {other:?}"),
            },
        }
    }

    /// [`Store::providers`], to its end.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub fn providers(&mut self, now: Timestamp, key: &RecordKey) -> Result<Vec<ProviderRecord>, StoreError> {
        match self.store.providers(now, key)? {
            Read::Ready(found) => Ok(found),
            Read::Pending(ticket) => match self.loaded(ticket)? {
                Loaded::Providers(found) => Ok(found),
                other => panic!("a pending read of providers is answered with providers, not with {other:?}"),
            },
        }
    }

    /// [`Store::scan`], to its end.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub fn scan(&mut self, what: Scan, after: Option<&Key>, limit: usize) -> Result<Vec<Item>, StoreError> {
        match self.store.scan(what, after, limit)? {
            Read::Ready(found) => Ok(found),
            Read::Pending(ticket) => match self.loaded(ticket)? {
                Loaded::Items(found) => Ok(found),
                other => panic!("a pending scan is answered with items, not with {other:?}"),
            },
        }
    }

    /// [`Store::sequence`], to its end.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub fn sequence(&mut self, now: Timestamp, key: &RecordKey) -> Result<Option<u64>, StoreError> {
        match self.store.sequence(now, key)? {
            Read::Ready(found) => Ok(found),
            Read::Pending(ticket) => match self.loaded(ticket)? {
                Loaded::Sequence(found) => Ok(found),
                other => panic!("a pending sequence is answered with a number, not with {other:?}"),
            },
        }
    }

    /// [`Store::saved_peers`], to its end.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub fn saved_peers(&mut self) -> Result<Vec<Arc<Contact>>, StoreError> {
        match self.store.saved_peers()? {
            Read::Ready(found) => Ok(found),
            Read::Pending(ticket) => match self.loaded(ticket)? {
                Loaded::Peers(found) => Ok(found),
                other => panic!("a pending read of peers is answered with peers, not with {other:?}"),
            },
        }
    }

    /// [`Store::save_peers`], to its end.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub fn save_peers(&mut self, peers: Vec<Arc<Contact>>) -> Result<(), StoreError> {
        let write = self.store.save_peers(peers)?;
        self.stored(write)
    }

    /// [`Store::put`], to its end.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub fn put(&mut self, now: Timestamp, record: Record) -> Result<(), StoreError> {
        let write = self.store.put(now, record)?;
        self.stored(write)
    }

    /// [`Store::remove`], to its end.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub fn remove(&mut self, key: &RecordKey) -> Result<(), StoreError> {
        let write = self.store.remove(key)?;
        self.stored(write)
    }

    /// [`Store::add_provider`], to its end.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub fn add_provider(&mut self, now: Timestamp, record: ProviderRecord) -> Result<(), StoreError> {
        let write = self.store.add_provider(now, record)?;
        self.stored(write)
    }

    /// [`Store::remove_provider`], to its end.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub fn remove_provider(&mut self, key: &RecordKey, provider: &PeerId) -> Result<(), StoreError> {
        let write = self.store.remove_provider(key, provider)?;
        self.stored(write)
    }

    /// [`Store::expire`], to its end.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub fn expire(&mut self, now: Timestamp, limit: usize) -> Result<usize, StoreError> {
        match self.store.expire(now, limit)? {
            Read::Ready(count) => Ok(count),
            Read::Pending(ticket) => match self.loaded(ticket)? {
                Loaded::Expired(count) => Ok(count),
                other => panic!("a pending expire is answered with a count, not with {other:?}"),
            },
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

    /// Waits for the end of a write.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub fn stored(&mut self, write: Write) -> Result<(), StoreError> {
        let Write::Pending(ticket) = write else { return Ok(()) };
        match self.wait(ticket) {
            Done::Stored { result, .. } => result,
            Done::Loaded { .. } => panic!("a pending write ends as stored, not as loaded ({ticket})"),
        }
    }

    /// Waits for the end of a read.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub fn loaded(&mut self, ticket: Ticket) -> Result<Loaded, StoreError> {
        match self.wait(ticket) {
            Done::Loaded { result, .. } => result,
            Done::Stored { .. } => panic!("a pending read ends as loaded, not as stored ({ticket})"),
        }
    }

    /// Waits for a ticket as an executor does: after a poll that brought nothing, it polls again only once it is woken.
    pub fn wait_for_wake(&mut self, ticket: Ticket) -> Done {
        self.open.insert(ticket);
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
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

    /// Lets the store finish what it has, and sees that it reports nothing that nobody waits for.
    pub fn settle(&mut self, polls: usize) {
        for _ in 0..polls {
            self.poll(Waker::noop());
            (self.pump.borrow_mut())();
        }
    }

    /// Says that a ticket was given out, so that it may be reported while another one is waited for.
    pub fn expect(&mut self, ticket: Ticket) {
        assert!(self.open.insert(ticket), "a ticket is unique among the pending ones, but {ticket} is not");
    }

    fn wait(&mut self, ticket: Ticket) -> Done {
        self.open.insert(ticket);
        for _ in 0..self.polls {
            if let Some(done) = self.done.remove(&ticket) {
                return done;
            }
            self.poll(Waker::noop());
            if !self.done.contains_key(&ticket) {
                (self.pump.borrow_mut())();
            }
        }
        panic!("each ticket is reported, but {ticket} was not within {} polls", self.polls);
    }

    fn poll(&mut self, waker: &Waker) {
        while let Some(done) = self.store.poll_done(waker) {
            let ticket = match &done {
                Done::Stored { ticket, .. } | Done::Loaded { ticket, .. } => *ticket,
            };
            assert!(self.open.remove(&ticket), "each ticket is reported exactly once, but {ticket} is unknown or over");
            self.done.insert(ticket, done);
        }
    }
}

impl std::fmt::Debug for Driven<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Driven").field("open", &self.open).finish_non_exhaustive()
    }
}

/// Counts how often it was woken.
#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}
