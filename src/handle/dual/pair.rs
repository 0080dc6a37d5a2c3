//! Two queries for the same, one in each network, as one future.
//!
//! Knows: which of two results counts. Must not know: what is asked for.

use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::{DualError, DualNetwork, PerNetwork};
use crate::core::validate::Candidate;
use crate::core::{
    ClosestPeers, Evidence, Found, FoundPeer, NetworkResult, Published, QueryError, Quorum, RecordKey, Validator,
};
use crate::handle::Query;

/// A query in each network, of which the first with a good result wins: a future of `Result<(DualNetwork, T),
/// DualError>`.
///
/// The other one is cancelled then. It fails when both did.
#[derive(Debug)]
#[must_use = "a query does nothing until it is polled"]
pub struct FirstOf<T> {
    queries: PerNetwork<Query<T>>,
    validator: Arc<dyn Validator>,
    /// Whether it waits for both and takes the better result.
    waits_for_both: bool,
}

/// A result that is compared with that of the other network.
pub(super) trait Compare {
    /// Whether it wins without waiting for the other network.
    fn is_good(&self) -> bool;

    /// The network with the better of two results.
    fn better(validator: &dyn Validator, wan: &Self, lan: &Self) -> DualNetwork;
}

impl Compare for Found {
    fn is_good(&self) -> bool {
        true
    }

    fn better(validator: &dyn Validator, wan: &Found, lan: &Found) -> DualNetwork {
        let [wan_value, lan_value] = [wan, lan].map(|found| Candidate::new(&found.record.value, found.record.expires));
        better(validator, &wan.record.key, wan_value, lan_value)
    }
}

impl Compare for FoundPeer {
    /// The other network may reach a peer that this one only heard of.
    fn is_good(&self) -> bool {
        self.evidence > Evidence::Hearsay
    }

    /// The network with more evidence; with equal evidence the local one, whose way is shorter.
    fn better(_: &dyn Validator, wan: &FoundPeer, lan: &FoundPeer) -> DualNetwork {
        if wan.evidence > lan.evidence { DualNetwork::Wan } else { DualNetwork::Lan }
    }
}

/// The network with the better of two values under a key; of equal ones, that of the wide network.
pub(super) fn better(
    validator: &dyn Validator,
    key: &RecordKey,
    wan: Candidate<'_>,
    lan: Candidate<'_>,
) -> DualNetwork {
    if validator.select(key, &[wan, lan]) == 0 { DualNetwork::Wan } else { DualNetwork::Lan }
}

impl<T: 'static> FirstOf<T> {
    pub(super) fn new(queries: PerNetwork<Query<T>>, validator: Arc<dyn Validator>) -> FirstOf<T> {
        FirstOf { queries, validator, waits_for_both: false }
    }

    /// Waits for both, and gives the better one.
    pub(super) fn best(queries: PerNetwork<Query<T>>, validator: Arc<dyn Validator>) -> FirstOf<T> {
        FirstOf { queries, validator, waits_for_both: true }
    }
}

impl<T: NetworkResult> FirstOf<T> {
    /// Limits the time that both queries have in all. As [`Query::timeout`].
    pub fn timeout(mut self, timeout: Duration) -> FirstOf<T> {
        self.queries = self.queries.map(|query| query.timeout(timeout));
        self
    }
}

impl FirstOf<Found> {
    /// Requires this many holders, all in the same network. As [`Query::quorum`].
    pub fn quorum(mut self, quorum: Quorum) -> FirstOf<Found> {
        self.queries = self.queries.map(|query| query.quorum(quorum));
        self
    }
}

