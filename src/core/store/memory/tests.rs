//! What can be seen only from inside: that every count returns to zero, that what is kept is a copy, and that the
//! stated costs are those of the types.

use std::mem::size_of;

use bytes::Bytes;
use libp2p_identity::PeerId;

use super::config::{KEY_OVERHEAD, PEER_OVERHEAD, PROVIDER_OVERHEAD, SEQUENCE_OVERHEAD, VALUE_OVERHEAD};
use super::providers::{Entry, Provided};
use super::*;
use crate::core::contact::Contact;
use crate::core::record::{Record, RecordKey};
use crate::core::store::StoreExt as _;

const NOW: Timestamp = Timestamp::from_secs(1_000);
const LATER: Timestamp = Timestamp::from_secs(2_000);

fn store() -> MemoryStore {
    MemoryStore::new(MemoryStoreConfig::default(), [0xab; 32])
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
    let found = store.get(NOW, &key).unwrap().unwrap();
    assert_eq!(found, record);
    assert_ne!(found.value.as_ptr(), record.value.as_ptr());
    assert_ne!(found.key.as_bytes().as_ptr(), record.key.as_bytes().as_ptr());

    let addr = "/ip4/127.0.0.1/tcp/1".parse::<multiaddr::Multiaddr>().unwrap();
    let contact = Contact::from_raw(PeerId::random(), [part_of_a_message(&addr.to_vec())]);
    store.add_provider(NOW, ProviderRecord::new(key.clone(), contact.clone(), LATER, LATER)).unwrap();
    let found = store.providers(NOW, &key).unwrap();
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
    let first = store.providers(NOW, &RecordKey::from(vec![0])).unwrap()[0].provider.clone();
    let last = store.providers(NOW, &RecordKey::from(vec![9])).unwrap()[0].provider.clone();
    assert!(std::sync::Arc::ptr_eq(&first, &last));
    assert_eq!(store.providers.peers().len(), 1);
}

/// Ids of any length, with any addresses, before and after they were read.
#[test]
fn peers_are_kept_as_bytes_and_come_back_whole() {
    let mut store = store();
    let addr = |n: usize| format!("/dns4/{}/tcp/1", "a".repeat(n)).parse::<multiaddr::Multiaddr>().unwrap();
    let mut contacts: Vec<_> = (0..43_u8)
        .map(|len| {
            let id = [&[0, len], &vec![7; len.into()][..]].concat();
            Contact::new(PeerId::from_bytes(&id).unwrap(), (0..usize::from(len) % 5).map(|n| addr(100 * n + 1)))
        })
        .collect();
    contacts.push(Contact::new(PeerId::random(), [addr(200)]));
    let key = |n: usize| RecordKey::from(n.to_be_bytes().as_slice());
    for _ in 0..2 {
        for (n, contact) in contacts.iter().enumerate() {
            store.add_provider(NOW, ProviderRecord::new(key(n), contact.clone(), LATER, LATER)).unwrap();
            let Item::Provider(scanned) = &store.scan(Scan::All, None, 99).unwrap()[0] else { panic!("no provider") };
            assert_eq!(store.providers(NOW, &scanned.key).unwrap()[0].provider, scanned.provider);
        }
        for (n, contact) in contacts.iter().enumerate() {
            let found = store.providers(NOW, &key(n)).unwrap();
            assert_eq!((found.len(), &found[0].provider, found[0].provider.key()), (1, contact, contact.key()));
        }
    }
    assert_eq!(store.providers.peers().len(), contacts.len());
    for (n, contact) in contacts.iter().enumerate() {
        store.remove_provider(&key(n), contact.peer()).unwrap();
    }
    assert_eq!((store.providers.peers().len(), store.usage()), (0, Usage::default()));
    store.providers.peers().assert_empty();
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
    assert_eq!((store.providers.peers().len(), store.providers.peers().addr_bytes()), (0, 0));
    store.providers.peers().assert_empty();
    assert!(store.scan(Scan::All, None, 9).unwrap().is_empty());
}

