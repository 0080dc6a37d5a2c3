//! The database file: made, opened, checked, and opened again after the disk failed.
//!
//! Knows: paths, formats, and what opening can meet. Must not know: records.
//!
//! A new database is made beside its path and moved there when it is complete, so that a crash leaves all of it or
//! nothing, and nothing that is there already is ever written over.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use redb::{
    Builder, CommitError, Database, DatabaseError, ReadTransaction, ReadableDatabase as _, StorageError, TableError,
    TransactionError, WriteTransaction,
};

use super::backend::Disk;
use super::error::OpenError;
use super::tables::{Counts, EXPIRY, FORMAT, META, Writable, first_expiry};
use super::{DiskStoreConfig, shared};
use libp2p_kad_dht::core::Timestamp;

/// What each database file begins with.
const MAGIC: &[u8] = b"redb\x1a\x0a\xa9\x0d\x0a";

/// What the database says about itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    pub(super) seed: [u8; 32],
    pub(super) counts: Counts,
    pub(super) next_expiry: Option<Timestamp>,
}

impl Head {
    pub(super) fn kept(&self) -> shared::Kept {
        shared::Kept { usage: self.counts.usage(), next_expiry: self.next_expiry }
    }
}

/// An open database that opens itself again after a failure: the database refuses all work after an error of the disk.
pub(super) struct Handle {
    path: PathBuf,
    config: DiskStoreConfig,
    open: RwLock<Open>,
}

struct Open {
    /// The last transaction that is on the disk, begun for reading. To begin one may have to wait for a sync while the
    /// file grows; the thread that writes waits anyway.
    snapshot: Mutex<Option<Arc<ReadTransaction>>>,
    database: Option<Database>,
    /// How often it was opened again.
    generation: u64,
    /// Why it can only be read.
    only_read: Option<io::ErrorKind>,
}

impl Handle {
    pub(super) fn open(path: &Path, config: &DiskStoreConfig) -> Result<(Handle, Head), OpenError> {
        match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => create(path, config)?,
            Err(error) => return Err(OpenError::io(path, error)),
            Ok(_) => {}
        }
        let head = |database: &Database| {
            guarded(|| read_head(database, path)).unwrap_or_else(|cause| Err(damaged(path, cause)))
        };
        // What opening writes goes into the file only once it is known whose it is and that all of it is there.
        head(&open(path, false, config)?)?;
        let database = open(path, true, config)?;
        let head = head(&database)?;
        let open = Open { snapshot: Mutex::default(), database: Some(database), generation: 0, only_read: None };
        open.renew_snapshot();
        Ok((Handle { path: path.into(), config: config.clone(), open: RwLock::new(open) }, head))
    }

    /// Reads from the database. If that fails, it is opened again for the next one.
    pub(super) fn read<T>(
        &self,
        work: impl FnOnce(&ReadTransaction) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        let generation = open.generation;
        let snapshot = open.snapshot().clone();
        let result = open.work(|database| match snapshot {
            Some(snapshot) => work(&snapshot),
            None => work(&begin_read(database)?),
        });
        drop(open);
        if result.is_err() {
            self.reopen(generation);
        }
        result
    }

    /// Writes to the database. If that fails, it is opened again, for reading alone where nothing else is possible.
    pub(super) fn write<T>(&self, work: impl FnOnce(&Database) -> Result<T, StorageError>) -> Result<T, StorageError> {
        let mut open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        if open.only_read.is_some() {
            let generation = open.generation;
            drop(open);
            self.reopen(generation);
            open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        }
        if let Some(why) = open.only_read {
            return Err(StorageError::Io(why.into()));
        }
        let generation = open.generation;
        let result = open.work(work);
        if result.is_ok() {
            open.renew_snapshot();
        }
        drop(open);
        if result.is_err() {
            self.reopen(generation);
        }
        result
    }

    /// What the database says about itself now.
    pub(super) fn head(&self) -> Option<Head> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        guarded(|| read_head(open.database.as_ref()?, &self.path).ok()).ok().flatten()
    }

    fn reopen(&self, generation: u64) {
        let mut current = self.open.write().unwrap_or_else(PoisonError::into_inner);
        if current.generation != generation {
            return;
        }
        current.generation += 1;
        // Closed first: it holds the lock of the file.
        *current.snapshot() = None;
        (current.database, current.only_read) = (None, None);
        match open(&self.path, true, &self.config) {
            Ok(database) => current.database = Some(database),
            Err(error) => {
                tracing::error!(%error, "the store cannot be opened again for writing");
                current.only_read = Some(error.kind());
                current.database = open(&self.path, false, &self.config)
                    .inspect_err(|error| tracing::error!(%error, "the store cannot be opened again"))
                    .ok();
            }
        }
        current.renew_snapshot();
    }
}

