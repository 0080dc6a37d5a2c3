//! The node as a `NetworkBehaviour`: what the swarm reports goes into the core, what the core wants goes to the swarm.
//!
//! Knows: who translates what. Must not know: any rule of the DHT. One loop, one timer.

mod connections;

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt;
use futures_timer::Delay;
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
use super::dual::ForeignConnections;
use super::handler::Handler;
use super::messages::{FromHandler, ToHandler};
use super::mode::ModeSwitch;
use super::pending_inbound::PendingInbound;
use super::stream::{StreamConfig, StreamCounts};
use crate::core::stats::DriverStats;
use crate::core::{
    self, AddressPolicy, Busy, ConfigError, Contact, Dht, Event, InboundId, Input, MemoryStore, MemoryStoreConfig,
    Mode, Operation, Output, QueryId, QueryOptions, QuerySnapshot, Reply, RoutingSnapshot, Stats, Store, Timestamp,
    Validator,
};
use crate::handle::{Commands, DhtHandle, DriverRequest};

/// The most events that are heard before what is due is judged. Source: that many take a few milliseconds.
const MAX_EVENTS: usize = 256;
/// The shortest sleep: a core that wanted to be woken at once for ever would be slow, not a spinning task.
const SHORTEST_SLEEP: Duration = Duration::from_millis(1);

type Effect = ToSwarm<Event, ToHandler>;

/// A node of the DHT in a libp2p swarm.
///
/// Composing needs no wiring: peers whose addresses other behaviours report through the swarm, such as mDNS, are tried,
/// and this node's own addresses are learned. Most programs take a [handle](Behaviour::handle) and never touch the behaviour again; those
/// that prefer events start queries here and match on [`Event::QueryProgressed`].
///
/// When it is dropped, everything that handles wait for ends with [`QueryError::Closed`](core::QueryError::Closed), and the
/// store gets the peers of the table for the next start, if they changed since it last got them.
pub struct Behaviour {
    local: PeerId,
    dht: Dht,
    commands: Commands,
    clock: Clock,
    dialer: Dialer,
    pending_inbound: PendingInbound,
    mode: ModeSwitch,
    stream: Arc<StreamConfig>,
    validator: Arc<dyn Validator>,
    policy: AddressPolicy,
    foreign: ForeignConnections,
    streams: Arc<StreamCounts>,
    #[cfg(feature = "metrics")]
    metrics: Option<crate::metrics::Metrics>,
    listening: Vec<Multiaddr>,
    /// The number of the next connection handler; what it asks under is unique with it.
    next_handler: u32,
    /// What the swarm is to do. Filled by one input and emptied before the next effect of the core is taken.
    effects: VecDeque<Effect>,
    timer: Delay,
    /// What the timer is set to.
    armed: Option<Timestamp>,
    /// What was heard since something is due, while that waits for what else there is to hear.
    heard: Option<Heard>,
}

/// Events of connections.
#[derive(Debug, Default)]
struct Heard {
    all: usize,
    /// Whether there was one since the last poll.
    any: bool,
}

impl Behaviour {
    /// A node that keeps records in memory. `local` is the swarm's own peer id.
    ///
    /// # Errors
    ///
    /// Names the first field of the configuration that cannot work.
    pub fn new(local: PeerId, config: Config) -> Result<Behaviour, ConfigError> {
        let mut clock = Clock::new();
        let seed = config.seed().unwrap_or_else(|| random_seed(&local, clock.now()));
        // A seed of its own, derived: the store's order of eviction says nothing about the core's choices.
        let store = MemoryStore::new(MemoryStoreConfig::default(), core::Key::hash(&seed).to_bytes());
        Behaviour::with_store(local, config.with_seed(seed), Box::new(store))
    }

    /// A node that keeps records in this store.
    ///
    /// # Errors
    ///
    /// Names the first field of the configuration that cannot work.
    pub fn with_store(local: PeerId, config: Config, store: Box<dyn Store>) -> Result<Behaviour, ConfigError> {
        config.validate()?;
        let mut clock = Clock::new();
        let now = clock.now();
        let seed = config.seed().unwrap_or_else(|| random_seed(&local, now));
        let core = Arc::new(config.core().clone());
        let mut behaviour = Behaviour {
            local,
            dht: Dht::new(now, Contact::new(local, []), store, seed, core)?,
            commands: Commands::new(),
            clock,
            dialer: Dialer::new(local, config.dial().clone(), config.core().address_policy),
            pending_inbound: PendingInbound::default(),
            mode: ModeSwitch::new(config.mode(), config.server_hold(), config.core().address_policy),
            stream: Arc::new(config.stream().clone()),
            validator: Arc::clone(&config.core().record.validator),
            policy: config.core().address_policy,
            foreign: ForeignConnections::default(),
            streams: Arc::default(),
            #[cfg(feature = "metrics")]
            metrics: None,
            listening: Vec::new(),
            next_handler: 0,
            effects: VecDeque::new(),
            timer: Delay::new(Duration::ZERO),
            armed: None,
            heard: None,
        };
        behaviour.update_mode();
        Ok(behaviour)
    }

