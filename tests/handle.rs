//! Handles on bare cores, without a swarm: the queries that they start, the results that reach them, and the state
//! after they are dropped.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "handle/dual.rs"]
mod dual;
#[path = "handle/network.rs"]
mod network;
#[path = "handle/offers.rs"]
mod offers;

use std::num::NonZeroUsize;
use std::pin::pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::task::noop_waker;
use futures::{Stream, StreamExt};
use libp2p_identity::PeerId;
use libp2p_kad_dht::core::{
    Contact, DhtConfig, DialCause, Event, Input, Mode, Operation, Progress, QueryEvent, QueryOptions, RequestError,
    Unreachable,
};
use libp2p_kad_dht::handle::{
    ClosestPeers, DriverRequest, Found, HandleError, MAX_COMMANDS, ProviderUpdate, Providers, Published,
};
use libp2p_kad_dht::{
    Answer, Bootstrapped, Evidence, FoundPeer, PeerRecord, ProvidersFound, Query, QueryError, Quorum, Report,
};
use network::{Network, addrs};
use proptest::prelude::*;

fn poll<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    pin!(future).poll(&mut Context::from_waker(&noop_waker()))
}

fn poll_next<S: Stream + Unpin>(stream: &mut S) -> Poll<Option<S::Item>> {
    stream.poll_next_unpin(&mut Context::from_waker(&noop_waker()))
}

/// A node that knows one peer, which never answers, in its table.
fn lonely() -> Network {
    let mut network = Network::new(1);
    let contact = Contact::new(PeerId::random(), addrs(77));
    network.nodes[0].dht.handle_input(network.now, Input::AddPeer(contact));
    network.run();
    network.mute.clear();
    network
}

#[test]
fn a_value_can_be_put_for_a_while_and_kept_by_others_alone() {
    let mut network = Network::new(5);
    network.introduce();
    let (alice, bob) = (network.handle(0), network.handle(4));
    let hour = Duration::from_secs(3_600);
    network.finish(alice.put("/my-app/offer", "tea").expires_in(hour).keep(false)).unwrap();
    let ten = NonZeroUsize::new(10).unwrap();
    assert_eq!(network.finish(alice.records(None, ten)).unwrap().len(), 0);
    let found = network.finish(bob.get("/my-app/offer")).unwrap();
    assert!(
        found.record.expires.unwrap() <= network.now + hour,
        "{:?} is later than an hour from {:?}",
        found,
        network.now
    );
    network.now += hour;
    assert!(matches!(network.finish(bob.get("/my-app/offer")), Err(QueryError::NotFound(_))));
}

#[test]
fn what_a_query_gives_can_be_written_and_read() {
    let mut network = Network::new(5);
    network.introduce();
    let (alice, bob) = (network.handle(0), network.handle(4));
    let published = network.finish(alice.put("/my-app/x", "hello")).unwrap();
    let found = network.finish(bob.get("/my-app/x")).unwrap();
    let missed = network.finish(alice.put("/my-app/x", "hello").quorum(Quorum::All)).unwrap_err();
    let absent = network.finish(bob.get("/my-app/nothing")).unwrap_err();
    let closest = network.finish(bob.closest_peers("/my-app/x")).unwrap();
    let written = serde_json::to_string(&(&published, &found, &missed, &absent, &closest)).unwrap();
    type Read = (Published, Found, QueryError, QueryError, ClosestPeers);
    let read: Read = serde_json::from_str(&written).unwrap();
    assert_eq!((&read.2, &read.3), (&missed, &absent));
    let held = RequestError::HeldBack { last: RequestError::REASONS[2] };
    let written = serde_json::to_string(&held).unwrap();
    assert_eq!(serde_json::from_str::<RequestError>(&written).unwrap(), held);
    assert!(serde_json::from_str::<RequestError>(&written.replace("timed_out", "bored")).is_err());
    assert_eq!(format!("{read:?}"), format!("{:?}", (published, found, missed, absent, closest)));
}

