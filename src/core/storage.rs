//! The way to the store, for peers and for queries alike: validated, compared with what is kept, now or later.
//!
//! Knows: the store, the validator, and who waits for which ticket. Must not know: what a reply looks like or what a
//! query does next.
//!
//! A store may answer `Pending`; then the job waits here under the store's ticket and its outcome comes out of
//! [`Storage::on_stored`] or [`Storage::on_loaded`], with the name of whoever asked. While one write of a value is
//! pending, further ones under the same key queue behind it, removals too (`turns`).

mod marks;
#[cfg(test)]
mod tests;
mod turns;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use libp2p_identity::PeerId;
use marks::Mark;
use turns::{Line, Turn, Turns};

use super::config::RecordConfig;
use super::contact::Contact;
use super::error::QueryError;
use super::io::{QueryId, Refusal};
use super::message::{Misbehaviour, Value};
use super::record::{ProviderRecord, Record, RecordKey};
use super::store::{Item, Loaded, Read, Scan, Store, StoreError, Ticket, Write};
use super::time::Timestamp;
use super::validate::{Candidate, InvalidValue};

/// Names a peer's request that waits here. Never used twice, other than the driver's name for it: that is free again
/// once the peer is gone, while the store still works for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Visit(pub(crate) u64);

/// Who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asker {
    /// A peer.
    Inbound(Visit),
    /// A query of this node.
    Query(QueryId),
    /// A duty of this node.
    Duty(Duty),
    /// Nobody: what the application forgets, and the peers that are kept for the next start.
    Nobody,
    /// The start, which wants the peers back that were kept.
    Restore,
}

/// What reads records to see what is to be done about them. Each reads one page at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Duty {
    /// Announces again what this node published.
    Republish,
    /// The same of what could not be announced.
    Retry,
    /// Stores the values of others again.
    Replicate,
    /// Brings values to newcomers.
    Newcomers,
}

/// How a job ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// A value or a provider record is kept, or why it is not.
    Kept(Result<(), KeepError>),
    /// The value read.
    Value(Result<Option<Record>, StoreError>),
    /// The providers read.
    Providers(Result<Vec<ProviderRecord>, StoreError>),
    /// A page read.
    Items(Result<Vec<Item>, StoreError>),
    /// The peers read that were kept for this start.
    Peers(Result<Vec<Arc<Contact>>, StoreError>),
}

/// Why a record is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeepError {
    Invalid(InvalidValue),
    Old,
    Conflict,
    Store(StoreError),
}

impl From<KeepError> for QueryError {
    fn from(error: KeepError) -> QueryError {
        match error {
            KeepError::Invalid(why) => QueryError::InvalidValue(why),
            KeepError::Old => QueryError::OldValue,
            KeepError::Conflict => QueryError::Conflict,
            KeepError::Store(why) => QueryError::Store(why),
        }
    }
}

impl KeepError {
    /// Why a peer that asked for it is refused.
    pub(crate) fn refusal(self) -> Refusal {
        match self {
            KeepError::Invalid(why) => Refusal::Misbehaved(Misbehaviour::InvalidValue(why)),
            KeepError::Old => Refusal::OldValue,
            KeepError::Conflict => Refusal::Conflict,
            KeepError::Store(why) => Refusal::Store(why),
        }
    }
}

/// What waits for a ticket.
#[derive(Debug)]
enum Job {
    /// A read that decides whether this value may be written.
    Compare(Asker, Record),
    /// A read that decides the same where no value is kept, by the number of one that is over.
    Recall(Asker, Record),
    /// A write in whose line others may wait.
    InLine(Asker, Line),
    /// A write that nobody waits behind.
    Write(Asker),
    Value(Asker),
    Providers(Asker),
    Items(Asker),
    Peers(Asker),
}

/// Done at once, or later.
pub(crate) type Now = Option<Outcome>;

pub(crate) struct Storage {
    store: Box<dyn Store>,
    config: RecordConfig,
    /// Bounded: the server limits the jobs of peers, and no query starts while there are too many.
    waiting: BTreeMap<Ticket, Job>,
    /// Who waits behind a pending write. Bounded likewise.
    turns: Turns,
    /// Marks that wait for the store. Bounded by what the duties have under way; nobody is refused for them.
    marking: BTreeMap<Ticket, Mark>,
}

impl fmt::Debug for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Storage").field("usage", &self.store.usage()).field("waiting", &self.waiting).finish()
    }
}

