//! What several scenarios set up or measure alike.

use std::num::NonZeroUsize;
use std::sync::Arc;

use bytes::Bytes;

use super::super::directory::{Directory, Index, Ranking, place};
use super::super::network::{Network, News};
use super::super::node::{Node, ours};
use super::super::numbers::Numbers;
use super::super::progress::Progress;
use super::super::random::Random;
use super::super::stock::{Player, Rules};
use super::super::table::Filling;
use libp2p_kad_dht::core::{Answer, ClosestPeers, DhtConfig, Key, Operation, QueryEvent, QueryOptions};

/// Who is there: the living and the dead, in order of their keys.
pub(super) struct Population {
    pub(super) live: Ranking,
    pub(super) dead: Ranking,
}

impl Population {
    /// The first `live` peers of the directory live, the others do not.
    pub(super) fn new(directory: &Directory, live: usize) -> Population {
        Population {
            live: directory.ranking(0..live as Index),
            dead: directory.ranking(live as Index..directory.len() as Index),
        }
    }
}

/// Who plays.
#[derive(Clone)]
pub(super) enum Kind {
    /// By the rules of another implementation.
    Stock(Rules),
    /// By ours, with this configuration.
    Ours(Arc<DhtConfig>),
}

/// Our defaults with this k.
pub(super) fn config(k: usize) -> DhtConfig {
    let mut config = DhtConfig::default();
    let k = NonZeroUsize::new(k).unwrap_or(NonZeroUsize::MIN);
    config.lookup.replication = k;
    config.lookup.resiliency = config.lookup.resiliency.min(k);
    config.routing.bucket_size = k;
    config
}

/// Brings everyone who lives online, with tables from global knowledge.
pub(super) fn populate(
    network: &mut Network,
    population: &Population,
    seed: u64,
    kind: &Kind,
    filling: Filling,
    progress: &mut Progress<'_>,
) {
    let n = population.live.len();
    for index in 0..n as Index {
        let mut random = Random::new(seed, "table", index.into());
        let peers = (&population.live, &population.dead);
        let node = match kind {
            Kind::Stock(rules) => {
                let table = filling.table(&network.directory, peers, index, &mut random);
                Node::Stock(Box::new(Player::new(index, *rules, table)))
            }
            Kind::Ours(config) => {
                let candidates = filling.candidates(&network.directory, peers, index, &mut random);
                ours(&network.directory, network.now(), index, config, &candidates)
            }
        };
        network.join(index, node);
        if index % 4_096 == 0 {
            progress.tell(0, 0, f64::from(index) / n as f64);
            if progress.stopped() {
                return;
            }
        }
    }
}

/// What lookups cost and found.
#[derive(Default)]
pub(super) struct Lookups {
    pub(super) rpcs: Numbers,
    pub(super) rounds: Numbers,
    pub(super) millis: Numbers,
    /// The share of the true k closest living peers among the results, lookup by lookup.
    pub(super) recall: Numbers,
    pub(super) failed: usize,
}

/// How lookups are made: how many, how many at a time, and what counts as found.
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) lookups: usize,
    pub(super) at_once: usize,
    pub(super) k: usize,
}

struct Running {
    target: u64,
    started: u64,
}

/// Looks for random targets, each from a random node, and no node with two at a time.
pub(super) fn look_up(network: &mut Network, live: &Ranking, plan: &Plan, progress: &mut Progress<'_>) -> Lookups {
    let mut random = Random::new(plan.seed, "lookups", 0);
    let mut found = Lookups::default();
    let mut running: std::collections::BTreeMap<Index, Running> = std::collections::BTreeMap::new();
    let mut started = 0;
    while !progress.stopped() {
        while started < plan.lookups && running.len() < plan.at_once.min(live.len()) {
            let node = live.at(random.below(live.len() as u32) as usize);
            if running.contains_key(&node) {
                continue;
            }
            let key = Bytes::copy_from_slice(&random.bytes());
            let target = place(&Key::hash(&key));
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
            Some(News::Query { node, event: QueryEvent::Finished(result), rounds, .. }) => {
                let Some(run) = running.remove(&node) else { continue };
                let Ok(Answer::ClosestPeers(ClosestPeers { peers, report, .. })) = *result else {
                    found.failed += 1;
                    continue;
                };
                found.rpcs.push(report.requests as f64);
                found.rounds.push(f64::from(rounds));
                found.millis.push((network.now() - run.started) as f64 / 1_000.0);
                let truth = live.closest(run.target, plan.k + 1);
                let mut truth: Vec<Index> = truth.into_iter().filter(|peer| *peer != node).collect();
                truth.truncate(plan.k);
                let hits = peers
                    .iter()
                    .filter(|peer| network.directory.index_of(&peer.id).is_some_and(|i| truth.contains(&i)));
                found.recall.push(hits.count() as f64 / truth.len() as f64);
            }
            Some(News::Pulse) => progress.tell(network.traffic().events, network.now(), done),
            Some(_) => {}
            None => break,
        }
    }
    found
}
