//! Encodes lists of peers, and cuts them to the space that a message has for them: addresses go before peers.
//!
//! Knows: encoded peers and their lengths. Must not know: the message.

use std::sync::Arc;

use bytes::BufMut;

use super::frame::{prefix_len, write_prefix};
use crate::core::{Contact, MAX_ADDRS};

/// `Peer.id`: field 1, with a length.
const ID_TAG: u8 = 1 << 3 | 2;
/// `Peer.addrs`: field 2, with a length.
const ADDR_TAG: u8 = 2 << 3 | 2;

/// Both lists, cut to size: each entry is an encoded peer.
#[derive(Debug, Default)]
pub(super) struct FittedPeers<'a> {
    pub(super) closer: Vec<&'a [u8]>,
    pub(super) providers: Vec<&'a [u8]>,
}

/// Length of a field with a tag of one byte and a value of `len` bytes.
pub(super) fn field_len(len: usize) -> usize {
    1 + prefix_len(len) + len
}

/// Length of a list of encoded peers.
pub(super) fn len<'a>(peers: impl Iterator<Item = &'a [u8]>) -> usize {
    peers.map(|peer| field_len(peer.len())).sum()
}

/// Appends such a field.
pub(super) fn put_field(out: &mut Vec<u8>, tag: u8, value: &[u8]) {
    out.put_u8(tag);
    write_prefix(value.len(), out);
    out.put_slice(value);
}

/// As much of both lists as `space` bytes hold: see [`encode_response`](super::encode_response).
pub(super) fn peers<'a>(closer: &'a [Arc<Contact>], providers: &'a [Arc<Contact>], space: usize) -> FittedPeers<'a> {
    let mut closer: Vec<_> = closer.iter().map(SizedPeer::whole).collect();
    let mut providers: Vec<_> = providers.iter().map(SizedPeer::whole).collect();
    let (closer_len, providers_len) = (total(&closer), total(&providers));
    if closer_len + providers_len > space {
        if with_addrs(&closer, 1) + with_addrs(&providers, 1) <= space {
            // All peers fit: both lists lose addresses as one.
            let at = closer.len();
            closer.append(&mut providers);
            trim(&mut closer, space);
            providers = closer.split_off(at);
        } else {
            let half = space / 2;
            trim(&mut closer, if providers_len <= half { space - providers_len } else { half });
            trim(&mut providers, space - total(&closer));
        }
    }
    let bytes = |peers: Vec<SizedPeer<'a>>| peers.into_iter().map(|peer| peer.encoded).collect();
    FittedPeers { closer: bytes(closer), providers: bytes(providers) }
}

/// The encoded form of a peer. The first use encodes it, and the contact keeps it.
///
/// The id comes first and every address after it, so that the encoded form with fewer addresses is a prefix of this
/// one.
pub(super) fn encoded(contact: &Arc<Contact>) -> &[u8] {
    contact.encoded().get_or_init(|| {
        let id = contact.peer().to_bytes();
        let addrs = contact.raw_addrs();
        let len = field_len(id.len()) + addrs.clone().map(|addr| field_len(addr.len())).sum::<usize>();
        let mut out = Vec::with_capacity(len);
        put_field(&mut out, ID_TAG, &id);
        addrs.for_each(|addr| put_field(&mut out, ADDR_TAG, addr));
        out.into()
    })
}

/// A peer, and the part of its encoded form that is sent.
struct SizedPeer<'a> {
    contact: &'a Arc<Contact>,
    encoded: &'a [u8],
}

impl<'a> SizedPeer<'a> {
    fn whole(contact: &'a Arc<Contact>) -> SizedPeer<'a> {
        SizedPeer { contact, encoded: encoded(contact) }
    }

    /// The peer with its first `addrs` addresses.
    fn with_addrs(&self, addrs: usize) -> SizedPeer<'a> {
        let all = encoded(self.contact);
        let rest = self.contact.raw_addrs().skip(addrs);
        let cut: usize = rest.map(|addr| field_len(addr.len())).sum();
        SizedPeer { contact: self.contact, encoded: &all[..all.len() - cut] }
    }

    fn field_len(&self) -> usize {
        field_len(self.encoded.len())
    }
}

fn total(peers: &[SizedPeer<'_>]) -> usize {
    peers.iter().map(SizedPeer::field_len).sum()
}

/// Length of a list whose peers have at most `addrs` addresses each.
fn with_addrs(peers: &[SizedPeer<'_>], addrs: usize) -> usize {
    peers.iter().map(|peer| peer.with_addrs(addrs).field_len()).sum()
}

/// Gives every peer the same number of addresses, at least one, and the first peers one more while there is space;
/// leaves out peers from the end if one address each is too much.
fn trim(peers: &mut Vec<SizedPeer<'_>>, space: usize) {
    let addrs = (1..=MAX_ADDRS).rev().find(|addrs| with_addrs(peers, *addrs) <= space).unwrap_or(1);
    let (mut left, mut kept) = (space, 0);
    for peer in peers.iter_mut() {
        *peer = peer.with_addrs(addrs);
        let Some(rest) = left.checked_sub(peer.field_len()) else { break };
        (left, kept) = (rest, kept + 1);
    }
    peers.truncate(kept);
    for peer in peers.iter_mut() {
        let more = peer.with_addrs(addrs + 1);
        if let Some(rest) = (left + peer.field_len()).checked_sub(more.field_len()) {
            (left, *peer) = (rest, more);
        }
    }
}
