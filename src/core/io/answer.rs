//! The events of a query: its steps, what it finds on the way, and its result.
//!
//! Knows: the result of each operation. Must not know: how any of them comes about.

use std::fmt;
use std::time::Duration;

use libp2p_identity::PeerId;
use multiaddr::{Multiaddr, Protocol};

use crate::core::contact::Contact;
use crate::core::error::{QueryError, Report};
use crate::core::key::Key;
use crate::core::message::{Kind, RequestError};
use crate::core::record::Record;
use crate::core::store::Item;

/// News of one query. `Finished` comes exactly once, last, and for each query that was started, cancelled ones too.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum QueryEvent {
    /// A step of the lookup, for queries that asked for progress.
    Progress(Progress),
    /// A value better than all before it, while the query looks for still better ones.
    Value(Record),
    /// A provider not reported before; reported again only if addresses become known where none were.
    Provider(PeerRecord),
    /// The query has ended.
    Finished(Box<Result<Answer, QueryError>>),
}

/// A step of a query.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress {
    /// A request waits, since as many are in flight as the node and its peers can carry.
    Queued {
        /// The peer that will be asked.
        peer: PeerId,
        /// The kind of the request.
        kind: Kind,
    },
    /// A peer is being asked.
    Asked {
        /// The peer.
        peer: PeerId,
        /// The kind of the request.
        kind: Kind,
        /// The number of leading bits that its key shares with the target: the higher, the closer.
        shared_bits: u32,
    },
    /// A peer answered.
    Answered {
        /// The peer.
        peer: PeerId,
        /// The time that it took, dialling included.
        took: Duration,
        /// The number of leading bits that its key shares with the target.
        shared_bits: u32,
        /// The number of peers in its answer that were new to the query.
        news: usize,
    },
    /// A peer failed.
    Failed {
        /// The peer.
        peer: PeerId,
        /// The reason.
        why: RequestError,
    },
}

/// The result of a query that succeeded. It converts into the type that it carries:
///
/// ```
/// # use libp2p_kad_dht::{core::Answer, Found};
/// fn value(answer: Answer) -> Option<bytes::Bytes> {
///     let found: Found = answer.try_into().ok()?;
///     Some(found.record.value)
/// }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
#[expect(clippy::large_enum_variant, reason = "it travels in a box, one for each query")]
pub enum Answer {
    /// The result of [`Operation::ClosestPeers`](super::Operation::ClosestPeers).
    ClosestPeers(ClosestPeers),
    /// The result of [`Operation::FindPeer`](super::Operation::FindPeer).
    Peer(FoundPeer),
    /// The result of [`Operation::Get`](super::Operation::Get).
    Value(Found),
    /// The result of [`Operation::Put`](super::Operation::Put) and of
    /// [`Operation::Provide`](super::Operation::Provide).
    Published(Published),
    /// The result of [`Operation::Providers`](super::Operation::Providers). The providers themselves came before, as
    /// [`QueryEvent::Provider`].
    Providers(ProvidersFound),
    /// The result of [`Operation::Bootstrap`](super::Operation::Bootstrap).
    Bootstrapped(Bootstrapped),
    /// The result of [`Operation::Remove`](super::Operation::Remove) and of
    /// [`Operation::StopProviding`](super::Operation::StopProviding): the store has removed the record, as durably as
    /// it keeps any.
    Removed,
    /// The result of [`Operation::Records`](super::Operation::Records): what is kept, in order of the keyspace. Fewer
    /// items than the limit mean that the end is reached.
    Records(Vec<Item>),
}

/// The result of an operation out of its answer; an answer to another operation is given back.
macro_rules! from_answer {
    ($($variant:ident => $result:ty;)*) => {$(
        impl TryFrom<Answer> for $result {
            type Error = Answer;

            fn try_from(answer: Answer) -> Result<$result, Answer> {
                match answer {
                    Answer::$variant(result) => Ok(result),
                    other => Err(other),
                }
            }
        }
    )*};
}

from_answer! {
    ClosestPeers => ClosestPeers;
    Peer => FoundPeer;
    Value => Found;
    Published => Published;
    Providers => ProvidersFound;
    Bootstrapped => Bootstrapped;
    Records => Vec<Item>;
}

impl TryFrom<Answer> for () {
    type Error = Answer;

    fn try_from(answer: Answer) -> Result<(), Answer> {
        if let Answer::Removed = answer { Ok(()) } else { Err(answer) }
    }
}

/// The result of an operation that asks other peers, with a [`Report`] of its requests. No type outside this crate can
/// have this trait.
pub trait NetworkResult: sealed::Sealed {}

impl<T: sealed::Sealed> NetworkResult for T {}

mod sealed {
    pub trait Sealed: 'static {}

    impl Sealed for super::Bootstrapped {}
    impl Sealed for super::ClosestPeers {}
    impl Sealed for super::Found {}
    impl Sealed for super::FoundPeer {}
    impl Sealed for super::ProvidersFound {}
    impl Sealed for super::Published {}
}

