//! Stores records whose keys lie close together at the peers closest to each, with as few lookups as that takes.
//!
//! Knows: which record goes to which peers, which peers stored it, and which region of the keyspace is known. Must not
//! know: the reason for it, or when it is due.
//!
//! The first lookup goes to the key of the first record, and ends when a few of the nearest peers have answered. The
//! peers that they name make a ball (`query::coverage`). Where that leaves a gap around another key, the next lookup
//! goes there, and so on: so many records share a few lookups. *One lookup for three times as many peers would not do:
//! peers name the k closest to the key that they are asked for, so nothing proves that the ones farther away are
//! complete.*
//!
//! A peer that was named need not be alive: that shows when it is sent a record. The first record that goes to a peer
//! goes alone. If that fails, the peer is dead for all records, and a record that is left with fewer than k peers looks
//! for more.
//!
//! A publisher checks before it announces a value again: it asks a few of the closest peers for the value, and any peer
//! that refuses it. If one holds a value that the validator prefers, this node adopts that, and stops announcing the
//! old one.
//!
//! Records that this node announced before a restart are still stored at an unknown part of the k closest. The lookups
//! for them ask for the record itself instead of for peers, each at the key of one record, until all peers around are
//! known and were asked for a record that they should have. A peer that lacks it came while this node was away, and
//! receives the other records too; if a quarter of all peers lack theirs, so much has changed that all records of the
//! region are announced again.
//!
//! An answer counts only if the peers that it names are about as dense as the routing table expects: a peer that leaves
//! others out names some that are too far away, and one that invents peers names too many. After two failures of peers
//! that only one answer named, the rest of what it named alone is skipped.
//!
//! *Measured* (2,000 nodes, 1,500 records, docs/results.md): 20.000 of the true 20 with 0, 15 and 30 % dead entries,
//! for 0.4 to 0.7 n FIND_NODE. *Dropped:* one answer per lookup, which takes 0.136 n but reaches 19.3 with 15 % dead
//! entries, and lets one liar hide a region. Targets in gaps come from `preimage`, up to 16 bits; in networks of more
//! than about 400,000 nodes, where that is not enough, each key has a lookup of its own.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;

use super::coverage::Coverage;
use super::{Context, PeerAnswer, Step, find_node, lookup_step, stores_are_full};
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
use crate::core::store::{Item, Judge};
use crate::core::store_ops::received;
use crate::core::time::Timestamp;

/// Maximum number of deliveries in flight. Source: three lookups that each ask the 20 closest.
const AT_ONCE: usize = 60;
/// Number of the nearest peers that must answer a lookup, of different IP groups where these count. Source:
/// `tests::figures`. With two, 2 % of the closest are missed among liars, and with three none where 30 % of all entries
/// are dead; with four it is no better.
const ANSWERS: usize = 3;
/// An answer does not count if it names fewer than the expected peers divided by this: the peer that gave it is far
/// off, or leaves some out. Source: the estimate and the ball have a deviation of 22 % each; a peer that names one in
/// five is found out.
const SPARSE: f64 = 1.7;
/// Nor does an answer that names more than the expected peers times this: it may have made them up. Source: a third of
/// all entries dead, and twice the deviation of both.
const CROWDED: f64 = 4.0;
/// Maximum number of lookups for one record; then it goes to the closest peers known. Source: where 30 % of all entries
/// are dead four are enough; liars that name ids near the target make each lookup cover less.
const LOOKUPS_EACH: u32 = 6;
/// Number of the closest peers that are asked for a value before it is announced again. Source: it is enough if one of
/// them holds a newer one, and peers that hold a newer one refuse the old one and are asked too.
const CHECKS: usize = 3;
/// The tag of the first lookup; further lookups have higher ones. The delivery of the nth record has the tag n.
const FIRST_LOOKUP: u16 = 1_024;

#[derive(Clone, Debug)]
pub(crate) struct Region {
    pub(crate) cause: Cause,
    /// Number of the closest peers that should have each record.
    wanted: usize,
    records: Vec<RegionRecord>,
    /// The records whose closest peers are not known yet, or no longer.
    unresolved: VecDeque<usize>,
    /// Whether some of them may be resolved by now.
    changed: bool,
    /// The records that may have a peer to address.
    ready: VecDeque<usize>,
    /// The records whose next peers are all in `probing`.
    blocked: Vec<usize>,
    /// Number of deliveries in flight.
    in_flight: usize,
    coverage: Coverage,
    /// The peers that answered.
    alive: BTreeSet<Key>,
    /// The peers that were sent their first record, and have not answered it.
    probing: BTreeSet<Key>,
    lookup: Option<RegionLookup>,
    lookups: u16,
    /// Number of nodes in the network if it is everywhere as dense as here; known once a lookup asked k peers.
    nodes: Option<f64>,
    sample: HolderSample,
    rng: ChaCha8Rng,
}

