//! The store on a disk: its contract, its state after a restart and after `kill -9`, and faults of the disk.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

#[path = "disk/contract.rs"]
mod contract;
#[path = "disk/damage.rs"]
mod damage;
#[path = "disk/errors.rs"]
mod errors;
#[path = "disk/fair.rs"]
mod fair;
#[path = "disk/harm.rs"]
pub(crate) mod harm;
#[path = "disk/kill.rs"]
mod kill;
#[path = "disk/slow.rs"]
mod slow;

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Waker;
use std::time::Duration;

use libp2p_identity::PeerId;
use libp2p_kad_dht::core::store::{Done, Item, Judge, Op, OpOutput, Put, Scan, Sender, Ticket};
use libp2p_kad_dht::core::{Contact, ProviderRecord, Record, RecordKey, Store, StoreError, Timestamp};
use libp2p_kad_dht_disk::{DiskStore, DiskStoreConfig, OpenError};

const NOW: Timestamp = Timestamp::from_secs(1_000);
const LATER: Timestamp = Timestamp::from_secs(2_000);

/// A directory that is removed after the test.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Dir {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::SeqCst);
        let path = std::env::temp_dir().join(format!("kad-disk-test-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Dir(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join("store")
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

fn config() -> DiskStoreConfig {
    DiskStoreConfig::default().with_seed([7; 32])
}

/// A store whose tickets are counted, and whose operations are begun one by one.
struct Opened {
    store: DiskStore,
    next: u64,
    /// Results that came before a test waited for them.
    done: BTreeMap<Ticket, Done>,
}

impl Deref for Opened {
    type Target = DiskStore;

    fn deref(&self) -> &DiskStore {
        &self.store
    }
}

impl DerefMut for Opened {
    fn deref_mut(&mut self) -> &mut DiskStore {
        &mut self.store
    }
}

impl Opened {
    fn at(path: impl AsRef<Path>, config: DiskStoreConfig) -> Result<Opened, OpenError> {
        Ok(Opened { store: DiskStore::open(path, config)?, next: 0, done: BTreeMap::new() })
    }

    fn begin(&mut self, now: Timestamp, op: Op) -> Ticket {
        self.next += 1;
        let ticket = Ticket::new(self.next);
        if let Some(done) = self.store.run(now, ticket, op) {
            self.done.insert(ticket, done);
        }
        ticket
    }

    /// Waits for the result of this ticket. The results of others can be waited for later.
    fn wait(&mut self, ticket: Ticket) -> Done {
        for _ in 0..30_000 {
            if let Some(done) = self.done.remove(&ticket) {
                return done;
            }
            while let Some((ended, done)) = self.store.poll_done(Waker::noop()) {
                self.done.insert(ended, done);
            }
            if !self.done.contains_key(&ticket) {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        panic!("{ticket} was not reported within 30 s")
    }

    fn run(&mut self, now: Timestamp, op: Op) -> Done {
        let ticket = self.begin(now, op);
        self.wait(ticket)
    }

    fn put(&mut self, now: Timestamp, record: Record) -> Ticket {
        self.begin(now, Op::Put(Box::new(Put::new(record, Judge::of_the_last()))))
    }

    fn add_provider(&mut self, now: Timestamp, record: ProviderRecord) -> Ticket {
        let sender = (!record.own).then(|| Sender::new(*record.provider.peer()));
        self.begin(now, Op::AddProvider(Box::new(record), sender))
    }

    fn remove(&mut self, key: &RecordKey) -> Ticket {
        self.begin(NOW, Op::Remove(key.clone()))
    }

    fn remove_provider(&mut self, key: &RecordKey, provider: &PeerId) -> Ticket {
        self.begin(NOW, Op::RemoveProvider(key.clone(), *provider))
    }

    fn save_peers(&mut self, peers: Vec<Arc<Contact>>) -> Ticket {
        self.begin(NOW, Op::SavePeers(peers))
    }
}

fn open(path: &Path) -> Opened {
    Opened::at(path, config()).unwrap()
}

fn peer(n: u64) -> PeerId {
    let mut bytes = vec![0x00, 12, 0x08, 0x01, 0x12, 8];
    bytes.extend(n.to_be_bytes());
    PeerId::from_bytes(&bytes).unwrap()
}

fn value(key: &str, bytes: &[u8]) -> Record {
    let mut record = Record::new(key, bytes.to_vec(), NOW);
    record.expires = Some(LATER);
    record
}

fn provider(key: &str, n: u64) -> ProviderRecord {
    let contact = Contact::new(peer(n), ["/ip4/10.0.0.1/tcp/4001".parse().unwrap()]);
    ProviderRecord::new(key.into(), contact, LATER, LATER)
}

fn stored(store: &mut Opened, ticket: Ticket) -> Result<(), StoreError> {
    match store.wait(ticket)? {
        OpOutput::Kept { .. } | OpOutput::Nothing => Ok(()),
        other => panic!("not stored: {other:?}"),
    }
}

fn get(store: &mut Opened, now: Timestamp, key: &str) -> Option<Record> {
    match store.run(now, Op::Get(key.into())).unwrap() {
        OpOutput::Value(found) => found,
        other => panic!("not a value: {other:?}"),
    }
}

fn providers(store: &mut Opened, key: &str) -> Vec<ProviderRecord> {
    match store.run(NOW, Op::Providers(key.into())).unwrap() {
        OpOutput::Providers(found) => found,
        other => panic!("not providers: {other:?}"),
    }
}

/// Whether the store remembers a sequence number above this one where no value is kept.
fn remembers(store: &mut Opened, now: Timestamp, key: &str, above: u64) -> bool {
    let mut older = value(key, b"older");
    (older.sequence, older.expires) = (Some(above), Some(now + Duration::from_secs(1)));
    let ticket = store.put(now, older);
    match stored(store, ticket) {
        Ok(()) => {
            let ticket = store.remove(&key.into());
            stored(store, ticket).unwrap();
            false
        }
        Err(why) => {
            assert_eq!(why, StoreError::Old);
            true
        }
    }
}

fn all(store: &mut Opened, what: Scan) -> Vec<Item> {
    match store.run(NOW, Op::Scan { what, after: None, limit: usize::MAX }).unwrap() {
        OpOutput::Items(found) => found,
        other => panic!("not items: {other:?}"),
    }
}

fn saved_peers(store: &mut Opened) -> Result<Vec<Arc<Contact>>, StoreError> {
    match store.run(NOW, Op::SavedPeers)? {
        OpOutput::Peers(found) => Ok(found),
        other => panic!("not peers: {other:?}"),
    }
}

fn expire(store: &mut Opened, now: Timestamp) -> usize {
    match store.run(now, Op::Expire { limit: usize::MAX, latest: Timestamp::MAX }).unwrap() {
        OpOutput::Expired(count) => count,
        other => panic!("not a count: {other:?}"),
    }
}

/// Runs one of this file's tests in a process of its own, as a helper of another.
fn helper(test: &str, path: &Path) -> std::process::Command {
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.args([test, "--exact", "--nocapture", "--test-threads=1"]).env("KAD_DISK_PATH", path);
    command
}

/// The path at which the helper works; `None` unless the test was started as a helper.
fn helper_path() -> Option<PathBuf> {
    std::env::var_os("KAD_DISK_PATH").map(PathBuf::from)
}
