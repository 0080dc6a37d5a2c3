//! Bytes worked out by hand, bytes captured from other implementations, bounds, and properties.

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes};
use libp2p_identity::PeerId;
use multiaddr::Multiaddr;
use prost::Message as _;

use super::*;
use crate::core::config::MAX_KEY_LEN;
use crate::core::{Contact, Kind, Misbehaviour, RecordKey, Request, RequestError, Response, Timestamp, Value};

mod cutting;
mod properties;

/// An Ed25519 peer: its key is in its id (rule A15).
const ED: &str = "0024080112209e3b433cbd31c2b8a6ebbdca998bd0f4c2141c9c9af5422e976051b1e63af14d";
/// A peer whose id is a hash, as RSA peers have it (msg-7 below).
const RSA: &str = "122090c9620a79a8ba913d9f84394a32488494f98cf0ce4dddbb86cb44519970c4e0";
/// The peer looked up in msg-4 and provided in msg-7.
const SOUGHT: &str = "1220d18f46f364ebeeec500929c72a4898feb2747730b129d970de15cf80626ebcbc";
/// /ip4/127.0.0.1/tcp/4001
const ADDR: &str = "047f000001060fa1";
/// 2001-09-09T01:46:40.000000000Z in ASCII.
const TIME: &str = "323030312d30392d30395430313a34363a34302e3030303030303030305a";
/// 1970-01-01T00:00:00.000000000Z in ASCII.
const EPOCH: &str = "313937302d30312d30315430303a30303a30302e3030303030303030305a";

