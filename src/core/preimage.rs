//! Preimages of keys with a given prefix.
//!
//! Knows: a table. Must not know: what such a key is for.
//!
//! A FIND_NODE for one bucket needs bytes whose hash lies in it (rule A39), and a hash cannot be inverted. Trying takes
//! `2^bits` hashes: for 16 bits some 10 ms, in which a node does nothing else. So the search was made once and for all:
//! `preimages.bin` has for each of the 2^16 prefixes the lowest number whose preimage hashes there, in 3 bytes.
//! `tests/generated.rs` makes the file again and compares.
//!
//! Sixteen bits are enough: a lookup of a node's own id finds all that is nearer than its k closest neighbours, and up
//! to some twenty times 2^16 nodes these share at least 16 bits with it.
//!
//! *Dropped:* 760,000 hashes for the whole table at the first use (about 100 ms, and a state of the process).

use bytes::Bytes;
use rand_core::Rng;

use super::key::Key;

/// Number of leading bits for which preimages are known. Source: 192 KiB are 1 % of a program that speaks to this
/// network; each bit more doubles them.
pub(crate) const DEPTH: u32 = 16;

/// The bytes before the number: the header of a multihash of SHA-256, so that a preimage is a valid peer id, as peers
/// may expect. The same in `tests/generated.rs`.
const HEADER: [u8; 2] = [0x12, 0x20];
/// The length of a preimage.
const LEN: usize = 34;

static TABLE: &[u8; 3 << DEPTH] = include_bytes!("preimages.bin");

/// A key that shares at least the first `bits` bits with `key`, chosen at random from all prefixes there, and its
/// preimage. `None` beyond [`DEPTH`].
pub(crate) fn with_prefix(key: &Key, bits: u32, rng: &mut impl Rng) -> Option<(Key, Bytes)> {
    if bits > DEPTH {
        return None;
    }
    let free = ((1 << DEPTH) - 1) >> bits;
    let prefix = (key.head() >> (64 - DEPTH)) as u32;
    let preimage = preimage((prefix & !free) | (rng.next_u32() & free))?;
    Some((Key::hash(&preimage), Bytes::copy_from_slice(&preimage)))
}

/// A key that shares exactly the first `prefix` bits with `key`, so that it lies in that bucket of its table, and its
/// preimage. `None` from [`DEPTH`] on.
pub(crate) fn in_bucket(key: &Key, prefix: u32, rng: &mut impl Rng) -> Option<(Key, Bytes)> {
    with_prefix(&key.flipped(prefix), prefix.saturating_add(1), rng)
}

/// The bytes whose hash has this prefix.
fn preimage(prefix: u32) -> Option<[u8; LEN]> {
    let number = TABLE.chunks_exact(3).nth(prefix as usize)?;
    let mut preimage = [0; LEN];
    preimage[..HEADER.len()].copy_from_slice(&HEADER);
    preimage[LEN - 3..].copy_from_slice(number);
    Some(preimage)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand_chacha::ChaCha8Rng;
    use rand_core::SeedableRng;

    use super::*;

    #[test]
    fn every_prefix_of_every_depth_has_a_preimage_in_the_form_of_a_peer_id() {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        for _ in 0..50 {
            let local = Key::random(&mut rng);
            for bits in 0..=DEPTH {
                let (key, preimage) = with_prefix(&local, bits, &mut rng).unwrap();
                assert_eq!(Key::hash(&preimage), key);
                assert!(key.common_prefix_len(&local) >= bits);
                assert!(libp2p_identity::PeerId::from_bytes(&preimage).is_ok());
            }
            for prefix in 0..DEPTH {
                let (key, _) = in_bucket(&local, prefix, &mut rng).unwrap();
                assert_eq!(key.common_prefix_len(&local), prefix);
            }
        }
        assert_eq!(with_prefix(&Key::from_bits(""), DEPTH + 1, &mut rng), None);
        assert_eq!(in_bucket(&Key::from_bits(""), DEPTH, &mut rng), None);
        assert_eq!(in_bucket(&Key::from_bits(""), Key::BITS, &mut rng), None);
    }

    #[test]
    fn targets_in_one_bucket_differ_and_are_spread_over_all_of_it() {
        let mut rng = ChaCha8Rng::seed_from_u64(6);
        let local = Key::random(&mut rng);
        let keys: BTreeSet<_> = (0..200).filter_map(|_| in_bucket(&local, 3, &mut rng)).map(|(key, _)| key).collect();
        assert!(keys.len() > 180, "{} of 4,096", keys.len());
        for bit in 4..DEPTH {
            let ones = keys.iter().filter(|key| key.common_prefix_len(&key.flipped(bit)) == bit && bit_of(key, bit));
            assert!((60..140).contains(&ones.count()), "bit {bit}");
        }
    }

    fn bit_of(key: &Key, bit: u32) -> bool {
        key.head() >> (63 - bit) & 1 == 1
    }
}
