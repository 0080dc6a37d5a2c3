//! Properties that are visible only from inside: every count returns to zero, stored records are copies, and the stated
//! costs are those of the types.

use std::mem::size_of;

use bytes::Bytes;

use super::config::SEQUENCE_OVERHEAD;
use super::peers::ProviderPeer;
use super::providers::{ProvidedKey, ProviderEntry, SPARE_ENTRIES};
use super::values::StoredValue;
use super::*;
use crate::core::contact::Contact;
use crate::core::store::{Judge, StoreExt as _};
use libp2p_identity::PeerId;

const NOW: Timestamp = Timestamp::from_secs(1_000);
const LATER: Timestamp = Timestamp::from_secs(2_000);

fn store() -> MemoryStore {
    MemoryStore::new(MemoryStoreConfig::default(), [0xab; 32])
}

/// Part of a message, like bytes that were decoded without a copy.
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

    let addr = "/ip4/127.0.0.1/tcp/1".parse::<multiaddr::Multiaddr>().unwrap();
    let contact = Contact::new(PeerId::random(), []).with_addrs([addr.as_ref()]);
    store.add_provider(NOW, ProviderRecord::new(key.clone(), contact.clone(), LATER, LATER)).unwrap();
    let found = store.providers(NOW, &key).unwrap();
    assert_eq!(found[0].provider, contact);
    for item in store.scan(Scan::All, None, 9).unwrap() {
        assert_ne!(item.key().as_bytes().as_ptr(), key.as_bytes().as_ptr());
    }
}

/// Every field of a record, the rare ones too.
#[test]
fn a_value_comes_back_as_it_was_written() {
    let mut store = store();
    for fields in 0..=255_u8 {
        let mut record = Record::new(vec![fields], vec![fields; fields.into()], Timestamp::from_micros(1_000_000_001));
        let has = |bit: u8| fields & (1 << bit) != 0;
        record.publisher = has(0).then(PeerId::random);
        record.expires = has(1).then_some(Timestamp::MAX);
        record.claimed = has(2);
        record.sequence = has(3).then_some(u64::MAX);
        record.announced = has(4).then_some(LATER);
        record.own = has(5);
        record.put = has(6).then_some(Timestamp::MAX);
        record.superseded = has(7);
        store.put(NOW, record.clone()).unwrap();
        assert_eq!(store.get(NOW, &record.key).unwrap(), Some(record));
    }
    store.assert_sound();
}

#[test]
fn a_peer_is_kept_once_however_much_it_provides() {
    let mut store = store();
    let contact = Contact::new(PeerId::random(), ["/ip4/127.0.0.1/tcp/1".parse().unwrap()]);
    for n in 0..10_u8 {
        let again = Contact::new(*contact.peer(), contact.addrs());
        store.add_provider(NOW, ProviderRecord::new(RecordKey::from(vec![n]), again, LATER, LATER)).unwrap();
    }
    let first = store.providers(NOW, &RecordKey::from(vec![0])).unwrap()[0].provider.clone();
    let last = store.providers(NOW, &RecordKey::from(vec![9])).unwrap()[0].provider.clone();
    assert!(std::sync::Arc::ptr_eq(&first, &last));
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
    store.assert_sound();
    while store.expire(LATER, 7).unwrap() == 7 {}
    assert_eq!((store.usage(), store.next_expiry()), (Usage::default(), None));
    assert!(store.scan(Scan::All, None, 9).unwrap().is_empty());
    store.assert_sound();
    store.values.assert_empty();
    store.providers.assert_empty();
}

/// An ordered map of the standard library holds 5 to 11 entries in a node, and each node has a pointer to it.
fn in_a_map<T>() -> usize {
    size_of::<T>() * 11 / 5 + 24
}

/// Per row of a table: a slab that grows by a quarter, and an index that grows by doubling.
fn in_a_table<R>() -> usize {
    5 * size_of::<R>() / 4 + 2 * (size_of::<(u32, u32)>() + 1) * 8 / 7
}

/// Per row of a table with places and ends: two orders of slots, and a row that is not in order yet.
fn in_orders() -> usize {
    2 * in_a_map::<(u64, u32)>() + size_of::<u32>()
}

/// The bytes that a full store keeps for a peer and a group of its own.
fn in_accounts() -> usize {
    2 * 2 * (size_of::<(u64, u64)>() + 1) * 8 / 7 + 2 * in_a_map::<(u64, u64, u64)>()
}

