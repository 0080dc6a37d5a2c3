use libp2p_identity::PeerId;

use super::*;

const LATER: Duration = Duration::from_secs(10);

fn of(addrs: impl IntoIterator<Item = String>) -> Arc<Contact> {
    Contact::new(PeerId::random(), addrs.into_iter().map(|addr| addr.parse().unwrap()))
}

fn at(ports: impl IntoIterator<Item = u16>) -> Arc<Contact> {
    of(ports.into_iter().map(|port| format!("/ip4/8.8.8.8/tcp/{port}")))
}

fn first(contact: &Contact) -> &[u8] {
    contact.raw_addrs().next().unwrap()
}

fn none() -> Addresses {
    Addresses::new(&Contact::new(PeerId::random(), []))
}

fn ports(addrs: &Addresses) -> Vec<u16> {
    assert_eq!(addrs.notes.len(), addrs.contact.raw_addrs().count());
    let port = |addr: multiaddr::Multiaddr| addr.to_string().rsplit('/').next().and_then(|port| port.parse().ok());
    addrs.contact().addrs().filter_map(port).collect()
}

#[test]
fn where_it_was_reached_comes_first_then_what_it_says_now_then_what_it_said_then_hearsay() {
    let mut addrs = none();
    let mut now = Timestamp::from_secs(1);
    addrs.add(now, &at([90, 91]), AddrSource::Hearsay, None);
    addrs.add(now, &at([1, 2]), AddrSource::Peer, None);
    addrs.add(now, &at([3]), AddrSource::Peer, None);
    assert_eq!(ports(&addrs), [1, 2, 3, 90, 91], "one list, reported in two pieces");
    now += LATER;
    addrs.add(now, &at([4, 3]), AddrSource::Peer, None);
    assert_eq!(ports(&addrs), [4, 3, 1, 2, 90, 91]);
    addrs.add(now, &at([90]), AddrSource::Connection, None);
    assert_eq!(ports(&addrs), [90, 4, 3, 1, 2, 91]);
    assert_eq!(addrs.first_hand(), 5);
    addrs.add(now, &at([3, 4, 91]), AddrSource::Hearsay, None);
    assert_eq!(ports(&addrs), [90, 4, 3, 1, 2, 91], "hearsay takes nothing down");
    // It comes back, by a connection that it dialled: its list on this connection is newer than the address at which it
    // was reached.
    addrs.on_connected();
    addrs.add(now, &at([7]), AddrSource::Peer, None);
    assert_eq!(ports(&addrs), [7, 90, 4, 3, 1, 2, 91]);
}

#[test]
fn what_the_application_says_is_as_new_as_it_is_and_stays_trusted() {
    let mut addrs = none();
    addrs.add(Timestamp::from_secs(1), &at([1, 2]), AddrSource::Peer, None);
    addrs.add(Timestamp::from_secs(9), &at([3]), AddrSource::Application, None);
    assert_eq!(ports(&addrs), [3, 1, 2]);
    addrs.add(Timestamp::from_secs(19), &at([2]), AddrSource::Application, None);
    addrs.add(Timestamp::from_secs(29), &at([4]), AddrSource::Peer, None);
    assert_eq!(ports(&addrs), [4, 2, 3, 1]);
    assert_eq!([1, 2, 3, 4].map(|port| addrs.is_trusted(first(&at([port])))), [false, true, true, false]);
}

#[test]
fn after_any_number_of_moves_the_live_address_is_first() {
    for moves in [20, 45, 200] {
        let (mut heard, mut reached) = (none(), none());
        for port in 0..moves {
            let now = Timestamp::from_secs(u64::from(port) * 10);
            for addrs in [&mut heard, &mut reached] {
                addrs.on_connected();
            }
            reached.add(now, &at([port]), AddrSource::Connection, None);
            heard.add(now, &at([port]), AddrSource::Peer, None);
        }
        for addrs in [&heard, &reached] {
            assert_eq!((ports(addrs)[0], ports(addrs).len()), (moves - 1, MAX_FIRST_HAND));
        }
    }
}

