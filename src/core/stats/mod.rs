//! Plain counters: the core counts, the metrics publish, tests and simulations compare.

mod durations;
#[cfg(feature = "serde")]
mod named;
mod query_end;

use std::time::Duration;

pub use durations::{BOUNDS, Durations};
pub use query_end::QueryEnd;

pub use super::io::QueryKind;
use super::message::{Kind, RequestError};

/// Counters of what a node did since it started. With the feature `serde` each counter is written by its name, as in
/// the metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default))]
#[non_exhaustive]
pub struct Stats {
    /// Requests sent, by [`Kind`] as index.
    #[cfg_attr(feature = "serde", serde(with = "named::kinds"))]
    pub sent: [u64; 6],
    /// Requests answered, by kind.
    #[cfg_attr(feature = "serde", serde(with = "named::kinds"))]
    pub answered: [u64; 6],
    /// Requests that failed or timed out, by kind.
    #[cfg_attr(feature = "serde", serde(with = "named::kinds"))]
    pub failed: [u64; 6],
    /// Requests that failed or timed out, by the index of the reason in [`RequestError::REASONS`].
    #[cfg_attr(feature = "serde", serde(with = "named::reasons"))]
    pub failures: [u64; RequestError::REASONS.len()],
    /// Requests not sent because the peer is held back after failures
    /// ([`BackOffConfig`](super::config::BackOffConfig)).
    pub held_back: u64,
    /// Requests cancelled, by kind.
    #[cfg_attr(feature = "serde", serde(with = "named::kinds"))]
    pub cancelled: [u64; 6],
    /// The times that answered requests took, dialling included; one entry for each kind that occurred.
    pub round_trips: Vec<RoundTrips>,
    /// Inbound requests, by kind.
    #[cfg_attr(feature = "serde", serde(with = "named::kinds"))]
    pub received: [u64; 6],
    /// Inbound requests that were reset.
    pub refused: u64,
    /// Queries started.
    pub queries_started: u64,
    /// Queries that succeeded.
    pub queries_succeeded: u64,
    /// Queries that failed, timed out or were cancelled.
    pub queries_failed: u64,
    /// The times that queries took, the node's own included; one entry for each kind and end that occurred.
    pub queries: Vec<QueryTimes>,
    /// Records sent to other peers, by reason.
    pub stores: Stores,
    /// Peers in the routing table now.
    pub table: usize,
    /// Peers that entered the routing table.
    pub admitted: u64,
    /// Peers that left the routing table.
    pub evicted: u64,
    /// Number of times that peers broke the protocol.
    pub misbehaved: u64,
}

/// The times that answers to requests of one kind took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct RoundTrips {
    /// The kind of the requests.
    pub kind: Kind,
    /// Their times.
    pub took: Durations,
}

/// The times that queries of one kind took to one kind of end. A cancelled query counts up to the last event before
/// that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct QueryTimes {
    /// The kind of the queries.
    pub kind: QueryKind,
    /// The kind of their end.
    pub end: QueryEnd,
    /// Their times.
    pub took: Durations,
}

impl Stats {
    /// A request was answered.
    pub(crate) fn on_answer(&mut self, kind: Kind, took: Duration) {
        self.answered[kind as usize] += 1;
        let at = self.round_trips.binary_search_by_key(&kind, |known| known.kind).unwrap_or_else(|at| {
            self.round_trips.insert(at, RoundTrips { kind, took: Durations::default() });
            at
        });
        self.round_trips[at].took.record(took);
    }

    /// A request failed.
    pub(crate) fn on_failure(&mut self, kind: Kind, why: RequestError) {
        self.failed[kind as usize] += 1;
        self.failures[why.reason_index()] += 1;
    }

    /// A query ended.
    pub(crate) fn on_query_end(&mut self, kind: QueryKind, end: QueryEnd, took: Duration) {
        let at =
            self.queries.binary_search_by_key(&(kind, end), |known| (known.kind, known.end)).unwrap_or_else(|at| {
                self.queries.insert(at, QueryTimes { kind, end, took: Durations::default() });
                at
            });
        self.queries[at].took.record(took);
    }
}

/// Values and provider records sent to other peers, each counted once for each peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default))]
#[non_exhaustive]
pub struct Stores {
    /// Published by the application's put or provide.
    pub published: u64,
    /// Announced again by this node as their publisher: the interval had passed, or a peer was new among the closest.
    pub announced: u64,
    /// Replicated by this node as a holder, in a period in which no other peer did.
    pub replicated: u64,
    /// Sent by this node as the nearest holder to a new peer that is closer to the key.
    pub joined: u64,
    /// Sent after a get to those of the k closest that held an older value or none.
    pub corrected: u64,
    /// Sent after a get to the closest peer on the path that did not hold the value.
    pub cached: u64,
}

/// Current numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default))]
#[non_exhaustive]
pub struct Levels {
    /// Running queries, the node's own included.
    pub queries: usize,
    /// Requests that the driver has and whose end is outstanding.
    pub requests: usize,
    /// Peers in each bucket of the table, the farthest first.
    pub buckets: Vec<usize>,
    /// Estimated number of nodes in the network, this one included.
    pub estimated_nodes: u64,
    /// Values of other peers that this node stores.
    pub values: usize,
    /// Provider records of other peers that this node stores.
    pub providers: usize,
    /// Own values and own provider records.
    pub own: usize,
}

/// The reasons why a dial did not lead to a connection. `already_dialled`: another part of the program is dialling the
/// peer.
pub const DIAL_FAILURES: [&str; 5] = ["no_address", "unreachable", "wrong_peer", "denied", "already_dialled"];

/// Counters of what a driver did to carry requests, and current numbers. The driver keeps them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default))]
#[non_exhaustive]
pub struct DriverStats {
    /// Dials begun for a request.
    pub dials_started: u64,
    /// Dials for a request that led to a connection.
    pub dials_succeeded: u64,
    /// Dials for a request that failed, by the index of the reason in [`DIAL_FAILURES`].
    #[cfg_attr(feature = "serde", serde(with = "named::dials"))]
    pub dials_failed: [u64; DIAL_FAILURES.len()],
    /// Streams that peers opened.
    pub streams_inbound: u64,
    /// Streams of peers that were refused, since there were too many on the connection.
    pub streams_refused: u64,
    /// Streams that this node opened for requests.
    pub streams_outbound: u64,
    /// Requests sent on a stream that was already open.
    pub streams_reused: u64,
    /// Connected peers.
    pub connected_peers: u64,
    /// Requests that wait for a connection.
    pub requests_waiting: u64,
}

/// The reason for which a record is sent to a peer; see [`Stores`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    Published,
    Announced,
    Replicated,
    Joined,
}

impl Stores {
    /// All counters, each with the name of its reason.
    pub fn by_cause(&self) -> [(&'static str, u64); 6] {
        [
            ("published", self.published),
            ("announced", self.announced),
            ("replicated", self.replicated),
            ("joined", self.joined),
            ("corrected", self.corrected),
            ("cached", self.cached),
        ]
    }

    /// Counts a record.
    pub(crate) fn count(&mut self, cause: Cause) {
        let counter = match cause {
            Cause::Published => &mut self.published,
            Cause::Announced => &mut self.announced,
            Cause::Replicated => &mut self.replicated,
            Cause::Joined => &mut self.joined,
        };
        *counter += 1;
    }
}
