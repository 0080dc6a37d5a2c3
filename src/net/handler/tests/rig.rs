//! Two swarms in tasks of their own: a node, which is the handler and nothing else, and a raw peer, which hands its
//! streams to the test.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::{AsyncReadExt as _, AsyncWriteExt as _, StreamExt as _};
use libp2p::identity::Keypair;
use libp2p_core::muxing::StreamMuxerBox;
use libp2p_core::transport::{MemoryTransport, Transport as _};
use libp2p_core::upgrade::Version;
use libp2p_core::{Endpoint, Multiaddr, transport::PortUse};
use libp2p_identity::PeerId;
use libp2p_swarm::handler::{
    ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound, ProtocolSupport,
};
use libp2p_swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm, NetworkBehaviour,
    NotifyHandler, Stream, StreamProtocol, SubstreamProtocol, Swarm, SwarmEvent, ToSwarm,
};
use libp2p_swarm_test::SwarmExt as _;
use tokio::sync::mpsc;

use super::super::Handler;
use crate::core::{InboundId, Misbehaviour, Mode, Reply, Request, RequestError, RequestId, Response, Share};
use crate::net::messages::{FromHandler, ToHandler};
use crate::net::stream::{ProtocolNames, StreamConfig};
use crate::wire;

pub(super) const NAME: StreamProtocol = StreamProtocol::new("/test/kad/1.0.0");
pub(super) const OLD_NAME: StreamProtocol = StreamProtocol::new("/test/kad/0.9.0");

/// Fails a test that waits for too long.
pub(super) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("nothing came within 20 s")
}

pub(super) fn config() -> StreamConfig {
    StreamConfig {
        // Longer than a test waits: a stream that is reset in time was not reset by the timer.
        inbound_request_timeout: Duration::from_secs(60),
        ..StreamConfig::new([NAME])
    }
}

/// Commands from a test to a swarm.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "few live at a time")]
pub(super) enum Tell {
    Handler(ToHandler),
    Report(ProtocolSupport),
    Open,
}

/// Reports from a swarm to a test.
#[derive(Debug)]
pub(super) enum Heard {
    Handler(FromHandler),
    Inbound(Stream),
    Outbound(Option<Stream>),
    Closed,
}

/// One side of a connection.
pub(super) struct Side {
    tell: mpsc::Sender<Tell>,
    heard: mpsc::Receiver<Heard>,
    /// The requests that were reported as being sent, in order.
    pub(super) sent: Vec<u64>,
    pub(super) misbehaved: Vec<Misbehaviour>,
}

impl Side {
    pub(super) async fn tell(&self, tell: Tell) {
        self.tell.send(tell).await.expect("the swarm runs");
    }

    pub(super) async fn heard(&mut self) -> Heard {
        loop {
            match soon(self.heard.recv()).await.expect("the swarm runs") {
                Heard::Handler(FromHandler::Sent { id }) => self.sent.push(id.number()),
                Heard::Handler(FromHandler::Misbehaved(what)) => self.misbehaved.push(what),
                heard => return heard,
            }
        }
    }

    // The node's side.

    pub(super) async fn send(&self, id: u64, request: Request) {
        self.tell(Tell::Handler(ToHandler::Send { id: RequestId::new(id), request })).await;
    }

    pub(super) async fn cancel(&self, id: u64) {
        self.tell(Tell::Handler(ToHandler::Cancel { id: RequestId::new(id) })).await;
    }

    pub(super) async fn reply(&self, id: InboundId, reply: Reply) {
        self.tell(Tell::Handler(ToHandler::Reply { id, reply })).await;
    }

    pub(super) async fn set_mode(&self, mode: Mode) {
        self.tell(Tell::Handler(ToHandler::SetMode(mode))).await;
    }

    pub(super) async fn response(&mut self) -> (u64, Result<Response, RequestError>) {
        match self.heard().await {
            Heard::Handler(FromHandler::Response { id, result }) => (id.number(), result),
            other => panic!("expected a response: {other:?}"),
        }
    }

    pub(super) async fn request(&mut self) -> (InboundId, Request) {
        match self.heard().await {
            Heard::Handler(FromHandler::Request { id, request, .. }) => (id, request),
            other => panic!("expected a request: {other:?}"),
        }
    }

