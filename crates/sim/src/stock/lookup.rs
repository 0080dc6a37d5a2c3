//! One lookup by the rules of another implementation.
//!
//! Knows: the candidates and the state of each. Must not know: time or the network; the node reports what happens.

use bytes::Bytes;

use super::super::directory::{Directory, NodeIndex};
use super::{WRONG_TYPE, not_found};
use libp2p_kad_dht::core::{
    Answer, ClosestPeers, Found, PeerFailure, PeerRecord, QueryError, QueryId, Record, RecordKey, Report, Request,
    RequestError, Response, Timestamp, Value,
};

/// The lookup rules of an implementation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StockRules {
    /// The textbook: rounds of α requests, each begun when all requests of the one before have ended, until the k
    /// closest peers have answered.
    Rounds {
        /// Requests of a round.
        alpha: usize,
        /// The number of closest peers.
        k: usize,
    },
    /// go-libp2p-kad-dht: α requests in flight until the β closest peers have answered; then one request to each of the
    /// k closest that was not asked, without a look at the answers (go-libp2p-kad-dht 0.42, query.go).
    Go {
        /// Requests in flight.
        alpha: usize,
        /// The number of closest peers whose answers end the search.
        beta: usize,
        /// The number of closest peers.
        k: usize,
    },
    /// libp2p-kad: α requests in flight, and k once α answers in a row named no closer peer, until the k closest peers
    /// that do not fail have answered (libp2p-kad 0.49, closest.rs).
    Rust {
        /// Requests in flight.
        alpha: usize,
        /// The number of closest peers.
        k: usize,
    },
}

impl StockRules {
    /// go-libp2p-kad-dht with the parameters of the public IPFS network.
    pub const AMINO: StockRules = StockRules::Go { alpha: 10, beta: 3, k: 20 };
    /// libp2p-kad 0.49 with its defaults.
    pub const LIBP2P_KAD: StockRules = StockRules::Rust { alpha: 3, k: 20 };

    /// The number of closest peers that a lookup finds.
    pub fn k(self) -> usize {
        match self {
            StockRules::Rounds { k, .. } | StockRules::Go { k, .. } | StockRules::Rust { k, .. } => k,
        }
    }

    /// The time in microseconds after which the lookup stops waiting for a peer, though its answer still counts.
    pub(super) fn late_after(self) -> Option<u64> {
        matches!(self, StockRules::Rust { .. }).then_some(10_000_000)
    }

    pub(super) fn retries(self) -> u32 {
        u32::from(matches!(self, StockRules::Go { .. }))
    }

    pub(super) fn forgets_failed(self) -> bool {
        matches!(self, StockRules::Go { .. })
    }
}

/// The purpose of a lookup.
#[derive(Clone, Debug)]
pub(super) enum Goal {
    Closest,
    Get(RecordKey),
    Put(Value),
}

/// The next step of a lookup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NextStep {
    Ask(NodeIndex),
    Wait,
    /// Cancel all requests in flight, then ask for the next step again.
    GiveUpWaiting,
    Done,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StockPeerState {
    NotAsked,
    Waiting,
    Late,
    Answered,
    Failed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Search,
    Follow,
    Store,
}

#[derive(Clone, Copy, Debug)]
struct StockPeer {
    distance: u64,
    peer: NodeIndex,
    state: StockPeerState,
}

pub(super) struct StockLookup {
    id: QueryId,
    key: Bytes,
    position: u64,
    goal: Goal,
    phase: Phase,
    /// All known peers, the closest first.
    peers: Vec<StockPeer>,
    /// The peers to store the value at.
    holders: Vec<StockPeer>,
    k: usize,
    /// Answers in a row that named no closer peer (libp2p-kad).
    fruitless: usize,
    /// The number of peers still to ask in this round (the textbook).
    left_in_round: usize,
    found: Option<(NodeIndex, Value)>,
    report: Report,
}

impl StockLookup {
    pub(super) fn new(
        id: QueryId,
        key: Bytes,
        position: u64,
        goal: Goal,
        k: usize,
        seeds: impl Iterator<Item = (u64, NodeIndex)>,
    ) -> StockLookup {
        let mut peers: Vec<StockPeer> = seeds
            .map(|(at, peer)| StockPeer { distance: at ^ position, peer, state: StockPeerState::NotAsked })
            .collect();
        peers.sort_unstable_by_key(|entry| (entry.distance, entry.peer));
        StockLookup {
            id,
            key,
            position,
            goal,
            phase: Phase::Search,
            peers,
            holders: Vec::new(),
            k,
            fruitless: 0,
            left_in_round: 0,
            found: None,
            report: Report::default(),
        }
    }

