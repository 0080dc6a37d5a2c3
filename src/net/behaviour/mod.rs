//! The node as a `NetworkBehaviour`: passes the swarm's events to the core and the core's outputs to the swarm.
//!
//! Knows: which event becomes which input. Must not know: any rule of the DHT. One loop, one timer.

mod connections;

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use libp2p_core::transport::PortUse;
use libp2p_core::{Endpoint, Multiaddr};
use libp2p_identity::PeerId;
use libp2p_swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, NotifyHandler, StreamProtocol, THandlerInEvent,
    ToSwarm,
};

use super::clock::Clock;
use super::config::Config;
use super::dialer::{Action, Dialer};
use super::dual::foreign_connections::ForeignConnections;
use super::handler::Handler;
use super::messages::{FromHandler, ToHandler};
use super::mode::ModeSwitch;
use super::pending_inbound::PendingInbound;
use super::stream::{StreamConfig, StreamCounts};
use super::timer::Timer;
use crate::core::stats::DriverStats;
use crate::core::{
    self, Busy, ConfigError, Contact, Dht, DhtConfig, Distance, Event, InboundId, Input, MemoryStore,
    MemoryStoreConfig, Mode, Operation, Output, PeerFilter, PeerRecord, QueryId, QueryOptions, QuerySnapshot,
    RecordKey, Reply, RoutingSnapshot, Stats, Store, Timestamp,
};
use crate::handle::{Commands, DhtHandle, DriverRequest};

/// Maximum number of swarm events that delay what is due. Source: handling them takes a few milliseconds.
const MAX_EVENTS: usize = 256;

type Effect = ToSwarm<Event, ToHandler>;

/// A node of the DHT in a libp2p swarm.
///
/// Composing needs no wiring: the node tries peers whose addresses other behaviours report through the swarm, such as
/// mDNS, and learns its own addresses. Most programs take a [handle](Behaviour::handle) and never touch the behaviour
/// again; those that prefer events start queries here and match on [`Event::QueryProgressed`].
///
/// ```no_run
/// # use futures::StreamExt as _;
/// # use libp2p::{StreamProtocol, SwarmBuilder, noise, tcp, yamux};
/// # use libp2p_kad_dht as kad;
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let config = kad::Config::new(StreamProtocol::new("/my-app/kad/1.0.0"));
/// let mut swarm = SwarmBuilder::with_new_identity()
///     .with_tokio()
///     .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)?
///     .with_behaviour(|key| Ok(kad::Behaviour::new(key.public().to_peer_id(), config)?))?
///     .build();
/// // Beside other behaviours, as the field `kad` of a `NetworkBehaviour`: `swarm.behaviour().kad.handle()`.
/// let dht = swarm.behaviour().handle();
/// tokio::spawn(async move {
///     loop {
///         println!("{:?}", swarm.select_next_some().await);
///     }
/// });
/// dht.bootstrap().await?;
/// # Ok(()) }
/// ```
///
/// When it is dropped, everything that handles wait for ends with [`QueryError::Closed`](core::QueryError::Closed), and
/// the store gets the peers of the table for the next start, if they changed since it last got them.
pub struct Behaviour {
    local: PeerId,
    config: Arc<DhtConfig>,
    stream_config: Arc<StreamConfig>,
    dht: Dht,
    commands: Commands,
    clock: Clock,
    dialer: Dialer,
    pending_inbound: PendingInbound,
    mode: ModeSwitch,
    foreign: ForeignConnections,
    streams: Arc<StreamCounts>,
    #[cfg(feature = "metrics")]
    metrics: Option<crate::metrics::Metrics>,
    listening: Vec<Multiaddr>,
    /// The number of the next connection handler, which makes the ids of its inbound requests unique.
    next_handler: u32,
    /// Actions for the swarm. One input fills it; it is emptied before the next output of the core is taken.
    effects: VecDeque<Effect>,
    timer: Timer,
    /// Present while something is due that waits for the events of the swarm.
    events_since_due: Option<EventsSinceDue>,
}

#[derive(Debug, Default)]
struct EventsSinceDue {
    total: usize,
    /// Whether there was one since the last poll.
    since_poll: bool,
}

