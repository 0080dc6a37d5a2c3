//! The database file: created, opened, checked, and reopened after the disk failed.
//!
//! Knows: paths, formats, and the errors that opening can meet. Must not know: records.
//!
//! A new database is created beside its path and moved there when it is complete. So a crash leaves either all of it or
//! nothing, and an existing file is never overwritten.
//!
//! After a disk error redb refuses all work until the database is reopened, so the store reopens it. If the disk has no
//! space even for that (copy-on-write file systems), the writes of opening are kept in memory, and the store is
//! read-only until a later write finds space. The first bytes of a file tell which program wrote it. The content is
//! checked by opening the database with all writes held back in memory, because redb repairs a database while it opens
//! it. The store is opened for writing only if everything that a start reads is intact.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use redb::{
    Builder, CommitError, Database, DatabaseError, ReadTransaction, ReadableDatabase as _, ReadableTable as _,
    StorageError, TableError, TransactionError, WriteTransaction,
};

use super::backend::{Access, Disk, sum_of, wide};
use super::error::{OpenError, is_damage};
use super::tables::{Counts, EXPIRY, FORMAT, META, Span, Writable, expiry_span};
use super::{DiskStoreConfig, shared};

/// First bytes of each store file; its format and the checksum of both follow.
const MAGIC: &[u8] = b"kad-disk";
/// Length of these bytes, the format and the checksum together.
const START: usize = 24;
/// First bytes of a bare redb database. The files of the first two formats were bare databases.
const DATABASE: &[u8] = b"redb\x1a\x0a\xa9\x0d\x0a";
/// Name of a table in the files of the first two formats.
const OLD_TABLE: &[u8] = b"kad-meta";
/// The second of these formats.
const OLD_FORMAT: u64 = 2;

/// State of the database after its last commit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    pub(super) seed: [u8; 32],
    pub(super) counts: Counts,
    pub(super) expiry: Option<Span>,
}

impl Head {
    pub(super) fn kept(&self) -> shared::Kept {
        shared::Kept { usage: self.counts.usage(), expiry: self.expiry }
    }
}

/// An open database that reopens itself after a failure, since redb refuses all work after a disk error.
pub(super) struct Handle {
    path: PathBuf,
    config: DiskStoreConfig,
    open: RwLock<Open>,
}

struct Open {
    /// A read transaction on the last durable commit. Beginning one may have to wait for a sync while the file grows;
    /// the writer thread begins it, since it waits for syncs anyway.
    snapshot: Mutex<Option<Arc<Held<ReadTransaction>>>>,
    database: Option<Held<Database>>,
    /// Number of times the database was reopened.
    generation: u64,
    /// The disk error for which the database is read-only; `None` while it can be written.
    only_read: Option<io::ErrorKind>,
}

impl Handle {
    pub(super) fn open(path: &Path, config: &DiskStoreConfig) -> Result<(Handle, Head), OpenError> {
        match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => create(path, config)?,
            Err(error) => return Err(OpenError::io(path, error)),
            Ok(_) => {}
        }
        let head = |database: &Held<Database>| {
            guarded(|| read_head(database, path)).unwrap_or_else(|cause| Err(damaged(path, cause)))
        };
        // Opening writes to the file only once everything that each read and write needs is known to be there.
        let look = open(path, Access::Look, config)?;
        head(&look)?;
        guarded(|| try_to_write(look.get()?))
            .unwrap_or_else(|cause| Err(StorageError::Corrupted(cause)))
            .map_err(|error| storage_error(path, error))?;
        drop(look);
        let database = open(path, Access::Write, config)?;
        let head = head(&database)?;
        let open = Open { snapshot: Mutex::default(), database: Some(database), generation: 0, only_read: None };
        open.renew_snapshot();
        Ok((Handle { path: path.into(), config: config.clone(), open: RwLock::new(open) }, head))
    }

    /// Reads from the database. If that fails, the database is reopened for the next read.
    pub(super) fn read<T>(
        &self,
        work: impl FnOnce(&ReadTransaction) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        let generation = open.generation;
        let snapshot = open.snapshot().clone();
        let result = open.work(|database| match snapshot {
            Some(snapshot) => work(snapshot.get()?),
            None => work(&begin_read(database)?),
        });
        drop(open);
        if result.is_err() {
            self.reopen(generation);
        }
        result
    }

    /// Writes to the database. If that fails, the database is reopened, read-only if nothing else is possible.
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

    /// The state of the database now; `None` if it cannot be read.
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
        // Close the old database first: it holds the lock of the file.
        *current.snapshot() = None;
        (current.database, current.only_read) = (None, None);
        match open(&self.path, Access::Write, &self.config) {
            Ok(database) => current.database = Some(database),
            Err(error) => {
                tracing::error!(%error, "the store cannot be reopened for writing");
                current.only_read = Some(error.kind());
                current.database = open(&self.path, Access::Look, &self.config)
                    .inspect_err(|error| tracing::error!(%error, "the store cannot be reopened"))
                    .ok();
            }
        }
        current.renew_snapshot();
    }
}

