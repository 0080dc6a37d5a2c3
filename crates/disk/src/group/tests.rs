//! What every write leaves behind must agree, or a later one drops the wrong record.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use libp2p_identity::PeerId;
use redb::backends::InMemoryBackend;
use redb::{Database, ReadableTable as _};

use super::super::tables::{Tag, charge_key, charged_key, expiry_key, order_key};
use libp2p_kad_dht::core::store::{Judge, Put};
use libp2p_kad_dht::core::{Contact, ProviderRecord, RecordKey};

use super::*;

const NOW: Timestamp = Timestamp::from_secs(1_000);

fn database() -> Database {
    Database::builder().create_with_backend(InMemoryBackend::new()).unwrap()
}

fn tight() -> DiskStoreConfig {
    let mut config = DiskStoreConfig::default();
    (config.max_values, config.max_value_bytes) = (30, 40_000);
    (config.max_provided_keys, config.max_providers, config.max_providers_per_key) = (30, 60, 4);
    (config.max_sequences, config.max_addr_bytes) = (10, 300);
    config
}

impl Group<'_, '_> {
    /// Compares everything that is counted with what is there.
    fn assert_sound(&self) {
        let tables = &self.tables;
        let (mut expiry, mut own, mut lots) = (Vec::new(), Vec::new(), Vec::new());
        let (mut sizes, mut addr_sizes) = (Vec::new(), Vec::new());
        for row in tables.values.iter().unwrap() {
            let (place, row) = row.unwrap();
            let (place, record) = (place.value(), row::decode_value(row.value()).unwrap());
            expiry.extend(record.expires.map(|at| expiry_key(at, Kind::Value, &place)));
            if record.own {
                own.push(own_key(&place, Kind::Value));
            } else {
                lots.push(order_key(self.lot_of_value(&place, &record), &place));
            }
        }
        let mut charged = BTreeMap::<Tag, Vec<Place>>::new();
        for row in tables.provided.iter().unwrap() {
            let (place, row) = row.unwrap();
            let (place, row) = (place.value(), Provided::decode(row.value()).unwrap());
            let mut peers: Vec<_> = row.entries.iter().map(|entry| &entry.peer).collect();
            peers.sort();
            peers.dedup();
            assert_eq!(peers.len(), row.entries.len(), "each peer once");
            assert!(row.remote() <= wide(self.config.max_providers_per_key));
            expiry.extend(row.first().map(|at| expiry_key(at, Kind::Provided, &place)));
            if row.entries.iter().any(|entry| entry.own) {
                own.push(own_key(&place, Kind::Provided));
            }
            if row.addr_bytes() > 0 {
                addr_sizes.push(self.size_of(&place, row.addr_bytes()));
            }
            if let Some(entry) = row.charged() {
                sizes.push(self.size_of(&place, row.remote()));
                charged.entry(self.lots.tag_of_peer(&entry.peer)).or_default().push(place);
            }
        }
        let sorted = |mut keys: Vec<[u8; 40]>| {
            keys.sort_unstable();
            keys
        };
        expiry.sort_unstable();
        own.sort_unstable();
        let keys_of = |table: &redb::Table<'_, [u8; 40], ()>| -> Vec<_> {
            table.iter().unwrap().map(|row| row.unwrap().0.value()).collect()
        };
        assert_eq!(keys_of(&tables.value_lots), sorted(lots));
        assert_eq!(keys_of(&tables.sizes), sorted(sizes));
        assert_eq!(keys_of(&tables.addr_sizes), sorted(addr_sizes));
        assert_eq!(tables.expiry.iter().unwrap().map(|row| row.unwrap().0.value()).collect::<Vec<_>>(), expiry);
        assert_eq!(tables.own.iter().unwrap().map(|row| row.unwrap().0.value()).collect::<Vec<_>>(), own);
        let counts: BTreeMap<_, _> =
            tables.charges.iter().unwrap().map(|row| row.unwrap()).map(|(tag, n)| (tag.value(), n.value())).collect();
        let wanted: BTreeMap<_, _> = charged.iter().map(|(tag, places)| (*tag, places.len() as u32)).collect();
        assert_eq!(counts, wanted);
        let mut order: Vec<_> = wanted.iter().map(|(tag, count)| charge_key(*count, tag)).collect();
        order.sort_unstable();
        assert_eq!(tables.charge_order.iter().unwrap().map(|row| row.unwrap().0.value()).collect::<Vec<_>>(), order);
        let keys: Vec<_> =
            charged.iter().flat_map(|(tag, places)| places.iter().map(|place| charged_key(tag, place))).collect();
        assert_eq!(tables.charged_keys.iter().unwrap().map(|row| row.unwrap().0.value()).collect::<Vec<_>>(), keys);
        assert_eq!(self.counts, self.counted().unwrap());
        let config = self.config;
        assert!(self.counts.values <= wide(config.max_values));
        assert!(self.counts.value_bytes <= wide(config.max_value_bytes));
        assert!(self.counts.provided_keys <= wide(config.max_provided_keys));
        assert!(self.counts.providers <= wide(config.max_providers));
        assert!(self.counts.addr_bytes <= wide(config.max_addr_bytes));
        assert!(self.counts.sequences <= wide(config.max_sequences));
    }
}

