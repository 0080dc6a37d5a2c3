//! All that a node knows about other peers: the routing table, the address book, who is connected, who serves.
//!
//! Knows: which of these to ask for what. Must not know: queries, records.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use libp2p_identity::PeerId;

use super::address_book::AddressBook;
use super::address_policy::{AddressPolicy, is_relayed};
use super::config::Config;
use super::contact::Contact;
use super::key::Key;
use super::routing::RoutingTable;
use super::time::Timestamp;

#[derive(Debug)]
pub(crate) struct Peers {
    pub(crate) local: Arc<Contact>,
    pub(crate) table: RoutingTable,
    pub(crate) book: AddressBook,
    pub(crate) policy: AddressPolicy,
    /// Bounded by the connections that the driver allows.
    links: BTreeMap<Key, Link>,
}

/// What the driver says of a peer, kept by its place, which is shorter than its id.
#[derive(Clone, Copy, Debug, Default)]
struct Link {
    connected: bool,
    /// Whether it serves our protocol, once it has said so.
    serves: Option<bool>,
}

impl Peers {
    pub(crate) fn new(local: Arc<Contact>, config: &Config) -> Peers {
        let policy = config.address_policy;
        let local = match policy {
            AddressPolicy::Any => local,
            policy => local.with_addrs(local.raw_addrs().iter().filter(|addr| policy.admits(addr)).cloned()),
        };
        Peers {
            table: RoutingTable::new(*local.key(), config.routing.clone()),
            book: AddressBook::new(config.limit.address_book),
            local,
            policy,
            links: BTreeMap::new(),
        }
    }

    pub(crate) fn is_connected(&self, key: &Key) -> bool {
        self.links.get(key).is_some_and(|link| link.connected)
    }

    pub(crate) fn connected(&mut self, key: &Key) {
        self.links.entry(*key).or_default().connected = true;
    }

    pub(crate) fn disconnected(&mut self, key: &Key) {
        self.links.remove(key);
    }

    /// Whether a peer says to serve our protocol.
    pub(crate) fn serves(&self, key: &Key) -> bool {
        self.links.get(key).is_some_and(|link| link.serves == Some(true))
    }

    /// Whether a peer says not to serve our protocol.
    pub(crate) fn declines(&self, key: &Key) -> bool {
        self.links.get(key).is_some_and(|link| link.serves == Some(false))
    }

    pub(crate) fn set_serves(&mut self, key: &Key, yes: bool) {
        if yes {
            self.links.entry(*key).or_default().serves = Some(true);
        } else if let Some(link) = self.links.get_mut(key) {
            link.serves = Some(false);
        }
    }

    /// The peer with the addresses alone that this node deals with: those that its policy admits, and not its own unless
    /// the peer is the node itself. The very same where that is all of them.
    pub(crate) fn admissible(&self, contact: &Arc<Contact>) -> Arc<Contact> {
        let admitted = |addr: &&Bytes| self.policy.admits(addr) && !self.is_own(contact, addr);
        if self.policy == AddressPolicy::Any || contact.raw_addrs().iter().all(|addr| admitted(&addr)) {
            return Arc::clone(contact);
        }
        contact.with_addrs(contact.raw_addrs().iter().filter(admitted).cloned())
    }

    /// Whether an address of another peer is one of this node. Those who share a relay share its address.
    fn is_own(&self, contact: &Contact, addr: &Bytes) -> bool {
        contact.key() != self.local.key() && self.local.raw_addrs().contains(addr) && !is_relayed(addr)
    }

    /// Whether a peer may be in the table, and lead a lookup on: one that others can reach without a relay (rule A19).
    pub(crate) fn is_routable(&self, contact: &Contact) -> bool {
        self.policy == AddressPolicy::Any || contact.raw_addrs().iter().any(|addr| self.policy.routes(addr))
    }

    /// Looks through all that is known after the own addresses changed. Returns who had to leave the table.
    pub(crate) fn screen_again(&mut self) -> Vec<PeerId> {
        let changed = |contact: &Arc<Contact>| {
            let admissible = self.admissible(contact);
            (!Arc::ptr_eq(&admissible, contact)).then_some(admissible)
        };
        let entries: Vec<_> = self.table.entries().filter_map(|entry| changed(&entry.contact)).collect();
        let notes: Vec<_> = self.book.contacts().filter_map(changed).collect();
        let mut gone = Vec::new();
        for contact in entries {
            if !self.is_routable(&contact) {
                gone.extend(self.table.remove(contact.key()));
            } else if let Some(entry) = self.table.get_mut(contact.key()) {
                entry.contact = contact;
            }
        }
        notes.into_iter().for_each(|contact| self.book.replace(contact));
        gone
    }

