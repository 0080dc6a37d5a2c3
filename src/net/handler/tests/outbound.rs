//! Requests of the node.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::StreamExt as _;
use libp2p_swarm::handler::ProtocolSupport;
use libp2p_swarm::{Stream, StreamProtocol};

use super::rig::*;
use crate::core::{Kind, Misbehaviour, Mode, Reply, Request, RequestError, Response};
use crate::net::stream::StreamConfig;

/// Answers the node's next request. Returns its stream.
async fn answer_next(raw: &mut Side) -> Stream {
    let mut stream = raw.accept().await;
    read_request(&mut stream).await;
    write(&mut stream, &answer_bytes(&empty_answer())).await;
    stream
}

#[tokio::test]
async fn requests_share_a_stream() {
    let (mut node, mut raw) = rig(config(), &[NAME]).await;
    node.send(0, find_node(b"key")).await;
    let mut stream = raw.accept().await;
    for id in 0..5 {
        assert_eq!(read_request(&mut stream).await, find_node(b"key"));
        write(&mut stream, &answer_bytes(&empty_answer())).await;
        assert_eq!(node.response().await, (id, Ok(empty_answer())));
        node.send(id + 1, find_node(b"key")).await;
    }
    assert!(raw.try_accept().is_none(), "one stream serves them all");
}

#[tokio::test]
async fn streams_are_capped_and_the_rest_waits() {
    let (mut node, mut raw) = rig(config(), &[NAME]).await;
    for id in 0..40 {
        node.send(id, find_node(b"key")).await;
    }
    let mut streams = Vec::new();
    for _ in 0..StreamConfig::DEFAULT_STREAMS_PER_PEER {
        streams.push(raw.accept().await);
    }
    let mut answered = BTreeSet::new();
    while answered.len() < 40 {
        for stream in &mut streams {
            if answered.len() == 40 {
                break;
            }
            read_request(stream).await;
            write(stream, &answer_bytes(&empty_answer())).await;
            let (id, result) = node.response().await;
            assert_eq!(result, Ok(empty_answer()));
            answered.insert(id);
        }
    }
    assert_eq!(answered, (0..40).collect());
    assert!(raw.try_accept().is_none(), "never more streams than that");
}

#[tokio::test]
async fn a_peer_that_takes_few_streams_is_given_few_and_loses_no_request() {
    let (mut node, mut raw) = rig(config(), &[NAME]).await;
    for id in 0..20 {
        node.send(id, find_node(b"key")).await;
    }
    let mut streams = Vec::new();
    for number in 0..20 {
        let stream = raw.accept().await;
        // The rest are reset, as a server does that has as many as it takes.
        if number < StreamConfig::SAFE_STREAMS_PER_PEER {
            streams.push(stream);
        }
    }
    let mut answered = BTreeSet::new();
    while answered.len() < 20 {
        for stream in &mut streams {
            if answered.len() == 20 {
                break;
            }
            read_request(stream).await;
            write(stream, &answer_bytes(&empty_answer())).await;
            let (id, result) = node.response().await;
            assert_eq!(result, Ok(empty_answer()), "{id}");
            answered.insert(id);
        }
    }
    assert!(raw.try_accept().is_none(), "no more are opened");
}

#[tokio::test]
async fn one_more_than_may_wait_is_busy() {
    let small = StreamConfig { streams_per_peer: 1, queued_per_peer: 2, ..config() };
    let (mut node, mut raw) = rig(small, &[NAME]).await;
    for id in 0..5 {
        node.send(id, find_node(b"key")).await;
    }
    assert_eq!(node.response().await, (3, Err(RequestError::Busy)));
    assert_eq!(node.response().await, (4, Err(RequestError::Busy)));
    let mut stream = raw.accept().await;
    for id in 0..3 {
        read_request(&mut stream).await;
        write(&mut stream, &answer_bytes(&empty_answer())).await;
        assert_eq!(node.response().await, (id, Ok(empty_answer())));
    }
}

