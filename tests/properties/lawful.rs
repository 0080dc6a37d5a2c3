//! A node whose every output is checked against the invariants of the core.
//!
//! Knows: the invariants that hold in every order of events. Must not know: which events come.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use libp2p_identity::PeerId;
use libp2p_kad_dht::core::config::Interval;
use libp2p_kad_dht::core::stats::QueryKind;
use libp2p_kad_dht::core::validate::{Candidate, Valid};
use libp2p_kad_dht::core::{
    BucketSnapshot, Contact, Dht, DhtConfig, Event, InboundId, Input, InvalidValue, Key, MemoryStore,
    MemoryStoreConfig, Operation, Output, QueryEvent, QueryId, QueryOptions, RecordKey, Reply, Request, RequestError,
    RequestId, Response, Store, Timestamp, Validator,
};
use libp2p_kad_dht::testing::deferred::{DeferredControl, DeferredStore};

pub(crate) const BEGIN: Timestamp = Timestamp::from_secs(1_000_000);
/// Maximum time of a query, whatever its options.
pub(crate) const QUERY_TIME: Duration = Duration::from_secs(5);
pub(crate) const REQUEST_TIME: Duration = Duration::from_secs(2);

/// Refuses values that begin with `bad`, and prefers the greatest bytes.
#[derive(Debug)]
pub(crate) struct Picky;

impl Validator for Picky {
    fn validate(&self, _: Timestamp, _: &RecordKey, value: &[u8]) -> Result<Valid, InvalidValue> {
        if value.starts_with(b"bad") { Err(InvalidValue::MalformedValue) } else { Ok(Valid::default()) }
    }

    fn select(&self, _: &RecordKey, values: &[Candidate<'_>]) -> usize {
        (0..values.len()).max_by_key(|i| (values[*i].value, std::cmp::Reverse(*i))).unwrap_or(0)
    }
}

/// A configuration with small bounds, so that a test reaches each of them.
pub(crate) fn small() -> DhtConfig {
    let n = |n: usize| n.try_into().unwrap();
    let mut config = DhtConfig::default();
    config.lookup.replication = n(3);
    config.lookup.parallelism = n(2);
    config.lookup.resiliency = n(2);
    config.lookup.query_timeout = QUERY_TIME;
    config.lookup.request_timeout = REQUEST_TIME;
    config.lookup.min_request_timeout = Duration::from_millis(200);
    config.routing.bucket_size = n(2);
    config.routing.wide_low_buckets = 5;
    config.record.validator = Arc::new(Picky);
    config.maintenance.probes = 2;
    config.maintenance.check_interval = Some(Duration::from_secs(20));
    config.maintenance.refresh_interval = Some(Duration::from_secs(30));
    config.maintenance.announce_interval = Interval::Every(Duration::from_secs(40));
    config.maintenance.region_interval = Interval::Every(Duration::from_secs(8));
    config.maintenance.replicate_interval = Interval::Every(Duration::from_secs(5));
    config.limit.queries = 4;
    config.limit.inbound = 4;
    config.limit.inbound_per_peer = 2;
    config.limit.address_book = 6;
    config.limit.candidates = 3;
    config.limit.frontier = 8;
    config.limit.providers_per_query = 3;
    config
}

/// A call of the node, which a test can repeat on another node.
pub(crate) type Call = Arc<dyn Fn(&mut Dht, &mut Option<DeferredControl>)>;

pub(crate) fn node(local: &Arc<Contact>, config: &DhtConfig, deferred: bool) -> (Dht, Option<DeferredControl>) {
    let memory = MemoryStore::new(MemoryStoreConfig::default(), [7; 32]);
    let (store, control): (Box<dyn Store>, _) = if deferred {
        let (store, control) = DeferredStore::new(memory);
        (Box::new(store), Some(control))
    } else {
        (Box::new(memory), None)
    };
    (Dht::new(BEGIN, Arc::clone(local), store, [3; 32], Arc::new(config.clone())).unwrap(), control)
}

/// A node, and everything in progress according to its outputs so far.
pub(crate) struct Lawful {
    pub(crate) dht: Dht,
    pub(crate) now: Timestamp,
    pub(crate) open: BTreeMap<RequestId, (Arc<Contact>, Request)>,
    pub(crate) ended: Vec<RequestId>,
    /// Requests among these that found no way to the peer, or lost it: the node may send them again.
    sent_again: BTreeSet<RequestId>,
    /// The queries that were started, with the time by which each must end; `None` once it has ended.
    pub(crate) queries: BTreeMap<QueryId, Option<Timestamp>>,
    pub(crate) inbound: BTreeMap<InboundId, (PeerId, Request)>,
    /// All calls, in order.
    pub(crate) calls: Vec<Call>,
    /// All outputs, in order.
    pub(crate) trace: Vec<String>,
    /// The connected peers.
    pub(crate) connected: BTreeSet<PeerId>,
    /// Whether the node's own addresses have changed.
    pub(crate) moved: bool,
    control: Option<DeferredControl>,
    /// The host's clock jumps, so the time does not show how long a query ran.
    pub(crate) clock_jumps: bool,
    pub(crate) config: DhtConfig,
    used: BTreeSet<RequestId>,
    table: BTreeSet<PeerId>,
}

impl Lawful {
    pub(crate) fn new(local: &Arc<Contact>, config: &DhtConfig, deferred: bool) -> Lawful {
        let (dht, control) = node(local, config, deferred);
        Lawful {
            dht,
            now: BEGIN,
            open: BTreeMap::new(),
            ended: Vec::new(),
            sent_again: BTreeSet::new(),
            queries: BTreeMap::new(),
            inbound: BTreeMap::new(),
            calls: Vec::new(),
            trace: Vec::new(),
            connected: BTreeSet::new(),
            moved: false,
            control,
            clock_jumps: false,
            config: config.clone(),
            used: BTreeSet::new(),
            table: BTreeSet::new(),
        }
    }

