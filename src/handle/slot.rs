//! One query's way back: from the driver, which writes, to the application, which reads.
//!
//! Knows: steps, finds and one end. Must not know: which query they belong to. The reader may be slow: steps are then
//! forgotten, oldest first; a value is replaced by the better one; providers and the end are kept.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::core::{Contact, Progress, QueryError, QuerySnapshot, Record, RoutingSnapshot, Stats};

/// How many unread steps of a query are kept for a slow reader; the oldest are forgotten first.
pub const MAX_UNREAD_STEPS: usize = 256;

/// How something that a handle asked for ended well.
#[derive(Debug)]
pub enum Reply {
    /// A query of the core.
    Answer(Box<crate::core::Answer>),
    Routing(RoutingSnapshot),
    Queries(Vec<QuerySnapshot>),
    Stats(Box<Stats>),
    Local(Arc<Contact>),
}

type End = Result<Reply, QueryError>;

/// Which finds the reader wants; others are not kept for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Wants {
    #[default]
    None,
    Values,
    Providers,
}

/// A new pair of ends.
pub(super) fn slot(finds: Wants) -> (Writer, Reader) {
    let slot = Arc::new(Mutex::new(Slot { finds, ..Slot::default() }));
    (Writer(Arc::clone(&slot)), Reader(slot))
}

/// The driver's end. Dropped without [`Writer::finish`], it ends the query with [`QueryError::Closed`].
#[derive(Debug)]
pub(super) struct Writer(Arc<Mutex<Slot>>);

impl Writer {
    /// Whether nobody will read any more.
    pub(super) fn is_closed(&self) -> bool {
        lock(&self.0).reader_gone
    }

    pub(super) fn step(&self, step: Progress) {
        self.write(|slot| {
            if slot.steps.len() == MAX_UNREAD_STEPS {
                slot.steps.pop_front();
                slot.missed += 1;
            }
            slot.steps.push_back(step);
        });
    }

    /// Keeps the best value only: it is better than all before it, so nobody needs those.
    pub(super) fn value(&self, value: Record) {
        self.write(|slot| {
            if slot.finds == Wants::Values {
                slot.value = Some(value);
            }
        });
    }

    /// Never refused for room: the core reports each provider at most twice, and no more of them than the limit.
    pub(super) fn provider(&self, provider: Arc<Contact>) {
        self.write(|slot| {
            if slot.finds == Wants::Providers {
                slot.providers.push_back(provider);
            }
        });
    }

    pub(super) fn finish(self, end: End) {
        self.write(|slot| slot.end_with(end));
    }

    fn write(&self, change: impl FnOnce(&mut Slot)) {
        let waker = {
            let mut slot = lock(&self.0);
            if slot.reader_gone {
                return;
            }
            change(&mut slot);
            slot.reader.take()
        };
        // Outside the lock: a waker may run anything, even the reader.
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.write(|slot| slot.end_with(Err(QueryError::Closed)));
    }
}

/// The application's end.
#[derive(Debug)]
pub(super) struct Reader(Arc<Mutex<Slot>>);

impl Reader {
    /// Tells the writer that nobody will read; returns whether the end was already written.
    pub(super) fn close(&self) -> bool {
        let mut slot = lock(&self.0);
        slot.reader_gone = true;
        slot.reader = None;
        let ended = slot.ended;
        let unread = (std::mem::take(&mut slot.providers), slot.end.take());
        drop(slot);
        drop(unread);
        ended
    }

    /// The end, once; afterwards [`QueryError::Closed`].
    pub(super) fn poll_end(&self, cx: &mut Context<'_>) -> Poll<End> {
        let mut slot = lock(&self.0);
        if slot.ended { Poll::Ready(slot.end.take().unwrap_or(Err(QueryError::Closed))) } else { slot.wait(cx) }
    }

    /// The next step; `None` after the last.
    pub(super) fn poll_step(&self, cx: &mut Context<'_>) -> Poll<Option<Progress>> {
        lock(&self.0).next(cx, |slot| slot.steps.pop_front())
    }

    /// The best value, if it was not read before; `None` after the last.
    pub(super) fn poll_value(&self, cx: &mut Context<'_>) -> Poll<Option<Record>> {
        lock(&self.0).next(cx, |slot| slot.value.take())
    }

    /// The next provider; `None` after the last.
    pub(super) fn poll_provider(&self, cx: &mut Context<'_>) -> Poll<Option<Arc<Contact>>> {
        lock(&self.0).next(cx, |slot| slot.providers.pop_front())
    }

