//! Attackers try to direct a node's dials at a victim.

use std::sync::Arc;
use std::time::Duration;

use libp2p_identity::PeerId;
use multiaddr::Multiaddr;

use super::Network;
use super::network::peer;
use crate::core::address_policy::AddressPolicy;
use crate::core::config::DiversityConfig;
use crate::core::io::{Input, Operation, Output, QueryOptions};
use crate::core::message::{DialCause, Request, RequestError, Response, Unreachable};
use crate::core::{Answer, ClosestPeers, Contact, Dht, DhtConfig, Key, MemoryStore, MemoryStoreConfig, Timestamp};

const MINUTE: Duration = Duration::from_secs(60);

/// One node among attackers that answer, each at an address of its own, and the victim, a host where no peer answers.
struct Attack {
    dht: Dht,
    now: Timestamp,
    attackers: Vec<Arc<Contact>>,
    /// The only peers that the last of the attackers names, if that one is honest.
    honest: Option<Vec<Arc<Contact>>>,
    /// Real peers that the others name in addition to those that they make up.
    copied: Vec<Arc<Contact>>,
    connected: Vec<PeerId>,
    /// The address that attackers give for the nth peer that they make up.
    victim: fn(usize) -> String,
    /// Whether a peer listens at an address of the victim, so that a dial of it succeeds at once.
    alive: fn(&Multiaddr) -> bool,
    /// The reason why a dial of it fails.
    cause: DialCause,
    /// The times at which the node dialled the victim.
    connects: Vec<Timestamp>,
    made_up: usize,
}

impl Attack {
    fn new(config: DhtConfig, attackers: usize, victim: fn(usize) -> String) -> Attack {
        let now = Timestamp::from_secs(1_000);
        let store = Box::new(MemoryStore::new(MemoryStoreConfig::default(), [1; 32]));
        let local = Contact::new(PeerId::random(), ["/ip4/99.0.0.1/tcp/1".parse().unwrap()]);
        let dht = Dht::new(now, local, store, [1; 32], Arc::new(config)).unwrap();
        let at = |n: usize| Contact::new(PeerId::random(), [format!("/ip4/20.{n}.0.1/tcp/1").parse().unwrap()]);
        let attackers = (0..attackers).map(at).collect();
        let (connected, connects) = (Vec::new(), Vec::new());
        Attack {
            dht,
            now,
            attackers,
            honest: None,
            copied: Vec::new(),
            connected,
            victim,
            alive: |_| false,
            cause: DialCause::Refused,
            connects,
            made_up: 0,
        }
    }

    /// 40 made-up peers with 16 addresses each.
    fn answer(&mut self) -> Response {
        let peer = |stage: &mut Attack| {
            stage.made_up += 16;
            let from = stage.made_up;
            Contact::new(PeerId::random(), (0..16).map(|i| (stage.victim)(from + i).parse().unwrap()))
        };
        let mut closer = self.copied.clone();
        closer.extend((closer.len()..40).map(|_| peer(self)));
        Response::FindNode { closer }
    }

    /// Runs the node for this time.
    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            while let Some(output) = self.dht.poll_output() {
                let Output::Send { to, id, request } = output else { continue };
                self.on_send(&to, id, request);
            }
            match self.dht.poll_timeout().filter(|at| *at <= end) {
                Some(at) => {
                    self.now = self.now.max(at);
                    self.dht.handle_input(self.now, Input::Timeout);
                }
                None => break,
            }
        }
        self.now = end;
    }

    fn on_send(&mut self, to: &Arc<Contact>, id: crate::core::RequestId, _: Request) {
        let peer = *to.peer();
        let attacker = self.attackers.iter().any(|attacker| attacker.peer() == to.peer());
        let is_victims = |addr: &Multiaddr| !["/ip4/20.", OWN].iter().any(|own| addr.to_string().starts_with(own));
        if !self.connected.contains(&peer) {
            let at = to.addrs().filter(is_victims).count();
            self.connects.extend(std::iter::repeat_n(self.now, at));
            let reached = to.addrs().find(|addr| attacker && !is_victims(addr) || (self.alive)(addr));
            let Some(outbound_addr) = reached else {
                let addrs = to.addrs().map(|addr| (addr, self.cause)).collect();
                self.dht.handle_input(self.now, Input::DialFailed { peer, addrs });
                let result = Err(RequestError::Unreachable(Unreachable::DialFailed(self.cause)));
                return self.dht.handle_input(self.now, Input::Response { id, result });
            };
            self.connected.push(peer);
            let input = Input::Connected { peer, outbound_addr: Some(outbound_addr), inbound_addr: None };
            self.dht.handle_input(self.now, input);
            self.dht.handle_input(self.now, Input::Serves { peer, yes: true });
        }
        let last = self.attackers.last().is_some_and(|last| *last.peer() == peer);
        let honest = if last || !attacker { self.honest.clone() } else { None };
        let response = match honest {
            None if attacker => self.answer(),
            closer => Response::FindNode { closer: closer.unwrap_or_default() },
        };
        self.dht.handle_input(self.now, Input::Response { id, result: Ok(response) });
    }

    /// Maximum number of dials of the victim within a minute.
    fn most_a_minute(&self) -> usize {
        let within =
            |at: &Timestamp| self.connects.iter().filter(|other| at <= other && **other < *at + MINUTE).count();
        self.connects.iter().map(within).max().unwrap_or(0)
    }

    fn attack(&mut self) {
        for attacker in self.attackers.clone() {
            self.dht.handle_input(self.now, Input::AddPeer(attacker));
        }
        self.run(Duration::from_secs(5));
        for _ in 0..10 {
            let key = PeerId::random().to_bytes().into();
            self.dht.start(self.now, Operation::ClosestPeers { key }, QueryOptions::default()).unwrap();
            self.run(Duration::from_secs(20));
        }
    }
}

