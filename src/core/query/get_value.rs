//! Finds the best value under a key.
//!
//! The value that this node keeps counts as the first (rule L17); every further one is validated and compared (rules
//! L15 and L18). The query ends as soon as its quorum of peers holds a value (rule L14), or when the lookup ends if it
//! is thorough or finds too few. Along several disjoint paths it ends early only when each of them has led to a value,
//! so that no path decides alone. Unless the query is cancelled, the peers that lack the best value get it afterwards.
//!
//! A get that ends below its quorum fails, with the best value in the error, instead of passing that value off as
//! agreed upon.

use std::num::NonZeroUsize;
use std::sync::Arc;

use libp2p_identity::PeerId;

use super::correct::{FollowUp, Read};
use super::{Context, LOOKUP, Step, lookup_step, take, unanswered};
use crate::core::config::RecordConfig;
use crate::core::contact::Contact;
use crate::core::error::{QueryError, Report};
use crate::core::io::{self, Answer, QueryEvent, QueryOptions};
use crate::core::lookup::Lookup;
use crate::core::message::{Misbehaviour, Request, Response};
use crate::core::record::{Record, RecordKey};
use crate::core::store::{Done, OpOutput, StoreError};
use crate::core::store_ops::received;
use crate::core::time::Timestamp;
use crate::core::validate::Candidate;

#[derive(Clone, Debug)]
pub(crate) struct GetValue {
    key: RecordKey,
    pub(super) lookup: Lookup,
    quorum: NonZeroUsize,
    thorough: bool,
    /// The end of the read of this node's store; `None` before it.
    local: Option<Result<(), StoreError>>,
    /// Whether this node's store had a value.
    held_here: bool,
    best: Option<BestValue>,
    /// Number of nodes that hold a valid value, this one included.
    held: usize,
    /// The peers that held an older value than the best.
    outdated: Vec<Arc<Contact>>,
    /// The peers that answered without a value.
    missing: Vec<Arc<Contact>>,
    /// The peers that sent an invalid value.
    invalid: Vec<Arc<Contact>>,
    /// The work left to do once the result is reported.
    pub(crate) follow_up: Option<FollowUp>,
}

#[derive(Clone, Debug)]
struct BestValue {
    record: Record,
    /// The first peer that had it; `None` for this node.
    from: Option<PeerId>,
    holders: Vec<Arc<Contact>>,
    /// The peers that hold another value that is as good.
    equals: Vec<Arc<Contact>>,
    /// The latest time of expiry that a holder names; `None` if no holder names one.
    expires: Option<Timestamp>,
    /// The time of expiry that the application sees: not one that only this node's own rule sets for a copy that it
    /// keeps, and none for an own value, which this node keeps alive.
    reported_expires: Option<Timestamp>,
}

impl BestValue {
    /// The value as the application sees it.
    fn reported(&self) -> Record {
        Record { expires: self.reported_expires, ..self.record.clone() }
    }
}

impl GetValue {
    /// The caller reads the store for `key` and reports by `on_local`, unless the options name the peers to ask.
    pub(crate) fn new(cx: &Context<'_>, key: RecordKey, options: &QueryOptions) -> GetValue {
        let lookup = cx.lookup_for(key.key(), options);
        GetValue {
            key,
            local: lookup.is_closed().then_some(Ok(())),
            lookup,
            quorum: cx.quorum(options.quorum.unwrap_or(cx.config.record.read_quorum), options),
            thorough: options.thorough,
            held_here: false,
            best: None,
            held: 0,
            outdated: Vec::new(),
            missing: Vec::new(),
            invalid: Vec::new(),
            follow_up: None,
        }
    }

    pub(crate) fn on_local(&mut self, cx: &Context<'_>, done: Done, out: &mut Vec<QueryEvent>) {
        // If the own store fails, the peers can still answer.
        self.local = Some(done.as_ref().map(|_| ()).map_err(|why| *why));
        if let Ok(OpOutput::Value(Some(record))) = done {
            self.held += 1;
            self.held_here = true;
            // The lifetime of the copies of an own value began when this node last sent them out.
            let expires = if record.own { record.claim(cx.config.record.value_ttl) } else { record.expires };
            let reported_expires = if record.claimed { record.expires } else { None };
            let (holders, equals) = (Vec::new(), Vec::new());
            let best = BestValue { record, from: None, holders, equals, expires, reported_expires };
            out.push(QueryEvent::Value(best.reported()));
            self.best = Some(best);
        }
    }

    pub(crate) fn next(&mut self, cx: &Context<'_>, report: &mut Report) -> Step {
        if self.local.is_none() {
            return Step::Wait;
        }
        if self.is_enough() && !self.thorough {
            return Step::Finish(self.finish(cx, report));
        }
        let key = &self.key;
        match lookup_step(&mut self.lookup, LOOKUP, || Request::GetValue { key: key.clone() }) {
            Some(step) => step,
            None => Step::Finish(self.finish(cx, report)),
        }
    }

    pub(crate) fn on_answer(
        &mut self,
        cx: &Context<'_>,
        from: &Arc<Contact>,
        response: &mut Response,
        out: &mut Vec<QueryEvent>,
    ) -> Result<(), Misbehaviour> {
        let Response::GetValue { value, .. } = response else { return Err(Misbehaviour::WrongType) };
        self.invalid.retain(|peer| peer.peer() != from.peer());
        match value.take() {
            Some(value) => {
                let validator = &cx.config.record.validator;
                let valid = validator.validate(cx.date, &self.key, &value.value).map_err(|why| {
                    self.lookup.on_failure(from.key());
                    self.invalid.push(Arc::clone(from));
                    Misbehaviour::InvalidValue(why)
                })?;
                let mut record = received(cx.date, &cx.config.record, value);
                valid.note_on(&mut record);
                self.compare(&cx.config.record, record, from, out);
            }
            None => self.missing.push(Arc::clone(from)),
        }
        Ok(())
    }

