//! Looks into the parts of the keyspace that went quiet, so that the table follows the network.
//!
//! Knows: when each part is due. Must not know: how a lookup goes, or who is in the table.
//!
//! There is one part for each bucket farther away than the closest neighbour, and the nearest part of all, which a lookup
//! towards the node itself looks into. A part counts as looked into when a lookup towards a target in it, whoever asked
//! for it, ended by itself and someone had answered. One interval and up to half of it later it is due: never sooner, so
//! that no part costs more than one lookup an interval, and at times drawn apart for each node and part, so that nodes
//! that started together do not stay in step. Only after the first look, which may have been at a network that was
//! itself just forming, the second comes after a third of that.
//!
//! The first lookup towards the node itself starts with the first peer that answers, so that a node joins by itself
//! unless the application has it join. It finds how many parts there are; those never looked into are due at once. While
//! it finds fewer than k peers the network may just be forming: nodes that start together find only the node through which
//! they join, which meets them a moment later. So it is repeated after 1, 2, 4 … s until it finds the same peers again.
//! Where too few are known it comes sooner too, with ever longer pauses: it tries those that the application named.

#[cfg(test)]
mod tests;

use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_core::Rng;

use crate::core::errand::{Aim, Explored};
use crate::core::io::QueryId;
use crate::core::time::Timestamp;

/// A lookup that nobody answered is tried again after this, then after twice this, and so on up to the interval. Source:
/// the boot nodes of a small network are often started together with the others.
const RETRY: Duration = Duration::from_secs(5);
/// A lookup towards the node itself that was answered and found too few peers, or peers of a network that is forming, is
/// repeated after this, then after twice this, and so on up to the interval. Source: whoever is asked meets the others
/// within a few round trips.
const AGAIN: Duration = Duration::from_secs(1);
/// While fewer than k peers are found, so many lookups towards the node itself follow the first, even if all find the
/// same: until 7 to 10 s later. Source: the node through which all join may be busy for seconds.
const FORMING: u32 = 3;
/// A change of this node's addresses is told to the closest peers after this, with those that follow at once. Source: a
/// new network brings several addresses within a second or two.
const SETTLE: Duration = Duration::from_secs(5);
/// Changes of addresses cause no more than one lookup in this time, so that an address that comes and goes is cheap.
const MOVES: Duration = Duration::from_secs(60);
/// After the first look into a part the second comes after this part of the interval. Source: of 1,000 nodes that joined
/// within a minute, those that came early lacked up to 4 of 20 peers in parts of just over 20.
const YOUNG: u32 = 3;
/// So many lookups run at a time. Source: enough to hide a slow one, few enough not to be a burst.
pub(crate) const AT_ONCE: usize = 3;

#[derive(Debug, Default)]
pub(crate) struct Refresh {
    interval: Option<Duration>,
    /// The nearest part.
    own: Part,
    /// The others, the farthest first; those that are no longer any stay, since the closest neighbour may go and come.
    parts: Vec<Part>,
    /// How many of them there are.
    count: usize,
    pub(crate) running: Vec<(QueryId, Aim)>,
    /// The application has the node join: nothing else is due meanwhile.
    join: Option<QueryId>,
    /// Whether the last lookup towards the node itself found the whole network, since that was small.
    small: bool,
    /// Whom it found.
    found: u64,
    /// When addresses last changed so that a lookup followed.
    moved: Option<Timestamp>,
    /// When the lookup is due that follows the last change, until it starts.
    untold: Option<Timestamp>,
}

#[derive(Clone, Debug, Default)]
struct Part {
    /// `None` while it is being looked into, or if it never is.
    due: Option<Timestamp>,
    /// How many lookups in a row did not suffice: they found nobody, too few, or a network that is forming.
    failed: u32,
    /// Whether it was looked into before, and not only taken for known since the network was small.
    seen: bool,
}

