//! The crate's only clock.
//!
//! Knows: the system's time and its monotonic counter. Must not know: what they are read for.

use std::time::Duration;

use web_time::{Instant, SystemTime};

use crate::core::Timestamp;

/// The difference to the system's time above which this clock follows. A smaller one is drift and adjustment; a larger
/// one is a suspended machine, whose monotonic counter stood still, or a clock that was set, ahead or back.
const TOLERANCE: Duration = Duration::from_secs(1);
/// Time between two readings of the system's time. Source: a tenth of [`TOLERANCE`]; a reading costs as much as half an
/// event does otherwise.
const CHECKED_EVERY: Duration = Duration::from_millis(100);

/// The system's time without its small adjustments: the time at the start plus what the monotonic counter has counted.
/// Follows the system's time when that is set, or continues after a suspend.
#[derive(Debug)]
pub(crate) struct Clock {
    start: Instant,
    /// Unix time minus the monotonic reading.
    offset: Duration,
    /// The monotonic reading at which the system's time is read again.
    next_check: Duration,
}

impl Clock {
    pub(crate) fn new() -> Clock {
        Clock { start: instant(), offset: unix(), next_check: CHECKED_EVERY }
    }

    pub(crate) fn now(&mut self) -> Timestamp {
        let monotonic = self.start.elapsed();
        if monotonic < self.next_check {
            return Timestamp::ZERO + self.offset.saturating_add(monotonic);
        }
        self.next_check = monotonic + CHECKED_EVERY;
        self.read(monotonic, unix())
    }

    /// The monotonic time at which this clock will show `at`, unless the system's time is set until then.
    pub(crate) fn instant_of(&self, at: Timestamp) -> Option<Instant> {
        self.start.checked_add(at - (Timestamp::ZERO + self.offset))
    }

    /// Pure, for tests: the time at these two readings.
    fn read(&mut self, monotonic: Duration, unix: Duration) -> Timestamp {
        let now = self.offset.saturating_add(monotonic);
        if unix.abs_diff(now) > TOLERANCE {
            self.offset = unix.saturating_sub(monotonic);
            return Timestamp::ZERO + unix;
        }
        Timestamp::ZERO + now
    }
}

/// The monotonic time.
#[expect(clippy::disallowed_methods, reason = "the only clock")]
pub(crate) fn instant() -> Instant {
    Instant::now()
}

/// Zero before 1970, which only a machine without a set clock reports.
#[expect(clippy::disallowed_methods, reason = "the only clock")]
fn unix() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(clock: &mut Clock, monotonic: u64, unix: u64) -> u64 {
        clock.read(Duration::from_secs(monotonic), Duration::from_secs(unix)).as_secs()
    }

    #[test]
    fn it_follows_a_suspend_and_a_clock_that_was_set() {
        let mut clock = Clock::new();
        clock.offset = Duration::from_secs(1_000);
        assert_eq!(at(&mut clock, 5, 1_005), 1_005);
        assert_eq!(at(&mut clock, 6, 900), 900, "set back by 106 s");
        assert_eq!(at(&mut clock, 7, 902), 901, "a second is drift");
        assert_eq!(at(&mut clock, 8, 901), 902, "either way");
        assert_eq!(at(&mut clock, 8, 5_000), 5_000, "suspended for an hour");
        assert_eq!(at(&mut clock, 9, 5_001), 5_001);
        let after = |seconds| Some(clock.start + Duration::from_secs(seconds));
        assert_eq!(clock.instant_of(Timestamp::from_secs(5_010)), after(18));
        assert_eq!(clock.instant_of(Timestamp::from_secs(5_000)), after(8));
        assert_eq!(clock.instant_of(Timestamp::from_secs(4)), after(0), "before it started");
        assert_eq!(at(&mut clock, 10, 3), 3, "set to a time before the start");
        assert_eq!(at(&mut clock, 11, 4), 4);
        assert_eq!(at(&mut clock, 12, 1_012), 1_012);
    }

    #[test]
    fn it_runs() {
        let mut clock = Clock::new();
        let first = clock.now();
        assert!(first > Timestamp::from_secs(1_600_000_000));
        assert!(clock.now() >= first);
    }
}