    /// How many steps were forgotten because they were not read in time.
    pub(super) fn missed(&self) -> u64 {
        lock(&self.0).missed
    }
}

#[derive(Debug, Default)]
struct Slot {
    finds: Wants,
    steps: VecDeque<Progress>,
    missed: u64,
    value: Option<Record>,
    providers: VecDeque<Arc<Contact>>,
    end: Option<End>,
    /// Stays true after the end was read.
    ended: bool,
    reader: Option<Waker>,
    reader_gone: bool,
}

impl Slot {
    fn end_with(&mut self, end: End) {
        if !self.ended {
            self.ended = true;
            self.end = Some(end);
        }
    }

    fn next<T>(&mut self, cx: &mut Context<'_>, take: impl FnOnce(&mut Slot) -> Option<T>) -> Poll<Option<T>> {
        match take(self) {
            Some(item) => Poll::Ready(Some(item)),
            None if self.ended => Poll::Ready(None),
            None => self.wait(cx),
        }
    }

    fn wait<T>(&mut self, cx: &mut Context<'_>) -> Poll<T> {
        match &mut self.reader {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

/// A panic elsewhere leaves a slot whole: every change is a few assignments.
fn lock(slot: &Mutex<Slot>) -> MutexGuard<'_, Slot> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::task::{ArcWake, noop_waker, waker};
    use libp2p_identity::PeerId;

    use super::*;
    use crate::core::{Kind, Timestamp};

    fn step(shared_bits: u32) -> Progress {
        Progress::Asked { peer: PeerId::random(), kind: Kind::FindNode, shared_bits }
    }

    #[test]
    fn a_slow_reader_misses_steps_and_nothing_else() {
        let (writer, reader) = slot(Wants::Providers);
        for n in 0..1_000 {
            writer.step(step(n));
            writer.provider(Contact::new(PeerId::random(), []));
        }
        writer.finish(Ok(Reply::Queries(Vec::new())));
        let waker = noop_waker();
        let cx = &mut Context::from_waker(&waker);
        assert_eq!(reader.missed(), 1_000 - MAX_UNREAD_STEPS as u64);
        let mut seen = Vec::new();
        while let Poll::Ready(Some(Progress::Asked { shared_bits, .. })) = reader.poll_step(cx) {
            seen.push(shared_bits);
        }
        assert_eq!(seen, (1_000 - MAX_UNREAD_STEPS as u32..1_000).collect::<Vec<_>>(), "the newest are kept");
        for _ in 0..1_000 {
            assert!(matches!(reader.poll_provider(cx), Poll::Ready(Some(_))));
        }
        assert!(matches!(reader.poll_provider(cx), Poll::Ready(None)));
        assert!(matches!(reader.poll_end(cx), Poll::Ready(Ok(Reply::Queries(_)))));
        assert!(matches!(reader.poll_end(cx), Poll::Ready(Err(QueryError::Closed))), "never hangs after the end");
    }

    #[test]
    fn unread_values_are_replaced_by_better_ones() {
        let (writer, reader) = slot(Wants::Values);
        for value in ["a", "b", "c"] {
            writer.value(Record::new("/x/y", value, Timestamp::ZERO));
        }
        let waker = noop_waker();
        let cx = &mut Context::from_waker(&waker);
        let Poll::Ready(Some(best)) = reader.poll_value(cx) else { panic!("no value") };
        assert_eq!(&best.value[..], b"c");
        assert!(reader.poll_value(cx).is_pending());
        drop(writer);
        assert!(matches!(reader.poll_value(cx), Poll::Ready(None)));
    }

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl ArcWake for Count {
        fn wake_by_ref(count: &Arc<Count>) {
            count.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn a_dropped_writer_wakes_and_closes() {
        let (writer, reader) = slot(Wants::None);
        let count = Arc::new(Count::default());
        let waker = waker(Arc::clone(&count));
        let cx = &mut Context::from_waker(&waker);
        assert!(reader.poll_end(cx).is_pending());
        drop(writer);
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
        assert!(matches!(reader.poll_end(cx), Poll::Ready(Err(QueryError::Closed))));
    }

    #[test]
    fn a_closed_reader_is_seen_and_keeps_nothing() {
        let (writer, reader) = slot(Wants::Providers);
        assert!(!reader.close());
        assert!(writer.is_closed());
        writer.provider(Contact::new(PeerId::random(), []));
        assert!(lock(&reader.0).providers.is_empty());
    }
}
