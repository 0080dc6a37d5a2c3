//! The size of messages on the wire, estimated.
//!
//! Knows: the fields of messages. Must not know: the encoding, whose exact sizes differ by a few bytes.

use std::sync::Arc;

use libp2p_kad_dht::core::{Contact, Request, Response, Value};

/// The bytes of a request: two for the frame, the key, 16 for the fields of the message, and the payload.
pub(crate) fn request_size(request: &Request) -> u64 {
    let bytes = match request {
        Request::FindNode { key } => key.len(),
        Request::GetValue { key } | Request::GetProviders { key } => key.as_bytes().len(),
        Request::PutValue { value } => value_size(value),
        Request::AddProvider { key, providers } => key.as_bytes().len() + peers_size(providers),
        // A ping has no fields.
        _ => 0,
    };
    bytes as u64 + 18
}

/// The bytes of an answer.
pub(crate) fn response_size(response: &Response) -> u64 {
    let bytes = match response {
        Response::FindNode { closer } => peers_size(closer),
        Response::GetValue { key, value, closer } => {
            key.as_bytes().len() + value.as_ref().map_or(0, value_size) + peers_size(closer)
        }
        Response::PutValue { value } => value_size(value),
        Response::GetProviders { key, providers, closer } => {
            key.as_bytes().len() + peers_size(providers) + peers_size(closer)
        }
        // The answer to a ping has no fields; that to an announcement is the end of its stream.
        _ => 0,
    };
    bytes as u64 + 18
}

/// The bytes of a list of peers: for each an id of 38 bytes, as real ones have, its addresses, and 8 bytes of fields.
fn peers_size(peers: &[Arc<Contact>]) -> usize {
    peers.iter().map(|peer| 46 + peer.raw_addrs().map(<[u8]>::len).sum::<usize>()).sum()
}

fn value_size(value: &Value) -> usize {
    // The key twice (message and record), the value, a time as text, and fields.
    2 * value.key.as_bytes().len() + value.value.len() + 60
}
