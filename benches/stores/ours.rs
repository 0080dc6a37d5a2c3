//! The memory store of this crate.

use std::hint::black_box;
use std::time::Duration;

use bytes::Bytes;
use libp2p_kad_dht::core::store::{Judge, Op, OpOutput, Put, Sender, Ticket};
use libp2p_kad_dht::core::{
    Contact, MemoryStore, MemoryStoreConfig, ProviderRecord, Record, RecordKey, Store, Timestamp,
};

use super::{Figures, Load, PER_KEY, VALUE_LEN, addr, heap, key, peer, shuffled, time};

const NOW: Timestamp = Timestamp::from_secs(1_000_000);
const DAY: Duration = Duration::from_secs(24 * 3600);
const TICKET: Ticket = Ticket::new(0);

/// Room for everything, so that nothing is evicted.
fn store() -> MemoryStore {
    let mut config = MemoryStoreConfig::default();
    config.max_values = usize::MAX;
    config.max_bytes = usize::MAX;
    config.max_providers = usize::MAX;
    MemoryStore::new(config, [1; 32])
}

/// Each peer shares its IP group with others, as in a network where IP groups count.
fn sender(n: u64) -> Sender {
    let mut sender = Sender::new(peer(n));
    sender.group = Some(n / 4);
    sender
}

/// Each record comes at a different time.
fn at(n: u64) -> Timestamp {
    NOW + Duration::from_micros(n)
}

pub(crate) fn run(load: Load) -> Figures {
    let [insert, read, provider_heap] = providers(load);
    let [put, get, value_heap] = values(load);
    [insert, read, provider_heap, put, get, value_heap]
}

fn providers(load: Load) -> [f64; 3] {
    let (records, before) = (load.keys * PER_KEY, heap());
    let mut store = store();
    let announcement = |n| {
        let (key_of, peer_of) = load.announcement(n);
        let (contact, now) = (Contact::new(peer(peer_of), [addr(peer_of)]), at(n));
        let record = ProviderRecord::new(key(key_of).into(), contact, now + DAY * 2, now + DAY);
        (now, Op::AddProvider(Box::new(record), Some(sender(peer_of))))
    };
    let insert = time(records, announcement, |(now, op)| {
        let done = store.run(now, TICKET, op);
        assert!(matches!(done, Some(Ok(OpOutput::Kept { .. }))));
    });
    let asked = |n| RecordKey::from(key(shuffled(n, load.keys)));
    let read = time(load.keys, asked, |key| match store.run(NOW, TICKET, Op::Providers(key)) {
        Some(Ok(OpOutput::Providers(found))) => assert_eq!(black_box(found).len() as u64, PER_KEY),
        _ => unreachable!(),
    });
    // After everything was read once.
    [insert, read, (heap() - before) as f64 / records as f64]
}

fn values(load: Load) -> [f64; 3] {
    let before = heap();
    let (mut store, judge) = (store(), Judge::of_the_last());
    let sent = |n| {
        let (now, value) = (at(n), Bytes::from(vec![1; VALUE_LEN]));
        let mut record = Record::new(key(n), value, now);
        record.expires = Some(now + DAY);
        (now, Op::Put(Box::new(Put::new(record, judge.clone()).from(sender(n % load.peers)))))
    };
    let put = time(load.values, sent, |(now, op)| {
        let done = store.run(now, TICKET, op);
        assert!(matches!(done, Some(Ok(OpOutput::Kept { .. }))));
    });
    let asked = |n| RecordKey::from(key(shuffled(n, load.values)));
    let get = time(load.values, asked, |key| match store.run(NOW, TICKET, Op::Get(key)) {
        Some(Ok(OpOutput::Value(Some(found)))) => drop(black_box(found)),
        _ => unreachable!(),
    });
    [put, get, (heap() - before) as f64 / load.values as f64]
}
