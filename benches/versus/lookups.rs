//! Operations in a network: lookups one at a time and all at once, values, providers, and peers that fall silent.
//!
//! Knows: the truly closest peers, with which every lookup is compared. Must not know: which implementation runs.

use std::collections::HashMap;
use std::thread;
use std::time::Duration;

use libp2p::PeerId;
use tokio::sync::oneshot;

use crate::measure::{Figures, Stretch, Took, heap, mean, percentile};
use crate::network::{Command, Driver, Network, settle};
use crate::node::{Adapter, Ended, Node, place, recall, true_closest};
use crate::random::Random;
use crate::transport::Kind;

const LOOKUPS: usize = 300;
const PUTS: usize = 100;

/// Which operations to run, after all nodes have joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Two nodes; lookups of one request each, 30 at a time.
    Rpc,
    /// Lookups, values, providers, and `burst` parallel lookups.
    Living { burst: usize },
    /// A tenth of the nodes stops answering, then three tenths.
    Silent,
}

/// Starts a network, and drives one node of it through a part.
pub(crate) fn run<A: Adapter>(nodes: usize, transport: Kind, seed: u64, part: Part) -> Figures {
    let mut figures = Figures::default();
    let before = heap();
    let stretch = Stretch::begin();
    let network = Network::start::<A>(nodes, transport, seed);
    let per_node = |bytes: usize| bytes.saturating_sub(before) as f64 / 1024.0 / network.nodes() as f64;
    figures.add("fresh", per_node(heap()));
    figures.add("failed_bootstraps", network.bootstrap());
    settle();
    figures.add("join", stretch.end().cpu);
    figures.add("settled", per_node(heap()));
    thread::scope(|scope| {
        // A thread of its own, as an application's node has.
        let query = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let mut querier = Querier::<A>::join(&network, seed).await;
                match part {
                    Part::Rpc => querier.requests(&mut figures).await,
                    Part::Living { burst } => querier.living(&mut figures, burst).await,
                    Part::Silent => querier.silent(&mut figures).await,
                }
            });
        };
        thread::Builder::new().name("query".into()).spawn_scoped(scope, query).expect("a thread").join().expect("ends");
    });
    // The time in which thousands of tasks end is in no figure.
    figures.print();
    std::process::exit(0);
}

/// The node that queries, and the true places of all others.
struct Querier<'a, A: Adapter> {
    network: &'a Network,
    driver: Driver<A>,
    random: Random,
    places: Vec<(PeerId, [u8; 32])>,
}

fn median(ended: &[Ended]) -> f64 {
    percentile(ended.iter().map(|ended| ended.took), 0.5)
}

