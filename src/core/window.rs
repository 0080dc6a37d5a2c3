//! How many requests of queries are in flight at a time, and whose turn it is to send the next.
//!
//! Knows: the number of slots, and which requests of which query wait for one. Must not know: what is asked, or of whom.
//!
//! A burst of queries is to be slower, not wrong: what a node sends beyond what it and its peers can carry waits in queues
//! where nobody can tell it from a peer that is silent. So requests wait here, where no time of theirs runs. Queries take
//! turns, one request each. There are more slots while requests wait and all goes well, and fewer when the node itself
//! cannot keep up.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::io::{QueryId, RequestId};
use super::time::Timestamp;

/// The number of slots at first. Source: three lookups that each ask the 20 closest at once.
pub(crate) const FIRST: usize = 64;
/// After this many answers that came as they should there is one slot more. Source: it takes five round trips to double.
const GROWS_AFTER: usize = 8;
/// After the number of slots fell it does not fall again within this time: one delay has many effects.
const FALLS_AFTER: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(crate) struct Window {
    slots: usize,
    least: usize,
    most: usize,
    used: usize,
    /// Answers that came as they should since there was last a slot more.
    answers: usize,
    fell: Timestamp,
    /// The queries with requests that wait, in the order of their turns.
    turns: VecDeque<QueryId>,
    waiting: BTreeMap<QueryId, VecDeque<RequestId>>,
}

impl Window {
    /// Between so many slots at the least and the most.
    pub(crate) fn new(least: usize, most: usize) -> Window {
        let (slots, used, answers, fell) = (FIRST.clamp(least, most.max(least)), 0, 0, Timestamp::ZERO);
        let (turns, waiting) = (VecDeque::new(), BTreeMap::new());
        Window { slots, least, most: most.max(least), used, answers, fell, turns, waiting }
    }

    /// Has a request wait for a slot.
    pub(crate) fn wait(&mut self, query: QueryId, request: RequestId) {
        let queue = self.waiting.entry(query).or_insert_with(|| {
            self.turns.push_back(query);
            VecDeque::new()
        });
        queue.push_back(request);
    }

    /// The next request, if a slot is free; it has the slot from now on.
    pub(crate) fn next(&mut self) -> Option<RequestId> {
        if self.used >= self.slots {
            return None;
        }
        let query = self.turns.pop_front()?;
        let queue = self.waiting.get_mut(&query)?;
        let next = queue.pop_front();
        if queue.is_empty() {
            self.waiting.remove(&query);
        } else {
            self.turns.push_back(query);
        }
        self.used += usize::from(next.is_some());
        next
    }

    /// A query is over: those of its requests that wait are forgotten.
    pub(crate) fn forget(&mut self, query: QueryId) {
        if self.waiting.remove(&query).is_some() {
            self.turns.retain(|turn| *turn != query);
        }
    }

    /// A request gives its slot away: it ended, or is late.
    pub(crate) fn release(&mut self) {
        self.used = self.used.saturating_sub(1);
    }

    /// An answer came, `well` if the driver could send the request at once and the answer was not late.
    pub(crate) fn on_answer(&mut self, well: bool) {
        if well && !self.waiting.is_empty() {
            self.answers += 1;
            if self.answers >= GROWS_AFTER {
                self.answers = 0;
                self.slots = (self.slots + 1).min(self.most);
            }
        }
    }

    /// The node could not keep up.
    pub(crate) fn on_busy(&mut self, now: Timestamp) {
        if now.since(self.fell) >= FALLS_AFTER {
            self.fell = now;
            self.answers = 0;
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
    fn queries_take_turns_and_what_is_over_waits_no_more() {
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
    fn slots_follow_what_can_be_carried_between_their_bounds() {
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
