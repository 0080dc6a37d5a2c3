//! Forgets what is over, a page at a time, when the store says that something is.

use std::time::Duration;

use crate::core::store::Store;
use crate::core::time::Timestamp;

/// So many items are forgotten at once, so that the loop is never held up for long.
const PAGE: usize = 1_000;
/// A store that fails is asked again after this.
const RETRY: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(crate) struct Expiry {
    not_before: Timestamp,
}

impl Expiry {
    /// When something is to be forgotten next.
    pub(crate) fn due(&self, store: &dyn Store) -> Option<Timestamp> {
        store.next_expiry().map(|at| at.max(self.not_before))
    }

    /// Forgets a page of what is over at `now`.
    pub(crate) fn run(&mut self, now: Timestamp, store: &mut dyn Store) {
        if self.due(store).is_none_or(|due| due > now) {
            return;
        }
        // A store that says that something is over, and then forgets nothing, must not keep the node awake.
        if !store.expire(now, PAGE).is_ok_and(|forgotten| forgotten > 0) {
            self.not_before = now + RETRY;
        }
    }
}
