//! Any order of operations, compared with a naive model of plain maps.

use std::collections::BTreeMap;

use libp2p_identity::PeerId;
use libp2p_kad_dht::core::store::{Item, SEQUENCE_MEMORY, Scan};
use libp2p_kad_dht::core::{Key, ProviderRecord, Record, RecordKey, Store, StoreError, Timestamp};
use libp2p_kad_dht::testing::conformance::Conformance;
use libp2p_kad_dht::testing::deferred::DeferredStore;
use proptest::prelude::*;

use super::flood::{contact, peer};
use super::{NOW, small};

#[derive(Clone, Debug)]
enum Op {
    Put { key: u8, value: u8, lives: Option<u8>, own: bool, sequence: Option<u8> },
    Remove { key: u8 },
    Provide { key: u8, peer: u8, lives: u8, addrs_live: u8, own: bool, announced: Option<u8> },
    Unprovide { key: u8, peer: u8 },
    Expire { limit: usize },
    Advance { secs: u8 },
    Scan { what: Scan, after: Option<u8>, limit: usize },
    SavePeers { count: u8 },
}

fn op() -> impl Strategy<Value = Op> {
    let (key, peer, lives) = (0..6_u8, 0..6_u8, 0..30_u8);
    let small = || proptest::option::of(0..10_u8);
    let what = prop_oneof![Just(Scan::All), Just(Scan::Values), Just(Scan::Own)];
    prop_oneof![
        4 => (key.clone(), any::<u8>(), proptest::option::weighted(0.8, lives.clone()), any::<bool>(), small())
            .prop_map(|(key, value, lives, own, sequence)| Op::Put { key, value, lives, own, sequence }),
        1 => key.clone().prop_map(|key| Op::Remove { key }),
        6 => (key.clone(), peer.clone(), lives.clone(), lives, any::<bool>(), small()).prop_map(
            |(key, peer, lives, addrs_live, own, announced)| Op::Provide { key, peer, lives, addrs_live, own, announced }
        ),
        1 => (key.clone(), peer).prop_map(|(key, peer)| Op::Unprovide { key, peer }),
        1 => (0..5_usize).prop_map(|limit| Op::Expire { limit }),
        2 => (0..10_u8).prop_map(|secs| Op::Advance { secs }),
        2 => (what, proptest::option::of(key), 0..12_usize)
            .prop_map(|(what, after, limit)| Op::Scan { what, after, limit }),
        1 => (0..5_u8).prop_map(|count| Op::SavePeers { count }),
    ]
}

fn record_key(key: u8) -> RecordKey {
    RecordKey::from(vec![0xff; key as usize])
}

fn later(now: Timestamp, secs: u8) -> Timestamp {
    now + std::time::Duration::from_secs(secs.into())
}

/// The state that a store should have.
#[derive(Default)]
struct Model {
    values: BTreeMap<RecordKey, Record>,
    providers: BTreeMap<(RecordKey, PeerId), ProviderRecord>,
    /// The last announcement decides how long the addresses of a remote peer live.
    addrs: BTreeMap<PeerId, Timestamp>,
    /// The highest sequence number of a removed value, and the time until which it is remembered.
    gone: BTreeMap<RecordKey, (u64, Timestamp)>,
}

/// An item in a form that can be compared: place, kind, id, expiry, own, announced, sequence.
type Row = (Key, u8, Vec<u8>, Option<Timestamp>, bool, Option<Timestamp>, Option<u64>);

fn row(item: &Item) -> Row {
    match item {
        Item::Value(r) => (r.key.key(), 0, r.value.to_vec(), r.expires, r.own, r.announced, r.sequence),
        Item::Provider(r) => (r.key.key(), 1, r.provider.peer().to_bytes(), Some(r.expires), r.own, r.announced, None),
    }
}

