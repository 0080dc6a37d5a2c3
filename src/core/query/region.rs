//! Bring records that lie close together to the peers closest to them, with as few walks as that takes.
//!
//! Knows: what goes to whom, who took it, which part of the keyspace is known. Must not know: why it is done, or when.
//!
//! The first walk goes to the key of the first record. What it leaves in the dark of the surroundings of another key is
//! looked into with a walk there, and so on: so many records share the walks of a few. *A walk for three times as many
//! peers would not do: peers name the k closest to what they are asked for, so nothing shows that those farther away are
//! all there are.*

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rand_chacha::ChaCha8Rng;

use super::coverage::Coverage;
use super::{Context, Heard, Step, find_node, walk_on};
use crate::core::contact::Contact;
use crate::core::errand::{Ended, Errand, Name, To};
use crate::core::error::{QueryError, Report};
use crate::core::key::Key;
use crate::core::lookup::{Lookup, Tardy};
use crate::core::message::{Request, RequestError, Value};
use crate::core::preimage;
use crate::core::requests::Tag;
use crate::core::stats::{Cause, QueryKind};
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
    /// How many of the closest are to have a record, this node not counted.
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
    rng: ChaCha8Rng,
}

#[derive(Debug)]
struct Walk {
    tag: Tag,
    target: Key,
    preimage: Bytes,
    lookup: Lookup,
    /// Whether it goes to the first record in the dark itself.
    direct: bool,
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
}

impl Region {
    /// `wanted` of the closest are to have each record. As many errands as a page has items at most.
    pub(crate) fn new(cause: Cause, wanted: usize, errands: Vec<Errand>, rng: ChaCha8Rng) -> Region {
        let parcels: Vec<_> = errands.into_iter().take(usize::from(WALKS)).map(Parcel::new).collect();
        let (ready, dark) = (0..parcels.len()).partition(|i| matches!(parcels[*i].to, To::Peers(_)));
        Region {
            cause,
            wanted,
            parcels,
            dark,
            ready,
            open: 0,
            coverage: Coverage::default(),
            walk: None,
            walks: 0,
            gaps: 0,
            rng,
        }
    }

    pub(crate) fn kind(&self) -> QueryKind {
        match self.cause {
            Cause::Published | Cause::Announced => QueryKind::Announce,
            Cause::Replicated => QueryKind::Replicate,
            Cause::Joined => QueryKind::Bring,
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
                match walk_on(&mut walk.lookup, walk.tag, || find_node(&walk.preimage)) {
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

    pub(crate) fn on_answer(&mut self, heard: Heard<'_>) -> usize {
        if let Some(walk) = self.walk.as_mut().filter(|walk| walk.tag == heard.tag) {
            return walk.lookup.on_answer(heard.from.key(), heard.closer);
        }
        self.settle(heard.from, heard.tag, State::Reached);
        0
    }

    pub(crate) fn on_failure(&mut self, from: &Arc<Contact>, tag: Tag, why: RequestError) {
        if let Some(walk) = self.walk.as_mut().filter(|walk| walk.tag == tag) {
            return walk.lookup.on_failure(from.key());
        }
        // What was sent and neither taken nor refused may well have arrived.
        let end = if why == RequestError::Unacknowledged { State::Reached } else { State::Failed };
        self.settle(from, tag, end);
    }

    pub(crate) fn on_tardy(&mut self, from: &Arc<Contact>, tag: Tag, how: Tardy) {
        if let Some(walk) = self.walk.as_mut().filter(|walk| walk.tag == tag) {
            walk.lookup.on_tardy(from.key(), how);
        }
    }

    /// What came of each errand; those that were stopped are left out.
    pub(crate) fn ended(self) -> impl Iterator<Item = Ended> {
        self.parcels.into_iter().filter(|parcel| !parcel.stopped).map(|parcel| {
            let reached = parcel.recipients.iter().filter(|(_, state)| *state == State::Reached);
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
        let gap = self.coverage.gap(&name.place, self.wanted).filter(|_| self.gaps < GAPS);
        let found = gap.and_then(|gap| preimage::within(&gap.key, gap.bits, &mut self.rng));
        let (direct, (target, preimage)) = match found {
            Some(found) => (false, found),
            None => (true, (name.place, self.parcels[*i].item.key().to_shared())),
        };
        let tag = Tag(WALKS.saturating_add(self.walks));
        self.walks = self.walks.saturating_add(1);
        self.gaps += 1;
        let lookup = cx.walk_from(target, cx.replication(), &self.coverage.peers().cloned().collect::<Vec<_>>());
        self.walk = Some(Walk { tag, target, preimage, lookup, direct });
        true
    }

    fn on_walk_done(&mut self, cx: &Context<'_>) {
        let Some(walk) = self.walk.take() else { return };
        let whole = cx.peers.table.len() < cx.replication();
        self.coverage.add(&walk.target, &walk.lookup.closest(), cx.replication(), whole);
        let first = self.dark.front().copied();
        let mut dark = std::mem::take(&mut self.dark);
        dark.retain(|i| {
            let place = self.parcels[*i].name.place;
            let known = (walk.direct && Some(*i) == first) || self.coverage.gap(&place, self.wanted).is_none();
            if known {
                let ranked = self.coverage.nearest(&place, self.wanted.saturating_mul(2));
                self.parcels[*i].rank(ranked, self.wanted);
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
    fn rank(&mut self, ranked: Vec<Arc<Contact>>, wanted: usize) {
        let closest: Vec<_> = ranked.iter().take(wanted).map(|peer| peer.key().head()).collect();
        let ranked = ranked.into_iter().map(|peer| (peer, State::Ranked));
        (self.recipients, self.wanted) = match &self.to {
            To::NewOfClosest(told) => {
                let new = ranked.take(wanted).filter(|(peer, _)| !told.contains(&peer.key().head()));
                let new: Vec<_> = new.collect();
                let count = new.len();
                (new, count)
            }
            _ => (ranked.collect(), wanted),
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
                (true, true) => Some(ttl),
                (true, false) => remaining(cx.now, record.claim(ttl))?,
                (false, _) => remaining(cx.now, record.expires)?,
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
