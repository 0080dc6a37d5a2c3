//! libp2p-kad's memory store.

use std::hint::black_box;
use std::time::{Duration, Instant};

use libp2p_identity::PeerId;
use libp2p_kad::store::{MemoryStore, MemoryStoreConfig, RecordStore};
use libp2p_kad::{ProviderRecord, Record, RecordKey};

use super::{Figures, Load, PER_KEY, VALUE_LEN, addr, heap, key, peer, shuffled, time};

/// Room for everything.
fn store() -> MemoryStore {
    let config = MemoryStoreConfig {
        max_records: usize::MAX,
        max_value_bytes: usize::MAX,
        max_providers_per_key: PER_KEY as usize,
        max_provided_keys: usize::MAX,
    };
    MemoryStore::with_config(PeerId::random(), config)
}

pub(crate) fn run(load: Load) -> Figures {
    let [insert, read, provider_heap] = providers(load);
    let [put, get, value_heap] = values(load);
    [insert, read, provider_heap, put, get, value_heap]
}

fn expires() -> Option<Instant> {
    Some(Instant::now() + Duration::from_secs(48 * 3600))
}

fn providers(load: Load) -> [f64; 3] {
    let (records, before) = (load.keys * PER_KEY, heap());
    let mut store = store();
    let announcement = |n| {
        let (key_of, peer_of) = load.announcement(n);
        let (key, addresses) = (RecordKey::new(&key(key_of)), vec![addr(peer_of)]);
        ProviderRecord { key, provider: peer(peer_of), expires: expires(), addresses }
    };
    let insert = time(records, announcement, |record| store.add_provider(record).unwrap());
    let asked = |n| RecordKey::new(&key(shuffled(n, load.keys)));
    let read = time(load.keys, asked, |key| {
        assert_eq!(black_box(store.providers(&key)).len() as u64, PER_KEY);
    });
    [insert, read, (heap() - before) as f64 / records as f64]
}

fn values(load: Load) -> [f64; 3] {
    let before = heap();
    let mut store = store();
    let sent =
        |n| Record { key: RecordKey::new(&key(n)), value: vec![1; VALUE_LEN], publisher: None, expires: expires() };
    let put = time(load.values, sent, |record| store.put(record).unwrap());
    let asked = |n| RecordKey::new(&key(shuffled(n, load.values)));
    let get = time(load.values, asked, |key| {
        // The behaviour copies it into the answer.
        drop(black_box(store.get(&key).map(|found| found.into_owned()).unwrap()));
    });
    [put, get, (heap() - before) as f64 / load.values as f64]
}
