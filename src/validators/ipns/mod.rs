//! `/ipns/<name>`: the path that the owner of a key publishes under its name.
//!
//! Knows: the rules of the "IPNS Record and Protocol" specification (rule A57); `docs/rules.md` lists numbers such as
//! N15. Must not know: the use of a name, or how its value is resolved further.
//!
//! ```
//! use std::time::Duration;
//! use libp2p_identity::Keypair;
//! use libp2p_kad_dht::Timestamp;
//! use libp2p_kad_dht::validators::ipns::IpnsRecord;
//!
//! # let now = Timestamp::from_secs(1_700_000_000);
//! let keypair = Keypair::ed25519_from_bytes([7; 32])?;
//! let day = Duration::from_secs(24 * 3600);
//! // One more with each new value; an equal number only prolongs the validity.
//! let sequence = 0;
//! let path = "/ipfs/bafkreifjjcie6lypi6ny7amxnfftagclbuxndqonfipmb64f2km2devei4";
//! let (key, record) = IpnsRecord::new(path, sequence, now + day, Duration::from_secs(300)).sign(&keypair)?;
//! // dht.put(key, record).await?; and at a node that gets it:
//! assert_eq!(IpnsRecord::open(now, &key, &record)?.value(), path.as_bytes());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Unsigned bytes decide nothing. A stranger can add unknown fields (rule N10), change or drop the fields of the first
//! version, and write an ECDSA signature in two ways. `Validator::same` treats such variants as one value: the shorter
//! one stays, and a put of either is acknowledged and prolongs it. Of two records that the owner signed with the same
//! number and expiry, the signed bytes decide; boxo compares all bytes, which a stranger can choose.
//!
//! DAG-CBOR is strict: unsorted or repeated keys, numbers longer than necessary, or trailing bytes are refused. As in
//! boxo, an embedded key must hash to the name, a time to live must not be negative, and equal sequence numbers are
//! ordered by expiry. Stricter than boxo, the time to live must be present. `tests/validators.rs` has the test vectors
//! of the specification (rule N23).

mod document;
mod record;
#[rustfmt::skip]
#[expect(unreachable_pub, reason = "generated")]
mod pb;
#[cfg(test)]
mod tests;

use libp2p_identity::PeerId;
use prost::Message as _;

use self::document::Document;
use self::pb::IpnsEntry;
use super::key;
use crate::core::validate::{Candidate, Valid};
use crate::core::{InvalidValue, RecordKey, Timestamp, Validator};

pub use record::IpnsRecord;

/// Maximum length of a record in bytes: 10 KiB (rules N9, N15).
pub const MAX_LEN: usize = 10 * 1024;

/// The prefix of every key of this namespace (rule N24).
const PREFIX: &[u8] = b"/ipns/";
/// The prefix of the signed bytes, before the document (rule N12).
const SIGNATURE_PREFIX: &[u8] = b"ipns-signature:";

/// The key of the record of this peer's name (rule N24).
pub fn key(peer: &PeerId) -> RecordKey {
    RecordKey::from([PREFIX, &peer.to_bytes()].concat())
}

/// Accepts under `/ipns/<binary name>` the records that the owner of the name signed and that have not expired.
///
/// Of several it selects the one with the highest sequence number, then the latest end, as other implementations do,
/// then the greatest signed bytes. Signatures of the first version are never verified: a record without one of the
/// second is invalid (rules N7, N22). Unsigned fields decide nothing: two records with the same document are the same.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::exhaustive_structs, reason = "it has no options")]
pub struct Ipns;

impl Validator for Ipns {
    fn validate(&self, now: Timestamp, key: &RecordKey, value: &[u8]) -> Result<Valid, InvalidValue> {
        let document = verify(now, key, value)?;
        Ok(Valid::default().with_sequence(document.sequence).with_until(document.until()))
    }

    fn select(&self, _: &RecordKey, values: &[Candidate<'_>]) -> usize {
        // A malformed value ranks below all others; valid ones are never malformed.
        let rank = |candidate: &Candidate<'_>| {
            let data = parse(candidate.value).ok()?.data?;
            let document = Document::decode(&data).ok()?;
            Some((document.sequence, document.ends, data))
        };
        let ranks: Vec<_> = values.iter().map(rank).collect();
        (1..values.len()).fold(0, |best, i| if ranks[i] > ranks[best] { i } else { best })
    }

    fn same(&self, _: &RecordKey, one: &[u8], other: &[u8]) -> bool {
        let data = |record| parse(record).ok().and_then(|entry| entry.data);
        one == other || data(one).is_some_and(|one| data(other) == Some(one))
    }
}

/// The document of a record that is valid for `key` at `now` (rule N14). Checks in the order of the specification, up
/// to the first error: signature and document are there (rule N16), the key is that of the record or of the name (rules
/// N6 and N17), it signed the document (rule N19), and the validity has not ended (rule N21).
fn verify(now: Timestamp, key: &RecordKey, value: &[u8]) -> Result<Document, InvalidValue> {
    let name = key.as_bytes().strip_prefix(PREFIX).filter(|name| key::is_name(name));
    let name = name.ok_or(InvalidValue::MalformedKey)?;
    let entry = parse(value)?;
    if entry.signature_v2().is_empty() {
        return Err(InvalidValue::BadSignature);
    }
    if entry.data().is_empty() {
        return Err(InvalidValue::MalformedValue);
    }
    let public = key::of(name, entry.pub_key.as_deref().filter(|key| !key.is_empty()))?;
    let document = Document::decode(entry.data())?;
    if !public.verify(&signed(entry.data()), entry.signature_v2()) {
        return Err(InvalidValue::BadSignature);
    }
    let legacy = !entry.signature_v1().is_empty() || !entry.value().is_empty();
    if legacy && !document.is_repeated_by(&entry) {
        return Err(InvalidValue::MalformedValue);
    }
    if document.until() <= now {
        return Err(InvalidValue::Expired);
    }
    Ok(document)
}

/// Parses a record. The length is checked first (rule N15).
fn parse(value: &[u8]) -> Result<IpnsEntry, InvalidValue> {
    if value.len() > MAX_LEN {
        return Err(InvalidValue::TooLarge { limit: MAX_LEN });
    }
    IpnsEntry::decode(value).map_err(|_| InvalidValue::MalformedValue)
}

/// The bytes that are signed (rule N12).
fn signed(data: &[u8]) -> Vec<u8> {
    [SIGNATURE_PREFIX, data].concat()
}
