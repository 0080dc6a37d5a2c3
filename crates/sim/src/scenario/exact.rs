//! Lookups that find exactly the k closest peers of a static network.

use std::sync::Arc;

use super::{Params, Scenario};
use crate::{
    Directory, Implementation, Latency, Link, LookupPlan, LookupStats, Measurements, Monitor, Network, Outcome,
    Population, StockRules, TableModel, config_with_k, populate, run_lookups,
};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "exact",
    paper: "Maymounkov & Mazières, Kademlia, IPTPS 2002; reference values of an idealised simulation of static tables",
    about: "requests and rounds to find exactly the 20 closest in a static network",
    nodes: 25_000,
    run,
};

/// The number of nodes; then rounds and requests with α 3 and with α 10 until the 20 closest have answered.
const PUBLISHED: [(usize, [(f64, f64); 2]); 4] = [
    (1_000, [(7.55, 21.5), (2.93, 27.8)]),
    (10_000, [(7.99, 22.9), (3.35, 31.1)]),
    (25_000, [(8.17, 23.4), (3.65, 33.5)]),
    (100_000, [(8.56, 24.5), (3.88, 36.9)]),
];

fn run(params: &Params, monitor: &mut Monitor<'_>) -> Outcome {
    let n = params.size();
    let mut outcome = Outcome::new(SCENARIO.name, n, params.seed);
    let published = PUBLISHED.iter().find(|(nodes, _)| *nodes == n);
    let players = [
        ("alpha3", StockRules::Rounds { alpha: 3, k: 20 }),
        ("alpha10", StockRules::Rounds { alpha: 10, k: 20 }),
        ("go", StockRules::AMINO),
        ("libp2p_kad", StockRules::LIBP2P_KAD),
    ];
    for (i, (name, rules)) in players.into_iter().enumerate() {
        monitor.stage(name);
        let found = measure(params, Implementation::Stock(rules), monitor, &mut outcome);
        put(outcome.stock.group(name), &found);
        if let (Some((_, figures)), true) = (published, i < 2) {
            let (rounds, rpcs) = figures[i];
            let group = outcome.published.group(name);
            group.put("rounds", rounds);
            group.put("rpcs", rpcs);
            outcome.check_near(&format!("{name} rounds"), found.rounds.mean(), rounds, 0.03);
            outcome.check_near(&format!("{name} rpcs"), found.rpcs.mean(), rpcs, 0.03);
        }
    }
    monitor.stage("ours");
    let found = measure(params, Implementation::Ours(Arc::new(config_with_k(20))), monitor, &mut outcome);
    put(&mut outcome.ours, &found);
    outcome.check("ours recall: ≥ 0.999", found.recall.mean(), found.recall.mean() >= 0.999);
    outcome.check("ours rpcs: ≤ 25", found.rpcs.mean(), found.rpcs.mean() <= 25.0);
    outcome.check("ours rounds: ≤ 4", found.rounds.mean(), found.rounds.mean() <= 4.0);
    outcome
}

fn measure(
    params: &Params,
    implementation: Implementation,
    monitor: &mut Monitor<'_>,
    outcome: &mut Outcome,
) -> LookupStats {
    let (n, seed) = (params.size(), params.seed);
    let directory = Directory::new(seed, n);
    let population = Population::new(&directory, n);
    let mut network = Network::new(seed, directory, Link::ideal(Latency::Constant(100_000)));
    populate(&mut network, &population, seed, &implementation, TableModel::plain(20), monitor);
    let plan = LookupPlan { seed, lookups: params.samples.unwrap_or(3_000), at_once: 64, k: 20 };
    let found = run_lookups(&mut network, &population.live, &plan, monitor);
    outcome.check_invariants(monitor.current_stage(), &network.traffic());
    found
}

fn put(metrics: &mut Measurements, found: &LookupStats) {
    metrics.put("rpcs", found.rpcs.mean());
    metrics.put("rounds", found.rounds.mean());
    metrics.put("recall", found.recall.mean());
}
