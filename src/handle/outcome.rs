//! What queries give: the core's answers with names for an application.
//!
//! Knows: which answer belongs to which operation. Must not know: how it comes back.

use bytes::Bytes;
use libp2p_identity::PeerId;
use multiaddr::{Multiaddr, Protocol};

use super::slot::Reply;
use crate::core::store::Item;
use crate::core::{
    Answer, Contact, Evidence, PeerFailure, QuerySnapshot, RecordKey, Report, RoutingSnapshot, Stats, Timestamp,
};

/// What a [`Query`](super::Query) can give. Sealed: its implementors are the results of the operations of
/// [`DhtHandle`](super::DhtHandle).
pub trait Outcome: sealed::Read + Send + 'static {}

/// The outcome of an operation that asks other peers, so that it takes a while and goes in steps.
pub trait Walk: Outcome {}

pub(super) mod sealed {
    pub trait Read: Sized {
        /// `None` if the reply is one to something else, which would be a fault of this crate.
        fn read(reply: crate::handle::slot::Reply) -> Option<Self>;
    }
}

macro_rules! outcome {
    (@reply $reply:ident, answer $answer:pat => $value:expr) => {
        match $reply {
            Reply::Answer(answer) => match *answer {
                $answer => Some($value),
                _ => None,
            },
            _ => None,
        }
    };
    (@reply $reply:ident, reply $pattern:pat => $value:expr) => {
        match $reply {
            $pattern => Some($value),
            _ => None,
        }
    };
    ($($name:ty: $kind:ident $pattern:pat => $value:expr;)*) => {$(
        impl Outcome for $name {}

        impl sealed::Read for $name {
            fn read(reply: Reply) -> Option<Self> {
                outcome!(@reply reply, $kind $pattern => $value)
            }
        }
    )*};
}

outcome! {
    Found: answer Answer::Value { record, from, holders, outdated, missing, corrected, cached, report } => Found {
        key: record.key,
        value: record.value,
        publisher: record.publisher,
        expires: record.expires,
        from,
        holders,
        outdated,
        missing,
        corrected,
        cached,
        report,
    };
    Published: answer Answer::Stored { report } | Answer::Provided { report } => Published {
        requests: report.requests,
        answers: report.answers,
        acknowledged: report.acknowledged,
        sent: report.sent,
        failed: report.failed,
    };
    ProvidersFound: answer Answer::Providers { found, report } => ProvidersFound { found, report };
    FoundPeer: answer Answer::Peer { peer, evidence, report } => {
        let PeerRecord { id, addrs } = PeerRecord::from(&*peer);
        FoundPeer { id, addrs, evidence, report }
    };
    ClosestPeers: answer Answer::ClosestPeers { peers, report } => {
        ClosestPeers { peers: peers.iter().map(|peer| PeerRecord::from(&**peer)).collect(), report }
    };
    Bootstrapped: answer Answer::Bootstrapped { peers, report } => Bootstrapped { peers, report };
    Vec<Item>: answer Answer::Records { items } => items;
    RoutingSnapshot: reply Reply::Routing(snapshot) => snapshot;
    Vec<QuerySnapshot>: reply Reply::Queries(snapshots) => snapshots;
    Stats: reply Reply::Stats(stats) => *stats;
    PeerRecord: reply Reply::Local(contact) => PeerRecord::from(&*contact);
    (): answer Answer::Forgotten => ();
}

impl Walk for Found {}
impl Walk for Published {}
impl Walk for ProvidersFound {}
impl Walk for FoundPeer {}
impl Walk for ClosestPeers {}
impl Walk for Bootstrapped {}

/// The end of a [`get`](super::DhtHandle::get): the best value that was found.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Found {
    /// Its key.
    pub key: RecordKey,
    /// The value: valid for its key, by the verdict of the configured validator.
    pub value: Bytes,
    /// Who says to have published it; unauthenticated.
    pub publisher: Option<PeerId>,
    /// When its copies are over, by whichever holder says the latest; `None` if none says, and for a value that this node
    /// published and keeps alive. A value may say another end in a form of its own, as an IPNS record does.
    pub expires: Option<Timestamp>,
    /// Who had it first; `None` if it was kept on this node.
    pub from: Option<PeerId>,
    /// All peers that held this very value.
    pub holders: Vec<PeerId>,
    /// All peers that held an older value instead.
    pub outdated: Vec<PeerId>,
    /// All peers that answered without a value.
    pub missing: Vec<PeerId>,
    /// The peers that get this value in the background, nearest to the key first: those of the k closest known that held
    /// an older one, none, or one that is not valid.
    pub corrected: Vec<PeerId>,
    /// The peer that gets a short-lived copy in the background, so that later reads end sooner: the closest that held
    /// none, where that is none of the k closest.
    pub cached: Option<PeerId>,
    /// Who was asked, and how that ended.
    pub report: Report,
}

/// The end of a [`put`](super::DhtHandle::put) or a [`provide`](super::DhtHandle::provide).
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Published {
    /// The peers that acknowledged to keep it, nearest to the key first. They may be more than k: where one is late another
    /// is asked in its place, and it may keep it all the same.
    pub acknowledged: Vec<PeerId>,
    /// The peers to which it was sent, and that neither took nor refused it in time. Only a provide has such.
    pub sent: Vec<PeerId>,
    /// The peers that failed, and why.
    pub failed: Vec<PeerFailure>,
    /// How many requests it took in all, those of the walk to the closest peers included.
    pub requests: usize,
    /// How many of those were answered.
    pub answers: usize,
}

/// The end of a [`providers`](super::DhtHandle::providers) stream.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct ProvidersFound {
    /// How many providers there were.
    pub found: usize,
    /// Who was asked, and how that ended.
    pub report: Report,
}

/// The end of a [`find_peer`](super::DhtHandle::find_peer).
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct FoundPeer {
    /// The peer.
    pub id: PeerId,
    /// Its addresses, without `/p2p` endings.
    pub addrs: Vec<Multiaddr>,
    /// What speaks for them: whether the peer was reached, answered before, or is only named by others.
    pub evidence: Evidence,
    /// Who was asked, and how that ended.
    pub report: Report,
}

/// The end of a [`closest_peers`](super::DhtHandle::closest_peers).
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct ClosestPeers {
    /// The closest peers that answered, nearest first.
    pub peers: Vec<PeerRecord>,
    /// Who was asked, and how that ended.
    pub report: Report,
}

/// The end of a [`bootstrap`](super::DhtHandle::bootstrap).
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Bootstrapped {
    /// How many peers the routing table holds now.
    pub peers: usize,
    /// Who was asked, and how that ended.
    pub report: Report,
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
    /// The addresses with `/p2p/<id>` at their end: each says on its own whom to expect there.
    pub fn p2p_addrs(&self) -> impl Iterator<Item = Multiaddr> + '_ {
        self.addrs.iter().map(|addr| addr.clone().with(Protocol::P2p(self.id)))
    }
}

impl From<&Contact> for PeerRecord {
    fn from(contact: &Contact) -> PeerRecord {
        PeerRecord { id: *contact.peer(), addrs: contact.addrs().collect() }
    }
}
