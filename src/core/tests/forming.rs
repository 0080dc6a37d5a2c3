//! Networks that form: nodes that start together, through one that is busy.

use std::time::Duration;

use super::Network;
use crate::core::io::{Input, Operation, QueryOptions};
use crate::core::{Config, Timestamp};

/// All nodes join at the same moment through the first one, which does nothing for this long.
fn start_together(nodes: usize, stopped: Duration, bootstrap: bool) -> Network {
    let mut network = Network::new(nodes, Config::default());
    network.stop_for(0, stopped);
    let boot = network.contact(0);
    for i in 1..nodes {
        network.input(i, Input::AddPeer(boot.clone()));
        if bootstrap {
            network.start(i, Operation::Bootstrap, QueryOptions::default());
        }
    }
    network
}

fn tables(network: &Network) -> Vec<usize> {
    network.nodes.iter().map(|node| node.routing_snapshot().entries().count()).collect()
}

/// Runs until everyone knows everyone.
fn time_until_all_are_known(network: &mut Network) -> Duration {
    let (begun, others) = (network.now, network.nodes.len() - 1);
    while tables(network).iter().any(|known| *known < others) {
        network.advance(Duration::from_millis(100));
        assert!(network.now - begun < Duration::from_secs(60), "{:?}", tables(network));
    }
    network.now - begun
}

#[test]
fn nodes_that_start_together_while_their_boot_node_is_busy_know_each_other_within_seconds() {
    for (nodes, limit) in [(7, 5), (30, 10)] {
        for stopped in [0, 500] {
            for bootstrap in [true, false] {
                let mut network = start_together(nodes, Duration::from_millis(stopped), bootstrap);
                let took = time_until_all_are_known(&mut network);
                assert!(took <= Duration::from_secs(limit), "{nodes} nodes, {stopped} ms: {took:?}");
            }
        }
    }
}

#[test]
fn a_network_that_has_formed_is_quiet() {
    let mut network = start_together(7, Duration::from_millis(500), true);
    network.advance(Duration::from_secs(30));
    let before = network.sent;
    network.advance(Duration::from_secs(120));
    assert_eq!(network.sent - before, 0, "requests in two minutes");
    let before = network.sent;
    network.advance(Duration::from_secs(3_600));
    let each = (network.sent - before) as f64 / 7.0;
    println!("{each} requests a node and hour");
    assert!(each < 150.0, "{each} requests a node and hour");
}

#[test]
fn the_first_look_for_oneself_comes_with_the_first_peer() {
    let mut network = Network::new(2, Config::default());
    let boot = network.contact(0);
    network.input(1, Input::AddPeer(boot));
    network.advance(Duration::from_millis(150));
    assert_eq!(network.sent, 4, "each was tried by the other, and looks for itself");
}

/// The time between the boot node's return and its being known again.
fn alone_for(network: &mut Network, away: Duration) -> Duration {
    network.advance(away);
    network.dead.clear();
    let back: Timestamp = network.now;
    while tables(network)[1] == 0 {
        network.advance(Duration::from_secs(1));
        assert!(network.now - back < Duration::from_secs(1_000));
    }
    network.now - back
}

#[test]
fn a_node_whose_table_has_gone_empty_tries_its_boot_nodes_within_half_a_minute() {
    for away in [10, 60, 600, 3_600, 86_400] {
        let mut network = Network::joined(4, Config::default());
        network.advance(Duration::from_secs(30));
        network.dead.extend([0, 2, 3]);
        for gone in [0, 2, 3].map(super::network::peer) {
            network.input(1, Input::Disconnected { peer: gone });
            // As of a peer that stops: it says that it serves no longer.
            network.input(1, Input::Serves { peer: gone, yes: false });
        }
        assert_eq!(tables(&network)[1], 0);
        let took = alone_for(&mut network, Duration::from_secs(away));
        assert!(took <= Duration::from_secs(30), "away for {away} s: {took:?}");
    }
}
