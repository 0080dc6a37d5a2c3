use std::cell::Cell;
use std::collections::BTreeSet;
use std::slice;

use libp2p_identity::PeerId;

use super::*;

const SHAPE: Shape = Shape {
    count: 3,
    parallelism: 2,
    resiliency: 1,
    paths: 1,
    spare: 0,
    frontier: 100,
    bytes: 64 * 1024,
    wary: false,
    closed: false,
};

fn contact(bits: &str) -> Arc<Contact> {
    Contact::with_key(PeerId::random(), Key::from_bits(bits), [])
}

fn lookup(shape: Shape, seeds: &[&Arc<Contact>]) -> Lookup {
    Lookup::new(Key::from_bits("0000"), seeds.iter().copied(), shape)
}

/// The peers that the lookup asks at once.
fn asked(lookup: &mut Lookup) -> Vec<Arc<Contact>> {
    std::iter::from_fn(|| match lookup.next() {
        Next::Ask(contact) => Some(contact),
        _ => None,
    })
    .collect()
}

fn is_done(lookup: &mut Lookup) -> bool {
    matches!(lookup.next(), Next::Done)
}

#[test]
fn asks_the_nearest_first_and_follows_what_is_named() {
    let (far, near, nearest) = (contact("1000"), contact("0100"), contact("0010"));
    let mut lookup = lookup(SHAPE, &[&far, &near]);
    assert_eq!(asked(&mut lookup), slice::from_ref(&near), "the search starts β wide");
    assert_eq!(lookup.on_answer(near.key(), &[nearest.clone(), far.clone()]), 1, "one of the two is news");
    assert_eq!(asked(&mut lookup), slice::from_ref(&nearest));
    assert_eq!(lookup.on_answer(nearest.key(), &[]), 0);
    assert_eq!(asked(&mut lookup), slice::from_ref(&far), "the rest of the k closest");
    assert!(matches!(lookup.next(), Next::Wait));
    lookup.on_answer(far.key(), &[]);
    assert!(is_done(&mut lookup));
    assert_eq!(lookup.closest(), [nearest, near, far]);
}

#[test]
fn after_the_search_the_rest_of_the_k_closest_is_asked_at_once() {
    let peers: Vec<_> = ["0001", "0010", "0011", "0100", "0101"].map(contact).to_vec();
    let shape = Shape { count: 4, parallelism: 1, ..SHAPE };
    let mut lookup = lookup(shape, &peers.iter().collect::<Vec<_>>());
    assert_eq!(asked(&mut lookup), peers[..1]);
    lookup.on_answer(peers[0].key(), &[]);
    assert_eq!(asked(&mut lookup), peers[1..4]);
}

#[test]
fn a_failed_holder_is_replaced_by_the_next_closest() {
    let peers: Vec<_> = ["0001", "0010", "0011", "0100"].map(contact).to_vec();
    let mut lookup = lookup(SHAPE, &peers.iter().collect::<Vec<_>>());
    assert_eq!(asked(&mut lookup), peers[..1]);
    lookup.on_answer(peers[0].key(), &[]);
    assert_eq!(asked(&mut lookup), peers[1..3]);
    lookup.on_failure(peers[1].key());
    assert_eq!(asked(&mut lookup), peers[3..], "only k responders are an end");
    lookup.on_answer(peers[2].key(), &[]);
    lookup.on_answer(peers[3].key(), &[]);
    assert!(is_done(&mut lookup));
    assert_eq!(lookup.closest().len(), 3);
}

#[test]
fn a_late_peer_frees_its_slot_and_its_answer_still_counts() {
    let (slow, other, hidden) = (contact("0001"), contact("0010"), contact("0000 1"));
    let mut lookup = lookup(SHAPE, &[&slow, &other]);
    assert_eq!(asked(&mut lookup), slice::from_ref(&slow));
    lookup.on_late(slow.key(), Lateness::Late);
    assert_eq!(asked(&mut lookup), slice::from_ref(&other));
    lookup.on_answer(other.key(), &[]);
    assert!(matches!(lookup.next(), Next::Wait), "fewer than k answered: the late one is waited for");
    assert_eq!(lookup.on_answer(slow.key(), slice::from_ref(&hidden)), 1);
    assert_eq!(asked(&mut lookup), slice::from_ref(&hidden));
    lookup.on_failure(hidden.key());
    assert!(is_done(&mut lookup));
}

