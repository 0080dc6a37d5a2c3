//! A network in which adversaries poison the routing tables for a day.

use std::sync::Arc;

use bytes::Bytes;

use super::skademlia::{PATHS, look_for};
use super::{Params, Scenario};
use crate::adversary::POISON_INTERVAL;
use crate::{
    Adversary, Attack, Churn, Directory, Implementation, Latency, Link, Monitor, Network, NetworkEvent, Node,
    NodeIndex, Outcome, Population, Random, Sessions, SortedPeers, TableModel, config_with_k, populate,
};
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
const POISON: u32 = Sessions::FIRST_FREE_TIMER;

fn run(params: &Params, monitor: &mut Monitor<'_>) -> Outcome {
    let (n, seed) = (params.size(), params.seed);
    let mut outcome = Outcome::new(SCENARIO.name, n, seed);
    monitor.stage("poisoning");
    let bad = (n as f64 * SHARE) as usize;
    let honest = n - bad;
    // Honest peers first, then as many that are offline, then the adversaries, which never leave.
    let directory = Directory::new(seed, 2 * honest + bad);
    let adversaries = 2 * honest as NodeIndex..directory.len() as NodeIndex;
    let live = directory.sorted((0..honest as NodeIndex).chain(adversaries.clone()));
    let population = Population { live: directory.sorted(0..honest as NodeIndex), dead: SortedPeers::default() };
    let colluders = Arc::new(directory.sorted(adversaries.clone()));
    let mut network = Network::new(seed, directory, Link::public(Latency::Geo6));
    let config = Arc::new(config_with_k(16));
    populate(
        &mut network,
        &population,
        seed,
        &Implementation::Ours(Arc::clone(&config)),
        TableModel::plain(16),
        monitor,
    );
    let everyone = Arc::new(live);
    for peer in adversaries.clone() {
        let adversary = Adversary::new(Attack::Poisoning, Arc::clone(&colluders), Arc::clone(&everyone));
        network.join(peer, Node::Adversary(Box::new(adversary)));
    }
    let boot = (0..(honest as NodeIndex / 100).max(3)).collect();
    let mut sessions = Sessions::new(seed, Churn::Ipfs2022, config, boot, 0.0);
    sessions.begin(&mut network, 0..2 * honest as NodeIndex);
    let hours = params.samples.unwrap_or(24) as u64;
    let mut curve = Vec::new();
    poison(&mut network, &mut sessions, adversaries.clone(), hours, &mut curve, monitor);
    monitor.stage("lookups");
    let survivors = network.servers();
    let honest = (0..survivors.len()).map(|at| survivors.at(at)).filter(|peer| !adversaries.contains(peer));
    let honest = network.directory.sorted(honest);
    let mut random = Random::new(seed, "keys", 0);
    let keys: Vec<Bytes> = (0..100).map(|_| Bytes::copy_from_slice(&random.bytes())).collect();
    for paths in PATHS {
        let (success, rpcs) = look_for(&mut network, &honest, &keys, (paths, 500), monitor);
        let d_name = paths.to_string();
        outcome.ours.group("success").put(&d_name, success);
        outcome.ours.group("rpcs").put(&d_name, rpcs);
    }
    outcome.ours.put("poisoned_share", curve.last().map_or(f64::NAN, |(_, share)| *share));
    outcome.ours.put("adversaries", SHARE);
    outcome.plot("Adversaries in tables", ("hours", "share of the entries"), vec![("ours".to_owned(), curve)]);
    outcome.check_invariants("ours", &network.traffic());
    outcome.note("Reported, not judged: what bounds it is how many entries of a table adversaries can hold.");
    outcome
}

/// Runs the network while each adversary sends a request to a random peer every 10 s.
fn poison(
    network: &mut Network,
    sessions: &mut Sessions,
    adversaries: std::ops::Range<NodeIndex>,
    hours: u64,
    curve: &mut Vec<(f64, f64)>,
    monitor: &mut Monitor<'_>,
) {
    let mut random = Random::new(network.directory.seed(), "poison", 0);
    network.set_timer(0, POISON);
    let end = hours * HOUR;
    let mut next_look = HOUR;
    while !monitor.stopped() {
        match network.next(end) {
            Some(NetworkEvent::Timer(POISON)) => {
                for adversary in adversaries.clone() {
                    let victim = random.below(network.directory.len() as u32);
                    let honest = !adversaries.contains(&victim) && network.node(victim).is_present();
                    if honest && matches!(network.node(adversary), Node::Adversary(poisoner) if poisoner.poisons()) {
                        let key = Bytes::from(network.directory.contact(victim).peer().to_bytes());
                        network.send_request(adversary, victim, Request::FindNode { key });
                    }
                }
                if network.now() >= next_look {
                    next_look += HOUR;
                    curve.push((network.now() as f64 / HOUR as f64, poisoned_share(network, &adversaries)));
                }
                network.set_timer(network.now() + POISON_INTERVAL, POISON);
            }
            Some(NetworkEvent::Timer(peer)) => {
                sessions.on_timer(network, peer);
            }
            Some(NetworkEvent::Progress) => {
                monitor.report(network.traffic().events, network.now(), network.now() as f64 / end as f64);
            }
            Some(_) => {}
            None => break,
        }
    }
    curve.push((network.now() as f64 / HOUR as f64, poisoned_share(network, &adversaries)));
}

/// The share of adversaries among the entries of the tables of honest nodes.
fn poisoned_share(network: &Network, adversaries: &std::ops::Range<NodeIndex>) -> f64 {
    let (mut bad, mut all) = (0, 0);
    for peer in (0..adversaries.start).step_by(7) {
        let known = network.node(peer).table_entries(&network.directory);
        bad += known.iter().filter(|entry| adversaries.contains(entry)).count();
        all += known.len();
    }
    bad as f64 / all.max(1) as f64
}
