//! A store of keys and values on the command line: rust-libp2p's example of this name, on this crate.
//!
//! ```text
//! cargo run --example distributed_key_value_store                        # finds others by mDNS; start it twice
//! cargo run --example distributed_key_value_store -- --loopback          # on this machine only
//! cargo run --example distributed_key_value_store -- --loopback ADDR     # and joins through the node at ADDR
//! ```
//!
//! Type `PUT KEY VALUE`, `GET KEY`, `PUT_PROVIDER KEY` or `GET_PROVIDERS KEY`. Ends at the end of its input.

use std::error::Error;

use futures::StreamExt as _;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, StreamProtocol, SwarmBuilder, identify, mdns, noise, tcp, yamux};
use libp2p_kad_dht as kad;
use tokio::io::{AsyncBufReadExt as _, BufReader, stdin};

#[derive(NetworkBehaviour)]
struct Behaviour {
    kad: kad::Behaviour,
    identify: identify::Behaviour,
    mdns: Toggle<mdns::tokio::Behaviour>,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let loopback = args.next().is_some_and(|flag| flag == "--loopback");
    let first: Option<Multiaddr> = args.next().map(|addr| addr.parse()).transpose()?;

    let mut swarm = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)?
        .with_behaviour(|key| {
            let id = key.public().to_peer_id();
            let mdns = (!loopback).then(|| mdns::tokio::Behaviour::new(mdns::Config::default(), id));
            Ok(Behaviour {
                kad: kad::Behaviour::new(id, kad::Config::new(StreamProtocol::new("/kv-store/kad/1.0.0")))?,
                identify: identify::Behaviour::new(identify::Config::new("/kv-store/1.0.0".into(), key.public())),
                mdns: mdns.transpose()?.into(),
            })
        })?
        .build();
    let dht = swarm.behaviour().kad.handle();
    swarm.listen_on(format!("/ip4/{}/tcp/0", if loopback { "127.0.0.1" } else { "0.0.0.0" }).parse()?)?;
    tokio::spawn(async move {
        loop {
            if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
                println!("Listening on {address}/p2p/{}", swarm.local_peer_id());
            }
        }
    });
    if let Some(mut addr) = first {
        let Some(Protocol::P2p(peer)) = addr.pop() else { return Err("ADDR must end in /p2p/PEERID".into()) };
        dht.add_peer(peer, [addr]);
        println!("Joined, and knows {} peers", dht.bootstrap().await?.peers);
    }

    let mut lines = BufReader::new(stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        if let Err(why) = run(&dht, &line).await {
            eprintln!("{line} failed: {why}");
        }
    }
    Ok(())
}

async fn run(dht: &kad::DhtHandle, line: &str) -> Result<(), kad::QueryError> {
    match line.split(' ').collect::<Vec<_>>()[..] {
        ["GET", key] => println!("Got {key} {:?}", String::from_utf8_lossy(&dht.get(key).await?.record.value)),
        ["PUT", key, value] => println!("Put {key} at {} peers", dht.put(key, value).await?.report.acknowledged.len()),
        ["GET_PROVIDERS", key] => {
            let mut providers = dht.providers(key);
            while let Some(provider) = providers.next().await {
                println!("{} provides {key}", provider.id);
            }
            providers.await?;
        }
        ["PUT_PROVIDER", key] => {
            println!("Announced {key} to {} peers", dht.provide(key).await?.report.acknowledged.len());
        }
        _ => eprintln!("expected GET, GET_PROVIDERS, PUT or PUT_PROVIDER"),
    }
    Ok(())
}
