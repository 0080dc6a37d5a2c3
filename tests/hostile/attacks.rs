//! The attacks at full size, against `kad-node` in another process: how its memory grows, and how long an honest peer
//! waits for an answer.
//!
//! `KAD_NODE=target/release/kad-node taskset -c 1 cargo test --release --all-features --test hostile attacks::attacks --
//! --ignored --nocapture`, where the node gets the first processor, and the honest peer and the attackers the second.
//! `ATTACKS=find,put` runs those alone.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use std::{env, fs};

use bytes::Bytes;
use futures::future::join_all;
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};
use libp2p_kad_dht::core::{Request, Value};
use libp2p_kad_dht::wire;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::live::{Node, PROTOCOL, Raw, read, soon, write};
use crate::rules::request;

/// The node under attack.
struct Target {
    peer: PeerId,
    addr: Multiaddr,
}

/// Starts a `kad-node` on the first processor.
async fn start(program: &str) -> (Target, Child) {
    let mut node = Command::new("taskset")
        .args(["-c", "0", program, "--mode", "server", "--protocol", PROTOCOL.as_ref()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut output = BufReader::new(node.stdout.take().unwrap()).lines();
    loop {
        let line = soon(output.next_line()).await.unwrap().expect("it listens");
        if line.trim().starts_with("/ip4/") {
            return (Target::at(line.trim().parse().unwrap()), node);
        }
    }
}

/// The resident memory of a process in MiB.
fn resident(process: &Child) -> f64 {
    let status = fs::read_to_string(format!("/proc/{}/status", process.id().unwrap())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
}

impl Target {
    fn at(addr: Multiaddr) -> Target {
        match addr.iter().last() {
            Some(Protocol::P2p(peer)) => Target { peer, addr },
            _ => panic!("{addr}"),
        }
    }

    async fn caller(&self) -> Arc<Node<Raw>> {
        let raw = Raw::mute().await;
        assert!(raw.reaches(self.peer, vec![self.addr.clone()]).await);
        Arc::new(raw)
    }

    /// A FIND_NODE every 5 ms on one stream for this time: the median and the 99th percentile of the waits, in ms.
    async fn waits(&self, honest: &Node<Raw>, time: Duration) -> (f64, f64) {
        let mut stream = honest.open(self.peer).await.unwrap();
        let (mut waits, began) = (Vec::new(), Instant::now());
        let asked = find(0);
        while began.elapsed() < time {
            let sent = Instant::now();
            assert!(write(&mut stream, &asked).await);
            assert!(soon(read(&mut stream)).await.is_some());
            waits.push(sent.elapsed());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        waits.sort();
        let at = |part: usize| waits[(waits.len() * part / 100).min(waits.len() - 1)].as_secs_f64() * 1e3;
        (at(50), at(99))
    }
}

fn find(n: usize) -> Bytes {
    request(&Request::FindNode { key: format!("key {n}").into_bytes().into() })
}

fn put(n: usize) -> Bytes {
    request(&Request::PutValue { value: Value::new(format!("/test/{n}"), vec![7; 900]) })
}

fn providers(n: usize) -> Bytes {
    request(&Request::GetProviders { key: format!("content {n}").into() })
}

/// Asks without an end: one request after another on each of these streams.
async fn flood(target: &Target, connections: usize, streams: usize, ask: fn(usize) -> Bytes) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let sent = Arc::new(AtomicUsize::new(0));
    for caller in join_all((0..connections).map(|_| target.caller())).await {
        for _ in 0..streams {
            let (caller, peer, sent) = (Arc::clone(&caller), target.peer, Arc::clone(&sent));
            tasks.spawn(async move {
                while let Some(mut stream) = caller.open(peer).await {
                    while write(&mut stream, &ask(sent.fetch_add(1, Ordering::Relaxed))).await
                        && read(&mut stream).await.is_some()
                    {}
                }
            });
        }
    }
    tasks
}

/// Sends these bytes again and again on each stream, and reads nothing.
async fn pour(target: &Target, connections: usize, streams: usize, bytes: Bytes) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for caller in join_all((0..connections).map(|_| target.caller())).await {
        for _ in 0..streams {
            let (caller, peer, bytes) = (Arc::clone(&caller), target.peer, bytes.clone());
            tasks.spawn(async move {
                while let Some(mut stream) = caller.open(peer).await {
                    while write(&mut stream, &bytes).await {}
                }
            });
        }
    }
    tasks
}

/// Sends all but the end of a request on each stream, again when the node resets it.
async fn withhold(target: &Target, connections: usize, streams: usize) -> JoinSet<()> {
    let mut part = Vec::new();
    wire::frame::write_prefix(64 * 1024, &mut part);
    part.resize(60_000, 0);
    let mut tasks = JoinSet::new();
    for caller in join_all((0..connections).map(|_| target.caller())).await {
        for _ in 0..streams {
            let (caller, peer, part) = (Arc::clone(&caller), target.peer, part.clone());
            tasks.spawn(async move {
                while let Some(mut stream) = caller.open(peer).await {
                    write(&mut stream, &part).await;
                    read(&mut stream).await;
                }
            });
        }
    }
    tasks
}

/// Streams that carried one request.
async fn idle(target: &Target, connections: usize, streams: usize) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for caller in join_all((0..connections).map(|_| target.caller())).await {
        for n in 0..streams {
            let mut stream = caller.open(target.peer).await.unwrap();
            let caller = Arc::clone(&caller);
            tasks.spawn(async move {
                let _caller = caller;
                write(&mut stream, &find(n)).await;
                read(&mut stream).await;
                read(&mut stream).await;
            });
        }
    }
    tasks
}

/// Connections that close after one request.
async fn flap(target: &Target, at_once: usize) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for _ in 0..at_once {
        let (peer, addr) = (target.peer, target.addr.clone());
        let comes_and_goes = async move || loop {
            let raw = Raw::mute().await;
            if raw.reaches(peer, vec![addr.clone()]).await
                && let Some(mut stream) = raw.open(peer).await
            {
                write(&mut stream, &find(0)).await;
                read(&mut stream).await;
            }
        };
        let runtime = Handle::current();
        tasks.spawn_blocking(move || runtime.block_on(comes_and_goes()));
    }
    tasks
}

