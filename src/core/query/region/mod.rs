//! Bring records that lie close together to the peers closest to them, with as few walks as that takes.
//!
//! Knows: what goes to whom, who took it, which part of the keyspace is known. Must not know: why it is done, or when.
//!
//! The first walk goes to the key of the first record, and ends when a few of the nearest have answered. What they name is
//! a ball (`query::coverage`); what it leaves in the dark of the surroundings of another key is looked into with a walk
//! there, and so on: so many records share the walks of a few. *A walk for three times as many peers would not do: peers
//! name the k closest to what they are asked for, so nothing shows that those farther away are all there are.*
//!
//! Who is named need not live: that shows when a record is brought to it. The first record that goes to a peer goes alone;
//! if that fails the peer is dead to all of them, and where that leaves a record without k peers it looks for more.
//!
//! A publisher looks before it announces a value again: it asks a few of the closest for it, and whoever refuses it. What is
//! newer by the validator is adopted, and nobody gets the old one.
//!
//! What was announced before this node was started again is had by an unknown part of the k closest. Its walks ask for
//! the record itself instead of for peers, each to the key of one record, until everyone around is known and was asked for
//! a record that it should have. Who lacks that came while this node was away, and is told the others too; where a quarter
//! of all lack theirs, so much has changed that the whole region is announced anew.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;

use super::coverage::Coverage;
use super::{Context, Heard, Step, find_node, have_no_room, walk_on};
use crate::core::announcement::{Announcement, AnnouncementOutcome, Recipients, RecordId};
use crate::core::contact::Contact;
use crate::core::error::{QueryError, Report};
use crate::core::ip_group::IpGroup;
use crate::core::key::{Distance, Key};
use crate::core::lookup::Lookup;
use crate::core::message::{Request, RequestError, Response, Value};
use crate::core::preimage;
use crate::core::record::Record;
use crate::core::requests::Tag;
use crate::core::stats::Cause;
use crate::core::storage::received;
use crate::core::store::{Item, Judge};
use crate::core::time::Timestamp;

/// So many deliveries are under way at a time. Source: three lookups that each ask the 20 closest.
const AT_ONCE: usize = 60;
/// So many of the nearest answer a walk, of different IP groups where these count. Source: `tests::figures`. With two, 2 % of
/// the closest are missed among liars, and with three none where 30 % of all entries are dead; with four it is no better.
const ANSWERS: usize = 3;
/// An answer does not count where so many times as many peers are expected as it names: whoever gave it is far off, or leaves
/// some out. Source: the estimate and the ball have a deviation of 22 % each; who names one peer in five is found out.
const SPARSE: f64 = 1.7;
/// Nor where it names so many times as many peers as are expected: it may have made them up. Source: a third of all entries
/// dead, and twice the deviation of both.
const CROWDED: f64 = 4.0;
/// For one record there are so many walks at most; then it goes to the closest that are known. Source: where 30 % of all
/// entries are dead four are enough; liars that name ids near the target make each walk cover less.
const WALKS_EACH: u32 = 6;
/// So many of the closest are asked for a value before it is announced again. Source: one of them that holds a newer one is
/// enough, and those that hold one refuse the old one and are asked too.
const LOOK: usize = 3;
/// Walks have this tag and higher ones, the delivery of the nth record the tag n.
const WALKS: u16 = 1_024;

#[derive(Debug)]
pub(crate) struct Region {
    pub(crate) cause: Cause,
    /// How many of the closest are to have a record.
    wanted: usize,
    parcels: Vec<RegionRecord>,
    /// Those whose closest peers are not known yet, or not any more.
    dark: VecDeque<usize>,
    /// Whether that may have changed.
    changed: bool,
    /// Those that may have someone to address.
    ready: VecDeque<usize>,
    /// Those that have only peers to address of whom it is about to show whether they live.
    blocked: Vec<usize>,
    /// Deliveries under way.
    open: usize,
    coverage: Coverage,
    /// Who answered.
    lives: BTreeSet<Key>,
    /// Who is about to, if it lives.
    tried: BTreeSet<Key>,
    walk: Option<Walk>,
    walks: u16,
    /// How many nodes there would be if all of the keyspace were like here, once a walk asked k peers.
    nodes: Option<f64>,
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
    /// How many of the nearest are to answer.
    answers: usize,
    /// Whose answers count.
    dense: BTreeSet<Key>,
    /// The record to whose own key it goes.
    record: Option<usize>,
    /// Who was asked for this very record, and whether it has it.
    heard: BTreeMap<u64, bool>,
}

