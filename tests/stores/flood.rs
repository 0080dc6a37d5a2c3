//! Floods: each bound of the memory store is reached and holds, and honest peers get their share.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use libp2p_identity::PeerId;
use libp2p_kad_dht::core::store::{Item, Scan, StoreExt as _};
use libp2p_kad_dht::core::{
    Contact, MAX_ADDR_LEN, MAX_ADDRS, MemoryStore, MemoryStoreConfig, ProviderRecord, Record, RecordKey, Store,
    StoreError, Timestamp,
};
use multiaddr::{Multiaddr, Protocol};

use super::NOW;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// A peer that is the same in every run.
pub(crate) fn peer(n: u64) -> PeerId {
    let mut bytes = vec![0x00, 12, 0x08, 0x01, 0x12, 8];
    bytes.extend(n.to_be_bytes());
    PeerId::from_bytes(&bytes).unwrap()
}

pub(crate) fn contact(n: u64) -> Arc<Contact> {
    let ip = Ipv4Addr::from(0x0a00_0000 | n as u32);
    Contact::new(peer(n), [Multiaddr::empty().with(Protocol::Ip4(ip)).with(Protocol::Tcp(4001))])
}

fn announced(key: &str, n: u64, now: Timestamp) -> ProviderRecord {
    ProviderRecord::new(RecordKey::from(key), contact(n), now + DAY * 2, now + DAY)
}

fn own(mut record: ProviderRecord) -> ProviderRecord {
    record.own = true;
    record
}

fn value(key: &str, len: usize, now: Timestamp) -> Record {
    let mut record = Record::new(key, vec![1; len], now);
    record.expires = Some(now + DAY);
    record
}

fn ids(store: &mut MemoryStore, now: Timestamp, key: &str) -> Vec<PeerId> {
    records(store, now, key).iter().map(|record| *record.provider.peer()).collect()
}

fn records(store: &mut MemoryStore, now: Timestamp, key: &str) -> Vec<ProviderRecord> {
    store.providers(now, &RecordKey::from(key)).unwrap()
}

fn scanned(store: &mut MemoryStore) -> Vec<Item> {
    store.scan(Scan::All, None, usize::MAX).unwrap()
}

fn store(change: impl FnOnce(&mut MemoryStoreConfig)) -> MemoryStore {
    let mut config = MemoryStoreConfig::default();
    change(&mut config);
    MemoryStore::new(config, [3; 32])
}

#[test]
fn values_are_bounded_in_number() {
    let mut store = store(|config| config.max_values = 50);
    let mut late = 0;
    for n in 0..500 {
        let before = store.usage();
        let taken = store.put(NOW, value(&format!("/v/{n}"), 10, NOW));
        let read = store.get(NOW, &RecordKey::from(format!("/v/{n}"))).unwrap();
        assert_eq!(taken.is_ok(), read.is_some(), "the answer says whether the value is kept");
        assert!(taken.is_ok() || before == store.usage(), "a refused value changes nothing");
        assert_eq!((store.usage().values, scanned(&mut store).len()), ((n + 1).min(50), (n + 1).min(50)));
        late += usize::from(taken.is_ok() && n >= 50);
    }
    assert!((50..200).contains(&late), "50 / 51 + … + 50 / 500 is 115: {late}");
    assert!(store.put(NOW + DAY, value("/v/new", 10, NOW + DAY)).is_ok(), "expired ones give way first");
}

