//! The work that maintenance gives to queries, and its results: announcements of records, and refresh lookups.
//!
//! Knows: records, peers and buckets. Must not know: when something is due, or how a query carries it out.

use std::sync::Arc;

use libp2p_identity::PeerId;

use super::contact::Contact;
use super::key::Key;
use super::record::Record;
use super::store::Item;

/// A record to be stored at other peers.
#[derive(Debug)]
pub(crate) struct Announcement {
    pub(crate) item: Item,
    pub(crate) to: Recipients,
}

/// The peers at which a record is to be stored.
#[derive(Clone, Debug)]
pub(crate) enum Recipients {
    /// The k closest.
    Closest,
    /// The k closest peers except those listed here, by the first 64 bits of their keys.
    NewOfClosest(Box<[u64]>),
    /// Those of the k closest that lack the record. The node announced it before its last restart and no longer knows
    /// to which peers, so it asks a sample of the k closest; if most of them lack it, it goes to all of the k closest.
    ThoseWithout,
    /// Exactly these peers.
    Peers(Vec<Arc<Contact>>),
}

/// How an announcement ended.
#[derive(Debug)]
pub(crate) struct AnnouncementOutcome {
    pub(crate) item: Item,
    /// Whether all of the k closest were to receive it.
    pub(crate) to_all: bool,
    /// The peers that took it, and those assumed to have it already, by the first 64 bits of their keys.
    pub(crate) reached: Vec<u64>,
    /// The peers that took it.
    pub(crate) took: Vec<PeerId>,
    /// The k closest peers; `None` if the lookup did not find them.
    pub(crate) closest: Option<Vec<u64>>,
    /// A value that other peers hold and that supersedes this one of the node's own.
    pub(crate) newer: Option<Record>,
}

/// The target of a refresh lookup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RefreshTarget {
    /// The node's own key.
    Own,
    /// A random key in the bucket of the peers that share exactly this many leading bits with the node.
    Bucket(u32),
}

/// The result of a bootstrap or a refresh.
#[derive(Clone, Debug, Default)]
pub(crate) struct RefreshReport {
    /// Number of buckets farther away than the closest neighbour; `None` while that is unknown.
    pub(crate) buckets: Option<u32>,
    /// Whether fewer than k peers answered: they are the whole network, and every bucket counts as refreshed.
    pub(crate) everyone: bool,
    /// A hash of the peers that the lookup for the node's own key found: it differs if they do.
    pub(crate) found: u64,
    /// The buckets in which a peer answered.
    pub(crate) refreshed: Vec<u32>,
    /// Peers that were named but not asked, and for which the table has room.
    pub(crate) candidates: Vec<Arc<Contact>>,
}

/// Identifies a published record. The place alone does not: a value and a provider record can share it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RecordId {
    pub(crate) place: Key,
    pub(crate) provider: bool,
}

impl RecordId {
    pub(crate) fn of(item: &Item) -> RecordId {
        RecordId { place: item.key().key(), provider: matches!(item, Item::Provider(_)) }
    }

    /// The place after which a scan of the store finds this record first.
    pub(crate) fn before(&self) -> Option<Key> {
        self.place.before()
    }
}
