//! Records: values and provider records, and their keys.
//!
//! Knows: their fields and lifetimes. Must not know: how they are encoded or stored.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use libp2p_identity::PeerId;

use super::contact::Contact;
use super::key::Key;
use super::time::Timestamp;

/// The application's name for a value or for content: raw bytes, as they go on the wire.
///
/// Its place in the keyspace is [`RecordKey::key`], the SHA-256 of these bytes, computed once when the record key is
/// made. For content the bytes are a multihash (never a whole CID), for values a path such as `/my-app/greeting`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(from = "Bytes", into = "Bytes"))]
pub struct RecordKey {
    // First, since the order is that of the bytes.
    bytes: Bytes,
    key: Key,
}

impl RecordKey {
    /// Makes a record key and hashes its bytes. It may be empty, but every operation and every peer refuses an empty
    /// one.
    pub fn new(bytes: impl Into<Bytes>) -> RecordKey {
        let bytes = bytes.into();
        RecordKey { key: Key::hash(&bytes), bytes }
    }

    /// The raw bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The raw bytes, shared rather than copied.
    pub fn to_shared(&self) -> Bytes {
        self.bytes.clone()
    }

    /// The record's place in the keyspace, computed when this was made.
    pub fn key(&self) -> Key {
        self.key
    }

    /// The namespace of a `/namespace/rest` key; `None` for bytes of another form.
    pub fn namespace(&self) -> Option<&[u8]> {
        let rest = self.bytes.strip_prefix(b"/")?;
        let end = rest.iter().position(|b| *b == b'/')?;
        Some(&rest[..end])
    }
}

impl From<&[u8]> for RecordKey {
    fn from(bytes: &[u8]) -> Self {
        RecordKey::new(Bytes::copy_from_slice(bytes))
    }
}

impl<const N: usize> From<&[u8; N]> for RecordKey {
    fn from(bytes: &[u8; N]) -> Self {
        RecordKey::new(Bytes::copy_from_slice(bytes))
    }
}

/// The key under which the peers closest to a peer are looked up.
impl From<PeerId> for RecordKey {
    fn from(peer: PeerId) -> Self {
        RecordKey::new(peer.to_bytes())
    }
}

impl From<Vec<u8>> for RecordKey {
    fn from(bytes: Vec<u8>) -> Self {
        RecordKey::new(bytes)
    }
}

impl From<RecordKey> for Bytes {
    fn from(key: RecordKey) -> Bytes {
        key.bytes
    }
}

impl From<Bytes> for RecordKey {
    fn from(bytes: Bytes) -> Self {
        RecordKey::new(bytes)
    }
}

impl From<&str> for RecordKey {
    fn from(text: &str) -> Self {
        RecordKey::new(Bytes::copy_from_slice(text.as_bytes()))
    }
}

impl From<String> for RecordKey {
    fn from(text: String) -> Self {
        RecordKey::new(text)
    }
}

impl fmt::Debug for RecordKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RecordKey({self})")
    }
}

impl fmt::Display for RecordKey {
    /// Text if all bytes are printable ASCII, else hexadecimal; cut after 64 bytes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.bytes[..self.bytes.len().min(64)];
        if !shown.is_empty() && shown.iter().all(|b| b.is_ascii_graphic() || *b == b' ') {
            f.write_str(&String::from_utf8_lossy(shown))?;
        } else {
            shown.iter().try_for_each(|b| write!(f, "{b:02x}"))?;
        }
        if shown.len() < self.bytes.len() { f.write_str("…") } else { Ok(()) }
    }
}

/// A noted time that lies further ahead than this was noted while the host's clock was ahead. Source: longer than any
/// run of announcements, and than any correction of a synchronised clock.
pub(crate) const AHEAD: Duration = Duration::from_secs(3_600);

/// A value that a node stores.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Record {
    /// The application's name for the value.
    pub key: RecordKey,
    /// The value itself.
    pub value: Bytes,
    /// The peer that claims to have published it: a hint, since it is not authenticated.
    pub publisher: Option<PeerId>,
    /// When it expires: the earlier of the end of its lifetime and of its value's validity. `None` means never, and
    /// only own records may have it.
    pub expires: Option<Timestamp>,
    /// Whether the sender said when it expires (field 777 of a record). If not, this node's configuration set the time,
    /// which does not tell which of two values was put later.
    pub claimed: bool,
    /// When the value was put, by this node's clock; `None` if the sender did not say how old it was (field 778 of a
    /// record). It does not change when the value is announced or stored again, so it tells which of two values was put
    /// later.
    pub put: Option<Timestamp>,
    /// When this node received it, by this node's clock.
    pub received: Timestamp,
    /// Whether this node published it. Own records do not count against the store's limits.
    pub own: bool,
    /// When this node last announced it to the closest peers; `None` means never. Only own records are announced.
    pub announced: Option<Timestamp>,
    /// Whether this value replaced another one that this node had put under the key. This node no longer announces its
    /// own.
    pub superseded: bool,
    /// The value's sequence number, as its validator reads it; `None` where values have none. A store remembers it for
    /// longer than the value, so that no older value comes back.
    pub sequence: Option<u64>,
}

