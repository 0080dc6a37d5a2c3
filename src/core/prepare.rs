//! From an operation to the machine that carries it out.
//!
//! Knows: what each operation needs at its start, of its caller and of the store. Must not know: how it goes on.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng as _;

use super::config::{MAX_KEY_LEN, MAX_PROVIDER_KEY_LEN};
use super::error::QueryError;
use super::io::{Operation, QueryId, QueryOptions};
use super::key::Key;
use super::message::Value;
use super::peers::Peers;
use super::query::{Bootstrap, Context, Find, FindProviders, GetValue, Machine, Publish, Query};
use super::record::{ProviderRecord, Record, RecordKey};
use super::storage::{Asker, Storage};
use super::store::{Done, Found, Op, Scan};
use super::time::Timestamp;
use super::validate::InvalidValue;

/// What a start may use.
pub(crate) struct Preparing<'a> {
    pub(crate) cx: Context<'a>,
    pub(crate) storage: &'a mut Storage,
    pub(crate) rng: &'a mut ChaCha8Rng,
}

/// Builds the machine for an operation, and asks the store what the operation needs of it; the answer is there at
/// once or comes later.
///
/// # Errors
///
/// What the caller did wrong.
pub(crate) fn prepare(
    with: Preparing<'_>,
    id: QueryId,
    operation: Operation,
    options: &QueryOptions,
) -> Result<(Query, Option<Done>), QueryError> {
    let Preparing { cx, storage, rng } = with;
    let (date, peers, asker) = (cx.date, cx.peers, Asker::Query(id));
    let kind = operation.kind();
    let (machine, target, local) = match operation {
        Operation::ClosestPeers { key } => {
            check_key(&key, MAX_KEY_LEN)?;
            let target = Key::hash(&key);
            (Machine::Find(Find::closest(&cx, key, options, rng)?), target, None)
        }
        Operation::FindPeer { peer } => (Machine::Find(Find::peer(&cx, peer, options)), Key::from(&peer), None),
        Operation::Get { key } => {
            check_key(key.as_bytes(), MAX_KEY_LEN)?;
            let local = storage.run(date, asker, Op::Get(key.clone()));
            let target = key.key();
            (Machine::GetValue(Box::new(GetValue::new(&cx, key, options))), target, local)
        }
        Operation::Put { key, value } => {
            check_key(key.as_bytes(), MAX_KEY_LEN)?;
            let limit = cx.config.record.max_value_len;
            if value.len() > limit {
                return Err(QueryError::InvalidValue(InvalidValue::TooLarge { limit }));
            }
            let mut own = own_value(date, peers, &key, &value);
            // A lifetime travels in whole seconds, and none at all means the longest.
            own.expires = options.expires_in.map(|time| date + time.max(Duration::from_secs(1)));
            let own = storage.checked(date, own).map_err(QueryError::InvalidValue)?;
            let mut sent = sent_value(date, peers, key.clone(), value);
            sent.ttl = Some(own.ends(date + cx.config.record.value_ttl).since(date).max(Duration::from_secs(1)));
            let local = if options.not_kept { Some(Ok(Found::Nothing)) } else { storage.put(date, asker, own) };
            let target = key.key();
            (Machine::Publish(Publish::value(&cx, sent, options)), target, local)
        }
        Operation::Provide { key } => {
            check_key(key.as_bytes(), MAX_PROVIDER_KEY_LEN)?;
            if !peers.local.has_addrs() {
                return Err(QueryError::NoOwnAddress);
            }
            let local = storage.run(date, asker, Op::AddProvider(Box::new(own_provider(peers, &key)), None));
            let target = key.key();
            (Machine::Publish(Publish::provider(&cx, key, options)), target, local)
        }
        Operation::Providers { key } => {
            check_key(key.as_bytes(), MAX_PROVIDER_KEY_LEN)?;
            let local = storage.run(date, asker, Op::Providers(key.clone()));
            let target = key.key();
            (Machine::Providers(FindProviders::new(&cx, key, options, ChaCha8Rng::from_rng(rng))), target, local)
        }
        Operation::Bootstrap => (join(&cx, rng), *peers.local.key(), None),
        Operation::Remove { key } => here(key.key(), storage.run(date, asker, Op::Remove(key))),
        Operation::StopProviding { key } => {
            here(key.key(), storage.run(date, asker, Op::RemoveProvider(key, *peers.local.peer())))
        }
        Operation::Records { after, limit } => {
            let op = Op::Scan { what: Scan::All, after, limit: limit.get() };
            here(*peers.local.key(), storage.run(date, asker, op))
        }
    };
    Ok((Query::new(machine, target, kind), local))
}

/// Nobody is asked but the own store.
fn here(target: Key, local: Option<Done>) -> (Machine, Key, Option<Done>) {
    (Machine::Local(None), target, local)
}

pub(crate) fn join(cx: &Context<'_>, rng: &mut ChaCha8Rng) -> Machine {
    Machine::Bootstrap(Bootstrap::join(cx, ChaCha8Rng::from_rng(rng)))
}

fn check_key(key: &[u8], max: usize) -> Result<(), QueryError> {
    let len = key.len();
    if (1..=max).contains(&len) { Ok(()) } else { Err(QueryError::InvalidKey { len, max }) }
}

fn own_value(date: Timestamp, peers: &Peers, key: &RecordKey, value: &Bytes) -> Record {
    let mut record = Record::new(key.clone(), value.clone(), date);
    record.publisher = Some(*peers.local.peer());
    (record.own, record.put) = (true, Some(date));
    record
}

fn sent_value(date: Timestamp, peers: &Peers, key: RecordKey, value: Bytes) -> Value {
    let mut sent = Value::new(key, value);
    sent.publisher = Some(*peers.local.peer());
    sent.age = Some(Duration::ZERO);
    sent.received = Some(date);
    sent
}

/// Own provider records do not expire: they end when the application stops providing.
fn own_provider(peers: &Peers, key: &RecordKey) -> ProviderRecord {
    let mut record = ProviderRecord::new(key.clone(), Arc::clone(&peers.local), Timestamp::MAX, Timestamp::MAX);
    record.own = true;
    record
}
