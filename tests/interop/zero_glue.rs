//! Programs of kad and identify without any wiring: a node that joins through one other node finds all.

use std::time::Duration;

use libp2p::StreamProtocol;
use libp2p::swarm::dial_opts::DialOpts;
use libp2p_kad_dht as kad;
use libp2p_kad_dht::Mode;
use libp2p_kad_dht::net::ModeReason;

use crate::live::{Ours, PROTOCOL, soon, until};

const NEWER: StreamProtocol = StreamProtocol::new("/test/kad/2.0.0");

async fn all_know_all(nodes: &[Ours]) {
    for node in nodes {
        until("a node knows all others", async || (node.table().await.len() == nodes.len() - 1).then_some(())).await;
    }
}

async fn join_through_the_first(nodes: &[Ours]) {
    for node in &nodes[1..] {
        let hub = DialOpts::peer_id(nodes[0].peer).addresses(vec![nodes[0].addr.clone()]).build();
        node.act(|swarm| swarm.dial(hub)).await.unwrap();
        // Only the connection and identify tell the node about the hub.
        until("the hub is in the table", async || node.table().await.contains(&nodes[0].peer).then_some(())).await;
        soon(node.dht.bootstrap()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_nodes_joined_through_one_know_each_other() {
    let mut nodes = Vec::new();
    for _ in 0..5 {
        nodes.push(Ours::start().await);
    }
    join_through_the_first(&nodes).await;
    all_know_all(&nodes).await;
    soon(nodes[1].dht.put(b"/test/a", b"value")).await.unwrap();
    assert_eq!(&soon(nodes[4].dht.get(b"/test/a")).await.unwrap().record.value[..], b"value");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_names_of_the_protocol_are_one_network() {
    let both = || kad::Config::new(PROTOCOL).with_protocols([NEWER, PROTOCOL]);
    let mut nodes = Vec::new();
    for n in 0..5 {
        let config = if n % 2 == 0 { both() } else { kad::Config::new(PROTOCOL) };
        nodes.push(Ours::with(config, true, Duration::from_secs(10)).await);
    }
    join_through_the_first(&nodes).await;
    all_know_all(&nodes).await;
    // Records written by old nodes and read through new ones, and the reverse.
    for (writer, reader) in [(1, 3), (2, 1), (3, 4)] {
        let key = format!("/test/{writer}");
        let put = soon(nodes[writer].dht.put(key.as_bytes(), b"value")).await.unwrap();
        assert_eq!(put.report.acknowledged.len(), 4, "{put:?}");
        assert_eq!(&soon(nodes[reader].dht.get(key.as_bytes())).await.unwrap().record.value[..], b"value");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_serves_once_it_is_known_to_be_reachable() {
    let server = Ours::start().await;
    let automatic = kad::Config::new(PROTOCOL).with_mode(None);
    let node = Ours::with(automatic, true, Duration::from_secs(10)).await;
    let changes = || {
        let change = |event: &kad::Event| match event {
            kad::Event::ModeChanged { mode, why } => Some((*mode, *why)),
            _ => None,
        };
        node.events().iter().filter_map(change).collect::<Vec<_>>()
    };
    node.learns(&server).await;
    soon(node.dht.put(b"/test/a", b"value")).await.unwrap();
    assert_eq!(changes(), [(Mode::Client, ModeReason::NoExternalAddr)]);
    assert!(!server.table().await.contains(&node.peer));
    let addr = node.addr.clone();
    node.act(|swarm| swarm.add_external_address(addr)).await;
    let expected = [(Mode::Client, ModeReason::NoExternalAddr), (Mode::Server, ModeReason::ExternalAddr)];
    until("it says that it serves", async || (changes() == expected).then_some(())).await;
    until("others hear of it", async || server.table().await.contains(&node.peer).then_some(())).await;
}
