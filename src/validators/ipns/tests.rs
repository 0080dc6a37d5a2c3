//! Invalid records that no honest implementation makes.

use std::time::Duration;

use bytes::Bytes;
use ipld_core::ipld::Ipld;
use libp2p_identity::Keypair;
use proptest::prelude::*;
use prost::Message as _;

use super::pb::IpnsEntry;
use super::*;
use crate::validators::SignError;

const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);
const LATER: Timestamp = Timestamp::from_secs(1_800_000_000);
const VALUE: &str = "/ipfs/bafkreifjjcie6lypi6ny7amxnfftagclbuxndqonfipmb64f2km2devei4";

fn keypair() -> Keypair {
    Keypair::ed25519_from_bytes([7; 32]).unwrap()
}

fn entry(sequence: u64, expires: Timestamp) -> IpnsRecord {
    IpnsRecord::new(VALUE, sequence, expires, Duration::from_secs(300))
}

/// A record of this document, with a good signature.
fn record_of(data: &[u8]) -> (RecordKey, Vec<u8>) {
    let signature = keypair().sign(&signed(data)).unwrap();
    let entry =
        IpnsEntry { signature_v2: Some(signature.into()), data: Some(data.to_vec().into()), ..IpnsEntry::default() };
    (key(&keypair().public().to_peer_id()), entry.encode_to_vec())
}

fn check(now: Timestamp, key: &RecordKey, record: &[u8]) -> Result<(), InvalidValue> {
    Ipns.validate(now, key, record).map(drop)
}

/// The verdict on a record whose document was changed before it was signed.
fn verdict_on(change: impl FnOnce(&mut std::collections::BTreeMap<String, Ipld>)) -> Result<(), InvalidValue> {
    let document = Document::new(VALUE.into(), 7, LATER, 300).encode().unwrap();
    let Ipld::Map(mut fields) = serde_ipld_dagcbor::from_slice(&document).unwrap() else { unreachable!() };
    change(&mut fields);
    let (key, record) = record_of(&serde_ipld_dagcbor::to_vec(&Ipld::Map(fields)).unwrap());
    check(NOW, &key, &record)
}

#[test]
fn the_document_is_written_in_the_order_of_dag_cbor() {
    let document = Document::new("v".into(), 1, Timestamp::from_micros(1_000_001), 2).encode().unwrap();
    let mut expected = vec![0xa5];
    expected.extend(b"\x63TTL\x02\x65Value\x41v\x68Sequence\x01\x68Validity\x58\x1e1970-01-01T00:00:01.000001000Z");
    expected.extend(b"\x6cValidityType\x00");
    assert_eq!(document, expected);
}

#[test]
fn a_signed_record_is_read() {
    for (key, record) in [entry(7, LATER).sign(&keypair()).unwrap(), entry(7, LATER).sign_v2_only(&keypair()).unwrap()]
    {
        let read = IpnsRecord::open(NOW, &key, &record).unwrap();
        assert_eq!(read, entry(7, LATER));
        assert_eq!((&read.value()[..], read.sequence(), read.expires()), (VALUE.as_bytes(), 7, LATER));
        assert_eq!(read.ttl(), Duration::from_secs(300));
        assert_eq!(Ipns.validate(NOW, &key, &record), Ok(Valid { until: Some(LATER), sequence: Some(7) }));
    }
}

#[test]
fn a_record_expires_at_its_end() {
    let (key, record) = entry(7, LATER).sign(&keypair()).unwrap();
    let micro = Duration::from_micros(1);
    assert_eq!(check(Timestamp::from_micros(LATER.as_micros() - 1), &key, &record), Ok(()));
    assert_eq!(check(LATER, &key, &record), Err(InvalidValue::Expired));
    assert_eq!(check(LATER + micro, &key, &record), Err(InvalidValue::Expired));
    let (key, record) = entry(7, Timestamp::MAX).sign(&keypair()).unwrap();
    let end = IpnsRecord::open(NOW, &key, &record).unwrap().expires();
    assert_eq!(end.as_secs(), 253_402_300_799, "the end of year 9999");
}

