//! The peers that a lookup knows, ordered by distance to its target, each with its state.
//!
//! Knows: the order, the states, the bounds. Must not know: which peer to ask, or when.
//!
//! A lookup keeps what answers name within a budget of bytes. Above it, the answer whose peers take most loses the
//! farthest of them that is not asked: a liar that names many peers with long addresses displaces only its own.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Lateness;
use crate::core::contact::{Contact, MAX_RUMOURED_ADDRS};
use crate::core::key::Key;

/// The state of a peer in a lookup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PeerState {
    /// Named by another peer, not asked.
    Unasked,
    /// Asked, the answer is awaited.
    Waiting,
    /// Asked, and later than most; it holds no slot, and the lookup does not end without it.
    Late,
    /// Asked, and later than nearly all; the lookup continues as if it were dead, though its answer still counts.
    Overdue,
    /// Answered.
    Answered,
    /// Failed.
    Failed,
}

impl PeerState {
    /// Whether the peer may still be one of the results: it is neither dead nor overdue.
    pub(super) fn is_in_play(self) -> bool {
        !matches!(self, PeerState::Failed | PeerState::Overdue)
    }
}

impl From<Lateness> for PeerState {
    fn from(how: Lateness) -> PeerState {
        match how {
            Lateness::Late => PeerState::Late,
            Lateness::Overdue => PeerState::Overdue,
        }
    }
}

/// Small, since a lookup knows a hundred of them and thousands of lookups may run.
#[derive(Clone, Debug)]
pub(crate) struct LookupPeer {
    /// The first bits of its distance to the target, which nearly always decide its place.
    head: u64,
    pub(crate) contact: Arc<Contact>,
    /// The answers that named it, one bit each; the first bit stands for the seeds.
    named_by: u64,
    /// Number of answers that had named peers when it was first named: it does not depend on later ones.
    pub(crate) since: u32,
    pub(crate) state: PeerState,
    /// Number of times that it may still be tried at new addresses after it failed.
    pub(super) chances: u8,
    /// Whether it counts for the bytes: not a seed, which is an entry of the table, unless answers added addresses.
    counts: bool,
}

impl LookupPeer {
    /// Number of bytes that this lookup takes to remember the peer.
    fn size(&self) -> usize {
        if self.counts { size_of::<LookupPeer>() + self.contact.size() } else { 0 }
    }

    /// Whether the lookup can forget the peer.
    fn is_idle(&self) -> bool {
        matches!(self.state, PeerState::Unasked | PeerState::Failed)
    }
}

/// Maximum number of times that one lookup tries a failed peer again at new addresses, so that liars cannot make it a
/// target.
const CHANCES: u8 = 2;

/// A lookup stops believing an answer once this many more of the peers that it alone named have failed than have
/// answered. Source: where 30 % of all entries are dead, the first two fail in one of eleven honest answers, whose
/// peers others name too.
const DOUBT: i32 = 2;

/// The peers that a lookup knows, by distance.
#[derive(Clone, Debug)]
pub(crate) struct Frontier {
    pub(super) target: Key,
    /// The nearest first.
    peers: Vec<LookupPeer>,
    limit: usize,
    /// Number of bytes that the peers take, and how many they may.
    bytes: usize,
    max_bytes: usize,
    answers: u32,
    /// The peers that gave the first answers, one for each bit but the first.
    referrers: Vec<Key>,
    /// For each answer, the number of peers that it alone named and that have failed, minus those that have answered.
    failing: BTreeMap<u32, i32>,
    /// The answers that are no longer believed, one bit each.
    doubted: u64,
}

impl Frontier {
    /// A frontier of at most `limit` peers and `max_bytes`, with room for `seeds`.
    pub(crate) fn new(target: Key, limit: usize, max_bytes: usize, seeds: usize) -> Frontier {
        Frontier {
            target,
            peers: Vec::with_capacity(seeds.min(limit)),
            limit,
            bytes: 0,
            max_bytes,
            answers: 0,
            referrers: Vec::new(),
            failing: BTreeMap::new(),
            doubted: 0,
        }
    }

    /// Another answer names peers: those that are new from now on depend on it.
    pub(crate) fn begin_answer(&mut self, from: &Key) {
        self.answers += 1;
        if self.answers < 64 {
            self.referrers.push(*from);
        }
    }

    /// The peers that named this one, the first first.
    pub(crate) fn referrers(&self, key: &Key) -> impl Iterator<Item = Key> {
        let of = self.get(key).map_or(0, |peer| peer.named_by >> 1);
        self.referrers.iter().enumerate().filter(move |(i, _)| of >> i & 1 == 1).map(|(_, referrer)| *referrer)
    }