fn private(n: usize) -> String {
    format!("/ip4/10.1.2.3/tcp/{}", n % 60_000 + 1)
}

#[test]
fn answers_that_name_one_host_under_many_ids_make_few_connects_to_it() {
    for attackers in [1, 20] {
        let mut stage = Attack::new(DhtConfig::default(), attackers, private);
        stage.attack();
        assert!(stage.made_up >= 16 * 40, "the attack took place");
        let most = stage.most_a_minute();
        assert!((1..=3).contains(&most), "{attackers} attackers: {most}");
    }
}

/// The beginning of the attackers' own addresses, at which they answer.
const OWN: &str = "/ip4/30.";

/// The attacker answers at one of the addresses, and directs the attempts that are made at the same time.
#[test]
fn an_address_of_the_attackers_own_pays_for_no_dials_of_others() {
    let own_and = [
        |n: usize| if n.is_multiple_of(16) { format!("/ip4/30.0.0.1/tcp/{n}") } else { private(n) },
        |n: usize| {
            if n.is_multiple_of(16) { format!("/ip4/30.0.0.1/tcp/{n}") } else { format!("/dns4/a{n}.victim.com/tcp/1") }
        },
    ];
    for victim in own_and {
        let mut stage = Attack::new(DhtConfig::default(), 1, victim);
        stage.alive = |addr| addr.to_string().starts_with(OWN);
        stage.attack();
        let most = stage.most_a_minute();
        assert!((1..=3).contains(&most), "{most}");
    }
}

/// If two peers dial each other at the same time both dials fail, and one of them dials again: that is an attempt like
/// any other.
#[test]
fn a_host_that_breaks_handshakes_is_dialled_no_more_often() {
    for cause in [DialCause::Closed, DialCause::Handshake, DialCause::Unknown] {
        let mut stage = Attack::new(DhtConfig::default(), 1, private);
        stage.cause = cause;
        stage.attack();
        let most = stage.most_a_minute();
        assert!((1..=3).contains(&most), "{cause:?}: {most}");
    }
}

#[test]
fn only_dials_that_were_begun_count() {
    for (begun, most) in [(false, 6), (true, 2)] {
        let mut stage = Attack::new(DhtConfig::default(), 1, private);
        let (attacker, now, mut sent) = (Arc::clone(&stage.attackers[0]), stage.now, 0);
        let peer = *attacker.peer();
        let input = Input::Connected { peer, outbound_addr: attacker.addrs().next(), inbound_addr: None };
        stage.dht.handle_input(now, input);
        for port in 1..=6 {
            stage.dht.handle_input(now, Input::AddPeer(Arc::clone(&attacker)));
            let key = PeerId::random().to_bytes().into();
            let query = stage.dht.start(now, Operation::ClosestPeers { key }, QueryOptions::default()).unwrap();
            while let Some(output) = stage.dht.poll_output() {
                let Output::Send { to, id, .. } = output else { continue };
                if *to.peer() == peer {
                    let closer = vec![Contact::new(PeerId::random(), [private(port).parse().unwrap()])];
                    let result = Ok(Response::FindNode { closer });
                    stage.dht.handle_input(now, Input::Response { id, result });
                } else {
                    sent += 1;
                    if begun {
                        stage.dht.handle_input(now, Input::Dialling { id });
                    }
                }
            }
            stage.dht.cancel(query);
        }
        assert_eq!(sent, most, "begun: {begun}");
    }
}

