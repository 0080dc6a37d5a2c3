use libp2p_identity::PeerId;

use bytes::Bytes;

use super::*;

fn raw(text: &str) -> Bytes {
    Bytes::from(text.parse::<multiaddr::Multiaddr>().unwrap().to_vec())
}

fn key() -> Key {
    Key::from(&PeerId::random())
}

/// Referrers in enough networks to use up all budgets.
fn many() -> Vec<Referrer> {
    (1..100).map(|n| Some(Host::V4(n << 24))).collect()
}

/// Takes an attempt in the share of one of these. Returns whether one was left.
fn take_attempt(dials: &mut DialHistory, now: Timestamp, addr: &[u8], referrers: &[Referrer]) -> bool {
    Host::of(addr).is_none_or(|host| dials.take_attempt(now, host, referrers).is_some())
}

#[test]
fn a_host_takes_few_attempts_and_a_success_there_takes_them_back() {
    let (mut dials, now, at) = (DialHistory::new(10), Timestamp::from_secs(100), raw("/ip4/1.2.3.4/tcp/1"));
    let spends =
        |dials: &mut DialHistory, now: Timestamp| (0..100).filter(|_| take_attempt(dials, now, &at, &many())).count();
    assert_eq!(spends(&mut dials, now), 3);
    assert_eq!(spends(&mut dials, now + (PERIOD - Duration::from_secs(1))), 0);
    assert!(take_attempt(&mut dials, now, &raw("/ip4/1.2.3.5/tcp/1"), &[None]), "another host");
    dials.on_connected(&key(), Some(&raw("/ip4/1.2.3.4/tcp/77")), true);
    assert_eq!(spends(&mut dials, now), 4, "one more than before");
    assert_eq!(spends(&mut dials, now + PERIOD), 3);
}

#[test]
fn a_network_takes_thirty_and_all_names_are_one() {
    let (mut dials, now) = (DialHistory::new(10), Timestamp::ZERO);
    let hosts = |dials: &mut DialHistory, host: &dyn Fn(u32) -> String| {
        (0..250).filter(|n| take_attempt(dials, now, &raw(&host(*n)), &many())).count()
    };
    assert_eq!(hosts(&mut dials, &|n| format!("/ip4/1.2.3.{n}/tcp/1")), 30);
    assert_eq!(hosts(&mut dials, &|n| format!("/ip6/2a01:4f8:1:{n}::1/tcp/1")), 30);
    assert_eq!(hosts(&mut dials, &|n| format!("/dns4/a.b{n}.com/tcp/1")), 30);
    let mut dials = DialHistory::new(10);
    assert_eq!(hosts(&mut dials, &|n| format!("/dns4/a{n}.victim.com/tcp/1")), 3);
    let success = |dials: &mut DialHistory, n: u32| {
        let (at, addr) = (Contact::new(PeerId::random(), []), raw(&format!("/ip4/7.7.7.{n}/tcp/1")));
        let spent: Vec<_> = Host::of(&addr)
            .and_then(|host| Some((host, dials.take_attempt(now, host, &[None])?)))
            .into_iter()
            .collect();
        let left = !spent.is_empty();
        dials.begin(now, &at, spent);
        // By its own connection and by a dial, alternately.
        dials.on_connected(at.key(), Some(&addr[..]), n.is_multiple_of(2));
        left
    };
    assert!((0..250).all(|n| success(&mut dials, n)), "only failed attempts count");
}

