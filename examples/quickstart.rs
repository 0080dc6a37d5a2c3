//! A first look: a network of 20 nodes on loopback TCP, all in this process.
//!
//! ```text
//! cargo run --example quickstart
//! ```
//!
//! The nodes join through the first one. Then values are put and got, content is provided and its providers found, a
//! peer is looked up. A third of the nodes dies, the first one among them, and it all happens again. Each line is one
//! query: `.` a peer is asked, `+` it answered, `x` it failed. Peers go by the last six letters of their ids.
//!
//! Ends with 0 if every query found what it looked for, else with 1 after naming those that did not.

use std::error::Error;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use futures::StreamExt as _;
use kad::core::Progress;
use kad::handle::{Providers, Watched};
use kad::{DhtHandle, Query, QueryError};
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, PeerId, StreamProtocol, SwarmBuilder, identify, noise, tcp, yamux};
use libp2p_kad_dht as kad;
use tokio::task::JoinHandle;
use tokio::time::Instant;

const NODES: usize = 20;
/// Every third node dies: fewer than k, so that of the k holders of a value at least one is left.
const DEAD: usize = 7;
const K: usize = 8;
/// Maximum number of steps of a query that are drawn.
const MAX_STEPS: usize = 40;

/// The behaviour of each node. The DHT learns from identify, and from the swarm, without any wiring.
#[derive(NetworkBehaviour)]
struct App {
    identify: identify::Behaviour,
    kad: kad::Behaviour,
}

/// A node: its swarm in a task of its own, and a handle to send it commands.
struct Node {
    id: PeerId,
    addr: Multiaddr,
    dht: DhtHandle,
    swarm: JoinHandle<()>,
}

async fn start_node() -> Result<Node, Box<dyn Error>> {
    let protocol = StreamProtocol::new("/quickstart/kad/1.0.0");
    let mut swarm = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)?
        .with_behaviour(|key| {
            let id = key.public().to_peer_id();
            let config = kad::Config::new(protocol).with_replication(K.try_into()?);
            Ok(App {
                identify: identify::Behaviour::new(
                    identify::Config::new("/quickstart/1".into(), key.public()).with_push_listen_addr_updates(true),
                ),
                kad: kad::Behaviour::new(id, config)?,
            })
        })?
        .build();
    let id = *swarm.local_peer_id();
    let dht = swarm.behaviour().kad.handle();
    swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse()?)?;
    let addr = loop {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
            break address;
        }
    };
    // The swarm only needs to be polled; everything else goes through the handle.
    let swarm = tokio::spawn(async move {
        loop {
            swarm.select_next_some().await;
        }
    });
    Ok(Node { id, addr, dht, swarm })
}

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let begun = Instant::now();
    let mut log = Log::default();

    println!("{NODES} nodes start on loopback, and join through the first");
    let mut nodes = vec![start_node().await?];
    for _ in 1..NODES {
        let node = start_node().await?;
        node.dht.add_peer(nodes[0].id, [nodes[0].addr.clone()]);
        let joined = log.query(&format!("{} joins", short(&node.id)), node.dht.bootstrap()).await;
        log.end(joined.map(|joined| format!("knows {} peers", joined.peers)));
        nodes.push(node);
    }

    println!("\nall are up");
    tour(&mut log, &nodes, "before").await;

    println!("\n{DEAD} nodes die, the first one among them");
    let (dead, alive): (Vec<_>, Vec<_>) = nodes.into_iter().enumerate().partition(|(i, _)| i % 3 == 0);
    for (_, node) in dead {
        node.swarm.abort(); // drops the swarm: its connections close, and no connection is accepted any more
    }
    let alive: Vec<Node> = alive.into_iter().map(|(_, node)| node).collect();
    println!("what was put before is still there, and everything goes on");
    get(&mut log, &alive[7], "before").await;
    tour(&mut log, &alive, "after").await;

    Ok(log.summary(begun.elapsed()))
}

/// Everything that a DHT does, once, among these nodes.
async fn tour(log: &mut Log, nodes: &[Node], when: &str) {
    let [publisher, provider] = [&nodes[1], &nodes[4]];

    let put = publisher.dht.put(key(when), value(when));
    let put = log.query(&format!("{} puts {}", short(&publisher.id), key(when)), put).await;
    let holders = put.as_ref().map_or(Vec::new(), |put| put.report.acknowledged.clone());
    log.end(put.and_then(|put| match put.report.acknowledged.len() {
        K.. => Ok(format!("kept by {}", names(&put.report.acknowledged))),
        kept => Err(format!("kept by {kept} of {K} peers")),
    }));
    for reader in others(nodes, publisher, &holders).take(3) {
        get(log, reader, when).await;
    }

    let content = kad::Key::hash(when.as_bytes()).to_bytes();
    let multihash = [&[0x12, 0x20], &content[..]].concat(); // "SHA-256, 32 bytes": what a CID is around
    let announced = log.query(&format!("{} provides", short(&provider.id)), provider.dht.provide(&multihash[..])).await;
    let holders = announced.as_ref().map_or(Vec::new(), |announced| announced.report.acknowledged.clone());
    log.end(announced.and_then(|announced| match announced.report.acknowledged.len() {
        K.. => Ok(format!("announced to {}", names(&announced.report.acknowledged))),
        reached => Err(format!("announced to {reached} of {K} peers")),
    }));
    for seeker in others(nodes, provider, &holders).take(3) {
        providers(log, seeker, seeker.dht.providers(&multihash[..]), provider).await;
    }

    let (seeker, sought) = strangers(nodes).await;
    let what = format!("{} seeks {}", short(&seeker.id), short(&sought.id));
    let found = log.query(&what, seeker.dht.find_peer(sought.id)).await;
    log.end(found.and_then(|found| match found.peer.addrs.contains(&sought.addr) {
        true => Ok(format!("is at {}", sought.addr)),
        false => Err(format!("not at {:?}", found.peer.addrs)),
    }));

    let what = format!("{} asks who is close", short(&seeker.id));
    let closest = log.query(&what, seeker.dht.closest_peers(key(when))).await;
    log.end(closest.and_then(|closest| match closest.peers.len() {
        K => Ok(names(closest.peers.iter().map(|peer| &peer.id))),
        found => Err(format!("{found} of {K} peers")),
    }));
}

