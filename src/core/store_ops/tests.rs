//! Each waiter gets its result, in whatever order the store works.

use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use libp2p_identity::PeerId;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use super::*;
use crate::core::contact::Contact;
use crate::core::record::ProviderRecord;
use crate::core::store::{Item, MemoryStore, MemoryStoreConfig, Scan};
use crate::core::validate::{Candidate, InvalidValue, Valid, Validator};
use crate::testing::deferred::{DeferredControl, DeferredStore};

const BEGIN: Timestamp = Timestamp::from_secs(1_000_000);

fn memory() -> MemoryStore {
    MemoryStore::new(MemoryStoreConfig::default(), [7; 32])
}

fn at_once() -> StoreOps {
    StoreOps::new(Box::new(memory()), RecordConfig::default())
}

fn later() -> (StoreOps, DeferredControl) {
    let (store, control) = DeferredStore::new(memory());
    (StoreOps::new(Box::new(store), RecordConfig::default()), control)
}

fn own(key: &str, value: &str, now: Timestamp) -> Record {
    let mut record = Record::new(key, value.to_owned(), now);
    record.own = true;
    record
}

fn others(key: &str, value: &str, now: Timestamp) -> Record {
    let mut record = Record::new(key, value.to_owned(), now);
    (record.expires, record.claimed) = (Some(now + Duration::from_secs(1_000)), true);
    record
}

fn waiter(i: usize) -> Waiter {
    Waiter::Query(QueryId::new(i as u64))
}

/// Lets one operation of the store end, and returns the results that follow.
fn release(store_ops: &mut StoreOps, control: &mut DeferredControl, position: usize) -> Vec<(Waiter, Done)> {
    control.release_at(position);
    let mut ends = Vec::new();
    while let Some((ticket, done)) = store_ops.store().poll_done(Waker::noop()) {
        ends.extend(store_ops.on_done(BEGIN, ticket, done));
    }
    ends
}

fn release_all(store_ops: &mut StoreOps, control: &mut DeferredControl) -> Vec<(Waiter, Done)> {
    let mut ends = Vec::new();
    while control.waiting() > 0 {
        ends.append(&mut release(store_ops, control, 0));
    }
    ends
}

/// All stored items.
fn kept(store_ops: &mut StoreOps, control: Option<&mut DeferredControl>) -> String {
    let mut done = store_ops.run(BEGIN, waiter(0), Op::Scan { what: Scan::All, after: None, limit: 1_000 });
    if let Some(control) = control {
        done = done.or(release_all(store_ops, control).pop().map(|(_, done)| done));
    }
    let Some(Ok(OpOutput::Items(items))) = done else { panic!("{done:?}") };
    let show = |item: &Item| match item {
        Item::Value(record) => format!("{record:?}\n"),
        Item::Provider(record) => format!("{} {} {:?}\n", record.key, record.own, record.announced),
    };
    items.iter().map(show).collect()
}

fn act(store_ops: &mut StoreOps, i: usize, pick: u32, local: &Arc<Contact>) {
    let now = BEGIN + Duration::from_secs(i as u64);
    let key = format!("/app/{}", pick % 2);
    let value = format!("value {}", pick / 2 % 3);
    let mut provided =
        ProviderRecord::new(RecordKey::from(&key[..]), Arc::clone(local), Timestamp::MAX, Timestamp::MAX);
    provided.own = true;
    let _ = match pick / 6 % 7 {
        0 => store_ops.put(now, waiter(i), own(&key, &value, now)),
        1 => store_ops.put(now, waiter(i), others(&key, &value, now)),
        2 => store_ops.run(now, waiter(i), Op::Remove(RecordKey::from(key))),
        3 => store_ops.run(now, waiter(i), Op::Touch(Item::Value(own(&key, &value, now)), now)),
        4 => store_ops.run(now, waiter(i), Op::AddProvider(Box::new(provided), None)),
        5 => store_ops.run(now, waiter(i), Op::RemoveProvider(provided.key, *local.peer())),
        _ => store_ops.run(now, waiter(i), Op::Touch(Item::Provider(provided), now)),
    };
}

/// A slow store ends with the same records as one that does everything at once, in whatever order it works.
#[test]
fn the_order_of_what_is_asked_for_holds_in_every_order_of_the_store() {
    let local = Contact::new(PeerId::random(), ["/memory/1".parse().unwrap()]);
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let mut different = std::collections::BTreeSet::new();
    for _ in 0..500 {
        let (mut quick, (mut slow, mut control)) = (at_once(), later());
        let mut ends = 0;
        let count = 12;
        for i in 0..count {
            let pick = rng.next_u32();
            act(&mut quick, i, pick, &local);
            act(&mut slow, i, pick, &local);
            for _ in 0..rng.next_u32() % 3 {
                let waiting = control.waiting().max(1);
                ends += release(&mut slow, &mut control, rng.next_u32() as usize % waiting).len();
            }
        }
        ends += release_all(&mut slow, &mut control).len();
        assert_eq!((ends, slow.jobs()), (count, 0), "everyone is told once");
        let expected = kept(&mut quick, None);
        assert_eq!(kept(&mut slow, Some(&mut control)), expected);
        different.insert(expected);
    }
    assert!(different.len() > 100, "{} ends", different.len());
}

