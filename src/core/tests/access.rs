//! Peers that the application, or the node itself, shuts out.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use libp2p_identity::PeerId;
use multiaddr::Multiaddr;

use super::Network;
use super::network::peer;
use crate::core::io::{Answer, Event, InboundId, Input, Operation, Output, QueryOptions, Refusal, Reply};
use crate::core::message::{Kind, Misbehaviour, Request, RequestError, Response, Unreachable};
use crate::core::{ClosestPeers, Contact, DhtConfig, PeerFilter, ProvidersFound, QueryError, RecordKey};

const HOUR: Duration = Duration::from_secs(3_600);

fn in_table(network: &Network, i: usize, other: usize) -> bool {
    network.nodes[i].routing_snapshot().entries().any(|entry| entry.peer == peer(other))
}

/// The peers that a node names in its answer to a request; `None` if it refuses it.
fn answer(network: &mut Network, i: usize, from: PeerId, request: Request) -> Option<BTreeSet<PeerId>> {
    let (now, id) = (network.now, InboundId::new(u64::MAX));
    network.nodes[i].handle_input(now, Input::Request { from, id, request });
    loop {
        match network.nodes[i].poll_output()? {
            Output::Reply { reply: Reply::Reset(Refusal::Denied), .. } => return None,
            Output::Reply { reply: Reply::Answer(Response::FindNode { closer }), .. } => {
                return Some(closer.iter().map(|peer| *peer.peer()).collect());
            }
            Output::Reply { reply: Reply::Answer(Response::GetProviders { closer, providers, .. }), .. } => {
                return Some(closer.iter().chain(&providers).map(|peer| *peer.peer()).collect());
            }
            Output::Reply { reply, .. } => panic!("{reply:?}"),
            _ => {}
        }
    }
}

fn find_node(of: usize) -> Request {
    Request::FindNode { key: peer(of).to_bytes().into() }
}

#[test]
fn a_banned_peer_is_neither_asked_nor_served_nor_named_and_comes_back_afterwards() {
    let mut network = Network::joined(12, DhtConfig::default());
    let key = RecordKey::from("content");
    network.run(5, Operation::Provide { key: key.clone() }).unwrap();
    assert!(in_table(&network, 3, 5));
    let now = network.now;
    network.nodes[3].ban(now, peer(5), HOUR);
    assert!(!in_table(&network, 3, 5));

    // Not served, and not named: neither as the target, nor among the closest, nor as a provider.
    assert_eq!(answer(&mut network, 3, peer(5), find_node(1)), None);
    assert!(!answer(&mut network, 3, peer(1), find_node(5)).unwrap().contains(&peer(5)));
    let providers = Request::GetProviders { key: key.clone() };
    assert!(!answer(&mut network, 3, peer(1), providers.clone()).unwrap().contains(&peer(5)));

    // Not asked, though others name it, nor when the application wants it to be.
    let key_of_5 = peer(5).to_bytes().into();
    let Ok(Answer::ClosestPeers(ClosestPeers { peers, report })) =
        network.run(3, Operation::ClosestPeers { key: key_of_5 })
    else {
        panic!()
    };
    assert_eq!(peers.len(), 10);
    assert!(peers.iter().all(|found| found.id != peer(5)));
    assert!(report.failed.is_empty());
    let only = QueryOptions::default().with_only([peer(5)]);
    let Err(QueryError::NoAnswer(report)) = network.run_with(3, Operation::Get { key: "x".into() }, only) else {
        panic!()
    };
    assert_eq!(report.failed[0].why, RequestError::Unreachable(Unreachable::Denied));
    let again = network.contact(5);
    network.input(3, Input::AddPeer(again));
    network.advance(HOUR - Duration::from_secs(60));
    assert!(!in_table(&network, 3, 5));

    network.advance(Duration::from_secs(120));
    let again = network.contact(5);
    network.input(3, Input::AddPeer(again));
    network.advance(Duration::from_secs(5));
    assert!(in_table(&network, 3, 5));
    assert!(answer(&mut network, 3, peer(1), find_node(5)).unwrap().contains(&peer(5)));
    let found = network.run(3, Operation::Providers { key }).unwrap();
    assert!(matches!(found, Answer::Providers(ProvidersFound { found: 1, .. })));
}

