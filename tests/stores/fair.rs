//! Late and honest: what a full memory store keeps of a hundred that come after a flood.
//!
//! Each test states the fair share and fails if early ones, loud ones or made-up ones get more.

use std::time::Duration;

use libp2p_kad_dht::core::store::StoreExt as _;
use libp2p_kad_dht::core::{Key, MemoryStore, MemoryStoreConfig, ProviderRecord, Record, RecordKey, Store};

use super::NOW;
use super::flood::contact;

const DAY: Duration = Duration::from_secs(24 * 3600);
/// How many come late.
const HONEST: u64 = 100;
/// Keys, peers and values that the stores have room for; four times as many provider records.
const ROOM: usize = 1_000;

fn store(seed: u8) -> MemoryStore {
    let mut config = MemoryStoreConfig::default();
    (config.max_provided_keys, config.max_providers, config.max_peers) = (ROOM, 4 * ROOM, ROOM);
    (config.max_values, config.max_value_bytes) = (ROOM, ROOM * 1024);
    let mut store = MemoryStore::new(config, [seed; 32]);
    for n in 0..50 {
        let mut record = Record::new(format!("/own/{n}"), "mine", NOW);
        record.own = true;
        store.put(NOW, record).unwrap();
        announce(&mut store, &format!("own {n}"), 1_000_000, true);
    }
    store
}

fn announce(store: &mut MemoryStore, key: &str, peer: u64, own: bool) {
    let mut record = ProviderRecord::new(RecordKey::from(key), contact(peer), NOW + DAY * 2, NOW + DAY);
    record.own = own;
    let _ = store.add_provider(NOW, record);
}

fn provides(store: &mut MemoryStore, key: &str, n: u64) -> bool {
    let Ok(found) = store.providers(NOW, &RecordKey::from(key)) else { return false };
    found.iter().any(|record| record.provider.peer() == contact(n).peer())
}

/// Honest peer `n`.
fn honest(n: u64) -> (String, u64) {
    (format!("honest {n}"), 500_000 + n)
}

/// A hundred late peers announce a key each; how many of them a flood that goes on leaves.
fn late(store: &mut MemoryStore, flood: impl Fn(&mut MemoryStore)) -> usize {
    flood(store);
    for n in 0..HONEST {
        let (key, peer) = honest(n);
        announce(store, &key, peer, false);
    }
    flood(store);
    assert_eq!(store.usage().own, 100, "own records never give way");
    (0..HONEST).map(honest).filter(|(key, peer)| provides(store, key, *peer)).count()
}

/// One peer, ten times the room. A fair share of 1,000 keys is 990 for it and one for each of the others, so: all.
#[test]
fn one_loud_peer_displaces_nobody() {
    let mut store = store(1);
    let kept = late(&mut store, |store| {
        for n in 0..10 * ROOM {
            announce(store, &format!("loud {n}"), 1, false);
        }
    });
    assert_eq!(kept, 100);
    assert_eq!(store.usage().providers, ROOM, "what others do not need is left to the loud one");
}

/// Twenty that announce the same keys, so that no key is free when one of them loses it, in different orders.
#[test]
fn a_few_loud_peers_displace_nobody() {
    let mut store = store(2);
    let kept = late(&mut store, |store| {
        for peer in 0..20_u64 {
            for n in 0..1_500_u64 {
                let n = if peer % 2 == 0 { n } else { 1_499 - n };
                announce(store, &format!("loud {n}"), peer, false);
            }
        }
    });
    assert_eq!(kept, 100);
    assert_eq!(store.usage().providers, 4 * ROOM);
}

/// 10,000 ids under one key hold 20 records: others do not feel it.
#[test]
fn many_ids_under_one_key_displace_no_other_key() {
    let mut store = store(3);
    let kept = late(&mut store, |store| {
        for n in 0..10_000 {
            announce(store, "flooded", n, false);
        }
    });
    assert_eq!((kept, store.usage().providers), (100, 120));
}

/// The same key: 20 of 10,100 are kept, so 0.2 of the hundred late ones at one node, and 6 of those at 30 nodes.
#[test]
fn many_ids_under_one_key_leave_late_ones_their_chance() {
    let mut kept = 0;
    for seed in 0..30 {
        let mut store = store(seed);
        for n in (0..10_000).chain((0..HONEST).map(|n| honest(n).1)) {
            announce(&mut store, "flooded", n, false);
        }
        kept += (0..HONEST).filter(|n| provides(&mut store, "flooded", honest(*n).1)).count();
    }
    // The standard deviation is 2.4.
    assert!((1..=14).contains(&kept), "{kept}");
}

/// 10,000 ids with a key each: 1,000 of 10,100 are kept, so 9.9 of a hundred at one node, and 99 at ten.
#[test]
fn many_ids_under_many_keys_leave_late_ones_their_chance() {
    let mut kept = 0;
    for seed in 0..10 {
        kept += late(&mut store(seed), |store| {
            for n in 0..10_000 {
                announce(store, &format!("sybil {n}"), n, false);
            }
        });
    }
    // The standard deviation is 9.4.
    assert!((70..=130).contains(&kept), "{kept}");
}

