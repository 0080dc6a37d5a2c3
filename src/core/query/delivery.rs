//! Sends one message to the k closest peers, and keeps account of who took it.
//!
//! Knows: the peers to address, and which acknowledged. Must not know: how the peers were found. A peer that fails or
//! is late is replaced by the next in rank, though the answer of a late one still counts. Peers that refuse are
//! replaced once all have answered, unless most of them refuse.

use std::sync::Arc;

use super::{Context, DELIVERY, Step, stores_are_full};
use crate::core::contact::Contact;
use crate::core::error::{PeerFailure, Report};
use crate::core::lookup::Lateness;
use crate::core::message::{Request, RequestError};

/// Maximum number of peers addressed in all, as a multiple of k.
const ATTEMPTS: usize = 2;

#[derive(Clone, Debug)]
pub(crate) struct Delivery {
    request: Request,
    wanted: usize,
    /// The peers to address, the best first.
    targets: Vec<Target>,
    addressed: usize,
}

#[derive(Clone, Debug)]
struct Target {
    contact: Arc<Contact>,
    state: TargetState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TargetState {
    Ranked,
    Waiting,
    Late,
    Acknowledged,
    Refused,
    Failed,
}

impl TargetState {
    /// Whether the peer takes one of the k places: a late or failed one leaves it to the next in rank.
    fn is_in_play(self) -> bool {
        !matches!(self, TargetState::Late | TargetState::Failed)
    }

    fn is_in_flight(self) -> bool {
        matches!(self, TargetState::Waiting | TargetState::Late)
    }
}

impl Delivery {
    pub(crate) fn new(request: Request, wanted: usize) -> Delivery {
        Delivery { request, wanted, targets: Vec::new(), addressed: 0 }
    }

    /// Sets the peers worth addressing, the best first. A peer that was addressed before and is not among them stays
    /// addressed, at the end.
    pub(crate) fn rank(&mut self, ranked: impl IntoIterator<Item = Arc<Contact>>) {
        let mut old = std::mem::take(&mut self.targets);
        for contact in ranked {
            let known = old.iter().position(|target| target.contact.peer() == contact.peer());
            let state = known.map_or(TargetState::Ranked, |at| old.swap_remove(at).state);
            self.targets.push(Target { contact, state });
        }
        old.retain(|target| target.state != TargetState::Ranked);
        self.targets.append(&mut old);
    }

    /// Addresses the next peer, if there is one.
    pub(crate) fn next(&mut self) -> Option<Step> {
        if self.addressed >= self.wanted.saturating_mul(ATTEMPTS) {
            return None;
        }
        let mut places = self.targets.iter_mut().filter(|target| target.state.is_in_play()).take(self.wanted);
        let next = places.find(|target| target.state == TargetState::Ranked)?;
        next.state = TargetState::Waiting;
        self.addressed += 1;
        Some(Step::Ask(Arc::clone(&next.contact), self.request.clone(), DELIVERY))
    }

    /// Gives the places of the peers that refused to others, once all have answered and most took it. Returns whether
    /// there are such places.
    pub(crate) fn replace_refusals(&mut self) -> bool {
        let count = |state| self.targets.iter().filter(|target| target.state == state).count();
        let replaced = count(TargetState::Waiting) == 0
            && stores_are_full(count(TargetState::Acknowledged), count(TargetState::Refused));
        for target in &mut self.targets {
            if replaced && target.state == TargetState::Refused {
                target.state = TargetState::Failed;
            }
        }
        replaced
    }

    /// Whether the best `wanted` peers in play have acknowledged, or no request is in flight any more.
    ///
    /// Asked when `next` has no peer to address.
    pub(crate) fn is_done(&self) -> bool {
        let best = self.targets.iter().filter(|target| target.state.is_in_play()).take(self.wanted);
        let acknowledged = best.filter(|target| target.state == TargetState::Acknowledged).count();
        acknowledged >= self.wanted || !self.targets.iter().any(|target| target.state.is_in_flight())
    }

    pub(crate) fn on_answer(&mut self, from: &Arc<Contact>) {
        self.settle(from, TargetState::Acknowledged);
    }

    pub(crate) fn on_failure(&mut self, from: &Arc<Contact>) {
        self.settle(from, TargetState::Failed);
    }

    pub(crate) fn on_refusal(&mut self, from: &Arc<Contact>) {
        self.settle(from, TargetState::Refused);
    }

    pub(crate) fn on_late(&mut self, from: &Arc<Contact>, how: Lateness) {
        if let Some(target) = self.target(from)
            && target.state == TargetState::Waiting
            && how == Lateness::Late
        {
            target.state = TargetState::Late;
        }
    }

    /// Writes into the report the peers that took the message, the best first, and those whose answers are outstanding:
    /// to a connected one it was sent, any other was not reached in time. Returns how many took it.
    pub(crate) fn conclude(&mut self, cx: &Context<'_>, report: &mut Report) -> usize {
        let acknowledged = self.targets.iter().filter(|target| target.state == TargetState::Acknowledged);
        report.acknowledged = acknowledged.map(|target| *target.contact.peer()).collect();
        for target in self.targets.iter().filter(|target| target.state.is_in_flight()) {
            let why = match cx.peers.is_connected(target.contact.key()) {
                true => RequestError::Unacknowledged,
                false => RequestError::Timeout,
            };
            report.failed.push(PeerFailure::new(*target.contact.peer(), why));
        }
        // A message that was sent and neither taken nor refused may well have arrived: that is no failure.
        let sent = report.failed.extract_if(.., |failure| failure.why == RequestError::Unacknowledged);
        report.sent = sent.map(|failure| failure.peer).collect();
        report.acknowledged.len()
    }

    pub(crate) fn unasked(&self) -> usize {
        self.targets.iter().filter(|target| target.state == TargetState::Ranked).count()
    }

    fn settle(&mut self, from: &Arc<Contact>, end: TargetState) {
        if let Some(target) = self.target(from)
            && target.state.is_in_flight()
        {
            target.state = end;
        }
    }

    fn target(&mut self, of: &Arc<Contact>) -> Option<&mut Target> {
        self.targets.iter_mut().find(|target| target.contact.peer() == of.peer())
    }
}
