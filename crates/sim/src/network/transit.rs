//! Requests under way: out, there, back, or lost; each ends once with its sender.
//!
//! Knows: what is counted at each step. Must not know: how a connection came to be.

use super::*;

impl Network {
    pub(super) fn send(&mut self, from: Index, to: &Contact, id: RequestId, request: Request) {
        self.traffic.requests += 1;
        let depth = self.depth + 1;
        let session = self.slots[from as usize].session;
        let slot = &mut self.slots[from as usize];
        slot.rounds = slot.rounds.max(depth);
        let to = self.directory.index(to);
        let round_trip = to.map_or(0, |to| self.link.round_trip(self.seed, from, to));
        let flight = Flight::new((from, session), (to.unwrap_or(from), round_trip), id, request, depth);
        let flight = self.flights.insert(flight);
        self.slots[from as usize].flights.insert(id, flight);
        match to {
            Some(to) if to != from => self.reach(flight, from, to),
            // Nobody has this id, or the node asks itself: no dial can succeed.
            _ => self.later(0, flight, Happening::Undialled { flight }),
        }
    }

    pub(super) fn later(&mut self, delay: u64, flight: u32, happening: Happening) {
        self.flights.get_mut(flight).scheduled += 1;
        self.schedule(self.now + delay, happening);
    }

    pub(super) fn transmit_request(&mut self, flight: u32) {
        let Flight { from, to, round_trip, .. } = *self.flights.get(flight);
        let size = match &self.flights.get(flight).load {
            Load::Request(request) => request_size(request),
            Load::Nothing | Load::Result(_) => 0,
        };
        self.flights.get_mut(flight).state = State::Outbound;
        // Over a connection to a session that is over, nothing arrives.
        let stale = self.slots[from as usize]
            .connections
            .get(&to)
            .is_some_and(|connection| connection.peer_session != self.slots[to as usize].session);
        if stale {
            self.slots[from as usize].connections.remove(&to);
        }
        match self.transmit((from, to), round_trip, size, stale) {
            Some(delay) => {
                self.flights.get_mut(flight).to_session = self.slots[to as usize].session;
                self.later(delay, flight, Happening::Arrival { flight });
            }
            None => self.flights.lose(flight),
        }
    }

    /// Puts a message on the wire; how long it takes, or `None` where it gets lost.
    pub(super) fn transmit(
        &mut self,
        (from, to): (Index, Index),
        round_trip: u64,
        size: u64,
        stale: bool,
    ) -> Option<u64> {
        self.traffic.sent += 1;
        self.traffic.bytes += size;
        let apart = self.slots[from as usize].group != self.slots[to as usize].group;
        let slot = &mut self.slots[from as usize];
        slot.bytes += size;
        if self.link.dialling.tcp_trips > 0
            && let Some(connection) = slot.connections.get_mut(&to)
        {
            connection.used = connection.used.max(self.now);
        }
        let delay = if stale || apart { None } else { self.link.one_way(round_trip, &mut self.random) };
        if delay.is_some() {
            self.traffic.in_flight += 1;
        } else {
            self.traffic.lost += 1;
        }
        delay
    }

    pub(super) fn on_arrival(&mut self, flight: u32) {
        self.traffic.in_flight -= 1;
        let Flight { from, to, to_session, serial, depth, .. } = *self.flights.landed(flight);
        let present = self.slots[to as usize].session == to_session && self.slots[to as usize].node.is_present();
        let apart = self.slots[from as usize].group != self.slots[to as usize].group;
        let load = self.flights.unload(flight);
        let (true, Load::Request(request)) = (present && !apart, load) else {
            self.traffic.lost += 1;
            return self.flights.lose(flight);
        };
        self.traffic.delivered += 1;
        self.flights.get_mut(flight).state = State::Asked;
        let id = Flights::name(flight, serial);
        let peer = *self.directory.contact(from).peer();
        self.depth = depth;
        let node = &mut self.slots[to as usize].node;
        if let Some(reply) = node.handle_request(self.now, &self.directory, (from, peer), id, request) {
            self.reply(id, reply);
        }
        // Requests that others caused are no part of a chain of this node's own.
        self.depth = 0;
        if matches!(self.slots[to as usize].node, Node::Ours(_)) {
            self.settle(to);
        }
    }

