//! Peers whose answers or announcements are not what a node may believe: each is refused or left out, and the operation
//! goes on with the other peers.

use std::sync::Arc;

use bytes::{BufMut as _, Bytes};
use libp2p::identity::Keypair;
use libp2p::swarm::SwarmEvent;
use libp2p_kad_dht as kad;
use libp2p_kad_dht::core::{Contact, Misbehaviour, PeerFailure, Request, RequestError, Response, Value};
use libp2p_kad_dht::validators::{Signed, SignedValues};
use libp2p_kad_dht::{Namespaced, wire};
use tokio::sync::watch;

use crate::liars::{misbehaviours, node_with, only_the_good_one_counts, stranger};
use crate::live::{Node, Ours, PROTOCOL, Raw, read, soon, until, write};
use crate::rules::{Do, brief, honest, node, peer, provided_at, request};

/// Sends requests on a stream of their own each. Returns which are answered.
async fn answered(raw: &Node<Raw>, node: &Ours, requests: &[Request]) -> Vec<bool> {
    let mut answered = Vec::new();
    for asked in requests {
        let mut stream = raw.open(node.peer).await.unwrap();
        assert!(write(&mut stream, &request(asked)).await);
        answered.push(soon(read(&mut stream)).await.is_some());
    }
    answered
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_of_the_wrong_type() {
    let liar = peer(|asked| match asked {
        Request::FindNode { key } => Do::Answer(Response::GetValue { key: key.into(), value: None, closer: vec![] }),
        asked => honest(asked),
    });
    let liar = liar.await;
    let (alice, bob) = node_with(&liar).await;
    let why = RequestError::Misbehaved(Misbehaviour::WrongType);
    only_the_good_one_counts(&alice.dht, bob.peer, PeerFailure::new(liar.peer, why)).await;
    assert!(misbehaviours(&alice).contains(&(liar.peer, Misbehaviour::WrongType)));
}

/// A node that finds itself in an answer, at the address of another peer, neither dials itself nor reports itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_own_id_in_an_answer() {
    let alice = node(brief()).await;
    let elsewhere = Raw::mute().await;
    let named = Contact::new(alice.peer, [elsewhere.addr.clone()]);
    let liar = peer(move |asked| match asked {
        Request::FindNode { .. } => Do::Answer(Response::FindNode { closer: vec![named.clone()] }),
        Request::GetProviders { key } => {
            Do::Answer(Response::GetProviders { key, providers: vec![], closer: vec![named.clone()] })
        }
        asked => honest(asked),
    });
    let liar = liar.await;
    alice.learns(&liar).await;
    let found = soon(alice.dht.closest_peers(alice.peer.to_bytes())).await.unwrap();
    assert_eq!(found.peers.iter().map(|peer| peer.id).collect::<Vec<_>>(), [liar.peer]);
    assert_eq!((found.report.requests, found.report.failed), (1, vec![]));
    assert_eq!(alice.table().await, [liar.peer]);
    let dialled = alice.seen(|event| match event {
        SwarmEvent::Dialing { peer_id, .. } => Some(*peer_id),
        SwarmEvent::OutgoingConnectionError { peer_id, .. } => Some(*peer_id),
        _ => None,
    });
    assert!(!dialled.contains(&Some(alice.peer)), "{dialled:?}");
}

/// A FIND_NODE answer with these ids, all at one address, behind its length.
fn naming(ids: &[Vec<u8>], addr: &[u8]) -> Vec<u8> {
    let mut message = vec![0x08, 4];
    for id in ids {
        let mut entry = Vec::new();
        for (tag, field) in [(0x0a, &id[..]), (0x12, addr)] {
            entry.put_u8(tag);
            wire::frame::write_prefix(field.len(), &mut entry);
            entry.extend_from_slice(field);
        }
        message.put_u8(0x42);
        wire::frame::write_prefix(entry.len(), &mut message);
        message.extend_from_slice(&entry);
    }
    let mut framed = Vec::new();
    wire::frame::write_prefix(message.len(), &mut framed);
    framed.extend_from_slice(&message);
    framed
}

/// What is not an id is left out; the rest of the answer counts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invalid_ids_in_an_answer() {
    let carol = node(brief()).await;
    let good = carol.peer.to_bytes();
    let cut = good[..good.len() - 1].to_vec();
    let long = [&good[..], &[0]].concat();
    let foreign_hash = [&[0x13, 0x40][..], &[7; 64]].concat(); // SHA2-512
    let ids = [vec![], vec![0xff; 40], cut, long, foreign_hash, good];
    let answer = naming(&ids, &carol.addr.to_vec());
    let liar = peer(move |asked| match asked {
        Request::FindNode { .. } => Do::Close(answer.clone()),
        asked => honest(asked),
    });
    let liar = liar.await;
    let alice = node(brief()).await;
    alice.learns(&liar).await;
    let found = soon(alice.dht.closest_peers(b"point")).await.unwrap();
    let mut ids: Vec<_> = found.peers.iter().map(|peer| peer.id).collect();
    ids.sort();
    let mut expected = [liar.peer, carol.peer];
    expected.sort();
    assert_eq!((ids, found.report.requests, found.report.failed), (expected.to_vec(), 2, vec![]));
}

