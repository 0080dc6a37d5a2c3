//! The queue of peers to be tried for the table: bounded, and fair between groups of addresses and between hosts.
//!
//! Knows: which peers wait, and the group and host of each. Must not know: how a trial goes.
//!
//! Groups take turns, whatever their number of candidates, and within a group the hosts do; at a host it is first come,
//! first served. When the queue is full, the newest candidate of the busiest host of the longest group is dropped for
//! one of a shorter group, or of another host of this one; other candidates are turned away, and can come again. So a
//! network that floods the queue delays only itself, and in a private network, where groups do not count and all peers
//! are of one, a host does.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;

use libp2p_identity::PeerId;

use crate::core::contact::Contact;

/// Keys that take turns.
#[derive(Debug)]
struct RoundRobin<K, T> {
    waiting: BTreeMap<K, T>,
    /// The key whose turn was last.
    last: Option<K>,
}

impl<K, T> Default for RoundRobin<K, T> {
    fn default() -> RoundRobin<K, T> {
        RoundRobin { waiting: BTreeMap::new(), last: None }
    }
}

impl<K: Copy + Ord, T> RoundRobin<K, T> {
    /// All of them, the one after the last first.
    fn in_turn(&self) -> impl Iterator<Item = (&K, &T)> {
        let after = self.last.map_or(Unbounded, Excluded);
        let had_turn = |key: &K| self.last.is_some_and(|last| *key <= last);
        self.waiting.range((after, Unbounded)).chain(self.waiting.iter().take_while(move |(key, _)| had_turn(key)))
    }
}

type Hosts<H> = RoundRobin<Option<H>, VecDeque<Arc<Contact>>>;

/// Candidates by group and host.
#[derive(Debug)]
pub(crate) struct AdmissionQueue<G, H> {
    groups: RoundRobin<Option<G>, Hosts<H>>,
    limit: usize,
}

impl<G: Copy + Ord, H: Copy + Ord> AdmissionQueue<G, H> {
    pub(crate) fn new(limit: usize) -> AdmissionQueue<G, H> {
        AdmissionQueue { groups: RoundRobin::default(), limit }
    }

    /// Number of candidates.
    pub(crate) fn len(&self) -> usize {
        self.groups.waiting.values().map(Hosts::len).sum()
    }

    /// Adds a candidate that is not in the queue yet. Returns the candidate dropped for it, which may be itself.
    pub(crate) fn push(&mut self, contact: Arc<Contact>, group: Option<G>, host: Option<H>) -> Option<Arc<Contact>> {
        let mut dropped = None;
        if self.len() >= self.limit {
            let own = self.groups.waiting.get(&group);
            let (in_group, at_host) = own.map_or((0, 0), |own| (own.len(), own.at(host)));
            let longest = self.groups.waiting.iter_mut().max_by_key(|(_, hosts)| hosts.len());
            let gives_way = longest.and_then(|(longest, hosts)| {
                let shorter = hosts.len() > in_group + 1;
                let busiest = hosts.waiting.values_mut().max_by_key(|queue| queue.len())?;
                (shorter || *longest == group && busiest.len() > at_host + 1).then_some(busiest)
            });
            match gives_way {
                Some(queue) => dropped = queue.pop_back(),
                None => return Some(contact),
            }
            self.tidy();
        }
        self.groups.waiting.entry(group).or_default().waiting.entry(host).or_default().push_back(contact);
        dropped
    }

    /// Removes and returns the next candidate of those whose group and host are `open`, with both.
    pub(crate) fn pop_next(
        &mut self,
        open: impl Fn(Option<G>, Option<H>) -> bool,
    ) -> Option<(Arc<Contact>, Option<G>, Option<H>)> {
        let next = self.groups.in_turn().find_map(|(group, hosts)| {
            let host = hosts.in_turn().map(|(host, _)| *host).find(|host| open(*group, *host))?;
            Some((*group, host))
        });
        let (group, host) = next?;
        self.groups.last = Some(group);
        let hosts = self.groups.waiting.get_mut(&group)?;
        hosts.last = Some(host);
        let next = hosts.waiting.get_mut(&host)?.pop_front()?;
        self.tidy();
        Some((next, group, host))
    }

