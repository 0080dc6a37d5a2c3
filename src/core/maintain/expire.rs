//! Forgets what is over, a page at a time, when the store says that something is.

use std::time::Duration;

use crate::core::store::{Done, Found, Store};
use crate::core::time::{NodeTime, Timestamp};

/// So many items are forgotten at once, so that the loop is never held up for long.
pub(crate) const EXPIRED_AT_ONCE: usize = 1_000;
/// A store that fails is asked again after this.
const RETRY: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(crate) struct Expiry {
    not_before: Timestamp,
    /// Whether the store works at a page.
    waiting: bool,
}

impl Expiry {
    /// When something is to be forgotten next.
    pub(crate) fn due(&self, time: &NodeTime, store: &dyn Store) -> Option<Timestamp> {
        if self.waiting {
            return None;
        }
        store.next_expiry().map(|at| time.now_at(at).max(self.not_before))
    }

    /// Whether the store is to forget a page now.
    pub(crate) fn begin(&mut self, time: &NodeTime, store: &dyn Store) -> bool {
        let begins = self.due(time, store).is_some_and(|due| due <= time.now);
        self.waiting |= begins;
        begins
    }

    /// The store forgot a page. One that says that something has expired, and then forgets nothing, must not keep the node
    /// awake.
    pub(crate) fn on_done(&mut self, now: Timestamp, done: &Done) {
        self.waiting = false;
        if !matches!(done, Ok(Found::Expired(1..))) {
            self.not_before = now + RETRY;
        }
    }
}
