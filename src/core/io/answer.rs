//! What a query tells: its steps, what it finds on the way, and how it ended.
//!
//! Knows: names of results. Must not know: how any of them comes about.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use libp2p_identity::PeerId;

use crate::core::contact::Contact;
use crate::core::error::{QueryError, Report};
use crate::core::message::{Kind, RequestError};
use crate::core::record::Record;
use crate::core::store::Item;

/// News of one query. `Finished` comes exactly once, last, and for each query that was started, cancelled ones too.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum QueryEvent {
    /// A step of the walk, for queries that asked for progress.
    Progress(Progress),
    /// A value better than all before it, while the query looks for still better ones.
    Value(Record),
    /// A provider not reported before; reported again only if addresses become known where none were.
    Provider(Arc<Contact>),
    /// The query is over.
    Finished(Box<Result<Answer, QueryError>>),
}

/// A step of a query.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress {
    /// A request waits for its turn, since as many are in flight as the node and its peers can carry.
    Queued {
        /// Who is to be asked.
        peer: PeerId,
        /// What.
        kind: Kind,
    },
    /// A peer is being asked.
    Asked {
        /// Who.
        peer: PeerId,
        /// What.
        kind: Kind,
        /// How many leading bits its key shares with the target: the higher, the closer.
        shared_bits: u32,
    },
    /// A peer answered.
    Answered {
        /// Who.
        peer: PeerId,
        /// How long that took, dialling included.
        took: Duration,
        /// How many leading bits its key shares with the target.
        shared_bits: u32,
        /// How many peers it named that the query had not heard of.
        news: usize,
    },
    /// A peer failed.
    Failed {
        /// Who.
        peer: PeerId,
        /// Why.
        why: RequestError,
    },
}

/// What a query that succeeded found.
#[derive(Clone, Debug)]
#[non_exhaustive]
#[expect(clippy::large_enum_variant, reason = "it travels in a box, one for each query")]
pub enum Answer {
    /// The end of [`Operation::ClosestPeers`](super::Operation::ClosestPeers).
    ClosestPeers {
        /// The closest peers that answered, nearest first.
        peers: Vec<Arc<Contact>>,
        /// Who was asked.
        report: Report,
    },
    /// The end of [`Operation::FindPeer`](super::Operation::FindPeer).
    Peer {
        /// The peer with its addresses.
        peer: Arc<Contact>,
        /// What speaks for them.
        evidence: Evidence,
        /// Who was asked.
        report: Report,
    },
    /// The end of [`Operation::Get`](super::Operation::Get).
    Value {
        /// The best value found. Its `expires` is when its copies are over, by whichever holder says the latest (field 777
        /// of a record); `None` if none says, and for an own value, which this node keeps alive. How long this node keeps
        /// a copy of a value that says nothing is not told, nor what the value itself says in a form of its own, as an
        /// IPNS record does.
        record: Record,
        /// Who had it; `None` if it was kept here.
        from: Option<PeerId>,
        /// The peers that held this very value.
        holders: Vec<PeerId>,
        /// The peers that held another value, older than this one.
        outdated: Vec<PeerId>,
        /// The peers that answered without a value.
        missing: Vec<PeerId>,
        /// The peers that get this value now, since they are among the k closest known and held an older one, none, or
        /// one that is not valid; nearest to the key first. Nobody waits for them, and whether they take it is not told.
        corrected: Vec<PeerId>,
        /// The peer that gets a copy of this value for a while, so that later reads end sooner: the closest that held
        /// none, where it is not among the k closest
        /// ([`RecordConfig::path_caching`](crate::core::config::RecordConfig::path_caching)).
        cached: Option<PeerId>,
        /// Who was asked.
        report: Report,
    },
    /// The end of [`Operation::Put`](super::Operation::Put).
    Stored {
        /// Who took it and who did not.
        report: Report,
    },
    /// The end of [`Operation::Provide`](super::Operation::Provide).
    Provided {
        /// Who took it and who did not.
        report: Report,
    },
    /// The end of [`Operation::Providers`](super::Operation::Providers).
    Providers {
        /// How many providers were reported.
        found: usize,
        /// Who was asked.
        report: Report,
    },
    /// The end of [`Operation::Bootstrap`](super::Operation::Bootstrap).
    Bootstrapped {
        /// How many peers the routing table holds now.
        peers: usize,
        /// Who was asked.
        report: Report,
    },
    /// The end of [`Operation::Remove`](super::Operation::Remove) and of
    /// [`Operation::StopProviding`](super::Operation::StopProviding): the store has forgotten it, as durably as it keeps
    /// anything.
    Forgotten,
    /// The end of [`Operation::Records`](super::Operation::Records).
    Records {
        /// What is kept, in order of the keyspace; fewer than the limit means that the end is reached.
        items: Vec<Item>,
    },
}

/// What speaks for the addresses of a peer that was looked for; the more, the greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum Evidence {
    /// The word of others, or what was known of it before it failed: it was not reached. Where this node tried and
    /// failed, or holds it back since it failed a moment ago, the report says why. It may be gone, or be behind a relay.
    Hearsay,
    /// It answered this node before and has not failed since. It was not asked now.
    Remembered,
    /// It is connected, or was reached now.
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
