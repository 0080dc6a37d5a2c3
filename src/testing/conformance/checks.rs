//! The checks themselves, one sentence of the contract each.
//!
//! Knows: the contract. Must not know: any store.
#![expect(clippy::panic, reason = "a test kit: a broken contract is reported by a panic that names it")]

use std::collections::BTreeSet;

use super::Conformance;
use super::fixtures::{
    NOW, absent, all, kind, ok, pages, peer, present, provider, provider_ids, refused, same_provider, value,
};
use crate::core::Timestamp;
use crate::core::config::{MAX_KEY_LEN, MAX_PROVIDER_KEY_LEN};
use crate::core::store::{Judge, Op, OpOutput, Put, Scan, StoreError};
use crate::core::{Record, RecordKey};

const LATER: Timestamp = Timestamp::from_secs(2_000);
const JUST_BEFORE: Timestamp = Timestamp::from_micros(2_000_000_000 - 1);

type Check = for<'c, 'a> fn(&'c mut Conformance<'a>);

impl Conformance<'_> {
    /// All checks with their names, to run them one by one.
    pub const CHECKS: &'static [(&'static str, Check)] = &[
        ("a_value_is_read_back_whole", |c| c.a_value_is_read_back_whole()),
        ("a_value_is_replaced", |c| c.a_value_is_replaced()),
        ("a_value_is_removed", |c| c.a_value_is_removed()),
        ("a_provider_is_read_back_whole", |c| c.a_provider_is_read_back_whole()),
        ("a_provider_is_replaced", |c| c.a_provider_is_replaced()),
        ("a_provider_is_removed", |c| c.a_provider_is_removed()),
        ("a_read_ends_at_the_expiry", |c| c.a_read_ends_at_the_expiry()),
        ("addresses_end_before_their_record", |c| c.addresses_end_before_their_record()),
        ("expire_takes_what_is_over", |c| c.expire_takes_what_is_over()),
        ("expire_ends_what_lasts_too_long", |c| c.expire_ends_what_lasts_too_long()),
        ("next_expiry_is_the_first", |c| c.next_expiry_is_the_first()),
        ("a_scan_goes_by_place", |c| c.a_scan_goes_by_place()),
        ("a_page_never_splits_a_place", |c| c.a_page_never_splits_a_place()),
        ("keys_are_any_bytes", |c| c.keys_are_any_bytes()),
        ("too_large_changes_nothing", |c| c.too_large_changes_nothing()),
        ("own_values_have_room_of_their_own", |c| c.own_values_have_room_of_their_own()),
        ("own_providers_have_room_of_their_own", |c| c.own_providers_have_room_of_their_own()),
        ("a_full_store_stays_sound", |c| c.a_full_store_stays_sound()),
        ("late_values_have_their_chance", |c| c.late_values_have_their_chance()),
        ("late_keys_have_their_chance", |c| c.late_keys_have_their_chance()),
        ("late_providers_of_a_key_have_their_chance", |c| c.late_providers_of_a_key_have_their_chance()),
        ("late_addresses_have_their_chance", |c| c.late_addresses_have_their_chance()),
        ("a_flood_leaves_what_others_sent", |c| c.a_flood_leaves_what_others_sent()),
        ("usage_counts_own_apart", |c| c.usage_counts_own_apart()),
        ("each_scan_finds_its_kind", |c| c.each_scan_finds_its_kind()),
        ("announcements_are_kept", |c| c.announcements_are_kept()),
        ("a_sequence_outlives_its_value", |c| c.a_sequence_outlives_its_value()),
        ("a_removed_value_leaves_its_sequence", |c| c.a_removed_value_leaves_its_sequence()),
        ("a_value_is_judged_inside_the_write", |c| c.a_value_is_judged_inside_the_write()),
        ("a_touch_changes_what_was_read", |c| c.a_touch_changes_what_was_read()),
        ("saved_peers_are_the_last_or_none", |c| c.saved_peers_are_the_last_or_none()),
        ("reopening_keeps_every_record", |c| c.reopening_keeps_every_record()),
        ("reopening_keeps_sequences", |c| c.reopening_keeps_sequences()),
        ("reopening_keeps_peers", |c| c.reopening_keeps_peers()),
        ("operations_overlap", |c| c.operations_overlap()),
        ("a_pending_operation_wakes", |c| c.a_pending_operation_wakes()),
    ];

    /// "A write that ended without an error is read back by every later read": all fields of a value.
    pub fn a_value_is_read_back_whole(&mut self) {
        let mut store = self.fresh();
        absent(&mut store, NOW, "/a/missing");
        for own in [false, true] {
            let mut record = value(if own { "/a/own" } else { "/a/remote" }, b"\0\xffvalue", own);
            record.publisher = Some(peer(7));
            record.sequence = Some(u64::MAX - 1);
            record.expires = Some(LATER);
            record.received = Timestamp::from_micros(999_999_999);
            record.put = own.then_some(Timestamp::from_micros(999_999_998));
            record.superseded = !own;
            ok(store.put(NOW, record.clone()), "a value is kept");
            let key = record.key.clone();
            for _ in 0..2 {
                let read = ok(store.get(NOW, &key), "a kept value can be read");
                assert_eq!(read, Some(record.clone()), "a value that was kept is read back whole, by every read");
            }
        }
    }

    /// "until it is replaced": the later value stays, whichever peer it is from.
    pub fn a_value_is_replaced(&mut self) {
        let mut store = self.fresh();
        for (bytes, own) in [("first", false), ("second", true), ("", false), ("fourth", false)] {
            let mut record = value("/a/b", bytes.as_bytes(), own);
            record.expires = (!own).then_some(LATER);
            ok(store.put(NOW, record.clone()), "a value is replaced");
            // The judge notes that the value replaces an own one.
            record.superseded = matches!(bytes, "" | "fourth");
            present(&mut store, NOW, &record);
            assert_eq!(all(&mut store).len(), 1, "a value replaces the one under the same key");
            let usage = store.usage();
            assert_eq!((usage.values, usage.own), if own { (0, 1) } else { (1, 0) }, "usage follows a replacement");
            assert_eq!(store.next_expiry(), record.expires, "the expiry of a replaced value is void");
        }
    }

    /// "Removes the value under this key: `Found::Nothing`, also if there is none."
    pub fn a_value_is_removed(&mut self) {
        let mut store = self.fresh();
        let (gone, stays) = (value("/a/gone", b"1", false), value("/a/stays", b"2", true));
        ok(store.put(NOW, gone.clone()), "a value is kept");
        ok(store.put(NOW, stays.clone()), "a value is kept");
        ok(store.remove(&gone.key), "a value is removed");
        ok(store.remove(&gone.key), "to remove what is not there is no error");
        absent(&mut store, NOW, "/a/gone");
        present(&mut store, NOW, &stays);
        ok(store.remove(&stays.key), "an own value is removed");
        assert_eq!(store.usage(), Default::default(), "nothing is left after the last removal");
    }

    /// "A write that ended without an error is read back by every later read": all fields of a provider record.
    pub fn a_provider_is_read_back_whole(&mut self) {
        let mut store = self.fresh();
        let key = RecordKey::from("content");
        assert!(ok(store.providers(NOW, &key), "an unknown key has no providers").is_empty());
        for n in 0..8 {
            ok(store.add_provider(NOW, provider("content", n, LATER, n == 3)), "a provider record is kept");
        }
        for _ in 0..2 {
            let mut found = ok(store.providers(NOW, &key), "kept providers can be read");
            found.sort_by_key(|record| *record.provider.peer());
            let mut wanted: Vec<_> = (0..8).map(|n| provider("content", n, LATER, n == 3)).collect();
            wanted.sort_by_key(|record| *record.provider.peer());
            assert_eq!(found.len(), 8, "each provider of a key is read back once");
            for (found, wanted) in found.iter().zip(&wanted) {
                same_provider(found, wanted);
            }
        }
        assert!(ok(store.get(NOW, &key), "a provider record is no value").is_none());
    }

    /// "in place of an earlier one of the same key and provider"
    pub fn a_provider_is_replaced(&mut self) {
        let mut store = self.fresh();
        ok(store.add_provider(NOW, provider("content", 1, LATER, false)), "a provider record is kept");
        for expires in [LATER + std::time::Duration::from_secs(5), JUST_BEFORE] {
            let record = provider("content", 1, expires, false);
            ok(store.add_provider(NOW, record.clone()), "a provider record is replaced");
            let found = ok(store.providers(NOW, &record.key), "replaced providers can be read");
            assert_eq!(found.len(), 1, "a provider record replaces the one of the same key and provider");
            same_provider(&found[0], &record);
            assert_eq!(store.usage().providers, 1, "usage follows a replacement");
            assert_eq!(store.next_expiry(), Some(expires), "the expiry of a replaced record is void");
        }
    }

    /// "Removes the record that this peer provides this key: `Found::Nothing`, also if there is none."
    pub fn a_provider_is_removed(&mut self) {
        let mut store = self.fresh();
        for (key, n) in [("content", 1), ("content", 2), ("other", 1)] {
            ok(store.add_provider(NOW, provider(key, n, LATER, n == 2)), "a provider record is kept");
        }
        let key = RecordKey::from("content");
        ok(store.remove_provider(&key, &peer(1)), "a provider record is removed");
        ok(store.remove_provider(&key, &peer(1)), "to remove what is not there is no error");
        ok(store.remove_provider(&RecordKey::from("unheard of"), &peer(1)), "to remove from nothing is no error");
        assert_eq!(provider_ids(&mut store, NOW, "content"), [peer(2)], "only the named provider is removed");
        assert_eq!(provider_ids(&mut store, NOW, "other"), [peer(1)], "only the named key is touched");
    }

    /// "no read with a `now` at or after their expiry returns them", to the microsecond.
    pub fn a_read_ends_at_the_expiry(&mut self) {
        for own in [false, true] {
            let mut store = self.fresh();
            let mut record = value("/a/b", b"v", own);
            record.expires = Some(LATER);
            ok(store.put(NOW, record.clone()), "a value is kept");
            ok(store.add_provider(NOW, provider("content", 1, LATER, own)), "a provider record is kept");
            present(&mut store, JUST_BEFORE, &record);
            assert_eq!(provider_ids(&mut store, JUST_BEFORE, "content"), [peer(1)], "a record lives to its expiry");
            absent(&mut store, LATER, "/a/b");
            assert!(provider_ids(&mut store, LATER, "content").is_empty(), "an expired provider is not returned");
        }
        let mut store = self.fresh();
        let own = value("/a/b", b"v", true);
        ok(store.put(NOW, own.clone()), "a value is kept");
        present(&mut store, Timestamp::MAX, &own);
    }

    /// "addresses past their own expiry are left out", but the provider is not.
    pub fn addresses_end_before_their_record(&mut self) {
        let mut store = self.fresh();
        let mut record = provider("content", 1, Timestamp::from_secs(9_000), false);
        record.addrs_expire = LATER;
        ok(store.add_provider(NOW, record.clone()), "a provider record is kept");
        let before = ok(store.providers(JUST_BEFORE, &record.key), "providers can be read");
        assert!(before.iter().any(|found| found.provider.has_addrs()), "addresses live to their expiry");
        let after = ok(store.providers(LATER, &record.key), "providers can be read");
        assert_eq!(after.len(), 1, "a provider outlives its addresses");
        assert!(!after[0].provider.has_addrs(), "addresses past their own expiry are left out");
        record.addrs_expire = Timestamp::from_secs(3_000);
        ok(store.add_provider(LATER, record.clone()), "a provider record is replaced");
        let renewed = ok(store.providers(LATER, &record.key), "providers can be read");
        assert!(renewed[0].provider.has_addrs(), "a new announcement brings its addresses back");
    }

    /// "Removes up to `limit` expired items", and "fewer than its limit means that none is left".
    pub fn expire_takes_what_is_over(&mut self) {
        let mut store = self.fresh();
        for n in 0..6_u64 {
            let expires = Timestamp::from_secs(2_000 + n);
            let mut record = value(&format!("/a/{n}"), b"v", n == 2);
            record.expires = Some(expires);
            ok(store.put(NOW, record), "a value is kept");
            ok(store.add_provider(NOW, provider("content", n, expires, n == 2)), "a provider record is kept");
        }
        assert_eq!(store.expire(JUST_BEFORE, 100), Ok(0), "nothing expires before its time");
        assert_eq!(all(&mut store).len(), 12, "nothing expires before its time");
        let now = Timestamp::from_secs(2_003);
        assert_eq!(store.expire(now, 0), Ok(0), "a limit of zero takes nothing");
        // Four values and four providers have expired; a store may have removed some of them by itself.
        let mut taken = 0;
        loop {
            let count = ok(store.expire(now, 3), "expiry goes on");
            assert!(count <= 3, "expire takes up to its limit");
            taken += count;
            if count < 3 {
                break;
            }
        }
        assert!(taken <= 8, "expire counts each item once");
        assert_eq!(all(&mut store).len(), 4, "fewer than the limit means that none is left, and others stay");
        let usage = store.usage();
        assert_eq!((usage.values, usage.providers, usage.own), (2, 2, 0), "expiry takes own and remote ones");
        assert_eq!(provider_ids(&mut store, now, "content").len(), 2, "what is not over stays readable");
    }

    /// "Before that, items of other peers that expire after `latest` expire at `latest` from now on."
    pub fn expire_ends_what_lasts_too_long(&mut self) {
        let mut store = self.fresh();
        for (n, own) in [(0, false), (1, false), (2, true)] {
            let expires = Timestamp::from_secs(9_000 + n);
            let mut record = value(&format!("/a/{n}"), b"v", own);
            record.expires = Some(expires);
            ok(store.put(NOW, record), "a value is kept");
            ok(store.add_provider(NOW, provider("content", n, expires, own)), "a provider record is kept");
        }
        // Items that are made to expire earlier count for the limit too.
        while ok(store.expire_until(NOW, 1, LATER), "expiry goes on") == 1 {}
        assert_eq!(all(&mut store).len(), 6, "what is to expire later stays until then");
        assert_eq!(store.next_expiry(), Some(LATER), "what other peers sent expires at `latest`");
        for (now, left) in [(JUST_BEFORE, 3), (LATER, 1)] {
            let values = (0..3).filter(|n| ok(store.get(now, &RecordKey::from(format!("/a/{n}"))), "a read").is_some());
            assert_eq!(values.count(), left, "only this node's own values last longer than `latest`");
            let providers = provider_ids(&mut store, now, "content").len();
            assert_eq!(providers, left, "only this node's own provider records last longer than `latest`");
        }
    }

    /// "When the next item expires; `None` if no item expires."
    pub fn next_expiry_is_the_first(&mut self) {
        let mut store = self.fresh();
        assert_eq!(store.next_expiry(), None, "an empty store has no next expiry");
        ok(store.put(NOW, value("/a/own", b"v", true)), "a value is kept");
        assert_eq!(store.next_expiry(), None, "what lives for ever has no next expiry");
        ok(store.add_provider(NOW, provider("content", 1, Timestamp::from_secs(5_000), false)), "a record is kept");
        assert_eq!(store.next_expiry(), Some(Timestamp::from_secs(5_000)), "a provider's expiry is seen");
        let mut record = value("/a/b", b"v", false);
        record.expires = Some(Timestamp::from_secs(4_000));
        ok(store.put(NOW, record.clone()), "a value is kept");
        assert_eq!(store.next_expiry(), Some(Timestamp::from_secs(4_000)), "the earlier of two expiries is next");
        ok(store.add_provider(NOW, provider("content", 2, Timestamp::from_secs(3_000), false)), "a record is kept");
        assert_eq!(store.next_expiry(), Some(Timestamp::from_secs(3_000)), "the earliest of one key is next");
        ok(store.remove_provider(&RecordKey::from("content"), &peer(2)), "a record is removed");
        ok(store.remove(&record.key), "a value is removed");
        assert_eq!(store.next_expiry(), Some(Timestamp::from_secs(5_000)), "what is removed expires no more");
        assert_eq!(store.expire(Timestamp::from_secs(5_000), 9), Ok(1), "an item has expired at its expiry");
        assert_eq!(store.next_expiry(), None, "what expired expires no more");
    }

    /// "in order of their place in the keyspace, from just after `after`"; values and providers in one order.
    pub fn a_scan_goes_by_place(&mut self) {
        let mut store = self.fresh();
        let mut wanted = BTreeSet::new();
        for n in 0..40 {
            let name = format!("/a/{n}");
            wanted.insert((RecordKey::from(name.as_str()).key(), n % 2));
            if n % 2 == 0 {
                ok(store.put(NOW, value(&name, b"v", n % 3 == 0)), "a value is kept");
            } else {
                ok(store.add_provider(NOW, provider(&name, n, LATER, n % 3 == 0)), "a provider record is kept");
            }
        }
        for limit in [1, 7, 40, 1_000, usize::MAX] {
            let (found, pages) = pages(&mut store, Scan::All, limit);
            let places: Vec<_> = found.iter().map(|item| (item.key().key(), kind(item))).collect();
            assert!(places.iter().eq(&wanted), "a scan finds each item once, in order of the keyspace (limit {limit})");
            assert!(pages.iter().all(|len| *len <= limit), "a page without shared places keeps to its limit ({limit})");
        }
        assert!(
            ok(store.scan(Scan::All, None, 0), "a page of none is possible").is_empty(),
            "a limit of zero finds nothing"
        );
        let last = wanted.last().map(|(place, _)| *place);
        assert!(
            ok(store.scan(Scan::All, last.as_ref(), 9), "a scan from the end").is_empty(),
            "nothing comes after the last"
        );
    }

    /// "Several items can lie at one place; a page never splits them".
    pub fn a_page_never_splits_a_place(&mut self) {
        let mut store = self.fresh();
        for key in ["one", "two", "three", "four"] {
            ok(store.put(NOW, value(key, b"v", false)), "a value is kept");
            for n in 0..5 {
                ok(store.add_provider(NOW, provider(key, n, LATER, n == 1)), "a provider record is kept");
            }
        }
        for limit in [1, 2, 6, 7, 12, 100] {
            let (found, pages) = pages(&mut store, Scan::All, limit);
            assert_eq!(found.len(), 24, "pages of {limit} find everything, and nothing twice");
            assert!(pages.iter().all(|len| len % 6 == 0), "a page never splits a place: {pages:?} at limit {limit}");
            let most = limit.div_ceil(6) * 6;
            assert!(pages.iter().all(|len| *len <= most), "a page ends with the place that fills it: {pages:?}");
        }
    }

    /// "Keys are any bytes": none, zeros, prefixes of each other, and as long as allowed.
    pub fn keys_are_any_bytes(&mut self) {
        let mut store = self.fresh();
        let some: &[&[u8]] =
            &[b"", b"\0", b"\0\0", b"\xff", b"\xff\0", b"/", b"//", b"/a/b", b"/a/b/", b"/a/b/\xf0\x9f"];
        let long = |len: usize| (0..len).map(|i| i as u8).collect::<Vec<u8>>();
        let values: Vec<_> = some.iter().map(|bytes| bytes.to_vec()).chain([long(MAX_KEY_LEN)]).collect();
        let provided: Vec<_> = some.iter().map(|bytes| bytes.to_vec()).chain([long(MAX_PROVIDER_KEY_LEN)]).collect();
        let mut records = Vec::new();
        for (i, key) in values.iter().enumerate() {
            let record = Record::new(key.clone(), vec![i as u8], NOW);
            ok(store.put(NOW, record.clone()), "keys are any bytes");
            records.push(record);
        }
        for (i, key) in provided.iter().enumerate() {
            ok(store.add_provider(NOW, provider(key.as_slice(), i as u64, LATER, false)), "keys are any bytes");
        }
        for record in &records {
            present(&mut store, NOW, record);
        }
        for (i, key) in provided.iter().enumerate() {
            assert_eq!(provider_ids(&mut store, NOW, key.as_slice()), [peer(i as u64)], "keys are any bytes: {key:?}");
        }
        let kept: BTreeSet<_> = all(&mut store).iter().map(|item| (item.key().clone(), kind(item))).collect();
        assert_eq!(kept.len(), values.len() + provided.len(), "each key is one of its own");
    }

    /// "A write that failed changed nothing": records that are larger than the store takes.
    pub fn too_large_changes_nothing(&mut self) {
        for own in [false, true] {
            let mut store = self.fresh();
            let small = value("/a/b", b"small", own);
            ok(store.put(NOW, small.clone()), "a value is kept");
            let mut len = 1024;
            // A store without a bound for values is within the contract: it must only not panic.
            while len <= 16 * 1024 * 1024 {
                let large = value("/a/b", &vec![0xaa; len], own);
                match store.put(NOW, large.clone()) {
                    Ok(()) => present(&mut store, NOW, &large),
                    Err(error) => {
                        assert!(
                            matches!(error, StoreError::TooLarge | StoreError::Full),
                            "{error} is no answer to size"
                        );
                        break;
                    }
                }
                ok(store.put(NOW, small.clone()), "a smaller value replaces a larger one");
                len *= 4;
            }
            present(&mut store, NOW, &small);
            let key = vec![7; 1024 * 1024];
            let long = Record::new(key.clone(), b"v".to_vec(), NOW);
            if store.put(NOW, long.clone()).is_err() {
                assert!(
                    ok(store.get(NOW, &long.key), "any key can be asked for").is_none(),
                    "a failed put changes nothing"
                );
                ok(store.remove(&long.key), "any key can be removed");
            }
            let provided = provider(key.as_slice(), 1, LATER, own);
            if store.add_provider(NOW, provided.clone()).is_err() {
                assert!(ok(store.providers(NOW, &provided.key), "any key can be asked for").is_empty());
                ok(store.remove_provider(&provided.key, &peer(1)), "any key can be removed");
            }
        }
    }

    /// "Own records do not count against the quotas of remote ones and are never evicted for them": values.
    pub fn own_values_have_room_of_their_own(&mut self) {
        let flood = self.flood;
        let mut store = self.fresh();
        let before = value("/own/before", b"mine", true);
        ok(store.put(NOW, before.clone()), "an own value is kept");
        for n in 0..flood {
            let mut record = value(&format!("/remote/{n}"), b"theirs", false);
            record.expires = Some(LATER);
            if refused(store.put(NOW, record)) {
                break;
            }
        }
        let after = value("/own/after", b"mine", true);
        ok(store.put(NOW, after.clone()), "an own value is kept however many remote ones there are");
        present(&mut store, NOW, &before);
        present(&mut store, NOW, &after);
        assert_eq!(store.usage().own, 2, "own values are never evicted for remote ones");
    }

    /// The same for provider records: with a key and a store full of remote ones.
    pub fn own_providers_have_room_of_their_own(&mut self) {
        let flood = self.flood;
        let mut store = self.fresh();
        ok(store.add_provider(NOW, provider("before", 0, LATER, true)), "an own provider record is kept");
        for n in 1..=flood.min(100) as u64 {
            refused(store.add_provider(NOW, provider("before", n, LATER, false)));
            refused(store.add_provider(NOW, provider("after", n, LATER, false)));
        }
        for n in 0..flood {
            if refused(store.add_provider(NOW, provider(format!("remote {n}"), n as u64, LATER, false))) {
                break;
            }
        }
        for key in ["after", "fresh"] {
            ok(store.add_provider(NOW, provider(key, 0, LATER, true)), "an own record is kept whatever remote ones do");
        }
        for key in ["before", "after", "fresh"] {
            let found = ok(store.providers(NOW, &RecordKey::from(key)), "providers can be read");
            let own: Vec<_> = found.iter().filter(|record| record.own).collect();
            assert_eq!(own.len(), 1, "own provider records are never evicted for remote ones: {key}");
            same_provider(own[0], &provider(key, 0, LATER, true));
        }
        assert_eq!(store.usage().own, 3, "own provider records are counted apart");
    }

    /// "A write that failed changed nothing", "Remote records may be evicted for other remote ones", and expiry makes
    /// room.
    pub fn a_full_store_stays_sound(&mut self) {
        let flood = self.flood;
        let mut store = self.fresh();
        let record = |n: usize| {
            let mut record = value(&format!("/remote/{n}"), b"theirs", false);
            record.expires = Some(LATER);
            record
        };
        for n in 0..flood {
            let before = store.usage().values;
            if !refused(store.put(NOW, record(n))) {
                present(&mut store, NOW, &record(n));
                continue;
            }
            assert_eq!(store.usage().values, before, "a write that failed changed nothing");
            absent(&mut store, NOW, &format!("/remote/{n}"));
            break;
        }
        let kept = all(&mut store);
        assert_eq!(store.usage().values, kept.len(), "usage counts each value that is kept");
        for item in &kept {
            let found = ok(store.get(NOW, item.key()), "a value can be read");
            assert!(found.is_some(), "what a scan finds can be read");
        }
        if let Some(some) = kept.first() {
            let again = Record::new(some.key().clone(), b"others".to_vec(), NOW);
            ok(store.put(NOW, again), "a value of the same size can be replaced in a full store");
            assert_eq!(store.usage().values, kept.len(), "a replacement takes no other record's place");
        }
        let mut fresh = record(flood + 1);
        fresh.expires = None;
        if let Some(some) = kept.first() {
            ok(store.remove(some.key()), "a value is removed");
        }
        while ok(store.expire(LATER, 1_000), "expiry goes on") == 1_000 {}
        assert_eq!(store.usage().values, 0, "expiry empties a full store");
        ok(store.put(LATER, fresh.clone()), "expiry makes room");
        present(&mut store, LATER, &fresh);
    }

    /// "Numbers of stored items": values and provider records of others, and own ones.
    pub fn usage_counts_own_apart(&mut self) {
        let mut store = self.fresh();
        assert_eq!(store.usage(), Default::default(), "an empty store keeps nothing");
        ok(store.put(NOW, value("/a/1", b"v", false)), "a value is kept");
        ok(store.put(NOW, value("/a/2", b"v", true)), "a value is kept");
        for n in 0..5 {
            ok(store.add_provider(NOW, provider("content", n, LATER, n < 2)), "a provider record is kept");
        }
        let usage = store.usage();
        assert_eq!((usage.values, usage.providers, usage.own), (1, 3, 3), "usage counts own records apart");
        ok(store.remove(&RecordKey::from("/a/2")), "a value is removed");
        ok(store.remove_provider(&RecordKey::from("content"), &peer(4)), "a record is removed");
        let usage = store.usage();
        assert_eq!((usage.values, usage.providers, usage.own), (1, 2, 2), "usage follows removals");
    }

    /// "Each operation ends exactly once", with many operations pending at the same time.
    pub fn operations_overlap(&mut self) {
        let mut store = self.fresh();
        let put = |n: u8| {
            let record = value(&format!("/a/{n}"), &[n], false);
            Op::Put(Box::new(Put::new(record, Judge::of_the_last())))
        };
        let writes: Vec<_> = (0..50).map(|n| store.begin(NOW, put(n))).collect();
        for write in writes {
            ok(store.ended(write), "an overlapping write ends");
        }
        let get = |n: u8| Op::Get(RecordKey::from(format!("/a/{n}")));
        let reads: Vec<_> = (0..50).map(|n| (n, store.begin(NOW, get(n)))).collect();
        for (n, ticket) in reads.into_iter().rev() {
            match ok(store.ended(ticket), "an overlapping read ends") {
                OpOutput::Value(Some(found)) => {
                    assert_eq!(found.value[..], [n], "a ticket brings the answer to its own question");
                }
                other => panic!("a ticket brings the answer to its own question, not {other:?}"),
            }
        }
        store.settle(20);
    }

    /// "registers `waker` and wakes it once there is" a result.
    pub fn a_pending_operation_wakes(&mut self) {
        let mut store = self.fresh();
        for n in 0..3 {
            let record = value("/a/b", &[n], false);
            let put = Op::Put(Box::new(Put::new(record.clone(), Judge::of_the_last())));
            for op in [put, Op::Get(record.key.clone())] {
                let ticket = store.begin(NOW, op);
                let done = store.wait_for_wake(ticket);
                assert!(done.is_ok(), "an operation that takes time ends: {done:?}");
            }
            present(&mut store, NOW, &record);
        }
    }
}