#[test]
fn names_do_not_hide_a_host() {
    for name in
        [|n| format!("/dns4/a{n}.victim.com/tcp/{}", n % 60_000 + 1), |n| format!("/dns4/{n}.b.victim.com/tcp/1")]
    {
        let mut config = DhtConfig { address_policy: AddressPolicy::Public, ..DhtConfig::default() };
        config.routing.diversity = Some(DiversityConfig::default());
        let mut stage = Attack::new(config, 20, name);
        stage.attack();
        let most = stage.most_a_minute();
        assert!(most <= 3, "{most}");
    }
}

/// The attacker connects, claims a victim's addresses and hangs up before it is sent a request.
#[test]
fn what_a_caller_says_of_itself_aims_no_dials_once_it_has_gone() {
    let mut stage = Attack::new(DhtConfig::default(), 0, private);
    let mut asked = 0;
    for round in 0..200 {
        let peer = PeerId::random();
        let inbound_addr = Some(format!("/ip4/20.1.0.1/tcp/{}", 1_000 + round).parse().unwrap());
        stage.dht.handle_input(stage.now, Input::Connected { peer, outbound_addr: None, inbound_addr });
        let said = Contact::new(peer, (0..32).map(|n| private(n).parse().unwrap()));
        stage.dht.handle_input(stage.now, Input::Discovered(said));
        stage.dht.handle_input(stage.now, Input::Serves { peer, yes: true });
        // Requests to it meet a closed connection.
        let outputs: Vec<_> = std::iter::from_fn(|| stage.dht.poll_output()).collect();
        stage.dht.handle_input(stage.now, Input::Disconnected { peer });
        for output in outputs {
            let Output::Send { to, id, .. } = output else { continue };
            assert_eq!(*to.peer(), peer);
            stage.dht.handle_input(stage.now, Input::Response { id, result: Err(RequestError::ConnectionClosed) });
            asked += 1;
        }
        stage.run(Duration::from_millis(200));
    }
    assert!(asked > 100, "{asked}");
    assert!(stage.most_a_minute() <= 3, "{}", stage.most_a_minute());
}

/// An attacker, under many ids at one host, names dead ports of a host where an honest newcomer begins to serve, which
/// an honest peer names; or enough DNS names to use up the budget of all names together.
#[test]
fn an_honest_newcomer_is_reached_at_once_though_its_host_is_attacked() {
    let names: fn(usize) -> String = |n| format!("/dns4/a.b{n}.com/tcp/1");
    let [ip, name] = ["/ip4/10.1.2.3/tcp/65000", "/dns4/honest.org/tcp/1"];
    for (at, copied) in [(ip, false), (ip, true), (name, false), (name, true)] {
        let victim = if at == ip { private } else { names };
        let mut stage = Attack::new(DhtConfig::default(), 8, victim);
        for (n, attacker) in stage.attackers.iter_mut().enumerate().take(7) {
            *attacker = Contact::new(*attacker.peer(), [format!("/ip4/20.0.0.1/tcp/{}", n + 1).parse().unwrap()]);
        }
        stage.honest = Some(Vec::new());
        stage.alive = |addr| ["/ip4/10.1.2.3/tcp/65000", "/dns4/honest.org/tcp/1"].contains(&&*addr.to_string());
        stage.attack();
        let most = stage.most_a_minute();
        assert!(most <= if at == ip { 3 } else { 30 }, "{at}: {most}");
        let newcomer = Contact::new(PeerId::random(), [at.parse().unwrap()]);
        stage.honest = Some(vec![Arc::clone(&newcomer)]);
        stage.copied.extend(copied.then(|| Arc::clone(&newcomer)));
        let key = newcomer.peer().to_bytes().into();
        stage.dht.start(stage.now, Operation::ClosestPeers { key }, QueryOptions::default()).unwrap();
        stage.run(Duration::from_secs(1));
        assert!(stage.connected.contains(newcomer.peer()), "{at}, copied: {copied}");
    }
}

/// A `/dnsaddr` name stands for as many addresses as its owner likes, all of which could be the victim's.
#[test]
fn names_that_stand_for_any_number_of_addresses_are_not_dialled_on_hearsay() {
    let mut stage = Attack::new(DhtConfig::default(), 20, |n| format!("/dnsaddr/a.b{n}.com"));
    stage.attack();
    assert_eq!(stage.connects.len(), 0);
}

