//! A network with the size, links and sessions of the command line.

use std::num::NonZeroUsize;

use super::churn::run_hours;
use super::live_network::Setup;
use super::{Params, Scenario};
use crate::{Churn, Latency, Link, Monitor, Outcome, config_with_k};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "custom",
    paper: "none: for the choice of k, α and the rest for a network of your own",
    about: "hours (--samples, 6 unless told otherwise) of a network with --nodes --churn --loss --latency --k --alpha",
    nodes: 1_000,
    run,
};

fn run(params: &Params, monitor: &mut Monitor<'_>) -> Outcome {
    let mut outcome = Outcome::new(SCENARIO.name, params.size(), params.seed);
    let mut config = config_with_k(params.k.unwrap_or(20));
    if let Some(alpha) = params.alpha.and_then(NonZeroUsize::new) {
        config.lookup.parallelism = alpha;
    }
    let mut link = Link::public(params.latency.unwrap_or(Latency::Geo6));
    link.loss = params.loss.unwrap_or(0.0);
    let setup = Setup {
        churn: params.churn.unwrap_or(Churn::None),
        link,
        config,
        hours: params.samples.unwrap_or(6) as u64,
        clients: 0.0,
    };
    monitor.stage("custom");
    run_hours(params, &setup, monitor, &mut outcome);
    outcome
}