    pub(super) fn reply(&mut self, id: InboundId, reply: Reply) {
        let Some(flight) = self.flights.named(id) else { return };
        let Flight { from, to, round_trip, .. } = *self.flights.get(flight);
        let result = match reply {
            Reply::Answer(response) => Ok(response),
            Reply::Nothing => Ok(Response::AddProvider),
            // A reset.
            _ => Err(RequestError::Refused),
        };
        // A reset, and the end of an announcement's stream, are no messages; they take as long as one.
        let delay = match &result {
            Ok(response) if !matches!(response, Response::AddProvider) => {
                let size = response_size(response);
                self.flights.get_mut(flight).is_message = true;
                self.transmit((to, from), round_trip, size, false)
            }
            _ => Some(round_trip / 2),
        };
        let Some(delay) = delay else { return self.flights.lose(flight) };
        let entry = self.flights.get_mut(flight);
        entry.state = State::Inbound;
        entry.load = Load::Result(result);
        self.later(delay, flight, Happening::Return { flight });
    }

    pub(super) fn on_return(&mut self, flight: u32) {
        let Flight { from, from_session, to, wanted, is_message, .. } = *self.flights.landed(flight);
        let slot = &self.slots[from as usize];
        let present = slot.session == from_session && slot.node.is_present();
        let apart = slot.group != self.slots[to as usize].group;
        if is_message {
            self.traffic.in_flight -= 1;
            let count = if present && !apart { &mut self.traffic.delivered } else { &mut self.traffic.lost };
            *count += 1;
        }
        match self.flights.unload(flight) {
            Load::Result(result) if wanted && present && !apart => self.respond(flight, result),
            _ if wanted && present => self.flights.lose(flight),
            _ => self.flights.end(flight),
        }
    }

    /// Ends a flight with its sender.
    pub(super) fn respond(&mut self, flight: u32, result: Result<Response, RequestError>) {
        let Flight { from, id, depth, .. } = *self.flights.get(flight);
        self.flights.end(flight);
        let slot = &mut self.slots[from as usize];
        if slot.flights.remove(&id).is_some() {
            self.traffic.ended += 1;
        }
        self.depth = depth;
        slot.node.handle_response(self.now, &self.directory, id, result);
        self.settle(from);
    }

    pub(super) fn cancel(&mut self, index: Index, id: RequestId) {
        // One that ended already, or was never sent, breaks the law of `Traffic`.
        self.traffic.cancelled += 1;
        if let Some(flight) = self.slots[index as usize].flights.remove(&id) {
            self.give_up(flight);
        }
    }

    pub(super) fn give_up(&mut self, flight: u32) {
        let entry = self.flights.get_mut(flight);
        entry.wanted = false;
        match entry.state {
            State::Lost => self.flights.end(flight),
            State::Asked => {
                let delay = self.flights.get(flight).round_trip / 2;
                self.later(delay, flight, Happening::Gone { flight });
            }
            State::Dialling | State::Outbound | State::Inbound => {}
        }
    }

    pub(super) fn on_gone(&mut self, flight: u32) {
        let Flight { to, to_session, serial, state, .. } = *self.flights.landed(flight);
        match state {
            State::Lost => return self.flights.end(flight),
            State::Asked => self.flights.end(flight),
            State::Dialling | State::Outbound | State::Inbound => return,
        }
        if self.slots[to as usize].session == to_session {
            let id = Flights::name(flight, serial);
            self.slots[to as usize].node.handle_input(self.now, Input::RequestGone { id });
            self.depth = 0;
            self.settle(to);
        }
    }
}
