//! How a routing table is serialized: with a version, so that an application can keep it for years.
//!
//! Knows: the fields of [`RoutingSnapshot`]. Must not know: any format. Within a version fields are only ever added:
//! one that an older writer did not know is empty, one that a newer writer added is ignored.

use libp2p_identity::PeerId;
use serde::{Deserialize, Serialize};

use super::snapshot::{BucketSnapshot, RoutingSnapshot};
use crate::core::text::{Version, peer};

/// A [`RoutingSnapshot`] after its version.
#[derive(Serialize, Deserialize)]
#[serde(rename = "RoutingSnapshot")]
pub(super) struct VersionedSnapshot {
    version: Version<1>,
    #[serde(with = "peer")]
    local: PeerId,
    buckets: Vec<BucketSnapshot>,
    #[serde(default)]
    estimated_nodes: u64,
}

impl From<RoutingSnapshot> for VersionedSnapshot {
    fn from(RoutingSnapshot { local, buckets, estimated_nodes }: RoutingSnapshot) -> VersionedSnapshot {
        VersionedSnapshot { version: Version, local, buckets, estimated_nodes }
    }
}

impl From<VersionedSnapshot> for RoutingSnapshot {
    fn from(VersionedSnapshot { local, buckets, estimated_nodes, .. }: VersionedSnapshot) -> RoutingSnapshot {
        RoutingSnapshot { local, buckets, estimated_nodes }
    }
}
