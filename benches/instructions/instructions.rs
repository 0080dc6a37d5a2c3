//! The instructions of ten paths of the core, counted by valgrind, so that a change that makes one dearer is seen on any
//! machine.
//!
//! `.ci/instructions.sh` compares them with those of an earlier commit; `cargo bench --bench instructions` prints them.
//! It needs valgrind and `gungraun-runner` in the version of the library. What a path needs is made before it is
//! counted, and dropped after it.
#![expect(clippy::expect_used, reason = "a benchmark that fails has no figures to give")]
#![allow(missing_docs, unreachable_pub, reason = "the harness is generated")]

use std::hint::black_box;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gungraun::{library_benchmark, library_benchmark_group, main};
use libp2p_identity::PeerId;
use libp2p_kad_dht::core::store::{Judge, Op, Put, Sender, Ticket};
use libp2p_kad_dht::core::{
    Contact, Dht, DhtConfig, InboundId, Input, Kind, MemoryStore, MemoryStoreConfig, Operation, Output, PeerRecord,
    ProviderRecord, QueryOptions, Record, RecordKey, Request, RequestId, Response, Store, Timestamp,
};
use libp2p_kad_dht::wire;
use multiaddr::{Multiaddr, Protocol};

const NOW: Timestamp = Timestamp::from_secs(1_000_000);
const DAY: Duration = Duration::from_secs(24 * 3600);
/// Times that a short path is run.
const TIMES: u64 = 50;

/// 32 bytes without a pattern.
fn bytes(n: u64) -> [u8; 32] {
    let mut bytes = [0; 32];
    for (part, odd) in bytes.chunks_exact_mut(8).zip([0x9e37_79b9_7f4a_7c15, 0xbf58_476d_1ce4_e5b9, 0x94d0_49bb, 1]) {
        let mixed = (n + 1).wrapping_mul(odd);
        part.copy_from_slice(&(mixed ^ (mixed >> 29)).to_be_bytes());
    }
    bytes
}

/// A SHA-256 multihash, like the name of content.
fn key(n: u64) -> Bytes {
    [&[0x12, 0x20][..], &bytes(n)].concat().into()
}

/// An id as long as that of an Ed25519 key.
fn peer(n: u64) -> PeerId {
    let id = [&[0x00, 0x24, 0x08, 0x01, 0x12, 0x20][..], &bytes(n)].concat();
    PeerId::from_bytes(&id).expect("an id")
}

/// A peer with four addresses.
fn contact(n: u64) -> Arc<Contact> {
    let addr = |port: u16| {
        let ip = Ipv4Addr::from_bits(0x1400_0000 | u32::try_from(n).expect("a small number"));
        Multiaddr::empty().with(Protocol::Ip4(ip)).with(Protocol::Udp(port)).with(Protocol::QuicV1)
    };
    Contact::new(peer(n), (4001..4005).map(addr))
}

fn drain(dht: &mut Dht) -> Vec<Output> {
    std::iter::from_fn(|| dht.poll_output()).collect()
}

fn empty_node() -> Dht {
    let store = Box::new(MemoryStore::new(MemoryStoreConfig::default(), [1; 32]));
    let dht = Dht::new(NOW, Contact::new(peer(0), []), store, [2; 32], Arc::new(DhtConfig::default()));
    dht.expect("the defaults are valid")
}

/// A node that has met 2,000 peers.
fn node() -> Dht {
    let mut dht = empty_node();
    for n in 1..=2_000 {
        dht.admit_verified(NOW, &contact(n));
    }
    drain(&mut dht);
    dht
}

fn answer() -> Response {
    Response::FindNode { closer: (1..=20).map(contact).collect() }
}

/// An answer as it comes from a stream, without its length.
fn received() -> Bytes {
    let framed = wire::encode_response(&answer(), wire::MAX_OUT).expect("it fits");
    framed.slice(2..)
}

/// A node with a lookup that waits for an answer, and one that names twenty peers closer to the key.
fn looking_up() -> (Dht, RequestId, Response) {
    let mut dht = node();
    dht.start(NOW, Operation::ClosestPeers { key: key(7) }, QueryOptions::default()).expect("room");
    let sent: Vec<RequestId> = drain(&mut dht)
        .into_iter()
        .filter_map(|output| if let Output::Send { id, .. } = output { Some(id) } else { None })
        .collect();
    for id in &sent {
        dht.handle_input(NOW, Input::Sent { id: *id });
    }
    drain(&mut dht);
    (dht, *sent.first().expect("a request"), Response::FindNode { closer: (3_000..3_020).map(contact).collect() })
}

