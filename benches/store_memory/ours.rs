//! The memory store of this crate.

use std::hint::black_box;
use std::time::Duration;

use bytes::Bytes;
use libp2p_identity::PeerId;
use libp2p_kad_dht::core::store::StoreExt as _;
use libp2p_kad_dht::core::{Contact, MemoryStore, MemoryStoreConfig, ProviderRecord, Record, RecordKey, Timestamp};

use super::{Costs, RECORDS, Shape, VALUE_LEN, VALUES, addr, heap, key, peer_bytes};

const NOW: Timestamp = Timestamp::from_secs(1_000_000);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Room for everything, so that nothing gives way.
fn store() -> MemoryStore {
    let mut config = MemoryStoreConfig::default();
    config.max_values = usize::MAX;
    config.max_value_bytes = usize::MAX;
    config.max_provided_keys = usize::MAX;
    config.max_providers = usize::MAX;
    config.max_peers = usize::MAX;
    config.max_addr_bytes = usize::MAX;
    MemoryStore::new(config, [1; 32])
}

pub(crate) fn providers(shape: Shape) -> Costs {
    let mut costs = Costs::default();
    let before = heap();
    let mut store = store();
    costs.time("add_provider", RECORDS, |n| {
        let (key_of, peer) = shape.announcement(n);
        let contact = Contact::new(PeerId::from_bytes(&peer_bytes(peer)).unwrap(), [addr(peer)]);
        // As it comes from a peer: at another time each.
        let now = NOW + Duration::from_micros(n);
        let record = ProviderRecord::new(RecordKey::from(key(key_of)), contact, now + DAY * 2, now + DAY);
        store.add_provider(now, record).unwrap();
    });
    costs.bytes = heap() - before;
    // The first read of a peer makes a contact of it, which later ones share.
    for what in ["providers_first", "providers"] {
        costs.time(what, shape.keys, |n| {
            let Ok(found) = store.providers(NOW, &RecordKey::from(key(n))) else { return };
            assert_eq!(found.len() as u64, RECORDS / shape.keys);
            black_box(found);
        });
    }
    costs.bytes_read = heap() - before;
    costs.time("again", RECORDS, |n| {
        let (key_of, peer) = shape.announcement(n);
        let contact = Contact::new(PeerId::from_bytes(&peer_bytes(peer)).unwrap(), [addr(peer)]);
        let now = NOW + Duration::from_micros(RECORDS + n);
        let record = ProviderRecord::new(RecordKey::from(key(key_of)), contact, now + DAY * 2, now + DAY);
        store.add_provider(now, record).unwrap();
    });
    costs.time("expire", RECORDS / 1000, |_| assert!(matches!(store.expire(NOW + DAY * 3, 1000), Ok(1000))));
    costs.nanos.last_mut().unwrap().1 /= 1000.0;
    costs
}

pub(crate) fn values() -> Costs {
    let mut costs = Costs::default();
    let before = heap();
    let mut store = store();
    costs.time("put", VALUES, |n| {
        let mut record = Record::new(RecordKey::from(key(n)), Bytes::from(vec![1; VALUE_LEN]), NOW);
        record.expires = Some(NOW + DAY + Duration::from_micros(n));
        store.put(NOW, record).unwrap();
    });
    costs.bytes = heap() - before;
    costs.time("get", VALUES, |n| {
        let Ok(Some(found)) = store.get(NOW, &RecordKey::from(key(n))) else { unreachable!() };
        black_box(found);
    });
    costs.time("expire", VALUES / 1000, |_| assert!(matches!(store.expire(NOW + DAY * 3, 1000), Ok(1000))));
    costs.nanos.last_mut().unwrap().1 /= 1000.0;
    costs
}
