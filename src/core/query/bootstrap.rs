//! Joins the network: looks up this node's own key (rule L28), then a key in every bucket farther away than the closest
//! neighbour. Or refreshes one bucket.
//!
//! If fewer than k peers answered the first lookup, they are the whole network, and there is nothing more to find.

use std::sync::Arc;

use bytes::Bytes;
use rand_chacha::ChaCha8Rng;

use super::{Context, Step, find_node, lookup_step, unanswered};
use crate::core::announcement::{RefreshReport, RefreshTarget};
use crate::core::contact::Contact;
use crate::core::error::Report;
use crate::core::io::{Answer, Bootstrapped};
use crate::core::lookup::Lookup;
use crate::core::preimage;
use crate::core::requests::Tag;

/// Maximum number of lookups at a time. Source: enough to hide a slow one, few enough not to be a burst.
const MAX_LOOKUPS: usize = 3;

#[derive(Clone, Debug)]
pub(crate) struct Bootstrap {
    rng: ChaCha8Rng,
    lookups: Vec<RefreshLookup>,
    /// Whether every bucket farther away than the closest neighbour is refreshed too, once they are known.
    all: bool,
    /// The buckets still to be refreshed, the farthest last.
    ahead: Vec<u32>,
    report: RefreshReport,
    next_tag: u16,
}

#[derive(Clone, Debug)]
struct RefreshLookup {
    tag: Tag,
    target: RefreshTarget,
    preimage: Bytes,
    lookup: Lookup,
}

impl Bootstrap {
    /// A lookup for the node's own key, then one into each other bucket.
    pub(crate) fn join(cx: &Context<'_>, rng: ChaCha8Rng) -> Bootstrap {
        let mut bootstrap = Bootstrap::look_into(cx, RefreshTarget::Own, rng);
        bootstrap.all = true;
        bootstrap
    }

    /// One refresh lookup.
    pub(crate) fn look_into(cx: &Context<'_>, target: RefreshTarget, rng: ChaCha8Rng) -> Bootstrap {
        let report = RefreshReport::default();
        let mut bootstrap = Bootstrap { rng, lookups: Vec::new(), all: false, ahead: Vec::new(), report, next_tag: 0 };
        bootstrap.start(cx, target);
        bootstrap
    }

    /// The report so far.
    pub(crate) fn report(&self) -> &RefreshReport {
        &self.report
    }

    pub(crate) fn next(&mut self, cx: &Context<'_>, report: &mut Report) -> Step {
        loop {
            let mut done = None;
            for (i, refresh) in self.lookups.iter_mut().enumerate() {
                match lookup_step(&mut refresh.lookup, refresh.tag, || find_node(&refresh.preimage)) {
                    Some(Step::Wait) => {}
                    Some(step) => return step,
                    None => {
                        done = Some(i);
                        break;
                    }
                }
            }
            if let Some(i) = done {
                let refresh = self.lookups.swap_remove(i);
                self.on_lookup_done(cx, &refresh);
            } else if !self.start_next(cx) {
                break;
            }
        }
        if !self.lookups.is_empty() {
            return Step::Wait;
        }
        if report.answers == 0 {
            return Step::Finish(Err(unanswered(report)));
        }
        Step::Finish(Ok(Answer::Bootstrapped(Bootstrapped {
            peers: cx.peers.table.len(),
            report: std::mem::take(report),
        })))
    }

    pub(crate) fn unasked(&self) -> usize {
        self.lookups.iter().map(|refresh| refresh.lookup.unasked()).sum()
    }

    /// The lookup that this request belongs to, unless it has ended.
    pub(crate) fn lookup(&mut self, tag: Tag) -> Option<&mut Lookup> {
        self.lookups.iter_mut().find(|refresh| refresh.tag == tag).map(|refresh| &mut refresh.lookup)
    }

    /// Notes the findings of a lookup. The one for the node's own key shows how many buckets there are.
    fn on_lookup_done(&mut self, cx: &Context<'_>, refresh: &RefreshLookup) {
        let found = refresh.lookup.closest();
        // A lookup without any answer proves nothing: the bucket stays due.
        let Some(closest) = found.first() else { return };
        self.keep_candidates(cx, refresh.lookup.ranked());
        match refresh.target {
            RefreshTarget::Bucket(bucket) => self.report.refreshed.push(bucket),
            RefreshTarget::Own => {
                // No peer shares more bits with the node than its closest neighbour: buckets beyond that are empty.
                let buckets = closest.key().common_prefix_len(cx.peers.local.key()).min(preimage::DEPTH);
                self.report.buckets = Some(buckets);
                self.report.everyone = found.len() < cx.replication();
                // The order of the peers must not matter.
                self.report.found = found.iter().fold(0, |sum, peer| sum ^ peer.key().head());
                if self.report.everyone {
                    self.report.refreshed.extend(0..buckets);
                } else if self.all {
                    self.ahead = (0..buckets).rev().collect();
                }
            }
        }
    }

    /// Keeps the peers for which the table has room, at most as many as may wait to be checked.
    fn keep_candidates(&mut self, cx: &Context<'_>, named: Vec<Arc<Contact>>) {
        for contact in named {
            let kept = &mut self.report.candidates;
            if kept.len() >= cx.config.limit.candidates {
                return;
            }
            if cx.peers.has_place_for(cx.now, &contact) && !kept.iter().any(|known| known.key() == contact.key()) {
                kept.push(contact);
            }
        }
    }

    /// Starts the lookup into the next bucket; `false` if none is left, or [`MAX_LOOKUPS`] are running.
    fn start_next(&mut self, cx: &Context<'_>) -> bool {
        let next = if self.lookups.len() < MAX_LOOKUPS { self.ahead.pop() } else { None };
        next.inspect(|bucket| self.start(cx, RefreshTarget::Bucket(*bucket))).is_some()
    }

    fn start(&mut self, cx: &Context<'_>, target: RefreshTarget) {
        let local = &cx.peers.local;
        let place = match target {
            RefreshTarget::Own => Some((*local.key(), local.peer().to_bytes().into())),
            RefreshTarget::Bucket(bucket) => preimage::in_bucket(local.key(), bucket, &mut self.rng),
        };
        if let Some((key, preimage)) = place {
            let tag = Tag(self.next_tag);
            self.next_tag = self.next_tag.wrapping_add(1);
            self.lookups.push(RefreshLookup { tag, target, preimage, lookup: cx.lookup(key, cx.replication(), None) });
        }
    }
}
