//! The encoding of `libp2p-kad`, which does not expose it: its steps over the same schema, on its public types.

use asynchronous_codec::Encoder;
use bytes::{Bytes, BytesMut};
use libp2p::{Multiaddr, PeerId};
use libp2p_kad::{ConnectionType, KadPeer};
use prost::Message as _;

const FIND_NODE: i32 = 4;
const MAX: usize = 16 * 1024;

#[derive(Clone, PartialEq, prost::Message)]
struct Message {
    #[prost(int32, tag = "1")]
    kind: i32,
    #[prost(int32, tag = "10")]
    cluster_level_raw: i32,
    #[prost(bytes = "vec", tag = "2")]
    key: Vec<u8>,
    #[prost(message, repeated, tag = "8")]
    closer_peers: Vec<Peer>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Peer {
    #[prost(bytes = "vec", tag = "1")]
    id: Vec<u8>,
    #[prost(bytes = "vec", repeated, tag = "2")]
    addrs: Vec<Vec<u8>>,
    #[prost(int32, tag = "3")]
    connection: i32,
}

/// Appends a FIND_NODE response, its length in front.
pub(crate) fn encode(peers: Vec<KadPeer>, out: &mut BytesMut) {
    let encoded = |peer: KadPeer| Peer {
        id: peer.node_id.to_bytes(),
        addrs: peer.multiaddrs.into_iter().map(|addr| addr.to_vec()).collect(),
        connection: peer.connection_ty as i32,
    };
    let message = Message {
        kind: FIND_NODE,
        cluster_level_raw: 9,
        closer_peers: peers.into_iter().map(encoded).collect(),
        ..Message::default()
    };
    prost_codec::Codec::<Message>::new(MAX).encode(message, out).expect("encodes");
}

/// The peers of a FIND_NODE response without its length.
pub(crate) fn decode(body: Bytes) -> Vec<KadPeer> {
    let message = Message::decode(body).expect("a message");
    let decoded = |peer: Peer| {
        let node_id = PeerId::from_bytes(&peer.id).ok()?;
        let mut multiaddrs = Vec::with_capacity(peer.addrs.len());
        for addr in peer.addrs {
            if let Ok(Ok(addr)) = Multiaddr::try_from(addr).map(|addr| addr.with_p2p(node_id)) {
                multiaddrs.push(addr);
            }
        }
        let connection_ty = match peer.connection {
            1 => ConnectionType::Connected,
            2 => ConnectionType::CanConnect,
            3 => ConnectionType::CannotConnect,
            _ => ConnectionType::NotConnected,
        };
        Some(KadPeer { node_id, multiaddrs, connection_ty })
    };
    message.closer_peers.into_iter().filter_map(decoded).collect()
}

/// A FIND_NODE request, its length in front.
pub(crate) fn request(key: &[u8]) -> Vec<u8> {
    let message = Message { kind: FIND_NODE, cluster_level_raw: 10, key: key.to_vec(), ..Message::default() };
    message.encode_length_delimited_to_vec()
}

/// A framed message without its length.
pub(crate) fn body(framed: &BytesMut) -> Bytes {
    let (len, rest) = unsigned_varint::decode::usize(framed).expect("a length");
    Bytes::copy_from_slice(&rest[..len])
}
