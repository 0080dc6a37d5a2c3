//! A simulator for [`libp2p_kad_dht`]: networks of thousands of nodes in one process and in virtual time, from one
//! seed.
//!
//! Every node runs the same [`core::Dht`](libp2p_kad_dht::core::Dht) as in production; only time, links, dials and
//! sessions are models. **The same seed gives the same outcome, byte for byte, on any machine.**
//!
//! Knows: the inputs and outputs of the core, models of links and sessions, and published results to compare with. Must
//! not know: a clock, a socket, a thread. (The program `kad-sim` has a clock, to show how far a run is.)
//!
//! ```text
//! scenario ── sets a network up, runs it, judges it ──► Outcome
//!    │
//! Network ── one queue of events in virtual time
//!    ├── Node: our own · stock (the lookups of go-libp2p-kad-dht and libp2p-kad) · adversary
//!    ├── Link: latency, dials, loss         Sessions, Churn: how long peers stay
//!    └── Directory: all peers, by index     TableModel: routing tables from global knowledge
//! ```
//!
//! # Scenarios that exist
//!
//! [`scenarios`] lists them, [`Scenario::run`] runs one, and so does the program:
//!
//! ```text
//! cargo run --release -p libp2p-kad-dht-sim -- --list
//! cargo run --release -p libp2p-kad-dht-sim -- exact --seed 7
//! ```
//!
//! # A scenario of your own
//!
//! How many of 50 values are found after every third node has failed at the same moment?
//!
//! ```
//! use std::sync::Arc;
//!
//! use libp2p_kad_dht::core::{DhtConfig, Operation, QueryEvent, QueryOptions};
//! use libp2p_kad_dht_sim::{
//!     Directory, Implementation, Latency, Link, Monitor, Network, NetworkEvent, NodeIndex, Outcome, Params, Population,
//!     Scenario, TableModel, Unobserved, populate,
//! };
//!
//! const BLACKOUT: Scenario = Scenario::new("blackout", "values found after a third of the nodes failed", 200, run);
//! const MINUTE: u64 = 60_000_000;
//!
//! fn run(params: &Params, monitor: &mut Monitor<'_>) -> Outcome {
//!     let (nodes, seed) = (params.size(), params.seed);
//!     let mut outcome = Outcome::new("blackout", nodes, seed);
//!     // All nodes are online, with the tables of a network that has run for a while.
//!     let directory = Directory::new(seed, nodes);
//!     let population = Population::new(&directory, nodes);
//!     let mut network = Network::new(seed, directory, Link::public(Latency::Geo6));
//!     let ours = Implementation::Ours(Arc::new(DhtConfig::default()));
//!     populate(&mut network, &population, seed, &ours, TableModel::plain(20), monitor);
//!
//!     monitor.stage("put");
//!     for i in 0..50 {
//!         let put = Operation::Put { key: format!("/app/{i}").into(), value: "hello".into() };
//!         network.start(3 * i, put, QueryOptions::default());
//!     }
//!     while network.next(MINUTE).is_some() {}
//!
//!     monitor.stage("get");
//!     for index in (0..nodes as NodeIndex).step_by(3) {
//!         network.leave(index);
//!     }
//!     for i in 0..50 {
//!         network.start(3 * i + 1, Operation::Get { key: format!("/app/{i}").into() }, QueryOptions::default());
//!     }
//!     let mut found = 0.0;
//!     while let Some(event) = network.next(3 * MINUTE) {
//!         if let NetworkEvent::Query { event: QueryEvent::Finished(result), .. } = event {
//!             found += f64::from(u8::from(result.is_ok()));
//!         }
//!     }
//!     outcome.ours.put("found_share", found / 50.0);
//!     outcome.check("values found: all", found / 50.0, found == 50.0);
//!     outcome.check_invariants("ours", &network.traffic());
//!     outcome
//! }
//!
//! let outcome = BLACKOUT.run(&Params::new(7), &mut Unobserved);
//! assert!(outcome.pass(), "{}", outcome.to_json());
//! ```
//!
//! [`populate`] starts a network warm; [`Sessions`] lets peers join, leave and come back; [`run_lookups`] measures
//! lookups against the true closest peers; [`Network::set_partition`] cuts a network in two; [`Adversary`] plays
//! against it.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod address_model;
mod adversary;
mod churn;
mod directory;
mod link;
mod math;
mod message_size;
mod monitor;
mod network;
mod node;
mod outcome;
mod random;
mod rpc;
mod samples;
mod scenario;
mod sessions;
mod setup;
mod stock;
mod table;
mod table_health;
#[cfg(test)]
mod tests;
mod traffic;

pub use address_model::AddressModel;
pub use adversary::{Adversary, Attack};
pub use churn::Churn;
pub use directory::{Directory, NodeIndex, SortedPeers, key_position};
pub use link::{Dialling, Latency, Link};
pub use monitor::{Monitor, Observer, ProgressReport, Unobserved};
pub use network::{Network, NetworkEvent};
pub use node::Node;
pub use outcome::{Check, Measurement, Measurements, Outcome, Plot};
pub use random::Random;
pub use samples::Samples;
pub use scenario::{Params, Scenario, scenarios};
pub use sessions::{SessionChange, Sessions};
pub use setup::{Implementation, LookupPlan, LookupStats, Population, config_with_k, populate, run_lookups};
pub use stock::{StockNode, StockRules};
pub use table::{StockTable, TableModel};
pub use table_health::TableHealth;
pub use traffic::Traffic;
