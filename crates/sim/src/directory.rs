//! Everyone who exists in a simulation, by number, and global knowledge of the keyspace.
//!
//! Knows: ids, keys, addresses, order by key. Must not know: who is online or what anyone does. Nodes see only the
//! contacts; the order by key belongs to those who set up a network and who judge its answers.

use std::ops::Range;
use std::sync::Arc;

use libp2p_identity::PeerId;
use multiaddr::Multiaddr;

use super::networks::{Networks, address_in};
use super::random::{Random, mix};
use libp2p_kad_dht::core::{Contact, Key};

/// A peer's number in a simulation.
pub(crate) type Index = u32;

/// Everyone, by number.
pub(crate) struct Directory {
    seed: u64,
    contacts: Vec<Arc<Contact>>,
    places: Vec<u64>,
    /// Where addresses are drawn from; `None` for nearly as many networks as peers.
    networks: Option<Networks>,
}

impl Directory {
    /// `n` peers with ids drawn from the seed.
    pub(crate) fn new(seed: u64, n: usize) -> Directory {
        Directory::drawn(seed, n, None)
    }

    /// `n` peers with ids drawn from the seed, and with addresses in these networks.
    pub(crate) fn in_networks(seed: u64, n: usize, networks: Networks) -> Directory {
        Directory::drawn(seed, n, Some(networks))
    }

    fn drawn(seed: u64, n: usize, networks: Option<Networks>) -> Directory {
        let (contacts, places) = (Vec::with_capacity(n), Vec::with_capacity(n));
        let mut directory = Directory { seed, contacts, places, networks };
        for _ in 0..n {
            directory.add();
        }
        directory
    }

    /// One more peer, with a fresh id.
    pub(crate) fn add(&mut self) -> Index {
        let salt = self.next_salt();
        self.insert(salt)
    }

    /// One more peer, with a fresh id and an address in this network of 16 bits.
    pub(crate) fn add_in(&mut self, network: [u8; 2]) -> Index {
        let (index, salt) = (self.contacts.len() as Index, self.next_salt());
        self.insert_at(salt, address_in(network, index))
    }

    fn next_salt(&self) -> u64 {
        mix(self.seed ^ mix(self.contacts.len() as u64))
    }

    /// One more peer whose id was tried out until its key shares at least `bits` leading bits with `target`: what a
    /// Sybil does. Takes 2^bits hashes; above 24 bits it takes the best of the first 2^25.
    pub(crate) fn add_near(&mut self, target: &Key, bits: u32, random: &mut Random) -> Index {
        let index = self.contacts.len() as Index;
        let mut best = (0, 0);
        for _ in 0..1u32 << 25 {
            let salt = random.bits();
            let shared = Key::from(&peer_of(index, salt)).common_prefix_len(target);
            if shared >= best.0 {
                best = (shared, salt);
            }
            if shared >= bits {
                break;
            }
        }
        self.insert(best.1)
    }

    fn insert(&mut self, salt: u64) -> Index {
        let index = self.contacts.len() as Index;
        let addr = self.networks.as_ref().map(|networks| networks.address(index, salt));
        self.insert_at(salt, addr.unwrap_or_else(|| address_of(index, salt)))
    }

    fn insert_at(&mut self, salt: u64, addr: Multiaddr) -> Index {
        let index = self.contacts.len() as Index;
        let peer = peer_of(index, salt);
        let key = Key::from(&peer);
        self.contacts.push(Contact::with_key(peer, key, [addr]));
        self.places.push(place(&key));
        index
    }

    /// The seed from which the ids were drawn.
    pub(crate) fn seed(&self) -> u64 {
        self.seed
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.contacts.len()
    }

    /// A peer as the others know it.
    pub(crate) fn contact(&self, index: Index) -> &Arc<Contact> {
        &self.contacts[index as usize]
    }

    /// The number of a peer; `None` for an id that nobody here has.
    pub(crate) fn index_of(&self, peer: &PeerId) -> Option<Index> {
        let digest = peer.as_ref().digest();
        let index = Index::from_be_bytes(digest.get(..4)?.try_into().ok()?);
        (self.contacts.get(index as usize)?.peer() == peer).then_some(index)
    }

    /// The number of a peer that a contact names.
    pub(crate) fn index(&self, contact: &Contact) -> Option<Index> {
        self.index_of(contact.peer())
    }

    /// The first 64 bits of a peer's key: enough to tell a million peers apart.
    pub(crate) fn place(&self, index: Index) -> u64 {
        self.places[index as usize]
    }

