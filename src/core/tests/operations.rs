//! Every operation in a small network.

use std::time::Duration;

use bytes::Bytes;

use super::Network;
use super::network::{DELAY, peer};
use crate::core::io::{Answer, Event, Evidence, Operation, QueryEvent, QueryOptions};
use crate::core::store::StoreExt;
use crate::core::{
    ClosestPeers, DhtConfig, Found, FoundPeer, Key, PeerRecord, ProvidersFound, Published, QueryError, Quorum,
    RecordKey, Report, RequestError,
};

fn put(key: &str, value: &'static str) -> Operation {
    Operation::Put { key: RecordKey::from(key), value: Bytes::from_static(value.as_bytes()) }
}

fn get(key: &str) -> Operation {
    Operation::Get { key: RecordKey::from(key) }
}

fn true_closest(network: &Network, key: &Key, without: usize, count: usize) -> Vec<usize> {
    let live = |i: &usize| *i != without && !network.dead.contains(i) && !network.silent.contains(i);
    let mut all: Vec<_> = (0..network.nodes.len()).filter(live).collect();
    all.sort_by_key(|i| network.contact(*i).key().distance(key));
    all.truncate(count);
    all
}

fn stored(answer: Answer) -> Report {
    match answer {
        Answer::Published(Published { report, .. }) => report,
        other => panic!("not a publication: {other:?}"),
    }
}

#[test]
fn a_put_reaches_the_k_closest_and_every_node_gets_it() {
    let mut network = Network::joined(60, DhtConfig::default());
    let report = stored(network.run(7, put("/app/x", "hello")).unwrap());
    let expected: Vec<_> = true_closest(&network, &Key::hash(b"/app/x"), 7, 20).into_iter().map(peer).collect();
    assert_eq!(report.acknowledged, expected, "nearest first");
    assert!(report.failed.is_empty() && report.sent.is_empty());
    for i in 0..60 {
        match network.run(i, get("/app/x")).unwrap() {
            Answer::Value(Found { record, .. }) => assert_eq!(&record.value[..], b"hello"),
            other => panic!("{other:?}"),
        }
    }
}

/// Three of ten stores are full.
#[test]
fn a_value_that_full_stores_refuse_has_k_holders_all_the_same() {
    let mut network = Network::joined(100, DhtConfig::default());
    network.full = (0..100).filter(|i| [1, 4, 7].contains(&(i % 10))).collect();
    for i in 0..10 {
        let key = format!("/app/{i}");
        let report = stored(network.run(i * 10, put(&key, "hello")).unwrap());
        assert_eq!(report.acknowledged.len(), 20, "{key}");
        let closest = true_closest(&network, &Key::hash(key.as_bytes()), i * 10, 20);
        let mut with_room = closest.into_iter().filter(|i| !network.full.contains(i)).map(peer);
        assert!(with_room.all(|peer| report.acknowledged.contains(&peer)), "{key}");
    }
}

/// Number of nodes other than the publisher that hold it.
fn holders(network: &mut Network, key: &str) -> usize {
    let now = network.now;
    let key = RecordKey::from(key);
    network.nodes.iter_mut().filter_map(|node| node.store().get(now, &key).unwrap()).count()
}

#[test]
fn a_value_with_a_lifetime_is_announced_until_it_ends_and_then_gone() {
    let mut network = Network::joined(8, DhtConfig::default());
    let hours = |n: u64| Duration::from_secs(n * 3_600);
    let options = QueryOptions::default().with_expiry_in(hours(60));
    stored(network.run_with(1, put("/app/x", "hello"), options.clone()).unwrap());
    stored(network.run_with(2, put("/app/y", "hello"), options.with_keep(false)).unwrap());
    assert_eq!((holders(&mut network, "/app/x"), holders(&mut network, "/app/y")), (8, 7));
    network.advance(hours(59));
    assert_eq!(holders(&mut network, "/app/x"), 8, "longer than others keep it unless it is announced again");
    assert_eq!(holders(&mut network, "/app/y"), 0, "a node that does not keep it does not announce it again");
    network.advance(hours(1));
    assert_eq!(holders(&mut network, "/app/x"), 0);
    network.advance(hours(60));
    assert_eq!(holders(&mut network, "/app/x"), 0);
}