    /// A handle on this node: futures and streams for the application. Make as many as you like.
    pub fn handle(&self) -> DhtHandle {
        self.commands.handle()
    }

    /// Starts any operation; its news come as [`Event::QueryProgressed`].
    ///
    /// # Errors
    ///
    /// [`Busy`] if as many queries run as may.
    pub fn start(&mut self, operation: Operation, options: QueryOptions) -> Result<QueryId, Busy> {
        let now = self.clock.now();
        self.dht.start(now, operation, options)
    }

    /// Ends a query early; its last event says so. Nothing happens if it is over already.
    pub fn cancel(&mut self, id: QueryId) {
        self.dht.cancel(id);
    }

    /// Names a peer that serves the DHT, for a first contact.
    pub fn add_peer(&mut self, peer: PeerId, addrs: impl IntoIterator<Item = Multiaddr>) {
        self.on_added(Contact::new(peer, addrs));
    }

    /// Tries the peers of a routing table that was kept; see [`Dht::restore`].
    pub fn restore(&mut self, table: &RoutingSnapshot) -> usize {
        let now = self.clock.now();
        self.dht.restore(now, table)
    }

    /// Chooses the mode; `None` leaves it to the confirmed external addresses.
    pub fn set_mode(&mut self, mode: Option<Mode>) {
        self.mode.set(mode);
        self.update_mode();
    }

    /// Whether this node serves others now.
    pub fn mode(&self) -> Mode {
        self.mode.current()
    }

    /// What the routing table holds now.
    pub fn routing_table(&self) -> RoutingSnapshot {
        self.dht.routing_snapshot()
    }

    /// The queries that run now.
    pub fn queries(&self) -> Vec<QuerySnapshot> {
        self.dht.query_snapshots()
    }

    /// What the node has done since it started.
    pub fn stats(&self) -> &Stats {
        self.dht.stats()
    }

    /// What carrying requests took since the node started: dials and streams.
    pub fn driver_stats(&self) -> DriverStats {
        DriverStats {
            streams_inbound: self.streams.inbound.get(),
            streams_refused: self.streams.refused.get(),
            streams_outbound: self.streams.outbound.get(),
            streams_reused: self.streams.reused.get(),
            ..self.dialer.counts()
        }
    }

    /// Publishes what this node does as metrics from now on, at most once each time that it is polled.
    #[cfg(feature = "metrics")]
    pub fn publish_to(&mut self, metrics: crate::metrics::Metrics) {
        self.metrics = Some(metrics);
        self.publish();
    }

    /// What is kept.
    pub fn store(&mut self) -> &mut dyn Store {
        self.dht.store()
    }

    /// Requests to peers that have no end yet, those that wait for a connection included.
    pub fn pending_requests(&self) -> usize {
        self.dialer.pending()
    }

    /// The names of the protocol.
    pub(super) fn protocols(&self) -> &[StreamProtocol] {
        &self.stream.protocols
    }

    /// What decides which values are valid.
    pub(super) fn validator(&self) -> Arc<dyn Validator> {
        Arc::clone(&self.validator)
    }

    /// Which addresses it deals with.
    pub(super) fn policy(&self) -> AddressPolicy {
        self.policy
    }

    /// Whether this node itself, and nobody else in the swarm, began this dial.
    pub(super) fn is_own_dial(&self, connection: ConnectionId) -> bool {
        self.dialer.is_own_dial(connection)
    }

    fn input(&mut self, input: Input) {
        let now = self.clock.now();
        self.dht.handle_input(now, input);
    }

    fn on_added(&mut self, contact: Arc<Contact>) {
        self.input(Input::AddPeer(contact));
    }

    fn on_driver_request(&mut self, wish: DriverRequest) {
        match wish {
            DriverRequest::AddPeer(contact) => self.on_added(contact),
            DriverRequest::SetMode(mode) => self.set_mode(mode),
        }
    }

