//! The invariants of the engine, with everything happening together, and the warm start compared with a network grown
//! by joins.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::{
    Adversary, Attack, Churn, Directory, Latency, Link, Network, NetworkEvent, Node, NodeIndex, Random, Sessions,
    SortedPeers, StockNode, StockRules, TableHealth, TableModel, Traffic,
};
use libp2p_kad_dht::core::{Answer, ClosestPeers, DhtConfig, Operation, QueryEvent, QueryOptions};

const MINUTE: u64 = 60_000_000;

/// A network of all kinds of nodes on bad links, that is partitioned and healed, for half an hour.
fn storm(seed: u64) -> (Traffic, Vec<u64>) {
    let directory = Directory::new(seed, 120);
    let everyone = Arc::new(directory.sorted(0..120));
    let none_dead = SortedPeers::default();
    let link = Link { loss: 0.02, reliable: false, jitter: 0.5, ..Link::public(Latency::KingLn) };
    let mut network = Network::new(seed, directory, link);
    let config = Arc::new(DhtConfig::default());
    for index in 0..100 {
        let mut random = Random::new(seed, "table", index.into());
        let model = TableModel::plain(20);
        let node = match index {
            0..60 => {
                let known = model.candidates(&network.directory, (&everyone, &none_dead), index, &mut random);
                Node::ours(&network.directory, 0, index, &config, &known)
            }
            60..85 => {
                let rules = if index % 2 == 0 { StockRules::AMINO } else { StockRules::LIBP2P_KAD };
                let table = model.table(&network.directory, (&everyone, &none_dead), index, &mut random);
                Node::Stock(Box::new(StockNode::new(index, rules, table)))
            }
            _ => {
                let kinds = [Attack::Silent, Attack::Misrouting, Attack::Sybil, Attack::FalseProvider];
                let kind = kinds[index as usize % kinds.len()];
                Node::Adversary(Box::new(Adversary::new(kind, Arc::clone(&everyone), Arc::clone(&everyone))))
            }
        };
        network.join(index, node);
    }
    let churn = Churn::Poisson(Duration::from_secs(100));
    let mut sessions = Sessions::new(seed, churn, config, vec![0, 1, 2], 0.2);
    sessions.begin(&mut network, 0..60);
    let mut random = Random::new(seed, "storm", 0);
    for minute in 0..30u64 {
        let group = u8::from(minute % 10 == 5);
        (0..60).for_each(|index| network.set_partition(index, group));
        for _ in 0..20 {
            let key = random.bytes().to_vec();
            let operation = match random.below(4) {
                0 => Operation::ClosestPeers { key: Bytes::from(key) },
                1 => Operation::Put { key: key.into(), value: Bytes::from_static(b"value") },
                2 => Operation::Provide { key: key.into() },
                _ => Operation::Get { key: key.into() },
            };
            network.start(random.below(85), operation, QueryOptions::default());
        }
        while let Some(news) = network.next((minute + 1) * MINUTE) {
            if let NetworkEvent::Timer(peer) = news {
                sessions.on_timer(&mut network, peer);
            }
        }
        let traffic = network.traffic();
        assert_eq!(traffic.broken_invariants(), [""; 0], "seed {seed}, minute {minute}: {traffic:?}");
        for index in 0..network.directory.len() as NodeIndex {
            assert!(
                !network.node(index).table_entries(&network.directory).contains(&index),
                "seed {seed}: {index} holds itself"
            );
        }
    }
    let bytes = (0..100).map(|index| network.bytes_of(index)).collect();
    (network.traffic(), bytes)
}

#[test]
fn laws_hold_in_a_storm_and_the_same_seed_repeats_it() {
    let outcomes = [storm(1), storm(2)];
    for (traffic, _) in &outcomes {
        assert!(traffic.lost > 100 && traffic.dials_failed > 10 && traffic.cancelled > 100, "{traffic:?}");
        assert!(traffic.abandoned > 0 && traffic.queries_abandoned > 0 && traffic.finished > 300, "{traffic:?}");
    }
    assert_eq!(storm(1), outcomes[0]);
    assert_ne!(outcomes[0], outcomes[1]);
}

fn lookups(network: &mut Network, seed: u64, n: u32) -> (f64, f64) {
    let mut random = Random::new(seed, "lookups", 0);
    let (mut requests, mut longest) = (0.0, 0.0);
    for _ in 0..100 {
        let key = Bytes::copy_from_slice(&random.bytes());
        network.start(random.below(n), Operation::ClosestPeers { key }, QueryOptions::default());
        let until = network.now() + MINUTE;
        while let Some(news) = network.next(until) {
            if let NetworkEvent::Query { event: QueryEvent::Finished(result), rounds, .. } = news {
                longest += f64::from(rounds);
                if let Ok(Answer::ClosestPeers(ClosestPeers { report, .. })) = *result {
                    requests += report.requests as f64;
                }
                break;
            }
        }
    }
    (requests / 100.0, longest / 100.0)
}

/// The warm start is a shortcut, not another network: tables and lookups are those of a network that grew by joins.
#[test]
fn a_warm_start_matches_a_network_grown_by_joins() {
    let (seed, n) = (5, 1_000);
    let mut config = DhtConfig::default();
    config.maintenance.refresh_interval = None;
    config.maintenance.check_interval = None;
    let config = Arc::new(config);
    let link = Link::public(Latency::Constant(20_000));

    let mut grown = Network::new(seed, Directory::new(seed, n), link);
    let mut sessions = Sessions::new(seed, Churn::None, Arc::clone(&config), (0..10).collect(), 0.0);
    for index in 0..n as NodeIndex {
        sessions.join(&mut grown, index);
        let until = grown.now() + 1_000_000;
        while grown.next(until).is_some() {}
    }
    // Wait until all queries have ended and connections without traffic are closed: the warm network has none either.
    let quiet = grown.now() + 5 * MINUTE;
    while grown.next(quiet).is_some() {}
    assert_eq!(grown.traffic().running, 0);

    let directory = Directory::new(seed, n);
    let everyone = directory.sorted(0..n as NodeIndex);
    let mut warm = Network::new(seed, directory, link);
    for index in 0..n as NodeIndex {
        let mut random = Random::new(seed, "table", index.into());
        let peers = (&everyone, &SortedPeers::default());
        let known = TableModel::plain(20).candidates(&warm.directory, peers, index, &mut random);
        let node = Node::ours(&warm.directory, 0, index, &config, &known);
        warm.join(index, node);
    }
    let health = |network: &Network| TableHealth::of(network, (0..n as NodeIndex).step_by(10));
    let (grown_health, warm_health) = (health(&grown), health(&warm));
    let near = |a: f64, b: f64, share: f64| (a - b).abs() <= share * b;
    assert!(near(grown_health.entries, warm_health.entries, 0.05), "{grown_health:?} {warm_health:?}");
    assert!(near(grown_health.know20, warm_health.know20, 0.05), "{grown_health:?} {warm_health:?}");
    let (grown_cost, warm_cost) = (lookups(&mut grown, 9, n as u32), lookups(&mut warm, 9, n as u32));
    assert!(near(grown_cost.0, warm_cost.0, 0.1), "{grown_cost:?} {warm_cost:?}");
    assert!(near(grown_cost.1, warm_cost.1, 0.1), "{grown_cost:?} {warm_cost:?}");
}
