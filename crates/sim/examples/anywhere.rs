//! A scenario of a hundred nodes that needs a processor and memory, and nothing else: no clock, no file, no thread, no
//! source of randomness.
//!
//! ```text
//! cargo run -p libp2p-kad-dht-sim --no-default-features --example anywhere
//! ```
//!
//! Built for `wasm32-unknown-unknown` it is a module without a single import, which runs in a page or in node
//! (`.ci/wasm.sh` does). Ends with 0 if all checks of the scenario passed, else with 1.

use std::process::ExitCode;

use libp2p_kad_dht_sim::{Params, Unobserved, scenarios};

fn main() -> ExitCode {
    let Some(exact) = scenarios().iter().find(|scenario| scenario.name == "exact") else { return ExitCode::FAILURE };
    let mut params = Params::new(7);
    params.nodes = Some(100);
    let outcome = exact.run(&params, &mut Unobserved);
    println!("{}", outcome.to_json());
    if outcome.pass() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
