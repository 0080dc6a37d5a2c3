//! Peers that fail a request now and then, and answer the next one.

use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng as _;

use super::network::{Fault, Network, peer};
use crate::core::config::Interval;
use crate::core::io::{Answer, Input, Operation};
use crate::core::message::{RequestError, Unreachable};
use crate::core::store::StoreExt as _;
use crate::core::{Contact, DhtConfig, DialCause, Published, QueryError, RecordKey};

/// A configuration without refreshes and checks.
fn config() -> DhtConfig {
    let mut config = DhtConfig::default();
    let upkeep = &mut config.maintenance;
    (upkeep.check_interval, upkeep.refresh_interval, upkeep.announce_interval) = (None, None, Interval::Never);
    (upkeep.region_interval, upkeep.replicate_interval) = (Interval::Never, Interval::Never);
    config
}

fn put(i: usize) -> Operation {
    Operation::Put { key: RecordKey::from(format!("/k/{i}").into_bytes()), value: "v".into() }
}

/// The share of the true k closest that have the value, for each of these puts, which one node makes one after the
/// other in a network of 60.
fn share(percent: u32, fault: Fault, puts: usize) -> f64 {
    let (count, k) = (60, 20);
    let mut network = Network::joined(count, config());
    network.fault = Some((percent, fault, ChaCha8Rng::seed_from_u64(77)));
    let (mut have, mut wanted) = (0, 0);
    for i in 0..puts {
        _ = network.run(0, put(i));
        let key = RecordKey::from(format!("/k/{i}").into_bytes());
        let mut others: Vec<_> =
            (1..count).map(|node| (network.contact(node).key().distance(&key.key()), node)).collect();
        others.sort_unstable();
        let (now, holders) = (network.now, &others[..k]);
        wanted += k;
        have += holders
            .iter()
            .filter(|(_, node)| matches!(network.nodes[*node].store().get(now, &key), Ok(Some(_))))
            .count();
    }
    have as f64 / wanted as f64
}

#[test]
fn as_many_of_the_closest_get_a_value_as_chance_allows() {
    // By chance alone, for the lookup and the store: 98, 96, 90 and 64 %.
    for (percent, least, puts) in [(1, 0.96, 25), (2, 0.94, 25), (5, 0.88, 25), (20, 0.62, 60)] {
        for fault in [Fault::Reset, Fault::NoAnswer, Fault::Closed] {
            let share = share(percent, fault, puts);
            println!("{percent} % {fault:?}: {share:.3}");
            assert!(share >= least, "{percent} % {fault:?}: {share:.3}");
        }
    }
}

/// Node 0 knows 1 and 2, of which 1 holds a value, and 2 may know of 1. One request to 1 is reset.
fn after_a_reset(named: bool) -> Network {
    let mut network = Network::new(3, config());
    let key = RecordKey::from("/k/0");
    assert!(network.run(1, put(0)).is_err(), "it knows no peer");
    for known in [1, 2] {
        let contact = network.contact(known);
        network.input(0, Input::AddPeer(contact));
    }
    network.advance(Duration::from_secs(1));
    if named {
        network.connect(1, 2);
        network.advance(Duration::from_secs(1));
    }
    network.rude.insert(1);
    assert!(network.run(0, Operation::Get { key }).is_err());
    network.rude.clear();
    network
}

#[test]
fn a_peer_that_was_reset_once_is_asked_by_the_next_lookup() {
    for named in [false, true] {
        let mut network = after_a_reset(named);
        let found = network.run(0, Operation::Get { key: RecordKey::from("/k/0") });
        assert!(matches!(found, Ok(Answer::Value(_))), "{named}: {found:?}");
        let Ok(Answer::Published(Published { report, .. })) = network.run(0, put(1)) else { panic!() };
        assert_eq!((report.acknowledged.len(), report.failed.len()), (2, 0), "{report}");
    }
}

#[test]
fn a_peer_that_is_held_back_is_named_in_the_report() {
    let mut network = Network::joined(4, config());
    network.dead.insert(3);
    let key = RecordKey::from("/k/9");
    assert!(network.run(0, Operation::Get { key }).is_err());
    let Ok(Answer::Published(Published { report, .. })) = network.run(0, put(1)) else { panic!() };
    let held = RequestError::Unreachable(Unreachable::BackingOff(DialCause::Unknown));
    assert_eq!(report.failed.iter().map(|failure| (failure.peer, failure.why)).collect::<Vec<_>>(), [(peer(3), held)]);
    assert_eq!((report.requests, report.answers, report.acknowledged.len()), (4, 4, 2), "{report}");
}

#[test]
fn the_first_report_of_a_dead_boot_node_says_what_happened() {
    let mut network = Network::new(1, config());
    network.input(0, Input::AddPeer(Contact::new(peer(7), ["/memory/8".parse().unwrap()])));
    network.advance(Duration::from_secs(1));
    for why in [Unreachable::DialFailed(DialCause::Unknown), Unreachable::BackingOff(DialCause::Unknown)] {
        match network.run(0, put(1)) {
            Err(QueryError::NoAnswer(report)) => {
                assert_eq!((report.requests, report.failed[0].why), (0, RequestError::Unreachable(why)));
            }
            other => panic!("{other:?}"),
        }
    }
}
