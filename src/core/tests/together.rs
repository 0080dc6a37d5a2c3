//! Operations that share their work: equal queries, and records that go out together. And those that need no lookup.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;

use super::Network;
use super::network::peer;
use crate::core::io::{Answer, Event, Operation, QueryEvent, QueryId, QueryOptions};
use crate::core::message::Kind;
use crate::core::store::StoreExt;
use crate::core::{DhtConfig, Distance, Found, Key, Published, QueryError, Quorum, RecordKey};

fn put(key: &str, value: &str) -> Operation {
    Operation::Put { key: RecordKey::from(key), value: Bytes::copy_from_slice(value.as_bytes()) }
}

fn get(key: &str) -> Operation {
    Operation::Get { key: RecordKey::from(key) }
}

fn ends(network: &Network, i: usize, id: QueryId) -> usize {
    let is_end = |(node, event): &&(usize, Event)| match event {
        Event::QueryProgressed { id: of, event: QueryEvent::Finished(_) } => (*node, *of) == (i, id),
        _ => false,
    };
    network.events.iter().filter(is_end).count()
}

fn value(result: Option<Result<Answer, QueryError>>) -> Vec<u8> {
    match result {
        Some(Ok(Answer::Value(Found { record, .. }))) => record.value.to_vec(),
        other => panic!("{other:?}"),
    }
}

/// The number of GET_VALUE requests that a node has sent.
fn asked(network: &Network, i: usize) -> u64 {
    network.nodes[i].stats().sent[Kind::GetValue as usize]
}

/// A value at all of the k closest, and the number of requests that one get of it takes that asks all of these.
fn stored(network: &mut Network) -> u64 {
    network.run(3, put("/app/x", "hello")).unwrap();
    network.run_with(30, get("/app/x"), QueryOptions::default().with_all_asked()).unwrap();
    asked(network, 30)
}

#[test]
fn equal_gets_share_their_requests_and_each_has_the_result() {
    let mut network = Network::joined(60, DhtConfig::default());
    let alone = stored(&mut network);
    let options = QueryOptions::default().with_all_asked();
    let ids: Vec<_> = (0..10).map(|_| network.start(31, get("/app/x"), options.clone())).collect();
    network.advance(Duration::from_secs(5));
    assert!(asked(&network, 31) <= alone + 5, "{} requests, {alone} for one", asked(&network, 31));
    for id in ids {
        assert_eq!(value(network.finished(31, id)), b"hello");
        assert_eq!(ends(&network, 31, id), 1);
    }
    assert_eq!(network.nodes[31].levels().queries, 0);
}

#[test]
fn what_is_not_equal_or_wants_its_own_work_shares_nothing() {
    let mut network = Network::joined(60, DhtConfig::default());
    let alone = stored(&mut network);
    let all = QueryOptions::default().with_all_asked();
    network.start(31, get("/app/x"), all.clone());
    network.start(31, get("/app/x"), all.clone().with_own_work());
    network.start(31, get("/app/x"), all.clone().with_quorum(Quorum::Majority));
    network.start(31, Operation::ClosestPeers { key: Bytes::from_static(b"/app/x") }, QueryOptions::default());
    network.advance(Duration::from_secs(5));
    assert!(asked(&network, 31) > alone * 5 / 2, "{} requests, {alone} for one", asked(&network, 31));
}

/// The first of three is cancelled, then the last. The one between goes on and has its result.
#[test]
fn a_query_that_is_cancelled_leaves_those_that_share_its_work_alone() {
    let mut network = Network::joined(60, DhtConfig::default());
    let alone = stored(&mut network);
    let options = QueryOptions::default().with_all_asked();
    let ids: Vec<_> = (0..3).map(|_| network.start(31, get("/app/x"), options.clone())).collect();
    for id in [ids[0], ids[2]] {
        network.step();
        network.nodes[31].cancel(id);
        network.nodes[31].cancel(id);
    }
    network.advance(Duration::from_secs(5));
    assert_eq!(value(network.finished(31, ids[1])), b"hello");
    for id in [ids[0], ids[2]] {
        assert!(matches!(network.finished(31, id), Some(Err(QueryError::Cancelled))));
        assert_eq!(ends(&network, 31, id), 1);
    }
    assert!(asked(&network, 31) <= alone + 5);
    assert_eq!(network.nodes[31].levels().queries, 0);
}

#[test]
fn once_all_calls_are_cancelled_nothing_more_is_asked() {
    let mut network = Network::joined(60, DhtConfig::default());
    stored(&mut network);
    let options = QueryOptions::default().with_all_asked();
    let ids: Vec<_> = (0..3).map(|_| network.start(31, get("/app/x"), options.clone())).collect();
    for id in ids {
        network.nodes[31].cancel(id);
    }
    assert_eq!(network.nodes[31].levels().queries, 0);
    assert_eq!(network.nodes[31].levels().requests, 0);
    let id = network.start(31, get("/app/x"), options);
    network.advance(Duration::from_secs(5));
    assert_eq!(value(network.finished(31, id)), b"hello", "a later one does its own work");
}

