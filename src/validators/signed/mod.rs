//! `/signed/<peer>/<salt>`: values that change, for applications.
//!
//! Knows: the envelope around such a value. Must not know: the meaning of the value.
//!
//! The owner of a key pair stores any number of values under it, each under a salt of its own, and replaces a value by
//! one with a higher sequence number. No other peer can: the key names the owner, and the value has the owner's
//! signature, as in BitTorrent's BEP 44. The key is text, `/signed/12D3KooW…/profile`, with the peer id in its base58
//! form.
//!
//! ```
//! # use std::error::Error;
//! # use std::time::Duration;
//! use std::sync::Arc;
//!
//! use libp2p_identity::Keypair;
//! use libp2p_kad_dht::validators::{Signed, SignedValues};
//! use libp2p_kad_dht::{DhtHandle, Namespaced, Timestamp};
//!
//! // For `Config::with_validator`, at every node of the network.
//! let rules = Namespaced::new().with("signed", Arc::new(SignedValues));
//!
//! async fn rename(dht: DhtHandle, keypair: &Keypair, now: Timestamp) -> Result<(), Box<dyn Error>> {
//!     let key = Signed::key(&keypair.public().to_peer_id(), "profile")?;
//!     let old = Signed::open(now, &key, &dht.get(key.clone()).await?.record.value)?;
//!     let new = Signed::new("my new name")
//!         .with_salt("profile")
//!         .with_sequence(old.sequence() + 1)
//!         .with_expiry(now + Duration::from_secs(30 * 24 * 3600))
//!         .replacing(old.sequence()); // unless another device of mine was faster
//!     let (key, envelope) = new.sign(keypair)?;
//!     dht.put(key, envelope).await?;
//!     Ok(())
//! }
//! ```
//!
//! # Compare and swap
//!
//! A value may name the sequence number that it [replaces](Signed::replacing). A node that holds a value with a higher
//! number refuses it: another device wrote a value that this writer does not know. The writer's own node fails with
//! [`QueryError::Conflict`](crate::QueryError::Conflict), other nodes refuse the put. A node that holds a lower number
//! accepts the value: it missed the one that is replaced. (BEP 44 demands equality, but there the condition is not part
//! of the value that is passed on.) A node without a value accepts any. So each of two concurrent writers may succeed
//! at some of the k closest peers; a writer that must know reads the value back from a majority.
//!
//! # The envelope
//!
//! Integers are big-endian. `version` (1 byte, 1), `flags` (1 byte), `sequence` (8), `expires` (8, microseconds of Unix
//! time), with flag 1 `replaces` (8), with flag 2 the length (2) of the serialized public key and the key, the length
//! (2) of the signature and the signature; the rest is the value. The public key is there if and only if the peer id
//! does not contain it. The signature covers [`DOMAIN`], the length (2) of the record's key and that key, the fields
//! from `version` to `replaces`, and the value.
//!
//! # Design
//!
//! In BEP 44 the condition of a swap is a field of the request. PUT_VALUE has no place for one, so it is signed in the
//! envelope and travels with every copy. It cannot be an equality: a holder that missed number N would refuse the N + 1
//! that replaces it forever. `succeeds` is asked before `select`, so that the loser gets `Conflict` even if its
//! number is lower. The number of an expired value still counts.

#[cfg(test)]
mod tests;

use bytes::Bytes;
use libp2p_identity::{Keypair, PeerId};

use super::{SignError, key};
use crate::core::validate::{Candidate, Valid};
use crate::core::{InvalidValue, RecordKey, Timestamp, Validator};

/// Maximum length of a salt in bytes. Source: BEP 44.
pub const MAX_SALT_LEN: usize = 64;
/// The prefix of the signed bytes, so that a signature made for another purpose is not valid here.
pub const DOMAIN: &[u8] = b"libp2p-kad-dht/signed-value:";

/// The prefix of every key of this namespace.
const PREFIX: &[u8] = b"/signed/";
/// Maximum length of a peer id in base58 form that is parsed: longer than any that exists.
const MAX_PEER_LEN: usize = 64;
const VERSION: u8 = 1;
/// Flag: the envelope has the field `replaces`.
const REPLACES: u8 = 1;
/// Flag: the envelope has the public key.
const PUBLIC_KEY: u8 = 2;

/// Accepts under `/signed/<peer>/<salt>` the values that the peer signed and that have not expired. Selects the highest
/// sequence number, then the latest expiry, then a compare and swap, then the greatest value. Envelopes that differ
/// only in their signatures are the same.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::exhaustive_structs, reason = "it has no options")]
pub struct SignedValues;

impl Validator for SignedValues {
    fn validate(&self, now: Timestamp, key: &RecordKey, value: &[u8]) -> Result<Valid, InvalidValue> {
        let envelope = Envelope::parse(value)?;
        envelope.verify(now, key)?;
        let until = Some(envelope.expires).filter(|expires| *expires < Timestamp::MAX);
        Ok(Valid { until, sequence: Some(envelope.sequence) })
    }

