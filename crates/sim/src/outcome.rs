//! The outcome of a run: metrics, curves, and whether it passed.
//!
//! Knows: names and numbers, and their form in JSON. Must not know: their meaning.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::traffic::Traffic;

/// Measurements by name, in the order of their names.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Measurements(BTreeMap<String, Measurement>);

/// One metric.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Measurement {
    /// A number; printed with at most four digits after the point.
    Number(f64),
    /// More metrics.
    Group(Measurements),
}

/// A condition that a run must meet to pass.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Check {
    /// The condition in words.
    pub what: String,
    /// The figure that the run reached.
    pub reached: String,
    /// Whether the condition is met.
    pub pass: bool,
}

/// A figure of the HTML report.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Plot {
    /// Its title.
    pub title: String,
    /// The label of the horizontal axis.
    pub x: String,
    /// The label of the vertical axis.
    pub y: String,
    /// The curves: a name and points each.
    pub curves: Vec<(String, Vec<(f64, f64)>)>,
}

/// The outcome of a run.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Outcome {
    /// The scenario's name.
    pub scenario: String,
    /// The number of nodes.
    pub nodes: usize,
    /// The seed; the same one gives the same outcome.
    pub seed: u64,
    /// Measurements of the stock nodes.
    pub stock: Measurements,
    /// Measurements of our own nodes.
    pub ours: Measurements,
    /// Published figures for the same metrics.
    pub published: Measurements,
    /// The conditions that the run must meet to pass.
    pub checks: Vec<Check>,
    /// Figures for the HTML report.
    pub plots: Vec<Plot>,
    /// Explanations for the reader.
    pub notes: Vec<String>,
    /// Invariants of the simulator that did not hold. With any of them the figures mean nothing.
    pub broken_invariants: Vec<String>,
    /// Whether the observer ended the run early.
    pub interrupted: bool,
}

impl Outcome {
    /// An empty outcome of this scenario.
    pub fn new(scenario: &str, nodes: usize, seed: u64) -> Outcome {
        Outcome { scenario: scenario.to_owned(), nodes, seed, ..Outcome::default() }
    }

    /// Whether every condition is met, every invariant holds, and the run was not ended early.
    pub fn pass(&self) -> bool {
        !self.interrupted && self.broken_invariants.is_empty() && self.checks.iter().all(|check| check.pass)
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

    /// Adds a condition: its words, the figure that the run reached, and whether that meets it.
    pub fn check(&mut self, what: impl Into<String>, reached: f64, pass: bool) {
        self.checks.push(Check { what: what.into(), reached: number(reached), pass });
    }

    /// Adds the condition that `reached` is within `share` of `published`, for example 0.03 for 3 %.
    pub fn check_near(&mut self, what: &str, reached: f64, published: f64, share: f64) {
        let pass = (reached - published).abs() <= share * published.abs();
        let what = format!("{what}: {} ± {} %", number(published), number(share * 100.0));
        self.check(what, reached, pass);
    }

    /// Adds an explanation for the reader.
    pub fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    /// Adds a figure: its title, the labels of its axes, and its curves.
    pub fn plot(&mut self, title: &str, (x, y): (&str, &str), curves: Vec<(String, Vec<(f64, f64)>)>) {
        self.plots.push(Plot { title: title.to_owned(), x: x.to_owned(), y: y.to_owned(), curves });
    }

    /// Records the invariants that do not hold for a network; `label` says which network it is.
    pub fn check_invariants(&mut self, label: &str, traffic: &Traffic) {
        self.broken_invariants
            .extend(traffic.broken_invariants().into_iter().map(|invariant| format!("{label}: {invariant}")));
    }
}

/// A number as JSON and conditions print it: at most four digits after the point.
pub(crate) fn number(value: f64) -> String {
    if !value.is_finite() {
        return "null".to_owned();
    }
    let fixed = format!("{value:.4}");
    let short = fixed.trim_end_matches('0').trim_end_matches('.');
    if short == "-0" { "0".to_owned() } else { short.to_owned() }
}

impl Measurements {
    /// The metric with this name.
    pub fn get(&self, name: &str) -> Option<&Measurement> {
        self.0.get(name)
    }

    /// All metrics in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Measurement)> {
        self.0.iter().map(|(name, metric)| (name.as_str(), metric))
    }

    /// Sets a number.
    pub fn put(&mut self, name: &str, value: f64) {
        self.0.insert(name.to_owned(), Measurement::Number(value));
    }

    /// The group with this name, added if there is none; it replaces a number with this name.
    pub fn group(&mut self, name: &str) -> &mut Measurements {
        let entry = self.0.entry(name.to_owned()).or_insert_with(|| Measurement::Group(Measurements::default()));
        if let Measurement::Number(_) = entry {
            *entry = Measurement::Group(Measurements::default());
        }
        match entry {
            Measurement::Group(group) => group,
            Measurement::Number(_) => unreachable!("it was made a group above"),
        }
    }
}

fn write_metrics(json: &mut String, metrics: &Measurements) {
    json.push('{');
    for (i, (name, metric)) in metrics.iter().enumerate() {
        let _ = write!(json, "{}{name:?}:", if i == 0 { "" } else { "," });
        match metric {
            Measurement::Number(value) => json.push_str(&number(*value)),
            Measurement::Group(group) => write_metrics(json, group),
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
