//! Keeps records alive: reads pages of the store for the duties, runs the announcements that they ask for, and reports
//! the outcomes.
//!
//! Knows: which part of the node each step concerns. Must not know: when a duty is due, or which peers are to have a
//! record.

use std::time::Duration;

use super::*;
use crate::core::announcement::{Announcement, AnnouncementOutcome, RecordId};
use crate::core::maintain::{PAGE, Run};
use crate::core::query::{Machine, Region, RunningQuery};
use crate::core::stats::Cause;
use crate::core::store_ops::Duty;

/// Timeout of a query that announces records. Source: a page of 256 records to 20 peers each, 60 deliveries at a time,
/// takes a minute if each takes 0.7 s.
const RUN_TIME: Duration = Duration::from_secs(300);

impl Dht {
    /// Reads the next page for every duty that is due.
    pub(super) fn run_upkeep(&mut self, now: Timestamp) {
        while let Some((_, duty)) = self.upkeep.due(self.store_ops.peek(), self.mode).filter(|(at, _)| *at <= now) {
            let k = self.k();
            let (what, after) = self.upkeep.begin(now, duty, &self.peers, k);
            if let Some(done) =
                self.store_ops.run(self.time.date, Waiter::Duty(duty), Op::Scan { what, after, limit: PAGE })
            {
                self.on_page(now, duty, done);
            }
            // Announcements without a peer to ask end at once, and leave room for the next.
            self.end_refused(now);
        }
    }

    /// The store read a page for a duty.
    pub(super) fn on_page(&mut self, now: Timestamp, duty: Duty, done: Done) {
        let page = if let Ok(OpOutput::Items(items)) = done { Some(items) } else { None };
        let k = self.k();
        let mut announcements = self.upkeep.on_page(&self.time, duty, page, &self.peers, k);
        announcements.retain(|announcement| {
            // All peers would refuse a record that has expired by its own rules, and count that against this node.
            let valid = !announcement.item.is_expired(self.time.date);
            if !valid && announcement.item.is_own() {
                self.upkeep.own_records.forget(&RecordId::of(&announcement.item));
            }
            valid && !self.pool.publishes(&announcement.item)
        });
        if !announcements.is_empty() {
            self.run_announcements(now, duty, announcements);
        }
    }

    fn run_announcements(&mut self, now: Timestamp, duty: Duty, announcements: Vec<Announcement>) {
        let id = self.pool.next_id();
        tracing::debug!(query = %id, ?duty, records = announcements.len(), "keeping records alive");
        let k = self.k();
        let (cause, kind) = match duty {
            Duty::Republish => (Cause::Announced, QueryKind::Announce),
            Duty::Replicate => (Cause::Replicated, QueryKind::Replicate),
            Duty::Newcomers => (Cause::Joined, QueryKind::Bring),
        };
        let region = Region::new(cause, k, announcements, self.query_rng());
        let target = region.target().unwrap_or(*self.peers.local.key());
        let query = RunningQuery::own(Machine::Region(Box::new(region)), target, kind);
        self.pool.insert(now, id, RUN_TIME, query);
        self.upkeep.running.insert(id, Run { duty, started: self.time.date });
        self.drive(now, id);
    }

    /// A query has ended. If it announced records, the duties learn the outcomes.
    pub(super) fn on_announcements_ended(
        &mut self,
        id: QueryId,
        machine: Machine,
        result: &Result<Answer, QueryError>,
    ) {
        match machine {
            Machine::Region(region) => {
                if let Some(run) = self.upkeep.running.remove(&id) {
                    self.on_run_ended(run, *region);
                }
            }
            Machine::Publish(publish) if publish.kept && publish.batched().is_none() => {
                if let Some(reached) = reached(result) {
                    let item = publish.item(self.time.date, &self.peers.local);
                    let (took, closest, newer) = (Vec::new(), None, None);
                    self.on_announced(AnnouncementOutcome { item, reached, took, to_all: true, closest, newer });
                }
            }
            _ => {}
        }
    }

