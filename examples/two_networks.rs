//! One node in two networks at once: `Dual`.
//!
//! ```text
//! cargo run --example two_networks
//! ```
//!
//! Three nodes are a wide network, two others a local one; they have nothing to do with each other. One more node is in
//! both: it reads the records of either, and its own provider record is found in both. All nodes run on loopback, in
//! this process; the networks differ only in the name of their protocol. A node of the public network would be
//! `Dual::new(id, Config::amino(), Config::lan())`, with mDNS beside it to find peers in the local network.
//!
//! Ends with 0 if everything was found where it should be, else with 1.

use std::error::Error;
use std::process::ExitCode;

use futures::StreamExt as _;
use kad::DhtHandle;
use kad::handle::{DualHandle, DualNetwork};
use libp2p::identity::Keypair;
use libp2p::swarm::{NetworkBehaviour, Swarm, SwarmEvent};
use libp2p::{Multiaddr, PeerId, StreamProtocol, SwarmBuilder, identify, noise, tcp, yamux};
use libp2p_kad_dht as kad;

const WIDE: StreamProtocol = StreamProtocol::new("/two-networks/kad/1.0.0");
const LOCAL: StreamProtocol = StreamProtocol::new("/two-networks/lan/kad/1.0.0");

/// A node of one network.
#[derive(NetworkBehaviour)]
struct InOne {
    identify: identify::Behaviour,
    kad: kad::Behaviour,
}

/// A node of both: its behaviour is as large as two, and goes into the swarm as one.
#[derive(NetworkBehaviour)]
struct InBoth {
    identify: identify::Behaviour,
    kad: kad::Dual,
}

struct Node {
    id: PeerId,
    addr: Multiaddr,
    dht: DhtHandle,
}

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let (wide, local) = (network(WIDE, 3).await?, network(LOCAL, 2).await?);
    let (id, dht) = start_in_both().await?;
    // Each network has its own contacts. `dht.add_peer` would name a peer to those whose address policies take it.
    dht.wan().add_peer(wide[0].id, [wide[0].addr.clone()]);
    dht.lan().add_peer(local[0].id, [local[0].addr.clone()]);
    let joined = dht.bootstrap().await?;
    for network in [DualNetwork::Wan, DualNetwork::Lan] {
        let joined = joined.get(network).as_ref().map_err(|why| why.to_string())?;
        println!("{} knows {} peers of the {network}", short(&id), joined.peers);
    }

    let mut good = true;
    wide[1].dht.put("/far", "from afar").await?;
    local[1].dht.put("/near", "from the room").await?;
    for (key, expected) in [("/far", DualNetwork::Wan), ("/near", DualNetwork::Lan)] {
        let (network, found) = dht.get(key).await?; // both are asked at once; the first that has it answers
        println!("{key} is {:?}, says the {network}", String::from_utf8_lossy(&found.record.value));
        good &= network == expected;
    }
    // Neither network knows the records of the other.
    good &= local[0].dht.get("/far").await.is_err() && wide[0].dht.get("/near").await.is_err();

    let announced = dht.provide("content").await?;
    println!("announced its content to {} peers afar, {} near", reached(&announced.wan), reached(&announced.lan));
    for (node, place) in [(&wide[2], "afar"), (&local[1], "near")] {
        let mut providers = node.dht.providers("content");
        let found = providers.next().await;
        println!("{} finds it from {place}: {}", short(&node.id), found.is_some());
        good &= found.is_some_and(|provider| provider.id == id);
    }
    println!("{}", if good { "everything was found where it is" } else { "NOT everything was found where it is" });
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn reached(outcome: &Result<kad::handle::Published, kad::QueryError>) -> usize {
    outcome.as_ref().map_or(0, |published| published.report.acknowledged.len())
}

/// Nodes of one network, joined through the first.
async fn network(protocol: StreamProtocol, size: usize) -> Result<Vec<Node>, Box<dyn Error>> {
    let mut nodes: Vec<Node> = Vec::new();
    for _ in 0..size {
        let (swarm, addr) = start(|key| {
            let kad = kad::Behaviour::new(key.public().to_peer_id(), kad::Config::new(protocol.clone()))?;
            Ok(InOne { identify: identify(key), kad })
        })
        .await?;
        let node = Node { id: *swarm.local_peer_id(), addr, dht: swarm.behaviour().kad.handle() };
        tokio::spawn(swarm.for_each(|_| async {}));
        if let Some(first) = nodes.first() {
            node.dht.add_peer(first.id, [first.addr.clone()]);
            node.dht.bootstrap().await?;
        }
        nodes.push(node);
    }
    Ok(nodes)
}

async fn start_in_both() -> Result<(PeerId, DualHandle), Box<dyn Error>> {
    let (swarm, _) = start(|key| {
        let id = key.public().to_peer_id();
        let kad = kad::Dual::new(id, kad::Config::new(WIDE), kad::Config::new(LOCAL))?;
        Ok(InBoth { identify: identify(key), kad })
    })
    .await?;
    let node = (*swarm.local_peer_id(), swarm.behaviour().kad.handle());
    tokio::spawn(swarm.for_each(|_| async {}));
    Ok(node)
}

/// A swarm that listens on loopback, and where.
async fn start<B: NetworkBehaviour>(
    behaviour: impl FnOnce(&Keypair) -> Result<B, kad::ConfigError>,
) -> Result<(Swarm<B>, Multiaddr), Box<dyn Error>> {
    let mut swarm = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)?
        .with_behaviour(|key| Ok(behaviour(key)?))?
        .build();
    swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse()?)?;
    loop {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
            return Ok((swarm, address));
        }
    }
}

fn identify(key: &Keypair) -> identify::Behaviour {
    identify::Behaviour::new(
        identify::Config::new("/two-networks/1".into(), key.public()).with_push_listen_addr_updates(true),
    )
}

/// The last letters of a peer id: the first ones are the same for all.
fn short(id: &PeerId) -> String {
    let text = id.to_string();
    text[text.len() - 6..].to_owned()
}
