//! Two networks in one swarm: records and addresses of one are neither known, handed out nor dialled in the other.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use libp2p::identity::Keypair;
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, PeerId, StreamProtocol, Swarm, identify};
use libp2p_kad_dht as kad;
use libp2p_kad_dht::core::AddressPolicy;
use libp2p_kad_dht::handle::{DualHandle, DualNetwork};
use libp2p_kad_dht::{DhtHandle, QueryError};
use std::sync::Mutex;
use tokio::task::JoinHandle;

use super::internet;
use super::{soon, until};

const WAN: StreamProtocol = StreamProtocol::new("/test/kad/1.0.0");
const LAN: StreamProtocol = StreamProtocol::new("/test/lan/kad/1.0.0");

#[derive(NetworkBehaviour)]
struct App {
    kad: kad::Dual,
    identify: identify::Behaviour,
}

struct Node {
    peer: PeerId,
    addrs: Vec<Multiaddr>,
    dht: DualHandle,
    dialled: Arc<Mutex<Vec<Multiaddr>>>,
    task: JoinHandle<()>,
}

impl Node {
    /// A node that listens at these addresses, each with a port of its own.
    async fn at(addrs: &[&str]) -> Node {
        let key = Keypair::generate_ed25519();
        let peer = key.public().to_peer_id();
        let network = |name, policy| kad::Config::new(name).with_address_policy(policy);
        let kad = kad::Dual::new(peer, network(WAN, AddressPolicy::Public), network(LAN, AddressPolicy::Lan)).unwrap();
        let dht = kad.handle();
        let identify = identify::Behaviour::new(identify::Config::new("/test/1.0.0".into(), key.public()));
        let config = libp2p::swarm::Config::with_tokio_executor().with_idle_connection_timeout(Duration::from_secs(60));
        let mut swarm = Swarm::new(internet::transport(&key), App { kad, identify }, peer, config);
        let addrs: Vec<Multiaddr> = addrs.iter().map(|addr| addr.parse().unwrap()).collect();
        for addr in &addrs {
            swarm.listen_on(addr.clone()).unwrap();
        }
        let dialled = Arc::new(Mutex::new(Vec::new()));
        let task = tokio::spawn(run(swarm, Arc::clone(&dialled)));
        let node = Node { peer, addrs, dht, dialled, task };
        for (dht, count) in [(node.dht.wan(), node.of(false).len()), (node.dht.lan(), node.of(true).len())] {
            until(async || (dht.local().await.unwrap().addrs.len() == count).then_some(())).await;
        }
        node
    }

    /// Its local or its public addresses.
    fn of(&self, local: bool) -> BTreeSet<Multiaddr> {
        self.addrs.iter().filter(|addr| is_local(addr) == local).cloned().collect()
    }

    /// The providers of `content` in both networks.
    async fn providers(&self, content: &'static str) -> BTreeSet<PeerId> {
        let (mut found, mut providers) = (BTreeSet::new(), self.dht.providers(content));
        while let Some(provider) = soon(providers.next()).await {
            found.insert(provider.id);
        }
        found
    }

    /// The local addresses at which it reached a peer.
    fn dialled_here(&self) -> BTreeSet<Multiaddr> {
        let dialled = self.dialled.lock().unwrap();
        dialled.iter().filter(|addr| is_local(addr)).map(|addr| addr.iter().take(2).collect()).collect()
    }

    async fn knows(&self, network: DualNetwork, peers: &[&Node]) {
        let wanted: BTreeSet<PeerId> = peers.iter().map(|node| node.peer).collect();
        until(async || (table(self.network(network)).await == wanted).then_some(())).await;
    }

