//! The requests of this node on one connection, and the streams that it has open for them.
//!
//! Knows: which request goes on which stream, and how many of each there may be. Must not know: what is asked, or the
//! states of one stream (`outbound`).
//!
//! The head of `stream` says how the end of a stream acknowledges an announcement.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use libp2p_identity::PeerId;
use libp2p_swarm::{Stream, StreamUpgradeError};

use super::config::StreamConfig;
use super::counts::StreamCounts;
use super::framed::Framed;
use super::outbound::{OutboundRequest, OutboundStream, StreamOutcome};
use crate::core::{Kind, Request, RequestError, RequestId, Response};
use crate::net::messages::FromHandler;
use crate::net::timer::{Deadline, PollClock};
use crate::wire;

/// Maximum number of announcements that share a stream. Source: a peer stores them one after the other, and one whose
/// disk takes 30 ms for each is done in half a second; eight streams carry 640 a second to a faster one.
const MAX_SHARED: usize = 16;

/// Requests that wait for a stream, that are on one, or that ended.
#[derive(Debug)]
pub(crate) struct OutboundPool {
    peer: PeerId,
    config: Arc<StreamConfig>,
    counts: Arc<StreamCounts>,
    /// In order of arrival; requests that are sent again come first.
    queue: VecDeque<OutboundRequest>,
    streams: Vec<OutboundStream>,
    /// Streams that wait for the next request, each until its deadline; the longest idle one first.
    idle: VecDeque<(Framed, Deadline)>,
    /// Number of streams that the swarm was asked for and has not opened yet.
    opening: usize,
    /// Maximum number of streams, as far as the peer's limit is known.
    max_streams: usize,
    /// [`FromHandler::Sent`] and [`FromHandler::Response`].
    events: VecDeque<FromHandler>,
}

impl OutboundPool {
    pub(crate) fn new(peer: PeerId, config: Arc<StreamConfig>, counts: Arc<StreamCounts>) -> OutboundPool {
        OutboundPool {
            peer,
            counts,
            queue: VecDeque::new(),
            streams: Vec::new(),
            idle: VecDeque::new(),
            opening: 0,
            max_streams: config.streams_per_peer,
            events: VecDeque::new(),
            config,
        }
    }

    /// Takes a request.
    pub(crate) fn send(&mut self, id: RequestId, request: &Request) {
        if self.queue.len() + self.streams.len() >= self.config.queued_per_peer + self.config.streams_per_peer {
            return self.finish(id, Err(RequestError::Busy));
        }
        let kind = request.kind();
        match wire::encode_request(request, self.config.max_message_out) {
            Ok(message) => self.queue.push_back(OutboundRequest {
                id,
                kind,
                message,
                needs_new_stream: false,
                alone: false,
                reported: false,
                retried: false,
            }),
            Err(error) => self.finish(id, Err(error)),
        }
    }

    /// Gives up a request, wherever it is; nothing is reported of it from now on.
    pub(crate) fn cancel(&mut self, cancelled: RequestId) {
        self.queue.retain(|request| request.id != cancelled);
        self.streams.retain_mut(|stream| !stream.cancel(cancelled)); // dropping a stream resets it
        self.events.retain(|event| match event {
            FromHandler::Sent { id } | FromHandler::Response { id, .. } => *id != cancelled,
            _ => true,
        });
    }

    /// The swarm opened a stream.
    pub(crate) fn on_stream(&mut self, stream: Stream) {
        self.opening = self.opening.saturating_sub(1);
        self.counts.outbound.increment();
        let framed = Framed::new(stream);
        match self.queue.pop_front() {
            Some(request) => self.start(request, framed, false),
            None => self.idle.push_back((framed, Deadline::default())),
        }
    }

    fn finish(&mut self, id: RequestId, result: Result<Response, RequestError>) {
        self.events.push_back(FromHandler::Response { id, result });
    }

    /// Reports once that a request is being sent, on a stream or with the first bytes of one that is being opened for
    /// it.
    fn report_sent(&mut self, request: &mut OutboundRequest) {
        if !request.reported {
            request.reported = true;
            self.events.push_back(FromHandler::Sent { id: request.id });
        }
    }

    /// Puts a request on a stream, with the announcements of the queue that may share it.
    fn start(&mut self, request: OutboundRequest, framed: Framed, reused: bool) {
        let proof = match request.kind {
            Kind::AddProvider => self.proof(),
            _ => Ok(Bytes::new()),
        };
        let mut requests = self.take_shareable(request);
        match proof {
            Ok(proof) => {
                requests.iter_mut().for_each(|request| self.report_sent(request));
                self.streams.extend(OutboundStream::new(requests, &proof, framed, reused));
            }
            Err(error) => requests.into_iter().for_each(|request| self.finish(request.id, Err(error))),
        }
    }

    /// The request and the announcements of the queue that may share its stream.
    fn take_shareable(&mut self, request: OutboundRequest) -> Vec<OutboundRequest> {
        let shareable = request.is_shareable();
        let mut requests = vec![request];
        if shareable {
            for other in std::mem::take(&mut self.queue) {
                match other.is_shareable() && requests.len() < MAX_SHARED {
                    true => requests.push(other),
                    false => self.queue.push_back(other),
                }
            }
        }
        requests
    }

