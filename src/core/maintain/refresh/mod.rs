//! Decides when each bucket is refreshed by a lookup, so that the table follows the network.
//!
//! Knows: when each bucket is due. Must not know: how a lookup works, or who is in the table.
//!
//! A lookup into a bucket refreshes it, whoever started the lookup, if it ended by itself and a peer answered. The
//! bucket is due again 1 to 1.5 intervals later (rule L27): never sooner, so that no bucket costs more than one lookup
//! an interval, and at a time drawn for each node and bucket, so that nodes that started together drift apart. The
//! second refresh of a bucket comes after a third of that, because the first may have seen a network that was still
//! forming.
//!
//! The nearest bucket is refreshed by a lookup for the node's own key (rule A27). The first one starts when the first
//! peer answers, so a node joins by itself unless the application makes it. It finds how many buckets there are; those
//! never refreshed are due at once (rule A26). While it finds fewer than k peers the network may be forming: nodes that
//! start together first find only the node through which they all join. The lookup is therefore repeated after 1, 2, 4
//! … s until it finds the same peers twice. It is also repeated, with growing pauses, while the table lacks peers that
//! the application named.
//!
//! A join of 300 nodes within a minute costs 1 % more requests for the repeated lookups. *Dropped:* repeating them
//! whatever they found (37 % more); ending them when lookups for other keys passed by, which miss peers that are not
//! known yet; refreshing the whole table once an interval.

#[cfg(test)]
mod tests;

use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_core::Rng;

use crate::core::announcement::{RefreshReport, RefreshTarget};
use crate::core::io::QueryId;
use crate::core::time::Timestamp;

/// Pause after a lookup that no peer answered; it doubles with each failure, up to the interval. Source: the boot nodes
/// of a small network are often started together with the others.
const RETRY: Duration = Duration::from_secs(5);
/// Pause after a lookup for the node's own key that found too few peers, or a network that is forming; it doubles each
/// time, up to the interval. Source: a peer that is asked meets the others within a few round trips.
const AGAIN: Duration = Duration::from_secs(1);
/// Minimum number of lookups for the node's own key while they find fewer than k peers, even if they find the same
/// ones: the last starts 7 to 10 s after the first. Source: the node through which all join may be busy for seconds.
const FORMING: u32 = 3;
/// Time from a change of this node's addresses to the lookup that spreads them; further changes in that time are
/// covered by the same lookup. Source: a new network brings several addresses within a second or two.
const SETTLE: Duration = Duration::from_secs(5);
/// Shortest time between two lookups caused by changes of addresses, so that an address that comes and goes is cheap.
const MOVES: Duration = Duration::from_secs(60);
/// The second refresh of a bucket comes after the interval divided by this. Source: of 1,000 nodes that joined within a
/// minute, the early ones lacked up to 4 of 20 peers in buckets of just over 20.
const YOUNG: u32 = 3;
/// Maximum number of refresh lookups at a time. Source: enough to hide a slow one, few enough not to be a burst.
pub(crate) const AT_ONCE: usize = 3;

#[derive(Debug, Default)]
pub(crate) struct Refresh {
    interval: Option<Duration>,
    /// The nearest bucket.
    own: Schedule,
    /// The other buckets, the farthest first. Entries beyond `count` are kept, because the closest neighbour may leave
    /// and return.
    buckets: Vec<Schedule>,
    /// Number of buckets farther away than the closest neighbour.
    count: usize,
    pub(crate) running: Vec<(QueryId, RefreshTarget)>,
    /// A bootstrap that the application started: nothing else is due until it ends.
    join: Option<QueryId>,
    /// Whether the last lookup for the node's own key found fewer than k peers, which are then the whole network.
    small: bool,
    /// A hash of the peers that it found.
    found: u64,
    /// When the last lookup for a change of addresses was due.
    moved: Option<Timestamp>,
    /// When the lookup for the last change of addresses is due, until it starts.
    announce_move: Option<Timestamp>,
}

#[derive(Clone, Debug, Default)]
struct Schedule {
    /// `None` while a lookup for it runs, or if it is never refreshed.
    due: Option<Timestamp>,
    /// Number of lookups in a row that found no peer, too few, or a network that is forming.
    failed: u32,
    /// Whether a lookup refreshed it, rather than the small size of the network.
    seen: bool,
}

impl Refresh {
    /// A schedule. Without an interval nothing is ever due.
    pub(crate) fn new(now: Timestamp, interval: Option<Duration>, rng: &mut ChaCha8Rng) -> Refresh {
        let own = Schedule { due: interval.map(|interval| later(now, interval, rng)), ..Schedule::default() };
        Refresh { interval, own, ..Refresh::default() }
    }

