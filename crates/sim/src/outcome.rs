//! What a simulation found: metrics, curves, and whether it passed.
//!
//! Knows: names and numbers, and their one form in JSON. Must not know: where they come from.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::traffic::Traffic;

/// Metrics by name, in the order of their names.
pub type Metrics = BTreeMap<String, Metric>;

/// One metric.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Metric {
    /// A number; printed with at most four digits after the point.
    Number(f64),
    /// Metrics of its own.
    Group(Metrics),
}

/// One pass line, and whether it was reached.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Check {
    /// What was to be reached, in words.
    pub what: String,
    /// The figure reached.
    pub reached: String,
    /// Whether that is enough.
    pub pass: bool,
}

/// A figure of the report.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Plot {
    /// Its title.
    pub title: String,
    /// What the horizontal axis shows.
    pub x: String,
    /// What the vertical axis shows.
    pub y: String,
    /// The curves: name and points.
    pub curves: Vec<(String, Vec<(f64, f64)>)>,
}

/// What a scenario found.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Outcome {
    /// The scenario's name.
    pub scenario: String,
    /// How many nodes took part.
    pub nodes: usize,
    /// The seed; the same one gives the same outcome.
    pub seed: u64,
    /// What the stock players reached.
    pub stock: Metrics,
    /// What this crate reached.
    pub ours: Metrics,
    /// What is published.
    pub published: Metrics,
    /// The pass lines.
    pub checks: Vec<Check>,
    /// Figures for the report.
    pub plots: Vec<Plot>,
    /// What a reader must know beside the figures.
    pub notes: Vec<String>,
    /// The laws of the simulation that did not hold: none, or nothing above is worth anything.
    pub broken_laws: Vec<String>,
    /// Whether it was ended early.
    pub interrupted: bool,
}

impl Outcome {
    pub(crate) fn new(scenario: &str, nodes: usize, seed: u64) -> Outcome {
        Outcome { scenario: scenario.to_owned(), nodes, seed, ..Outcome::default() }
    }

    /// Whether everything that was to be reached was, the laws hold, and nobody ended it early.
    pub fn pass(&self) -> bool {
        !self.interrupted && self.broken_laws.is_empty() && self.checks.iter().all(|check| check.pass)
    }

    /// One JSON object on one line: `scenario`, `nodes`, `seed`, `stock`, `ours`, `published`, `pass`.
    pub fn to_json(&self) -> String {
        let mut json = String::new();
        let _ = write!(json, "{{\"scenario\":{:?},\"nodes\":{},\"seed\":{}", self.scenario, self.nodes, self.seed);
        for (name, metrics) in [("stock", &self.stock), ("ours", &self.ours), ("published", &self.published)] {
            let _ = write!(json, ",\"{name}\":");
            write_metrics(&mut json, metrics);
        }
        let _ = write!(json, ",\"pass\":{}}}", self.pass());
        json
    }

    pub(crate) fn check(&mut self, what: impl Into<String>, reached: f64, pass: bool) {
        self.checks.push(Check { what: what.into(), reached: number(reached), pass });
    }

    /// Checks that `reached` is within `share` of `published`, for example 0.03 for 3 %.
    pub(crate) fn check_near(&mut self, what: &str, reached: f64, published: f64, share: f64) {
        let pass = (reached - published).abs() <= share * published.abs();
        let what = format!("{what}: {} ± {} %", number(published), number(share * 100.0));
        self.check(what, reached, pass);
    }

    pub(crate) fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    pub(crate) fn plot(&mut self, title: &str, (x, y): (&str, &str), curves: Vec<(String, Vec<(f64, f64)>)>) {
        self.plots.push(Plot { title: title.to_owned(), x: x.to_owned(), y: y.to_owned(), curves });
    }

    pub(crate) fn laws_of(&mut self, player: &str, traffic: &Traffic) {
        self.broken_laws.extend(traffic.broken_laws().into_iter().map(|law| format!("{player}: {law}")));
    }
}

/// A number as it is printed everywhere: at most four digits after the point.
pub(crate) fn number(value: f64) -> String {
    if !value.is_finite() {
        return "null".to_owned();
    }
    let fixed = format!("{value:.4}");
    let short = fixed.trim_end_matches('0').trim_end_matches('.');
    if short == "-0" { "0".to_owned() } else { short.to_owned() }
}

pub(crate) trait Put {
    fn put(&mut self, name: &str, value: f64);
    fn group(&mut self, name: &str) -> &mut Metrics;
}

impl Put for Metrics {
    fn put(&mut self, name: &str, value: f64) {
        self.insert(name.to_owned(), Metric::Number(value));
    }

    fn group(&mut self, name: &str) -> &mut Metrics {
        let entry = self.entry(name.to_owned()).or_insert_with(|| Metric::Group(Metrics::new()));
        if let Metric::Number(_) = entry {
            *entry = Metric::Group(Metrics::new());
        }
        match entry {
            Metric::Group(group) => group,
            Metric::Number(_) => unreachable!("it was made a group above"),
        }
    }
}

fn write_metrics(json: &mut String, metrics: &Metrics) {
    json.push('{');
    for (i, (name, metric)) in metrics.iter().enumerate() {
        let _ = write!(json, "{}{name:?}:", if i == 0 { "" } else { "," });
        match metric {
            Metric::Number(value) => json.push_str(&number(*value)),
            Metric::Group(group) => write_metrics(json, group),
        }
    }
    json.push('}');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_has_the_promised_keys_in_order() {
        let mut outcome = Outcome::new("hops", 25, 7);
        outcome.ours.put("hops", 1.5);
        outcome.ours.group("success").group("0.2").put("8", 0.99994);
        outcome.published.put("hops", f64::NAN);
        assert_eq!(
            outcome.to_json(),
            r#"{"scenario":"hops","nodes":25,"seed":7,"stock":{},"ours":{"hops":1.5,"success":{"0.2":{"8":0.9999}}},"published":{"hops":null},"pass":true}"#
        );
        outcome.check("more", 1.0, false);
        assert!(outcome.to_json().ends_with("\"pass\":false}"));
    }

    #[test]
    fn near_means_within_the_share() {
        let mut outcome = Outcome::new("x", 1, 1);
        outcome.check_near("a", 1.029, 1.0, 0.03);
        outcome.check_near("b", 1.031, 1.0, 0.03);
        assert_eq!(outcome.checks.iter().map(|c| c.pass).collect::<Vec<_>>(), [true, false]);
        assert_eq!([number(-0.00001), number(33.5), number(12.0)], ["0", "33.5", "12"]);
    }
}
