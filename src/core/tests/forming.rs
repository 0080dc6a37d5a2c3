//! Networks that form: nodes that start together, through one that is busy.

use std::time::Duration;

use super::Network;
use super::network::peer;
use crate::core::io::{Event, Input, Operation, QueryOptions};
use crate::core::{AddressPolicy, Contact, DhtConfig, Timestamp};

/// All nodes join at the same moment through the first one, which is stopped for this long.
fn start_together(nodes: usize, stopped: Duration, bootstrap: bool) -> Network {
    let mut network = Network::new(nodes, DhtConfig::default());
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

/// Runs until every node has every other in its table.
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
fn a_node_looks_up_its_own_key_with_its_first_peer() {
    let mut network = Network::new(2, DhtConfig::default());
    let boot = network.contact(0);
    network.input(1, Input::AddPeer(boot));
    network.advance(Duration::from_millis(150));
    assert_eq!(network.sent, 4, "each was tried by the other, and looks up its own key");
}

/// The time between the boot node's return and the moment at which it is known again.
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
        let mut network = Network::joined(4, DhtConfig::default());
        network.advance(Duration::from_secs(30));
        network.dead.extend([0, 2, 3]);
        for gone in [0, 2, 3].map(peer) {
            network.input(1, Input::Disconnected { peer: gone });
            // A peer that stops says that it no longer serves.
            network.input(1, Input::Serves { peer: gone, yes: false });
        }
        assert_eq!(tables(&network)[1], 0);
        let took = alone_for(&mut network, Duration::from_secs(away));
        assert!(took <= Duration::from_secs(30), "away for {away} s: {took:?}");
    }
}

#[test]
fn peers_that_the_driver_reports_find_each_other() {
    let mut network = Network::new(7, DhtConfig::default());
    // As if mDNS reported every peer to every other at the same moment.
    for me in 0..7 {
        for other in (0..7).filter(|other| *other != me) {
            let contact = network.contact(other);
            network.input(me, Input::Discovered(contact));
        }
    }
    let took = time_until_all_are_known(&mut network);
    assert!(took <= Duration::from_secs(1), "{took:?}");
}

#[test]
fn a_query_asks_a_reported_peer_that_was_not_tried_yet() {
    let mut network = Network::new(2, DhtConfig::default());
    let contact = network.contact(1);
    network.input(0, Input::Discovered(contact));
    let put = Operation::Put { key: b"/app/x".into(), value: b"v".to_vec().into() };
    network.run(0, put).expect("the reported peer is asked");
}

#[test]
fn a_reported_peer_that_is_not_there_is_tried_less_and_less_often() {
    let mut network = Network::new(3, DhtConfig::default());
    network.dead.insert(1);
    for _ in 0..600 {
        // The driver reports it each second.
        let contact = network.contact(1);
        network.input(0, Input::Discovered(contact));
        network.advance(Duration::from_secs(1));
    }
    assert!((2..=20).contains(&network.sent), "{} requests in ten minutes", network.sent);
    // The driver no longer reports it, and it comes back.
    network.dead.clear();
    network.advance(Duration::from_secs(1_000));
    assert_eq!(tables(&network)[0], 1);
}

#[test]
fn of_several_reported_addresses_one_that_works_is_enough() {
    let mut network = Network::new(4, DhtConfig::default());
    let boot = network.contact(0);
    for i in [1, 2] {
        network.input(i, Input::AddPeer(boot.clone()));
        network.run(i, Operation::Bootstrap).unwrap();
    }
    for addr in ["/memory/44", "/memory/4"] {
        network.input(0, Input::Discovered(Contact::new(peer(3), [addr.parse().unwrap()])));
    }
    network.advance(Duration::from_secs(1));
    assert!(network.nodes[0].routing_snapshot().entries().any(|entry| entry.peer == peer(3)));
}

