//! A slow or full disk, for tests.
//!
//! Knows: which fault to simulate. Must not know: the file, or its content.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Makes the disk of a [`DiskStore`](crate::DiskStore) slow or full, for tests.
#[derive(Clone, Debug, Default)]
pub struct DiskFaults {
    delay_micros: Arc<AtomicU64>,
    full: Arc<AtomicBool>,
}

impl DiskFaults {
    /// From now on each sync takes this much longer; a durable write syncs at least twice.
    pub fn set_sync_delay(&self, delay: Duration) {
        self.delay_micros.store(u64::try_from(delay.as_micros()).unwrap_or(u64::MAX), Ordering::SeqCst);
    }

    /// From now on the disk is full, or has space again.
    pub fn set_full(&self, full: bool) {
        self.full.store(full, Ordering::SeqCst);
    }

    pub(crate) fn wait(&self) {
        let delay = self.delay_micros.load(Ordering::SeqCst);
        if delay > 0 {
            std::thread::sleep(Duration::from_micros(delay));
        }
    }

    pub(crate) fn check(&self) -> io::Result<()> {
        if self.full.load(Ordering::SeqCst) { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}
