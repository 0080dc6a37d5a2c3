//! The eviction rule in a full store on the disk, and in one whose bounds become smaller, over several transactions and
//! restarts. The rule itself is tested in the core.

use super::*;

/// Number of values that the stores have room for.
const ROOM: usize = 1_000;
const FLOOD: u64 = 6_000;

fn bounded() -> DiskStoreConfig {
    let mut config = config();
    (config.max_values, config.max_providers) = (ROOM, ROOM);
    config
}

/// A peer, in an IP group if one is given.
fn sender(n: u64, group: Option<u64>) -> Sender {
    let mut sender = Sender::new(peer(n));
    sender.group = group;
    sender
}

fn put_by(key: &str, bytes: &[u8], sender: Sender) -> Op {
    Op::Put(Box::new(Put::new(value(key, bytes), Judge::of_the_last()).from(sender)))
}

/// Begins writes as fast as the store accepts them. Any of them may be refused.
fn write_all(store: &mut Opened, now: Timestamp, ops: impl Iterator<Item = Op>) {
    let mut last = None;
    for (n, op) in ops.enumerate() {
        let ticket = store.begin(now, op);
        last = Some(ticket);
        // Writes of peers end in the order in which they began.
        if n % 2_000 == 1_999 {
            let _ = store.wait(ticket);
            last = None;
        }
    }
    last.into_iter().for_each(|ticket| drop(store.wait(ticket)));
    store.done.clear();
}

/// Stores 500 values of 50 peers, and counts how many of them are left after a flood.
fn left_after(flood: impl Iterator<Item = Op>) -> usize {
    let dir = Dir::new();
    let mut store = Opened::at(dir.file(), bounded()).unwrap();
    let honest = |n: u64| format!("/honest/{n}");
    write_all(&mut store, NOW, (0..500).map(|n| put_by(&honest(n), b"v", sender(n % 50, Some(n % 50)))));
    assert_eq!(store.usage().values, 500);
    write_all(&mut store, NOW, flood);
    assert!(store.usage().values <= ROOM);
    (0..500).filter(|n| get(&mut store, NOW, &honest(*n)).is_some()).count()
}

#[test]
fn a_flood_from_one_peer_displaces_nobody() {
    let left = left_after((0..FLOOD).map(|n| put_by(&format!("/flood/{n}"), b"v", sender(1_000, Some(1_000)))));
    assert!(left >= 499, "{left}");
}

#[test]
fn a_flood_from_one_ip_group_displaces_nobody() {
    let left =
        left_after((0..FLOOD).map(|n| put_by(&format!("/flood/{n}"), b"v", sender(1_000 + n % 50, Some(1_000)))));
    assert!(left >= 499, "{left}");
}

#[test]
fn a_flood_from_fifty_groups_leaves_most() {
    let by = |n: u64| sender(1_000 + n % 50, Some(1_000 + n % 50));
    let left = left_after((0..FLOOD).map(|n| put_by(&format!("/flood/{n}"), b"v", by(n))));
    assert!(left >= 400, "{left}");
}

/// One peer announces far more than there is room for; every later peer still finds room.
#[test]
fn late_providers_find_room_after_a_flood() {
    let dir = Dir::new();
    let mut store = Opened::at(dir.file(), bounded()).unwrap();
    let announce = |key: String, n: u64| Op::AddProvider(Box::new(provider(&key, n)), Some(sender(n, None)));
    write_all(&mut store, NOW, (0..3 * ROOM as u64).map(|n| announce(format!("loud {n}"), 1)));
    assert_eq!(store.usage().providers, ROOM, "what others do not need is left to the loud one");
    write_all(&mut store, NOW, (0..50).map(|n| announce(format!("late {n}"), 100 + n)));
    write_all(&mut store, NOW, (0..ROOM as u64).map(|n| announce(format!("loud again {n}"), 1)));
    let kept = (0..50).filter(|n| providers(&mut store, &format!("late {n}")).len() == 1).count();
    assert_eq!((kept, store.usage().providers), (50, ROOM));
}

