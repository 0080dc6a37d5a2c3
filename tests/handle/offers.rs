//! Verdicts of the application on the records that peers bring.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use libp2p_kad_dht::core::{DhtConfig, Event};
use libp2p_kad_dht::store::{Item, Usage};
use libp2p_kad_dht::{
    Candidate, DhtHandle, InvalidValue, Offer, Offers, Published, Query, QueryError, RecordKey, RequestError,
    Timestamp, Valid, Validator, Verdict, VerdictConfig,
};

use super::network::Network;
use super::{poll, poll_next};

/// Two nodes: the second one asks its application about what the first one brings.
struct Pair {
    network: Network,
    sender: DhtHandle,
    offers: Offers,
}

impl Pair {
    fn new(config: VerdictConfig) -> Pair {
        Pair::with(config, DhtConfig::default())
    }

    fn with(config: VerdictConfig, dht: DhtConfig) -> Pair {
        let mut network = Network::with(2, dht);
        network.introduce();
        let (sender, asking) = (network.handle(0), network.handle(1));
        let offers = network.finish(asking.offers(config)).unwrap();
        Pair { network, sender, offers }
    }

    fn put(&mut self, key: &str, value: &str) -> Query<Published> {
        let mut put = self.sender.put(key, value).keep(false);
        self.wait(&mut put);
        put
    }

    /// Runs the network; the query must not end.
    fn wait(&mut self, query: &mut Query<Published>) {
        for _ in 0..5 {
            assert!(poll(query).is_pending(), "it was acknowledged or refused without a verdict");
            self.network.run();
        }
    }

    fn offer(&mut self) -> Offer {
        match poll_next(&mut self.offers) {
            Poll::Ready(Some(offer)) => offer,
            end => panic!("no offer: {end:?}"),
        }
    }

    fn held(&mut self) -> Usage {
        self.network.nodes[1].dht.store().usage()
    }

    fn stored(&self) -> usize {
        let events = &self.network.nodes[1].events;
        events.iter().filter(|event| matches!(event, Event::RecordStored { .. })).count()
    }
}

/// Whether the only peer refused the record; otherwise it took it.
fn is_refused(end: Result<Published, QueryError>) -> bool {
    let taken = end.as_ref().is_ok_and(|published| published.report.acknowledged.len() == 1);
    let report = match &end {
        Ok(published) => &published.report,
        Err(error) => error.report().unwrap(),
    };
    let refused = report.failed.iter().any(|failure| failure.why == RequestError::Refused);
    assert!(taken != refused, "{end:?}");
    refused
}

fn config(change: impl FnOnce(&mut VerdictConfig)) -> VerdictConfig {
    let mut config = VerdictConfig::default();
    change(&mut config);
    config
}

#[test]
fn nothing_is_kept_or_acknowledged_before_it_is_accepted() {
    let mut pair = Pair::new(VerdictConfig::default());
    let put = pair.put("/my-app/a", "one");
    assert_eq!((pair.held().values, pair.stored()), (0, 0));
    let offer = pair.offer();
    assert_eq!(offer.from, pair.network.nodes[0].peer);
    assert!(matches!(&offer.item, Item::Value(record) if record.value == "one"), "{offer:?}");
    assert!(offer.held.is_none());
    offer.accept();
    assert_eq!(pair.network.finish(put).unwrap().report.acknowledged, [pair.network.nodes[1].peer]);
    assert_eq!((pair.held().values, pair.stored()), (1, 1));

    let put = pair.put("/my-app/a", "two");
    let offer = pair.offer();
    assert!(matches!(&offer.held, Some(Item::Value(record)) if record.value == "one"), "{offer:?}");
    offer.refuse();
    assert!(is_refused(pair.network.finish(put)));
    assert_eq!(pair.stored(), 1);
    let found = pair.network.finish(pair.sender.get("/my-app/a")).unwrap();
    assert_eq!(found.record.value, "one");
}

#[test]
fn announcements_wait_for_a_verdict_too() {
    let mut pair = Pair::new(VerdictConfig::default());
    for (refuse, held) in [(true, None), (false, None), (false, Some(()))] {
        let mut provide = pair.sender.provide("content");
        pair.wait(&mut provide);
        let offer = pair.offer();
        assert!(matches!(&offer.item, Item::Provider(record) if *record.provider.peer() == offer.from), "{offer:?}");
        assert_eq!(offer.held.as_ref().map(drop), held);
        if refuse {
            offer.refuse()
        } else {
            offer.accept()
        }
        let end = pair.network.finish(provide);
        assert_eq!(is_refused(end), refuse);
        assert_eq!(pair.held().providers, usize::from(!refuse));
    }
}

