//! How many streams there were, on all connections together.
//!
//! Knows: counters that many connections share. Must not know: any stream.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counted by the connections, each in its own task, and read by the behaviour.
#[derive(Debug, Default)]
pub(crate) struct StreamCounts {
    pub(super) inbound: Count,
    pub(super) refused: Count,
    pub(super) outbound: Count,
    pub(super) reused: Count,
}

#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    pub(super) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