impl Model {
    fn rows(&self, what: Scan) -> Vec<Row> {
        let values = self.values.values().cloned().map(Item::Value);
        let items = values.chain(self.providers.values().cloned().map(Item::Provider));
        let mut rows: Vec<_> = items.filter(|item| what.wants(item)).map(|item| row(&item)).collect();
        rows.sort();
        rows
    }

    fn forget(&mut self, key: &RecordKey) {
        let Some(record) = self.values.remove(key) else { return };
        let Some(sequence) = record.sequence else { return };
        let until = match record.expires {
            Some(expires) => expires + expires.since(record.received).max(SEQUENCE_MEMORY),
            // Longer than any of these runs.
            None => Timestamp::MAX,
        };
        let known = self.gone.get(key).copied().unwrap_or_default();
        self.gone.insert(key.clone(), (sequence.max(known.0), until.max(known.1)));
    }

    fn drop_expired(&mut self, now: Timestamp) -> usize {
        let before = self.values.len() + self.providers.len();
        let over: Vec<_> = self.values.values().filter(|r| r.is_expired(now)).map(|r| r.key.clone()).collect();
        over.iter().for_each(|key| self.forget(key));
        self.providers.retain(|_, record| !record.is_expired(now));
        before - self.values.len() - self.providers.len()
    }

    fn sequence(&self, now: Timestamp, key: &RecordKey) -> Option<u64> {
        let lingers = self.values.get(key).filter(|r| r.is_expired(now)).and_then(|r| r.sequence);
        let gone = self.gone.get(key).filter(|(_, until)| *until > now).map(|(sequence, _)| *sequence);
        lingers.max(gone)
    }
}

/// The same value once more: an own one stays own, and neither expires earlier for it.
fn again(old: &Record, new: Record) -> Record {
    let mut kept = if old.own && !new.own { old.clone() } else { new.clone() };
    kept.received = new.received;
    if !old.own && !new.own {
        kept.expires = old.expires.max(new.expires);
    }
    kept
}

/// Plays `ops` on a store and on the model, and compares all that can be seen after each step.
fn play(make: impl FnMut() -> Box<dyn Store>, ops: &[Op]) -> Result<(), TestCaseError> {
    let mut suite = Conformance::new(make);
    let mut store = suite.fresh();
    let mut model = Model::default();
    let mut now = NOW;
    for op in ops {
        match op.clone() {
            Op::Put { key, value, lives, own, sequence } => {
                let mut record = Record::new(record_key(key), vec![value], now);
                record.expires = lives.map(|secs| later(now, secs));
                record.own = own;
                record.sequence = sequence.map(u64::from);
                let alive = model.values.get(&record.key).is_some_and(|old| !old.is_expired(now));
                let older = !alive && record.sequence.is_some() && record.sequence < model.sequence(now, &record.key);
                let expected = if older { Err(StoreError::Old) } else { Ok(()) };
                prop_assert_eq!(store.put(now, record.clone()), expected);
                if older {
                    continue;
                }
                let same = |old: &&Record| alive && old.value == record.value;
                if let Some(old) = model.values.get(&record.key).filter(same) {
                    record = again(old, record);
                }
                let behind = |old: &&Record| alive && (old.own || old.superseded);
                record.superseded = !record.own && model.values.get(&record.key).filter(behind).is_some();
                if model.values.get(&record.key).is_some_and(|old| old.is_expired(now)) {
                    model.forget(&record.key);
                }
                model.values.insert(record.key.clone(), record);
            }
            Op::Remove { key } => {
                prop_assert_eq!(store.remove(&record_key(key)), Ok(()));
                model.forget(&record_key(key));
            }
            Op::Provide { key, peer: n, lives, addrs_live, own, announced } => {
                let (expires, addrs_expire) = (later(now, lives), later(now, addrs_live));
                let mut record = ProviderRecord::new(record_key(key), contact(n.into()), expires, addrs_expire);
                record.own = own;
                record.announced = announced.filter(|_| own).map(|secs| later(now, secs));
                prop_assert_eq!(store.add_provider(now, record.clone()), Ok(()));
                if !own {
                    model.addrs.insert(peer(n.into()), addrs_expire);
                }
                model.providers.insert((record_key(key), peer(n.into())), record);
            }
            Op::Unprovide { key, peer: n } => {
                prop_assert_eq!(store.remove_provider(&record_key(key), &peer(n.into())), Ok(()));
                model.providers.remove(&(record_key(key), peer(n.into())));
            }
            Op::Expire { limit } => {
                let mut taken = 0;
                let limit = limit + 1;
                loop {
                    let count = store.expire(now, limit).unwrap();
                    prop_assert!(count <= limit);
                    taken += count;
                    if count < limit {
                        break;
                    }
                }
                prop_assert_eq!(taken, model.drop_expired(now));
            }
            Op::Advance { secs } => now = later(now, secs),
            Op::Scan { what, after, limit } => {
                let after = after.map(|key| record_key(key).key());
                let mut found: Vec<_> = store.scan(what, after.as_ref(), limit).unwrap().iter().map(row).collect();
                found.sort();
                let rest: Vec<_> = model.rows(what).into_iter().filter(|r| after.is_none_or(|a| r.0 > a)).collect();
                let end = rest.iter().take(limit).next_back().map(|last| last.0);
                let page: Vec<_> = rest.into_iter().filter(|r| end.is_some_and(|end| r.0 <= end)).collect();
                prop_assert_eq!(found, page);
            }
            Op::SavePeers { count } => {
                store.save_peers((0..count.into()).map(contact).collect()).unwrap();
                prop_assert!(store.saved_peers().unwrap().is_empty(), "it does not outlive the process");
            }
        }
        compare(&mut store, &model, now)?;
    }
    Ok(())
}

