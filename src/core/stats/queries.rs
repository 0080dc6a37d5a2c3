//! What queries are for and how they end, in one word each.
//!
//! Knows: names. Must not know: how any of them goes.

use std::fmt;

use crate::core::error::QueryError;

/// What a query is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum QueryKind {
    /// Finds the peers closest to a key.
    ClosestPeers,
    /// Finds a peer's addresses.
    FindPeer,
    /// Finds a value.
    Get,
    /// Publishes a value.
    Put,
    /// Announces that this node provides some content.
    Provide,
    /// Finds who provides some content.
    Providers,
    /// Joins.
    Bootstrap,
    /// Forgets a value kept here.
    Remove,
    /// Stops announcing some content.
    StopProviding,
    /// Lists what is kept here.
    Records,
    /// The node's own: looks into parts of the keyspace, so that its table stays full.
    Refresh,
    /// The node's own: publishes again what the application published.
    Announce,
    /// The node's own: stores values of others again for which nobody else did.
    Replicate,
    /// The node's own: brings a newcomer the records that it is close to.
    Bring,
    /// The node's own: after a read, brings its value to those of the closest that held none or an older one.
    Correct,
}

impl QueryKind {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            QueryKind::ClosestPeers => "closest_peers",
            QueryKind::FindPeer => "find_peer",
            QueryKind::Get => "get",
            QueryKind::Put => "put",
            QueryKind::Provide => "provide",
            QueryKind::Providers => "providers",
            QueryKind::Bootstrap => "bootstrap",
            QueryKind::Remove => "remove",
            QueryKind::StopProviding => "stop_providing",
            QueryKind::Records => "records",
            QueryKind::Refresh => "refresh",
            QueryKind::Announce => "announce",
            QueryKind::Replicate => "replicate",
            QueryKind::Bring => "bring",
            QueryKind::Correct => "correct",
        }
    }
}

impl fmt::Display for QueryKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How a query ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum QueryEnd {
    /// It reached what it was for.
    Succeeded,
    /// Everyone who could be asked was, and nobody had it.
    NotFound,
    /// Fewer peers than wanted took or held it.
    QuorumMissed,
    /// Nobody was known who could be asked.
    NoPeers,
    /// Of those who could be asked, nobody answered.
    NoAnswer,
    /// Its time was over.
    TimedOut,
    /// The caller ended it, or it gave way to another.
    Cancelled,
    /// What was asked for cannot be: a key or value that is not valid, a newer value, no own address.
    Refused,
    /// This node could not: its store failed, or it had too much to do.
    Failed,
}

impl QueryEnd {
    /// How a query with this result ended.
    pub fn of<T>(result: &Result<T, QueryError>) -> QueryEnd {
        match result {
            Ok(_) => QueryEnd::Succeeded,
            Err(QueryError::NotFound(_)) => QueryEnd::NotFound,
            Err(QueryError::QuorumMissed { .. }) => QueryEnd::QuorumMissed,
            Err(QueryError::NoPeers) => QueryEnd::NoPeers,
            Err(QueryError::NoAnswer(_)) => QueryEnd::NoAnswer,
            Err(QueryError::TimedOut { .. }) => QueryEnd::TimedOut,
            Err(QueryError::Cancelled) => QueryEnd::Cancelled,
            Err(QueryError::Store(_) | QueryError::Busy | QueryError::Overloaded(_) | QueryError::Closed) => {
                QueryEnd::Failed
            }
            Err(
                QueryError::InvalidKey { .. }
                | QueryError::LimitTooHigh { .. }
                | QueryError::InvalidValue(_)
                | QueryError::OldValue
                | QueryError::Conflict
                | QueryError::NoOwnAddress,
            ) => QueryEnd::Refused,
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            QueryEnd::Succeeded => "succeeded",
            QueryEnd::NotFound => "not_found",
            QueryEnd::QuorumMissed => "quorum_missed",
            QueryEnd::NoPeers => "no_peers",
            QueryEnd::NoAnswer => "no_answer",
            QueryEnd::TimedOut => "timed_out",
            QueryEnd::Cancelled => "cancelled",
            QueryEnd::Refused => "refused",
            QueryEnd::Failed => "failed",
        }
    }
}

impl fmt::Display for QueryEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_to_ask_is_told_apart_from_nobody_who_answers() {
        let end = |why: QueryError| QueryEnd::of::<()>(&Err(why)).name();
        assert_eq!(end(QueryError::NoPeers), "no_peers");
        assert_eq!(end(QueryError::NoAnswer(Box::default())), "no_answer");
    }
}
