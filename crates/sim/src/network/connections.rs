//! Connections: dialled when a request needs one, shared by later requests, closed when idle.
//!
//! Knows: which peers can reach each other, and what both ends learn from a connection. Must not know: what travels
//! over it.

use super::*;

impl Network {
    /// Sends at once over an established connection; otherwise dials, or waits for the dial in progress.
    pub(super) fn connect_or_send(&mut self, rpc: u32, from: NodeIndex, to: NodeIndex) {
        let Rpc { round_trip, id, .. } = *self.rpcs.get(rpc);
        let peer = &self.hosts[to as usize];
        let (present, session, separated) =
            (peer.node.is_present(), peer.session, peer.partition != self.hosts[from as usize].partition);
        let dialling = &self.link.dialling;
        if dialling.tcp_trips == 0 && present && !separated {
            self.hosts[from as usize].node.on_sent(self.now, id);
            return self.transmit_request(rpc);
        }
        if let Some(connection) = self.hosts[from as usize].connections.get(&to).copied() {
            if connection.ready > self.now {
                self.hosts[from as usize].node.handle_input(self.now, Input::Dialling { id });
                let event = if connection.fails { Scheduled::DialFailed { rpc } } else { Scheduled::Connected { rpc } };
                return self.schedule_rpc(connection.ready - self.now, rpc, event);
            }
            if connection.fails && connection.ready + self.hosts[from as usize].node.dial_backoff() > self.now {
                return self.schedule_rpc(0, rpc, Scheduled::DialFailed { rpc });
            }
            if !connection.fails {
                self.hosts[from as usize].node.on_sent(self.now, id);
                return self.transmit_request(rpc);
            }
        }
        self.traffic.dials += 1;
        self.hosts[from as usize].node.handle_input(self.now, Input::Dialling { id });
        let (delay, fails) = if separated {
            (dialling.give_up(), true)
        } else if present {
            (dialling.connect(self.seed, from, to, round_trip), false)
        } else {
            (dialling.fail(self.seed, to, round_trip), true)
        };
        let ready = self.now + delay;
        let connection = Connection { peer_session: session, ready, fails, used: ready };
        self.hosts[from as usize].connections.insert(to, connection);
        let event = if fails { Scheduled::DialFailed { rpc } } else { Scheduled::Connected { rpc } };
        self.schedule_rpc(delay, rpc, event);
    }

    pub(super) fn on_connected(&mut self, rpc: u32) {
        let Rpc { from, to, id, wanted, .. } = *self.rpcs.on_event(rpc);
        let alive = self.hosts[to as usize].session;
        match self.hosts[from as usize].connections.get(&to).copied() {
            // The first request that waited for this dial announces the connection to both ends.
            Some(connection) if connection.peer_session == alive && connection.used == connection.ready => {
                self.connect_both(from, to);
            }
            _ => {}
        }
        if wanted {
            self.hosts[from as usize].node.on_sent(self.now, id);
            self.transmit_request(rpc);
            self.drain_outputs(from);
        } else {
            self.rpcs.end(rpc);
        }
    }

    /// Tells both ends of a new connection about it, and whether the other end is a server.
    pub(super) fn connect_both(&mut self, from: NodeIndex, to: NodeIndex) {
        let (now, session) = (self.now, self.hosts[from as usize].session);
        if let Some(connection) = self.hosts[from as usize].connections.get_mut(&to) {
            connection.used = now + 1;
        }
        // When both dial at the same time, the second connection changes nothing.
        let known = self.hosts[to as usize].connections.get(&from);
        if known.is_some_and(|known| !known.fails && known.ready <= now && known.peer_session == session) {
            return;
        }
        let back = Connection { peer_session: session, ready: now, fails: false, used: now + 1 };
        self.hosts[to as usize].connections.insert(from, back);
        self.schedule(now + self.link.dialling.idle, Scheduled::Idle { a: from, b: to });
        for (one, other, dialled) in [(from, to, true), (to, from, false)] {
            if !matches!(self.hosts[one as usize].node, Node::Ours(_)) {
                continue;
            }
            let contact = Arc::clone(self.directory.contact(other));
            let peer = *contact.peer();
            let addr = contact.addrs().next();
            let (outbound_addr, inbound_addr) = if dialled { (addr, None) } else { (None, addr) };
            let serves = self.hosts[other as usize].node.serves();
            self.depth = 0;
            let node = &mut self.hosts[one as usize].node;
            node.handle_input(now, Input::Connected { peer, outbound_addr, inbound_addr });
            // The end that dialled knows the address already; the other one learns it from identify.
            if !dialled {
                node.handle_input(now, Input::Discovered(contact));
            }
            node.handle_input(now, Input::Serves { peer, yes: serves });
            self.drain_outputs(one);
        }
    }

    pub(super) fn on_dial_failed(&mut self, rpc: u32) {
        let Rpc { from, to, wanted, .. } = *self.rpcs.on_event(rpc);
        self.traffic.dials_failed += 1;
        let host = &mut self.hosts[from as usize];
        if host.node.dial_backoff() == 0 && host.connections.get(&to).is_some_and(|connection| connection.fails) {
            host.connections.remove(&to);
        }
        if wanted {
            self.respond(rpc, Err(RequestError::Unreachable(Unreachable::DialFailed(DialCause::Unknown))));
        } else {
            self.rpcs.end(rpc);
        }
    }

    pub(super) fn on_idle(&mut self, a: NodeIndex, b: NodeIndex) {
        let used = |from: NodeIndex, to: NodeIndex, hosts: &[Host]| {
            let connection = hosts[from as usize].connections.get(&to).filter(|connection| !connection.fails);
            connection.map(|connection| connection.used)
        };
        let (one, other) = (used(a, b, &self.hosts), used(b, a, &self.hosts));
        let Some(last) = one.max(other) else { return };
        let end = last + self.link.dialling.idle;
        if end > self.now {
            return self.schedule(end, Scheduled::Idle { a, b });
        }
        for (from, to) in [(a, b), (b, a)] {
            if self.hosts[from as usize].connections.remove(&to).is_some() {
                let peer = *self.directory.contact(to).peer();
                self.handle_input(from, Input::Disconnected { peer });
            }
        }
    }
}
