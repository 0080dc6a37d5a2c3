//! The swarm of the node, in a task of its own.

use std::collections::BTreeMap;
use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _};
use kad::core::AddressPolicy;
use kad::metrics::Metrics;
use kad::{DhtHandle, Mode, Store};
use libp2p::multiaddr::Protocol;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, DialError, NetworkBehaviour, Swarm, SwarmEvent};
use libp2p::{Multiaddr, PeerId, StreamProtocol, SwarmBuilder, identify, noise, ping, tcp, yamux};
use libp2p_kad_dht as kad;
use libp2p_kad_dht_disk::{DiskStore, DiskStoreConfig};
use prometheus_client::registry::Registry;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::answer::report_event;
use crate::args::Args;
use crate::home::Home;
use crate::serve;

/// The time that an idle connection is kept, so that the next lookup need not dial.
const IDLE: Duration = Duration::from_secs(60);
/// The capacity of the channel to the swarm; more requests wait in their own tasks.
const REQUESTS: usize = 64;

#[derive(NetworkBehaviour)]
struct Behaviour {
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    kad: kad::Behaviour,
}

/// A running node.
pub(crate) struct Node {
    pub(crate) peer: PeerId,
    /// Its listen addresses with its id.
    pub(crate) addrs: Vec<Multiaddr>,
    /// The protocol names, the preferred one first.
    pub(crate) protocols: Vec<StreamProtocol>,
    /// The addresses that it uses.
    pub(crate) policy: AddressPolicy,
    pub(crate) dht: DhtHandle,
    pub(crate) control: Control,
    /// The address of the metrics.
    pub(crate) metrics: Option<SocketAddr>,
    swarm: JoinHandle<()>,
}

impl Node {
    /// Ends the swarm: open queries fail, and the disk store is complete when this returns.
    pub(crate) async fn stop(&mut self) {
        self.swarm.abort();
        let _ = (&mut self.swarm).await; // it was ended
    }
}

/// Access to the swarm for commands.
#[derive(Clone)]
pub(crate) struct Control(mpsc::Sender<SwarmRequest>);

enum SwarmRequest {
    Dial(Multiaddr, oneshot::Sender<Result<(PeerId, bool), String>>),
    Connected(oneshot::Sender<Vec<PeerId>>),
    Mode(oneshot::Sender<ModeNow>),
    SetMode(Option<Mode>, oneshot::Sender<ModeNow>),
}

/// The mode of the node.
#[derive(Debug)]
pub(crate) struct ModeNow {
    pub(crate) mode: Mode,
    /// The chosen mode; `None` for automatic.
    pub(crate) wanted: Option<Mode>,
    pub(crate) why: &'static str,
}

impl Control {
    /// Connects to the peer at this address; with `/p2p/PEERID` at its end, to that peer only. Returns the peer, and
    /// whether this dial reached it: a peer that is connected already is not dialled.
    pub(crate) async fn dial(&self, addr: Multiaddr) -> Result<(PeerId, bool), String> {
        self.ask(|answer| SwarmRequest::Dial(addr, answer)).await?
    }

    /// The connected peers.
    pub(crate) async fn connected(&self) -> Result<Vec<PeerId>, String> {
        self.ask(SwarmRequest::Connected).await
    }

    pub(crate) async fn mode(&self) -> Result<ModeNow, String> {
        self.ask(SwarmRequest::Mode).await
    }

    /// Sets the mode; with `None` it depends on confirmed external addresses. Returns the resulting mode.
    pub(crate) async fn set_mode(&self, wanted: Option<Mode>) -> Result<ModeNow, String> {
        self.ask(|answer| SwarmRequest::SetMode(wanted, answer)).await
    }

    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<T>) -> SwarmRequest) -> Result<T, String> {
        let gone = "the node is gone";
        let (answer, answered) = oneshot::channel();
        self.0.send(request(answer)).await.map_err(|_| gone)?;
        answered.await.map_err(|_| gone.to_owned())
    }
}