#[test]
fn without_a_verdict_in_time_the_default_holds() {
    for (otherwise, kept) in [(Verdict::Accept, 1), (Verdict::Refuse, 0)] {
        let mut pair = Pair::new(config(|config| config.otherwise = otherwise));
        let mut put = pair.put("/my-app/a", "one");
        let late = pair.offer();
        pair.network.advance(VerdictConfig::DEFAULT_TIME - Duration::from_millis(1));
        pair.wait(&mut put);
        pair.network.advance(Duration::from_millis(1));
        assert_eq!(is_refused(pair.network.finish(put)), kept == 0);
        late.decide(if kept == 0 { Verdict::Accept } else { Verdict::Refuse });
        pair.network.run();
        assert_eq!(pair.held().values, kept, "a late verdict changes nothing");
    }
}

#[test]
fn who_drops_an_offer_or_the_stream_leaves_it_to_the_default() {
    for (otherwise, kept) in [(Verdict::Accept, 2), (Verdict::Refuse, 0)] {
        let mut pair = Pair::new(config(|config| config.otherwise = otherwise));
        let put = pair.put("/my-app/a", "one");
        drop(pair.offer());
        assert_eq!(is_refused(pair.network.finish(put)), kept == 0);
        pair.offers = pair.network.finish(pair.network.handle(0).offers(VerdictConfig::default())).unwrap();
        let put = pair.sender.put("/my-app/b", "one").keep(false);
        assert_eq!(is_refused(pair.network.finish(put)), kept == 0);
        assert_eq!(pair.held().values, kept);
    }
}

#[test]
fn the_newest_stream_is_asked() {
    let mut pair = Pair::new(VerdictConfig::default());
    let newer = pair.network.finish(pair.network.handle(1).offers(VerdictConfig::default())).unwrap();
    pair.network.run();
    let mut older = std::mem::replace(&mut pair.offers, newer);
    assert!(matches!(poll_next(&mut older), Poll::Ready(None)), "the older one ends");
    let put = pair.put("/my-app/a", "one");
    pair.offer().accept();
    assert!(pair.network.finish(put).is_ok());
}

#[test]
fn no_more_records_wait_for_verdicts_than_may() {
    let two = NonZeroUsize::new(2).unwrap();
    let mut pair = Pair::new(config(|config| config.waiting = two));
    let first = pair.put("/my-app/a", "one");
    let _second = pair.put("/my-app/b", "one");
    let third = pair.sender.put("/my-app/c", "one").keep(false);
    assert!(is_refused(pair.network.finish(third)));
    pair.offer().accept();
    assert!(pair.network.finish(first).is_ok());
    let _fourth = pair.put("/my-app/d", "one");
    assert_eq!(pair.held().values, 1);
}

#[test]
fn the_own_records_need_no_verdict() {
    let mut pair = Pair::new(VerdictConfig::default());
    let asking = pair.network.handle(1);
    let put = asking.put("/my-app/own", "one");
    assert!(pair.network.finish(put).is_ok());
    assert!(poll_next(&mut pair.offers).is_pending());
    assert_eq!(pair.held().own, 1);
}

/// Prefers the longest value.
#[derive(Debug)]
struct Longest;

impl Validator for Longest {
    fn validate(&self, _: Timestamp, _: &RecordKey, _: &[u8]) -> Result<Valid, InvalidValue> {
        Ok(Valid::default())
    }

    fn select(&self, _: &RecordKey, candidates: &[Candidate<'_>]) -> usize {
        let longest = (0..candidates.len()).rev().max_by_key(|n| candidates[*n].value.len());
        longest.unwrap_or_default()
    }
}

#[test]
fn what_is_worse_than_what_is_held_is_refused_without_asking() {
    let mut dht = DhtConfig::default();
    dht.record.validator = Arc::new(Longest);
    let mut pair = Pair::with(VerdictConfig::default(), dht);
    let put = pair.put("/my-app/a", "longer");
    pair.offer().accept();
    assert!(!is_refused(pair.network.finish(put)));
    let worse = pair.sender.put("/my-app/a", "short").keep(false);
    assert!(is_refused(pair.network.finish(worse)));
    assert!(poll_next(&mut pair.offers).is_pending());
}