/// The nodes that have to ask, since they neither published the record nor keep it.
fn others<'a>(nodes: &'a [Node], publisher: &'a Node, holders: &'a [PeerId]) -> impl Iterator<Item = &'a Node> {
    nodes.iter().filter(|node| node.id != publisher.id && !holders.contains(&node.id))
}

/// Two nodes of which the first does not know the second, if there are any.
async fn strangers(nodes: &[Node]) -> (&Node, &Node) {
    for seeker in nodes {
        let Ok(table) = seeker.dht.routing_table().await else { continue };
        let unknown = |node: &&Node| node.id != seeker.id && table.entries().all(|entry| entry.peer != node.id);
        if let Some(sought) = nodes.iter().find(unknown) {
            return (seeker, sought);
        }
    }
    (&nodes[0], &nodes[1])
}

async fn get(log: &mut Log, reader: &Node, when: &str) {
    let got = log.query(&format!("{} gets {}", short(&reader.id), key(when)), reader.dht.get(key(when))).await;
    log.end(got.and_then(|got| match got.record.value == value(when).as_bytes() {
        true => {
            let from = got.from.map_or("its own store".into(), |peer| short(&peer));
            Ok(format!("{:?} from {from}", value(when)))
        }
        false => Err("another value".into()),
    }));
}

/// Providers come as a stream: the first is here before the lookup ends, and one is enough for us.
async fn providers(log: &mut Log, seeker: &Node, mut found: Providers, wanted: &Node) {
    log.begin(&format!("{} looks for providers", short(&seeker.id)));
    log.end(match found.next().await {
        Some(provider) if provider.id == wanted.id && provider.addrs.contains(&wanted.addr) => {
            Ok(format!("{} at {}", short(&provider.id), wanted.addr))
        }
        Some(provider) => Err(format!("{provider:?} instead")),
        None => Err(found.await.map_or_else(|why| why.to_string(), |_| "no peer provides it".into())),
    });
}

fn key(when: &str) -> String {
    format!("/quickstart/{when}")
}

fn value(when: &str) -> String {
    format!("hello {when}")
}

/// The last letters of a peer id: the first ones are the same for all.
fn short(id: &PeerId) -> String {
    let text = id.to_string();
    text[text.len() - 6..].to_owned()
}

fn names<'a>(ids: impl IntoIterator<Item = &'a PeerId>) -> String {
    ids.into_iter().map(short).collect::<Vec<_>>().join(" ")
}

/// Shows one query a line while it runs, and remembers the failed ones.
#[derive(Default)]
struct Log {
    queries: usize,
    failed: Vec<String>,
    current: String,
    begun: Option<Instant>,
}

impl Log {
    fn begin(&mut self, what: &str) {
        self.queries += 1;
        self.current = what.to_owned();
        self.begun = Some(Instant::now());
        print!("  {what:<31} ");
        self.flush();
    }

    /// Runs a query to its end and draws its steps as they happen.
    async fn query<T: kad::NetworkResult>(&mut self, what: &str, query: Query<T>) -> Result<T, String> {
        self.begin(what);
        let mut steps: Watched<T> = query.with_progress();
        let mut shown = 0;
        while let Some(step) = steps.next().await {
            shown += 1;
            match shown {
                ..=MAX_STEPS => print!("{}", symbol(&step)),
                _ if shown == MAX_STEPS + 1 => print!("…"),
                _ => {}
            }
            self.flush();
        }
        let result: Result<T, QueryError> = steps.await;
        print!("{}", if shown > 0 { "  " } else { "" });
        result.map_err(|why| why.to_string())
    }

    /// Ends the line with the result.
    fn end(&mut self, result: Result<String, String>) {
        let ms = self.begun.take().map_or(0.0, |begun| begun.elapsed().as_secs_f64() * 1e3);
        match result {
            Ok(found) => println!("{found} ({ms:.0} ms)"),
            Err(why) => {
                println!("FAILED: {why} ({ms:.0} ms)");
                self.failed.push(format!("{}: {why}", self.current));
            }
        }
    }

    fn flush(&self) {
        let _ = std::io::stdout().flush(); // only the looks suffer
    }

    fn summary(&self, took: Duration) -> ExitCode {
        let found = self.queries - self.failed.len();
        println!("\n{found} of {} queries found what they looked for, in {:.1} s", self.queries, took.as_secs_f64());
        for failure in &self.failed {
            println!("  failed: {failure}");
        }
        if self.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

fn symbol(step: &Progress) -> char {
    match step {
        Progress::Asked { .. } => '.',
        Progress::Answered { .. } => '+',
        Progress::Failed { .. } => 'x',
        _ => '?',
    }
}
