//! One stream of a peer: reads a request, waits for its answer, writes it, reads the next.
//!
//! Knows: the order of these steps, and how long each may take. Must not know: other streams, or where an answer comes
//! from.

use std::io;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use libp2p_identity::PeerId;
use libp2p_swarm::Stream;

use super::config::StreamConfig;
use super::framed::{Framed, ReadError};
use crate::core::{InboundId, Kind, Reply, Request, RequestError, Response};
use crate::net::timer::{Deadline, PollClock};
use crate::wire;

/// A request, `None` if the stream ended in good order, or why it must be reset.
type Polled = Poll<io::Result<Option<Request>>>;

#[derive(Debug)]
enum InboundState {
    /// Waits for a request, or for the rest of one, until the deadline.
    Reading,
    /// The core works on a request of this kind.
    Waiting(InboundId, Kind),
    /// Writes and flushes an answer, until the deadline.
    Writing(Bytes),
    /// Closes this side, until the deadline.
    Closing,
    /// Neither closes nor resets until the deadline.
    Withheld,
}

/// A stream that a peer opened.
#[derive(Debug)]
pub(crate) struct InboundStream {
    peer: PeerId,
    framed: Framed,
    state: InboundState,
    /// Of the current state.
    deadline: Deadline,
    /// The end of the time in which the next request must begin to arrive.
    idle: Deadline,
    /// Whether the stream carried a request before.
    used: bool,
}

impl InboundStream {
    pub(crate) fn new(peer: PeerId, stream: Stream) -> InboundStream {
        InboundStream {
            peer,
            framed: Framed::new(stream),
            state: InboundState::Reading,
            deadline: Deadline::default(),
            idle: Deadline::default(),
            used: false,
        }
    }

    /// The request that the core works on.
    pub(crate) fn pending(&self) -> Option<InboundId> {
        match self.state {
            InboundState::Waiting(id, _) => Some(id),
            _ => None,
        }
    }

    /// Whether it waits for a request, or for the rest of one.
    pub(crate) fn is_reading(&self) -> bool {
        matches!(self.state, InboundState::Reading)
    }

    /// Bytes of its answer that the peer has not taken.
    pub(crate) fn untaken(&self) -> usize {
        match &self.state {
            InboundState::Writing(answer) => answer.len(),
            _ => 0,
        }
    }

    /// Whether the connection must stay open for it: a request is being served, or the first one may be on its way (the
    /// swarm does not count streams after their negotiation, and the peer writes only then).
    pub(crate) fn is_busy(&self) -> bool {
        match self.state {
            InboundState::Reading => !self.used,
            InboundState::Waiting(..) | InboundState::Writing(_) => true,
            InboundState::Closing | InboundState::Withheld => false,
        }
    }

    /// Whether the stream may be dropped to make room for another one: the peer loses no request, only an open stream.
    pub(crate) fn is_idle(&self) -> bool {
        !self.is_busy() && (!matches!(self.state, InboundState::Reading) || self.framed.buffered() == 0)
    }

    /// Bytes of requests that it holds.
    pub(crate) fn buffered(&self) -> usize {
        self.framed.buffered()
    }

    /// Assigns an id to the request that [`InboundStream::poll`] returned, and waits for its [reply](Self::reply).
    pub(crate) fn wait(&mut self, id: InboundId, kind: Kind) {
        self.set_state(InboundState::Waiting(id, kind));
        self.used = true;
    }

    /// Does what the core decided about the pending request: a refused one ends the stream without an answer (rules A46
    /// and A63); `false` if the stream must be dropped.
    pub(crate) fn reply(&mut self, reply: Reply, config: &StreamConfig) -> bool {
        let InboundState::Waiting(_, kind) = self.state else { return true };
        match reply {
            Reply::Answer(response) => match encode(response, config.max_message_out) {
                Ok(bytes) => self.set_state(InboundState::Writing(bytes)),
                Err(error) => {
                    tracing::debug!(%error, %kind, "cannot encode an answer");
                    return false;
                }
            },
            Reply::Nothing => self.set_state(InboundState::Reading),
            // Once the peer has closed its side, dropping the stream closes it in good order (yamux, QUIC). The peer
            // would take that for an acknowledgement of its announcement.
            Reply::Reset(_) if kind == Kind::AddProvider && self.framed.has_ended() => {
                self.set_state(InboundState::Withheld);
            }
            Reply::Reset(_) => return false,
        }
        true
    }

