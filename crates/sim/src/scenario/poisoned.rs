//! A network that lives for a day among adversaries who work their way into its tables.

use std::sync::Arc;

use bytes::Bytes;

use super::super::adversary::{Adversary, Kind as Adversaries, POISON_INTERVAL};
use super::super::churn::Churn;
use super::super::directory::{Directory, Index, Ranking};
use super::super::life::{Life, serving};
use super::super::link::{Latency, Link};
use super::super::network::{Network, News};
use super::super::node::Node;
use super::super::outcome::{Outcome, Put};
use super::super::progress::Progress;
use super::super::random::Random;
use super::super::table::Filling;
use super::setup::{Kind as Players, Population, config, populate};
use super::skademlia::{PATHS, look_for};
use super::{Params, Scenario};
use libp2p_kad_dht::core::Request;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "poisoned",
    paper: "Baumgart & Mies, S/Kademlia, ICPADS 2007, with adversaries that poison tables for 24 h first",
    about: "lookups after 24 h (--samples hours) of table poisoning by 20 % adversaries under IPFS-2022 churn, k 16",
    nodes: 1_000,
    run,
};

const HOUR: u64 = 3_600_000_000;
const SHARE: f64 = 0.2;
const POISON: u32 = Life::FIRST_FREE;

fn run(params: &Params, progress: &mut Progress<'_>) -> Outcome {
    let (n, seed) = (params.size(), params.seed);
    let mut outcome = Outcome::new(SCENARIO.name, n, seed);
    progress.stage("poisoning");
    let bad = (n as f64 * SHARE) as usize;
    let honest = n - bad;
    // Honest peers first, then as many who are away, then the adversaries, who always stay.
    let directory = Directory::new(seed, 2 * honest + bad);
    let adversaries = 2 * honest as Index..directory.len() as Index;
    let live = directory.ranking((0..honest as Index).chain(adversaries.clone()));
    let population = Population { live: directory.ranking(0..honest as Index), dead: Ranking::default() };
    let colluders = Arc::new(directory.ranking(adversaries.clone()));
    let mut network = Network::new(seed, directory, Link::public(Latency::Geo6));
    let config = Arc::new(config(16));
    populate(&mut network, &population, seed, &Players::Ours(Arc::clone(&config)), Filling::plain(16), progress);
    let everyone = Arc::new(live);
    for peer in adversaries.clone() {
        let adversary = Adversary::new(Adversaries::Poisoning, Arc::clone(&colluders), Arc::clone(&everyone));
        network.join(peer, Node::Adversary(Box::new(adversary)));
    }
    let boot = (0..(honest as Index / 100).max(3)).collect();
    let mut life = Life::new(seed, Churn::Ipfs2022, config, boot, 0.0);
    life.begin(&mut network, 0..2 * honest as Index);
    let hours = params.samples.unwrap_or(24) as u64;
    let mut curve = Vec::new();
    poison(&mut network, &mut life, adversaries.clone(), hours, &mut curve, progress);
    progress.stage("lookups");
    let survivors = serving(&network);
    let honest = (0..survivors.len()).map(|at| survivors.at(at)).filter(|peer| !adversaries.contains(peer));
    let honest = network.directory.ranking(honest);
    let mut random = Random::new(seed, "keys", 0);
    let keys: Vec<Bytes> = (0..100).map(|_| Bytes::copy_from_slice(&random.bytes())).collect();
    for paths in PATHS {
        let (success, rpcs) = look_for(&mut network, &honest, &keys, (paths, 500), progress);
        let d_name = paths.to_string();
        outcome.ours.group("success").put(&d_name, success);
        outcome.ours.group("rpcs").put(&d_name, rpcs);
    }
    outcome.ours.put("poisoned_share", curve.last().map_or(f64::NAN, |(_, share)| *share));
    outcome.ours.put("adversaries", SHARE);
    outcome.plot("Adversaries in tables", ("hours", "share of the entries"), vec![("ours".to_owned(), curve)]);
    outcome.laws_of("ours", &network.traffic());
    outcome.note("Reported, not judged: what bounds it is how many entries of a table adversaries can hold.");
    outcome
}

/// Lets the network live while each adversary asks a random peer every 10 s.
fn poison(
    network: &mut Network,
    life: &mut Life,
    adversaries: std::ops::Range<Index>,
    hours: u64,
    curve: &mut Vec<(f64, f64)>,
    progress: &mut Progress<'_>,
) {
    let mut random = Random::new(network.directory.seed(), "poison", 0);
    network.mark(0, POISON);
    let end = hours * HOUR;
    let mut next_look = HOUR;
    while !progress.stopped() {
        match network.next(end) {
            Some(News::Mark(POISON)) => {
                for adversary in adversaries.clone() {
                    let victim = random.below(network.directory.len() as u32);
                    let honest = !adversaries.contains(&victim) && network.node(victim).is_present();
                    if honest && matches!(network.node(adversary), Node::Adversary(poisoner) if poisoner.poisons()) {
                        let key = Bytes::from(network.directory.contact(victim).peer().to_bytes());
                        network.ask(adversary, victim, Request::FindNode { key });
                    }
                }
                if network.now() >= next_look {
                    next_look += HOUR;
                    curve.push((network.now() as f64 / HOUR as f64, poisoned_share(network, &adversaries)));
                }
                network.mark(network.now() + POISON_INTERVAL, POISON);
            }
            Some(News::Mark(peer)) => {
                life.on_mark(network, peer);
            }
            Some(News::Pulse) => {
                progress.tell(network.traffic().events, network.now(), network.now() as f64 / end as f64);
            }
            Some(_) => {}
            None => break,
        }
    }
    curve.push((network.now() as f64 / HOUR as f64, poisoned_share(network, &adversaries)));
}

/// The share of adversaries among the entries of honest tables.
fn poisoned_share(network: &Network, adversaries: &std::ops::Range<Index>) -> f64 {
    let (mut bad, mut all) = (0, 0);
    for peer in (0..adversaries.start).step_by(7) {
        let known = network.node(peer).known(&network.directory);
        bad += known.iter().filter(|entry| adversaries.contains(entry)).count();
        all += known.len();
    }
    bad as f64 / all.max(1) as f64
}
