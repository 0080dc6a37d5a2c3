//! The threads that read: entries that are not in the cache are read from the last durable transaction.
//!
//! Knows: the tables, and how to walk them in order. Must not know: for whom it reads.
//!
//! Reads see the last durable transaction: the contract lets a read during a pending write find the state before it.
//! A row that changes while it is read is not cached. While the file grows, redb syncs it under a lock that the
//! start of a read needs, so the writer starts one read transaction after each commit, which all readers share.

use std::ops::Bound;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};

use redb::{ReadTransaction, StorageError};

use super::cache::{CachedEntry, Name};
use super::database::{Handle, missing};
use super::error::{is_damage, reason};
use super::group::report;
use super::row::{self, Provided};
use super::shared::Shared;
use super::tables::{META, OWN, PROVIDED, Place, TableKind, VALUES, own_of, place_of};
use libp2p_kad_dht::core::Key;
use libp2p_kad_dht::core::Timestamp;
use libp2p_kad_dht::core::store::{Done, Item, OpOutput, Scan, StoreError, Ticket};
use libp2p_kad_dht::core::{ProviderRecord, Record};

/// One waiting read.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ask {
    Value(Timestamp, Place),
    Providers(Timestamp, Place),
    Scan(Scan, Option<Key>, usize),
    Peers,
}

pub(super) struct Reader {
    pub(super) handle: Arc<Handle>,
    pub(super) shared: Arc<Shared>,
    pub(super) asks: Arc<Mutex<Receiver<(Ticket, Ask)>>>,
}

impl Ask {
    /// The row that is read, by its name in the cache; `None` for reads that are not cached.
    pub(super) fn name(&self) -> Option<Name> {
        match self {
            Ask::Value(_, place) => Some((TableKind::Value, *place)),
            Ask::Providers(_, place) => Some((TableKind::Provided, *place)),
            Ask::Scan(..) | Ask::Peers => None,
        }
    }
}

impl Reader {
    /// Reads until the store is dropped.
    pub(super) fn run(self) {
        loop {
            let next = self.asks.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok((ticket, ask)) = next else { return };
            // An earlier write may be the cause of the failure; the database was reopened since, so try once more.
            let result = self.answer(ask).or_else(|_| self.answer(ask)).unwrap_or_else(|error| {
                tracing::error!(%error, "the store could not read");
                Err(reason(&error))
            });
            self.shared.loaded(ticket, result);
        }
    }

    fn answer(&self, ask: Ask) -> Result<Done, StorageError> {
        let whole = |entry: Arc<CachedEntry>| match &*entry {
            CachedEntry::Damaged => Err(StoreError::Damaged),
            _ => Ok(entry),
        };
        Ok(match ask {
            Ask::Value(now, _) => whole(self.entry(ask)?).map(|entry| OpOutput::Value(entry.value(now))),
            Ask::Providers(now, _) => whole(self.entry(ask)?).map(|entry| OpOutput::Providers(entry.providers(now))),
            Ask::Scan(what, after, limit) => {
                let page = self.page(what, after, limit)?;
                page.damaged.into_iter().for_each(|name| self.damaged(name));
                Ok(OpOutput::Items(page.items))
            }
            Ask::Peers => self.handle.read(|read| {
                let meta = read.open_table(META).map_err(missing)?;
                let Some(row) = meta.get("peers")? else { return Ok(Ok(OpOutput::Peers(Vec::new()))) };
                // The next saved peers replace the damaged row.
                Ok(row::decode_peers(row.value()).map(OpOutput::Peers).ok_or(StoreError::Damaged))
            })?,
        })
    }

    /// Reads one page. When part of the file is damaged, the page continues behind it, by steps that double until
    /// something can be read.
    fn page(&self, what: Scan, after: Option<Key>, limit: usize) -> Result<Page, StorageError> {
        let mut page = Page { after, ..Page::default() };
        let (mut step, mut failures) = (0, 0);
        loop {
            let before = page.after;
            match self.handle.read(|read| page.fill(read, what, limit)) {
                Ok(()) => return Ok(page),
                Err(error) if !is_damage(&error) || failures == MAX_FAILURES => return Err(error),
                Err(error) => tracing::error!(%error, "part of the store cannot be read and is skipped"),
            }
            failures += 1;
            if page.after != before {
                step = 0;
                continue;
            }
            match step_over(page.after, step) {
                Some(further) => page.after = Some(further),
                None => return Ok(page),
            }
            step += 1;
        }
    }

