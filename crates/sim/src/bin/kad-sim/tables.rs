//! The tables on the terminal.

use libp2p_kad_dht_sim::{Measurement, Measurements, Outcome, Scenario};

/// The scenarios with their papers.
pub(crate) fn print_list(scenarios: &[Scenario]) {
    for scenario in scenarios {
        println!("{:<12} {:>7} nodes  {}\n{:<28}{}", scenario.name, scenario.nodes, scenario.about, "", scenario.paper);
    }
}

/// The metrics side by side, the conditions, and the notes.
pub(crate) fn print_outcome(outcome: &Outcome) {
    println!("{}: {} nodes, seed {}", outcome.scenario, outcome.nodes, outcome.seed);
    println!("\n{:<32} {:>12} {:>12} {:>12}", "metric", "stock", "ours", "published");
    for [name, stock, ours, published] in rows(outcome) {
        println!("{name:<32} {stock:>12} {ours:>12} {published:>12}");
    }
    if !outcome.checks.is_empty() {
        println!();
    }
    for check in &outcome.checks {
        println!("{} {}: {}", if check.pass { "ok  " } else { "MISS" }, check.what, check.reached);
    }
    for invariant in &outcome.broken_invariants {
        println!("BROKEN INVARIANT {invariant}");
    }
    for note in &outcome.notes {
        println!("note: {note}");
    }
    println!("\n{}", if outcome.pass() { "pass" } else { "no pass" });
}

/// A row for each metric: its name, the values of the stock nodes and of ours, and the published value.
pub(crate) fn rows(outcome: &Outcome) -> Vec<[String; 4]> {
    let mut rows: Vec<[String; 4]> = Vec::new();
    for (column, metrics) in [&outcome.stock, &outcome.ours, &outcome.published].into_iter().enumerate() {
        for (name, value) in flat("", metrics) {
            let at = rows.iter().position(|row| row[0] == name).unwrap_or_else(|| {
                rows.push([name, String::new(), String::new(), String::new()]);
                rows.len() - 1
            });
            rows[at][column + 1] = value;
        }
    }
    rows
}

fn flat(prefix: &str, metrics: &Measurements) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for (name, metric) in metrics.iter() {
        match metric {
            Measurement::Number(value) => all.push((format!("{prefix}{name}"), format!("{value:.3}"))),
            Measurement::Group(group) => all.extend(flat(&format!("{prefix}{name}."), group)),
            _ => {}
        }
    }
    all
}