fn hex(text: &str) -> Bytes {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

fn peer(text: &str) -> PeerId {
    PeerId::from_bytes(&hex(text)).unwrap()
}

fn contact(id: &str, addrs: &[&str]) -> Arc<Contact> {
    Contact::new(peer(id), addrs.iter().map(|addr| addr.parse::<Multiaddr>().unwrap()))
}

fn ed() -> Arc<Contact> {
    contact(ED, &["/ip4/127.0.0.1/tcp/4001"])
}

fn rsa() -> Arc<Contact> {
    contact(RSA, &[])
}

fn full_value() -> Value {
    Value {
        publisher: Some(peer(ED)),
        ttl: Some(Duration::from_secs(3_600)),
        received: Some(Timestamp::from_secs(1_000_000_000)),
        ..Value::new("/a/b", &b"v"[..])
    }
}

/// A value after it was sent: without the sender's time.
fn arrived(value: Value) -> Value {
    Value { received: None, ..value }
}

/// The message behind its prefix, which must be right.
fn unframed(frame: Bytes) -> Bytes {
    let prefix = frame::read_prefix(&frame, MAX_IN).unwrap().unwrap();
    assert_eq!(frame.len(), prefix.len + prefix.body);
    frame.slice(prefix.len..)
}

fn field(number: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    frame::write_prefix(body.len(), &mut out);
    out.put_slice(body);
    out
}

/// A `Peer` as other implementations may send it.
fn raw_peer(id: &[u8], addrs: &[&[u8]]) -> Vec<u8> {
    let addrs = addrs.iter().map(|addr| Bytes::copy_from_slice(addr)).collect();
    pb::Peer { id: Bytes::copy_from_slice(id), addrs, connection: 1 }.encode_to_vec()
}

fn numbered(n: u32) -> PeerId {
    let mut id = vec![0x12, 0x20];
    id.extend([0; 28]);
    id.extend(n.to_be_bytes());
    PeerId::from_bytes(&id).unwrap()
}

fn find_node(bodies: impl IntoIterator<Item = Vec<u8>>) -> Bytes {
    let mut message = vec![0x08, 4];
    bodies.into_iter().for_each(|body| message.extend(field(8, &body)));
    message.into()
}

fn closer(message: Bytes) -> Vec<Arc<Contact>> {
    match decode_response(Kind::FindNode, message).unwrap() {
        Response::FindNode { closer } => closer,
        other => panic!("{other:?}"),
    }
}

/// Whether `read` is a cut of `sent`: the same peers from the first on, each with its first addresses.
fn is_cut_of(read: &[Arc<Contact>], sent: &[Arc<Contact>]) -> bool {
    read.len() <= sent.len()
        && read.iter().zip(sent).all(|(read, sent)| {
            read.peer() == sent.peer()
                && sent.raw_addrs().take(read.raw_addrs().count()).eq(read.raw_addrs())
                && read.has_addrs() == sent.has_addrs()
        })
}

// ── Golden bytes ────────────────────────────────────────────────────────────────────────────────────────────────

/// The request, its frame in hex, and the result of reading it.
fn golden_requests() -> Vec<(Request, String)> {
    let record = format!("0a042f612f62 120176 2a1e{TIME} d22926{ED} c830901c");
    vec![
        (Request::Ping, "02 0805".into()),
        (Request::FindNode { key: Bytes::from_static(b"k") }, "05 0804 12016b".into()),
        (Request::GetValue { key: "/a/b".into() }, "08 0801 12042f612f62".into()),
        (Request::PutValue { value: full_value() }, format!("5e 12042f612f62 1a56{record}")),
        (Request::GetProviders { key: hex(SOUGHT).into() }, format!("26 0803 1222{SOUGHT}")),
        (
            Request::AddProvider { key: hex(SOUGHT).into(), providers: vec![ed()] },
            format!("5a 0802 1222{SOUGHT} 4a320a26{ED}1208{ADDR}"),
        ),
    ]
}

fn golden_responses() -> Vec<(Response, String)> {
    let bare = format!("0a042f612f62 120176 2a1e{EPOCH}");
    let peers = format!("42320a26{ED}1208{ADDR} 42240a22{RSA}");
    vec![
        (Response::Ping, "02 0805".into()),
        (Response::FindNode { closer: vec![ed(), rsa()] }, format!("5c 0804 {peers}")),
        (Response::FindNode { closer: vec![] }, "02 0804".into()),
        (
            Response::GetValue { key: "/a/b".into(), value: None, closer: vec![ed(), rsa()] },
            format!("62 0801 12042f612f62 {peers}"),
        ),
        (
            Response::GetValue {
                key: "/a/b".into(),
                value: Some(Value::new("/a/b", &b"v"[..])),
                closer: vec![ed(), rsa()],
            },
            format!("8d01 0801 12042f612f62 1a29{bare} {peers}"),
        ),
        (Response::PutValue { value: Value::new("/a/b", &b"v"[..]) }, format!("31 12042f612f62 1a29{bare}")),
        (
            Response::GetProviders { key: hex(SOUGHT).into(), providers: vec![rsa()], closer: vec![ed()] },
            format!("8001 0803 1222{SOUGHT} 42320a26{ED}1208{ADDR} 4a240a22{RSA}"),
        ),
    ]
}

#[test]
fn requests_have_these_bytes_and_are_read_from_them() {
    for (request, bytes) in golden_requests() {
        let encoded = encode_request(&request, MAX_OUT).unwrap();
        assert_eq!(encoded, hex(&bytes), "{request:?}");
        let expected = match request {
            Request::PutValue { value } => Request::PutValue { value: arrived(value) },
            other => other,
        };
        assert_eq!(decode_request(None, unframed(encoded)), Ok(expected));
    }
}

#[test]
fn answers_have_these_bytes_and_are_read_from_them() {
    for (response, bytes) in golden_responses() {
        let encoded = encode_response(&response, MAX_OUT).unwrap();
        assert_eq!(encoded, hex(&bytes), "{response:?}");
        assert_eq!(decode_response(response.kind(), unframed(encoded)), Ok(response));
    }
    assert_eq!(encode_response(&Response::AddProvider, MAX_OUT), Ok(Bytes::new()));
}

#[test]
fn the_types_have_the_numbers_of_the_schema() {
    for (kind, number) in [
        (Kind::PutValue, pb::MessageType::PutValue),
        (Kind::GetValue, pb::MessageType::GetValue),
        (Kind::AddProvider, pb::MessageType::AddProvider),
        (Kind::GetProviders, pb::MessageType::GetProviders),
        (Kind::FindNode, pb::MessageType::FindNode),
        (Kind::Ping, pb::MessageType::Ping),
    ] {
        assert_eq!(kind as i32, number as i32);
    }
}

#[test]
fn less_than_a_second_is_a_second_and_a_long_life_the_longest() {
    for (ttl, read) in [(Duration::from_millis(1), 1), (Duration::from_millis(2_900), 2), (Duration::MAX, u32::MAX)] {
        let value = Value { ttl: Some(ttl), ..full_value() };
        let bytes = unframed(encode_request(&Request::PutValue { value }, MAX_OUT).unwrap());
        let Ok(Request::PutValue { value }) = decode_request(None, bytes) else { panic!() };
        assert_eq!(value.ttl, Some(Duration::from_secs(read.into())));
    }
}

#[test]
fn an_age_is_sent_in_whole_seconds_and_never_shrinks() {
    let ages =
        [None, Some(Duration::ZERO), Some(Duration::from_millis(1)), Some(Duration::from_secs(7)), Some(Duration::MAX)];
    for (age, read) in ages.into_iter().zip([None, Some(0), Some(1), Some(7), Some(u32::MAX)]) {
        let value = Value { age, ..full_value() };
        let bytes = unframed(encode_request(&Request::PutValue { value }, MAX_OUT).unwrap());
        let Ok(Request::PutValue { value }) = decode_request(None, bytes) else { panic!() };
        assert_eq!(value.age, read.map(|secs: u32| Duration::from_secs(secs.into())));
    }
}

#[test]
fn a_peer_is_encoded_once() {
    let contact = ed();
    assert!(contact.encoded().get().is_none());
    let response = Response::FindNode { closer: vec![Arc::clone(&contact)] };
    encode_response(&response, MAX_OUT).unwrap();
    assert_eq!(contact.encoded().get(), Some(&hex(&format!("0a26{ED}1208{ADDR}"))));
    let marked = ed();
    marked.encoded().set(Bytes::from_static(b"ready")).unwrap();
    let encoded = encode_response(&Response::FindNode { closer: vec![marked] }, MAX_OUT).unwrap();
    assert_eq!(&encoded[..], b"\x09\x08\x04\x42\x05ready");
}

// ── What others send ────────────────────────────────────────────────────────────────────────────────────────────

/// Messages of go-libp2p, captured by js-libp2p.
#[test]
fn captured_messages_mean_what_they_did() {
    let hello = || Bytes::from_static(b"/v/hello");
    let provider = contact(RSA, &["/ip4/127.0.0.1/tcp/58555"]);
    let vectors = [
        ("080412082f762f68656c6c6f5000".into(), Request::FindNode { key: hello() }),
        (
            "080012082f762f68656c6c6f1a350a082f762f68656c6c6f1205776f726c641a22122022b0a34f217fd364680657d82a17fb8468d28\
             f16f60d77f7074a7e8a002c5a765000"
                .into(),
            Request::PutValue { value: Value::new(hello(), &b"world"[..]) },
        ),
        ("080112082f762f68656c6c6f5000".into(), Request::GetValue { key: hello().into() }),
        (format!("08041222{SOUGHT}5000"), Request::FindNode { key: hex(SOUGHT) }),
        (
            format!("08021222{SOUGHT}4a2e0a22{RSA}1208047f00000106e4bb5000"),
            Request::AddProvider { key: hex(SOUGHT).into(), providers: vec![provider] },
        ),
    ];
    for (bytes, request) in vectors {
        assert_eq!(decode_request(None, hex(&bytes)), Ok(request), "{bytes}");
    }
}

#[test]
fn an_absent_type_and_a_written_zero_are_put_value() {
    let rest = "12016b 1a060a016b120176";
    let expected = Request::PutValue { value: Value::new("k", &b"v"[..]) };
    assert_eq!(decode_request(None, hex(rest)), Ok(expected.clone()));
    assert_eq!(decode_request(None, hex(&format!("0800 {rest}"))), Ok(expected.clone()));
    assert_eq!(decode_request(None, hex(&format!("{rest} 0800"))), Ok(expected));
}

/// py-libp2p sends author and signature and its own field 11, rust-libp2p cluster levels of 9 and 10.
#[test]
fn retired_and_unknown_fields_are_ignored() {
    let ours = Value::new("k", &b"v"[..]);
    let record = "0a016b 120176 1a02abcd 2202ef01 7a03aabbcc f80107";
    let message = format!("12016b 1a16{record} 5a03010203 5001 5009 500a 50ffffffffffffffffff01 9a0600 6b08016c");
    assert_eq!(decode_request(None, hex(&message)), Ok(Request::PutValue { value: ours.clone() }));
    assert_eq!(decode_response(Kind::PutValue, hex(&message)), Ok(Response::PutValue { value: ours }));
}

#[test]
fn any_connection_type_will_do() {
    for connection in ["1801", "1803", "1863", "18ffffffffffffffffff01", "18ffffffff0f"] {
        let body = hex(&format!("0a26{ED}1208{ADDR}{connection}"));
        assert_eq!(closer(find_node([body.to_vec()])), [ed()], "{connection}");
    }
}

#[test]
fn an_unknown_type_is_no_request_and_an_answer_to_none() {
    for number in ["06", "7f", "ffffffffffffffffff01"] {
        let message = hex(&format!("08{number} 12016b"));
        assert_eq!(decode_request(None, message.clone()), Err(Misbehaviour::Undecodable));
        assert_eq!(decode_response(Kind::FindNode, message), Err(Misbehaviour::WrongType));
    }
}

#[test]
fn an_answer_is_of_the_type_asked_for() {
    for (response, bytes) in golden_responses() {
        let message = unframed(hex(&bytes));
        for kind in [Kind::Ping, Kind::FindNode, Kind::GetValue, Kind::PutValue, Kind::GetProviders, Kind::AddProvider]
        {
            let decoded = decode_response(kind, message.clone());
            assert_eq!(decoded.is_ok(), kind == response.kind());
            assert!(kind == response.kind() || decoded == Err(Misbehaviour::WrongType));
        }
    }
    // py-libp2p answers announcements.
    assert_eq!(decode_response(Kind::AddProvider, hex("0802 12016b")), Ok(Response::AddProvider));
}

#[test]
fn a_stored_value_has_the_key_of_its_message() {
    let other = "12016b 1a060a016c120176";
    assert_eq!(decode_request(None, hex(other)), Err(Misbehaviour::WrongKey));
    assert_eq!(decode_response(Kind::PutValue, hex(other)), Err(Misbehaviour::WrongKey));
    let no_message_key = "1a060a016b120176";
    assert_eq!(decode_request(None, hex(no_message_key)), Err(Misbehaviour::WrongKey));
    assert!(decode_response(Kind::PutValue, hex(no_message_key)).is_ok());
    let no_record_key = "12016b 1a03120176";
    assert_eq!(decode_request(None, hex(no_record_key)), Err(Misbehaviour::WrongKey));
    assert_eq!(decode_response(Kind::PutValue, hex(no_record_key)), Err(Misbehaviour::WrongKey));
}

#[test]
fn a_stored_value_has_a_record() {
    for message in ["", "12016b", "0800"] {
        assert_eq!(decode_request(None, hex(message)), Err(Misbehaviour::Undecodable));
        assert_eq!(decode_response(Kind::PutValue, hex(message)), Err(Misbehaviour::Undecodable));
    }
}

#[test]
fn keys_that_the_core_must_check_are_decoded() {
    assert_eq!(decode_request(None, hex("0804")), Ok(Request::FindNode { key: Bytes::new() }));
    let empty = RecordKey::new(Bytes::new());
    assert_eq!(decode_request(None, hex("0803")), Ok(Request::GetProviders { key: empty.clone() }));
    let expected = Response::GetValue { key: empty, value: Some(Value::new("k", &b"v"[..])), closer: vec![] };
    assert_eq!(decode_response(Kind::GetValue, hex("0801 1a060a016b120176")), Ok(expected));
}

#[test]
fn an_invalid_publisher_is_ignored() {
    let message = hex("12016b 1a0c 0a016b 120176 d22903ffffff");
    assert_eq!(decode_request(None, message), Ok(Request::PutValue { value: Value::new("k", &b"v"[..]) }));
}

#[test]
fn malformed_messages_are_refused() {
    for message in ["08", "0804 1205 6b", "4a", "0804 4005", "0a00", "0804 1005", "1a03 0a056b", "0804 4c", "07"] {
        assert_eq!(decode_request(None, hex(message)), Err(Misbehaviour::Undecodable), "{message}");
    }
}

#[test]
fn a_bad_peer_or_address_is_left_out_and_nothing_else() {
    let (good, bare) = (raw_peer(&hex(ED), &[&hex(ADDR)]), raw_peer(&hex(RSA), &[]));
    let bad_id = raw_peer(b"nobody", &[&hex(ADDR)]);
    let no_id = raw_peer(b"", &[&hex(ADDR)]);
    let no_peer = b"\x0a\x7f".to_vec();
    let addrs: [&[u8]; 4] = [b"\xff\xff", b"", &hex(ADDR), &hex("047f0000")];
    let bad_addrs = raw_peer(&hex(ED), &addrs);
    assert_eq!(closer(find_node([bad_id, good, no_id, no_peer, bare])), [ed(), rsa()]);
    assert_eq!(closer(find_node([bad_addrs])), [ed()]);
}

/// js-libp2p lists the target twice, py-libp2p itself without addresses.
#[test]
fn a_peer_named_twice_is_one_peer_with_the_addresses_of_both() {
    let second = hex("047f000002060fa1");
    let expected = contact(ED, &["/ip4/127.0.0.1/tcp/4001", "/ip4/127.0.0.2/tcp/4001"]);
    let entries = [
        raw_peer(&hex(ED), &[&hex(ADDR)]),
        raw_peer(&hex(RSA), &[]),
        raw_peer(&hex(ED), &[]),
        raw_peer(&hex(ED), &[&second, &hex(ADDR)]),
    ];
    assert_eq!(closer(find_node(entries)), [expected, rsa()]);
}

/// js-libp2p and py-libp2p do so in announcements, rust-libp2p in closer peers; no peer should have to dial such an
/// address.
#[test]
fn a_peer_id_at_the_end_of_an_address_is_read_and_not_sent() {
    let ended = format!("{ADDR}a50326{ED}");
    let foreign = format!("{ADDR}a50322{RSA}");
    let read = closer(find_node([raw_peer(&hex(ED), &[&hex(&ended), &hex(&foreign)])]));
    assert_eq!(read, [ed()]);
    let sent = unframed(encode_response(&Response::FindNode { closer: read }, MAX_OUT).unwrap());
    assert_eq!(sent, hex(&format!("0804 42320a26{ED}1208{ADDR}")));
}

#[test]
fn decoded_parts_do_not_keep_the_message_alive() {
    let mut message = vec![0x08, 1];
    message.extend(field(2, b"/a/b"));
    message.extend(field(3, &hex("0a042f612f62 120176")));
    message.extend(field(8, &raw_peer(&hex(ED), &[&hex(ADDR)])));
    message.extend(field(11, &vec![0; 100_000]));
    let message = Bytes::from(message);
    let Ok(Response::GetValue { key, value: Some(value), closer }) = decode_response(Kind::GetValue, message.clone())
    else {
        panic!("not read")
    };
    assert_eq!(closer, [ed()]);
    let within = message.as_ptr_range();
    for kept in [key.as_bytes(), value.key.as_bytes(), &value.value, closer[0].raw_addrs().next().unwrap()] {
        assert!(!within.contains(&kept.as_ptr()));
    }
}

#[test]
fn a_peer_has_the_addresses_of_all_its_entries_in_their_order() {
    let addr = |n: u8| hex(&format!("047f0000{n:02x}06{n:04x}"));
    let entry = |n: u8| raw_peer(&hex(ED), &[&addr(n), &addr(n + 100)]);
    let [contact] = &closer(find_node((1..=16).map(entry)))[..] else { panic!("one peer") };
    let ports = contact.raw_addrs().map(|addr| addr[7]);
    assert!(ports.eq((1..=16).flat_map(|n| [n, n + 100])));
}

#[test]
fn a_key_that_is_too_long_is_cut_before_it_is_hashed_and_still_too_long() {
    for (len, read) in [(MAX_KEY_LEN, MAX_KEY_LEN), (MAX_IN / 4, MAX_KEY_LEN + 1)] {
        let message = [vec![0x08, 1], field(2, &vec![7; len]), field(3, &field(1, &vec![7; len - 9]))].concat();
        let Ok(Request::GetValue { key }) = decode_request(None, message.clone().into()) else { panic!("not read") };
        assert_eq!(key.as_bytes().len(), read);
        let answer = decode_response(Kind::GetValue, message.into());
        let Ok(Response::GetValue { key, value: Some(value), .. }) = answer else { panic!("not read") };
        assert_eq!((key.as_bytes().len(), value.key.as_bytes().len()), (read, (len - 9).min(read)));
    }
}

// ── Bounds ──────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_list_of_peers_is_read_up_to_its_bound() {
    let many = MAX_PEERS as u32 + 500;
    let read = closer(find_node((0..many).map(|n| raw_peer(&numbered(n).to_bytes(), &[&hex(ADDR)]))));
    assert_eq!(read.len(), MAX_PEERS);
    assert_eq!(*read[MAX_PEERS - 1].peer(), numbered(MAX_PEERS as u32 - 1));
    // The entries are counted, not the peers in them: the valid one behind a thousand bad ones is not read.
    let bad = (0..MAX_PEERS).map(|_| Vec::new());
    assert!(closer(find_node(bad.chain([raw_peer(&hex(ED), &[])]))).is_empty());
}

