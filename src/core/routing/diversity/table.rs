//! Where a table asks whether a peer, or an address, is one too many of its kind.
//!
//! Knows: in which bucket a peer is, or would be. Must not know: the limits.

use std::sync::Arc;

use libp2p_identity::PeerId;
use multiaddr::Multiaddr;

use super::super::{Admission, Bucket, RoutingTable};
use crate::core::contact::Contact;
use crate::core::ip_group::IpGroup;
use crate::core::time::Timestamp;

impl RoutingTable {
    /// Whether a peer may come into the table, whatever room there is. Before the last bucket splits, its limit is that
    /// of all peers in it.
    pub(crate) fn admits(&self, now: Timestamp, contact: &Contact) -> bool {
        self.diversity.as_ref().is_none_or(|diversity| {
            let bucket = peers(&self.buckets[self.index(contact.key())]);
            diversity.admits(now, &diversity.groups(contact), bucket, contact.peer())
        })
    }

    /// A peer is connected, and the other end of the connection is here, if that is known.
    pub(crate) fn on_connected(&mut self, peer: PeerId, at: Option<&Multiaddr>) {
        let Some(diversity) = &mut self.diversity else { return };
        let asns = diversity.config.asns.as_deref();
        if let Some(group) = at.and_then(|at| IpGroup::of_remote_addr(at.as_ref(), asns)) {
            diversity.seen.insert(peer, group);
        }
    }

    /// A peer is connected no longer.
    pub(crate) fn on_disconnected(&mut self, peer: &PeerId) {
        if let Some(diversity) = &mut self.diversity {
            diversity.seen.remove(peer);
        }
    }

    /// The group in which a connected peer was seen, where groups count.
    pub(crate) fn seen_group(&self, peer: &PeerId) -> Option<IpGroup> {
        self.diversity.as_ref()?.seen(peer)
    }

    /// Whether IP groups count.
    pub(crate) fn limits_groups(&self) -> bool {
        self.diversity.is_some()
    }

    /// The group that stands for a peer, where one must: in which it was seen, or else its first.
    pub(crate) fn group(&self, contact: &Contact) -> Option<IpGroup> {
        match &self.diversity {
            Some(diversity) => diversity.seen(contact.peer()).or_else(|| diversity.groups(contact).first().copied()),
            None => IpGroup::of(contact, None).first().copied(),
        }
    }

    /// Gives an entry these addresses in this order, or as many of them as may come into it. From now on it counts for those.
    pub(crate) fn readdress(&mut self, now: Timestamp, contact: &Arc<Contact>) {
        let index = self.index(contact.key());
        let Some(entry) = self.buckets[index].get(contact.key()) else { return };
        if entry.contact == *contact {
            return;
        }
        let known = Arc::clone(&entry.contact);
        let contact = match &mut self.diversity {
            Some(diversity) => diversity.extend(now, &known, contact, peers(&self.buckets[index])),
            None => Arc::clone(contact),
        };
        if let Some(entry) = self.buckets[index].get_mut(contact.key()) {
            entry.contact = contact;
        }
    }

    /// A peer that has answered, with those of its addresses that may come into the table; `None` if it may not itself.
    pub(in super::super) fn check_diversity(&mut self, now: Timestamp, contact: &Arc<Contact>) -> Option<Arc<Contact>> {
        let index = self.index(contact.key());
        let Some(diversity) = &mut self.diversity else { return Some(Arc::clone(contact)) };
        let bucket = &self.buckets[index];
        if let Some(entry) = bucket.get(contact.key()) {
            let known = &entry.contact;
            return Some(diversity.extend(now, known, &known.merged(contact), peers(bucket)));
        }
        let groups = diversity.groups(contact);
        diversity.see(now, &groups);
        diversity.admits(now, &groups, peers(bucket), contact.peer()).then(|| Arc::clone(contact))
    }

    /// Counts what became of an offer.
    pub(in super::super) fn count(&mut self, now: Timestamp, contact: &Arc<Contact>, offer: &Admission) {
        if let (Some(diversity), Admission::Added(gone)) = (&mut self.diversity, offer) {
            gone.iter().for_each(|old| diversity.left(old));
            diversity.count(now, contact);
        }
    }

    /// A peer is no entry any more; returns it.
    pub(in super::super) fn release(&mut self, gone: Option<PeerId>) -> Option<PeerId> {
        if let (Some(peer), Some(diversity)) = (&gone, &mut self.diversity) {
            diversity.left(peer);
        }
        gone
    }
}

fn peers(bucket: &Bucket) -> impl Iterator<Item = &PeerId> + Clone {
    bucket.entries().iter().map(|entry| entry.contact.peer())
}
