//! Bring one message to the k closest peers, and know who took it.
//!
//! Knows: whom to address, who acknowledged, who did not. Must not know: how the peers were found. A peer that fails,
//! or is late, is replaced by the next closest.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{Context, Step};
use crate::core::contact::Contact;
use crate::core::error::{PeerFailure, Report};
use crate::core::key::Key;
use crate::core::message::{Request, RequestError};
use crate::core::requests::Tag;

/// At most so many times k peers are addressed in all.
const ATTEMPTS: usize = 2;

#[derive(Debug)]
pub(crate) struct Delivery {
    target: Key,
    request: Request,
    wanted: usize,
    /// Nearest first.
    candidates: VecDeque<Arc<Contact>>,
    waiting: Vec<Arc<Contact>>,
    late: Vec<Arc<Contact>>,
    acknowledged: Vec<Arc<Contact>>,
}

impl Delivery {
    /// `ranked` are the peers worth addressing, the best first.
    pub(crate) fn new(target: Key, request: Request, wanted: usize, ranked: Vec<Arc<Contact>>) -> Delivery {
        let mut candidates: VecDeque<_> = ranked.into();
        candidates.truncate(wanted.saturating_mul(ATTEMPTS));
        Delivery {
            target,
            request,
            wanted,
            candidates,
            waiting: Vec::new(),
            late: Vec::new(),
            acknowledged: Vec::new(),
        }
    }

    /// The next to address; `None` when enough have it or nobody is left.
    pub(crate) fn next(&mut self, _: &Context<'_>) -> Option<Step> {
        if self.acknowledged.len() >= self.wanted {
            return None;
        }
        if self.acknowledged.len() + self.waiting.len() < self.wanted
            && let Some(next) = self.candidates.pop_front()
        {
            self.waiting.push(Arc::clone(&next));
            return Some(Step::Ask(next, self.request.clone(), Tag::default()));
        }
        let under_way = !self.waiting.is_empty() || !self.late.is_empty();
        under_way.then_some(Step::Wait)
    }

    pub(crate) fn on_answer(&mut self, from: &Arc<Contact>) {
        if self.settle(from) {
            self.acknowledged.push(Arc::clone(from));
        }
    }

    pub(crate) fn on_failure(&mut self, from: &Arc<Contact>) {
        self.settle(from);
    }

    pub(crate) fn on_late(&mut self, from: &Arc<Contact>) {
        if let Some(at) = self.waiting.iter().position(|peer| peer.peer() == from.peer()) {
            self.late.push(self.waiting.swap_remove(at));
        }
    }

    /// Writes into the report who took it, nearest first, and accounts for those still under way.
    pub(crate) fn conclude(&mut self, report: &mut Report) -> usize {
        self.acknowledged.sort_unstable_by_key(|peer| peer.key().distance(&self.target));
        report.acknowledged = self.acknowledged.iter().map(|peer| *peer.peer()).collect();
        let announced = matches!(self.request, Request::AddProvider { .. });
        for peer in self.waiting.drain(..).chain(self.late.drain(..)) {
            let why = if announced { RequestError::Unacknowledged } else { RequestError::Timeout };
            report.failed.push(PeerFailure::new(*peer.peer(), why));
        }
        // An announcement that was sent and neither taken nor refused may well have arrived: that is no failure.
        let (sent, failed) = std::mem::take(&mut report.failed)
            .into_iter()
            .partition(|failure| failure.why == RequestError::Unacknowledged);
        report.failed = failed;
        let sent: Vec<PeerFailure> = sent;
        report.sent = sent.iter().map(|failure| failure.peer).collect();
        self.acknowledged.len()
    }

    pub(crate) fn unasked(&self) -> usize {
        self.candidates.len()
    }

    fn settle(&mut self, from: &Arc<Contact>) -> bool {
        let before = self.waiting.len() + self.late.len();
        self.waiting.retain(|peer| peer.peer() != from.peer());
        self.late.retain(|peer| peer.peer() != from.peer());
        before > self.waiting.len() + self.late.len()
    }
}
