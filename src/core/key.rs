//! The keyspace: keys, distances, and the arithmetic of prefixes.
//!
//! Knows: SHA-256 and XOR. Must not know: what a key stands for.

use std::fmt;

use libp2p_identity::PeerId;
use rand_core::Rng;
use sha2::{Digest, Sha256};

/// A point in the 256-bit keyspace: SHA-256 of a peer id or of a record key (rules A15 and A53).
///
/// Kept as four words, most significant first, so that a comparison of distances is four subtractions.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key([u64; 4]);

impl Key {
    /// Number of bits of a key.
    pub const BITS: u32 = 256;

    /// The key of `preimage`: its SHA-256.
    pub fn hash(preimage: &[u8]) -> Key {
        let digest: [u8; 32] = Sha256::digest(preimage).into();
        Key::from_bytes(digest)
    }

    /// A key from its 32 bytes, most significant first.
    pub const fn from_bytes(bytes: [u8; 32]) -> Key {
        let mut words = [0u64; 4];
        let mut i = 0;
        while i < 32 {
            words[i / 8] = (words[i / 8] << 8) | bytes[i] as u64;
            i += 1;
        }
        Key(words)
    }

    /// The 32 bytes of the key, most significant first.
    pub fn to_bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (chunk, word) in bytes.chunks_exact_mut(8).zip(self.0) {
            chunk.copy_from_slice(&word.to_be_bytes());
        }
        bytes
    }

    /// A key from its leading bits, the rest zero: `"0100"` is the point one quarter into the keyspace.
    ///
    /// For tests and simulations with visible distances. Characters other than `0` and `1` are skipped, bits after the
    /// 256th ignored.
    #[cfg(any(test, feature = "testing"))]
    pub fn from_bits(bits: &str) -> Key {
        let mut words = [0u64; 4];
        for (i, bit) in bits.chars().filter(|c| matches!(c, '0' | '1')).take(256).enumerate() {
            if bit == '1' {
                words[i / 64] |= 1 << (63 - i % 64);
            }
        }
        Key(words)
    }

    /// The XOR distance between two keys (rule L2).
    pub const fn distance(&self, other: &Key) -> Distance {
        let (a, b) = (&self.0, &other.0);
        Distance([a[0] ^ b[0], a[1] ^ b[1], a[2] ^ b[2], a[3] ^ b[3]])
    }

    /// Number of leading bits that two keys share: 256 for equal keys.
    pub const fn common_prefix_len(&self, other: &Key) -> u32 {
        self.distance(other).leading_zeros()
    }

    /// The key at `distance` from this one.
    pub const fn at(&self, distance: &Distance) -> Key {
        let (a, d) = (&self.0, &distance.0);
        Key([a[0] ^ d[0], a[1] ^ d[1], a[2] ^ d[2], a[3] ^ d[3]])
    }

    /// The first 64 bits: enough to tell peers apart, and to see where in the keyspace a key lies.
    pub const fn head(&self) -> u64 {
        self.0[0]
    }

    /// The next lower key; `None` for zero.
    pub const fn before(&self) -> Option<Key> {
        let mut words = self.0;
        let mut i = 4;
        while i > 0 {
            i -= 1;
            let (word, borrowed) = words[i].overflowing_sub(1);
            words[i] = word;
            if !borrowed {
                return Some(Key(words));
            }
        }
        None
    }

    /// The same key with one bit flipped, counted from 0; from bit 256 on, the same key.
    pub const fn flipped(&self, bit: u32) -> Key {
        let mut words = self.0;
        if bit < Key::BITS {
            words[(bit / 64) as usize] ^= 1 << (63 - bit % 64);
        }
        Key(words)
    }

    /// A uniformly random key.
    pub fn random(rng: &mut impl Rng) -> Key {
        Key([rng.next_u64(), rng.next_u64(), rng.next_u64(), rng.next_u64()])
    }

    /// A random key that shares exactly `prefix` leading bits with this one.
    ///
    /// This makes a target inside one bucket. From a prefix of 256 on it is the same key.
    pub fn random_with_prefix(&self, prefix: u32, rng: &mut impl Rng) -> Key {
        if prefix >= Key::BITS {
            return *self;
        }
        let mut words = Key::random(rng).0;
        for (i, word) in words.iter_mut().enumerate() {
            let first_bit = i as u32 * 64;
            let kept = prefix.saturating_sub(first_bit).min(64);
            let mask = if kept == 0 { 0 } else { u64::MAX << (64 - kept) };
            *word = (self.0[i] & mask) | (*word & !mask);
        }
        let (word, bit) = ((prefix / 64) as usize, 1u64 << (63 - prefix % 64));
        words[word] = (words[word] & !bit) | (!self.0[word] & bit);
        Key(words)
    }
}

