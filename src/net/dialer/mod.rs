//! The promise of `Send`: on a connection that is up, or by a dial, or with a reason why not; one end for each request.
//!
//! Knows: connections, dials, and which request went where. Must not know: what is asked or why, or how streams work.
//! It holds no socket and no swarm: facts go in, [`Action`]s come out, so that a test can try every order of facts.

mod failure;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use libp2p_identity::PeerId;
use libp2p_swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p_swarm::{ConnectionId, DialError};

pub(super) use failure::failed_addrs;

use super::config::DialConfig;
use super::messages::ToHandler;
use crate::core::stats::DriverStats;
use crate::core::{AddressPolicy, Contact, Request, RequestError, RequestId, Unreachable};

/// How many times `DialConfig::at_once` dials may be under way, those included that every request gave up waiting for.
/// A dial cannot be taken back and may take longer than a request's time: dead peers must not hold up the others.
const DIALS_IN_ALL: usize = 4;

/// What the dialer wants done.
#[derive(Debug)]
pub(super) enum Action {
    /// Dial. Ends in [`Dialer::on_established`] or [`Dialer::on_dial_failure`] with the connection id of these options.
    Dial(DialOpts),
    /// Tell the handler of this connection.
    Notify { peer: PeerId, connection: ConnectionId, event: ToHandler },
    /// A connection is being made for this request.
    Dialling { id: RequestId },
    /// This request ended without an answer.
    Fail { id: RequestId, why: RequestError },
}

#[derive(Debug)]
pub(super) struct Dialer {
    local: PeerId,
    policy: AddressPolicy,
    config: DialConfig,
    /// Peers with a connection, a dial or a waiting request.
    peers: BTreeMap<PeerId, Peer>,
    /// Where each unfinished request is: handed to a connection, or waiting for one.
    requests: BTreeMap<RequestId, (PeerId, Option<ConnectionId>)>,
    /// Peers that wait to be dialled, in order.
    queue: BTreeMap<u64, PeerId>,
    next_place: u64,
    /// Own dials under way, and at which addresses: at most [`DIALS_IN_ALL`] times `config.at_once`.
    dials: BTreeMap<ConnectionId, Arc<Contact>>,
    /// Requests that wait for a connection: at most `config.waiting`.
    waiting: usize,
    /// How many of `peers` have a connection.
    connected: u64,
    /// What it did so far.
    counts: DriverStats,
    actions: VecDeque<Action>,
}

#[derive(Debug, Default)]
struct Peer {
    /// In the order in which they came up.
    connections: Vec<Connection>,
    /// Empty while there is a connection.
    waiting: VecDeque<Outgoing>,
    dial: Dial,
}

#[derive(Debug)]
struct Connection {
    id: ConnectionId,
    sent: BTreeMap<RequestId, Outgoing>,
    /// What the peer says here of whether it serves.
    serves: Option<bool>,
}

#[derive(Debug)]
struct Outgoing {
    to: Arc<Contact>,
    id: RequestId,
    request: Request,
    /// A connection closed on it before.
    retried: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Dial {
    #[default]
    None,
    /// At this place of the queue.
    Queued(u64),
    /// Under this connection id.
    Own(ConnectionId),
    /// Another part of the program dials the peer: its success is ours, after its failure we dial.
    Foreign,
}

impl Dialer {
    pub(super) fn new(local: PeerId, config: DialConfig, policy: AddressPolicy) -> Dialer {
        Dialer {
            local,
            policy,
            config,
            peers: BTreeMap::new(),
            requests: BTreeMap::new(),
            queue: BTreeMap::new(),
            next_place: 0,
            dials: BTreeMap::new(),
            waiting: 0,
            connected: 0,
            counts: DriverStats::default(),
            actions: VecDeque::new(),
        }
    }

    /// Takes on a request. It ends by [`Action::Fail`] or a true [`Dialer::on_response`], unless it is cancelled.
    pub(super) fn send(&mut self, to: Arc<Contact>, id: RequestId, request: Request) {
        self.route(Outgoing { to, id, request, retried: false });
    }

