//! One iterative walk towards a key, along one path or along several that share no peer.
//!
//! Knows: who was heard of, who answered, whom to ask next, when the evidence suffices. Must not know: what it is
//! for, what is asked, or how long anything takes.

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

/// The numbers that shape a walk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// k: how many closest peers to find.
    pub(crate) count: usize,
    /// α: requests in flight at most while searching.
    pub(crate) parallelism: usize,
    /// β: how many of the closest must have answered to end the search.
    pub(crate) resiliency: usize,
    /// d: how many paths there are.
    pub(crate) paths: usize,
    /// How many more than the k closest are asked at the end of the search, since so many of them will fail.
    pub(crate) spare: usize,
    /// How many peers are remembered, on each path.
    pub(crate) frontier: usize,
    /// Whether an answer is doubted whose peers fail: then those that it alone named are passed over.
    pub(crate) wary: bool,
}

/// How an answer that has not come stands to those that came before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lateness {
    /// Most answers would be here by now: time to ask someone else too.
    Late,
    /// Nearly all answers would be here by now: time to go on without it.
    Overdue,
}

/// What a lookup wants.
#[derive(Debug)]
pub(crate) enum Next {
    /// Ask this peer; it counts as being asked from now on.
    Ask(Arc<Contact>),
    /// Wait for an answer.
    Wait,
    /// Nothing more: the closest peers are known, or nobody is left to ask.
    Done,
}

/// A walk towards a key.
#[derive(Debug)]
pub(crate) enum Lookup {
    Single(Path),
    Disjoint(Disjoint),
}

impl Lookup {
    pub(crate) fn new<'a>(target: Key, seeds: impl IntoIterator<Item = &'a Arc<Contact>>, shape: Shape) -> Lookup {
        if shape.paths > 1 {
            Lookup::Disjoint(Disjoint::new(target, seeds, shape))
        } else {
            Lookup::Single(Path::new(target, seeds, shape))
        }
    }

    /// Where it leads.
    pub(crate) fn target(&self) -> &Key {
        match self {
            Lookup::Single(path) => &path.frontier.target,
            Lookup::Disjoint(paths) => &paths.target,
        }
    }

    /// Whom to ask next, if anyone.
    pub(crate) fn next(&mut self) -> Next {
        match self {
            Lookup::Single(path) => path.next(),
            Lookup::Disjoint(paths) => paths.next(),
        }
    }

    /// A peer answered and named these. Returns how many of them are news.
    pub(crate) fn on_answer(&mut self, from: &Key, closer: &[Arc<Contact>]) -> usize {
        match self {
            Lookup::Single(path) => path.on_answer(from, closer),
            Lookup::Disjoint(paths) => paths.on_answer(from, closer),
        }
    }

    /// A peer failed.
    pub(crate) fn on_failure(&mut self, from: &Key) {
        match self {
            Lookup::Single(path) => path.on_failure(from),
            Lookup::Disjoint(paths) => paths.on_failure(from),
        }
    }

    /// A peer is late: it no longer holds a slot. Once it is overdue the walk can end without it, though its answer
    /// would still count.
    pub(crate) fn on_late(&mut self, from: &Key, how: Lateness) {
        match self {
            Lookup::Single(path) => path.on_late(from, how),
            Lookup::Disjoint(paths) => paths.on_late(from, how),
        }
    }

    /// The closest peers that answered, the best first, at most k.
    pub(crate) fn closest(&self) -> Vec<Arc<Contact>> {
        match self {
            Lookup::Single(path) => path.closest(),
            Lookup::Disjoint(paths) => paths.closest(),
        }
    }

    /// Those that answered and are among the closest as far as is known, once the search is over; empty before that, and
    /// along several paths, whose results are joined at the end only.
    pub(crate) fn settled(&self) -> Vec<Arc<Contact>> {
        match self {
            Lookup::Single(path) => path.settled(),
            Lookup::Disjoint(_) => Vec::new(),
        }
    }

    /// Everyone worth addressing, the best first: those that answered, then those never asked.
    pub(crate) fn ranked(&self) -> Vec<Arc<Contact>> {
        match self {
            Lookup::Single(path) => path.ranked(),
            Lookup::Disjoint(paths) => paths.ranked(),
        }
    }

    /// The closest peers that the walk heard of and that are neither dead nor overdue, asked or not, the best first, at
    /// most so many.
    pub(crate) fn nearest(&self, count: usize) -> Vec<Arc<Contact>> {
        match self {
            Lookup::Single(path) => path.in_play().take(count).cloned().collect(),
            Lookup::Disjoint(paths) => paths.nearest(count),
        }
    }

    /// How far away the nearest peers are that someone named, dead or not, so many of them: whoever is nearer was named too, as
    /// far as those know who answered. `None` if fewer are known.
    pub(crate) fn reach(&self, count: usize) -> Option<Distance> {
        match self {
            Lookup::Single(path) => path.reach(count),
            Lookup::Disjoint(paths) => paths.reach(count),
        }
    }

    /// Wants one more answer than before.
    pub(crate) fn ask_one_more(&mut self) {
        if let Lookup::Single(path) = self {
            path.ask_one_more();
        }
    }

    /// Along several paths, how many of them have led to one of these peers, and how many there are.
    pub(crate) fn paths_to<'a, I>(&self, peers: I) -> Option<(usize, usize)>
    where
        I: Iterator<Item = &'a Arc<Contact>> + Clone,
    {
        match self {
            Lookup::Single(_) => None,
            Lookup::Disjoint(paths) => Some(paths.paths_to(peers)),
        }
    }

    /// What is known of a peer, if the walk heard of it.
    pub(crate) fn contact(&self, key: &Key) -> Option<&Arc<Contact>> {
        match self {
            Lookup::Single(path) => path.contact(key),
            Lookup::Disjoint(paths) => paths.contact(key),
        }
    }

    /// Who named a peer.
    pub(crate) fn referrers(&self, key: &Key) -> Vec<Key> {
        match self {
            Lookup::Single(path) => path.frontier.referrers(key).collect(),
            Lookup::Disjoint(paths) => paths.referrers(key),
        }
    }

    /// A peer is about to fail since those who named it had no share left: whoever else names it gives it another chance.
    pub(crate) fn on_refused(&mut self, key: &Key) {
        if let Lookup::Single(path) = self {
            path.on_refused(key);
        }
    }

    /// How many peers are known and were not asked.
    pub(crate) fn unasked(&self) -> usize {
        match self {
            Lookup::Single(path) => path.unasked(),
            Lookup::Disjoint(paths) => paths.unasked(),
        }
    }
}
