//! Random order.
//!
//! Knows: lists and randomness. Must not know: what is in the lists.

use rand_core::Rng;

/// Shuffles the items (Fisher–Yates).
pub(crate) fn shuffle<T>(items: &mut [T], rng: &mut impl Rng) {
    for last in (1..items.len()).rev() {
        // The upper half of 32 random bits times the number of places: the bias is too small to show in any list in
        // memory.
        let place = (u64::from(rng.next_u32()) * (last as u64 + 1)) >> 32;
        items.swap(last, place as usize);
    }
}
