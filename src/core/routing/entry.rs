//! One peer of the routing table and the evidence for and against it.
//!
//! Knows: when it answered and how often it failed. Must not know: why it was asked.

use std::sync::Arc;
use std::time::Duration;

use crate::core::back_off::back_off;
use crate::core::contact::Contact;
use crate::core::rtt::RoundTrip;
use crate::core::time::Timestamp;

/// After so many failures in a row an entry is questionable: not handed out, and the first to give way.
pub(crate) const QUESTIONABLE_AFTER: u32 = 2;
/// After so many failures in a row an entry is forgotten. Source: with the waits between them a dead peer is dialled
/// three times in two minutes; the five of the Kademlia paper would leave it in the table for eight.
pub(crate) const FORGOTTEN_AFTER: u32 = 3;

/// 48 bytes: a process of many nodes has millions of them.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) contact: Arc<Contact>,
    /// When it entered the table.
    pub(crate) since: Timestamp,
    /// When it last answered, or asked.
    pub(crate) last_seen: Timestamp,
    /// [`Timestamp::MAX`] for never.
    useful: Timestamp,
    /// How long its answers take.
    pub(crate) rtt: RoundTrip,
    /// What speaks against it, since it last answered; few entries need the room.
    failing: Option<Box<Failing>>,
}

#[derive(Clone, Copy, Debug)]
struct Failing {
    /// In a row.
    failures: u32,
    /// How many answers the table had seen, of all peers, at the last of them.
    answers: u64,
    /// Not to be tried before this.
    retry_at: Timestamp,
    /// Whether an attempt to connect to it failed.
    unreachable: bool,
}

impl Entry {
    pub(crate) fn new(now: Timestamp, contact: Arc<Contact>) -> Entry {
        let rtt = RoundTrip::default();
        Entry { contact, since: now, last_seen: now, useful: Timestamp::MAX, rtt, failing: None }
    }

    /// It answered.
    pub(super) fn on_answer(&mut self, now: Timestamp, contact: &Contact) {
        self.contact = self.contact.merged(contact);
        self.last_seen = now;
        self.failing = None;
    }

    /// It showed that it is there, though not that it answers.
    pub(crate) fn on_sign_of_life(&mut self, now: Timestamp) {
        if self.failing.is_none() {
            self.last_seen = now;
        }
    }

    /// It failed a request. A failure counts if the time to try it again had come, and if `answers`, the number of answers
    /// of all peers, has grown since the one before: an outage is not its fault.
    pub(super) fn on_failure(&mut self, now: Timestamp, answers: u64, unreachable: bool) {
        let Some(failing) = &mut self.failing else {
            let retry_at = now + back_off(1);
            self.failing = Some(Box::new(Failing { failures: 1, answers, retry_at, unreachable }));
            return;
        };
        failing.unreachable |= unreachable;
        if now < failing.retry_at {
            return;
        }
        if failing.answers != answers {
            failing.failures += 1;
            failing.answers = answers;
        }
        failing.retry_at = now + back_off(failing.failures);
    }

    /// That it failed was not its fault: it may be asked again at once.
    pub(super) fn end_back_off(&mut self, now: Timestamp) {
        if let Some(failing) = &mut self.failing {
            failing.retry_at = failing.retry_at.min(now);
        }
    }

    /// Its answer helped: it named peers that were news to a lookup, or had what was looked for.
    pub(crate) fn on_useful(&mut self, now: Timestamp) {
        self.useful = now;
    }

    /// When its answer last helped.
    pub(crate) fn last_useful(&self) -> Option<Timestamp> {
        (self.useful != Timestamp::MAX).then_some(self.useful)
    }

    /// Failures in a row since it last answered.
    pub(crate) fn failures(&self) -> u32 {
        self.failing.as_ref().map_or(0, |failing| failing.failures)
    }

    /// Whether the last attempt to connect to it failed, since it last answered.
    pub(crate) fn is_unreachable(&self) -> bool {
        self.failing.as_ref().is_some_and(|failing| failing.unreachable)
    }

    pub(crate) fn is_questionable(&self) -> bool {
        self.failures() >= QUESTIONABLE_AFTER
    }

    /// When it is worth a question whether it is there: after so long without a sign of life, or, where it failed, once
    /// its back-off is over.
    pub(crate) fn check_at(&self, quiet: Duration) -> Timestamp {
        self.failing.as_ref().map_or(self.last_seen + quiet, |failing| failing.retry_at)
    }

    /// Whether it may be asked now: it did not fail, or its back-off is over.
    pub(crate) fn may_be_asked(&self, now: Timestamp) -> bool {
        self.failing.as_ref().is_none_or(|failing| failing.retry_at <= now)
    }
}

#[cfg(test)]
mod tests {
    use libp2p_identity::PeerId;

    use super::*;

    #[test]
    fn an_entry_is_small() {
        assert_eq!(std::mem::size_of::<Entry>(), 48);
    }

    #[test]
    fn failures_count_once_a_back_off_and_not_in_an_outage() {
        let mut entry = Entry::new(Timestamp::ZERO, Contact::new(PeerId::random(), []));
        let at = Timestamp::from_secs;
        entry.on_failure(at(100), 1, false);
        entry.on_failure(at(129), 2, false);
        assert_eq!((entry.failures(), entry.may_be_asked(at(129))), (1, false), "the same trouble");
        assert!(entry.may_be_asked(at(130)));
        entry.on_failure(at(130), 1, false);
        assert_eq!((entry.failures(), entry.may_be_asked(at(159))), (1, false), "nobody answered since");
        entry.on_failure(at(160), 2, true);
        assert_eq!((entry.failures(), entry.is_questionable()), (2, true));
        assert_eq!(entry.check_at(Duration::ZERO), at(220), "twice as long");
        entry.on_sign_of_life(at(200));
        assert_eq!((entry.failures(), entry.last_seen), (2, Timestamp::ZERO), "that it asks does not make it answer");
        let contact = Arc::clone(&entry.contact);
        entry.on_answer(at(300), &contact);
        assert_eq!((entry.failures(), entry.is_unreachable(), entry.last_seen), (0, false, at(300)));
        entry.on_sign_of_life(at(310));
        assert_eq!(entry.check_at(Duration::from_secs(5)), at(315));
    }
}
