//! What the swarm sees of one connection: passes streams, requests and replies between the behaviour and the two halves.
//!
//! Knows: the swarm's events. Must not know: how streams are used (`stream`) or what requests are for.

#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use libp2p_swarm::handler::{
    ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound, ProtocolsChange,
};
use libp2p_swarm::{ConnectionHandler, ConnectionHandlerEvent, Stream, StreamUpgradeError, SubstreamProtocol};
use smallvec::SmallVec;

use super::stream::{InboundPool, OutboundPool, ProtocolNames, StreamConfig, StreamCounts};
use crate::core::{InboundId, Mode, Reply, Request, RequestError, RequestId, Response};

/// What the behaviour tells a connection.
#[derive(Debug)]
#[non_exhaustive]
pub enum ToHandler {
    /// Send this; ends in one [`FromHandler::Response`], unless it is cancelled or the connection closes first.
    Send {
        /// Its name.
        id: RequestId,
        /// What.
        request: Request,
    },
    /// Give up this request; no [`FromHandler::Response`] is made from now on, though one may be on its way.
    Cancel {
        /// Its name.
        id: RequestId,
    },
    /// The end of an inbound request.
    Reply {
        /// Its name.
        id: InboundId,
        /// What to do.
        reply: Reply,
    },
    /// Whether to take streams from now on. As a client all open ones are reset.
    SetMode(Mode),
}

/// What a connection tells the behaviour.
#[derive(Debug)]
#[non_exhaustive]
pub enum FromHandler {
    /// The peer asks; ends in one [`ToHandler::Reply`], unless [`FromHandler::RequestGone`] comes first or the
    /// connection closes.
    Request {
        /// Its name: the connection's number in the upper 32 bits.
        id: InboundId,
        /// What.
        request: Request,
    },
    /// The stream of a request is gone before its reply.
    RequestGone {
        /// Its name.
        id: InboundId,
    },
    /// A request is being sent, on a stream or by the first bytes of one that is being opened for it. Before its
    /// [`FromHandler::Response`].
    Sent {
        /// Its name.
        id: RequestId,
        /// How long this node lets pass before an answer can come.
        settle: Duration,
    },
    /// The end of a request that was sent.
    Response {
        /// Its name.
        id: RequestId,
        /// How it ended.
        result: Result<Response, RequestError>,
    },
    /// Whether the peer speaks one of our protocols, as it says itself or as a negotiation showed. Told on change only.
    Serves(bool),
}

/// The streams of one connection.
///
/// When the connection closes, nothing more is reported: the behaviour ends the requests that it sent here as
/// [`RequestError::ConnectionClosed`], and the inbound ones, known by the connection's number, as gone.
#[derive(Debug)]
pub struct Handler {
    config: Arc<StreamConfig>,
    mode: Mode,
    outbound: OutboundPool,
    inbound: InboundPool,
    serves: Serves,
}

impl Handler {
    /// The handler of a new connection; `number` is the upper half of the names that it gives to inbound requests.
    pub(crate) fn new(config: Arc<StreamConfig>, mode: Mode, number: u32, counts: Arc<StreamCounts>) -> Handler {
        Handler {
            mode,
            outbound: OutboundPool::new(config.clone(), Arc::clone(&counts)),
            inbound: InboundPool::new(config.clone(), number, counts),
            serves: Serves::new(config.protocols.len()),
            config,
        }
    }

    fn next_event(&mut self) -> Option<FromHandler> {
        if let Some(yes) = self.serves.next_change() {
            return Some(FromHandler::Serves(yes));
        }
        if let Some((id, settle)) = self.outbound.next_begun() {
            return Some(FromHandler::Sent { id, settle });
        }
        if let Some((id, result)) = self.outbound.next_ended() {
            match &result {
                Ok(_) => self.serves.contradict(),
                Err(RequestError::Unsupported) => self.serves.learn(false),
                Err(_) => {}
            }
            return Some(FromHandler::Response { id, result });
        }
        self.inbound.next_news()
    }

    fn on_inbound(&mut self, stream: Stream) {
        // Where the mode changed during the negotiation, the stream is dropped.
        if self.mode == Mode::Server {
            self.inbound.on_stream(stream);
        }
    }

    fn on_outbound_failed(&mut self, error: &StreamUpgradeError<Infallible>) {
        if self.outbound.on_stream_failed(error) {
            self.serves.learn(false);
        }
    }

    fn on_remote_protocols(&mut self, change: ProtocolsChange<'_>) {
        let (names, yes) = match &change {
            ProtocolsChange::Added(names) => (names.clone().collect::<SmallVec<[_; 16]>>(), true),
            ProtocolsChange::Removed(names) => (names.clone().collect(), false),
        };
        let ours = self.config.protocols.iter().enumerate().filter(|(_, ours)| names.contains(ours));
        self.serves.on_listed(ours.map(|(index, _)| index), yes);
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
        let names = match self.mode {
            Mode::Server => ProtocolNames::all(self.config.clone()),
            Mode::Client => ProtocolNames::none(self.config.clone()),
        };
        SubstreamProtocol::new(names, ()).with_timeout(self.config.inbound_request_timeout)
    }

    fn connection_keep_alive(&self) -> bool {
        self.outbound.is_busy() || self.inbound.is_busy()
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
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol, .. }) => {
                self.on_inbound(protocol);
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol, .. }) => {
                self.outbound.on_stream(protocol);
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { error, .. }) => self.on_outbound_failed(&error),
            ConnectionEvent::RemoteProtocolsChange(change) => self.on_remote_protocols(change),
            _ => {}
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ConnectionHandlerEvent<ProtocolNames, (), FromHandler>> {
        if let Some(event) = self.next_event() {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(event));
        }
        let opens = self.outbound.poll(cx);
        self.inbound.poll(cx);
        if opens {
            let protocol = SubstreamProtocol::new(ProtocolNames::all(self.config.clone()), ())
                .with_timeout(self.config.open_timeout);
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
        }
        match self.next_event() {
            Some(event) => Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(event)),
            None => Poll::Pending,
        }
    }
}

/// What is known of the peer's protocols, and whether the behaviour was told.
#[derive(Debug)]
struct Serves {
    /// Which of our names the peer lists.
    listed: SmallVec<[bool; 4]>,
    known: Option<bool>,
    told: Option<bool>,
}

impl Serves {
    fn new(names: usize) -> Serves {
        Serves { listed: SmallVec::from_elem(false, names), known: None, told: None }
    }

    /// The peer added these of our names to its list, or removed them from it. The first list tells something even
    /// where it has none of them; later ones only where it does.
    fn on_listed(&mut self, names: impl Iterator<Item = usize>, yes: bool) {
        let mut news = self.known.is_none();
        for name in names {
            if let Some(listed) = self.listed.get_mut(name) {
                *listed = yes;
                news = true;
            }
        }
        if news {
            self.known = Some(self.listed.contains(&true));
        }
    }

    fn learn(&mut self, yes: bool) {
        self.known = Some(yes);
    }

    /// The peer answered: if it was thought not to serve, it does now.
    fn contradict(&mut self) {
        if self.known == Some(false) {
            self.known = Some(true);
        }
    }

    fn next_change(&mut self) -> Option<bool> {
        if self.known == self.told {
            return None;
        }
        self.told = self.known;
        self.known
    }
}
