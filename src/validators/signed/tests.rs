//! Signed values: owner, newest value, and compare and swap.

use std::time::Duration;

use bytes::Bytes;
use libp2p_identity::{Keypair, ecdsa, secp256k1};
use proptest::prelude::*;

use super::*;

const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);
const LATER: Timestamp = Timestamp::from_secs(1_800_000_000);

fn keypair(seed: u8) -> Keypair {
    Keypair::ed25519_from_bytes([seed; 32]).unwrap()
}

fn value() -> Signed {
    Signed::new("hello").with_salt("profile").with_sequence(7).with_expiry(LATER)
}

fn bytes(signed: &Signed) -> Bytes {
    signed.sign(&keypair(1)).unwrap().1
}

fn check(key: &RecordKey, value: &[u8]) -> Result<(), InvalidValue> {
    SignedValues.validate(NOW, key, value).map(drop)
}

#[test]
fn a_signed_value_is_opened() {
    let swap = value().replacing(6);
    for signed in [value(), swap, Signed::new(""), Signed::new(vec![0; 5_000]).with_salt([0, b'/', 0xff].to_vec())] {
        let (key, bytes) = signed.sign(&keypair(1)).unwrap();
        assert_eq!(Signed::open(NOW, &key, &bytes), Ok(signed.clone()));
        let until = Some(signed.expires()).filter(|at| *at < Timestamp::MAX);
        let valid = SignedValues.validate(NOW, &key, &bytes);
        assert_eq!(valid, Ok(Valid { until, sequence: Some(signed.sequence()) }));
    }
}

#[test]
fn keys_are_text_and_name_the_peer() {
    let peer = keypair(1).public().to_peer_id();
    let (key, _) = value().sign(&keypair(1)).unwrap();
    assert_eq!(key, RecordKey::from(format!("/signed/{peer}/profile")));
    assert_eq!(key, Signed::key(&peer, "profile").unwrap());
    assert_eq!(Signed::key(&peer, [0; MAX_SALT_LEN + 1]), Err(SignError::SaltTooLong));
}

#[test]
fn the_envelope_is_as_documented() {
    let (key, bytes) = value().replacing(6).sign(&keypair(1)).unwrap();
    let mut head = vec![1, 1];
    head.extend(7_u64.to_be_bytes());
    head.extend(LATER.as_micros().to_be_bytes());
    head.extend(6_u64.to_be_bytes());
    let mut expected = head.clone();
    expected.extend([0, 64]);
    let len = u16::try_from(key.as_bytes().len()).unwrap().to_be_bytes();
    let signed = [b"libp2p-kad-dht/signed-value:", &len[..], key.as_bytes(), &head, b"hello"].concat();
    expected.extend(keypair(1).sign(&signed).unwrap());
    expected.extend(b"hello");
    assert_eq!(bytes, expected);
}

#[test]
fn every_kind_of_key_signs() {
    let secp256k1 = secp256k1::Keypair::from(secp256k1::SecretKey::try_from_bytes([3; 32]).unwrap());
    let ecdsa = ecdsa::Keypair::from(ecdsa::SecretKey::try_from_bytes([3; 32]).unwrap());
    // The first is in the name, the second comes with the value.
    for (keypair, embedded) in [(Keypair::from(secp256k1), false), (Keypair::from(ecdsa), true)] {
        let (key, bytes) = value().sign(&keypair).unwrap();
        assert_eq!(bytes[1] & PUBLIC_KEY != 0, embedded);
        assert_eq!(check(&key, &bytes), Ok(()));
        if embedded {
            let mut other = bytes.to_vec();
            other[30] ^= 1;
            assert_eq!(check(&key, &other), Err(InvalidValue::WrongKey), "another public key");
        }
    }
}

#[test]
fn a_key_that_the_name_contains_is_not_sent_again() {
    let public = keypair(1).public().encode_protobuf();
    let (key, bytes) = value().sign(&keypair(1)).unwrap();
    let mut envelope = Envelope::parse(&bytes).unwrap();
    envelope.public = Some(&public);
    let signature = keypair(1).sign(&envelope.signed(&key)).unwrap();
    envelope.signature = &signature;
    assert_eq!(check(&key, &envelope.encode().unwrap()), Err(InvalidValue::MalformedValue));
}

