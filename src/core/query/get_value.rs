//! Find the best value under a key.
//!
//! The value kept here counts as the first; every further one is validated and compared. The query ends as soon as
//! as many peers hold a value as the quorum asks for, unless it is to be thorough, else when the walk ends. Along several
//! disjoint paths it ends early only when each of them has led to a value, so that no path decides alone. However it ends, other than by being cancelled, those who lack the best value get it afterwards.

use std::num::NonZeroUsize;
use std::sync::Arc;

use libp2p_identity::PeerId;

use super::correct::{FollowUp, Read};
use super::{Context, Step, take, unanswered, walk_on};
use crate::core::config::RecordConfig;
use crate::core::contact::Contact;
use crate::core::error::{QueryError, Report};
use crate::core::io::{self, Answer, QueryEvent, QueryOptions};
use crate::core::lookup::Lookup;
use crate::core::message::{Misbehaviour, Request, Response};
use crate::core::record::{Record, RecordKey};
use crate::core::requests::Tag;
use crate::core::storage::received;
use crate::core::store::{Done, Found, StoreError};
use crate::core::time::Timestamp;
use crate::core::validate::Candidate;

#[derive(Debug)]
pub(crate) struct GetValue {
    key: RecordKey,
    pub(super) lookup: Lookup,
    quorum: NonZeroUsize,
    thorough: bool,
    /// Whether the store has answered.
    local: Option<Result<(), StoreError>>,
    /// Whether it had a value.
    held_here: bool,
    best: Option<Best>,
    /// How many hold a valid value, this node included.
    held: usize,
    /// Those that held an older value than the best.
    outdated: Vec<Arc<Contact>>,
    /// Those that answered without a value.
    missing: Vec<Arc<Contact>>,
    /// Those that sent a value that is not valid.
    invalid: Vec<Arc<Contact>>,
    /// What is to be done once the result is told.
    pub(crate) follow_up: Option<FollowUp>,
}

#[derive(Debug)]
struct Best {
    record: Record,
    /// Who had it first; `None` for this node.
    from: Option<PeerId>,
    holders: Vec<Arc<Contact>>,
    /// Those that hold another value that is as good.
    equals: Vec<Arc<Contact>>,
    /// When it is over, by whoever says the latest; `None` while nobody does.
    over: Option<Timestamp>,
    /// The same as it is told: without what only this node's own rule says of a copy that it keeps, and none for an own
    /// value, which it keeps alive.
    said: Option<Timestamp>,
}

impl Best {
    fn told(&self) -> Record {
        Record { expires: self.said, ..self.record.clone() }
    }
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
        // A store that cannot tell is no reason not to ask others.
        self.local = Some(done.as_ref().map(|_| ()).map_err(|why| *why));
        if let Ok(Found::Value(Some(record))) = done {
            self.held += 1;
            self.held_here = true;
            // Copies of an own value live from when they were last sent out.
            let over = if record.own { record.claim(cx.config.record.value_ttl) } else { record.expires };
            let said = record.expires.filter(|_| record.claimed);
            let best = Best { record, from: None, holders: Vec::new(), equals: Vec::new(), over, said };
            out.push(QueryEvent::Value(best.told()));
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
        match walk_on(&mut self.lookup, Tag::default(), || Request::GetValue { key: key.clone() }) {
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

    /// The time is over: as many holders as were wanted may have been found by a get that asks everyone.
    pub(crate) fn expire(&mut self, cx: &Context<'_>, report: &mut Report) -> Option<Result<Answer, QueryError>> {
        (self.best.is_some() && self.reached() >= self.quorum.get()).then(|| self.finish(cx, report))
    }

    pub(crate) fn take_best(&mut self, cx: &Context<'_>) -> Option<Record> {
        self.conclude(cx).map(|best| best.told())
    }

    /// How many hold a value. Those that one of several paths led to are no quorum, however many they are.
    fn reached(&self) -> usize {
        match self.paths() {
            Some((led, all)) if led + usize::from(self.held_here) < self.quorum.get().min(all) => {
                led + usize::from(self.held_here)
            }
            _ => self.held,
        }
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
        let over = record.expires.filter(|_| record.claimed);
        let Some(best) = &mut self.best else {
            return self.prefer(record, over, from, out);
        };
        if validator.same(&self.key, &best.record.value, &record.value) {
            if record.value.len() < best.record.value.len() {
                best.record.value = record.value;
            }
            best.holders.push(Arc::clone(from));
            best.record.put = best.record.put.max(record.put);
            best.over = best.over.max(over);
            best.said = best.said.max(over.filter(|_| !best.record.own));
            best.record.expires = best.record.expires.map(|at| over.map_or(at, |over| at.max(over)));
            return;
        }
        let old = Candidate::of(&best.record, record.received, config.value_ttl);
        let new = Candidate::of(&record, record.received, config.value_ttl);
        if validator.select(&self.key, &[old, new]) == 1 {
            self.prefer(record, over, from, out);
        } else if validator.select(&self.key, &[new, old]) == 1 {
            self.outdated.push(Arc::clone(from));
        } else {
            best.equals.push(Arc::clone(from));
        }
    }

    /// This one is better than all before it.
    fn prefer(&mut self, record: Record, over: Option<Timestamp>, from: &Arc<Contact>, out: &mut Vec<QueryEvent>) {
        let holders = vec![Arc::clone(from)];
        let best = Best { record, from: Some(*from.peer()), holders, equals: Vec::new(), over, said: over };
        out.push(QueryEvent::Value(best.told()));
        if let Some(mut old) = self.best.replace(best) {
            self.outdated.append(&mut old.holders);
            self.outdated.append(&mut old.equals);
        }
    }

    /// The best value, and who is to get it now.
    fn conclude(&mut self, cx: &Context<'_>) -> Option<Best> {
        let best = self.best.take()?;
        self.follow_up = Some(FollowUp::of(
            cx,
            &Read {
                lookup: &self.lookup,
                best: &best.record,
                over: best.over,
                missing: &self.missing,
                outdated: &self.outdated,
                invalid: &self.invalid,
                lacked_here: best.from.is_some() && self.local == Some(Ok(())),
                older_here: best.from.is_some() && self.held_here,
            },
        ));
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
                    record: best.told(),
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
                best: Some(Box::new(best.told())),
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
