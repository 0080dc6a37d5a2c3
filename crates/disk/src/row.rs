//! How records are written: rows of bytes that begin with their version, and are read without trust.
//!
//! Knows: the fields of records. Must not know: tables. What cannot be read is `None`, never a panic.

use std::sync::Arc;

use bytes::Bytes;
use libp2p_identity::PeerId;

use libp2p_kad_dht::core::Contact;
use libp2p_kad_dht::core::Timestamp;
use libp2p_kad_dht::core::{ProviderRecord, Record, RecordKey};

const VERSION: u8 = 1;

const OWN: u8 = 1;
const EXPIRES: u8 = 2;
const ANNOUNCED: u8 = 4;
const SEQUENCE: u8 = 8;
const PUBLISHER: u8 = 16;
const CLAIMED: u8 = 32;

/// One provider of a key, as its row has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) own: bool,
    pub(super) expires: Timestamp,
    pub(super) addrs_expire: Timestamp,
    pub(super) announced: Option<Timestamp>,
    pub(super) peer: Vec<u8>,
    pub(super) addrs: Vec<Vec<u8>>,
}

/// A key with all its providers. It is charged to the first remote one of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Provided {
    pub(super) name: Vec<u8>,
    pub(super) entries: Vec<Entry>,
}

impl Entry {
    /// The entry of a record, with as many addresses as `allowed` bytes pay for.
    pub(super) fn new(record: &ProviderRecord, allowed: usize) -> Entry {
        let mut left = allowed;
        let affordable = record.provider.raw_addrs().iter().take_while(|addr| {
            let cost = addr.len() + 2;
            let fits = cost <= left;
            left = left.saturating_sub(cost);
            fits
        });
        Entry {
            own: record.own,
            expires: record.expires,
            addrs_expire: record.addrs_expire,
            announced: record.announced,
            peer: record.provider.peer().to_bytes(),
            addrs: affordable.map(|addr| addr.to_vec()).collect(),
        }
    }

    /// What the addresses take.
    pub(super) fn addr_bytes(&self) -> usize {
        self.addrs.iter().map(|addr| addr.len() + 2).sum()
    }
}

impl Provided {
    /// How many of them are other peers.
    pub(super) fn remote(&self) -> u64 {
        u64::try_from(self.entries.iter().filter(|entry| !entry.own).count()).unwrap_or(u64::MAX)
    }

    /// When the first of them is over.
    pub(super) fn first(&self) -> Option<Timestamp> {
        self.entries.iter().map(|entry| entry.expires).min()
    }

    /// What the addresses of the remote ones take.
    pub(super) fn addr_bytes(&self) -> u64 {
        let remote = self.entries.iter().filter(|entry| !entry.own);
        u64::try_from(remote.map(Entry::addr_bytes).sum::<usize>()).unwrap_or(u64::MAX)
    }

    /// Where this peer is.
    pub(super) fn position(&self, peer: &[u8]) -> Option<usize> {
        self.entries.iter().position(|entry| entry.peer == peer)
    }

    /// To whom the key is charged.
    pub(super) fn charged(&self) -> Option<&Entry> {
        self.entries.iter().find(|entry| !entry.own)
    }

    /// Charges the key to this remote entry.
    pub(super) fn charge(&mut self, at: usize) {
        if let Some(first) = self.entries.iter().position(|entry| !entry.own) {
            self.entries.swap(first, at);
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut row = vec![VERSION];
        put_short(&mut row, &self.name);
        for entry in &self.entries {
            let flags = flag(OWN, entry.own) | flag(ANNOUNCED, entry.announced.is_some());
            row.push(flags);
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
            let (expires, addrs_expire) = (from.time()?, from.time()?);
            let announced = if flags & ANNOUNCED != 0 { Some(from.time()?) } else { None };
            let peer = from.short()?.to_vec();
            let addrs = (0..from.byte()?).map(|_| from.short().map(<[u8]>::to_vec)).collect::<Option<_>>()?;
            entries.push(Entry { own: flags & OWN != 0, expires, addrs_expire, announced, peer, addrs });
        }
        Some(Provided { name, entries })
    }

    /// The records; entries whose peer id is none are left out.
    pub(super) fn records(&self) -> impl Iterator<Item = ProviderRecord> + '_ {
        let key = RecordKey::from(self.name.as_slice());
        self.entries.iter().filter_map(move |entry| {
            let peer = PeerId::from_bytes(&entry.peer).ok()?;
            let contact = Contact::from_raw(peer, entry.addrs.iter().map(|addr| Bytes::copy_from_slice(addr)));
            let mut record = ProviderRecord::new(key.clone(), contact, entry.expires, entry.addrs_expire);
            (record.own, record.announced) = (entry.own, entry.announced);
            Some(record)
        })
    }
}

