//! The composer: routes inputs to the parts and the parts' wishes to outputs.
//!
//! Knows: which part concerns what. Must not know: any policy; an `if` about the protocol belongs into a part.

mod address_filter;
mod contacts;
mod inbound;
mod queries;
mod refresh;
mod requests;
#[cfg(test)]
mod tests;
mod upkeep;

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use bytes::Bytes;
use libp2p_identity::PeerId;
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng as _;

use super::addresses::AddrSource;
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
use super::peers::Peers;
use super::prepare::{Preparing, join, prepare};
use super::query::{Context, Find, FollowUp, Heard, Machine, Pool, Query, QuerySnapshot, Step, trim};
use super::requests::{Alarm, Begin, InFlight, Owner, Requests, Tag};
use super::routing::{Admission, RoutingSnapshot};
use super::rtt::{Deadlines, RttEstimator, Urgency};
use super::server::{Served, Server, ServerContext};
use super::spans;
use super::stats::{Levels, QueryEnd, QueryKind, Stats};
use super::storage::{Asker, Storage, Visit};
use super::store::{Done, Found, Item, Op, Store};
use super::time::{NodeTime, Timestamp};
use super::window::Window;

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
    config: Arc<DhtConfig>,
    rng: ChaCha8Rng,
    mode: Mode,
    peers: Peers,
    storage: Storage,
    requests: Requests,
    window: Window,
    rtt: RttEstimator,
    pool: Pool,
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
    /// Requests that no driver gets, since their peers may not be dialled now.
    refused: VecDeque<(RequestId, RequestError)>,
    /// That there is no identify was told.
    no_identify: bool,
}

/// What changed in the table since it was last kept is kept for the next start.
impl Drop for Dht {
    fn drop(&mut self) {
        if self.snapshots.due().is_some() {
            self.save_peers();
        }
    }
}