#[derive(Clone, Debug)]
struct RegionLookup {
    tag: Tag,
    /// The request that it sends to each peer.
    request: Request,
    lookup: Lookup,
    /// Number of the nearest peers that must answer.
    answers: usize,
    /// The peers whose answers count.
    dense: BTreeSet<Key>,
    /// The record whose own key is the target.
    record: Option<usize>,
    /// The peers that were asked for this record, and whether each has it.
    holders: BTreeMap<u64, bool>,
}

#[derive(Clone, Debug)]
struct RegionRecord {
    item: Item,
    id: RecordId,
    to: Recipients,
    /// The peers to address, the best first.
    recipients: Vec<(Arc<Contact>, SendState)>,
    /// The peers to ask first whether they hold a newer value.
    checks: Vec<(Arc<Contact>, SendState)>,
    /// A value that supersedes this one.
    newer: Option<Record>,
    closest: Option<Vec<u64>>,
    /// Number of lookups made for it.
    lookups: u32,
    /// Whether one of them went to its own key.
    direct: bool,
    /// Whether the record is to reach no more peers.
    stopped: bool,
}

/// The next step of a record.
enum RecordStep {
    Send(Arc<Contact>, Request),
    /// An outstanding answer of each of the next peers will show whether it is alive.
    Blocked,
    /// Some of its peers turned out to be dead.
    Short,
    Nothing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SendState {
    Ranked,
    Waiting,
    Reached,
    /// It refused the record, and no other peer has its place so far.
    Refused,
    /// It is dead, or refused the record.
    Failed,
    /// It is assumed to have the record already.
    Has,
}

/// Whether the peers that should have a record from before a restart have it, by the first 64 bits of their keys.
#[derive(Clone, Debug, Default)]
struct HolderSample(BTreeMap<u64, bool>);

/// The share of the peers that must have their record, or all records are announced again. Source: where half of the
/// nodes are gone after 1 h, a quarter is after 25 minutes; of k = 20 holders 15 are left.
const HOLDS: f64 = 0.75;

impl Region {
    /// Stores each record at the `wanted` closest peers. Takes at most as many announcements as a page has items.
    pub(crate) fn new(cause: Cause, wanted: usize, announcements: Vec<Announcement>, rng: ChaCha8Rng) -> Region {
        let records: Vec<_> =
            announcements.into_iter().take(usize::from(FIRST_LOOKUP)).map(RegionRecord::new).collect();
        let (ready, mut unresolved): (_, Vec<_>) =
            (0..records.len()).partition(|i| matches!(records[*i].to, Recipients::Peers(_)));
        // First those that are sampled: as long as no peers are known but those that their lookups asked.
        unresolved.sort_by_key(|i| !matches!(records[*i].to, Recipients::ThoseWithout));
        Region {
            cause,
            wanted,
            records,
            unresolved: unresolved.into(),
            changed: true,
            ready: ready.into(),
            blocked: Vec::new(),
            in_flight: 0,
            coverage: Coverage::default(),
            alive: BTreeSet::new(),
            probing: BTreeSet::new(),
            lookup: None,
            lookups: 0,
            nodes: None,
            sample: HolderSample::default(),
            rng,
        }
    }

    /// The key of the first record.
    pub(crate) fn target(&self) -> Option<Key> {
        self.records.first().map(|record| record.id.place)
    }

    pub(crate) fn unasked(&self) -> usize {
        self.lookup.as_ref().map_or(0, |current| current.lookup.unasked())
    }

    /// Sends this record to no more peers.
    pub(crate) fn stop(&mut self, id: &RecordId) {
        for record in self.records.iter_mut().filter(|record| record.id == *id) {
            record.stopped = true;
        }
        self.changed = true;
    }

