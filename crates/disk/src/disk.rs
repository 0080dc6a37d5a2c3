//! The store itself: it answers from its cache, or passes operations to its threads.
//!
//! Knows: its queues and their bounds. Must not know: the database, which only the threads access.

use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::task::Waker;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use super::cache::CachedEntry;
use super::database::{Handle, Head};
use super::group::Task;
use super::queue::{Job, Queue};
use super::reader::{Ask, Reader};
use super::shared::{Pending, Shared};
use super::tables::place_of;
use super::writer::Writer;
use super::{DiskStoreConfig, OpenError};
use libp2p_kad_dht::core::Timestamp;
use libp2p_kad_dht::core::config::{MAX_KEY_LEN, MAX_PROVIDER_KEY_LEN};
use libp2p_kad_dht::core::store::{Done, Op, OpOutput, Put, Store, StoreError, Ticket, Usage};

/// Maximum time that dropping a store waits for its last writes.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// Keeps records in one database file, within the bounds of a [`DiskStoreConfig`].
///
/// A write ends once it would survive `kill -9` and a power cut, provided that the disk honours a sync; writes that
/// wait at the same time share one transaction. Reads are answered from a cache at once, or later from the disk. The
/// caller never waits for the disk, and memory use does not grow with the number of records.
///
/// # Eviction
///
/// At a bound, expired records are removed first, then [the rule of eviction](libp2p_kad_dht::core::store::eviction)
/// decides, as in the memory store: each sender pays for its records, and the one with the most loses some. A new
/// record that would itself be the first to go is refused with [`StoreError::Full`]; a new version of a stored record
/// is always accepted.
///
/// * **Values**: bounded in number, and in bytes with their keys.
/// * **Provider records**: bounded in number, and in bytes with their keys and addresses.
/// * **Providers of one key**: one of the IP group with the most of them is evicted, where groups count, else a random
///   one, so that of n each is kept with probability [`max_providers_per_key`](DiskStoreConfig::max_providers_per_key)
///   / n.
/// * **Sequence numbers**: those that end first are evicted first.
///
/// A store that is opened with smaller bounds than it was filled under shrinks in the background by the same rule, at
/// most 2,048 records of each kind a transaction.
///
/// Ordered tables lead to the records to evict, so the cost of a write does not depend on how full the store is. Writes
/// of this node are done before waiting writes of peers.
///
/// # Failures
///
/// When the disk is full, writes end with [`StoreError::Full`] and reads go on; after any other disk error they end
/// with [`StoreError::Failed`]. The log has the cause. A failed write is usually not stored, but may be if the disk
/// failed at the very end of the write. The first read of a damaged row fails with [`StoreError::Damaged`]; the row is
/// moved aside in the file, with up to 1,023 others, and its place is empty from then on. A block with a wrong checksum
/// stays where it is, and each operation that needs it fails with [`StoreError::Damaged`]; others go on.
///
/// Dropping a store waits for its last writes, at most ten seconds.
#[derive(Debug)]
pub struct DiskStore {
    shared: Arc<Shared>,
    config: DiskStoreConfig,
    writes: Arc<Queue>,
    /// `Some` until the store is dropped.
    reads: Option<SyncSender<(Ticket, Ask)>>,
    threads: Vec<JoinHandle<()>>,
    /// Disconnected when the last thread has ended.
    ended: Receiver<()>,
    /// Whether the store exceeded its bounds when it was opened and the writer does not know the time yet.
    exceeded: bool,
}

impl DiskStore {
    /// Opens the store at `path`, or creates an empty one if there is no file. The directory must exist.
    ///
    /// Blocks until the disk has answered: milliseconds, also after a crash and with a million records.
    ///
    /// # Errors
    ///
    /// [`OpenError`], whose variants say what to do. A failure changes no file.
    pub fn open(path: impl AsRef<Path>, config: DiskStoreConfig) -> Result<DiskStore, OpenError> {
        let path = path.as_ref();
        let (handle, head) = Handle::open(path, &config)?;
        DiskStore::start(Arc::new(handle), head, config).map_err(|source| OpenError::Io { path: path.into(), source })
    }

    /// The bounds of this store.
    pub fn config(&self) -> &DiskStoreConfig {
        &self.config
    }

    fn start(handle: Arc<Handle>, head: Head, config: DiskStoreConfig) -> std::io::Result<DiskStore> {
        let shared = Arc::new(Shared::new(config.cache_bytes, head.kept()));
        let (writes, exceeded) = (Arc::new(Queue::default()), config.is_exceeded(&head.counts));
        let (reads, asks) = sync_channel(config.max_pending_reads.clamp(1, MAX_QUEUE));
        let (alive, ended) = sync_channel::<()>(0);
        let mut threads = Vec::new();
        let (of_writer, queue) = (Arc::clone(&shared), Arc::clone(&writes));
        let writer =
            Writer { handle: Arc::clone(&handle), config: config.clone(), shared: of_writer, queue, head, now: None };
        threads.push(spawn("kad-store-writer", alive.clone(), move || writer.run())?);
        let asks = Arc::new(Mutex::new(asks));
        for _ in 0..config.readers.max(1) {
            let (handle, shared, asks) = (Arc::clone(&handle), Arc::clone(&shared), Arc::clone(&asks));
            let reader = Reader { handle, shared, asks };
            threads.push(spawn("kad-store-reader", alive.clone(), move || reader.run())?);
        }
        Ok(DiskStore { shared, config, writes, reads: Some(reads), threads, ended, exceeded })
    }

