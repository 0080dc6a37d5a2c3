//! Messages → bytes.
//!
//! Knows: the fields of each RPC. Must not know: how a list of peers is cut to size (`fit`).
//!
//! Protobuf messages may be concatenated: type, key and record are encoded as one message, and each peer is appended as
//! bytes that its contact keeps from its first encoding.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;

use super::{fit, frame, pb, rfc3339};
use crate::core::{Contact, Kind, Request, RequestError, Response, Value};

/// `closerPeers`: field 8, with a length.
const CLOSER_TAG: u8 = 8 << 3 | 2;
/// `providerPeers`: field 9, with a length.
const PROVIDER_TAG: u8 = 9 << 3 | 2;

/// Encodes a request behind its length, in one buffer of at most `limit` bytes in all ([`MAX_OUT`](super::MAX_OUT)).
///
/// An announcement that is too long loses addresses of its providers, the last ones first.
///
/// # Errors
///
/// [`RequestError::TooLarge`] if the key, the value or a provider with one address does not fit.
pub fn encode_request(request: &Request, limit: usize) -> Result<Bytes, RequestError> {
    let kind = request.kind();
    match request {
        Request::Ping => encode(&head(kind, Bytes::new()), &[], &[], limit),
        Request::FindNode { key } => encode(&head(kind, key.clone()), &[], &[], limit),
        Request::GetValue { key } | Request::GetProviders { key } => {
            encode(&head(kind, key.to_shared()), &[], &[], limit)
        }
        Request::PutValue { value } => encode(&put_value(value), &[], &[], limit),
        Request::AddProvider { key, providers } => {
            let head = head(kind, key.to_shared());
            let fitted = fit::peers(&[], providers, space(&head, limit)?);
            // An announcement that does not name its provider announces nothing.
            if fitted.providers.len() < providers.len() {
                return Err(RequestError::TooLarge);
            }
            Ok(assemble(&head, fitted.closer.into_iter(), fitted.providers.into_iter()))
        }
    }
}

/// Encodes an answer behind its length, in one buffer of at most `limit` bytes in all ([`MAX_OUT`](super::MAX_OUT)).
///
/// If not all peers fit with all addresses, every peer keeps the same number of its addresses, the first ones, and at
/// least one. Only if even that does not fit are peers left out, from the end of their lists: each list then gets half
/// of the space, and the space that it does not need goes to the other. Key and value are never left out.
///
/// [`Response::AddProvider`] has no bytes: the buffer is empty, and there is nothing to write.
///
/// # Errors
///
/// [`RequestError::TooLarge`] if the key and the value do not fit.
pub fn encode_response(response: &Response, limit: usize) -> Result<Bytes, RequestError> {
    let kind = response.kind();
    match response {
        Response::Ping => encode(&head(kind, Bytes::new()), &[], &[], limit),
        Response::FindNode { closer } => encode(&head(kind, Bytes::new()), closer, &[], limit),
        Response::GetValue { key, value, closer } => {
            let record = value.as_ref().map(record);
            encode(&pb::Message { record, ..head(kind, key.to_shared()) }, closer, &[], limit)
        }
        Response::PutValue { value } => encode(&put_value(value), &[], &[], limit),
        Response::GetProviders { key, providers, closer } => {
            encode(&head(kind, key.to_shared()), closer, providers, limit)
        }
        Response::AddProvider => Ok(Bytes::new()),
    }
}

fn head(kind: Kind, key: Bytes) -> pb::Message {
    pb::Message { r#type: kind as i32, key, ..Default::default() }
}

/// PUT_VALUE and its echo: the key twice, in the message and in the record.
fn put_value(value: &Value) -> pb::Message {
    pb::Message { record: Some(record(value)), ..head(Kind::PutValue, value.key.to_shared()) }
}

fn record(value: &Value) -> pb::Record {
    pb::Record {
        key: value.key.to_shared(),
        value: value.value.clone(),
        // No implementation uses it, but js refuses a record without it: an unknown time is the epoch.
        time_received: rfc3339::format(value.received.unwrap_or_default()),
        publisher: value.publisher.map(|peer| peer.to_bytes().into()).unwrap_or_default(),
        // Readers take 0 for forever: less than a second is rounded up to a second.
        ttl: value.ttl.map(|ttl| u32::try_from(ttl.as_secs()).unwrap_or(u32::MAX).max(1)).unwrap_or_default(),
        // Rounded up: a value never becomes younger on its way.
        age: value.age.map(|age| u32::try_from(age.as_millis().div_ceil(1_000)).unwrap_or(u32::MAX)),
    }
}

fn encode(
    head: &pb::Message,
    closer: &[Arc<Contact>],
    providers: &[Arc<Contact>],
    limit: usize,
) -> Result<Bytes, RequestError> {
    let space = space(head, limit)?;
    let (all_closer, all_providers) = (closer.iter().map(fit::encoded), providers.iter().map(fit::encoded));
    if fit::len(all_closer.clone().chain(all_providers.clone())) <= space {
        return Ok(assemble(head, all_closer, all_providers));
    }
    let fitted = fit::peers(closer, providers, space);
    Ok(assemble(head, fitted.closer.into_iter(), fitted.providers.into_iter()))
}

/// Number of bytes that are left for peers.
fn space(head: &pb::Message, limit: usize) -> Result<usize, RequestError> {
    let taken = head.encoded_len() + frame::prefix_len(limit);
    limit.checked_sub(taken).ok_or(RequestError::TooLarge)
}

/// The message behind its length, with these encoded peers.
fn assemble<'a>(
    head: &pb::Message,
    closer: impl Iterator<Item = &'a [u8]> + Clone,
    providers: impl Iterator<Item = &'a [u8]> + Clone,
) -> Bytes {
    let body = head.encoded_len() + fit::len(closer.clone().chain(providers.clone()));
    let mut out = Vec::with_capacity(frame::prefix_len(body) + body);
    frame::write_prefix(body, &mut out);
    head.encode_raw(&mut out);
    closer.for_each(|peer| fit::put_field(&mut out, CLOSER_TAG, peer));
    providers.for_each(|peer| fit::put_field(&mut out, PROVIDER_TAG, peer));
    out.into()
}
