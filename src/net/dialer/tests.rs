//! Stories of single peers, and then any order of facts at all.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::time::Duration;

use libp2p_core::Multiaddr;
use libp2p_core::transport::TransportError;
use proptest::prelude::*;

use super::*;
use crate::core::DialCause;

fn peers(count: u8) -> Vec<PeerId> {
    let peer = |n| {
        let multihash = [&[0x00, 4][..], &[n; 4]].concat();
        PeerId::from_bytes(&multihash).unwrap()
    };
    (1..=count).map(peer).collect()
}

fn addr(port: u16) -> Multiaddr {
    format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap()
}

fn failed() -> DialError {
    let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
    DialError::Transport(vec![(addr(1), TransportError::Other(refused))])
}

fn condition_false() -> DialError {
    DialError::DialPeerConditionFalse(PeerCondition::DisconnectedAndNotDialing)
}

/// A dialer, what it wants, and a swarm played by hand.
struct Stage {
    dialer: Dialer,
    now: Timestamp,
    next_id: u64,
    next_connection: usize,
    dials: Vec<DialOpts>,
    sent: Vec<(ConnectionId, RequestId)>,
    cancelled: Vec<(ConnectionId, RequestId)>,
    failed: Vec<(RequestId, RequestError)>,
}

impl Stage {
    fn new(at_once: usize, waiting: usize) -> Stage {
        Stage::with(at_once, waiting, AddressPolicy::Any)
    }

    fn with(at_once: usize, waiting: usize, policy: AddressPolicy) -> Stage {
        let at_once = NonZeroUsize::new(at_once).unwrap();
        let config = DialConfig { at_once, waiting, ..DialConfig::default() };
        Stage {
            dialer: Dialer::new(PeerId::random(), config, policy),
            now: Timestamp::from_secs(1_000),
            next_id: 0,
            // Far from the ids that dial options draw.
            next_connection: 1 << 40,
            dials: Vec::new(),
            sent: Vec::new(),
            cancelled: Vec::new(),
            failed: Vec::new(),
        }
    }

    fn send(&mut self, peer: PeerId, port: u16) -> RequestId {
        self.next_id += 1;
        let id = RequestId::new(self.next_id);
        self.dialer.send(self.now, Contact::new(peer, [addr(port)]), id, Request::Ping);
        self.drain();
        id
    }

    fn drain(&mut self) {
        while let Some(action) = self.dialer.next_action() {
            match action {
                Action::Dial(opts) => self.dials.push(opts),
                Action::Notify { connection, event: ToHandler::Send { id, .. }, .. } => {
                    self.sent.push((connection, id))
                }
                Action::Notify { connection, event: ToHandler::Cancel { id }, .. } => {
                    self.cancelled.push((connection, id));
                }
                Action::Notify { event, .. } => panic!("{event:?}"),
                Action::Fail { id, why } => self.failed.push((id, why)),
            }
        }
    }

    /// The only dial that is wanted now.
    fn dial(&mut self) -> ConnectionId {
        assert_eq!(self.dials.len(), 1);
        self.dials.remove(0).connection_id()
    }

    fn inbound(&mut self, peer: PeerId) -> ConnectionId {
        self.next_connection += 1;
        let connection = ConnectionId::new_unchecked(self.next_connection);
        self.establish(peer, connection);
        connection
    }

    fn establish(&mut self, peer: PeerId, connection: ConnectionId) {
        self.dialer.on_established(peer, connection);
        self.drain();
    }

    fn fail(&mut self, peer: PeerId, connection: ConnectionId, error: &DialError) {
        self.dialer.on_dial_failure(self.now, Some(peer), connection, error);
        self.drain();
    }

    fn close(&mut self, peer: PeerId, connection: ConnectionId) {
        self.dialer.on_closed(self.now, peer, connection);
        self.drain();
    }

    fn cancel(&mut self, id: RequestId) {
        self.dialer.cancel(id);
        self.drain();
    }

    fn assert_forgotten(&self) {
        let dialer = &self.dialer;
        assert!(dialer.peers.is_empty(), "{dialer:?}");
        assert!(dialer.requests.is_empty() && dialer.queue.is_empty() && dialer.dials.is_empty(), "{dialer:?}");
        assert_eq!(dialer.waiting, 0);
    }
}

