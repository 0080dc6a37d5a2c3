//! The queries that run: their ids, deadlines, reports and requests.
//!
//! Knows: which query a request belongs to, and whose time is over first. Must not know: what any of them does. No
//! work here grows with the number of queries.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Machine, QuerySnapshot};
use crate::core::error::Report;
use crate::core::io::{QueryId, RequestId};
use crate::core::key::Key;
use crate::core::time::Timestamp;

#[derive(Debug)]
pub(crate) struct Query {
    pub(crate) machine: Machine,
    pub(crate) report: Report,
    /// Its requests in flight.
    pub(crate) in_flight: Vec<RequestId>,
    pub(crate) target: Key,
    pub(crate) progress: bool,
    /// Whether the application asked for it, rather than the node itself.
    pub(crate) asked: bool,
    pub(crate) timeout: Duration,
    started: Timestamp,
    deadline: Timestamp,
}

impl Query {
    pub(crate) fn new(machine: Machine, target: Key) -> Query {
        Query {
            machine,
            report: Report::default(),
            in_flight: Vec::new(),
            target,
            progress: false,
            asked: true,
            timeout: Duration::ZERO,
            started: Timestamp::ZERO,
            deadline: Timestamp::MAX,
        }
    }
}

/// The queries that run.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    next: u64,
    queries: BTreeMap<QueryId, Query>,
    deadlines: BTreeSet<(Timestamp, QueryId)>,
}

impl Pool {
    pub(crate) fn len(&self) -> usize {
        self.queries.len()
    }

    /// The id that the next query will have.
    pub(crate) fn next_id(&mut self) -> QueryId {
        let id = QueryId::new(self.next);
        self.next += 1;
        id
    }

    pub(crate) fn insert(&mut self, now: Timestamp, id: QueryId, timeout: Duration, mut query: Query) {
        query.started = now;
        query.timeout = timeout;
        query.deadline = now + timeout;
        self.deadlines.insert((query.deadline, id));
        self.queries.insert(id, query);
    }

    pub(crate) fn get_mut(&mut self, id: QueryId) -> Option<&mut Query> {
        self.queries.get_mut(&id)
    }

    pub(crate) fn remove(&mut self, id: QueryId) -> Option<Query> {
        let query = self.queries.remove(&id)?;
        self.deadlines.remove(&(query.deadline, id));
        Some(query)
    }

    /// A query whose time is over at `now`.
    pub(crate) fn expired(&self, now: Timestamp) -> Option<QueryId> {
        self.deadlines.first().filter(|(at, _)| *at <= now).map(|(_, id)| *id)
    }

    pub(crate) fn next_wake(&self) -> Option<(Timestamp, QueryId)> {
        self.deadlines.first().copied()
    }

    pub(crate) fn snapshots(&self) -> Vec<QuerySnapshot> {
        let shown = self.queries.iter().map(|(id, query)| QuerySnapshot {
            id: *id,
            kind: query.machine.kind(),
            started: query.started,
            deadline: query.deadline,
            requests: query.report.requests,
            answers: query.report.answers,
            unasked: query.machine.unasked(),
        });
        shown.collect()
    }
}
