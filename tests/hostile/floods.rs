//! Peers that send too many requests, too slow ones, or forbidden ones.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use futures::{AsyncReadExt as _, AsyncWriteExt as _};
use libp2p::swarm::{Stream, SwarmEvent};
use libp2p_kad_dht as kad;
use libp2p_kad_dht::core::{Contact, Misbehaviour, Request};
use libp2p_kad_dht::net::StreamConfig;
use libp2p_kad_dht::wire;
use tokio::time::Instant;

use crate::live::{Node, Ours, PROTOCOL, Raw, read, soon, until, write};
use crate::rules::{honest, node, peer_at, provided_at, request};

/// A node whose time limits are one second for a request and half a second for an unused connection.
async fn impatient() -> Ours {
    let mut stream = StreamConfig::new([]);
    stream.inbound_request_timeout = Duration::from_secs(1);
    let config = kad::Config::new(PROTOCOL).with_stream(stream);
    Ours::with(config, false, Duration::from_millis(500)).await
}

async fn connected(raw: &Node<Raw>, node: &Ours) {
    assert!(raw.reaches(node.peer, vec![node.addr.clone()]).await);
}

/// Waits until the connection to a node closes because it is unused.
async fn idles_out(raw: &Node<Raw>, node: &Ours) {
    until("the connection idles out", async || {
        let closed = raw.seen(|event| match event {
            SwarmEvent::ConnectionClosed { peer_id, .. } if *peer_id == node.peer => Some(()),
            _ => None,
        });
        closed.first().copied()
    })
    .await;
}