/// An ordered map of the standard library holds 5 to 11 entries a node, and each node is pointed at.
fn in_a_map<K, V>() -> usize {
    (size_of::<K>() + size_of::<V>()) * 11 / 5 + 24
}

/// What `Bytes` allocates beside its bytes once it is shared.
const SHARED: usize = 32;

/// Per entry of a table that grows by doubling.
fn in_a_table<T>() -> usize {
    2 * (size_of::<Option<T>>() + size_of::<u32>())
}

#[test]
fn the_stated_costs_are_those_of_the_types() {
    let value = in_a_map::<Key, Record>() + in_a_map::<(Timestamp, Key), ()>() + in_a_map::<(u64, Key), ()>();
    assert!(value + 2 * SHARED <= VALUE_OVERHEAD, "{value}");
    let key = in_a_map::<Key, u32>()
        + in_a_map::<(Timestamp, u32), ()>()
        + in_a_map::<(u32, u32, u32), ()>()
        + in_a_table::<Provided>();
    assert!(key + SHARED + MAX_PROVIDER_KEY_LEN <= KEY_OVERHEAD, "{key}");
    // A list of three has room for four; longer ones waste less. The peer's list doubles.
    let provider = size_of::<Entry>() * 2 + 2 * size_of::<u32>();
    assert!(provider <= PROVIDER_OVERHEAD, "{provider}");
    let counters = 2 * size_of::<usize>();
    let contact = size_of::<Contact>() + counters + 2 * SHARED + 64;
    let orders = 2 * (in_a_map::<(u64, u32), ()>() + in_a_map::<(u32, u32, u32), ()>()) + in_a_map::<(u32, u32), ()>();
    let peer = contact + in_a_table::<super::peers::Peer>() + orders;
    assert!(peer <= PEER_OVERHEAD, "{peer}");
    let sequence = in_a_map::<Key, (u64, Timestamp)>() + in_a_map::<(Timestamp, Key), ()>();
    assert!(sequence <= SEQUENCE_OVERHEAD, "{sequence}");
}

#[test]
fn twenty_providers_of_a_key_cost_less_than_64_bytes_each() {
    let orders = in_a_map::<Key, u32>() + in_a_map::<(Timestamp, u32), ()>() + in_a_map::<(u32, u32, u32), ()>();
    let key = orders + in_a_table::<Provided>() + SHARED + 34;
    let record = size_of::<Entry>() + 2 * size_of::<u32>() + key.div_ceil(20);
    assert!(record <= 64, "{record}");
}

/// What every operation leaves behind must agree, or a later one drops the wrong record.
#[test]
fn keys_are_charged_to_one_of_their_providers_whatever_happens() {
    let mut config = MemoryStoreConfig::default();
    (config.max_provided_keys, config.max_providers, config.max_peers) = (30, 60, 20);
    (config.max_providers_per_key, config.max_addr_bytes) = (4, 1_500);
    let mut store = MemoryStore::new(config, [9; 32]);
    let addr = |port| format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap();
    let peers: Vec<_> = (0..60).map(|n| Contact::new(PeerId::random(), (0..n % 7).map(addr))).collect();
    let mut state = 1_u64;
    let mut draw = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    for step in 0..20_000_u64 {
        let now = NOW + std::time::Duration::from_secs(step / 10);
        let key = RecordKey::from(draw(80).to_be_bytes().as_slice());
        let peer = &peers[draw(60) as usize];
        match draw(10) {
            0 => drop(store.remove_provider(&key, peer.peer())),
            1 => drop(store.expire(now, draw(5) as usize)),
            2 => drop(store.providers(now, &key)),
            _ => {
                let expires = now + std::time::Duration::from_secs(draw(200));
                let _ = store.add_provider(now, ProviderRecord::new(key, peer.clone(), expires, expires));
            }
        }
        store.providers.assert_sound(store.config());
    }
}

#[test]
fn the_seed_is_not_printed() {
    let text = format!("{:?}", store());
    assert!(text.contains("usage") && !text.contains("171") && !text.contains("ab, ab"), "{text}");
}
