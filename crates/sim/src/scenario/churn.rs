//! A network whose nodes come and go for two days.

use super::super::churn::Churn;
use super::super::directory::Index;
use super::super::life::{Health, serving};
use super::super::link::{Latency, Link};
use super::super::network::{Network, News};
use super::super::numbers::Numbers;
use super::super::outcome::{Metric, Outcome, Put};
use super::super::progress::Progress;
use super::super::random::Random;
use super::lived::{HOUR, Lived, Setup, TICK};
use super::setup::config;
use super::{Params, Scenario};
use libp2p_kad_dht::core::{Answer, Operation, ProvidersFound, QueryEvent, QueryOptions, RecordKey};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "churn",
    paper: "RFM2, ProbeLab 2022: sessions of IPFS nodes",
    about: "what is found, how tables keep up and what it costs, 48 h of IPFS-2022 churn",
    nodes: 1_000,
    run,
};

fn run(params: &Params, progress: &mut Progress<'_>) -> Outcome {
    let mut outcome = Outcome::new(SCENARIO.name, params.size(), params.seed);
    // `samples` is the number of hours here.
    let hours = params.samples.unwrap_or(48) as u64;
    let setup =
        Setup { churn: Churn::Ipfs2022, link: Link::public(Latency::Geo6), config: config(20), hours, clients: 0.0 };
    progress.stage("churn");
    live(params, &setup, progress, &mut outcome);
    judge(&mut outcome);
    outcome.note("Values and provider records are published by nodes that stay; the core keeps them alive. What that costs, and what is left without it, is shown by the scenario records.");
    outcome
}

/// The pass lines. Published: what a crawler measured in the tables of the live IPFS network (RFM19, 2022).
fn judge(outcome: &mut Outcome) {
    let (stale_full, stale_open, know_all) = (3.78, 15.0, 0.61);
    outcome.published.put("stale_full", stale_full / 100.0);
    outcome.published.put("stale_open", stale_open / 100.0);
    outcome.published.put("know_all_20", know_all);
    let reached = |outcome: &Outcome, name: &str| match outcome.ours.get(name) {
        Some(Metric::Number(value)) => *value,
        _ => f64::NAN,
    };
    let full = reached(outcome, "stale_full");
    outcome.check("dead entries in full buckets: ≤ 0.02", full, full <= 0.02);
    let open = reached(outcome, "stale_open");
    outcome.check("dead entries in other buckets: ≤ 0.07", open, open <= 0.07);
    let all = reached(outcome, "know_all_20");
    outcome.check("nodes that know all of their 20 closest: ≥ 0.85", all, all >= 0.85);
}

/// What was seen, hour by hour.
#[derive(Default)]
struct Seen {
    values: Vec<(f64, f64)>,
    providers: Vec<(f64, f64)>,
    know20: Vec<(f64, f64)>,
    stale: Vec<(f64, f64)>,
    healths: Vec<Health>,
    found: [usize; 2],
    asked: [usize; 2],
}

/// How many values, and as many provider records, are published.
const RECORDS: usize = 100;

/// Lets the network live, and measures every hour.
pub(super) fn live(params: &Params, setup: &Setup, progress: &mut Progress<'_>, outcome: &mut Outcome) {
    let mut lived = Lived::new(params, setup, progress);
    let keys = publish(&mut lived.network, &lived.boot, RECORDS, params.seed);
    let mut seen = Seen::default();
    lived.network.mark(HOUR / 2, TICK);
    let mut random = Random::new(params.seed, "gets", 0);
    while let Some(news) = lived.next(progress) {
        match news {
            News::Mark(TICK) => {
                tick(&mut lived.network, &keys, &mut random, &mut seen);
                lived.network.mark(lived.network.now() + HOUR, TICK);
            }
            News::Query { event: QueryEvent::Finished(result), .. } => on_end(*result, &mut seen),
            _ => {}
        }
    }
    note_found(lived.hour(), &mut seen);
    tell(&lived.network, &seen, outcome);
}

