//! The queries: state machines that carry out an operation, or what the node does of its own accord.
//!
//! Knows: what each operation asks of which peers, and when it has ended. Must not know: how requests travel, or any
//! time but the one it is given. Each machine is one file and reads top to bottom.

mod bootstrap;
mod context;
mod correct;
mod coverage;
mod delivery;
mod find;
mod get_value;
mod pool;
mod providers;
mod publish;
mod region;
mod trim;

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng as _;

pub(crate) use bootstrap::Bootstrap;
pub(crate) use context::Context;
pub(crate) use correct::{Correct, FollowUp};
pub(crate) use find::Find;
pub(crate) use get_value::GetValue;
pub(crate) use pool::{QueryPool, RunningQuery};
pub(crate) use providers::FindProviders;
pub(crate) use publish::Publish;
pub(crate) use region::Region;
pub(crate) use trim::trim;

use super::announcement::RecordId;
use super::config::{MAX_KEY_LEN, MAX_PROVIDER_KEY_LEN};
use super::contact::Contact;
use super::error::{PeerFailure, QueryError, Report};
use super::io::{Answer, Operation, QueryEvent, QueryId, QueryOptions};
use super::key::Key;
use super::lookup::{Lateness, Lookup, Next};
use super::message::{Misbehaviour, Request, RequestError, Response, Unreachable};
use super::requests::Tag;
use super::rtt::Urgency;
use super::stats::{Cause, QueryKind};
use super::store::{Done, Op, OpOutput, Scan};
use super::store_ops::{StoreOps, Waiter};
use super::time::Timestamp;

/// Maximum number of peers that a query can be asked to find, or to ask, as a multiple of k. Source: what a page for
/// people shows.
const MAX_TIMES_K: usize = 10;
/// The requests of a query's lookup.
const LOOKUP: Tag = Tag(0);
/// The requests that deliver a record.
const DELIVERY: Tag = Tag(1);

/// The parts of the node that the start of a query may use.
pub(crate) struct QueryStart<'a> {
    pub(crate) cx: Context<'a>,
    pub(crate) store_ops: &'a mut StoreOps,
    pub(crate) rng: &'a mut ChaCha8Rng,
    /// The query, as the store names it.
    pub(crate) waiter: Waiter,
}

impl QueryStart<'_> {
    /// Runs an operation of the store; `None` if its result comes later.
    fn run(&mut self, op: Op) -> Option<Done> {
        self.store_ops.run(self.cx.date, self.waiter, op)
    }

    fn rng(&mut self) -> ChaCha8Rng {
        ChaCha8Rng::from_rng(self.rng)
    }
}

/// Builds the query for an operation, and asks the store for what the operation needs of it. Returns the store's result
/// too, if it is there at once.
///
/// # Errors
///
/// The mistake of the caller.
pub(crate) fn start(
    mut with: QueryStart<'_>,
    operation: Operation,
    options: &mut QueryOptions,
) -> Result<(RunningQuery, Option<Done>), QueryError> {
    let (cx, kind) = (with.cx, operation.kind());
    let local_key = *cx.peers.local.key();
    check_only(&cx, options)?;
    let (machine, target, local) = match operation {
        Operation::ClosestPeers { key } => {
            check_key(&key, MAX_KEY_LEN)?;
            let target = Key::hash(&key);
            (Machine::Find(Box::new(Find::closest(&cx, key, options, with.rng)?)), target, None)
        }
        Operation::FindPeer { peer } => {
            (Machine::Find(Box::new(Find::peer(&cx, peer, options))), Key::from(&peer), None)
        }
        Operation::Get { key } => {
            check_key(key.as_bytes(), MAX_KEY_LEN)?;
            let get = Op::Get(key.clone());
            let (target, local) = (key.key(), if options.only.is_none() { with.run(get) } else { None });
            (Machine::GetValue(Box::new(GetValue::new(&cx, key, options))), target, local)
        }
        Operation::Put { key, value } => {
            check_key(key.as_bytes(), MAX_KEY_LEN)?;
            let target = key.key();
            let (publish, local) = Publish::put(with, key, value, options)?;
            (Machine::Publish(Box::new(publish)), target, local)
        }
        Operation::Provide { key } => {
            check_key(key.as_bytes(), MAX_PROVIDER_KEY_LEN)?;
            let target = key.key();
            let (publish, local) = Publish::provide(with, key, options)?;
            (Machine::Publish(Box::new(publish)), target, local)
        }
        Operation::Providers { key } => {
            check_key(key.as_bytes(), MAX_PROVIDER_KEY_LEN)?;
            let held = Op::Providers(key.clone());
            let (target, local) = (key.key(), if options.only.is_none() { with.run(held) } else { None });
            (Machine::Providers(Box::new(FindProviders::new(&cx, key, options, with.rng()))), target, local)
        }
        Operation::Bootstrap => (Machine::Bootstrap(Box::new(Bootstrap::join(&cx, with.rng()))), local_key, None),
        Operation::Remove { key } => (Machine::Local(None), key.key(), with.run(Op::Remove(key))),
        Operation::StopProviding { key } => {
            (Machine::Local(None), key.key(), with.run(Op::RemoveProvider(key, *cx.peers.local.peer())))
        }
        Operation::Records { after, limit } => {
            let scan = Op::Scan { what: Scan::All, after, limit: limit.get() };
            (Machine::Local(None), local_key, with.run(scan))
        }
    };
    Ok((RunningQuery::new(machine, target, kind), local))
}

