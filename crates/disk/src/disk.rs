//! The store itself: what it answers at once, and what it hands to its threads.
//!
//! Knows: its queues and their bounds. Must not know: the database, which only the threads touch.

use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::task::Waker;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use libp2p_identity::PeerId;

use super::cache::Entry;
use super::database::{Handle, Head};
use super::group::Op;
use super::reader::{Ask, Reader};
use super::shared::{Pending, Shared};
use super::tables::place_of;
use super::writer::{Job, Writer};
use super::{DiskStoreConfig, OpenError};
use libp2p_kad_dht::core::Contact;
use libp2p_kad_dht::core::Key;
use libp2p_kad_dht::core::Timestamp;
use libp2p_kad_dht::core::config::{MAX_KEY_LEN, MAX_PROVIDER_KEY_LEN};
use libp2p_kad_dht::core::store::{Done, Item, Read, Scan, Store, StoreError, Ticket, Usage, Write};
use libp2p_kad_dht::core::{ProviderRecord, Record, RecordKey};

/// So long a store that is dropped waits for its last writes.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// Keeps everything in one database file, within the bounds of a [`DiskStoreConfig`].
///
/// A write is [`Write::Pending`] until it would survive `kill -9` and a power cut, if the disk keeps its word: writes
/// that wait for one another share one transaction. Reads are answered from a cache, or are [`Read::Pending`] and come
/// from the disk. The caller never waits for the disk, and the memory does not grow with what is kept.
///
/// # What gives way when a bound is reached
///
/// Expired records, first of all. Then lots decide, by the rules that [`MemoryStore`](libp2p_kad_dht::core::MemoryStore) states:
/// late and early ones have the same chance, however often they come again, and nobody who does not know the store's
/// seed can choose a key or an id that wins. Who loses is refused with [`StoreError::Full`].
///
/// * **Providers of one key**: those with the best lots stay.
/// * **Provider records in all**: the key with the most of them loses its last one.
/// * **Keys with providers**: each is charged to that of its providers which has the fewest; the peer with the most loses
///   one first. Peers are not counted beside that: one of many made-up ids has the chance of one honest peer.
/// * **Values**: those with the best lots stay. One of n KiB has an n-th of the chance of a small one, and one write
///   displaces 64 others at most.
/// * **Addresses** are kept with each record of their peer. The key whose addresses take the most loses some, of those
///   records that have the most; a record that has none left stays. One write shortens 16 other keys at most.
/// * **Sequence numbers**: those that would be forgotten first go first.
///
/// What gives way is found by a look into ordered tables, so a write costs the same however full the store is.
///
/// # What can go wrong
///
/// When the disk is full, writes end with [`StoreError::Full`] and reads go on; when it fails otherwise, they end with
/// [`StoreError::Failed`]. The cause is in the log. A write that ended so is as a rule not there, but may be if the
/// disk failed at its very end. A row that cannot be read is reported as [`StoreError::Damaged`] to whoever asks first,
/// and put aside in the file with up to 1,023 others; from then on its place is empty.
///
/// Dropping a store waits for its last writes, ten seconds at most.
#[derive(Debug)]
pub struct DiskStore {
    shared: Arc<Shared>,
    config: DiskStoreConfig,
    next_ticket: u64,
    /// Both are there until the store is dropped.
    writes: Option<SyncSender<Job>>,
    reads: Option<SyncSender<(Ticket, Ask)>>,
    threads: Vec<JoinHandle<()>>,
    /// Disconnected when the last thread has ended.
    ended: Receiver<()>,
}