impl Refresh {
    /// Where the interval is `None` nothing is ever due.
    pub(crate) fn new(now: Timestamp, interval: Option<Duration>, rng: &mut ChaCha8Rng) -> Refresh {
        let own = Part { due: interval.map(|interval| later(now, interval, rng)), ..Part::default() };
        Refresh { interval, own, ..Refresh::default() }
    }

    /// When the next lookup is to start.
    pub(crate) fn due(&self) -> Option<Timestamp> {
        if self.join.is_some() || self.running.len() >= AT_ONCE {
            return None;
        }
        self.parts.iter().take(self.count).chain([&self.own]).filter_map(|part| part.due).min()
    }

    /// What is to be looked into now, if anything: the nearest part before others.
    pub(crate) fn next(&self, now: Timestamp) -> Option<Aim> {
        let due = self.due().filter(|due| *due <= now)?;
        if self.own.due.is_some_and(|own| own <= now) {
            return Some(Aim::Own);
        }
        let part = self.parts.iter().take(self.count).position(|part| part.due == Some(due))?;
        Some(Aim::Part(part as u32))
    }

    /// It is looked into, by this query.
    pub(crate) fn started(&mut self, id: QueryId, aim: Aim) {
        if aim == Aim::Own {
            self.untold = None;
        }
        if let Some(part) = self.part(aim) {
            part.due = None;
            self.running.push((id, aim));
        }
    }

    /// The application has the node join, by this query.
    pub(crate) fn join_started(&mut self, id: QueryId) {
        self.join = self.interval.map(|_| id);
    }

    /// A query ended early.
    pub(crate) fn abandoned(&mut self, id: QueryId) {
        self.join = self.join.filter(|join| *join != id);
    }

    /// Nobody is known whom to ask: it is due when one is known, or an interval later.
    pub(crate) fn postponed(&mut self, now: Timestamp, aim: Aim, rng: &mut ChaCha8Rng) {
        if let (Some(interval), Some(part)) = (self.interval, self.part(aim)) {
            part.due = Some(later(now, interval, rng));
        }
        self.untold = None;
    }

    /// The nearest part is due at once, unless it is being looked into or never to be.
    pub(crate) fn hasten(&mut self, now: Timestamp) {
        self.own.hasten(now);
    }

    /// Few peers are known: the nearest part is due soon, or as soon as the last failures allow, `longest` from now.
    pub(crate) fn want_more(&mut self, now: Timestamp, longest: Duration, rng: &mut ChaCha8Rng) {
        self.bring_forward(now, RETRY, longest, rng);
    }

