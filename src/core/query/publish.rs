//! Put a value, or announce a provider: keep it here, walk to its key, deliver it to the k closest.
//!
//! The delivery begins while the walk still waits for the last of the k closest: whoever has answered and is among them
//! is addressed at once. A peer that a nearer one displaces afterwards has it too, which does no harm.

use std::num::NonZeroUsize;
use std::sync::Arc;

use super::delivery::Delivery;
use super::{Context, DELIVERY, Step, WALK, find_node, take, unanswered, walk_on};
use crate::core::announcement::RecordId;
use crate::core::contact::Contact;
use crate::core::error::{QueryError, Report};
use crate::core::io::{Answer, QueryOptions};
use crate::core::key::Key;
use crate::core::lookup::Lookup;
use crate::core::message::{Request, RequestError, Value};
use crate::core::record::{ProviderRecord, Record, RecordKey};
use crate::core::requests::Tag;
use crate::core::store::{Done, Item};
use crate::core::time::Timestamp;

#[derive(Debug)]
pub(crate) struct Publish {
    key: RecordKey,
    target: Key,
    what: What,
    quorum: NonZeroUsize,
    paths: Option<NonZeroUsize>,
    /// Whether this node keeps it, and announces it again.
    pub(crate) kept: bool,
    stage: Stage,
}

#[derive(Debug)]
enum What {
    Value(Value),
    Provider,
}

#[derive(Debug)]
enum Stage {
    /// The own store has not answered.
    Keeping,
    /// The own store refused it.
    Refused(QueryError),
    /// Looking for the closest, and addressing those already found.
    Walking(Lookup, Delivery),
    Delivering(Delivery),
}

impl Publish {
    /// The caller keeps the value in the store and reports by `on_local`.
    pub(crate) fn value(cx: &Context<'_>, value: Value, options: &QueryOptions) -> Publish {
        Publish::new(cx, value.key.clone(), What::Value(value), options)
    }

    /// The caller keeps the provider record in the store and reports by `on_local`.
    pub(crate) fn provider(cx: &Context<'_>, key: RecordKey, options: &QueryOptions) -> Publish {
        Publish::new(cx, key, What::Provider, options)
    }

    fn new(cx: &Context<'_>, key: RecordKey, what: What, options: &QueryOptions) -> Publish {
        let quorum = options.quorum.unwrap_or(cx.config.record.write_quorum).of(cx.config.lookup.replication);
        let kept = !options.not_kept || matches!(what, What::Provider);
        Publish { target: key.key(), key, what, quorum, paths: options.paths, kept, stage: Stage::Keeping }
    }

    /// The record as this node keeps it.
    pub(crate) fn item(&self, now: Timestamp, local: &Arc<Contact>) -> Item {
        match &self.what {
            What::Value(value) => {
                let mut record = Record::new(value.key.clone(), value.value.clone(), now);
                (record.own, record.put) = (true, Some(now));
                Item::Value(record)
            }
            What::Provider => {
                let provider = Arc::clone(local);
                let mut record = ProviderRecord::new(self.key.clone(), provider, Timestamp::MAX, Timestamp::MAX);
                record.own = true;
                Item::Provider(record)
            }
        }
    }

    /// Whether it publishes this.
    pub(crate) fn publishes(&self, name: &RecordId) -> bool {
        self.target == name.place && matches!(self.what, What::Provider) == name.provider
    }

    pub(crate) fn unasked(&self) -> usize {
        match &self.stage {
            Stage::Keeping | Stage::Refused(_) => 0,
            Stage::Walking(lookup, _) => lookup.unasked(),
            Stage::Delivering(delivery) => delivery.unasked(),
        }
    }

    pub(crate) fn on_local(&mut self, cx: &Context<'_>, kept: Done) {
        // The store may have answered late: what the node had then it may have no more.
        let unreachable = matches!(self.what, What::Provider) && !cx.peers.local.has_addrs();
        self.stage = match kept {
            Ok(_) if unreachable => Stage::Refused(QueryError::NoOwnAddress),
            Ok(_) => {
                let delivery = Delivery::new(self.message(cx), cx.replication());
                Stage::Walking(cx.walk(self.target, cx.replication(), self.paths), delivery)
            }
            Err(why) => Stage::Refused(why.into()),
        };
    }

