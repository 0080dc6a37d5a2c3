//! Common parts of the scenarios: networks that start warm, and measured lookups.
//!
//! Knows: how to fill a network and to judge a lookup. Must not know: any scenario.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Arc;

use bytes::Bytes;

use crate::{
    Directory, Monitor, Network, NetworkEvent, Node, NodeIndex, Random, Samples, SortedPeers, StockNode, StockRules,
    TableModel, key_position,
};
use libp2p_kad_dht::core::{Answer, ClosestPeers, DhtConfig, Key, Operation, QueryEvent, QueryOptions};

/// The peers of a network that are online, and those that are gone for good but may be in routing tables.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Population {
    /// The peers that are online.
    pub live: SortedPeers,
    /// The peers that are gone.
    pub dead: SortedPeers,
}

impl Population {
    /// The first `live` peers of the directory are online, the others are gone.
    pub fn new(directory: &Directory, live: usize) -> Population {
        Population {
            live: directory.sorted(0..live as NodeIndex),
            dead: directory.sorted(live as NodeIndex..directory.len() as NodeIndex),
        }
    }
}

/// The implementation that a network runs.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Implementation {
    /// Lookups by the rules of another implementation.
    Stock(StockRules),
    /// This library, with this configuration.
    Ours(Arc<DhtConfig>),
}

/// The default configuration with this k: the replication and the size of a bucket.
pub fn config_with_k(k: usize) -> DhtConfig {
    let mut config = DhtConfig::default();
    let k = NonZeroUsize::new(k).unwrap_or(NonZeroUsize::MIN);
    config.lookup.replication = k;
    config.lookup.resiliency = config.lookup.resiliency.min(k);
    config.routing.bucket_size = k;
    config
}

/// Brings every live peer online, with a routing table from global knowledge. Ends early if the observer says so.
pub fn populate(
    network: &mut Network,
    population: &Population,
    seed: u64,
    implementation: &Implementation,
    model: TableModel,
    monitor: &mut Monitor<'_>,
) {
    let n = population.live.len();
    for index in 0..n as NodeIndex {
        let mut random = Random::new(seed, "table", index.into());
        let peers = (&population.live, &population.dead);
        let node = match implementation {
            Implementation::Stock(rules) => {
                let table = model.table(&network.directory, peers, index, &mut random);
                Node::Stock(Box::new(StockNode::new(index, *rules, table)))
            }
            Implementation::Ours(config) => {
                let candidates = model.candidates(&network.directory, peers, index, &mut random);
                Node::ours(&network.directory, network.now(), index, config, &candidates)
            }
        };
        network.join(index, node);
        if index % 4_096 == 0 {
            monitor.report(0, 0, f64::from(index) / n as f64);
            if monitor.stopped() {
                return;
            }
        }
    }
}

/// The cost and the results of lookups.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct LookupStats {
    /// Requests of a lookup.
    pub rpcs: Samples,
    /// Rounds of a lookup: the longest chain of requests, each caused by the answer to the one before.
    pub rounds: Samples,
    /// Milliseconds of a lookup.
    pub millis: Samples,
    /// The share of the true k closest live peers that a lookup found.
    pub recall: Samples,
    /// Lookups that failed.
    pub failed: usize,
}

/// The lookups to run.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "a scenario sets every field")]
pub struct LookupPlan {
    /// The seed of the targets and of the nodes that look them up.
    pub seed: u64,
    /// The number of lookups.
    pub lookups: usize,
    /// The number of lookups at a time.
    pub at_once: usize,
    /// The number of closest peers to find.
    pub k: usize,
}

struct Running {
    target: u64,
    started: u64,
}

/// Looks random targets up, each from a random live node that runs no other lookup of these.
pub fn run_lookups(
    network: &mut Network,
    live: &SortedPeers,
    plan: &LookupPlan,
    monitor: &mut Monitor<'_>,
) -> LookupStats {
    let mut random = Random::new(plan.seed, "lookups", 0);
    let mut found = LookupStats::default();
    let mut running: BTreeMap<NodeIndex, Running> = BTreeMap::new();
    let mut started = 0;
    while !monitor.stopped() {
        while started < plan.lookups && running.len() < plan.at_once.min(live.len()) {
            let node = live.at(random.below(live.len() as u32) as usize);
            if running.contains_key(&node) {
                continue;
            }
            let key = Bytes::copy_from_slice(&random.bytes());
            let target = key_position(&Key::hash(&key));
            let now = network.now();
            let operation = Operation::ClosestPeers { key };
            if network.start(node, operation, QueryOptions::default()).is_some() {
                running.insert(node, Running { target, started: now });
            } else {
                found.failed += 1;
            }
            started += 1;
        }
        if running.is_empty() {
            break;
        }
        let done = (started - running.len()) as f64 / plan.lookups as f64;
        match network.next(u64::MAX - 1) {
            Some(NetworkEvent::Query { node, event: QueryEvent::Finished(result), rounds, .. }) => {
                let Some(run) = running.remove(&node) else { continue };
                let Ok(Answer::ClosestPeers(ClosestPeers { peers, report, .. })) = *result else {
                    found.failed += 1;
                    continue;
                };
                found.rpcs.push(report.requests as f64);
                found.rounds.push(f64::from(rounds));
                found.millis.push((network.now() - run.started) as f64 / 1_000.0);
                let truth = live.closest(run.target, plan.k + 1);
                let mut truth: Vec<NodeIndex> = truth.into_iter().filter(|peer| *peer != node).collect();
                truth.truncate(plan.k);
                let hits = peers
                    .iter()
                    .filter(|peer| network.directory.index_of(&peer.id).is_some_and(|i| truth.contains(&i)));
                found.recall.push(hits.count() as f64 / truth.len() as f64);
            }
            Some(NetworkEvent::Progress) => monitor.report(network.traffic().events, network.now(), done),
            Some(_) => {}
            None => break,
        }
    }
    found
}
