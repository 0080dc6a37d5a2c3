//! The results of two networks in one stream.
//!
//! Knows: what was reported already. Must not know: what is asked for.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use libp2p_identity::PeerId;
use multiaddr::Multiaddr;

use super::pair::better;
use super::{DualNetwork, FirstOf, JoinBoth, PerNetwork};
use crate::core::validate::Candidate;
use crate::core::{Found, PeerRecord, ProvidersFound, Record, RecordKey, Validator};
use crate::handle::{Providers, Values};

/// The providers of some content in both networks, as they are found.
///
/// Each is reported once, and again only with addresses that were not reported yet: a provider on the same network has
/// public addresses in one and local ones in the other. Await the stream for its result in each network; dropping it
/// cancels both queries.
#[derive(Debug)]
#[must_use = "a stream does nothing until it is polled"]
pub struct DualProviders {
    streams: PerNetwork<Providers>,
    limit: Option<NonZeroUsize>,
    /// At most as many as the two queries report.
    reported: BTreeMap<PeerId, Vec<Multiaddr>>,
}

impl DualProviders {
    pub(super) fn new(streams: PerNetwork<Providers>) -> DualProviders {
        DualProviders { streams, limit: None, reported: BTreeMap::new() }
    }

    /// Ends after this many providers of both networks together. As [`Providers::limit`].
    pub fn limit(mut self, limit: NonZeroUsize) -> DualProviders {
        self.streams = self.streams.map(|stream| stream.limit(limit));
        self.limit = Some(limit);
        self
    }

    /// Limits the time that both queries have in all. As [`Query::timeout`](crate::handle::Query::timeout).
    pub fn timeout(mut self, timeout: Duration) -> DualProviders {
        self.streams = self.streams.map(|stream| stream.timeout(timeout));
        self
    }
}

impl Stream for DualProviders {
    type Item = PeerRecord;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<PeerRecord>> {
        let DualProviders { streams: PerNetwork { wan, lan }, limit, reported } = &mut *self;
        let is_full = |reported: &BTreeMap<_, _>| limit.is_some_and(|limit| reported.len() >= limit.get());
        let next = poll_both((lan, wan), cx, |mut provider: PeerRecord| {
            let full = is_full(reported);
            match reported.get_mut(&provider.id) {
                None if full => return None,
                None => _ = reported.insert(provider.id, provider.addrs.clone()),
                Some(known) => {
                    provider.addrs.retain(|addr| !known.contains(addr));
                    if provider.addrs.is_empty() {
                        return None;
                    }
                    known.extend(provider.addrs.iter().cloned());
                }
            }
            Some(provider)
        });
        if next.is_pending() && is_full(reported) { Poll::Ready(None) } else { next }
    }
}

impl IntoFuture for DualProviders {
    type Output = <JoinBoth<ProvidersFound> as Future>::Output;
    type IntoFuture = JoinBoth<ProvidersFound>;

    fn into_future(self) -> JoinBoth<ProvidersFound> {
        JoinBoth::new(self.streams.map(Providers::into_future), false)
    }
}

/// Ever better values under a key, of both networks together: each is better than all before it.
///
/// Await the stream for the result of both queries: the best value of the two, with its holders in its network.
#[derive(Debug)]
#[must_use = "a stream does nothing until it is polled"]
pub struct DualValues {
    streams: PerNetwork<Values>,
    validator: Arc<dyn Validator>,
    key: RecordKey,
    best: Option<Record>,
}

impl DualValues {
    pub(super) fn new(streams: PerNetwork<Values>, validator: Arc<dyn Validator>, key: RecordKey) -> DualValues {
        DualValues { streams, validator, key, best: None }
    }

    /// Limits the time that both queries have in all. As [`Query::timeout`](crate::handle::Query::timeout).
    pub fn timeout(mut self, timeout: Duration) -> DualValues {
        self.streams = self.streams.map(|stream| stream.timeout(timeout));
        self
    }
}

impl Stream for DualValues {
    type Item = Record;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Record>> {
        let DualValues { streams: PerNetwork { wan, lan }, validator, key, best } = &mut *self;
        poll_both((wan, lan), cx, |record: Record| {
            if let Some(best) = &*best {
                let [old, new] = [best, &record].map(|record| Candidate::new(&record.value, record.expires));
                if best.value == record.value || better(&**validator, key, old, new) == DualNetwork::Wan {
                    return None;
                }
            }
            *best = Some(record.clone());
            Some(record)
        })
    }
}

impl IntoFuture for DualValues {
    type Output = <FirstOf<Found> as Future>::Output;
    type IntoFuture = FirstOf<Found>;

    fn into_future(self) -> FirstOf<Found> {
        FirstOf::best(self.streams.map(Values::into_future), self.validator)
    }
}

/// The next item of two streams that `filter` lets pass, the first stream's before the other's.
fn poll_both<S: Stream + Unpin>(
    streams: (&mut S, &mut S),
    cx: &mut Context<'_>,
    mut filter: impl FnMut(S::Item) -> Option<S::Item>,
) -> Poll<Option<S::Item>> {
    let mut running = false;
    for stream in [streams.0, streams.1] {
        loop {
            match Pin::new(&mut *stream).poll_next(cx) {
                Poll::Ready(Some(item)) => {
                    if let Some(item) = filter(item) {
                        return Poll::Ready(Some(item));
                    }
                }
                Poll::Ready(None) => break,
                Poll::Pending => {
                    running = true;
                    break;
                }
            }
        }
    }
    if running { Poll::Pending } else { Poll::Ready(None) }
}
