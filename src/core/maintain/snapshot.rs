//! Has the peers of the routing table kept for the next start.
//!
//! Knows: when that is due. Must not know: who the peers are, or how they are kept. A change of the table is kept soon
//! after the start, when there is most to lose, and later once an interval; a table that does not change is not kept
//! again.

use std::time::Duration;

use crate::core::time::Timestamp;

/// The first changes are kept after this, so that all of a join are kept together. Source: a join is over in a few
/// seconds.
const FIRST: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(crate) struct Snapshots {
    interval: Option<Duration>,
    due: Option<Timestamp>,
    /// When the table was kept last.
    kept: Option<Timestamp>,
}

impl Snapshots {
    /// With an interval of `None`, or a store that keeps no peers, it is never due.
    pub(crate) fn new(interval: Option<Duration>, store_keeps_peers: bool) -> Snapshots {
        Snapshots { interval: interval.filter(|_| store_keeps_peers), due: None, kept: None }
    }

    pub(crate) fn due(&self) -> Option<Timestamp> {
        self.due
    }

    /// The table changed.
    pub(crate) fn on_change(&mut self, now: Timestamp) {
        if let (None, Some(interval)) = (self.due, self.interval) {
            let soon = now + FIRST.min(interval);
            self.due = Some(self.kept.map_or(soon, |kept| soon.max(kept + interval)));
        }
    }

    /// Whether the table is to be kept now; if so, it is taken to be.
    pub(crate) fn take_due(&mut self, now: Timestamp) -> bool {
        let is_due = self.due.is_some_and(|due| due <= now);
        if is_due {
            self.due = None;
            self.kept = Some(now);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(600);

    #[test]
    fn the_first_change_is_kept_soon_later_ones_once_an_interval() {
        let mut snapshots = Snapshots::new(Some(INTERVAL), true);
        assert!(!snapshots.take_due(Timestamp::from_secs(1_000)), "nothing changed");
        snapshots.on_change(Timestamp::from_secs(100));
        snapshots.on_change(Timestamp::from_secs(104));
        assert_eq!(snapshots.due(), Some(Timestamp::from_secs(105)), "a stream of changes does not put it off");
        assert!(!snapshots.take_due(Timestamp::from_secs(104)));
        assert!(snapshots.take_due(Timestamp::from_secs(105)));
        assert_eq!(snapshots.due(), None);
        snapshots.on_change(Timestamp::from_secs(106));
        assert_eq!(snapshots.due(), Some(Timestamp::from_secs(705)));
        assert!(snapshots.take_due(Timestamp::from_secs(705)));
        snapshots.on_change(Timestamp::from_secs(5_000));
        assert_eq!(snapshots.due(), Some(Timestamp::from_secs(5_005)));
    }

    #[test]
    fn is_never_due_without_an_interval_or_a_store_that_keeps_peers() {
        for mut snapshots in [Snapshots::new(None, true), Snapshots::new(Some(INTERVAL), false)] {
            snapshots.on_change(Timestamp::ZERO);
            assert_eq!(snapshots.due(), None);
        }
    }
}
