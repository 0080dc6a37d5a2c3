//! A network that nobody is in but a few boot nodes, and that everyone joins.

use std::sync::Arc;

use super::super::directory::{Directory, Index, Ranking};
use super::super::life::{Health, Life, serving};
use super::super::link::{Latency, Link};
use super::super::network::{Network, News};
use super::super::outcome::{Outcome, Put};
use super::super::progress::Progress;
use super::super::random::Random;
use super::setup::config;
use super::{Params, Scenario};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "join",
    paper: "none: every network was young once",
    about: "1,000 nodes join through 3 boot nodes within a minute: their tables after 10 min, and the peaks of the hour after",
    nodes: 1_000,
    run,
};

const SECOND: u64 = 1_000_000;
const MINUTE: u64 = 60 * SECOND;
const K: usize = 20;
/// Who is there first; also the least number of nodes.
const BOOT: Index = 3;
/// Everyone else comes at a random moment within this.
const ARRIVING: u64 = MINUTE;
/// When the tables are looked into, counted from the start.
const SETTLED: u64 = 10 * MINUTE;
/// Until when requests are counted.
const END: u64 = 70 * MINUTE;
/// Requests are counted in windows of this length.
const WINDOW: u64 = 10 * SECOND;
/// Marks that are not a peer's coming.
const TICK: u32 = Life::FIRST_FREE;

fn run(params: &Params, progress: &mut Progress<'_>) -> Outcome {
    let n = params.size().max(BOOT as usize) as Index;
    let mut outcome = Outcome::new(SCENARIO.name, n as usize, params.seed);
    progress.stage("join");
    let mut network = Network::new(params.seed, Directory::new(params.seed, n as usize), Link::public(Latency::Geo6));
    let requests = watch(&mut network, n, params.seed, progress, &mut outcome);
    judge_peaks(&requests, &mut outcome);
    outcome.laws_of("ours", &network.traffic());
    outcome.note("Buckets: of each node, those whose part of the keyspace holds servers; full means min(k, servers there) entries. Peak: requests in the busiest 10 s of the whole network against the mean, from 10 min to 70 min.");
    outcome
}

/// Lets everyone come, looks into the tables when they should be settled, and counts requests window by window.
fn watch(
    network: &mut Network,
    n: Index,
    seed: u64,
    progress: &mut Progress<'_>,
    outcome: &mut Outcome,
) -> Vec<(f64, f64)> {
    let mut random = Random::new(seed, "join", 0);
    let mut life = Life::new(seed, super::Churn::None, Arc::new(config(K)), (0..BOOT).collect(), 0.0);
    (0..n).for_each(|peer| {
        let first = peer < BOOT;
        network.mark(if first { 0 } else { random.below(ARRIVING as u32).into() }, peer);
    });
    network.mark(WINDOW, TICK);
    let (mut requests, mut before) = (Vec::new(), 0);
    while let Some(news) = network.next(END) {
        match news {
            News::Mark(TICK) => {
                let (now, all) = (network.now(), network.traffic().requests);
                requests.push((now as f64 / MINUTE as f64, (all - before) as f64));
                before = all;
                if now == SETTLED {
                    look(network, n, outcome);
                }
                network.mark(now + WINDOW, TICK);
            }
            News::Mark(peer) => life.join(network, peer),
            News::Pulse => {
                progress.tell(network.traffic().events, network.now(), network.now() as f64 / END as f64);
                if progress.stopped() {
                    break;
                }
            }
            News::Query { .. } => {}
        }
    }
    requests
}

/// Every table against the network as it is.
fn look(network: &Network, n: Index, outcome: &mut Outcome) {
    let live = serving(network);
    let (mut buckets, mut filled, mut lacking) = (0u64, 0u64, 0u64);
    for peer in 0..n {
        for (held, there) in fill(network, &live, peer) {
            let most = there.min(K);
            buckets += 1;
            filled += u64::from(held >= most);
            lacking += (most.saturating_sub(held)) as u64;
        }
    }
    let health = Health::of(network, 0..n);
    let ours = &mut outcome.ours;
    ours.put("know_all_20", health.know_all);
    ours.put("know20", health.know20);
    ours.put("entries", health.entries);
    ours.put("buckets_filled", filled as f64 / buckets.max(1) as f64);
    ours.put("entries_lacking", lacking as f64);
    ours.put("requests_a_node", network.traffic().requests as f64 / f64::from(n));
    let filled = filled as f64 / buckets.max(1) as f64;
    outcome.check("buckets that can be filled and are, after 10 min: all", filled, filled >= 1.0);
    outcome.check("nodes that know all of their 20 closest: ≥ 0.99", health.know_all, health.know_all >= 0.99);
}

/// How many entries each bucket of a node holds, and how many servers there are for it. The last bucket stands for all
/// that lies nearer.
fn fill(network: &Network, live: &Ranking, peer: Index) -> Vec<(usize, usize)> {
    let place = network.directory.place(peer);
    let buckets = network.node(peer).buckets(&network.directory);
    let last = buckets.len().saturating_sub(1);
    let sharing = |bits: usize| live.sharing(place, bits as u32).len();
    let of = |(i, (_, entries)): (usize, &(bool, Vec<Index>))| {
        let nearer = if i == last { 1 } else { sharing(i + 1) };
        (entries.len(), sharing(i).saturating_sub(nearer))
    };
    buckets.iter().enumerate().map(of).collect()
}

fn judge_peaks(requests: &[(f64, f64)], outcome: &mut Outcome) {
    let settled = SETTLED as f64 / MINUTE as f64;
    let later: Vec<f64> = requests.iter().filter(|(at, _)| *at > settled).map(|(_, count)| *count).collect();
    let mean = later.iter().sum::<f64>() / later.len().max(1) as f64;
    let most = later.iter().copied().fold(0.0, f64::max);
    outcome.ours.put("requests_s_joined", mean / (WINDOW / SECOND) as f64);
    outcome.ours.put("peak", most / mean);
    outcome.check("requests at the busiest against the mean, once joined: ≤ 5", most / mean, most <= 5.0 * mean);
    outcome.plot("Requests", ("minutes", "in 10 s"), vec![("ours".to_owned(), requests.to_vec())]);
}

#[cfg(test)]
mod tests {
    use super::super::super::outcome::Metric;
    use super::super::super::progress::Unobserved;
    use super::*;

    /// What the nodes of the same networks sent a second at 07c191c, before those who wait for a place had entries checked.
    const BEFORE: [(u64, f64); 3] = [(77, 24.8378), (78, 25.7611), (79, 26.1397)];

    #[test]
    fn a_hundred_idle_nodes_send_no_more_an_hour_than_they_did() {
        let (mut now, mut before) = (0.0, 0.0);
        for (seed, sent) in BEFORE {
            let mut outcome = Outcome::new(SCENARIO.name, 100, seed);
            let mut network = Network::new(seed, Directory::new(seed, 100), Link::public(Latency::Geo6));
            let requests = watch(&mut network, 100, seed, &mut Progress::new(&mut Unobserved), &mut outcome);
            judge_peaks(&requests, &mut outcome);
            let Some(Metric::Number(sending)) = outcome.ours.get("requests_s_joined") else { panic!("not counted") };
            (now, before) = (now + sending, before + sent);
        }
        // Another draw of the same networks changes it by more than a thousandth.
        assert!(now <= before * 1.002, "{now} where it was {before}");
    }
}
