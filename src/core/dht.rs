//! The composer: routes inputs to the parts and the parts' wishes to outputs.
//!
//! Knows: which part concerns what. Must not know: any policy; an `if` about the protocol belongs into a part.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

use bytes::Bytes;
use libp2p_identity::PeerId;
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng as _;

use super::config::Config;
use super::contact::Contact;
use super::error::{ConfigError, PeerFailure, QueryError};
use super::io::{
    Answer, Event, InboundId, Input, Mode, Operation, Output, Progress, QueryEvent, QueryId, QueryOptions, Refusal,
    Reply, RequestId, Wake,
};
use super::key::Key;
use super::lookup::Tardy;
use super::maintain::{Expiry, Probes, Refresh};
use super::message::{Misbehaviour, Request, RequestError, Response, Unreachable};
use super::peers::Peers;
use super::prepare::{Preparing, prepare};
use super::query::{Context, Heard, Pool, QuerySnapshot, Step};
use super::record::RecordKey;
use super::requests::{Alarm, InFlight, Owner, Requests, Tag};
use super::routing::{Offer, RoutingSnapshot};
use super::rtt::Experience;
use super::server::{Served, Server, ServerContext};
use super::stats::Stats;
use super::storage::{Asker, Outcome, Storage, Visit};
use super::store::{Done, Store, StoreError};
use super::time::Timestamp;

/// One node of the DHT: a state machine without a clock, a socket or a task.
///
/// **Call anything in any order; then drain [`poll_output`](Dht::poll_output) to `None`; then sleep until
/// [`poll_timeout`](Dht::poll_timeout) or the next input.** Draining late only makes things late.
///
/// The laws that hold in every order of events: each [`Output::Send`] ends in one [`Input::Response`] or one
/// [`Output::Cancel`]; each [`start`](Dht::start) in one [`QueryEvent::Finished`]; each [`Input::Request`] in one
/// [`Output::Reply`] or one [`Input::RequestGone`].
#[derive(Debug)]
pub struct Dht {
    config: Arc<Config>,
    rng: ChaCha8Rng,
    mode: Mode,
    peers: Peers,
    storage: Storage,
    requests: Requests,
    experience: Experience,
    pool: Pool,
    server: Server,
    probes: Probes,
    refresh: Refresh,
    expiry: Expiry,
    stats: Stats,
    outputs: VecDeque<Output>,
}

/// As many queries run as may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many queries at once")]
#[non_exhaustive]
pub struct Busy;

impl Dht {
    /// Builds a node; all randomness comes from `seed`, all time from `now`. It begins as a server.
    ///
    /// # Errors
    ///
    /// Names the field of the configuration that cannot work.
    pub fn new(
        now: Timestamp,
        local: Arc<Contact>,
        store: Box<dyn Store>,
        seed: [u8; 32],
        config: Arc<Config>,
    ) -> Result<Dht, ConfigError> {
        config.validate()?;
        let mut rng = ChaCha8Rng::from_seed(seed);
        Ok(Dht {
            mode: Mode::default(),
            peers: Peers::new(local, &config),
            storage: Storage::new(store, config.record.clone()),
            requests: Requests::default(),
            experience: Experience::default(),
            pool: Pool::default(),
            server: Server::default(),
            probes: Probes::new(config.maintenance.probes, config.limit.candidates),
            refresh: Refresh::new(now, config.maintenance.refresh_interval, &mut rng),
            expiry: Expiry::default(),
            stats: Stats::default(),
            outputs: VecDeque::new(),
            rng,
            config,
        })
    }

    /// Starts an operation and returns its id at once; its result is a later [`Event::Query`].
    ///
    /// # Errors
    ///
    /// [`Busy`] if as many queries run as the configuration allows, or if the store is as many answers behind. What else
    /// is wrong with the operation is told by its [`QueryEvent::Finished`].
    pub fn start(&mut self, now: Timestamp, operation: Operation, options: QueryOptions) -> Result<QueryId, Busy> {
        let limit = &self.config.limit;
        // A query that ended early leaves its job with the store, which may be slow.
        let store_behind = self.storage.jobs() >= limit.queries.saturating_add(limit.inbound);
        if self.pool.len() >= limit.queries || store_behind {
            return Err(Busy);
        }
        let id = self.pool.next_id();
        self.stats.queries_started += 1;
        match prepare(self.preparing(now), id, operation, &options) {
            Ok((mut query, local)) => {
                query.progress = options.progress;
                let timeout = options.timeout.unwrap_or(self.config.lookup.query_timeout);
                self.pool.insert(now, id, timeout, query);
                match local {
                    Some(outcome) => self.on_local(now, id, outcome),
                    None => self.drive(now, id),
                }
            }
            Err(why) => self.announce_end(id, Err(why)),
        }
        Ok(id)
    }

