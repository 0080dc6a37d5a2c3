//! Several walks towards one key that share no peer (S/Kademlia), joined into one result.
//!
//! Knows: the paths, and which of them a peer belongs to. Must not know: how one path walks.
//!
//! Each path searches for the nearest peer alone, from seeds of its own; a peer that one path asked is not asked by
//! another, which only learns whether it lives. So whoever misleads one path misleads no other. When the searches are
//! over, the k results are filled from all paths in turn, each giving its nearest: k/d (rounded up) liars' friends, and
//! no more as long as the others have someone to name, get in for each path that was misled, however near to the key they
//! claim to be.
//!
//! A path ends once its nearest peer has answered, and a liar's friend answers. So before the fill a few more paths
//! seek a second opinion: each starts from the nearest peer that one of the paths knew before it heard of its nearest,
//! and passed over. If whoever named that nearest lied, the second opinion does not depend on it. It costs less than a
//! path from seeds does, since it starts where honest peers have led already. If all paths found the same peer, all may
//! have been misled by those who work together, and it takes d/2 opinions; where they differ, liars and honest peers
//! both had their say, or a path ended early at a peer that another asked, and one is enough.
//!
//! What is named during the fill stands beside what the path had found, and the two take turns within the path's share:
//! a liar who is asked as late as that cannot push out what an honest search has found.
//!
//! The α slots are shared by the paths that still search; a path that has ended, or found nobody alive, leaves its share
//! to the others.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::path::Path;
use super::{Lateness, Next, Shape};
use crate::core::contact::Contact;
use crate::core::key::{Distance, Key};

#[derive(Debug)]
pub(crate) struct Disjoint {
    pub(super) target: Key,
    shape: Shape,
    /// Those from seeds, then the second opinions.
    paths: Vec<Path>,
    /// Of each path what was named to it since the fill began; none before that.
    afterwards: Vec<Path>,
    /// Whoever was asked: by which path, and how it stands.
    claims: BTreeMap<Key, Claim>,
    /// Whose turn to ask is next.
    turn: usize,
    waiting: usize,
    lateness: usize,
}

#[derive(Debug)]
struct Claim {
    path: usize,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    Lateness(Lateness),
    Answered,
    Failed,
}

