//! The life of a query inside the node: its steps, its requests, its end.
//!
//! Knows: which machine hears of what. Must not know: what any of them is for.

use super::requests::Asked;
use super::*;

impl Dht {
    pub(super) fn preparing(&mut self, now: Timestamp) -> Preparing<'_> {
        let cx = Context { now, config: &self.config, peers: &self.peers, experience: &self.experience };
        Preparing { cx, storage: &mut self.storage, rng: &mut self.rng }
    }

    /// Lets a query take its next steps until it waits or ends.
    pub(super) fn drive(&mut self, now: Timestamp, id: QueryId) {
        let mut events = Vec::new();
        loop {
            let Some(query) = self.pool.get_mut(id) else { return };
            let cx = Context { now, config: &self.config, peers: &self.peers, experience: &self.experience };
            let step = query.machine.next(&cx, &mut query.report, &mut events);
            self.report_events(id, &mut events);
            match step {
                Step::Ask(to, request, tag) => self.ask(now, id, to, request, tag),
                Step::Wait => return,
                Step::Finish(result) => return self.finish(now, id, result),
            }
        }
    }

    pub(super) fn ask(&mut self, now: Timestamp, id: QueryId, to: Arc<Contact>, request: Request, tag: Tag) {
        let kind = request.kind();
        let peer = *to.peer();
        let key = *to.key();
        if let Some(why) = self.peers.why_held(now, &to) {
            self.stats.held_back += 1;
            return self.query_failed(id, tag, &to, why);
        }
        let pace = self.pool.get_mut(id).map_or(Pace::Steady, |query| query.machine.pace());
        if matches!(kind, Kind::PutValue | Kind::AddProvider)
            && let Some(cause) = self.pool.get_mut(id).and_then(|query| query.machine.cause())
        {
            self.stats.stores.count(cause);
        }
        let request = self.send(now, Owner::Query(id, tag), pace, to, request);
        let Some(query) = self.pool.get_mut(id) else { return };
        query.in_flight.push(request);
        query.report.requests += 1;
        if query.progress {
            let shared_bits = query.target.common_prefix_len(&key);
            self.report(id, QueryEvent::Progress(Progress::Asked { peer, kind, shared_bits }));
        }
    }

    /// The store did what a query needs of it.
    pub(super) fn on_local(&mut self, now: Timestamp, id: QueryId, outcome: Outcome) {
        let Some(query) = self.pool.get_mut(id) else { return };
        let cx = Context { now, config: &self.config, peers: &self.peers, experience: &self.experience };
        let mut events = Vec::new();
        query.machine.on_local(&cx, outcome, &mut events);
        self.report_events(id, &mut events);
        self.drive(now, id);
    }

    /// A request of a query was answered, and the answer fits.
    pub(super) fn on_query_answer(&mut self, now: Timestamp, id: QueryId, tag: Tag, asked: &Asked, response: Response) {
        let Some(query) = self.pool.get_mut(id) else { return };
        let target = query.machine.walk_target(tag).unwrap_or(query.target);
        let closer = named(&self.peers, &self.config, &target, &response);
        let cx = Context { now, config: &self.config, peers: &self.peers, experience: &self.experience };
        let found = response.has_records();
        let heard = Heard { from: &asked.request.to, tag, response, closer: &closer };
        query.in_flight.retain(|request| *request != asked.id);
        let mut events = Vec::new();
        let news = query.machine.on_answer(&cx, heard, &mut events);
        match news {
            Ok(news) => {
                let helped = news > 0 || found;
                if let Some(entry) = self.peers.table.get_mut(asked.request.to.key()).filter(|_| helped) {
                    entry.on_useful(now);
                }
                query.report.answers += 1;
                query.answered = true;
                if query.progress {
                    let took = asked.request.took(now);
                    let shared_bits = query.target.common_prefix_len(asked.request.to.key());
                    let peer = *asked.request.to.peer();
                    events.push(QueryEvent::Progress(Progress::Answered { peer, took, shared_bits, news }));
                }
            }
            Err(what) => {
                let (peer, why) = (*asked.request.to.peer(), RequestError::Misbehaved(what));
                query.report.failed.push(PeerFailure::new(peer, why));
                events.extend(query.progress.then_some(QueryEvent::Progress(Progress::Failed { peer, why })));
                self.misbehaved(peer, what);
            }
        }
        self.report_events(id, &mut events);
        self.drive(now, id);
    }

    pub(super) fn on_query_failure(&mut self, now: Timestamp, id: QueryId, tag: Tag, asked: &Asked, why: RequestError) {
        if let Some(query) = self.pool.get_mut(id) {
            query.in_flight.retain(|request| *request != asked.id);
        }
        self.query_failed(id, tag, &asked.request.to, why);
        self.drive(now, id);
    }

    /// A peer failed a query, or is held back since it failed before.
    fn query_failed(&mut self, id: QueryId, tag: Tag, to: &Arc<Contact>, why: RequestError) {
        let Some(query) = self.pool.get_mut(id) else { return };
        let peer = *to.peer();
        query.report.failed.push(PeerFailure::new(peer, why));
        query.machine.on_failure(to, tag, why);
        if query.progress {
            self.report(id, QueryEvent::Progress(Progress::Failed { peer, why }));
        }
    }

    /// Ends a query. Requests that are merely late run out their time, so that the table learns who is dead.
    pub(super) fn finish(&mut self, now: Timestamp, id: QueryId, result: Result<Answer, QueryError>) {
        let Some(mut query) = self.pool.remove(id) else { return };
        self.on_end(now, &query, QueryEnd::of(&result));
        for request in std::mem::take(&mut query.in_flight) {
            match self.requests.get(request) {
                Some(late) if late.tardy.is_some() => self.requests.leave_to(request, Owner::Evidence),
                _ => self.give_up(request),
            }
        }
        self.on_looked_into(now, id, &query);
        let follow_up = query.machine.take_follow_up();
        self.end_joined(now, &query.machine, Some(&result));
        self.on_brought(now, id, query.machine, &result);
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
                joined.into_iter().for_each(|id| self.finish(now, id, result.clone()));
            }
            _ => {
                let Some(id) = joined.first().copied() else { return };
                let Preparing { cx, rng, .. } = self.preparing(now);
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
            self.storage.keep_value(now, Asker::Nobody, record);
        }
        self.stats.stores.corrected += follow_up.corrected.len() as u64;
        self.stats.stores.cached += u64::from(follow_up.cached.is_some());
        if let Some(machine) = follow_up.into_machine() {
            let mut query = Query::new(Machine::Correct(machine), target);
            (query.asked, query.yields) = (false, true);
            self.pool.insert(now, id, self.config.lookup.request_timeout, query);
            self.drive(now, id);
        }
    }

    /// Where as many queries run as may, one that nobody waits for gives way.
    pub(super) fn make_way(&mut self) {
        if self.pool.len() - self.upkeep.runs() - self.refresh.runs() >= self.config.limit.queries
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
        let Some(query) = self.pool.remove(id) else { return };
        self.on_end(self.now, &query, QueryEnd::Cancelled);
        query.in_flight.into_iter().for_each(|request| self.give_up(request));
        self.end_joined(self.now, &query.machine, None);
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
        let event = self.screen_event(event);
        self.outputs.push_back(Output::Event(Event::Query { id, event }));
    }

    pub(super) fn report_events(&mut self, id: QueryId, events: &mut Vec<QueryEvent>) {
        let asked = self.pool.get_mut(id).is_some_and(|query| query.asked);
        for event in events.drain(..).filter(|_| asked) {
            self.report(id, event);
        }
    }
}

/// The peers that an answer names and that can be asked, twice k at most, and not too many of one group: those that
/// others can reach, and whoever is looked for.
pub(super) fn named(peers: &Peers, config: &Config, target: &Key, response: &Response) -> Vec<Arc<Contact>> {
    let (Response::FindNode { closer } | Response::GetValue { closer, .. } | Response::GetProviders { closer, .. }) =
        response
    else {
        return Vec::new();
    };
    let worth = |contact: &Arc<Contact>| peers.is_routable(contact) || contact.key() == target;
    let most = config.lookup.replication.get().saturating_mul(2);
    let mut named: Vec<_> =
        closer.iter().filter_map(|contact| peers.askable(contact)).filter(worth).take(most).collect();
    if let Some(diversity) = &config.routing.diversity {
        trim(&mut named, target, diversity);
    }
    named
}
