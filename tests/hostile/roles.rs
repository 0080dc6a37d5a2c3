//! Clients and servers: who provides, who is served, and what changes when a server becomes a client.

use std::time::Duration;

use libp2p_kad_dht as kad;
use libp2p_kad_dht::Mode;

use crate::live::{Ours, PROTOCOL, Raw, soon, until};
use crate::rules::{named_by, node, provided_at};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_client_provides_is_found_with_addresses() {
    let server = node(kad::Config::new(PROTOCOL)).await;
    let client = node(kad::Config::new(PROTOCOL).with_mode(Some(Mode::Client))).await;
    client.learns(&server).await;
    let provided = soon(client.dht.provide(b"content")).await.unwrap();
    assert_eq!(provided.acknowledged, [server.peer]);
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
    // And it comes back when it serves again.
    bob.dht.set_mode(Some(Mode::Server));
    until("it is known again", async || alice.table().await.contains(&bob.peer).then_some(())).await;
}
