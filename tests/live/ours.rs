//! A node of this library: kad and identify side by side, with no wiring between them.

use std::ops::Deref;
use std::time::Duration;

use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{PeerId, identify};
use libp2p_kad_dht as kad;
use libp2p_kad_dht::{DhtHandle, MemoryStore, MemoryStoreConfig, Store};

use super::{Host, Node, PROTOCOL, soon, until};

#[derive(NetworkBehaviour)]
pub(crate) struct App {
    pub(crate) kad: kad::Behaviour,
    pub(crate) identify: Toggle<identify::Behaviour>,
}

impl Host for App {}

/// A node with its handle.
pub(crate) struct Ours {
    pub(crate) dht: DhtHandle,
    node: Node<App>,
}

impl Deref for Ours {
    type Target = Node<App>;

    fn deref(&self) -> &Node<App> {
        &self.node
    }
}

impl Ours {
    pub(crate) async fn start() -> Ours {
        Ours::with(kad::Config::new(PROTOCOL), true, Duration::from_secs(10)).await
    }

    /// With `identify` the node has that behaviour too; unused connections close after `idle`.
    pub(crate) async fn with(config: kad::Config, identify: bool, idle: Duration) -> Ours {
        let store = Box::new(MemoryStore::new(MemoryStoreConfig::default(), [1; 32]));
        Ours::with_store(config, store, identify, idle).await
    }

    /// The same with a store of its own.
    pub(crate) async fn with_store(config: kad::Config, store: Box<dyn Store>, identify: bool, idle: Duration) -> Ours {
        let node = Node::start(idle, |key| {
            let info = identify::Config::new("/test/1.0.0".into(), key.public());
            App {
                kad: kad::Behaviour::with_store(key.public().to_peer_id(), config, store).unwrap(),
                identify: identify.then(|| identify::Behaviour::new(info)).into(),
            }
        });
        let node = node.await;
        let dht = node.act(|swarm| swarm.behaviour().kad.handle()).await;
        Ours { dht, node }
    }

    /// The peers in the routing table.
    pub(crate) async fn table(&self) -> Vec<PeerId> {
        soon(self.dht.routing_table()).await.unwrap().entries().map(|entry| entry.peer).collect()
    }

    /// Adds a peer and waits until it is in the routing table.
    pub(crate) async fn learns<B: Host>(&self, other: &Node<B>) {
        self.dht.add_peer(other.peer, [other.addr.clone()]);
        until("a peer that answers is in the table", async || self.table().await.contains(&other.peer).then_some(()))
            .await;
    }

    /// The events of its own behaviour.
    pub(crate) fn events(&self) -> Vec<kad::Event> {
        self.seen(|event| match event {
            SwarmEvent::Behaviour(AppEvent::Kad(event)) => Some(event.clone()),
            _ => None,
        })
    }
}
