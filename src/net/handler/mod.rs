//! The handler of one connection: passes streams, requests and replies between the behaviour and the two stream pools,
//! and has the timer for all of their deadlines.
//!
//! Knows: the swarm's events. Must not know: how streams are used (`stream`), or what requests are for.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use libp2p_identity::PeerId;
use libp2p_swarm::handler::{
    ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound, ProtocolsChange,
};
use libp2p_swarm::{ConnectionHandler, ConnectionHandlerEvent, StreamProtocol, SubstreamProtocol};

use super::messages::{FromHandler, ToHandler};
use super::stream::{InboundPool, OutboundPool, ProtocolNames, StreamConfig, StreamCounts};
use super::timer::{Deadline, PollClock, Timer};
use crate::core::{Mode, RequestError, Share};

/// Time for which a connection is kept after its last request. Source: requests to a peer come in bursts, and the swarm
/// sets a timer, and drops it again, each time that a connection becomes idle: that costs more than a request.
const KEPT_AFTER_USE: Duration = Duration::from_millis(200);

/// The streams of one connection.
///
/// When the connection closes, it reports nothing more: the behaviour ends the requests that it sent here as
/// [`RequestError::ConnectionClosed`], and the inbound ones as gone.
#[doc(hidden)]
#[derive(Debug)]
pub struct Handler {
    config: Arc<StreamConfig>,
    mode: Mode,
    outbound: OutboundPool,
    inbound: InboundPool,
    serves: PeerServes,
    timer: Timer,
    /// The end of [`KEPT_AFTER_USE`]; `None` if the connection was idle for longer.
    kept: Option<Deadline>,
}

impl Handler {
    /// The handler of a new connection; `number` is the upper half of the ids of its inbound requests.
    pub(crate) fn new(
        peer: PeerId,
        config: Arc<StreamConfig>,
        mode: Mode,
        number: u32,
        place: Share,
        counts: Arc<StreamCounts>,
    ) -> Handler {
        Handler {
            mode,
            outbound: OutboundPool::new(peer, config.clone(), Arc::clone(&counts)),
            inbound: InboundPool::new(peer, config.clone(), number, place, counts),
            serves: PeerServes::default(),
            timer: Timer::default(),
            kept: None,
            config,
        }
    }

    fn is_busy(&self) -> bool {
        self.outbound.is_busy() || self.inbound.is_busy()
    }

    fn poll_kept(&mut self, clock: &mut PollClock) {
        if self.is_busy() {
            self.kept = Some(Deadline::default());
        } else if self.kept.as_mut().is_some_and(|kept| kept.poll(clock, KEPT_AFTER_USE).is_ready()) {
            self.kept = None;
        }
    }

    fn next_event(&mut self, cx: &Context<'_>) -> Option<FromHandler> {
        if let Some(yes) = self.serves.next_change() {
            return Some(FromHandler::Serves(yes));
        }
        let Some(event) = self.outbound.next_event() else { return self.inbound.next_event(cx) };
        match &event {
            FromHandler::Response { result: Ok(_), .. } => self.serves.on_answer(),
            FromHandler::Response { result: Err(RequestError::Unsupported), .. } => self.serves.on_unsupported(),
            _ => {}
        }
        Some(event)
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = ToHandler;
    type ToBehaviour = FromHandler;
    type InboundProtocol = ProtocolNames;
    type OutboundProtocol = ProtocolNames;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<ProtocolNames> {
        // A server announces the protocol and accepts its streams (rules L8 and A7); a client does neither (rules L9
        // and A8).
        let config = (self.mode == Mode::Server).then(|| Arc::clone(&self.config));
        SubstreamProtocol::new(ProtocolNames(config), ()).with_timeout(self.config.inbound_request_timeout)
    }

    fn connection_keep_alive(&self) -> bool {
        self.kept.is_some() || self.is_busy()
    }

    fn on_behaviour_event(&mut self, event: ToHandler) {
        match event {
            ToHandler::Send { id, request } => self.outbound.send(id, &request),
            ToHandler::Cancel { id } => self.outbound.cancel(id),
            ToHandler::Reply { id, reply } => self.inbound.reply(id, reply),
            ToHandler::SetMode(mode) => {
                self.mode = mode;
                if mode == Mode::Client {
                    self.inbound.reset();
                }
            }
        }
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<'_, ProtocolNames, ProtocolNames>) {
        match event {
            // If the mode changed during the negotiation, the stream is dropped.
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol, .. })
                if self.mode == Mode::Server =>
            {
                self.inbound.on_stream(protocol);
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol, .. }) => {
                self.outbound.on_stream(protocol);
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { error, .. }) => {
                let unsupported = self.outbound.on_stream_failed(&error);
                if unsupported {
                    self.serves.on_unsupported();
                }
            }
            ConnectionEvent::RemoteProtocolsChange(change) => self.serves.on_listed(&self.config.protocols, change),
            _ => {}
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ConnectionHandlerEvent<ProtocolNames, (), FromHandler>> {
        if let Some(event) = self.next_event(cx) {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(event));
        }
        let mut clock = PollClock::default();
        let opens = self.outbound.poll(cx, &mut clock);
        self.inbound.poll(cx, &mut clock);
        self.poll_kept(&mut clock);
        let _ = self.timer.poll(cx, clock.next); // if it expired, the next poll finds out what is due
        if opens {
            let names = ProtocolNames(Some(Arc::clone(&self.config)));
            let protocol = SubstreamProtocol::new(names, ()).with_timeout(self.config.open_timeout);
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
        }
        match self.next_event(cx) {
            Some(event) => Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(event)),
            None => Poll::Pending,
        }
    }
}

/// Whether the peer serves, as far as is known, and what was reported of that.
#[derive(Debug, Default)]
struct PeerServes {
    /// The protocol names of ours that the peer lists.
    listed: Vec<StreamProtocol>,
    serves: Option<bool>,
    reported: Option<bool>,
}

impl PeerServes {
    /// The peer added protocols to its list, or removed them from it. The first list always says whether it serves;
    /// later changes only if they concern one of our names.
    fn on_listed(&mut self, ours: &[StreamProtocol], change: ProtocolsChange<'_>) {
        let names: Vec<_> = match &change {
            ProtocolsChange::Added(names) => names.clone().filter(|name| ours.contains(name)).cloned().collect(),
            ProtocolsChange::Removed(names) => names.clone().filter(|name| ours.contains(name)).cloned().collect(),
        };
        if self.serves.is_some() && names.is_empty() {
            return;
        }
        self.listed.retain(|name| !names.contains(name));
        if matches!(change, ProtocolsChange::Added(_)) {
            self.listed.extend(names);
        }
        self.serves = Some(!self.listed.is_empty());
    }

    fn on_unsupported(&mut self) {
        self.serves = Some(false);
    }

    /// An answer shows that a peer serves which was believed not to. It says nothing about a peer's list that is
    /// unknown.
    fn on_answer(&mut self) {
        if self.serves == Some(false) {
            self.serves = Some(true);
        }
    }

    fn next_change(&mut self) -> Option<bool> {
        if self.serves == self.reported {
            return None;
        }
        self.reported = self.serves;
        self.serves
    }
}
