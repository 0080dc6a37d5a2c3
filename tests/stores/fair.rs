//! Fair shares: the records of honest peers that a full memory store keeps in a flood.
//!
//! Each test states who floods and which records must be left.

use std::time::Duration;

use libp2p_kad_dht::core::store::{Judge, Op, Put, Sender, StoreExt as _, Ticket};
use libp2p_kad_dht::core::{MemoryStore, MemoryStoreConfig, ProviderRecord, Record, RecordKey, Store, Timestamp};

use super::NOW;
use super::flood::{contact, peer};

const DAY: Duration = Duration::from_secs(24 * 3600);
const HOUR: Duration = Duration::from_secs(3600);
/// Maximum number of keys of a flood: thirty times what a default store keeps.
const MILLION: u64 = 1_000_000;

fn store(room: usize) -> MemoryStore {
    let mut config = MemoryStoreConfig::default();
    (config.max_values, config.max_bytes, config.max_providers) = (room, room * (1_024 + 568), room);
    MemoryStore::new(config, [5; 32])
}

fn from(n: u64, group: Option<u64>) -> Sender {
    let mut sender = Sender::new(peer(n));
    sender.group = group;
    sender
}

fn holder(n: u64) -> Sender {
    let mut sender = from(n, Some(n));
    sender.holder = true;
    sender
}

fn put(store: &mut MemoryStore, now: Timestamp, key: String, sender: Sender) -> bool {
    put_of(5, store, now, key, sender)
}

fn put_of(len: usize, store: &mut MemoryStore, now: Timestamp, key: String, sender: Sender) -> bool {
    let mut record = Record::new(key, vec![7; len], now);
    record.expires = Some(now + DAY * 2);
    let put = Put::new(record, Judge::of_the_last()).from(sender);
    store.run(now, Ticket::new(0), Op::Put(Box::new(put))).is_some_and(|done| done.is_ok())
}

fn left(store: &mut MemoryStore, now: Timestamp, name: &str, count: u64) -> usize {
    let kept = |n: &u64| store.get(now, &RecordKey::from(format!("/{name}/{n}"))).unwrap().is_some();
    (0..count).filter(kept).count()
}

/// 500 values that one peer sent and that were acknowledged, and the number of them that a flood leaves in a default
/// store.
fn after_a_flood(keys: u64, flood: impl Fn(u64) -> Sender) -> usize {
    let (left, kept) = after_a_flood_of(5, keys, flood);
    assert_eq!(kept, 32_768);
    left
}

/// The same with values of this length, and the number of all that are kept.
fn after_a_flood_of(len: usize, keys: u64, flood: impl Fn(u64) -> Sender) -> (usize, usize) {
    let mut store = MemoryStore::new(MemoryStoreConfig::default(), [5; 32]);
    for n in 0..500 {
        assert!(put_of(len, &mut store, NOW, format!("/honest/{n}"), from(1, Some(1))));
    }
    for n in 0..keys {
        put_of(len, &mut store, NOW, format!("/flood/{n}"), flood(n));
    }
    (left(&mut store, NOW, "honest", 500), store.usage().values)
}

#[test]
fn a_flood_from_one_peer_leaves_what_others_sent() {
    assert!(after_a_flood(60_000, |_| from(2, Some(2))) >= 499);
    assert!(after_a_flood(60_000, |_| from(2, None)) >= 499, "also where groups do not count");
}

#[test]
fn a_flood_from_fifty_ids_leaves_what_others_sent() {
    assert!(after_a_flood(60_000, |n| from(2 + n % 50, Some(2))) >= 499, "in one IP group");
    assert!(after_a_flood(60_000, |n| from(2 + n % 50, Some(2 + n % 50))) >= 400, "in fifty groups");
}

