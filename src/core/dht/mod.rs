//! The composer: passes each input to the parts that it concerns, and turns their decisions into outputs.
//!
//! Knows: which parts an event concerns. Must not know: any policy; an `if` about the protocol belongs into a part.

mod access;
mod address_filter;
mod announce_records;
mod contacts;
mod drive_queries;
mod inbound;
mod nearness;
mod refresh_table;
mod send_requests;
mod suspend;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use bytes::Bytes;
use libp2p_identity::PeerId;
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng as _;

use super::config::DhtConfig;
use super::contact::Contact;
use super::error::{ConfigError, PeerFailure, QueryError};
use super::io::{
    Answer, Event, InboundId, Input, Mode, Operation, Output, Progress, QueryEvent, QueryId, QueryOptions, Refusal,
    Reply, RequestId, Wake,
};
use super::key::Key;
use super::lookup::Lateness;
use super::maintain::{EXPIRED_AT_ONCE, Expiry, Probes, ProviderSearches, Purpose, Refresh, Snapshots, Upkeep};
use super::message::{Kind, Misbehaviour, Request, RequestError, Response};
use super::peers::AddrSource;
use super::peers::Peers;
use super::query::{
    self, Context, Find, FollowUp, Machine, PeerAnswer, QueryPool, QuerySnapshot, QueryStart, RunningQuery, Step, trim,
};
use super::requests::{Alarm, Begin, InFlight, Owner, Requests, Tag};
use super::routing::{Admission, RoutingSnapshot};
use super::rtt::{Deadlines, RttEstimator, Urgency};
use super::server::{Served, Server, ServerContext};
use super::spans;
use super::stats::{Levels, QueryEnd, QueryKind, Stats};
use super::store::{Done, Item, Op, OpOutput, Store};
use super::store_ops::{InboundTicket, StoreOps, Waiter};
use super::time::{NodeTime, Timestamp};
use super::window::Window;

/// One node of the DHT: a state machine without a clock, a socket or a task.
///
/// **Call anything in any order; then drain [`poll_output`](Dht::poll_output) to `None`; then sleep until
/// [`poll_timeout`](Dht::poll_timeout) or the next input.** Draining late only makes things late.
///
/// Whatever the order of events: each [`Output::Send`] ends in one [`Input::Response`] or one
/// [`Output::Cancel`]; each [`start`](Dht::start) in one [`QueryEvent::Finished`]; each [`Input::Request`] in one
/// [`Output::Reply`] or one [`Input::RequestGone`].
#[derive(Debug)]
pub struct Dht {
    config: Arc<DhtConfig>,
    rng: ChaCha8Rng,
    mode: Mode,
    peers: Peers,
    store_ops: StoreOps,
    requests: Requests,
    window: Window,
    rtt: RttEstimator,
    pool: QueryPool,
    server: Server,
    probes: Probes,
    refresh: Refresh,
    expiry: Expiry,
    snapshots: Snapshots,
    provider_searches: ProviderSearches,
    upkeep: Upkeep,
    stats: Stats,
    time: NodeTime,
    outputs: VecDeque<Output>,
    /// Requests that are not passed to the driver, since their peers may not be dialled now. Each ends right after the
    /// step that led to it.
    refused: VecDeque<(RequestId, RequestError)>,
    /// The requests of queries that wait for the outcome of other dials at their peers' hosts.
    held: Vec<RequestId>,
    /// Whether [`Event::NoIdentify`] was reported.
    no_identify: bool,
    suspended: bool,
}

/// Saves the peers of the table for the next start, if they changed since they were last saved.
impl Drop for Dht {
    fn drop(&mut self) {
        if self.snapshots.due().is_some() {
            self.save_peers();
        }
    }
}

/// Maximum number of peers saved for the next start. Source: more than a table of any but the widest buckets holds.
const MAX_SAVED_PEERS: usize = 1_024;

/// The node runs as many queries as its configuration allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many queries at once")]
#[non_exhaustive]
pub struct Busy;