impl Behaviour {
    /// A node that keeps records in memory. `local` is the swarm's own peer id.
    ///
    /// # Errors
    ///
    /// The first field of the configuration that cannot work, by name.
    pub fn new(local: PeerId, config: Config) -> Result<Behaviour, ConfigError> {
        let seed = config.seed().unwrap_or_else(|| random_seed(&local));
        // The store gets a derived seed: its order of eviction must reveal nothing about the core's random choices.
        let store = MemoryStore::new(MemoryStoreConfig::default(), core::Key::hash(&seed).to_bytes());
        Behaviour::with_store(local, config.with_seed(seed), Box::new(store))
    }

    /// A node that keeps records in this store.
    ///
    /// # Errors
    ///
    /// The first field of the configuration that cannot work, by name.
    pub fn with_store(local: PeerId, config: Config, store: Box<dyn Store>) -> Result<Behaviour, ConfigError> {
        config.validate()?;
        let mut clock = Clock::new();
        let seed = config.seed().unwrap_or_else(|| random_seed(&local));
        let core = Arc::new(config.core().clone());
        let mut behaviour = Behaviour {
            local,
            dht: Dht::new(clock.now(), Contact::new(local, []), store, seed, Arc::clone(&core))?,
            commands: Commands::new(),
            clock,
            dialer: Dialer::new(local, config.dial().clone(), core.address_policy),
            pending_inbound: PendingInbound::default(),
            mode: ModeSwitch::new(config.mode(), config.server_hold(), core.address_policy),
            config: core,
            stream_config: Arc::new(config.stream_in_use()),
            foreign: ForeignConnections::default(),
            streams: Arc::default(),
            #[cfg(feature = "metrics")]
            metrics: None,
            listening: Vec::new(),
            next_handler: 0,
            effects: VecDeque::new(),
            timer: Timer::default(),
            events_since_due: None,
        };
        behaviour.update_mode();
        Ok(behaviour)
    }

    /// A handle on this node: futures and streams for the application. Make as many as you like.
    pub fn handle(&self) -> DhtHandle {
        self.commands.handle()
    }

    /// Starts any operation; its progress is reported as [`Event::QueryProgressed`].
    ///
    /// # Errors
    ///
    /// [`Busy`] if the maximum number of queries runs.
    pub fn start(&mut self, operation: Operation, options: QueryOptions) -> Result<QueryId, Busy> {
        let now = self.clock.now();
        self.dht.start(now, operation, options)
    }

    /// Cancels a query, which its last event reports. Does nothing if the query has ended.
    pub fn cancel(&mut self, id: QueryId) {
        self.dht.cancel(id);
    }

    /// Names a peer that serves the DHT, such as a boot node, with its addresses (a `/p2p` ending is cut off). It is
    /// tried, and enters the table once it has answered.
    pub fn add_peer(&mut self, peer: PeerId, addrs: impl IntoIterator<Item = Multiaddr>) {
        self.input(Input::AddPeer(Contact::new(peer, addrs)));
    }

    /// Tries the peers of a saved routing table; see [`Dht::restore`].
    pub fn restore(&mut self, table: &RoutingSnapshot) -> usize {
        let now = self.clock.now();
        self.dht.restore(now, table)
    }

    /// Sets the mode, as [`Config::with_mode`] does. With `None` the node serves while it has a confirmed external
    /// address, and for [two minutes](Config::with_server_hold) (by default) after the last one.
    pub fn set_mode(&mut self, mode: Option<Mode>) {
        self.mode.set(mode);
        self.update_mode();
    }

    /// Sets the filter that decides which peers enter the routing table, are asked, and are answered; `None` admits all.
    pub fn set_filter(&mut self, filter: Option<Arc<dyn PeerFilter>>) {
        let now = self.clock.now();
        self.dht.set_filter(now, filter);
    }

    /// Tells what a connected peer runs, as identify reports it, for the [filter](Behaviour::set_filter).
    pub fn set_agent(&mut self, peer: PeerId, agent: &str, protocols: impl IntoIterator<Item = String>) {
        let now = self.clock.now();
        self.dht.set_agent(now, peer, agent, protocols);
    }

    /// Bans a peer for this time: it is neither asked nor answered, dialled or named to others, and leaves the routing
    /// table. Its connections stay: a behaviour such as `libp2p-allow-block-list` closes them.
    pub fn ban(&mut self, peer: PeerId, time: Duration) {
        let now = self.clock.now();
        self.dht.ban(now, peer, time);
    }

    /// Ends the ban of a peer; `false` if it is not banned.
    pub fn unban(&mut self, peer: &PeerId) -> bool {
        self.dht.unban(peer)
    }