    pub(crate) fn call(&mut self, call: impl Fn(&mut Dht, &mut Option<DeferredControl>) + 'static) {
        call(&mut self.dht, &mut self.control);
        self.calls.push(Arc::new(call));
    }

    pub(crate) fn start(&mut self, operation: Operation, options: QueryOptions) {
        let now = self.now;
        let started = self.dht.start(now, operation.clone(), options.clone());
        let until = now + options.timeout.unwrap_or(self.config.lookup.query_timeout);
        if let Ok(id) = started {
            assert!(self.queries.insert(id, Some(until)).is_none(), "{id} is used twice");
        }
        self.calls.push(Arc::new(move |dht, _| _ = dht.start(now, operation.clone(), options.clone())));
    }

    pub(crate) fn respond(&mut self, id: RequestId, result: Result<Response, RequestError>) {
        self.open.remove(&id);
        self.ended.push(id);
        if matches!(result, Err(RequestError::Unreachable(_) | RequestError::ConnectionClosed)) {
            self.sent_again.insert(id);
        }
        let now = self.now;
        self.call(move |dht, _| dht.handle_input(now, Input::Response { id, result: result.clone() }));
    }

    pub(crate) fn suspend(&mut self, yes: bool) {
        let now = self.now;
        self.call(move |dht, _| if yes { dht.suspend(now) } else { dht.resume(now) });
    }

    pub(crate) fn request(&mut self, from: PeerId, id: InboundId, request: Request) {
        let now = self.now;
        self.inbound.insert(id, (from, request.clone()));
        self.call(move |dht, _| dht.handle_input(now, Input::Request { from, id, request: request.clone() }));
    }

    /// Passes the time to the node. Afterwards its next wake-up must be later.
    pub(crate) fn wake(&mut self) -> Vec<Output> {
        let now = self.now;
        self.call(move |dht, _| dht.handle_input(now, Input::Timeout));
        let outputs = self.drain();
        let wake = self.dht.next_wake();
        assert!(wake.is_none_or(|(at, _)| at > now), "{wake:?} has passed at {now}");
        let over = self.queries.iter().find(|(_, until)| until.is_some_and(|until| until <= now));
        assert!(over.is_none() || self.clock_jumps, "{over:?} still runs at {now}");
        outputs
    }

