//! Nodes that rejoin from the peers that their store saved.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use libp2p_identity::PeerId;

use super::Network;
use super::network::peer;
use crate::core::contact::Contact;
use crate::core::io::{Event, Wake};
use crate::core::key::Key;
use crate::core::record::RecordKey;
use crate::core::store::{Done, Op, OpOutput, Ticket, Usage};
use crate::core::{Dht, DhtConfig, MemoryStore, MemoryStoreConfig, Store, StoreError, Timestamp};

type Peers = Vec<Arc<Contact>>;

/// A store that keeps peers after the process has ended.
struct Lasting {
    inner: MemoryStore,
    saved: Peers,
    saves: SyncSender<Peers>,
}

fn lasting(saved: Peers) -> (Box<dyn Store>, Receiver<Peers>) {
    let (saves, seen) = sync_channel(1_000);
    let inner = MemoryStore::new(MemoryStoreConfig::default(), [7; 32]);
    (Box::new(Lasting { inner, saved, saves }), seen)
}

impl Store for Lasting {
    fn run(&mut self, now: Timestamp, ticket: Ticket, op: Op) -> Option<Done> {
        Some(match op {
            Op::SavePeers(peers) => match self.saves.try_send(peers) {
                Ok(()) => Ok(OpOutput::Nothing),
                Err(_) => Err(StoreError::Failed),
            },
            Op::SavedPeers => Ok(OpOutput::Peers(self.saved.clone())),
            op => return self.inner.run(now, ticket, op),
        })
    }

    fn keeps_peers(&self) -> bool {
        true
    }

    fn next_expiry(&self) -> Option<Timestamp> {
        self.inner.next_expiry()
    }

    fn usage(&self) -> Usage {
        self.inner.usage()
    }
}

/// Replaces a node, as after a restart of its process.
fn restart(network: &mut Network, i: usize, store: Box<dyn Store>, config: DhtConfig) {
    let local = network.contact(i);
    network.nodes[i] = Dht::new(network.now, local, store, [98; 32], Arc::new(config)).unwrap();
}

fn table(network: &Network, i: usize) -> Vec<PeerId> {
    network.nodes[i].routing_snapshot().entries().map(|entry| entry.peer).collect()
}

#[test]
fn the_table_is_saved_soon_after_a_change_and_a_restart_rejoins_without_the_boot_nodes() {
    const NODES: usize = 40;
    let mut network = Network::joined(NODES, DhtConfig::default());
    let (store, saves) = lasting(Vec::new());
    restart(&mut network, 7, store, DhtConfig::default());
    let boot = network.contact(0);
    network.input(7, crate::core::Input::AddPeer(boot));
    network.run(7, crate::core::Operation::Bootstrap).unwrap();
    network.advance(Duration::from_secs(10));
    let saved = saves.try_iter().last().expect("kept within seconds of the join");
    let mut known = table(&network, 7);
    let mut kept: Vec<_> = saved.iter().map(|contact| *contact.peer()).collect();
    known.sort_unstable();
    kept.sort_unstable();
    assert_eq!(kept, known);

    // The boot node and half of all others are gone for good when it comes back.
    network.dead.extend((0..NODES).filter(|i| *i == 0 || (i % 2 == 0)));
    let (store, _saves) = lasting(saved);
    restart(&mut network, 7, store, DhtConfig::default());
    assert_eq!(table(&network, 7), [], "no peer is trusted before it answered");
    network.advance(Duration::from_secs(5));
    let live: Vec<_> = (0..NODES).filter(|i| i % 2 == 1 && *i != 7).map(peer).collect();
    let known = table(&network, 7);
    assert!(known.iter().all(|peer| live.contains(peer)), "the dead did not come back: {known:?}");
    assert!(known.len() >= live.len() - 1, "{} of {} within seconds", known.len(), live.len());

    // Later lookups do not try the dead peers again.
    network.advance(Duration::from_secs(2 * 3600));
    let failed = |network: &Network| network.nodes[7].stats().failed.iter().sum::<u64>();
    let before = failed(&network);
    for n in 0..20_u8 {
        let found = network.run(7, crate::core::Operation::ClosestPeers { key: vec![n].into() });
        assert!(found.is_ok(), "{found:?}");
    }
    assert_eq!(failed(&network) - before, 0, "requests to peers that left two hours ago");
}

#[test]
fn a_table_that_does_not_change_is_not_saved_again() {
    let mut network = Network::joined(10, DhtConfig::default());
    let (store, saves) = lasting(Vec::new());
    restart(&mut network, 7, store, DhtConfig::default());
    let boot = network.contact(0);
    network.input(7, crate::core::Input::AddPeer(boot));
    network.run(7, crate::core::Operation::Bootstrap).unwrap();
    network.advance(Duration::from_secs(10));
    let before = saves.try_iter().count();
    assert!(before > 0);
    network.advance(Duration::from_secs(3_600));
    assert_eq!(saves.try_iter().count(), 0);
}

#[test]
fn saved_peers_that_are_all_gone_are_tried_less_and_less_often() {
    let mut network = Network::new(6, DhtConfig::default());
    let saved: Peers = (1..6).map(|i| network.contact(i)).collect();
    network.dead.extend(1..6);
    let (store, _saves) = lasting(saved);
    restart(&mut network, 0, store, DhtConfig::default());
    network.advance(Duration::from_secs(60));
    assert_eq!(table(&network, 0), []);
    let sent = network.sent;
    assert!(sent <= 5 * 6, "{sent} requests in a minute");
    // One comes back: the node finds it by itself.
    network.dead.remove(&3);
    network.advance(Duration::from_secs(120));
    assert_eq!(table(&network, 0), [peer(3)]);
}