/// An IPNS record has about 400 bytes. From 556 bytes on the share of a fifty-first group is less than 400 values: 281
/// of a KiB.
#[test]
fn a_flood_of_larger_values_leaves_as_many_up_to_the_length_that_is_stated() {
    for (len, least) in [(400, 400), (541, 400), (1_000, 281)] {
        let (left, kept) = after_a_flood_of(len, 40_000, |n| from(2 + n % 50, Some(2 + n % 50)));
        let room = 22_400 * 1_024 / (568 + len + 12);
        assert!(left >= least && kept >= room, "{left} of 500, {kept} of {room} values of {len} bytes");
        let (left, _) = after_a_flood_of(len, 40_000, |n| from(2 + n % 50, Some(2)));
        assert!(left >= 499, "{left} of {len} bytes in one group");
    }
}

/// The full size; takes a minute in a debug build.
#[test]
#[ignore = "a million keys, three times"]
fn a_flood_of_a_million_keys_leaves_what_others_sent() {
    assert!(after_a_flood(MILLION, |_| from(2, Some(2))) >= 499);
    assert!(after_a_flood(MILLION, |n| from(2 + n % 50, Some(2))) >= 499);
    assert!(after_a_flood(MILLION, |n| from(2 + n % 50, Some(2 + n % 50))) >= 400);
}

/// A stranger floods a holder, which replicates the junk together with records that are worth keeping.
#[test]
fn who_floods_a_holder_does_not_harm_what_it_brings() {
    let (mut store, later) = (store(1_000), NOW + HOUR);
    for n in 0..200 {
        assert!(put(&mut store, NOW, format!("/brought/{n}"), holder(1)));
        assert!(put(&mut store, NOW, format!("/published/{n}"), from(2, Some(2))));
        assert!(put(&mut store, NOW, format!("/own/{n}"), from(1, Some(1))));
    }
    for n in 0..20_000 {
        put(&mut store, later, format!("/junk/{n}"), holder(1));
    }
    for name in ["brought", "published", "own"] {
        assert_eq!(left(&mut store, later, name, 200), 200, "{name}");
    }
    assert_eq!(store.usage().values, 1_000);
    // A publisher still finds space, at the cost of the records that were replicated last.
    for n in 0..100 {
        assert!(put(&mut store, later, format!("/new/{n}"), from(3, Some(3))));
    }
    assert_eq!(left(&mut store, later, "new", 100), 100);
    assert_eq!(left(&mut store, later, "brought", 200), 200);
}

/// The same, with records that several holders send in the same hour as the junk.
#[test]
fn what_several_holders_bring_outranks_the_junk_of_one() {
    let mut store = store(1_000);
    for n in 0..20_000 {
        if n < 200 {
            put(&mut store, NOW, format!("/brought/{n}"), holder(1));
            put(&mut store, NOW, format!("/brought/{n}"), holder(2));
        }
        put(&mut store, NOW, format!("/junk/{n}"), holder(1));
    }
    assert_eq!(left(&mut store, NOW, "brought", 200), 200);
}

#[test]
fn of_one_sender_what_is_near_or_settled_stays() {
    let (mut store, later) = (store(1_000), NOW + HOUR);
    for n in 0..100 {
        assert!(put(&mut store, NOW, format!("/old/{n}"), from(1, None)));
    }
    let mut near = from(1, None);
    near.near = true;
    for n in 0..100 {
        assert!(put(&mut store, later, format!("/near/{n}"), near));
    }
    for n in 0..10_000 {
        put(&mut store, later, format!("/flood/{n}"), from(1, None));
    }
    assert_eq!((left(&mut store, later, "old", 100), left(&mut store, later, "near", 100)), (100, 100));
}

#[test]
fn an_update_of_what_is_kept_is_taken_by_a_full_store() {
    let mut store = store(100);
    for n in 0..100 {
        assert!(put(&mut store, NOW, format!("/v/{n}"), from(n, None)));
    }
    for n in 0..100 {
        let mut record = Record::new(format!("/v/{n}"), vec![7; 800], NOW);
        record.expires = Some(NOW + DAY);
        assert_eq!(store.put(NOW, record), Ok(()));
    }
    assert_eq!(left(&mut store, NOW, "v", 100), 100, "there is room for all");
    let large = Record::new("/v/50", vec![7; 60_000], NOW);
    assert_eq!(store.put(NOW, large.clone()), Ok(()));
    assert_eq!(store.get(NOW, &large.key).unwrap(), Some(large));
    let left = left(&mut store, NOW, "v", 100);
    // The large one needs 60,572 bytes of 159,200, and each of the others takes 1,374.
    assert!((70..=72).contains(&left), "{left}");
}

