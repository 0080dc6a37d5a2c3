//! A peer's id and addresses in one allocation.
//!
//! Knows: how to write and read them. Must not know: what they are for.

use std::sync::Arc;

use libp2p_identity::PeerId;

use super::{AddrNote, AddrRank, Addresses};
use crate::core::contact::Contact;
use crate::core::key::Key;
use crate::core::time::Timestamp;

/// [`Addresses`] as they are kept. The bytes are the length of the id and the id, then of each address its note, its
/// length (two bytes) and the address.
#[derive(Debug)]
pub(crate) struct Packed {
    bytes: Box<[u8]>,
    /// [`Timestamp::MAX`] for never, which takes less memory than an `Option`.
    listed: Timestamp,
    reached: bool,
}

/// In the order of their numbers.
const RANKS: [AddrRank; 5] = [AddrRank::Reached, AddrRank::Near, AddrRank::Listed, AddrRank::Former, AddrRank::Hearsay];
/// The bit of a note's byte for an address that is more than a claim.
const TRUSTED: u8 = 0x80;

impl AddrNote {
    fn to_byte(self) -> u8 {
        self.rank as u8 | if self.trusted { TRUSTED } else { 0 }
    }

    fn from_byte(byte: u8) -> AddrNote {
        let rank = RANKS.get(usize::from(byte & !TRUSTED)).copied().unwrap_or(AddrRank::Hearsay);
        AddrNote { rank, trusted: byte & TRUSTED != 0 }
    }
}

impl Packed {
    pub(crate) fn new(addrs: &Addresses) -> Packed {
        let id = addrs.contact().peer().to_bytes();
        let length: usize = addrs.contact.raw_addrs().map(|addr| 3 + addr.len()).sum();
        let mut bytes = Vec::with_capacity(1 + id.len() + length);
        bytes.push(id.len() as u8);
        bytes.extend(id);
        for (addr, note) in addrs.contact.raw_addrs().zip(&addrs.notes) {
            bytes.push(note.to_byte());
            bytes.extend((addr.len() as u16).to_le_bytes());
            bytes.extend_from_slice(addr);
        }
        Packed { bytes: bytes.into(), listed: addrs.listed.unwrap_or(Timestamp::MAX), reached: addrs.reached }
    }

    /// The addresses as they were; `key` is the peer's. Always `Some`, since what was packed is an id.
    pub(crate) fn unpack(&self, key: &Key) -> Option<Addresses> {
        let listed = (self.listed < Timestamp::MAX).then_some(self.listed);
        let notes = self.notes().map(|(note, _)| note).collect();
        Some(Addresses { contact: self.contact(key)?, notes, listed, reached: self.reached })
    }

    /// The same without how each became known.
    pub(crate) fn contact(&self, key: &Key) -> Option<Arc<Contact>> {
        Some(Contact::at(self.peer()?, *key, self.addrs()))
    }

    /// The addresses, in order.
    pub(crate) fn addrs(&self) -> impl Iterator<Item = &[u8]> {
        self.notes().map(|(_, addr)| addr)
    }

    /// Those that are not hearsay; they come first.
    pub(crate) fn first_hand(&self) -> impl Iterator<Item = &[u8]> {
        self.notes().take_while(|(note, _)| note.rank < AddrRank::Hearsay).map(|(_, addr)| addr)
    }

    fn peer(&self) -> Option<PeerId> {
        let id = self.bytes.split_first().and_then(|(len, rest)| rest.get(..usize::from(*len)));
        id.and_then(|id| PeerId::from_bytes(id).ok())
    }

    /// The bytes after the id.
    fn rest(&self) -> &[u8] {
        let len = self.bytes.first().map_or(0, |len| usize::from(*len));
        self.bytes.get(1 + len..).unwrap_or_default()
    }

    fn notes(&self) -> impl Iterator<Item = (AddrNote, &[u8])> {
        let mut rest = self.rest();
        std::iter::from_fn(move || {
            let (&[note, low, high], after) = rest.split_first_chunk()?;
            let (addr, after) = after.split_at_checked(usize::from(u16::from_le_bytes([low, high])))?;
            rest = after;
            Some((AddrNote::from_byte(note), addr))
        })
    }
}
