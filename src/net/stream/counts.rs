//! How many streams there were, on all connections together.
//!
//! Knows: counters that many connections share. Must not know: any stream.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counted by the connections, each in its own task, and read by the behaviour.
#[derive(Debug, Default)]
pub(crate) struct StreamCounts {
    pub(crate) inbound: Count,
    pub(crate) refused: Count,
    pub(crate) outbound: Count,
    pub(crate) reused: Count,
}

#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
