//! Everything that goes into the core and comes out of it, and the ids by which the two are matched.
//!
//! Knows: names of inputs and outputs. Must not know: what they lead to.

mod answer;
mod operation;

use std::fmt;
use std::sync::Arc;

use libp2p_identity::PeerId;
use multiaddr::Multiaddr;

pub use answer::*;
pub use operation::*;

use super::contact::Contact;
use super::message::{DialCause, Misbehaviour, Request, RequestError, Response};
use super::record::RecordKey;
use super::store::{Done, StoreError, Ticket};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(transparent))]
        pub struct $name(u64);

        impl $name {
            /// The id with this number.
            pub const fn new(number: u64) -> $name {
                $name(number)
            }

            /// The number of this id.
            pub const fn number(self) -> u64 {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }
    };
}

id!(
    /// The id of a query. The core chooses it; a node never uses one twice.
    QueryId, "q"
);
id!(
    /// The id of a request that this node sends. The core chooses it; a node never uses one twice.
    RequestId, "r"
);
id!(
    /// The id of a request that a peer sends. The driver chooses it, unique among the unanswered requests.
    InboundId, "i"
);

/// Whether this node serves others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[expect(clippy::exhaustive_enums, reason = "the specification knows two")]
pub enum Mode {
    /// Sends requests, but answers none; other peers do not keep it in their routing tables.
    Client,
    /// Sends requests and answers them.
    #[default]
    Server,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mode::Client => "client",
            Mode::Server => "server",
        })
    }
}

/// Something that happened to a node. A node learns of nothing else.
#[derive(Debug)]
#[non_exhaustive]
pub enum Input {
    /// The application names a peer that serves the DHT: a first contact. Addresses that the address policy refuses are
    /// reported by [`Event::AddrsRefused`].
    AddPeer(Arc<Contact>),
    /// Addresses of a peer became known, in order of preference. Addresses that come within a second are one list,
    /// whether they come at once or one by one; a new list comes before the addresses known so far. While the peer is
    /// connected they count as its own word, as identify reports it. Otherwise they count as a rumour about a peer that
    /// is present, as mDNS reports it: the peer is tried if the table has room for it and its back-off has expired.
    /// Peers named in answers are no such report.
    Discovered(Arc<Contact>),
    /// A connection to a peer is up where there was none, or a further one at an address that was dialled.
    Connected {
        /// The peer.
        peer: PeerId,
        /// The address at which it was dialled; `None` if it dialled this node. Like the other one it shows in which
        /// network the peer is, whatever the peer says ([`DiversityConfig`](super::config::DiversityConfig)).
        outbound_addr: Option<Multiaddr>,
        /// The address from which it dialled this node; `None` if this node dialled, or if the address is unknown. It
        /// is never passed on, and dialled only by [`Output::DialBack`].
        inbound_addr: Option<Multiaddr>,
    },
    /// A peer was dialled and not reached at these addresses. Comes before the end of the requests that waited for the
    /// dial, or after [`Input::Connected`] where the peer was reached at another address meanwhile. A driver that never
    /// has several addresses to choose from need not report it.
    DialFailed {
        /// The peer.
        peer: PeerId,
        /// The addresses at which it was not reached, and the reasons, [`DialCause::Unknown`] if unknown. An address at
        /// which another peer answered is not used again for this one, and one without a transport does not delay the
        /// others.
        addrs: Vec<(Multiaddr, DialCause)>,
    },
    /// The last connection to a peer closed.
    Disconnected {
        /// The peer.
        peer: PeerId,
    },
    /// A peer says whether it serves this node's protocol.
    Serves {
        /// The peer.
        peer: PeerId,
        /// Whether it serves.
        yes: bool,
    },
    /// A peer sends a request. Ends in one [`Output::Reply`], unless [`Input::RequestGone`] comes first.
    Request {
        /// The peer.
        from: PeerId,
        /// The driver's id for the request.
        id: InboundId,
        /// The request.
        request: Request,
    },
    /// The peer that sent a request no longer waits for the answer.
    RequestGone {
        /// The id of the request.
        id: InboundId,
    },
    /// A peer broke a rule on its own connection in a way that only the driver sees: it sent bytes that are no request.
    /// What requests and answers show, the core sees itself.
    Misbehaved {
        /// The peer.
        peer: PeerId,
        /// The rule.
        what: Misbehaviour,
    },
    /// An operation of the store that took time has ended.
    StoreDone {
        /// The operation's ticket.
        ticket: Ticket,
        /// Its result.
        done: Done,
    },
    /// The driver makes a connection for a request, or waits for one that is being made. From now on the peer may be
    /// late.
    Dialling {
        /// The id given in [`Output::Send`].
        id: RequestId,
    },
    /// The first byte of a request is written, or of the negotiation of a stream for it: the peer's time begins. Until
    /// a driver reports this or [`Input::Dialling`], a request waits for as long as its query does, and nothing is held
    /// against the peer. A driver that has to send again reports it again.
    Sent {
        /// The id given in [`Output::Send`].
        id: RequestId,
    },
    /// A request that this node sent has ended.
    Response {
        /// The id given in [`Output::Send`].
        id: RequestId,
        /// The answer, or the reason why there is none.
        result: Result<Response, RequestError>,
    },
    /// The mode from now on.
    Mode(Mode),
    /// The addresses at which this node can be reached, all of them, in order of preference.
    LocalAddrs(Vec<Multiaddr>),
    /// Time has passed. Worth sending at the time that `poll_timeout` names.
    Timeout,
}

