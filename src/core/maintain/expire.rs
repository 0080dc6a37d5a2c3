//! Forgets what is over, a page at a time, when the store says that something is.

use std::time::Duration;

use crate::core::store::{Done, Found, Store};
use crate::core::time::{NodeTime, Timestamp};

/// So many items are forgotten at once, so that the loop is never held up for long.
pub(crate) const EXPIRED_AT_ONCE: usize = 1_000;
/// The pause between two pages of what expires too late.
const NEXT_PAGE: Duration = Duration::from_millis(10);
/// A store that fails is asked again after this.
const RETRY: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(crate) struct Expiry {
    not_before: Timestamp,
    /// Whether the store works at a page.
    waiting: bool,
    /// Until this date the store is to be looked through for what expires too late.
    cut: Timestamp,
    /// Whether the page is looked through for that.
    cuts: bool,
    /// Whether something had expired when the page was begun.
    expired: bool,
}

impl Expiry {
    /// What the store keeps from an earlier life, the clock may have been ahead when it came.
    pub(crate) fn new(date: Timestamp, store: &dyn Store) -> Expiry {
        let cut = if store.next_expiry().is_some() { Timestamp::MAX } else { date };
        Expiry { not_before: Timestamp::ZERO, waiting: false, cut, cuts: false, expired: false }
    }

    /// The host's clock went back: what came while it was ahead expires too late.
    pub(crate) fn on_set_back(&mut self) {
        self.cut = Timestamp::MAX;
    }

    /// When something is to be forgotten next.
    pub(crate) fn due(&self, time: &NodeTime, store: &dyn Store) -> Option<Timestamp> {
        if self.waiting {
            return None;
        }
        let first = store.next_expiry()?;
        let due = if time.date < self.cut { time.now } else { time.now_at(first) };
        Some(due.max(self.not_before))
    }

    /// Whether the store is to forget a page now.
    pub(crate) fn begin(&mut self, time: &NodeTime, store: &dyn Store) -> bool {
        let begins = self.due(time, store).is_some_and(|due| due <= time.now);
        if begins {
            (self.waiting, self.cuts, self.cut) = (true, time.date < self.cut, time.date);
            self.expired = store.next_expiry().is_some_and(|at| at <= time.date);
        }
        begins
    }

    /// The store forgot a page. One that says that something has expired, and then forgets nothing, must not keep the node
    /// awake.
    pub(crate) fn on_done(&mut self, now: Timestamp, done: &Done) {
        self.waiting = false;
        let some = matches!(done, Ok(Found::Expired(1..)));
        if self.cuts && (some || done.is_err()) {
            (self.cut, self.not_before) = (Timestamp::MAX, now + NEXT_PAGE);
        }
        if (self.expired || done.is_err()) && !some {
            self.not_before = now + RETRY;
        }
    }
}