#[test]
fn a_value_is_valid_under_its_own_key_alone() {
    let (key, bytes) = value().sign(&keypair(1)).unwrap();
    assert_eq!(check(&key, &bytes), Ok(()));
    let peer = keypair(1).public().to_peer_id();
    let other_salt = Signed::key(&peer, "other").unwrap();
    assert_eq!(check(&other_salt, &bytes), Err(InvalidValue::BadSignature));
    let other_peer = Signed::key(&keypair(2).public().to_peer_id(), "profile").unwrap();
    assert_eq!(check(&other_peer, &bytes), Err(InvalidValue::BadSignature));
    for wrong in [
        format!("/signed/{peer}"),
        format!("/other/{peer}/profile"),
        format!("/signed//{peer}/profile"),
        format!("/signed/1{peer}/profile"),
        "/signed//profile".to_owned(),
        format!("/signed/{peer}/{}", "x".repeat(MAX_SALT_LEN + 1)),
        // The same id in its other form.
        "/signed/bafzaajaiaejcbzdibmxyzdjbbehgvizh6g5tvdrcgiakr4ouukdlatd2bwvnvpsx/profile".to_owned(),
        format!("/signed/{}/profile", "1".repeat(10_000)),
    ] {
        assert_eq!(check(&RecordKey::from(wrong.clone()), &bytes), Err(InvalidValue::MalformedKey), "{wrong}");
    }
}

#[test]
fn a_value_expires_at_its_expiry() {
    let (key, bytes) = value().sign(&keypair(1)).unwrap();
    let at = |at| SignedValues.validate(at, &key, &bytes).map(drop);
    assert_eq!(at(Timestamp::from_micros(LATER.as_micros() - 1)), Ok(()));
    assert_eq!(at(LATER), Err(InvalidValue::Expired));
}

#[test]
fn unknown_versions_and_flags_are_refused() {
    let (key, bytes) = value().sign(&keypair(1)).unwrap();
    for (at, byte) in [(0, 0), (0, 2), (1, 4), (1, 128)] {
        let mut bytes = bytes.to_vec();
        bytes[at] = byte;
        assert_eq!(check(&key, &bytes), Err(InvalidValue::MalformedValue), "{byte} at {at}");
    }
    for len in 0..bytes.len() {
        assert!(check(&key, &bytes[..len]).is_err(), "cut to {len}");
    }
}

#[test]
fn a_swap_must_go_up() {
    assert_eq!(value().replacing(7).sign(&keypair(1)), Err(SignError::NotAfter));
    assert_eq!(value().replacing(8).sign(&keypair(1)), Err(SignError::NotAfter));
    // A value that was signed nevertheless is not accepted either.
    let (key, bytes) = value().replacing(6).sign(&keypair(1)).unwrap();
    let mut envelope = Envelope::parse(&bytes).unwrap();
    envelope.replaces = Some(7);
    let signature = keypair(1).sign(&envelope.signed(&key)).unwrap();
    envelope.signature = &signature;
    assert_eq!(check(&key, &envelope.encode().unwrap()), Err(InvalidValue::MalformedValue));
}

#[test]
fn a_swap_is_refused_by_holders_of_a_later_value_than_it_replaces() {
    let (key, _) = value().sign(&keypair(1)).unwrap();
    let held = |sequence| bytes(&value().with_sequence(sequence));
    let succeeds = |held: &Bytes, new: &Signed| SignedValues.succeeds(&key, held, &bytes(new));
    let swap = value().with_sequence(9).replacing(6);
    assert!(succeeds(&held(6), &swap), "the one to replace");
    assert!(succeeds(&held(5), &swap), "the holder missed that one");
    assert!(!succeeds(&held(7), &swap), "another writer was faster");
    assert!(!succeeds(&held(9), &swap), "as far, and not the same");
    assert!(!succeeds(&held(10), &swap));
    assert!(succeeds(&held(7), &value().with_sequence(9)), "no swap");
}