/// Something that the driver of a node has to do.
#[derive(Debug)]
#[non_exhaustive]
pub enum Output {
    /// Send this request, and dial the peer at these addresses if necessary. Report both by [`Input::Dialling`] and
    /// [`Input::Sent`]. Ends in one [`Input::Response`], unless [`Output::Cancel`] comes first. Comes again under the
    /// same id where that response says that the peer was not reached, or that its connection closed, and another dial
    /// is worth it.
    Send {
        /// The peer with its addresses.
        to: Arc<Contact>,
        /// The id under which to report the end.
        id: RequestId,
        /// The request.
        request: Request,
    },
    /// Give up the stream or dial of this request, whose answer is no longer needed, and report nothing.
    Cancel {
        /// The id of the request.
        id: RequestId,
    },
    /// Dial a connected peer once more, on a new connection, at the address from which it dialled this node: nothing
    /// else shows where it can be reached. If it is reached there, report [`Input::Connected`], otherwise nothing.
    /// Comes outside the public network alone, once a connection, if the peer sends a request and no [`Input::Serves`]
    /// ever said that it serves. A driver without connections need not do it.
    DialBack {
        /// The peer.
        peer: PeerId,
        /// The address.
        addr: Multiaddr,
    },
    /// End an inbound request.
    Reply {
        /// The peer that sent it.
        to: PeerId,
        /// The id of the request.
        id: InboundId,
        /// The way to end it.
        reply: Reply,
    },
    /// Report this to the application.
    Event(Event),
}

/// How to end an inbound request.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
#[expect(clippy::large_enum_variant, reason = "nearly all replies are answers")]
pub enum Reply {
    /// Send this answer and read the next request.
    Answer(Response),
    /// Send nothing and read the next request: the end of ADD_PROVIDER.
    Nothing,
    /// Reset the stream.
    Reset(Refusal),
}

/// The reason why an inbound request is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The peer broke a rule.
    #[error("misbehaved: {0}")]
    Misbehaved(#[from] Misbehaviour),
    /// This node keeps a better value than the one in the request; the peer may not know it.
    #[error("this node keeps a better value")]
    OldValue,
    /// This node keeps another value than the one to be replaced; the peer may not know it.
    #[error("this node keeps another value than the one to be replaced")]
    Conflict,
    /// The peer announces itself as a provider, and no address of it is known that may be passed on.
    #[error("no address of the provider is known that may be passed on")]
    NoAddress,
    /// The application banned the peer, its filter does not accept the request, or it did not accept the record.
    #[error("the application refuses the peer or its record")]
    Denied,
    /// This node does not serve now: it is a client, or suspended.
    #[error("this node does not serve")]
    NotServing,
    /// This node's store failed.
    #[error("this node could not keep or read the record: {0}")]
    Store(StoreError),
    /// Too many requests wait for this node's store.
    #[error("this node's store has too many requests waiting")]
    Busy,
}

