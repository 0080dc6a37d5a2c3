//! `kad-sim`: runs a scenario of `libp2p_kad_dht_sim` and shows its outcome.
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

/// Simulates a whole DHT network in virtual time, from one seed
#[derive(Parser)]
#[command(name = "kad-sim", version)]
struct Arguments {
    /// Name of the scenario; `--list` shows all
    scenario: Option<String>,
    /// List the scenarios and the papers that they repeat
    #[arg(long)]
    list: bool,
    /// Number of nodes [default: that of the scenario]
    #[arg(long)]
    nodes: Option<usize>,
    /// Seed of all random numbers: the same seed gives the same outcome
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Number of operations to measure, or hours to run [default: that of the scenario]
    #[arg(long)]
    samples: Option<usize>,
    /// Print one JSON object instead of tables
    #[arg(long)]
    json: bool,
    /// Write a page with tables and plots
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,
    /// Sessions of nodes in `custom` and `records`: none, ipfs-2022, kad, or a mean such as 90s, 30m, 1h
    #[arg(long, value_parser = parse::churn)]
    churn: Option<Churn>,
    /// Share of packets that are lost in `custom`, from 0 to below 1
    #[arg(long, value_parser = parse::share)]
    loss: Option<f64>,
    /// Round trips in `custom`: king-ln, geo-6, or a constant such as 100ms
    #[arg(long, value_parser = parse::latency)]
    latency: Option<Latency>,
    /// k in `custom`
    #[arg(long)]
    k: Option<usize>,
    /// α in `custom`
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
        eprintln!("no scenario given; see --list and --help");
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
