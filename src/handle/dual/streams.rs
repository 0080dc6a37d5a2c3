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
use super::{Both, Network, PerNetwork, Race};
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
        let PerNetwork { wan, lan } = self.sides;
        self.sides = PerNetwork { wan: wan.limit(limit), lan: lan.limit(limit) };
        self.limit = Some(limit);
        self
    }

    /// Gives it this much time in all. As [`Providers::timeout`].
    pub fn timeout(mut self, timeout: Duration) -> DualProviders {
        let PerNetwork { wan, lan } = self.sides;
        self.sides = PerNetwork { wan: wan.timeout(timeout), lan: lan.timeout(timeout) };
        self
    }

    /// What of it is news; `None` if nothing is.
    fn news(&mut self, mut provider: PeerRecord) -> Option<PeerRecord> {
        match self.told.get_mut(&provider.id) {
            None => {
                if self.limit.is_some_and(|limit| self.told.len() >= limit.get()) {
                    return None;
                }
                self.told.insert(provider.id, provider.addrs.clone());
            }
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
}

impl Stream for DualProviders {
    type Item = PeerRecord;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<PeerRecord>> {
        let stream = &mut *self;
        let mut running = false;
        for network in [Network::Lan, Network::Wan] {
            loop {
                match Pin::new(stream.sides.get_mut(network)).poll_next(cx) {
                    // What was told already is passed over.
                    Poll::Ready(Some(provider)) => match stream.news(provider) {
                        Some(news) => return Poll::Ready(Some(news)),
                        None => continue,
                    },
                    Poll::Ready(None) => {}
                    Poll::Pending => running = true,
                }
                break;
            }
        }
        let enough = stream.limit.is_some_and(|limit| stream.told.len() >= limit.get());
        if running && !enough { Poll::Pending } else { Poll::Ready(None) }
    }
}

impl IntoFuture for DualProviders {
    type Output = <Both<ProvidersFound> as Future>::Output;
    type IntoFuture = Both<ProvidersFound>;

    fn into_future(self) -> Both<ProvidersFound> {
        Both::either(self.sides.wan.into_future(), self.sides.lan.into_future())
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
        let PerNetwork { wan, lan } = self.sides;
        self.sides = PerNetwork { wan: wan.timeout(timeout), lan: lan.timeout(timeout) };
        self
    }

    fn is_better(&self, record: &Record) -> bool {
        let Some(best) = &self.best else { return true };
        let [old, new] = [best, record].map(|record| Candidate::new(&record.value, record.expires));
        best.value != record.value && better(&*self.validator, &self.key, old, new) == Network::Lan
    }
}

impl Stream for DualValues {
    type Item = Record;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Record>> {
        let stream = &mut *self;
        let mut running = false;
        for network in [Network::Wan, Network::Lan] {
            loop {
                match Pin::new(stream.sides.get_mut(network)).poll_next(cx) {
                    Poll::Ready(Some(record)) if stream.is_better(&record) => {
                        stream.best = Some(record.clone());
                        return Poll::Ready(Some(record));
                    }
                    Poll::Ready(Some(_)) => continue,
                    Poll::Ready(None) => {}
                    Poll::Pending => running = true,
                }
                break;
            }
        }
        if running { Poll::Pending } else { Poll::Ready(None) }
    }
}

impl IntoFuture for DualValues {
    type Output = <Race<Found> as Future>::Output;
    type IntoFuture = Race<Found>;

    fn into_future(self) -> Race<Found> {
        Race::best(self.sides.wan.into_future(), self.sides.lan.into_future(), self.validator)
    }
}
