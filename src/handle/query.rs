//! The futures and streams that a handle returns: started when first polled, cancelled when dropped.
//!
//! Knows: the options of a query until it starts, its reports and its result. Must not know: what drives the node.

use std::fmt;
use std::mem;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::stream::{PollNext, Stream, StreamExt as _, select_with_strategy};
use libp2p_identity::PeerId;

use super::channel::{CommandSender, NewQuery, Reports};
use crate::core::{
    Answer, ClosestPeers, Found, NetworkResult, Operation, PeerRecord, Progress, ProvidersFound, Published, QueryError,
    QueryOptions, Quorum, Record,
};

/// Maximum number of unread steps that are kept of a query for a slow reader; the oldest are dropped first.
pub const MAX_UNREAD_STEPS: usize = 256;

/// A query, or a look at the node: a future of `Result<T, QueryError>`.
///
/// It starts when it is first polled; options that are set later have no effect. It waits for a free place if very many
/// queries are started at the same moment. Dropping it cancels it with all its requests. When the node is gone, it ends
/// with [`QueryError::Closed`].
///
/// An application that tests its own code makes the results itself: each has a constructor, or is a plain value. Only
/// the snapshots [`RoutingSnapshot`](crate::core::RoutingSnapshot) and [`QuerySnapshot`](crate::core::QuerySnapshot)
/// come from a node alone (with feature `serde`, also from what a node wrote).
#[must_use = "a query does nothing until it is polled"]
pub struct Query<T> {
    state: State<T>,
}

enum State<T> {
    Unsent {
        sender: CommandSender,
        start: Box<NewQuery>,
        read: fn(Answer) -> Result<T, Answer>,
    },
    Running(Pin<Box<dyn Future<Output = Result<T, QueryError>> + Send + Sync>>),
    Ended(Result<T, QueryError>),
    /// The result was taken, or the query was cancelled.
    Gone,
}

/// No part of it is pinned: the future that runs is in a box of its own.
impl<T> Unpin for Query<T> {}

impl<T: 'static> Query<T> {
    pub(super) fn new(sender: CommandSender, operation: Operation) -> Query<T>
    where
        T: TryFrom<Answer, Error = Answer>,
    {
        let start = NewQuery { operation, options: QueryOptions::default(), reports: Reports::default() };
        Query { state: State::Unsent { sender, start: Box::new(start), read: T::try_from } }
    }

    /// A look at the node, which has no options.
    pub(super) fn of(running: impl Future<Output = Result<T, QueryError>> + Send + Sync + 'static) -> Query<T> {
        Query { state: State::Running(Box::pin(running)) }
    }

    pub(super) fn set(mut self, change: impl FnOnce(&mut NewQuery)) -> Query<T> {
        if let State::Unsent { start, .. } = &mut self.state {
            change(start);
        }
        self
    }

    /// With the stream that `connect` connects to the reports of the query.
    pub(super) fn watched<I: Send + 'static>(
        self,
        items: impl Stream<Item = I> + Send + Sync + 'static,
        connect: impl FnOnce(&mut Reports),
    ) -> Watched<T, I> {
        let mut missed = Arc::default();
        let query = self.set(|start| {
            connect(&mut start.reports);
            start.options.progress = start.reports.steps.is_some();
            missed = Arc::clone(&start.reports.missed);
        });
        Watched { query, items: Box::pin(items), missed }
    }

    /// Starts the query at the first call, drives it, and keeps its result; returns the result once it is there. After
    /// it was [taken](Query::take), the result is [`QueryError::Closed`].
    pub(super) fn poll_result(&mut self, cx: &mut Context<'_>) -> Option<&Result<T, QueryError>> {
        if let State::Unsent { .. } = self.state
            && let State::Unsent { sender, start, read } = mem::replace(&mut self.state, State::Gone)
        {
            self.state = State::Running(Box::pin(async move {
                let answer = sender.query(start).await?;
                read(answer).map_err(|other| {
                    debug_assert!(false, "the core answered another question: {other:?}");
                    QueryError::Closed
                })
            }));
        }
        if let State::Running(running) = &mut self.state
            && let Poll::Ready(result) = running.as_mut().poll(cx)
        {
            self.state = State::Ended(result);
        }
        if let State::Gone = self.state {
            self.state = State::Ended(Err(QueryError::Closed));
        }
        match &self.state {
            State::Ended(result) => Some(result),
            _ => None,
        }
    }

    /// The result; a query that still runs is cancelled.
    pub(super) fn take(&mut self) -> Result<T, QueryError> {
        match mem::replace(&mut self.state, State::Gone) {
            State::Ended(result) => result,
            State::Gone => Err(QueryError::Closed),
            State::Unsent { .. } | State::Running(_) => Err(QueryError::Cancelled),
        }
    }
}

