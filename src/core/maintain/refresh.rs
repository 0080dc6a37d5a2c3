//! Looks into the whole table from time to time, so that it follows the network.
//!
//! A refresh is due one interval after the last one, with jitter so that nodes started together do not stay in step;
//! it is a bootstrap that nobody asked for. It waits while one runs.

use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_core::Rng;

use crate::core::io::QueryId;
use crate::core::time::Timestamp;

/// A refresh that found nobody is tried again after this, then after twice this, and so on up to the interval. Source:
/// the boot nodes of a small network are often started together with the others.
const RETRY: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(crate) struct Refresh {
    interval: Option<Duration>,
    due: Option<Timestamp>,
    running: Option<QueryId>,
    /// How many in a row failed.
    failed: u32,
}

impl Refresh {
    pub(crate) fn new(now: Timestamp, interval: Option<Duration>, rng: &mut ChaCha8Rng) -> Refresh {
        let mut refresh = Refresh { interval, due: None, running: None, failed: 0 };
        refresh.schedule(now, rng);
        refresh
    }

    pub(crate) fn due(&self) -> Option<Timestamp> {
        self.due
    }

    pub(crate) fn is_due(&self, now: Timestamp) -> bool {
        self.due.is_some_and(|due| due <= now)
    }

    /// It runs, as this query; the next comes after it.
    pub(crate) fn started(&mut self, id: QueryId) {
        self.due = None;
        self.running = Some(id);
    }

    /// It is wanted at once, unless it runs or is never to run.
    pub(crate) fn hasten(&mut self, now: Timestamp) {
        self.due = self.due.map(|due| due.min(now));
    }

    /// It could not run now.
    pub(crate) fn postponed(&mut self, now: Timestamp, rng: &mut ChaCha8Rng) {
        self.schedule(now, rng);
    }

    /// A query ended. Where it was the refresh, and found nobody, the next comes soon, and then ever later.
    pub(crate) fn finished(&mut self, now: Timestamp, id: QueryId, found: bool, rng: &mut ChaCha8Rng) {
        if self.running == Some(id) {
            self.running = None;
            self.failed = if found { 0 } else { self.failed.saturating_add(1) };
            self.schedule(now, rng);
        }
    }

    /// Between three quarters and five quarters of the interval from now; of less than it after a failure.
    fn schedule(&mut self, now: Timestamp, rng: &mut ChaCha8Rng) {
        let patience = match self.failed {
            0 => Duration::MAX,
            failed => RETRY.saturating_mul(2u32.saturating_pow(failed - 1)),
        };
        self.due = self.interval.map(|interval| {
            let interval = interval.min(patience);
            let share = 0.75 + 0.5 * f64::from(rng.next_u32()) / f64::from(u32::MAX);
            let wait = Duration::try_from_secs_f64(interval.as_secs_f64() * share).unwrap_or(Duration::MAX);
            now + wait.max(Duration::from_micros(1))
        });
    }
}

#[cfg(test)]
mod tests {
    use rand_core::SeedableRng;

    use super::*;

    #[test]
    fn comes_again_after_it_ended_never_in_step() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let interval = Duration::from_secs(600);
        let mut refresh = Refresh::new(Timestamp::ZERO, Some(interval), &mut rng);
        let first = refresh.due().unwrap();
        assert!(first >= Timestamp::from_secs(450) && first <= Timestamp::from_secs(750));
        refresh.started(QueryId::new(1));
        assert_eq!(refresh.due(), None);
        refresh.finished(first, QueryId::new(2), true, &mut rng);
        assert_eq!(refresh.due(), None, "another query");
        refresh.finished(first, QueryId::new(1), true, &mut rng);
        assert_ne!(refresh.due().unwrap() - first, first - Timestamp::ZERO);
        assert_eq!(Refresh::new(Timestamp::ZERO, None, &mut rng).due(), None);
    }

    #[test]
    fn comes_back_soon_after_finding_nobody_and_then_ever_later() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut refresh = Refresh::new(Timestamp::ZERO, Some(Duration::from_secs(600)), &mut rng);
        let mut now = Timestamp::ZERO;
        let mut waits = Vec::new();
        for i in 0..9 {
            refresh.started(QueryId::new(i));
            refresh.finished(now, QueryId::new(i), i == 8, &mut rng);
            let due = refresh.due().unwrap();
            waits.push((due - now).as_secs());
            now = due;
        }
        assert!((3..=6).contains(&waits[0]) && (7..=12).contains(&waits[1]), "{waits:?}");
        assert!(waits[7..].iter().all(|wait| (450..=750).contains(wait)), "{waits:?}");
        assert!(waits.windows(2).take(6).all(|pair| pair[0] < pair[1]), "{waits:?}");
    }

    #[test]
    fn is_hastened_unless_it_never_comes() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let now = Timestamp::from_secs(3);
        let mut refresh = Refresh::new(Timestamp::ZERO, Some(Duration::from_secs(600)), &mut rng);
        refresh.hasten(now);
        assert!(refresh.is_due(now));
        let mut never = Refresh::new(Timestamp::ZERO, None, &mut rng);
        never.hasten(now);
        assert_eq!(never.due(), None);
    }

    #[test]
    fn an_interval_without_end_never_comes_and_the_shortest_comes_later() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let now = Timestamp::from_secs(1_000_000);
        assert_eq!(Refresh::new(now, Some(Duration::MAX), &mut rng).due(), Some(Timestamp::MAX));
        for _ in 0..10 {
            let mut refresh = Refresh::new(now, Some(Duration::from_micros(1)), &mut rng);
            assert!(refresh.due() > Some(now));
            refresh.postponed(now, &mut rng);
            assert!(refresh.due() > Some(now), "or the node would spin");
        }
    }
}
