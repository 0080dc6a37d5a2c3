//! Bring records that lie close together to the peers closest to them, with as few walks as that takes.
//!
//! Knows: what goes to whom, who took it, which part of the keyspace is known. Must not know: why it is done, or when.
//!
//! The first walk goes to the key of the first record. What it leaves in the dark of the surroundings of another key is
//! looked into with a walk there, and so on: so many records share the walks of a few. *A walk for three times as many
//! peers would not do: peers name the k closest to what they are asked for, so nothing shows that those farther away are
//! all there are.*
//!
//! What was announced before this node was started again is had by an unknown part of the k closest. Its walks ask for
//! the record itself instead of for peers, each to the key of one record, until everyone around is known and was asked for
//! a record that it should have. Who lacks that came while this node was away, and is told the others too; where a quarter
//! of all lack theirs, so much has changed that the whole region is announced anew.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;

use super::coverage::Coverage;
use super::{Context, Heard, Step, find_node, walk_on};
use crate::core::contact::Contact;
use crate::core::errand::{Ended, Errand, Name, To};
use crate::core::error::{QueryError, Report};
use crate::core::key::Key;
use crate::core::lookup::Lookup;
use crate::core::message::{Request, RequestError, Response, Value};
use crate::core::preimage;
use crate::core::requests::Tag;
use crate::core::stats::Cause;
use crate::core::store::Item;
use crate::core::time::Timestamp;

/// So many deliveries are under way at a time. Source: three lookups that each ask the 20 closest.
const AT_ONCE: usize = 60;
/// After so many walks into gaps for one record the next goes to its own key.
const GAPS: u32 = 3;
/// Walks have this tag and higher ones, the delivery of the nth record the tag n.
const WALKS: u16 = 1_024;

#[derive(Debug)]
pub(crate) struct Region {
    pub(crate) cause: Cause,
    /// How many of the closest are to have a record.
    wanted: usize,
    parcels: Vec<Parcel>,
    /// Those whose closest peers are not known yet.
    dark: VecDeque<usize>,
    /// Those that may have someone to address.
    ready: VecDeque<usize>,
    /// Deliveries under way.
    open: usize,
    coverage: Coverage,
    walk: Option<Walk>,
    walks: u16,
    /// How many walks into gaps the first in the dark has had.
    gaps: u32,
    /// Who of those that should have a record has it.
    sample: Sample,
    rng: ChaCha8Rng,
}

#[derive(Debug)]
struct Walk {
    tag: Tag,
    /// What it asks of everyone.
    request: Request,
    lookup: Lookup,
    /// Whether it goes to the first record in the dark itself.
    direct: bool,
    /// Who was asked for this very record, and whether it has it.
    heard: BTreeMap<u64, bool>,
}

#[derive(Debug)]
struct Parcel {
    item: Item,
    name: Name,
    to: To,
    /// Whom to address, the best first, more of them than wanted.
    recipients: Vec<(Arc<Contact>, State)>,
    wanted: usize,
    closest: Option<Vec<u64>>,
    /// Nobody else is to get it.
    stopped: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Ranked,
    Waiting,
    Reached,
    Failed,
    /// Is taken to have it anyway.
    Has,
}

/// Whether those that should have a record of an earlier life of this node have it, by the first 64 bits of their keys.
#[derive(Debug, Default)]
struct Sample(BTreeMap<u64, bool>);

/// Three of four have to have it. Source: where half of the nodes are gone after 1 h, a quarter is after 25 minutes; of
/// k = 20 holders 15 are left.
const HOLDS: f64 = 0.75;

impl Region {
    /// `wanted` of the closest are to have each record. As many errands as a page has items at most.
    pub(crate) fn new(cause: Cause, wanted: usize, errands: Vec<Errand>, rng: ChaCha8Rng) -> Region {
        let parcels: Vec<_> = errands.into_iter().take(usize::from(WALKS)).map(Parcel::new).collect();
        let (ready, mut dark): (_, Vec<_>) = (0..parcels.len()).partition(|i| matches!(parcels[*i].to, To::Peers(_)));
        // While nobody is known but those whom their walks asked.
        dark.sort_by_key(|i| !matches!(parcels[*i].to, To::WhoeverLacksIt));
        Region {
            cause,
            wanted,
            parcels,
            dark: dark.into(),
            ready: ready.into(),
            open: 0,
            coverage: Coverage::default(),
            walk: None,
            walks: 0,
            gaps: 0,
            sample: Sample::default(),
            rng,
        }
    }