/// An application can test its own code without a node: it makes every result itself.
#[test]
fn every_result_can_be_made() {
    let (id, report) = (PeerId::random(), Report::default);
    let peer = PeerRecord::new(id, addrs(1).to_vec());
    let record = libp2p_kad_dht::Record::new("/my-app/x", "v", libp2p_kad_dht::Timestamp::ZERO);
    assert_eq!(Found::new(record, id, report()).holders, [id]);
    assert_eq!(FoundPeer::new(peer.clone(), Evidence::Reached, report()).peer, peer);
    assert_eq!(ClosestPeers::new(vec![peer.clone()], report()).peers, [peer]);
    assert_eq!(ProvidersFound::new(3, report()).found, 3);
    assert_eq!(Bootstrapped::new(3, report()).peers, 3);
    assert_eq!(Published::from(report()).report, report());
    assert!(<()>::try_from(Answer::Removed).is_ok());
    assert!(<()>::try_from(Answer::Records(vec![])).is_err());
}

#[test]
fn what_one_puts_another_gets() {
    let mut network = Network::new(5);
    network.introduce();
    let (alice, bob) = (network.handle(0), network.handle(4));
    let published = network
        .finish(alice.put(b"/my-app/greeting", b"hello").quorum(Quorum::N(NonZeroUsize::new(4).unwrap())))
        .unwrap();
    assert_eq!(published.report.acknowledged.len(), 4);
    assert!(published.report.failed.is_empty() && published.report.sent.is_empty());
    let found = network.finish(bob.get(b"/my-app/greeting")).unwrap();
    assert_eq!(&found.record.value[..], b"hello");
    assert_eq!(found.record.publisher, Some(network.nodes[0].peer));
    let all = network.finish(alice.put(b"/my-app/greeting", b"hello").quorum(Quorum::All));
    assert!(matches!(all, Err(QueryError::QuorumMissed { reached: 4, .. })), "{all:?}");
    assert!(matches!(network.finish(bob.get(b"/my-app/nothing")), Err(QueryError::NotFound(_))));
    assert!(matches!(network.finish(bob.get("")), Err(QueryError::InvalidKey { len: 0, max: 2048 })));
    network.finish(bob.remove(b"/my-app/greeting")).unwrap();
    network.assert_idle();
}

/// Nodes with k = 4, so that only some are among the closest; their numbers, nearest to the key first. The last node is
/// not among them: it knows no peer.
fn with_k_of_four(count: usize, key: &str) -> (Network, Vec<usize>) {
    let mut config = DhtConfig::default();
    config.lookup.replication = NonZeroUsize::new(4).unwrap();
    config.lookup.resiliency = NonZeroUsize::new(3).unwrap();
    let mut network = Network::with(count + 1, config);
    network.introduce_first(count);
    let place = libp2p_kad_dht::RecordKey::from(key).key();
    let mut nearest: Vec<_> = (0..count).collect();
    nearest.sort_by_key(|n| libp2p_kad_dht::Key::from(&network.nodes[*n].peer).distance(&place));
    (network, nearest)
}

