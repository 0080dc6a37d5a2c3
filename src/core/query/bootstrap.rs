//! Join the network: look for oneself, then into every part of the keyspace farther away than the closest neighbour.
//!
//! Where fewer than k peers answered the first walk, they are the whole network and there is nothing more to find.

use std::sync::Arc;

use bytes::Bytes;
use rand_chacha::ChaCha8Rng;

use super::{Context, Heard, Step, find_node, unanswered, walk_on};
use crate::core::contact::Contact;
use crate::core::error::Report;
use crate::core::io::Answer;
use crate::core::lookup::{Lookup, Tardy};
use crate::core::preimage;
use crate::core::requests::Tag;

/// So many parts are looked into at a time. Source: enough to hide a slow one, few enough not to be a burst.
const WALKS: usize = 3;

#[derive(Debug)]
pub(crate) struct Bootstrap {
    rng: ChaCha8Rng,
    walks: Vec<Walk>,
    /// The prefixes not looked into yet, the farthest last; `None` before the first walk is over.
    prefixes: Option<Vec<u32>>,
    next_tag: u16,
}

#[derive(Debug)]
struct Walk {
    tag: Tag,
    preimage: Bytes,
    lookup: Lookup,
}

impl Bootstrap {
    pub(crate) fn new(cx: &Context<'_>, rng: ChaCha8Rng) -> Bootstrap {
        let local = &cx.peers.local;
        let lookup = cx.walk(*local.key(), cx.replication(), None);
        let walk = Walk { tag: Tag(0), preimage: local.peer().to_bytes().into(), lookup };
        Bootstrap { rng, walks: vec![walk], prefixes: None, next_tag: 1 }
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
                self.on_walk_done(cx, &walk.lookup);
            } else if !self.start_walk(cx) {
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

    pub(crate) fn on_answer(&mut self, heard: Heard<'_>) -> usize {
        self.walk(heard.tag).map_or(0, |lookup| lookup.on_answer(heard.from.key(), heard.closer))
    }

    pub(crate) fn on_failure(&mut self, from: &Arc<Contact>, tag: Tag) {
        if let Some(lookup) = self.walk(tag) {
            lookup.on_failure(from.key());
        }
    }

    pub(crate) fn on_tardy(&mut self, from: &Arc<Contact>, tag: Tag, how: Tardy) {
        if let Some(lookup) = self.walk(tag) {
            lookup.on_tardy(from.key(), how);
        }
    }

    pub(crate) fn unasked(&self) -> usize {
        self.walks.iter().map(|walk| walk.lookup.unasked()).sum()
    }

    fn walk(&mut self, tag: Tag) -> Option<&mut Lookup> {
        self.walks.iter_mut().find(|walk| walk.tag == tag).map(|walk| &mut walk.lookup)
    }

    /// After the first walk the parts to look into are known.
    fn on_walk_done(&mut self, cx: &Context<'_>, lookup: &Lookup) {
        if self.prefixes.is_none() {
            let neighbours = lookup.closest();
            let nearest = neighbours.first().map_or(0, |n| n.key().common_prefix_len(cx.peers.local.key()));
            let parts = if neighbours.len() < cx.replication() { 0 } else { nearest.min(preimage::DEPTH) };
            self.prefixes = Some((0..parts).rev().collect());
        }
    }

    /// Starts the walk into the next part; `false` if there is none, or no room for it now.
    fn start_walk(&mut self, cx: &Context<'_>) -> bool {
        if self.walks.len() >= WALKS {
            return false;
        }
        let Some(prefix) = self.prefixes.as_mut().and_then(Vec::pop) else { return false };
        if let Some((key, preimage)) = preimage::beside(cx.peers.local.key(), prefix, &mut self.rng) {
            let tag = Tag(self.next_tag);
            self.next_tag = self.next_tag.wrapping_add(1);
            self.walks.push(Walk { tag, preimage, lookup: cx.walk(key, cx.replication(), None) });
        }
        true
    }
}
