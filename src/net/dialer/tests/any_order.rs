//! Any order of events: every request ends once, whatever happens.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Copy, Debug)]
enum Fact {
    Send(usize, u16),
    Cancel(usize),
    Dialled(usize),
    DialFailed(usize, u8),
    Inbound(usize),
    ForeignDial(usize),
    ForeignFailed(usize),
    /// A connection that does not count, as there are beside a local network: dialled by another behaviour, or inbound.
    ForeignConnection(usize),
    Serves(usize, bool),
    Closed(usize),
    Response(usize),
}

fn fact() -> impl Strategy<Value = Fact> {
    let n = 0..64_usize;
    prop_oneof![
        6 => (n.clone(), 1..4_u16).prop_map(|(peer, port)| Fact::Send(peer, port)),
        1 => n.clone().prop_map(Fact::Cancel),
        2 => n.clone().prop_map(Fact::Dialled),
        2 => (n.clone(), 0..5_u8).prop_map(|(dial, kind)| Fact::DialFailed(dial, kind)),
        1 => n.clone().prop_map(Fact::Inbound),
        1 => n.clone().prop_map(Fact::ForeignDial),
        1 => n.clone().prop_map(Fact::ForeignFailed),
        1 => n.clone().prop_map(Fact::ForeignConnection),
        1 => (n.clone(), any::<bool>()).prop_map(|(connection, yes)| Fact::Serves(connection, yes)),
        2 => n.clone().prop_map(Fact::Closed),
        2 => n.clone().prop_map(Fact::Response),
    ]
}

/// A swarm that keeps the rules of the real one, and counts how each request ends.
struct World {
    stage: Stage,
    policy: AddressPolicy,
    peers: Vec<PeerId>,
    connections: Vec<(PeerId, ConnectionId)>,
    foreign: BTreeSet<PeerId>,
    dialling: Vec<(PeerId, ConnectionId)>,
    open: BTreeSet<RequestId>,
}

impl World {
    fn new(policy: AddressPolicy) -> World {
        World {
            stage: Stage::with(2, 6, policy),
            policy,
            peers: peers(5),
            connections: Vec::new(),
            foreign: BTreeSet::new(),
            dialling: Vec::new(),
            open: BTreeSet::new(),
        }
    }

    fn connected(&self, peer: PeerId) -> bool {
        self.connections.iter().any(|known| known.0 == peer)
    }

    fn happen(&mut self, fact: Fact) {
        match fact {
            Fact::Send(n, port) => {
                let id = self.stage.send(self.peers[n % self.peers.len()], port);
                self.open.insert(id);
            }
            Fact::Cancel(n) => {
                if let Some(id) = self.open.iter().nth(n % self.open.len().max(1)).copied() {
                    self.stage.cancel(id);
                    self.open.remove(&id);
                }
            }
            Fact::Dialled(n) => {
                if let Some((peer, connection)) = pick(&mut self.dialling, n) {
                    self.connections.push((peer, connection));
                    self.stage.establish(peer, connection);
                }
            }
            Fact::DialFailed(n, kind) => {
                if let Some((peer, connection)) = pick(&mut self.dialling, n) {
                    let error = [DialError::NoAddresses, failed(), DialError::Aborted, failed(), failed()];
                    self.stage.fail(peer, connection, &error[usize::from(kind)]);
                }
            }
            Fact::Inbound(n) => {
                let peer = self.peers[n % self.peers.len()];
                let connection = self.stage.inbound(peer);
                self.connections.push((peer, connection));
            }
            Fact::ForeignDial(n) => {
                let peer = self.peers[n % self.peers.len()];
                if !self.connected(peer) && !self.dialling.iter().any(|known| known.0 == peer) {
                    self.foreign.insert(peer);
                }
            }
            Fact::ForeignFailed(n) => {
                let peer = self.peers[n % self.peers.len()];
                if self.foreign.remove(&peer) {
                    self.stage.fail(peer, ConnectionId::new_unchecked(9 << 40), &failed());
                }
            }
            Fact::ForeignConnection(n) => self.connect_foreign(n),
            Fact::Serves(n, yes) => {
                if let Some((peer, connection)) = self.connections.get(n % self.connections.len().max(1)).copied() {
                    self.stage.dialer.on_serves(peer, connection, yes);
                }
            }
            Fact::Closed(n) => {
                if let Some((peer, connection)) = pick(&mut self.connections, n) {
                    self.stage.close(peer, connection);
                }
            }
            Fact::Response(n) => self.respond(n),
        }
        self.settle();
        self.check();
    }