#[tokio::test]
async fn a_peer_that_closes_after_one_message_is_served_on_fresh_streams() {
    let (mut node, mut raw) = rig(config(), &[NAME]).await;
    for id in 0..4 {
        node.send(id, find_node(b"key")).await;
        let mut stream = answer_next(&mut raw).await;
        close(&mut stream).await;
        assert_eq!(node.response().await, (id, Ok(empty_answer())));
        assert_eq!(read(&mut stream).await, None);
    }
}

#[tokio::test]
async fn a_reused_stream_that_breaks_is_replaced_once() {
    let (mut node, mut raw) = rig(config(), &[NAME]).await;
    node.send(0, find_node(b"key")).await;
    let mut stream = answer_next(&mut raw).await;
    assert_eq!(node.response().await, (0, Ok(empty_answer())));

    node.send(1, find_node(b"other")).await;
    assert_eq!(read_request(&mut stream).await, find_node(b"other"));
    drop(stream);
    let mut fresh = raw.accept().await;
    assert_eq!(read_request(&mut fresh).await, find_node(b"other"));
    drop(fresh);
    assert_eq!(node.response().await, (1, Err(RequestError::Refused)));
    assert!(raw.try_accept().is_none());
}

#[tokio::test]
async fn an_end_within_a_reused_answer_is_not_tried_again() {
    let (mut node, mut raw) = rig(config(), &[NAME]).await;
    node.send(0, find_node(b"key")).await;
    let mut stream = answer_next(&mut raw).await;
    assert!(node.response().await.1.is_ok());
    node.send(1, find_node(b"key")).await;
    read_request(&mut stream).await;
    write(&mut stream, &[9, 8]).await;
    close(&mut stream).await;
    assert_eq!(node.response().await, (1, Err(RequestError::Refused)));
    assert!(raw.try_accept().is_none());
}

#[tokio::test]
async fn answers_that_break_the_protocol_are_named() {
    let (mut node, mut raw) = rig(config(), &[NAME]).await;
    let too_large = [0x81, 0x80, 0x80, 0x02]; // 4 MiB and one, of which nothing follows
    let wrong_type = answer_bytes(&Response::Ping);
    let cases: [(&[u8], Misbehaviour); 4] = [
        (&wrong_type, Misbehaviour::WrongType),
        (&[3, 0xff, 0xff, 0xff], Misbehaviour::Undecodable),
        (&too_large, Misbehaviour::TooLarge),
        (&[0xff; 11], Misbehaviour::Undecodable),
    ];
    for (id, (bytes, what)) in (0..).zip(cases) {
        node.send(id, find_node(b"key")).await;
        let mut stream = raw.accept().await;
        read_request(&mut stream).await;
        write(&mut stream, bytes).await;
        assert_eq!(node.response().await, (id, Err(RequestError::Misbehaved(what))));
        assert!(ends_with_reset(&mut stream).await, "it is never used again");
    }
}

#[tokio::test]
async fn a_stream_with_more_bytes_than_asked_for_is_not_used_again() {
    let (mut node, mut raw) = rig(config(), &[NAME]).await;
    // In one piece with the answer.
    node.send(0, find_node(b"key")).await;
    let mut stream = raw.accept().await;
    read_request(&mut stream).await;
    write(&mut stream, &[&answer_bytes(&empty_answer())[..], b"x"].concat()).await;
    assert_eq!(node.response().await, (0, Ok(empty_answer())));
    assert!(ends_with_reset(&mut stream).await);
    // Later, on the idle stream.
    node.send(1, find_node(b"key")).await;
    let mut stream = answer_next(&mut raw).await;
    assert_eq!(node.response().await, (1, Ok(empty_answer())));
    write(&mut stream, &answer_bytes(&empty_answer())).await;
    assert!(ends_with_reset(&mut stream).await);
    // The next request is not confused.
    node.send(2, find_node(b"key")).await;
    let _stream = answer_next(&mut raw).await;
    assert_eq!(node.response().await, (2, Ok(empty_answer())));
}

#[tokio::test]
async fn cancel_resets_the_stream_and_reports_nothing() {
    let single = StreamConfig { streams_per_peer: 1, ..config() };
    let (mut node, mut raw) = rig(single, &[NAME]).await;
    for id in 0..3 {
        node.send(id, find_node(b"key")).await;
    }
    let mut stream = raw.accept().await;
    read_request(&mut stream).await;
    node.cancel(1).await; // still queued
    node.cancel(0).await;
    assert!(ends_with_reset(&mut stream).await);
    let _stream = answer_next(&mut raw).await;
    assert_eq!(node.response().await, (2, Ok(empty_answer())));
    assert!(raw.try_accept().is_none());
}

