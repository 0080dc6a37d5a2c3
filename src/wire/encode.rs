//! Messages → bytes.
//!
//! Knows: what each RPC must carry. Must not know: how a list of peers is cut to size (`fit`).
//!
//! Protobuf messages may be concatenated. So type, key and record are encoded as one message, and each peer is
//! appended as bytes that its contact has kept since they were first needed.

use std::sync::Arc;

use bytes::{BufMut, Bytes};
use prost::Message as _;

use super::{fit, frame, pb, rfc3339};
use crate::core::{Contact, Kind, Request, RequestError, Response, Value};

/// `closerPeers`: field 8, with a length.
const CLOSER_TAG: u8 = 8 << 3 | 2;
/// `providerPeers`: field 9, with a length.
const PROVIDER_TAG: u8 = 9 << 3 | 2;

pub(super) fn request(request: &Request, limit: usize) -> Result<Bytes, RequestError> {
    let kind = request.kind();
    match request {
        Request::Ping => message(head(kind, Bytes::new()), limit),
        Request::FindNode { key } => message(head(kind, key.clone()), limit),
        Request::GetValue { key } | Request::GetProviders { key } => message(head(kind, key.to_shared()), limit),
        Request::PutValue { value } => message(put_value(value), limit),
        Request::AddProvider { key, providers } => {
            let head = head(kind, key.to_shared());
            let fitted = fit::peers(&[], providers, room(&head, limit)?);
            // An announcement that does not name its provider is none.
            if fitted.providers.len() < providers.len() {
                return Err(RequestError::TooLarge);
            }
            assemble(&head, &fitted)
        }
    }
}

pub(super) fn response(response: &Response, limit: usize) -> Result<Bytes, RequestError> {
    let kind = response.kind();
    match response {
        Response::Ping => message(head(kind, Bytes::new()), limit),
        Response::FindNode { closer } => with_peers(head(kind, Bytes::new()), closer, &[], limit),
        Response::GetValue { key, value, closer } => {
            let mut head = head(kind, key.to_shared());
            head.record = value.as_ref().map(record);
            with_peers(head, closer, &[], limit)
        }
        Response::PutValue { value } => message(put_value(value), limit),
        Response::GetProviders { key, providers, closer } => {
            with_peers(head(kind, key.to_shared()), closer, providers, limit)
        }
        Response::AddProvider => Ok(Bytes::new()),
    }
}

/// What a peer is in a list of peers. Encoded once, then kept with the contact.
///
/// The id comes first and every address after it, so that the bytes with fewer addresses are a prefix of these.
pub(super) fn peer(contact: &Contact) -> &Bytes {
    contact.encoded().get_or_init(|| {
        let id = contact.peer().to_bytes().into();
        pb::Peer { id, addrs: contact.raw_addrs().to_vec(), connection: 0 }.encode_to_vec().into()
    })
}

fn head(kind: Kind, key: Bytes) -> pb::Message {
    pb::Message { r#type: kind as i32, key, ..Default::default() }
}

/// PUT_VALUE and its echo: the key twice, in the message and in the record.
fn put_value(value: &Value) -> pb::Message {
    let mut head = head(Kind::PutValue, value.key.to_shared());
    head.record = Some(record(value));
    head
}

fn record(value: &Value) -> pb::Record {
    pb::Record {
        key: value.key.to_shared(),
        value: value.value.clone(),
        // Nobody believes it, but js refuses a record without it: a time that is not known is the epoch.
        time_received: rfc3339::format(value.received.unwrap_or_default()),
        publisher: value.publisher.map(|peer| peer.to_bytes().into()).unwrap_or_default(),
        // 0 means for ever to those who read it, so less than a second is a second.
        ttl: value.ttl.map(|ttl| u32::try_from(ttl.as_secs()).unwrap_or(u32::MAX).max(1)).unwrap_or_default(),
        // Rounded up: on its way a value never becomes younger.
        age: value.age.map(|age| u32::try_from(age.as_millis().div_ceil(1_000)).unwrap_or(u32::MAX)),
    }
}

fn message(head: pb::Message, limit: usize) -> Result<Bytes, RequestError> {
    with_peers(head, &[], &[], limit)
}

fn with_peers(
    head: pb::Message,
    closer: &[Arc<Contact>],
    providers: &[Arc<Contact>],
    limit: usize,
) -> Result<Bytes, RequestError> {
    let fitted = fit::peers(closer, providers, room(&head, limit)?);
    assemble(&head, &fitted)
}

/// How many bytes are left for peers.
fn room(head: &pb::Message, limit: usize) -> Result<usize, RequestError> {
    let taken = head.encoded_len() + frame::prefix_len(limit);
    limit.checked_sub(taken).ok_or(RequestError::TooLarge)
}

fn assemble(head: &pb::Message, peers: &fit::Fitted<'_>) -> Result<Bytes, RequestError> {
    let lists = peers.closer.iter().chain(&peers.providers);
    let body = head.encoded_len() + lists.map(|peer| fit::field_len(peer.len())).sum::<usize>();
    let mut out = Vec::with_capacity(frame::prefix_len(body) + body);
    frame::write_prefix(body, &mut out);
    head.encode(&mut out).map_err(|_| RequestError::TooLarge)?;
    append(&mut out, CLOSER_TAG, &peers.closer);
    append(&mut out, PROVIDER_TAG, &peers.providers);
    Ok(out.into())
}

fn append(out: &mut Vec<u8>, tag: u8, peers: &[&[u8]]) {
    for peer in peers {
        out.put_u8(tag);
        frame::write_prefix(peer.len(), out);
        out.put_slice(peer);
    }
}
