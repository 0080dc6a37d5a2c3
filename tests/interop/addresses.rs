//! Twenty peers with 25 addresses each: an answer that one implementation sends and the other can read.
//!
//! A server of `libp2p-kad` sends all of it, more than its own client reads (16 KiB).

use std::collections::BTreeSet;
use std::time::Duration;

use futures::future::join_all;
use libp2p::{Multiaddr, PeerId};
use libp2p_kad_dht as kad;

use crate::live::{Ours, PROTOCOL, soon, until};
use crate::theirs;

const PEERS: usize = 20;

/// The working address, and others that do not work, 25 in all.
fn addresses(real: &Multiaddr) -> Vec<Multiaddr> {
    let others = (0..24).map(|n| format!("/dns4/a-name-that-is-long-and-leads-nowhere-{n}.invalid/tcp/4001").parse());
    [real.clone()].into_iter().chain(others.map(Result::unwrap)).collect()
}

async fn nodes() -> Vec<Ours> {
    join_all((0..PEERS).map(|_| Ours::with(kad::Config::new(PROTOCOL), false, Duration::from_secs(10)))).await
}

fn ids(nodes: &[Ours]) -> BTreeSet<PeerId> {
    nodes.iter().map(|node| node.peer).collect()
}

/// A server of ours that has all of them in its table, with all their addresses.
async fn full_server(nodes: &[Ours]) -> Ours {
    let server = Ours::start().await;
    for node in nodes {
        server.dht.add_peer(node.peer, addresses(&node.addr));
    }
    until("all are in the table with all their addresses", async || {
        let table = soon(server.dht.routing_table()).await.unwrap();
        let full = table.entries().filter(|entry| entry.addrs.len() >= 8).count();
        (full == PEERS).then_some(())
    })
    .await;
    server
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn their_client_reads_our_answer() {
    let nodes = nodes().await;
    let server = full_server(&nodes).await;
    let client = theirs::start(libp2p_kad::K_VALUE).await;
    client.add_peer(server.peer, vec![server.addr.clone()]).await;
    let found = client.closest(b"point", libp2p_kad::K_VALUE).await;
    let found: BTreeSet<PeerId> = found.iter().map(|info| info.peer_id).collect();
    // The server is one of 21 nodes then, and may be among the closest.
    assert!(found.len() == PEERS && found.intersection(&ids(&nodes)).count() >= PEERS - 1, "{found:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_client_reads_their_answer() {
    let nodes = nodes().await;
    let server = theirs::start(libp2p_kad::K_VALUE).await;
    for node in &nodes {
        server.add_peer(node.peer, addresses(&node.addr)).await;
    }
    assert_eq!(server.table().await.len(), PEERS);
    let client = Ours::start().await;
    client.learns(&server).await;
    let found = soon(client.dht.closest_peers(b"point")).await.unwrap();
    let peers: BTreeSet<PeerId> = found.peers.iter().map(|peer| peer.id).collect();
    assert!(peers.len() == PEERS && peers.intersection(&ids(&nodes)).count() >= PEERS - 1, "{found:?}");
    assert!(found.peers.iter().all(|peer| !peer.addrs.is_empty()), "{found:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_client_reads_our_answer() {
    let nodes = nodes().await;
    let server = full_server(&nodes).await;
    let client = Ours::start().await;
    client.learns(&server).await;
    let found = soon(client.dht.closest_peers(b"point")).await.unwrap();
    let peers: BTreeSet<PeerId> = found.peers.iter().map(|peer| peer.id).collect();
    assert!(peers.len() == PEERS && peers.intersection(&ids(&nodes)).count() >= PEERS - 1, "{found:?}");
}