#[test]
fn a_node_without_a_store_reads_and_publishes_and_keeps_nothing() {
    let made = std::cell::Cell::new(0);
    let mut network = Network::with_stores(8, DhtConfig::default(), || {
        made.set(made.get() + 1);
        match made.get() {
            1 => Box::new(crate::core::NoStore),
            _ => Box::new(crate::core::MemoryStore::new(Default::default(), [7; 32])),
        }
    });
    network.join();
    let refused = network.run(0, put("/app/x", "hello")).unwrap_err();
    assert_eq!(refused, QueryError::Store(crate::core::StoreError::Full));
    let unkept = QueryOptions::default().with_keep(false);
    assert_eq!(stored(network.run_with(0, put("/app/x", "hello"), unkept).unwrap()).acknowledged.len(), 7);
    assert_eq!(stored(network.run(1, put("/app/y", "hello")).unwrap()).acknowledged.len(), 6);
    for key in ["/app/x", "/app/y"] {
        assert!(matches!(network.run(0, get(key)), Ok(Answer::Value(_))), "{key}");
    }
    assert_eq!(holders(&mut network, "/app/x"), 7);
}

#[test]
fn a_query_for_one_provider_gets_any_of_them() {
    let mut network = Network::joined(60, DhtConfig::default());
    for i in 0..20 {
        network.run(i, Operation::Provide { key: RecordKey::from("x") }).unwrap();
    }
    let mut asked = std::collections::BTreeMap::new();
    for i in 0..60 {
        let options = QueryOptions::default().with_limit(1.try_into().unwrap());
        network.events.clear();
        network.run_with(i, Operation::Providers { key: RecordKey::from("x") }, options).unwrap();
        for (_, event) in &network.events {
            if let Event::QueryProgressed { event: QueryEvent::Provider(provider), .. } = event {
                *asked.entry(provider.id).or_insert(0) += 1;
            }
        }
    }
    assert!(asked.len() >= 15 && asked.values().all(|times| *times <= 10), "{:?}", asked.values());
}

/// Other implementations may name providers that cannot be reached.
#[test]
fn providers_without_addresses_cost_no_lookups() {
    let mut network = Network::joined(60, DhtConfig::default());
    let key = RecordKey::from("x");
    let place = key.key();
    for i in true_closest(&network, &place, 0, 20) {
        for n in 0..8 {
            let provider = crate::core::Contact::new(peer(1_000 + n), []);
            let later = network.now + Duration::from_secs(3_600);
            let record = crate::core::ProviderRecord::new(key.clone(), provider, later, later);
            let _ = network.nodes[i].store().add_provider(network.now, record);
        }
    }
    let begun = network.now;
    match network.run(0, Operation::Providers { key }).unwrap() {
        Answer::Providers(ProvidersFound { report, .. }) => assert!(report.requests <= 20, "{report:?}"),
        other => panic!("{other:?}"),
    }
    assert!(network.now - begun <= Duration::from_millis(500), "{:?}", network.now - begun);
}

#[test]
fn a_publisher_can_change_its_value_to_lesser_bytes() {
    let mut network = Network::joined(5, DhtConfig::default());
    stored(network.run(1, put("/app/x", "9")).unwrap());
    network.advance(Duration::from_secs(2)); // lifetimes travel in whole seconds
    let report = stored(network.run(1, put("/app/x", "10")).unwrap());
    assert_eq!((report.acknowledged.len(), report.failed.len()), (4, 0));
    for i in 0..5 {
        match network.run(i, get("/app/x")).unwrap() {
            Answer::Value(Found { record, .. }) => assert_eq!(&record.value[..], b"10", "node {i}"),
            other => panic!("{other:?}"),
        }
    }
}