#[test]
fn of_what_it_says_the_host_where_it_is_seen_comes_first() {
    let mut addrs = none();
    let dead = of((1..31).map(|host| format!("/ip4/10.0.0.{host}/tcp/1")));
    let told = dead.joined(&at([7]), 1);
    let seen = Host::of(first(&at([7])));
    addrs.add(Timestamp::ZERO, &told, AddrSource::Peer, seen.as_ref());
    assert_eq!(first(addrs.contact()), first(&at([7])));
    assert!(addrs.is_trusted(first(&at([7]))) && !addrs.is_trusted(first(&dead)));
}

#[test]
fn where_it_was_reached_is_not_cut_whatever_it_says() {
    let mut addrs = none();
    addrs.add(Timestamp::ZERO, &at([7]), AddrSource::Connection, None);
    addrs.on_connected();
    addrs.add(Timestamp::ZERO, &at(100..130), AddrSource::Peer, None);
    assert_eq!((addrs.contact().raw_addrs().count(), addrs.first_hand()), (MAX_FIRST_HAND, MAX_FIRST_HAND));
    assert_eq!(ports(&addrs), [100, 101, 102, 103, 104, 105, 106, 7]);
}

/// Whoever says them: long addresses take no more than their bytes, and not the place of where the peer was reached.
#[test]
fn long_addresses_are_cut_by_their_bytes() {
    let long = |port: u16| format!("/dns4/{}/tcp/{port}", "a".repeat(480));
    let mut addrs = none();
    addrs.add(Timestamp::ZERO, &at([7]), AddrSource::Connection, None);
    addrs.on_connected();
    addrs.add(Timestamp::ZERO, &of((1..=20).map(long)), AddrSource::Peer, None);
    addrs.add(Timestamp::ZERO, &of((31..=50).map(long)), AddrSource::Hearsay, None);
    let bytes = |addrs: &Addresses| addrs.contact().raw_addrs().map(<[u8]>::len).sum::<usize>();
    assert!((MAX_BYTES - 500..=MAX_BYTES).contains(&bytes(&addrs)), "{}", bytes(&addrs));
    assert_eq!(ports(&addrs), [1, 2, 3, 4, 7]);
    assert!(bytes(&Addresses::new(&of((1..=20).map(long)))) <= MAX_BYTES);
}

#[test]
fn all_of_its_addresses_replace_the_old_ones_and_none_replace_nothing() {
    let mut addrs = none();
    let mut now = Timestamp::from_secs(1);
    addrs.add(now, &at([1]), AddrSource::Connection, None);
    addrs.add(now, &at([2, 3]), AddrSource::Peer, None);
    addrs.add(now, &at([90]), AddrSource::Hearsay, None);
    now += LATER;
    addrs.add(now, &at([]), AddrSource::PeerList, None);
    assert_eq!(ports(&addrs), [1, 2, 3, 90]);
    addrs.add(now, &at([4, 3]), AddrSource::PeerList, None);
    assert_eq!(ports(&addrs), [1, 4, 3, 90]);
}

#[test]
fn what_is_said_again_changes_nothing() {
    let mut addrs = none();
    addrs.add(Timestamp::ZERO, &at([1]), AddrSource::Connection, None);
    addrs.add(Timestamp::ZERO, &at([1, 2]), AddrSource::Peer, None);
    let before = Arc::clone(addrs.contact());
    for second in 0..10 {
        let now = Timestamp::from_secs(second * 10);
        addrs.add(now, &at([1]), AddrSource::Connection, None);
        addrs.add(now, &at([1, 2]), AddrSource::Peer, None);
        addrs.add(now, &at([2]), AddrSource::Hearsay, None);
        assert!(Arc::ptr_eq(addrs.contact(), &before));
    }
}