    pub(crate) fn next(&mut self, cx: &Context<'_>, report: &mut Report) -> Step {
        loop {
            if std::mem::take(&mut self.changed) {
                self.resolve(cx);
            }
            if let Some(step) = self.deliver(cx) {
                return step;
            }
            if self.changed {
                continue;
            }
            if let Some(current) = &mut self.lookup {
                match lookup_step(&mut current.lookup, current.tag, || current.request.clone()) {
                    Some(step) => return step,
                    None => self.on_lookup_done(cx),
                }
            } else if !self.start_lookup(cx) {
                break;
            }
        }
        if self.in_flight > 0 {
            return Step::Wait;
        }
        // The application did not ask for this query, and sees no result; the node takes it from `outcomes`.
        Step::Finish(Err(QueryError::NotFound(Box::new(std::mem::take(report)))))
    }

    pub(crate) fn on_answer(&mut self, cx: &Context<'_>, answer: &PeerAnswer<'_>) {
        let mut of = usize::from(answer.tag.0);
        if let Some(current) = &mut self.lookup
            && current.tag == answer.tag
        {
            let nodes = self.nodes.unwrap_or_else(|| cx.peers.table.estimated_nodes());
            if is_dense(current.lookup.target(), answer.closer, nodes, cx.replication()) {
                current.dense.insert(*answer.from.key());
            }
            if let Some(record) = current.record {
                of = record;
                if let Some(has) = has(cx, &self.records[record].item, &answer.response) {
                    current.holders.insert(answer.from.key().head(), has);
                }
            }
        }
        if let Some(record) = self.records.get_mut(of) {
            record.compare(cx, &answer.response);
        }
        self.alive.insert(*answer.from.key());
        self.settle(answer.from, answer.tag, SendState::Reached);
    }

    /// The lookup that a request belongs to, unless it has ended.
    pub(crate) fn lookup(&mut self, tag: Tag) -> Option<&mut Lookup> {
        self.lookup.as_mut().filter(|current| current.tag == tag).map(|current| &mut current.lookup)
    }

    /// A peer failed. A peer that refused a record, or cannot be told from one that stored it, is alive.
    pub(crate) fn on_failure(&mut self, from: &Arc<Contact>, tag: Tag, why: RequestError) {
        let record = self.records.get_mut(usize::from(tag.0));
        let end = match (why, &record) {
            // A message that was sent and neither taken nor refused may well have arrived.
            (RequestError::Unacknowledged, _) => SendState::Reached,
            (RequestError::Refused, Some(RegionRecord { item: Item::Value(_), .. })) => SendState::Refused,
            _ => SendState::Failed,
        };
        if let Some(record) = record
            && why == RequestError::Refused
        {
            record.check_at(from);
        }
        if !matches!(why, RequestError::Refused | RequestError::TooLarge | RequestError::Unacknowledged) {
            self.coverage.mark_dead(from.key());
        }
        self.settle(from, tag, end);
    }

    /// The outcome of each announcement, except those that were stopped.
    pub(crate) fn outcomes(self) -> impl Iterator<Item = AnnouncementOutcome> {
        self.records.into_iter().filter(|record| !record.stopped).map(|record| {
            let recipients = |state| record.recipients.iter().filter(move |(_, of)| *of == state).map(|(peer, _)| peer);
            let reached = recipients(SendState::Reached).chain(recipients(SendState::Has));
            AnnouncementOutcome {
                reached: reached.map(|peer| peer.key().head()).collect(),
                took: recipients(SendState::Reached).map(|peer| *peer.peer()).collect(),
                to_all: matches!(record.to, Recipients::Closest),
                closest: record.closest,
                newer: record.newer,
                item: record.item,
            }
        })
    }

    /// The next delivery, if one more may be in flight and there is a peer to address.
    fn deliver(&mut self, cx: &Context<'_>) -> Option<Step> {
        while self.in_flight < AT_ONCE {
            let i = *self.ready.front()?;
            match self.next_of(i, cx) {
                RecordStep::Send(to, request) => {
                    self.in_flight += 1;
                    if !self.alive.contains(to.key()) {
                        self.probing.insert(*to.key());
                    }
                    return Some(Step::Ask(to, request, Tag(i as u16)));
                }
                RecordStep::Blocked => self.blocked.push(i),
                RecordStep::Short => self.search_again(i),
                RecordStep::Nothing => {}
            }
            self.ready.pop_front();
        }
        None
    }

