//! The kinds of nodes, behind the same doors.
//!
//! Knows: how to hand each kind what it understands. Must not know: the network.

use libp2p_identity::PeerId;

use super::adversary::Adversary;
use super::directory::{Directory, Index};
use super::stock::Player;
use crate::core::{
    Dht, InboundId, Input, Mode, Operation, Output, QueryId, QueryOptions, Reply, Request, RequestError, RequestId,
    Response, Timestamp,
};

/// One node; `Absent` while it is offline, or for an id that nobody answers for.
pub(crate) enum Node {
    Absent,
    Ours(Box<Dht>),
    Stock(Box<Player>),
    Adversary(Box<Adversary>),
}

impl Node {
    pub(crate) fn is_present(&self) -> bool {
        !matches!(self, Node::Absent)
    }

    /// Whether others may keep it in their tables.
    pub(crate) fn serves(&self) -> bool {
        match self {
            Node::Absent => false,
            Node::Ours(dht) => dht.mode() == Mode::Server,
            Node::Stock(_) | Node::Adversary(_) => true,
        }
    }

    pub(crate) fn start(
        &mut self,
        now: u64,
        directory: &Directory,
        operation: Operation,
        options: QueryOptions,
    ) -> Option<QueryId> {
        match self {
            Node::Ours(dht) => dht.start(Timestamp::from_micros(now), operation, options).ok(),
            Node::Stock(player) => Some(player.start(now, directory, operation)),
            Node::Absent | Node::Adversary(_) => None,
        }
    }

    /// Hands over a request; the reply comes back at once from those who never think about it.
    pub(crate) fn handle_request(
        &mut self,
        now: u64,
        directory: &Directory,
        (from, peer): (Index, PeerId),
        id: InboundId,
        request: Request,
    ) -> Option<Reply> {
        match self {
            Node::Absent => None,
            Node::Ours(dht) => {
                dht.handle_input(Timestamp::from_micros(now), Input::Request { from: peer, id, request });
                None
            }
            Node::Stock(player) => Some(player.handle_request(directory, from, request)),
            Node::Adversary(adversary) => adversary.reply(directory, from, request),
        }
    }

    pub(crate) fn handle_response(
        &mut self,
        now: u64,
        directory: &Directory,
        id: RequestId,
        result: Result<Response, RequestError>,
    ) {
        match self {
            Node::Ours(dht) => dht.handle_input(Timestamp::from_micros(now), Input::Response { id, result }),
            Node::Stock(player) => player.handle_response(now, directory, id, result),
            Node::Absent | Node::Adversary(_) => {}
        }
    }

    /// The connection that this request waits for is up.
    pub(crate) fn on_ready(&mut self, now: u64, id: RequestId) {
        if let Node::Stock(player) = self {
            player.on_connected(now, id);
        }
    }

    /// Anything else that only our own nodes listen to.
    pub(crate) fn handle_input(&mut self, now: u64, input: Input) {
        if let Node::Ours(dht) = self {
            dht.handle_input(Timestamp::from_micros(now), input);
        }
    }

    pub(crate) fn handle_timeout(&mut self, now: u64, directory: &Directory) {
        match self {
            Node::Ours(dht) => dht.handle_input(Timestamp::from_micros(now), Input::Timeout),
            Node::Stock(player) => player.handle_timeout(now, directory),
            Node::Absent | Node::Adversary(_) => {}
        }
    }

    pub(crate) fn poll_output(&mut self) -> Option<Output> {
        match self {
            Node::Ours(dht) => dht.poll_output(),
            Node::Stock(player) => player.poll_output(),
            Node::Absent | Node::Adversary(_) => None,
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<u64> {
        match self {
            Node::Ours(dht) => dht.poll_timeout().filter(|at| *at != Timestamp::MAX).map(Timestamp::as_micros),
            Node::Stock(player) => player.poll_timeout(),
            Node::Absent | Node::Adversary(_) => None,
        }
    }
}
