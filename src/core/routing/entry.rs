//! One peer of the routing table and the evidence for and against it.
//!
//! Knows: when it answered and how often it failed. Must not know: why it was asked.

use std::sync::Arc;

use crate::core::contact::Contact;
use crate::core::rtt::RoundTrip;
use crate::core::time::Timestamp;

/// After so many failures in a row an entry is questionable: not handed out, and the first to give way.
pub(crate) const QUESTIONABLE_AFTER: u32 = 2;
/// After so many failures in a row an entry is forgotten. Source: the Kademlia paper, five failed requests.
pub(crate) const FORGOTTEN_AFTER: u32 = 5;

#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) contact: Arc<Contact>,
    /// When it entered the table.
    pub(crate) since: Timestamp,
    /// When it last answered.
    pub(crate) last_seen: Timestamp,
    /// Failures in a row since it last answered.
    pub(crate) failures: u32,
    /// How many answers the table had seen, of all peers, at the last of these failures.
    pub(crate) answers_at_failure: u64,
    /// Whether the last attempt to connect to it failed, since it last answered.
    pub(crate) unreachable: bool,
    /// How long its answers take.
    pub(crate) rtt: RoundTrip,
}

impl Entry {
    pub(crate) fn new(now: Timestamp, contact: Arc<Contact>) -> Entry {
        Entry {
            contact,
            since: now,
            last_seen: now,
            failures: 0,
            answers_at_failure: 0,
            unreachable: false,
            rtt: RoundTrip::default(),
        }
    }

    pub(crate) fn is_questionable(&self) -> bool {
        self.failures >= QUESTIONABLE_AFTER
    }
}
