//! One node, with every input given by the test.

use std::num::NonZeroUsize;

use super::*;
use crate::core::address_policy::AddressPolicy;
use crate::core::announcement::RefreshTarget;
use crate::core::config::DiversityConfig;
use crate::core::maintain::Run;
use crate::core::message::{DialCause, Unreachable};
use crate::core::store_ops::Duty;
use crate::core::{MemoryStore, MemoryStoreConfig};

const NOW: Timestamp = Timestamp::from_secs(1);

fn node(change: impl FnOnce(&mut DhtConfig)) -> Dht {
    let mut config = DhtConfig::default();
    change(&mut config);
    let store = Box::new(MemoryStore::new(MemoryStoreConfig::default(), [1; 32]));
    Dht::new(NOW, contact(0, |_| true), store, [1; 32], Arc::new(config)).unwrap()
}

/// At most one peer of each group, in a bucket, in the table and in an answer.
fn one_of_each_group() -> Option<DiversityConfig> {
    let one = NonZeroUsize::MIN;
    Some(DiversityConfig { per_answer: one, per_bucket: one, per_table: one, ..DiversityConfig::default() })
}

/// A peer of this IP group, whose key fits.
fn contact(group: usize, place: impl Fn(&Key) -> bool) -> Arc<Contact> {
    let addr = format!("/ip4/20.{group}.0.1/tcp/1").parse().unwrap();
    let peer = std::iter::repeat_with(PeerId::random).find(|peer| place(&Key::from(peer))).unwrap();
    Contact::new(peer, [addr])
}

/// A table of two neighbours, of groups 1 and 2, beside a full bucket with two entries, of groups 3 and 4, in which two
/// peers wait, of groups 5 and 6. Returns those of the bucket.
fn crowd(dht: &mut Dht) -> Vec<Arc<Contact>> {
    let local = *dht.local().key();
    let bits = [1, 2, 0, 0, 0, 0].into_iter().enumerate();
    let peers: Vec<_> = bits.map(|(i, bits)| contact(i + 1, |key| key.common_prefix_len(&local) == bits)).collect();
    peers.iter().for_each(|peer| dht.admit_verified(NOW, peer));
    assert_eq!((dht.peers.table.len(), dht.routing_snapshot().buckets[0].waiting), (4, 2));
    while dht.poll_output().is_some() {}
    peers[2..].to_vec()
}

fn asked(dht: &mut Dht) -> Vec<PeerId> {
    let outputs = std::iter::from_fn(|| dht.poll_output());
    let asked = outputs.filter_map(|output| match output {
        Output::Send { to, .. } => Some(*to.peer()),
        _ => None,
    });
    asked.collect()
}

/// Of two peers that dial each other at the same time both may fail, on one connection that both believe to have
/// dialled.
#[test]
fn of_two_that_dial_each_other_at_once_one_dials_again_and_once() {
    for lower in [true, false] {
        let mut dht = node(|_| ());
        let local = *dht.local().key();
        let contact = contact(1, |key| (local < *key) == lower);
        dht.handle_input(NOW, Input::AddPeer(Arc::clone(&contact)));
        let mut dials = 0;
        while let Some(output) = dht.poll_output() {
            let Output::Send { to, id, .. } = output else { continue };
            dials += 1;
            let (peer, cause) = (*to.peer(), DialCause::Unknown);
            let addrs = to.addrs().map(|addr| (addr, cause)).collect();
            dht.handle_input(NOW, Input::DialFailed { peer, addrs });
            let result = Err(Unreachable::DialFailed(cause).into());
            dht.handle_input(NOW, Input::Response { id, result });
        }
        assert_eq!(dials, if lower { 2 } else { 1 });
    }
}