    pub(super) async fn serves(&mut self) -> bool {
        match self.heard().await {
            Heard::Handler(FromHandler::Serves(yes)) => yes,
            other => panic!("expected Serves: {other:?}"),
        }
    }

    // The raw peer's side.

    pub(super) async fn accept(&mut self) -> Stream {
        match self.heard().await {
            Heard::Inbound(stream) => stream,
            other => panic!("expected a stream: {other:?}"),
        }
    }

    /// Whether a stream was opened that the test did not accept yet.
    pub(super) fn try_accept(&mut self) -> Option<Stream> {
        match self.heard.try_recv() {
            Ok(Heard::Inbound(stream)) => Some(stream),
            Ok(other) => panic!("expected a stream: {other:?}"),
            Err(_) => None,
        }
    }

    pub(super) async fn try_open(&mut self) -> Option<Stream> {
        self.tell(Tell::Open).await;
        match self.heard().await {
            Heard::Outbound(stream) => stream,
            other => panic!("expected a stream: {other:?}"),
        }
    }

    pub(super) async fn open(&mut self) -> Stream {
        self.try_open().await.expect("the peer takes streams")
    }

    pub(super) async fn closed(&mut self) {
        match self.heard().await {
            Heard::Closed => {}
            other => panic!("expected the end of the connection: {other:?}"),
        }
    }
}

/// The transport of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) enum Net {
    /// Memory and yamux: a reset reads like an end.
    Memory,
    /// The same, and the node sends before the peer has agreed to the protocol.
    Lazy,
    /// QUIC: dropping a stream ends it.
    Quic,
}

/// A node and a raw peer that offers and opens streams of these names.
pub(super) async fn rig(config: StreamConfig, raw: &[StreamProtocol]) -> (Side, Side) {
    rig_with(config, raw, Duration::from_secs(60)).await
}

/// The same, with the time after which the node closes an idle connection.
pub(super) async fn rig_with(config: StreamConfig, raw: &[StreamProtocol], idle: Duration) -> (Side, Side) {
    let mut node = swarm(Net::Memory, idle, |_| Rig::new(Part::Node(Arc::new(config))));
    let raw = Part::Raw(Arc::new(StreamConfig::new(raw.iter().cloned())));
    let mut raw = swarm(Net::Memory, Duration::from_secs(600), |_| Rig::new(raw));
    connect(Net::Memory, &mut node, &mut raw).await;
    (run(node), run(raw))
}

/// Two nodes.
pub(super) async fn nodes(net: Net, one: StreamConfig, two: StreamConfig) -> (Side, Side) {
    let idle = Duration::from_secs(60);
    let mut one = swarm(net, idle, |_| Rig::new(Part::Node(Arc::new(one))));
    let mut two = swarm(net, idle, |_| Rig::new(Part::Node(Arc::new(two))));
    connect(net, &mut one, &mut two).await;
    (run(one), run(two))
}

/// A node and a swarm with a behaviour of its own, which is not run yet.
pub(super) async fn node_and<B>(net: Net, config: StreamConfig, other: impl FnOnce(PeerId) -> B) -> (Side, Swarm<B>)
where
    B: NetworkBehaviour<ToSwarm: std::fmt::Debug> + Send,
{
    let mut node = swarm(net, Duration::from_secs(60), |_| Rig::new(Part::Node(Arc::new(config))));
    let mut other = swarm(net, Duration::from_secs(60), other);
    connect(net, &mut node, &mut other).await;
    (run(node), other)
}

async fn connect<A, B>(net: Net, one: &mut Swarm<A>, two: &mut Swarm<B>)
where
    A: NetworkBehaviour<ToSwarm: std::fmt::Debug> + Send,
    B: NetworkBehaviour<ToSwarm: std::fmt::Debug> + Send,
{
    let addr = match net {
        Net::Memory | Net::Lazy => "/memory/0",
        Net::Quic => "/ip4/127.0.0.1/udp/0/quic-v1",
    };
    two.listen_on(addr.parse().expect("an address")).expect("it can listen");
    let addr = two
        .wait(|event| match event {
            SwarmEvent::NewListenAddr { address, .. } => Some(address),
            _ => None,
        })
        .await;
    two.add_external_address(addr);
    one.connect(two).await;
}

