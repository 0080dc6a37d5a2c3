//! The remote peers that provide something, each kept once however many keys it provides.
//!
//! Knows: contacts, when their addresses are over and what these cost, and under which keys each peer is. Must not
//! know: what these keys are.

mod addrs;
mod known;

use std::collections::BTreeSet;
use std::sync::Arc;

use libp2p_identity::PeerId;
use smallvec::SmallVec;

use self::addrs::{affordable, cost_of, running_costs};
use self::known::Known;
pub(super) use self::known::id_bytes;
use super::config::MemoryStoreConfig;
use super::providers::KeySlot;
use crate::core::contact::Contact;
use crate::core::store::StoreError;
use crate::core::time::Timestamp;

/// Where a peer is in the table: four bytes in each record instead of a whole id.
pub(super) type Slot = u32;

/// A peer with more records than this is not among those whose place another one can draw, so that no operation has to
/// forget more than so many records. Of 131,072 records at most 2,016 such peers can be made.
pub(super) const MOST_DRAWN: usize = 64;

#[derive(Default)]
pub(super) struct Peers {
    slots: Vec<Option<Peer>>,
    free: Vec<Slot>,
    /// By the end of their ids, which whoever makes an id by hashing or from a key cannot choose at will.
    by_id: BTreeSet<(u64, Slot)>,
    /// One entry for each peer whose addresses cost something.
    addr_expiry: BTreeSet<(Timestamp, Slot)>,
    /// The same: what they cost, and the peer's lot.
    addr_sizes: BTreeSet<(u32, u32, Slot)>,
    /// One entry for each peer that keys are charged to: how many, and its lot.
    charged: BTreeSet<(u32, u32, Slot)>,
    /// The peers whose place can be drawn, by their lot.
    drawn: BTreeSet<(u32, Slot)>,
    /// What the addresses of all cost.
    addr_bytes: usize,
}

pub(super) struct Peer {
    known: Known,
    addrs_expire: Timestamp,
    /// How much of `Peers::addr_bytes` is this peer's.
    addr_bytes: u32,
    lot: u32,
    /// The keys under which it has a record: first those that are charged to it, then the others.
    keys: SmallVec<[KeySlot; 4]>,
    charged: u32,
}

/// Where in a peer's list of keys something else stands now than before.
pub(super) type Moved = [usize; 2];

impl Peers {
    pub(super) fn slot(&self, peer: &PeerId) -> Option<Slot> {
        let tag = tag(peer);
        let same_end = self.by_id.range((tag, 0)..=(tag, Slot::MAX)).map(|(_, slot)| *slot);
        same_end.into_iter().find(|slot| self.at(*slot).is_some_and(|found| found.known.is(peer)))
    }

