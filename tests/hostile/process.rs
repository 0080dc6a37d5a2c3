//! A node in a process of its own, whose bytes are counted: the allocations of the peers around it do not count.
//!
//! The process is this test binary, with the one test that serves.

use std::alloc::System;
use std::env;
use std::io::BufRead as _;
use std::process::Stdio;
use std::time::Duration;

use cap::Cap;
use libp2p::{Multiaddr, PeerId};
use libp2p_kad_dht as kad;
use libp2p_kad_dht::{MemoryStore, MemoryStoreConfig};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::live::{Node, Ours, PROTOCOL, Raw, soon, until};

/// Counts every byte that this process asks for.
#[global_allocator]
static HEAP: Cap<System> = Cap::new(System, usize::MAX);

/// Set in the process that serves.
const SERVE: &str = "HOSTILE_SERVES";
/// Maximum number of values that it keeps.
pub(crate) const KEPT: usize = 500;
/// What each line for the parent begins with: the harness writes to the same output.
const MARK: &str = "node: ";

/// A node in a process of its own.
pub(crate) struct Server {
    pub(crate) peer: PeerId,
    pub(crate) addr: Multiaddr,
    _process: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Server {
    pub(crate) async fn start() -> Server {
        Server::run("").await
    }

    /// Runs it with at most this many open descriptors.
    pub(crate) async fn with_descriptors(limit: usize) -> Server {
        Server::run(&format!("ulimit -n {limit};")).await
    }

    /// After these commands of a shell.
    async fn run(first: &str) -> Server {
        let mut process = Command::new("sh")
            .args(["-c", &format!("{first} exec \"$0\" \"$@\"")])
            .arg(env::current_exe().unwrap())
            .args(["process::serve", "--exact", "--ignored", "--nocapture"])
            .env(SERVE, "yes")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let input = process.stdin.take().unwrap();
        let mut output = BufReader::new(process.stdout.take().unwrap()).lines();
        let (peer, addr) = (line(&mut output).await.parse().unwrap(), line(&mut output).await.parse().unwrap());
        Server { peer, addr, _process: process, input, output }
    }

    /// Bytes that the node holds on its heap now.
    pub(crate) async fn bytes(&mut self) -> usize {
        self.input.write_all(b"bytes\n").await.unwrap();
        line(&mut self.output).await.parse().unwrap()
    }

    /// The most that it holds above `base` at any of its looks, of which another one follows while `more`.
    pub(crate) async fn most_above(&mut self, base: usize, more: impl Fn(usize) -> bool) -> usize {
        let mut most = 0;
        until("the end of a flood", async || {
            most = most.max(self.bytes().await.saturating_sub(base));
            (!more(most)).then_some(())
        })
        .await;
        most
    }

    /// Its port.
    pub(crate) fn socket(&self) -> std::net::SocketAddr {
        crate::proxy::socket(&self.addr)
    }

    /// A raw peer with a connection to it.
    pub(crate) async fn caller(&self) -> Node<Raw> {
        let raw = Raw::mute().await;
        assert!(raw.reaches(self.peer, vec![self.addr.clone()]).await);
        raw
    }
}

async fn line(output: &mut Lines<BufReader<ChildStdout>>) -> String {
    loop {
        let line = soon(output.next_line()).await.unwrap().expect("the process ended");
        if let Some((_, told)) = line.split_once(MARK) {
            return told.to_owned();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
#[ignore = "the process that other tests start"]
async fn serve() {
    if env::var_os(SERVE).is_none() {
        return;
    }
    let mut store = MemoryStoreConfig::default();
    store.max_values = KEPT;
    let store = Box::new(MemoryStore::new(store, [1; 32]));
    let node = Ours::with_store(kad::Config::new(PROTOCOL), store, false, Duration::from_secs(10)).await;
    println!("{MARK}{}", node.peer);
    println!("{MARK}{}", node.addr);
    let answers = tokio::task::spawn_blocking(move || {
        for _ in std::io::stdin().lock().lines() {
            *node.events.lock().unwrap() = Vec::new();
            println!("{MARK}{}", HEAP.allocated());
        }
    });
    answers.await.unwrap();
}
