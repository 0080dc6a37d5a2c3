//! A network that is flooded by someone with ids without number and addresses in ten networks.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::super::adversary::{Adversary, Kind as Adversaries};
use super::super::churn::Churn;
use super::super::directory::{Directory, Index, Ranking, place};
use super::super::life::{Health, Life, Turn, serving};
use super::super::link::{Latency, Link};
use super::super::network::{Network, News};
use super::super::networks::Networks;
use super::super::node::Node;
use super::super::numbers::Numbers;
use super::super::outcome::{Outcome, Put};
use super::super::progress::Progress;
use super::super::random::Random;
use super::super::table::Filling;
use super::setup::{Kind as Players, Population, config, populate};
use super::skademlia::look_for;
use super::{Params, Scenario};
use libp2p_kad_dht::core::config::DiversityConfig;
use libp2p_kad_dht::core::{Key, Request};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "flood",
    paper: "none: the limits of IPFS's specification (3 and 2 peers of an IPv4 /16), and this crate's on newcomers",
    about: "an attacker with as many ids as there are nodes, in 10 networks, for 72 h (--samples hours), IPFS-2022 churn",
    nodes: 10_000,
    run,
};

const HOUR: u64 = 3_600_000_000;
const K: usize = 20;
/// How many peers a lookup asks first.
const ALPHA: usize = 10;
/// How long the network lives before the flood.
const BEFORE: u64 = 2 * HOUR;
/// Who is there at this time and at the flood has a table that is full and settled, which takes 1 h from k entries on.
const SETTLED: u64 = BEFORE - HOUR - HOUR / 6;
/// The networks of the attacker, which nobody else is in.
const NETWORKS: u8 = 10;
/// How often each id asks some honest node, in microseconds.
const INTERVAL: u64 = 30_000_000;
/// So many nodes are looked into each hour.
const LOOKED_AT: u32 = 1_000;
const LOOKUPS: usize = 1_000;
const PATHS: usize = 4;
/// What the pass lines allow.
const PER_TABLE: usize = 30;
const PER_BUCKET: usize = K / 4;

const FLOOD: u32 = Life::FIRST_FREE;
const LOOK: u32 = Life::FIRST_FREE + 1;
const SETTLE: u32 = Life::FIRST_FREE + 2;

fn run(params: &Params, progress: &mut Progress<'_>) -> Outcome {
    let (n, seed) = (params.size(), params.seed);
    let mut outcome = Outcome::new(SCENARIO.name, n, seed);
    progress.stage("tables");
    let mut flood = Flood::new(n, seed, progress);
    progress.stage("flood");
    let hours = params.samples.unwrap_or(72) as u64;
    let (mut warm, mut cold) = (Held::default(), Held::default());
    let before = flood.live(BEFORE + hours * HOUR, (&mut warm, &mut cold), progress);
    progress.stage("lookups");
    let honest = flood.honest();
    let honest = flood.network.directory.ranking(honest.into_iter());
    let mut random = Random::new(seed, "keys", 0);
    let keys: Vec<Bytes> = (0..100).map(|_| Bytes::copy_from_slice(&random.bytes())).collect();
    let lookups = if n < 500 { LOOKUPS / 10 } else { LOOKUPS };
    let (success, rpcs) = match progress.stopped() {
        true => (f64::NAN, f64::NAN),
        false => look_for(&mut flood.network, &honest, &keys, (PATHS, lookups), progress),
    };
    let ours = &mut outcome.ours;
    ours.put("hours", hours as f64);
    ours.put("warm_nodes", flood.warm.len() as f64);
    ours.put("know20_before", before.know20);
    ours.put("entries_before", before.entries);
    ours.put("success", success);
    ours.put("rpcs", rpcs);
    warm.tell("warm", &mut outcome);
    cold.tell("cold", &mut outcome);
    judge(&warm, &cold, success, &mut outcome);
    let curves = vec![("full at the start".to_owned(), warm.curve), ("cold".to_owned(), cold.curve)];
    outcome.plot("The attacker's share of tables", ("hours of the flood", "share of the entries"), curves);
    outcome.laws_of("ours", &flood.network.traffic());
    outcome.note("Warm: nodes that came 70 min before the flood or earlier and have stayed, whose tables were full and settled; cold: those that came later, most of them during the flood, with an empty table. First hops: the 10 entries closest to a random target. Every attacker's id stays, asks a random honest node every 30 s and names only other attackers.");
    outcome
}