#[test]
fn a_late_peer_is_waited_for_and_an_overdue_one_is_not() {
    let peers: Vec<_> = ["0001", "0010", "0011", "0100"].map(contact).to_vec();
    let mut lookup = lookup(SHAPE, &peers.iter().collect::<Vec<_>>());
    assert_eq!(asked(&mut lookup), peers[..1]);
    lookup.on_late(peers[0].key(), Lateness::Late);
    assert!(!asked(&mut lookup).is_empty(), "someone else is asked");
    for peer in &peers[1..] {
        lookup.on_answer(peer.key(), &[]);
        asked(&mut lookup);
    }
    assert!(matches!(lookup.next(), Next::Wait), "k have answered, but a nearer one is only late");
    lookup.on_late(peers[0].key(), Lateness::Overdue);
    assert!(is_done(&mut lookup));
    assert_eq!(lookup.closest(), peers[1..]);
}

#[test]
fn spare_peers_are_asked_beyond_the_k_closest_when_the_search_is_over() {
    let peers: Vec<_> = (1..9).map(|i| contact(&format!("0{i:04b}"))).collect();
    let shape = Shape { spare: 2, ..SHAPE };
    let mut lookup = lookup(shape, &peers.iter().collect::<Vec<_>>());
    assert_eq!(asked(&mut lookup), peers[..1]);
    lookup.on_answer(peers[0].key(), &[]);
    assert_eq!(asked(&mut lookup), peers[1..5], "k is 3, and two may fail");
    peers[1..3].iter().for_each(|peer| {
        lookup.on_answer(peer.key(), &[]);
    });
    assert!(is_done(&mut lookup), "the spare ones are not waited for");
}

#[test]
fn the_search_widens_without_progress_and_never_beyond_alpha() {
    let peers: Vec<_> = (1..30).map(|i| contact(&format!("1{i:08b}"))).collect();
    let shape = Shape {
        count: 20,
        parallelism: 4,
        resiliency: 2,
        paths: 1,
        spare: 0,
        frontier: 100,
        bytes: 64 * 1024,
        wary: false,
        closed: false,
    };
    let mut lookup = lookup(shape, &peers.iter().collect::<Vec<_>>());
    let mut in_flight = asked(&mut lookup);
    assert_eq!(in_flight.len(), 2);
    for _ in 0..10 {
        lookup.on_failure(in_flight.remove(0).key());
        in_flight.extend(asked(&mut lookup));
        assert!(in_flight.len() <= 4);
    }
    assert_eq!(in_flight.len(), 4);
}

#[test]
fn a_failed_peer_gets_another_chance_only_with_new_addresses() {
    let peer = PeerId::random();
    let at = |addr: &str| Contact::with_key(peer, Key::from_bits("0001"), [addr.parse().unwrap()]);
    let (wrong, right) = (at("/ip4/127.0.0.1/tcp/1"), at("/ip4/127.0.0.1/tcp/2"));
    let others: Vec<_> = ["0010", "0011"].map(contact).to_vec();
    let mut lookup = lookup(SHAPE, &[&wrong, &others[0], &others[1]]);
    asked(&mut lookup);
    lookup.on_failure(wrong.key());
    assert_eq!(asked(&mut lookup).len(), 2);
    lookup.on_answer(others[0].key(), slice::from_ref(&wrong));
    assert!(asked(&mut lookup).is_empty());
    lookup.on_answer(others[1].key(), &[right]);
    assert_eq!(asked(&mut lookup).len(), 1);
    lookup.on_failure(wrong.key());
    assert!(is_done(&mut lookup));
}

#[test]
fn referrers_are_remembered_and_another_gives_a_refused_peer_a_chance() {
    let peer = PeerId::random();
    let named = Contact::with_key(peer, Key::from_bits("0001"), ["/ip4/127.0.0.1/tcp/1".parse().unwrap()]);
    let others: Vec<_> = ["0010", "0011", "0100"].map(contact).to_vec();
    let mut lookup = lookup(SHAPE, &others.iter().collect::<Vec<_>>());
    asked(&mut lookup);
    lookup.on_answer(others[0].key(), slice::from_ref(&named));
    assert_eq!(asked(&mut lookup), slice::from_ref(&named));
    assert_eq!(lookup.referrers(named.key()), [*others[0].key()]);
    assert_eq!(lookup.referrers(others[0].key()), [], "it was a seed");
    lookup.on_refused(named.key());
    lookup.on_failure(named.key());
    asked(&mut lookup);
    lookup.on_answer(others[1].key(), slice::from_ref(&named));
    assert_eq!(asked(&mut lookup), slice::from_ref(&named));
    assert_eq!(lookup.referrers(named.key()), [*others[0].key(), *others[1].key()]);
}

