//! The server side of the six RPCs: answers the requests of peers from the table and the store.
//!
//! Knows: the rules for each request, and which requests wait for the store. Must not know: streams, or the queries of
//! this node. A request that breaks a rule is refused without an answer (rule A63).
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
use super::ip_group::IpGroup;
use super::key::Key;
use super::message::{Misbehaviour, Request, Response, Value};
use super::peers::Peers;
use super::peers::{AddrSource, MAX_FIRST_HAND};
use super::record::{ProviderRecord, Record, RecordKey};
use super::shuffle::shuffle;
use super::store::{Done, Op, OpOutput, StoreError};
use super::store_ops::{InboundTicket, StoreOps, Waiter, received};
use super::time::Timestamp;

/// The parts of the node that the server may use.
pub(crate) struct ServerContext<'a> {
    pub(crate) now: Timestamp,
    /// The host's date, which decides when records expire.
    pub(crate) date: Timestamp,
    pub(crate) config: &'a DhtConfig,
    pub(crate) peers: &'a mut Peers,
    pub(crate) store_ops: &'a mut StoreOps,
    pub(crate) rng: &'a mut ChaCha8Rng,
}

/// The reply to a request, and what follows from it.
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) reply: Reply,
    /// A report to the application.
    pub(crate) event: Option<Event>,
    /// A provider of the requested content whose addresses are no longer known.
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

/// The number of a peer's IP group, or the peer where groups do not count.
type Group = Result<u64, PeerId>;

/// A request that waits for the store.
#[derive(Debug)]
struct PendingRequest {
    from: PeerId,
    group: Group,
    /// The driver's id for it; `None` once the peer no longer waits.
    id: Option<InboundId>,
    request: StoreRequest,
}

/// A request that the store answers.
#[derive(Debug)]
enum StoreRequest {
    GetValue(RecordKey),
    PutValue(Value),
    GetProviders(RecordKey),
    AddProvider(ProviderRecord),
}

/// The requests of peers that wait for the store. A request whose peer is gone counts until the store has run its
/// operation, since it takes up the store until then.
///
/// A group is refused once as many of its requests wait as there are places left: one alone takes half of them, n take
/// n of n + 1 shares, so that one more always finds room. *Dropped:* refusing whoever comes once all places are taken, by
/// which a flood of one network leaves none to others; resetting a request of the heaviest group then, whose operation
/// the store runs all the same.
#[derive(Debug, Default)]
pub(crate) struct Server {
    next: InboundTicket,
    waiting: BTreeMap<InboundTicket, PendingRequest>,
    /// The requests whose peers still wait, by the driver's ids.
    by_id: BTreeMap<InboundId, InboundTicket>,
    per_peer: BTreeMap<PeerId, usize>,
    per_group: BTreeMap<Group, usize>,
}

