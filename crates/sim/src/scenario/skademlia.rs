//! Lookups over disjoint paths among adversaries that misroute.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::sync::Arc;

use bytes::Bytes;

use super::{Params, Scenario};
use crate::random::{mix, unit};
use crate::{
    Adversary, Attack, Directory, Implementation, Latency, Link, Monitor, Network, NetworkEvent, Node, NodeIndex,
    Outcome, Population, Random, SortedPeers, StockTable, TableModel, config_with_k, key_position, populate,
};
use libp2p_kad_dht::core::{Answer, ClosestPeers, Key, Operation, QueryEvent, QueryOptions};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "skademlia",
    paper: "Baumgart & Mies, S/Kademlia, ICPADS 2007; reference values of a replica in which a path dies at its first adversary",
    about: "share of lookups that find the closest honest peer, by share of adversaries m and disjoint paths d",
    nodes: 10_000,
    run,
};

const K: usize = 16;
const BATCHES: usize = 20;
pub(super) const PATHS: [usize; 4] = [1, 2, 4, 8];

/// The share of adversaries, and the success with 1, 2, 4 and 8 paths.
const PUBLISHED: [(f64, [f64; 4]); 6] = [
    (0.10, [0.828, 0.965, 0.998, 1.000]),
    (0.20, [0.664, 0.879, 0.984, 1.000]),
    (0.25, [0.606, 0.831, 0.964, 0.998]),
    (0.30, [0.535, 0.758, 0.924, 0.992]),
    (0.40, [0.428, 0.631, 0.824, 0.954]),
    (0.50, [0.329, 0.506, 0.694, 0.869]),
];

fn run(params: &Params, monitor: &mut Monitor<'_>) -> Outcome {
    let (n, seed) = (params.size(), params.seed);
    let mut outcome = Outcome::new(SCENARIO.name, n, seed);
    monitor.stage("stock paths");
    let directory = Directory::new(seed, n);
    let everyone = directory.sorted(0..n as NodeIndex);
    let mut tables = Tables { directory: &directory, everyone: &everyone, seed, made: vec![None; n] };
    let samples = params.samples.unwrap_or(6_000).max(BATCHES);
    let mut curves: Vec<(String, Vec<(f64, f64)>)> = PATHS.iter().map(|d| (format!("d = {d}"), Vec::new())).collect();
    for (row, (m, published)) in PUBLISHED.iter().enumerate() {
        for (column, d) in PATHS.iter().enumerate() {
            let reached = tables.success(samples, *m, *d);
            curves[column].1.push((*m, reached));
            let (m_name, d_name) = (format!("{m:.2}"), d.to_string());
            outcome.stock.group("success").group(&m_name).put(&d_name, reached);
            outcome.published.group("success").group(&m_name).put(&d_name, published[column]);
            if n == SCENARIO.nodes {
                let what = format!("stock m {m_name} d {d_name}: {:.3} ± 0.02", published[column]);
                outcome.check(what, reached, (reached - published[column]).abs() <= 0.02);
            }
            monitor.report(0, 0, (row * 4 + column) as f64 / 24.0);
            if monitor.stopped() {
                return outcome;
            }
        }
    }
    for (kind, name) in [(Attack::Misrouting, "misrouting"), (Attack::Silent, "silent")] {
        monitor.stage(name);
        ours(params, (kind, name), monitor, &mut outcome);
    }
    outcome.plot("Success of lookups over d disjoint paths", ("share of adversaries", "success"), curves);
    outcome
}

/// The number of targets with Sybils near them, and the Sybils of each: fewer than k, or all of the k closest would be
/// theirs.
const TARGETS: usize = 24;
const SYBILS: usize = K / 2;

/// The share of adversaries, and the share of lookups that must succeed.
const LINES: [(f64, f64); 3] = [(0.2, 0.999), (0.3, 0.99), (0.4, 0.95)];

/// The number of paths for which that holds.
const CHOSEN: usize = 8;

