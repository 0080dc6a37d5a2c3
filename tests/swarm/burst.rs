//! Many parallel lookups on one node: slower than one at a time, and not wrong.
//!
//! `BURST=200,2000 cargo test --release --all-features --test swarm burst -- --nocapture` is the size of the figures in
//! `docs/results.md`: the number of nodes and the number of lookups.

use libp2p::PeerId;
use libp2p_kad_dht as kad;

use super::node::{Node, Setup};
use super::{soon, until};

const K: usize = 20;

fn size() -> (usize, usize) {
    let wanted = std::env::var("BURST").ok();
    let parsed = wanted.as_deref().map(|text| text.split_once(',').expect("NODES,LOOKUPS"));
    parsed.map_or((40, 400), |(nodes, lookups)| (nodes.parse().unwrap(), lookups.parse().unwrap()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_of_lookups_finds_all_closest_and_counts_no_failure() {
    let (count, lookups) = size();
    let setup = Setup { identify: true, ..Setup::default() };
    let boot = Node::with(setup.clone()).await;
    let mut nodes = vec![];
    for _ in 1..count {
        let node = Node::with(setup.clone()).await;
        node.dht.add_peer(boot.peer, [boot.addr.clone()]);
        node.dht.bootstrap().await.unwrap();
        nodes.push(node);
    }
    let sender = boot;
    let known = async || sender.dht.routing_table().await.unwrap().entries().count();
    until(async || (known().await >= K.min(count - 1)).then_some(())).await;
    let _ = sender.dht.bootstrap().await;

    let begin = tokio::time::Instant::now();
    let closest = (0..lookups).map(|i| sender.dht.closest_peers(format!("key {i}")).into_future());
    let found = tokio::time::timeout(std::time::Duration::from_secs(120), futures::future::join_all(closest)).await;
    let took = begin.elapsed();
    let (mut right, mut requests, mut failed) = (0, 0, 0);
    for (i, found) in found.expect("within 2 min").into_iter().enumerate() {
        let found = found.unwrap();
        let key = kad::Key::hash(format!("key {i}").as_bytes());
        let mut closest: Vec<PeerId> = nodes.iter().map(|node| node.peer).collect();
        closest.sort_by_key(|peer| key.distance(&kad::Key::from(peer)));
        closest.truncate(K);
        right += found.peers.iter().filter(|peer| closest.contains(&peer.id)).count();
        requests += found.report.requests;
        failed += found.report.failed.len();
    }
    let recall = right as f64 / (lookups * K.min(count - 1)) as f64;
    let requests = requests as f64 / lookups as f64;
    println!(
        "{count} nodes, {lookups} lookups: recall {recall:.4}, {requests:.1} requests each, {failed} failures, {took:?}"
    );
    // On a machine that runs other tests too, a peer may be late now and then.
    assert!(recall >= 0.999 && requests <= 26.0, "recall {recall}, {requests} requests each");
    assert_eq!(failed, 0, "no live peer counts as failed");

    // The settle time of announcements makes no peer late: a late one would be replaced.
    let provided = soon(sender.dht.provide(b"content")).await.unwrap();
    let told = provided.report.acknowledged.len() + provided.report.sent.len();
    assert!(told >= K.min(count - 1) && told <= K + K / 4, "{told} of {K} are told: {provided:?}");
    soon(sender.idle()).await;
}