    /// A place for a peer that has none. It has to be given a key, or to leave.
    pub(super) fn enter(&mut self, peer: &PeerId, lot: u32) -> Result<Slot, StoreError> {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                let slot = Slot::try_from(self.slots.len()).map_err(|_| StoreError::Full)?;
                self.slots.push(None);
                slot
            }
        };
        let keys = SmallVec::new();
        self.by_id.insert((tag(peer), slot));
        self.drawn.insert((lot, slot));
        let (known, addrs_expire) = (Known::new(peer, &[]), Timestamp::ZERO);
        self.slots[slot as usize] = Some(Peer { known, addrs_expire, addr_bytes: 0, lot, keys, charged: 0 });
        Ok(slot)
    }

    /// Takes over the addresses of a contact, if it has any, as far as the bounds allow.
    pub(super) fn take_addrs(
        &mut self,
        now: Timestamp,
        slot: Slot,
        contact: &Contact,
        addrs_expire: Timestamp,
        config: &MemoryStoreConfig,
    ) {
        let allowed = self.allow_addrs(now, slot, contact, config);
        self.change(slot, |peer| peer.take(contact, addrs_expire, allowed));
    }

    /// Adds a key at the end of a peer's list, and returns where that is.
    pub(super) fn attach(&mut self, slot: Slot, key: KeySlot) -> u32 {
        let mut end = 0;
        self.change(slot, |peer| {
            end = peer.keys.len() as u32;
            peer.keys.push(key);
        });
        end
    }

    /// Takes a key off a peer's list, and forgets the peer with its last one.
    pub(super) fn detach(&mut self, slot: Slot, at: u32) -> Moved {
        let moved = self.is_charged(slot, at).then(|| self.discharge(slot, at));
        // What was charged stands at the end of those now.
        let at = moved.map_or(at as usize, |[_, boundary]| boundary);
        self.change(slot, |peer| {
            peer.keys.swap_remove(at);
        });
        if let Some(peer) = self.at(slot).filter(|peer| peer.keys.is_empty()) {
            let tag = peer.known.tag();
            self.leave(slot, tag);
        }
        [moved.map_or(at, |[first, _]| first), at]
    }

    /// Charges this key to the peer.
    pub(super) fn charge(&mut self, slot: Slot, at: u32) -> Moved {
        let mut boundary = 0;
        self.change(slot, |peer| {
            boundary = peer.charged as usize;
            peer.keys.swap(at as usize, boundary);
            peer.charged += 1;
        });
        [at as usize, boundary]
    }

    /// Charges this key to the peer no longer.
    pub(super) fn discharge(&mut self, slot: Slot, at: u32) -> Moved {
        let mut boundary = 0;
        self.change(slot, |peer| {
            peer.charged -= 1;
            boundary = peer.charged as usize;
            peer.keys.swap(at as usize, boundary);
        });
        [at as usize, boundary]
    }

    pub(super) fn is_charged(&self, slot: Slot, at: u32) -> bool {
        at < self.charged(slot)
    }

    /// How many keys are charged to the peer.
    pub(super) fn charged(&self, slot: Slot) -> u32 {
        self.at(slot).map_or(0, |peer| peer.charged)
    }

    /// What is at this place of a peer's list.
    pub(super) fn key_at(&self, slot: Slot, at: usize) -> Option<KeySlot> {
        self.at(slot)?.keys.get(at).copied()
    }

    /// How many records the peer has.
    pub(super) fn records(&self, slot: Slot) -> usize {
        self.at(slot).map_or(0, |peer| peer.keys.len())
    }

    /// The peer with the most keys to its charge, the worst lot among several.
    pub(super) fn most_charged(&self) -> Option<(u32, u32, Slot)> {
        self.charged.last().copied()
    }

    /// The peer with the worst lot of those whose place can be drawn.
    pub(super) fn last_drawn(&self) -> Option<(u32, Slot)> {
        self.drawn.last().copied()
    }

    /// The contact of a peer and when its addresses are over; without those that are over at `now`.
    pub(super) fn current(&mut self, slot: Slot, now: Timestamp) -> Option<(Arc<Contact>, Timestamp)> {
        if self.at(slot).is_some_and(|peer| peer.addrs_expire <= now && peer.known.has_addrs()) {
            self.change(slot, Peer::drop_addrs);
        }
        let peer = self.slots.get_mut(slot as usize)?.as_mut()?;
        Some((peer.known.share()?, peer.addrs_expire))
    }

    /// The contact of a peer as it is kept, and when its addresses are over.
    pub(super) fn kept(&self, slot: Slot) -> Option<(Arc<Contact>, Timestamp)> {
        let peer = self.at(slot)?;
        Some((peer.known.contact()?, peer.addrs_expire))
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    #[cfg(test)]
    pub(super) fn addr_bytes(&self) -> usize {
        self.addr_bytes
    }

    /// Sees that nothing is left of anybody.
    #[cfg(test)]
    pub(super) fn assert_empty(&self) {
        assert!(self.slots.iter().all(Option::is_none) && self.free.len() == self.slots.len());
        assert!(
            self.by_id.is_empty() && self.addr_expiry.is_empty() && self.charged.is_empty() && self.drawn.is_empty()
        );
        assert!(self.addr_sizes.is_empty());
    }

    /// Sees that what is counted about addresses is so.
    #[cfg(test)]
    pub(super) fn assert_sound(&self, config: &MemoryStoreConfig) {
        let peers = self.slots.iter().enumerate().filter_map(|(slot, peer)| Some((slot as Slot, peer.as_ref()?)));
        let costs = peers.filter(|(_, peer)| peer.addr_bytes > 0);
        let sizes: BTreeSet<_> = costs.clone().map(|(slot, peer)| (peer.addr_bytes, peer.lot, slot)).collect();
        assert_eq!(self.addr_sizes, sizes);
        assert_eq!(self.addr_expiry, costs.map(|(slot, peer)| (peer.addrs_expire, slot)).collect());
        let cost = |(slot, _): &(Slot, &Peer)| {
            let contact = self.kept(*slot).map(|(contact, _)| contact);
            contact.map_or(0, |contact| affordable(contact.raw_addrs(), usize::MAX).1)
        };
        let peers = self.slots.iter().enumerate().filter_map(|(slot, peer)| Some((slot as Slot, peer.as_ref()?)));
        assert_eq!(self.addr_bytes, peers.map(|peer| cost(&peer)).sum::<usize>());
        assert!(self.addr_bytes <= config.max_addr_bytes);
    }

    fn at(&self, slot: Slot) -> Option<&Peer> {
        self.slots.get(slot as usize)?.as_ref()
    }

    fn leave(&mut self, slot: Slot, tag: u64) {
        self.change(slot, Peer::drop_addrs);
        let Some(peer) = self.slots.get_mut(slot as usize).and_then(Option::take) else { return };
        self.by_id.remove(&(tag, slot));
        self.drawn.remove(&(peer.lot, slot));
        self.free.push(slot);
    }

    /// How many bytes this peer's addresses may cost now. Where there is no room for all of them those that are over give
    /// way, then for each of them the last ones of the peer whose addresses cost the most, as long as it is not this one
    /// that would be the most expensive; among equals the better lot stays.
    fn allow_addrs(&mut self, now: Timestamp, slot: Slot, contact: &Contact, config: &MemoryStoreConfig) -> usize {
        let (_, wanted) = affordable(contact.raw_addrs(), config.max_addr_bytes_per_peer);
        while self.addr_room(slot, config) < wanted
            && let Some((at, over)) = self.addr_expiry.first()
            && *at <= now
        {
            self.change(*over, Peer::drop_addrs);
        }
        if self.addr_room(slot, config) >= wanted {
            return wanted;
        }
        let mut allowed = 0;
        for with_this in running_costs(contact.raw_addrs()).take_while(|cost| *cost <= wanted) {
            while self.addr_room(slot, config) < with_this && self.trim_another(slot, with_this) {}
            if self.addr_room(slot, config) < with_this {
                break;
            }
            allowed = with_this;
        }
        allowed
    }

    /// What all others leave to the addresses of this peer.
    fn addr_room(&self, slot: Slot, config: &MemoryStoreConfig) -> usize {
        let mine = self.at(slot).map_or(0, |peer| peer.addr_bytes as usize);
        config.max_addr_bytes.saturating_sub(self.addr_bytes - mine)
    }

    /// Drops the last address of the other peer whose addresses cost the most, if this one would cost less with `bytes`.
    fn trim_another(&mut self, slot: Slot, bytes: usize) -> bool {
        let mine = self.at(slot).map(|peer| (bytes as u32, peer.lot));
        match self.addr_sizes.iter().rev().find(|(.., other)| *other != slot).copied() {
            Some((cost, lot, other)) if Some((cost, lot)) > mine => self.change(other, Peer::drop_last_addr),
            _ => return false,
        }
        true
    }

    /// Changes a peer, and everything that is counted about it.
    fn change(&mut self, slot: Slot, change: impl FnOnce(&mut Peer)) {
        let Some(peer) = self.slots.get_mut(slot as usize).and_then(Option::as_mut) else { return };
        let (addrs, charged, drawn) = (peer.addrs_tally(), peer.charged, peer.keys.len() <= MOST_DRAWN);
        change(peer);
        let lot = peer.lot;
        let after = peer.addrs_tally();
        if addrs != after {
            self.addr_bytes = self.addr_bytes + after.0 as usize - addrs.0 as usize;
            if addrs.0 > 0 {
                self.addr_expiry.remove(&(addrs.1, slot));
            }
            if after.0 > 0 {
                self.addr_expiry.insert((after.1, slot));
            }
        }
        if addrs.0 != after.0 {
            if addrs.0 > 0 {
                self.addr_sizes.remove(&(addrs.0, lot, slot));
            }
            if after.0 > 0 {
                self.addr_sizes.insert((after.0, lot, slot));
            }
        }
        if charged != peer.charged {
            self.charged.remove(&(charged, lot, slot));
            if peer.charged > 0 {
                self.charged.insert((peer.charged, lot, slot));
            }
        }
        match (drawn, peer.keys.len() <= MOST_DRAWN) {
            (true, false) => drop(self.drawn.remove(&(lot, slot))),
            (false, true) => drop(self.drawn.insert((lot, slot))),
            _ => {}
        }
    }
}

