//! One stream of this node: writes a request, or several announcements, and reads how that ended (rule L30).
//!
//! Knows: the order of writing and reading, and what each way to end means. Must not know: where streams come from, or
//! how long a request may take: the core cancels what takes too long.

use std::io;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use libp2p_core::upgrade::NegotiationError;

use super::config::StreamConfig;
use super::framed::{Framed, ReadError};
use crate::core::{Kind, RequestError, RequestId, Response};
use crate::net::timer::{Deadline, PollClock};
use crate::wire;

/// An encoded request.
#[derive(Debug)]
pub(crate) struct OutboundRequest {
    pub(crate) id: RequestId,
    pub(crate) kind: Kind,
    /// The message behind its length.
    pub(crate) message: Bytes,
    /// Whether the request must not use a stream that was used before.
    pub(crate) needs_new_stream: bool,
    /// Whether the request must not share a stream: it did before, and one of the requests on that stream was refused.
    pub(crate) alone: bool,
    /// Whether the request was reported as being sent.
    pub(crate) reported: bool,
    /// Whether the request was sent again because the peer may have had too many streams.
    pub(crate) retried: bool,
}

impl OutboundRequest {
    /// Whether the request may share a stream with others like it.
    pub(crate) fn is_shareable(&self) -> bool {
        self.kind == Kind::AddProvider && !self.alone
    }
}

/// How the requests of one stream ended.
#[derive(Debug)]
pub(crate) struct StreamEnd {
    pub(crate) ended: Vec<OutboundRequest>,
    /// The result of each request in `ended`.
    pub(crate) result: Result<Response, RequestError>,
    /// Requests to be sent again.
    pub(crate) retry: Vec<OutboundRequest>,
    /// The stream, if it can carry another request.
    pub(crate) idle: Option<Framed>,
}

/// How the requests of a stream ended, or that the stream broke.
type Polled = Poll<io::Result<StreamOutcome>>;

#[derive(Debug)]
enum OutboundState {
    /// Writes and flushes.
    Writing(Bytes),
    /// Reads the answer.
    Reading,
    /// An announcement waits for a refusal until the deadline.
    Settling(Deadline),
    /// An announcement closes this node's side.
    Closing,
    /// An announcement waits for the peer to close its side too.
    Draining,
}

/// A stream with the requests on it: one, or several announcements.
///
/// An announcement has no answer. A peer has read it when it closes its side after this node has closed its own.
/// Implementations do so: `libp2p-kad` 0.49 passes an ADD_PROVIDER to its behaviour and reads on (`handler.rs`,
/// `WaitingMessage`), reads our end of input and drops the stream, which yamux turns into a FIN because ours came first
/// and QUIC turns into one always. A peer that refuses resets instead. yamux shows a reset to the reader as an end of
/// input as well, and only before this node closes its own side are the two distinguishable (see
/// [`Framed::was_reset`]): so this node closes after [`StreamConfig::announcement_settle`].
///
/// Announcements that wait for the same peer share a stream, since each would occupy one for that long: every peer
/// reads on after one (specification, A60). A good end of the stream acknowledges all that were written to it.
#[derive(Debug)]
pub(crate) struct OutboundStream {
    /// In the order in which they are written; never empty.
    requests: Vec<OutboundRequest>,
    kind: Kind,
    framed: Framed,
    /// Whether the stream was used before.
    reused: bool,
    state: OutboundState,
}

impl OutboundStream {
    /// A stream for `request` and the announcements that share it.
    pub(crate) fn new(
        request: OutboundRequest,
        others: Vec<OutboundRequest>,
        framed: Framed,
        reused: bool,
    ) -> OutboundStream {
        let kind = request.kind;
        let message = match others.is_empty() {
            true => request.message.clone(),
            false => {
                let all = [&request].into_iter().chain(&others);
                all.flat_map(|one| one.message.iter().copied()).collect::<Vec<_>>().into()
            }
        };
        let requests = [request].into_iter().chain(others).collect();
        OutboundStream { requests, kind, framed, reused, state: OutboundState::Writing(message) }
    }

    /// Whether the stream carries one request, which was not sent again before.
    pub(crate) fn may_be_retried(&self) -> bool {
        matches!(&self.requests[..], [request] if !request.retried)
    }

    /// Gives up a request. Returns whether none is left on the stream.
    pub(crate) fn cancel(&mut self, id: RequestId) -> bool {
        self.requests.retain(|request| request.id != id);
        self.requests.is_empty()
    }

