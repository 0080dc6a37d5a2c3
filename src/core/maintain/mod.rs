//! What the node asks itself: who else belongs into the table, which parts of it went quiet, what is over, what has to
//! be told again.
//!
//! Knows: when each duty is due. Must not know: how a query runs; a duty only says that one is wanted.

mod budget;
mod check;
mod expire;
mod newcomers;
mod own_records;
mod probe;
mod provider_searches;
mod refresh;
mod snapshot;
mod sweep;
#[cfg(test)]
mod tests;
mod upkeep;

pub(crate) use check::Checks;
pub(crate) use expire::{EXPIRED_AT_ONCE, Expiry};
pub(crate) use newcomers::Newcomers;
pub(crate) use own_records::OwnRecords;
pub(crate) use probe::{Probes, Purpose};
pub(crate) use provider_searches::ProviderSearches;
pub(crate) use refresh::Refresh;
pub(crate) use snapshot::Snapshots;
pub(crate) use sweep::PAGE;
pub(crate) use upkeep::{Run, Upkeep};
