//! A store for tests that answers everything later, when the test says so.
//!
//! Knows: the order in which operations came. Must not know: what they mean. No clock, no thread, no chance: the same
//! calls give the same answers, so that a test can try every interleaving of a node with its store.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::task::Waker;

use libp2p_identity::PeerId;

use super::{Done, Item, Loaded, Read, Scan, Store, StoreError, Ticket, Usage, Write};
use crate::core::contact::Contact;
use crate::core::key::Key;
use crate::core::record::{ProviderRecord, Record, RecordKey};
use crate::core::time::Timestamp;

/// Wraps a store; answers every read and every write `Pending` and performs it only when it is released.
///
/// Operations are performed in the order in which they are released, with the `now` they came with. `expire`,
/// `next_expiry` and `usage` go straight to the wrapped store, which does not know yet what still waits.
pub struct DeferredStore<S> {
    inner: S,
    next_ticket: u64,
    waiting: VecDeque<(Ticket, Waiting)>,
    done: VecDeque<Done>,
    /// Operations that the wrapped store in its turn answers later, by its tickets.
    passed_on: BTreeMap<Ticket, Ticket>,
    refusals: VecDeque<StoreError>,
    failures: VecDeque<StoreError>,
    release: Release,
    commands: Receiver<Command>,
    wakers: Sender<Waker>,
    waker: Option<Waker>,
    count: Arc<AtomicUsize>,
}

/// Tells a [`DeferredStore`] when to finish what, also after a node has taken the store over.
///
/// It takes effect with the next call to the store; releases wake the store's waker at once.
pub struct DeferredControl {
    commands: Sender<Command>,
    wakers: Receiver<Waker>,
    waker: Option<Waker>,
    count: Arc<AtomicUsize>,
}

enum Command {
    Release(usize),
    ReleaseAt(usize),
    Refuse(StoreError),
    Fail(StoreError),
}

/// When operations are performed.
#[derive(Clone, Copy)]
enum Release {
    OnCommand,
    /// Each at the so-manieth poll after it came.
    AfterPolls(usize),
}

/// An operation that waits to be performed.
struct Waiting {
    polls: usize,
    operation: Operation,
}

enum Operation {
    Get(Timestamp, RecordKey),
    Put(Timestamp, Record),
    Remove(RecordKey),
    Providers(Timestamp, RecordKey),
    AddProvider(Timestamp, ProviderRecord),
    RemoveProvider(RecordKey, PeerId),
    Scan(Scan, Option<Key>, usize),
    Sequence(Timestamp, RecordKey),
    SavePeers(Vec<Arc<Contact>>),
    SavedPeers,
}

impl<S: Store> DeferredStore<S> {
    /// A store that finishes operations when its control says so.
    pub fn new(inner: S) -> (DeferredStore<S>, DeferredControl) {
        DeferredStore::with_release(inner, Release::OnCommand)
    }

    /// A store that finishes each operation with the `polls`-th call of [`Store::poll_done`] after it came (zero counts
    /// as one), or earlier if its control says so.
    pub fn automatic(inner: S, polls: usize) -> (DeferredStore<S>, DeferredControl) {
        DeferredStore::with_release(inner, Release::AfterPolls(polls))
    }

    fn with_release(inner: S, release: Release) -> (DeferredStore<S>, DeferredControl) {
        let (send_command, commands) = channel();
        let (wakers, receive_waker) = channel();
        let count = Arc::new(AtomicUsize::new(0));
        let control =
            DeferredControl { commands: send_command, wakers: receive_waker, waker: None, count: Arc::clone(&count) };
        let store = DeferredStore {
            inner,
            next_ticket: 0,
            waiting: VecDeque::new(),
            done: VecDeque::new(),
            passed_on: BTreeMap::new(),
            refusals: VecDeque::new(),
            failures: VecDeque::new(),
            release,
            commands,
            wakers,
            waker: None,
            count,
        };
        (store, control)
    }

