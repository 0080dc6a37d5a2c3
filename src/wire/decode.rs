//! Bytes → messages.
//!
//! Knows: the fields of each RPC, and which of them may be absent (rule A61). Must not know: how the core uses them.
//!
//! Everything that may be kept for long is copied out of the message, so that a few bytes never keep 4 MiB alive.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use libp2p_identity::PeerId;
use prost::Message as _;
use smallvec::SmallVec;

use super::{MAX_ADDRS_READ, MAX_FIELDS, MAX_IN, MAX_PEER_LEN, MAX_PEERS, fields, pb};
use crate::core::config::MAX_KEY_LEN;
use crate::core::{Contact, Key, Kind, Misbehaviour, RecordKey, Request, Response, Value};

/// Decodes a request, without its length prefix (see [`frame`](super::frame)).
///
/// A request without a type is a PUT_VALUE. The core checks the lengths of keys. Of an announcement only the `sender`'s
/// own entries are decoded, unless the sender is unknown: no other counts.
///
/// # Errors
///
/// [`Misbehaviour::Undecodable`] if the bytes are no message, the type is unknown, or a PUT_VALUE has no record;
/// [`Misbehaviour::WrongKey`] if the record of a PUT_VALUE has another key than the message (rule L36);
/// [`Misbehaviour::TooLarge`] above [`MAX_IN`] bytes.
pub fn decode_request(sender: Option<&PeerId>, bytes: Bytes) -> Result<Request, Misbehaviour> {
    let parts = MessageParts::read(&bytes, Beyond::Refused)?;
    Ok(match parts.kind.ok_or(Misbehaviour::Undecodable)? {
        Kind::Ping => Request::Ping,
        Kind::FindNode => Request::FindNode { key: parts.key },
        Kind::GetValue => Request::GetValue { key: parts.key.into() },
        Kind::GetProviders => Request::GetProviders { key: parts.key.into() },
        Kind::AddProvider => Request::AddProvider { providers: peers(&parts.providers, sender), key: parts.key.into() },
        Kind::PutValue => {
            let record = parts.record.ok_or(Misbehaviour::Undecodable)?;
            if record.key != parts.key {
                return Err(Misbehaviour::WrongKey);
            }
            Request::PutValue { value: value(record) }
        }
    })
}

/// Decodes the answer to a request of this kind, without its length prefix (see [`frame`](super::frame)).
///
/// The core checks whether the answer is for the key of the request: a key that the peer left out is empty.
///
/// # Errors
///
/// [`Misbehaviour::Undecodable`] if the bytes are no message or the echo of a PUT_VALUE has no record;
/// [`Misbehaviour::WrongType`] if it is an answer to a request of another kind;
/// [`Misbehaviour::WrongKey`] if the echo of a PUT_VALUE has one key in the record and another in the message;
/// [`Misbehaviour::TooLarge`] above [`MAX_IN`] bytes.
pub fn decode_response(kind: Kind, bytes: Bytes) -> Result<Response, Misbehaviour> {
    let parts = MessageParts::read(&bytes, Beyond::Ignored)?;
    if parts.kind != Some(kind) {
        return Err(Misbehaviour::WrongType);
    }
    let closer = || peers(&parts.closer, None);
    Ok(match kind {
        Kind::Ping => Response::Ping,
        Kind::FindNode => Response::FindNode { closer: closer() },
        Kind::GetValue => {
            Response::GetValue { closer: closer(), key: RecordKey::new(parts.key), value: parts.record.map(value) }
        }
        Kind::GetProviders => Response::GetProviders {
            closer: closer(),
            providers: peers(&parts.providers, None),
            key: RecordKey::new(parts.key),
        },
        // Only py-libp2p answers, with the request's echo.
        Kind::AddProvider => Response::AddProvider,
        Kind::PutValue => {
            let record = parts.record.ok_or(Misbehaviour::Undecodable)?;
            if !parts.key.is_empty() && record.key != parts.key {
                return Err(Misbehaviour::WrongKey);
            }
            Response::PutValue { value: value(record) }
        }
    })
}

/// What becomes of the fields of a message beyond [`MAX_FIELDS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Beyond {
    /// The message is refused: no useful request has so many.
    Refused,
    /// They are not read: a list of all providers of popular content can be as long.
    Ignored,
}

/// Entries that are not decoded yet; an answer has twenty.
type PeerList<'a> = SmallVec<[&'a [u8]; 20]>;

/// The fields of a message, its peers not decoded yet.
struct MessageParts<'a> {
    /// `None` if the type is unknown.
    kind: Option<Kind>,
    key: Bytes,
    record: Option<pb::Record>,
    closer: PeerList<'a>,
    providers: PeerList<'a>,
}