    /// Removes a peer from the routing table and forgets its addresses; `false` if it is not known.
    pub fn remove_peer(&mut self, peer: &PeerId) -> bool {
        let now = self.clock.now();
        self.dht.remove_peer(now, peer)
    }

    /// Suspends the node until it is [resumed](Behaviour::resume): see [`Dht::suspend`]. Its connections stay, unless
    /// the swarm closes them.
    ///
    /// ```
    /// # fn example(kad: &mut libp2p_kad_dht::Behaviour) {
    /// kad.suspend(); // the application goes into the background
    /// kad.resume(); // and is back
    /// # }
    /// ```
    pub fn suspend(&mut self) {
        let now = self.clock.now();
        self.dht.suspend(now);
    }

    /// Resumes a suspended node: see [`Dht::resume`]. For an example see [`Behaviour::suspend`].
    pub fn resume(&mut self) {
        let now = self.clock.now();
        self.dht.resume(now);
    }

    /// Whether this node serves others now.
    pub fn mode(&self) -> Mode {
        self.mode.current()
    }

    /// The current routing table.
    pub fn routing_table(&self) -> RoutingSnapshot {
        self.dht.routing_snapshot()
    }

    /// The peers of the routing table closest to a key, nearest first, at most `count`.
    pub fn nearest(&self, key: impl Into<RecordKey>, count: usize) -> Vec<PeerRecord> {
        self.dht.nearest(&key.into().key(), count)
    }

    /// Whether this node is among the k nodes closest to a key, as far as it knows.
    pub fn is_near(&self, key: impl Into<RecordKey>) -> bool {
        self.dht.is_near(&key.into().key())
    }

    /// The distance from its own key within which this node is among the k nodes closest to every key, as far as it
    /// knows.
    pub fn responsibility(&self) -> Distance {
        self.dht.responsibility()
    }

    /// The queries that run now.
    pub fn queries(&self) -> Vec<QuerySnapshot> {
        self.dht.query_snapshots()
    }

    /// Counters since the node started.
    pub fn stats(&self) -> &Stats {
        self.dht.stats()
    }

    /// Counters of dials and streams since the node started.
    pub fn driver_stats(&self) -> DriverStats {
        DriverStats {
            streams_inbound: self.streams.inbound.get(),
            streams_refused: self.streams.refused.get(),
            streams_outbound: self.streams.outbound.get(),
            streams_reused: self.streams.reused.get(),
            ..self.dialer.counts()
        }
    }

    /// Publishes this node's counters as metrics from now on, at most once each time that it is polled.
    #[cfg(feature = "metrics")]
    pub fn publish_to(&mut self, metrics: crate::metrics::Metrics) {
        self.metrics = Some(metrics);
        self.publish();
    }

    /// The store of this node.
    pub fn store(&mut self) -> &mut dyn Store {
        self.dht.store()
    }

    /// Number of requests to peers that have not ended, including those that wait for a connection.
    pub fn pending_requests(&self) -> usize {
        self.dialer.pending()
    }

    /// The parameters of the core.
    pub(super) fn config(&self) -> &DhtConfig {
        &self.config
    }

    pub(super) fn protocols(&self) -> &[StreamProtocol] {
        &self.stream_config.protocols
    }

    /// Whether this behaviour, and no other one in the swarm, began this dial.
    pub(super) fn is_own_dial(&self, connection: ConnectionId) -> bool {
        self.dialer.is_own_dial(connection)
    }

    fn input(&mut self, input: Input) {
        let now = self.clock.now();
        self.dht.handle_input(now, input);
    }

    fn on_driver_request(&mut self, request: DriverRequest) {
        match request {
            DriverRequest::AddPeer(contact) => self.input(Input::AddPeer(contact)),
            DriverRequest::SetMode(mode) => self.set_mode(mode),
            DriverRequest::Stats(reply) => reply.send(self.driver_stats()),
        }
    }

    fn on_output(&mut self, output: Output) {
        match output {
            Output::Send { to, id, request } => self.dialer.send(to, id, request),
            Output::Cancel { id } => self.dialer.cancel(id),
            Output::DialBack { peer, addr } => self.dial_back(peer, addr),
            Output::Reply { to, id, reply } => self.reply(to, id, reply),
            Output::Event(event) => {
                let event = self.commands.handle_event(event);
                self.effects.extend(event.map(ToSwarm::GenerateEvent));
            }
        }
    }

