//! A histogram of durations.
//!
//! Knows: fixed ranges, whole numbers. Must not know: what was measured, or any float.

use std::time::Duration;

/// The upper ends of the ranges, each included in its own; one more range has no end. Source: from a round trip within
/// a data centre to the time of a query
/// ([`DEFAULT_QUERY_TIMEOUT`](crate::core::config::LookupConfig::DEFAULT_QUERY_TIMEOUT)).
pub const BOUNDS: [Duration; 13] = [
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_millis(1_000),
    Duration::from_millis(2_500),
    Duration::from_secs(5),
    Duration::from_secs(10),
    Duration::from_secs(30),
    Duration::from_secs(60),
];

/// A histogram of durations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Durations {
    /// Number of durations in each range of [`BOUNDS`]; the last counts those above all of them.
    pub counts: [u64; BOUNDS.len() + 1],
    /// Sum of all durations, in microseconds.
    pub sum_us: u64,
}

impl Durations {
    /// Counts a duration.
    pub fn record(&mut self, took: Duration) {
        let range = BOUNDS.partition_point(|bound| *bound < took);
        self.counts[range] += 1;
        self.sum_us = self.sum_us.saturating_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }

    /// Number of durations.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_falls_into_the_first_range_that_holds_it() {
        let mut durations = Durations::default();
        for took in [0, 5_000, 5_001, 60_000_000, 60_000_001] {
            durations.record(Duration::from_micros(took));
        }
        assert_eq!((durations.counts[0], durations.counts[1]), (2, 1));
        assert_eq!((durations.counts[BOUNDS.len() - 1], durations.counts[BOUNDS.len()]), (1, 1));
        assert_eq!((durations.count(), durations.sum_us), (5, 120_010_002));
        durations.record(Duration::MAX);
        assert_eq!(durations.sum_us, u64::MAX, "it saturates");
        assert!(BOUNDS.is_sorted());
    }
}
