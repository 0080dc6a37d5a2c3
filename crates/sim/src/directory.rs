//! All peers of a simulation, by index, and global knowledge of the keyspace.
//!
//! Knows: ids, keys, addresses, order by key. Must not know: which peers are online or what they do. Nodes see only
//! contacts; the order by key is for setting a network up and for judging its answers.

use std::ops::Range;
use std::sync::Arc;

use libp2p_identity::PeerId;
use multiaddr::Multiaddr;

use super::address_model::{AddressModel, address_in};
use super::random::{Random, mix};
use libp2p_kad_dht::core::{Contact, Key};

/// The index of a peer in its [`Directory`]. Indices count up from 0.
pub type NodeIndex = u32;

/// All peers of a simulation, online or not: their ids, keys and addresses.
pub struct Directory {
    seed: u64,
    contacts: Vec<Arc<Contact>>,
    positions: Vec<u64>,
    /// The source of addresses; `None` for nearly as many /16 networks as peers.
    networks: Option<AddressModel>,
}

impl Directory {
    /// `n` peers with ids drawn from the seed, each in an IP network of its own as far as there are enough.
    pub fn new(seed: u64, n: usize) -> Directory {
        Directory::drawn(seed, n, None)
    }

    /// `n` peers with ids drawn from the seed and with addresses drawn from this model.
    pub fn with_addresses(seed: u64, n: usize, networks: AddressModel) -> Directory {
        Directory::drawn(seed, n, Some(networks))
    }

    fn drawn(seed: u64, n: usize, networks: Option<AddressModel>) -> Directory {
        let (contacts, positions) = (Vec::with_capacity(n), Vec::with_capacity(n));
        let mut directory = Directory { seed, contacts, positions, networks };
        for _ in 0..n {
            directory.add();
        }
        directory
    }

    /// Adds a peer with a new id; it is offline until it joins a network.
    pub fn add(&mut self) -> NodeIndex {
        let salt = self.next_salt();
        self.insert(salt)
    }

    /// Adds a peer with a new id and an address in this IPv4 /16 network.
    pub fn add_in_network(&mut self, network: [u8; 2]) -> NodeIndex {
        let (index, salt) = (self.contacts.len() as NodeIndex, self.next_salt());
        self.insert_at(salt, address_in(network, index))
    }

    fn next_salt(&self) -> u64 {
        mix(self.seed ^ mix(self.contacts.len() as u64))
    }

    /// Adds a peer whose key shares at least `bits` leading bits with `target`, as a Sybil makes one by trying ids.
    ///
    /// Takes about 2^bits hashes; after 2^25 it takes the best id so far.
    pub fn add_near(&mut self, target: &Key, bits: u32, random: &mut Random) -> NodeIndex {
        let index = self.contacts.len() as NodeIndex;
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

    fn insert(&mut self, salt: u64) -> NodeIndex {
        let index = self.contacts.len() as NodeIndex;
        let addr = self.networks.as_ref().map(|networks| networks.address(index, salt));
        self.insert_at(salt, addr.unwrap_or_else(|| public_addr(index, salt)))
    }

    fn insert_at(&mut self, salt: u64, addr: Multiaddr) -> NodeIndex {
        let index = self.contacts.len() as NodeIndex;
        let peer = peer_of(index, salt);
        let key = Key::from(&peer);
        self.contacts.push(Contact::with_key(peer, key, [addr]));
        self.positions.push(key_position(&key));
        index
    }

    /// The seed of the ids.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The number of peers.
    pub fn len(&self) -> usize {
        self.contacts.len()
    }

    /// Whether there are no peers.
    pub fn is_empty(&self) -> bool {
        self.contacts.is_empty()
    }

    /// The contact of a peer: its id, key and address.
    ///
    /// # Panics
    ///
    /// When there is no peer with this index.
    pub fn contact(&self, index: NodeIndex) -> &Arc<Contact> {
        &self.contacts[index as usize]
    }

    /// The index of the peer with this id; `None` if there is none.
    pub fn index_of(&self, peer: &PeerId) -> Option<NodeIndex> {
        let digest = peer.as_ref().digest();
        let index = NodeIndex::from_be_bytes(digest.get(..4)?.try_into().ok()?);
        (self.contacts.get(index as usize)?.peer() == peer).then_some(index)
    }

    /// The index of the peer of this contact; `None` if there is none.
    pub fn index(&self, contact: &Contact) -> Option<NodeIndex> {
        self.index_of(contact.peer())
    }

    /// The position of a peer in the keyspace: the first 64 bits of its key, enough to tell a million peers apart.
    ///
    /// # Panics
    ///
    /// When there is no peer with this index.
    pub fn position(&self, index: NodeIndex) -> u64 {
        self.positions[index as usize]
    }

    /// These peers in the order of their keys.
    pub fn sorted(&self, peers: impl Iterator<Item = NodeIndex>) -> SortedPeers {
        let mut sorted: Vec<(u64, NodeIndex)> = peers.map(|index| (self.position(index), index)).collect();
        sorted.sort_unstable();
        SortedPeers { sorted }
    }
}

/// The position of a key in the keyspace: its first 64 bits.
pub fn key_position(key: &Key) -> u64 {
    u64::from_be_bytes(key.to_bytes()[..8].try_into().unwrap_or_default())
}

/// Peers in the order of their keys: finds the true closest peers to a position.
#[derive(Clone, Debug, Default)]
pub struct SortedPeers {
    sorted: Vec<(u64, NodeIndex)>,
}

impl SortedPeers {
    /// The number of peers.
    pub fn len(&self) -> usize {
        self.sorted.len()
    }

