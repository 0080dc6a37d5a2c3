//! The life of a request that this node sends: sent, answered or failed, late, over.
//!
//! Knows: who is to hear of each end. Must not know: what an answer means.

use std::time::Duration;

use super::*;
use crate::core::back_off::FailedRequest;
use crate::core::message::{DialCause, Unreachable};

/// While few peers are known, a query that others have answered and that waits for nothing but dials gives them up this long
/// after the last answer. Source: three round trips around the world, and some.
pub(super) const DIAL_WAIT: Duration = Duration::from_millis(750);

impl Dht {
    /// Sends a request that no query waits for.
    pub(super) fn send(&mut self, now: Timestamp, owner: Owner, urgency: Urgency, to: &Arc<Contact>, request: Request) {
        let to = self.peers.with_known(&self.peers.filtered(to));
        let id = self.requests.queue(now, owner, urgency, to, request);
        self.pass_to_driver(now, id);
    }

    /// Hands as many of the requests that wait for their turn to the driver as there are slots for.
    pub(super) fn hand_waiting(&mut self, now: Timestamp) {
        while let Some(id) = self.window.next() {
            self.pass_to_driver(now, id);
        }
    }

    fn pass_to_driver(&mut self, now: Timestamp, id: RequestId) {
        let sent = self.dispatch(now, id);
        let Some(request) = self.requests.get(id) else { return };
        let (kind, to) = (request.kind(), &request.to);
        let query = match request.owner {
            Owner::Query(of, _) => self.pool.get_mut(of).map(|query| (of, query)),
            Owner::Probe | Owner::Evidence => None,
        };
        if !sent {
            if query.is_some() {
                self.window.release();
            }
            return;
        }
        self.stats.sent[kind as usize] += 1;
        // What the node asks of its own accord has no query's deadline, should the driver never begin with it.
        let asked = query.as_ref().is_some_and(|(_, query)| query.asked);
        let until = (!asked).then(|| now + self.config.lookup.query_timeout);
        let (of, parent) = query.as_ref().map_or((None, None), |(of, query)| (Some(*of), query.span.id()));
        let span = spans::request(of, parent, id, kind, to);
        if let Some((of, query)) = query {
            query.report.requests += 1;
            if query.progress {
                let shared_bits = query.target.common_prefix_len(to.key());
                let progress = Progress::Asked { peer: *to.peer(), kind, shared_bits };
                self.report(of, QueryEvent::Progress(progress));
            }
        }
        if self.requests.pass_to_driver(now, id, span, until) {
            self.begin(now, id, Begin::Behind);
        }
    }

    /// The driver dials for a request, or has begun to write it: the peer's time begins.
    pub(super) fn begin(&mut self, now: Timestamp, id: RequestId, begin: Begin) {
        if let Some(deadlines) = self.deadlines(id, begin == Begin::Dial) {
            self.requests.begin(now, id, begin, deadlines);
        }
    }

    fn deadlines(&mut self, id: RequestId, dials: bool) -> Option<Deadlines> {
        let request = self.requests.get(id)?;
        let lookup = &self.config.lookup;
        let entry = self.peers.table.get(request.to.key());
        // A query that others have answered need not wait longer for a peer that failed before; where none has answered,
        // `on_request_timeout` extends the limit.
        let failures = match request.owner {
            Owner::Query(..) => 0,
            Owner::Probe | Owner::Evidence => entry.map_or(0, |entry| entry.failures().into()),
        };
        let deadlines = match dials {
            true => self.rtt.of_dial(request.urgency, lookup),
            false => self.rtt.of_request(entry.map(|entry| entry.rtt), failures, request.urgency, lookup),
        };
        Some(match request.owner {
            Owner::Query(of, _) => deadlines.within(self.pool.get_mut(of).map_or(Duration::MAX, |query| query.timeout)),
            Owner::Probe | Owner::Evidence => deadlines,
        })
    }

