//! The file below the database, and what tests do to it.
//!
//! Knows: reads, writes and syncs of bytes. Must not know: what they mean.

use std::fs::File;
use std::io;
use std::ops::Bound;

use redb::backends::FileBackend;
use redb::{BackendError, DatabaseError, StorageBackend};

#[cfg(any(test, feature = "testing"))]
pub use faults::DiskFaults;

/// A file, with what tests do to it.
#[derive(Debug)]
pub(super) struct Disk {
    file: FileBackend,
    #[cfg(any(test, feature = "testing"))]
    faults: DiskFaults,
}

impl Disk {
    pub(super) fn new(file: File, _config: &super::DiskStoreConfig) -> Result<Disk, DatabaseError> {
        Ok(Disk {
            file: FileBackend::new(file)?,
            #[cfg(any(test, feature = "testing"))]
            faults: _config.faults.clone(),
        })
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        #[cfg(any(test, feature = "testing"))]
        self.faults.wait();
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        #[cfg(any(test, feature = "testing"))]
        self.faults.check()?;
        self.file.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.query_lock_range(start, end)
    }
}

#[cfg(any(test, feature = "testing"))]
mod faults {
    use std::io;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    use std::time::Duration;

    /// Makes the disk of a [`DiskStore`](crate::persist::DiskStore) slow or full, for tests.
    #[derive(Clone, Debug, Default)]
    pub struct DiskFaults {
        delay_micros: Arc<AtomicU64>,
        full: Arc<AtomicBool>,
    }

    impl DiskFaults {
        /// From now on each sync takes so much longer; a durable write has two of them at least.
        pub fn set_sync_delay(&self, delay: Duration) {
            self.delay_micros.store(u64::try_from(delay.as_micros()).unwrap_or(u64::MAX), Ordering::SeqCst);
        }

        /// From now on the disk has no room, or has room again.
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
}