impl From<StoreError> for Refusal {
    fn from(why: StoreError) -> Refusal {
        match why {
            StoreError::Old => Refusal::OldValue,
            StoreError::Conflict => Refusal::Conflict,
            StoreError::Busy => Refusal::Busy,
            StoreError::Refused => Refusal::Denied,
            why => Refusal::Store(why),
        }
    }
}

/// A fact about this node, or news of a query that was started on it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// News of a query. The queries of handles never appear here.
    QueryProgressed {
        /// The query, as its start returned it.
        id: QueryId,
        /// The news; [`QueryEvent::Finished`] comes once, last.
        event: QueryEvent,
    },
    /// The node serves others from now on, or no longer; reported for the first decision too. It comes from a driver
    /// that chooses the mode, as the libp2p behaviour does; the core itself does not report it.
    ModeChanged {
        /// The mode from now on.
        mode: Mode,
        /// The reason for it.
        why: ModeReason,
    },
    /// A peer entered or left the routing table.
    RoutingChanged {
        /// The peer.
        peer: PeerId,
        /// Whether the peer is in the table now.
        present: bool,
    },
    /// A peer stored a value on this node.
    RecordStored {
        /// The value's key.
        key: RecordKey,
        /// The peer that stored it.
        from: PeerId,
    },
    /// A value that this node had put has given way to another one under its key, which is newer by the validator: a
    /// peer stored it here, or a read or an announcement met it. This node keeps the other one as if a peer had stored
    /// it, marked as [`superseded`](super::record::Record::superseded), and no longer announces its own. To have its
    /// own value stand, the application puts it again.
    Superseded {
        /// The key.
        key: RecordKey,
    },
    /// A peer announced to this node that it provides some content.
    ProviderStored {
        /// The content's key.
        key: RecordKey,
        /// The provider.
        provider: PeerId,
    },
    /// The [address policy](super::config::DhtConfig::address_policy) refuses addresses of a peer that the application
    /// named, or they are this node's own: the peer is not dialled there.
    AddrsRefused {
        /// The peer.
        peer: PeerId,
        /// The addresses that are refused.
        addrs: Vec<Multiaddr>,
    },
    /// Peers connect and ask, but for seconds nothing said whether they serve or where they listen. With libp2p this
    /// means that this swarm, or theirs, lacks `identify::Behaviour`; without it a node knows few peers beyond those
    /// that it was given. Reported once.
    NoIdentify,
    /// A peer broke a rule of the protocol, on its own connection. Reported at most
    /// [`LimitConfig::breaches`](super::config::LimitConfig::breaches) times in five minutes for each peer; as many that
    /// are [grave](Misbehaviour::is_grave) cost it its place, and ten minutes during which it is not served.
    PeerMisbehaved {
        /// The peer.
        peer: PeerId,
        /// The rule.
        what: Misbehaviour,
    },
}

/// The reason why a node serves, or does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ModeReason {
    /// The configuration or the application says so.
    Chosen,
    /// The choice was left to the node, and a confirmed external address says that it can be reached.
    ExternalAddr,
    /// The choice was left to the node, which has no confirmed external address and lost none a moment ago: it never
    /// had one, or was no server when the choice was left to it.
    NoExternalAddr,
    /// The choice was left to the node, which has had no confirmed external address for as long as its configuration
    /// (`with_server_hold`) allows.
    ExternalAddrLost,
}

impl fmt::Display for ModeReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ModeReason::Chosen => "chosen",
            ModeReason::ExternalAddr => "an external address is confirmed",
            ModeReason::NoExternalAddr => "no external address is confirmed",
            ModeReason::ExternalAddrLost => "no external address is confirmed any more",
        })
    }
}

/// The event that `poll_timeout` waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Wake {
    /// A request becomes late or runs out of time.
    Request(RequestId),
    /// A query runs out of time.
    Query(QueryId),
    /// A stored record expires.
    Expiry,
    /// Maintenance is due.
    Maintenance,
}
