//! The core without libp2p: any transport, any encoding. Here: UDP on loopback, a binary encoding of our own.
//!
//! ```text
//! cargo run --no-default-features --features driver --example own_driver
//! ```
//!
//! Eight nodes join, put, get, provide and find, are sent garbage, and lose one of their number. It prints what
//! happened and ends with 0 if all of it went as it should, else with 1.
//!
//! To write a driver of your own, read `driver.rs`: the run loop, and the handling of each output of the core.
//! `datagram.rs` is the encoding: messages are plain data, so it is all yours.

mod datagram;
mod driver;

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;

use futures::StreamExt as _;
use kad::core::DhtConfig;
use kad::{DhtHandle, QueryError};
use libp2p_identity::PeerId;
use libp2p_kad_dht as kad;
use multiaddr::{Multiaddr, Protocol};
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::datagram::{Datagram, DatagramError, MAX_DATAGRAM};
use crate::driver::Node;

const NODES: u8 = 8;
/// Number of peers that keep a record: fewer than there are nodes, so that the others have to ask.
const K: usize = 3;

/// A node whose run loop is a task of its own.
struct Running {
    peer: PeerId,
    addr: Multiaddr,
    dht: DhtHandle,
    task: JoinHandle<std::io::Result<()>>,
}

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    tracing_subscriber::fmt().with_env_filter(tracing_subscriber::EnvFilter::from_default_env()).init();
    let begun = Instant::now();
    let mut checks = Checks::default();

    let mut nodes: Vec<Running> = Vec::new();
    for number in 0..NODES {
        let node = start(number).await?;
        if let Some(first) = nodes.first() {
            node.dht.add_peer(first.peer, [first.addr.clone()]);
            let joined = node.dht.bootstrap().await;
            checks.note(
                "joins",
                joined.map(|joined| format!("{} at {} knows {}", short(&node.peer), node.addr, joined.peers)),
            );
        }
        nodes.push(node);
    }
    let alive: Vec<&Running> = nodes.iter().collect();

    let holders = put(&mut checks, alive[1], "/own/greeting").await;
    let reader = alive.iter().find(|node| node.peer != alive[1].peer && !holders.contains(&node.peer));
    get(&mut checks, reader.ok_or("every node keeps the value")?, "/own/greeting").await;
    provide_and_find(&mut checks, alive[2], alive[6]).await;
    find_peer(&mut checks, alive[3], alive[7]).await;
    send_garbage(&mut checks, alive[0]).await?;

    let dead = nodes.iter().find(|node| holders.first() == Some(&node.peer)).ok_or("no node keeps the value")?;
    dead.task.abort(); // its socket closes, and requests to it get no answer
    println!("{} is stopped", short(&dead.peer));
    let alive: Vec<&Running> = nodes.iter().filter(|node| node.peer != dead.peer).collect();
    let reader = alive.iter().find(|node| !holders.contains(&node.peer) && node.peer != nodes[1].peer);
    get(&mut checks, reader.ok_or("every node keeps the value")?, "/own/greeting").await;
    put(&mut checks, alive[0], "/own/farewell").await;

    Ok(checks.summary(begun))
}

async fn start(number: u8) -> Result<Running, Box<dyn Error>> {
    // A peer id is the hash of a public key. This example checks no keys, so any hash will do.
    let seed = kad::Key::hash(&[number]).to_bytes();
    let peer = PeerId::from_bytes(&[&[0x12, 0x20], &seed[..]].concat())?;
    let mut config = DhtConfig::default();
    config.lookup.replication = K.try_into()?;
    let node = Node::bind(peer, seed, config).await?;
    let addr = node.contact().addrs().next().ok_or("no address")?;
    let dht = node.handle();
    Ok(Running { peer, addr, dht, task: tokio::spawn(node.run()) })
}

async fn put(checks: &mut Checks, node: &Running, key: &str) -> Vec<PeerId> {
    let put = node.dht.put(key, b"hello, core").await;
    let holders = put.as_ref().map_or(Vec::new(), |put| put.report.acknowledged.clone());
    checks.expect("puts", put, |put| {
        let kept: Vec<_> = put.report.acknowledged.iter().map(short).collect();
        (put.report.acknowledged.len() == K, format!("{} puts {key}, kept by {}", short(&node.peer), kept.join(" ")))
    });
    holders
}

