//! The writes that wait for the thread that writes: this node's own go first.
//!
//! Knows: two lines. Must not know: what a write does. How much may wait is decided before (`shared`).

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::writer::Job;

#[derive(Debug, Default)]
pub(super) struct Queue {
    lines: Mutex<Lines>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Lines {
    own: VecDeque<Job>,
    peers: VecDeque<Job>,
    closed: bool,
}

impl Queue {
    pub(super) fn push(&self, job: Job) {
        let mut lines = self.lock();
        match job.takes.own_writes {
            0 => lines.peers.push_back(job),
            _ => lines.own.push_back(job),
        }
        drop(lines);
        self.changed.notify_one();
    }

    /// Nothing more comes.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_one();
    }

    /// The next writes, up to `most`; waits for one if it is to. `None` once there are none and nothing more comes.
    pub(super) fn take(&self, most: usize, wait: bool) -> Option<Vec<Job>> {
        let mut lines = self.lock();
        while lines.own.is_empty() && lines.peers.is_empty() {
            match (lines.closed, wait) {
                (true, _) => return None,
                (false, false) => return Some(Vec::new()),
                (false, true) => lines = self.changed.wait(lines).unwrap_or_else(PoisonError::into_inner),
            }
        }
        let own = lines.own.len().min(most);
        let mut jobs: Vec<_> = lines.own.drain(..own).collect();
        let peers = lines.peers.len().min(most - own);
        jobs.extend(lines.peers.drain(..peers));
        Some(jobs)
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
