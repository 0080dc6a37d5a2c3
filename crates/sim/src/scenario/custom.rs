//! A network of the user's own making.

use std::num::NonZeroUsize;

use super::super::churn::Churn;
use super::super::link::{Latency, Link};
use super::super::outcome::Outcome;
use super::super::progress::Progress;
use super::churn::live;
use super::lived::Setup;
use super::setup::config;
use super::{Params, Scenario};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "custom",
    paper: "none: sizes k, α and the rest for a network of your own",
    about: "hours (--samples, 6 unless told otherwise) of a network with --nodes --churn --loss --latency --k --alpha",
    nodes: 1_000,
    run,
};

fn run(params: &Params, progress: &mut Progress<'_>) -> Outcome {
    let mut outcome = Outcome::new(SCENARIO.name, params.size(), params.seed);
    let mut config = config(params.k.unwrap_or(20));
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
    progress.stage("custom");
    live(params, &setup, progress, &mut outcome);
    outcome
}
