//! The streams that a peer has open on one connection: how many there may be, and which request is on which.
//!
//! Knows: names of requests, and limits. Must not know: how one stream goes (`inbound`), or what the answers are.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};

use libp2p_swarm::Stream;

use super::config::StreamConfig;
use super::counts::StreamCounts;
use super::inbound::{InboundStep, InboundStream};
use crate::core::{InboundId, Reply};
use crate::net::handler::FromHandler;

/// The streams of a peer.
#[derive(Debug)]
pub(crate) struct InboundPool {
    config: Arc<StreamConfig>,
    counts: Arc<StreamCounts>,
    /// The upper half of each name: the connection's number.
    connection: u32,
    /// The lower half of the next name.
    next: u32,
    /// In the order in which they came or became idle, the longest idle first.
    streams: VecDeque<InboundStream>,
    news: VecDeque<FromHandler>,
}

impl InboundPool {
    pub(crate) fn new(config: Arc<StreamConfig>, connection: u32, counts: Arc<StreamCounts>) -> InboundPool {
        InboundPool { config, counts, connection, next: 0, streams: VecDeque::new(), news: VecDeque::new() }
    }

    /// The peer opened a stream. At the limit the longest idle one makes room; where none is idle, the new one is reset.
    pub(crate) fn on_stream(&mut self, stream: Stream) {
        self.counts.inbound.add();
        if self.streams.len() >= self.config.inbound_streams {
            let Some(idle) = self.streams.iter().position(InboundStream::is_idle) else {
                self.counts.refused.add();
                tracing::debug!(limit = self.config.inbound_streams, "resets a stream beyond the limit");
                return;
            };
            self.streams.remove(idle);
        }
        self.streams.push_back(InboundStream::new(stream, &self.config));
    }

    /// The core decided about a request. Ignores names of requests that are gone.
    pub(crate) fn reply(&mut self, id: InboundId, reply: Reply) {
        let Some(index) = self.streams.iter().position(|stream| stream.pending() == Some(id)) else { return };
        let Some(mut stream) = self.streams.remove(index) else { return };
        if stream.reply(reply, &self.config) {
            self.streams.push_back(stream);
        }
    }

    /// Resets all streams.
    pub(crate) fn reset(&mut self) {
        self.news.retain(|news| matches!(news, FromHandler::RequestGone { .. }));
        let pending = self.streams.drain(..).filter_map(|stream| stream.pending());
        self.news.extend(pending.map(|id| FromHandler::RequestGone { id }));
    }

    /// Whether the connection must stay.
    pub(crate) fn is_busy(&self) -> bool {
        !self.news.is_empty() || self.streams.iter().any(InboundStream::is_busy)
    }

    /// The next request, or the end of one.
    pub(crate) fn next_news(&mut self) -> Option<FromHandler> {
        self.news.pop_front()
    }

    /// Goes on with all streams.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) {
        let mut buffered = 0;
        let mut index = 0;
        while let Some(stream) = self.streams.get_mut(index) {
            match stream.poll(cx, &self.config) {
                Poll::Ready(InboundStep::Asked(request)) => {
                    let id = InboundId::new(u64::from(self.connection) << 32 | u64::from(self.next));
                    self.next = self.next.wrapping_add(1);
                    stream.wait(id, request.kind());
                    self.news.push_back(FromHandler::Request { id, request });
                    // Once more at the same place: now it watches for the end of the stream.
                }
                Poll::Pending if buffered + stream.buffered() <= self.config.inbound_buffer => {
                    buffered += stream.buffered();
                    index += 1;
                }
                Poll::Pending | Poll::Ready(InboundStep::Over) => self.remove(index),
            }
        }
    }

    fn remove(&mut self, index: usize) {
        let gone = self.streams.remove(index).and_then(|stream| stream.pending());
        self.news.extend(gone.map(|id| FromHandler::RequestGone { id }));
    }
}
