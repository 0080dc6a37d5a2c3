//! A network in a box: thousands of the very same [`core::Dht`](libp2p_kad_dht::core::Dht) in one process, in virtual time,
//! from one seed.
//!
//! Knows: the doors of the core, models of links and sessions, and the published results that are reproduced. Must
//! not know: a clock, a socket, a thread. **The same seed gives the same outcome, byte for byte, on any machine.**
//!
//! [`scenarios`] lists what there is, [`Scenario::run`] runs one. Adding a scenario is a file in `scenario/` and a line
//! in its list. The program `examples/simulate` shows all of it to people.
//!
//! ```text
//! scenario ── sets up, runs and judges ──► Outcome
//!    │
//! network ── one queue of events; nodes behind the doors Input and Output
//!    ├── node: ours · stock (rules of go and of libp2p-kad) · adversary
//!    ├── link: latency, dials, loss            churn: sessions
//!    └── directory: everyone, by number        table: tables from global knowledge    networks: who is where
//! ```

mod adversary;
mod churn;
mod directory;
mod flight;
mod life;
mod link;
mod math;
mod network;
mod networks;
mod node;
mod numbers;
mod outcome;
mod progress;
mod random;
mod scenario;
mod size;
mod stock;
mod table;
#[cfg(test)]
mod tests;
mod traffic;

pub use churn::Churn;
pub use link::Latency;
pub use outcome::{Check, Metric, Metrics, Outcome, Plot};
pub use progress::{Observer, Pulse, Unobserved};
pub use scenario::{Params, Scenario, scenarios};
pub use traffic::Traffic;