    /// Logs a damaged row, and has the writer move it aside.
    fn damaged(&self, name: Name) {
        report(&name.1);
        self.shared.damaged(name);
    }

    /// Reads the row of a place; the row is cached unless it changes meanwhile.
    fn entry(&self, ask: Ask) -> Result<Arc<CachedEntry>, StorageError> {
        let Some(name) = ask.name() else { return Ok(Arc::new(CachedEntry::Provided(Vec::new()))) };
        if let Some(entry) = self.shared.cached(&name) {
            return Ok(entry);
        }
        self.shared.begin_load(name);
        let entry = self.handle.read(|read| load(read, name)).map(Arc::new);
        let damaged = matches!(entry.as_deref(), Ok(CachedEntry::Damaged));
        self.shared.end_load(name, if damaged { None } else { entry.as_ref().ok() });
        if damaged {
            self.damaged(name);
        }
        entry
    }
}

fn load(read: &ReadTransaction, (kind, place): Name) -> Result<CachedEntry, StorageError> {
    let tables = Tables::open(read)?;
    Ok(match kind {
        TableKind::Value => tables.value(&place)?.map_or(CachedEntry::Damaged, CachedEntry::Value),
        TableKind::Provided => tables.providers(&place)?.map_or(CachedEntry::Damaged, CachedEntry::Provided),
    })
}

/// The tables of records, for reading.
struct Tables {
    values: redb::ReadOnlyTable<Place, &'static [u8]>,
    provided: redb::ReadOnlyTable<Place, &'static [u8]>,
}

impl Tables {
    fn open(read: &ReadTransaction) -> Result<Tables, StorageError> {
        Ok(Tables {
            values: read.open_table(VALUES).map_err(missing)?,
            provided: read.open_table(PROVIDED).map_err(missing)?,
        })
    }

    /// `None` if the row cannot be read.
    fn value(&self, place: &Place) -> Result<Option<Option<Record>>, StorageError> {
        let Some(row) = self.values.get(place)? else { return Ok(Some(None)) };
        Ok(row::decode_value(row.value()).map(|(record, _)| Some(record)))
    }

    /// `None` if the row cannot be read.
    fn providers(&self, place: &Place) -> Result<Option<Vec<ProviderRecord>>, StorageError> {
        let Some(row) = self.provided.get(place)? else { return Ok(Some(Vec::new())) };
        Ok(Provided::decode(row.value()).map(|row| row.records().collect()))
    }

    /// The items at one place, and the rows there that cannot be read.
    fn items(&self, place: &Place, kinds: [bool; 2]) -> Result<(Vec<Item>, Vec<Name>), StorageError> {
        let (mut items, mut damaged) = (Vec::new(), Vec::new());
        if kinds[0] {
            match self.value(place)? {
                Some(found) => items.extend(found.map(Item::Value)),
                None => damaged.push((TableKind::Value, *place)),
            }
        }
        if kinds[1] {
            match self.providers(place)? {
                Some(found) => items.extend(found.into_iter().map(Item::Provider)),
                None => damaged.push((TableKind::Provided, *place)),
            }
        }
        Ok((items, damaged))
    }
}

/// A place, with whether a value is there and whether providers are there.
type Next = Result<(Place, [bool; 2]), StorageError>;

/// The items that a scan found, the rows that it could not read, and the last place that it read.
#[derive(Default)]
struct Page {
    items: Vec<Item>,
    damaged: Vec<Name>,
    after: Option<Key>,
}

