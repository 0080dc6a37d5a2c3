//! Names that are public keys or their hashes.
//!
//! Knows: how a peer id is derived from a key. Must not know: what the key signs.

use libp2p_identity::PublicKey;

use crate::core::InvalidValue;

/// Maximum length of a serialized key that a name contains as a whole. Source: the libp2p peer id specification.
const MAX_INLINE_LEN: usize = 42;
/// Multihash code of the identity.
const IDENTITY: u8 = 0x00;
/// Multihash code and length of SHA-256.
const SHA256: [u8; 2] = [0x12, 32];

/// The name of a serialized public key (rule N2). Computed from these very bytes, so that a name has only one
/// serialization.
pub(super) fn name_of(serialized: &[u8]) -> Vec<u8> {
    match u8::try_from(serialized.len()) {
        Ok(len) if serialized.len() <= MAX_INLINE_LEN => [&[IDENTITY, len], serialized].concat(),
        _ => [&SHA256[..], &<sha2::Sha256 as sha2::Digest>::digest(serialized)].concat(),
    }
}

/// Whether these bytes can be the name of a key.
pub(super) fn is_name(name: &[u8]) -> bool {
    libp2p_identity::PeerId::from_bytes(name).is_ok()
}

/// The serialized key that the name contains as a whole, if it does.
pub(super) fn inlined(name: &[u8]) -> Option<&[u8]> {
    match name {
        [IDENTITY, len, key @ ..] if usize::from(*len) == key.len() && key.len() <= MAX_INLINE_LEN => Some(key),
        _ => None,
    }
}

/// The key of this name, of any type that libp2p has (rule N1): the one embedded in the value, which must have the
/// name, otherwise the one in the name.
pub(super) fn of(name: &[u8], embedded: Option<&[u8]>) -> Result<PublicKey, InvalidValue> {
    match embedded {
        Some(key) if name_of(key) != name => Err(InvalidValue::WrongKey),
        Some(key) => PublicKey::try_decode_protobuf(key).map_err(|_| InvalidValue::MalformedValue),
        None => {
            let key = inlined(name).ok_or(InvalidValue::MalformedValue)?;
            PublicKey::try_decode_protobuf(key).map_err(|_| InvalidValue::MalformedKey)
        }
    }
}
