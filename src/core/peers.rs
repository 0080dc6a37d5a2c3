//! All that a node knows about other peers: the routing table, the address book, who is connected, who serves.
//!
//! Knows: which of these to ask for what. Must not know: queries, records.

use std::collections::BTreeSet;
use std::sync::Arc;

use libp2p_identity::PeerId;

use super::address_book::AddressBook;
use super::config::Config;
use super::contact::Contact;
use super::key::Key;
use super::routing::RoutingTable;

#[derive(Debug)]
pub(crate) struct Peers {
    pub(crate) local: Arc<Contact>,
    pub(crate) table: RoutingTable,
    pub(crate) book: AddressBook,
    /// Bounded by the connections that the driver allows.
    pub(crate) connected: BTreeSet<PeerId>,
    /// Connected peers that say to serve our protocol.
    pub(crate) serving: BTreeSet<PeerId>,
}

impl Peers {
    pub(crate) fn new(local: Arc<Contact>, config: &Config) -> Peers {
        Peers {
            table: RoutingTable::new(*local.key(), config.routing.clone()),
            book: AddressBook::new(config.limit.address_book),
            local,
            connected: BTreeSet::new(),
            serving: BTreeSet::new(),
        }
    }

    /// Whether a peer could enter the table now, and is not in it.
    pub(crate) fn wants(&self, key: &Key) -> bool {
        self.table.get(key).is_none() && self.table.has_room(key)
    }

    /// Takes a peer's addresses into the book, and into its entry of the table; returns all that are known. `named` if
    /// the application tells of it.
    pub(crate) fn note(&mut self, contact: &Arc<Contact>, named: bool) -> Arc<Contact> {
        let noted = self.book.note(contact, named);
        match self.table.get_mut(noted.key()) {
            Some(entry) => {
                entry.contact = entry.contact.merged(&noted);
                Arc::clone(&entry.contact)
            }
            None => noted,
        }
    }

    /// What is known of a peer that is not this node.
    pub(crate) fn contact(&self, peer: &PeerId) -> Option<Arc<Contact>> {
        let key = Key::from(peer);
        let entry = self.table.get(&key).map(|entry| &entry.contact);
        entry.or_else(|| self.book.get(&key)).cloned()
    }

    /// The peers to begin a lookup with: the `count` closest of the table, and while it holds fewer, those that the
    /// application named.
    pub(crate) fn seeds(&self, target: &Key, count: usize) -> Vec<Arc<Contact>> {
        let mut seeds = self.table.closest(target, count, |_| true);
        if seeds.len() < count {
            let named = self.book.named().filter(|contact| contact.peer() != self.local.peer());
            let fresh = named.filter(|contact| !seeds.iter().any(|seed| seed.peer() == contact.peer()));
            let fresh: Vec<_> = fresh.take(count - seeds.len()).cloned().collect();
            seeds.extend(fresh);
        }
        seeds
    }

    /// A peer that someone named, with the addresses known here where it came without; `None` for this node itself,
    /// and for one that could not be asked since nobody knows where it is.
    pub(crate) fn askable(&self, named: &Arc<Contact>) -> Option<Arc<Contact>> {
        if named.peer() == self.local.peer() {
            return None;
        }
        if named.has_addrs() {
            return Some(Arc::clone(named));
        }
        let known = match self.table.get(named.key()) {
            Some(entry) => Some(&entry.contact),
            None => self.book.get(named.key()),
        };
        match known {
            Some(known) => Some(Arc::clone(known)),
            None => self.connected.contains(named.peer()).then(|| Arc::clone(named)),
        }
    }
}