#[test]
fn the_key_must_be_the_name_in_binary() {
    let (key, record) = entry(7, LATER).sign(&keypair()).unwrap();
    let peer = keypair().public().to_peer_id();
    for wrong in [
        RecordKey::from(format!("/ipns/{peer}")),
        RecordKey::from("/ipns/"),
        RecordKey::from([b"/pk/", &peer.to_bytes()[..]].concat()),
        RecordKey::from([key.as_bytes(), b"/"].concat()),
        RecordKey::from(&key.as_bytes()[..key.as_bytes().len() - 1]),
    ] {
        assert_eq!(check(NOW, &wrong, &record), Err(InvalidValue::MalformedKey), "{wrong}");
    }
}

#[test]
fn records_above_10_kib_are_refused_before_they_are_read() {
    let of_len = |len| IpnsRecord::new(vec![b'/'; len], 0, LATER, Duration::ZERO).sign_v2_only(&keypair());
    let overhead = of_len(9_000).unwrap().1.len() - 9_000;
    let (key, longest) = of_len(MAX_LEN - overhead).unwrap();
    assert_eq!((longest.len(), check(NOW, &key, &longest)), (MAX_LEN, Ok(())));
    assert_eq!(of_len(MAX_LEN - overhead + 1), Err(SignError::TooLarge));
    // One byte too many, though otherwise valid: an unknown field.
    let long = [&longest[..], &[0x50, 0]].concat();
    assert_eq!(check(NOW, &key, &long), Err(InvalidValue::TooLarge { limit: MAX_LEN }));
    assert_eq!(check(NOW, &key, &vec![0xff; MAX_LEN + 1]), Err(InvalidValue::TooLarge { limit: MAX_LEN }));
}

#[test]
fn every_field_of_the_document_is_required_and_others_are_ignored() {
    assert_eq!(verdict_on(|_| {}), Ok(()));
    for name in ["Value", "Validity", "ValidityType", "Sequence", "TTL"] {
        let verdict = verdict_on(|fields| drop(fields.remove(name)));
        assert_eq!(verdict, Err(InvalidValue::MalformedValue), "without {name}");
        let verdict = verdict_on(|fields| drop(fields.insert(name.into(), Ipld::String("text".into()))));
        assert_eq!(verdict, Err(InvalidValue::MalformedValue), "{name} of another kind");
    }
    let nested = Ipld::List(vec![Ipld::Null, Ipld::Map([("a".into(), Ipld::Float(0.5))].into())]);
    assert_eq!(verdict_on(|fields| drop(fields.insert("x".into(), nested))), Ok(()));
}

#[test]
fn numbers_and_times_out_of_range_are_refused() {
    let malformed = Err(InvalidValue::MalformedValue);
    let with = |name: &str, value: Ipld| verdict_on(|fields| drop(fields.insert(name.into(), value)));
    assert_eq!(with("TTL", Ipld::Integer(-1)), malformed);
    assert_eq!(with("Sequence", Ipld::Integer(-1)), malformed);
    assert_eq!(with("Sequence", Ipld::Integer(u64::MAX.into())), Ok(()));
    assert_eq!(with("ValidityType", Ipld::Integer(1)), malformed);
    let validity = |text: &str| with("Validity", Ipld::Bytes(text.as_bytes().to_vec()));
    assert_eq!(validity("2024-01-01T00:00:00.000000001Z"), Ok(()));
    assert_eq!(validity("2024-01-01T00:00:00Z"), Ok(()));
    assert_eq!(validity("2024-01-01T01:00:00+01:00"), Ok(()));
    assert_eq!(validity("2023-11-14T22:13:20.000000001Z"), Ok(()), "a nanosecond after now");
    assert_eq!(validity("2023-11-14T22:13:20Z"), Err(InvalidValue::Expired));
    assert_eq!(validity("0000-01-01T00:00:00Z"), Err(InvalidValue::Expired));
    for wrong in ["", "2024", "2024-13-01T00:00:00Z", "2024-01-01T00:00:00", "2024-01-01", "\u{ff}"] {
        assert_eq!(validity(wrong), malformed, "{wrong}");
    }
}

