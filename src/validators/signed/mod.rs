//! `/signed/<peer>/<salt>`: values that change, for applications.
//!
//! Knows: the envelope around such a value. Must not know: what the value means.
//!
//! The owner of a key pair keeps as many values under it as it likes, told apart by a salt, and replaces each by one of
//! a higher sequence number. Nobody else can: the key names the peer, and the value carries that peer's signature, as
//! in BitTorrent's BEP 44. The key is text, `/signed/12D3KooW…/profile`, with the peer id in its base58 form.
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
//! A value that says which sequence number it [replaces](Signed::replacing) is refused by whoever holds one with a
//! higher number than that: somebody else's, unknown to the writer. The writer's own node answers with
//! [`QueryError::Conflict`](crate::QueryError::Conflict), other nodes by refusing the put. A holder that is behind, with
//! a lower number, takes the value: it missed the one that was replaced. (BEP 44 asks for equality, but there the
//! condition is no part of the value that is passed on.) Peers that hold nothing take anything. So two writers who race
//! may both find takers among the k closest; who must know reads the value back from a majority.
//!
//! # The envelope
//!
//! Integers are big-endian. `version` (1 byte, 1), `flags` (1 byte), `sequence` (8), `expires` (8, microseconds of
//! Unix time), with flag 1 `replaces` (8), with flag 2 the length (2) of the serialized public key and the key, the
//! length (2) of the signature and the signature; the rest is the value. The public key is there if and only if the peer
//! id does not contain it. Signed are [`DOMAIN`], the length (2) of the record's key and that key, the fields from
//! `version` to `replaces`, and the value.

#[cfg(test)]
mod tests;

use bytes::Bytes;
use libp2p_identity::{Keypair, PeerId};

use super::{SignError, key};
use crate::core::validate::{Candidate, Valid};
use crate::core::{InvalidValue, RecordKey, Timestamp, Validator};

/// The longest salt in bytes. Source: BEP 44.
pub const MAX_SALT_LEN: usize = 64;
/// What is signed begins with this, so that no signature for another purpose is one for this.
pub const DOMAIN: &[u8] = b"libp2p-kad-dht/signed-value:";

/// What a key of this namespace begins with.
const PREFIX: &[u8] = b"/signed/";
/// The longest base58 form of a peer id, above any that exists: what is longer is not worth parsing.
const MAX_PEER_LEN: usize = 64;
const VERSION: u8 = 1;
const REPLACES: u8 = 1;
const PUBLIC_KEY: u8 = 2;

/// Accepts under `/signed/<peer>/<salt>` what the peer signed and is not over. Selects the higher sequence number, then
/// the later expiry, then a swap, then the greater value. Envelopes that differ in their signatures alone are the same.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::exhaustive_structs, reason = "it has nothing to be told")]
pub struct SignedValues;

impl Validator for SignedValues {
    fn validate(&self, now: Timestamp, key: &RecordKey, value: &[u8]) -> Result<Valid, InvalidValue> {
        let envelope = Envelope::parse(value)?;
        envelope.verify(now, key)?;
        let until = Some(envelope.expires).filter(|expires| *expires < Timestamp::MAX);
        Ok(Valid { until, sequence: Some(envelope.sequence) })
    }

    fn select(&self, _: &RecordKey, values: &[Candidate<'_>]) -> usize {
        // Unreadable ones are the worst of all; none is among valid ones.
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

/// A signed value: to be made and [signed](Signed::sign), or [opened](Signed::open).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    value: Bytes,
    salt: Bytes,
    sequence: u64,
    expires: Timestamp,
    replaces: Option<u64>,
}

impl Signed {
    /// A value with an empty salt and the sequence number 0 that does not expire by itself: it is there for as long as
    /// someone puts it again.
    pub fn new(value: impl Into<Bytes>) -> Signed {
        Signed { value: value.into(), salt: Bytes::new(), sequence: 0, expires: Timestamp::MAX, replaces: None }
    }

    /// Tells it apart from other values of the same peer. At most [`MAX_SALT_LEN`] bytes, of any kind.
    #[must_use]
    pub fn with_salt(mut self, salt: impl Into<Bytes>) -> Signed {
        self.salt = salt.into();
        self
    }

    /// Sets its place among the values under its key: one with a higher number replaces it.
    #[must_use]
    pub fn with_sequence(mut self, sequence: u64) -> Signed {
        self.sequence = sequence;
        self
    }

    /// Ends it then, at every node.
    #[must_use]
    pub fn with_expiry(mut self, expires: Timestamp) -> Signed {
        self.expires = expires;
        self
    }

    /// Makes it a swap: whoever holds a value with a higher sequence number than this refuses it.
    #[must_use]
    pub fn replacing(mut self, sequence: u64) -> Signed {
        self.replaces = Some(sequence);
        self
    }

    /// The key to put it under, and the bytes to put there.
    ///
    /// # Errors
    ///
    /// [`SignError::SaltTooLong`]; [`SignError::NotAfter`] if it has no higher sequence number than what it replaces;
    /// [`SignError::Key`] if the key cannot sign.
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

    /// Verifies what was put under `key`, and reads it.
    ///
    /// # Errors
    ///
    /// Why it is not valid for `key` at `now`.
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

    /// What tells it apart from other values of the same peer.
    pub fn salt(&self) -> &Bytes {
        &self.salt
    }

    /// Its place among the values under its key.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// When it ends; [`Timestamp::MAX`] if never.
    pub fn expires(&self) -> Timestamp {
        self.expires
    }

    /// The sequence number that it replaces, if it is a swap.
    pub fn replaces(&self) -> Option<u64> {
        self.replaces
    }
}

/// The peer and the salt of a key; `None` where it is written in another way than [`Signed::key`] does.
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

/// The fields of an envelope. Each value has exactly one.
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
            _ => Some(u64::from_be_bytes(*take(rest)?)).filter(|replaces| *replaces < sequence).map(Some)?,
        };
        let public = match flags & PUBLIC_KEY {
            0 => None,
            _ => Some(take_counted(rest)?),
        };
        let signature = take_counted(rest)?;
        Some(Envelope { sequence, expires, replaces, public, signature, value: rest })
    }

    /// All that is signed beside the key, in the order by which values are preferred.
    fn rank(&self) -> (u64, Timestamp, Option<u64>, &'a [u8]) {
        (self.sequence, self.expires, self.replaces, self.value)
    }

    /// Checks everything but the form of the envelope. Returns the salt.
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

    /// The fields in front of the keys.
    fn head(&self) -> Vec<u8> {
        let flag = |is: bool, flag: u8| if is { flag } else { 0 };
        let flags = flag(self.replaces.is_some(), REPLACES) | flag(self.public.is_some(), PUBLIC_KEY);
        let mut head = vec![VERSION, flags];
        for field in [Some(self.sequence), Some(self.expires.as_micros()), self.replaces].into_iter().flatten() {
            head.extend(field.to_be_bytes());
        }
        head
    }

    fn signed(&self, key: &RecordKey) -> Vec<u8> {
        let key = key.as_bytes();
        // A key that this is asked for is far shorter.
        let len = u16::try_from(key.len()).unwrap_or(u16::MAX).to_be_bytes();
        [DOMAIN, &len, key, &self.head(), self.value].concat()
    }

    /// `None` if a key or a signature is longer than can be told.
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

/// Bytes behind their number.
fn take_counted<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (taken, after) = {
        let len = u16::from_be_bytes(*take(rest)?);
        rest.split_at_checked(len.into())?
    };
    *rest = after;
    Some(taken)
}