#[test]
fn the_frontier_is_bounded_and_keeps_the_nearest() {
    let shape = Shape { frontier: 8, ..SHAPE };
    let far: Vec<_> = (0..20).map(|i| contact(&format!("1{i:08b}"))).collect();
    let near: Vec<_> = (1..20).map(|i| contact(&format!("0{i:08b}"))).collect();
    let mut lookup = lookup(shape, &far.iter().take(1).collect::<Vec<_>>());
    let first = asked(&mut lookup);
    lookup.on_answer(first[0].key(), &far);
    let next = asked(&mut lookup);
    next.iter().for_each(|peer| {
        lookup.on_answer(peer.key(), &near);
    });
    assert!(lookup.ranked().len() <= 8);
    assert_eq!(asked(&mut lookup)[0], near[0]);
}

#[test]
fn a_lookup_keeps_within_its_bytes_and_liars_displace_only_what_they_named() {
    let long = |i: usize| -> Vec<_> {
        (0..4).map(|j| format!("/dns4/{}/tcp/{}", "a".repeat(110), 4 * i + j).parse().unwrap()).collect()
    };
    let short = |i: usize| vec![format!("/ip4/127.0.0.1/tcp/{}", i + 1).parse().unwrap()];
    let named = |bits: &str, i: usize, addrs| {
        Contact::with_key(PeerId::random(), Key::from_bits(&format!("{bits}{i:012b}")), addrs)
    };
    let liars: Vec<_> = (0..20).map(|i| contact(&format!("10{i:08b}"))).collect();
    let honest: Vec<_> = (0..5).map(|i| contact(&format!("11{i:08b}"))).collect();
    let seeds: Vec<_> = honest.iter().chain(&liars).collect();
    let shape = Shape { count: 25, parallelism: 25, resiliency: 25, frontier: 512, ..SHAPE };
    let mut lookup = lookup(shape, &seeds);
    assert_eq!(asked(&mut lookup).len(), seeds.len());
    for (i, peer) in honest.iter().enumerate() {
        let closer: Vec<_> = (20 * i..20 * i + 20).map(|i| named("01", i, short(i))).collect();
        assert_eq!(lookup.on_answer(peer.key(), &closer), 20);
    }
    let from_honest = |lookup: &Lookup, of: usize| {
        let named = (20 * of..20 * of + 20).map(|i| Key::from_bits(&format!("01{i:012b}")));
        named.filter(|key| lookup.contact(key).is_some()).count()
    };
    assert!((0..5).all(|of| from_honest(&lookup, of) == 20));
    for (i, peer) in liars.iter().enumerate() {
        let closer: Vec<_> = (40 * i..40 * i + 40).map(|i| named("00", i, long(i))).collect();
        lookup.on_answer(peer.key(), &closer);
        let bytes: usize = lookup.ranked().iter().map(|peer| peer.size()).sum();
        assert!(bytes <= shape.bytes + seeds.len() * contact("1").size(), "{bytes}");
    }
    let kept: Vec<_> = (0..5).map(|of| from_honest(&lookup, of)).collect();
    assert!(kept.iter().all(|kept| *kept >= 8), "{kept:?}: the nearest are enough for 20 results");
    assert!(lookup.nearest(1)[0].key() < &Key::from_bits("01"), "the liars' nearest are kept too");
}

