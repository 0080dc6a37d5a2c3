//! Decides which values are valid, and which of several is best.
//!
//! Knows: keys and bytes. Must not know: where a value came from, or what happens to it afterwards. A value is
//! validated when it comes in, by a put of a peer or of the application, or with an answer to a get.
//!
//! Provider records are a set: every provider of a key is kept, up to the store's bound. Of two values under one key
//! the validator keeps the better, so all nodes end up with the same one (rule L15). The nodes closer to a key do not
//! matter here: this node keeps a valid value even if others that are closer to the key keep it too.

mod hashed;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
pub use hashed::HashedValues;

use super::record::{Record, RecordKey};
use super::time::Timestamp;

/// Decides which values are valid, and which of several is best.
///
/// Implementations are pure and total: the same arguments give the same result, and no input panics (rule L19). They
/// must be quick, since they run inside the event loop.
///
/// ```
/// use libp2p_kad_dht::{Candidate, InvalidValue, RecordKey, Timestamp, Valid, Validator};
///
/// /// Accepts text, and prefers the longest.
/// #[derive(Debug)]
/// struct LongestText;
///
/// impl Validator for LongestText {
///     fn validate(&self, _: Timestamp, _: &RecordKey, value: &[u8]) -> Result<Valid, InvalidValue> {
///         std::str::from_utf8(value).map(|_| Valid::default()).map_err(|_| InvalidValue::MalformedValue)
///     }
///
///     fn select(&self, _: &RecordKey, values: &[Candidate<'_>]) -> usize {
///         let longest = values.iter().map(|candidate| (candidate.value.len(), candidate.value)).max();
///         values.iter().position(|candidate| Some(candidate.value) == longest.map(|(_, value)| value)).unwrap_or(0)
///     }
/// }
/// ```
pub trait Validator: Send + Sync + fmt::Debug {
    /// Whether `value` is valid for `key` at `now`, until when, and its sequence number. Called once for each value
    /// that comes in: with a put, and with each answer to a get. A stored value is served until it expires, without
    /// another call.
    ///
    /// # Errors
    ///
    /// The reason why it is not valid.
    fn validate(&self, now: Timestamp, key: &RecordKey, value: &[u8]) -> Result<Valid, InvalidValue>;

    /// The index of the best of these values, all of which are valid for `key`; the first of equal ones.
    ///
    /// `values` is never empty. The result must not depend on their order, except among equal ones, so that all nodes
    /// agree.
    fn select(&self, key: &RecordKey, values: &[Candidate<'_>]) -> usize;

    /// Whether two valid values of `key` are the same value in two encodings, for namespaces in which a stranger can
    /// change bytes that no signature covers. Of the two the shorter is stored, and a put of the other succeeds. Called
    /// before `select` and `succeeds`. By default only equal bytes are the same value.
    fn same(&self, key: &RecordKey, one: &[u8], other: &[u8]) -> bool {
        let _ = key;
        one == other
    }

    /// Whether `new` may replace `held`, for namespaces with a compare-and-swap. Both are valid for `key`, and they
    /// differ. Called before [`Validator::select`] when the application or a peer puts `new`, never for values that
    /// a read finds. By default any may.
    fn succeeds(&self, key: &RecordKey, held: &[u8], new: &[u8]) -> bool {
        let _ = (key, held, new);
        true
    }
}

/// The result of a successful validation. By default a value is valid forever and has no sequence number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Valid {
    /// When it stops being valid; `None` means never. A node stores it no longer than that, whatever lifetime it was
    /// sent with.
    pub until: Option<Timestamp>,
    /// Its sequence number, for namespaces that have them. A store remembers it for longer than the value, and refuses
    /// a value with a lower one.
    pub sequence: Option<u64>,
}

impl Valid {
    /// Sets when the value stops being valid.
    #[must_use]
    pub fn with_until(mut self, until: Timestamp) -> Valid {
        self.until = Some(until);
        self
    }

    /// Sets the value's sequence number.
    #[must_use]
    pub fn with_sequence(mut self, sequence: u64) -> Valid {
        self.sequence = Some(sequence);
        self
    }

    /// Lets the record expire with its value, if that is earlier than its lifetime, and notes its sequence number.
    pub(crate) fn note_on(self, record: &mut Record) {
        record.expires = [record.expires, self.until].into_iter().flatten().min();
        record.sequence = self.sequence;
    }
}

/// One of several values under the same key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Candidate<'a> {
    /// The value.
    pub value: &'a Bytes,
    /// When it was put; `None` if unknown. Where the sender did not say, it is taken to have begun its lifetime then.
    pub put: Option<Timestamp>,
    /// When it expires, as its sender said; `None` if unknown.
    pub expires: Option<Timestamp>,
}

impl<'a> Candidate<'a> {
    /// A candidate that was put at an unknown time.
    pub fn new(value: &'a Bytes, expires: Option<Timestamp>) -> Candidate<'a> {
        Candidate { value, put: None, expires }
    }

    /// Sets when it was put.
    #[must_use]
    pub fn put_at(self, put: Timestamp) -> Candidate<'a> {
        Candidate { put: Some(put), ..self }
    }