/// For operations that ask other peers. A look at this node or at its store has no time limit and no steps:
///
/// ```
/// # fn f(dht: libp2p_kad_dht::DhtHandle) {
/// let query = dht.get("/my-app/x").timeout(std::time::Duration::from_secs(5)).with_progress();
/// # }
/// ```
///
/// ```compile_fail
/// # fn f(dht: libp2p_kad_dht::DhtHandle) {
/// let look = dht.stats().timeout(std::time::Duration::from_secs(5));
/// # }
/// ```
///
/// ```compile_fail
/// # fn f(dht: libp2p_kad_dht::DhtHandle) {
/// let look = dht.routing_table().with_progress();
/// # }
/// ```
impl<T: NetworkResult> Query<T> {
    /// Limits the time that the query has in all; in place of the
    /// [configured time](crate::core::config::LookupConfig::query_timeout).
    pub fn timeout(self, timeout: Duration) -> Query<T> {
        self.set(|start| start.options.timeout = Some(timeout))
    }

    /// Does its own work although an equal query runs. Otherwise both share one lookup and end with one result, and each
    /// keeps its own time limit; dropping one leaves the other alone.
    pub fn unshared(self) -> Query<T> {
        self.set(|start| start.options.unshared = true)
    }

    /// Asks these peers alone.
    pub(super) fn only(self, peers: impl IntoIterator<Item = PeerId>) -> Query<T> {
        self.set(|start| start.options.only = Some(peers.into_iter().collect()))
    }

    /// The same query with its steps: which peers are asked, which answer, how close they are.
    pub fn with_progress(self) -> Watched<T> {
        let (sender, steps) = async_channel::bounded(MAX_UNREAD_STEPS);
        self.watched(steps, |reports| reports.steps = Some(sender))
    }
}

impl Query<Found> {
    /// Waits until this many peers were found to hold a valid value, this node included, and gives the best of these;
    /// in place of the [configured number](crate::core::config::RecordConfig::read_quorum). [`Found::holders`] says
    /// which hold that very value. A majority is one of k, however few nodes the network has; where the peers are
    /// named, one of these.
    pub fn quorum(self, quorum: Quorum) -> Query<Found> {
        self.set(|start| (start.options.quorum, start.options.thorough) = (Some(quorum), false))
    }
}

impl Query<Published> {
    /// Requires this many acknowledgements, in place of the [configured
    /// number](crate::core::config::RecordConfig::write_quorum). A majority is one of k, however few nodes the network
    /// has.
    pub fn quorum(self, quorum: Quorum) -> Query<Published> {
        self.set(|start| start.options.quorum = Some(quorum))
    }

    /// Lets a value that is put expire after this time, here and at every peer that took it; until then it is announced
    /// again. Without it the value lives for as long as this node announces it, and
    /// [at other peers](crate::core::config::RecordConfig::value_ttl) 48 h more. Does not apply to a provide.
    pub fn expires_in(self, time: Duration) -> Query<Published> {
        self.set(|start| start.options.expires_in = Some(time))
    }

    /// Sends the record out with others that are put or provided at about the same time: they share the search for their
    /// closest peers. See [`DhtHandle::put_many`](super::DhtHandle::put_many).
    pub fn batched(self) -> Query<Published> {
        self.set(|start| start.options.batched = true)
    }

    /// Whether this node keeps a value that is put, and announces it again. Default: true, and false where the peers are
    /// named. Otherwise the value expires at the peers that took it when its time has passed. A provide to the k closest
    /// is always kept here.
    pub fn keep(self, keep: bool) -> Query<Published> {
        self.set(|start| start.options.not_kept = !keep)
    }
}

impl Query<ClosestPeers> {
    /// Finds this many peers, in place of k.
    pub fn limit(self, limit: NonZeroUsize) -> Query<ClosestPeers> {
        self.set(|start| start.options.limit = Some(limit))
    }
}