    /// The wrapped store.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    fn defer(&mut self, operation: Operation) -> Result<Ticket, StoreError> {
        self.obey();
        if let Some(error) = self.refusals.pop_front() {
            return Err(error);
        }
        let ticket = Ticket::new(self.next_ticket);
        self.next_ticket += 1;
        let polls = match self.release {
            Release::OnCommand => usize::MAX,
            Release::AfterPolls(polls) => polls,
        };
        self.waiting.push_back((ticket, Waiting { polls, operation }));
        self.count.store(self.waiting.len(), Ordering::SeqCst);
        if let Some(waker) = self.waker.as_ref().filter(|_| polls != usize::MAX) {
            waker.wake_by_ref();
        }
        Ok(ticket)
    }

    /// Does what the control said since the last call.
    fn obey(&mut self) {
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::Release(count) => (0..count).for_each(|_| self.finish(0)),
                Command::ReleaseAt(position) => self.finish(position),
                Command::Refuse(error) => self.refusals.push_back(error),
                Command::Fail(error) => self.failures.push_back(error),
            }
        }
    }

    /// Performs the operation at this position of the queue, if there is one.
    fn finish(&mut self, position: usize) {
        let Some((ticket, waiting)) = self.waiting.remove(position) else { return };
        self.count.store(self.waiting.len(), Ordering::SeqCst);
        let failure = self.failures.pop_front();
        match waiting.operation {
            Operation::Get(now, key) => {
                let read = failure.map_or_else(|| self.inner.get(now, &key), Err);
                self.loaded(ticket, read, Loaded::Value);
            }
            Operation::Providers(now, key) => {
                let read = failure.map_or_else(|| self.inner.providers(now, &key), Err);
                self.loaded(ticket, read, Loaded::Providers);
            }
            Operation::Scan(what, after, limit) => {
                let read = failure.map_or_else(|| self.inner.scan(what, after.as_ref(), limit), Err);
                self.loaded(ticket, read, Loaded::Items);
            }
            Operation::Sequence(now, key) => {
                let read = failure.map_or_else(|| self.inner.sequence(now, &key), Err);
                self.loaded(ticket, read, Loaded::Sequence);
            }
            Operation::SavedPeers => {
                let read = failure.map_or_else(|| self.inner.saved_peers(), Err);
                self.loaded(ticket, read, Loaded::Peers);
            }
            Operation::SavePeers(peers) => {
                let write = failure.map_or_else(|| self.inner.save_peers(peers), Err);
                self.stored(ticket, write);
            }
            Operation::Put(now, record) => {
                let write = failure.map_or_else(|| self.inner.put(now, record), Err);
                self.stored(ticket, write);
            }
            Operation::Remove(key) => {
                let write = failure.map_or_else(|| self.inner.remove(&key), Err);
                self.stored(ticket, write);
            }
            Operation::AddProvider(now, record) => {
                let write = failure.map_or_else(|| self.inner.add_provider(now, record), Err);
                self.stored(ticket, write);
            }
            Operation::RemoveProvider(key, provider) => {
                let write = failure.map_or_else(|| self.inner.remove_provider(&key, &provider), Err);
                self.stored(ticket, write);
            }
        }
    }

    fn loaded<T>(&mut self, ticket: Ticket, read: Result<Read<T>, StoreError>, wrap: fn(T) -> Loaded) {
        match read {
            Ok(Read::Ready(found)) => self.done.push_back(Done::Loaded { ticket, result: Ok(wrap(found)) }),
            Ok(Read::Pending(inner)) => drop(self.passed_on.insert(inner, ticket)),
            Err(error) => self.done.push_back(Done::Loaded { ticket, result: Err(error) }),
        }
    }

    fn stored(&mut self, ticket: Ticket, write: Result<Write, StoreError>) {
        match write {
            Ok(Write::Kept) => self.done.push_back(Done::Stored { ticket, result: Ok(()) }),
            Ok(Write::Pending(inner)) => drop(self.passed_on.insert(inner, ticket)),
            Err(error) => self.done.push_back(Done::Stored { ticket, result: Err(error) }),
        }
    }

    /// Finishes what was released by the count of polls.
    fn count_poll(&mut self) {
        if matches!(self.release, Release::OnCommand) {
            return;
        }
        self.waiting.iter_mut().for_each(|(_, waiting)| waiting.polls = waiting.polls.saturating_sub(1));
        while self.waiting.front().is_some_and(|(_, waiting)| waiting.polls == 0) {
            self.finish(0);
        }
    }

    /// Takes over what the wrapped store finished.
    fn collect_inner(&mut self, waker: &Waker) {
        while let Some(done) = self.inner.poll_done(waker) {
            let mut outer = |inner| self.passed_on.remove(&inner).unwrap_or(inner);
            let done = match done {
                Done::Stored { ticket, result } => Done::Stored { ticket: outer(ticket), result },
                Done::Loaded { ticket, result } => Done::Loaded { ticket: outer(ticket), result },
            };
            self.done.push_back(done);
        }
    }
}

impl<S: Store> Store for DeferredStore<S> {
    fn get(&mut self, now: Timestamp, key: &RecordKey) -> Result<Read<Option<Record>>, StoreError> {
        self.defer(Operation::Get(now, key.clone())).map(Read::Pending)
    }

    fn put(&mut self, now: Timestamp, record: Record) -> Result<Write, StoreError> {
        self.defer(Operation::Put(now, record)).map(Write::Pending)
    }

