//! This crate beside `libp2p-kad`, go-libp2p-kad-dht and the floor, in one run.
//!
//! `cargo bench -p libp2p-kad-dht-versus --bench versus -- [--quick] [--json] [--go PROGRAM] [--growth]`. Each workload runs in a
//! process of its own for each implementation, all in rotation, in several rounds; the ratios of each round are
//! compared, and their median and spread are shown. A ratio above one favours this crate. The memory stores have a
//! benchmark of their own, `cargo bench --bench stores`.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a benchmark reads the clock and starts threads"
)]
#![expect(clippy::expect_used, reason = "a benchmark that fails has no figures to give")]

mod client;
mod floor;
mod growth;
mod lookups;
mod measure;
mod network;
mod node;
mod ours;
mod parts;
mod random;
mod rows;
mod serving;
mod theirs;
mod transport;
mod waiting;
mod wire;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use clap::Parser;
use serde_json::{Map, Value, json};

use crate::lookups::Part;
use crate::measure::Figures;
use crate::node::Adapter;
use crate::ours::{OurTable, Ours};
use crate::rows::{Beside, ROWS, Row, Workload};
use crate::theirs::{TheirTable, Theirs};
use crate::transport::Kind;

#[derive(Debug, Parser)]
struct Args {
    /// 50 nodes and one round for networks, in less than six minutes; the full run counts.
    #[arg(long)]
    quick: bool,
    /// Instead of the rows: how cost grows with lookups, connections, peers and records, from 1 to 10,000.
    #[arg(long)]
    growth: bool,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    /// The peer in Go, built in `benches/versus/go` with `go build`; without it its rows are left out.
    #[arg(long)]
    go: Option<PathBuf>,
    /// Only rows whose names begin with one of these.
    #[arg(long)]
    only: Vec<String>,
    /// Rounds, instead of 5; with `--quick`, of 3, or 1 for networks.
    #[arg(long)]
    rounds: Option<usize>,
    /// Run one workload and print its figures.
    #[arg(long, hide = true, num_args = 2)]
    child: Vec<String>,
    #[arg(long, hide = true, default_value_t = 1)]
    seed: u64,
    /// Cargo passes it.
    #[arg(long, hide = true)]
    bench: bool,
}

impl Args {
    fn wants(&self, row: &Row) -> bool {
        (self.only.is_empty() || self.only.iter().any(|only| row.name.starts_with(only)))
            && (row.workload != Workload::NetworkTcp || self.go.is_some())
    }

    fn rounds(&self, workload: Workload) -> usize {
        let networks = matches!(workload, Workload::Network | Workload::Silent | Workload::NetworkTcp);
        self.rounds.unwrap_or(match self.quick {
            true if networks => 1,
            true => 3,
            false => 5,
        })
    }

    /// The names of the implementations that run a workload.
    fn sides(&self, workload: Workload) -> &'static [&'static str] {
        match workload {
            Workload::ServeTcp => &["floor", "ours"],
            Workload::NetworkTcp => &["go", "ours"],
            _ => &["theirs", "ours"],
        }
    }
}

fn main() -> io::Result<()> {
    let args = Args::parse();
    if let [workload, side] = args.child.as_slice() {
        child(&args, workload, side);
        return Ok(());
    }
    if args.growth {
        growth::run::<Ours, OurTable>(true).print();
        growth::run::<Theirs, TheirTable>(false).print();
        return Ok(());
    }
    let mut ratios = Map::new();
    if !args.json {
        println!("ours {}\nlibp2p-kad {}", Ours::settings(), Theirs::settings());
        let left_out = ROWS.iter().filter(|row| !args.wants(row)).map(|row| row.name).collect::<Vec<_>>().join(", ");
        println!("left out: {}", if left_out.is_empty() { "nothing" } else { &left_out });
    }
    for workload in <Workload as clap::ValueEnum>::value_variants() {
        let rows: Vec<&Row> = ROWS.iter().filter(|row| row.workload == *workload && args.wants(row)).collect();
        if rows.is_empty() {
            continue;
        }
        let rounds: io::Result<Vec<Round>> =
            (0..args.rounds(*workload)).map(|round| run_round(&args, *workload, round)).collect();
        let rounds = rounds?;
        for row in rows {
            let compared = compare(row, &rounds);
            if !args.json {
                println!("{}", compared.line(row));
            }
            ratios.insert(row.name.to_owned(), compared.json(row));
        }
    }
    if args.json {
        println!("{}", json!({ "ratios": ratios }));
    }
    Ok(())
}

/// The figures of each side.
type Round = BTreeMap<&'static str, Value>;

/// Runs a workload once for each implementation. The first one changes from round to round.
fn run_round(args: &Args, workload: Workload, round: usize) -> io::Result<Round> {
    let mut sides = args.sides(workload).to_vec();
    if round % 2 == 1 {
        sides.reverse();
    }
    sides.into_iter().map(|side| Ok((side, run_side(args, workload, side, round)?))).collect()
}

