//! The spans of queries and requests that a subscriber sees.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::DefaultGuard;
use tracing::{Level, Subscriber};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;

use super::Network;
use super::network::{DELAY, peer};
use crate::core::io::{Input, Operation, QueryOptions};
use crate::core::stats::{QueryEnd, QueryKind};
use crate::core::store::StoreExt as _;
use crate::core::{DhtConfig, Key, Kind, RecordKey};

/// A span as it was when it closed.
#[derive(Clone, Debug, Default)]
struct Seen {
    name: &'static str,
    parent: Option<u64>,
    fields: BTreeMap<&'static str, String>,
    closed: bool,
}

impl Seen {
    fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }
}

impl Visit for Seen {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.fields.insert(field.name(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.fields.insert(field.name(), format!("{value:?}"));
    }
}

#[derive(Clone, Default)]
struct Collector(Arc<Mutex<BTreeMap<u64, Seen>>>);

impl Collector {
    fn take(&self) -> BTreeMap<u64, Seen> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Collector {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, _: Context<'_, S>) {
        let mut seen = Seen { name: attributes.metadata().name(), ..Seen::default() };
        seen.parent = attributes.parent().map(Id::into_u64);
        attributes.record(&mut seen);
        self.0.lock().unwrap().insert(id.into_u64(), seen);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, _: Context<'_, S>) {
        if let Some(seen) = self.0.lock().unwrap().get_mut(&id.into_u64()) {
            values.record(seen);
        }
    }

    fn on_close(&self, id: Id, _: Context<'_, S>) {
        if let Some(seen) = self.0.lock().unwrap().get_mut(&id.into_u64()) {
            seen.closed = true;
        }
    }
}

fn get(key: &'static str) -> Operation {
    Operation::Get { key: RecordKey::from(key) }
}

/// Two nodes that know each other, and a value that the second holds.
fn pair() -> Network {
    let mut config = DhtConfig::default();
    config.maintenance.refresh_interval = None;
    let mut network = Network::joined(2, config);
    let put = Operation::Put { key: RecordKey::from("/app/x"), value: Bytes::from_static(b"hello") };
    network.run(1, put).unwrap();
    network.nodes[0].store().remove(&RecordKey::from("/app/x")).unwrap();
    network
}

/// Runs one test at a time: while another thread begins to collect, `tracing` may miss that this one collects too.
static ALONE: Mutex<()> = Mutex::new(());

/// Collects this thread's spans from now on.
fn watched() -> (Collector, (DefaultGuard, MutexGuard<'static, ()>)) {
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let collector = Collector::default();
    let subscriber = tracing_subscriber::registry().with(collector.clone()).with(LevelFilter::from_level(Level::DEBUG));
    let guard = tracing::subscriber::set_default(subscriber);
    // While another thread uses a span for the first time, `tracing` may assume that no subscriber is interested.
    while !["query", "request"].iter().all(|name| used_spans(&collector).contains(name)) {
        std::thread::yield_now();
        tracing::callsite::rebuild_interest_cache();
    }
    (collector, (guard, alone))
}

/// The names of the spans that the collector sees of a put.
fn used_spans(collector: &Collector) -> Vec<&'static str> {
    pair();
    collector.take().values().map(|seen| seen.name).collect()
}

#[test]
fn a_get_is_a_span_and_its_request_one_below_it() {
    let mut network = pair();
    let (collector, _guard) = watched();
    let id = network.start(0, get("/app/x"), QueryOptions::default());
    let running = collector.take();
    let (span, query) = running.iter().find(|(_, seen)| seen.name == "query").expect("a span of the query");
    assert_eq!((query.field("query"), query.field("operation")), (&*id.to_string(), "get"));
    assert_eq!(query.field("key"), Key::hash(b"/app/x").to_string());
    assert!(query.field("outcome").is_empty() && !query.closed, "it runs: {query:?}");
    let requests: Vec<_> = running.values().filter(|seen| seen.name == "request").collect();
    assert_eq!(requests.len(), 1, "{running:?}");
    assert_eq!(requests[0].parent, Some(*span), "below the query's");
    assert_eq!((requests[0].field("query"), requests[0].field("kind")), (&*id.to_string(), "GetValue"));
    assert_eq!(requests[0].field("peer"), peer(1).to_string());
    assert!(requests[0].field("request").starts_with('r'), "{:?}", requests[0]);

    // Once more, from its start to its end.
    network.run(0, get("/app/y")).unwrap_err();
    network.nodes[0].store().remove(&RecordKey::from("/app/x")).unwrap();
    collector.take();
    network.run(0, get("/app/x")).unwrap();
    let seen = collector.take();
    let query = seen.values().find(|seen| seen.field("operation") == "get").expect("a span of the query");
    assert!(query.closed, "{query:?}");
    assert_eq!((query.field("outcome"), query.field("took")), ("succeeded", &*format!("{:?}", 2 * DELAY)));
    let asked = |seen: &&Seen| seen.name == "request" && seen.field("query") == query.field("query");
    let request = seen.values().find(asked).expect("a span of its request");
    assert!(request.closed, "{request:?}");
    assert_eq!((request.field("outcome"), request.field("took")), ("answered", &*format!("{:?}", 2 * DELAY)));
}

#[test]
fn every_end_of_a_query_or_request_ends_its_span_and_is_counted() {
    let mut network = pair();
    // Both have found that there is no other node.
    network.advance(std::time::Duration::from_secs(30));
    let (collector, _guard) = watched();
    network.silent.insert(1);

    let cancelled = network.start(0, get("/app/y"), QueryOptions::default());
    network.nodes[0].cancel(cancelled);
    network.run(0, get("/app/z")).unwrap_err();
    network.run(0, get("")).unwrap_err();
    network.input(0, Input::Timeout);
    let seen = collector.take();
    let ends: Vec<_> = seen.values().map(|seen| (seen.name, seen.field("outcome"), seen.closed)).collect();
    assert!(ends.iter().all(|(_, outcome, closed)| !outcome.is_empty() && *closed), "{seen:?}");
    for expected in [
        ("query", "cancelled", true),
        ("request", "cancelled", true),
        ("query", "no_answer", true),
        ("request", "timed_out", true),
    ] {
        assert!(ends.contains(&expected), "{expected:?} is missing in {ends:?}");
    }

    let stats = network.nodes[0].stats();
    let count = |end: QueryEnd| {
        let found = stats.queries.iter().find(|times| (times.kind, times.end) == (QueryKind::Get, end));
        found.map_or(0, |times| times.took.count())
    };
    assert_eq!((count(QueryEnd::Cancelled), count(QueryEnd::NoAnswer), count(QueryEnd::Refused)), (1, 1, 1));
    assert_eq!(stats.failures.iter().sum::<u64>(), stats.failed.iter().sum::<u64>());
    assert_eq!(stats.failures[2], stats.failed[Kind::GetValue as usize] + stats.failed[Kind::FindNode as usize]);
    let answered: u64 = stats.round_trips.iter().map(|kind| kind.took.count()).sum();
    assert_eq!(answered, stats.answered.iter().sum::<u64>());
    assert!(stats.round_trips.iter().all(|kind| kind.took.counts[4] == kind.took.count()), "each took 100 ms");
}
