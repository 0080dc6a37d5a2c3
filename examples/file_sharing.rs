//! Files by name, found through the DHT: rust-libp2p's example of this name, on this crate.
//!
//! ```text
//! cargo run --example file_sharing -- provide NAME PATH LISTEN_ADDR [ADDR]    # joins at ADDR, if there is one
//! cargo run --example file_sharing -- get NAME ADDR                           # writes the file to its output
//! ```
//!
//! The DHT says who has a file, and `request_response` carries it.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::Write as _;

use futures::StreamExt as _;
use libp2p::multiaddr::Protocol;
use libp2p::request_response::{self, Message, OutboundRequestId, ProtocolSupport};
use libp2p::swarm::{NetworkBehaviour, Swarm, SwarmEvent};
use libp2p::{Multiaddr, PeerId, StreamProtocol, SwarmBuilder, identify, noise, tcp, yamux};
use libp2p_kad_dht as kad;
use tokio::sync::{mpsc, oneshot};

#[derive(NetworkBehaviour)]
struct Behaviour {
    kad: kad::Behaviour,
    identify: identify::Behaviour,
    files: request_response::cbor::Behaviour<String, Vec<u8>>,
}

/// A file that this node offers.
struct Offer {
    name: String,
    content: Vec<u8>,
}

/// A file that is wanted from a peer, and where its content goes. Dropped if the peer does not send it.
struct Wanted {
    from: PeerId,
    name: String,
    content: oneshot::Sender<Vec<u8>>,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["provide", name, path, listen, ref first @ ..] if first.len() <= 1 => {
            let (dht, _files) = start(Some(Offer { name: name.into(), content: std::fs::read(path)? }), listen).await?;
            if let [addr] = first {
                join(&dht, addr).await?;
            }
            match dht.provide(name).await {
                Err(why) if why.is_kept() => eprintln!("{why}; who joins here finds it nevertheless"),
                outcome => drop(outcome?),
            }
            std::future::pending().await
        }
        ["get", name, addr] => {
            let (dht, files) = start(None, "/ip4/127.0.0.1/tcp/0").await?;
            join(&dht, addr).await?;
            let mut providers = dht.providers(name);
            while let Some(provider) = providers.next().await {
                let (content, received) = oneshot::channel();
                files.send(Wanted { from: provider.id, name: name.into(), content }).await?;
                if let Ok(content) = received.await {
                    return Ok(std::io::stdout().write_all(&content)?);
                }
            }
            Err(format!("none of its providers sent {name}").into())
        }
        _ => Err("Usage: file_sharing provide NAME PATH LISTEN_ADDR [ADDR] | get NAME ADDR".into()),
    }
}

/// A running node: its DHT, and the way to ask a peer for a file. A node without an offer does not serve the DHT either.
async fn start(offer: Option<Offer>, listen: &str) -> Result<(kad::DhtHandle, mpsc::Sender<Wanted>), Box<dyn Error>> {
    let mode = if offer.is_some() { kad::Mode::Server } else { kad::Mode::Client };
    let mut swarm = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)?
        .with_behaviour(|key| {
            let config = kad::Config::new(StreamProtocol::new("/file-sharing/kad/1.0.0")).with_mode(Some(mode));
            let identify = identify::Config::new("/file-sharing/1.0.0".into(), key.public());
            let files = (StreamProtocol::new("/file-exchange/1"), ProtocolSupport::Full);
            Ok(Behaviour {
                kad: kad::Behaviour::new(key.public().to_peer_id(), config)?,
                identify: identify::Behaviour::new(identify),
                files: request_response::cbor::Behaviour::new([files], request_response::Config::default()),
            })
        })?
        .build();
    let dht = swarm.behaviour().kad.handle();
    swarm.listen_on(listen.parse()?)?;
    let address = loop {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
            break address;
        }
    };
    eprintln!("Listening on {address}/p2p/{}", swarm.local_peer_id());
    let (sender, wanted) = mpsc::channel(16);
    tokio::spawn(drive(swarm, offer, wanted));
    Ok((dht, sender))
}

/// Joins the network of the node at an address that ends in its peer id.
async fn join(dht: &kad::DhtHandle, addr: &str) -> Result<(), Box<dyn Error>> {
    let mut addr: Multiaddr = addr.parse()?;
    let Some(Protocol::P2p(peer)) = addr.pop() else { return Err("ADDR must end in /p2p/PEERID".into()) };
    dht.add_peer(peer, [addr]);
    dht.bootstrap().await?;
    Ok(())
}

async fn drive(mut swarm: Swarm<Behaviour>, offer: Option<Offer>, mut wanted: mpsc::Receiver<Wanted>) {
    let mut asked: BTreeMap<OutboundRequestId, oneshot::Sender<Vec<u8>>> = BTreeMap::new();
    loop {
        let event = tokio::select! {
            event = swarm.select_next_some() => event,
            Some(Wanted { from, name, content }) = wanted.recv() => {
                asked.insert(swarm.behaviour_mut().files.send_request(&from, name), content);
                continue;
            }
        };
        let SwarmEvent::Behaviour(BehaviourEvent::Files(event)) = event else { continue };
        match event {
            request_response::Event::Message { message: Message::Request { request, channel, .. }, .. } => {
                if let Some(offer) = offer.as_ref().filter(|offer| offer.name == request) {
                    let _ = swarm.behaviour_mut().files.send_response(channel, offer.content.clone()); // it may have left
                }
            }
            request_response::Event::Message { message: Message::Response { request_id, response }, .. } => {
                if let Some(content) = asked.remove(&request_id) {
                    let _ = content.send(response); // it may no longer be wanted
                }
            }
            request_response::Event::OutboundFailure { request_id, .. } => drop(asked.remove(&request_id)),
            _ => {}
        }
    }
}
