//! A network that an attacker floods with ids from ten networks.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::skademlia::look_for;
use super::{Params, Scenario};
use crate::{
    AddressModel, Adversary, Attack, Churn, Directory, Implementation, Latency, Link, Monitor, Network, NetworkEvent,
    Node, NodeIndex, Outcome, Population, Random, Samples, SessionChange, Sessions, SortedPeers, TableHealth,
    TableModel, config_with_k, key_position, populate,
};
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
/// The number of peers that a lookup asks first.
const ALPHA: usize = 10;
/// The time before the flood.
const BEFORE: u64 = 2 * HOUR;
/// A node that is online at this time and stays has a full table at the flood, whose entries count as established: that
/// takes 1 h from k entries on.
const SETTLED: u64 = BEFORE - HOUR - HOUR / 6;
/// The number of networks of the attacker; no other peer is in them.
const NETWORKS: u8 = 10;
/// The interval between two requests of one id of the attacker, in microseconds.
const INTERVAL: u64 = 30_000_000;
/// The number of nodes whose tables are measured each hour.
const MEASURED: u32 = 1_000;
const LOOKUPS: usize = 1_000;
const PATHS: usize = 4;
/// The most entries of the attacker in a table and in a bucket.
const PER_TABLE: usize = 30;
const PER_BUCKET: usize = K / 4;

const FLOOD: u32 = Sessions::FIRST_FREE_TIMER;
const MEASURE: u32 = Sessions::FIRST_FREE_TIMER + 1;
const SETTLE: u32 = Sessions::FIRST_FREE_TIMER + 2;

fn run(params: &Params, monitor: &mut Monitor<'_>) -> Outcome {
    let (n, seed) = (params.size(), params.seed);
    let mut outcome = Outcome::new(SCENARIO.name, n, seed);
    monitor.stage("tables");
    let mut flood = Flood::new(n, seed, monitor);
    monitor.stage("flood");
    let hours = params.samples.unwrap_or(72) as u64;
    let (mut warm, mut cold) = (AttackerEntries::default(), AttackerEntries::default());
    let before = flood.run(BEFORE + hours * HOUR, (&mut warm, &mut cold), monitor);
    monitor.stage("lookups");
    let honest = flood.honest();
    let honest = flood.network.directory.sorted(honest.into_iter());
    let mut random = Random::new(seed, "keys", 0);
    let keys: Vec<Bytes> = (0..100).map(|_| Bytes::copy_from_slice(&random.bytes())).collect();
    let lookups = if n < 500 { LOOKUPS / 10 } else { LOOKUPS };
    let (success, rpcs) = match monitor.stopped() {
        true => (f64::NAN, f64::NAN),
        false => look_for(&mut flood.network, &honest, &keys, (PATHS, lookups), monitor),
    };
    let ours = &mut outcome.ours;
    ours.put("hours", hours as f64);
    ours.put("warm_nodes", flood.warm.len() as f64);
    ours.put("know20_before", before.know20);
    ours.put("entries_before", before.entries);
    ours.put("success", success);
    ours.put("rpcs", rpcs);
    warm.report("warm", &mut outcome);
    cold.report("cold", &mut outcome);
    judge(&warm, &cold, success, &mut outcome);
    let curves = vec![("full at the start".to_owned(), warm.curve), ("cold".to_owned(), cold.curve)];
    outcome.plot("The attacker's share of tables", ("hours of the flood", "share of the entries"), curves);
    outcome.check_invariants("ours", &flood.network.traffic());
    outcome.note("Warm: nodes that came 70 min before the flood or earlier and have stayed, whose tables were full and settled; cold: those that came later, most of them during the flood, with an empty table. First hops: the 10 entries closest to a random target. Every attacker's id stays, asks a random honest node every 30 s and names only other attackers.");
    outcome
}

