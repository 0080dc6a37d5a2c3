//! Finding exactly the k closest in a static network.

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
    name: "exact",
    paper: "Maymounkov & Mazières, Kademlia, IPTPS 2002; reference values of an idealised simulation of static tables",
    about: "requests and rounds to find exactly the 20 closest in a static network",
    nodes: 25_000,
    run,
};

/// Nodes, then (rounds, requests) of α 3 and of α 10, each until the 20 closest answered.
const PUBLISHED: [(usize, [(f64, f64); 2]); 4] = [
    (1_000, [(7.55, 21.5), (2.93, 27.8)]),
    (10_000, [(7.99, 22.9), (3.35, 31.1)]),
    (25_000, [(8.17, 23.4), (3.65, 33.5)]),
    (100_000, [(8.56, 24.5), (3.88, 36.9)]),
];

fn run(params: &Params, progress: &mut Progress<'_>) -> Outcome {
    let n = params.size();
    let mut outcome = Outcome::new(SCENARIO.name, n, params.seed);
    let published = PUBLISHED.iter().find(|(nodes, _)| *nodes == n);
    let players = [
        ("alpha3", Rules::Rounds { alpha: 3, k: 20 }),
        ("alpha10", Rules::Rounds { alpha: 10, k: 20 }),
        ("go", Rules::AMINO),
        ("libp2p_kad", Rules::LIBP2P_KAD),
    ];
    for (i, (name, rules)) in players.into_iter().enumerate() {
        progress.stage(name);
        let found = measure(params, Kind::Stock(rules), progress, &mut outcome);
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
    progress.stage("ours");
    let found = measure(params, Kind::Ours(Arc::new(config(20))), progress, &mut outcome);
    put(&mut outcome.ours, &found);
    outcome.check("ours recall: ≥ 0.999", found.recall.mean(), found.recall.mean() >= 0.999);
    outcome.check("ours rpcs: ≤ 25", found.rpcs.mean(), found.rpcs.mean() <= 25.0);
    outcome.check("ours rounds: ≤ 4", found.rounds.mean(), found.rounds.mean() <= 4.0);
    outcome
}

fn measure(params: &Params, kind: Kind, progress: &mut Progress<'_>, outcome: &mut Outcome) -> Lookups {
    let (n, seed) = (params.size(), params.seed);
    let directory = Directory::new(seed, n);
    let population = Population::new(&directory, n);
    let mut network = Network::new(seed, directory, Link::ideal(Latency::Constant(100_000)));
    populate(&mut network, &population, seed, &kind, Filling::plain(20), progress);
    let plan = Plan { seed, lookups: params.samples.unwrap_or(3_000), at_once: 64, k: 20 };
    let found = look_up(&mut network, &population.live, &plan, progress);
    outcome.laws_of(progress.current(), &network.traffic());
    found
}

fn put(metrics: &mut Metrics, found: &Lookups) {
    metrics.put("rpcs", found.rpcs.mean());
    metrics.put("rounds", found.rounds.mean());
    metrics.put("recall", found.recall.mean());
}