#[tokio::test]
async fn what_waits_for_a_stream_is_not_said_to_be_sent() {
    let (mut node, mut raw) = rig(StreamConfig { streams_per_peer: 1, ..config() }, &[NAME]).await;
    for id in [0, 1] {
        node.send(id, find_node(b"key")).await;
    }
    let mut stream = raw.accept().await;
    read_request(&mut stream).await;
    let nothing = tokio::time::timeout(Duration::from_millis(100), node.heard()).await;
    assert!(nothing.is_err(), "{nothing:?}");
    assert_eq!(node.sent, [0]);
    write(&mut stream, &answer_bytes(&empty_answer())).await;
    assert_eq!(node.response().await, (0, Ok(empty_answer())));
    read_request(&mut stream).await;
    write(&mut stream, &answer_bytes(&empty_answer())).await;
    assert_eq!(node.response().await, (1, Ok(empty_answer())));
    assert_eq!(node.sent, [0, 1], "each once");
}

#[tokio::test]
async fn idle_streams_are_closed_in_good_order() {
    let short = StreamConfig { outbound_idle_timeout: Duration::from_millis(50), ..config() };
    let (mut node, mut raw) = rig(short, &[NAME]).await;
    node.send(0, find_node(b"key")).await;
    let mut stream = answer_next(&mut raw).await;
    assert!(node.response().await.1.is_ok());
    assert!(!ends_with_reset(&mut stream).await);
}

/// Reads this many announcements and the FIND_NODE behind them.
async fn read_announcements(stream: &mut Stream, count: usize) {
    for _ in 0..count {
        assert_eq!(read_request(stream).await.kind(), Kind::AddProvider);
    }
    assert_eq!(read_request(stream).await.kind(), Kind::FindNode);
}

#[tokio::test]
async fn the_answer_to_what_follows_acknowledges_announcements() {
    let (mut node, mut raw) = rig(config(), &[NAME]).await;
    node.send(0, announcement()).await;
    let mut stream = raw.accept().await;
    read_announcements(&mut stream, 1).await;
    write(&mut stream, &answer_bytes(&empty_answer())).await;
    assert_eq!(node.response().await, (0, Ok(Response::AddProvider)));
    // py-libp2p echoes it before.
    node.send(1, announcement()).await;
    let echo = request_bytes(&read_request(&mut stream).await);
    assert_eq!(read_request(&mut stream).await.kind(), Kind::FindNode);
    write(&mut stream, &echo).await;
    write(&mut stream, &answer_bytes(&empty_answer())).await;
    assert_eq!(node.response().await, (1, Ok(Response::AddProvider)));
    // The stream is used again for anything.
    node.send(2, find_node(b"key")).await;
    assert_eq!(read_request(&mut stream).await, find_node(b"key"));
    write(&mut stream, &answer_bytes(&empty_answer())).await;
    assert_eq!(node.response().await, (2, Ok(empty_answer())));
    assert!(raw.try_accept().is_none(), "one stream serves them all");
}

#[tokio::test]
async fn an_announcement_is_not_acknowledged_before_the_answer() {
    let (mut node, mut raw) = rig(config(), &[NAME]).await;
    node.send(0, announcement()).await;
    let mut stream = raw.accept().await;
    let echo = request_bytes(&read_request(&mut stream).await);
    read_request(&mut stream).await;
    write(&mut stream, &echo).await;
    let nothing = tokio::time::timeout(Duration::from_millis(100), node.heard()).await;
    assert!(nothing.is_err(), "{nothing:?}");
    // More echoes than announcements are none.
    write(&mut stream, &echo).await;
    assert_eq!(node.response().await, (0, Err(RequestError::Misbehaved(Misbehaviour::WrongType))));
}

