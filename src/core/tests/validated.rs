//! Values with real validators in a small network: stored, read, replaced by newer ones, refused when invalid.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use libp2p_identity::Keypair;

use super::Network;
use crate::core::io::{Answer, InboundId, Input, Operation, Output, QueryOptions, Reply};
use crate::core::message::{Request, Value};
use crate::core::{
    DhtConfig, Found, InvalidValue, Misbehaviour, Namespaced, Published, QueryError, Quorum, RecordKey, Refusal,
    RequestError, Timestamp,
};
use crate::validators::{IpnsRecord, Signed, SignedValues};

const NODES: usize = 8;

fn network() -> Network {
    let mut config = DhtConfig::default();
    config.record.validator = Arc::new(Namespaced::public().with("signed", Arc::new(SignedValues)));
    Network::joined(NODES, config)
}

fn keypair() -> Keypair {
    Keypair::ed25519_from_bytes([7; 32]).unwrap()
}

fn signed(network: &Network, sequence: u64) -> Signed {
    let expires = network.now + Duration::from_secs(3600);
    Signed::new(format!("number {sequence}")).with_salt("x").with_sequence(sequence).with_expiry(expires)
}

/// The peers that stored it.
fn put(network: &mut Network, i: usize, (key, value): (RecordKey, Bytes)) -> Result<usize, QueryError> {
    match network.run(i, Operation::Put { key, value })? {
        Answer::Published(Published { report, .. }) => Ok(report.acknowledged.len()),
        other => panic!("{other:?}"),
    }
}

