//! The streams that a peer has open on one connection: how many there may be, and which request is on which.
//!
//! Knows: ids of requests, and limits. Must not know: the states of one stream (`inbound`), or what the answers are.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};

use libp2p_identity::PeerId;
use libp2p_swarm::Stream;

use super::config::StreamConfig;
use super::counts::StreamCounts;
use super::inbound::InboundStream;
use super::turns::Turn;
use crate::core::{InboundId, Reply, Request, Share};
use crate::net::messages::FromHandler;
use crate::net::timer::PollClock;

/// The streams of a peer.
#[derive(Debug)]
pub(crate) struct InboundPool {
    config: Arc<StreamConfig>,
    counts: Arc<StreamCounts>,
    peer: PeerId,
    /// The connection's number: the upper half of each request's id.
    connection: u32,
    /// The lower half of the next request's id.
    next: u32,
    /// In the order in which they were opened or became idle, the longest idle first.
    streams: VecDeque<InboundStream>,
    /// The requests that have not had their turn.
    requests: VecDeque<(InboundId, Request)>,
    /// Whether it is in line for a turn.
    in_line: bool,
    events: VecDeque<FromHandler>,
    /// Whether it has told the others that it holds bytes of unfinished requests.
    holds: bool,
}

impl InboundPool {
    pub(crate) fn new(
        peer: PeerId,
        config: Arc<StreamConfig>,
        connection: u32,
        place: Share,
        counts: Arc<StreamCounts>,
    ) -> InboundPool {
        counts.turns.join(connection, place);
        InboundPool {
            config,
            counts,
            peer,
            connection,
            next: 0,
            streams: VecDeque::new(),
            requests: VecDeque::new(),
            in_line: false,
            events: VecDeque::new(),
            holds: false,
        }
    }

    /// The peer opened a stream. At the limit it replaces the longest idle one; if none is idle, the new one is reset.
    pub(crate) fn on_stream(&mut self, stream: Stream) {
        self.counts.inbound.increment();
        if self.streams.len() >= self.config.inbound_streams {
            let Some(idle) = self.streams.iter().position(InboundStream::is_idle) else {
                self.counts.refused.increment();
                tracing::debug!(limit = self.config.inbound_streams, "resets a stream beyond the limit");
                return;
            };
            self.streams.remove(idle);
        }
        self.streams.push_back(InboundStream::new(self.peer, stream));
    }

    /// Passes on what the core decided about a request; ignores ids of requests that are gone.
    pub(crate) fn reply(&mut self, id: InboundId, reply: Reply) {
        let Some(index) = self.streams.iter().position(|stream| stream.pending() == Some(id)) else { return };
        let Some(mut stream) = self.streams.remove(index) else { return };
        if stream.reply(reply, &self.config) {
            self.streams.push_back(stream);
        }
    }

    /// Resets all streams.
    pub(crate) fn reset(&mut self) {
        self.events.retain(|event| matches!(event, FromHandler::RequestGone { .. } | FromHandler::Misbehaved(_)));
        let pending: Vec<_> = self.streams.drain(..).filter_map(|stream| stream.pending()).collect();
        pending.into_iter().for_each(|id| self.request_gone(id));
    }

    /// Whether the connection must stay open.
    pub(crate) fn is_busy(&self) -> bool {
        !self.events.is_empty() || self.streams.iter().any(InboundStream::is_busy)
    }

    /// The next request whose turn it is, or the end of one.
    pub(crate) fn next_event(&mut self, cx: &Context<'_>) -> Option<FromHandler> {
        if let Some(event) = self.events.pop_front() {
            return Some(event);
        }
        if self.requests.is_empty() {
            if std::mem::take(&mut self.in_line) {
                self.counts.turns.give_up(self.connection);
            }
            return None;
        }
        let turn = Turn::take(&self.counts.turns, self.connection, cx.waker());
        self.in_line = turn.is_none();
        let turn = turn?;
        let (id, request) = self.requests.pop_front()?;
        Some(FromHandler::Request { id, request, turn })
    }

    /// A request that the core knows is gone, or one that has not had its turn.
    fn request_gone(&mut self, id: InboundId) {
        match self.requests.iter().position(|(waiting, _)| *waiting == id) {
            Some(index) => _ = self.requests.remove(index),
            None => self.events.push_back(FromHandler::RequestGone { id }),
        }
    }

    /// Polls all streams.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, clock: &mut PollClock) {
        let mut untaken: usize = self.streams.iter().map(InboundStream::untaken).sum();
        let (mut index, mut paused) = (0, false);
        while let Some(stream) = self.streams.get_mut(index) {
            let before = stream.untaken();
            let polled = if stream.is_reading() && untaken > self.config.untaken_answers {
                paused = true;
                stream.poll_ahead(cx, &self.config)
            } else {
                stream.poll(cx, clock, &self.config)
            };
            untaken -= before - stream.untaken();
            match polled {
                Poll::Ready(Ok(Some(request))) => {
                    let id = InboundId::new(u64::from(self.connection) << 32 | u64::from(self.next));
                    self.next = self.next.wrapping_add(1);
                    stream.wait(id, request.kind());
                    self.requests.push_back((id, request));
                    // The index stays: the stream must be polled again, to be woken when it breaks.
                }
                Poll::Pending => index += 1,
                Poll::Ready(Ok(None)) => self.drop_stream(index),
                Poll::Ready(Err(error)) => {
                    tracing::debug!(%error, "resets a stream");
                    if let Some(what) = error.get_ref().and_then(|why| why.downcast_ref()) {
                        self.events.push_back(FromHandler::Misbehaved(*what));
                    }
                    self.drop_stream(index);
                }
            }
        }
        if paused && untaken <= self.config.untaken_answers {
            cx.waker().wake_by_ref(); // an answer was taken after the stream had its turn
        }
        self.count_buffered(cx);
    }

    /// Counts the bytes of unfinished requests, and drops these if all connections together hold too many and this one
    /// the most.
    fn count_buffered(&mut self, cx: &mut Context<'_>) {
        let buffered = self.streams.iter().map(InboundStream::buffered).sum();
        if buffered == 0 && !self.holds {
            return; // the lock would cost every request
        }
        self.holds = buffered > 0;
        let limit = self.config.inbound_buffer;
        if !self.holds {
            self.counts.inbound_bytes.release(self.connection);
        } else if self.counts.inbound_bytes.hold(self.connection, buffered, limit, cx.waker()) {
            tracing::debug!(buffered, limit, "resets unfinished requests: all connections hold too many bytes");
            while let Some(index) = self.streams.iter().position(|stream| stream.buffered() > 0) {
                self.drop_stream(index);
            }
            self.holds = false;
        }
    }

    fn drop_stream(&mut self, index: usize) {
        if let Some(id) = self.streams.remove(index).and_then(|stream| stream.pending()) {
            self.request_gone(id);
        }
    }
}

impl Drop for InboundPool {
    fn drop(&mut self) {
        self.counts.turns.leave(self.connection);
        self.counts.inbound_bytes.release(self.connection);
    }
}
