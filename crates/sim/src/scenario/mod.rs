//! The scenarios: one file each, and one line each in the list below.
//!
//! Knows: the name of a scenario and how to run it. Must not know: what it measures.

mod amino_put;
mod churn;
mod custom;
mod exact;
mod flood;
mod hops;
mod join;
mod live_network;
mod outage;
mod poisoned;
mod records;
mod scale;
mod skademlia;
mod stale;

use crate::{Churn, Latency, Monitor, Observer, Outcome};

/// All scenarios, in the order in which `--list` shows them.
static SCENARIOS: &[Scenario] = &[
    hops::SCENARIO,
    exact::SCENARIO,
    stale::SCENARIO,
    amino_put::SCENARIO,
    skademlia::SCENARIO,
    poisoned::SCENARIO,
    flood::SCENARIO,
    join::SCENARIO,
    churn::SCENARIO,
    records::SCENARIO,
    outage::SCENARIO,
    scale::SCENARIO,
    custom::SCENARIO,
];

/// The scenarios of this crate.
pub fn scenarios() -> &'static [Scenario] {
    SCENARIOS
}

/// A simulation with a name.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Scenario {
    /// Its name.
    pub name: &'static str,
    /// The paper or report whose setup it repeats; empty if there is none.
    pub paper: &'static str,
    /// The quantity that it measures, in one line.
    pub about: &'static str,
    /// The number of nodes unless [`Params::nodes`] says otherwise.
    pub nodes: usize,
    run: fn(&Params, &mut Monitor<'_>) -> Outcome,
}

impl Scenario {
    /// A scenario of your own: its name, what it measures, its number of nodes, and the function that runs it.
    ///
    /// The function gets the parameters with [`Params::nodes`] filled in.
    pub const fn new(
        name: &'static str,
        about: &'static str,
        nodes: usize,
        run: fn(&Params, &mut Monitor<'_>) -> Outcome,
    ) -> Scenario {
        Scenario { name, paper: "", about, nodes, run }
    }

    /// Runs the scenario. When the observer ends it early, the outcome is that of the part that ran.
    pub fn run(&self, params: &Params, observer: &mut dyn Observer) -> Outcome {
        let params = Params { nodes: Some(params.nodes.unwrap_or(self.nodes)), ..params.clone() };
        let mut monitor = Monitor::new(observer);
        let mut outcome = (self.run)(&params, &mut monitor);
        outcome.interrupted |= monitor.stopped();
        outcome
    }
}

/// The parameters of a run. `None` stands for the scenario's own value.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Params {
    /// The number of nodes.
    pub nodes: Option<usize>,
    /// The seed of all random numbers.
    pub seed: u64,
    /// The number of operations to measure; for scenarios that run for a time, its hours.
    pub samples: Option<usize>,
    /// The lengths of sessions; for `custom`, and for `records`, which then runs this model alone.
    pub churn: Option<Churn>,
    /// The share of packets that are lost; only for `custom`.
    pub loss: Option<f64>,
    /// The round trips; only for `custom`.
    pub latency: Option<Latency>,
    /// k; only for `custom`.
    pub k: Option<usize>,
    /// α; only for `custom`.
    pub alpha: Option<usize>,
}

impl Params {
    /// The scenario's own parameters with this seed.
    pub fn new(seed: u64) -> Params {
        Params { seed, ..Params::default() }
    }

    /// The number of nodes, at least 2.
    pub fn size(&self) -> usize {
        self.nodes.unwrap_or(1).max(2)
    }
}
