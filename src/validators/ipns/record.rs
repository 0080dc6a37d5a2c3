//! Making and reading records.
//!
//! Knows: the fields of a record. Must not know: whether it is the newest.

use std::time::Duration;

use bytes::Bytes;
use libp2p_identity::Keypair;
use prost::Message as _;

use super::document::Document;
use super::pb::{IpnsEntry, ValidityType};
use super::{MAX_LEN, key, signed, verify};
use crate::core::{InvalidValue, RecordKey, Timestamp};
use crate::validators::SignError;
use crate::validators::key::{inlined, name_of};

/// The content of an IPNS record: a path, a sequence number and the end of its validity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IpnsRecord {
    document: Document,
}

impl IpnsRecord {
    /// A record that points its name to `value`, a path such as `/ipfs/<cid>`, until `expires`.
    ///
    /// A `sequence` number higher than that of every earlier record makes it replace them; an equal one with a later
    /// end prolongs the validity. The DHT keeps it for at most 48 h after a put, even if `expires` is later (rule N5).
    /// `ttl` is the time for which readers may cache it; 5 minutes are usual.
    pub fn new(value: impl Into<Bytes>, sequence: u64, expires: Timestamp, ttl: Duration) -> IpnsRecord {
        let ttl = u64::try_from(ttl.as_nanos()).unwrap_or(u64::MAX);
        IpnsRecord { document: Document::new(value.into(), sequence, expires, ttl) }
    }

    /// The key to put the record under, and the record, with signatures of both versions, for old and new readers.
    ///
    /// # Errors
    ///
    /// [`SignError::TooLarge`] above [`MAX_LEN`], [`SignError::Key`] if the key cannot sign.
    pub fn sign(&self, keypair: &Keypair) -> Result<(RecordKey, Bytes), SignError> {
        let document = &self.document;
        // For old readers only; newer ones do not verify it. Signed are value, validity and the validity type's name
        // (rule N13).
        let legacy = [&document.value[..], &document.validity[..], b"EOL"].concat();
        let entry = IpnsEntry {
            value: Some(document.value.clone()),
            signature_v1: Some(keypair.sign(&legacy).map_err(|_| SignError::Key)?.into()),
            validity_type: Some(ValidityType::Eol as i32),
            validity: Some(document.validity.clone()),
            sequence: Some(document.sequence),
            ttl: Some(document.ttl),
            ..IpnsEntry::default()
        };
        self.finish(keypair, entry)
    }

    /// The same with the signature of the second version only: half as long, and enough for today's readers.
    ///
    /// # Errors
    ///
    /// As [`IpnsRecord::sign`].
    pub fn sign_v2_only(&self, keypair: &Keypair) -> Result<(RecordKey, Bytes), SignError> {
        self.finish(keypair, IpnsEntry::default())
    }

    fn finish(&self, keypair: &Keypair, mut entry: IpnsEntry) -> Result<(RecordKey, Bytes), SignError> {
        let public = keypair.public();
        let data = self.document.encode().ok_or(SignError::TooLarge)?;
        entry.signature_v2 = Some(keypair.sign(&signed(&data)).map_err(|_| SignError::Key)?.into());
        entry.data = Some(data.into());
        let serialized = public.encode_protobuf();
        if inlined(&name_of(&serialized)).is_none() {
            entry.pub_key = Some(serialized.into());
        }
        if entry.encoded_len() > MAX_LEN {
            return Err(SignError::TooLarge);
        }
        Ok((key(&public.to_peer_id()), entry.encode_to_vec().into()))
    }

    /// Verifies and reads a record.
    ///
    /// # Errors
    ///
    /// The reason why it is not valid for `key` at `now`.
    pub fn open(now: Timestamp, key: &RecordKey, record: &[u8]) -> Result<IpnsRecord, InvalidValue> {
        Ok(IpnsRecord { document: verify(now, key, record)? })
    }

    /// The path that the name points to.
    pub fn value(&self) -> &Bytes {
        &self.document.value
    }

    /// The sequence number: the record with the highest one replaces the others of its name.
    pub fn sequence(&self) -> u64 {
        self.document.sequence
    }

    /// The end of its validity, rounded down to a microsecond.
    pub fn expires(&self) -> Timestamp {
        let micros = self.document.ends.unix_timestamp_nanos() / 1_000;
        Timestamp::from_micros(u64::try_from(micros).unwrap_or_default())
    }

    /// The time for which readers may cache it.
    pub fn ttl(&self) -> Duration {
        Duration::from_nanos(self.document.ttl)
    }
}