#[test]
fn documents_that_are_not_canonical_are_refused() {
    let document = Document::new("v".into(), 1, LATER, 2).encode().unwrap();
    let verdict = |data: &[u8]| {
        let (key, record) = record_of(data);
        check(NOW, &key, &record)
    };
    assert_eq!(verdict(&document), Ok(()));
    let (ttl, rest) = document[1..].split_at(5);
    let rewritten: [(&str, Vec<u8>); 7] = [
        ("trailing bytes", [&document[..], &[0]].concat()),
        ("another order", [&[0xa5], rest, ttl].concat()),
        ("a key twice", [&[0xa6], ttl, ttl, rest].concat()),
        ("a number longer than need be", [&[0xa5], &b"\x63TTL\x18\x02"[..], rest].concat()),
        ("indefinite length", [&[0xbf], ttl, rest, &[0xff]].concat()),
        ("no map", vec![0x80]),
        ("deeper than anyone needs", vec![0x81; 10_000]),
    ];
    for (what, data) in rewritten {
        assert_eq!(verdict(&data), Err(InvalidValue::MalformedValue), "{what}");
    }
}

#[test]
fn a_signature_for_another_purpose_is_none() {
    let document = Document::new("v".into(), 1, LATER, 2).encode().unwrap();
    let (key, record) = record_of(&document);
    let mut entry = IpnsEntry::decode(&record[..]).unwrap();
    entry.signature_v2 = Some(keypair().sign(&document).unwrap().into());
    assert_eq!(check(NOW, &key, &entry.encode_to_vec()), Err(InvalidValue::BadSignature));
    // A good signature in the place of the first version's does not help.
    entry.signature_v1 = Some(keypair().sign(&signed(&document)).unwrap().into());
    assert_eq!(check(NOW, &key, &entry.encode_to_vec()), Err(InvalidValue::BadSignature));
}

#[test]
fn the_newest_is_selected_by_sequence_then_end_then_what_is_signed() {
    let sign = |sequence, expires| entry(sequence, expires).sign(&keypair()).unwrap().1;
    let key = key(&keypair().public().to_peer_id());
    let other = IpnsRecord::new("/ipfs/other", 3, LATER, Duration::ZERO).sign(&keypair()).unwrap().1;
    let (low, high, late) = (sign(2, Timestamp::MAX), sign(3, NOW), sign(3, LATER));
    let select = |values: &[&Bytes]| {
        let candidates: Vec<_> = values.iter().map(|value| Candidate::new(value, None)).collect();
        Ipns.select(&key, &candidates)
    };
    assert_eq!(select(&[&low, &high]), 1);
    assert_eq!(select(&[&high, &low]), 0);
    assert_eq!(select(&[&late, &high, &low]), 0);
    assert_eq!(select(&[&low, &high, &late]), 2);
    assert_eq!(select(&[&late, &late]), 0, "the first of equals");
    assert_eq!(select(&[&late, &other]), 1 - select(&[&other, &late]), "by what is signed");
    let rubbish = Bytes::from_static(&[0xff; 9]);
    assert_eq!((select(&[&rubbish, &low]), select(&[&low, &rubbish])), (1, 0));
}

