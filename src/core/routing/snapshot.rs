//! The routing table as shown to people: plain values, detached from the table.

use std::sync::Arc;
use std::time::Duration;

use libp2p_identity::PeerId;
use multiaddr::Multiaddr;

use super::entry::QUESTIONABLE_AFTER;
use crate::core::contact::Contact;
use crate::core::time::Timestamp;

/// The routing table at one moment. With the feature `serde` it has a form of its own, with a `version`: it can be kept and
/// given back to [`Dht::restore`](crate::core::Dht::restore); another version than the present one is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(
    feature = "serde",
    serde(from = "super::versioned::VersionedSnapshot", into = "super::versioned::VersionedSnapshot")
)]
#[non_exhaustive]
pub struct RoutingSnapshot {
    /// The node itself.
    pub local: PeerId,
    /// The buckets that exist, the farthest first.
    pub buckets: Vec<BucketSnapshot>,
    /// How many nodes the network is likely to have, this one included; good to about a fifth once there are k
    /// neighbours.
    pub estimated_nodes: u64,
}

impl RoutingSnapshot {
    /// The peers worth a trial when the table is restored: those with addresses that did not fail in a row, the longest
    /// known first, at most `count`.
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
    /// How many leading bits its keys share with the node's own; the last bucket holds all that share more too.
    pub prefix: u32,
    /// How many entries it may hold.
    pub capacity: usize,
    /// Its entries, the longest known first: more than the capacity only where those beyond it are among the k closest of
    /// the whole table.
    pub entries: Vec<EntrySnapshot>,
    /// How many peers wait for a place in it.
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
    /// When it last answered, or asked.
    pub last_seen: Timestamp,
    /// When its answer last helped: it named peers that were news to a lookup, or had the value or the providers that were
    /// looked for. `None` if it never did.
    pub last_useful: Option<Timestamp>,
    /// How many requests in a row it failed since.
    pub failures: u32,
    /// How long its answers take, smoothed; `None` until measured.
    #[cfg_attr(feature = "serde", serde(default, with = "crate::core::text::micros"))]
    pub rtt: Option<Duration>,
}