    /// The query's time is up. A thorough get may have found its quorum of holders long before.
    pub(crate) fn expire(&mut self, cx: &Context<'_>, report: &mut Report) -> Option<Result<Answer, QueryError>> {
        (self.best.is_some() && self.reached() >= self.quorum.get()).then(|| self.finish(cx, report))
    }

    /// The best value so far.
    pub(crate) fn best(&self) -> Option<Record> {
        self.best.as_ref().map(BestValue::reported)
    }

    pub(crate) fn take_best(&mut self, cx: &Context<'_>) -> Option<Record> {
        self.conclude(cx).map(|best| best.reported())
    }

    /// Number of holders that count for the quorum. Along several paths, many holders that one path led to are no
    /// quorum: while fewer paths have led to one than the quorum asks for, each counts for one.
    fn reached(&self) -> usize {
        let Some((led, all)) = self.paths() else { return self.held };
        let independent = led + usize::from(self.held_here);
        if independent < self.quorum.get().min(all) { independent } else { self.held }
    }

    fn is_enough(&self) -> bool {
        self.reached() >= self.quorum.get() && self.paths().is_none_or(|(led, all)| led == all)
    }

    /// Along several paths, how many of them have led to a value, and how many there are.
    fn paths(&self) -> Option<(usize, usize)> {
        let best = self.best.iter().flat_map(|best| best.holders.iter().chain(&best.equals));
        self.lookup.paths_to(best.chain(&self.outdated))
    }

    fn compare(&mut self, config: &RecordConfig, record: Record, from: &Arc<Contact>, out: &mut Vec<QueryEvent>) {
        self.held += 1;
        let validator = &config.validator;
        let expires = if record.claimed { record.expires } else { None };
        let Some(best) = &mut self.best else {
            return self.prefer(record, expires, from, out);
        };
        if validator.same(&self.key, &best.record.value, &record.value) {
            if record.value.len() < best.record.value.len() {
                best.record.value = record.value;
            }
            best.holders.push(Arc::clone(from));
            best.record.put = best.record.put.max(record.put);
            best.expires = best.expires.max(expires);
            if !best.record.own {
                best.reported_expires = best.reported_expires.max(expires);
            }
            best.record.expires = best.record.expires.map(|at| expires.map_or(at, |expires| at.max(expires)));
            return;
        }
        let old = Candidate::of(&best.record, record.received, config.value_ttl);
        let new = Candidate::of(&record, record.received, config.value_ttl);
        if validator.select(&self.key, &[old, new]) == 1 {
            self.prefer(record, expires, from, out);
        } else if validator.select(&self.key, &[new, old]) == 1 {
            self.outdated.push(Arc::clone(from));
        } else {
            best.equals.push(Arc::clone(from));
        }
    }

    /// This value is better than all before it.
    fn prefer(&mut self, record: Record, expires: Option<Timestamp>, from: &Arc<Contact>, out: &mut Vec<QueryEvent>) {
        let (from, holders) = (Some(*from.peer()), vec![Arc::clone(from)]);
        let best = BestValue { record, from, holders, equals: Vec::new(), expires, reported_expires: expires };
        out.push(QueryEvent::Value(best.reported()));
        if let Some(mut old) = self.best.replace(best) {
            self.outdated.append(&mut old.holders);
            self.outdated.append(&mut old.equals);
        }
    }

    /// Takes the best value, and plans who gets it now.
    fn conclude(&mut self, cx: &Context<'_>) -> Option<BestValue> {
        let best = self.best.take()?;
        let read = Read {
            lookup: &self.lookup,
            best: &best.record,
            expires: best.expires,
            missing: &self.missing,
            outdated: &self.outdated,
            invalid: &self.invalid,
            lacked_here: best.from.is_some() && self.local == Some(Ok(())),
            older_here: best.from.is_some() && self.held_here,
        };
        // Peers that the application named say nothing about what the k closest hold.
        self.follow_up = (!self.lookup.is_closed()).then(|| FollowUp::of(cx, &read));
        Some(best)
    }

    fn finish(&mut self, cx: &Context<'_>, report: &mut Report) -> Result<Answer, QueryError> {
        let reached = self.reached();
        match self.conclude(cx) {
            Some(best) if reached >= self.quorum.get() => {
                let (corrected, cached) = match &self.follow_up {
                    Some(follow_up) => (peers(&follow_up.corrected), follow_up.cached.as_ref().map(|to| *to.peer())),
                    None => (Vec::new(), None),
                };
                Ok(Answer::Value(io::Found {
                    record: best.reported(),
                    from: best.from,
                    holders: peers(&best.holders),
                    outdated: peers(&self.outdated),
                    missing: peers(&self.missing),
                    corrected,
                    cached,
                    report: std::mem::take(report),
                }))
            }
            Some(best) => Err(QueryError::QuorumMissed {
                wanted: self.quorum,
                reached,
                best: Some(Box::new(best.reported())),
                holders: peers(&best.holders),
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

fn peers(contacts: &[Arc<Contact>]) -> Vec<PeerId> {
    contacts.iter().map(|contact| *contact.peer()).collect()
}
