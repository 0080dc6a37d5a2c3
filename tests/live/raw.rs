//! A raw peer: it passes every stream that is opened to it to a task, and opens streams on demand.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::{AsyncReadExt as _, AsyncWriteExt as _};
use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::core::upgrade::ReadyUpgrade;
use libp2p::swarm::handler::{ConnectionEvent, FullyNegotiatedInbound, FullyNegotiatedOutbound};
use libp2p::swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm, NetworkBehaviour,
    NotifyHandler, Stream, SubstreamProtocol, THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId, StreamProtocol};
use libp2p_kad_dht::wire;
use tokio::sync::oneshot;

use super::{Host, Node, PROTOCOL, soon};

/// The task of a stream that was opened to this peer.
type Serve = Arc<dyn Fn(Stream) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;
/// Receives a stream that this peer opened; dropped if the other side does not accept it.
type Opened = oneshot::Sender<Stream>;

pub(crate) struct Raw {
    serve: Serve,
    opens: VecDeque<(PeerId, Opened)>,
}

impl Host for Raw {}

impl Raw {
    /// A peer that runs this task for every stream that is opened to it.
    pub(crate) async fn start<F>(serve: impl Fn(Stream) -> F + Send + Sync + 'static) -> Node<Raw>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Raw::start_at("127.0.0.1", serve).await
    }

    /// The same at this IPv4 address.
    pub(crate) async fn start_at<F>(ip: &str, serve: impl Fn(Stream) -> F + Send + Sync + 'static) -> Node<Raw>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let serve: Serve = Arc::new(move |stream| Box::pin(serve(stream)));
        Node::start_at(ip, Duration::from_secs(600), |_| Raw { serve, opens: VecDeque::new() }).await
    }

    /// A peer that accepts streams and sends nothing.
    pub(crate) async fn mute() -> Node<Raw> {
        Raw::start(|stream| async move {
            let _open = stream;
            std::future::pending::<()>().await;
        })
        .await
    }
}

impl Node<Raw> {
    /// Opens a stream to a connected peer; `None` if the peer does not accept it.
    pub(crate) async fn open(&self, peer: PeerId) -> Option<Stream> {
        let (sender, receiver) = oneshot::channel();
        self.act(move |swarm| swarm.behaviour_mut().opens.push_back((peer, sender))).await;
        soon(receiver).await.ok()
    }
}

impl NetworkBehaviour for Raw {
    type ConnectionHandler = RawHandler;
    type ToSwarm = ();

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<RawHandler, ConnectionDenied> {
        Ok(RawHandler { serve: Arc::clone(&self.serve), opens: VecDeque::new(), opening: VecDeque::new() })
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<RawHandler, ConnectionDenied> {
        Ok(RawHandler { serve: Arc::clone(&self.serve), opens: VecDeque::new(), opening: VecDeque::new() })
    }

    fn on_swarm_event(&mut self, _: FromSwarm<'_>) {}

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<(), THandlerInEvent<Self>>> {
        match self.opens.pop_front() {
            Some((peer_id, event)) => {
                Poll::Ready(ToSwarm::NotifyHandler { peer_id, handler: NotifyHandler::Any, event })
            }
            None => Poll::Pending,
        }
    }
}

pub(crate) struct RawHandler {
    serve: Serve,
    opens: VecDeque<Opened>,
    opening: VecDeque<Opened>,
}

impl ConnectionHandler for RawHandler {
    type FromBehaviour = Opened;
    type ToBehaviour = std::convert::Infallible;
    type InboundProtocol = ReadyUpgrade<StreamProtocol>;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol> {
        SubstreamProtocol::new(ReadyUpgrade::new(PROTOCOL), ())
    }

    fn on_behaviour_event(&mut self, opened: Opened) {
        self.opens.push_back(opened);
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<'_, Self::InboundProtocol, Self::OutboundProtocol>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol, .. }) => {
                tokio::spawn((self.serve)(protocol));
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol, .. }) => {
                if let Some(opened) = self.opening.pop_front() {
                    let _ = opened.send(protocol);
                }
            }
            ConnectionEvent::DialUpgradeError(_) => {
                self.opening.pop_front();
            }
            _ => {}
        }
    }

    fn poll(
        &mut self,
        _: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, (), Self::ToBehaviour>> {
        let Some(opened) = self.opens.pop_front() else { return Poll::Pending };
        self.opening.push_back(opened);
        let protocol = SubstreamProtocol::new(ReadyUpgrade::new(PROTOCOL), ());
        Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol })
    }
}

/// The next message on a stream; `None` at its end.
pub(crate) async fn read(stream: &mut Stream) -> Option<Bytes> {
    let mut received = BytesMut::new();
    loop {
        if let Ok(Some(message)) = wire::frame::take(&mut received, wire::MAX_IN) {
            return Some(message);
        }
        let mut byte = [0];
        if stream.read(&mut byte).await.ok()? == 0 {
            return None;
        }
        received.extend_from_slice(&byte);
    }
}

/// Writes bytes. Returns whether that worked.
pub(crate) async fn write(stream: &mut Stream, bytes: &[u8]) -> bool {
    stream.write_all(bytes).await.is_ok() && stream.flush().await.is_ok()
}