    /// Ends an operation early, with all its requests; idempotent. Has no effect on what the node asks of itself.
    pub fn cancel(&mut self, id: QueryId) {
        if self.pool.get_mut(id).is_none_or(|query| !query.asked) {
            return;
        }
        if let Some(query) = self.pool.remove(id) {
            for request in query.in_flight {
                self.give_up(request);
            }
            self.announce_end(id, Err(QueryError::Cancelled));
        }
    }

    /// Tells the node what happened; never fails, never blocks, ignores what is late or unknown.
    pub fn handle_input(&mut self, now: Timestamp, input: Input) {
        match input {
            Input::AddPeer(contact) => self.on_contact(now, &contact, true),
            Input::Discovered(contact) => self.on_contact(now, &contact, false),
            Input::Connected { peer, outbound_addr } => self.on_connected(now, peer, outbound_addr),
            Input::Disconnected { peer } => {
                self.peers.connected.remove(&peer);
                self.peers.serving.remove(&peer);
            }
            Input::Serves { peer, yes } => self.on_serves(now, peer, yes),
            Input::Request { from, id, request } => self.on_request(now, from, id, request),
            Input::RequestGone { id } => {
                self.server.on_gone(id);
            }
            Input::Stored { ticket, result } => {
                let outcomes = self.storage.on_stored(now, ticket, result);
                self.on_outcomes(now, outcomes);
            }
            Input::Loaded { ticket, result } => {
                let outcomes = self.storage.on_loaded(now, ticket, result);
                self.on_outcomes(now, outcomes);
            }
            Input::Response { id, result } => self.on_response(now, id, result),
            Input::Mode(mode) => self.mode = mode,
            Input::LocalAddrs(addrs) => self.peers.local = self.peers.local.with_multiaddrs(addrs),
            Input::Timeout => self.on_timeout(now),
        }
    }

