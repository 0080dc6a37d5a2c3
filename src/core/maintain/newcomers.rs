//! Brings values to newcomers that are among the closest to their keys.
//!
//! Knows: who is new, and which of the values kept here are this node's to bring. Must not know: how it is done.
//!
//! Of all holders the nearest to the key brings it (Kademlia paper, section 2.5), as far as each knows who is nearest. A
//! node is the nearest that it knows only to keys next to its own: those that share more bits with it than anyone else
//! does, up to the first bit with nobody on its other side. So a scan reads that part of the keyspace alone, one page
//! at a time, for all newcomers of a moment together.
//!
//! Ids are free, and whoever comes under many of them would have all of that sent to each. So it comes out of a budget
//! (`Budget`), of which no batch has more than half, in equal parts. Where IP groups count, and the network is no longer so
//! small that newcomers are rare, a newcomer waits until it has been in the table for a while, and a group has one an hour.
//! Whoever goes without gets its values from those who store them again, within an hour.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::budget::{Budget, bytes};
use super::sweep::PAGE;
use crate::core::announcement::{Announcement, Recipients};
use crate::core::contact::Contact;
use crate::core::ip_group::IpGroup;
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
/// A newcomer matters that is among so many times k closest to this node. While fewer are known, all are served at once.
pub(crate) const NEAR: usize = 2;
/// Where IP groups count, a newcomer was in the table for so long before it is served. Source: an entry without a sign of life
/// is asked after that long.
const STAYS: Duration = Duration::from_secs(600);
/// Then an IP group has one newcomer in this time.
const A_GROUP: Duration = Duration::from_secs(3_600);
/// So many groups are remembered for that; newcomers of more are not served. Source: as many as wait, for an hour of ten
/// minutes each, twice.
const MAX_GROUPS: usize = 1_024;

#[derive(Debug)]
pub(crate) struct Newcomers {
    not_before: Option<Timestamp>,
    /// Each with the time from which it is served.
    waiting: Vec<(Timestamp, Arc<Contact>)>,
    /// Which groups had a newcomer served, and when.
    groups: BTreeMap<IpGroup, Timestamp>,
    pub(super) due: Option<Timestamp>,
    batch: Option<Batch>,
}

/// A scan for some newcomers.
#[derive(Debug)]
struct Batch {
    /// Each with the bytes that it may still get.
    peers: Vec<(Arc<Contact>, u64)>,
    /// How many bits a key shares with this node that it is the nearest to.
    depth: u32,
    cursor: Option<Key>,
}

impl Newcomers {
    pub(crate) fn new(now: Timestamp, interval: Option<Duration>) -> Newcomers {
        let (waiting, groups) = (Vec::new(), BTreeMap::new());
        Newcomers { not_before: interval.map(|_| now), waiting, groups, due: None, batch: None }
    }

    /// A peer entered the table.
    pub(crate) fn offer(&mut self, now: Timestamp, peer: &Arc<Contact>, table: &RoutingTable, k: usize) {
        if let (Some(not_before), 1) = (&mut self.not_before, table.len()) {
            *not_before = now + SETTLING;
        }
        if self.not_before.is_none_or(|at| now < at) {
            return;
        }
        // Who left and came back begins again.
        self.waiting.retain(|(_, known)| known.peer() != peer.peer());
        if self.waiting.len() >= MAX_WAITING {
            self.waiting.retain(|(_, known)| table.get(known.key()).is_some());
        }
        let near = table.closest(table.local(), NEAR.saturating_mul(k), |_, _| true);
        if self.waiting.len() < MAX_WAITING && peer.is_among(&near) {
            let wait = if counts(table, k) { STAYS } else { Duration::ZERO };
            self.waiting.push((now + wait, Arc::clone(peer)));
        }
        self.plan(now);
    }

    /// Sets the time of the next batch, unless one is being served.
    fn plan(&mut self, now: Timestamp) {
        if self.batch.is_none() {
            let first = self.waiting.iter().map(|(from, _)| *from).min();
            let soon = self.due.filter(|due| *due > now).unwrap_or(now + BATCH);
            self.due = first.map(|from| from.max(soon.min(now + BATCH)));
        }
    }

    /// When the next page is to be read.
    pub(crate) fn due(&self, store: &dyn Store) -> Option<Timestamp> {
        let usage = store.usage();
        self.due.filter(|_| usage.values + usage.own > 0)
    }