    /// Takes all outputs and checks each.
    pub(crate) fn drain(&mut self) -> Vec<Output> {
        let now = self.now;
        self.call(move |dht, _| dht.poll_store(now, Waker::noop()));
        let outputs: Vec<_> = std::iter::from_fn(|| self.dht.poll_output()).collect();
        outputs.iter().for_each(|output| self.on_output(output));
        self.check();
        self.check_kept();
        outputs
    }

    fn on_output(&mut self, output: &Output) {
        self.trace.push(format!("{output:?}"));
        self.check_places(output);
        match output {
            Output::Send { to, id, request } => {
                assert!(to.peer() != self.dht.local().peer(), "it asks itself");
                assert!(!self.dht.is_suspended(), "it asks while it is suspended");
                assert!(self.used.insert(*id) || self.sent_again.remove(id), "{id} is used twice");
                self.open.insert(*id, (Arc::clone(to), request.clone()));
            }
            Output::Cancel { id } => {
                assert!(self.open.remove(id).is_some(), "{id} is cancelled after its end");
                self.ended.push(*id);
            }
            Output::Reply { to, id, reply } => {
                let (from, request) = self.inbound.remove(id).expect("one reply to a request");
                assert_eq!(from, *to);
                self.check_reply(&from, &request, reply);
            }
            Output::Event(Event::QueryProgressed { id, event }) => {
                let until = self.queries.get_mut(id).expect("a query that was started");
                assert!(until.is_some(), "{id} has ended: {event:?}");
                if matches!(event, QueryEvent::Finished(_)) {
                    *until = None;
                }
            }
            Output::Event(Event::RoutingChanged { peer, present: true }) => assert!(self.table.insert(*peer)),
            Output::Event(Event::RoutingChanged { peer, present: false }) => assert!(self.table.remove(peer)),
            _ => {}
        }
    }

    fn check_reply(&self, from: &PeerId, request: &Request, reply: &Reply) {
        let (k, local) = (self.config.lookup.replication.get(), self.dht.local().peer());
        match (request, reply) {
            (Request::FindNode { key }, Reply::Answer(Response::FindNode { closer })) => {
                let others = closer.iter().filter(|contact| contact.peer().to_bytes() != key[..]);
                assert!(others.clone().count() <= k);
                assert!(others.into_iter().all(|contact| contact.peer() != local && contact.peer() != from));
            }
            (Request::GetValue { .. }, Reply::Answer(Response::GetValue { closer, .. }))
            | (Request::GetProviders { .. }, Reply::Answer(Response::GetProviders { closer, .. })) => {
                assert!(closer.len() <= k);
                assert!(closer.iter().all(|contact| contact.peer() != local && contact.peer() != from));
            }
            (Request::AddProvider { .. }, Reply::Nothing) => {}
            (request, Reply::Answer(response)) => assert_eq!(response.kind(), request.kind()),
            (_, reply) => assert!(matches!(reply, Reply::Reset(_))),
        }
    }

    /// Checks the invariants that hold whenever all outputs were taken.
    fn check(&self) {
        let snapshot = self.dht.routing_snapshot();
        self.check_known(&snapshot);
        let local = Key::from(self.dht.local().peer());
        let last = snapshot.buckets.len() - 1;
        for (i, bucket) in snapshot.buckets.iter().enumerate() {
            assert!(bucket.waiting <= bucket.capacity, "{bucket:?}");
            for entry in &bucket.entries {
                let shared = Key::from(&entry.peer).common_prefix_len(&local) as usize;
                assert!(shared == i || (i == last && shared > i), "{shared} bits in bucket {i}");
            }
        }
        // Only neighbours may exceed the capacity, and there are k of them.
        let beyond = |bucket: &BucketSnapshot| bucket.entries.len().saturating_sub(bucket.capacity);
        let beyond: usize = snapshot.buckets.iter().map(beyond).sum();
        assert!(beyond <= self.config.routing.bucket_size.get(), "{snapshot:?}");
        let entries: BTreeSet<_> = snapshot.entries().map(|entry| entry.peer).collect();
        assert_eq!(entries.len(), snapshot.entries().count(), "twice in the table");
        assert!(!entries.contains(self.dht.local().peer()), "it is in its own table");
        assert_eq!(entries, self.table, "the reported changes of the table");
        self.check_bounds();
        self.check_stats(entries.len());
    }

