//! libp2p-kad's memory store.

use std::hint::black_box;
use std::time::{Duration, Instant};

use libp2p_identity::PeerId;
use libp2p_kad::store::{MemoryStore, MemoryStoreConfig, RecordStore};
use libp2p_kad::{ProviderRecord, Record, RecordKey};

use super::{Costs, RECORDS, Shape, VALUE_LEN, VALUES, addr, heap, key, peer_bytes};

/// Room for everything.
fn store() -> MemoryStore {
    let config = MemoryStoreConfig {
        max_records: usize::MAX,
        max_value_bytes: usize::MAX,
        max_providers_per_key: 20,
        max_provided_keys: usize::MAX,
    };
    MemoryStore::with_config(PeerId::random(), config)
}

pub(crate) fn providers(shape: Shape) -> Costs {
    let mut costs = Costs::default();
    let before = heap();
    let mut store = store();
    let start = Instant::now();
    let record = |n: u64| {
        let (key_of, peer) = shape.announcement(n);
        ProviderRecord {
            key: RecordKey::new(&key(key_of)),
            provider: PeerId::from_bytes(&peer_bytes(peer)).unwrap(),
            expires: Some(start + Duration::from_secs(48 * 3600)),
            addresses: vec![addr(peer)],
        }
    };
    costs.time("add_provider", RECORDS, |n| store.add_provider(record(n)).unwrap());
    costs.bytes = heap() - before;
    costs.time("providers", shape.keys, |n| {
        let found = store.providers(&RecordKey::new(&key(n)));
        assert_eq!(found.len() as u64, RECORDS / shape.keys);
        black_box(found);
    });
    costs.time("again", RECORDS, |n| store.add_provider(record(n)).unwrap());
    // It has no sweep: the behaviour removes what a walk over all records finds. One by one, as it does.
    costs.time("expire", RECORDS, |n| {
        let (key_of, peer) = shape.announcement(n);
        let provider = PeerId::from_bytes(&peer_bytes(peer)).unwrap();
        store.remove_provider(&RecordKey::new(&key(key_of)), &provider);
    });
    costs
}

pub(crate) fn values() -> Costs {
    let mut costs = Costs::default();
    let before = heap();
    let mut store = store();
    let expires = Some(Instant::now() + Duration::from_secs(48 * 3600));
    costs.time("put", VALUES, |n| {
        let record = Record { key: RecordKey::new(&key(n)), value: vec![1; VALUE_LEN], publisher: None, expires };
        store.put(record).unwrap();
    });
    costs.bytes = heap() - before;
    costs.time("get", VALUES, |n| {
        // The behaviour copies it into the answer.
        black_box(store.get(&RecordKey::new(&key(n))).map(|found| found.into_owned()));
    });
    costs.time("expire", VALUES, |n| store.remove(&RecordKey::new(&key(n))));
    costs
}
