//! Requests of the peer.

use std::time::Duration;

use libp2p_identity::PeerId;

use super::rig::*;
use crate::core::{Contact, Kind, Misbehaviour, Mode, Refusal, Reply, Request, Response, Value};
use crate::net::clock;
use crate::net::messages::FromHandler;
use crate::net::stream::StreamConfig;
use crate::wire;

fn answer() -> Reply {
    Reply::Answer(empty_answer())
}

async fn read_answer(stream: &mut libp2p_swarm::Stream) {
    assert_eq!(read(stream).await, Some(answer_bytes(&empty_answer()).slice(1..)));
}

/// A request on this stream, and its answer.
async fn serve(node: &mut Side, stream: &mut libp2p_swarm::Stream) {
    write(stream, &request_bytes(&find_node(b"key"))).await;
    let (id, request) = node.request().await;
    assert_eq!(request, find_node(b"key"));
    node.reply(id, answer()).await;
    read_answer(stream).await;
}

#[tokio::test]
async fn many_requests_on_one_stream_are_answered_in_order() {
    let (mut node, mut raw) = rig(config(), &[NAME]).await;
    let mut stream = raw.open().await;
    serve(&mut node, &mut stream).await;
    // All requests at once, in odd pieces; each is passed up only after the one before it was answered.
    let keys: [&'static [u8]; 3] = [b"one", b"two", b"three"];
    let bytes = keys.map(|key| request_bytes(&find_node(key))).concat();
    for piece in bytes.chunks(5) {
        write(&mut stream, piece).await;
    }
    for key in keys {
        let (id, request) = node.request().await;
        assert_eq!(request, find_node(key));
        assert_eq!(id.number() >> 32, 7, "the connection's number");
        node.reply(id, answer()).await;
        read_answer(&mut stream).await;
    }
    close(&mut stream).await;
    assert_eq!(read(&mut stream).await, None);
}

#[tokio::test]
async fn a_peer_that_half_closes_gets_its_answers() {
    let (mut node, mut raw) = rig(config(), &[NAME]).await;
    let mut stream = raw.open().await;
    let twice = [request_bytes(&find_node(b"key")), request_bytes(&find_node(b"key"))].concat();
    write(&mut stream, &twice).await;
    close(&mut stream).await;
    for _ in 0..2 {
        let (id, _) = node.request().await;
        // The end of input arrives before the answer.
        tokio::time::sleep(Duration::from_millis(50)).await;
        node.reply(id, answer()).await;
        read_answer(&mut stream).await;
    }
    assert_eq!(read(&mut stream).await, None);
}

#[tokio::test]
async fn what_is_no_request_resets_the_stream() {
    let (mut node, mut raw) = rig(config(), &[NAME]).await;
    let mut used = raw.open().await;
    serve(&mut node, &mut used).await;
    for bytes in [&[3_u8, 0xff, 0xff, 0xff][..], &[0x81, 0x80, 0x80, 0x02], &[0xff; 11]] {
        let mut stream = raw.open().await;
        write(&mut stream, bytes).await;
        assert!(ends_with_reset(&mut stream).await, "{bytes:?}");
    }
    write(&mut used, &[0xff; 11]).await;
    assert!(ends_with_reset(&mut used).await);
    // An end within a message.
    let mut stream = raw.open().await;
    write(&mut stream, &[9, 8]).await;
    close(&mut stream).await;
    assert_eq!(read(&mut stream).await, None);
    // The connection and other streams do not suffer.
    serve(&mut node, &mut raw.open().await).await;
    let (undecodable, too_large) = (Misbehaviour::Undecodable, Misbehaviour::TooLarge);
    assert_eq!(node.misbehaved, [undecodable, too_large, undecodable, undecodable]);
}

#[tokio::test]
async fn a_value_too_large_to_hand_out_is_neither_taken_nor_in_the_way() {
    let (mut node, mut raw) = rig(config(), &[NAME]).await;
    let limit = config().max_message_out;
    let value = |len: usize| Value::new("key", vec![1; len]);
    let put = |len: usize| wire::encode_request(&Request::PutValue { value: value(len) }, wire::MAX_IN).unwrap();
    let mut stream = raw.open().await;
    write(&mut stream, &put(limit)).await;
    assert!(ends_with_reset(&mut stream).await, "never handed up");
    let mut stream = raw.open().await;
    write(&mut stream, &put(limit - 100)).await;
    let (id, request) = node.request().await;
    assert_eq!(request, Request::PutValue { value: value(limit - 100) });
    node.reply(id, Reply::Answer(Response::PutValue { value: value(limit - 100) })).await;
    assert!(read(&mut stream).await.is_some(), "whatever is taken is echoed");

    write(&mut stream, &request_bytes(&Request::GetValue { key: "key".into() })).await;
    let (id, _) = node.request().await;
    let closer = vec![Contact::new(PeerId::random(), ["/ip4/127.0.0.1/tcp/1".parse().unwrap()])];
    let own = Response::GetValue { key: "key".into(), value: Some(value(limit)), closer: closer.clone() };
    node.reply(id, Reply::Answer(own)).await;
    let answer = wire::decode_response(Kind::GetValue, read(&mut stream).await.unwrap());
    assert_eq!(answer, Ok(Response::GetValue { key: "key".into(), value: None, closer }));
}

#[tokio::test]
async fn silent_and_slow_streams_are_reset_and_the_connection_goes() {
    let short = StreamConfig { inbound_request_timeout: Duration::from_millis(1000), ..config() };
    let (mut node, mut raw) = rig_with(short, &[NAME], Duration::from_millis(500)).await;
    let mut used = raw.open().await;
    let mut silent = raw.open().await;
    let mut slow = raw.open().await;
    write(&mut slow, &[9]).await;
    serve(&mut node, &mut used).await;
    assert!(ends_with_reset(&mut silent).await);
    assert!(ends_with_reset(&mut slow).await);
    node.closed().await;
}

#[tokio::test]
async fn a_later_request_that_does_not_go_on_is_given_up() {
    let short = StreamConfig { inbound_request_timeout: Duration::from_millis(1000), ..config() };
    let (mut node, mut raw) = rig(short, &[NAME]).await;
    let mut stream = raw.open().await;
    serve(&mut node, &mut stream).await;
    tokio::time::sleep(Duration::from_millis(1500)).await; // may be idle for longer than a request may take
    serve(&mut node, &mut stream).await;
    write(&mut stream, &[9]).await;
    assert!(ends_with_reset(&mut stream).await);
}

#[tokio::test]
async fn idle_streams_hold_no_connection() {
    let (mut node, mut raw) = rig_with(config(), &[NAME], Duration::from_millis(500)).await;
    let mut theirs = raw.open().await;
    serve(&mut node, &mut theirs).await;
    node.send(0, find_node(b"key")).await;
    let mut ours = raw.accept().await;
    read_request(&mut ours).await;
    write(&mut ours, &answer_bytes(&empty_answer())).await;
    assert!(node.response().await.1.is_ok());
    node.closed().await; // while both are open, with a minute to go
}

#[tokio::test]
async fn a_connection_stays_for_a_moment_after_its_last_request() {
    let (mut node, mut raw) = rig_with(config(), &[NAME], Duration::from_millis(20)).await;
    for _ in 0..3 {
        serve(&mut node, &mut raw.open().await).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let last = clock::instant();
    node.closed().await;
    assert!(last.elapsed() < Duration::from_secs(10), "but not for longer");
}

#[tokio::test]
async fn work_holds_the_connection() {
    let idle = Duration::from_millis(300);
    let (mut node, mut raw) = rig_with(config(), &[NAME], idle).await;
    node.send(0, find_node(b"key")).await;
    let mut ours = raw.accept().await;
    read_request(&mut ours).await;
    tokio::time::sleep(idle * 3).await;
    write(&mut ours, &answer_bytes(&empty_answer())).await;
    assert_eq!(node.response().await, (0, Ok(empty_answer())));

    let (mut node, mut raw) = rig_with(config(), &[NAME], idle).await;
    let mut theirs = raw.open().await;
    write(&mut theirs, &request_bytes(&find_node(b"key"))).await;
    let (id, _) = node.request().await;
    tokio::time::sleep(idle * 3).await;
    node.reply(id, answer()).await;
    read_answer(&mut theirs).await;
}

#[tokio::test]
async fn a_slow_first_request_is_waited_for() {
    let (mut node, mut raw) = rig_with(config(), &[NAME], Duration::from_millis(300)).await;
    let mut stream = raw.open().await;
    tokio::time::sleep(Duration::from_millis(900)).await; // the peer's first request takes a while to arrive
    serve(&mut node, &mut stream).await;
}

#[tokio::test]
async fn streams_that_were_used_are_closed_after_a_while() {
    let short = StreamConfig { inbound_idle_timeout: Duration::from_millis(100), ..config() };
    let (mut node, mut raw) = rig(short, &[NAME]).await;
    let mut stream = raw.open().await;
    serve(&mut node, &mut stream).await;
    assert!(!ends_with_reset(&mut stream).await, "in good order");
}

#[tokio::test]
async fn a_flood_of_streams_is_refused_and_the_longest_idle_makes_room() {
    let few = StreamConfig { inbound_streams: 4, ..config() };
    let (mut node, mut raw) = rig(few, &[NAME]).await;
    let mut streams = Vec::new();
    for _ in 0..4 {
        streams.push(raw.open().await);
    }
    for _ in 0..20 {
        let mut refused = raw.open().await;
        assert!(ends_with_reset(&mut refused).await, "none of the four is idle");
    }
    write(&mut streams[3], &request_bytes(&find_node(b"slow"))).await;
    let (slow, _) = node.request().await;
    for index in [2, 0] {
        serve(&mut node, &mut streams[index]).await;
    }
    let mut fifth = raw.open().await;
    assert!(ends_with_reset(&mut streams[2]).await, "the longest idle one makes room");
    serve(&mut node, &mut fifth).await;
    serve(&mut node, &mut streams[0]).await;
    serve(&mut node, &mut streams[1]).await;
    node.reply(slow, answer()).await;
    read_answer(&mut streams[3]).await;
}

#[tokio::test]
async fn unfinished_requests_share_a_bound() {
    let tight = StreamConfig { inbound_buffer: 96 * 1024, ..config() };
    let (mut node, mut raw) = rig(tight, &[NAME]).await;
    let mut most = vec![0x80, 0x80, 0x04]; // 64 KiB
    most.resize(60 * 1024, 0);
    let mut first = raw.open().await;
    write(&mut first, &most).await;
    let mut second = raw.open().await;
    let _ = futures::AsyncWriteExt::write_all(&mut second, &most).await;
    assert!(ends_with_reset(&mut second).await && ends_with_reset(&mut first).await);
    serve(&mut node, &mut raw.open().await).await;
}

#[tokio::test]
async fn a_request_longer_than_any_useful_one_is_refused_before_it_arrives() {
    let (mut node, mut raw) = rig(config(), &[NAME]).await;
    let mut longest = vec![0x80, 0x80, 0x04]; // 64 KiB
    longest.extend_from_slice(&request_bytes(&find_node(b"key"))[1..]);
    longest.push(0x5a); // a field that is skipped
    let body = 64 * 1024 - (longest.len() - 3) - 3;
    longest.extend_from_slice(&[body as u8 & 0x7f | 0x80, (body >> 7) as u8 & 0x7f | 0x80, (body >> 14) as u8]);
    longest.resize(64 * 1024 + 3, 0);
    let mut stream = raw.open().await;
    write(&mut stream, &longest).await;
    let (id, request) = node.request().await;
    assert_eq!(request, find_node(b"key"));
    node.reply(id, answer()).await;
    read_answer(&mut stream).await;
    write(&mut stream, &[0x81, 0x80, 0x04]).await;
    assert!(ends_with_reset(&mut stream).await);
}

/// Answers of 12 KiB that the peer does not read: six fill what may be untaken, beside what the connection buffers.
#[tokio::test]
async fn a_peer_that_takes_no_answers_is_read_no_further() {
    let tight = StreamConfig { untaken_answers: 20 * 1024, ..config() };
    let (mut node, mut raw) = rig(tight, &[NAME]).await;
    let long = || {
        Reply::Answer(Response::GetValue {
            key: "key".into(),
            value: Some(Value::new("key", vec![1; 12 * 1024])),
            closer: Vec::new(),
        })
    };
    let mut stream = raw.open().await;
    let many = vec![request_bytes(&Request::GetValue { key: "key".into() }); 1_000].concat();
    write(&mut stream, &many).await;
    let mut other = raw.open().await;
    let mut answered = 0;
    while let Ok(heard) = tokio::time::timeout(Duration::from_millis(300), node.heard()).await {
        if let Heard::Handler(FromHandler::Request { id, .. }) = heard {
            node.reply(id, long()).await;
            answered += 1;
        }
        assert!(answered < 200, "{answered} answers of 12 KiB are untaken");
    }
    write(&mut other, &request_bytes(&find_node(b"key"))).await;
    for _ in 0..answered {
        assert!(read(&mut stream).await.is_some());
    }
}

#[tokio::test]
async fn announcements_are_acknowledged_when_the_peer_has_closed() {
    let (mut node, mut raw) = rig(config(), &[NAME]).await;
    let mut stream = raw.open().await;
    for _ in 0..2 {
        write(&mut stream, &request_bytes(&announcement())).await;
        let (id, request) = node.request().await;
        assert_eq!(request.kind(), Kind::AddProvider);
        node.reply(id, Reply::Nothing).await;
    }
    serve(&mut node, &mut stream).await; // the first bytes after the announcements are this answer
    write(&mut stream, &request_bytes(&announcement())).await;
    let (id, _) = node.request().await;
    close(&mut stream).await;
    node.reply(id, Reply::Nothing).await;
    assert_eq!(read(&mut stream).await, None);
}

#[tokio::test]
async fn a_reset_is_one_on_the_wire() {
    let (mut node, mut raw) = rig(config(), &[NAME]).await;
    for reset in [Refusal::NotServing, Misbehaviour::BadKey.into()] {
        let mut stream = raw.open().await;
        write(&mut stream, &request_bytes(&find_node(b"key"))).await;
        let (id, _) = node.request().await;
        node.reply(id, Reply::Reset(reset)).await;
        assert!(ends_with_reset(&mut stream).await);
    }
}

#[tokio::test]
async fn a_client_takes_no_streams_and_lets_go_of_those_it_has() {
    let (mut node, mut raw) = rig(config(), &[NAME]).await;
    let mut idle = raw.open().await;
    serve(&mut node, &mut idle).await;
    let mut pending = raw.open().await;
    write(&mut pending, &request_bytes(&find_node(b"key"))).await;
    let (id, _) = node.request().await;

    node.set_mode(Mode::Client).await;
    match node.heard().await {
        Heard::Handler(FromHandler::RequestGone { id: gone }) => assert_eq!(gone, id),
        other => panic!("expected the end of the request: {other:?}"),
    }
    assert!(ends_with_reset(&mut idle).await);
    assert!(ends_with_reset(&mut pending).await);
    node.reply(id, answer()).await; // comes too late and is ignored
    assert!(raw.try_open().await.is_none());

    node.set_mode(Mode::Server).await;
    serve(&mut node, &mut raw.open().await).await;
}

#[tokio::test]
async fn both_ends_work_on_the_same_connection() {
    let (mut one, mut two) = nodes(Net::Memory, config(), config()).await;
    for round in 0..3 {
        one.send(round, Request::Ping).await;
        let (id, request) = two.request().await;
        assert_eq!(request, Request::Ping);
        two.send(round, find_node(b"key")).await;
        let (other, _) = one.request().await;
        one.reply(other, answer()).await;
        assert_eq!(two.response().await, (round, Ok(empty_answer())));
        two.reply(id, Reply::Answer(crate::core::Response::Ping)).await;
        assert_eq!(one.response().await, (round, Ok(crate::core::Response::Ping)));
    }
}
