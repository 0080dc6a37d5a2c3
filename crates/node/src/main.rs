//! A whole DHT node on TCP and QUIC, with identify and ping, for people and for scripts.
//!
//! ```text
//! kad-node                                                     # for people: type `help`
//! kad-node --json                                              # for scripts: one JSON object a line
//! kad-node --bootstrap /ip4/127.0.0.1/tcp/4001/p2p/12D3KooW...
//! kad-node --help                                              # all flags
//! ```
//!
//! It reads one command per line from standard input, runs commands side by side, and answers each when it is done. A
//! line may begin with `#ID `, which its answer repeats. With `--json` only JSON objects go to standard output: first
//! `{"event":"ready",...}` with the node's addresses, then one answer for each command, in the order in which they are
//! done. Events that answer no command, such as a failed join, go to standard error, with `--json` as objects too; so
//! do logs, as `RUST_LOG` says. At the end of the input the node finishes all commands and exits; `quit` and Ctrl-C end
//! it at once.

mod answer;
mod args;
mod commands;
mod console;
mod fields;
mod flags;
mod home;
mod input;
mod join;
mod parse;
mod people;
mod serve;
mod swarm;

use std::process::ExitCode;

use crate::args::Args;

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::from_command_line();
    log_to_stderr();
    match run(args).await {
        Ok(()) => leave(),
        Err(why) => {
            eprintln!("error: {why}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> Result<(), Box<dyn std::error::Error>> {
    let node = swarm::start(&args).await?;
    console::run(node, &args).await?;
    Ok(())
}

/// Exits without waiting for the thread that may still be reading standard input.
fn leave() -> ! {
    std::process::exit(0)
}

fn log_to_stderr() {
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
}
