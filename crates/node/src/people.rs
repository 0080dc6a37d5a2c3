//! Answers for people, and the progress of a slow query.

use std::fmt::Write as _;
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use kad::core::Progress;
use libp2p_kad_dht as kad;
use serde_json::Value;
use tokio::time::{Instant, sleep_until};

use crate::answer::CommandAnswer;

/// The interval between two lines about a running query; a query that is faster shows none.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// The column that names the row.
const NAME: &str = "";

/// Counts the steps of a query and shows them at intervals.
pub(crate) struct Steps {
    /// The name of the query; `None` to show nothing.
    name: Option<String>,
    due: Instant,
    asked: usize,
    answered: usize,
    failed: usize,
    closest: u32,
}

impl Steps {
    pub(crate) fn new(name: Option<String>) -> Steps {
        Steps { name, due: Instant::now() + PROGRESS_INTERVAL, asked: 0, answered: 0, failed: 0, closest: 0 }
    }

    /// The next update of a query. Shows the progress while it waits.
    pub(crate) async fn next<T>(&mut self, news: &mut (impl Stream<Item = T> + Unpin)) -> Option<T> {
        loop {
            tokio::select! {
                item = news.next() => return item,
                () = sleep_until(self.due) => self.show(),
            }
        }
    }

    pub(crate) fn on(&mut self, step: &Progress) {
        match step {
            Progress::Asked { .. } => self.asked += 1,
            Progress::Answered { shared_bits, .. } => {
                self.answered += 1;
                self.closest = self.closest.max(*shared_bits);
            }
            Progress::Failed { .. } => self.failed += 1,
            _ => {}
        }
    }

    fn show(&mut self) {
        self.due += PROGRESS_INTERVAL;
        let Steps { name, asked, answered, failed, closest, .. } = self;
        if let Some(name) = name {
            eprintln!("  {name}: {asked} asked, {answered} answered, {failed} failed, {closest} bits close to the key");
        }
    }
}

/// An answer as a headline and a table.
pub(crate) fn show(answer: &CommandAnswer) -> String {
    let id = answer.id.as_ref().map(|id| format!("#{id} ")).unwrap_or_default();
    let key = answer.key.as_ref().map(|key| format!(" {key}")).unwrap_or_default();
    let verdict = answer.error.as_ref().map(|error| format!("FAILED: {error} ")).unwrap_or_default();
    let mut text = format!("{id}{}{key}  {verdict}({} ms)\n", answer.cmd, answer.took.as_millis());
    let (rows, fields): (Vec<_>, Vec<_>) = answer.fields.iter().partition(|(_, value)| value.is_object());
    // Objects with the same fields form one table.
    for rows in rows.chunk_by(|(_, one), (_, other)| keys(one).eq(keys(other))) {
        let rows: Vec<_> = rows.iter().copied().map(named).collect();
        let _ =
            writeln!(text, "{}", table(&rows).lines().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n"));
    }
    let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, value) in fields {
        let shown = if *name == "buckets" { buckets(value) } else { field(value) };
        let mut lines = shown.lines();
        let _ = writeln!(text, "  {name:<width$}  {}", lines.next().unwrap_or_default());
        for line in lines {
            let _ = writeln!(text, "  {:<width$}  {line}", "");
        }
    }
    text
}

fn keys(value: &Value) -> impl Iterator<Item = &String> {
    value.as_object().into_iter().flat_map(|fields| fields.keys())
}

/// The routing table: a line for each bucket and for each peer in it.
fn buckets(value: &Value) -> String {
    let mut text = String::new();
    for bucket in value.as_array().into_iter().flatten() {
        let peers = bucket["peers"].as_array().map_or(&[][..], Vec::as_slice);
        let (prefix, capacity, waiting) = (&bucket["prefix"], &bucket["capacity"], &bucket["waiting"]);
        let _ = writeln!(text, "{prefix} bits shared: {} of {capacity}, {waiting} waiting", peers.len());
        for line in table(peers).lines() {
            let _ = writeln!(text, "  {line}");
        }
    }
    text
}

fn field(value: &Value) -> String {
    match value {
        Value::Array(items) if items.is_empty() => "none".to_owned(),
        Value::Array(items) if items.iter().all(Value::is_object) => table(items),
        Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join("\n"),
        _ => cell(value),
    }
}

/// A field that is an object, as a row of a table that begins with its name.
fn named((name, value): &(&str, Value)) -> Value {
    let mut row = value.clone();
    row[NAME] = (*name).into();
    row
}

/// Objects with the same fields as rows below the names of the fields.
fn table(items: &[Value]) -> String {
    let Some(Value::Object(first)) = items.first() else { return String::new() };
    let mut names: Vec<&String> = first.keys().collect();
    names.sort_by_key(|name| !matches!(name.as_str(), NAME | "id" | "key"));
    let mut rows = vec![names.iter().map(|name| name.trim_end_matches("_s").to_owned()).collect::<Vec<_>>()];
    let shown = |item: &Value, name: &str| match &item[name] {
        Value::Number(seconds) if name.ends_with("_s") => age(seconds.as_u64().unwrap_or(u64::MAX)),
        value => cell(value),
    };
    rows.extend(items.iter().map(|item| names.iter().map(|name| shown(item, name)).collect()));
    let width = |column: usize| rows.iter().map(|row: &Vec<String>| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..names.len()).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// A number of seconds in a readable unit.
fn age(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// A value on one line, with control characters escaped.
fn cell(value: &Value) -> String {
    match value {
        Value::String(text) if text.chars().any(char::is_control) => text.escape_debug().to_string(),
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        Value::Array(items) if items.iter().all(Value::is_object) => {
            items.iter().map(|item| cell(&item["id"])).collect::<Vec<_>>().join(" ")
        }
        Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    }
}