impl Peer {
    fn addrs_tally(&self) -> (u32, Timestamp) {
        (self.addr_bytes, self.addrs_expire)
    }

    fn drop_addrs(&mut self) {
        self.known.drop_addrs();
        self.addr_bytes = 0;
    }

    fn drop_last_addr(&mut self) {
        let cost = self.known.drop_last_addr().map_or(self.addr_bytes as usize, cost_of);
        self.addr_bytes = self.addr_bytes.saturating_sub(cost as u32);
    }

    /// Takes over as many addresses as `allowed` bytes pay for, in their order. None at all change nothing, unless
    /// none are known.
    fn take(&mut self, contact: &Contact, addrs_expire: Timestamp, allowed: usize) {
        let (count, cost) = affordable(contact.raw_addrs(), allowed);
        if count == 0 {
            if !self.known.has_addrs() {
                self.addrs_expire = addrs_expire;
            }
            return;
        }
        self.known.set_addrs(contact.peer(), &contact.raw_addrs()[..count]);
        // At most 32 addresses of 512 bytes.
        self.addr_bytes = cost as u32;
        self.addrs_expire = addrs_expire;
    }
}

/// The last eight bytes of an id.
fn tag(peer: &PeerId) -> u64 {
    let digest = peer.as_ref().digest();
    // An id made up by hand can be shorter than that.
    if digest.len() >= 8 { known::tag(digest) } else { known::tag(&peer.to_bytes()) }
}