    /// The end of its requests, after [`OutboundStream::poll`] returned this outcome.
    pub(crate) fn end(mut self, outcome: StreamOutcome) -> StreamEnd {
        let (result, mut retry, idle) = match outcome {
            StreamOutcome::Answered(response) => (Ok(response), Vec::new(), Some(self.framed)),
            StreamOutcome::Finished(response) => (Ok(response), Vec::new(), None),
            // The first announcement may have ended, the others did not.
            StreamOutcome::Early => (Ok(Response::AddProvider), self.requests.split_off(1), None),
            // A refusal does not tell which of several announcements the peer refused: each is sent again on its own.
            StreamOutcome::Failed(RequestError::Refused) if self.requests.len() > 1 => {
                (Err(RequestError::Refused), std::mem::take(&mut self.requests), None)
            }
            StreamOutcome::Stale => (Err(RequestError::Refused), std::mem::take(&mut self.requests), None),
            StreamOutcome::Failed(error) => (Err(error), Vec::new(), None),
        };
        for request in &mut retry {
            (request.needs_new_stream, request.alone) = (true, true);
        }
        StreamEnd { ended: self.requests, result, retry, idle }
    }

    /// Makes progress, without a time limit. The outcome, or how the stream [broke](Self::broken), is final: the stream
    /// must be passed to [`OutboundStream::end`] or dropped.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, clock: &mut PollClock, config: &StreamConfig) -> Polled {
        loop {
            self.state = match &mut self.state {
                OutboundState::Writing(bytes) => {
                    ready!(self.framed.poll_send(cx, bytes))?;
                    match self.kind {
                        Kind::AddProvider => OutboundState::Settling(Deadline::default()),
                        _ => OutboundState::Reading,
                    }
                }
                OutboundState::Reading => return self.poll_answer(cx, config.max_message_in),
                OutboundState::Settling(deadline) => match self.framed.poll_fill(cx)? {
                    Poll::Ready(0) if self.framed.was_reset(cx) => {
                        return Poll::Ready(Ok(StreamOutcome::Failed(RequestError::Refused)));
                    }
                    // The peer closed its side, or sent an echo as the specification asks and py-libp2p does. Either
                    // acknowledges the first announcement only.
                    Poll::Ready(_) => return Poll::Ready(Ok(StreamOutcome::Early)),
                    Poll::Pending => {
                        ready!(deadline.poll(clock, config.announcement_settle));
                        OutboundState::Closing
                    }
                },
                OutboundState::Closing => {
                    ready!(self.framed.poll_close(cx))?;
                    OutboundState::Draining
                }
                OutboundState::Draining => {
                    ready!(self.framed.poll_fill(cx))?;
                    return Poll::Ready(Ok(StreamOutcome::Finished(Response::AddProvider)));
                }
            }
        }
    }

    fn poll_answer(&mut self, cx: &mut Context<'_>, limit: usize) -> Polled {
        let message = match ready!(self.framed.poll_message(cx, limit)) {
            Ok(Some(message)) => message,
            Ok(None) => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
            Err(ReadError::Broken(error)) => return Poll::Ready(Err(error)),
            Err(ReadError::Misbehaved(what)) => return Poll::Ready(Ok(StreamOutcome::Failed(what.into()))),
        };
        let clean = self.framed.buffered() == 0 && !self.framed.has_ended();
        Poll::Ready(Ok(match wire::decode_response(self.kind, message) {
            Ok(response) if clean => StreamOutcome::Answered(response),
            Ok(response) => StreamOutcome::Finished(response),
            Err(what) => StreamOutcome::Failed(what.into()),
        }))
    }

    /// The outcome of a stream that broke in this way.
    pub(crate) fn broken(&self, error: &io::Error) -> StreamOutcome {
        if matches!(error.get_ref().and_then(|inner| inner.downcast_ref()), Some(NegotiationError::Failed)) {
            // Only where the swarm is set to send before the peer has agreed to the protocol.
            return StreamOutcome::Failed(RequestError::Unsupported);
        }
        match self.reused && self.framed.buffered() == 0 {
            true => StreamOutcome::Stale,
            false => StreamOutcome::Failed(RequestError::Refused),
        }
    }
}

/// How a stream ended, or its current request.
#[derive(Debug)]
pub(crate) enum StreamOutcome {
    /// The answer is there and the stream can be used again.
    Answered(Response),
    /// All went well and the stream is finished.
    Finished(Response),
    /// The peer ended the stream, or sent something, before this node closed its side.
    Early,
    /// It failed; the stream must be reset.
    Failed(RequestError),
    /// The stream had been used before and the peer ended it without a byte for this request: another one must be
    /// tried.
    Stale,
}
