//! Records that outlive the nodes that store them, in a small network.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::Network;
use super::network::peer;
use crate::core::config::Interval;
use crate::core::io::{Answer, Input, Operation};
use crate::core::message::{Request, Value};
use crate::core::store::StoreExt as _;
use crate::core::{
    Contact, Dht, DhtConfig, MemoryStore, MemoryStoreConfig, ProviderRecord, ProvidersFound, RecordKey, Timestamp,
};

const HOUR: Duration = Duration::from_secs(3_600);

fn put(key: &str) -> Operation {
    Operation::Put { key: RecordKey::from(key), value: Bytes::from_static(b"value") }
}

/// The living nodes other than `without` that store a value, nearest first.
fn holders(network: &mut Network, key: &RecordKey, without: usize) -> Vec<usize> {
    let (now, place) = (network.now, key.key());
    let mut holders: Vec<_> = (0..network.nodes.len())
        .filter(|i| *i != without && !network.dead.contains(i))
        .filter(|i| matches!(network.nodes[*i].store().get(now, key), Ok(Some(_))))
        .collect();
    holders.sort_by_key(|i| network.contact(*i).key().distance(&place));
    holders
}

/// k = 8, so that k is small compared with the network.
fn config() -> DhtConfig {
    let mut config = DhtConfig::default();
    config.lookup.replication = 8.try_into().unwrap();
    config.routing.bucket_size = 8.try_into().unwrap();
    config.maintenance.refresh_interval = None;
    config.maintenance.check_interval = None;
    config
}

fn total(network: &Network, of: impl Fn(&crate::core::stats::Stores) -> u64) -> u64 {
    network.nodes.iter().map(|node| of(&node.stats().stores)).sum()
}

/// 40 nodes, of which the publisher dies immediately, and some holders of the value every two hours after that.
fn holders_die(config: DhtConfig) -> (bool, Vec<usize>) {
    let key = RecordKey::from("/app/x");
    let mut network = Network::joined(40, config);
    network.run(7, put("/app/x")).unwrap();
    network.dead.insert(7);
    let mut counts = Vec::new();
    for _ in 0..5 {
        network.advance(HOUR * 2);
        let holders = holders(&mut network, &key, 7);
        counts.push(holders.len());
        network.dead.extend(holders.iter().take(3));
        network.dead.remove(&0); // The one that asks below.
    }
    let found = network.run(0, Operation::Get { key }).is_ok();
    (found, counts)
}

#[test]
fn a_value_outlives_its_publisher_and_all_its_first_holders() {
    let mut config = config();
    config.maintenance.refresh_interval = Some(HOUR / 2);
    config.maintenance.check_interval = Some(HOUR / 2);
    let (found, counts) = holders_die(config.clone());
    assert!(found && counts.iter().all(|holders| *holders >= 6), "{counts:?}");
    config.maintenance.replicate_interval = Interval::Never;
    let (found, counts) = holders_die(config);
    assert!(!found, "{counts:?}: not by chance");
}

#[test]
fn of_k_holders_one_stores_again_in_each_period() {
    let mut config = config();
    (config.maintenance.announce_interval, config.maintenance.region_interval) = (Interval::Never, Interval::Never);
    let mut network = Network::joined(40, config);
    let keys: Vec<_> = (0..20).map(|i| format!("/app/{i}")).collect();
    for (i, key) in keys.iter().enumerate() {
        network.run(i, put(key)).unwrap();
    }
    network.advance(2 * HOUR);
    let before = total(&network, |stores| stores.replicated);
    network.advance(10 * HOUR);
    let a_value_hour = (total(&network, |stores| stores.replicated) - before) as f64 / 200.0;
    assert!((6.0..8.8).contains(&a_value_hour), "{a_value_hour} stores a value and hour, k is 8");
    let until = holders(&mut network, &RecordKey::from("/app/3"), 3).len();
    assert!(until >= 8, "{until}");
    network.advance(37 * HOUR);
    assert!(holders(&mut network, &RecordKey::from("/app/3"), 3).is_empty(), "nothing delays its end");
}