    /// Gives up a request; it has no other end.
    pub(super) fn cancel(&mut self, id: RequestId) {
        let Some((peer_id, connection)) = self.requests.remove(&id) else { return };
        let Some(peer) = self.peers.get_mut(&peer_id) else { return };
        if let Some(connection) = connection {
            if let Some(entry) = peer.connections.iter_mut().find(|known| known.id == connection) {
                entry.sent.remove(&id);
            }
            self.notify(peer_id, connection, ToHandler::Cancel { id });
            return;
        }
        peer.waiting.retain(|outgoing| outgoing.id != id);
        self.waiting -= 1;
        self.give_up_idle_dial(peer_id);
    }

    /// Whether this request is on this connection and has not ended.
    pub(super) fn has_sent(&self, peer: PeerId, connection: ConnectionId, id: RequestId) -> bool {
        self.requests.get(&id) == Some(&(peer, Some(connection)))
    }

    /// A handler reports the end of a request; returns whether that is news.
    pub(super) fn on_response(&mut self, peer: PeerId, connection: ConnectionId, id: RequestId) -> bool {
        if !self.has_sent(peer, connection, id) {
            return false;
        }
        self.requests.remove(&id);
        if let Some(entry) = self.connection(peer, connection) {
            entry.sent.remove(&id);
        }
        true
    }

    /// A connection is up, whoever dialled.
    pub(super) fn on_established(&mut self, peer_id: PeerId, connection: ConnectionId) {
        let own = self.dials.remove(&connection).is_some();
        self.counts.dials_succeeded += u64::from(own);
        tracing::debug!(peer = %peer_id, %connection, own, "connected");
        let peer = self.peers.entry(peer_id).or_default();
        match peer.dial {
            Dial::Own(id) if id != connection => {}
            Dial::Queued(place) => {
                self.queue.remove(&place);
                peer.dial = Dial::None;
            }
            _ => peer.dial = Dial::None,
        }
        self.connected += u64::from(peer.connections.is_empty());
        peer.connections.push(Connection { id: connection, sent: BTreeMap::new(), serves: None });
        let waiting = std::mem::take(&mut peer.waiting);
        self.waiting -= waiting.len();
        for outgoing in waiting {
            self.hand(peer_id, connection, outgoing);
        }
        self.dial_next();
    }

    /// A connection to the peer is up that does not count. Who hoped for it dials.
    pub(super) fn on_other_connection(&mut self, peer_id: PeerId) {
        if self.peers.get(&peer_id).is_some_and(|peer| peer.dial == Dial::Foreign) {
            self.enqueue(peer_id);
            self.dial_next();
        }
    }

    /// A connection is gone; what was under way on it is tried once more where there is another.
    pub(super) fn on_closed(&mut self, peer_id: PeerId, connection: ConnectionId) {
        let Some(peer) = self.peers.get_mut(&peer_id) else { return };
        let Some(index) = peer.connections.iter().position(|known| known.id == connection) else { return };
        let closed = peer.connections.remove(index);
        self.connected -= u64::from(peer.connections.is_empty());
        tracing::debug!(peer = %peer_id, %connection, unanswered = closed.sent.len(), "connection closed");
        for (id, outgoing) in closed.sent {
            self.requests.remove(&id);
            // Whether the peer may be dialled, and where, is for the core to say.
            if outgoing.retried || !self.is_connected(&peer_id) {
                self.fail(id, RequestError::ConnectionClosed);
            } else {
                self.route(Outgoing { retried: true, ..outgoing });
            }
        }
        self.prune(peer_id);
    }

    /// A dial failed, an own one or another's.
    pub(super) fn on_dial_failure(&mut self, peer: Option<PeerId>, connection: ConnectionId, error: &DialError) {
        if let Some(dialled) = self.dials.remove(&connection) {
            self.counts.dials_failed[failure::index(error)] += 1;
            tracing::debug!(peer = %dialled.peer(), %connection, %error, "dial failed");
            self.on_own_dial_failure(&dialled, error);
        } else if let Some(peer_id) = peer
            && self.peers.get(&peer_id).is_some_and(|known| known.dial == Dial::Foreign)
        {
            self.enqueue(peer_id);
        }
        self.dial_next();
    }

    /// Whether this connection, once up, is one of ours.
    pub(super) fn is_own_dial(&self, connection: ConnectionId) -> bool {
        self.dials.contains_key(&connection)
    }