/// The key under which equal operations are one query; `None` for an operation that changes something, or asks no peer.
pub(crate) fn shared_key(operation: &Operation, local: &Key) -> Option<Key> {
    match operation {
        Operation::ClosestPeers { key } => Some(Key::hash(key)),
        Operation::FindPeer { peer } => Some(Key::from(peer)),
        Operation::Get { key } | Operation::Providers { key } => Some(key.key()),
        Operation::Bootstrap => Some(*local),
        _ => None,
    }
}

/// Leaves each of the named peers once, and this node out.
fn check_only(cx: &Context<'_>, options: &mut QueryOptions) -> Result<(), QueryError> {
    let Some(only) = &mut options.only else { return Ok(()) };
    let (limit, max) = (only.len(), cx.replication().saturating_mul(MAX_TIMES_K));
    if limit > max {
        return Err(QueryError::LimitTooHigh { limit, max });
    }
    let mut seen = BTreeSet::from([*cx.peers.local.peer()]);
    only.retain(|peer| seen.insert(*peer));
    if only.is_empty() { Err(QueryError::NoPeers) } else { Ok(()) }
}

fn check_key(key: &[u8], max: usize) -> Result<(), QueryError> {
    let len = key.len();
    if (1..=max).contains(&len) { Ok(()) } else { Err(QueryError::InvalidKey { len, max }) }
}

/// The next step of a query.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "it lives for a moment, and ends each query once")]
pub(crate) enum Step {
    /// Send this request.
    Ask(Arc<Contact>, Request, Tag),
    /// Wait for the requests in flight, or for the store.
    Wait,
    /// The query has ended.
    Finish(Result<Answer, QueryError>),
}

/// An answer as a machine receives it: it fits its request, and its closer peers are filtered.
pub(crate) struct PeerAnswer<'a> {
    pub(crate) from: &'a Arc<Contact>,
    pub(crate) tag: Tag,
    pub(crate) response: Response,
    /// The peers it names that can be asked, without this node.
    pub(crate) closer: &'a [Arc<Contact>],
}

/// The state machine of a query.
#[derive(Clone, Debug)]
pub(crate) enum Machine {
    Find(Box<Find>),
    GetValue(Box<GetValue>),
    Publish(Box<Publish>),
    Providers(Box<FindProviders>),
    Bootstrap(Box<Bootstrap>),
    /// Waits for the end of an equal query that runs.
    Joined(QueryId),
    Region(Box<Region>),
    /// The corrections that a finished get leaves to be sent.
    Correct(Correct),
    /// Waits for nothing but the store: for a page of records, or for a removal.
    Local(Option<Box<Result<Answer, QueryError>>>),
}

impl Machine {
    /// Whether the query prefers a quick end to an exact one: a publication is as good with the next closest peer.
    pub(crate) fn urgency(&self) -> Urgency {
        match self {
            Machine::Publish(_) | Machine::Correct(_) => Urgency::High,
            _ => Urgency::Normal,
        }
    }

    /// Why the query stores records at other peers, if it does.
    pub(crate) fn cause(&self) -> Option<Cause> {
        match self {
            Machine::Publish(_) => Some(Cause::Published),
            Machine::Region(region) => Some(region.cause),
            _ => None,
        }
    }

