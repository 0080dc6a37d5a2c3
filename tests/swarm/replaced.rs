//! All peers that a node knows leave at the same time and are replaced by others: `src/core/tests/replaced.rs` with
//! real nodes.

use std::collections::BTreeMap;
use std::time::Duration;

use libp2p_kad_dht::Key;

use super::node::{Node, Setup};
use super::{soon, until};

const K: usize = 20;
const PEERS: usize = 44;

/// Peers that join through the hub.
async fn join(hub: &Node) -> Vec<Node> {
    let mut peers = Vec::new();
    for _ in 0..PEERS {
        let peer = Node::with(Setup { identify: true, ..Setup::default() }).await;
        peer.dht.add_peer(hub.peer, [hub.addr.clone()]);
        soon(peer.dht.bootstrap()).await.unwrap();
        peers.push(peer);
    }
    peers
}

/// Number of these peers in the hub's table, and number of those for which its buckets have room.
async fn known(hub: &Node, peers: &[Node]) -> (usize, usize) {
    let table = hub.dht.routing_table().await.unwrap();
    let known = peers.iter().filter(|peer| table.entries().any(|entry| entry.peer == peer.peer)).count();
    let (local, mut buckets) = (Key::from(&hub.peer), BTreeMap::<u32, usize>::new());
    for peer in peers {
        *buckets.entry(Key::from(&peer.peer).common_prefix_len(&local)).or_default() += 1;
    }
    (known, buckets.values().map(|count| *count.min(&K)).sum())
}

async fn knows_most(hub: &Node, peers: &[Node]) {
    until(async || {
        let (known, room) = known(hub, peers).await;
        (known * 100 >= room * 95).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_that_replace_all_others_are_known_within_ten_seconds() {
    let hub = Node::with(Setup { identify: true, ..Setup::default() }).await;
    let old = join(&hub).await;
    knows_most(&hub, &old).await;
    drop(old);
    let new = join(&hub).await;
    if tokio::time::timeout(Duration::from_secs(10), knows_most(&hub, &new)).await.is_err() {
        let (known, room) = known(&hub, &new).await;
        panic!("{known} of the {room} for whom there is room");
    }
}