impl Storage {
    pub(crate) fn new(store: Box<dyn Store>, config: RecordConfig) -> Storage {
        Storage { store, config, waiting: BTreeMap::new(), turns: Turns::default(), marking: BTreeMap::new() }
    }

    pub(crate) fn store(&mut self) -> &mut dyn Store {
        &mut *self.store
    }

    pub(crate) fn peek(&self) -> &dyn Store {
        &*self.store
    }

    /// How many jobs wait here, those included whose asker has given up.
    pub(crate) fn jobs(&self) -> usize {
        self.waiting.len() + self.turns.askers()
    }

    /// Keeps a value, if it is valid and none is kept that is better.
    pub(crate) fn keep_value(&mut self, now: Timestamp, asker: Asker, mut record: Record) -> Now {
        match self.config.validator.validate(now, &record.key, &record.value) {
            Ok(valid) => valid.note_on(&mut record),
            Err(why) => return Some(Outcome::Kept(Err(KeepError::Invalid(why)))),
        }
        self.enter(now, Line::value(&record.key), Turn::Keep(asker, record))
    }

    fn compare(&mut self, now: Timestamp, asker: Asker, record: Record) -> Now {
        match self.store.get(now, &record.key) {
            Ok(Read::Ready(None)) => self.recall(now, asker, record),
            Ok(Read::Ready(Some(old))) => self.write_value(now, asker, record, Some(old)),
            Ok(Read::Pending(ticket)) => self.wait(ticket, Job::Compare(asker, record)),
            Err(why) => Some(Outcome::Kept(Err(KeepError::Store(why)))),
        }
    }

    /// Keeps a value where none is kept, unless it is older than one that is over.
    fn recall(&mut self, now: Timestamp, asker: Asker, record: Record) -> Now {
        if record.sequence.is_none() {
            return self.write_value(now, asker, record, None);
        }
        match self.store.sequence(now, &record.key) {
            Ok(Read::Ready(remembered)) => self.write_unless_older(now, asker, record, remembered),
            Ok(Read::Pending(ticket)) => self.wait(ticket, Job::Recall(asker, record)),
            Err(why) => Some(Outcome::Kept(Err(KeepError::Store(why)))),
        }
    }

    fn write_unless_older(&mut self, now: Timestamp, asker: Asker, record: Record, remembered: Option<u64>) -> Now {
        if record.sequence < remembered {
            return Some(Outcome::Kept(Err(KeepError::Old)));
        }
        self.write_value(now, asker, record, None)
    }

    /// Keeps a provider record.
    pub(crate) fn keep_provider(&mut self, now: Timestamp, asker: Asker, record: ProviderRecord) -> Now {
        if record.own {
            return self.enter(now, Line::provider(&record.key), Turn::Provide(asker, record));
        }
        let write = self.store.add_provider(now, record);
        self.written(asker, write)
    }

    /// Reads a value; one that is expired is as good as none.
    pub(crate) fn value(&mut self, now: Timestamp, asker: Asker, key: &RecordKey) -> Now {
        match self.store.get(now, key) {
            Ok(Read::Ready(record)) => Some(Outcome::Value(Ok(record.filter(|record| !record.is_expired(now))))),
            Ok(Read::Pending(ticket)) => self.wait(ticket, Job::Value(asker)),
            Err(why) => Some(Outcome::Value(Err(why))),
        }
    }

    /// Reads the providers of a key.
    pub(crate) fn providers(&mut self, now: Timestamp, asker: Asker, key: &RecordKey) -> Now {
        match self.store.providers(now, key) {
            Ok(Read::Ready(records)) => Some(Outcome::Providers(Ok(records))),
            Ok(Read::Pending(ticket)) => self.wait(ticket, Job::Providers(asker)),
            Err(why) => Some(Outcome::Providers(Err(why))),
        }
    }

    /// Reads a page of all that is kept.
    pub(crate) fn items(&mut self, asker: Asker, what: Scan, after: Option<&super::key::Key>, limit: usize) -> Now {
        match self.store.scan(what, after, limit) {
            Ok(Read::Ready(items)) => Some(Outcome::Items(Ok(items))),
            Ok(Read::Pending(ticket)) => self.wait(ticket, Job::Items(asker)),
            Err(why) => Some(Outcome::Items(Err(why))),
        }
    }