    /// Whether there are no peers.
    pub fn is_empty(&self) -> bool {
        self.sorted.is_empty()
    }

    /// The peer with this rank in the order of keys.
    ///
    /// # Panics
    ///
    /// When `rank` is not below the number of peers.
    pub fn at(&self, rank: usize) -> NodeIndex {
        self.sorted[rank].1
    }

    /// The ranks of the peers that share the first `bits` bits with `position`.
    pub fn sharing(&self, position: u64, bits: u32) -> Range<usize> {
        let mask = if bits == 0 { 0 } else { u64::MAX << (64 - bits.min(64)) };
        let (low, high) = (position & mask, position | !mask);
        let start = self.sorted.partition_point(|entry| entry.0 < low);
        let end = start + self.sorted[start..].partition_point(|entry| entry.0 <= high);
        start..end
    }

    /// The `n` closest peers to `position`, the closest first.
    pub fn closest(&self, position: u64, n: usize) -> Vec<NodeIndex> {
        // Peers that share a longer prefix are closer than all others: sort only the smallest group that suffices.
        let (mut low, mut high) = (0u32, 64u32);
        while low < high {
            let middle = (low + high).div_ceil(2);
            if self.sharing(position, middle).len() >= n {
                low = middle;
            } else {
                high = middle - 1;
            }
        }
        let mut group: Vec<(u64, NodeIndex)> =
            self.sorted[self.sharing(position, low)].iter().map(|(at, index)| (at ^ position, *index)).collect();
        group.sort_unstable();
        group.into_iter().take(n).map(|(_, index)| index).collect()
    }
}

/// A peer id that contains the index of its peer, so that the index is found without a map.
#[expect(clippy::expect_used, reason = "an identity multihash of 12 bytes is a peer id")]
fn peer_of(index: NodeIndex, salt: u64) -> PeerId {
    // An identity multihash of 12 bytes: code 0, length, digest.
    let mut bytes = [0u8; 14];
    bytes[1] = 12;
    bytes[2..6].copy_from_slice(&index.to_be_bytes());
    bytes[6..14].copy_from_slice(&salt.to_be_bytes());
    PeerId::from_bytes(&bytes).expect("a well-formed multihash")
}

/// A public address, spread over many networks.
fn public_addr(index: NodeIndex, salt: u64) -> Multiaddr {
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
        let sorted = directory.sorted((0..500).filter(|i| i % 3 != 0));
        let mut random = Random::new(5, "test", 0);
        for n in [1, 20, 400] {
            let target = random.bits();
            let mut all: Vec<(u64, NodeIndex)> =
                (0..500).filter(|i| i % 3 != 0).map(|i| (directory.position(i) ^ target, i)).collect();
            all.sort_unstable();
            let expected: Vec<NodeIndex> = all.into_iter().take(n).map(|(_, i)| i).collect();
            assert_eq!(sorted.closest(target, n), expected);
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
