//! What two networks find, in one stream.
//!
//! Knows: what was told already. Must not know: what is asked for.

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
use super::{FirstOf, JoinBoth, Network, PerNetwork};
use crate::core::validate::Candidate;
use crate::core::{Record, RecordKey, Validator};
use crate::handle::{Found, PeerRecord, Providers, ProvidersFound, Values};

/// The providers of some content in both networks, as they are found.
///
/// Each is reported once, and again only with addresses that were not told yet: a provider on the same network has public
/// addresses in one and local ones in the other. Await the stream to learn how it ended in each; dropping it cancels
/// both queries.
#[derive(Debug)]
#[must_use = "a stream does nothing until it is polled"]
pub struct DualProviders {
    sides: PerNetwork<Providers>,
    limit: Option<NonZeroUsize>,
    /// At most as many as the two queries report.
    told: BTreeMap<PeerId, Vec<Multiaddr>>,
}

impl DualProviders {
    pub(super) fn new(wan: Providers, lan: Providers) -> DualProviders {
        DualProviders { sides: PerNetwork { wan, lan }, limit: None, told: BTreeMap::new() }
    }

    /// Ends after this many providers of both networks together. As [`Providers::limit`].
    pub fn limit(mut self, limit: NonZeroUsize) -> DualProviders {
        self.sides = self.sides.map(|side| side.limit(limit));
        self.limit = Some(limit);
        self
    }

    /// Gives it this much time in all. As [`Providers::timeout`].
    pub fn timeout(mut self, timeout: Duration) -> DualProviders {
        self.sides = self.sides.map(|side| side.timeout(timeout));
        self
    }
}

impl Stream for DualProviders {
    type Item = PeerRecord;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<PeerRecord>> {
        let DualProviders { sides: PerNetwork { wan, lan }, limit, told } = &mut *self;
        // What was told already is passed over.
        let next = poll_both((lan, wan), cx, |provider| news(told, *limit, provider));
        let enough = limit.is_some_and(|limit| told.len() >= limit.get());
        if next.is_pending() && enough { Poll::Ready(None) } else { next }
    }
}

impl IntoFuture for DualProviders {
    type Output = <JoinBoth<ProvidersFound> as Future>::Output;
    type IntoFuture = JoinBoth<ProvidersFound>;

    fn into_future(self) -> JoinBoth<ProvidersFound> {
        JoinBoth::either(self.sides.wan.into_future(), self.sides.lan.into_future())
    }
}

/// Ever better values under a key, of both networks together: each is better than all before it.
///
/// Await the stream for the end of both queries: the best value of the two, with its holders in its network.
#[derive(Debug)]
#[must_use = "a stream does nothing until it is polled"]
pub struct DualValues {
    sides: PerNetwork<Values>,
    validator: Arc<dyn Validator>,
    key: RecordKey,
    best: Option<Record>,
}

impl DualValues {
    pub(super) fn new(wan: Values, lan: Values, validator: Arc<dyn Validator>, key: RecordKey) -> DualValues {
        DualValues { sides: PerNetwork { wan, lan }, validator, key, best: None }
    }

    /// Gives it this much time in all. As [`Values::timeout`].
    pub fn timeout(mut self, timeout: Duration) -> DualValues {
        self.sides = self.sides.map(|side| side.timeout(timeout));
        self
    }
}

impl Stream for DualValues {
    type Item = Record;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Record>> {
        let DualValues { sides: PerNetwork { wan, lan }, validator, key, best } = &mut *self;
        poll_both((wan, lan), cx, |record: Record| {
            if let Some(best) = &*best {
                let [old, new] = [best, &record].map(|record| Candidate::new(&record.value, record.expires));
                if best.value == record.value || better(&**validator, key, old, new) == Network::Wan {
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
        FirstOf::best(self.sides.wan.into_future(), self.sides.lan.into_future(), self.validator)
    }
}

/// The next item of two streams that is worth telling, the first one's before the other's.
fn poll_both<S: Stream + Unpin, T>(
    streams: (&mut S, &mut S),
    cx: &mut Context<'_>,
    mut worth: impl FnMut(S::Item) -> Option<T>,
) -> Poll<Option<T>> {
    let mut running = false;
    for stream in [streams.0, streams.1] {
        loop {
            match Pin::new(&mut *stream).poll_next(cx).map(|item| item.map(&mut worth)) {
                Poll::Ready(Some(Some(item))) => return Poll::Ready(Some(item)),
                Poll::Ready(Some(None)) => continue,
                next => running |= next.is_pending(),
            }
            break;
        }
    }
    if running { Poll::Pending } else { Poll::Ready(None) }
}

/// What of a provider is news, and may still be told; `None` if nothing is.
fn news(
    told: &mut BTreeMap<PeerId, Vec<Multiaddr>>,
    limit: Option<NonZeroUsize>,
    mut provider: PeerRecord,
) -> Option<PeerRecord> {
    let full = limit.is_some_and(|limit| told.len() >= limit.get());
    match told.get_mut(&provider.id) {
        None if full => return None,
        None => _ = told.insert(provider.id, provider.addrs.clone()),
        Some(told) => {
            provider.addrs.retain(|addr| !told.contains(addr));
            if provider.addrs.is_empty() {
                return None;
            }
            told.extend(provider.addrs.iter().cloned());
        }
    }
    Some(provider)
}
