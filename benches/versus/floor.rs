//! No DHT: a behaviour that gives each message on the protocol the same ready answer. Its cost is that of swarm,
//! streams and transport, the minimum for any DHT in a swarm.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::core::upgrade::{DeniedUpgrade, ReadyUpgrade};
use libp2p::swarm::handler::{ConnectionEvent, FullyNegotiatedInbound};
use libp2p::swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm, NetworkBehaviour,
    NotifyHandler, Stream, SubstreamProtocol, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId, StreamProtocol};

use crate::node::PROTOCOL;

/// Passes each request up to the behaviour and its answer down again, as a DHT with one table has to.
pub(crate) struct Floor {
    answer: Bytes,
    replies: VecDeque<ToSwarm<(), u64>>,
}

impl Floor {
    pub(crate) fn new(answer: Bytes) -> Floor {
        Floor { answer, replies: VecDeque::new() }
    }

    fn handler(&self) -> Handler {
        let (reading, writing) = Default::default();
        Handler { answer: self.answer.clone(), reading, writing, waiting: HashMap::new(), last: 0 }
    }
}

/// The stream, and what was read of the next request.
type Step = io::Result<(Stream, Vec<u8>)>;

pub(crate) struct Handler {
    answer: Bytes,
    reading: FuturesUnordered<BoxFuture<'static, Step>>,
    writing: FuturesUnordered<BoxFuture<'static, Step>>,
    waiting: HashMap<u64, (Stream, Vec<u8>)>,
    last: u64,
}

async fn read(mut stream: Stream, mut read: Vec<u8>) -> Step {
    let mut chunk = [0; 2048];
    loop {
        if let Ok((len, rest)) = unsigned_varint::decode::usize(&read) {
            let whole = read.len() - rest.len() + len;
            if read.len() >= whole {
                read.drain(..whole);
                return Ok((stream, read));
            }
        }
        let count = stream.read(&mut chunk).await?;
        if count == 0 {
            stream.close().await?;
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        read.extend_from_slice(&chunk[..count]);
    }
}

async fn write(mut stream: Stream, rest: Vec<u8>, answer: Bytes) -> Step {
    stream.write_all(&answer).await?;
    stream.flush().await?;
    Ok((stream, rest))
}

impl ConnectionHandler for Handler {
    type FromBehaviour = u64;
    type ToBehaviour = u64;
    type InboundProtocol = ReadyUpgrade<StreamProtocol>;
    type OutboundProtocol = DeniedUpgrade;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol> {
        SubstreamProtocol::new(ReadyUpgrade::new(PROTOCOL), ())
    }

    fn on_behaviour_event(&mut self, id: u64) {
        if let Some((stream, rest)) = self.waiting.remove(&id) {
            self.writing.push(Box::pin(write(stream, rest, self.answer.clone())));
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, (), u64>> {
        loop {
            if let Poll::Ready(Some(written)) = self.writing.poll_next_unpin(cx) {
                if let Ok((stream, rest)) = written {
                    self.reading.push(Box::pin(read(stream, rest)));
                }
            } else if let Poll::Ready(Some(request)) = self.reading.poll_next_unpin(cx) {
                let Ok(request) = request else { continue };
                self.last += 1;
                self.waiting.insert(self.last, request);
                return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(self.last));
            } else {
                return Poll::Pending;
            }
        }
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<'_, Self::InboundProtocol, Self::OutboundProtocol>) {
        if let ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol, .. }) = event {
            self.reading.push(Box::pin(read(protocol, Vec::new())));
        }
    }
}

impl NetworkBehaviour for Floor {
    type ConnectionHandler = Handler;
    type ToSwarm = ();

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler())
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler())
    }

    fn on_swarm_event(&mut self, _: FromSwarm<'_>) {}

    fn on_connection_handler_event(&mut self, peer_id: PeerId, id: ConnectionId, event: THandlerOutEvent<Self>) {
        self.replies.push_back(ToSwarm::NotifyHandler { peer_id, handler: NotifyHandler::One(id), event });
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<(), THandlerInEvent<Self>>> {
        self.replies.pop_front().map_or(Poll::Pending, Poll::Ready)
    }
}