    fn network(&self, network: DualNetwork) -> &DhtHandle {
        match network {
            DualNetwork::Wan => self.dht.wan(),
            DualNetwork::Lan => self.dht.lan(),
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run(mut swarm: Swarm<App>, dialled: Arc<Mutex<Vec<Multiaddr>>>) {
    loop {
        if let SwarmEvent::ConnectionEstablished { endpoint, .. } = swarm.select_next_some().await
            && endpoint.is_dialer()
        {
            dialled.lock().unwrap().push(endpoint.get_remote_address().clone());
        }
    }
}

async fn table(dht: &DhtHandle) -> BTreeSet<PeerId> {
    soon(dht.routing_table()).await.unwrap().entries().map(|entry| entry.peer).collect()
}

fn is_local(addr: &Multiaddr) -> bool {
    addr.to_string().starts_with("/ip4/192.168.")
}

/// All addresses of peers that a network returns to `dht`.
async fn told(dht: &DhtHandle, content: &'static [u8]) -> BTreeSet<Multiaddr> {
    let closest = soon(dht.closest_peers("x")).await.unwrap();
    let mut addrs: BTreeSet<Multiaddr> = closest.peers.into_iter().flat_map(|peer| peer.addrs).collect();
    let mut providers = dht.providers(content);
    while let Some(provider) = soon(providers.next()).await {
        addrs.extend(provider.addrs);
    }
    addrs
}

/// Home, a node in the public network and in a local one; a neighbour in the same local network; and a distant node in
/// the public network and, as every host, in a local network of its own.
#[tokio::test]
async fn nothing_passes_from_one_network_to_the_other() {
    let home = Node::at(&["/ip4/8.8.0.1/tcp/50001", "/ip4/192.168.0.1/tcp/50002"]).await;
    let near = Node::at(&["/ip4/192.168.0.2/tcp/50003"]).await;
    let afar = Node::at(&["/ip4/8.8.0.3/tcp/50004", "/ip4/192.168.0.3/tcp/50005"]).await;
    let alone = Node::at(&["/ip4/8.8.0.4/tcp/50006"]).await;
    home.dht.add_peer(afar.peer, afar.of(false)).check().unwrap();
    alone.dht.add_peer(home.peer, home.of(false)).check().unwrap();
    home.dht.add_peer(near.peer, near.addrs.clone()).check().unwrap();
    home.knows(DualNetwork::Wan, &[&afar, &alone]).await;
    home.knows(DualNetwork::Lan, &[&near]).await;
    near.knows(DualNetwork::Lan, &[&home]).await;
    // The connection is local and home is public: it serves the neighbour in both, which meets the others through it.
    near.knows(DualNetwork::Wan, &[&home, &afar, &alone]).await;
    for node in [&home, &near, &afar, &alone] {
        let _ = soon(node.dht.bootstrap()).await;
    }

    // A value and a provider of the local network.
    soon(near.dht.lan().put("/room", "here")).await.unwrap();
    soon(near.dht.lan().provide("content")).await.unwrap();
    let (network, found) = soon(home.dht.get("/room")).await.unwrap();
    assert_eq!((network, &found.record.value[..]), (DualNetwork::Lan, &b"here"[..]));
    for dht in [home.dht.wan(), afar.dht.wan(), alone.dht.wan()] {
        assert!(matches!(soon(dht.get("/room")).await, Err(QueryError::NotFound(_))));
    }
    assert!(soon(afar.dht.get("/room")).await.is_err());
    // Records of the public network are not in the local one.
    soon(alone.dht.wan().put("/world", "there")).await.unwrap();
    assert_eq!(soon(home.dht.get("/world")).await.unwrap().0, DualNetwork::Wan);
    assert!(matches!(soon(near.dht.lan().get("/world")).await, Err(QueryError::NotFound(_))));

    // Writes go to both, with the addresses of each.
    let told_of = soon(home.dht.provide("content")).await.unwrap();
    let mut reached = told_of.wan.unwrap().report.acknowledged;
    reached.sort();
    let mut world = [afar.peer, alone.peer];
    world.sort();
    assert_eq!(reached, world);
    assert_eq!(told_of.lan.unwrap().report.acknowledged, [near.peer]);
    let in_the_room = told(near.dht.lan(), b"content").await;
    assert!(in_the_room.is_superset(&home.of(true)), "{in_the_room:?}");
    assert!(in_the_room.iter().all(is_local), "{in_the_room:?}");
    for node in [&afar, &alone, &home] {
        let in_the_world = told(node.dht.wan(), b"content").await;
        assert!(in_the_world.is_superset(&home.of(false)) || node.peer == home.peer, "{in_the_world:?}");
        assert!(!in_the_world.iter().any(is_local), "{in_the_world:?}");
    }
    assert_eq!(home.providers("content").await, BTreeSet::from([home.peer, near.peer]));

    // The distant node speaks the local protocol too, and reports a local address: it is not of this local network.
    assert_eq!(table(home.dht.lan()).await, BTreeSet::from([near.peer]));
    assert_eq!(table(afar.dht.lan()).await, BTreeSet::new());
    assert_eq!(table(home.dht.wan()).await, BTreeSet::from([afar.peer, alone.peer]));
    for (node, local) in [(&home, near.of(true)), (&afar, BTreeSet::new()), (&alone, BTreeSet::new())] {
        let dialled = node.dialled_here();
        assert!(dialled.is_subset(&local), "{:?} {dialled:?}", node.addrs);
    }
}

/// Two nodes of one local network whose connection is public: they find each other in the local network nevertheless.
#[tokio::test]
async fn neighbours_with_a_public_connection_find_each_other() {
    let one = Node::at(&["/ip4/8.8.1.1/tcp/50011", "/ip4/192.168.0.1/tcp/50012"]).await;
    let two = Node::at(&["/ip4/8.8.1.2/tcp/50013", "/ip4/192.168.0.2/tcp/50014"]).await;
    one.dht.wan().add_peer(two.peer, two.of(false)).check().unwrap();
    one.knows(DualNetwork::Wan, &[&two]).await;
    assert_eq!(table(one.dht.lan()).await, BTreeSet::new(), "no node knows that they are neighbours");
    one.dht.lan().add_peer(two.peer, two.of(true)).check().unwrap();
    one.knows(DualNetwork::Lan, &[&two]).await;
    two.knows(DualNetwork::Lan, &[&one]).await;
    let (network, _) = soon(one.dht.find_peer(two.peer)).await.unwrap();
    assert!([DualNetwork::Lan, DualNetwork::Wan].contains(&network));
}

#[test]
fn two_networks_of_one_name_are_refused() {
    let config = || kad::Config::new(WAN);
    let error = kad::Dual::new(PeerId::random(), config(), config()).unwrap_err();
    assert_eq!(error, kad::ConfigError::Shared("stream.protocols"));
}
