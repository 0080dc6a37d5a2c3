//! The encoding of records: rows of bytes that begin with their version, and that are decoded without trust.
//!
//! Knows: the fields of records. Must not know: tables. A row that cannot be decoded is `None`, never a panic.

use std::sync::Arc;

use bytes::Bytes;
use libp2p_identity::PeerId;

use libp2p_kad_dht::core::Contact;
use libp2p_kad_dht::core::Timestamp;
use libp2p_kad_dht::core::store::eviction::{Account, Cost};
use libp2p_kad_dht::core::{ProviderRecord, Record, RecordKey};

const VERSION: u8 = 2;

const OWN: u8 = 1;
const EXPIRES: u8 = 2;
const ANNOUNCED: u8 = 4;
const SEQUENCE: u8 = 8;
const PUBLISHER: u8 = 16;
const CLAIMED: u8 = 32;
const PUT: u8 = 64;
const SUPERSEDED: u8 = 128;

const SEVERAL: u8 = 1;
const NEAR: u8 = 2;
const SETTLED: u8 = 4;
const FIRST: u8 = 8;

/// One provider of a key, as stored in the row of the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) own: bool,
    /// The eviction cost, whose bytes are not in the encoded row; meaningless for an own record.
    pub(super) cost: Cost,
    pub(super) expires: Timestamp,
    pub(super) addrs_expire: Timestamp,
    pub(super) announced: Option<Timestamp>,
    pub(super) peer: Vec<u8>,
    pub(super) addrs: Vec<Vec<u8>>,
}

/// A key with all its providers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Provided {
    pub(super) name: Vec<u8>,
    pub(super) entries: Vec<Entry>,
}

impl Entry {
    /// The entry of a record, with its first addresses that together take at most `allowed` bytes.
    pub(super) fn new(record: &ProviderRecord, allowed: usize, cost: Cost) -> Entry {
        let mut left = allowed;
        let affordable = record.provider.raw_addrs().take_while(|addr| {
            let cost = addr.len() + 2;
            let fits = cost <= left;
            left = left.saturating_sub(cost);
            fits
        });
        Entry {
            own: record.own,
            cost,
            expires: record.expires,
            addrs_expire: record.addrs_expire,
            announced: record.announced,
            peer: record.provider.peer().to_bytes(),
            addrs: affordable.map(|addr| addr.to_vec()).collect(),
        }
    }

    /// Its size in bytes, with a key of `key` bytes.
    pub(super) fn size(&self, key: usize) -> usize {
        let addrs: usize = self.addrs.iter().map(|addr| addr.len() + 2).sum();
        key + self.peer.len() + addrs
    }
}

impl Provided {
    /// The entries of other peers.
    pub(super) fn remote(&self) -> impl Iterator<Item = &Entry> + Clone {
        self.entries.iter().filter(|entry| !entry.own)
    }

    /// The earliest expiry of its entries; `None` if none expires.
    pub(super) fn first(&self) -> Option<Timestamp> {
        self.entries.iter().map(|entry| entry.expires).min().filter(|at| *at < Timestamp::MAX)
    }

    /// The index of this peer's entry.
    pub(super) fn position(&self, peer: &[u8]) -> Option<usize> {
        self.entries.iter().position(|entry| entry.peer == peer)
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut row = vec![VERSION];
        put_short(&mut row, &self.name);
        for entry in &self.entries {
            let flags = flag(OWN, entry.own) | flag(ANNOUNCED, entry.announced.is_some());
            row.push(flags);
            if !entry.own {
                put_cost(&mut row, &entry.cost);
            }
            put_time(&mut row, entry.expires);
            put_time(&mut row, entry.addrs_expire);
            entry.announced.into_iter().for_each(|at| put_time(&mut row, at));
            put_short(&mut row, &entry.peer);
            row.push(u8::try_from(entry.addrs.len()).unwrap_or(u8::MAX));
            entry.addrs.iter().take(u8::MAX.into()).for_each(|addr| put_short(&mut row, addr));
        }
        row
    }

    pub(super) fn decode(row: &[u8]) -> Option<Provided> {
        let mut from = Reader(row);
        if from.byte()? != VERSION {
            return None;
        }
        let name = from.short()?.to_vec();
        let mut entries = Vec::new();
        while !from.0.is_empty() {
            let flags = from.byte()?;
            let own = flags & OWN != 0;
            let cost = if own { NO_COST } else { from.cost()? };
            let (expires, addrs_expire) = (from.time()?, from.time()?);
            let announced = if flags & ANNOUNCED != 0 { Some(from.time()?) } else { None };
            let peer = from.short()?.to_vec();
            let addrs = (0..from.byte()?).map(|_| from.short().map(<[u8]>::to_vec)).collect::<Option<_>>()?;
            let mut entry = Entry { own, cost, expires, addrs_expire, announced, peer, addrs };
            if !own {
                entry.cost.bytes = narrow(entry.size(name.len()));
            }
            entries.push(entry);
        }
        Some(Provided { name, entries })
    }

