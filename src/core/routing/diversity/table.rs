//! How the table applies the limits of diversity to peers and to their addresses.
//!
//! Knows: which bucket a peer is in, or would be. Must not know: the limits.

use std::sync::Arc;

use libp2p_identity::PeerId;
use multiaddr::Multiaddr;

use super::super::{Bucket, RoutingTable};
use crate::core::contact::Contact;
use crate::core::ip_group::IpGroup;
use crate::core::time::Timestamp;

impl RoutingTable {
    /// Whether the limits of diversity let a peer into the table, whether there is room or not. Before the last bucket
    /// splits, the limit of a bucket is that of all peers in it.
    pub(crate) fn admits(&self, now: Timestamp, contact: &Contact) -> bool {
        self.diversity.as_ref().is_none_or(|diversity| {
            let bucket = peers(&self.buckets[self.index(contact.key())]);
            diversity.admits(now, &diversity.groups(contact), bucket, contact.peer())
        })
    }

    /// A peer is connected, with the other end of the connection at this address, if that is known.
    pub(crate) fn on_connected(&mut self, peer: PeerId, at: Option<&Multiaddr>) {
        let Some(diversity) = &mut self.diversity else { return };
        let asns = diversity.config.asns.as_deref();
        if let Some(group) = at.and_then(|at| IpGroup::of_remote_addr(at.as_ref(), asns)) {
            diversity.seen.insert(peer, group);
        }
    }

    /// A peer is no longer connected.
    pub(crate) fn on_disconnected(&mut self, peer: &PeerId) {
        if let Some(diversity) = &mut self.diversity {
            diversity.seen.remove(peer);
        }
    }

    /// The group in which a connected peer was seen, if groups are limited.
    pub(crate) fn seen_group(&self, peer: &PeerId) -> Option<IpGroup> {
        self.diversity.as_ref()?.seen(peer)
    }

    /// Whether groups are limited.
    pub(crate) fn limits_groups(&self) -> bool {
        self.diversity.is_some()
    }

    /// The one group that stands for a peer: the one in which it was seen, or else its first.
    pub(crate) fn group(&self, contact: &Contact) -> Option<IpGroup> {
        match &self.diversity {
            Some(diversity) => diversity.seen(contact.peer()).or_else(|| diversity.groups(contact).first().copied()),
            None => IpGroup::of(contact, None).first().copied(),
        }
    }

    /// Gives an entry these addresses in this order, or as many of them as the limits allow.
    pub(crate) fn readdress(&mut self, now: Timestamp, contact: &Arc<Contact>) {
        let index = self.index(contact.key());
        let Some(entry) = self.buckets[index].get(contact.key()) else { return };
        if entry.contact == *contact {
            return;
        }
        let contact = match &mut self.diversity {
            Some(diversity) => diversity.extend(now, &entry.contact, contact, peers(&self.buckets[index])),
            None => Arc::clone(contact),
        };
        if let Some(entry) = self.buckets[index].get_mut(contact.key()) {
            entry.contact = contact;
        }
    }

    /// A peer that has answered, with those of its addresses that the limits allow; `None` if they refuse the peer
    /// itself.
    pub(in super::super) fn check_diversity(&mut self, now: Timestamp, contact: &Arc<Contact>) -> Option<Arc<Contact>> {
        let index = self.index(contact.key());
        let Some(diversity) = &mut self.diversity else { return Some(Arc::clone(contact)) };
        let bucket = &self.buckets[index];
        if let Some(entry) = bucket.get(contact.key()) {
            let known = &entry.contact;
            return Some(diversity.extend(now, known, &known.merged(contact), peers(bucket)));
        }
        let groups = diversity.groups(contact);
        // Even a refused peer makes its groups known: while the table settles, that makes them old.
        diversity.see(now, &groups);
        diversity.admits(now, &groups, peers(bucket), contact.peer()).then(|| Arc::clone(contact))
    }
}

fn peers(bucket: &Bucket) -> impl Iterator<Item = &PeerId> + Clone {
    bucket.entries().iter().map(|entry| entry.contact.peer())
}