/// No peer answers, so each call ends when its own time is up, and all work ends with the last.
#[test]
fn each_call_has_its_own_time_limit() {
    let mut network = Network::joined(30, DhtConfig::default());
    network.silent = (0..30).filter(|i| *i != 7).collect();
    let options = QueryOptions::default().with_timeout(Duration::from_secs(3));
    let first = network.start(7, get("/app/x"), options.clone());
    network.advance(Duration::from_secs(1));
    let second = network.start(7, get("/app/x"), options);
    network.advance(Duration::from_millis(2_500));
    assert!(matches!(network.finished(7, first), Some(Err(_))), "after 3.5 s");
    assert!(network.finished(7, second).is_none(), "after 2.5 s");
    network.advance(Duration::from_secs(1));
    assert!(matches!(network.finished(7, second), Some(Err(_))), "after 3.5 s");
    assert_eq!((ends(&network, 7, first), ends(&network, 7, second)), (1, 1));
    assert_eq!(network.nodes[7].levels().queries, 0);
}

/// A get that begins before a put must not give its result to one that begins after it.
#[test]
fn a_get_after_a_put_sees_the_value_that_was_put() {
    let mut network = Network::joined(60, DhtConfig::default());
    stored(&mut network);
    let slow = QueryOptions::default().with_all_asked();
    let before = network.start(31, get("/app/x"), slow.clone());
    network.step();
    network.start(31, put("/app/x", "newer"), QueryOptions::default());
    let after = network.start(31, get("/app/x"), slow);
    network.advance(Duration::from_secs(5));
    assert!(network.finished(31, before).is_some());
    assert_eq!(value(network.finished(31, after)), b"newer");
}

/// Ten times as many records as the k closest could tell: 600 keys in 60 nodes.
#[test]
fn records_that_go_out_together_share_the_search_for_their_closest_peers() {
    let mut network = Network::joined(60, DhtConfig::default());
    let sent = |network: &Network, kind: Kind| network.nodes[9].stats().sent[kind as usize];
    let (nodes, puts) = (sent(&network, Kind::FindNode), sent(&network, Kind::PutValue));
    let options = QueryOptions::default().with_batching();
    let ids: Vec<_> = (0..600).map(|i| network.start(9, put(&format!("/app/{i}"), "v"), options.clone())).collect();
    network.advance(Duration::from_secs(60));
    for (i, id) in ids.iter().enumerate() {
        let Some(Ok(Answer::Published(Published { report }))) = network.finished(9, *id) else {
            panic!("{i}: {:?}", network.finished(9, *id))
        };
        let key = Key::hash(format!("/app/{i}").as_bytes());
        let mut all: Vec<_> = (0..60).filter(|node| *node != 9).map(peer).collect();
        key.sort_by_distance(&mut all);
        let closest: BTreeSet<_> = all.into_iter().take(20).collect();
        assert_eq!(BTreeSet::from_iter(report.acknowledged), closest, "{i}");
    }
    let (nodes, puts) = (sent(&network, Kind::FindNode) - nodes, sent(&network, Kind::PutValue) - puts);
    assert!(nodes <= 600 * 20 / 10, "{nodes} FIND_NODE");
    assert!(puts <= 600 * 41 / 2, "{puts} PUT_VALUE");
    assert_eq!(network.nodes[9].levels().queries, 0);
}

#[test]
fn a_record_that_goes_out_with_others_fails_without_peers_and_is_told_to_the_first_peer_all_the_same() {
    let mut network = Network::new(2, DhtConfig::default());
    let id = network.start(0, put("/app/x", "hello"), QueryOptions::default().with_batching());
    network.advance(Duration::from_secs(1));
    assert!(matches!(network.finished(0, id), Some(Err(QueryError::NoPeers))), "{:?}", network.finished(0, id));
    network.connect(1, 0);
    network.advance(Duration::from_secs(130));
    let now = network.now;
    let held = network.nodes[1].store().get(now, &RecordKey::from("/app/x"));
    assert!(matches!(held, Ok(Some(_))), "{held:?}");
}

#[test]
fn a_node_knows_without_asking_who_is_near_and_what_it_is_responsible_for() {
    let network = Network::joined(60, DhtConfig::default());
    let node = &network.nodes[5];
    let sent = network.sent;
    let reach = node.responsibility();
    assert!(reach < Distance::MAX && reach > Distance::ZERO);
    for i in 0..500 {
        let key = Key::hash(format!("key {i}").as_bytes());
        let mut known: Vec<_> = node.routing_snapshot().entries().map(|entry| entry.peer).collect();
        key.sort_by_distance(&mut known);
        let nearest: Vec<_> = node.nearest(&key, 3).iter().map(|peer| peer.id).collect();
        assert_eq!(nearest, known[..3], "nearest first");
        let rank = known.iter().filter(|peer| Key::from(**peer).distance(&key) < node.local().key().distance(&key));
        let near = rank.count() < 20;
        assert_eq!(node.is_near(&key), near);
        assert!(near || node.local().key().distance(&key) > reach, "{key:?} is within {reach:?}");
    }
    assert_eq!(network.sent, sent);
    let alone = &Network::new(1, DhtConfig::default()).nodes[0];
    assert!(alone.is_near(&Key::hash(b"any")));
    assert_eq!(alone.responsibility(), Distance::MAX);
    assert!(alone.nearest(&Key::hash(b"any"), 3).is_empty());
}
