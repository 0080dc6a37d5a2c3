//! All metrics: name, meaning, and where each is read from.
//!
//! Knows: names and labels after the OpenMetrics conventions. Must not know: any text format. The encoder adds
//! `_total` to counters, `_info` to infos and the unit's name. Who adds a metric here explains it in `docs/metrics.md`
//! and, if people should see it, shows it in `docs/grafana/dashboard.json`; tests check both.

use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

use super::Published;
use crate::core::stats::{DIAL_FAILURES, Durations};
use crate::core::{Kind, Mode, RequestError};

/// One number, or one histogram.
pub(super) enum Value<'a> {
    Count(u64),
    Level(u64),
    Times(&'a Durations),
    /// All that there is to tell are its labels.
    Info,
}

/// Takes the samples of a metric, each with its labels.
pub(super) type Take<'a> = &'a mut dyn FnMut(&[(&str, &str)], Value<'_>);

pub(super) struct Metric {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) kind: MetricType,
    pub(super) unit: Option<Unit>,
    pub(super) read: Read,
}

/// How a metric is read.
pub(super) enum Read {
    /// One number without labels, which only grows.
    Count(fn(&Published) -> u64),
    /// One number without labels, as it is now.
    Level(fn(&Published) -> u64),
    /// Samples with their labels.
    All(fn(&Published, Take<'_>)),
}

const fn metric(name: &'static str, help: &'static str, kind: MetricType, read: Read) -> Metric {
    Metric { name, help, kind, unit: None, read }
}

const fn counter(name: &'static str, help: &'static str, read: fn(&Published) -> u64) -> Metric {
    metric(name, help, MetricType::Counter, Read::Count(read))
}

const fn counters(name: &'static str, help: &'static str, read: fn(&Published, Take<'_>)) -> Metric {
    metric(name, help, MetricType::Counter, Read::All(read))
}

const fn gauge(name: &'static str, help: &'static str, read: fn(&Published) -> u64) -> Metric {
    metric(name, help, MetricType::Gauge, Read::Level(read))
}

const fn gauges(name: &'static str, help: &'static str, read: fn(&Published, Take<'_>)) -> Metric {
    metric(name, help, MetricType::Gauge, Read::All(read))
}

const fn seconds(name: &'static str, help: &'static str, read: fn(&Published, Take<'_>)) -> Metric {
    Metric { name, help, kind: MetricType::Histogram, unit: Some(Unit::Seconds), read: Read::All(read) }
}

pub(super) const METRICS: &[Metric] = &[
    metric(
        "node",
        "Who the node is.",
        MetricType::Info,
        Read::All(|from, take| take(&[("peer", &from.peer), ("version", env!("CARGO_PKG_VERSION"))], Value::Info)),
    ),
    gauges("mode", "1 for the mode that the node is in, 0 for the other.", |from, take| {
        for (mode, name) in [(Mode::Client, "client"), (Mode::Server, "server")] {
            take(&[("mode", name)], Value::Level((mode == from.mode).into()));
        }
    }),
    // Queries.
    counter("queries_started", "Queries that the application started.", |from| from.stats.queries_started),
    counter("queries_succeeded", "Of those, how many succeeded.", |from| from.stats.queries_succeeded),
    counter("queries_failed", "Of those, how many failed, timed out or were cancelled.", |from| {
        from.stats.queries_failed
    }),
    gauge("queries_running", "Queries that run now, the node's own among them.", |from| from.levels.queries as u64),
    seconds("query_duration", "How long queries took to end, the node's own among them.", |from, take| {
        for times in &from.stats.queries {
            take(&[("operation", times.kind.name()), ("outcome", times.end.name())], Value::Times(&times.took));
        }
    }),
    // Requests.
    counters("requests_sent", "Requests sent to peers.", |from, take| by_kind(&from.stats.sent, take)),
    counters("requests_answered", "Of those, how many were answered.", |from, take| {
        by_kind(&from.stats.answered, take);
    }),
    counters("requests_failed", "Of those, how many failed.", |from, take| by_kind(&from.stats.failed, take)),
    counters("requests_cancelled", "Of those, how many were given up before they ended.", |from, take| {
        by_kind(&from.stats.cancelled, take);
    }),
    counter("requests_held_back", "Requests not sent, since the peer failed a moment ago.", |from| {
        from.stats.held_back
    }),
    counters("request_failures", "Failed requests by the reason.", |from, take| {
        for (reason, count) in RequestError::REASONS.iter().zip(from.stats.failures) {
            take(&[("reason", reason)], Value::Count(count));
        }
    }),
    gauge("requests_running", "Requests that have no end yet.", |from| from.levels.requests as u64),
    gauge("requests_waiting", "Of those, how many wait for a connection.", |from| from.driver.requests_waiting),
    seconds("request_duration", "How long answered requests took, dialling included.", |from, take| {
        for times in &from.stats.round_trips {
            take(&[("kind", times.kind.name())], Value::Times(&times.took));
        }
    }),
    counters("requests_received", "Requests of peers.", |from, take| by_kind(&from.stats.received, take)),
    counter("requests_refused", "Of those, how many were refused.", |from| from.stats.refused),
    counter("misbehaviours", "How often peers broke the protocol.", |from| from.stats.misbehaved),
    // The table.
    gauge("table_peers", "Peers in the routing table.", |from| from.stats.table as u64),
    gauges("table_bucket_peers", "Peers in each bucket, by the leading bits that they share.", |from, take| {
        for (prefix, peers) in from.levels.buckets.iter().enumerate() {
            take(&[("bucket", &prefix.to_string())], Value::Level(*peers as u64));
        }
    }),
    counter("table_admitted", "Peers that entered the routing table.", |from| from.stats.admitted),
    counter("table_evicted", "Peers that left the routing table.", |from| from.stats.evicted),
    gauge("network_nodes", "How many nodes the network is likely to have.", |from| from.levels.estimated_nodes),
    // Records.
    gauges("store_records", "What is kept: values and provider records of others, and all own ones.", |from, take| {
        for (what, count) in
            [("values", from.levels.values), ("providers", from.levels.providers), ("own", from.levels.own)]
        {
            take(&[("what", what)], Value::Level(count as u64));
        }
    }),
    counters("records_brought", "Records brought to peers, by the cause.", |from, take| {
        for (cause, count) in from.stats.stores.by_cause() {
            take(&[("cause", cause)], Value::Count(count));
        }
    }),
    // Connections.
    gauge("connected_peers", "Peers to which a connection is up.", |from| from.driver.connected_peers),
    counter("dials_started", "Dials begun for a request.", |from| from.driver.dials_started),
    counter("dials_succeeded", "Of those, how many led to a connection.", |from| from.driver.dials_succeeded),
    counters("dials_failed", "Of those, how many did not, by the reason.", |from, take| {
        for (reason, count) in DIAL_FAILURES.iter().zip(from.driver.dials_failed) {
            take(&[("reason", reason)], Value::Count(count));
        }
    }),
    counters("streams_opened", "Streams opened, by who asks on them.", |from, take| {
        take(&[("direction", "inbound")], Value::Count(from.driver.streams_inbound));
        take(&[("direction", "outbound")], Value::Count(from.driver.streams_outbound));
    }),
    counter("streams_reused", "Requests sent on a stream that was open.", |from| from.driver.streams_reused),
    counter("streams_refused", "Streams of peers beyond the limit.", |from| from.driver.streams_refused),
];

fn by_kind(counts: &[u64; 6], take: Take<'_>) {
    for kind in Kind::ALL {
        take(&[("kind", kind.name())], Value::Count(counts[kind as usize]));
    }
}
