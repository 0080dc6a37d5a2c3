//! A peer's id and addresses: as bytes until someone asks for them, as a shared contact from then on.
//!
//! Knows: both forms. Must not know: what they cost. Most of what others announce is never asked for, and a contact is
//! three times as large as its bytes; what is asked for often is hashed and encoded once.

use std::sync::Arc;

use bytes::Bytes;
use libp2p_identity::PeerId;
use smallvec::SmallVec;

use super::addrs::copied;
use crate::core::contact::Contact;

pub(super) enum Known {
    /// The length of the id, the id, and each address after its length in two bytes.
    Bytes(Box<[u8]>),
    Contact(Arc<Contact>),
}

impl Known {
    pub(super) fn new(peer: &PeerId, addrs: &[Bytes]) -> Known {
        let id = id_bytes(peer);
        let mut bytes = Vec::with_capacity(1 + id.len() + addrs.iter().map(|addr| 2 + addr.len()).sum::<usize>());
        // An id is a multihash of at most 64 bytes with two short numbers, an address has at most 512 bytes.
        bytes.push(id.len() as u8);
        bytes.extend(&id);
        for addr in addrs {
            bytes.extend((addr.len() as u16).to_be_bytes());
            bytes.extend(addr);
        }
        Known::Bytes(bytes.into_boxed_slice())
    }

    pub(super) fn is(&self, peer: &PeerId) -> bool {
        match self {
            Known::Bytes(bytes) => id(bytes) == &id_bytes(peer)[..],
            Known::Contact(contact) => contact.peer() == peer,
        }
    }

    /// The last eight bytes of the id.
    pub(super) fn tag(&self) -> u64 {
        match self {
            Known::Bytes(bytes) => tag(id(bytes)),
            Known::Contact(contact) => super::tag(contact.peer()),
        }
    }

    pub(super) fn has_addrs(&self) -> bool {
        match self {
            Known::Bytes(bytes) => bytes.len() > 1 + id(bytes).len(),
            Known::Contact(contact) => contact.has_addrs(),
        }
    }

    /// The same peer with these addresses in place of those it had.
    pub(super) fn set_addrs(&mut self, peer: &PeerId, addrs: &[Bytes]) {
        match self {
            Known::Contact(contact) if contact.raw_addrs() == addrs => {}
            Known::Bytes(bytes) if has_exactly(bytes, addrs) => {}
            _ => *self = Known::new(peer, addrs),
        }
    }

    pub(super) fn drop_addrs(&mut self) {
        match self {
            Known::Bytes(bytes) => {
                let len = 1 + id(bytes).len();
                if bytes.len() > len {
                    *bytes = Box::from(&bytes[..len]);
                }
            }
            Known::Contact(contact) if contact.has_addrs() => *contact = contact.with_addrs([]),
            Known::Contact(_) => {}
        }
    }

    /// Forgets the last address, and returns its length. What is left is bytes, since the addresses of a contact share
    /// one buffer.
    pub(super) fn drop_last_addr(&mut self) -> Option<usize> {
        let (left, len) = match self {
            Known::Bytes(bytes) => {
                let start = last_addr(bytes)?;
                (Known::Bytes(Box::from(&bytes[..start])), bytes.len() - start - 2)
            }
            Known::Contact(contact) => {
                let (last, others) = contact.raw_addrs().split_last()?;
                (Known::new(contact.peer(), others), last.len())
            }
        };
        *self = left;
        Some(len)
    }

    /// The contact; made anew each time from bytes.
    pub(super) fn contact(&self) -> Option<Arc<Contact>> {
        let bytes = match self {
            Known::Contact(contact) => return Some(Arc::clone(contact)),
            Known::Bytes(bytes) => bytes,
        };
        let id = id(bytes);
        let bare = Contact::new(PeerId::from_bytes(id).ok()?, []);
        let (mut addrs, mut rest) = (Vec::new(), &bytes[1 + id.len()..]);
        while let Some((len, after)) = rest.split_first_chunk::<2>() {
            let (addr, others) = after.split_at_checked(u16::from_be_bytes(*len).into())?;
            addrs.push(addr);
            rest = others;
        }
        Some(if addrs.is_empty() { bare } else { bare.with_addrs(copied(&addrs)) })
    }

    /// The contact; kept as one from now on.
    pub(super) fn share(&mut self) -> Option<Arc<Contact>> {
        let contact = self.contact()?;
        if matches!(self, Known::Bytes(_)) {
            *self = Known::Contact(Arc::clone(&contact));
        }
        Some(contact)
    }
}

/// The id in the bytes of a peer.
fn id(bytes: &[u8]) -> &[u8] {
    let len = bytes.first().map_or(0, |len| usize::from(*len));
    bytes.get(1..=len).unwrap_or_default()
}

/// The bytes of an id, without an allocation.
pub(in super::super) fn id_bytes(peer: &PeerId) -> SmallVec<[u8; 48]> {
    // At most two numbers of ten bytes and a digest of 64.
    let mut room = [0; 84];
    let len = peer.as_ref().write(&mut room[..]).unwrap_or(0);
    SmallVec::from_slice(&room[..len])
}

/// Whether these are the addresses in the bytes of a peer.
fn has_exactly(bytes: &[u8], addrs: &[Bytes]) -> bool {
    let mut rest = bytes.get(1 + id(bytes).len()..).unwrap_or_default();
    for addr in addrs {
        let Some((len, after)) = rest.split_first_chunk::<2>() else { return false };
        match after.split_at_checked(u16::from_be_bytes(*len).into()) {
            Some((same, others)) if same == addr => rest = others,
            _ => return false,
        }
    }
    rest.is_empty()
}

/// Where in the bytes of a peer its last address begins.
fn last_addr(bytes: &[u8]) -> Option<usize> {
    let mut at = 1 + id(bytes).len();
    let mut last = None;
    while let Some((len, _)) = bytes.get(at..)?.split_first_chunk::<2>() {
        last = Some(at);
        at += 2 + usize::from(u16::from_be_bytes(*len));
    }
    last
}

/// The last eight of these bytes.
pub(super) fn tag(bytes: &[u8]) -> u64 {
    bytes.iter().rev().take(8).fold(0, |tag, byte| (tag << 8) | u64::from(*byte))
}
