//! `/pk/<name>`: public keys that are too long for the name.
//!
//! Knows: that a key has one name. Must not know: the use of a key.
//!
//! The name is the hash of the very bytes of the value, not of what a decoder makes of them, so all valid values under
//! one key are the same bytes.

use libp2p_identity::PublicKey;

use super::key;
use crate::core::validate::{Candidate, Valid};
use crate::core::{InvalidValue, RecordKey, Timestamp, Validator};

/// Accepts under `/pk/<binary peer id>` the serialized public key that the id is derived from (rule A56).
///
/// A name has only one such value, which never expires.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::exhaustive_structs, reason = "it has no options")]
pub struct PublicKeys;

impl Validator for PublicKeys {
    fn validate(&self, _: Timestamp, key: &RecordKey, value: &[u8]) -> Result<Valid, InvalidValue> {
        let name = key.as_bytes().strip_prefix(b"/pk/").filter(|name| key::is_name(name));
        let name = name.ok_or(InvalidValue::MalformedKey)?;
        if key::name_of(value) != name {
            return Err(InvalidValue::WrongKey);
        }
        PublicKey::try_decode_protobuf(value).map(|_| Valid::default()).map_err(|_| InvalidValue::MalformedValue)
    }

    fn select(&self, _: &RecordKey, values: &[Candidate<'_>]) -> usize {
        // All valid values of a key are equal. A total order nevertheless, which does not depend on that.
        (1..values.len()).fold(0, |best, i| if values[i].value > values[best].value { i } else { best })
    }
}

#[cfg(test)]
mod tests {
    use libp2p_identity::Keypair;

    use super::*;

    fn key(name: &[u8]) -> RecordKey {
        RecordKey::from([b"/pk/", name].concat())
    }

    #[test]
    fn a_key_is_accepted_under_its_own_name_alone() {
        let public = |seed| Keypair::ed25519_from_bytes([seed; 32]).unwrap().public();
        let check = |key: &RecordKey, value: &[u8]| PublicKeys.validate(Timestamp::MAX, key, value);
        let (one, two) = (public(1), public(2));
        let name = one.to_peer_id().to_bytes();
        let value = one.encode_protobuf();
        assert_eq!(check(&key(&name), &value), Ok(Valid::default()));
        assert_eq!(check(&key(&name), &two.encode_protobuf()), Err(InvalidValue::WrongKey));
        assert_eq!(check(&key(&name), &[&value[..], &[0x18, 1]].concat()), Err(InvalidValue::WrongKey));
        assert_eq!(check(&RecordKey::from([b"/pk", &name[..]].concat()), &value), Err(InvalidValue::MalformedKey));
        assert_eq!(check(&key(one.to_peer_id().to_base58().as_bytes()), &value), Err(InvalidValue::MalformedKey));
        assert_eq!(check(&key(b""), &value), Err(InvalidValue::MalformedKey));
        // The name of bytes that are no key.
        assert_eq!(check(&key(&key::name_of(b"no key")), b"no key"), Err(InvalidValue::MalformedValue));
    }

    #[test]
    fn a_short_key_has_no_hash_for_a_name() {
        let public = Keypair::ed25519_from_bytes([1; 32]).unwrap().public().encode_protobuf();
        let hash = <sha2::Sha256 as sha2::Digest>::digest(&public);
        let verdict = PublicKeys.validate(Timestamp::ZERO, &key(&[&[0x12, 32][..], &hash].concat()), &public);
        assert_eq!(verdict, Err(InvalidValue::WrongKey));
    }

    #[test]
    fn names_are_what_libp2p_derives() {
        for seed in 1..9 {
            let public = Keypair::ed25519_from_bytes([seed; 32]).unwrap().public();
            assert_eq!(key::name_of(&public.encode_protobuf()), public.to_peer_id().to_bytes());
        }
    }
}
