//! The node's own network is out for a while: that is nobody's fault, and over when it is over.

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
    /// An answer comes this soon after the outage, at the latest.
    within: Duration,
}

impl Outage {
    /// As many seconds as `OUTAGE_SECS` says, to a node that is configured by default. Without it five seconds that are
    /// to a node what some minutes are to others: its intervals and its back-off are shortened.
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

/// Lookups and refreshes fail all the time; nobody is forgotten, and when the way is open again the first lookup that
/// begins after the shortest back-off is answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_costs_no_entry_and_is_over_when_it_is_over() {
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

/// So many peers in the node's table, each to be reached through a proxy of its own.
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

/// Looks for something as long as the outage lasts; how often.
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