    /// The next step of a record: first a check for newer values, then a delivery.
    fn next_of(&mut self, i: usize, cx: &Context<'_>) -> RecordStep {
        let Region { records, coverage, alive, probing, .. } = self;
        let record = &mut records[i];
        if record.stopped || record.newer.is_some() {
            return RecordStep::Nothing;
        }
        let free =
            |(peer, _): &&mut (Arc<Contact>, SendState)| alive.contains(peer.key()) || !probing.contains(peer.key());
        drop_dead(&mut record.checks, coverage);
        let ranked = |(_, state): &&mut (Arc<Contact>, SendState)| *state == SendState::Ranked;
        if let Some((to, state)) = record.checks.iter_mut().filter(ranked).find(free) {
            *state = SendState::Waiting;
            return RecordStep::Send(Arc::clone(to), ask_for(&record.item));
        }
        match record.checks.iter().find(|(_, state)| matches!(state, SendState::Ranked | SendState::Waiting)) {
            Some((_, SendState::Ranked)) => return RecordStep::Blocked,
            Some(_) => return RecordStep::Nothing,
            None => {}
        }
        if drop_dead(&mut record.recipients, coverage) {
            return RecordStep::Short;
        }
        let mut ranked = record.recipients.iter_mut().filter(ranked).peekable();
        if ranked.peek().is_none() {
            return RecordStep::Nothing;
        }
        let Some((to, state)) = ranked.find(free) else { return RecordStep::Blocked };
        let Some(request) = message(cx, &record.item, matches!(record.to, Recipients::Closest)) else {
            return RecordStep::Nothing;
        };
        *state = SendState::Waiting;
        RecordStep::Send(Arc::clone(to), request)
    }

    /// Some peers that were to have this record cannot: others may be as close.
    fn search_again(&mut self, i: usize) {
        match self.records[i].to {
            Recipients::Peers(_) => self.ready.push_back(i),
            _ if self.unresolved.contains(&i) => {}
            _ => self.unresolved.push_back(i),
        }
        self.changed = true;
    }

    /// Starts a lookup for the first unresolved record: into the gap beside its key, or to the key itself.
    fn start_lookup(&mut self, cx: &Context<'_>) -> bool {
        let Some(i) = self.unresolved.front().copied() else { return false };
        let record = &mut self.records[i];
        let (place, sampled) = (record.id.place, matches!(record.to, Recipients::ThoseWithout));
        // A sample asks for the record itself, at its own key. All others go where the k closest may hide.
        let gap = if sampled { None } else { self.coverage.gap(&place, self.wanted + record.refusals(&self.coverage)) };
        let found = gap.and_then(|gap| preimage::with_prefix(&gap.key, gap.bits, &mut self.rng));
        if found.is_none() && record.direct {
            // A second lookup for the same key would find the same peers: the record goes to those that are known.
            record.lookups = LOOKUPS_EACH;
            self.changed = true;
            return true;
        }
        let (target, request) = match &found {
            Some((target, preimage)) => (*target, find_node(preimage)),
            None if sampled => (place, ask_for(&record.item)),
            None => (place, find_node(&record.item.key().to_shared())),
        };
        record.lookups += 1;
        record.direct |= found.is_none();
        // A sample must hear from all k; where fewer than k nodes exist, every one of them is needed.
        let answers = if sampled || cx.is_small() { cx.replication() } else { ANSWERS.min(cx.replication()) };
        let tag = Tag(FIRST_LOOKUP.saturating_add(self.lookups));
        self.lookups = self.lookups.saturating_add(1);
        let lookup = cx.short_lookup(target, answers, &self.coverage.nearest(&target, cx.replication()));
        let record = if found.is_none() { Some(i) } else { None };
        let (dense, holders) = (BTreeSet::new(), BTreeMap::new());
        self.lookup = Some(RegionLookup { tag, request, lookup, answers, record, dense, holders });
        true
    }

    fn on_lookup_done(&mut self, cx: &Context<'_>) {
        let Some(mut current) = self.lookup.take() else { return };
        let (k, closest) = (cx.replication(), current.lookup.closest());
        // Too few of the answers count, or one network gave them: a liar among so few could hide the closest peers.
        let counted = closest.iter().filter(|peer| current.dense.contains(peer.key()));
        if current.answers < k && independent(cx, counted) < ANSWERS.min(k) {
            current.answers += 1;
            current.lookup.ask_one_more();
            self.lookup = Some(current);
            return;
        }
        let reach = cx.reach(&current.lookup);
        if current.answers >= k {
            // More answers than that measure the density of the region better than the table's estimate does.
            self.nodes = Some(k as f64 / reach.as_fraction());
        }
        self.coverage.add(current.lookup.target(), reach, &current.lookup.nearest(k.saturating_mul(2)));
        // Only the closest were to have the record: whether peers farther away have it says nothing.
        self.sample.add(closest.iter().map(|peer| peer.key().head()), &current.holders);
        self.changed = true;
    }