    fn remove(&mut self, key: &RecordKey) -> Result<Write, StoreError> {
        self.defer(Operation::Remove(key.clone())).map(Write::Pending)
    }

    fn providers(&mut self, now: Timestamp, key: &RecordKey) -> Result<Read<Vec<ProviderRecord>>, StoreError> {
        self.defer(Operation::Providers(now, key.clone())).map(Read::Pending)
    }

    fn add_provider(&mut self, now: Timestamp, record: ProviderRecord) -> Result<Write, StoreError> {
        self.defer(Operation::AddProvider(now, record)).map(Write::Pending)
    }

    fn remove_provider(&mut self, key: &RecordKey, provider: &PeerId) -> Result<Write, StoreError> {
        self.defer(Operation::RemoveProvider(key.clone(), *provider)).map(Write::Pending)
    }

    fn scan(&mut self, what: Scan, after: Option<&Key>, limit: usize) -> Result<Read<Vec<Item>>, StoreError> {
        self.defer(Operation::Scan(what, after.copied(), limit)).map(Read::Pending)
    }

    fn sequence(&mut self, now: Timestamp, key: &RecordKey) -> Result<Read<Option<u64>>, StoreError> {
        self.defer(Operation::Sequence(now, key.clone())).map(Read::Pending)
    }

    fn keeps_peers(&self) -> bool {
        self.inner.keeps_peers()
    }

    fn save_peers(&mut self, peers: Vec<Arc<Contact>>) -> Result<Write, StoreError> {
        self.defer(Operation::SavePeers(peers)).map(Write::Pending)
    }

    fn saved_peers(&mut self) -> Result<Read<Vec<Arc<Contact>>>, StoreError> {
        self.defer(Operation::SavedPeers).map(Read::Pending)
    }

    fn expire(&mut self, now: Timestamp, limit: usize) -> Result<Read<usize>, StoreError> {
        self.obey();
        if let Some(error) = self.refusals.pop_front() {
            return Err(error);
        }
        let inner = match self.inner.expire(now, limit)? {
            Read::Pending(inner) => inner,
            ready @ Read::Ready(_) => return Ok(ready),
        };
        let ticket = Ticket::new(self.next_ticket);
        self.next_ticket += 1;
        self.passed_on.insert(inner, ticket);
        Ok(Read::Pending(ticket))
    }

    fn next_expiry(&self) -> Option<Timestamp> {
        self.inner.next_expiry()
    }

    fn usage(&self) -> Usage {
        self.inner.usage()
    }

    fn poll_done(&mut self, waker: &Waker) -> Option<Done> {
        // First the waker, then the commands: a release in between finds the new waker.
        if !self.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            self.waker = Some(waker.clone());
            // The control may be gone; then nobody releases anything any more.
            drop(self.wakers.send(waker.clone()));
        }
        self.obey();
        self.count_poll();
        self.collect_inner(waker);
        let done = self.done.pop_front();
        if done.is_none() && !self.waiting.is_empty() && matches!(self.release, Release::AfterPolls(_)) {
            waker.wake_by_ref();
        }
        done
    }
}

impl<S: fmt::Debug> fmt::Debug for DeferredStore<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeferredStore")
            .field("inner", &self.inner)
            .field("waiting", &self.waiting.len())
            .field("done", &self.done.len())
            .finish_non_exhaustive()
    }
}

impl DeferredControl {
    /// Finishes the `count` operations that have waited longest; fewer if fewer wait.
    pub fn release(&mut self, count: usize) {
        self.send(Command::Release(count));
        self.wake();
    }

    /// Finishes the operation at this position of the queue, 0 being the one that has waited longest, and so before
    /// those that came earlier. Nothing happens if there is none.
    pub fn release_at(&mut self, position: usize) {
        self.send(Command::ReleaseAt(position));
        self.wake();
    }

    /// Lets the next call of the store fail at once. Several are used up one by one.
    pub fn refuse_next(&mut self, error: StoreError) {
        self.send(Command::Refuse(error));
    }

    /// Lets the next operation that is released end with an error and change nothing. Several are used up one by one.
    pub fn fail_next(&mut self, error: StoreError) {
        self.send(Command::Fail(error));
    }

    /// How many operations waited when the store was last called.
    pub fn waiting(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    fn send(&self, command: Command) {
        // Without a store there is nobody to tell.
        drop(self.commands.send(command));
    }

    fn wake(&mut self) {
        self.waker = self.wakers.try_iter().last().or(self.waker.take());
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }
}

impl fmt::Debug for DeferredControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeferredControl").field("waiting", &self.waiting()).finish_non_exhaustive()
    }
}
