//! Several lookups for one key along paths that share no peer (S/Kademlia), joined into one result.
//!
//! Knows: the paths, and to which of them a peer belongs. Must not know: how one path searches.
//!
//! Each path searches for the nearest peer alone, from seeds of its own. A peer that one path has asked is not asked by
//! another, which only learns whether it answered. So a peer that misleads one path misleads no other. When the
//! searches are over, the paths take turns to fill the k results, each with its nearest. For each path that was misled,
//! k/d (rounded up) accomplices of a liar get in, and no more while the other paths have peers to offer, however near
//! to the key the accomplices claim to be.
//!
//! A path ends once its nearest peer has answered, and an accomplice answers. So before the fill a few more paths seek
//! a second opinion: each starts from the nearest peer that one of the paths knew before it learnt of its own nearest,
//! and did not ask. If the peer that named that nearest lied, the second opinion does not depend on it. It costs less
//! than a path from seeds does, since honest peers have led to where it starts. If all paths found the same peer, all
//! may have been misled by peers that work together, and it takes d/2 opinions. If they differ, either both liars and
//! honest peers were heard, or a path ended early at a peer that another had asked, and one opinion is enough.
//!
//! Peers named during the fill stand beside those that the path had found, and the two lists take turns within the
//! path's share: a liar that is asked as late as that cannot push out what an honest search has found.
//!
//! The paths that still search share the α slots; a path that has ended, or found no peer alive, leaves its share to
//! the others.
//!
//! *Dropped:* d complete lookups side by side (libp2p-kad), which ask every Sybil that any path names.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::frontier::PeerState;
use super::path::Path;
use super::{Lateness, Next, Shape};
use crate::core::contact::Contact;
use crate::core::key::{Distance, Key};

#[derive(Clone, Debug)]
pub(crate) struct Disjoint {
    target: Key,
    shape: Shape,
    /// The paths from seeds, then the second opinions.
    paths: Vec<Path>,
    /// For each path, the peers named to it since the fill began; empty before that.
    fill_paths: Vec<Path>,
    /// The peers that were asked: by which path, and their state.
    claims: BTreeMap<Key, Claim>,
    /// The path that asks next.
    next_path: usize,
    waiting: usize,
    late: usize,
}

#[derive(Clone, Debug)]
struct Claim {
    path: usize,
    state: PeerState,
}

