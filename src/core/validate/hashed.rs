//! `/hash/<hash>`: values that never change, each under its own hash.
//!
//! Knows: how such a key is made from a value. Must not know: which peer put it.

use sha2::{Digest as _, Sha256};

use super::{Candidate, InvalidValue, Valid, Validator};
use crate::core::record::RecordKey;
use crate::core::time::Timestamp;

/// Accepts a value under `/hash/<hash>` if that is its SHA-256 hash, like the immutable items of BitTorrent's BEP 44.
///
/// So a value is the right one, whichever peer sent it. It is valid forever and cannot change.
///
/// ```
/// # use std::sync::Arc;
/// use libp2p_kad_dht::{HashedValues, Namespaced};
///
/// // For `Config::with_validator`, at every node of the network.
/// let rules = Namespaced::new().with("hash", Arc::new(HashedValues));
/// let key = HashedValues::key(b"hello");
/// assert!(key.to_string().starts_with("/hash/2cf24dba5fb0a30e26e83b2ac5b9e29e"));
/// // dht.put(key, "hello").await?
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::exhaustive_structs, reason = "it has no settings")]
pub struct HashedValues;

impl HashedValues {
    /// The key of this value: `/hash/` and its SHA-256 hash in lower-case hexadecimal.
    pub fn key(value: impl AsRef<[u8]>) -> RecordKey {
        let hash = Sha256::digest(value.as_ref());
        hash.iter().fold("/hash/".to_owned(), |key, byte| key + &format!("{byte:02x}")).into()
    }
}

impl Validator for HashedValues {
    fn validate(&self, _: Timestamp, key: &RecordKey, value: &[u8]) -> Result<Valid, InvalidValue> {
        if *key == HashedValues::key(value) { Ok(Valid::default()) } else { Err(InvalidValue::WrongKey) }
    }

    fn select(&self, _: &RecordKey, _: &[Candidate<'_>]) -> usize {
        // All valid values of a key are equal.
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_valid_under_its_own_hash_alone() {
        let check = |key: &RecordKey, value: &[u8]| HashedValues.validate(Timestamp::MAX, key, value);
        let key = HashedValues::key(b"hello");
        assert_eq!(key.as_bytes(), b"/hash/2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824");
        assert_eq!(check(&key, b"hello"), Ok(Valid::default()));
        assert_eq!(check(&key, b"hello!"), Err(InvalidValue::WrongKey));
        let upper = RecordKey::from(String::from_utf8_lossy(key.as_bytes()).to_uppercase());
        for wrong in ["/hash/", "/hash/2cf24d", ""].map(RecordKey::from).into_iter().chain([upper]) {
            assert_eq!(check(&wrong, b"hello"), Err(InvalidValue::WrongKey), "{wrong}");
        }
    }
}
