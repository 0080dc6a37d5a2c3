//! The routing table as plain values, detached from the table.

use std::sync::Arc;
use std::time::Duration;

use libp2p_identity::PeerId;
use multiaddr::Multiaddr;

use super::entry::{QUESTIONABLE_AFTER, TableEntry};
use crate::core::contact::Contact;
use crate::core::time::Timestamp;

/// The routing table at one moment. With the feature `serde` it is written with a `version`, so that it can be kept and
/// given back to [`Dht::restore`](crate::core::Dht::restore); reading any other version than the present one fails.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(
    feature = "serde",
    serde(from = "super::versioned::VersionedSnapshot", into = "super::versioned::VersionedSnapshot")
)]
#[non_exhaustive]
pub struct RoutingSnapshot {
    /// The node's own id.
    pub local: PeerId,
    /// The buckets that exist, the farthest first.
    pub buckets: Vec<BucketSnapshot>,
    /// Estimated number of nodes of the network, this one included; accurate to about a fifth once there are k
    /// neighbours.
    pub estimated_nodes: u64,
}

impl RoutingSnapshot {
    /// Up to `count` peers to try when the table is restored: those that have addresses and are not questionable, those
    /// in the table for longest first.
    pub(crate) fn longest_known(&self, count: usize) -> Vec<Arc<Contact>> {
        let mut entries: Vec<_> = self
            .entries()
            .filter(|entry| entry.failures < u32::from(QUESTIONABLE_AFTER) && !entry.addrs.is_empty())
            .collect();
        entries.sort_by_key(|entry| (entry.since, entry.peer));
        let contacts = entries.into_iter().map(|entry| Contact::new(entry.peer, entry.addrs.iter().cloned()));
        contacts.filter(|contact| contact.has_addrs()).take(count).collect()
    }

    /// All entries, bucket by bucket.
    pub fn entries(&self) -> impl Iterator<Item = &EntrySnapshot> {
        self.buckets.iter().flat_map(|bucket| &bucket.entries)
    }
}

/// One bucket at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct BucketSnapshot {
    /// Number of leading bits that its keys share with the node's own key; the last bucket also holds those that share
    /// more.
    pub prefix: u32,
    /// Maximum number of entries.
    pub capacity: usize,
    /// Its entries, the longest known first. There are more than the capacity only if those beyond it are among the k
    /// closest of the whole table.
    pub entries: Vec<EntrySnapshot>,
    /// Number of peers that wait for a place in it.
    pub waiting: usize,
}

/// One peer of the routing table at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct EntrySnapshot {
    /// The peer.
    #[cfg_attr(feature = "serde", serde(with = "crate::core::text::peer"))]
    pub peer: PeerId,
    /// Its addresses.
    #[cfg_attr(feature = "serde", serde(with = "crate::core::text::addrs"))]
    pub addrs: Vec<Multiaddr>,
    /// Whether a connection to it is up.
    pub connected: bool,
    /// When it entered the table.
    pub since: Timestamp,
    /// When it last answered, or sent a request.
    pub last_seen: Timestamp,
    /// When its answer last helped a lookup: it named new peers, or had the value or the providers that were looked
    /// for. `None` if it never did.
    pub last_useful: Option<Timestamp>,
    /// Failures in a row since it last answered.
    pub failures: u32,
    /// Smoothed round-trip time; `None` until measured.
    #[cfg_attr(feature = "serde", serde(default, with = "crate::core::text::micros"))]
    pub rtt: Option<Duration>,
}

impl EntrySnapshot {
    pub(super) fn of(entry: &TableEntry, connected: bool) -> EntrySnapshot {
        EntrySnapshot {
            peer: *entry.contact.peer(),
            addrs: entry.contact.addrs().collect(),
            connected,
            since: entry.since,
            last_seen: entry.last_seen,
            last_useful: (entry.last_useful != Timestamp::MAX).then_some(entry.last_useful),
            failures: entry.failures().into(),
            rtt: entry.rtt.smoothed(),
        }
    }
}
