//! Counters of a network, and the invariants that they obey.
//!
//! Knows: numbers. Must not know: senders and messages.

/// Counters of everything that happened in a network so far.
///
/// A message is a request or an answer on the wire. The sizes are estimates of the encoded message, with peer ids of 38
/// bytes, the addresses of contacts, and 18 bytes of frame and fields, without the overhead of transports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Traffic {
    /// Events handled.
    pub events: u64,
    /// Messages put on the wire.
    pub sent: u64,
    /// Messages that reached their host.
    pub delivered: u64,
    /// Messages lost: by the link, a partition, or an absent host.
    pub lost: u64,
    /// Messages in flight.
    pub in_flight: u64,
    /// Bytes put on the wire.
    pub bytes: u64,
    /// Dials started.
    pub dials: u64,
    /// Dials that failed.
    pub dials_failed: u64,
    /// Requests that nodes sent.
    pub requests: u64,
    /// Requests that ended with an answer or an error.
    pub ended: u64,
    /// Requests that their node cancelled.
    pub cancelled: u64,
    /// Requests that ended with their node's session.
    pub abandoned: u64,
    /// Requests that are open.
    pub open: u64,
    /// Queries started.
    pub queries: u64,
    /// Queries finished.
    pub finished: u64,
    /// Queries that ended with their node's session.
    pub queries_abandoned: u64,
    /// Queries that are running.
    pub running: u64,
}

impl Traffic {
    /// The invariants that do not hold. The simulation is wrong if there is any.
    pub fn broken_invariants(&self) -> Vec<&'static str> {
        let mut broken = Vec::new();
        let mut check = |holds: bool, name| {
            if !holds {
                broken.push(name);
            }
        };
        check(self.sent == self.delivered + self.lost + self.in_flight, "sent = delivered + lost + in flight");
        check(
            self.requests == self.ended + self.cancelled + self.abandoned + self.open,
            "every request ends exactly once",
        );
        check(
            self.queries == self.finished + self.queries_abandoned + self.running,
            "every query finishes exactly once",
        );
        broken
    }
}