impl Server {
    /// Answers a request of the peer `from`, whose key is `place`; `None` if the answer waits for the store. A ping is
    /// answered like the others (rule L39).
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
        let request = match request {
            Request::Ping => return Some(Served::answer(Response::Ping)),
            Request::FindNode { key } => return Some(find_node(cx, &place, &key)),
            Request::GetValue { key } => StoreRequest::GetValue(key),
            Request::PutValue { value } => StoreRequest::PutValue(value),
            Request::GetProviders { key } => StoreRequest::GetProviders(key),
            Request::AddProvider { key, providers } => match announced(cx, &from, &key, providers) {
                Ok(record) => StoreRequest::AddProvider(record),
                Err(why) => return Some(Served::refuse(why)),
            },
        };
        self.ask_store(cx, (from, place), id, request)
    }

    /// The store has run the operation for a request. Returns its id too if the peer still waits.
    pub(crate) fn on_done(
        &mut self,
        cx: &mut ServerContext<'_>,
        ticket: InboundTicket,
        done: Done,
    ) -> Option<(PeerId, Option<InboundId>, Served)> {
        let PendingRequest { from, id, request, .. } = self.forget(ticket)?;
        Some((from, id, serve(cx, (from, Key::from(&from)), request, done)))
    }

    /// The peer no longer waits.
    pub(crate) fn on_gone(&mut self, id: InboundId) {
        if let Some(waiting) = self.by_id.remove(&id).and_then(|ticket| self.waiting.get_mut(&ticket)) {
            waiting.id = None;
        }
    }

    fn forget(&mut self, ticket: InboundTicket) -> Option<PendingRequest> {
        let waiting = self.waiting.remove(&ticket)?;
        if let Some(id) = &waiting.id {
            self.by_id.remove(id);
        }
        count_less(&mut self.per_peer, &waiting.from);
        count_less(&mut self.per_group, &waiting.group);
        Some(waiting)
    }

    fn ask_store(
        &mut self,
        cx: &mut ServerContext<'_>,
        (from, place): (PeerId, Key),
        id: InboundId,
        request: StoreRequest,
    ) -> Option<Served> {
        let limit = &cx.config.limit;
        let of_peer = self.per_peer.get(&from).copied().unwrap_or(0);
        let group = cx.peers.table.seen_group(&from).map(IpGroup::id).ok_or(from);
        let of_group = self.per_group.get(&group).copied().unwrap_or(0);
        if of_group >= limit.inbound.saturating_sub(self.waiting.len()) || of_peer >= limit.inbound_per_peer {
            return Some(Served::refuse(Refusal::Busy));
        }
        let (date, ticket) = (cx.date, self.next);
        self.next = InboundTicket(ticket.0 + 1);
        let waiter = Waiter::Inbound(ticket);
        let sender = |key: &RecordKey| cx.peers.sender(&from, &place, &key.key(), cx.config.lookup.replication.get());
        let done = match &request {
            StoreRequest::GetValue(key) => cx.store_ops.run(date, waiter, Op::Get(key.clone())),
            StoreRequest::PutValue(value) => {
                let received = received(date, &cx.config.record, value.clone());
                match cx.store_ops.checked(date, received) {
                    Ok(record) => cx.store_ops.put_of_peer(date, waiter, record, sender(&value.key)),
                    Err(why) => return Some(Served::refuse(Misbehaviour::InvalidValue(why))),
                }
            }
            StoreRequest::GetProviders(key) => cx.store_ops.run(date, waiter, Op::Providers(key.clone())),
            StoreRequest::AddProvider(record) => {
                let sender = sender(&record.key);
                cx.store_ops.run(date, waiter, Op::AddProvider(Box::new(record.clone()), Some(sender)))
            }
        };
        match done {
            Some(done) => Some(serve(cx, (from, place), request, done)),
            None => {
                *self.per_peer.entry(from).or_default() += 1;
                *self.per_group.entry(group).or_default() += 1;
                self.by_id.insert(id, ticket);
                self.waiting.insert(ticket, PendingRequest { from, group, id: Some(id), request });
                None
            }
        }
    }
}

fn count_less<Of: Ord>(counts: &mut BTreeMap<Of, usize>, of: &Of) {
    if let Some(count) = counts.get_mut(of) {
        *count -= 1;
        if *count == 0 {
            counts.remove(of);
        }
    }
}

/// Checks that a key has a length that the specification allows (rule A43). The keys of providers are multihashes, of
/// which nothing else is checked (rules L21, L37, L38 and A62).
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

/// The k closest peers with addresses, without the peer that asks (rules L34, A28 and A29). If the target is the id of
/// a peer whose addresses are known, that peer comes first: be it this node itself, a client, or the peer that asks
/// (rule A38).
fn find_node(cx: &mut ServerContext<'_>, from: &Key, preimage: &Bytes) -> Served {
    let key = Key::hash(preimage);
    let mut closer = closest(cx, from, &key);
    if PeerId::from_bytes(preimage).is_ok()
        && let Some(target) = peer_with_addrs(cx.peers, &key)
    {
        closer.retain(|contact| *contact.key() != key);
        closer.insert(0, target);
    }
    Served::answer(Response::FindNode { closer })
}

