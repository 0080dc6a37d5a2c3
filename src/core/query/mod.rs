//! What someone asked: machines that turn an operation into a walk and, where it takes one, a follow-up.
//!
//! Knows: what each operation wants from whom, and when it is over. Must not know: how requests travel, or what time
//! it is other than as told. Each machine is one file and reads top to bottom.

mod bootstrap;
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

use std::num::NonZeroUsize;
use std::sync::Arc;

use bytes::Bytes;

pub(crate) use bootstrap::Bootstrap;
pub(crate) use correct::{Correct, FollowUp};
pub(crate) use find::Find;
pub(crate) use get_value::GetValue;
pub(crate) use pool::{Pool, Query};
pub(crate) use providers::FindProviders;
pub(crate) use publish::Publish;

pub(crate) use region::Region;
pub(crate) use trim::trim;

use super::announcement::RecordId;
use super::config::DhtConfig;
use super::contact::Contact;
use super::error::{PeerFailure, QueryError, Report};
use super::io::{Answer, PeerRecord, QueryEvent, QueryId};
use super::key::{Distance, Key};
use super::lookup::{Lateness, Lookup, Shape};
use super::message::{Misbehaviour, Request, RequestError, Response, Unreachable};
use super::peers::Peers;
use super::requests::Tag;
use super::rtt::{RttEstimator, Urgency};
use super::stats::{Cause, QueryKind};
use super::store::{Done, Found};
use super::time::{NodeTime, Timestamp};

/// The part of a query that walks.
const WALK: Tag = Tag(0);
/// The part of a publication that delivers.
const DELIVERY: Tag = Tag(1);

/// What a machine may look at.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    /// The node's own time.
    pub(crate) now: Timestamp,
    /// The host's date, by which records live.
    pub(crate) date: Timestamp,
    pub(crate) config: &'a DhtConfig,
    pub(crate) peers: &'a Peers,
    pub(crate) rtt: &'a RttEstimator,
}

impl<'a> Context<'a> {
    pub(crate) fn new(time: &NodeTime, config: &'a DhtConfig, peers: &'a Peers, rtt: &'a RttEstimator) -> Context<'a> {
        Context { now: time.now, date: time.date, config, peers, rtt }
    }

    /// A walk towards `target` that looks for `count` peers, begun with the closest that are known: twice as many as
    /// looked for, since where many are dead the neighbours name the same dead ones.
    pub(crate) fn walk(&self, target: Key, count: usize, paths: Option<NonZeroUsize>) -> Lookup {
        let seeds = self.peers.seeds(self.now, &target, count.saturating_mul(2));
        self.walk_with(target, count, paths, (&seeds, false))
    }

    /// A walk along one path, begun with these peers too, until so many of the nearest have answered. Where these are fewer
    /// than k, an answer whose peers fail is doubted.
    pub(crate) fn walk_from(&self, target: Key, answers: usize, known: &[Arc<Contact>]) -> Lookup {
        let mut seeds = self.peers.seeds(self.now, &target, self.replication().saturating_mul(2));
        seeds.extend(known.iter().cloned());
        self.walk_with(target, answers, Some(NonZeroUsize::MIN), (&seeds, answers < self.replication()))
    }

    /// Within what distance of its target everyone is known whom those know who answered a walk. In a small network, where
    /// fewer than k answered, they are all there are; elsewhere nothing is known of what lies beyond those that were named.
    pub(crate) fn reach(&self, lookup: &Lookup) -> Distance {
        let (k, found) = (self.replication(), lookup.closest());
        let farthest = || found.last().map_or(Distance::ZERO, |peer| peer.key().distance(lookup.target()));
        match found.len() < k && self.is_small() {
            true => Distance::MAX,
            false => lookup.reach(k).unwrap_or_else(farthest),
        }
    }

    fn walk_with(
        &self,
        target: Key,
        count: usize,
        paths: Option<NonZeroUsize>,
        (seeds, wary): (&[Arc<Contact>], bool),
    ) -> Lookup {
        let config = &self.config.lookup;
        let shape = Shape {
            count,
            parallelism: config.parallelism.get(),
            resiliency: config.resiliency.get(),
            paths: paths.unwrap_or(config.paths).get().min(count),
            spare: self.rtt.failing_of(count),
            frontier: self.config.limit.frontier.max(count),
            wary,
        };
        Lookup::new(target, seeds, shape)
    }

    /// A peer as the application sees it. A query may have begun before this node's own addresses changed, so its addresses
    /// pass the filter once more.
    pub(crate) fn record_of(&self, peer: &Arc<Contact>) -> PeerRecord {
        PeerRecord::from(&*self.peers.filtered(peer))
    }

    /// Whether the whole network may be fewer than k peers.
    pub(crate) fn is_small(&self) -> bool {
        self.peers.table.len() < self.replication()
    }

    pub(crate) fn replication(&self) -> usize {
        self.config.lookup.replication.get()
    }
}

/// What a query wants next.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "it lives for a moment, and ends each query once")]
pub(crate) enum Step {
    /// Send this request.
    Ask(Arc<Contact>, Request, Tag),
    /// Wait for what is under way.
    Wait,
    /// It is over.
    Finish(Result<Answer, QueryError>),
}

/// An answer as it reaches a machine: checked against its request, its closer peers cleaned.
pub(crate) struct Heard<'a> {
    pub(crate) from: &'a Arc<Contact>,
    pub(crate) tag: Tag,
    pub(crate) response: Response,
    /// The peers it names that can be asked, without this node.
    pub(crate) closer: &'a [Arc<Contact>],
}