/// The caller gives up a request, which resets its stream; the answer that is sent nevertheless counts for nothing, and
/// the peer is asked and believed again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_after_the_request_was_cancelled() {
    let (asked, mut was_asked) = watch::channel(false);
    let (reset, mut was_reset) = watch::channel(false);
    let late = Raw::start(move |mut stream| {
        let (asked, reset) = (asked.clone(), reset.clone());
        async move {
            while let Some(message) = read(&mut stream).await {
                let wanted = wire::decode_request(None, message).unwrap();
                let is_late = matches!(&wanted, Request::GetValue { key } if key.as_bytes() == b"/test/late");
                if is_late {
                    asked.send_replace(true);
                    reset.send_replace(read(&mut stream).await.is_none());
                }
                let Do::Answer(answer) = honest(wanted) else { return };
                write(&mut stream, &wire::encode_response(&answer, wire::MAX_OUT).unwrap()).await;
            }
        }
    });
    let late = late.await;
    let alice = node(kad::Config::new(PROTOCOL)).await;
    alice.learns(&late).await;
    let get = tokio::spawn(alice.dht.get(b"/test/late").into_future());
    soon(was_asked.wait_for(|asked| *asked)).await.unwrap();
    get.abort();
    until("the query is cancelled", async || alice.dht.queries().await.unwrap().is_empty().then_some(())).await;
    assert!(*soon(was_reset.wait_for(|reset| *reset)).await.unwrap());
    let other = soon(alice.dht.get(b"/test/other")).await;
    match other {
        Err(kad::QueryError::NotFound(report)) => assert_eq!((report.answers, report.failed), (1, vec![])),
        other => panic!("{other:?}"),
    }
    let usage = alice.act(|swarm| swarm.behaviour_mut().kad.store().usage()).await;
    assert_eq!((usage.values, usage.own), (0, 0), "nothing of a cancelled query is kept");
    assert_eq!(misbehaviours(&alice), []);
}

/// An announcement speaks for its sender alone: of another peer, and of several, only the sender's entry is kept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forged_provider() {
    let server = node(kad::Config::new(PROTOCOL)).await;
    let raw = Raw::mute().await;
    assert!(raw.reaches(server.peer, vec![server.addr.clone()]).await);
    let victim = Contact::new(stranger(), ["/ip4/127.0.0.1/tcp/4001".parse().unwrap()]);
    let itself = Contact::new(raw.peer, [raw.addr.clone()]);
    let announce = |key: &'static [u8], providers| Request::AddProvider { key: key.into(), providers };
    let requests =
        [announce(b"forged content", vec![Arc::clone(&victim)]), announce(b"shared content", vec![victim, itself])];
    let mut stream = raw.open(server.peer).await.unwrap();
    assert!(write(&mut stream, &request(&requests[0])).await);
    assert_eq!(soon(read(&mut stream)).await, None, "the stream is reset");
    let mut stream = raw.open(server.peer).await.unwrap();
    assert!(write(&mut stream, &request(&requests[1])).await);
    until("the sender is kept", async || (provided_at(&server, b"shared content").await.len() == 1).then_some(()))
        .await;
    let providers = provided_at(&server, b"shared content").await;
    assert_eq!(providers.iter().map(|contact| *contact.peer()).collect::<Vec<_>>(), [raw.peer]);
    assert_eq!(provided_at(&server, b"forged content").await.len(), 0);
    assert_eq!(misbehaviours(&server), [(raw.peer, Misbehaviour::NotItsProvider)]);
}

/// Whoever has an older value of another peer can send it again: it is refused, which is no misbehaviour, and readers
/// get the newer one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_value_sent_again() {
    let keypair = Keypair::generate_ed25519();
    let signed = |sequence, text: &'static str| Signed::new(text).with_sequence(sequence).sign(&keypair).unwrap();
    let ((key, older), (_, newer)) = (signed(1, "older"), signed(2, "newer"));
    let config = || {
        kad::Config::new(PROTOCOL).with_validator(Arc::new(Namespaced::new().with("signed", Arc::new(SignedValues))))
    };
    let server = node(config()).await;
    let raw = Raw::mute().await;
    assert!(raw.reaches(server.peer, vec![server.addr.clone()]).await);
    let put = |value: &Bytes| Request::PutValue { value: Value::new(key.clone(), value.clone()) };
    assert_eq!(answered(&raw, &server, &[put(&older), put(&newer), put(&older)]).await, [true, true, false]);
    let reader = node(config()).await;
    reader.learns(&server).await;
    let found = soon(reader.dht.get(key.clone())).await.unwrap();
    assert_eq!((found.record.value, found.from), (newer, Some(server.peer)));
    assert_eq!(misbehaviours(&server), []);
}
