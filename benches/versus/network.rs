//! A network of nodes in one process: all but one on a thread of their own, and one that the workload drives.
//!
//! Knows: how nodes come together. Must not know: what is measured.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

use libp2p::{Multiaddr, PeerId};
use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::measure::process_cpu;
use crate::node::{Adapter, AddressBook, Ended, Node, NodeConfig, OperationId, keypair};
use crate::transport::Kind;

/// Bootstraps that run at the same time.
const WAVE: usize = 16;
/// Number of nodes through which all others join.
const SEEDS: usize = 3;

pub(crate) enum Command {
    Learn(PeerId, Multiaddr),
    Bootstrap(oneshot::Sender<bool>),
    Put(Vec<u8>, Vec<u8>, oneshot::Sender<Ended>),
    Provide(Vec<u8>, oneshot::Sender<Ended>),
    Has(Vec<u8>, oneshot::Sender<bool>),
    /// Stops answering, though its connections stay.
    Freeze,
}

/// Runs a node until its commands end.
async fn run<A: Adapter>(mut node: Node<A>, mut commands: mpsc::UnboundedReceiver<Command>) {
    let mut waiting: HashMap<OperationId, oneshot::Sender<Ended>> = HashMap::new();
    let mut bootstraps: HashMap<OperationId, oneshot::Sender<bool>> = HashMap::new();
    let mut frozen = false;
    poll_fn(|cx| {
        loop {
            if frozen {
                return Poll::Pending;
            }
            let mut idle = true;
            while let Poll::Ready(command) = commands.poll_recv(cx) {
                idle = false;
                match command {
                    None => return Poll::Ready(()),
                    Some(Command::Learn(peer, addr)) => A::learn(node.behaviour(), peer, addr),
                    Some(Command::Bootstrap(ended)) => match node.bootstrap() {
                        Some(operation) => _ = bootstraps.insert(operation, ended),
                        None => _ = ended.send(false),
                    },
                    Some(Command::Put(key, value, ended)) => {
                        let operation = node.start(|behaviour| A::put(behaviour, &key, value));
                        waiting.insert(operation, ended);
                    }
                    Some(Command::Provide(key, ended)) => {
                        let operation = node.start(|behaviour| A::provide(behaviour, &key));
                        waiting.insert(operation, ended);
                    }
                    Some(Command::Has(key, answer)) => _ = answer.send(A::has(node.behaviour(), &key)),
                    Some(Command::Freeze) => frozen = true,
                }
            }
            match node.poll(cx) {
                Poll::Ready(None) => {}
                Poll::Ready(Some(ended)) => {
                    if let Some(bootstrap) = bootstraps.remove(&ended.operation) {
                        bootstrap.send(ended.ok).ok();
                    } else if let Some(waiting) = waiting.remove(&ended.operation) {
                        waiting.send(ended).ok();
                    }
                }
                Poll::Pending if idle => return Poll::Pending,
                Poll::Pending => {}
            }
        }
    })
    .await;
}

pub(crate) struct Network {
    runtime: Runtime,
    pub(crate) book: AddressBook,
    pub(crate) peers: Vec<PeerId>,
    nodes: Vec<mpsc::UnboundedSender<Command>>,
    transport: Kind,
    seed: u64,
}

impl Network {
    /// All nodes but the workload's own, which is number 0. They do not know each other yet.
    pub(crate) fn start<A: Adapter>(nodes: usize, transport: Kind, seed: u64) -> Network {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("network")
            .enable_all()
            .build()
            .expect("a runtime");
        let (book, peers, commands) = (AddressBook::default(), Vec::new(), Vec::new());
        let mut network = Network { runtime, book, peers, nodes: commands, transport, seed };
        for n in 1..nodes as u16 {
            let _guard = network.runtime.enter();
            let node = Node::<A>::spawn(network.config(n));
            let (sender, commands) = mpsc::unbounded_channel();
            network.peers.push(node.peer());
            network.nodes.push(sender);
            network.runtime.spawn(run(node, commands));
        }
        network
    }

    pub(crate) fn config(&self, n: u16) -> NodeConfig {
        NodeConfig {
            keypair: keypair(self.seed, u64::from(n)),
            listen: self.transport.listen_addr(n),
            transport: self.transport,
            book: self.book.clone(),
        }
    }

    pub(crate) fn nodes(&self) -> usize {
        self.nodes.len()
    }

    pub(crate) fn send(&self, node: usize, command: Command) {
        self.nodes[node].send(command).ok();
    }

    pub(crate) fn addrs(&self) -> Vec<(PeerId, Multiaddr)> {
        let book = self.book.read().expect("no panic");
        self.peers.iter().map(|peer| (*peer, book[peer].clone())).collect()
    }

    pub(crate) fn seeds(&self) -> Vec<(PeerId, Multiaddr)> {
        self.addrs().into_iter().take(SEEDS).collect()
    }

    /// Every node joins through the seeds and bootstraps twice. Returns how many bootstraps failed.
    pub(crate) fn bootstrap(&self) -> usize {
        for (node, peer) in self.peers.iter().enumerate() {
            for (seed, addr) in self.seeds() {
                if seed != *peer {
                    self.send(node, Command::Learn(seed, addr));
                }
            }
        }
        (0..2).map(|_| self.runtime.block_on(self.bootstrap_all())).sum()
    }

    async fn bootstrap_all(&self) -> usize {
        let slots = Arc::new(Semaphore::new(WAVE));
        let mut running = Vec::new();
        for node in &self.nodes {
            let (node, slots) = (node.clone(), slots.clone());
            running.push(tokio::spawn(async move {
                let _slot = slots.acquire().await;
                let (ended, end) = oneshot::channel();
                node.send(Command::Bootstrap(ended)).ok();
                end.await.unwrap_or(false)
            }));
        }
        let mut failed = 0;
        for bootstrap in running {
            failed += usize::from(!bootstrap.await.unwrap_or(false));
        }
        failed
    }
}

/// Waits until the process has used less than 5 % of a core for two seconds, a minute at most.
pub(crate) fn settle() {
    let (begun, mut quiet) = (Instant::now(), 0);
    while begun.elapsed() < Duration::from_secs(60) && quiet < 4 {
        let before = process_cpu();
        thread::sleep(Duration::from_millis(500));
        quiet = if process_cpu() - before < 0.025 { quiet + 1 } else { 0 };
    }
}

/// The node that the workload polls itself.
pub(crate) struct Driver<A: Adapter> {
    pub(crate) node: Node<A>,
}

impl<A: Adapter> Driver<A> {
    /// Runs the node until an operation ends.
    pub(crate) async fn next(&mut self) -> Ended {
        loop {
            if let Some(ended) = poll_fn(|cx| self.node.poll(cx)).await {
                return ended;
            }
        }
    }

    pub(crate) async fn end_of(&mut self, operation: OperationId) -> Ended {
        loop {
            let ended = self.next().await;
            if ended.operation == operation {
                return ended;
            }
        }
    }

    /// Runs the node until `future` is ready.
    pub(crate) async fn until<F: Future>(&mut self, future: F) -> F::Output {
        let mut future = std::pin::pin!(future);
        poll_fn(|cx| {
            loop {
                if let Poll::Ready(output) = future.as_mut().poll(cx) {
                    return Poll::Ready(output);
                }
                if self.node.poll(cx).is_pending() {
                    return Poll::Pending;
                }
            }
        })
        .await
    }

    pub(crate) async fn run_for(&mut self, time: Duration) {
        self.until(tokio::time::sleep(time)).await;
    }
}