    /// What the peer says on this connection of whether it serves.
    pub(super) fn on_serves(&mut self, peer: PeerId, connection: ConnectionId, yes: bool) {
        if let Some(known) = self.connection(peer, connection) {
            known.serves = Some(yes);
        }
    }

    /// Whether the peer serves on any connection; `None` if it has not said so on one.
    pub(super) fn serves(&self, peer: &PeerId) -> Option<bool> {
        self.peers.get(peer)?.connections.iter().filter_map(|known| known.serves).max()
    }

    /// What the peer said on this connection of whether it serves.
    pub(super) fn serves_on(&self, peer: PeerId, connection: ConnectionId) -> Option<bool> {
        self.peers.get(&peer)?.connections.iter().find(|known| known.id == connection)?.serves
    }

    /// All connections that are up.
    pub(super) fn connections(&self) -> impl Iterator<Item = (PeerId, ConnectionId)> + '_ {
        self.peers.iter().flat_map(|(peer, entry)| entry.connections.iter().map(|known| (*peer, known.id)))
    }

    pub(super) fn is_connected(&self, peer: &PeerId) -> bool {
        self.peers.get(peer).is_some_and(|entry| !entry.connections.is_empty())
    }

    pub(super) fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Requests without an end yet.
    pub(super) fn pending(&self) -> usize {
        self.requests.len()
    }

    /// What it did so far, and what there is now.
    pub(super) fn counts(&self) -> DriverStats {
        let requests_waiting = u64::try_from(self.waiting).unwrap_or(u64::MAX);
        DriverStats { requests_waiting, connected_peers: self.connected, ..self.counts }
    }

    /// Peers with a connection, a dial or a waiting request.
    pub(super) fn peers(&self) -> usize {
        self.peers.len()
    }

    /// Sends on the connection with the fewest requests under way, of those on which the peer serves or may, or waits for
    /// one.
    fn route(&mut self, outgoing: Outgoing) {
        let peer_id = *outgoing.to.peer();
        if peer_id == self.local {
            return self.fail(outgoing.id, Unreachable::NoAddress.into());
        }
        let known = self.peers.get(&peer_id);
        let least = known.and_then(|peer| peer.connections.iter().min_by_key(|known| known.load()));
        match least.map(|known| known.id) {
            Some(connection) => self.hand(peer_id, connection, outgoing),
            None => self.wait(peer_id, outgoing),
        }
    }

    fn hand(&mut self, peer: PeerId, connection: ConnectionId, outgoing: Outgoing) {
        let (id, request) = (outgoing.id, outgoing.request.clone());
        self.requests.insert(id, (peer, Some(connection)));
        if let Some(entry) = self.connection(peer, connection) {
            entry.sent.insert(id, outgoing);
        }
        self.notify(peer, connection, ToHandler::Send { id, request });
    }

    fn wait(&mut self, peer_id: PeerId, outgoing: Outgoing) {
        if self.waiting >= self.config.waiting {
            return self.fail(outgoing.id, RequestError::Busy);
        }
        let idle = self.peers.get(&peer_id).is_none_or(|peer| peer.dial == Dial::None);
        self.waiting += 1;
        self.requests.insert(outgoing.id, (peer_id, None));
        let peer = self.peers.entry(peer_id).or_default();
        if matches!(peer.dial, Dial::Own(_) | Dial::Foreign) {
            self.actions.push_back(Action::Dialling { id: outgoing.id });
        }
        peer.waiting.push_back(outgoing);
        if idle {
            self.enqueue(peer_id);
            self.dial_next();
        }
    }

    fn enqueue(&mut self, peer_id: PeerId) {
        self.next_place += 1;
        self.queue.insert(self.next_place, peer_id);
        self.peers.entry(peer_id).or_default().dial = Dial::Queued(self.next_place);
    }

    /// Dials the next in the queue while there is room.
    fn dial_next(&mut self) {
        while !self.queue.is_empty() && self.has_room() {
            let Some((_, peer_id)) = self.queue.pop_first() else { return };
            let Some(peer) = self.peers.get_mut(&peer_id) else { continue };
            let Some(contact) = peer.contact() else { continue };
            let opts = dial_opts(&contact, self.policy);
            peer.dial = Dial::Own(opts.connection_id());
            self.actions.extend(peer.waiting.iter().map(|waiting| Action::Dialling { id: waiting.id }));
            self.counts.dials_started += 1;
            tracing::debug!(peer = %peer_id, connection = %opts.connection_id(), "dials");
            self.dials.insert(opts.connection_id(), contact);
            self.actions.push_back(Action::Dial(opts));
        }
    }