/// The operations at work.
#[derive(Debug)]
pub(crate) enum Machine {
    Find(Find),
    GetValue(Box<GetValue>),
    Publish(Publish),
    Providers(FindProviders),
    Bootstrap(Bootstrap),
    /// A bootstrap that was asked for while another ran: it ends as that one does.
    Joined,
    Region(Box<Region>),
    /// What a read that is over leaves to be done.
    Correct(Correct),
    /// What waits for nothing but the store: a page of what is kept, or that something is forgotten.
    Local(Option<Result<Answer, QueryError>>),
}

impl Machine {
    /// How much it prefers being done to being exact: a publication is as good with the next closest.
    pub(crate) fn urgency(&self) -> Urgency {
        match self {
            Machine::Publish(_) | Machine::Correct(_) => Urgency::High,
            _ => Urgency::Normal,
        }
    }

    /// Why it brings records to peers, if it does.
    pub(crate) fn cause(&self) -> Option<Cause> {
        match self {
            Machine::Publish(_) => Some(Cause::Published),
            Machine::Region(region) => Some(region.cause),
            _ => None,
        }
    }

    /// What to do next. Called until it says to wait or to finish; never again after that last.
    pub(crate) fn next(&mut self, cx: &Context<'_>, report: &mut Report, out: &mut Vec<QueryEvent>) -> Step {
        match self {
            Machine::Find(find) => find.next(cx, report),
            Machine::GetValue(get) => get.next(cx, report),
            Machine::Publish(publish) => publish.next(cx, report),
            Machine::Providers(providers) => providers.next(report, out),
            Machine::Bootstrap(bootstrap) => bootstrap.next(cx, report),
            Machine::Region(region) => region.next(cx, report),
            Machine::Correct(correct) => correct.next(report),
            Machine::Joined => Step::Wait,
            Machine::Local(end) => end.take().map_or(Step::Wait, Step::Finish),
        }
    }

    /// A peer answered. Returns how many peers it named that are news.
    pub(crate) fn on_answer(
        &mut self,
        cx: &Context<'_>,
        mut heard: Heard<'_>,
        out: &mut Vec<QueryEvent>,
    ) -> Result<usize, Misbehaviour> {
        if let Machine::GetValue(get) = self {
            // What is not valid is no answer to its lookup.
            get.on_answer(cx, heard.from, &mut heard.response, out)?;
        }
        let (from, tag) = (heard.from, heard.tag);
        let news = self.lookup(tag).map_or(0, |lookup| lookup.on_answer(from.key(), heard.closer));
        match self {
            Machine::Find(find) => find.reached(from),
            Machine::Publish(publish) => publish.on_answer(from, tag),
            Machine::Providers(providers) => providers.on_answer(cx, heard.response, out),
            Machine::Region(region) => region.on_answer(cx, &heard),
            Machine::Correct(correct) => correct.on_end(),
            Machine::GetValue(_) | Machine::Bootstrap(_) | Machine::Joined | Machine::Local(_) => {}
        }
        Ok(news)
    }

