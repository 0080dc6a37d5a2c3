//! Brings values to peers that are new among the closest to their keys.
//!
//! Knows: which peers are new, and which of the stored values this node is to bring them. Must not know: how that is
//! done.
//!
//! The holder closest to the key brings the value (Kademlia paper, section 2.5), as far as each holder knows which one
//! that is. A node is the closest that it knows only to keys near its own: those that share more bits with it than any
//! other peer does, up to the first bit with no peer on its other side. So a scan reads only that part of the keyspace,
//! one page at a time, for all newcomers of a moment together.
//!
//! Ids are free, and an attacker that comes under many of them would be sent all these values for each. So they are
//! limited by a budget (`Budget`), of which a batch gets at most half, in equal shares. If IP groups are limited, and
//! the network is no longer so small that newcomers are rare, a newcomer waits until it has been in the table for a
//! while, and only one of a group is served in an hour. A newcomer that is left out gets its values from the nodes that
//! store them again, within an hour.
//!
//! A newcomer is a peer that enters the table among the 2k closest entries, five minutes or more after this node met
//! its first peer; until then every peer is new to it. Before there was a budget, 60 ids of 20 s each drew 446 MB; they
//! draw nothing in the public network, and no more than the budget in others.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::budget::{Budget, bytes};
use super::sweep::last_of_full;
use crate::core::announcement::{Announcement, Recipients};
use crate::core::contact::Contact;
use crate::core::ip_group::IpGroup;
use crate::core::key::Key;
use crate::core::routing::RoutingTable;
use crate::core::store::{Item, Store};
use crate::core::time::{NodeTime, Timestamp};

/// Maximum number of newcomers that wait. Source: the entries around a node change by a few an hour.
const MAX_WAITING: usize = 64;
/// Newcomers within this time are served together.
const BATCH: Duration = Duration::from_secs(5);
/// Pause between two pages.
const NEXT_PAGE: Duration = Duration::from_millis(100);
/// For this long after a node met its first peer, every peer is new to it, and none counts as a newcomer.
const SETTLING: Duration = Duration::from_secs(300);
/// A newcomer is served if it is among this many times k closest to this node. While fewer are known, all are.
pub(crate) const NEAR: usize = 2;
/// Where IP groups are limited, a newcomer is served after this time in the table. Source: an entry without a sign of
/// life is checked after as long.
const MIN_STAY: Duration = Duration::from_secs(600);
/// Where IP groups are limited, one newcomer of a group is served in this time.
const GROUP_PAUSE: Duration = Duration::from_secs(3_600);
/// Maximum number of groups remembered for that; newcomers of further ones are not served. Source: as many as wait, for
/// an hour of ten minutes each, twice.
const MAX_GROUPS: usize = 1_024;

#[derive(Debug)]
pub(crate) struct Newcomers {
    /// Peers that come earlier are no newcomers; `None` if no values are brought to newcomers.
    not_before: Option<Timestamp>,
    /// The waiting newcomers, each with the time from which it is served.
    waiting: Vec<(Timestamp, Arc<Contact>)>,
    /// The groups of which a newcomer was served, and when.
    groups: BTreeMap<IpGroup, Timestamp>,
    pub(super) due: Option<Timestamp>,
    batch: Option<Batch>,
}

/// A scan for some newcomers.
#[derive(Debug)]
struct Batch {
    /// The newcomers, each with the bytes that it may still get.
    peers: Vec<(Arc<Contact>, u64)>,
    /// This node is the closest to keys that share this many bits with it.
    depth: u32,
    cursor: Option<Key>,
}

impl Newcomers {
    pub(crate) fn new(now: Timestamp, enabled: bool) -> Newcomers {
        let not_before = if enabled { Some(now) } else { None };
        Newcomers { not_before, waiting: Vec::new(), groups: BTreeMap::new(), due: None, batch: None }
    }

