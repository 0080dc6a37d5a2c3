//! What peers ask us: the server side of the six RPCs, answered from the table and the store.
//!
//! Knows: the rules for each request, and which of them wait for the store. Must not know: streams, or the queries of
//! this node. A request that breaks a rule is refused without an answer (specification, A63).
//!
//! Providers are handed out in random order, because a long list does not fit into a message and readers stop at a
//! limit. A provider record without addresses gets those that this node knows.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use libp2p_identity::PeerId;
use rand_chacha::ChaCha8Rng;

use super::config::{DhtConfig, MAX_KEY_LEN, MAX_PROVIDER_KEY_LEN};
use super::contact::Contact;
use super::io::{Event, InboundId, Refusal, Reply};
use super::key::Key;
use super::message::{Misbehaviour, Request, Response, Value};
use super::peers::Peers;
use super::peers::{AddrSource, MAX_FIRST_HAND};
use super::record::{ProviderRecord, Record, RecordKey};
use super::shuffle::shuffle;
use super::storage::{Asker, Storage, Visit, received};
use super::store::{Done, Found, Op, StoreError};
use super::time::Timestamp;

/// What the server may use.
pub(crate) struct ServerContext<'a> {
    pub(crate) now: Timestamp,
    /// The host's date, by which records live.
    pub(crate) date: Timestamp,
    pub(crate) config: &'a DhtConfig,
    pub(crate) peers: &'a mut Peers,
    pub(crate) storage: &'a mut Storage,
    pub(crate) rng: &'a mut ChaCha8Rng,
}

/// The end of a request, and what it means for the application.
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) reply: Reply,
    pub(crate) event: Option<Event>,
    /// A provider that was asked for and of which no address is known any more.
    pub(crate) lost: Option<PeerId>,
}

impl Served {
    fn answer(response: Response) -> Served {
        Served { reply: Reply::Answer(response), event: None, lost: None }
    }

    pub(crate) fn refuse(why: impl Into<Refusal>) -> Served {
        Served { reply: Reply::Reset(why.into()), event: None, lost: None }
    }
}

/// A request that waits for the store.
#[derive(Debug)]
struct Waiting {
    from: PeerId,
    /// The driver's name for it; `None` once the peer no longer waits.
    id: Option<InboundId>,
    asked: Asked,
}

#[derive(Debug)]
enum Asked {
    Value(RecordKey),
    Put(Value),
    Providers(RecordKey),
    Announce(RecordKey),
}

/// The requests of peers for which the store works. Those of peers that are gone count until the store is done with
/// them: what they cost is there until then.
#[derive(Debug, Default)]
pub(crate) struct Server {
    next: Visit,
    waiting: BTreeMap<Visit, Waiting>,
    /// Those whose peers wait, by the driver's names.
    by_id: BTreeMap<InboundId, Visit>,
    per_peer: BTreeMap<PeerId, usize>,
}

impl Server {
    /// A peer asks, whose place in the keyspace is `place`. `None` if the answer waits for the store.
    pub(crate) fn on_request(
        &mut self,
        cx: &mut ServerContext<'_>,
        (from, place): (PeerId, Key),
        id: InboundId,
        request: Request,
    ) -> Option<Served> {
        if let Err(why) = check_key(&request) {
            return Some(Served::refuse(why));
        }
        let asked = match request {
            Request::Ping => return Some(Served::answer(Response::Ping)),
            Request::FindNode { key } => return Some(find_node(cx, &place, &key)),
            Request::GetValue { key } => Asked::Value(key),
            Request::PutValue { value } => Asked::Put(value),
            Request::GetProviders { key } => Asked::Providers(key),
            Request::AddProvider { key, providers } => {
                return match announced(cx, &from, &key, providers) {
                    Ok(record) => self.ask_store(cx, (from, place), id, Asked::Announce(key), Some(record)),
                    Err(why) => Some(Served::refuse(why)),
                };
            }
        };
        self.ask_store(cx, (from, place), id, asked, None)
    }

    /// The store did what a request waited for. Names the request if its peer still waits.
    pub(crate) fn on_done(
        &mut self,
        cx: &mut ServerContext<'_>,
        visit: Visit,
        done: Done,
    ) -> Option<(PeerId, Option<InboundId>, Served)> {
        let Waiting { from, id, asked } = self.forget(visit)?;
        Some((from, id, serve(cx, (from, Key::from(&from)), asked, done)))
    }

