//! Carries requests to peers: over an open connection, or by a dial. Each request ends once, with an answer or a
//! reason.
//!
//! Knows: connections, dials, and which request is on which connection. Must not know: what is asked or why, or how
//! streams work. It holds no socket and no swarm: methods report events, and [`Action`]s come out, so that a test can
//! try every order of events.

mod failure;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use libp2p_identity::PeerId;
use libp2p_swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p_swarm::{ConnectionId, DialError};

pub(super) use failure::failed_addrs;

use super::config::DialConfig;
use super::messages::ToHandler;
use crate::core::stats::DriverStats;
use crate::core::{AddressPolicy, Contact, Input, Request, RequestError, RequestId, Unreachable};

/// The maximum number of dials, in multiples of `DialConfig::at_once`: dials that no request waits for any more
/// included. A dial cannot be cancelled and may outlast its requests, and dead peers must not delay the others.
const DIALS_IN_ALL: usize = 4;

/// An action that the dialer asks for.
#[derive(Debug)]
pub(super) enum Action {
    /// Dial. Ends in [`Dialer::on_established`] or [`Dialer::on_dial_failure`] with the connection id of these options.
    Dial(DialOpts),
    /// Pass this to the handler of a connection.
    Notify { peer: PeerId, connection: ConnectionId, event: ToHandler },
    /// Pass this to the core.
    Input(Input),
}

#[derive(Debug)]
pub(super) struct Dialer {
    local: PeerId,
    policy: AddressPolicy,
    config: DialConfig,
    /// Peers with a connection, a dial or a waiting request.
    peers: BTreeMap<PeerId, DialerPeer>,
    /// Requests that have not ended.
    requests: BTreeMap<RequestId, DialerRequest>,
    /// Peers that wait to be dialled, in order.
    queue: BTreeMap<u64, PeerId>,
    next_place: u64,
    /// Own dials under way with their addresses: at most [`DIALS_IN_ALL`] times `config.at_once`.
    dials: BTreeMap<ConnectionId, Arc<Contact>>,
    /// Number of requests that wait for a connection: at most `config.waiting`.
    waiting: usize,
    /// Number of `peers` that have a connection.
    connected: u64,
    counts: DriverStats,
    actions: VecDeque<Action>,
}

#[derive(Debug, Default)]
struct DialerPeer {
    /// In the order in which they were established.
    connections: Vec<OpenConnection>,
    /// Empty while there is a connection.
    waiting: VecDeque<RequestId>,
    dial: DialState,
}

#[derive(Debug)]
struct OpenConnection {
    id: ConnectionId,
    /// Requests that were sent on it and have not ended.
    sent: BTreeSet<RequestId>,
    /// Whether the peer serves on it, if the peer said so.
    serves: Option<bool>,
}

