//! Saves the peers of the routing table for the next start.
//!
//! Knows: when a save is due. Must not know: which peers these are, or how they are stored. A node without saved peers
//! saves its first peers at once, when it has most to lose; further changes are saved at growing intervals, up to a
//! maximum. A table that does not change is not saved again.

use std::time::Duration;

use crate::core::time::Timestamp;

/// Pause after the first save, so that the peers of a join are saved together; it doubles with each save. Source: most
/// of a join takes less than a second.
const FIRST: Duration = Duration::from_secs(1);
/// A node with saved peers starts as if it had saved the table this many times. Source: it takes some seconds to meet
/// those that are left.
const RESTORED: u32 = 3;

#[derive(Debug)]
pub(crate) struct Snapshots {
    interval: Option<Duration>,
    due: Option<Timestamp>,
    /// When the table was last saved, or found to be unchanged.
    saved: Option<Timestamp>,
    /// Number of times it was saved.
    times: u32,
}

impl Snapshots {
    /// Never due without an interval, or with a store that keeps no peers.
    pub(crate) fn new(interval: Option<Duration>, store_keeps_peers: bool) -> Snapshots {
        let interval = if store_keeps_peers { interval } else { None };
        Snapshots { interval, due: None, saved: None, times: 0 }
    }

    /// There are saved peers: the first one that is met again must not displace the others.
    pub(crate) fn on_restored(&mut self, now: Timestamp) {
        (self.saved, self.times) = (Some(now), RESTORED);
    }

    pub(crate) fn due(&self) -> Option<Timestamp> {
        self.due
    }

    /// The table changed.
    pub(crate) fn on_change(&mut self, now: Timestamp) {
        if let (None, Some(interval)) = (self.due, self.interval) {
            let pause = FIRST.saturating_mul(2u32.saturating_pow(self.times.saturating_sub(1))).min(interval);
            self.due = Some(self.saved.map_or(now, |saved| (now + FIRST.min(interval)).max(saved + pause)));
        }
    }

    /// Whether to save the table now; if so, it counts as saved.
    pub(crate) fn take_due(&mut self, now: Timestamp) -> bool {
        let is_due = self.due.is_some_and(|due| due <= now);
        if is_due {
            self.due = None;
            self.saved = Some(now);
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
    fn the_first_change_is_saved_at_once_and_later_ones_after_longer_pauses() {
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
        let mut saved = Timestamp::from_secs(101);
        for _ in 0..12 {
            snapshots.on_change(saved);
            let due = snapshots.due().unwrap();
            assert!(snapshots.take_due(due));
            pauses.push((due - saved).as_secs());
            saved = due;
        }
        assert_eq!(pauses, [2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600, 600]);
        snapshots.on_change(saved + INTERVAL * 9);
        assert_eq!(snapshots.due(), Some(saved + INTERVAL * 9 + FIRST), "soon, after a long rest");
    }

    #[test]
    fn saved_peers_are_not_displaced_by_the_first_that_is_met_again() {
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
