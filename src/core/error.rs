//! The errors of operations, as values that a program can match on, sorted by who must act.
//!
//! Knows: names and texts of failures. Must not know: how any of them comes about. The errors of single requests are in
//! `message.rs`, those of stores in `store`, those of values in `validate`.

use std::num::NonZeroUsize;
use std::time::Duration;

use libp2p_identity::PeerId;

use super::message::RequestError;
use super::record::Record;
use super::store::StoreError;
use super::validate::InvalidValue;

/// Why a query did not succeed. The documentation of each variant begins with who can act: the network, this node, or
/// the caller.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum QueryError {
    /// The network: no peer is known. A record that was to be published is kept on this node, unless the put was made
    /// with `keep(false)`.
    #[error("no peers known")]
    NoPeers,
    /// The network: no known peer answered, or all of them failed a moment ago and are not asked again yet.
    #[error("no peer answered ({0})")]
    NoAnswer(Box<Report>),
    /// The network: all peers that could be asked were asked, and none had it.
    #[error("not found ({0})")]
    NotFound(Box<Report>),
    /// The network: fewer peers than the quorum stored the record or held a value.
    #[error("quorum missed: {reached} of {wanted} peers {} ({report})", if best.is_some() { "held a value" } else { "stored the record" })]
    QuorumMissed {
        /// The quorum.
        wanted: NonZeroUsize,
        /// The number of peers that were reached.
        reached: usize,
        /// The best value found, if this was a get.
        best: Option<Box<Record>>,
        /// The peers that hold that very value; empty for a publication, whose report names the peers that took it.
        holders: Vec<PeerId>,
        /// The requests of the query and their ends.
        report: Box<Report>,
    },
    /// The network: the query ran out of time.
    #[error("timed out after {after:?} ({report})")]
    TimedOut {
        /// The time that the query had.
        after: Duration,
        /// The best value found until then, if this was a get.
        best: Option<Box<Record>>,
        /// The requests of the query and their ends until then.
        report: Box<Report>,
    },
    /// This node: it had so much to do that it could send no request in the query's time.
    #[error("this node was too busy to send a request in time ({0})")]
    Overloaded(Box<Report>),
    /// This node: its store could not keep or read the record.
    #[error("this node could not keep or read the record: {0}")]
    Store(StoreError),
    /// This node: it runs as many queries as its configuration allows. Try again when one has ended.
    #[error("this node runs as many queries as it may: try again when one has ended")]
    Busy,
    /// This node: it was dropped before the query ended.
    #[error("the node is gone")]
    Closed,
    /// The caller: it suspended the node.
    #[error("the node is suspended")]
    Suspended,
    /// The caller: it cancelled the query.
    #[error("cancelled by the caller")]
    Cancelled,
    /// The caller: the key is empty or longer than peers accept.
    #[error("the key has {len} bytes, and may have 1 to {max}")]
    InvalidKey {
        /// The length of the key in bytes.
        len: usize,
        /// The maximum: [`MAX_KEY_LEN`](super::config::MAX_KEY_LEN), for content
        /// [`MAX_PROVIDER_KEY_LEN`](super::config::MAX_PROVIDER_KEY_LEN).
        max: usize,
    },
    /// The caller: it asked for more closest peers than a query looks for, or named more peers than one asks: ten times k.
    #[error("{limit} peers were asked for, and {max} is the maximum")]
    LimitTooHigh {
        /// The number that was asked for.
        limit: usize,
        /// The maximum.
        max: usize,
    },
    /// The caller: the value is not valid for its key.
    #[error("invalid value: {0}")]
    InvalidValue(#[from] InvalidValue),
    /// The caller: this node keeps a newer value under the key.
    #[error("this node keeps a newer value under this key")]
    OldValue,
    /// The caller: this node keeps another value than the one to be replaced, which the validator forbids (see
    /// [`Validator::succeeds`](super::validate::Validator::succeeds)). Read again, then decide again.
    #[error("this node keeps another value than the one to be replaced: read it again first")]
    Conflict,
    /// The caller: a provider must have an address, and this node knows none of its own.
    #[error("this node knows no address of its own to announce: let it listen first")]
    NoOwnAddress,
}

impl From<StoreError> for QueryError {
    fn from(why: StoreError) -> QueryError {
        match why {
            StoreError::Old => QueryError::OldValue,
            StoreError::Conflict => QueryError::Conflict,
            why => QueryError::Store(why),
        }
    }
}