/// The value that was put last wins everywhere, at the earlier publisher too: otherwise two publishers of one key would
/// each keep and announce their own.
#[test]
fn of_two_publishers_the_later_one_wins_at_the_earlier_one_too() {
    let mut network = Network::joined(5, DhtConfig::default());
    stored(network.run(1, put("/app/x", "9")).unwrap());
    network.advance(Duration::from_secs(2)); // lifetimes travel in whole seconds
    stored(network.run(2, put("/app/x", "10")).unwrap());
    for i in 0..5 {
        match network.run(i, get("/app/x")).unwrap() {
            Answer::Value(Found { record, .. }) => {
                assert_eq!((&record.value[..], record.own), (&b"10"[..], i == 2), "node {i}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn an_own_value_that_comes_back_stays_the_publishers() {
    let mut network = Network::joined(5, DhtConfig::default());
    for publisher in [1, 2] {
        stored(network.run(publisher, put("/app/x", "same")).unwrap());
    }
    match network.run(1, get("/app/x")).unwrap() {
        Answer::Value(Found { record, from, .. }) => {
            assert_eq!((record.publisher, record.own, record.expires, from), (Some(peer(1)), true, None, None));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn closest_peers_are_the_closest_there_are() {
    let mut network = Network::joined(80, DhtConfig::default());
    for (i, target) in [(3, "a"), (40, "b"), (79, "c")] {
        let key = Bytes::from_static(target.as_bytes());
        let expected: Vec<_> = true_closest(&network, &Key::hash(&key), i, 20).into_iter().map(peer).collect();
        match network.run(i, Operation::ClosestPeers { key }).unwrap() {
            Answer::ClosestPeers(ClosestPeers { peers, .. }) => {
                assert_eq!(peers.iter().map(|p| p.id).collect::<Vec<_>>(), expected);
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn with_a_third_of_the_nodes_dead_a_put_still_reaches_k_live_ones() {
    let mut network = Network::joined(60, DhtConfig::default());
    network.dead.extend((0..60).filter(|i| i % 3 == 0));
    let report = stored(network.run(7, put("/app/y", "v")).unwrap());
    let expected: Vec<_> = true_closest(&network, &Key::hash(b"/app/y"), 7, 20).into_iter().map(peer).collect();
    assert_eq!(report.acknowledged.len(), 20, "as many as if all lived");
    let hits = report.acknowledged.iter().filter(|peer| expected.contains(peer)).count();
    assert!(hits >= 18, "{hits} of the 20 closest live nodes have it");
    assert!(report.failed.iter().all(|f| network.dead.iter().any(|d| peer(*d) == f.peer)));
}

#[test]
fn silent_peers_cost_little_time() {
    let mut network = Network::joined(60, DhtConfig::default());
    network.silent.extend([1, 11, 21, 31, 41, 51]);
    let begin = network.now;
    let report = stored(network.run(7, put("/app/z", "v")).unwrap());
    assert_eq!(report.acknowledged.len(), 20);
    let took = network.now - begin;
    assert!(took < 40 * DELAY, "{took:?}: late peers delay nothing");
}

#[test]
fn eight_of_nine_peers_dead_and_the_ninth_is_named_as_reached() {
    let mut network = Network::joined(10, DhtConfig::default());
    network.dead.extend(2..10);
    let operation = Operation::Provide { key: RecordKey::from("content") };
    let report = stored(network.run(0, operation).unwrap());
    assert_eq!(report.acknowledged, [peer(1)]);
    let dead: Vec<_> = report.failed.iter().map(|failure| failure.peer).collect();
    assert!((2..10).all(|i| dead.contains(&peer(i))), "{dead:?}");
    assert!(report.failed.iter().all(|failure| matches!(failure.why, RequestError::Unreachable(_))));
}

#[test]
fn a_peer_stopped_between_the_lookup_and_the_announcement_is_not_named_as_reached() {
    let mut network = Network::joined(10, DhtConfig::default());
    let id = network.start(0, Operation::Provide { key: RecordKey::from("content") }, QueryOptions::default());
    // All peers have answered the lookup when the first announcement leaves.
    while network.nodes[0].stats().sent[2] == 0 {
        assert!(network.step());
    }
    network.silent.insert(4);
    let result = loop {
        let end = network.events.iter().find_map(|(node, event)| match event {
            Event::QueryProgressed { id: of, event: QueryEvent::Finished(result) } if (*node, *of) == (0, id) => {
                Some((**result).clone())
            }
            _ => None,
        });
        match end {
            Some(end) => break end,
            None => assert!(network.step()),
        }
    };
    let report = stored(result.unwrap());
    assert!(!report.acknowledged.contains(&peer(4)));
    assert_eq!(report.acknowledged.len(), 8);
    assert!(report.sent.contains(&peer(4)) || report.failed.iter().any(|f| f.peer == peer(4)));
}

#[test]
fn providers_come_with_addresses_once_each_and_as_they_are_found() {
    let mut network = Network::joined(40, DhtConfig::default());
    for i in [3, 5, 8] {
        network.run(i, Operation::Provide { key: RecordKey::from("content") }).unwrap();
    }
    network.events.clear();
    let answer = network.run(20, Operation::Providers { key: RecordKey::from("content") }).unwrap();
    assert!(matches!(answer, Answer::Providers(ProvidersFound { found: 3, .. })));
    let reported = network.events.iter().filter_map(|(_, event)| match event {
        Event::QueryProgressed { event: QueryEvent::Provider(provider), .. } => Some(provider),
        _ => None,
    });
    let reported: Vec<_> = reported.collect();
    assert_eq!(reported.len(), 3);
    assert!(reported.iter().all(|provider| !provider.addrs.is_empty()));
    let options = QueryOptions::default().with_limit(std::num::NonZeroUsize::MIN);
    let answer = network.run_with(21, Operation::Providers { key: RecordKey::from("content") }, options).unwrap();
    assert!(matches!(answer, Answer::Providers(ProvidersFound { found: 1, .. })));
}

#[test]
fn a_peer_is_found_with_its_addresses_and_an_unknown_one_is_not() {
    let mut network = Network::joined(40, DhtConfig::default());
    for i in 1..40 {
        match network.run(i, Operation::FindPeer { peer: peer((i + 17) % 40) }) {
            Ok(Answer::Peer(FoundPeer { peer: found, evidence, .. })) => {
                assert_eq!(found, PeerRecord::from(&*network.contact((i + 17) % 40)));
                assert!(evidence > Evidence::Hearsay);
            }
            other => panic!("{other:?}"),
        }
    }
    match network.run(5, Operation::FindPeer { peer: peer(5) }).unwrap() {
        Answer::Peer(FoundPeer { peer: found, evidence, report, .. }) => {
            assert_eq!(
                (found, evidence, report.requests),
                (PeerRecord::from(&*network.contact(5)), Evidence::Reached, 0)
            );
        }
        other => panic!("{other:?}"),
    }
    let unknown = network.run(5, Operation::FindPeer { peer: peer(99) });
    assert!(matches!(unknown, Err(QueryError::NotFound(_))), "{unknown:?}");
}

#[test]
fn a_value_that_no_peer_has_is_not_found_and_a_node_without_peers_says_so() {
    let mut network = Network::joined(10, DhtConfig::default());
    assert!(matches!(network.run(3, get("/app/none")), Err(QueryError::NotFound(_))));
    let mut alone = Network::new(1, DhtConfig::default());
    assert_eq!(alone.run(0, get("/app/none")).unwrap_err(), QueryError::NoPeers);
    assert_eq!(alone.run(0, Operation::Bootstrap).unwrap_err(), QueryError::NoPeers);
    assert_eq!(alone.run(0, put("/app/own", "v")).unwrap_err(), QueryError::NoPeers);
    match alone.run(0, get("/app/own")).unwrap() {
        Answer::Value(Found { from, .. }) => assert_eq!(from, None, "it is stored here all the same"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_value_that_no_message_could_carry_is_refused_before_it_is_kept() {
    let mut network = Network::joined(3, DhtConfig::default());
    let value = |len: usize| Bytes::from(vec![1; len]);
    let put = |len| Operation::Put { key: RecordKey::from("/app/long"), value: value(len) };
    let limit = DhtConfig::default().record.max_value_len;
    let refused = network.run(0, put(limit + 1)).unwrap_err();
    assert_eq!(refused, QueryError::InvalidValue(crate::core::InvalidValue::TooLarge { limit }));
    assert!(matches!(network.run(0, get("/app/long")), Err(QueryError::NotFound(_))));
    network.run(0, put(limit)).unwrap();
}

#[test]
fn a_quorum_is_met_or_the_error_says_how_many_there_were() {
    let mut network = Network::joined(10, DhtConfig::default());
    network.run(0, put("/app/q", "v")).unwrap();
    let quorum = |n: usize| QueryOptions::default().with_quorum(Quorum::N(n.try_into().unwrap()));
    match network.run_with(1, get("/app/q"), quorum(5)).unwrap() {
        Answer::Value(Found { holders, .. }) => assert!(holders.len() >= 4, "the local one counts"),
        other => panic!("{other:?}"),
    }
    match network.run_with(1, get("/app/q"), quorum(15)).unwrap_err() {
        QueryError::QuorumMissed { wanted, reached, best, .. } => {
            assert_eq!((wanted.get(), reached), (15, 10));
            assert!(best.is_some());
        }
        other => panic!("{other:?}"),
    }
    match network.run_with(0, put("/app/q2", "v"), quorum(15)).unwrap_err() {
        QueryError::QuorumMissed { wanted, reached, report, .. } => {
            assert_eq!((wanted.get(), reached), (15, 9));
            assert_eq!(report.acknowledged.len(), 9);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_query_ends_at_its_own_time() {
    let mut network = Network::joined(3, DhtConfig::default());
    network.silent.extend([1, 2]);
    let options = QueryOptions::default().with_timeout(Duration::from_millis(1_500));
    let begin = network.now;
    let end = network.run_with(0, get("/app/slow"), options).unwrap_err();
    assert!(matches!(end, QueryError::TimedOut { .. }), "{end:?}");
    assert_eq!(network.now - begin, Duration::from_millis(1_500));
}

/// `count` nodes that know each other as if all had answered all, which would take long after a join.
fn acquainted(count: usize) -> Network {
    let mut network = Network::new(count, DhtConfig::default());
    let contacts: Vec<_> = (0..count).map(|i| network.contact(i)).collect();
    for i in 0..count {
        contacts.iter().for_each(|contact| network.nodes[i].admit_verified(network.now, contact));
        while network.nodes[i].poll_output().is_some() {}
    }
    network
}

#[test]
fn more_closest_peers_than_one_answer_names_are_the_true_ones() {
    let mut network = acquainted(400);
    let mut most = 0;
    for (limit, keys) in [(40, 10), (200, 2)] {
        for key in 0..keys {
            let key = Bytes::from(format!("key {limit} {key}"));
            let node = key.len() * 7 % 400;
            let expected: Vec<_> =
                true_closest(&network, &Key::hash(&key), node, limit).into_iter().map(peer).collect();
            let options = QueryOptions::default().with_limit(limit.try_into().unwrap());
            match network.run_with(node, Operation::ClosestPeers { key }, options).unwrap() {
                Answer::ClosestPeers(ClosestPeers { peers, report, .. }) => {
                    let found: Vec<_> = peers.iter().map(|peer| peer.id).collect();
                    assert!(
                        found == expected,
                        "{limit}: {}",
                        found.iter().zip(&expected).filter(|(a, b)| a == b).count()
                    );
                    most = most.max(report.requests * 40 / limit);
                }
                other => panic!("{other:?}"),
            }
        }
    }
    assert!(most <= 100, "{most} requests for 40");
    let options = QueryOptions::default().with_limit(201.try_into().unwrap());
    let refused = network.run_with(0, Operation::ClosestPeers { key: Bytes::from_static(b"x") }, options);
    assert_eq!(refused.unwrap_err(), QueryError::LimitTooHigh { limit: 201, max: 200 });
    let mut small = acquainted(30);
    let options = QueryOptions::default().with_limit(200.try_into().unwrap());
    match small.run_with(0, Operation::ClosestPeers { key: Bytes::from_static(b"x") }, options).unwrap() {
        Answer::ClosestPeers(ClosestPeers { peers, report, .. }) => {
            assert!(peers.len() == 29 && report.requests < 400, "{report:?}")
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn two_bootstraps_at_once_are_one() {
    let requests = |bootstraps: usize| {
        let mut network = Network::joined(40, DhtConfig::default());
        let before = network.nodes[5].stats().sent.iter().sum::<u64>();
        let start = |network: &mut Network| network.start(5, Operation::Bootstrap, QueryOptions::default());
        let ids: Vec<_> = (0..bootstraps).map(|_| start(&mut network)).collect();
        network.advance(Duration::from_secs(5));
        let ends: Vec<_> = ids.iter().map(|id| network.finished(5, *id).unwrap().unwrap()).collect();
        assert!(ends.windows(2).all(|two| format!("{:?}", two[0]) == format!("{:?}", two[1])), "the same result");
        network.nodes[5].stats().sent.iter().sum::<u64>() - before
    };
    assert_eq!(requests(3), requests(1));
}

#[test]
fn a_bootstrap_that_joined_goes_on_without_the_other() {
    for cancel in [true, false] {
        let mut network = Network::joined(40, DhtConfig::default());
        let hasty = QueryOptions::default().with_timeout(DELAY);
        let options = if cancel { QueryOptions::default() } else { hasty };
        let first = network.start(5, Operation::Bootstrap, options);
        let others: Vec<_> = (0..2).map(|_| network.start(5, Operation::Bootstrap, QueryOptions::default())).collect();
        if cancel {
            network.nodes[5].cancel(first);
            network.input(5, crate::core::io::Input::Timeout);
        }
        network.advance(Duration::from_secs(5));
        assert!(network.finished(5, first).unwrap().is_err());
        for other in others {
            assert!(network.finished(5, other).unwrap().is_ok(), "{cancel}");
        }
    }
}
