//! The sequence numbers of removed and expired values, so that no older value replaces them.
//!
//! Knows: numbers and until when to remember them. Must not know: values. Bounded: those that end first are evicted
//! first. A 64-bit hash under the store's seed stands for the key.

use std::collections::{BTreeMap, BTreeSet};

use super::config::MAX_SEQUENCES;
use crate::core::store::tombstone;
use crate::core::time::Timestamp;

#[derive(Default)]
pub(super) struct Sequences {
    known: BTreeMap<u64, (u64, Timestamp)>,
    order: BTreeSet<(Timestamp, u64)>,
}

impl Sequences {
    pub(super) fn get(&self, now: Timestamp, key: u64) -> Option<u64> {
        self.known.get(&key).filter(|(_, until)| *until > now).map(|(sequence, _)| *sequence)
    }

    pub(super) fn remember(&mut self, key: u64, left: (u64, Timestamp)) {
        let (sequence, until) = tombstone::merged(left, self.known.get(&key).copied());
        if let Some((_, until)) = self.known.insert(key, (sequence, until)) {
            self.order.remove(&(until, key));
        }
        self.order.insert((until, key));
        if self.known.len() > MAX_SEQUENCES
            && let Some((_, first)) = self.order.pop_first()
        {
            self.known.remove(&first);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_is_remembered_until_its_time_and_too_many_push_out_the_first_to_go() {
        let mut sequences = Sequences::default();
        sequences.remember(0, (7, Timestamp::from_secs(10)));
        sequences.remember(0, (5, Timestamp::from_secs(20)));
        assert_eq!(sequences.get(Timestamp::from_secs(19), 0), Some(7));
        assert_eq!(sequences.get(Timestamp::from_secs(20), 0), None);
        for i in 1..=MAX_SEQUENCES as u64 {
            sequences.remember(i, (1, Timestamp::from_secs(100)));
        }
        assert_eq!(sequences.known.len(), MAX_SEQUENCES);
        assert_eq!(sequences.order.len(), MAX_SEQUENCES);
        assert_eq!(sequences.get(Timestamp::ZERO, 0), None, "it was the first to be forgotten");
    }
}