#[test]
fn a_get_tells_who_held_what_who_is_corrected_and_who_gets_a_copy() {
    let key = "/my-app/x";
    let (mut network, nearest) = with_k_of_four(30, key);
    let peer = |network: &Network, i: usize| network.nodes[nearest[i]].peer;
    let begin = network.now;
    network.finish(network.handle(nearest[20]).put(key, "v")).unwrap();
    network.now = begin + Duration::from_secs(10);
    // Two of the closest have lost it.
    network.finish(network.handle(nearest[1]).remove(key)).unwrap();
    network.finish(network.handle(nearest[2]).remove(key)).unwrap();
    let reader = network.handle(nearest[25]);
    let found = network.finish(reader.values(key)).unwrap();
    assert_eq!(
        found.record.expires,
        Some(begin + Duration::from_secs(48 * 3600)),
        "as the publisher says, not from now"
    );
    let (first, lost) = ([peer(&network, 0), peer(&network, 3)], [peer(&network, 1), peer(&network, 2)]);
    assert!(first.iter().all(|peer| found.holders.contains(peer)) && found.outdated.is_empty());
    assert!(lost.iter().all(|peer| found.missing.contains(peer)));
    assert_eq!((&found.corrected[..], found.cached), (&lost[..], None));
    // The next reader knows one peer, which lacks the value: it finds none to correct, and leaves a copy there.
    let outsider = Contact::new(peer(&network, 4), addrs(nearest[4]));
    network.nodes[30].dht.handle_input(network.now, Input::AddPeer(outsider));
    network.run();
    let found = network.finish(network.handle(30).values(key)).unwrap();
    assert!(found.corrected.is_empty() && lost.iter().all(|peer| found.holders.contains(peer)));
    assert_eq!((&found.missing[..], found.cached), (&[peer(&network, 4)][..], Some(peer(&network, 4))));
    // The publisher's own copy has no expiry.
    assert_eq!(network.finish(network.handle(nearest[20]).get(key)).unwrap().record.expires, None);
}

#[test]
fn a_read_that_misses_its_quorum_names_the_holders() {
    let key = "/my-app/x";
    let (mut network, nearest) = with_k_of_four(12, key);
    network.finish(network.handle(nearest[10]).put(key, "v")).unwrap();
    network.finish(network.handle(nearest[1]).remove(key)).unwrap();
    let missed = network.finish(network.handle(nearest[9]).get(key).quorum(Quorum::All));
    let Err(QueryError::QuorumMissed { reached, best: Some(best), holders, .. }) = missed else { panic!("{missed:?}") };
    let expected: std::collections::BTreeSet<_> = [0, 2, 3].map(|i| network.nodes[nearest[i]].peer).into();
    assert_eq!((reached, &best.value[..]), (3, &b"v"[..]));
    assert_eq!(holders.into_iter().collect::<std::collections::BTreeSet<_>>(), expected);
}

#[test]
fn providers_are_a_stream_with_an_end_that_can_be_asked_for() {
    let mut network = Network::new(6);
    network.introduce();
    for n in 0..3 {
        let provide = network.handle(n).provide(b"content");
        assert_eq!(network.finish(provide).unwrap().report.acknowledged.len(), 5);
    }
    let mut providers = network.handle(5).providers(b"content");
    assert!(poll_next(&mut providers).is_pending());
    network.run();
    let mut found = Vec::new();
    while let Poll::Ready(Some(provider)) = poll_next(&mut providers) {
        let ends_with_id = |addr: multiaddr::Multiaddr| addr.to_string().ends_with(&format!("/p2p/{}", provider.id));
        assert!(provider.p2p_addrs().count() == 1 && provider.p2p_addrs().all(ends_with_id));
        found.push(provider.id);
    }
    found.sort();
    let mut expected: Vec<_> = network.nodes[..3].iter().map(|node| node.peer).collect();
    expected.sort();
    assert_eq!(found, expected);
    assert!(matches!(poll_next(&mut providers), Poll::Ready(None)));
    assert_eq!(network.finish(providers).unwrap().found, 3);

    let limited = network.handle(5).providers(b"content").limit(NonZeroUsize::MIN);
    assert_eq!(network.finish(limited).unwrap().found, 1);
    network.finish(network.handle(0).stop_providing(b"content")).unwrap();
    network.assert_idle();
}

