//! Drives the queries: their steps, their requests, their ends.
//!
//! Knows: which query an event concerns. Must not know: what a query is for.

use super::send_requests::{DIAL_WAIT, EndedRequest};
use super::*;

/// Time for which a record waits for others that go out with it.
const GATHER: Duration = Duration::from_millis(20);

impl Dht {
    /// The view that a query has of the node.
    pub(super) fn cx(&self) -> Context<'_> {
        Context::new(&self.time, &self.config, &self.peers, &self.rtt)
    }

    /// A source of randomness for one query.
    pub(super) fn query_rng(&mut self) -> ChaCha8Rng {
        ChaCha8Rng::from_rng(&mut self.rng)
    }

    /// Lets a query take its next steps until it waits or ends.
    pub(super) fn drive(&mut self, now: Timestamp, id: QueryId) {
        if let Some(query) = self.pool.take(id) {
            self.advance(now, query);
        }
    }

    /// The same for a query that was taken out of the pool for a step.
    fn advance(&mut self, now: Timestamp, mut query: Box<RunningQuery>) {
        let (id, mut events, before) = (query.id, Vec::new(), query.in_flight.len());
        loop {
            let step = query.machine.next(&self.cx(), &mut query.report, &mut events);
            self.report_events(&query, &mut events);
            match step {
                Step::Ask(to, request, tag) => self.ask(now, &mut query, &to, request, tag),
                Step::Wait => break,
                Step::Finish(result) => return self.finish(now, query, result),
            }
        }
        let asked = if query.progress { query.in_flight[before..].to_vec() } else { Vec::new() };
        self.pool.put(query);
        self.pass_waiting(now);
        for request in asked.iter().filter_map(|request| self.requests.get(*request)) {
            if !request.is_with_driver()
                && let Some(query) = self.pool.get(id)
            {
                let event = QueryEvent::Progress(Progress::Queued { peer: *request.to.peer(), kind: request.kind() });
                report_to(&mut self.outputs, query, event);
            }
        }
    }

    fn ask(&mut self, now: Timestamp, query: &mut RunningQuery, to: &Arc<Contact>, request: Request, tag: Tag) {
        if let Some(why) = self.peers.held_back_reason(now, to, query.by_app) {
            self.stats.held_back += 1;
            return self.query_failed(query, tag, to, why);
        }
        if matches!(request.kind(), Kind::PutValue | Kind::AddProvider)
            && let Some(cause) = query.machine.cause()
        {
            self.stats.stores.count(cause);
        }
        let to = self.peers.with_known(&self.peers.filtered(to));
        let request = self.requests.queue(now, Owner::Query(query.id, tag), query.machine.urgency(), to, request);
        query.in_flight.push(request);
        self.window.wait(query.id, request);
    }

    /// The store has run the operation that a query waits for.
    pub(super) fn on_local(&mut self, now: Timestamp, id: QueryId, done: Done) {
        let Some(mut query) = self.pool.take(id) else { return };
        let mut events = Vec::new();
        query.machine.on_local(&self.cx(), done, &mut events);
        self.report_events(&query, &mut events);
        if let Some(record) = query.machine.batched() {
            self.upkeep.own_records.hasten(now + GATHER, record);
        }
        self.advance(now, query);
    }

    /// A request of a query has an answer that fits it.
    pub(super) fn on_query_answer(&mut self, now: Timestamp, ended: &EndedRequest, response: Response) {
        let Owner::Query(id, tag) = ended.request.owner else { return };
        let Some(mut query) = self.pool.take(id) else { return };
        let (from, peer, took) = (&ended.request.to, *ended.request.to.peer(), ended.request.elapsed(now));
        let target = query.machine.lookup(tag).map_or(query.target, |lookup| *lookup.target());
        let closer = named(&self.peers, &self.config, &target, &response);
        let has_records = response.has_records();
        let answer = PeerAnswer { from, tag, response, closer: &closer };
        query.in_flight.retain(|request| *request != ended.id);
        let mut events = Vec::new();
        match query.machine.on_answer(&self.cx(), answer, &mut events) {
            Ok(news) => {
                if (news > 0 || has_records)
                    && let Some(entry) = self.peers.table.get_mut(from.key())
                {
                    entry.on_useful(now);
                }
                query.report.answers += 1;
                (query.answered, query.answered_at) = (true, now);
                if self.knows_fewer_than_k() {
                    // While few peers are known, a query that has an answer does not wait long for dials.
                    query.in_flight.iter().for_each(|id| self.requests.remind(*id, now + DIAL_WAIT));
                }
                if query.progress {
                    let shared_bits = query.target.common_prefix_len(from.key());
                    events.push(QueryEvent::Progress(Progress::Answered { peer, took, shared_bits, news }));
                }
            }
            Err(what) => {
                let why = RequestError::Misbehaved(what);
                query.report.failed.push(PeerFailure::new(peer, why));
                if query.progress {
                    events.push(QueryEvent::Progress(Progress::Failed { peer, why }));
                }
                self.misbehaved(now, peer, what);
            }
        }
        self.report_events(&query, &mut events);
        self.advance(now, query);
    }

    /// A request of a query failed; the query no longer owns it.
    pub(super) fn on_query_failure(
        &mut self,
        now: Timestamp,
        id: QueryId,
        tag: Tag,
        (request, from): (RequestId, &Arc<Contact>),
        why: RequestError,
    ) {
        let Some(mut query) = self.pool.take(id) else { return };
        query.in_flight.retain(|known| *known != request);
        self.query_failed(&mut query, tag, from, why);
        self.advance(now, query);
    }

    /// A peer failed a query, or is held back since it failed before.
    pub(super) fn query_failed(&mut self, query: &mut RunningQuery, tag: Tag, to: &Arc<Contact>, why: RequestError) {
        let peer = *to.peer();
        // A peer that is not dialled on hearsay fails once for each referrer; the report has it once.
        let failure = PeerFailure::new(peer, why);
        let (failed, most) = (&query.report.failed, self.config.limit.frontier);
        if failed.len() < most && !failed.contains(&failure) {
            query.report.failed.push(failure);
        }
        query.machine.on_failure(to, tag, why);
        if query.progress {
            report_to(&mut self.outputs, query, QueryEvent::Progress(Progress::Failed { peer, why }));
        }
    }

    /// Ends a query. Requests that are merely late go on to their timeout, so that the table learns which peers are
    /// dead.
    pub(super) fn finish(&mut self, now: Timestamp, mut query: Box<RunningQuery>, result: Result<Answer, QueryError>) {
        let id = query.id;
        self.forget(now, &query, QueryEnd::of(&result));
        for request in std::mem::take(&mut query.in_flight) {
            match self.requests.get(request) {
                Some(late) if late.shows_liveness() => self.requests.set_owner(request, Owner::Evidence),
                _ => self.give_up(request),
            }
        }
        self.pass_waiting(now);
        self.on_bucket_visited(now, &query);
        let follow_up = query.machine.get().and_then(|get| get.follow_up.take());
        self.end_followers(now, std::mem::take(&mut query.followers), &result);
        if let Some(leader) = query.leader() {
            self.on_follower_ended(leader, id);
        }
        self.on_announcements_ended(id, query.machine, &result);
        if query.by_app && !query.detached {
            self.announce_end(id, result);
        }
        if let Some(follow_up) = follow_up {
            self.follow_up(now, id, query.target, follow_up);
        }
    }

    /// Has a query end with an equal one that runs.
    pub(super) fn join(&mut self, now: Timestamp, id: QueryId, leader: QueryId, options: &QueryOptions) {
        let Some(running) = self.pool.get_mut(leader) else { return };
        running.followers.push(id);
        let last_report = running.machine.last_report();
        let query = RunningQuery::new(Machine::Joined(leader), running.target, running.kind);
        self.pool.insert(now, id, self.timeout(options), query);
        if let Some(event) = last_report {
            self.report(id, event);
        }
    }

    /// The call of a query that others joined has ended. The query goes on for those.
    pub(super) fn end_call(&mut self, query: Box<RunningQuery>, result: Result<Answer, QueryError>) {
        self.stats.on_query_end(query.kind, QueryEnd::of(&result), self.time.now.since(query.started));
        self.announce_end(query.id, result);
        self.pool.detach(query);
    }

    /// A query that joined this one has ended before it.
    fn on_follower_ended(&mut self, leader: QueryId, follower: QueryId) {
        let Some(query) = self.pool.get_mut(leader) else { return };
        query.followers.retain(|id| *id != follower);
        if query.detached && query.followers.is_empty() {
            self.abandon(leader);
        }
    }

    /// The queries that joined one end as it does.
    fn end_followers(&mut self, now: Timestamp, followers: Vec<QueryId>, result: &Result<Answer, QueryError>) {
        for id in followers {
            if let Some(query) = self.pool.take(id) {
                self.forget(now, &query, QueryEnd::of(result));
                self.announce_end(id, result.clone());
            }
        }
    }

    /// The time limit of a query of the application.
    pub(super) fn timeout(&self, options: &QueryOptions) -> Duration {
        options.timeout.unwrap_or(self.config.lookup.query_timeout)
    }

    /// Carries out the work that a get leaves once its result is reported: under the id of the get, although the
    /// application does not wait for it, and only while there is room for another query.
    fn follow_up(&mut self, now: Timestamp, id: QueryId, target: Key, mut follow_up: FollowUp) {
        if (follow_up.replaces || self.mode == Mode::Server)
            && let Some(record) = follow_up.keep.take()
        {
            let _ = self.store_ops.put(self.time.date, Waiter::Adopt, record);
        }
        self.stats.stores.corrected += follow_up.corrected.len() as u64;
        self.stats.stores.cached += u64::from(follow_up.cached.is_some());
        if let Some(correct) = follow_up.into_machine() {
            let mut query = RunningQuery::own(Machine::Correct(correct), target, QueryKind::Correct);
            query.yields = true;
            self.pool.insert(now, id, self.config.lookup.request_timeout, query);
            self.drive(now, id);
        }
    }

    /// Number of running queries, without those of the upkeep and the refresh.
    pub(super) fn queries(&self) -> usize {
        self.pool.len() - self.upkeep.running.len() - self.refresh.running.len()
    }

    /// Whether there is no place for one more query.
    pub(super) fn is_full(&self) -> bool {
        self.queries() >= self.config.limit.queries
    }

    /// If there is no room for another query, abandons one that yields.
    pub(super) fn make_way(&mut self) {
        if self.is_full()
            && let Some(id) = self.pool.yielding()
        {
            self.abandon(id);
        }
    }

    /// A query that was taken out of the pool has ended: counts it, and closes its span.
    fn forget(&mut self, now: Timestamp, query: &RunningQuery, end: QueryEnd) {
        self.pool.forget(query);
        self.window.forget(query.id);
        let took = now.since(query.started);
        if !query.detached {
            self.stats.on_query_end(query.kind, end, took);
        }
        spans::end_query(&query.span, end, took);
    }

    /// Ends a query with all its requests, without a result.
    pub(super) fn abandon(&mut self, id: QueryId) {
        self.refresh.abandoned(id);
        let (now, Some(query)) = (self.time.now, self.pool.take(id)) else { return };
        self.forget(now, &query, QueryEnd::Cancelled);
        query.in_flight.iter().for_each(|request| self.give_up(*request));
        self.pass_waiting(now);
        if let Machine::Joined(leader) = query.machine {
            self.on_follower_ended(leader, id);
        }
    }

    pub(super) fn announce_end(&mut self, id: QueryId, result: Result<Answer, QueryError>) {
        match &result {
            Ok(_) => self.stats.queries_succeeded += 1,
            Err(why) => {
                self.stats.queries_failed += 1;
                tracing::debug!(query = %id, %why, "query failed");
            }
        }
        self.report(id, QueryEvent::Finished(Box::new(result)));
    }

    pub(super) fn report(&mut self, id: QueryId, event: QueryEvent) {
        self.outputs.push_back(Output::Event(Event::QueryProgressed { id, event }));
    }

    fn report_events(&mut self, query: &RunningQuery, events: &mut Vec<QueryEvent>) {
        for event in events.drain(..) {
            report_to(&mut self.outputs, query, event);
        }
    }
}

/// The peers that an answer names and that this node can ask: at most 2k, and not too many of one group. They are peers
/// that others can reach, and the target itself.
pub(super) fn named(peers: &Peers, config: &DhtConfig, target: &Key, response: &Response) -> Vec<Arc<Contact>> {
    let (Response::FindNode { closer } | Response::GetValue { closer, .. } | Response::GetProviders { closer, .. }) =
        response
    else {
        return Vec::new();
    };
    let useful = |contact: &Arc<Contact>| peers.is_routable(contact) || contact.key() == target;
    let most = config.lookup.replication.get().saturating_mul(2);
    let mut named: Vec<_> =
        closer.iter().filter_map(|contact| peers.contact_to_ask(contact)).filter(useful).take(most).collect();
    if let Some(diversity) = &config.routing.diversity {
        trim(&mut named, target, diversity);
    }
    named
}
