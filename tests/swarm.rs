//! Real swarms on memory transport, as applications see them, from join to time-out.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "swarm/burst.rs"]
mod burst;
#[path = "swarm/discovery.rs"]
mod discovery;
#[path = "swarm/dual.rs"]
mod dual;
#[path = "swarm/internet.rs"]
mod internet;
#[path = "swarm/node.rs"]
mod node;
#[path = "swarm/replaced.rs"]
mod replaced;

use std::time::Duration;

use futures::StreamExt as _;
use libp2p::swarm::SwarmEvent;
use libp2p::{Multiaddr, PeerId, StreamProtocol};
use libp2p_kad_dht as kad;
use libp2p_kad_dht::core::{Answer, Found, Operation, QueryEvent, QueryOptions};
use libp2p_kad_dht::net::ModeReason;
use libp2p_kad_dht::{Mode, QueryError, Quorum};
use node::{AppEvent, Node, Setup};
use tokio::time::Instant;

const PROTOCOL: StreamProtocol = StreamProtocol::new("/test/kad/1.0.0");

/// Fails a test that waits for too long.
async fn soon<T>(future: impl IntoFuture<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), future.into_future()).await.expect("nothing came within 30 s")
}

/// Polls until the condition holds.
async fn until<T>(mut look: impl AsyncFnMut() -> Option<T>) -> T {
    soon(async {
        loop {
            if let Some(seen) = look().await {
                return seen;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
}

#[tokio::test]
async fn two_nodes_share_values_providers_and_addresses() {
    let (alice, bob) = (Node::new().await, Node::new().await);
    alice.knows(&bob).await;
    soon(alice.dht.bootstrap()).await.unwrap();

    let published = soon(alice.dht.put(b"/my-app/greeting", b"hello")).await.unwrap();
    assert_eq!(published.report.acknowledged, [bob.peer]);
    let found = soon(bob.dht.get(b"/my-app/greeting")).await.unwrap();
    assert_eq!((&found.record.value[..], found.from), (&b"hello"[..], None), "kept there");

    let provided = soon(alice.dht.provide(b"content")).await.unwrap();
    assert_eq!(provided.report.acknowledged, [bob.peer]);
    let mut providers = bob.dht.providers(b"content");
    let provider = soon(providers.next()).await.unwrap();
    assert_eq!((provider.id, &provider.addrs[..]), (alice.peer, &[alice.addr.clone()][..]));
    assert!(soon(providers.next()).await.is_none());
    assert_eq!(soon(providers).await.unwrap().found, 1);

    let found = soon(alice.dht.find_peer(bob.peer)).await.unwrap();
    assert_eq!(found.peer.addrs, std::slice::from_ref(&bob.addr));
    let local = soon(alice.dht.local()).await.unwrap();
    assert_eq!((local.id, local.addrs), (alice.peer, vec![alice.addr.clone()]));
    for node in [&alice, &bob] {
        node.idle().await;
    }
}

#[tokio::test]
async fn thousands_of_queries_at_once_are_answered_by_a_few_peers() {
    let holder = Node::new().await;
    let sender = Node::new().await;
    sender.dht.add_peer(holder.peer, [holder.addr.clone()]);
    soon(sender.dht.bootstrap()).await.unwrap();
    let closest = (0..3_000).map(|i| sender.dht.closest_peers(format!("key {i}")).into_future());
    for found in soon(futures::future::join_all(closest)).await {
        assert_eq!(found.unwrap().peers.len(), 1);
    }
}

#[tokio::test]
async fn ten_nodes_find_each_other_through_one() {
    // With identify, as in any program: without it no node learns that a peer which dials in is a server.
    let setup = Setup { identify: true, ..Setup::default() };
    let boot = Node::with(setup.clone()).await;
    let mut nodes = Vec::new();
    for _ in 0..9 {
        let node = Node::with(setup.clone()).await;
        node.dht.add_peer(boot.peer, [boot.addr.clone()]);
        soon(node.dht.bootstrap()).await.unwrap();
        nodes.push(node);
    }
    for node in &nodes {
        until(async || {
            let _ = node.dht.bootstrap().await;
            (node.dht.routing_table().await.unwrap().entries().count() == 9).then_some(())
        })
        .await;
    }
    let published = soon(nodes[0].dht.put(b"/a/b", b"value").quorum(Quorum::All)).await;
    let acknowledged = match published {
        Ok(published) => published.report.acknowledged.len(),
        Err(QueryError::QuorumMissed { reached, .. }) => reached,
        Err(other) => panic!("{other}"),
    };
    assert_eq!(acknowledged, 9);
    assert_eq!(&soon(nodes[8].dht.get(b"/a/b")).await.unwrap().record.value[..], b"value");
}

#[tokio::test]
async fn dropping_cancels_queries_and_requests() {
    let (alice, bob) = (Node::new().await, Node::new().await);
    alice.knows(&bob).await;
    alice.idle().await;
    bob.freeze().await;
    for _ in 0..3 {
        let (mut get, mut providers) = (alice.dht.get(b"/a/b"), alice.dht.providers(b"content"));
        let waited = async { tokio::join!(&mut get, providers.next()).0.map(|_| ()) };
        assert!(tokio::time::timeout(Duration::from_millis(100), waited).await.is_err());
        let pending = alice.act(|swarm| {
            let kad = &swarm.behaviour().kad;
            (kad.queries().len(), kad.pending_requests())
        });
        assert_eq!(pending.await, (2, 2));
        drop((get, providers));
        // Long before any timeout would end them.
        tokio::time::timeout(Duration::from_secs(3), alice.idle()).await.expect("not cancelled");
    }
    assert_eq!(
        alice.count(|event| matches!(event, SwarmEvent::Behaviour(AppEvent::Kad(kad::Event::QueryProgressed { .. })))),
        0
    );
}

#[tokio::test]
async fn a_timeout_fires_in_an_idle_swarm() {
    let (alice, bob) = (Node::new().await, Node::new().await);
    alice.knows(&bob).await;
    alice.idle().await;
    bob.freeze().await;
    let started = Instant::now();
    let query = alice.dht.find_peer(PeerId::random()).timeout(Duration::from_secs(1));
    let error = soon(query).await.unwrap_err();
    let took = started.elapsed();
    assert!(matches!(error, QueryError::TimedOut { .. }), "{error:?}");
    assert!(took >= Duration::from_secs(1) && took < Duration::from_millis(1_500), "{took:?}");
}

#[tokio::test]
async fn in_automatic_mode_the_addresses_decide() {
    let hold = Duration::from_millis(500);
    let config = kad::Config::new(PROTOCOL).with_mode(None).with_server_hold(hold);
    let node = Node::with(Setup { config: Some(config), ..Setup::default() }).await;
    let changes = |node: &Node| {
        let events = node.events.lock().unwrap();
        let change = |event: &SwarmEvent<AppEvent>| match event {
            SwarmEvent::Behaviour(AppEvent::Kad(kad::Event::ModeChanged { mode, why })) => Some((*mode, *why)),
            _ => None,
        };
        events.iter().filter_map(change).collect::<Vec<_>>()
    };
    let first = (Mode::Client, ModeReason::NoExternalAddr);
    until(async || (changes(&node) == [first]).then_some(())).await;
    let addr = node.addr.clone();
    node.act(move |swarm| swarm.add_external_address(addr)).await;
    let second = (Mode::Server, ModeReason::ExternalAddr);
    until(async || (changes(&node) == [first, second]).then_some(())).await;
    // The address comes and goes for longer than the hold, and is gone afterwards.
    let started = Instant::now();
    while started.elapsed() < 2 * hold {
        let addr = node.addr.clone();
        node.act(move |swarm| {
            swarm.remove_external_address(&addr);
            swarm.add_external_address(addr);
        })
        .await;
    }
    assert_eq!(changes(&node), [first, second]);
    let addr = node.addr.clone();
    let gone = Instant::now();
    node.act(move |swarm| swarm.remove_external_address(&addr)).await;
    let third = (Mode::Client, ModeReason::ExternalAddrLost);
    until(async || (changes(&node) == [first, second, third]).then_some(())).await;
    assert!(gone.elapsed() >= hold, "{:?}", gone.elapsed());
    node.dht.set_mode(Some(Mode::Server));
    let fourth = (Mode::Server, ModeReason::Chosen);
    until(async || (changes(&node) == [first, second, third, fourth]).then_some(())).await;
    assert_eq!(node.act(|swarm| swarm.behaviour().kad.mode()).await, Mode::Server);
}

#[tokio::test]
async fn a_client_asks_and_is_not_asked() {
    let server = Node::new().await;
    let config = kad::Config::new(PROTOCOL).with_mode(Some(Mode::Client));
    let client = Node::with(Setup { config: Some(config), ..Setup::default() }).await;
    client.knows(&server).await;
    soon(client.dht.put(b"/a/b", b"value")).await.unwrap();
    assert_eq!(&soon(server.dht.get(b"/a/b")).await.unwrap().record.value[..], b"value");
    server.dht.add_peer(client.peer, [client.addr.clone()]);
    server.idle().await;
    assert_eq!(soon(server.dht.routing_table()).await.unwrap().entries().count(), 0);
}

#[tokio::test]
async fn a_server_that_becomes_a_client_leaves_the_tables_on_connections_that_are_up() {
    let setup = Setup { identify: true, ..Setup::default() };
    let (alice, bob) = (Node::with(setup.clone()).await, Node::with(setup).await);
    alice.knows(&bob).await;
    let mode = async |mode, entries| {
        bob.dht.set_mode(Some(mode));
        until(async || {
            let table = alice.dht.routing_table().await.unwrap();
            (table.entries().count() == entries).then_some(())
        })
        .await;
    };
    mode(Mode::Client, 0).await;
    mode(Mode::Server, 1).await;
    let connections = |event: &SwarmEvent<AppEvent>| matches!(event, SwarmEvent::ConnectionClosed { .. });
    assert_eq!(alice.count(connections), 0, "the same connection all the time");
}

#[tokio::test]
async fn a_dead_peer_is_seldom_dialled() {
    let (alice, bob, dead) = (Node::new().await, Node::new().await, Node::new().await);
    alice.knows(&bob).await;
    alice.knows(&dead).await;
    bob.knows(&dead).await;
    let peer = dead.peer;
    drop(dead);
    until(async || {
        let gone = alice.act(move |swarm| !swarm.is_connected(&peer)).await;
        gone.then_some(())
    })
    .await;
    for n in 0..20 {
        soon(alice.dht.closest_peers(format!("key {n}"))).await.unwrap();
    }
    let dials = alice.failed_dials(peer);
    assert!((1..=3).contains(&dials), "{dials} dials");
}

#[tokio::test]
async fn denied_connections_leave_nothing() {
    let open = Node::new().await;
    let closed = Node::with(Setup { max_established: Some(0), ..Setup::default() }).await;
    closed.dht.add_peer(open.peer, [open.addr.clone()]);
    open.dht.add_peer(closed.peer, [closed.addr.clone()]);
    let (peer, other) = (open.peer, closed.peer);
    until(async || (closed.failed_dials(peer) > 0).then_some(())).await;
    let denied = |event: &SwarmEvent<AppEvent>| matches!(event, SwarmEvent::IncomingConnectionError { .. });
    until(async || (closed.count(denied) > 0).then_some(())).await;
    for n in 0..10 {
        let _ = soon(closed.dht.closest_peers(format!("{n}"))).await;
        let _ = soon(open.dht.find_peer(other)).await;
    }
    for node in [&open, &closed] {
        node.idle().await;
        let kad = node.act(|swarm| format!("{:?}", swarm.behaviour().kad)).await;
        assert!(kad.contains("peers: 0") && kad.contains("unanswered: 0"), "{kad}");
    }
}

#[tokio::test]
async fn a_peer_that_leaves_takes_its_unanswered_requests_along() {
    let (alice, bob) = (Node::new().await, Node::with(Setup { stuck_store: true, ..Setup::default() }).await);
    alice.knows(&bob).await;
    let queries: Vec<_> = (0..4).map(|n| tokio::spawn(alice.dht.get(format!("/a/{n}")))).collect();
    let unanswered = async |count: usize| {
        let text = format!("unanswered: {count}");
        until(async || {
            let kad = bob.act(|swarm| format!("{:?}", swarm.behaviour().kad)).await;
            kad.contains(&text).then_some(())
        })
        .await;
    };
    unanswered(4).await;
    drop(alice);
    unanswered(0).await;
    drop(queries);
}

#[tokio::test]
async fn addresses_and_roles_from_identify_need_no_wiring() {
    let setup = Setup { identify: true, ..Setup::default() };
    let (alice, bob) = (Node::with(setup.clone()).await, Node::with(setup).await);
    let addr = bob.addr.clone();
    bob.act({
        let addr = addr.clone();
        move |swarm| swarm.add_external_address(addr)
    })
    .await;
    alice.act(move |swarm| swarm.dial(addr)).await.unwrap();
    for (one, other) in [(&alice, &bob), (&bob, &alice)] {
        until(async || {
            let table = one.dht.routing_table().await.unwrap();
            table.entries().any(|entry| entry.peer == other.peer).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn the_event_style_needs_no_handle() {
    let (alice, bob) = (Node::new().await, Node::new().await);
    alice.knows(&bob).await;
    soon(bob.dht.put(b"/a/b", b"value")).await.ok();
    let id = alice.act(|swarm| swarm.behaviour_mut().kad.get(b"/a/b")).await.unwrap();
    until(async || {
        let finished = alice.count(|event| match event {
            SwarmEvent::Behaviour(AppEvent::Kad(kad::Event::QueryProgressed {
                id: seen,
                event: QueryEvent::Finished(result),
            })) => {
                *seen == id
                    && matches!(&**result, Ok(Answer::Value(Found { record, .. })) if &record.value[..] == b"value")
            }
            _ => false,
        });
        (finished == 1).then_some(())
    })
    .await;
    let cancelled = alice.act(|swarm| {
        let kad = &mut swarm.behaviour_mut().kad;
        let id = kad.start(Operation::Bootstrap, QueryOptions::default()).unwrap();
        kad.cancel(id);
        id
    });
    let id = cancelled.await;
    until(async || {
        let finished = alice.count(|event| match event {
            SwarmEvent::Behaviour(AppEvent::Kad(kad::Event::QueryProgressed {
                id: seen,
                event: QueryEvent::Finished(result),
            })) => *seen == id && matches!(**result, Err(QueryError::Cancelled)),
            _ => false,
        });
        (finished == 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn when_the_swarm_is_dropped_everything_ends() {
    let (alice, bob) = (Node::new().await, Node::new().await);
    alice.knows(&bob).await;
    bob.freeze().await;
    let query = tokio::spawn(alice.dht.get(b"/a/b"));
    until(async || {
        let running = alice.act(|swarm| swarm.behaviour().kad.queries().len()).await;
        (running == 1).then_some(())
    })
    .await;
    let dht = alice.dht.clone();
    drop(alice);
    assert!(matches!(soon(query).await.unwrap(), Err(QueryError::Closed)));
    assert!(matches!(soon(dht.stats()).await, Err(QueryError::Closed)));
}

#[test]
fn an_impossible_option_is_refused_by_name() {
    let config = kad::Config::new(PROTOCOL).with_protocols([]);
    let error = kad::Behaviour::new(PeerId::random(), config).unwrap_err();
    assert_eq!(error, kad::ConfigError::Empty("stream.protocols"));
}

/// A client is in no table; the peer that it dialled has its addresses from identify.
#[tokio::test]
async fn a_client_that_only_dialled_in_is_found_through_that_peer() {
    let setup =
        |mode| Setup { config: Some(kad::Config::new(PROTOCOL).with_mode(mode)), identify: true, ..Setup::default() };
    let hub = Node::with(setup(Some(Mode::Server))).await;
    let client = Node::with(setup(Some(Mode::Client))).await;
    let seeker = Node::with(setup(Some(Mode::Server))).await;
    client.knows(&hub).await;
    seeker.knows(&hub).await;
    let found = until(async || soon(seeker.dht.find_peer(client.peer)).await.ok()).await;
    assert_eq!(found.peer.addrs, std::slice::from_ref(&client.addr));
    let table = soon(hub.dht.routing_table()).await.unwrap();
    assert!(table.entries().all(|entry| entry.peer != client.peer), "it is no server");
}

#[tokio::test]
async fn an_address_that_fails_while_another_works_is_not_handed_out() {
    let setup = Setup { identify: true, ..Setup::default() };
    let (hub, bob, alice) = (Node::with(setup.clone()).await, Node::with(setup.clone()).await, Node::with(setup).await);
    let wrong: Multiaddr = "/memory/18446744073709551615".parse().unwrap();
    hub.dht.add_peer(bob.peer, [wrong.clone(), bob.addr.clone()]);
    hub.knows(&bob).await;
    let told = soon(hub.dht.find_peer(bob.peer)).await.unwrap();
    assert_eq!(told.peer.addrs, std::slice::from_ref(&bob.addr));
    let stats = soon(hub.dht.driver_stats()).await.unwrap();
    assert_eq!((stats.dials_started, stats.dials_succeeded, stats.connected_peers), (1, 1, 1), "{stats:?}");
    alice.knows(&hub).await;
    let named = soon(alice.dht.closest_peers(bob.peer)).await.unwrap();
    assert!(named.peers.iter().any(|peer| peer.id == bob.peer && peer.addrs == [bob.addr.clone()]), "{named:?}");
}

#[tokio::test]
async fn a_public_node_says_which_addresses_it_refuses_and_dials_none_of_them() {
    let config = kad::Config::new(PROTOCOL).with_address_policy(kad::core::AddressPolicy::Public);
    let (alice, bob) =
        (Node::with(Setup { config: Some(config), identify: true, ..Setup::default() }).await, Node::new().await);
    let mut events = soon(alice.dht.events()).await.unwrap();
    alice.dht.add_peer(bob.peer, [bob.addr.clone()]).check().unwrap();
    let told = soon(events.next()).await.unwrap();
    assert!(matches!(&told, kad::Event::AddrsRefused { peer, .. } if *peer == bob.peer), "{told:?}");
    let refused = |event: &SwarmEvent<AppEvent>| {
        matches!(event, SwarmEvent::Behaviour(AppEvent::Kad(kad::Event::AddrsRefused { peer, addrs }))
            if *peer == bob.peer && addrs[..] == [bob.addr.clone()])
    };
    until(async || (alice.count(refused) == 1).then_some(())).await;
    assert!(matches!(soon(alice.dht.bootstrap()).await, Err(QueryError::NoPeers)));
    assert!(
        matches!(soon(alice.dht.provide(b"content")).await, Err(QueryError::NoOwnAddress)),
        "its own is none either"
    );
    // Even with an open connection it is not used as a server: no other node could reach it.
    let addr = bob.addr.clone();
    alice.act(move |swarm| swarm.dial(addr)).await.unwrap();
    until(async || (bob.count(|event| matches!(event, SwarmEvent::ConnectionEstablished { .. })) > 0).then_some(()))
        .await;
    alice.idle().await;
    assert_eq!(soon(alice.dht.routing_table()).await.unwrap().entries().count(), 0);
    assert_eq!(alice.count(|event| matches!(event, SwarmEvent::Dialing { .. })), 0, "only the application dials");
}
