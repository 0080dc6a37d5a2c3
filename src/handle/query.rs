//! What a handle gives back: futures and streams, started when first polled and cancelled when dropped.
//!
//! Knows: the two ends of one query's life on the application's side. Must not know: who drives the node.

use std::marker::PhantomData;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::Stream;

use super::mailbox::{Command, Mailbox, Ticket};
use super::outcome::{ClosestPeers, Found, Outcome, PeerRecord, ProvidersFound, Published, Walk};
use super::slot::{Reader, Reply};
use crate::core::{Progress, QueryError, QueryOptions, Quorum, Record};

/// A query, or a look at the node: a future of `Result<T, QueryError>`.
///
/// It starts when it is first polled, so set its options before; later ones change nothing. It waits for room where
/// very many are started at once. Dropping it cancels it with all that it has under way. When the node is gone, it ends
/// with [`QueryError::Closed`].
#[derive(Debug)]
#[must_use = "a query does nothing until it is polled"]
pub struct Query<T> {
    call: Call,
    outcome: PhantomData<fn() -> T>,
}

impl<T: Outcome> Query<T> {
    pub(super) fn new(call: Call) -> Query<T> {
        Query { call, outcome: PhantomData }
    }
}

impl<T: Walk> Query<T> {
    /// Gives it this much time in all, in place of the
    /// [configured one](crate::core::config::LookupConfig::query_timeout).
    pub fn timeout(mut self, timeout: Duration) -> Query<T> {
        self.call.set(|options| options.timeout = Some(timeout));
        self
    }

    /// The same query, watched: who is asked, who answers, how close it is.
    pub fn with_progress(mut self) -> Watched<T> {
        self.call.set(|options| options.progress = true);
        Watched { query: self }
    }
}

impl Query<Found> {
    /// Waits until this many were found to hold a valid value, this node included, and gives the best of these; in
    /// place of the [configured number](crate::core::config::RecordConfig::read_quorum). How many hold that very value,
    /// [`Found::holders`] says. A majority is one of k, however few nodes the network has.
    pub fn quorum(mut self, quorum: Quorum) -> Query<Found> {
        self.call.set(|options| options.quorum = Some(quorum));
        self
    }
}

impl Query<Published> {
    /// Wants this many acknowledgements, in place of the
    /// [configured number](crate::core::config::RecordConfig::write_quorum). A majority is one of k, however few nodes the
    /// network has.
    pub fn quorum(mut self, quorum: Quorum) -> Query<Published> {
        self.call.set(|options| options.quorum = Some(quorum));
        self
    }
}

/// Of a value that is put; what is provided has no lifetime of its own, and is always kept here.
impl Query<Published> {
    /// Lets the value end after this time, here and at all who took it; until then it is announced again. Otherwise it lives
    /// for as long as this node announces it, and [elsewhere](crate::core::config::RecordConfig::value_ttl) 48 h more.
    pub fn expires_in(mut self, time: Duration) -> Query<Published> {
        self.call.set(|options| options.expires_in = Some(time));
        self
    }

    /// Whether this node keeps the value itself and announces it again, as it does by default. Otherwise it ends where it
    /// was brought when its time is over.
    pub fn keep(mut self, keep: bool) -> Query<Published> {
        self.call.set(|options| options.not_kept = !keep);
        self
    }
}

impl Query<ClosestPeers> {
    /// Wants this many peers, in place of k.
    pub fn limit(mut self, limit: NonZeroUsize) -> Query<ClosestPeers> {
        self.call.set(|options| options.limit = Some(limit));
        self
    }
}

impl<T: Outcome> Future for Query<T> {
    type Output = Result<T, QueryError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.call.poll_end(cx)
    }
}

/// A query with its steps: a stream of [`Progress`], and after it the result.
///
/// Await it for the result, whether all steps were read or not:
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
/// A reader that is slow misses steps ([`MAX_UNREAD_STEPS`](super::MAX_UNREAD_STEPS) are kept), never the result.
#[derive(Debug)]
#[must_use = "a query does nothing until it is polled"]
pub struct Watched<T> {
    query: Query<T>,
}