impl<A: Adapter> Querier<'_, A> {
    async fn join(network: &Network, seed: u64) -> Querier<'_, A> {
        let driver = Driver { node: Node::spawn(network.config(0)) };
        let places = network.peers.iter().map(|peer| (*peer, place(&peer.to_bytes()))).collect();
        let mut querier = Querier { network, driver, random: Random::new(seed), places };
        for (peer, addr) in network.seeds() {
            A::learn(querier.driver.node.behaviour(), peer, addr);
        }
        // The bootstrap that a node starts by itself goes first.
        querier.driver.run_for(Duration::from_millis(200)).await;
        let bootstrap = querier.driver.node.bootstrap().expect("the seeds are known");
        querier.driver.end_of(bootstrap).await;
        querier.driver.run_for(Duration::from_millis(1_500)).await;
        for some in network.addrs().chunks(50) {
            for (peer, addr) in some {
                querier.driver.node.connect(*peer, addr.clone());
            }
            querier.driver.run_for(Duration::from_millis(200)).await;
        }
        querier.driver.run_for(Duration::from_secs(2)).await;
        querier
    }

    /// Runs `count` lookups, at most `width` at a time. Returns their ends, their mean recall and what they took.
    async fn lookups(&mut self, count: usize, width: usize) -> (Vec<Ended>, f64, Took) {
        let keys = self.random.keys(count);
        let (mut running, mut ended, mut recalls) = (HashMap::new(), Vec::new(), Vec::new());
        let mut next = keys.iter();
        let stretch = Stretch::begin();
        while ended.len() < count {
            while running.len() < width
                && let Some(key) = next.next()
            {
                running.insert(self.driver.node.start(|behaviour| A::closest(behaviour, key)), key);
            }
            let end = self.driver.next().await;
            if let Some(key) = running.remove(&end.operation) {
                ended.push((key, end));
            }
        }
        let took = stretch.end();
        recalls.extend(ended.iter().map(|(key, end)| recall(&self.places, key, &end.peers)));
        (ended.into_iter().map(|(_, end)| end).collect(), mean(recalls), took)
    }

    async fn requests(&mut self, figures: &mut Figures) {
        let (ended, _, took) = self.lookups(6_000, 30).await;
        let requests: usize = ended.iter().map(|ended| ended.requests).sum();
        figures.add("rpc_tcp", took.cpu / requests as f64 * 1e6);
    }

    async fn living(&mut self, figures: &mut Figures, burst: usize) {
        let (ended, recall, took) = self.lookups(LOOKUPS, 1).await;
        figures.add("latency_p50", median(&ended));
        figures.add("latency_p95", percentile(ended.iter().map(|ended| ended.took), 0.95));
        figures.add("recall", recall);
        figures.add("requests", mean(ended.iter().map(|ended| ended.requests as f64)));
        figures.add("cpu", took.cpu / LOOKUPS as f64 * 1e3);
        self.values(figures).await;
        self.providers(figures).await;
        let (_, recall, took) = self.lookups(burst, burst).await;
        figures.add("burst", took.wall * 1e3);
        figures.add("burst_recall", recall);
    }

    async fn values(&mut self, figures: &mut Figures) {
        let (keys, mut puts, mut gets) = (self.random.keys(PUTS), Vec::new(), Vec::new());
        for (n, key) in keys.iter().enumerate() {
            let (ended, end) = oneshot::channel();
            let value = self.random.bytes(256);
            self.network.send(4 + n % 8, Command::Put(key.clone(), value, ended));
            puts.push(self.driver.until(end).await.expect("the node runs"));
        }
        for key in &keys {
            let get = self.driver.node.start(|behaviour| A::get(behaviour, key));
            gets.push(self.driver.end_of(get).await);
        }
        figures.add("put", median(&puts));
        figures.add("get_end", median(&gets));
        figures.add("get_first", percentile(gets.iter().filter_map(|get| get.first), 0.5));
        figures.add("found", mean(gets.iter().map(|get| f64::from(u8::from(get.first.is_some())))));
    }

    async fn providers(&mut self, figures: &mut Figures) {
        let mut provides = Vec::new();
        for (n, key) in self.random.keys(PUTS).into_iter().enumerate() {
            let (ended, end) = oneshot::channel();
            self.network.send(4 + n % 8, Command::Provide(key, ended));
            provides.push(self.driver.until(end).await.expect("the node runs"));
        }
        figures.add("provide", median(&provides));
    }

    async fn silent(&mut self, figures: &mut Figures) {
        let mut old = Vec::new();
        for (n, key) in self.random.keys(40).into_iter().enumerate() {
            let (ended, end) = oneshot::channel();
            self.network.send(4 + n % 8, Command::Put(key.clone(), vec![n as u8; 256], ended));
            self.driver.until(end).await.expect("the node runs");
            old.push(key);
        }
        self.driver.run_for(Duration::from_secs(1)).await;
        let mut order: Vec<usize> = (0..self.network.nodes()).collect();
        self.random.shuffle(&mut order);
        let (tenth, three_tenths) = (order.len() / 10, order.len() * 3 / 10);
        self.freeze(&order[..tenth]).await;
        self.put_among_silent(&order[tenth..], figures).await;
        self.freeze(&order[tenth..three_tenths]).await;
        self.find_among_silent(&old, &order[three_tenths..], figures).await;
    }

    async fn freeze(&mut self, nodes: &[usize]) {
        nodes.iter().for_each(|node| self.network.send(*node, Command::Freeze));
        self.driver.run_for(Duration::from_millis(500)).await;
    }

    /// Ends of operations that run together, each with its key.
    async fn together(
        &mut self,
        keys: &[Vec<u8>],
        start: impl Fn(&mut A::Behaviour, &[u8]) -> A::Query,
    ) -> Vec<(Vec<u8>, Ended)> {
        let begin = |key: &Vec<u8>| (self.driver.node.start(|behaviour| start(behaviour, key)), key.clone());
        let mut running: HashMap<_, _> = keys.iter().map(begin).collect();
        let mut ended = Vec::new();
        while !running.is_empty() {
            let end = self.driver.next().await;
            ended.extend(running.remove(&end.operation).map(|key| (key, end)));
        }
        ended
    }

    fn alive(&self, nodes: &[usize]) -> Vec<(PeerId, [u8; 32])> {
        nodes.iter().map(|node| self.places[*node]).collect()
    }

    async fn put_among_silent(&mut self, alive: &[usize], figures: &mut Figures) {
        let (places, mut reach, mut took) = (self.alive(alive), Vec::new(), Vec::new());
        for _ in 0..2 {
            let keys = self.random.keys(10);
            let ended = self.together(&keys, |behaviour, key| A::put(behaviour, key, vec![7; 256])).await;
            // Stores that are on their way arrive.
            self.driver.run_for(Duration::from_millis(500)).await;
            for (key, end) in ended {
                let closest = true_closest(&places, &key);
                let mut holders = 0;
                for node in alive.iter().filter(|node| closest.contains(&self.network.peers[**node])) {
                    let (answer, has) = oneshot::channel();
                    self.network.send(*node, Command::Has(key.clone(), answer));
                    holders += usize::from(self.driver.until(has).await.expect("the node runs"));
                }
                reach.push(holders as f64 / closest.len() as f64);
                took.push(end);
            }
        }
        figures.add("dead_put_reach", mean(reach));
        figures.add("dead_put_p50", median(&took));
    }

    async fn find_among_silent(&mut self, old: &[Vec<u8>], alive: &[usize], figures: &mut Figures) {
        let mut gets = Vec::new();
        for keys in old.chunks(20) {
            gets.extend(self.together(keys, A::get).await);
        }
        figures.add("dead_get_p95", percentile(gets.iter().map(|(_, end)| end.took), 0.95));
        let (keys, places) = (self.random.keys(20), self.alive(alive));
        let ended = self.together(&keys, A::closest).await;
        figures.add("dead_closest_p95", percentile(ended.iter().map(|(_, end)| end.took), 0.95));
        figures.add("dead_recall", mean(ended.iter().map(|(key, end)| recall(&places, key, &end.peers))));
    }
}
