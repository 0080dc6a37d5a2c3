//! A million provider records on a disk: the rate of writing, the time of a start after `kill -9`, the time of a read
//! that is not in the store's cache, and the memory. Prints JSON.
//!
//! The records are written by a child process, which goes on writing until it is killed.
//!
//! `cargo bench -p libp2p-kad-dht-disk --bench disk -- [KEYS] [DIRECTORY]`, 20 providers a key.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a measurement: it reads the clock and fails loudly"
)]

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

use libp2p_identity::PeerId;
use libp2p_kad_dht::core::store::{Done, Judge, Op, OpOutput, Put, Ticket};
use libp2p_kad_dht::core::{Contact, ProviderRecord, Record, RecordKey, Store, Timestamp};
use libp2p_kad_dht_disk::{DiskStore, DiskStoreConfig};

const PROVIDERS: u64 = 20;
const PEERS: u64 = 5_000;
const READS: u64 = 20_000;
const NOW: Timestamp = Timestamp::from_secs(1_000);

/// With this first argument the program is the child process.
const CHILD: &str = "--child";

struct Bell(SyncSender<()>);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        let _ = self.0.try_send(());
    }
}

fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

fn key(n: u64) -> RecordKey {
    let mut bytes = vec![0x12, 0x20];
    bytes.extend([n.to_be_bytes(); 4].concat());
    bytes.into()
}

fn contacts() -> Vec<Arc<Contact>> {
    let peer = |n: u64| {
        let mut bytes = vec![0x00, 36, 0x08, 0x01, 0x12, 32];
        bytes.extend([n.to_be_bytes(); 4].concat());
        PeerId::from_bytes(&bytes).unwrap()
    };
    let addrs = |n: u64| {
        let host = format!("/ip4/10.{}.{}.{}", n >> 16, (n >> 8) & 255, n & 255);
        [format!("{host}/tcp/4001"), format!("{host}/udp/4001/quic-v1")].map(|addr| addr.parse().unwrap())
    };
    (0..PEERS).map(|n| Contact::new(peer(n), addrs(n))).collect()
}

/// Resident memory in MB: all of it, and without file pages.
fn resident() -> (u64, u64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok()
    };
    (field("VmRSS").unwrap_or(0) / 1_024, field("RssAnon").unwrap_or(0) / 1_024)
}

/// Waits for the next result; parks until the store wakes this thread.
fn wait(store: &mut DiskStore, waker: &Waker, bell: &Receiver<()>) -> Done {
    loop {
        if let Some((_, done)) = store.poll_done(waker) {
            return done;
        }
        bell.recv_timeout(Duration::from_secs(60)).unwrap();
    }
}

fn load(store: &mut DiskStore, waker: &Waker, bell: &Receiver<()>, keys: u64) -> Duration {
    let (contacts, mut random) = (contacts(), 88_172_645_463_325_252_u64);
    let mut order: Vec<u64> = (0..keys * PROVIDERS).collect();
    for i in (1..order.len()).rev() {
        order.swap(i, (next(&mut random) % (i as u64 + 1)) as usize);
    }
    let (started, mut waiting) = (Instant::now(), 0);
    for n in order {
        let contact = Arc::clone(&contacts[((n % keys) * 7 + n / keys * 241) as usize % contacts.len()]);
        let expires = NOW + Duration::from_secs(86_400 + next(&mut random) % 86_400);
        let record = ProviderRecord::new(key(n % keys), contact, expires, expires);
        let op = Op::AddProvider(Box::new(record), None);
        assert!(store.run(NOW, Ticket::new(n), op).is_none(), "it takes time");
        waiting += 1;
        while waiting >= 2_048 {
            assert!(matches!(wait(store, waker, bell), Ok(OpOutput::Kept { .. })));
            waiting -= 1;
        }
    }
    (0..waiting).for_each(|_| drop(wait(store, waker, bell)));
    started.elapsed()
}