#[test]
fn whoever_names_rubbish_uses_up_its_own_share() {
    let (mut dials, now) = (DialHistory::new(10), Timestamp::ZERO);
    let [liar, other, third] = [1, 2, 3].map(|n| Some(Host::V4(n << 24 | 1)));
    let (host, name) = (raw("/ip4/9.8.7.6/tcp/1"), |n: u32| raw(&format!("/dns4/a.b{n}.com/tcp/1")));
    let spends = |dials: &mut DialHistory, addr: &dyn Fn(u32) -> Bytes, referrers: &[Referrer]| {
        (0..250).filter(|n| take_attempt(dials, now, &addr(*n), referrers)).count()
    };
    let at_host = |_| host.clone();
    assert_eq!(spends(&mut dials, &at_host, &[liar]), 2);
    assert_eq!(spends(&mut dials, &at_host, &[liar, other]), 1, "of whichever may, though a liar named it too");
    assert_eq!(spends(&mut dials, &at_host, &[third]), 0, "but never more than three in all");
    assert_eq!(spends(&mut dials, &name, &[None]), 20, "all of whom nothing is known are one");
    assert_eq!(spends(&mut dials, &name, &[other, None]), 10);
    let (there, beside) = (Host::of(&host), Host::of(&raw("/ip4/9.8.7.5/tcp/1")));
    let mut dials = DialHistory::new(10);
    assert_eq!(spends(&mut dials, &at_host, &[there]), 3, "a peer at that host may as well name itself");
    let of_network = |n: u32| raw(&format!("/ip4/9.8.7.{n}/tcp/1"));
    assert_eq!(spends(&mut DialHistory::new(10), &of_network, &[beside]), 30);
    assert_eq!(spends(&mut DialHistory::new(10), &of_network, &[liar]), 20);
}

#[test]
fn an_address_that_nobody_can_have_switches_no_transport_off() {
    let (mut dials, now) = (DialHistory::new(10), Timestamp::ZERO);
    let (zero, one) = (raw("/ip4/8.8.8.8/tcp/0"), raw("/ip4/1.2.3.4/tcp/1"));
    dials.on_failed(now, &key(), &zero, DialCause::NoTransport, false);
    assert!(dials.lacks_transport(&zero) && !dials.lacks_transport(&one));
    dials.on_connected(&key(), Some(&one), true);
    dials.on_failed(now, &key(), &raw("/ip4/1.2.3.4/tcp/2"), DialCause::NoTransport, false);
    assert!(!dials.lacks_transport(&one), "it works, whatever else is wrong with that address");
    dials.on_failed(now, &key(), &raw("/ip6/::1/tcp/2"), DialCause::NoTransport, false);
    dials.on_connected(&key(), Some(&raw("/ip6/::1/tcp/3")), true);
    assert!(!dials.lacks_transport(&raw("/ip6/::1/tcp/2")), "nor is that for ever");
}

/// Spends as many attempts as it can on a dial of this peer at these addresses.
fn dial(dials: &mut DialHistory, now: Timestamp, peer: &Arc<Contact>, addrs: &[&str]) -> usize {
    let spent =
        |addr: &&str| Host::of(&raw(addr)).and_then(|host| Some((host, dials.take_attempt(now, host, &many())?)));
    let spent: Vec<_> = addrs.iter().filter_map(spent).collect();
    let count = spent.len();
    dials.begin(now, peer, spent);
    count
}

#[test]
fn only_the_host_that_answers_gets_its_attempts_back() {
    let (mut dials, now) = (DialHistory::new(10), Timestamp::ZERO);
    let (victim, own) = ("/ip4/1.2.3.4/tcp/1", raw("/ip4/5.6.7.8/tcp/1"));
    // By a dial; by a connection of the peer's own; and by one whose other end is not known.
    for (end, dialled) in [(Some(&own[..]), true), (Some(&own[..]), false), (None, false)] {
        let peer = Contact::new(PeerId::random(), []);
        assert_eq!(dial(&mut dials, now, &peer, &[victim, "/ip4/5.6.7.8/tcp/1"]), 2);
        dials.on_connected(peer.key(), end, dialled);
    }
    assert!(!take_attempt(&mut dials, now, &raw(victim), &many()));
}