impl<T: 'static> Future for Query<T> {
    type Output = Result<T, QueryError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.poll_result(cx);
        if let State::Running(_) = self.state { Poll::Pending } else { Poll::Ready(self.take()) }
    }
}

impl<T> fmt::Debug for Query<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Unsent { start, .. } => return start.fmt(f),
            State::Running(_) => "Running",
            State::Ended(_) => "Ended",
            State::Gone => "Gone",
        };
        f.write_str(state)
    }
}

/// A query together with what it reports while it runs: a stream of `I`, and after it the result.
///
/// Await it for the result, whether the whole stream was read or not; dropping it cancels the query.
///
/// ```no_run
/// # use futures::StreamExt;
/// # async fn f(dht: libp2p_kad_dht::DhtHandle) -> Result<(), libp2p_kad_dht::QueryError> {
/// let mut query = dht.closest_peers(b"/my-app/x").with_progress();
/// while let Some(step) = query.next().await {
///     println!("{step:?}");
/// }
/// println!("{:?}", query.await?.peers);
/// # Ok(()) }
/// ```
///
/// A reader that is slow misses steps ([`MAX_UNREAD_STEPS`] are kept), never a provider or the result.
#[must_use = "a stream does nothing until it is polled"]
pub struct Watched<T, I = Progress> {
    query: Query<T>,
    items: Pin<Box<dyn Stream<Item = I> + Send + Sync>>,
    missed: Arc<AtomicU64>,
}

/// The providers of some content, as they are found. Each is reported once, and again only if addresses become known
/// where none were. All of them are kept for a slow reader.
pub type Providers = Watched<ProvidersFound, PeerRecord>;

/// [`Providers`] with the steps of their query.
pub type WatchedProviders = Watched<ProvidersFound, ProviderUpdate>;

/// Ever better values under a key, as they are found: each is better than all before it.
///
/// A slow reader sees the best value that it has not read yet. The result of the query names the best value with its
/// holders, or is [`QueryError::QuorumMissed`] if the network has fewer holders than the [quorum](Values::quorum) asked
/// for; the values that came before are valid all the same.
pub type Values = Watched<Found, Record>;

/// News of [`WatchedProviders`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ProviderUpdate {
    /// A step of the query.
    Step(Progress),
    /// A provider.
    Provider(PeerRecord),
}

impl<T: 'static, I> Watched<T, I> {
    /// The number of steps that were dropped, since they were not read in time.
    pub fn missed(&self) -> u64 {
        self.missed.load(Ordering::Relaxed)
    }

    /// Limits the time that the query has in all. As [`Query::timeout`].
    pub fn timeout(self, timeout: Duration) -> Watched<T, I> {
        self.set(|start| start.options.timeout = Some(timeout))
    }

    fn set(mut self, change: impl FnOnce(&mut NewQuery)) -> Watched<T, I> {
        self.query = self.query.set(change);
        self
    }
}

impl Providers {
    /// Ends the query after this many providers, in place of the
    /// [configured number](crate::core::config::LimitConfig::providers_per_query).
    pub fn limit(self, limit: NonZeroUsize) -> Providers {
        self.set(|start| start.options.limit = Some(limit))
    }

    /// The same query with its steps, and the providers between them.
    pub fn with_progress(self) -> WatchedProviders {
        let (sender, steps) = async_channel::bounded(MAX_UNREAD_STEPS);
        let providers = self.items.map(ProviderUpdate::Provider);
        let items = select_with_strategy(providers, steps.map(ProviderUpdate::Step), |_: &mut ()| PollNext::Left);
        self.query.watched(items, |reports| reports.steps = Some(sender))
    }
}

impl Values {
    /// Ends the query once this many peers were found to hold a value. Without it all of the k closest are asked.
    pub fn quorum(self, quorum: Quorum) -> Values {
        self.set(|start| (start.options.thorough, start.options.quorum) = (false, Some(quorum)))
    }
}

impl<T: 'static, I> Stream for Watched<T, I> {
    type Item = I;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<I>> {
        self.query.poll_result(cx);
        self.items.poll_next_unpin(cx)
    }
}

impl<T: 'static, I> IntoFuture for Watched<T, I> {
    type Output = Result<T, QueryError>;
    type IntoFuture = Query<T>;

    fn into_future(self) -> Query<T> {
        self.query
    }
}

impl<T, I> fmt::Debug for Watched<T, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched").field("query", &self.query).finish_non_exhaustive()
    }
}