fn compare(
    store: &mut libp2p_kad_dht::testing::conformance::Driven<'_>,
    model: &Model,
    now: Timestamp,
) -> Result<(), TestCaseError> {
    for key in (0..6).map(record_key) {
        let wanted = model.values.get(&key).filter(|r| !r.is_expired(now)).cloned();
        prop_assert_eq!(store.get(now, &key).unwrap(), wanted);
        let mut found: Vec<_> = store.providers(now, &key).unwrap();
        found.sort_by_key(|r| *r.provider.peer());
        let wanted = model.providers.values().filter(|record| record.key == key && !record.is_expired(now));
        let fields = |r: &ProviderRecord| (*r.provider.peer(), r.expires, r.own, r.announced);
        prop_assert_eq!(found.iter().map(fields).collect::<Vec<_>>(), wanted.map(fields).collect::<Vec<_>>());
        for record in &found {
            let remote = model.addrs.get(record.provider.peer()).copied();
            let until = if record.own { Some(record.addrs_expire) } else { remote };
            prop_assert_eq!(record.provider.has_addrs(), until.is_some_and(|until| until > now));
        }
    }
    let firsts = model.values.values().filter_map(|r| r.expires).chain(model.providers.values().map(|r| r.expires));
    prop_assert_eq!(store.next_expiry(), firsts.min());
    let own = model.values.values().filter(|r| r.own).count() + model.providers.values().filter(|r| r.own).count();
    let usage = store.usage();
    prop_assert_eq!(usage.own, own);
    prop_assert_eq!(usage.values + usage.providers + usage.own, model.values.len() + model.providers.len());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_memory_store_is_what_the_model_is(ops in proptest::collection::vec(op(), 1..120)) {
        play(|| Box::new(small()), &ops)?;
    }

    #[test]
    fn a_deferred_store_is_what_the_model_is(ops in proptest::collection::vec(op(), 1..60), polls in 1..4_usize) {
        play(|| Box::new(DeferredStore::automatic(small(), polls).0), &ops)?;
    }
}
