//! The way from the handles to the driver: one queue, bounded whatever the applications do.
//!
//! Knows: order, room and who waits for it. Must not know: what a command leads to.
//!
//! A channel of the futures crate would not do: each clone of its bounded sender owns one more place, so that a program
//! which starts a query, drops it and starts the next fills it without end. Here a command that was not taken yet is
//! withdrawn when its query is dropped, and one that was taken leaves at most one cancellation behind.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use super::slot::Writer;
use crate::core::{Contact, Mode, Operation, QueryOptions, RoutingSnapshot};

/// How many commands of all handles of a node may wait for the driver. A driver that is polled takes all of them at
/// once, so this is reached only by a program that asks faster than it polls.
pub const MAX_COMMANDS: usize = 256;

/// What a handle asks for.
#[derive(Debug)]
pub(super) enum Command {
    Start { operation: Operation, options: QueryOptions, writer: Writer },
    Read { what: Read, writer: Writer },
    AddPeer(Arc<Contact>),
    Restore(Box<RoutingSnapshot>),
    SetMode(Option<Mode>),
}

/// What can be read off a node at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Read {
    Routing,
    Queries,
    Stats,
    Local,
}

/// Names a command; the lower went in first.
pub(super) type Ticket = u64;

/// What the driver takes out.
#[derive(Debug)]
pub(super) enum Taken {
    /// Do this.
    Command(Ticket, Command),
    /// Nobody waits any more for the command of this name, which was taken before.
    Cancel(Ticket),
}

/// Why a command was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandleError {
    /// [`MAX_COMMANDS`] commands wait already; poll the driver and try again.
    #[error("too many commands wait for the node")]
    Busy,
    /// The node is gone.
    #[error("the node is gone")]
    Closed,
}

#[derive(Debug, Default)]
pub(super) struct Mailbox(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// At most [`MAX_COMMANDS`].
    queue: BTreeMap<Ticket, Command>,
    /// Commands that were taken and that nobody waits for: at most one for each query that runs.
    cancelled: BTreeSet<Ticket>,
    /// Who waits for room: at most one for each query that the application holds.
    waiting: BTreeMap<Ticket, Waker>,
    next: Ticket,
    driver: Option<Waker>,
    closed: bool,
}

impl Mailbox {
    /// Puts a command in, without waiting.
    pub(super) fn post(&self, command: Command) -> Result<(), HandleError> {
        let driver = {
            let mut inner = self.lock();
            if inner.closed {
                return Err(HandleError::Closed);
            }
            if inner.queue.len() >= MAX_COMMANDS {
                return Err(HandleError::Busy);
            }
            inner.push(command);
            inner.driver.take()
        };
        wake(driver);
        Ok(())
    }

    /// Puts `command` in as soon as there is room, and returns its name. `place` remembers who waits between calls.
    ///
    /// When the node is gone the command is dropped, which tells its reader.
    pub(super) fn poll_post(
        &self,
        cx: &mut Context<'_>,
        command: &mut Option<Command>,
        place: &mut Option<Ticket>,
    ) -> Poll<Result<Ticket, HandleError>> {
        let (ticket, driver) = {
            let mut inner = self.lock();
            if inner.closed {
                drop(inner);
                *command = None;
                return Poll::Ready(Err(HandleError::Closed));
            }
            if inner.queue.len() >= MAX_COMMANDS {
                let at = *place.get_or_insert_with(|| inner.next_ticket());
                inner.waiting.insert(at, cx.waker().clone());
                return Poll::Pending;
            }
            if let Some(at) = place.take() {
                inner.waiting.remove(&at);
            }
            let Some(command) = command.take() else { return Poll::Ready(Err(HandleError::Closed)) };
            (inner.push(command), inner.driver.take())
        };
        wake(driver);
        Poll::Ready(Ok(ticket))
    }

    /// Nobody waits for room under this name any more.
    pub(super) fn leave(&self, place: Ticket) {
        self.lock().waiting.remove(&place);
    }

    /// Nobody waits for the end of this command any more: it is taken back, or cancelled if it was taken.
    pub(super) fn withdraw(&self, ticket: Ticket) {
        let (withdrawn, driver) = {
            let mut inner = self.lock();
            let withdrawn = inner.queue.remove(&ticket);
            if withdrawn.is_none() && !inner.closed {
                inner.cancelled.insert(ticket);
            }
            (withdrawn, inner.driver.take())
        };
        drop(withdrawn);
        // Also for a withdrawn one: it left room for those who wait.
        wake(driver);
    }

    /// Takes the next command, in the order in which they came. Pending once all are taken.
    pub(super) fn poll_take(&self, cx: &mut Context<'_>) -> Poll<Taken> {
        let waiting = {
            let mut inner = self.lock();
            if let Some(ticket) = inner.cancelled.pop_first() {
                return Poll::Ready(Taken::Cancel(ticket));
            }
            if let Some((ticket, command)) = inner.queue.pop_first() {
                return Poll::Ready(Taken::Command(ticket, command));
            }
            inner.driver = Some(cx.waker().clone());
            std::mem::take(&mut inner.waiting)
        };
        // All of them, although not all may find room: one that was woken may never be polled again.
        waiting.into_values().for_each(Waker::wake);
        Poll::Pending
    }

    /// The node is gone: every command in here and every later one ends as closed.
    pub(super) fn close(&self) {
        let (queue, waiting) = {
            let mut inner = self.lock();
            inner.closed = true;
            inner.driver = None;
            inner.cancelled.clear();
            (std::mem::take(&mut inner.queue), std::mem::take(&mut inner.waiting))
        };
        drop(queue);
        waiting.into_values().for_each(Waker::wake);
    }

    /// A panic elsewhere leaves the mailbox whole: every change is a few assignments.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    fn sizes(&self) -> (usize, usize, usize) {
        let inner = self.lock();
        (inner.queue.len(), inner.cancelled.len(), inner.waiting.len())
    }
}

impl Inner {
    fn next_ticket(&mut self) -> Ticket {
        self.next += 1;
        self.next
    }

    fn push(&mut self, command: Command) -> Ticket {
        let ticket = self.next_ticket();
        self.queue.insert(ticket, command);
        ticket
    }
}

/// Called outside the lock: a waker may run anything, even the driver.
fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

#[cfg(test)]
mod tests;
