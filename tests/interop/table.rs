//! The operations between the implementations, and their results.

use std::collections::BTreeMap;
use std::fmt::Debug;

#[derive(Default)]
pub(crate) struct Table {
    rows: BTreeMap<(&'static str, &'static str), Row>,
    faults: Vec<String>,
}

#[derive(Default)]
struct Row {
    tried: usize,
    went_well: usize,
    note: String,
}

impl Table {
    /// `direction` names the two implementations.
    pub(crate) fn note(&mut self, what: &'static str, direction: &'static str, ok: bool, details: impl Debug) {
        let row = self.rows.entry((what, direction)).or_default();
        row.tried += 1;
        row.went_well += usize::from(ok);
        if !ok {
            self.faults.push(format!("{what}, {direction}: {details:?}"));
        }
    }

    pub(crate) fn remark(&mut self, what: &'static str, direction: &'static str, note: String) {
        self.rows.entry((what, direction)).or_default().note = note;
    }

    /// Prints the table; fails if an operation failed.
    pub(crate) fn conclude(self, title: &str) {
        println!("\n{title}\n{:<24} {:<28} {:>6} {:>6}", "what", "direction", "tried", "ok");
        for ((what, direction), row) in &self.rows {
            println!("{what:<24} {direction:<28} {:>6} {:>6}  {}", row.tried, row.went_well, row.note);
        }
        assert!(self.faults.is_empty(), "{:#?}", self.faults);
        assert!(self.rows.values().all(|row| row.tried > 0));
    }
}