    fn on_output(&mut self, output: Output) {
        match output {
            Output::Send { to, id, request } => self.dialer.send(to, id, request),
            Output::Cancel { id } => self.dialer.cancel(id),
            Output::DialBack { peer, addr } => self.dial_back(peer, addr),
            Output::Reply { to, id, reply } => self.reply(to, id, reply),
            Output::Event(event) => {
                if let Some(event) = self.commands.handle_event(event) {
                    self.effects.push_back(ToSwarm::GenerateEvent(event));
                }
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
        self.effects.push_back(ToSwarm::GenerateEvent(Event::ModeChanged { mode, why }));
    }

    /// Where this node can be reached: confirmed addresses first, then those it listens on.
    fn update_addrs(&mut self) {
        let external = self.mode.external();
        let listening = self.listening.iter().filter(|addr| !external.contains(addr));
        let addrs = external.iter().chain(listening).cloned().collect();
        self.input(Input::LocalAddrs(addrs));
    }

    fn on_listen_addr(&mut self, addr: &Multiaddr, listening: bool) {
        let known = self.listening.contains(addr);
        match (known, listening) {
            (false, true) => self.listening.push(addr.clone()),
            (true, false) => self.listening.retain(|known| known != addr),
            _ => return,
        }
        self.update_addrs();
    }

    fn on_external_addr(&mut self, addr: &Multiaddr, confirmed: bool) {
        let now = self.clock.now();
        let news = if confirmed { self.mode.on_confirmed(addr) } else { self.mode.on_expired(now, addr) };
        if news {
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
                Action::Dialling { id } => self.input(Input::Dialling { id }),
                Action::Fail { id, why } => self.input(Input::Response { id, result: Err(why) }),
            }
        }
        None
    }

    fn on_event(&mut self) {
        if let Some(heard) = &mut self.heard {
            (heard.all, heard.any) = (heard.all + 1, true);
        }
    }

    /// Whether what is due may be judged: not before the events that wait were heard, of which any may be an answer. The
    /// swarm hands over one event after each poll that is pending; when it has none left, or many were heard, it is time.
    fn may_tick(&mut self, cx: &Context<'_>) -> bool {
        let now = self.clock.now();
        let due = self.dht.poll_timeout().into_iter().chain(self.mode.poll_timeout()).min();
        if due.is_none_or(|at| at > now) {
            self.heard = None;
            return false;
        }
        match &mut self.heard {
            Some(heard) if !heard.any || heard.all >= MAX_EVENTS => {
                self.heard = None;
                true
            }
            heard => {
                heard.get_or_insert_default().any = false;
                cx.waker().wake_by_ref();
                false
            }
        }
    }

    fn tick(&mut self) {
        let now = self.clock.now();
        if self.dht.poll_timeout().is_some_and(|at| at <= now) {
            self.dht.handle_input(now, Input::Timeout);
        }
        self.mode.follow(now);
        if self.mode.poll_timeout().is_some_and(|at| at <= now) {
            self.update_mode();
        }
    }

    /// Arms the timer to the next wake of the core or the mode, and is ready when it has gone off.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let target = self.dht.poll_timeout().into_iter().chain(self.mode.poll_timeout()).min();
        if target != self.armed {
            self.armed = target;
            if let Some(at) = target {
                self.timer.reset((at - self.clock.now()).max(SHORTEST_SLEEP));
            }
        }
        if self.armed.is_none() || self.timer.poll_unpin(cx).is_pending() {
            return Poll::Pending;
        }
        self.armed = None;
        cx.waker().wake_by_ref(); // should it be early, it is armed again
        Poll::Ready(())
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Event;

    /// Only makes a handler: a behaviour after this one may still deny the connection.
    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<Handler, ConnectionDenied> {
        Ok(self.handler(remote))
    }

    /// Only makes a handler: a behaviour after this one may still deny the connection.
    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        addr: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<Handler, ConnectionDenied> {
        Ok(self.handler(addr))
    }

    /// Lends what is known of a peer's addresses to those who dial it by its id alone. Own dials bring them along.
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
            // A listener that closes expires its addresses first. A failed inbound connection left nothing here.
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, connection: ConnectionId, event: FromHandler) {
        self.on_event();
        match event {
            FromHandler::Request { id, request } => {
                self.pending_inbound.on_request(connection, id);
                self.input(Input::Request { from: peer, id, request });
            }
            FromHandler::RequestGone { id } => {
                if self.pending_inbound.finish(id).is_some() {
                    self.input(Input::RequestGone { id });
                }
            }
            FromHandler::Sent { id, settle } => {
                if self.dialer.has_sent(peer, connection, id) {
                    self.input(Input::Sent { id, settle });
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
        if self.may_tick(cx) {
            self.tick();
        }
        loop {
            if let Some(effect) = self.next_effect() {
                return Poll::Ready(effect);
            }
            let now = self.clock.now();
            if let Poll::Ready(wish) = self.commands.poll(cx, now, &mut self.dht) {
                self.on_driver_request(wish);
            } else if let Some(output) = self.next_output(cx, now) {
                self.on_output(output);
            } else if self.poll_timer(cx).is_pending() || !self.may_tick(cx) {
                #[cfg(feature = "metrics")]
                self.publish();
                return Poll::Pending;
            } else {
                self.tick();
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

/// The one place where randomness of the system is drawn.
fn random_seed(local: &PeerId, now: Timestamp) -> [u8; 32] {
    let mut seed = [0; 32];
    if let Err(error) = getrandom::fill(&mut seed) {
        tracing::warn!(%error, "no randomness to be had from the system: the seed is made of peer id and time");
        let text = [&local.to_bytes()[..], &now.as_micros().to_be_bytes()].concat();
        seed = core::Key::hash(&text).to_bytes();
    }
    seed
}

#[cfg(test)]
mod tests;
