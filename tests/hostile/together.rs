//! Two nodes that dial each other at the same moment: on TCP one connection may come of it at which both believe to have
//! dialled, which no handshake survives.

use std::time::Duration;

use futures::future::join;
use libp2p::swarm::SwarmEvent;
use libp2p_kad_dht as kad;
use tokio::time::Instant;

use crate::live::{Ours, PROTOCOL, until};
use crate::rules::node;

fn failed_dials(node: &Ours) -> Vec<String> {
    node.seen(|event| match event {
        SwarmEvent::OutgoingConnectionError { error, .. } => Some(format!("{error:?}")),
        _ => None,
    })
}

/// Pairs of which both fail, and how long it takes until both know each other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_that_dial_each_other_at_once_meet_at_once() {
    let mut both = 0;
    let mut longest = Duration::ZERO;
    for pair in 0..std::env::var("PAIRS").map_or(40, |pairs| pairs.parse().unwrap()) {
        let (alice, bob) = (node(kad::Config::new(PROTOCOL)).await, node(kad::Config::new(PROTOCOL)).await);
        let began = Instant::now();
        alice.dht.add_peer(bob.peer, [bob.addr.clone()]);
        bob.dht.add_peer(alice.peer, [alice.addr.clone()]);
        let knows = async |one: &Ours, other: &Ours| {
            until("they know each other", async || one.table().await.contains(&other.peer).then_some(())).await;
        };
        join(knows(&alice, &bob), knows(&bob, &alice)).await;
        let took = began.elapsed();
        let (one, other) = (failed_dials(&alice), failed_dials(&bob));
        if !one.is_empty() || !other.is_empty() {
            println!("{pair}: {took:?} {one:?} | {other:?}");
        }
        both += usize::from(!one.is_empty() && !other.is_empty());
        longest = longest.max(took);
    }
    println!("in {both} of 40 pairs both failed; the longest took {longest:?}");
}
