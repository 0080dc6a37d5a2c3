//! The node's own network fails for a while: no peer loses its entry, and lookups succeed as soon as the network works.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::future::join_all;
use libp2p_kad_dht as kad;
use libp2p_kad_dht::QueryError;
use tokio::time::Instant;

use crate::dead::lost;
use crate::live::{Ours, PROTOCOL, soon, until};
use crate::proxy::Proxy;
use crate::rules::{brief, node};

struct Outage {
    length: Duration,
    config: kad::Config,
    /// Between two lookups.
    pause: Duration,
    /// Time limit for an answer after the outage.
    within: Duration,
}

impl Outage {
    /// An outage of `OUTAGE_SECS` seconds for a node with the default configuration. Without that variable five
    /// seconds, for a node with shorter intervals and back-off.
    fn from_env() -> Outage {
        if let Ok(seconds) = std::env::var("OUTAGE_SECS") {
            return Outage {
                length: Duration::from_secs(seconds.parse().unwrap()),
                config: kad::Config::new(PROTOCOL),
                pause: Duration::from_secs(1),
                within: Duration::from_secs(5),
            };
        }
        let base = Duration::from_millis(250);
        let mut core = brief().core().clone();
        assert!(core.back_off.base <= Duration::from_secs(5));
        core.back_off.base = base;
        core.maintenance.refresh_interval = Some(Duration::from_millis(500));
        let config = brief().with_core(core);
        let pause = Duration::from_millis(20);
        Outage { length: 20 * base, config, pause, within: base + Duration::from_millis(500) }
    }
}

/// Lookups and refreshes fail all the time, but no peer is forgotten. The first lookup that begins after the shortest
/// back-off succeeds once the network works again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_costs_no_entry_and_lookups_succeed_after_it() {
    let outage = Outage::from_env();
    let alice = node(outage.config.clone()).await;
    let others = behind_proxies(&alice, 6).await;
    let before: BTreeSet<_> = alice.table().await.into_iter().collect();
    assert_eq!(before.len(), 6);
    others.iter().for_each(|(_, proxy)| proxy.cut());
    join_all(others.iter().map(|(other, _)| lost(&alice, other.peer))).await;
    let lookups = look_in_vain(&alice, &outage).await;
    assert_eq!(alice.table().await.into_iter().collect::<BTreeSet<_>>(), before);
    others.iter().for_each(|(_, proxy)| proxy.open());
    let open = Instant::now();
    until("a lookup is answered", async || soon(alice.dht.closest_peers(b"point")).await.ok()).await;
    let took = open.elapsed();
    println!("{lookups} lookups failed in {:?}; the first was answered {took:?} after the outage", outage.length);
    assert!(took < outage.within, "{took:?}");
    until("all answer again", async || {
        let found = soon(alice.dht.closest_peers(b"point")).await.ok()?;
        (found.peers.len() == 6).then_some(())
    })
    .await;
    assert_eq!(alice.table().await.into_iter().collect::<BTreeSet<_>>(), before);
}

/// Peers in the node's table, each reachable through a proxy of its own.
async fn behind_proxies(alice: &Ours, count: usize) -> Vec<(Ours, Proxy)> {
    let mut others = Vec::new();
    for _ in 0..count {
        let other = node(brief()).await;
        let proxy = Proxy::to(&other.addr).await;
        alice.dht.add_peer(other.peer, [proxy.addr.clone()]);
        until("it is in the table", async || alice.table().await.contains(&other.peer).then_some(())).await;
        others.push((other, proxy));
    }
    others
}

/// Starts lookups for as long as the outage lasts. Returns their number.
async fn look_in_vain(alice: &Ours, outage: &Outage) -> u32 {
    let (began, mut lookups) = (Instant::now(), 0);
    while began.elapsed() < outage.length {
        let found = soon(alice.dht.closest_peers(format!("point {lookups}"))).await;
        assert!(matches!(found, Err(QueryError::NoAnswer(_) | QueryError::NoPeers)), "{found:?}");
        lookups += 1;
        tokio::time::sleep(outage.pause).await;
    }
    assert!(lookups > 20, "{lookups}");
    lookups
}
