//! How long answers take: a smoothed round trip and its variance.
//!
//! Knows: RFC 6298's arithmetic. Must not know: whose answers they are.

use std::time::Duration;

use super::config::LookupConfig;

/// Until anything was measured, an answer is late after this. Source: the initial retransmission time of RFC 6298.
const INITIAL_LATE: Duration = Duration::from_secs(1);
/// No answer is called late earlier than this, however fast earlier ones were: scheduling alone takes as long.
const MIN_LATE: Duration = Duration::from_millis(50);
/// The limit of a request is this many times the time at which it is overdue.
const LIMIT_FACTOR: u32 = 4;
/// A limit doubles at most this often. Source: from 1 ms to over 10 s, the longest limit by default.
const MAX_DOUBLINGS: u32 = 14;

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

    /// The deadlines by this estimate; the limit is `least` and `most` at the least and the most.
    fn deadlines(&self, urgency: Urgency, least: Duration, most: Duration) -> Deadlines {
        let (late, overdue) = urgency.deviations();
        let (Some(late), Some(overdue)) = (self.after(late), self.after(overdue)) else {
            return Deadlines { late: INITIAL_LATE.min(most), overdue: (2 * INITIAL_LATE).min(most), limit: most };
        };
        let limit = overdue.saturating_mul(LIMIT_FACTOR).clamp(least, most);
        Deadlines { late: late.max(MIN_LATE).min(most), overdue: overdue.max(2 * MIN_LATE).min(most), limit }
    }

    /// So many deviations after the smoothed time.
    fn after(&self, deviations: u32) -> Option<Duration> {
        let smoothed = self.smoothed()?;
        Some(smoothed + Duration::from_micros(self.variance_us.into()) * deviations)
    }
}

/// How much a query prefers being done to being exact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Urgency {
    /// The answer is to be the true one: late after three deviations, overdue after eight. Source: the simulator's
    /// `stale`: among 15 % dead entries 99.4 % of the true 20 closest are found; with four it would be 98.1 %.
    Normal,
    /// Near enough is good enough: late after one deviation, overdue after four. Source: the simulator's `amino-put`:
    /// a publication takes 2.8 s, and 19.6 of the true 20 hold it; at the steady pace 3.6 s and 19.9.
    High,
}

impl Urgency {
    /// After how many deviations a request is late, and overdue.
    fn deviations(self) -> (u32, u32) {
        match self {
            Urgency::Normal => (3, 8),
            Urgency::High => (1, 4),
        }
    }
}

/// When a request is late and overdue after the peer's time began, and its limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Deadlines {
    pub(crate) late: Duration,
    pub(crate) overdue: Duration,
    /// Counts from the dial, and anew from the first byte.
    pub(crate) limit: Duration,
}

impl Deadlines {
    /// Early enough to leave a query of this time the chance to ask someone else, and to follow up.
    pub(crate) fn within(self, time: Duration) -> Deadlines {
        Deadlines { late: self.late.min(time / 4), overdue: self.overdue.min(time / 2), ..self }
    }
}

/// What all peers together taught about time: that of answers, and that of answers with the dial before them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RttEstimator {
    warm: RoundTrip,
    cold: RoundTrip,
    /// The smoothed share of requests that failed, in parts of 65,536.
    failing: u32,
}

impl RttEstimator {
    /// Takes an answer into account; `warm` if the peer was connected when it was asked. Says whether it is the first of its
    /// kind.
    pub(crate) fn record(&mut self, warm: bool, took: Duration) -> bool {
        let kind = if warm { &mut self.warm } else { &mut self.cold };
        let first = kind.smoothed().is_none();
        kind.record(took);
        first
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

    /// The deadlines of a request: by the round trip of its peer, else by that of all, else by that with a dial. The limit
    /// doubles with each of these failures of the peer since it last answered (RFC 6298, 5.5).
    pub(crate) fn of_request(
        &self,
        peer: Option<RoundTrip>,
        failures: u32,
        urgency: Urgency,
        config: &LookupConfig,
    ) -> Deadlines {
        let measured = |rtt: &RoundTrip| rtt.smoothed().is_some();
        let known = [peer.unwrap_or_default(), self.warm, self.cold].into_iter().find(measured);
        let measured = known.unwrap_or_default();
        let mut deadlines = measured.deadlines(urgency, config.min_request_timeout, config.request_timeout);
        deadlines.limit = deadlines.limit.saturating_mul(1 << failures.min(MAX_DOUBLINGS)).min(config.request_timeout);
        deadlines
    }

    /// The deadlines of a dial and the answer after it; the limit is that of the dial.
    pub(crate) fn of_dial(&self, urgency: Urgency, config: &LookupConfig) -> Deadlines {
        let least = config.min_request_timeout.min(config.dial_timeout);
        self.cold.deadlines(urgency, least, config.dial_timeout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_follow_what_was_measured_within_their_bounds() {
        let config = LookupConfig::default();
        let mut rtt = RttEstimator::default();
        let initial = rtt.of_request(None, 0, Urgency::High, &config);
        let late = Deadlines { late: INITIAL_LATE, overdue: 2 * INITIAL_LATE, limit: config.request_timeout };
        assert_eq!(initial, late);
        for _ in 0..50 {
            rtt.record(true, Duration::from_millis(100));
        }
        let warm = rtt.of_request(None, 0, Urgency::High, &config);
        assert!(warm.late >= Duration::from_millis(100) && warm.late < Duration::from_millis(150), "{warm:?}");
        assert_eq!(warm.limit, config.min_request_timeout);
        assert_eq!(rtt.of_dial(Urgency::High, &config).late, INITIAL_LATE, "dialling is another matter");
        for _ in 0..50 {
            rtt.record(true, Duration::from_secs(3600));
        }
        assert_eq!(rtt.of_request(None, 0, Urgency::High, &config).late, config.request_timeout);
    }

    #[test]
    fn a_peer_is_measured_by_itself() {
        let config = LookupConfig::default();
        let mut rtt = RttEstimator::default();
        rtt.record(true, Duration::from_millis(100));
        let mut slow = RoundTrip::default();
        slow.record(Duration::from_millis(900));
        assert!(rtt.of_request(Some(slow), 0, Urgency::High, &config).late > Duration::from_millis(900));
        let brisk = rtt.of_request(Some(RoundTrip::default()), 0, Urgency::High, &config);
        assert_eq!((brisk.late, brisk.overdue), (Duration::from_millis(150), Duration::from_millis(300)), "100 + 50");
        let steady = rtt.of_request(None, 0, Urgency::Normal, &config);
        assert_eq!((steady.late, steady.overdue), (Duration::from_millis(250), Duration::from_millis(500)));
    }

    #[test]
    fn the_limit_doubles_with_each_failure_and_a_late_answer_raises_it() {
        let config = LookupConfig::default();
        let mut rtt = RoundTrip::default();
        (0..20).for_each(|_| rtt.record(Duration::from_millis(1)));
        let limit =
            |rtt, failures| RttEstimator::default().of_request(Some(rtt), failures, Urgency::Normal, &config).limit;
        let limits: Vec<_> = [0, 1, 2, 3, u32::MAX].map(|failures| limit(rtt, failures).as_secs()).into();
        assert_eq!(limits, [2, 4, 8, 10, 10]);
        rtt.record(Duration::from_secs(3));
        assert_eq!(limit(rtt, 0), config.request_timeout);
    }
}
