//! A peer as everything else refers to it: id, place in the keyspace, addresses.
//!
//! Knows: how to hold them cheaply. Must not know: whether the peer is alive, or how it is encoded.

mod ending;
mod packed;

use std::fmt;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use libp2p_identity::PeerId;
use multiaddr::Multiaddr;

use self::ending::without_peer;
use self::packed::PackedAddrs;
use super::key::{IdBytes, Key};

/// The most addresses that a [`Contact`] holds; further ones are dropped. Source: real peers announce up to 25
/// in the field, rounded up.
pub const MAX_ADDRS: usize = 32;

/// The longest address in bytes that a [`Contact`] holds; longer ones are dropped. Source: WebTransport addresses
/// with certificate hashes reach about 200 bytes; the Go implementation bounds a whole peer at 8 KiB.
pub const MAX_ADDR_LEN: usize = 512;

/// Maximum number of addresses that a lookup keeps of a peer which only others told of. Source: IPv4 and IPv6 by two
/// transports.
pub(crate) const MAX_RUMOURED_ADDRS: usize = 4;

/// Length in bytes of the longest of them. Source: the longest without a certificate in it, IPv6 behind a relay, is
/// half as long.
pub(crate) const MAX_RUMOURED_ADDR_LEN: usize = 128;

/// A peer with its key (hashed once, when first asked for) and addresses; shared, never copied: `Arc<Contact>`.
///
/// Addresses stay the bytes they came as and are parsed when someone asks. They are copies in a buffer of the contact's
/// own, and never carry a trailing `/p2p/<this peer>`; there are at most [`MAX_ADDRS`] of at most [`MAX_ADDR_LEN`]
/// bytes, without repetition.
// In this order, since the first two are looked at by everyone who hands a contact on, beside the count of its owners
// that lies before them, and the id only by those who send something.
#[repr(C)]
pub struct Contact {
    key: OnceLock<Key>,
    addrs: PackedAddrs,
    peer: PeerId,
    encoded: OnceLock<Bytes>,
}

impl Contact {
    /// A contact at the place where its peer id hashes to.
    pub fn new(peer: PeerId, addrs: impl IntoIterator<Item = Multiaddr>) -> Arc<Contact> {
        Contact::packed(peer, &IdBytes::of(&peer), OnceLock::new(), addrs)
    }

