//! Reads that help later ones: corrections, and copies on the path.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::time::Duration;

use bytes::Bytes;

use super::Network;
use super::network::peer;
use crate::core::io::{Answer, Input, Operation, QueryOptions};
use crate::core::store::StoreExt as _;
use crate::core::{DhtConfig, Found, Mode, Record, RecordKey};

fn key() -> RecordKey {
    RecordKey::from("/app/x")
}

fn put(value: &'static str) -> Operation {
    Operation::Put { key: key(), value: Bytes::from_static(value.as_bytes()) }
}

fn get() -> Operation {
    Operation::Get { key: key() }
}

fn everyone() -> QueryOptions {
    QueryOptions::default().with_all_asked()
}

/// All nodes, the nearest to the key first.
fn nearest(network: &Network) -> Vec<usize> {
    let mut all: Vec<_> = (0..network.nodes.len()).collect();
    all.sort_by_key(|i| network.contact(*i).key().distance(&key().key()));
    all
}

fn held(network: &mut Network, i: usize) -> Option<Record> {
    match network.nodes[i].store().get(network.now, &key()) {
        Ok(record) => record,
        other => panic!("{other:?}"),
    }
}

fn holding(network: &mut Network, nodes: &[usize], value: &str) -> usize {
    let holds = |i: &&usize| held(network, **i).is_some_and(|record| record.value == value.as_bytes());
    nodes.iter().filter(holds).count()
}

/// Lets corrections arrive.
fn settle(network: &mut Network) {
    network.advance(Duration::from_secs(1));
}

#[test]
fn after_one_get_all_of_the_closest_hold_the_value() {
    let mut network = Network::joined(60, DhtConfig::default());
    network.run(7, put("v")).unwrap();
    let all = nearest(&network);
    let (closest, reader) = (&all[..20], all[59]);
    for i in [0, 3, 8, 9, 15] {
        network.run(closest[i], Operation::Remove { key: key() }).unwrap();
    }
    assert_eq!(holding(&mut network, closest, "v"), 15);
    let Answer::Value(Found { corrected, missing, cached, .. }) = network.run_with(reader, get(), everyone()).unwrap()
    else {
        panic!("a value")
    };
    assert_eq!(corrected, [0, 3, 8, 9, 15].map(|i| peer(closest[i])), "nearest first");
    assert!(corrected.iter().all(|peer| missing.contains(peer)));
    assert_eq!(cached, None, "the nearest peer without it is one of the closest");
    let stores = network.nodes[reader].stats().stores;
    assert_eq!((stores.corrected, stores.cached), (5, 0));
    settle(&mut network);
    assert_eq!(holding(&mut network, closest, "v"), 20);
    let over = |record: Option<Record>| record.unwrap().expires.unwrap();
    let longest = over(held(&mut network, closest[1]));
    assert!(over(held(&mut network, closest[0])) <= longest, "a correction does not extend the lifetime");
    assert_eq!(held(&mut network, reader), None, "the reader is far away");
}

#[test]
fn an_older_value_at_a_quarter_of_the_holders_is_replaced_by_one_read() {
    let mut network = Network::joined(60, DhtConfig::default());
    network.run(7, put("old")).unwrap();
    let all = nearest(&network);
    let (closest, reader) = (all[..20].to_vec(), all[59]);
    let stale: BTreeSet<usize> = [1, 4, 6, 12, 19].into_iter().map(|i| closest[i]).collect();
    assert!(!stale.contains(&7));
    network.dead.clone_from(&stale);
    network.advance(Duration::from_secs(5));
    network.run(7, put("new")).unwrap();
    network.dead.clear();
    assert_eq!(holding(&mut network, &closest, "old"), 5);
    let Answer::Value(Found { record, outdated, .. }) = network.run_with(reader, get(), everyone()).unwrap() else {
        panic!("a value")
    };
    assert_eq!(&record.value[..], b"new");
    assert_eq!(outdated.into_iter().collect::<BTreeSet<_>>(), stale.iter().map(|i| peer(*i)).collect());
    settle(&mut network);
    assert_eq!(holding(&mut network, &closest, "new"), 20);
    // No holder is left to correct.
    assert!(matches!(
        network.run_with(reader, get(), everyone()).unwrap(),
        Answer::Value(Found { corrected, outdated, .. }) if corrected.is_empty() && outdated.is_empty()
    ));
}

#[test]
fn a_reader_among_the_closest_keeps_the_value_if_it_serves() {
    for (mode, kept) in [(Mode::Server, true), (Mode::Client, false)] {
        let mut network = Network::joined(60, DhtConfig::default());
        network.run(7, put("v")).unwrap();
        let near = nearest(&network).into_iter().find(|i| *i != 7).unwrap();
        network.run(near, Operation::Remove { key: key() }).unwrap();
        network.input(near, Input::Mode(mode));
        network.run(near, get()).unwrap();
        assert_eq!(held(&mut network, near).is_some(), kept, "{mode}");
    }
}

/// Every node reads once, one after the other. Returns the network, the number of requests, and the nodes with a copy.
fn read_by_all(path_caching: bool) -> (Network, u64, Vec<usize>) {
    let mut config = DhtConfig::default();
    config.lookup.replication = NonZeroUsize::new(4).unwrap();
    config.lookup.parallelism = NonZeroUsize::new(2).unwrap();
    config.lookup.resiliency = NonZeroUsize::new(2).unwrap();
    config.routing.bucket_size = NonZeroUsize::new(4).unwrap();
    config.maintenance.refresh_interval = None;
    config.maintenance.check_interval = None;
    config.record.path_caching = path_caching;
    let mut network = Network::joined(70, config);
    network.run(7, put("v")).unwrap();
    let mut requests = 0;
    for reader in (0..70).rev() {
        match network.run(reader, get()).unwrap() {
            Answer::Value(Found { report, .. }) => requests += report.requests as u64,
            other => panic!("{other:?}"),
        }
        settle(&mut network);
        network.events.clear();
    }
    let cached: u64 = network.nodes.iter().map(|node| node.stats().stores.cached).sum();
    assert_eq!(cached > 0, path_caching, "{cached}");
    let far = nearest(&network).split_off(8);
    let copies = far.into_iter().filter(|i| *i != 7 && held(&mut network, *i).is_some()).collect();
    (network, requests, copies)
}

#[test]
fn copies_on_the_path_end_later_reads_sooner_and_expire() {
    let (_, without, none) = read_by_all(false);
    let (mut network, with, copies) = read_by_all(true);
    assert!(none.is_empty() && !copies.is_empty(), "{none:?} {copies:?}");
    assert!(with < without, "{with} requests with copies, {without} without");
    let all = nearest(&network);
    let over = |record: Record| record.expires.unwrap();
    let original = all[..4].iter().filter(|i| **i != 7).map(|i| held(&mut network, *i).unwrap()).map(over).min();
    let last = copies.iter().map(|i| over(held(&mut network, *i).unwrap())).max();
    assert!(last < original, "copies live shorter: {last:?} {original:?}");
    network.advance(last.unwrap() - network.now);
    assert!(copies.iter().all(|i| held(&mut network, *i).is_none()), "they are not kept alive");
    assert!(holding(&mut network, &all[..4], "v") >= 3, "while the value is there");
}