impl<'a> MessageParts<'a> {
    fn read(bytes: &'a [u8], beyond: Beyond) -> Result<MessageParts<'a>, Misbehaviour> {
        if bytes.len() > MAX_IN {
            return Err(Misbehaviour::TooLarge);
        }
        let (mut head, mut closer, mut providers) = (pb::Message::default(), PeerList::new(), PeerList::new());
        let (mut rest, mut left) = (bytes, MAX_FIELDS);
        while left > 0 || beyond == Beyond::Refused {
            let Some(field) = fields::next(&mut rest, &mut left)? else { break };
            match (field.number, field.body) {
                (1..=3, _) => head.merge(field.whole).map_err(|_| Misbehaviour::Undecodable)?,
                (8, Some(peer)) => bounded_push(&mut closer, peer),
                (9, Some(peer)) => bounded_push(&mut providers, peer),
                (8 | 9, None) => return Err(Misbehaviour::Undecodable),
                _ => {}
            }
        }
        // A key is hashed when it is made, before the core refuses one that is too long: megabytes are not to be hashed.
        head.key.truncate(MAX_KEY_LEN + 1);
        if let Some(record) = &mut head.record {
            record.key.truncate(MAX_KEY_LEN + 1);
        }
        let kind = Kind::ALL.into_iter().find(|kind| *kind as i32 == head.r#type);
        Ok(MessageParts { kind, key: head.key, record: head.record, closer, providers })
    }
}

fn bounded_push<'a>(list: &mut PeerList<'a>, peer: &'a [u8]) {
    if list.len() < MAX_PEERS {
        list.push(peer);
    }
}

/// The peers of a list, or `only` this one, in its order, each once with the addresses of all its entries.
fn peers(list: &[&[u8]], only: Option<&PeerId>) -> Vec<Arc<Contact>> {
    let mut peers = Vec::with_capacity(if only.is_some() { 1 } else { list.len() });
    peers.extend(list.iter().filter_map(|body| peer(body, only)));
    if may_repeat(&peers) { once_each(peers) } else { peers }
}

/// Whether two entries may be of one peer: the last eight bytes of their ids are the same.
fn may_repeat(peers: &[Arc<Contact>]) -> bool {
    let end =
        |contact: &Arc<Contact>| contact.peer().as_ref().digest().last_chunk().copied().map_or(0, u64::from_le_bytes);
    let mut ends: SmallVec<[u64; 32]> = peers.iter().map(end).collect();
    ends.sort_unstable();
    ends.windows(2).any(|pair| pair[0] == pair[1])
}

/// Joins entries of one peer.
fn once_each(entries: Vec<Arc<Contact>>) -> Vec<Arc<Contact>> {
    let mut places: BTreeMap<Key, usize> = BTreeMap::new();
    let mut peers: Vec<Arc<Contact>> = Vec::with_capacity(entries.len());
    for contact in entries {
        let place = *places.entry(*contact.key()).or_insert(peers.len());
        match peers.get_mut(place) {
            Some(known) if contact.adds_nothing_to(known) => {}
            Some(known) => *known = known.with_addrs(known.raw_addrs().chain(contact.raw_addrs())),
            None => peers.push(contact),
        }
    }
    peers
}

/// An entry of a list, of which the first [`MAX_PEER_LEN`] bytes are read. `None` if it is malformed, has no valid id, or
/// is of another peer than `only`.
fn peer(body: &[u8], only: Option<&PeerId>) -> Option<Arc<Contact>> {
    // As many as its bytes can hold: `MAX_PEER_LEN` limits those.
    let (mut rest, mut id, mut left) = (body, None, body.len());
    let mut addrs: SmallVec<[&[u8]; 8]> = SmallVec::new();
    while let Some(field) = fields::next(&mut rest, &mut left).ok()? {
        if body.len() - rest.len() > MAX_PEER_LEN {
            break;
        }
        match (field.number, field.body) {
            (1, Some(bytes)) => id = Some(bytes),
            (2, Some(addr)) if addrs.len() < MAX_ADDRS_READ => addrs.push(addr),
            (1 | 2, None) | (3, Some(_)) => return None,
            _ => {}
        }
    }
    let id = id?;
    // Before any address is parsed.
    if only.is_some_and(|only| only.as_ref().to_bytes() != id) {
        return None;
    }
    Contact::from_id_bytes(id, addrs)
}

fn value(record: pb::Record) -> Value {
    let publisher = PeerId::from_bytes(&record.publisher).ok();
    let ttl = (record.ttl != 0).then(|| Duration::from_secs(record.ttl.into()));
    let age = record.age.map(|age| Duration::from_secs(age.into()));
    Value { publisher, ttl, age, ..Value::new(record.key, record.value) }
}
