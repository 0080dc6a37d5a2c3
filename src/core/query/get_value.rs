//! Find the best value under a key.
//!
//! The value kept here counts as the first; every further one is validated and compared. The query ends as soon as
//! as many peers hold a value as the quorum asks for, unless it is to be thorough, else when the walk ends.

use std::num::NonZeroUsize;
use std::sync::Arc;

use libp2p_identity::PeerId;

use super::{Context, Heard, Step, take, unanswered, walk_on};
use crate::core::contact::Contact;
use crate::core::error::{QueryError, Report};
use crate::core::io::{Answer, QueryEvent, QueryOptions};
use crate::core::lookup::{Lookup, Tardy};
use crate::core::message::{Misbehaviour, Request, Response};
use crate::core::record::{Record, RecordKey};
use crate::core::requests::Tag;
use crate::core::storage::received;
use crate::core::store::StoreError;
use crate::core::validate::{Candidate, Validator};

#[derive(Debug)]
pub(crate) struct GetValue {
    key: RecordKey,
    lookup: Lookup,
    quorum: NonZeroUsize,
    thorough: bool,
    /// Whether the store has answered.
    local: Option<Result<(), StoreError>>,
    best: Option<Best>,
    /// How many hold a valid value, this node included.
    held: usize,
    outdated: Vec<PeerId>,
}

#[derive(Debug)]
struct Best {
    record: Record,
    /// Who had it first; `None` for this node.
    from: Option<PeerId>,
    holders: Vec<PeerId>,
}

impl GetValue {
    /// The caller reads the store for `key` and reports by `on_local`.
    pub(crate) fn new(cx: &Context<'_>, key: RecordKey, options: &QueryOptions) -> GetValue {
        let quorum = options.quorum.unwrap_or(cx.config.record.read_quorum).of(cx.config.lookup.replication);
        let lookup = cx.walk(key.key(), cx.replication(), options.paths);
        GetValue {
            key,
            lookup,
            quorum,
            thorough: options.thorough,
            local: None,
            best: None,
            held: 0,
            outdated: Vec::new(),
        }
    }

    pub(crate) fn lookup(&self) -> &Lookup {
        &self.lookup
    }

    pub(crate) fn on_local(&mut self, value: Result<Option<Record>, StoreError>, out: &mut Vec<QueryEvent>) {
        // A store that cannot tell is no reason not to ask others.
        self.local = Some(value.as_ref().map(|_| ()).map_err(|why| *why));
        if let Ok(Some(record)) = value {
            self.held += 1;
            out.push(QueryEvent::Value(record.clone()));
            self.best = Some(Best { record, from: None, holders: Vec::new() });
        }
    }

    pub(crate) fn next(&mut self, _: &Context<'_>, report: &mut Report) -> Step {
        if self.local.is_none() {
            return Step::Wait;
        }
        if self.held >= self.quorum.get() && !self.thorough {
            return Step::Finish(self.finish(report));
        }
        let key = &self.key;
        match walk_on(&mut self.lookup, Tag::default(), || Request::GetValue { key: key.clone() }) {
            Some(step) => step,
            None => Step::Finish(self.finish(report)),
        }
    }

    pub(crate) fn on_answer(
        &mut self,
        cx: &Context<'_>,
        heard: Heard<'_>,
        out: &mut Vec<QueryEvent>,
    ) -> Result<usize, Misbehaviour> {
        let Response::GetValue { value, .. } = heard.response else { return Err(Misbehaviour::WrongType) };
        if let Some(value) = value {
            let validator = &cx.config.record.validator;
            if let Err(why) = validator.validate(cx.now, &self.key, &value.value) {
                self.lookup.on_failure(heard.from.key());
                return Err(Misbehaviour::InvalidValue(why));
            }
            let record = received(cx.now, &cx.config.record, value);
            self.compare(&**validator, record, *heard.from.peer(), out);
        }
        Ok(self.lookup.on_answer(heard.from.key(), heard.closer))
    }

    pub(crate) fn on_failure(&mut self, from: &Arc<Contact>) {
        self.lookup.on_failure(from.key());
    }

    pub(crate) fn on_tardy(&mut self, from: &Arc<Contact>, how: Tardy) {
        self.lookup.on_tardy(from.key(), how);
    }

    /// The time is over: as many holders as were wanted may have been found by a get that asks everyone.
    pub(crate) fn expire(&mut self, report: &mut Report) -> Option<Result<Answer, QueryError>> {
        (self.best.is_some() && self.held >= self.quorum.get()).then(|| self.finish(report))
    }

    pub(crate) fn take_best(&mut self) -> Option<Record> {
        self.best.take().map(|best| best.record)
    }

    fn compare(&mut self, validator: &dyn Validator, record: Record, from: PeerId, out: &mut Vec<QueryEvent>) {
        self.held += 1;
        let Some(best) = &mut self.best else {
            out.push(QueryEvent::Value(record.clone()));
            self.best = Some(Best { record, from: Some(from), holders: vec![from] });
            return;
        };
        if best.record.value == record.value {
            best.holders.push(from);
            return;
        }
        let candidate = |record: &Record| record.expires;
        let old = Candidate::new(&best.record.value, candidate(&best.record));
        let new = Candidate::new(&record.value, candidate(&record));
        if validator.select(&self.key, &[old, new]) == 1 {
            out.push(QueryEvent::Value(record.clone()));
            self.outdated.append(&mut best.holders);
            *best = Best { record, from: Some(from), holders: vec![from] };
        } else {
            self.outdated.push(from);
        }
    }

    fn finish(&mut self, report: &mut Report) -> Result<Answer, QueryError> {
        match self.best.take() {
            Some(best) if self.held >= self.quorum.get() => Ok(Answer::Value {
                record: best.record,
                from: best.from,
                holders: best.holders,
                outdated: std::mem::take(&mut self.outdated),
                report: std::mem::take(report),
            }),
            Some(best) => Err(QueryError::QuorumMissed {
                wanted: self.quorum,
                reached: self.held,
                best: Some(Box::new(best.record)),
                report: take(report),
            }),
            None if report.answers > 0 => Err(QueryError::NotFound(take(report))),
            None => match self.local {
                Some(Err(why)) if report.requests == 0 => Err(QueryError::Store(why)),
                _ => Err(unanswered(report)),
            },
        }
    }
}
