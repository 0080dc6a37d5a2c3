//! What maintenance wants brought to whom or looked into, and what came of it: data on its way from a duty to a query and
//! back.
//!
//! Knows: records, peers and parts of the keyspace. Must not know: when an errand is due, or how it is run.

use std::sync::Arc;

use super::contact::Contact;
use super::key::Key;
use super::record::Record;
use super::store::Item;

/// One item to be brought to some peers.
#[derive(Debug)]
pub(crate) struct Errand {
    pub(crate) item: Item,
    pub(crate) to: To,
}

/// To whom.
#[derive(Debug)]
pub(crate) enum To {
    /// The k closest.
    Closest,
    /// Those of the k closest that are not among these, told apart by the first 64 bits of their keys.
    NewOfClosest(Box<[u64]>),
    /// Those of the k closest that lack it, though it was announced: this node has forgotten who has it. Who that is shows
    /// a sample; where it shows that most are gone, all of the k closest.
    WhoeverLacksIt,
    /// These very ones.
    Peers(Vec<Arc<Contact>>),
}

/// How an errand ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) item: Item,
    /// Whether it was to go to all of the k closest.
    pub(crate) to_all: bool,
    /// Who was reached, and who is taken to have it anyway, by the first 64 bits of their keys.
    pub(crate) reached: Vec<u64>,
    /// Who the k closest are; `None` if that was not found out.
    pub(crate) closest: Option<Vec<u64>>,
    /// A value that others hold and that supersedes this one of the node's own.
    pub(crate) newer: Option<Record>,
}

/// A part of the keyspace, seen from this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Aim {
    /// The nearest, around the node itself.
    Own,
    /// What shares exactly so many leading bits with the node.
    Part(u32),
}

/// What a join or a refresh looked into.
#[derive(Clone, Debug, Default)]
pub(crate) struct Explored {
    /// How many parts lie farther away than the closest neighbour; `None` while that was not found out.
    pub(crate) parts: Option<u32>,
    /// Whether fewer than k answered: they are the whole network, and all parts were looked into.
    pub(crate) everyone: bool,
    /// Whom the lookup towards the node itself found: a number that differs if they do.
    pub(crate) found: u64,
    /// The parts in which someone answered.
    pub(crate) looked_into: Vec<u32>,
    /// Peers that were heard of and not asked, and for whom the table has room.
    pub(crate) candidates: Vec<Arc<Contact>>,
}

/// What is published, by its place and kind: at one place there can be a value and a provider record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Name {
    pub(crate) place: Key,
    pub(crate) provider: bool,
}

impl Name {
    pub(crate) fn of(item: &Item) -> Name {
        Name { place: item.key().key(), provider: matches!(item, Item::Provider(_)) }
    }

    /// The place after which a scan finds it first.
    pub(crate) fn before(&self) -> Option<Key> {
        self.place.before()
    }
}
