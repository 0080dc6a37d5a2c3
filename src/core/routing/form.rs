//! The form in which a routing table is written down: versioned, so that an application can keep it for years.
//!
//! Knows: [`RoutingSnapshot`]'s fields. Must not know: any format. Within a version fields are only ever added; one that
//! an older writer did not know is empty, one that a newer writer added is passed over.

use libp2p_identity::PeerId;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::snapshot::{BucketSnapshot, RoutingSnapshot};
use crate::core::text::{Version, peer};

/// The version that is written and read.
const VERSION: u32 = 1;

#[derive(Serialize)]
#[serde(rename = "RoutingSnapshot")]
struct Written<'a> {
    version: Version<VERSION>,
    #[serde(with = "peer")]
    local: PeerId,
    buckets: &'a [BucketSnapshot],
    estimated_nodes: u64,
}

#[derive(Deserialize)]
#[serde(rename = "RoutingSnapshot")]
struct Found {
    #[serde(rename = "version")]
    _version: Version<VERSION>,
    #[serde(with = "peer")]
    local: PeerId,
    buckets: Vec<BucketSnapshot>,
    #[serde(default)]
    estimated_nodes: u64,
}

impl Serialize for RoutingSnapshot {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let RoutingSnapshot { local, buckets, estimated_nodes } = self;
        Written { version: Version, local: *local, buckets, estimated_nodes: *estimated_nodes }.serialize(to)
    }
}

impl<'de> Deserialize<'de> for RoutingSnapshot {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<RoutingSnapshot, D::Error> {
        let Found { local, buckets, estimated_nodes, .. } = Found::deserialize(from)?;
        Ok(RoutingSnapshot { local, buckets, estimated_nodes })
    }
}
