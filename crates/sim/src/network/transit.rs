//! The way of a request to its peer and of the answer back; each request ends exactly once at its sender.
//!
//! Knows: what is counted at each step. Must not know: how a connection was made.

use super::*;

impl Network {
    pub(super) fn send(&mut self, from: NodeIndex, to: &Contact, id: RequestId, request: Request) {
        self.traffic.requests += 1;
        let depth = self.depth + 1;
        let session = self.hosts[from as usize].session;
        let host = &mut self.hosts[from as usize];
        host.rounds = host.rounds.max(depth);
        let to = self.directory.index(to);
        let round_trip = to.map_or(0, |to| self.link.round_trip(self.seed, from, to));
        let rpc = Rpc::new((from, session), (to.unwrap_or(from), round_trip), id, request, depth);
        let rpc = self.rpcs.insert(rpc);
        self.hosts[from as usize].rpcs.insert(id, rpc);
        match to {
            Some(to) if to != from => self.connect_or_send(rpc, from, to),
            // No peer has this id, or it is the node itself: no dial can succeed.
            _ => self.schedule_rpc(0, rpc, Scheduled::DialFailed { rpc }),
        }
    }

    pub(super) fn schedule_rpc(&mut self, delay: u64, rpc: u32, event: Scheduled) {
        self.rpcs.get_mut(rpc).scheduled += 1;
        self.schedule(self.now + delay, event);
    }

    pub(super) fn transmit_request(&mut self, rpc: u32) {
        let Rpc { from, to, round_trip, .. } = *self.rpcs.get(rpc);
        let size = match &self.rpcs.get(rpc).payload {
            Payload::Request(request) => request_size(request),
            Payload::Nothing | Payload::Result(_) => 0,
        };
        self.rpcs.get_mut(rpc).state = RpcState::Outbound;
        // A connection to an earlier session of the peer carries nothing.
        let stale = self.hosts[from as usize]
            .connections
            .get(&to)
            .is_some_and(|connection| connection.peer_session != self.hosts[to as usize].session);
        if stale {
            self.hosts[from as usize].connections.remove(&to);
        }
        match self.transmit((from, to), round_trip, size, stale) {
            Some(delay) => {
                self.rpcs.get_mut(rpc).to_session = self.hosts[to as usize].session;
                self.schedule_rpc(delay, rpc, Scheduled::Arrival { rpc });
            }
            None => self.rpcs.lose(rpc),
        }
    }

    /// Puts a message on the wire. Returns its delay in microseconds; `None` if it is lost.
    pub(super) fn transmit(
        &mut self,
        (from, to): (NodeIndex, NodeIndex),
        round_trip: u64,
        size: u64,
        stale: bool,
    ) -> Option<u64> {
        self.traffic.sent += 1;
        self.traffic.bytes += size;
        let separated = self.hosts[from as usize].partition != self.hosts[to as usize].partition;
        let host = &mut self.hosts[from as usize];
        host.bytes += size;
        if self.link.dialling.tcp_trips > 0
            && let Some(connection) = host.connections.get_mut(&to)
        {
            connection.used = connection.used.max(self.now);
        }
        let delay = if stale || separated { None } else { self.link.one_way(round_trip, &mut self.random) };
        if delay.is_some() {
            self.traffic.in_flight += 1;
        } else {
            self.traffic.lost += 1;
        }
        delay
    }

    pub(super) fn on_arrival(&mut self, rpc: u32) {
        self.traffic.in_flight -= 1;
        let Rpc { from, to, to_session, serial, depth, .. } = *self.rpcs.on_event(rpc);
        let present = self.hosts[to as usize].session == to_session && self.hosts[to as usize].node.is_present();
        let separated = self.hosts[from as usize].partition != self.hosts[to as usize].partition;
        let payload = self.rpcs.take_payload(rpc);
        let (true, Payload::Request(request)) = (present && !separated, payload) else {
            self.traffic.lost += 1;
            return self.rpcs.lose(rpc);
        };
        self.traffic.delivered += 1;
        self.rpcs.get_mut(rpc).state = RpcState::Asked;
        let id = Rpcs::inbound_id(rpc, serial);
        let peer = *self.directory.contact(from).peer();
        self.depth = depth;
        let node = &mut self.hosts[to as usize].node;
        if let Some(reply) = node.handle_request(self.now, &self.directory, (from, peer), id, request) {
            self.reply(id, reply);
        }
        // Requests that this one causes at the peer belong to no chain of the peer's own.
        self.depth = 0;
        if matches!(self.hosts[to as usize].node, Node::Ours(_)) {
            self.drain_outputs(to);
        }
    }

