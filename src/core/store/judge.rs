//! Decides inside the write whether a value may replace the stored one.
//!
//! Knows: the validator, sequence numbers and lifetimes. Must not know: how a store keeps values. Whether a value is
//! valid was checked before: a judge checks no signature, so it costs little inside a transaction.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::StoreError;
use crate::core::record::{Record, RecordKey};
use crate::core::time::Timestamp;
use crate::core::validate::{Candidate, InvalidValue, Valid, Validator};

/// Decides in the store, inside the write, whether a value replaces the stored one. Cloning it is cheap.
#[derive(Clone)]
pub struct Judge {
    validator: Arc<dyn Validator>,
    ttl: Duration,
    /// Whether the value comes from a peer that is no holder of it.
    stranger: bool,
    /// Whether the value must succeed the stored one, where its namespace has a compare-and-swap.
    swaps: bool,
}

/// The record that a store is to keep.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Judged {
    /// The record.
    pub record: Record,
    /// Whether the record replaces another value that this node itself had put.
    pub superseded: bool,
}

impl Judge {
    /// A judge with this validator, in a network where values are sent with a lifetime of `ttl`.
    pub fn new(validator: Arc<dyn Validator>, ttl: Duration) -> Judge {
        Judge { validator, ttl, stranger: false, swaps: true }
    }

    /// The same for a value from a peer that is no holder of it. Such a PUT does not show that the other holders have
    /// the value too, so the stored one keeps its `Record::received` and is replicated when it is due.
    pub(crate) fn of_stranger(self) -> Judge {
        Judge { stranger: true, ..self }
    }

    /// The same for a value that other nodes hold already: it need not succeed the one stored here.
    pub(crate) fn of_what_others_hold(self) -> Judge {
        Judge { swaps: false, ..self }
    }

    /// Lets every value replace every other, unless a higher sequence number was stored under the key: for tests, and
    /// for filling a store by hand.
    pub fn of_the_last() -> Judge {
        Judge::new(Arc::new(TheLast), Duration::MAX)
    }

    /// The record to keep when `new` arrives where `old` is stored, and where a value with sequence number `remembered`
    /// was stored before. An `old` that has expired at `now` does not count.
    ///
    /// # Errors
    ///
    /// [`StoreError::Old`] or [`StoreError::Conflict`]: `old` stays.
    pub fn decide(
        &self,
        now: Timestamp,
        old: Option<&Record>,
        remembered: Option<u64>,
        new: Record,
    ) -> Result<Judged, StoreError> {
        let Some(old) = old.filter(|old| !old.is_expired(now)) else {
            let older = new.sequence.is_some() && new.sequence < remembered;
            return if older { Err(StoreError::Old) } else { Ok(Judged { record: new, superseded: false }) };
        };
        if self.validator.same(&new.key, &old.value, &new.value) {
            let received = if self.stranger { old.received } else { new.received };
            return Ok(Judged { record: again(old, Record { received, ..new }), superseded: false });
        }
        if self.swaps && !self.validator.succeeds(&new.key, &old.value, &new.value) {
            return Err(StoreError::Conflict);
        }
        let candidates = [&new, old].map(|record| Candidate::of(record, now, self.ttl));
        if self.validator.select(&new.key, &candidates) != 0 {
            return Err(StoreError::Old);
        }
        let superseded = old.own && !new.own;
        let record = Record { superseded: superseded || old.superseded && !new.own, ..new };
        Ok(Judged { superseded, record })
    }

    /// Which of two valid values of one key is better, whatever ages and lifetimes they claim. Senders choose those
    /// freely, so a preference that depends on them counts as equal.
    pub(crate) fn compare(&self, one: &Record, other: &Record) -> Ordering {
        let date = one.received.max(other.received);
        if self.validator.same(&one.key, &one.value, &other.value) {
            return Ordering::Equal;
        }
        let [a, b] = [one, other].map(|record| Candidate::of(record, date, self.ttl));
        let prefers_one = |candidates: [Candidate<'_>; 2]| self.validator.select(&one.key, &candidates) == 0;
        let swapped = [Candidate { value: a.value, ..b }, Candidate { value: b.value, ..a }];
        match (prefers_one([a, b]), prefers_one(swapped)) {
            (true, true) => Ordering::Greater,
            (false, false) => Ordering::Less,
            _ => Ordering::Equal,
        }
    }
}

impl fmt::Debug for Judge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Judge").field("validator", &self.validator).finish_non_exhaustive()
    }
}

/// Merges the stored value with the same value sent again, perhaps in another encoding, of which the shorter one stays.
/// An own value stays as it is when a peer sends it back. So no peer can shorten a value's lifetime by sending it with
/// a short one, or set the publisher of a value that this node published.
fn again(old: &Record, new: Record) -> Record {
    if new.own {
        return Record { announced: old.announced.max(new.announced), ..new };
    }
    let put = old.put.max(new.put);
    if old.own {
        return Record { put, received: new.received, ..old.clone() };
    }
    let later = if old.expires > new.expires { old } else { &new };
    let (expires, claimed) = (later.expires, later.claimed);
    let value = if new.value.len() < old.value.len() { new.value } else { old.value.clone() };
    Record { expires, claimed, value, put, superseded: old.superseded, ..new }
}

/// Prefers the first candidate, which is the new one.
#[derive(Debug)]
struct TheLast;

impl Validator for TheLast {
    fn validate(&self, _: Timestamp, _: &RecordKey, _: &[u8]) -> Result<Valid, InvalidValue> {
        Ok(Valid::default())
    }

    fn select(&self, _: &RecordKey, _: &[Candidate<'_>]) -> usize {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::validate::AcceptAny;

    const NOW: Timestamp = Timestamp::from_secs(1_000_000_000);

    #[test]
    fn what_was_put_in_the_future_gives_way_to_whatever_has_a_date() {
        let judge = Judge::new(Arc::new(AcceptAny), Duration::from_secs(48 * 3600));
        let put = |value: &'static str, at: Timestamp, own: bool| {
            let mut record = Record::new("/a/b", value, at);
            (record.own, record.put) = (own, Some(at));
            record
        };
        let (hour, month) = (Duration::from_secs(3_600), Duration::from_secs(30 * 24 * 3_600));
        for own in [false, true] {
            let ahead = put("ahead", NOW + month, own);
            assert_eq!(ahead.age(NOW), None, "it is not sent as new");
            let judged = judge.decide(NOW, Some(&ahead), None, put("new", NOW - hour, false)).unwrap();
            assert_eq!((&judged.record.value[..], judged.superseded), (&b"new"[..], own));
            let back = judge.decide(NOW, Some(&judged.record), None, ahead);
            assert_eq!(back.map(drop), Err(StoreError::Old), "and it does not come back");
        }
    }
}