#[derive(Debug)]
struct DialerRequest {
    to: Arc<Contact>,
    request: Request,
    /// The connection that it was sent on; `None` while it waits for one.
    connection: Option<ConnectionId>,
    /// Whether a connection closed before it was answered.
    retried: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum DialState {
    #[default]
    None,
    /// Waits at this place of the queue.
    Queued(u64),
    /// This node dials, with this connection id.
    Own(ConnectionId),
    /// Another behaviour dials the peer. If it succeeds, its connection is used; if it fails, this node dials.
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

    /// Takes a request. It ends by an [`Input::Response`] or a true [`Dialer::on_response`], unless it is cancelled.
    pub(super) fn send(&mut self, to: Arc<Contact>, id: RequestId, request: Request) {
        self.route(id, DialerRequest { to, request, connection: None, retried: false });
    }

    /// Gives up a request; it has no other end.
    pub(super) fn cancel(&mut self, id: RequestId) {
        let Some(DialerRequest { to, connection, .. }) = self.requests.remove(&id) else { return };
        let Some(peer) = self.peers.get_mut(to.peer()) else { return };
        let Some(connection) = connection else {
            peer.waiting.retain(|waiting| *waiting != id);
            self.waiting -= 1;
            return self.give_up_dial(*to.peer());
        };
        if let Some(known) = peer.connection(connection) {
            known.sent.remove(&id);
        }
        self.notify(*to.peer(), connection, ToHandler::Cancel { id });
    }

    /// Whether this request is on this connection and has not ended.
    pub(super) fn has_sent(&self, peer: PeerId, connection: ConnectionId, id: RequestId) -> bool {
        self.requests.get(&id).is_some_and(|known| *known.to.peer() == peer && known.connection == Some(connection))
    }

    /// A handler reports the end of a request. Returns `false` if the request had ended before.
    pub(super) fn on_response(&mut self, peer: PeerId, connection: ConnectionId, id: RequestId) -> bool {
        if !self.has_sent(peer, connection, id) {
            return false;
        }
        self.requests.remove(&id);
        if let Some(known) = self.connection(peer, connection) {
            known.sent.remove(&id);
        }
        true
    }

    /// A connection is up, whichever behaviour dialled, or the peer.
    pub(super) fn on_established(&mut self, peer_id: PeerId, connection: ConnectionId) {
        let own = self.dials.remove(&connection).is_some();
        self.counts.dials_succeeded += u64::from(own);
        tracing::debug!(peer = %peer_id, %connection, own, "connected");
        let peer = self.peers.entry(peer_id).or_default();
        match peer.dial {
            // This node's own dial continues: it ends by another event.
            DialState::Own(id) if id != connection => {}
            DialState::Queued(place) => {
                self.queue.remove(&place);
                peer.dial = DialState::None;
            }
            _ => peer.dial = DialState::None,
        }
        self.connected += u64::from(peer.connections.is_empty());
        peer.connections.push(OpenConnection { id: connection, sent: BTreeSet::new(), serves: None });
        let waiting = std::mem::take(&mut peer.waiting);
        self.waiting -= waiting.len();
        for id in waiting {
            if let Some(request) = self.requests.remove(&id) {
                self.send_on(connection, id, request);
            }
        }
        self.dial_next();
    }

    /// A connection to the peer is up that is outside this node's network: if its dial was the one waited for, this
    /// node dials.
    pub(super) fn on_foreign_connection(&mut self, peer_id: PeerId) {
        if self.peers.get(&peer_id).is_some_and(|peer| peer.dial == DialState::Foreign) {
            self.enqueue(peer_id);
            self.dial_next();
        }
    }

    /// A connection closed. The requests on it are sent once more if there is another connection to the peer.
    pub(super) fn on_closed(&mut self, peer_id: PeerId, connection: ConnectionId) {
        let Some(peer) = self.peers.get_mut(&peer_id) else { return };
        let Some(index) = peer.connections.iter().position(|known| known.id == connection) else { return };
        let closed = peer.connections.remove(index);
        let connected = !peer.connections.is_empty();
        self.connected -= u64::from(!connected);
        tracing::debug!(peer = %peer_id, %connection, unanswered = closed.sent.len(), "connection closed");
        for id in closed.sent {
            let Some(request) = self.requests.remove(&id) else { continue };
            // The core decides whether to dial the peer again, and where.
            if request.retried || !connected {
                self.fail(id, RequestError::ConnectionClosed);
            } else {
                self.route(id, DialerRequest { retried: true, ..request });
            }
        }
        self.prune(peer_id);
    }

    /// A dial failed, this node's or another behaviour's.
    pub(super) fn on_dial_failure(&mut self, peer: Option<PeerId>, connection: ConnectionId, error: &DialError) {
        if let Some(dialled) = self.dials.remove(&connection) {
            self.counts.dials_failed[failure::index(error)] += 1;
            tracing::debug!(peer = %dialled.peer(), %connection, %error, "dial failed");
            self.on_own_dial_failure(*dialled.peer(), error);
        } else if let Some(peer_id) = peer
            && self.peers.get(&peer_id).is_some_and(|known| known.dial == DialState::Foreign)
        {
            self.enqueue(peer_id);
        }
        self.dial_next();
    }

    /// Whether this node began this dial, which has not ended.
    pub(super) fn is_own_dial(&self, connection: ConnectionId) -> bool {
        self.dials.contains_key(&connection)
    }

    /// The peer says on this connection whether it serves.
    pub(super) fn on_serves(&mut self, peer: PeerId, connection: ConnectionId, yes: bool) {
        if let Some(known) = self.connection(peer, connection) {
            known.serves = Some(yes);
        }
    }

    /// Whether the peer serves on any connection; `None` if it has not said so on one.
    pub(super) fn serves(&self, peer: &PeerId) -> Option<bool> {
        self.peers.get(peer)?.connections.iter().filter_map(|known| known.serves).max()
    }

    /// Whether the peer serves on this connection; `None` if it has not said so.
    pub(super) fn serves_on(&self, peer: PeerId, connection: ConnectionId) -> Option<bool> {
        self.peers.get(&peer)?.connections.iter().find(|known| known.id == connection)?.serves
    }

    /// All connections that are up.
    pub(super) fn connections(&self) -> impl Iterator<Item = (PeerId, ConnectionId)> + '_ {
        self.peers.iter().flat_map(|(id, peer)| peer.connections.iter().map(|known| (*id, known.id)))
    }