    /// The table has `len` peers now, one more than before. The first is worth a look at once; where the network was small
    /// when last looked at, each of the others is worth one soon.
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
            // No later than it would be drawn.
            if due > now + pause.saturating_mul(3) / 2 {
                self.own.due = Some(later(now, pause, rng));
            }
        }
    }

    /// This node's addresses changed: the closest peers are to know them. A lookup that runs may have passed by some of
    /// them already.
    pub(crate) fn on_moved(&mut self, now: Timestamp) {
        let soon = (now + SETTLE).max(self.moved.map_or(now, |moved| moved + MOVES));
        if self.interval.is_some() && self.untold.is_none() && self.own.due.is_none_or(|due| due > soon) {
            self.moved = Some(soon);
            self.untold = Some(soon);
            self.hasten_untold();
        }
    }

    /// Whatever else put it off, the nearest part is looked into after a change of addresses.
    fn hasten_untold(&mut self) {
        if let Some(soon) = self.untold {
            self.own.due = self.own.due.map(|due| due.min(soon));
        }
    }

    /// A lookup that was not started for this ended, and someone had answered: its target shares so many bits with the
    /// node.
    pub(crate) fn passed(&mut self, now: Timestamp, bits: u32, rng: &mut ChaCha8Rng) {
        let Some(interval) = self.interval else { return };
        let aim = if (bits as usize) < self.count { Aim::Part(bits) } else { Aim::Own };
        // Whoever has not looked for itself yet does not know which parts there are.
        let known = self.count > 0;
        // Nor is a network known that is still forming.
        let forming = aim == Aim::Own && self.own.failed > 0;
        if let Some(part) = self.part(aim).filter(|part| known && !forming && part.due.is_some()) {
            *part = Part::seen(later(now, interval, rng));
        }
        self.hasten_untold();
    }

    /// A lookup that was started for this, or a join, is over. `few`: peers that the application named are not among
    /// those known, though there is room for them; they are to be tried again within this.
    pub(crate) fn explored(
        &mut self,
        now: Timestamp,
        id: QueryId,
        explored: &Explored,
        few: Option<Duration>,
        rng: &mut ChaCha8Rng,
    ) {
        let at = self.running.iter().position(|(running, _)| *running == id);
        let aim = at.map(|at| self.running.swap_remove(at).1);
        self.abandoned(id);
        let Some(interval) = self.interval else { return };
        let longest = few.map_or(interval, |few| few.min(interval));
        if let Some(count) = explored.parts {
            self.count = count as usize;
            let known = self.parts.len().max(self.count);
            self.parts.resize(known, Part { due: Some(now), ..Part::default() });
            if !explored.everyone {
                let passed_over = |part: &&mut Part| !part.seen && part.failed == 0;
                self.parts.iter_mut().filter(passed_over).for_each(|part| part.hasten(now));
            }
            self.small = explored.everyone;
        }
        for part in &explored.looked_into {
            if let Some(part) = self.parts.get_mut(*part as usize) {
                let seen = part.seen || !explored.everyone;
                let wait = if seen && !part.seen { interval / YOUNG } else { interval };
                *part = Part { seen, ..Part::seen(later(now, wait, rng)) };
            }
        }
        match aim {
            Some(Aim::Part(part)) => {
                if let Some(part) = self.parts.get_mut(part as usize).filter(|part| part.due.is_none()) {
                    part.fail(now, RETRY, interval, rng);
                }
            }
            // Where k are found at once the network is there; else it is small, or forming: then the same are to be found
            // twice.
            _ => {
                let (begun, changed) = (self.own.failed > 0, self.found != explored.found);
                let forming = explored.everyone && begun && self.own.failed < FORMING;
                let again = forming || changed && (explored.everyone || begun);
                self.found = explored.found;
                match explored.parts {
                    None => self.own.fail(now, RETRY, longest, rng),
                    Some(_) if few.is_some() || again => self.own.fail(now, AGAIN, longest, rng),
                    Some(_) => self.own = Part::seen(later(now, interval, rng)),
                }
            }
        }
        self.hasten_untold();
    }

    fn part(&mut self, aim: Aim) -> Option<&mut Part> {
        match aim {
            Aim::Own => Some(&mut self.own),
            Aim::Part(part) => self.parts.get_mut(part as usize),
        }
    }
}

impl Part {
    fn seen(due: Timestamp) -> Part {
        Part { due: Some(due), failed: 0, seen: true }
    }

    /// It is due now, unless it is being looked into.
    fn hasten(&mut self, now: Timestamp) {
        self.due = self.due.map(|due| due.min(now));
    }

    fn fail(&mut self, now: Timestamp, first: Duration, longest: Duration, rng: &mut ChaCha8Rng) {
        self.failed = self.failed.saturating_add(1);
        self.due = Some(later(now, pause(first, self.failed).min(longest), rng));
    }
}

/// The pause after so many failures, of which the first has this one.
fn pause(first: Duration, failed: u32) -> Duration {
    first.saturating_mul(2u32.saturating_pow(failed.saturating_sub(1)))
}

/// Once to one and a half times this later.
fn later(now: Timestamp, wait: Duration, rng: &mut ChaCha8Rng) -> Timestamp {
    let share = 1.0 + 0.5 * f64::from(rng.next_u32()) / f64::from(u32::MAX);
    let wait = Duration::try_from_secs_f64(wait.as_secs_f64() * share).unwrap_or(Duration::MAX);
    now + wait.max(Duration::from_micros(1))
}