#[test]
fn two_million_empty_peers_are_no_peers() {
    let mut message = vec![0x08, 4];
    while message.len() + 2 <= MAX_IN {
        message.extend([0x42, 0]);
    }
    assert_eq!(message.len(), MAX_IN);
    assert!(closer(message.into()).is_empty());
}

#[test]
fn an_entry_is_read_up_to_its_bounds() {
    let mut padded = raw_peer(&hex(ED), &[&hex(ADDR)]);
    let padding = MAX_PEER_LEN - padded.len() - 4;
    padded.extend(field(11, &vec![0; padding]));
    assert_eq!(padded.len(), MAX_PEER_LEN);
    assert_eq!(closer(find_node([padded.clone()])), [ed()]);
    padded.extend([0x60, 0]);
    assert_eq!(closer(find_node([padded, raw_peer(&hex(RSA), &[])])), [ed(), rsa()], "the rest is left out");
    let long = [raw_peer(&hex(ED), &[&hex(ADDR)]), field(2, &vec![0; MAX_PEER_LEN])].concat();
    assert_eq!(closer(find_node([long])), [ed()]);
    let addrs = vec![field(2, &[0; 500]); MAX_PEER_LEN / 500 + 1].concat();
    assert!(closer(find_node([[addrs, raw_peer(&hex(ED), &[&hex(ADDR)])].concat()])).is_empty(), "the id comes first");

    let addr = hex(ADDR);
    let mut addrs: Vec<&[u8]> = vec![b""; MAX_ADDRS_READ - 1];
    addrs.push(&addr);
    assert_eq!(closer(find_node([raw_peer(&hex(ED), &addrs)])), [ed()]);
    addrs.insert(0, b"");
    assert_eq!(closer(find_node([raw_peer(&hex(ED), &addrs)])), [contact(ED, &[])]);
}

