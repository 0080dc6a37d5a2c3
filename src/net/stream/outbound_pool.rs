//! The requests of this node on one connection, and the streams that it has open for them.
//!
//! Knows: which request goes on which stream, and how many of each there may be. Must not know: what is asked, or how
//! one exchange goes (`outbound`).

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt as _;
use futures_timer::Delay;
use libp2p_swarm::{Stream, StreamUpgradeError};

use super::config::{SAFE_STREAMS_PER_PEER, StreamConfig};
use super::counts::StreamCounts;
use super::framed::Framed;
use super::outbound::{OutboundRequest, OutboundStream, StreamEnd, StreamOutcome};
use crate::core::{Kind, Request, RequestError, RequestId, Response};
use crate::wire;

/// So many announcements share a stream at most. Source: a peer keeps them one after the other, and one whose disk takes
/// 30 ms for each is done in half a second; eight streams carry 640 a second to one that is quicker.
const SHARING: usize = 16;

/// A request that is being sent, and how long this node lets pass before an answer can come.
pub(crate) type Begun = (RequestId, Duration);
/// The end of a request.
pub(crate) type Ended = (RequestId, Result<Response, RequestError>);

/// Requests in three places: waiting for a stream, on one, or ended.
#[derive(Debug)]
pub(crate) struct OutboundPool {
    config: Arc<StreamConfig>,
    counts: Arc<StreamCounts>,
    /// In order of arrival, but what is tried again comes first.
    queue: VecDeque<OutboundRequest>,
    exchanges: Vec<OutboundStream>,
    /// The longest idle one first.
    idle: VecDeque<Idle>,
    /// Streams asked of the swarm and not yet there.
    opening: usize,
    /// How many streams there may be, as far as is known of the peer.
    most: usize,
    /// Those of which it is to be told that they are being sent.
    begun: VecDeque<Begun>,
    ended: VecDeque<Ended>,
}

/// A stream that waits for the next request.
#[derive(Debug)]
struct Idle {
    framed: Framed,
    expiry: Delay,
}

impl OutboundPool {
    pub(crate) fn new(config: Arc<StreamConfig>, counts: Arc<StreamCounts>) -> OutboundPool {
        OutboundPool {
            counts,
            queue: VecDeque::new(),
            exchanges: Vec::new(),
            idle: VecDeque::new(),
            opening: 0,
            most: config.streams_per_peer,
            begun: VecDeque::new(),
            ended: VecDeque::new(),
            config,
        }
    }

    /// Takes a request.
    pub(crate) fn send(&mut self, id: RequestId, request: &Request) {
        if self.queue.len() + self.exchanges.len() >= self.config.queued_per_peer + self.config.streams_per_peer {
            return self.ended.push_back((id, Err(RequestError::Busy)));
        }
        let kind = request.kind();
        match wire::encode_request(request, self.config.max_message_out) {
            Ok(message) => self.queue.push_back(OutboundRequest {
                id,
                kind,
                message,
                fresh: kind == Kind::AddProvider,
                alone: false,
                begun: false,
                again: false,
            }),
            Err(error) => self.ended.push_back((id, Err(error))),
        }
    }

    /// Gives up a request, wherever it is; nothing is reported of it from now on.
    pub(crate) fn cancel(&mut self, id: RequestId) {
        self.queue.retain(|request| request.id != id);
        self.exchanges.retain_mut(|exchange| !exchange.give_up(id)); // dropping its stream resets it
        self.begun.retain(|(begun, _)| *begun != id);
        self.ended.retain(|(ended, _)| *ended != id);
    }

    /// The swarm opened a stream.
    pub(crate) fn on_stream(&mut self, stream: Stream) {
        self.opening = self.opening.saturating_sub(1);
        self.counts.outbound.add();
        let framed = Framed::new(stream);
        match self.queue.pop_front() {
            Some(mut request) => {
                let mut others = self.take_like(&request);
                [&mut request].into_iter().chain(&mut others).for_each(|sent| self.begin(sent));
                self.exchanges.push(match others.is_empty() {
                    true => OutboundStream::new(request, framed, false),
                    false => OutboundStream::shared(request, others, framed),
                });
            }
            None => self.keep_idle(framed),
        }
    }

    fn keep_idle(&mut self, framed: Framed) {
        self.idle.push_back(Idle { framed, expiry: Delay::new(self.config.outbound_idle_timeout) });
    }

    /// Tells that a request is being sent: on a stream, or by the first bytes of one that is being opened for it.
    fn begin(&mut self, request: &mut OutboundRequest) {
        if !std::mem::replace(&mut request.begun, true) {
            let settle = match request.kind {
                Kind::AddProvider => self.config.announcement_settle,
                _ => Duration::ZERO,
            };
            self.begun.push_back((request.id, settle));
        }
    }

    /// Takes those out of the queue that may share the stream of this request.
    fn take_like(&mut self, request: &OutboundRequest) -> Vec<OutboundRequest> {
        let mut others = Vec::new();
        if request.is_sociable() {
            for other in std::mem::take(&mut self.queue) {
                match other.is_sociable() && others.len() + 1 < SHARING {
                    true => others.push(other),
                    false => self.queue.push_back(other),
                }
            }
        }
        others
    }