    /// The lookup that this request is part of, unless that is over.
    pub(crate) fn lookup(&mut self, tag: Tag) -> Option<&mut Lookup> {
        match self {
            Machine::Find(find) => find.lookup(tag),
            Machine::GetValue(get) => Some(&mut get.lookup),
            Machine::Publish(publish) => publish.lookup(tag),
            Machine::Providers(providers) => Some(&mut providers.lookup),
            Machine::Bootstrap(bootstrap) => bootstrap.lookup(tag),
            Machine::Region(region) => region.lookup(tag),
            Machine::Correct(_) | Machine::Joined | Machine::Local(_) => None,
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

    /// The store did what the operation needs of it.
    pub(crate) fn on_local(&mut self, cx: &Context<'_>, done: Done, out: &mut Vec<QueryEvent>) {
        match (self, done) {
            (Machine::GetValue(get), done) => get.on_local(cx, done, out),
            (Machine::Publish(publish), done) => publish.on_local(cx, done),
            (Machine::Providers(providers), done) => providers.on_local(cx, done, out),
            (Machine::Local(end), Ok(Found::Items(items))) => *end = Some(Ok(Answer::Records(items))),
            (Machine::Local(end), Ok(_)) => *end = Some(Ok(Answer::Forgotten(()))),
            (Machine::Local(end), Err(why)) => *end = Some(Err(why.into())),
            _ => {}
        }
    }

    /// The time is over: what there is to show for it, or `None` if that is nothing but a time-out.
    pub(crate) fn expire(&mut self, cx: &Context<'_>, report: &mut Report) -> Option<Result<Answer, QueryError>> {
        match self {
            Machine::Publish(publish) => publish.expire(cx, report),
            Machine::GetValue(get) => get.expire(cx, report),
            _ => None,
        }
    }

    /// The get that it is.
    pub(crate) fn get(&mut self) -> Option<&mut GetValue> {
        match self {
            Machine::GetValue(get) => Some(get),
            _ => None,
        }
    }

    /// Whether it publishes this.
    pub(crate) fn publishes(&self, name: &RecordId) -> bool {
        matches!(self, Machine::Publish(publish) if publish.publishes(name))
    }

    /// Whether it is a lookup towards its query's target, and what follows from that.
    pub(crate) fn looks_up(&self) -> bool {
        matches!(self, Machine::Find(_) | Machine::GetValue(_) | Machine::Publish(_) | Machine::Providers(_))
    }

    /// How many peers it knows and has not asked.
    pub(crate) fn unasked(&self) -> usize {
        match self {
            Machine::Find(find) => find.lookup.unasked(),
            Machine::GetValue(get) => get.lookup.unasked(),
            Machine::Publish(publish) => publish.unasked(),
            Machine::Providers(providers) => providers.lookup.unasked(),
            Machine::Bootstrap(bootstrap) => bootstrap.unasked(),
            Machine::Region(region) => region.unasked(),
            Machine::Correct(correct) => correct.unasked(),
            Machine::Joined | Machine::Local(_) => 0,
        }
    }
}

/// Whether a value that so many peers took has a place at others instead of those that refused it. On the wire a refusal
/// has no reason: a store may be full, or may know a better value. The better one is with nearly all of the closest, so
/// where more than two of three refuse the value is taken to be the worse one, and is not brought to those farther off,
/// who know no better. Source: where 3 of 10 stores are full, 14 or more of 20 refuse once in 10,000 puts.
fn have_no_room(took: usize, refused: usize) -> bool {
    refused > 0 && refused <= took.saturating_mul(2)
}

/// The failure of a query that had no answer of use: some peers may have answered, but broke the rules.
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

/// The report at its end.
fn take(report: &mut Report) -> Box<Report> {
    Box::new(std::mem::take(report))
}

/// A walk's next step, with the request that this query asks of everyone; `None` when the walk is done.
fn walk_on(lookup: &mut Lookup, tag: Tag, request: impl FnOnce() -> Request) -> Option<Step> {
    match lookup.next() {
        super::lookup::Next::Ask(contact) => Some(Step::Ask(contact, request(), tag)),
        super::lookup::Next::Wait => Some(Step::Wait),
        super::lookup::Next::Done => None,
    }
}

/// FIND_NODE for these bytes.
fn find_node(key: &Bytes) -> Request {
    Request::FindNode { key: key.clone() }
}

/// A query that runs, as shown to people.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct QuerySnapshot {
    /// Its id.
    pub id: QueryId,
    /// What it is for.
    pub kind: QueryKind,
    /// When it was started.
    pub started: Timestamp,
    /// When its time is over.
    pub deadline: Timestamp,
    /// How many requests it sent so far.
    pub requests: usize,
    /// How many were answered so far.
    pub answers: usize,
    /// How many peers it has not asked yet.
    pub unasked: usize,
}
