//! Late and honest: what a full disk store keeps of those that come after a flood, by the rules of the memory store.
//!
//! Each test states the fair share and fails if early ones, loud ones or made-up ones get more.

use super::*;

/// How many come late.
const HONEST: u64 = 50;
/// Keys and values that the stores have room for; twice as many provider records.
const ROOM: usize = 200;

fn store(dir: &Dir, seed: u8) -> Opened {
    let mut config = DiskStoreConfig::default().with_seed([seed; 32]);
    (config.max_provided_keys, config.max_providers) = (ROOM, 2 * ROOM);
    (config.max_values, config.max_value_bytes) = (ROOM, ROOM * 1024);
    Opened::at(dir.0.join(seed.to_string()), config).unwrap()
}

/// Hands over all writes at once, as a node does; each of them may be refused.
fn write_all(store: &mut Opened, writes: impl Iterator<Item = impl FnOnce(&mut Opened) -> Ticket>) {
    let mut last = None;
    for write in writes {
        last = Some(write(store));
    }
    // Writes end in their order.
    last.into_iter().for_each(|ticket| drop(store.wait(ticket)));
}

fn announce_all(store: &mut Opened, records: impl Iterator<Item = (String, u64)>) {
    write_all(store, records.map(|(key, n)| move |store: &mut Opened| store.add_provider(NOW, provider(&key, n))));
}

fn honest(n: u64) -> (String, u64) {
    (format!("honest {n}"), 1_000_000 + n)
}

/// Late peers announce a key each; how many of them a flood that goes on leaves.
fn late(store: &mut Opened, flood: &[(String, u64)]) -> usize {
    announce_all(store, flood.iter().cloned());
    announce_all(store, (0..HONEST).map(honest));
    announce_all(store, flood.iter().cloned());
    let mut provides =
        |(key, n): (String, u64)| providers(store, &key).iter().any(|record| *record.provider.peer() == peer(n));
    (0..HONEST).filter(|n| provides(honest(*n))).count()
}

/// One peer, five times the room. A fair share is what the others do not need, so all of these stay.
#[test]
fn one_loud_peer_displaces_nobody() {
    let dir = Dir::new();
    let mut store = store(&dir, 1);
    let flood: Vec<_> = (0..5 * ROOM).map(|n| (format!("loud {n}"), 1)).collect();
    assert_eq!(late(&mut store, &flood), 50);
    assert_eq!(store.usage().providers, ROOM, "what others do not need is left to the loud one");
}

/// Eight that announce the same keys, so that no key is free when one of them loses it, in different orders.
#[test]
fn a_few_loud_peers_displace_nobody() {
    let dir = Dir::new();
    let mut store = store(&dir, 2);
    let keys = |peer: u64| (0..300_u64).map(move |n| (if peer.is_multiple_of(2) { n } else { 299 - n }, peer));
    let flood: Vec<_> = (0..8).flat_map(keys).map(|(n, peer)| (format!("loud {n}"), peer)).collect();
    assert_eq!(late(&mut store, &flood), 50);
    assert_eq!(store.usage().providers, 2 * ROOM);
}

/// 1,000 ids under one key hold 20 records: others do not feel it.
#[test]
fn many_ids_under_one_key_displace_no_other_key() {
    let dir = Dir::new();
    let mut store = store(&dir, 3);
    let flood: Vec<_> = (0..1_000).map(|n| ("flooded".to_owned(), n)).collect();
    assert_eq!((late(&mut store, &flood), store.usage().providers), (50, 70));
}

/// 1,950 ids with a key each: 200 of 2,000 are kept, so 5 of fifty at one store, and 20 at four.
#[test]
fn many_ids_under_many_keys_leave_late_ones_their_chance() {
    let dir = Dir::new();
    let flood: Vec<_> = (0..1_950).map(|n| (format!("made up {n}"), n)).collect();
    let kept: usize = (0..4).map(|seed| late(&mut store(&dir, seed), &flood)).sum();
    // The standard deviation is 4.2.
    assert!((6..=36).contains(&kept), "{kept}");
}

