//! A network in a box: runs a scenario of `libp2p_kad_dht_sim` and shows what came out.
//!
//! ```text
//! cargo run --release -p libp2p-kad-dht-sim -- --list
//! cargo run --release -p libp2p-kad-dht-sim -- exact --seed 7
//! cargo run --release -p libp2p-kad-dht-sim -- custom --nodes 10000 --churn 1h --loss 0.01 --report r.html
//! ```

mod listener;
mod page;
mod parse;
mod tables;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use libp2p_kad_dht_sim::{Churn, Latency, Params, scenarios};

use listener::Listener;

/// Runs a whole DHT network in virtual time, from one seed.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Which scenario to run; `--list` shows them.
    scenario: Option<String>,
    /// Lists the scenarios with the papers that they repeat.
    #[arg(long)]
    list: bool,
    /// How many nodes. Default: as in the paper.
    #[arg(long)]
    nodes: Option<usize>,
    /// The seed: the same one gives the same result.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many operations to measure.
    #[arg(long)]
    samples: Option<usize>,
    /// Prints one JSON object instead of tables.
    #[arg(long)]
    json: bool,
    /// Writes a page with tables and plots.
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,
    /// Sessions of nodes in `custom` and `records`: none, ipfs-2022, kad, or a mean such as 90s, 30m, 1h.
    #[arg(long, value_parser = parse::churn)]
    churn: Option<Churn>,
    /// The share of packets lost in `custom`, from 0 to below 1.
    #[arg(long, value_parser = parse::share)]
    loss: Option<f64>,
    /// Round trips in `custom`: king-ln, geo-6, or a constant such as 100ms.
    #[arg(long, value_parser = parse::latency)]
    latency: Option<Latency>,
    /// k in `custom`.
    #[arg(long)]
    k: Option<usize>,
    /// α in `custom`.
    #[arg(long)]
    alpha: Option<usize>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.list {
        tables::print_list(scenarios());
        return ExitCode::SUCCESS;
    }
    let Some(name) = &arguments.scenario else {
        eprintln!("name a scenario, or see --list and --help");
        return ExitCode::from(2);
    };
    let Some(scenario) = scenarios().iter().find(|scenario| scenario.name == name) else {
        eprintln!("there is no scenario {name:?}; --list shows them");
        return ExitCode::from(2);
    };
    let mut params = Params::new(arguments.seed);
    params.nodes = arguments.nodes;
    params.samples = arguments.samples;
    params.churn = arguments.churn;
    params.loss = arguments.loss;
    params.latency = arguments.latency;
    params.k = arguments.k;
    params.alpha = arguments.alpha;
    let mut listener = Listener::new();
    let outcome = scenario.run(&params, &mut listener);
    listener.finish();
    if arguments.json {
        println!("{}", outcome.to_json());
    } else {
        tables::print_outcome(&outcome);
    }
    if let Some(path) = &arguments.report
        && let Err(error) = page::make(scenario, &outcome).and_then(|html| Ok(std::fs::write(path, html)?))
    {
        eprintln!("cannot write {}: {error}", path.display());
        return ExitCode::FAILURE;
    }
    if outcome.pass() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
