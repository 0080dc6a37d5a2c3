//! Puts a value, or announces this node as a provider: keeps the record here, looks up its key, delivers it to the k
//! closest (rules L13 and L22).
//!
//! The delivery begins while the lookup still waits for the last of the k closest: a peer that has answered and is
//! among them receives the record at once. If a nearer peer displaces it afterwards, both have the record, which does
//! no harm.
//!
//! In the simulator 0.2 displaced peers per put also store the value. A value that does not fit into a message that
//! every implementation reads is refused before anything is kept. Where requests fail often, the lookup asks as many
//! peers beyond k as are expected to fail.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::delivery::Delivery;
use super::{Context, DELIVERY, LOOKUP, QueryStart, Step, find_node, lookup_step, take, unanswered};
use crate::core::announcement::{AnnouncementOutcome, RecordId};
use crate::core::contact::Contact;
use crate::core::error::{QueryError, Report};
use crate::core::io::{Answer, QueryOptions};
use crate::core::key::Key;
use crate::core::lookup::Lookup;
use crate::core::message::{Request, RequestError, Value};
use crate::core::record::{ProviderRecord, Record, RecordKey};
use crate::core::requests::Tag;
use crate::core::store::{Done, Item, Op, OpOutput};
use crate::core::time::Timestamp;
use crate::core::validate::InvalidValue;

/// A lifetime travels in whole seconds, and none at all means the longest.
const MIN_LIFETIME: Duration = Duration::from_secs(1);

#[derive(Clone, Debug)]
pub(crate) struct Publish {
    key: RecordKey,
    what: What,
    quorum: NonZeroUsize,
    paths: Option<NonZeroUsize>,
    /// The peers to address without a lookup, if the application names them.
    only: Option<Vec<Arc<Contact>>>,
    /// Whether this node keeps the record, and announces it again.
    pub(crate) kept: bool,
    /// Whether the record is left to the upkeep, which announces it with others.
    batched: bool,
    /// The error of this node's own store.
    refused: Option<QueryError>,
    /// The lookup of the closest peers, until it has ended.
    lookup: Option<Lookup>,
    /// The delivery; `None` until this node's store has taken the record.
    delivery: Option<Delivery>,
}

#[derive(Clone, Debug)]
enum What {
    Value(Value),
    Provider,
}

impl Publish {
    /// Starts a put. Returns the result of this node's store too, if it is there at once.
    ///
    /// # Errors
    ///
    /// [`QueryError::InvalidValue`].
    pub(crate) fn put(
        with: QueryStart<'_>,
        key: RecordKey,
        value: Bytes,
        options: &QueryOptions,
    ) -> Result<(Publish, Option<Done>), QueryError> {
        let (cx, date, publisher) = (with.cx, with.cx.date, Some(*with.cx.peers.local.peer()));
        let limit = cx.config.record.max_value_len;
        if value.len() > limit {
            return Err(QueryError::InvalidValue(InvalidValue::TooLarge { limit }));
        }
        let mut own = own_value(date, &key, &value);
        own.publisher = publisher;
        own.expires = options.expires_in.map(|time| date + time.max(MIN_LIFETIME));
        let own = with.store_ops.checked(date, own).map_err(QueryError::InvalidValue)?;
        let mut sent = Value::new(key.clone(), value);
        (sent.publisher, sent.age, sent.received) = (publisher, Some(Duration::ZERO), Some(date));
        sent.ttl = Some(own.ends(date + cx.config.record.value_ttl).since(date).max(MIN_LIFETIME));
        let local =
            if options.not_kept { Some(Ok(OpOutput::Nothing)) } else { with.store_ops.put(date, with.waiter, own) };
        Ok((Publish::new(&cx, key, What::Value(sent), options), local))
    }

    /// Starts a provide, of a server or a client (rule A9). Returns the result of this node's store too, if it is there
    /// at once.
    ///
    /// # Errors
    ///
    /// [`QueryError::NoOwnAddress`] (rule A42).
    pub(crate) fn provide(
        mut with: QueryStart<'_>,
        key: RecordKey,
        options: &QueryOptions,
    ) -> Result<(Publish, Option<Done>), QueryError> {
        let local = &with.cx.peers.local;
        if !local.has_addrs() {
            return Err(QueryError::NoOwnAddress);
        }
        let record = own_provider(local, &key);
        let publish = Publish::new(&with.cx, key, What::Provider, options);
        let done = match publish.kept {
            true => with.run(Op::AddProvider(Box::new(record), None)),
            false => Some(Ok(OpOutput::Nothing)),
        };
        Ok((publish, done))
    }

    fn new(cx: &Context<'_>, key: RecordKey, what: What, options: &QueryOptions) -> Publish {
        let quorum = cx.quorum(options.quorum.unwrap_or(cx.config.record.write_quorum), options);
        let only = options.only.as_ref().map(|only| cx.contacts(only));
        let kept = !options.not_kept || matches!(what, What::Provider) && only.is_none();
        let batched = options.batched && kept && only.is_none() && cx.config.announces();
        let paths = options.paths;
        Publish { key, what, quorum, paths, only, kept, batched, refused: None, lookup: None, delivery: None }
    }

    /// The record as this node keeps it.
    pub(crate) fn item(&self, now: Timestamp, local: &Arc<Contact>) -> Item {
        match &self.what {
            What::Value(value) => Item::Value(own_value(now, &value.key, &value.value)),
            What::Provider => Item::Provider(own_provider(local, &self.key)),
        }
    }

    /// Whether this publishes the record `record`.
    pub(crate) fn publishes(&self, record: &RecordId) -> bool {
        self.target() == record.place && matches!(self.what, What::Provider) == record.provider
    }