    pub(super) fn id(&self) -> QueryId {
        self.id
    }

    pub(super) fn count_request(&mut self) {
        self.report.requests += 1;
    }

    /// The request to send to this peer in the current phase.
    pub(super) fn request(&self, _to: NodeIndex) -> Request {
        match (&self.goal, self.phase) {
            (Goal::Put(value), Phase::Store) => Request::PutValue { value: value.clone() },
            (Goal::Get(key), _) => Request::GetValue { key: key.clone() },
            _ => Request::FindNode { key: self.key.clone() },
        }
    }

    pub(super) fn next(&mut self, rules: StockRules) -> NextStep {
        if self.found.is_some() {
            return NextStep::Done;
        }
        match (self.phase, rules) {
            (Phase::Store, _) => next_of(&mut self.holders, usize::MAX, usize::MAX),
            (Phase::Follow, StockRules::Go { k, .. }) => self.or_store(rules, |walk| walk.follow(k)),
            (_, StockRules::Go { alpha, beta, .. }) => {
                if closest_are(&self.peers, beta, StockPeerState::Answered) {
                    self.phase = Phase::Follow;
                    self.peers
                        .iter_mut()
                        .filter(|e| e.state == StockPeerState::Waiting)
                        .for_each(|e| e.state = StockPeerState::NotAsked);
                    return NextStep::GiveUpWaiting;
                }
                self.or_store(rules, |walk| next_of(&mut walk.peers, alpha, usize::MAX))
            }
            (_, StockRules::Rounds { alpha, k }) => self.or_store(rules, |walk| walk.round(alpha, k)),
            (_, StockRules::Rust { alpha, k }) => {
                let allowed = if self.fruitless < alpha { alpha } else { alpha.max(k) };
                self.or_store(rules, |walk| {
                    if closest_are(&walk.peers, k, StockPeerState::Answered) {
                        return NextStep::Done;
                    }
                    next_of(&mut walk.peers, allowed, usize::MAX)
                })
            }
        }
    }

    /// The next step of the search; once the search is done, a publication stores its value.
    fn or_store(&mut self, rules: StockRules, step: impl FnOnce(&mut StockLookup) -> NextStep) -> NextStep {
        let step = step(self);
        if step != NextStep::Done || !matches!(self.goal, Goal::Put(_)) {
            return step;
        }
        self.phase = Phase::Store;
        self.holders =
            self.result(rules).map(|entry| StockPeer { state: StockPeerState::NotAsked, ..*entry }).collect();
        NextStep::GiveUpWaiting
    }

    /// go's last step: one request to each of the k closest peers that was not asked.
    fn follow(&mut self, k: usize) -> NextStep {
        let mut top = self.peers.iter_mut().filter(|entry| entry.state != StockPeerState::Failed).take(k);
        if let Some(entry) = top.by_ref().find(|entry| entry.state == StockPeerState::NotAsked) {
            entry.state = StockPeerState::Waiting;
            return NextStep::Ask(entry.peer);
        }
        if self.peers.iter().any(|entry| entry.state == StockPeerState::Waiting) {
            NextStep::Wait
        } else {
            NextStep::Done
        }
    }

    /// The textbook's round: α of the k closest peers that were not asked, once no request is in flight.
    fn round(&mut self, alpha: usize, k: usize) -> NextStep {
        if self.left_in_round == 0 {
            if self.peers.iter().any(|entry| entry.state == StockPeerState::Waiting) {
                return NextStep::Wait;
            }
            self.left_in_round = alpha;
        }
        let step = next_of(&mut self.peers, usize::MAX, k);
        self.left_in_round = if matches!(step, NextStep::Ask(_)) { self.left_in_round - 1 } else { 0 };
        step
    }

    /// Removes the node itself: it is neither asked nor a result.
    pub(super) fn skip(&mut self, peer: NodeIndex) {
        self.peers.retain(|entry| entry.peer != peer);
        self.holders.retain(|entry| entry.peer != peer);
    }

    pub(super) fn on_late(&mut self, peer: NodeIndex) {
        if self.phase == Phase::Search {
            set(&mut self.peers, peer, StockPeerState::Late);
        }
    }