#[test]
fn any_number_of_reports_has_bounded_effects() {
    let mut network = Network::new(1, DhtConfig::default());
    for i in 1..5_000 {
        let contact = Contact::new(peer(i), [format!("/ip4/10.0.0.1/tcp/{i}").parse().unwrap()]);
        network.input(0, Input::Discovered(contact));
    }
    let (limit, k) = (DhtConfig::default().limit.candidates, 20);
    network.advance(Duration::from_secs(3_600));
    let most = limit + 2 * k * 20;
    assert!(network.sent <= most, "{} requests in an hour", network.sent);
}

#[test]
fn what_peers_say_of_others_is_no_report() {
    let mut network = Network::joined(2, DhtConfig::default());
    network.advance(Duration::from_secs(60));
    let before = network.sent;
    // A connected peer may report any addresses of its own.
    let said = Contact::new(peer(1), [String::from("/memory/77").parse().unwrap()]);
    network.input(0, Input::Discovered(said));
    network.advance(Duration::from_secs(5));
    assert_eq!(network.sent, before);
}

/// A network without identify: no node learns which peers serve. All join through the first node.
fn without_identify(nodes: usize, config: DhtConfig, reuses_ports: bool) -> Network {
    let mut network = Network::new(nodes, config);
    (network.identify, network.reuses_ports) = (false, reuses_ports);
    network.join();
    network
}

fn warnings(network: &Network) -> Vec<usize> {
    let told = |(node, event): &(usize, Event)| matches!(event, Event::NoIdentify).then_some(*node);
    network.events.iter().filter_map(told).collect()
}

#[test]
fn without_identify_peers_that_ask_are_dialled_back_and_all_know_each_other() {
    let mut network = without_identify(7, DhtConfig::default(), true);
    let took = time_until_all_are_known(&mut network);
    assert!(took <= Duration::from_secs(12), "{took:?}");
    network.advance(Duration::from_secs(3_600));
    let mut told = warnings(&network);
    assert!(told.contains(&0), "the first node says that there is no identify");
    told.dedup();
    assert_eq!(told.len(), warnings(&network).len(), "each once");
    let mut back = network.dialled_back.clone();
    back.sort_unstable();
    back.dedup();
    assert!(network.dialled_back.len() <= 21, "one dial a connection: {}", network.dialled_back.len());
}

#[test]
fn a_peer_that_cannot_be_dialled_back_costs_one_dial_a_connection_and_back_offs_between() {
    let mut network = without_identify(3, DhtConfig::default(), false);
    network.advance(Duration::from_secs(60));
    assert_eq!(tables(&network), [0, 1, 1], "still a star: no node knows where the others listen");
    assert_eq!(network.dialled_back.len(), 2);
    network.dialled_back.clear();
    for _ in 0..100 {
        network.disconnect(0, 1);
        for _ in 0..3 {
            network.run(1, Operation::ClosestPeers { key: b"x".to_vec().into() }).unwrap();
            network.advance(Duration::from_secs(1));
        }
    }
    assert!(network.dialled_back.len() <= 10, "{} of 100 connections", network.dialled_back.len());
    assert!(warnings(&network).contains(&0));
}

#[test]
fn with_identify_no_peer_is_dialled_back_and_in_the_public_network_never() {
    let mut network = Network::joined(7, DhtConfig::default());
    network.advance(Duration::from_secs(3_600));
    assert_eq!((network.dialled_back.len(), warnings(&network).len()), (0, 0));
    let mut network = Network::new(3, DhtConfig { address_policy: AddressPolicy::Public, ..DhtConfig::default() });
    network.identify = false;
    for (i, node) in [1, 2].into_iter().enumerate() {
        let addr = || format!("/ip4/8.8.{i}.8/tcp/1").parse().unwrap();
        network.input(0, Input::Connected { peer: peer(node), outbound_addr: None, inbound_addr: Some(addr()) });
        for _ in 0..10 {
            network.request(0, node);
            network.advance(Duration::from_secs(1));
        }
    }
    assert_eq!((network.dialled_back.len(), warnings(&network)), (0, vec![0]));
}
