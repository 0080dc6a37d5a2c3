//! A store that keeps nothing.
//!
//! Knows: what each operation finds where nothing is. Must not know: anything else.

use super::{Done, Op, OpOutput, Store, StoreError, Ticket, Usage};
use crate::core::time::Timestamp;

/// Keeps nothing, so that records are off: for nodes that only find peers, or that read and publish without keeping.
///
/// Peers that would store here are refused, as by a full store, and find others. This node's own puts must not be
/// [kept](crate::core::QueryOptions::with_keep), and providing fails.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::exhaustive_structs, reason = "it has nothing to be told")]
pub struct NoStore;

impl Store for NoStore {
    fn run(&mut self, _: Timestamp, _: Ticket, op: Op) -> Option<Done> {
        Some(match op {
            Op::Get(_) => Ok(OpOutput::Value(None)),
            Op::Put(_) | Op::AddProvider(..) => Err(StoreError::Full),
            Op::Providers(_) => Ok(OpOutput::Providers(Vec::new())),
            Op::Scan { .. } => Ok(OpOutput::Items(Vec::new())),
            Op::SavedPeers => Ok(OpOutput::Peers(Vec::new())),
            Op::Expire { .. } => Ok(OpOutput::Expired(0)),
            Op::Touch(..) | Op::Remove(_) | Op::RemoveProvider(..) | Op::SavePeers(_) => Ok(OpOutput::Nothing),
        })
    }

    fn next_expiry(&self) -> Option<Timestamp> {
        None
    }

    fn usage(&self) -> Usage {
        Usage::default()
    }
}
