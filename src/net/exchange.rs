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

use super::framed::{Framed, ReadError};
use super::stream_config::StreamConfig;
use crate::core::{Kind, RequestError, RequestId, Response};
use crate::wire;

/// A request that is ready to be written.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) id: RequestId,
    pub(super) kind: Kind,
    /// The message with its length in front.
    pub(super) message: Bytes,
    /// Whether it must not go on a stream that was used before.
    pub(super) fresh: bool,
    /// Whether it must not share a stream with others: it did, and something was wrong with one of them.
    pub(super) alone: bool,
    /// Whether it was told that it is being sent.
    pub(super) begun: bool,
    /// Whether it was tried again since the peer may have had too many streams.
    pub(super) again: bool,
}

impl Outgoing {
    /// Whether it may go on one stream with others like it.
    pub(super) fn is_sociable(&self) -> bool {
        self.kind == Kind::AddProvider && !self.alone
    }
}

/// How an exchange ended.
#[derive(Debug)]
pub(super) enum End {
    /// With this result. The stream is there if it can be used again.
    Finished(Result<Response, RequestError>, Option<Framed>),
    /// The stream had been used before and the peer gave it up without a word on this request: try another one.
    Stale(Outgoing),
    /// So ended all announcements that shared the stream.
    Shared(Vec<RequestId>, Result<Response, RequestError>),
    /// Something was wrong with one of the announcements that shared the stream, and nothing tells with which. The first
    /// may have ended all the same; the others are to be tried each on its own.
    Apart(Option<RequestId>, Vec<Outgoing>),
}

/// What comes next.
#[derive(Debug)]
enum Step {
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
pub(super) struct Exchange {
    request: Outgoing,
    /// Announcements that were written after it, in order.
    others: Vec<Outgoing>,
    framed: Framed,
    /// Whether the stream was used before.
    reused: bool,
    step: Step,
}

impl Exchange {
    pub(super) fn new(request: Outgoing, framed: Framed, reused: bool) -> Exchange {
        let step = Step::Write(request.message.clone());
        Exchange { request, others: Vec::new(), framed, reused, step }
    }

    /// Announcements on one stream, this one first.
    pub(super) fn shared(request: Outgoing, others: Vec<Outgoing>, framed: Framed) -> Exchange {
        let all = [&request].into_iter().chain(&others).flat_map(|one| one.message.iter().copied());
        let step = Step::Write(all.collect::<Vec<_>>().into());
        Exchange { request, others, framed, reused: false, step }
    }

    pub(super) fn id(&self) -> RequestId {
        self.request.id
    }

    /// Whether the request had the stream to itself, and was not tried again before.
    pub(super) fn may_be_tried_again(&self) -> bool {
        self.others.is_empty() && !self.request.again
    }

    /// The request, to be tried again.
    pub(super) fn again(self) -> Outgoing {
        Outgoing { again: true, ..self.request }
    }

    /// Nobody waits for this request any more. Says whether that leaves nothing that the stream is for.
    pub(super) fn give_up(&mut self, id: RequestId) -> bool {
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

    /// Takes the exchange apart, after [`Exchange::poll`] told its outcome.
    pub(super) fn end(self, outcome: Outcome) -> End {
        if !self.others.is_empty() {
            return self.end_shared(outcome);
        }
        match outcome {
            Outcome::Early => End::Finished(Ok(Response::AddProvider), None),
            Outcome::Answered(response) => End::Finished(Ok(response), Some(self.framed)),
            Outcome::Over(response) => End::Finished(Ok(response), None),
            Outcome::Failed(error) => End::Finished(Err(error), None),
            Outcome::Stale => End::Stale(Outgoing { fresh: true, ..self.request }),
        }
    }

    fn end_shared(self, outcome: Outcome) -> End {
        let Exchange { request, others, .. } = self;
        let apart = |one: Outgoing| Outgoing { alone: true, ..one };
        match outcome {
            Outcome::Early => End::Apart(Some(request.id), others.into_iter().map(apart).collect()),
            Outcome::Failed(RequestError::Refused) | Outcome::Stale => {
                End::Apart(None, [request].into_iter().chain(others).map(apart).collect())
            }
            outcome => {
                let ids = [request.id].into_iter().chain(others.iter().map(|other| other.id)).collect();
                let result = match outcome {
                    Outcome::Failed(error) => Err(error),
                    _ => Ok(Response::AddProvider),
                };
                End::Shared(ids, result)
            }
        }
    }

    /// Goes on as far as the stream allows, without a limit of its own. The result is final: the exchange must be dropped,
    /// or taken apart by [`Exchange::end`].
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, config: &StreamConfig) -> Poll<Outcome> {
        loop {
            match &mut self.step {
                Step::Write(bytes) => {
                    if let Err(error) = ready!(self.framed.poll_write(cx, bytes)) {
                        return Poll::Ready(self.on_broken(&error));
                    }
                    self.step = Step::Flush;
                }
                Step::Flush => {
                    if let Err(error) = ready!(self.framed.poll_flush(cx)) {
                        return Poll::Ready(self.on_broken(&error));
                    }
                    self.step = self.after_flush(config.announcement_settle);
                }
                Step::Read => return self.poll_answer(cx, config.max_message_in),
                Step::Settle(_) => {
                    if let Some(outcome) = ready!(self.poll_settle(cx)) {
                        return Poll::Ready(outcome);
                    }
                    self.step = Step::Close;
                }
                Step::Close => {
                    if let Err(error) = ready!(self.framed.poll_close(cx)) {
                        return Poll::Ready(self.on_broken(&error));
                    }
                    self.step = Step::Drain;
                }
                Step::Drain => return self.poll_drain(cx),
            }
        }
    }