fn swarm<B: NetworkBehaviour>(net: Net, idle: Duration, behaviour: impl FnOnce(PeerId) -> B) -> Swarm<B> {
    let identity = Keypair::generate_ed25519();
    let peer = identity.public().to_peer_id();
    let transport = match net {
        Net::Memory | Net::Lazy => MemoryTransport::default()
            .upgrade(Version::V1)
            .authenticate(libp2p::plaintext::Config::new(&identity))
            .multiplex(libp2p::yamux::Config::default())
            .boxed(),
        Net::Quic => libp2p::quic::tokio::Transport::new(libp2p::quic::Config::new(&identity))
            .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)))
            .boxed(),
    };
    let mut config = libp2p_swarm::Config::with_tokio_executor().with_idle_connection_timeout(idle);
    if let Net::Lazy = net {
        config = config.with_substream_upgrade_protocol_override(Version::V1Lazy);
    }
    Swarm::new(transport, behaviour(peer), peer, config)
}

fn run(mut swarm: Swarm<Rig>) -> Side {
    let (tell, mut told) = mpsc::channel::<Tell>(1024);
    let (hear, heard) = mpsc::channel(1024);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                tell = told.recv() => match tell {
                    Some(tell) => swarm.behaviour_mut().told.push_back(tell),
                    None => break,
                },
                event = swarm.select_next_some() => {
                    let heard = match event {
                        SwarmEvent::Behaviour(heard) => heard,
                        SwarmEvent::ConnectionClosed { .. } => Heard::Closed,
                        _ => continue,
                    };
                    let _ = hear.send(heard).await;
                }
            }
        }
    });
    Side { tell, heard, sent: Vec::new(), misbehaved: Vec::new() }
}

#[derive(Clone)]
enum Part {
    Node(Arc<StreamConfig>),
    Raw(Arc<StreamConfig>),
}

struct Rig {
    part: Part,
    peer: Option<PeerId>,
    told: VecDeque<Tell>,
    heard: VecDeque<Heard>,
}

impl Rig {
    fn new(part: Part) -> Rig {
        Rig { part, peer: None, told: VecDeque::new(), heard: VecDeque::new() }
    }
}