    /// Makes progress. Returns the next request, for which [`InboundStream::wait`] must be called; otherwise the stream
    /// must be dropped, which resets it unless it was closed.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, clock: &mut PollClock, config: &StreamConfig) -> Polled {
        loop {
            match &mut self.state {
                InboundState::Reading => match ready!(self.poll_request(cx, clock, config))? {
                    Some(request) => return Poll::Ready(Ok(Some(request))),
                    None => self.set_state(InboundState::Closing),
                },
                InboundState::Waiting(..) => return self.poll_ahead(cx, config),
                InboundState::Writing(bytes) => match self.framed.poll_send(cx, bytes)? {
                    Poll::Ready(()) => self.set_state(InboundState::Reading),
                    Poll::Pending => {
                        let _ = self.poll_ahead(cx, config)?;
                        break;
                    }
                },
                InboundState::Closing => match self.framed.poll_close(cx) {
                    Poll::Ready(_) => return Poll::Ready(Ok(None)),
                    Poll::Pending => break,
                },
                InboundState::Withheld => break,
            }
        }
        self.deadline.poll(clock, config.inbound_request_timeout).map(|()| Ok(None))
    }

    /// Reads a request; `None` if the stream is to be closed in good order.
    fn poll_request(&mut self, cx: &mut Context<'_>, clock: &mut PollClock, config: &StreamConfig) -> Polled {
        let message = match self.framed.poll_message(cx, config.max_request_in) {
            Poll::Ready(Ok(Some(message))) => message,
            Poll::Ready(Ok(None)) => return Poll::Ready(Ok(None)),
            Poll::Ready(Err(ReadError::Broken(error))) => return Poll::Ready(Err(error)),
            Poll::Ready(Err(ReadError::Misbehaved(what))) => return Poll::Ready(Err(io::Error::other(what))),
            Poll::Pending => return self.poll_late(clock, config),
        };
        let request = wire::decode_request(Some(&self.peer), message).map_err(io::Error::other)?;
        if !can_be_echoed(&request, config.max_message_out) {
            return Poll::Ready(Err(io::Error::other("the value is too large to be handed out")));
        }
        Poll::Ready(Ok(Some(request)))
    }

    /// Waits for the rest of a request until the deadline: an idle stream is closed in good order then, and one with an
    /// incomplete request is reset.
    fn poll_late(&mut self, clock: &mut PollClock, config: &StreamConfig) -> Polled {
        // The first byte of a later request ends the idle time and starts the time for the request.
        if self.used && self.framed.buffered() == 0 {
            return self.idle.poll(clock, config.inbound_idle_timeout).map(|()| Ok(None));
        }
        self.deadline.poll(clock, config.inbound_request_timeout).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }

    /// While no request is taken: reads what the peer sends meanwhile, of which the muxer would otherwise keep a whole
    /// window for each stream, and reports at once that the stream broke. The end of input does not break it; more bytes
    /// than one request has do.
    pub(crate) fn poll_ahead(&mut self, cx: &mut Context<'_>, config: &StreamConfig) -> Polled {
        while !self.framed.has_ended() {
            if self.framed.buffered() > config.max_request_in {
                return Poll::Ready(Err(io::Error::other("too many requests ahead of an answer")));
            }
            ready!(self.framed.poll_fill(cx))?;
        }
        Poll::Pending
    }

    fn set_state(&mut self, state: InboundState) {
        (self.state, self.deadline, self.idle) = (state, Deadline::default(), Deadline::default());
    }
}

/// Whether a value that a peer wants stored fits into an answer; the echo of a request is no longer than the request. A
/// value that does not fit must not be stored: its sender would get no echo, which means that it was refused.
fn can_be_echoed(request: &Request, limit: usize) -> bool {
    !matches!(request, Request::PutValue { .. }) || wire::encode_request(request, limit).is_ok()
}

/// The answer within the limit. If this node's own value is too large for it, the answer names closer peers only.
fn encode(response: Response, limit: usize) -> Result<Bytes, RequestError> {
    match (wire::encode_response(&response, limit), response) {
        (Err(RequestError::TooLarge), Response::GetValue { key, value: Some(_), closer }) => {
            wire::encode_response(&Response::GetValue { key, value: None, closer }, limit)
        }
        (encoded, _) => encoded,
    }
}