/// 350 ids with five keys each: one for each of as many peers, so half of the fifty, and 100 at four stores.
#[test]
fn ids_with_many_keys_get_no_more_than_ids_with_one() {
    let dir = Dir::new();
    let flood: Vec<_> = (0..5 * 350).map(|n| (format!("made up {n}"), n % 350)).collect();
    let kept: usize = (0..4).map(|seed| late(&mut store(&dir, seed), &flood)).sum();
    // The standard deviation is 6.6.
    assert!((75..=125).contains(&kept), "{kept}");
}

/// Keys with eight providers each take no room that keys with one need: 400 records, and all the late ones.
#[test]
fn keys_with_many_providers_make_room_for_keys_with_one() {
    let dir = Dir::new();
    let mut store = store(&dir, 4);
    let flood: Vec<_> = (0..50 * 20).map(|n| (format!("popular {}", n % 50), n)).collect();
    assert_eq!(late(&mut store, &flood), 50);
    assert_eq!(store.usage().providers, 2 * ROOM);
    for n in 0..50 {
        let count = providers(&mut store, &format!("popular {n}")).len();
        assert!((6..=8).contains(&count), "350 records are shared by 50 keys: {count}");
    }
}

fn put_all(store: &mut Opened, keys: &[String], len: usize) {
    let put = |key: &String| {
        let record = value(key, &vec![1; len]);
        move |store: &mut Opened| store.put(NOW, record)
    };
    write_all(store, keys.iter().map(put));
}

fn named(text: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("/{text}/{n}")).collect()
}

fn late_values(store: &mut Opened, flood: &[String], len: usize) -> usize {
    let honest = named("honest", HONEST as usize);
    put_all(store, flood, len);
    put_all(store, &honest, 100);
    put_all(store, flood, len);
    assert!(store.usage().values <= ROOM);
    honest.iter().filter(|key| get(store, NOW, key).is_some()).count()
}

/// 1,950 values and fifty late ones: 200 of 2,000 are kept, 20 of those at four stores.
#[test]
fn late_values_have_the_same_chance_as_early_ones() {
    let dir = Dir::new();
    let flood = named("flood", 1_950);
    let kept: usize = (0..4).map(|seed| late_values(&mut store(&dir, seed), &flood, 100)).sum();
    assert!((6..=36).contains(&kept), "{kept}");
}

/// Ten times the bytes in values of 32 shares each: small ones are not worth displacing for them.
#[test]
fn large_values_have_less_of_a_chance_than_small_ones() {
    let dir = Dir::new();
    let mut store = store(&dir, 7);
    let kept = late_values(&mut store, &named("flood", 10 * ROOM / 32), 32_000);
    assert!(kept >= 45, "{kept}");
    assert!(store.usage().values > 50, "the rest of the room is not wasted: {:?}", store.usage());
}

/// To announce again and again changes nothing, and own records never give way.
#[test]
fn a_settled_store_stays_as_it_is() {
    let dir = Dir::new();
    let mut store = store(&dir, 9);
    let own = |n: u64| {
        let mut record = provider(&format!("own {n}"), 9_999_999);
        record.own = true;
        record
    };
    write_all(&mut store, (0..20).map(|n| move |store: &mut Opened| store.add_provider(NOW, own(n))));
    let all: Vec<_> = (0..1_000_u64).map(|n| (format!("key {}", n % 600), n % 400)).collect();
    let kept = |store: &mut Opened| {
        let mut kept: Vec<_> = super::all(store, Scan::All)
            .into_iter()
            .map(|item| match item {
                Item::Provider(record) => (record.key.as_bytes().to_vec(), *record.provider.peer()),
                other => panic!("{other:?}"),
            })
            .collect();
        kept.sort();
        kept
    };
    announce_all(&mut store, all.iter().cloned());
    announce_all(&mut store, all.iter().cloned());
    let before = kept(&mut store);
    announce_all(&mut store, all.iter().cloned());
    let after = kept(&mut store);
    let stay = after.iter().filter(|record| before.contains(record)).count();
    assert!(stay * 100 >= before.len() * 95, "{stay} of {} stay", before.len());
    assert_eq!(store.usage().own, 20, "own records never give way");
    drop(store);
    let mut store = self::store(&dir, 9);
    assert_eq!(kept(&mut store), after, "a start changes nothing");
}
