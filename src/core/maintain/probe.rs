//! Candidates for the routing table, and their trial.
//!
//! A trial starts when a candidate has been offered and fewer than the configured number are under way. It is a
//! FIND_NODE for the candidate's own id, and ends with its answer, which admits it, or with its failure, which forgets
//! it until it is offered again. Bounded: an offer beyond the limit is dropped.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use libp2p_identity::PeerId;

use crate::core::contact::Contact;

#[derive(Debug)]
pub(crate) struct Probes {
    queue: VecDeque<Arc<Contact>>,
    /// Those in the queue and those on trial.
    known: BTreeSet<PeerId>,
    running: usize,
    at_once: usize,
    limit: usize,
}

impl Probes {
    pub(crate) fn new(at_once: usize, limit: usize) -> Probes {
        Probes { queue: VecDeque::new(), known: BTreeSet::new(), running: 0, at_once, limit }
    }

    /// Offers a candidate.
    pub(crate) fn offer(&mut self, contact: Arc<Contact>) {
        if self.queue.len() < self.limit && self.known.insert(*contact.peer()) {
            self.queue.push_back(contact);
        }
    }

    /// The next candidate whose trial may start; it is on trial from now on.
    pub(crate) fn start_next(&mut self) -> Option<Arc<Contact>> {
        if self.running >= self.at_once {
            return None;
        }
        let next = self.queue.pop_front()?;
        self.running += 1;
        Some(next)
    }

    /// A trial is over, however it went.
    pub(crate) fn finished(&mut self, peer: &PeerId) {
        if self.known.remove(peer) {
            self.running -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_at_once_each_once_and_the_queue_is_bounded() {
        let mut probes = Probes::new(2, 5);
        let contacts: Vec<_> = (0..50).map(|_| Contact::new(PeerId::random(), [])).collect();
        for contact in contacts.iter().chain(&contacts) {
            probes.offer(Arc::clone(contact));
        }
        assert_eq!(probes.queue.len(), 5);
        let first = probes.start_next().unwrap();
        assert!(probes.start_next().is_some());
        assert!(probes.start_next().is_none());
        probes.offer(Arc::clone(&first));
        assert_eq!(probes.queue.len(), 3, "on trial already");
        probes.finished(first.peer());
        probes.finished(first.peer());
        assert!(probes.start_next().is_some());
        assert!(probes.start_next().is_none());
        probes.offer(first);
        assert_eq!(probes.queue.len(), 3);
    }
}
