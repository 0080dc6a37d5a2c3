//! The channels between the handles and the driver: commands go one way, the result of each call goes back.
//!
//! Knows: order, bounds and cancellation. Must not know: what a command leads to.
//!
//! All handles of a node share the places of one bounded channel (`async-channel`; with the channels of the `futures`
//! crate, each sender would add one more place). The command of a query is only a number there: the query itself lies
//! in [`Calls`], from where a call that is dropped takes it back. If the driver has taken it before, the call leaves
//! its number in a set there, and the query is cancelled.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use async_channel::{Receiver, Sender, TrySendError};
use event_listener::Event;
use futures::StreamExt as _;
use futures::channel::oneshot;
use futures::task::AtomicWaker;

use super::events::{self, EventSender, Events};
use super::offers::{self, OfferSender, Offers, VerdictConfig};
use crate::core::stats::DriverStats;
use crate::core::{
    Answer, Contact, Dht, Mode, Operation, PeerRecord, Progress, QueryError, QueryEvent, QueryOptions, Record,
    RoutingSnapshot, Timestamp,
};

/// Maximum number of commands that wait for the driver, from all handles of a node. A driver that is polled takes all
/// of them at once, so only a program that asks faster than it polls reaches this. A query that is dropped before the
/// driver takes it frees its key and value at once, and its place when the driver is polled next.
pub const MAX_COMMANDS: usize = 256;

type Look = Box<dyn FnOnce(&Dht) + Send + Sync>;
type Change = Box<dyn FnOnce(&mut Dht, Timestamp) + Send + Sync>;

/// Where a driver sends its counters.
#[derive(Clone, Debug)]
pub struct StatsReply(Sender<DriverStats>);

impl StatsReply {
    /// Answers the call of the handle; without an answer it ends as [`QueryError::Closed`]. Does nothing if the call was
    /// dropped. For an example see [`Commands`](super::Commands).
    pub fn send(self, stats: DriverStats) {
        _ = self.0.try_send(stats);
    }
}

/// A request of a handle.
pub(super) enum Command {
    /// Start the query of this call, unless it was dropped.
    Start(CallId),
    Inspect(Look),
    /// Change what the node knows of peers.
    Change(Change),
    AddPeer(Arc<Contact>),
    Restore(Box<RoutingSnapshot>),
    SetMode(Option<Mode>),
    /// Send the events of the node there from now on.
    Listen(EventSender),
    /// Ask there before a record of a peer is kept.
    Ask(OfferSender),
    /// Tell the driver's counters.
    DriverStats(StatsReply),
    /// Say when the routing table holds a peer.
    Ready(oneshot::Sender<()>),
}

/// Where the result of a query goes.
pub(super) type ResultSender = oneshot::Sender<Result<Answer, QueryError>>;

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

/// The queries that the driver has not taken yet, and the calls whose queries it has to cancel.
#[derive(Debug, Default)]
struct Calls {
    next: u64,
    /// At most one for each query that the application holds.
    waiting: BTreeMap<CallId, (Box<NewQuery>, ResultSender)>,
    /// Calls that were dropped after the driver took them and before they ended: at most one for each query that ran
    /// when the driver was last polled, which are no more than
    /// [`LimitConfig::queries`](crate::core::config::LimitConfig::queries).
    cancelled: BTreeSet<CallId>,
}

/// What the handles and the driver share beside the channel.
#[derive(Debug, Default)]
struct Shared {
    calls: Mutex<Calls>,
    /// Notified when the driver has taken what it takes at once.
    places: Event,
    driver: AtomicWaker,
}

impl Shared {
    /// A panic elsewhere leaves the calls whole: every change is a few assignments.
    fn calls(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The handles' end.
#[derive(Clone, Debug)]
pub(super) struct CommandSender {
    commands: Sender<Command>,
    shared: Arc<Shared>,
}

/// The driver's end.
#[derive(Debug)]
pub(super) struct CommandReceiver {
    commands: Pin<Box<Receiver<Command>>>,
    shared: Arc<Shared>,
}

pub(super) fn channel() -> (CommandSender, CommandReceiver) {
    let (commands, received) = async_channel::bounded(MAX_COMMANDS);
    let sender = CommandSender { commands, shared: Arc::default() };
    let shared = Arc::clone(&sender.shared);
    (sender, CommandReceiver { commands: Box::pin(received), shared })
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
        let (end, ended) = oneshot::channel();
        let call = self.shared.calls().add(start, end);
        let mut call = Call { call, ended, shared: Arc::clone(&self.shared) };
        self.send(Command::Start(call.call)).await?;
        (&mut call.ended).await.unwrap_or(Err(QueryError::Closed))
    }

    /// Looks at the node, unless the future is dropped before the driver takes the command.
    pub(super) async fn inspect<T: Send + 'static>(
        self,
        read: impl FnOnce(&Dht) -> T + Send + Sync + 'static,
    ) -> Result<T, QueryError> {
        let (end, ended) = oneshot::channel();
        let look = move |dht: &Dht| {
            if !end.is_canceled() {
                drop(end.send(read(dht)));
            }
        };
        self.send(Command::Inspect(Box::new(look))).await?;
        ended.await.map_err(|_| QueryError::Closed)
    }