fn announce(store: &mut MemoryStore, key: String, n: u64) -> bool {
    let record = ProviderRecord::new(RecordKey::from(key), contact(n), NOW + DAY * 2, NOW + DAY);
    store.add_provider(NOW, record).is_ok()
}

fn provided(store: &mut MemoryStore, count: u64) -> usize {
    let kept = |n: &u64| !store.providers(NOW, &RecordKey::from(format!("honest {n}"))).unwrap().is_empty();
    (0..count).filter(kept).count()
}

/// One peer, and twenty that announce the same keys, ten times more than there is room for.
#[test]
fn loud_providers_displace_nobody() {
    for loud in [1, 20] {
        let mut store = store(1_000);
        for n in 0..10_000_u64 {
            if n == 5_000 {
                (0..100).for_each(|n| assert!(announce(&mut store, format!("honest {n}"), 1_000 + n)));
            }
            announce(&mut store, format!("loud {}", n / loud), n % loud);
        }
        assert_eq!((provided(&mut store, 100), store.usage().providers), (100, 1_000));
    }
}

/// 10,000 ids with a key each, and a hundred late ones: each is kept with chance 1,000 / 10,100.
#[test]
fn many_ids_leave_late_ones_their_chance() {
    let mut kept = 0;
    for seed in 0..10 {
        let mut config = MemoryStoreConfig::default();
        config.max_providers = 1_000;
        let mut store = MemoryStore::new(config, [seed; 32]);
        for n in 0..10_100_u64 {
            let key = if n % 101 == 100 { format!("honest {}", n / 101) } else { format!("sybil {n}") };
            announce(&mut store, key, n);
        }
        kept += provided(&mut store, 100);
    }
    // The standard deviation is 9.4.
    assert!((70..=130).contains(&kept), "{kept}");
}

/// 10,000 ids under one key get 20 records: other keys are not affected; nor does one IP group take a key from others.
#[test]
fn many_ids_under_one_key_displace_neither_other_keys_nor_other_groups() {
    let mut store = store(1_000);
    (0..100).for_each(|n| assert!(announce(&mut store, format!("honest {n}"), 100_000 + n)));
    let key = || RecordKey::from("flooded");
    for n in 0..10_000 {
        let record = ProviderRecord::new(key(), contact(n), NOW + DAY * 2, NOW + DAY);
        let mut sender = Sender::new(peer(n));
        // Ten honest ones, each in a group of its own, and one group that floods.
        sender.group = Some(if n % 1_000 == 999 { n } else { 7 });
        let _ = store.run(NOW, Ticket::new(0), Op::AddProvider(Box::new(record), Some(sender)));
    }
    assert_eq!((provided(&mut store, 100), store.usage().providers), (100, 120));
    let found = store.providers(NOW, &key()).unwrap();
    let honest = (0..10).filter(|n| found.iter().any(|record| *record.provider.peer() == peer(n * 1_000 + 999)));
    assert_eq!(honest.count(), 10);
}

/// Announcing repeatedly changes nothing.
#[test]
fn a_settled_store_stays_as_it_is() {
    let mut store = store(1_000);
    let all: Vec<_> = (0..5_000_u64).map(|n| (format!("honest {}", n % 3_000), n % 2_000)).collect();
    let mut round = || {
        all.iter().for_each(|(key, n)| _ = announce(&mut store, key.clone(), *n));
        let kept = |(key, n): &(String, u64)| {
            let found = store.providers(NOW, &RecordKey::from(key.as_str())).unwrap();
            found.iter().any(|record| *record.provider.peer() == peer(*n))
        };
        all.iter().map(kept).collect::<Vec<_>>()
    };
    round();
    let before = round();
    let changed = before.iter().zip(round()).filter(|(before, after)| **before != *after).count();
    assert!(changed < 100, "{changed} of {} changed", before.iter().filter(|kept| **kept).count());
}
