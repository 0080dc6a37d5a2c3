//! What can be seen only from inside: that every count returns to zero, that what is kept is a copy, and that the
//! stated costs are those of the types.

use std::mem::size_of;

use bytes::Bytes;

use super::config::{KEY_OVERHEAD, PEER_OVERHEAD, PROVIDER_OVERHEAD, VALUE_OVERHEAD};
use super::providers::{Entry, Provided};
use super::*;
use crate::core::contact::Contact;

const NOW: Timestamp = Timestamp::from_secs(1_000);
const LATER: Timestamp = Timestamp::from_secs(2_000);

fn store() -> MemoryStore {
    MemoryStore::new(MemoryStoreConfig::default(), [0xab; 32])
}

fn ready<T>(read: Result<Read<T>, StoreError>) -> T {
    match read {
        Ok(Read::Ready(found)) => found,
        _ => panic!("a memory store answers at once"),
    }
}

/// Part of a message, as bytes that were decoded without a copy are.
fn part_of_a_message(bytes: &[u8]) -> Bytes {
    let message = Bytes::from([&[0; 1000], bytes, &[0; 1000]].concat());
    message.slice(1000..1000 + bytes.len())
}

#[test]
fn remote_bytes_are_copied() {
    let mut store = store();
    let key = RecordKey::new(part_of_a_message(b"/a/b"));
    let mut record = Record::new(key.clone(), part_of_a_message(b"value"), NOW);
    record.expires = Some(LATER);
    store.put(NOW, record.clone()).unwrap();
    let found = ready(store.get(NOW, &key)).unwrap();
    assert_eq!(found, record);
    assert_ne!(found.value.as_ptr(), record.value.as_ptr());
    assert_ne!(found.key.as_bytes().as_ptr(), record.key.as_bytes().as_ptr());

    let addr = "/ip4/127.0.0.1/tcp/1".parse::<multiaddr::Multiaddr>().unwrap();
    let contact = Contact::from_raw(PeerId::random(), [part_of_a_message(&addr.to_vec())]);
    store.add_provider(NOW, ProviderRecord::new(key.clone(), contact.clone(), LATER, LATER)).unwrap();
    let found = ready(store.providers(NOW, &key));
    assert_eq!(found[0].provider, contact);
    assert_ne!(found[0].provider.raw_addrs()[0].as_ptr(), contact.raw_addrs()[0].as_ptr());
    assert_ne!(found[0].key.as_bytes().as_ptr(), key.as_bytes().as_ptr());
}

#[test]
fn a_peer_is_kept_once_however_much_it_provides() {
    let mut store = store();
    let contact = Contact::new(PeerId::random(), ["/ip4/127.0.0.1/tcp/1".parse().unwrap()]);
    for n in 0..10_u8 {
        let again = Contact::from_raw(*contact.peer(), contact.raw_addrs().to_vec());
        store.add_provider(NOW, ProviderRecord::new(RecordKey::from(vec![n]), again, LATER, LATER)).unwrap();
    }
    let first = ready(store.providers(NOW, &RecordKey::from(vec![0])))[0].provider.clone();
    let last = ready(store.providers(NOW, &RecordKey::from(vec![9])))[0].provider.clone();
    assert!(std::sync::Arc::ptr_eq(&first, &last));
    assert_eq!(store.providers.peers().remote(), 1);
}

#[test]
fn every_count_returns_to_zero() {
    let mut store = store();
    for n in 0..100_u8 {
        let contact = Contact::new(PeerId::random(), ["/ip4/127.0.0.1/tcp/1".parse().unwrap()]);
        for own in [n % 3 == 0, n % 5 == 0] {
            let mut record = Record::new(vec![n % 40], vec![n; n.into()], NOW);
            (record.own, record.expires) = (own, Some(LATER));
            store.put(NOW, record).unwrap();
            let mut record = ProviderRecord::new(RecordKey::from(vec![n % 4]), contact.clone(), LATER, LATER);
            record.own = own;
            let _ = store.add_provider(NOW, record);
        }
    }
    assert!(store.values.bytes() > 0 && store.providers.peers().addr_bytes() > 0);
    while store.expire(LATER, 7).unwrap() == 7 {}
    assert_eq!(store.usage(), Usage::default());
    assert_eq!((store.values.bytes(), store.next_expiry()), (0, None));
    assert_eq!((store.providers.peers().remote(), store.providers.peers().addr_bytes()), (0, 0));
    assert!(ready(store.scan(Scan::All, None, 9)).is_empty());
}

/// An ordered map of the standard library holds 5 to 11 entries a node, and each node is pointed at.
fn in_a_map<K, V>() -> usize {
    (size_of::<K>() + size_of::<V>()) * 11 / 5 + 24
}

/// What `Bytes` allocates beside its bytes once it is shared.
const SHARED: usize = 32;

#[test]
fn the_stated_costs_are_those_of_the_types() {
    let value = in_a_map::<Key, Record>() + in_a_map::<(Timestamp, Key), ()>() + 2 * SHARED;
    assert!(value <= VALUE_OVERHEAD, "{value}");
    let key = in_a_map::<Key, Provided>() + in_a_map::<(Timestamp, Key), ()>() + SHARED + MAX_PROVIDER_KEY_LEN;
    assert!(key <= KEY_OVERHEAD, "{key}");
    // A list of three has room for four; longer ones waste less.
    let provider = size_of::<Entry>() * 2;
    assert!(provider <= PROVIDER_OVERHEAD, "{provider}");
    let counters = 2 * size_of::<usize>();
    let contact = size_of::<Contact>() + counters + 2 * SHARED + 64;
    let table = 2 * size_of::<Option<super::peers::Peer>>() + 2 * size_of::<u32>() + in_a_map::<PeerId, u32>();
    let peer = contact + table + in_a_map::<(Timestamp, u32), ()>();
    assert!(peer <= PEER_OVERHEAD, "{peer}");
}

#[test]
fn twenty_providers_of_a_key_cost_less_than_64_bytes_each() {
    let key = in_a_map::<Key, Provided>() + in_a_map::<(Timestamp, Key), ()>() + SHARED + 34;
    assert!(size_of::<Entry>() + key.div_ceil(20) <= 64, "{} + {key} / 20", size_of::<Entry>());
}

#[test]
fn the_seed_is_not_printed() {
    let text = format!("{:?}", store());
    assert!(text.contains("usage") && !text.contains("171") && !text.contains("ab, ab"), "{text}");
}
