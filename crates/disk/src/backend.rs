//! The file below the database, and what tests do to it.
//!
//! Knows: reads, writes and syncs of bytes. Must not know: what they mean.

use std::fs::File;
use std::io;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use redb::backends::FileBackend;
use redb::{BackendError, DatabaseError, StorageBackend, StorageError};

#[cfg(any(test, feature = "testing"))]
pub use faults::DiskFaults;

/// A file, with what tests do to it.
#[derive(Debug)]
pub(super) struct Disk {
    file: FileBackend,
    /// Where writes go instead of the file, if they do: a database that is only read writes nevertheless while it is
    /// opened, and a full disk has no room even for that. Few and small.
    aside: Option<Mutex<Aside>>,
    #[cfg(any(test, feature = "testing"))]
    faults: DiskFaults,
}

/// Writes in their order, over the bytes of the file.
#[derive(Debug)]
struct Aside {
    len: u64,
    writes: Vec<(u64, Vec<u8>)>,
}

impl Disk {
    /// A disk that is written to if `writable`, and otherwise only seems to be.
    pub(super) fn new(file: File, writable: bool, _config: &super::DiskStoreConfig) -> Result<Disk, DatabaseError> {
        let file = FileBackend::new(file)?;
        let aside = match writable {
            true => None,
            false => Some(Mutex::new(Aside { len: file.len().map_err(StorageError::Io)?, writes: Vec::new() })),
        };
        Ok(Disk {
            file,
            aside,
            #[cfg(any(test, feature = "testing"))]
            faults: _config.faults.clone(),
        })
    }

    fn aside(&self) -> Option<MutexGuard<'_, Aside>> {
        self.aside.as_ref().map(|aside| aside.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Aside {
    fn read(&self, file: &FileBackend, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let end = offset.saturating_add(wide(out.len()));
        if end > self.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let kept = usize::try_from(file.len()?.saturating_sub(offset)).unwrap_or(usize::MAX).min(out.len());
        file.read(offset, &mut out[..kept])?;
        out[kept..].fill(0);
        for (at, bytes) in &self.writes {
            let (from, to) = (offset.max(*at), end.min(at.saturating_add(wide(bytes.len()))));
            if from < to {
                let (source, target) = (narrow(from - at)..narrow(to - at), narrow(from - offset)..narrow(to - offset));
                out[target].copy_from_slice(&bytes[source]);
            }
        }
        Ok(())
    }
}

/// How the pages of the file's trees begin: with their type, a byte of no meaning and the number of their entries, in two.
const PAGE_TYPES: [u8; 2] = [1, 2];

/// Whether these bytes can be the page that they are read as. The database takes its pages on trust and panics over those
/// that are none, as when the end of the file was lost and is zeros; so they are errors of the disk. What stands at the
/// very beginning is no page, and is checked by the database.
fn check_page(offset: u64, page: &[u8]) -> io::Result<()> {
    match page {
        _ if offset == 0 => Ok(()),
        [kind, _, low, high, ..] if PAGE_TYPES.contains(kind) && (*low, *high) != (0, 0) => Ok(()),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, format!("what is at byte {offset} is no page"))),
    }
}

fn wide(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// Within a buffer that is in memory.
fn narrow(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        self.aside().map_or_else(|| self.file.len(), |aside| Ok(aside.len))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        match self.aside() {
            Some(aside) => aside.read(&self.file, offset, out)?,
            None => self.file.read(offset, out)?,
        }
        check_page(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        match self.aside() {
            Some(mut aside) => aside.len = len,
            None => self.file.set_len(len)?,
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        if self.aside.is_some() {
            return Ok(());
        }
        #[cfg(any(test, feature = "testing"))]
        self.faults.wait();
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        if let Some(mut aside) = self.aside() {
            aside.writes.push((offset, data.to_vec()));
            return Ok(());
        }
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

    /// Makes the disk of a [`DiskStore`](crate::DiskStore) slow or full, for tests.
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