    fn has_room(&self) -> bool {
        let at_once = self.config.at_once.get();
        let awaited =
            |dialled: &&Arc<Contact>| self.peers.get(dialled.peer()).is_some_and(|peer| !peer.waiting.is_empty());
        self.dials.len() < at_once
            || self.dials.len() < at_once.saturating_mul(DIALS_IN_ALL)
                && self.dials.values().filter(awaited).count() < at_once
    }

    fn on_own_dial_failure(&mut self, dialled: &Arc<Contact>, error: &DialError) {
        let peer_id = *dialled.peer();
        let Some(peer) = self.peers.get_mut(&peer_id) else { return };
        peer.dial = Dial::None;
        if matches!(error, DialError::DialPeerConditionFalse(_)) {
            if !peer.waiting.is_empty() {
                peer.dial = Dial::Foreign;
            }
            return self.prune(peer_id);
        }
        let waiting = std::mem::take(&mut peer.waiting);
        self.waiting -= waiting.len();
        for outgoing in waiting {
            self.requests.remove(&outgoing.id);
            self.fail(outgoing.id, failure::why_unreachable(error).into());
        }
        self.prune(peer_id);
    }

    /// A dial that nobody waits for any more is not begun, and makes room for another if it was.
    fn give_up_idle_dial(&mut self, peer_id: PeerId) {
        let Some(peer) = self.peers.get_mut(&peer_id) else { return };
        if !peer.waiting.is_empty() {
            return;
        }
        match peer.dial {
            Dial::Queued(place) => {
                self.queue.remove(&place);
                peer.dial = Dial::None;
            }
            Dial::Foreign => peer.dial = Dial::None,
            Dial::None | Dial::Own(_) => {}
        }
        self.prune(peer_id);
        self.dial_next();
    }

    fn prune(&mut self, peer_id: PeerId) {
        let idle = |peer: &Peer| peer.connections.is_empty() && peer.waiting.is_empty() && peer.dial == Dial::None;
        if self.peers.get(&peer_id).is_some_and(idle) {
            self.peers.remove(&peer_id);
        }
    }

    fn connection(&mut self, peer: PeerId, connection: ConnectionId) -> Option<&mut Connection> {
        self.peers.get_mut(&peer)?.connections.iter_mut().find(|known| known.id == connection)
    }

    fn notify(&mut self, peer: PeerId, connection: ConnectionId, event: ToHandler) {
        self.actions.push_back(Action::Notify { peer, connection, event });
    }

    fn fail(&mut self, id: RequestId, why: RequestError) {
        self.actions.push_back(Action::Fail { id, why });
    }
}

impl Connection {
    /// By which it is chosen: the least first.
    fn load(&self) -> (bool, usize) {
        (self.serves == Some(false), self.sent.len())
    }
}

impl Peer {
    /// The addresses that all waiting requests know, together; `None` if none waits.
    fn contact(&self) -> Option<Arc<Contact>> {
        let mut waiting = self.waiting.iter();
        let first = Arc::clone(&waiting.next()?.to);
        Some(waiting.fold(first, |contact, outgoing| contact.merged(&outgoing.to)))
    }
}

fn dial_opts(contact: &Contact, policy: AddressPolicy) -> DialOpts {
    // In a local network there may be a connection that does not count.
    let condition = match policy {
        AddressPolicy::Lan => PeerCondition::NotDialing,
        _ => PeerCondition::DisconnectedAndNotDialing,
    };
    let opts = DialOpts::peer_id(*contact.peer()).condition(condition).addresses(contact.addrs().collect());
    // Other behaviours may know a peer of which the core knows no address. Beside those that the core chose theirs are not
    // wanted: they include old ones, wrong ones, and whatever the peer said of itself.
    match policy {
        AddressPolicy::Any if !contact.has_addrs() => opts.extend_addresses_through_behaviour().build(),
        _ => opts.build(),
    }
}

#[cfg(test)]
mod tests;