#[test]
fn a_request_of_millions_of_fields_is_refused() {
    let ping = |fields: usize| [vec![0x08, 5], [0x5a, 0].repeat(fields)].concat();
    assert_eq!(decode_request(None, ping(MAX_FIELDS - 1).into()), Ok(Request::Ping));
    for fields in [MAX_FIELDS, 2_000_000] {
        assert_eq!(decode_request(None, ping(fields).into()), Err(Misbehaviour::Undecodable));
        assert_eq!(decode_response(Kind::Ping, ping(fields).into()), Ok(Response::Ping), "read as far as is useful");
    }
    // A group with as many fields in it.
    let group = |fields: usize| [vec![0x08, 5, 0x5b], [0x0a, 0].repeat(fields), vec![0x5c]].concat();
    assert_eq!(decode_request(None, group(MAX_FIELDS - 3).into()), Ok(Request::Ping));
    assert_eq!(decode_request(None, group(MAX_FIELDS - 2).into()), Err(Misbehaviour::Undecodable));
}

#[test]
fn of_an_announcement_the_entry_of_its_sender_is_read() {
    let entries = [raw_peer(&hex(RSA), &[&hex(ADDR)]), raw_peer(&hex(ED), &[&hex(ADDR)])];
    let message =
        [hex("0802 1203 6b6579").to_vec(), entries.iter().flat_map(|entry| field(9, entry)).collect()].concat();
    let read = |sender: Option<&PeerId>| match decode_request(sender, message.clone().into()) {
        Ok(Request::AddProvider { providers, .. }) => providers,
        other => panic!("{other:?}"),
    };
    assert_eq!(read(Some(ed().peer())), [ed()]);
    assert_eq!(read(None).len(), 2);
    assert_eq!(read(Some(&PeerId::random())), []);
}

