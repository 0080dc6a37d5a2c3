//! The six RPCs as data, and the ways in which a request can fail.
//!
//! Knows: the messages of the protocol. Must not know: how they are encoded (`wire`), carried (`net`) or answered
//! (`server`).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use libp2p_identity::PeerId;

use super::contact::Contact;
use super::record::RecordKey;
use super::time::Timestamp;

/// The request of an RPC.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Request {
    /// PING, answered by the same message. The specification forbids sending it; this node answers it nevertheless
    /// (rule L39).
    Ping,
    /// FIND_NODE: asks for the peers closest to a key.
    FindNode {
        /// A peer id, or any other preimage of the key. Never empty.
        key: Bytes,
    },
    /// GET_VALUE: asks for the value under a key, and for the peers closest to it.
    GetValue {
        /// The key asked for.
        key: RecordKey,
    },
    /// PUT_VALUE: asks the peer to store a value.
    PutValue {
        /// The value, with its key.
        value: Value,
    },
    /// GET_PROVIDERS: asks for the providers of a content, and for the peers closest to its key.
    GetProviders {
        /// The content's multihash.
        key: RecordKey,
    },
    /// ADD_PROVIDER: announces that the sender provides a content. It has no answer.
    AddProvider {
        /// The content's multihash.
        key: RecordKey,
        /// The sender, with its addresses. Entries about other peers are ignored.
        providers: Vec<Arc<Contact>>,
    },
}

impl Request {
    /// The RPC.
    pub fn kind(&self) -> Kind {
        match self {
            Request::Ping => Kind::Ping,
            Request::FindNode { .. } => Kind::FindNode,
            Request::GetValue { .. } => Kind::GetValue,
            Request::PutValue { .. } => Kind::PutValue,
            Request::GetProviders { .. } => Kind::GetProviders,
            Request::AddProvider { .. } => Kind::AddProvider,
        }
    }
}

/// The response of an RPC.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Response {
    /// The echo of a ping.
    Ping,
    /// The peers closest to the key asked for, nearest first.
    FindNode {
        /// The peers.
        closer: Vec<Arc<Contact>>,
    },
    /// The value, if the peer has it, and the peers closest to its key.
    GetValue {
        /// The key of the answer; empty if the peer left it out.
        key: RecordKey,
        /// The value, if the peer has one.
        value: Option<Value>,
        /// Peers closer to the key.
        closer: Vec<Arc<Contact>>,
    },
    /// The echo of a value that the peer stored.
    PutValue {
        /// The value that the peer claims to have stored.
        value: Value,
    },
    /// The providers that the peer knows, and the peers closest to the key.
    GetProviders {
        /// The key of the answer; empty if the peer left it out.
        key: RecordKey,
        /// The providers of the content, possibly without addresses.
        providers: Vec<Arc<Contact>>,
        /// Peers closer to the key.
        closer: Vec<Arc<Contact>>,
    },
    /// The peer took the announcement. There is no such message on the wire: it is for the driver to find out.
    AddProvider,
}

impl Response {
    /// The RPC.
    pub fn kind(&self) -> Kind {
        match self {
            Response::Ping => Kind::Ping,
            Response::FindNode { .. } => Kind::FindNode,
            Response::GetValue { .. } => Kind::GetValue,
            Response::PutValue { .. } => Kind::PutValue,
            Response::GetProviders { .. } => Kind::GetProviders,
            Response::AddProvider => Kind::AddProvider,
        }
    }

    /// Whether the answer contains a value or providers.
    pub(crate) fn has_records(&self) -> bool {
        match self {
            Response::GetValue { value, .. } => value.is_some(),
            Response::GetProviders { providers, .. } => !providers.is_empty(),
            _ => false,
        }
    }
}

/// The six RPCs by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[expect(clippy::exhaustive_enums, reason = "the protocol has six RPCs and a new one would be a new protocol")]
pub enum Kind {
    /// PUT_VALUE, 0 on the wire.
    PutValue = 0,
    /// GET_VALUE, 1 on the wire.
    GetValue = 1,
    /// ADD_PROVIDER, 2 on the wire.
    AddProvider = 2,
    /// GET_PROVIDERS, 3 on the wire.
    GetProviders = 3,
    /// FIND_NODE, 4 on the wire.
    FindNode = 4,
    /// PING, 5 on the wire.
    Ping = 5,
}

impl Kind {
    /// All six, in the order of their numbers.
    pub const ALL: [Kind; 6] =
        [Kind::PutValue, Kind::GetValue, Kind::AddProvider, Kind::GetProviders, Kind::FindNode, Kind::Ping];

