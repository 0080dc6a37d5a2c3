//! Looks into the whole table from time to time, so that it follows the network.
//!
//! A refresh is due one interval after the last one, with jitter so that nodes started together do not stay in step;
//! it is a bootstrap that nobody asked for. It waits while one runs.

use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_core::Rng;

use crate::core::io::QueryId;
use crate::core::time::Timestamp;

#[derive(Debug)]
pub(crate) struct Refresh {
    interval: Option<Duration>,
    due: Option<Timestamp>,
    running: Option<QueryId>,
}

impl Refresh {
    pub(crate) fn new(now: Timestamp, interval: Option<Duration>, rng: &mut ChaCha8Rng) -> Refresh {
        let mut refresh = Refresh { interval, due: None, running: None };
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

    /// It could not run now.
    pub(crate) fn postponed(&mut self, now: Timestamp, rng: &mut ChaCha8Rng) {
        self.schedule(now, rng);
    }

    pub(crate) fn finished(&mut self, now: Timestamp, id: QueryId, rng: &mut ChaCha8Rng) {
        if self.running == Some(id) {
            self.running = None;
            self.schedule(now, rng);
        }
    }

    /// Between three quarters and five quarters of the interval from now.
    fn schedule(&mut self, now: Timestamp, rng: &mut ChaCha8Rng) {
        self.due = self.interval.map(|interval| {
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
        refresh.finished(first, QueryId::new(2), &mut rng);
        assert_eq!(refresh.due(), None, "another query");
        refresh.finished(first, QueryId::new(1), &mut rng);
        assert_ne!(refresh.due().unwrap() - first, first - Timestamp::ZERO);
        assert_eq!(Refresh::new(Timestamp::ZERO, None, &mut rng).due(), None);
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
