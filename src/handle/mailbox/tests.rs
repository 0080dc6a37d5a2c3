//! The ways in which a query can be dropped while its command is under way, one by one.

use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::task::{ArcWake, noop_waker, waker};

use super::*;
use crate::core::QueryError;
use crate::handle::{DhtHandle, Query};

#[derive(Default)]
struct Count(AtomicUsize);

impl ArcWake for Count {
    fn wake_by_ref(count: &Arc<Count>) {
        count.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn node() -> (Arc<Mailbox>, DhtHandle) {
    let mailbox = Arc::new(Mailbox::default());
    (Arc::clone(&mailbox), DhtHandle::new(mailbox))
}

fn take(mailbox: &Mailbox) -> Option<Taken> {
    match mailbox.poll_take(&mut Context::from_waker(&noop_waker())) {
        Poll::Ready(taken) => Some(taken),
        Poll::Pending => None,
    }
}

fn poll<T: crate::handle::Outcome>(query: &mut Query<T>) -> Poll<Result<T, QueryError>> {
    pin!(query).poll(&mut Context::from_waker(&noop_waker()))
}

#[test]
fn never_polled_never_sent() {
    let (mailbox, dht) = node();
    drop(dht.get(b"/a/b"));
    assert!(take(&mailbox).is_none());
}

#[test]
fn dropped_before_it_is_taken_it_is_taken_back() {
    let (mailbox, dht) = node();
    let mut query = dht.get(b"/a/b");
    assert!(poll(&mut query).is_pending());
    assert_eq!(mailbox.sizes(), (1, 0, 0));
    drop(query);
    assert_eq!(mailbox.sizes(), (0, 0, 0));
    assert!(take(&mailbox).is_none());
}

#[test]
fn dropped_between_taking_and_starting_it_is_seen_twice() {
    let (mailbox, dht) = node();
    let mut query = dht.get(b"/a/b");
    assert!(poll(&mut query).is_pending());
    let Some(Taken::Command(ticket, Command::Start { writer, .. })) = take(&mailbox) else { panic!("not taken") };
    drop(query);
    assert!(writer.is_closed());
    assert!(matches!(take(&mailbox), Some(Taken::Cancel(cancelled)) if cancelled == ticket));
    assert!(take(&mailbox).is_none());
}

#[test]
fn dropped_after_its_end_it_leaves_nothing() {
    let (mailbox, dht) = node();
    let mut query = dht.get(b"/a/b");
    assert!(poll(&mut query).is_pending());
    let Some(Taken::Command(_, Command::Start { writer, .. })) = take(&mailbox) else { panic!("not taken") };
    writer.finish(Err(QueryError::NoPeers));
    drop(query);
    assert_eq!(mailbox.sizes(), (0, 0, 0));
}

/// A channel whose senders each own a place would grow with every turn of this loop.
#[test]
fn start_and_drop_without_end_needs_no_room() {
    let (mailbox, dht) = node();
    for _ in 0..10 * MAX_COMMANDS {
        let mut query = dht.get(b"/a/b");
        assert!(poll(&mut query).is_pending());
    }
    assert_eq!(mailbox.sizes(), (0, 0, 0));
}

#[test]
fn a_full_mailbox_makes_queries_wait_and_commands_fail() {
    let (mailbox, dht) = node();
    let mut held: Vec<_> = (0..MAX_COMMANDS).map(|_| dht.get(b"/a/b")).collect();
    assert!(held.iter_mut().all(|query| poll(query).is_pending()));
    assert_eq!(dht.set_mode(None).check(), Err(HandleError::Busy));
    let count = Arc::new(Count::default());
    let waker = waker(Arc::clone(&count));
    let (mut waiting, mut dropped) = (dht.get(b"/a/c"), dht.get(b"/a/d"));
    assert!(pin!(&mut waiting).poll(&mut Context::from_waker(&waker)).is_pending());
    assert!(poll(&mut dropped).is_pending());
    assert_eq!(mailbox.sizes(), (MAX_COMMANDS, 0, 2));
    drop(dropped);
    assert_eq!(mailbox.sizes(), (MAX_COMMANDS, 0, 1));
    let mut taken = Vec::new();
    while let Some(command) = take(&mailbox) {
        taken.push(command);
    }
    assert_eq!(taken.len(), MAX_COMMANDS);
    assert_eq!(count.0.load(Ordering::SeqCst), 1, "the one that waits is woken");
    assert!(poll(&mut waiting).is_pending());
    assert!(matches!(take(&mailbox), Some(Taken::Command(..))));
    // All that were taken and are dropped now leave one cancellation each.
    drop(held);
    assert_eq!(mailbox.sizes(), (0, MAX_COMMANDS, 0));
}

#[test]
fn order_is_kept_between_commands_and_queries() {
    let (mailbox, dht) = node();
    assert_eq!(dht.set_mode(None).check(), Ok(()));
    let mut query = dht.bootstrap();
    assert!(poll(&mut query).is_pending());
    assert_eq!(dht.add_peer(libp2p_identity::PeerId::random(), []).check(), Ok(()));
    assert!(matches!(take(&mailbox), Some(Taken::Command(_, Command::SetMode(None)))));
    assert!(matches!(take(&mailbox), Some(Taken::Command(_, Command::Start { .. }))));
    assert!(matches!(take(&mailbox), Some(Taken::Command(_, Command::AddPeer(_)))));
}

#[test]
fn a_driver_that_sleeps_is_woken_by_each_kind_of_news() {
    let (mailbox, dht) = node();
    let count = Arc::new(Count::default());
    let waker = waker(Arc::clone(&count));
    let sleep = || assert!(mailbox.poll_take(&mut Context::from_waker(&waker)).is_pending());
    let woken = || count.0.swap(0, Ordering::SeqCst);
    sleep();
    assert_eq!(dht.set_mode(None).check(), Ok(()));
    assert_eq!(woken(), 1);
    while take(&mailbox).is_some() {}
    sleep();
    let mut query = dht.bootstrap();
    assert!(poll(&mut query).is_pending());
    assert_eq!(woken(), 1);
    let taken = take(&mailbox);
    sleep();
    drop(query);
    assert_eq!(woken(), 1);
    drop(taken);
}

#[test]
fn when_the_node_is_gone_nothing_hangs() {
    let (mailbox, dht) = node();
    let mut queued = dht.get(b"/a/b");
    assert!(poll(&mut queued).is_pending());
    let mut taken = dht.get(b"/a/b");
    assert!(poll(&mut taken).is_pending());
    let first = take(&mailbox);
    mailbox.close();
    drop(first);
    assert!(matches!(poll(&mut queued), Poll::Ready(Err(QueryError::Closed))));
    assert!(matches!(poll(&mut taken), Poll::Ready(Err(QueryError::Closed))));
    assert!(matches!(poll(&mut dht.get(b"/a/b")), Poll::Ready(Err(QueryError::Closed))));
    assert_eq!(dht.set_mode(None).check(), Err(HandleError::Closed));
}

#[test]
fn handles_are_free_to_move() {
    fn free<T: Clone + Send + Sync + 'static>() {}
    fn movable<T: Send + Unpin + 'static>() {}
    free::<DhtHandle>();
    movable::<Query<crate::handle::Found>>();
    movable::<crate::handle::Providers>();
}