fn judge(warm: &AttackerEntries, cold: &AttackerEntries, success: f64, outcome: &mut Outcome) {
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

/// The entries of the attacker in some tables.
#[derive(Default)]
struct AttackerEntries {
    /// The most in any table and in any bucket at any time.
    in_table: usize,
    in_bucket: usize,
    /// The share of the peers that a lookup asks first, table by table.
    hops: Samples,
    /// The share of all entries, hour by hour.
    curve: Vec<(f64, f64)>,
    /// Entries of the attacker and all entries in this hour.
    tally: [usize; 2],
}

impl AttackerEntries {
    fn add(&mut self, buckets: &[(bool, Vec<NodeIndex>)], first: &[NodeIndex], attackers: &Range<NodeIndex>) {
        let bad = |entries: &[NodeIndex]| entries.iter().filter(|entry| attackers.contains(entry)).count();
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

    fn report(&self, name: &str, outcome: &mut Outcome) {
        let group = outcome.ours.group(name);
        group.put("most_in_table", self.in_table as f64);
        group.put("most_in_bucket", self.in_bucket as f64);
        group.put("first_hops", self.hops.mean());
        group.put("share_last_hour", self.curve.last().map_or(f64::NAN, |(_, share)| *share));
    }
}

/// The network with its attacker.
struct Flood {
    network: Network,
    sessions: Sessions,
    attackers: Range<NodeIndex>,
    /// The nodes that have been online since `SETTLED`.
    warm: BTreeSet<NodeIndex>,
    random: Random,
}

impl Flood {
    /// Honest nodes with tables from global knowledge, as many that are offline, and the attacker's ids, offline as
    /// well.
    fn new(n: usize, seed: u64, monitor: &mut Monitor<'_>) -> Flood {
        let mut directory = Directory::with_addresses(seed, 2 * n, AddressModel::ipfs());
        let first = directory.len() as NodeIndex;
        (0..n).for_each(|i| _ = directory.add_in_network([150, (i % usize::from(NETWORKS)) as u8]));
        let attackers = first..directory.len() as NodeIndex;
        let mut config = config_with_k(K);
        config.routing.diversity = Some(DiversityConfig::default());
        let config = Arc::new(config);
        let population = Population { live: directory.sorted(0..n as NodeIndex), dead: SortedPeers::default() };
        let mut network = Network::new(seed, directory, Link::public(Latency::Geo6));
        populate(
            &mut network,
            &population,
            seed,
            &Implementation::Ours(Arc::clone(&config)),
            TableModel::plain(K),
            monitor,
        );
        let boot = (0..(n as NodeIndex / 100).max(3).min(n as NodeIndex)).collect();
        let mut sessions = Sessions::new(seed, Churn::Ipfs2022, config, boot, 0.0);
        sessions.begin(&mut network, 0..2 * n as NodeIndex);
        network.set_timer(SETTLED, SETTLE);
        network.set_timer(BEFORE, FLOOD);
        Flood { network, sessions, attackers, warm: BTreeSet::new(), random: Random::new(seed, "flood", 0) }
    }

    /// Runs the network until `end`. Returns the quality of its tables before the flood.
    fn run(
        &mut self,
        end: u64,
        held: (&mut AttackerEntries, &mut AttackerEntries),
        monitor: &mut Monitor<'_>,
    ) -> TableHealth {
        let (warm, cold) = held;
        let mut before = TableHealth::default();
        while !monitor.stopped() {
            match self.network.next(end) {
                Some(NetworkEvent::Timer(FLOOD)) => {
                    if self.network.now() == BEFORE {
                        before = self.begin();
                    }
                    self.attack();
                    self.network.set_timer(self.network.now() + INTERVAL, FLOOD);
                }
                Some(NetworkEvent::Timer(SETTLE)) => self.warm = self.honest().into_iter().collect(),
                Some(NetworkEvent::Timer(MEASURE)) => self.measure(warm, cold),
                Some(NetworkEvent::Timer(peer)) => {
                    if let SessionChange::Offline(_) = self.sessions.on_timer(&mut self.network, peer) {
                        self.warm.remove(&peer);
                    }
                }
                Some(NetworkEvent::Progress) => {
                    let now = self.network.now();
                    monitor.report(self.network.traffic().events, now, now as f64 / end as f64);
                }
                Some(_) => {}
                None => break,
            }
        }
        before
    }

    fn begin(&mut self) -> TableHealth {
        let sample = self.sample(200);
        let health = TableHealth::of(&self.network, sample.into_iter());
        let colluders = Arc::new(self.network.directory.sorted(self.attackers.clone()));
        for peer in self.attackers.clone() {
            let adversary = Adversary::new(Attack::Poisoning, Arc::clone(&colluders), Arc::clone(&colluders));
            self.network.join(peer, Node::Adversary(Box::new(adversary)));
        }
        self.network.set_timer(BEFORE + HOUR, MEASURE);
        health
    }

    /// Sends a request from each id of the attacker to an honest node, to enter its table.
    fn attack(&mut self) {
        let honest = self.network.servers();
        let honest: Vec<NodeIndex> = (0..honest.len()).map(|at| honest.at(at)).collect();
        for attacker in self.attackers.clone() {
            let victim = honest[self.random.below(honest.len() as u32) as usize];
            if !self.attackers.contains(&victim) {
                let key = Bytes::from(self.network.directory.contact(victim).peer().to_bytes());
                self.network.send_request(attacker, victim, Request::FindNode { key });
            }
        }
    }

    fn measure(&mut self, warm: &mut AttackerEntries, cold: &mut AttackerEntries) {
        let now = self.network.now();
        for peer in self.sample(MEASURED) {
            let buckets = self.network.node(peer).buckets(&self.network.directory);
            let target = key_position(&Key::hash(&self.random.bytes()));
            let distance = |entry: &NodeIndex| self.network.directory.position(*entry) ^ target;
            let mut known: Vec<NodeIndex> = buckets.iter().flat_map(|(_, entries)| entries).copied().collect();
            known.sort_unstable_by_key(distance);
            known.truncate(ALPHA);
            let held = if self.warm.contains(&peer) { &mut *warm } else { &mut *cold };
            held.add(&buckets, &known, &self.attackers);
        }
        let hour = (now - BEFORE) as f64 / HOUR as f64;
        warm.close(hour);
        cold.close(hour);
        self.network.set_timer(now + HOUR, MEASURE);
    }

    /// All honest nodes that are online.
    fn honest(&self) -> Vec<NodeIndex> {
        let everyone = 0..self.network.directory.len() as NodeIndex;
        everyone.filter(|peer| !self.attackers.contains(peer) && self.network.node(*peer).is_present()).collect()
    }

    fn sample(&mut self, count: u32) -> Vec<NodeIndex> {
        let honest = self.honest();
        let picks = self.random.sample(honest.len() as u32, count.min(honest.len() as u32));
        picks.into_iter().map(|pick| honest[pick as usize]).collect()
    }
}
