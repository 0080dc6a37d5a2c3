//! The number of times that timers are set, and that they still expire.

use std::time::Duration;

use super::rig::*;
use crate::core::Reply;
use crate::net::clock;
use crate::net::stream::StreamConfig;
use crate::net::timer::TIMES_SET;

#[tokio::test]
async fn a_thousand_requests_on_one_stream_set_few_timers() {
    let (mut node, mut peer) = nodes(Net::Memory, config(), config()).await;
    assert_eq!(TIMES_SET.get(), 0, "a connection without streams has no timer");
    let start = clock::instant();
    for number in 0..1000 {
        node.send(number, find_node(b"key")).await;
        let (id, _) = peer.request().await;
        peer.reply(id, Reply::Answer(empty_answer())).await;
        assert_eq!(node.response().await, (number, Ok(empty_answer())));
    }
    // On each side one for the first request, and two each time that one expires: for a request, and for the time after
    // it.
    let most = 2 + 4 * (1 + usize::try_from(start.elapsed().as_millis() / 200).unwrap());
    assert!(TIMES_SET.get() <= most, "{} timers, not {most}", TIMES_SET.get());
}

#[tokio::test]
async fn a_timer_that_expires_for_a_deadline_that_is_gone_is_set_for_the_next() {
    let idle = Duration::from_millis(2500);
    let request = Duration::from_millis(1500);
    let short = StreamConfig { inbound_request_timeout: request, inbound_idle_timeout: idle, ..config() };
    let (mut node, mut raw) = rig(short, &[NAME]).await;
    let mut stream = raw.open().await;
    write(&mut stream, &request_bytes(&find_node(b"key"))).await;
    let (id, _) = node.request().await;
    let answered = clock::instant();
    node.reply(id, Reply::Answer(empty_answer())).await;
    assert!(read(&mut stream).await.is_some());
    assert!(!ends_with_reset(&mut stream).await, "in good order");
    assert!(answered.elapsed() >= idle, "the request's deadline is not the idle one's");
}
