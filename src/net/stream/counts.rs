//! Numbers of streams, bytes of requests and turns of all connections together.
//!
//! Knows: counters that connections share. Must not know: any stream.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::inbound_bytes::InboundBytes;
use super::turns::Turns;

/// Counters that the connections increment, each in its own task, and the behaviour reads.
#[derive(Debug, Default)]
pub(crate) struct StreamCounts {
    pub(crate) inbound: StreamCount,
    pub(crate) refused: StreamCount,
    pub(crate) outbound: StreamCount,
    pub(crate) reused: StreamCount,
    pub(crate) inbound_bytes: InboundBytes,
    pub(crate) turns: Arc<Turns>,
}

#[derive(Debug, Default)]
pub(crate) struct StreamCount(AtomicU64);

impl StreamCount {
    pub(crate) fn increment(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