    /// The space that a write takes in the queue; an error if its record is too large.
    fn takes(&self, op: &Op) -> Result<Pending, StoreError> {
        match op {
            Op::Put(put) => {
                let Put { record, .. } = &**put;
                let (key, value) = (record.key.as_bytes().len(), record.value.len());
                if key > MAX_KEY_LEN || value > self.config.max_value_len {
                    return Err(StoreError::TooLarge);
                }
                Ok(takes(record.own, key + value))
            }
            Op::AddProvider(record, _) => {
                let key = record.key.as_bytes().len();
                if key > MAX_PROVIDER_KEY_LEN {
                    return Err(StoreError::TooLarge);
                }
                let addrs: usize = record.provider.raw_addrs().map(<[u8]>::len).sum();
                Ok(takes(record.own, key + addrs))
            }
            _ => Ok(OWN),
        }
    }

    /// Queues a write for the writer, unless the queue is full.
    fn hand_over(&mut self, ticket: Option<Ticket>, task: Task, takes: Pending) -> Result<(), StoreError> {
        let config = &self.config;
        let admitted = self.shared.admit(|pending| {
            pending.remote_writes += takes.remote_writes;
            pending.remote_bytes = pending.remote_bytes.saturating_add(takes.remote_bytes);
            pending.own_writes += takes.own_writes;
            if takes.own_writes > 0 {
                return pending.own_writes <= own_writes(config);
            }
            // A single write is always accepted, however large it is.
            let fits = pending.remote_bytes <= config.max_pending_bytes || pending.remote_writes == 1;
            pending.remote_writes <= config.max_pending_writes.min(MAX_QUEUE) && fits
        });
        if !admitted {
            return Err(StoreError::Busy);
        }
        self.writes.push(Job { ticket, takes, task });
        Ok(())
    }

    /// Answers from the cache, or passes a read to the readers.
    fn read(&mut self, ticket: Ticket, ask: Ask, answer: impl FnOnce(&CachedEntry) -> OpOutput) -> Option<Done> {
        match ask.name().and_then(|name| self.shared.cached(&name)) {
            Some(entry) => Some(Ok(answer(&entry))),
            None => self.read_from_disk(ticket, ask).err().map(Err),
        }
    }

    fn read_from_disk(&mut self, ticket: Ticket, ask: Ask) -> Result<(), StoreError> {
        let most = self.config.max_pending_reads.min(MAX_QUEUE);
        let admitted = self.shared.admit(|pending| {
            pending.reads += 1;
            pending.reads <= most
        });
        if !admitted {
            return Err(StoreError::Busy);
        }
        let sent = self.reads.as_ref().is_some_and(|reads| reads.try_send((ticket, ask)).is_ok());
        if sent { Ok(()) } else { Err(StoreError::Failed) }
    }
}

/// Maximum length of a queue, whose memory is allocated at once.
const MAX_QUEUE: usize = 65_536;

/// Maximum number of this node's own writes that wait.
fn own_writes(config: &DiskStoreConfig) -> usize {
    config.max_pending_writes.clamp(256, MAX_QUEUE)
}

const OWN: Pending = Pending { remote_writes: 0, remote_bytes: 0, own_writes: 1, reads: 0 };

fn takes(own: bool, bytes: usize) -> Pending {
    if own { OWN } else { Pending { remote_writes: 1, remote_bytes: bytes, own_writes: 0, reads: 0 } }
}

/// Starts a thread. The disk store is the only part of the library that has threads, since disk access blocks.
fn spawn(name: &str, alive: SyncSender<()>, run: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle<()>> {
    Builder::new().name(name.into()).spawn(move || {
        run();
        drop(alive);
    })
}

impl Store for DiskStore {
    fn run(&mut self, now: Timestamp, ticket: Ticket, op: Op) -> Option<Done> {
        if self.exceeded {
            self.exceeded = self.hand_over(None, Task::Time(now), OWN).is_err();
        }
        let begun = match op {
            Op::Get(key) => {
                return self
                    .read(ticket, Ask::Value(now, place_of(&key.key())), |entry| OpOutput::Value(entry.value(now)));
            }
            Op::Providers(key) => {
                let ask = Ask::Providers(now, place_of(&key.key()));
                return self.read(ticket, ask, |entry| OpOutput::Providers(entry.providers(now)));
            }
            Op::Scan { what, after, limit } => self.read_from_disk(ticket, Ask::Scan(what, after, limit)),
            Op::SavedPeers => self.read_from_disk(ticket, Ask::Peers),
            Op::Expire { latest, .. }
                if self.shared.kept().expiry.is_none_or(|(first, last)| first > now && last <= latest) =>
            {
                return Some(Ok(OpOutput::Expired(0)));
            }
            op => self.takes(&op).and_then(|takes| self.hand_over(Some(ticket), Task::Op(now, op), takes)),
        };
        begun.err().map(Err)
    }

    fn keeps_peers(&self) -> bool {
        true
    }

    fn next_expiry(&self) -> Option<Timestamp> {
        self.shared.kept().expiry.map(|(first, _)| first)
    }

    fn usage(&self) -> Usage {
        self.shared.kept().usage
    }

    fn poll_done(&mut self, waker: &Waker) -> Option<(Ticket, Done)> {
        // If the queue has no room for a damaged row, the next reader of the row reports it again.
        while let Some(name) = self.shared.next_damaged()
            && self.hand_over(None, Task::PutAside(name), OWN).is_ok()
        {}
        self.shared.poll_done(waker)
    }
}

impl Drop for DiskStore {
    fn drop(&mut self) {
        self.writes.close();
        self.reads = None;
        if self.ended.recv_timeout(CLOSE_TIMEOUT) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("the store's last writes take too long, and closing does not wait for them");
            return;
        }
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the store panicked");
            }
        }
    }
}