#[tokio::test]
async fn an_orderly_end_acknowledges_an_announcement_on_a_new_stream() {
    let (mut node, mut raw) = rig(config(), &[NAME]).await;
    node.send(0, announcement()).await;
    let mut stream = raw.accept().await;
    read_announcements(&mut stream, 1).await;
    close(&mut stream).await;
    assert_eq!(node.response().await, (0, Ok(Response::AddProvider)));
}

#[tokio::test]
async fn an_announcement_is_sent_again_if_the_peer_ends_a_stream_that_was_used_before() {
    let (mut node, mut raw) = rig(config(), &[NAME]).await;
    node.send(0, find_node(b"key")).await;
    let mut stream = answer_next(&mut raw).await;
    assert!(node.response().await.1.is_ok());
    node.send(1, announcement()).await;
    read_announcements(&mut stream, 1).await;
    close(&mut stream).await; // as the end of its idle time would: it may have read nothing
    let mut stream = raw.accept().await;
    read_announcements(&mut stream, 1).await;
    write(&mut stream, &answer_bytes(&empty_answer())).await;
    assert_eq!(node.response().await, (1, Ok(Response::AddProvider)));
}

#[tokio::test]
async fn announcements_can_be_refused() {
    let (mut node, mut raw) = rig(config(), &[NAME]).await;
    node.send(0, announcement()).await;
    let mut stream = raw.accept().await;
    read_request(&mut stream).await;
    drop(stream);
    assert_eq!(node.response().await, (0, Err(RequestError::Refused)));
}

/// A node with one stream, and this many announcements that waited for it to be free and are on it now.
async fn announcements_on_a_stream(count: u64) -> (Side, Side, Stream) {
    let (mut node, mut raw) = rig(StreamConfig { streams_per_peer: 1, ..config() }, &[NAME]).await;
    node.send(1_000, find_node(b"key")).await;
    let mut stream = raw.accept().await;
    read_request(&mut stream).await;
    for id in 0..count {
        node.send(id, announcement()).await;
    }
    write(&mut stream, &answer_bytes(&empty_answer())).await;
    assert_eq!(node.response().await, (1_000, Ok(empty_answer())));
    (node, raw, stream)
}

#[tokio::test]
async fn announcements_that_wait_together_share_a_stream() {
    let (mut node, _raw, mut stream) = announcements_on_a_stream(20).await;
    let mut ended = BTreeSet::new();
    for wanted in [16, 4] {
        read_announcements(&mut stream, wanted).await;
        write(&mut stream, &answer_bytes(&empty_answer())).await;
        for _ in 0..wanted {
            let (id, result) = node.response().await;
            assert_eq!(result, Ok(Response::AddProvider));
            assert!(ended.insert(id), "{id} ended twice");
        }
    }
}

#[tokio::test]
async fn a_peer_that_ends_the_stream_after_one_announcement_gets_the_others_one_by_one() {
    let (mut node, mut raw, stale) = announcements_on_a_stream(4).await;
    drop(stale);
    for id in 0..4 {
        let mut stream = raw.accept().await;
        read_request(&mut stream).await;
        close(&mut stream).await;
        assert_eq!(node.response().await, (id, Ok(Response::AddProvider)));
    }
}

#[tokio::test]
async fn one_refusal_does_not_refuse_those_that_share_the_stream() {
    let (mut node, mut raw, stale) = announcements_on_a_stream(3).await;
    drop(stale);
    let mut stream = raw.accept().await;
    read_announcements(&mut stream, 3).await;
    drop(stream);
    for (id, refuses) in [(0, false), (1, true), (2, false)] {
        let mut stream = raw.accept().await;
        read_announcements(&mut stream, 1).await;
        let result = match refuses {
            true => {
                drop(stream);
                Err(RequestError::Refused)
            }
            false => {
                write(&mut stream, &answer_bytes(&empty_answer())).await;
                Ok(Response::AddProvider)
            }
        };
        assert_eq!(node.response().await, (id, result));
    }
}

#[tokio::test]
async fn a_cancelled_announcement_does_not_cancel_those_that_share_its_stream() {
    let (mut node, _raw, mut stream) = announcements_on_a_stream(3).await;
    read_request(&mut stream).await;
    node.cancel(0).await;
    read_announcements(&mut stream, 2).await;
    write(&mut stream, &answer_bytes(&empty_answer())).await;
    for id in [1, 2] {
        assert_eq!(node.response().await, (id, Ok(Response::AddProvider)));
    }
}