    /// A contact from addresses in binary form. Addresses that do not parse, and those that end in another peer's id,
    /// are left out.
    pub fn from_raw<'a>(peer: PeerId, addrs: impl IntoIterator<Item = &'a [u8]>) -> Arc<Contact> {
        Contact::packed(peer, &IdBytes::of(&peer), OnceLock::new(), addrs)
    }

    /// The same from an id in binary form; `None` if that is none.
    #[cfg(feature = "driver")]
    pub(crate) fn from_id_bytes<'a>(id: &[u8], addrs: impl IntoIterator<Item = &'a [u8]>) -> Option<Arc<Contact>> {
        Some(Contact::packed(PeerId::from_bytes(id).ok()?, id, OnceLock::new(), addrs))
    }

    /// A contact at a place chosen by hand, for tests and simulations whose distances should be visible.
    #[cfg(any(test, feature = "testing"))]
    pub fn with_key(peer: PeerId, key: Key, addrs: impl IntoIterator<Item = Multiaddr>) -> Arc<Contact> {
        let addrs: Vec<Multiaddr> = addrs.into_iter().collect();
        Contact::assemble(peer, key.into(), addrs.iter().map(AsRef::as_ref))
    }

    /// From addresses that may end in the peer's id, which is `id` in binary form.
    fn packed(
        peer: PeerId,
        id: &[u8],
        key: OnceLock<Key>,
        addrs: impl IntoIterator<Item: AsRef<[u8]>>,
    ) -> Arc<Contact> {
        let mut packed = PackedAddrs::default();
        for addr in addrs {
            if let Some(addr) = without_peer(addr.as_ref(), &peer, id) {
                packed.push(addr);
            }
        }
        packed.shrink();
        Arc::new(Contact { key, addrs: packed, peer, encoded: OnceLock::new() })
    }

    /// From parts that were taken from another contact.
    pub(crate) fn at<'a>(peer: PeerId, key: Key, addrs: impl Iterator<Item = &'a [u8]>) -> Arc<Contact> {
        Contact::assemble(peer, key.into(), addrs)
    }

    /// From addresses without the peer's id.
    fn assemble<'a>(peer: PeerId, key: OnceLock<Key>, addrs: impl Iterator<Item = &'a [u8]>) -> Arc<Contact> {
        let mut packed = PackedAddrs::default();
        addrs.for_each(|addr| packed.push(addr));
        packed.shrink();
        Arc::new(Contact { key, addrs: packed, peer, encoded: OnceLock::new() })
    }

    /// The same peer with addresses of both: those of `newer` first, the bounds kept.
    ///
    /// An empty list never replaces a known one. Returns `self` where nothing changes.
    pub fn merged(self: &Arc<Contact>, newer: &Contact) -> Arc<Contact> {
        if newer.adds_nothing_to(self) {
            return Arc::clone(self);
        }
        self.with_addrs(newer.raw_addrs().chain(self.raw_addrs()))
    }

    /// The same peer with at most `most` addresses, one of its own and one of `others` in turn. Returns `self` if
    /// `others` adds nothing.
    pub(crate) fn interleaved(self: &Arc<Contact>, others: &Contact, most: usize) -> Arc<Contact> {
        if others.adds_nothing_to(self) {
            return Arc::clone(self);
        }
        let (mut own, mut others) = (self.raw_addrs(), others.raw_addrs());
        let mut addrs: Vec<&[u8]> = Vec::new();
        loop {
            let two = [own.next(), others.next()];
            if two == [None, None] {
                break;
            }
            for addr in two.into_iter().flatten() {
                if !addrs.contains(&addr) {
                    addrs.push(addr);
                }
            }
        }
        addrs.truncate(most);
        self.with_addrs(addrs)
    }

    /// Number of bytes that it takes up in memory, its encoded form not counted.
    pub(crate) fn size(&self) -> usize {
        // Beside an `Arc`'s value lie two counts of its owners.
        2 * size_of::<usize>() + size_of::<Contact>() + self.addrs.heap_size()
    }

    /// The same peer with only those of its addresses for which `stays` is true. Returns `self` if that is all of them.
    pub(crate) fn filtered(self: &Arc<Contact>, stays: impl Fn(&[u8]) -> bool) -> Arc<Contact> {
        if self.raw_addrs().all(&stays) {
            return Arc::clone(self);
        }
        self.with_addrs(self.raw_addrs().filter(|addr| stays(addr)))
    }

    /// The same peer with at most `count` of its addresses.
    pub(crate) fn at_most(self: &Arc<Contact>, count: usize) -> Arc<Contact> {
        self.readdressed(self.raw_addrs().take(count))
    }

    /// The same peer, with at most `most` addresses of `others` that it lacks, after its own.
    pub(crate) fn joined(self: &Arc<Contact>, others: &Contact, most: usize) -> Arc<Contact> {
        let news = others.raw_addrs().filter(|addr| !self.has_addr(addr)).take(most);
        self.readdressed(self.raw_addrs().chain(news))
    }

    /// The same peer with these addresses. Returns `self` where they are the same.
    pub(crate) fn readdressed<'a>(self: &Arc<Contact>, addrs: impl Iterator<Item = &'a [u8]> + Clone) -> Arc<Contact> {
        if addrs.clone().eq(self.raw_addrs()) {
            return Arc::clone(self);
        }
        self.with_addrs(addrs)
    }

    /// The same peer with other addresses, in binary form and without `/p2p` endings, its key not hashed again.
    pub fn with_addrs<'a>(&self, addrs: impl IntoIterator<Item = &'a [u8]>) -> Arc<Contact> {
        Contact::assemble(self.peer, self.key.clone(), addrs.into_iter())
    }

    /// The same peer with other addresses, its key not hashed again.
    pub fn with_multiaddrs(&self, addrs: impl IntoIterator<Item = Multiaddr>) -> Arc<Contact> {
        Contact::packed(self.peer, &IdBytes::of(&self.peer), self.key.clone(), addrs)
    }

    /// Whether one of these is the same peer, whatever its addresses.
    pub(crate) fn is_among(&self, contacts: &[Arc<Contact>]) -> bool {
        contacts.iter().any(|other| other.peer == self.peer)
    }

    /// The peer's id.
    pub fn peer(&self) -> &PeerId {
        &self.peer
    }

    /// The peer's place in the keyspace.
    pub fn key(&self) -> &Key {
        self.key.get_or_init(|| Key::from(&self.peer))
    }

    /// The peer's addresses, parsed, without `/p2p` endings.
    pub fn addrs(&self) -> impl Iterator<Item = Multiaddr> + '_ {
        self.raw_addrs().filter_map(|raw| Multiaddr::try_from(raw.to_vec()).ok())
    }

    /// The peer's addresses in binary form.
    pub fn raw_addrs(&self) -> impl Iterator<Item = &[u8]> + Clone {
        self.addrs.iter()
    }

    /// Whether this address, in binary form, is one of the peer's.
    pub fn has_addr(&self, addr: &[u8]) -> bool {
        self.raw_addrs().any(|known| known == addr)
    }

    /// Whether `known` has all addresses of this contact. If both are the same allocation nothing is compared.
    pub(crate) fn adds_nothing_to(&self, known: &Contact) -> bool {
        std::ptr::eq(self, known) || self.raw_addrs().all(|addr| known.has_addr(addr))
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
        f.debug_struct("Contact").field("peer", &self.peer).field("key", self.key()).field("addrs", &addrs).finish()
    }
}

#[cfg(test)]
mod tests {
    use multiaddr::Protocol;

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
        let raw = Contact::from_raw(peer, [own.as_ref(), &[0xff, 1]]);
        assert!(raw.raw_addrs().eq(contact.raw_addrs().take(1)));
    }

    #[test]
    fn addresses_are_bounded_in_number_and_length() {
        let peer = PeerId::random();
        let many = (0..1000).map(|port| addr(&format!("/ip4/127.0.0.1/tcp/{port}")));
        assert_eq!(Contact::new(peer, many).raw_addrs().count(), MAX_ADDRS);
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
