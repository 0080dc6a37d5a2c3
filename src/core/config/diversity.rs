//! How many peers of one operator are enough.
//!
//! Knows: numbers. Must not know: who counts. What an IP group is: IPv4 networks of 16 bits (of 8 bits for the few blocks
//! of one owner), IPv6 networks of 32 bits or autonomous systems; peers known by names alone are one group together;
//! loopback and memory addresses have none.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use super::{at_most, nonzero_times};
use crate::core::error::ConfigError;
use crate::core::ip_group::AsnTable;

/// Default for [`DiversityConfig::per_table`]. Source: IPFS specification, rule A22, 3.
pub const DEFAULT_PER_TABLE: NonZeroUsize = NonZeroUsize::new(3).unwrap();
/// Default for [`DiversityConfig::per_bucket`]. Source: IPFS specification, rule A22, 2.
pub const DEFAULT_PER_BUCKET: NonZeroUsize = NonZeroUsize::new(2).unwrap();
/// Default for [`DiversityConfig::per_answer`]. Source: as many as one table holds of it, rule A22.
pub const DEFAULT_PER_ANSWER: NonZeroUsize = NonZeroUsize::new(3).unwrap();
/// Default for [`DiversityConfig::newcomers`]. Source: a table of 10,000 nodes has about 200 entries; of those 5 % are the
/// first hops that an attacker who has just come may have.
pub const DEFAULT_NEWCOMERS: NonZeroUsize = NonZeroUsize::new(10).unwrap();
/// Default for [`DiversityConfig::newcomers_within`]: 24 h. Source: 97 % of the sessions in the IPFS network are shorter, so
/// that whoever waits for the others to go waits at least as long.
pub const DEFAULT_NEWCOMERS_WITHIN: Duration = Duration::from_secs(24 * 3600);
/// Default for [`DiversityConfig::settling`]: 1 h. Source: six refreshes, in which a node of a network of 10,000 asks
/// nearly everyone near it.
pub const DEFAULT_SETTLING: Duration = Duration::from_secs(3600);

/// Limits on how many places the peers of one operator get, and those of groups that have just appeared.
///
/// A peer counts for every group that any of its addresses is in, and for that of the address from which it dialled or at
/// which it was dialled, and is not taken in where one of them has enough already (rule A23). Nobody in the table is
/// expelled for it; an address that would make a group exceed its limit is not taken into an entry. What it never does:
/// choose among groups, or trust one.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DiversityConfig {
    /// Entries of one group in the table. Default: [`DEFAULT_PER_TABLE`].
    pub per_table: NonZeroUsize,
    /// Entries of one group in a bucket. Default: [`DEFAULT_PER_BUCKET`].
    pub per_bucket: NonZeroUsize,
    /// Peers of one group that are taken from one answer, the closest to the target. Default: [`DEFAULT_PER_ANSWER`].
    pub per_answer: NonZeroUsize,
    /// Entries in the table, together, of groups that were first seen within [`newcomers_within`] of each other, once the
    /// table has settled. In a bucket they have a quarter of `bucket_size`, at least one. Default: [`DEFAULT_NEWCOMERS`].
    ///
    /// [`newcomers_within`]: DiversityConfig::newcomers_within
    pub newcomers: NonZeroUsize,
    /// Groups that were first seen within this time of each other are newcomers together.
    /// Default: [`DEFAULT_NEWCOMERS_WITHIN`].
    pub newcomers_within: Duration,
    /// A table is settled this long after it first held `bucket_size` entries: all groups of which someone answered until
    /// then are old. It begins anew when fewer than half of that are left. Default: [`DEFAULT_SETTLING`].
    pub settling: Duration,
    /// To which autonomous system an IPv6 address belongs. Default: none, 32 bits are a group.
    pub asns: Option<Arc<AsnTable>>,
}

impl Default for DiversityConfig {
    /// As the public network has it.
    fn default() -> DiversityConfig {
        DiversityConfig {
            per_table: DEFAULT_PER_TABLE,
            per_bucket: DEFAULT_PER_BUCKET,
            per_answer: DEFAULT_PER_ANSWER,
            newcomers: DEFAULT_NEWCOMERS,
            newcomers_within: DEFAULT_NEWCOMERS_WITHIN,
            settling: DEFAULT_SETTLING,
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