impl Open {
    fn snapshot(&self) -> MutexGuard<'_, Option<Arc<Held<ReadTransaction>>>> {
        self.snapshot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets later reads see the last commit. If that fails, each read begins a transaction of its own.
    fn renew_snapshot(&self) {
        let next = self.work(begin_read).ok().map(|snapshot| Arc::new(Held::new(snapshot)));
        let last = std::mem::replace(&mut *self.snapshot(), next);
        drop(last);
    }

    fn work<T>(&self, work: impl FnOnce(&Database) -> Result<T, StorageError>) -> Result<T, StorageError> {
        match &self.database {
            Some(database) => guarded(|| work(database.get()?))
                .unwrap_or_else(|cause| Err(StorageError::Corrupted(format!("the database panicked: {cause}")))),
            None => Err(StorageError::DatabaseClosed),
        }
    }
}

/// A value of redb's, whose drop may panic although it should not; a panic is caught and logged.
struct Held<T>(Option<T>);

impl<T> Held<T> {
    fn new(held: T) -> Held<T> {
        Held(Some(held))
    }

    fn get(&self) -> Result<&T, StorageError> {
        self.0.as_ref().ok_or(StorageError::DatabaseClosed)
    }
}

impl<T> Drop for Held<T> {
    fn drop(&mut self) {
        let held = self.0.take();
        if let Err(cause) = guarded(|| drop(held)) {
            tracing::error!(cause, "the database under the store panicked when it was closed");
        }
    }
}

/// Runs code of redb's, which may panic although it should not; a panic is returned as its message.
fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        text.unwrap_or("no reason given").to_owned()
    })
}

/// Begins a transaction that survives a crash without a slow repair at the next start.
pub(super) fn begin_write(database: &Database) -> Result<WriteTransaction, StorageError> {
    let mut transaction = database.begin_write().map_err(begun)?;
    transaction.set_quick_repair(true);
    Ok(transaction)
}

/// Reads the rows that every write needs, and commits without a change.
fn try_to_write(database: &Database) -> Result<(), StorageError> {
    let transaction = begin_write(database)?;
    let mut tables = Writable::open(&transaction).map_err(missing)?;
    let counts = tables.meta.get("counts")?.map(|row| row.value().to_vec());
    counts.map(|counts| tables.meta.insert("counts", counts.as_slice()).map(drop)).transpose()?;
    drop(tables);
    commit(transaction)
}

pub(super) fn begin_read(database: &Database) -> Result<ReadTransaction, StorageError> {
    database.begin_read().map_err(begun)
}

/// Commits a transaction; from here on its writes survive a crash.
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

/// Every store has all tables from the start, so a missing or different table is damage.
pub(super) fn missing(error: TableError) -> StorageError {
    match error {
        TableError::Storage(error) => error,
        other => StorageError::Corrupted(other.to_string()),
    }
}

fn open(path: &Path, access: Access, config: &DiskStoreConfig) -> Result<Held<Database>, OpenError> {
    let about = fs::metadata(path).map_err(|error| OpenError::io(path, error))?;
    if !about.is_file() {
        return Err(OpenError::Foreign { path: path.into(), found: "not a file" });
    }
    let mut file = OpenOptions::new().read(true).write(true).open(path).map_err(|error| OpenError::io(path, error))?;
    check_start(path, &mut file)?;
    database(file, access, config).map_err(|error| database_error(path, error))
}

/// Checks the first bytes of the file: is it a store of this version?
fn check_start(path: &Path, file: &mut File) -> Result<(), OpenError> {
    let mut start = Vec::new();
    Read::take(&mut *file, wide(START)).read_to_end(&mut start).map_err(|error| OpenError::io(path, error))?;
    let foreign = |found| Err(OpenError::Foreign { path: path.into(), found });
    let older = |found| Err(OpenError::Older { path: path.into(), found, known: FORMAT });
    match &start {
        start if start.is_empty() => foreign("an empty file"),
        start if start.starts_with(DATABASE) => {
            match holds(file, OLD_TABLE).map_err(|error| OpenError::io(path, error))? {
                true => older(OLD_FORMAT),
                false => foreign("a database of another program"),
            }
        }
        start if !start.starts_with(MAGIC) => foreign("a file of another program"),
        start => match format_of(start) {
            Some(FORMAT) => Ok(()),
            Some(found) if found > FORMAT => Err(OpenError::Newer { path: path.into(), found, known: FORMAT }),
            Some(found) if found > OLD_FORMAT => older(found),
            _ => Err(damaged(path, "its first bytes are wrong")),
        },
    }
}

fn start_of(format: u64) -> Vec<u8> {
    let mut start = MAGIC.to_vec();
    start.extend(format.to_le_bytes());
    start.extend(sum_of(0, &start).to_le_bytes());
    start
}

