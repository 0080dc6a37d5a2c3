//! Peers that come back at other addresses.

use std::time::Duration;

use bytes::Bytes;

use super::Network;
use super::network::peer;
use crate::core::io::{Evidence, InboundId, Input, Operation, Output, Reply};
use crate::core::message::{Request, Response};
use crate::core::peers::MAX_FIRST_HAND;
use crate::core::{Answer, Contact, DhtConfig, FoundPeer};

/// The addresses of a peer that this node hands out.
fn handed_out(network: &mut Network, by: usize, of: usize) -> Vec<String> {
    let now = network.now;
    let node = &mut network.nodes[by];
    let request = Request::FindNode { key: Bytes::from(peer(of).to_bytes()) };
    let from = Contact::new(libp2p_identity::PeerId::random(), []);
    node.handle_input(now, Input::Request { from: *from.peer(), id: InboundId::new(u64::MAX), request });
    while let Some(output) = node.poll_output() {
        let Output::Reply { reply: Reply::Answer(Response::FindNode { closer }), .. } = output else { continue };
        let found = closer.iter().find(|contact| *contact.peer() == peer(of));
        return found.map(|contact| contact.addrs().map(|addr| addr.to_string()).collect()).unwrap_or_default();
    }
    Vec::new()
}

/// A peer with a fixed identity restarts, each time on a new port, while five others stay online.
#[test]
fn after_any_number_of_moves_all_hand_out_the_live_address_first_and_newcomers_reach_it() {
    for moves in [20, 45] {
        let mut network = Network::joined(7, DhtConfig::default());
        let live = |port: usize| format!("/ip4/127.0.0.1/tcp/{port}");
        for port in 1..=moves {
            network.restart_at(6, &live(port));
            network.advance(Duration::from_secs(20));
        }
        for by in 0..6 {
            let addrs = handed_out(&mut network, by, 6);
            assert_eq!(addrs.first(), Some(&live(moves)), "by {by} after {moves} moves: {addrs:?}");
            assert!(addrs.len() <= MAX_FIRST_HAND);
        }
        // Node 5 forgets everything, and is no longer connected.
        network.restart_at(5, "/memory/99");
        let peer = peer(6);
        match network.run(5, Operation::FindPeer { peer }) {
            Ok(Answer::Peer(FoundPeer { evidence, .. })) => assert!(evidence != Evidence::Hearsay, "{moves} moves"),
            other => panic!("after {moves} moves: {other:?}"),
        }
    }
}