impl DiskStore {
    /// Opens the store at `path`, or makes an empty one if there is nothing. The directory must exist.
    ///
    /// Blocks for as long as the disk needs: milliseconds, also after a crash and with a million records.
    ///
    /// # Errors
    ///
    /// [`OpenError`], whose variants say who must act. Nothing that is there is changed by a failure.
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
        // Room for all that `write` admits, so that nothing that was admitted is ever turned away.
        let (writes, jobs) = sync_channel(config.max_pending_writes.min(MAX_QUEUE) + own_writes(&config));
        let (reads, asks) = sync_channel(config.max_pending_reads.clamp(1, MAX_QUEUE));
        let (alive, ended) = sync_channel::<()>(0);
        let mut threads = Vec::new();
        let writer =
            Writer { handle: Arc::clone(&handle), config: config.clone(), shared: Arc::clone(&shared), jobs, head };
        threads.push(spawn("kad-store-writer", alive.clone(), move || writer.run())?);
        let asks = Arc::new(Mutex::new(asks));
        for _ in 0..config.readers.max(1) {
            let (handle, shared, asks) = (Arc::clone(&handle), Arc::clone(&shared), Arc::clone(&asks));
            let reader = Reader { handle, shared, asks };
            threads.push(spawn("kad-store-reader", alive.clone(), move || reader.run())?);
        }
        Ok(DiskStore { shared, config, next_ticket: 0, writes: Some(writes), reads: Some(reads), threads, ended })
    }

    fn ticket(&mut self) -> Ticket {
        self.next_ticket += 1;
        Ticket::new(self.next_ticket)
    }

    /// Hands a write to its thread, unless too much waits there.
    fn write(&mut self, op: Op, takes: Pending) -> Result<Ticket, StoreError> {
        let ticket = self.ticket();
        self.hand_over(Some(ticket), op, takes)?;
        Ok(ticket)
    }

    fn hand_over(&mut self, ticket: Option<Ticket>, op: Op, takes: Pending) -> Result<(), StoreError> {
        let config = &self.config;
        let admitted = self.shared.admit(|pending| {
            pending.remote_writes += takes.remote_writes;
            pending.remote_bytes = pending.remote_bytes.saturating_add(takes.remote_bytes);
            pending.own_writes += takes.own_writes;
            if takes.own_writes > 0 {
                return pending.own_writes <= own_writes(config);
            }
            // One alone is always taken.
            let fits = pending.remote_bytes <= config.max_pending_bytes || pending.remote_writes == 1;
            pending.remote_writes <= config.max_pending_writes.min(MAX_QUEUE) && fits
        });
        if !admitted {
            return Err(StoreError::Full);
        }
        let job = Job { ticket, takes, op };
        let sent = self.writes.as_ref().is_some_and(|writes| writes.try_send(job).is_ok());
        if sent { Ok(()) } else { Err(StoreError::Failed) }
    }

    /// Answers from the cache, or hands a read to the threads.
    fn read<T>(&mut self, ask: Ask, answer: impl FnOnce(&Entry) -> T) -> Result<Read<T>, StoreError> {
        if let Some(entry) = ask.name().and_then(|name| self.shared.cached(&name)) {
            return Ok(Read::Ready(answer(&entry)));
        }
        self.read_from_disk(ask).map(Read::Pending)
    }

    fn read_from_disk(&mut self, ask: Ask) -> Result<Ticket, StoreError> {
        let most = self.config.max_pending_reads.min(MAX_QUEUE);
        let admitted = self.shared.admit(|pending| {
            pending.reads += 1;
            pending.reads <= most
        });
        if !admitted {
            tracing::debug!("more reads wait for the disk than may");
            return Err(StoreError::Failed);
        }
        let ticket = self.ticket();
        if self.reads.as_ref().is_some_and(|reads| reads.try_send((ticket, ask)).is_ok()) {
            return Ok(ticket);
        }
        Err(StoreError::Failed)
    }
}

/// The longest queue; its places are allocated at once.
const MAX_QUEUE: usize = 65_536;

/// So many writes of this node's own may wait.
fn own_writes(config: &DiskStoreConfig) -> usize {
    config.max_pending_writes.clamp(256, MAX_QUEUE)
}

const OWN: Pending = Pending { remote_writes: 0, remote_bytes: 0, own_writes: 1, reads: 0 };

fn takes(own: bool, bytes: usize) -> Pending {
    if own { OWN } else { Pending { remote_writes: 1, remote_bytes: bytes, own_writes: 0, reads: 0 } }
}

