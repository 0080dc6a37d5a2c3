//! Brings values to newcomers that are among the closest to their keys.
//!
//! Knows: who is new, and which of the values kept here are this node's to bring. Must not know: how it is done.
//!
//! Of all holders the nearest to the key brings it (Kademlia paper, section 2.5), as far as each knows who is nearest. A
//! node is the nearest that it knows only to keys next to its own: those that share more bits with it than anyone else
//! does, up to the first bit with nobody on its other side. So a scan reads that part of the keyspace alone, one page
//! at a time, for all newcomers of a moment together.

use std::sync::Arc;
use std::time::Duration;

use super::sweep::PAGE;
use crate::core::contact::Contact;
use crate::core::errand::{Errand, To};
use crate::core::key::Key;
use crate::core::routing::RoutingTable;
use crate::core::store::{Item, Store};
use crate::core::time::{NodeTime, Timestamp};

/// Newcomers that wait; one more gets what it should have from those who store again. Source: the entries around a node
/// change by a few an hour.
const MAX_WAITING: usize = 64;
/// Newcomers within this time are served together.
const BATCH: Duration = Duration::from_secs(5);
/// The pause between two pages.
const NEXT_PAGE: Duration = Duration::from_millis(100);
/// For so long after it met its first peer everyone is new to a node, and nobody a newcomer.
const SETTLING: Duration = Duration::from_secs(300);
/// A newcomer matters that is among so many times k closest to this node.
pub(crate) const NEAR: usize = 2;

#[derive(Debug)]
pub(crate) struct Newcomers {
    not_before: Option<Timestamp>,
    waiting: Vec<Arc<Contact>>,
    pub(super) due: Option<Timestamp>,
    batch: Option<Batch>,
}

/// A scan for some newcomers.
#[derive(Debug)]
struct Batch {
    peers: Vec<Arc<Contact>>,
    /// How many bits a key shares with this node that it is the nearest to.
    depth: u32,
    cursor: Option<Key>,
}

impl Newcomers {
    pub(crate) fn new(now: Timestamp, interval: Option<Duration>) -> Newcomers {
        Newcomers { not_before: interval.map(|_| now), waiting: Vec::new(), due: None, batch: None }
    }

    /// A peer entered the table.
    pub(crate) fn offer(&mut self, now: Timestamp, peer: &Arc<Contact>, table: &RoutingTable, k: usize) {
        if let (Some(not_before), 1) = (&mut self.not_before, table.len()) {
            *not_before = now + SETTLING;
        }
        let full = self.waiting.len() >= MAX_WAITING || peer.is_among(&self.waiting);
        if self.not_before.is_none_or(|at| now < at) || full {
            return;
        }
        let near = table.closest(table.local(), NEAR.saturating_mul(k), |_, _| true);
        if peer.is_among(&near) {
            self.waiting.push(Arc::clone(peer));
            if self.batch.is_none() && self.due.is_none() {
                self.due = Some(now + BATCH);
            }
        }
    }

    /// When the next page is to be read.
    pub(crate) fn due(&self, store: &dyn Store) -> Option<Timestamp> {
        let usage = store.usage();
        self.due.filter(|_| usage.values + usage.own > 0)
    }

    /// The place after which to read the next page.
    pub(crate) fn begin(&mut self, table: &RoutingTable, k: usize) -> Option<Key> {
        let local = table.local();
        self.due = None;
        if self.batch.is_none() {
            let peers = std::mem::take(&mut self.waiting);
            let near = table.closest(local, NEAR.saturating_mul(k) + peers.len(), |_, _| true);
            let all = near.len() == table.len();
            let farthest = near.last().filter(|_| !all).map_or(0, |far| far.key().common_prefix_len(local));
            let old: Vec<_> = near.iter().filter(|near| !near.is_among(&peers)).collect();
            let occupied = |bit: &u32| old.iter().any(|near| near.key().common_prefix_len(local) == *bit);
            let depth = (farthest..Key::BITS).find(|bit| !occupied(bit)).unwrap_or(Key::BITS);
            self.batch = Some(Batch { peers, depth, cursor: first(local, depth).before() });
        }
        self.batch.as_ref().and_then(|batch| batch.cursor)
    }

    /// The page; `None` if it could not be read.
    pub(crate) fn on_page(
        &mut self,
        time: &NodeTime,
        page: Option<Vec<Item>>,
        table: &RoutingTable,
        k: usize,
    ) -> Vec<Errand> {
        let Some(batch) = &mut self.batch else { return Vec::new() };
        let page = page.unwrap_or_default();
        let last = page.last().filter(|_| page.len() >= PAGE).map(|item| item.key().key());
        let errands = page.into_iter().filter_map(|item| batch.errand(time.date, item, table, k)).collect();
        match last.filter(|last| last.common_prefix_len(table.local()) >= batch.depth) {
            Some(last) => {
                batch.cursor = Some(last);
                self.due = Some(time.now + NEXT_PAGE);
            }
            None => {
                self.batch = None;
                self.due = (!self.waiting.is_empty()).then(|| time.now + BATCH);
            }
        }
        errands
    }
}

impl Batch {
    /// Those of the newcomers that a value is to be brought to by this node.
    fn errand(&self, date: Timestamp, item: Item, table: &RoutingTable, k: usize) -> Option<Errand> {
        let local = table.local();
        let Item::Value(record) = &item else { return None };
        let place = record.key.key();
        if record.is_expired(date) || place.common_prefix_len(local) < self.depth {
            return None;
        }
        let mut known = table.closest(&place, k + self.peers.len(), |_, entry| entry.failures() == 0);
        known.retain(|peer| !peer.is_among(&self.peers));
        let nearest = known.first().map(|peer| peer.key().distance(&place));
        if nearest.is_some_and(|nearest| nearest < local.distance(&place)) {
            return None;
        }
        // This node is one of the k itself.
        let bound = known.get(k.saturating_sub(2)).filter(|_| k > 1).map(|peer| peer.key().distance(&place));
        let bound = if k == 1 { Some(local.distance(&place)) } else { bound };
        let closer = |peer: &&Arc<Contact>| bound.is_none_or(|bound| peer.key().distance(&place) < bound);
        let to: Vec<_> = self.peers.iter().filter(closer).cloned().collect();
        (!to.is_empty()).then_some(Errand { item, to: To::Peers(to) })
    }
}

/// The first key that shares so many bits with this one.
fn first(key: &Key, bits: u32) -> Key {
    let zero = Key::from_bytes([0; 32]);
    zero.at(&zero.distance(key).at_least(bits))
}
