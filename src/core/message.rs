//! The six RPCs as data, and the ways in which a request can end.
//!
//! Knows: what peers say to each other. Must not know: how it is encoded (`wire`), carried (`net`) or answered
//! (`server`).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use libp2p_identity::PeerId;

use super::contact::Contact;
use super::record::RecordKey;
use super::time::Timestamp;

/// One RPC as a peer asks it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Request {
    /// Answered by an equal message. Peers must not send it; it is answered all the same.
    Ping,
    /// Who is closest to this point? The bytes are a peer id or any other preimage of a key, never empty.
    FindNode {
        /// The preimage of the point asked for.
        key: Bytes,
    },
    /// What value is kept under this key, and who is closer to it?
    GetValue {
        /// The key asked for.
        key: RecordKey,
    },
    /// Keep this value.
    PutValue {
        /// The value, with its key.
        value: Value,
    },
    /// Who provides this content, and who is closer to it?
    GetProviders {
        /// The content's multihash.
        key: RecordKey,
    },
    /// Know that I provide this content. It has no answer.
    AddProvider {
        /// The content's multihash.
        key: RecordKey,
        /// Who provides it: the sender, with its addresses. Entries about others are ignored.
        providers: Vec<Arc<Contact>>,
    },
}

impl Request {
    /// The RPC's name, spelled as in the specification.
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

/// What a peer answers.
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
    /// The value, where the peer has it, and the peers closest to its key.
    GetValue {
        /// The key of the answer; empty where the peer left it out.
        key: RecordKey,
        /// The value, where the peer has one.
        value: Option<Value>,
        /// Peers closer to the key.
        closer: Vec<Arc<Contact>>,
    },
    /// The value is kept: its echo.
    PutValue {
        /// The value that the peer says to have kept.
        value: Value,
    },
    /// The providers that the peer knows, and the peers closest to the key.
    GetProviders {
        /// The key of the answer; empty where the peer left it out.
        key: RecordKey,
        /// Who provides the content; possibly without addresses.
        providers: Vec<Arc<Contact>>,
        /// Peers closer to the key.
        closer: Vec<Arc<Contact>>,
    },
    /// The peer read the announcement and closed its stream in good order. Nothing like it is on the wire.
    AddProvider,
}

impl Response {
    /// Which RPC this answers.
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

    /// Whether it has a value or providers.
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

    /// Its name in metrics and in what is serialised.
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

/// A value as it travels: what a [`Record`](super::record::Record) is to a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Value {
    /// The value's key.
    pub key: RecordKey,
    /// The value.
    pub value: Bytes,
    /// Who says to have published it (field 666, an extension of the Rust implementations).
    pub publisher: Option<PeerId>,
    /// How much longer it is meant to live (field 777 in whole seconds, an extension of the Rust implementations).
    pub ttl: Option<Duration>,
    /// How long ago it was put (field 778 in whole seconds, an extension of this crate): which of two values was put later.
    pub age: Option<Duration>,
    /// When the sender received or made it. It is sent, since some peers demand the field, and never believed: a
    /// decoded value has `None`.
    pub received: Option<Timestamp>,
}

impl Value {
    /// A value without the optional fields.
    pub fn new(key: impl Into<RecordKey>, value: impl Into<Bytes>) -> Value {
        Value { key: key.into(), value: value.into(), publisher: None, ttl: None, age: None, received: None }
    }
}