    /// The candidate for this record on `date`; own values are sent with a lifetime of `ttl`.
    pub(crate) fn of(record: &'a Record, date: Timestamp, ttl: Duration) -> Candidate<'a> {
        Candidate { value: &record.value, put: record.put_at(date, ttl), expires: record.claim(ttl) }
    }
}

/// Why a value is not valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum InvalidValue {
    /// The key's namespace has no validator.
    #[error("unknown namespace")]
    UnknownNamespace,
    /// The key does not have the form that its namespace demands.
    #[error("malformed key")]
    MalformedKey,
    /// The value does not have the form that its namespace demands.
    #[error("malformed value")]
    MalformedValue,
    /// The value is longer than allowed.
    #[error("longer than {limit} bytes")]
    TooLarge {
        /// Maximum length in bytes.
        limit: usize,
    },
    /// The signature is missing or does not verify.
    #[error("bad signature")]
    BadSignature,
    /// The value belongs to another key.
    #[error("value for another key")]
    WrongKey,
    /// The value has expired.
    #[error("expired")]
    Expired,
    /// An application's own validator rejected it, with a code of its own.
    #[error("rejected by the application, code {0}")]
    Rejected(u32),
}

/// Accepts every value, and prefers the one that was put last, then the one that claims the later expiry, then the
/// greater bytes.
///
/// The default of a private network, in which every peer is trusted; the public preset refuses it. Peers of this crate
/// send how long ago a value was put (field 778 of a record, in whole seconds): between them the value that was put
/// last stays, whichever is announced or stored again. A value with only the rest of its lifetime (field 777) counts as
/// put when that lifetime began. Values of peers that send neither rank below all others, and among themselves by their
/// bytes. For values that change use `/signed` (`validators::SignedValues`, feature `validators`), or a validator of
/// your own with sequence numbers.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::exhaustive_structs, reason = "it has no settings")]
pub struct AcceptAny;

impl Validator for AcceptAny {
    fn validate(&self, _: Timestamp, _: &RecordKey, _: &[u8]) -> Result<Valid, InvalidValue> {
        Ok(Valid::default())
    }

    fn select(&self, _: &RecordKey, values: &[Candidate<'_>]) -> usize {
        // A total order, so that it does not matter which two are compared first: values without a date rank lowest.
        let rank = |candidate: &Candidate<'_>| (candidate.put, candidate.expires, Bytes::clone(candidate.value));
        let mut best = 0;
        for (i, candidate) in values.iter().enumerate().skip(1) {
            if rank(candidate) > rank(&values[best]) {
                best = i;
            }
        }
        best
    }
}

/// Sends each key to the validator of its `/namespace/`.
///
/// Keys without a namespace, and namespaces without a validator, are refused.
#[derive(Clone, Debug, Default)]
pub struct Namespaced {
    validators: std::collections::BTreeMap<Vec<u8>, Arc<dyn Validator>>,
}

impl Namespaced {
    /// Without namespaces: every key is refused.
    pub fn new() -> Namespaced {
        Namespaced::default()
    }

    /// Sets the validator for keys that begin with `/namespace/`.
    #[must_use]
    pub fn with(mut self, namespace: &str, validator: Arc<dyn Validator>) -> Namespaced {
        self.validators.insert(namespace.as_bytes().to_vec(), validator);
        self
    }

    fn of(&self, key: &RecordKey) -> Option<&Arc<dyn Validator>> {
        self.validators.get(key.namespace()?)
    }
}

impl Validator for Namespaced {
    fn validate(&self, now: Timestamp, key: &RecordKey, value: &[u8]) -> Result<Valid, InvalidValue> {
        self.of(key).ok_or(InvalidValue::UnknownNamespace)?.validate(now, key, value)
    }

    fn select(&self, key: &RecordKey, values: &[Candidate<'_>]) -> usize {
        self.of(key).map_or(0, |validator| validator.select(key, values))
    }

    fn same(&self, key: &RecordKey, one: &[u8], other: &[u8]) -> bool {
        self.of(key).map_or(one == other, |validator| validator.same(key, one, other))
    }

    fn succeeds(&self, key: &RecordKey, held: &[u8], new: &[u8]) -> bool {
        self.of(key).is_none_or(|validator| validator.succeeds(key, held, new))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept_any_selects_the_same_whatever_the_order() {
        let (a, b) = (Bytes::from_static(b"a"), Bytes::from_static(b"b"));
        let soon = Candidate::new(&b, Some(Timestamp::from_secs(1)));
        let late = Candidate::new(&a, Some(Timestamp::from_secs(2)));
        let key = RecordKey::from("/x/y");
        assert_eq!(AcceptAny.select(&key, &[soon, late]), 1);
        assert_eq!(AcceptAny.select(&key, &[late, soon]), 0);
        let unknown = [Candidate::new(&a, None), Candidate::new(&b, None)];
        assert_eq!(AcceptAny.select(&key, &unknown), 1);
        assert_eq!(AcceptAny.select(&key, &[late, late]), 0, "the first of equals");
        let unknown = Candidate::new(&a, None);
        assert_eq!(AcceptAny.select(&key, &[unknown, soon]), 1, "values without a date rank lowest");
        assert_eq!(
            AcceptAny.select(&key, &[Candidate::new(&b, None), late, soon]),
            1,
            "values without a date rank lowest"
        );
    }

    #[test]
    fn namespaces_are_kept_apart() {
        let validator = Namespaced::new().with("app", Arc::new(AcceptAny));
        let check = |key: &str| validator.validate(Timestamp::ZERO, &RecordKey::from(key), b"");
        assert_eq!(check("/app/x"), Ok(Valid::default()));
        assert_eq!(check("/other/x"), Err(InvalidValue::UnknownNamespace));
        assert_eq!(check("app"), Err(InvalidValue::UnknownNamespace));
    }
}