/// Our own lookups among adversaries with one attack.
fn ours(params: &Params, (kind, name): (Attack, &str), monitor: &mut Monitor<'_>, outcome: &mut Outcome) {
    let mut plain = f64::NAN;
    let mut curves: Vec<(String, Vec<(f64, f64)>)> = PATHS.iter().map(|d| (format!("d = {d}"), Vec::new())).collect();
    // Without adversaries the attack does not matter.
    let shares: &[f64] = if kind == Attack::Silent { &[0.2, 0.3, 0.4, 0.5] } else { &[0.0, 0.1, 0.2, 0.3, 0.4, 0.5] };
    for m in shares.iter().copied() {
        let (mut network, honest, keys) = among(params, kind, m, monitor);
        let m_name = format!("{m:.2}");
        for (column, d) in PATHS.into_iter().enumerate() {
            let samples = params.samples.map_or(1_000, |samples| samples.div_ceil(6));
            let (success, rpcs) = look_for(&mut network, &honest, &keys, (d, samples), monitor);
            if monitor.stopped() {
                return;
            }
            if m == 0.0 && d == 1 {
                plain = rpcs;
            }
            curves[column].1.push((rpcs, success));
            let d_name = d.to_string();
            outcome.ours.group("success").group(name).group(&m_name).put(&d_name, success);
            outcome.ours.group("rpcs").group(name).group(&m_name).put(&d_name, rpcs);
            let line = LINES.iter().find(|(share, _)| *share == m);
            if let (Some((_, wanted)), CHOSEN, Attack::Misrouting) = (line, d, kind) {
                let wanted = *wanted;
                outcome.check(format!("ours, misrouting, m {m_name}, d {d}: ≥ {wanted}"), success, success >= wanted);
                let ratio = rpcs / plain;
                let what = format!("ours, misrouting, m {m_name}, d {d}: ≤ 1.5 × the requests of d 1 at m 0");
                outcome.check(what, ratio, ratio <= 1.5);
            }
        }
        outcome.check_invariants("ours", &network.traffic());
    }
    outcome.plot(&format!("Ours among {name} adversaries, m 0 to 0.5"), ("requests", "success"), curves);
}

/// A network with a share `m` of adversaries, its honest peers, and the keys with Sybils near them.
fn among(params: &Params, kind: Attack, m: f64, monitor: &mut Monitor<'_>) -> (Network, SortedPeers, Vec<Bytes>) {
    let (n, seed) = (params.size(), params.seed);
    let mut directory = Directory::new(seed, n);
    let mut random = Random::new(seed, "sybils", 0);
    let keys: Vec<Bytes> = (0..TARGETS).map(|_| Bytes::copy_from_slice(&random.bytes())).collect();
    let bits = n.ilog2() + 1;
    if m > 0.0 {
        for key in &keys {
            let target = Key::hash(key);
            for _ in 0..SYBILS {
                directory.add_near(&target, bits, &mut random);
            }
        }
    }
    let salt = mix(seed ^ 0xad);
    let bad = |index: NodeIndex| index >= n as NodeIndex || unit(mix(salt ^ u64::from(index))) < m;
    let colluders = Arc::new(directory.sorted((0..directory.len() as NodeIndex).filter(|peer| bad(*peer))));
    let honest = directory.sorted((0..n as NodeIndex).filter(|peer| !bad(*peer)));
    let everyone = Arc::new(directory.sorted(0..n as NodeIndex));
    let population = Population { live: SortedPeers::clone(&everyone), dead: SortedPeers::default() };
    let total = directory.len() as NodeIndex;
    let mut network = Network::new(seed, directory, Link::ideal(Latency::Constant(100_000)));
    populate(
        &mut network,
        &population,
        seed,
        &Implementation::Ours(Arc::new(config_with_k(K))),
        TableModel::plain(K),
        monitor,
    );
    for peer in (0..total).filter(|peer| bad(*peer)) {
        let adversary = Adversary::new(kind, Arc::clone(&colluders), Arc::clone(&everyone));
        network.join(peer, Node::Adversary(Box::new(adversary)));
    }
    (network, honest, keys)
}