/// A thread of the store's own, the only ones of the library: a disk can only be waited for.
fn spawn(name: &str, alive: SyncSender<()>, run: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle<()>> {
    Builder::new().name(name.into()).spawn(move || {
        run();
        drop(alive);
    })
}

impl Store for DiskStore {
    fn get(&mut self, now: Timestamp, key: &RecordKey) -> Result<Read<Option<Record>>, StoreError> {
        self.read(Ask::Value(now, place_of(&key.key())), |entry| entry.value(now))
    }

    fn put(&mut self, now: Timestamp, record: Record) -> Result<Write, StoreError> {
        if record.key.as_bytes().len() > MAX_KEY_LEN || record.value.len() > self.config.max_value_len {
            return Err(StoreError::TooLarge);
        }
        let takes = takes(record.own, record.key.as_bytes().len() + record.value.len());
        self.write(Op::Put(now, record), takes).map(Write::Pending)
    }

    fn remove(&mut self, key: &RecordKey) -> Result<Write, StoreError> {
        self.write(Op::Remove(key.clone()), OWN).map(Write::Pending)
    }

    fn providers(&mut self, now: Timestamp, key: &RecordKey) -> Result<Read<Vec<ProviderRecord>>, StoreError> {
        self.read(Ask::Providers(now, place_of(&key.key())), |entry| entry.providers(now))
    }

    fn add_provider(&mut self, now: Timestamp, record: ProviderRecord) -> Result<Write, StoreError> {
        if record.key.as_bytes().len() > MAX_PROVIDER_KEY_LEN {
            return Err(StoreError::TooLarge);
        }
        let addrs: usize = record.provider.raw_addrs().iter().map(|addr| addr.len()).sum();
        let takes = takes(record.own, record.key.as_bytes().len() + addrs);
        self.write(Op::AddProvider(now, record), takes).map(Write::Pending)
    }

    fn remove_provider(&mut self, key: &RecordKey, provider: &PeerId) -> Result<Write, StoreError> {
        self.write(Op::RemoveProvider(key.clone(), *provider), OWN).map(Write::Pending)
    }

    fn scan(&mut self, what: Scan, after: Option<&Key>, limit: usize) -> Result<Read<Vec<Item>>, StoreError> {
        self.read_from_disk(Ask::Scan(what, after.copied(), limit)).map(Read::Pending)
    }

    fn sequence(&mut self, now: Timestamp, key: &RecordKey) -> Result<Read<Option<u64>>, StoreError> {
        self.read(Ask::Sequence(now, place_of(&key.key())), |entry| entry.sequence(now))
    }

    fn keeps_peers(&self) -> bool {
        true
    }

    fn save_peers(&mut self, peers: Vec<Arc<Contact>>) -> Result<Write, StoreError> {
        self.write(Op::SavePeers(peers), OWN).map(Write::Pending)
    }

    fn saved_peers(&mut self) -> Result<Read<Vec<Arc<Contact>>>, StoreError> {
        self.read_from_disk(Ask::Peers).map(Read::Pending)
    }

    fn expire(&mut self, now: Timestamp, limit: usize) -> Result<Read<usize>, StoreError> {
        if self.shared.kept().next_expiry.is_none_or(|next| next > now) {
            return Ok(Read::Ready(0));
        }
        self.write(Op::Expire(now, limit), OWN).map(Read::Pending)
    }

    fn next_expiry(&self) -> Option<Timestamp> {
        self.shared.kept().next_expiry
    }

    fn usage(&self) -> Usage {
        self.shared.kept().usage
    }

    fn poll_done(&mut self, waker: &Waker) -> Option<Done> {
        // Where there is no room for it, whoever reads the row next tries again.
        while let Some(name) = self.shared.next_damaged()
            && self.hand_over(None, Op::PutAside(name), OWN).is_ok()
        {}
        self.shared.poll_done(waker)
    }
}

impl Drop for DiskStore {
    fn drop(&mut self) {
        (self.writes, self.reads) = (None, None);
        if self.ended.recv_timeout(CLOSE_TIMEOUT) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("the store's last writes take too long and are left to themselves");
            return;
        }
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the store had panicked");
            }
        }
    }
}
