//! Dead peers: a publication reaches the live ones, and its result names the others.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::join_all;
use libp2p::swarm::SwarmEvent;
use libp2p::{Multiaddr, PeerId, identity};
use libp2p_kad_dht as kad;
use libp2p_kad_dht::core::{DialCause, Progress, Request, RequestError, Response, Unreachable};
use libp2p_kad_dht::handle::Published;
use libp2p_kad_dht::{QueryError, Quorum};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::live::{Ours, PROTOCOL, Raw, soon, until};
use crate::proxy::{Proxy, closed_port};
use crate::rules::{Do, brief, honest, named_by, node, peer, provided_at};

fn stranger() -> PeerId {
    identity::Keypair::generate_ed25519().public().to_peer_id()
}

/// Eight dead peers of nine, half of them behind ports that accept connections and send nothing, half behind closed
/// ones.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_nine_known_peers_the_one_that_lives_is_reached() {
    join_all((0..4).map(async |run| {
        let (alice, live) = (node(kad::Config::new(PROTOCOL)).await, node(kad::Config::new(PROTOCOL)).await);
        let (dead, _ports) = if run % 2 == 0 { never_met(&alice).await } else { met_before(&alice).await };
        alice.dht.add_peer(live.peer, [live.addr.clone()]);
        let provided = soon(alice.dht.provide(b"content")).await.unwrap();
        assert_eq!(provided.report.acknowledged, [live.peer], "run {run}: {provided:?}");
        assert_eq!(provided.report.sent, []);
        let named: BTreeSet<PeerId> = provided.report.failed.iter().map(|failure| failure.peer).collect();
        assert_eq!(named, dead, "run {run}: {provided:?}");
        for failure in &provided.report.failed {
            let plausible = matches!(
                failure.why,
                RequestError::Timeout | RequestError::ConnectionClosed | RequestError::Unreachable(_)
            );
            assert!(plausible, "{failure}");
        }
        let kept = provided_at(&live, b"content").await;
        assert_eq!(kept.len(), 1);
        assert_eq!(*kept[0].peer(), alice.peer);
        assert!(Raw::mute().await.reaches(alice.peer, kept[0].addrs().collect()).await);
    }))
    .await;
}

async fn never_met(alice: &Ours) -> (BTreeSet<PeerId>, Vec<Proxy>) {
    let (mut dead, mut ports) = (BTreeSet::new(), Vec::new());
    for n in 0..8 {
        let peer = stranger();
        let addr = if n % 2 == 0 {
            ports.push(Proxy::to_silence().await);
            ports.last().unwrap().addr.clone()
        } else {
            closed_port().await
        };
        alice.dht.add_peer(peer, [addr]);
        dead.insert(peer);
    }
    (dead, ports)
}

/// They are in the table because they answered once.
async fn met_before(alice: &Ours) -> (BTreeSet<PeerId>, Vec<Proxy>) {
    let (mut dead, mut ports) = (BTreeSet::new(), Vec::new());
    for n in 0..8 {
        let (peer, mut proxy) = met(alice).await;
        if n % 2 == 0 {
            proxy.go_stale();
        } else {
            proxy.close().await;
        }
        lost(alice, peer).await;
        dead.insert(peer);
        ports.push(proxy);
    }
    (dead, ports)
}

/// A peer that answered, and is known only at the port in front of it.
async fn met(alice: &Ours) -> (PeerId, Proxy) {
    let node = node(kad::Config::new(PROTOCOL)).await;
    let proxy = Proxy::to(&node.addr).await;
    alice.dht.add_peer(node.peer, [proxy.addr.clone()]);
    until("it is in the table", async || alice.table().await.contains(&node.peer).then_some(())).await;
    (node.peer, proxy)
}

pub(crate) async fn lost(alice: &Ours, peer: PeerId) {
    until("the connection is gone", async || {
        let connected = alice.act(move |swarm| swarm.is_connected(&peer)).await;
        (!connected).then_some(())
    })
    .await;
}

/// The peers that a publication did not reach, for any reason.
fn unreached(published: &Published) -> BTreeSet<PeerId> {
    let failed = published.report.failed.iter().map(|failure| failure.peer);
    failed.chain(published.report.sent.iter().copied()).collect()
}

/// A peer answers the lookup and is stopped or gone before the lookup ends, which waits for another peer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_stopped_after_the_lookup_is_not_reported_as_reached() {
    join_all([(false, false), (false, true), (true, false), (true, true)].map(async |(announce, gone)| {
        let (open, gate) = watch::channel(false);
        let slow = peer(move |request| match request {
            Request::FindNode { key } if matches!(&key[..], b"content" | b"/test/a") => {
                Do::AnswerLater(Response::FindNode { closer: vec![] }, gate.clone())
            }
            request => honest(request),
        });
        let slow = slow.await;
        let victim = node(kad::Config::new(PROTOCOL)).await;
        let mut proxy = Proxy::to(&victim.addr).await;
        let alice = node(brief()).await;
        alice.learns(&slow).await;
        alice.dht.add_peer(victim.peer, [proxy.addr.clone()]);
        until("it is in the table", async || alice.table().await.contains(&victim.peer).then_some(())).await;
        let publishing = if announce { alice.dht.provide(b"content") } else { alice.dht.put(b"/test/a", b"value") };
        let mut publishing = publishing.with_progress();
        loop {
            match soon(publishing.next()).await.unwrap() {
                Progress::Answered { peer, .. } if peer == victim.peer => break,
                _ => {}
            }
        }
        if gone {
            proxy.close().await;
        } else {
            proxy.stop();
        }
        open.send_replace(true);
        let published = soon(publishing).await.unwrap();
        assert_eq!(published.report.acknowledged, [slow.peer], "{announce} {gone} {published:?}");
        assert_eq!(unreached(&published), BTreeSet::from([victim.peer]), "{announce} {gone} {published:?}");
    }))
    .await;
}

