//! Turns: whose request goes to the core next, while more are ready than it has taken.
//!
//! Knows: connections, and where their peers are. Must not know: requests.
//!
//! While fewer than [`AT_ONCE`] requests are on their way to the core, or all are of one connection, none waits. Beyond
//! that, the origin that had no turn for longest is next, and at it the connection that had none for longest. So those
//! that ask all the time take turns, and one that asks now and then comes first. Connections take turns, and not peers,
//! since ids are free.
//!
//! What waits for the core is little; what makes others wait is the work of each connection's task on all the requests
//! that it may pass on at once. So few may be.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;

use crate::core::Share;

/// Maximum number of requests of several connections that are on their way to the core. Source: in a flood on 50
/// connections another peer waits twice as long at 16, and five times as long without a bound (`docs/results.md`).
const AT_ONCE: usize = 2;

/// The right of a request to be on its way to the core; it ends when this is dropped.
#[doc(hidden)]
#[derive(Debug)]
pub struct Turn(Arc<Turns>);

impl Turn {
    /// For the next request of a connection, if it is its turn; otherwise `waker` is woken when it is.
    pub(crate) fn take(turns: &Arc<Turns>, connection: u32, waker: &Waker) -> Option<Turn> {
        turns.lock(|queue| queue.take(connection, waker)).then(|| Turn(Arc::clone(turns)))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.wake(Queue::pass_on);
    }
}

#[derive(Debug, Default)]
pub(crate) struct Turns(Mutex<Queue>);

impl Turns {
    /// A connection of a peer at this place.
    pub(crate) fn join(&self, connection: u32, place: Share) {
        self.lock(|queue| queue.join(connection, place));
    }

    /// The connection has closed.
    pub(crate) fn leave(&self, connection: u32) {
        self.wake(|queue| queue.leave(connection));
    }

    /// The connection has no request any more.
    pub(crate) fn give_up(&self, connection: u32) {
        self.wake(|queue| queue.give_up(connection));
    }

    fn lock<T>(&self, act: impl FnOnce(&mut Queue) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn wake(&self, act: impl FnOnce(&mut Queue) -> Option<Waker>) {
        // The lock is free again: a waker may run anything.
        if let Some(waker) = self.lock(act) {
            waker.wake();
        }
    }
}

#[derive(Debug, Default)]
struct Queue {
    /// Number of turns that were given and have not ended, those of `State::Next` included.
    given: usize,
    /// The connection that has all of them.
    alone: Option<u32>,
    /// Number of turns that were waited for.
    clock: u64,
    places: BTreeMap<Share, Place>,
    /// The places at which connections wait, by their last turn.
    order: BTreeSet<(u64, Share)>,
    connections: BTreeMap<u32, Connection>,
}

/// Where connections come from.
#[derive(Debug, Default)]
struct Place {
    last: u64,
    connections: usize,
    /// Those that wait, by their last turn.
    waiting: BTreeSet<(u64, u32)>,
}

#[derive(Debug)]
struct Connection {
    place: Share,
    last: u64,
    state: State,
}

#[derive(Debug)]
enum State {
    Idle,
    Waiting(Waker),
    /// It has a turn and was woken to take it.
    Next,
}

impl Queue {
    fn join(&mut self, connection: u32, place: Share) {
        self.places.entry(place).or_default().connections += 1;
        self.connections.insert(connection, Connection { place, last: 0, state: State::Idle });
    }

    fn leave(&mut self, connection: u32) -> Option<Waker> {
        let woken = self.give_up(connection);
        if let Some(Connection { place, .. }) = self.connections.remove(&connection)
            && let Some(at) = self.places.get_mut(&place)
        {
            at.connections -= 1;
            if at.connections == 0 {
                self.places.remove(&place);
            }
        }
        woken
    }

    fn take(&mut self, connection: u32, waker: &Waker) -> bool {
        let alone = self.given == 0 || self.alone == Some(connection);
        let free = self.order.is_empty() && (alone || self.given < AT_ONCE);
        let Some(Connection { place, last, state }) = self.connections.get_mut(&connection) else { return false };
        match state {
            State::Next => {
                *state = State::Idle;
                return true;
            }
            State::Idle if free => {
                self.alone = alone.then_some(connection);
                self.given += 1;
                return true;
            }
            State::Idle => {
                *state = State::Waiting(waker.clone());
                let at = self.places.entry(*place).or_default();
                at.waiting.insert((*last, connection));
                self.order.insert((at.last, *place));
            }
            State::Waiting(known) => known.clone_from(waker),
        }
        false
    }

    fn give_up(&mut self, connection: u32) -> Option<Waker> {
        let Connection { place, last, state } = self.connections.get_mut(&connection)?;
        match std::mem::replace(state, State::Idle) {
            State::Idle => None,
            State::Next => self.pass_on(),
            State::Waiting(_) => {
                let at = self.places.get_mut(place)?;
                at.waiting.remove(&(*last, connection));
                if at.waiting.is_empty() {
                    self.order.remove(&(at.last, *place));
                }
                None
            }
        }
    }

