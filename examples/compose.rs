//! The DHT beside other behaviours in one swarm: identify, ping, gossipsub and, if asked for, mDNS.
//!
//! ```text
//! cargo run --example compose
//! cargo run --example compose -- --mdns     # also announces itself on the local network
//! ```
//!
//! Six nodes on loopback join a DHT through the first. Four of them read a topic: each provides the topic's key,
//! finds the others in the DHT, and dials them; from there gossipsub takes over. One publishes, and the three others
//! must hear it. No line here carries addresses from one behaviour to another: what identify and mDNS learn about
//! peers reaches the DHT through the swarm.
//!
//! mDNS is off unless asked for, since it sends to a multicast group on every network interface except loopback, and
//! cannot be limited to this machine. On a machine without multicast the node runs without mDNS.
//!
//! Ends with 0 if all readers received the message, else with 1.

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use futures::StreamExt as _;
use kad::DhtHandle;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::swarm::{NetworkBehaviour, Swarm, SwarmEvent};
use libp2p::{Multiaddr, PeerId, StreamProtocol, SwarmBuilder, gossipsub, identify, mdns, noise, ping, tcp, yamux};
use libp2p_kad_dht as kad;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

const NODES: usize = 6;
/// The nodes that read the topic; the others only serve the DHT.
const READERS: [usize; 4] = [1, 2, 4, 5];
const TOPIC: &str = "news";
const MAX_WAIT: Duration = Duration::from_secs(10);

#[derive(NetworkBehaviour)]
struct App {
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    gossipsub: gossipsub::Behaviour,
    mdns: Toggle<mdns::tokio::Behaviour>,
    kad: kad::Behaviour,
}

/// A node of this program, from outside its swarm.
struct Node {
    id: PeerId,
    addr: Multiaddr,
    dht: DhtHandle,
    commands: mpsc::Sender<SwarmCommand>,
}

/// A command that only the owner of the swarm can run.
enum SwarmCommand {
    Dial(DialOpts),
    Publish(&'static str),
}

/// An event at a node that the program waits for.
#[derive(Debug, PartialEq)]
enum NodeEvent {
    /// Another node reads the topic too, and we are connected to it.
    Reader { at: PeerId, who: PeerId },
    /// A message arrived.
    Received { at: PeerId, from: Option<PeerId>, text: String },
}

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let with_mdns = match std::env::args().nth(1).as_deref() {
        None => false,
        Some("--mdns") => true,
        Some(_) => {
            eprintln!("Usage: compose [--mdns]");
            return Ok(ExitCode::from(2));
        }
    };
    let begun = Instant::now();
    let (sender, mut events) = mpsc::channel(1024);

    let mut nodes: Vec<Node> = Vec::new();
    for number in 0..NODES {
        let node = start(with_mdns, READERS.contains(&number), sender.clone()).await?;
        if let Some(first) = nodes.first() {
            node.dht.add_peer(first.id, [first.addr.clone()]);
            let joined = node.dht.bootstrap().await?;
            println!("{} joins and knows {} peers", short(&node.id), joined.peers);
        }
        nodes.push(node);
    }

    let readers: Vec<&Node> = READERS.iter().map(|number| &nodes[*number]).collect();
    for reader in &readers {
        let announced = reader.dht.provide(topic_key()).await?;
        println!(
            "{} reads {TOPIC:?} and announces that to {} peers",
            short(&reader.id),
            announced.report.acknowledged.len()
        );
    }
    let publisher = readers[0];
    let met = connect_to_readers(publisher, &mut events).await?;
    let complete = met == readers.len() - 1;

