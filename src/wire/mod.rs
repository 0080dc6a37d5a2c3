//! Bytes ⇄ messages: the protobuf encoding of `/ipfs/kad/1.0.0`.
//!
//! Knows: the schema and what real peers make of it. Must not know: streams, connections, or who asks why. Total and
//! pure: no bytes of a peer can make it panic, and it allocates no more than a small multiple of what it is given.
//!
//! **Strict in what it sends.** Addresses without the peer's id at their end, ids as binary multihashes, a valid
//! `timeReceived` on every record, no retired and no unknown field. What is too long loses addresses first and peers
//! last ([`encode_response`]).
//!
//! **Liberal in what it takes.** A peer without a valid id, or an address that does not parse, is left out rather
//! than the message. Unknown fields and enumeration values are passed over, the same peer named twice is one peer
//! with the addresses of both. What it does demand is what the specification demands: that a message is protobuf,
//! that it is of the type asked for, and that a stored value has the key of its message.

use bytes::Bytes;

use crate::core::{Kind, MAX_ADDRS, Misbehaviour, Request, RequestError, Response};

mod decode;
mod encode;
mod fields;
mod fit;
pub mod frame;
#[rustfmt::skip]
#[expect(unreachable_pub, reason = "generated")]
mod pb;
mod rfc3339;
#[cfg(test)]
mod tests;

/// The longest message that is read, in bytes without its prefix: 4 MiB.
/// Source: what go-libp2p-kad-dht, js-libp2p and py-libp2p read and may therefore send.
pub const MAX_IN: usize = 4 * 1024 * 1024;

/// The longest message that is sent, in bytes with its prefix: 16 KiB.
/// Source: rust-libp2p's `libp2p-kad` reads no more by default; all others read more.
pub const MAX_OUT: usize = 16 * 1024;

/// The most entries that are read of one list of peers, those that are left out counted too; later ones are ignored.
/// Source: the core takes at most 2k closer peers (40) and 1,000 providers a query; the next power of two. A message
/// of [`MAX_IN`] could name 100,000 peers, each to be hashed and kept.
pub const MAX_PEERS: usize = 1024;

/// So many bytes of an entry of a list of peers are read; addresses beyond them are left out.
/// Source: the addresses that a contact can hold (32 of 512 bytes) and their framing, rounded up. The Go
/// implementation sends at most 8 KiB.
pub const MAX_PEER_LEN: usize = 20 * 1024;

/// The most addresses that are looked at in one entry of a list of peers; later ones are ignored.
/// Source: four times what a contact holds, so that some may be of no use. An entry of [`MAX_PEER_LEN`] could hold
/// ten thousand empty ones.
pub const MAX_ADDRS_READ: usize = 4 * MAX_ADDRS;

/// The bytes of a request, its length in front, in one buffer of at most `limit` bytes in all ([`MAX_OUT`]).
///
/// An announcement that is too long loses addresses of its providers, the last ones first.
///
/// # Errors
///
/// [`RequestError::TooLarge`] where the key, the value or a provider with one address does not fit.
pub fn encode_request(request: &Request, limit: usize) -> Result<Bytes, RequestError> {
    encode::request(request, limit)
}

/// The bytes of an answer, its length in front, in one buffer of at most `limit` bytes in all ([`MAX_OUT`]).
///
/// Where not all peers with all addresses fit, every peer keeps equally many of its addresses, the first ones, and at
/// least one. Only where even that does not fit are peers left out, from the end of their lists: half of the room is
/// for either list then, and what one does not need is for the other. Key and value are never left out.
///
/// [`Response::AddProvider`] has no bytes: the buffer is empty, and there is nothing to write.
///
/// # Errors
///
/// [`RequestError::TooLarge`] where the key and the value do not fit.
pub fn encode_response(response: &Response, limit: usize) -> Result<Bytes, RequestError> {
    encode::response(response, limit)
}

/// The request in these bytes, the length prefix taken off (see [`frame`]).
///
/// An absent type is PUT_VALUE. Whether keys are empty or too long is for the core to judge, and so is who may be
/// named in an announcement.
///
/// # Errors
///
/// [`Misbehaviour::Undecodable`] where the bytes are no message, the type is unknown, or a PUT_VALUE has no record;
/// [`Misbehaviour::WrongKey`] where the record of a PUT_VALUE has another key than the message;
/// [`Misbehaviour::TooLarge`] where there are more than [`MAX_IN`] bytes.
pub fn decode_request(bytes: Bytes) -> Result<Request, Misbehaviour> {
    decode::request(&bytes)
}

/// The answer to a request of this kind in these bytes, the length prefix taken off (see [`frame`]).
///
/// Whether the answer is for the key asked for is for the core to judge: a key that the peer left out is empty.
///
/// # Errors
///
/// [`Misbehaviour::Undecodable`] where the bytes are no message or the echo of a PUT_VALUE has no record;
/// [`Misbehaviour::WrongType`] where it is an answer to a request of another kind;
/// [`Misbehaviour::WrongKey`] where the echo of a PUT_VALUE has one key in the record and another in the message;
/// [`Misbehaviour::TooLarge`] where there are more than [`MAX_IN`] bytes.
pub fn decode_response(kind: Kind, bytes: Bytes) -> Result<Response, Misbehaviour> {
    decode::response(kind, &bytes)
}