    /// The records; entries whose peer id is invalid are left out.
    pub(super) fn records(&self) -> impl Iterator<Item = ProviderRecord> + '_ {
        let key = RecordKey::from(self.name.as_slice());
        self.entries.iter().filter_map(move |entry| {
            let peer = PeerId::from_bytes(&entry.peer).ok()?;
            let contact = Contact::from_raw(peer, entry.addrs.iter().map(Vec::as_slice));
            let mut record = ProviderRecord::new(key.clone(), contact, entry.expires, entry.addrs_expire);
            (record.own, record.announced) = (entry.own, entry.announced);
            Some(record)
        })
    }
}

/// Encodes a value, with its eviction cost unless the value is own.
pub(super) fn encode_value(record: &Record, cost: &Cost) -> Vec<u8> {
    let mut row = Vec::with_capacity(128 + record.key.as_bytes().len() + record.value.len());
    row.push(VERSION);
    row.push(
        flag(OWN, record.own)
            | flag(EXPIRES, record.expires.is_some())
            | flag(ANNOUNCED, record.announced.is_some())
            | flag(SEQUENCE, record.sequence.is_some())
            | flag(PUBLISHER, record.publisher.is_some())
            | flag(CLAIMED, record.claimed)
            | flag(PUT, record.put.is_some())
            | flag(SUPERSEDED, record.superseded),
    );
    if !record.own {
        put_cost(&mut row, cost);
    }
    put_time(&mut row, record.received);
    record.expires.into_iter().for_each(|at| put_time(&mut row, at));
    record.announced.into_iter().for_each(|at| put_time(&mut row, at));
    record.put.into_iter().for_each(|at| put_time(&mut row, at));
    record.sequence.into_iter().for_each(|number| row.extend(number.to_be_bytes()));
    record.publisher.iter().for_each(|peer| put_short(&mut row, &peer.to_bytes()));
    put_short(&mut row, record.key.as_bytes());
    row.extend(&record.value[..]);
    row
}

pub(super) fn decode_value(row: &[u8]) -> Option<(Record, Cost)> {
    let mut from = Reader(row);
    if from.byte()? != VERSION {
        return None;
    }
    let flags = from.byte()?;
    let mut cost = if flags & OWN != 0 { NO_COST } else { from.cost()? };
    let received = from.time()?;
    let expires = if flags & EXPIRES != 0 { Some(from.time()?) } else { None };
    let announced = if flags & ANNOUNCED != 0 { Some(from.time()?) } else { None };
    let put = if flags & PUT != 0 { Some(from.time()?) } else { None };
    let sequence = if flags & SEQUENCE != 0 { Some(from.number()?) } else { None };
    let publisher = if flags & PUBLISHER != 0 { Some(PeerId::from_bytes(from.short()?).ok()?) } else { None };
    let key = RecordKey::from(from.short()?);
    let mut record = Record::new(key, Bytes::copy_from_slice(from.0), received);
    (record.expires, record.announced) = (expires, announced);
    (record.sequence, record.publisher) = (sequence, publisher);
    (record.own, record.claimed) = (flags & OWN != 0, flags & CLAIMED != 0);
    (record.put, record.superseded) = (put, flags & SUPERSEDED != 0);
    cost.bytes = value_size(&record);
    Some((record, cost))
}

pub(super) fn encode_peers(peers: &[Arc<Contact>]) -> Vec<u8> {
    let mut row = vec![VERSION];
    for contact in peers {
        put_short(&mut row, &contact.peer().to_bytes());
        let addrs = contact.raw_addrs();
        row.push(u8::try_from(addrs.clone().count()).unwrap_or(u8::MAX));
        addrs.take(u8::MAX.into()).for_each(|addr| put_short(&mut row, addr));
    }
    row
}

pub(super) fn decode_peers(row: &[u8]) -> Option<Vec<Arc<Contact>>> {
    let mut from = Reader(row);
    if from.byte()? != VERSION {
        return None;
    }
    let mut peers = Vec::new();
    while !from.0.is_empty() {
        let peer = PeerId::from_bytes(from.short()?).ok()?;
        let addrs: Vec<&[u8]> = (0..from.byte()?).map(|_| from.short()).collect::<Option<_>>()?;
        peers.push(Contact::from_raw(peer, addrs));
    }
    Some(peers)
}

/// The size of a value in the eviction rule: the bytes of its key and content.
pub(super) fn value_size(record: &Record) -> u32 {
    narrow(record.key.as_bytes().len() + record.value.len())
}