#[test]
fn one_dial_for_all_requests_and_the_connection_carries_them_in_order() {
    let (peer, mut stage) = (peers(1)[0], Stage::new(4, 10));
    let (one, two) = (stage.send(peer, 1), stage.send(peer, 2));
    let connection = stage.dial();
    assert!(stage.sent.is_empty());
    stage.establish(peer, connection);
    let three = stage.send(peer, 1);
    assert_eq!(stage.sent, [(connection, one), (connection, two), (connection, three)]);
    assert!(stage.dials.is_empty());
    for id in [one, two, three] {
        assert!(stage.dialer.on_response(peer, connection, id));
        assert!(!stage.dialer.on_response(peer, connection, id), "one end");
    }
    stage.close(peer, connection);
    stage.assert_forgotten();
}

#[test]
fn a_failed_dial_fails_all_and_holds_the_peer_back() {
    let (peer, mut stage) = (peers(1)[0], Stage::new(4, 10));
    let (one, two) = (stage.send(peer, 1), stage.send(peer, 1));
    let connection = stage.dial();
    stage.fail(peer, connection, &failed());
    let unreachable = RequestError::Unreachable(Unreachable::DialFailed(DialCause::Refused));
    assert_eq!(stage.failed, [(one, unreachable), (two, unreachable)]);
    stage.assert_forgotten();
    let three = stage.send(peer, 1);
    assert_eq!(stage.failed[2], (three, Unreachable::BackingOff(DialCause::Refused).into()));
    stage.send(peer, 2);
    let connection = stage.dial();
    stage.dialer.on_answer(); // somebody else is there
    stage.fail(peer, connection, &failed());
    stage.now += Duration::from_secs(9);
    stage.send(peer, 2);
    assert!(stage.dials.is_empty(), "the second failure in a row counts double");
    stage.now += Duration::from_secs(1);
    stage.send(peer, 2);
    stage.dial();
}

#[test]
fn each_way_to_fail_has_its_name() {
    let local = PeerId::random();
    let denied = || DialError::Denied { cause: libp2p_swarm::ConnectionDenied::new(std::io::Error::other("no")) };
    let wrong = DialError::WrongPeerId { obtained: local, address: addr(1) };
    for (error, why, held_back) in [
        (DialError::NoAddresses, Unreachable::NoAddress, false),
        (wrong, Unreachable::WrongPeer, true),
        (DialError::LocalPeerId { address: addr(1) }, Unreachable::WrongPeer, true),
        (denied(), Unreachable::Denied, false),
        (DialError::Aborted, Unreachable::DialFailed(DialCause::Unknown), false),
        (failed(), Unreachable::DialFailed(DialCause::Refused), true),
    ] {
        let (peer, mut stage) = (peers(1)[0], Stage::new(4, 10));
        let id = stage.send(peer, 1);
        let connection = stage.dial();
        stage.fail(peer, connection, &error);
        assert_eq!(stage.failed, [(id, why.into())]);
        stage.assert_forgotten();
        stage.send(peer, 1);
        assert_eq!(stage.dials.is_empty(), held_back, "{error:?}");
    }
}

#[test]
fn a_wrong_address_that_others_add_is_met_once() {
    let (peer, mut stage) = (peers(1)[0], Stage::new(4, 10));
    let id = stage.send(peer, 1);
    assert!(format!("{:?}", stage.dials).contains("extend_addresses_through_behaviour: true"));
    let connection = stage.dial();
    // Not an address that this node brought along.
    let wrong = DialError::WrongPeerId { obtained: PeerId::random(), address: addr(9) };
    stage.fail(peer, connection, &wrong);
    assert!(format!("{:?}", stage.dials).contains("extend_addresses_through_behaviour: false"), "{:?}", stage.dials);
    let connection = stage.dial();
    stage.establish(peer, connection);
    assert_eq!(stage.sent, [(connection, id)]);
}

