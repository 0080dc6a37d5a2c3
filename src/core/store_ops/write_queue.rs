//! PUTs of peers to one key: one is with the store, and one waits.
//!
//! Knows: which of two that wait goes before the other. Must not know: what is kept, or how the store judges.
//!
//! However many peers write to one key, the store works at one PUT of it at a time, and a better value is kept after
//! one more. Where the validator prefers neither, the peers of one IP group take turns with those of others.

use std::cmp::Ordering;

use super::Waiter;
use crate::core::store::{Put, Sender};

/// Maximum number of recent writers remembered for a key. Source: more groups than this writing to one key at once are
/// an attack.
const MAX_WRITERS: usize = 64;

#[derive(Debug)]
pub(super) struct WriteQueue {
    waiting: Option<(Waiter, Put)>,
    /// Recent writers, the latest last.
    writers: Vec<Writer>,
}

/// An IP group, or a peer where groups do not count.
type Writer = Result<u64, libp2p_identity::PeerId>;

fn writer(sender: &Sender) -> Writer {
    sender.group.ok_or(sender.peer)
}

impl WriteQueue {
    /// The store works at a PUT of this sender.
    pub(super) fn new(sender: &Sender) -> WriteQueue {
        WriteQueue { waiting: None, writers: vec![writer(sender)] }
    }

    pub(super) fn waits(&self) -> bool {
        self.waiting.is_some()
    }

    /// Queues a PUT if it goes before the queued one. Returns the waiter of the PUT that is left out.
    pub(super) fn offer(&mut self, waiter: Waiter, put: Put) -> Option<Waiter> {
        match &mut self.waiting {
            Some((_, waiting)) if !goes_before(&self.writers, &put, waiting) => Some(waiter),
            waiting => waiting.replace((waiter, put)).map(|(pushed_out, _)| pushed_out),
        }
    }

    /// Takes the queued PUT, to give it to the store.
    pub(super) fn take(&mut self) -> Option<(Waiter, Put)> {
        let (waiter, put) = self.waiting.take()?;
        if let Some(writer) = put.from.as_ref().map(writer) {
            self.writers.retain(|other| *other != writer);
            if self.writers.len() == MAX_WRITERS {
                let _ = self.writers.remove(0);
            }
            self.writers.push(writer);
        }
        Some((waiter, put))
    }
}

/// The better one by the validator goes first, among equals the one whose sender wrote least lately.
fn goes_before(writers: &[Writer], new: &Put, waiting: &Put) -> bool {
    let wrote = |put: &Put| {
        let writer = put.from.as_ref().map(writer);
        writers.iter().position(|other| Some(*other) == writer)
    };
    match new.judge.compare(&new.record, &waiting.record) {
        Ordering::Equal => wrote(new) < wrote(waiting),
        order => order.is_gt(),
    }
}
