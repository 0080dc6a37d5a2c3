//! Two queries for the same, one in each network, as one future.
//!
//! Knows: which of two ends counts. Must not know: what is asked for.

use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::{DualError, Network, PerNetwork};
use crate::core::validate::Candidate;
use crate::core::{Evidence, QueryError, Quorum, RecordKey, Validator};
use crate::handle::{ClosestPeers, Found, FoundPeer, Outcome, Published, Query, Walk};

/// A query in each network, of which the first with a good answer wins: a future of `Result<(Network, T), DualError>`.
///
/// The other one is cancelled then. It fails when both did.
#[derive(Debug)]
#[must_use = "a query does nothing until it is polled"]
pub struct FirstOf<T> {
    sides: PerNetwork<Side<T>>,
    validator: Arc<dyn Validator>,
    /// Waits for both, for the better of two.
    patient: bool,
}

/// Nothing in it is ever pinned.
impl<T> Unpin for FirstOf<T> {}

/// What can be won, and the better of two.
pub(super) trait Prize {
    /// Whether it wins without waiting for the other network.
    fn settles(&self) -> bool {
        true
    }

    fn better(validator: &dyn Validator, wan: &Self, lan: &Self) -> Network;
}

impl Prize for Found {
    fn better(validator: &dyn Validator, wan: &Found, lan: &Found) -> Network {
        let [wan_value, lan_value] = [wan, lan].map(|found| Candidate::new(&found.value, found.expires));
        better(validator, &wan.key, wan_value, lan_value)
    }
}

impl Prize for FoundPeer {
    /// The other network may reach the peer.
    fn settles(&self) -> bool {
        self.evidence > Evidence::Hearsay
    }

    /// Where more speaks for it; else the shorter way.
    fn better(_: &dyn Validator, wan: &FoundPeer, lan: &FoundPeer) -> Network {
        if wan.evidence > lan.evidence { Network::Wan } else { Network::Lan }
    }
}

/// Which of two values under a key is better; of equal ones, that of the wide network.
pub(super) fn better(validator: &dyn Validator, key: &RecordKey, wan: Candidate<'_>, lan: Candidate<'_>) -> Network {
    if validator.select(key, &[wan, lan]) == 0 { Network::Wan } else { Network::Lan }
}

impl<T: Outcome> FirstOf<T> {
    pub(super) fn first(wan: Query<T>, lan: Query<T>, validator: Arc<dyn Validator>) -> FirstOf<T> {
        FirstOf { sides: PerNetwork { wan: Side::Runs(wan), lan: Side::Runs(lan) }, validator, patient: false }
    }

    /// Waits for both, and gives the better one.
    pub(super) fn best(wan: Query<T>, lan: Query<T>, validator: Arc<dyn Validator>) -> FirstOf<T> {
        FirstOf { patient: true, ..FirstOf::first(wan, lan, validator) }
    }
}

impl<T: Walk> FirstOf<T> {
    /// Gives it this much time in all. As [`Query::timeout`].
    pub fn timeout(mut self, timeout: Duration) -> FirstOf<T> {
        self.sides.change(|query| query.timeout(timeout));
        self
    }
}

impl FirstOf<Found> {
    /// Wants this many holders, all in the same network. As [`Query::quorum`].
    pub fn quorum(mut self, quorum: Quorum) -> FirstOf<Found> {
        self.sides.change(|query| query.quorum(quorum));
        self
    }
}

impl<T: Outcome + Prize> Future for FirstOf<T> {
    type Output = Result<(Network, T), DualError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let race = &mut *self;
        race.sides.poll(cx);
        let winner = match (&race.sides.wan, &race.sides.lan) {
            (Side::Ended(Ok(wan)), Side::Ended(Ok(lan))) => T::better(&*race.validator, wan, lan),
            (Side::Runs(_), Side::Ended(_)) | (Side::Ended(_), Side::Runs(_)) if race.patient => return Poll::Pending,
            (Side::Runs(_), Side::Ended(Ok(one))) | (Side::Ended(Ok(one)), Side::Runs(_)) if !one.settles() => {
                return Poll::Pending;
            }
            (Side::Ended(Ok(_)), _) => Network::Wan,
            (_, Side::Ended(Ok(_))) => Network::Lan,
            (Side::Runs(_), _) | (_, Side::Runs(_)) => return Poll::Pending,
            _ => return Poll::Ready(Err(race.sides.take().error())),
        };
        let PerNetwork { wan, lan } = race.sides.take();
        let won = match winner {
            Network::Wan => wan,
            Network::Lan => lan,
        };
        Poll::Ready(won.map(|answer| (winner, answer)).map_err(|_| DualError { wan: None, lan: None }))
    }
}

