//! The rows and indices after every write must agree, or a later write evicts the wrong record.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use libp2p_identity::PeerId;
use libp2p_kad_dht::core::store::eviction::Account;
use libp2p_kad_dht::core::store::{Judge, Put, Sender};
use libp2p_kad_dht::core::{Contact, ProviderRecord, RecordKey};
use redb::backends::InMemoryBackend;
use redb::{Database, ReadableTable as _};

use super::super::row::NO_COST;
use super::super::tables::{charged_key, expiry_key, heavy_key, weight_key};
use super::*;

const NOW: Timestamp = Timestamp::from_secs(1_000);

fn database() -> Database {
    Database::builder().create_with_backend(InMemoryBackend::new()).unwrap()
}

fn tight() -> DiskStoreConfig {
    let mut config = DiskStoreConfig::default();
    (config.max_values, config.max_value_bytes) = (30, 40_000);
    (config.max_providers, config.max_provider_bytes, config.max_providers_per_key) = (60, 2_500, 4);
    config.max_sequences = 10;
    config
}

impl Group<'_, '_> {
    /// Compares the counts and accounts with the records.
    fn assert_sound(&self) {
        let tables = &self.tables;
        let (mut expiry, mut own, mut costs) = (Vec::new(), Vec::new(), Vec::new());
        for row in tables.values.iter().unwrap() {
            let (place, row) = row.unwrap();
            let (place, (record, cost)) = (place.value(), row::decode_value(row.value()).unwrap());
            expiry.extend(record.expires.map(|at| expiry_key(at, TableKind::Value, &place)));
            if record.own {
                own.push(own_key(&place, TableKind::Value));
                assert_eq!(Cost { bytes: 0, ..cost }, NO_COST);
            } else {
                costs.push((TableKind::Value, (place, self.seed.of_value(&place)), cost));
            }
        }
        for row in tables.provided.iter().unwrap() {
            let (place, row) = row.unwrap();
            let (place, row) = (place.value(), Provided::decode(row.value()).unwrap());
            let mut peers: Vec<_> = row.entries.iter().map(|entry| &entry.peer).collect();
            peers.sort();
            peers.dedup();
            assert_eq!(peers.len(), row.entries.len(), "each peer once");
            assert!(row.remote().count() <= self.config.max_providers_per_key);
            expiry.extend(row.first().map(|at| expiry_key(at, TableKind::Provided, &place)));
            if row.entries.iter().any(|entry| entry.own) {
                own.push(own_key(&place, TableKind::Provided));
            }
            let ranked = |entry: &row::Entry| (place, self.seed.of_provider(&place, &entry.peer));
            costs.extend(row.remote().map(|entry| (TableKind::Provided, ranked(entry), entry.cost)));
        }
        expiry.sort_unstable();
        own.sort_unstable();
        assert_eq!(tables.expiry.iter().unwrap().map(|row| row.unwrap().0.value()).collect::<Vec<_>>(), expiry);
        assert_eq!(tables.own.iter().unwrap().map(|row| row.unwrap().0.value()).collect::<Vec<_>>(), own);
        self.assert_charged(&costs);
        assert_eq!(self.counts, self.counted().unwrap());
    }

    fn assert_charged(&self, costs: &[(TableKind, super::super::tables::Id, Cost)]) {
        let mut charged: Vec<_> =
            costs.iter().map(|(kind, id, cost)| charged_key(*kind, cost.account, cost.tier(), *id)).collect();
        charged.sort_unstable();
        let keys: Vec<_> = self.tables.charged.iter().unwrap().map(|row| row.unwrap().0.value()).collect();
        assert_eq!(keys, charged, "each remote record is charged once");
        let mut weights: BTreeMap<_, (u64, TableKind, Account)> = BTreeMap::new();
        for (kind, _, cost) in costs {
            for account in std::iter::successors(Some(cost.account), |account| account.parent()) {
                weights.entry(weight_key(*kind, account)).or_insert((0, *kind, account)).0 += cost.shares();
            }
        }
        let rows = self.tables.weights.iter().unwrap().map(|row| row.unwrap());
        let known: BTreeMap<_, _> = rows.map(|(key, weight)| (key.value(), weight.value())).collect();
        assert_eq!(known, weights.iter().map(|(key, (weight, ..))| (*key, *weight)).collect());
        let heavy = weights
            .values()
            .filter_map(|(weight, kind, account)| Some(heavy_key(*kind, account.parent()?, (*weight, *account))));
        let mut heavy: Vec<_> = heavy.collect();
        heavy.sort_unstable();
        assert_eq!(self.tables.heaviest.iter().unwrap().map(|row| row.unwrap().0.value()).collect::<Vec<_>>(), heavy);
    }
}

/// Random numbers that are the same in every run.
struct Draw(u64);

