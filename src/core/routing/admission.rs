//! The queue of those who want to be tried for the table: bounded, and fair between groups of addresses.
//!
//! Knows: who waits, and to which group each belongs. Must not know: how a trial goes.
//!
//! Groups take turns, whatever their number of candidates; within a group whoever came first is first. When the queue is
//! full the longest group's newest gives way to a candidate of a shorter one; a candidate of the longest itself is turned
//! away, and can come again. So one network that floods the queue delays itself and nobody else. Peers without a group,
//! such as those at loopback addresses, are a group together.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use libp2p_identity::PeerId;

use crate::core::contact::Contact;

/// Candidates by group.
#[derive(Debug)]
pub(crate) struct AdmissionQueue<G> {
    groups: BTreeMap<Option<G>, VecDeque<Arc<Contact>>>,
    limit: usize,
    /// The group whose turn was last.
    last: Option<Option<G>>,
}

impl<G: Copy + Ord> AdmissionQueue<G> {
    pub(crate) fn new(limit: usize) -> AdmissionQueue<G> {
        AdmissionQueue { groups: BTreeMap::new(), limit, last: None }
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.groups.values().map(VecDeque::len).sum()
    }

    /// Has a candidate wait, which does not wait yet. Returns who does not wait any more for it, be it that candidate.
    pub(crate) fn push(&mut self, contact: Arc<Contact>, group: Option<G>) -> Option<Arc<Contact>> {
        let mut gone = None;
        if self.len() >= self.limit {
            let own = self.groups.get(&group).map_or(0, VecDeque::len);
            let longest =
                self.groups.iter().max_by_key(|(_, queue)| queue.len()).map(|(group, queue)| (*group, queue.len()));
            match longest {
                Some((longest, len)) if len > own + 1 => {
                    gone = self.groups.get_mut(&longest).and_then(VecDeque::pop_back);
                }
                _ => return Some(contact),
            }
        }
        self.groups.entry(group).or_default().push_back(contact);
        gone
    }

    /// The next candidate, of the group after the one whose turn was last.
    pub(crate) fn pop_next(&mut self) -> Option<Arc<Contact>> {
        use std::ops::Bound::{Excluded, Unbounded};
        let after = self.last.map_or(Unbounded, Excluded);
        let next = self.groups.range((after, Unbounded)).next().or_else(|| self.groups.first_key_value());
        let group = *next?.0;
        self.last = Some(group);
        let queue = self.groups.get_mut(&group)?;
        let next = queue.pop_front();
        if queue.is_empty() {
            self.groups.remove(&group);
        }
        next
    }

    /// Whoever it is no longer is to be tried.
    pub(crate) fn forget(&mut self, peer: &PeerId) {
        self.groups.retain(|_, queue| {
            queue.retain(|contact| contact.peer() != peer);
            !queue.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contacts(count: usize) -> Vec<Arc<Contact>> {
        (0..count).map(|_| Contact::new(PeerId::random(), [])).collect()
    }

    #[test]
    fn groups_take_turns_whatever_their_number() {
        let mut candidates = AdmissionQueue::new(100);
        let (many, few) = (contacts(50), contacts(2));
        for contact in &many {
            assert_eq!(candidates.push(Arc::clone(contact), Some(7)), None);
        }
        candidates.push(Arc::clone(&few[0]), Some(3));
        candidates.push(Arc::clone(&few[1]), None);
        let order: Vec<_> = (0..4).filter_map(|_| candidates.pop_next()).collect();
        assert_eq!(order, [&few[1], &few[0], &many[0], &many[1]].map(Arc::clone));
        assert_eq!(candidates.len(), 48);
    }

    #[test]
    fn in_a_full_queue_the_longest_group_gives_way_and_never_the_others() {
        let mut candidates = AdmissionQueue::new(10);
        let flood = contacts(1_000);
        for contact in &flood {
            candidates.push(Arc::clone(contact), Some(1));
        }
        assert_eq!(candidates.len(), 10);
        let others = contacts(5);
        for (i, contact) in others.iter().enumerate() {
            assert_eq!(candidates.push(Arc::clone(contact), Some(2)).as_ref(), Some(&flood[9 - i]));
        }
        let refused = candidates.push(Arc::clone(&flood[500]), Some(1));
        assert_eq!(refused, Some(Arc::clone(&flood[500])), "as long as the other");
        candidates.forget(others[0].peer());
        candidates.forget(others[0].peer());
        assert_eq!(candidates.len(), 9);
        let left: Vec<_> = std::iter::from_fn(|| candidates.pop_next()).collect();
        assert_eq!(left.iter().filter(|contact| others.contains(contact)).count(), 4);
        assert_eq!(candidates.len(), 0);
    }
}
