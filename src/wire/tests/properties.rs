//! Properties of all messages and all bytes.

use std::sync::Arc;
use std::time::Duration;

use libp2p_identity::PeerId;
use multiaddr::Multiaddr;
use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::core::{Contact, RecordKey, Timestamp, Value};

fn any_addr() -> impl Strategy<Value = Multiaddr> {
    prop_oneof![
        (any::<[u8; 4]>(), any::<u16>()).prop_map(|([a, b, c, d], port)| format!("/ip4/{a}.{b}.{c}.{d}/tcp/{port}")),
        (any::<[u16; 2]>(), any::<u16>())
            .prop_map(|([a, b], port)| format!("/ip6/2001:{a:x}::{b:x}/udp/{port}/quic-v1")),
        ("[a-z]{1,300}", any::<u16>()).prop_map(|(name, port)| format!("/dns4/{name}/tcp/{port}/ws")),
    ]
    .prop_map(|text| text.parse().unwrap())
}

/// Up to `count` different peers.
fn any_peers(count: usize) -> impl Strategy<Value = Vec<Arc<Contact>>> {
    let peer = (any::<u16>(), any::<bool>(), prop::collection::vec(any_addr(), 0..40));
    prop::collection::vec(peer, 0..count).prop_map(|peers| {
        let id = |i: usize, salt: u16, inline: bool| {
            let id = numbered((i as u32) << 16 | u32::from(salt)).to_bytes();
            if inline { hex(&ED[..12]).into_iter().chain(id[2..].iter().copied()).collect() } else { id }
        };
        let peers = peers.into_iter().enumerate();
        peers
            .map(|(i, (salt, inline, addrs))| Contact::new(PeerId::from_bytes(&id(i, salt, inline)).unwrap(), addrs))
            .collect()
    })
}

fn any_key() -> impl Strategy<Value = RecordKey> {
    prop::collection::vec(any::<u8>(), 0..100).prop_map(RecordKey::from)
}

fn any_value() -> impl Strategy<Value = Value> {
    let ttl = prop::option::of((1..=u32::MAX).prop_map(|secs| Duration::from_secs(secs.into())));
    let publisher = prop::option::of(any::<u32>().prop_map(numbered));
    let received = prop::option::of(any::<u64>().prop_map(Timestamp::from_micros));
    (any_key(), prop::collection::vec(any::<u8>(), 0..2_000), publisher, ttl, received)
        .prop_map(|(key, value, publisher, ttl, received)| Value { publisher, ttl, received, ..Value::new(key, value) })
}

fn any_request() -> impl Strategy<Value = Request> {
    prop_oneof![
        Just(Request::Ping),
        any_key().prop_map(|key| Request::FindNode { key: key.to_shared() }),
        any_key().prop_map(|key| Request::GetValue { key }),
        any_value().prop_map(|value| Request::PutValue { value }),
        any_key().prop_map(|key| Request::GetProviders { key }),
        (any_key(), any_peers(3)).prop_map(|(key, providers)| Request::AddProvider { key, providers }),
    ]
}

fn any_response() -> impl Strategy<Value = Response> {
    prop_oneof![
        Just(Response::Ping),
        any_peers(25).prop_map(|closer| Response::FindNode { closer }),
        (any_key(), prop::option::of(any_value()), any_peers(25)).prop_map(|(key, value, closer)| Response::GetValue {
            key,
            value,
            closer
        }),
        any_value().prop_map(|value| Response::PutValue { value }),
        (any_key(), any_peers(25), any_peers(25)).prop_map(|(key, providers, closer)| Response::GetProviders {
            key,
            providers,
            closer
        }),
    ]
}

fn arrived_response(response: Response) -> Response {
    match response {
        Response::GetValue { key, value, closer } => Response::GetValue { key, value: value.map(arrived), closer },
        Response::PutValue { value } => Response::PutValue { value: arrived(value) },
        other => other,
    }
}

/// Decodes the bytes as every kind of message; any outcome is accepted, as long as there is one.
fn decode_all(bytes: &[u8]) {
    let bytes = Bytes::copy_from_slice(bytes);
    let _ = decode_request(None, bytes.clone());
    for kind in [Kind::Ping, Kind::FindNode, Kind::GetValue, Kind::PutValue, Kind::GetProviders, Kind::AddProvider] {
        let _ = decode_response(kind, bytes.clone());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(128) })]

    #[test]
    fn any_bytes_are_decoded_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        decode_all(&bytes);
        let _ = frame::read_prefix(&bytes, MAX_IN);
    }

    #[test]
    fn any_damage_is_decoded_without_panic(
        response in any_response(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = unframed(encode_response(&response, MAX_IN).unwrap()).to_vec();
        for (at, byte) in damage {
            let at = at.index(bytes.len().max(1));
            if let Some(damaged) = bytes.get_mut(at) {
                *damaged = byte;
            }
        }
        decode_all(&bytes);
        bytes.truncate(cut.index(bytes.len() + 1));
        decode_all(&bytes);
    }

    #[test]
    fn a_request_arrives_as_it_was_sent(request in any_request()) {
        let bytes = unframed(encode_request(&request, MAX_IN).unwrap());
        let expected = match request {
            Request::PutValue { value } => Request::PutValue { value: arrived(value) },
            other => other,
        };
        prop_assert_eq!(decode_request(None, bytes), Ok(expected));
    }

    #[test]
    fn an_answer_arrives_as_it_was_sent(response in any_response()) {
        let bytes = unframed(encode_response(&response, MAX_IN).unwrap());
        prop_assert_eq!(decode_response(response.kind(), bytes), Ok(arrived_response(response)));
    }

    /// The ready bytes appended by hand are what the generated code would have written, and could have read.
    #[test]
    fn the_generated_code_writes_the_same(response in any_response()) {
        let bytes = unframed(encode_response(&response, MAX_IN).unwrap());
        let message = pb::Message::decode(bytes.clone()).unwrap();
        prop_assert_eq!(message.encode_to_vec(), bytes);
        prop_assert_eq!(message.cluster_level_raw, 0);
    }

    #[test]
    fn no_limit_is_exceeded(response in any_response(), limit in 0usize..20_000) {
        match encode_response(&response, limit) {
            Err(error) => prop_assert_eq!(error, RequestError::TooLarge),
            Ok(bytes) => {
                prop_assert!(bytes.len() <= limit);
                let read = decode_response(response.kind(), unframed(bytes)).unwrap();
                prop_assert!(is_cut_response(&read, &arrived_response(response)));
            }
        }
    }
}

/// The same except for peers and addresses that are left out at the ends.
fn is_cut_response(read: &Response, sent: &Response) -> bool {
    match (read, sent) {
        (Response::FindNode { closer: read }, Response::FindNode { closer: sent }) => is_cut_of(read, sent),
        (
            Response::GetValue { key, value, closer: read },
            Response::GetValue { key: sent_key, value: sent_value, closer: sent },
        ) => key == sent_key && value == sent_value && is_cut_of(read, sent),
        (
            Response::GetProviders { key, providers, closer },
            Response::GetProviders { key: sent_key, providers: sent_providers, closer: sent_closer },
        ) => key == sent_key && is_cut_of(providers, sent_providers) && is_cut_of(closer, sent_closer),
        _ => read == sent,
    }
}
