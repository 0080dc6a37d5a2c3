//! What the store and its threads share: answers, counts and the cache, behind one lock that nobody holds for long.
//!
//! Knows: who waits for what. Must not know: the database; the lock is never held while a disk is waited for.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use super::cache::{Cache, Entry, Name};
use super::tables::Span;
use libp2p_kad_dht::core::store::{Done, Ticket, Usage};

/// Maximum number of results that wait for `poll_done`; beyond it operations are refused. Source: a driver fetches all of them
/// at once.
const MAX_UNPOLLED: usize = 65_536;

/// Maximum number of damaged rows that wait to be moved aside; later reads find further ones again. Source: a file with more
/// is beyond help.
const MAX_DAMAGED: usize = 1_024;

pub(super) struct Shared(Mutex<State>);

struct State {
    cache: Cache,
    /// Places that are being read, how often at once, and whether they changed meanwhile.
    loading: BTreeMap<Name, Loading>,
    /// Bounded by [`MAX_UNPOLLED`] and what may be pending.
    done: VecDeque<(Ticket, Done)>,
    waker: Option<Waker>,
    /// Rows that readers could not read. Bounded by [`MAX_DAMAGED`].
    damaged: BTreeSet<Name>,
    kept: Kept,
    pending: Pending,
}

#[derive(Default)]
struct Loading {
    readers: usize,
    stale: bool,
}

/// What the last commit left.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Kept {
    pub(super) usage: Usage,
    /// When the first and the last item expire.
    pub(super) expiry: Option<Span>,
}

/// Operations that the threads have and the driver did not poll yet.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pending {
    pub(super) remote_writes: usize,
    pub(super) remote_bytes: usize,
    pub(super) own_writes: usize,
    pub(super) reads: usize,
}

impl Shared {
    pub(super) fn new(cache_bytes: usize, kept: Kept) -> Shared {
        Shared(Mutex::new(State {
            cache: Cache::new(cache_bytes),
            loading: BTreeMap::new(),
            done: VecDeque::new(),
            waker: None,
            damaged: BTreeSet::new(),
            kept,
            pending: Pending::default(),
        }))
    }

    pub(super) fn kept(&self) -> Kept {
        self.lock().kept
    }

    pub(super) fn cached(&self, name: &Name) -> Option<Arc<Entry>> {
        self.lock().cache.get(name)
    }

    /// Changes what is pending, unless the change says that it is too much.
    pub(super) fn admit(&self, change: impl FnOnce(&mut Pending) -> bool) -> bool {
        let mut state = self.lock();
        let mut pending = state.pending;
        let admitted = change(&mut pending) && state.done.len() < MAX_UNPOLLED;
        if admitted {
            state.pending = pending;
        }
        admitted
    }

    pub(super) fn poll_done(&self, waker: &Waker) -> Option<(Ticket, Done)> {
        let mut state = self.lock();
        let done = state.done.pop_front();
        if done.is_none() && !state.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            state.waker = Some(waker.clone());
        }
        done
    }

    /// Notes a row that could not be read.
    pub(super) fn damaged(&self, name: Name) {
        let mut state = self.lock();
        if state.damaged.len() < MAX_DAMAGED {
            state.damaged.insert(name);
        }
    }

    /// The next of them.
    pub(super) fn next_damaged(&self) -> Option<Name> {
        self.lock().damaged.pop_first()
    }

    /// Says that a place is about to be read; what changes from now on makes the reading stale.
    pub(super) fn begin_load(&self, name: Name) {
        self.lock().loading.entry(name).or_default().readers += 1;
    }

    /// Keeps what was read in the cache, unless it was changed meanwhile or could not be read.
    pub(super) fn end_load(&self, name: Name, entry: Option<&Arc<Entry>>) {
        let mut state = self.lock();
        let Some(loading) = state.loading.get_mut(&name) else { return };
        loading.readers -= 1;
        let stale = loading.stale;
        if loading.readers == 0 {
            state.loading.remove(&name);
        }
        if let Some(entry) = entry.filter(|_| !stale) {
            state.cache.insert(name, Arc::clone(entry));
        }
    }

    /// A read ended.
    pub(super) fn loaded(&self, ticket: Ticket, done: Done) {
        let mut state = self.lock();
        state.pending.reads = state.pending.reads.saturating_sub(1);
        state.done.push_back((ticket, done));
        wake(state);
    }

    /// A group of writes ended: kept, with what changed, or not, and then nobody knows what changed.
    pub(super) fn wrote(
        &self,
        ended: Vec<(Ticket, Done)>,
        freed: Pending,
        kept: Kept,
        changed: Option<&BTreeSet<Name>>,
    ) {
        let mut state = self.lock();
        match changed {
            Some(changed) => changed.iter().for_each(|name| state.cache.forget(name)),
            None => state.cache.clear(),
        }
        for (name, loading) in &mut state.loading {
            loading.stale |= changed.is_none_or(|changed| changed.contains(name));
        }
        state.kept = kept;
        let pending = &mut state.pending;
        pending.remote_writes = pending.remote_writes.saturating_sub(freed.remote_writes);
        pending.remote_bytes = pending.remote_bytes.saturating_sub(freed.remote_bytes);
        pending.own_writes = pending.own_writes.saturating_sub(freed.own_writes);
        state.done.extend(ended);
        wake(state);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Wakes who polls, after the lock is free again.
fn wake(mut state: MutexGuard<'_, State>) {
    let waker = state.waker.take();
    drop(state);
    if let Some(waker) = waker {
        waker.wake();
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("Shared").field("kept", &state.kept).field("pending", &state.pending).finish_non_exhaustive()
    }
}