fn peer_with_addrs(peers: &mut Peers, key: &Key) -> Option<Arc<Contact>> {
    let contact = if key == peers.local.key() { Some(Arc::clone(&peers.local)) } else { peers.contact_at(key) };
    if contact.is_some() {
        peers.book.on_used(key);
    }
    let contact = contact.filter(|contact| contact.has_addrs() && !peers.access.is_banned(key));
    contact.map(|contact| contact.at_most(MAX_FIRST_HAND))
}

/// The k closest peers to name in an answer: none that could not be reached since it last answered, although this node
/// itself gives those another chance (rule A30). They may be farther from the key than this node (rule A32).
fn closest(cx: &ServerContext<'_>, from: &Key, key: &Key) -> Vec<Arc<Contact>> {
    let count = cx.config.lookup.replication.get();
    cx.peers.table.closest(key, count, |key, entry| key != from && !entry.is_unreachable() && entry.contact.has_addrs())
}

/// The provider record that a peer announces for itself; records for other peers are ignored (rules L23 and A44).
/// Without an address that other peers can use, it is refused (rule A42).
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

/// The reply to a request for which the store has run its operation: the records found, with closer peers (rules L26,
/// L35, A50 and A55), the echo of a value (rule L36), or none to an announcement (rule A45).
fn serve(cx: &mut ServerContext<'_>, (from, place): (PeerId, Key), request: StoreRequest, done: Done) -> Served {
    match (request, done) {
        (StoreRequest::GetValue(key), Ok(OpOutput::Value(record))) => {
            let closer = closest(cx, &place, &key.key());
            let value = record.map(|record| as_sent(cx.date, record));
            Served::answer(Response::GetValue { key, value, closer })
        }
        (StoreRequest::GetProviders(key), Ok(OpOutput::Providers(records))) => {
            let closer = closest(cx, &place, &key.key());
            let banned = |record: &ProviderRecord| cx.peers.access.is_banned(record.provider.key());
            let records = records.into_iter().filter(|record| !banned(record));
            let providers = records.map(|record| as_reachable(cx.peers, record));
            let (mut providers, mut lost): (Vec<_>, Vec<_>) = providers.partition(|provider| provider.has_addrs());
            // A message may be too small for a long list, and the peer that asks may stop at the first.
            shuffle(&mut providers, cx.rng);
            shuffle(&mut lost, cx.rng);
            let lost = lost.first().map(|provider| *provider.peer());
            Served { lost, ..Served::answer(Response::GetProviders { key, providers, closer }) }
        }
        (StoreRequest::PutValue(value), Ok(OpOutput::Kept { .. })) => {
            let event = Event::RecordStored { key: value.key.clone(), from };
            let echo = Value { publisher: None, ttl: None, age: None, received: Some(cx.date), ..value };
            Served { event: Some(event), ..Served::answer(Response::PutValue { value: echo }) }
        }
        (StoreRequest::AddProvider(record), Ok(OpOutput::Kept { .. })) => {
            let event = Event::ProviderStored { key: record.key, provider: from };
            Served { event: Some(event), reply: Reply::Nothing, lost: None }
        }
        (_, Err(why)) => Served::refuse(why),
        // The result of another operation: no store returns it.
        _ => Served::refuse(StoreError::Failed),
    }
}

/// A provider as an answer names it: first the addresses known now, then those that it announced.
fn as_reachable(peers: &Peers, record: ProviderRecord) -> Arc<Contact> {
    match record.provider {
        _ if record.own => Arc::clone(&peers.local),
        provider => peers.with_current_addrs(&peers.filtered(&provider)),
    }
}

/// A value as an answer contains it, with the lifetime that remains.
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