/// Replaces the first node by one with these own provider records, each announced this long ago, as after a restart.
fn restart(network: &mut Network, records: impl Iterator<Item = (RecordKey, Option<Duration>)>) {
    let local = network.contact(0);
    let mut store = MemoryStore::new(MemoryStoreConfig::default(), [9; 32]);
    for (key, ago) in records {
        let mut record = ProviderRecord::new(key, Contact::new(*local.peer(), []), Timestamp::MAX, Timestamp::MAX);
        record.own = true;
        record.announced = ago.map(|ago| Timestamp::ZERO + (network.now - Timestamp::ZERO - ago));
        store.add_provider(network.now, record).unwrap();
    }
    network.nodes[0] = Dht::new(network.now, local, Box::new(store), [99; 32], Arc::new(config())).unwrap();
    let boot = network.contact(1);
    network.input(0, Input::AddPeer(boot));
    network.run(0, Operation::Bootstrap).unwrap();
}

fn content(i: usize) -> RecordKey {
    RecordKey::from(format!("content {i}"))
}

/// Stores these records of the first node at the holders among 40 nodes, of which `away` had not joined yet then.
fn holders_of(network: &mut Network, count: usize, away: &[usize]) {
    let (local, end) = (network.contact(0), network.now + 40 * HOUR);
    for key in (0..count).map(content) {
        for i in closest(network, &key).into_iter().filter(|i| !away.contains(i)).take(8) {
            let record = ProviderRecord::new(key.clone(), Arc::clone(&local), end, end);
            network.nodes[i].store().add_provider(Timestamp::from_secs(1), record).unwrap();
        }
    }
}

/// All other nodes, nearest first.
fn closest(network: &Network, key: &RecordKey) -> Vec<usize> {
    let place = key.key();
    let mut all: Vec<_> = (1..network.nodes.len()).collect();
    all.sort_by_key(|i| network.contact(*i).key().distance(&place));
    all
}

/// Number of records that all of the k closest have.
fn known(network: &mut Network, count: usize) -> usize {
    let now = network.now;
    let knows = |network: &mut Network, i: usize, key: &RecordKey| match network.nodes[i].store().providers(now, key) {
        Ok(records) => !records.is_empty(),
        _ => false,
    };
    let all = |key: &RecordKey| closest(network, key).into_iter().take(8).all(|i| knows(network, i, key));
    (0..count).map(content).filter(all).count()
}

fn requests(network: &Network) -> u64 {
    network.nodes[0].stats().sent.iter().sum()
}

const HOURS: u32 = 22;

/// 1,000 own records of which ten are due. Returns the number of announcements and of requests in the first hour, and
/// of records that all of the closest have then.
fn first_hour(away: &[usize], ten: Option<Duration>) -> (u64, u64, usize) {
    let mut network = Network::joined(40, config());
    holders_of(&mut network, 1_000, away);
    let ago = |i: usize| if i.is_multiple_of(100) { ten } else { Some(5 * HOUR) };
    restart(&mut network, (0..1_000).map(|i| (content(i), ago(i))));
    let before = requests(&network);
    network.advance(HOUR + HOUR / 20);
    let known = known(&mut network, 1_000);
    (total(&network, |stores| stores.announced), requests(&network) - before, known)
}

#[test]
fn after_a_restart_only_the_due_records_are_announced() {
    for ten in [Some(HOURS * HOUR), None] {
        let (announced, requests, known) = first_hour(&[], ten);
        assert!((80..=88).contains(&announced), "{announced} announcements");
        assert!(requests < 8_000, "{requests} requests: fewer than it would take to announce all");
        assert_eq!(known, 1_000);
    }
}

#[test]
fn after_a_restart_records_go_to_the_peers_that_came_meanwhile() {
    let (announced, requests, known) = first_hour(&[5, 17, 30], Some(HOURS * HOUR));
    // Each of the three is among the closest to a fifth of the keys.
    assert!((500..900).contains(&announced), "{announced} announcements");
    assert_eq!(known, 1_000);
    assert!(requests < announced + 7_500, "{requests} requests");
}

#[test]
fn after_a_long_absence_every_record_is_announced_again() {
    let most: Vec<_> = (1..40).filter(|i| i % 3 != 0).collect();
    let (announced, _, known) = first_hour(&most, Some(HOURS * HOUR));
    assert!((7_800..=8_200).contains(&announced), "{announced} announcements");
    assert_eq!(known, 1_000);
}

