//! The cost of refreshes in a network that does nothing else.

use std::time::Duration;

use bytes::Bytes;

use super::Network;
use crate::core::io::Operation;
use crate::core::{DhtConfig, Key, QueryKind};

/// Number of refresh lookups that a node has started.
fn refreshes(network: &Network, i: usize) -> u64 {
    let queries = network.nodes[i].stats().queries.iter();
    queries.filter(|times| times.kind == QueryKind::Refresh).map(|times| times.took.count()).sum()
}

/// Number of buckets farther away than the closest neighbour.
fn buckets(network: &Network, i: usize) -> u64 {
    let local = *network.nodes[i].local().key();
    let table = network.nodes[i].routing_snapshot();
    table.entries().map(|entry| Key::from(&entry.peer).common_prefix_len(&local)).max().unwrap_or(0).into()
}

#[test]
fn an_idle_hour_costs_no_more_than_a_lookup_per_bucket_and_ten_minutes_and_a_busy_one_less() {
    const NODES: usize = 40;
    let mut network = Network::joined(NODES, DhtConfig::default());
    // The node through which all joined has looked up its own key by itself.
    network.advance(Duration::from_secs(60));
    let before: Vec<_> = (0..NODES).map(|i| refreshes(&network, i)).collect();
    for minute in 0..60u32 {
        // One node looks up a random key every minute.
        network.run(7, Operation::ClosestPeers { key: Bytes::copy_from_slice(&minute.to_be_bytes()) }).unwrap();
        network.advance(Duration::from_secs(60));
    }
    for (i, before) in before.iter().enumerate() {
        // And the nearest bucket.
        let (count, buckets) = (refreshes(&network, i) - before, buckets(&network, i) + 1);
        if i == 7 {
            assert!(
                count <= 6 * (buckets - 2),
                "{count} for {buckets} buckets: half of all it looks for is in the first"
            );
        } else {
            assert!(count >= 3 * buckets, "{count} of node {i} for {buckets} buckets");
            assert!(count <= 6 * buckets, "{count} of node {i} for {buckets} buckets");
        }
    }
}