/// So many peers are kept for the next start at most. Source: more than a table of any but the widest buckets holds.
const MAX_SAVED_PEERS: usize = 1_024;

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
            storage: Storage::new(store, config.record.clone()),
            requests: Requests::default(),
            window: Window::new(config.lookup.parallelism.get(), config.limit.requests),
            rtt: RttEstimator::default(),
            pool: Pool::default(),
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
            no_identify: false,
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
    /// [`Busy`] if as many queries run as the configuration allows, or if the store is as many answers behind. What else
    /// is wrong with the operation is told by its [`QueryEvent::Finished`].
    pub fn start(&mut self, now: Timestamp, operation: Operation, options: QueryOptions) -> Result<QueryId, Busy> {
        let now = self.follow(now);
        self.make_way();
        let limit = &self.config.limit;
        // A query that ended early leaves its job with the store, which may be slow.
        let store_behind = self.storage.jobs() >= limit.queries.saturating_add(limit.inbound);
        if self.queries() >= limit.queries || store_behind {
            self.end_refused(now);
            return Err(Busy);
        }
        let id = self.pool.next_id();
        self.stats.queries_started += 1;
        let kind = operation.kind();
        let changed = upkeep::changed_by(&operation, &options);
        let joins = matches!(operation, Operation::Bootstrap);
        let prepared = match joins.then(|| self.pool.bootstrap()).flatten() {
            Some(_) => Ok((Query::new(Machine::Joined, *self.peers.local.key(), kind), None)),
            None => prepare(self.preparing(), id, operation, &options),
        };
        match prepared {
            Ok((mut query, local)) => {
                changed.into_iter().for_each(|(name, taken_back)| self.on_changed(now, name, taken_back));
                query.progress = options.progress;
                let timeout = options.timeout.unwrap_or(self.config.lookup.query_timeout);
                self.pool.insert(now, id, timeout, query);
                if joins && self.pool.bootstrap() == Some(id) {
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

    /// Tries the peers of a routing table that was kept, this node's own of an earlier life or another's. None of them is
    /// believed: each is a first contact, and enters the table once it has answered. Returns how many are tried: those that
    /// have an address and did not fail, 1024 at most. The node looks for its place among them at once.
    ///
    /// A store that keeps peers ([`Store::keeps_peers`]) does this by itself.
    pub fn restore(&mut self, now: Timestamp, table: &RoutingSnapshot) -> usize {
        let now = self.follow(now);
        let peers = table.longest_known(MAX_SAVED_PEERS);
        self.try_known(now, &peers);
        self.end_refused(now);
        peers.len()
    }

    /// Ends an operation early, with all its requests; idempotent. Has no effect on what the node asks of itself.
    pub fn cancel(&mut self, id: QueryId) {
        if self.pool.get_mut(id).is_none_or(|query| !query.asked) {
            return;
        }
        self.abandon(id);
        self.announce_end(id, Err(QueryError::Cancelled));
        self.end_refused(self.time.now);
    }

    /// Tells the node what happened; never fails, never blocks, ignores what is late or unknown.
    pub fn handle_input(&mut self, now: Timestamp, input: Input) {
        let now = self.follow(now);
        if self.requests.shift_for_delay(now) {
            self.window.on_busy(now);
        }
        let Some(input) = self.screen(input) else { return };
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
            Input::RequestGone { id } => {
                self.server.on_gone(id);
            }
            Input::StoreDone { ticket, done } => {
                let ends = self.storage.on_done(self.time.date, ticket, done);
                self.on_store_ends(now, ends);
            }
            Input::Dialling { id } => self.begin(now, id, Begin::Dial),
            Input::Sent { id, settle } => self.begin(now, id, Begin::Write(settle)),
            Input::Response { id, result } => {
                self.on_response(now, id, result);
                self.hand_waiting(now);
            }
            Input::Mode(mode) => self.mode = mode,
            Input::LocalAddrs(addrs) => self.on_local_addrs(now, addrs),
            Input::Timeout => self.on_timeout(now),
        }
        self.end_refused(now);
        self.tell_superseded();
    }

    /// Hands out the next effect; `None` means: nothing more until the next input or timeout.
    #[must_use]
    pub fn poll_output(&mut self) -> Option<Output> {
        let output = self.outputs.pop_front();
        // What a burst needed is not kept: in a process of many nodes it would be most of their memory, and memory that
        // was given back a moment ago is quicker to use than what was kept, which no cache holds any more.
        if output.is_none() && self.outputs.capacity() > 0 {
            self.outputs = VecDeque::new();
        }
        output
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
            self.expiry.due(&self.time, self.storage.peek()).map(|at| (at, Wake::Expiry)),
            self.refresh.due().map(|at| (at, Wake::Maintenance)),
            self.probes.checks_due(&self.peers.table).map(|at| (at, Wake::Maintenance)),
            self.snapshots.due().map(|at| (at, Wake::Maintenance)),
            self.upkeep.due(self.storage.peek(), self.mode).map(|(at, _)| (at, Wake::Maintenance)),
        ];
        let (at, why) = wakes.into_iter().flatten().min_by_key(|(at, _)| *at)?;
        let at = self.time.date_at(at);
        // Nothing happens after the end of time, not even what is due then.
        (at < Timestamp::MAX).then_some((at, why))
    }

    /// Lets the store finish what was pending, and registers `waker` to be woken when it can finish more. Drivers of a
    /// store that does everything at once need not call it.
    pub fn poll_store(&mut self, now: Timestamp, waker: &Waker) {
        self.follow(now);
        while let Some((ticket, done)) = self.storage.store().poll_done(waker) {
            self.handle_input(now, Input::StoreDone { ticket, done });
        }
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
        self.peers.table.snapshot(*self.peers.local.peer(), |key| self.peers.is_connected(key))
    }

    /// The queries that run now, for people.
    pub fn query_snapshots(&self) -> Vec<QuerySnapshot> {
        self.pool.snapshots()
    }

    /// What this node did since it started.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// How much of everything there is now.
    pub fn levels(&self) -> Levels {
        let mut levels = Levels::default();
        self.update_levels(&mut levels, true);
        levels
    }

    /// The same in place, and what follows from the table only if that changed: it takes longer than all the rest.
    pub(crate) fn update_levels(&self, levels: &mut Levels, table_changed: bool) {
        let usage = self.storage.peek().usage();
        (levels.queries, levels.requests) = (self.pool.len(), self.requests.awaited());
        (levels.values, levels.providers, levels.own) = (usage.values, usage.providers, usage.own);
        if table_changed {
            levels.buckets.clear();
            levels.buckets.extend(self.peers.table.bucket_sizes());
            levels.estimated_nodes = self.peers.table.estimated_nodes().round() as u64;
        }
    }

    /// The host's clock says this; the node's own time is returned.
    fn follow(&mut self, date: Timestamp) -> Timestamp {
        if date < self.time.date {
            self.expiry.on_set_back();
        }
        let now = self.time.follow(date);
        self.peers.book.advance(now);
        now
    }

    /// What is kept.
    pub fn store(&mut self) -> &mut dyn Store {
        self.storage.store()
    }

    /// Lets a peer into the routing table as if it had just answered a request.
    ///
    /// For simulations that start warm: tables filled from global knowledge by the rules that joins follow.
    #[cfg(any(test, feature = "testing"))]
    pub fn admit_verified(&mut self, now: Timestamp, contact: &Arc<Contact>) {
        let now = self.follow(now);
        self.admit(now, &self.peers.filtered(contact));
    }
}
