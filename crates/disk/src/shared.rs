//! State that the store shares with its threads: results, counts and the cache, behind one lock that is held only
//! briefly.
//!
//! Knows: which operation waits for which result. Must not know: the database; the lock is never held while waiting for
//! the disk.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use super::cache::{Cache, CachedEntry, Name};
use super::tables::Span;
use libp2p_kad_dht::core::store::{Done, Ticket, Usage};

/// Maximum number of results that wait for `poll_done`; beyond it, operations are refused. Source: a driver fetches all
/// of them at once.
const MAX_UNPOLLED: usize = 65_536;

/// Maximum number of damaged rows that wait to be moved aside; later reads find the others again. Source: a file with
/// more is beyond repair.
const MAX_DAMAGED: usize = 1_024;

pub(super) struct Shared(Mutex<State>);

struct State {
    cache: Cache,
    /// Rows that are being read, by how many readers, and whether they changed meanwhile.
    loading: BTreeMap<Name, Loading>,
    /// Bounded by [`MAX_UNPOLLED`] plus the pending operations.
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

/// Usage and expiry after the last commit.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Kept {
    pub(super) usage: Usage,
    /// When the first and the last item expire.
    pub(super) expiry: Option<Span>,
}

/// Operations that were passed to the threads and have not ended.
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

    pub(super) fn cached(&self, name: &Name) -> Option<Arc<CachedEntry>> {
        self.lock().cache.get(name)
    }

    /// Applies a change to the pending operations, unless the change returns that they are too many.
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

    /// Records a row that could not be read.
    pub(super) fn damaged(&self, name: Name) {
        let mut state = self.lock();
        if state.damaged.len() < MAX_DAMAGED {
            state.damaged.insert(name);
        }
    }

    /// Takes the next damaged row.
    pub(super) fn next_damaged(&self) -> Option<Name> {
        self.lock().damaged.pop_first()
    }

    /// Marks a row as being read; a change from now on makes this read stale.
    pub(super) fn begin_load(&self, name: Name) {
        self.lock().loading.entry(name).or_default().readers += 1;
    }

    /// Caches the row that was read, unless it changed meanwhile or could not be read.
    pub(super) fn end_load(&self, name: Name, entry: Option<&Arc<CachedEntry>>) {
        let mut state = self.lock();
        let Some(loading) = state.loading.get_mut(&name) else { return };
        loading.readers -= 1;
        let stale = loading.stale;
        if loading.readers == 0 {
            state.loading.remove(&name);
        }
        if !stale && let Some(entry) = entry {
            state.cache.insert(name, Arc::clone(entry));
        }
    }

    /// Reports the end of a read.
    pub(super) fn loaded(&self, ticket: Ticket, done: Done) {
        let mut state = self.lock();
        state.pending.reads = state.pending.reads.saturating_sub(1);
        state.done.push_back((ticket, done));
        wake(state);
    }

    /// Reports the end of a group of writes: committed, with the rows that changed, or failed, after which any row may
    /// have changed.
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

/// Wakes the polling task, after the lock is released.
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
