//! The queue of peers to be tried for the table: bounded, and fair between groups of addresses.
//!
//! Knows: which peers wait, and the group of each. Must not know: how a trial goes.
//!
//! Groups take turns, whatever their number of candidates; within a group it is first come, first served. When the
//! queue is full, the newest candidate of the longest group is dropped for one of a shorter group; a candidate of the
//! longest group itself is turned away, and can come again. So a network that floods the queue delays only itself.
//! Peers without a group, such as those at loopback addresses, form one group.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;

use libp2p_identity::PeerId;

use crate::core::contact::Contact;

/// Candidates by group.
#[derive(Debug)]
pub(crate) struct AdmissionQueue<G> {
    groups: BTreeMap<Option<G>, VecDeque<Arc<Contact>>>,
    limit: usize,
    /// The group of the candidate returned last.
    last: Option<Option<G>>,
}

impl<G: Copy + Ord> AdmissionQueue<G> {
    pub(crate) fn new(limit: usize) -> AdmissionQueue<G> {
        AdmissionQueue { groups: BTreeMap::new(), limit, last: None }
    }

    /// Number of candidates.
    pub(crate) fn len(&self) -> usize {
        self.groups.values().map(VecDeque::len).sum()
    }

    /// Adds a candidate that is not in the queue yet. Returns the candidate dropped for it, which may be itself.
    pub(crate) fn push(&mut self, contact: Arc<Contact>, group: Option<G>) -> Option<Arc<Contact>> {
        let mut dropped = None;
        if self.len() >= self.limit {
            let own = self.groups.get(&group).map_or(0, VecDeque::len);
            match self.groups.values_mut().max_by_key(|queue| queue.len()) {
                Some(longest) if longest.len() > own + 1 => dropped = longest.pop_back(),
                _ => return Some(contact),
            }
        }
        self.groups.entry(group).or_default().push_back(contact);
        dropped
    }

    /// Removes and returns the next candidate, of the group after the one that was last.
    pub(crate) fn pop_next(&mut self) -> Option<Arc<Contact>> {
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

    /// Removes a peer.
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