/// The result of a get: the best value that was found.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Found {
    /// The best value found, valid by the verdict of the configured validator.
    ///
    /// Its `expires` is the latest time that a holder names (field 777 of a record); `None` if no holder names one, and
    /// for a value that this node published and keeps alive. It is neither the time until which this node keeps a copy
    /// of a value without such a field, nor an end that the value states in a form of its own, as an IPNS record does.
    /// Its `publisher` is what the holder says, and is not authenticated.
    pub record: Record,
    /// The first peer that had it; `None` if this node kept it.
    pub from: Option<PeerId>,
    /// The peers that held this very value.
    pub holders: Vec<PeerId>,
    /// The peers that held another value, older than this one.
    pub outdated: Vec<PeerId>,
    /// The peers that answered without a value.
    pub missing: Vec<PeerId>,
    /// The peers that get this value in the background, nearest to the key first: those of the k closest known that
    /// held an older one, none, or one that is not valid. Whether they take it is not reported.
    pub corrected: Vec<PeerId>,
    /// The peer that gets a short-lived copy in the background, so that later reads end sooner: the closest that held
    /// none, where it is not among the k closest
    /// ([`RecordConfig::path_caching`](crate::core::config::RecordConfig::path_caching)).
    pub cached: Option<PeerId>,
    /// The requests of the query and their ends.
    pub report: Report,
}

impl Found {
    /// A value that one peer held.
    pub fn new(record: Record, from: PeerId, report: Report) -> Found {
        let (outdated, missing, corrected) = (Vec::new(), Vec::new(), Vec::new());
        Found { record, from: Some(from), holders: vec![from], outdated, missing, corrected, cached: None, report }
    }
}

/// The result of a put or a provide that reached as many peers as its quorum asks for.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Published {
    /// The peers that took the record and those that did not: [`Report::acknowledged`], [`Report::sent`] and
    /// [`Report::failed`]. Its requests include those of the lookup of the closest peers.
    pub report: Report,
}

impl From<Report> for Published {
    fn from(report: Report) -> Published {
        Published { report }
    }
}

/// The result of a search for providers, once all of them were reported.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct ProvidersFound {
    /// The number of providers that were reported.
    pub found: usize,
    /// The requests of the query and their ends.
    pub report: Report,
}

impl ProvidersFound {
    /// This many providers were reported.
    pub fn new(found: usize, report: Report) -> ProvidersFound {
        ProvidersFound { found, report }
    }
}

/// The result of a search for a peer.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct FoundPeer {
    /// The peer with its addresses.
    pub peer: PeerRecord,
    /// How far the addresses can be trusted: whether the peer was reached, answered before, or is only known from
    /// others.
    pub evidence: Evidence,
    /// The requests of the query and their ends.
    pub report: Report,
}

impl FoundPeer {
    /// This peer, with this evidence for its addresses.
    pub fn new(peer: PeerRecord, evidence: Evidence, report: Report) -> FoundPeer {
        FoundPeer { peer, evidence, report }
    }
}

/// The result of a search for the peers closest to a key.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct ClosestPeers {
    /// The closest peers that answered, nearest first.
    pub peers: Vec<PeerRecord>,
    /// The requests of the query and their ends.
    pub report: Report,
}

impl ClosestPeers {
    /// These peers, nearest first.
    pub fn new(peers: Vec<PeerRecord>, report: Report) -> ClosestPeers {
        ClosestPeers { peers, report }
    }
}

/// The result of a bootstrap.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Bootstrapped {
    /// The number of peers in the routing table now.
    pub peers: usize,
    /// The requests of the query and their ends.
    pub report: Report,
}

impl Bootstrapped {
    /// This many peers are in the routing table.
    pub fn new(peers: usize, report: Report) -> Bootstrapped {
        Bootstrapped { peers, report }
    }
}

/// A peer and where it can be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct PeerRecord {
    /// The peer.
    pub id: PeerId,
    /// Its addresses, without `/p2p` endings; possibly none.
    pub addrs: Vec<Multiaddr>,
}

impl PeerRecord {
    /// A peer with its addresses, which have no `/p2p` endings.
    pub fn new(id: PeerId, addrs: Vec<Multiaddr>) -> PeerRecord {
        PeerRecord { id, addrs }
    }

    /// The addresses with `/p2p/<id>` at their end, so that each names the peer to expect there.
    pub fn p2p_addrs(&self) -> impl Iterator<Item = Multiaddr> + '_ {
        self.addrs.iter().map(|addr| addr.clone().with(Protocol::P2p(self.id)))
    }
}

impl From<&Contact> for PeerRecord {
    fn from(contact: &Contact) -> PeerRecord {
        PeerRecord { id: *contact.peer(), addrs: contact.addrs().collect() }
    }
}

impl From<&PeerRecord> for Key {
    fn from(peer: &PeerRecord) -> Key {
        Key::from(&peer.id)
    }
}

/// How far the addresses of a peer can be trusted that was looked for, least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum Evidence {
    /// Other peers named them, or this node knew them before the peer failed: the peer was not reached. Where this node
    /// tried and failed, or did not try since the peer failed a moment ago, the report has the reason. The peer may be
    /// gone, or be behind a relay.
    Hearsay,
    /// The peer answered this node before and has not failed since. It was not asked now.
    Remembered,
    /// The peer is connected, or was reached now.
    Reached,
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Evidence::Hearsay => "hearsay",
            Evidence::Remembered => "remembered",
            Evidence::Reached => "reached",
        })
    }
}