    fn reply(&mut self, to: PeerId, id: InboundId, reply: Reply) {
        if let Some(connection) = self.pending_inbound.finish(id) {
            self.effects.push_back(notify(to, connection, ToHandler::Reply { id, reply }));
        }
    }

    fn update_mode(&mut self) {
        let now = self.clock.now();
        let Some((mode, why)) = self.mode.next_change(now) else { return };
        tracing::debug!(%mode, %why, "mode");
        self.input(Input::Mode(mode));
        for (peer, connection) in self.dialer.connections() {
            self.effects.push_back(notify(peer, connection, ToHandler::SetMode(mode)));
        }
        let event = self.commands.handle_event(Event::ModeChanged { mode, why });
        self.effects.extend(event.map(ToSwarm::GenerateEvent));
    }

    /// Tells the core where this node can be reached: confirmed addresses first, then those it listens on.
    fn update_addrs(&mut self) {
        let external = self.mode.external();
        let listening = self.listening.iter().filter(|addr| !external.contains(addr));
        let addrs = external.iter().chain(listening).cloned().collect();
        self.input(Input::LocalAddrs(addrs));
    }

    fn on_listen_addr(&mut self, addr: &Multiaddr, listening: bool) {
        if self.listening.contains(addr) == listening {
            return;
        }
        if listening {
            self.listening.push(addr.clone());
        } else {
            self.listening.retain(|known| known != addr);
        }
        self.update_addrs();
    }

    fn on_external_addr(&mut self, addr: &Multiaddr, confirmed: bool) {
        let now = self.clock.now();
        let changed = if confirmed { self.mode.on_confirmed(addr) } else { self.mode.on_expired(now, addr) };
        if changed {
            self.update_addrs();
            self.update_mode();
        }
    }

    fn next_effect(&mut self) -> Option<Effect> {
        if let Some(effect) = self.effects.pop_front() {
            return Some(effect);
        }
        while let Some(action) = self.dialer.next_action() {
            match action {
                Action::Dial(opts) => return Some(ToSwarm::Dial { opts }),
                Action::Notify { peer, connection, event } => return Some(notify(peer, connection, event)),
                Action::Input(input) => self.input(input),
            }
        }
        None
    }

    fn on_event(&mut self) {
        if let Some(events) = &mut self.events_since_due {
            (events.total, events.since_poll) = (events.total + 1, true);
        }
    }

    /// The next time at which the core or the mode is due.
    fn next_wake(&self) -> Option<Timestamp> {
        if self.dht.is_suspended() {
            return None;
        }
        self.dht.poll_timeout().into_iter().chain(self.mode.poll_timeout()).min()
    }

    /// Whether to handle what is due at `next`; if it is not due yet, the timer is set to it. Events that the swarm has
    /// not passed on yet come first, since any of them may be the answer to a request that has run out of time. The swarm
    /// passes on one event after each poll that returns pending: if none came since the last poll, or many did, it is
    /// time.
    fn poll_due(&mut self, cx: &mut Context<'_>, now: Timestamp) -> bool {
        let next = self.next_wake();
        if next.is_none_or(|at| at > now) {
            self.events_since_due = None;
            // If it expired, the task is polled again.
            let _ = self.timer.poll(cx, next.and_then(|at| self.clock.instant_of(at)));
            return false;
        }
        match &mut self.events_since_due {
            Some(events) if !events.since_poll || events.total >= MAX_EVENTS => {
                self.events_since_due = None;
                true
            }
            events => {
                events.get_or_insert_default().since_poll = false;
                cx.waker().wake_by_ref();
                false
            }
        }
    }

