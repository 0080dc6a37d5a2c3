//! The only doors of the core: what goes in, what comes out, and the ids by which they are matched.
//!
//! Knows: names of events and effects. Must not know: what they lead to.

mod answer;
mod operation;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use libp2p_identity::PeerId;
use multiaddr::Multiaddr;

pub use answer::{
    Answer, Bootstrapped, ClosestPeers, Evidence, Found, FoundPeer, PeerRecord, Progress, ProvidersFound, Published,
    QueryEvent,
};
pub use operation::{Operation, QueryKind, QueryOptions};

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
            /// The id of this number.
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
    /// Names a query. Chosen by the core, never used twice by one node.
    QueryId, "q"
);
id!(
    /// Names a request that this node sends. Chosen by the core, never used twice by one node.
    RequestId, "r"
);
id!(
    /// Names a request that a peer sends. Chosen by the driver, unique among the unanswered ones.
    InboundId, "i"
);

/// Whether this node serves others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[expect(clippy::exhaustive_enums, reason = "the specification knows two")]
pub enum Mode {
    /// Asks, but neither answers nor is kept in routing tables.
    Client,
    /// Asks and answers.
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

/// What happened to a node: everything it ever learns.
#[derive(Debug)]
#[non_exhaustive]
pub enum Input {
    /// The application names a peer that serves the DHT: a first contact. What the address policy refuses of it is told
    /// by [`Event::AddrsRefused`].
    AddPeer(Arc<Contact>),
    /// Addresses of a peer became known, in order of preference. What comes within a second is one list, whether it comes at
    /// once or address by address; a new list comes before what was known. While the peer is connected they are taken for
    /// its own word, as identify reports it. Else they are a rumour, but one of a peer that is there, as mDNS reports it:
    /// it is tried, if the table has room for it and its back-off is over. What peers name in answers is no such report.
    Discovered(Arc<Contact>),
    /// A connection to a peer is up, where there was none; or another one, if it is at an address that was dialled.
    Connected {
        /// The peer.
        peer: PeerId,
        /// The address at which it was dialled; `None` if it dialled us. Like the other it says of which network the peer
        /// is, whatever the peer says ([`DiversityConfig`](super::config::DiversityConfig)).
        outbound_addr: Option<Multiaddr>,
        /// The address from which it dialled us; `None` if we dialled it, or if that is not known. It is never told, and
        /// dialled only by [`Output::DialBack`].
        inbound_addr: Option<Multiaddr>,
    },
    /// A peer was dialled and not reached at these addresses. Comes before the end of the requests that waited for the dial,
    /// or after [`Input::Connected`] where the peer was reached at another address meanwhile. Drivers without addresses to
    /// choose among need not tell.
    DialFailed {
        /// The peer.
        peer: PeerId,
        /// Where it was not reached, and why; [`DialCause::Unknown`] where nobody knows. An address at which another peer
        /// answered is not used again for this one, and one that no transport takes costs no other its turn.
        addrs: Vec<(Multiaddr, DialCause)>,
    },
    /// The last connection to a peer is gone.
    Disconnected {
        /// The peer.
        peer: PeerId,
    },
    /// A peer says whether it serves our protocol.
    Serves {
        /// The peer.
        peer: PeerId,
        /// Whether it does.
        yes: bool,
    },
    /// A peer asks us. Ends in one [`Output::Reply`], unless [`Input::RequestGone`] comes first.
    Request {
        /// Who asks.
        from: PeerId,
        /// The driver's name for it.
        id: InboundId,
        /// What is asked.
        request: Request,
    },
    /// The peer that asked no longer waits.
    RequestGone {
        /// The name of the request.
        id: InboundId,
    },
    /// An operation of the store that took time has ended.
    StoreDone {
        /// The operation's name.
        ticket: Ticket,
        /// How it ended.
        done: Done,
    },
    /// The driver makes a connection for a request, or waits for one that is being made. From now on the peer may be late.
    Dialling {
        /// The name given in [`Output::Send`].
        id: RequestId,
    },
    /// The first byte of a request is written, or of what opens a stream for it: the peer's time begins. Until a driver
    /// says so, or that it dials, a request waits for as long as its query does, and nothing is held against the peer. It
    /// is said again where a driver has to begin again.
    Sent {
        /// The name given in [`Output::Send`].
        id: RequestId,
        /// How long the driver itself lets pass before an answer can come, as it does after an announcement.
        settle: Duration,
    },
    /// The end of something that we sent.
    Response {
        /// The name given in [`Output::Send`].
        id: RequestId,
        /// How it ended.
        result: Result<Response, RequestError>,
    },
    /// Whether to serve others from now on.
    Mode(Mode),
    /// The addresses at which this node can be reached, all of them, in order of preference.
    LocalAddrs(Vec<Multiaddr>),
    /// Time went on. Worth sending at the time that `poll_timeout` names.
    Timeout,
}

/// An effect that a node wants to have.
#[derive(Debug)]
#[non_exhaustive]
pub enum Output {
    /// Send this request, and dial the peer at these addresses if you must. Say so by [`Input::Dialling`] and [`Input::Sent`]
    /// when you do. Ends in one [`Input::Response`], unless [`Output::Cancel`] comes first. Comes again under the same id
    /// where that end says that the peer was not reached, or that its connection closed, and it is worth another dial.
    Send {
        /// To whom.
        to: Arc<Contact>,
        /// The name under which to report the end.
        id: RequestId,
        /// What.
        request: Request,
    },
    /// Nobody waits for this request any more: give up its stream or dial, and report nothing.
    Cancel {
        /// The name of the request.
        id: RequestId,
    },
    /// Dial a peer that is connected once more, on a new connection, at the address from which it dialled us: nothing else
    /// says where it can be reached. If it is reached there, that is an [`Input::Connected`], else nothing. Asked for
    /// outside the public network alone, once a connection, if the peer asks for something and nobody ever said by
    /// [`Input::Serves`] that it serves. A driver without connections need not do it.
    DialBack {
        /// Whom.
        peer: PeerId,
        /// Where.
        addr: Multiaddr,
    },
    /// The end of an inbound request.
    Reply {
        /// To whom.
        to: PeerId,
        /// The name of the request.
        id: InboundId,
        /// What to do.
        reply: Reply,
    },
    /// Tell the application.
    Event(Event),
}

/// The end of an inbound request.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reply {
    /// Send this answer and read the next request.
    Answer(Response),
    /// Send nothing and read the next request: what ADD_PROVIDER gets.
    Nothing,
    /// Reset the stream.
    Reset(Refusal),
}

