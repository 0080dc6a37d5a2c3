//! Addresses of peers outside the routing table: clients, candidates, first contacts.
//!
//! Knows: which contact came last. Must not know: who serves, or who is alive. Bounded: the oldest are forgotten
//! first, those that the application named only for others that it named.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use super::contact::Contact;
use super::key::Key;

#[derive(Debug)]
struct Noted {
    contact: Arc<Contact>,
    /// When it was noted, counted in notes.
    at: u64,
    /// Whether the application named it.
    named: bool,
}

/// Contacts by their places in the keyspace, which are shorter than peer ids.
#[derive(Debug)]
pub(crate) struct AddressBook {
    notes: BTreeMap<Key, Noted>,
    /// Oldest first, those named by the application after all others.
    order: BTreeMap<(bool, u64), Key>,
    next: u64,
    limit: usize,
}

impl AddressBook {
    pub(crate) fn new(limit: usize) -> AddressBook {
        AddressBook { notes: BTreeMap::new(), order: BTreeMap::new(), next: 0, limit }
    }

    /// Notes a peer's addresses, beside those known; returns all of them. `named` if the application says so.
    pub(crate) fn note(&mut self, contact: &Arc<Contact>, named: bool) -> Arc<Contact> {
        let (at, key) = (self.next, *contact.key());
        self.next += 1;
        let noted = match self.notes.entry(key) {
            Entry::Occupied(noted) => {
                let noted = noted.into_mut();
                self.order.remove(&(noted.named, noted.at));
                let contact = noted.contact.merged(contact);
                *noted = Noted { contact, at, named: named || noted.named };
                noted
            }
            Entry::Vacant(vacant) => vacant.insert(Noted { contact: Arc::clone(contact), at, named }),
        };
        let contact = Arc::clone(&noted.contact);
        self.order.insert((noted.named, at), key);
        if self.notes.len() > self.limit
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.notes.remove(&oldest);
        }
        contact
    }

    pub(crate) fn get(&self, key: &Key) -> Option<&Arc<Contact>> {
        self.notes.get(key).map(|noted| &noted.contact)
    }

    /// All that is noted.
    pub(crate) fn contacts(&self) -> impl Iterator<Item = &Arc<Contact>> {
        self.notes.values().map(|noted| &noted.contact)
    }

    /// What is noted of a peer is this from now on.
    pub(crate) fn replace(&mut self, contact: Arc<Contact>) {
        if let Some(noted) = self.notes.get_mut(contact.key()) {
            noted.contact = contact;
        }
    }

    /// The peers that the application named, the oldest first.
    pub(crate) fn named(&self) -> impl Iterator<Item = &Arc<Contact>> {
        let named = self.order.range((true, 0)..);
        named.filter_map(|(_, key)| self.get(key))
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        assert_eq!(self.notes.len(), self.order.len());
        self.notes.len()
    }
}

#[cfg(test)]
mod tests {
    use libp2p_identity::PeerId;

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
        assert_eq!(book.get(boot.key()), Some(&boot));
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
