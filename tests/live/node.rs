//! One swarm in a task: the actions of the test, and the events of the swarm.

use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt as _;
use libp2p::identity::Keypair;
use libp2p::swarm::{DialError, NetworkBehaviour, SwarmEvent, dial_opts::DialOpts};
use libp2p::{Multiaddr, PeerId, Swarm, SwarmBuilder, noise, tcp, yamux};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::{soon, until};

/// A behaviour that a test runs, with the glue that its users must write.
pub(crate) trait Host: NetworkBehaviour<ToSwarm: Debug + Send> + Send + Sized + 'static {
    fn on_event(swarm: &mut Swarm<Self>, event: &SwarmEvent<Self::ToSwarm>) {
        let _ = (swarm, event);
    }
}

type Act<B> = Box<dyn FnOnce(&mut Swarm<B>) + Send>;
type Events<B> = Arc<Mutex<Vec<SwarmEvent<<B as NetworkBehaviour>::ToSwarm>>>>;

/// A swarm that runs until this is dropped, which closes all its connections.
pub(crate) struct Node<B: Host> {
    pub(crate) peer: PeerId,
    pub(crate) addr: Multiaddr,
    acts: mpsc::Sender<Act<B>>,
    pub(crate) events: Events<B>,
    task: JoinHandle<()>,
}

impl<B: Host> Node<B> {
    /// Starts it on a free port; unused connections close after `idle`.
    pub(crate) async fn start(idle: Duration, behaviour: impl FnOnce(&Keypair) -> B) -> Node<B> {
        Node::start_at("127.0.0.1", idle, behaviour).await
    }

    /// The same at this IPv4 address.
    pub(crate) async fn start_at(ip: &str, idle: Duration, behaviour: impl FnOnce(&Keypair) -> B) -> Node<B> {
        let mut swarm = SwarmBuilder::with_new_identity()
            .with_tokio()
            .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, yamux::Config::default)
            .unwrap()
            .with_behaviour(|key| behaviour(key))
            .unwrap()
            .with_swarm_config(|config| config.with_idle_connection_timeout(idle))
            .build();
        swarm.listen_on(format!("/ip4/{ip}/tcp/0").parse().unwrap()).unwrap();
        let mut early = Vec::new();
        let addr = loop {
            match soon(swarm.select_next_some()).await {
                SwarmEvent::NewListenAddr { address, .. } => break address,
                event => early.push(event),
            }
        };
        let (acts, inbox) = mpsc::channel(64);
        let events = Arc::new(Mutex::new(early));
        let peer = *swarm.local_peer_id();
        let task = tokio::spawn(run(swarm, inbox, Arc::clone(&events)));
        Node { peer, addr, acts, events, task }
    }

    /// Runs a closure on the swarm between two of its polls.
    pub(crate) async fn act<T: Send + 'static>(&self, act: impl FnOnce(&mut Swarm<B>) -> T + Send + 'static) -> T {
        let (sender, receiver) = oneshot::channel();
        let act: Act<B> = Box::new(move |swarm| {
            let _ = sender.send(act(swarm));
        });
        assert!(self.acts.send(act).await.is_ok());
        soon(receiver).await.unwrap()
    }

    /// Evaluates a closure on the events so far.
    pub(crate) fn seen<T>(&self, which: impl FnMut(&SwarmEvent<B::ToSwarm>) -> Option<T>) -> Vec<T> {
        self.events.lock().unwrap().iter().filter_map(which).collect()
    }

    /// Dials a peer at these addresses. Returns whether it answered there.
    pub(crate) async fn reaches(&self, peer: PeerId, addrs: Vec<Multiaddr>) -> bool {
        let opts = DialOpts::peer_id(peer).addresses(addrs).build();
        let ours = opts.connection_id();
        match self.act(move |swarm| swarm.dial(opts)).await {
            Ok(()) => {}
            Err(DialError::DialPeerConditionFalse(_)) => return true,
            Err(_) => return false,
        }
        until("the end of a dial", async || {
            let ends = self.seen(|event| match event {
                SwarmEvent::ConnectionEstablished { connection_id, .. } if *connection_id == ours => Some(true),
                SwarmEvent::OutgoingConnectionError { connection_id, .. } if *connection_id == ours => Some(false),
                _ => None,
            });
            ends.first().copied()
        })
        .await
    }
}

impl<B: Host> Drop for Node<B> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run<B: Host>(mut swarm: Swarm<B>, mut inbox: mpsc::Receiver<Act<B>>, events: Events<B>) {
    loop {
        tokio::select! {
            event = swarm.select_next_some() => {
                B::on_event(&mut swarm, &event);
                events.lock().unwrap().push(event);
            }
            Some(act) = inbox.recv() => act(&mut swarm),
        }
    }
}
