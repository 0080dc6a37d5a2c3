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
    /// Records brought to other peers, by the reason for it.
    pub stores: Stores,
    /// Peers in the routing table now.
    pub table: usize,
    /// Peers that ever entered the routing table.
    pub admitted: u64,
    /// Peers that ever left it.
    pub evicted: u64,
}

/// Values and provider records brought to other peers, each counted once for each peer that it was sent to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stores {
    /// By the application's put or provide.
    pub published: u64,
    /// By the publisher, again: the interval was over, or a peer was new among the closest.
    pub announced: u64,
    /// By a holder, in the period in which nobody else did.
    pub replicated: u64,
    /// By the nearest holder, to a newcomer that is closer to the key.
    pub joined: u64,
    /// After a read, to those of the closest that held an older value or none.
    pub corrected: u64,
    /// After a read, to the closest peer on the path that did not hold the value.
    pub cached: u64,
}

/// Why a record is brought to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    Published,
    Announced,
    Replicated,
    Joined,
}

impl Stores {
    /// One more.
    pub(crate) fn count(&mut self, cause: Cause) {
        let counter = match cause {
            Cause::Published => &mut self.published,
            Cause::Announced => &mut self.announced,
            Cause::Replicated => &mut self.replicated,
            Cause::Joined => &mut self.joined,
        };
        *counter += 1;
    }
}
