//! Cuts lists of peers to the room that a message has for them: addresses go before peers.
//!
//! Knows: encoded peers and their lengths. Must not know: what the message is.

use std::sync::Arc;

use super::encode;
use super::frame::prefix_len;
use crate::core::{Contact, MAX_ADDRS};

/// What is left of both lists: ready bytes, each a whole peer.
#[derive(Debug, Default)]
pub(super) struct Fitted<'a> {
    pub(super) closer: Vec<&'a [u8]>,
    pub(super) providers: Vec<&'a [u8]>,
}

/// How many bytes a field with a tag of one byte takes, if it holds `len` bytes.
pub(super) fn field_len(len: usize) -> usize {
    1 + prefix_len(len) + len
}

/// As much of both lists as `room` bytes hold: see [`encode_response`](super::encode_response).
pub(super) fn peers<'a>(closer: &'a [Arc<Contact>], providers: &'a [Arc<Contact>], room: usize) -> Fitted<'a> {
    let mut closer: Vec<_> = closer.iter().map(|contact| Entry::whole(contact)).collect();
    let mut providers: Vec<_> = providers.iter().map(|contact| Entry::whole(contact)).collect();
    let (closer_len, providers_len) = (total(&closer), total(&providers));
    if closer_len + providers_len > room {
        if least(&closer) + least(&providers) <= room {
            let at = closer.len();
            closer.append(&mut providers);
            trim(&mut closer, room);
            providers = closer.split_off(at);
        } else {
            let half = room / 2;
            trim(&mut closer, if providers_len <= half { room - providers_len } else { half });
            trim(&mut providers, room - total(&closer));
        }
    }
    Fitted { closer: bytes(&closer), providers: bytes(&providers) }
}

/// A peer and how much of its encoded form is sent.
struct Entry<'a> {
    contact: &'a Contact,
    encoded: &'a [u8],
}

impl<'a> Entry<'a> {
    fn whole(contact: &'a Contact) -> Entry<'a> {
        Entry { contact, encoded: encode::peer(contact) }
    }

    /// The peer with its first `addrs` addresses.
    fn with_addrs(&self, addrs: usize) -> Entry<'a> {
        let all = encode::peer(self.contact);
        let rest = self.contact.raw_addrs().get(addrs..).unwrap_or_default();
        let cut: usize = rest.iter().map(|addr| field_len(addr.len())).sum();
        Entry { contact: self.contact, encoded: &all[..all.len() - cut] }
    }

    fn field_len(&self) -> usize {
        field_len(self.encoded.len())
    }
}

fn bytes<'a>(peers: &[Entry<'a>]) -> Vec<&'a [u8]> {
    peers.iter().map(|peer| peer.encoded).collect()
}

fn total(peers: &[Entry<'_>]) -> usize {
    peers.iter().map(Entry::field_len).sum()
}

/// What the peers take with one address each.
fn least(peers: &[Entry<'_>]) -> usize {
    capped(peers, 1)
}

fn capped(peers: &[Entry<'_>], addrs: usize) -> usize {
    peers.iter().map(|peer| peer.with_addrs(addrs).field_len()).sum()
}

/// Gives every peer equally many addresses, at least one, and the first peers one more where there is room; leaves
/// out peers from the end where one address each is too much.
fn trim(peers: &mut Vec<Entry<'_>>, room: usize) {
    let addrs = (1..=MAX_ADDRS).rev().find(|addrs| capped(peers, *addrs) <= room).unwrap_or(1);
    let (mut left, mut kept) = (room, 0);
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