/// Starts a node that listens on all addresses of `--listen`.
pub(crate) async fn start(args: &Args) -> Result<Node, Box<dyn Error>> {
    let config = args.config()?;
    let network = args.network_name(&config);
    let protocols = config.protocols().to_vec();
    let (wanted, policy) = (config.mode(), config.core().address_policy);
    let home = args.store.as_deref().map(Home::at).transpose()?;
    // The store is opened before the node listens: without its store it must not appear in the network.
    let mut registry = Registry::default();
    let metrics = args.metrics.map(|_| Metrics::register(&mut registry));
    let keypair = args.keypair(home.as_ref())?;
    let store = home.as_ref().map(open).transpose()?;
    home.map_or(Ok(()), |home| home.bind(keypair.public().to_peer_id(), &network))?;
    let mut swarm = SwarmBuilder::with_existing_identity(keypair)
        .with_tokio()
        .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, yamux::Config::default)?
        .with_quic()
        .with_dns()?
        .with_behaviour(|key| {
            let identify = identify::Config::new("/libp2p-kad-dht/node/1".into(), key.public())
                .with_push_listen_addr_updates(true);
            Ok(Behaviour {
                identify: identify::Behaviour::new(identify.with_agent_version("libp2p-kad-dht".into())),
                ping: ping::Behaviour::default(),
                kad: kad(key.public().to_peer_id(), config, store, metrics)?,
            })
        })?
        .with_swarm_config(|config| config.with_idle_connection_timeout(IDLE))
        .build();
    let peer = *swarm.local_peer_id();
    let addrs = listen(&mut swarm, &args.listen).await?;
    args.external.iter().for_each(|addr| swarm.add_external_address(addr.clone()));
    let metrics = match args.metrics {
        Some(addr) => Some(serve::start(addr, registry).await?),
        None => None,
    };
    let dht = swarm.behaviour().kad.handle();
    for seed in args.seeds() {
        dht.add_peer(seed.peer, [seed.addr]).check()?;
    }
    let (requests, waiting) = mpsc::channel(REQUESTS);
    let swarm = tokio::spawn(drive(swarm, wanted, args.json, waiting));
    let addrs = addrs.into_iter().map(|addr| addr.with(Protocol::P2p(peer))).collect();
    Ok(Node { peer, addrs, protocols, policy, dht, control: Control(requests), metrics, swarm })
}

fn open(home: &Home) -> Result<Box<dyn Store>, String> {
    let path = home.records();
    match DiskStore::open(&path, DiskStoreConfig::default()) {
        Ok(store) => Ok(Box::new(store)),
        Err(why) => Err(why.to_string()),
    }
}

fn kad(
    local: PeerId,
    config: kad::Config,
    store: Option<Box<dyn Store>>,
    metrics: Option<Metrics>,
) -> Result<kad::Behaviour, kad::ConfigError> {
    let mut node = match store {
        Some(store) => kad::Behaviour::with_store(local, config, store)?,
        None => kad::Behaviour::new(local, config)?,
    };
    metrics.into_iter().for_each(|metrics| node.publish_to(metrics));
    Ok(node)
}

/// Waits until each listener has an address.
async fn listen(swarm: &mut Swarm<Behaviour>, wanted: &[Multiaddr]) -> Result<Vec<Multiaddr>, Box<dyn Error>> {
    // By name, since listener ids have no order.
    let mut waiting: BTreeMap<String, &Multiaddr> = BTreeMap::new();
    for addr in wanted {
        let id =
            swarm.listen_on(addr.clone()).map_err(|why| format!("cannot listen on {addr}: {}", root_cause(&why)))?;
        waiting.insert(id.to_string(), addr);
    }
    let mut addrs = Vec::new();
    // An address such as 0.0.0.0 stands for several, which are all reported immediately.
    while let Some(event) = if waiting.is_empty() { swarm.next().now_or_never().flatten() } else { swarm.next().await }
    {
        match event {
            SwarmEvent::NewListenAddr { listener_id, address } => {
                waiting.remove(&listener_id.to_string());
                addrs.push(address);
            }
            SwarmEvent::ListenerClosed { listener_id, reason: Err(why), .. } => {
                let addr = waiting.get(&listener_id.to_string()).map(ToString::to_string).unwrap_or_default();
                return Err(format!("cannot listen on {addr}: {why}").into());
            }
            _ => {}
        }
    }
    Ok(addrs)
}

type Dials = BTreeMap<ConnectionId, oneshot::Sender<Result<(PeerId, bool), String>>>;