#[test]
fn a_peer_keeps_addresses_of_each_answer_within_their_number() {
    let peer = PeerId::random();
    let at = |ports: std::ops::Range<u16>| {
        let addrs = ports.map(|port| format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap());
        Contact::with_key(peer, Key::from_bits("0001"), addrs)
    };
    let others: Vec<_> = ["0010", "0011", "0100"].map(contact).to_vec();
    let mut lookup = lookup(Shape { resiliency: 3, parallelism: 3, ..SHAPE }, &others.iter().collect::<Vec<_>>());
    asked(&mut lookup);
    lookup.on_answer(others[0].key(), &[at(10..14)]);
    lookup.on_answer(others[1].key(), &[at(20..24)]);
    lookup.on_answer(others[2].key(), &[at(10..14)]);
    let known = lookup.contact(&Key::from_bits("0001")).unwrap();
    let ports: Vec<_> = known.addrs().map(|addr| addr.to_string()).collect();
    let expected = [10, 20, 11, 12].map(|port| format!("/ip4/127.0.0.1/tcp/{port}"));
    assert_eq!(ports, expected);
}

#[test]
fn ends_of_peers_never_asked_change_nothing() {
    let (a, b) = (contact("0001"), contact("0010"));
    let mut lookup = lookup(SHAPE, &[&a]);
    assert_eq!(lookup.on_answer(a.key(), slice::from_ref(&b)), 0, "an answer without a request");
    lookup.on_failure(b.key());
    lookup.on_late(b.key(), Lateness::Late);
    let all: BTreeSet<_> = asked(&mut lookup).iter().map(|c| *c.key()).collect();
    assert_eq!(all, BTreeSet::from([*a.key()]));
}

mod along_several_paths {
    use super::*;

    const TWO: Shape = Shape {
        count: 4,
        parallelism: 4,
        resiliency: 1,
        paths: 2,
        spare: 0,
        frontier: 100,
        bytes: 64 * 1024,
        wary: false,
        closed: false,
    };

    /// Answers every request with the peers that `names` returns, until the lookup is done. Returns the peers that were
    /// asked.
    fn walk(lookup: &mut Lookup, names: impl Fn(&Key) -> Vec<Arc<Contact>>) -> Vec<Arc<Contact>> {
        let mut everyone = Vec::new();
        loop {
            let asked = asked(lookup);
            if asked.is_empty() {
                assert!(is_done(lookup));
                return everyone;
            }
            for contact in &asked {
                lookup.on_answer(contact.key(), &names(contact.key()));
            }
            everyone.extend(asked);
        }
    }

    #[test]
    fn nobody_is_asked_twice_and_honest_paths_find_the_closest() {
        let peers: Vec<_> = (1..32).map(|i| contact(&format!("{i:05b}"))).collect();
        let seeds: Vec<_> = peers[16..20].iter().collect();
        let mut lookup = lookup(TWO, &seeds);
        let everyone = walk(&mut lookup, |_| peers[..8].to_vec());
        let distinct: BTreeSet<_> = everyone.iter().map(|contact| *contact.key()).collect();
        assert_eq!(distinct.len(), everyone.len());
        let closest: BTreeSet<_> = lookup.closest().iter().map(|contact| *contact.key()).collect();
        assert_eq!(closest, peers[..4].iter().map(|contact| *contact.key()).collect());
    }

    #[test]
    fn a_misled_path_gets_its_share_of_the_results_and_no_more() {
        let liar = contact("1000");
        let friends: Vec<_> = (1..9).map(|i| contact(&format!("0000 0000 {i:04b}"))).collect();
        let honest = contact("1001");
        let true_closest: Vec<_> = (1..5).map(|i| contact(&format!("00{i:03b}"))).collect();
        let mut lookup = lookup(TWO, &[&liar, &honest]);
        let lies = |key: &Key| *key == *liar.key() || friends.iter().any(|friend| friend.key() == key);
        walk(&mut lookup, |key| if lies(key) { friends.clone() } else { true_closest.clone() });
        let closest = lookup.closest();
        assert_eq!(closest.len(), 4);
        assert_eq!(closest.iter().filter(|contact| true_closest.contains(contact)).count(), 2);
        assert!(closest.contains(&true_closest[0]), "the true closest is among them");
    }

    #[test]
    fn a_second_opinion_is_sought_where_all_paths_agree() {
        let friends: Vec<_> = (1..9).map(|i| contact(&format!("0000 0000 {i:04b}"))).collect();
        let true_closest: Vec<_> = (1..5).map(|i| contact(&format!("00{i:03b}"))).collect();
        let seeds = ["1000", "1001"].map(contact);
        // Each seed is honest, but the nearest peer that it knows lies.
        let (liars, honest) = (["0100", "0101"].map(contact), ["0110", "0111"].map(contact));
        let mut lookup = lookup(TWO, &[&seeds[0], &seeds[1]]);
        let everyone = walk(&mut lookup, |key| match seeds.iter().position(|seed| seed.key() == key) {
            Some(path) => vec![liars[path].clone(), honest[path].clone()],
            None if honest.iter().chain(&true_closest).any(|peer| peer.key() == key) => true_closest.clone(),
            None => friends.clone(),
        });
        assert!(lookup.closest().contains(&true_closest[0]));
        assert_eq!(everyone.iter().filter(|peer| honest.contains(peer)).count(), 1, "one opinion for two paths");
    }

