//! Join the network: look for oneself, then into every part of the keyspace farther away than the closest neighbour. Or
//! look into one of them again.
//!
//! Where fewer than k peers answered the first walk, they are the whole network and there is nothing more to find.

use std::sync::Arc;

use bytes::Bytes;
use rand_chacha::ChaCha8Rng;

use super::{Context, Step, find_node, unanswered, walk_on};
use crate::core::contact::Contact;
use crate::core::errand::{Aim, Explored};
use crate::core::error::Report;
use crate::core::io::Answer;
use crate::core::lookup::Lookup;
use crate::core::preimage;
use crate::core::requests::Tag;

/// So many parts are looked into at a time. Source: enough to hide a slow one, few enough not to be a burst.
const WALKS: usize = 3;

#[derive(Debug)]
pub(crate) struct Bootstrap {
    rng: ChaCha8Rng,
    walks: Vec<Walk>,
    /// Whether the parts farther away than the closest neighbour are looked into too, once they are known.
    all: bool,
    /// The parts not looked into yet, the farthest last.
    ahead: Vec<u32>,
    explored: Explored,
    next_tag: u16,
}

#[derive(Debug)]
struct Walk {
    tag: Tag,
    aim: Aim,
    preimage: Bytes,
    lookup: Lookup,
}

impl Bootstrap {
    /// Looks for oneself, then into all other parts.
    pub(crate) fn join(cx: &Context<'_>, rng: ChaCha8Rng) -> Bootstrap {
        let mut bootstrap = Bootstrap::look_into(cx, Aim::Own, rng);
        bootstrap.all = true;
        bootstrap
    }

    /// Looks into one part.
    pub(crate) fn look_into(cx: &Context<'_>, aim: Aim, rng: ChaCha8Rng) -> Bootstrap {
        let explored = Explored::default();
        let mut bootstrap = Bootstrap { rng, walks: Vec::new(), all: false, ahead: Vec::new(), explored, next_tag: 0 };
        bootstrap.start(cx, aim);
        bootstrap
    }

    /// What was looked into so far.
    pub(crate) fn explored(&self) -> &Explored {
        &self.explored
    }

    pub(crate) fn next(&mut self, cx: &Context<'_>, report: &mut Report) -> Step {
        loop {
            let mut done = None;
            for (i, walk) in self.walks.iter_mut().enumerate() {
                match walk_on(&mut walk.lookup, walk.tag, || find_node(&walk.preimage)) {
                    Some(Step::Wait) => {}
                    Some(step) => return step,
                    None => {
                        done = Some(i);
                        break;
                    }
                }
            }
            if let Some(i) = done {
                let walk = self.walks.swap_remove(i);
                self.on_walk_done(cx, &walk);
            } else if !self.start_next(cx) {
                break;
            }
        }
        if !self.walks.is_empty() {
            return Step::Wait;
        }
        if report.answers == 0 {
            return Step::Finish(Err(unanswered(report)));
        }
        Step::Finish(Ok(Answer::Bootstrapped { peers: cx.peers.table.len(), report: std::mem::take(report) }))
    }

    pub(crate) fn unasked(&self) -> usize {
        self.walks.iter().map(|walk| walk.lookup.unasked()).sum()
    }

    /// The lookup that this request is part of, unless that is over.
    pub(crate) fn lookup(&mut self, tag: Tag) -> Option<&mut Lookup> {
        self.walks.iter_mut().find(|walk| walk.tag == tag).map(|walk| &mut walk.lookup)
    }

    /// Notes what was looked into; after the walk towards oneself the other parts are known.
    fn on_walk_done(&mut self, cx: &Context<'_>, walk: &Walk) {
        let found = walk.lookup.closest();
        let Some(closest) = found.first() else { return };
        self.keep_candidates(cx, walk.lookup.ranked());
        match walk.aim {
            Aim::Part(part) => self.explored.looked_into.push(part),
            Aim::Own => {
                let parts = closest.key().common_prefix_len(cx.peers.local.key()).min(preimage::DEPTH);
                self.explored.parts = Some(parts);
                self.explored.everyone = found.len() < cx.replication();
                self.explored.found = found.iter().fold(0, |sum, peer| sum ^ peer.key().head());
                if self.explored.everyone {
                    self.explored.looked_into.extend(0..parts);
                } else if self.all {
                    self.ahead = (0..parts).rev().collect();
                }
            }
        }
    }

    /// Those whom the walk heard of and that the table has places for, as many as may wait for their trial.
    fn keep_candidates(&mut self, cx: &Context<'_>, heard: Vec<Arc<Contact>>) {
        for contact in heard {
            let kept = &mut self.explored.candidates;
            if kept.len() >= cx.config.limit.candidates {
                return;
            }
            if cx.peers.has_place_for(cx.now, &contact) && !kept.iter().any(|known| known.key() == contact.key()) {
                kept.push(contact);
            }
        }
    }

    /// Starts the walk into the next part; `false` if there is none, or no room for it now.
    fn start_next(&mut self, cx: &Context<'_>) -> bool {
        let next = if self.walks.len() < WALKS { self.ahead.pop() } else { None };
        next.inspect(|part| self.start(cx, Aim::Part(*part))).is_some()
    }

    fn start(&mut self, cx: &Context<'_>, aim: Aim) {
        let local = &cx.peers.local;
        let target = match aim {
            Aim::Own => Some((*local.key(), local.peer().to_bytes().into())),
            Aim::Part(part) => preimage::in_bucket(local.key(), part, &mut self.rng),
        };
        if let Some((key, preimage)) = target {
            let tag = Tag(self.next_tag);
            self.next_tag = self.next_tag.wrapping_add(1);
            self.walks.push(Walk { tag, aim, preimage, lookup: cx.walk(key, cx.replication(), None) });
        }
    }
}
