//! Limits how many queries ask peers at a time and how many of their requests are in flight, and decides which query
//! sends the next.
//!
//! Knows: the number of slots, and which requests of which query wait for one. Must not know: what is asked, or which
//! peers.
//!
//! A burst of queries should be slower, not wrong. Requests beyond what the node and its peers can handle would wait in
//! the queues of sockets, and look as if their peers were silent. So they wait here, where their time does not run.
//! Queries take turns, one request each. The number of slots grows while requests wait and answers are prompt, and
//! shrinks when the node itself cannot keep up.
//!
//! A query that has asked a peer remembers the peers that answers name, until it ends. So only as many queries begin to
//! ask as there is memory for; the next begins when one of them ends.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
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
    /// The queries that may ask, since they began, and how many that may be.
    begun: BTreeSet<QueryId>,
    max_begun: usize,
    /// The queries that have not begun, in the order in which they will.
    not_begun: VecDeque<QueryId>,
    waiting: BTreeMap<QueryId, VecDeque<RequestId>>,
}

impl Window {
    /// A window of `least` to `most` slots for at most `max_begun` queries at a time.
    pub(crate) fn new(least: usize, most: usize, max_begun: usize) -> Window {
        let most = most.max(least);
        Window {
            slots: FIRST.clamp(least, most),
            least,
            most,
            used: 0,
            prompt: 0,
            fell: Timestamp::ZERO,
            order: VecDeque::new(),
            begun: BTreeSet::new(),
            max_begun,
            not_begun: VecDeque::new(),
            waiting: BTreeMap::new(),
        }
    }

    /// Has a request wait for a slot.
    pub(crate) fn wait(&mut self, query: QueryId, request: RequestId) {
        let queue = self.waiting.entry(query).or_insert_with(|| {
            let line = if self.begun.contains(&query) { &mut self.order } else { &mut self.not_begun };
            line.push_back(query);
            VecDeque::new()
        });
        queue.push_back(request);
        self.begin();
    }

    /// Lets queries begin as long as they may.
    fn begin(&mut self) {
        while self.begun.len() < self.max_begun
            && let Some(query) = self.not_begun.pop_front()
        {
            self.begun.insert(query);
            self.order.push_back(query);
        }
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
        let begun = self.begun.remove(&query);
        if self.waiting.remove(&query).is_some() {
            let line = if begun { &mut self.order } else { &mut self.not_begun };
            line.retain(|waiting| *waiting != query);
        }
        self.begin();
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
        let mut window = Window::new(2, 2, 9);
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
    fn a_query_begins_when_another_has_ended_and_then_goes_on_to_its_end() {
        let mut window = Window::new(9, 9, 2);
        for (query, request) in [(1, 10), (2, 20), (3, 30), (3, 31), (4, 40)] {
            window.wait(QueryId::new(query), RequestId::new(request));
        }
        assert_eq!(drain(&mut window), [10, 20]);
        window.wait(QueryId::new(1), RequestId::new(11));
        assert_eq!(drain(&mut window), [11], "it has begun");
        window.forget(QueryId::new(3));
        assert!(drain(&mut window).is_empty(), "it had not");
        window.forget(QueryId::new(2));
        assert_eq!(drain(&mut window), [40]);
    }

    #[test]
    fn the_number_of_slots_follows_the_answers_between_its_bounds() {
        let mut window = Window::new(10, 80, 1);
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
