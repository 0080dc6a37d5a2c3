//! How cost grows with what a node carries: running lookups, connections, peers of its table, records of its store.

use std::task::Context;

use bytes::Bytes;
use libp2p::swarm::NetworkBehaviour;
use libp2p_kad_dht::core::store::{Judge, Op, Put, Sender, Ticket};
use libp2p_kad_dht::core::{Contact, MemoryStore, MemoryStoreConfig, ProviderRecord, Record, Store, Timestamp};

use crate::measure::{Figures, heap};
use crate::node::{Adapter, peer};
use crate::parts::Table;
use crate::random::Random;
use crate::waiting::Waiting;

const STEPS: [u64; 5] = [1, 10, 100, 1_000, 10_000];
const NOW: Timestamp = Timestamp::from_secs(1_000_000);

/// The figures of each step under the name of the figure, in order.
pub(crate) fn run<A: Adapter, T: Table>(records: bool) -> Figures {
    let mut figures = Figures::default();
    let queries: Vec<[f64; 3]> = STEPS.into_iter().map(queries::<A>).collect();
    for (n, name) in ["event_ns", "poll_ns", "lookup_bytes"].into_iter().enumerate() {
        figures.add(name, queries.iter().map(|step| step[n].round()).collect::<Vec<_>>());
    }
    figures.add("connection_bytes", STEPS.map(connections::<A>).to_vec());
    figures.add("table_bytes", STEPS.map(table::<T>).to_vec());
    if records {
        figures.add("value_bytes", STEPS.map(|count| store(count, value)).to_vec());
        figures.add("provider_bytes", STEPS.map(|count| store(count, provider)).to_vec());
    }
    figures
}

/// Nanoseconds of an unrelated event and of a poll while this many lookups wait, and bytes of each lookup.
fn queries<A: Adapter>(count: u64) -> [f64; 3] {
    let mut waiting = Waiting::<A>::new(true);
    let before = heap();
    waiting.start(count);
    let bytes = heap().saturating_sub(before) as f64 / count as f64;
    let mut cx = Context::from_waker(futures::task::noop_waker_ref());
    let poll = crate::waiting::repeated(|_| _ = std::hint::black_box(waiting.behaviour.poll(&mut cx)));
    let event = crate::waiting::repeated(|n| waiting.unrelated_event(n));
    [event, poll, bytes]
}

/// Bytes of a behaviour and its handlers for each of this many connections.
fn connections<A: Adapter>(count: u64) -> u64 {
    let mut waiting = Waiting::<A>::with_peers(&[]);
    let before = heap();
    let addr = "/ip4/10.0.0.1/udp/4001/quic-v1".parse().expect("an address");
    let handlers: Vec<_> = (0..count).map(|n| waiting.connect(n as usize, peer(78, n), &addr)).collect();
    waiting.drain();
    let bytes = heap().saturating_sub(before) as u64 / count;
    drop(handlers);
    bytes
}

/// Bytes of a table to which this many peers were offered, in all.
fn table<T: Table>(count: u64) -> u64 {
    let peers = Random::new(1).peers(count, 2);
    let before = heap();
    let mut table = T::new(peer(8, 8));
    peers.iter().for_each(|(peer, addrs)| table.add(peer, addrs));
    heap().saturating_sub(before) as u64
}

/// Bytes of each of this many records in a store.
fn store(count: u64, write: impl Fn(u64, &Judge) -> Op) -> u64 {
    let (mut store, judge) = (MemoryStore::new(MemoryStoreConfig::default(), [1; 32]), Judge::of_the_last());
    let before = heap();
    for n in 0..count {
        store.run(NOW, Ticket::new(n), write(n, &judge)).expect("at once").expect("room");
    }
    heap().saturating_sub(before) as u64 / count
}

fn key(n: u64) -> Vec<u8> {
    Random::new(n).key()
}

fn value(n: u64, judge: &Judge) -> Op {
    let mut record = Record::new(key(n), Bytes::from(vec![1; 100]), NOW);
    record.expires = Some(NOW + std::time::Duration::from_secs(3600));
    Op::Put(Box::new(Put::new(record, judge.clone()).from(Sender::new(peer(77, n % 1_000)))))
}

fn provider(n: u64, _: &Judge) -> Op {
    let addr = "/ip4/10.0.0.1/udp/4001/quic-v1".parse().expect("an address");
    let (contact, hour) = (Contact::new(peer(77, n % 1_000), [addr]), std::time::Duration::from_secs(3600));
    let record = ProviderRecord::new(key(n / 20).into(), contact, NOW + hour, NOW + hour);
    Op::AddProvider(Box::new(record), Some(Sender::new(peer(77, n % 1_000))))
}
