//! What a memory store costs: bytes of heap a record and nanoseconds an operation, beside libp2p-kad's.
//!
//! `cargo bench --bench store_memory` prints one line of JSON for each store and shape. All figures come from one
//! process, one after the other; bytes are those that were asked of the allocator.
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
#![expect(clippy::unwrap_used, reason = "a benchmark that fails has no figures to give")]

mod ours;
mod theirs;

use std::alloc::System;
use std::net::Ipv4Addr;
use std::time::Instant;

use cap::Cap;
use multiaddr::{Multiaddr, Protocol};

#[global_allocator]
static HEAP: Cap<System> = Cap::new(System, usize::MAX);

/// How many provider records each shape has.
const RECORDS: u64 = 1_000_000;
/// How many values are kept.
const VALUES: u64 = 100_000;
/// How long each of them is.
const VALUE_LEN: usize = 100;

/// Which provider provides which key.
#[derive(Clone, Copy)]
struct Shape {
    name: &'static str,
    keys: u64,
    peers: u64,
}

const SHAPES: [Shape; 3] = [
    Shape { name: "50,000 keys x 20, 10,000 peers", keys: 50_000, peers: 10_000 },
    Shape { name: "50,000 keys x 20, 1,000,000 peers", keys: 50_000, peers: 1_000_000 },
    Shape { name: "1,000,000 keys x 1, 1,000,000 peers", keys: 1_000_000, peers: 1_000_000 },
];

impl Shape {
    /// The key and the peer of the `n`th announcement: keys in turn, so that no key is filled at once.
    fn announcement(self, n: u64) -> (u64, u64) {
        let (key, round) = (n % self.keys, n / self.keys);
        (key, (key * (RECORDS / self.keys) + round) % self.peers)
    }
}

/// A multihash of SHA-256, as content is named by.
fn key(n: u64) -> Vec<u8> {
    let mut bytes = vec![0x12, 0x20];
    bytes.extend([0x9e37_79b9_7f4a_7c15, 0xbf58_476d_1ce4_e5b9, 0x94d0_49bb_1331_11eb, 1_u64].iter().flat_map(|odd| {
        let mixed = (n + 1).wrapping_mul(*odd);
        (mixed ^ (mixed >> 29)).to_be_bytes()
    }));
    bytes
}

/// An id as long as that of an Ed25519 key.
fn peer_bytes(n: u64) -> Vec<u8> {
    let mut bytes = vec![0x00, 0x24, 0x08, 0x01, 0x12, 0x20];
    bytes.extend(&key(n)[2..]);
    bytes
}

fn addr(n: u64) -> Multiaddr {
    Multiaddr::empty().with(Protocol::Ip4(Ipv4Addr::from(0x0a00_0000 | n as u32))).with(Protocol::Tcp(4001))
}

/// What one store costs in one shape.
#[derive(Default)]
struct Costs {
    bytes: usize,
    /// The same once everything was read.
    bytes_read: usize,
    nanos: Vec<(&'static str, f64)>,
}

impl Costs {
    fn print(&self, store: &str, shape: &str, records: u64) {
        let nanos: serde_json::Map<_, _> =
            self.nanos.iter().map(|(what, nanos)| ((*what).to_owned(), serde_json::json!(nanos.round()))).collect();
        let each = |bytes: usize| (bytes as f64 / records as f64 * 10.0).round() / 10.0;
        println!(
            "{}",
            serde_json::json!({
                "store": store, "shape": shape, "records": records,
                "bytes_per_record": each(self.bytes), "after_reads": each(self.bytes.max(self.bytes_read)), "ns_per_operation": nanos,
            })
        );
    }

    /// Does something `count` times, and keeps how long each took.
    fn time(&mut self, what: &'static str, count: u64, mut each: impl FnMut(u64)) {
        let start = Instant::now();
        (0..count).for_each(&mut each);
        self.nanos.push((what, start.elapsed().as_nanos() as f64 / count as f64));
    }
}

fn heap() -> usize {
    HEAP.allocated()
}

fn main() {
    for shape in SHAPES {
        ours::providers(shape).print("MemoryStore", shape.name, RECORDS);
        theirs::providers(shape).print("libp2p-kad", shape.name, RECORDS);
    }
    let values = "values of 100 bytes under keys of 34";
    ours::values().print("MemoryStore", values, VALUES);
    theirs::values().print("libp2p-kad", values, VALUES);
}
