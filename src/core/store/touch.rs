//! What [`Op::Touch`](super::Op::Touch) notes on a record, the same in every store.
//!
//! Knows: the times of a record. Must not know: how a store keeps it. A touch changes only what is kept as it was read: it
//! never brings back what is gone meanwhile, and never marks another value.

use crate::core::record::{ProviderRecord, Record};
use crate::core::time::Timestamp;

/// Notes on the value `kept` that `read`, an earlier copy of it, was announced or stored again at this time. Returns whether
/// it is the same value and was changed.
pub fn touch_value(kept: &mut Record, read: &Record, at: Timestamp) -> bool {
    if kept.own != read.own || kept.value != read.value {
        return false;
    }
    if kept.own {
        later(&mut kept.announced, at)
    } else {
        let touched = at > kept.received;
        kept.received = kept.received.max(at);
        touched
    }
}

/// Notes on the provider record `kept` that `read`, an earlier copy of it, was announced at this time. Returns whether it is
/// the same record, this node's own, and was changed.
pub fn touch_provider(kept: &mut ProviderRecord, read: &ProviderRecord, at: Timestamp) -> bool {
    kept.own && kept.provider.peer() == read.provider.peer() && later(&mut kept.announced, at)
}

fn later(noted: &mut Option<Timestamp>, at: Timestamp) -> bool {
    let touched = *noted < Some(at);
    *noted = (*noted).max(Some(at));
    touched
}
