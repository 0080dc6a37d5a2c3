//! All peers of a node leave at the same time, and others have come in their place.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use super::Network;
use super::network::peer;
use crate::core::DhtConfig;
use crate::core::io::{InboundId, Input, Operation, Output, QueryOptions, Reply};
use crate::core::message::{Request, Response};

const K: usize = 20;
const PEERS: usize = 44;

/// A hub through which `PEERS` nodes joined, and as many more that have not joined yet. Each seed has other ids.
fn hub(seed: usize) -> (Network, usize, Vec<usize>, Vec<usize>) {
    let mut network = Network::new(100, DhtConfig::default());
    let mut others: Vec<_> = (0..100).filter(|i| *i != seed).collect();
    others.rotate_left(9 * seed);
    let (old, new) = (others[..PEERS].to_vec(), others[PEERS..2 * PEERS].to_vec());
    join(&mut network, seed, &old);
    network.advance(Duration::from_secs(20));
    (network, seed, old, new)
}

fn join(network: &mut Network, hub: usize, peers: &[usize]) {
    let contact = network.contact(hub);
    for i in peers.iter().copied() {
        network.input(i, Input::AddPeer(contact.clone()));
        network.start(i, Operation::Bootstrap, QueryOptions::default());
        network.advance(Duration::from_millis(10));
    }
}

/// The number of `new` peers in the hub's table, the number that it has room for, and the share of others among the
/// peers in its answers.
fn look(network: &mut Network, hub: usize, new: &[usize]) -> (usize, usize, f64) {
    let local = *network.contact(hub).key();
    let snapshot = network.nodes[hub].routing_snapshot();
    let live = new.iter().filter(|i| snapshot.entries().any(|entry| entry.peer == peer(**i)));
    let mut places: BTreeMap<u32, usize> = BTreeMap::new();
    new.iter().for_each(|i| *places.entry(network.contact(*i).key().common_prefix_len(&local)).or_default() += 1);
    let room = places.values().map(|count| *count.min(&K)).sum();
    let (mut named, mut dead) = (0, 0);
    for i in 0..200u64 {
        let request = Request::FindNode { key: Bytes::from(format!("key {i}")) };
        let input = Input::Request { from: peer(new[0]), id: InboundId::new(u64::MAX - i), request };
        network.nodes[hub].handle_input(network.now, input);
        while let Some(output) = network.nodes[hub].poll_output() {
            if let Output::Reply { reply: Reply::Answer(Response::FindNode { closer }), .. } = output {
                named += closer.len();
                dead += closer.iter().filter(|contact| !new.iter().any(|i| peer(*i) == *contact.peer())).count();
            }
        }
    }
    (live.count(), room, dead as f64 / named as f64)
}

#[test]
fn peers_that_replace_all_others_are_in_the_table_within_seconds() {
    for (seed, connected) in (0..10).map(|seed| (seed, seed % 2 == 0)) {
        let (mut network, hub, old, new) = hub(seed);
        if !connected {
            old.iter().for_each(|i| network.disconnect(hub, *i));
            network.advance(Duration::from_secs(120));
        }
        old.iter().for_each(|i| network.kill(*i));
        network.advance(Duration::from_secs(1));
        join(&mut network, hub, &new);
        network.advance(Duration::from_secs(10));
        let (live, room, dead) = look(&mut network, hub, &new);
        assert!(live * 100 >= room * 95, "seed {seed}: {live} of {room}");
        assert!(dead <= 0.1, "seed {seed}: {dead}");
    }
}
