use libp2p_identity::PeerId;

use super::*;

fn raw(text: &str) -> Bytes {
    Bytes::from(text.parse::<multiaddr::Multiaddr>().unwrap().to_vec())
}

fn key() -> Key {
    Key::from(&PeerId::random())
}

#[test]
fn a_host_takes_few_attempts_and_a_success_there_takes_them_back() {
    let (mut dials, now, at) = (Dials::new(10), Timestamp::from_secs(100), raw("/ip4/1.2.3.4/tcp/1"));
    let spend = |dials: &mut Dials, now: Timestamp| (0..100).filter(|_| dials.spend(now, &key(), &at)).count();
    assert_eq!(spend(&mut dials, now), 3);
    assert_eq!(spend(&mut dials, now + (PERIOD - Duration::from_secs(1))), 0);
    assert!(dials.spend(now, &key(), &raw("/ip4/1.2.3.5/tcp/1")), "another host");
    dials.on_connected(now, &key(), Some(&raw("/ip4/1.2.3.4/tcp/77")));
    assert_eq!(spend(&mut dials, now), 4, "one more than before");
    assert_eq!(spend(&mut dials, now + PERIOD), 3);
    assert!((0..100).all(|_| dials.spend(now, &key(), &raw("/memory/7"))), "what is on no network has no budget");
}

#[test]
fn a_network_takes_thirty_and_all_names_are_one() {
    let (mut dials, now) = (Dials::new(10), Timestamp::ZERO);
    let hosts = |dials: &mut Dials, host: &dyn Fn(u32) -> String| {
        (0..250).filter(|n| dials.spend(now, &key(), &raw(&host(*n)))).count()
    };
    assert_eq!(hosts(&mut dials, &|n| format!("/ip4/1.2.3.{n}/tcp/1")), 30);
    assert_eq!(hosts(&mut dials, &|n| format!("/ip6/2a01:4f8:1:{n}::1/tcp/1")), 30);
    assert_eq!(hosts(&mut dials, &|n| format!("/dns4/a.b{n}.com/tcp/1")), 30);
    let mut dials = Dials::new(10);
    assert_eq!(hosts(&mut dials, &|n| format!("/dns4/a{n}.victim.com/tcp/1")), 3);
    let success = |dials: &mut Dials, n: u32| {
        let (at, addr) = (Contact::new(PeerId::random(), []), raw(&format!("/ip4/7.7.7.{n}/tcp/1")));
        dials.on_named(at.key(), &key());
        let left = dials.spend(now, at.key(), &addr);
        dials.begin(now, &at, Host::of(&addr).into_iter().collect());
        // Whoever names it meanwhile, and whoever of the two connects first.
        dials.on_named(at.key(), &key());
        dials.on_connected(now, at.key(), Some(&addr[..]).filter(|_| n.is_multiple_of(2)));
        left
    };
    assert!((0..250).all(|n| success(&mut dials, n)), "only failed attempts count");
}

#[test]
fn whoever_names_rubbish_leaves_a_third_to_others() {
    let (mut dials, now, at) = (Dials::new(10), Timestamp::ZERO, raw("/ip4/1.2.3.4/tcp/1"));
    let (liar, honest) = (key(), key());
    let spend = |dials: &mut Dials, by: &Key| {
        let peer = key();
        dials.on_named(&peer, by);
        dials.spend(now, &peer, &at)
    };
    assert_eq!((0..100).filter(|_| spend(&mut dials, &liar)).count(), 2);
    assert!(spend(&mut dials, &honest));
    assert!(!spend(&mut dials, &honest));
}

#[test]
fn memory_is_bounded() {
    let mut dials = Dials::new(10);
    for n in 0..3 * MAX_DESTINATIONS as u32 {
        let now = Timestamp::from_secs(u64::from(n));
        let [_, a, b, c] = n.to_be_bytes();
        let (peer, addr) = (PeerId::random(), raw(&format!("/ip4/{}.{b}.{c}.1/tcp/1", a + 1)));
        dials.on_named(&Key::from(&peer), &key());
        dials.spend(now, &Key::from(&peer), &addr);
        dials.begin(now, &Contact::new(peer, []), Vec::new());
        dials.set_wrong(&Contact::from_raw(peer, [addr.clone()]));
        dials.on_failed(now, &Key::from(&peer), &[n as u8; 3], DialCause::NoTransport);
        assert!(dials.spent.len() <= MAX_DESTINATIONS && dials.namers.len() <= MAX_NAMERS);
        assert!(dials.under_way.len() <= MAX_DESTINATIONS + 1 && dials.transports.len() <= MAX_TRANSPORTS);
        assert!(dials.wrong.len() <= 10);
    }
}

#[test]
fn wrong_addresses_are_forgotten_when_whoever_should_know_says_so() {
    let (mut dials, peer) = (Dials::new(10), PeerId::random());
    let at = |port: u16| Contact::new(peer, [format!("/ip4/1.2.3.4/tcp/{port}").parse().unwrap()]);
    dials.set_wrong(&at(1));
    dials.set_wrong(&at(2));
    dials.set_right(&at(1));
    let wrong = |dials: &Dials, port| dials.is_wrong(at(port).key(), &at(port).raw_addrs()[0]);
    assert_eq!([1, 2].map(|port| wrong(&dials, port)), [false, true]);
    dials.set_right(&at(2));
    assert!(dials.wrong.is_empty());
}