    /// Keeps the peers of the table for the next start.
    pub(crate) fn save_peers(&mut self, peers: Vec<Arc<Contact>>) -> Result<(), StoreError> {
        let write = self.store.save_peers(peers)?;
        let _ = self.written(Asker::Nobody, Ok(write));
        Ok(())
    }

    /// Forgets a value at the application's word.
    pub(crate) fn forget_value(&mut self, now: Timestamp, asker: Asker, key: &RecordKey) -> Now {
        self.enter(now, Line::value(key), Turn::Forget(asker, key.clone()))
    }

    /// Reads the peers that were kept for this start.
    pub(crate) fn saved_peers(&mut self, asker: Asker) -> Now {
        match self.store.saved_peers() {
            Ok(Read::Ready(peers)) => Some(Outcome::Peers(Ok(peers))),
            Ok(Read::Pending(ticket)) => self.wait(ticket, Job::Peers(asker)),
            Err(why) => Some(Outcome::Peers(Err(why))),
        }
    }

    /// Forgets at the application's word that this node, `local`, provides `key`.
    pub(crate) fn forget_provider(&mut self, now: Timestamp, asker: Asker, key: &RecordKey, local: &PeerId) -> Now {
        self.enter(now, Line::provider(key), Turn::Withdraw(asker, key.clone(), *local))
    }

    /// The store finished a write.
    pub(crate) fn on_stored(
        &mut self,
        now: Timestamp,
        ticket: Ticket,
        result: Result<(), StoreError>,
    ) -> Vec<(Asker, Outcome)> {
        let outcome = Outcome::Kept(result.map_err(KeepError::Store));
        if let Some(mark) = self.marking.remove(&ticket) {
            return self.mark_stored(now, ticket, mark);
        }
        match self.waiting.remove(&ticket) {
            Some(Job::Write(asker)) => vec![(asker, outcome)],
            Some(Job::InLine(asker, line)) => self.next_in_line(now, &line, (asker, outcome)),
            Some(read) => {
                self.waiting.insert(ticket, read);
                Vec::new()
            }
            None => Vec::new(),
        }
    }

    /// The store finished a read.
    pub(crate) fn on_loaded(
        &mut self,
        now: Timestamp,
        ticket: Ticket,
        result: Result<Loaded, StoreError>,
    ) -> Vec<(Asker, Outcome)> {
        if let Some(mark) = self.marking.remove(&ticket) {
            return self.mark_loaded(now, ticket, mark, result);
        }
        match self.waiting.remove(&ticket) {
            Some(Job::Compare(asker, record)) => self.compared(now, asker, record, result),
            Some(Job::Recall(asker, record)) => self.recalled(now, asker, record, result),
            Some(Job::Value(asker)) => {
                let value = loaded_value(result).map(|record| record.filter(|record| !record.is_expired(now)));
                vec![(asker, Outcome::Value(value))]
            }
            Some(Job::Providers(asker)) => vec![(asker, Outcome::Providers(loaded_providers(result)))],
            Some(Job::Peers(asker)) => vec![(asker, Outcome::Peers(loaded_peers(result)))],
            Some(Job::Items(asker)) => vec![(asker, Outcome::Items(loaded_items(result)))],
            Some(write @ (Job::Write(_) | Job::InLine(..))) => {
                self.waiting.insert(ticket, write);
                Vec::new()
            }
            None => Vec::new(),
        }
    }

    fn compared(
        &mut self,
        now: Timestamp,
        asker: Asker,
        record: Record,
        result: Result<Loaded, StoreError>,
    ) -> Vec<(Asker, Outcome)> {
        let line = Line::value(&record.key);
        let outcome = match loaded_value(result).map(|old| old.filter(|old| !old.is_expired(now))) {
            Ok(Some(old)) => self.write_value(now, asker, record, Some(old)),
            Ok(None) => self.recall(now, asker, record),
            Err(why) => Some(Outcome::Kept(Err(KeepError::Store(why)))),
        };
        self.after(now, asker, &line, outcome)
    }

    fn recalled(
        &mut self,
        now: Timestamp,
        asker: Asker,
        record: Record,
        result: Result<Loaded, StoreError>,
    ) -> Vec<(Asker, Outcome)> {
        let line = Line::value(&record.key);
        let outcome = match loaded_sequence(result) {
            Ok(remembered) => self.write_unless_older(now, asker, record, remembered),
            Err(why) => Some(Outcome::Kept(Err(KeepError::Store(why)))),
        };
        self.after(now, asker, &line, outcome)
    }

