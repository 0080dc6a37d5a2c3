//! The peers that provide something, each kept once however many keys it provides.
//!
//! Knows: contacts, when their addresses are over, and what these cost. Must not know: what is provided.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use libp2p_identity::PeerId;

use super::config::{ADDR_OVERHEAD, MemoryStoreConfig};
use crate::core::contact::Contact;
use crate::core::store::StoreError;
use crate::core::time::Timestamp;

/// Where a peer is in the table: four bytes in each record instead of a whole id.
pub(super) type Slot = u32;

#[derive(Default)]
pub(super) struct Peers {
    slots: Vec<Option<Peer>>,
    free: Vec<Slot>,
    by_id: BTreeMap<PeerId, Slot>,
    /// One entry for each peer whose addresses cost something.
    addr_expiry: BTreeSet<(Timestamp, Slot)>,
    /// Peers with remote records.
    remote: usize,
    /// What the addresses of remote peers cost.
    addr_bytes: usize,
}

pub(super) struct Peer {
    contact: Arc<Contact>,
    addrs_expire: Timestamp,
    /// How much of `Peers::addr_bytes` is this peer's.
    addr_bytes: usize,
    own_records: usize,
    remote_records: usize,
}

impl Peers {
    /// Counts one more record of this peer and takes over its addresses, if it has any.
    pub(super) fn join(
        &mut self,
        now: Timestamp,
        contact: &Arc<Contact>,
        addrs_expire: Timestamp,
        own: bool,
        config: &MemoryStoreConfig,
    ) -> Result<Slot, StoreError> {
        let slot = self.slot_for(contact, addrs_expire)?;
        if own {
            self.change(slot, |peer| {
                peer.own_records += 1;
                peer.take_own(contact, addrs_expire);
            });
            return Ok(slot);
        }
        let allowed = self.allow_addrs(now, slot, contact, config);
        self.change(slot, |peer| {
            peer.remote_records += 1;
            peer.take_remote(contact, addrs_expire, allowed);
        });
        Ok(slot)
    }

    /// Counts one record of this peer less, and forgets the peer with its last one.
    pub(super) fn leave(&mut self, slot: Slot, own: bool) {
        self.change(slot, |peer| {
            if own {
                peer.own_records -= 1;
            } else {
                peer.remote_records -= 1;
            }
            if peer.own_records + peer.remote_records == 0 {
                peer.addr_bytes = 0;
            }
        });
        let Some(place) = self.slots.get_mut(slot as usize) else { return };
        if let Some(peer) = place.take_if(|peer| peer.own_records + peer.remote_records == 0) {
            self.by_id.remove(peer.contact.peer());
            self.free.push(slot);
        }
    }

    pub(super) fn slot(&self, peer: &PeerId) -> Option<Slot> {
        self.by_id.get(peer).copied()
    }

    /// The contact of a peer and when its addresses are over; without those that are over at `now`.
    pub(super) fn current(&mut self, slot: Slot, now: Timestamp) -> Option<(Arc<Contact>, Timestamp)> {
        let (contact, addrs_expire) = self.kept(slot)?;
        if addrs_expire > now || !contact.has_addrs() {
            return Some((contact, addrs_expire));
        }
        self.change(slot, Peer::drop_addrs);
        self.kept(slot)
    }

    /// The contact of a peer as it is kept, and when its addresses are over.
    pub(super) fn kept(&self, slot: Slot) -> Option<(Arc<Contact>, Timestamp)> {
        let peer = self.slots.get(slot as usize)?.as_ref()?;
        Some((Arc::clone(&peer.contact), peer.addrs_expire))
    }

    /// Peers with remote records.
    pub(super) fn remote(&self) -> usize {
        self.remote
    }

    pub(super) fn remote_records(&self, slot: Slot) -> usize {
        self.slots.get(slot as usize).and_then(Option::as_ref).map_or(0, |peer| peer.remote_records)
    }

    #[cfg(test)]
    pub(super) fn addr_bytes(&self) -> usize {
        self.addr_bytes
    }

