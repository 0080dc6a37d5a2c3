//! Peers that the application did not add enter the table: through mDNS, through other behaviours, and without
//! identify.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::StreamExt as _;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, PeerId, StreamProtocol, Swarm, SwarmBuilder, identify, mdns, noise, tcp, yamux};
use libp2p_kad_dht as kad;
use libp2p_kad_dht::DhtHandle;
use libp2p_kad_dht::core::AddressPolicy;
use tokio::task::JoinHandle;

use super::node::{Node, Setup};
use super::{PROTOCOL, soon, until};

const LAN: StreamProtocol = StreamProtocol::new("/test/lan/kad/1.0.0");
/// Addresses of the nodes in the network namespace.
const HOST: &str = "/ip4/10.77.0.1/tcp/0";

#[derive(NetworkBehaviour)]
struct One {
    mdns: Toggle<mdns::tokio::Behaviour>,
    identify: Toggle<identify::Behaviour>,
    kad: kad::Behaviour,
}

#[derive(NetworkBehaviour)]
struct Two {
    mdns: mdns::tokio::Behaviour,
    identify: identify::Behaviour,
    kad: kad::Dual,
}

/// A swarm that is polled in a task of its own.
struct Polled {
    peer: PeerId,
    addr: Multiaddr,
    task: JoinHandle<()>,
    /// Number of `NoIdentify` events.
    warned: Arc<AtomicUsize>,
}