#[tokio::test]
async fn the_echo_of_a_cancelled_announcement_is_no_breach() {
    let (mut node, _raw, mut stream) = announcements_on_a_stream(2).await;
    let echo = request_bytes(&read_request(&mut stream).await);
    node.cancel(0).await;
    read_announcements(&mut stream, 1).await;
    for _ in 0..2 {
        write(&mut stream, &echo).await;
    }
    write(&mut stream, &answer_bytes(&empty_answer())).await;
    assert_eq!(node.response().await, (1, Ok(Response::AddProvider)));
}

#[tokio::test]
async fn an_orderly_end_acknowledges_no_announcement_behind_one_that_was_cancelled() {
    let (mut node, mut raw, stale) = announcements_on_a_stream(2).await;
    drop(stale);
    let mut stream = raw.accept().await;
    read_announcements(&mut stream, 2).await;
    node.cancel(0).await;
    close(&mut stream).await; // the peer took the first, which is the cancelled one
    let mut stream = raw.accept().await;
    read_announcements(&mut stream, 1).await;
    drop(stream);
    assert_eq!(node.response().await, (1, Err(RequestError::Refused)));
}

#[tokio::test]
async fn the_refusal_of_a_cancelled_announcement_refuses_no_other() {
    let (mut node, mut raw, stale) = announcements_on_a_stream(2).await;
    drop(stale);
    let mut stream = raw.accept().await;
    read_announcements(&mut stream, 2).await;
    node.cancel(0).await;
    drop(stream);
    let mut stream = raw.accept().await;
    read_announcements(&mut stream, 1).await;
    write(&mut stream, &answer_bytes(&empty_answer())).await;
    assert_eq!(node.response().await, (1, Ok(Response::AddProvider)));
}

#[tokio::test]
async fn a_refused_announcement_is_never_acknowledged_between_nodes() {
    for net in [Net::Memory, Net::Quic] {
        let (mut sender, mut receiver) = nodes(net, config(), config()).await;
        sender.send(0, announcement()).await;
        let (id, _) = receiver.request().await;
        receiver.reply(id, Reply::Reset(crate::core::Refusal::Busy)).await;
        assert_eq!(sender.response().await, (0, Err(RequestError::Refused)), "{net:?}");
    }
}

/// Answers the FIND_NODE behind announcements.
async fn answer_what_follows(receiver: &mut Side) {
    let (id, request) = receiver.request().await;
    assert_eq!(request.kind(), Kind::FindNode);
    receiver.reply(id, Reply::Answer(empty_answer())).await;
}

#[tokio::test]
async fn a_taken_announcement_is_acknowledged_between_nodes() {
    for net in [Net::Memory, Net::Quic] {
        let (mut sender, mut receiver) = nodes(net, config(), config()).await;
        for number in 0..2 {
            sender.send(number, announcement()).await;
            let (id, request) = receiver.request().await;
            assert_eq!(request.kind(), Kind::AddProvider);
            receiver.reply(id, Reply::Nothing).await;
            answer_what_follows(&mut receiver).await;
            assert_eq!(sender.response().await, (number, Ok(Response::AddProvider)), "{net:?}");
        }
    }
}

#[tokio::test]
async fn a_peer_without_the_protocol_is_unsupported() {
    let (mut node, _raw) = rig(config(), &[StreamProtocol::new("/other/1.0.0")]).await;
    for id in 0..3 {
        node.send(id, find_node(b"key")).await;
    }
    assert!(!node.serves().await);
    for id in 0..3 {
        assert_eq!(node.response().await, (id, Err(RequestError::Unsupported)));
    }
}