#[test]
fn a_dial_that_outlives_its_requests_still_counts_as_failed() {
    let (peer, mut stage) = (peers(1)[0], Stage::new(4, 10));
    let id = stage.send(peer, 1);
    let connection = stage.dial();
    stage.cancel(id);
    stage.fail(peer, connection, &failed());
    assert!(stage.failed.is_empty(), "a cancelled request has no other end");
    stage.assert_forgotten();
    let id = stage.send(peer, 1);
    assert_eq!(stage.failed, [(id, Unreachable::BackingOff(DialCause::Refused).into())]);
}

#[test]
fn an_inbound_connection_ends_the_waiting_and_forgives() {
    let (peer, mut stage) = (peers(1)[0], Stage::new(1, 10));
    let one = stage.send(peer, 1);
    let dial = stage.dial();
    let inbound = stage.inbound(peer);
    assert_eq!(stage.sent, [(inbound, one)]);
    stage.fail(peer, dial, &failed());
    assert!(stage.failed.is_empty());
    assert!(stage.dialer.on_response(peer, inbound, one));
    stage.close(peer, inbound);
    stage.assert_forgotten();
    stage.send(peer, 1);
    stage.dial();
}

#[test]
fn a_closed_connection_is_replaced_once() {
    let (peer, mut stage) = (peers(1)[0], Stage::new(4, 10));
    let (first, second) = (stage.inbound(peer), stage.inbound(peer));
    let (one, two) = (stage.send(peer, 1), stage.send(peer, 1));
    assert_eq!(stage.sent, [(first, one), (second, two)], "spread evenly");
    stage.close(peer, first);
    assert_eq!(stage.sent[2..], [(second, one)]);
    assert!(!stage.dialer.on_response(peer, first, one), "no longer there");
    stage.close(peer, second);
    assert_eq!(stage.failed, [(one, RequestError::ConnectionClosed)]);
    let dial = stage.dial();
    stage.establish(peer, dial);
    assert_eq!(stage.sent[3..], [(dial, two)]);
    stage.close(peer, dial);
    assert_eq!(stage.failed[1], (two, RequestError::ConnectionClosed));
    stage.assert_forgotten();
}

#[test]
fn dials_beyond_the_budget_wait_in_order_and_requests_beyond_it_are_refused() {
    let (peers, mut stage) = (peers(9), Stage::new(2, 5));
    let ids: Vec<_> = peers[..5].iter().map(|peer| stage.send(*peer, 1)).collect();
    assert_eq!(stage.dials.len(), 2);
    let late = stage.send(peers[5], 1);
    assert_eq!(stage.failed, [(late, RequestError::Busy)]);
    stage.cancel(ids[2]);
    let (first, second) = (stage.dials.remove(0), stage.dials.remove(0));
    stage.establish(peers[0], first.connection_id());
    assert_eq!(stage.dials.remove(0).get_peer_id(), Some(peers[3]), "the third gave up");
    stage.fail(peers[1], second.connection_id(), &failed());
    assert_eq!(stage.dials.remove(0).get_peer_id(), Some(peers[4]));
}

#[test]
fn dials_that_nobody_waits_for_hold_up_no_others_within_bounds() {
    let (peers, mut stage) = (peers(20), Stage::new(2, 100));
    let ids: Vec<_> = peers.iter().map(|peer| stage.send(*peer, 1)).collect();
    assert_eq!(stage.dials.len(), 2);
    for (n, id) in ids.iter().enumerate().take(18) {
        stage.cancel(*id);
        let expected = (n + 3).min(2 * DIALS_IN_ALL);
        assert_eq!(stage.dials.len(), expected, "after {} gave up", n + 1);
    }
    let first = stage.dials[0].connection_id();
    stage.fail(peers[0], first, &failed());
    assert_eq!(stage.dials.last().unwrap().get_peer_id(), Some(peers[18]));
}

