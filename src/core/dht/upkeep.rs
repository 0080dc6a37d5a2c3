//! How records are kept alive: pages for the duties, announcements for the queries, and what came of them.
//!
//! Knows: whom each of these concerns. Must not know: when anything is due, or who is to have it.

use std::time::Duration;

use super::*;
use crate::core::announcement::{Announcement, AnnouncementOutcome, RecordId};
use crate::core::maintain::{PAGE, Run};
use crate::core::query::{Machine, Query, Region};
use crate::core::stats::Cause;
use crate::core::storage::Duty;

/// The time of a run of announcements. Source: a page of 256 records to 20 peers each, 60 deliveries at a time, takes a minute
/// where each takes 0.7 s.
const RUN_TIME: Duration = Duration::from_secs(300);

impl Dht {
    /// Lets every duty that is due read its next page.
    pub(super) fn run_upkeep(&mut self, now: Timestamp) {
        while let Some((_, duty)) = self.upkeep.due(self.storage.peek(), self.mode).filter(|(at, _)| *at <= now) {
            let k = self.config.lookup.replication.get();
            let (what, after) = self.upkeep.begin(now, duty, &self.peers, k);
            if let Some(done) =
                self.storage.run(self.time.date, Asker::Duty(duty), Op::Scan { what, after, limit: PAGE })
            {
                self.on_page(now, duty, done);
            }
            // Announcements that nobody can be asked for are over at once, and leave room for the next.
            self.end_refused(now);
        }
    }

    /// The store read a page for a duty.
    pub(super) fn on_page(&mut self, now: Timestamp, duty: Duty, done: Done) {
        let page = if let Ok(Found::Items(items)) = done { Some(items) } else { None };
        let k = self.config.lookup.replication.get();
        let mut announcements = self.upkeep.on_page(&self.time, duty, page, &self.peers, k);
        announcements.retain(|announcement| {
            // What its own rules call over would be refused by all, and held against this node.
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
        let k = self.config.lookup.replication.get();
        let (cause, kind) = match duty {
            Duty::Republish => (Cause::Announced, QueryKind::Announce),
            Duty::Replicate => (Cause::Replicated, QueryKind::Replicate),
            Duty::Newcomers => (Cause::Joined, QueryKind::Bring),
        };
        let region = Region::new(cause, k, announcements, ChaCha8Rng::from_rng(&mut self.rng));
        let target = region.target().unwrap_or(*self.peers.local.key());
        let mut query = Query::new(Machine::Region(Box::new(region)), target, kind);
        query.asked = false;
        self.pool.insert(now, id, RUN_TIME, query);
        self.upkeep.running.insert(id, Run { duty, started: self.time.date });
        self.drive(now, id);
    }

    /// A query is over that may have brought records to peers.
    pub(super) fn on_brought(&mut self, id: QueryId, machine: Machine, result: &Result<Answer, QueryError>) {
        match machine {
            Machine::Region(region) => {
                if let Some(run) = self.upkeep.running.remove(&id) {
                    self.on_run_ended(run, *region);
                }
            }
            Machine::Publish(publish) if publish.kept => {
                if let Some(reached) = reached(result) {
                    let item = publish.item(self.time.date, &self.peers.local);
                    self.on_announced(AnnouncementOutcome { item, reached, to_all: true, closest: None, newer: None });
                }
            }
            _ => {}
        }
    }

    fn on_run_ended(&mut self, run: Run, region: Region) {
        for ended in region.ended() {
            match run.duty {
                _ if ended.newer.is_some() => {
                    let newer = ended.newer.into_iter();
                    newer.for_each(|record| _ = self.storage.put(self.time.date, Asker::Adopt, record));
                }
                Duty::Republish => self.on_announced(ended),
                Duty::Replicate if !ended.reached.is_empty() => self.touch(ended.item, run.started),
                Duty::Newcomers => self.upkeep.own_records.on_announced_to(RecordId::of(&ended.item), &ended.reached),
                Duty::Replicate => {}
            }
        }
    }

    fn on_announced(&mut self, ended: AnnouncementOutcome) {
        if self.upkeep.own_records.on_outcome(&self.time, RecordId::of(&ended.item), &ended) {
            self.touch(ended.item, self.time.date);
        }
    }

    /// Notes on a record that it was announced, or stored again, at this time.
    fn touch(&mut self, item: Item, at: Timestamp) {
        let _ = self.storage.run(self.time.date, Asker::Nobody, Op::Touch(item, at));
    }

    /// What is under way no longer tells anyone of it.
    pub(super) fn stop_announcements(&mut self, name: &RecordId, duty: Option<Duty>) {
        for (id, run) in &self.upkeep.running {
            if let (true, Some(query)) = (duty.is_none_or(|duty| duty == run.duty), self.pool.get_mut(*id))
                && let Machine::Region(region) = &mut query.machine
            {
                region.stop(name);
            }
        }
    }

    /// A peer stored a value here: this node need not do so for others now, if it is one of those that hold it.
    pub(super) fn on_stored_here(&mut self, event: &Event) {
        if let Event::RecordStored { key, from } = event
            && self.upkeep.replicates()
        {
            let name = RecordId { place: key.key(), provider: false };
            let k = self.config.lookup.replication.get();
            if self.peers.sender(from, &Key::from(from), &name.place, k).holder {
                self.upkeep.on_stored(name);
                self.stop_announcements(&name, Some(Duty::Replicate));
            }
        }
    }

    /// The application changes what it publishes, or takes it back.
    pub(super) fn on_changed(&mut self, now: Timestamp, name: RecordId, taken_back: bool) {
        if taken_back {
            self.pool.publishing(&name).into_iter().for_each(|id| self.cancel(id));
        }
        self.upkeep.on_changed(now, name);
        self.stop_announcements(&name, None);
        if taken_back {
            self.upkeep.own_records.forget(&name);
        }
    }
}

/// What an operation changes of what this node publishes, and whether it takes it back.
pub(super) fn changed_by(operation: &Operation, options: &QueryOptions) -> Option<(RecordId, bool)> {
    let (key, provider, taken_back) = match operation {
        Operation::Put { key, .. } if !options.not_kept => (key, false, false),
        Operation::Provide { key } => (key, true, false),
        Operation::Remove { key } => (key, false, true),
        Operation::StopProviding { key } => (key, true, true),
        _ => return None,
    };
    Some((RecordId { place: key.key(), provider }, taken_back))
}

/// Who was reached by a publication that was kept here; `None` if it was not kept.
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
