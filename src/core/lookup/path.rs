//! One lookup along one path.
//!
//! Knows: which peers were named, which answered, which to ask next, when the lookup is done. Must not know: other
//! paths.
//!
//! The lookup searches until the β closest peers have answered, then asks the rest of the k closest at once, and is
//! done when the k closest that are neither dead nor overdue have all answered. A peer that fails is replaced by the
//! next closest. A late one is too, so that its replacement has answered by the time the late peer is overdue and the
//! lookup no longer waits for it. A late answer still counts.
//!
//! While every answer leads nearer, a few requests in flight find the way as fast as many do, and cheaper. So the
//! search starts β wide and widens towards α with every answer or failure that does not help.
//!
//! *Dropped:* α requests in flight from the start, which took 28 to 33 requests for a lookup that needs 25. And asking
//! connected or faster peers first among those at equal progress: of 1,876 ms and 22.7 requests for a lookup (3,000
//! lookups from 70 busy nodes of 3,000) it saved at most 40 ms for 1.4 requests more, because a lookup lasts as long as
//! the slowest of the k closest, which are all asked in the end.

use std::sync::Arc;

use super::frontier::{Frontier, PeerState};
use super::{Lateness, Next, Shape};
use crate::core::contact::Contact;
use crate::core::key::{Distance, Key};

/// A lookup along one path.
#[derive(Clone, Debug)]
pub(crate) struct Path {
    shape: Shape,
    frontier: Frontier,
    /// Requests that hold a slot: asked, neither answered nor late.
    waiting: usize,
    late: usize,
    overdue: usize,
    /// Number of slots that the search has at present.
    width: usize,
}