/// Announcing repeatedly changes nothing, and neither does a restart. Own records are never evicted.
#[test]
fn a_settled_store_stays_as_it_is() {
    let dir = Dir::new();
    let mut config = bounded();
    config.max_providers = 200;
    let mut store = Opened::at(dir.file(), config.clone()).unwrap();
    let own = |n: u64| {
        let mut record = provider(&format!("own {n}"), 9_999_999);
        record.own = true;
        Op::AddProvider(Box::new(record), None)
    };
    let all =
        || (0..1_000_u64).map(|n| Op::AddProvider(Box::new(provider(&format!("key {}", n % 600), n % 400)), None));
    write_all(&mut store, NOW, (0..20).map(own));
    let kept = |store: &mut Opened| {
        let items = super::all(store, Scan::All).into_iter();
        let named = items.map(|item| match item {
            Item::Provider(record) => (record.key.as_bytes().to_vec(), *record.provider.peer()),
            other => panic!("{other:?}"),
        });
        named.collect::<std::collections::BTreeSet<_>>()
    };
    write_all(&mut store, NOW, all());
    write_all(&mut store, NOW, all());
    let before = kept(&mut store);
    write_all(&mut store, NOW, all());
    let after = kept(&mut store);
    let stay = after.intersection(&before).count();
    assert!(stay * 100 >= before.len() * 90, "{stay} of {} stay", before.len());
    assert_eq!((store.usage().own, store.usage().providers), (20, 200));
    drop(store);
    assert_eq!(kept(&mut Opened::at(dir.file(), config).unwrap()), after, "a start changes nothing");
}

/// When it is opened with room for 100 of its 20,000 values, the store shrinks by the rule while it continues to work.
#[test]
fn a_store_whose_bounds_become_smaller_shrinks_and_takes_updates() {
    let dir = Dir::new();
    let mut store = open(&dir.file());
    write_all(&mut store, NOW, (0..20_000).map(|n| put_by(&format!("/loud/{n}"), b"v", sender(1, None))));
    write_all(&mut store, NOW, (0..60).map(|n| put_by(&format!("/quiet/{n}"), b"v", sender(100 + n, None))));
    assert_eq!(store.usage().values, 20_060);
    drop(store);
    let mut config = config();
    config.max_values = 100;
    let mut store = Opened::at(dir.file(), config).unwrap();
    for n in 0..60 {
        let update = put_by(&format!("/quiet/{n}"), b"newer", sender(100 + n, None));
        assert!(store.run(NOW, update).is_ok(), "an update of what is held is taken");
    }
    let mut waits = 0;
    while store.usage().values > 100 {
        waits += 1;
        assert!(waits < 60_000, "{:?}", store.usage());
        std::thread::sleep(Duration::from_millis(1));
    }
    for n in 0..60 {
        assert_eq!(
            get(&mut store, NOW, &format!("/quiet/{n}")).unwrap().value[..],
            *b"newer",
            "the loud one gives way"
        );
    }
    assert!(store.usage().values > 90, "no more than has to: {:?}", store.usage());
    assert_eq!(all(&mut store, Scan::Values).len(), store.usage().values);
    let late = put_by("/late", b"v", sender(9, None));
    assert!(store.run(NOW, late).is_ok(), "and there is room for others");
}

/// The store learns the time from its operations; reads alone make it shrink too.
#[test]
fn a_store_that_is_only_read_shrinks() {
    let dir = Dir::new();
    let mut store = open(&dir.file());
    write_all(&mut store, NOW, (0..2_000).map(|n| put_by(&format!("/a/{n}"), b"v", sender(n % 7, None))));
    drop(store);
    let mut config = config();
    config.max_values = 10;
    let mut store = Opened::at(dir.file(), config).unwrap();
    get(&mut store, NOW, "/a/1");
    let mut waits = 0;
    while store.usage().values > 10 {
        waits += 1;
        assert!(waits < 30_000, "{:?}", store.usage());
        std::thread::sleep(Duration::from_millis(1));
    }
}
