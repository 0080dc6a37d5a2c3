use libp2p_identity::PeerId;

use super::*;
use crate::core::peers::addresses::{MAX_FIRST_HAND, MAX_HEARSAY};

impl AddressBook {
    fn say(&mut self, contact: &Arc<Contact>, source: AddrSource, connected: bool) -> Arc<Contact> {
        self.note(contact, source, &LinkState { connected, host: None }, None);
        self.get(contact.key()).unwrap_or_else(|| contact.with_addrs([]))
    }

    fn told(&self, key: &Key) -> usize {
        self.addrs(key).map_or(0, |addrs| addrs.first_hand())
    }
}

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
    let notes = || book.notes.iter().flatten();
    assert_eq!((notes().count(), book.by_key.len()), (book.order.len(), book.order.len()));
    assert_eq!(book.notes.len(), book.order.len() + book.free.len());
    assert!(book.notes.len() <= book.limit + 1);
    assert_eq!(book.groups.len(), notes().filter(|note| note.group.is_some()).count());
    book.order.len()
}

#[test]
fn is_bounded_and_keeps_what_the_application_named() {
    let mut book = AddressBook::new(10, false);
    let boot = at([1]);
    book.say(&boot, AddrSource::Application, false);
    for port in 2..1000 {
        book.say(&at([port]), AddrSource::Peer, false);
    }
    assert_eq!(count(&book), 10);
    assert_eq!(book.get(boot.key()), Some(boot));
    for port in 2..1000 {
        book.say(&at([port]), AddrSource::Application, false);
    }
    assert_eq!(count(&book), 10);
    assert_eq!(book.boot_nodes().count(), 10);
}

#[test]
fn a_named_peer_stays_named_and_gathers_addresses() {
    let mut book = AddressBook::new(10, false);
    let boot = at([1]);
    book.say(&boot, AddrSource::Application, false);
    assert_eq!(ports(&book.say(&told(*boot.peer(), [9]), AddrSource::Hearsay, false)), [1, 9]);
    assert_eq!(book.boot_nodes().count(), 1);
    assert_eq!(count(&book), 1);
}

#[test]
fn a_restored_peer_counts_as_a_boot_node_until_it_fails() {
    let mut book = AddressBook::new(10, false);
    let (kept, failed, both) = (at([1]), at([2]), at([3]));
    for peer in [&kept, &failed, &both] {
        book.say(peer, AddrSource::Peer, false);
        book.keep_as_boot_node(peer.key());
    }
    book.say(&both, AddrSource::Application, false);
    assert_eq!(book.boot_nodes().count(), 3);
    for peer in [&failed, &both] {
        book.on_failure(peer.key());
    }
    assert_eq!(book.boot_nodes().collect::<Vec<_>>(), [kept.key(), both.key()]);
    book.advance(Timestamp::ZERO + ADDRESS_TIME);
    assert!(book.get(failed.key()).is_none() && book.get(kept.key()).is_some() && book.get(both.key()).is_some());
    // An address that the application stated stays, whatever the table had before a restart.
    book.keep_as_boot_node(both.key());
    book.on_failure(both.key());
    assert_eq!(count(&book), 3);
    assert_eq!(book.boot_nodes().count(), 2);
}

#[test]
fn hearsay_is_limited_and_displaces_nothing() {
    let mut book = AddressBook::new(10, false);
    let peer = PeerId::random();
    let hearsay = book.say(&told(peer, 100..132), AddrSource::Hearsay, false);
    assert_eq!(ports(&hearsay), (100..108).collect::<Vec<_>>(), "in the order given");
    assert_eq!(book.told(hearsay.key()), 0);
    book.say(&told(peer, [1, 2]), AddrSource::Peer, true);
    let all = book.say(&told(peer, 200..232), AddrSource::Hearsay, true);
    assert_eq!((ports(&all)[..3].to_vec(), all.raw_addrs().count()), (vec![1, 2, 200], 2 + MAX_HEARSAY));
    for port in 1_000..1_100 {
        book.say(&told(peer, [port]), AddrSource::Peer, true);
    }
    assert_eq!(book.get(all.key()).unwrap().raw_addrs().count(), MAX_FIRST_HAND + MAX_HEARSAY);
    let again = book.say(&told(peer, [1, 2]), AddrSource::Hearsay, true);
    assert_eq!(book.told(again.key()), MAX_FIRST_HAND);
}

#[test]
fn what_is_old_is_forgotten_unless_it_is_connected_or_named() {
    let mut book = AddressBook::new(10, false);
    let (gone, here, named) = (at([1]), at([2]), at([3]));
    book.say(&gone, AddrSource::Peer, true);
    book.say(&here, AddrSource::Peer, true);
    book.say(&named, AddrSource::Application, false);
    book.advance(Timestamp::ZERO + ADDRESS_TIME * 2);
    assert!(book.get(gone.key()).is_some(), "while it is connected");
    book.set_connected(gone.key(), false);
    book.advance(Timestamp::ZERO + (ADDRESS_TIME * 3 - Duration::from_secs(1)));
    assert!(book.get(gone.key()).is_some(), "from its end on");
    book.advance(Timestamp::ZERO + ADDRESS_TIME * 3);
    assert!(book.get(gone.key()).is_none());
    assert!(book.get(here.key()).is_some() && book.get(named.key()).is_some());
    book.say(&at([4]), AddrSource::Hearsay, false);
    assert_eq!(count(&book), 3, "what is old gives its room back");
}

#[test]
fn the_longest_unused_go_first_and_connected_ones_last() {
    let mut book = AddressBook::new(4, false);
    let peers: Vec<_> = (0..8).map(|port| at([port])).collect();
    book.say(&peers[0], AddrSource::Peer, true);
    peers[1..4].iter().for_each(|peer| _ = book.say(peer, AddrSource::Peer, false));
    book.on_used(peers[1].key());
    peers[4..6].iter().for_each(|peer| _ = book.say(peer, AddrSource::Peer, false));
    let kept: Vec<_> = (0..8).filter(|i| book.get(peers[*i].key()).is_some()).collect();
    assert_eq!(kept, [0, 1, 4, 5]);
}

#[test]
fn no_network_fills_it_where_networks_count() {
    for (by_group, expected) in [(true, 10), (false, 0)] {
        let mut book = AddressBook::new(80, by_group);
        let others: Vec<_> = (1..=10).map(within).collect();
        others.iter().for_each(|peer| _ = book.say(peer, AddrSource::Peer, false));
        (0..1_000).for_each(|_| _ = book.say(&within(200), AddrSource::Peer, true));
        assert_eq!(others.iter().filter(|peer| book.get(peer.key()).is_some()).count(), expected);
        assert_eq!(count(&book), if by_group { 20 } else { 80 });
    }
}

#[test]
fn where_a_peer_is_not_is_forgotten() {
    let mut book = AddressBook::new(10, false);
    let peer = PeerId::random();
    let key = *told(peer, []).key();
    book.say(&told(peer, [1]), AddrSource::Connection, true);
    book.say(&told(peer, [2]), AddrSource::Peer, true);
    book.say(&told(peer, [3, 4]), AddrSource::Hearsay, true);
    book.forget(&key, &told(peer, [2, 3]));
    assert_eq!(ports(&book.get(&key).unwrap()), [1, 4]);
    book.forget(&key, &told(peer, [1, 4]));
    assert_eq!((book.get(&key), count(&book)), (None, 0));
    book.say(&told(peer, [1]), AddrSource::Application, false);
    book.forget(&key, &told(peer, [1]));
    assert!(book.get(&key).is_some(), "the application takes back what it said itself");
}
