//! The running queries: their ids, deadlines, reports and requests.
//!
//! Knows: the query of each id, when each times out, which ones yield to others, and which ones share their work. Must
//! not know: what a query does. The work for one request does not grow with the number of queries.
//!
//! Equal queries are one: the first leads, and each later one only waits for the leader's reports and its end. If the
//! leader's call ends before that, the leader goes on for the others.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tracing::Span;

use super::{Machine, QuerySnapshot};
use crate::core::announcement::RecordId;
use crate::core::error::Report;
use crate::core::io::{QueryId, QueryOptions, RequestId};
use crate::core::key::Key;
use crate::core::spans;
use crate::core::stats::QueryKind;
use crate::core::store::Item;
use crate::core::time::Timestamp;

#[derive(Clone, Debug)]
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
    /// Its options, if they are not the default.
    options: Option<Box<QueryOptions>>,
    /// The queries that share its work, in the order in which they joined.
    pub(crate) followers: Vec<QueryId>,
    /// Whether its own call has ended, and it goes on for its followers alone.
    pub(crate) detached: bool,
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
            options: None,
            followers: Vec::new(),
            detached: false,
            by_app: true,
            yields: false,
            answered: false,
            answered_at: Timestamp::ZERO,
            timeout: Duration::ZERO,
            started: Timestamp::ZERO,
            deadline: Timestamp::MAX,
        }
    }

    /// A copy that makes the result which the query would have now, and reports nothing.
    pub(crate) fn copy(&self) -> RunningQuery {
        RunningQuery { progress: false, by_app: false, followers: Vec::new(), ..self.clone() }
    }

    /// The query that does the work of this one.
    pub(crate) fn leader(&self) -> Option<QueryId> {
        match self.machine {
            Machine::Joined(leader) => Some(leader),
            _ => None,
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
    /// The query that the next one of its kind for the same key may join.
    leaders: BTreeMap<(QueryKind, Key), QueryId>,
    /// The queries whose records the upkeep announces.
    batched: BTreeSet<(RecordId, QueryId)>,
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
        if let Some(record) = query.machine.batched() {
            self.batched.insert((record, id));
        }
        if query.yields {
            self.yielding.insert(id);
        }
        self.put(Box::new(query));
    }

    pub(crate) fn get(&self, id: QueryId) -> Option<&RunningQuery> {
        self.queries.get(&id).map(|query| &**query)
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
        if let Some(record) = query.machine.batched() {
            self.batched.remove(&(record, query.id));
        }
        self.unlead(query);
    }

    fn unlead(&mut self, query: &RunningQuery) {
        let work = (query.kind, query.target);
        if self.leaders.get(&work) == Some(&query.id) {
            self.leaders.remove(&work);
        }
    }

    /// Lets later queries with the same options join this one.
    pub(crate) fn lead(&mut self, id: QueryId, options: QueryOptions) {
        if let Some(query) = self.queries.get_mut(&id) {
            query.options = (options != QueryOptions::default()).then(|| Box::new(options));
            self.leaders.insert((query.kind, query.target), id);
        }
    }

    /// The query that one with these options can join. A bootstrap joins any other.
    pub(crate) fn leader(&self, kind: QueryKind, target: Key, options: &QueryOptions) -> Option<QueryId> {
        let id = *self.leaders.get(&(kind, target))?;
        let query = self.queries.get(&id).filter(|query| query.machine.can_be_joined())?;
        let equal = match &query.options {
            Some(known) => **known == *options,
            None => *options == QueryOptions::default(),
        };
        (equal || kind == QueryKind::Bootstrap).then_some(id)
    }

    /// The application changes what is kept here under a key: a later read must not join one that began before.
    pub(crate) fn on_changed(&mut self, target: Key) {
        for kind in [QueryKind::Get, QueryKind::Providers] {
            self.leaders.remove(&(kind, target));
        }
    }

    /// The call of a query that was taken out has ended; the query goes on as long as its followers wait.
    pub(crate) fn detach(&mut self, mut query: Box<RunningQuery>) {
        let waiting = query.followers.iter().filter_map(|id| self.queries.get(id));
        let latest = waiting.map(|follower| follower.deadline).max().unwrap_or(query.deadline);
        self.unlead(&query);
        self.deadlines.remove(&(query.deadline, query.id));
        // A follower whose time is up takes its result from the leader, so that must still be there.
        (query.detached, query.deadline) = (true, latest + Duration::from_micros(1));
        self.deadlines.insert((query.deadline, query.id));
        self.put(query);
    }

    /// The first query that yields to others.
    pub(crate) fn yielding(&self) -> Option<QueryId> {
        self.yielding.first().copied()
    }

    /// The queries that publish this record. Looks at all queries, so it is for rare events.
    pub(crate) fn publishing(&self, record: &RecordId) -> Vec<QueryId> {
        self.ids(|query| query.machine.publishes(record)).collect()
    }

    /// The queries that leave this record to the upkeep.
    pub(crate) fn batched(&self, record: RecordId) -> Vec<QueryId> {
        let range = (record, QueryId::new(0))..=(record, QueryId::new(u64::MAX));
        self.batched.range(range).map(|(_, id)| *id).collect()
    }

    /// Whether a query itself publishes this own record.
    pub(crate) fn publishes(&self, item: &Item) -> bool {
        let record = RecordId::of(item);
        let publishes = |query: &RunningQuery| query.machine.publishes(&record) && query.machine.batched().is_none();
        item.is_own() && self.ids(publishes).next().is_some()
    }

    /// All queries.
    pub(crate) fn all(&self) -> Vec<QueryId> {
        self.ids(|_| true).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_small() {
        assert!(size_of::<RunningQuery>() <= 320, "{}", size_of::<RunningQuery>());
    }
}
