//! Limits how many requests of queries are in flight at a time, and decides which query sends the next.
//!
//! Knows: the number of slots, and which requests of which query wait for one. Must not know: what is asked, or which
//! peers.
//!
//! A burst of queries should be slower, not wrong. Requests beyond what the node and its peers can handle would wait in
//! the queues of sockets, and look as if their peers were silent. So they wait here, where their time does not run.
//! Queries take turns, one request each. The number of slots grows while requests wait and answers are prompt, and
//! shrinks when the node itself cannot keep up.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::io::{QueryId, RequestId};
use super::time::Timestamp;

/// The number of slots at first. Source: three lookups that each ask the 20 closest at once.
pub(crate) const FIRST: usize = 64;
/// Number of prompt answers after which there is one slot more. Source: it takes five round trips to double.
const GROWS_AFTER: usize = 8;
/// The number of slots falls at most once in this time: one delay has many effects.
const FALLS_AFTER: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(crate) struct Window {
    slots: usize,
    least: usize,
    most: usize,
    used: usize,
    /// Prompt answers since the number of slots last grew.
    prompt: usize,
    fell: Timestamp,
    /// The queries with waiting requests, in the order in which they send one.
    order: VecDeque<QueryId>,
    waiting: BTreeMap<QueryId, VecDeque<RequestId>>,
}

impl Window {
    /// A window of `least` to `most` slots.
    pub(crate) fn new(least: usize, most: usize) -> Window {
        let most = most.max(least);
        let (slots, fell) = (FIRST.clamp(least, most), Timestamp::ZERO);
        let (order, waiting) = (VecDeque::new(), BTreeMap::new());
        Window { slots, least, most, used: 0, prompt: 0, fell, order, waiting }
    }

    /// Has a request wait for a slot.
    pub(crate) fn wait(&mut self, query: QueryId, request: RequestId) {
        let queue = self.waiting.entry(query).or_insert_with(|| {
            self.order.push_back(query);
            VecDeque::new()
        });
        queue.push_back(request);
    }

    /// Takes the next request, if a slot is free; it has the slot from now on.
    pub(crate) fn next(&mut self) -> Option<RequestId> {
        if self.used >= self.slots {
            return None;
        }
        let query = self.order.pop_front()?;
        let queue = self.waiting.get_mut(&query)?;
        let next = queue.pop_front();
        if queue.is_empty() {
            self.waiting.remove(&query);
        } else {
            self.order.push_back(query);
        }
        self.used += usize::from(next.is_some());
        next
    }

    /// A query has ended: its waiting requests are dropped.
    pub(crate) fn forget(&mut self, query: QueryId) {
        if self.waiting.remove(&query).is_some() {
            self.order.retain(|waiting| *waiting != query);
        }
    }

    /// A request gives up its slot: it ended, or is late.
    pub(crate) fn release(&mut self) {
        self.used = self.used.saturating_sub(1);
    }

    /// An answer came; it is `prompt` if the driver could send the request at once and the answer was not late.
    pub(crate) fn on_answer(&mut self, prompt: bool) {
        if prompt && !self.waiting.is_empty() {
            self.prompt += 1;
            if self.prompt >= GROWS_AFTER {
                self.prompt = 0;
                self.slots = (self.slots + 1).min(self.most);
            }
        }
    }

    /// The node could not keep up.
    pub(crate) fn on_busy(&mut self, now: Timestamp) {
        if now.since(self.fell) >= FALLS_AFTER {
            self.fell = now;
            self.prompt = 0;
            self.slots = (self.slots - self.slots / 4).max(self.least);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(window: &mut Window) -> Vec<u64> {
        std::iter::from_fn(|| window.next()).map(RequestId::number).collect()
    }

    #[test]
    fn queries_take_turns_and_those_that_ended_send_no_more() {
        let mut window = Window::new(2, 2);
        for (query, request) in [(1, 10), (1, 11), (1, 12), (2, 20), (3, 30), (3, 31)] {
            window.wait(QueryId::new(query), RequestId::new(request));
        }
        assert_eq!(drain(&mut window), [10, 20]);
        window.forget(QueryId::new(3));
        window.release();
        window.release();
        assert_eq!(drain(&mut window), [11, 12]);
        window.release();
    }

    #[test]
    fn the_number_of_slots_follows_the_answers_between_its_bounds() {
        let mut window = Window::new(10, 80);
        window.on_answer(true);
        for request in 0..10_000 {
            window.wait(QueryId::new(0), RequestId::new(request));
        }
        assert_eq!(drain(&mut window).len(), FIRST);
        (0..GROWS_AFTER).for_each(|_| window.on_answer(true));
        (0..100).for_each(|_| window.on_answer(false));
        assert_eq!(drain(&mut window).len(), 1);
        (0..1_000).for_each(|_| window.on_answer(true));
        assert_eq!(drain(&mut window).len(), 80 - FIRST - 1);
        for second in 1..100 {
            window.on_busy(Timestamp::from_secs(second));
            window.on_busy(Timestamp::from_secs(second));
        }
        (0..71).for_each(|_| window.release());
        assert_eq!(drain(&mut window).len(), 1, "10 slots, of which 9 are taken");
    }
}