    /// When the next lookup is to start.
    pub(crate) fn due(&self) -> Option<Timestamp> {
        if self.join.is_some() || self.running.len() >= AT_ONCE {
            return None;
        }
        self.buckets.iter().take(self.count).chain([&self.own]).filter_map(|bucket| bucket.due).min()
    }

    /// The bucket to refresh now, if one is due: the nearest before others.
    pub(crate) fn next(&self, now: Timestamp) -> Option<RefreshTarget> {
        let due = self.due().filter(|due| *due <= now)?;
        if self.own.due.is_some_and(|own| own <= now) {
            return Some(RefreshTarget::Own);
        }
        let bucket = self.buckets.iter().take(self.count).position(|bucket| bucket.due == Some(due))?;
        Some(RefreshTarget::Bucket(bucket as u32))
    }

    /// This query refreshes the target.
    pub(crate) fn started(&mut self, id: QueryId, target: RefreshTarget) {
        if target == RefreshTarget::Own {
            self.announce_move = None;
        }
        if let Some(bucket) = self.bucket(target) {
            bucket.due = None;
            self.running.push((id, target));
        }
    }

    /// The application started a bootstrap.
    pub(crate) fn join_started(&mut self, id: QueryId) {
        self.join = self.interval.map(|_| id);
    }

    /// A query was cancelled.
    pub(crate) fn abandoned(&mut self, id: QueryId) {
        self.join = self.join.filter(|join| *join != id);
    }

    /// No peer is known to ask. The target is due when one is, or an interval later.
    pub(crate) fn postponed(&mut self, now: Timestamp, target: RefreshTarget, rng: &mut ChaCha8Rng) {
        if let (Some(interval), Some(bucket)) = (self.interval, self.bucket(target)) {
            bucket.due = Some(later(now, interval, rng));
        }
        self.announce_move = None;
    }

    /// Makes the nearest bucket due at once, unless a lookup for it runs or it is never refreshed.
    pub(crate) fn hasten(&mut self, now: Timestamp) {
        self.own.hasten(now);
    }

    /// The table lacks peers: the nearest bucket is due as soon as its failures allow, at most `longest` from now.
    pub(crate) fn want_more(&mut self, now: Timestamp, longest: Duration, rng: &mut ChaCha8Rng) {
        self.bring_forward(now, RETRY, longest, rng);
    }

    /// The table grew to `len` peers. The first makes the nearest bucket due at once; in a network that was small at
    /// the last lookup each further one makes it due soon.
    pub(crate) fn on_growth(&mut self, now: Timestamp, len: usize, rng: &mut ChaCha8Rng) {
        match len {
            1 => self.own.hasten(now),
            _ if self.small => self.bring_forward(now, AGAIN, Duration::MAX, rng),
            _ => {}
        }
    }

    fn bring_forward(&mut self, now: Timestamp, first: Duration, longest: Duration, rng: &mut ChaCha8Rng) {
        if let (Some(interval), Some(due)) = (self.interval, self.own.due) {
            let pause = pause(first, self.own.failed.max(1)).min(interval).min(longest);
            // It is only brought forward: `later` draws up to one and a half times the pause.
            if due > now + pause.saturating_mul(3) / 2 {
                self.own.due = Some(later(now, pause, rng));
            }
        }
    }

    /// This node's addresses changed, and the closest peers are to learn them (rule A37). A lookup that runs already
    /// may have passed some of them before the change.
    pub(crate) fn on_moved(&mut self, now: Timestamp) {
        let soon = (now + SETTLE).max(self.moved.map_or(now, |moved| moved + MOVES));
        if self.interval.is_some() && self.announce_move.is_none() && self.own.due.is_none_or(|due| due > soon) {
            self.moved = Some(soon);
            self.announce_move = Some(soon);
            self.keep_move_due();
        }
    }

    /// Keeps a lookup for changed addresses due, whatever else postponed the nearest bucket.
    fn keep_move_due(&mut self) {
        if let Some(soon) = self.announce_move {
            self.own.due = self.own.due.map(|due| due.min(soon));
        }
    }