    /// The swarm could not open a stream. Says whether that shows that the peer does not speak the protocol: no stream
    /// of this connection does, and nothing but an end of the negotiation came instead (a peer that has too many
    /// streams may look the same while others of ours work).
    pub(crate) fn on_stream_failed<E>(&mut self, error: &StreamUpgradeError<E>) -> bool {
        self.opening = self.opening.saturating_sub(1);
        let error = match error {
            StreamUpgradeError::NegotiationFailed if self.exchanges.is_empty() && self.idle.is_empty() => {
                let unsupported = Err(RequestError::Unsupported);
                self.ended.extend(self.queue.drain(..).map(|request| (request.id, unsupported.clone())));
                return true;
            }
            StreamUpgradeError::Timeout => RequestError::Timeout,
            _ if self.had_too_many() => return false,
            _ => RequestError::Refused,
        };
        if let Some(request) = self.queue.pop_front() {
            self.ended.push_back((request.id, Err(error)));
        }
        false
    }

    fn streams(&self) -> usize {
        self.exchanges.len() + self.opening + self.idle.len()
    }

    /// Where a stream is refused while there are more than every server takes, there may be too many: from now on the node
    /// keeps to those. Says whether that may be the reason.
    fn had_too_many(&mut self) -> bool {
        let many = self.streams() >= SAFE_STREAMS_PER_PEER;
        if many {
            self.most = self.most.min(SAFE_STREAMS_PER_PEER);
        }
        many
    }

    /// Whether a request waits for its end.
    pub(crate) fn is_busy(&self) -> bool {
        !(self.queue.is_empty() && self.exchanges.is_empty() && self.begun.is_empty() && self.ended.is_empty())
    }

    /// The next request that is being sent.
    pub(crate) fn next_begun(&mut self) -> Option<Begun> {
        self.begun.pop_front()
    }

    /// The next request that ended.
    pub(crate) fn next_ended(&mut self) -> Option<Ended> {
        self.ended.pop_front()
    }

    /// Goes on with everything; says whether the swarm is to open another stream.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> bool {
        loop {
            self.poll_exchanges(cx);
            self.poll_idle(cx);
            if !self.reuse() {
                break;
            }
        }
        self.wants_stream()
    }

    fn poll_exchanges(&mut self, cx: &mut Context<'_>) {
        let mut index = 0;
        while let Some(exchange) = self.exchanges.get_mut(index) {
            let Poll::Ready(outcome) = exchange.poll(cx, &self.config) else {
                index += 1;
                continue;
            };
            let exchange = self.exchanges.swap_remove(index);
            let refused = matches!(outcome, StreamOutcome::Failed(RequestError::Refused));
            if refused && exchange.may_be_tried_again() && self.had_too_many() {
                self.queue.push_front(exchange.again());
                continue;
            }
            let id = exchange.id();
            match exchange.end(outcome) {
                StreamEnd::Stale(request) => self.queue.push_front(request),
                StreamEnd::Shared(ids, result) => self.ended.extend(ids.into_iter().map(|id| (id, result.clone()))),
                StreamEnd::Apart(first, others) => {
                    self.ended.extend(first.map(|id| (id, Ok(Response::AddProvider))));
                    others.into_iter().rev().for_each(|other| self.queue.push_front(other));
                }
                StreamEnd::Finished(result, stream) => {
                    self.ended.push_back((id, result));
                    if let Some(framed) = stream {
                        self.keep_idle(framed);
                    }
                }
            }
        }
    }

    /// Drops the streams that the peer closed or on which it said something that nobody asked for; closes those that
    /// were idle for too long.
    fn poll_idle(&mut self, cx: &mut Context<'_>) {
        self.idle.retain_mut(|idle| {
            if idle.framed.poll_fill(cx).is_ready() {
                return false;
            }
            if idle.expiry.poll_unpin(cx).is_ready() {
                // In good order if the muxer takes it at once; else dropping resets it, which does no harm either.
                let _ = idle.framed.poll_close(cx);
                return false;
            }
            true
        });
    }

    /// Puts a waiting request on an idle stream; the one used last is the likeliest to work.
    fn reuse(&mut self) -> bool {
        if self.idle.is_empty() {
            return false;
        }
        let Some(index) = self.queue.iter().position(|request| !request.fresh) else { return false };
        let (Some(idle), Some(mut request)) = (self.idle.pop_back(), self.queue.remove(index)) else { return false };
        self.begin(&mut request);
        self.counts.reused.add();
        self.exchanges.push(OutboundStream::new(request, idle.framed, true));
        true
    }

    fn wants_stream(&mut self) -> bool {
        if self.opening >= self.queue.len() {
            return false;
        }
        if self.streams() >= self.most {
            // What still waits cannot go on an idle stream.
            if self.idle.pop_front().is_none() {
                return false;
            }
        }
        if let Some(mut request) = self.queue.remove(self.opening) {
            self.begin(&mut request);
            self.queue.insert(self.opening, request);
        }
        self.opening += 1;
        true
    }
}