    /// Has the driver send a request; where the peer may be dialled nowhere, that is its end. Says whether it is sent.
    fn dispatch(&mut self, now: Timestamp, id: RequestId) -> bool {
        let Some(of) = self.requests.get_mut(id) else { return false };
        of.connected = self.peers.is_connected(of.to.key());
        let trial = of.owner == Owner::Probe && self.peers.table.get(of.to.key()).is_none();
        let referrers = match of.owner {
            Owner::Query(query, tag) if !of.connected => {
                let lookup = self.pool.get_mut(query).and_then(|query| query.machine.lookup(tag));
                lookup.map_or_else(Vec::new, |lookup| lookup.referrers(of.to.key()))
            }
            _ => Vec::new(),
        };
        // It may have waited: this node's own addresses are others by now.
        match self.peers.choose_dial_addrs(now, &self.peers.filtered(&of.to), trial, &referrers) {
            Ok(to) => self.outputs.push_back(Output::Send { to, id, request: of.request() }),
            Err(why) => {
                self.refused.push_back((id, why.into()));
                return false;
            }
        }
        true
    }

    /// Ends the requests that no driver gets, after what led to them: each may have a query ask the next.
    pub(super) fn end_refused(&mut self, now: Timestamp) {
        while let Some((id, why)) = self.refused.pop_front() {
            self.on_response(now, id, Err(why));
        }
    }

    /// Sends a request once more: whose dial failed and taught that the next will go elsewhere, since whoever answers first
    /// ends a dial and may be a stranger; or whose dial may have met the peer's own; or whose connection closed on it, as
    /// idle ones do. Says whether it does.
    fn send_again(&mut self, now: Timestamp, id: RequestId, why: RequestError) -> bool {
        let Some(request) = self.requests.get_mut(id) else { return false };
        let key = *request.to.key();
        let again = match why {
            RequestError::Unreachable(_) => {
                let again = request.try_resend(self.peers.dials.retries_left(now, &key));
                if !again {
                    self.peers.dials.end(&key);
                }
                again
            }
            RequestError::ConnectionClosed if request.connected => {
                !self.peers.is_connected(&key) && request.try_resend(1)
            }
            _ => false,
        };
        if again {
            self.dispatch(now, id);
        }
        again
    }

    /// Nobody waits for this request any more.
    pub(super) fn give_up(&mut self, id: RequestId) {
        if let Some(request) = self.end(id).filter(InFlight::is_with_driver) {
            self.stats.cancelled[request.kind() as usize] += 1;
            spans::end_request(&request.span, "cancelled", None);
            match self.refused.iter().position(|(refused, _)| *refused == id) {
                Some(at) => _ = self.refused.remove(at),
                None => {
                    if !request.connected && !request.has_begun() {
                        self.peers.dials.cancel(request.to.key());
                    }
                    self.outputs.push_back(Output::Cancel { id });
                }
            }
        }
    }

    /// Ends a request; its slot is free.
    fn end(&mut self, id: RequestId) -> Option<InFlight> {
        let request = self.requests.end(id)?;
        if request.holds_slot() {
            self.window.release();
        }
        Some(request)
    }

    pub(super) fn on_response(&mut self, now: Timestamp, id: RequestId, result: Result<Response, RequestError>) {
        if result.as_ref().is_err_and(|why| self.send_again(now, id, *why)) {
            return;
        }
        let Some(request) = self.end(id) else { return };
        let asked = Asked { id, request };
        match result {
            Ok(response) => match asked.request.check(&response) {
                Ok(()) => self.on_answered(now, &asked, response),
                Err(what) => self.on_failed(now, &asked, RequestError::Misbehaved(what)),
            },
            Err(why) => self.on_failed(now, &asked, why),
        }
    }

    pub(super) fn on_answered(&mut self, now: Timestamp, asked: &Asked, response: Response) {
        let request = &asked.request;
        let took = request.elapsed(now);
        if !request.has_timed_out() {
            self.stats.on_answer(request.kind(), took);
            spans::end_request(&request.span, "answered", Some(took));
            self.window.on_answer(request.was_prompt());
            self.rtt.record_end(false);
        }
        self.peers.on_answer(now, request.to.key());
        self.requests.on_answer(request.to.key());
        let known = self.peers.table.len();
        self.admit(now, &request.to);
        self.on_growth(now, known);
        if let Some(took) = request.round_trip(now) {
            self.learn(now, request, took);
        }
        match request.owner {
            Owner::Query(id, tag) => self.on_query_answer(now, id, tag, asked, response),
            Owner::Probe => self.on_probed(now, request.to.peer(), Some(&response)),
            Owner::Evidence => {}
        }
    }

