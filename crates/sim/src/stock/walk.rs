//! One lookup by the rules of another implementation.
//!
//! Knows: who was heard of and how far each got. Must not know: time or the network; the player tells it.

use bytes::Bytes;

use super::super::directory::{Directory, Index};
use super::{WRONG_TYPE, nobody};
use libp2p_kad_dht::core::{
    Answer, ClosestPeers, Found, PeerFailure, PeerRecord, QueryError, QueryId, Record, RecordKey, Report, Request,
    RequestError, Response, Timestamp, Value,
};

/// By whose rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rules {
    /// The textbook: rounds of α requests, the next round when all of one have ended, until the k closest answered.
    Rounds { alpha: usize, k: usize },
    /// go-libp2p-kad-dht: α in flight until the β closest answered; then whoever of the k closest was not asked is
    /// asked, without looking at the answers (go-libp2p-kad-dht 0.42, query.go).
    Go { alpha: usize, beta: usize, k: usize },
    /// libp2p-kad 0.49: α in flight, k once α answers in a row brought nothing closer, until the k closest that do
    /// not fail have answered (libp2p-kad 0.49, closest.rs).
    Rust { alpha: usize, k: usize },
}

impl Rules {
    /// The public IPFS network's parameters of go-libp2p-kad-dht.
    pub(crate) const AMINO: Rules = Rules::Go { alpha: 10, beta: 3, k: 20 };
    /// The defaults of libp2p-kad 0.49.
    pub(crate) const LIBP2P_KAD: Rules = Rules::Rust { alpha: 3, k: 20 };

    pub(crate) fn k(self) -> usize {
        match self {
            Rules::Rounds { k, .. } | Rules::Go { k, .. } | Rules::Rust { k, .. } => k,
        }
    }

    /// After how long a peer no longer holds a place, though its answer still counts.
    pub(super) fn patience(self) -> Option<u64> {
        matches!(self, Rules::Rust { .. }).then_some(10_000_000)
    }

    pub(super) fn retries(self) -> u32 {
        u32::from(matches!(self, Rules::Go { .. }))
    }

    pub(super) fn forgets_failed(self) -> bool {
        matches!(self, Rules::Go { .. })
    }
}

/// What a walk is for.
#[derive(Clone, Debug)]
pub(super) enum Want {
    Closest,
    Get(RecordKey),
    Put(Value),
}

/// What a walk does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Ask(Index),
    Wait,
    /// Cancel what is in flight, then ask again.
    GiveUpWaiting,
    Done,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Heard,
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
struct Entry {
    distance: u64,
    peer: Index,
    state: State,
}

pub(super) struct Walk {
    id: QueryId,
    key: Bytes,
    place: u64,
    want: Want,
    phase: Phase,
    /// Everyone heard of, nearest first.
    peers: Vec<Entry>,
    /// Whom to store at, and how far each got.
    holders: Vec<Entry>,
    k: usize,
    /// Answers in a row that brought nothing closer (libp2p-kad).
    fruitless: usize,
    /// How many more to ask in this round (the textbook).
    left_in_round: usize,
    found: Option<(Index, Value)>,
    report: Report,
}