#[test]
fn where_the_first_that_waits_may_not_have_the_place_the_next_is_tried() {
    let mut dht = node(|config| {
        config.routing.bucket_size = NonZeroUsize::new(2).unwrap();
        config.routing.diversity = one_of_each_group();
    });
    let peers = crowd(&mut dht);
    let local = *dht.local().key();
    let rival = contact(6, |key| key.common_prefix_len(&local) == 3);
    dht.admit_verified(NOW, &rival);
    assert!(dht.peers.table.get(rival.key()).is_some());
    dht.handle_input(NOW, Input::Connected { peer: *peers[0].peer(), outbound_addr: None, inbound_addr: None });
    dht.handle_input(NOW, Input::Serves { peer: *peers[0].peer(), yes: false });
    assert_eq!(asked(&mut dht), [*peers[2].peer()], "there is one of the other's group");
}

#[test]
fn a_peer_at_the_nodes_own_address_leaves_its_place_to_one_that_waits() {
    let mut dht = node(|config| {
        config.routing.bucket_size = NonZeroUsize::new(2).unwrap();
        config.address_policy = AddressPolicy::Public;
    });
    let peers = crowd(&mut dht);
    dht.handle_input(NOW, Input::LocalAddrs(peers[0].addrs().collect()));
    assert!(dht.peers.table.get(peers[0].key()).is_none());
    assert_eq!(asked(&mut dht), [*peers[3].peer()]);
}

/// Two entries of a full public bucket, whose first addresses are relayed ones.
fn relayed() -> (Dht, Vec<Arc<Contact>>, Vec<multiaddr::Multiaddr>) {
    let mut dht = node(|config| {
        config.address_policy = AddressPolicy::Public;
        config.routing.bucket_size = NonZeroUsize::new(2).unwrap();
    });
    let entries = crowd(&mut dht)[..2].to_vec();
    let relay = PeerId::random();
    let relays = entries.iter().zip(1..).map(|(_, n)| format!("/ip4/30.{n}.0.1/tcp/1/p2p/{relay}/p2p-circuit"));
    let relays = relays.map(|addr| addr.parse().unwrap()).collect();
    (dht, entries, relays)
}

#[test]
fn a_peer_that_announces_only_relays_leaves_its_place_to_one_that_waits() {
    let (mut dht, entries, relays) = relayed();
    let peer = *entries[0].peer();
    dht.handle_input(NOW, Input::Connected { peer, outbound_addr: None, inbound_addr: entries[0].addrs().next() });
    let request = Request::AddProvider { key: "key".into(), providers: vec![Contact::new(peer, [relays[0].clone()])] };
    assert!(dht.peers.table.get(entries[0].key()).is_some());
    dht.handle_input(NOW, Input::Request { from: peer, id: InboundId::new(1), request });
    assert!(dht.peers.table.get(entries[0].key()).is_none(), "it needs a relay");
    assert_eq!(asked(&mut dht).len(), 1, "one that waits");
}

#[test]
fn a_peer_with_only_a_relay_when_it_answers_leaves_its_place_and_its_bucket_is_challenged_again() {
    let (mut dht, entries, relays) = relayed();
    let later = NOW + Duration::from_secs(60);
    let (entry, other) = (&entries[0], &entries[1]);
    let (peer, direct) = (*entry.peer(), entry.addrs().next().unwrap());
    let (both, addrs) =
        (entry.with_multiaddrs([direct.clone(), relays[0].clone()]), vec![(direct, DialCause::WrongPeer)]);
    dht.handle_input(NOW, Input::AddPeer(both));
    dht.on_sign_of_life(later, other.key());
    dht.challenge(later, entry.key(), false);
    assert!(dht.peers.table.is_challenged(entry.key()));
    let sent = std::iter::from_fn(|| dht.poll_output()).find_map(|output| match output {
        Output::Send { to, id, .. } if *to.peer() == peer => Some(id),
        _ => None,
    });
    dht.handle_input(later, Input::Connected { peer, outbound_addr: None, inbound_addr: None });
    dht.handle_input(later, Input::DialFailed { peer, addrs });
    assert!(dht.peers.table.get(entry.key()).is_some(), "it is connected");
    let result = Ok(Response::FindNode { closer: Vec::new() });
    dht.handle_input(later, Input::Response { id: sent.unwrap(), result });
    assert!(dht.peers.table.get(entry.key()).is_none(), "it needs a relay");
    assert!(!dht.peers.table.is_challenged(entry.key()));
}