    /// Adds a peer, or further addresses to a known one. Returns whether the peer is new.
    ///
    /// A failed peer that is named again with addresses at which it was not tried gets another chance: otherwise the
    /// first peer to answer with a wrong address could hide it.
    pub(crate) fn add(&mut self, contact: &Arc<Contact>) -> bool {
        // From the 64th answer on, all answers share the last bit.
        let answer = 1 << self.answers.min(63);
        let place = match self.place(contact.key()) {
            Ok(place) => {
                let known = &mut self.peers[place];
                known.named_by |= answer;
                if !contact.adds_nothing_to(&known.contact) {
                    if known.state == PeerState::Failed && known.chances > 0 {
                        known.chances -= 1;
                        known.state = PeerState::Unasked;
                    }
                    let count = |contact: &Contact| contact.raw_addrs().count();
                    let most = count(&known.contact).max(count(contact)).max(MAX_RUMOURED_ADDRS);
                    // In turn: neither may wrong addresses keep out the right ones, nor push them out.
                    let all = known.contact.interleaved(contact, most);
                    self.readdress(place, all);
                }
                return false;
            }
            Err(place) => place,
        };
        if self.peers.len() >= self.limit && !self.make_room(place) {
            return false;
        }
        let (head, since) = (self.target.head() ^ contact.key().head(), self.answers);
        let (contact, state) = (Arc::clone(contact), PeerState::Unasked);
        let counts = since > 0;
        let peer = LookupPeer { head, contact, named_by: answer, since, state, chances: CHANCES, counts };
        self.bytes += peer.size();
        self.peers.insert(place, peer);
        true
    }

    /// Forgets peers until the rest takes no more bytes than it may: always the farthest idle one that was first named
    /// by the answer whose peers take most.
    pub(crate) fn keep_within_bytes(&mut self) {
        while self.bytes > self.max_bytes {
            let mut answers: BTreeMap<u32, (usize, Option<usize>)> = BTreeMap::new();
            for (place, peer) in self.peers.iter().enumerate().filter(|(_, peer)| peer.counts) {
                let (bytes, farthest) = answers.entry(peer.since).or_default();
                *bytes += peer.size();
                *farthest = if peer.is_idle() { Some(place) } else { *farthest };
            }
            let heaviest = answers.into_values().filter_map(|(bytes, farthest)| Some((bytes, farthest?))).max();
            let Some((_, farthest)) = heaviest else { break };
            self.forget(farthest);
        }
    }

    /// Gives a peer one chance more, at other addresses than those known. Returns whether the peer is known.
    pub(crate) fn pardon(&mut self, key: &Key) -> bool {
        let Ok(place) = self.place(key) else { return false };
        self.peers[place].chances += 1;
        let nowhere = self.peers[place].contact.with_addrs([]);
        self.readdress(place, nowhere);
        true
    }

    fn readdress(&mut self, place: usize, contact: Arc<Contact>) {
        let peer = &mut self.peers[place];
        self.bytes -= peer.size();
        (peer.contact, peer.counts) = (contact, true);
        self.bytes += peer.size();
    }

    fn forget(&mut self, place: usize) {
        let peer = self.peers.remove(place);
        self.bytes -= peer.size();
    }

    /// A peer answered or failed. If only one answer named it, this counts for or against that answer.
    pub(crate) fn weigh(&mut self, key: &Key, answered: bool) {
        let Some(peer) = self.get(key) else { return };
        // Seeds come from this node's own table, and are never doubted.
        if !peer.named_by.is_power_of_two() || peer.named_by == 1 {
            return;
        }
        let answer = peer.named_by.trailing_zeros();
        let failing = self.failing.entry(answer).or_default();
        *failing += if answered { -1 } else { 1 };
        if *failing >= DOUBT {
            self.doubted |= 1 << answer;
        }
    }

    /// The peers that at least one believed answer named, nearest first.
    pub(crate) fn credible(&self) -> impl Iterator<Item = &LookupPeer> {
        self.iter().filter(|peer| peer.named_by & !self.doubted != 0)
    }

    /// The credible peers that are neither dead nor overdue, nearest first.
    pub(crate) fn in_play(&self) -> impl Iterator<Item = &LookupPeer> {
        self.credible().filter(|peer| peer.state.is_in_play())
    }

    /// The peers in this state, nearest first.
    pub(crate) fn in_state(&self, state: PeerState) -> impl Iterator<Item = &Arc<Contact>> {
        self.iter().filter(move |peer| peer.state == state).map(|peer| &peer.contact)
    }

    /// Forgets the farthest peer that was not asked or has failed, if its place is behind the first `before`.
    fn make_room(&mut self, before: usize) -> bool {
        let farthest = self.peers.iter().rposition(LookupPeer::is_idle).filter(|at| *at >= before);
        farthest.map(|at| self.forget(at)).is_some()
    }

    /// The place of a peer in the order, or the place that it would have.
    fn place(&self, key: &Key) -> Result<usize, usize> {
        let head = self.target.head() ^ key.head();
        self.peers.binary_search_by(|peer| {
            let tie = || self.target.distance(peer.contact.key()).cmp(&self.target.distance(key));
            peer.head.cmp(&head).then_with(tie)
        })
    }

    pub(crate) fn get(&self, key: &Key) -> Option<&LookupPeer> {
        self.peers.get(self.place(key).ok()?)
    }

    pub(crate) fn get_mut(&mut self, key: &Key) -> Option<&mut LookupPeer> {
        let place = self.place(key).ok()?;
        self.peers.get_mut(place)
    }

    /// All peers, nearest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &LookupPeer> {
        self.peers.iter()
    }

    /// The place of the nearest peer in the keyspace.
    pub(crate) fn nearest(&self) -> Option<&Key> {
        self.peers.first().map(|peer| peer.contact.key())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_takes_four_words() {
        assert_eq!(size_of::<LookupPeer>(), 32);
    }
}
