//! The sequence number that is remembered after a value was removed or expired, and for how long; the same in every
//! store.
//!
//! Knows: the times of a record. Must not know: how a store remembers.

use std::time::Duration;

use super::SEQUENCE_MEMORY;
use crate::core::record::Record;
use crate::core::time::Timestamp;

/// The time for which the sequence number of a value without expiry is remembered after the application removed it.
/// Source: copies at other nodes live 48 h from the last announcement, and as long again for one that was late.
const REMOVED_FOR: Duration = Duration::from_secs(96 * 3600);

/// The sequence number to remember when a value is removed, and until when; `None` if it has none.
pub fn of_record(record: &Record) -> Option<(u64, Timestamp)> {
    let until = match record.expires {
        Some(expires) => expires + expires.since(record.received).max(SEQUENCE_MEMORY),
        None => record.announced.unwrap_or_default().max(record.received) + REMOVED_FOR,
    };
    Some((record.sequence?, until))
}

/// Merges two sequence numbers of one key: the higher one, remembered for the longer time.
pub fn merged(one: (u64, Timestamp), other: Option<(u64, Timestamp)>) -> (u64, Timestamp) {
    other.map_or(one, |other| (one.0.max(other.0), one.1.max(other.1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_remembered_for_as_long_as_copies_may_live() {
        let hours = |n: u64| Timestamp::from_secs(n * 3600);
        let mut record = Record::new("/a/b", "v", hours(10));
        assert_eq!(of_record(&record), None);
        record.sequence = Some(7);
        assert_eq!(of_record(&record), Some((7, hours(10 + 96))), "without an end it counts from the receipt");
        record.announced = Some(hours(30));
        assert_eq!(of_record(&record), Some((7, hours(30 + 96))), "or from the announcement, if that is later");
        record.expires = Some(hours(11));
        assert_eq!(of_record(&record), Some((7, hours(11 + 48))), "two days after its end at least");
        record.expires = Some(hours(110));
        assert_eq!(of_record(&record), Some((7, hours(210))), "or as long again as it lived");
        assert_eq!(merged((7, hours(1)), Some((5, hours(2)))), (7, hours(2)));
        assert_eq!(merged((7, hours(1)), None), (7, hours(1)));
    }
}
