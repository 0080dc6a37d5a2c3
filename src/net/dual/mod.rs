//! Two networks in one swarm: the public one, and the local one beside it.
//!
//! Knows: two behaviours, and how they share the swarm. Must not know: what either of them does.

pub(super) mod foreign_connections;

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use either::Either;
use libp2p_core::transport::PortUse;
use libp2p_core::{Endpoint, Multiaddr};
use libp2p_identity::PeerId;
use libp2p_swarm::handler::ConnectionHandlerSelect;
use libp2p_swarm::{
    ConnectionDenied, ConnectionHandler as _, ConnectionId, FromSwarm, NetworkBehaviour, THandlerInEvent,
    THandlerOutEvent, ToSwarm,
};

use crate::core::{ConfigError, Event};
use crate::handle::{DualHandle, DualNetwork, PerNetwork};
use crate::net::behaviour::Behaviour;
use crate::net::config::Config;
use crate::net::handler::Handler;

/// A node of two networks in a libp2p swarm: two [`Behaviour`]s side by side, behind one [`DualHandle`].
///
/// The local one is for peers on the same network (rule A3): it works without the internet, and finds what is near. Its
/// first peers come from mDNS, beside it in the swarm, or from [`Dual::add_peer`]. Each network has its own protocol
/// name, routing table, store and [address policy](Config::with_address_policy); the two share the swarm's connections
/// and nothing else.
///
/// ```no_run
/// use futures::StreamExt as _;
/// use libp2p::{identify, swarm::NetworkBehaviour};
/// use libp2p_kad_dht as kad;
///
/// #[derive(NetworkBehaviour)]
/// struct App { identify: identify::Behaviour, kad: kad::Dual }
///
/// # async fn f(peer_id: libp2p::PeerId) -> Result<(), Box<dyn std::error::Error>> {
/// let kad = kad::Dual::new(peer_id, kad::Config::amino(), kad::Config::lan())?;
/// let dht = kad.handle();
/// // ... the swarm is polled somewhere, as always in libp2p ...
///
/// let (network, found) = dht.get("/pk/...").await?;          // from the network that has it first
/// println!("{:?} from the {network}", found.record.value);
/// let published = dht.provide("content").await?;             // in both
/// println!("{:?} {:?}", published.wan, published.lan);
/// let mut providers = dht.providers("content");              // of both, as they are found
/// while let Some(provider) = providers.next().await { println!("{provider:?}"); }
/// dht.lan().put("/pk/...", "for this local network only").await?;
/// # Ok(()) }
/// ```
pub struct Dual {
    wan: Behaviour,
    lan: Behaviour,
    handle: DualHandle,
    /// Which one is polled first. It alternates, so that neither can delay the other.
    lan_first: bool,
}

/// An [`Event`] of one of two networks.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DualEvent {
    /// The network.
    pub network: DualNetwork,
    /// The event.
    pub event: Event,
}

impl Dual {
    /// A node that keeps the records of both networks in memory. `local` is the swarm's own peer id.
    ///
    /// # Errors
    ///
    /// As [`Dual::of`], and as [`Behaviour::new`] for each.
    pub fn new(local: PeerId, wan: Config, lan: Config) -> Result<Dual, ConfigError> {
        Dual::of(Behaviour::new(local, wan)?, Behaviour::new(local, lan)?)
    }

    /// A node of these two, each with its own store. If both networks return a value at the same time, the wide one's
    /// validator selects the better.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Shared`] if they have a protocol name in common: a peer's request would be ambiguous.
    pub fn of(wan: Behaviour, lan: Behaviour) -> Result<Dual, ConfigError> {
        if wan.protocols().iter().any(|name| lan.protocols().contains(name)) {
            return Err(ConfigError::Shared("stream.protocols"));
        }
        let policies = PerNetwork { wan: wan.config().address_policy, lan: lan.config().address_policy };
        let handle = DualHandle::new(wan.handle(), lan.handle(), Arc::clone(&wan.config().record.validator))
            .with_policies(policies);
        Ok(Dual { wan, lan, handle, lan_first: false })
    }