impl Drop for Polled {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn identify(key: &libp2p::identity::PublicKey) -> identify::Behaviour {
    identify::Behaviour::new(identify::Config::new("/test/1.0.0".into(), key.clone()))
}

/// Builds a swarm on TCP and QUIC, has it listen, and polls it.
macro_rules! polled {
    ($addr:expr, $behaviour:expr, $is_warning:pat) => {{
        let mut swarm = SwarmBuilder::with_new_identity()
            .with_tokio()
            .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
            .unwrap()
            .with_quic()
            .with_behaviour($behaviour)
            .unwrap()
            .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(60)))
            .build();
        let addr: Multiaddr = $addr.parse().unwrap();
        swarm.listen_on(addr).unwrap();
        let addr = listening(&mut swarm).await;
        let (peer, warned) = (*swarm.local_peer_id(), Arc::new(AtomicUsize::new(0)));
        let count = Arc::clone(&warned);
        let task = tokio::spawn(async move {
            loop {
                if let SwarmEvent::Behaviour($is_warning) = swarm.select_next_some().await {
                    count.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        Polled { peer, addr, task, warned }
    }};
}

async fn listening<B: NetworkBehaviour>(swarm: &mut Swarm<B>) -> Multiaddr {
    loop {
        if let SwarmEvent::NewListenAddr { address, .. } = soon(swarm.next()).await.unwrap() {
            return address;
        }
    }
}

async fn one(addr: &str, with_mdns: bool, with_identify: bool) -> (Polled, DhtHandle) {
    let mut dht = None;
    let behaviour = |key: &libp2p::identity::Keypair| {
        let (key, peer) = (key.public(), key.public().to_peer_id());
        let kad = kad::Behaviour::new(peer, kad::Config::new(PROTOCOL)).unwrap();
        dht = Some(kad.handle());
        let mdns = with_mdns.then(|| mdns::Behaviour::new(mdns::Config::default(), peer).unwrap());
        One { mdns: mdns.into(), identify: with_identify.then(|| identify(&key)).into(), kad }
    };
    let polled = polled!(addr, behaviour, OneEvent::Kad(kad::Event::NoIdentify));
    (polled, dht.unwrap())
}

async fn two(addr: &str) -> (Polled, kad::handle::DualHandle) {
    let mut dht = None;
    let behaviour = |key: &libp2p::identity::Keypair| {
        let (key, peer) = (key.public(), key.public().to_peer_id());
        let network = |name, policy| kad::Config::new(name).with_address_policy(policy);
        let kad = kad::Dual::new(peer, network(PROTOCOL, AddressPolicy::Public), network(LAN, AddressPolicy::Lan));
        let kad = kad.unwrap();
        dht = Some(kad.handle());
        Two { mdns: mdns::Behaviour::new(mdns::Config::default(), peer).unwrap(), identify: identify(&key), kad }
    };
    let polled = polled!(addr, behaviour, TwoEvent::Kad(kad::net::DualEvent { event: kad::Event::NoIdentify, .. }));
    (polled, dht.unwrap())
}

async fn table(dht: &DhtHandle) -> usize {
    dht.routing_table().await.unwrap().entries().count()
}

async fn know(dht: &DhtHandle, others: usize) {
    until(async || (table(dht).await == others).then_some(())).await;
}

/// Runs a test that is ignored otherwise in a network of its own, where multicast reaches this process alone. On a
/// machine without such networks it prints the name of the test instead.
fn in_a_network_of_its_own(test: &str) {
    let inside = |program: &std::ffi::OsStr, args: &[&str]| {
        let network = "ip link set lo up && ip addr add 10.77.0.1/24 dev lo && ip link set lo multicast on \
                       && ip route add 224.0.0.0/4 dev lo && exec \"$0\" \"$@\"";
        Command::new("unshare").args(["-rn", "sh", "-c", network]).arg(program).args(args).output()
    };
    match inside("true".as_ref(), &[]) {
        Ok(made) if made.status.success() => {}
        Ok(made) => {
            return eprintln!("SKIPPED {test}: no network namespace: {}", String::from_utf8_lossy(&made.stderr));
        }
        Err(why) => return eprintln!("SKIPPED {test}: no `unshare`: {why}"),
    }
    let this = std::env::current_exe().unwrap();
    let ran = inside(this.as_os_str(), &["--exact", test, "--ignored", "--nocapture"]).unwrap();
    let said = [&ran.stdout[..], &ran.stderr[..]].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(ran.status.success() && said.contains("1 passed"), "{test}: {said}");
}

#[test]
fn a_peer_found_by_mdns_is_in_the_table_without_any_wiring() {
    in_a_network_of_its_own("discovery::with_mdns");
}

#[tokio::test]
#[ignore = "needs a network of its own: `a_peer_found_by_mdns_is_in_the_table_without_any_wiring` makes one"]
async fn with_mdns() {
    for with_identify in [true, false] {
        let mut nodes = Vec::new();
        for _ in 0..3 {
            nodes.push(one(HOST, true, with_identify).await);
        }
        for (_, dht) in &nodes {
            know(dht, 2).await;
        }
        soon(nodes[0].1.put(b"/a/b", b"value")).await.unwrap();
        assert_eq!(&soon(nodes[2].1.get(b"/a/b")).await.unwrap().record.value[..], b"value");
    }
}

#[test]
fn a_peer_found_by_mdns_is_in_the_local_one_of_two_networks() {
    in_a_network_of_its_own("discovery::with_mdns_and_two_networks");
}

#[tokio::test]
#[ignore = "needs a network of its own: `a_peer_found_by_mdns_is_in_the_local_one_of_two_networks` makes one"]
async fn with_mdns_and_two_networks() {
    let mut nodes = Vec::new();
    for _ in 0..3 {
        nodes.push(two(HOST).await);
    }
    for (_, dht) in &nodes {
        know(dht.lan(), 2).await;
        assert_eq!(table(dht.wan()).await, 0, "the wide network does not use a local address");
    }
}

/// Through the swarm, as any behaviour reports the peers that it finds.
#[tokio::test]
async fn a_peer_that_the_swarm_reports_is_in_the_table() {
    for identify in [true, false] {
        let setup = Setup { identify, ..Setup::default() };
        let (alice, bob) = (Node::with(setup.clone()).await, Node::with(setup).await);
        let (peer, addr) = (bob.peer, bob.addr.clone());
        alice.act(move |swarm| swarm.add_peer_address(peer, addr)).await;
        know(&alice.dht, 1).await;
        soon(alice.dht.put(b"/a/b", b"value")).await.unwrap();
        assert_eq!(&soon(bob.dht.get(b"/a/b")).await.unwrap().record.value[..], b"value");
    }
}

#[tokio::test]
async fn without_identify_peers_that_can_be_dialled_back_find_each_other_and_the_node_reports_what_is_missing() {
    for addr in ["/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"] {
        let mut nodes = vec![one(addr, false, false).await];
        for _ in 0..3 {
            let node = one(addr, false, false).await;
            node.1.add_peer(nodes[0].0.peer, [nodes[0].0.addr.clone()]);
            nodes.push(node);
        }
        for (_, dht) in &nodes {
            know(dht, 3).await;
        }
        let listed = soon(nodes[1].1.routing_table()).await.unwrap();
        for entry in listed.entries() {
            let (polled, _) = nodes.iter().find(|(polled, _)| polled.peer == entry.peer).unwrap();
            assert!(entry.addrs.contains(&polled.addr), "{:?} is not where it listens", entry.addrs);
        }
        assert_eq!(nodes[0].0.warned.load(Ordering::Relaxed), 1);
    }
}

#[tokio::test]
async fn with_identify_nothing_is_missing() {
    let first = one("/ip4/127.0.0.1/tcp/0", false, true).await;
    let second = one("/ip4/127.0.0.1/tcp/0", false, true).await;
    second.1.add_peer(first.0.peer, [first.0.addr.clone()]);
    know(&first.1, 1).await;
    // Requests come for longer than the node needs to notice that identify is missing.
    for n in 0..30_u8 {
        soon(second.1.closest_peers(vec![n])).await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(first.0.warned.load(Ordering::Relaxed), 0);
}
