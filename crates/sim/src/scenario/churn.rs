//! A network under churn for two days.

use super::live_network::{HOUR, LiveNetwork, Setup, TICK};
use super::{Params, Scenario};
use crate::{
    Churn, Latency, Link, Measurement, Monitor, Network, NetworkEvent, NodeIndex, Outcome, Random, Samples,
    TableHealth, config_with_k,
};
use libp2p_kad_dht::core::{Answer, Operation, ProvidersFound, QueryEvent, QueryOptions, RecordKey};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "churn",
    paper: "RFM2, ProbeLab 2022: sessions of IPFS nodes",
    about: "what is found, how tables keep up and what it costs, 48 h of IPFS-2022 churn",
    nodes: 1_000,
    run,
};

fn run(params: &Params, monitor: &mut Monitor<'_>) -> Outcome {
    let mut outcome = Outcome::new(SCENARIO.name, params.size(), params.seed);
    // `samples` is the number of hours here.
    let hours = params.samples.unwrap_or(48) as u64;
    let setup = Setup {
        churn: Churn::Ipfs2022,
        link: Link::public(Latency::Geo6),
        config: config_with_k(20),
        hours,
        clients: 0.0,
    };
    monitor.stage("churn");
    run_hours(params, &setup, monitor, &mut outcome);
    judge(&mut outcome);
    outcome.note("Values and provider records are published by nodes that stay; the core keeps them alive. What that costs, and what is left without it, is shown by the scenario records.");
    outcome
}

/// Adds the conditions. The published figures are those of a crawl of the public IPFS network (RFM19, 2022).
fn judge(outcome: &mut Outcome) {
    let (stale_full, stale_open, know_all) = (3.78, 15.0, 0.61);
    outcome.published.put("stale_full", stale_full / 100.0);
    outcome.published.put("stale_open", stale_open / 100.0);
    outcome.published.put("know_all_20", know_all);
    let reached = |outcome: &Outcome, name: &str| match outcome.ours.get(name) {
        Some(Measurement::Number(value)) => *value,
        _ => f64::NAN,
    };
    let full = reached(outcome, "stale_full");
    outcome.check("dead entries in full buckets: ≤ 0.02", full, full <= 0.02);
    let open = reached(outcome, "stale_open");
    outcome.check("dead entries in other buckets: ≤ 0.07", open, open <= 0.07);
    let all = reached(outcome, "know_all_20");
    outcome.check("nodes that know all of their 20 closest: ≥ 0.85", all, all >= 0.85);
}

/// Measurements hour by hour.
#[derive(Default)]
struct Hourly {
    values: Vec<(f64, f64)>,
    providers: Vec<(f64, f64)>,
    know20: Vec<(f64, f64)>,
    stale: Vec<(f64, f64)>,
    healths: Vec<TableHealth>,
    found: [usize; 2],
    asked: [usize; 2],
}

/// The number of values and of provider records that are published.
const RECORDS: usize = 100;

/// Runs the network and measures every hour.
pub(super) fn run_hours(params: &Params, setup: &Setup, monitor: &mut Monitor<'_>, outcome: &mut Outcome) {
    let mut live = LiveNetwork::new(params, setup, monitor);
    let keys = publish(&mut live.network, &live.boot, RECORDS, params.seed);
    let mut hourly = Hourly::default();
    live.network.set_timer(HOUR / 2, TICK);
    let mut random = Random::new(params.seed, "gets", 0);
    while let Some(news) = live.next(monitor) {
        match news {
            NetworkEvent::Timer(TICK) => {
                measure(&mut live.network, &keys, &mut random, &mut hourly);
                live.network.set_timer(live.network.now() + HOUR, TICK);
            }
            NetworkEvent::Query { event: QueryEvent::Finished(result), .. } => on_finished(*result, &mut hourly),
            _ => {}
        }
    }
    note_found(live.hour(), &mut hourly);
    report(&live.network, &hourly, outcome);
}

fn publish(network: &mut Network, boot: &[NodeIndex], records: usize, seed: u64) -> Vec<RecordKey> {
    let mut random = Random::new(seed, "records", 0);
    let keys: Vec<RecordKey> = (0..records).map(|_| RecordKey::new(random.bytes().to_vec())).collect();
    for (i, key) in keys.iter().enumerate() {
        let publisher = boot[i % boot.len()];
        let value = Operation::Put { key: key.clone(), value: random.bytes().to_vec().into() };
        network.start(publisher, value, QueryOptions::default());
        network.start(publisher, Operation::Provide { key: key.clone() }, QueryOptions::default());
    }
    keys
}

