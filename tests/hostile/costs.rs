//! What peers can make a node hold: the bytes of its process, while another peer is served.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::AsyncWriteExt as _;
use futures::future::join_all;
use libp2p::swarm::Stream;
use libp2p_kad_dht::core::{Contact, Kind, Request, Response, Value};
use libp2p_kad_dht::{RecordKey, wire};
use tokio::task::JoinHandle;

use crate::live::{Node, Raw, read, soon, until, write};
use crate::process::{KEPT, Server};
use crate::rules::request;

const MIB: usize = 1024 * 1024;
/// The streams that a node accepts on a connection.
const STREAMS: usize = 32;
/// The most that unfinished requests take: the budget of all connections, and a third for what buffers take beyond
/// their content and for what is on its way.
const HELD: usize = 16 * MIB / 3 * 4;

fn find_node() -> Bytes {
    request(&Request::FindNode { key: b"key".as_slice().into() })
}

/// Connections with this many streams each.
async fn streams(server: &Server, connections: usize, each: usize) -> (Vec<Node<Raw>>, Vec<Stream>) {
    let callers = join_all((0..connections).map(|_| server.caller())).await;
    let mut streams = Vec::new();
    for caller in &callers {
        for _ in 0..each {
            streams.push(caller.open(server.peer).await.unwrap());
        }
    }
    (callers, streams)
}

/// Another peer is answered, each time.
async fn is_served(server: &Server) {
    let honest = server.caller().await;
    for _ in 0..20 {
        let mut stream = honest.open(server.peer).await.unwrap();
        assert!(write(&mut stream, &find_node()).await);
        assert!(soon(read(&mut stream)).await.is_some());
    }
}

/// Tasks of attackers, which end when this is dropped.
struct Tasks(Vec<JoinHandle<()>>);

impl Drop for Tasks {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_that_read_no_answer() {
    let mut server = Server::start().await;
    let value = Value::new("/test/long", vec![7; 10_000]);
    let author = server.caller().await;
    let mut stream = author.open(server.peer).await.unwrap();
    assert!(write(&mut stream, &request(&Request::PutValue { value: value.clone() })).await);
    assert!(soon(read(&mut stream)).await.is_some());
    let (callers, open) = streams(&server, 12, STREAMS).await;
    let base = server.bytes().await;
    let sent = Arc::new(AtomicUsize::new(0));
    let batch = Bytes::from(request(&Request::GetValue { key: value.key }).repeat(100));
    let floods = open.into_iter().map(|mut stream| {
        let (batch, sent) = (batch.clone(), Arc::clone(&sent));
        tokio::spawn(async move {
            while let Ok(1..) = stream.write(&batch).await {
                sent.fetch_add(batch.len(), Ordering::Relaxed);
            }
        })
    });
    let floods = Tasks(floods.collect());
    let most = server.most_above(base, |_| sent.load(Ordering::Relaxed) < 32 * MIB).await;
    is_served(&server).await;
    drop((floods, callers));
    assert!(most <= HELD, "{most}");
}

/// Requests of nearly the maximum length that lack their last bytes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_that_never_finish_a_request() {
    let mut server = Server::start().await;
    let (callers, mut open) = streams(&server, 16, STREAMS).await;
    let base = server.bytes().await;
    let mut part = Vec::new();
    wire::frame::write_prefix(64 * 1024, &mut part);
    part.resize(60_000, 0);
    let _ = join_all(open.iter_mut().map(|stream| write(stream, &part))).await; // some are reset by now
    let most = server.most_above(base, |most| most < HELD / 2).await;
    is_served(&server).await;
    let most = most.max(server.bytes().await.saturating_sub(base));
    drop(callers);
    assert!(most <= HELD, "{most} of {} bytes", 16 * STREAMS * part.len());
}

/// A thousand streams that carried a request and carry no more, on as few connections as that takes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_idle_streams() {
    let mut server = Server::start().await;
    is_served(&server).await;
    let base = server.bytes().await;
    let (callers, mut open) = streams(&server, 1_000 / STREAMS + 1, STREAMS).await;
    for stream in &mut open {
        assert!(write(stream, &find_node()).await);
        assert!(soon(read(stream)).await.is_some());
    }
    let held = server.bytes().await.saturating_sub(base);
    is_served(&server).await;
    println!("{held} bytes for {} streams", open.len());
    assert!(open.len() >= 1_000 && held <= 6 * MIB, "{held}");
    drop((open, callers));
    comes_back(&mut server, base).await;
}

/// Four hundred connections that come and go, with a request in flight on some.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_come_and_go() {
    let mut server = Server::start().await;
    is_served(&server).await;
    let base = server.bytes().await;
    for _ in 0..20 {
        let (callers, mut open) = streams(&server, 20, 1).await;
        assert!(write(&mut open[0], &find_node()).await);
        drop((open, callers));
    }
    is_served(&server).await;
    comes_back(&mut server, base).await;
}

/// A node that may open no more descriptors serves those that are connected, and the others once there are some again.
#[cfg(unix)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_connections_than_descriptors() {
    const LIMIT: usize = 64;
    let server = Server::with_descriptors(LIMIT).await;
    let early = server.caller().await;
    let sockets = join_all((0..2 * LIMIT).map(|_| tokio::net::TcpStream::connect(server.socket()))).await;
    assert!(sockets.iter().all(Result::is_ok), "the system queues them");
    for _ in 0..20 {
        let mut stream = early.open(server.peer).await.unwrap();
        assert!(write(&mut stream, &find_node()).await);
        assert!(soon(read(&mut stream)).await.is_some());
    }
    let late = Raw::mute().await;
    let opts = vec![server.addr.clone()];
    let full = tokio::time::timeout(Duration::from_secs(1), late.reaches(server.peer, opts)).await;
    assert!(full.is_err(), "there is no descriptor for it");
    drop(sockets);
    is_served(&server).await;
}

