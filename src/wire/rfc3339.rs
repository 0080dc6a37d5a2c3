//! The format of a time in a record: RFC 3339, UTC, nanoseconds.
//!
//! Knows: the calendar. Must not know: any clock.

use crate::core::Timestamp;

/// 9999-12-31T23:59:59, the last second that the format can write.
const LAST_SECOND: u64 = 253_402_300_799;

/// Formats a time as `1970-01-01T00:00:00.000000000Z`, always of this length; at most the end of the year 9999.
pub(super) fn format(at: Timestamp) -> String {
    let secs = at.as_secs().min(LAST_SECOND);
    let nanos = if secs < at.as_secs() { 999_999_999 } else { at.as_micros() % 1_000_000 * 1_000 };
    let (year, month, day) = date(secs / 86_400);
    let (hour, minute, second) = (secs / 3_600 % 24, secs / 60 % 60, secs % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanos:09}Z")
}

/// Year, month and day of the month, `days` days after 1970-01-01.
fn date(days: u64) -> (u64, u64, u64) {
    const DAYS_OF_400_YEARS: u64 = 146_097;
    let mut year = 1970 + days / DAYS_OF_400_YEARS * 400;
    let mut day = days % DAYS_OF_400_YEARS;
    while day >= 365 + leap_days(year) {
        day -= 365 + leap_days(year);
        year += 1;
    }
    let mut month = 1;
    for len in [31, 28 + leap_days(year), 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if day < len {
            break;
        }
        day -= len;
        month += 1;
    }
    (year, month, day + 1)
}

fn leap_days(year: u64) -> u64 {
    u64::from(year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_around_the_leaps() {
        for (secs, text) in [
            (0, "1970-01-01T00:00:00.000000000Z"),
            (68_255_999, "1972-02-29T23:59:59.000000000Z"),
            (68_256_000, "1972-03-01T00:00:00.000000000Z"),
            (951_782_400, "2000-02-29T00:00:00.000000000Z"),
            (1_000_000_000, "2001-09-09T01:46:40.000000000Z"),
            (1_735_689_599, "2024-12-31T23:59:59.000000000Z"),
            (1_735_689_600, "2025-01-01T00:00:00.000000000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000000000Z"),
            (13_574_563_200, "2400-02-29T00:00:00.000000000Z"),
        ] {
            assert_eq!(format(Timestamp::from_secs(secs)), text);
        }
    }

    #[test]
    fn fractions_have_nine_digits_and_the_end_of_time_four_digit_years() {
        assert_eq!(format(Timestamp::from_micros(1_000_005)), "1970-01-01T00:00:01.000005000Z");
        assert_eq!(format(Timestamp::from_secs(LAST_SECOND)), "9999-12-31T23:59:59.000000000Z");
        assert_eq!(format(Timestamp::MAX), "9999-12-31T23:59:59.999999999Z");
    }
}