/// The read began while the value was alive.
#[test]
fn a_value_that_expires_while_it_is_read_is_as_good_as_none() {
    let (mut store_ops, mut control) = later();
    let before = Timestamp::from_micros(BEGIN.as_micros() - 1);
    for (expires, found) in [(BEGIN, false), (BEGIN + Duration::from_micros(1), true)] {
        let mut record = Record::new("/a/b", "v", before);
        record.expires = Some(expires);
        assert!(store_ops.put(before, waiter(0), record).is_none());
        release_all(&mut store_ops, &mut control);
        assert!(store_ops.run(before, waiter(0), Op::Get(RecordKey::from("/a/b"))).is_none());
        let done = release_all(&mut store_ops, &mut control).pop();
        let Some((_, Ok(OpOutput::Value(value)))) = done else { panic!("{done:?}") };
        assert_eq!(value.is_some(), found, "{value:?}");
    }
}

/// Takes the number at the end of a value as its sequence number, and prefers the greatest bytes.
#[derive(Debug)]
struct Numbered;

impl Validator for Numbered {
    fn validate(&self, _: Timestamp, _: &RecordKey, value: &[u8]) -> Result<Valid, InvalidValue> {
        Ok(Valid::default().with_sequence(value.last().map_or(0, |last| u64::from(*last))))
    }

    fn select(&self, _: &RecordKey, values: &[Candidate<'_>]) -> usize {
        (0..values.len()).max_by_key(|i| values[*i].value.last()).unwrap_or(0)
    }
}

fn sender(n: u8, group: Option<u64>) -> Sender {
    let mut bytes = [0; 34];
    (bytes[0], bytes[1], bytes[2]) = (0x12, 0x20, n);
    let mut sender = Sender::new(PeerId::from_bytes(&bytes).unwrap());
    sender.group = group;
    sender
}

/// Lets a peer put a value. Returns which peers were refused for it at once.
fn put(store_ops: &mut StoreOps, i: usize, value: &str, sender: Sender) -> Vec<usize> {
    // No two come at the same time.
    let at = BEGIN + Duration::from_micros(i as u64);
    let record = store_ops.checked(at, others("/app/x", value, at)).unwrap();
    let done = store_ops.put_of_peer(BEGIN, waiter(i), record, sender);
    let refused = done.into_iter().map(|done| (waiter(i), done)).chain(store_ops.take_displaced());
    refused
        .map(|(whose, done)| {
            assert!(matches!(done, Err(StoreError::Busy)), "{done:?}");
            (0..=i).find(|i| waiter(*i) == whose).unwrap()
        })
        .collect()
}

#[test]
fn of_the_puts_of_one_key_the_newest_waits_and_the_others_are_refused_at_once() {
    let (store, mut control) = DeferredStore::new(memory());
    let config = RecordConfig { validator: Arc::new(Numbered), ..RecordConfig::default() };
    let mut store_ops = StoreOps::new(Box::new(store), config);
    assert!(put(&mut store_ops, 0, "a", sender(0, None)).is_empty(), "the first goes to the store");
    assert!(put(&mut store_ops, 1, "b", sender(1, None)).is_empty(), "the second waits");
    assert_eq!(put(&mut store_ops, 2, "b", sender(2, None)), [2], "one as new does not push it out");
    assert_eq!(put(&mut store_ops, 3, "a", sender(3, None)), [3], "nor does an older one");
    assert_eq!(put(&mut store_ops, 4, "c", sender(4, None)), [1], "a newer one does");
    assert_eq!((control.waiting(), store_ops.jobs()), (1, 2));
    // The node's own put goes to the store nevertheless.
    assert!(store_ops.put(BEGIN, waiter(5), own("/app/x", "d", BEGIN)).is_none());
    let ends = release_all(&mut store_ops, &mut control);
    let ends: Vec<_> = ends.iter().map(|(waiter, done)| (*waiter, done.is_ok())).collect();
    assert_eq!(ends, [(waiter(0), true), (waiter(5), true), (waiter(4), false)]);
    assert_eq!((store_ops.jobs(), store_ops.queued.len()), (0, 0), "nothing is left of it");
}

#[test]
fn where_no_number_decides_the_groups_take_turns() {
    let (mut store_ops, mut control) = later();
    assert!(put(&mut store_ops, 0, "a", sender(0, Some(1))).is_empty());
    assert!(put(&mut store_ops, 1, "b", sender(1, Some(1))).is_empty());
    assert_eq!(put(&mut store_ops, 2, "c", sender(2, Some(1))), [2], "who is in one group is one writer");
    assert_eq!(put(&mut store_ops, 3, "d", sender(3, Some(2))), [1], "who has not written goes first");
    assert_eq!(put(&mut store_ops, 4, "e", sender(4, Some(3))), [4], "of two such the one that was there first");
    release(&mut store_ops, &mut control, 0);
    for i in 5..70 {
        put(&mut store_ops, i, "f", sender(i as u8, Some(1)));
    }
    assert_eq!(put(&mut store_ops, 70, "g", sender(4, Some(3))).len(), 1, "a flood of one group keeps nobody waiting");
    let ends = release_all(&mut store_ops, &mut control);
    assert!(ends.iter().any(|(whose, _)| *whose == waiter(70)), "{ends:?}");
}