fn provider_ops() -> Vec<Op> {
    let record = |n| Box::new(ProviderRecord::new(key(n % 5).into(), contact(n), NOW + DAY * 2, NOW + DAY));
    (0..TIMES).map(|n| Op::AddProvider(record(n), Some(Sender::new(peer(n))))).collect()
}

fn put_ops() -> Vec<Op> {
    let judge = Judge::of_the_last();
    let put = |n| {
        let mut record = Record::new(key(n), Bytes::from(vec![1; 100]), NOW);
        record.expires = Some(NOW + DAY);
        Op::Put(Box::new(Put::new(record, judge.clone()).from(Sender::new(peer(n)))))
    };
    (0..TIMES).map(put).collect()
}

/// A store after these writes.
fn store_with(writes: Vec<Op>) -> MemoryStore {
    let mut store = MemoryStore::new(MemoryStoreConfig::default(), [1; 32]);
    run(&mut store, writes);
    store
}

fn reads(read: impl Fn(RecordKey) -> Op) -> Vec<Op> {
    (0..TIMES).map(|n| read(key(n % 5).into())).collect()
}

fn provider_inserts() -> (MemoryStore, Vec<Op>) {
    (store_with(Vec::new()), provider_ops())
}

fn provider_reads() -> (MemoryStore, Vec<Op>) {
    (store_with(provider_ops()), reads(Op::Providers))
}

fn value_puts() -> (MemoryStore, Vec<Op>) {
    (store_with(Vec::new()), put_ops())
}

fn value_gets() -> (MemoryStore, Vec<Op>) {
    (store_with(put_ops()), reads(Op::Get))
}

fn run(store: &mut MemoryStore, ops: Vec<Op>) {
    for op in ops {
        black_box(store.run(NOW, Ticket::new(0), op)).expect("at once").expect("no error");
    }
}

#[library_benchmark]
#[bench::full_table(setup = node)]
fn closest(dht: Dht) -> (Dht, Vec<PeerRecord>) {
    let found = (0..TIMES).flat_map(|n| dht.nearest(&RecordKey::from(key(n)).key(), 20)).collect();
    (dht, found)
}

#[library_benchmark]
#[bench::twenty_peers(setup = received)]
fn decode(body: Bytes) -> Response {
    wire::decode_response(Kind::FindNode, black_box(body)).expect("an answer")
}

#[library_benchmark]
#[bench::twenty_peers(setup = answer)]
fn encode(response: Response) -> (Response, Bytes) {
    let bytes = wire::encode_response(black_box(&response), wire::MAX_OUT).expect("it fits");
    (response, bytes)
}

#[library_benchmark]
#[bench::full_table(setup = node)]
fn find_node(mut dht: Dht) -> (Dht, Vec<Output>) {
    for n in 0..TIMES {
        let request = Request::FindNode { key: key(n) };
        dht.handle_input(NOW, Input::Request { from: peer(9_999), id: InboundId::new(n), request });
    }
    let outputs = drain(&mut dht);
    (dht, outputs)
}

#[library_benchmark]
#[bench::twenty_new_peers(setup = looking_up)]
fn lookup_step((mut dht, id, response): (Dht, RequestId, Response)) -> (Dht, Vec<Output>) {
    dht.handle_input(NOW, Input::Response { id, result: Ok(response) });
    let outputs = drain(&mut dht);
    (dht, outputs)
}

#[library_benchmark]
#[bench::empty_table(setup = empty_node)]
fn admission(mut dht: Dht) -> (Dht, Vec<Output>) {
    for n in 1..=TIMES {
        dht.admit_verified(NOW, &contact(n));
    }
    let outputs = drain(&mut dht);
    (dht, outputs)
}

#[library_benchmark]
#[bench::provider_insert(setup = provider_inserts)]
#[bench::provider_read(setup = provider_reads)]
#[bench::value_put(setup = value_puts)]
#[bench::value_get(setup = value_gets)]
fn store((mut store, ops): (MemoryStore, Vec<Op>)) -> MemoryStore {
    run(&mut store, ops);
    store
}

library_benchmark_group!(
    name = paths,
    benchmarks = [closest, decode, encode, find_node, lookup_step, admission, store]
);
main!(library_benchmark_groups = paths);
