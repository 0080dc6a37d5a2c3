//! A node that is cut off, and a network that falls in two.

use std::sync::Arc;

use super::super::directory::{Directory, Index};
use super::super::life::Health;
use super::super::link::{Latency, Link};
use super::super::network::{Network, News};
use super::super::outcome::{Outcome, Put};
use super::super::progress::Progress;
use super::super::random::{Random, mix};
use super::super::table::Filling;
use super::setup::{Kind, Population, config, populate};
use super::{Params, Scenario};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "outage",
    paper: "none: networks fail, and tables should not",
    about: "tables before and after one node is cut off for 5 min, and after a 50/50 partition of 30 min heals",
    nodes: 1_000,
    run,
};

const MINUTE: u64 = 60_000_000;
/// How long a network may take to heal before it is said not to.
const PATIENCE: u64 = 60;

fn run(params: &Params, progress: &mut Progress<'_>) -> Outcome {
    let mut outcome = Outcome::new(SCENARIO.name, params.size(), params.seed);
    let mut curves = Vec::new();
    progress.stage("cut off");
    curves.push(("one node".to_owned(), cut(params, "cut_off", 5, progress, &mut outcome)));
    progress.stage("partition");
    curves.push(("partition".to_owned(), cut(params, "partition", 30, progress, &mut outcome)));
    outcome.note("heal_s: until a node knows 95 % of the neighbours that it knew before; null: not within an hour.");
    outcome.plot("Neighbours in the table", ("minutes", "of the 20 closest"), curves);
    outcome
}

/// Ten minutes of peace, a cut, and an hour to heal.
fn cut(
    params: &Params,
    name: &str,
    minutes: u64,
    progress: &mut Progress<'_>,
    outcome: &mut Outcome,
) -> Vec<(f64, f64)> {
    let (n, seed) = (params.size(), params.seed);
    let directory = Directory::new(seed, n);
    let population = Population::new(&directory, n);
    let mut network = Network::new(seed, directory, Link::public(Latency::Geo6));
    populate(&mut network, &population, seed, &Kind::Ours(Arc::new(config(20))), Filling::plain(20), progress);
    let alone = Random::new(seed, "alone", 0).below(n as u32);
    let apart: Vec<Index> = match name {
        "cut_off" => vec![alone],
        _ => (0..n as Index).filter(|peer| mix(seed ^ u64::from(*peer)).is_multiple_of(2)).collect(),
    };
    let watched: Vec<Index> =
        if name == "cut_off" { vec![alone] } else { (0..n as Index).step_by((n / 100).max(1)).collect() };
    let health = |network: &Network| Health::of(network, watched.iter().copied());
    let mut curve = Vec::new();
    let mut pass = |network: &mut Network, minutes: u64, progress: &mut Progress<'_>| {
        for _ in 0..minutes {
            let until = network.now() + MINUTE;
            while let Some(news) = network.next(until) {
                if let News::Pulse = news {
                    progress.tell(network.traffic().events, network.now(), 0.0);
                }
                if progress.stopped() {
                    return;
                }
            }
            curve.push((network.now() as f64 / MINUTE as f64, health(network).know20));
        }
    };
    pass(&mut network, 10, progress);
    let before = health(&network);
    apart.iter().for_each(|peer| network.set_group(*peer, 1));
    pass(&mut network, minutes, progress);
    let after = health(&network);
    apart.iter().for_each(|peer| network.set_group(*peer, 0));
    let healed_at = network.now();
    pass(&mut network, PATIENCE, progress);
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
    outcome.laws_of(name, &network.traffic());
    curve
}