    /// Removes a peer.
    pub(crate) fn forget(&mut self, peer: &PeerId) {
        let queues = self.groups.waiting.values_mut().flat_map(|hosts| hosts.waiting.values_mut());
        queues.for_each(|queue| queue.retain(|contact| contact.peer() != peer));
        self.tidy();
    }

    /// Forgets groups and hosts without candidates.
    fn tidy(&mut self) {
        self.groups.waiting.retain(|_, hosts| {
            hosts.waiting.retain(|_, queue| !queue.is_empty());
            !hosts.waiting.is_empty()
        });
    }
}

impl<H: Copy + Ord> Hosts<H> {
    fn len(&self) -> usize {
        self.waiting.values().map(VecDeque::len).sum()
    }

    fn at(&self, host: Option<H>) -> usize {
        self.waiting.get(&host).map_or(0, VecDeque::len)
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
        let mut candidates = AdmissionQueue::<u8, u8>::new(100);
        let (many, few) = (contacts(50), contacts(2));
        for contact in &many {
            assert_eq!(candidates.push(Arc::clone(contact), Some(7), None), None);
        }
        candidates.push(Arc::clone(&few[0]), Some(3), None);
        candidates.push(Arc::clone(&few[1]), None, None);
        let order: Vec<_> = (0..4).filter_map(|_| candidates.pop_next(|_, _| true)).map(|(next, ..)| next).collect();
        assert_eq!(order, [&few[1], &few[0], &many[0], &many[1]].map(Arc::clone));
        assert_eq!(candidates.len(), 48);
    }

    #[test]
    fn in_a_full_queue_the_longest_group_gives_way_and_never_the_others() {
        let mut candidates = AdmissionQueue::<u8, u8>::new(10);
        let flood = contacts(1_000);
        for contact in &flood {
            candidates.push(Arc::clone(contact), Some(1), None);
        }
        assert_eq!(candidates.len(), 10);
        let others = contacts(5);
        for (i, contact) in others.iter().enumerate() {
            assert_eq!(candidates.push(Arc::clone(contact), Some(2), None).as_ref(), Some(&flood[9 - i]));
        }
        let refused = candidates.push(Arc::clone(&flood[500]), Some(1), None);
        assert_eq!(refused, Some(Arc::clone(&flood[500])), "as long as the other");
        candidates.forget(others[0].peer());
        candidates.forget(others[0].peer());
        assert_eq!(candidates.len(), 9);
        let left: Vec<_> = std::iter::from_fn(|| candidates.pop_next(|_, _| true)).map(|(next, ..)| next).collect();
        assert_eq!(left.iter().filter(|contact| others.contains(contact)).count(), 4);
        assert_eq!(candidates.len(), 0);
    }

    #[test]
    fn within_a_group_hosts_take_turns_and_the_busiest_gives_way() {
        let mut candidates = AdmissionQueue::<u8, u8>::new(10);
        let (flood, honest) = (contacts(140), contacts(2));
        for contact in &flood {
            candidates.push(Arc::clone(contact), None, Some(1));
        }
        assert_eq!(candidates.push(Arc::clone(&honest[0]), None, Some(2)).as_ref(), Some(&flood[9]));
        assert_eq!(candidates.push(Arc::clone(&honest[1]), None, Some(3)).as_ref(), Some(&flood[8]));
        let mut next =
            |open: &dyn Fn(Option<u8>) -> bool| candidates.pop_next(|_, host| open(host)).map(|(next, ..)| next);
        let order = [next(&|_| true), next(&|host| host != Some(2)), next(&|host| host != Some(1))];
        assert_eq!(order, [&flood[0], &honest[1], &honest[0]].map(|contact| Some(Arc::clone(contact))));
        assert_eq!(next(&|host| host != Some(1)), None);
        assert_eq!(candidates.len(), 7);
    }
}