impl Walk {
    pub(super) fn new(
        id: QueryId,
        key: Bytes,
        place: u64,
        want: Want,
        k: usize,
        seeds: impl Iterator<Item = (u64, Index)>,
    ) -> Walk {
        let mut peers: Vec<Entry> =
            seeds.map(|(at, peer)| Entry { distance: at ^ place, peer, state: State::Heard }).collect();
        peers.sort_unstable_by_key(|entry| (entry.distance, entry.peer));
        Walk {
            id,
            key,
            place,
            want,
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

    /// What to send to this peer in the present phase.
    pub(super) fn request(&self, _to: Index) -> Request {
        match (&self.want, self.phase) {
            (Want::Put(value), Phase::Store) => Request::PutValue { value: value.clone() },
            (Want::Get(key), _) => Request::GetValue { key: key.clone() },
            _ => Request::FindNode { key: self.key.clone() },
        }
    }

    pub(super) fn next(&mut self, rules: Rules) -> Step {
        if self.found.is_some() {
            return Step::Done;
        }
        match (self.phase, rules) {
            (Phase::Store, _) => next_of(&mut self.holders, usize::MAX, usize::MAX),
            (Phase::Follow, Rules::Go { k, .. }) => self.or_store(rules, |walk| walk.follow(k)),
            (_, Rules::Go { alpha, beta, .. }) => {
                if leading(&self.peers, beta, State::Answered) {
                    self.phase = Phase::Follow;
                    self.peers.iter_mut().filter(|e| e.state == State::Waiting).for_each(|e| e.state = State::Heard);
                    return Step::GiveUpWaiting;
                }
                self.or_store(rules, |walk| next_of(&mut walk.peers, alpha, usize::MAX))
            }
            (_, Rules::Rounds { alpha, k }) => self.or_store(rules, |walk| walk.round(alpha, k)),
            (_, Rules::Rust { alpha, k }) => {
                let allowed = if self.fruitless < alpha { alpha } else { alpha.max(k) };
                self.or_store(rules, |walk| {
                    if leading(&walk.peers, k, State::Answered) {
                        return Step::Done;
                    }
                    next_of(&mut walk.peers, allowed, usize::MAX)
                })
            }
        }
    }

    /// The search's next step; when it is done, what a publication does after it.
    fn or_store(&mut self, rules: Rules, step: impl FnOnce(&mut Walk) -> Step) -> Step {
        let step = step(self);
        if step != Step::Done || !matches!(self.want, Want::Put(_)) {
            return step;
        }
        self.phase = Phase::Store;
        self.holders = self.result(rules).map(|entry| Entry { state: State::Heard, ..*entry }).collect();
        Step::GiveUpWaiting
    }

    /// go's follow-up: all of the k closest that were not asked, at once.
    fn follow(&mut self, k: usize) -> Step {
        let mut top = self.peers.iter_mut().filter(|entry| entry.state != State::Failed).take(k);
        if let Some(entry) = top.by_ref().find(|entry| entry.state == State::Heard) {
            entry.state = State::Waiting;
            return Step::Ask(entry.peer);
        }
        if self.peers.iter().any(|entry| entry.state == State::Waiting) { Step::Wait } else { Step::Done }
    }

    /// The textbook's round: α of the unasked among the k closest, once none is waited for.
    fn round(&mut self, alpha: usize, k: usize) -> Step {
        if self.left_in_round == 0 {
            if self.peers.iter().any(|entry| entry.state == State::Waiting) {
                return Step::Wait;
            }
            self.left_in_round = alpha;
        }
        let step = next_of(&mut self.peers, usize::MAX, k);
        self.left_in_round = if matches!(step, Step::Ask(_)) { self.left_in_round - 1 } else { 0 };
        step
    }

    /// The peer is the walker itself: never asked, never an answer.
    pub(super) fn skip(&mut self, peer: Index) {
        self.peers.retain(|entry| entry.peer != peer);
        self.holders.retain(|entry| entry.peer != peer);
    }

    pub(super) fn on_late(&mut self, peer: Index) {
        if self.phase == Phase::Search {
            set(&mut self.peers, peer, State::Late);
        }
    }

    pub(super) fn on_response(&mut self, directory: &Directory, peer: Index, response: Response) {
        let closer = match response {
            Response::FindNode { closer } => closer,
            Response::GetValue { value: Some(value), .. } if matches!(self.want, Want::Get(_)) => {
                self.found = Some((peer, value));
                Vec::new()
            }
            Response::GetValue { closer, .. } => closer,
            Response::PutValue { .. } if self.phase == Phase::Store => Vec::new(),
            _ => return self.on_failure(directory, peer, WRONG_TYPE),
        };
        self.report.answers += 1;
        if self.phase == Phase::Store {
            return set(&mut self.holders, peer, State::Answered);
        }
        set(&mut self.peers, peer, State::Answered);
        if self.phase == Phase::Search {
            let best = self.peers.get(self.k - 1).map_or(u64::MAX, |entry| entry.distance);
            let mut news = false;
            for contact in closer {
                let Some(index) = directory.index(&contact) else { continue };
                news |= self.hear(directory.place(index), index) < best;
            }
            self.fruitless = if news { 0 } else { self.fruitless + 1 };
        }
    }

    pub(super) fn on_failure(&mut self, directory: &Directory, peer: Index, why: RequestError) {
        self.report.failed.push(PeerFailure::new(*directory.contact(peer).peer(), why));
        match self.phase {
            Phase::Search => set(&mut self.peers, peer, State::Failed),
            // go looks neither at the answers nor at the failures of its follow-up.
            Phase::Follow => set(&mut self.peers, peer, State::Late),
            Phase::Store => set(&mut self.holders, peer, State::Failed),
        }
    }

    /// Notes a peer; returns its distance.
    fn hear(&mut self, at: u64, peer: Index) -> u64 {
        let distance = at ^ self.place;
        if let Err(position) = self.peers.binary_search_by_key(&(distance, peer), |e| (e.distance, e.peer)) {
            self.peers.insert(position, Entry { distance, peer, state: State::Heard });
            return distance;
        }
        u64::MAX
    }

    fn result(&self, rules: Rules) -> impl Iterator<Item = &Entry> {
        let only_answered = !matches!(rules, Rules::Go { .. });
        self.peers
            .iter()
            .filter(move |e| e.state != State::Failed && (!only_answered || e.state == State::Answered))
            .take(rules.k())
    }

    pub(super) fn into_answer(mut self, directory: &Directory, rules: Rules) -> Result<Answer, QueryError> {
        let mut report = std::mem::take(&mut self.report);
        let stored = self.holders.iter().filter(|entry| entry.state == State::Answered);
        report.acknowledged = stored.map(|entry| *directory.contact(entry.peer).peer()).collect();
        if let Some((peer, value)) = self.found {
            let holder = *directory.contact(peer).peer();
            let record = Record::new(value.key, value.value, Timestamp::ZERO);
            return Ok(Answer::Value(Found::new(record, holder, report)));
        }
        match self.want {
            Want::Get(_) => nobody(report),
            Want::Put(_) if report.acknowledged.is_empty() => nobody(report),
            Want::Put(_) => Ok(Answer::Published(report.into())),
            Want::Closest => {
                let peers =
                    self.result(rules).map(|entry| PeerRecord::from(&**directory.contact(entry.peer))).collect();
                Ok(Answer::ClosestPeers(ClosestPeers::new(peers, report)))
            }
        }
    }
}

/// Whether the first `n` entries that did not fail are all in this state, and there are any.
fn leading(peers: &[Entry], n: usize, state: State) -> bool {
    let mut top = peers.iter().filter(|entry| !matches!(entry.state, State::Failed | State::Late)).take(n).peekable();
    top.peek().is_some() && top.all(|entry| entry.state == state)
}

/// Asks the closest unasked entry among the `top` that did not fail, while fewer than `allowed` are waited for; done
/// when nothing is left to ask or to wait for.
fn next_of(peers: &mut [Entry], allowed: usize, top: usize) -> Step {
    let waiting = peers.iter().filter(|entry| entry.state == State::Waiting).count();
    if waiting < allowed {
        let mut usable = peers.iter_mut().filter(|entry| entry.state != State::Failed).take(top);
        if let Some(entry) = usable.find(|entry| entry.state == State::Heard) {
            entry.state = State::Waiting;
            return Step::Ask(entry.peer);
        }
    }
    if waiting > 0 { Step::Wait } else { Step::Done }
}

fn set(peers: &mut [Entry], peer: Index, state: State) {
    if let Some(entry) = peers.iter_mut().find(|entry| entry.peer == peer) {
        entry.state = state;
    }
}
