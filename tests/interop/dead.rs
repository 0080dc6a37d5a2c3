//! A dead peer: the number of dials, and the time until it is forgotten, here and in `libp2p-kad`.

use std::num::NonZeroUsize;

use libp2p::PeerId;
use libp2p::swarm::SwarmEvent;

use crate::live::{Host, Node, Ours, soon, until};
use crate::theirs;

/// Lookups after the peer is gone.
const LOOKUPS: usize = 20;

fn failed_dials<B: Host>(node: &Node<B>, peer: PeerId) -> usize {
    let failed = node.seen(|event| match event {
        SwarmEvent::OutgoingConnectionError { peer_id, .. } if *peer_id == Some(peer) => Some(()),
        _ => None,
    });
    failed.len()
}

async fn lost<B: Host>(node: &Node<B>, peer: PeerId) {
    until("the connection is gone", async || {
        let connected = node.act(move |swarm| swarm.is_connected(&peer)).await;
        (!connected).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_peer_is_left_alone_where_theirs_dials_it_for_each_lookup() {
    let k = NonZeroUsize::new(20).unwrap();
    let (ours, theirs) = (Ours::start().await, theirs::start(k).await);
    let (live, dead) = (Ours::start().await, Ours::start().await);
    for peer in [&live, &dead] {
        ours.learns(peer).await;
        theirs.add_peer(peer.peer, vec![peer.addr.clone()]).await;
    }
    theirs.closest(b"before", k).await;
    until("both are known", async || (theirs.table().await.contains(&dead.peer)).then_some(())).await;
    let gone = dead.peer;
    drop(dead);
    lost(&ours, gone).await;
    lost(&theirs, gone).await;
    for n in 0..LOOKUPS {
        let point = format!("point {n}");
        let found = soon(ours.dht.closest_peers(point.as_bytes())).await.unwrap();
        assert!(found.peers.iter().any(|peer| peer.id == live.peer));
        theirs.closest(point.as_bytes(), k).await;
    }
    let (here, there) = (failed_dials(&*ours, gone), failed_dials(&theirs, gone));
    println!("{LOOKUPS} lookups after a peer is gone: {here} dials here, {there} in libp2p-kad");
    assert!((1..=3).contains(&here), "{here} dials");
    assert!(there > here, "{there} dials: the comparison is not what it was");
    assert!(theirs.table().await.contains(&gone), "never gone there");
}