impl Dht {
    /// Builds a node. All its randomness comes from `seed`, its time from `now`. It starts as a server.
    ///
    /// # Errors
    ///
    /// The field of the configuration that cannot work.
    pub fn new(
        now: Timestamp,
        local: Arc<Contact>,
        store: Box<dyn Store>,
        seed: [u8; 32],
        config: Arc<DhtConfig>,
    ) -> Result<Dht, ConfigError> {
        config.validate()?;
        let time = NodeTime::new(now);
        let now = time.now;
        let mut rng = ChaCha8Rng::from_seed(seed);
        let (keeps_peers, publishes) = (store.keeps_peers(), store.usage().own > 0);
        let expiry = Expiry::new(time.date, &*store);
        let mut dht = Dht {
            mode: Mode::default(),
            peers: Peers::new(local, &config),
            store_ops: StoreOps::new(store, config.record.clone()),
            requests: Requests::default(),
            window: Window::new(
                config.lookup.parallelism.get(),
                config.limit.requests,
                config.limit.queries_that_ask(),
            ),
            rtt: RttEstimator::default(),
            pool: QueryPool::default(),
            server: Server::default(),
            probes: Probes::new(&config),
            refresh: Refresh::new(now, config.maintenance.refresh_interval, &mut rng),
            expiry,
            snapshots: Snapshots::new(config.maintenance.snapshot_interval, keeps_peers),
            provider_searches: ProviderSearches::default(),
            upkeep: Upkeep::new(now, &config, publishes, &mut rng),
            stats: Stats::default(),
            time,
            outputs: VecDeque::new(),
            refused: VecDeque::new(),
            held: Vec::new(),
            no_identify: false,
            suspended: false,
            rng,
            config,
        };
        if keeps_peers {
            dht.restore_saved(now);
            dht.end_refused(now);
        }
        Ok(dht)
    }

    /// Starts an operation and returns its id at once; its result is a later [`Event::QueryProgressed`].
    ///
    /// # Errors
    ///
    /// [`Busy`] if as many queries run as the configuration allows, or if as many operations of the store are pending.
    /// All other errors come with the operation's [`QueryEvent::Finished`].
    pub fn start(&mut self, now: Timestamp, operation: Operation, mut options: QueryOptions) -> Result<QueryId, Busy> {
        let now = self.follow(now);
        self.make_way();
        let limit = &self.config.limit;
        // A query that ended early leaves its operation with the store, which may be slow.
        let store_is_full = self.store_ops.jobs() >= limit.queries.saturating_add(limit.inbound);
        if self.is_full() || store_is_full {
            self.end_refused(now);
            return Err(Busy);
        }
        let id = self.pool.next_id();
        self.stats.queries_started += 1;
        let kind = operation.kind();
        if self.suspended {
            let end = Err(QueryError::Suspended);
            self.stats.on_query_end(kind, QueryEnd::of(&end), Duration::ZERO);
            self.announce_end(id, end);
            return Ok(id);
        }
        let changed = announce_records::changed_by(&operation, &options);
        let shared = if options.unshared { None } else { query::shared_key(&operation, self.peers.local.key()) };
        if let Some(target) = shared
            && let Some(leader) = self.pool.leader(kind, target, &options)
        {
            self.join(now, id, leader, &options);
            self.end_refused(now);
            return Ok(id);
        }
        let cx = Context::new(&self.time, &self.config, &self.peers, &self.rtt);
        let (store_ops, rng, waiter) = (&mut self.store_ops, &mut self.rng, Waiter::Query(id));
        match query::start(QueryStart { cx, store_ops, rng, waiter }, operation, &mut options) {
            Ok((mut query, local)) => {
                if let Some((record, withdrawn)) = changed {
                    self.on_changed(now, record, withdrawn);
                }
                query.progress = options.progress;
                self.pool.insert(now, id, self.timeout(&options), query);
                if shared.is_some() {
                    self.pool.lead(id, options);
                }
                if kind == QueryKind::Bootstrap {
                    self.refresh.join_started(id);
                }
                match local {
                    Some(done) => self.on_local(now, id, done),
                    None => self.drive(now, id),
                }
            }
            Err(why) => {
                let end = Err(why);
                self.stats.on_query_end(kind, QueryEnd::of(&end), Duration::ZERO);
                self.announce_end(id, end);
            }
        }
        self.end_refused(now);
        Ok(id)
    }

