//! The ways in which a query can be dropped while its command is under way, one by one.

use std::pin::pin;
use std::sync::atomic::AtomicUsize;

use futures::task::{ArcWake, noop_waker, waker};
use libp2p_identity::PeerId;

use super::*;
use crate::core::{Found, Kind, Stats, Timestamp};
use crate::handle::query::{MAX_UNREAD_STEPS, Providers, Query, WatchedProviders};
use crate::handle::{DhtHandle, DualValues, FirstOf};

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
        Poll::Ready(call) => Some(call),
        Poll::Pending => None,
    }
}

/// The next command, which starts a query.
fn take_start(receiver: &mut CommandReceiver) -> (CallId, Reports, ResultSender) {
    let Some(Command::Start(call)) = take(receiver) else { panic!("no query") };
    let Some((start, end)) = receiver.take(call) else { panic!("it was dropped") };
    (call, start.reports, end)
}

fn poll<T: 'static>(query: &mut Query<T>) -> Poll<Result<T, QueryError>> {
    pin!(query).poll(&mut Context::from_waker(&noop_waker()))
}

fn next<S: futures::Stream + Unpin>(stream: &mut S) -> Poll<Option<S::Item>> {
    stream.poll_next_unpin(&mut Context::from_waker(&noop_waker()))
}

/// How many queries were not taken, how many are to be cancelled, and how many wait for a place.
fn sizes(receiver: &CommandReceiver) -> (usize, usize, usize) {
    let calls = receiver.shared.calls();
    (calls.waiting.len(), calls.cancelled.len(), receiver.shared.places.total_listeners())
}

#[test]
fn a_query_that_is_never_polled_is_never_sent() {
    let (mut receiver, dht) = node();
    drop(dht.get(b"/a/b"));
    assert!(take(&mut receiver).is_none());
}

#[test]
fn dropped_before_it_is_taken_it_is_taken_back() {
    let (mut receiver, dht) = node();
    let mut query = dht.get(b"/a/b");
    assert!(poll(&mut query).is_pending());
    assert_eq!(sizes(&receiver), (1, 0, 0));
    drop(query);
    assert_eq!(sizes(&receiver), (0, 0, 0));
    let Some(Command::Start(call)) = take(&mut receiver) else { panic!("no command") };
    assert!(receiver.take(call).is_none(), "it is skipped");
    assert_eq!(take_cancelled(&mut receiver), None);
}

#[test]
fn dropped_after_its_end_it_leaves_nothing() {
    let (mut receiver, dht) = node();
    let mut query = dht.get(b"/a/b");
    assert!(poll(&mut query).is_pending());
    let (_, _, end) = take_start(&mut receiver);
    assert!(end.send(Err(QueryError::NoPeers)).is_ok());
    drop(query);
    assert_eq!(sizes(&receiver), (0, 0, 0));
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
    assert_eq!(sizes(&receiver), (0, 1, 0));
    assert_eq!(take_cancelled(&mut receiver), Some(call));
    assert_eq!(sizes(&receiver), (0, 0, 0));
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
    assert_eq!(sizes(&receiver), (0, 0, 0));
}

/// A channel whose senders each own a place would grow with every iteration of this loop.
#[test]
fn start_and_drop_without_end_needs_no_room() {
    let (mut receiver, dht) = node();
    for _ in 0..10 * MAX_COMMANDS {
        let mut query = dht.clone().get(b"/a/b");
        assert!(poll(&mut query).is_pending());
    }
    assert_eq!(sizes(&receiver), (0, 0, 0));
    // The places themselves are free again once the driver was polled.
    assert_eq!(dht.add_peer(PeerId::random(), []).check(), Err(HandleError::Busy));
    for _ in 0..MAX_COMMANDS {
        let Some(Command::Start(call)) = take(&mut receiver) else { panic!("no command") };
        assert!(receiver.take(call).is_none());
    }
    assert!(take(&mut receiver).is_none());
    assert_eq!(dht.add_peer(PeerId::random(), []).check(), Ok(()));
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
    assert_eq!(sizes(&receiver), (MAX_COMMANDS + 2, 0, 2));
    drop(dropped);
    assert_eq!(sizes(&receiver), (MAX_COMMANDS + 1, 0, 1));
    let taken: Vec<_> = (0..MAX_COMMANDS).map(|_| take_start(&mut receiver)).collect();
    assert!(take(&mut receiver).is_none());
    assert_eq!(count.0.load(Ordering::SeqCst), 1, "the one that waits is woken");
    assert!(poll(&mut waiting).is_pending());
    let last = take_start(&mut receiver);
    // Each query that was taken and is dropped now leaves one cancellation.
    drop(held);
    assert_eq!(sizes(&receiver), (0, MAX_COMMANDS, 0));
    drop((taken, last));
}

