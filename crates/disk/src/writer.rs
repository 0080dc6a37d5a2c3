//! The thread that writes: all waiting writes become one transaction, and are reported once it is durable.
//!
//! Knows: groups, and what a failed one means. Must not know: how a write changes the tables.

use std::collections::BTreeSet;
use std::sync::Arc;

use redb::StorageError;

use super::DiskStoreConfig;
use super::cache::Name;
use super::database::{Handle, Head, begin_write, missing};
use super::error::reason;
use super::group::Group;
use super::queue::{Job, Queue};
use super::shared::{Pending, Shared};
use super::tables::Writable;
use libp2p_kad_dht::core::Timestamp;
use libp2p_kad_dht::core::store::{Done, StoreError};

/// Maximum number of writes in one transaction, so that the first of them does not wait long.
const MAX_GROUP: usize = 256;

/// Maximum number of groups in a row that find no record to evict in a store above its bounds; after that, the writer
/// waits for the next write.
const MAX_FRUITLESS: usize = 16;

pub(super) struct Writer {
    pub(super) handle: Arc<Handle>,
    pub(super) config: DiskStoreConfig,
    pub(super) shared: Arc<Shared>,
    pub(super) queue: Arc<Queue>,
    pub(super) head: Head,
    /// The time of the last write; `None` before the first.
    pub(super) now: Option<Timestamp>,
}

struct Written {
    ends: Vec<Done>,
    /// Number of records that were evicted, or marked settled, since the store is above its bounds.
    gone: usize,
    changed: BTreeSet<Name>,
    head: Head,
}

impl Writer {
    /// Writes until the store is dropped and no write waits.
    pub(super) fn run(mut self) {
        let mut fruitless = 0;
        loop {
            // A store above its bounds shrinks step by step, between writes and while there are none.
            let shrinks = self.now.is_some() && self.config.is_exceeded(&self.head.counts) && fruitless < MAX_FRUITLESS;
            let Some(group) = self.queue.take(MAX_GROUP, !shrinks) else { return };
            self.now = group.iter().rev().find_map(|job| job.task.time()).or(self.now);
            let gone = self.write(&group);
            fruitless = if gone > 0 || !group.is_empty() { 0 } else { fruitless + 1 };
        }
    }

    /// Writes a group. Returns how many records were evicted or marked settled since the store is above its bounds.
    fn write(&mut self, group: &[Job]) -> usize {
        let freed = group.iter().fold(Pending::default(), |sum, job| Pending {
            remote_writes: sum.remote_writes + job.takes.remote_writes,
            remote_bytes: sum.remote_bytes + job.takes.remote_bytes,
            own_writes: sum.own_writes + job.takes.own_writes,
            reads: 0,
        });
        let Writer { handle, config, shared, head, now, .. } = self;
        match handle.write(|database| commit(database, config, head, *now, group)) {
            Ok(written) => {
                *head = written.head;
                let ended = group.iter().zip(written.ends).filter_map(|(job, end)| Some((job.ticket?, end))).collect();
                shared.wrote(ended, freed, head.kept(), Some(&written.changed));
                written.gone
            }
            // Only the write that meets the damage has to fail: split the group and try both halves.
            Err(error) if group.len() > 1 && reason(&error) == StoreError::Damaged => {
                let (some, others) = group.split_at(group.len() / 2);
                self.write(some) + self.write(others)
            }
            Err(error) => {
                tracing::error!(%error, writes = group.len(), "the store could not write");
                // Only the database knows what a failed commit has left.
                *head = handle.head().unwrap_or(*head);
                let why = reason(&error);
                let ended = group.iter().filter_map(|job| Some((job.ticket?, Err(why)))).collect();
                shared.wrote(ended, freed, head.kept(), None);
                0
            }
        }
    }
}

fn commit(
    database: &redb::Database,
    config: &DiskStoreConfig,
    head: &Head,
    now: Option<Timestamp>,
    jobs: &[Job],
) -> Result<Written, StorageError> {
    let transaction = begin_write(database)?;
    let mut group = Group::new(Writable::open(&transaction).map_err(missing)?, head.counts, config, head.seed);
    let ends = jobs.iter().map(|job| group.apply(&job.task)).collect::<Result<Vec<_>, _>>()?;
    let gone = now.map_or(Ok(0), |now| group.shrink(now))?;
    let expiry = group.finish()?;
    let (counts, changed) = group.end();
    super::database::commit(transaction)?;
    Ok(Written { ends, gone, changed, head: Head { counts, expiry, ..*head } })
}