    /// Contacts the peers of a saved routing table, of this node or of another. A peer enters the table only once it
    /// has answered. Returns the number of peers that it contacts: those with an address that have not failed, 1024 at
    /// most. The node looks up its own key among them at once.
    ///
    /// With a store that keeps peers ([`Store::keeps_peers`]) this happens by itself.
    pub fn restore(&mut self, now: Timestamp, table: &RoutingSnapshot) -> usize {
        let now = self.follow(now);
        let peers = table.longest_known(MAX_SAVED_PEERS);
        self.try_known(now, &peers);
        self.end_refused(now);
        peers.len()
    }

    /// Ends an operation early, with all its requests; idempotent. Has no effect on the node's own queries.
    pub fn cancel(&mut self, id: QueryId) {
        if self.pool.get(id).is_none_or(|query| !query.by_app || query.detached) {
            return;
        }
        match self.pool.take(id) {
            Some(query) if !query.followers.is_empty() => self.end_call(query, Err(QueryError::Cancelled)),
            Some(query) => {
                self.pool.put(query);
                self.abandon(id);
                self.announce_end(id, Err(QueryError::Cancelled));
            }
            None => {}
        }
        self.end_refused(self.time.now);
    }

    /// Takes in an event. Never fails, never blocks; ignores events that are late or concern something unknown.
    pub fn handle_input(&mut self, now: Timestamp, mut input: Input) {
        let now = self.follow(now);
        if self.requests.shift_for_delay(now) {
            self.window.on_busy(now);
        }
        if !self.filter_input(&mut input) {
            return;
        }
        match input {
            Input::AddPeer(contact) => self.on_contact(now, &contact, AddrSource::Application),
            Input::Discovered(contact) => self.on_contact(now, &contact, self.peers.addr_source_of(contact.key())),
            Input::DialFailed { peer, addrs } => self.on_dial_failed(now, peer, &addrs),
            Input::Connected { peer, outbound_addr, inbound_addr } => {
                self.on_connected(now, peer, outbound_addr, inbound_addr);
            }
            Input::Disconnected { peer } => self.on_disconnected(now, peer),
            Input::Serves { peer, yes } => self.on_serves(now, peer, yes),
            Input::Request { from, id, request } => self.on_request(now, from, id, request),
            Input::RequestGone { id } => self.server.on_gone(id),
            Input::Misbehaved { peer, what } => self.misbehaved(now, peer, what),
            Input::StoreDone { ticket, done } => {
                let ends = self.store_ops.on_done(self.time.date, ticket, done);
                self.on_store_ends(now, ends);
            }
            Input::Dialling { id } => self.begin(now, id, Begin::Dial),
            Input::Sent { id } => self.begin(now, id, Begin::Write),
            Input::Response { id, result } => {
                self.on_response(now, id, result);
                self.pass_waiting(now);
            }
            Input::Mode(mode) => self.mode = mode,
            Input::LocalAddrs(addrs) => self.on_local_addrs(now, addrs),
            Input::Timeout if self.suspended => {}
            Input::Timeout => self.on_timeout(now),
        }
        self.pass_held(now);
        self.end_refused(now);
        self.report_superseded();
    }

    /// Returns the next output; `None` until the next input or timeout.
    #[must_use]
    pub fn poll_output(&mut self) -> Option<Output> {
        let output = self.outputs.pop_front();
        // Gives back the memory that a burst needed. In a process of many nodes it would be most of their memory; and
        // memory that was given back a moment ago is quicker to use than memory that was kept and has left the caches.
        if output.is_none() && self.outputs.capacity() > 0 {
            self.outputs = VecDeque::new();
        }
        output
    }

