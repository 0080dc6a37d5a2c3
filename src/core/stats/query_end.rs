//! The ways in which queries end, in one word each.
//!
//! Knows: names. Must not know: how any of them goes.

use std::fmt;

use crate::core::error::QueryError;

/// How a query ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum QueryEnd {
    /// It ended with the wanted result.
    Succeeded,
    /// No peer that could be asked had the record.
    NotFound,
    /// Fewer peers than its quorum took or held the record.
    QuorumMissed,
    /// This node knew no peer that it could ask.
    NoPeers,
    /// No peer answered.
    NoAnswer,
    /// It timed out.
    TimedOut,
    /// The application cancelled it or suspended the node, or it yielded to another query.
    Cancelled,
    /// The operation is impossible: an invalid key or value, a newer value, no own address.
    Refused,
    /// This node failed: its store, or it had too many requests in flight.
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
            Err(QueryError::Cancelled | QueryError::Suspended) => QueryEnd::Cancelled,
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
    fn no_peer_to_ask_and_no_peer_that_answers_are_two_ends() {
        let end = |why: QueryError| QueryEnd::of::<()>(&Err(why)).name();
        assert_eq!(end(QueryError::NoPeers), "no_peers");
        assert_eq!(end(QueryError::NoAnswer(Box::default())), "no_answer");
    }
}
