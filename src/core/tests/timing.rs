//! The time of requests: what counts against the peer, and what this node causes itself.

use std::time::Duration;

use bytes::Bytes;

use super::Network;
use crate::core::store::StoreExt as _;
use crate::core::{
    Answer, ClosestPeers, Contact, Dht, DhtConfig, Input, MemoryStore, Operation, Output, Progress, Published,
    QueryError, QueryEvent, QueryOptions, RecordKey, RequestError, RequestId, Response, Timestamp,
};

const START: Timestamp = Timestamp::from_secs(1_000_000);

fn get(key: &'static str) -> Operation {
    Operation::Get { key: RecordKey::from(key) }
}

fn put(key: &'static str) -> Operation {
    Operation::Put { key: RecordKey::from(key), value: Bytes::from_static(b"v") }
}

/// A configuration without refreshes and checks, so that only the tests cause requests.
fn quiet() -> DhtConfig {
    let mut config = DhtConfig::default();
    config.maintenance.refresh_interval = None;
    config.maintenance.check_interval = None;
    config
}

#[test]
fn a_black_hole_beside_a_good_boot_node_costs_less_than_a_second() {
    let mut network = Network::new(3, DhtConfig::default());
    network.black_holes.insert(2);
    for boot in [2, 1] {
        let contact = network.contact(boot);
        network.input(0, Input::AddPeer(contact));
    }
    let begin = network.now;
    let Ok(Answer::Published(Published { report, .. })) = network.run(0, put("/app/x")) else { panic!("not stored") };
    let took = network.now - begin;
    assert_eq!(report.acknowledged, [*network.contact(1).peer()]);
    assert!(took <= Duration::from_millis(1_100), "{took:?}");
    assert!(report.failed.iter().any(|failure| failure.peer == *network.contact(2).peer()), "{report:?}");
}

#[test]
fn a_peer_that_becomes_slow_gets_longer_deadlines() {
    for slow in [Duration::from_millis(2_200), Duration::from_secs(3)] {
        let mut network = Network::joined(2, quiet());
        network.run(1, put("/app/x")).unwrap();
        for _ in 0..20 {
            network.nodes[0].store().remove(&RecordKey::from("/app/x")).unwrap();
            network.run(0, get("/app/x")).unwrap();
        }
        network.slow.insert(1, slow);
        for i in 0..5 {
            network.nodes[0].store().remove(&RecordKey::from("/app/x")).unwrap();
            assert!(network.run(0, get("/app/x")).is_ok(), "get {i} of a peer that takes {slow:?}");
            assert!(network.run(0, put("/app/y")).is_ok(), "put {i} to a peer that takes {slow:?}");
        }
    }
}

#[test]
fn a_late_answer_is_measured_though_no_query_waits_for_it() {
    let mut network = Network::joined(3, quiet());
    network.run(1, put("/app/x")).unwrap();
    for node in [0, 2] {
        network.nodes[node].store().remove(&RecordKey::from("/app/x")).unwrap();
    }
    for _ in 0..20 {
        network.run(0, Operation::ClosestPeers { key: Bytes::from_static(b"k") }).unwrap();
    }
    network.slow.insert(1, Duration::from_secs(3));
    // The other one answers, without the value.
    assert!(matches!(network.run(0, get("/app/x")), Err(QueryError::NotFound(_))));
    network.advance(Duration::from_secs(5));
    assert!(network.run(0, get("/app/x")).is_ok(), "now the node knows how long it takes");
}

/// A node with this many peers in its table, all connected, and no network.
fn alone(peers: usize, config: DhtConfig) -> Dht {
    let local = Contact::new(libp2p_identity::PeerId::random(), ["/memory/1".parse().unwrap()]);
    let store = Box::new(MemoryStore::new(Default::default(), [7; 32]));
    let mut node = Dht::new(START, local, store, [1; 32], std::sync::Arc::new(config)).unwrap();
    for port in 0..peers {
        let addr = format!("/memory/{}", port + 2).parse().unwrap();
        let contact = Contact::new(libp2p_identity::PeerId::random(), [addr]);
        node.admit_verified(START, &contact);
    }
    while node.poll_output().is_some() {}
    node
}