    fn on_run_ended(&mut self, run: Run, region: Region) {
        for mut outcome in region.outcomes() {
            self.end_batched(&outcome);
            if let Some(newer) = outcome.newer.take() {
                let _ = self.store_ops.put(self.time.date, Waiter::Adopt, newer);
                continue;
            }
            match run.duty {
                Duty::Republish => self.on_announced(outcome),
                Duty::Replicate if !outcome.reached.is_empty() => self.touch(outcome.item, run.started),
                Duty::Newcomers => {
                    self.upkeep.own_records.on_announced_to(RecordId::of(&outcome.item), &outcome.reached);
                }
                Duty::Replicate => {}
            }
        }
    }

    /// The queries that left this record to the upkeep end.
    fn end_batched(&mut self, outcome: &AnnouncementOutcome) {
        for id in self.pool.batched(RecordId::of(&outcome.item)) {
            if let Some(query) = self.pool.take(id)
                && let Machine::Publish(publish) = &query.machine
            {
                let result = publish.announced(&self.cx(), outcome);
                self.finish(self.time.now, query, result);
            }
        }
    }

    fn on_announced(&mut self, outcome: AnnouncementOutcome) {
        if self.upkeep.own_records.on_outcome(&self.time, RecordId::of(&outcome.item), &outcome) {
            self.touch(outcome.item, self.time.date);
        }
    }

    /// Notes in the store that a record was announced, or replicated, at this time.
    fn touch(&mut self, item: Item, at: Timestamp) {
        let _ = self.store_ops.run(self.time.date, Waiter::Nobody, Op::Touch(item, at));
    }

    /// The running announcements, of one duty or of all, reach no more peers with this record.
    pub(super) fn stop_announcements(&mut self, record: &RecordId, duty: Option<Duty>) {
        for (id, run) in &self.upkeep.running {
            if duty.is_none_or(|duty| duty == run.duty)
                && let Some(query) = self.pool.get_mut(*id)
                && let Machine::Region(region) = &mut query.machine
            {
                region.stop(record);
            }
        }
    }

    /// A peer stored a value here. If it is one of the k closest, this node need not replicate the value in this
    /// period.
    pub(super) fn on_stored_here(&mut self, event: &Event) {
        if let Event::RecordStored { key, from } = event
            && self.upkeep.replicates()
            && self.peers.sender(from, &Key::from(from), &key.key(), self.k()).holder
        {
            let record = RecordId { place: key.key(), provider: false };
            self.upkeep.on_stored(record);
            self.stop_announcements(&record, Some(Duty::Replicate));
        }
    }

    /// The application publishes a record, or withdraws it.
    pub(super) fn on_changed(&mut self, now: Timestamp, record: RecordId, withdrawn: bool) {
        if withdrawn {
            self.pool.publishing(&record).into_iter().for_each(|id| self.cancel(id));
        }
        self.pool.on_changed(record.place);
        self.upkeep.on_changed(now, record);
        self.stop_announcements(&record, None);
        if withdrawn {
            self.upkeep.own_records.forget(&record);
        }
    }
}

/// The record that an operation publishes or withdraws, and whether it withdraws it.
pub(super) fn changed_by(operation: &Operation, options: &QueryOptions) -> Option<(RecordId, bool)> {
    let (key, provider, withdrawn) = match operation {
        Operation::Put { key, .. } if !options.not_kept => (key, false, false),
        Operation::Provide { key } if !options.not_kept || options.only.is_none() => (key, true, false),
        Operation::Remove { key } => (key, false, true),
        Operation::StopProviding { key } => (key, true, true),
        _ => return None,
    };
    Some((RecordId { place: key.key(), provider }, withdrawn))
}

/// The peers that a publication reached, by the first 64 bits of their keys; `None` if this node did not keep the
/// record.
fn reached(result: &Result<Answer, QueryError>) -> Option<Vec<u64>> {
    let report = match result {
        Ok(Answer::Published(published)) => &published.report,
        Ok(_) => return None,
        Err(QueryError::NoPeers) => return Some(Vec::new()),
        Err(why) => why.report()?,
    };
    let reached = report.acknowledged.iter().chain(&report.sent);
    Some(reached.map(|peer| Key::from(peer).head()).collect())
}
