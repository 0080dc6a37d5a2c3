//! The writes that wait for the writer thread; this node's own come first.
//!
//! Knows: two queues. Must not know: what a write does. How much may wait is checked before a write is queued
//! (`shared`).

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::group::Task;
use super::shared::Pending;
use libp2p_kad_dht::core::store::Ticket;

/// Maximum number of peers' writes that share a transaction with own writes.
const MAX_BESIDE: usize = 16;

/// One waiting write.
#[derive(Debug)]
pub(super) struct Job {
    /// The ticket under which its end is reported; `None` for writes that the store makes for itself.
    pub(super) ticket: Option<Ticket>,
    /// Its share of the bounds of pending operations.
    pub(super) takes: Pending,
    pub(super) task: Task,
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    own: VecDeque<Job>,
    peers: VecDeque<Job>,
    closed: bool,
}

impl Queue {
    pub(super) fn push(&self, job: Job) {
        let mut waiting = self.lock();
        match job.takes.own_writes {
            0 => waiting.peers.push_back(job),
            _ => waiting.own.push_back(job),
        }
        drop(waiting);
        self.changed.notify_one();
    }

    /// Closes the queue: no more writes are added.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_one();
    }

    /// Takes the next writes, up to `most`. If there are none, waits for one if `wait` is set, and otherwise returns
    /// none. Returns `None` once the queue is closed and empty.
    pub(super) fn take(&self, most: usize, wait: bool) -> Option<Vec<Job>> {
        let mut waiting = self.lock();
        while waiting.own.is_empty() && waiting.peers.is_empty() {
            match (waiting.closed, wait) {
                (true, _) => return None,
                (false, false) => return Some(Vec::new()),
                (false, true) => waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner),
            }
        }
        let own = waiting.own.len().min(most);
        let mut jobs: Vec<_> = waiting.own.drain(..own).collect();
        // Few peers' writes share the transaction of own ones, so that it commits soon; but some do, so that peers are
        // not starved.
        let others = if own > 0 { MAX_BESIDE.min(most - own) } else { most };
        let peers = waiting.peers.len().min(others);
        jobs.extend(waiting.peers.drain(..peers));
        Some(jobs)
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