#[test]
fn a_request_goes_where_the_peer_serves() {
    let (peer, mut stage) = (peers(1)[0], Stage::new(1, 10));
    let (deaf, open) = (stage.inbound(peer), stage.inbound(peer));
    assert_eq!(stage.dialer.serves(&peer), None);
    stage.dialer.on_serves(peer, deaf, false);
    assert_eq!(stage.dialer.serves(&peer), Some(false));
    stage.dialer.on_serves(peer, open, true);
    assert_eq!(stage.dialer.serves(&peer), Some(true));
    let ids = [1, 2, 3].map(|port| stage.send(peer, port));
    assert_eq!(stage.sent, ids.map(|id| (open, id)), "though the other one has none under way");
    stage.close(peer, open);
    assert_eq!(stage.sent[3..], ids.map(|id| (deaf, id)), "better than none: it may have changed its mind");
    assert_eq!(stage.dialer.serves(&peer), Some(false));
}

#[test]
fn a_foreign_dial_is_waited_for_and_then_tried_ourselves() {
    let (peer, mut stage) = (peers(1)[0], Stage::new(1, 10));
    let id = stage.send(peer, 1);
    let dial = stage.dial();
    stage.fail(peer, dial, &condition_false());
    assert!(stage.failed.is_empty() && stage.dials.is_empty());
    // It takes no part of the budget meanwhile.
    let other = peers(2)[1];
    stage.send(other, 1);
    let dial = stage.dial();
    stage.fail(other, dial, &failed());
    stage.fail(peer, ConnectionId::new_unchecked(7 << 40), &failed());
    let dial = stage.dial();
    stage.establish(peer, dial);
    assert_eq!(stage.sent, [(dial, id)]);
}

#[test]
fn it_never_dials_itself() {
    let mut stage = Stage::new(1, 10);
    let local = stage.dialer.local;
    let id = stage.send(local, 1);
    assert_eq!(stage.failed, [(id, Unreachable::NoAddress.into())]);
    stage.assert_forgotten();
}

#[test]
fn a_cancelled_request_is_cancelled_where_it_is() {
    let (peer, mut stage) = (peers(1)[0], Stage::new(1, 10));
    let connection = stage.inbound(peer);
    let id = stage.send(peer, 1);
    stage.cancel(id);
    stage.cancel(id);
    assert_eq!(stage.cancelled, [(connection, id)]);
    assert!(!stage.dialer.on_response(peer, connection, id));
    stage.close(peer, connection);
    assert!(stage.failed.is_empty() && stage.dials.is_empty());
    stage.assert_forgotten();
}

#[derive(Clone, Copy, Debug)]
enum Fact {
    Send(usize, u16),
    Cancel(usize),
    Dialled(usize),
    DialFailed(usize, u8),
    Inbound(usize),
    ForeignDial(usize),
    ForeignFailed(usize),
    /// A connection that does not count, as there are beside a local network: by a dial of others, or an inbound one.
    Elsewhere(usize),
    Serves(usize, bool),
    Closed(usize),
    Response(usize),
    Later(u64),
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
        1 => n.clone().prop_map(Fact::Elsewhere),
        1 => (n.clone(), any::<bool>()).prop_map(|(connection, yes)| Fact::Serves(connection, yes)),
        2 => n.clone().prop_map(Fact::Closed),
        2 => n.clone().prop_map(Fact::Response),
        1 => (1..400_u64).prop_map(Fact::Later),
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
            Fact::Elsewhere(n) => self.connect_elsewhere(n),
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
            Fact::Later(seconds) => self.stage.now += Duration::from_secs(seconds),
        }
        self.settle();
        self.check();
    }

    fn connect_elsewhere(&mut self, n: usize) {
        if self.policy == AddressPolicy::Lan {
            let peer = self.peers[n % self.peers.len()];
            self.foreign.remove(&peer);
            self.stage.dialer.on_other_connection(peer);
            self.stage.drain();
        }
    }

    fn respond(&mut self, n: usize) {
        let Some((connection, id)) = pick(&mut self.stage.sent, n) else { return };
        let Some((peer, _)) = self.connections.iter().find(|known| known.1 == connection).copied() else { return };
        let news = self.stage.dialer.on_response(peer, connection, id);
        assert_eq!(news, self.open.remove(&id), "an answer counts once, and only where it was not cancelled");
    }

    /// Does what is wanted, as the swarm would at once.
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
        // Let everything fail that can: at most one retry each, so this comes to an end.
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
