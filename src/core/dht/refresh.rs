//! How the table is kept fresh: the lookups for it, and what tells that they are needed sooner or later.
//!
//! Knows: which lookup passed through which part of the keyspace. Must not know: when a part is due.

use super::*;
use crate::core::errand::Aim;
use crate::core::query::Bootstrap;

/// Who knows nobody tries the peers that the application named again after one to one and a half times this at most.
/// Source: a node must not be alone for more than 30 s after one of them is back.
const ALONE: Duration = Duration::from_secs(20);

impl Dht {
    /// Starts what is due.
    pub(super) fn run_refresh(&mut self, now: Timestamp) {
        while let Some(aim) = self.refresh.next(now) {
            if self.peers.seeds(now, self.peers.local.key(), 1).is_empty() {
                self.refresh.postponed(now, aim, &mut self.rng);
            } else {
                self.look_into(now, aim);
            }
        }
    }

    pub(super) fn look_into(&mut self, now: Timestamp, aim: Aim) {
        if aim == Aim::Own {
            self.peers.release_boot_nodes(now);
        }
        let id = self.pool.next_id();
        let cx = Context::new(&self.time, &self.config, &self.peers, &self.experience);
        let machine = Machine::Bootstrap(Bootstrap::look_into(&cx, aim, ChaCha8Rng::from_rng(&mut self.rng)));
        tracing::debug!(query = %id, ?aim, "looking into a quiet part of the table");
        let mut query = Query::new(machine, *self.peers.local.key(), QueryKind::Refresh);
        query.asked = false;
        self.pool.insert(now, id, self.config.lookup.query_timeout, query);
        self.refresh.started(id, aim);
        self.drive(now, id);
    }

    /// A query ended by itself, or since its time was over: it may have passed through a part of the keyspace.
    pub(super) fn on_looked_into(&mut self, now: Timestamp, id: QueryId, query: &Query) {
        match &query.machine {
            Machine::Bootstrap(bootstrap) => {
                let few = self.knows_few();
                let explored = bootstrap.explored();
                self.refresh.explored(now, id, explored, few, &mut self.rng);
                explored.candidates.iter().for_each(|contact| {
                    self.queue(now, Arc::clone(contact));
                });
                self.start_probes(now);
            }
            machine if machine.looks_up() && query.answered => {
                let bits = query.target.common_prefix_len(self.peers.local.key());
                self.refresh.passed(now, bits, &mut self.rng);
            }
            _ => {}
        }
    }

    /// A peer answered; before that there were `known` in the table.
    pub(super) fn on_growth(&mut self, now: Timestamp, known: usize) {
        let len = self.peers.table.len();
        if known == 0 && len > 0 || self.peers.back_offs.take_outage_ended() {
            self.upkeep.own.hasten(now);
        }
        if len > known {
            self.refresh.on_growth(now, len, &mut self.rng);
        }
    }

    /// Looks for more peers soon if there are few, and some that the application named are not among them.
    pub(super) fn want_more(&mut self, now: Timestamp) {
        if let Some(longest) = self.knows_few() {
            self.refresh.want_more(now, longest, &mut self.rng);
        }
    }

    /// The addresses at which this node can be reached are no longer those that it had before.
    pub(super) fn on_moved(&mut self, now: Timestamp, before: &Contact) {
        let sorted = |contact: &Contact| {
            let mut addrs = contact.raw_addrs().to_vec();
            addrs.sort_unstable();
            addrs
        };
        if self.peers.table.len() > 0 && sorted(before) != sorted(&self.peers.local) {
            self.refresh.on_moved(now);
        }
    }

    /// Whether fewer than k peers are known and some that the application named are not among them; if so, within which
    /// time they are to be tried again. A network without anyone else to name is small, and asking again does not make it
    /// larger.
    fn knows_few(&self) -> Option<Duration> {
        let Peers { table, book, local, .. } = &self.peers;
        if table.len() == 0 && book.has_boot_nodes() {
            return Some(ALONE);
        }
        let missing = |named: &Arc<Contact>| named.key() != local.key() && table.get(named.key()).is_none();
        let few = table.len() < self.config.lookup.replication.get() && book.boot_nodes().any(missing);
        few.then_some(Duration::MAX)
    }
}