    fn check_bounds(&self) {
        let (limit, queries) = (&self.config.limit, self.dht.query_snapshots());
        // Queries that keep the table or the records alive are not requested by the application, and so are not
        // refused.
        assert!(queries.len() <= limit.queries + REFRESHES + RUNS);
        let refreshes = queries.iter().filter(|query| query.kind == QueryKind::Refresh).count();
        assert!(refreshes <= REFRESHES, "{refreshes} at a time");
        // A bootstrap has three lookups at most.
        assert!(queries.iter().all(|query| query.unasked <= 3 * limit.frontier), "{queries:?}");
        let running = self.queries.values().filter(|until| until.is_some()).count();
        assert!(running <= queries.len(), "a query was lost");
        assert!(self.inbound.len() <= limit.inbound, "requests wait");
        for (from, _) in self.inbound.values() {
            let of_peer = self.inbound.values().filter(|(other, _)| other == from).count();
            assert!(of_peer <= limit.inbound_per_peer, "requests of one peer wait");
        }
        let pending = self.control.as_ref().map_or(0, DeferredControl::waiting);
        // The application may forget any number of records; these tests wait for room before they do. Four tasks read
        // pages; announced records are touched, at most five values and five provider records.
        assert!(pending <= limit.queries + limit.inbound + 1 + FORGOTTEN + 4 + 10, "{pending} operations of the store");
    }

    fn check_stats(&self, entries: usize) {
        let stats = self.dht.stats();
        let sum = |counts: [u64; 6]| counts.iter().sum::<u64>();
        let over = sum(stats.answered) + sum(stats.failed) + sum(stats.cancelled);
        // Requests that their owner knows to have expired stay open for a late answer.
        let awaited = self.dht.levels().requests;
        assert_eq!(sum(stats.sent) - over, awaited as u64);
        assert!(awaited <= self.open.len());
        assert_eq!(stats.table, entries);
        assert_eq!(stats.admitted - stats.evicted, entries as u64);
        let running = self.queries.values().filter(|until| until.is_some()).count() as u64;
        assert_eq!(stats.queries_started, stats.queries_succeeded + stats.queries_failed + running);
    }

    /// Number of operations that the store has not finished.
    pub(crate) fn pending(&self) -> usize {
        self.control.as_ref().map_or(0, DeferredControl::waiting)
    }

    /// Whether its store answers later.
    pub(crate) fn answers_later(&self) -> bool {
        self.control.is_some()
    }

    /// Lets everything come to its end: the store finishes, time passes, and no peer answers.
    pub(crate) fn settle(&mut self) {
        self.suspend(false);
        self.drain();
        let last: Option<RequestId> = self.open.keys().next_back().copied();
        let end = self.now + 2 * (QUERY_TIME + REQUEST_TIME);
        while let Some(at) = self.dht.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.wake();
        }
        while self.pending() > 0 {
            self.call(|_, control| control.iter_mut().for_each(|control| control.release(1)));
            self.drain();
        }
        assert!(self.queries.values().all(Option::is_none), "each query has ended: {:?}", self.queries);
        assert!(self.inbound.is_empty(), "each request has its reply: {:?}", self.inbound);
        assert!(self.open.keys().all(|id| last.is_none_or(|last| *id > last)), "each request has its end");
    }
}

/// Maximum number of queries that announce records.
const RUNS: usize = 3;
/// Maximum number of refresh lookups at a time.
const REFRESHES: usize = 3;
/// Maximum number of removals that wait for a deferred store.
pub(crate) const FORGOTTEN: usize = 4;
