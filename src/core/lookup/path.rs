//! One walk along one path.
//!
//! Knows: who was heard of, who answered, whom to ask next, when the evidence suffices. Must not know: other paths.
//!
//! The walk searches until the β closest peers have answered, then asks the rest of the k closest at once, and is
//! done when the k closest that are neither dead nor overdue have all answered. Whoever fails is replaced by the next
//! closest, and whoever is late too, so that the replacement has answered by the time the late one is overdue and no
//! longer waited for. A late answer still counts.
//!
//! While every answer leads nearer, a few requests in flight find the way as fast as many do, and cheaper. So the
//! search starts β wide and widens towards α with every answer or failure that does not help.

use std::sync::Arc;

use super::frontier::{Frontier, PeerState};
use super::{Lateness, Next, Shape};
use crate::core::contact::Contact;
use crate::core::key::{Distance, Key};

/// A walk towards a key.
#[derive(Debug)]
pub(crate) struct Path {
    shape: Shape,
    pub(super) frontier: Frontier,
    /// Requests that hold a slot: asked, neither answered nor late.
    waiting: usize,
    late: usize,
    overdue: usize,
    /// How many slots the search has at present.
    width: usize,
}

impl Path {
    pub(crate) fn new<'a>(target: Key, seeds: impl IntoIterator<Item = &'a Arc<Contact>>, shape: Shape) -> Path {
        let mut frontier = Frontier::new(target, shape.frontier);
        seeds.into_iter().for_each(|seed| {
            frontier.hear(seed);
        });
        let width = shape.resiliency.min(shape.parallelism);
        Path { shape, frontier, waiting: 0, late: 0, overdue: 0, width }
    }

    /// Whom to ask next, if anyone.
    pub(crate) fn next(&mut self) -> Next {
        let view = self.view();
        if view.answered >= self.shape.count {
            return Next::Done;
        }
        let slots = if view.search_over { self.shape.count + self.shape.spare } else { self.width };
        match view.unasked.filter(|_| self.waiting < slots) {
            Some(key) => self.ask(&key),
            None if self.waiting + self.late + self.overdue == 0 => Next::Done,
            None => Next::Wait,
        }
    }

    /// A peer answered and named these. Returns how many of them are news.
    pub(crate) fn on_answer(&mut self, from: &Key, closer: &[Arc<Contact>]) -> usize {
        if !self.settle(from, PeerState::Answered) {
            return 0;
        }
        let nearest = self.frontier.nearest().copied();
        let news = self.hear(from, closer);
        if self.frontier.nearest().copied() == nearest {
            self.widen()
        } else {
            self.narrow()
        }
        news
    }

    /// A peer failed.
    pub(crate) fn on_failure(&mut self, from: &Key) {
        if self.settle(from, PeerState::Failed) {
            self.widen();
        }
    }

    /// A peer is about to fail since it was not dialled: no more is known of it or of who named it, and whoever else names
    /// it gives it another chance.
    pub(crate) fn on_refused(&mut self, from: &Key) {
        let Some(peer) = self.frontier.get_mut(from) else { return };
        peer.contact = peer.contact.with_addrs([]);
        peer.chances += 1;
        if self.shape.wary {
            self.frontier.weigh(from, true);
        }
    }

    /// A peer is late, or overdue.
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

    /// The closest peers that answered, nearest first, at most k.
    pub(crate) fn closest(&self) -> Vec<Arc<Contact>> {
        self.answered().take(self.shape.count).cloned().collect()
    }

    /// Those of the k closest that are neither dead nor overdue and have answered, once the search is over.
    pub(crate) fn settled(&self) -> Vec<Arc<Contact>> {
        if !self.view().search_over {
            return Vec::new();
        }
        let closest = self.frontier.in_play().take(self.shape.count);
        let answered = closest.filter(|peer| peer.state == PeerState::Answered);
        answered.map(|peer| Arc::clone(&peer.contact)).collect()
    }

    /// Everyone worth addressing, nearest first: those that answered, then those never asked.
    pub(crate) fn ranked(&self) -> Vec<Arc<Contact>> {
        self.answered().chain(self.never_asked()).cloned().collect()
    }

    /// What is known of a peer, if the walk heard of it.
    pub(crate) fn contact(&self, key: &Key) -> Option<&Arc<Contact>> {
        self.frontier.get(key).map(|peer| &peer.contact)
    }

    /// How many peers are known and were not asked.
    pub(crate) fn unasked(&self) -> usize {
        self.never_asked().count()
    }

    fn never_asked(&self) -> impl Iterator<Item = &Arc<Contact>> {
        self.frontier.iter().filter(|peer| peer.state == PeerState::Heard).map(|peer| &peer.contact)
    }

    /// Everyone who is neither dead nor overdue, nearest first.
    pub(crate) fn in_play(&self) -> impl Iterator<Item = &Arc<Contact>> {
        self.frontier.in_play().map(|peer| &peer.contact)
    }

    /// How far away the nearest peers are that someone credible named, dead or not, so many of them; `None` if fewer are known.
    pub(crate) fn reach(&self, count: usize) -> Option<Distance> {
        let last = self.frontier.credible().nth(count.checked_sub(1)?)?;
        Some(self.frontier.target.distance(last.contact.key()))
    }

    /// Wants one more answer than before.
    pub(crate) fn ask_one_more(&mut self) {
        self.shape.count += 1;
    }

    /// Those never asked whom it knew before it asked the peer that named the nearest, nearest first: should that peer
    /// have lied, these do not depend on it.
    pub(crate) fn independent(&self) -> impl Iterator<Item = &Arc<Contact>> {
        let since = self.frontier.in_play().next().map_or(0, |peer| peer.since);
        let unasked = self.frontier.iter().filter(|peer| peer.state == PeerState::Heard);
        unasked.filter(move |peer| peer.since < since).map(|peer| &peer.contact)
    }

    /// Learns from a peer that these exist. Returns how many of them are news.
    pub(crate) fn hear(&mut self, from: &Key, named: &[Arc<Contact>]) -> usize {
        if !named.is_empty() {
            self.frontier.begin_answer(from);
        }
        named.iter().filter(|contact| self.frontier.hear(contact)).count()
    }

    /// Lets the search have so many slots at most from now on.
    pub(crate) fn set_parallelism(&mut self, parallelism: usize) {
        self.shape.parallelism = parallelism;
    }

    fn answered(&self) -> impl Iterator<Item = &Arc<Contact>> {
        self.frontier.iter().filter(|peer| peer.state == PeerState::Answered).map(|peer| &peer.contact)
    }

    fn ask(&mut self, key: &Key) -> Next {
        match self.frontier.get_mut(key) {
            Some(peer) => {
                peer.state = PeerState::Waiting;
                self.waiting += 1;
                Next::Ask(Arc::clone(&peer.contact))
            }
            None => Next::Wait,
        }
    }

    /// Gives a peer that was asked its end; `false` if it was not asked or has ended before.
    fn settle(&mut self, key: &Key, end: PeerState) -> bool {
        let Some(peer) = self.frontier.get_mut(key) else { return false };
        match peer.state {
            PeerState::Waiting => self.waiting -= 1,
            PeerState::Late => self.late -= 1,
            PeerState::Overdue => self.overdue -= 1,
            PeerState::Heard | PeerState::Answered | PeerState::Failed => return false,
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

    /// Looks over the peers nearest to the target that are neither dead nor overdue, as far as they matter: the k
    /// closest, as many more as there are late ones among them, and the spare ones.
    fn view(&self) -> View {
        let mut view = View { answered: 0, search_over: false, unasked: None };
        // Whether everyone so far has answered: the late ones counted, and passed over.
        let (mut places, mut unbroken, mut answering) = (0, true, true);
        for peer in self.frontier.in_play() {
            if places >= self.shape.count + self.shape.spare {
                break;
            }
            match peer.state {
                // It keeps the walk from ending, but whoever comes next is asked as if it were not there.
                PeerState::Late => {
                    unbroken = false;
                    continue;
                }
                PeerState::Answered if unbroken => view.answered += 1,
                PeerState::Answered => {}
                PeerState::Heard => {
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

/// What a look over the nearest peers finds.
struct View {
    /// How many answered without anyone nearer who has not.
    answered: usize,
    /// Whether the β closest have answered.
    search_over: bool,
    /// The nearest that was not asked.
    unasked: Option<Key>,
}