    /// What to send behind announcements: a FIND_NODE for the peer's own id, which the Go implementation answers with
    /// one peer instead of twenty.
    fn proof(&self) -> Result<Bytes, RequestError> {
        let key = self.peer.to_bytes().into();
        wire::encode_request(&Request::FindNode { key }, self.config.max_message_out)
    }

    /// The swarm could not open a stream. Returns whether that shows that the peer does not speak the protocol.
    pub(crate) fn on_stream_failed<E>(&mut self, error: &StreamUpgradeError<E>) -> bool {
        self.opening = self.opening.saturating_sub(1);
        let error = match error {
            // While another stream works, the peer does speak the protocol: one that has too many streams may end a
            // negotiation in the same way.
            StreamUpgradeError::NegotiationFailed if self.streams.is_empty() && self.idle.is_empty() => {
                for request in std::mem::take(&mut self.queue) {
                    self.finish(request.id, Err(RequestError::Unsupported));
                }
                return true;
            }
            StreamUpgradeError::Timeout => RequestError::Timeout,
            _ if self.had_too_many() => return false,
            _ => RequestError::Refused,
        };
        if let Some(request) = self.queue.pop_front() {
            self.finish(request.id, Err(error));
        }
        false
    }

    fn open_streams(&self) -> usize {
        self.streams.len() + self.opening + self.idle.len()
    }

    /// Returns whether a stream may have been refused because there are more than every server accepts. From then on
    /// the node opens no more than those.
    fn had_too_many(&mut self) -> bool {
        let too_many = self.open_streams() >= StreamConfig::SAFE_STREAMS_PER_PEER;
        if too_many {
            self.max_streams = self.max_streams.min(StreamConfig::SAFE_STREAMS_PER_PEER);
        }
        too_many
    }

    /// Whether a request has not ended, or its end was not reported yet.
    pub(crate) fn is_busy(&self) -> bool {
        !(self.queue.is_empty() && self.streams.is_empty() && self.events.is_empty())
    }

    /// The next request that is being sent or that ended.
    pub(crate) fn next_event(&mut self) -> Option<FromHandler> {
        self.events.pop_front()
    }

    /// Polls all streams. Returns whether the swarm is to open another one.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, clock: &mut PollClock) -> bool {
        loop {
            self.poll_streams(cx);
            self.poll_idle(cx, clock);
            if !self.reuse() {
                return self.wants_stream();
            }
        }
    }

    fn poll_streams(&mut self, cx: &mut Context<'_>) {
        let mut index = 0;
        while let Some(stream) = self.streams.get_mut(index) {
            let Poll::Ready(result) = stream.poll(cx, &self.config) else {
                index += 1;
                continue;
            };
            let outcome = result.unwrap_or_else(|error| stream.broken(&error));
            let refused = matches!(outcome, StreamOutcome::Failed(RequestError::Refused));
            let may_be_retried = refused && stream.may_be_retried();
            let end = self.streams.swap_remove(index).end(outcome);
            if may_be_retried && self.had_too_many() {
                for request in end.ended {
                    self.queue.push_front(OutboundRequest { retried: true, ..request });
                }
                continue;
            }
            for request in end.ended {
                self.finish(request.id, end.result.clone());
            }
            for request in end.retry.into_iter().rev() {
                self.queue.push_front(request);
            }
            if let Some(framed) = end.idle {
                self.idle.push_back((framed, Deadline::default()));
            }
        }
    }

    /// Drops idle streams that the peer closed or on which it sent something unasked; closes those whose time expired.
    fn poll_idle(&mut self, cx: &mut Context<'_>, clock: &mut PollClock) {
        self.idle.retain_mut(|(framed, deadline)| {
            if framed.poll_fill(cx).is_ready() {
                return false;
            }
            let expired = deadline.poll(clock, self.config.outbound_idle_timeout).is_ready();
            if expired {
                // If the muxer closes it at once, it ends in good order; otherwise dropping resets it, which does no
                // harm either.
                let _ = framed.poll_close(cx);
            }
            !expired
        });
    }

    /// Puts a waiting request on an idle stream: the one used last, which is the least likely to be closed by the peer.
    fn reuse(&mut self) -> bool {
        if self.idle.is_empty() {
            return false;
        }
        let Some(index) = self.queue.iter().position(|request| !request.needs_new_stream) else { return false };
        let (Some((framed, _)), Some(request)) = (self.idle.pop_back(), self.queue.remove(index)) else {
            return false;
        };
        self.counts.reused.increment();
        self.start(request, framed, true);
        true
    }

    fn wants_stream(&mut self) -> bool {
        if self.opening >= self.queue.len() {
            return false;
        }
        // At the limit an idle stream makes room: the requests that still wait need a new one.
        if self.open_streams() >= self.max_streams && self.idle.pop_front().is_none() {
            return false;
        }
        if let Some(mut request) = self.queue.remove(self.opening) {
            self.report_sent(&mut request);
            self.queue.insert(self.opening, request);
        }
        self.opening += 1;
        true
    }
}
