//! What the node counts, for Prometheus.
//!
//! Knows: who publishes numbers and who reads them. Must not know: swarms, or how metrics are served. What there is, and
//! what it is called, is in `table`; `docs/metrics.md` explains each.
//!
//! [`Metrics::register`] puts one collector into a registry. A node [publishes](Metrics::publish) its counters into it
//! at most once a poll: a copy of plain numbers, and nothing for each event. A scrape reads the last copy.
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

mod encode;
mod table;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use libp2p_identity::PeerId;
use prometheus_client::registry::Registry;

use crate::core::stats::{DriverStats, Levels};
use crate::core::{Dht, Mode, Stats};

/// What all names begin with.
pub const PREFIX: &str = "kad";

/// Where a node publishes its numbers, for a registry to read. Clones are the same place.
#[derive(Clone, Debug)]
pub struct Metrics {
    shared: Arc<Mutex<Vec<Published>>>,
    /// Whose numbers of these it publishes.
    index: usize,
}

impl Metrics {
    /// Puts the metrics of a node into a registry, all names beginning with [`PREFIX`] and an underscore. Once for each
    /// registry: a second time would repeat every name; for a second node see [`Metrics::another`].
    pub fn register(registry: &mut Registry) -> Metrics {
        let shared = Arc::new(Mutex::new(vec![Published::default()]));
        let collector = encode::Collector { shared: Arc::clone(&shared) };
        registry.sub_registry_with_prefix(PREFIX).register_collector(Box::new(collector));
        Metrics { shared, index: 0 }
    }

    /// The metrics of another node in the same registry, such as the one of a second network. Its samples carry this name
    /// as the label `network`, those of the first one do not.
    #[must_use]
    pub fn another(&self, network: impl Into<String>) -> Metrics {
        let mut all = lock(&self.shared);
        all.push(Published { network: Some(network.into()), ..Published::default() });
        Metrics { shared: Arc::clone(&self.shared), index: all.len() - 1 }
    }

    /// Publishes what a node did and has. For drivers of your own, which call it when they have nothing left to do for
    /// now; the libp2p binding does so by itself once it was given these metrics.
    pub fn publish(&self, dht: &Dht, driver: &DriverStats) {
        if let Some(published) = lock(&self.shared).get_mut(self.index) {
            published.update(dht, driver);
        }
    }
}

/// The numbers of a node at one moment.
#[derive(Clone, Debug, Default)]
struct Published {
    network: Option<String>,
    /// Whether anything was published yet: before that there are no samples.
    begun: bool,
    mode: Mode,
    local: Option<PeerId>,
    /// The same as text.
    peer: String,
    stats: Stats,
    levels: Levels,
    driver: DriverStats,
}

impl Published {
    fn update(&mut self, dht: &Dht, driver: &DriverStats) {
        let stats = dht.stats();
        let local = *dht.local().peer();
        // The first time, and where another node took the place of one that is gone.
        let fresh = self.local != Some(local);
        let changes = |stats: &Stats| (stats.admitted, stats.evicted);
        dht.update_levels(&mut self.levels, fresh || changes(stats) != changes(&self.stats));
        // Most polls change nothing here, and comparing is cheaper than copying.
        if self.stats != *stats {
            self.stats.clone_from(stats);
        }
        if fresh {
            (self.begun, self.local, self.peer) = (true, Some(local), local.to_string());
        }
        self.mode = dht.mode();
        self.driver = *driver;
    }
}

/// A panic elsewhere leaves the numbers whole: each is overwritten by the next update.
fn lock(shared: &Mutex<Vec<Published>>) -> MutexGuard<'_, Vec<Published>> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