impl<T: Compare + 'static> Future for FirstOf<T> {
    type Output = Result<(DualNetwork, T), DualError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let FirstOf { queries, validator, waits_for_both } = &mut *self;
        let good = |result: &T| !*waits_for_both && result.is_good();
        // Both are polled, so that both start at once.
        let winner = match (queries.wan.poll_result(cx), queries.lan.poll_result(cx)) {
            (Some(Ok(wan)), Some(Ok(lan))) => Some(T::better(&**validator, wan, lan)),
            (Some(Ok(_)), Some(Err(_))) => Some(DualNetwork::Wan),
            (Some(Err(_)), Some(Ok(_))) => Some(DualNetwork::Lan),
            (Some(Err(_)), Some(Err(_))) => None,
            (Some(Ok(wan)), None) if good(wan) => Some(DualNetwork::Wan),
            (None, Some(Ok(lan))) if good(lan) => Some(DualNetwork::Lan),
            _ => return Poll::Pending,
        };
        let PerNetwork { wan, lan } = queries.take();
        Poll::Ready(match (winner, wan, lan) {
            (Some(DualNetwork::Wan), Ok(wan), _) => Ok((DualNetwork::Wan, wan)),
            (Some(DualNetwork::Lan), _, Ok(lan)) => Ok((DualNetwork::Lan, lan)),
            (_, wan, lan) => Err(PerNetwork { wan, lan }.error()),
        })
    }
}

/// The same operation in each network: a future of its result in each, `Result<PerNetwork<Result<T, QueryError>>,
/// DualError>`.
///
/// It ends when both have, and fails if it failed in both; or in one, for operations that must work in both.
#[derive(Debug)]
#[must_use = "a query does nothing until it is polled"]
pub struct JoinBoth<T> {
    queries: PerNetwork<Query<T>>,
    needs_both: bool,
}

impl<T: 'static> JoinBoth<T> {
    pub(super) fn new(queries: PerNetwork<Query<T>>, needs_both: bool) -> JoinBoth<T> {
        JoinBoth { queries, needs_both }
    }
}

impl<T: NetworkResult> JoinBoth<T> {
    /// Limits the time that both queries have in all. As [`Query::timeout`].
    ///
    /// ```compile_fail
    /// # fn f(dht: libp2p_kad_dht::DualHandle) {
    /// let looks = dht.both(|dht| dht.stats()).timeout(std::time::Duration::from_secs(5));
    /// # }
    /// ```
    pub fn timeout(mut self, timeout: Duration) -> JoinBoth<T> {
        self.queries = self.queries.map(|query| query.timeout(timeout));
        self
    }
}

impl JoinBoth<Published> {
    /// Requires this many acknowledgements in a network for it to have worked there. As [`Query::quorum`].
    pub fn quorum(mut self, quorum: Quorum) -> JoinBoth<Published> {
        self.queries = self.queries.map(|query| query.quorum(quorum));
        self
    }
}

impl JoinBoth<ClosestPeers> {
    /// Finds this many peers in each network, in place of k.
    pub fn limit(mut self, limit: NonZeroUsize) -> JoinBoth<ClosestPeers> {
        self.queries = self.queries.map(|query| query.limit(limit));
        self
    }
}

impl<T: 'static> Future for JoinBoth<T> {
    type Output = Result<PerNetwork<Result<T, QueryError>>, DualError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let JoinBoth { queries, needs_both } = &mut *self;
        let (Some(wan), Some(lan)) = (queries.wan.poll_result(cx), queries.lan.poll_result(cx)) else {
            return Poll::Pending;
        };
        let worked = if *needs_both { wan.is_ok() && lan.is_ok() } else { wan.is_ok() || lan.is_ok() };
        let results = queries.take();
        Poll::Ready(if worked { Ok(results) } else { Err(results.error()) })
    }
}

impl<T: 'static> PerNetwork<Query<T>> {
    /// Both results; a query that still runs is cancelled.
    fn take(&mut self) -> PerNetwork<Result<T, QueryError>> {
        PerNetwork { wan: self.wan.take(), lan: self.lan.take() }
    }
}

impl<T> PerNetwork<Result<T, QueryError>> {
    fn error(self) -> DualError {
        DualError { wan: self.wan.err(), lan: self.lan.err() }
    }
}