pub(super) fn narrow(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Placeholder for records that cost nothing: this node's own.
pub(super) const NO_COST: Cost = Cost::new(Account::from_bits(0), 0, Timestamp::ZERO, false);

fn put_cost(row: &mut Vec<u8>, cost: &Cost) {
    let other = cost.first != cost.account;
    let flags = flag(SEVERAL, cost.several) | flag(NEAR, cost.near) | flag(SETTLED, cost.settled);
    row.push(flags | flag(FIRST, other));
    row.extend(cost.account.to_bits().to_be_bytes());
    put_time(row, cost.since);
    if other {
        row.extend(cost.first.to_bits().to_be_bytes());
    }
}

fn flag(bit: u8, set: bool) -> u8 {
    if set { bit } else { 0 }
}

fn put_time(row: &mut Vec<u8>, at: Timestamp) {
    row.extend(at.as_micros().to_be_bytes());
}

/// Appends up to 64 KiB, preceded by their length. Keys, ids and addresses are shorter by their own bounds.
fn put_short(row: &mut Vec<u8>, bytes: &[u8]) {
    let len = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    row.extend(len.to_be_bytes());
    row.extend(&bytes[..usize::from(len)]);
}

/// The rest of a row that is being decoded.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn number(&mut self) -> Option<u64> {
        Some(u64::from_be_bytes(self.take(8)?.try_into().ok()?))
    }

    /// Decodes a cost, with zero bytes.
    fn cost(&mut self) -> Option<Cost> {
        let flags = self.byte()?;
        let account = Account::from_bits(self.number()?);
        let mut cost = Cost::new(account, 0, self.time()?, flags & NEAR != 0);
        if flags & FIRST != 0 {
            cost.first = Account::from_bits(self.number()?);
        }
        (cost.several, cost.settled) = (flags & SEVERAL != 0, flags & SETTLED != 0);
        Some(cost)
    }

    fn time(&mut self) -> Option<Timestamp> {
        self.number().map(Timestamp::from_micros)
    }

    fn short(&mut self) -> Option<&'a [u8]> {
        let len = u16::from_be_bytes(self.take(2)?.try_into().ok()?);
        self.take(len.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value() -> Record {
        let mut record = Record::new("/a/b", "value", Timestamp::from_secs(5));
        (record.expires, record.announced) = (Some(Timestamp::from_secs(9)), Some(Timestamp::MAX));
        record.claimed = true;
        (record.sequence, record.publisher, record.own) = (Some(7), Some(PeerId::random()), true);
        record
    }

    fn cost() -> Cost {
        let mut cost = Cost::new(Account::from_bits(77), 0, Timestamp::from_secs(8), true);
        (cost.first, cost.several, cost.settled) = (Account::from_bits(78), true, true);
        cost
    }

    fn provided() -> Provided {
        let contact = Contact::new(PeerId::random(), ["/ip4/127.0.0.1/tcp/1".parse().unwrap()]);
        let mut record =
            ProviderRecord::new("content".into(), contact, Timestamp::from_secs(3), Timestamp::from_secs(2));
        let mut first = Entry::new(&record, usize::MAX, cost());
        first.cost.bytes = narrow(first.size("content".len()));
        (record.own, record.announced) = (true, Some(Timestamp::from_secs(1)));
        Provided { name: b"content".to_vec(), entries: vec![first, Entry::new(&record, 3, NO_COST)] }
    }

    #[test]
    fn rows_are_read_as_they_were_written() {
        let mut remote = value();
        remote.own = false;
        for (record, cost) in [(value(), NO_COST), (remote, cost()), (Record::new("", "", Timestamp::ZERO), cost())] {
            let bytes = value_size(&record);
            let row = encode_value(&record, &cost);
            assert_eq!(decode_value(&row), Some((record, Cost { bytes, ..cost })));
        }
        let row = provided();
        assert_eq!(Provided::decode(&row.encode()), Some(row.clone()));
        assert_eq!(row.entries.iter().map(|entry| entry.addrs.len()).collect::<Vec<_>>(), [1, 0], "3 bytes buy none");
        let peers: Vec<_> = row.records().map(|record| record.provider).collect();
        assert_eq!(decode_peers(&encode_peers(&peers)), Some(peers));
    }

    /// A row that is cut anywhere, or that has any one byte changed, is decoded or refused, and never causes a panic.
    #[test]
    fn broken_rows_are_refused() {
        let rows = [
            encode_value(&value(), &NO_COST),
            provided().encode(),
            encode_peers(&[Contact::new(PeerId::random(), [])]),
        ];
        for row in rows {
            for at in 0..row.len() {
                let cut = &row[..at];
                let _ = (decode_value(cut), Provided::decode(cut), decode_peers(cut));
                for bit in 0..8 {
                    let mut changed = row.clone();
                    changed[at] ^= 1 << bit;
                    let _ = (decode_value(&changed), Provided::decode(&changed), decode_peers(&changed));
                }
            }
            assert_eq!(decode_value(&[&[VERSION + 1], &row[1..]].concat()), None, "a later version is not guessed at");
        }
    }
}