impl Key {
    /// Sorts peers by their distance to this key, the nearest first.
    ///
    /// ```
    /// # use libp2p_kad_dht::Key;
    /// # use libp2p_identity::PeerId;
    /// let mut peers = vec![PeerId::random(), PeerId::random()];
    /// Key::hash(b"/my-app/greeting").sort_by_distance(&mut peers);
    /// ```
    pub fn sort_by_distance<T>(&self, peers: &mut [T])
    where
        for<'a> Key: From<&'a T>,
    {
        peers.sort_by_cached_key(|peer| Key::from(peer).distance(self));
    }
}

impl From<&PeerId> for Key {
    fn from(peer: &PeerId) -> Key {
        Key::hash(&IdBytes::of(peer))
    }
}

/// A peer id in binary form, without an allocation.
pub(crate) struct IdBytes {
    bytes: [u8; IdBytes::MAX],
    len: usize,
}

impl IdBytes {
    /// The longest id that can be made: a digest of 64 bytes, its length, and the code of the hash.
    const MAX: usize = 75;

    pub(crate) fn of(peer: &PeerId) -> IdBytes {
        let mut bytes = [0; IdBytes::MAX];
        let mut room = &mut bytes[..];
        // It fits: if it did not, no byte of it would count.
        let len = peer.as_ref().write(&mut room).unwrap_or_default();
        IdBytes { bytes, len }
    }
}

impl std::ops::Deref for IdBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl From<PeerId> for Key {
    fn from(peer: PeerId) -> Key {
        Key::from(&peer)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({self})")
    }
}

impl fmt::Display for Key {
    /// The first 16 hexadecimal digits: enough to tell two keys apart in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0[0])
    }
}

/// The XOR distance between two keys; the nearest is the smallest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Distance([u64; 4]);

impl Distance {
    /// The distance of a key to itself.
    pub const ZERO: Distance = Distance([0; 4]);
    /// The greatest possible distance.
    pub const MAX: Distance = Distance([u64::MAX; 4]);

    /// Number of leading zero bits: the length of the prefix that the two keys share.
    pub const fn leading_zeros(&self) -> u32 {
        let mut i = 0;
        while i < 4 {
            if self.0[i] != 0 {
                return i as u32 * 64 + self.0[i].leading_zeros();
            }
            i += 1;
        }
        Key::BITS
    }

    /// The greatest distance whose first `prefix` bits are those of this one.
    pub fn at_most(&self, prefix: u32) -> Distance {
        let mut words = self.0;
        for (i, word) in words.iter_mut().enumerate() {
            *word |= tail(i, prefix);
        }
        Distance(words)
    }

    /// The smallest distance whose first `prefix` bits are those of this one.
    pub fn at_least(&self, prefix: u32) -> Distance {
        let mut words = self.0;
        for (i, word) in words.iter_mut().enumerate() {
            *word &= !tail(i, prefix);
        }
        Distance(words)
    }

    /// The distance as a fraction of the keyspace, from 0 to 1, with the precision of an `f64`.
    pub fn as_fraction(&self) -> f64 {
        const WORD: f64 = 18_446_744_073_709_551_616.0;
        (self.0[0] as f64 + self.0[1] as f64 / WORD) / WORD
    }
}

/// A mask of the bits of the `i`th word that come after the first `prefix` bits of the whole key.
fn tail(i: usize, prefix: u32) -> u64 {
    let kept = prefix.saturating_sub(i as u32 * 64).min(64);
    u64::MAX.checked_shr(kept).unwrap_or(0)
}