impl Path {
    pub(crate) fn new<'a>(target: Key, seeds: impl IntoIterator<Item = &'a Arc<Contact>>, shape: Shape) -> Path {
        let seeds = seeds.into_iter();
        let mut frontier = Frontier::new(target, shape.frontier, shape.bytes, seeds.size_hint().0);
        for seed in seeds {
            frontier.add(seed);
        }
        let width = shape.resiliency.min(shape.parallelism);
        Path { shape, frontier, waiting: 0, late: 0, overdue: 0, width }
    }

    pub(crate) fn target(&self) -> &Key {
        &self.frontier.target
    }

    pub(crate) fn next(&mut self) -> Next {
        let view = self.view();
        if view.answered >= self.shape.count {
            return Next::Done;
        }
        let slots = if view.search_over { self.shape.count + self.shape.spare } else { self.width };
        match view.unasked {
            Some(key) if self.waiting < slots => self.ask(&key),
            _ if self.waiting + self.late + self.overdue == 0 => Next::Done,
            _ => Next::Wait,
        }
    }

    pub(crate) fn on_answer(&mut self, from: &Key, closer: &[Arc<Contact>]) -> usize {
        if !self.settle(from, PeerState::Answered) {
            return 0;
        }
        let nearest = self.frontier.nearest().copied();
        let news = if self.shape.closed { 0 } else { self.add_named(from, closer) };
        if self.frontier.nearest().copied() == nearest {
            self.widen();
        } else {
            self.narrow();
        }
        news
    }

    pub(crate) fn on_failure(&mut self, from: &Key) {
        if self.settle(from, PeerState::Failed) {
            self.widen();
        }
    }

    /// As [`Lookup::on_refused`](super::Lookup::on_refused).
    pub(crate) fn on_refused(&mut self, from: &Key) {
        // The failure that follows is not the peer's. Without addresses and with one chance more, it is tried again as
        // soon as another peer names it; and what counts for its answer here cancels what the failure counts against
        // it.
        if !self.frontier.pardon(from) {
            return;
        }
        if self.shape.wary {
            self.frontier.weigh(from, true);
        }
    }

    pub(crate) fn on_late(&mut self, from: &Key, how: Lateness) {
        let Some(peer) = self.frontier.get_mut(from) else { return };
        match (peer.state, how) {
            (PeerState::Waiting, Lateness::Late) => {
                peer.state = PeerState::Late;
                self.waiting -= 1;
                self.late += 1;
                self.widen();
            }
            (PeerState::Late, Lateness::Overdue) => {
                peer.state = PeerState::Overdue;
                self.late -= 1;
                self.overdue += 1;
            }
            _ => {}
        }
    }

    pub(crate) fn closest(&self) -> Vec<Arc<Contact>> {
        self.frontier.in_state(PeerState::Answered).take(self.shape.count).cloned().collect()
    }

    /// The k closest in play, as far as they have answered, once the search is over.
    pub(crate) fn settled(&self) -> Vec<Arc<Contact>> {
        if !self.view().search_over {
            return Vec::new();
        }
        let closest = self.frontier.in_play().take(self.shape.count);
        let answered = closest.filter(|peer| peer.state == PeerState::Answered);
        answered.map(|peer| Arc::clone(&peer.contact)).collect()
    }

    pub(crate) fn ranked(&self) -> Vec<Arc<Contact>> {
        let answered = self.frontier.in_state(PeerState::Answered);
        answered.chain(self.frontier.in_state(PeerState::Unasked)).cloned().collect()
    }

    pub(crate) fn nearest(&self, count: usize) -> Vec<Arc<Contact>> {
        self.in_play().take(count).cloned().collect()
    }

    pub(crate) fn contact(&self, key: &Key) -> Option<&Arc<Contact>> {
        self.frontier.get(key).map(|peer| &peer.contact)
    }

    pub(crate) fn referrers(&self, key: &Key) -> Vec<Key> {
        self.frontier.referrers(key).collect()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.shape.closed
    }

    pub(crate) fn unasked(&self) -> usize {
        self.frontier.in_state(PeerState::Unasked).count()
    }

    /// The peers that are neither dead nor overdue, nearest first.
    pub(crate) fn in_play(&self) -> impl Iterator<Item = &Arc<Contact>> {
        self.frontier.in_play().map(|peer| &peer.contact)
    }

    /// The distance of the `count`th nearest peer that a credible answer named, dead or not; `None` if there are fewer.
    pub(crate) fn reach(&self, count: usize) -> Option<Distance> {
        let last = self.frontier.credible().nth(count.checked_sub(1)?)?;
        Some(self.frontier.target.distance(last.contact.key()))
    }

    pub(crate) fn ask_one_more(&mut self) {
        self.shape.count += 1;
    }

    /// The peers never asked that the path knew before any answer named its nearest, nearest first: if that answer was
    /// a lie, these do not depend on it.
    pub(crate) fn independent(&self) -> impl Iterator<Item = &Arc<Contact>> {
        let since = self.frontier.in_play().next().map_or(0, |peer| peer.since);
        let unasked = self.frontier.iter().filter(|peer| peer.state == PeerState::Unasked);
        unasked.filter(move |peer| peer.since < since).map(|peer| &peer.contact)
    }

    /// Adds the peers that an answer named. Returns how many of them are new.
    pub(crate) fn add_named(&mut self, from: &Key, named: &[Arc<Contact>]) -> usize {
        if !named.is_empty() {
            self.frontier.begin_answer(from);
        }
        let news = named.iter().filter(|contact| self.frontier.add(contact)).count();
        self.frontier.keep_within_bytes();
        news
    }

    /// Limits the slots of the search from now on.
    pub(crate) fn set_parallelism(&mut self, parallelism: usize) {
        self.shape.parallelism = parallelism;
    }

    fn ask(&mut self, key: &Key) -> Next {
        let Some(peer) = self.frontier.get_mut(key) else { return Next::Wait };
        peer.state = PeerState::Waiting;
        self.waiting += 1;
        Next::Ask(Arc::clone(&peer.contact))
    }

    /// Ends the request to a peer; `false` if it was not asked or its request has ended before.
    fn settle(&mut self, key: &Key, end: PeerState) -> bool {
        let Some(peer) = self.frontier.get_mut(key) else { return false };
        match peer.state {
            PeerState::Waiting => self.waiting -= 1,
            PeerState::Late => self.late -= 1,
            PeerState::Overdue => self.overdue -= 1,
            PeerState::Unasked | PeerState::Answered | PeerState::Failed => return false,
        }
        peer.state = end;
        if self.shape.wary {
            self.frontier.weigh(key, end == PeerState::Answered);
        }
        true
    }

    fn widen(&mut self) {
        self.width = (self.width + 1).min(self.shape.parallelism);
    }

    fn narrow(&mut self) {
        self.width = self.shape.resiliency.min(self.shape.parallelism);
    }

    /// Examines the nearest peers in play, as far as they matter: the k closest and the spare ones, not counting late
    /// ones among them.
    fn view(&self) -> View {
        let mut view = View { answered: 0, search_over: false, unasked: None };
        // `unbroken`: every peer so far has answered. `answering`: the same, not counting late ones.
        let (mut places, mut unbroken, mut answering) = (0, true, true);
        for peer in self.frontier.in_play() {
            if places >= self.shape.count + self.shape.spare {
                break;
            }
            match peer.state {
                // It keeps the lookup from ending, but the next peer is asked as if this one were not there.
                PeerState::Late => {
                    unbroken = false;
                    continue;
                }
                PeerState::Answered if unbroken => view.answered += 1,
                PeerState::Answered => {}
                PeerState::Unasked => {
                    (unbroken, answering) = (false, false);
                    view.unasked.get_or_insert(*peer.contact.key());
                }
                _ => (unbroken, answering) = (false, false),
            }
            places += 1;
            view.search_over |= answering && places >= self.shape.resiliency;
        }
        view
    }
}

/// The state of the nearest peers.
struct View {
    /// Number of peers that have answered, up to the first that has not.
    answered: usize,
    /// Whether the β closest have answered.
    search_over: bool,
    /// The nearest peer that was not asked.
    unasked: Option<Key>,
}