#[test]
fn a_query_that_yields_gives_way_only_where_there_is_no_room() {
    let mut dht = node(|config| config.limit.queries = 2);
    let mut insert = |yields: bool| {
        let id = dht.pool.next_id();
        let mut query = RunningQuery::new(Machine::Local(None), Key::hash(b"x"), QueryKind::Records);
        (query.by_app, query.yields) = (false, yields);
        dht.pool.insert(NOW, id, Duration::from_secs(10), query);
        id
    };
    let (correction, run) = (insert(true), insert(false));
    dht.upkeep.running.insert(run, Run { duty: Duty::Republish, started: NOW });
    dht.make_way();
    assert!(dht.pool.get_mut(correction).is_some(), "runs of the upkeep do not count");
    dht.upkeep.running.remove(&run);
    dht.make_way();
    assert!(dht.pool.get_mut(correction).is_none());
}

#[test]
fn of_one_group_those_are_asked_that_are_nearest_to_where_the_walk_leads() {
    let mut dht = node(|config| config.routing.diversity = one_of_each_group());
    dht.admit_verified(NOW, &contact(2, |_| true));
    dht.look_into(NOW, RefreshTarget::Bucket(0));
    let sent = std::iter::from_fn(|| dht.poll_output()).find_map(|output| match output {
        Output::Send { id, request: Request::FindNode { key }, .. } => Some((id, Key::hash(&key))),
        _ => None,
    });
    let ((id, target), local) = (sent.unwrap(), *dht.local().key());
    let there = contact(3, |key| key.common_prefix_len(&target) > 0);
    let here = contact(3, |key| key.common_prefix_len(&local) > 0);
    let closer = vec![here, Arc::clone(&there)];
    dht.handle_input(NOW, Input::Response { id, result: Ok(Response::FindNode { closer }) });
    assert_eq!(asked(&mut dht), [*there.peer()]);
}

#[test]
fn hearsay_keeps_no_peer_out_of_the_table() {
    let mut dht = node(|config| {
        config.routing.diversity = one_of_each_group();
        config.address_policy = AddressPolicy::Public;
    });
    let (boot, crowding) = (contact(1, |_| true), contact(2, |_| true));
    [&boot, &crowding].into_iter().for_each(|peer| dht.admit_verified(NOW, peer));
    let honest = contact(3, |_| true);
    let other = contact(4, |_| true);
    let named = honest.with_multiaddrs([&honest, &crowding, &other].into_iter().flat_map(|peer| peer.addrs()));
    let operation = Operation::ClosestPeers { key: honest.peer().to_bytes().into() };
    dht.start(NOW, operation, QueryOptions::default()).unwrap();
    while let Some(output) = dht.poll_output() {
        let Output::Send { to, id, .. } = output else { continue };
        let closer = if to.peer() == honest.peer() {
            let outbound_addr = honest.addrs().next();
            dht.handle_input(NOW, Input::Connected { peer: *to.peer(), outbound_addr, inbound_addr: None });
            Vec::new()
        } else {
            vec![Arc::clone(&named)]
        };
        dht.handle_input(NOW, Input::Response { id, result: Ok(Response::FindNode { closer }) });
    }
    assert_eq!(dht.peers.table.get(honest.key()).map(|entry| &entry.contact), Some(&honest));
    assert!(dht.peers.has_place_for(NOW, &other), "nor are others");
}