    /// A lookup of another purpose ended and a peer had answered. Its target shares `bits` leading bits with the node.
    pub(crate) fn passed(&mut self, now: Timestamp, bits: u32, rng: &mut ChaCha8Rng) {
        let Some(interval) = self.interval else { return };
        let target = if (bits as usize) < self.count { RefreshTarget::Bucket(bits) } else { RefreshTarget::Own };
        // Before the first lookup for its own key the node does not know which buckets there are.
        let known = self.count > 0;
        // In a network that is forming the nearest bucket must be looked up again, whatever passed through it.
        let forming = target == RefreshTarget::Own && self.own.failed > 0;
        if let Some(bucket) = self.bucket(target).filter(|bucket| known && !forming && bucket.due.is_some()) {
            *bucket = Schedule::seen(later(now, interval, rng));
        }
        self.keep_move_due();
    }

    /// A refresh or a bootstrap ended. `few` is the longest time until peers that the application named are tried
    /// again, where the table lacks some of them.
    pub(crate) fn on_ended(
        &mut self,
        now: Timestamp,
        id: QueryId,
        report: &RefreshReport,
        few: Option<Duration>,
        rng: &mut ChaCha8Rng,
    ) {
        let at = self.running.iter().position(|(running, _)| *running == id);
        let target = at.map(|at| self.running.swap_remove(at).1);
        self.abandoned(id);
        let Some(interval) = self.interval else { return };
        let longest = few.map_or(interval, |few| few.min(interval));
        if let Some(count) = report.buckets {
            self.count = count as usize;
            let known = self.buckets.len().max(self.count);
            self.buckets.resize(known, Schedule { due: Some(now), ..Schedule::default() });
            // A bucket that only counted as refreshed while the network was small has never been looked into.
            if !report.everyone {
                let passed_over = |bucket: &&mut Schedule| !bucket.seen && bucket.failed == 0;
                self.buckets.iter_mut().filter(passed_over).for_each(|bucket| bucket.hasten(now));
            }
            self.small = report.everyone;
        }
        for bucket in &report.refreshed {
            if let Some(bucket) = self.buckets.get_mut(*bucket as usize) {
                let seen = bucket.seen || !report.everyone;
                let wait = if seen && !bucket.seen { interval / YOUNG } else { interval };
                *bucket = Schedule { seen, ..Schedule::seen(later(now, wait, rng)) };
            }
        }
        match target {
            Some(RefreshTarget::Bucket(bucket)) => {
                if let Some(bucket) = self.buckets.get_mut(bucket as usize).filter(|bucket| bucket.due.is_none()) {
                    bucket.fail(now, RETRY, interval, rng);
                }
            }
            // With k peers found at once the network is complete. Otherwise it is small or forming, and only a second
            // lookup with the same result shows which.
            _ => {
                let (begun, changed) = (self.own.failed > 0, self.found != report.found);
                let forming = report.everyone && begun && self.own.failed < FORMING;
                let again = forming || changed && (report.everyone || begun);
                self.found = report.found;
                match report.buckets {
                    None => self.own.fail(now, RETRY, longest, rng),
                    Some(_) if few.is_some() || again => self.own.fail(now, AGAIN, longest, rng),
                    Some(_) => self.own = Schedule::seen(later(now, interval, rng)),
                }
            }
        }
        self.keep_move_due();
    }

    fn bucket(&mut self, target: RefreshTarget) -> Option<&mut Schedule> {
        match target {
            RefreshTarget::Own => Some(&mut self.own),
            RefreshTarget::Bucket(bucket) => self.buckets.get_mut(bucket as usize),
        }
    }
}

impl Schedule {
    fn seen(due: Timestamp) -> Schedule {
        Schedule { due: Some(due), failed: 0, seen: true }
    }

    /// Makes it due now, unless a lookup for it runs.
    fn hasten(&mut self, now: Timestamp) {
        self.due = self.due.map(|due| due.min(now));
    }

    fn fail(&mut self, now: Timestamp, first: Duration, longest: Duration, rng: &mut ChaCha8Rng) {
        self.failed = self.failed.saturating_add(1);
        self.due = Some(later(now, pause(first, self.failed).min(longest), rng));
    }
}

/// The pause after `failed` failures in a row: `first`, doubled with each further one.
fn pause(first: Duration, failed: u32) -> Duration {
    first.saturating_mul(2u32.saturating_pow(failed.saturating_sub(1)))
}

/// A time drawn from 1 to 1.5 times `wait` after `now`.
fn later(now: Timestamp, wait: Duration, rng: &mut ChaCha8Rng) -> Timestamp {
    let share = 1.0 + 0.5 * f64::from(rng.next_u32()) / f64::from(u32::MAX);
    let wait = Duration::try_from_secs_f64(wait.as_secs_f64() * share).unwrap_or(Duration::MAX);
    now + wait.max(Duration::from_micros(1))
}