/// 1,900 ids with five keys each and room for 1,000 keys: one for each of as many peers, half of the hundred.
#[test]
fn ids_with_many_keys_get_no_more_than_ids_with_one() {
    let mut kept = 0;
    for seed in 0..5 {
        kept += late(&mut store(seed), |store| {
            for n in 0..5 * 1_900 {
                announce(store, &format!("sybil {n}"), n % 1_900, false);
            }
        });
    }
    // 250 of 500, with a standard deviation of 11.
    assert!((210..=290).contains(&kept), "{kept}");
}

fn put(store: &mut MemoryStore, key: &str, len: usize) {
    let mut record = Record::new(key, vec![1; len], NOW);
    record.expires = Some(NOW + DAY);
    let _ = store.put(NOW, record);
}

fn has(store: &mut MemoryStore, key: &str) -> bool {
    matches!(store.get(NOW, &RecordKey::from(key)), Ok(Some(_)))
}

fn late_values(store: &mut MemoryStore, honest: &[String], flood: impl Fn(&mut MemoryStore)) -> usize {
    flood(store);
    honest.iter().for_each(|key| put(store, key, 100));
    flood(store);
    assert_eq!(store.usage().own, 100, "own records never give way");
    assert!(store.usage().values <= ROOM);
    honest.iter().filter(|key| has(store, key)).count()
}

fn named(text: &str, count: u64) -> Vec<String> {
    (0..count).map(|n| format!("/{text}/{n}")).collect()
}

/// Keys that share this many bits with a place, as whoever tries long enough finds them.
fn near(text: &str, place: &Key, bits: u32, count: usize) -> Vec<String> {
    (0_u64..)
        .map(|n| format!("/{text}/{n}"))
        .filter(|key| at(key).common_prefix_len(place) >= bits)
        .take(count)
        .collect()
}

fn at(key: &str) -> Key {
    RecordKey::from(key).key()
}

/// 10,000 values and a hundred late ones: 1,000 of 10,100 are kept, 99 of those at ten nodes.
#[test]
fn late_values_have_the_same_chance_as_early_ones() {
    let (honest, flood) = (named("honest", HONEST), named("flood", 10_000));
    let mut kept = 0;
    for seed in 0..10 {
        kept += late_values(&mut store(seed), &honest, |store| flood.iter().for_each(|key| put(store, key, 100)));
    }
    assert!((70..=130).contains(&kept), "{kept}");
}

/// Ten times the bytes in values of 64 shares each: small ones are not worth displacing for them.
#[test]
fn large_values_have_less_of_a_chance_than_small_ones() {
    let honest = named("honest", HONEST);
    let flood = named("flood", 10 * ROOM as u64 / 64);
    let mut store = store(7);
    let kept = late_values(&mut store, &honest, |store| flood.iter().for_each(|key| put(store, key, 65_000)));
    assert!(kept >= 90, "{kept}");
    assert!(store.usage().values > 100, "the rest of the room is not wasted: {:?}", store.usage());
}

/// Values that belong here, among the nearest 64th of the keyspace, after ten times the room of values from anywhere.
#[test]
fn a_store_that_knows_its_place_keeps_what_is_near() {
    let place = at("this node");
    let (honest, flood) = (near("honest", &place, 6, HONEST as usize), named("flood", 10_000));
    let mut store = store(8).near(place);
    let kept = late_values(&mut store, &honest, |store| flood.iter().for_each(|key| put(store, key, 100)));
    assert!(kept >= 90, "{kept}");
    assert_eq!(store.usage().values, ROOM, "where there is room, what is far is kept too");
}

/// Keys that were made to be four times as near win four times as often, but do not displace all others.
#[test]
fn keys_made_to_be_near_do_not_displace_all_others() {
    let place = at("this node");
    let honest = near("honest", &place, 4, HONEST as usize);
    let flood = near("made", &place, 6, 2 * ROOM);
    let mut kept = 0;
    for seed in 0..10 {
        let mut store = store(seed).near(place);
        kept += late_values(&mut store, &honest, |store| flood.iter().for_each(|key| put(store, key, 100)));
    }
    // Each of the thousand honest ones has about a quarter of the chance of a made one, which is a half.
    assert!((80..=250).contains(&kept), "{kept}");
}

/// To announce again and again changes nothing.
#[test]
fn a_settled_store_stays_as_it_is() {
    let mut store = store(9);
    let all: Vec<_> = (0..5_000_u64).map(|n| (format!("key {}", n % 3_000), n % 2_000)).collect();
    let round = |store: &mut MemoryStore| all.iter().for_each(|(key, n)| announce(store, key, *n, false));
    let kept = |store: &mut MemoryStore| -> Vec<bool> { all.iter().map(|(key, n)| provides(store, key, *n)).collect() };
    round(&mut store);
    round(&mut store);
    let before = kept(&mut store);
    round(&mut store);
    let changed = before.iter().zip(kept(&mut store)).filter(|(before, after)| **before != *after).count();
    assert!(changed < 100, "{changed} of {} changed", before.iter().filter(|kept| **kept).count());
}
