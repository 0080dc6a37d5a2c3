//! What nobody could be told of, and when to try again.
//!
//! Knows: times and names. Must not know: why it failed.
//!
//! Each record has a pause of its own, which doubles with every failure in a row: so one that all refuse costs a look an
//! hour in the end, and holds up no other. What is due first is tried first, together with what lies behind it in the
//! keyspace and is due by then. What there is no room for is left to the hand, which comes by within a turn.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::core::errand::Name;
use crate::core::key::Key;
use crate::core::time::Timestamp;

/// So many records are tried again before the hand comes to them.
pub(super) const MAX_RETRIES: usize = 1_024;
/// The first pause; doubled up to [`MAX_DOUBLINGS`] times. Source: a node that starts without peers has some within a
/// minute.
pub(super) const PAUSE: Duration = Duration::from_secs(60);
const MAX_DOUBLINGS: u32 = 6;
/// What is due within this time is tried together with what is due now.
const TOGETHER: Duration = Duration::from_secs(15);
/// The pause between two pages.
pub(super) const NEXT_PAGE: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(crate) struct Retries {
    failed: BTreeMap<Name, Failed>,
    due: BTreeSet<(Timestamp, Name)>,
    /// No page is read before.
    not_before: Timestamp,
    /// The first of those for whom a page is being read.
    reading: Option<Name>,
}

#[derive(Clone, Copy, Debug)]
struct Failed {
    times: u32,
    /// `None` while it is being tried.
    again: Option<Timestamp>,
}

impl Retries {
    /// When the next page is to be read.
    pub(super) fn due(&self) -> Option<Timestamp> {
        let (at, _) = self.due.first().filter(|_| self.reading.is_none())?;
        Some((*at).max(self.not_before))
    }

    /// The place after which to read it.
    pub(super) fn begin(&mut self) -> Option<Key> {
        let (_, name) = self.due.first()?;
        self.reading = Some(*name);
        name.before()
    }

    /// The page, begun by `begin`; `None` if it could not be read. Returns what of it is tried now.
    pub(super) fn take(&mut self, now: Timestamp, page: Option<Vec<Name>>) -> BTreeSet<Name> {
        let Some(first) = self.reading.take() else { return BTreeSet::new() };
        let Some(page) = page else {
            self.not_before = now + PAUSE;
            return BTreeSet::new();
        };
        self.not_before = now + NEXT_PAGE;
        let tried: BTreeSet<_> = page.into_iter().filter(|name| self.is_due(name, now + TOGETHER)).collect();
        tried.iter().for_each(|name| self.unschedule(name));
        // What is due and no longer kept would be first in line for ever.
        if !tried.contains(&first) {
            self.forget(&first);
        }
        tried
    }

    /// Nobody could be told of it.
    pub(super) fn failed(&mut self, now: Timestamp, name: Name) {
        let times = self.failed.get(&name).map_or(0, |failed| failed.times);
        if times == 0 && self.failed.len() >= MAX_RETRIES {
            return;
        }
        self.unschedule(&name);
        let again = now + PAUSE * (1 << times.min(MAX_DOUBLINGS));
        self.failed.insert(name, Failed { times: times.saturating_add(1), again: Some(again) });
        self.due.insert((again, name));
    }

    /// It was announced, or is no longer published.
    pub(super) fn forget(&mut self, name: &Name) {
        self.unschedule(name);
        self.failed.remove(name);
    }

    /// Whether it failed, so that it is tried in its own time.
    pub(super) fn knows(&self, name: &Name) -> bool {
        self.failed.contains_key(name)
    }

    fn is_due(&self, name: &Name, by: Timestamp) -> bool {
        self.failed.get(name).and_then(|failed| failed.again).is_some_and(|again| again <= by)
    }

    fn unschedule(&mut self, name: &Name) {
        if let Some(failed) = self.failed.get_mut(name)
            && let Some(again) = failed.again.take()
        {
            self.due.remove(&(again, *name));
        }
    }
}