/// Looks the keys up from honest peers along d paths. Returns the share of lookups that found the closest honest peer,
/// and the mean number of requests.
pub(super) fn look_for(
    network: &mut Network,
    honest: &SortedPeers,
    keys: &[Bytes],
    (paths, samples): (usize, usize),
    monitor: &mut Monitor<'_>,
) -> (f64, f64) {
    let mut random = Random::new(network.directory.seed(), "lookups", paths as u64);
    let options = QueryOptions::default().with_paths(NonZeroUsize::new(paths).unwrap_or(NonZeroUsize::MIN));
    let (mut good, mut ended, mut rpcs) = (0, 0, 0);
    for i in 0..samples {
        let from = honest.at(random.below(honest.len() as u32) as usize);
        let key = keys[i % keys.len()].clone();
        let near = honest.closest(key_position(&Key::hash(&key)), 2);
        let goal = near.into_iter().find(|peer| *peer != from);
        let goal = goal.map(|peer| *network.directory.contact(peer).peer());
        let Some(lookup) = network.start(from, Operation::ClosestPeers { key }, options.clone()) else { continue };
        let answer = loop {
            match network.next(u64::MAX - 1) {
                // Other nodes may run queries of their own.
                Some(NetworkEvent::Query { node, id, event: QueryEvent::Finished(result), .. })
                    if (node, id) == (from, lookup) =>
                {
                    break result;
                }
                Some(NetworkEvent::Progress) => {
                    monitor.report(network.traffic().events, network.now(), i as f64 / samples as f64);
                }
                Some(_) => {}
                None => return (f64::NAN, f64::NAN),
            }
        };
        ended += 1;
        if let Ok(Answer::ClosestPeers(ClosestPeers { peers, report, .. })) = *answer {
            good += usize::from(peers.iter().any(|peer| Some(peer.id) == goal));
            rpcs += report.requests;
        }
        if monitor.stopped() {
            break;
        }
    }
    (good as f64 / ended as f64, rpcs as f64 / ended as f64)
}

struct Tables<'a> {
    directory: &'a Directory,
    everyone: &'a SortedPeers,
    seed: u64,
    made: Vec<Option<StockTable>>,
}

impl Tables<'_> {
    fn closest(&mut self, index: NodeIndex, target: u64) -> Vec<NodeIndex> {
        let Tables { directory, everyone, seed, made } = self;
        let table = made[index as usize].get_or_insert_with(|| {
            let mut random = Random::new(*seed, "table", index.into());
            TableModel::plain(K).table(directory, (everyone, &SortedPeers::default()), index, &mut random)
        });
        table.closest(directory, target, K)
    }

    fn success(&mut self, samples: usize, m: f64, d: usize) -> f64 {
        let mut random = Random::new(self.seed, "lookups", 0);
        let n = self.directory.len() as u32;
        let mut good = 0;
        for batch in 0..BATCHES {
            // Each batch has other adversaries: a single choice would decide too much.
            let salt = mix(self.seed ^ mix(batch as u64));
            let adversary = |index: NodeIndex| unit(mix(salt ^ u64::from(index))) < m;
            let honest = self.directory.sorted((0..n).filter(|index| !adversary(*index)));
            for _ in 0..samples / BATCHES {
                let from = honest.at(random.below(honest.len() as u32) as usize);
                let target = random.bits();
                let goal = honest.closest(target, 1);
                good += usize::from(self.walk((from, target), &goal, d, &adversary));
            }
        }
        good as f64 / (samples / BATCHES * BATCHES) as f64
    }

    /// Follows d paths that share no peer; each asks the closest peer that it knows and ends at the first adversary.
    /// Returns whether any path learns of the closest honest peer.
    fn walk(
        &mut self,
        (from, target): (NodeIndex, u64),
        goal: &[NodeIndex],
        d: usize,
        adversary: &dyn Fn(NodeIndex) -> bool,
    ) -> bool {
        let directory = self.directory;
        let start = self.closest(from, target);
        let mut asked: BTreeSet<NodeIndex> = BTreeSet::new();
        let mut paths: Vec<Vec<(u64, NodeIndex)>> = vec![Vec::new(); d];
        for (i, peer) in start.into_iter().enumerate() {
            paths[i % d].push((directory.position(peer) ^ target, peer));
        }
        if paths.iter().flatten().any(|(_, peer)| goal.contains(peer)) {
            return true;
        }
        let mut alive: Vec<bool> = vec![true; d];
        while alive.contains(&true) {
            for (path, alive) in paths.iter_mut().zip(&mut alive).filter(|(_, alive)| **alive) {
                let next = path.iter().take(K).find(|(_, peer)| !asked.contains(peer)).map(|(_, peer)| *peer);
                let Some(peer) = next.filter(|peer| !adversary(*peer)) else {
                    asked.extend(next);
                    *alive = false;
                    continue;
                };
                asked.insert(peer);
                let closer = self.closest(peer, target);
                if closer.iter().any(|peer| goal.contains(peer)) {
                    return true;
                }
                path.extend(closer.into_iter().map(|peer| (directory.position(peer) ^ target, peer)));
                path.sort_unstable();
                path.dedup();
            }
        }
        false
    }
}