    /// Its name in metrics and in serialised snapshots.
    pub fn name(self) -> &'static str {
        match self {
            Kind::PutValue => "put_value",
            Kind::GetValue => "get_value",
            Kind::AddProvider => "add_provider",
            Kind::GetProviders => "get_providers",
            Kind::FindNode => "find_node",
            Kind::Ping => "ping",
        }
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Debug::fmt(self, f)
    }
}

/// A value in a message: the part of a [`Record`](super::record::Record) that peers exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Value {
    /// The value's key.
    pub key: RecordKey,
    /// The value.
    pub value: Bytes,
    /// The peer that claims to have published it (field 666, an extension of the Rust implementations).
    pub publisher: Option<PeerId>,
    /// The rest of its lifetime (field 777, whole seconds, an extension of the Rust implementations).
    pub ttl: Option<Duration>,
    /// Time since the value was put (field 778, whole seconds, an extension of this crate), so that peers can tell
    /// which of two values was put later.
    pub age: Option<Duration>,
    /// When the sender received or made it. It is sent, since some peers demand the field, but never read: a decoded
    /// value has `None`.
    pub received: Option<Timestamp>,
}

impl Value {
    /// A value without the optional fields.
    pub fn new(key: impl Into<RecordKey>, value: impl Into<Bytes>) -> Value {
        Value { key: key.into(), value: value.into(), publisher: None, ttl: None, age: None, received: None }
    }
}

/// The reason why a request ended without an answer. Each variant begins with who must act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum RequestError {
    /// The network: there is no connection to the peer.
    #[error("unreachable: {0}")]
    Unreachable(#[from] Unreachable),
    /// The network: the connection closed before the answer came.
    #[error("the connection closed")]
    ConnectionClosed,
    /// The network or the remote: no answer in time.
    #[error("timed out")]
    Timeout,
    /// The network or the remote: the bytes of an announcement left this node, but whether the peer read them is
    /// unknown. Only ADD_PROVIDER ends this way.
    #[error("sent, but not acknowledged")]
    Unacknowledged,
    /// The remote: it reset the stream, or closed it without an answer.
    #[error("refused by the peer")]
    Refused,
    /// The remote: it does not serve this protocol.
    #[error("the peer does not serve this protocol")]
    Unsupported,
    /// The remote: it broke the protocol.
    #[error("the peer misbehaved: {0}")]
    Misbehaved(#[from] Misbehaviour),
    /// The network or the remote: the peer failed repeatedly without an answer in between, and is not asked again yet.
    #[error("held back, since it failed repeatedly: {last}")]
    HeldBack {
        /// Its last failure: one of [`RequestError::REASONS`].
        #[cfg_attr(feature = "serde", serde(deserialize_with = "read_reason"))]
        last: Reason,
    },
    /// Us: too many requests are in flight already.
    #[error("too many requests in flight")]
    Busy,
    /// Us: the encoded request would be longer than peers read.
    #[error("the message is too large to send")]
    TooLarge,
}

/// One of [`RequestError::REASONS`]. It has a name, since serde would deserialise a plain reference as one into the
/// input.
type Reason = &'static str;

#[cfg(feature = "serde")]
fn read_reason<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Reason, D::Error> {
    let text = <String as serde::Deserialize>::deserialize(from)?;
    let known = RequestError::REASONS.into_iter().find(|reason| *reason == text);
    known.ok_or_else(|| serde::de::Error::custom(format!("no reason is called {text}")))
}

impl RequestError {
    /// The name of each reason, in metrics and snapshots.
    pub const REASONS: [&str; 10] = [
        "unreachable",
        "connection_closed",
        "timed_out",
        "unacknowledged",
        "refused",
        "unsupported",
        "misbehaved",
        "busy",
        "too_large",
        "held_back",
    ];

    /// The reason: one of [`RequestError::REASONS`].
    pub fn reason(&self) -> &'static str {
        Self::REASONS[self.reason_index()]
    }

    pub(crate) fn reason_index(&self) -> usize {
        match self {
            RequestError::Unreachable(_) => 0,
            RequestError::ConnectionClosed => 1,
            RequestError::Timeout => 2,
            RequestError::Unacknowledged => 3,
            RequestError::Refused => 4,
            RequestError::Unsupported => 5,
            RequestError::Misbehaved(_) => 6,
            RequestError::Busy => 7,
            RequestError::TooLarge => 8,
            RequestError::HeldBack { .. } => 9,
        }
    }

    /// Whether the failure counts against the peer, rather than against this node.
    pub fn is_the_peers(&self) -> bool {
        !matches!(
            self,
            RequestError::Busy
                | RequestError::TooLarge
                | RequestError::Unacknowledged
                | RequestError::HeldBack { .. }
                | RequestError::Unreachable(
                    Unreachable::Denied | Unreachable::BackingOff(_) | Unreachable::HostBackingOff
                )
        )
    }

    /// Whether the peer was dialled in vain.
    pub(crate) fn is_failed_dial(&self) -> bool {
        matches!(self, RequestError::Unreachable(Unreachable::DialFailed(_) | Unreachable::WrongPeer))
    }

    /// The error of later requests to a peer that failed like this and is not asked again yet.
    pub(crate) fn held_back(self) -> RequestError {
        match self {
            RequestError::Unreachable(Unreachable::DialFailed(cause)) => Unreachable::BackingOff(cause).into(),
            RequestError::Unreachable(Unreachable::WrongPeer) => Unreachable::BackingOff(DialCause::WrongPeer).into(),
            why => RequestError::HeldBack { last: why.reason() },
        }
    }
}

