//! A client of the public IPFS network: rust-libp2p's example of this name, on this crate.
//!
//! ```text
//! cargo run --example ipfs_kad -- get-peers [PEERID]     # the peers closest to a peer id; by default to a random one
//! cargo run --example ipfs_kad -- put-pk-record          # publishes the node's public key
//! cargo run --example ipfs_kad -- get-peers --bootstrap ADDR...    # in another network, with any addresses
//! ```

use std::error::Error;
use std::num::NonZeroUsize;
use std::time::Duration;

use futures::StreamExt as _;
use libp2p::identity::Keypair;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::NetworkBehaviour;
use libp2p::{Multiaddr, PeerId, SwarmBuilder, identify, noise, tcp, yamux};
use libp2p_kad_dht as kad;

const BOOT_NODES: [&str; 4] = [
    "/dnsaddr/bootstrap.libp2p.io/p2p/QmNnooDu7bfjPFoTZYxMNLWUQJyrVwtbZg5gBMjTezGAJN",
    "/dnsaddr/bootstrap.libp2p.io/p2p/QmQCU2EcMqAqQPR2i9bChDtGNJchTbq5TbXJJ16u19uLTa",
    "/dnsaddr/bootstrap.libp2p.io/p2p/QmbLHAnMoJPWSCR5Zhtx6BHJX9KiKNN6tpvbUcqanj75Nb",
    "/dnsaddr/bootstrap.libp2p.io/p2p/QmcZf59bWwK5XFi76CZX8cbJ4BhTzzA3gU1ZjYZcYW3dwt",
];

const THREE: NonZeroUsize = NonZeroUsize::MIN.saturating_add(2);

#[derive(NetworkBehaviour)]
struct Behaviour {
    kad: kad::Behaviour,
    identify: identify::Behaviour,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args: Vec<String> = std::env::args().skip(1).collect();
    let mut config = kad::Config::amino().with_query_timeout(Duration::from_secs(5 * 60));
    let mut boot = BOOT_NODES.map(String::from).to_vec();
    if let Some(at) = args.iter().position(|arg| arg == "--bootstrap") {
        boot = args.drain(at..).skip(1).collect();
        config = config.with_address_policy(kad::AddressPolicy::Any);
    }

    let keys = Keypair::generate_ed25519();
    let swarm = SwarmBuilder::with_existing_identity(keys.clone())
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)?
        .with_dns()?
        .with_behaviour(|key| {
            let identify = identify::Config::new("/ipfs-kad/1.0.0".into(), key.public());
            Ok(Behaviour {
                kad: kad::Behaviour::new(key.public().to_peer_id(), config)?,
                identify: identify::Behaviour::new(identify),
            })
        })?
        .build();
    let dht = swarm.behaviour().kad.handle();
    tokio::spawn(swarm.for_each(|_| async {}));
    for addr in boot {
        let mut addr: Multiaddr = addr.parse()?;
        let Some(Protocol::P2p(peer)) = addr.pop() else { return Err("an address must end in /p2p/PEERID".into()) };
        dht.add_peer(peer, [addr]);
    }

    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["get-peers", ref peer @ ..] if peer.len() <= 1 => {
            let peer = peer.first().map_or_else(|| Ok(PeerId::random()), |peer| peer.parse())?;
            println!("The peers closest to {peer}:");
            for found in dht.closest_peers(peer).await?.peers {
                println!("{} at {:?}", found.id, found.addrs);
            }
        }
        ["put-pk-record"] => {
            let key = [b"/pk/", &keys.public().to_peer_id().to_bytes()[..]].concat();
            let put = dht.put(key, keys.public().encode_protobuf()).expires_in(Duration::from_secs(60));
            let put = put.quorum(kad::Quorum::N(THREE)).await?;
            println!("The public key is kept by {} peers", put.report.acknowledged.len());
        }
        _ => return Err("Usage: ipfs_kad get-peers [PEERID] | put-pk-record [--bootstrap ADDR...]".into()),
    }
    Ok(())
}
