//! Sends requests, and passes each answer, failure and delay to its owner.
//!
//! Knows: which part of the node an end concerns. Must not know: what an answer means.

use std::time::Duration;

use super::*;
use crate::core::message::{DialCause, Unreachable};
use crate::core::peers::FailedRequest;

/// While fewer than k peers are known, a query that has had an answer and waits only for dials gives these up after
/// this time without another answer. Source: a little more than three round trips around the world.
pub(super) const DIAL_WAIT: Duration = Duration::from_millis(750);

impl Dht {
    /// Sends a request of the routing table's upkeep, at once.
    pub(super) fn send(&mut self, now: Timestamp, owner: Owner, urgency: Urgency, to: &Arc<Contact>, request: Request) {
        let to = self.peers.with_known(&self.peers.filtered(to));
        let id = self.requests.queue(now, owner, urgency, to, request);
        self.pass_to_driver(now, id);
    }

    /// Passes waiting requests of queries to the driver, as many as there are slots for.
    pub(super) fn pass_waiting(&mut self, now: Timestamp) {
        while !self.suspended
            && let Some(id) = self.window.next()
        {
            self.pass_to_driver(now, id);
        }
    }

    fn pass_to_driver(&mut self, now: Timestamp, id: RequestId) {
        let sent = self.dispatch(now, id);
        let Some(request) = self.requests.get(id) else { return };
        let (kind, to) = (request.kind(), &request.to);
        let query = request.owner.query().and_then(|of| Some((of, self.pool.get_mut(of)?)));
        if !sent {
            if query.is_some() {
                self.window.release();
            }
            return;
        }
        self.stats.sent[kind as usize] += 1;
        // If the driver never begins with it, the timeout of its query ends a request of the application. Others need a
        // bound.
        let by_app = query.as_ref().is_some_and(|(_, query)| query.by_app);
        let until = if by_app { None } else { Some(now + self.config.lookup.query_timeout) };
        let (of, parent) = query.as_ref().map_or((None, None), |(of, query)| (Some(*of), query.span.id()));
        let span = spans::request(of, parent, id, kind, to);
        if let Some((_, query)) = query {
            query.report.requests += 1;
            if query.progress {
                let shared_bits = query.target.common_prefix_len(to.key());
                let progress = Progress::Asked { peer: *to.peer(), kind, shared_bits };
                report_to(&mut self.outputs, query, QueryEvent::Progress(progress));
            }
        }
        if self.requests.pass_to_driver(now, id, span, until) {
            self.begin(now, id, Begin::Behind);
        }
    }

    /// The driver dials for a request, or has begun to write it: the peer's deadlines count from now.
    pub(super) fn begin(&mut self, now: Timestamp, id: RequestId, begin: Begin) {
        if let Some(deadlines) = self.deadlines(id, begin == Begin::Dial) {
            self.requests.begin(now, id, begin, deadlines);
        }
    }

    fn deadlines(&mut self, id: RequestId, dials: bool) -> Option<Deadlines> {
        let request = self.requests.get(id)?;
        let lookup = &self.config.lookup;
        let entry = self.peers.table.get(request.to.key());
        // A query that other peers have answered need not wait longer for one that failed before. A query without an
        // answer does: `on_request_timeout` extends its deadlines.
        let failures = match request.owner.query() {
            Some(_) => 0,
            None => entry.map_or(0, |entry| entry.failures().into()),
        };
        let deadlines = match dials {
            true => self.rtt.of_dial(request.urgency, lookup),
            false => self.rtt.of_request(entry.map(|entry| entry.rtt), failures, request.urgency, lookup),
        };
        let query = request.owner.query().and_then(|of| self.pool.get_mut(of));
        Some(query.map_or(deadlines, |query| deadlines.within(query.timeout)))
    }

    /// Has the driver send a request. If the peer may not be dialled at any address, the request fails soon. Returns
    /// whether it is sent.
    fn dispatch(&mut self, now: Timestamp, id: RequestId) -> bool {
        let Some(of) = self.requests.get_mut(id) else { return false };
        of.connected = self.peers.is_connected(of.to.key());
        let trial = of.owner == Owner::Probe && self.peers.table.get(of.to.key()).is_none();
        let queued = of.owner.query().is_some() && !of.is_with_driver();
        let referrers = match of.owner {
            Owner::Query(query, tag) if !of.connected => {
                let lookup = self.pool.get_mut(query).and_then(|query| query.machine.lookup(tag));
                lookup.map_or_else(Vec::new, |lookup| lookup.referrers(of.to.key()))
            }
            _ => Vec::new(),
        };
        // The request may have waited, and this node's own addresses may have changed since.
        match self.peers.choose_dial_addrs(now, &self.peers.filtered(&of.to), trial, &referrers) {
            Ok(to) => {
                self.outputs.push_back(Output::Send { to, id, request: of.request() });
                true
            }
            Err(Unreachable::HostBackingOff) if queued && self.peers.may_dial_soon(now, &of.to) => {
                self.held.push(id);
                false
            }
            Err(why) => {
                self.refused.push_back((id, why.into()));
                false
            }
        }
    }