    /// The place of the first record.
    pub(crate) fn target(&self) -> Option<Key> {
        self.parcels.first().map(|parcel| parcel.name.place)
    }

    pub(crate) fn unasked(&self) -> usize {
        self.walk.as_ref().map_or(0, |walk| walk.lookup.unasked())
    }

    /// Nobody else is to get this.
    pub(crate) fn stop(&mut self, name: &Name) {
        self.parcels.iter_mut().filter(|parcel| parcel.name == *name).for_each(|parcel| parcel.stopped = true);
    }

    pub(crate) fn next(&mut self, cx: &Context<'_>, report: &mut Report) -> Step {
        loop {
            if let Some(step) = self.deliver(cx) {
                return step;
            }
            if let Some(walk) = &mut self.walk {
                match walk_on(&mut walk.lookup, walk.tag, || walk.request.clone()) {
                    Some(step) => return step,
                    None => self.on_walk_done(cx),
                }
            } else if !self.start_walk(cx) {
                break;
            }
        }
        if self.open > 0 {
            return Step::Wait;
        }
        // Nobody asked for it; what came of it is told by `ended`.
        Step::Finish(Err(QueryError::NotFound(Box::new(std::mem::take(report)))))
    }

    pub(crate) fn on_answer(&mut self, cx: &Context<'_>, heard: &Heard<'_>) {
        if let Some(walk) = self.walk.as_mut().filter(|walk| walk.tag == heard.tag) {
            let first = self.dark.front().filter(|_| walk.direct);
            if let Some(has) = first.and_then(|i| has(cx, &self.parcels[*i].item, &heard.response)) {
                walk.heard.insert(heard.from.key().head(), has);
            }
        }
        self.settle(heard.from, heard.tag, State::Reached);
    }

    /// The lookup that this request is part of, unless that is over.
    pub(crate) fn lookup(&mut self, tag: Tag) -> Option<&mut Lookup> {
        self.walk.as_mut().filter(|walk| walk.tag == tag).map(|walk| &mut walk.lookup)
    }

    /// A delivery failed.
    pub(crate) fn on_failure(&mut self, from: &Arc<Contact>, tag: Tag, why: RequestError) {
        // What was sent and neither taken nor refused may well have arrived.
        let end = if why == RequestError::Unacknowledged { State::Reached } else { State::Failed };
        self.settle(from, tag, end);
    }

    /// What came of each errand; those that were stopped are left out.
    pub(crate) fn ended(self) -> impl Iterator<Item = Ended> {
        self.parcels.into_iter().filter(|parcel| !parcel.stopped).map(|parcel| {
            let reached = parcel.recipients.iter().filter(|(_, state)| matches!(state, State::Reached | State::Has));
            Ended {
                reached: reached.map(|(peer, _)| peer.key().head()).collect(),
                to_all: matches!(parcel.to, To::Closest),
                closest: parcel.closest,
                item: parcel.item,
            }
        })
    }

    /// The next delivery, if there is room for one and someone to address.
    fn deliver(&mut self, cx: &Context<'_>) -> Option<Step> {
        while self.open < AT_ONCE {
            let i = *self.ready.front()?;
            match self.parcels[i].next(cx) {
                Some((to, request)) => {
                    self.open += 1;
                    return Some(Step::Ask(to, request, Tag(i as u16)));
                }
                None => self.ready.pop_front(),
            };
        }
        None
    }

