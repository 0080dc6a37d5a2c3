//! Publishing in a network like the public one of 2022: a quarter of the known ids are gone.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::directory::{Directory, Index, place};
use super::super::link::{Latency, Link};
use super::super::network::{Network, News};
use super::super::numbers::Numbers;
use super::super::outcome::{Metrics, Outcome, Put};
use super::super::progress::Progress;
use super::super::random::Random;
use super::super::stock::Rules;
use super::super::table::Filling;
use super::setup::{Kind, Population, config, populate};
use super::{Params, Scenario};
use libp2p_kad_dht::core::{Answer, Operation, QueryEvent, QueryOptions, RecordKey};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "amino-put",
    paper: "RFM17 and RFM19, ProbeLab 2022; Trautwein et al., INFOCOM 2024",
    about: "how long a publication takes and how many of the right peers hold it, GEO-6, 26 % of all ids gone",
    nodes: 15_400,
    run,
};

/// The shares at which RFM17 gives the time of a publication, and the seconds.
const TIMES: [(&str, f64, f64); 5] =
    [("p5_s", 0.05, 2.97), ("p25_s", 0.25, 7.01), ("p50_s", 0.5, 12.64), ("p75_s", 0.75, 23.33), ("p90_s", 0.9, 48.98)];

/// The same for how many peers took the record.
const ACKS: [(&str, f64, f64); 3] = [("acks_p5", 0.05, 14.0), ("acks_p50", 0.5, 18.0), ("acks_p90", 0.9, 20.0)];

/// Shares of dead entries in full and in other buckets (RFM19).
const STALE: Filling = Filling { size: 20, wide: 0, stale_full: 0.0378, stale_open: 0.15 };

fn run(params: &Params, progress: &mut Progress<'_>) -> Outcome {
    let mut outcome = Outcome::new(SCENARIO.name, params.size(), params.seed);
    for (name, _, published) in TIMES.iter().chain(&ACKS) {
        outcome.published.put(name, *published);
    }
    let mut curves = Vec::new();
    progress.stage("go");
    let go = publish(params, Kind::Stock(Rules::AMINO), progress, &mut outcome);
    put(&mut outcome.stock, &go);
    curves.push(("go-libp2p-kad-dht".to_owned(), go.seconds.distribution()));
    for (name, share, published) in TIMES {
        outcome.check_near(&format!("stock {name}"), go.seconds.quantile(share), published, 0.2);
    }
    for (name, share, published) in ACKS {
        let reached = go.acks.quantile(share);
        outcome.check(format!("stock {name}: {published} ± 1"), reached, (reached - published).abs() <= 1.0);
    }
    progress.stage("libp2p-kad");
    let rust = publish(params, Kind::Stock(Rules::LIBP2P_KAD), progress, &mut outcome);
    put(outcome.stock.group("libp2p_kad"), &rust);
    curves.push(("libp2p-kad 0.49".to_owned(), rust.seconds.distribution()));
    progress.stage("ours");
    let ours = publish(params, Kind::Ours(Arc::new(config(20))), progress, &mut outcome);
    put(&mut outcome.ours, &ours);
    curves.push(("ours".to_owned(), ours.seconds.distribution()));
    let (p50, p90, true20) = (ours.seconds.quantile(0.5), ours.seconds.quantile(0.9), ours.true20.mean());
    outcome.check("ours p50_s: ≤ 3", p50, p50 <= 3.0);
    outcome.check("ours p90_s: ≤ 10", p90, p90 <= 10.0);
    outcome.check("ours true20: ≥ 18.5", true20, true20 >= 18.5);
    outcome.plot("Time of a publication", ("seconds", "share of publications"), curves);
    outcome
}

/// What publications cost and reached.
#[derive(Default)]
struct Published {
    seconds: Numbers,
    acks: Numbers,
    /// How many of the 20 living peers closest to the key hold the value after it.
    true20: Numbers,
    rpcs: Numbers,
    failed: usize,
}

fn put(metrics: &mut Metrics, published: &Published) {
    for (name, share, _) in TIMES {
        metrics.put(name, published.seconds.quantile(share));
    }
    for (name, share, _) in ACKS {
        metrics.put(name, published.acks.quantile(share));
    }
    metrics.put("acks", published.acks.mean());
    metrics.put("true20", published.true20.mean());
    metrics.put("rpcs", published.rpcs.mean());
    metrics.put("failed", published.failed as f64);
}

fn publish(params: &Params, kind: Kind, progress: &mut Progress<'_>, outcome: &mut Outcome) -> Published {
    let (n, seed) = (params.size(), params.seed);
    let directory = Directory::new(seed, n + n * 54 / 154);
    let population = Population::new(&directory, n);
    let mut network = Network::new(seed, directory, Link::public(Latency::Geo6));
    populate(&mut network, &population, seed, &kind, STALE, progress);
    let wanted = params.samples.unwrap_or(1_000);
    let mut random = Random::new(seed, "puts", 0);
    let mut published = Published::default();
    let mut running: BTreeMap<Index, (RecordKey, u64)> = BTreeMap::new();
    let mut started = 0;
    while !progress.stopped() {
        while started < wanted && running.len() < 16.min(n / 2) {
            let node = population.live.at(random.below(n as u32) as usize);
            if running.contains_key(&node) {
                continue;
            }
            let key = RecordKey::new(random.bytes().to_vec());
            let operation = Operation::Put { key: key.clone(), value: random.bytes().to_vec().into() };
            started += 1;
            match network.start(node, operation, QueryOptions::default()) {
                Some(_) => drop(running.insert(node, (key, network.now()))),
                None => published.failed += 1,
            }
        }
        if running.is_empty() {
            break;
        }
        match network.next(u64::MAX - 1) {
            Some(News::Query { node, event: QueryEvent::Finished(result), .. }) => {
                let Some((key, begun)) = running.remove(&node) else { continue };
                let Ok(Answer::Published(libp2p_kad_dht::core::Published { report, .. })) = *result else {
                    published.failed += 1;
                    continue;
                };
                published.seconds.push((network.now() - begun) as f64 / 1e6);
                published.acks.push(report.acknowledged.len() as f64);
                published.rpcs.push(report.requests as f64);
                published.true20.push(holders(&mut network, &population, node, &key) as f64);
            }
            Some(News::Pulse) => {
                let done = (started - running.len()) as f64 / wanted as f64;
                progress.tell(network.traffic().events, network.now(), done);
            }
            Some(_) => {}
            None => break,
        }
    }
    outcome.laws_of(progress.current(), &network.traffic());
    published
}

/// How many of the 20 living peers closest to the key, apart from the publisher, hold the value.
fn holders(network: &mut Network, population: &Population, publisher: Index, key: &RecordKey) -> usize {
    let mut closest = population.live.closest(place(&key.key()), 21);
    closest.retain(|peer| *peer != publisher);
    closest.truncate(20);
    let now = network.now();
    closest.into_iter().filter(|peer| network.node_mut(*peer).holds(now, key)).count()
}
