//! The channels between the handles and the driver: commands go one way, the result of each call goes back.
//!
//! Knows: order, bounds and cancellation. Must not know: what a command leads to.
//!
//! All handles of a node share the places of one bounded channel (`async-channel`; with the channels of the `futures`
//! crate, each sender would add one more place). A call that is dropped closes the channel of its result, so that a
//! command which still waits is skipped, and leaves its number on a second channel, so that a query which already runs
//! is cancelled at once.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use async_channel::{Receiver, Sender, TrySendError};
use futures::StreamExt as _;
use futures::channel::oneshot;

use crate::core::{
    Answer, Contact, Dht, Mode, Operation, PeerRecord, Progress, QueryError, QueryEvent, QueryOptions, Record,
    RoutingSnapshot,
};

/// Maximum number of commands that wait for the driver, from all handles of a node. A driver that is polled takes all
/// of them at once, so only a program that asks faster than it polls reaches this. The command of a query that was
/// dropped keeps its place until then.
pub const MAX_COMMANDS: usize = 256;

/// A request of a handle.
pub(super) enum Command {
    Start(CallId, Box<NewQuery>, oneshot::Sender<Result<Answer, QueryError>>),
    Inspect(Box<dyn FnOnce(&Dht) + Send>),
    AddPeer(Arc<Contact>),
    Restore(Box<RoutingSnapshot>),
    SetMode(Option<Mode>),
}

/// A query that is to be started.
#[derive(Debug)]
pub(super) struct NewQuery {
    pub(super) operation: Operation,
    pub(super) options: QueryOptions,
    pub(super) reports: Reports,
}

/// The number of a call; no two calls of a node share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct CallId(u64);

/// The channels that bring the events of a query to the application; an event without a channel is dropped.
#[derive(Debug, Default)]
pub(super) struct Reports {
    pub(super) steps: Option<Sender<Progress>>,
    /// The number of steps that were dropped, since `steps` was full.
    pub(super) missed: Arc<AtomicU64>,
    /// Holds one value, which a better one replaces.
    pub(super) values: Option<Sender<Record>>,
    /// Without a bound of its own: the core reports each provider at most twice, and no more of them than the limit.
    pub(super) providers: Option<Sender<PeerRecord>>,
}

impl Reports {
    /// Passes an event on. This fails if the application dropped its end, which needs no action.
    pub(super) fn send(&self, event: QueryEvent) {
        match event {
            QueryEvent::Progress(step) => {
                if let Some(steps) = &self.steps
                    && let Ok(Some(_oldest)) = steps.force_send(step)
                {
                    self.missed.fetch_add(1, Ordering::Relaxed);
                }
            }
            QueryEvent::Value(value) => {
                if let Some(values) = &self.values {
                    _ = values.force_send(value);
                }
            }
            QueryEvent::Provider(provider) => {
                if let Some(providers) = &self.providers {
                    _ = providers.try_send(provider);
                }
            }
            QueryEvent::Finished(_) => {}
        }
    }
}

/// The reason why a command was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandleError {
    /// [`MAX_COMMANDS`] commands wait already. Poll the driver and send it again.
    #[error("too many commands wait for the node: poll its driver, then send this one again")]
    Busy,
    /// The node was dropped.
    #[error("the node is gone")]
    Closed,
}

/// The handles' end.
#[derive(Clone, Debug)]
pub(super) struct CommandSender {
    commands: Sender<Command>,
    /// Calls that were dropped after their command was sent: at most one for each command that waits and each query
    /// that runs.
    cancelled: Sender<CallId>,
    next: Arc<AtomicU64>,
}

/// The driver's end.
#[derive(Debug)]
pub(super) struct CommandReceiver {
    commands: Pin<Box<Receiver<Command>>>,
    cancelled: Pin<Box<Receiver<CallId>>>,
}

pub(super) fn channel() -> (CommandSender, CommandReceiver) {
    let (commands, received) = async_channel::bounded(MAX_COMMANDS);
    let (cancelled, dropped) = async_channel::unbounded();
    let sender = CommandSender { commands, cancelled, next: Arc::default() };
    (sender, CommandReceiver { commands: Box::pin(received), cancelled: Box::pin(dropped) })
}

impl CommandSender {
    /// Sends a command; fails if no place is free.
    pub(super) fn try_send(&self, command: Command) -> Result<(), HandleError> {
        self.commands.try_send(command).map_err(|why| match why {
            TrySendError::Full(_) => HandleError::Busy,
            TrySendError::Closed(_) => HandleError::Closed,
        })
    }

    /// Runs a query from its start to its end, and cancels it when the future is dropped.
    pub(super) async fn query(self, start: Box<NewQuery>) -> Result<Answer, QueryError> {
        let call = CallId(self.next.fetch_add(1, Ordering::Relaxed));
        let (end, ended) = oneshot::channel();
        self.send(Command::Start(call, start, end)).await?;
        // When this future is dropped while it waits below, `ended` is dropped before `guard`. A driver that takes the
        // command after that sees that its result is not wanted; one that took it before finds the cancellation. There
        // is no moment at which it could miss both.
        let mut guard = CancelOnDrop(Some((call, self.cancelled)));
        let result = ended.await;
        guard.0 = None;
        result.unwrap_or(Err(QueryError::Closed))
    }

    /// Runs a function on the node, and returns its result.
    pub(super) async fn inspect<T: Send + 'static>(
        self,
        read: impl FnOnce(&Dht) -> T + Send + 'static,
    ) -> Result<T, QueryError> {
        let (end, ended) = oneshot::channel();
        self.send(Command::Inspect(Box::new(move |dht| drop(end.send(read(dht)))))).await?;
        ended.await.map_err(|_| QueryError::Closed)
    }

    async fn send(&self, command: Command) -> Result<(), QueryError> {
        self.commands.send(command).await.map_err(|_| QueryError::Closed)
    }
}

impl CommandReceiver {
    /// The next command, in the order in which they were sent.
    pub(super) fn poll_command(&mut self, cx: &mut Context<'_>) -> Poll<Option<Command>> {
        self.commands.poll_next_unpin(cx)
    }

    /// The next call that was dropped; it may have ended, or its command may still wait.
    pub(super) fn poll_cancelled(&mut self, cx: &mut Context<'_>) -> Poll<Option<CallId>> {
        self.cancelled.poll_next_unpin(cx)
    }
}

struct CancelOnDrop(Option<(CallId, Sender<CallId>)>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        if let Some((call, cancelled)) = self.0.take() {
            _ = cancelled.try_send(call); // fails if the node was dropped, and then there is nothing to cancel
        }
    }
}

/// The handles keep the channel alive, so the commands that wait in it are dropped here, which ends their calls.
impl Drop for CommandReceiver {
    fn drop(&mut self) {
        self.commands.close();
        while self.commands.try_recv().is_ok() {}
    }
}

#[cfg(test)]
mod tests;
