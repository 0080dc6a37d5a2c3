//! The DAG-CBOR document in a record: its signed part.
//!
//! Knows: its fields and their encoding. Must not know: the signature.

use std::collections::BTreeMap;

use bytes::Bytes;
use ipld_core::ipld::Ipld;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::pb::{IpnsEntry, ValidityType};
use crate::core::{InvalidValue, Timestamp};

/// 9999-12-31T23:59:59.999999, the last microsecond that the format of a validity can express.
const LAST: Timestamp = Timestamp::from_micros(253_402_300_799_999_999);

/// The fields of the document; others are ignored (rule N8).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Document {
    pub(super) value: Bytes,
    pub(super) sequence: u64,
    /// In nanoseconds.
    pub(super) ttl: u64,
    /// The end of validity as encoded.
    pub(super) validity: Bytes,
    /// The end of validity.
    pub(super) ends: OffsetDateTime,
}

impl Document {
    /// A document whose validity ends at `expires`, at the latest at the end of the year 9999.
    pub(super) fn new(value: Bytes, sequence: u64, expires: Timestamp, ttl: u64) -> Document {
        let nanos = i128::from(expires.min(LAST).as_micros()) * 1_000;
        let ends = OffsetDateTime::from_unix_timestamp_nanos(nanos).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        Document { value, sequence, ttl, validity: rfc3339(ends).into_bytes().into(), ends }
    }

    /// Strict: only the canonical DAG-CBOR encoding is accepted (rules N3, N4, N18).
    pub(super) fn decode(data: &[u8]) -> Result<Document, InvalidValue> {
        Document::fields(data).ok_or(InvalidValue::MalformedValue)
    }

    fn fields(data: &[u8]) -> Option<Document> {
        let Ipld::Map(fields) = serde_ipld_dagcbor::from_slice(data).ok()? else { return None };
        let integer = |name: &str| match fields.get(name)? {
            // Fails for negative ones.
            Ipld::Integer(integer) => u64::try_from(*integer).ok(),
            _ => None,
        };
        let bytes = |name: &str| match fields.get(name)? {
            Ipld::Bytes(bytes) => Some(Bytes::copy_from_slice(bytes)),
            _ => None,
        };
        if integer("ValidityType")? != ValidityType::Eol as u64 {
            return None;
        }
        let validity = bytes("Validity")?;
        let ends = OffsetDateTime::parse(std::str::from_utf8(&validity).ok()?, &Rfc3339).ok()?;
        let (sequence, ttl) = (integer("Sequence")?, integer("TTL")?);
        Some(Document { value: bytes("Value")?, sequence, ttl, validity, ends })
    }

    /// The end of validity, rounded up to a microsecond.
    pub(super) fn until(&self) -> Timestamp {
        let micros = (self.ends.unix_timestamp_nanos() + 999).div_euclid(1_000);
        Timestamp::from_micros(u64::try_from(micros).unwrap_or_default())
    }

    /// Encodes the document, its keys ordered by length and then by bytes (rule N11); `None` if that fails.
    pub(super) fn encode(&self) -> Option<Vec<u8>> {
        let fields = BTreeMap::from([
            ("Value".to_owned(), Ipld::Bytes(self.value.to_vec())),
            ("Validity".to_owned(), Ipld::Bytes(self.validity.to_vec())),
            ("ValidityType".to_owned(), Ipld::Integer(ValidityType::Eol as i128)),
            ("Sequence".to_owned(), Ipld::Integer(self.sequence.into())),
            ("TTL".to_owned(), Ipld::Integer(self.ttl.into())),
        ]);
        serde_ipld_dagcbor::to_vec(&Ipld::Map(fields)).ok()
    }

    /// Whether the fields for old readers are those of the document (rule N20). An absent field is zero.
    pub(super) fn is_repeated_by(&self, entry: &IpnsEntry) -> bool {
        entry.value() == self.value
            && entry.validity() == self.validity
            && entry.validity_type.unwrap_or_default() == ValidityType::Eol as i32
            && entry.sequence() == self.sequence
            && entry.ttl() == self.ttl
    }
}

/// RFC 3339 with nanoseconds in UTC, always of the same length (rule N4).
fn rfc3339(at: OffsetDateTime) -> String {
    let (year, month, day) = (at.year(), u8::from(at.month()), at.day());
    let (hour, minute, second, nano) = (at.hour(), at.minute(), at.second(), at.nanosecond());
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nano:09}Z")
}