#[tokio::test]
async fn a_peer_without_the_protocol_is_unsupported_where_streams_are_negotiated_lazily() {
    for request in [find_node(b"key"), announcement()] {
        let (mut node, mut other) = node_and(Net::Lazy, config(), |_| libp2p_swarm::dummy::Behaviour).await;
        tokio::spawn(async move { while other.next().await.is_some() {} });
        node.send(0, request).await;
        assert_eq!(node.response().await, (0, Err(RequestError::Unsupported)));
        assert!(!node.serves().await);
    }
    let (mut one, mut two) = nodes(Net::Lazy, config(), config()).await;
    for (number, request) in (0..).zip([announcement(), find_node(b"key"), find_node(b"key")]) {
        one.send(number, request).await;
        let (id, request) = two.request().await;
        let (reply, answer) = match request.kind() {
            Kind::AddProvider => (Reply::Nothing, Response::AddProvider),
            _ => (Reply::Answer(empty_answer()), empty_answer()),
        };
        two.reply(id, reply).await;
        if answer == Response::AddProvider {
            answer_what_follows(&mut two).await;
        }
        assert_eq!(one.response().await, (number, Ok(answer)));
    }
}

#[tokio::test]
async fn the_first_common_name_is_spoken() {
    let both = StreamConfig { protocols: vec![NAME, OLD_NAME], ..config() };
    let (mut node, mut raw) = rig(both, &[OLD_NAME]).await;
    node.send(0, find_node(b"key")).await;
    let _stream = answer_next(&mut raw).await;
    assert_eq!(node.response().await, (0, Ok(empty_answer())));

    let mut stream = raw.open().await;
    write(&mut stream, &request_bytes(&find_node(b"key"))).await;
    let (id, _) = node.request().await;
    node.reply(id, Reply::Answer(empty_answer())).await;
    assert_eq!(read(&mut stream).await, Some(answer_bytes(&empty_answer()).slice(1..)));
}

#[tokio::test]
async fn what_does_not_fit_is_not_sent() {
    let (mut node, mut raw) = rig(config(), &[NAME]).await;
    node.send(0, Request::FindNode { key: vec![1; 20_000].into() }).await;
    assert_eq!(node.response().await, (0, Err(RequestError::TooLarge)));
    assert!(raw.try_accept().is_none());
}

#[tokio::test]
async fn the_peers_protocols_are_reported_on_change() {
    let both = StreamConfig { protocols: vec![NAME, OLD_NAME], ..config() };
    let (mut node, _raw) = rig(both, &[NAME]).await;
    let other = StreamProtocol::new("/other/1.0.0");
    let added = |names: &[StreamProtocol]| Tell::Report(ProtocolSupport::Added(names.iter().cloned().collect()));
    let removed = |names: &[StreamProtocol]| Tell::Report(ProtocolSupport::Removed(names.iter().cloned().collect()));
    node.tell(added(std::slice::from_ref(&other))).await;
    assert!(!node.serves().await, "the first list has none of our names");
    node.tell(added(&[OLD_NAME])).await;
    assert!(node.serves().await);
    node.tell(added(&[NAME])).await; // nothing new
    node.tell(removed(&[OLD_NAME])).await; // one is left
    node.tell(removed(&[other])).await; // none of ours
    node.tell(removed(&[NAME])).await;
    assert!(!node.serves().await);
    node.tell(added(&[NAME])).await;
    assert!(node.serves().await);
}

#[tokio::test]
async fn an_answer_takes_back_that_the_peer_does_not_serve() {
    let (mut one, mut two) = nodes(Net::Memory, config(), config()).await;
    two.set_mode(Mode::Client).await;
    one.send(0, find_node(b"key")).await;
    assert!(!one.serves().await);
    assert_eq!(one.response().await, (0, Err(RequestError::Unsupported)));
    two.set_mode(Mode::Server).await;
    one.send(1, find_node(b"key")).await;
    let (id, _) = two.request().await;
    two.reply(id, Reply::Answer(empty_answer())).await;
    assert_eq!(one.response().await, (1, Ok(empty_answer())));
    assert!(one.serves().await);
    // A list without our names says nothing new.
    let other = StreamProtocol::new("/other/1.0.0");
    one.tell(Tell::Report(ProtocolSupport::Added([other].into_iter().collect()))).await;
    one.send(2, find_node(b"key")).await;
    let (id, _) = two.request().await;
    two.reply(id, Reply::Answer(empty_answer())).await;
    assert_eq!(one.response().await, (2, Ok(empty_answer())));
}
