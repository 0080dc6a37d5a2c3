//! Questions that the table asks: candidates on trial, and entries that are checked.
//!
//! Knows: who waits to be asked, and how many may be asked at a time. Must not know: what an answer means.
//!
//! Each question is a FIND_NODE for the asked peer's own id. A trial ends with its answer, which admits the candidate, or
//! with its failure, which forgets it until it is offered again. Candidates wait in a bounded queue, entries that are to be
//! checked in another, bounded by the table; neither holds up the other.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use libp2p_identity::PeerId;

use crate::core::contact::Contact;
use crate::core::ip_group::IpGroup;
use crate::core::routing::AdmissionQueue;

/// Why a peer is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// It is a candidate for the table.
    Trial,
    /// It is in the table.
    Check,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Waits(Purpose),
    Asked(Purpose),
}

#[derive(Debug)]
pub(crate) struct Probes {
    candidates: AdmissionQueue<IpGroup>,
    checks: VecDeque<Arc<Contact>>,
    /// Everyone in these queues, and everyone asked.
    stages: BTreeMap<PeerId, Stage>,
    /// How many are asked for each purpose.
    running: [usize; 2],
    /// For each purpose.
    at_once: usize,
}

impl Probes {
    pub(crate) fn new(at_once: usize, limit: usize) -> Probes {
        Probes {
            candidates: AdmissionQueue::new(limit),
            checks: VecDeque::new(),
            stages: BTreeMap::new(),
            running: [0; 2],
            at_once,
        }
    }

    /// Offers a candidate for a trial, with the group that it takes its turn in.
    pub(crate) fn offer(&mut self, contact: Arc<Contact>, group: Option<IpGroup>) {
        if self.stages.contains_key(contact.peer()) {
            return;
        }
        self.stages.insert(*contact.peer(), Stage::Waits(Purpose::Trial));
        if let Some(gone) = self.candidates.push(contact, group) {
            self.stages.remove(gone.peer());
        }
    }

    /// Has an entry of the table checked; it may still wait for a trial, if a lookup's answer made it an entry.
    pub(crate) fn check(&mut self, contact: Arc<Contact>) {
        self.forget(contact.peer());
        if !self.stages.contains_key(contact.peer()) {
            self.stages.insert(*contact.peer(), Stage::Waits(Purpose::Check));
            self.checks.push_back(contact);
        }
    }

    /// The next peer that may be asked; it counts as being asked from now on.
    pub(crate) fn start_next(&mut self) -> Option<(Arc<Contact>, Purpose)> {
        let [trial, check] = self.running.map(|running| running < self.at_once);
        let next = if check { self.checks.pop_front() } else { None };
        let (next, purpose) = match next {
            Some(contact) => (contact, Purpose::Check),
            None if trial => (self.candidates.pop_next()?, Purpose::Trial),
            None => return None,
        };
        self.running[purpose as usize] += 1;
        self.stages.insert(*next.peer(), Stage::Asked(purpose));
        Some((next, purpose))
    }

    /// The question is over, however it went. Tells what it was for.
    pub(crate) fn finished(&mut self, peer: &PeerId) -> Option<Purpose> {
        let Some(Stage::Asked(purpose)) = self.stages.get(peer).copied() else { return None };
        self.stages.remove(peer);
        self.running[purpose as usize] -= 1;
        Some(purpose)
    }

    /// A peer is no longer a candidate. A trial that is under way goes on.
    pub(crate) fn forget(&mut self, peer: &PeerId) {
        if self.stages.get(peer) == Some(&Stage::Waits(Purpose::Trial)) {
            self.stages.remove(peer);
            self.candidates.forget(peer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contacts(count: usize) -> Vec<Arc<Contact>> {
        (0..count).map(|_| Contact::new(PeerId::random(), [])).collect()
    }

    #[test]
    fn few_at_once_each_once_and_the_queue_is_bounded() {
        let mut probes = Probes::new(2, 5);
        let contacts = contacts(50);
        for contact in contacts.iter().chain(&contacts) {
            probes.offer(Arc::clone(contact), None);
        }
        assert_eq!((probes.candidates.len(), probes.stages.len()), (5, 5));
        let (first, purpose) = probes.start_next().unwrap();
        assert_eq!(purpose, Purpose::Trial);
        assert!(probes.start_next().is_some());
        assert!(probes.start_next().is_none());
        probes.offer(Arc::clone(&first), None);
        assert_eq!(probes.candidates.len(), 3, "on trial already");
        assert_eq!(probes.finished(first.peer()), Some(Purpose::Trial));
        assert_eq!(probes.finished(first.peer()), None);
        assert!(probes.start_next().is_some());
        assert!(probes.start_next().is_none());
        probes.offer(first, None);
        assert_eq!(probes.candidates.len(), 3);
    }

    #[test]
    fn checks_and_trials_do_not_hold_up_each_other() {
        let mut probes = Probes::new(1, 5);
        let peers = contacts(4);
        peers[..2].iter().for_each(|peer| probes.offer(Arc::clone(peer), None));
        peers[2..].iter().for_each(|peer| probes.check(Arc::clone(peer)));
        probes.check(Arc::clone(&peers[2]));
        let started: Vec<_> = std::iter::from_fn(|| probes.start_next()).collect();
        assert_eq!(started, [(Arc::clone(&peers[2]), Purpose::Check), (Arc::clone(&peers[0]), Purpose::Trial)]);
        assert_eq!(probes.finished(peers[2].peer()), Some(Purpose::Check));
        assert_eq!(probes.start_next(), Some((Arc::clone(&peers[3]), Purpose::Check)));
        assert_eq!(probes.start_next(), None);
    }

    /// A lookup's answer made it an entry meanwhile, and its place is wanted by another.
    #[test]
    fn who_waits_for_a_trial_is_checked_when_that_is_asked_for() {
        let mut probes = Probes::new(1, 5);
        let peer = contacts(1).remove(0);
        probes.offer(Arc::clone(&peer), None);
        probes.check(Arc::clone(&peer));
        assert_eq!(probes.start_next(), Some((Arc::clone(&peer), Purpose::Check)));
        assert_eq!(probes.start_next(), None, "once");
    }

    #[test]
    fn who_is_no_longer_a_candidate_is_not_tried() {
        let mut probes = Probes::new(1, 5);
        let peers = contacts(3);
        peers.iter().for_each(|peer| probes.offer(Arc::clone(peer), None));
        assert!(probes.start_next().is_some());
        peers.iter().for_each(|peer| probes.forget(peer.peer()));
        assert_eq!(probes.finished(peers[0].peer()), Some(Purpose::Trial), "a trial goes on");
        assert!(probes.start_next().is_none());
        assert!(probes.stages.is_empty());
    }
}