    /// Hands out the next effect; `None` means: nothing more until the next input or timeout.
    #[must_use]
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// The earliest time at which [`Input::Timeout`] is worth sending; `None` means: not before some input.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        self.next_wake().map(|(at, _)| at)
    }

    /// Why [`poll_timeout`](Dht::poll_timeout) says what it says.
    pub fn next_wake(&self) -> Option<(Timestamp, Wake)> {
        let wakes = [
            self.requests.next_wake().map(|(at, id)| (at, Wake::Request(id))),
            self.pool.next_wake().map(|(at, id)| (at, Wake::Query(id))),
            self.expiry.due(self.storage.peek()).map(|at| (at, Wake::Expiry)),
            self.refresh.due().map(|at| (at, Wake::Maintenance)),
        ];
        wakes.into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    /// Lets the store finish what was pending, and registers `waker` to be woken when it can finish more. Drivers of a
    /// store that never answers `Pending` need not call it.
    pub fn poll_store(&mut self, now: Timestamp, waker: &Waker) {
        while let Some(done) = self.storage.store().poll_done(waker) {
            self.handle_input(
                now,
                match done {
                    Done::Stored { ticket, result } => Input::Stored { ticket, result },
                    Done::Loaded { ticket, result } => Input::Loaded { ticket, result },
                },
            );
        }
    }

    /// Stops announcing that this node provides `key`. Peers that were told forget it when its time is over.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub fn stop_providing(&mut self, key: &RecordKey) -> Result<(), StoreError> {
        let local = *self.peers.local.peer();
        self.storage.forget(|store| store.remove_provider(key, &local))
    }

    /// Forgets the value kept here under `key`. Peers that keep it forget it when its time is over.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub fn remove_value(&mut self, key: &RecordKey) -> Result<(), StoreError> {
        self.storage.forget(|store| store.remove(key))
    }

    /// Whether this node serves.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The node itself, with the addresses that it has now.
    pub fn local(&self) -> &Arc<Contact> {
        &self.peers.local
    }

    /// What is known of another peer: its addresses, from the table or from those who told.
    pub fn contact(&self, peer: &PeerId) -> Option<Arc<Contact>> {
        self.peers.contact(peer)
    }

    /// What the routing table holds now, for people.
    pub fn routing_snapshot(&self) -> RoutingSnapshot {
        self.peers.table.snapshot(*self.peers.local.peer(), |peer| self.peers.connected.contains(peer))
    }

    /// The queries that run now, for people.
    pub fn query_snapshots(&self) -> Vec<QuerySnapshot> {
        self.pool.snapshots()
    }

    /// What this node did since it started.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// What is kept.
    pub fn store(&mut self) -> &mut dyn Store {
        self.storage.store()
    }

    /// Lets a peer into the routing table as if it had just answered a request.
    ///
    /// For simulations that start warm: tables filled from global knowledge by the rules that joins follow.
    #[cfg(any(test, feature = "testing", feature = "sim"))]
    pub fn admit_verified(&mut self, now: Timestamp, contact: &Arc<Contact>) {
        self.admit(now, contact);
    }

    // ---- queries ------------------------------------------------------------------------------------------------

    fn preparing(&mut self, now: Timestamp) -> Preparing<'_> {
        let cx = Context { now, config: &self.config, peers: &self.peers, experience: &self.experience };
        Preparing { cx, storage: &mut self.storage, rng: &mut self.rng }
    }

    /// Lets a query take its next steps until it waits or ends.
    fn drive(&mut self, now: Timestamp, id: QueryId) {
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

    fn ask(&mut self, now: Timestamp, id: QueryId, to: Arc<Contact>, request: Request, tag: Tag) {
        let kind = request.kind();
        let peer = *to.peer();
        let key = *to.key();
        let request = self.send(now, Owner::Query(id, tag), to, request);
        let Some(query) = self.pool.get_mut(id) else { return };
        query.in_flight.push(request);
        query.report.requests += 1;
        if query.progress {
            let shared_bits = query.target.common_prefix_len(&key);
            self.report(id, QueryEvent::Progress(Progress::Asked { peer, kind, shared_bits }));
        }
    }

    /// The store did what a query needs of it.
    fn on_local(&mut self, now: Timestamp, id: QueryId, outcome: Outcome) {
        let Some(query) = self.pool.get_mut(id) else { return };
        let cx = Context { now, config: &self.config, peers: &self.peers, experience: &self.experience };
        let mut events = Vec::new();
        query.machine.on_local(&cx, outcome, &mut events);
        self.report_events(id, &mut events);
        self.drive(now, id);
    }

    /// A request of a query was answered, and the answer fits.
    fn on_query_answer(&mut self, now: Timestamp, id: QueryId, tag: Tag, asked: &Asked, response: Response) {
        let Some(query) = self.pool.get_mut(id) else { return };
        let closer = askable(&self.peers, &response, self.config.lookup.replication.get().saturating_mul(2));
        let cx = Context { now, config: &self.config, peers: &self.peers, experience: &self.experience };
        let heard = Heard { from: &asked.request.to, tag, response, closer: &closer };
        query.in_flight.retain(|request| *request != asked.id);
        let mut events = Vec::new();
        let news = query.machine.on_answer(&cx, heard, &mut events);
        match news {
            Ok(news) => {
                query.report.answers += 1;
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

    fn on_query_failure(&mut self, now: Timestamp, id: QueryId, tag: Tag, asked: &Asked, why: RequestError) {
        let Some(query) = self.pool.get_mut(id) else { return };
        let peer = *asked.request.to.peer();
        query.in_flight.retain(|request| *request != asked.id);
        query.report.failed.push(PeerFailure::new(peer, why));
        query.machine.on_failure(&asked.request.to, tag, why);
        if query.progress {
            self.report(id, QueryEvent::Progress(Progress::Failed { peer, why }));
        }
        self.drive(now, id);
    }

    /// Ends a query. Requests that are merely late run out their time, so that the table learns who is dead.
    fn finish(&mut self, now: Timestamp, id: QueryId, result: Result<Answer, QueryError>) {
        let Some(query) = self.pool.remove(id) else { return };
        for request in query.in_flight {
            match self.requests.get(request) {
                Some(late) if late.tardy.is_some() => self.requests.leave_to(request, Owner::Evidence),
                _ => self.give_up(request),
            }
        }
        self.refresh.finished(now, id, &mut self.rng);
        if query.asked {
            self.announce_end(id, result);
        }
    }

    fn announce_end(&mut self, id: QueryId, result: Result<Answer, QueryError>) {
        match &result {
            Ok(_) => self.stats.queries_succeeded += 1,
            Err(why) => {
                self.stats.queries_failed += 1;
                tracing::debug!(query = %id, %why, "query failed");
            }
        }
        self.report(id, QueryEvent::Finished(Box::new(result)));
    }

    fn report(&mut self, id: QueryId, event: QueryEvent) {
        self.outputs.push_back(Output::Event(Event::Query { id, event }));
    }

    fn report_events(&mut self, id: QueryId, events: &mut Vec<QueryEvent>) {
        let asked = self.pool.get_mut(id).is_some_and(|query| query.asked);
        for event in events.drain(..).filter(|_| asked) {
            self.report(id, event);
        }
    }

    // ---- requests of ours ---------------------------------------------------------------------------------------

    fn send(&mut self, now: Timestamp, owner: Owner, to: Arc<Contact>, request: Request) -> RequestId {
        let warm = self.peers.connected.contains(to.peer());
        let rtt = self.peers.table.get(to.key()).map(|entry| entry.rtt);
        let patience = self.experience.patience(rtt, warm, &self.config.lookup);
        self.stats.sent[request.kind() as usize] += 1;
        let id = self.requests.start(now, owner, Arc::clone(&to), request.clone(), warm, patience);
        self.outputs.push_back(Output::Send { to, id, request });
        id
    }

    /// Nobody waits for this request any more.
    fn give_up(&mut self, id: RequestId) {
        if let Some(request) = self.requests.end(id) {
            self.stats.cancelled[request.kind() as usize] += 1;
            self.outputs.push_back(Output::Cancel { id });
        }
    }

    fn on_response(&mut self, now: Timestamp, id: RequestId, result: Result<Response, RequestError>) {
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

    fn on_answered(&mut self, now: Timestamp, asked: &Asked, response: Response) {
        let request = &asked.request;
        self.stats.answered[request.kind() as usize] += 1;
        self.admit(now, &request.to);
        self.experience.record(request.warm, request.took(now));
        self.experience.record_end(false);
        if let Some(entry) = self.peers.table.get_mut(request.to.key()).filter(|_| request.warm) {
            entry.rtt.record(request.took(now));
        }
        match request.owner {
            Owner::Query(id, tag) => self.on_query_answer(now, id, tag, asked, response),
            Owner::Probe => self.on_probed(now, request.to.peer()),
            Owner::Evidence => {}
        }
    }

    fn on_failed(&mut self, now: Timestamp, asked: &Asked, why: RequestError) {
        let request = &asked.request;
        self.stats.failed[request.kind() as usize] += 1;
        if let RequestError::Misbehaved(what) = why {
            self.misbehaved(*request.to.peer(), what);
        }
        self.hold_against(now, &request.to, why);
        match request.owner {
            Owner::Query(id, tag) => self.on_query_failure(now, id, tag, asked, why),
            Owner::Probe => self.on_probed(now, request.to.peer()),
            Owner::Evidence => {}
        }
    }

    /// What a failure means for the peer's place in the table.
    fn hold_against(&mut self, now: Timestamp, peer: &Arc<Contact>, why: RequestError) {
        if why.is_the_peers() {
            self.experience.record_end(true);
        }
        if let (RequestError::Unreachable(Unreachable::DialFailed | Unreachable::WrongPeer), Some(entry)) =
            (why, self.peers.table.get_mut(peer.key()))
        {
            entry.unreachable = true;
        }
        let gone = match why {
            RequestError::Unsupported => self.peers.table.remove(peer.key()),
            why if why.is_the_peers() => self.peers.table.fail(peer.key()),
            _ => None,
        };
        if let Some(gone) = gone {
            self.left_table(gone);
        }
        self.offer_waiting(now, peer.key());
    }

    /// Tries a peer that waits for a place in the bucket of `key`, if there is one now.
    fn offer_waiting(&mut self, now: Timestamp, key: &Key) {
        if let Some(next) = self.peers.table.next_waiting(key) {
            self.offer(now, next);
        }
    }

    fn on_timeout(&mut self, now: Timestamp) {
        while let Some(alarm) = self.requests.next_alarm(now) {
            match alarm {
                Alarm::Tardy(id, how) => self.on_tardy(now, id, how),
                Alarm::Over(id, request) => {
                    self.outputs.push_back(Output::Cancel { id });
                    let sent = self.peers.connected.contains(request.to.peer());
                    let why = request.timed_out(sent);
                    self.on_failed(now, &Asked { id, request: *request }, why);
                }
            }
        }
        while let Some(id) = self.pool.expired(now) {
            self.on_query_expired(now, id);
        }
        self.expiry.run(now, self.storage.store());
        if self.refresh.is_due(now) {
            self.start_refresh(now);
        }
    }

    fn on_tardy(&mut self, now: Timestamp, id: RequestId, how: Tardy) {
        let Some(request) = self.requests.get(id) else { return };
        let Owner::Query(query, tag) = request.owner else { return };
        let peer = Arc::clone(&request.to);
        if let Some(query) = self.pool.get_mut(query) {
            query.machine.on_tardy(&peer, tag, how);
        }
        self.drive(now, query);
    }

    fn on_query_expired(&mut self, now: Timestamp, id: QueryId) {
        let Some(query) = self.pool.get_mut(id) else { return };
        let result = query.machine.expire(&mut query.report).unwrap_or_else(|| {
            Err(QueryError::TimedOut { after: query.timeout, report: Box::new(std::mem::take(&mut query.report)) })
        });
        self.finish(now, id, result);
    }

    fn start_refresh(&mut self, now: Timestamp) {
        if self.peers.seeds(self.peers.local.key(), 1).is_empty() {
            return self.refresh.postponed(now, &mut self.rng);
        }
        let id = self.pool.next_id();
        let bootstrap = prepare(self.preparing(now), id, Operation::Bootstrap, &QueryOptions::default());
        if let Ok((mut query, _)) = bootstrap {
            query.asked = false;
            self.pool.insert(now, id, self.config.lookup.query_timeout, query);
            self.refresh.started(id);
            self.drive(now, id);
        }
    }

    // ---- peers --------------------------------------------------------------------------------------------------

    /// Someone told of a peer; `named` if it was the application.
    fn on_contact(&mut self, now: Timestamp, contact: &Arc<Contact>, named: bool) {
        if contact.peer() == self.peers.local.peer() {
            return;
        }
        let contact = self.peers.note(contact, named);
        if named || self.peers.serving.contains(contact.peer()) {
            self.offer(now, contact);
        }
    }

    fn on_connected(&mut self, now: Timestamp, peer: PeerId, outbound_addr: Option<multiaddr::Multiaddr>) {
        self.peers.connected.insert(peer);
        if let Some(addr) = outbound_addr {
            self.on_contact(now, &Contact::new(peer, [addr]), false);
        }
    }

    fn on_serves(&mut self, now: Timestamp, peer: PeerId, yes: bool) {
        if yes {
            self.peers.serving.insert(peer);
            if let Some(contact) = self.peers.contact(&peer) {
                self.offer(now, contact);
            }
        } else {
            self.peers.serving.remove(&peer);
            let key = Key::from(&peer);
            if let Some(gone) = self.peers.table.remove(&key) {
                self.left_table(gone);
                self.offer_waiting(now, &key);
            }
        }
    }

    /// Offers a peer for a trial, if the table has a place for it.
    fn offer(&mut self, now: Timestamp, contact: Arc<Contact>) {
        if self.peers.wants(contact.key()) {
            self.probes.offer(contact);
            self.start_probes(now);
        }
    }

    fn start_probes(&mut self, now: Timestamp) {
        while let Some(contact) = self.probes.start_next() {
            if self.peers.wants(contact.key()) {
                let key = Bytes::from(contact.peer().to_bytes());
                self.send(now, Owner::Probe, contact, Request::FindNode { key });
            } else {
                self.probes.finished(contact.peer());
            }
        }
    }

    fn on_probed(&mut self, now: Timestamp, peer: &PeerId) {
        self.probes.finished(peer);
        self.start_probes(now);
    }

    /// A peer answered: it belongs into the table if there is a place.
    fn admit(&mut self, now: Timestamp, contact: &Arc<Contact>) {
        let peer = *contact.peer();
        match self.peers.table.offer(now, contact) {
            Offer::Added => self.entered_table(peer),
            Offer::Replaced(old) => {
                self.left_table(old);
                self.entered_table(peer);
            }
            Offer::Known | Offer::Full => {}
        }
    }

    fn entered_table(&mut self, peer: PeerId) {
        self.stats.admitted += 1;
        self.stats.table = self.peers.table.len();
        self.outputs.push_back(Output::Event(Event::RoutingChanged { peer, present: true }));
    }

    fn left_table(&mut self, peer: PeerId) {
        self.stats.evicted += 1;
        self.stats.table = self.peers.table.len();
        self.outputs.push_back(Output::Event(Event::RoutingChanged { peer, present: false }));
    }

    fn misbehaved(&mut self, peer: PeerId, what: Misbehaviour) {
        tracing::debug!(%peer, %what, "peer misbehaved");
        self.outputs.push_back(Output::Event(Event::PeerMisbehaved { peer, what }));
    }

    // ---- requests of peers --------------------------------------------------------------------------------------

    fn on_request(&mut self, now: Timestamp, from: PeerId, id: InboundId, request: Request) {
        self.stats.received[request.kind() as usize] += 1;
        if self.mode == Mode::Client {
            return self.reply(from, id, Served { reply: Reply::Reset(Refusal::NotServing), event: None });
        }
        let mut cx = ServerContext { now, config: &self.config, peers: &self.peers, storage: &mut self.storage };
        if let Some(served) = self.server.on_request(&mut cx, from, id, request) {
            self.reply(from, id, served);
        }
    }

    fn reply(&mut self, to: PeerId, id: InboundId, served: Served) {
        if let Reply::Reset(why) = &served.reply {
            self.stats.refused += 1;
            if let Refusal::Misbehaved(what) = why {
                self.misbehaved(to, *what);
            }
        }
        self.outputs.push_back(Output::Reply { to, id, reply: served.reply });
        self.outputs.extend(served.event.map(Output::Event));
    }

    /// The store did what a peer asked for. A peer that is gone gets no reply, but what it stored is kept.
    fn on_served(&mut self, now: Timestamp, visit: Visit, outcome: Outcome) {
        let mut cx = ServerContext { now, config: &self.config, peers: &self.peers, storage: &mut self.storage };
        match self.server.on_outcome(&mut cx, visit, outcome) {
            Some((to, Some(id), served)) => self.reply(to, id, served),
            Some((_, None, served)) => self.outputs.extend(served.event.map(Output::Event)),
            None => {}
        }
    }

    fn on_outcomes(&mut self, now: Timestamp, outcomes: Vec<(Asker, Outcome)>) {
        for (asker, outcome) in outcomes {
            match asker {
                Asker::Query(id) => self.on_local(now, id, outcome),
                Asker::Inbound(visit) => self.on_served(now, visit, outcome),
                Asker::Nobody => {}
            }
        }
    }
}

/// A request that has just ended.
struct Asked {
    id: RequestId,
    request: InFlight,
}

/// The peers that an answer names and that can be asked, at most `max` of them.
fn askable(peers: &Peers, response: &Response, max: usize) -> Vec<Arc<Contact>> {
    let named = match response {
        Response::FindNode { closer } | Response::GetValue { closer, .. } | Response::GetProviders { closer, .. } => {
            &closer[..]
        }
        Response::Ping | Response::PutValue { .. } | Response::AddProvider => &[],
    };
    named.iter().filter_map(|contact| peers.askable(contact)).take(max).collect()
}