async fn attack(target: &Target, name: &str) -> JoinSet<()> {
    match name {
        "find 1 x 32" => flood(target, 1, 32, find).await,
        "find 10 x 32" => flood(target, 10, 32, find).await,
        "find 50 x 32" => flood(target, 50, 32, find).await,
        "providers 50 x 32" => flood(target, 50, 32, providers).await,
        "put 40 x 16" => flood(target, 40, 16, put).await,
        "part of 64 KiB 100 x 32" => withhold(target, 100, 32).await,
        "never reading 60 x 32" => pour(target, 60, 32, find(0).repeat(100).into()).await,
        "idle 32 x 32" => idle(target, 32, 32).await,
        "flapping" => flap(target, 8).await,
        other => panic!("{other}"),
    }
}

const ATTACKS: [&str; 9] = [
    "find 1 x 32",
    "find 10 x 32",
    "find 50 x 32",
    "providers 50 x 32",
    "put 40 x 16",
    "part of 64 KiB 100 x 32",
    "never reading 60 x 32",
    "idle 32 x 32",
    "flapping",
];

/// The median of three looks, of each figure.
fn medians(looks: Vec<(f64, f64)>) -> (f64, f64) {
    let (mut p50, mut p99): (Vec<_>, Vec<_>) = looks.into_iter().unzip();
    p50.sort_by(f64::total_cmp);
    p99.sort_by(f64::total_cmp);
    (p50[1], p99[1])
}

/// Set in the process of the attackers: the node's address, and the attack.
const TARGET: &str = "HOSTILE_TARGET";
const ATTACK: &str = "HOSTILE_ATTACK";

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
#[ignore = "the process of the attackers"]
async fn attackers() {
    let (Ok(addr), Ok(name)) = (env::var(TARGET), env::var(ATTACK)) else { return };
    let target = Target::at(addr.parse().unwrap());
    let mut tasks = attack(&target, &name).await;
    while tasks.join_next().await.is_some() {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
#[ignore = "minutes, and two processors for it alone"]
async fn attacks() {
    let program = env::var("KAD_NODE").expect("KAD_NODE is the path of the node");
    let wanted = env::var("ATTACKS").unwrap_or_default();
    println!(
        "| attack | MiB: before, most above it | idle ms: p50, p99 | under attack | ratios |\n|---|---|---|---|---|"
    );
    for name in ATTACKS.into_iter().filter(|name| wanted.split(',').any(|wanted| name.contains(wanted))) {
        let (target, mut node) = start(&program).await;
        let honest = target.caller().await;
        let mut quiet = Vec::new();
        for _ in 0..3 {
            quiet.push(target.waits(&honest, Duration::from_secs(2)).await);
        }
        let idle = medians(quiet);
        let before = resident(&node);
        let mut attackers = Command::new("nice")
            .args(["-n", "10"])
            .arg(env::current_exe().unwrap())
            .args(["attacks::attackers", "--exact", "--ignored"])
            .env(TARGET, target.addr.to_string())
            .env(ATTACK, name)
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        tokio::time::sleep(Duration::from_secs(4)).await; // until all are connected
        let (mut most, mut waits) = (0.0f64, Vec::new());
        for _ in 0..3 {
            waits.push(target.waits(&honest, Duration::from_secs(2)).await);
            most = most.max(resident(&node));
        }
        let waits = medians(waits);
        println!(
            "| {name} | {before:.0}, {:+.0} | {:.2}, {:.2} | {:.2}, {:.2} | {:.1}, {:.1} |",
            most - before,
            idle.0,
            idle.1,
            waits.0,
            waits.1,
            waits.0 / idle.0,
            waits.1 / idle.1
        );
        attackers.kill().await.unwrap();
        node.kill().await.unwrap();
    }
}