fn get(network: &mut Network, i: usize, key: &RecordKey) -> Result<Bytes, QueryError> {
    match network.run(i, Operation::Get { key: key.clone() })? {
        Answer::Value(Found { record, .. }) => Ok(record.value),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_signed_value_is_kept_replaced_and_never_set_back() {
    let mut network = network();
    let (old, new) = (signed(&network, 1).sign(&keypair()).unwrap(), signed(&network, 2).sign(&keypair()).unwrap());
    let key = old.0.clone();
    assert_eq!(put(&mut network, 1, old.clone()), Ok(NODES - 1));
    for i in 0..NODES {
        assert_eq!(get(&mut network, i, &key).as_ref(), Ok(&old.1));
    }
    assert_eq!(put(&mut network, 2, new.clone()), Ok(NODES - 1));
    for i in 0..NODES {
        assert_eq!(get(&mut network, i, &key).as_ref(), Ok(&new.1), "node {i}");
    }
    // Every node refuses it, since it holds the newer one, whether it published either or not.
    for i in [1, 2, 3] {
        assert_eq!(put(&mut network, i, old.clone()), Err(QueryError::OldValue), "node {i}");
    }
}

#[test]
fn a_signed_value_is_gone_when_it_expires() {
    let mut network = network();
    let (key, value) = signed(&network, 1).sign(&keypair()).unwrap();
    put(&mut network, 1, (key.clone(), value.clone())).unwrap();
    network.advance(Duration::from_secs(3600));
    for i in 0..NODES {
        assert!(matches!(get(&mut network, i, &key), Err(QueryError::NotFound(_))), "node {i}");
    }
    assert_eq!(put(&mut network, 1, (key, value)), Err(QueryError::InvalidValue(InvalidValue::Expired)));
}

#[test]
fn an_expired_value_is_not_followed_by_an_older_one() {
    let mut network = network();
    let sign = |signed: Signed| signed.sign(&keypair()).unwrap();
    let (short, later) = (network.now + Duration::from_secs(60), network.now + Duration::from_secs(100 * 3600));
    let newer = sign(signed(&network, 2).with_expiry(short));
    let (older, next) = (sign(signed(&network, 1).with_expiry(later)), sign(signed(&network, 3).with_expiry(later)));
    // First while the holders' stores still have the value, then after they have removed it.
    for wait in [Duration::from_secs(60), Duration::from_secs(47 * 3600)] {
        if network.now < short {
            assert_eq!(put(&mut network, 1, newer.clone()), Ok(NODES - 1));
        }
        network.advance(wait);
        assert!(matches!(get(&mut network, 4, &older.0), Err(QueryError::NotFound(_))));
        for i in 0..NODES {
            assert_eq!(put(&mut network, i, older.clone()), Err(QueryError::OldValue), "node {i} after {wait:?}");
        }
    }
    assert_eq!(put(&mut network, 1, next.clone()), Ok(NODES - 1));
    assert_eq!(get(&mut network, 4, &next.0), Ok(next.1));
}

/// A swap names the value before it. An expired value counts as forgotten, even if the stores still have it.
#[test]
fn an_expired_value_does_not_prevent_a_swap() {
    let mut network = network();
    let sign = |signed: Signed| signed.sign(&keypair()).unwrap();
    let short = network.now + Duration::from_secs(60);
    let held = sign(signed(&network, 3).with_expiry(short));
    assert_eq!(put(&mut network, 1, held), Ok(NODES - 1));
    let swap = sign(signed(&network, 4).replacing(2));
    assert_eq!(put(&mut network, 1, swap.clone()), Err(QueryError::Conflict));
    network.advance(Duration::from_secs(60));
    assert_eq!(put(&mut network, 1, swap.clone()), Ok(NODES - 1));
    assert_eq!(get(&mut network, 4, &swap.0), Ok(swap.1));
}

#[test]
fn of_two_swaps_the_second_is_refused() {
    let mut network = network();
    let sign = |signed: Signed| signed.sign(&keypair()).unwrap();
    let zeroth = sign(signed(&network, 1));
    put(&mut network, 1, zeroth).unwrap();
    let first = sign(signed(&network, 2).replacing(1));
    // Its sequence number is the highest, but its writer does not know of the first.
    let second = sign(signed(&network, 3).replacing(1));
    let key = first.0.clone();
    assert_eq!(put(&mut network, 2, first.clone()), Ok(NODES - 1));
    assert_eq!(put(&mut network, 3, second.clone()), Err(QueryError::Conflict));
    for i in 0..NODES {
        assert_eq!(get(&mut network, i, &key).as_ref(), Ok(&first.1), "node {i}");
    }
    // Once it has read the first value, it can replace that; and repeating a swap is not a swap.
    assert_eq!(put(&mut network, 2, first), Ok(NODES - 1));
    let third = sign(signed(&network, 3).replacing(2));
    assert_eq!(put(&mut network, 3, third.clone()), Ok(NODES - 1));
    assert_eq!(get(&mut network, 4, &key).as_ref(), Ok(&third.1));
}

#[test]
fn a_swap_is_refused_by_the_peers_that_hold_what_it_does_not_know() {
    let mut network = network();
    let sign = |signed: Signed| signed.sign(&keypair()).unwrap();
    let first = sign(signed(&network, 2));
    let key = first.0.clone();
    put(&mut network, 1, first.clone()).unwrap();
    // The writer's own node does not hold the value, so only the other nodes can detect the conflict.
    network.run(3, Operation::Remove { key: key.clone() }).unwrap();
    let all = QueryOptions::default().with_quorum(Quorum::All);
    let (_, value) = sign(signed(&network, 3).replacing(1));
    match network.run_with(3, Operation::Put { key: key.clone(), value }, all) {
        Err(QueryError::QuorumMissed { reached: 0, report, .. }) => {
            assert_eq!(report.failed.len(), NODES - 1);
            assert!(report.failed.iter().all(|failure| failure.why == RequestError::Refused), "{report:?}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(get(&mut network, 4, &key).as_ref(), Ok(&first.1));
}

#[test]
fn an_ipns_name_is_published_prolonged_and_changed() {
    let mut network = network();
    let day = Duration::from_secs(24 * 3600);
    let sign = |value: &'static str, sequence, expires: Timestamp| {
        IpnsRecord::new(value, sequence, expires, Duration::ZERO).sign(&keypair()).unwrap()
    };
    let now = network.now;
    let (first, longer, second) =
        (sign("/ipfs/a", 0, now + day), sign("/ipfs/a", 0, now + 2 * day), sign("/ipfs/b", 1, now + day));
    let key = first.0.clone();
    for record in [first.clone(), longer.clone(), second.clone()] {
        assert_eq!(put(&mut network, 1, record.clone()), Ok(NODES - 1));
        assert_eq!(get(&mut network, 5, &key), Ok(record.1));
    }
    for old in [first, longer] {
        assert_eq!(put(&mut network, 1, old), Err(QueryError::OldValue));
    }
    let read = IpnsRecord::open(network.now, &key, &get(&mut network, 6, &key).unwrap()).unwrap();
    assert_eq!((&read.value()[..], read.sequence()), (&b"/ipfs/b"[..], 1));
}

/// The same record with an unknown and unsigned field, as long as a valid record may be.
fn padded(record: &Bytes) -> Bytes {
    let padding = vec![0; 10 * 1024 - record.len() - 5];
    let head = [0xa2, 0x06, (padding.len() % 128) as u8 | 128, (padding.len() / 128) as u8];
    [&record[..], &head, &padding].concat().into()
}

#[test]
fn a_stranger_who_pads_a_record_changes_nothing_for_its_owner() {
    for stranger_first in [false, true] {
        let mut network = network();
        let expires = network.now + Duration::from_secs(24 * 3600);
        let (key, record) = IpnsRecord::new("/ipfs/a", 7, expires, Duration::ZERO).sign(&keypair()).unwrap();
        let (owner, stranger) = ((1, record.clone()), (2, padded(&record)));
        let order = if stranger_first { [&stranger, &owner, &owner] } else { [&owner, &stranger, &owner] };
        for (turn, (node, value)) in order.into_iter().enumerate() {
            assert_eq!(put(&mut network, *node, (key.clone(), value.clone())), Ok(NODES - 1), "{}", value.len());
            for i in (0..NODES).filter(|i| *i != 2 && (turn > 0 || !stranger_first)) {
                assert_eq!(get(&mut network, i, &key).as_ref(), Ok(&record), "node {i} after put {turn}");
            }
        }
    }
}

#[test]
fn a_public_key_is_found_under_its_name() {
    let mut network = network();
    let public = keypair().public();
    let key = RecordKey::from([b"/pk/", &public.to_peer_id().to_bytes()[..]].concat());
    let value = Bytes::from(public.encode_protobuf());
    assert_eq!(put(&mut network, 1, (key.clone(), value.clone())), Ok(NODES - 1));
    assert_eq!(get(&mut network, 4, &key), Ok(value));
}

#[test]
fn an_invalid_value_is_neither_put_nor_taken_from_a_peer() {
    let mut network = network();
    let (key, record) = IpnsRecord::new("/ipfs/a", 0, network.now, Duration::ZERO).sign(&keypair()).unwrap();
    let expired = QueryError::InvalidValue(InvalidValue::Expired);
    assert_eq!(put(&mut network, 1, (key.clone(), record.clone())), Err(expired));
    let stranger = QueryError::InvalidValue(InvalidValue::UnknownNamespace);
    let unknown = (RecordKey::from("/app/x"), Bytes::from_static(b"x"));
    assert_eq!(put(&mut network, 1, unknown), Err(stranger));

    // A peer that sends it nevertheless is refused, with the reason.
    let from = *network.contact(2).peer();
    let request = Request::PutValue { value: Value::new(key.clone(), record) };
    let node = &mut network.nodes[1];
    node.handle_input(network.now, Input::Request { from, id: InboundId::new(u64::MAX), request });
    let outputs: Vec<_> = std::iter::from_fn(|| node.poll_output()).collect();
    let reset = Refusal::Misbehaved(Misbehaviour::InvalidValue(InvalidValue::Expired));
    assert!(
        outputs.iter().any(|output| matches!(output, Output::Reply { reply: Reply::Reset(why), .. } if *why == reset)),
        "{outputs:?}"
    );
    assert!(matches!(get(&mut network, 1, &key), Err(QueryError::NotFound(_))));
}

/// In a network larger than k: a node that is no holder must not place an older value beside the holders of the newer
/// one.
#[test]
fn an_older_value_from_afar_is_refused_whole_and_given_up_after_a_read() {
    let mut config = DhtConfig::default();
    config.lookup.replication = std::num::NonZeroUsize::new(4).unwrap();
    config.record.validator = Arc::new(Namespaced::public().with("signed", Arc::new(SignedValues)));
    let mut network = Network::joined(30, config);
    let sign = |signed: Signed| signed.sign(&keypair()).unwrap();
    let (old, new) = (sign(signed(&network, 4)), sign(signed(&network, 5)));
    let (place, key) = (new.0.key(), new.0.clone());
    let mut far: Vec<_> = (0..30).collect();
    far.sort_by_key(|i| network.contact(*i).key().distance(&place));
    assert_eq!(put(&mut network, far[29], new.clone()), Ok(4));
    let table =
        |network: &Network| network.nodes[far[20]].routing_snapshot().entries().map(|entry| entry.failures).sum();
    let failures: u32 = table(&network);
    match put(&mut network, far[20], old.clone()) {
        Err(QueryError::QuorumMissed { reached: 0, report, .. }) => {
            assert_eq!(report.failed.len(), 4, "the four closest, and no other peers instead: {report:?}");
            assert!(report.failed.iter().all(|failure| failure.why == crate::core::RequestError::Refused));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(table(&network), failures, "a peer that refuses is alive");
    let all = QueryOptions::default().with_all_asked();
    match network.run_with(far[20], Operation::Get { key: key.clone() }, all).unwrap() {
        Answer::Value(Found { record, .. }) => assert_eq!(record.value, new.1),
        other => panic!("{other:?}"),
    }
    for i in [far[20], far[29], far[10]] {
        assert_eq!(get(&mut network, i, &key).as_ref(), Ok(&new.1), "its own older one has given way");
    }
}