    /// Finds out which records have known closest peers by now.
    fn resolve(&mut self, cx: &Context<'_>) {
        for i in std::mem::take(&mut self.unresolved) {
            let record = &mut self.records[i];
            let (place, count) = (record.id.place, self.wanted + record.refusals(&self.coverage));
            let sampled = record.direct && matches!(record.to, Recipients::ThoseWithout);
            let given_up = sampled || record.lookups >= LOOKUPS_EACH;
            if !record.stopped && !given_up && self.coverage.gap(&place, count).is_some() {
                self.unresolved.push_back(i);
                continue;
            }
            let nearest = self.coverage.nearest(&place, count.max(cx.replication()));
            let count = count - usize::from(self.cause == Cause::Replicated && is_near(cx, &place, &nearest));
            record.rank(nearest.into_iter().take(count), &self.sample);
            self.ready.push_back(i);
        }
    }

    fn settle(&mut self, from: &Arc<Contact>, tag: Tag, end: SendState) {
        let i = usize::from(tag.0);
        let Some(record) = self.records.get_mut(i) else { return };
        let waits =
            |(peer, state): &&mut (Arc<Contact>, SendState)| peer.peer() == from.peer() && *state == SendState::Waiting;
        // A record asks a peer for its value before it sends its own: an answer belongs to the check if that waits.
        let check = record.checks.iter_mut().find(waits);
        let checks = check.is_some();
        let Some((_, state)) = check.or_else(|| record.recipients.iter_mut().find(waits)) else { return };
        *state = end;
        self.in_flight -= 1;
        if self.probing.remove(from.key()) {
            self.ready.extend(self.blocked.drain(..));
        }
        let again = !checks && (record.replace_refusals() || end == SendState::Failed);
        if checks || end == SendState::Refused {
            self.ready.push_back(i);
        }
        if again {
            self.search_again(i);
        }
    }
}

/// Drops the peers that turned out to be dead before they were addressed. Returns whether there were any.
fn drop_dead(peers: &mut Vec<(Arc<Contact>, SendState)>, coverage: &Coverage) -> bool {
    let before = peers.len();
    peers.retain(|(peer, state)| *state != SendState::Ranked || !coverage.is_dead(peer.key()));
    peers.len() < before
}

/// Whether an answer names about as many of the peers closest to the target as expected.
fn is_dense(target: &Key, named: &[Arc<Contact>], nodes: f64, k: usize) -> bool {
    let mut distances: Vec<_> = named.iter().map(|peer| peer.key().distance(target)).collect();
    distances.sort_unstable();
    distances.truncate(k);
    let reach = distances.last().map_or(1.0, Distance::as_fraction);
    let expected = nodes * reach / distances.len().max(1) as f64;
    (1.0 / CROWDED..=SPARSE).contains(&expected)
}

/// Number of these peers that are of different IP groups; all of them where groups do not count.
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
            Recipients::Peers(peers) => peers.iter().map(|peer| (Arc::clone(peer), SendState::Ranked)).collect(),
            _ => Vec::new(),
        };
        RegionRecord {
            id: RecordId::of(&announcement.item),
            item: announcement.item,
            to: announcement.to,
            recipients,
            checks: Vec::new(),
            newer: None,
            closest: None,
            lookups: 0,
            direct: false,
            stopped: false,
        }
    }

    /// Number of living peers that refused the record, and whose places others take.
    fn refusals(&self, coverage: &Coverage) -> usize {
        let failed = self.recipients.iter().filter(|(_, state)| *state == SendState::Failed);
        failed.filter(|(peer, _)| !coverage.is_dead(peer.key())).count()
    }

    /// As `Delivery::replace_refusals`.
    fn replace_refusals(&mut self) -> bool {
        let count = |of: &[SendState]| self.recipients.iter().filter(|(_, state)| of.contains(state)).count();
        let took = count(&[SendState::Reached, SendState::Has]);
        let replaced =
            count(&[SendState::Ranked, SendState::Waiting]) == 0 && stores_are_full(took, count(&[SendState::Refused]));
        for (_, state) in &mut self.recipients {
            if replaced && *state == SendState::Refused {
                *state = SendState::Failed;
            }
        }
        replaced
    }

    /// Sets the closest peers, which are to have the record.
    fn rank(&mut self, closest: impl Iterator<Item = Arc<Contact>>, sample: &HolderSample) {
        if matches!(self.to, Recipients::ThoseWithout) && !sample.holds() {
            self.to = Recipients::Closest;
        }
        self.recipients.retain(|(_, state)| *state != SendState::Ranked);
        let closest: Vec<_> = closest.collect();
        if self.checks.is_empty() && self.is_announced() {
            closest.iter().take(CHECKS).for_each(|peer| self.check_at(peer));
        }
        self.closest = Some(closest.iter().map(|peer| peer.key().head()).collect());
        for peer in closest {
            let state = match &self.to {
                Recipients::NewOfClosest(known) if known.contains(&peer.key().head()) => continue,
                Recipients::ThoseWithout if sample.has(&peer) => SendState::Has,
                _ => SendState::Ranked,
            };
            if !self.recipients.iter().any(|(known, _)| known.peer() == peer.peer()) {
                self.recipients.push((peer, state));
            }
        }
        // Without a peer to send it to, no check is needed either.
        if !self.recipients.iter().any(|(_, state)| *state == SendState::Ranked) {
            self.checks.retain(|(_, state)| *state != SendState::Ranked);
        }
    }

    /// Whether the record is a value of this node's own that was announced before, so that peers may hold it or a newer
    /// one.
    fn is_announced(&self) -> bool {
        matches!(&self.item, Item::Value(record) if record.own && record.announced.is_some())
    }

    /// Plans to ask a peer for the value that it holds, unless that was done before.
    fn check_at(&mut self, peer: &Arc<Contact>) {
        let known = self.checks.iter().any(|(known, _)| known.peer() == peer.peer());
        if matches!(&self.item, Item::Value(record) if record.own) && !known && self.checks.len() < 2 * CHECKS {
            self.checks.push((Arc::clone(peer), SendState::Ranked));
        }
    }

    /// Keeps the value that a peer holds, if it supersedes this one of the node's own.
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

