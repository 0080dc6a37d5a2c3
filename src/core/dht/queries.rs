//! The life of a query inside the node: its steps, its requests, its end.
//!
//! Knows: which machine hears of what. Must not know: what any of them is for.

use super::requests::{Asked, DIAL_WAIT};
use super::*;

impl Dht {
    pub(super) fn preparing(&mut self) -> Preparing<'_> {
        let cx = Context::new(&self.time, &self.config, &self.peers, &self.rtt);
        Preparing { cx, storage: &mut self.storage, rng: &mut self.rng }
    }

    /// Lets a query take its next steps until it waits or ends.
    pub(super) fn drive(&mut self, now: Timestamp, id: QueryId) {
        if let Some(query) = self.pool.take(id) {
            self.advance(now, id, query);
        }
    }

    /// The same for a query that was taken out of the pool for a step.
    fn advance(&mut self, now: Timestamp, id: QueryId, mut query: Box<Query>) {
        let (mut events, before) = (Vec::new(), query.in_flight.len());
        loop {
            let cx = Context::new(&self.time, &self.config, &self.peers, &self.rtt);
            let step = query.machine.next(&cx, &mut query.report, &mut events);
            self.report_events(id, &query, &mut events);
            match step {
                Step::Ask(to, request, tag) => self.ask(now, id, &mut query, &to, request, tag),
                Step::Wait => break,
                Step::Finish(result) => return self.finish(now, id, query, result),
            }
        }
        let asked = if query.progress { query.in_flight.split_off(before) } else { Vec::new() };
        query.in_flight.extend_from_slice(&asked);
        self.pool.put(id, query);
        self.hand_waiting(now);
        for request in asked.iter().filter_map(|request| self.requests.get(*request)) {
            if !request.is_with_driver() {
                let (peer, kind) = (*request.to.peer(), request.kind());
                self.outputs.push_back(Output::Event(Event::QueryProgressed {
                    id,
                    event: QueryEvent::Progress(Progress::Queued { peer, kind }),
                }));
            }
        }
    }

    fn ask(&mut self, now: Timestamp, id: QueryId, query: &mut Query, to: &Arc<Contact>, request: Request, tag: Tag) {
        if let Some(why) = self.peers.held_back_reason(now, to, query.asked) {
            self.stats.held_back += 1;
            return self.query_failed(id, query, tag, to, why);
        }
        if matches!(request.kind(), Kind::PutValue | Kind::AddProvider)
            && let Some(cause) = query.machine.cause()
        {
            self.stats.stores.count(cause);
        }
        let to = self.peers.with_known(&self.peers.filtered(to));
        let request = self.requests.queue(now, Owner::Query(id, tag), query.machine.urgency(), to, request);
        query.in_flight.push(request);
        self.window.wait(id, request);
    }

    /// The store did what a query needs of it.
    pub(super) fn on_local(&mut self, now: Timestamp, id: QueryId, done: Done) {
        let Some(mut query) = self.pool.take(id) else { return };
        let cx = Context::new(&self.time, &self.config, &self.peers, &self.rtt);
        let mut events = Vec::new();
        query.machine.on_local(&cx, done, &mut events);
        self.report_events(id, &query, &mut events);
        self.advance(now, id, query);
    }

    /// A request of a query was answered, and the answer fits.
    pub(super) fn on_query_answer(&mut self, now: Timestamp, id: QueryId, tag: Tag, asked: &Asked, response: Response) {
        let Some(mut query) = self.pool.take(id) else { return };
        let (from, took) = (&asked.request.to, asked.request.elapsed(now));
        let target = query.machine.lookup(tag).map_or(query.target, |lookup| *lookup.target());
        let closer = named(&self.peers, &self.config, &target, &response);
        let cx = Context::new(&self.time, &self.config, &self.peers, &self.rtt);
        let found = response.has_records();
        let heard = Heard { from, tag, response, closer: &closer };
        query.in_flight.retain(|request| *request != asked.id);
        let mut events = Vec::new();
        let peer = *from.peer();
        match query.machine.on_answer(&cx, heard, &mut events) {
            Ok(news) => {
                if let Some(entry) = self.peers.table.get_mut(from.key()).filter(|_| news > 0 || found) {
                    entry.on_useful(now);
                }
                query.report.answers += 1;
                (query.answered, query.heard) = (true, now);
                if self.peers.table.len() < self.config.lookup.replication.get() {
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
                events.extend(query.progress.then_some(QueryEvent::Progress(Progress::Failed { peer, why })));
                self.misbehaved(peer, what);
            }
        }
        self.report_events(id, &query, &mut events);
        self.advance(now, id, query);
    }

    /// A request of a query has no answer, and is none of its requests any more.
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
        self.query_failed(id, &mut query, tag, from, why);
        self.advance(now, id, query);
    }

    /// A peer failed a query, or is held back since it failed before.
    pub(super) fn query_failed(
        &mut self,
        id: QueryId,
        query: &mut Query,
        tag: Tag,
        to: &Arc<Contact>,
        why: RequestError,
    ) {
        let peer = *to.peer();
        // Each who names a peer that is not dialled on hearsay gives it another chance.
        let failure = PeerFailure::new(peer, why);
        if !query.report.failed.contains(&failure) {
            query.report.failed.push(failure);
        }
        query.machine.on_failure(to, tag, why);
        if query.progress {
            self.report(id, QueryEvent::Progress(Progress::Failed { peer, why }));
        }
    }

    /// Ends a query. Requests that are merely late run out their time, so that the table learns who is dead.
    pub(super) fn finish(
        &mut self,
        now: Timestamp,
        id: QueryId,
        mut query: Box<Query>,
        result: Result<Answer, QueryError>,
    ) {
        self.pool.forget(id, &query);
        self.window.forget(id);
        self.on_end(now, &query, QueryEnd::of(&result));
        for request in std::mem::take(&mut query.in_flight) {
            match self.requests.get(request) {
                Some(late) if late.shows_liveness() => self.requests.set_owner(request, Owner::Evidence),
                _ => self.give_up(request),
            }
        }
        self.hand_waiting(now);
        self.on_bucket_visited(now, id, &query);
        let follow_up = query.machine.get().and_then(|get| get.follow_up.take());
        self.end_joined(now, &query.machine, Some(&result));
        self.on_brought(id, query.machine, &result);
        if query.asked {
            self.announce_end(id, result);
        }
        if let Some(follow_up) = follow_up {
            self.follow_up(now, id, query.target, follow_up);
        }
    }

    /// A bootstrap is over: those that joined it have its result. Where its caller gave it up, or too little time, it has
    /// none for them, and the first of them goes on in its place.
    fn end_joined(&mut self, now: Timestamp, machine: &Machine, result: Option<&Result<Answer, QueryError>>) {
        if !matches!(machine, Machine::Bootstrap(_)) || self.pool.bootstrap().is_some() {
            return;
        }
        let joined = self.pool.joined();
        match result {
            Some(result) if !matches!(result, Err(QueryError::TimedOut { .. })) => {
                for id in joined {
                    if let Some(query) = self.pool.take(id) {
                        self.finish(now, id, query, result.clone());
                    }
                }
            }
            _ => {
                let Some(id) = joined.first().copied() else { return };
                let Preparing { cx, rng, .. } = self.preparing();
                let machine = join(&cx, rng);
                if let Some(query) = self.pool.get_mut(id) {
                    query.machine = machine;
                }
                self.refresh.join_started(id);
                self.drive(now, id);
            }
        }
    }

    /// What is left to do when the result of a query is told goes on under the query's own name, though nobody waits for
    /// it, and gives way to whatever is asked for.
    fn follow_up(&mut self, now: Timestamp, id: QueryId, target: Key, mut follow_up: FollowUp) {
        if let Some(record) = follow_up.keep.take().filter(|_| follow_up.replaces || self.mode == Mode::Server) {
            let _ = self.storage.put(self.time.date, Asker::Adopt, record);
        }
        self.stats.stores.corrected += follow_up.corrected.len() as u64;
        self.stats.stores.cached += u64::from(follow_up.cached.is_some());
        if let Some(machine) = follow_up.into_machine() {
            let mut query = Query::new(Machine::Correct(machine), target, QueryKind::Correct);
            (query.asked, query.yields) = (false, true);
            self.pool.insert(now, id, self.config.lookup.request_timeout, query);
            self.drive(now, id);
        }
    }

    /// How many queries run, without those of the upkeep and the refresh.
    pub(super) fn queries(&self) -> usize {
        self.pool.len() - self.upkeep.running.len() - self.refresh.running.len()
    }

    /// Where as many queries run as may, one that nobody waits for gives way.
    pub(super) fn make_way(&mut self) {
        if self.queries() >= self.config.limit.queries
            && let Some(id) = self.pool.yielding()
        {
            self.abandon(id);
        }
    }

    /// A query is over: counts it, and tells those who look.
    fn on_end(&mut self, now: Timestamp, query: &Query, end: QueryEnd) {
        let took = now.since(query.started);
        self.stats.on_query_end(query.kind, end, took);
        spans::end_query(&query.span, end, took);
    }

    /// Ends a query with all its requests, and tells nobody.
    pub(super) fn abandon(&mut self, id: QueryId) {
        self.refresh.abandoned(id);
        let Some(query) = self.pool.take(id) else { return };
        self.pool.forget(id, &query);
        self.window.forget(id);
        self.on_end(self.time.now, &query, QueryEnd::Cancelled);
        query.in_flight.into_iter().for_each(|request| self.give_up(request));
        self.hand_waiting(self.time.now);
        self.end_joined(self.time.now, &query.machine, None);
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

    fn report_events(&mut self, id: QueryId, query: &Query, events: &mut Vec<QueryEvent>) {
        for event in events.drain(..).filter(|_| query.asked) {
            self.report(id, event);
        }
    }
}

/// The peers that an answer names and that can be asked, twice k at most, and not too many of one group: those that
/// others can reach, and whoever is looked for.
pub(super) fn named(peers: &Peers, config: &DhtConfig, target: &Key, response: &Response) -> Vec<Arc<Contact>> {
    let (Response::FindNode { closer } | Response::GetValue { closer, .. } | Response::GetProviders { closer, .. }) =
        response
    else {
        return Vec::new();
    };
    let worth = |contact: &Arc<Contact>| peers.is_routable(contact) || contact.key() == target;
    let most = config.lookup.replication.get().saturating_mul(2);
    let mut named: Vec<_> =
        closer.iter().filter_map(|contact| peers.contact_to_ask(contact)).filter(worth).take(most).collect();
    if let Some(diversity) = &config.routing.diversity {
        trim(&mut named, target, diversity);
    }
    named
}
