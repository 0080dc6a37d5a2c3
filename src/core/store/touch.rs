//! The effect of [`Op::Touch`](super::Op::Touch) on a record, the same in every store.
//!
//! Knows: the times of a record. Must not know: how a store keeps it. A touch changes a record only if it is still the
//! one that was read: it never restores a removed record, and never changes another value.

use crate::core::record::{AHEAD, ProviderRecord, Record};
use crate::core::time::Timestamp;

/// Notes on the value `kept` that `read`, an earlier copy of it, was announced or stored again at this time. Returns
/// whether it is the same value and was changed.
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
            // A PUT that arrived meanwhile counts, unless it is dated in the future.
            let touched = at > kept.received || kept.received > at + AHEAD;
            kept.received = if touched { at } else { kept.received };
            touched
        }
}

/// Notes on the provider record `kept` that `read`, an earlier copy of it, was announced at this time. Returns whether
/// it is the same record, this node's own, and was changed.
pub fn touch_provider(kept: &mut ProviderRecord, read: &ProviderRecord, at: Timestamp) -> bool {
    kept.own && kept.provider.peer() == read.provider.peer() && announce(&mut kept.announced, at)
}

/// Replaces even a later time: that was noted while the host's clock was ahead.
fn announce(noted: &mut Option<Timestamp>, at: Timestamp) -> bool {
    noted.replace(at) != Some(at)
}
