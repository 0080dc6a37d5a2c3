//! Configurations and calls at the limits of what is allowed.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::Network;
use super::network::peer;
use crate::core::io::{Answer, Event, Input, Operation, QueryEvent, QueryId, QueryOptions};
use crate::core::{ClosestPeers, Contact, Dht, DhtConfig, MemoryStore, MemoryStoreConfig, Timestamp};

#[test]
fn the_largest_numbers_work() {
    let mut config = DhtConfig::default();
    config.lookup.replication = usize::MAX.try_into().unwrap();
    config.lookup.parallelism = usize::MAX.try_into().unwrap();
    config.routing.bucket_size = usize::MAX.try_into().unwrap();
    config.limit.frontier = usize::MAX;
    config.lookup.query_timeout = Duration::MAX;
    config.record.value_ttl = Duration::MAX;
    config.maintenance.refresh_interval = Some(Duration::MAX);
    config.maintenance.check_interval = Some(Duration::MAX);
    let mut network = Network::joined(5, config);
    let options = QueryOptions::default().with_limit(usize::MAX.try_into().unwrap());
    let operation = Operation::ClosestPeers { key: Bytes::from_static(b"x") };
    match network.run_with(1, operation, options).unwrap() {
        Answer::ClosestPeers(ClosestPeers { peers, .. }) => assert_eq!(peers.len(), 4),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_nodes_own_queries_are_shown_and_cannot_be_cancelled() {
    let mut network = Network::joined(3, DhtConfig::default());
    network.silent.extend([0, 2]);
    while network.nodes[1].query_snapshots().is_empty() {
        assert!(network.step(), "it refreshes its table");
    }
    let id = network.nodes[1].query_snapshots()[0].id;
    network.events.clear();
    network.nodes[1].cancel(id);
    network.nodes[1].cancel(QueryId::new(1_000));
    assert!(network.nodes[1].poll_output().is_none(), "the application had not asked for it");
    while !network.nodes[1].query_snapshots().is_empty() {
        assert!(network.step());
    }
    let told = |event: &Event| matches!(event, Event::QueryProgressed { event: QueryEvent::Finished(_), .. });
    assert!(!network.events.iter().any(|(node, event)| *node == 1 && told(event)));
    while network.nodes[1].query_snapshots().is_empty() {
        assert!(network.step(), "and it does so again");
    }
}

#[test]
fn after_an_outage_the_network_is_there_again() {
    let mut network = Network::joined(20, DhtConfig::default());
    // Found through others, not named by the application: without its table the node knows no peer.
    network.advance(Duration::from_secs(5));
    let known = network.nodes[7].stats().table;
    assert!(known > 10);
    network.dead.extend((0..20).filter(|i| *i != 7));
    for _ in 0..10 {
        let operation = Operation::ClosestPeers { key: Bytes::from_static(b"x") };
        assert!(network.run(7, operation).is_err());
        network.advance(Duration::from_secs(7)); // The back-offs are over.
    }
    assert_eq!(network.nodes[7].stats().table, known);
    network.dead.clear();
    match network.run(7, Operation::ClosestPeers { key: Bytes::from_static(b"x") }).unwrap() {
        Answer::ClosestPeers(ClosestPeers { peers, .. }) => assert_eq!(peers.len(), 19),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_node_does_not_enter_its_own_table() {
    let mut network = Network::new(1, DhtConfig::default());
    let own = Contact::new(peer(0), ["/memory/77".parse().unwrap()]);
    network.input(0, Input::AddPeer(Arc::clone(&own)));
    network.input(0, Input::Discovered(own));
    network.input(0, Input::Serves { peer: peer(0), yes: true });
    assert_eq!((network.sent, network.nodes[0].stats().table), (0, 0));
}

#[test]
fn the_latest_timestamp_works_like_any_other() {
    for first in [Timestamp::ZERO, Timestamp::from_secs(1_700_000_000), Timestamp::MAX] {
        for then in [Timestamp::MAX, Timestamp::from_micros(u64::MAX - 1), Timestamp::ZERO] {
            let store = Box::new(MemoryStore::new(MemoryStoreConfig::default(), [7; 32]));
            let local = Contact::new(peer(0), ["/memory/1".parse().unwrap()]);
            let mut node = Dht::new(first, local, store, [1; 32], Arc::new(DhtConfig::default())).unwrap();
            for date in [then, first, then] {
                node.handle_input(date, Input::Timeout);
                let wake = node.poll_timeout();
                assert!(wake.is_none_or(|wake| wake > date), "{wake:?} after {date}");
            }
        }
    }
}