    /// Returns the next step. The caller asks for steps until one is to wait, and for none after one that finishes.
    pub(crate) fn next(&mut self, cx: &Context<'_>, report: &mut Report, out: &mut Vec<QueryEvent>) -> Step {
        match self {
            Machine::Find(find) => find.next(cx, report),
            Machine::GetValue(get) => get.next(cx, report),
            Machine::Publish(publish) => publish.next(cx, report),
            Machine::Providers(providers) => providers.next(report, out),
            Machine::Bootstrap(bootstrap) => bootstrap.next(cx, report),
            Machine::Region(region) => region.next(cx, report),
            Machine::Correct(correct) => correct.next(report),
            Machine::Joined(_) => Step::Wait,
            Machine::Local(end) => end.take().map_or(Step::Wait, |end| Step::Finish(*end)),
        }
    }

    /// A peer answered. Returns how many of the peers that it named are new to the lookup.
    pub(crate) fn on_answer(
        &mut self,
        cx: &Context<'_>,
        mut answer: PeerAnswer<'_>,
        out: &mut Vec<QueryEvent>,
    ) -> Result<usize, Misbehaviour> {
        if let Machine::GetValue(get) = self {
            // An invalid value is no answer to the lookup either.
            get.on_answer(cx, answer.from, &mut answer.response, out)?;
        }
        let (from, tag) = (answer.from, answer.tag);
        let news = self.lookup(tag).map_or(0, |lookup| lookup.on_answer(from.key(), answer.closer));
        match self {
            Machine::Find(find) => find.on_reached(from),
            Machine::Publish(publish) => publish.on_answer(from, tag),
            Machine::Providers(providers) => providers.on_answer(cx, answer.response, out),
            Machine::Region(region) => region.on_answer(cx, &answer),
            Machine::Correct(correct) => correct.on_end(),
            Machine::GetValue(_) | Machine::Bootstrap(_) | Machine::Joined(_) | Machine::Local(_) => {}
        }
        Ok(news)
    }

    /// The lookup that a request belongs to, unless it has ended.
    pub(crate) fn lookup(&mut self, tag: Tag) -> Option<&mut Lookup> {
        match self {
            Machine::Find(find) => find.lookup(tag),
            Machine::GetValue(get) => Some(&mut get.lookup),
            Machine::Publish(publish) => publish.lookup(tag),
            Machine::Providers(providers) => Some(&mut providers.lookup),
            Machine::Bootstrap(bootstrap) => bootstrap.lookup(tag),
            Machine::Region(region) => region.lookup(tag),
            Machine::Correct(_) | Machine::Joined(_) | Machine::Local(_) => None,
        }
    }

    /// A peer failed.
    pub(crate) fn on_failure(&mut self, from: &Arc<Contact>, tag: Tag, why: RequestError) {
        if let Some(lookup) = self.lookup(tag) {
            if why == Unreachable::HostBackingOff.into() {
                lookup.on_refused(from.key());
            }
            lookup.on_failure(from.key());
        }
        match self {
            Machine::Find(find) => find.on_failure(from, why),
            Machine::Publish(publish) => publish.on_failure(from, tag, why),
            Machine::Region(region) => region.on_failure(from, tag, why),
            Machine::Correct(correct) => correct.on_end(),
            _ => {}
        }
    }

    /// A peer is late, or overdue.
    pub(crate) fn on_late(&mut self, from: &Arc<Contact>, tag: Tag, how: Lateness) {
        if let Some(lookup) = self.lookup(tag) {
            lookup.on_late(from.key(), how);
        } else if let Machine::Publish(publish) = self
            && let Some(delivery) = publish.delivery(tag)
        {
            delivery.on_late(from, how);
        }
    }

    /// The store has run the operation that the query waits for.
    pub(crate) fn on_local(&mut self, cx: &Context<'_>, done: Done, out: &mut Vec<QueryEvent>) {
        match (self, done) {
            (Machine::GetValue(get), done) => get.on_local(cx, done, out),
            (Machine::Publish(publish), done) => publish.on_local(cx, done),
            (Machine::Providers(providers), done) => providers.on_local(cx, done, out),
            (Machine::Local(end), Ok(OpOutput::Items(items))) => *end = Some(Box::new(Ok(Answer::Records(items)))),
            (Machine::Local(end), Ok(_)) => *end = Some(Box::new(Ok(Answer::Removed))),
            (Machine::Local(end), Err(why)) => *end = Some(Box::new(Err(why.into()))),
            _ => {}
        }
    }

    /// The query's time is up: its result, or `None` if it has none but the timeout.
    pub(crate) fn expire(&mut self, cx: &Context<'_>, report: &mut Report) -> Option<Result<Answer, QueryError>> {
        match self {
            Machine::Publish(publish) => publish.expire(cx, report),
            Machine::GetValue(get) => get.expire(cx, report),
            _ => None,
        }
    }

