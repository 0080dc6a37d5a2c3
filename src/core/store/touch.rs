//! What [`Op::Touch`](super::Op::Touch) notes on a record, the same in every store.
//!
//! Knows: the times of a record. Must not know: how a store keeps it. A touch changes only what is kept as it was read: it
//! never brings back what is gone meanwhile, and never marks another value.

use std::time::Duration;

use crate::core::record::{ProviderRecord, Record};
use crate::core::time::Timestamp;

/// What is said to have come so much later than it was noticed that nothing came came when the host's clock was ahead.
/// Source: longer than any run of upkeep.
const FUTURE: Duration = Duration::from_secs(3_600);

/// Notes on the value `kept` that `read`, an earlier copy of it, was announced or stored again at this time. Returns whether
/// it is the same value and was changed.
pub fn touch_value(kept: &mut Record, read: &Record, at: Timestamp) -> bool {
    if kept.own != read.own || kept.value != read.value {
        return false;
    }
    if kept.own {
        announce(&mut kept.announced, at)
    } else {
        // A store that came meanwhile counts, unless it came in the future.
        let touched = at > kept.received || kept.received > at + FUTURE;
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
