//! The scenarios: one file each, and one line each in the list below.
//!
//! Knows: how a scenario is named and called. Must not know: what any of them does.

mod amino_put;
mod churn;
mod custom;
mod exact;
mod flood;
mod hops;
mod join;
mod lived;
mod outage;
mod poisoned;
mod records;
mod scale;
mod setup;
mod skademlia;
mod stale;

use super::churn::Churn;
use super::link::Latency;
use super::outcome::Outcome;
use super::progress::{Observer, Progress};

/// Everything that can be run.
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

/// All scenarios.
pub fn scenarios() -> &'static [Scenario] {
    SCENARIOS
}

/// One thing to simulate.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Scenario {
    /// Its name.
    pub name: &'static str,
    /// The paper or report whose setup it repeats.
    pub paper: &'static str,
    /// What it measures, in one line.
    pub about: &'static str,
    /// How many nodes it has unless told otherwise.
    pub nodes: usize,
    run: fn(&Params, &mut Progress<'_>) -> Outcome,
}

impl Scenario {
    /// Runs it. Ends early, with what is known, when the observer says so.
    pub fn run(&self, params: &Params, observer: &mut dyn Observer) -> Outcome {
        let params = Params { nodes: Some(params.nodes.unwrap_or(self.nodes)), ..params.clone() };
        let mut progress = Progress::new(observer);
        let mut outcome = (self.run)(&params, &mut progress);
        outcome.interrupted |= progress.stopped();
        outcome
    }
}

/// How a scenario is to be run. What is `None` is as the scenario has it.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Params {
    /// How many nodes.
    pub nodes: Option<usize>,
    /// The seed of everything that is drawn.
    pub seed: u64,
    /// How many lookups or other operations to measure.
    pub samples: Option<usize>,
    /// How long nodes stay; for `custom`, and for `records`, which then does without its own two models.
    pub churn: Option<Churn>,
    /// The share of packets lost; only for `custom`.
    pub loss: Option<f64>,
    /// How long messages take; only for `custom`.
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

    fn size(&self) -> usize {
        self.nodes.unwrap_or(1).max(2)
    }
}