impl Open {
    fn snapshot(&self) -> MutexGuard<'_, Option<Arc<ReadTransaction>>> {
        self.snapshot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets later reads see what was written. Where that fails each begins a transaction of its own.
    fn renew_snapshot(&self) {
        let next = self.work(begin_read).ok().map(Arc::new);
        let last = std::mem::replace(&mut *self.snapshot(), next);
        drop(last);
    }

    fn work<T>(&self, work: impl FnOnce(&Database) -> Result<T, StorageError>) -> Result<T, StorageError> {
        match &self.database {
            Some(database) => guarded(|| work(database))
                .unwrap_or_else(|cause| Err(StorageError::Corrupted(format!("the database panicked: {cause}")))),
            None => Err(StorageError::DatabaseClosed),
        }
    }
}

/// Runs what should not panic but is not ours.
fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        text.unwrap_or("no reason given").to_owned()
    })
}

/// A transaction that survives a crash and costs no repair after it.
pub(super) fn begin_write(database: &Database) -> Result<WriteTransaction, StorageError> {
    let mut transaction = database.begin_write().map_err(begun)?;
    transaction.set_quick_repair(true);
    Ok(transaction)
}

pub(super) fn begin_read(database: &Database) -> Result<ReadTransaction, StorageError> {
    database.begin_read().map_err(begun)
}

/// Ends a transaction; what it wrote survives from here on.
pub(super) fn commit(transaction: WriteTransaction) -> Result<(), StorageError> {
    transaction.commit().map_err(|error| match error {
        CommitError::Storage(error) => error,
        other => StorageError::Corrupted(other.to_string()),
    })
}

fn begun(error: TransactionError) -> StorageError {
    match error {
        TransactionError::Storage(error) => error,
        other => StorageError::Corrupted(other.to_string()),
    }
}

/// Tables are made with the database; one that is missing or another is damage.
pub(super) fn missing(error: TableError) -> StorageError {
    match error {
        TableError::Storage(error) => error,
        other => StorageError::Corrupted(other.to_string()),
    }
}

fn open(path: &Path, writable: bool, config: &DiskStoreConfig) -> Result<Database, OpenError> {
    let foreign = |found| OpenError::Foreign { path: path.into(), found };
    let about = fs::metadata(path).map_err(|error| OpenError::io(path, error))?;
    if !about.is_file() {
        return Err(foreign("not a file"));
    }
    let mut file = OpenOptions::new().read(true).write(true).open(path).map_err(|error| OpenError::io(path, error))?;
    if about.len() == 0 {
        return Err(foreign("an empty file"));
    }
    let mut magic = [0; MAGIC.len()];
    match file.read_exact(&mut magic) {
        Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => return Err(OpenError::io(path, error)),
        Ok(()) if magic == MAGIC => {}
        _ => return Err(foreign("a file of another program")),
    }
    database(file, writable, config)
        .unwrap_or_else(|cause| Err(DatabaseError::Storage(StorageError::Corrupted(cause))))
        .map_err(|error| database_error(path, error))
}

fn database(file: File, writable: bool, config: &DiskStoreConfig) -> Result<Result<Database, DatabaseError>, String> {
    guarded(|| {
        let disk = Disk::new(file, writable, config)?;
        Builder::new().set_cache_size(config.database_cache_bytes).create_with_backend(disk)
    })
}

fn database_error(path: &Path, error: DatabaseError) -> OpenError {
    match error {
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => {
            OpenError::Locked { path: path.into() }
        }
        DatabaseError::Storage(error) => storage_error(path, error),
        other => damaged(path, other),
    }
}

fn storage_error(path: &Path, error: StorageError) -> OpenError {
    match error {
        // A file that ends too early, or has no page where one should be, is not the disk's fault.
        StorageError::Io(error)
            if matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData) =>
        {
            damaged(path, error)
        }
        StorageError::Io(error) => OpenError::io(path, error),
        other => damaged(path, other),
    }
}

fn damaged(path: &Path, cause: impl ToString) -> OpenError {
    OpenError::Damaged { path: path.into(), cause: cause.to_string() }
}