    fn tick(&mut self, now: Timestamp) {
        if self.dht.poll_timeout().is_some_and(|at| at <= now) {
            self.dht.handle_input(now, Input::Timeout);
        }
        self.mode.follow(now);
        if self.mode.poll_timeout().is_some_and(|at| at <= now) {
            self.update_mode();
        }
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Event;

    /// Only makes a handler: a behaviour after this one may still deny the connection.
    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<Handler, ConnectionDenied> {
        Ok(self.handler(peer, remote))
    }

    /// Only makes a handler: a behaviour after this one may still deny the connection.
    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        addr: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<Handler, ConnectionDenied> {
        Ok(self.handler(peer, addr))
    }

    /// Adds the known addresses of a peer to a dial that another behaviour began by the peer's id. Own dials have
    /// theirs.
    fn handle_pending_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: Option<PeerId>,
        _: &[Multiaddr],
        _: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        if self.is_own_dial(connection) {
            return Ok(Vec::new());
        }
        let contact = peer.and_then(|peer| self.dht.contact(&peer));
        Ok(contact.map(|contact| contact.addrs().collect()).unwrap_or_default())
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        self.on_event();
        match event {
            FromSwarm::ConnectionEstablished(event) => self.on_established(event),
            FromSwarm::ConnectionClosed(event) => self.on_closed(event),
            FromSwarm::AddressChange(event) => self.on_address_change(event),
            FromSwarm::DialFailure(event) => self.on_dial_failure(event),
            FromSwarm::NewListenAddr(event) => self.on_listen_addr(event.addr, true),
            FromSwarm::ExpiredListenAddr(event) => self.on_listen_addr(event.addr, false),
            FromSwarm::ExternalAddrConfirmed(event) => self.on_external_addr(event.addr, true),
            FromSwarm::ExternalAddrExpired(event) => self.on_external_addr(event.addr, false),
            FromSwarm::NewExternalAddrOfPeer(event) => self.on_discovered(event.peer_id, event.addr.clone()),
            // A listener that closes expires its addresses first. A failed inbound connection leaves no state here.
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, connection: ConnectionId, event: FromHandler) {
        self.on_event();
        match event {
            FromHandler::Request { id, request, turn: _turn } => {
                self.pending_inbound.on_request(connection, id);
                self.input(Input::Request { from: peer, id, request });
            }
            FromHandler::RequestGone { id } => {
                if self.pending_inbound.finish(id).is_some() {
                    self.input(Input::RequestGone { id });
                }
            }
            FromHandler::Misbehaved(what) => self.input(Input::Misbehaved { peer, what }),
            FromHandler::Sent { id } => {
                if self.dialer.has_sent(peer, connection, id) {
                    self.input(Input::Sent { id });
                }
            }
            FromHandler::Response { id, result } => {
                if self.dialer.on_response(peer, connection, id) {
                    self.input(Input::Response { id, result });
                }
            }
            FromHandler::Serves(yes) => self.on_serves(peer, connection, yes),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Event, THandlerInEvent<Self>>> {
        loop {
            if let Some(effect) = self.next_effect() {
                return Poll::Ready(effect);
            }
            let now = self.clock.now();
            if let Poll::Ready(request) = self.commands.poll(cx, now, &mut self.dht) {
                self.on_driver_request(request);
            } else if let Some(output) = self.next_output(cx, now) {
                self.on_output(output);
            } else if self.poll_due(cx, now) {
                self.tick(now);
            } else {
                #[cfg(feature = "metrics")]
                self.publish();
                return Poll::Pending;
            }
        }
    }
}

impl Behaviour {
    #[cfg(feature = "metrics")]
    fn publish(&self) {
        if let Some(metrics) = &self.metrics {
            metrics.publish(&self.dht, &self.driver_stats());
        }
    }

    fn next_output(&mut self, cx: &mut Context<'_>, now: Timestamp) -> Option<Output> {
        self.dht.poll_store(now, cx.waker());
        self.dht.poll_output()
    }
}

impl fmt::Debug for Behaviour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Behaviour")
            .field("local", &self.local)
            .field("mode", &self.mode.current())
            .field("handle_queries", &self.commands.running())
            .field("pending_requests", &self.dialer.pending())
            .field("peers", &self.dialer.peers())
            .field("unanswered", &self.pending_inbound.len())
            .finish_non_exhaustive()
    }
}

fn notify(peer_id: PeerId, connection: ConnectionId, event: ToHandler) -> Effect {
    ToSwarm::NotifyHandler { peer_id, handler: NotifyHandler::One(connection), event }
}

/// The only place in which the system's randomness is used.
fn random_seed(local: &PeerId) -> [u8; 32] {
    let mut seed = [0; 32];
    if let Err(error) = getrandom::fill(&mut seed) {
        tracing::warn!(%error, "the system has no randomness: the seed is derived from the peer id and the time");
        let now = Clock::new().now();
        let text = [&local.to_bytes()[..], &now.as_micros().to_be_bytes()].concat();
        seed = core::Key::hash(&text).to_bytes();
    }
    seed
}

#[cfg(test)]
mod tests;