    /// A handle on both networks. Clone it as you like.
    pub fn handle(&self) -> DualHandle {
        self.handle.clone()
    }

    /// The wide network's behaviour.
    pub fn wan(&self) -> &Behaviour {
        &self.wan
    }

    /// The wide network's behaviour, for operations in this network alone.
    pub fn wan_mut(&mut self) -> &mut Behaviour {
        &mut self.wan
    }

    /// The local network's behaviour.
    pub fn lan(&self) -> &Behaviour {
        &self.lan
    }

    /// The local network's behaviour, for operations in this network alone.
    pub fn lan_mut(&mut self) -> &mut Behaviour {
        &mut self.lan
    }

    /// Adds a peer that serves the DHT, such as a bootstrap node. As [`DualHandle::add_peer`].
    pub fn add_peer(&mut self, peer: PeerId, addrs: impl IntoIterator<Item = Multiaddr>) {
        let addrs = self.handle.divided(addrs);
        if let Some(addrs) = addrs.wan {
            self.wan.add_peer(peer, addrs);
        }
        if let Some(addrs) = addrs.lan {
            self.lan.add_peer(peer, addrs);
        }
    }
}

type DualEffect = ToSwarm<DualEvent, THandlerInEvent<Dual>>;

impl Dual {
    fn poll_wan(&mut self, cx: &mut Context<'_>) -> Poll<DualEffect> {
        let event = |event| DualEvent { network: DualNetwork::Wan, event };
        self.wan.poll(cx).map(|effect| effect.map_out(event).map_in(Either::Left))
    }

    fn poll_lan(&mut self, cx: &mut Context<'_>) -> Poll<DualEffect> {
        let event = |event| DualEvent { network: DualNetwork::Lan, event };
        self.lan.poll(cx).map(|effect| effect.map_out(event).map_in(Either::Right))
    }
}

impl NetworkBehaviour for Dual {
    type ConnectionHandler = ConnectionHandlerSelect<Handler, Handler>;
    type ToSwarm = DualEvent;

    fn handle_pending_inbound_connection(
        &mut self,
        connection: ConnectionId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.wan.handle_pending_inbound_connection(connection, local, remote)?;
        self.lan.handle_pending_inbound_connection(connection, local, remote)
    }

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<Self::ConnectionHandler, ConnectionDenied> {
        let wan = self.wan.handle_established_inbound_connection(connection, peer, local, remote)?;
        let lan = self.lan.handle_established_inbound_connection(connection, peer, local, remote)?;
        Ok(wan.select(lan))
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        addr: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<Self::ConnectionHandler, ConnectionDenied> {
        let wan = self.wan.handle_established_outbound_connection(connection, peer, addr, role, port)?;
        let lan = self.lan.handle_established_outbound_connection(connection, peer, addr, role, port)?;
        Ok(wan.select(lan))
    }

    /// Adds the addresses of both networks to a dial that another behaviour began by the peer's id. The dials of the
    /// two networks have their own addresses.
    fn handle_pending_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: Option<PeerId>,
        addrs: &[Multiaddr],
        role: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        if self.wan.is_own_dial(connection) || self.lan.is_own_dial(connection) {
            return Ok(Vec::new());
        }
        let mut known = self.wan.handle_pending_outbound_connection(connection, peer, addrs, role)?;
        known.extend(self.lan.handle_pending_outbound_connection(connection, peer, addrs, role)?);
        Ok(known)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        self.wan.on_swarm_event(event);
        self.lan.on_swarm_event(event);
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, connection: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {
            Either::Left(event) => self.wan.on_connection_handler_event(peer, connection, event),
            Either::Right(event) => self.lan.on_connection_handler_event(peer, connection, event),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<DualEffect> {
        self.lan_first = !self.lan_first;
        let first = if self.lan_first { self.poll_lan(cx) } else { self.poll_wan(cx) };
        match first {
            Poll::Pending if self.lan_first => self.poll_wan(cx),
            Poll::Pending => self.poll_lan(cx),
            ready => ready,
        }
    }
}

impl fmt::Debug for Dual {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dual").field("wan", &self.wan).field("lan", &self.lan).finish_non_exhaustive()
    }
}