    pub(super) fn on_response(&mut self, directory: &Directory, peer: NodeIndex, response: Response) {
        let closer = match response {
            Response::FindNode { closer } => closer,
            Response::GetValue { value: Some(value), .. } if matches!(self.goal, Goal::Get(_)) => {
                self.found = Some((peer, value));
                Vec::new()
            }
            Response::GetValue { closer, .. } => closer,
            Response::PutValue { .. } if self.phase == Phase::Store => Vec::new(),
            _ => return self.on_failure(directory, peer, WRONG_TYPE),
        };
        self.report.answers += 1;
        if self.phase == Phase::Store {
            return set(&mut self.holders, peer, StockPeerState::Answered);
        }
        set(&mut self.peers, peer, StockPeerState::Answered);
        if self.phase == Phase::Search {
            let best = self.peers.get(self.k - 1).map_or(u64::MAX, |entry| entry.distance);
            let mut news = false;
            for contact in closer {
                let Some(index) = directory.index(&contact) else { continue };
                news |= self.add_candidate(directory.position(index), index) < best;
            }
            self.fruitless = if news { 0 } else { self.fruitless + 1 };
        }
    }

    pub(super) fn on_failure(&mut self, directory: &Directory, peer: NodeIndex, why: RequestError) {
        self.report.failed.push(PeerFailure::new(*directory.contact(peer).peer(), why));
        match self.phase {
            Phase::Search => set(&mut self.peers, peer, StockPeerState::Failed),
            // go ignores the answers and the failures of its last step.
            Phase::Follow => set(&mut self.peers, peer, StockPeerState::Late),
            Phase::Store => set(&mut self.holders, peer, StockPeerState::Failed),
        }
    }

    /// Adds a peer. Returns its distance; the greatest one for a peer that is known already.
    fn add_candidate(&mut self, at: u64, peer: NodeIndex) -> u64 {
        let distance = at ^ self.position;
        if let Err(position) = self.peers.binary_search_by_key(&(distance, peer), |e| (e.distance, e.peer)) {
            self.peers.insert(position, StockPeer { distance, peer, state: StockPeerState::NotAsked });
            return distance;
        }
        u64::MAX
    }

    fn result(&self, rules: StockRules) -> impl Iterator<Item = &StockPeer> {
        let only_answered = !matches!(rules, StockRules::Go { .. });
        self.peers
            .iter()
            .filter(move |e| {
                e.state != StockPeerState::Failed && (!only_answered || e.state == StockPeerState::Answered)
            })
            .take(rules.k())
    }

    pub(super) fn into_answer(mut self, directory: &Directory, rules: StockRules) -> Result<Answer, QueryError> {
        let mut report = std::mem::take(&mut self.report);
        let stored = self.holders.iter().filter(|entry| entry.state == StockPeerState::Answered);
        report.acknowledged = stored.map(|entry| *directory.contact(entry.peer).peer()).collect();
        if let Some((peer, value)) = self.found {
            let holder = *directory.contact(peer).peer();
            let record = Record::new(value.key, value.value, Timestamp::ZERO);
            return Ok(Answer::Value(Found::new(record, holder, report)));
        }
        match self.goal {
            Goal::Get(_) => not_found(report),
            Goal::Put(_) if report.acknowledged.is_empty() => not_found(report),
            Goal::Put(_) => Ok(Answer::Published(report.into())),
            Goal::Closest => {
                let peers =
                    self.result(rules).map(|entry| PeerRecord::from(&**directory.contact(entry.peer))).collect();
                Ok(Answer::ClosestPeers(ClosestPeers::new(peers, report)))
            }
        }
    }
}

/// Whether there are entries that did not fail, and the first `n` of them are all in this state.
fn closest_are(peers: &[StockPeer], n: usize, state: StockPeerState) -> bool {
    let mut top = peers
        .iter()
        .filter(|entry| !matches!(entry.state, StockPeerState::Failed | StockPeerState::Late))
        .take(n)
        .peekable();
    top.peek().is_some() && top.all(|entry| entry.state == state)
}

/// Asks the closest of the first `top` entries that did not fail and was not asked, while fewer than `allowed` requests
/// are in flight. Done when there is no peer to ask and no request in flight.
fn next_of(peers: &mut [StockPeer], allowed: usize, top: usize) -> NextStep {
    let waiting = peers.iter().filter(|entry| entry.state == StockPeerState::Waiting).count();
    if waiting < allowed {
        let mut usable = peers.iter_mut().filter(|entry| entry.state != StockPeerState::Failed).take(top);
        if let Some(entry) = usable.find(|entry| entry.state == StockPeerState::NotAsked) {
            entry.state = StockPeerState::Waiting;
            return NextStep::Ask(entry.peer);
        }
    }
    if waiting > 0 { NextStep::Wait } else { NextStep::Done }
}

fn set(peers: &mut [StockPeer], peer: NodeIndex, state: StockPeerState) {
    if let Some(entry) = peers.iter_mut().find(|entry| entry.peer == peer) {
        entry.state = state;
    }
}
