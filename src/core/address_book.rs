//! Addresses of peers outside the routing table: clients, candidates, first contacts.
//!
//! Knows: which contact came last. Must not know: who serves, or who is alive. Bounded: the oldest are forgotten
//! first, those that the application named only for others that it named.

use std::collections::BTreeMap;
use std::sync::Arc;

use libp2p_identity::PeerId;

use super::contact::Contact;

#[derive(Debug)]
struct Noted {
    contact: Arc<Contact>,
    /// When it was noted, counted in notes.
    at: u64,
    /// Whether the application named it.
    named: bool,
}

/// Contacts by peer.
#[derive(Debug)]
pub(crate) struct AddressBook {
    notes: BTreeMap<PeerId, Noted>,
    /// Oldest first, those named by the application after all others.
    order: BTreeMap<(bool, u64), PeerId>,
    next: u64,
    limit: usize,
}

impl AddressBook {
    pub(crate) fn new(limit: usize) -> AddressBook {
        AddressBook { notes: BTreeMap::new(), order: BTreeMap::new(), next: 0, limit }
    }

    /// Notes a peer's addresses, beside those known; returns all of them. `named` if the application says so.
    pub(crate) fn note(&mut self, contact: &Arc<Contact>, named: bool) -> Arc<Contact> {
        let old = self.notes.remove(contact.peer());
        if let Some(old) = &old {
            self.order.remove(&(old.named, old.at));
        }
        let named = named || old.as_ref().is_some_and(|old| old.named);
        let contact = old.map_or_else(|| Arc::clone(contact), |old| old.contact.merged(contact));
        let at = self.next;
        self.next += 1;
        self.order.insert((named, at), *contact.peer());
        self.notes.insert(*contact.peer(), Noted { contact: Arc::clone(&contact), at, named });
        if self.notes.len() > self.limit
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.notes.remove(&oldest);
        }
        contact
    }

    pub(crate) fn get(&self, peer: &PeerId) -> Option<&Arc<Contact>> {
        self.notes.get(peer).map(|noted| &noted.contact)
    }

    /// The peers that the application named, the oldest first.
    pub(crate) fn named(&self) -> impl Iterator<Item = &Arc<Contact>> {
        let named = self.order.range((true, 0)..);
        named.filter_map(|(_, peer)| self.get(peer))
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        assert_eq!(self.notes.len(), self.order.len());
        self.notes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contact(port: u16) -> Arc<Contact> {
        Contact::new(PeerId::random(), [format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap()])
    }

    #[test]
    fn is_bounded_and_keeps_what_the_application_named() {
        let mut book = AddressBook::new(10);
        let boot = contact(1);
        book.note(&boot, true);
        for port in 2..1000 {
            book.note(&contact(port), false);
        }
        assert_eq!(book.len(), 10);
        assert_eq!(book.get(boot.peer()), Some(&boot));
        for port in 2..1000 {
            book.note(&contact(port), true);
        }
        assert_eq!(book.len(), 10);
        assert_eq!(book.named().count(), 10);
    }

    #[test]
    fn a_named_peer_stays_named_and_gathers_addresses() {
        let mut book = AddressBook::new(10);
        let boot = contact(1);
        book.note(&boot, true);
        let more = Contact::new(*boot.peer(), ["/ip4/127.0.0.1/tcp/9".parse().unwrap()]);
        assert_eq!(book.note(&more, false).raw_addrs().len(), 2);
        assert_eq!(book.named().count(), 1);
        assert_eq!(book.len(), 1);
    }
}
