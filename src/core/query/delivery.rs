//! Bring one message to the k closest peers, and know who took it.
//!
//! Knows: whom to address, who acknowledged, who did not. Must not know: how the peers were found. A peer that fails,
//! or is late, is replaced by the next in rank; what a late one says still counts. Those that refuse are replaced when all
//! have spoken, unless most of them refuse.

use std::sync::Arc;

use super::{Context, DELIVERY, Step, have_no_room};
use crate::core::contact::Contact;
use crate::core::error::{PeerFailure, Report};
use crate::core::lookup::Lateness;
use crate::core::message::{Request, RequestError};

/// At most so many times k peers are addressed in all.
const ATTEMPTS: usize = 2;

#[derive(Debug)]
pub(crate) struct Delivery {
    request: Request,
    wanted: usize,
    /// Those to address, the best first.
    targets: Vec<Target>,
    addressed: usize,
}

#[derive(Debug)]
struct Target {
    contact: Arc<Contact>,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Ranked,
    Waiting,
    Late,
    Acknowledged,
    Refused,
    Failed,
}

impl Delivery {
    pub(crate) fn new(request: Request, wanted: usize) -> Delivery {
        Delivery { request, wanted, targets: Vec::new(), addressed: 0 }
    }

    /// These are the peers worth addressing, the best first. Whoever was addressed before and is not among them stays
    /// addressed, at the end.
    pub(crate) fn rank(&mut self, ranked: impl IntoIterator<Item = Arc<Contact>>) {
        let mut old = std::mem::take(&mut self.targets);
        for contact in ranked {
            let known = old.iter().position(|target| target.contact.peer() == contact.peer());
            let state = known.map_or(State::Ranked, |at| old.swap_remove(at).state);
            self.targets.push(Target { contact, state });
        }
        old.retain(|target| target.state != State::Ranked);
        self.targets.append(&mut old);
    }

    /// The next to address.
    pub(crate) fn next(&mut self) -> Option<Step> {
        if self.addressed >= self.wanted.saturating_mul(ATTEMPTS) {
            return None;
        }
        let in_play = |target: &&mut Target| !matches!(target.state, State::Late | State::Failed);
        let places = self.targets.iter_mut().filter(in_play).take(self.wanted);
        let next = { places }.find(|target| target.state == State::Ranked)?;
        next.state = State::Waiting;
        self.addressed += 1;
        Some(Step::Ask(Arc::clone(&next.contact), self.request.clone(), DELIVERY))
    }

    /// Lets others take the places of those that refused, once everyone has spoken and most took it. Returns whether there
    /// are such places.
    pub(crate) fn replace_refusals(&mut self) -> bool {
        let count = |state| self.targets.iter().filter(|target| target.state == state).count();
        let replaced = count(State::Waiting) == 0 && have_no_room(count(State::Acknowledged), count(State::Refused));
        let refused = self.targets.iter_mut().filter(|target| replaced && target.state == State::Refused);
        refused.for_each(|target| target.state = State::Failed);
        replaced
    }

    /// Whether the best that are neither dead nor late have acknowledged, as many as wanted, or nobody is left.
    ///
    /// Asked when `next` has nobody to address.
    pub(crate) fn is_done(&self) -> bool {
        let in_play = |target: &&Target| !matches!(target.state, State::Late | State::Failed);
        let best = self.targets.iter().filter(in_play).take(self.wanted);
        let acknowledged = { best }.filter(|target| target.state == State::Acknowledged).count();
        let under_way = |target: &Target| matches!(target.state, State::Waiting | State::Late);
        acknowledged >= self.wanted || !self.targets.iter().any(under_way)
    }

    pub(crate) fn on_answer(&mut self, from: &Arc<Contact>) {
        self.settle(from, State::Acknowledged);
    }

    pub(crate) fn on_failure(&mut self, from: &Arc<Contact>) {
        self.settle(from, State::Failed);
    }

    /// A peer does not want it.
    pub(crate) fn on_refusal(&mut self, from: &Arc<Contact>) {
        self.settle(from, State::Refused);
    }

    pub(crate) fn on_late(&mut self, from: &Arc<Contact>, how: Lateness) {
        if let Some(target) = self.target(from).filter(|target| target.state == State::Waiting && how == Lateness::Late)
        {
            target.state = State::Late;
        }
    }

    /// Writes into the report who took it, the best first, and accounts for those still under way: to the connected ones
    /// it was sent, the others were not reached in time. Returns how many took it.
    pub(crate) fn conclude(&mut self, cx: &Context<'_>, report: &mut Report) -> usize {
        let of = |state: State| move |target: &&Target| target.state == state;
        let peer = |target: &Target| *target.contact.peer();
        report.acknowledged = self.targets.iter().filter(of(State::Acknowledged)).map(peer).collect();
        let open = self.targets.iter().filter(|target| matches!(target.state, State::Waiting | State::Late));
        let why = |target: &Target| match cx.peers.is_connected(target.contact.key()) {
            true => RequestError::Unacknowledged,
            false => RequestError::Timeout,
        };
        report.failed.extend(open.map(|target| PeerFailure::new(peer(target), why(target))));
        // What was sent and neither taken nor refused may well have arrived: that is no failure.
        let failures = std::mem::take(&mut report.failed);
        let (sent, failed): (Vec<_>, Vec<_>) =
            failures.into_iter().partition(|failure| failure.why == RequestError::Unacknowledged);
        report.failed = failed;
        report.sent = sent.iter().map(|failure| failure.peer).collect();
        report.acknowledged.len()
    }

    pub(crate) fn unasked(&self) -> usize {
        self.targets.iter().filter(|target| target.state == State::Ranked).count()
    }

    fn settle(&mut self, from: &Arc<Contact>, end: State) {
        let open = |target: &&mut Target| matches!(target.state, State::Waiting | State::Late);
        if let Some(target) = self.target(from).filter(open) {
            target.state = end;
        }
    }

    fn target(&mut self, of: &Arc<Contact>) -> Option<&mut Target> {
        self.targets.iter_mut().find(|target| target.contact.peer() == of.peer())
    }
}
