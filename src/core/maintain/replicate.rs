//! Keeps the values of others alive for as long as they are to live.
//!
//! Knows: when a value was last stored here. Must not know: how peers are found or reached.
//!
//! A value for which no store came during an interval is stored again by whichever of its holders notices first. The
//! hand of each goes round the keyspace at its own time, so of k holders one acts and the others see its store. It
//! counts its own store as come when it noticed, the others when it arrives, which is later: so the next time it is the
//! first again, and nobody else acts between.

use std::time::Duration;

use rand_chacha::ChaCha8Rng;

use super::sweep::Sweep;
use crate::core::errand::{Errand, To};
use crate::core::key::Key;
use crate::core::store::Item;
use crate::core::time::{NodeTime, Timestamp};

#[derive(Debug)]
pub(crate) struct Replicate {
    interval: Duration,
    pub(super) sweep: Option<Sweep>,
}

impl Replicate {
    pub(crate) fn new(now: Timestamp, interval: Option<Duration>, rng: &mut ChaCha8Rng) -> Replicate {
        let sweep = interval.map(|interval| Sweep::new(now, interval, rng));
        Replicate { interval: interval.unwrap_or(Duration::MAX), sweep }
    }

    /// The page; `None` if it could not be read. `is_close` tells whether this node is one of the k closest to a place.
    pub(crate) fn on_page(
        &mut self,
        time: &NodeTime,
        depth: u32,
        page: Option<Vec<Item>>,
        is_close: impl Fn(&Key) -> bool,
    ) -> Vec<Errand> {
        let Some(sweep) = &mut self.sweep else { return Vec::new() };
        let mut page = sweep.take_page(time.now, page, depth);
        page.retain(|item| self.is_due(time.date, item) && is_close(&item.key().key()));
        page.into_iter().map(|item| Errand { item, to: To::Closest }).collect()
    }

    /// Whether no store came for an interval, and the value has more than another one to live.
    fn is_due(&self, date: Timestamp, item: &Item) -> bool {
        let Item::Value(record) = item else { return false };
        let outlives = record.expires.is_none_or(|at| at > date + self.interval);
        // A time in the future is none: the host's clock was wrong then.
        let none_came = record.received + self.interval <= date || record.received > date;
        !record.own && none_came && outlives
    }
}
