//! A peer as everything else refers to it: id, place in the keyspace, addresses.
//!
//! Knows: how to hold them cheaply. Must not know: whether the peer is alive, or how it is encoded.

use std::fmt;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use libp2p_identity::PeerId;
use multiaddr::{Multiaddr, Protocol};
use smallvec::SmallVec;

use super::key::Key;

/// The most addresses that a [`Contact`] holds; further ones are dropped. Source: real peers announce up to 25
/// in the field, rounded up.
pub const MAX_ADDRS: usize = 32;

/// The longest address in bytes that a [`Contact`] holds; longer ones are dropped. Source: WebTransport addresses
/// with certificate hashes reach about 200 bytes; the Go implementation bounds a whole peer at 8 KiB.
pub const MAX_ADDR_LEN: usize = 512;

/// A peer with its key (hashed once) and addresses; shared, never copied: `Arc<Contact>`.
///
/// Addresses stay the bytes they came as and are parsed when someone asks. They never carry a trailing
/// `/p2p/<this peer>`; there are at most [`MAX_ADDRS`] of at most [`MAX_ADDR_LEN`] bytes, without repetition.
// In this order, since the first two are looked at by everyone who hands a contact on, beside the count of its owners
// that lies before them, and the id only by those who send something.
#[repr(C)]
pub struct Contact {
    key: Key,
    addrs: SmallVec<[Bytes; 2]>,
    peer: PeerId,
    encoded: OnceLock<Bytes>,
}

impl Contact {
    /// A contact at the place where its peer id hashes to.
    pub fn new(peer: PeerId, addrs: impl IntoIterator<Item = Multiaddr>) -> Arc<Contact> {
        let key = Key::from(&peer);
        let raw = addrs.into_iter().filter_map(|addr| Some(Bytes::from(without_peer(addr, &peer)?.to_vec())));
        Arc::new(Contact::assemble(peer, key, raw))
    }

    /// A contact from addresses in binary form; those that do not parse, and those that name another peer, are
    /// dropped one by one.
    pub fn from_raw(peer: PeerId, addrs: impl IntoIterator<Item = Bytes>) -> Arc<Contact> {
        let key = Key::from(&peer);
        let raw = addrs.into_iter().filter_map(|bytes| clean_raw(bytes, &peer));
        Arc::new(Contact::assemble(peer, key, raw))
    }

    /// A contact at a place chosen by hand, for tests and simulations whose distances should be visible.
    #[cfg(any(test, feature = "testing"))]
    pub fn with_key(peer: PeerId, key: Key, addrs: impl IntoIterator<Item = Multiaddr>) -> Arc<Contact> {
        let raw = addrs.into_iter().map(|addr| Bytes::from(addr.to_vec()));
        Arc::new(Contact::assemble(peer, key, raw))
    }

    fn assemble(peer: PeerId, key: Key, raw: impl Iterator<Item = Bytes>) -> Contact {
        let mut addrs: SmallVec<[Bytes; 2]> = SmallVec::new();
        for addr in raw.filter(|addr| !addr.is_empty() && addr.len() <= MAX_ADDR_LEN) {
            if addrs.len() == MAX_ADDRS {
                break;
            }
            if !addrs.contains(&addr) {
                addrs.push(addr);
            }
        }
        Contact { peer, key, addrs, encoded: OnceLock::new() }
    }

    /// The same peer with addresses of both: those of `newer` first, the bounds kept.
    ///
    /// An empty list never replaces a known one. Returns `self` where nothing changes.
    pub fn merged(self: &Arc<Contact>, newer: &Contact) -> Arc<Contact> {
        if newer.adds_nothing_to(self) {
            return Arc::clone(self);
        }
        let raw = newer.addrs.iter().chain(&self.addrs).cloned();
        Arc::new(Contact::assemble(self.peer, self.key, raw))
    }

    /// The same peer with those of its addresses that stay. Returns `self` where all do.
    pub(crate) fn filtered(self: &Arc<Contact>, stays: impl Fn(&Bytes) -> bool) -> Arc<Contact> {
        self.changed(self.addrs.iter().filter(|addr| stays(addr)))
    }

    /// The same peer with so many of its addresses at most.
    pub(crate) fn at_most(self: &Arc<Contact>, count: usize) -> Arc<Contact> {
        self.changed(self.addrs.iter().take(count))
    }

    /// The same peer with so many addresses of another contact of it at most, after its own.
    pub(crate) fn joined(self: &Arc<Contact>, others: &Contact, most: usize) -> Arc<Contact> {
        let news = others.addrs.iter().filter(|addr| !self.addrs.contains(addr)).take(most);
        self.changed(self.addrs.iter().chain(news))
    }

