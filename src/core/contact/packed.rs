//! Addresses one after the other in one buffer, in the contact itself if they are few.
//!
//! Knows: their bytes and bounds. Must not know: whose they are, or what they mean.

use smallvec::SmallVec;

use super::{MAX_ADDR_LEN, MAX_ADDRS};

/// Number of bytes that take no allocation of their own. Source: four addresses of `/ip4/…/udp/…/quic-v1` and their
/// lengths.
const INLINE: usize = 54;
/// Bytes of the length in front of an address.
const LEN: usize = 2;

/// Each address behind its length: at most [`MAX_ADDRS`] of at most [`MAX_ADDR_LEN`] bytes, without repetition.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct PackedAddrs(SmallVec<[u8; INLINE]>);

impl PackedAddrs {
    /// Adds an address behind the others, unless it is empty, too long, known or one too many.
    pub(super) fn push(&mut self, addr: &[u8]) {
        let Some(len) = u16::try_from(addr.len()).ok().filter(|_| (1..=MAX_ADDR_LEN).contains(&addr.len())) else {
            return;
        };
        let mut count = 0;
        for known in self.iter() {
            if known == addr {
                return;
            }
            count += 1;
        }
        if count < MAX_ADDRS {
            self.0.extend_from_slice(&len.to_le_bytes());
            self.0.extend_from_slice(addr);
        }
    }

    /// Gives back what was allocated in excess.
    pub(super) fn shrink(&mut self) {
        if self.0.spilled() {
            self.0.shrink_to_fit();
        }
    }

    /// Number of bytes outside of this value.
    pub(super) fn heap_size(&self) -> usize {
        if self.0.spilled() { self.0.capacity() } else { 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn iter(&self) -> RawAddrs<'_> {
        RawAddrs(&self.0)
    }
}

#[derive(Clone)]
pub(super) struct RawAddrs<'a>(&'a [u8]);

impl<'a> Iterator for RawAddrs<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (len, rest) = self.0.split_first_chunk::<LEN>()?;
        let (addr, rest) = rest.split_at_checked(u16::from_le_bytes(*len).into())?;
        self.0 = rest;
        Some(addr)
    }
}