    /// Those of `peers`, in order of their keys.
    pub(crate) fn ranking(&self, peers: impl Iterator<Item = Index>) -> Ranking {
        let mut sorted: Vec<(u64, Index)> = peers.map(|index| (self.place(index), index)).collect();
        sorted.sort_unstable();
        Ranking { sorted }
    }
}

/// The first 64 bits of a key.
pub(crate) fn place(key: &Key) -> u64 {
    u64::from_be_bytes(key.to_bytes()[..8].try_into().unwrap_or_default())
}

/// Some peers in order of their keys.
#[derive(Clone, Default)]
pub(crate) struct Ranking {
    sorted: Vec<(u64, Index)>,
}

impl Ranking {
    /// How many.
    pub(crate) fn len(&self) -> usize {
        self.sorted.len()
    }

    /// The one at this position in order of keys.
    pub(crate) fn at(&self, position: usize) -> Index {
        self.sorted[position].1
    }

    /// The positions of those that share the first `bits` bits with `place`.
    pub(crate) fn sharing(&self, place: u64, bits: u32) -> Range<usize> {
        let mask = if bits == 0 { 0 } else { u64::MAX << (64 - bits.min(64)) };
        let (low, high) = (place & mask, place | !mask);
        let start = self.sorted.partition_point(|entry| entry.0 < low);
        let end = start + self.sorted[start..].partition_point(|entry| entry.0 <= high);
        start..end
    }

    /// The `n` closest to `place`, nearest first.
    pub(crate) fn closest(&self, place: u64, n: usize) -> Vec<Index> {
        // All who share a longer prefix are closer than all who do not: sort only the smallest group that suffices.
        let (mut low, mut high) = (0u32, 64u32);
        while low < high {
            let middle = (low + high).div_ceil(2);
            if self.sharing(place, middle).len() >= n {
                low = middle;
            } else {
                high = middle - 1;
            }
        }
        let mut group: Vec<(u64, Index)> =
            self.sorted[self.sharing(place, low)].iter().map(|(at, index)| (at ^ place, *index)).collect();
        group.sort_unstable();
        group.into_iter().take(n).map(|(_, index)| index).collect()
    }
}

/// An id that carries its owner's number, so that the number is found without a map.
#[expect(clippy::expect_used, reason = "an identity multihash of 12 bytes is a peer id")]
fn peer_of(index: Index, salt: u64) -> PeerId {
    // An identity multihash of 12 bytes: code 0, length, digest.
    let mut bytes = [0u8; 14];
    bytes[1] = 12;
    bytes[2..6].copy_from_slice(&index.to_be_bytes());
    bytes[6..14].copy_from_slice(&salt.to_be_bytes());
    PeerId::from_bytes(&bytes).expect("a well-formed multihash")
}

/// A public-looking address, spread over many networks.
fn address_of(index: Index, salt: u64) -> Multiaddr {
    let bits = mix(salt).to_be_bytes();
    let first = 11 + bits[0] % 80;
    let ip = std::net::Ipv4Addr::new(first, bits[1], (index >> 8) as u8 ^ bits[2], index as u8);
    Multiaddr::empty().with(multiaddr::Protocol::Ip4(ip)).with(multiaddr::Protocol::Tcp(4001))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_by_id_and_only_by_the_right_one() {
        let directory = Directory::new(3, 300);
        for index in [0, 1, 255, 299] {
            assert_eq!(directory.index(directory.contact(index)), Some(index));
            assert_eq!(*directory.contact(index).key(), Key::from(directory.contact(index).peer()));
        }
        assert_eq!(directory.index_of(&peer_of(300, 1)), None);
        assert_eq!(directory.index(Directory::new(4, 1).contact(0)), None, "same number, another id");
    }

    #[test]
    fn closest_agrees_with_sorting_everyone() {
        let directory = Directory::new(5, 500);
        let ranking = directory.ranking((0..500).filter(|i| i % 3 != 0));
        let mut random = Random::new(5, "test", 0);
        for n in [1, 20, 400] {
            let target = random.bits();
            let mut all: Vec<(u64, Index)> =
                (0..500).filter(|i| i % 3 != 0).map(|i| (directory.place(i) ^ target, i)).collect();
            all.sort_unstable();
            let expected: Vec<Index> = all.into_iter().take(n).map(|(_, i)| i).collect();
            assert_eq!(ranking.closest(target, n), expected);
        }
    }

    #[test]
    fn sybils_are_where_they_want_to_be() {
        let mut directory = Directory::new(6, 10);
        let target = Key::hash(b"victim");
        let sybil = directory.add_near(&target, 12, &mut Random::new(6, "sybil", 0));
        assert!(directory.contact(sybil).key().common_prefix_len(&target) >= 12);
        assert_eq!(directory.index(directory.contact(sybil)), Some(sybil));
    }
}
