//! The cost of lookups in networks of growing size, and the speed and memory of the simulator.

use std::sync::Arc;

use super::{Params, Scenario};
use crate::{
    Directory, Implementation, Latency, Link, LookupPlan, Monitor, Network, Outcome, Population, TableModel,
    config_with_k, populate, run_lookups,
};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "scale",
    paper: "Cai & Devroye 2013: hops grow with the logarithm of the network's size",
    about: "requests a lookup at 1k, 10k and 100k nodes; speed and memory of the simulator",
    nodes: 100_000,
    run,
};

const SIZES: [(usize, &str, &str); 3] =
    [(1_000, "1k", "1k nodes"), (10_000, "10k", "10k nodes"), (100_000, "100k", "100k nodes")];

fn run(params: &Params, monitor: &mut Monitor<'_>) -> Outcome {
    let mut outcome = Outcome::new(SCENARIO.name, params.size(), params.seed);
    let mut curve = Vec::new();
    for (n, name, stage) in SIZES.into_iter().filter(|(n, ..)| *n <= params.size()) {
        monitor.stage(stage);
        let started = monitor.real_seconds();
        let rpcs = measure(params, n, name, monitor, &mut outcome);
        if let (Some(from), Some(to), 10_000) = (started, monitor.real_seconds(), n) {
            let samples = params.samples.unwrap_or(10_000);
            outcome.check(format!("10,000 nodes × {samples} lookups: ≤ 60 s"), to - from, to - from <= 60.0);
        }
        curve.push(((n as f64).log10(), rpcs));
        if monitor.stopped() {
            break;
        }
    }
    if let [small, middle, large] = curve[..] {
        let steps = (middle.1 - small.1, large.1 - middle.1);
        // Growth as log n: the second step of ten costs at most one request more than the first.
        outcome.check("requests grow as log n: second tenfold ≤ first + 1", steps.1, steps.1 <= steps.0.max(0.0) + 1.0);
    }
    outcome.plot("Requests a lookup", ("log10 of nodes", "requests"), vec![("ours".to_owned(), curve)]);
    outcome.note("Speed and memory are this machine's, and the only figures that differ from run to run.");
    outcome
}

fn measure(params: &Params, n: usize, name: &str, monitor: &mut Monitor<'_>, outcome: &mut Outcome) -> f64 {
    let seed = params.seed;
    let directory = Directory::new(seed, n);
    let population = Population::new(&directory, n);
    let mut network = Network::new(seed, directory, Link::public(Latency::KingLn));
    populate(
        &mut network,
        &population,
        seed,
        &Implementation::Ours(Arc::new(config_with_k(20))),
        TableModel::plain(20),
        monitor,
    );
    let started = monitor.real_seconds();
    let plan = LookupPlan { seed, lookups: params.samples.unwrap_or(10_000), at_once: n / 100, k: 20 };
    let found = run_lookups(&mut network, &population.live, &plan, monitor);
    let traffic = network.traffic();
    let ours = outcome.ours.group(name);
    ours.put("rpcs", found.rpcs.mean());
    ours.put("rounds", found.rounds.mean());
    ours.put("p50_ms", found.millis.quantile(0.5));
    ours.put("recall", found.recall.mean());
    ours.put("events", traffic.events as f64);
    if let (Some(from), Some(to)) = (started, monitor.real_seconds()) {
        let speed = traffic.events as f64 / (to - from);
        ours.put("events_per_s", speed);
        if n == 100_000 {
            outcome.check("100,000 nodes: ≥ 300,000 events/s", speed, speed >= 300_000.0);
        }
    }
    if let Some(memory) = monitor.memory_mb() {
        outcome.ours.group(name).put("rss_mb", memory);
        if n == 100_000 {
            outcome.check("100,000 nodes: ≤ 16,384 MB", memory, memory <= 16_384.0);
        }
    }
    outcome.check_invariants(name, &traffic);
    found.rpcs.mean()
}
