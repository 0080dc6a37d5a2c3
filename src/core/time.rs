//! Time in the core: a number that the driver passes in.
//!
//! Knows: arithmetic. Must not know: any clock. `net/clock.rs` makes timestamps in production, the simulator makes
//! them in virtual time, tests write them down.

use std::fmt;
use std::ops::{Add, AddAssign, Sub};
use std::time::Duration;

/// A point in time: microseconds of Unix time, as the driver reports it. Any value is allowed, in any order.
///
/// It can be written to disk, compared between nodes and made from a constant, none of which `std::time::Instant`
/// allows. Additions saturate, so that an absurd lifetime cannot panic.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(transparent))]
pub struct Timestamp(u64);

impl Timestamp {
    /// The start of the Unix epoch, where simulations begin.
    pub const ZERO: Timestamp = Timestamp(0);
    /// The latest timestamp.
    pub const MAX: Timestamp = Timestamp(u64::MAX);

    /// A timestamp `secs` seconds after the Unix epoch.
    pub const fn from_secs(secs: u64) -> Self {
        Timestamp(secs.saturating_mul(1_000_000))
    }

    /// A timestamp `millis` milliseconds after the Unix epoch.
    pub const fn from_millis(millis: u64) -> Self {
        Timestamp(millis.saturating_mul(1_000))
    }

    /// A timestamp `micros` microseconds after the Unix epoch.
    pub const fn from_micros(micros: u64) -> Self {
        Timestamp(micros)
    }

    /// Whole seconds since the Unix epoch.
    pub const fn as_secs(self) -> u64 {
        self.0 / 1_000_000
    }

    /// Whole milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> u64 {
        self.0 / 1_000
    }

    /// Microseconds since the Unix epoch.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// The time from `earlier` to this; zero if this is not later.
    pub const fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

/// Maximum step of the node's own time: a year. Longer than anything that a node waits for, and short enough that its
/// own time never reaches the latest timestamp.
const MAX_STEP: Duration = Duration::from_secs(365 * 24 * 3600);

/// The node's own time, and the host's date.
///
/// The host's clock may be set ahead by years, or back, at any moment. Everything timed inside the node (requests,
/// queries, pauses, due times) uses `now`, which never goes back and moves by [`MAX_STEP`] at most. Everything that is
/// stored or sent (records, their lifetimes, the time given to a validator) uses `date`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NodeTime {
    pub(crate) now: Timestamp,
    pub(crate) date: Timestamp,
}

impl NodeTime {
    pub(crate) fn new(date: Timestamp) -> NodeTime {
        NodeTime { now: date.min(Timestamp(u64::MAX / 2)), date }
    }

    /// Takes the date of the host's clock. Returns the node's own time.
    pub(crate) fn follow(&mut self, date: Timestamp) -> Timestamp {
        self.now += date.since(self.date).min(MAX_STEP);
        self.date = date;
        self.now
    }

    /// The date at this time of the node's own, if the host's clock is not set meanwhile.
    pub(crate) fn date_at(&self, now: Timestamp) -> Timestamp {
        now.shifted(self.now, self.date)
    }

    /// The node's own time at this date, if the host's clock is not set meanwhile.
    pub(crate) fn now_at(&self, date: Timestamp) -> Timestamp {
        date.shifted(self.date, self.now)
    }
}

impl Timestamp {
    /// The point that is as long before or after `to` as this is before or after `from`.
    fn shifted(self, from: Timestamp, to: Timestamp) -> Timestamp {
        if self >= from { to + self.since(from) } else { Timestamp(to.0.saturating_sub(from.0 - self.0)) }
    }
}

impl Add<Duration> for Timestamp {
    type Output = Timestamp;

    fn add(self, rhs: Duration) -> Timestamp {
        Timestamp(self.0.saturating_add(u64::try_from(rhs.as_micros()).unwrap_or(u64::MAX)))
    }
}