    /// Whether it looks up its key.
    pub(crate) fn looks_up(&self) -> bool {
        self.only.is_none() && !self.batched
    }

    /// The record, if the upkeep announces it.
    pub(crate) fn batched(&self) -> Option<RecordId> {
        let provider = matches!(self.what, What::Provider);
        self.batched.then(|| RecordId { place: self.target(), provider })
    }

    /// The result of an announcement by the upkeep.
    pub(crate) fn announced(&self, cx: &Context<'_>, outcome: &AnnouncementOutcome) -> Result<Answer, QueryError> {
        let (wanted, reached) = (self.quorum, outcome.took.len());
        let report = Report { acknowledged: outcome.took.clone(), ..Report::default() };
        if reached >= wanted.get() && outcome.newer.is_none() {
            return Ok(Answer::Published(report.into()));
        }
        if cx.peers.table.len() == 0 {
            return Err(QueryError::NoPeers);
        }
        let best = outcome.newer.clone().map(Box::new);
        Err(QueryError::QuorumMissed { wanted, reached, best, holders: Vec::new(), report: Box::new(report) })
    }

    pub(crate) fn unasked(&self) -> usize {
        match (&self.lookup, &self.delivery) {
            (Some(lookup), _) => lookup.unasked(),
            (None, Some(delivery)) => delivery.unasked(),
            (None, None) => 0,
        }
    }

    pub(crate) fn on_local(&mut self, cx: &Context<'_>, kept: Done) {
        // The store may have answered late, and the node may have lost its addresses since.
        let unreachable = matches!(self.what, What::Provider) && !cx.peers.local.has_addrs();
        match kept {
            Ok(_) if unreachable => self.refused = Some(QueryError::NoOwnAddress),
            Ok(_) if self.batched => {}
            Ok(_) => {
                let wanted = self.only.as_ref().map_or(cx.replication(), Vec::len);
                let delivery = self.delivery.insert(Delivery::new(self.message(cx), wanted));
                match &self.only {
                    Some(only) => delivery.rank(only.iter().cloned()),
                    None => self.lookup = Some(cx.lookup(self.target(), wanted, self.paths)),
                }
            }
            Err(why) => self.refused = Some(why.into()),
        }
    }

    pub(crate) fn next(&mut self, cx: &Context<'_>, report: &mut Report) -> Step {
        if let Some(why) = self.refused.take() {
            return Step::Finish(Err(why));
        }
        let Some(delivery) = &mut self.delivery else { return Step::Wait };
        if let Some(lookup) = &mut self.lookup {
            match lookup_step(lookup, LOOKUP, || find_node(&self.key.to_shared())) {
                Some(Step::Wait) => {
                    delivery.rank(lookup.settled());
                    return delivery.next().unwrap_or(Step::Wait);
                }
                Some(step) => return step,
                None if lookup.closest().is_empty() => return Step::Finish(Err(unanswered(report))),
                None => delivery.rank(lookup.ranked()),
            }
            self.lookup = None;
        }
        loop {
            match delivery.next() {
                Some(step) => return step,
                None if delivery.replace_refusals() => {}
                None if delivery.is_done() => break,
                None => return Step::Wait,
            }
        }
        let reached = delivery.conclude(cx, report);
        if reached < self.quorum.get() {
            let (wanted, report) = (self.quorum, take(report));
            let missed = QueryError::QuorumMissed { wanted, reached, best: None, holders: Vec::new(), report };
            return Step::Finish(Err(missed));
        }
        Step::Finish(Ok(Answer::Published(std::mem::take(report).into())))
    }

    pub(crate) fn on_answer(&mut self, from: &Arc<Contact>, tag: Tag) {
        if let Some(delivery) = self.delivery(tag) {
            delivery.on_answer(from);
        }
    }

    /// The lookup that a request belongs to, unless it has ended.
    pub(crate) fn lookup(&mut self, tag: Tag) -> Option<&mut Lookup> {
        if tag == LOOKUP { self.lookup.as_mut() } else { None }
    }

    /// The delivery that a request belongs to.
    pub(crate) fn delivery(&mut self, tag: Tag) -> Option<&mut Delivery> {
        if tag == DELIVERY { self.delivery.as_mut() } else { None }
    }

    pub(crate) fn on_failure(&mut self, from: &Arc<Contact>, tag: Tag, why: RequestError) {
        // A peer that refuses a value may know a better one.
        let refuses = matches!(self.what, What::Value(_)) && why == RequestError::Refused;
        match self.delivery(tag) {
            Some(delivery) if refuses => delivery.on_refusal(from),
            Some(delivery) => delivery.on_failure(from),
            None => {}
        }
    }

    /// The query's time is up. The peers that have acknowledged by now may be enough for the quorum.
    pub(crate) fn expire(&mut self, cx: &Context<'_>, report: &mut Report) -> Option<Result<Answer, QueryError>> {
        let reached = self.delivery.as_mut()?.conclude(cx, report);
        (reached >= self.quorum.get()).then(|| Ok(Answer::Published(std::mem::take(report).into())))
    }

    fn target(&self) -> Key {
        self.key.key()
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
}

fn own_value(now: Timestamp, key: &RecordKey, value: &Bytes) -> Record {
    let mut record = Record::new(key.clone(), value.clone(), now);
    (record.own, record.put) = (true, Some(now));
    record
}

/// Own provider records do not expire: they end when the application stops providing.
fn own_provider(local: &Arc<Contact>, key: &RecordKey) -> ProviderRecord {
    let mut record = ProviderRecord::new(key.clone(), Arc::clone(local), Timestamp::MAX, Timestamp::MAX);
    record.own = true;
    record
}
