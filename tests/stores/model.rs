//! Any order of operations, compared with maps that a child could write.

use std::collections::BTreeMap;

use libp2p_identity::PeerId;
use libp2p_kad_dht::core::store::conformance::Conformance;
use libp2p_kad_dht::core::store::deferred::DeferredStore;
use libp2p_kad_dht::core::store::{Item, Scan};
use libp2p_kad_dht::core::{Key, ProviderRecord, Record, RecordKey, Store, Timestamp};
use proptest::prelude::*;

use super::flood::{contact, peer};
use super::{NOW, small};

#[derive(Clone, Debug)]
enum Op {
    Put { key: u8, value: u8, lives: Option<u8>, own: bool },
    Remove { key: u8 },
    Provide { key: u8, peer: u8, lives: u8, addrs_live: u8, own: bool },
    Unprovide { key: u8, peer: u8 },
    Expire { limit: usize },
    Advance { secs: u8 },
    Scan { after: Option<u8>, limit: usize },
}

fn op() -> impl Strategy<Value = Op> {
    let (key, peer, lives) = (0..6_u8, 0..6_u8, 0..30_u8);
    prop_oneof![
        4 => (key.clone(), any::<u8>(), proptest::option::weighted(0.8, lives.clone()), any::<bool>())
            .prop_map(|(key, value, lives, own)| Op::Put { key, value, lives, own }),
        1 => key.clone().prop_map(|key| Op::Remove { key }),
        6 => (key.clone(), peer.clone(), lives.clone(), lives, any::<bool>())
            .prop_map(|(key, peer, lives, addrs_live, own)| Op::Provide { key, peer, lives, addrs_live, own }),
        1 => (key.clone(), peer).prop_map(|(key, peer)| Op::Unprovide { key, peer }),
        1 => (0..5_usize).prop_map(|limit| Op::Expire { limit }),
        2 => (0..10_u8).prop_map(|secs| Op::Advance { secs }),
        1 => (proptest::option::of(key), 0..12_usize).prop_map(|(after, limit)| Op::Scan { after, limit }),
    ]
}

fn record_key(key: u8) -> RecordKey {
    RecordKey::from(vec![0xff; key as usize])
}

fn later(now: Timestamp, secs: u8) -> Timestamp {
    now + std::time::Duration::from_secs(secs.into())
}

/// What a store should hold.
#[derive(Default)]
struct Model {
    values: BTreeMap<RecordKey, Record>,
    providers: BTreeMap<(RecordKey, PeerId), (Timestamp, bool)>,
    /// Whoever announces last says how long the addresses of a peer live.
    addrs: BTreeMap<PeerId, Timestamp>,
}

/// An item in a form that can be compared: place, kind, id, expiry, own.
type Row = (Key, u8, Vec<u8>, Option<Timestamp>, bool);

fn row(item: &Item) -> Row {
    match item {
        Item::Value(r) => (r.key.key(), 0, r.value.to_vec(), r.expires, r.own),
        Item::Provider(r) => (r.key.key(), 1, r.provider.peer().to_bytes(), Some(r.expires), r.own),
        _ => unreachable!("no third kind"),
    }
}

impl Model {
    fn rows(&self) -> Vec<Row> {
        let values = self.values.values().map(|r| row(&Item::Value(r.clone())));
        let providers = self
            .providers
            .iter()
            .map(|((key, peer), (expires, own))| (key.key(), 1, peer.to_bytes(), Some(*expires), *own));
        let mut rows: Vec<_> = values.chain(providers).collect();
        rows.sort();
        rows
    }

    fn drop_expired(&mut self, now: Timestamp) -> usize {
        let before = self.values.len() + self.providers.len();
        self.values.retain(|_, r| !r.is_expired(now));
        self.providers.retain(|_, (expires, _)| *expires > now);
        before - self.values.len() - self.providers.len()
    }
}

/// Plays `ops` on a store and on the model, and compares all that can be seen after each step.
fn play(make: impl FnMut() -> Box<dyn Store>, ops: &[Op]) -> Result<(), TestCaseError> {
    let mut suite = Conformance::new(make);
    let mut store = suite.fresh();
    let mut model = Model::default();
    let mut now = NOW;
    for op in ops {
        match op.clone() {
            Op::Put { key, value, lives, own } => {
                let mut record = Record::new(record_key(key), vec![value], now);
                record.expires = lives.map(|secs| later(now, secs));
                record.own = own;
                prop_assert_eq!(store.put(now, record.clone()), Ok(()));
                model.values.insert(record.key.clone(), record);
            }
            Op::Remove { key } => {
                prop_assert_eq!(store.remove(&record_key(key)), Ok(()));
                model.values.remove(&record_key(key));
            }
            Op::Provide { key, peer: n, lives, addrs_live, own } => {
                let (expires, addrs_expire) = (later(now, lives), later(now, addrs_live));
                let mut record = ProviderRecord::new(record_key(key), contact(n.into()), expires, addrs_expire);
                record.own = own;
                prop_assert_eq!(store.add_provider(now, record), Ok(()));
                model.providers.insert((record_key(key), peer(n.into())), (expires, own));
                model.addrs.insert(peer(n.into()), addrs_expire);
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
            Op::Scan { after, limit } => {
                let after = after.map(|key| record_key(key).key());
                let mut found: Vec<_> = store.scan(Scan::All, after.as_ref(), limit).unwrap().iter().map(row).collect();
                found.sort();
                let rest: Vec<_> = model.rows().into_iter().filter(|r| after.is_none_or(|a| r.0 > a)).collect();
                let end = rest.iter().take(limit).next_back().map(|last| last.0);
                let page: Vec<_> = rest.into_iter().filter(|r| end.is_some_and(|end| r.0 <= end)).collect();
                prop_assert_eq!(found, page);
            }
        }
        compare(&mut store, &model, now)?;
    }
    Ok(())
}

fn compare(
    store: &mut libp2p_kad_dht::core::store::conformance::Driven<'_>,
    model: &Model,
    now: Timestamp,
) -> Result<(), TestCaseError> {
    for key in (0..6).map(record_key) {
        let wanted = model.values.get(&key).filter(|r| !r.is_expired(now)).cloned();
        prop_assert_eq!(store.get(now, &key).unwrap(), wanted);
        let mut found: Vec<_> = store.providers(now, &key).unwrap();
        found.sort_by_key(|r| *r.provider.peer());
        let wanted = model.providers.iter().filter(|((k, _), (expires, _))| *k == key && *expires > now);
        let ids: Vec<_> = wanted.map(|((_, peer), (expires, own))| (*peer, *expires, *own)).collect();
        prop_assert_eq!(found.iter().map(|r| (*r.provider.peer(), r.expires, r.own)).collect::<Vec<_>>(), ids);
        for record in &found {
            if let Some(until) = model.addrs.get(record.provider.peer()) {
                prop_assert_eq!(record.provider.has_addrs(), *until > now);
            }
        }
    }
    let firsts = model.values.values().filter_map(|r| r.expires).chain(model.providers.values().map(|(at, _)| *at));
    prop_assert_eq!(store.next_expiry(), firsts.min());
    let own =
        model.values.values().filter(|r| r.own).count() + model.providers.values().filter(|(_, own)| *own).count();
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