fn run_side(args: &Args, workload: Workload, side: &str, round: usize) -> io::Result<Value> {
    if side == "go" {
        return go(args);
    }
    let workload = clap::ValueEnum::to_possible_value(&workload).expect("all have names");
    let mut child = Command::new(std::env::current_exe()?);
    child.args(["--child", workload.get_name(), side, "--seed", &(round + 1).to_string()]);
    if args.quick {
        child.arg("--quick");
    }
    let output = child.stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(io::Error::other(format!("{} of {side}: {}", workload.get_name(), output.status)));
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// The work and the output of one process.
fn child(args: &Args, workload: &str, side: &str) {
    let workload = <Workload as clap::ValueEnum>::from_str(workload, false).expect("a workload");
    match side {
        "ours" => figures::<Ours, OurTable>(args, workload),
        "theirs" => figures::<Theirs, TheirTable>(args, workload),
        _ => serving::floor(Kind::Tcp, requests(args)),
    }
    .print();
}

fn requests(args: &Args) -> usize {
    if args.quick { 5_000 } else { 20_000 }
}

fn figures<A: Adapter, T: parts::Table>(args: &Args, workload: Workload) -> Figures {
    let (nodes, burst) = if args.quick { (50, 500) } else { (200, 2_000) };
    let living = Part::Living { burst };
    match workload {
        Workload::Parts => parts::run::<T>(args.seed),
        Workload::Waiting => waiting::run::<A>(),
        Workload::ServeMemory => serving::run::<A>(Kind::Memory, requests(args)),
        Workload::ServeTcp => serving::run::<A>(Kind::Tcp, requests(args)),
        Workload::Rpc => lookups::run::<A>(2, Kind::Tcp, args.seed, Part::Rpc),
        Workload::Network => lookups::run::<A>(nodes, Kind::Memory, args.seed, living),
        Workload::Silent => lookups::run::<A>(nodes, Kind::Memory, args.seed, Part::Silent),
        Workload::NetworkTcp => lookups::run::<A>(nodes.min(100), Kind::Tcp, args.seed, living),
    }
}

/// The figures of the peer in Go, which prints a line for each part, under the names used here.
fn go(args: &Args) -> io::Result<Value> {
    let program = args.go.as_ref().ok_or_else(|| io::Error::other("--go is missing"))?;
    let nodes = if args.quick { "50" } else { "100" };
    let output = Command::new(program).args(["net", "-n", nodes, "-ops", "200"]).stderr(Stdio::inherit()).output()?;
    let lines = output.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let mut figures = Map::new();
    for line in lines {
        let line: Value = serde_json::from_slice(line)?;
        let number = |name: &str| line[name].as_f64().unwrap_or(f64::NAN);
        let mut add = |name: &str, figure: f64| figures.insert(name.to_owned(), json!(figure));
        match line["workload"].as_str().unwrap_or_default() {
            "bootstrap" => {
                add("join", number("cpu_s"));
                add("fresh", number("rss_fresh") / 1024.0);
            }
            "lookup-seq" => {
                add("latency_p50", number("p50_us") / 1e3);
                add("cpu", number("cpu_ms_per_op"));
            }
            "lookup-burst2000" => {
                add("burst", number("wall_s") * 1e3);
                add("burst_recall", number("recall"));
            }
            "put" => _ = add("put", number("p50_us") / 1e3),
            "get" => _ = add("get_end", number("p50_us") / 1e3),
            "provide" => _ = add("provide", number("p50_us") / 1e3),
            _ => {}
        }
    }
    Ok(Value::Object(figures))
}

/// A row's medians over all rounds.
struct Compared {
    ratio: f64,
    least: f64,
    most: f64,
    ours: f64,
    other: Option<f64>,
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn compare(row: &Row, rounds: &[Round]) -> Compared {
    let of = |side: &str| -> Vec<f64> {
        rounds
            .iter()
            .map(|round| round.get(side).and_then(|side| side[row.figure].as_f64()).unwrap_or(f64::NAN))
            .collect()
    };
    let mut ours = of("ours");
    let other = match row.beside {
        Beside::Theirs => Some("theirs"),
        Beside::Floor => Some("floor"),
        Beside::Go => Some("go"),
        Beside::Nothing => None,
    };
    let mut other = other.map(of);
    let mut ratios: Vec<f64> = match &other {
        Some(other) => other.iter().zip(&ours).map(|(other, ours)| other / ours).collect(),
        None => ours.clone(),
    };
    let ratio = median(&mut ratios);
    let (least, most) = (ratios[0], ratios[ratios.len() - 1]);
    Compared { ratio, least, most, ours: median(&mut ours), other: other.as_mut().map(|other| median(other)) }
}

impl Compared {
    fn line(&self, row: &Row) -> String {
        let verdict = if self.ratio >= row.bar { "reached" } else { "missed" };
        let name = match row.beside {
            Beside::Theirs => "libp2p-kad",
            Beside::Floor => "the floor",
            Beside::Go => "go",
            Beside::Nothing => "",
        };
        let other = self.other.map(|other| format!(", {name} {other:.3} {}", row.unit)).unwrap_or_default();
        format!(
            "{:20} {:8.2} ({:.2}–{:.2}), bar {}: {verdict}; ours {:.3} {}{other}",
            row.name, self.ratio, self.least, self.most, row.bar, self.ours, row.unit
        )
    }

    fn json(&self, row: &Row) -> Value {
        let at = |beside| if row.beside == beside { json!(self.other) } else { Value::Null };
        json!({
            "ratio": self.ratio, "least": self.least, "most": self.most, "bar": row.bar, "unit": row.unit,
            "ours": self.ours, "theirs": at(Beside::Theirs), "floor": at(Beside::Floor), "go": at(Beside::Go),
        })
    }
}