#[derive(Debug)]
struct RegionRecord {
    item: Item,
    name: RecordId,
    to: Recipients,
    /// Whom to address, the best first.
    recipients: Vec<(Arc<Contact>, State)>,
    /// Whom to ask first whether they hold a newer value.
    look: Vec<(Arc<Contact>, State)>,
    /// The value that supersedes it.
    newer: Option<Record>,
    closest: Option<Vec<u64>>,
    /// How many walks were made for it.
    walks: u32,
    /// Whether one of them went to its own key.
    direct: bool,
    /// Nobody else is to get it.
    stopped: bool,
}

/// What a parcel wants next.
enum Next {
    Send(Arc<Contact>, Request),
    /// Whether the next peers live is about to show.
    Blocked,
    /// Some of its peers turned out to be dead.
    Short,
    Nothing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Ranked,
    Waiting,
    Reached,
    /// It does not want it, and nobody has it in its place so far.
    Refused,
    /// It is dead, or refused it.
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
    /// `wanted` of the closest are to have each record. As many announcements as a page has items at most.
    pub(crate) fn new(cause: Cause, wanted: usize, announcements: Vec<Announcement>, rng: ChaCha8Rng) -> Region {
        let parcels: Vec<_> = announcements.into_iter().take(usize::from(WALKS)).map(RegionRecord::new).collect();
        let (ready, mut dark): (_, Vec<_>) =
            (0..parcels.len()).partition(|i| matches!(parcels[*i].to, Recipients::Peers(_)));
        // While nobody is known but those whom their walks asked.
        dark.sort_by_key(|i| !matches!(parcels[*i].to, Recipients::ThoseWithout));
        Region {
            cause,
            wanted,
            parcels,
            dark: dark.into(),
            changed: true,
            ready: ready.into(),
            blocked: Vec::new(),
            open: 0,
            coverage: Coverage::default(),
            lives: BTreeSet::new(),
            tried: BTreeSet::new(),
            walk: None,
            walks: 0,
            nodes: None,
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
    pub(crate) fn stop(&mut self, name: &RecordId) {
        self.parcels.iter_mut().filter(|parcel| parcel.name == *name).for_each(|parcel| parcel.stopped = true);
        self.changed = true;
    }

    pub(crate) fn next(&mut self, cx: &Context<'_>, report: &mut Report) -> Step {
        loop {
            if std::mem::take(&mut self.changed) {
                self.rank(cx);
            }
            if let Some(step) = self.deliver(cx) {
                return step;
            }
            if self.changed {
                continue;
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
            let nodes = self.nodes.unwrap_or_else(|| cx.peers.table.estimated_nodes());
            if is_dense(walk.lookup.target(), heard.closer, nodes, cx.replication()) {
                walk.dense.insert(*heard.from.key());
            }
            if let Some(has) = walk.record.and_then(|i| has(cx, &self.parcels[i].item, &heard.response)) {
                walk.heard.insert(heard.from.key().head(), has);
            }
            let record = walk.record.and_then(|i| self.parcels.get_mut(i));
            record.into_iter().for_each(|parcel| parcel.compare(cx, &heard.response));
        }
        if let Some(parcel) = self.parcels.get_mut(usize::from(heard.tag.0)) {
            parcel.compare(cx, &heard.response);
        }
        self.lives.insert(*heard.from.key());
        self.settle(heard.from, heard.tag, State::Reached);
    }

    /// The lookup that this request is part of, unless that is over.
    pub(crate) fn lookup(&mut self, tag: Tag) -> Option<&mut Lookup> {
        self.walk.as_mut().filter(|walk| walk.tag == tag).map(|walk| &mut walk.lookup)
    }

    /// A peer failed. One that refuses a record, or cannot be told from one that took it, lives.
    pub(crate) fn on_failure(&mut self, from: &Arc<Contact>, tag: Tag, why: RequestError) {
        // What was sent and neither taken nor refused may well have arrived.
        let end = match (why, self.parcels.get(usize::from(tag.0)).map(|parcel| &parcel.item)) {
            (RequestError::Unacknowledged, _) => State::Reached,
            (RequestError::Refused, Some(Item::Value(_))) => State::Refused,
            _ => State::Failed,
        };
        if !matches!(why, RequestError::Refused | RequestError::TooLarge | RequestError::Unacknowledged) {
            self.coverage.bury(from.key());
        }
        if let Some(parcel) = self.parcels.get_mut(usize::from(tag.0)).filter(|_| why == RequestError::Refused) {
            parcel.look_at(from);
        }
        self.settle(from, tag, end);
    }

    /// What came of each announcement; those that were stopped are left out.
    pub(crate) fn ended(self) -> impl Iterator<Item = AnnouncementOutcome> {
        self.parcels.into_iter().filter(|parcel| !parcel.stopped).map(|parcel| {
            let reached = parcel.recipients.iter().filter(|(_, state)| matches!(state, State::Reached | State::Has));
            AnnouncementOutcome {
                reached: reached.map(|(peer, _)| peer.key().head()).collect(),
                to_all: matches!(parcel.to, Recipients::Closest),
                closest: parcel.closest,
                newer: parcel.newer,
                item: parcel.item,
            }
        })
    }

    /// The next delivery, if there is room for one and someone to address.
    fn deliver(&mut self, cx: &Context<'_>) -> Option<Step> {
        while self.open < AT_ONCE {
            let i = *self.ready.front()?;
            match self.next_of(i, cx) {
                Next::Send(to, request) => {
                    self.open += 1;
                    if !self.lives.contains(to.key()) {
                        self.tried.insert(*to.key());
                    }
                    return Some(Step::Ask(to, request, Tag(i as u16)));
                }
                Next::Blocked => self.blocked.push(i),
                Next::Short => self.look_again(i),
                Next::Nothing => {}
            }
            self.ready.pop_front();
        }
        None
    }

    /// Whom to address next with this record.
    fn next_of(&mut self, i: usize, cx: &Context<'_>) -> Next {
        let Region { parcels, coverage, lives, tried, .. } = self;
        let parcel = &mut parcels[i];
        if parcel.stopped || parcel.newer.is_some() {
            return Next::Nothing;
        }
        let free = |(peer, _): &&mut (Arc<Contact>, State)| lives.contains(peer.key()) || !tried.contains(peer.key());
        parcel.look.retain(|(peer, state)| *state != State::Ranked || !coverage.is_dead(peer.key()));
        if let Some((to, state)) = parcel.look.iter_mut().filter(|(_, state)| *state == State::Ranked).find(free) {
            *state = State::Waiting;
            return Next::Send(Arc::clone(to), ask_for(&parcel.item));
        }
        match parcel.look.iter().find(|(_, state)| matches!(state, State::Ranked | State::Waiting)) {
            Some((_, State::Ranked)) => return Next::Blocked,
            Some(_) => return Next::Nothing,
            None => {}
        }
        let before = parcel.recipients.len();
        parcel.recipients.retain(|(peer, state)| *state != State::Ranked || !coverage.is_dead(peer.key()));
        let short = parcel.recipients.len() < before;
        let mut ranked = parcel.recipients.iter_mut().filter(|(_, state)| *state == State::Ranked).peekable();
        let any = ranked.peek().is_some();
        match ranked.find(free) {
            _ if short => Next::Short,
            None if any => Next::Blocked,
            None => Next::Nothing,
            Some((to, state)) => match message(cx, &parcel.item, matches!(parcel.to, Recipients::Closest)) {
                Some(request) => {
                    *state = State::Waiting;
                    Next::Send(Arc::clone(to), request)
                }
                None => Next::Nothing,
            },
        }
    }

    /// Some of those that were to have this record cannot: others may be as close.
    fn look_again(&mut self, i: usize) {
        match self.parcels[i].to {
            Recipients::Peers(_) => self.ready.push_back(i),
            _ if self.dark.contains(&i) => {}
            _ => self.dark.push_back(i),
        }
        self.changed = true;
    }

    /// Starts a walk for the first record in the dark: to its key, or into the gap beside it.
    fn start_walk(&mut self, cx: &Context<'_>) -> bool {
        let Some(i) = self.dark.front().copied() else { return false };
        let parcel = &self.parcels[i];
        let (place, forgotten) = (parcel.name.place, matches!(parcel.to, Recipients::ThoseWithout));
        let gap = self.coverage.gap(&place, self.wanted + parcel.refusals(&self.coverage)).filter(|_| !forgotten);
        let found = gap.and_then(|gap| preimage::with_prefix(&gap.key, gap.bits, &mut self.rng));
        let parcel = &mut self.parcels[i];
        if found.is_none() && parcel.direct {
            // There is no other key to ask for.
            parcel.walks = WALKS_EACH;
            self.changed = true;
            return true;
        }
        let (target, request) = match &found {
            Some((target, preimage)) => (*target, find_node(preimage)),
            None if forgotten => (place, ask_for(&parcel.item)),
            None => (place, find_node(&parcel.item.key().to_shared())),
        };
        parcel.walks += 1;
        parcel.direct |= found.is_none();
        let record = found.is_none().then_some(i);
        let answers = if forgotten || cx.is_small() { cx.replication() } else { ANSWERS.min(cx.replication()) };
        let tag = Tag(WALKS.saturating_add(self.walks));
        self.walks = self.walks.saturating_add(1);
        let lookup = cx.walk_from(target, answers, &self.coverage.nearest(&target, cx.replication()));
        self.walk =
            Some(Walk { tag, request, lookup, answers, record, dense: BTreeSet::new(), heard: BTreeMap::new() });
        true
    }

    fn on_walk_done(&mut self, cx: &Context<'_>) {
        let Some(mut walk) = self.walk.take() else { return };
        let (k, closest) = (cx.replication(), walk.lookup.closest());
        let counted = closest.iter().filter(|peer| walk.dense.contains(peer.key()));
        if walk.answers < k && independent(cx, counted) < ANSWERS.min(k) {
            walk.answers += 1;
            walk.lookup.ask_one_more();
            self.walk = Some(walk);
            return;
        }
        let reach = cx.reach(&walk.lookup);
        if walk.answers >= k {
            self.nodes = Some(k as f64 / reach.as_fraction());
        }
        self.coverage.add(walk.lookup.target(), reach, &walk.lookup.nearest(k.saturating_mul(2)));
        // Those farther off need not have it.
        self.sample.add(closest.iter().map(|peer| peer.key().head()), &walk.heard);
        self.changed = true;
    }

    /// Finds out whose closest peers are known by now.
    fn rank(&mut self, cx: &Context<'_>) {
        for i in std::mem::take(&mut self.dark) {
            let parcel = &mut self.parcels[i];
            let (place, count) = (parcel.name.place, self.wanted + parcel.refusals(&self.coverage));
            let walked = parcel.direct && matches!(parcel.to, Recipients::ThoseWithout);
            let given_up = walked || parcel.walks >= WALKS_EACH;
            if !parcel.stopped && !given_up && self.coverage.gap(&place, count).is_some() {
                self.dark.push_back(i);
                continue;
            }
            let nearest = self.coverage.nearest(&place, count.max(cx.replication()));
            let count = count - usize::from(self.cause == Cause::Replicated && is_near(cx, &place, &nearest));
            parcel.rank(nearest.into_iter().take(count), &self.sample);
            self.ready.push_back(i);
        }
    }

    fn settle(&mut self, from: &Arc<Contact>, tag: Tag, end: State) {
        let i = usize::from(tag.0);
        let Some(parcel) = self.parcels.get_mut(i) else { return };
        let looks = parcel.look.iter_mut().map(|peer| (peer, true));
        let all = looks.chain(parcel.recipients.iter_mut().map(|peer| (peer, false)));
        let waits = |(peer, state): &(Arc<Contact>, State)| peer.peer() == from.peer() && *state == State::Waiting;
        let Some(((_, state), looks)) = { all }.find(|(peer, _)| waits(peer)) else { return };
        *state = end;
        self.open -= 1;
        if self.tried.remove(from.key()) {
            self.ready.extend(self.blocked.drain(..));
        }
        let again = !looks && (parcel.replace_refusals() || end == State::Failed);
        if looks || end == State::Refused {
            self.ready.push_back(i);
        }
        if again {
            self.look_again(i);
        }
    }
}

/// Whether these are about as many of those closest to the target as there should be.
fn is_dense(target: &Key, named: &[Arc<Contact>], nodes: f64, k: usize) -> bool {
    let mut distances: Vec<_> = named.iter().map(|peer| peer.key().distance(target)).collect();
    distances.sort_unstable();
    distances.truncate(k);
    let reach = distances.last().map_or(1.0, Distance::as_fraction);
    let expected = nodes * reach / distances.len().max(1) as f64;
    (1.0 / CROWDED..=SPARSE).contains(&expected)
}

/// How many of these peers are of different IP groups; all, where groups do not count.
fn independent<'a>(cx: &Context<'_>, peers: impl Iterator<Item = &'a Arc<Contact>>) -> usize {
    let Some(diversity) = &cx.config.routing.diversity else { return peers.count() };
    let mut seen = BTreeSet::new();
    let fresh = peers.filter(|peer| {
        let groups = IpGroup::of(peer, diversity.asns.as_deref());
        let fresh = !groups.iter().any(|group| seen.contains(group));
        seen.extend(groups);
        fresh
    });
    fresh.count()
}

impl RegionRecord {
    fn new(announcement: Announcement) -> RegionRecord {
        let recipients: Vec<_> = match &announcement.to {
            Recipients::Peers(peers) => peers.iter().map(|peer| (Arc::clone(peer), State::Ranked)).collect(),
            _ => Vec::new(),
        };
        let name = RecordId::of(&announcement.item);
        let (item, to) = (announcement.item, announcement.to);
        let (look, newer) = (Vec::new(), None);
        RegionRecord { item, name, to, recipients, look, newer, closest: None, walks: 0, direct: false, stopped: false }
    }

    /// How many live and would not have it: others take their places.
    fn refusals(&self, coverage: &Coverage) -> usize {
        let refused = |(peer, state): &&(Arc<Contact>, State)| *state == State::Failed && !coverage.is_dead(peer.key());
        self.recipients.iter().filter(refused).count()
    }

    /// As `Delivery::replace_refusals`.
    fn replace_refusals(&mut self) -> bool {
        let count = |of: &[State]| self.recipients.iter().filter(|(_, state)| of.contains(state)).count();
        let spoken = count(&[State::Ranked, State::Waiting]) == 0;
        let replaced = spoken && have_no_room(count(&[State::Reached, State::Has]), count(&[State::Refused]));
        let refused = self.recipients.iter_mut().filter(|(_, state)| replaced && *state == State::Refused);
        refused.for_each(|(_, state)| *state = State::Failed);
        replaced
    }

    /// These are the closest, and are to have it.
    fn rank(&mut self, closest: impl Iterator<Item = Arc<Contact>>, sample: &Sample) {
        if matches!(self.to, Recipients::ThoseWithout) && !sample.holds() {
            self.to = Recipients::Closest;
        }
        self.recipients.retain(|(_, state)| *state != State::Ranked);
        let mut heads = Vec::new();
        let closest: Vec<_> = closest.collect();
        if self.look.is_empty() && self.is_announced() {
            closest.iter().take(LOOK).for_each(|peer| self.look_at(peer));
        }
        for peer in closest {
            let (head, known) =
                (peer.key().head(), self.recipients.iter().any(|(known, _)| known.peer() == peer.peer()));
            heads.push(head);
            let state = match &self.to {
                Recipients::NewOfClosest(told) if told.contains(&head) => continue,
                Recipients::ThoseWithout if sample.has(&peer) => State::Has,
                _ => State::Ranked,
            };
            if !known {
                self.recipients.push((peer, state));
            }
        }
        self.closest = Some(heads);
        if !self.recipients.iter().any(|(_, state)| *state == State::Ranked) {
            self.look.retain(|(_, state)| *state != State::Ranked);
        }
    }

    /// Whether it is a value of this node's own that others may hold, or a newer one.
    fn is_announced(&self) -> bool {
        matches!(&self.item, Item::Value(record) if record.own && record.announced.is_some())
    }

    /// Has a peer asked for the value that it holds, unless it was.
    fn look_at(&mut self, peer: &Arc<Contact>) {
        let known = self.look.iter().any(|(known, _)| known.peer() == peer.peer());
        if matches!(&self.item, Item::Value(record) if record.own) && !known && self.look.len() < 2 * LOOK {
            self.look.push((Arc::clone(peer), State::Ranked));
        }
    }

    /// Notes the value that a peer holds, if it supersedes this one of the node's own.
    fn compare(&mut self, cx: &Context<'_>, response: &Response) {
        let (Item::Value(own), Response::GetValue { value: Some(value), .. }) = (&self.item, response) else { return };
        let config = &cx.config.record;
        let Ok(valid) = config.validator.validate(cx.date, &own.key, &value.value) else { return };
        let mut record = received(cx.date, config, value.clone());
        valid.note_on(&mut record);
        let judge = Judge::new(Arc::clone(&config.validator), config.value_ttl).of_what_others_hold();
        let best = self.newer.as_ref().unwrap_or(own);
        let better = judge.decide(cx.date, Some(best), None, record).ok();
        let better = better.map(|judged| judged.record).filter(|record| !record.own && own.own);
        self.newer = better.or(self.newer.take());
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
            value.age = record.age(cx.date);
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

#[cfg(test)]
mod tests;
