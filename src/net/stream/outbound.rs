//! One request of this node on one stream, from the first byte written to the last one read.
//!
//! Knows: the order of writing and reading, and what each way to end means. Must not know: where streams come from, who
//! asked, or how long it may take: the core cancels what takes too long.

use std::io;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use futures_timer::Delay;
use libp2p_core::upgrade::NegotiationError;

use super::config::StreamConfig;
use super::framed::{Framed, ReadError};
use crate::core::{Kind, RequestError, RequestId, Response};
use crate::wire;

/// A request that is ready to be written.
#[derive(Debug)]
pub(crate) struct OutboundRequest {
    pub(crate) id: RequestId,
    pub(crate) kind: Kind,
    /// The message with its length in front.
    pub(crate) message: Bytes,
    /// Whether it must not go on a stream that was used before.
    pub(crate) fresh: bool,
    /// Whether it must not share a stream with others: it did, and something was wrong with one of them.
    pub(crate) alone: bool,
    /// Whether it was told that it is being sent.
    pub(crate) begun: bool,
    /// Whether it was tried again since the peer may have had too many streams.
    pub(crate) again: bool,
}

impl OutboundRequest {
    /// Whether it may go on one stream with others like it.
    pub(crate) fn is_sociable(&self) -> bool {
        self.kind == Kind::AddProvider && !self.alone
    }
}

/// How an exchange ended.
#[derive(Debug)]
pub(crate) enum StreamEnd {
    /// With this result. The stream is there if it can be used again.
    Finished(Result<Response, RequestError>, Option<Framed>),
    /// The stream had been used before and the peer gave it up without a word on this request: try another one.
    Stale(OutboundRequest),
    /// So ended all announcements that shared the stream.
    Shared(Vec<RequestId>, Result<Response, RequestError>),
    /// Something was wrong with one of the announcements that shared the stream, and nothing tells with which. The first
    /// may have ended all the same; the others are to be tried each on its own.
    Apart(Option<RequestId>, Vec<OutboundRequest>),
}

/// What comes next.
#[derive(Debug)]
enum OutboundState {
    Write(Bytes),
    Flush,
    /// The answer.
    Read,
    /// An announcement waits for a refusal.
    Settle(Option<Delay>),
    /// An announcement closes this node's side.
    Close,
    /// An announcement waits for the peer to close its side too.
    Drain,
}

/// A request under way.
///
/// An announcement has no answer. That the peer read it shows when it closes its side after this node has closed its
/// own. Implementations do so: `libp2p-kad` 0.49 hands an ADD_PROVIDER to its behaviour and reads on (`handler.rs`,
/// `WaitingMessage`), meets our end of input and drops the stream, which yamux turns into a FIN because ours came first
/// and QUIC turns into one always. A peer that refuses resets instead; yamux shows that to the reader as an end of
/// input as well, and only before this node closes its own side can one tell (see [`Framed::was_reset`]): so the
/// closing waits for [`StreamConfig::announcement_settle`].
///
/// Announcements to one peer that wait together share a stream, since each would hold one for that long: every peer reads
/// on after one (specification, A60). What ends such a stream well acknowledges all that were written to it.
#[derive(Debug)]
pub(crate) struct OutboundStream {
    request: OutboundRequest,
    /// Announcements that were written after it, in order.
    others: Vec<OutboundRequest>,
    framed: Framed,
    /// Whether the stream was used before.
    reused: bool,
    step: OutboundState,
}

impl OutboundStream {
    pub(crate) fn new(request: OutboundRequest, framed: Framed, reused: bool) -> OutboundStream {
        let step = OutboundState::Write(request.message.clone());
        OutboundStream { request, others: Vec::new(), framed, reused, step }
    }

    /// Announcements on one stream, this one first.
    pub(crate) fn shared(request: OutboundRequest, others: Vec<OutboundRequest>, framed: Framed) -> OutboundStream {
        let all = [&request].into_iter().chain(&others).flat_map(|one| one.message.iter().copied());
        let step = OutboundState::Write(all.collect::<Vec<_>>().into());
        OutboundStream { request, others, framed, reused: false, step }
    }

    pub(crate) fn id(&self) -> RequestId {
        self.request.id
    }

    /// Whether the request had the stream to itself, and was not tried again before.
    pub(crate) fn may_be_tried_again(&self) -> bool {
        self.others.is_empty() && !self.request.again
    }

    /// The request, to be tried again.
    pub(crate) fn again(self) -> OutboundRequest {
        OutboundRequest { again: true, ..self.request }
    }

    /// Nobody waits for this request any more. Says whether that leaves nothing that the stream is for.
    pub(crate) fn give_up(&mut self, id: RequestId) -> bool {
        self.others.retain(|other| other.id != id);
        if self.request.id != id {
            return false;
        }
        match self.others.is_empty() {
            true => true,
            false => {
                self.request = self.others.remove(0);
                false
            }
        }
    }

    /// Takes the exchange apart, after [`OutboundStream::poll`] told its outcome.
    pub(crate) fn end(self, outcome: StreamOutcome) -> StreamEnd {
        if !self.others.is_empty() {
            return self.end_shared(outcome);
        }
        match outcome {
            StreamOutcome::Early => StreamEnd::Finished(Ok(Response::AddProvider), None),
            StreamOutcome::Answered(response) => StreamEnd::Finished(Ok(response), Some(self.framed)),
            StreamOutcome::Over(response) => StreamEnd::Finished(Ok(response), None),
            StreamOutcome::Failed(error) => StreamEnd::Finished(Err(error), None),
            StreamOutcome::Stale => StreamEnd::Stale(OutboundRequest { fresh: true, ..self.request }),
        }
    }

