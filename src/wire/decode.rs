//! Bytes → messages.
//!
//! Knows: what each RPC must carry, and what may be left out of it. Must not know: what the core makes of it.
//!
//! Whatever may be kept for long is copied out of the message, so that a few bytes never keep 4 MiB alive.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use libp2p_identity::PeerId;
use prost::Message as _;

use super::{MAX_ADDRS_READ, MAX_IN, MAX_PEER_LEN, MAX_PEERS, fields, pb};
use crate::core::{Contact, Kind, Misbehaviour, RecordKey, Request, Response, Value};

pub(super) fn request(bytes: &Bytes) -> Result<Request, Misbehaviour> {
    let parts = Parts::read(bytes)?;
    Ok(match parts.kind.ok_or(Misbehaviour::Undecodable)? {
        Kind::Ping => Request::Ping,
        Kind::FindNode => Request::FindNode { key: parts.key },
        Kind::GetValue => Request::GetValue { key: parts.key.into() },
        Kind::GetProviders => Request::GetProviders { key: parts.key.into() },
        Kind::AddProvider => Request::AddProvider { providers: peers(bytes, &parts.providers), key: parts.key.into() },
        Kind::PutValue => {
            let record = parts.record.ok_or(Misbehaviour::Undecodable)?;
            if record.key != parts.key {
                return Err(Misbehaviour::WrongKey);
            }
            Request::PutValue { value: value(record) }
        }
    })
}

pub(super) fn response(kind: Kind, bytes: &Bytes) -> Result<Response, Misbehaviour> {
    let parts = Parts::read(bytes)?;
    if parts.kind != Some(kind) {
        return Err(Misbehaviour::WrongType);
    }
    let closer = || peers(bytes, &parts.closer);
    Ok(match kind {
        Kind::Ping => Response::Ping,
        Kind::FindNode => Response::FindNode { closer: closer() },
        Kind::GetValue => {
            Response::GetValue { closer: closer(), key: RecordKey::new(parts.key), value: parts.record.map(value) }
        }
        Kind::GetProviders => Response::GetProviders {
            closer: closer(),
            providers: peers(bytes, &parts.providers),
            key: RecordKey::new(parts.key),
        },
        // Answered by py-libp2p alone, with the request's echo. It says no more than an orderly end does.
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

/// A message taken apart, its peers not decoded yet.
struct Parts<'a> {
    /// `None` where the type is none of the six.
    kind: Option<Kind>,
    key: Bytes,
    record: Option<pb::Record>,
    closer: Vec<&'a [u8]>,
    providers: Vec<&'a [u8]>,
}

impl<'a> Parts<'a> {
    fn read(bytes: &'a [u8]) -> Result<Parts<'a>, Misbehaviour> {
        if bytes.len() > MAX_IN {
            return Err(Misbehaviour::TooLarge);
        }
        let (mut head, mut closer, mut providers) = (pb::Message::default(), Vec::new(), Vec::new());
        let mut rest = bytes;
        while let Some(field) = fields::next(&mut rest)? {
            match (field.number, field.body) {
                (1..=3, _) => head.merge(field.whole).map_err(|_| Misbehaviour::Undecodable)?,
                (8, Some(peer)) => bounded_push(&mut closer, peer),
                (9, Some(peer)) => bounded_push(&mut providers, peer),
                (8 | 9, None) => return Err(Misbehaviour::Undecodable),
                _ => {}
            }
        }
        let pb::Message { r#type, key, record, .. } = head;
        Ok(Parts { kind: kind(r#type), key, record, closer, providers })
    }
}

fn bounded_push<'a>(list: &mut Vec<&'a [u8]>, peer: &'a [u8]) {
    if list.len() < MAX_PEERS {
        list.push(peer);
    }
}

fn kind(number: i32) -> Option<Kind> {
    Kind::ALL.into_iter().find(|kind| *kind as i32 == number)
}

/// The peers of a list in its order, each once, with the addresses of all its entries.
fn peers(message: &Bytes, list: &[&[u8]]) -> Vec<Arc<Contact>> {
    let mut places: BTreeMap<PeerId, usize> = BTreeMap::new();
    let mut peers: Vec<(PeerId, Vec<Bytes>)> = Vec::with_capacity(list.len());
    for (peer, addrs) in list.iter().filter_map(|body| peer(message.slice_ref(body))) {
        match places.entry(peer) {
            Entry::Vacant(place) => {
                place.insert(peers.len());
                peers.push((peer, addrs));
            }
            Entry::Occupied(place) => {
                if let Some((_, known)) = peers.get_mut(*place.get()) {
                    known.extend(addrs);
                }
            }
        }
    }
    peers.into_iter().map(|(peer, addrs)| detached(&Contact::from_raw(peer, addrs))).collect()
}

fn peer(body: Bytes) -> Option<(PeerId, Vec<Bytes>)> {
    let mut decoded = pb::Peer::decode(body.slice(..within_bounds(&body)?)).ok()?;
    if decoded.addrs.len() > MAX_ADDRS_READ {
        decoded.addrs.truncate(MAX_ADDRS_READ);
        decoded.addrs.shrink_to_fit();
    }
    Some((PeerId::from_bytes(&decoded.id).ok()?, decoded.addrs))
}

/// How long the fields of an entry are that are read: all, or the first ones up to the bound; `None` if they are no fields.
fn within_bounds(body: &[u8]) -> Option<usize> {
    let (mut rest, mut len) = (body, if body.len() <= MAX_PEER_LEN { body.len() } else { 0 });
    while len < body.len() && fields::next(&mut rest).ok()?.is_some() && body.len() - rest.len() <= MAX_PEER_LEN {
        len = body.len() - rest.len();
    }
    Some(len)
}

/// The contact with its addresses in a buffer of their own rather than in the message.
fn detached(contact: &Contact) -> Arc<Contact> {
    let mut rest = Bytes::from(contact.raw_addrs().concat());
    contact.with_addrs(contact.raw_addrs().iter().map(|addr| rest.split_to(addr.len())))
}

fn value(record: pb::Record) -> Value {
    let publisher = PeerId::from_bytes(&record.publisher).ok();
    let ttl = (record.ttl != 0).then(|| Duration::from_secs(record.ttl.into()));
    let age = record.age.map(|age| Duration::from_secs(age.into()));
    Value { publisher, ttl, age, ..Value::new(record.key, record.value) }
}
