//! Players that follow the published rules of other implementations, for comparison in the same network.
//!
//! Knows: messages, a table of peer numbers, and the doors that a [`Dht`](libp2p_kad_dht::core::Dht) has too. Must not know:
//! the network. Only what a lookup's cost and success depend on is here: no maintenance, no expiry, no validation.

mod walk;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use self::walk::{Step, Walk, Want};
use super::directory::{Directory, Index, place};
use super::table::Table;
use libp2p_kad_dht::core::{
    Answer, Contact, Event, Key, Misbehaviour, Operation, Output, QueryError, QueryEvent, QueryId, RecordKey, Refusal,
    Reply, Request, RequestError, RequestId, Response, Value,
};

pub(crate) use self::walk::Rules;

/// How long a stock player waits for an answer once connected: 10 s in both implementations.
const READ_TIMEOUT: u64 = 10_000_000;

/// One node that plays by the rules of another implementation.
pub(crate) struct Player {
    own: Index,
    rules: Rules,
    table: Table,
    values: BTreeMap<RecordKey, Value>,
    providers: BTreeMap<RecordKey, Vec<Arc<Contact>>>,
    walks: Vec<Walk>,
    pending: Vec<Pending>,
    outputs: VecDeque<Output>,
    next_request: u64,
    next_query: u64,
}

/// A request under way.
struct Pending {
    id: RequestId,
    query: QueryId,
    peer: Index,
    /// When the walk stops counting on it, though a late answer is welcome; never for go.
    late: u64,
    /// When it fails; never until the peer is connected, for dials have times of their own.
    deadline: u64,
    /// How often it can still be sent again.
    retries: u32,
}

impl Player {
    pub(crate) fn new(own: Index, rules: Rules, table: Table) -> Player {
        Player {
            own,
            rules,
            table,
            values: BTreeMap::new(),
            providers: BTreeMap::new(),
            walks: Vec::new(),
            pending: Vec::new(),
            outputs: VecDeque::new(),
            next_request: 0,
            next_query: 0,
        }
    }

    /// Whom the player knows.
    pub(crate) fn table(&self) -> &Table {
        &self.table
    }

    /// go-libp2p's swarm holds back for 5 s after a failed dial; rust-libp2p's does not hold back at all.
    pub(crate) fn dial_backoff(&self) -> u64 {
        if matches!(self.rules, Rules::Go { .. }) { 5_000_000 } else { 0 }
    }

    /// Whether it keeps a value under this key.
    pub(crate) fn holds(&self, key: &RecordKey) -> bool {
        self.values.contains_key(key)
    }

    pub(crate) fn start(&mut self, now: u64, directory: &Directory, operation: Operation) -> QueryId {
        let id = QueryId::new(self.next_query);
        self.next_query += 1;
        let (key, want) = match operation {
            Operation::Put { key, value } => {
                let value = Value::new(key.clone(), value);
                self.values.insert(key.clone(), value.clone());
                (key.to_shared(), Want::Put(value))
            }
            Operation::Get { key } => (key.to_shared(), Want::Get(key)),
            Operation::ClosestPeers { key } => (key, Want::Closest),
            Operation::FindPeer { peer } => (Bytes::from(peer.to_bytes()), Want::Closest),
            // Joining is not simulated for stock players: they look for themselves.
            _ => (Bytes::from(directory.contact(self.own).peer().to_bytes()), Want::Closest),
        };
        let place = place(&Key::hash(&key));
        let seeds = self.table.closest(directory, place, self.rules.k());
        let walk =
            Walk::new(id, key, place, want, self.rules.k(), seeds.iter().map(|peer| (directory.place(*peer), *peer)));
        self.walks.push(walk);
        self.advance(now, directory, id);
        id
    }

    pub(crate) fn handle_request(&mut self, directory: &Directory, from: Index, request: Request) -> Reply {
        let closer = |player: &Player, key: &[u8]| {
            let place = place(&Key::hash(key));
            let k = player.rules.k();
            let mut closest = player.table.closest(directory, place, k + 1);
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
            // Neither implementation knows any other request.
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

    /// The connection for this request is up: its peer has the reading time from now on.
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
            if let Some(walk) = self.walk(query) {
                walk.on_late(peer);
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

    fn walk(&mut self, id: QueryId) -> Option<&mut Walk> {
        self.walks.iter_mut().find(|walk| walk.id() == id)
    }

    fn on_end(&mut self, now: u64, directory: &Directory, ended: Pending, result: Result<Response, RequestError>) {
        let Pending { query, peer, retries, .. } = ended;
        let retry = retries > 0 && matches!(result, Err(RequestError::Timeout | RequestError::ConnectionClosed));
        let Some(walk) = self.walk(query) else { return };
        match result {
            Ok(response) => walk.on_response(directory, peer, response),
            Err(_) if retry => {
                let request = walk.request(peer);
                self.send(now, directory, query, peer, request, retries - 1);
                return;
            }
            Err(why) => {
                walk.on_failure(directory, peer, why);
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
            let Some(walk) = self.walk(query) else { return };
            match walk.next(rules) {
                Step::Ask(peer) if peer == own => walk.skip(peer),
                Step::Ask(peer) => {
                    let request = walk.request(peer);
                    self.send(now, directory, query, peer, request, rules.retries());
                }
                Step::GiveUpWaiting => self.cancel_pending(query),
                Step::Wait => return,
                Step::Done => return self.finish(directory, query),
            }
        }
    }

    fn send(&mut self, now: u64, directory: &Directory, query: QueryId, peer: Index, request: Request, retries: u32) {
        let id = RequestId::new(self.next_request);
        self.next_request += 1;
        if let Some(walk) = self.walk(query) {
            walk.count_request();
        }
        let late = self.rules.patience().map_or(u64::MAX, |patience| now + patience);
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
        let Some(at) = self.walks.iter().position(|walk| walk.id() == query) else { return };
        let walk = self.walks.swap_remove(at);
        let result = walk.into_answer(directory, self.rules);
        let event = Event::QueryProgressed { id: query, event: QueryEvent::Finished(Box::new(result)) };
        self.outputs.push_back(Output::Event(event));
    }
}

/// The result of a walk that found nobody.
fn nobody(report: libp2p_kad_dht::core::Report) -> Result<Answer, QueryError> {
    if report.requests == 0 { Err(QueryError::NoPeers) } else { Err(QueryError::NotFound(Box::new(report))) }
}

/// What a player says to an answer of another kind.
const WRONG_TYPE: RequestError = RequestError::Misbehaved(Misbehaviour::WrongType);