#[test]
fn a_message_is_read_up_to_its_bound() {
    let mut message = vec![0x08, 5];
    message.extend(field(11, &vec![0; MAX_IN - 2 - 5]));
    assert_eq!(message.len(), MAX_IN);
    assert_eq!(decode_request(None, message.clone().into()), Ok(Request::Ping));
    message.push(0);
    assert_eq!(decode_request(None, message.clone().into()), Err(Misbehaviour::TooLarge));
    assert_eq!(decode_response(Kind::Ping, message.into()), Err(Misbehaviour::TooLarge));
}

#[test]
fn the_limit_of_a_value_is_exact_to_a_few_bytes() {
    let put = |len: usize| {
        let value = Value::new("/a/b", vec![7; len]);
        encode_request(&Request::PutValue { value: value.clone() }, MAX_OUT)
            .and_then(|bytes| encode_response(&Response::PutValue { value }, MAX_OUT).map(|echo| (bytes, echo)))
    };
    let longest = (0..MAX_OUT).rev().find(|len| put(*len).is_ok()).unwrap();
    let (request, echo) = put(longest).unwrap();
    assert!(request.len() <= MAX_OUT && request.len() > MAX_OUT - 4);
    assert_eq!(request, echo);
    assert_eq!(put(longest + 1), Err(RequestError::TooLarge));
    assert_eq!(put(10 * MAX_OUT), Err(RequestError::TooLarge));
    let key = Bytes::from(vec![0; MAX_OUT]);
    assert_eq!(encode_request(&Request::FindNode { key }, MAX_OUT), Err(RequestError::TooLarge));
    assert_eq!(encode_request(&Request::Ping, 0), Err(RequestError::TooLarge));
}