/// Why a request that was sent, or should have been, ended without an answer. Sorted by who must act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum RequestError {
    /// The network: no connection to the peer could be had.
    #[error("unreachable: {0}")]
    Unreachable(#[from] Unreachable),
    /// The network: the connection closed before the answer came.
    #[error("the connection closed")]
    ConnectionClosed,
    /// The network or the remote: no answer in time.
    #[error("timed out")]
    Timeout,
    /// The network or the remote: the bytes of an announcement left this node, but whether the peer read them is
    /// unknown. Only ADD_PROVIDER ends so.
    #[error("sent, but not acknowledged")]
    Unacknowledged,
    /// The remote: it reset the stream or closed it without an answer.
    #[error("refused by the peer")]
    Refused,
    /// The remote: it does not serve this protocol.
    #[error("the peer does not serve this protocol")]
    Unsupported,
    /// The remote: it broke the protocol.
    #[error("the peer misbehaved: {0}")]
    Misbehaved(#[from] Misbehaviour),
    /// The network or the remote: it failed repeatedly with nothing answered in between, and is not asked again yet.
    #[error("held back, since it failed repeatedly: {last}")]
    HeldBack {
        /// How it failed last: one of [`RequestError::REASONS`].
        #[cfg_attr(feature = "serde", serde(deserialize_with = "read_reason"))]
        last: Reason,
    },
    /// Us: too much is under way already.
    #[error("too many requests under way")]
    Busy,
    /// Us: the request cannot be encoded within the size that peers read.
    #[error("the message is too large to send")]
    TooLarge,
}

/// One of [`RequestError::REASONS`]. A name of its own, since a reference would be read as one into the text.
type Reason = &'static str;

#[cfg(feature = "serde")]
fn read_reason<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Reason, D::Error> {
    let text = <String as serde::Deserialize>::deserialize(from)?;
    let known = RequestError::REASONS.into_iter().find(|reason| *reason == text);
    known.ok_or_else(|| serde::de::Error::custom(format!("no reason is called {text}")))
}

impl RequestError {
    /// What all reasons are called, in one word each.
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

    /// The reason in one word: one of [`RequestError::REASONS`].
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

    /// Whether the failure speaks against the peer, rather than against this node.
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

    /// Whether no connection to the peer could be had, though it was dialled.
    pub(crate) fn is_failed_dial(&self) -> bool {
        matches!(self, RequestError::Unreachable(Unreachable::DialFailed(_) | Unreachable::WrongPeer))
    }

    /// What is said of a peer that failed so and is not asked again yet.
    pub(crate) fn held_back(self) -> RequestError {
        match self {
            RequestError::Unreachable(Unreachable::DialFailed(cause)) => Unreachable::BackingOff(cause).into(),
            RequestError::Unreachable(Unreachable::WrongPeer) => Unreachable::BackingOff(DialCause::WrongPeer).into(),
            why => RequestError::HeldBack { last: why.reason() },
        }
    }
}

/// Why no connection to a peer could be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum Unreachable {
    /// No address of the peer is known.
    #[error("no address known")]
    NoAddress,
    /// All dialled addresses failed; the reason is that of the address where the dial came farthest.
    #[error("dialling failed{}", .0.told())]
    DialFailed(DialCause),
    /// Someone else answered at its addresses.
    #[error("another peer answered at its address")]
    WrongPeer,
    /// A part of this node, such as a connection limit or a block list, denied the connection.
    #[error("the connection was denied by this node")]
    Denied,
    /// Dialling failed a moment ago, for this reason, and is not tried again yet.
    #[error("held back, since dialling failed recently{}", .0.told())]
    BackingOff(DialCause),
    /// It is known by hearsay alone, and is not dialled: too many such dials of its host failed within the last minute, or
    /// its address is of a kind that is not dialled on hearsay.
    #[error("not dialled on hearsay, of which too much was wrong at its host")]
    HostBackingOff,
}

/// Why a dial failed, as far as the transport tells. In the order of how far it came: whoever dials several addresses
/// reports the last of the reasons.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum DialCause {
    /// It is not told.
    #[default]
    Unknown,
    /// This node has no transport for the addresses.
    NoTransport,
    /// This node's system does not let it dial there.
    NotPermitted,
    /// A name did not resolve, as far as anyone tells: an address by a name failed, and no other cause is told.
    Unresolved,
    /// There is no way to the addresses, or to any.
    NoRoute,
    /// Nobody reacted in time.
    TimedOut,
    /// Nobody listens there.
    Refused,
    /// The connection closed while it was set up.
    Closed,
    /// Somebody is there, but no connection can be agreed upon: another protocol, or both dialled at the same moment.
    Handshake,
    /// Someone else answered.
    WrongPeer,
}

impl DialCause {
    /// As the end of a sentence that says what failed.
    fn told(self) -> &'static str {
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
        let told = self.told().trim_start_matches(": ");
        f.write_str(if told.is_empty() { "unknown" } else { told })
    }
}

/// A rule of the protocol that a peer broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum Misbehaviour {
    /// The bytes are no message of this protocol.
    #[error("undecodable message")]
    Undecodable,
    /// The message is longer than this node reads.
    #[error("message too large")]
    TooLarge,
    /// The answer is one to another kind of request.
    #[error("answer of the wrong type")]
    WrongType,
    /// The answer, or the value in it, has another key than was asked for.
    #[error("answer for another key")]
    WrongKey,
    /// The echo of a stored value differs from the value.
    #[error("the stored value came back changed")]
    WrongEcho,
    /// The value is not valid for its key.
    #[error("invalid value: {0}")]
    InvalidValue(#[from] super::validate::InvalidValue),
    /// A request came without a key, or with one of a length that the protocol forbids.
    #[error("key of a forbidden length")]
    BadKey,
    /// An announcement names no provider that is its sender and can be reached.
    #[error("the announcement does not name its sender")]
    NotItsProvider,
}