/// For some kinds of keys, a stranger can change a signature so that it still verifies.
#[test]
fn values_that_differ_only_in_their_signatures_are_the_same() {
    let (key, value_bytes) = value().replacing(6).sign(&keypair(1)).unwrap();
    let mut variant = Envelope::parse(&value_bytes).unwrap();
    variant.signature = &[0xff; 80];
    let variant = Bytes::from(variant.encode().unwrap());
    assert!(SignedValues.same(&key, &value_bytes, &variant));
    let candidates = |values: [&Bytes; 2]| SignedValues.select(&key, &values.map(|value| Candidate::new(value, None)));
    assert_eq!((candidates([&value_bytes, &variant]), candidates([&variant, &value_bytes])), (0, 0));
    for other in [value(), value().replacing(5), value().replacing(6).with_expiry(NOW)] {
        assert!(!SignedValues.same(&key, &value_bytes, &bytes(&other)), "{other:?}");
    }
    assert!(!SignedValues.same(&key, b"", &value_bytes));
}

#[test]
fn the_newest_is_selected_by_sequence_then_expiry_then_value() {
    let key = RecordKey::from("/signed/peer/salt");
    let select = |values: &[&Bytes]| {
        let candidates: Vec<_> = values.iter().map(|value| Candidate::new(value, None)).collect();
        SignedValues.select(&key, &candidates)
    };
    let low = bytes(&Signed::new("z"));
    let high = bytes(&value().with_expiry(NOW));
    let late = bytes(&value());
    let swap = bytes(&value().replacing(0));
    assert_eq!((select(&[&low, &high]), select(&[&high, &low])), (1, 0));
    assert_eq!((select(&[&low, &high, &late]), select(&[&late, &high, &low])), (2, 0));
    assert_eq!((select(&[&swap, &late]), select(&[&late, &swap])), (0, 1));
    assert_eq!(select(&[&late, &late]), 0, "the first of equals");
    let rubbish = Bytes::from_static(&[0xff; 9]);
    assert_eq!((select(&[&rubbish, &low]), select(&[&low, &rubbish])), (1, 0));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(name: Vec<u8>, mut value: Vec<u8>, other: Vec<u8>, flags in 0..4_u8) {
        let keys = [
            RecordKey::from(name.clone()),
            RecordKey::from([PREFIX, &name].concat()),
            Signed::key(&keypair(1).public().to_peer_id(), "x").unwrap(),
        ];
        if let [version, second, ..] = &mut value[..] {
            (*version, *second) = (VERSION, flags);
        }
        for key in keys {
            prop_assert!(check(&key, &value).is_err());
            SignedValues.succeeds(&key, &other, &value);
            let (value, other) = (Bytes::from(value.clone()), Bytes::from(other.clone()));
            SignedValues.select(&key, &[Candidate::new(&value, None), Candidate::new(&other, None)]);
        }
    }

    #[test]
    fn a_changed_value_is_not_valid(at: prop::sample::Index, bits in 1..=255_u8, cut: bool, replaces: bool) {
        let signed = if replaces { value().replacing(3) } else { value() };
        let (key, bytes) = signed.sign(&keypair(1)).unwrap();
        let mut changed = bytes.to_vec();
        let at = at.index(bytes.len());
        changed[at] ^= bits;
        prop_assert!(check(&key, &changed).is_err(), "byte {at} ^ {bits}");
        let moved = if cut { bytes.slice(..at) } else { [&bytes[..at], &[bits], &bytes[at..]].concat().into() };
        prop_assert!(check(&key, &moved).is_err(), "{at}");
    }

    #[test]
    fn the_order_of_the_values_does_not_matter(
        ranks in prop::collection::vec((0..3_u64, 0..3_u64, 0..3_u8), 1..6),
        turn: prop::sample::Index,
    ) {
        let key = RecordKey::from("/signed/peer/salt");
        let values: Vec<Bytes> = ranks
            .iter()
            .map(|(sequence, end, value)| {
                let expires = LATER + Duration::from_secs(*end);
                bytes(&Signed::new(vec![*value]).with_sequence(*sequence).with_expiry(expires))
            })
            .collect();
        let select = |values: &[Bytes]| {
            let candidates: Vec<_> = values.iter().map(|value| Candidate::new(value, None)).collect();
            values[SignedValues.select(&key, &candidates)].clone()
        };
        let mut turned = values.clone();
        turned.rotate_left(turn.index(values.len()));
        let reversed: Vec<_> = values.iter().rev().cloned().collect();
        prop_assert_eq!(select(&turned), select(&values));
        prop_assert_eq!(select(&reversed), select(&values));
    }
}