impl AddAssign<Duration> for Timestamp {
    fn add_assign(&mut self, rhs: Duration) {
        *self = *self + rhs;
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Timestamp;

    fn sub(self, rhs: Duration) -> Timestamp {
        Timestamp(self.0.saturating_sub(u64::try_from(rhs.as_micros()).unwrap_or(u64::MAX)))
    }
}

impl Sub for Timestamp {
    type Output = Duration;

    fn sub(self, rhs: Timestamp) -> Duration {
        self.since(rhs)
    }
}

impl fmt::Debug for Timestamp {
    /// The date and the time in UTC, such as `2023-11-14T22:13:20.000000Z`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (secs, micros) = (self.as_secs(), self.0 % 1_000_000);
        // Years are counted from March, in cycles of 400: then the lengths of months and years are regular.
        let days = secs / 86_400 + 719_468;
        let (cycle, day) = (days / 146_097, days % 146_097);
        let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
        let day = day - (365 * year + year / 4 - year / 100);
        let month = (5 * day + 2) / 153;
        let date = day - (153 * month + 2) / 5 + 1;
        let (january, month) = (month >= 10, (month + 2) % 12 + 1);
        let year = 400 * cycle + year + u64::from(january);
        let (hour, minute, second) = (secs / 3_600 % 24, secs / 60 % 60, secs % 60);
        write!(f, "{year:04}-{month:02}-{date:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}", self.as_secs(), self.0 % 1_000_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates_at_both_ends() {
        assert_eq!(Timestamp::MAX + Duration::MAX, Timestamp::MAX);
        assert_eq!(Timestamp::ZERO - Timestamp::from_secs(1), Duration::ZERO);
        assert_eq!(Timestamp::from_secs(3) - Timestamp::from_millis(1_500), Duration::from_millis(1_500));
    }

    #[test]
    fn own_time_never_goes_back_and_the_date_is_the_hosts() {
        let at = Timestamp::from_secs;
        let mut time = NodeTime::new(at(100));
        assert_eq!((time.follow(at(150)), time.date_at(at(160)), time.now_at(at(10))), (at(150), at(160), at(10)));
        assert_eq!((time.follow(at(20)), time.date), (at(150), at(20)));
        assert_eq!((time.date_at(at(151)), time.now_at(at(21))), (at(21), at(151)));
        assert_eq!(time.follow(at(30)), at(160));
        let year = at(160) + MAX_STEP;
        assert_eq!((time.follow(Timestamp::MAX), time.date), (year, Timestamp::MAX));
        assert_eq!((time.follow(Timestamp::ZERO), time.date_at(year + Duration::from_secs(1))), (year, at(1)));
        assert!(NodeTime::new(Timestamp::MAX).follow(Timestamp::MAX) < Timestamp::MAX);
    }

    #[test]
    fn subtraction_ends_at_zero() {
        assert_eq!(Timestamp::from_secs(3) - Duration::from_secs(1), Timestamp::from_secs(2));
        assert_eq!(Timestamp::from_secs(3) - Duration::MAX, Timestamp::ZERO);
    }

    #[test]
    fn debug_prints_the_date() {
        for (secs, text) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (951_782_399, "2000-02-28T23:59:59.000000Z"),
            (951_782_400, "2000-02-29T00:00:00.000000Z"),
            (1_700_000_000, "2023-11-14T22:13:20.000000Z"),
            (4_102_444_800, "2100-01-01T00:00:00.000000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000000Z"),
            (253_402_300_799, "9999-12-31T23:59:59.000000Z"),
        ] {
            assert_eq!(format!("{:?}", Timestamp::from_secs(secs)), text);
        }
        assert_eq!(format!("{:?}", Timestamp::MAX), "586524-01-19T08:01:49.551615Z");
    }

    #[test]
    fn prints_seconds_and_micros() {
        assert_eq!((Timestamp::from_secs(2) + Duration::from_micros(5)).to_string(), "2.000005");
    }
}
