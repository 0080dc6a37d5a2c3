//! Raw peers with a rule for each request.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use futures::AsyncWriteExt as _;
use libp2p::PeerId;
use libp2p::swarm::Stream;
use libp2p_kad_dht as kad;
use libp2p_kad_dht::core::{Contact, Kind, Request, Response};
use libp2p_kad_dht::wire;
use tokio::sync::watch;

use crate::live::{Node, Ours, PROTOCOL, Raw, read, soon, write};

/// The reaction of a raw peer to a request.
pub(crate) enum Do {
    Answer(Response),
    /// The same once the gate is open.
    AnswerLater(Response, watch::Receiver<bool>),
    /// Writes these bytes and closes its side.
    Close(Vec<u8>),
    Nothing,
}

/// A raw peer that follows a rule.
pub(crate) async fn peer(rule: impl Fn(Request) -> Do + Send + Sync + 'static) -> Node<Raw> {
    peer_at("127.0.0.1", rule).await
}

/// The same at this IPv4 address.
pub(crate) async fn peer_at(ip: &str, rule: impl Fn(Request) -> Do + Send + Sync + 'static) -> Node<Raw> {
    let rule = Arc::new(rule);
    Raw::start_at(ip, move |stream| serve(stream, Arc::clone(&rule))).await
}

async fn serve(mut stream: Stream, rule: Arc<impl Fn(Request) -> Do>) {
    while let Some(message) = read(&mut stream).await {
        let Ok(request) = wire::decode_request(None, message) else { return };
        match rule(request) {
            Do::Answer(response) => {
                write(&mut stream, &bytes(&response)).await;
            }
            Do::AnswerLater(response, mut gate) => {
                let _ = gate.wait_for(|open| *open).await;
                write(&mut stream, &bytes(&response)).await;
            }
            Do::Close(bytes) => {
                write(&mut stream, &bytes).await;
                let _ = stream.close().await;
            }
            Do::Nothing => {}
        }
    }
}

/// The bytes of a request, behind its length.
pub(crate) fn request(request: &Request) -> bytes::Bytes {
    wire::encode_request(request, wire::MAX_OUT).unwrap()
}

fn bytes(response: &Response) -> bytes::Bytes {
    wire::encode_response(response, wire::MAX_IN).unwrap()
}

/// The honest answer of a peer that knows no peer and stores nothing, but acknowledges every store.
pub(crate) fn honest(request: Request) -> Do {
    Do::Answer(match request {
        Request::Ping => Response::Ping,
        Request::FindNode { .. } => Response::FindNode { closer: vec![] },
        Request::GetValue { key } => Response::GetValue { key, value: None, closer: vec![] },
        Request::PutValue { value } => Response::PutValue { value },
        Request::GetProviders { key } => Response::GetProviders { key, providers: vec![], closer: vec![] },
        _ => return Do::Nothing,
    })
}

/// The configuration of a node that gives up on a request after 2 s, so that a test of it is short.
pub(crate) fn brief() -> kad::Config {
    let mut core = kad::core::DhtConfig::default();
    core.lookup.request_timeout = Duration::from_secs(2);
    kad::Config::new(PROTOCOL).with_core(core)
}

/// A node without identify: it knows only the peers that the test adds.
pub(crate) async fn node(config: kad::Config) -> Ours {
    Ours::with(config, false, Duration::from_secs(10)).await
}

/// The peers that a node returns to a stranger's FIND_NODE for `key`.
pub(crate) async fn named_by(node: &Ours, key: &'static [u8]) -> Vec<PeerId> {
    let stranger = Raw::mute().await;
    assert!(stranger.reaches(node.peer, vec![node.addr.clone()]).await);
    let mut stream = stranger.open(node.peer).await.unwrap();
    assert!(write(&mut stream, &request(&Request::FindNode { key: key.into() })).await);
    let answer = soon(read(&mut stream)).await.unwrap();
    match wire::decode_response(Kind::FindNode, answer) {
        Ok(Response::FindNode { closer }) => closer.iter().map(|contact| *contact.peer()).collect(),
        other => panic!("{other:?}"),
    }
}

/// The provider records of `key` at a node, as a new client sees them that knows only this node.
pub(crate) async fn provided_at(node: &Ours, key: &[u8]) -> Vec<Arc<Contact>> {
    let client = self::node(kad::Config::new(PROTOCOL).with_mode(Some(kad::Mode::Client))).await;
    client.learns(node).await;
    let limit = NonZeroUsize::new(10).unwrap();
    let mut found = Vec::new();
    let mut providers = client.dht.providers(key).limit(limit);
    while let Some(provider) = soon(futures::StreamExt::next(&mut providers)).await {
        found.push(Contact::new(provider.id, provider.addrs));
    }
    found
}
