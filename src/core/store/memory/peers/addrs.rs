//! What addresses cost, and copies of them.

use bytes::Bytes;

use crate::core::store::memory::config::ADDR_OVERHEAD;

/// How many of the first `addrs` fit into `allowed` bytes, and how many bytes they cost.
pub(super) fn affordable(addrs: &[Bytes], allowed: usize) -> (usize, usize) {
    let fitting = running_costs(addrs).take_while(|cost| *cost <= allowed).enumerate();
    fitting.last().map_or((0, 0), |(last, cost)| (last + 1, cost))
}

/// What the first of them cost, the first two, and so on.
pub(super) fn running_costs(addrs: &[Bytes]) -> impl Iterator<Item = usize> {
    addrs.iter().scan(0, |sum, addr| {
        *sum += cost_of(addr.len());
        Some(*sum)
    })
}

/// What an address of so many bytes costs.
pub(super) fn cost_of(len: usize) -> usize {
    2 * len + ADDR_OVERHEAD
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
