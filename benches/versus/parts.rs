//! The cost of single steps: the closest peers of a full table, its memory, encoding and decoding.

use std::hint::black_box;

use bytes::{Bytes, BytesMut};
use libp2p::{Multiaddr, PeerId};

use crate::measure::{Figures, heap, nanoseconds};
use crate::node::peer;
use crate::random::Random;
use crate::theirs::as_named;
use crate::wire;

/// The routing table of an implementation, and its answers.
pub(crate) trait Table {
    fn new(local: PeerId) -> Self;
    fn add(&mut self, peer: &PeerId, addrs: &[Multiaddr]);
    /// The number of peers in the answer to a FIND_NODE for this key; all work is done except for the encoding.
    fn closest(&mut self, key: &[u8]) -> usize;
    /// Writes the answer, its length in front.
    fn answer(&mut self, key: &[u8], out: &mut BytesMut);
    /// The number of peers of an answer without its length, each ready for a request.
    fn decode(body: Bytes) -> usize;
}

pub(crate) fn run<T: Table>(seed: u64) -> Figures {
    let mut random = Random::new(seed);
    let (peers, keys) = (random.peers(5_000, 4), random.keys(512));
    let mut figures = Figures::default();
    let before = heap();
    let mut table = T::new(peer(8, 8));
    for (peer, addrs) in &peers {
        table.add(peer, &addrs[..2]);
    }
    let mut out = BytesMut::with_capacity(16 * 1024);
    // The contacts that are handed out may keep their encoded form: that counts.
    for key in &keys {
        out.clear();
        table.answer(key, &mut out);
    }
    figures.add("table_bytes", heap() - before - out.capacity());
    let mut table = T::new(peer(8, 8));
    for (peer, addrs) in &peers {
        table.add(peer, addrs);
    }
    figures.add("closest", nanoseconds(20_000, |n| assert_eq!(black_box(table.closest(&keys[n % keys.len()])), 20)));
    let encode = nanoseconds(10_000, |n| {
        out.clear();
        table.answer(&keys[n % keys.len()], &mut out);
    });
    figures.add("encode", encode);
    for (name, with_id) in [("decode_p2p", true), ("decode", false)] {
        let mut framed = BytesMut::new();
        wire::encode(as_named(&peers[..20], with_id), &mut framed);
        let body = wire::body(&framed);
        figures.add(name, nanoseconds(5_000, |_| assert_eq!(T::decode(body.clone()), 20)));
    }
    figures
}