    /// Starts the walk to the first record in the dark, or into the gap beside it.
    fn start_walk(&mut self, cx: &Context<'_>) -> bool {
        while self.dark.front().is_some_and(|i| self.parcels[*i].stopped) {
            self.dark.pop_front();
        }
        let Some(i) = self.dark.front() else { return false };
        let name = self.parcels[*i].name;
        let item = &self.parcels[*i].item;
        let forgotten = matches!(self.parcels[*i].to, To::WhoeverLacksIt);
        let gap = self.coverage.gap(&name.place, self.wanted).filter(|_| self.gaps < GAPS && !forgotten);
        let found = gap.and_then(|gap| preimage::within(&gap.key, gap.bits, &mut self.rng));
        let (direct, target, request) = match found {
            Some((target, preimage)) => (false, target, find_node(&preimage)),
            None if forgotten => (true, name.place, ask_for(item)),
            None => (true, name.place, find_node(&item.key().to_shared())),
        };
        let tag = Tag(WALKS.saturating_add(self.walks));
        self.walks = self.walks.saturating_add(1);
        self.gaps += 1;
        let lookup = cx.walk_from(target, cx.replication(), &self.coverage.peers().cloned().collect::<Vec<_>>());
        self.walk = Some(Walk { tag, request, lookup, direct, heard: BTreeMap::new() });
        true
    }

    fn on_walk_done(&mut self, cx: &Context<'_>) {
        let Some(walk) = self.walk.take() else { return };
        let closest = walk.lookup.closest();
        let whole = cx.peers.table.len() < cx.replication();
        self.coverage.add(walk.lookup.target(), &closest, cx.replication(), whole);
        let first = self.dark.front().copied();
        // Those farther off need not have it.
        self.sample.add(closest.iter().map(|peer| peer.key().head()), &walk.heard);
        let mut dark = std::mem::take(&mut self.dark);
        dark.retain(|i| {
            let place = self.parcels[*i].name.place;
            let known = (walk.direct && Some(*i) == first) || self.coverage.gap(&place, self.wanted).is_none();
            if known {
                let ranked = self.coverage.nearest(&place, self.wanted.saturating_mul(2));
                let wanted = self.wanted - usize::from(self.cause == Cause::Replicated && is_near(cx, &place, &ranked));
                self.parcels[*i].rank(ranked, wanted, &self.sample);
                self.ready.push_back(*i);
            }
            !known
        });
        self.dark = dark;
        if self.dark.front().copied() != first {
            self.gaps = 0;
        }
    }

    fn settle(&mut self, from: &Arc<Contact>, tag: Tag, end: State) {
        let Some(parcel) = self.parcels.get_mut(usize::from(tag.0)) else { return };
        let waiting =
            |(peer, state): &&mut (Arc<Contact>, State)| peer.peer() == from.peer() && *state == State::Waiting;
        if let Some((_, state)) = parcel.recipients.iter_mut().find(waiting) {
            *state = end;
            self.open -= 1;
            if end == State::Failed {
                self.ready.push_back(usize::from(tag.0));
            }
        }
    }
}

impl Parcel {
    fn new(errand: Errand) -> Parcel {
        let recipients: Vec<_> = match &errand.to {
            To::Peers(peers) => peers.iter().map(|peer| (Arc::clone(peer), State::Ranked)).collect(),
            _ => Vec::new(),
        };
        let (name, wanted) = (Name::of(&errand.item), recipients.len());
        Parcel { item: errand.item, name, to: errand.to, recipients, wanted, closest: None, stopped: false }
    }

    /// These are the closest, and so many of them are to have it.
    fn rank(&mut self, ranked: Vec<Arc<Contact>>, wanted: usize, sample: &Sample) {
        let closest: Vec<_> = ranked.iter().take(wanted).map(|peer| peer.key().head()).collect();
        let ranked = ranked.into_iter().map(|peer| (peer, State::Ranked));
        if matches!(self.to, To::WhoeverLacksIt) && !sample.holds() {
            self.to = To::Closest;
        }
        (self.recipients, self.wanted) = match &self.to {
            To::NewOfClosest(told) => {
                let new = ranked.take(wanted).filter(|(peer, _)| !told.contains(&peer.key().head()));
                let new: Vec<_> = new.collect();
                let count = new.len();
                (new, count)
            }
            To::WhoeverLacksIt => {
                let state = |peer: &Contact| if sample.has(peer) { State::Has } else { State::Ranked };
                (ranked.take(wanted).map(|(peer, _)| (Arc::clone(&peer), state(&peer))).collect(), wanted)
            }
            To::Closest | To::Peers(_) => (ranked.collect(), wanted),
        };
        self.closest = Some(closest);
    }