#[test]
fn values_are_bounded_in_bytes_with_their_keys() {
    const ROOM: usize = 30 * 1_568;
    let mut store = store(|config| (config.max_bytes, config.max_values) = (ROOM, 1_000));
    let key = |n: usize| format!("/v/{n:0>96}");
    let bytes = |store: &mut MemoryStore| -> usize {
        let size = |item: Item| match item {
            Item::Value(record) => record.key.as_bytes().len() + record.value.len() + 568,
            _ => 0,
        };
        scanned(store).into_iter().map(size).sum()
    };
    for n in 0..30 {
        store.put(NOW, value(&key(n), 901, NOW)).unwrap();
    }
    assert_eq!(bytes(&mut store), ROOM, "a key of 99 bytes and a value of 901 are 1,000 bytes, and 568 are stated");
    for n in 0..300 {
        let before = scanned(&mut store).len();
        let taken = store.put(NOW, value(&key(n), 901 + n % 2, NOW));
        assert!(bytes(&mut store) <= ROOM, "not even one byte more");
        assert!(taken.is_ok() || scanned(&mut store).len() == before, "a refused value evicts no record");
    }
    let kept = scanned(&mut store).len();
    assert_eq!(store.put(NOW, value("too large for all", ROOM - 568, NOW)).err(), Some(StoreError::Full));
    assert_eq!(scanned(&mut store).len(), kept);
    while store.expire(NOW + DAY, 99).unwrap() == 99 {}
    for n in 0..2_000 {
        let _ = store.put(NOW, value(&format!("small {n}"), 1, NOW));
        assert!(bytes(&mut store) <= ROOM);
    }
    assert!(store.usage().values > 80, "{:?}", store.usage());
    // One large value evicts as many small expired ones as it needs, and no more.
    assert!(store.put(NOW + DAY, value("large", ROOM / 2, NOW + DAY)).is_ok());
    assert!(store.usage().values >= 40, "{:?}", store.usage());
}

#[test]
fn one_value_is_bounded_in_length_own_ones_too() {
    let mut store = store(|config| config.max_value_len = 100);
    for own in [false, true] {
        let mut record = value("/a/b", 101, NOW);
        record.own = own;
        assert_eq!(store.put(NOW, record.clone()).err(), Some(StoreError::TooLarge));
        record.value = Bytes::from(vec![1; 100]);
        assert!(store.put(NOW, record).is_ok());
    }
}

#[test]
fn providers_of_one_key_are_bounded_and_stay_at_the_bound() {
    let mut store = store(|_| {});
    for n in 0..500 {
        let _ = store.add_provider(NOW, announced("key", n, NOW));
        assert_eq!(ids(&mut store, NOW, "key").len(), (n as usize + 1).min(20));
    }
    assert_eq!(store.usage().providers, 20);
}

#[test]
fn keys_are_bounded_in_length() {
    let mut store = store(|_| {});
    let long = ProviderRecord::new(RecordKey::from(vec![1; 81]), contact(1), NOW + DAY, NOW + DAY);
    assert_eq!(store.add_provider(NOW, long).err(), Some(StoreError::TooLarge));
    assert_eq!(store.put(NOW, Record::new(vec![1; 2049], "v", NOW)).err(), Some(StoreError::TooLarge));
}

/// reference E5: with 20 remote providers of a key, the own one was acknowledged and not stored.
#[test]
fn own_providers_are_kept_on_a_full_key() {
    let mut store = store(|_| {});
    for n in 0..20 {
        store.add_provider(NOW, announced("key", n, NOW)).unwrap();
    }
    store.add_provider(NOW, own(announced("key", 999, NOW))).unwrap();
    for n in 20..500 {
        let _ = store.add_provider(NOW, announced("key", n, NOW));
    }
    let found = records(&mut store, NOW, "key");
    assert_eq!(found.len(), 21);
    assert!(found.iter().any(|record| record.own && *record.provider.peer() == peer(999)));
}

/// 20 Sybils, 100 more, then one honest provider; all announce repeatedly. Every one of the 121 should be among the 20
/// with the same chance, over the seeds of the nodes that are asked.
#[test]
fn late_honest_providers_are_not_starved() {
    let (seeds, honest) = (1_000_u32, 5_000);
    let (mut late, mut first) = (0, 0);
    for seed in 0..seeds {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&seed.to_be_bytes());
        let mut store = MemoryStore::new(MemoryStoreConfig::default(), bytes);
        for n in 0..120 {
            let _ = store.add_provider(NOW, announced("key", n, NOW));
        }
        let taken = store.add_provider(NOW, announced("key", honest, NOW)).is_ok();
        let kept = ids(&mut store, NOW, "key");
        assert_eq!(taken, kept.contains(&peer(honest)), "the answer says whether the record is kept");
        if seed < 20 {
            for round in 1..4 {
                let now = NOW + Duration::from_secs(round * 3600);
                for n in (0..120).chain([honest]) {
                    let _ = store.add_provider(now, announced("key", n, now));
                }
                let mut again = ids(&mut store, now, "key");
                let mut before = kept.clone();
                again.sort();
                before.sort();
                assert_eq!(again, before, "to announce oneself again and again changes no lot");
            }
        }
        late += u32::from(kept.contains(&peer(honest)));
        first += u32::from(kept.contains(&peer(0)));
    }
    // 20 of 121 is 165 in 1,000; the standard deviation is 12.
    for share in [late, first] {
        assert!((115..=215).contains(&share), "late {late}, first {first}");
    }
}

