//! One timer for all deadlines of a task.
//!
//! Knows: the earliest time at which the task must run again. Must not know: what is due then.
//!
//! Setting a timer takes a lock and may wake the thread that all timers share: more than a request costs otherwise. So
//! a deadline is a plain instant, and a timer is set again only for an earlier time. It may expire for a deadline that
//! no longer exists; the task then finds nothing due and sets it for the earliest deadline that does.

use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::FutureExt as _;
use futures_timer::Delay;
use web_time::Instant;

use super::clock;

/// The shortest sleep. A task that wanted to be woken at once forever would be slow, but would not occupy a processor.
const SHORTEST_SLEEP: Duration = Duration::from_millis(1);

/// Wakes a task at the earliest of its deadlines. It costs nothing until the first of them.
#[derive(Debug, Default)]
pub(crate) struct Timer {
    delay: Option<Delay>,
    /// The time that the delay is set to, until it expires.
    armed: Option<Instant>,
}

impl Timer {
    /// Makes sure that the task is woken at `next`, or before. Ready when the timer expires, be it for an earlier
    /// `next` that is out of date; the task is woken then, to poll it again.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, next: Option<Instant>) -> Poll<()> {
        if let Some(at) = next.filter(|at| self.armed.is_none_or(|armed| *at < armed)) {
            self.armed = next;
            let sleep = at.saturating_duration_since(clock::instant()).max(SHORTEST_SLEEP);
            match &mut self.delay {
                Some(delay) => delay.reset(sleep),
                none => *none = Some(Delay::new(sleep)),
            }
            #[cfg(test)]
            TIMES_SET.set(TIMES_SET.get() + 1);
        }
        let Some(delay) = self.delay.as_mut().filter(|_| self.armed.is_some()) else { return Poll::Pending };
        ready!(delay.poll_unpin(cx));
        self.armed = None;
        cx.waker().wake_by_ref();
        Poll::Ready(())
    }
}

/// The time of one poll of a task, and the earliest deadline that the task waits for.
#[derive(Debug, Default)]
pub(crate) struct PollClock {
    now: Option<Instant>,
    /// The earliest deadline that was polled and is not over, for [`Timer::poll`].
    pub(crate) next: Option<Instant>,
}

/// The end of a time limit that begins when this is first polled.
#[derive(Debug, Default)]
pub(crate) struct Deadline(Option<Instant>);

impl Deadline {
    /// Ready once the time limit has passed. The limit of the first poll counts.
    pub(crate) fn poll(&mut self, clock: &mut PollClock, limit: Duration) -> Poll<()> {
        let now = *clock.now.get_or_insert_with(clock::instant);
        let at = *self.0.get_or_insert(now + limit);
        if at <= now {
            return Poll::Ready(());
        }
        clock.next = Some(clock.next.map_or(at, |next| next.min(at)));
        Poll::Pending
    }
}

#[cfg(test)]
pub(crate) use tests::TIMES_SET;

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    std::thread_local! {
        /// Number of times that timers were set on this thread.
        pub(crate) static TIMES_SET: Cell<usize> = const { Cell::new(0) };
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_deadline_begins_when_it_is_first_polled() {
        let start = clock::instant();
        let at = |seconds| PollClock { now: Some(start + SECOND * seconds), next: None };
        let (mut long, mut short) = (Deadline::default(), Deadline::default());
        let mut clock = at(5);
        assert!(long.poll(&mut clock, SECOND * 9).is_pending());
        assert!(short.poll(&mut clock, SECOND).is_pending());
        assert!(long.poll(&mut clock, SECOND * 9).is_pending());
        assert_eq!(clock.next, Some(start + SECOND * 6), "the earliest");
        let mut clock = at(13);
        assert!(short.poll(&mut clock, SECOND).is_ready() && long.poll(&mut clock, SECOND * 9).is_pending());
        assert_eq!(clock.next, Some(start + SECOND * 14));
        let mut clock = at(14);
        assert!(long.poll(&mut clock, SECOND * 9).is_ready());
        assert_eq!(clock.next, None);
        assert!(Deadline::default().poll(&mut clock, Duration::ZERO).is_ready(), "no time at all");
    }

    #[tokio::test]
    async fn it_is_set_again_for_an_earlier_time_only() {
        let (start, times) = (clock::instant(), TIMES_SET.get());
        let soon = start + Duration::from_millis(50);
        let mut timer = Timer::default();
        let mut nexts = [None, Some(start + SECOND * 60), Some(soon), Some(soon + SECOND), None].into_iter();
        let mut next = None;
        std::future::poll_fn(|cx| {
            for one in nexts.by_ref() {
                next = one;
                assert!(timer.poll(cx, one).is_pending());
            }
            timer.poll(cx, next)
        })
        .await;
        assert!(clock::instant() >= soon && clock::instant() < start + SECOND * 50);
        assert_eq!(TIMES_SET.get() - times, 2);
        let past = std::future::poll_fn(|cx| timer.poll(cx, Some(start)));
        past.await;
        assert_eq!(TIMES_SET.get() - times, 3, "also for a time that has passed");
    }
}