/// A waiter that is woken and never polled again must not sleep on the places that others could take.
#[test]
fn free_places_are_offered_to_all_that_wait() {
    let (mut receiver, dht) = node();
    let mut held: Vec<_> = (0..MAX_COMMANDS).map(|_| dht.get(b"/a/b")).collect();
    assert!(held.iter_mut().all(|query| poll(query).is_pending()));
    // These have waited longer and are held without being polled.
    let mut unpolled: Vec<_> = (0..2 * MAX_COMMANDS).map(|_| dht.get(b"/a/c")).collect();
    assert!(unpolled.iter_mut().all(|query| poll(query).is_pending()));
    let count = Arc::new(Count::default());
    let waker = waker(Arc::clone(&count));
    let (mut query, mut look) = (dht.get(b"/a/d"), dht.stats());
    assert!(pin!(&mut query).poll(&mut Context::from_waker(&waker)).is_pending());
    assert!(pin!(&mut look).poll(&mut Context::from_waker(&waker)).is_pending());
    while take(&mut receiver).is_some() {}
    assert_eq!(count.0.load(Ordering::SeqCst), 2);
    assert!(poll(&mut query).is_pending() && poll(&mut look).is_pending());
    assert!(matches!(take(&mut receiver), Some(Command::Start(..))));
    assert!(matches!(take(&mut receiver), Some(Command::Inspect(_))));
    assert!(take(&mut receiver).is_none());
}

/// More calls than there are places, from several threads, while the driver takes them on another one.
#[test]
#[cfg(not(target_family = "wasm"))]
#[expect(clippy::disallowed_methods, reason = "handles are used from several threads")]
fn no_thread_waits_forever() {
    let (mut receiver, dht) = node();
    let threads = [0; 4].map(|_| {
        let dht = dht.clone();
        std::thread::spawn(move || {
            let looks = futures::future::join_all((0..2 * MAX_COMMANDS).map(|_| dht.stats()));
            let queries = futures::future::join_all((0..2 * MAX_COMMANDS).map(|_| dht.get(b"/a/b")));
            let (looks, queries) = futures::executor::block_on(futures::future::join(looks, queries));
            assert!(looks.iter().all(|result| matches!(result, Err(QueryError::Closed))));
            assert!(queries.iter().all(|result| matches!(result, Err(QueryError::NoPeers))));
        })
    });
    drop(dht);
    while let Some(command) = futures::executor::block_on(futures::future::poll_fn(|cx| receiver.poll_command(cx))) {
        if let Command::Start(call) = command {
            let (_, end) = receiver.take(call).unwrap();
            end.send(Err(QueryError::NoPeers)).unwrap();
        }
    }
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(sizes(&receiver), (0, 0, 0));
}

#[test]
fn a_look_that_was_dropped_is_skipped() {
    let local = Contact::new(PeerId::random(), []);
    let store = Box::new(crate::core::NoStore);
    let dht = Dht::new(Timestamp::ZERO, local, store, [1; 32], Arc::default()).unwrap();
    let (sender, mut receiver) = channel();
    let looked = Arc::new(AtomicUsize::new(0));
    let look = || {
        let looked = Arc::clone(&looked);
        Query::of(sender.clone().inspect(move |_| looked.fetch_add(1, Ordering::SeqCst)))
    };
    let (mut dropped, mut held) = (look(), look());
    assert!(poll(&mut dropped).is_pending() && poll(&mut held).is_pending());
    drop(dropped);
    while let Some(Command::Inspect(read)) = take(&mut receiver) {
        read(&dht);
    }
    assert!(matches!(poll(&mut held), Poll::Ready(Ok(0))));
    assert_eq!(looked.load(Ordering::SeqCst), 1);
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
    let taken = take_start(&mut receiver);
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
    let first = take_start(&mut receiver);
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
    fn movable<T: Send + Sync + Unpin + 'static>() {}
    free::<DhtHandle>();
    movable::<Query<Found>>();
    movable::<Query<Stats>>();
    movable::<Providers>();
    movable::<WatchedProviders>();
    movable::<FirstOf<Found>>();
    movable::<DualValues>();
}