#[test]
fn the_sample_does_not_depend_on_the_order_of_arrival() {
    let sample = |order: Vec<u64>| {
        let mut store = store(|_| {});
        for n in order {
            let _ = store.add_provider(NOW, announced("key", n, NOW));
        }
        let mut kept = ids(&mut store, NOW, "key");
        kept.sort();
        kept
    };
    let forwards = sample((0..100).collect());
    assert_eq!(forwards, sample((0..100).rev().collect()));
    assert_ne!(forwards, (0..20).map(peer).collect::<Vec<_>>());
}

#[test]
fn provider_records_are_bounded_in_number() {
    let mut store = store(|config| config.max_providers = 50);
    for n in 0..500 {
        let before = store.usage();
        let taken = store.add_provider(NOW, announced(&n.to_string(), n % 7, NOW)).is_ok();
        assert_eq!(ids(&mut store, NOW, &n.to_string()).len(), usize::from(taken));
        assert!(taken || before == store.usage(), "a refused record changes nothing");
        assert_eq!(store.usage().providers, 50.min(n as usize + 1));
    }
    let counts: Vec<_> = (0..7).map(|n| of_peer(&mut store, n).len()).collect();
    assert!(counts.iter().all(|count| (7..=8).contains(count)), "each peer has as many as the others: {counts:?}");
    let kept = of_peer(&mut store, 3)[0].clone();
    assert!(store.add_provider(NOW, kept).is_ok(), "to announce again needs no room");
    assert!(store.add_provider(NOW, own(announced("own", 9, NOW))).is_ok(), "own ones do not count");
    assert!(store.add_provider(NOW, announced("new", 8, NOW)).is_ok(), "who has fewer finds room");
    assert_eq!((store.usage().providers, store.usage().own), (50, 1));
}

/// The remote records of a peer.
fn of_peer(store: &mut MemoryStore, n: u64) -> Vec<ProviderRecord> {
    let provided = |item: Item| match item {
        Item::Provider(record) if !record.own && *record.provider.peer() == peer(n) => Some(record),
        _ => None,
    };
    scanned(store).into_iter().filter_map(provided).collect()
}

/// A record of a peer with `addrs` addresses of 500 bytes, which cost about a KiB each.
fn fat(key: &str, n: u64, addrs: usize) -> ProviderRecord {
    let addr = |i| format!("/dns4/{}{i:02}/tcp/1", "a".repeat(MAX_ADDR_LEN - 20 - 7)).parse::<Multiaddr>().unwrap();
    let contact = Contact::new(peer(n), (0..addrs).map(addr));
    ProviderRecord::new(RecordKey::from(key), contact, NOW + DAY * 2, NOW + DAY)
}

fn addrs(store: &mut MemoryStore, key: &str) -> Vec<usize> {
    records(store, NOW, key).iter().map(|record| record.provider.raw_addrs().count()).collect()
}

#[test]
fn addresses_are_bounded_a_peer_and_in_all() {
    let mut store = store(|config| config.max_bytes = 40_000 + 13 * 1_080);
    store.add_provider(NOW, fat("first", 0, MAX_ADDRS)).unwrap();
    assert_eq!(addrs(&mut store, "first"), [3], "as many as one peer may have");
    for n in 1..100 {
        let _ = store.add_provider(NOW, fat(&n.to_string(), n, MAX_ADDRS));
        let all = (0..=n).flat_map(|n| of_peer(&mut store, n)).map(|record| record.provider.raw_addrs().count());
        assert!(all.map(|addrs| 1_080 + addrs * 1_000).sum::<usize>() <= 40_000 + 13 * 1_080);
    }
    assert!((12..=13).contains(&store.usage().providers), "{:?}", store.usage());
    for n in 200..220 {
        store.add_provider(NOW, announced(&n.to_string(), n, NOW)).expect("who has a few addresses finds room");
        assert!(ids(&mut store, NOW, &n.to_string()).len() == 1 && addrs(&mut store, &n.to_string()) == [1]);
    }
    // A record without addresses takes none away.
    let bare = ProviderRecord::new(RecordKey::from("200"), Contact::new(peer(200), []), NOW + DAY, NOW + DAY);
    store.add_provider(NOW, bare).unwrap();
    assert_eq!(addrs(&mut store, "200"), [1]);
}