    #[test]
    fn a_liar_during_the_fill_pushes_out_no_more_than_its_turn() {
        let friends: Vec<_> = (1..9).map(|i| contact(&format!("0000 0000 {i:04b}"))).collect();
        let true_closest: Vec<_> = (1..5).map(|i| contact(&format!("00{i:03b}"))).collect();
        let seeds = ["1000", "1001"].map(contact);
        let mut lookup = lookup(TWO, &[&seeds[0], &seeds[1]]);
        let lies = |key: &Key| key == true_closest[1].key() || friends.iter().any(|friend| friend.key() == key);
        walk(&mut lookup, |key| if lies(key) { friends.clone() } else { true_closest.clone() });
        let closest = lookup.closest();
        assert_eq!(closest.iter().filter(|contact| true_closest.contains(contact)).count(), 3);
        assert!(closest.contains(&true_closest[0]));
    }

    #[test]
    fn a_peer_that_failed_on_one_path_holds_no_place_on_another() {
        let peers: Vec<_> = (1..8).map(|i| contact(&format!("00{i:03b}"))).collect();
        let seeds = ["1000", "1001"].map(contact);
        let mut lookup = lookup(TWO, &[&seeds[0], &seeds[1]]);
        assert_eq!(asked(&mut lookup), seeds);
        lookup.on_answer(seeds[0].key(), &peers);
        let nearest = asked(&mut lookup);
        assert_eq!(nearest, peers[..1]);
        lookup.on_failure(peers[0].key());
        lookup.on_answer(seeds[1].key(), &peers);
        walk(&mut lookup, |_| peers.clone());
        assert_eq!(lookup.closest().iter().map(|c| *c.key()).collect::<BTreeSet<_>>().len(), 4);
        assert!(!lookup.closest().contains(&peers[0]));
    }

    #[test]
    fn the_memory_of_several_paths_is_bounded() {
        let peers = ["0100", "0110", "0101", "0111"].map(contact);
        let (seeds, nearest) = (peers.each_ref(), ["0010", "0011"].map(contact));
        let mut lookup = lookup(Shape { count: 12, frontier: 8, ..TWO }, &seeds);
        // Each peer names more peers than a path remembers, none of them twice.
        let named = Cell::new(0);
        let names = |key: &Key| {
            let from = named.get();
            named.set(from + 20);
            let far = (from..from + 20).map(|i| contact(&format!("1{i:012b}")));
            // The peer that is asked first on its path leads to the nearest.
            let leads = [0, 2].iter().zip(&nearest).find(|(i, _)| peers[**i].key() == key);
            leads.map(|(_, nearest)| nearest.clone()).into_iter().chain(far).collect()
        };
        walk(&mut lookup, names);
        // Two paths and one opinion of eight each, and as many again for the fill. Where the opinion began counts once.
        assert_eq!(lookup.ranked().len(), 6 * 8 - 1);
    }

    #[test]
    fn a_path_whose_peers_are_all_dead_leaves_its_slots_to_the_other() {
        let dead: Vec<_> = (0..2).map(|i| contact(&format!("10{i:02b}"))).collect();
        let alive: Vec<_> = (0..12).map(|i| contact(&format!("01{i:04b}"))).collect();
        let shape = Shape { count: 3, parallelism: 4, ..TWO };
        let mut lookup = lookup(shape, &[&alive[9], &dead[0]]);
        let first = asked(&mut lookup);
        assert_eq!(first.len(), 2, "one of each path");
        lookup.on_failure(dead[0].key());
        lookup.on_answer(alive[9].key(), &alive[..9]);
        let everyone = walk(&mut lookup, |_| alive.clone());
        assert!(everyone.len() <= 4);
        assert_eq!(lookup.closest(), alive[..3]);
    }
}
