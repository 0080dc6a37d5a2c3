//! Writes counters by name, so that their places in an array can change.
//!
//! Knows: names and numbers. Must not know: what is counted.

use std::collections::BTreeMap;

use serde::de::{Deserialize as _, Deserializer};
use serde::ser::Serializer;

/// A module for `#[serde(with = …)]` on an array whose places have these names.
macro_rules! named {
    ($(#[$doc:meta])* $module:ident, $names:expr) => {
        $(#[$doc])*
        pub(super) mod $module {
            pub(in crate::core::stats) fn serialize<S: serde::Serializer, const N: usize>(
                counts: &[u64; N],
                serializer: S,
            ) -> Result<S::Ok, S::Error> {
                super::write($names, counts, serializer)
            }

            pub(in crate::core::stats) fn deserialize<'de, D: serde::Deserializer<'de>, const N: usize>(
                deserializer: D,
            ) -> Result<[u64; N], D::Error> {
                super::read($names, deserializer)
            }
        }
    };
}

named!(
    /// By the kind of a request.
    kinds,
    crate::core::message::Kind::ALL.map(|kind| kind.name())
);
named!(
    /// By the reason why a request failed.
    reasons,
    crate::core::message::RequestError::REASONS
);
named!(
    /// By the reason why a dial failed.
    dials,
    crate::core::stats::DIAL_FAILURES
);

fn write<S: Serializer, const N: usize>(
    names: impl IntoIterator<Item = &'static str>,
    counts: &[u64; N],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(names.into_iter().zip(counts))
}

/// A counter that is not there is 0, and an unknown one is ignored.
fn read<'de, D: Deserializer<'de>, const N: usize>(
    names: impl IntoIterator<Item = &'static str>,
    deserializer: D,
) -> Result<[u64; N], D::Error> {
    let named = BTreeMap::<String, u64>::deserialize(deserializer)?;
    let mut counts = [0; N];
    for (count, name) in counts.iter_mut().zip(names) {
        *count = named.get(name).copied().unwrap_or_default();
    }
    Ok(counts)
}
