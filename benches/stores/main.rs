//! The costs of a memory store compared with libp2p-kad's: nanoseconds per operation and bytes of heap per record, in
//! one run.
//!
//! `cargo bench --bench stores -- [--quick] [--json]`. Rounds of both stores alternate, and medians are compared. The
//! data for a store is prepared before the clock starts, for both alike; bytes are those requested from the allocator.
//! `--json` prints one object: `{"ratios": {NAME: {"ratio", "bar", "ours", "theirs", "unit"}}}`, where a ratio above
//! one favours this crate's store, and the bar is the ratio that the crate promises.
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
#![expect(clippy::unwrap_used, reason = "a benchmark that fails has no figures to give")]

mod ours;
mod theirs;

use std::alloc::System;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use cap::Cap;
use libp2p_identity::PeerId;
use multiaddr::{Multiaddr, Protocol};

#[global_allocator]
static HEAP: Cap<System> = Cap::new(System, usize::MAX);

/// The measures, in nanoseconds per operation or bytes per record, with the promised ratio.
const MEASURES: [(&str, &str, f64); 6] = [
    ("provider_insert", "ns", 1.0),
    ("provider_read20", "ns", 5.0),
    ("provider_heap", "bytes", 5.0),
    ("value_put", "ns", 1.0),
    ("value_get", "ns", 1.0),
    ("value_heap", "bytes", 1.2),
];

/// One figure for each of [`MEASURES`].
type Figures = [f64; MEASURES.len()];

/// Number of providers of each key.
const PER_KEY: u64 = 20;
/// Length of a value in bytes.
const VALUE_LEN: usize = 100;
/// Number of operations prepared together before the clock starts.
const BATCH: u64 = 10_000;

/// Amount of data in one round.
#[derive(Clone, Copy)]
struct Load {
    /// Keys with providers.
    keys: u64,
    /// Peers that provide them, and that send values.
    peers: u64,
    values: u64,
    rounds: usize,
}

const FULL: Load = Load { keys: 50_000, peers: 10_000, values: 100_000, rounds: 5 };
const QUICK: Load = Load { keys: 10_000, peers: 2_000, values: 50_000, rounds: 3 };

impl Load {
    /// The key and the peer of the `n`th announcement: keys in rotation, so that no key is filled at once.
    fn announcement(self, n: u64) -> (u64, u64) {
        let (key, round) = (n % self.keys, n / self.keys);
        (key, (key * PER_KEY + round) % self.peers)
    }
}

/// A SHA-256 multihash, like the name of content.
fn key(n: u64) -> Vec<u8> {
    let mut bytes = vec![0x12, 0x20];
    bytes.extend([0x9e37_79b9_7f4a_7c15, 0xbf58_476d_1ce4_e5b9, 0x94d0_49bb_1331_11eb, 1_u64].iter().flat_map(|odd| {
        let mixed = (n + 1).wrapping_mul(*odd);
        (mixed ^ (mixed >> 29)).to_be_bytes()
    }));
    bytes
}

/// An id as long as that of an Ed25519 key.
fn peer(n: u64) -> PeerId {
    let mut bytes = vec![0x00, 0x24, 0x08, 0x01, 0x12, 0x20];
    bytes.extend(&key(n)[2..]);
    PeerId::from_bytes(&bytes).unwrap()
}

fn addr(n: u64) -> Multiaddr {
    Multiaddr::empty().with(Protocol::Ip4(Ipv4Addr::from(0x0a00_0000 | n as u32))).with(Protocol::Tcp(4001))
}

/// The `n`th of `all` in an order that no store keeps.
fn shuffled(n: u64, all: u64) -> u64 {
    (n * 7_919 + 13) % all
}

/// Prepares `count` items in batches, and returns how many nanoseconds `each` took per item.
fn time<T>(count: u64, make: impl Fn(u64) -> T, mut each: impl FnMut(T)) -> f64 {
    let mut took = Duration::ZERO;
    for first in (0..count).step_by(BATCH as usize) {
        let batch: Vec<T> = (first..count.min(first + BATCH)).map(&make).collect();
        let start = Instant::now();
        batch.into_iter().for_each(&mut each);
        took += start.elapsed();
    }
    took.as_nanos() as f64 / count as f64
}

fn heap() -> usize {
    HEAP.allocated()
}

fn median(rounds: &[Figures], at: usize) -> f64 {
    let mut all: Vec<f64> = rounds.iter().map(|figures| figures[at]).collect();
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

fn main() {
    let has = |flag: &str| std::env::args().any(|arg| arg == flag);
    let load = if has("--quick") { QUICK } else { FULL };
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..load.rounds {
        // Alternate the order, since the allocator keeps a state.
        if round % 2 == 0 {
            ours.push(ours::run(load));
            theirs.push(theirs::run(load));
        } else {
            theirs.push(theirs::run(load));
            ours.push(ours::run(load));
        }
    }
    let mut ratios = serde_json::Map::new();
    for (at, (name, unit, bar)) in MEASURES.into_iter().enumerate() {
        let (ours, theirs) = (median(&ours, at), median(&theirs, at));
        let tenths = |figure: f64| (figure * 10.0).round() / 10.0;
        let ratio = (theirs / ours * 100.0).round() / 100.0;
        if !has("--json") {
            println!("{name:16} {:8.1} {unit}, libp2p-kad {:8.1} {unit}: {ratio:5.2} × (bar {bar})", ours, theirs);
        }
        let figures = serde_json::json!({
            "ratio": ratio, "bar": bar, "ours": tenths(ours), "theirs": tenths(theirs), "unit": unit,
        });
        ratios.insert(name.to_owned(), figures);
    }
    if has("--json") {
        println!("{}", serde_json::json!({ "ratios": ratios }));
    }
}
