//! The memory that the unfinished requests of all connections share.
//!
//! Knows: how many bytes each connection holds. Must not know: streams, or what the bytes are.
//!
//! When the limit is exceeded, the connection that holds the most loses what it holds, and not the one that happened to
//! read last: a peer that sends its requests whole holds nothing for long, however many others send theirs slowly.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::task::Waker;

#[derive(Debug, Default)]
pub(crate) struct InboundBytes(Mutex<Holders>);

#[derive(Debug, Default)]
struct Holders {
    total: usize,
    connections: BTreeMap<u32, Holder>,
    /// Those that hold something, by how much.
    by_size: BTreeSet<(usize, u32)>,
}

#[derive(Debug)]
struct Holder {
    bytes: usize,
    /// Whether it has yet to drop what it holds, which counts no more.
    evicted: bool,
    waker: Waker,
}

impl InboundBytes {
    /// A connection holds this many bytes now. Returns whether it must drop them; if another one must, that is woken.
    pub(crate) fn hold(&self, connection: u32, bytes: usize, limit: usize, waker: &Waker) -> bool {
        let mut woken = Vec::new();
        let evicted =
            self.0.lock().unwrap_or_else(PoisonError::into_inner).hold(connection, bytes, limit, waker, &mut woken);
        // The lock is free again: a waker may run anything.
        woken.into_iter().for_each(Waker::wake);
        evicted
    }

    /// A connection holds nothing any more.
    pub(crate) fn release(&self, connection: u32) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(connection);
    }

    #[cfg(test)]
    fn total(&self) -> usize {
        self.0.lock().unwrap().total
    }
}

impl Holders {
    fn hold(&mut self, connection: u32, bytes: usize, limit: usize, waker: &Waker, woken: &mut Vec<Waker>) -> bool {
        if self.remove(connection).is_some_and(|holder| holder.evicted) {
            return true;
        }
        self.total += bytes;
        self.by_size.insert((bytes, connection));
        self.connections.insert(connection, Holder { bytes, evicted: false, waker: waker.clone() });
        while self.total > limit
            && let Some((bytes, largest)) = self.by_size.pop_last()
        {
            self.total -= bytes;
            if largest == connection {
                self.connections.remove(&connection);
                return true;
            }
            if let Some(holder) = self.connections.get_mut(&largest) {
                holder.evicted = true;
                woken.push(holder.waker.clone());
            }
        }
        false
    }

    fn remove(&mut self, connection: u32) -> Option<Holder> {
        let holder = self.connections.remove(&connection)?;
        if self.by_size.remove(&(holder.bytes, connection)) {
            self.total -= holder.bytes;
        }
        Some(holder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hold(all: &InboundBytes, connection: u32, bytes: usize) -> bool {
        all.hold(connection, bytes, 100, Waker::noop())
    }

    #[test]
    fn the_connection_that_holds_the_most_drops_it() {
        let all = InboundBytes::default();
        assert!(!hold(&all, 1, 60) && !hold(&all, 2, 30));
        assert!(!hold(&all, 3, 20), "110 bytes: the first has to go");
        assert_eq!(all.total(), 50);
        assert!(hold(&all, 1, 60), "it learns of it when it is polled");
        assert!(!hold(&all, 1, 10));
        assert!(hold(&all, 1, 70), "now it is the one that reads");
        assert_eq!(all.total(), 50);
        all.release(2);
        all.release(3);
        all.release(4);
        assert_eq!(all.total(), 0);
    }

    #[test]
    fn whoever_comes_and_goes_in_any_order_the_limit_holds() {
        let all = InboundBytes::default();
        let mut state = 1u64;
        for _ in 0..10_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let (connection, bytes) = ((state >> 40) as u32 % 20, (state >> 33) as usize % 60);
            if bytes < 10 {
                all.release(connection)
            } else {
                _ = hold(&all, connection, bytes)
            }
            assert!(all.total() <= 100);
        }
        (0..20).for_each(|connection| all.release(connection));
        assert_eq!(all.total(), 0);
    }
}
