//! Counts of what happened on the network, and the laws that they obey.
//!
//! Knows: numbers. Must not know: who sent what.

/// What happened on the network so far.
///
/// A message is a request or an answer on the wire. Sizes are those of the encoded message, estimated: real peer ids
/// of 38 bytes, the contacts' addresses, 18 bytes of frame and fields; what transports add is not counted.
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
    /// Messages still on their way.
    pub in_flight: u64,
    /// Bytes put on the wire.
    pub bytes: u64,
    /// Dials.
    pub dials: u64,
    /// Dials that failed.
    pub dials_failed: u64,
    /// Requests that nodes wanted sent.
    pub requests: u64,
    /// Of those, how many ended with an answer or an error.
    pub ended: u64,
    /// Of those, how many their node gave up.
    pub cancelled: u64,
    /// Of those, how many ended with their node's session.
    pub abandoned: u64,
    /// Of those, how many are under way.
    pub open: u64,
    /// Queries started.
    pub queries: u64,
    /// Queries finished.
    pub finished: u64,
    /// Queries that ended with their node's session.
    pub queries_abandoned: u64,
    /// Queries that run.
    pub running: u64,
}

impl Traffic {
    /// The laws that do not hold: none, or the simulation is wrong.
    pub fn broken_laws(&self) -> Vec<&'static str> {
        let mut broken = Vec::new();
        let mut law = |holds: bool, name| {
            if !holds {
                broken.push(name);
            }
        };
        law(self.sent == self.delivered + self.lost + self.in_flight, "sent = delivered + lost + in flight");
        law(
            self.requests == self.ended + self.cancelled + self.abandoned + self.open,
            "every request ends exactly once",
        );
        law(self.queries == self.finished + self.queries_abandoned + self.running, "every query finishes exactly once");
        broken
    }
}