fn publish(network: &mut Network, boot: &[Index], records: usize, seed: u64) -> Vec<RecordKey> {
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

/// Looks for every record from somewhere, and into a sample of the tables.
fn tick(network: &mut Network, keys: &[RecordKey], random: &mut Random, seen: &mut Seen) {
    let live = serving(network);
    let hour = network.now() as f64 / HOUR as f64;
    note_found(hour - 1.0, seen);
    if live.len() == 0 {
        return;
    }
    for key in keys {
        for operation in [Operation::Get { key: key.clone() }, Operation::Providers { key: key.clone() }] {
            let from = live.at(random.below(live.len() as u32) as usize);
            network.start(from, operation, QueryOptions::default());
        }
    }
    let sample = random.sample(live.len() as u32, 200).into_iter().map(|position| live.at(position as usize));
    let health = Health::of(network, sample);
    seen.know20.push((hour, health.know20));
    seen.stale.push((hour, health.stale_open));
    seen.healths.push(health);
}

/// Closes the books on what was asked for since the last look.
fn note_found(hour: f64, seen: &mut Seen) {
    let share = |i: usize| seen.found[i] as f64 / seen.asked[i].max(1) as f64;
    let (values, providers) = (share(0), share(1));
    if seen.asked[0] > 0 {
        seen.values.push((hour, values));
        seen.providers.push((hour, providers));
    }
    (seen.found, seen.asked) = ([0, 0], [0, 0]);
}

fn on_end(result: Result<Answer, libp2p_kad_dht::core::QueryError>, seen: &mut Seen) {
    use libp2p_kad_dht::core::QueryError::{NotFound, QuorumMissed, TimedOut};
    match result {
        Ok(Answer::Value(_)) => {
            seen.found[0] += 1;
            seen.asked[0] += 1;
        }
        Ok(Answer::Providers(ProvidersFound { found, .. })) => {
            seen.found[1] += usize::from(found > 0);
            seen.asked[1] += 1;
        }
        // Values that are not found are an error, providers that are not found are an answer.
        Err(NotFound(_) | QuorumMissed { .. } | TimedOut { .. }) => seen.asked[0] += 1,
        _ => {}
    }
}

fn tell(network: &Network, seen: &Seen, outcome: &mut Outcome) {
    let mean = |points: &[(f64, f64)]| points.iter().fold(0.0, |sum, (_, y)| sum + y) / points.len().max(1) as f64;
    let healths = seen.healths.len().max(1) as f64;
    let average = |pick: fn(&Health) -> f64| seen.healths.iter().fold(0.0, |sum, health| sum + pick(health)) / healths;
    let traffic = network.traffic();
    let seconds = network.now() as f64 / 1e6;
    let mut bytes = Numbers::default();
    (0..outcome.nodes as Index).for_each(|peer| bytes.push(network.bytes_of(peer) as f64 / seconds));
    let ours = &mut outcome.ours;
    ours.put("found_share", mean(&seen.values));
    ours.put("providers_found_share", mean(&seen.providers));
    ours.put("stale_full", average(|health| health.stale_full));
    ours.put("stale_open", average(|health| health.stale_open));
    ours.put("know20", average(|health| health.know20));
    ours.put("know_all_20", average(|health| health.know_all));
    ours.put("entries", average(|health| health.entries));
    ours.put("bytes_per_node_s", traffic.bytes as f64 / seconds / outcome.nodes as f64);
    ours.put("bytes_per_node_s_p95", bytes.quantile(0.95));
    ours.put("messages_per_node_s", traffic.sent as f64 / seconds / outcome.nodes as f64);
    ours.put("hours", seconds / 3600.0);
    let curves = vec![("values".to_owned(), seen.values.clone()), ("providers".to_owned(), seen.providers.clone())];
    outcome.plot("What is found", ("hours", "share"), curves);
    outcome.plot(
        "Neighbours in the table",
        ("hours", "of the 20 closest"),
        vec![("ours".to_owned(), seen.know20.clone())],
    );
    outcome.plot(
        "Dead entries in buckets with room",
        ("hours", "share"),
        vec![("ours".to_owned(), seen.stale.clone())],
    );
    outcome.laws_of("ours", &traffic);
}
