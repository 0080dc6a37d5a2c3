//! Has the peers of the routing table kept for the next start.
//!
//! Knows: when that is due. Must not know: who the peers are, or how they are kept. A node that has no peers kept keeps
//! the first at once, when there is most to lose; further changes after ever longer pauses, up to once an interval. A table
//! that does not change is not kept again.

use std::time::Duration;

use crate::core::time::Timestamp;

/// The changes after the first are kept this much later, so that all of a join are kept together, then after twice this,
/// and so on. Source: most of a join is over in a second.
const FIRST: Duration = Duration::from_secs(1);
/// A node that has peers kept from an earlier life begins as if it had kept the table so many times. Source: it takes some
/// seconds to meet those that are left.
const RESTORED: u32 = 3;

#[derive(Debug)]
pub(crate) struct Snapshots {
    interval: Option<Duration>,
    due: Option<Timestamp>,
    /// When the table was kept last, or found to be kept.
    kept: Option<Timestamp>,
    /// How often it was kept.
    times: u32,
}

impl Snapshots {
    /// With an interval of `None`, or a store that keeps no peers, it is never due.
    pub(crate) fn new(interval: Option<Duration>, store_keeps_peers: bool) -> Snapshots {
        Snapshots { interval: interval.filter(|_| store_keeps_peers), due: None, kept: None, times: 0 }
    }

    /// Peers are kept from an earlier life: the first that is met again must not displace the others.
    pub(crate) fn on_restored(&mut self, now: Timestamp) {
        (self.kept, self.times) = (Some(now), RESTORED);
    }

    pub(crate) fn due(&self) -> Option<Timestamp> {
        self.due
    }

    /// The table changed.
    pub(crate) fn on_change(&mut self, now: Timestamp) {
        if let (None, Some(interval)) = (self.due, self.interval) {
            let pause = FIRST.saturating_mul(2u32.saturating_pow(self.times.saturating_sub(1))).min(interval);
            self.due = Some(self.kept.map_or(now, |kept| (now + FIRST.min(interval)).max(kept + pause)));
        }
    }

    /// Whether the table is to be kept now; if so, it is taken to be.
    pub(crate) fn take_due(&mut self, now: Timestamp) -> bool {
        let is_due = self.due.is_some_and(|due| due <= now);
        if is_due {
            self.due = None;
            self.kept = Some(now);
            self.times = self.times.saturating_add(1);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(600);

    #[test]
    fn the_first_change_is_kept_at_once_later_ones_ever_more_seldom() {
        let mut snapshots = Snapshots::new(Some(INTERVAL), true);
        assert!(!snapshots.take_due(Timestamp::from_secs(1_000)), "nothing changed");
        snapshots.on_change(Timestamp::from_secs(100));
        assert!(snapshots.take_due(Timestamp::from_secs(100)));
        snapshots.on_change(Timestamp::from_secs(100));
        snapshots.on_change(Timestamp::from_secs(104));
        assert_eq!(snapshots.due(), Some(Timestamp::from_secs(101)), "a stream of changes does not put it off");
        assert!(!snapshots.take_due(Timestamp::from_micros(100_999_999)));
        assert!(snapshots.take_due(Timestamp::from_secs(101)));
        assert_eq!(snapshots.due(), None);
        let mut pauses = Vec::new();
        let mut kept = Timestamp::from_secs(101);
        for _ in 0..12 {
            snapshots.on_change(kept);
            let due = snapshots.due().unwrap();
            assert!(snapshots.take_due(due));
            pauses.push((due - kept).as_secs());
            kept = due;
        }
        assert_eq!(pauses, [2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600, 600]);
        snapshots.on_change(kept + INTERVAL * 9);
        assert_eq!(snapshots.due(), Some(kept + INTERVAL * 9 + FIRST), "after a long rest soon again");
    }

    #[test]
    fn what_was_kept_before_is_not_displaced_by_the_first_that_is_met_again() {
        let mut snapshots = Snapshots::new(Some(INTERVAL), true);
        snapshots.on_restored(Timestamp::from_secs(100));
        snapshots.on_change(Timestamp::from_secs(100));
        assert_eq!(snapshots.due(), Some(Timestamp::from_secs(104)));
    }

    #[test]
    fn is_never_due_without_an_interval_or_a_store_that_keeps_peers() {
        for mut snapshots in [Snapshots::new(None, true), Snapshots::new(Some(INTERVAL), false)] {
            snapshots.on_change(Timestamp::ZERO);
            assert_eq!(snapshots.due(), None);
        }
    }
}
