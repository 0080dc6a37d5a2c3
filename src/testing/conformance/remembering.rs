//! Checks of longer-lived state: scans by kind, announcements, sequence numbers, peers.
//!
//! Knows: the contract. Must not know: any store.

use std::sync::Arc;
use std::time::Duration;

use super::fixtures::{NOW, all, everything, ok, pages, peer, present, provider, same_provider, value, whole};
use super::{Conformance, Driven};
use crate::core::Contact;
use crate::core::Timestamp;
use crate::core::store::{Done, Item, Judge, Op, OpOutput, Put, SEQUENCE_MEMORY, Scan, StoreError};
use crate::core::validate::{Candidate, InvalidValue, Valid, Validator};
use crate::core::{Record, RecordKey};

const LATER: Timestamp = Timestamp::from_secs(2_000);

impl Conformance<'_> {
    /// "Finds the items of this kind": every item of each kind, in order, on pages that end where they should.
    pub fn each_scan_finds_its_kind(&mut self) {
        let mut store = self.fresh();
        for n in 0..60_u64 {
            // Some places have a value and providers of both kinds, some only items that a scan skips.
            let name = format!("/a/{}", n % 20);
            match n % 4 {
                0 => ok(store.put(NOW, value(&name, &[n as u8], n % 8 == 0)), "a value is kept"),
                _ => ok(store.add_provider(NOW, provider(&name, n, LATER, n % 6 == 1)), "a provider record is kept"),
            }
        }
        let everything = all(&mut store);
        for what in [Scan::All, Scan::Values, Scan::Own] {
            let mut wanted: Vec<_> = everything.iter().filter(|item| what.wants(item)).map(whole).collect();
            assert!(!wanted.is_empty() && (what == Scan::All || wanted.len() < everything.len()));
            wanted.sort();
            for limit in [1, 2, 5, 1_000, usize::MAX] {
                let (found, lens) = pages(&mut store, what, limit);
                let places: Vec<_> = found.iter().map(|item| item.key().key()).collect();
                assert!(places.is_sorted(), "a scan of {what:?} goes by place");
                let mut found: Vec<_> = found.iter().map(whole).collect();
                found.sort();
                assert_eq!(found, wanted, "a scan of {what:?} finds each item of its kind once (limit {limit})");
                let full = lens.iter().rev().skip(1).all(|len| *len >= limit);
                assert!(full, "a page shorter than its limit is the last one: {lens:?} of {what:?} at limit {limit}");
            }
        }
    }

    /// The time at which an own record was announced is kept, until it is announced later.
    pub fn announcements_are_kept(&mut self) {
        let mut store = self.fresh();
        for announced in [None, Some(Timestamp::from_micros(999_000_001)), Some(LATER)] {
            let mut record = value("/a/b", b"v", true);
            record.announced = announced;
            ok(store.put(NOW, record.clone()), "an own value is kept");
            present(&mut store, NOW, &record);
            let mut provided = provider("content", 1, Timestamp::MAX, true);
            provided.announced = announced;
            ok(store.add_provider(NOW, provided.clone()), "an own provider record is kept");
            let found = ok(store.providers(NOW, &provided.key), "providers can be read");
            assert_eq!(found.len(), 1, "an announcement replaces the one before");
            same_provider(&found[0], &provided);
            for item in ok(store.scan(Scan::Own, None, 9), "own records can be found") {
                let kept = match &item {
                    Item::Value(record) => record.announced,
                    Item::Provider(record) => record.announced,
                };
                assert_eq!(kept, announced, "a scan says when an own record was announced");
            }
        }
    }

    /// A value with a lower sequence number than one that was stored before is refused, even after that one has
    /// expired, for [`SEQUENCE_MEMORY`] after its end.
    pub fn a_sequence_outlives_its_value(&mut self) {
        let mut store = self.fresh();
        let steps: [(Option<u64>, u64, u64, bool); 7] = [
            (Some(7), 1_000, 2_000, true),
            (Some(6), 2_000, 2_500, false),
            (Some(7), 2_100, 2_500, true),
            (Some(9), 2_600, 2_800, true),
            // A value without a number is not compared.
            (None, 2_800, 2_900, true),
            (Some(8), 2_900, 3_000, false),
            (Some(9), 2_900, 3_000, true),
        ];
        for (i, (sequence, received, expires, kept)) in steps.into_iter().enumerate() {
            let (received, expires) = (Timestamp::from_secs(received), Timestamp::from_secs(expires));
            // Every second value is met while the one before it lingers.
            if i % 2 == 0 {
                ok(store.expire(received, 9), "expiry goes on");
            }
            let put = store.put(received, numbered("/a/b", sequence, received, expires));
            assert_eq!(put, if kept { Ok(()) } else { Err(StoreError::Old) }, "step {i}: number {sequence:?}");
        }
        ok(store.expire(Timestamp::from_secs(3_000), 9), "expiry goes on");
        // The time of the last store does not count: it says nothing about the age of the copies at other nodes.
        let last = Timestamp::from_micros(2_999_999_999) + SEQUENCE_MEMORY;
        let put = store.put(last, numbered("/a/b", Some(8), last, Timestamp::MAX));
        assert_eq!(put, Err(StoreError::Old), "a number is remembered for as long as copies of its value live");
        let other = numbered("/a/c", Some(1), last, Timestamp::MAX);
        ok(store.put(last, other), "a number is that of one key");
    }

    /// "Removes the value under this key but remembers its sequence number, so that no older copy from another node
    /// replaces it".
    pub fn a_removed_value_leaves_its_sequence(&mut self) {
        let mut store = self.fresh();
        for (name, own, expires) in [("/a/own", true, None), ("/a/remote", false, Some(LATER))] {
            let mut record = value(name, b"v", own);
            (record.sequence, record.expires) = (Some(4), expires);
            ok(store.put(NOW, record.clone()), "a value is kept");
            ok(store.remove(&record.key), "a value is removed");
            let put = store.put(NOW, numbered(name, Some(3), NOW, LATER));
            assert_eq!(put, Err(StoreError::Old), "a removed value leaves its number ({name})");
            ok(store.put(NOW, numbered(name, Some(4), NOW, LATER)), "the very number comes back");
        }
    }

    /// A read returns what the judge decided, and the judge saw the stored value and the remembered sequence number.
    pub fn a_value_is_judged_inside_the_write(&mut self) {
        let mut store = self.fresh();
        let put = |store: &mut Driven<'_>, bytes: &[u8], own: bool| {
            let mut record = value("/a/b", bytes, own);
            record.expires = (!own).then_some(LATER);
            store.run(NOW, Op::Put(Box::new(Put::new(record, Judge::new(Arc::new(Greatest), Duration::ZERO)))))
        };
        let kept = |done: &Done, superseded| matches!(done, Ok(OpOutput::Kept { superseded: s }) if *s == superseded);
        assert!(kept(&put(&mut store, b"m", true), false), "nothing is kept before the first");
        assert_eq!(put(&mut store, b"a", false).map(drop), Err(StoreError::Old), "the judge prefers what is kept");
        assert_eq!(put(&mut store, b"x!", false).map(drop), Err(StoreError::Conflict), "the judge lets it not succeed");
        present(&mut store, NOW, &value("/a/b", b"m", true));
        assert!(kept(&put(&mut store, b"m", false), false), "the same value is no other");
        assert!(kept(&put(&mut store, b"z", false), true), "an own value is superseded by a better one");
        let found = ok(store.get(NOW, &RecordKey::from("/a/b")), "a value can be read");
        assert!(found.is_some_and(|record| !record.own && record.value[..] == *b"z"), "the better one is kept");
        // Several puts at once, of which each is judged after the one before it.
        let tickets: Vec<_> = [b"zb", b"za", b"zc"]
            .map(|bytes| {
                let mut record = value("/a/b", bytes, false);
                record.expires = Some(LATER);
                let judge = Judge::new(Arc::new(Greatest), Duration::ZERO);
                store.begin(NOW, Op::Put(Box::new(Put::new(record, judge))))
            })
            .into();
        let ends: Vec<_> = tickets.into_iter().map(|ticket| store.ended(ticket).is_ok()).collect();
        assert_eq!(ends, [true, false, true], "writes of one key take effect in the order in which they were begun");
    }

    /// "Notes that an own record was announced, or another's value stored again".
    pub fn a_touch_changes_what_was_read(&mut self) {
        let mut store = self.fresh();
        let (mine, theirs) = (value("/a/mine", b"v", true), value("/a/theirs", b"v", false));
        let provided = provider("content", 1, Timestamp::MAX, true);
        ok(store.put(NOW, mine.clone()), "a value is kept");
        ok(store.put(NOW, theirs.clone()), "a value is kept");
        ok(store.add_provider(NOW, provided.clone()), "a provider record is kept");
        let touch = |store: &mut Driven<'_>, item: Item, at: Timestamp| {
            ok(store.run(NOW, Op::Touch(item, at)), "a touch ends");
        };
        for at in [NOW, LATER] {
            touch(&mut store, Item::Value(mine.clone()), at);
            touch(&mut store, Item::Value(theirs.clone()), at);
            touch(&mut store, Item::Provider(provided.clone()), at);
        }
        let (mut mine, mut theirs) = (mine, theirs);
        (mine.announced, theirs.received) = (Some(LATER), LATER);
        present(&mut store, NOW, &mine);
        present(&mut store, NOW, &theirs);
        let found = ok(store.providers(NOW, &provided.key), "providers can be read");
        assert_eq!(found[0].announced, Some(LATER), "an announcement is noted");
        let before = everything(&mut store);
        for (key, bytes) in [("/a/mine", b"w"), ("/a/theirs", b"w"), ("/a/nothing", b"v")] {
            touch(&mut store, Item::Value(value(key, bytes, key == "/a/mine")), Timestamp::MAX);
        }
        touch(&mut store, Item::Provider(provider("content", 2, Timestamp::MAX, true)), Timestamp::MAX);
        assert_eq!(everything(&mut store), before, "a touch changes nothing but what was read");
    }

    /// "in place of those saved before"; a store that does not outlive the process may keep none.
    pub fn saved_peers_are_the_last_or_none(&mut self) {
        let mut store = self.fresh();
        assert!(ok(store.saved_peers(), "saved peers can be read").is_empty(), "a fresh store has no saved peers");
        let keeps = store.store().keeps_peers();
        for peers in [0..30, 10..12, 0..0, 5..6_u64] {
            let saved: Vec<_> = peers.map(|n| provider("", n, LATER, false).provider).collect();
            ok(store.save_peers(saved.clone()), "peers are saved");
            let found = sorted(ok(store.saved_peers(), "saved peers can be read"));
            let wanted = if keeps { sorted(saved) } else { Vec::new() };
            assert_eq!(
                found, wanted,
                "the peers saved last are there, and no others, if the store says that it keeps them"
            );
        }
        let bare = vec![Contact::new(peer(77), [])];
        ok(store.save_peers(bare.clone()), "peers without addresses are saved");
        let found = ok(store.saved_peers(), "saved peers can be read");
        assert_eq!(found, if keeps { bare } else { Vec::new() }, "a peer needs no address");
        assert!(all(&mut store).is_empty(), "saved peers are no items");
    }
}

fn numbered(key: &str, sequence: Option<u64>, received: Timestamp, expires: Timestamp) -> Record {
    let mut record = value(key, b"v", false);
    (record.sequence, record.received, record.expires) = (sequence, received, Some(expires));
    // No two are the same value.
    record.value = format!("{sequence:?} {received}").into();
    record
}

/// Prefers the greatest bytes, and does not let a value that ends with `!` replace another.
#[derive(Debug)]
struct Greatest;

impl Validator for Greatest {
    fn validate(&self, _: Timestamp, _: &RecordKey, _: &[u8]) -> Result<Valid, InvalidValue> {
        Ok(Valid::default())
    }

    fn select(&self, _: &RecordKey, values: &[Candidate<'_>]) -> usize {
        (0..values.len()).max_by_key(|i| values[*i].value).unwrap_or(0)
    }

    fn succeeds(&self, _: &RecordKey, _: &[u8], new: &[u8]) -> bool {
        !new.ends_with(b"!")
    }
}

pub(super) fn sorted(mut peers: Vec<std::sync::Arc<Contact>>) -> Vec<std::sync::Arc<Contact>> {
    peers.sort_by_key(|contact| *contact.peer());
    peers
}