#[test]
#[cfg_attr(not(target_pointer_width = "64"), ignore = "its figures are those of 64 bits")]
fn the_stated_costs_are_those_of_the_types() {
    let value = in_a_table::<StoredValue>() + in_orders() + in_accounts() + in_a_map::<(u64, u8, u64, u32)>();
    let record = size_of::<ProviderEntry>() + in_a_map::<(u64, u8, u64, (u32, u32))>();
    let spare = SPARE_ENTRIES * size_of::<ProviderEntry>();
    let key = in_a_table::<ProvidedKey>() + in_orders() + MAX_PROVIDER_KEY_LEN + spare;
    let contact = size_of::<Contact>() + 2 * size_of::<usize>() + 32;
    let peer = in_a_table::<ProviderPeer>() + contact + in_accounts();
    let sequence = in_a_map::<(u64, (u64, Timestamp))>() + in_a_map::<(Timestamp, u64)>();
    let stated = [VALUE_OVERHEAD, PROVIDER_OVERHEAD, KEY_OVERHEAD, PEER_OVERHEAD, SEQUENCE_OVERHEAD];
    for (stated, counted) in stated.into_iter().zip([value, record, key, peer, sequence]) {
        assert!(counted <= stated && stated < counted + 8, "{counted} bytes, not {stated}");
    }
    assert_eq!((size_of::<StoredValue>(), size_of::<ProviderEntry>()), (96, 20));
}

#[test]
fn twenty_providers_of_a_key_cost_less_than_64_bytes_each() {
    let key = in_a_table::<ProvidedKey>() + in_orders() + 34;
    assert!(size_of::<ProviderEntry>() + key.div_ceil(20) <= 64);
}

/// The state after every operation must be consistent, or a later one drops the wrong record.
#[test]
fn everything_is_charged_to_the_right_one_whatever_happens() {
    let mut config = MemoryStoreConfig::default();
    (config.max_providers, config.max_providers_per_key) = (60, 4);
    (config.max_values, config.max_bytes) = (30, 40_000);
    let mut store = MemoryStore::new(config, [9; 32]);
    let addr = |port| format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap();
    let peers: Vec<_> = (0..60).map(|n| Contact::new(PeerId::random(), (0..n % 7).map(addr))).collect();
    let mut state = 1_u64;
    let mut draw = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    for step in 0..20_000_u64 {
        let now = NOW + std::time::Duration::from_secs(step);
        let key = RecordKey::from(draw(80).to_be_bytes().as_slice());
        let peer = &peers[draw(60) as usize];
        let mut from = Sender::new(*peer.peer());
        from.group = Some(draw(9)).filter(|group| *group > 2);
        (from.holder, from.near) = (draw(3) == 0, draw(2) == 0);
        let expires = now + std::time::Duration::from_secs(draw(20_000));
        match draw(12) {
            0 => drop(store.remove_provider(&key, peer.peer())),
            1 => drop(store.expire(now, draw(5) as usize)),
            2 => drop(store.providers(now, &key)),
            3 => drop(store.remove(&key)),
            4..8 => {
                let mut record = Record::new(key, vec![draw(3) as u8; draw(900) as usize], now);
                (record.expires, record.own) = (Some(expires), draw(9) == 0);
                let put = Put::new(record, Judge::of_the_last()).from(from);
                let _ = store.run(now, Ticket::new(0), Op::Put(Box::new(put)));
            }
            _ => {
                let mut record = ProviderRecord::new(key, peer.clone(), expires, expires);
                record.own = draw(9) == 0;
                let _ = store.run(now, Ticket::new(0), Op::AddProvider(Box::new(record), Some(from)));
            }
        }
        store.assert_sound();
    }
}

#[test]
fn the_seed_is_not_printed() {
    let text = format!("{:?}", store());
    assert!(text.contains("usage") && !text.contains("171") && !text.contains("ab, ab"), "{text}");
}

impl MemoryStore {
    fn assert_sound(&self) {
        self.values.assert_sound();
        self.providers.assert_sound();
        assert!(self.values.used() + self.providers.used() <= self.config.max_bytes as u64);
    }
}

#[test]
fn what_a_clock_that_was_ahead_left_expires_when_it_should() {
    let mut store = store();
    let (year, key) = (std::time::Duration::from_secs(365 * 24 * 3600), RecordKey::from("/a/b"));
    let mut record = Record::new("/a/b", "v", NOW + 10 * year);
    record.expires = Some(NOW + 11 * year);
    store.put(NOW + 10 * year, record).unwrap();
    let contact = Contact::new(PeerId::random(), []);
    store.add_provider(NOW, ProviderRecord::new(key.clone(), contact, NOW + 11 * year, LATER)).unwrap();
    assert_eq!(store.next_expiry(), Some(NOW + 11 * year));
    let cut = store.run(NOW, Ticket::new(0), Op::Expire { limit: 9, latest: LATER });
    assert!(matches!(cut, Some(Ok(OpOutput::Expired(0)))), "{cut:?}");
    assert_eq!(store.next_expiry(), Some(LATER));
    assert!(store.get(LATER, &key).unwrap().is_none() && store.providers(LATER, &key).unwrap().is_empty());
    assert_eq!(store.expire(LATER, 9), Ok(2));
}