    /// The driver's counters.
    pub(super) async fn driver_stats(self) -> Result<DriverStats, QueryError> {
        let (reply, stats) = async_channel::bounded(1);
        self.send(Command::DriverStats(StatsReply(reply))).await?;
        stats.recv().await.map_err(|_| QueryError::Closed)
    }

    /// The events of the node from the moment on at which the driver takes the command.
    pub(super) async fn listen(self) -> Result<Events, QueryError> {
        let (sender, events) = events::channel();
        self.send(Command::Listen(sender)).await?;
        Ok(events)
    }

    /// The records that peers bring from the moment on at which the driver takes the command.
    pub(super) async fn offers(self, config: VerdictConfig) -> Result<Offers, QueryError> {
        let (sender, offers) = offers::channel(config);
        self.send(Command::Ask(sender)).await?;
        Ok(offers)
    }

    /// Waits until the routing table holds a peer.
    pub(super) async fn ready(self) -> Result<(), QueryError> {
        let (end, ended) = oneshot::channel();
        self.send(Command::Ready(end)).await?;
        ended.await.map_err(|_| QueryError::Closed)
    }

    /// Sends a command as soon as there is a place.
    async fn send(&self, mut command: Command) -> Result<(), QueryError> {
        loop {
            // It listens before it tries, and so misses no place that becomes free after the attempt. The channel's own
            // `send` wakes one waiter for each place: one that is not polled any more would keep it from the others.
            let places = self.shared.places.listen();
            match self.commands.try_send(command) {
                Ok(()) => return Ok(()),
                Err(TrySendError::Closed(_)) => return Err(QueryError::Closed),
                Err(TrySendError::Full(unsent)) => command = unsent,
            }
            places.await;
        }
    }
}

impl Calls {
    fn add(&mut self, start: Box<NewQuery>, end: ResultSender) -> CallId {
        let call = CallId(self.next);
        self.next += 1;
        self.waiting.insert(call, (start, end));
        call
    }
}

impl CommandReceiver {
    /// The next command, in the order in which they were sent. If there is none, the calls that wait for a place are
    /// woken.
    pub(super) fn poll_command(&mut self, cx: &mut Context<'_>) -> Poll<Option<Command>> {
        let next = self.commands.poll_next_unpin(cx);
        if next.is_pending() {
            self.offer_places();
        }
        next
    }

    /// Wakes all calls that wait for a place: some will find none, but those that are not polled any more take none.
    pub(super) fn offer_places(&self) {
        self.shared.places.notify(usize::MAX);
    }

    /// What a call starts; `None` if it was dropped.
    pub(super) fn take(&mut self, call: CallId) -> Option<(Box<NewQuery>, ResultSender)> {
        self.shared.calls().waiting.remove(&call)
    }

    /// The next call that was dropped after it was taken. It may have ended since.
    pub(super) fn poll_cancelled(&mut self, cx: &mut Context<'_>) -> Poll<CallId> {
        self.shared.driver.register(cx.waker());
        match self.shared.calls().cancelled.pop_first() {
            Some(call) => Poll::Ready(call),
            None => Poll::Pending,
        }
    }
}

/// A query of a handle from its first poll on.
struct Call {
    call: CallId,
    ended: oneshot::Receiver<Result<Answer, QueryError>>,
    shared: Arc<Shared>,
}

impl Drop for Call {
    fn drop(&mut self) {
        let mut calls = self.shared.calls();
        let untaken = calls.waiting.remove(&self.call);
        // Read under the lock: a query that ended before the driver last emptied the set never enters it.
        let result = self.ended.try_recv();
        let runs = untaken.is_none() && matches!(result, Ok(None));
        if runs {
            calls.cancelled.insert(self.call);
        }
        drop(calls);
        // The lock is free again: a waker may run anything, even the driver.
        if runs {
            self.shared.driver.wake();
        }
    }
}

/// The handles keep the channel alive, so the commands that wait in it are dropped here, which ends their calls.
impl Drop for CommandReceiver {
    fn drop(&mut self) {
        self.commands.close();
        while self.commands.try_recv().is_ok() {}
        let waiting = std::mem::take(&mut self.shared.calls().waiting);
        drop(waiting);
        self.offer_places();
    }
}

#[cfg(test)]
mod tests;
