//! Plain counters: the core counts, the binding publishes, tests and simulations assert.

mod durations;
#[cfg(feature = "serde")]
mod named;
mod query_end;

use std::time::Duration;

pub use durations::{BOUNDS, Durations};
pub use query_end::QueryEnd;

pub use super::io::QueryKind;
use super::message::{Kind, RequestError};

/// What a node did since it started. With the feature `serde` each counter is written by its name, as in the metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default))]
#[non_exhaustive]
pub struct Stats {
    /// Requests sent, by [`Kind`] as index.
    #[cfg_attr(feature = "serde", serde(with = "named::kinds"))]
    pub sent: [u64; 6],
    /// Of those, how many were answered.
    #[cfg_attr(feature = "serde", serde(with = "named::kinds"))]
    pub answered: [u64; 6],
    /// Of those, how many failed or ran out of time.
    #[cfg_attr(feature = "serde", serde(with = "named::kinds"))]
    pub failed: [u64; 6],
    /// Why they failed, by the index of the reason in [`RequestError::REASONS`].
    #[cfg_attr(feature = "serde", serde(with = "named::reasons"))]
    pub failures: [u64; RequestError::REASONS.len()],
    /// Requests not sent, since the peer is held back after failures ([`BackOffConfig`](super::config::BackOffConfig)).
    pub held_back: u64,
    /// Of those, how many were given up before they ended.
    #[cfg_attr(feature = "serde", serde(with = "named::kinds"))]
    pub cancelled: [u64; 6],
    /// How long the answered ones took, dialling included, for each kind that there was.
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
    /// Queries that failed, ran out of time or were cancelled.
    pub queries_failed: u64,
    /// How long queries took, the node's own among them, for each way in which one of a kind ended.
    pub queries: Vec<QueryTimes>,
    /// Records brought to other peers, by the reason for it.
    pub stores: Stores,
    /// Peers in the routing table now.
    pub table: usize,
    /// Peers that ever entered the routing table.
    pub admitted: u64,
    /// Peers that ever left it.
    pub evicted: u64,
    /// How often peers broke the protocol.
    pub misbehaved: u64,
}

/// How long requests of one kind took to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct RoundTrips {
    /// The kind.
    pub kind: Kind,
    /// How long.
    pub took: Durations,
}

/// How long queries of one kind took to end in one way. One that is cancelled is counted up to the last thing that the
/// node heard of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct QueryTimes {
    /// What they were for.
    pub kind: QueryKind,
    /// How they ended.
    pub end: QueryEnd,
    /// How long they took.
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

/// Values and provider records brought to other peers, each counted once for each peer that it was sent to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default))]
#[non_exhaustive]
pub struct Stores {
    /// By the application's put or provide.
    pub published: u64,
    /// By the publisher, again: the interval was over, or a peer was new among the closest.
    pub announced: u64,
    /// By a holder, in the period in which nobody else did.
    pub replicated: u64,
    /// By the nearest holder, to a newcomer that is closer to the key.
    pub joined: u64,
    /// After a read, to those of the closest that held an older value or none.
    pub corrected: u64,
    /// After a read, to the closest peer on the path that did not hold the value.
    pub cached: u64,
}

/// How much of everything there is now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default))]
#[non_exhaustive]
pub struct Levels {
    /// Queries that run, the node's own among them.
    pub queries: usize,
    /// Requests with the driver whose end is awaited.
    pub requests: usize,
    /// Peers in each bucket of the table, the farthest first.
    pub buckets: Vec<usize>,
    /// How many nodes the network is likely to have, this one included.
    pub estimated_nodes: u64,
    /// Values of other peers that are kept.
    pub values: usize,
    /// Provider records of other peers that are kept.
    pub providers: usize,
    /// Own values and own provider records.
    pub own: usize,
}

/// Why a dial did not lead to a connection, in one word each; `already_dialled`: another part of the program was at it.
pub const DIAL_FAILURES: [&str; 5] = ["no_address", "unreachable", "wrong_peer", "denied", "already_dialled"];

/// What a driver did to carry requests: plain counters, which are the driver's to keep, and what there is now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default))]
#[non_exhaustive]
pub struct DriverStats {
    /// Dials begun for a request.
    pub dials_started: u64,
    /// Of those, how many led to a connection.
    pub dials_succeeded: u64,
    /// Of those, how many did not, by the index of the reason in [`DIAL_FAILURES`].
    #[cfg_attr(feature = "serde", serde(with = "named::dials"))]
    pub dials_failed: [u64; DIAL_FAILURES.len()],
    /// Streams that peers opened.
    pub streams_inbound: u64,
    /// Of those, how many were refused since there were too many on the connection.
    pub streams_refused: u64,
    /// Streams opened for requests.
    pub streams_outbound: u64,
    /// Requests sent on a stream that was open already.
    pub streams_reused: u64,
    /// Peers to which a connection is up.
    pub connected_peers: u64,
    /// Requests that wait for a connection.
    pub requests_waiting: u64,
}

/// Why a record is brought to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    Published,
    Announced,
    Replicated,
    Joined,
}

impl Stores {
    /// All of them, each with the name of its cause.
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

    /// One more.
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