impl HolderSample {
    /// Adds peers that should have the record of a lookup. A peer that lacks one record may lack them all.
    fn add(&mut self, should_have: impl Iterator<Item = u64>, holders: &BTreeMap<u64, bool>) {
        for peer in should_have {
            if let Some(has) = holders.get(&peer) {
                *self.0.entry(peer).or_insert(true) &= has;
            }
        }
    }

    fn has(&self, peer: &Contact) -> bool {
        self.0.get(&peer.key().head()) == Some(&true)
    }

    /// Whether enough peers have theirs that only the others need to receive the records.
    fn holds(&self) -> bool {
        let had = self.0.values().filter(|has| **has).count();
        had > 0 && had as f64 >= HOLDS * self.0.len() as f64
    }
}

/// A request for the record itself, which also returns the peers closest to it.
fn ask_for(item: &Item) -> Request {
    match item {
        Item::Value(record) => Request::GetValue { key: record.key.clone() },
        Item::Provider(record) => Request::GetProviders { key: record.key.clone() },
    }
}

/// Whether an answer contains the record; `None` if it answers another request.
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

/// Whether this node is one of the k closest itself, and so counts among the peers that are to have the record.
fn is_near(cx: &Context<'_>, place: &Key, ranked: &[Arc<Contact>]) -> bool {
    let last = ranked.get(cx.replication() - 1);
    last.is_none_or(|last| cx.peers.local.key().distance(place) < last.key().distance(place))
}

/// The message that sends a record; `None` if it has expired, or if this node provides content and has no address. The
/// lifetime of an own value that goes to all of the k closest begins again. If it goes to some of them it has the
/// lifetime that remains, so that their copies are no newer than those of all others.
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
            let local = &cx.peers.local;
            local
                .has_addrs()
                .then(|| Request::AddProvider { key: record.key.clone(), providers: vec![Arc::clone(local)] })
        }
    }
}

/// The lifetime that remains, in whole seconds as it travels, rounded down so that it never grows; `None` if it has
/// ended.
fn remaining(now: Timestamp, expires: Option<Timestamp>) -> Option<Option<Duration>> {
    match expires.map(|at| at.since(now).as_secs()) {
        Some(0) => None,
        left => Some(left.map(Duration::from_secs)),
    }
}

#[cfg(test)]
mod tests;