    publisher.commands.send(SwarmCommand::Publish("the DHT brought us together")).await?;
    let reached = wait_for_message(publisher, readers.len() - 1, &mut events).await;
    let expected = readers.len() - 1;
    println!(
        "{met} of {expected} readers met, {reached} of {expected} received the message, in {:.1} s",
        begun.elapsed().as_secs_f64()
    );
    Ok(if complete && reached == expected { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Finds the readers of the topic and dials each, then waits until gossipsub knows them too. Returns how many it knows.
async fn connect_to_readers(node: &Node, events: &mut mpsc::Receiver<NodeEvent>) -> Result<usize, Box<dyn Error>> {
    let mut strangers = Vec::new();
    let mut providers = node.dht.providers(topic_key());
    while let Some(provider) = providers.next().await {
        if provider.id != node.id {
            println!("{} finds {} at {:?}", short(&node.id), short(&provider.id), provider.addrs);
            strangers.push(provider.id);
            let opts = DialOpts::peer_id(provider.id).addresses(provider.addrs).build();
            node.commands.send(SwarmCommand::Dial(opts)).await?;
        }
    }
    let wanted = strangers.len();
    let meeting = async {
        while let Some(event) = events.recv().await {
            if let NodeEvent::Reader { at, who } = event
                && at == node.id
            {
                strangers.retain(|stranger| *stranger != who);
            }
            if strangers.is_empty() {
                return;
            }
        }
    };
    let _ = timeout(MAX_WAIT, meeting).await; // a reader that was not met by now is not counted
    Ok(wanted - strangers.len())
}

/// Waits until this many nodes have the publisher's message. Returns how many do.
async fn wait_for_message(publisher: &Node, wanted: usize, events: &mut mpsc::Receiver<NodeEvent>) -> usize {
    let mut listeners = Vec::new();
    let listening = async {
        while listeners.len() < wanted {
            let Some(event) = events.recv().await else { return };
            if let NodeEvent::Received { at, from, text } = event
                && from == Some(publisher.id)
                && !listeners.contains(&at)
            {
                println!("{} receives from {}: {text}", short(&at), short(&publisher.id));
                listeners.push(at);
            }
        }
    };
    let _ = timeout(MAX_WAIT, listening).await; // a reader without the message by now is not counted
    listeners.len()
}

async fn start(with_mdns: bool, reads: bool, events: mpsc::Sender<NodeEvent>) -> Result<Node, Box<dyn Error>> {
    let mut swarm = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)?
        .with_behaviour(|key| {
            let id = key.public().to_peer_id();
            let signed = gossipsub::MessageAuthenticity::Signed(key.clone());
            Ok(App {
                identify: identify::Behaviour::new(
                    identify::Config::new("/compose/1".into(), key.public()).with_push_listen_addr_updates(true),
                ),
                ping: ping::Behaviour::default(),
                gossipsub: gossipsub::Behaviour::new(signed, gossipsub::Config::default())?,
                mdns: with_mdns.then(|| multicast(id)).flatten().into(),
                kad: kad::Behaviour::new(id, kad::Config::new(StreamProtocol::new("/compose/kad/1.0.0")))?,
            })
        })?
        .build();
    let id = *swarm.local_peer_id();
    let dht = swarm.behaviour().kad.handle();
    if reads {
        swarm.behaviour_mut().gossipsub.subscribe(&gossipsub::IdentTopic::new(TOPIC))?;
    }
    swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse()?)?;
    let addr = loop {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
            break address;
        }
    };
    let (commands, waiting) = mpsc::channel(64);
    tokio::spawn(drive(swarm, waiting, events));
    Ok(Node { id, addr, dht, commands })
}

/// mDNS, unless this machine has no multicast.
fn multicast(id: PeerId) -> Option<mdns::tokio::Behaviour> {
    mdns::tokio::Behaviour::new(mdns::Config::default(), id)
        .inspect_err(|why| println!("{} runs without mDNS: {why}", short(&id)))
        .ok()
}

async fn drive(mut swarm: Swarm<App>, mut commands: mpsc::Receiver<SwarmCommand>, events: mpsc::Sender<NodeEvent>) {
    loop {
        tokio::select! {
            event = swarm.select_next_some() => {
                if let Some(event) = node_event(*swarm.local_peer_id(), event) {
                    let _ = events.send(event).await; // fails once the program no longer waits
                }
            }
            command = commands.recv() => match command {
                Some(command) => run_command(&mut swarm, command),
                None => return,
            },
        }
    }
}

fn run_command(swarm: &mut Swarm<App>, command: SwarmCommand) {
    match command {
        SwarmCommand::Dial(opts) => {
            // Refused where a connection is up, as the DHT may have made one on its walk.
            let _ = swarm.dial(opts);
        }
        SwarmCommand::Publish(text) => {
            let topic = gossipsub::IdentTopic::new(TOPIC);
            if let Err(why) = swarm.behaviour_mut().gossipsub.publish(topic, text) {
                println!("cannot publish: {why}");
            }
        }
    }
}

fn node_event(at: PeerId, event: SwarmEvent<AppEvent>) -> Option<NodeEvent> {
    match event {
        SwarmEvent::Behaviour(AppEvent::Gossipsub(gossipsub::Event::Subscribed { peer_id, .. })) => {
            Some(NodeEvent::Reader { at, who: peer_id })
        }
        SwarmEvent::Behaviour(AppEvent::Gossipsub(gossipsub::Event::Message { message, .. })) => {
            let text = String::from_utf8_lossy(&message.data).into_owned();
            Some(NodeEvent::Received { at, from: message.source, text })
        }
        _ => None,
    }
}

/// The topic's name as content of the DHT: its multihash.
fn topic_key() -> Vec<u8> {
    let hash = kad::Key::hash(TOPIC.as_bytes()).to_bytes();
    [&[0x12, 0x20], &hash[..]].concat()
}

fn short(id: &PeerId) -> String {
    let text = id.to_string();
    text[text.len() - 6..].to_owned()
}