impl Record {
    /// A remote record received at `received`, without expiry or publisher.
    pub fn new(key: impl Into<RecordKey>, value: impl Into<Bytes>, received: Timestamp) -> Record {
        Record {
            key: key.into(),
            value: value.into(),
            publisher: None,
            expires: None,
            claimed: false,
            put: None,
            received,
            own: false,
            announced: None,
            superseded: false,
            sequence: None,
        }
    }

    /// When the value was put, if that can be told on `date`. Where the sender did not say, it is taken to have begun
    /// its lifetime `ttl` then. `None` if the sender gave no expiry either, or if the time lies in the future, when a
    /// clock was ahead.
    pub(crate) fn put_at(&self, date: Timestamp, ttl: Duration) -> Option<Timestamp> {
        let begun = if self.own { Some(self.received) } else { self.claimed_expiry().map(|at| at - ttl) };
        self.put.or(begun).filter(|at| *at <= date + AHEAD)
    }

    /// Time since the value was put, to be sent with it; `None` if unknown.
    pub(crate) fn age(&self, date: Timestamp) -> Option<Duration> {
        self.put.filter(|at| *at <= date + AHEAD).map(|at| date.since(at))
    }

    /// The expiry that counts for a validator that prefers the later one; `None` if the sender gave none. An own value
    /// is sent with a lifetime of at most `ttl`, from when it was last written or announced: so its copies compare
    /// alike.
    pub(crate) fn claim(&self, ttl: Duration) -> Option<Timestamp> {
        match self.own {
            true => Some(self.ends(self.announced.unwrap_or_default().max(self.received) + ttl)),
            false => self.claimed_expiry(),
        }
    }

    /// The expiry, if the sender gave it.
    fn claimed_expiry(&self) -> Option<Timestamp> {
        if self.claimed { self.expires } else { None }
    }

    /// The expiry of a copy that lives until `at_most` at the latest.
    pub(crate) fn ends(&self, at_most: Timestamp) -> Timestamp {
        self.expires.map_or(at_most, |at| at.min(at_most))
    }

    /// Whether the record has expired at `now`.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|at| at <= now)
    }
}

/// States that a peer provides some content.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ProviderRecord {
    /// The content: a multihash, as raw bytes.
    pub key: RecordKey,
    /// The peer that provides it, with its known addresses (possibly none).
    pub provider: Arc<Contact>,
    /// When the record expires.
    pub expires: Timestamp,
    /// When the addresses expire; the provider's id is still handed out after that.
    pub addrs_expire: Timestamp,
    /// Whether the provider is this node.
    pub own: bool,
    /// When this node last announced it to the closest peers; `None` means never. Only own records are announced.
    pub announced: Option<Timestamp>,
}

impl ProviderRecord {
    /// A record of a remote provider.
    pub fn new(key: RecordKey, provider: Arc<Contact>, expires: Timestamp, addrs_expire: Timestamp) -> ProviderRecord {
        ProviderRecord { key, provider, expires, addrs_expire, own: false, announced: None }
    }

    /// Whether the record has expired at `now`.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires <= now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_need_both_slashes() {
        assert_eq!(RecordKey::from("/pk/abc").namespace(), Some(&b"pk"[..]));
        assert_eq!(RecordKey::from("/pk").namespace(), None);
        assert_eq!(RecordKey::from("pk/abc").namespace(), None);
    }

    #[test]
    fn a_key_carries_its_place_and_is_ordered_by_its_bytes() {
        let mut keys = ["b", "", "a/b", "a"].map(RecordKey::from);
        keys.sort();
        assert_eq!(keys.each_ref().map(RecordKey::as_bytes), [&b""[..], b"a", b"a/b", b"b"]);
        assert!(keys.iter().all(|key| key.key() == Key::hash(key.as_bytes())));
        assert!(std::mem::size_of::<RecordKey>() <= 64, "its bytes are shared: copies cost this much each");
    }

    #[test]
    fn keys_print_as_text_or_hex_and_never_at_length() {
        assert_eq!(RecordKey::from("/a/b").to_string(), "/a/b");
        assert_eq!(RecordKey::from(vec![0x12, 0x20]).to_string(), "1220");
        assert_eq!(RecordKey::from(vec![b'x'; 100]).to_string().chars().count(), 65);
    }

    #[test]
    fn a_record_expires_at_its_expiry_not_before() {
        let mut record = Record::new("/a/b", "v", Timestamp::ZERO);
        assert!(!record.is_expired(Timestamp::MAX));
        record.expires = Some(Timestamp::from_secs(5));
        assert!(!record.is_expired(Timestamp::from_millis(4_999)));
        assert!(record.is_expired(Timestamp::from_secs(5)));
    }
}
