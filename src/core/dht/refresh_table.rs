//! Runs refresh lookups, and reports to the schedule which buckets other queries make due sooner or later.
//!
//! Knows: which query passed through which bucket. Must not know: when a bucket is due.

use super::*;
use crate::core::announcement::RefreshTarget;
use crate::core::query::Bootstrap;

/// A node that knows no peer tries those that the application named again after at most 1 to 1.5 times this.
/// Source: a node must not stay alone for more than 30 s after one of them is back.
const ALONE: Duration = Duration::from_secs(20);

impl Dht {
    /// Starts the refresh lookups that are due.
    pub(super) fn run_refresh(&mut self, now: Timestamp) {
        while let Some(target) = self.refresh.next(now) {
            if self.peers.seeds(now, self.peers.local.key(), 1).is_empty() {
                self.refresh.postponed(now, target, &mut self.rng);
            } else {
                self.look_into(now, target);
            }
        }
    }

    pub(super) fn look_into(&mut self, now: Timestamp, target: RefreshTarget) {
        if target == RefreshTarget::Own {
            self.peers.release_boot_nodes(now);
        }
        let id = self.pool.next_id();
        let rng = self.query_rng();
        let machine = Machine::Bootstrap(Box::new(Bootstrap::look_into(&self.cx(), target, rng)));
        tracing::debug!(query = %id, ?target, "refreshing a bucket");
        let query = RunningQuery::own(machine, *self.peers.local.key(), QueryKind::Refresh);
        self.pool.insert(now, id, self.config.lookup.query_timeout, query);
        self.refresh.started(id, target);
        self.drive(now, id);
    }

    /// A query ended, by itself or by its timeout. A lookup refreshes the bucket of its target.
    pub(super) fn on_bucket_visited(&mut self, now: Timestamp, query: &RunningQuery) {
        match &query.machine {
            Machine::Bootstrap(bootstrap) => {
                let few = self.knows_few();
                let report = bootstrap.report();
                self.refresh.on_ended(now, query.id, report, few, &mut self.rng);
                for contact in &report.candidates {
                    self.queue(now, Arc::clone(contact));
                }
                self.start_probes(now);
            }
            machine if machine.looks_up() && query.answered => {
                let bits = query.target.common_prefix_len(self.peers.local.key());
                self.refresh.passed(now, bits, &mut self.rng);
            }
            _ => {}
        }
    }

    /// A peer answered; the table had `known` peers before that.
    pub(super) fn on_growth(&mut self, now: Timestamp, known: usize) {
        let len = self.peers.table.len();
        if known == 0 && len > 0 || self.peers.back_offs.take_outage_ended() {
            self.upkeep.own_records.make_unannounced_due(now);
        }
        if len > known {
            self.refresh.on_growth(now, len, &mut self.rng);
        }
    }

    /// Makes a refresh due soon if the table lacks peers that the application named.
    pub(super) fn want_more(&mut self, now: Timestamp) {
        if let Some(longest) = self.knows_few() {
            self.refresh.want_more(now, longest, &mut self.rng);
        }
    }

    /// This node's addresses changed from those of `before`.
    pub(super) fn on_moved(&mut self, now: Timestamp, before: &Contact) {
        let sorted = |contact: &Contact| {
            let mut addrs: Vec<Vec<u8>> = contact.raw_addrs().map(Vec::from).collect();
            addrs.sort_unstable();
            addrs
        };
        if self.peers.table.len() > 0 && sorted(before) != sorted(&self.peers.local) {
            self.refresh.on_moved(now);
        }
    }

    /// If the table has fewer than k peers and lacks some that the application added: the longest time until those are
    /// tried again. `None` in a network without such peers, where another lookup would find no new ones.
    fn knows_few(&self) -> Option<Duration> {
        let Peers { table, book, local, .. } = &self.peers;
        if table.len() == 0 && book.has_boot_nodes() {
            return Some(ALONE);
        }
        let missing = |named: &Key| named != local.key() && table.get(named).is_none();
        let few = self.knows_fewer_than_k() && book.boot_nodes().any(missing);
        few.then_some(Duration::MAX)
    }
}