/// Variants of a record that a stranger can make without the owner's key.
fn variants(record: &Bytes) -> [Bytes; 4] {
    let entry = IpnsEntry::decode(&record[..]).unwrap();
    let v2 = IpnsEntry { signature_v2: entry.signature_v2.clone(), data: entry.data.clone(), ..IpnsEntry::default() };
    let first = IpnsEntry { signature_v1: Some(vec![0xff; 5_000].into()), ..entry.clone() };
    let numbered = IpnsEntry { sequence: Some(u64::MAX), ..v2.clone() };
    // Field 100, which is unknown.
    let padding = vec![0; MAX_LEN - record.len() - 5];
    let unknown =
        [&record[..], &[0xa2, 0x06, (padding.len() % 128) as u8 | 128, (padding.len() / 128) as u8], &padding];
    [unknown.concat(), v2.encode_to_vec(), first.encode_to_vec(), numbered.encode_to_vec()].map(Bytes::from)
}

#[test]
fn nothing_unsigned_decides_anything() {
    let ((key, record), (_, other)) =
        (entry(3, LATER).sign(&keypair()).unwrap(), entry(4, LATER).sign(&keypair()).unwrap());
    for variant in variants(&record) {
        assert_eq!(check(NOW, &key, &variant), Ok(()));
        assert_eq!(Ipns.validate(NOW, &key, &variant), Ipns.validate(NOW, &key, &record));
        assert!(Ipns.same(&key, &variant, &record));
        assert!(!Ipns.same(&key, &variant, &other));
        let select = |values: [&Bytes; 2]| Ipns.select(&key, &values.map(|value| Candidate::new(value, None)));
        assert_eq!((select([&record, &variant]), select([&variant, &record])), (0, 0));
        assert_eq!((select([&other, &variant]), select([&variant, &other])), (0, 1));
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(name: Vec<u8>, value: Vec<u8>, other: Vec<u8>) {
        let keys = [RecordKey::from([PREFIX, &name].concat()), key(&keypair().public().to_peer_id())];
        for key in keys {
            prop_assert!(Ipns.validate(NOW, &key, &value).is_err());
            let (value, other) = (Bytes::from(value.clone()), Bytes::from(other.clone()));
            Ipns.select(&key, &[Candidate::new(&value, None), Candidate::new(&other, None)]);
        }
    }

    #[test]
    fn no_document_makes_it_panic(data: Vec<u8>) {
        let (key, record) = record_of(&data);
        prop_assert!(Ipns.validate(NOW, &key, &record).is_err());
    }

    /// In a record of the second version every byte counts.
    #[test]
    fn a_changed_record_is_not_valid(at: prop::sample::Index, bits in 1..=255_u8) {
        let (key, record) = entry(7, LATER).sign_v2_only(&keypair()).unwrap();
        let mut record = record.to_vec();
        let at = at.index(record.len());
        record[at] ^= bits;
        prop_assert!(Ipns.validate(NOW, &key, &record).is_err(), "byte {at} ^ {bits}");
    }

    #[test]
    fn the_order_of_the_values_does_not_matter(
        ranks in prop::collection::vec((0..3_u64, 0..3_u64, 0..3_u8), 1..6),
        turn: prop::sample::Index,
    ) {
        let key = key(&keypair().public().to_peer_id());
        let records: Vec<Bytes> = ranks
            .iter()
            .map(|(sequence, end, value)| {
                let expires = LATER + Duration::from_secs(*end);
                IpnsRecord::new(vec![*value], *sequence, expires, Duration::ZERO).sign_v2_only(&keypair()).unwrap().1
            })
            .collect();
        let select = |records: &[Bytes]| {
            let candidates: Vec<_> = records.iter().map(|value| Candidate::new(value, None)).collect();
            let best = Ipns.select(&key, &candidates);
            prop_assert!(!records[..best].contains(&records[best]), "not the first of equals");
            Ok(records[best].clone())
        };
        let mut turned = records.clone();
        turned.rotate_left(turn.index(records.len()));
        let mut reversed = records.clone();
        reversed.reverse();
        let best = select(&records)?;
        prop_assert_eq!(&select(&turned)?, &best);
        prop_assert_eq!(&select(&reversed)?, &best);
    }
}
