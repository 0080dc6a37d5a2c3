//! An order that nobody chose.
//!
//! Knows: lists and randomness. Must not know: what is in them.

use rand_core::Rng;

/// Puts them into an order that only the randomness decides: whoever takes the first of a long list takes any of them.
pub(crate) fn shuffle<T>(items: &mut [T], rng: &mut impl Rng) {
    for last in (1..items.len()).rev() {
        // 32 random bits times the number of places, cut to its upper half: a bias that no list in memory shows.
        let place = (u64::from(rng.next_u32()) * (last as u64 + 1)) >> 32;
        items.swap(last, place as usize);
    }
}
