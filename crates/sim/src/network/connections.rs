//! Connections: dialled when a request wants one, shared by those that follow, closed when idle.
//!
//! Knows: who can reach whom, and what both ends learn of it. Must not know: what travels over a connection.

use super::*;

impl Network {
    /// Sends at once over a connection that is up, else dials or waits for the dial under way.
    pub(super) fn reach(&mut self, flight: u32, from: Index, to: Index) {
        let Flight { round_trip, id, .. } = *self.flights.get(flight);
        let peer = &self.slots[to as usize];
        let (present, session, apart) =
            (peer.node.is_present(), peer.session, peer.group != self.slots[from as usize].group);
        let dialling = &self.link.dialling;
        if dialling.tcp_trips == 0 && present && !apart {
            self.slots[from as usize].node.on_ready(self.now, id);
            return self.transmit_request(flight);
        }
        if let Some(connection) = self.slots[from as usize].connections.get(&to).copied() {
            if connection.ready > self.now {
                self.slots[from as usize].node.handle_input(self.now, Input::Dialling { id });
                let happening =
                    if connection.fails { Happening::Undialled { flight } } else { Happening::Connected { flight } };
                return self.later(connection.ready - self.now, flight, happening);
            }
            if connection.fails && connection.ready + self.slots[from as usize].node.dial_backoff() > self.now {
                return self.later(0, flight, Happening::Undialled { flight });
            }
            if !connection.fails {
                self.slots[from as usize].node.on_ready(self.now, id);
                return self.transmit_request(flight);
            }
        }
        self.traffic.dials += 1;
        self.slots[from as usize].node.handle_input(self.now, Input::Dialling { id });
        let (delay, fails) = if apart {
            (dialling.give_up(), true)
        } else if present {
            (dialling.connect(self.seed, from, to, round_trip), false)
        } else {
            (dialling.fail(self.seed, to, round_trip), true)
        };
        let ready = self.now + delay;
        let connection = Connection { peer_session: session, ready, fails, used: ready };
        self.slots[from as usize].connections.insert(to, connection);
        let happening = if fails { Happening::Undialled { flight } } else { Happening::Connected { flight } };
        self.later(delay, flight, happening);
    }

    pub(super) fn on_connected(&mut self, flight: u32) {
        let Flight { from, to, id, wanted, .. } = *self.flights.landed(flight);
        let alive = self.slots[to as usize].session;
        match self.slots[from as usize].connections.get(&to).copied() {
            // The first flight that waited for this dial tells both sides.
            Some(connection) if connection.peer_session == alive && connection.used == connection.ready => {
                self.introduce(from, to);
            }
            _ => {}
        }
        if wanted {
            self.slots[from as usize].node.on_ready(self.now, id);
            self.transmit_request(flight);
            self.settle(from);
        } else {
            self.flights.end(flight);
        }
    }

    /// Both ends of a new connection learn of it, and who serves.
    pub(super) fn introduce(&mut self, from: Index, to: Index) {
        let (now, session) = (self.now, self.slots[from as usize].session);
        if let Some(connection) = self.slots[from as usize].connections.get_mut(&to) {
            connection.used = now + 1;
        }
        // Where both dialled at once, the second connection is no news.
        let known = self.slots[to as usize].connections.get(&from);
        if known.is_some_and(|known| !known.fails && known.ready <= now && known.peer_session == session) {
            return;
        }
        let back = Connection { peer_session: session, ready: now, fails: false, used: now + 1 };
        self.slots[to as usize].connections.insert(from, back);
        self.schedule(now + self.link.dialling.idle, Happening::Idle { a: from, b: to });
        for (one, other, dialled) in [(from, to, true), (to, from, false)] {
            if !matches!(self.slots[one as usize].node, Node::Ours(_)) {
                continue;
            }
            let contact = Arc::clone(self.directory.contact(other));
            let peer = *contact.peer();
            let outbound_addr = contact.addrs().next().filter(|_| dialled);
            let inbound_addr = contact.addrs().next().filter(|_| !dialled);
            let serves = self.slots[other as usize].node.serves();
            self.depth = 0;
            let node = &mut self.slots[one as usize].node;
            node.handle_input(now, Input::Connected { peer, outbound_addr, inbound_addr });
            // Whoever dialled knows by now where the other one is.
            if !dialled {
                node.handle_input(now, Input::Discovered(contact));
            }
            node.handle_input(now, Input::Serves { peer, yes: serves });
            self.settle(one);
        }
    }

    pub(super) fn on_undialled(&mut self, flight: u32) {
        let Flight { from, to, wanted, .. } = *self.flights.landed(flight);
        self.traffic.dials_failed += 1;
        let slot = &mut self.slots[from as usize];
        if slot.node.dial_backoff() == 0 && slot.connections.get(&to).is_some_and(|connection| connection.fails) {
            slot.connections.remove(&to);
        }
        if wanted {
            self.respond(flight, Err(RequestError::Unreachable(Unreachable::DialFailed(DialCause::Unknown))));
        } else {
            self.flights.end(flight);
        }
    }

    pub(super) fn on_idle(&mut self, a: Index, b: Index) {
        let used = |from: Index, to: Index, slots: &[Slot]| {
            let connection = slots[from as usize].connections.get(&to).filter(|connection| !connection.fails);
            connection.map(|connection| connection.used)
        };
        let (one, other) = (used(a, b, &self.slots), used(b, a, &self.slots));
        let Some(last) = one.max(other) else { return };
        let end = last + self.link.dialling.idle;
        if end > self.now {
            return self.schedule(end, Happening::Idle { a, b });
        }
        for (from, to) in [(a, b), (b, a)] {
            if self.slots[from as usize].connections.remove(&to).is_some() {
                let peer = *self.directory.contact(to).peer();
                self.tell(from, Input::Disconnected { peer });
            }
        }
    }
}