/// Opens a store, fills it, prints that it is full, and then prints each further write that was acknowledged, until it
/// is killed.
fn child(path: &Path, keys: u64) {
    let (ring, bell) = sync_channel(1);
    let waker = Waker::from(Arc::new(Bell(ring)));
    let mut store = DiskStore::open(path, DiskStoreConfig::default().with_seed([7; 32])).unwrap();
    let loaded = load(&mut store, &waker, &bell, keys);
    let (rss, anon) = resident();
    println!("loaded {:.1} {rss} {anon}", loaded.as_secs_f64());
    for n in 0.. {
        let mut record = Record::new(format!("/after/{n}").as_str(), vec![7; 100], NOW);
        record.expires = Some(NOW + Duration::from_secs(86_400));
        let op = Op::Put(Box::new(Put::new(record, Judge::of_the_last())));
        assert!(store.run(NOW, Ticket::new(n), op).is_none(), "it takes time");
        assert!(matches!(wait(&mut store, &waker, &bell), Ok(OpOutput::Kept { .. })));
        println!("kept {n}");
    }
}

/// The figures that the child printed after it had filled the store, and how many of its further writes were
/// acknowledged before it was killed.
fn fill_and_kill(path: &Path, keys: u64) -> (Vec<f64>, usize) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([CHILD, &keys.to_string()])
        .arg(path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let loaded = lines.next().unwrap();
    let figures = loaded.split(' ').skip(1).map(|figure| figure.parse().unwrap()).collect();
    let mut kept = lines.by_ref().take(100).count();
    child.kill().unwrap();
    child.wait().unwrap();
    kept += lines.filter(|line| line.starts_with("kept ")).count();
    (figures, kept)
}

fn main() {
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench").peekable();
    let is_child = args.next_if(|arg| arg == CHILD).is_some();
    let keys: u64 = args.next().map_or(50_000, |text| text.parse().unwrap());
    let dir = args.next().map_or_else(std::env::temp_dir, PathBuf::from);
    if is_child {
        return child(&dir, keys);
    }
    let path = dir.join(format!("kad-disk-bench-{}", std::process::id()));
    let (ring, bell) = sync_channel(1);
    let waker = Waker::from(Arc::new(Bell(ring)));
    let (loaded, kept) = fill_and_kill(&path, keys);

    let started = Instant::now();
    let mut store = DiskStore::open(&path, DiskStoreConfig::default().with_seed([7; 32])).unwrap();
    let opened = started.elapsed();
    assert_eq!(store.usage().providers as u64, keys * PROVIDERS, "nothing acknowledged is lost");
    assert!(store.usage().values >= kept, "{kept} were acknowledged, {} are there", store.usage().values);
    let records = store.usage().providers;
    let (mut random, mut times, mut found) = (7, Vec::new(), 0);
    for _ in 0..READS {
        let key = key(next(&mut random) % keys);
        let asked = Instant::now();
        let done =
            store.run(NOW, Ticket::new(0), Op::Providers(key)).unwrap_or_else(|| wait(&mut store, &waker, &bell));
        let Ok(OpOutput::Providers(records)) = done else { unreachable!("{done:?}") };
        found += records.len();
        times.push(asked.elapsed());
    }
    times.sort();
    let percentile = |share: usize| times[(times.len() - 1) * share / 100].as_micros();
    let after_reads = resident();
    let size = std::fs::metadata(&path).unwrap().len() / 1_048_576;
    drop(store);
    std::fs::remove_file(&path).unwrap();
    println!(
        "{{\"records\":{records},\"load_s\":{:.1},\"kept_before_the_kill\":{kept},\"open_after_kill_ms\":{:.1},\"file_mb\":{size},\"read_us\":{{\"p50\":{},\"p99\":{},\
         \"max\":{}}},\"providers_a_read\":{:.1},\"rss_mb_after_load\":{},\"anon_mb_after_load\":{},\
         \"rss_mb_after_reads\":{}}}",
        loaded[0],
        opened.as_secs_f64() * 1_000.0,
        percentile(50),
        percentile(99),
        percentile(100),
        found as f64 / READS as f64,
        loaded[1],
        loaded[2],
        after_reads.0,
    );
}
