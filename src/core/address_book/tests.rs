use libp2p_identity::PeerId;

use super::*;

fn at(ports: impl IntoIterator<Item = u16>) -> Arc<Contact> {
    told(PeerId::random(), ports)
}

fn told(peer: PeerId, ports: impl IntoIterator<Item = u16>) -> Arc<Contact> {
    Contact::new(peer, ports.into_iter().map(|port| format!("/ip4/8.8.8.8/tcp/{port}").parse().unwrap()))
}

/// A peer in the network of this number.
fn within(network: u8) -> Arc<Contact> {
    Contact::new(PeerId::random(), [format!("/ip4/8.{network}.8.8/tcp/1").parse().unwrap()])
}

fn ports(contact: &Contact) -> Vec<u16> {
    let port = |addr: multiaddr::Multiaddr| addr.to_string().rsplit('/').next().and_then(|port| port.parse().ok());
    contact.addrs().filter_map(port).collect()
}

fn count(book: &AddressBook) -> usize {
    assert_eq!(book.notes.len(), book.order.len());
    assert_eq!(book.groups.len(), book.sizes.values().sum::<usize>());
    book.notes.len()
}

#[test]
fn is_bounded_and_keeps_what_the_application_named() {
    let mut book = AddressBook::new(10, false);
    let boot = at([1]);
    book.note(&boot, Source::Application, false);
    for port in 2..1000 {
        book.note(&at([port]), Source::Itself, false);
    }
    assert_eq!(count(&book), 10);
    assert_eq!(book.get(boot.key()), Some(&boot));
    for port in 2..1000 {
        book.note(&at([port]), Source::Application, false);
    }
    assert_eq!(count(&book), 10);
    assert_eq!(book.named().count(), 10);
}

#[test]
fn a_named_peer_stays_named_and_gathers_addresses() {
    let mut book = AddressBook::new(10, false);
    let boot = at([1]);
    book.note(&boot, Source::Application, false);
    assert_eq!(ports(&book.note(&told(*boot.peer(), [9]), Source::Rumour, false)), [1, 9]);
    assert_eq!(book.named().count(), 1);
    assert_eq!(count(&book), 1);
}

#[test]
fn who_is_remembered_counts_as_named_until_it_fails() {
    let mut book = AddressBook::new(10, false);
    let (kept, failed, both) = (at([1]), at([2]), at([3]));
    for peer in [&kept, &failed, &both] {
        book.note(peer, Source::Itself, false);
        book.remember(peer.key());
    }
    book.note(&both, Source::Application, false);
    assert_eq!(book.named().count(), 3);
    for peer in [&failed, &both] {
        book.give_up(peer.key());
    }
    assert_eq!(book.named().map(|peer| peer.key()).collect::<Vec<_>>(), [kept.key(), both.key()]);
    book.advance(Timestamp::ZERO + ADDRESS_TIME);
    assert!(book.get(failed.key()).is_none() && book.get(kept.key()).is_some() && book.get(both.key()).is_some());
    // What the application says is not taken back by what this node remembers.
    book.remember(both.key());
    book.give_up(both.key());
    assert_eq!(count(&book), 3);
    assert_eq!(book.named().count(), 2);
}

#[test]
fn what_is_worth_more_comes_first_and_rumours_are_few() {
    let mut book = AddressBook::new(10, false);
    let peer = PeerId::random();
    let rumours = book.note(&told(peer, 100..132), Source::Rumour, false);
    assert_eq!(rumours.raw_addrs().len(), MAX_RUMOURS);
    assert_eq!(book.known(rumours.key()).len(), 0);
    book.note(&told(peer, [1, 2]), Source::Itself, true);
    book.note(&told(peer, [3]), Source::Itself, true);
    book.note(&told(peer, [2]), Source::Reached, true);
    book.note(&told(peer, [4]), Source::Application, true);
    let all = book.note(&told(peer, [100, 1]), Source::Reached, true);
    assert_eq!(ports(&all)[..5], [100, 1, 2, 4, 3]);
    assert_eq!(all.raw_addrs().len(), 5 + MAX_RUMOURS - 1);
    assert_eq!(book.known(all.key()).len(), 5);
    for port in 1_000..1_100 {
        book.note(&told(peer, [port]), Source::Itself, true);
    }
    let all = book.get(all.key()).unwrap();
    assert_eq!(all.raw_addrs().len(), MAX_ADDRS);
    assert_eq!(ports(all)[..5], [100, 1, 2, 4, 1_099], "its own word displaces nothing at which it was reached");
    let again = book.note(&told(peer, [1_099, 2]), Source::Rumour, true);
    assert!(Arc::ptr_eq(&again, book.get(again.key()).unwrap()));
    assert_eq!(ports(&again)[..5], [100, 1, 2, 4, 1_099], "nor does a rumour take anything down");
}