    /// A peer entered the table.
    pub(crate) fn offer(&mut self, now: Timestamp, peer: &Arc<Contact>, table: &RoutingTable, k: usize) {
        let Some(not_before) = &mut self.not_before else { return };
        if table.len() == 1 {
            *not_before = now + SETTLING;
        }
        if now < *not_before {
            return;
        }
        // A peer that left and came back waits again.
        self.waiting.retain(|(_, waiting)| waiting.peer() != peer.peer());
        if self.waiting.len() >= MAX_WAITING {
            self.waiting.retain(|(_, waiting)| table.get(waiting.key()).is_some());
        }
        let near = table.closest(table.local(), NEAR.saturating_mul(k), |_, _| true);
        if self.waiting.len() < MAX_WAITING && peer.is_among(&near) {
            let wait = if limits_groups(table, k) { MIN_STAY } else { Duration::ZERO };
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
        if usage.values + usage.own > 0 { self.due } else { None }
    }

    /// Begins to read a page, of a new batch if none is being served. Returns the key after which it begins.
    pub(crate) fn begin(&mut self, now: Timestamp, table: &RoutingTable, k: usize, budget: &mut Budget) -> Option<Key> {
        self.due = None;
        if self.batch.is_none() {
            let peers = self.take_ready(now, table, k);
            let depth = depth(table, &peers, k);
            // At least half of the budget stays for the next batch.
            let share = budget.left(now) / (2 * peers.len().max(2) as u64);
            let peers = peers.into_iter().map(|peer| (peer, share)).collect();
            self.batch = Some(Batch { peers, depth, cursor: first(table.local(), depth).before() });
        }
        self.batch.as_ref().and_then(|batch| batch.cursor)
    }

    /// Takes the newcomers whose time has come, that are still in the table, and whose groups were not served lately.
    fn take_ready(&mut self, now: Timestamp, table: &RoutingTable, k: usize) -> Vec<Arc<Contact>> {
        let (ready, waiting) = std::mem::take(&mut self.waiting).into_iter().partition(|(from, _)| *from <= now);
        self.waiting = waiting;
        self.groups.retain(|_, at| now.since(*at) < GROUP_PAUSE);
        let limits_groups = limits_groups(table, k);
        let mut peers: Vec<_> = ready.into_iter().map(|(_, peer)| peer).collect();
        peers.retain(|peer| {
            if table.get(peer.key()).is_none() {
                return false;
            }
            let group = if limits_groups { table.group(peer) } else { None };
            let Some(group) = group else { return true };
            let fits = self.groups.len() < MAX_GROUPS && !self.groups.contains_key(&group);
            if fits {
                self.groups.insert(group, now);
            }
            fits
        });
        peers
    }

    /// Takes a page, `None` if the store failed, and returns what to announce.
    pub(crate) fn on_page(
        &mut self,
        time: &NodeTime,
        page: Option<Vec<Item>>,
        (table, k): (&RoutingTable, usize),
        budget: &mut Budget,
    ) -> Vec<Announcement> {
        let Some(batch) = &mut self.batch else { return Vec::new() };
        let page = page.unwrap_or_default();
        let last = last_of_full(&page);
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
    /// Announces a value to the newcomers that should have it, if this node is the one to bring it.
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
        let mut holders = table.closest(&place, k + self.peers.len(), |_, entry| entry.failures() == 0);
        holders.retain(|peer| self.peers.iter().all(|(new, _)| new.peer() != peer.peer()));
        let distance = |peer: &Arc<Contact>| peer.key().distance(&place);
        if holders.first().is_some_and(|closest| distance(closest) < local.distance(&place)) {
            return None;
        }
        // The newcomer must be closer than the last of the k holders, of which this node is one: the k - 1st of the
        // others.
        let bound = if k == 1 { Some(local.distance(&place)) } else { holders.get(k - 2).map(distance) };
        let bytes = bytes(&item);
        let mut to = Vec::new();
        for (peer, left) in &mut self.peers {
            if bound.is_some_and(|bound| distance(peer) >= bound) {
                continue;
            }
            if *left >= bytes && budget.take(time.now, bytes) {
                *left -= bytes;
                to.push(Arc::clone(peer));
            } else {
                *left = 0;
            }
        }
        (!to.is_empty()).then_some(Announcement { item, to: Recipients::Peers(to) })
    }
}

/// Number of leading bits up to which this node shares a key with no other peer than the newcomers: to keys that share
/// as many it is the closest.
fn depth(table: &RoutingTable, newcomers: &[Arc<Contact>], k: usize) -> u32 {
    let shared = |peer: &Arc<Contact>| peer.key().common_prefix_len(table.local());
    let near = table.closest(table.local(), NEAR.saturating_mul(k) + newcomers.len(), |_, _| true);
    // Peers farther away than all of these were not fetched, so the buckets there may be occupied.
    let begin = if near.len() == table.len() { 0 } else { near.last().map_or(0, shared) };
    let occupied: Vec<_> = near.iter().filter(|near| !near.is_among(newcomers)).map(shared).collect();
    (begin..Key::BITS).find(|bit| !occupied.contains(bit)).unwrap_or(Key::BITS)
}

/// Whether newcomers wait, and are limited by their IP groups.
fn limits_groups(table: &RoutingTable, k: usize) -> bool {
    table.limits_groups() && table.len() >= NEAR.saturating_mul(k)
}

/// The first key that shares this many leading bits with `key`.
fn first(key: &Key, bits: u32) -> Key {
    let zero = Key::from_bytes([0; 32]);
    zero.at(&zero.distance(key).at_least(bits))
}