#[test]
fn a_dead_peer_that_was_named_is_not_dialled_in_every_lookup() {
    // Refresh lookups have pauses of their own, and try every peer that was named.
    let mut dht = node(|config| config.maintenance.refresh_interval = None);
    (0..3).for_each(|group| dht.admit_verified(NOW, &contact(group, |_| true)));
    let dead = contact(9, |_| true);
    dht.handle_input(NOW, Input::AddPeer(Arc::clone(&dead)));
    let mut dials = 0;
    for second in (0..200).step_by(10) {
        let now = NOW + Duration::from_secs(second);
        dht.handle_input(now, Input::Timeout);
        let key = Bytes::copy_from_slice(&second.to_be_bytes());
        dht.start(now, Operation::ClosestPeers { key }, QueryOptions::default()).unwrap();
        while let Some(output) = dht.poll_output() {
            let Output::Send { to, id, .. } = output else { continue };
            let result = match to.peer() == dead.peer() {
                true => Err(RequestError::Unreachable(Unreachable::DialFailed(DialCause::Refused))),
                false => Ok(Response::FindNode { closer: Vec::new() }),
            };
            dials += u32::from(result.is_err());
            dht.handle_input(now, Input::Response { id, result });
        }
    }
    assert!(
        (5..=6).contains(&dials),
        "{dials}: by its trial, and whenever its back-off of 5, 10, 20 s and so on has expired"
    );
    let now = NOW + Duration::from_secs(200);
    assert!(dht.peers.back_offs.is_held_back(now, &dead));
    dht.handle_input(now, Input::AddPeer(Arc::clone(&dead)));
    assert!(!dht.peers.back_offs.is_held_back(now, &dead), "named again");
}

#[test]
fn a_named_peer_that_failed_and_then_calls_and_answers_is_left_alone_no_longer() {
    let mut dht = node(|config| config.maintenance.refresh_interval = None);
    let named = contact(9, |_| true);
    let peer = *named.peer();
    dht.handle_input(NOW, Input::AddPeer(Arc::clone(&named)));
    while let Some(output) = dht.poll_output() {
        let Output::Send { id, .. } = output else { continue };
        let result = Err(RequestError::Unreachable(Unreachable::DialFailed(DialCause::Refused)));
        dht.handle_input(NOW, Input::Response { id, result });
    }
    assert!(dht.peers.back_offs.is_held_back(NOW, &named));
    dht.handle_input(NOW, Input::Connected { peer, outbound_addr: None, inbound_addr: None });
    dht.handle_input(NOW, Input::Serves { peer, yes: true });
    answer_all(&mut dht);
    assert!(!dht.peers.back_offs.is_held_back(NOW, &named));
}

#[test]
fn peers_that_dial_from_one_network_are_of_it_wherever_they_say_to_be() {
    let mut dht = node(|config| {
        config.address_policy = AddressPolicy::Public;
        config.routing.diversity = Some(DiversityConfig::default());
    });
    for group in 1..50 {
        let liar = contact(group, |_| true);
        let inbound_addr = Some(format!("/ip4/20.99.0.{group}/tcp/5").parse().unwrap());
        dht.handle_input(NOW, Input::Connected { peer: *liar.peer(), outbound_addr: None, inbound_addr });
        dht.handle_input(NOW, Input::Discovered(Arc::clone(&liar)));
        dht.handle_input(NOW, Input::Serves { peer: *liar.peer(), yes: true });
        answer_all(&mut dht);
    }
    assert_eq!(dht.peers.table.len(), 2, "as many as a bucket may have of one network");
    let told = dht.peers.table.entries().all(|entry| entry.contact.raw_addrs().count() == 1);
    assert!(told, "where it dials from is nowhere to be reached at");
}

/// Peers reached at a name, behind which may be any host, or through a relay, which many peers share.
#[test]
fn peers_reached_at_addresses_without_a_host_are_of_one_group_whatever_they_say() {
    let relay = PeerId::random();
    for hidden in [
        |group: usize, _: PeerId| format!("/dns4/n{group}.example.net/tcp/1"),
        |group: usize, relay: PeerId| format!("/ip4/30.{group}.0.1/tcp/1/p2p/{relay}/p2p-circuit"),
    ] {
        let mut dht = node(|config| {
            config.address_policy = AddressPolicy::Public;
            config.routing.diversity = Some(DiversityConfig::default());
        });
        for group in 1..50 {
            let reached: multiaddr::Multiaddr = hidden(group, relay).parse().unwrap();
            let said = contact(group, |_| true);
            let liar = said.with_multiaddrs(said.addrs().chain([reached.clone()]));
            dht.handle_input(NOW, Input::AddPeer(Arc::clone(&liar)));
            let outbound_addr = Some(reached);
            dht.handle_input(NOW, Input::Connected { peer: *liar.peer(), outbound_addr, inbound_addr: None });
            answer_all(&mut dht);
        }
        assert_eq!(dht.peers.table.len(), 2, "as many as a bucket may have of one group");
    }
}

