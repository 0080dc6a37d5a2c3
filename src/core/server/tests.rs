use std::time::Duration;

use rand_core::SeedableRng as _;

use super::*;
use crate::core::config::DiversityConfig;
use crate::core::peers::AddrSource;
use crate::core::store::{Done, OpOutput, StoreError, Ticket};
use crate::core::{MemoryStore, MemoryStoreConfig, Timestamp};
use crate::testing::deferred::{DeferredControl, DeferredStore};

const NOW: Timestamp = Timestamp::from_secs(1_000);
const LATER: Timestamp = Timestamp::from_secs(2_000);

fn contact(port: u16) -> Arc<Contact> {
    Contact::new(PeerId::random(), [format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap()])
}

/// A server with the parts that it uses. The store finishes an operation when its control says so.
struct Rig {
    server: Server,
    config: DhtConfig,
    peers: Peers,
    store_ops: StoreOps,
    rng: ChaCha8Rng,
    _control: DeferredControl,
}

fn rig(inbound: usize, per_peer: usize) -> Rig {
    let mut config = DhtConfig::default();
    config.limit.inbound = inbound;
    config.limit.inbound_per_peer = per_peer;
    let (store, control) = DeferredStore::new(MemoryStore::new(MemoryStoreConfig::default(), [7; 32]));
    Rig {
        server: Server::default(),
        peers: Peers::new(contact(1), &config),
        store_ops: StoreOps::new(Box::new(store), config.record.clone()),
        config,
        rng: ChaCha8Rng::from_seed([1; 32]),
        _control: control,
    }
}