    /// What the time of an answer teaches: of all peers only where somebody still waited for it, or one that is slow would
    /// make all others look so.
    fn learn(&mut self, now: Timestamp, request: &InFlight, took: Duration) {
        if !request.dialled {
            self.peers.table.record(request.to.key(), took);
        }
        if request.has_timed_out() || !self.rtt.record(!request.dialled, took) || !request.dialled {
            return;
        }
        // It is the first dial; those beside it were judged by nothing.
        for dial in self.requests.dials() {
            if let Some(deadlines) = self.deadlines(dial, true) {
                self.requests.set_deadlines(now, dial, deadlines);
            }
        }
    }

    pub(super) fn on_failed(&mut self, now: Timestamp, asked: &Asked, why: RequestError) {
        let request = &asked.request;
        if let RequestError::Misbehaved(what) = why {
            self.misbehaved(*request.to.peer(), what);
        }
        if request.has_timed_out() {
            return;
        }
        if request.is_with_driver() {
            self.stats.on_failure(request.kind(), why);
            spans::end_request(&request.span, why.reason(), Some(request.elapsed(now)));
        }
        if why == RequestError::Busy {
            self.window.on_busy(now);
        }
        // Who refuses a record is alive: its store may be full, or it may know a better one.
        let refused = why == RequestError::Refused && matches!(request.kind(), Kind::PutValue | Kind::AddProvider);
        if !refused {
            self.hold_against(now, request, why);
        }
        match request.owner {
            Owner::Query(id, tag) => self.on_query_failure(now, id, tag, (asked.id, &request.to), why),
            Owner::Probe => self.on_probe_failed(now, &request.to, why),
            Owner::Evidence => {}
        }
    }

    /// What a failure means for the peer's place in the table.
    fn hold_against(&mut self, now: Timestamp, request: &InFlight, why: RequestError) {
        if why.is_the_peers() {
            self.rtt.record_end(true);
        }
        let to = &request.to;
        let told = match request.owner {
            Owner::Query(of, _) => self.pool.get_mut(of).is_some_and(|query| query.asked),
            Owner::Probe | Owner::Evidence => false,
        };
        match self.peers.on_failure(FailedRequest { now, asked: request.passed_at, to, why, told }, &mut self.rng) {
            Some(gone) => self.left_table(now, gone),
            None => {
                let failing = self.peers.table.get(to.key()).filter(|entry| entry.failures() > 0);
                let retry_at = failing.map(|entry| self.peers.check_at(entry, Duration::MAX));
                if let Some(at) = retry_at {
                    self.probes.on_entry_failed(at);
                }
            }
        }
        self.offer_waiting(now, to.key());
        self.contest(now, to.key(), false);
    }

    /// Tries a peer that waits for a place in the bucket of `key`, if there is one now: the first that may have it.
    pub(super) fn offer_waiting(&mut self, now: Timestamp, key: &Key) {
        if self.queue_waiting(now, key) {
            self.start_probes(now);
        }
    }

    pub(super) fn queue_waiting(&mut self, now: Timestamp, key: &Key) -> bool {
        while let Some(next) = self.peers.table.next_waiting(now, key) {
            if self.queue(now, next) {
                return true;
            }
        }
        false
    }

    pub(super) fn on_timeout(&mut self, now: Timestamp) {
        while let Some((id, alarm)) = self.requests.next_alarm(now) {
            match alarm {
                Alarm::Lateness(how) => self.on_late(now, id, how),
                Alarm::Reminder => _ = self.give_up_dial(now, id),
                Alarm::TimedOut => self.on_request_timeout(now, id),
            }
        }
        while let Some(id) = self.pool.expired(now) {
            self.on_query_expired(now, id);
        }
        self.run_checks(now);
        if self.expiry.begin(&self.time, self.storage.peek()) {
            let record = &self.config.record;
            let latest = self.time.date + record.value_ttl.max(record.provider_ttl);
            let expire = Op::Expire { limit: EXPIRED_AT_ONCE, latest };
            let done = self.storage.run(self.time.date, Asker::Expiry, expire);
            done.into_iter().for_each(|done| self.expiry.on_done(now, &done));
        }
        if self.snapshots.take_due(now) {
            self.save_peers();
        }
        self.run_refresh(now);
        self.hand_waiting(now);
        self.end_refused(now);
        self.run_upkeep(now);
    }