impl<T> Watched<T> {
    /// How many steps were forgotten because they were not read in time.
    pub fn missed(&self) -> u64 {
        self.query.call.reader.missed()
    }
}

impl<T> Stream for Watched<T> {
    type Item = Progress;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Progress>> {
        self.query.call.poll_next(cx, Reader::poll_step)
    }
}

impl<T: Outcome> IntoFuture for Watched<T> {
    type Output = Result<T, QueryError>;
    type IntoFuture = Query<T>;

    fn into_future(self) -> Query<T> {
        self.query
    }
}

/// The providers of some content, as they are found. Each is reported once, and again only if addresses become known
/// where none were.
///
/// None is lost on a slow reader. Await the stream to learn how it ended, whether all providers were read or not;
/// dropping it cancels the query.
#[derive(Debug)]
#[must_use = "a stream does nothing until it is polled"]
pub struct Providers {
    query: Query<ProvidersFound>,
}

impl Providers {
    pub(super) fn new(call: Call) -> Providers {
        Providers { query: Query::new(call) }
    }

    /// Ends after this many providers, in place of the
    /// [configured number](crate::core::config::LimitConfig::providers_per_query).
    pub fn limit(mut self, limit: NonZeroUsize) -> Providers {
        self.query.call.set(|options| options.limit = Some(limit));
        self
    }

    /// Gives it this much time in all, in place of the
    /// [configured one](crate::core::config::LookupConfig::query_timeout).
    pub fn timeout(mut self, timeout: Duration) -> Providers {
        self.query = self.query.timeout(timeout);
        self
    }

    /// The same query, watched: its steps, and the providers between them.
    pub fn with_progress(mut self) -> WatchedProviders {
        self.query.call.set(|options| options.progress = true);
        WatchedProviders { query: self.query, steps_over: false }
    }
}

impl Stream for Providers {
    type Item = PeerRecord;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<PeerRecord>> {
        let provider = ready!(self.query.call.poll_next(cx, Reader::poll_provider));
        Poll::Ready(provider.map(|contact| PeerRecord::from(&*contact)))
    }
}

impl IntoFuture for Providers {
    type Output = Result<ProvidersFound, QueryError>;
    type IntoFuture = Query<ProvidersFound>;

    fn into_future(self) -> Query<ProvidersFound> {
        self.query
    }
}

/// [`Providers`] with the steps of their query.
#[derive(Debug)]
#[must_use = "a stream does nothing until it is polled"]
pub struct WatchedProviders {
    query: Query<ProvidersFound>,
    steps_over: bool,
}

/// News of a [`WatchedProviders`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ProviderUpdate {
    /// A step of the query.
    Step(Progress),
    /// A provider.
    Provider(PeerRecord),
}

impl Stream for WatchedProviders {
    type Item = ProviderUpdate;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<ProviderUpdate>> {
        if let Poll::Ready(Some(contact)) = self.query.call.poll_next(cx, Reader::poll_provider) {
            return Poll::Ready(Some(ProviderUpdate::Provider(PeerRecord::from(&*contact))));
        }
        if !self.steps_over {
            match ready!(self.query.call.poll_next(cx, Reader::poll_step)) {
                Some(step) => return Poll::Ready(Some(ProviderUpdate::Step(step))),
                None => self.steps_over = true,
            }
        }
        // Providers may have come between the two looks: the end of the steps is the end of the query, so look again.
        let provider = ready!(self.query.call.poll_next(cx, Reader::poll_provider));
        Poll::Ready(provider.map(|contact| ProviderUpdate::Provider(PeerRecord::from(&*contact))))
    }
}

impl IntoFuture for WatchedProviders {
    type Output = Result<ProvidersFound, QueryError>;
    type IntoFuture = Query<ProvidersFound>;

    fn into_future(self) -> Query<ProvidersFound> {
        self.query
    }
}

