use libp2p_identity::PeerId;

use super::addresses::MAX_HEARSAY;
use super::*;
use crate::core::contact::MAX_ADDRS;
use crate::core::message::{DialCause, Unreachable};

fn contact(peer: PeerId, ports: std::ops::Range<usize>) -> Arc<Contact> {
    Contact::new(peer, ports.map(|port| format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap()))
}

#[test]
fn a_sender_is_a_holder_and_this_node_is_near_where_they_are_among_the_closest() {
    let mut peers = Peers::new(Contact::new(PeerId::random(), []), &DhtConfig::default());
    let others: Vec<_> = (1..30).map(|port| contact(PeerId::random(), port..port + 1)).collect();
    let local = *peers.local.key();
    let sender = |peers: &Peers, of: &Contact, key: &Key| peers.sender(of.peer(), of.key(), key, 5);
    assert!(sender(&peers, &others[0], others[1].key()).near, "fewer than k are known");
    others.iter().for_each(|peer| _ = peers.table.offer(Timestamp::ZERO, peer));
    for key in others.iter().map(|peer| *peer.key()).chain([local]) {
        let mut known: Vec<_> = others.iter().filter(|peer| peers.contact(peer.peer()).is_some()).collect();
        known.sort_by_key(|peer| peer.key().distance(&key));
        for (at, peer) in known.iter().enumerate() {
            assert_eq!(sender(&peers, peer, &key).holder, at < 5);
        }
        let nearer = known.iter().filter(|peer| peer.key().distance(&key) < local.distance(&key)).count();
        assert_eq!(sender(&peers, &others[0], &key).near, nearer < 5);
    }
}

#[test]
fn an_address_at_which_a_peer_answered_is_never_displaced_by_hearsay() {
    let mut peers = Peers::new(Contact::new(PeerId::random(), []), &DhtConfig::default());
    let good = contact(PeerId::random(), 1..2);
    peers.learn_addrs(Timestamp::ZERO, &good, AddrSource::Connection);
    peers.table.offer(Timestamp::ZERO, &good);
    let asked = peers.contact_to_ask(&contact(*good.peer(), 100..100 + MAX_ADDRS)).unwrap();
    assert_eq!(asked.raw_addrs().next(), good.raw_addrs().next(), "asked where it is known to be");
    assert_eq!(asked.raw_addrs().count(), 1 + MAX_HEARSAY, "and at some of the others: it may have moved");
    let answered = peers.contact_for_table(&asked); // on whatever connection
    peers.table.offer(Timestamp::ZERO, &answered);
    assert_eq!(peers.contact(good.peer()), Some(Arc::clone(&good)), "hearsay stays out of the table");
    let again = peers.contact_to_ask(&good).unwrap();
    assert_eq!(again, good);
}

#[test]
fn addresses_of_a_transport_that_never_worked_take_no_place_of_others() {
    let mut peers = Peers::new(Contact::new(PeerId::random(), []), &DhtConfig::default());
    let now = Timestamp::ZERO;
    let by_quic = (1..6).map(|host| format!("/ip4/127.0.0.{host}/udp/1/quic-v1/webtransport"));
    let by_tcp = (1..6).map(|host| format!("/ip4/127.0.1.{host}/tcp/1"));
    let to = Contact::new(PeerId::random(), by_quic.chain(by_tcp).map(|addr| addr.parse().unwrap()));
    peers.learn_addrs(now, &to, AddrSource::Application);
    let dialled = |peers: &mut Peers| {
        let round = peers.choose_dial_addrs(now, &to, false, &[]).unwrap();
        peers.dials.end(to.key());
        (round.raw_addrs().count(), round.addrs().filter(|addr| addr.to_string().ends_with("/tcp/1")).count())
    };
    assert_eq!(dialled(&mut peers), (4, 0), "it is not known which address works");
    let other = contact(PeerId::random(), 1..2);
    peers.dials.on_connected(other.key(), other.raw_addrs().next(), true);
    assert_eq!(dialled(&mut peers), (8, 4), "beside as many");
}

#[test]
fn peers_that_are_held_back_take_the_place_of_no_other_seed() {
    use rand_core::SeedableRng as _;

    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut peers = Peers::new(Contact::new(PeerId::random(), []), &DhtConfig::default());
    let at = Timestamp::from_secs;
    let [good, dead, boot, gone] = [1, 2, 3, 4].map(|port| contact(PeerId::random(), port..port + 1));
    for peer in [&good, &dead] {
        peers.table.offer(at(0), peer);
    }
    for peer in [&gone, &boot] {
        peers.learn_addrs(at(0), peer, AddrSource::Application);
    }
    let why = Unreachable::DialFailed(DialCause::Refused).into();
    for to in [&dead, &gone] {
        peers.on_failure(FailedRequest { now: at(10), asked: at(9), to, why, reported: true }, &mut rng);
    }
    let seeds = |at, count| peers.seeds(at, dead.key(), count);
    assert_eq!(seeds(at(11), 1), [&dead, &good].map(Arc::clone).into_iter().rev().collect::<Vec<_>>());
    assert_eq!(seeds(at(11), 2)[..], [&good, &dead, &boot].map(Arc::clone));
    assert_eq!(seeds(at(11), 3)[..], [&good, &dead, &boot, &gone].map(Arc::clone));
    assert_eq!(seeds(at(17), 1)[..], [Arc::clone(&dead)], "the back-off has expired");
}

#[test]
fn an_address_that_an_entry_loses_leaves_its_place_to_others_of_its_group() {
    use std::num::NonZeroUsize;

    use crate::core::config::DiversityConfig;

    let one = NonZeroUsize::MIN;
    let mut config = DhtConfig { address_policy: AddressPolicy::Public, ..DhtConfig::default() };
    config.routing.diversity = Some(DiversityConfig { per_bucket: one, per_table: one, ..DiversityConfig::default() });
    let mut peers = Peers::new(Contact::new(PeerId::random(), []), &config);
    let at = |groups: &[usize]| {
        let addr = |group: &usize| format!("/ip4/20.{group}.0.1/tcp/1").parse().unwrap();
        Contact::new(PeerId::random(), groups.iter().map(addr))
    };
    let now = Timestamp::ZERO;
    let (entry, second, third) = (at(&[1, 2, 3]), at(&[2]), at(&[3]));
    peers.table.offer(now, &entry);
    assert!(!peers.has_place_for(now, &second) && !peers.has_place_for(now, &third));
    let wrong: Vec<_> = second.addrs().map(|addr| (addr, DialCause::WrongPeer)).collect();
    peers.on_dial_failed(now, *entry.peer(), &wrong);
    assert!(peers.has_place_for(now, &second) && !peers.has_place_for(now, &third));
    peers.local = peers.local.with_addrs(third.raw_addrs());
    assert!(peers.refilter(now).is_empty());
    assert!(peers.table.admits(now, &third));
    assert!(!peers.has_place_for(now, &at(&[1])));
}
