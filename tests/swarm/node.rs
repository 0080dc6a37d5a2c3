//! A node in a task of its own: kad, perhaps identify, and limits, on memory transport.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};

use futures::StreamExt as _;
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, PeerId, Swarm, connection_limits, identify};
use libp2p_kad_dht as kad;
use libp2p_kad_dht::testing::deferred::DeferredStore;
use libp2p_kad_dht::{DhtHandle, MemoryStore};
use libp2p_swarm_test::SwarmExt as _;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::{PROTOCOL, soon, until};

/// The behaviours of a test node: kad first, so that later ones can deny a connection that it has seen.
#[derive(NetworkBehaviour)]
pub(crate) struct App {
    pub(crate) kad: kad::Behaviour,
    pub(crate) identify: libp2p::swarm::behaviour::toggle::Toggle<identify::Behaviour>,
    pub(crate) limits: connection_limits::Behaviour,
}

/// Breaks to stop polling.
pub(crate) type Act = Box<dyn FnOnce(&mut Swarm<App>) -> ControlFlow<()> + Send>;

/// A swarm in a task of its own.
pub(crate) struct Node {
    pub(crate) peer: PeerId,
    pub(crate) addr: Multiaddr,
    pub(crate) dht: DhtHandle,
    pub(crate) acts: mpsc::Sender<Act>,
    pub(crate) events: Arc<Mutex<Vec<SwarmEvent<AppEvent>>>>,
    task: JoinHandle<()>,
}

#[derive(Clone, Default)]
pub(crate) struct Setup {
    pub(crate) config: Option<kad::Config>,
    pub(crate) identify: bool,
    pub(crate) max_established: Option<u32>,
    /// All operations of the store stay pending.
    pub(crate) stuck_store: bool,
}

impl Node {
    pub(crate) async fn new() -> Node {
        Node::with(Setup::default()).await
    }

    pub(crate) async fn with(setup: Setup) -> Node {
        let mut swarm = Swarm::new_ephemeral_tokio(|key| {
            let config = setup.config.unwrap_or_else(|| kad::Config::new(PROTOCOL));
            let identify = identify::Config::new("/test/1.0.0".into(), key.public());
            let limits = connection_limits::ConnectionLimits::default().with_max_established(setup.max_established);
            let local = key.public().to_peer_id();
            let kad = if setup.stuck_store {
                let (store, _) = DeferredStore::new(MemoryStore::new(Default::default(), [7; 32]));
                kad::Behaviour::with_store(local, config, Box::new(store))
            } else {
                kad::Behaviour::new(local, config)
            };
            App {
                kad: kad.unwrap(),
                identify: setup.identify.then(|| identify::Behaviour::new(identify)).into(),
                limits: connection_limits::Behaviour::new(limits),
            }
        });
        swarm.listen_on("/memory/0".parse().unwrap()).unwrap();
        let events = Arc::new(Mutex::new(Vec::new()));
        let addr = loop {
            match soon(swarm.next()).await.unwrap() {
                SwarmEvent::NewListenAddr { address, .. } => break address,
                event => events.lock().unwrap().push(event),
            }
        };
        let (peer, dht) = (*swarm.local_peer_id(), swarm.behaviour().kad.handle());
        let (acts, inbox) = mpsc::channel(16);
        let task = tokio::spawn(run(swarm, inbox, Arc::clone(&events)));
        Node { peer, addr, dht, acts, events, task }
    }

    /// Runs a closure on the swarm between two of its polls.
    pub(crate) async fn act<T: Send + 'static>(&self, act: impl FnOnce(&mut Swarm<App>) -> T + Send + 'static) -> T {
        let (sender, receiver) = oneshot::channel();
        let act: Act = Box::new(move |swarm| {
            let _ = sender.send(act(swarm));
            ControlFlow::Continue(())
        });
        assert!(self.acts.send(act).await.is_ok());
        soon(receiver).await.unwrap()
    }

    /// Stops polling the swarm forever, while its connections stay open.
    pub(crate) async fn freeze(&self) {
        let (sender, receiver) = oneshot::channel();
        let act: Act = Box::new(move |_| {
            let _ = sender.send(());
            ControlFlow::Break(())
        });
        assert!(self.acts.send(act).await.is_ok());
        soon(receiver).await.unwrap();
    }

    pub(crate) async fn knows(&self, other: &Node) {
        self.dht.add_peer(other.peer, [other.addr.clone()]);
        until(async || {
            let table = self.dht.routing_table().await.unwrap();
            table.entries().any(|entry| entry.peer == other.peer).then_some(())
        })
        .await;
    }

    pub(crate) async fn idle(&self) {
        until(async || {
            let (queries, requests) = self
                .act(|swarm| {
                    let kad = &swarm.behaviour().kad;
                    (kad.queries().len(), kad.pending_requests())
                })
                .await;
            (queries == 0 && requests == 0).then_some(())
        })
        .await;
    }

    pub(crate) fn count(&self, mut which: impl FnMut(&SwarmEvent<AppEvent>) -> bool) -> usize {
        self.events.lock().unwrap().iter().filter(|event| which(event)).count()
    }

    pub(crate) fn failed_dials(&self, peer: PeerId) -> usize {
        self.count(
            |event| matches!(event, SwarmEvent::OutgoingConnectionError { peer_id, .. } if *peer_id == Some(peer)),
        )
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run(mut swarm: Swarm<App>, mut inbox: mpsc::Receiver<Act>, events: Arc<Mutex<Vec<SwarmEvent<AppEvent>>>>) {
    loop {
        tokio::select! {
            event = swarm.select_next_some() => events.lock().unwrap().push(event),
            act = inbox.recv() => match act {
                Some(act) => if act(&mut swarm).is_break() {
                    std::future::pending::<()>().await;
                },
                None => std::future::pending().await,
            },
        }
    }
}