/// Each of many connections has a request for providers on each of its streams, all the time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_get_providers() {
    let mut server = Server::start().await;
    let key = RecordKey::from("content");
    for n in 0..20 {
        let provider = server.caller().await;
        let addrs =
            (0..8).map(|m| format!("/dns4/{}.example/tcp/{}", "a".repeat(40), 100 * n + m + 1).parse().unwrap());
        let providers = vec![Contact::new(provider.peer, addrs)];
        let mut stream = provider.open(server.peer).await.unwrap();
        assert!(write(&mut stream, &request(&Request::AddProvider { key: key.clone(), providers })).await);
        stream.close().await.unwrap();
        assert_eq!(soon(read(&mut stream)).await, None);
    }
    flood(&mut server, 2_000, move |_| Request::GetProviders { key: key.clone() }).await;
}

/// The same with values, ten times as many as the node keeps: those of another peer stay, which has less than a ninth of
/// the store.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_put_value() {
    let mut server = Server::start().await;
    let honest = server.caller().await;
    let mut stream = honest.open(server.peer).await.unwrap();
    let key = |n| RecordKey::from(format!("/test/honest {n}"));
    for n in 0..KEPT / 10 {
        let value = Value::new(key(n), vec![1; 900]);
        assert!(write(&mut stream, &request(&Request::PutValue { value })).await);
        assert!(soon(read(&mut stream)).await.is_some(), "it is acknowledged");
    }
    flood(&mut server, 10 * KEPT, |n| Request::PutValue { value: Value::new(format!("/test/{n}"), vec![2; 900]) })
        .await;
    for n in 0..KEPT / 10 {
        assert!(write(&mut stream, &request(&Request::GetValue { key: key(n) })).await);
        match wire::decode_response(Kind::GetValue, soon(read(&mut stream)).await.unwrap()) {
            Ok(Response::GetValue { value: Some(_), .. }) => {}
            other => panic!("{n}: {other:?}"),
        }
    }
}

/// Eight connections ask on 32 streams each, one request after another, until `total` have ended. Meanwhile another peer
/// is served, and the node holds little.
async fn flood(server: &mut Server, total: usize, ask: impl Fn(usize) -> Request + Send + Sync + 'static) {
    let base = server.bytes().await;
    let ended = Arc::new(AtomicUsize::new(0));
    let _floods = floods(server, 8, &ended, ask).await;
    is_served(server).await;
    let most = server.most_above(base, |_| ended.load(Ordering::Relaxed) < total).await;
    println!("{most} bytes");
    assert!(most <= 8 * MIB, "{most}");
}

/// Connections that ask on 32 streams each, one request after another, and count those that have ended.
async fn floods(
    server: &Server,
    connections: usize,
    ended: &Arc<AtomicUsize>,
    ask: impl Fn(usize) -> Request + Send + Sync + 'static,
) -> Tasks {
    let (sent, mut floods) = (AtomicUsize::new(0), Tasks(Vec::new()));
    let ask = Arc::new(move || request(&ask(sent.fetch_add(1, Ordering::Relaxed))));
    for _ in 0..connections {
        let caller = Arc::new(server.caller().await);
        for _ in 0..STREAMS {
            let (caller, peer, ask, ended) = (Arc::clone(&caller), server.peer, Arc::clone(&ask), Arc::clone(ended));
            floods.0.push(tokio::spawn(async move {
                // A refused request resets its stream.
                while let Some(mut stream) = caller.open(peer).await {
                    while write(&mut stream, &ask()).await && read(&mut stream).await.is_some() {
                        ended.fetch_add(1, Ordering::Relaxed);
                    }
                    ended.fetch_add(1, Ordering::Relaxed);
                }
            }));
        }
    }
    floods
}

/// A peer that asks now and then waits for few of the requests that others have waiting, and not for all of them. The
/// measure is how many of those are answered meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_asks_seldom_comes_before_those_that_ask_all_the_time() {
    const CONNECTIONS: usize = 20;
    let server = Server::start().await;
    let ended = Arc::new(AtomicUsize::new(0));
    let find = || Request::FindNode { key: b"key".as_slice().into() };
    let _floods = floods(&server, CONNECTIONS, &ended, move |_| find()).await;
    let meanwhile = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let honest = server.caller().await;
            let mut stream = honest.open(server.peer).await.unwrap();
            let mut meanwhile = Vec::new();
            for _ in 0..100 {
                let before = ended.load(Ordering::Relaxed);
                assert!(write(&mut stream, &find_node()).await);
                assert!(soon(read(&mut stream)).await.is_some());
                meanwhile.push(ended.load(Ordering::Relaxed) - before);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            meanwhile.sort();
            meanwhile[meanwhile.len() / 2]
        })
    });
    let meanwhile = meanwhile.await.unwrap();
    println!("{meanwhile} requests of {} that wait", CONNECTIONS * STREAMS);
    assert!(meanwhile <= CONNECTIONS * STREAMS / 4, "{meanwhile}");
}

/// What ended peers made the node hold is freed.
async fn comes_back(server: &mut Server, base: usize) {
    until("it is freed", async || (server.bytes().await <= base + MIB / 4).then_some(())).await;
}