#[test]
fn progress_names_who_was_asked_and_the_result_follows() {
    let mut network = Network::new(4);
    network.introduce();
    let mut watched = network.handle(0).closest_peers(b"x").with_progress();
    assert!(poll_next(&mut watched).is_pending());
    network.run();
    let (mut asked, mut answered) = (0, 0);
    while let Poll::Ready(Some(step)) = poll_next(&mut watched) {
        match step {
            Progress::Asked { .. } => asked += 1,
            Progress::Answered { .. } => answered += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((asked, answered, watched.missed()), (3, 3, 0));
    let closest = network.finish(watched).unwrap();
    assert_eq!(closest.peers.len(), 3);
    let limited = network.handle(0).closest_peers(b"x").limit(NonZeroUsize::MIN);
    assert_eq!(network.finish(limited).unwrap().peers, closest.peers[..1]);

    network.finish(network.handle(1).provide(b"content")).unwrap();
    let mut updates = network.handle(0).providers(b"content").with_progress();
    assert!(poll_next(&mut updates).is_pending());
    network.run();
    let mut seen = (0, 0);
    while let Poll::Ready(Some(update)) = poll_next(&mut updates) {
        match update {
            ProviderUpdate::Step(_) => seen.0 += 1,
            ProviderUpdate::Provider(_) => seen.1 += 1,
            _ => {}
        }
    }
    assert!(seen.0 > 0 && seen.1 == 1, "{seen:?}");
}

#[test]
fn values_stream_and_end_with_the_best() {
    let mut network = Network::new(4);
    // Two hold the worse value, two the better: they do not know each other yet.
    for (n, value) in [(1, "a"), (2, "b"), (3, "b")] {
        let query = network.handle(n).put(b"/x/y", value);
        assert!(matches!(network.finish(query), Err(QueryError::NoPeers)), "kept locally all the same");
    }
    network.introduce();
    let mut values = network.handle(0).values(b"/x/y");
    assert!(poll_next(&mut values).is_pending());
    network.run();
    let mut last = None;
    while let Poll::Ready(Some(record)) = poll_next(&mut values) {
        last = Some(record.value);
    }
    assert_eq!(last.as_deref(), Some(&b"b"[..]));
}

#[test]
fn a_query_waits_for_its_first_poll_and_dropping_it_leaves_nothing() {
    let mut network = lonely();
    let dht = network.handle(0);
    drop(dht.get(b"/a/b"));
    network.run();
    assert_eq!(network.nodes[0].dht.stats().queries_started, 0);

    // Dropped before the driver saw it.
    let mut query = dht.get(b"/a/b");
    assert!(poll(&mut query).is_pending());
    drop(query);
    network.run();
    assert_eq!(network.nodes[0].dht.stats().queries_started, 0);
    network.assert_idle();

    // The dropped queries fill all places, until the driver is polled.
    for _ in 0..2 * MAX_COMMANDS {
        assert!(poll(&mut dht.put(b"/a/b", [0; 1_000])).is_pending());
    }
    assert_eq!(dht.add_peer(PeerId::random(), []).check(), Err(HandleError::Busy));
    network.run();
    assert_eq!(network.nodes[0].dht.stats().queries_started, 0);
    assert_eq!(dht.add_peer(PeerId::random(), []).check(), Ok(()));

    // Dropped while a request is under way.
    let mut network = Network::new(2);
    network.introduce();
    let gone = Contact::new(PeerId::random(), addrs(77));
    network.nodes[0].dht.admit_verified(network.now, &gone);
    let dht = network.handle(0);
    for query in [0, 1] {
        let (mut get, mut providers) = (dht.get(b"/a/b"), dht.providers(b"content"));
        let _ = (poll(&mut get), poll_next(&mut providers));
        network.run();
        assert!(!network.mute.is_empty(), "round {query}: the mute peer is asked");
        assert_eq!(network.nodes[0].commands.running(), 2);
        drop((get, providers));
        network.run();
        network.assert_idle();
    }
    assert!(network.nodes[0].events.iter().all(|event| !matches!(event, Event::QueryProgressed { .. })));
}

#[test]
fn a_timeout_of_its_own_comes_in_time() {
    let mut network = Network::new(1);
    network.nodes[0].dht.admit_verified(network.now, &Contact::new(PeerId::random(), addrs(77)));
    let mut query = network.handle(0).find_peer(PeerId::random()).timeout(Duration::from_secs(1));
    assert!(poll(&mut query).is_pending());
    network.run();
    let due = network.nodes[0].dht.poll_timeout().unwrap();
    assert!(due <= network.now + Duration::from_secs(1));
    network.advance(Duration::from_millis(999));
    assert!(poll(&mut query).is_pending());
    network.advance(Duration::from_millis(1));
    let Poll::Ready(Err(QueryError::TimedOut { after, report, .. })) = poll(&mut query) else { panic!("not over") };
    assert_eq!((after, report.requests), (Duration::from_secs(1), 1));
    // A request that was late when the query ended continues for a while: its answer would show that the peer is alive.
    network.advance(Duration::from_secs(10));
    network.assert_idle();
}

#[test]
fn unreachable_peers_are_named_with_the_reason() {
    let mut network = Network::new(1);
    let gone = Contact::new(PeerId::random(), addrs(77));
    network.nodes[0].dht.admit_verified(network.now, &gone);
    let mut query = network.handle(0).put(b"/a/b", "v");
    assert!(poll(&mut query).is_pending());
    network.run();
    while let Some((id, _)) = network.mute.pop_first() {
        let result = Err(RequestError::Unreachable(Unreachable::BackingOff(DialCause::Refused)));
        network.nodes[0].dht.handle_input(network.now, Input::Response { id, result });
        network.run();
    }
    let Poll::Ready(Err(error)) = poll(&mut query) else { panic!("not over") };
    let why = "unreachable: held back, since dialling failed recently: connection refused";
    let expected = format!("no peer answered (1 request; {}: {why})", gone.peer());
    assert_eq!(error.to_string(), expected);
}

#[test]
fn looks_at_the_node_need_no_network() {
    let mut network = Network::new(3);
    network.introduce();
    let dht = network.handle(0);
    assert_eq!(network.finish(dht.routing_table()).unwrap().entries().count(), 2);
    assert_eq!(network.finish(dht.queries()).unwrap().len(), 0);
    assert_eq!(network.finish(dht.stats()).unwrap().table, 2);
    let local = network.finish(dht.local()).unwrap();
    assert_eq!((local.id, &local.addrs[..]), (network.nodes[0].peer, &addrs(0)[..]));
    network.finish(dht.put(b"/a/b", "v")).unwrap();
    assert_eq!(network.finish(dht.records(None, NonZeroUsize::new(10).unwrap())).unwrap().len(), 1);
    assert_eq!(network.finish(dht.bootstrap()).unwrap().peers, 2);
    let peer = network.nodes[2].peer;
    assert_eq!(network.finish(dht.find_peer(peer)).unwrap().peer.addrs, addrs(2));
}

#[test]
fn a_suspended_node_is_silent_and_goes_on_when_it_is_resumed() {
    let mut network = Network::new(4);
    network.introduce();
    let (dht, other) = (network.handle(0), network.handle(1));
    network.finish(dht.put("/a/b", "v")).unwrap();
    let mute = Contact::new(PeerId::random(), addrs(77));
    network.nodes[0].dht.admit_verified(network.now, &mute);
    let mut running = dht.closest_peers("key");
    assert!(poll(&mut running).is_pending());
    network.run();
    assert!(poll(&mut running).is_pending() && !network.mute.is_empty(), "it waits for the mute peer");

    dht.suspend().check().unwrap();
    network.run();
    assert!(matches!(poll(&mut running), Poll::Ready(Err(QueryError::Suspended))));
    assert!(matches!(network.finish(dht.get("/a/b")), Err(QueryError::Suspended)));
    network.assert_idle();
    let node = &network.nodes[0].dht;
    let sent = node.stats().sent;
    let (received, refused) = (node.stats().received.iter().sum::<u64>(), node.stats().refused);
    let table = node.routing_snapshot().entries().count();
    let named = Contact::new(PeerId::random(), addrs(78));
    network.nodes[0].dht.handle_input(network.now, Input::AddPeer(named.clone()));
    network.finish(other.get_from([network.nodes[0].peer], "/a/b")).unwrap_err();
    assert_eq!(network.nodes[0].dht.poll_timeout(), None);
    network.advance(Duration::from_secs(3 * 3_600));
    let node = &network.nodes[0].dht;
    assert_eq!(node.stats().sent, sent, "it asks nobody");
    let asked = node.stats().received.iter().sum::<u64>() - received;
    assert!(asked > 0 && node.stats().refused - refused == asked, "it answers nobody");
    assert_eq!(node.routing_snapshot().entries().count(), table);

    dht.resume().check().unwrap();
    network.run();
    assert!(network.mute.values().any(|peer| peer == named.peer()), "what was named meanwhile is tried");
    network.advance(Duration::from_secs(1));
    let node = &network.nodes[0].dht;
    assert!(node.stats().sent.iter().sum::<u64>() > sent.iter().sum(), "it looks who is still there");
    assert!(network.finish(dht.get("/a/b")).is_ok());
    let living: Vec<_> = network.nodes[1..].iter().map(|node| node.peer).collect();
    let table = network.nodes[0].dht.routing_snapshot();
    assert!(living.iter().all(|peer| table.entries().any(|entry| entry.peer == *peer)), "no peer is blamed");
}

#[test]
fn peers_and_modes_reach_the_driver_in_order_and_before_later_queries() {
    let mut network = Network::new(2);
    let (dht, peer) = (network.handle(0), network.nodes[1].peer);
    dht.add_peer(peer, addrs(1));
    dht.set_mode(Some(Mode::Client));
    dht.set_mode(None);
    assert_eq!(network.finish(dht.bootstrap()).unwrap().peers, 1);
    let requests = &network.nodes[0].requests;
    assert!(matches!(
        &requests[..],
        [DriverRequest::AddPeer(_), DriverRequest::SetMode(Some(Mode::Client)), DriverRequest::SetMode(None)]
    ));
    let posted: Vec<_> = (0..=MAX_COMMANDS).map(|_| dht.add_peer(peer, addrs(1)).check()).collect();
    assert!(posted[..MAX_COMMANDS].iter().all(Result::is_ok));
    assert_eq!(posted[MAX_COMMANDS], Err(HandleError::Busy));
}

#[test]
fn more_queries_than_there_is_room_for_wait_and_more_than_may_run_are_busy() {
    let mut config = DhtConfig::default();
    config.limit.queries = 2 * MAX_COMMANDS;
    let mut network = Network::with(1, config);
    network.nodes[0].dht.admit_verified(network.now, &Contact::new(PeerId::random(), addrs(77)));
    let dht = network.handle(0);
    let mut queries: Vec<_> = (0..3 * MAX_COMMANDS).map(|n| dht.get(format!("/a/{n}"))).collect();
    let mut busy = 0;
    for _ in 0..4 {
        queries.retain_mut(|query| match poll(query) {
            Poll::Pending => true,
            Poll::Ready(Err(QueryError::Busy)) => {
                busy += 1;
                false
            }
            Poll::Ready(other) => panic!("{other:?}"),
        });
        network.run();
    }
    assert_eq!((queries.len(), busy), (2 * MAX_COMMANDS, MAX_COMMANDS));
    assert_eq!(network.nodes[0].commands.running(), 2 * MAX_COMMANDS);
    drop(queries);
    network.run();
    network.assert_idle();
}

#[test]
fn when_the_node_is_gone_everything_ends() {
    let mut network = Network::new(1);
    network.nodes[0].dht.admit_verified(network.now, &Contact::new(PeerId::random(), addrs(77)));
    let dht = network.handle(0);
    let (mut running, mut providers) = (dht.get(b"/a/b"), dht.providers(b"content"));
    let _ = (poll(&mut running), poll_next(&mut providers));
    network.run();
    let mut queued = dht.bootstrap();
    assert!(poll(&mut queued).is_pending());
    drop(network);
    assert!(matches!(poll(&mut running), Poll::Ready(Err(QueryError::Closed))));
    assert!(matches!(poll(&mut queued), Poll::Ready(Err(QueryError::Closed))));
    assert!(matches!(poll_next(&mut providers), Poll::Ready(None)));
    assert!(matches!(poll(&mut IntoFuture::into_future(providers)), Poll::Ready(Err(QueryError::Closed))));
    assert!(matches!(poll(&mut dht.stats()), Poll::Ready(Err(QueryError::Closed))));
    assert_eq!(dht.add_peer(PeerId::random(), []).check(), Err(HandleError::Closed));
}

#[test]
fn events_of_other_queries_pass_through() {
    let mut network = Network::new(2);
    network.introduce();
    let operation = Operation::ClosestPeers { key: b"x"[..].into() };
    let now = network.now;
    let id = network.nodes[0].dht.start(now, operation, QueryOptions::default()).unwrap();
    network.run();
    let finished = network.nodes[0].events.iter().any(
        |event| matches!(event, Event::QueryProgressed { id: seen, event: QueryEvent::Finished(_) } if *seen == id),
    );
    assert!(finished);
}

/// The ways in which an application and a driver can affect each other's timing.
#[derive(Clone, Copy, Debug)]
enum Action {
    Ask,
    Provide,
    Poll(usize),
    Drop(usize),
    Drive,
    /// The mute peer fails one request.
    Fail,
    Time,
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        Just(Action::Ask),
        Just(Action::Provide),
        (0..16_usize).prop_map(Action::Poll),
        (0..16_usize).prop_map(Action::Drop),
        Just(Action::Drive),
        Just(Action::Fail),
        Just(Action::Time),
    ]
}

enum Held {
    Query(Box<Query<Found>>),
    Stream(Providers),
}

proptest! {
    /// In whatever order queries are made, polled, dropped and served: a held query ends or continues, a dropped one is
    /// cancelled, and in the end none is left.
    #[test]
    fn nothing_is_left_in_any_order(actions in prop::collection::vec(action(), 1..80)) {
        let mut config = DhtConfig::default();
        // The node's own queries continue, whatever the application does.
        config.maintenance.check_interval = None;
        let mut network = Network::with(1, config);
        network.nodes[0].dht.admit_verified(network.now, &Contact::new(PeerId::random(), addrs(77)));
        let dht = network.handle(0);
        let mut held: Vec<Held> = Vec::new();
        for action in actions {
            match action {
                Action::Ask => held.push(Held::Query(Box::new(dht.get(b"/a/b")))),
                Action::Provide => held.push(Held::Stream(dht.providers(b"content"))),
                Action::Poll(n) if n < held.len() => {
                    let over = match &mut held[n] {
                        Held::Query(query) => poll(query).is_ready(),
                        Held::Stream(stream) => poll_next(stream).is_ready(),
                    };
                    if over {
                        held.remove(n);
                    }
                }
                Action::Drop(n) if n < held.len() => drop(held.remove(n)),
                Action::Drive => network.run(),
                Action::Fail => {
                    if let Some((id, _)) = network.mute.pop_first() {
                        let input = Input::Response { id, result: Err(RequestError::Refused) };
                        network.nodes[0].dht.handle_input(network.now, input);
                    }
                }
                Action::Time => network.advance(Duration::from_secs(1)),
                Action::Poll(_) | Action::Drop(_) => {}
            }
            if matches!(action, Action::Drive | Action::Time) {
                prop_assert!(network.nodes[0].commands.running() <= held.len(), "a dropped query runs on");
            }
        }
        held.clear();
        network.run();
        prop_assert_eq!(network.nodes[0].commands.running(), 0);
        prop_assert_eq!(network.nodes[0].dht.query_snapshots(), vec![]);
        let stats = network.nodes[0].dht.stats();
        prop_assert_eq!(stats.queries_started, stats.queries_succeeded + stats.queries_failed);
        network.advance(Duration::from_secs(20));
        network.assert_idle();
    }
}