impl Rig {
    fn with<T>(&mut self, act: impl FnOnce(&mut Server, &mut ServerContext<'_>) -> T) -> T {
        let Rig { server, config, peers, store_ops, rng, .. } = self;
        act(server, &mut ServerContext { now: NOW, date: NOW, config, peers, store_ops, rng })
    }

    fn ask(&mut self, from: &PeerId, id: u64, request: Request) -> Option<Reply> {
        let waiter = (*from, Key::from(from));
        self.with(|server, cx| server.on_request(cx, waiter, InboundId::new(id), request)).map(|served| served.reply)
    }

    /// The store finishes the operation with this ticket.
    fn load(&mut self, ticket: u64, done: Done) -> Vec<(PeerId, Option<InboundId>, Served)> {
        let ends = self.store_ops.on_done(NOW, Ticket::new(ticket), done);
        let served = ends.into_iter().filter_map(|(waiter, done)| match waiter {
            Waiter::Inbound(ticket) => self.with(|server, cx| server.on_done(cx, ticket, done)),
            _ => None,
        });
        served.collect()
    }
}

fn get(key: &str) -> Request {
    Request::GetValue { key: RecordKey::from(key.as_bytes().to_vec()) }
}

#[test]
fn a_flood_reaches_the_bound_of_one_peer_and_of_all() {
    let mut rig = rig(10, 3);
    let (liar, others) = (PeerId::random(), (0..20).map(|_| PeerId::random()).collect::<Vec<_>>());
    let waiting = (0..100).filter(|i| rig.ask(&liar, *i, get("/a/b")).is_none()).count();
    assert_eq!(waiting, 3);
    let waiting = (0..20).filter(|i| rig.ask(&others[*i as usize], 100 + i, get("/a/b")).is_none()).count();
    assert_eq!(waiting, 7, "ten in all");
    assert_eq!(rig.store_ops.jobs(), 10);
}

/// Two networks flood with many ids, and a third one comes late.
#[test]
fn one_more_network_always_finds_room() {
    let mut rig = rig(100, 3);
    rig.config.routing.diversity = Some(DiversityConfig::default());
    rig.peers = Peers::new(contact(1), &rig.config);
    let ask = |rig: &mut Rig, network: u8, id: u64| {
        let peer = PeerId::random();
        rig.peers.table.on_connected(peer, Some(&format!("/ip4/185.{network}.0.1/tcp/1").parse().unwrap()));
        rig.ask(&peer, id, get("/a/b")).is_none()
    };
    let waiting = (0..200).filter(|id| ask(&mut rig, 8, *id)).count();
    assert_eq!(waiting, 50, "one network takes half");
    let waiting = (200..400).filter(|id| ask(&mut rig, 9, *id)).count();
    assert_eq!(waiting, 25, "and the next one half of the rest");
    assert!(ask(&mut rig, 11, 400));
    assert_eq!((0..76).flat_map(|ticket| rig.load(ticket, Ok(OpOutput::Value(None)))).count(), 76);
    assert!(rig.server.per_group.is_empty() && ask(&mut rig, 8, 401));
}

#[test]
fn a_peer_that_asks_and_goes_away_again_and_again_takes_no_more_than_its_share() {
    let mut rig = rig(10, 3);
    let peer = PeerId::random();
    let put = |i: u64| Request::PutValue { value: Value::new(format!("/a/{i}"), "v") };
    for i in 0..1_000 {
        let refused = rig.ask(&peer, i, put(i));
        assert_eq!(refused, (i >= 3).then_some(Reply::Reset(Refusal::Busy)), "{i}");
        rig.server.on_gone(InboundId::new(i));
    }
    assert_eq!(rig.store_ops.jobs(), 3);
    assert!(rig.server.by_id.is_empty());
    assert!(rig.load(0, Err(StoreError::Failed)).iter().all(|(_, id, _)| id.is_none()), "no peer waits");
    assert_eq!(rig.ask(&peer, 7, get("/a/b")), None, "there is room again");
}

#[test]
fn nothing_is_left_of_a_request_that_is_over() {
    let mut rig = rig(10, 3);
    let peer = PeerId::random();
    for i in 0..100 {
        assert_eq!(rig.ask(&peer, i, get("/a/b")), None);
        if i % 2 == 0 {
            rig.server.on_gone(InboundId::new(i));
            rig.server.on_gone(InboundId::new(i));
        }
        assert_eq!(rig.load(i, Ok(OpOutput::Value(None))).len(), 1);
        assert!(rig.load(i, Ok(OpOutput::Value(None))).is_empty(), "a ticket counts once");
    }
    let Server { waiting, by_id, per_peer, per_group, .. } = &rig.server;
    assert!(waiting.is_empty() && by_id.is_empty() && per_peer.is_empty() && per_group.is_empty());
}

#[test]
fn a_name_that_is_used_again_is_another_request() {
    let mut rig = rig(10, 3);
    let (first, second, id) = (PeerId::random(), PeerId::random(), InboundId::new(7));
    assert_eq!(rig.ask(&first, 7, get("/a/first")), None);
    rig.server.on_gone(id);
    assert_eq!(rig.ask(&second, 7, get("/a/second")), None);
    let record = Record::new("/a/first", "secret", NOW);
    let [(_, None, _)] = &rig.load(0, Ok(OpOutput::Value(Some(record))))[..] else { panic!("it is gone") };
    let [(to, Some(of), served)] = &rig.load(1, Ok(OpOutput::Value(None)))[..] else { panic!("it waits") };
    assert_eq!((*to, *of), (second, id));
    let answered = RecordKey::from("/a/second");
    assert_eq!(served.reply, Reply::Answer(Response::GetValue { key: answered, value: None, closer: vec![] }));
}

#[test]
fn a_store_that_answers_something_else_has_failed() {
    let mut rig = rig(10, 3);
    let peer = PeerId::random();
    assert_eq!(rig.ask(&peer, 0, get("/a/b")), None);
    let served = rig.load(0, Ok(OpOutput::Items(vec![])));
    assert_eq!(served[0].2.reply, Reply::Reset(Refusal::Store(StoreError::Failed)));
}

#[test]
fn answers_contain_the_lifetime_that_remains() {
    let mut record = Record::new("/a/b", "v", NOW);
    assert_eq!(as_sent(NOW, record.clone()).ttl, None);
    record.expires = Some(NOW + Duration::from_secs(60));
    let sent = as_sent(NOW + Duration::from_secs(45), record);
    assert_eq!((sent.ttl, sent.received), (Some(Duration::from_secs(15)), Some(NOW)));
}

#[test]
fn an_announcement_without_addresses_gets_those_that_are_known() {
    let mut rig = rig(10, 3);
    let (known, key) = (contact(7), RecordKey::from("content"));
    rig.peers.learn_addrs(NOW, &known, AddrSource::Hearsay);
    let bare = Contact::new(*known.peer(), []);
    let record = rig.with(|_, cx| announced(cx, known.peer(), &key, vec![contact(8), bare])).unwrap();
    assert_eq!(record.provider, known);
    let ttl = rig.config.record.provider_ttl;
    assert_eq!((record.expires, record.own), (NOW + ttl, false));
    let foreign = rig.with(|_, cx| announced(cx, &PeerId::random(), &key, vec![known.clone()]));
    assert_eq!(foreign.unwrap_err(), Refusal::Misbehaved(Misbehaviour::NotItsProvider));
}

#[test]
fn own_providers_are_handed_out_with_the_addresses_of_now() {
    let mut rig = rig(10, 3);
    let peer = PeerId::random();
    let key = RecordKey::from("content");
    assert_eq!(rig.ask(&peer, 0, Request::GetProviders { key: key.clone() }), None);
    let old = Contact::new(*rig.peers.local.peer(), ["/ip4/127.0.0.1/tcp/999".parse().unwrap()]);
    let mut own = ProviderRecord::new(key, old, Timestamp::MAX, Timestamp::MAX);
    own.own = true;
    let served = rig.load(0, Ok(OpOutput::Providers(vec![own])));
    let Reply::Answer(Response::GetProviders { providers, .. }) = &served[0].2.reply else { panic!("{served:?}") };
    assert_eq!(providers[..], [rig.peers.local.clone()]);
}

#[test]
fn all_closer_peers_have_addresses() {
    let mut rig = rig(10, 3);
    let bare = Contact::new(PeerId::random(), []);
    rig.peers.table.offer(NOW, &bare);
    for port in 10..40 {
        rig.peers.table.offer(NOW, &contact(port));
    }
    let key = Bytes::from(bare.peer().to_bytes());
    let Some(Reply::Answer(Response::FindNode { closer })) = rig.ask(&PeerId::random(), 0, Request::FindNode { key })
    else {
        panic!("it is answered at once")
    };
    assert_eq!(closer.len(), 20);
    assert!(closer.iter().all(|contact| contact.has_addrs()));
}

#[test]
fn providers_come_in_an_order_that_differs_each_time_and_that_the_seed_decides() {
    let key = RecordKey::from("content");
    let records: Vec<_> = (0..20).map(|n| ProviderRecord::new(key.clone(), contact(n + 100), LATER, LATER)).collect();
    let order = |rig: &mut Rig, ticket: u64| -> Vec<usize> {
        assert_eq!(rig.ask(&PeerId::random(), ticket, Request::GetProviders { key: key.clone() }), None);
        let served = rig.load(ticket, Ok(OpOutput::Providers(records.clone())));
        let Reply::Answer(Response::GetProviders { providers, .. }) = &served[0].2.reply else { panic!("{served:?}") };
        let place = |provider: &Arc<Contact>| records.iter().position(|record| record.provider == *provider).unwrap();
        providers.iter().map(place).collect()
    };
    let (mut one, mut other) = (rig(10, 3), rig(10, 3));
    let mut at_front = std::collections::BTreeSet::new();
    for ticket in 0..400 {
        let first = order(&mut one, ticket);
        assert_eq!(first, order(&mut other, ticket), "the same seed, the same order");
        assert_eq!(first.iter().collect::<std::collections::BTreeSet<_>>().len(), 20, "each once");
        at_front.insert(first[0]);
    }
    assert_eq!(at_front.len(), 20, "everyone comes first at times");
}

#[test]
fn a_provider_without_addresses_is_handed_out_with_those_that_are_known_of_it_or_not_at_all() {
    let mut rig = rig(10, 3);
    let key = RecordKey::from("content");
    let (known, announced, unknown) = (contact(7), contact(8), Contact::new(PeerId::random(), []));
    rig.peers.learn_addrs(NOW, &known, AddrSource::Hearsay);
    rig.peers.learn_addrs(
        NOW,
        &Contact::new(*announced.peer(), ["/ip4/127.0.0.1/tcp/9".parse().unwrap()]),
        AddrSource::Hearsay,
    );
    assert_eq!(rig.ask(&PeerId::random(), 0, Request::GetProviders { key: key.clone() }), None);
    let records = [Contact::new(*known.peer(), []), announced.clone(), unknown.clone()];
    let record = |contact| ProviderRecord::new(key.clone(), contact, LATER, LATER);
    let served = rig.load(0, Ok(OpOutput::Providers(records.map(record).to_vec())));
    let Reply::Answer(Response::GetProviders { providers, .. }) = &served[0].2.reply else { panic!("{served:?}") };
    let mut ports: Vec<_> = providers.iter().map(|provider| provider.addrs().next().map(|a| a.to_string())).collect();
    ports.sort();
    let port = |port: u16| Some(format!("/ip4/127.0.0.1/tcp/{port}"));
    assert_eq!(ports, [port(7), port(8)], "its own word comes first");
    assert_eq!(served[0].2.lost, Some(*unknown.peer()));
}
