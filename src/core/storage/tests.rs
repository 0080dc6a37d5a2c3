//! Writes of one key, whatever the store does first.

use std::task::Waker;

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use super::*;
use crate::core::store::deferred::{DeferredControl, DeferredStore};
use crate::core::store::{Done, MemoryStore, MemoryStoreConfig};

const BEGIN: Timestamp = Timestamp::from_secs(1_000_000);

fn memory() -> MemoryStore {
    MemoryStore::new(MemoryStoreConfig::default(), [7; 32])
}

fn at_once() -> Storage {
    Storage::new(Box::new(memory()), RecordConfig::default())
}

fn later() -> (Storage, DeferredControl) {
    let (store, control) = DeferredStore::new(memory());
    (Storage::new(Box::new(store), RecordConfig::default()), control)
}

fn own(key: &str, value: &str, now: Timestamp) -> Record {
    let mut record = Record::new(key, value.to_owned(), now);
    record.own = true;
    record
}

/// Lets one operation of the store end, and tells what came of it.
fn release(storage: &mut Storage, control: &mut DeferredControl, position: usize) -> Vec<(Asker, Outcome)> {
    control.release_at(position);
    let mut outcomes = Vec::new();
    while let Some(done) = storage.store().poll_done(Waker::noop()) {
        outcomes.extend(match done {
            Done::Stored { ticket, result } => storage.on_stored(BEGIN, ticket, result),
            Done::Loaded { ticket, result } => storage.on_loaded(BEGIN, ticket, result),
        });
    }
    outcomes
}

fn release_all(storage: &mut Storage, control: &mut DeferredControl) -> Vec<(Asker, Outcome)> {
    let mut outcomes = Vec::new();
    while control.waiting() > 0 {
        outcomes.append(&mut release(storage, control, 0));
    }
    outcomes
}

/// All that is kept.
fn kept(storage: &mut Storage, control: Option<&mut DeferredControl>) -> String {
    let mut outcome = storage.items(Asker::Nobody, Scan::All, None, 1_000);
    if let Some(control) = control {
        outcome = outcome.or(release_all(storage, control).pop().map(|(_, outcome)| outcome));
    }
    let Some(Outcome::Items(Ok(items))) = outcome else { panic!("{outcome:?}") };
    let show = |item: &Item| match item {
        Item::Value(record) => format!("{record:?}\n"),
        Item::Provider(record) => format!("{} {} {:?}\n", record.key, record.own, record.announced),
    };
    items.iter().map(show).collect()
}

fn act(storage: &mut Storage, i: usize, lot: u32, local: &Arc<Contact>) {
    let now = BEGIN + std::time::Duration::from_secs(i as u64);
    let key = format!("/app/{}", lot % 2);
    let value = format!("value {}", lot / 2 % 3);
    let mut provided =
        ProviderRecord::new(RecordKey::from(&key[..]), Arc::clone(local), Timestamp::MAX, Timestamp::MAX);
    provided.own = true;
    let asker = Asker::Query(QueryId::new(i as u64));
    match lot / 6 % 7 {
        0 => drop(storage.keep_value(now, asker, own(&key, &value, now))),
        1 => {
            let mut record = Record::new(key, value, now);
            (record.expires, record.claimed) = (Some(now + std::time::Duration::from_secs(1_000)), true);
            drop(storage.keep_value(now, asker, record));
        }
        2 => drop(storage.forget_value(now, asker, &RecordKey::from(key))),
        3 => storage.mark(now, Item::Value(own(&key, &value, now)), now),
        4 => drop(storage.keep_provider(now, asker, provided)),
        5 => drop(storage.forget_provider(now, asker, &provided.key.clone(), local.peer())),
        _ => storage.mark(now, Item::Provider(provided), now),
    }
}

/// What is kept in the end is what a store keeps that does everything at once, in whatever order a slow one works.
#[test]
fn the_order_of_what_is_asked_for_holds_in_every_order_of_the_store() {
    let local = Contact::new(PeerId::random(), ["/memory/1".parse().unwrap()]);
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let mut different = std::collections::BTreeSet::new();
    for _ in 0..500 {
        let (mut quick, (mut slow, mut control)) = (at_once(), later());
        let mut ends = 0;
        let count = 12;
        let mut asked = 0;
        for i in 0..count {
            let lot = rng.next_u32();
            act(&mut quick, i, lot, &local);
            act(&mut slow, i, lot, &local);
            asked += usize::from(!matches!(lot / 6 % 7, 3 | 6));
            for _ in 0..rng.next_u32() % 3 {
                let waiting = control.waiting().max(1);
                ends += release(&mut slow, &mut control, rng.next_u32() as usize % waiting).len();
            }
        }
        ends += release_all(&mut slow, &mut control).len();
        assert_eq!(ends, asked, "everyone is told once");
        assert_eq!((slow.jobs(), slow.marking.len()), (0, 0));
        let expected = kept(&mut quick, None);
        assert_eq!(kept(&mut slow, Some(&mut control)), expected);
        different.insert(expected);
    }
    assert!(different.len() > 100, "{} ends", different.len());
}

#[test]
fn a_mark_is_not_lost_to_a_write_that_is_refused() {
    let (mut storage, mut control) = later();
    let record = own("/app/x", "the value", BEGIN);
    storage.keep_value(BEGIN, Asker::Nobody, record.clone());
    release_all(&mut storage, &mut control);
    // A peer sends one that ends sooner, and the store is slow to compare.
    let mut other = Record::new("/app/x", "a value", BEGIN);
    (other.expires, other.claimed) = (Some(BEGIN + std::time::Duration::from_secs(5)), true);
    storage.keep_value(BEGIN, Asker::Nobody, other);
    for second in 1..100 {
        storage.mark(BEGIN, Item::Value(record.clone()), BEGIN + std::time::Duration::from_secs(second));
    }
    assert_eq!(storage.jobs(), 1, "nobody is refused for marks");
    assert!(format!("{:?}", storage.turns).matches("Mark").count() == 1, "marks in a row are one");
    release_all(&mut storage, &mut control);
    let Some(Outcome::Value(Ok(Some(kept)))) = ({
        storage.value(BEGIN, Asker::Nobody, &record.key);
        release_all(&mut storage, &mut control).pop().map(|(_, outcome)| outcome)
    }) else {
        panic!("it is kept")
    };
    assert_eq!(
        (&kept.value[..], kept.announced),
        (&b"the value"[..], Some(BEGIN + std::time::Duration::from_secs(99)))
    );
}

/// The read began while it lived.
#[test]
fn a_value_that_is_over_when_its_read_ends_is_as_good_as_none() {
    let (mut storage, mut control) = later();
    let before = Timestamp::from_micros(BEGIN.as_micros() - 1);
    for (expires, found) in [(BEGIN, false), (BEGIN + std::time::Duration::from_micros(1), true)] {
        let mut record = Record::new("/a/b", "v", before);
        record.expires = Some(expires);
        assert!(storage.keep_value(before, Asker::Nobody, record).is_none());
        release_all(&mut storage, &mut control);
        assert!(storage.value(before, Asker::Nobody, &RecordKey::from("/a/b")).is_none());
        let outcome = release_all(&mut storage, &mut control).pop();
        let Some((_, Outcome::Value(Ok(value)))) = outcome else { panic!("{outcome:?}") };
        assert_eq!(value.is_some(), found, "{value:?}");
    }
}