/// Numbers that are the same in every run.
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
    let expires = now + Duration::from_secs(draw.below(200));
    match draw.below(12) {
        0 => Op::RemoveProvider(key, *peer.peer()),
        1 => Op::Expire { limit: draw.below(5) as usize },
        2 => Op::Remove(key),
        3..6 => {
            let mut record = Record::new(key, vec![1; draw.below(4_000) as usize], now);
            (record.own, record.expires) = (draw.below(8) == 0, (draw.below(4) > 0).then_some(expires));
            record.sequence = (draw.below(2) == 0).then_some(draw.below(9));
            Op::Put(Box::new(Put::new(record, Judge::of_the_last())))
        }
        _ => {
            let mut record = ProviderRecord::new(key, Arc::clone(peer), expires, expires);
            record.own = draw.below(12) == 0;
            Op::AddProvider(Box::new(record), None)
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
    for _ in 0..20 {
        let transaction = database.begin_write().unwrap();
        let mut group = Group::new(Writable::open(&transaction).unwrap(), counts, &config, [7; 32]);
        let mut full = 0;
        for _ in 0..300 {
            step += 1;
            let now = NOW + Duration::from_secs(step / 10);
            let before = group.counts;
            if let Err(why) = group.apply(&Task::Op(now, some_op(&mut draw, now, &peers))).unwrap() {
                assert!(matches!(why, StoreError::Full | StoreError::Old), "{why}");
                full += usize::from(why == StoreError::Full);
                assert!(group.counts.values <= before.values && group.counts.providers <= before.providers);
            }
            if step % 8 == 0 {
                group.assert_sound();
            }
        }
        assert!(full > 0 && group.counts.provided_keys > 20 && group.counts.values > 15, "{:?}", group.counts);
        group.finish().unwrap();
        counts = group.end().0;
        transaction.commit().unwrap();
    }
}

/// Two that announce the same keys: whatever key one of them is to lose can be charged to the other.
#[test]
fn who_has_nothing_has_a_claim_against_two_who_share_everything() {
    let database = database();
    let config = tight();
    let transaction = database.begin_write().unwrap();
    let mut group = Group::new(Writable::open(&transaction).unwrap(), Counts::default(), &config, [7; 32]);
    let loud: Vec<_> = (0..2).map(|_| Contact::new(PeerId::random(), [])).collect();
    let add = |group: &mut Group<'_, '_>, key: String, peer: &Arc<Contact>| {
        let later = NOW + Duration::from_secs(900);
        let record = ProviderRecord::new(RecordKey::from(key.as_str()), Arc::clone(peer), later, later);
        group.apply(&Task::Op(NOW, Op::AddProvider(Box::new(record), None))).unwrap()
    };
    for n in 0..30 {
        for peer in &loud {
            let _ = add(&mut group, format!("loud {n}"), peer);
        }
    }
    for n in 0..40 {
        let end = add(&mut group, format!("late {n}"), &Contact::new(PeerId::random(), []));
        group.assert_sound();
        assert!(n >= 28 || end.is_ok(), "{n}: who has nothing has a claim: {end:?}");
    }
}