    /// The peer no longer waits.
    pub(crate) fn on_gone(&mut self, id: InboundId) {
        if let Some(waiting) = self.by_id.remove(&id).and_then(|visit| self.waiting.get_mut(&visit)) {
            waiting.id = None;
        }
    }

    fn forget(&mut self, visit: Visit) -> Option<Waiting> {
        let waiting = self.waiting.remove(&visit)?;
        if let Some(id) = &waiting.id {
            self.by_id.remove(id);
        }
        if let Some(count) = self.per_peer.get_mut(&waiting.from) {
            *count -= 1;
            if *count == 0 {
                self.per_peer.remove(&waiting.from);
            }
        }
        Some(waiting)
    }

    fn ask_store(
        &mut self,
        cx: &mut ServerContext<'_>,
        (from, place): (PeerId, Key),
        id: InboundId,
        asked: Asked,
        record: Option<ProviderRecord>,
    ) -> Option<Served> {
        let limit = &cx.config.limit;
        let of_peer = self.per_peer.get(&from).copied().unwrap_or(0);
        if self.waiting.len() >= limit.inbound || of_peer >= limit.inbound_per_peer {
            return Some(Served::refuse(Refusal::Busy));
        }
        let (date, visit) = (cx.date, self.next);
        self.next = Visit(visit.0 + 1);
        let asker = Asker::Inbound(visit);
        let sender = |key: &RecordKey| cx.peers.sender(&from, &place, &key.key(), cx.config.lookup.replication.get());
        let done = match (&asked, record) {
            (Asked::Value(key), _) => cx.storage.run(date, asker, Op::Get(key.clone())),
            (Asked::Put(value), _) => {
                let received = received(date, &cx.config.record, value.clone());
                match cx.storage.checked(date, received) {
                    Ok(record) => cx.storage.put_of_peer(date, asker, record, sender(&value.key)),
                    Err(why) => return Some(Served::refuse(Misbehaviour::InvalidValue(why))),
                }
            }
            (Asked::Providers(key), _) => cx.storage.run(date, asker, Op::Providers(key.clone())),
            (Asked::Announce(key), Some(record)) => {
                cx.storage.run(date, asker, Op::AddProvider(Box::new(record), Some(sender(key))))
            }
            (Asked::Announce(_), None) => return Some(Served::refuse(Misbehaviour::NotItsProvider)),
        };
        match done {
            Some(done) => Some(serve(cx, (from, place), asked, done)),
            None => {
                *self.per_peer.entry(from).or_default() += 1;
                self.by_id.insert(id, visit);
                self.waiting.insert(visit, Waiting { from, id: Some(id), asked });
                None
            }
        }
    }
}

/// Keys have the length that the specification allows for them.
fn check_key(request: &Request) -> Result<(), Misbehaviour> {
    let (len, max) = match request {
        Request::Ping => return Ok(()),
        Request::FindNode { key } => (key.len(), MAX_KEY_LEN),
        Request::GetValue { key } => (key.as_bytes().len(), MAX_KEY_LEN),
        Request::PutValue { value } => (value.key.as_bytes().len(), MAX_KEY_LEN),
        Request::GetProviders { key } | Request::AddProvider { key, .. } => {
            (key.as_bytes().len(), MAX_PROVIDER_KEY_LEN)
        }
    };
    if (1..=max).contains(&len) { Ok(()) } else { Err(Misbehaviour::BadKey) }
}

/// The k closest with addresses, without whoever asks, and first of all the very peer that is asked for, where its
/// addresses are known: this node itself, a client, whoever asks (A38).
fn find_node(cx: &mut ServerContext<'_>, from: &Key, preimage: &Bytes) -> Served {
    let mut closer = closest(cx, from, &Key::hash(preimage));
    if let Some(target) = PeerId::from_bytes(preimage).ok().and_then(|peer| wanted(cx.peers, &peer)) {
        closer.retain(|contact| contact.peer() != target.peer());
        closer.insert(0, target);
    }
    Served::answer(Response::FindNode { closer })
}

