//! Publications in a network like the public IPFS network of 2022, in which a quarter of the known ids are gone.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Params, Scenario};
use crate::{
    Directory, Implementation, Latency, Link, Measurements, Monitor, Network, NetworkEvent, NodeIndex, Outcome,
    Population, Random, Samples, StockRules, TableModel, config_with_k, key_position, populate,
};
use libp2p_kad_dht::core::{Answer, Operation, QueryEvent, QueryOptions, RecordKey};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "amino-put",
    paper: "RFM17 and RFM19, ProbeLab 2022; Trautwein et al., INFOCOM 2024",
    about: "how long a publication takes and how many of the right peers hold it, GEO-6, 26 % of all ids gone",
    nodes: 15_400,
    run,
};

/// The quantiles of the time of a publication in RFM17: metric, share, seconds.
const TIMES: [(&str, f64, f64); 5] =
    [("p5_s", 0.05, 2.97), ("p25_s", 0.25, 7.01), ("p50_s", 0.5, 12.64), ("p75_s", 0.75, 23.33), ("p90_s", 0.9, 48.98)];

/// The quantiles of the number of acknowledgements in RFM17: metric, share, peers.
const ACKS: [(&str, f64, f64); 3] = [("acks_p5", 0.05, 14.0), ("acks_p50", 0.5, 18.0), ("acks_p90", 0.9, 20.0)];

/// Tables with the shares of dead entries of RFM19.
const STALE: TableModel = TableModel { bucket_size: 20, wide: 0, stale_full: 0.0378, stale_open: 0.15 };

fn run(params: &Params, monitor: &mut Monitor<'_>) -> Outcome {
    let mut outcome = Outcome::new(SCENARIO.name, params.size(), params.seed);
    for (name, _, published) in TIMES.iter().chain(&ACKS) {
        outcome.published.put(name, *published);
    }
    let mut curves = Vec::new();
    monitor.stage("go");
    let go = publish(params, Implementation::Stock(StockRules::AMINO), monitor, &mut outcome);
    put(&mut outcome.stock, &go);
    curves.push(("go-libp2p-kad-dht".to_owned(), go.seconds.distribution()));
    for (name, share, published) in TIMES {
        outcome.check_near(&format!("stock {name}"), go.seconds.quantile(share), published, 0.2);
    }
    for (name, share, published) in ACKS {
        let reached = go.acks.quantile(share);
        outcome.check(format!("stock {name}: {published} ± 1"), reached, (reached - published).abs() <= 1.0);
    }
    monitor.stage("libp2p-kad");
    let rust = publish(params, Implementation::Stock(StockRules::LIBP2P_KAD), monitor, &mut outcome);
    put(outcome.stock.group("libp2p_kad"), &rust);
    curves.push(("libp2p-kad 0.49".to_owned(), rust.seconds.distribution()));
    monitor.stage("ours");
    let ours = publish(params, Implementation::Ours(Arc::new(config_with_k(20))), monitor, &mut outcome);
    put(&mut outcome.ours, &ours);
    curves.push(("ours".to_owned(), ours.seconds.distribution()));
    let (p50, p90, true20) = (ours.seconds.quantile(0.5), ours.seconds.quantile(0.9), ours.true20.mean());
    outcome.check("ours p50_s: ≤ 3", p50, p50 <= 3.0);
    outcome.check("ours p90_s: ≤ 10", p90, p90 <= 10.0);
    outcome.check("ours true20: ≥ 18.5", true20, true20 >= 18.5);
    outcome.plot("Time of a publication", ("seconds", "share of publications"), curves);
    outcome
}

/// The cost and the reach of publications.
#[derive(Default)]
struct PutCosts {
    seconds: Samples,
    acks: Samples,
    /// The number of the 20 closest live peers that hold the value afterwards.
    true20: Samples,
    rpcs: Samples,
    failed: usize,
}

fn put(metrics: &mut Measurements, published: &PutCosts) {
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

fn publish(
    params: &Params,
    implementation: Implementation,
    monitor: &mut Monitor<'_>,
    outcome: &mut Outcome,
) -> PutCosts {
    let (n, seed) = (params.size(), params.seed);
    let directory = Directory::new(seed, n + n * 54 / 154);
    let population = Population::new(&directory, n);
    let mut network = Network::new(seed, directory, Link::public(Latency::Geo6));
    populate(&mut network, &population, seed, &implementation, STALE, monitor);
    let wanted = params.samples.unwrap_or(1_000);
    let mut random = Random::new(seed, "puts", 0);
    let mut published = PutCosts::default();
    let mut running: BTreeMap<NodeIndex, (RecordKey, u64)> = BTreeMap::new();
    let mut started = 0;
    while !monitor.stopped() {
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
            Some(NetworkEvent::Query { node, event: QueryEvent::Finished(result), .. }) => {
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
            Some(NetworkEvent::Progress) => {
                let done = (started - running.len()) as f64 / wanted as f64;
                monitor.report(network.traffic().events, network.now(), done);
            }
            Some(_) => {}
            None => break,
        }
    }
    outcome.check_invariants(monitor.current_stage(), &network.traffic());
    published
}

/// The number of the 20 live peers closest to the key, without the publisher, that hold the value.
fn holders(network: &mut Network, population: &Population, publisher: NodeIndex, key: &RecordKey) -> usize {
    let mut closest = population.live.closest(key_position(&key.key()), 21);
    closest.retain(|peer| *peer != publisher);
    closest.truncate(20);
    let now = network.now();
    closest.into_iter().filter(|peer| network.node_mut(*peer).has_value(now, key)).count()
}