    fn select(&self, _: &RecordKey, values: &[Candidate<'_>]) -> usize {
        // A malformed value ranks below all others; valid ones are never malformed.
        let rank = |i: usize| Envelope::parse(values[i].value).ok().map(|envelope| envelope.rank());
        (1..values.len()).fold(0, |best, i| if rank(i) > rank(best) { i } else { best })
    }

    fn same(&self, _: &RecordKey, one: &[u8], other: &[u8]) -> bool {
        let [left, right] = [one, other].map(Envelope::parse);
        one == other || left.is_ok_and(|left| right.is_ok_and(|right| left.rank() == right.rank()))
    }

    fn succeeds(&self, _: &RecordKey, held: &[u8], new: &[u8]) -> bool {
        let replaces = Envelope::parse(new).ok().and_then(|new| new.replaces);
        let held = Envelope::parse(held).ok().map(|held| held.sequence);
        replaces.zip(held).is_none_or(|(replaces, held)| held <= replaces)
    }
}

/// The content of a signed value: made with [`Signed::new`] and signed with [`Signed::sign`], or read with
/// [`Signed::open`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    value: Bytes,
    salt: Bytes,
    sequence: u64,
    expires: Timestamp,
    replaces: Option<u64>,
}

impl Signed {
    /// A value with an empty salt and the sequence number 0, without an expiry: it exists for as long as a node puts it
    /// again.
    pub fn new(value: impl Into<Bytes>) -> Signed {
        Signed { value: value.into(), salt: Bytes::new(), sequence: 0, expires: Timestamp::MAX, replaces: None }
    }

    /// Sets the salt, which distinguishes the values of one peer. Any bytes, at most [`MAX_SALT_LEN`].
    #[must_use]
    pub fn with_salt(mut self, salt: impl Into<Bytes>) -> Signed {
        self.salt = salt.into();
        self
    }

    /// Sets the sequence number: a value with a higher one replaces this value.
    #[must_use]
    pub fn with_sequence(mut self, sequence: u64) -> Signed {
        self.sequence = sequence;
        self
    }

    /// Sets the time at which it expires, at every node.
    #[must_use]
    pub fn with_expiry(mut self, expires: Timestamp) -> Signed {
        self.expires = expires;
        self
    }

    /// Makes it a compare and swap: a node that holds a value with a higher sequence number than this refuses it.
    #[must_use]
    pub fn replacing(mut self, sequence: u64) -> Signed {
        self.replaces = Some(sequence);
        self
    }

    /// The key to put it under, and the bytes to put there.
    ///
    /// # Errors
    ///
    /// [`SignError::SaltTooLong`]; [`SignError::NotAfter`] if its sequence number is not higher than the one it
    /// replaces; [`SignError::Key`] if the key cannot sign.
    pub fn sign(&self, keypair: &Keypair) -> Result<(RecordKey, Bytes), SignError> {
        if self.replaces.is_some_and(|replaces| self.sequence <= replaces) {
            return Err(SignError::NotAfter);
        }
        let public = keypair.public();
        let key = Signed::key(&public.to_peer_id(), &self.salt)?;
        let serialized = public.encode_protobuf();
        let mut envelope = Envelope {
            sequence: self.sequence,
            expires: self.expires,
            replaces: self.replaces,
            public: key::inlined(&key::name_of(&serialized)).is_none().then_some(&serialized[..]),
            signature: &[],
            value: &self.value,
        };
        let signature = keypair.sign(&envelope.signed(&key)).map_err(|_| SignError::Key)?;
        envelope.signature = &signature;
        Ok((key, envelope.encode().ok_or(SignError::Key)?.into()))
    }

    /// Verifies and reads a value that was put under `key`.
    ///
    /// # Errors
    ///
    /// The reason why it is not valid for `key` at `now`.
    pub fn open(now: Timestamp, key: &RecordKey, bytes: &[u8]) -> Result<Signed, InvalidValue> {
        let envelope = Envelope::parse(bytes)?;
        let salt = envelope.verify(now, key)?;
        Ok(Signed {
            value: Bytes::copy_from_slice(envelope.value),
            salt: Bytes::copy_from_slice(salt),
            sequence: envelope.sequence,
            expires: envelope.expires,
            replaces: envelope.replaces,
        })
    }

    /// The key of this peer's value with this salt.
    ///
    /// # Errors
    ///
    /// [`SignError::SaltTooLong`] above [`MAX_SALT_LEN`].
    pub fn key(peer: &PeerId, salt: impl AsRef<[u8]>) -> Result<RecordKey, SignError> {
        let salt = salt.as_ref();
        if salt.len() > MAX_SALT_LEN {
            return Err(SignError::SaltTooLong);
        }
        Ok(RecordKey::from([PREFIX, peer.to_base58().as_bytes(), b"/", salt].concat()))
    }

    /// The value itself.
    pub fn value(&self) -> &Bytes {
        &self.value
    }

