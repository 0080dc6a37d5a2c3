//! One iterative lookup towards a key, along one path or along several that share no peer.
//!
//! Knows: which peers were named, which answered, which to ask next, when the lookup is done. Must not know: what the
//! lookup is for, what it asks, or how long anything takes.

mod disjoint;
mod frontier;
mod path;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use disjoint::Disjoint;
use path::Path;

use super::contact::Contact;
use super::key::{Distance, Key};

/// The parameters of a lookup.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// k: number of closest peers to find.
    pub(crate) count: usize,
    /// α: maximum number of requests in flight during the search (rule L5).
    pub(crate) parallelism: usize,
    /// β: number of closest peers that must have answered to end the search.
    pub(crate) resiliency: usize,
    /// d: number of disjoint paths.
    pub(crate) paths: usize,
    /// Number of peers beyond the k closest to ask at the end of the search, since about this many will fail.
    pub(crate) spare: usize,
    /// Maximum number of peers remembered on each path.
    pub(crate) frontier: usize,
    /// Maximum number of bytes that the peers named by answers take up on each path.
    pub(crate) bytes: usize,
    /// Whether the lookup stops believing an answer whose peers fail, and skips the peers that only this answer named.
    pub(crate) wary: bool,
    /// Whether the lookup asks its first peers alone, and follows no answer.
    pub(crate) closed: bool,
}

/// The lateness of an outstanding answer, compared with the time of earlier answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lateness {
    /// Most answers would have arrived: ask another peer too.
    Late,
    /// Nearly all answers would have arrived: continue without it.
    Overdue,
}

/// The next step of a lookup.
#[derive(Debug)]
pub(crate) enum Next {
    /// Ask this peer; the lookup counts it as asked from now on.
    Ask(Arc<Contact>),
    /// Wait for an answer.
    Wait,
    /// The lookup has ended: it found the closest peers, or has no peer left to ask (rules L11 and A35).
    Done,
}

/// An iterative lookup.
#[derive(Clone, Debug)]
pub(crate) enum Lookup {
    Single(Path),
    Disjoint(Disjoint),
}

/// Does the same with either kind of lookup.
macro_rules! with {
    ($either:ident, $lookup:ident => $call:expr) => {
        match $either {
            Lookup::Single($lookup) => $call,
            Lookup::Disjoint($lookup) => $call,
        }
    };
}

impl Lookup {
    pub(crate) fn new<'a>(target: Key, seeds: impl IntoIterator<Item = &'a Arc<Contact>>, shape: Shape) -> Lookup {
        if shape.paths > 1 {
            Lookup::Disjoint(Disjoint::new(target, seeds, shape))
        } else {
            Lookup::Single(Path::new(target, seeds, shape))
        }
    }

    /// The key that the lookup is for.
    pub(crate) fn target(&self) -> &Key {
        with!(self, lookup => lookup.target())
    }

    /// Returns the next step.
    pub(crate) fn next(&mut self) -> Next {
        with!(self, lookup => lookup.next())
    }

    /// A peer answered and named these. Returns how many of them the lookup did not know.
    pub(crate) fn on_answer(&mut self, from: &Key, closer: &[Arc<Contact>]) -> usize {
        with!(self, lookup => lookup.on_answer(from, closer))
    }

    /// A peer failed or answered invalidly, and takes no further part (rules L12 and A33).
    pub(crate) fn on_failure(&mut self, from: &Key) {
        with!(self, lookup => lookup.on_failure(from));
    }

    /// A late peer no longer holds a slot. The lookup can end without an overdue one, whose answer would still count.
    pub(crate) fn on_late(&mut self, from: &Key, how: Lateness) {
        with!(self, lookup => lookup.on_late(from, how));
    }

    /// The closest peers that answered, the best first, at most k.
    pub(crate) fn closest(&self) -> Vec<Arc<Contact>> {
        with!(self, lookup => lookup.closest())
    }

    /// The peers that answered and are among the closest known ones, once the search is over. Empty before that, and
    /// along several paths, whose results are joined only at the end.
    pub(crate) fn settled(&self) -> Vec<Arc<Contact>> {
        match self {
            Lookup::Single(path) => path.settled(),
            Lookup::Disjoint(_) => Vec::new(),
        }
    }

    /// All peers worth addressing, the best first: those that answered, then those never asked.
    pub(crate) fn ranked(&self) -> Vec<Arc<Contact>> {
        with!(self, lookup => lookup.ranked())
    }

    /// The closest known peers that are neither dead nor overdue, asked or not, the best first, at most `count`.
    pub(crate) fn nearest(&self, count: usize) -> Vec<Arc<Contact>> {
        with!(self, lookup => lookup.nearest(count))
    }

    /// The distance of the `count`th nearest peer that was named, dead or not: the peers that answered know none nearer
    /// that was not named too. `None` if fewer were named.
    pub(crate) fn reach(&self, count: usize) -> Option<Distance> {
        with!(self, lookup => lookup.reach(count))
    }

    /// Has the lookup wait for one answer more than before.
    pub(crate) fn ask_one_more(&mut self) {
        if let Lookup::Single(path) = self {
            path.ask_one_more();
        }
    }

    /// Along several paths, how many of them have led to one of these peers, and how many paths there are.
    pub(crate) fn paths_to<'a, I>(&self, peers: I) -> Option<(usize, usize)>
    where
        I: Iterator<Item = &'a Arc<Contact>> + Clone,
    {
        match self {
            Lookup::Single(_) => None,
            Lookup::Disjoint(paths) => Some(paths.paths_to(peers)),
        }
    }

    /// A peer with the addresses that the lookup knows of it; `None` if no answer named it.
    pub(crate) fn contact(&self, key: &Key) -> Option<&Arc<Contact>> {
        with!(self, lookup => lookup.contact(key))
    }

    /// The peers that named this one.
    pub(crate) fn referrers(&self, key: &Key) -> Vec<Key> {
        with!(self, lookup => lookup.referrers(key))
    }

    /// A peer is about to fail because its referrers have no share of the dial budget left. It gets another chance as
    /// soon as another peer names it.
    pub(crate) fn on_refused(&mut self, key: &Key) {
        if let Lookup::Single(path) = self {
            path.on_refused(key);
        }
    }

    /// Whether it asks its first peers alone.
    pub(crate) fn is_closed(&self) -> bool {
        matches!(self, Lookup::Single(path) if path.is_closed())
    }

    /// Number of known peers that were not asked.
    pub(crate) fn unasked(&self) -> usize {
        with!(self, lookup => lookup.unasked())
    }
}