impl NetworkBehaviour for Rig {
    type ConnectionHandler = RigHandler;
    type ToSwarm = Heard;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<RigHandler, ConnectionDenied> {
        self.peer = Some(peer);
        Ok(RigHandler::new(peer, &self.part))
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<RigHandler, ConnectionDenied> {
        self.peer = Some(peer);
        Ok(RigHandler::new(peer, &self.part))
    }

    fn on_swarm_event(&mut self, _: FromSwarm<'_>) {}

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, heard: Heard) {
        self.heard.push_back(heard);
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Heard, Tell>> {
        if let Some(heard) = self.heard.pop_front() {
            return Poll::Ready(ToSwarm::GenerateEvent(heard));
        }
        match (self.peer, self.told.pop_front()) {
            (Some(peer_id), Some(event)) => {
                Poll::Ready(ToSwarm::NotifyHandler { peer_id, handler: NotifyHandler::Any, event })
            }
            _ => Poll::Pending,
        }
    }
}

/// The handler under test with a way to report as identify would; or a raw one.
struct RigHandler {
    node: Option<Handler>,
    raw: Arc<StreamConfig>,
    reports: VecDeque<ProtocolSupport>,
    opens: usize,
    heard: VecDeque<Heard>,
}

impl RigHandler {
    fn new(peer: PeerId, part: &Part) -> RigHandler {
        let (node, raw) = match part {
            Part::Node(config) => (
                Some(Handler::new(peer, config.clone(), Mode::Server, 7, Share::default(), Arc::default())),
                config.clone(),
            ),
            Part::Raw(config) => (None, config.clone()),
        };
        RigHandler { node, raw, reports: VecDeque::new(), opens: 0, heard: VecDeque::new() }
    }
}

impl ConnectionHandler for RigHandler {
    type FromBehaviour = Tell;
    type ToBehaviour = Heard;
    type InboundProtocol = ProtocolNames;
    type OutboundProtocol = ProtocolNames;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<ProtocolNames> {
        match &self.node {
            Some(node) => node.listen_protocol(),
            None => SubstreamProtocol::new(ProtocolNames(Some(self.raw.clone())), ()),
        }
    }

    fn connection_keep_alive(&self) -> bool {
        self.node.as_ref().is_some_and(Handler::connection_keep_alive)
    }

    fn on_behaviour_event(&mut self, tell: Tell) {
        match (tell, &mut self.node) {
            (Tell::Handler(event), Some(node)) => node.on_behaviour_event(event),
            (Tell::Report(support), _) => self.reports.push_back(support),
            (Tell::Open, None) => self.opens += 1,
            (tell, _) => panic!("not for this side: {tell:?}"),
        }
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<'_, ProtocolNames, ProtocolNames>) {
        if let Some(node) = &mut self.node {
            return node.on_connection_event(event);
        }
        let heard = match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol, .. }) => {
                Heard::Inbound(protocol)
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol, .. }) => {
                Heard::Outbound(Some(protocol))
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { .. }) => Heard::Outbound(None),
            _ => return,
        };
        self.heard.push_back(heard);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ConnectionHandlerEvent<ProtocolNames, (), Heard>> {
        if let Some(support) = self.reports.pop_front() {
            return Poll::Ready(ConnectionHandlerEvent::ReportRemoteProtocols(support));
        }
        if let Some(heard) = self.heard.pop_front() {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(heard));
        }
        if self.opens > 0 {
            self.opens -= 1;
            let protocol = SubstreamProtocol::new(ProtocolNames(Some(self.raw.clone())), ());
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
        }
        match &mut self.node {
            Some(node) => node.poll(cx).map(|event| event.map_custom(Heard::Handler)),
            None => Poll::Pending,
        }
    }
}

// Bytes of the raw peer.

pub(super) fn find_node(key: &'static [u8]) -> Request {
    Request::FindNode { key: Bytes::from_static(key) }
}

pub(super) fn announcement() -> Request {
    let peer = Keypair::generate_ed25519().public().to_peer_id();
    let addr = "/ip4/127.0.0.1/tcp/4001".parse().expect("an address");
    let contact = crate::core::Contact::new(peer, [addr]);
    Request::AddProvider { key: b"content".to_vec().into(), providers: vec![contact] }
}

pub(super) fn empty_answer() -> Response {
    Response::FindNode { closer: Vec::new() }
}

pub(super) fn request_bytes(request: &Request) -> Bytes {
    wire::encode_request(request, wire::MAX_OUT).expect("it fits")
}

pub(super) fn answer_bytes(response: &Response) -> Bytes {
    wire::encode_response(response, wire::MAX_OUT).expect("it fits")
}

pub(super) async fn write(stream: &mut Stream, bytes: &[u8]) {
    soon(async {
        stream.write_all(bytes).await.expect("the stream is open");
        stream.flush().await.expect("the stream is open");
    })
    .await;
}

pub(super) async fn close(stream: &mut Stream) {
    soon(stream.close()).await.expect("the stream is open");
}

/// The next message of the node; `None` at the end of the stream.
pub(super) async fn read(stream: &mut Stream) -> Option<Bytes> {
    let mut received = BytesMut::new();
    loop {
        if let Some(message) = wire::frame::take(&mut received, wire::MAX_IN).expect("a frame") {
            assert!(received.is_empty(), "more than one message");
            return Some(message);
        }
        let mut byte = [0];
        if soon(stream.read(&mut byte)).await.ok()? == 0 {
            assert!(received.is_empty(), "ended within a message");
            return None;
        }
        received.extend_from_slice(&byte);
    }
}

pub(super) async fn read_request(stream: &mut Stream) -> Request {
    wire::decode_request(None, read(stream).await.expect("a message")).expect("a request")
}

/// Waits for the end of the stream; whether it was a reset: then nothing can be written either.
pub(super) async fn ends_with_reset(stream: &mut Stream) -> bool {
    assert_eq!(read(stream).await, None);
    soon(stream.write(b"x")).await.is_err()
}