impl Draw {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

fn some_op(draw: &mut Draw, now: Timestamp, peers: &[Arc<Contact>]) -> Op {
    let key = RecordKey::from(format!("key {}", draw.below(80)).as_str());
    let peer = &peers[draw.below(60) as usize];
    let expires = now + Duration::from_secs(draw.below(9_000));
    let mut sender = Sender::new(*peer.peer());
    (sender.holder, sender.near) = (draw.below(3) == 0, draw.below(5) == 0);
    sender.group = (draw.below(2) == 0).then_some(draw.below(6));
    match draw.below(12) {
        0 => Op::RemoveProvider(key, *peer.peer()),
        1 => Op::Expire { limit: draw.below(5) as usize, latest: Timestamp::MAX },
        2 => Op::Remove(key),
        3..6 => {
            let mut record = Record::new(key, vec![draw.below(3) as u8; draw.below(3_000) as usize], now);
            (record.own, record.expires) = (draw.below(8) == 0, (draw.below(4) > 0).then_some(expires));
            record.sequence = (draw.below(2) == 0).then_some(draw.below(9));
            let put = Put::new(record, Judge::of_the_last());
            let put = if put.record.own { put } else { put.from(sender) };
            Op::Put(Box::new(put))
        }
        _ => {
            let mut record = ProviderRecord::new(key, Arc::clone(peer), expires, expires);
            record.own = draw.below(12) == 0;
            Op::AddProvider(Box::new(record), Some(sender))
        }
    }
}

#[test]
fn everything_that_is_counted_is_there_whatever_happens() {
    let database = database();
    let config = tight();
    let contact = |_| Contact::new(PeerId::random(), ["/ip4/127.0.0.1/tcp/1".parse().unwrap()]);
    let peers: Vec<_> = (0..60).map(contact).collect();
    let (mut draw, mut counts, mut step) = (Draw(1), Counts::default(), 0);
    for round in 0..20 {
        let transaction = database.begin_write().unwrap();
        let mut config = config.clone();
        if round % 5 == 4 {
            // Lower the bounds, and raise them again later.
            (config.max_values, config.max_providers) = (10, 20);
        }
        let mut group = Group::new(Writable::open(&transaction).unwrap(), counts, &config, [7; 32]);
        let mut full = 0;
        for _ in 0..300 {
            step += 1;
            let now = NOW + Duration::from_secs(step);
            let before = group.counts;
            if let Err(why) = group.apply(&Task::Op(now, some_op(&mut draw, now, &peers))).unwrap() {
                assert!(matches!(why, StoreError::Full | StoreError::Old), "{why}");
                full += usize::from(why == StoreError::Full);
                assert!(group.counts.values <= before.values && group.counts.providers <= before.providers);
            }
            while group.shrink(now).unwrap() > 0 {}
            assert!(!config.is_exceeded(&group.counts), "{:?}", group.counts);
            if step % 8 == 0 {
                group.assert_sound();
            }
        }
        assert!(full > 0 && group.counts.providers > 15 && group.counts.values > 5, "{full}, {:?}", group.counts);
        group.finish().unwrap();
        counts = group.end().0;
        transaction.commit().unwrap();
    }
}

/// Records that a clock that was ahead left expire when they should; this node's own are not changed.
#[test]
fn what_would_end_too_late_is_cut() {
    let database = database();
    let config = DiskStoreConfig::default();
    let transaction = database.begin_write().unwrap();
    let mut group = Group::new(Writable::open(&transaction).unwrap(), Counts::default(), &config, [7; 32]);
    let ahead = NOW + Duration::from_secs(300_000_000);
    let latest = NOW + Duration::from_secs(48 * 3600);
    let contact = Contact::new(PeerId::random(), []);
    for n in 0..40 {
        let mut record = Record::new(format!("/a/{n}").as_str(), "v", ahead);
        (record.own, record.expires) = (n % 4 == 0, Some(ahead + Duration::from_secs(n)));
        group.apply(&Task::Op(ahead, Op::Put(Box::new(Put::new(record, Judge::of_the_last()))))).unwrap().unwrap();
        for own in [false, true] {
            let end = if own { Timestamp::MAX } else { ahead + Duration::from_secs(n) };
            let peer = if own { Contact::new(PeerId::random(), []) } else { Arc::clone(&contact) };
            let mut record = ProviderRecord::new(RecordKey::from(format!("c {n}").as_str()), peer, end, end);
            record.own = own;
            group.apply(&Task::Op(ahead, Op::AddProvider(Box::new(record), None))).unwrap().unwrap();
        }
    }
    for _ in 0..20 {
        group.cut(NOW, latest, 4).unwrap();
        group.assert_sound();
    }
    assert_eq!(group.expire(latest, usize::MAX).unwrap(), 70, "30 values and 40 provider records of others");
    group.assert_sound();
    assert_eq!((group.counts.values, group.counts.providers, group.counts.own), (0, 0, 50));
}