/// The format that the first bytes of a file state; `None` if they are not those of a store.
fn format_of(start: &[u8]) -> Option<u64> {
    let format = u64::from_le_bytes(start.get(MAGIC.len()..MAGIC.len() + 8)?.try_into().ok()?);
    (start == start_of(format)).then_some(format)
}

/// Whether these bytes occur anywhere in the rest of the file.
fn holds(file: &mut File, bytes: &[u8]) -> io::Result<bool> {
    let (mut seen, mut part) = (Vec::<u8>::new(), vec![0; 1 << 20]);
    loop {
        let len = file.read(&mut part)?;
        seen.extend(&part[..len]);
        if len == 0 || seen.windows(bytes.len()).any(|window| window == bytes) {
            return Ok(len > 0);
        }
        seen.drain(..seen.len().saturating_sub(bytes.len()));
    }
}

fn database(file: File, access: Access, config: &DiskStoreConfig) -> Result<Held<Database>, DatabaseError> {
    let open = || {
        let disk = Disk::new(file, access, config)?;
        Builder::new().set_cache_size(config.database_cache_bytes).create_with_backend(disk)
    };
    guarded(open).unwrap_or_else(|cause| Err(StorageError::Corrupted(cause).into())).map(Held::new)
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
        error if is_damage(&error) => damaged(path, error),
        StorageError::Io(error) => OpenError::io(path, error),
        other => damaged(path, other),
    }
}

fn damaged(path: &Path, cause: impl ToString) -> OpenError {
    OpenError::Damaged { path: path.into(), cause: cause.to_string() }
}

fn read_head(database: &Held<Database>, path: &Path) -> Result<Head, OpenError> {
    let stored = |error| storage_error(path, error);
    let read = database.get().and_then(begin_read).map_err(stored)?;
    let meta = read.open_table(META).map_err(|error| stored(missing(error)))?;
    let field = |name: &str| Ok(meta.get(name).map_err(stored)?.map(|row| row.value().to_vec()));
    let seed = field("seed")?.and_then(|row| row.try_into().ok()).ok_or_else(|| damaged(path, "it has no seed"))?;
    let counts =
        field("counts")?.and_then(|row| Counts::decode(&row)).ok_or_else(|| damaged(path, "it has no counts"))?;
    let expiry = read.open_table(EXPIRY).map_err(|error| stored(missing(error)))?;
    Ok(Head { seed, counts, expiry: expiry_span(&expiry).map_err(stored)? })
}

/// Creates an empty database and moves it to `path`. If another process created one there first, that one stays.
fn create(path: &Path, config: &DiskStoreConfig) -> Result<(), OpenError> {
    let seed = match config.seed {
        Some(seed) => seed,
        None => drawn().map_err(|error| OpenError::Io { path: path.into(), source: error })?,
    };
    let (draft, file) = draft(path)?;
    let result = fill(&draft, file, seed, config, path).and_then(|()| publish(&draft, path));
    // After a success the draft is a second name of the file at `path`; otherwise another process was faster.
    if let Err(error) = fs::remove_file(&draft)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(%error, draft = %draft.display(), "the draft of a new store could not be removed");
    }
    result
}

/// Creates a new file beside `path`.
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

/// Draws a random, secret seed.
fn drawn() -> io::Result<[u8; 32]> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(seed)
}

fn fill(draft: &Path, mut file: File, seed: [u8; 32], config: &DiskStoreConfig, path: &Path) -> Result<(), OpenError> {
    let work = || -> Result<(), DatabaseError> {
        file.write_all(&start_of(FORMAT)).map_err(StorageError::Io)?;
        let database = database(file, Access::Create, config)?;
        let transaction = begin_write(database.get()?)?;
        {
            let mut tables = Writable::open(&transaction).map_err(missing)?;
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

/// Gives the draft its final name, unless a file has that name by now.
fn publish(draft: &Path, path: &Path) -> Result<(), OpenError> {
    match fs::hard_link(draft, path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        // A file system without hard links. Another process is not expected between this check and the move.
        Err(_) if fs::symlink_metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) => {
            fs::rename(draft, path).map_err(|error| OpenError::io(path, error))?;
        }
        Err(error) => return Err(OpenError::io(path, error)),
    }
    // The name must survive a crash too. Some systems cannot sync a directory; they make names durable in their own
    // way.
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if let Err(error) = File::open(parent).and_then(|directory| directory.sync_all()) {
        tracing::debug!(%error, "the directory of the store cannot be synced");
    }
    Ok(())
}

/// The database of a store, for tests that change rows. Close it before the store is opened again.
#[cfg(feature = "testing")]
#[doc(hidden)]
pub fn open_database(path: &Path) -> Option<Database> {
    open(path, Access::Write, &DiskStoreConfig::default()).ok()?.0.take()
}
