//! The streams that a peer has open on one connection: how many there may be, and which request is on which.
//!
//! Knows: ids of requests, and limits. Must not know: the states of one stream (`inbound`), or what the answers are.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};

use libp2p_swarm::Stream;

use super::config::StreamConfig;
use super::counts::StreamCounts;
use super::inbound::InboundStream;
use crate::core::{InboundId, Reply};
use crate::net::messages::FromHandler;
use crate::net::timer::PollClock;

/// The streams of a peer.
#[derive(Debug)]
pub(crate) struct InboundPool {
    config: Arc<StreamConfig>,
    counts: Arc<StreamCounts>,
    /// The connection's number: the upper half of each request's id.
    connection: u32,
    /// The lower half of the next request's id.
    next: u32,
    /// In the order in which they were opened or became idle, the longest idle first.
    streams: VecDeque<InboundStream>,
    events: VecDeque<FromHandler>,
}

impl InboundPool {
    pub(crate) fn new(config: Arc<StreamConfig>, connection: u32, counts: Arc<StreamCounts>) -> InboundPool {
        InboundPool { config, counts, connection, next: 0, streams: VecDeque::new(), events: VecDeque::new() }
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
        self.streams.push_back(InboundStream::new(stream));
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
        self.events.retain(|event| matches!(event, FromHandler::RequestGone { .. }));
        let pending = self.streams.drain(..).filter_map(|stream| stream.pending());
        self.events.extend(pending.map(|id| FromHandler::RequestGone { id }));
    }

    /// Whether the connection must stay open.
    pub(crate) fn is_busy(&self) -> bool {
        !self.events.is_empty() || self.streams.iter().any(InboundStream::is_busy)
    }

    /// The next request, or the end of one.
    pub(crate) fn next_event(&mut self) -> Option<FromHandler> {
        self.events.pop_front()
    }

    /// Polls all streams.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, clock: &mut PollClock) {
        let mut buffered = 0;
        let mut index = 0;
        while let Some(stream) = self.streams.get_mut(index) {
            let polled = stream.poll(cx, clock, &self.config);
            match polled.map_err(|error| tracing::debug!(%error, "resets a stream")) {
                Poll::Ready(Ok(Some(request))) => {
                    let id = InboundId::new(u64::from(self.connection) << 32 | u64::from(self.next));
                    self.next = self.next.wrapping_add(1);
                    stream.wait(id, request.kind());
                    self.events.push_back(FromHandler::Request { id, request });
                    // The index stays: the stream must be polled again, to be woken when it breaks.
                }
                Poll::Pending if buffered + stream.buffered() <= self.config.inbound_buffer => {
                    buffered += stream.buffered();
                    index += 1;
                }
                // Finished, or beyond the buffer that all streams share.
                Poll::Pending | Poll::Ready(_) => {
                    if let Some(id) = self.streams.remove(index).and_then(|stream| stream.pending()) {
                        self.events.push_back(FromHandler::RequestGone { id });
                    }
                }
            }
        }
    }
}
