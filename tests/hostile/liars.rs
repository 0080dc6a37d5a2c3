//! Peers that send wrong answers or none, and peers at the address of another.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use libp2p::core::ConnectedPoint;
use libp2p::swarm::{DialError, SwarmEvent};
use libp2p::{PeerId, identity};
use libp2p_kad_dht as kad;
use libp2p_kad_dht::core::{Contact, Misbehaviour, PeerFailure, Request, RequestError, Response, Unreachable, Value};
use libp2p_kad_dht::{DhtHandle, QueryError, RecordKey};

use crate::live::{Host, Node, Ours, PROTOCOL, Raw, soon, until};
use crate::proxy::Proxy;
use crate::rules::{Do, brief, honest, node, peer};

/// A node that knows a good server and this peer, which may not answer.
pub(crate) async fn node_with<B: Host>(other: &Node<B>) -> (Ours, Ours) {
    let (alice, bob) = (node(brief()).await, node(brief()).await);
    alice.learns(&bob).await;
    alice.dht.add_peer(other.peer, [other.addr.clone()]);
    (alice, bob)
}

/// No operation fails because of the one bad peer. Each operation that asked it, or was held back from it, reports it:
/// the first one with this reason.
pub(crate) async fn only_the_good_one_counts(dht: &DhtHandle, good: PeerId, failure: PeerFailure) {
    let closest = soon(dht.closest_peers(b"point")).await.unwrap();
    assert_eq!(closest.peers.iter().map(|peer| peer.id).collect::<Vec<_>>(), [good]);
    assert_eq!(closest.report.failed, [failure]);
    let it_alone = |failed: &[PeerFailure]| failed.iter().all(|other| other.peer == failure.peer);
    let put = soon(dht.put(b"/test/a", b"value")).await.unwrap();
    assert!(put.report.acknowledged == [good] && it_alone(&put.report.failed), "{put:?}");
    let provided = soon(dht.provide(b"content")).await.unwrap();
    assert!(
        provided.report.acknowledged == [good] && provided.report.sent.is_empty() && it_alone(&provided.report.failed),
        "{provided:?}"
    );
}

