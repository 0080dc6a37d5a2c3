//! A node that is cut off, and a network that is partitioned.

use std::sync::Arc;

use super::{Params, Scenario};
use crate::random::mix;
use crate::{
    Directory, Implementation, Latency, Link, Monitor, Network, NetworkEvent, NodeIndex, Outcome, Population, Random,
    TableHealth, TableModel, config_with_k, populate,
};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "outage",
    paper: "none: tables should survive failures of the network",
    about: "tables before and after one node is cut off for 5 min, and after a 50/50 partition of 30 min heals",
    nodes: 1_000,
    run,
};

const MINUTE: u64 = 60_000_000;
/// The minutes that a network has to heal.
const HEALING_MINUTES: u64 = 60;

fn run(params: &Params, monitor: &mut Monitor<'_>) -> Outcome {
    let mut outcome = Outcome::new(SCENARIO.name, params.size(), params.seed);
    let mut curves = Vec::new();
    monitor.stage("cut off");
    curves.push(("one node".to_owned(), cut(params, "cut_off", 5, monitor, &mut outcome)));
    monitor.stage("partition");
    curves.push(("partition".to_owned(), cut(params, "partition", 30, monitor, &mut outcome)));
    outcome.note("heal_s: until a node knows 95 % of the neighbours that it knew before; null: not within an hour.");
    outcome.plot("Neighbours in the table", ("minutes", "of the 20 closest"), curves);
    outcome
}

/// Ten minutes without a fault, the outage, and an hour to heal.
fn cut(params: &Params, name: &str, minutes: u64, monitor: &mut Monitor<'_>, outcome: &mut Outcome) -> Vec<(f64, f64)> {
    let (n, seed) = (params.size(), params.seed);
    let directory = Directory::new(seed, n);
    let population = Population::new(&directory, n);
    let mut network = Network::new(seed, directory, Link::public(Latency::Geo6));
    populate(
        &mut network,
        &population,
        seed,
        &Implementation::Ours(Arc::new(config_with_k(20))),
        TableModel::plain(20),
        monitor,
    );
    let alone = Random::new(seed, "alone", 0).below(n as u32);
    let separated: Vec<NodeIndex> = match name {
        "cut_off" => vec![alone],
        _ => (0..n as NodeIndex).filter(|peer| mix(seed ^ u64::from(*peer)).is_multiple_of(2)).collect(),
    };
    let watched: Vec<NodeIndex> =
        if name == "cut_off" { vec![alone] } else { (0..n as NodeIndex).step_by((n / 100).max(1)).collect() };
    let health = |network: &Network| TableHealth::of(network, watched.iter().copied());
    let mut curve = Vec::new();
    let mut pass = |network: &mut Network, minutes: u64, monitor: &mut Monitor<'_>| {
        for _ in 0..minutes {
            let until = network.now() + MINUTE;
            while let Some(news) = network.next(until) {
                if let NetworkEvent::Progress = news {
                    monitor.report(network.traffic().events, network.now(), 0.0);
                }
                if monitor.stopped() {
                    return;
                }
            }
            curve.push((network.now() as f64 / MINUTE as f64, health(network).know20));
        }
    };
    pass(&mut network, 10, monitor);
    let before = health(&network);
    separated.iter().for_each(|peer| network.set_partition(*peer, 1));
    pass(&mut network, minutes, monitor);
    let after = health(&network);
    separated.iter().for_each(|peer| network.set_partition(*peer, 0));
    let healed_at = network.now();
    pass(&mut network, HEALING_MINUTES, monitor);
    let healed =
        curve.iter().find(|(at, know)| *at * MINUTE as f64 > healed_at as f64 && *know >= 0.95 * before.know20);
    let ours = outcome.ours.group(name);
    ours.put("table_before", before.entries);
    ours.put("table_after", after.entries);
    ours.put("know20_before", before.know20);
    ours.put("know20_after", after.know20);
    if name == "cut_off" {
        let lost = before.entries - after.entries;
        outcome.check("entries that an outage of 5 min costs: none", lost, lost <= 0.0);
    }
    let ours = outcome.ours.group(name);
    ours.put("heal_s", healed.map_or(f64::NAN, |(at, _)| at * 60.0 - healed_at as f64 / 1e6));
    outcome.check_invariants(name, &network.traffic());
    curve
}
