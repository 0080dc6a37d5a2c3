//! A limit on how many bytes of other nodes' records this node sends of its own accord.
//!
//! Knows: bytes and times. Must not know: the content, or the peers that it is sent to.
//!
//! A peer that stores values here, or comes under many ids, makes this node send them on. The budget bounds the bytes
//! that it can make the node send in an hour. Records that do not fit are left to the other holders, or to the next
//! hour.

use std::time::Duration;

use crate::core::store::Item;
use crate::core::time::Timestamp;

const HOUR: Duration = Duration::from_secs(3_600);

#[derive(Debug)]
pub(crate) struct Budget {
    hourly: u64,
    left: u64,
    /// The time at which that much was left.
    at: Timestamp,
}

impl Budget {
    /// Allows `hourly` bytes in an hour, all at once if none were needed in the hour before.
    pub(crate) fn new(now: Timestamp, hourly: usize) -> Budget {
        let hourly = hourly as u64;
        Budget { hourly, left: hourly, at: now }
    }

    /// Number of bytes that may be sent now.
    pub(crate) fn left(&mut self, now: Timestamp) -> u64 {
        let grown = u128::from(self.hourly) * now.since(self.at).min(HOUR).as_micros() / HOUR.as_micros();
        // A fraction of a byte is not lost: it counts the next time, from the same moment.
        if grown > 0 {
            self.left = self.left.saturating_add(u64::try_from(grown).unwrap_or(u64::MAX)).min(self.hourly);
            self.at = now;
        }
        self.left
    }

    /// Takes this many bytes, unless fewer are left.
    pub(crate) fn take(&mut self, now: Timestamp, bytes: u64) -> bool {
        let enough = self.left(now) >= bytes;
        if enough {
            self.left -= bytes;
        }
        enough
    }
}

/// The bytes of a record's key and value. The rest of the message is left out.
pub(super) fn bytes(item: &Item) -> u64 {
    let value = match item {
        Item::Value(record) => record.value.len(),
        Item::Provider(_) => 0,
    };
    (item.key().as_bytes().len() + value) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_full_after_an_hour_and_never_fuller() {
        let begin = Timestamp::from_secs(1_000_000);
        let mut budget = Budget::new(begin, 3_600);
        assert!(budget.take(begin, 3_000) && !budget.take(begin, 601) && budget.take(begin, 600));
        assert!(!budget.take(begin + Duration::from_millis(999), 1));
        assert!(budget.take(begin + Duration::from_secs(10), 10));
        assert_eq!(budget.left(begin + 100 * HOUR), 3_600);
        // However often it is asked, it grows at the same rate.
        let mut budget = Budget::new(begin, 3_600);
        assert!(budget.take(begin, 3_600));
        for i in 0..10_000 {
            budget.left(begin + Duration::from_millis(i));
        }
        assert!((9..=10).contains(&budget.left(begin + Duration::from_secs(10))));
    }
}