async fn get(checks: &mut Checks, node: &Running, key: &str) {
    checks.expect("gets", node.dht.get(key).await, |found| {
        let from = found.from.as_ref().map_or("itself".to_owned(), short);
        let text = String::from_utf8_lossy(&found.record.value).into_owned();
        (text == "hello, core" && found.from.is_some(), format!("{} gets {text:?} from {from}", short(&node.peer)))
    });
}

async fn provide_and_find(checks: &mut Checks, provider: &Running, seeker: &Running) {
    checks.expect("provides", provider.dht.provide(b"own content").await, |announced| {
        (
            announced.report.acknowledged.len() == K,
            format!("{} announces it to {} peers", short(&provider.peer), announced.report.acknowledged.len()),
        )
    });
    let found = seeker.dht.providers(b"own content").next().await;
    checks.expect("finds providers", found.ok_or(QueryError::Cancelled), |found| {
        let right = found.id == provider.peer && found.addrs.contains(&provider.addr);
        (right, format!("{} finds {} at {:?}", short(&seeker.peer), short(&found.id), found.addrs))
    });
}

async fn find_peer(checks: &mut Checks, seeker: &Running, sought: &Running) {
    checks.expect("finds a peer", seeker.dht.find_peer(sought.peer).await, |found| {
        let right = found.peer.addrs.contains(&sought.addr);
        (right, format!("{} finds {} at {:?}", short(&seeker.peer), short(&found.peer.id), found.peer.addrs))
    });
}

/// Bytes that are no message must be recognised as such, and must not disturb the node.
async fn send_garbage(checks: &mut Checks, node: &Running) -> Result<(), Box<dyn Error>> {
    let mut udp = node.addr.iter().filter_map(|part| if let Protocol::Udp(port) = part { Some(port) } else { None });
    let target: SocketAddr = (Ipv4Addr::LOCALHOST, udp.next().ok_or("no port")?).into();
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let garbage: [(&[u8], DatagramError); 4] = [
        (b"", DatagramError::Truncated),
        (b"hello", DatagramError::Version(b'h')),
        (&[1, 0xff, 0xff, 0], DatagramError::Truncated),
        (&[1; MAX_DATAGRAM + 1], DatagramError::TooLong),
    ];
    for (bytes, _) in garbage {
        socket.send_to(bytes, target).await?;
    }
    let recognised = garbage.iter().all(|(bytes, why)| Datagram::decode(bytes).err() == Some(*why));
    checks.expect("survives garbage", node.dht.routing_table().await, |table| {
        (
            recognised && table.entries().count() > 0,
            format!("{} lives on after {} datagrams", short(&node.peer), garbage.len()),
        )
    });
    Ok(())
}

fn short(peer: &PeerId) -> String {
    let text = peer.to_string();
    text[text.len() - 6..].to_owned()
}

/// The results that were expected, and those that came.
#[derive(Default)]
struct Checks {
    done: usize,
    failed: usize,
}

impl Checks {
    fn expect<T>(&mut self, what: &str, result: Result<T, QueryError>, look: impl FnOnce(T) -> (bool, String)) {
        match result.map(look) {
            Ok((true, text)) => self.note(what, Ok::<_, QueryError>(text)),
            Ok((false, text)) => self.note(what, Err(format!("unexpected: {text}"))),
            Err(why) => self.note(what, Err(why.to_string())),
        }
    }

    fn note<E: std::fmt::Display>(&mut self, what: &str, result: Result<String, E>) {
        self.done += 1;
        match result {
            Ok(text) => println!("{what:<17} {text}"),
            Err(why) => {
                self.failed += 1;
                println!("{what:<17} FAILED: {why}");
            }
        }
    }

    fn summary(&self, begun: Instant) -> ExitCode {
        let right = self.done - self.failed;
        println!("{right} of {} as they should be, in {:.1} s", self.done, begun.elapsed().as_secs_f64());
        if self.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}
