//! Has the store remove expired records, a page at a time.
//!
//! Knows: when the next record expires. Must not know: how records are stored.

use std::time::Duration;

use crate::core::store::{Done, OpOutput, Store};
use crate::core::time::{NodeTime, Timestamp};

/// Maximum number of items forgotten at a time, so that the event loop is never held up for long.
pub(crate) const EXPIRED_AT_ONCE: usize = 1_000;
/// Pause between two pages of records whose expiry is cut.
const NEXT_PAGE: Duration = Duration::from_millis(10);
/// Pause before a store that failed is asked again.
const RETRY: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(crate) struct Expiry {
    not_before: Timestamp,
    /// Whether the store works on a page.
    waiting: bool,
    /// Until this date the store is searched for records that would expire too late, and their expiry is cut: they came
    /// while the host's clock was ahead.
    cut: Timestamp,
    /// Whether this page is searched for that.
    cuts: bool,
    /// Whether some record had expired when the page was begun.
    expired: bool,
}

impl Expiry {
    /// The clock may have been ahead when the store's records from before a restart came.
    pub(crate) fn new(date: Timestamp, store: &dyn Store) -> Expiry {
        let cut = if store.next_expiry().is_some() { Timestamp::MAX } else { date };
        Expiry { not_before: Timestamp::ZERO, waiting: false, cut, cuts: false, expired: false }
    }

    /// The host's clock went back: records that came while it was ahead expire too late.
    pub(crate) fn on_set_back(&mut self) {
        self.cut = Timestamp::MAX;
    }

    /// When the store is to forget the next page.
    pub(crate) fn due(&self, time: &NodeTime, store: &dyn Store) -> Option<Timestamp> {
        if self.waiting {
            return None;
        }
        let first = store.next_expiry()?;
        let due = if time.date < self.cut { time.now } else { time.now_at(first) };
        Some(due.max(self.not_before))
    }

    /// Whether the store is to forget a page now; if so, it is taken to work on it.
    pub(crate) fn begin(&mut self, time: &NodeTime, store: &dyn Store) -> bool {
        let begins = self.due(time, store).is_some_and(|due| due <= time.now);
        if begins {
            (self.waiting, self.cuts, self.cut) = (true, time.date < self.cut, time.date);
            self.expired = store.next_expiry().is_some_and(|at| at <= time.date);
        }
        begins
    }

    /// The store has forgotten a page, or failed.
    pub(crate) fn on_done(&mut self, now: Timestamp, done: &Done) {
        self.waiting = false;
        let some = matches!(done, Ok(OpOutput::Expired(1..)));
        if self.cuts && (some || done.is_err()) {
            // More may follow this page.
            (self.cut, self.not_before) = (Timestamp::MAX, now + NEXT_PAGE);
        }
        // A store that says that a record has expired, and then forgets none, must not keep the node busy.
        if (self.expired || done.is_err()) && !some {
            self.not_before = now + RETRY;
        }
    }
}