fn judge(warm: &Held, cold: &Held, success: f64, outcome: &mut Outcome) {
    let most = warm.in_table.max(cold.in_table);
    outcome.check(
        format!("entries of the attacker in any honest table: ≤ {PER_TABLE}"),
        most as f64,
        most <= PER_TABLE,
    );
    let most = warm.in_bucket;
    let what = format!("in any bucket of a table that was full at the start: ≤ k/4 = {PER_BUCKET}");
    outcome.check(what, most as f64, most <= PER_BUCKET);
    let hops = warm.hops.mean();
    outcome.check("share of first hops where tables were full at the start: ≤ 0.05", hops, hops <= 0.05);
    outcome.check(
        format!("lookups over {PATHS} paths that find the closest honest node: ≥ 0.99"),
        success,
        success >= 0.99,
    );
}

/// What the attacker holds of some tables.
#[derive(Default)]
struct Held {
    /// The most of any, over all looks.
    in_table: usize,
    in_bucket: usize,
    /// The share of first hops, table by table.
    hops: Numbers,
    /// The share of entries, hour by hour.
    curve: Vec<(f64, f64)>,
    /// Entries of the attacker and of all, at this look.
    tally: [usize; 2],
}

impl Held {
    fn add(&mut self, buckets: &[(bool, Vec<Index>)], first: &[Index], attackers: &Range<Index>) {
        let bad = |entries: &[Index]| entries.iter().filter(|entry| attackers.contains(entry)).count();
        let of_bucket = buckets.iter().map(|(_, entries)| bad(entries));
        let in_table: usize = of_bucket.clone().sum();
        self.in_table = self.in_table.max(in_table);
        self.in_bucket = self.in_bucket.max(of_bucket.max().unwrap_or(0));
        let entries: usize = buckets.iter().map(|(_, entries)| entries.len()).sum();
        self.tally = [self.tally[0] + in_table, self.tally[1] + entries];
        self.hops.push(bad(first) as f64 / first.len().max(1) as f64);
    }

    fn close(&mut self, hour: f64) {
        let [bad, all] = std::mem::take(&mut self.tally);
        self.curve.push((hour, bad as f64 / all.max(1) as f64));
    }

    fn tell(&self, name: &str, outcome: &mut Outcome) {
        let group = outcome.ours.group(name);
        group.put("most_in_table", self.in_table as f64);
        group.put("most_in_bucket", self.in_bucket as f64);
        group.put("first_hops", self.hops.mean());
        group.put("share_last_hour", self.curve.last().map_or(f64::NAN, |(_, share)| *share));
    }
}

/// The network, and who is who in it.
struct Flood {
    network: Network,
    life: Life,
    attackers: Range<Index>,
    /// Who has been there since tables were to settle before the flood.
    warm: BTreeSet<Index>,
    random: Random,
}

impl Flood {
    /// Honest nodes with tables from global knowledge, as many who are away, and the attacker's ids, who are away too.
    fn new(n: usize, seed: u64, progress: &mut Progress<'_>) -> Flood {
        let mut directory = Directory::in_networks(seed, 2 * n, Networks::ipfs());
        let first = directory.len() as Index;
        (0..n).for_each(|i| _ = directory.add_in([150, (i % usize::from(NETWORKS)) as u8]));
        let attackers = first..directory.len() as Index;
        let mut config = config(K);
        config.routing.diversity = Some(DiversityConfig::default());
        let config = Arc::new(config);
        let population = Population { live: directory.ranking(0..n as Index), dead: Ranking::default() };
        let mut network = Network::new(seed, directory, Link::public(Latency::Geo6));
        populate(&mut network, &population, seed, &Players::Ours(Arc::clone(&config)), Filling::plain(K), progress);
        let boot = (0..(n as Index / 100).max(3).min(n as Index)).collect();
        let mut life = Life::new(seed, Churn::Ipfs2022, config, boot, 0.0);
        life.begin(&mut network, 0..2 * n as Index);
        network.mark(SETTLED, SETTLE);
        network.mark(BEFORE, FLOOD);
        Flood { network, life, attackers, warm: BTreeSet::new(), random: Random::new(seed, "flood", 0) }
    }

