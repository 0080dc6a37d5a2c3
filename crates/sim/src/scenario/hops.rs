//! The number of rounds until one of the closest peers is known (RFM19.1).

use std::sync::Arc;

use super::{Params, Scenario};
use crate::{
    Directory, Monitor, Node, NodeIndex, Outcome, Population, Random, Samples, SortedPeers, StockTable, TableModel,
    config_with_k,
};
use libp2p_kad_dht::core::DhtConfig;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "hops",
    paper: "RFM19.1, G. Michel, ProbeLab 2023",
    about: "rounds until one of the 10 best known is among the true 20 closest",
    nodes: 25_000,
    run,
};

const CONCURRENCY: usize = 10;
const CLOSEST: usize = 20;
/// W: bucket i holds max(20, W >> i).
const WIDE: usize = 256;

fn run(params: &Params, monitor: &mut Monitor<'_>) -> Outcome {
    let (n, seed) = (params.size(), params.seed);
    let mut outcome = Outcome::new(SCENARIO.name, n, seed);
    let directory = Directory::new(seed, n);
    let population = Population::new(&directory, n);
    let samples = params.samples.unwrap_or(10_000);
    let measure = |monitor: &mut Monitor<'_>, model: TableModel, config: Option<DhtConfig>| {
        monitor.stage(if config.is_some() { "ours" } else { "stock" });
        let mut tables = Tables {
            directory: &directory,
            live: &population.live,
            model,
            ours: config.map(Arc::new),
            made: vec![None; n],
            entries: Samples::default(),
        };
        let hops = measure(&mut tables, seed, samples, monitor);
        (hops, tables.entries.mean())
    };
    let plain = TableModel::plain(20);
    let wide = TableModel { wide: WIDE, ..plain };
    let (stock, _) = measure(monitor, plain, None);
    let (stock_wide, _) = measure(monitor, wide, None);
    let (ours, entries) = measure(monitor, plain, Some(config_with_k(20)));
    let mut config = config_with_k(20);
    config.routing.wide_low_buckets = WIDE;
    let (ours_wide, entries_wide) = measure(monitor, wide, Some(config));
    outcome.stock.put("hops", stock.mean());
    outcome.stock.put("hops_wide", stock_wide.mean());
    outcome.published.put("hops", 1.93);
    outcome.published.put("hops_wide", 1.642);
    outcome.ours.put("hops", ours_wide.mean());
    outcome.ours.put("entries", entries_wide);
    outcome.ours.put("hops_plain", ours.mean());
    outcome.ours.put("entries_plain", entries);
    if n == SCENARIO.nodes {
        judge(&mut outcome, &stock, &ours, &ours_wide, entries_wide);
    } else {
        outcome.note("The pass lines hold for 25,000 nodes.");
    }
    outcome
}

fn judge(outcome: &mut Outcome, stock: &Samples, ours: &Samples, wide: &Samples, entries: f64) {
    let (stock, ours, wide) = (stock.mean(), ours.mean(), wide.mean());
    outcome.check("stock hops: 1.93 ± 0.01", stock, (stock - 1.93).abs() <= 0.01);
    // The same tables and the same measure: the tolerance is the error of the stock figure.
    outcome.check("ours with plain buckets: ≤ 1.93 (+ 0.01)", ours, ours <= 1.94);
    outcome.check("ours with wide low buckets: ≤ 1.65", wide, wide <= 1.65);
    outcome.check("entries with wide low buckets: ≤ 650", entries, entries <= 650.0);
}

/// Tables, each made when it is first needed: a lookup visits a few dozen nodes.
struct Tables<'a> {
    directory: &'a Directory,
    live: &'a SortedPeers,
    model: TableModel,
    /// The configuration of our nodes, whose tables choose their entries themselves; stock tables take all candidates.
    ours: Option<Arc<DhtConfig>>,
    made: Vec<Option<StockTable>>,
    entries: Samples,
}

impl Tables<'_> {
    fn of(&mut self, index: NodeIndex) -> &StockTable {
        let Tables { directory, live, model, ours: config, made, entries } = self;
        made[index as usize].get_or_insert_with(|| {
            let mut random = Random::new(directory.seed(), "table", index.into());
            let mut known = model.candidates(directory, (live, &SortedPeers::default()), index, &mut random);
            if let Some(config) = config {
                known = Node::ours(directory, 0, index, config, &known).table_entries(directory);
            }
            let mut table = StockTable::new(directory.position(index));
            for peer in known {
                table.insert(directory, peer, usize::MAX);
            }
            entries.push(table.len() as f64);
            table
        })
    }
}

fn measure(tables: &mut Tables<'_>, seed: u64, samples: usize, monitor: &mut Monitor<'_>) -> Samples {
    let mut random = Random::new(seed, "lookups", 0);
    let mut hops = Samples::default();
    for i in 0..samples {
        let (from, target) = (random.below(tables.directory.len() as u32), random.bits());
        hops.push(f64::from(walk(tables, from, target)));
        if i % 256 == 0 {
            monitor.report(i as u64, 0, i as f64 / samples as f64);
        }
        if monitor.stopped() {
            break;
        }
    }
    hops
}

/// The number of rounds; each asks the 10 closest known peers at once.
fn walk(tables: &mut Tables<'_>, from: NodeIndex, target: u64) -> u32 {
    let directory = tables.directory;
    let truth = tables.live.closest(target, CLOSEST);
    let mut known: Vec<(u64, NodeIndex)> = Vec::new();
    let mut asked: Vec<NodeIndex> = Vec::new();
    let hear = |known: &mut Vec<(u64, NodeIndex)>, peers: Vec<NodeIndex>| {
        known.extend(peers.into_iter().map(|peer| (directory.position(peer) ^ target, peer)));
        known.sort_unstable();
        known.dedup();
    };
    hear(&mut known, tables.of(from).closest(directory, target, CLOSEST));
    // As in the report, the look at the own table counts as the first hop.
    let mut hops = 1;
    loop {
        let best: Vec<NodeIndex> = known.iter().take(CONCURRENCY).map(|(_, peer)| *peer).collect();
        if best.iter().any(|peer| truth.contains(peer)) {
            return hops;
        }
        let next: Vec<NodeIndex> = best.into_iter().filter(|peer| !asked.contains(peer)).collect();
        if next.is_empty() {
            return hops;
        }
        hops += 1;
        for peer in next {
            asked.push(peer);
            let closer = tables.of(peer).closest(directory, target, CLOSEST);
            hear(&mut known, closer);
        }
    }
}