    /// The same peer with these addresses. Returns `self` where they are the same.
    fn changed<'a>(self: &Arc<Contact>, addrs: impl Iterator<Item = &'a Bytes> + Clone) -> Arc<Contact> {
        if addrs.clone().eq(&self.addrs) {
            return Arc::clone(self);
        }
        self.with_addrs(addrs.cloned())
    }

    /// The same peer with other addresses, in binary form and without `/p2p` endings, its key not hashed again.
    pub fn with_addrs(&self, addrs: impl IntoIterator<Item = Bytes>) -> Arc<Contact> {
        Arc::new(Contact::assemble(self.peer, self.key, addrs.into_iter()))
    }

    /// The same peer with other addresses, its key not hashed again.
    pub fn with_multiaddrs(&self, addrs: impl IntoIterator<Item = Multiaddr>) -> Arc<Contact> {
        let raw = addrs.into_iter().filter_map(|addr| Some(Bytes::from(without_peer(addr, &self.peer)?.to_vec())));
        Arc::new(Contact::assemble(self.peer, self.key, raw))
    }

    /// Whether one of these is the same peer, with whatever addresses.
    pub(crate) fn is_among(&self, contacts: &[Arc<Contact>]) -> bool {
        contacts.iter().any(|other| other.peer == self.peer)
    }

    /// The peer's id.
    pub fn peer(&self) -> &PeerId {
        &self.peer
    }

    /// The peer's place in the keyspace.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// The peer's addresses, parsed, without `/p2p` endings.
    pub fn addrs(&self) -> impl Iterator<Item = Multiaddr> + '_ {
        self.addrs.iter().filter_map(|raw| Multiaddr::try_from(raw.to_vec()).ok())
    }

    /// The peer's addresses in binary form.
    pub fn raw_addrs(&self) -> &[Bytes] {
        &self.addrs
    }

    /// Whether `known` has all its addresses. Nothing is compared where both are the same.
    pub(crate) fn adds_nothing_to(&self, known: &Contact) -> bool {
        std::ptr::eq(self, known) || self.addrs.iter().all(|addr| known.addrs.contains(addr))
    }

    /// Whether any address is known.
    pub fn has_addrs(&self) -> bool {
        !self.addrs.is_empty()
    }

    /// The cell in which an encoding keeps this contact's encoded form, so that a peer that is handed out a
    /// thousand times is encoded once. The core neither reads nor writes it.
    pub fn encoded(&self) -> &OnceLock<Bytes> {
        &self.encoded
    }
}

/// Drops a trailing `/p2p/<peer>`; `None` where the address ends in another peer's id.
fn without_peer(mut addr: Multiaddr, peer: &PeerId) -> Option<Multiaddr> {
    match addr.iter().last() {
        Some(Protocol::P2p(id)) if id == *peer => {
            addr.pop();
            Some(addr)
        }
        // A relay's id in the middle is fine, `/p2p-circuit` follows it; another id at the end is another peer.
        Some(Protocol::P2p(_)) => None,
        _ => Some(addr),
    }
}

fn clean_raw(bytes: Bytes, peer: &PeerId) -> Option<Bytes> {
    if bytes.len() > MAX_ADDR_LEN {
        return None;
    }
    let parsed = Multiaddr::try_from(bytes.to_vec()).ok()?;
    let stripped = without_peer(parsed, peer)?;
    if stripped.len() == bytes.len() { Some(bytes) } else { Some(stripped.to_vec().into()) }
}

impl PartialEq for Contact {
    /// Same peer, same addresses in the same order.
    fn eq(&self, other: &Contact) -> bool {
        self.peer == other.peer && self.addrs == other.addrs
    }
}

impl Eq for Contact {}

impl fmt::Debug for Contact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addrs: Vec<_> = self.addrs().collect();
        f.debug_struct("Contact").field("peer", &self.peer).field("key", &self.key).field("addrs", &addrs).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    #[test]
    fn own_p2p_ending_is_cut_and_a_foreign_one_drops_the_address() {
        let (peer, other) = (PeerId::random(), PeerId::random());
        let plain = addr("/ip4/127.0.0.1/tcp/1");
        let own = plain.clone().with(Protocol::P2p(peer));
        let foreign = addr("/ip4/127.0.0.1/tcp/2").with(Protocol::P2p(other));
        let relayed = addr("/ip4/127.0.0.1/tcp/3").with(Protocol::P2p(other)).with(Protocol::P2pCircuit);
        let contact = Contact::new(peer, [own.clone(), foreign, plain.clone(), relayed.clone()]);
        assert_eq!(contact.addrs().collect::<Vec<_>>(), [plain, relayed]);
        let raw = Contact::from_raw(peer, [Bytes::from(own.to_vec()), Bytes::from_static(&[0xff, 1])]);
        assert_eq!(raw.raw_addrs(), &contact.raw_addrs()[..1]);
    }

    #[test]
    fn addresses_are_bounded_in_number_and_length() {
        let peer = PeerId::random();
        let many = (0..1000).map(|port| addr(&format!("/ip4/127.0.0.1/tcp/{port}")));
        assert_eq!(Contact::new(peer, many).raw_addrs().len(), MAX_ADDRS);
        let long = addr(&format!("/dns4/{}/tcp/1", "a".repeat(MAX_ADDR_LEN)));
        assert!(!Contact::new(peer, [long]).has_addrs());
    }

    #[test]
    fn merging_keeps_what_is_known() {
        let peer = PeerId::random();
        let old = Contact::new(peer, [addr("/ip4/127.0.0.1/tcp/1")]);
        assert!(Arc::ptr_eq(&old.merged(&Contact::new(peer, [])), &old));
        let merged = old.merged(&Contact::new(peer, [addr("/ip4/127.0.0.1/tcp/2")]));
        let ports: Vec<_> = merged.addrs().map(|a| a.to_string()).collect();
        assert_eq!(ports, ["/ip4/127.0.0.1/tcp/2", "/ip4/127.0.0.1/tcp/1"]);
    }
}
