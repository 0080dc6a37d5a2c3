//! A client far from its servers that starts a thousand operations at once: all of them succeed, and take no longer
//! than with `libp2p-kad`.
//!
//! `FAR=1000 cargo test --release --all-features --test interop far -- --nocapture` is the size of the figures in
//! `docs/results.md`.

use std::num::NonZeroUsize;
use std::time::Duration;

use libp2p::swarm::SwarmEvent;
use libp2p_kad as theirs_kad;
use libp2p_kad_dht as kad;

use super::live::{Ours, PROTOCOL, soon, until};
use super::proxy::Proxy;
use super::theirs::{self, Theirs};
use tokio::time::Instant;

/// Half of the round trip.
const ONE_WAY: Duration = Duration::from_millis(50);
/// The factor by which it may be slower.
const MOST: f64 = 1.3;

fn count() -> usize {
    std::env::var("FAR").map_or(100, |count| count.parse().unwrap())
}

/// The keys of puts, and those of gets, whose values other nodes have put.
fn key(puts: bool, i: usize) -> Vec<u8> {
    format!("/{}/{i}", if puts { "put" } else { "get" }).into_bytes()
}

/// Number of parallel operations that succeed, and the time of all of them.
async fn ours(client: &Ours, puts: bool) -> (usize, Duration) {
    let begin = Instant::now();
    let ended = (0..count()).map(async |i| match puts {
        true => client.dht.put(key(puts, i), b"value").await.map(|_| ()),
        false => client.dht.get(key(puts, i)).await.map(|_| ()),
    });
    let ended = futures::future::join_all(ended).await;
    let failure = ended.iter().find_map(|end| end.as_ref().err());
    assert!(failure.is_none(), "{failure:?}");
    (ended.iter().filter(|end| end.is_ok()).count(), begin.elapsed())
}

async fn by_theirs(client: &Theirs, puts: bool) -> (usize, Duration) {
    let begin = Instant::now();
    let queries = client.act(move |swarm| {
        let kad = &mut swarm.behaviour_mut().kad;
        for i in 0..count() {
            match puts {
                true => {
                    let record = theirs_kad::Record::new(key(puts, i), b"value".to_vec());
                    kad.put_record(record, theirs_kad::Quorum::One).unwrap();
                }
                false => _ = kad.get_record(theirs_kad::RecordKey::new(&key(puts, i))),
            }
        }
    });
    queries.await;
    let ends = || {
        client.seen(|event| match event {
            SwarmEvent::Behaviour(theirs::AppEvent::Kad(theirs_kad::Event::OutboundQueryProgressed {
                result,
                step,
                ..
            })) => match result {
                theirs_kad::QueryResult::PutRecord(end) if puts => Some((end.is_ok(), step.last)),
                theirs_kad::QueryResult::GetRecord(end) if !puts => {
                    Some((matches!(end, Ok(theirs_kad::GetRecordOk::FoundRecord(_))), step.last || end.is_err()))
                }
                _ => None,
            },
            _ => None,
        })
    };
    until("the ends of all queries of libp2p-kad", async || {
        (ends().iter().filter(|(_, last)| *last).count() >= count()).then_some(())
    })
    .await;
    (ends().iter().filter(|(ok, _)| *ok).count().min(count()), begin.elapsed())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn far_from_its_servers_a_client_succeeds_with_all_at_once() {
    let mut servers = vec![];
    for _ in 0..3 {
        let config = kad::Config::new(PROTOCOL).with_mode(Some(kad::Mode::Server));
        servers.push(Ours::with(config, true, Duration::from_secs(600)).await);
    }
    for (i, server) in servers.iter().enumerate() {
        server.learns(&servers[(i + 1) % 3]).await;
        soon(server.dht.bootstrap()).await.unwrap();
    }
    let mut proxies = vec![];
    for server in &servers {
        proxies.push(Proxy::delayed(&server.addr, ONE_WAY).await);
    }
    let values = (0..count()).map(|i| servers[0].dht.put(key(false, i), b"value").into_future());
    assert!(soon(futures::future::join_all(values)).await.iter().all(Result::is_ok));
    let config = kad::Config::new(PROTOCOL).with_mode(Some(kad::Mode::Client));
    let client = Ours::with(config, true, Duration::from_secs(600)).await;
    let other = theirs::start(NonZeroUsize::new(20).unwrap()).await;
    other.act(|swarm| swarm.behaviour_mut().kad.set_mode(Some(theirs_kad::Mode::Client))).await;
    for (server, proxy) in servers.iter().zip(&proxies) {
        client.dht.add_peer(server.peer, [proxy.addr.clone()]);
        other.add_peer(server.peer, vec![proxy.addr.clone()]).await;
    }
    until("it knows all servers", async || (client.table().await.len() == 3).then_some(())).await;

    for (what, puts) in [("gets", false), ("puts", true)] {
        // Theirs first, while its connections are open: on those that idled out it sends nothing, and reports success.
        other.bootstrap().await.unwrap();
        let (their_ok, theirs) = by_theirs(&other, puts).await;
        let (ok, took) = ours(&client, puts).await;
        println!("{what}: {ok} of {} in {took:?}; libp2p-kad {their_ok} in {theirs:?}", count());
        assert_eq!(ok, count(), "{what}");
        assert!(took <= theirs.mul_f64(MOST), "{what}: {took:?}, libp2p-kad {theirs:?}");
    }
}