impl Disjoint {
    pub(crate) fn new<'a>(target: Key, seeds: impl IntoIterator<Item = &'a Arc<Contact>>, shape: Shape) -> Disjoint {
        let mut shares: Vec<Vec<&Arc<Contact>>> = vec![Vec::new(); shape.paths];
        for (i, seed) in seeds.into_iter().enumerate() {
            shares[i % shape.paths].push(seed);
        }
        let (paths, afterwards) = (Vec::new(), Vec::new());
        let claims = BTreeMap::new();
        let mut disjoint = Disjoint { target, shape, paths, afterwards, claims, turn: 0, waiting: 0, lateness: 0 };
        disjoint.paths = shares.into_iter().map(|seeds| disjoint.path(seeds)).collect();
        disjoint.share_slots(shape.paths);
        disjoint
    }

    pub(crate) fn next(&mut self) -> Next {
        loop {
            match self.search_all() {
                Next::Done if self.afterwards.is_empty() && self.seek_opinions() => {}
                Next::Done => break,
                other => return other,
            }
        }
        if self.afterwards.is_empty() {
            self.afterwards = self.paths.iter().map(|_| self.path([])).collect();
        }
        self.fill()
    }

    pub(crate) fn on_answer(&mut self, from: &Key, closer: &[Arc<Contact>]) -> usize {
        let Some(owner) = self.settle(from, State::Answered) else { return 0 };
        if let Some(afterwards) = self.afterwards.get_mut(owner) {
            self.paths.iter_mut().for_each(|path| {
                path.on_answer(from, &[]);
            });
            return afterwards.hear(from, closer);
        }
        let mut news = 0;
        for (i, path) in self.paths.iter_mut().enumerate() {
            let named = if i == owner { closer } else { &[] };
            news += path.on_answer(from, named);
        }
        news
    }

    pub(crate) fn on_failure(&mut self, from: &Key) {
        if self.settle(from, State::Failed).is_some() {
            self.paths.iter_mut().for_each(|path| path.on_failure(from));
        }
    }

    pub(crate) fn on_late(&mut self, from: &Key, how: Lateness) {
        let Some(claim) = self.claims.get_mut(from) else { return };
        match claim.state {
            State::Waiting => {
                self.waiting -= 1;
                self.lateness += 1;
            }
            State::Lateness(_) => {}
            State::Answered | State::Failed => return,
        }
        claim.state = State::Lateness(how);
        self.paths.iter_mut().for_each(|path| path.on_late(from, how));
    }

    /// The best of each path in turn, as far as they answered.
    pub(crate) fn closest(&self) -> Vec<Arc<Contact>> {
        self.in_turn(Some(State::Answered), self.shape.count)
    }

    /// The nearest of each path in turn that are neither dead nor overdue.
    pub(crate) fn nearest(&self, count: usize) -> Vec<Arc<Contact>> {
        in_turn(self.lists(), count)
    }

    /// The farthest that any path reaches at most: each knows a part of those nearer.
    pub(crate) fn reach(&self, count: usize) -> Option<Distance> {
        self.paths.iter().filter_map(|path| path.reach(count)).min()
    }

    pub(crate) fn ranked(&self) -> Vec<Arc<Contact>> {
        let mut ranked = self.in_turn(Some(State::Answered), usize::MAX);
        ranked.extend(self.in_turn(None, usize::MAX));
        ranked
    }

    /// The nearest that stand so (unasked for `None`) of each path in turn, whichever path asked them.
    fn in_turn(&self, state: Option<State>, count: usize) -> Vec<Arc<Contact>> {
        let stands = |contact: &&Arc<Contact>| self.claims.get(contact.key()).map(|claim| claim.state) == state;
        in_turn(self.lists().map(|pair| pair.map(|list| list.filter(stands))), count)
    }

    /// How many of the paths from seeds have asked one of these peers, or found it to be the nearest after another path had
    /// asked it; and how many paths there are.
    pub(crate) fn paths_to<'a>(&self, peers: impl Iterator<Item = &'a Arc<Contact>> + Clone) -> (usize, usize) {
        let leads = |(i, path): &(usize, &Path)| {
            let asked = |peer: &Contact| self.claims.get(peer.key()).is_some_and(|claim| claim.path == *i);
            let nearest = path.in_play().next();
            peers.clone().any(|peer| asked(peer) || nearest.is_some_and(|nearest| nearest.key() == peer.key()))
        };
        let from_seeds = self.paths.iter().take(self.shape.paths).enumerate();
        (from_seeds.filter(leads).count(), self.shape.paths)
    }

    pub(crate) fn contact(&self, key: &Key) -> Option<&Arc<Contact>> {
        self.paths.iter().chain(&self.afterwards).find_map(|path| path.contact(key))
    }

    pub(crate) fn referrers(&self, key: &Key) -> Vec<Key> {
        self.paths.iter().chain(&self.afterwards).flat_map(|path| path.frontier.referrers(key)).collect()
    }

    pub(crate) fn unasked(&self) -> usize {
        self.in_turn(None, usize::MAX).len()
    }

    /// A path that looks for the nearest peer.
    fn path<'a>(&self, seeds: impl IntoIterator<Item = &'a Arc<Contact>>) -> Path {
        Path::new(self.target, seeds, Shape { count: 1, resiliency: 1, paths: 1, spare: 0, ..self.shape })
    }

    /// The next step of the paths that search, each in its turn.
    fn search_all(&mut self) -> Next {
        let count = self.paths.len();
        let mut searching = 0;
        for path in (self.turn..self.turn + count).map(|i| i % count) {
            match self.search(path) {
                Next::Ask(contact) => {
                    self.turn = path + 1;
                    return Next::Ask(contact);
                }
                Next::Wait => searching += 1,
                Next::Done => {}
            }
        }
        if searching == 0 {
            return Next::Done;
        }
        self.share_slots(searching);
        Next::Wait
    }

    /// Begins second opinions as long as there are too few of them and someone to ask for one. Those nearest to the
    /// target come first, since from there it takes one honest answer; no path is asked for two before each was for one.
    fn seek_opinions(&mut self) -> bool {
        let found: BTreeSet<&Key> =
            self.paths.iter().filter_map(|path| path.in_play().next()).map(|c| c.key()).collect();
        let wanted = if found.len() > 1 { 1 } else { self.shape.paths / 2 };
        let missing = wanted.saturating_sub(self.paths.len() - self.shape.paths);
        let mut starts: BTreeMap<Distance, &Arc<Contact>> = BTreeMap::new();
        for path in &self.paths[..self.shape.paths] {
            let at = |contact: &Arc<Contact>| self.target.distance(contact.key());
            let fresh = |contact: &&Arc<Contact>| {
                !self.claims.contains_key(contact.key()) && !starts.contains_key(&at(contact))
            };
            let start = path.independent().find(fresh);
            starts.extend(start.map(|contact| (at(contact), contact)));
        }
        let opinions: Vec<Path> = starts.into_values().take(missing).map(|start| self.path([start])).collect();
        let count = opinions.len();
        self.paths.extend(opinions);
        if count > 0 {
            self.share_slots(count);
        }
        count > 0
    }

    /// Whom each path may add to the results: what its search found, and what it was told since; nearest first.
    fn lists(&self) -> impl Iterator<Item = [impl Iterator<Item = &Arc<Contact>>; 2]> {
        // A path that heard of a peer after another had asked it does not know how that went.
        let gone = |contact: &&Arc<Contact>| {
            let state = self.claims.get(contact.key()).map(|claim| claim.state);
            matches!(state, Some(State::Failed | State::Lateness(Lateness::Overdue)))
        };
        self.paths.iter().enumerate().map(move |(i, path)| {
            [Some(path), self.afterwards.get(i)]
                .map(|path| path.into_iter().flat_map(Path::in_play).filter(move |contact| !gone(contact)))
        })
    }

    /// A path's next step. What another path has asked already it learns from there.
    fn search(&mut self, path: usize) -> Next {
        loop {
            let contact = match self.paths[path].next() {
                Next::Ask(contact) => contact,
                other => return other,
            };
            match self.claims.get(contact.key()).map(|claim| claim.state) {
                None => {
                    self.claim(path, contact.key());
                    return Next::Ask(contact);
                }
                Some(state) => self.tell(path, contact.key(), state),
            }
        }
    }

    /// Asks the rest of the k results, which the paths name in turn; for each late one of them one more.
    fn fill(&mut self) -> Next {
        let state = |contact: &Arc<Contact>| self.claims.get(contact.key()).map(|claim| claim.state);
        let late = |contact: &&Arc<Contact>| state(contact) == Some(State::Lateness(Lateness::Late));
        let named = in_turn(self.lists(), self.shape.count);
        let answered = named.iter().filter(|contact| state(contact) == Some(State::Answered)).count();
        if answered == self.shape.count {
            return Next::Done;
        }
        let places = self.shape.count + named.iter().filter(late).count() + self.shape.spare;
        let named = in_turn(self.lists(), places);
        let unasked = named.iter().find(|contact| state(contact).is_none());
        match unasked.filter(|_| self.waiting < self.shape.count + self.shape.spare) {
            Some(contact) => self.ask(contact),
            None if self.waiting + self.lateness == 0 => Next::Done,
            None => Next::Wait,
        }
    }

    /// The answer goes to the first path that knows the peer.
    fn ask(&mut self, contact: &Arc<Contact>) -> Next {
        let mut lists = self.paths.iter().chain(&self.afterwards);
        match lists.position(|path| path.contact(contact.key()).is_some()) {
            Some(list) => {
                self.claim(list % self.paths.len(), contact.key());
                Next::Ask(Arc::clone(contact))
            }
            None => Next::Wait,
        }
    }

    fn claim(&mut self, path: usize, key: &Key) {
        self.claims.insert(*key, Claim { path, state: State::Waiting });
        self.waiting += 1;
    }

    /// Tells a path how a peer stands that another path asked.
    fn tell(&mut self, path: usize, key: &Key, state: State) {
        match state {
            State::Waiting => {}
            State::Lateness(how) => {
                self.paths[path].on_late(key, Lateness::Late);
                self.paths[path].on_late(key, how);
            }
            State::Answered => {
                self.paths[path].on_answer(key, &[]);
            }
            State::Failed => self.paths[path].on_failure(key),
        }
    }

    /// Ends a claim, if it has not ended; the path that made it.
    fn settle(&mut self, key: &Key, end: State) -> Option<usize> {
        let claim = self.claims.get_mut(key)?;
        match claim.state {
            State::Waiting => self.waiting -= 1,
            State::Lateness(_) => self.lateness -= 1,
            State::Answered | State::Failed => return None,
        }
        claim.state = end;
        Some(claim.path)
    }

    fn share_slots(&mut self, searching: usize) {
        let share = (self.shape.parallelism / searching).max(1);
        self.paths.iter_mut().for_each(|path| path.set_parallelism(share));
    }
}

/// Up to `count` contacts, none twice, and one of each path in turn: by turns of its two lists, or of the one that has any.
fn in_turn<'a, I>(lists: impl Iterator<Item = [I; 2]>, count: usize) -> Vec<Arc<Contact>>
where
    I: Iterator<Item = &'a Arc<Contact>>,
{
    let mut lists: Vec<[I; 2]> = lists.collect();
    let mut seen = BTreeSet::new();
    let mut chosen = Vec::new();
    while chosen.len() < count {
        let before = chosen.len();
        for pair in &mut lists {
            let next = pair.iter_mut().find_map(|list| list.find(|contact| !seen.contains(contact.key())));
            if let Some(next) = next.filter(|_| chosen.len() < count) {
                seen.insert(*next.key());
                chosen.push(Arc::clone(next));
            }
            pair.reverse();
        }
        if chosen.len() == before {
            break;
        }
    }
    chosen
}
