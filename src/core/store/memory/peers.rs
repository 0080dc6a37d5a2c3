//! The peers that provide something, each kept once however many keys it provides.
//!
//! Knows: contacts, when their addresses are over, and what these cost. Must not know: what is provided.

use std::collections::BTreeMap;
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
        contact: &Arc<Contact>,
        addrs_expire: Timestamp,
        own: bool,
        config: &MemoryStoreConfig,
    ) -> Result<Slot, StoreError> {
        let slot = self.slot_for(contact, addrs_expire)?;
        let left = config.max_addr_bytes.saturating_sub(self.addr_bytes);
        let Some(peer) = self.slots.get_mut(slot as usize).and_then(Option::as_mut) else {
            return Err(StoreError::Failed);
        };
        self.addr_bytes -= peer.addr_bytes;
        if own {
            peer.own_records += 1;
            peer.take_own(contact, addrs_expire);
        } else {
            peer.remote_records += 1;
            self.remote += usize::from(peer.remote_records == 1);
            peer.take_remote(contact, addrs_expire, config.max_addr_bytes_per_peer.min(left + peer.addr_bytes));
        }
        self.addr_bytes += peer.addr_bytes;
        Ok(slot)
    }

    /// Counts one record of this peer less, and forgets the peer with its last one.
    pub(super) fn leave(&mut self, slot: Slot, own: bool) {
        let Some(place) = self.slots.get_mut(slot as usize) else { return };
        let Some(peer) = place else { return };
        if own {
            peer.own_records -= 1;
        } else {
            peer.remote_records -= 1;
            self.remote -= usize::from(peer.remote_records == 0);
        }
        if peer.own_records + peer.remote_records == 0 {
            self.addr_bytes -= peer.addr_bytes;
            self.by_id.remove(peer.contact.peer());
            *place = None;
            self.free.push(slot);
        }
    }

    pub(super) fn slot(&self, peer: &PeerId) -> Option<Slot> {
        self.by_id.get(peer).copied()
    }

    /// The contact of a peer and when its addresses are over; without those that are over at `now`.
    pub(super) fn current(&mut self, slot: Slot, now: Timestamp) -> Option<(Arc<Contact>, Timestamp)> {
        let peer = self.slots.get_mut(slot as usize)?.as_mut()?;
        if peer.addrs_expire <= now && peer.contact.has_addrs() {
            self.addr_bytes -= peer.addr_bytes;
            peer.addr_bytes = 0;
            peer.contact = peer.contact.with_addrs([]);
        }
        Some((Arc::clone(&peer.contact), peer.addrs_expire))
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

    /// Takes over as many addresses as `allowed` bytes pay for, in their order. None at all change nothing, and so
    /// does a remote record about a peer of which this node has own ones.
    fn take_remote(&mut self, contact: &Contact, addrs_expire: Timestamp, allowed: usize) {
        let (count, cost) = affordable(contact.raw_addrs(), allowed);
        if count == 0 || self.own_records > 0 {
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
