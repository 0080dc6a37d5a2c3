//! IPNS records of other implementations are valid or invalid exactly as specified, and ours are valid for them.
//!
//! `tests/validators/ipns.txt` was printed by boxo 0.43 and js-ipns 10.1 (`tests/interop/peers`, `go run ./ipns make`
//! and `node ipns.mjs make`): a name, the verdict, the key and the record in hexadecimal. The first six are those of
//! the specification's section "Test Vectors". `OURS=FILE cargo test --test validators` writes records of this crate in
//! the same form, for `check` of the other two.
#![cfg(feature = "validators")]

use std::error::Error;
use std::fmt::Write as _;
use std::time::Duration;
use std::{env, fs};

use libp2p_identity::{Keypair, ecdsa, secp256k1};
use libp2p_kad_dht::validators::IpnsRecord;
use libp2p_kad_dht::{InvalidValue, Namespaced, RecordKey, Timestamp, Validator};

const VECTORS: &str = include_str!("validators/ipns.txt");
/// A time at which all records are valid that should not have expired.
const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);
const FAR: Timestamp = Timestamp::from_secs(4_900_000_000);
const VALUE: &str = "/ipfs/bafkreifjjcie6lypi6ny7amxnfftagclbuxndqonfipmb64f2km2devei4";

struct Vector {
    name: &'static str,
    verdict: Result<(), InvalidValue>,
    key: RecordKey,
    record: Vec<u8>,
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    hex.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

fn vector(line: &'static str) -> Option<Vector> {
    let words: Vec<_> = line.split(' ').collect();
    let [name, verdict, key, record] = words[..] else { return None };
    let verdict = match verdict {
        "valid" => Ok(()),
        "malformed" => Err(InvalidValue::MalformedValue),
        "bad-signature" => Err(InvalidValue::BadSignature),
        "wrong-key" => Err(InvalidValue::WrongKey),
        "expired" => Err(InvalidValue::Expired),
        _ => return None,
    };
    Some(Vector { name, verdict, key: RecordKey::from(bytes(key)?), record: bytes(record)? })
}

fn vectors() -> Vec<Vector> {
    VECTORS.lines().filter_map(vector).collect()
}

#[test]
fn records_of_other_implementations_are_valid_or_invalid_as_specified() {
    let vectors = vectors();
    assert_eq!(vectors.len(), 25);
    for Vector { name, verdict, key, record } in vectors {
        assert_eq!(Namespaced::public().validate(NOW, &key, &record).map(drop), verdict, "{name}");
        assert_eq!(IpnsRecord::open(NOW, &key, &record).map(drop), verdict, "{name}");
    }
}

#[test]
fn records_of_others_are_read() {
    for Vector { name, key, record, .. } in vectors().into_iter().filter(|vector| vector.verdict.is_ok()) {
        let entry = IpnsRecord::open(NOW, &key, &record).unwrap();
        assert_eq!(&entry.value()[..], VALUE.as_bytes(), "{name}");
        assert_eq!(entry.sequence(), if name == "sequence-0" { 0 } else { 7 }, "{name}");
        assert_eq!(entry.ttl(), Duration::from_secs(300), "{name}");
        assert_eq!(entry.expires().as_secs(), 4_922_996_645, "{name}: 2126-01-02T03:04:05Z");
    }
}

#[test]
fn a_record_made_here_is_the_record_made_there() {
    // Ed25519 signatures are reproducible: the bytes are the same.
    let keypair = Keypair::ed25519_from_bytes([9; 32]).unwrap();
    let of_js: Vec<_> = vectors().into_iter().filter(|vector| vector.name.starts_with("js-")).collect();
    assert_eq!(of_js.len(), 2);
    for Vector { name, key, record, .. } in of_js {
        let read = IpnsRecord::open(NOW, &key, &record).unwrap();
        let entry = IpnsRecord::new(read.value().clone(), read.sequence(), read.expires(), read.ttl());
        let ours = if name == "js-v1-v2" { entry.sign(&keypair) } else { entry.sign_v2_only(&keypair) };
        assert_eq!(ours.unwrap(), (key, record.into()), "{name}");
    }
}

#[test]
fn every_kind_of_key_signs() -> Result<(), Box<dyn Error>> {
    let secp256k1 = secp256k1::Keypair::from(secp256k1::SecretKey::try_from_bytes([3; 32])?);
    let ecdsa = ecdsa::Keypair::from(ecdsa::SecretKey::try_from_bytes([3; 32])?);
    let keys =
        [("ed25519", Keypair::ed25519_from_bytes([3; 32])?), ("secp256k1", secp256k1.into()), ("ecdsa", ecdsa.into())];
    let mut lines = String::new();
    for (name, keypair) in &keys {
        let entry = IpnsRecord::new(VALUE, 0, FAR, Duration::from_secs(60));
        for (key, record) in [entry.sign(keypair)?, entry.sign_v2_only(keypair)?] {
            assert_eq!(IpnsRecord::open(NOW, &key, &record), Ok(entry.clone()), "{name}");
            let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
            writeln!(lines, "{name} valid {} {}", hex(key.as_bytes()), hex(&record))?;
        }
    }
    if let Some(file) = env::var_os("OURS") {
        fs::write(file, lines)?;
    }
    Ok(())
}
