//! All metrics: name, meaning, and the number that each reads.
//!
//! Knows: names and labels after the OpenMetrics conventions. Must not know: any text format. The encoder appends
//! `_total` to counters, `_info` to infos and the unit's name. A metric that is added here must be explained in
//! `docs/metrics.md`, and shown in `docs/grafana/dashboard.json` if it is for people; tests check both.

use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

use super::NodeNumbers;
use crate::core::stats::{DIAL_FAILURES, Durations};
use crate::core::{Kind, Mode, RequestError};

/// One number, or one histogram.
pub(super) enum Sample<'a> {
    Number(u64),
    Times(&'a Durations),
    /// No number: the labels are the information.
    Info,
}

/// Takes the samples of a metric, each with its labels.
pub(super) type Emit<'a> = &'a mut dyn FnMut(&[(&str, &str)], Sample<'_>);

pub(super) struct Metric {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) kind: MetricType,
    pub(super) unit: Option<Unit>,
    pub(super) read: ReadMetric,
}

pub(super) enum ReadMetric {
    /// One number without labels.
    One(fn(&NodeNumbers) -> u64),
    /// Samples with labels.
    Labelled(fn(&NodeNumbers, Emit<'_>)),
}

const fn metric(name: &'static str, help: &'static str, kind: MetricType, read: ReadMetric) -> Metric {
    Metric { name, help, kind, unit: None, read }
}

const fn counter(name: &'static str, help: &'static str, read: fn(&NodeNumbers) -> u64) -> Metric {
    metric(name, help, MetricType::Counter, ReadMetric::One(read))
}

const fn counters(name: &'static str, help: &'static str, read: fn(&NodeNumbers, Emit<'_>)) -> Metric {
    metric(name, help, MetricType::Counter, ReadMetric::Labelled(read))
}

const fn gauge(name: &'static str, help: &'static str, read: fn(&NodeNumbers) -> u64) -> Metric {
    metric(name, help, MetricType::Gauge, ReadMetric::One(read))
}

const fn gauges(name: &'static str, help: &'static str, read: fn(&NodeNumbers, Emit<'_>)) -> Metric {
    metric(name, help, MetricType::Gauge, ReadMetric::Labelled(read))
}

const fn seconds(name: &'static str, help: &'static str, read: fn(&NodeNumbers, Emit<'_>)) -> Metric {
    Metric { name, help, kind: MetricType::Histogram, unit: Some(Unit::Seconds), read: ReadMetric::Labelled(read) }
}

pub(super) const METRICS: &[Metric] = &[
    metric(
        "node",
        "The node's peer id and version.",
        MetricType::Info,
        ReadMetric::Labelled(|node, emit| {
            emit(&[("peer", &node.peer), ("version", env!("CARGO_PKG_VERSION"))], Sample::Info)
        }),
    ),
    gauges("mode", "1 for the current mode, 0 for the other one.", |node, emit| {
        for (mode, name) in [(Mode::Client, "client"), (Mode::Server, "server")] {
            emit(&[("mode", name)], Sample::Number((mode == node.mode).into()));
        }
    }),
    // Queries.
    counter("queries_started", "Queries that the application started.", |node| node.stats.queries_started),
    counter("queries_succeeded", "Queries of the application that succeeded.", |node| node.stats.queries_succeeded),
    counter("queries_failed", "Queries of the application that failed, timed out or were cancelled.", |node| {
        node.stats.queries_failed
    }),
    gauge("queries_running", "Queries that run now, including the node's own.", |node| node.levels.queries as u64),
    seconds("query_duration", "Duration of queries, including the node's own.", |node, emit| {
        for times in &node.stats.queries {
            emit(&[("operation", times.kind.name()), ("outcome", times.end.name())], Sample::Times(&times.took));
        }
    }),
    // Requests.
    counters("requests_sent", "Requests sent to peers.", |node, emit| by_kind(&node.stats.sent, emit)),
    counters("requests_answered", "Requests to peers that were answered.", |node, emit| {
        by_kind(&node.stats.answered, emit);
    }),
    counters("requests_failed", "Requests to peers that failed.", |node, emit| by_kind(&node.stats.failed, emit)),
    counters("requests_cancelled", "Requests to peers that were cancelled before they ended.", |node, emit| {
        by_kind(&node.stats.cancelled, emit);
    }),
    counter("requests_held_back", "Requests not sent because the peer failed recently.", |node| node.stats.held_back),
    counters("request_failures", "Failed requests by reason.", |node, emit| {
        for (reason, count) in RequestError::REASONS.iter().zip(node.stats.failures) {
            emit(&[("reason", reason)], Sample::Number(count));
        }
    }),
    gauge("requests_running", "Requests to peers that have not ended.", |node| node.levels.requests as u64),
    gauge("requests_waiting", "Requests to peers that wait for a connection.", |node| node.driver.requests_waiting),
    seconds("request_duration", "Duration of answered requests, including the dial.", |node, emit| {
        for times in &node.stats.round_trips {
            emit(&[("kind", times.kind.name())], Sample::Times(&times.took));
        }
    }),
    counters("requests_received", "Requests received from peers.", |node, emit| by_kind(&node.stats.received, emit)),
    counter("requests_refused", "Requests from peers that were refused.", |node| node.stats.refused),
    counter("misbehaviours", "Violations of the protocol by peers.", |node| node.stats.misbehaved),
    // The table.
    gauge("table_peers", "Peers in the routing table.", |node| node.stats.table as u64),
    gauges(
        "table_bucket_peers",
        "Peers in each bucket, by the number of leading bits shared with the node.",
        |node, emit| {
            for (prefix, peers) in node.levels.buckets.iter().enumerate() {
                emit(&[("bucket", &prefix.to_string())], Sample::Number(*peers as u64));
            }
        },
    ),
    counter("table_admitted", "Peers that entered the routing table.", |node| node.stats.admitted),
    counter("table_evicted", "Peers that left the routing table.", |node| node.stats.evicted),
    gauge("network_nodes", "Estimated number of nodes in the network.", |node| node.levels.estimated_nodes),
    // Records.
    gauges(
        "store_records",
        "Records in the store: values and provider records of other nodes, and all own ones.",
        |node, emit| {
            for (what, count) in
                [("values", node.levels.values), ("providers", node.levels.providers), ("own", node.levels.own)]
            {
                emit(&[("what", what)], Sample::Number(count as u64));
            }
        },
    ),
    counters("records_sent", "Records sent to peers, by cause.", |node, emit| {
        for (cause, count) in node.stats.stores.by_cause() {
            emit(&[("cause", cause)], Sample::Number(count));
        }
    }),
    // Connections.
    gauge("connected_peers", "Peers with a connection.", |node| node.driver.connected_peers),
    counter("dials_started", "Dials started for a request.", |node| node.driver.dials_started),
    counter("dials_succeeded", "Dials for a request that led to a connection.", |node| node.driver.dials_succeeded),
    counters("dials_failed", "Dials for a request that failed, by reason.", |node, emit| {
        for (reason, count) in DIAL_FAILURES.iter().zip(node.driver.dials_failed) {
            emit(&[("reason", reason)], Sample::Number(count));
        }
    }),
    counters("streams_opened", "Streams opened, by the direction of their requests.", |node, emit| {
        emit(&[("direction", "inbound")], Sample::Number(node.driver.streams_inbound));
        emit(&[("direction", "outbound")], Sample::Number(node.driver.streams_outbound));
    }),
    counter("streams_reused", "Requests sent on a stream that was open already.", |node| node.driver.streams_reused),
    counter("streams_refused", "Streams of peers that were refused because of the limit.", |node| {
        node.driver.streams_refused
    }),
];

fn by_kind(counts: &[u64; 6], emit: Emit<'_>) {
    for kind in Kind::ALL {
        emit(&[("kind", kind.name())], Sample::Number(counts[kind as usize]));
    }
}