    /// Lets the network live until then; returns how its tables were before the flood.
    fn live(&mut self, end: u64, held: (&mut Held, &mut Held), progress: &mut Progress<'_>) -> Health {
        let (warm, cold) = held;
        let mut before = Health::default();
        while !progress.stopped() {
            match self.network.next(end) {
                Some(News::Mark(FLOOD)) => {
                    if self.network.now() == BEFORE {
                        before = self.begin();
                    }
                    self.pour();
                    self.network.mark(self.network.now() + INTERVAL, FLOOD);
                }
                Some(News::Mark(SETTLE)) => self.warm = self.honest().into_iter().collect(),
                Some(News::Mark(LOOK)) => self.look(warm, cold),
                Some(News::Mark(peer)) => {
                    if let Turn::Went(_) = self.life.on_mark(&mut self.network, peer) {
                        self.warm.remove(&peer);
                    }
                }
                Some(News::Pulse) => {
                    let now = self.network.now();
                    progress.tell(self.network.traffic().events, now, now as f64 / end as f64);
                }
                Some(_) => {}
                None => break,
            }
        }
        before
    }

    fn begin(&mut self) -> Health {
        let sample = self.sample(200);
        let health = Health::of(&self.network, sample.into_iter());
        let colluders = Arc::new(self.network.directory.ranking(self.attackers.clone()));
        for peer in self.attackers.clone() {
            let adversary = Adversary::new(Adversaries::Poisoning, Arc::clone(&colluders), Arc::clone(&colluders));
            self.network.join(peer, Node::Adversary(Box::new(adversary)));
        }
        self.network.mark(BEFORE + HOUR, LOOK);
        health
    }

    /// Each of the attacker's ids asks an honest node, so that it is known there.
    fn pour(&mut self) {
        let honest = serving(&self.network);
        let honest: Vec<Index> = (0..honest.len()).map(|at| honest.at(at)).collect();
        for attacker in self.attackers.clone() {
            let victim = honest[self.random.below(honest.len() as u32) as usize];
            if !self.attackers.contains(&victim) {
                let key = Bytes::from(self.network.directory.contact(victim).peer().to_bytes());
                self.network.ask(attacker, victim, Request::FindNode { key });
            }
        }
    }

    fn look(&mut self, warm: &mut Held, cold: &mut Held) {
        let now = self.network.now();
        for peer in self.sample(LOOKED_AT) {
            let buckets = self.network.node(peer).buckets(&self.network.directory);
            let target = place(&Key::hash(&self.random.bytes()));
            let distance = |entry: &Index| self.network.directory.place(*entry) ^ target;
            let mut known: Vec<Index> = buckets.iter().flat_map(|(_, entries)| entries).copied().collect();
            known.sort_unstable_by_key(distance);
            known.truncate(ALPHA);
            let held = if self.warm.contains(&peer) { &mut *warm } else { &mut *cold };
            held.add(&buckets, &known, &self.attackers);
        }
        let hour = (now - BEFORE) as f64 / HOUR as f64;
        warm.close(hour);
        cold.close(hour);
        self.network.mark(now + HOUR, LOOK);
    }

    /// Who is there and no attacker.
    fn honest(&self) -> Vec<Index> {
        let everyone = 0..self.network.directory.len() as Index;
        everyone.filter(|peer| !self.attackers.contains(peer) && self.network.node(*peer).is_present()).collect()
    }

    fn sample(&mut self, count: u32) -> Vec<Index> {
        let honest = self.honest();
        let picks = self.random.sample(honest.len() as u32, count.min(honest.len() as u32));
        picks.into_iter().map(|pick| honest[pick as usize]).collect()
    }
}
