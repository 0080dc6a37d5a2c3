//! Stories of single peers.

mod any_order;

use std::num::NonZeroUsize;

use super::*;
use crate::core::DialCause;
use libp2p_core::Multiaddr;
use libp2p_core::transport::TransportError;

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

/// A dialer, its actions, and a swarm simulated by the test.
struct Stage {
    dialer: Dialer,
    next_id: u64,
    next_connection: usize,
    dials: Vec<DialOpts>,
    sent: Vec<(ConnectionId, RequestId)>,
    cancelled: Vec<(ConnectionId, RequestId)>,
    failed: Vec<(RequestId, RequestError)>,
    /// Requests that were reported as being dialled for.
    dialling: Vec<RequestId>,
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
            next_id: 0,
            // Far from the ids that dial options draw.
            next_connection: 1 << 40,
            dials: Vec::new(),
            sent: Vec::new(),
            cancelled: Vec::new(),
            failed: Vec::new(),
            dialling: Vec::new(),
        }
    }

    fn send(&mut self, peer: PeerId, port: u16) -> RequestId {
        self.next_id += 1;
        let id = RequestId::new(self.next_id);
        self.dialer.send(Contact::new(peer, [addr(port)]), id, Request::Ping);
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
                Action::Input(Input::Dialling { id }) => self.dialling.push(id),
                Action::Input(Input::Response { id, result: Err(why) }) => self.failed.push((id, why)),
                Action::Input(input) => panic!("{input:?}"),
            }
        }
    }

    /// The only dial that the dialer asks for now.
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
        self.dialer.on_dial_failure(Some(peer), connection, error);
        self.drain();
    }

    fn close(&mut self, peer: PeerId, connection: ConnectionId) {
        self.dialer.on_closed(peer, connection);
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
fn a_request_is_reported_as_dialling_when_its_dial_begins() {
    let (peers, mut stage) = (peers(2), Stage::new(1, 10));
    let (one, two) = (stage.send(peers[0], 1), stage.send(peers[1], 2));
    let three = stage.send(peers[0], 1);
    assert_eq!(stage.dialling, [one, three], "the other waits for its turn");
    let connection = stage.dial();
    stage.establish(peers[0], connection);
    assert_eq!(stage.dialling, [one, three, two]);
}

#[test]
fn a_failed_dial_fails_all_and_the_next_request_dials_again() {
    let (peer, mut stage) = (peers(1)[0], Stage::new(4, 10));
    let (one, two) = (stage.send(peer, 1), stage.send(peer, 1));
    let connection = stage.dial();
    stage.fail(peer, connection, &failed());
    let unreachable = RequestError::Unreachable(Unreachable::DialFailed(DialCause::Refused));
    assert_eq!(stage.failed, [(one, unreachable), (two, unreachable)]);
    stage.assert_forgotten();
    stage.send(peer, 1);
    stage.dial();
}

/// A peer that fails the handshake is not dialled again unless the core sends another request, whatever the ids are.
#[test]
fn the_dialer_repeats_no_dial_by_itself() {
    let untold = RequestError::Unreachable(Unreachable::DialFailed(DialCause::Unknown));
    for peer in std::iter::repeat_with(PeerId::random).take(20) {
        let mut stage = Stage::new(4, 10);
        let id = stage.send(peer, 1);
        let connection = stage.dial();
        // The error of noise.
        let error = TransportError::Other(std::io::Error::other("input error"));
        stage.fail(peer, connection, &DialError::Transport(vec![(addr(1), error)]));
        assert_eq!((&stage.failed[..], stage.dials.len()), (&[(id, untold)][..], 0));
        stage.assert_forgotten();
    }
}

#[test]
fn each_way_to_fail_has_its_reason() {
    let local = PeerId::random();
    let denied = || DialError::Denied { cause: libp2p_swarm::ConnectionDenied::new(std::io::Error::other("no")) };
    let wrong = DialError::WrongPeerId { obtained: local, address: addr(1) };
    for (error, why) in [
        (DialError::NoAddresses, Unreachable::NoAddress),
        (wrong, Unreachable::WrongPeer),
        (DialError::LocalPeerId { address: addr(1) }, Unreachable::WrongPeer),
        (denied(), Unreachable::Denied),
        (DialError::Aborted, Unreachable::DialFailed(DialCause::Unknown)),
        (failed(), Unreachable::DialFailed(DialCause::Refused)),
    ] {
        let (peer, mut stage) = (peers(1)[0], Stage::new(4, 10));
        let id = stage.send(peer, 1);
        let connection = stage.dial();
        stage.fail(peer, connection, &error);
        assert_eq!(stage.failed, [(id, why.into())]);
        stage.assert_forgotten();
    }
}

#[test]
fn other_behaviours_are_asked_for_addresses_only_where_the_core_names_none() {
    let mut stage = Stage::new(4, 10);
    stage.send(peers(1)[0], 1);
    assert!(format!("{:?}", stage.dials).contains("extend_addresses_through_behaviour: false"), "{:?}", stage.dials);
    let opts = dial_opts(&Contact::new(peers(1)[0], []), AddressPolicy::Any);
    assert!(format!("{opts:?}").contains("extend_addresses_through_behaviour: true"), "{opts:?}");
}

#[test]
fn a_dial_that_outlives_its_requests_fails_no_other_request() {
    let (peer, mut stage) = (peers(1)[0], Stage::new(4, 10));
    let id = stage.send(peer, 1);
    let connection = stage.dial();
    stage.cancel(id);
    stage.fail(peer, connection, &failed());
    assert!(stage.failed.is_empty(), "a cancelled request has no other end");
    stage.assert_forgotten();
}

#[test]
fn an_inbound_connection_ends_the_waiting() {
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
fn a_closed_connection_is_replaced_once_by_another_that_is_up() {
    let (peer, mut stage) = (peers(1)[0], Stage::new(4, 10));
    let (first, second) = (stage.inbound(peer), stage.inbound(peer));
    let (one, two) = (stage.send(peer, 1), stage.send(peer, 1));
    assert_eq!(stage.sent, [(first, one), (second, two)], "spread evenly");
    stage.close(peer, first);
    assert_eq!(stage.sent[2..], [(second, one)]);
    assert!(!stage.dialer.on_response(peer, first, one), "no longer there");
    stage.close(peer, second);
    assert_eq!(stage.failed, [one, two].map(|id| (id, RequestError::ConnectionClosed)), "whom to dial the core says");
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
fn dials_without_requests_delay_no_others_within_limits() {
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
    // It does not use the budget in the meantime.
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