    /// The salt, which distinguishes the values of one peer.
    pub fn salt(&self) -> &Bytes {
        &self.salt
    }

    /// The sequence number: the value with the highest one replaces the others under its key.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The time at which it expires; [`Timestamp::MAX`] if it does not.
    pub fn expires(&self) -> Timestamp {
        self.expires
    }

    /// The sequence number that it replaces, if it is a compare and swap.
    pub fn replaces(&self) -> Option<u64> {
        self.replaces
    }
}

/// The peer and the salt of a key; `None` unless its form is that of [`Signed::key`].
fn split(key: &RecordKey) -> Option<(PeerId, &[u8])> {
    let rest = key.as_bytes().strip_prefix(PREFIX)?;
    let end = rest.iter().position(|byte| *byte == b'/')?;
    let (peer, salt) = (std::str::from_utf8(&rest[..end]).ok()?, &rest[end + 1..]);
    if peer.len() > MAX_PEER_LEN || salt.len() > MAX_SALT_LEN {
        return None;
    }
    let id: PeerId = peer.parse().ok()?;
    (id.to_base58() == peer).then_some((id, salt))
}

/// The fields of an envelope. Fields have one encoding only.
struct Envelope<'a> {
    sequence: u64,
    expires: Timestamp,
    replaces: Option<u64>,
    public: Option<&'a [u8]>,
    signature: &'a [u8],
    value: &'a [u8],
}

impl<'a> Envelope<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Envelope<'a>, InvalidValue> {
        let mut rest = bytes;
        Envelope::fields(&mut rest).ok_or(InvalidValue::MalformedValue)
    }

    fn fields(rest: &mut &'a [u8]) -> Option<Envelope<'a>> {
        let [version, flags] = *take(rest)?;
        if version != VERSION || flags & !(REPLACES | PUBLIC_KEY) != 0 {
            return None;
        }
        let sequence = u64::from_be_bytes(*take(rest)?);
        let expires = Timestamp::from_micros(u64::from_be_bytes(*take(rest)?));
        let replaces = match flags & REPLACES {
            0 => None,
            _ => Some(u64::from_be_bytes(*take(rest)?)),
        };
        if replaces.is_some_and(|replaces| replaces >= sequence) {
            return None;
        }
        let public = match flags & PUBLIC_KEY {
            0 => None,
            _ => Some(take_counted(rest)?),
        };
        let signature = take_counted(rest)?;
        Some(Envelope { sequence, expires, replaces, public, signature, value: rest })
    }

    /// All signed fields without the key, in the order in which they decide between values.
    fn rank(&self) -> (u64, Timestamp, Option<u64>, &'a [u8]) {
        (self.sequence, self.expires, self.replaces, self.value)
    }

    /// Checks all but the encoding of the envelope. Returns the salt.
    fn verify<'k>(&self, now: Timestamp, key: &'k RecordKey) -> Result<&'k [u8], InvalidValue> {
        let (peer, salt) = split(key).ok_or(InvalidValue::MalformedKey)?;
        let name = peer.to_bytes();
        if self.public.is_some() && key::inlined(&name).is_some() {
            return Err(InvalidValue::MalformedValue);
        }
        if self.expires <= now {
            return Err(InvalidValue::Expired);
        }
        let public = key::of(&name, self.public)?;
        if !public.verify(&self.signed(key), self.signature) {
            return Err(InvalidValue::BadSignature);
        }
        Ok(salt)
    }

    /// The fields before the public key.
    fn head(&self) -> Vec<u8> {
        let flags = (u8::from(self.replaces.is_some()) * REPLACES) | (u8::from(self.public.is_some()) * PUBLIC_KEY);
        let mut head = vec![VERSION, flags];
        for field in [Some(self.sequence), Some(self.expires.as_micros()), self.replaces].into_iter().flatten() {
            head.extend(field.to_be_bytes());
        }
        head
    }

    fn signed(&self, key: &RecordKey) -> Vec<u8> {
        let key = key.as_bytes();
        // Valid keys are far shorter.
        let len = u16::try_from(key.len()).unwrap_or(u16::MAX).to_be_bytes();
        [DOMAIN, &len, key, &self.head(), self.value].concat()
    }

    /// `None` if a key or a signature is too long for its length field.
    fn encode(&self) -> Option<Vec<u8>> {
        let mut bytes = self.head();
        for part in [self.public, Some(self.signature)].into_iter().flatten() {
            bytes.extend(u16::try_from(part.len()).ok()?.to_be_bytes());
            bytes.extend(part);
        }
        bytes.extend(self.value);
        Some(bytes)
    }
}

fn take<'a, const N: usize>(rest: &mut &'a [u8]) -> Option<&'a [u8; N]> {
    let (taken, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(taken)
}

/// Bytes behind their length.
fn take_counted<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = u16::from_be_bytes(*take(rest)?);
    let (taken, after) = rest.split_at_checked(len.into())?;
    *rest = after;
    Some(taken)
}