impl fmt::Debug for Distance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Distance({:016x})", self.0[0])
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha8Rng;
    use rand_core::SeedableRng;

    use super::*;

    fn hex(s: &str) -> Vec<u8> {
        (0..s.len()).step_by(2).map(|i| u8::from_str_radix(&s[i..i + 2], 16).unwrap()).collect()
    }

    /// The vectors of the IPFS Kademlia specification, rules A15 and A41.
    #[test]
    fn vectors_of_the_amino_spec() {
        let peer = hex("0024080112209e3b433cbd31c2b8a6ebbdca998bd0f4c2141c9c9af5422e976051b1e63af14d");
        let id = hex("e43d28f0996557c0d5571d75c62a57a59d7ac1d30a51ecedcdb9d5e4afa56100");
        assert_eq!(Key::from(&PeerId::from_bytes(&peer).unwrap()).to_bytes().to_vec(), id);
        let multihash = hex("1220e536c7f88d731f374dccb568aff6f56e838a19382e488039b1ca8ad2599e82fe");
        let id = hex("d623250f3f660ab4c3a53d3c97b3f6a0194c548053488d093520206248253bcb");
        assert_eq!(Key::hash(&multihash).to_bytes().to_vec(), id);
    }

    #[test]
    fn ids_have_the_bytes_that_they_were_read_from() {
        for len in 0..=42 {
            let id = [vec![0, len as u8], vec![7; len]].concat();
            assert_eq!(*IdBytes::of(&PeerId::from_bytes(&id).unwrap()), id[..]);
        }
        for len in [0, 32, 64] {
            let id = [vec![0x12, len as u8], vec![7; len]].concat();
            assert_eq!(*IdBytes::of(&PeerId::from_bytes(&id).unwrap()), id[..]);
        }
    }

    #[test]
    fn distance_orders_like_the_number_it_is() {
        let zero = Key::from_bits("");
        assert!(zero.distance(&Key::from_bits("01")) < zero.distance(&Key::from_bits("10")));
        assert_eq!(zero.common_prefix_len(&Key::from_bits("0001")), 3);
        assert_eq!(zero.common_prefix_len(&zero), 256);
        let mut last = [0u8; 32];
        last[31] = 1;
        assert_eq!(zero.common_prefix_len(&Key::from_bytes(last)), 255);
        assert_eq!(zero.distance(&Key::from_bits("1")).as_fraction(), 0.5);
    }

    #[test]
    fn a_random_key_with_a_prefix_shares_exactly_that() {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let own = Key::random(&mut rng);
        for prefix in 0..256 {
            let key = own.random_with_prefix(prefix, &mut rng);
            assert_eq!(own.common_prefix_len(&key), prefix);
        }
        assert_eq!(own.random_with_prefix(256, &mut rng), own);
    }

    #[test]
    fn neighbours_flips_and_tails() {
        let key = Key::from_bits("0100");
        assert_eq!(key.flipped(1), Key::from_bits(""));
        assert_eq!(key.flipped(255).before(), Some(key));
        assert_eq!(Key::from_bits("").before(), None);
        let before = key.before().unwrap();
        assert_eq!((before.common_prefix_len(&key), before.head()), (1, (1 << 62) - 1));
        let distance = Key::from_bits("").distance(&Key::from_bits("0101"));
        assert_eq!(distance.at_most(256), distance);
        assert_eq!(distance.at_most(0), Distance::MAX);
        assert_eq!(distance.at_least(0), Distance::ZERO);
        assert_eq!(distance.at_least(2), Key::from_bits("").distance(&Key::from_bits("01")));
        assert!(distance.at_most(3) > distance && distance.at_most(3).leading_zeros() == 1);
        assert_eq!(distance.at_most(70).at_least(70), distance);
    }

    #[test]
    fn bytes_and_distance_round_trip() {
        let mut rng = ChaCha8Rng::seed_from_u64(8);
        let (a, b) = (Key::random(&mut rng), Key::random(&mut rng));
        assert_eq!(Key::from_bytes(a.to_bytes()), a);
        assert_eq!(a.at(&a.distance(&b)), b);
    }
}