/// The same operation in each network: a future of what came of it in each, `Result<PerNetwork<Result<T, QueryError>>,
/// DualError>`.
///
/// It ends when both have, and fails if it failed in both; or in one, for operations that must work in both.
#[derive(Debug)]
#[must_use = "a query does nothing until it is polled"]
pub struct JoinBoth<T> {
    sides: PerNetwork<Side<T>>,
    /// Whether it must work in both.
    each: bool,
}

/// Nothing in it is ever pinned.
impl<T> Unpin for JoinBoth<T> {}

impl<T: Outcome> JoinBoth<T> {
    /// Works if it does in one network.
    pub(super) fn either(wan: Query<T>, lan: Query<T>) -> JoinBoth<T> {
        JoinBoth { sides: PerNetwork { wan: Side::Runs(wan), lan: Side::Runs(lan) }, each: false }
    }

    /// Works if it does in both.
    pub(super) fn each(wan: Query<T>, lan: Query<T>) -> JoinBoth<T> {
        JoinBoth { each: true, ..JoinBoth::either(wan, lan) }
    }
}

impl<T: Walk> JoinBoth<T> {
    /// Gives it this much time in all. As [`Query::timeout`].
    pub fn timeout(mut self, timeout: Duration) -> JoinBoth<T> {
        self.sides.change(|query| query.timeout(timeout));
        self
    }
}

impl JoinBoth<Published> {
    /// Wants this many acknowledgements in a network for it to have worked there. As [`Query::quorum`].
    pub fn quorum(mut self, quorum: Quorum) -> JoinBoth<Published> {
        self.sides.change(|query| query.quorum(quorum));
        self
    }
}

impl JoinBoth<ClosestPeers> {
    /// Wants this many peers in each network, in place of k.
    pub fn limit(mut self, limit: NonZeroUsize) -> JoinBoth<ClosestPeers> {
        self.sides.change(|query| query.limit(limit));
        self
    }
}

impl<T: Outcome> Future for JoinBoth<T> {
    type Output = Result<PerNetwork<Result<T, QueryError>>, DualError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.sides.poll(cx);
        if let (Side::Runs(_), _) | (_, Side::Runs(_)) = (&self.sides.wan, &self.sides.lan) {
            return Poll::Pending;
        }
        let ends = self.sides.take();
        let worked =
            if self.each { ends.wan.is_ok() && ends.lan.is_ok() } else { ends.wan.is_ok() || ends.lan.is_ok() };
        Poll::Ready(if worked { Ok(ends) } else { Err(ends.error()) })
    }
}

/// One network's part.
#[derive(Debug)]
enum Side<T> {
    Runs(Query<T>),
    Ended(Result<T, QueryError>),
}

impl<T: Outcome> PerNetwork<Side<T>> {
    /// Goes on with both, so that both start at once.
    fn poll(&mut self, cx: &mut Context<'_>) {
        for side in [&mut self.wan, &mut self.lan] {
            if let Side::Runs(query) = side
                && let Poll::Ready(end) = Pin::new(query).poll(cx)
            {
                *side = Side::Ended(end);
            }
        }
    }

    /// Both ends; one that still runs is cancelled. Afterwards there is nothing left to wait for.
    fn take(&mut self) -> PerNetwork<Result<T, QueryError>> {
        let take = |side: &mut Side<T>| match std::mem::replace(side, Side::Ended(Err(QueryError::Closed))) {
            Side::Runs(_) => Err(QueryError::Cancelled),
            Side::Ended(end) => end,
        };
        PerNetwork { wan: take(&mut self.wan), lan: take(&mut self.lan) }
    }

    fn change(&mut self, mut change: impl FnMut(Query<T>) -> Query<T>) {
        for side in [&mut self.wan, &mut self.lan] {
            let before = std::mem::replace(side, Side::Ended(Err(QueryError::Closed)));
            *side = match before {
                Side::Runs(query) => Side::Runs(change(query)),
                ended => ended,
            };
        }
    }
}

impl<T> PerNetwork<Result<T, QueryError>> {
    fn error(self) -> DualError {
        DualError { wan: self.wan.err(), lan: self.lan.err() }
    }
}