    /// A turn has ended: the next connection has it. Returns what wakes that.
    fn pass_on(&mut self) -> Option<Waker> {
        let Some((_, place)) = self.order.pop_first() else {
            self.given -= 1;
            return None;
        };
        let at = self.places.get_mut(&place)?;
        let (_, next) = at.waiting.pop_first()?;
        (self.alone, self.clock) = (None, self.clock + 1);
        at.last = self.clock;
        if !at.waiting.is_empty() {
            self.order.insert((at.last, place));
        }
        let connection = self.connections.get_mut(&next)?;
        connection.last = self.clock;
        match std::mem::replace(&mut connection.state, State::Next) {
            State::Waiting(waker) => Some(waker),
            State::Idle | State::Next => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::Origin;

    fn place(ip: &str) -> Share {
        let addr: libp2p_core::Multiaddr = format!("/ip4/{ip}/tcp/4001").parse().unwrap();
        Origin::of_remote(addr.as_ref(), None).share()
    }

    /// Connections 0 to 3 at one private host, 4 and 5 at another.
    fn joined() -> Arc<Turns> {
        let turns = Arc::<Turns>::default();
        (0..6).for_each(|n| turns.join(n, place(if n < 4 { "10.0.0.1" } else { "10.0.0.2" })));
        turns
    }

    fn take(turns: &Arc<Turns>, connection: u32) -> Option<Turn> {
        Turn::take(turns, connection, Waker::noop())
    }

    /// All turns that there are, one for a connection.
    fn taken(turns: &Arc<Turns>) -> Vec<Turn> {
        (0..).zip(0..AT_ONCE).map(|(n, _)| take(turns, n).unwrap()).collect()
    }

    /// Ends a turn, and says which of the connections has it then.
    fn next(turns: &Arc<Turns>, ended: Turn) -> (u32, Turn) {
        drop(ended);
        let is_next = |queue: &mut Queue| {
            let next = queue.connections.iter().find(|(_, connection)| matches!(connection.state, State::Next));
            *next.expect("one is next").0
        };
        let next = turns.lock(is_next);
        (next, take(turns, next).expect("it is its turn"))
    }

    fn is_empty(turns: &Arc<Turns>) -> bool {
        turns.lock(|queue| queue.given == 0 && queue.order.is_empty())
    }

    #[test]
    fn a_connection_that_is_alone_never_waits() {
        let turns = joined();
        let many: Vec<_> = (0..100).map(|_| take(&turns, 1).unwrap()).collect();
        assert!(take(&turns, 2).is_none(), "another one waits until few are on their way");
        assert!(take(&turns, 1).is_none(), "and now the first one waits too");
        drop(many);
        assert!(take(&turns, 2).is_some() && take(&turns, 1).is_some());
        assert!(is_empty(&turns));
    }

    #[test]
    fn places_take_turns_and_at_each_its_connections() {
        let turns = joined();
        let mut taken = taken(&turns);
        (0..6).for_each(|n| assert!(take(&turns, n).is_none()));
        let mut order = Vec::new();
        for _ in 0..12 {
            let (connection, turn) = next(&turns, taken.remove(0));
            order.push(connection);
            taken.push(turn);
            assert!(take(&turns, connection).is_none(), "it asks again");
        }
        assert_eq!(order, [0, 4, 1, 5, 2, 4, 3, 5, 0, 4, 1, 5]);
    }

    #[test]
    fn one_that_asks_now_and_then_comes_before_those_that_ask_all_the_time() {
        let turns = joined();
        let mut taken = taken(&turns);
        for n in [0, 1, 2] {
            assert!(take(&turns, n).is_none());
        }
        for _ in 0..10 {
            let (connection, turn) = next(&turns, taken.remove(0));
            taken.push(turn);
            assert!(take(&turns, connection).is_none());
        }
        assert!(take(&turns, 3).is_none());
        assert_eq!(next(&turns, taken.remove(0)).0, 3);
    }

    #[test]
    fn a_turn_is_passed_on_by_a_connection_that_closes_or_has_nothing_left() {
        let turns = joined();
        let mut taken = taken(&turns);
        for n in [0, 1, 4] {
            assert!(take(&turns, n).is_none());
        }
        turns.leave(0); // while it waits
        drop(taken.pop()); // 4 or 1 is next
        turns.leave(1);
        turns.give_up(4);
        assert!(turns.lock(|queue| queue.order.is_empty() && queue.given == AT_ONCE - 1));
        drop(taken);
        assert!(is_empty(&turns));
        (1..6).for_each(|n| turns.leave(n));
        assert!(turns.lock(|queue| queue.connections.is_empty() && queue.places.is_empty()));
    }
}