impl Page {
    /// Adds the items behind the last place, until there are `limit`.
    fn fill(&mut self, read: &ReadTransaction, what: Scan, limit: usize) -> Result<(), StorageError> {
        let (tables, after) = (Tables::open(read)?, self.after);
        let mut places: Box<dyn Iterator<Item = Next>> = match what {
            Scan::Own => Box::new(own_places(read, after)?),
            Scan::Values => Box::new(row_places(&tables.values, after)?.map(|place| Ok((place?, [true, false])))),
            Scan::All => {
                let (values, provided) = (row_places(&tables.values, after)?, row_places(&tables.provided, after)?);
                Box::new(merged(values, provided))
            }
        };
        while self.items.len() < limit {
            let Some(place) = places.next() else { break };
            let (place, kinds) = place?;
            self.after = Some(Key::from_bytes(place));
            let (found, unreadable) = tables.items(&place, kinds)?;
            self.items.extend(found.into_iter().filter(|item| what.wants(item)));
            self.damaged.extend(unreadable);
        }
        Ok(())
    }
}

/// Maximum number of times that one page may meet damage; after that it fails.
const MAX_FAILURES: usize = 256;

/// The place at a distance behind this one: first 2^-28 of the keyspace, which is less than a row's share of a full
/// store, and doubled with each step. `None` at the end of the keyspace.
fn step_over(after: Option<Key>, step: u32) -> Option<Key> {
    let mut bytes = after.map_or([0; 32], Key::to_bytes);
    let head = after.map_or(0, |key| key.head()).checked_add(1_u64.checked_shl(36 + step)?)?;
    bytes[..8].copy_from_slice(&head.to_be_bytes());
    Some(Key::from_bytes(bytes))
}

fn start(after: Option<Key>) -> Bound<Place> {
    after.map_or(Bound::Unbounded, |key| Bound::Excluded(place_of(&key)))
}

fn row_places(
    table: &redb::ReadOnlyTable<Place, &'static [u8]>,
    after: Option<Key>,
) -> Result<impl Iterator<Item = Result<Place, StorageError>>, StorageError> {
    let range = table.range::<Place>((start(after), Bound::Unbounded))?;
    Ok(range.map(|row| row.map(|(place, _)| place.value())))
}

/// The places with own records, each once, with the kinds of its own records.
fn own_places(read: &ReadTransaction, after: Option<Key>) -> Result<impl Iterator<Item = Next>, StorageError> {
    let mut first = [0; 33];
    if let Some(after) = after {
        first[..32].copy_from_slice(&place_of(&after));
        first[32] = u8::MAX;
    }
    let own = read.open_table(OWN).map_err(missing)?;
    let mut rows = own.range(first..)?.map(|row| row.map(|(key, _)| own_of(&key.value()))).peekable();
    Ok(std::iter::from_fn(move || {
        let (place, kind) = match rows.next()? {
            Ok(row) => row,
            Err(error) => return Some(Err(error)),
        };
        let both = rows.next_if(|row| matches!(row, Ok((next, _)) if *next == place)).is_some();
        Some(Ok((place, [both || kind == TableKind::Value, both || kind == TableKind::Provided])))
    }))
}

/// Merges two ordered sequences of places, with which of the two each place is in.
fn merged(
    left: impl Iterator<Item = Result<Place, StorageError>>,
    right: impl Iterator<Item = Result<Place, StorageError>>,
) -> impl Iterator<Item = Next> {
    let (mut left, mut right) = (left.peekable(), right.peekable());
    std::iter::from_fn(move || {
        let sides = [left.peek(), right.peek()];
        let first = sides.iter().filter_map(|side| side.and_then(|place| place.as_ref().ok())).min().copied();
        let mut kinds = [false, false];
        for (i, next) in
            [left.next_if(|place| is(place, first)), right.next_if(|place| is(place, first))].into_iter().enumerate()
        {
            match next {
                Some(Ok(_)) => kinds[i] = true,
                Some(Err(error)) => return Some(Err(error)),
                None => {}
            }
        }
        first.map(|first| Ok((first, kinds)))
    })
}

/// Whether this place is next. Errors always are, so that none is skipped.
fn is(place: &Result<Place, StorageError>, first: Option<Place>) -> bool {
    place.as_ref().map_or(true, |place| Some(*place) == first)
}
