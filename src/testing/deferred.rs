//! A store for tests that answers everything later, when the test says so.
//!
//! Knows: the order in which operations came. Must not know: what they mean. No clock, no thread, no chance: the same
//! calls give the same answers, so that a test can try every interleaving of a node with its store.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::task::Waker;

use crate::core::Timestamp;
use crate::core::store::{Done, Op, Store, StoreError, Ticket, Usage};

/// Wraps a store, and performs each operation only when it is released.
///
/// Operations are performed in the order in which they are released, those that concern one key in the order in which
/// they came, with the `now` they came with. `Op::Expire`, `next_expiry` and `usage` go straight to the wrapped store,
/// which does not know about waiting operations.
pub struct DeferredStore<S> {
    inner: S,
    waiting: VecDeque<(Ticket, Waiting)>,
    done: VecDeque<(Ticket, Done)>,
    refusals: VecDeque<StoreError>,
    failures: VecDeque<StoreError>,
    release: Release,
    commands: Receiver<Command>,
    wakers: Sender<Waker>,
    waker: Option<Waker>,
    count: Arc<AtomicUsize>,
}

/// Tells a [`DeferredStore`] when to finish which operations, even after a node has taken ownership of the store.
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

/// The time at which operations are performed.
#[derive(Clone, Copy)]
enum Release {
    OnCommand,
    /// Each at this many polls after it came.
    AfterPolls(usize),
}

/// An operation that waits to be performed.
struct Waiting {
    polls: usize,
    now: Timestamp,
    op: Op,
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
            waiting: VecDeque::new(),
            done: VecDeque::new(),
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

    /// Carries out the commands of the control since the last call.
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

    /// Performs the operation at this position of the queue, or the first that concerns the same key.
    fn finish(&mut self, position: usize) {
        let Some((_, chosen)) = self.waiting.get(position) else { return };
        let first = |(_, waiting): &(Ticket, Waiting)| waiting.op.key() == chosen.op.key();
        let first = chosen.op.key().and_then(|_| self.waiting.iter().position(first)).unwrap_or(position);
        let Some((ticket, Waiting { now, op, .. })) = self.waiting.remove(first) else { return };
        self.count.store(self.waiting.len(), Ordering::SeqCst);
        let done = match self.failures.pop_front() {
            Some(failure) => Some(Err(failure)),
            None => self.inner.run(now, ticket, op),
        };
        self.done.extend(done.map(|done| (ticket, done)));
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
}

impl<S: Store> Store for DeferredStore<S> {
    fn run(&mut self, now: Timestamp, ticket: Ticket, op: Op) -> Option<Done> {
        self.obey();
        if let Some(error) = self.refusals.pop_front() {
            return Some(Err(error));
        }
        if matches!(op, Op::Expire { .. }) {
            return self.inner.run(now, ticket, op);
        }
        let polls = match self.release {
            Release::OnCommand => usize::MAX,
            Release::AfterPolls(polls) => polls,
        };
        self.waiting.push_back((ticket, Waiting { polls, now, op }));
        self.count.store(self.waiting.len(), Ordering::SeqCst);
        if polls != usize::MAX
            && let Some(waker) = &self.waker
        {
            waker.wake_by_ref();
        }
        None
    }

    fn keeps_peers(&self) -> bool {
        self.inner.keeps_peers()
    }

    fn next_expiry(&self) -> Option<Timestamp> {
        self.inner.next_expiry()
    }

    fn usage(&self) -> Usage {
        self.inner.usage()
    }

    fn poll_done(&mut self, waker: &Waker) -> Option<(Ticket, Done)> {
        // First the waker, then the commands: a release in between finds the new waker.
        if !self.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            self.waker = Some(waker.clone());
            // The control may be gone; then no operation is released any more.
            drop(self.wakers.send(waker.clone()));
        }
        self.obey();
        self.count_poll();
        self.done.extend(std::iter::from_fn(|| self.inner.poll_done(waker)));
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
    /// those that came earlier; the first one of the same key, if there are several. Does nothing if there is no such
    /// operation.
    pub fn release_at(&mut self, position: usize) {
        self.send(Command::ReleaseAt(position));
        self.wake();
    }

    /// Makes the next call of the store fail at once. Several calls of this are used up one by one.
    pub fn refuse_next(&mut self, error: StoreError) {
        self.send(Command::Refuse(error));
    }

    /// Makes the next operation that is released end with an error and change nothing. Several calls of this are used
    /// up one by one.
    pub fn fail_next(&mut self, error: StoreError) {
        self.send(Command::Fail(error));
    }

    /// Number of operations that waited when the store was last called.
    pub fn waiting(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    fn send(&self, command: Command) {
        // If the store is gone, the command has no receiver.
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
