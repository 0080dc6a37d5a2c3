//! What the core keeps in memory, counted by the allocator.

use std::alloc::System;
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};

use cap::Cap;
use libp2p_identity::PeerId;
use libp2p_kad_dht::core::store::{Judge, Op, Put, Sender, StoreExt as _, Ticket};
use libp2p_kad_dht::core::{
    Contact, Dht, DhtConfig, Input, MemoryStore, MemoryStoreConfig, Operation, Output, ProviderRecord, QueryOptions,
    Record, RecordKey, Response, Store, Timestamp,
};
use multiaddr::Multiaddr;

/// Counts every byte that this process asks for.
#[global_allocator]
static HEAP: Cap<System> = Cap::new(System, usize::MAX);

/// One test at a time, since the count is of the whole process.
static TURN: Mutex<()> = Mutex::new(());

fn peer(number: u32) -> Result<PeerId, Box<dyn Error>> {
    let digest = [&[0x12, 0x20][..], &[7; 28], &number.to_be_bytes()].concat();
    Ok(PeerId::from_bytes(&digest)?)
}

/// A peer of a network of its own, with an address by each of two transports.
fn contact(number: u32) -> Result<Arc<Contact>, Box<dyn Error>> {
    let host = format!("/ip4/{}.{}.8.8", 64 + number % 32, number / 32 % 256);
    let addrs = [format!("{host}/tcp/4001").parse()?, format!("{host}/udp/4001/quic-v1").parse()?];
    Ok(Contact::new(peer(number)?, addrs))
}

fn node(config: DhtConfig) -> Result<Dht, Box<dyn Error>> {
    let store = Box::new(MemoryStore::new(MemoryStoreConfig::default(), [1; 32]));
    Ok(Dht::new(Timestamp::ZERO, contact(0)?, store, [2; 32], Arc::new(config))?)
}

#[test]
fn the_address_book_takes_a_quarter_of_a_kilobyte_a_peer() -> Result<(), Box<dyn Error>> {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut dht = node(DhtConfig::default())?;
    let before = HEAP.allocated();
    for number in 1..=5_000 {
        dht.handle_input(Timestamp::ZERO, Input::AddPeer(contact(number)?));
        while dht.poll_output().is_some() {}
    }
    let used = HEAP.allocated() - before;
    let mut known = 0;
    for number in 1..=5_000 {
        known += usize::from(dht.contact(&peer(number)?).is_some());
    }
    assert_eq!(known, 4_096);
    assert!(used <= 1 << 20, "{used} bytes, {} a peer", used / known);
    Ok(())
}

/// The most that `queries` lookups take among peers of which each answer names 40 liars, with as many and as long
/// addresses as an answer can carry, in bytes; all queries together may take eight times as much as one.
fn bytes_among_liars(queries: usize) -> Result<usize, Box<dyn Error>> {
    let mut config = DhtConfig::default();
    config.limit.query_bytes = 8 * config.limit.lookup_bytes;
    let mut dht = node(config)?;
    for number in 1..=20 {
        dht.handle_input(Timestamp::ZERO, Input::AddPeer(contact(number)?));
    }
    let addr = |port| format!("/dns4/{}.example/tcp/{port}", "a".repeat(110)).parse();
    let addrs = (1..=32).map(addr).collect::<Result<Vec<Multiaddr>, _>>()?;
    let (mut next, mut open, mut most) = (1_000, Vec::new(), 0);
    let before = HEAP.allocated();
    for number in 0..queries {
        let key = format!("key {number}").into();
        dht.start(Timestamp::ZERO, Operation::ClosestPeers { key }, QueryOptions::default())?;
    }
    for _ in 0..20 * queries {
        while let Some(output) = dht.poll_output() {
            if let Output::Send { id, .. } = output {
                dht.handle_input(Timestamp::ZERO, Input::Sent { id });
                open.push(id);
            }
        }
        let Some(id) = open.pop() else { break };
        let liars = (next..next + 40).map(|number| Ok(Contact::new(peer(number)?, addrs.iter().cloned())));
        let closer = liars.collect::<Result<Vec<_>, Box<dyn Error>>>()?;
        next += 40;
        dht.handle_input(Timestamp::ZERO, Input::Response { id, result: Ok(Response::FindNode { closer }) });
        most = most.max(HEAP.allocated() - before);
    }
    Ok(most)
}

#[test]
fn queries_among_liars_take_no_more_than_their_budgets() -> Result<(), Box<dyn Error>> {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    // What a query takes beside what answers name: its requests in flight, and its report of the peers that failed.
    const BESIDE: usize = 32 * 1024;
    let budget = DhtConfig::default().limit.lookup_bytes;
    let one = bytes_among_liars(1)?;
    assert!((budget / 2..=budget + BESIDE).contains(&one), "{one} bytes");
    let many = bytes_among_liars(24)?;
    assert!((4 * budget..=8 * (budget + BESIDE)).contains(&many), "{many} bytes");
    Ok(())
}

/// Values and provider records by turns, each from a peer and a network of its own and for a key of its own, until each
/// kind has displaced the other; then sequence numbers that are remembered.
#[test]
fn a_flooded_store_takes_no_more_than_its_bound() -> Result<(), Box<dyn Error>> {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let config = MemoryStoreConfig::default();
    let (bound, before, mut most) = (config.memory_bound(), HEAP.allocated(), 0);
    let mut store = MemoryStore::new(config, [3; 32]);
    let hour = |n: u32| Timestamp::from_secs(3_600 * u64::from(n));
    for (turn, (values, len)) in [(0, 0), (60_000, 0), (0, 0), (20_000, 900), (40_000, 10)].into_iter().enumerate() {
        let (now, first) = (hour(turn as u32), 100_000 * turn as u32);
        for number in first..first + values {
            let mut record = Record::new(format!("/v/{number}"), vec![1; len], now);
            (record.expires, record.sequence) = (Some(hour(9)), Some(7));
            let mut from = Sender::new(peer(number)?);
            from.group = Some(number.into());
            let put = Put::new(record, Judge::of_the_last()).from(from);
            store.run(now, Ticket::new(0), Op::Put(Box::new(put)));
            most = most.max(HEAP.allocated() - before);
        }
        for number in first..first + 60_000 * u32::from(values == 0) {
            let record = ProviderRecord::new(RecordKey::from(format!("{number}")), contact(number)?, hour(9), hour(9));
            let mut from = Sender::new(peer(number)?);
            from.group = Some(number.into());
            store.run(now, Ticket::new(0), Op::AddProvider(Box::new(record), Some(from)));
            most = most.max(HEAP.allocated() - before);
        }
    }
    while store.expire(hour(10), 999)? == 999 {
        most = most.max(HEAP.allocated() - before);
    }
    assert!((bound / 2..=bound).contains(&most), "{most} bytes of {bound}");
    let left = HEAP.allocated() - before;
    assert!(left <= 4 << 20, "{left} bytes are left");
    Ok(())
}
