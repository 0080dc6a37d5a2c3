//! The processor time of a server for each FIND_NODE of one client, which has 30 in flight.
//!
//! Knows: a server on its own thread, and a client below the swarm on another. Must not know: which implementation
//! answers.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use bytes::BytesMut;
use futures::{FutureExt, StreamExt};
use libp2p::swarm::{Config, Swarm, SwarmEvent};
use tokio::runtime::Builder;

use crate::client::{self, Streams};
use crate::floor::Floor;
use crate::measure::{Figures, Stretch};
use crate::node::{Adapter, AddressBook, Node, NodeConfig, keypair, peer};
use crate::ours::OurTable;
use crate::parts::Table;
use crate::random::Random;
use crate::transport::Kind;
use crate::wire;

const WIDTH: usize = 30;
const PORT: u16 = 5_000;

/// A server of the implementation with a full table.
pub(crate) fn run<A: Adapter>(transport: Kind, total: usize) -> Figures {
    measure(transport, total, async move |ready| {
        let book = AddressBook::default();
        let config = NodeConfig { keypair: keypair(8, 8), listen: transport.listen_addr(PORT), transport, book };
        let mut node = Node::<A>::spawn(config);
        let peers = Random::new(4).peers(5_000, 4);
        // A table with few entries starts a bootstrap by itself, which fails immediately since no peer can be dialled.
        A::fill(node.behaviour(), &peers[..40]);
        let pause = tokio::time::sleep(Duration::from_secs(3));
        let mut pause = std::pin::pin!(pause);
        std::future::poll_fn(|cx| {
            while node.poll(cx).is_ready() {}
            pause.poll_unpin(cx)
        })
        .await;
        A::fill(node.behaviour(), &peers);
        ready.send(()).expect("someone waits");
        loop {
            std::future::poll_fn(|cx| node.poll(cx)).await;
        }
    })
}

/// The floor, whose answer is the one of this crate: it names the same peers.
pub(crate) fn floor(transport: Kind, total: usize) -> Figures {
    measure(transport, total, async move |ready| {
        let mut table = OurTable::new(peer(8, 8));
        for (peer, addrs) in Random::new(4).peers(5_000, 4) {
            table.add(&peer, &addrs);
        }
        let mut answer = BytesMut::new();
        table.answer(&[1; 34], &mut answer);
        let config = Config::with_tokio_executor().with_idle_connection_timeout(Duration::from_secs(600));
        let keypair = keypair(8, 8);
        let floor = Floor::new(answer.freeze());
        let mut swarm = Swarm::new(transport.build(&keypair), floor, keypair.public().to_peer_id(), config);
        swarm.listen_on(transport.listen_addr(PORT)).expect("listens");
        loop {
            if let SwarmEvent::NewListenAddr { .. } = swarm.select_next_some().await {
                ready.send(()).expect("someone waits");
            }
        }
    })
}

/// Microseconds of the server's thread, and of the timer's beside it, for each request.
fn measure(transport: Kind, total: usize, server: impl AsyncFnOnce(mpsc::Sender<()>) + Send + 'static) -> Figures {
    let (ready, when_ready) = mpsc::channel();
    let runtime = || Builder::new_current_thread().enable_all().build().expect("a runtime");
    let serve = move || runtime().block_on(server(ready));
    thread::Builder::new().name("server".into()).spawn(serve).expect("a thread");
    when_ready.recv().expect("the server listens");
    let requests: Vec<Vec<u8>> = Random::new(5).keys(512).iter().map(|key| wire::request(key)).collect();
    runtime().block_on(async {
        let mut figures = Figures::default();
        for (name, streams) in [("each", Streams::Each), ("reused", Streams::Reused)] {
            let mut connection = client::connect(transport, transport.listen_addr(PORT)).await;
            client::ask_all(&mut connection, streams, WIDTH, 500, &requests).await;
            let stretch = Stretch::begin();
            client::ask_all(&mut connection, streams, WIDTH, total, &requests).await;
            let took = stretch.end();
            let server = took.thread("server") + took.thread("futures-timer");
            figures.add(name, server / total as f64 * 1e6);
        }
        figures
    })
}
