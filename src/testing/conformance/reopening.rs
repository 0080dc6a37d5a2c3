//! Checks of a store that outlives its process: acknowledged writes are there when it is opened again.
//!
//! Knows: the contract. Must not know: any store, or how one is closed.

use super::fixtures::{NOW, all, everything, ok, present, provider, value};
use super::remembering::sorted;
use super::{Conformance, Driven};
use crate::core::Timestamp;
use crate::core::store::{Judge, Op, Put, SEQUENCE_MEMORY, StoreError};
use crate::core::{Record, RecordKey};

const LATER: Timestamp = Timestamp::from_secs(2_000);

impl Conformance<'_> {
    /// "as durably as this store can": values, provider records and own ones, with all their fields, and neither
    /// removed nor replaced records.
    pub fn reopening_keeps_every_record(&mut self) {
        let mut store = self.fresh();
        fill(&mut store);
        let before = (everything(&mut store), store.usage(), store.next_expiry());
        for _ in 0..2 {
            let Some(reopened) = self.reopened(store) else { return };
            store = reopened;
            let after = (everything(&mut store), store.usage(), store.next_expiry());
            assert_eq!(after, before, "a reopened store has every record that was acknowledged, and no other");
        }
        let found = ok(store.providers(NOW, &RecordKey::from("content")), "providers can be read");
        assert_eq!(found.len(), 7, "a reopened store finds the providers of a key");
        for n in (0..20).filter(|n| n % 5 != 1) {
            let mut record = published(n, n % 3 == 0);
            record.superseded = n % 2 == 0 && !record.own;
            present(&mut store, NOW, &record);
        }
        let fresh = value("/a/new", b"v", false);
        ok(store.put(NOW, fresh.clone()), "a reopened store keeps more");
        present(&mut store, NOW, &fresh);
        while ok(store.expire(Timestamp::from_secs(9_000), 7), "expiry goes on") == 7 {}
        assert!(
            all(&mut store).iter().all(|item| item.is_own() || item.key() == &fresh.key),
            "it removes expired records"
        );
        let left = everything(&mut store);
        let Some(mut store) = self.reopened(store) else { return };
        assert_eq!(everything(&mut store), left, "what expired does not come back");
    }

    /// Sequence numbers of values that expired, that linger, and that were removed.
    pub fn reopening_keeps_sequences(&mut self) {
        let mut store = self.fresh();
        for (n, name) in ["/s/over", "/s/removed", "/s/lingers"].into_iter().enumerate() {
            let mut record = value(name, b"v", false);
            (record.sequence, record.expires) = (Some(7 + n as u64), Some(LATER));
            if n == 2 {
                while ok(store.expire(LATER, 7), "expiry goes on") == 7 {}
            }
            ok(store.put(NOW, record.clone()), "a value is kept");
            if n == 1 {
                ok(store.remove(&record.key), "a value is removed");
            }
        }
        let Some(mut store) = self.reopened(store) else { return };
        for (n, name) in ["/s/over", "/s/removed", "/s/lingers"].into_iter().enumerate() {
            for (number, kept) in [(6, false), (7, true)] {
                let mut record = value(name, b"again", false);
                (record.sequence, record.expires) = (Some(number + n as u64), Some(LATER + SEQUENCE_MEMORY));
                let put = store.put(LATER, record);
                assert_eq!(put.is_ok(), kept, "a reopened store remembers sequence numbers ({name}): {put:?}");
                assert!(kept || put == Err(StoreError::Old), "an older value is refused as old: {put:?}");
            }
        }
    }

    /// The peers that were saved last, if the store says that it keeps them.
    pub fn reopening_keeps_peers(&mut self) {
        let mut store = self.fresh();
        if !store.store().keeps_peers() {
            return;
        }
        for peers in [0..50, 30..60_u64] {
            let saved: Vec<_> = peers.map(|n| provider("", n, LATER, false).provider).collect();
            ok(store.save_peers(saved), "peers are saved");
        }
        let Some(mut store) = self.reopened(store) else { return };
        let wanted: Vec<_> = (30..60).map(|n| provider("", n, LATER, false).provider).collect();
        let found = sorted(ok(store.saved_peers(), "saved peers can be read"));
        assert_eq!(found, sorted(wanted), "a reopened store has the peers that were saved last");
    }
}

fn published(n: u64, own: bool) -> Record {
    let mut record = value(&format!("/a/{n}"), &[n as u8; 100], own);
    record.sequence = Some(n);
    record.publisher = Some(super::fixtures::peer(n));
    record.announced = own.then_some(Timestamp::from_micros(n + 1));
    record.expires = (!own).then_some(Timestamp::from_secs(5_000 + n));
    record
}

/// Writes of all kinds, several pending at once, each of them acknowledged.
fn fill(store: &mut Driven<'_>) {
    // The second round replaces the first; the writes of one round are pending at the same time.
    for round in 0..2 {
        let mut writes = Vec::new();
        for n in 0..20 {
            let old = value(&format!("/a/{n}"), b"old", n % 2 == 0);
            let record = if round == 0 { old } else { published(n, n % 3 == 0) };
            let put = Put::new(record, Judge::of_the_last());
            writes.push(store.begin(NOW, Op::Put(Box::new(put))));
        }
        for write in writes {
            ok(store.ended(write), "an overlapping write ends");
        }
    }
    for n in (0..20).filter(|n| n % 5 == 1) {
        ok(store.remove(&RecordKey::from(format!("/a/{n}"))), "a value is removed");
    }
    for n in 0..8 {
        let mut record = provider("content", n, Timestamp::from_secs(6_000 + n), false);
        record.addrs_expire = Timestamp::from_secs(5_500);
        ok(store.add_provider(NOW, record), "a provider record is kept");
    }
    ok(store.remove_provider(&RecordKey::from("content"), &super::fixtures::peer(4)), "a record is removed");
    for n in 100..105 {
        let mut record = provider(format!("mine {n}"), 99, Timestamp::MAX, true);
        record.announced = (n % 2 == 0).then_some(Timestamp::from_secs(n));
        ok(store.add_provider(NOW, record), "an own provider record is kept");
    }
}
