//! Clients and servers: provider records of clients, and the change of a server to a client.

use std::time::Duration;

use bytes::Bytes;
use libp2p_kad_dht as kad;
use libp2p_kad_dht::core::Request;
use libp2p_kad_dht::{Mode, wire};

use crate::live::{Ours, PROTOCOL, Raw, read, soon, until, write};
use crate::rules::{named_by, node, provided_at};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_content_of_a_client_is_found_with_its_addresses() {
    let server = node(kad::Config::new(PROTOCOL)).await;
    let client = node(kad::Config::new(PROTOCOL).with_mode(Some(Mode::Client))).await;
    client.learns(&server).await;
    let provided = soon(client.dht.provide(b"content")).await.unwrap();
    assert_eq!(provided.report.acknowledged, [server.peer]);
    let found = provided_at(&server, b"content").await;
    assert_eq!(found.len(), 1);
    assert_eq!(*found[0].peer(), client.peer);
    assert!(Raw::mute().await.reaches(client.peer, found[0].addrs().collect()).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_becomes_a_client_is_forgotten_within_a_second() {
    let (alice, bob, carol) = (Ours::start().await, Ours::start().await, Ours::start().await);
    alice.learns(&bob).await;
    alice.learns(&carol).await;
    assert!(named_by(&alice, b"point").await.contains(&bob.peer));
    bob.dht.set_mode(Some(Mode::Client));
    let forgotten = async || (!alice.table().await.contains(&bob.peer)).then_some(());
    let in_time = tokio::time::timeout(Duration::from_secs(1), until("it is forgotten", forgotten)).await;
    assert!(in_time.is_ok());
    assert!(!named_by(&alice, b"point").await.contains(&bob.peer));
    // It returns to the table when it serves again.
    bob.dht.set_mode(Some(Mode::Server));
    until("it is known again", async || alice.table().await.contains(&bob.peer).then_some(())).await;
}

/// A stream that was served is reset when the node becomes a client, the connection stays, and no new stream is
/// accepted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaving_server_mode_resets_the_streams_of_peers() {
    let server = node(kad::Config::new(PROTOCOL)).await;
    let peer = Raw::mute().await;
    assert!(peer.reaches(server.peer, vec![server.addr.clone()]).await);
    let mut stream = peer.open(server.peer).await.unwrap();
    let request = Request::FindNode { key: Bytes::from_static(b"point") };
    let request = wire::encode_request(&request, wire::MAX_OUT).unwrap();
    assert!(write(&mut stream, &request).await);
    assert!(soon(read(&mut stream)).await.is_some());
    server.dht.set_mode(Some(Mode::Client));
    let ended = tokio::time::timeout(Duration::from_secs(1), read(&mut stream)).await;
    assert_eq!(ended.unwrap(), None);
    assert!(peer.open(server.peer).await.is_none());
    let id = server.peer;
    assert!(peer.act(move |swarm| swarm.is_connected(&id)).await, "the connection stays for the client's own requests");
}
