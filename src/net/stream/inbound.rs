//! One stream of a peer: reads a request, waits for its answer, writes it, reads the next.
//!
//! Knows: the order of these, and how long each may take. Must not know: other streams, or how an answer comes about.

use std::io;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures::FutureExt as _;
use futures_timer::Delay;
use libp2p_swarm::Stream;

use super::config::StreamConfig;
use super::framed::{Framed, ReadError};
use crate::core::{InboundId, Kind, Reply, Request, RequestError, Response};
use crate::wire;

/// Where a stream is.
#[derive(Debug)]
enum InboundState {
    /// Waits for a request or the rest of one; the timer says until when.
    Reading,
    /// The core works on a request of this kind.
    Waiting(InboundId, Kind),
    /// Writes an answer, within the timer.
    Writing(Bytes),
    Flushing,
    /// Closes this side, within the timer.
    Closing,
    /// Neither closes nor resets until the timer is over.
    Withheld,
}

/// What a stream comes to.
#[derive(Debug)]
pub(crate) enum InboundStep {
    /// The peer asks. [`InboundStream::wait`] must follow.
    Asked(Request),
    /// The stream is done with and must be dropped, which resets it unless it was closed.
    Over,
}

/// A stream of a peer.
#[derive(Debug)]
pub(crate) struct InboundStream {
    framed: Framed,
    state: InboundState,
    timer: Delay,
    /// Whether a request was answered on it.
    used: bool,
    /// Whether the timer is the one for the rest of a request.
    begun: bool,
}

impl InboundStream {
    pub(crate) fn new(stream: Stream, config: &StreamConfig) -> InboundStream {
        InboundStream {
            framed: Framed::new(stream),
            state: InboundState::Reading,
            timer: Delay::new(config.inbound_request_timeout),
            used: false,
            begun: false,
        }
    }

    /// The request that the core works on.
    pub(crate) fn pending(&self) -> Option<InboundId> {
        match self.state {
            InboundState::Waiting(id, _) => Some(id),
            _ => None,
        }
    }

    /// Whether the connection must stay for it: a request is being served, or the first one may be on its way (the
    /// swarm does not count streams once they are negotiated, and the peer writes only then).
    pub(crate) fn is_busy(&self) -> bool {
        match self.state {
            InboundState::Reading => !self.used,
            InboundState::Waiting(..) | InboundState::Writing(_) | InboundState::Flushing => true,
            InboundState::Closing | InboundState::Withheld => false,
        }
    }

    /// Whether it can make room for another stream: nothing is lost but a chance to save a negotiation.
    pub(crate) fn is_idle(&self) -> bool {
        match self.state {
            InboundState::Reading => self.used && self.framed.buffered() == 0,
            InboundState::Waiting(..) | InboundState::Writing(_) | InboundState::Flushing => false,
            InboundState::Closing | InboundState::Withheld => true,
        }
    }

    /// How many bytes of requests it holds.
    pub(crate) fn buffered(&self) -> usize {
        self.framed.buffered()
    }

    /// The request that was read goes by this name until it is answered.
    pub(crate) fn wait(&mut self, id: InboundId, kind: Kind) {
        self.state = InboundState::Waiting(id, kind);
        self.used = true;
        self.begun = false;
    }

    /// Does what the core decided about the pending request; `false` if the stream is to be dropped.
    pub(crate) fn reply(&mut self, reply: Reply, config: &StreamConfig) -> bool {
        let InboundState::Waiting(_, kind) = self.state else { return true };
        match reply {
            Reply::Answer(response) => match encode(response, config.max_message_out) {
                Ok(bytes) => {
                    self.timer.reset(config.inbound_request_timeout);
                    self.state = InboundState::Writing(bytes);
                    true
                }
                Err(error) => {
                    tracing::debug!(%error, %kind, "cannot encode an answer");
                    false
                }
            },
            Reply::Nothing => {
                self.next_request(config);
                true
            }
            // Where the peer has closed its side, dropping the stream would close this one in good order (yamux, QUIC),
            // which for an announcement means that it was taken.
            Reply::Reset(_) if kind == Kind::AddProvider && self.framed.has_ended() => {
                self.timer.reset(config.inbound_request_timeout);
                self.state = InboundState::Withheld;
                true
            }
            Reply::Reset(_) => false,
        }
    }