    fn connect_foreign(&mut self, n: usize) {
        if self.policy == AddressPolicy::Lan {
            let peer = self.peers[n % self.peers.len()];
            self.foreign.remove(&peer);
            self.stage.dialer.on_foreign_connection(peer);
            self.stage.drain();
        }
    }

    fn respond(&mut self, n: usize) {
        let Some((connection, id)) = pick(&mut self.stage.sent, n) else { return };
        let Some((peer, _)) = self.connections.iter().find(|known| known.1 == connection).copied() else { return };
        let news = self.stage.dialer.on_response(peer, connection, id);
        assert_eq!(news, self.open.remove(&id), "an answer counts once, and only where it was not cancelled");
    }

    /// Carries out the actions, as the swarm would.
    fn settle(&mut self) {
        while let Some(opts) = self.stage.dials.pop() {
            let expected = if self.policy == AddressPolicy::Lan { "NotDialing" } else { "DisconnectedAndNotDialing" };
            assert!(format!("{opts:?}").contains(&format!("condition: {expected},")), "{opts:?}");
            let (peer, connection) = (opts.get_peer_id().unwrap(), opts.connection_id());
            let dialling = self.foreign.contains(&peer) || self.dialling.iter().any(|known| known.0 == peer);
            if dialling || self.policy != AddressPolicy::Lan && self.connected(peer) {
                self.stage.fail(peer, connection, &condition_false());
            } else {
                self.dialling.push((peer, connection));
            }
        }
        for (id, _) in std::mem::take(&mut self.stage.failed) {
            assert!(self.open.remove(&id), "{id} ended twice");
        }
    }

    fn check(&self) {
        let dialer = &self.stage.dialer;
        assert!(dialer.dials.len() <= 2 * DIALS_IN_ALL);
        assert!(dialer.queue.is_empty() || dialer.dials.len() >= 2, "no room is left unused");
        let waiting: usize = dialer.peers.values().map(|peer| peer.waiting.len()).sum();
        assert_eq!(waiting, dialer.waiting);
        assert!(waiting <= 6);
        assert!(dialer.peers.values().all(|peer| peer.connections.is_empty() || peer.waiting.is_empty()));
        assert_eq!(dialer.requests.keys().copied().collect::<BTreeSet<_>>(), self.open);
        let sent = dialer.peers.values().flat_map(|peer| &peer.connections).map(|known| known.sent.len());
        assert_eq!(sent.sum::<usize>() + waiting, self.open.len());
    }
}

fn pick<T>(list: &mut Vec<T>, n: usize) -> Option<T> {
    if list.is_empty() { None } else { Some(list.remove(n % list.len())) }
}

proptest! {
    #[test]
    fn every_request_ends_once_in_any_order_of_facts(lan: bool, facts in prop::collection::vec(fact(), 1..200)) {
        let mut world = World::new(if lan { AddressPolicy::Lan } else { AddressPolicy::Any });
        for fact in facts {
            world.happen(fact);
        }
        // Let everything fail that can: each request is retried at most once, so this comes to an end.
        for _ in 0..100 {
            for n in 0..8 {
                world.happen(Fact::DialFailed(0, 1));
                world.happen(Fact::ForeignFailed(n));
                world.happen(Fact::Closed(0));
            }
        }
        prop_assert!(world.open.is_empty(), "without an end: {:?}", world.open);
        world.stage.assert_forgotten();
    }
}