/// Otherwise a peer could release the record that paid for many addresses, and keep them for nothing.
#[test]
fn a_peer_keeps_no_addresses_that_no_record_of_it_pays_for() {
    let mut store = store(|_| {});
    store.add_provider(NOW, fat("thin", 1, 1)).unwrap();
    store.add_provider(NOW, fat("fat", 1, 3)).unwrap();
    assert_eq!((addrs(&mut store, "thin"), addrs(&mut store, "fat")), (vec![3], vec![3]));
    store.remove_provider(&RecordKey::from("fat"), &peer(1)).unwrap();
    assert_eq!(addrs(&mut store, "thin"), [0]);
    store.add_provider(NOW, fat("thin", 1, 2)).unwrap();
    store.add_provider(NOW, fat("other", 1, 2)).unwrap();
    store.remove_provider(&RecordKey::from("other"), &peer(1)).unwrap();
    assert_eq!(addrs(&mut store, "thin"), [2], "the one that is left pays for them");
}

/// reference E4: a store full of expired remote records refused own ones and fresh ones.
#[test]
fn expired_providers_never_stand_in_the_way() {
    let mut full = store(|config| config.max_providers = 64);
    let mut full_key = store(|_| {});
    for n in 0..64 {
        full.add_provider(NOW, announced(&n.to_string(), n, NOW)).unwrap();
        let _ = full_key.add_provider(NOW, announced("fresh", n, NOW));
    }
    for (mut store, left) in [(full, 64), (full_key, 20)] {
        let later = NOW + DAY * 2;
        assert!(store.add_provider(later, own(announced("own", 999, later))).is_ok());
        assert!(store.add_provider(later, announced("fresh", 100, later)).is_ok());
        assert_eq!(ids(&mut store, later, "fresh"), [peer(100)]);
        assert_eq!(ids(&mut store, later, "own"), [peer(999)]);
        assert_eq!(store.usage().providers, left, "no more goes than has to");
    }
}

#[test]
fn each_kind_may_take_all_that_the_other_leaves_and_always_half() {
    let mut store = MemoryStore::new(MemoryStoreConfig::default(), [1; 32]);
    assert_eq!(store.config().memory_bound(), 24 << 20, "the documentation says so");
    let announce = |store: &mut MemoryStore, from: u64| {
        for n in from..from + 40_000 {
            let _ = store.add_provider(NOW, announced(&n.to_string(), n, NOW));
        }
        store.usage()
    };
    // A record with a peer and a key of its own and a short address costs 1,144 bytes.
    let alone = announce(&mut store, 0).providers;
    assert!((20_000..24_000).contains(&alone), "{alone}");
    for n in 0..40_000_u64 {
        let _ = store.put(NOW, value(&format!("/v/{n}"), 200, NOW));
    }
    let (values, providers, half) = (store.usage().values, store.usage().providers, alone / 2);
    assert!((half - 20..half + 20).contains(&providers), "{providers} of {alone} records");
    let room = store.config().max_bytes / 2 / (568 + 208);
    assert!((room - 20..room + 20).contains(&values), "{values} values in a room for {room}");
    // Nor does the other kind come back over its half.
    let after = announce(&mut store, 40_000);
    assert!((half - 20..half + 20).contains(&after.providers) && after.values >= room - 20, "{after:?}");
    while store.expire(NOW + DAY, 999).unwrap() == 999 {}
    for n in 0..40_000_u64 {
        let _ = store.put(NOW + DAY * 2, value(&format!("/v/{n}"), 200, NOW + DAY * 2));
    }
    assert!(store.usage().values > 2 * room - 40, "what is no longer taken is free again: {:?}", store.usage());
}