/// Connections idle out while the lookup waits for a dead peer. The delivery needs them again, and one of the peers is
/// known only from an answer of the lookup.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_is_delivered_after_connections_idled_out() {
    let (bob, carol) = (node(brief()).await, node(brief()).await);
    bob.learns(&carol).await;
    let alice = Ours::with(brief(), false, Duration::from_millis(100)).await;
    let (dead, silent) = (stranger(), Proxy::to_silence().await);
    alice.dht.add_peer(dead, [silent.addr.clone()]);
    alice.learns(&bob).await;
    let two = Quorum::N(NonZeroUsize::new(2).unwrap());
    let put = soon(alice.dht.put(b"/test/a", b"value").quorum(two)).await.unwrap();
    let reached: BTreeSet<PeerId> = put.report.acknowledged.iter().copied().collect();
    assert_eq!(reached, BTreeSet::from([bob.peer, carol.peer]), "{put:?}");
    assert_eq!(unreached(&put), BTreeSet::from([dead]));
    let dialled = alice.seen(|event| match event {
        SwarmEvent::ConnectionEstablished { peer_id, .. } if *peer_id == carol.peer => Some(()),
        _ => None,
    });
    assert!(dialled.len() >= 2, "the connection should close between the lookup and the delivery");
    for node in [&bob, &carol] {
        let found = soon(node.dht.get(b"/test/a")).await.unwrap();
        assert_eq!((&found.record.value[..], found.from), (&b"value"[..], None), "kept there");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_timeout_fires_while_nothing_else_happens() {
    let alice = node(kad::Config::new(PROTOCOL)).await;
    let mute = Raw::mute().await;
    alice.dht.add_peer(mute.peer, [mute.addr.clone()]);
    let started = Instant::now();
    let error = soon(alice.dht.closest_peers(b"point").timeout(Duration::from_secs(2))).await.unwrap_err();
    let took = started.elapsed();
    println!("a timeout of 2 s fired after {took:?}");
    assert!(matches!(error, QueryError::TimedOut { .. }), "{error:?}");
    assert!(took >= Duration::from_millis(1_990) && took < Duration::from_millis(2_500), "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_peer_is_seldom_dialled_and_not_served() {
    let (alice, bob) = (node(brief()).await, node(brief()).await);
    alice.learns(&bob).await;
    let (dead, mut proxy) = met(&alice).await;
    assert!(named_by(&alice, b"point").await.contains(&dead));
    proxy.close().await;
    lost(&alice, dead).await;
    for n in 0..20 {
        soon(alice.dht.closest_peers(format!("point {n}"))).await.unwrap();
    }
    let dials = alice.seen(|event| match event {
        SwarmEvent::OutgoingConnectionError { peer_id, .. } if *peer_id == Some(dead) => Some(()),
        _ => None,
    });
    assert!((1..=3).contains(&dials.len()), "{} dials", dials.len());
    let named = named_by(&alice, b"point").await;
    assert!(named.contains(&bob.peer) && !named.contains(&dead), "{named:?}");
}

/// A peer with a closed port, one that closes at once, and one without an address that this node can dial: at the first
/// failed request, and while the peer is held back afterwards.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_reason_of_a_failed_dial_is_reported_and_remembered() {
    let alice = node(brief()).await;
    let away = Proxy::to(&closed_port().await).await;
    away.cut();
    let no_transport: Multiaddr = "/ip4/127.0.0.1/udp/4001/quic-v1".parse().unwrap();
    for (addr, expected, text) in [
        (closed_port().await, DialCause::Refused, "connection refused"),
        (away.addr.clone(), DialCause::Closed, "the connection closed at once"),
        (no_transport, DialCause::NoTransport, "no transport for its addresses"),
    ] {
        let dead = stranger();
        alice.dht.add_peer(dead, [addr]);
        let mut told = BTreeSet::new();
        until("it was dialled and then held back", async || {
            let Err(error) = soon(alice.dht.closest_peers(b"point")).await else { panic!("somebody answered") };
            let failed = error.report().map(|report| report.failed.clone()).unwrap_or_default();
            for why in failed.iter().filter(|failure| failure.peer == dead).map(|failure| failure.why) {
                assert!(why.to_string().ends_with(text), "{why}");
                told.insert(match why {
                    RequestError::Unreachable(Unreachable::DialFailed(cause)) if cause == expected => "dialled",
                    RequestError::Unreachable(Unreachable::BackingOff(cause)) if cause == expected => "held back",
                    why => panic!("{why:?}"),
                });
            }
            told.contains("held back").then_some(())
        })
        .await;
    }
}

/// Without another peer, the error names the peers that failed, with the reasons.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_all_are_dead_the_error_names_them() {
    let alice = node(brief()).await;
    let (silent, closed): (Proxy, Multiaddr) = (Proxy::to_silence().await, closed_port().await);
    let dead = [stranger(), stranger()];
    alice.dht.add_peer(dead[0], [silent.addr.clone()]);
    alice.dht.add_peer(dead[1], [closed]);
    match soon(alice.dht.put(b"/test/a", b"value")).await {
        Err(QueryError::NoAnswer(report)) => {
            let named: BTreeSet<PeerId> = report.failed.iter().map(|failure| failure.peer).collect();
            assert_eq!(named, BTreeSet::from(dead), "{report:?}");
        }
        other => panic!("{other:?}"),
    }
}
