//! Requests in flight between two nodes.
//!
//! Knows: how far each request got, and when its entry can be reused. Must not know: what moves it.

use super::directory::NodeIndex;
use libp2p_kad_dht::core::{InboundId, Request, RequestError, RequestId, Response};

/// The progress of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RpcState {
    /// There is no connection yet.
    Dialling,
    /// On its way to the peer.
    Outbound,
    /// At the peer, which has not replied yet.
    Asked,
    /// The answer is on its way back.
    Inbound,
    /// The request or its answer was lost: the sender hears nothing.
    Lost,
}

/// One request, from the sender's output to its end.
#[derive(Debug)]
pub(super) struct Rpc {
    pub(super) from: NodeIndex,
    pub(super) from_session: u32,
    pub(super) to: NodeIndex,
    pub(super) to_session: u32,
    pub(super) id: RequestId,
    /// The round trip of the two peers in microseconds.
    pub(super) round_trip: u64,
    pub(super) state: RpcState,
    /// Whether the sender still waits for the end.
    pub(super) wanted: bool,
    /// Whether an answer returns as a message; otherwise only the stream ends.
    pub(super) is_message: bool,
    /// The number of scheduled events that refer to this entry.
    pub(super) scheduled: u8,
    /// The length of the chain of requests that led to this one, itself included.
    pub(super) depth: u32,
    /// Counts the requests that used this entry.
    pub(super) serial: u32,
    pub(super) payload: Payload,
}

/// The message that a request in flight carries: one at a time, so that an entry stays small.
#[derive(Debug)]
pub(super) enum Payload {
    Nothing,
    Request(Request),
    Result(Result<Response, RequestError>),
}

impl Rpc {
    pub(super) fn new(
        (from, from_session): (NodeIndex, u32),
        (to, round_trip): (NodeIndex, u64),
        id: RequestId,
        request: Request,
        depth: u32,
    ) -> Rpc {
        Rpc {
            from,
            from_session,
            to,
            to_session: 0,
            id,
            round_trip,
            state: RpcState::Dialling,
            wanted: true,
            is_message: false,
            scheduled: 0,
            depth,
            serial: 0,
            payload: Payload::Request(request),
        }
    }
}

/// All requests in flight, in entries that are reused.
#[derive(Default)]
pub(super) struct Rpcs {
    entries: Vec<Rpc>,
    free: Vec<u32>,
}

impl Rpcs {
    pub(super) fn insert(&mut self, mut rpc: Rpc) -> u32 {
        if let Some(at) = self.free.pop() {
            rpc.serial = self.entries[at as usize].serial.wrapping_add(1);
            self.entries[at as usize] = rpc;
            return at;
        }
        self.entries.push(rpc);
        (self.entries.len() - 1) as u32
    }

    pub(super) fn get(&self, at: u32) -> &Rpc {
        &self.entries[at as usize]
    }

    pub(super) fn get_mut(&mut self, at: u32) -> &mut Rpc {
        &mut self.entries[at as usize]
    }

    /// Takes the message out.
    pub(super) fn take_payload(&mut self, at: u32) -> Payload {
        std::mem::replace(&mut self.entries[at as usize].payload, Payload::Nothing)
    }

    /// The request that a scheduled event refers to; counts that event as handled.
    pub(super) fn on_event(&mut self, at: u32) -> &Rpc {
        let rpc = &mut self.entries[at as usize];
        rpc.scheduled -= 1;
        rpc
    }

    /// The id under which the asked peer knows the request.
    pub(super) fn inbound_id(at: u32, serial: u32) -> InboundId {
        InboundId::new(u64::from(serial) << 32 | u64::from(at))
    }

    /// The request with this id, if the peer has not replied yet.
    pub(super) fn by_inbound_id(&self, id: InboundId) -> Option<u32> {
        let (at, serial) = (id.number() as u32, (id.number() >> 32) as u32);
        let rpc = self.entries.get(at as usize)?;
        (rpc.serial == serial && rpc.state == RpcState::Asked).then_some(at)
    }

    /// The message is lost; the entry is kept until the sender gives up.
    pub(super) fn lose(&mut self, at: u32) {
        self.entries[at as usize].state = RpcState::Lost;
        if !self.entries[at as usize].wanted {
            self.end(at);
        }
    }

    /// The request has ended; the entry is free once no scheduled event refers to it.
    pub(super) fn end(&mut self, at: u32) {
        let rpc = &mut self.entries[at as usize];
        rpc.state = RpcState::Lost;
        rpc.wanted = false;
        rpc.payload = Payload::Nothing;
        if rpc.scheduled == 0 {
            self.free.push(at);
        }
    }
}