impl Disjoint {
    pub(crate) fn new<'a>(target: Key, seeds: impl IntoIterator<Item = &'a Arc<Contact>>, shape: Shape) -> Disjoint {
        let mut shares: Vec<Vec<&Arc<Contact>>> = vec![Vec::new(); shape.paths];
        for (i, seed) in seeds.into_iter().enumerate() {
            shares[i % shape.paths].push(seed);
        }
        let mut disjoint = Disjoint {
            target,
            shape,
            paths: Vec::new(),
            fill_paths: Vec::new(),
            claims: BTreeMap::new(),
            next_path: 0,
            waiting: 0,
            late: 0,
        };
        disjoint.paths = shares.into_iter().map(|seeds| disjoint.path(seeds)).collect();
        disjoint.share_slots(shape.paths);
        disjoint
    }

    pub(crate) fn target(&self) -> &Key {
        &self.target
    }

    pub(crate) fn next(&mut self) -> Next {
        loop {
            match self.search_all() {
                Next::Done if self.fill_paths.is_empty() && self.seek_opinions() => {}
                Next::Done => break,
                other => return other,
            }
        }
        if self.fill_paths.is_empty() {
            self.fill_paths = self.paths.iter().map(|_| self.path([])).collect();
        }
        self.fill()
    }

    pub(crate) fn on_answer(&mut self, from: &Key, closer: &[Arc<Contact>]) -> usize {
        let Some(owner) = self.settle(from, PeerState::Answered) else { return 0 };
        // All paths learn that the peer answered, only its own path learns of the peers that it named.
        let to_search = if self.fill_paths.is_empty() { closer } else { &[] };
        let mut news = 0;
        for (i, path) in self.paths.iter_mut().enumerate() {
            news += path.on_answer(from, if i == owner { to_search } else { &[] });
        }
        match self.fill_paths.get_mut(owner) {
            Some(path) => path.add_named(from, closer),
            None => news,
        }
    }

    pub(crate) fn on_failure(&mut self, from: &Key) {
        if self.settle(from, PeerState::Failed).is_some() {
            self.paths.iter_mut().for_each(|path| path.on_failure(from));
        }
    }

    pub(crate) fn on_late(&mut self, from: &Key, how: Lateness) {
        let Some(claim) = self.claims.get_mut(from) else { return };
        match claim.state {
            PeerState::Waiting => {
                self.waiting -= 1;
                self.late += 1;
            }
            PeerState::Late | PeerState::Overdue => {}
            PeerState::Unasked | PeerState::Answered | PeerState::Failed => return,
        }
        claim.state = how.into();
        self.paths.iter_mut().for_each(|path| path.on_late(from, how));
    }

    /// Of the peers that answered, the nearest of each path in turn.
    pub(crate) fn closest(&self) -> Vec<Arc<Contact>> {
        self.in_turn(PeerState::Answered, self.shape.count)
    }

    /// Of the peers that are neither dead nor overdue, the nearest of each path in turn.
    pub(crate) fn nearest(&self, count: usize) -> Vec<Arc<Contact>> {
        in_turn(self.lists(), count)
    }

    /// The shortest reach of all paths: each knows only some of the peers nearer.
    pub(crate) fn reach(&self, count: usize) -> Option<Distance> {
        self.paths.iter().filter_map(|path| path.reach(count)).min()
    }

    pub(crate) fn ranked(&self) -> Vec<Arc<Contact>> {
        let mut ranked = self.in_turn(PeerState::Answered, usize::MAX);
        ranked.extend(self.in_turn(PeerState::Unasked, usize::MAX));
        ranked
    }

    /// The number of paths from seeds that have asked one of these peers, or found it to be the nearest after another
    /// path had asked it; and the number of paths from seeds in all.
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
        self.all_paths().find_map(|path| path.contact(key))
    }

    pub(crate) fn referrers(&self, key: &Key) -> Vec<Key> {
        self.all_paths().flat_map(|path| path.referrers(key)).collect()
    }

    pub(crate) fn unasked(&self) -> usize {
        self.in_turn(PeerState::Unasked, usize::MAX).len()
    }

    fn all_paths(&self) -> impl Iterator<Item = &Path> {
        self.paths.iter().chain(&self.fill_paths)
    }

    /// The state of a peer, whichever path asked it.
    fn state(&self, contact: &Contact) -> PeerState {
        self.claims.get(contact.key()).map_or(PeerState::Unasked, |claim| claim.state)
    }

    /// A path that looks for the nearest peer.
    fn path<'a>(&self, seeds: impl IntoIterator<Item = &'a Arc<Contact>>) -> Path {
        let bytes = self.shape.bytes / (3 * self.shape.paths);
        Path::new(self.target, seeds, Shape { count: 1, resiliency: 1, paths: 1, spare: 0, bytes, ..self.shape })
    }

    /// The next step of the paths that still search, which take turns.
    fn search_all(&mut self) -> Next {
        let count = self.paths.len();
        let mut searching = 0;
        for path in (self.next_path..self.next_path + count).map(|i| i % count) {
            match self.search(path) {
                Next::Ask(contact) => {
                    self.next_path = path + 1;
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

    /// Begins second opinions while there are too few of them and there is a peer to start from. Returns whether it
    /// began any.
    fn seek_opinions(&mut self) -> bool {
        let nearest_of = |path: &Path| path.in_play().next().map(|contact| *contact.key());
        let found: BTreeSet<Key> = self.paths.iter().filter_map(nearest_of).collect();
        // Agreement of all paths proves little where liars work together: it takes more opinions to find them out.
        let wanted = if found.len() > 1 { 1 } else { self.shape.paths / 2 };
        let missing = wanted.saturating_sub(self.paths.len() - self.shape.paths);
        // One start from each path at most, so that no path provides two opinions before each has provided one. The
        // starts nearest to the target come first: from there a single honest answer is enough.
        let mut starts: BTreeMap<Distance, &Arc<Contact>> = BTreeMap::new();
        for path in &self.paths[..self.shape.paths] {
            let distance = |contact: &Contact| self.target.distance(contact.key());
            let unused = |contact: &&Arc<Contact>| {
                self.state(contact) == PeerState::Unasked && !starts.contains_key(&distance(contact))
            };
            if let Some(start) = path.independent().find(unused) {
                starts.insert(distance(start), start);
            }
        }
        let opinions: Vec<Path> = starts.into_values().take(missing).map(|start| self.path([start])).collect();
        let count = opinions.len();
        self.paths.extend(opinions);
        if count > 0 {
            self.share_slots(count);
        }
        count > 0
    }

    /// The peers that each path may add to the results, nearest first: those that its search found, and those named to
    /// it since the fill began.
    fn lists(&self) -> impl Iterator<Item = [impl Iterator<Item = &Arc<Contact>>; 2]> {
        // A path that learnt of a peer after another had asked it does not know how that ended: the claim does.
        let in_play = |contact: &&Arc<Contact>| self.state(contact).is_in_play();
        self.paths.iter().enumerate().map(move |(i, path)| {
            [Some(path), self.fill_paths.get(i)]
                .map(|path| path.into_iter().flat_map(Path::in_play).filter(move |contact| in_play(contact)))
        })
    }

    /// In turn the nearest peers of each path that are in this state.
    fn in_turn(&self, state: PeerState, count: usize) -> Vec<Arc<Contact>> {
        let fits = |contact: &&Arc<Contact>| self.state(contact) == state;
        in_turn(self.lists().map(|pair| pair.map(|list| list.filter(fits))), count)
    }

    /// A path's next step. If it wants to ask a peer that another path has asked, it learns from there how that went.
    fn search(&mut self, path: usize) -> Next {
        loop {
            let contact = match self.paths[path].next() {
                Next::Ask(contact) => contact,
                other => return other,
            };
            match self.state(&contact) {
                PeerState::Unasked => {
                    self.claim(path, contact.key());
                    return Next::Ask(contact);
                }
                state => self.share_state(path, contact.key(), state),
            }
        }
    }

    /// Asks the rest of the k results, which the paths name in turn; for each late one of them one more.
    fn fill(&mut self) -> Next {
        let named = in_turn(self.lists(), self.shape.count);
        let count = |state| named.iter().filter(|contact| self.state(contact) == state).count();
        if count(PeerState::Answered) == self.shape.count {
            return Next::Done;
        }
        // More places change which peers the paths name in turn, but not those in the first places: so the results stay
        // the same while late ones are waited for, and the further places only decide which peers are asked beside
        // them.
        let places = self.shape.count + count(PeerState::Late) + self.shape.spare;
        let unasked = in_turn(self.lists(), places).into_iter().find(|peer| self.state(peer) == PeerState::Unasked);
        match unasked {
            Some(contact) if self.waiting < self.shape.count + self.shape.spare => self.ask(&contact),
            _ if self.waiting + self.late == 0 => Next::Done,
            _ => Next::Wait,
        }
    }

    /// Asks a peer; its answer will belong to the first path that knows it.
    fn ask(&mut self, contact: &Arc<Contact>) -> Next {
        let Some(list) = self.all_paths().position(|path| path.contact(contact.key()).is_some()) else {
            return Next::Wait;
        };
        self.claim(list % self.paths.len(), contact.key());
        Next::Ask(Arc::clone(contact))
    }

    fn claim(&mut self, path: usize, key: &Key) {
        self.claims.insert(*key, Claim { path, state: PeerState::Waiting });
        self.waiting += 1;
    }

    /// Tells a path the state of a peer that another path asked.
    fn share_state(&mut self, path: usize, key: &Key, state: PeerState) {
        let path = &mut self.paths[path];
        match state {
            PeerState::Unasked | PeerState::Waiting => {}
            PeerState::Late => path.on_late(key, Lateness::Late),
            PeerState::Overdue => {
                path.on_late(key, Lateness::Late);
                path.on_late(key, Lateness::Overdue);
            }
            PeerState::Answered => _ = path.on_answer(key, &[]),
            PeerState::Failed => path.on_failure(key),
        }
    }

    /// Ends a claim, if it has not ended. Returns the path that made it.
    fn settle(&mut self, key: &Key, end: PeerState) -> Option<usize> {
        let claim = self.claims.get_mut(key)?;
        match claim.state {
            PeerState::Waiting => self.waiting -= 1,
            PeerState::Late | PeerState::Overdue => self.late -= 1,
            PeerState::Unasked | PeerState::Answered | PeerState::Failed => return None,
        }
        claim.state = end;
        Some(claim.path)
    }

    fn share_slots(&mut self, searching: usize) {
        let share = (self.shape.parallelism / searching).max(1);
        self.paths.iter_mut().for_each(|path| path.set_parallelism(share));
    }
}

/// Up to `count` distinct contacts, one of each path in turn. A path alternates between its two lists, and takes from
/// the other where one has none left.
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
            if let Some(next) = next
                && chosen.len() < count
            {
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