/// The attacker names dead ports of a host where an honest peer begins to serve, which says so itself.
#[test]
fn dead_ports_of_a_host_do_not_hide_an_honest_newcomer_there() {
    let mut stage = Attack::new(DhtConfig::default(), 1, private);
    stage.alive = |addr| addr.to_string() == "/ip4/10.1.2.3/tcp/65000";
    stage.attack();
    let newcomer = PeerId::random();
    let (addr, calls): (Multiaddr, _) = ("/ip4/10.1.2.3/tcp/65000".parse().unwrap(), "/ip4/10.1.2.3/tcp/40000");
    let inbound_addr = Some(calls.parse().unwrap());
    stage.dht.handle_input(stage.now, Input::Connected { peer: newcomer, outbound_addr: None, inbound_addr });
    stage.dht.handle_input(stage.now, Input::Discovered(Contact::new(newcomer, [addr])));
    stage.dht.handle_input(stage.now, Input::Serves { peer: newcomer, yes: true });
    stage.dht.handle_input(stage.now, Input::Disconnected { peer: newcomer });
    stage.run(Duration::from_secs(1));
    let table = stage.dht.routing_snapshot();
    assert!(table.entries().any(|entry| entry.peer == newcomer), "it tells its own address from that very host");
}

/// Nodes at these addresses; those of `dead` die, and then those of `late` join through the first.
fn crowd(
    count: usize,
    addr: fn(usize) -> String,
    dead: std::ops::Range<usize>,
    late: std::ops::Range<usize>,
) -> Network {
    let mut network = Network::new(count, DhtConfig::default());
    for i in 0..count {
        network.input(i, Input::LocalAddrs(vec![addr(i).parse().unwrap()]));
    }
    let boot = network.contact(0);
    let join = |network: &mut Network, i: usize| {
        network.input(i, Input::AddPeer(Arc::clone(&boot)));
        network.run(i, Operation::Bootstrap).unwrap();
    };
    (1..late.start).for_each(|i| join(&mut network, i));
    for i in dead {
        network.dead.insert(i);
        (0..count).for_each(|other| network.disconnect(other, i));
    }
    late.for_each(|i| join(&mut network, i));
    network.advance(Duration::from_secs(10));
    network
}

/// The share of the k closest live nodes that lookups of some of their keys find.
fn recall(network: &mut Network, k: usize) -> f64 {
    let living: Vec<_> = (0..network.nodes.len()).filter(|i| !network.dead.contains(i)).collect();
    let (mut found, mut all) = (0, 0);
    for (n, i) in living.iter().enumerate().step_by(living.len().div_ceil(40)) {
        let key = peer(living[n * 7 % living.len()]).to_bytes();
        let place = Key::hash(&key);
        let mut closest: Vec<_> = living.iter().filter(|other| *other != i).map(|other| peer(*other)).collect();
        closest.sort_by_key(|peer| Key::from(peer).distance(&place));
        closest.truncate(k);
        let Ok(Answer::ClosestPeers(ClosestPeers { peers, .. })) =
            network.run(*i, Operation::ClosestPeers { key: key.into() })
        else {
            panic!("{i} finds no peer");
        };
        found += peers.iter().filter(|found| closest.contains(&found.id)).count();
        all += closest.len();
    }
    found as f64 / all as f64
}

#[test]
fn two_hundred_nodes_of_one_network_find_each_other() {
    let mut network = crowd(200, |i| format!("/ip4/10.0.0.{}/tcp/4001", i + 1), 0..0, 200..200);
    let recall = recall(&mut network, 20);
    assert!(recall > 0.995, "{recall}");
}

#[test]
fn thirty_nodes_of_one_machine_find_each_other_though_ten_are_dead() {
    let mut network = crowd(30, |i| format!("/ip4/127.0.0.1/tcp/{}", 4_001 + i), 5..15, 22..30);
    let recall = recall(&mut network, 19);
    assert!(recall > 0.995, "{recall}");
}

/// Only the first node knows the others, which know nobody: no second answer names a peer that could not be dialled yet.
#[test]
fn a_node_that_hears_of_twenty_peers_of_one_machine_reaches_them_all() {
    let mut network = Network::new(22, DhtConfig::default());
    for i in 0..22 {
        network.input(i, Input::LocalAddrs(vec![format!("/ip4/127.0.0.1/tcp/{}", 4_001 + i).parse().unwrap()]));
    }
    let (now, key) = (network.now, bytes::Bytes::from_static(b"point"));
    for i in 1..21 {
        let contact = network.contact(i);
        network.nodes[0].admit_verified(now, &contact);
    }
    network.input(21, Input::AddPeer(network.contact(0)));
    let Ok(Answer::ClosestPeers(found)) = network.run(21, Operation::ClosestPeers { key }) else { panic!() };
    assert_eq!(found.peers.len(), 20, "{:?}", found.report);
    assert!(found.report.failed.is_empty(), "{:?}", found.report);
}