    /// How many bytes this peer's addresses may cost now. Addresses that are over give way first.
    fn allow_addrs(&mut self, now: Timestamp, slot: Slot, contact: &Contact, config: &MemoryStoreConfig) -> usize {
        let (_, wanted) = affordable(contact.raw_addrs(), config.max_addr_bytes_per_peer);
        loop {
            let mine = self.slots.get(slot as usize).and_then(Option::as_ref).map_or(0, |peer| peer.addr_bytes);
            let left = config.max_addr_bytes.saturating_sub(self.addr_bytes - mine);
            match self.addr_expiry.first() {
                Some((at, over)) if left < wanted && *at <= now => self.change(*over, Peer::drop_addrs),
                _ => return left.min(wanted),
            }
        }
    }

    /// Changes a peer, and everything that is counted about it.
    fn change(&mut self, slot: Slot, change: impl FnOnce(&mut Peer)) {
        let Some(peer) = self.slots.get_mut(slot as usize).and_then(Option::as_mut) else { return };
        let before = (peer.addr_bytes, peer.addrs_expire, peer.remote_records);
        change(peer);
        let after = (peer.addr_bytes, peer.addrs_expire, peer.remote_records);
        self.addr_bytes = self.addr_bytes + after.0 - before.0;
        if before.0 > 0 {
            self.addr_expiry.remove(&(before.1, slot));
        }
        if after.0 > 0 {
            self.addr_expiry.insert((after.1, slot));
        }
        self.remote = self.remote + usize::from(after.2 > 0) - usize::from(before.2 > 0);
    }

    fn slot_for(&mut self, contact: &Arc<Contact>, addrs_expire: Timestamp) -> Result<Slot, StoreError> {
        if let Some(slot) = self.slot(contact.peer()) {
            return Ok(slot);
        }
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                let slot = Slot::try_from(self.slots.len()).map_err(|_| StoreError::Full)?;
                self.slots.push(None);
                slot
            }
        };
        let contact = contact.with_addrs([]);
        self.by_id.insert(*contact.peer(), slot);
        let peer = Peer { contact, addrs_expire, addr_bytes: 0, own_records: 0, remote_records: 0 };
        self.slots[slot as usize] = Some(peer);
        Ok(slot)
    }
}

impl Peer {
    fn take_own(&mut self, contact: &Arc<Contact>, addrs_expire: Timestamp) {
        self.contact = Arc::clone(contact);
        self.addrs_expire = addrs_expire;
        self.addr_bytes = 0;
    }

    fn drop_addrs(&mut self) {
        self.contact = self.contact.with_addrs([]);
        self.addr_bytes = 0;
    }

    /// Takes over as many addresses as `allowed` bytes pay for, in their order. None at all change nothing.
    fn take_remote(&mut self, contact: &Contact, addrs_expire: Timestamp, allowed: usize) {
        let (count, cost) = affordable(contact.raw_addrs(), allowed);
        if count == 0 {
            return;
        }
        let addrs = &contact.raw_addrs()[..count];
        if self.contact.raw_addrs() != addrs {
            self.contact = contact.with_addrs(copied(addrs));
        }
        self.addr_bytes = cost;
        self.addrs_expire = addrs_expire;
    }
}

/// How many of the first `addrs` fit into `allowed` bytes, and how many bytes they cost.
fn affordable(addrs: &[Bytes], allowed: usize) -> (usize, usize) {
    let mut cost = 0;
    for (i, addr) in addrs.iter().enumerate() {
        let with_this = cost + 2 * addr.len() + ADDR_OVERHEAD;
        if with_this > allowed {
            return (i, cost);
        }
        cost = with_this;
    }
    (addrs.len(), cost)
}

/// The same bytes in one buffer of their own.
fn copied(addrs: &[Bytes]) -> impl Iterator<Item = Bytes> {
    let all = Bytes::from(addrs.concat());
    let mut start = 0;
    addrs.iter().map(move |addr| {
        let end = start + addr.len();
        let copy = all.slice(start..end);
        start = end;
        copy
    })
}
