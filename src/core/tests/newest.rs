//! The value that was put last stays, whichever value is announced afterwards.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::Network;
use crate::core::store::{Item, Scan, StoreExt as _};
use crate::core::{
    Answer, Dht, DhtConfig, Event, Found, Input, MemoryStore, MemoryStoreConfig, Operation, Record, RecordKey,
};

const HOUR: Duration = Duration::from_secs(3_600);
const NODES: usize = 60;
const K: usize = 8;

fn config() -> DhtConfig {
    let mut config = DhtConfig::default();
    config.lookup.replication = K.try_into().unwrap();
    // No node comes or goes.
    config.maintenance.check_interval = None;
    config.maintenance.refresh_interval = None;
    config
}

fn key() -> RecordKey {
    RecordKey::from("/app/x")
}

fn put(network: &mut Network, i: usize, value: &'static str) {
    let put = Operation::Put { key: key(), value: Bytes::from_static(value.as_bytes()) };
    network.run(i, put).unwrap();
}

/// All nodes, the nearest to the key first.
fn nearest(network: &Network) -> Vec<usize> {
    let mut all: Vec<_> = (0..NODES).collect();
    all.sort_by_key(|i| network.contact(*i).key().distance(&key().key()));
    all
}

fn held(network: &mut Network, i: usize) -> Option<Record> {
    network.nodes[i].store().get(network.now, &key()).unwrap()
}

/// Number of living nodes closest to the key that hold this value.
fn holding(network: &mut Network, value: &str) -> usize {
    let living: Vec<_> = nearest(network).into_iter().filter(|i| !network.dead.contains(i)).take(K).collect();
    let holds = |i: usize, network: &mut Network| held(network, i).is_some_and(|record| record.value == value);
    living.into_iter().filter(|i| holds(*i, network)).count()
}

/// Stops a node and starts it again `away` later, with the same store. `meanwhile` runs an hour after it stopped.
fn restart_after(network: &mut Network, i: usize, away: Duration, meanwhile: impl FnOnce(&mut Network)) {
    let items = network.nodes[i].store().scan(Scan::All, None, usize::MAX).unwrap();
    network.dead.insert(i);
    network.advance(HOUR);
    meanwhile(network);
    network.advance(away - HOUR);
    let mut store = MemoryStore::new(MemoryStoreConfig::default(), [9; 32]);
    for item in items {
        match item {
            Item::Value(record) => store.put(network.now, record).unwrap(),
            Item::Provider(record) => store.add_provider(network.now, record).unwrap(),
        }
    }
    let local = network.contact(i);
    network.nodes[i] = Dht::new(network.now, local, Box::new(store), [99; 32], Arc::new(config())).unwrap();
    network.dead.remove(&i);
    let boot = network.contact(usize::from(i == 0));
    network.input(i, Input::AddPeer(boot));
    network.run(i, Operation::Bootstrap).unwrap();
}

fn superseded(network: &Network, i: usize) -> usize {
    let told = |(node, event): &&(usize, Event)| *node == i && matches!(event, Event::Superseded { .. });
    network.events.iter().filter(told).count()
}

fn reads(network: &mut Network, i: usize) -> Bytes {
    let Ok(Answer::Value(Found { record, .. })) = network.run(i, Operation::Get { key: key() }) else {
        panic!("not found")
    };
    record.value
}

#[test]
fn the_first_publisher_gives_way_to_the_second() {
    let mut network = Network::joined(NODES, config());
    let order = nearest(&network);
    // First neither is among the holders, then the second is.
    let (first, second) = (order[NODES - 1], order[NODES - 2]);
    put(&mut network, first, "old");
    network.advance(10 * HOUR);
    put(&mut network, second, "new");
    for hour in 0..70 {
        network.advance(HOUR);
        let kept = holding(&mut network, "new");
        assert!(kept >= K - 1, "{kept} of {K} keep the new value {hour} h later");
        if hour == 24 {
            let record = held(&mut network, first).unwrap();
            assert!(!record.own && record.superseded && record.value == "new", "{record:?}");
        }
    }
    assert_eq!(reads(&mut network, second), "new");
    assert_eq!(superseded(&network, first), 1, "its publisher reports it");
    assert_eq!(superseded(&network, second), 0);
}

#[test]
fn a_publisher_that_was_away_brings_no_old_value_back() {
    for away in [10, 30, 72] {
        let mut network = Network::joined(NODES, config());
        let order = nearest(&network);
        let (first, second) = (order[NODES - 1], order[2]);
        put(&mut network, first, "old");
        restart_after(&mut network, first, away * HOUR, |network| put(network, second, "new"));
        for _ in 0..30 {
            network.advance(HOUR);
            let kept = holding(&mut network, "new");
            assert!(kept >= K - 1, "{kept} of {K} keep the new value after {away} h away");
        }
        assert_eq!(reads(&mut network, second), "new");
        let record = held(&mut network, second).unwrap();
        assert!(record.own, "the last publisher still publishes: {record:?}");
    }
}
