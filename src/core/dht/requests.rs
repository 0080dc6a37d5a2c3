//! The life of a request that this node sends: sent, answered or failed, late, over.
//!
//! Knows: who is to hear of each end. Must not know: what an answer means.

use std::time::Duration;

use super::*;
use crate::core::back_off::Failure;

impl Dht {
    pub(super) fn send(
        &mut self,
        now: Timestamp,
        owner: Owner,
        pace: Pace,
        to: Arc<Contact>,
        request: Request,
    ) -> RequestId {
        let to = self.peers.dialled(&self.peers.admissible(&to));
        let warm = self.peers.is_connected(to.key());
        let rtt = self.peers.table.get(to.key()).map(|entry| entry.rtt);
        let mut patience = self.experience.patience(rtt, warm, pace, &self.config.lookup);
        let (mut of, mut parent) = (None, None);
        if let Owner::Query(id, _) = owner
            && let Some(query) = self.pool.get_mut(id)
        {
            patience = patience.within(query.timeout);
            (of, parent) = (Some(id), query.span.id());
        }
        self.stats.sent[request.kind() as usize] += 1;
        let id = self.requests.start(now, owner, Arc::clone(&to), request.clone(), warm, patience);
        self.requests.trace(id, spans::request(of, parent, id, request.kind(), &to));
        self.outputs.push_back(Output::Send { to, id, request });
        id
    }

    /// Nobody waits for this request any more.
    pub(super) fn give_up(&mut self, id: RequestId) {
        if let Some(request) = self.requests.end(id) {
            self.stats.cancelled[request.kind() as usize] += 1;
            spans::end_request(&request.span, "cancelled", None);
            self.outputs.push_back(Output::Cancel { id });
        }
    }

    pub(super) fn on_response(&mut self, now: Timestamp, id: RequestId, result: Result<Response, RequestError>) {
        let Some(request) = self.requests.end(id) else { return };
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
        self.stats.on_answer(request.kind(), request.took(now));
        spans::end_request(&request.span, "answered", Some(request.took(now)));
        self.peers.on_answer(now, request.to.key());
        let known = self.peers.table.len();
        self.admit(now, &request.to);
        self.on_growth(now, known);
        self.experience.record(request.warm, request.took(now));
        self.experience.record_end(false);
        if request.warm {
            self.peers.table.record(request.to.key(), request.took(now));
        }
        match request.owner {
            Owner::Query(id, tag) => self.on_query_answer(now, id, tag, asked, response),
            Owner::Probe => self.on_probed(now, request.to.peer(), Some(&response)),
            Owner::Evidence => {}
        }
    }

    pub(super) fn on_failed(&mut self, now: Timestamp, asked: &Asked, why: RequestError) {
        let request = &asked.request;
        self.stats.on_failure(request.kind(), why);
        spans::end_request(&request.span, why.reason(), Some(request.took(now)));
        if let RequestError::Misbehaved(what) = why {
            self.misbehaved(*request.to.peer(), what);
        }
        // Who refuses a record is alive: its store may be full, or it may know a better one.
        let refused = why == RequestError::Refused && matches!(request.kind(), Kind::PutValue | Kind::AddProvider);
        if !refused {
            self.hold_against(now, request, why);
        }
        match request.owner {
            Owner::Query(id, tag) => self.on_query_failure(now, id, tag, asked, why),
            Owner::Probe => self.on_probe_failed(now, &request.to, why),
            Owner::Evidence => {}
        }
    }

    /// What a failure means for the peer's place in the table.
    fn hold_against(&mut self, now: Timestamp, request: &InFlight, why: RequestError) {
        if why.is_the_peers() {
            self.experience.record_end(true);
        }
        let (to, told) = (&request.to, matches!(request.owner, Owner::Query(..)));
        match self.peers.on_failure(Failure { now, asked: request.sent, to, why, told }, &mut self.rng) {
            Some(gone) => self.left_table(now, gone),
            None => {
                let failing = self.peers.table.get(to.key()).filter(|entry| entry.failures() > 0);
                let retry_at = failing.map(|entry| self.peers.check_at(entry, Duration::MAX));
                retry_at.into_iter().for_each(|at| self.checks.on_failure(at));
            }
        }
        self.offer_waiting(now, to.key());
    }

    /// Tries a peer that waits for a place in the bucket of `key`, if there is one now: the first that may have it.
    pub(super) fn offer_waiting(&mut self, now: Timestamp, key: &Key) {
        while let Some(next) = self.peers.table.next_waiting(now, key) {
            if self.queue(now, next) {
                return self.start_probes(now);
            }
        }
    }

    pub(super) fn on_timeout(&mut self, now: Timestamp) {
        while let Some(alarm) = self.requests.next_alarm(now) {
            match alarm {
                Alarm::Tardy(id, how) => self.on_tardy(now, id, how),
                Alarm::Over(id, request) => {
                    self.outputs.push_back(Output::Cancel { id });
                    let sent = self.peers.is_connected(request.to.key());
                    let why = request.timed_out(sent);
                    self.on_failed(now, &Asked { id, request: *request }, why);
                }
            }
        }
        while let Some(id) = self.pool.expired(now) {
            self.on_query_expired(now, id);
        }
        self.run_checks(now);
        self.expiry.run(now, self.storage.store());
        if self.snapshots.take_due(now) {
            self.save_peers();
        }
        self.run_refresh(now);
        self.run_upkeep(now);
    }

    pub(super) fn on_tardy(&mut self, now: Timestamp, id: RequestId, how: Tardy) {
        let Some(request) = self.requests.get(id) else { return };
        let Owner::Query(query, tag) = request.owner else { return };
        let peer = Arc::clone(&request.to);
        if let Some(query) = self.pool.get_mut(query) {
            query.machine.on_tardy(&peer, tag, how);
        }
        self.drive(now, query);
    }

    pub(super) fn on_query_expired(&mut self, now: Timestamp, id: QueryId) {
        let Some(query) = self.pool.get_mut(id) else { return };
        let cx = Context { now, config: &self.config, peers: &self.peers, experience: &self.experience };
        let result = query.machine.expire(&cx, &mut query.report).unwrap_or_else(|| {
            let report = &mut query.report;
            for request in query.in_flight.iter().filter_map(|id| self.requests.get(*id)) {
                let peer = *request.to.peer();
                if !report.sent.contains(&peer) && !report.failed.iter().any(|failure| failure.peer == peer) {
                    report.failed.push(PeerFailure::new(peer, RequestError::Timeout));
                }
            }
            let (after, report) = (query.timeout, Box::new(std::mem::take(report)));
            Err(QueryError::TimedOut { after, best: query.machine.take_best(&cx).map(Box::new), report })
        });
        self.finish(now, id, result);
    }
}

/// A request that has just ended.
pub(super) struct Asked {
    pub(super) id: RequestId,
    pub(super) request: InFlight,
}