#[test]
fn a_ban_that_is_lifted_and_a_peer_that_is_removed_leave_no_trace() {
    let mut network = Network::joined(12, DhtConfig::default());
    let now = network.now;
    network.nodes[3].ban(now, peer(5), Duration::MAX);
    assert!(network.nodes[3].unban(&peer(5)) && !network.nodes[3].unban(&peer(5)));
    assert!(network.nodes[3].remove_peer(now, &peer(6)) && !network.nodes[3].remove_peer(now, &peer(99)));
    assert!(!in_table(&network, 3, 5) && !in_table(&network, 3, 6));
    for i in [5, 6] {
        let contact = network.contact(i);
        network.input(3, Input::AddPeer(contact));
    }
    network.advance(Duration::from_secs(5));
    assert!(in_table(&network, 3, 5) && in_table(&network, 3, 6));
}

/// Peers of version 2, as far as is known, and the requests of all but one.
#[derive(Debug)]
struct Gate;

impl PeerFilter for Gate {
    fn admit(&self, _: &PeerId, agent: Option<&str>, protocols: &[String], addrs: &[Multiaddr]) -> bool {
        assert!(!addrs.is_empty());
        agent.is_none_or(|agent| agent == "app/2" && protocols == ["/app/2"])
    }

    fn accept(&self, from: &PeerId, request: &Request) -> bool {
        *from != peer(4) || request.kind() == Kind::Ping
    }
}

#[test]
fn a_filter_judges_peers_again_when_their_agent_is_told() {
    let mut network = Network::joined(12, DhtConfig::default());
    let now = network.now;
    network.nodes[3].set_filter(now, Some(Arc::new(Gate)));
    assert!(in_table(&network, 3, 5) && in_table(&network, 3, 6));
    for (i, agent) in [(5, "app/2"), (6, "app/1")] {
        network.nodes[3].set_agent(now, peer(i), agent, ["/app/2".to_owned()]);
    }
    assert!(in_table(&network, 3, 5) && !in_table(&network, 3, 6));
    let key = peer(6).to_bytes().into();
    let Ok(Answer::ClosestPeers(found)) = network.run(3, Operation::ClosestPeers { key }) else { panic!() };
    assert!(found.peers.iter().all(|found| found.id != peer(6)), "it is not asked either");
    assert_eq!(answer(&mut network, 3, peer(4), find_node(1)), None);
    assert!(answer(&mut network, 3, peer(6), find_node(1)).is_some());

    // Another version, and no filter at all.
    network.nodes[3].set_agent(now, peer(6), "app/2", ["/app/2".to_owned()]);
    network.advance(Duration::from_secs(5));
    assert!(in_table(&network, 3, 6));
    network.nodes[3].set_filter(now, None);
    assert!(answer(&mut network, 3, peer(4), find_node(1)).is_some());
}

/// A peer that keeps answering what it was not asked loses its place, and the application hears of it ten times.
#[test]
fn a_peer_that_breaks_the_protocol_again_and_again_is_banned_for_a_while() {
    let mut network = Network::joined(12, DhtConfig::default());
    network.events.clear();
    let forged = Contact::new(peer(7), ["/memory/8".parse().unwrap()]);
    for n in 0..50 {
        let (now, id) = (network.now, InboundId::new(u64::MAX - n));
        let request = Request::AddProvider { key: "x".into(), providers: vec![Arc::clone(&forged)] };
        network.nodes[3].handle_input(now, Input::Request { from: peer(5), id, request });
        while let Some(output) = network.nodes[3].poll_output() {
            if let Output::Event(event) = output {
                network.events.push((3, event));
            }
        }
    }
    let is_breach = |event: &&(usize, Event)| matches!(event.1, Event::PeerMisbehaved { what: Misbehaviour::NotItsProvider, peer: of } if of == peer(5));
    assert_eq!(network.events.iter().filter(is_breach).count(), 10);
    assert!(!in_table(&network, 3, 5) && in_table(&network, 3, 6));
    assert_eq!(answer(&mut network, 3, peer(5), find_node(1)), None);
    network.advance(Duration::from_secs(601));
    assert!(answer(&mut network, 3, peer(5), find_node(1)).is_some());
}

/// An invalid value may be another peer's, and is no reason to leave a peer alone.
#[test]
fn invalid_values_cost_a_peer_nothing() {
    let mut network = Network::joined(12, DhtConfig::default());
    for n in 0..50 {
        let (now, id) = (network.now, InboundId::new(u64::MAX - n));
        let request = Request::GetValue { key: RecordKey::new(vec![1; 600]) };
        network.nodes[3].handle_input(now, Input::Request { from: peer(5), id, request });
        while network.nodes[3].poll_output().is_some() {}
    }
    assert!(in_table(&network, 3, 5));
    assert!(answer(&mut network, 3, peer(5), find_node(1)).is_some());
}
