//! Against `libp2p-kad`.

use futures::StreamExt as _;
use libp2p_identity::PeerId;
use libp2p_kad as kad;
use libp2p_swarm::{Swarm, SwarmEvent};

use super::rig::*;
use crate::core::{Kind, Reply, Request, RequestError, Response};

type Kad = kad::Behaviour<kad::store::MemoryStore>;

fn server(peer: PeerId) -> Kad {
    let mut kad = kad::Behaviour::with_config(peer, kad::store::MemoryStore::new(peer), kad::Config::new(NAME));
    kad.set_mode(Some(kad::Mode::Server));
    kad
}

fn run(mut kad: Swarm<Kad>) {
    tokio::spawn(async move { while kad.next().await.is_some() {} });
}

#[tokio::test]
async fn it_answers_many_requests_on_one_stream() {
    for net in [Net::Memory, Net::Quic] {
        let (mut node, kad) = node_and(net, config(), server).await;
        run(kad);
        for id in 0..5 {
            node.send(id, find_node(b"key")).await;
            assert_eq!(node.response().await, (id, Ok(empty_answer())), "{net:?}");
        }
    }
}

#[tokio::test]
async fn it_acknowledges_announcements_by_a_clean_end() {
    for net in [Net::Memory, Net::Quic] {
        let (mut node, kad) = node_and(net, config(), server).await;
        run(kad);
        for id in 0..3 {
            node.send(id, announcement()).await;
            assert_eq!(node.response().await, (id, Ok(Response::AddProvider)), "{net:?}");
        }
    }
}

#[tokio::test]
async fn it_refuses_a_ping() {
    let (mut node, kad) = node_and(Net::Memory, config(), server).await;
    run(kad);
    node.send(0, Request::Ping).await;
    assert_eq!(node.response().await, (0, Err(RequestError::Refused)));
}

#[tokio::test]
async fn it_gets_the_answer_to_its_half_closed_requests() {
    for net in [Net::Memory, Net::Quic] {
        let (mut node, mut kad) = node_and(net, config(), server).await;
        let peer = *kad.connected_peers().next().expect("it is connected");
        let addr = "/memory/1".parse().expect("an address");
        kad.behaviour_mut().add_address(&peer, addr);
        kad.behaviour_mut().get_closest_peers(b"key".to_vec());
        let asked = async {
            loop {
                let (id, request) = node.request().await;
                assert_eq!(request.kind(), Kind::FindNode);
                node.reply(id, Reply::Answer(empty_answer())).await;
            }
        };
        let answered = async {
            loop {
                let event = kad.select_next_some().await;
                if let SwarmEvent::Behaviour(kad::Event::OutboundQueryProgressed { result, .. }) = event
                    && let kad::QueryResult::GetClosestPeers(found) = result
                {
                    let found = found.expect("no time-out").peers;
                    break found.iter().map(|info| info.peer_id).collect::<Vec<_>>();
                }
            }
        };
        tokio::select! {
            found = soon(answered) => assert_eq!(found, [peer], "{net:?}"),
            () = asked => {}
        }
    }
}
