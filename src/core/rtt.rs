//! How long answers take: a smoothed round trip and its variance.
//!
//! Knows: RFC 6298's arithmetic. Must not know: whose answers they are.

use std::time::Duration;

use super::config::LookupConfig;

/// Until anything was measured, an answer is late after this. Source: the initial retransmission time of RFC 6298.
const INITIAL_LATE: Duration = Duration::from_secs(1);
/// No answer is called late earlier than this, however fast earlier ones were: scheduling alone takes as long.
const MIN_LATE: Duration = Duration::from_millis(50);
/// A request is given up after so many times the time at which it is overdue.
const GIVE_UP_FACTOR: u32 = 4;

/// All of a share, in the parts that it is counted in.
const ONE: u32 = 65_536;

/// A smoothed round-trip time. Eight bytes; zero means not measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RoundTrip {
    smoothed_us: u32,
    variance_us: u32,
}

impl RoundTrip {
    /// Takes a measured time into account.
    pub(crate) fn record(&mut self, took: Duration) {
        let sample = u32::try_from(took.as_micros()).unwrap_or(u32::MAX).max(1);
        if self.smoothed_us == 0 {
            *self = RoundTrip { smoothed_us: sample, variance_us: sample / 2 };
            return;
        }
        let deviation = self.smoothed_us.abs_diff(sample);
        self.variance_us = self.variance_us - self.variance_us / 4 + deviation / 4;
        self.smoothed_us = (self.smoothed_us - self.smoothed_us / 8 + sample / 8).max(1);
    }

    /// The smoothed time, once measured.
    pub(crate) fn smoothed(&self) -> Option<Duration> {
        (self.smoothed_us > 0).then(|| Duration::from_micros(self.smoothed_us.into()))
    }

    /// So many deviations after the smoothed time.
    fn after(&self, deviations: u32) -> Option<Duration> {
        let smoothed = self.smoothed()?;
        Some(smoothed + Duration::from_micros(self.variance_us.into()) * deviations)
    }
}

/// How much a query prefers being done to being exact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// The answer is to be the true one: late after three deviations, overdue after eight. Source: the simulator's
    /// `stale`: among 15 % dead entries 99.4 % of the true 20 closest are found; with four it would be 98.1 %.
    Steady,
    /// Near enough is good enough: late after one deviation, overdue after four. Source: the simulator's `amino-put`:
    /// a publication takes 2.8 s, and 19.6 of the true 20 hold it; at the steady pace 3.6 s and 19.9.
    Brisk,
}

impl Pace {
    fn late_deviations(self) -> u32 {
        match self {
            Pace::Steady => 3,
            Pace::Brisk => 1,
        }
    }

    fn overdue_deviations(self) -> u32 {
        match self {
            Pace::Steady => 8,
            Pace::Brisk => 4,
        }
    }
}

/// When a request is late, overdue and given up, after it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Patience {
    pub(crate) late: Duration,
    pub(crate) overdue: Duration,
    pub(crate) give_up: Duration,
}

impl Patience {
    /// No more of it than leaves a query of this time the chance to ask someone else, and to follow up.
    pub(crate) fn within(self, time: Duration) -> Patience {
        Patience { late: self.late.min(time / 4), overdue: self.overdue.min(time / 2), give_up: self.give_up }
    }
}

/// What all peers together taught about time, those connected and those to be dialled first apart.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Experience {
    warm: RoundTrip,
    cold: RoundTrip,
    /// The smoothed share of requests that failed, in parts of 65,536.
    failing: u32,
}

impl Experience {
    /// Takes an answer into account; `warm` if the peer was connected when it was asked.
    pub(crate) fn record(&mut self, warm: bool, took: Duration) {
        if warm { self.warm.record(took) } else { self.cold.record(took) }
    }

    /// Takes the end of a request into account, in so far as it tells whether peers are alive.
    pub(crate) fn record_end(&mut self, failed: bool) {
        self.failing -= self.failing / 64;
        self.failing += if failed { ONE / 64 } else { 0 };
    }

    /// How many of `count` requests are to fail, going by those before.
    pub(crate) fn failing_of(&self, count: usize) -> usize {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        usize::try_from((u64::from(self.failing).saturating_mul(count) + u64::from(ONE) / 2) / u64::from(ONE))
            .unwrap_or(0)
    }

    /// The patience for a peer: by its own round trip where it is measured and connected, else by all peers'.
    pub(crate) fn patience(&self, peer: Option<RoundTrip>, warm: bool, pace: Pace, config: &LookupConfig) -> Patience {
        let own = peer.filter(|rtt| warm && rtt.smoothed().is_some());
        let measured = own.unwrap_or(if warm { self.warm } else { self.cold });
        let most = config.request_timeout;
        let (late, overdue) = (measured.after(pace.late_deviations()), measured.after(pace.overdue_deviations()));
        let (Some(late), Some(overdue)) = (late, overdue) else {
            return Patience { late: INITIAL_LATE.min(most), overdue: (2 * INITIAL_LATE).min(most), give_up: most };
        };
        let give_up = overdue.saturating_mul(GIVE_UP_FACTOR).clamp(config.min_request_timeout, most);
        Patience { late: late.max(MIN_LATE).min(most), overdue: overdue.max(2 * MIN_LATE).min(most), give_up }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_follows_what_was_measured_within_its_bounds() {
        let config = LookupConfig::default();
        let mut experience = Experience::default();
        let initial = experience.patience(None, true, Pace::Brisk, &config);
        let late = Patience { late: INITIAL_LATE, overdue: 2 * INITIAL_LATE, give_up: config.request_timeout };
        assert_eq!(initial, late);
        for _ in 0..50 {
            experience.record(true, Duration::from_millis(100));
        }
        let warm = experience.patience(None, true, Pace::Brisk, &config);
        assert!(warm.late >= Duration::from_millis(100) && warm.late < Duration::from_millis(150), "{warm:?}");
        assert_eq!(warm.give_up, config.min_request_timeout);
        assert_eq!(experience.patience(None, false, Pace::Brisk, &config), initial, "dialling is another matter");
        for _ in 0..50 {
            experience.record(true, Duration::from_secs(3600));
        }
        assert_eq!(experience.patience(None, true, Pace::Brisk, &config).late, config.request_timeout);
    }

    #[test]
    fn a_connected_peer_is_measured_by_itself() {
        let config = LookupConfig::default();
        let mut experience = Experience::default();
        experience.record(true, Duration::from_millis(100));
        let mut slow = RoundTrip::default();
        slow.record(Duration::from_millis(900));
        assert!(experience.patience(Some(slow), true, Pace::Brisk, &config).late > Duration::from_millis(900));
        let variable = experience.patience(None, true, Pace::Brisk, &config).late;
        assert_eq!(variable, Duration::from_millis(150), "100 + 50");
        assert_eq!(experience.patience(None, true, Pace::Brisk, &config).overdue, Duration::from_millis(300));
        let steady = experience.patience(None, true, Pace::Steady, &config);
        assert_eq!((steady.late, steady.overdue), (Duration::from_millis(250), Duration::from_millis(500)));
    }
}