#[test]
fn after_a_long_sleep_due_records_are_announced_over_a_whole_cycle() {
    let (count, mut network) = (300, Network::joined(40, config()));
    restart(&mut network, (0..count).map(|i| (content(i), Some(30 * HOUR))));
    let (mut announced, mut walks) = (Vec::new(), network.nodes[0].stats().sent[4]);
    for _ in 0..13 {
        let before = total(&network, |stores| stores.announced);
        network.advance(HOUR / 12);
        announced.push(total(&network, |stores| stores.announced) - before);
    }
    walks = network.nodes[0].stats().sent[4] - walks;
    let all = 8 * count as u64;
    let sum: u64 = announced.iter().sum();
    assert!((all..=all + all / 8).contains(&sum), "{announced:?}");
    assert!(announced.iter().all(|count| *count <= all / 6), "spread over the hour: {announced:?}");
    assert!(walks < 8 * count as u64 / 2, "{walks} requests: records share a lookup");
    for i in 0..count {
        assert!(matches!(
            network.run(5, Operation::Providers { key: content(i) }).unwrap(),
            Answer::Providers(ProvidersFound { found: 1, .. })
        ));
    }
}

#[test]
fn records_go_to_peers_that_are_new_among_the_closest_and_to_no_others() {
    let mut config = config();
    config.maintenance.replicate_interval = Interval::Never;
    config.maintenance.refresh_interval = Some(HOUR / 2);
    config.maintenance.check_interval = Some(HOUR / 2);
    let mut network = Network::joined(40, config);
    let key = RecordKey::from("content");
    network.run(7, Operation::Provide { key: key.clone() }).unwrap();
    network.advance(3 * HOUR);
    assert_eq!(total(&network, |stores| stores.announced), 0, "all have it");
    let place = key.key();
    let mut closest: Vec<_> = (0..40).filter(|i| *i != 7).collect();
    closest.sort_by_key(|i| network.contact(*i).key().distance(&place));
    network.dead.extend(closest.iter().take(5));
    network.advance(3 * HOUR);
    let announced = total(&network, |stores| stores.announced);
    assert!((5..=7).contains(&announced), "{announced} to replace five");
    let now = network.now;
    let knows = |network: &mut Network, i: usize| match network.nodes[i].store().providers(now, &key) {
        Ok(records) => records.iter().any(|record| *record.provider.peer() == peer(7)),
        _ => false,
    };
    let all: BTreeSet<_> = closest[5..13].iter().filter(|i| knows(&mut network, **i)).collect();
    assert_eq!(all.len(), 8);
    network.run(7, Operation::StopProviding { key: key.clone() }).unwrap();
    network.dead.extend(closest[5..10].iter());
    network.advance(3 * HOUR);
    assert_eq!(total(&network, |stores| stores.announced), announced, "no longer provided");
}

#[test]
fn a_newcomer_gets_the_values_it_is_close_to_from_one_holder() {
    let mut config = config();
    config.maintenance.refresh_interval = Some(HOUR / 3);
    config.maintenance.check_interval = Some(HOUR / 3);
    config.maintenance.region_interval = Interval::Never;
    config.maintenance.replicate_interval = Interval::Every(24 * HOUR);
    let mut network = Network::new(40, config);
    network.dead.insert(39);
    let boot = network.contact(0);
    for i in 1..39 {
        network.input(i, Input::AddPeer(std::sync::Arc::clone(&boot)));
        network.run(i, Operation::Bootstrap).unwrap();
    }
    let keys: Vec<_> = (0..40).map(|i| RecordKey::from(format!("/app/{i}"))).collect();
    for key in &keys {
        network.run(7, Operation::Put { key: key.clone(), value: Bytes::from_static(b"value") }).unwrap();
    }
    network.advance(HOUR);
    assert_eq!(total(&network, |stores| stores.joined), 0, "no peer is new");
    network.dead.remove(&39);
    network.input(39, Input::AddPeer(boot));
    network.run(39, Operation::Bootstrap).unwrap();
    network.advance(HOUR);
    let now = network.now;
    let among = |network: &Network, key: &RecordKey| {
        let (place, new) = (key.key(), network.contact(39));
        (0..39).filter(|i| network.contact(*i).key().distance(&place) < new.key().distance(&place)).count() < 8
    };
    let expected: Vec<_> = keys.iter().filter(|key| among(&network, key)).collect();
    let got = keys.iter().filter(|key| matches!(network.nodes[39].store().get(now, key), Ok(Some(_))));
    let (got, joined) = (got.count(), total(&network, |stores| stores.joined));
    assert!(expected.len() > 5 && got + 1 >= expected.len(), "{got} of {} expected", expected.len());
    assert!(joined <= got as u64 + 2, "{joined} stores for {got} values");
}