    /// The place after which to read the next page; it is not used where nobody is left to serve.
    pub(crate) fn begin(&mut self, now: Timestamp, table: &RoutingTable, k: usize, budget: &mut Budget) -> Option<Key> {
        let local = table.local();
        self.due = None;
        if self.batch.is_none() {
            let peers = self.served(now, table, k);
            let near = table.closest(local, NEAR.saturating_mul(k) + peers.len(), |_, _| true);
            let all = near.len() == table.len();
            let farthest = near.last().filter(|_| !all).map_or(0, |far| far.key().common_prefix_len(local));
            let old: Vec<_> = near.iter().filter(|near| !near.is_among(&peers)).collect();
            let occupied = |bit: &u32| old.iter().any(|near| near.key().common_prefix_len(local) == *bit);
            let depth = (farthest..Key::BITS).find(|bit| !occupied(bit)).unwrap_or(Key::BITS);
            // As much stays for the next batch.
            let share = budget.left(now) / (2 * peers.len().max(2) as u64);
            let peers = peers.into_iter().map(|peer| (peer, share)).collect();
            self.batch = Some(Batch { peers, depth, cursor: first(local, depth).before() });
        }
        self.batch.as_ref().and_then(|batch| batch.cursor)
    }

    /// Those of the waiting whose time has come, who are still there and whose groups had nobody lately.
    fn served(&mut self, now: Timestamp, table: &RoutingTable, k: usize) -> Vec<Arc<Contact>> {
        let (ripe, waiting) = std::mem::take(&mut self.waiting).into_iter().partition(|(from, _)| *from <= now);
        self.waiting = waiting;
        self.groups.retain(|_, at| now.since(*at) < A_GROUP);
        let mut peers: Vec<_> = ripe.into_iter().map(|(_, peer)| peer).collect();
        peers.retain(|peer| {
            let Some(group) = table.group(peer).filter(|_| counts(table, k)) else { return true };
            let fits = self.groups.len() < MAX_GROUPS && !self.groups.contains_key(&group);
            if fits && table.get(peer.key()).is_some() {
                self.groups.insert(group, now);
            }
            fits
        });
        peers.retain(|peer| table.get(peer.key()).is_some());
        peers
    }

    /// The page; `None` if it could not be read.
    pub(crate) fn on_page(
        &mut self,
        time: &NodeTime,
        page: Option<Vec<Item>>,
        (table, k): (&RoutingTable, usize),
        budget: &mut Budget,
    ) -> Vec<Announcement> {
        let Some(batch) = &mut self.batch else { return Vec::new() };
        let page = page.unwrap_or_default();
        let last = page.last().filter(|_| page.len() >= PAGE).map(|item| item.key().key());
        let announcements =
            page.into_iter().filter_map(|item| batch.announcement(time, item, (table, k), budget)).collect();
        let more = batch.peers.iter().any(|(_, left)| *left > 0);
        match last.filter(|last| more && last.common_prefix_len(table.local()) >= batch.depth) {
            Some(last) => {
                batch.cursor = Some(last);
                self.due = Some(time.now + NEXT_PAGE);
            }
            None => {
                self.batch = None;
                self.plan(time.now);
            }
        }
        announcements
    }
}

impl Batch {
    /// Those of the newcomers that a value is to be brought to by this node.
    fn announcement(
        &mut self,
        time: &NodeTime,
        item: Item,
        (table, k): (&RoutingTable, usize),
        budget: &mut Budget,
    ) -> Option<Announcement> {
        let local = table.local();
        let Item::Value(record) = &item else { return None };
        let place = record.key.key();
        if record.is_expired(time.date) || place.common_prefix_len(local) < self.depth {
            return None;
        }
        let mut known = table.closest(&place, k + self.peers.len(), |_, entry| entry.failures() == 0);
        known.retain(|peer| self.peers.iter().all(|(new, _)| new.peer() != peer.peer()));
        let nearest = known.first().map(|peer| peer.key().distance(&place));
        if nearest.is_some_and(|nearest| nearest < local.distance(&place)) {
            return None;
        }
        // This node is one of the k itself.
        let bound = known.get(k.saturating_sub(2)).filter(|_| k > 1).map(|peer| peer.key().distance(&place));
        let bound = if k == 1 { Some(local.distance(&place)) } else { bound };
        let bytes = bytes(&item);
        let mut to = Vec::new();
        for (peer, left) in &mut self.peers {
            let closer = bound.is_none_or(|bound| peer.key().distance(&place) < bound);
            if closer && *left >= bytes && budget.take(time.now, bytes) {
                *left -= bytes;
                to.push(Arc::clone(peer));
            } else if closer {
                *left = 0;
            }
        }
        (!to.is_empty()).then_some(Announcement { item, to: Recipients::Peers(to) })
    }
}

/// Whether newcomers wait, and count by their IP groups.
fn counts(table: &RoutingTable, k: usize) -> bool {
    table.limits_groups() && table.len() >= NEAR.saturating_mul(k)
}

/// The first key that shares so many bits with this one.
fn first(key: &Key, bits: u32) -> Key {
    let zero = Key::from_bytes([0; 32]);
    zero.at(&zero.distance(key).at_least(bits))
}