#[test]
fn a_dial_that_was_never_begun_is_not_counted_once_nobody_waits_for_it() {
    let (mut dials, now, addr) = (DialHistory::new(10), Timestamp::ZERO, "/ip4/1.2.3.4/tcp/1");
    for _ in 0..10 {
        let peer = Contact::new(PeerId::random(), []);
        assert_eq!(dial(&mut dials, now, &peer, &[addr]), 1);
        assert!(dials.join(now, peer.key()).is_some());
        dials.cancel(peer.key());
        assert!(dials.under_way.contains_key(peer.key()), "another waits for it");
        dials.cancel(peer.key());
        assert!(dials.under_way.is_empty());
    }
}

#[test]
fn dials_under_way_are_bounded_though_all_began_at_once() {
    let mut dials = DialHistory::new(10);
    for _ in 0..MAX_DESTINATIONS * 2 {
        dials.begin(Timestamp::ZERO, &Contact::new(PeerId::random(), []), Vec::new());
        assert!(dials.under_way.len() <= MAX_DESTINATIONS);
    }
}

#[test]
fn memory_is_bounded() {
    let mut dials = DialHistory::new(10);
    for n in 0..3 * MAX_DESTINATIONS as u32 {
        let now = Timestamp::from_secs(u64::from(n));
        let [_, a, b, c] = n.to_be_bytes();
        let (peer, addr) = (PeerId::random(), raw(&format!("/ip4/{}.{b}.{c}.1/tcp/1", a + 1)));
        take_attempt(&mut dials, now, &addr, &[None]);
        dials.begin(now, &Contact::new(peer, []), Vec::new());
        dials.set_wrong(&Contact::from_raw(peer, [addr.as_ref()]));
        dials.on_failed(now, &Key::from(&peer), &[n as u8; 3], DialCause::NoTransport, false);
        assert!(dials.spent.len() <= MAX_DESTINATIONS);
        assert!(dials.under_way.len() <= MAX_DESTINATIONS && dials.transports.len() <= MAX_TRANSPORTS);
        assert!(dials.wrong.len() <= 10);
    }
}

#[test]
fn wrong_addresses_are_forgotten_when_whoever_should_know_says_so() {
    let (mut dials, peer) = (DialHistory::new(10), PeerId::random());
    let at = |port: u16| Contact::new(peer, [format!("/ip4/1.2.3.4/tcp/{port}").parse().unwrap()]);
    dials.set_wrong(&at(1));
    dials.set_wrong(&at(2));
    dials.set_right(&at(1));
    let wrong = |dials: &DialHistory, port| dials.is_wrong(at(port).key(), at(port).raw_addrs().next().unwrap());
    assert_eq!([1, 2].map(|port| wrong(&dials, port)), [false, true]);
    dials.set_right(&at(2));
    assert!(dials.wrong.is_empty());
}

#[test]
fn without_connections_an_answer_tells_that_a_dial_succeeded() {
    let now = Timestamp::ZERO;
    let answers = |hosts: &[&str]| {
        let mut dials = DialHistory::new(10);
        let dial = |dials: &mut DialHistory| {
            let spend = |host: &Host| Some((*host, dials.take_attempt(now, *host, &[None])?));
            let hosts: Vec<_> = hosts.iter().filter_map(|addr| Host::of(&raw(addr))).collect();
            let spent: Vec<_> = hosts.iter().map_while(spend).collect();
            let left = spent.len() == hosts.len();
            let at = Contact::new(PeerId::random(), []);
            dials.begin(now, &at, spent);
            dials.on_answer(at.key());
            left
        };
        (0..50).filter(|_| dial(&mut dials)).count()
    };
    assert_eq!(answers(&["/ip4/1.2.3.4/udp/1"]), 50, "fifty nodes on one machine");
    // If one of two hosts answered, it is not known which: neither gets an attempt back.
    assert!(answers(&["/ip4/1.2.3.4/udp/1", "/ip4/9.9.9.9/udp/1"]) <= 3);
}
