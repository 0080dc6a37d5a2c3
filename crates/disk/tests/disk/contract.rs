//! The contract of every store, and the state that survives a restart.

use std::cell::Cell;
use std::time::Duration;

use libp2p_kad_dht::core::store::{SEQUENCE_MEMORY, Scan};
use libp2p_kad_dht::testing::conformance::Conformance;

use super::*;

/// Small enough for a flood to reach each bound.
fn small() -> DiskStoreConfig {
    let mut config = config();
    config.max_values = 200;
    config.max_providers = 300;
    config
}

#[test]
fn the_disk_store_conforms() {
    for cache_bytes in [0, 1024 * 1024] {
        let dir = Dir::new();
        let number = Cell::new(0);
        let open = || {
            let mut config = small();
            config.cache_bytes = cache_bytes;
            Box::new(DiskStore::open(dir.0.join(number.get().to_string()), config).unwrap()) as Box<dyn Store>
        };
        let make = || {
            number.set(number.get() + 1);
            open()
        };
        let reopen = |store| {
            drop(store);
            open()
        };
        let pump = || std::thread::sleep(Duration::from_micros(500));
        let checks = Conformance::new(make).with_reopen(reopen).with_pump(pump).with_polls(60_000);
        checks.with_flood(500).check_all();
    }
}

#[test]
fn a_start_finds_everything_again() {
    let dir = Dir::new();
    let mut store = open(&dir.file());
    let mut own = value("/a/own", b"mine");
    (own.own, own.expires, own.announced) = (true, None, Some(NOW));
    own.publisher = Some(peer(9));
    let mut signed = value("/a/signed", b"seven");
    signed.sequence = Some(7);
    let mut mine = provider("content", 1);
    (mine.own, mine.announced) = (true, Some(LATER));
    let contacts: Vec<_> = (0..30).map(|n| provider("x", n).provider).collect();
    for record in [value("/a/b", b"first"), own.clone(), signed, value("/a/b", b"second"), value("/a/gone", b"x")] {
        let write = store.put(NOW, record);
        stored(&mut store, write).unwrap();
    }
    for record in [mine, provider("content", 2), provider("content", 3)] {
        let write = store.add_provider(NOW, record);
        stored(&mut store, write).unwrap();
    }
    for write in [
        store.remove(&"/a/gone".into()),
        store.remove_provider(&"content".into(), &peer(3)),
        store.save_peers(contacts.clone()),
    ] {
        stored(&mut store, write).unwrap();
    }
    let (usage, next) = (store.usage(), store.next_expiry());
    assert_eq!((usage.values, usage.providers, usage.own), (2, 1, 2));
    drop(store);

    let mut store = open(&dir.file());
    assert_eq!((store.usage(), store.next_expiry()), (usage, next), "counted without a look at all of it");
    assert_eq!(get(&mut store, NOW, "/a/b"), Some(value("/a/b", b"second")));
    assert_eq!(get(&mut store, NOW, "/a/own"), Some(own));
    assert_eq!(get(&mut store, NOW, "/a/gone"), None);
    let found = providers(&mut store, "content");
    assert_eq!(
        found.iter().map(|record| (record.own, record.announced)).collect::<Vec<_>>(),
        [(true, Some(LATER)), (false, None)]
    );
    let own: Vec<_> = all(&mut store, Scan::Own);
    assert!(own.len() == 2 && own.iter().all(Item::is_own), "{own:?}");
    assert_eq!(all(&mut store, Scan::Values).len(), 3);
    assert_eq!(saved_peers(&mut store), Ok(contacts));

    assert_eq!(expire(&mut store, LATER), 4, "two values, two providers");
    drop(store);
    let mut store = open(&dir.file());
    assert_eq!(get(&mut store, LATER, "/a/signed"), None);
    assert!(remembers(&mut store, LATER, "/a/signed", 6), "a number outlives its value and a start");
    let until = LATER + (LATER - NOW).max(SEQUENCE_MEMORY);
    assert!(!remembers(&mut store, until, "/a/signed", 6), "but not forever");
}

#[test]
fn of_too_many_sequence_numbers_the_first_to_be_forgotten_go() {
    let dir = Dir::new();
    let mut config = config();
    config.max_sequences = 3;
    let mut store = Opened::at(dir.file(), config).unwrap();
    for n in 0..5_u64 {
        let mut record = value(&format!("/a/{n}"), b"v");
        (record.sequence, record.expires) = (Some(n + 1), Some(LATER + Duration::from_secs(n)));
        let write = store.put(NOW, record);
        stored(&mut store, write).unwrap();
    }
    let now = LATER + Duration::from_secs(10);
    assert_eq!(expire(&mut store, now), 5);
    let known: Vec<_> = (0..5).rev().map(|n| remembers(&mut store, now, &format!("/a/{n}"), n)).collect();
    assert_eq!(known, [true, true, true, false, false]);
}

#[test]
fn a_key_with_too_many_providers_keeps_a_fair_sample_and_its_own() {
    let dir = Dir::new();
    let mut config = small();
    config.max_providers_per_key = 4;
    let mut kept = [0; 2];
    for seed in 0..24 {
        let mut seeded = DiskStoreConfig::default().with_seed([seed; 32]);
        seeded.max_providers_per_key = config.max_providers_per_key;
        let mut store = Opened::at(dir.0.join(seed.to_string()), seeded).unwrap();
        let mut mine = provider("content", 1_000);
        mine.own = true;
        let writes: Vec<_> = std::iter::once(mine)
            .chain((0..16).map(|n| provider("content", n)))
            .map(|record| store.add_provider(NOW, record))
            .collect();
        for write in writes {
            let _ = stored(&mut store, write);
        }
        let found = providers(&mut store, "content");
        assert_eq!((found.len(), found.iter().filter(|record| record.own).count()), (5, 1));
        for n in 0..16 {
            kept[n as usize / 8] += usize::from(found.iter().any(|record| *record.provider.peer() == peer(n)));
        }
    }
    // 96 places, 48 expected for each half; a store that keeps only the first or the last ones has none of the other
    // half.
    assert!(kept.iter().all(|count| (24..=72).contains(count)), "early and late: {kept:?}");
}

#[test]
fn addresses_are_bounded_and_the_record_is_kept() {
    let dir = Dir::new();
    let mut config = config();
    config.max_addr_bytes_per_record = 30;
    let mut store = Opened::at(dir.file(), config).unwrap();
    let addrs = (1..=9).map(|port| format!("/ip4/10.0.0.1/tcp/{port}").parse().unwrap());
    let write =
        store.add_provider(NOW, ProviderRecord::new("content".into(), Contact::new(peer(1), addrs), LATER, LATER));
    stored(&mut store, write).unwrap();
    // An address of eight bytes costs ten.
    assert_eq!(providers(&mut store, "content")[0].provider.raw_addrs().count(), 3);
}