/// Waits until the other side closes or resets a stream.
async fn ends(stream: &mut Stream) {
    soon(async { while let Ok(1..) = stream.read(&mut [0; 64]).await {} }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_streams_are_closed_and_do_not_hold_the_connection() {
    let node = impatient().await;
    let raw = Raw::mute().await;
    connected(&raw, &node).await;
    let mut streams = Vec::new();
    for _ in 0..32 {
        streams.push(raw.open(node.peer).await.unwrap());
    }
    for stream in &mut streams {
        ends(stream).await;
    }
    idles_out(&raw, &node).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_of_a_prefix_is_not_waited_for() {
    let node = impatient().await;
    let raw = Raw::mute().await;
    connected(&raw, &node).await;
    let mut stream = raw.open(node.peer).await.unwrap();
    assert!(write(&mut stream, &[0x80]).await);
    ends(&mut stream).await;
    idles_out(&raw, &node).await;
}

/// A byte from time to time does not extend the time limit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_trickles_is_not_waited_for() {
    let node = impatient().await;
    let raw = Raw::mute().await;
    connected(&raw, &node).await;
    let stream = raw.open(node.peer).await.unwrap();
    let message = request(&Request::FindNode { key: Bytes::from(vec![7; 1_000]) });
    let (mut reader, mut writer) = stream.split();
    let trickle = async {
        for byte in &message {
            if writer.write_all(&[*byte]).await.is_err() || writer.flush().await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let cut = async { while let Ok(1..) = reader.read(&mut [0; 64]).await {} };
    let started = Instant::now();
    soon(async {
        tokio::select! {
            () = trickle => {}
            () = cut => {}
        }
    })
    .await;
    assert!(started.elapsed() < Duration::from_secs(30), "all of it would take 100 s");
    idles_out(&raw, &node).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_of_a_forbidden_length_is_refused() {
    let node = node(kad::Config::new(PROTOCOL)).await;
    let raw = Raw::mute().await;
    connected(&raw, &node).await;
    let announce = |len: usize| {
        let provider = Contact::new(raw.peer, [raw.addr.clone()]);
        request(&Request::AddProvider { key: vec![7; len].into(), providers: vec![provider] })
    };
    for len in [81, 8_000] {
        let mut stream = raw.open(node.peer).await.unwrap();
        assert!(write(&mut stream, &announce(len)).await);
        assert_eq!(soon(read(&mut stream)).await, None);
    }
    let mut stream = raw.open(node.peer).await.unwrap();
    assert!(write(&mut stream, &announce(80)).await);
    until("the longest key that is allowed is kept", async || {
        (!provided_at(&node, &[7; 80]).await.is_empty()).then_some(())
    })
    .await;
    let usage = node.act(|swarm| swarm.behaviour_mut().kad.store().usage()).await;
    assert_eq!(usage.providers, 1, "{usage:?}");
    let refused = node.events().into_iter().filter(
        |event| matches!(event, kad::Event::PeerMisbehaved { peer, what: Misbehaviour::BadKey } if *peer == raw.peer),
    );
    assert_eq!(refused.count(), 2);
}

/// Each of these is refused on its own stream, and the peer is answered on the next one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_of_too_many_fields_or_bytes_is_refused() {
    let node = node(kad::Config::new(PROTOCOL)).await;
    let raw = Raw::mute().await;
    connected(&raw, &node).await;
    let framed = |message: &[u8]| {
        let mut bytes = Vec::new();
        wire::frame::write_prefix(message.len(), &mut bytes);
        [&bytes, message].concat()
    };
    // FIND_NODE with a field of two bytes again and again, and one whose length alone is too great.
    let tiny = framed(&[&[8, 4, 0x12, 3][..], b"key", &[0x78, 1].repeat(5_000)].concat());
    let mut long = Vec::new();
    wire::frame::write_prefix(64 * 1024 + 1, &mut long);
    for bytes in [tiny, long] {
        let mut stream = raw.open(node.peer).await.unwrap();
        assert!(write(&mut stream, &bytes).await);
        assert_eq!(soon(read(&mut stream)).await, None);
    }
    until("both are reported", async || {
        let refused = node.events().into_iter().filter(|event| matches!(event, kad::Event::PeerMisbehaved { .. }));
        (refused.count() == 2).then_some(())
    })
    .await;
    let mut stream = raw.open(node.peer).await.unwrap();
    assert!(write(&mut stream, &request(&Request::Ping)).await);
    assert!(soon(read(&mut stream)).await.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_closes_its_side_at_once_is_answered() {
    let node = node(kad::Config::new(PROTOCOL)).await;
    let raw = Raw::mute().await;
    connected(&raw, &node).await;
    let mut stream = raw.open(node.peer).await.unwrap();
    assert!(write(&mut stream, &request(&Request::FindNode { key: b"key".as_slice().into() })).await);
    stream.close().await.unwrap();
    assert!(soon(read(&mut stream)).await.is_some());
    ends(&mut stream).await;
}

/// One peer sends requests on 32 streams as fast as it can and reads no answer on half of them, and opens another stream
/// for each that is reset; another peer is answered nevertheless.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_from_one_peer_does_not_starve_another() {
    let server = node(kad::Config::new(PROTOCOL)).await;
    let raw = Arc::new(Raw::mute().await);
    connected(&raw, &server).await;
    let batch = Bytes::from(request(&Request::FindNode { key: b"flood".as_slice().into() }).repeat(100));
    let floods = (0..32).map(|n| {
        let (batch, raw, peer) = (batch.clone(), Arc::clone(&raw), server.peer);
        tokio::spawn(async move {
            while let Some(stream) = raw.open(peer).await {
                let (mut reader, mut writer) = stream.split();
                let ask = async { while writer.write_all(&batch).await.is_ok() && writer.flush().await.is_ok() {} };
                let read = async {
                    if n % 2 == 0 {
                        while let Ok(1..) = reader.read(&mut [0; 4096]).await {}
                    }
                    std::future::pending::<()>().await;
                };
                tokio::select! {
                    () = ask => {}
                    () = read => {}
                }
            }
        })
    });
    let floods: Vec<_> = floods.collect();
    let others = join_all((0..3).map(|_| node(kad::Config::new(PROTOCOL)))).await;
    for (n, other) in others.iter().enumerate() {
        other.learns(&server).await;
        for m in 0..10 {
            let asked = other.dht.get(format!("/test/{n}/{m}"));
            let answered = tokio::time::timeout(Duration::from_secs(5), asked).await.unwrap();
            assert!(matches!(answered, Err(kad::QueryError::NotFound(_))), "{answered:?}");
        }
    }
    let asked = server.act(|swarm| swarm.behaviour().kad.stats().received).await;
    println!("asked meanwhile: {asked:?}");
    floods.into_iter().for_each(|flood| flood.abort());
}

/// Candidates for the table at one host that accept the trial and never answer: to try them all would take minutes. A
/// peer at another host does not wait for them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn candidates_that_never_answer_do_not_delay_a_peer_at_another_host() {
    let node = node(kad::Config::new(PROTOCOL)).await;
    let silent = join_all((0..100).map(|_| Raw::mute())).await;
    for peer in &silent {
        node.dht.add_peer(peer.peer, [peer.addr.clone()]);
    }
    let tried = async || node.act(|swarm| swarm.behaviour().kad.stats().sent.iter().sum::<u64>()).await;
    until("some are tried", async || (tried().await >= 2).then_some(())).await;
    let elsewhere = peer_at("127.0.0.2", honest).await;
    node.learns(&elsewhere).await;
    assert_eq!(node.table().await, [elsewhere.peer]);
    let tried = tried().await;
    assert!(tried <= 8, "it waited for {tried} trials");
}
