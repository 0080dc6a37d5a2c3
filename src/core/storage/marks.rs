//! What a node notes about records that it keeps: when it announced its own, when it stored another's again.
//!
//! Knows: records as they are kept. Must not know: why it is noted. A mark changes only what is kept unchanged: it never
//! brings back what is gone meanwhile, and never replaces another value.

use super::*;

/// A mark that waits for the store.
#[derive(Debug)]
pub(super) enum Mark {
    /// Until the value is read; without a moment, it is no longer wanted.
    Value(Record, Option<Timestamp>),
    /// Until the provider record is read.
    Provider(ProviderRecord, Timestamp),
    /// Until the value is written.
    Written(RecordKey),
    /// Until the provider record is written.
    ProviderWritten,
}

impl Storage {
    /// Notes on a record that was read earlier that it was announced at this time; on a value of another node, that it
    /// was stored here again.
    pub(crate) fn mark(&mut self, now: Timestamp, item: Item, at: Timestamp) {
        match item {
            Item::Value(record) if !self.queues.contains_key(&record.key) => match self.store.get(now, &record.key) {
                Ok(Read::Ready(kept)) => {
                    let key = record.key.clone();
                    if self.mark_value(now, &record, kept, at) {
                        self.queues.insert(key, VecDeque::new());
                    }
                }
                Ok(Read::Pending(ticket)) => {
                    self.queues.insert(record.key.clone(), VecDeque::new());
                    self.marking.insert(ticket, Mark::Value(record, Some(at)));
                }
                Err(_) => {}
            },
            // A write is under way, and says more than this.
            Item::Value(_) => {}
            Item::Provider(record) => match self.store.providers(now, &record.key) {
                Ok(Read::Ready(kept)) => self.mark_provider(now, &record, kept, at),
                Ok(Read::Pending(ticket)) => _ = self.marking.insert(ticket, Mark::Provider(record, at)),
                Err(_) => {}
            },
        }
    }

    /// What waits to be marked is forgotten.
    pub(super) fn unmark(&mut self, key: &RecordKey, provider: bool) {
        self.marking.retain(|_, mark| match mark {
            Mark::Value(record, at) if !provider && record.key == *key => {
                *at = None;
                true
            }
            Mark::Provider(record, _) => !(provider && record.key == *key),
            _ => true,
        });
    }

    pub(super) fn mark_loaded(
        &mut self,
        now: Timestamp,
        ticket: Ticket,
        mark: Mark,
        result: Result<Loaded, StoreError>,
    ) -> Vec<(Asker, Outcome)> {
        match mark {
            Mark::Value(record, at) => {
                let kept = loaded_value(result).ok().flatten().filter(|kept| !kept.is_expired(now));
                let waits = at.is_some_and(|at| self.mark_value(now, &record, kept, at));
                if waits { Vec::new() } else { self.rest_of_queue(now, &record.key) }
            }
            Mark::Provider(record, at) => {
                if let Ok(kept) = loaded_providers(result) {
                    self.mark_provider(now, &record, kept, at);
                }
                Vec::new()
            }
            write => {
                self.marking.insert(ticket, write);
                Vec::new()
            }
        }
    }

    pub(super) fn mark_stored(&mut self, now: Timestamp, ticket: Ticket, mark: Mark) -> Vec<(Asker, Outcome)> {
        match mark {
            Mark::Written(key) => self.rest_of_queue(now, &key),
            Mark::ProviderWritten => Vec::new(),
            read => {
                self.marking.insert(ticket, read);
                Vec::new()
            }
        }
    }

    /// Returns whether the store is still writing it.
    fn mark_value(&mut self, now: Timestamp, read: &Record, kept: Option<Record>, at: Timestamp) -> bool {
        let same = |kept: &Record| kept.own == read.own && kept.value == read.value;
        let Some(mut record) = kept.filter(same) else { return false };
        if record.own {
            record.announced = record.announced.max(Some(at));
        } else {
            record.received = record.received.max(at);
        }
        let key = record.key.clone();
        match self.store.put(now, record) {
            Ok(Write::Pending(ticket)) => self.marking.insert(ticket, Mark::Written(key)).is_none(),
            Ok(Write::Kept) | Err(_) => false,
        }
    }

    fn mark_provider(&mut self, now: Timestamp, read: &ProviderRecord, kept: Vec<ProviderRecord>, at: Timestamp) {
        let same = |kept: &ProviderRecord| kept.own && kept.provider.peer() == read.provider.peer();
        let Some(mut record) = kept.into_iter().find(same) else { return };
        record.announced = record.announced.max(Some(at));
        if let Ok(Write::Pending(ticket)) = self.store.add_provider(now, record) {
            self.marking.insert(ticket, Mark::ProviderWritten);
        }
    }
}
