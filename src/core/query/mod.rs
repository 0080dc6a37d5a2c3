//! What the application asked.
mod quorum;
use super::io::QueryId;
use super::time::Timestamp;
pub use quorum::Quorum;

/// A query that runs, as shown to people.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct QuerySnapshot {
    /// Its id.
    pub id: QueryId,
    /// What it does, in one word.
    pub kind: &'static str,
    /// When it was started.
    pub started: Timestamp,
    /// When its time is over.
    pub deadline: Timestamp,
    /// How many requests it sent so far.
    pub requests: usize,
    /// How many were answered so far.
    pub answers: usize,
    /// How many peers it has not asked yet.
    pub unasked: usize,
}
