//! Plain counters: the core counts, the binding publishes, tests and simulations assert.

/// What a node did since it started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Requests sent, by [`Kind`](super::message::Kind) as index.
    pub sent: [u64; 6],
    /// Of those, how many were answered.
    pub answered: [u64; 6],
    /// Of those, how many failed or ran out of time.
    pub failed: [u64; 6],
    /// Of those, how many were given up before they ended.
    pub cancelled: [u64; 6],
    /// Inbound requests, by kind.
    pub received: [u64; 6],
    /// Inbound requests that were reset.
    pub refused: u64,
    /// Queries started.
    pub queries_started: u64,
    /// Queries that succeeded.
    pub queries_succeeded: u64,
    /// Queries that failed, ran out of time or were cancelled.
    pub queries_failed: u64,
    /// Peers in the routing table now.
    pub table: usize,
    /// Peers that ever entered the routing table.
    pub admitted: u64,
    /// Peers that ever left it.
    pub evicted: u64,
}
