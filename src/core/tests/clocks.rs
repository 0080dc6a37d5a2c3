//! Hosts with wrong clocks.

use std::sync::Arc;
use std::time::Duration;

use super::network::{Network, peer};
use crate::core::io::{InboundId, Input, Operation};
use crate::core::message::{Request, Value};
use crate::core::store::StoreExt as _;
use crate::core::{
    Contact, Dht, DhtConfig, MemoryStore, MemoryStoreConfig, ProviderRecord, Record, RecordKey, Timestamp,
};

const HOUR: Duration = Duration::from_secs(3_600);
const YEAR: Duration = Duration::from_secs(365 * 24 * 3_600);
const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);

fn memory() -> Box<MemoryStore> {
    Box::new(MemoryStore::new(MemoryStoreConfig::default(), [7; 32]))
}

/// The host's clock was ahead while a value was put and a key provided, both of which went to every node. Then the
/// clock was set right and the process restarted.
#[test]
fn records_published_while_the_clock_was_ahead_are_announced_as_usual() {
    for ahead in [30 * 24 * HOUR, YEAR] {
        let mut config = DhtConfig::default();
        config.lookup.replication = 8.try_into().unwrap();
        config.routing.bucket_size = 8.try_into().unwrap();
        (config.maintenance.refresh_interval, config.maintenance.check_interval) = (None, None);
        let mut network = Network::joined(12, config.clone());
        let (local, wrong, mut store) = (network.contact(0), network.now + ahead, memory());
        let (name, content) = (RecordKey::from("/app/x"), RecordKey::from("content"));
        let mut value = Record::new(name.clone(), "v", wrong);
        (value.own, value.announced) = (true, Some(wrong));
        store.put(wrong, value).unwrap();
        let me = Contact::new(*local.peer(), []);
        let mut provider = ProviderRecord::new(content.clone(), me, Timestamp::MAX, Timestamp::MAX);
        (provider.own, provider.announced) = (true, Some(wrong));
        store.add_provider(wrong, provider).unwrap();
        network.nodes[0] = Dht::new(network.now, local, store, [99; 32], Arc::new(config)).unwrap();
        let boot = network.contact(1);
        network.input(0, Input::AddPeer(boot));
        network.run(0, Operation::Bootstrap).unwrap();
        for hours in [1, 47, 24] {
            network.advance(hours * HOUR);
            let now = network.now;
            let others = || 1..12;
            let values = others().filter(|i| matches!(network.nodes[*i].store().get(now, &name), Ok(Some(_)))).count();
            let kept =
                |i: &usize| matches!(network.nodes[*i].store().providers(now, &content), Ok(all) if !all.is_empty());
            let providers = others().filter(kept).count();
            assert!(values >= 8 && providers >= 8, "{values} and {providers} holders, {ahead:?} ahead");
        }
    }
}

/// The host's clock is ten years ahead for three seconds.
#[test]
fn records_received_after_the_clock_was_ahead_expire_in_time() {
    let local = Contact::new(peer(0), ["/memory/1".parse().unwrap()]);
    let mut node = Dht::new(NOW, local, memory(), [3; 32], Arc::new(DhtConfig::default())).unwrap();
    let mut next = 0;
    let mut receive = |node: &mut Dht, date: Timestamp, key: &str| {
        next += 1;
        let value = Value::new(RecordKey::from(key), "v");
        let provider = Contact::new(peer(1), ["/memory/2".parse().unwrap()]);
        for request in
            [Request::PutValue { value }, Request::AddProvider { key: RecordKey::from(key), providers: vec![provider] }]
        {
            next += 1;
            node.handle_input(date, Input::Request { from: peer(1), id: InboundId::new(next), request });
        }
        while node.poll_output().is_some() {}
    };
    node.handle_input(NOW + 10 * YEAR, Input::Timeout);
    receive(&mut node, NOW + Duration::from_secs(3), "/app/late");
    let (mut date, mut left) = (NOW, Vec::new());
    for hours in 1..=49 {
        let end = NOW + hours * HOUR;
        while let Some(at) = node.poll_timeout().filter(|at| *at <= end) {
            date = date.max(at);
            node.handle_input(date, Input::Timeout);
            while node.poll_output().is_some() {}
        }
        let usage = node.store().usage();
        left.push((usage.values, usage.providers));
    }
    assert_eq!((left[46], left[48]), ((1, 1), (0, 0)), "all is kept for 48 h, and no longer: {left:?}");
}