#[test]
fn a_store_in_memory_never_wakes_the_node_for_it() {
    let mut network = Network::joined(5, DhtConfig::default());
    // The first node was not asked to join, and does so by itself.
    network.advance(Duration::from_secs(20));
    let now = network.now;
    for node in &network.nodes {
        if let Some((at, Wake::Maintenance)) = node.next_wake() {
            assert!(at > now + Duration::from_secs(60), "that is the refresh");
        }
    }
    assert!(network.events.iter().any(|(_, event)| matches!(event, Event::RoutingChanged { present: true, .. })));
}

/// For an application that saves the table itself.
#[cfg(feature = "serde")]
#[test]
fn a_restored_table_is_tried_and_not_trusted() {
    const NODES: usize = 20;
    let mut network = Network::joined(NODES, DhtConfig::default());
    let kept = network.nodes[7].routing_snapshot();
    let text = serde_json::to_string(&kept).unwrap();
    assert!(text.starts_with(&format!("{{\"version\":1,\"local\":\"{}\"", peer(7))), "{text}");
    assert!(text.contains("\"addrs\":[\"/memory/1\"]") && text.contains("\"rtt\":100000"), "{text}");
    let read: crate::core::RoutingSnapshot = serde_json::from_str(&text).unwrap();
    assert_eq!(read, kept);

    network.dead.extend([0, 3, 5]);
    let memory = || Box::new(MemoryStore::new(MemoryStoreConfig::default(), [7; 32]));
    restart(&mut network, 7, memory(), DhtConfig::default());
    let now = network.now;
    assert_eq!(network.nodes[7].restore(now, &read), kept.entries().count());
    assert_eq!(table(&network, 7), [], "no peer is trusted before it answered");
    network.input(7, crate::core::Input::Timeout);
    network.advance(Duration::from_secs(5));
    let known = table(&network, 7);
    let dead = [0, 3, 5].map(peer);
    assert!(!known.iter().any(|peer| dead.contains(peer)), "the dead did not come back: {known:?}");
    let missing: Vec<_> = kept.entries().map(|entry| entry.peer).filter(|peer| !known.contains(peer)).collect();
    assert!(kept.entries().count() > 10 && missing.iter().all(|peer| dead.contains(peer)), "{missing:?} do not");

    let hostile = text.replace("\"failures\":0", "\"failures\":2");
    restart(&mut network, 7, memory(), DhtConfig::default());
    assert_eq!(
        network.nodes[7].restore(now, &serde_json::from_str(&hostile).unwrap()),
        0,
        "a peer that failed is left out"
    );
}

#[cfg(feature = "serde")]
#[test]
fn a_table_in_another_form_is_refused_with_the_reason() {
    let network = Network::joined(5, DhtConfig::default());
    let text = serde_json::to_string(&network.nodes[2].routing_snapshot()).unwrap();
    let fault = |text: &str| serde_json::from_str::<crate::core::RoutingSnapshot>(text).unwrap_err().to_string();
    let newer = fault(&text.replacen("\"version\":1", "\"version\":2,\"seats\":[]", 1));
    assert!(newer.contains("version 2 is unknown: this crate reads version 1"), "{newer}");
    assert!(fault(&text.replacen("\"version\":1,", "", 1)).contains("missing field `version`"));
    assert!(fault(&text.replacen("/memory/1", "memory", 1)).contains("not a multiaddress"));
    let id = peer(0).to_string();
    assert!(fault(&text.replacen(&id, "Q", 1)).contains("not a peer id"));
    let added = text.replacen("\"failures\":", "\"added_later\":[1],\"failures\":", 1);
    assert!(serde_json::from_str::<crate::core::RoutingSnapshot>(&added).is_ok(), "a version only grows");
}

#[cfg(feature = "serde")]
#[test]
fn queries_counters_and_keys_can_be_written_and_read() {
    fn round<T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug>(of: &T) -> String {
        let text = serde_json::to_string(of).unwrap();
        assert_eq!(serde_json::from_str::<T>(&text).unwrap(), *of);
        text
    }
    let mut network = Network::joined(5, DhtConfig::default());
    let get = crate::core::Operation::Get { key: RecordKey::from("/app/x") };
    network.start(1, get, crate::core::QueryOptions::default());
    let queries = round(&network.nodes[1].query_snapshots());
    assert!(queries.contains("\"kind\":\"get\""), "{queries}");
    let stats = round(network.nodes[1].stats());
    assert!(stats.contains("\"kind\":\"bootstrap\",\"end\":\"succeeded\""), "{stats}");
    let sent = network.nodes[1].stats().sent[crate::core::Kind::FindNode as usize];
    assert!(sent > 0 && stats.contains(&format!("\"find_node\":{sent},\"ping\":0}},\"answered\":{{")), "{stats}");
    assert!(stats.contains("\"failures\":{\"unreachable\":0,"), "{stats}");
    assert!(stats.contains("\"round_trips\":[{\"kind\":\"find_node\""), "{stats}");
    let read: crate::core::Stats = serde_json::from_str("{\"sent\":{\"ping\":3,\"new\":1},\"table\":2}").unwrap();
    assert_eq!((read.sent, read.answered, read.table), ([0, 0, 0, 0, 0, 3], [0; 6], 2));
    let mut driver = crate::core::stats::DriverStats::default();
    driver.dials_failed[1] = 7;
    assert!(round(&driver).contains("\"unreachable\":7"));
    assert_eq!(round(&Timestamp::from_secs(1)), "1000000");
    let key = round(&Key::hash(b""));
    assert_eq!(key, "\"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"");
    assert!(
        serde_json::from_str::<Key>("\"e3b0\"").is_err()
            && serde_json::from_str::<Key>(&key.replace('e', "g")).is_err()
    );
}