    /// Goes on as far as the stream and the core allow.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, config: &StreamConfig) -> Poll<InboundStep> {
        loop {
            match &mut self.state {
                InboundState::Reading => match ready!(self.poll_request(cx, config)) {
                    Some(progress) => return Poll::Ready(progress),
                    None => self.close(config),
                },
                InboundState::Waiting(..) => return self.poll_gone(cx),
                InboundState::Writing(bytes) => match self.framed.poll_write(cx, bytes) {
                    Poll::Ready(Ok(())) => self.state = InboundState::Flushing,
                    Poll::Ready(Err(error)) => return over(&error),
                    Poll::Pending => return self.poll_timer(cx),
                },
                InboundState::Flushing => match self.framed.poll_flush(cx) {
                    Poll::Ready(Ok(())) => self.next_request(config),
                    Poll::Ready(Err(error)) => return over(&error),
                    Poll::Pending => return self.poll_timer(cx),
                },
                InboundState::Closing => match self.framed.poll_close(cx) {
                    Poll::Ready(_) => return Poll::Ready(InboundStep::Over),
                    Poll::Pending => return self.poll_timer(cx),
                },
                InboundState::Withheld => return self.poll_timer(cx),
            }
        }
    }

    /// Reads a request; `None` if the stream is to be closed in good order.
    fn poll_request(&mut self, cx: &mut Context<'_>, config: &StreamConfig) -> Poll<Option<InboundStep>> {
        match self.framed.poll_message(cx, config.max_message_in) {
            Poll::Ready(Ok(Some(message))) => Poll::Ready(Some(match wire::decode_request(message) {
                Ok(request) if !can_be_echoed(&request, config.max_message_out) => {
                    tracing::debug!("resets a stream: a value too large to hand out");
                    InboundStep::Over
                }
                Ok(request) => InboundStep::Asked(request),
                Err(what) => {
                    tracing::debug!(%what, "resets a stream");
                    InboundStep::Over
                }
            })),
            Poll::Ready(Ok(None)) => Poll::Ready(None),
            Poll::Ready(Err(ReadError::Broken(error))) => over(&error).map(Some),
            Poll::Ready(Err(ReadError::Misbehaved(what))) => {
                tracing::debug!(%what, "resets a stream");
                Poll::Ready(Some(InboundStep::Over))
            }
            Poll::Pending => {
                if self.used && !self.begun && self.framed.buffered() > 0 {
                    self.begun = true;
                    self.timer.reset(config.inbound_request_timeout);
                }
                ready!(self.timer.poll_unpin(cx));
                let idle = self.used && !self.begun;
                Poll::Ready(if idle { None } else { Some(InboundStep::Over) })
            }
        }
    }

    /// While the core works: a broken stream is told at once. An end of input is not one, and what comes meanwhile
    /// waits in the stream but for one read.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<InboundStep> {
        while self.framed.buffered() == 0 && !self.framed.has_ended() {
            if let Err(error) = ready!(self.framed.poll_fill(cx)) {
                return over(&error);
            }
        }
        Poll::Pending
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<InboundStep> {
        self.timer.poll_unpin(cx).map(|()| InboundStep::Over)
    }

    fn next_request(&mut self, config: &StreamConfig) {
        self.state = InboundState::Reading;
        self.begun = self.framed.buffered() > 0;
        self.timer.reset(match self.begun {
            true => config.inbound_request_timeout,
            false => config.inbound_idle_timeout,
        });
    }

    fn close(&mut self, config: &StreamConfig) {
        self.timer.reset(config.inbound_request_timeout);
        self.state = InboundState::Closing;
    }
}

/// Whether a value that a peer wants kept could be handed out again; its echo is no longer than the request for it. What
/// could not be must not be kept: its sender would be told that it was refused.
fn can_be_echoed(request: &Request, limit: usize) -> bool {
    !matches!(request, Request::PutValue { .. }) || wire::encode_request(request, limit).is_ok()
}

/// The answer within the limit. An own value can be too large for it; then others learn at least who is closer.
fn encode(response: Response, limit: usize) -> Result<Bytes, RequestError> {
    match (wire::encode_response(&response, limit), response) {
        (Err(RequestError::TooLarge), Response::GetValue { key, value: Some(_), closer }) => {
            wire::encode_response(&Response::GetValue { key, value: None, closer }, limit)
        }
        (encoded, _) => encoded,
    }
}

fn over(error: &io::Error) -> Poll<InboundStep> {
    tracing::debug!(%error, "a stream broke");
    Poll::Ready(InboundStep::Over)
}
