//! What a node notes about records that it keeps: when it announced its own, when it stored another's again.
//!
//! Knows: records as they are kept. Must not know: why it is noted. A mark changes only what is kept unchanged: it never
//! brings back what is gone meanwhile, and never replaces another value. It has its turn among the writes of its key, so
//! it is neither overtaken by one nor lost to one that fails.

use super::turns::Took;
use super::*;

/// A mark that waits for the store.
#[derive(Debug)]
pub(super) enum Mark {
    /// Until what it marks is read.
    Read(Item, Timestamp),
    /// Until it is written.
    Written(Line),
}

impl Storage {
    /// Notes on a record that was read earlier that it was announced at this time; on a value of another node, that it
    /// was stored here again.
    pub(crate) fn mark(&mut self, now: Timestamp, item: Item, at: Timestamp) {
        self.enter(now, Line::of(&item), Turn::Mark(item, at));
    }

    pub(super) fn begin_mark(&mut self, now: Timestamp, item: Item, at: Timestamp) -> Took {
        let read = match &item {
            Item::Value(record) => loading(self.store.get(now, &record.key), Loaded::Value),
            Item::Provider(record) => loading(self.store.providers(now, &record.key), Loaded::Providers),
        };
        match read {
            Ok(Read::Ready(kept)) => self.note(now, &item, Ok(kept), at),
            Ok(Read::Pending(ticket)) => self.wait_to_mark(ticket, Mark::Read(item, at)),
            Err(_) => Took::Done(None),
        }
    }

    pub(super) fn mark_loaded(
        &mut self,
        now: Timestamp,
        ticket: Ticket,
        mark: Mark,
        result: Result<Loaded, StoreError>,
    ) -> Vec<(Asker, Outcome)> {
        match mark {
            Mark::Read(item, at) => match self.note(now, &item, result, at) {
                Took::Pending => Vec::new(),
                Took::Done(_) => self.rest_of_line(now, &Line::of(&item)),
            },
            write => {
                self.marking.insert(ticket, write);
                Vec::new()
            }
        }
    }

    pub(super) fn mark_stored(&mut self, now: Timestamp, ticket: Ticket, mark: Mark) -> Vec<(Asker, Outcome)> {
        match mark {
            Mark::Written(line) => self.rest_of_line(now, &line),
            read => {
                self.marking.insert(ticket, read);
                Vec::new()
            }
        }
    }

    /// Writes it onto what is kept, if that is what was read.
    fn note(&mut self, now: Timestamp, item: &Item, kept: Result<Loaded, StoreError>, at: Timestamp) -> Took {
        let write = match item {
            Item::Value(read) => {
                let kept = loaded_value(kept).ok().flatten();
                let same = |kept: &Record| !kept.is_expired(now) && kept.own == read.own && kept.value == read.value;
                let Some(mut record) = kept.filter(same) else { return Took::Done(None) };
                if record.own {
                    record.announced = record.announced.max(Some(at));
                } else {
                    record.received = record.received.max(at);
                }
                self.store.put(now, record)
            }
            Item::Provider(read) => {
                let kept = loaded_providers(kept).unwrap_or_default();
                let same = |kept: &ProviderRecord| kept.own && kept.provider.peer() == read.provider.peer();
                let Some(mut record) = kept.into_iter().find(same) else { return Took::Done(None) };
                record.announced = record.announced.max(Some(at));
                self.store.add_provider(now, record)
            }
        };
        match write {
            Ok(Write::Pending(ticket)) => self.wait_to_mark(ticket, Mark::Written(Line::of(item))),
            Ok(Write::Kept) | Err(_) => Took::Done(None),
        }
    }

    fn wait_to_mark(&mut self, ticket: Ticket, mark: Mark) -> Took {
        self.marking.insert(ticket, mark);
        Took::Pending
    }
}

fn loading<T>(read: Result<Read<T>, StoreError>, wrap: fn(T) -> Loaded) -> Result<Read<Loaded>, StoreError> {
    Ok(match read? {
        Read::Ready(found) => Read::Ready(wrap(found)),
        Read::Pending(ticket) => Read::Pending(ticket),
    })
}