/// Why an inbound request is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The peer broke a rule.
    #[error("misbehaved: {0}")]
    Misbehaved(#[from] Misbehaviour),
    /// A better value than the one to keep is kept already; the peer may not know it.
    #[error("a better value is kept")]
    OldValue,
    /// Another value is kept than the one to replace; the peer may not know it.
    #[error("another value is kept than the one to replace")]
    Conflict,
    /// The peer announces itself, and no address of it is known that others may be told.
    #[error("no address of the provider is known")]
    NoAddress,
    /// This node does not serve at present.
    #[error("this node is a client")]
    NotServing,
    /// This node's store could not do it.
    #[error("store: {0}")]
    Store(StoreError),
    /// Too many requests wait for this node's store.
    #[error("overloaded")]
    Busy,
}

impl From<StoreError> for Refusal {
    fn from(why: StoreError) -> Refusal {
        match why {
            StoreError::Old => Refusal::OldValue,
            StoreError::Conflict => Refusal::Conflict,
            StoreError::Busy => Refusal::Busy,
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
    /// The node serves others from now on, or no longer; reported for the first decision too. It comes from a driver that
    /// chooses the mode, as the libp2p behaviour does; the core itself does not report it.
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
        /// Whether it is in the table now.
        present: bool,
    },
    /// A peer stored a value on this node.
    RecordStored {
        /// The value's key.
        key: RecordKey,
        /// The peer that stored it.
        from: PeerId,
    },
    /// A value that this node had put has given way to another one under its key, which is newer by the validator: a peer
    /// stored it here, or a read or an announcement met it. This node keeps the other one as if a peer had stored it, marked
    /// as [`superseded`](super::record::Record::superseded), and no longer announces its own. To have its own value stand,
    /// the application puts it again.
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
    /// Peers connect and ask, but for seconds nothing said whether they serve or where they listen. With libp2p this means
    /// that this swarm, or theirs, lacks `identify::Behaviour`; without it a node knows few peers beyond those that it was
    /// given. Reported once.
    NoIdentify,
    /// A peer broke a rule of the protocol.
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
    /// The choice was left to the node, which has no confirmed external address and lost none a moment ago: it never had
    /// one, or was no server when the choice was left to it.
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

/// What `poll_timeout` waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Wake {
    /// A request becomes late or runs out of time.
    Request(RequestId),
    /// A query runs out of time.
    Query(QueryId),
    /// Something that is kept expires.
    Expiry,
    /// A duty of maintenance is due.
    Maintenance,
}
