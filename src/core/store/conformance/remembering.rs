//! Checks of what a store keeps for later: scans by kind, announcements, sequence numbers, peers.
//!
//! Knows: the contract. Must not know: any store.

use super::Conformance;
use super::fixtures::{NOW, all, ok, pages, peer, present, provider, same_provider, value, whole};
use crate::core::contact::Contact;
use crate::core::record::RecordKey;
use crate::core::store::{Item, SEQUENCE_MEMORY, Scan};
use crate::core::time::Timestamp;

const LATER: Timestamp = Timestamp::from_secs(2_000);

impl Conformance<'_> {
    /// "Up to `limit` items of this kind": each kind whole, in order, on pages that end where they should.
    pub fn each_scan_finds_its_kind(&mut self) {
        let mut store = self.fresh();
        for n in 0..60_u64 {
            // Some places have a value and providers of both kinds, some only what a scan passes over.
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

    /// When own records were announced is kept, and follows the last write.
    pub fn announcements_are_kept(&mut self) {
        let mut store = self.fresh();
        for announced in [None, Some(Timestamp::from_micros(999_000_001)), Some(LATER), None] {
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

    /// "The highest sequence number of a value that is over, for `SEQUENCE_MEMORY` after its end."
    pub fn a_sequence_outlives_its_value(&mut self) {
        let mut store = self.fresh();
        let key = RecordKey::from("/a/b");
        assert_eq!(ok(store.sequence(NOW, &key), "any key can be asked for"), None, "an unknown key has no sequence");
        let steps: [(Option<u64>, u64, u64, Option<u64>); 4] = [
            (Some(7), 1_000, 2_000, Some(7)),
            // A store does not judge; what it remembers is the highest all the same.
            (Some(5), 2_000, 2_500, Some(7)),
            (Some(9), 2_600, 2_800, Some(9)),
            (None, 2_800, 2_900, Some(9)),
        ];
        for (sequence, received, expires, wanted) in steps {
            let (received, expires) = (Timestamp::from_secs(received), Timestamp::from_secs(expires));
            let mut record = value("/a/b", b"v", false);
            (record.sequence, record.received, record.expires) = (sequence, received, Some(expires));
            ok(store.put(received, record.clone()), "a value is kept");
            present(&mut store, received, &record);
            let lingers = ok(store.sequence(expires, &key), "a sequence can be read");
            assert_eq!(lingers, wanted, "the highest sequence is remembered once its value is over");
            ok(store.expire(expires, 9), "expiry goes on");
            let gone = ok(store.sequence(expires, &key), "a sequence can be read");
            assert_eq!(gone, wanted, "the highest sequence is remembered when its value is taken");
        }
        // However lately it was stored again: that says nothing about how old the copies are that are about.
        let last = Timestamp::from_micros(2_799_999_999) + SEQUENCE_MEMORY;
        let found = ok(store.sequence(last, &key), "a sequence can be read");
        assert_eq!(found, Some(9), "a sequence is remembered for as long as copies of its value live");
        let other = ok(store.sequence(NOW, &RecordKey::from("/a/c")), "any key can be asked for");
        assert_eq!(other, None, "a sequence is that of one key");
    }

    /// "Forgets the value, though not its sequence number", so that a copy of it that is about does not come back.
    pub fn a_removed_value_leaves_its_sequence(&mut self) {
        let mut store = self.fresh();
        for (name, own, expires) in [("/a/own", true, None), ("/a/remote", false, Some(LATER))] {
            let mut record = value(name, b"v", own);
            (record.sequence, record.expires) = (Some(4), expires);
            ok(store.put(NOW, record.clone()), "a value is kept");
            ok(store.remove(&record.key), "a value is removed");
            let found = ok(store.sequence(NOW, &record.key), "a sequence can be read");
            assert_eq!(found, Some(4), "a removed value leaves its sequence ({name})");
        }
    }

    /// "In place of those kept before"; a store that does not outlive the process may keep none.
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
                "the peers saved last are there, and nobody else, if the store says that it keeps them"
            );
        }
        let bare = vec![Contact::new(peer(77), [])];
        ok(store.save_peers(bare.clone()), "peers without addresses are saved");
        let found = ok(store.saved_peers(), "saved peers can be read");
        assert_eq!(found, if keeps { bare } else { Vec::new() }, "a peer needs no address");
        assert!(all(&mut store).is_empty(), "saved peers are no items");
    }
}

pub(super) fn sorted(mut peers: Vec<std::sync::Arc<Contact>>) -> Vec<std::sync::Arc<Contact>> {
    peers.sort_by_key(|contact| *contact.peer());
    peers
}