    fn end_shared(self, outcome: StreamOutcome) -> StreamEnd {
        let OutboundStream { request, others, .. } = self;
        let apart = |one: OutboundRequest| OutboundRequest { alone: true, ..one };
        match outcome {
            StreamOutcome::Early => StreamEnd::Apart(Some(request.id), others.into_iter().map(apart).collect()),
            StreamOutcome::Failed(RequestError::Refused) | StreamOutcome::Stale => {
                StreamEnd::Apart(None, [request].into_iter().chain(others).map(apart).collect())
            }
            outcome => {
                let ids = [request.id].into_iter().chain(others.iter().map(|other| other.id)).collect();
                let result = match outcome {
                    StreamOutcome::Failed(error) => Err(error),
                    _ => Ok(Response::AddProvider),
                };
                StreamEnd::Shared(ids, result)
            }
        }
    }

    /// Goes on as far as the stream allows, without a limit of its own. The result is final: the exchange must be dropped,
    /// or taken apart by [`OutboundStream::end`].
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, config: &StreamConfig) -> Poll<StreamOutcome> {
        loop {
            match &mut self.step {
                OutboundState::Write(bytes) => {
                    if let Err(error) = ready!(self.framed.poll_write(cx, bytes)) {
                        return Poll::Ready(self.on_broken(&error));
                    }
                    self.step = OutboundState::Flush;
                }
                OutboundState::Flush => {
                    if let Err(error) = ready!(self.framed.poll_flush(cx)) {
                        return Poll::Ready(self.on_broken(&error));
                    }
                    self.step = self.after_flush(config.announcement_settle);
                }
                OutboundState::Read => return self.poll_answer(cx, config.max_message_in),
                OutboundState::Settle(_) => {
                    if let Some(outcome) = ready!(self.poll_settle(cx)) {
                        return Poll::Ready(outcome);
                    }
                    self.step = OutboundState::Close;
                }
                OutboundState::Close => {
                    if let Err(error) = ready!(self.framed.poll_close(cx)) {
                        return Poll::Ready(self.on_broken(&error));
                    }
                    self.step = OutboundState::Drain;
                }
                OutboundState::Drain => return self.poll_drain(cx),
            }
        }
    }

    fn after_flush(&self, settle: Duration) -> OutboundState {
        match self.request.kind {
            Kind::AddProvider => OutboundState::Settle((!settle.is_zero()).then(|| Delay::new(settle))),
            _ => OutboundState::Read,
        }
    }

    fn poll_answer(&mut self, cx: &mut Context<'_>, limit: usize) -> Poll<StreamOutcome> {
        let message = match ready!(self.framed.poll_message(cx, limit)) {
            Ok(Some(message)) => message,
            Ok(None) => return Poll::Ready(self.on_broken(&io::ErrorKind::UnexpectedEof.into())),
            Err(ReadError::Broken(error)) => return Poll::Ready(self.on_broken(&error)),
            Err(ReadError::Misbehaved(what)) => return Poll::Ready(StreamOutcome::Failed(what.into())),
        };
        let clean = self.framed.buffered() == 0 && !self.framed.has_ended();
        Poll::Ready(match wire::decode_response(self.request.kind, message) {
            Ok(response) if clean => StreamOutcome::Answered(response),
            Ok(response) => StreamOutcome::Over(response),
            Err(what) => StreamOutcome::Failed(what.into()),
        })
    }

    /// Waits for a refusal; `None` once there was time enough for one.
    fn poll_settle(&mut self, cx: &mut Context<'_>) -> Poll<Option<StreamOutcome>> {
        match self.framed.poll_fill(cx) {
            Poll::Ready(Ok(0)) if self.framed.was_reset(cx) => {
                Poll::Ready(Some(StreamOutcome::Failed(RequestError::Refused)))
            }
            // An end, or bytes: the specification wants an echo and py-libp2p sends one. It stands for the first alone.
            Poll::Ready(Ok(_)) => Poll::Ready(Some(StreamOutcome::Early)),
            Poll::Ready(Err(error)) => Poll::Ready(Some(self.on_broken(&error))),
            Poll::Pending => match &mut self.step {
                OutboundState::Settle(Some(delay)) => delay.poll_unpin(cx).map(|()| None),
                _ => Poll::Ready(None),
            },
        }
    }

    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<StreamOutcome> {
        Poll::Ready(match ready!(self.framed.poll_fill(cx)) {
            Ok(_) => StreamOutcome::Over(Response::AddProvider),
            Err(error) => self.on_broken(&error),
        })
    }

    fn on_broken(&self, error: &io::Error) -> StreamOutcome {
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

/// What an exchange came to.
#[derive(Debug)]
pub(crate) enum StreamOutcome {
    /// The answer is there and the stream can be used again.
    Answered(Response),
    /// It went well and the stream is done with.
    Over(Response),
    /// The peer ended the stream, or said something, before this node was done: it took the first announcement.
    Early,
    /// It failed; the stream is to be reset.
    Failed(RequestError),
    /// See [`StreamEnd::Stale`].
    Stale,
}
