//! The ways in which a query can be dropped while its command is under way, one by one.

use std::pin::pin;
use std::sync::atomic::AtomicUsize;

use futures::task::{ArcWake, noop_waker, waker};
use libp2p_identity::PeerId;

use super::*;
use crate::core::{Found, Kind, Timestamp};
use crate::handle::DhtHandle;
use crate::handle::query::{MAX_UNREAD_STEPS, Providers, Query};

#[derive(Default)]
struct Count(AtomicUsize);

impl ArcWake for Count {
    fn wake_by_ref(count: &Arc<Count>) {
        count.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn node() -> (CommandReceiver, DhtHandle) {
    let (sender, receiver) = channel();
    (receiver, DhtHandle::new(sender))
}

fn take(receiver: &mut CommandReceiver) -> Option<Command> {
    match receiver.poll_command(&mut Context::from_waker(&noop_waker())) {
        Poll::Ready(command) => command,
        Poll::Pending => None,
    }
}

fn take_cancelled(receiver: &mut CommandReceiver) -> Option<CallId> {
    match receiver.poll_cancelled(&mut Context::from_waker(&noop_waker())) {
        Poll::Ready(call) => call,
        Poll::Pending => None,
    }
}

/// The next command, which starts a query.
fn take_start(receiver: &mut CommandReceiver) -> (CallId, Reports, oneshot::Sender<Result<Answer, QueryError>>) {
    let Some(Command::Start(call, start, end)) = take(receiver) else { panic!("no query") };
    (call, start.reports, end)
}

fn poll<T: 'static>(query: &mut Query<T>) -> Poll<Result<T, QueryError>> {
    pin!(query).poll(&mut Context::from_waker(&noop_waker()))
}

fn next<S: futures::Stream + Unpin>(stream: &mut S) -> Poll<Option<S::Item>> {
    stream.poll_next_unpin(&mut Context::from_waker(&noop_waker()))
}

fn sizes(receiver: &CommandReceiver) -> (usize, usize) {
    (receiver.commands.len(), receiver.cancelled.len())
}

#[test]
fn a_query_that_is_never_polled_is_never_sent() {
    let (mut receiver, dht) = node();
    drop(dht.get(b"/a/b"));
    assert!(take(&mut receiver).is_none());
}

#[test]
fn dropped_before_its_command_is_taken_it_is_not_wanted() {
    let (mut receiver, dht) = node();
    let mut query = dht.get(b"/a/b");
    assert!(poll(&mut query).is_pending());
    assert_eq!(sizes(&receiver), (1, 0));
    drop(query);
    let (call, _, end) = take_start(&mut receiver);
    assert!(end.is_canceled());
    assert_eq!(take_cancelled(&mut receiver), Some(call));
    assert_eq!(sizes(&receiver), (0, 0));
}

#[test]
fn dropped_between_taking_and_starting_it_is_seen_twice() {
    let (mut receiver, dht) = node();
    let mut query = dht.get(b"/a/b");
    assert!(poll(&mut query).is_pending());
    let (call, _, end) = take_start(&mut receiver);
    assert!(!end.is_canceled());
    drop(query);
    assert!(end.is_canceled());
    assert_eq!(take_cancelled(&mut receiver), Some(call));
    assert_eq!(sizes(&receiver), (0, 0));
}

#[test]
fn read_to_its_end_it_leaves_nothing() {
    let (mut receiver, dht) = node();
    let mut query = dht.get(b"/a/b");
    assert!(poll(&mut query).is_pending());
    take_start(&mut receiver).2.send(Err(QueryError::NoPeers)).unwrap();
    assert!(matches!(poll(&mut query), Poll::Ready(Err(QueryError::NoPeers))));
    assert!(matches!(poll(&mut query), Poll::Ready(Err(QueryError::Closed))), "never hangs after its end");
    drop(query);
    assert_eq!(sizes(&receiver), (0, 0));
}

/// A channel whose senders each own a place would grow with every iteration of this loop.
#[test]
fn start_and_drop_without_end_stays_within_the_bound() {
    let (receiver, dht) = node();
    for _ in 0..10 * MAX_COMMANDS {
        let mut query = dht.clone().get(b"/a/b");
        assert!(poll(&mut query).is_pending());
    }
    assert_eq!(sizes(&receiver), (MAX_COMMANDS, MAX_COMMANDS));
}

#[test]
fn a_full_channel_makes_queries_wait_and_commands_fail() {
    let (mut receiver, dht) = node();
    let mut held: Vec<_> = (0..MAX_COMMANDS).map(|_| dht.get(b"/a/b")).collect();
    assert!(held.iter_mut().all(|query| poll(query).is_pending()));
    assert_eq!(dht.set_mode(None).check(), Err(HandleError::Busy));
    let count = Arc::new(Count::default());
    let waker = waker(Arc::clone(&count));
    let (mut waiting, mut dropped) = (dht.get(b"/a/c"), dht.get(b"/a/d"));
    assert!(pin!(&mut waiting).poll(&mut Context::from_waker(&waker)).is_pending());
    assert!(poll(&mut dropped).is_pending());
    drop(dropped);
    assert_eq!(sizes(&receiver), (MAX_COMMANDS, 0), "what was not sent needs no cancellation");
    for _ in 0..MAX_COMMANDS {
        assert!(take(&mut receiver).is_some());
    }
    assert_eq!(count.0.load(Ordering::SeqCst), 1, "the one that waits is woken");
    assert!(poll(&mut waiting).is_pending());
    assert!(take(&mut receiver).is_some());
    // Each query that was started and is dropped now leaves one cancellation.
    drop(held);
    assert_eq!(sizes(&receiver), (0, MAX_COMMANDS));
}

#[test]
fn order_is_kept_between_commands_and_queries() {
    let (mut receiver, dht) = node();
    assert_eq!(dht.set_mode(None).check(), Ok(()));
    let mut query = dht.bootstrap();
    assert!(poll(&mut query).is_pending());
    assert_eq!(dht.add_peer(PeerId::random(), []).check(), Ok(()));
    assert!(matches!(take(&mut receiver), Some(Command::SetMode(None))));
    assert!(matches!(take(&mut receiver), Some(Command::Start(..))));
    assert!(matches!(take(&mut receiver), Some(Command::AddPeer(_))));
}

#[test]
fn a_driver_that_sleeps_is_woken_by_each_kind_of_news() {
    let (mut receiver, dht) = node();
    let count = Arc::new(Count::default());
    let waker = waker(Arc::clone(&count));
    let sleep = |receiver: &mut CommandReceiver| {
        let cx = &mut Context::from_waker(&waker);
        assert!(receiver.poll_cancelled(cx).is_pending() && receiver.poll_command(cx).is_pending());
    };
    let woken = || count.0.swap(0, Ordering::SeqCst);
    sleep(&mut receiver);
    assert_eq!(dht.set_mode(None).check(), Ok(()));
    assert_eq!(woken(), 1);
    assert!(take(&mut receiver).is_some());
    sleep(&mut receiver);
    let mut query = dht.bootstrap();
    assert!(poll(&mut query).is_pending());
    assert_eq!(woken(), 1);
    let taken = take(&mut receiver);
    sleep(&mut receiver);
    drop(query);
    assert_eq!(woken(), 1);
    drop(taken);
}

#[test]
fn when_the_node_is_gone_nothing_hangs() {
    let (mut receiver, dht) = node();
    let mut taken = dht.get(b"/a/b");
    assert!(poll(&mut taken).is_pending());
    let first = take(&mut receiver);
    let mut waiting = dht.get(b"/a/b");
    assert!(poll(&mut waiting).is_pending());
    drop(receiver);
    drop(first);
    assert!(matches!(poll(&mut waiting), Poll::Ready(Err(QueryError::Closed))));
    assert!(matches!(poll(&mut taken), Poll::Ready(Err(QueryError::Closed))));
    assert!(matches!(poll(&mut dht.get(b"/a/b")), Poll::Ready(Err(QueryError::Closed))));
    assert!(matches!(poll(&mut dht.stats()), Poll::Ready(Err(QueryError::Closed))));
    assert_eq!(dht.set_mode(None).check(), Err(HandleError::Closed));
}

fn step(shared_bits: u32) -> QueryEvent {
    QueryEvent::Progress(Progress::Asked { peer: PeerId::random(), kind: Kind::FindNode, shared_bits })
}

#[test]
fn a_slow_reader_misses_steps_and_nothing_else() {
    let (mut receiver, dht) = node();
    let mut watched = dht.closest_peers(b"x").with_progress();
    let mut providers = dht.providers(b"x");
    assert!(next(&mut watched).is_pending() && next(&mut providers).is_pending());
    let (steps, found) = (take_start(&mut receiver), take_start(&mut receiver));
    for n in 0..1_000 {
        steps.1.send(step(n));
        found.1.send(QueryEvent::Provider(PeerRecord::from(&*Contact::new(PeerId::random(), []))));
    }
    assert_eq!(watched.missed(), 1_000 - MAX_UNREAD_STEPS as u64);
    drop(steps);
    let mut seen = Vec::new();
    while let Poll::Ready(Some(Progress::Asked { shared_bits, .. })) = next(&mut watched) {
        seen.push(shared_bits);
    }
    assert_eq!(seen, (1_000 - MAX_UNREAD_STEPS as u32..1_000).collect::<Vec<_>>(), "the newest are kept");
    for _ in 0..1_000 {
        assert!(matches!(next(&mut providers), Poll::Ready(Some(_))));
    }
    assert!(next(&mut providers).is_pending());
    drop(found);
    assert!(matches!(next(&mut providers), Poll::Ready(None)));
}

#[test]
fn unread_values_are_replaced_by_better_ones() {
    let (mut receiver, dht) = node();
    let mut values = dht.values(b"/x/y");
    assert!(next(&mut values).is_pending());
    let (_, reports, end) = take_start(&mut receiver);
    for value in ["a", "b", "c"] {
        reports.send(QueryEvent::Value(Record::new("/x/y", value, Timestamp::ZERO)));
    }
    let Poll::Ready(Some(best)) = next(&mut values) else { panic!("no value") };
    assert_eq!(&best.value[..], b"c");
    assert!(next(&mut values).is_pending());
    drop((reports, end));
    assert!(matches!(next(&mut values), Poll::Ready(None)));
}

#[test]
fn handles_are_free_to_move() {
    fn free<T: Clone + Send + Sync + 'static>() {}
    fn movable<T: Send + Unpin + 'static>() {}
    free::<DhtHandle>();
    movable::<Query<Found>>();
    movable::<Providers>();
}
