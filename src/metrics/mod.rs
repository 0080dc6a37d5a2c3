//! A node's counters, for Prometheus.
//!
//! Knows: nodes that publish numbers, and a registry that reads them. Must not know: swarms, or how metrics are served.
//! All metrics are in `table`; `docs/metrics.md` explains each.
//!
//! [`Metrics::register`] puts one collector into a registry. A node [publishes](Metrics::publish) its counters into it
//! at most once a poll: a copy of plain numbers, which costs nothing for each event. A scrape reads the last copy.
//!
//! ```
//! # #[cfg(feature = "libp2p")] {
//! use libp2p_kad_dht as kad;
//! use prometheus_client::registry::Registry;
//!
//! # let local = libp2p_identity::PeerId::random();
//! # let protocol = libp2p_swarm::StreamProtocol::new("/my-app/kad/1.0.0");
//! let mut registry = Registry::default();
//! let metrics = kad::metrics::Metrics::register(&mut registry);
//! let mut behaviour = kad::Behaviour::new(local, kad::Config::new(protocol))?;
//! behaviour.publish_to(metrics);
//! // … and where the application serves its metrics:
//! let mut text = String::new();
//! prometheus_client::encoding::text::encode(&mut text, &registry)?;
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The core has no metric objects: prometheus-client's counters are atomics behind families with hashed labels, which
//! simulations would feel. One collector serves all nodes of a process, because two collectors in one registry would
//! write each TYPE twice, which the convention forbids; the label `network` tells nodes apart. Durations are counted in
//! fixed ranges of whole microseconds. A cancelled query is counted up to the last time that the node was called, since
//! `cancel` has no `now`.

mod encode;
mod table;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use libp2p_identity::PeerId;
use prometheus_client::registry::Registry;

use crate::core::stats::{DriverStats, Levels};
use crate::core::{Dht, Mode, Stats};

/// The prefix of all names.
pub const PREFIX: &str = "kad";

/// The place where a node publishes its numbers, for a registry to read. Clones share it.
#[derive(Clone, Debug)]
pub struct Metrics {
    shared: Arc<Mutex<Vec<NodeNumbers>>>,
    /// The index of its node in `shared`.
    index: usize,
}

impl Metrics {
    /// Puts the metrics of a node into a registry; all names begin with [`PREFIX`] and an underscore. Call it once for
    /// each registry: a second call would repeat every name. For a second node there is [`Metrics::another`].
    pub fn register(registry: &mut Registry) -> Metrics {
        let shared = Arc::new(Mutex::new(vec![NodeNumbers::default()]));
        let collector = encode::Collector { shared: Arc::clone(&shared) };
        registry.sub_registry_with_prefix(PREFIX).register_collector(Box::new(collector));
        Metrics { shared, index: 0 }
    }

    /// The metrics of another node in the same registry, such as the node of a second network. Its samples have this
    /// name as the label `network`; samples of the first node do not have the label.
    #[must_use]
    pub fn another(&self, network: impl Into<String>) -> Metrics {
        let mut all = lock(&self.shared);
        all.push(NodeNumbers { network: Some(network.into()), ..NodeNumbers::default() });
        Metrics { shared: Arc::clone(&self.shared), index: all.len() - 1 }
    }

    /// Publishes a node's numbers. A driver of your own calls it when it has nothing left to do for now; the libp2p
    /// binding calls it by itself (`Behaviour::publish_to`).
    pub fn publish(&self, dht: &Dht, driver: &DriverStats) {
        if let Some(published) = lock(&self.shared).get_mut(self.index) {
            published.update(dht, driver);
        }
    }
}

/// The numbers of a node at one moment.
#[derive(Clone, Debug, Default)]
struct NodeNumbers {
    network: Option<String>,
    mode: Mode,
    /// `None` before the first update: there are no samples then.
    local: Option<PeerId>,
    /// `local` as text.
    peer: String,
    stats: Stats,
    levels: Levels,
    driver: DriverStats,
}

impl NodeNumbers {
    fn update(&mut self, dht: &Dht, driver: &DriverStats) {
        let stats = dht.stats();
        let local = *dht.local().peer();
        // True at the first update, and when another node replaces one that is gone.
        let fresh = self.local != Some(local);
        let changes = |stats: &Stats| (stats.admitted, stats.evicted);
        dht.update_levels(&mut self.levels, fresh || changes(stats) != changes(&self.stats));
        // Most polls change no counter, and comparing is cheaper than copying.
        if self.stats != *stats {
            self.stats.clone_from(stats);
        }
        if fresh {
            (self.local, self.peer) = (Some(local), local.to_string());
        }
        self.mode = dht.mode();
        self.driver = *driver;
    }
}

/// Ignores poisoning: a panic elsewhere leaves only numbers that the next update overwrites.
fn lock(shared: &Mutex<Vec<NodeNumbers>>) -> MutexGuard<'_, Vec<NodeNumbers>> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