    fn after_flush(&self, settle: Duration) -> Step {
        match self.request.kind {
            Kind::AddProvider => Step::Settle((!settle.is_zero()).then(|| Delay::new(settle))),
            _ => Step::Read,
        }
    }

    fn poll_answer(&mut self, cx: &mut Context<'_>, limit: usize) -> Poll<Outcome> {
        let message = match ready!(self.framed.poll_message(cx, limit)) {
            Ok(Some(message)) => message,
            Ok(None) => return Poll::Ready(self.on_broken(&io::ErrorKind::UnexpectedEof.into())),
            Err(ReadError::Broken(error)) => return Poll::Ready(self.on_broken(&error)),
            Err(ReadError::Misbehaved(what)) => return Poll::Ready(Outcome::Failed(what.into())),
        };
        let clean = self.framed.buffered() == 0 && !self.framed.has_ended();
        Poll::Ready(match wire::decode_response(self.request.kind, message) {
            Ok(response) if clean => Outcome::Answered(response),
            Ok(response) => Outcome::Over(response),
            Err(what) => Outcome::Failed(what.into()),
        })
    }

    /// Waits for a refusal; `None` once there was time enough for one.
    fn poll_settle(&mut self, cx: &mut Context<'_>) -> Poll<Option<Outcome>> {
        match self.framed.poll_fill(cx) {
            Poll::Ready(Ok(0)) if self.framed.was_reset(cx) => {
                Poll::Ready(Some(Outcome::Failed(RequestError::Refused)))
            }
            // An end, or bytes: the specification wants an echo and py-libp2p sends one. It stands for the first alone.
            Poll::Ready(Ok(_)) => Poll::Ready(Some(Outcome::Early)),
            Poll::Ready(Err(error)) => Poll::Ready(Some(self.on_broken(&error))),
            Poll::Pending => match &mut self.step {
                Step::Settle(Some(delay)) => delay.poll_unpin(cx).map(|()| None),
                _ => Poll::Ready(None),
            },
        }
    }

    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<Outcome> {
        Poll::Ready(match ready!(self.framed.poll_fill(cx)) {
            Ok(_) => Outcome::Over(Response::AddProvider),
            Err(error) => self.on_broken(&error),
        })
    }

    fn on_broken(&self, error: &io::Error) -> Outcome {
        if matches!(error.get_ref().and_then(|inner| inner.downcast_ref()), Some(NegotiationError::Failed)) {
            // Only where the swarm is set to send before the peer has agreed to the protocol.
            return Outcome::Failed(RequestError::Unsupported);
        }
        match self.reused && self.framed.buffered() == 0 {
            true => Outcome::Stale,
            false => Outcome::Failed(RequestError::Refused),
        }
    }
}

/// What an exchange came to.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The answer is there and the stream can be used again.
    Answered(Response),
    /// It went well and the stream is done with.
    Over(Response),
    /// The peer ended the stream, or said something, before this node was done: it took the first announcement.
    Early,
    /// It failed; the stream is to be reset.
    Failed(RequestError),
    /// See [`End::Stale`].
    Stale,
}
