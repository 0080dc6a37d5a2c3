//! The records that the checks write, and ways to compare them with the records read.
//!
//! Knows: made-up peers and records, the same in every run. Must not know: which check uses them.
#![expect(clippy::panic, reason = "a test kit: a broken contract is reported by a panic that names it")]

use std::fmt::Debug;
use std::sync::Arc;

use libp2p_identity::PeerId;
use multiaddr::{Multiaddr, Protocol};

use super::Driven;
use crate::core::Contact;
use crate::core::Key;
use crate::core::Timestamp;
use crate::core::store::{Item, Scan, StoreError};
use crate::core::{ProviderRecord, Record, RecordKey};

/// When the checks begin.
pub(super) const NOW: Timestamp = Timestamp::from_secs(1_000);

/// A peer that is the same in every run.
pub(super) fn peer(n: u64) -> PeerId {
    let mut bytes = vec![0x00, 12, 0x08, 0x01, 0x12, 8];
    bytes.extend(n.to_be_bytes());
    PeerId::from_bytes(&bytes).unwrap_or_else(|error| panic!("a made-up peer id: {error}"))
}

pub(super) fn value(key: &str, value: &[u8], own: bool) -> Record {
    let mut record = Record::new(key, value.to_vec(), NOW);
    record.own = own;
    record
}

/// A record of peer `n`, whose only address is the same in every record.
pub(super) fn provider(key: impl AsRef<[u8]>, n: u64, expires: Timestamp, own: bool) -> ProviderRecord {
    let addr = Multiaddr::empty()
        .with(Protocol::Ip4(std::net::Ipv4Addr::new(10, 0, (n >> 8) as u8, n as u8)))
        .with(Protocol::Tcp(4001));
    let contact: Arc<Contact> = Contact::new(peer(n), [addr]);
    let mut record = ProviderRecord::new(RecordKey::from(key.as_ref()), contact, expires, Timestamp::MAX);
    record.own = own;
    record
}

pub(super) fn ok<T, E: Debug>(result: Result<T, E>, sentence: &str) -> T {
    result.unwrap_or_else(|error| panic!("{sentence}, but the store says {error:?}"))
}

/// Whether a remote write was refused for lack of room; any other error breaks the contract.
pub(super) fn refused(result: Result<(), StoreError>) -> bool {
    match result {
        Ok(()) => false,
        Err(StoreError::Full) => true,
        Err(error) => panic!("a flood ends with `Full`, not with {error:?}"),
    }
}

pub(super) fn present(store: &mut Driven<'_>, now: Timestamp, record: &Record) {
    let found = ok(store.get(now, &record.key), "a value can be read");
    assert!(found.as_ref() == Some(record), "what was kept is read back: {} at {now}", record.key);
}

pub(super) fn absent(store: &mut Driven<'_>, now: Timestamp, key: &str) {
    let found = ok(store.get(now, &RecordKey::from(key)), "a value can be read");
    assert_eq!(found, None, "what is missing, removed or expired is not returned: {key} at {now}");
}

pub(super) fn same_provider(found: &ProviderRecord, wanted: &ProviderRecord) {
    assert_eq!(found.key, wanted.key, "a provider record keeps its key");
    assert_eq!(found.provider, wanted.provider, "a provider record keeps its provider and its address");
    assert_eq!(found.expires, wanted.expires, "a provider record keeps its expiry");
    assert_eq!(found.addrs_expire, wanted.addrs_expire, "a provider record keeps the expiry of its addresses");
    assert_eq!(found.own, wanted.own, "a provider record stays own or remote");
    assert_eq!(found.announced, wanted.announced, "a provider record keeps when it was announced");
}

pub(super) fn provider_ids(store: &mut Driven<'_>, now: Timestamp, key: impl AsRef<[u8]>) -> Vec<PeerId> {
    let found = ok(store.providers(now, &RecordKey::from(key.as_ref())), "providers can be read");
    found.iter().map(|record| *record.provider.peer()).collect()
}

pub(super) fn kind(item: &Item) -> u64 {
    match item {
        Item::Value(_) => 0,
        Item::Provider(_) => 1,
    }
}

pub(super) fn all(store: &mut Driven<'_>) -> Vec<Item> {
    ok(store.scan(Scan::All, None, usize::MAX), "a scan finds everything")
}

/// All items on pages of `limit`, and the length of each page.
pub(super) fn pages(store: &mut Driven<'_>, what: Scan, limit: usize) -> (Vec<Item>, Vec<usize>) {
    let (mut found, mut lens) = (Vec::new(), Vec::new());
    let mut after: Option<Key> = None;
    loop {
        let page = ok(store.scan(what, after.as_ref(), limit), "a scan goes on");
        after = page.last().map(|item| item.key().key());
        lens.push(page.len());
        let last = page.len() < limit;
        found.extend(page);
        assert!(lens.len() < 1_000, "a scan comes to an end");
        if last {
            return (found, lens);
        }
    }
}

/// An item as text with all its fields, to compare the stored record with the one written.
pub(super) fn whole(item: &Item) -> String {
    format!("{item:?}")
}

/// All stored items, as text.
pub(super) fn everything(store: &mut Driven<'_>) -> Vec<String> {
    let mut rows: Vec<_> = all(store).iter().map(whole).collect();
    rows.sort();
    rows
}
