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
use crate::core::{Kind, Misbehaviour, RequestError, RequestId, Response};
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
}

/// A stream with the requests on it: one, or several announcements with a FIND_NODE behind them.
///
/// Announcements that wait for the same peer share a stream and the FIND_NODE. Its answer acknowledges them all.
#[derive(Debug)]
pub(crate) struct OutboundStream {
    /// In the order in which they are written, without those that were cancelled; never empty.
    requests: Vec<OutboundRequest>,
    /// The first that is written, and their number: the peer reads those that were cancelled too.
    first: RequestId,
    written: usize,
    kind: Kind,
    framed: Framed,
    /// Whether the stream was used before.
    reused: bool,
    /// Number of announcements that the peer echoed.
    echoes: usize,
    state: OutboundState,
}

impl OutboundStream {
    /// A stream for these requests: one, or announcements with `proof`, a FIND_NODE, behind them. `None` without any.
    pub(crate) fn new(
        requests: Vec<OutboundRequest>,
        proof: &Bytes,
        framed: Framed,
        reused: bool,
    ) -> Option<OutboundStream> {
        let OutboundRequest { id: first, kind, message, .. } = requests.first()?;
        let (first, kind, written) = (*first, *kind, requests.len());
        let message = match proof.is_empty() {
            true => message.clone(),
            false => requests.iter().map(|one| &one.message).chain([proof]).flatten().copied().collect(),
        };
        let state = OutboundState::Writing(message);
        Some(OutboundStream { requests, first, written, kind, framed, reused, echoes: 0, state })
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
            // The peer took the first announcement; whether it read the others is not known.
            StreamOutcome::Early => {
                let taken = usize::from(self.requests.first().is_some_and(|request| request.id == self.first));
                (Ok(Response::AddProvider), self.requests.split_off(taken), None)
            }
            // A refusal does not tell which of several announcements the peer refused: each is sent again on its own.
            StreamOutcome::Failed(RequestError::Refused) if self.written > 1 => {
                (Err(RequestError::Refused), std::mem::take(&mut self.requests), None)
            }
            StreamOutcome::Stale => (Err(RequestError::Refused), std::mem::take(&mut self.requests), None),
            StreamOutcome::Failed(error) => (Err(error), Vec::new(), None),
        };
        for request in &mut retry {
            (request.needs_new_stream, request.alone) = (true, request.alone || !self.reused);
        }
        StreamEnd { ended: self.requests, result, retry, idle }
    }

    /// Makes progress, without a time limit. The outcome, or how the stream [broke](Self::broken), is final: the stream
    /// must be passed to [`OutboundStream::end`] or dropped.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, config: &StreamConfig) -> Polled {
        if let OutboundState::Writing(bytes) = &mut self.state {
            ready!(self.framed.poll_send(cx, bytes))?;
            self.state = OutboundState::Reading;
        }
        loop {
            let message = match ready!(self.framed.poll_message(cx, config.max_message_in)) {
                Ok(Some(message)) => message,
                Ok(None) => return Poll::Ready(self.ended(cx)),
                Err(ReadError::Broken(error)) => return Poll::Ready(Err(error)),
                Err(ReadError::Misbehaved(what)) => return Poll::Ready(Ok(StreamOutcome::Failed(what.into()))),
            };
            match self.take_answer(message) {
                Ok(Some(response)) if self.framed.buffered() == 0 && !self.framed.has_ended() => {
                    return Poll::Ready(Ok(StreamOutcome::Answered(response)));
                }
                Ok(Some(response)) => return Poll::Ready(Ok(StreamOutcome::Finished(response))),
                Ok(None) => {}
                Err(what) => return Poll::Ready(Ok(StreamOutcome::Failed(what.into()))),
            }
        }
    }

    /// The answer to the requests; `None` if the message is the echo of an announcement, as py-libp2p sends it.
    fn take_answer(&mut self, message: Bytes) -> Result<Option<Response>, Misbehaviour> {
        if self.kind != Kind::AddProvider {
            return wire::decode_response(self.kind, message).map(Some);
        }
        match wire::decode_response(Kind::FindNode, message.clone()) {
            Err(Misbehaviour::WrongType) if self.echoes < self.written => {
                self.echoes += 1;
                wire::decode_response(Kind::AddProvider, message).map(|_| None)
            }
            answer => answer.map(|_| Some(Response::AddProvider)),
        }
    }

    /// The peer ended the stream between messages. Behind an announcement on a new stream that is no refusal, unless it
    /// is a reset.
    fn ended(&mut self, cx: &mut Context<'_>) -> io::Result<StreamOutcome> {
        match self.kind == Kind::AddProvider && !self.reused && !self.framed.was_reset(cx) {
            true => Ok(StreamOutcome::Early),
            false => Err(io::ErrorKind::UnexpectedEof.into()),
        }
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
    /// The peer ended the stream in good order after an announcement, and answered no FIND_NODE.
    Early,
    /// It failed; the stream must be reset.
    Failed(RequestError),
    /// The stream had been used before and the peer ended it without a byte for this request: another one must be
    /// tried.
    Stale,
}
