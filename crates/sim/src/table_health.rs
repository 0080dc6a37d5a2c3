//! The quality of routing tables in a network.
//!
//! Knows: the true order of all keys. Must not know: how the tables came about.

use super::directory::NodeIndex;
use super::network::Network;

/// The quality of the routing tables of some of our nodes, compared with the servers that are online.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct TableHealth {
    /// Average number of entries in a table.
    pub entries: f64,
    /// The share of dead entries in full buckets.
    pub stale_full: f64,
    /// The share of dead entries in the other buckets.
    pub stale_open: f64,
    /// Average number of a node's 20 closest servers that it has in its table.
    pub know20: f64,
    /// The share of nodes that have all of their 20 closest servers in the table.
    pub know_all: f64,
}

impl TableHealth {
    /// Measures the tables of these peers.
    pub fn of(network: &Network, peers: impl Iterator<Item = NodeIndex>) -> TableHealth {
        let live = network.servers();
        let (mut health, mut count) = (TableHealth::default(), 0.0);
        // Dead entries and all entries, of full buckets and of the others.
        let mut tally = [[0.0f64; 2]; 2];
        for peer in peers {
            let buckets = network.node(peer).buckets(&network.directory);
            for (full, entries) in &buckets {
                let dead = entries.iter().filter(|entry| !network.node(**entry).serves()).count();
                let tally = &mut tally[usize::from(*full)];
                *tally = [tally[0] + dead as f64, tally[1] + entries.len() as f64];
                health.entries += entries.len() as f64;
            }
            let near = live.closest(network.directory.position(peer), 21).into_iter().filter(|other| *other != peer);
            let known = |other: &NodeIndex| buckets.iter().any(|(_, entries)| entries.contains(other));
            let near: Vec<NodeIndex> = near.take(20).collect();
            let knows = near.iter().filter(|other| known(other)).count();
            health.know20 += knows as f64;
            health.know_all += f64::from(u8::from(knows == near.len()));
            count += 1.0;
        }
        health.entries /= count;
        health.know20 /= count;
        health.know_all /= count;
        health.stale_full = tally[1][0] / tally[1][1].max(1.0);
        health.stale_open = tally[0][0] / tally[0][1].max(1.0);
        health
    }
}
