//! From an operation to the machine that carries it out.
//!
//! Knows: what each operation needs at its start, of its caller and of the store. Must not know: how it goes on.

use std::sync::Arc;

use bytes::Bytes;
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng as _;

use super::config::{Config, MAX_KEY_LEN, MAX_PROVIDER_KEY_LEN};
use super::error::QueryError;
use super::io::{Operation, QueryId, QueryOptions};
use super::key::Key;
use super::message::Value;
use super::peers::Peers;
use super::query::{Bootstrap, Context, Find, FindProviders, GetValue, Machine, Publish, Query};
use super::record::{ProviderRecord, Record, RecordKey};
use super::storage::{Asker, Now, Storage};
use super::store::Scan;
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
) -> Result<(Query, Now), QueryError> {
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
            let local = storage.value(date, asker, &key);
            let target = key.key();
            (Machine::GetValue(Box::new(GetValue::new(&cx, key, options))), target, local)
        }
        Operation::Put { key, value } => {
            check_key(key.as_bytes(), MAX_KEY_LEN)?;
            let limit = cx.config.record.max_value_len;
            if value.len() > limit {
                return Err(QueryError::InvalidValue(InvalidValue::TooLarge { limit }));
            }
            let local = storage.keep_value(date, asker, own_value(date, peers, &key, &value));
            let (target, sent) = (key.key(), sent_value(date, cx.config, peers, key, value));
            (Machine::Publish(Publish::value(&cx, sent, options)), target, local)
        }
        Operation::Provide { key } => {
            check_key(key.as_bytes(), MAX_PROVIDER_KEY_LEN)?;
            if !peers.local.has_addrs() {
                return Err(QueryError::NoOwnAddress);
            }
            let local = storage.keep_provider(date, asker, own_provider(peers, &key));
            let target = key.key();
            (Machine::Publish(Publish::provider(&cx, key, options)), target, local)
        }
        Operation::Providers { key } => {
            check_key(key.as_bytes(), MAX_PROVIDER_KEY_LEN)?;
            let local = storage.providers(date, asker, &key);
            let target = key.key();
            (Machine::Providers(FindProviders::new(&cx, key, options)), target, local)
        }
        Operation::Bootstrap => (join(&cx, rng), *peers.local.key(), None),
        Operation::Remove { key } => here(key.key(), storage.forget_value(date, asker, &key)),
        Operation::StopProviding { key } => {
            here(key.key(), storage.forget_provider(date, asker, &key, peers.local.peer()))
        }
        Operation::Records { after, limit } => {
            here(*peers.local.key(), storage.items(asker, Scan::All, after.as_ref(), limit.get()))
        }
    };
    Ok((Query::new(machine, target, kind), local))
}

/// Nobody is asked but the own store.
fn here(target: Key, local: Now) -> (Machine, Key, Now) {
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
    record.own = true;
    record
}

fn sent_value(date: Timestamp, config: &Config, peers: &Peers, key: RecordKey, value: Bytes) -> Value {
    let mut sent = Value::new(key, value);
    sent.publisher = Some(*peers.local.peer());
    sent.ttl = Some(config.record.value_ttl);
    sent.received = Some(date);
    sent
}

/// Own provider records do not expire: they end when the application stops providing.
fn own_provider(peers: &Peers, key: &RecordKey) -> ProviderRecord {
    let mut record = ProviderRecord::new(key.clone(), Arc::clone(&peers.local), Timestamp::MAX, Timestamp::MAX);
    record.own = true;
    record
}