    pub(crate) fn next(&mut self, cx: &Context<'_>, report: &mut Report) -> Step {
        match &mut self.stage {
            Stage::Keeping => Step::Wait,
            Stage::Refused(why) => Step::Finish(Err(std::mem::replace(why, QueryError::Cancelled))),
            Stage::Walking(lookup, delivery) => {
                let key = self.key.to_shared();
                match walk_on(lookup, WALK, || find_node(&key)) {
                    Some(Step::Wait) => {
                        delivery.rank(lookup.settled());
                        delivery.next().unwrap_or(Step::Wait)
                    }
                    Some(step) => step,
                    None if lookup.closest().is_empty() => Step::Finish(Err(unanswered(report))),
                    None => self.deliver(cx, report),
                }
            }
            Stage::Delivering(delivery) => match delivery.next() {
                Some(step) => step,
                None if delivery.replace_refusals() => self.next(cx, report),
                None if delivery.is_done() => Step::Finish(self.finish(cx, report)),
                None => Step::Wait,
            },
        }
    }

    pub(crate) fn on_answer(&mut self, from: &Arc<Contact>, tag: Tag) {
        if let Some(delivery) = self.delivery(tag) {
            delivery.on_answer(from);
        }
    }

    /// The lookup that this request is part of, unless that is over.
    pub(crate) fn lookup(&mut self, tag: Tag) -> Option<&mut Lookup> {
        match &mut self.stage {
            Stage::Walking(lookup, _) if tag == WALK => Some(lookup),
            _ => None,
        }
    }

    /// The deliveries that this request is one of.
    pub(crate) fn delivery(&mut self, tag: Tag) -> Option<&mut Delivery> {
        match &mut self.stage {
            Stage::Walking(_, delivery) | Stage::Delivering(delivery) if tag == DELIVERY => Some(delivery),
            _ => None,
        }
    }

    pub(crate) fn on_failure(&mut self, from: &Arc<Contact>, tag: Tag, why: RequestError) {
        // Whoever refuses a value may know a better one.
        let refuses = matches!(self.what, What::Value(_)) && why == RequestError::Refused;
        match self.delivery(tag) {
            Some(delivery) if refuses => delivery.on_refusal(from),
            Some(delivery) => delivery.on_failure(from),
            None => {}
        }
    }

    /// The time is over. Those who acknowledged by now have it, and may be enough.
    pub(crate) fn expire(&mut self, cx: &Context<'_>, report: &mut Report) -> Option<Result<Answer, QueryError>> {
        let (Stage::Walking(_, delivery) | Stage::Delivering(delivery)) = &mut self.stage else { return None };
        let reached = delivery.conclude(cx, report);
        (reached >= self.quorum.get()).then(|| Ok(Answer::Published(std::mem::take(report).into())))
    }

    fn message(&self, cx: &Context<'_>) -> Request {
        match &self.what {
            What::Value(value) => Request::PutValue { value: value.clone() },
            What::Provider => {
                let providers = vec![Arc::clone(&cx.peers.local)];
                Request::AddProvider { key: self.key.clone(), providers }
            }
        }
    }

    /// The walk is over: its result is whom to address.
    fn deliver(&mut self, cx: &Context<'_>, report: &mut Report) -> Step {
        if let Stage::Walking(lookup, mut delivery) = std::mem::replace(&mut self.stage, Stage::Keeping) {
            delivery.rank(lookup.ranked());
            self.stage = Stage::Delivering(delivery);
        }
        self.next(cx, report)
    }

    fn finish(&mut self, cx: &Context<'_>, report: &mut Report) -> Result<Answer, QueryError> {
        let Stage::Delivering(delivery) = &mut self.stage else { return Err(QueryError::Cancelled) };
        let reached = delivery.conclude(cx, report);
        if reached < self.quorum.get() {
            let report = take(report);
            return Err(QueryError::QuorumMissed {
                wanted: self.quorum,
                reached,
                best: None,
                holders: Vec::new(),
                report,
            });
        }
        Ok(Answer::Published(std::mem::take(report).into()))
    }
}
