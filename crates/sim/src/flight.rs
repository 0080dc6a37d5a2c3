//! Requests under way between two nodes.
//!
//! Knows: how far each got, and when its place can be used again. Must not know: what moves them.

use super::directory::Index;
use libp2p_kad_dht::core::{InboundId, Request, RequestError, RequestId, Response};

/// How far a request got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// There is no connection yet.
    Dialling,
    /// On its way to the peer.
    Outbound,
    /// At the peer, which has not replied yet.
    Asked,
    /// The answer is on its way back.
    Inbound,
    /// It, or its answer, was lost: its sender will hear nothing.
    Lost,
}

/// One request from its sending to its end.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) from: Index,
    pub(super) from_session: u32,
    pub(super) to: Index,
    pub(super) to_session: u32,
    pub(super) id: RequestId,
    /// How long a message takes there and back, in microseconds.
    pub(super) round_trip: u64,
    pub(super) state: State,
    /// Whether its sender still waits.
    pub(super) wanted: bool,
    /// Whether what returns is a message, and not the mere end of a stream.
    pub(super) is_message: bool,
    /// How many events of the queue name it.
    pub(super) scheduled: u8,
    /// How many requests in a row led to it, itself included.
    pub(super) depth: u32,
    /// Tells the users of one place apart.
    pub(super) serial: u32,
    pub(super) load: Load,
}

/// What a flight carries at present: one thing, so that the many flights under way take little room.
#[derive(Debug)]
pub(super) enum Load {
    Nothing,
    Request(Request),
    Result(Result<Response, RequestError>),
}

impl Flight {
    pub(super) fn new(
        (from, from_session): (Index, u32),
        (to, round_trip): (Index, u64),
        id: RequestId,
        request: Request,
        depth: u32,
    ) -> Flight {
        Flight {
            from,
            from_session,
            to,
            to_session: 0,
            id,
            round_trip,
            state: State::Dialling,
            wanted: true,
            is_message: false,
            scheduled: 0,
            depth,
            serial: 0,
            load: Load::Request(request),
        }
    }
}

/// All requests under way, in places that are used again.
#[derive(Default)]
pub(super) struct Flights {
    places: Vec<Flight>,
    free: Vec<u32>,
}

impl Flights {
    pub(super) fn insert(&mut self, mut flight: Flight) -> u32 {
        if let Some(at) = self.free.pop() {
            flight.serial = self.places[at as usize].serial.wrapping_add(1);
            self.places[at as usize] = flight;
            return at;
        }
        self.places.push(flight);
        (self.places.len() - 1) as u32
    }

    pub(super) fn get(&self, at: u32) -> &Flight {
        &self.places[at as usize]
    }

    pub(super) fn get_mut(&mut self, at: u32) -> &mut Flight {
        &mut self.places[at as usize]
    }

    /// Takes out what it carries.
    pub(super) fn unload(&mut self, at: u32) -> Load {
        std::mem::replace(&mut self.places[at as usize].load, Load::Nothing)
    }

    /// The flight whose scheduled event has come.
    pub(super) fn landed(&mut self, at: u32) -> &Flight {
        let flight = &mut self.places[at as usize];
        flight.scheduled -= 1;
        flight
    }

    /// The name under which the peer that is asked knows the request.
    pub(super) fn name(at: u32, serial: u32) -> InboundId {
        InboundId::new(u64::from(serial) << 32 | u64::from(at))
    }

    /// The flight of this name, if it still waits for a reply.
    pub(super) fn named(&self, id: InboundId) -> Option<u32> {
        let (at, serial) = (id.number() as u32, (id.number() >> 32) as u32);
        let flight = self.places.get(at as usize)?;
        (flight.serial == serial && flight.state == State::Asked).then_some(at)
    }

    /// Nothing will come of it; its place is kept until its sender gives it up.
    pub(super) fn lose(&mut self, at: u32) {
        self.places[at as usize].state = State::Lost;
        if !self.places[at as usize].wanted {
            self.end(at);
        }
    }

    /// It is over, and its place free once no event names it any more.
    pub(super) fn end(&mut self, at: u32) {
        let flight = &mut self.places[at as usize];
        flight.state = State::Lost;
        flight.wanted = false;
        flight.load = Load::Nothing;
        if flight.scheduled == 0 {
            self.free.push(at);
        }
    }
}
