//! Messages between the behaviour and the handler of a connection.
//!
//! Knows: requests and their ids. Must not know: connections or streams.

use super::stream::Turn;
use crate::core::{InboundId, Misbehaviour, Mode, Reply, Request, RequestError, RequestId, Response};

/// From the behaviour to the handler of a connection.
#[doc(hidden)]
#[derive(Debug)]
#[non_exhaustive]
pub enum ToHandler {
    /// Sends a request. Ends in one [`FromHandler::Response`], unless it is cancelled or the connection closes first.
    Send { id: RequestId, request: Request },
    /// Gives up a request. No [`FromHandler::Response`] is made from now on, though one may be on its way.
    Cancel { id: RequestId },
    /// Ends an inbound request.
    Reply { id: InboundId, reply: Reply },
    /// A server accepts streams from now on; a client resets all open ones and accepts none.
    SetMode(Mode),
}

/// From the handler of a connection to the behaviour.
#[doc(hidden)]
#[derive(Debug)]
#[non_exhaustive]
pub enum FromHandler {
    /// The peer sent a request. Ends in one [`ToHandler::Reply`], unless [`FromHandler::RequestGone`] comes first or
    /// the connection closes. The upper 32 bits of the id are the connection's number. Its turn ends once the core has it.
    Request { id: InboundId, request: Request, turn: Turn },
    /// The stream of an inbound request closed before the reply.
    RequestGone { id: InboundId },
    /// The peer sent bytes that are no request, and its stream was reset.
    Misbehaved(Misbehaviour),
    /// A request is being sent, on an open stream or with the first bytes of a new one. Comes before the
    /// [`FromHandler::Response`].
    Sent { id: RequestId },
    /// The end of a request that was sent.
    Response { id: RequestId, result: Result<Response, RequestError> },
    /// Whether the peer speaks one of our protocols, by its own list or by a negotiation. Reported on change only.
    Serves(bool),
}
