//! Nodes that follow the lookup rules of other implementations, for comparison in the same network.
//!
//! Knows: messages, a routing table, and the same inputs and outputs as a [`Dht`](libp2p_kad_dht::core::Dht). Must not
//! know: the network. There is only what the cost and the success of a lookup depend on: no maintenance, expiry or
//! validation.

mod lookup;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use self::lookup::{Goal, NextStep, StockLookup};
use super::directory::{Directory, NodeIndex, key_position};
use super::table::StockTable;
use libp2p_kad_dht::core::{
    Answer, Contact, Event, Key, Misbehaviour, Operation, Output, QueryError, QueryEvent, QueryId, RecordKey, Refusal,
    Reply, Request, RequestError, RequestId, Response, Value,
};

pub use self::lookup::StockRules;

/// The time in microseconds that a peer has for its answer once it is connected: 10 s in both implementations.
const READ_TIMEOUT: u64 = 10_000_000;

/// A node that does lookups by the rules of another implementation.
pub struct StockNode {
    own: NodeIndex,
    rules: StockRules,
    table: StockTable,
    values: BTreeMap<RecordKey, Value>,
    providers: BTreeMap<RecordKey, Vec<Arc<Contact>>>,
    lookups: Vec<StockLookup>,
    pending: Vec<Pending>,
    outputs: VecDeque<Output>,
    next_request: u64,
    next_query: u64,
}

/// A request that has not ended.
struct Pending {
    id: RequestId,
    query: QueryId,
    peer: NodeIndex,
    /// When the lookup stops waiting for the peer; a later answer still counts. Never for go.
    late: u64,
    /// When the request fails. Never before the peer is connected, since a dial ends by itself.
    deadline: u64,
    /// The number of times that the request can still be repeated.
    retries: u32,
}

impl StockNode {
    /// The node of the peer `own`, with this routing table.
    pub fn new(own: NodeIndex, rules: StockRules, table: StockTable) -> StockNode {
        StockNode {
            own,
            rules,
            table,
            values: BTreeMap::new(),
            providers: BTreeMap::new(),
            lookups: Vec::new(),
            pending: Vec::new(),
            outputs: VecDeque::new(),
            next_request: 0,
            next_query: 0,
        }
    }

    /// The routing table.
    pub(crate) fn table(&self) -> &StockTable {
        &self.table
    }

    /// go-libp2p's swarm refuses a dial for 5 s after one that failed, rust-libp2p's does not, in microseconds.
    pub(crate) fn dial_backoff(&self) -> u64 {
        if matches!(self.rules, StockRules::Go { .. }) { 5_000_000 } else { 0 }
    }

    /// Whether the node stores a value under this key.
    pub(crate) fn has_value(&self, key: &RecordKey) -> bool {
        self.values.contains_key(key)
    }

    pub(crate) fn start(&mut self, now: u64, directory: &Directory, operation: Operation) -> QueryId {
        let id = QueryId::new(self.next_query);
        self.next_query += 1;
        let (key, goal) = match operation {
            Operation::Put { key, value } => {
                let value = Value::new(key.clone(), value);
                self.values.insert(key.clone(), value.clone());
                (key.to_shared(), Goal::Put(value))
            }
            Operation::Get { key } => (key.to_shared(), Goal::Get(key)),
            Operation::ClosestPeers { key } => (key, Goal::Closest),
            Operation::FindPeer { peer } => (Bytes::from(peer.to_bytes()), Goal::Closest),
            // Joining is not simulated for stock nodes: a lookup of the own key takes its place.
            _ => (Bytes::from(directory.contact(self.own).peer().to_bytes()), Goal::Closest),
        };
        let position = key_position(&Key::hash(&key));
        let seeds = self.table.closest(directory, position, self.rules.k());
        let lookup = StockLookup::new(
            id,
            key,
            position,
            goal,
            self.rules.k(),
            seeds.iter().map(|peer| (directory.position(*peer), *peer)),
        );
        self.lookups.push(lookup);
        self.advance(now, directory, id);
        id
    }

    pub(crate) fn handle_request(&mut self, directory: &Directory, from: NodeIndex, request: Request) -> Reply {
        let closer = |node: &StockNode, key: &[u8]| {
            let position = key_position(&Key::hash(key));
            let k = node.rules.k();
            let mut closest = node.table.closest(directory, position, k + 1);
            closest.retain(|peer| *peer != from);
            closest.truncate(k);
            closest.into_iter().map(|peer| Arc::clone(directory.contact(peer))).collect()
        };
        Reply::Answer(match request {
            Request::Ping => Response::Ping,
            Request::FindNode { key } => Response::FindNode { closer: closer(self, &key) },
            Request::GetValue { key } => {
                Response::GetValue { value: self.values.get(&key).cloned(), closer: closer(self, key.as_bytes()), key }
            }
            Request::PutValue { value } => {
                self.values.insert(value.key.clone(), value.clone());
                Response::PutValue { value }
            }
            Request::GetProviders { key } => Response::GetProviders {
                providers: self.providers.get(&key).cloned().unwrap_or_default(),
                closer: closer(self, key.as_bytes()),
                key,
            },
            Request::AddProvider { key, providers } => {
                self.providers.entry(key).or_default().extend(providers);
                return Reply::Nothing;
            }
            // Both implementations know only these kinds of requests.
            _ => return Reply::Reset(Refusal::NotServing),
        })
    }

