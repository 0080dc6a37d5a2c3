//! What the node asks itself: who else belongs into the table, which parts of it went quiet, what is over.
//!
//! Knows: when each duty is due. Must not know: how a query runs; a duty only says that one is wanted.

mod expire;
mod probe;
mod refresh;
mod snapshot;

pub(crate) use expire::Expiry;
pub(crate) use probe::Probes;
pub(crate) use refresh::Refresh;
pub(crate) use snapshot::Snapshots;