    /// The get, if the query is one.
    pub(crate) fn get(&mut self) -> Option<&mut GetValue> {
        match self {
            Machine::GetValue(get) => Some(get),
            _ => None,
        }
    }

    /// Whether an equal query can join this one: nothing was reported that it would miss.
    pub(crate) fn can_be_joined(&self) -> bool {
        match self {
            Machine::Providers(providers) => !providers.has_reported(),
            _ => true,
        }
    }

    /// The last report, for a query that joins this one.
    pub(crate) fn last_report(&self) -> Option<QueryEvent> {
        match self {
            Machine::GetValue(get) => get.best().map(QueryEvent::Value),
            _ => None,
        }
    }

    /// Whether the query publishes this record.
    pub(crate) fn publishes(&self, record: &RecordId) -> bool {
        matches!(self, Machine::Publish(publish) if publish.publishes(record))
    }

    /// The record that the query leaves to the upkeep.
    pub(crate) fn batched(&self) -> Option<RecordId> {
        match self {
            Machine::Publish(publish) => publish.batched(),
            _ => None,
        }
    }

    /// Whether the query looks up its target, and so refreshes the bucket of it.
    pub(crate) fn looks_up(&self) -> bool {
        match self {
            Machine::Find(_) => true,
            Machine::GetValue(get) => !get.lookup.is_closed(),
            Machine::Publish(publish) => publish.looks_up(),
            Machine::Providers(providers) => !providers.lookup.is_closed(),
            _ => false,
        }
    }

    /// Number of peers that the query knows and has not asked.
    pub(crate) fn unasked(&self) -> usize {
        match self {
            Machine::Find(find) => find.lookup.unasked(),
            Machine::GetValue(get) => get.lookup.unasked(),
            Machine::Publish(publish) => publish.unasked(),
            Machine::Providers(providers) => providers.lookup.unasked(),
            Machine::Bootstrap(bootstrap) => bootstrap.unasked(),
            Machine::Region(region) => region.unasked(),
            Machine::Correct(correct) => correct.unasked(),
            Machine::Joined(_) | Machine::Local(_) => 0,
        }
    }
}

/// Whether peers that refused a value should be replaced by others. On the wire a refusal has no reason: a store may be
/// full, or may know a better value. Nearly all of the closest peers have the better one, so if more than two of three
/// refuse, the value is taken to be the worse one and is not brought to peers farther away, which know no better.
/// Source: where 3 of 10 stores are full, 14 or more of 20 refuse once in 10,000 puts.
fn stores_are_full(took: usize, refused: usize) -> bool {
    refused > 0 && refused <= took.saturating_mul(2)
}

/// The failure of a query that had no useful answer. Some peers may have answered, but broke the rules.
fn unanswered(report: &mut Report) -> QueryError {
    let misbehaved = |failure: &PeerFailure| matches!(failure.why, RequestError::Misbehaved(_));
    if report.requests == 0 && report.failed.is_empty() {
        QueryError::NoPeers
    } else if report.failed.iter().any(misbehaved) {
        QueryError::NotFound(take(report))
    } else {
        QueryError::overloaded(take(report)).unwrap_or_else(QueryError::NoAnswer)
    }
}

/// Takes the report of a query that ends.
fn take(report: &mut Report) -> Box<Report> {
    Box::new(std::mem::take(report))
}

/// The next step of a lookup that asks every peer the same; `None` when the lookup has ended.
fn lookup_step(lookup: &mut Lookup, tag: Tag, request: impl FnOnce() -> Request) -> Option<Step> {
    match lookup.next() {
        Next::Ask(contact) => Some(Step::Ask(contact, request(), tag)),
        Next::Wait => Some(Step::Wait),
        Next::Done => None,
    }
}

/// FIND_NODE for these bytes.
fn find_node(key: &Bytes) -> Request {
    Request::FindNode { key: key.clone() }
}

/// A running query, as shown to people.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct QuerySnapshot {
    /// Id of the query.
    pub id: QueryId,
    /// Its purpose.
    pub kind: QueryKind,
    /// Time at which it started.
    pub started: Timestamp,
    /// Time at which it ends at the latest.
    pub deadline: Timestamp,
    /// Number of requests sent so far.
    pub requests: usize,
    /// Number of requests answered so far.
    pub answers: usize,
    /// Number of peers that it knows and has not asked yet.
    pub unasked: usize,
}
