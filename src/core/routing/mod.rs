//! Who we know.
mod snapshot;
pub use snapshot::{BucketSnapshot, EntrySnapshot, RoutingSnapshot};