    pub(crate) fn handle_response(
        &mut self,
        now: u64,
        directory: &Directory,
        id: RequestId,
        result: Result<Response, RequestError>,
    ) {
        let Some(at) = self.pending.iter().position(|pending| pending.id == id) else { return };
        let ended = self.pending.swap_remove(at);
        self.on_end(now, directory, ended, result);
    }

    /// The connection for this request is established: the time for the answer begins.
    pub(crate) fn on_connected(&mut self, now: u64, id: RequestId) {
        if let Some(pending) = self.pending.iter_mut().find(|pending| pending.id == id) {
            pending.deadline = now + READ_TIMEOUT;
        }
    }

    pub(crate) fn handle_timeout(&mut self, now: u64, directory: &Directory) {
        while let Some(at) = self.pending.iter().position(|pending| pending.deadline <= now) {
            let ended = self.pending.swap_remove(at);
            self.outputs.push_back(Output::Cancel { id: ended.id });
            self.on_end(now, directory, ended, Err(RequestError::Timeout));
        }
        while let Some(late) = self.pending.iter_mut().find(|pending| pending.late <= now) {
            late.late = u64::MAX;
            let (query, peer) = (late.query, late.peer);
            if let Some(lookup) = self.lookup(query) {
                lookup.on_late(peer);
            }
            self.advance(now, directory, query);
        }
    }

    pub(crate) fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    pub(crate) fn poll_timeout(&self) -> Option<u64> {
        self.pending.iter().map(|pending| pending.deadline.min(pending.late)).min().filter(|at| *at != u64::MAX)
    }

    fn lookup(&mut self, id: QueryId) -> Option<&mut StockLookup> {
        self.lookups.iter_mut().find(|lookup| lookup.id() == id)
    }

    fn on_end(&mut self, now: u64, directory: &Directory, ended: Pending, result: Result<Response, RequestError>) {
        let Pending { query, peer, retries, .. } = ended;
        let retry = retries > 0 && matches!(result, Err(RequestError::Timeout | RequestError::ConnectionClosed));
        let Some(lookup) = self.lookup(query) else { return };
        match result {
            Ok(response) => lookup.on_response(directory, peer, response),
            Err(_) if retry => {
                let request = lookup.request(peer);
                self.send(now, directory, query, peer, request, retries - 1);
                return;
            }
            Err(why) => {
                lookup.on_failure(directory, peer, why);
                if self.rules.forgets_failed() {
                    self.table.remove(directory, peer);
                }
            }
        }
        self.advance(now, directory, query);
    }

    fn advance(&mut self, now: u64, directory: &Directory, query: QueryId) {
        loop {
            let (rules, own) = (self.rules, self.own);
            let Some(lookup) = self.lookup(query) else { return };
            match lookup.next(rules) {
                NextStep::Ask(peer) if peer == own => lookup.skip(peer),
                NextStep::Ask(peer) => {
                    let request = lookup.request(peer);
                    self.send(now, directory, query, peer, request, rules.retries());
                }
                NextStep::GiveUpWaiting => self.cancel_pending(query),
                NextStep::Wait => return,
                NextStep::Done => return self.finish(directory, query),
            }
        }
    }

    fn send(
        &mut self,
        now: u64,
        directory: &Directory,
        query: QueryId,
        peer: NodeIndex,
        request: Request,
        retries: u32,
    ) {
        let id = RequestId::new(self.next_request);
        self.next_request += 1;
        if let Some(lookup) = self.lookup(query) {
            lookup.count_request();
        }
        let late = self.rules.late_after().map_or(u64::MAX, |late_after| now + late_after);
        self.pending.push(Pending { id, query, peer, late, deadline: u64::MAX, retries });
        self.outputs.push_back(Output::Send { to: Arc::clone(directory.contact(peer)), id, request });
    }

    fn cancel_pending(&mut self, query: QueryId) {
        let outputs = &mut self.outputs;
        self.pending.retain(|pending| {
            if pending.query == query {
                outputs.push_back(Output::Cancel { id: pending.id });
            }
            pending.query != query
        });
    }

    fn finish(&mut self, directory: &Directory, query: QueryId) {
        self.cancel_pending(query);
        let Some(at) = self.lookups.iter().position(|lookup| lookup.id() == query) else { return };
        let lookup = self.lookups.swap_remove(at);
        let result = lookup.into_answer(directory, self.rules);
        let event = Event::QueryProgressed { id: query, event: QueryEvent::Finished(Box::new(result)) };
        self.outputs.push_back(Output::Event(event));
    }
}

/// The result of a lookup that found nothing.
fn not_found(report: libp2p_kad_dht::core::Report) -> Result<Answer, QueryError> {
    if report.requests == 0 { Err(QueryError::NoPeers) } else { Err(QueryError::NotFound(Box::new(report))) }
}

/// The failure of a peer that answers another kind of request.
const WRONG_TYPE: RequestError = RequestError::Misbehaved(Misbehaviour::WrongType);
