//! The peers that a lookup has heard of, ordered by distance to its target, each with its state.
//!
//! Knows: order, states, the bound. Must not know: when to ask whom.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::core::contact::Contact;
use crate::core::key::{Distance, Key};

/// Where a peer stands in a lookup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PeerState {
    /// Named by someone, not asked.
    Heard,
    /// Asked, the answer is awaited.
    Waiting,
    /// Asked, and later than most; it holds no slot, and the walk does not end without it.
    Late,
    /// Asked, and later than nearly all; the walk goes on as if it were dead, though its answer still counts.
    Overdue,
    /// Answered.
    Answered,
    /// Failed.
    Failed,
}

#[derive(Debug)]
pub(crate) struct LookupPeer {
    pub(crate) contact: Arc<Contact>,
    pub(crate) state: PeerState,
    /// How often it may still be tried at new addresses after it failed.
    pub(super) chances: u8,
    /// How many answers had named anyone when it was first heard of: it does not depend on a later one.
    pub(crate) since: usize,
    /// Which answers named it, one bit each; the first bit stands for the seeds.
    named_by: u64,
}

/// A failed peer is tried again at new addresses so many times in one lookup, so that liars cannot make it a target.
const CHANCES: u8 = 2;

/// An answer is doubted once so many more of those that it alone named have failed than have answered. Source: where 30 %
/// of all entries are dead, the first two fail in one of eleven honest answers, whose peers others name too.
const DOUBT: i32 = 2;

/// Peers by distance.
#[derive(Debug)]
pub(crate) struct Frontier {
    pub(super) target: Key,
    peers: BTreeMap<Distance, LookupPeer>,
    limit: usize,
    answers: usize,
    /// Who gave the first answers, one for each bit but the first.
    referrers: Vec<Key>,
    /// How many of those that an answer alone named failed, less those that answered.
    failing: BTreeMap<u32, i32>,
    /// Which answers are not believed any more, one bit each.
    doubted: u64,
}

impl Frontier {
    pub(crate) fn new(target: Key, limit: usize) -> Frontier {
        Frontier {
            target,
            peers: BTreeMap::new(),
            limit,
            answers: 0,
            referrers: Vec::new(),
            failing: BTreeMap::new(),
            doubted: 0,
        }
    }

    /// Notes that another answer names peers: whoever is heard of from now on depends on it.
    pub(crate) fn begin_answer(&mut self, from: &Key) {
        self.answers += 1;
        if self.answers < 64 {
            self.referrers.push(*from);
        }
    }

    /// Those who named a peer, the first first.
    pub(crate) fn referrers(&self, key: &Key) -> impl Iterator<Item = Key> {
        let of = self.get(key).map_or(0, |peer| peer.named_by >> 1);
        self.referrers.iter().enumerate().filter(move |(i, _)| of >> i & 1 == 1).map(|(_, referrer)| *referrer)
    }

    /// Adds a peer that was not known, or addresses to one that was not asked. Tells whether it is new.
    ///
    /// A failed peer that is named again with addresses it was not tried at gets another chance: otherwise whoever
    /// answers first with a wrong address could hide it.
    pub(crate) fn hear(&mut self, contact: &Arc<Contact>) -> bool {
        let distance = self.target.distance(contact.key());
        let answer = 1 << self.answers.min(63);
        if let Some(known) = self.peers.get_mut(&distance) {
            known.named_by |= answer;
            if !contact.adds_nothing_to(&known.contact) {
                // What was known comes first: whoever names a peer with many addresses must not push out the right ones.
                known.contact = contact.merged(&known.contact);
                if known.state == PeerState::Failed && known.chances > 0 {
                    known.chances -= 1;
                    known.state = PeerState::Heard;
                }
            }
            return false;
        }
        if self.peers.len() >= self.limit && !self.make_room(&distance) {
            return false;
        }
        let (contact, state, since) = (Arc::clone(contact), PeerState::Heard, self.answers);
        self.peers.insert(distance, LookupPeer { contact, state, chances: CHANCES, since, named_by: answer });
        true
    }

    /// A peer answered or failed, which speaks for or against an answer that alone named it.
    pub(crate) fn weigh(&mut self, key: &Key, answered: bool) {
        let Some(peer) = self.get(key).filter(|peer| peer.named_by.is_power_of_two() && peer.named_by > 1) else {
            return;
        };
        let answer = peer.named_by.trailing_zeros();
        let failing = self.failing.entry(answer).or_default();
        *failing += if answered { -1 } else { 1 };
        if *failing >= DOUBT {
            self.doubted |= 1 << answer;
        }
    }

    /// Those that someone named who is believed, nearest first.
    pub(crate) fn credible(&self) -> impl Iterator<Item = &LookupPeer> {
        self.iter().filter(|peer| peer.named_by & !self.doubted != 0)
    }

    /// Those of whom it is not known that they are dead or overdue, nearest first.
    pub(crate) fn in_play(&self) -> impl Iterator<Item = &LookupPeer> {
        self.credible().filter(|peer| !matches!(peer.state, PeerState::Failed | PeerState::Overdue))
    }

    /// Forgets the farthest peer that is no longer, or not yet, of use, if it is farther than `distance`.
    fn make_room(&mut self, distance: &Distance) -> bool {
        let idle = |peer: &LookupPeer| matches!(peer.state, PeerState::Heard | PeerState::Failed);
        let farthest = self.peers.iter().rev().find(|(_, peer)| idle(peer)).map(|(at, _)| *at);
        match farthest.filter(|at| at > distance) {
            Some(at) => self.peers.remove(&at).is_some(),
            None => false,
        }
    }

    pub(crate) fn get(&self, key: &Key) -> Option<&LookupPeer> {
        self.peers.get(&self.target.distance(key))
    }

    pub(crate) fn get_mut(&mut self, key: &Key) -> Option<&mut LookupPeer> {
        self.peers.get_mut(&self.target.distance(key))
    }

    /// Nearest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &LookupPeer> {
        self.peers.values()
    }

    pub(crate) fn nearest(&self) -> Option<&Distance> {
        self.peers.keys().next()
    }
}