/// Looks every record up from a random server, and measures a sample of the tables.
fn measure(network: &mut Network, keys: &[RecordKey], random: &mut Random, hourly: &mut Hourly) {
    let live = network.servers();
    let hour = network.now() as f64 / HOUR as f64;
    note_found(hour - 1.0, hourly);
    if live.is_empty() {
        return;
    }
    for key in keys {
        for operation in [Operation::Get { key: key.clone() }, Operation::Providers { key: key.clone() }] {
            let from = live.at(random.below(live.len() as u32) as usize);
            network.start(from, operation, QueryOptions::default());
        }
    }
    let sample = random.sample(live.len() as u32, 200).into_iter().map(|position| live.at(position as usize));
    let health = TableHealth::of(network, sample);
    hourly.know20.push((hour, health.know20));
    hourly.stale.push((hour, health.stale_open));
    hourly.healths.push(health);
}

/// Notes the share found of the records looked up since the last hour.
fn note_found(hour: f64, hourly: &mut Hourly) {
    let share = |i: usize| hourly.found[i] as f64 / hourly.asked[i].max(1) as f64;
    let (values, providers) = (share(0), share(1));
    if hourly.asked[0] > 0 {
        hourly.values.push((hour, values));
        hourly.providers.push((hour, providers));
    }
    (hourly.found, hourly.asked) = ([0, 0], [0, 0]);
}

fn on_finished(result: Result<Answer, libp2p_kad_dht::core::QueryError>, hourly: &mut Hourly) {
    use libp2p_kad_dht::core::QueryError::{NotFound, QuorumMissed, TimedOut};
    match result {
        Ok(Answer::Value(_)) => {
            hourly.found[0] += 1;
            hourly.asked[0] += 1;
        }
        Ok(Answer::Providers(ProvidersFound { found, .. })) => {
            hourly.found[1] += usize::from(found > 0);
            hourly.asked[1] += 1;
        }
        // A value that is not found is an error, a key without providers is an answer.
        Err(NotFound(_) | QuorumMissed { .. } | TimedOut { .. }) => hourly.asked[0] += 1,
        _ => {}
    }
}

fn report(network: &Network, hourly: &Hourly, outcome: &mut Outcome) {
    let mean = |points: &[(f64, f64)]| points.iter().fold(0.0, |sum, (_, y)| sum + y) / points.len().max(1) as f64;
    let healths = hourly.healths.len().max(1) as f64;
    let average =
        |pick: fn(&TableHealth) -> f64| hourly.healths.iter().fold(0.0, |sum, health| sum + pick(health)) / healths;
    let traffic = network.traffic();
    let seconds = network.now() as f64 / 1e6;
    let mut bytes = Samples::default();
    (0..outcome.nodes as NodeIndex).for_each(|peer| bytes.push(network.bytes_of(peer) as f64 / seconds));
    let ours = &mut outcome.ours;
    ours.put("found_share", mean(&hourly.values));
    ours.put("providers_found_share", mean(&hourly.providers));
    ours.put("stale_full", average(|health| health.stale_full));
    ours.put("stale_open", average(|health| health.stale_open));
    ours.put("know20", average(|health| health.know20));
    ours.put("know_all_20", average(|health| health.know_all));
    ours.put("entries", average(|health| health.entries));
    ours.put("bytes_per_node_s", traffic.bytes as f64 / seconds / outcome.nodes as f64);
    ours.put("bytes_per_node_s_p95", bytes.quantile(0.95));
    ours.put("messages_per_node_s", traffic.sent as f64 / seconds / outcome.nodes as f64);
    ours.put("hours", seconds / 3600.0);
    let curves = vec![("values".to_owned(), hourly.values.clone()), ("providers".to_owned(), hourly.providers.clone())];
    outcome.plot("What is found", ("hours", "share"), curves);
    outcome.plot(
        "Neighbours in the table",
        ("hours", "of the 20 closest"),
        vec![("ours".to_owned(), hourly.know20.clone())],
    );
    outcome.plot(
        "Dead entries in buckets with room",
        ("hours", "share"),
        vec![("ours".to_owned(), hourly.stale.clone())],
    );
    outcome.check_invariants("ours", &traffic);
}
