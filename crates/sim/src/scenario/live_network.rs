//! A network under churn, for several scenarios.

use std::sync::Arc;

use super::Params;
use crate::{
    Churn, Directory, Implementation, Link, Monitor, Network, NetworkEvent, NodeIndex, Population, SessionChange,
    Sessions, TableModel, populate,
};
use libp2p_kad_dht::core::DhtConfig;
use libp2p_kad_dht::core::stats::Stores;

pub(super) const HOUR: u64 = 3_600_000_000;

/// The timer of the scenario itself.
pub(super) const TICK: u32 = Sessions::FIRST_FREE_TIMER;

/// The conditions that a network runs under.
pub(super) struct Setup {
    pub(super) churn: Churn,
    pub(super) link: Link,
    pub(super) config: DhtConfig,
    pub(super) hours: u64,
    /// The share of joining nodes that are clients.
    pub(super) clients: f64,
}

/// A network under churn.
pub(super) struct LiveNetwork {
    pub(super) network: Network,
    /// The peers that are always online and that joining nodes contact.
    pub(super) boot: Vec<NodeIndex>,
    /// The number of joins.
    pub(super) joins: u64,
    sessions: Sessions,
    end: u64,
    /// The stores of nodes that went offline.
    departed: Stores,
}

impl LiveNetwork {
    /// All nodes online, with tables from global knowledge and in the middle of their sessions. One in a hundred, and
    /// at least three, never leave. Under churn there are as many offline peers as nodes online.
    pub(super) fn new(params: &Params, setup: &Setup, monitor: &mut Monitor<'_>) -> LiveNetwork {
        let (n, seed) = (params.size(), params.seed);
        let away = if setup.churn == Churn::None { 0 } else { n };
        let directory = Directory::new(seed, n + away);
        let population = Population::new(&directory, n);
        let mut network = Network::new(seed, directory, setup.link);
        let shared = Arc::new(setup.config.clone());
        let routing = &setup.config.routing;
        let model = TableModel { wide: routing.wide_low_buckets, ..TableModel::plain(routing.bucket_size.get()) };
        populate(&mut network, &population, seed, &Implementation::Ours(Arc::clone(&shared)), model, monitor);
        let boot: Vec<NodeIndex> = (0..(n as NodeIndex / 100).max(3).min(n as NodeIndex)).collect();
        let mut sessions = Sessions::new(seed, setup.churn, shared, boot.clone(), setup.clients);
        sessions.begin(&mut network, 0..(n + away) as NodeIndex);
        LiveNetwork { network, boot, joins: 0, sessions, end: setup.hours * HOUR, departed: Stores::default() }
    }

    /// Runs until there is an event for the scenario. `None` at the end of the time, or when the observer ends the run.
    pub(super) fn next(&mut self, monitor: &mut Monitor<'_>) -> Option<NetworkEvent> {
        while !monitor.stopped() {
            match self.network.next(self.end)? {
                NetworkEvent::Timer(peer) if peer < Sessions::FIRST_FREE_TIMER => {
                    match self.sessions.on_timer(&mut self.network, peer) {
                        SessionChange::Online => self.joins += 1,
                        SessionChange::Offline(node) => {
                            self.departed =
                                node.stats().map_or(self.departed, |stats| sum(self.departed, stats.stores));
                        }
                    }
                }
                NetworkEvent::Progress => {
                    let now = self.network.now();
                    monitor.report(self.network.traffic().events, now, now as f64 / self.end as f64);
                }
                news => return Some(news),
            }
        }
        None
    }

    /// The virtual time in hours.
    pub(super) fn hour(&self) -> f64 {
        self.network.now() as f64 / HOUR as f64
    }

    /// The stores of all nodes so far, including those that went offline.
    pub(super) fn stores(&self) -> Stores {
        let everyone = 0..self.network.directory.len() as NodeIndex;
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