/// Lets a node that is no holder send the same value to all holders.
fn send_again(network: &mut Network, from: usize, key: &RecordKey, value: &Bytes) {
    for to in holders(network, key, from) {
        let value = Value::new(key.clone(), value.clone());
        network.tell(to, from, Request::PutValue { value });
    }
}

#[test]
fn a_stranger_that_keeps_sending_a_value_does_not_stop_its_holders_from_storing_it_again() {
    let mut config = config();
    (config.maintenance.announce_interval, config.maintenance.region_interval) = (Interval::Never, Interval::Never);
    let replicated = |stranger: bool| {
        let mut network = Network::joined(40, config.clone());
        let key = RecordKey::from("/app/x");
        let from = *closest(&network, &key).last().unwrap();
        network.run(from, put("/app/x")).unwrap();
        for _ in 0..16 {
            if stranger {
                send_again(&mut network, from, &key, &Bytes::from_static(b"value"));
            }
            network.advance(HOUR * 3 / 4);
        }
        total(&network, |stores| stores.replicated)
    };
    let (undisturbed, disturbed) = (replicated(false), replicated(true));
    assert!(undisturbed >= 70, "{undisturbed} stores in 12 h, k is 8");
    assert!(disturbed >= undisturbed * 9 / 10 && disturbed <= undisturbed * 5 / 4, "{disturbed} of {undisturbed}");
}

#[test]
fn values_of_strangers_make_a_holder_send_no_more_than_the_budget() {
    let mut config = config();
    (config.maintenance.announce_interval, config.maintenance.region_interval) = (Interval::Never, Interval::Never);
    config.maintenance.replicate_bytes = 20_000;
    let mut network = Network::joined(40, config);
    let holder = 3;
    for i in 0..200 {
        let value = Value::new(format!("/app/{i}"), vec![7; 1_000]);
        network.tell(holder, 20, Request::PutValue { value });
    }
    network.advance(6 * HOUR);
    let sent = network.nodes[holder].stats().stores.replicated;
    // The bytes of one hour at the start, and then those of each hour. Forty of the values are its to store, at seven
    // others each.
    assert!((40..=7 * 20).contains(&sent), "{sent} stores of 1,000 bytes");
}

/// Node 39 of 40 publishes 150 values and 150 keys while it is alone for this long. Returns the number of them that all
/// of the k closest have twelve seconds after it meets its first peer. (That is the rate of 3,000 in two minutes, which
/// takes minutes to test.)
fn announced_after(alone: Duration) -> usize {
    const EACH: usize = 150;
    let mut network = Network::new(40, config());
    network.dead.insert(39);
    let boot = network.contact(0);
    for i in 1..39 {
        network.input(i, Input::AddPeer(Arc::clone(&boot)));
        network.run(i, Operation::Bootstrap).unwrap();
    }
    network.dead.remove(&39);
    for i in 0..EACH {
        network.run(39, put(&format!("/app/{i}"))).unwrap_err();
        network.run(39, Operation::Provide { key: content(i) }).unwrap_err();
    }
    network.dead.extend(0..39);
    network.advance(alone);
    network.dead.clear();
    network.input(39, Input::AddPeer(boot));
    network.advance(Duration::from_secs(12));
    let now = network.now;
    let value = |network: &mut Network, i: usize, key: &RecordKey| {
        matches!(network.nodes[i].store().get(now, key), Ok(Some(_)))
    };
    let provider = |network: &mut Network, i: usize, key: &RecordKey| matches!(network.nodes[i].store().providers(now, key), Ok(all) if !all.is_empty());
    let mut told = 0;
    for i in 0..EACH {
        let (name, content) = (RecordKey::from(format!("/app/{i}")), content(i));
        let closest = |network: &Network, key: &RecordKey| {
            let all = closest(network, key).into_iter().chain([0]).filter(|i| *i != 39);
            let mut all: Vec<_> = all.collect();
            all.sort_by_key(|i| network.contact(*i).key().distance(&key.key()));
            all.truncate(8);
            all
        };
        told += usize::from(closest(&network, &name).into_iter().all(|i| value(&mut network, i, &name)));
        told += usize::from(closest(&network, &content).into_iter().all(|i| provider(&mut network, i, &content)));
    }
    told
}

#[test]
fn records_published_alone_are_announced_within_seconds_of_the_first_peer() {
    for alone in [Duration::from_secs(300), 3 * HOUR] {
        let told = announced_after(alone);
        assert!(told >= 299, "{told} of 300 after {alone:?} alone");
    }
}