    fn write_value(&mut self, now: Timestamp, asker: Asker, record: Record, old: Option<Record>) -> Now {
        if let Some(why) = old.as_ref().and_then(|old| self.objection(old, &record)) {
            return Some(Outcome::Kept(Err(why)));
        }
        let record = match old {
            Some(old) if self.is_same(&old, &record) => again(old, record),
            _ => record,
        };
        let line = Line::value(&record.key);
        let write = self.store.put(now, record);
        self.written_in_line(asker, line, write)
    }

    /// Why a new value may not take the place of the one that is kept.
    fn objection(&self, old: &Record, new: &Record) -> Option<KeepError> {
        let validator = &self.config.validator;
        if self.is_same(old, new) {
            return None;
        }
        if !validator.succeeds(&new.key, &old.value, &new.value) {
            return Some(KeepError::Conflict);
        }
        let candidate = |record| Candidate::of(record, self.config.value_ttl);
        let candidates = [candidate(new), candidate(old)];
        (validator.select(&new.key, &candidates) != 0).then_some(KeepError::Old)
    }

    fn is_same(&self, old: &Record, new: &Record) -> bool {
        self.config.validator.same(&new.key, &old.value, &new.value)
    }

    fn written_in_line(&mut self, asker: Asker, line: Line, write: Result<Write, StoreError>) -> Now {
        match write {
            Ok(Write::Pending(ticket)) => self.wait(ticket, Job::InLine(asker, line)),
            write => self.written(asker, write),
        }
    }

    fn written(&mut self, asker: Asker, write: Result<Write, StoreError>) -> Now {
        match write {
            Ok(Write::Kept) => Some(Outcome::Kept(Ok(()))),
            Ok(Write::Pending(ticket)) => self.wait(ticket, Job::Write(asker)),
            Err(why) => Some(Outcome::Kept(Err(KeepError::Store(why)))),
        }
    }

    fn wait(&mut self, ticket: Ticket, job: Job) -> Now {
        self.waiting.insert(ticket, job);
        None
    }
}

/// The very value that is kept, come again, perhaps written in another way: the shorter one stays. The publisher's own
/// copy stays as it is when a peer sends it back, and nobody can make a value end earlier by sending it with a short
/// lifetime, or put a name to what this node published.
fn again(old: Record, new: Record) -> Record {
    if new.own {
        return Record { announced: old.announced.max(new.announced), ..new };
    }
    if old.own {
        return Record { received: new.received, ..old };
    }
    let later = if old.expires > new.expires { &old } else { &new };
    let (expires, claimed) = (later.expires, later.claimed);
    let value = if new.value.len() < old.value.len() { new.value } else { old.value };
    Record { expires, claimed, value, ..new }
}

fn loaded_providers(result: Result<Loaded, StoreError>) -> Result<Vec<ProviderRecord>, StoreError> {
    match result? {
        Loaded::Providers(providers) => Ok(providers),
        _ => Err(StoreError::Failed),
    }
}

fn loaded_peers(result: Result<Loaded, StoreError>) -> Result<Vec<Arc<Contact>>, StoreError> {
    match result? {
        Loaded::Peers(peers) => Ok(peers),
        _ => Err(StoreError::Failed),
    }
}

fn loaded_items(result: Result<Loaded, StoreError>) -> Result<Vec<Item>, StoreError> {
    match result? {
        Loaded::Items(items) => Ok(items),
        _ => Err(StoreError::Failed),
    }
}

fn loaded_sequence(result: Result<Loaded, StoreError>) -> Result<Option<u64>, StoreError> {
    match result? {
        Loaded::Sequence(sequence) => Ok(sequence),
        _ => Err(StoreError::Failed),
    }
}

fn loaded_value(result: Result<Loaded, StoreError>) -> Result<Option<Record>, StoreError> {
    match result? {
        Loaded::Value(value) => Ok(value),
        _ => Err(StoreError::Failed),
    }
}

/// A value that came from a peer, as a record. Its lifetime is what the peer says, within the bound for values.
pub(crate) fn received(now: Timestamp, config: &RecordConfig, value: Value) -> Record {
    let ttl = value.ttl.map_or(config.value_ttl, |ttl| ttl.min(config.value_ttl));
    let mut record = Record::new(value.key, value.value, now);
    record.publisher = value.publisher;
    record.expires = Some(now + ttl);
    record.claimed = value.ttl.is_some();
    record
}