pub(super) fn encode_value(record: &Record) -> Vec<u8> {
    let mut row = Vec::with_capacity(128 + record.key.as_bytes().len() + record.value.len());
    row.push(VERSION);
    row.push(
        flag(OWN, record.own)
            | flag(EXPIRES, record.expires.is_some())
            | flag(ANNOUNCED, record.announced.is_some())
            | flag(SEQUENCE, record.sequence.is_some())
            | flag(PUBLISHER, record.publisher.is_some())
            | flag(CLAIMED, record.claimed),
    );
    put_time(&mut row, record.received);
    record.expires.into_iter().for_each(|at| put_time(&mut row, at));
    record.announced.into_iter().for_each(|at| put_time(&mut row, at));
    record.sequence.into_iter().for_each(|number| row.extend(number.to_be_bytes()));
    record.publisher.iter().for_each(|peer| put_short(&mut row, &peer.to_bytes()));
    put_short(&mut row, record.key.as_bytes());
    row.extend(&record.value[..]);
    row
}

pub(super) fn decode_value(row: &[u8]) -> Option<Record> {
    let mut from = Reader(row);
    if from.byte()? != VERSION {
        return None;
    }
    let flags = from.byte()?;
    let received = from.time()?;
    let expires = if flags & EXPIRES != 0 { Some(from.time()?) } else { None };
    let announced = if flags & ANNOUNCED != 0 { Some(from.time()?) } else { None };
    let sequence = if flags & SEQUENCE != 0 { Some(from.number()?) } else { None };
    let publisher = if flags & PUBLISHER != 0 { Some(PeerId::from_bytes(from.short()?).ok()?) } else { None };
    let key = RecordKey::from(from.short()?);
    let mut record = Record::new(key, Bytes::copy_from_slice(from.0), received);
    (record.expires, record.announced) = (expires, announced);
    (record.sequence, record.publisher) = (sequence, publisher);
    (record.own, record.claimed) = (flags & OWN != 0, flags & CLAIMED != 0);
    Some(record)
}

pub(super) fn encode_peers(peers: &[Arc<Contact>]) -> Vec<u8> {
    let mut row = vec![VERSION];
    for contact in peers {
        put_short(&mut row, &contact.peer().to_bytes());
        let addrs = contact.raw_addrs();
        row.push(u8::try_from(addrs.len()).unwrap_or(u8::MAX));
        addrs.iter().take(u8::MAX.into()).for_each(|addr| put_short(&mut row, addr));
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
        let addrs: Vec<_> =
            (0..from.byte()?).map(|_| from.short().map(Bytes::copy_from_slice)).collect::<Option<_>>()?;
        peers.push(Contact::from_raw(peer, addrs));
    }
    Some(peers)
}

fn flag(bit: u8, set: bool) -> u8 {
    if set { bit } else { 0 }
}

fn put_time(row: &mut Vec<u8>, at: Timestamp) {
    row.extend(at.as_micros().to_be_bytes());
}

/// Up to 64 KiB, its length before it. Keys, ids and addresses are shorter by their own bounds.
fn put_short(row: &mut Vec<u8>, bytes: &[u8]) {
    let len = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    row.extend(len.to_be_bytes());
    row.extend(&bytes[..usize::from(len)]);
}

/// What is left of a row.
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

    fn provided() -> Provided {
        let contact = Contact::new(PeerId::random(), ["/ip4/127.0.0.1/tcp/1".parse().unwrap()]);
        let mut record =
            ProviderRecord::new("content".into(), contact, Timestamp::from_secs(3), Timestamp::from_secs(2));
        let first = Entry::new(&record, usize::MAX);
        (record.own, record.announced) = (true, Some(Timestamp::from_secs(1)));
        Provided { name: b"content".to_vec(), entries: vec![first, Entry::new(&record, 3)] }
    }

    #[test]
    fn rows_are_read_as_they_were_written() {
        for record in [value(), Record::new("", "", Timestamp::ZERO)] {
            assert_eq!(decode_value(&encode_value(&record)), Some(record));
        }
        let row = provided();
        assert_eq!(Provided::decode(&row.encode()), Some(row.clone()));
        assert_eq!(row.entries.iter().map(|entry| entry.addrs.len()).collect::<Vec<_>>(), [1, 0], "3 bytes buy none");
        let peers: Vec<_> = row.records().map(|record| record.provider).collect();
        assert_eq!(decode_peers(&encode_peers(&peers)), Some(peers));
    }

    /// Every way to cut a row, and every byte of it changed: read or refused, never a panic.
    #[test]
    fn broken_rows_are_refused() {
        let rows = [encode_value(&value()), provided().encode(), encode_peers(&[Contact::new(PeerId::random(), [])])];
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
