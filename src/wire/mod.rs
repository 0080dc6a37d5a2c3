//! Bytes ⇄ messages: the protobuf encoding of `/ipfs/kad/1.0.0`.
//!
//! Knows: the schema and how real peers use it. Must not know: streams, connections, or the purpose of a message. Total
//! and pure: no input makes it panic, and it allocates no more than a small multiple of its input.
//!
//! **Strict in what it sends.** Addresses do not end in the peer's id, ids are binary multihashes, every record has a
//! valid `timeReceived`, and there is no retired and no unknown field. A message that is too long loses addresses first
//! and peers last ([`encode_response`]).
//!
//! **Liberal in what it accepts.** A peer without a valid id, or an address that does not parse, is left out rather
//! than the message. Unknown fields and enumeration values are ignored, and a peer that is listed twice is one peer
//! with the addresses of both entries. It demands what the specification demands: a message must be protobuf and of the
//! type asked for, and a stored value must have the key of its message.

use crate::core::MAX_ADDRS;

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

pub use decode::{decode_request, decode_response};
pub use encode::{encode_request, encode_response};

/// Longest message that is decoded, in bytes without its prefix: 4 MiB.
/// Source: the longest that go-libp2p-kad-dht, js-libp2p and py-libp2p read and may therefore send.
pub const MAX_IN: usize = 4 * 1024 * 1024;

/// Longest message that is sent, in bytes with its prefix: 16 KiB.
/// Source: the default limit of rust-libp2p's `libp2p-kad`; all others read more.
pub const MAX_OUT: usize = 16 * 1024;

/// Maximum number of fields of a message, not counting those of its peers and its record; beyond that a
/// request is refused, and an answer is not read any further.
/// Source: three lists of [`MAX_PEERS`] and as much again. A message of [`MAX_IN`] could hold two million empty ones.
pub const MAX_FIELDS: usize = 4096;

/// Maximum number of entries that are decoded of one list of peers, invalid ones included; later ones are ignored.
/// Source: the core takes at most 2k closer peers (40) and 1,000 providers a query; the next power of two. A message
/// of [`MAX_IN`] could list 100,000 peers, each to be hashed and kept.
pub const MAX_PEERS: usize = 1024;

/// Maximum number of bytes that are decoded of one entry of a list of peers; later addresses are ignored.
/// Source: the addresses that a contact can hold (32 of 512 bytes) and their framing, rounded up. The Go
/// implementation sends at most 8 KiB.
pub const MAX_PEER_LEN: usize = 20 * 1024;

/// Maximum number of addresses that are decoded of one entry of a list of peers; later ones are ignored.
/// Source: four times the number that a contact holds, since some may be of no use. An entry of [`MAX_PEER_LEN`] could
/// hold ten thousand empty ones.
pub const MAX_ADDRS_READ: usize = 4 * MAX_ADDRS;