    /// The time at which to send [`Input::Timeout`]; `None` if not before the next input.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        self.next_wake().map(|(at, _)| at)
    }

    /// The same with the reason for it.
    pub fn next_wake(&self) -> Option<(Timestamp, Wake)> {
        if self.suspended {
            return None;
        }
        let wakes = [
            self.requests.next_wake().map(|(at, id)| (at, Wake::Request(id))),
            self.pool.next_wake().map(|(at, id)| (at, Wake::Query(id))),
            self.expiry.due(&self.time, self.store_ops.peek()).map(|at| (at, Wake::Expiry)),
            self.refresh.due().map(|at| (at, Wake::Maintenance)),
            self.probes.checks_due(&self.peers.table).map(|at| (at, Wake::Maintenance)),
            self.snapshots.due().map(|at| (at, Wake::Maintenance)),
            self.upkeep.due(self.store_ops.peek(), self.mode).map(|(at, _)| (at, Wake::Maintenance)),
        ];
        let (at, why) = wakes.into_iter().flatten().min_by_key(|(at, _)| *at)?;
        let at = self.time.date_at(at);
        // The end of time stands for never.
        (at < Timestamp::MAX).then_some((at, why))
    }

    /// Takes the results of pending operations from the store, and registers `waker` to be woken when there are more.
    /// Drivers of a store that runs every operation at once need not call it.
    pub fn poll_store(&mut self, now: Timestamp, waker: &Waker) {
        self.follow(now);
        while let Some((ticket, done)) = self.store_ops.store().poll_done(waker) {
            self.handle_input(now, Input::StoreDone { ticket, done });
        }
    }

    /// Whether this node is a server or a client.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// This node, with its current addresses.
    pub fn local(&self) -> &Arc<Contact> {
        &self.peers.local
    }

    /// Another peer with its known addresses, from the table or as reported by others; `None` if the peer is unknown.
    pub fn contact(&self, peer: &PeerId) -> Option<Arc<Contact>> {
        self.peers.contact(peer)
    }

    /// The routing table as it is now, to show to people.
    pub fn routing_snapshot(&self) -> RoutingSnapshot {
        self.peers.table.snapshot(*self.peers.local.peer(), |key| self.peers.is_connected(key))
    }

    /// The running queries, to show to people.
    pub fn query_snapshots(&self) -> Vec<QuerySnapshot> {
        self.pool.snapshots()
    }

    /// Counters of what this node did since it started.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Current numbers of queries, peers and records.
    pub fn levels(&self) -> Levels {
        let mut levels = Levels::default();
        self.update_levels(&mut levels, true);
        levels
    }

    /// Updates them in place; those of the table, which take the longest, only if it changed.
    pub(crate) fn update_levels(&self, levels: &mut Levels, table_changed: bool) {
        let usage = self.store_ops.peek().usage();
        (levels.queries, levels.requests) = (self.pool.len(), self.requests.awaited());
        (levels.values, levels.providers, levels.own) = (usage.values, usage.providers, usage.own);
        if table_changed {
            levels.buckets.clear();
            levels.buckets.extend(self.peers.table.bucket_sizes());
            levels.estimated_nodes = self.peers.table.estimated_nodes().round() as u64;
        }
    }

    /// Takes in the time of the host's clock, and returns the node's own time.
    fn follow(&mut self, date: Timestamp) -> Timestamp {
        if date < self.time.date {
            self.expiry.on_set_back();
        }
        let now = self.time.follow(date);
        self.peers.book.advance(now);
        self.peers.access.advance(now);
        now
    }

    /// k.
    fn k(&self) -> usize {
        self.config.lookup.replication.get()
    }

    fn knows_fewer_than_k(&self) -> bool {
        self.peers.table.len() < self.k()
    }

    /// The store of this node.
    pub fn store(&mut self) -> &mut dyn Store {
        self.store_ops.store()
    }

    /// Replaces the store by one made of it, in which what is pending ends as before.
    #[cfg(feature = "driver")]
    pub(crate) fn wrap_store(&mut self, wrapper: impl FnOnce(Box<dyn Store>) -> Box<dyn Store>) {
        self.store_ops.wrap(wrapper);
    }

    /// Lets a peer into the routing table as if it had just answered a request.
    ///
    /// For simulations that start with filled tables, by the rules that joins follow.
    #[cfg(any(test, feature = "testing"))]
    pub fn admit_verified(&mut self, now: Timestamp, contact: &Arc<Contact>) {
        let now = self.follow(now);
        self.admit(now, &self.peers.filtered(contact));
    }
}

/// Reports an event of a query to the application, also under the ids of those that joined it.
fn report_to(outputs: &mut VecDeque<Output>, query: &RunningQuery, event: QueryEvent) {
    for id in query.followers.iter().copied() {
        outputs.push_back(Output::Event(Event::QueryProgressed { id, event: event.clone() }));
    }
    if query.by_app && !query.detached {
        outputs.push_back(Output::Event(Event::QueryProgressed { id: query.id, event }));
    }
}
