//! The store on a disk: the contract, what a start finds again, what `kill -9` leaves, and what a disk can do wrong.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

#[path = "disk/contract.rs"]
mod contract;
#[path = "disk/damage.rs"]
mod damage;
#[path = "disk/errors.rs"]
mod errors;
#[path = "disk/fair.rs"]
mod fair;
#[path = "disk/kill.rs"]
mod kill;
#[path = "disk/slow.rs"]
mod slow;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Waker;
use std::time::Duration;

use libp2p_identity::PeerId;
use libp2p_kad_dht::core::store::{Done, Item, Loaded, Read, Scan, Ticket, Write};
use libp2p_kad_dht::core::{Contact, ProviderRecord, Record, RecordKey, Store, StoreError, Timestamp};
use libp2p_kad_dht_disk::{DiskStore, DiskStoreConfig};

const NOW: Timestamp = Timestamp::from_secs(1_000);
const LATER: Timestamp = Timestamp::from_secs(2_000);

/// A directory that is gone after the test.
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

fn open(path: &Path) -> DiskStore {
    DiskStore::open(path, config()).unwrap()
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

/// Waits for this ticket, and for no other.
fn wait(store: &mut DiskStore, ticket: Ticket) -> Done {
    for _ in 0..30_000 {
        while let Some(done) = store.poll_done(Waker::noop()) {
            match &done {
                Done::Stored { ticket: t, .. } | Done::Loaded { ticket: t, .. } if *t == ticket => return done,
                _ => {}
            }
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("{ticket} was not reported within 30 s")
}

fn stored(store: &mut DiskStore, write: Result<Write, StoreError>) -> Result<(), StoreError> {
    let Write::Pending(ticket) = write? else { return Ok(()) };
    match wait(store, ticket) {
        Done::Stored { result, .. } => result,
        other => panic!("not stored: {other:?}"),
    }
}

fn loaded(store: &mut DiskStore, ticket: Ticket) -> Loaded {
    match wait(store, ticket) {
        Done::Loaded { result, .. } => result.unwrap(),
        other => panic!("not loaded: {other:?}"),
    }
}

fn get(store: &mut DiskStore, now: Timestamp, key: &str) -> Option<Record> {
    match store.get(now, &key.into()).unwrap() {
        Read::Ready(found) => found,
        Read::Pending(ticket) => match loaded(store, ticket) {
            Loaded::Value(found) => found,
            other => panic!("not a value: {other:?}"),
        },
    }
}

fn providers(store: &mut DiskStore, key: &str) -> Vec<ProviderRecord> {
    match store.providers(NOW, &key.into()).unwrap() {
        Read::Ready(found) => found,
        Read::Pending(ticket) => match loaded(store, ticket) {
            Loaded::Providers(found) => found,
            other => panic!("not providers: {other:?}"),
        },
    }
}

fn sequence(store: &mut DiskStore, now: Timestamp, key: &str) -> Option<u64> {
    match store.sequence(now, &key.into()).unwrap() {
        Read::Ready(found) => found,
        Read::Pending(ticket) => match loaded(store, ticket) {
            Loaded::Sequence(found) => found,
            other => panic!("not a sequence: {other:?}"),
        },
    }
}

fn all(store: &mut DiskStore, what: Scan) -> Vec<Item> {
    match store.scan(what, None, usize::MAX).unwrap() {
        Read::Ready(found) => found,
        Read::Pending(ticket) => match loaded(store, ticket) {
            Loaded::Items(found) => found,
            other => panic!("not items: {other:?}"),
        },
    }
}

fn expire(store: &mut DiskStore, now: Timestamp) -> usize {
    match store.expire(now, usize::MAX).unwrap() {
        Read::Ready(count) => count,
        Read::Pending(ticket) => match loaded(store, ticket) {
            Loaded::Expired(count) => count,
            other => panic!("not a count: {other:?}"),
        },
    }
}

/// Runs one of this file's tests in a process of its own, as a helper of another.
fn helper(test: &str, path: &Path) -> std::process::Command {
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.args([test, "--exact", "--nocapture", "--test-threads=1"]).env("KAD_DISK_PATH", path);
    command
}

/// Where the helper is to work; `None` where the test was not started as one.
fn helper_path() -> Option<PathBuf> {
    std::env::var_os("KAD_DISK_PATH").map(PathBuf::from)
}