pub(crate) fn misbehaviours(node: &Ours) -> Vec<(PeerId, Misbehaviour)> {
    let named = |event: &kad::Event| match event {
        kad::Event::PeerMisbehaved { peer, what } => Some((*peer, *what)),
        _ => None,
    };
    node.events().iter().filter_map(named).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_never_answers() {
    let mute = Raw::mute().await;
    let (alice, bob) = node_with(&mute).await;
    only_the_good_one_counts(&alice.dht, bob.peer, PeerFailure::new(mute.peer, RequestError::Timeout)).await;
}

/// It pauses like a virtual machine that is migrated: requests in the meantime are lost, but the peer is alive.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_was_silent_once_is_asked_by_the_next_query() {
    let silent = Arc::new(AtomicBool::new(false));
    let paused = Arc::clone(&silent);
    let pausing = peer(move |request| if paused.load(Ordering::Relaxed) { Do::Nothing } else { honest(request) }).await;
    let (alice, bob) = (node(brief()).await, node(brief()).await);
    alice.learns(&bob).await;
    alice.learns(&pausing).await;
    silent.store(true, Ordering::Relaxed);
    let found = soon(alice.dht.closest_peers(b"point")).await.unwrap();
    assert_eq!(found.peers.len(), 1);
    until("its silence counts as a failure", async || {
        let table = soon(alice.dht.routing_table()).await.unwrap();
        table.entries().any(|entry| entry.peer == pausing.peer && entry.failures > 0).then_some(())
    })
    .await;
    silent.store(false, Ordering::Relaxed);
    let found = soon(alice.dht.closest_peers(b"point")).await.unwrap();
    assert_eq!((found.peers.len(), found.report.failed), (2, vec![]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_answers_garbage() {
    let garbage = peer(|_| Do::Close(vec![5, 0xff, 0xff, 0xff, 0xff, 0xff])).await;
    let (alice, bob) = node_with(&garbage).await;
    let why = RequestError::Misbehaved(Misbehaviour::Undecodable);
    only_the_good_one_counts(&alice.dht, bob.peer, PeerFailure::new(garbage.peer, why)).await;
    assert!(misbehaviours(&alice).contains(&(garbage.peer, Misbehaviour::Undecodable)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_announces_more_than_anyone_reads() {
    let boaster = peer(|_| Do::Close(vec![0xff, 0xff, 0xff, 0x7f])).await;
    let (alice, bob) = node_with(&boaster).await;
    let why = RequestError::Misbehaved(Misbehaviour::TooLarge);
    only_the_good_one_counts(&alice.dht, bob.peer, PeerFailure::new(boaster.peer, why)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_closes_within_a_message() {
    let abrupt = peer(|_| Do::Close(vec![100, 8, 4, 66])).await;
    let (alice, bob) = node_with(&abrupt).await;
    only_the_good_one_counts(&alice.dht, bob.peer, PeerFailure::new(abrupt.peer, RequestError::Refused)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_for_another_key() {
    let other = RecordKey::from("/test/other");
    let wrong_record = {
        let value = Value::new(other.clone(), "not asked for");
        move |request| match request {
            Request::GetValue { key } => {
                Do::Answer(Response::GetValue { key, value: Some(value.clone()), closer: vec![] })
            }
            request => honest(request),
        }
    };
    let wrong_answer = move |request| match request {
        Request::GetValue { .. } => {
            let value = Some(Value::new(other.clone(), "not asked for"));
            Do::Answer(Response::GetValue { key: other.clone(), value, closer: vec![] })
        }
        request => honest(request),
    };
    for liar in [peer(wrong_record).await, peer(wrong_answer).await] {
        let (alice, bob) = node_with(&liar).await;
        match soon(alice.dht.get(b"/test/a")).await {
            Err(QueryError::NotFound(report)) => {
                let why = RequestError::Misbehaved(Misbehaviour::WrongKey);
                assert_eq!((report.failed, report.answers), (vec![PeerFailure::new(liar.peer, why)], 1));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(misbehaviours(&alice), [(liar.peer, Misbehaviour::WrongKey)]);
        soon(bob.dht.put(b"/test/a", b"value")).await.ok();
        let found = soon(alice.dht.get(b"/test/a")).await.unwrap();
        assert_eq!((&found.record.value[..], found.from), (&b"value"[..], Some(bob.peer)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_echo_that_is_not_what_was_stored() {
    let forger = peer(|request| match request {
        Request::PutValue { value } => Do::Answer(Response::PutValue { value: Value::new(value.key, "another") }),
        request => honest(request),
    });
    let forger = forger.await;
    let (alice, bob) = node_with(&forger).await;
    let put = soon(alice.dht.put(b"/test/a", b"value")).await.unwrap();
    let failure = PeerFailure::new(forger.peer, RequestError::Misbehaved(Misbehaviour::WrongEcho));
    assert_eq!((put.report.acknowledged, put.report.failed), (vec![bob.peer], vec![failure]));
}

pub(crate) fn stranger() -> PeerId {
    identity::Keypair::generate_ed25519().public().to_peer_id()
}

/// Number of times a node dialled this peer and another one answered.
fn met_another_peer(node: &Ours, peer: PeerId) -> usize {
    let wrong = |event: &SwarmEvent<_>| match event {
        SwarmEvent::OutgoingConnectionError { peer_id, error: DialError::WrongPeerId { .. }, .. } => {
            (*peer_id == Some(peer)).then_some(())
        }
        _ => None,
    };
    node.seen(wrong).len()
}

/// Without a back-off between dials: only its knowledge of wrong addresses keeps the node from dialling one.
fn eager() -> kad::Config {
    let mut core = brief().core().clone();
    core.back_off.base = Duration::ZERO;
    brief().with_core(core)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_where_another_peer_answers_is_not_used_again() {
    let (alice, bob) = (node(eager()).await, node(brief()).await);
    alice.learns(&bob).await;
    let ghost = stranger();
    alice.dht.add_peer(ghost, [bob.addr.clone()]);
    let wrong = PeerFailure::new(ghost, Unreachable::WrongPeer.into());
    for n in 0..5 {
        let closest = soon(alice.dht.closest_peers(format!("point {n}"))).await.unwrap();
        assert_eq!(closest.peers.len(), 1);
        assert!(closest.report.failed.iter().all(|failure| *failure == wrong), "{:?}", closest.report);
    }
    assert_eq!(met_another_peer(&alice, ghost), 1);
}

/// A liar names the address again in every answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nor_if_others_name_it_again() {
    let (alice, bob) = (node(eager()).await, node(brief()).await);
    let ghost = stranger();
    let named = Contact::new(ghost, [bob.addr.clone()]);
    let liar = peer(move |request| match request {
        Request::FindNode { .. } => Do::Answer(Response::FindNode { closer: vec![named.clone()] }),
        request => honest(request),
    });
    let liar = liar.await;
    alice.learns(&liar).await;
    for n in 0..5 {
        let closest = soon(alice.dht.closest_peers(format!("point {n}"))).await.unwrap();
        assert_eq!(closest.report.failed, [PeerFailure::new(ghost, Unreachable::WrongPeer.into())]);
    }
    assert_eq!(met_another_peer(&alice, ghost), 1);
}

/// All addresses of a peer are dialled in parallel, and the first answer ends the dial: another peer at one of them
/// must not prevent that the peer is reached at another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_at_one_address_does_not_hide_the_peer_at_another() {
    let (alice, bob, carol) = (node(brief()).await, node(brief()).await, node(brief()).await);
    alice.dht.add_peer(carol.peer, [bob.addr.clone(), carol.addr.clone()]);
    let closest = soon(alice.dht.closest_peers(b"point")).await.unwrap();
    assert_eq!(closest.peers.iter().map(|peer| peer.id).collect::<Vec<_>>(), [carol.peer]);
    let met = alice.seen(|event| match event {
        SwarmEvent::ConnectionEstablished { peer_id, endpoint: ConnectedPoint::Dialer { address, .. }, .. } => {
            Some((*peer_id, address.iter().nth(1) == carol.addr.iter().nth(1)))
        }
        _ => None,
    });
    assert_eq!(met, [(carol.peer, true)]);
}

/// The same if the other peer is faster than the peer itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn not_even_if_the_stranger_is_quicker() {
    let (alice, bob) = (node(kad::Config::new(PROTOCOL)).await, node(brief()).await);
    let silent = Proxy::to_silence().await;
    let ghost = stranger();
    alice.dht.add_peer(ghost, [silent.addr.clone(), bob.addr.clone()]);
    alice.learns(&bob).await;
    let closest = soon(alice.dht.closest_peers(b"point")).await.unwrap();
    assert_eq!(closest.peers.iter().map(|peer| peer.id).collect::<Vec<_>>(), [bob.peer]);
    assert_eq!(closest.report.failed.iter().map(|failure| failure.peer).collect::<Vec<_>>(), [ghost]);
    assert_eq!(met_another_peer(&alice, ghost), 1);
}