    pub(super) fn is_connected(&self, peer: &PeerId) -> bool {
        self.peers.get(peer).is_some_and(|known| !known.connections.is_empty())
    }

    pub(super) fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Number of requests that have not ended.
    pub(super) fn pending(&self) -> usize {
        self.requests.len()
    }

    /// The counters so far, and the current levels.
    pub(super) fn counts(&self) -> DriverStats {
        let requests_waiting = u64::try_from(self.waiting).unwrap_or(u64::MAX);
        DriverStats { requests_waiting, connected_peers: self.connected, ..self.counts }
    }

    /// Number of peers with a connection, a dial or a waiting request.
    pub(super) fn peers(&self) -> usize {
        self.peers.len()
    }

    /// Sends on the connection with the fewest pending requests, connections on which the peer does not serve last;
    /// without a connection the request waits for one.
    fn route(&mut self, id: RequestId, request: DialerRequest) {
        let peer_id = request.to.peer();
        if *peer_id == self.local {
            return self.fail(id, Unreachable::NoAddress.into());
        }
        let connections = self.peers.get(peer_id).into_iter().flat_map(|peer| &peer.connections);
        let best = connections.min_by_key(|known| (known.serves == Some(false), known.sent.len()));
        match best.map(|known| known.id) {
            Some(connection) => self.send_on(connection, id, request),
            None => self.wait(id, request),
        }
    }

    fn send_on(&mut self, connection: ConnectionId, id: RequestId, mut request: DialerRequest) {
        let peer_id = *request.to.peer();
        request.connection = Some(connection);
        if let Some(known) = self.connection(peer_id, connection) {
            known.sent.insert(id);
        }
        self.notify(peer_id, connection, ToHandler::Send { id, request: request.request.clone() });
        self.requests.insert(id, request);
    }

    fn wait(&mut self, id: RequestId, request: DialerRequest) {
        if self.waiting >= self.config.waiting {
            return self.fail(id, RequestError::Busy);
        }
        let peer_id = *request.to.peer();
        let peer = self.peers.entry(peer_id).or_default();
        peer.waiting.push_back(id);
        self.waiting += 1;
        self.requests.insert(id, DialerRequest { connection: None, ..request });
        match peer.dial {
            DialState::None => {
                self.enqueue(peer_id);
                self.dial_next();
            }
            DialState::Queued(_) => {}
            DialState::Own(_) | DialState::Foreign => self.actions.push_back(Action::Input(Input::Dialling { id })),
        }
    }

    fn enqueue(&mut self, peer_id: PeerId) {
        self.next_place += 1;
        self.queue.insert(self.next_place, peer_id);
        self.peers.entry(peer_id).or_default().dial = DialState::Queued(self.next_place);
    }

    /// Dials the next peers of the queue while the limits allow it.
    fn dial_next(&mut self) {
        while !self.queue.is_empty() && self.may_dial() {
            let Some((_, peer_id)) = self.queue.pop_first() else { return };
            let Some(peer) = self.peers.get_mut(&peer_id) else { continue };
            // The requests may know different addresses of the peer: one dial serves them all, at all of these.
            let requests = peer.waiting.iter().filter_map(|id| self.requests.get(id));
            let contact = requests.map(|request| Arc::clone(&request.to)).reduce(|all, to| all.merged(&to));
            let Some(contact) = contact else { continue };
            let opts = dial_opts(&contact, self.policy);
            peer.dial = DialState::Own(opts.connection_id());
            self.counts.dials_started += 1;
            tracing::debug!(peer = %peer_id, connection = %opts.connection_id(), "dials");
            // The core's time limit for a dial starts now, not when the request was queued.
            self.actions.extend(peer.waiting.iter().map(|id| Action::Input(Input::Dialling { id: *id })));
            self.dials.insert(opts.connection_id(), contact);
            self.actions.push_back(Action::Dial(opts));
        }
    }

