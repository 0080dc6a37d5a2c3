//! Forgets what is over, a page at a time, when the store says that something is.

use std::time::Duration;

use crate::core::store::{Loaded, Read, Store, StoreError, Ticket};
use crate::core::time::{NodeTime, Timestamp};

/// So many items are forgotten at once, so that the loop is never held up for long.
const PAGE: usize = 1_000;
/// A store that fails is asked again after this.
const RETRY: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(crate) struct Expiry {
    not_before: Timestamp,
    /// A page that the store still works at.
    waiting: Option<Ticket>,
}

impl Expiry {
    /// When something is to be forgotten next.
    pub(crate) fn due(&self, time: &NodeTime, store: &dyn Store) -> Option<Timestamp> {
        if self.waiting.is_some() {
            return None;
        }
        store.next_expiry().map(|at| time.now_at(at).max(self.not_before))
    }

    /// Forgets a page of what is over.
    pub(crate) fn run(&mut self, time: &NodeTime, store: &mut dyn Store) {
        if self.due(time, store).is_none_or(|due| due > time.now) {
            return;
        }
        match store.expire(time.date, PAGE) {
            Ok(Read::Pending(ticket)) => self.waiting = Some(ticket),
            Ok(Read::Ready(forgotten)) => self.done(time.now, forgotten),
            Err(_) => self.done(time.now, 0),
        }
    }

    /// The store finished a read; whether it was a page of this.
    pub(crate) fn on_loaded(&mut self, now: Timestamp, ticket: Ticket, result: &Result<Loaded, StoreError>) -> bool {
        if self.waiting != Some(ticket) {
            return false;
        }
        self.waiting = None;
        match result {
            Ok(Loaded::Expired(forgotten)) => self.done(now, *forgotten),
            _ => self.done(now, 0),
        }
        true
    }

    /// A store that says that something is over, and then forgets nothing, must not keep the node awake.
    fn done(&mut self, now: Timestamp, forgotten: usize) {
        if forgotten == 0 {
            self.not_before = now + RETRY;
        }
    }
}