impl QueryError {
    /// The error of a query without a single answer whose requests all failed because this node was busy; otherwise
    /// gives the report back.
    pub(crate) fn overloaded(report: Box<Report>) -> Result<QueryError, Box<Report>> {
        let all_busy = report.failed.iter().all(|failure| failure.why == RequestError::Busy);
        match report.answers == 0 && !report.failed.is_empty() && all_busy {
            true => Ok(QueryError::Overloaded(report)),
            false => Err(report),
        }
    }

    /// Whether the record is kept on this node, which publishes it again in time, if this is the error of a provide or
    /// of a put that keeps its value. `false` if it failed before the record was kept, and for [`QueryError::Closed`],
    /// where this is unknown. Means nothing for other operations, nor for a put with `keep(false)`, whose record is
    /// never kept.
    pub fn is_kept(&self) -> bool {
        match self {
            QueryError::NoPeers
            | QueryError::NoAnswer(_)
            | QueryError::Overloaded(_)
            | QueryError::QuorumMissed { .. } => true,
            // The first request is sent after the own store has answered.
            QueryError::TimedOut { report, .. } => report.requests > 0,
            _ => false,
        }
    }

    /// The requests that were sent before the query failed, and their ends; `None` if there were none.
    pub fn report(&self) -> Option<&Report> {
        match self {
            QueryError::NoAnswer(report)
            | QueryError::NotFound(report)
            | QueryError::QuorumMissed { report, .. }
            | QueryError::Overloaded(report)
            | QueryError::TimedOut { report, .. } => Some(report),
            _ => None,
        }
    }
}

/// The requests of a query, and their ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Report {
    /// The number of requests that were sent in all.
    pub requests: usize,
    /// The number of requests that were answered.
    pub answers: usize,
    /// The peers that acknowledged that they keep the record of a publication, nearest to the key first. There may be
    /// more than k: if a peer is late another one is asked in its place, and the late one may still keep the record. For
    /// a provide, these answered a request that this node sent behind the announcement, or ended the stream in good
    /// order.
    pub acknowledged: Vec<PeerId>,
    /// The peers to which the record of a provide was sent, and that neither took nor refused it in time.
    pub sent: Vec<PeerId>,
    /// The peers that failed, in the order in which they did, with the reason of each; at most
    /// [`LimitConfig::frontier`](super::config::LimitConfig::frontier) of them. Includes peers to which no
    /// request was sent, since they failed a moment ago
    /// ([`Unreachable::BackingOff`](super::message::Unreachable::BackingOff) or [`RequestError::HeldBack`]), or since
    /// too much of the hearsay from which they are known was wrong
    /// ([`Unreachable::HostBackingOff`](super::message::Unreachable::HostBackingOff)).
    pub failed: Vec<PeerFailure>,
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let plural = |count: usize| if count == 1 { "" } else { "s" };
        write!(f, "{} request{}", self.requests, plural(self.requests))?;
        let Some(first) = self.failed.first() else { return Ok(()) };
        write!(f, "; {first}")?;
        match self.failed.len() - 1 {
            0 => Ok(()),
            more => write!(f, "; {more} more failure{}", plural(more)),
        }
    }
}

/// A peer that failed a query, and the reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
#[error("{peer}: {why}")]
pub struct PeerFailure {
    /// The peer.
    pub peer: PeerId,
    /// The reason.
    pub why: RequestError,
}

impl PeerFailure {
    /// The failure of this peer for this reason.
    pub fn new(peer: PeerId, why: RequestError) -> PeerFailure {
        PeerFailure { peer, why }
    }
}

/// A configuration that cannot work. Names the field, which the caller has to change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The field must not be zero.
    #[error("{0} must not be zero")]
    Zero(&'static str),
    /// The first field must not be greater than the second.
    #[error("{0} must not be greater than {1}")]
    Greater(&'static str, &'static str),
    /// The time must not be longer than this.
    #[error("{0} must not be longer than {1:?}")]
    TooLong(&'static str, Duration),
    /// A node of the public network must check every value that it takes, and this field lets it take others.
    #[error(
        "{0} takes unknown values, which the public network forbids: for a network of your own with its protocol name, \
         allow it by Config::with_unchecked_values"
    )]
    Unchecked(&'static str),
    /// The list must not be empty.
    #[error("{0} must not be empty")]
    Empty(&'static str),
    /// Two nodes in one swarm must have no entry of this list in common.
    #[error("the two nodes must have no entry of {0} in common")]
    Shared(&'static str),
}
