//! What addresses cost, and copies of them.

use bytes::Bytes;

use crate::core::store::memory::config::ADDR_OVERHEAD;

/// How many of the first `addrs` fit into `allowed` bytes, and how many bytes they cost.
pub(super) fn affordable(addrs: &[Bytes], allowed: usize) -> (usize, usize) {
    let mut cost = 0;
    for (i, addr) in addrs.iter().enumerate() {
        let with_this = cost + 2 * addr.len() + ADDR_OVERHEAD;
        if with_this > allowed {
            return (i, cost);
        }
        cost = with_this;
    }
    (addrs.len(), cost)
}

/// The same bytes in one buffer of their own.
pub(super) fn copied(addrs: &[&[u8]]) -> impl Iterator<Item = Bytes> {
    let all = Bytes::from(addrs.concat());
    let mut start = 0;
    addrs.iter().map(move |addr| {
        let end = start + addr.len();
        let copy = all.slice(start..end);
        start = end;
        copy
    })
}
