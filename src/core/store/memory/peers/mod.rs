//! Remote providers, each kept once however many keys it provides.
//!
//! Knows: contacts, and what their addresses cost. Must not know: which keys these peers provide.

#[cfg(test)]
mod tests;

use std::iter;
use std::sync::Arc;

use libp2p_identity::PeerId;

use super::config::ADDR_OVERHEAD;
use super::table::{Row, Slot, Table};
use crate::core::contact::Contact;
use crate::core::store::StoreError;
use crate::core::store::eviction::Account;
use crate::core::time::Timestamp;

pub(super) struct ProviderPeers(Table<ProviderPeer>);

pub(super) struct ProviderPeer {
    contact: Arc<Contact>,
    addrs_expire: Timestamp,
    hash: u64,
    /// The account that pays for its records.
    pub(super) account: Account,
    /// The cost of its addresses, and the bytes that its records pay for them: never less.
    cost: u32,
    paid: u32,
    records: u32,
}

impl ProviderPeers {
    pub(super) fn new() -> ProviderPeers {
        ProviderPeers(Table::new())
    }

    pub(super) fn find(&self, hash: u64, id: &PeerId) -> Option<Slot> {
        self.0.find(hash, id)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn get(&self, slot: Slot) -> Option<&ProviderPeer> {
        self.0.get(slot)
    }

    /// Adds a peer. The caller adds a record of it next.
    pub(super) fn enter(&mut self, hash: u64, contact: &Contact, account: Account) -> Result<Slot, StoreError> {
        let (contact, addrs_expire) = (contact.with_addrs([]), Timestamp::ZERO);
        self.0.insert(ProviderPeer { contact, addrs_expire, hash, account, cost: 0, paid: 0, records: 0 })
    }

    /// Counts a record that pays for this many bytes of addresses.
    pub(super) fn add_record(&mut self, slot: Slot, pays: u32) {
        self.0.change(slot, |peer| (peer.records, peer.paid) = (peer.records + 1, peer.paid.saturating_add(pays)));
    }

    /// Counts one record less. Removes the addresses if the remaining records do not pay for them, and the peer with
    /// its last record.
    pub(super) fn drop_record(&mut self, slot: Slot, paid: u32) {
        let left = self.0.change(slot, |peer| {
            (peer.records, peer.paid) = (peer.records - 1, peer.paid.saturating_sub(paid));
            if peer.paid < peer.cost {
                peer.set_addrs(iter::empty(), 0);
            }
            peer.records
        });
        if left == Some(0) {
            self.0.remove(slot);
        }
    }

    /// Replaces the addresses by these, which cost this much and are paid for. An empty list changes nothing, unless no
    /// address is known.
    pub(super) fn take_addrs<'a>(
        &mut self,
        slot: Slot,
        addrs: impl Iterator<Item = &'a [u8]> + Clone,
        cost: u32,
        expire: Timestamp,
    ) {
        let any = addrs.clone().next().is_some();
        self.0.change(slot, |peer| {
            if any {
                peer.set_addrs(addrs, cost);
            }
            if any || peer.cost == 0 {
                peer.addrs_expire = expire;
            }
        });
    }

    /// Removes the addresses of a peer if they have expired at `now`.
    pub(super) fn drop_expired_addrs(&mut self, slot: Slot, now: Timestamp) {
        if let Some(peer) = self.0.get_mut(slot).filter(|peer| peer.addrs_expire <= now && peer.cost > 0) {
            peer.set_addrs(iter::empty(), 0);
        }
    }
}

impl ProviderPeer {
    /// The contact as it is kept, and when its addresses expire.
    pub(super) fn kept(&self) -> (Arc<Contact>, Timestamp) {
        (Arc::clone(&self.contact), self.addrs_expire)
    }

    fn set_addrs<'a>(&mut self, addrs: impl Iterator<Item = &'a [u8]> + Clone, cost: u32) {
        self.cost = cost;
        self.contact = self.contact.readdressed(addrs);
    }
}

impl Row for ProviderPeer {
    type Name = PeerId;

    fn hash(&self) -> u64 {
        self.hash
    }

    fn has_name(&self, id: &PeerId) -> bool {
        self.contact.peer() == id
    }

    fn head(&self) -> Option<u64> {
        None
    }

    fn expires(&self) -> Option<Timestamp> {
        None
    }
}

/// The number of the first `addrs` that fit into `allowed` bytes, and the bytes that they cost.
pub(super) fn affordable<'a>(addrs: impl Iterator<Item = &'a [u8]>, allowed: usize) -> (usize, u32) {
    let mut fit = (0, 0);
    for addr in addrs {
        let cost = fit.1 + 2 * addr.len() + ADDR_OVERHEAD;
        if cost > allowed {
            break;
        }
        fit = (fit.0 + 1, cost);
    }
    (fit.0, fit.1 as u32)
}
