//! What reads bytes of others, each as one function of any bytes. `tests/fuzzed.rs` calls them with harmed good bytes,
//! and the targets of `fuzz/` with whatever a fuzzer thinks of.
//!
//! Knows: what must hold for any bytes. Must not know: where the bytes come from.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use libp2p_identity::PeerId;
use libp2p_kad_dht::core::{
    Contact, Dht, DhtConfig, InvalidValue, Kind, MemoryStore, MemoryStoreConfig, Namespaced, RecordKey,
    RoutingSnapshot, Timestamp, Validator,
};
use libp2p_kad_dht::validators::SignedValues;
use libp2p_kad_dht::wire;

/// A time at which the records in `tests/validators/ipns.txt` are valid that should not have expired.
pub(crate) const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);

fn peer() -> PeerId {
    PeerId::from_bytes(&[0, 4, 8, 1, 18, 0]).unwrap()
}

/// Frames, requests and answers: whatever is read can be written, and is read as the same.
pub(crate) fn wire(bytes: &[u8]) {
    let mut received = BytesMut::from(bytes);
    while let Ok(Some(message)) = wire::frame::take(&mut received, 64 * 1024) {
        read_message(message);
    }
    read_message(Bytes::copy_from_slice(bytes));
}

fn read_message(bytes: Bytes) {
    for sender in [None, Some(peer())] {
        let read = |bytes| wire::decode_request(sender.as_ref(), bytes);
        if let Ok(request) = read(bytes.clone()) {
            let written = wire::encode_request(&request, usize::MAX).expect("there is no limit");
            assert_eq!(read(unframed(written)).as_ref(), Ok(&request));
        }
    }
    for kind in Kind::ALL {
        if let Ok(response) = wire::decode_response(kind, bytes.clone()) {
            let written = wire::encode_response(&response, usize::MAX).expect("there is no limit");
            match kind {
                Kind::AddProvider => assert!(written.is_empty(), "it has no answer"),
                _ => assert_eq!(wire::decode_response(kind, unframed(written)).as_ref(), Ok(&response)),
            }
        }
    }
}

/// The only message in these bytes, without its length.
fn unframed(bytes: Bytes) -> Bytes {
    let mut received = BytesMut::from(&bytes[..]);
    let message = wire::frame::take(&mut received, usize::MAX).expect("its length is right");
    assert!(received.is_empty());
    message.expect("it is complete")
}

/// Values of every namespace, from the length of the key, the key, and the value: the same bytes have the same verdict
/// each time, and a valid value is chosen whatever it competes with. Returns the verdict.
pub(crate) fn values(bytes: &[u8]) -> Option<Result<(), InvalidValue>> {
    let (len, rest) = bytes.split_first()?;
    let (key, value) = rest.split_at_checked(usize::from(*len))?;
    let (key, value) = (RecordKey::from(key.to_vec()), Bytes::copy_from_slice(value));
    let validators: [&dyn Validator; 2] = [&Namespaced::public(), &SignedValues];
    let mut verdict = None;
    for validator in validators {
        let valid = validator.validate(NOW, &key, &value);
        assert_eq!(valid, validator.validate(NOW, &key, &value));
        verdict = match verdict {
            Some(Ok(())) => verdict,
            _ => Some(valid.map(drop)),
        };
    }
    verdict
}

/// A saved routing table: a node takes only what it can ask, and what it then saves is read as the same. Returns the
/// number of peers that it asks.
pub(crate) fn snapshot(bytes: &[u8]) -> Option<usize> {
    let table: RoutingSnapshot = serde_json::from_slice(bytes).ok()?;
    let written = serde_json::to_vec(&table).unwrap();
    assert_eq!(serde_json::from_slice::<RoutingSnapshot>(&written).unwrap(), table);
    let store = Box::new(MemoryStore::new(MemoryStoreConfig::default(), [1; 32]));
    let mut dht = Dht::new(NOW, Contact::new(peer(), []), store, [2; 32], Arc::new(DhtConfig::default())).unwrap();
    let asked = dht.restore(NOW, &table);
    assert!(asked <= 1_024 && asked <= table.entries().count());
    while dht.poll_output().is_some() {}
    assert_eq!(dht.routing_snapshot().entries().count(), 0, "a peer enters the table when it has answered");
    Some(asked)
}
