//! Lookups among tables in which every seventh entry is dead.

use std::sync::Arc;

use super::super::directory::Directory;
use super::super::link::{Latency, Link};
use super::super::network::Network;
use super::super::outcome::{Metrics, Outcome, Put};
use super::super::progress::Progress;
use super::super::stock::Rules;
use super::super::table::Filling;
use super::setup::{Kind, Lookups, Plan, Population, config, look_up, populate};
use super::{Params, Scenario};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "stale",
    paper: "RFM19, ProbeLab 2022: 15 % of the entries of buckets that are not full are dead",
    about: "time, requests and recall of lookups, GEO-6, 15 % of all entries dead",
    nodes: 10_000,
    run,
};

const FILLING: Filling = Filling { size: 20, wide: 0, stale_full: 0.15, stale_open: 0.15 };

fn run(params: &Params, progress: &mut Progress<'_>) -> Outcome {
    let mut outcome = Outcome::new(SCENARIO.name, params.size(), params.seed);
    let (mut curves, mut best) = (Vec::new(), f64::MAX);
    for (name, rules) in [("go", Rules::AMINO), ("libp2p_kad", Rules::LIBP2P_KAD)] {
        progress.stage(name);
        let found = measure(params, Kind::Stock(rules), progress, &mut outcome);
        put(outcome.stock.group(name), &found);
        best = best.min(found.millis.quantile(0.95));
        curves.push((name.to_owned(), found.millis.distribution()));
    }
    progress.stage("ours");
    let found = measure(params, Kind::Ours(Arc::new(config(20))), progress, &mut outcome);
    put(&mut outcome.ours, &found);
    curves.push(("ours".to_owned(), found.millis.distribution()));
    let p95 = found.millis.quantile(0.95);
    outcome.check("ours p95_ms: ≤ half of the better stock player's", p95, p95 <= best / 2.0);
    outcome.check("ours recall: ≥ 0.99", found.recall.mean(), found.recall.mean() >= 0.99);
    outcome.plot("Time of a lookup", ("milliseconds", "share of lookups"), curves);
    outcome
}

fn measure(params: &Params, kind: Kind, progress: &mut Progress<'_>, outcome: &mut Outcome) -> Lookups {
    let (n, seed) = (params.size(), params.seed);
    // As many dead ids as make 15 % of all, so that the neighbourhoods have them too.
    let directory = Directory::new(seed, n + n * 15 / 85);
    let population = Population::new(&directory, n);
    let mut network = Network::new(seed, directory, Link::public(Latency::Geo6));
    populate(&mut network, &population, seed, &kind, FILLING, progress);
    let plan = Plan { seed, lookups: params.samples.unwrap_or(2_000), at_once: 32, k: 20 };
    let found = look_up(&mut network, &population.live, &plan, progress);
    outcome.laws_of(progress.current(), &network.traffic());
    found
}

fn put(metrics: &mut Metrics, found: &Lookups) {
    metrics.put("p50_ms", found.millis.quantile(0.5));
    metrics.put("p95_ms", found.millis.quantile(0.95));
    metrics.put("rpcs", found.rpcs.mean());
    metrics.put("recall", found.recall.mean());
    metrics.put("failed", found.failed as f64);
}
