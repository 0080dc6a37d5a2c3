//! Lookups with routing tables in which every seventh entry is dead.

use std::sync::Arc;

use super::{Params, Scenario};
use crate::{
    Directory, Implementation, Latency, Link, LookupPlan, LookupStats, Measurements, Monitor, Network, Outcome,
    Population, StockRules, TableModel, config_with_k, populate, run_lookups,
};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "stale",
    paper: "RFM19, ProbeLab 2022: 15 % of the entries of buckets that are not full are dead",
    about: "time, requests and recall of lookups, GEO-6, 15 % of all entries dead",
    nodes: 10_000,
    run,
};

const FILLING: TableModel = TableModel { bucket_size: 20, wide: 0, stale_full: 0.15, stale_open: 0.15 };

fn run(params: &Params, monitor: &mut Monitor<'_>) -> Outcome {
    let mut outcome = Outcome::new(SCENARIO.name, params.size(), params.seed);
    let (mut curves, mut best) = (Vec::new(), f64::MAX);
    for (name, rules) in [("go", StockRules::AMINO), ("libp2p_kad", StockRules::LIBP2P_KAD)] {
        monitor.stage(name);
        let found = measure(params, Implementation::Stock(rules), monitor, &mut outcome);
        put(outcome.stock.group(name), &found);
        best = best.min(found.millis.quantile(0.95));
        curves.push((name.to_owned(), found.millis.distribution()));
    }
    monitor.stage("ours");
    let found = measure(params, Implementation::Ours(Arc::new(config_with_k(20))), monitor, &mut outcome);
    put(&mut outcome.ours, &found);
    curves.push(("ours".to_owned(), found.millis.distribution()));
    let p95 = found.millis.quantile(0.95);
    outcome.check("ours p95_ms: ≤ half of the better stock node's", p95, p95 <= best / 2.0);
    outcome.check("ours recall: ≥ 0.99", found.recall.mean(), found.recall.mean() >= 0.99);
    outcome.plot("Time of a lookup", ("milliseconds", "share of lookups"), curves);
    outcome
}

fn measure(
    params: &Params,
    implementation: Implementation,
    monitor: &mut Monitor<'_>,
    outcome: &mut Outcome,
) -> LookupStats {
    let (n, seed) = (params.size(), params.seed);
    // Dead ids are 15 % of all ids, so that the closest peers to a key include dead ones too.
    let directory = Directory::new(seed, n + n * 15 / 85);
    let population = Population::new(&directory, n);
    let mut network = Network::new(seed, directory, Link::public(Latency::Geo6));
    populate(&mut network, &population, seed, &implementation, FILLING, monitor);
    let plan = LookupPlan { seed, lookups: params.samples.unwrap_or(2_000), at_once: 32, k: 20 };
    let found = run_lookups(&mut network, &population.live, &plan, monitor);
    outcome.check_invariants(monitor.current_stage(), &network.traffic());
    found
}

fn put(metrics: &mut Measurements, found: &LookupStats) {
    metrics.put("p50_ms", found.millis.quantile(0.5));
    metrics.put("p95_ms", found.millis.quantile(0.95));
    metrics.put("rpcs", found.rpcs.mean());
    metrics.put("recall", found.recall.mean());
    metrics.put("failed", found.failed as f64);
}
