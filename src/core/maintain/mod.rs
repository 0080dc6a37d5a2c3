//! The work that a node does of its own accord: it probes candidates and entries of the routing table, refreshes its
//! buckets, saves its peers, removes expired records, and announces records again.
//!
//! Knows: when each duty is due. Must not know: how a query runs; a duty only says that one is wanted.

mod budget;
mod expire;
mod newcomers;
mod own_records;
mod probes;
mod provider_searches;
mod refresh;
mod snapshot;
mod sweep;
#[cfg(test)]
mod tests;
mod upkeep;

pub(crate) use expire::{EXPIRED_AT_ONCE, Expiry};
pub(crate) use newcomers::Newcomers;
pub(crate) use own_records::OwnRecords;
pub(crate) use probes::{Probes, Purpose};
pub(crate) use provider_searches::ProviderSearches;
pub(crate) use refresh::Refresh;
pub(crate) use snapshot::Snapshots;
pub(crate) use sweep::PAGE;
pub(crate) use upkeep::{Run, Upkeep};
