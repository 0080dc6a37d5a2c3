//! The queries that run: their ids, deadlines, reports and requests.
//!
//! Knows: which query a request belongs to, whose time is over first, and who gives way. Must not know: what any of
//! them does. No work that a request causes grows with the number of queries.

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
pub(crate) struct Query {
    pub(crate) machine: Machine,
    pub(crate) kind: QueryKind,
    /// From the time that it is in the pool.
    pub(crate) span: Span,
    pub(crate) report: Report,
    /// Its requests in flight.
    pub(crate) in_flight: Vec<RequestId>,
    pub(crate) target: Key,
    pub(crate) progress: bool,
    /// Whether the application asked for it, rather than the node itself.
    pub(crate) asked: bool,
    /// Whether it gives way where one that was asked for finds no place.
    pub(crate) yields: bool,
    /// Whether anyone answered it so that it was of use.
    pub(crate) answered: bool,
    /// When somebody answered it last.
    pub(crate) heard: Timestamp,
    pub(crate) timeout: Duration,
    pub(crate) started: Timestamp,
    deadline: Timestamp,
}

impl Query {
    pub(crate) fn new(machine: Machine, target: Key, kind: QueryKind) -> Query {
        Query {
            kind,
            span: Span::none(),
            machine,
            report: Report::default(),
            in_flight: Vec::new(),
            target,
            progress: false,
            asked: true,
            yields: false,
            answered: false,
            heard: Timestamp::ZERO,
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
    queries: BTreeMap<QueryId, Box<Query>>,
    deadlines: BTreeSet<(Timestamp, QueryId)>,
    /// Those that give way.
    yielding: BTreeSet<QueryId>,
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
        query.span = spans::query(id, query.kind, &query.target);
        self.deadlines.insert((query.deadline, id));
        if query.yields {
            self.yielding.insert(id);
        }
        self.put(id, Box::new(query));
    }

    pub(crate) fn get_mut(&mut self, id: QueryId) -> Option<&mut Query> {
        self.queries.get_mut(&id).map(|query| &mut **query)
    }

    /// Takes a query out for a step: it comes back by `put`, or is over and forgotten.
    pub(crate) fn take(&mut self, id: QueryId) -> Option<Box<Query>> {
        self.queries.remove(&id)
    }

    pub(crate) fn put(&mut self, id: QueryId, query: Box<Query>) {
        self.queries.insert(id, query);
    }

    /// A query that was taken out is over.
    pub(crate) fn forget(&mut self, id: QueryId, query: &Query) {
        self.deadlines.remove(&(query.deadline, id));
        self.yielding.remove(&id);
    }

    /// The first that gives way.
    pub(crate) fn yielding(&self) -> Option<QueryId> {
        self.yielding.first().copied()
    }

    /// Those that publish this. Looks at all queries: for what is asked seldom.
    pub(crate) fn publishing(&self, name: &RecordId) -> Vec<QueryId> {
        self.queries.iter().filter(|(_, query)| query.machine.publishes(name)).map(|(id, _)| *id).collect()
    }

    /// The bootstrap that the application asked for and that runs.
    pub(crate) fn bootstrap(&self) -> Option<QueryId> {
        let runs = |query: &Query| query.asked && matches!(query.machine, Machine::Bootstrap(_));
        self.queries.iter().find(|(_, query)| runs(query)).map(|(id, _)| *id)
    }

    /// The bootstraps that wait for the end of that one, the first first.
    pub(crate) fn joined(&self) -> Vec<QueryId> {
        let waits = self.queries.iter().filter(|(_, query)| matches!(query.machine, Machine::Joined));
        waits.map(|(id, _)| *id).collect()
    }

    /// Whether one of them publishes this, an own record.
    pub(crate) fn publishes(&self, item: &Item) -> bool {
        item.is_own() && !self.publishing(&RecordId::of(item)).is_empty()
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
