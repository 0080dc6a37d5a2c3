//! The running queries: their ids, deadlines, reports and requests.
//!
//! Knows: the query of each id, when each times out, and which ones yield to others. Must not know: what a query does.
//! The work for one request does not grow with the number of queries.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tracing::Span;

use super::{Machine, QuerySnapshot};
use crate::core::announcement::RecordId;
use crate::core::error::Report;
use crate::core::io::{QueryId, RequestId};
use crate::core::key::Key;
use crate::core::spans;
use crate::core::stats::QueryKind;
use crate::core::store::Item;
use crate::core::time::Timestamp;

#[derive(Debug)]
pub(crate) struct RunningQuery {
    /// Set when the query enters the pool.
    pub(crate) id: QueryId,
    pub(crate) machine: Machine,
    pub(crate) kind: QueryKind,
    /// Set when the query enters the pool.
    pub(crate) span: Span,
    pub(crate) report: Report,
    /// Its requests in flight, those that wait for a slot included.
    pub(crate) in_flight: Vec<RequestId>,
    pub(crate) target: Key,
    pub(crate) progress: bool,
    /// Whether the application started it, rather than the node itself.
    pub(crate) by_app: bool,
    /// Whether it is abandoned when the application starts a query and there is no room for it.
    pub(crate) yields: bool,
    /// Whether the query has had a valid answer.
    pub(crate) answered: bool,
    /// Time of its last valid answer.
    pub(crate) answered_at: Timestamp,
    pub(crate) timeout: Duration,
    pub(crate) started: Timestamp,
    deadline: Timestamp,
}

impl RunningQuery {
    pub(crate) fn new(machine: Machine, target: Key, kind: QueryKind) -> RunningQuery {
        RunningQuery {
            id: QueryId::new(0),
            kind,
            span: Span::none(),
            machine,
            report: Report::default(),
            in_flight: Vec::new(),
            target,
            progress: false,
            by_app: true,
            yields: false,
            answered: false,
            answered_at: Timestamp::ZERO,
            timeout: Duration::ZERO,
            started: Timestamp::ZERO,
            deadline: Timestamp::MAX,
        }
    }

    /// A query that the node starts of its own accord.
    pub(crate) fn own(machine: Machine, target: Key, kind: QueryKind) -> RunningQuery {
        RunningQuery { by_app: false, ..RunningQuery::new(machine, target, kind) }
    }
}

/// The running queries.
#[derive(Debug, Default)]
pub(crate) struct QueryPool {
    next: u64,
    queries: BTreeMap<QueryId, Box<RunningQuery>>,
    deadlines: BTreeSet<(Timestamp, QueryId)>,
    /// The queries that yield to others.
    yielding: BTreeSet<QueryId>,
}

impl QueryPool {
    pub(crate) fn len(&self) -> usize {
        self.queries.len()
    }

    /// Returns the id of the next query.
    pub(crate) fn next_id(&mut self) -> QueryId {
        let id = QueryId::new(self.next);
        self.next += 1;
        id
    }

    pub(crate) fn insert(&mut self, now: Timestamp, id: QueryId, timeout: Duration, mut query: RunningQuery) {
        query.id = id;
        query.started = now;
        query.timeout = timeout;
        query.deadline = now + timeout;
        query.span = spans::query(id, query.kind, &query.target);
        self.deadlines.insert((query.deadline, id));
        if query.yields {
            self.yielding.insert(id);
        }
        self.put(Box::new(query));
    }

    pub(crate) fn get_mut(&mut self, id: QueryId) -> Option<&mut RunningQuery> {
        self.queries.get_mut(&id).map(|query| &mut **query)
    }

    /// Takes a query out for a step. It comes back by `put`, or ends with `forget`.
    pub(crate) fn take(&mut self, id: QueryId) -> Option<Box<RunningQuery>> {
        self.queries.remove(&id)
    }

    pub(crate) fn put(&mut self, query: Box<RunningQuery>) {
        self.queries.insert(query.id, query);
    }

    /// A query that was taken out has ended.
    pub(crate) fn forget(&mut self, query: &RunningQuery) {
        self.deadlines.remove(&(query.deadline, query.id));
        self.yielding.remove(&query.id);
    }

    /// The first query that yields to others.
    pub(crate) fn yielding(&self) -> Option<QueryId> {
        self.yielding.first().copied()
    }

    /// The queries that publish this record. Looks at all queries, so it is for rare events.
    pub(crate) fn publishing(&self, record: &RecordId) -> Vec<QueryId> {
        self.ids(|query| query.machine.publishes(record)).collect()
    }

    /// The running bootstrap that the application started.
    pub(crate) fn bootstrap(&self) -> Option<QueryId> {
        self.ids(|query| query.by_app && matches!(query.machine, Machine::Bootstrap(_))).next()
    }

    /// The bootstraps that wait for the end of that one, the first first.
    pub(crate) fn joined(&self) -> Vec<QueryId> {
        self.ids(|query| matches!(query.machine, Machine::Joined)).collect()
    }

    /// Whether a query publishes this own record.
    pub(crate) fn publishes(&self, item: &Item) -> bool {
        item.is_own() && !self.publishing(&RecordId::of(item)).is_empty()
    }

    fn ids(&self, which: impl Fn(&RunningQuery) -> bool) -> impl Iterator<Item = QueryId> {
        self.queries.iter().filter(move |(_, query)| which(query)).map(|(id, _)| *id)
    }

    /// A query that has timed out at `now`.
    pub(crate) fn expired(&self, now: Timestamp) -> Option<QueryId> {
        self.deadlines.first().filter(|(at, _)| *at <= now).map(|(_, id)| *id)
    }

    pub(crate) fn next_wake(&self) -> Option<(Timestamp, QueryId)> {
        self.deadlines.first().copied()
    }

    pub(crate) fn snapshots(&self) -> Vec<QuerySnapshot> {
        let shown = self.queries.iter().map(|(id, query)| QuerySnapshot {
            id: *id,
            kind: query.kind,
            started: query.started,
            deadline: query.deadline,
            requests: query.report.requests,
            answers: query.report.answers,
            unasked: query.machine.unasked(),
        });
        shown.collect()
    }
}