/// Ever better values under a key, as they are found: each is better than all before it.
///
/// A reader that is slow sees the best one that it has not read yet. Await the stream for the end of the query, which
/// names the best value with its holders, or is [`QueryError::QuorumMissed`] where the network has fewer of them than
/// a [quorum](Values::quorum) that was asked for; the values that came are as good. Dropping it cancels the query.
#[derive(Debug)]
#[must_use = "a stream does nothing until it is polled"]
pub struct Values {
    query: Query<Found>,
}

impl Values {
    pub(super) fn new(mut call: Call) -> Values {
        call.set(|options| options.thorough = true);
        Values { query: Query::new(call) }
    }

    /// Ends once this many peers were found to hold a value. Default: not before all of the k closest were asked.
    pub fn quorum(mut self, quorum: Quorum) -> Values {
        self.query.call.set(|options| options.thorough = false);
        self.query = self.query.quorum(quorum);
        self
    }

    /// Gives it this much time in all, in place of the
    /// [configured one](crate::core::config::LookupConfig::query_timeout).
    pub fn timeout(mut self, timeout: Duration) -> Values {
        self.query = self.query.timeout(timeout);
        self
    }
}

impl Stream for Values {
    type Item = Record;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Record>> {
        self.query.call.poll_next(cx, Reader::poll_value)
    }
}

impl IntoFuture for Values {
    type Output = Result<Found, QueryError>;
    type IntoFuture = Query<Found>;

    fn into_future(self) -> Query<Found> {
        self.query
    }
}

/// One command on its way: not sent, sent, or over.
#[derive(Debug)]
pub(super) struct Call {
    mailbox: Arc<Mailbox>,
    reader: Reader,
    /// The command, until it is sent.
    unsent: Option<Command>,
    /// Where in the mailbox this call waits for room.
    place: Option<Ticket>,
    /// The name of the command, once it is sent.
    ticket: Option<Ticket>,
}

impl Call {
    pub(super) fn new(mailbox: Arc<Mailbox>, command: Command, reader: Reader) -> Call {
        Call { mailbox, reader, unsent: Some(command), place: None, ticket: None }
    }

    pub(super) fn set(&mut self, change: impl FnOnce(&mut QueryOptions)) {
        if let Some(Command::Start { options, .. }) = &mut self.unsent {
            change(options);
        }
    }

    /// Ready once the command is sent, or cannot be, which the reader then sees as the end.
    fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.unsent.is_some() {
            self.ticket = ready!(self.mailbox.poll_post(cx, &mut self.unsent, &mut self.place)).ok();
        }
        Poll::Ready(())
    }

    fn poll_next<T>(
        &mut self,
        cx: &mut Context<'_>,
        read: impl FnOnce(&Reader, &mut Context<'_>) -> Poll<Option<T>>,
    ) -> Poll<Option<T>> {
        ready!(self.poll_sent(cx));
        read(&self.reader, cx)
    }

    fn poll_end<T: Outcome>(&mut self, cx: &mut Context<'_>) -> Poll<Result<T, QueryError>> {
        ready!(self.poll_sent(cx));
        let reply: Reply = match ready!(self.reader.poll_end(cx)) {
            Ok(reply) => reply,
            Err(error) => return Poll::Ready(Err(error)),
        };
        let outcome = T::read(reply);
        debug_assert!(outcome.is_some(), "the core answered another question");
        Poll::Ready(outcome.ok_or(QueryError::Closed))
    }
}

/// Cancels. The reader closes first: whoever takes the command afterwards sees that nobody waits for it; whoever took
/// it before finds the cancellation. There is no moment at which both could be missed.
impl Drop for Call {
    fn drop(&mut self) {
        let ended = self.reader.close();
        if let Some(place) = self.place {
            self.mailbox.leave(place);
        }
        if let Some(ticket) = self.ticket
            && !ended
        {
            self.mailbox.withdraw(ticket);
        }
    }
}