    pub(super) fn reply(&mut self, id: InboundId, reply: Reply) {
        let Some(rpc) = self.rpcs.by_inbound_id(id) else { return };
        let Rpc { from, to, round_trip, .. } = *self.rpcs.get(rpc);
        let result = match reply {
            Reply::Answer(response) => Ok(response),
            Reply::Nothing => Ok(Response::AddProvider),
            // A reset.
            _ => Err(RequestError::Refused),
        };
        // A reset and the end of an announcement's stream are no messages, but take as long as one.
        let delay = match &result {
            Ok(response) if !matches!(response, Response::AddProvider) => {
                let size = response_size(response);
                self.rpcs.get_mut(rpc).is_message = true;
                self.transmit((to, from), round_trip, size, false)
            }
            _ => Some(round_trip / 2),
        };
        let Some(delay) = delay else { return self.rpcs.lose(rpc) };
        let entry = self.rpcs.get_mut(rpc);
        entry.state = RpcState::Inbound;
        entry.payload = Payload::Result(result);
        self.schedule_rpc(delay, rpc, Scheduled::Return { rpc });
    }

    pub(super) fn on_return(&mut self, rpc: u32) {
        let Rpc { from, from_session, to, wanted, is_message, .. } = *self.rpcs.on_event(rpc);
        let host = &self.hosts[from as usize];
        let present = host.session == from_session && host.node.is_present();
        let separated = host.partition != self.hosts[to as usize].partition;
        if is_message {
            self.traffic.in_flight -= 1;
            let count = if present && !separated { &mut self.traffic.delivered } else { &mut self.traffic.lost };
            *count += 1;
        }
        match self.rpcs.take_payload(rpc) {
            Payload::Result(result) if wanted && present && !separated => self.respond(rpc, result),
            _ if wanted && present => self.rpcs.lose(rpc),
            _ => self.rpcs.end(rpc),
        }
    }

    /// Ends a request at its sender.
    pub(super) fn respond(&mut self, rpc: u32, result: Result<Response, RequestError>) {
        let Rpc { from, id, depth, .. } = *self.rpcs.get(rpc);
        self.rpcs.end(rpc);
        let host = &mut self.hosts[from as usize];
        if host.rpcs.remove(&id).is_some() {
            self.traffic.ended += 1;
        }
        self.depth = depth;
        host.node.handle_response(self.now, &self.directory, id, result);
        self.drain_outputs(from);
    }

    pub(super) fn cancel(&mut self, index: NodeIndex, id: RequestId) {
        // A request that ended already, or was never sent, breaks an invariant of `Traffic`.
        self.traffic.cancelled += 1;
        if let Some(rpc) = self.hosts[index as usize].rpcs.remove(&id) {
            self.give_up(rpc);
        }
    }

    pub(super) fn give_up(&mut self, rpc: u32) {
        let entry = self.rpcs.get_mut(rpc);
        entry.wanted = false;
        match entry.state {
            RpcState::Lost => self.rpcs.end(rpc),
            RpcState::Asked => {
                let delay = self.rpcs.get(rpc).round_trip / 2;
                self.schedule_rpc(delay, rpc, Scheduled::GivenUp { rpc });
            }
            RpcState::Dialling | RpcState::Outbound | RpcState::Inbound => {}
        }
    }

    pub(super) fn on_given_up(&mut self, rpc: u32) {
        let Rpc { to, to_session, serial, state, .. } = *self.rpcs.on_event(rpc);
        match state {
            RpcState::Lost => return self.rpcs.end(rpc),
            RpcState::Asked => self.rpcs.end(rpc),
            RpcState::Dialling | RpcState::Outbound | RpcState::Inbound => return,
        }
        if self.hosts[to as usize].session == to_session {
            let id = Rpcs::inbound_id(rpc, serial);
            self.hosts[to as usize].node.handle_input(self.now, Input::RequestGone { id });
            self.depth = 0;
            self.drain_outputs(to);
        }
    }
}
