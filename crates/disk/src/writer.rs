//! The thread that writes: everything that waits becomes one transaction, and is reported once that is on the disk.
//!
//! Knows: groups, and what a failed one means. Must not know: what a write does to the tables.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use redb::StorageError;

use super::DiskStoreConfig;
use super::cache::Name;
use super::database::{Handle, Head, begin_write, missing};
use super::error::reason;
use super::group::{Group, Task};
use super::shared::{Pending, Shared};
use super::tables::Writable;
use libp2p_kad_dht::core::store::{Done, StoreError, Ticket};

/// So many writes share a transaction at most, so that the first of them does not wait for long.
const MAX_GROUP: usize = 256;

/// One write that waits.
#[derive(Debug)]
pub(super) struct Job {
    /// Under which it is reported; nobody waits for what the store does of itself.
    pub(super) ticket: Option<Ticket>,
    /// What it takes of the room for what is pending.
    pub(super) takes: Pending,
    pub(super) task: Task,
}

pub(super) struct Writer {
    pub(super) handle: Arc<Handle>,
    pub(super) config: DiskStoreConfig,
    pub(super) shared: Arc<Shared>,
    pub(super) jobs: Receiver<Job>,
    pub(super) head: Head,
}

struct Written {
    ends: Vec<Done>,
    changed: BTreeSet<Name>,
    head: Head,
}

impl Writer {
    /// Writes until the store is gone and nothing waits any more.
    pub(super) fn run(mut self) {
        while let Ok(first) = self.jobs.recv() {
            let mut group = vec![first];
            while group.len() < MAX_GROUP
                && let Ok(job) = self.jobs.try_recv()
            {
                group.push(job);
            }
            self.write(&group);
        }
    }

    fn write(&mut self, group: &[Job]) {
        let freed = group.iter().fold(Pending::default(), |sum, job| Pending {
            remote_writes: sum.remote_writes + job.takes.remote_writes,
            remote_bytes: sum.remote_bytes + job.takes.remote_bytes,
            own_writes: sum.own_writes + job.takes.own_writes,
            reads: 0,
        });
        let Writer { handle, config, shared, head, .. } = self;
        match handle.write(|database| commit(database, config, head, group)) {
            Ok(written) => {
                *head = written.head;
                let ended = group.iter().zip(written.ends).filter_map(|(job, end)| Some((job.ticket?, end))).collect();
                shared.wrote(ended, freed, head.kept(), Some(&written.changed));
            }
            // The others need not fail with the one that met what is damaged.
            Err(error) if group.len() > 1 && reason(&error) == StoreError::Damaged => {
                let (some, others) = group.split_at(group.len() / 2);
                self.write(some);
                self.write(others);
            }
            Err(error) => {
                tracing::error!(%error, writes = group.len(), "the store could not write");
                // What a commit that failed has left is known only to the database.
                *head = handle.head().unwrap_or(*head);
                let why = reason(&error);
                let ended = group.iter().filter_map(|job| Some((job.ticket?, Err(why)))).collect();
                shared.wrote(ended, freed, head.kept(), None);
            }
        }
    }
}

fn commit(
    database: &redb::Database,
    config: &DiskStoreConfig,
    head: &Head,
    jobs: &[Job],
) -> Result<Written, StorageError> {
    let transaction = begin_write(database)?;
    let mut group = Group::new(Writable::open(&transaction).map_err(missing)?, head.counts, config, head.seed);
    let ends = jobs.iter().map(|job| group.apply(&job.task)).collect::<Result<Vec<_>, _>>()?;
    let next_expiry = group.finish()?;
    let (counts, changed) = group.end();
    super::database::commit(transaction)?;
    Ok(Written { ends, changed, head: Head { counts, next_expiry, ..*head } })
}
