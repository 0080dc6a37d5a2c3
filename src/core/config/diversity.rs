//! Limits on how many places the peers of one operator get.
//!
//! Knows: numbers. Must not know: how groups are counted. An IP group is an IPv4 network of 16 bits (of 8 bits for the
//! few blocks with one owner), an IPv6 network of 32 bits, or an autonomous system. Peers known only by DNS names are
//! one group together; loopback and memory addresses have none.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use super::{at_most, nonzero_times};
use crate::core::error::ConfigError;
use crate::core::ip_group::AsnTable;

/// Limits on how many places the peers of one IP group get, and those of groups that have just appeared.
///
/// A peer counts for the group of each of its addresses, and for that of the address from which it dialled or at which
/// it was dialled. It is not taken in where one of these groups has reached its limit (rule A23). No entry is removed
/// for it; an address that would make a group exceed its limit is left out of the entry.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DiversityConfig {
    /// Maximum entries of one group in the table. Default: [`DEFAULT_PER_TABLE`](Self::DEFAULT_PER_TABLE).
    pub per_table: NonZeroUsize,
    /// Maximum entries of one group in a bucket. At most `per_table`. Default:
    /// [`DEFAULT_PER_BUCKET`](Self::DEFAULT_PER_BUCKET).
    pub per_bucket: NonZeroUsize,
    /// Maximum peers of one group that are taken from one answer, the closest to the target. Default:
    /// [`DEFAULT_PER_ANSWER`](Self::DEFAULT_PER_ANSWER).
    pub per_answer: NonZeroUsize,
    /// Maximum entries in the table, together, of groups that were first seen within `newcomers_within` of each other,
    /// once the table has settled. In a bucket they have a quarter of `bucket_size`, at least one. Default:
    /// [`DEFAULT_NEWCOMERS`](Self::DEFAULT_NEWCOMERS).
    pub newcomers: NonZeroUsize,
    /// Groups that were first seen within this time of each other count together as newcomers. Default:
    /// [`DEFAULT_NEWCOMERS_WITHIN`](Self::DEFAULT_NEWCOMERS_WITHIN).
    pub newcomers_within: Duration,
    /// A table is settled this long after it first held `bucket_size` entries: every group of which a peer answered
    /// until then is old. Settling starts again when fewer than half as many entries are left. Default:
    /// [`DEFAULT_SETTLING`](Self::DEFAULT_SETTLING).
    pub settling: Duration,
    /// The autonomous system that each IPv6 address belongs to. Default: none, and 32 bits are a group.
    pub asns: Option<Arc<AsnTable>>,
}

impl DiversityConfig {
    /// Default for [`DiversityConfig::per_table`]. Source: IPFS specification, rule A22, 3.
    pub const DEFAULT_PER_TABLE: NonZeroUsize = NonZeroUsize::new(3).unwrap();
    /// Default for [`DiversityConfig::per_bucket`]. Source: IPFS specification, rule A22, 2.
    pub const DEFAULT_PER_BUCKET: NonZeroUsize = NonZeroUsize::new(2).unwrap();
    /// Default for [`DiversityConfig::per_answer`]. Source: as many as one table holds of a group, rule A22.
    pub const DEFAULT_PER_ANSWER: NonZeroUsize = NonZeroUsize::new(3).unwrap();
    /// Default for [`DiversityConfig::newcomers`]. Source: a table of 10,000 nodes has about 200 entries; 5 % of those
    /// are the first hops that an attacker who has just come may have.
    pub const DEFAULT_NEWCOMERS: NonZeroUsize = NonZeroUsize::new(10).unwrap();
    /// Default for [`DiversityConfig::newcomers_within`]: 24 h. Source: 97 % of the sessions in the IPFS network are
    /// shorter, so that an attacker who waits for the others to leave waits at least as long.
    pub const DEFAULT_NEWCOMERS_WITHIN: Duration = Duration::from_secs(24 * 3600);
    /// Default for [`DiversityConfig::settling`]: 1 h. Source: six refreshes, in which a node of a network of 10,000
    /// asks nearly every peer near it.
    pub const DEFAULT_SETTLING: Duration = Duration::from_secs(3600);
}

impl Default for DiversityConfig {
    /// The limits of the public network.
    fn default() -> DiversityConfig {
        DiversityConfig {
            per_table: Self::DEFAULT_PER_TABLE,
            per_bucket: Self::DEFAULT_PER_BUCKET,
            per_answer: Self::DEFAULT_PER_ANSWER,
            newcomers: Self::DEFAULT_NEWCOMERS,
            newcomers_within: Self::DEFAULT_NEWCOMERS_WITHIN,
            settling: Self::DEFAULT_SETTLING,
            asns: None,
        }
    }
}

impl DiversityConfig {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let bucket = ("routing.diversity.per_bucket", self.per_bucket);
        at_most(bucket, ("routing.diversity.per_table", self.per_table))?;
        nonzero_times([("routing.diversity.newcomers_within", self.newcomers_within)])
    }
}