    fn on_late(&mut self, now: Timestamp, id: RequestId, how: Lateness) {
        let Some(request) = self.requests.get(id) else { return };
        let (peer, owner) = (Arc::clone(&request.to), request.owner);
        if how == Lateness::Overdue {
            for behind in self.requests.waiting_for(peer.key()) {
                self.begin(now, behind, Begin::Behind);
            }
        }
        let Owner::Query(of, tag) = owner else { return };
        if how == Lateness::Late {
            self.window.release();
        }
        if self.give_up_dial(now, id) {
            return;
        }
        if let Some(query) = self.pool.get_mut(of) {
            query.machine.on_late(&peer, tag, how);
            self.drive(now, of);
        }
    }

    /// Has a query go on without a dial where it waits for nothing but dials, and others have answered: those are far longer
    /// under way than most, or so few peers are known that there is nothing to compare them with.
    fn give_up_dial(&mut self, now: Timestamp, id: RequestId) -> bool {
        let Some(request) = self.requests.get(id).filter(|request| request.dials()) else { return false };
        let Owner::Query(of, tag) = request.owner else { return false };
        let (peer, few) = (Arc::clone(&request.to), self.peers.table.len() < self.config.lookup.replication.get());
        let Some(query) = self.pool.get_mut(of) else { return false };
        let (requests, quiet) = (&self.requests, now.since(query.heard) >= DIAL_WAIT);
        let too_long = |id: &RequestId| {
            requests.get(*id).is_some_and(|last| last.dials_far_too_long(now) || few && quiet && last.dials())
        };
        if query.report.answers == 0 || !query.in_flight.iter().all(too_long) {
            return false;
        }
        if requests.get(id).is_some_and(|late| late.holds_slot()) {
            self.window.release();
        }
        // The table still learns how the dial ends.
        self.requests.set_owner(id, Owner::Evidence);
        self.on_query_failure(now, of, tag, (id, &peer), Unreachable::DialFailed(DialCause::TimedOut).into());
        true
    }

    /// The time of a request is over. A query that nobody has answered has nothing better to do than to wait as long as it
    /// may; and whatever comes of the request, a late answer teaches how long the peer takes.
    fn on_request_timeout(&mut self, now: Timestamp, id: RequestId) {
        let most = self.config.lookup.request_timeout;
        if let Some(Owner::Query(of, _)) = self.requests.get(id).map(|request| request.owner)
            && self.pool.get_mut(of).is_some_and(|query| query.report.answers == 0)
            && self.requests.extend_limit(id, most)
        {
            return;
        }
        let Some(request) = self.end(id) else { return };
        let why = request.timeout_error(self.peers.is_connected(request.to.key()));
        let asked = Asked { id, request };
        self.on_failed(now, &asked, why);
        match asked.request.may_answer_until(most).filter(|until| *until > now) {
            Some(until) => self.requests.keep_timed_out(id, asked.request, until),
            None => self.outputs.push_back(Output::Cancel { id }),
        }
    }

    fn on_query_expired(&mut self, now: Timestamp, id: QueryId) {
        let Some(mut query) = self.pool.take(id) else { return };
        // What this node did not get to is no peer's failure.
        for request in query.in_flight.clone() {
            if let Some(Owner::Query(_, tag)) =
                self.requests.get(request).filter(|open| !open.has_begun()).map(|open| open.owner)
                && let Some(to) = self.requests.get(request).map(|open| Arc::clone(&open.to))
            {
                self.query_failed(id, &mut query, tag, &to, RequestError::Busy);
            }
        }
        let cx = Context::new(&self.time, &self.config, &self.peers, &self.rtt);
        let result = query.machine.expire(&cx, &mut query.report).unwrap_or_else(|| {
            let report = &mut query.report;
            for request in query.in_flight.iter().filter_map(|id| self.requests.get(*id)) {
                let peer = *request.to.peer();
                if !report.sent.contains(&peer) && !report.failed.iter().any(|failure| failure.peer == peer) {
                    report.failed.push(PeerFailure::new(peer, RequestError::Timeout));
                }
            }
            let best = query.machine.get().and_then(|get| get.take_best(&cx)).map(Box::new);
            let timed_out = |report| QueryError::TimedOut { after: query.timeout, best, report };
            Err(QueryError::overloaded(Box::new(std::mem::take(report))).unwrap_or_else(timed_out))
        });
        self.finish(now, id, query, result);
    }
}

/// A request that has just ended.
pub(super) struct Asked {
    pub(super) id: RequestId,
    pub(super) request: InFlight,
}