    /// Whether a peer could enter the table now, and is not in it.
    pub(crate) fn wants(&self, now: Timestamp, contact: &Contact) -> bool {
        let key = contact.key();
        self.table.get(key).is_none()
            && self.table.has_room(key)
            && !self.declines(key)
            && self.is_routable(contact)
            && self.table.welcomes(now, contact)
    }

    /// Takes a peer's addresses into the book, and into its entry of the table; returns all that are known. `named` if
    /// the application tells of it.
    pub(crate) fn note(&mut self, now: Timestamp, contact: &Arc<Contact>, named: bool) -> Arc<Contact> {
        let noted = self.book.note(contact, named);
        // Where it answered comes before what is told of it, even by the application.
        self.table.learn(now, &noted).unwrap_or(noted)
    }

    /// What is known of a peer that is not this node.
    pub(crate) fn contact(&self, peer: &PeerId) -> Option<Arc<Contact>> {
        self.contact_at(&Key::from(peer))
    }

    /// What is known of the peer at this place.
    pub(crate) fn contact_at(&self, key: &Key) -> Option<Arc<Contact>> {
        let entry = self.table.get(key).map(|entry| &entry.contact);
        entry.or_else(|| self.book.get(key)).cloned()
    }

    /// The peers to begin a lookup with: the `count` closest of the table, and while it holds fewer, those that the
    /// application named. Entries that failed and whose back-off is not over are left alone, unless there are no others, as
    /// after an outage.
    pub(crate) fn seeds(&self, now: Timestamp, target: &Key, count: usize) -> Vec<Arc<Contact>> {
        let mut seeds = self.table.closest(target, count, |_, entry| entry.may_be_asked(now));
        if seeds.is_empty() {
            seeds = self.table.closest(target, count, |_, _| true);
        }
        if seeds.len() < count {
            let named = self.book.named().filter(|contact| contact.peer() != self.local.peer());
            let fresh = named.filter(|contact| !seeds.iter().any(|seed| seed.peer() == contact.peer()));
            let fresh: Vec<_> = fresh.take(count - seeds.len()).cloned().collect();
            seeds.extend(fresh);
        }
        seeds
    }

    /// A peer that someone named, as it is to be asked; `None` for this node itself, and for one that could not be asked
    /// since nobody knows where it is, or that is left alone since it failed and is named without anything new.
    ///
    /// Addresses at which it answered come before those that it was named with: whoever names a peer with wrong ones
    /// must not make it look dead, nor push the right ones out of the table. Those of the book, which nobody tried, only
    /// stand in where it was named without any.
    pub(crate) fn askable(&self, now: Timestamp, named: &Arc<Contact>) -> Option<Arc<Contact>> {
        if named.key() == self.local.key() {
            return None;
        }
        if let Some(entry) = self.table.get(named.key()) {
            let news = !named.adds_nothing_to(&entry.contact);
            if !news && !entry.may_be_asked(now) {
                return None;
            }
            return Some(if news { named.merged(&entry.contact) } else { Arc::clone(&entry.contact) });
        }
        if named.has_addrs() {
            return Some(Arc::clone(named));
        }
        match self.book.get(named.key()) {
            Some(known) => Some(Arc::clone(known)),
            None => self.is_connected(named.key()).then(|| Arc::clone(named)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::contact::MAX_ADDRS;

    fn contact(peer: PeerId, ports: std::ops::Range<usize>) -> Arc<Contact> {
        Contact::new(peer, ports.map(|port| format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap()))
    }

    #[test]
    fn an_address_at_which_a_peer_answered_is_never_displaced_by_hearsay() {
        let mut peers = Peers::new(Contact::new(PeerId::random(), []), &Config::default());
        let good = contact(PeerId::random(), 1..2);
        peers.table.offer(Timestamp::ZERO, &good);
        let asked = peers.askable(Timestamp::ZERO, &contact(*good.peer(), 100..100 + MAX_ADDRS)).unwrap();
        assert_eq!(asked.raw_addrs()[0], good.raw_addrs()[0], "asked where it is known to be");
        assert_eq!(asked.raw_addrs().len(), MAX_ADDRS, "and at the others too: it may have moved");
        peers.table.offer(Timestamp::ZERO, &asked); // it answered, on whatever connection
        assert_eq!(peers.contact(good.peer()).unwrap().raw_addrs()[0], good.raw_addrs()[0]);
        assert!(Arc::ptr_eq(
            &peers.askable(Timestamp::ZERO, &good).unwrap(),
            &peers.table.get(good.key()).unwrap().contact
        ));
    }
}
