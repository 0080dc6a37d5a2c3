//! A network whose nodes come and go, as several scenarios watch it.

use std::sync::Arc;

use super::super::churn::Churn;
use super::super::directory::{Directory, Index};
use super::super::life::{Life, Turn};
use super::super::link::Link;
use super::super::network::{Network, News};
use super::super::progress::Progress;
use super::super::table::Filling;
use super::Params;
use super::setup::{Kind, Population, populate};
use libp2p_kad_dht::core::DhtConfig;
use libp2p_kad_dht::core::stats::Stores;

pub(super) const HOUR: u64 = 3_600_000_000;

/// The mark that is the scenario's own.
pub(super) const TICK: u32 = Life::FIRST_FREE;

/// What a network lives with.
pub(super) struct Setup {
    pub(super) churn: Churn,
    pub(super) link: Link,
    pub(super) config: DhtConfig,
    pub(super) hours: u64,
    /// The share of nodes that only ask.
    pub(super) clients: f64,
}

/// A network that lives.
pub(super) struct Lived {
    pub(super) network: Network,
    /// Who is always online, and known to everyone who joins.
    pub(super) boot: Vec<Index>,
    /// How often someone came online.
    pub(super) joins: u64,
    life: Life,
    end: u64,
    /// What those stored who are gone.
    departed: Stores,
}

impl Lived {
    /// Everyone online with a table from global knowledge, and their sessions begun. One in a hundred, and three at
    /// least, stay for good; as many as are online are away, unless nobody ever leaves.
    pub(super) fn new(params: &Params, setup: &Setup, progress: &mut Progress<'_>) -> Lived {
        let (n, seed) = (params.size(), params.seed);
        let away = if setup.churn == Churn::None { 0 } else { n };
        let directory = Directory::new(seed, n + away);
        let population = Population::new(&directory, n);
        let mut network = Network::new(seed, directory, setup.link);
        let shared = Arc::new(setup.config.clone());
        let routing = &setup.config.routing;
        let filling = Filling { wide: routing.wide_low_buckets, ..Filling::plain(routing.bucket_size.get()) };
        populate(&mut network, &population, seed, &Kind::Ours(Arc::clone(&shared)), filling, progress);
        let boot: Vec<Index> = (0..(n as Index / 100).max(3).min(n as Index)).collect();
        let mut life = Life::new(seed, setup.churn, shared, boot.clone(), setup.clients);
        life.begin(&mut network, 0..(n + away) as Index);
        Lived { network, boot, joins: 0, life, end: setup.hours * HOUR, departed: Stores::default() }
    }

    /// Goes on until something happens that is the scenario's concern; `None` at the end of the time, or when the
    /// observer has seen enough.
    pub(super) fn next(&mut self, progress: &mut Progress<'_>) -> Option<News> {
        while !progress.stopped() {
            match self.network.next(self.end)? {
                News::Mark(peer) if peer < Life::FIRST_FREE => match self.life.on_mark(&mut self.network, peer) {
                    Turn::Came => self.joins += 1,
                    Turn::Went(node) => {
                        self.departed = node.stats().map_or(self.departed, |stats| sum(self.departed, stats.stores));
                    }
                },
                News::Pulse => {
                    let now = self.network.now();
                    progress.tell(self.network.traffic().events, now, now as f64 / self.end as f64);
                }
                news => return Some(news),
            }
        }
        None
    }

    /// The time in hours.
    pub(super) fn hour(&self) -> f64 {
        self.network.now() as f64 / HOUR as f64
    }

    /// What everyone stored elsewhere so far, those included who are gone.
    pub(super) fn stores(&self) -> Stores {
        let everyone = 0..self.network.directory.len() as Index;
        let stats = everyone.filter_map(|peer| self.network.node(peer).stats());
        stats.fold(self.departed, |total, stats| sum(total, stats.stores))
    }
}

fn sum(a: Stores, b: Stores) -> Stores {
    let mut sum = a;
    sum.published += b.published;
    sum.announced += b.announced;
    sum.replicated += b.replicated;
    sum.joined += b.joined;
    sum.corrected += b.corrected;
    sum.cached += b.cached;
    sum
}
