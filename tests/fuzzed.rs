//! Bytes of others, harmed in every way that a few random numbers choose: nothing panics, and what the entry points
//! assert holds. `fuzz/` calls the same entry points.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail as tests do")]

#[path = "fuzzed/entries.rs"]
mod entries;

use proptest::prelude::*;

const IPNS: &str = include_str!("validators/ipns.txt");

fn from_hex(hex: &str) -> Vec<u8> {
    hex.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn wire_seeds() -> Vec<Vec<u8>> {
    include_str!("fuzzed/wire.txt").lines().map(from_hex).collect()
}

/// The records of other implementations, each behind the length of its key and its key.
fn value_seeds() -> Vec<Vec<u8>> {
    let seed = |line: &str| {
        let words: Vec<_> = line.split(' ').collect();
        let [_, _, key, record] = words[..] else { return None };
        let key = from_hex(key);
        Some([&[u8::try_from(key.len()).ok()?], &key[..], &from_hex(record)].concat())
    };
    IPNS.lines().filter(|line| !line.starts_with('#')).filter_map(seed).collect()
}

fn snapshot_seeds() -> Vec<Vec<u8>> {
    vec![include_bytes!("fuzzed/snapshot.json").to_vec()]
}

/// One of these with up to eight bytes changed, removed or added, or any bytes at all.
fn harmed(seeds: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let harms = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4_u8), 0..8);
    let some = (prop::sample::select(seeds), harms).prop_map(|(mut bytes, harms)| {
        for (at, byte, how) in harms {
            let at = at.index(bytes.len() + 1);
            match how {
                0 => bytes.insert(at, byte),
                1 => bytes.truncate(at.max(1)),
                _ if at == bytes.len() => bytes.push(byte),
                2 => drop(bytes.remove(at)),
                _ => bytes[at] = byte,
            }
        }
        bytes
    });
    prop_oneof![4 => some, 1 => prop::collection::vec(any::<u8>(), 0..300)]
}

#[test]
fn the_seeds_are_good() {
    assert!(value_seeds().iter().filter(|seed| entries::values(seed) == Some(Ok(()))).count() >= 5);
    assert_eq!(entries::snapshot(&snapshot_seeds()[0]), Some(2));
    wire_seeds().iter().for_each(|seed| entries::wire(seed));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn any_message_is_read_or_refused(bytes in harmed(wire_seeds())) {
        entries::wire(&bytes);
    }

    #[test]
    fn any_saved_table_is_read_or_refused(bytes in harmed(snapshot_seeds())) {
        entries::snapshot(&bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn any_value_is_valid_or_not(bytes in harmed(value_seeds())) {
        entries::values(&bytes);
    }
}
