//! How operations fail, as values that a program can match on, sorted by who must act.
//!
//! Knows: names for failures. Must not know: how any of them comes about. The ends of single requests are in
//! `message.rs`, those of stores in `store`, those of values in `validate`.

use std::num::NonZeroUsize;
use std::time::Duration;

use libp2p_identity::PeerId;

use super::message::RequestError;
use super::record::Record;
use super::store::StoreError;
use super::validate::InvalidValue;

/// Why a query did not reach what it was for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum QueryError {
    /// The network: no peer is known. What was to be published is kept locally.
    #[error("no peers known")]
    NoPeers,
    /// The network: of those who are known, nobody answered, or all are held back since they failed a moment ago.
    #[error("nobody answered: {0}")]
    NoAnswer(Box<Report>),
    /// The network: everyone who could be asked was, and nobody had it.
    #[error("not found: {0}")]
    NotFound(Box<Report>),
    /// The network: fewer peers than wanted took the record or held the value.
    #[error("{reached} of {wanted} wanted peers: {report}")]
    QuorumMissed {
        /// How many were wanted.
        wanted: NonZeroUsize,
        /// How many there were.
        reached: usize,
        /// The best value found, where a get missed its quorum.
        best: Option<Box<Record>>,
        /// The peers that hold that very value; none where it was a publication, whose report names those who took it.
        holders: Vec<PeerId>,
        /// Who was asked and how each ended.
        report: Box<Report>,
    },
    /// The network: the query's time was over before it was done.
    #[error("timed out after {after:?}: {report}")]
    TimedOut {
        /// The time that it had.
        after: Duration,
        /// The best value found until then, where it was a get.
        best: Option<Box<Record>>,
        /// Who was asked until then and how each ended.
        report: Box<Report>,
    },
    /// Us: the node had so much to do that it could ask nobody in the query's time.
    #[error("overloaded: {0}")]
    Overloaded(Box<Report>),
    /// Us: the store could not keep or read it.
    #[error("store: {0}")]
    Store(StoreError),
    /// Us: as many queries run as may; try again when one has ended.
    #[error("too many queries at once")]
    Busy,
    /// Us: the node that was to answer is gone.
    #[error("the node is gone")]
    Closed,
    /// The caller: it ended the query itself.
    #[error("cancelled")]
    Cancelled,
    /// The caller: the key is empty or longer than peers accept.
    #[error("the key has {len} bytes, and may have 1 to {max}")]
    InvalidKey {
        /// How many bytes it has.
        len: usize,
        /// How many it may have: [`MAX_KEY_LEN`](super::config::MAX_KEY_LEN), for content
        /// [`MAX_PROVIDER_KEY_LEN`](super::config::MAX_PROVIDER_KEY_LEN).
        max: usize,
    },
    /// The caller: closest peers were asked for beyond what a query looks for, ten times k.
    #[error("asks for {limit} peers, and may ask for {max}")]
    LimitTooHigh {
        /// How many were asked for.
        limit: usize,
        /// How many may be.
        max: usize,
    },
    /// The caller: the value is not valid for its key.
    #[error("invalid value: {0}")]
    InvalidValue(#[from] InvalidValue),
    /// The caller: a newer value than this one is kept under the key.
    #[error("a newer value is kept under this key")]
    OldValue,
    /// The caller: the value is to replace another one than the one that is kept, which its validator forbids (see
    /// [`Validator::succeeds`](super::validate::Validator::succeeds)). Read again, decide again.
    #[error("another value is kept than the one to replace")]
    Conflict,
    /// The caller: a provider must have an address, and this node knows none of its own.
    #[error("no own address to announce")]
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
    /// The error of a query without a single answer whose requests all failed by this node's doing; else the report is
    /// given back.
    pub(crate) fn overloaded(report: Box<Report>) -> Result<QueryError, Box<Report>> {
        let own = |failure: &PeerFailure| failure.why == RequestError::Busy;
        match report.answers == 0 && !report.failed.is_empty() && report.failed.iter().all(own) {
            true => Ok(QueryError::Overloaded(report)),
            false => Err(report),
        }
    }

    /// Whether a put or a provide that failed so has kept its record on this node, from where it is published again in
    /// time. `false` where the failure came before that, or where the node is gone and nobody knows.
    pub fn is_kept(&self) -> bool {
        match self {
            QueryError::NoPeers
            | QueryError::NoAnswer(_)
            | QueryError::Overloaded(_)
            | QueryError::QuorumMissed { .. } => true,
            // Nobody is asked before the own store has answered.
            QueryError::TimedOut { report, .. } => report.requests > 0,
            _ => false,
        }
    }

    /// Who was asked before the query failed, and how each of them ended; `None` where nobody was.
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

/// Who was asked on behalf of a query, and how each ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Report {
    /// How many requests were sent in all.
    pub requests: usize,
    /// How many of them were answered.
    pub answers: usize,
    /// The peers that acknowledged to keep what was published, nearest to the key first.
    pub acknowledged: Vec<PeerId>,
    /// The peers to which what was published was sent and that neither took nor refused it by the end.
    pub sent: Vec<PeerId>,
    /// The peers that failed, in the order in which they did, with the reason of each. Those too that would have been asked
    /// and were not, since they failed a moment ago: [`Unreachable::BackingOff`](super::message::Unreachable::BackingOff)
    /// or [`RequestError::HeldBack`], or since they are known by hearsay of which too much was wrong:
    /// [`Unreachable::HostBackingOff`](super::message::Unreachable::HostBackingOff). For them no request was sent.
    pub failed: Vec<PeerFailure>,
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} requests, {} answers, {} failures", self.requests, self.answers, self.failed.len())?;
        match self.failed.first() {
            Some(first) if self.failed.len() == 1 => write!(f, ": {first}"),
            Some(first) => write!(f, ", the first: {first}"),
            None => Ok(()),
        }
    }
}

/// A peer that failed a query, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
#[error("{peer}: {why}")]
pub struct PeerFailure {
    /// The peer.
    pub peer: PeerId,
    /// What happened.
    pub why: RequestError,
}

impl PeerFailure {
    /// `peer` failed for this reason.
    pub fn new(peer: PeerId, why: RequestError) -> PeerFailure {
        PeerFailure { peer, why }
    }
}

/// A configuration that cannot work. Names the field.
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
    /// The public network must not be served with this: it takes values that nobody can check.
    #[error("{0} takes unknown values, which the public network forbids")]
    Unchecked(&'static str),
    /// The list must not be empty.
    #[error("{0} must not be empty")]
    Empty(&'static str),
    /// Two nodes in one swarm must have nothing of this in common.
    #[error("{0} must have nothing in common")]
    Shared(&'static str),
}
