//! Suspends the node, as a phone does with an application in the background, and resumes it.
//!
//! Knows: what must not go on meanwhile. Must not know: how any of it is taken up again; each part sees by the time what
//! is due, as after any gap.

use super::*;

impl Dht {
    /// Suspends the node: it asks, answers and announces nothing more, and [`Dht::poll_timeout`] has nothing to wait for,
    /// until it is [resumed](Dht::resume). Running operations, and those started meanwhile, end with
    /// [`QueryError::Suspended`]; requests under way are cancelled, those of peers refused. The routing table, the
    /// addresses, the records and the bans stay. Connections are the driver's, which reports those that close. Does
    /// nothing to a node that is suspended.
    ///
    /// ```
    /// # use libp2p_kad_dht::core::{Dht, Timestamp};
    /// # fn example(dht: &mut Dht, now: Timestamp, later: Timestamp) {
    /// dht.suspend(now);
    /// assert_eq!(dht.poll_timeout(), None);
    /// dht.resume(later);
    /// # }
    /// ```
    pub fn suspend(&mut self, now: Timestamp) {
        let now = self.follow(now);
        if std::mem::replace(&mut self.suspended, true) {
            return;
        }
        for id in self.pool.all() {
            match self.pool.get(id) {
                Some(query) if query.by_app => {
                    let waits = !query.detached;
                    self.abandon(id);
                    if waits {
                        self.announce_end(id, Err(QueryError::Suspended));
                    }
                }
                // The duty that started it takes it up again.
                Some(_) => self.on_query_expired(now, id),
                None => {}
            }
        }
        for (id, owner, to) in self.requests.all() {
            match self.requests.get(id) {
                // It counts as failed already.
                Some(request) if request.has_timed_out() => {
                    self.end(id);
                    self.outputs.push_back(Output::Cancel { id });
                }
                _ => self.give_up(id),
            }
            if owner == Owner::Probe {
                self.probes.finished(to.peer());
            }
        }
        self.end_refused(now);
    }

    /// Resumes a node that was suspended: whatever fell due meanwhile is due now, and the node looks up its own key at
    /// once to see who is still there. No peer is blamed for the pause. Does nothing to a node that is not suspended.
    /// For an example see [`Dht::suspend`].
    pub fn resume(&mut self, now: Timestamp) {
        let now = self.follow(now);
        if std::mem::replace(&mut self.suspended, false) {
            self.refresh.hasten(now);
            self.start_probes(now);
            self.pass_waiting(now);
            self.end_refused(now);
        }
    }

    /// Whether the node is suspended.
    ///
    /// ```
    /// # fn example(dht: &libp2p_kad_dht::core::Dht) {
    /// println!("{}", if dht.is_suspended() { "asleep" } else { "awake" });
    /// # }
    /// ```
    pub fn is_suspended(&self) -> bool {
        self.suspended
    }
}