    /// Lets the requests that wait for other dials try again, since one of these may have ended.
    pub(super) fn pass_held(&mut self, now: Timestamp) {
        if self.held.is_empty() {
            return;
        }
        for id in std::mem::take(&mut self.held) {
            if let Some(query) = self.requests.get(id).and_then(|request| request.owner.query()) {
                self.window.wait(query, id);
            }
        }
        self.pass_waiting(now);
    }

    /// Ends the requests that were not passed to the driver. This comes after the step that led to them, since each end
    /// may make a query ask the next peer.
    pub(super) fn end_refused(&mut self, now: Timestamp) {
        while let Some((id, why)) = self.refused.pop_front() {
            self.on_response(now, id, Err(why));
        }
    }

    /// Sends a failed request once more, in three cases: its dial reached another peer, and the next dial will go to
    /// other addresses; its dial may have collided with the peer's own dial; its connection closed, as idle ones do.
    /// Returns whether it was sent.
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

    /// Cancels a request.
    pub(super) fn give_up(&mut self, id: RequestId) {
        if let Some(request) = self.end(id).filter(|request| request.is_with_driver()) {
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

    /// Ends a request, and frees its slot.
    pub(super) fn end(&mut self, id: RequestId) -> Option<Box<InFlight>> {
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
        let ended = EndedRequest { id, request };
        let checked = result.and_then(|response| match ended.request.check(&response) {
            Ok(()) => Ok(response),
            Err(what) => Err(RequestError::Misbehaved(what)),
        });
        match checked {
            Ok(response) => self.on_answered(now, &ended, response),
            Err(why) => self.on_failed(now, &ended, why),
        }
    }

    pub(super) fn on_answered(&mut self, now: Timestamp, ended: &EndedRequest, response: Response) {
        let request = &ended.request;
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
            Owner::Query(..) => self.on_query_answer(now, ended, response),
            Owner::Probe => self.on_probed(now, request.to.peer(), Some(&response)),
            Owner::Evidence => {}
        }
    }

    /// Learns from the time that an answer took. It counts for the estimate of all peers only if its owner still waited
    /// for it: otherwise one slow peer would make all others look slow.
    fn learn(&mut self, now: Timestamp, request: &InFlight, took: Duration) {
        if !request.dialled {
            self.peers.table.record(request.to.key(), took);
        }
        if request.has_timed_out() || !self.rtt.record(!request.dialled, took) || !request.dialled {
            return;
        }
        // This was the first dial. The deadlines of the dials beside it rest on no measurement: set them again.
        for dial in self.requests.dials() {
            if let Some(deadlines) = self.deadlines(dial, true) {
                self.requests.set_deadlines(now, dial, deadlines);
            }
        }
    }

    pub(super) fn on_failed(&mut self, now: Timestamp, ended: &EndedRequest, why: RequestError) {
        let request = &ended.request;
        if let RequestError::Misbehaved(what) = why {
            self.misbehaved(now, *request.to.peer(), what);
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
        // A peer that refuses a record is alive: its store may be full, or it may know a better one.
        let refused = why == RequestError::Refused && matches!(request.kind(), Kind::PutValue | Kind::AddProvider);
        if !refused {
            self.on_peer_failure(now, request, why);
        }
        match request.owner {
            Owner::Query(id, tag) => self.on_query_failure(now, id, tag, (ended.id, &request.to), why),
            Owner::Probe => self.on_probe_failed(now, &request.to, why),
            Owner::Evidence => {}
        }
    }

    /// Counts a failure against the peer: for the back-off, and for its place in the table.
    fn on_peer_failure(&mut self, now: Timestamp, request: &InFlight, why: RequestError) {
        if why.is_the_peers() {
            self.rtt.record_end(true);
        }
        let to = &request.to;
        let reported = request.owner.query().and_then(|of| self.pool.get_mut(of)).is_some_and(|query| query.by_app);
        match self.peers.on_failure(FailedRequest { now, asked: request.passed_at, to, why, reported }, &mut self.rng) {
            Some(gone) => self.left_table(now, gone),
            None => {
                if let Some(entry) = self.peers.table.get(to.key())
                    && entry.failures() > 0
                {
                    self.probes.on_entry_failed(self.peers.check_at(entry, Duration::MAX));
                }
            }
        }
        self.offer_waiting(now, to.key());
        self.challenge(now, to.key(), false);
    }

    /// Probes the first peer that waits for a place in the bucket of `key` and may have one now.
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
        if self.expiry.begin(&self.time, self.store_ops.peek()) {
            let record = &self.config.record;
            let latest = self.time.date + record.value_ttl.max(record.provider_ttl);
            let expire = Op::Expire { limit: EXPIRED_AT_ONCE, latest };
            let done = self.store_ops.run(self.time.date, Waiter::Expiry, expire);
            if let Some(done) = done {
                self.expiry.on_done(now, &done);
            }
        }
        if self.snapshots.take_due(now) {
            self.save_peers();
        }
        loop {
            self.run_refresh(now);
            self.pass_held(now);
            self.pass_waiting(now);
            self.end_refused(now); // which may end a refresh, and make others due
            if self.refresh.next(now).is_none() {
                break;
            }
        }
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

    /// Makes a query go on without a dial, if it has had an answer and waits only for dials that take far longer than
    /// most, or if too few peers are known to tell what is long. Returns whether it does.
    fn give_up_dial(&mut self, now: Timestamp, id: RequestId) -> bool {
        let Some(request) = self.requests.get(id).filter(|request| request.dials()) else { return false };
        let Owner::Query(of, tag) = request.owner else { return false };
        let (few, peer) = (self.knows_fewer_than_k(), Arc::clone(&request.to));
        let Some(query) = self.pool.get_mut(of) else { return false };
        let quiet = now.since(query.answered_at) >= DIAL_WAIT;
        let dials_too_long = |id: &RequestId| {
            let open = self.requests.get(*id);
            open.is_some_and(|open| open.dials_far_too_long(now) || few && quiet && open.dials())
        };
        if query.report.answers == 0 || !query.in_flight.iter().all(dials_too_long) {
            return false;
        }
        if request.holds_slot() {
            self.window.release();
        }
        // The table still learns how the dial ends.
        self.requests.set_owner(id, Owner::Evidence);
        self.on_query_failure(now, of, tag, (id, &peer), Unreachable::DialFailed(DialCause::TimedOut).into());
        true
    }

    /// A request has timed out. A query without any answer has nothing better to do than to wait up to the longest
    /// limit. And whatever the end of the request, a late answer shows how long the peer takes.
    fn on_request_timeout(&mut self, now: Timestamp, id: RequestId) {
        let most = self.config.lookup.request_timeout;
        if let Some(of) = self.requests.get(id).and_then(|request| request.owner.query())
            && self.pool.get_mut(of).is_some_and(|query| query.report.answers == 0)
            && self.requests.extend_limit(id, most)
        {
            return;
        }
        let Some(request) = self.end(id) else { return };
        let why = request.timeout_error(self.peers.is_connected(request.to.key()));
        let ended = EndedRequest { id, request };
        self.on_failed(now, &ended, why);
        match ended.request.may_answer_until(most).filter(|until| *until > now) {
            Some(until) => self.requests.keep_timed_out(id, ended.request, until),
            None => self.outputs.push_back(Output::Cancel { id }),
        }
    }

    pub(super) fn on_query_expired(&mut self, now: Timestamp, id: QueryId) {
        let Some(mut query) = self.pool.take(id) else { return };
        if let Some(leader) = query.leader() {
            // It has the result that the leader would have at this moment.
            let Some(mut copy) = self.pool.get(leader).map(RunningQuery::copy) else { return };
            copy.timeout = query.timeout;
            let result = self.expired_result(&mut copy);
            self.finish(now, query, result);
        } else if query.followers.is_empty() {
            let result = self.expired_result(&mut query);
            self.finish(now, query, result);
        } else {
            let result = self.expired_result(&mut query.copy());
            self.end_call(query, result);
        }
    }

    /// The result of a query whose time is up; the query is of no use afterwards.
    fn expired_result(&mut self, query: &mut RunningQuery) -> Result<Answer, QueryError> {
        // A request that the driver did not begin with is this node's failure, not the peer's.
        for request in query.in_flight.clone() {
            if let Some(open) = self.requests.get(request)
                && !open.has_begun()
                && let Owner::Query(_, tag) = open.owner
            {
                let to = Arc::clone(&open.to);
                self.query_failed(query, tag, &to, RequestError::Busy);
            }
        }
        let cx = self.cx();
        query.machine.expire(&cx, &mut query.report).unwrap_or_else(|| {
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
        })
    }
}

/// A request that has just ended.
pub(super) struct EndedRequest {
    pub(super) id: RequestId,
    pub(super) request: Box<InFlight>,
}
