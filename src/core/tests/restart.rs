//! A node that comes back, from the peers that its store kept.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use libp2p_identity::PeerId;

use super::Network;
use super::network::peer;
use crate::core::contact::Contact;
use crate::core::io::{Event, Wake};
use crate::core::key::Key;
use crate::core::record::{ProviderRecord, Record, RecordKey};
use crate::core::store::{Item, Read, Scan, Usage, Write};
use crate::core::{Config, Dht, MemoryStore, MemoryStoreConfig, Store, StoreError, Timestamp};

type Peers = Vec<Arc<Contact>>;

/// A store that outlives the process, as far as peers go.
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
    fn get(&mut self, now: Timestamp, key: &RecordKey) -> Result<Read<Option<Record>>, StoreError> {
        self.inner.get(now, key)
    }

    fn put(&mut self, now: Timestamp, record: Record) -> Result<Write, StoreError> {
        self.inner.put(now, record)
    }

    fn remove(&mut self, key: &RecordKey) -> Result<Write, StoreError> {
        self.inner.remove(key)
    }

    fn providers(&mut self, now: Timestamp, key: &RecordKey) -> Result<Read<Vec<ProviderRecord>>, StoreError> {
        self.inner.providers(now, key)
    }

    fn add_provider(&mut self, now: Timestamp, record: ProviderRecord) -> Result<Write, StoreError> {
        self.inner.add_provider(now, record)
    }

    fn remove_provider(&mut self, key: &RecordKey, provider: &PeerId) -> Result<Write, StoreError> {
        self.inner.remove_provider(key, provider)
    }

    fn scan(&mut self, what: Scan, after: Option<&Key>, limit: usize) -> Result<Read<Vec<Item>>, StoreError> {
        self.inner.scan(what, after, limit)
    }

    fn sequence(&mut self, now: Timestamp, key: &RecordKey) -> Result<Read<Option<u64>>, StoreError> {
        self.inner.sequence(now, key)
    }

    fn keeps_peers(&self) -> bool {
        true
    }

    fn save_peers(&mut self, peers: Peers) -> Result<Write, StoreError> {
        self.saves.try_send(peers).map_err(|_| StoreError::Failed)?;
        Ok(Write::Kept)
    }

    fn saved_peers(&mut self) -> Result<Read<Peers>, StoreError> {
        Ok(Read::Ready(self.saved.clone()))
    }

    fn expire(&mut self, now: Timestamp, limit: usize) -> Result<Read<usize>, StoreError> {
        self.inner.expire(now, limit)
    }

    fn next_expiry(&self) -> Option<Timestamp> {
        self.inner.next_expiry()
    }

    fn usage(&self) -> Usage {
        self.inner.usage()
    }
}

/// Puts another node in the place of an old one, as after a restart of its process.
fn restart(network: &mut Network, i: usize, store: Box<dyn Store>, config: Config) {
    let local = network.contact(i);
    network.nodes[i] = Dht::new(network.now, local, store, [99; 32], Arc::new(config)).unwrap();
}

fn table(network: &Network, i: usize) -> Vec<PeerId> {
    network.nodes[i].routing_snapshot().entries().map(|entry| entry.peer).collect()
}

#[test]
fn the_table_is_kept_soon_after_a_change_and_a_restart_rejoins_without_the_boot_nodes() {
    const NODES: usize = 40;
    let mut network = Network::joined(NODES, Config::default());
    let (store, saves) = lasting(Vec::new());
    restart(&mut network, 7, store, Config::default());
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
    restart(&mut network, 7, store, Config::default());
    assert_eq!(table(&network, 7), [], "nothing is trusted before it answered");
    network.advance(Duration::from_secs(5));
    let live: Vec<_> = (0..NODES).filter(|i| i % 2 == 1 && *i != 7).map(peer).collect();
    let known = table(&network, 7);
    assert!(known.iter().all(|peer| live.contains(peer)), "the dead did not come back: {known:?}");
    assert!(known.len() >= live.len() - 1, "{} of {} within seconds", known.len(), live.len());
}

#[test]
fn a_table_that_does_not_change_is_not_kept_again() {
    let mut network = Network::joined(10, Config::default());
    let (store, saves) = lasting(Vec::new());
    restart(&mut network, 7, store, Config::default());
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
fn who_all_are_gone_are_tried_again_ever_more_seldom() {
    let mut network = Network::new(6, Config::default());
    let saved: Peers = (1..6).map(|i| network.contact(i)).collect();
    network.dead.extend(1..6);
    let (store, _saves) = lasting(saved);
    restart(&mut network, 0, store, Config::default());
    network.advance(Duration::from_secs(60));
    assert_eq!(table(&network, 0), []);
    let sent = network.sent;
    assert!(sent <= 5 * 6, "{sent} requests in a minute");
    // One comes back: it is found without anyone's doing.
    network.dead.remove(&3);
    network.advance(Duration::from_secs(120));
    assert_eq!(table(&network, 0), [peer(3)]);
}

#[test]
fn a_store_in_memory_never_wakes_the_node_for_it() {
    let mut network = Network::joined(5, Config::default());
    // The first node was not told to join, and does so by itself.
    network.advance(Duration::from_secs(20));
    let now = network.now;
    for node in &network.nodes {
        if let Some((at, Wake::Maintenance)) = node.next_wake() {
            assert!(at > now + Duration::from_secs(60), "that is the refresh");
        }
    }
    assert!(network.events.iter().any(|(_, event)| matches!(event, Event::RoutingChanged { present: true, .. })));
}
