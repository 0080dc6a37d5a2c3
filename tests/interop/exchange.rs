//! A network of `libp2p-kad` whose nodes are exchanged for nodes of this library one by one, as a migration does.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;

use futures::StreamExt as _;
use libp2p::{Multiaddr, PeerId};

use crate::live::{Ours, soon};
use crate::theirs::{self, Theirs};

const NODES: usize = 6;
const K: NonZeroUsize = NonZeroUsize::new(20).unwrap();

/// The value of a publisher that has left: nobody puts it again.
const HEIRLOOM: (&str, &str) = ("/test/heirloom", "of the first node");

/// The nodes of both kinds; each has a value of its own and provides the same content.
struct Network {
    theirs: Vec<Theirs>,
    ours: Vec<Ours>,
}

impl Network {
    async fn of_theirs() -> Network {
        let mut network = Network { theirs: Vec::new(), ours: Vec::new() };
        for n in 0..NODES {
            let node = theirs::start(K).await;
            if let Some((peer, addr)) = network.anyone() {
                node.add_peer(peer, vec![addr]).await;
                node.bootstrap().await.unwrap();
            }
            node.put(key(n).as_bytes(), value(n).as_bytes()).await.ok(); // the first node is alone
            network.theirs.push(node);
        }
        for node in &network.theirs {
            node.provide(b"content").await.unwrap();
        }
        network.theirs[0].put(HEIRLOOM.0.as_bytes(), HEIRLOOM.1.as_bytes()).await.unwrap();
        network
    }

    /// The node through which others join: the newest, which is the last to be exchanged.
    fn anyone(&self) -> Option<(PeerId, Multiaddr)> {
        let theirs = self.theirs.last().map(|node| (node.peer, node.addr.clone()));
        theirs.or_else(|| self.ours.first().map(|node| (node.peer, node.addr.clone())))
    }

    /// Exchanges the oldest node of theirs: it goes. One of ours joins and publishes what it has, as a program does
    /// when it starts.
    async fn exchange(&mut self, n: usize) {
        self.theirs.remove(0);
        let node = Ours::start().await;
        let (first, addr) = self.anyone().unwrap();
        node.dht.add_peer(first, [addr]);
        soon(node.dht.bootstrap()).await.unwrap();
        soon(node.dht.put(key(n), value(n))).await.unwrap();
        soon(node.dht.provide("content")).await.unwrap();
        self.ours.push(node);
    }

    /// Every node reads every value, and finds every provider that is there.
    async fn assert_complete(&self, step: usize) {
        let present: BTreeSet<PeerId> =
            self.theirs.iter().map(|node| node.peer).chain(self.ours.iter().map(|node| node.peer)).collect();
        let own = (0..NODES).map(|n| (key(n), value(n)));
        let all: Vec<_> = own.chain([(HEIRLOOM.0.to_owned(), HEIRLOOM.1.to_owned())]).collect();
        for node in &self.ours {
            for (key, value) in &all {
                let found = soon(node.dht.get(&**key)).await;
                assert_eq!(found.unwrap().record.value, *value, "{key}, read by ours in step {step}");
            }
            let found: BTreeSet<PeerId> = soon(node.dht.providers("content").map(|found| found.id).collect()).await;
            assert!(found.is_superset(&present), "step {step}, ours: {found:?}, present: {present:?}");
        }
        for node in &self.theirs {
            for (key, value) in &all {
                let found = node.get(key.as_bytes()).await;
                assert!(found.iter().any(|(read, _)| read == value.as_bytes()), "{key}, read by theirs in step {step}");
            }
            let found = node.providers(b"content").await;
            assert!(found.is_superset(&present), "step {step}, theirs: {found:?}, present: {present:?}");
        }
    }
}

fn key(n: usize) -> String {
    format!("/test/{n}")
}

fn value(n: usize) -> String {
    format!("value of node {n}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_are_exchanged_one_by_one_and_nothing_is_lost() {
    let mut network = Network::of_theirs().await;
    network.assert_complete(0).await;
    for n in 0..NODES {
        network.exchange(n).await;
        network.assert_complete(n + 1).await;
    }
    assert!(network.theirs.is_empty() && network.ours.len() == NODES);
}
