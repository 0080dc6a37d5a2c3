//! One peer of the routing table and the evidence for and against it.
//!
//! Knows: when it answered and how often it failed. Must not know: why it was asked.

use std::sync::Arc;

use crate::core::contact::Contact;
use crate::core::rtt::RoundTrip;
use crate::core::time::Timestamp;

/// Failures in a row after which an entry is questionable: not handed out, and the first to be replaced. One that could
/// not be dialled is not handed out even before that.
pub(crate) const QUESTIONABLE_AFTER: u8 = 2;
/// Failures in a row after which an entry is removed. Source: with the back-offs between them and the checks that
/// follow each, a dead peer is dialled three times within a minute; the five of the Kademlia paper cost two dials more.
pub(crate) const FORGOTTEN_AFTER: u8 = 3;

/// 48 bytes: a process that runs many nodes has millions of them.
#[derive(Clone, Debug)]
pub(crate) struct TableEntry {
    pub(crate) contact: Arc<Contact>,
    /// When it entered the table.
    pub(crate) since: Timestamp,
    /// When it last answered, or sent a request.
    pub(crate) last_seen: Timestamp,
    /// [`Timestamp::MAX`] for never, which takes less memory than an `Option`.
    pub(super) last_useful: Timestamp,
    /// The round-trip time of its answers.
    pub(crate) rtt: RoundTrip,
    /// Failures in a row since it last answered.
    failures: u8,
    /// Whether an attempt to connect to it failed since it last answered.
    unreachable: bool,
}

impl TableEntry {
    pub(crate) fn new(now: Timestamp, contact: Arc<Contact>) -> TableEntry {
        let (last_useful, rtt) = (Timestamp::MAX, RoundTrip::default());
        TableEntry { contact, since: now, last_seen: now, last_useful, rtt, failures: 0, unreachable: false }
    }

    /// It answered.
    pub(super) fn on_answer(&mut self, now: Timestamp, contact: &Contact) {
        self.contact = self.contact.merged(contact);
        self.last_seen = now;
        (self.failures, self.unreachable) = (0, false);
    }

    /// It connected or sent a request, which does not prove that it answers.
    pub(crate) fn on_sign_of_life(&mut self, now: Timestamp) {
        if self.failures == 0 {
            self.last_seen = now;
        }
    }

    /// It failed a request. The first failure always counts, a further one only if it `counts`.
    pub(super) fn on_failure(&mut self, counts: bool, unreachable: bool) {
        self.failures = self.failures.saturating_add(u8::from(counts)).max(1);
        self.unreachable |= unreachable;
    }

    /// It is unreachable, and another peer waits for its place.
    pub(super) fn make_questionable(&mut self) {
        self.failures = self.failures.max(QUESTIONABLE_AFTER);
    }

    /// Its answer named peers that were news to a lookup, or had what was looked for.
    pub(crate) fn on_useful(&mut self, now: Timestamp) {
        self.last_useful = now;
    }

    /// Failures in a row since it last answered.
    pub(crate) fn failures(&self) -> u8 {
        self.failures
    }

    /// Whether an attempt to connect to it failed since it last answered.
    pub(crate) fn is_unreachable(&self) -> bool {
        self.unreachable
    }

    pub(crate) fn is_questionable(&self) -> bool {
        self.failures >= QUESTIONABLE_AFTER
    }
}

#[cfg(test)]
mod tests {
    use libp2p_identity::PeerId;

    use super::*;

    #[test]
    #[cfg_attr(not(target_pointer_width = "64"), ignore = "its figures are those of 64 bits")]
    fn an_entry_is_small() {
        assert_eq!(std::mem::size_of::<TableEntry>(), 48);
    }

    #[test]
    fn an_answer_makes_up_for_failures_and_a_sign_of_life_does_not() {
        let mut entry = TableEntry::new(Timestamp::ZERO, Contact::new(PeerId::random(), []));
        let at = Timestamp::from_secs;
        entry.on_failure(false, false);
        assert_eq!((entry.failures(), entry.is_questionable()), (1, false), "the first is one, whatever counts");
        entry.on_failure(false, true);
        entry.on_failure(true, false);
        assert_eq!((entry.failures(), entry.is_questionable(), entry.is_unreachable()), (2, true, true));
        entry.on_sign_of_life(at(200));
        assert_eq!((entry.failures(), entry.last_seen), (2, Timestamp::ZERO), "that it asks does not make it answer");
        let contact = Arc::clone(&entry.contact);
        entry.on_answer(at(300), &contact);
        assert_eq!((entry.failures(), entry.is_unreachable(), entry.last_seen), (0, false, at(300)));
        entry.on_sign_of_life(at(310));
        assert_eq!(entry.last_seen, at(310));
    }
}