/// A host lets other peers answer at the address of a peer, so that the peer is forgotten, and then dials in its name.
#[test]
fn an_entry_whose_address_belongs_to_another_peer_counts_for_where_it_was() {
    let mut dht = node(|config| {
        config.address_policy = AddressPolicy::Public;
        config.routing.diversity = Some(DiversityConfig::default());
    });
    for group in 1..50 {
        let said = contact(group, |_| true);
        let reached: multiaddr::Multiaddr = format!("/ip4/20.99.0.1/tcp/{group}").parse().unwrap();
        let peer = *said.peer();
        dht.handle_input(NOW, Input::AddPeer(said.with_multiaddrs([reached.clone()])));
        let outbound_addr = Some(reached.clone());
        dht.handle_input(NOW, Input::Connected { peer, outbound_addr, inbound_addr: None });
        dht.handle_input(NOW, Input::Discovered(Arc::clone(&said)));
        answer_all(&mut dht);
        dht.handle_input(NOW, Input::Disconnected { peer });
        dht.handle_input(NOW, Input::DialFailed { peer, addrs: vec![(reached.clone(), DialCause::WrongPeer)] });
        dht.handle_input(NOW, Input::Connected { peer, outbound_addr: None, inbound_addr: Some(reached) });
    }
    assert_eq!(dht.peers.table.len(), 2, "as many as a bucket may have of one network");
}

fn answer_all(dht: &mut Dht) {
    while let Some(output) = dht.poll_output() {
        let Output::Send { id, .. } = output else { continue };
        dht.handle_input(NOW, Input::Response { id, result: Ok(Response::FindNode { closer: Vec::new() }) });
    }
}

#[test]
fn a_value_that_is_not_kept_here_is_not_remembered_for_upkeep() {
    let mut dht = node(|_| {});
    let remembered = |dht: &Dht| format!("{:?}", dht.upkeep.own_records).matches("OwnRecord {").count();
    for i in 0..200 {
        let put = |value: &'static str| Operation::Put { key: format!("/app/{i}").into(), value: value.into() };
        let options = QueryOptions::default().with_keep(false);
        _ = dht.start(NOW, put("v"), options);
        let too_long = Operation::Put { key: vec![b'x'; 4_096].into(), value: "v".into() };
        _ = dht.start(NOW, too_long, QueryOptions::default());
    }
    assert_eq!(remembered(&dht), 0);
    _ = dht.start(NOW, Operation::Put { key: "/app/x".into(), value: "v".into() }, QueryOptions::default());
    assert_eq!(remembered(&dht), 1);
}

/// Candidates that never answer keep the places of trials for seconds; they are all at one host.
#[test]
fn an_honest_newcomer_is_tried_at_once_whatever_waits_at_another_host() {
    let mut dht = node(|config| config.address_policy = AddressPolicy::Any);
    let mut come = |host: u8| {
        let addr: multiaddr::Multiaddr = format!("/ip4/127.0.0.{host}/tcp/1").parse().unwrap();
        let peer = PeerId::random();
        dht.handle_input(NOW, Input::Connected { peer, outbound_addr: None, inbound_addr: Some(addr.clone()) });
        dht.handle_input(NOW, Input::Discovered(Contact::new(peer, [addr])));
        dht.handle_input(NOW, Input::Serves { peer, yes: true });
        (peer, asked(&mut dht))
    };
    let tried: usize = (0..140).map(|_| come(2).1.len()).sum();
    assert_eq!(tried, 3);
    let (honest, asked) = come(3);
    assert_eq!(asked, [honest]);
    assert_eq!(come(2).1, []);
}
