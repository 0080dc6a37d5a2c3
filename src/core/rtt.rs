//! How long answers take: a smoothed round trip and its variance.
//!
//! Knows: RFC 6298's arithmetic. Must not know: whose answers they are.

use std::time::Duration;

use super::config::LookupConfig;

/// Until anything was measured, an answer is late after this. Source: the initial retransmission time of RFC 6298.
const INITIAL_LATE: Duration = Duration::from_secs(1);
/// No answer is called late earlier than this, however fast earlier ones were: scheduling alone takes as long.
const MIN_LATE: Duration = Duration::from_millis(50);
/// A request is given up after so many times the time at which it is late.
const GIVE_UP_FACTOR: u32 = 4;

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

    /// When an answer is late: four deviations after the smoothed time.
    fn late_after(&self) -> Option<Duration> {
        let smoothed = self.smoothed()?;
        Some(smoothed + Duration::from_micros(self.variance_us.into()) * 4)
    }
}

/// When a request is late, and when it is given up, after it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Patience {
    pub(crate) late: Duration,
    pub(crate) give_up: Duration,
}

/// What all peers together taught about time, those connected and those to be dialled first apart.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Experience {
    warm: RoundTrip,
    cold: RoundTrip,
}

impl Experience {
    /// Takes an answer into account; `warm` if the peer was connected when it was asked.
    pub(crate) fn record(&mut self, warm: bool, took: Duration) {
        if warm { self.warm.record(took) } else { self.cold.record(took) }
    }

    /// The patience for a peer: by its own round trip where it is measured and connected, else by all peers'.
    pub(crate) fn patience(&self, peer: Option<RoundTrip>, warm: bool, config: &LookupConfig) -> Patience {
        let own = peer.filter(|_| warm).and_then(|rtt| rtt.late_after());
        let all = if warm { self.warm } else { self.cold };
        let measured = own.or(all.late_after());
        let late = measured.unwrap_or(INITIAL_LATE).clamp(MIN_LATE.min(config.request_timeout), config.request_timeout);
        let give_up = match measured {
            Some(_) => (late * GIVE_UP_FACTOR).clamp(config.min_request_timeout, config.request_timeout),
            None => config.request_timeout,
        };
        Patience { late, give_up }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_follows_what_was_measured_within_its_bounds() {
        let config = LookupConfig::default();
        let mut experience = Experience::default();
        let initial = experience.patience(None, true, &config);
        assert_eq!(initial, Patience { late: INITIAL_LATE, give_up: config.request_timeout });
        for _ in 0..50 {
            experience.record(true, Duration::from_millis(100));
        }
        let warm = experience.patience(None, true, &config);
        assert!(warm.late >= Duration::from_millis(100) && warm.late < Duration::from_millis(150), "{warm:?}");
        assert_eq!(warm.give_up, config.min_request_timeout);
        assert_eq!(experience.patience(None, false, &config), initial, "dialling is another matter");
        for _ in 0..50 {
            experience.record(true, Duration::from_secs(3600));
        }
        assert_eq!(experience.patience(None, true, &config).late, config.request_timeout);
    }

    #[test]
    fn a_connected_peer_is_measured_by_itself() {
        let config = LookupConfig::default();
        let mut experience = Experience::default();
        experience.record(true, Duration::from_millis(100));
        let mut slow = RoundTrip::default();
        slow.record(Duration::from_millis(900));
        assert!(experience.patience(Some(slow), true, &config).late > Duration::from_millis(900));
        let variable = experience.patience(None, true, &config).late;
        assert_eq!(variable, Duration::from_millis(300), "100 + 4 × 50");
    }
}