async fn drive(
    mut swarm: Swarm<Behaviour>,
    mut wanted: Option<Mode>,
    json: bool,
    mut requests: mpsc::Receiver<SwarmRequest>,
) {
    // At most one for each command that runs.
    let mut dials = Dials::new();
    loop {
        tokio::select! {
            event = swarm.select_next_some() => on_event(&mut dials, json, event),
            request = requests.recv() => match request {
                Some(SwarmRequest::Dial(addr, answer)) => dial(&mut swarm, &mut dials, addr, answer),
                Some(SwarmRequest::Connected(answer)) => drop(answer.send(swarm.connected_peers().copied().collect())),
                Some(SwarmRequest::Mode(answer)) => drop(answer.send(mode(&swarm, wanted))),
                Some(SwarmRequest::SetMode(chosen, answer)) => {
                    wanted = chosen;
                    swarm.behaviour_mut().kad.set_mode(chosen);
                    drop(answer.send(mode(&swarm, wanted)));
                }
                None => return,
            },
        }
    }
}

fn mode(swarm: &Swarm<Behaviour>, wanted: Option<Mode>) -> ModeNow {
    let mode = swarm.behaviour().kad.mode();
    let why = match (wanted, mode, swarm.external_addresses().next()) {
        (Some(_), ..) => "chosen",
        (None, Mode::Server, Some(_)) => "an external address is confirmed",
        (None, Mode::Server, None) => "an external address was confirmed until lately",
        (None, ..) => "no external address is confirmed at which others may find it",
    };
    ModeNow { mode, wanted, why }
}

fn dial(
    swarm: &mut Swarm<Behaviour>,
    dials: &mut Dials,
    addr: Multiaddr,
    answer: oneshot::Sender<Result<(PeerId, bool), String>>,
) {
    let peer = match addr.iter().last() {
        Some(Protocol::P2p(peer)) => Some(peer),
        _ => None,
    };
    if let Some(peer) = peer.filter(|peer| swarm.is_connected(peer)) {
        return drop(answer.send(Ok((peer, false))));
    }
    let opts = match peer {
        Some(peer) => DialOpts::peer_id(peer).condition(PeerCondition::Always).addresses(vec![addr]).build(),
        None => DialOpts::unknown_peer_id().address(addr).build(),
    };
    let connection = opts.connection_id();
    match swarm.dial(opts) {
        Ok(()) => drop(dials.insert(connection, answer)),
        Err(why) => drop(answer.send(Err(explain(&why)))),
    }
}

fn on_event(dials: &mut Dials, json: bool, event: SwarmEvent<BehaviourEvent>) {
    if let SwarmEvent::Behaviour(BehaviourEvent::Kad(kad::Event::AddrsRefused { peer, addrs })) = &event {
        let addrs: Vec<_> = addrs.iter().map(ToString::to_string).collect();
        let line = format!("refused by the address policy (--addresses): {} of {peer}", addrs.join(", "));
        report_event(json, "addrs_refused", vec![("peer", peer.to_string().into()), ("addrs", addrs.into())], &line);
    }
    if let SwarmEvent::Behaviour(BehaviourEvent::Kad(kad::Event::NoIdentify)) = &event {
        let line = "peers ask without saying whether they serve or where they listen: they run without identify";
        report_event(json, "no_identify", Vec::new(), line);
    }
    let (connection, result) = match event {
        SwarmEvent::ConnectionEstablished { connection_id, peer_id, .. } => (connection_id, Ok((peer_id, true))),
        SwarmEvent::OutgoingConnectionError { connection_id, error, .. } => (connection_id, Err(explain(&error))),
        event => return tracing::debug!(?event, "swarm"),
    };
    if let Some(answer) = dials.remove(&connection) {
        let _ = answer.send(result); // the command may have ended
    }
}

/// The root cause of the failure at each address.
fn explain(error: &DialError) -> String {
    let DialError::Transport(attempts) = error else { return error.to_string() };
    attempts.iter().map(|(addr, why)| format!("{addr}: {}", root_cause(why))).collect::<Vec<_>>().join("; ")
}

fn root_cause<'a>(mut error: &'a (dyn Error + 'static)) -> &'a dyn Error {
    while let Some(deeper) = error.source() {
        error = deeper;
    }
    error
}