fn read_head(database: &Database, path: &Path) -> Result<Head, OpenError> {
    let stored = |error| storage_error(path, error);
    let read = begin_read(database).map_err(stored)?;
    let other = || OpenError::Foreign { path: path.into(), found: "a database of another program" };
    let meta = match read.open_table(META) {
        Err(TableError::TableDoesNotExist(_) | TableError::TableTypeMismatch { .. }) => return Err(other()),
        result => result.map_err(|error| stored(missing(error)))?,
    };
    let field = |name: &str| Ok(meta.get(name).map_err(stored)?.map(|row| row.value().to_vec()));
    let number = |row: Vec<u8>| row.try_into().ok().map(u64::from_be_bytes);
    match field("format")?.map(number) {
        Some(Some(FORMAT)) => {}
        Some(Some(found)) if found > FORMAT => {
            return Err(OpenError::Newer { path: path.into(), found, known: FORMAT });
        }
        Some(Some(found)) if found > 0 => return Err(OpenError::Older { path: path.into(), found, known: FORMAT }),
        Some(_) => return Err(damaged(path, "its format is none that ever was")),
        None => return Err(other()),
    }
    let seed = field("seed")?.and_then(|row| row.try_into().ok()).ok_or_else(|| damaged(path, "it has no seed"))?;
    let counts =
        field("counts")?.and_then(|row| Counts::decode(&row)).ok_or_else(|| damaged(path, "it has no counts"))?;
    let expiry = read.open_table(EXPIRY).map_err(|error| stored(missing(error)))?;
    Ok(Head { seed, counts, next_expiry: first_expiry(&expiry).map_err(stored)? })
}

/// Makes an empty database and moves it to `path`. If somebody else was quicker, theirs stays.
fn create(path: &Path, config: &DiskStoreConfig) -> Result<(), OpenError> {
    let seed = match config.seed {
        Some(seed) => seed,
        None => drawn().map_err(|error| OpenError::Io { path: path.into(), source: error })?,
    };
    let (draft, file) = draft(path)?;
    let result = fill(&draft, file, seed, config, path).and_then(|()| publish(&draft, path));
    // After a success it is the second name of what is at `path` now, or the loser of a race.
    if let Err(error) = fs::remove_file(&draft)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(%error, draft = %draft.display(), "a draft of a store is left over");
    }
    result
}

/// A new file beside `path`.
fn draft(path: &Path) -> Result<(PathBuf, File), OpenError> {
    let mut number = 0_u32;
    loop {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".new-{}-{number}", std::process::id()));
        let draft = PathBuf::from(name);
        match OpenOptions::new().read(true).write(true).create_new(true).open(&draft) {
            Ok(file) => return Ok((draft, file)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number < 1_000 => number += 1,
            Err(error) => return Err(OpenError::io(path, error)),
        }
    }
}

/// A seed that nobody knows.
fn drawn() -> io::Result<[u8; 32]> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(seed)
}

fn fill(draft: &Path, file: File, seed: [u8; 32], config: &DiskStoreConfig, path: &Path) -> Result<(), OpenError> {
    let work = || -> Result<(), DatabaseError> {
        let database = database(file, true, config)
            .unwrap_or_else(|cause| Err(DatabaseError::Storage(StorageError::Corrupted(cause))))?;
        let transaction = begin_write(&database)?;
        {
            let mut tables = Writable::open(&transaction).map_err(missing)?;
            tables.meta.insert("format", FORMAT.to_be_bytes().as_slice())?;
            tables.meta.insert("made_by", concat!("libp2p-kad-dht ", env!("CARGO_PKG_VERSION")).as_bytes())?;
            tables.meta.insert("seed", seed.as_slice())?;
            tables.meta.insert("counts", Counts::default().encode().as_slice())?;
        }
        commit(transaction)?;
        Ok(())
    };
    work().map_err(|error| database_error(path, error))?;
    File::open(draft).and_then(|file| file.sync_all()).map_err(|error| OpenError::io(path, error))
}

/// Gives the draft its name, unless something has that name by now.
fn publish(draft: &Path, path: &Path) -> Result<(), OpenError> {
    match fs::hard_link(draft, path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        // A file system without links. Between the look and the move nobody is expected.
        Err(_) if fs::symlink_metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) => {
            fs::rename(draft, path).map_err(|error| OpenError::io(path, error))?;
        }
        Err(error) => return Err(OpenError::io(path, error)),
    }
    // The name must survive a crash too. Not every system can sync a directory; those keep names in their own way.
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if let Err(error) = File::open(parent).and_then(|directory| directory.sync_all()) {
        tracing::debug!(%error, "the directory of the store cannot be synced");
    }
    Ok(())
}