    /// Whom to address next, and with what.
    fn next(&mut self, cx: &Context<'_>) -> Option<(Arc<Contact>, Request)> {
        if self.stopped {
            return None;
        }
        let in_play = self.recipients.iter_mut().filter(|(_, state)| *state != State::Failed).take(self.wanted);
        let (to, state) = { in_play }.find(|(_, state)| *state == State::Ranked)?;
        let request = message(cx, &self.item, matches!(self.to, To::Closest))?;
        *state = State::Waiting;
        Some((Arc::clone(to), request))
    }
}

impl Sample {
    /// These should have what was asked for. Who lacks one record may lack them all.
    fn add(&mut self, should_have: impl Iterator<Item = u64>, heard: &BTreeMap<u64, bool>) {
        for peer in should_have {
            if let Some(has) = heard.get(&peer) {
                *self.0.entry(peer).or_insert(true) &= has;
            }
        }
    }

    fn has(&self, peer: &Contact) -> bool {
        self.0.get(&peer.key().head()) == Some(&true)
    }

    /// Whether so many have theirs that only the others need to be told.
    fn holds(&self) -> bool {
        let had = self.0.values().filter(|has| **has).count();
        had > 0 && had as f64 >= HOLDS * self.0.len() as f64
    }
}

/// Asks for the record itself, and so for the peers closest to it too.
fn ask_for(item: &Item) -> Request {
    match item {
        Item::Value(record) => Request::GetValue { key: record.key.clone() },
        Item::Provider(record) => Request::GetProviders { key: record.key.clone() },
    }
}

/// Whether an answer has the record in it; `None` if it is an answer to something else.
fn has(cx: &Context<'_>, item: &Item, response: &Response) -> Option<bool> {
    match (item, response) {
        (Item::Value(record), Response::GetValue { value, .. }) => {
            let same = |value: &[u8]| cx.config.record.validator.same(&record.key, value, &record.value);
            Some(value.as_ref().is_some_and(|value| same(&value.value)))
        }
        (Item::Provider(record), Response::GetProviders { providers, .. }) => Some(record.provider.is_among(providers)),
        _ => None,
    }
}

/// Whether this node is one of the k closest itself, so that it counts among those that are to have it.
fn is_near(cx: &Context<'_>, place: &Key, ranked: &[Arc<Contact>]) -> bool {
    let last = ranked.get(cx.replication() - 1);
    last.is_none_or(|last| cx.peers.local.key().distance(place) < last.key().distance(place))
}

/// The record as it is sent; `None` if there is nothing to send: it is over, or this node has no address. An own value
/// that goes to all begins its lifetime anew; to some it goes with what is left of it, so that their copies are no newer
/// than those that all others have.
fn message(cx: &Context<'_>, item: &Item, to_all: bool) -> Option<Request> {
    match item {
        Item::Value(record) => {
            let mut value = Value::new(record.key.clone(), record.value.clone());
            value.publisher = record.publisher;
            value.received = Some(record.received);
            let ttl = cx.config.record.value_ttl;
            value.ttl = match (record.own, to_all) {
                (true, true) => remaining(cx.date, Some(record.ends(cx.date + ttl)))?,
                (true, false) => remaining(cx.date, record.claim(ttl))?,
                (false, _) => remaining(cx.date, record.expires)?,
            };
            Some(Request::PutValue { value })
        }
        Item::Provider(record) => {
            let local = Some(Arc::clone(&cx.peers.local)).filter(|local| local.has_addrs())?;
            Some(Request::AddProvider { key: record.key.clone(), providers: vec![local] })
        }
    }
}

/// What is left of a lifetime, in whole seconds as it travels, so that it never grows on the way; `None` if nothing is.
fn remaining(now: Timestamp, expires: Option<Timestamp>) -> Option<Option<Duration>> {
    match expires.map(|at| at.since(now).as_secs()) {
        Some(0) => None,
        left => Some(left.map(Duration::from_secs)),
    }
}
