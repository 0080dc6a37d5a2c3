//! RFM19.1: how many rounds until one of the closest is known.

use super::super::directory::{Directory, Index, Ranking};
use super::super::numbers::Numbers;
use super::super::outcome::{Outcome, Put};
use super::super::progress::Progress;
use super::super::random::Random;
use super::super::table::{Filling, Table};
use super::setup::Population;
use super::{Params, Scenario};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "hops",
    paper: "RFM19.1, G. Michel, ProbeLab 2023",
    about: "rounds until one of the 10 best known is among the true 20 closest",
    nodes: 25_000,
    run,
};

const CONCURRENCY: usize = 10;
const CLOSEST: usize = 20;

fn run(params: &Params, progress: &mut Progress<'_>) -> Outcome {
    let (n, seed) = (params.size(), params.seed);
    let mut outcome = Outcome::new(SCENARIO.name, n, seed);
    let directory = Directory::new(seed, n);
    let population = Population::new(&directory, n);
    let samples = params.samples.unwrap_or(10_000);
    progress.stage("plain buckets");
    let plain = measure(&directory, &population.live, seed, samples, progress, Filling::plain(20));
    outcome.stock.put("hops", plain.mean());
    outcome.published.put("hops", 1.93);
    if n == SCENARIO.nodes {
        let reached = plain.mean();
        outcome.check("stock hops: 1.93 ± 0.01", reached, (reached - 1.93).abs() <= 0.01);
    }
    outcome
}

/// Tables made when they are first needed: a lookup visits a few dozen nodes.
struct Tables<'a> {
    directory: &'a Directory,
    live: &'a Ranking,
    seed: u64,
    filling: Filling,
    made: Vec<Option<Table>>,
}

impl Tables<'_> {
    fn of(&mut self, index: Index) -> &Table {
        let Tables { directory, live, seed, filling, made } = self;
        made[index as usize].get_or_insert_with(|| {
            let mut random = Random::new(*seed, "table", index.into());
            filling.table(directory, (live, &Ranking::default()), index, &mut random)
        })
    }
}

fn measure(
    directory: &Directory,
    live: &Ranking,
    seed: u64,
    samples: usize,
    progress: &mut Progress<'_>,
    filling: Filling,
) -> Numbers {
    let mut tables = Tables { directory, live, seed, filling, made: vec![None; directory.len()] };
    let mut random = Random::new(seed, "lookups", 0);
    let mut hops = Numbers::default();
    for i in 0..samples {
        let (from, target) = (random.below(directory.len() as u32), random.bits());
        hops.push(f64::from(walk(&mut tables, from, target)));
        if i % 256 == 0 {
            progress.tell(i as u64, 0, i as f64 / samples as f64);
        }
        if progress.stopped() {
            break;
        }
    }
    hops
}

/// Rounds in which the 10 best known are asked at once.
fn walk(tables: &mut Tables<'_>, from: Index, target: u64) -> u32 {
    let directory = tables.directory;
    let truth = tables.live.closest(target, CLOSEST);
    let mut known: Vec<(u64, Index)> = Vec::new();
    let mut asked: Vec<Index> = Vec::new();
    let hear = |known: &mut Vec<(u64, Index)>, peers: Vec<Index>| {
        known.extend(peers.into_iter().map(|peer| (directory.place(peer) ^ target, peer)));
        known.sort_unstable();
        known.dedup();
    };
    hear(&mut known, tables.of(from).closest(directory, target, CLOSEST));
    // As in the report, looking into one's own table is the first hop.
    let mut hops = 1;
    loop {
        let best: Vec<Index> = known.iter().take(CONCURRENCY).map(|(_, peer)| *peer).collect();
        if best.iter().any(|peer| truth.contains(peer)) {
            return hops;
        }
        let next: Vec<Index> = best.into_iter().filter(|peer| !asked.contains(peer)).collect();
        if next.is_empty() {
            return hops;
        }
        hops += 1;
        for peer in next {
            asked.push(peer);
            let closer = tables.of(peer).closest(directory, target, CLOSEST);
            hear(&mut known, closer);
        }
    }
}