/// The reason why there is no connection to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum Unreachable {
    /// No address of the peer is known.
    #[error("no address known")]
    NoAddress,
    /// All dialled addresses failed; the cause is that of the dial that came farthest.
    #[error("dialling failed{}", .0.suffix())]
    DialFailed(DialCause),
    /// Another peer answered at its addresses.
    #[error("another peer answered at its address")]
    WrongPeer,
    /// A part of this node, such as a connection limit or a block list, denied the connection.
    #[error("the connection was denied by this node")]
    Denied,
    /// Dialling failed a moment ago, for this cause, and is not tried again yet.
    #[error("held back, since dialling failed recently{}", .0.suffix())]
    BackingOff(DialCause),
    /// Only other peers have named its addresses, and none is dialled: too many such dials of its host failed within
    /// the last minute, or the address is of a kind that is never dialled on hearsay.
    #[error("not dialled: too many addresses that other peers named were wrong at its host")]
    HostBackingOff,
}

/// The reason why a dial failed, as far as the transport tells. Ordered by how far the dial came: if several addresses
/// failed, the last reason in this order is reported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum DialCause {
    /// The transport does not tell.
    #[default]
    Unknown,
    /// This node has no transport for the addresses.
    NoTransport,
    /// The operating system does not permit dialling there.
    NotPermitted,
    /// A DNS name did not resolve, probably: an address with a name failed, and no other cause is known.
    Unresolved,
    /// There is no route to the addresses.
    NoRoute,
    /// No reaction came in time.
    TimedOut,
    /// No process listens there.
    Refused,
    /// The connection closed while it was being set up.
    Closed,
    /// No connection could be agreed upon: another protocol runs there, or both peers dialled at the same moment.
    Handshake,
    /// Another peer answered.
    WrongPeer,
}

impl DialCause {
    /// The end of an error text, or nothing.
    fn suffix(self) -> &'static str {
        match self {
            DialCause::Unknown => "",
            DialCause::NoTransport => ": no transport for its addresses",
            DialCause::NotPermitted => ": not permitted by this system",
            DialCause::Unresolved => ": its name did not resolve",
            DialCause::NoRoute => ": no route to it",
            DialCause::TimedOut => ": timed out",
            DialCause::Refused => ": connection refused",
            DialCause::Closed => ": the connection closed at once",
            DialCause::Handshake => ": no connection could be agreed upon",
            DialCause::WrongPeer => ": another peer answered at its address",
        }
    }
}

impl std::fmt::Display for DialCause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = self.suffix().trim_start_matches(": ");
        f.write_str(if text.is_empty() { "unknown" } else { text })
    }
}

/// A rule of the protocol that a peer broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum Misbehaviour {
    /// The bytes are not a message of this protocol.
    #[error("undecodable message")]
    Undecodable,
    /// The message is longer than this node reads.
    #[error("message too large")]
    TooLarge,
    /// The answer belongs to another RPC.
    #[error("answer of the wrong type")]
    WrongType,
    /// The answer, or the value in it, has another key than the request.
    #[error("answer for another key")]
    WrongKey,
    /// The echo of a stored value differs from the value.
    #[error("the stored value came back changed")]
    WrongEcho,
    /// The value is not valid for its key.
    #[error("invalid value: {0}")]
    InvalidValue(#[from] super::validate::InvalidValue),
    /// A request has no key, or one of a length that the protocol forbids.
    #[error("key of a forbidden length")]
    BadKey,
    /// An announcement does not name its sender as a provider with an address.
    #[error("the announcement does not name its sender")]
    NotItsProvider,
}

impl Misbehaviour {
    /// Whether only a peer does this that does not follow the protocol. A value that another peer made, or that this
    /// node judges by rules of its own, is no such sign.
    pub fn is_grave(self) -> bool {
        match self {
            Misbehaviour::Undecodable
            | Misbehaviour::TooLarge
            | Misbehaviour::WrongType
            | Misbehaviour::WrongKey
            | Misbehaviour::NotItsProvider => true,
            Misbehaviour::WrongEcho | Misbehaviour::InvalidValue(_) | Misbehaviour::BadKey => false,
        }
    }
}
