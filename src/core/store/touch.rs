//! What [`Op::Touch`](super::Op::Touch) notes on a record, the same in every store.
//!
//! Knows: the times of a record. Must not know: how a store keeps it. A touch changes only what is kept as it was read: it
//! never brings back what is gone meanwhile, and never marks another value.

use crate::core::record::{AHEAD, ProviderRecord, Record};
use crate::core::time::Timestamp;

/// Notes on the value `kept` that `read`, an earlier copy of it, was announced or stored again at this time. Returns whether
/// it is the same value and was changed.
pub fn touch_value(kept: &mut Record, read: &Record, at: Timestamp) -> bool {
    if kept.own != read.own || kept.value != read.value {
        return false;
    }
    let ahead = kept.put.is_some_and(|put| put > at + AHEAD);
    if ahead {
        kept.put = Some(at);
    }
    ahead
        | if kept.own {
            announce(&mut kept.announced, at)
        } else {
            // A store that came meanwhile counts, unless it came in the future.
            let touched = at > kept.received || kept.received > at + AHEAD;
            kept.received = if touched { at } else { kept.received };
            touched
        }
}

/// Notes on the provider record `kept` that `read`, an earlier copy of it, was announced at this time. Returns whether it is
/// the same record, this node's own, and was changed.
pub fn touch_provider(kept: &mut ProviderRecord, read: &ProviderRecord, at: Timestamp) -> bool {
    kept.own && kept.provider.peer() == read.provider.peer() && announce(&mut kept.announced, at)
}

/// A later time that is noted already is one of the future: the host's clock was ahead.
fn announce(noted: &mut Option<Timestamp>, at: Timestamp) -> bool {
    noted.replace(at) != Some(at)
}