fn wanted(peers: &mut Peers, peer: &PeerId) -> Option<Arc<Contact>> {
    let contact = if peer == peers.local.peer() { Some(Arc::clone(&peers.local)) } else { peers.contact(peer) };
    if let Some(contact) = &contact {
        peers.book.on_used(contact.key());
    }
    contact.filter(|contact| contact.has_addrs()).map(|contact| contact.at_most(MAX_FIRST_HAND))
}

/// Peers worth handing out (rule A30): none that could not be connected to since it last answered, although the node
/// itself gives those another chance.
fn closest(cx: &ServerContext<'_>, from: &Key, key: &Key) -> Vec<Arc<Contact>> {
    let count = cx.config.lookup.replication.get();
    cx.peers.table.closest(key, count, |key, entry| key != from && !entry.is_unreachable() && entry.contact.has_addrs())
}

/// What a peer announces of itself; what it says of others is ignored. Without an address that can be handed out nobody
/// could make use of it (rule A42).
fn announced(
    cx: &mut ServerContext<'_>,
    from: &PeerId,
    key: &RecordKey,
    providers: Vec<Arc<Contact>>,
) -> Result<ProviderRecord, Refusal> {
    let named = providers.into_iter().find(|provider| provider.peer() == from).ok_or(Misbehaviour::NotItsProvider)?;
    if named.has_addrs() && cx.peers.is_connected(named.key()) {
        cx.peers.learn_addrs(cx.now, &named, AddrSource::PeerList);
    }
    let provider = cx.peers.with_current_addrs(&named);
    if !provider.has_addrs() {
        return Err(Refusal::NoAddress);
    }
    let record = &cx.config.record;
    Ok(ProviderRecord::new(key.clone(), provider, cx.date + record.provider_ttl, cx.date + record.provider_addr_ttl))
}

/// The answer, once the store has spoken.
fn serve(cx: &mut ServerContext<'_>, (from, place): (PeerId, Key), asked: Asked, done: Done) -> Served {
    match (asked, done) {
        (Asked::Value(key), Ok(Found::Value(record))) => {
            let closer = closest(cx, &place, &key.key());
            let value = record.map(|record| as_sent(cx.date, record));
            Served::answer(Response::GetValue { key, value, closer })
        }
        (Asked::Providers(key), Ok(Found::Providers(records))) => {
            let closer = closest(cx, &place, &key.key());
            let providers = records.into_iter().map(|record| as_reachable(cx.peers, record));
            let (mut providers, mut lost): (Vec<_>, Vec<_>) = providers.partition(|provider| provider.has_addrs());
            // Not all of a long list fit into a message, and whoever asks may stop at the first.
            shuffle(&mut providers, cx.rng);
            shuffle(&mut lost, cx.rng);
            let lost = lost.first().map(|provider| *provider.peer());
            Served { lost, ..Served::answer(Response::GetProviders { key, providers, closer }) }
        }
        (Asked::Put(value), Ok(Found::Kept { .. })) => {
            let event = Event::RecordStored { key: value.key.clone(), from };
            let echo = Value { publisher: None, ttl: None, age: None, received: Some(cx.date), ..value };
            Served { event: Some(event), ..Served::answer(Response::PutValue { value: echo }) }
        }
        (Asked::Announce(key), Ok(Found::Kept { .. })) => {
            Served { event: Some(Event::ProviderStored { key, provider: from }), reply: Reply::Nothing, lost: None }
        }
        (_, Err(why)) => Served::refuse(why),
        // The answer to something else than was asked: no store gives it.
        _ => Served::refuse(StoreError::Failed),
    }
}

/// A provider as it is handed out: where it is known to be now, then with what it announced.
fn as_reachable(peers: &Peers, record: ProviderRecord) -> Arc<Contact> {
    match record.provider {
        _ if record.own => Arc::clone(&peers.local),
        provider => peers.with_current_addrs(&peers.filtered(&provider)),
    }
}

/// A value as it is handed out, with the lifetime that remains.
fn as_sent(now: Timestamp, record: Record) -> Value {
    let age = record.age(now);
    Value {
        key: record.key,
        value: record.value,
        publisher: record.publisher,
        ttl: record.expires.map(|at| at.since(now)),
        age,
        received: Some(record.received),
    }
}