    /// Whether the limits allow another dial. Dials that no request waits for any more cannot be cancelled: they count
    /// only for the limit of all dials, so that dead peers do not delay the others.
    fn may_dial(&self) -> bool {
        let at_once = self.config.at_once.get();
        let has_waiting =
            |dialled: &&Arc<Contact>| self.peers.get(dialled.peer()).is_some_and(|peer| !peer.waiting.is_empty());
        self.dials.len() < at_once
            || self.dials.len() < at_once.saturating_mul(DIALS_IN_ALL)
                && self.dials.values().filter(has_waiting).count() < at_once
    }

    fn on_own_dial_failure(&mut self, peer_id: PeerId, error: &DialError) {
        let Some(peer) = self.peers.get_mut(&peer_id) else { return };
        peer.dial = DialState::None;
        if matches!(error, DialError::DialPeerConditionFalse(_)) {
            // Another behaviour dials the peer already: the requests wait for that dial.
            if !peer.waiting.is_empty() {
                peer.dial = DialState::Foreign;
            }
            return self.prune(peer_id);
        }
        let waiting = std::mem::take(&mut peer.waiting);
        self.waiting -= waiting.len();
        for id in waiting {
            self.requests.remove(&id);
            self.fail(id, failure::why_unreachable(error).into());
        }
        self.prune(peer_id);
    }

    /// Removes a peer from the queue if none of its requests waits any more, and dials the next one.
    fn give_up_dial(&mut self, peer_id: PeerId) {
        let Some(peer) = self.peers.get_mut(&peer_id) else { return };
        if !peer.waiting.is_empty() {
            return;
        }
        match peer.dial {
            DialState::Queued(place) => {
                self.queue.remove(&place);
                peer.dial = DialState::None;
            }
            DialState::Foreign => peer.dial = DialState::None,
            DialState::None | DialState::Own(_) => {}
        }
        self.prune(peer_id);
        self.dial_next();
    }

    fn prune(&mut self, peer_id: PeerId) {
        let unused =
            |peer: &DialerPeer| peer.connections.is_empty() && peer.waiting.is_empty() && peer.dial == DialState::None;
        if self.peers.get(&peer_id).is_some_and(unused) {
            self.peers.remove(&peer_id);
        }
    }

    fn connection(&mut self, peer: PeerId, connection: ConnectionId) -> Option<&mut OpenConnection> {
        self.peers.get_mut(&peer)?.connection(connection)
    }

    fn notify(&mut self, peer: PeerId, connection: ConnectionId, event: ToHandler) {
        self.actions.push_back(Action::Notify { peer, connection, event });
    }

    fn fail(&mut self, id: RequestId, why: RequestError) {
        self.actions.push_back(Action::Input(Input::Response { id, result: Err(why) }));
    }
}

impl DialerPeer {
    fn connection(&mut self, id: ConnectionId) -> Option<&mut OpenConnection> {
        self.connections.iter_mut().find(|known| known.id == id)
    }
}

fn dial_opts(contact: &Contact, policy: AddressPolicy) -> DialOpts {
    // A peer of a local network may be connected already, by a connection outside that network.
    let condition = match policy {
        AddressPolicy::Lan => PeerCondition::NotDialing,
        _ => PeerCondition::DisconnectedAndNotDialing,
    };
    let opts = DialOpts::peer_id(*contact.peer()).condition(condition).addresses(contact.addrs().collect());
    // Addresses of other behaviours are used only for a peer of which the core has none. Beside those that the core
    // chose they do harm: they include outdated ones, wrong ones, and whatever the peer reported about itself.
    match policy {
        AddressPolicy::Any if !contact.has_addrs() => opts.extend_addresses_through_behaviour().build(),
        _ => opts.build(),
    }
}

#[cfg(test)]
mod tests;