fn sent(node: &mut Dht) -> Vec<RequestId> {
    let outputs = std::iter::from_fn(|| node.poll_output());
    outputs.filter_map(|output| if let Output::Send { id, .. } = output { Some(id) } else { None }).collect()
}

#[test]
fn a_request_that_the_driver_never_begins_counts_against_no_peer() {
    let mut node = alone(30, quiet());
    let id = node.start(START, get("/app/x"), QueryOptions::default()).unwrap();
    assert!(!sent(&mut node).is_empty());
    let mut now;
    let end = loop {
        now = node.poll_timeout().expect("the query's deadline");
        node.handle_input(now, Input::Timeout);
        let ends = std::iter::from_fn(|| node.poll_output()).find_map(|output| match output {
            Output::Event(crate::core::Event::QueryProgressed { id: of, event: QueryEvent::Finished(end) })
                if of == id =>
            {
                Some(end)
            }
            _ => None,
        });
        if let Some(end) = ends {
            break end;
        }
    };
    assert_eq!(now, START + Duration::from_secs(60), "the query's deadline is the only one");
    let Err(QueryError::Overloaded(report)) = *end else { panic!("{end:?}") };
    assert!(report.failed.iter().all(|failure| failure.why == RequestError::Busy), "{report:?}");
    assert!(node.routing_snapshot().entries().all(|entry| entry.failures == 0), "no failure counts against a peer");
}

#[test]
fn a_burst_of_queries_waits_in_a_queue_and_reports_it() {
    let mut config = quiet();
    config.limit.requests = 64;
    let mut node = alone(30, config);
    let options = QueryOptions::default().with_progress();
    for i in 0..1_000 {
        let key = Bytes::from(format!("key {i}"));
        node.start(START, Operation::ClosestPeers { key }, options.clone()).unwrap();
    }
    let (mut open, mut queued, mut ended, mut most, mut requests) = (Vec::new(), 0, 0, 0, 0);
    let mut now = START;
    loop {
        while let Some(output) = node.poll_output() {
            match output {
                Output::Send { id, .. } => {
                    node.handle_input(now, Input::Sent { id });
                    open.push(id);
                    requests += 1;
                }
                Output::Event(crate::core::Event::QueryProgressed { event, .. }) => match event {
                    QueryEvent::Progress(Progress::Queued { .. }) => queued += 1,
                    QueryEvent::Finished(end) => {
                        let Answer::ClosestPeers(ClosestPeers { peers, report, .. }) = end.unwrap() else { panic!() };
                        assert_eq!((peers.len(), report.failed.len()), (20, 0));
                        ended += 1;
                    }
                    _ => {}
                },
                _ => {}
            }
        }
        most = most.max(open.len());
        if open.is_empty() {
            break;
        }
        now += Duration::from_micros(100);
        let id = open.remove(0);
        node.handle_input(now, Input::Response { id, result: Ok(Response::FindNode { closer: vec![] }) });
    }
    assert_eq!((ended, most), (1_000, 64));
    assert!(queued > 0, "queries report that they wait");
    assert!(requests <= 26_000, "{requests} requests");
}

#[test]
fn a_query_that_ends_cancels_requests_that_the_driver_never_began() {
    let mut node = alone(1, quiet());
    let [(_, sent_first), (second, sent_second)] = ["/app/x", "/app/y"].map(|key| {
        let query = node.start(START, get(key), QueryOptions::default()).unwrap();
        (query, sent(&mut node)[0])
    });
    node.handle_input(START, Input::Sent { id: sent_first });
    // The peer lets the first request wait until the second behind it is late too.
    let answered = START + Duration::from_millis(3_500);
    while let Some(at) = node.poll_timeout().filter(|at| *at <= answered) {
        node.handle_input(at, Input::Timeout);
    }
    let key = RecordKey::from("/app/x");
    let answer = Response::GetValue { key, value: None, closer: vec![] };
    node.handle_input(answered, Input::Response { id: sent_first, result: Ok(answer) });
    node.cancel(second);
    let cancelled = std::iter::from_fn(|| node.poll_output()).filter_map(|output| match output {
        Output::Cancel { id } => Some(id),
        _ => None,
    });
    assert_eq!(cancelled.collect::<Vec<_>>(), [sent_second]);
}