#[test]
fn what_is_old_is_forgotten_unless_it_is_connected_or_named() {
    let mut book = AddressBook::new(10, false);
    let (gone, here, named) = (at([1]), at([2]), at([3]));
    book.note(&gone, Source::Itself, true);
    book.note(&here, Source::Itself, true);
    book.note(&named, Source::Application, false);
    book.advance(Timestamp::ZERO + ADDRESS_TIME * 2);
    assert!(book.get(gone.key()).is_some(), "while it is connected");
    book.set_connected(gone.key(), false);
    book.advance(Timestamp::ZERO + (ADDRESS_TIME * 3 - Duration::from_secs(1)));
    assert!(book.get(gone.key()).is_some(), "from its end on");
    book.advance(Timestamp::ZERO + ADDRESS_TIME * 3);
    assert!(book.get(gone.key()).is_none());
    assert!(book.get(here.key()).is_some() && book.get(named.key()).is_some());
    book.note(&at([4]), Source::Rumour, false);
    assert_eq!(count(&book), 3, "what is old gives its room back");
}

#[test]
fn the_longest_unused_go_first_and_connected_ones_last() {
    let mut book = AddressBook::new(4, false);
    let peers: Vec<_> = (0..8).map(|port| at([port])).collect();
    book.note(&peers[0], Source::Itself, true);
    peers[1..4].iter().for_each(|peer| _ = book.note(peer, Source::Itself, false));
    book.used(peers[1].key());
    peers[4..6].iter().for_each(|peer| _ = book.note(peer, Source::Itself, false));
    let kept: Vec<_> = (0..8).filter(|i| book.get(peers[*i].key()).is_some()).collect();
    assert_eq!(kept, [0, 1, 4, 5]);
}

#[test]
fn no_network_fills_it_where_networks_count() {
    for (by_group, expected) in [(true, 10), (false, 0)] {
        let mut book = AddressBook::new(80, by_group);
        let others: Vec<_> = (1..=10).map(within).collect();
        others.iter().for_each(|peer| _ = book.note(peer, Source::Itself, false));
        (0..1_000).for_each(|_| _ = book.note(&within(200), Source::Itself, true));
        assert_eq!(others.iter().filter(|peer| book.get(peer.key()).is_some()).count(), expected);
        assert_eq!(count(&book), if by_group { 20 } else { 80 });
    }
}

#[test]
fn where_a_peer_is_not_is_forgotten() {
    let mut book = AddressBook::new(10, false);
    let peer = PeerId::random();
    let key = *told(peer, []).key();
    book.note(&told(peer, [1]), Source::Reached, true);
    book.note(&told(peer, [2]), Source::Itself, true);
    book.note(&told(peer, [3, 4]), Source::Rumour, true);
    let wrong = told(peer, [1, 2, 3]);
    book.forget(&key, wrong.raw_addrs(), false);
    let again = book.note(&told(peer, [3, 4]), Source::Rumour, true);
    assert_eq!(ports(&again), [1, 2, 4], "nor is it believed again");
    assert_eq!(
        ports(book.get(&key).unwrap()),
        [1, 2, 4],
        "it may well be where it says, and cannot be got to from here"
    );
    book.forget(&key, told(peer, [2]).raw_addrs(), true);
    assert_eq!(ports(book.get(&key).unwrap()), [1, 4], "where someone else is it is not");
    assert_eq!(book.known(&key).len(), 1);
    book.forget(&key, told(peer, [1, 4]).raw_addrs(), true);
    assert_eq!((book.get(&key), count(&book)), (None, 0));
    book.note(&told(peer, [1]), Source::Application, false);
    book.forget(&key, told(peer, [1]).raw_addrs(), true);
    assert!(book.get(&key).is_some(), "the application takes back what it said itself");
}
