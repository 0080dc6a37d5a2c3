//! The tables of the database, and what is counted about them.
//!
//! Knows: keys and the fixed-size rows. Must not know: what is in the rows of records, or who changes them.

use redb::{ReadableTable, StorageError, Table, TableDefinition, TableError, WriteTransaction};

use libp2p_kad_dht::core::Key;
use libp2p_kad_dht::core::Timestamp;
use libp2p_kad_dht::core::store::Usage;

/// The format that this version reads and writes. The first two had no checksums; nobody was given a version that wrote
/// them.
pub(super) const FORMAT: u64 = 3;

pub(super) type Place = [u8; 32];

/// `made_by`, `seed`, `counts`, `peers`.
pub(super) const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("kad-meta");
/// Place of a value: its row.
pub(super) const VALUES: TableDefinition<'_, Place, &[u8]> = TableDefinition::new("kad-values");
/// Place of a key that is provided: the row of all its providers.
pub(super) const PROVIDED: TableDefinition<'_, Place, &[u8]> = TableDefinition::new("kad-provided");
/// When something is over, which table, place.
pub(super) const EXPIRY: TableDefinition<'_, [u8; 41], ()> = TableDefinition::new("kad-expiry");
/// Place and table of what this node published.
pub(super) const OWN: TableDefinition<'_, [u8; 33], ()> = TableDefinition::new("kad-own");
/// Place of a value that is over: its sequence number, and until when to remember it.
pub(super) const SEQUENCES: TableDefinition<'_, Place, (u64, u64)> = TableDefinition::new("kad-sequences");
/// Until when to remember, place.
pub(super) const SEQUENCE_ORDER: TableDefinition<'_, [u8; 40], ()> = TableDefinition::new("kad-sequence-order");

/// Lot and place of each remote value: the last is the first to give way.
pub(super) const VALUE_LOTS: TableDefinition<'_, [u8; 40], ()> = TableDefinition::new("kad-value-lots");
/// How many remote providers a key has, its lot, its place: the last is the first to lose one.
pub(super) const SIZES: TableDefinition<'_, [u8; 40], ()> = TableDefinition::new("kad-sizes");
/// How many bytes the addresses of a key's remote providers take, its lot, its place: the last is the first to lose some.
pub(super) const ADDR_SIZES: TableDefinition<'_, [u8; 40], ()> = TableDefinition::new("kad-addr-sizes");
/// Tag of a peer: how many keys are charged to it, if any are.
pub(super) const CHARGES: TableDefinition<'_, Tag, u32> = TableDefinition::new("kad-charges");
/// How many keys are charged to a peer, and its tag, which begins with its lot: the last is the first to lose one.
pub(super) const CHARGE_ORDER: TableDefinition<'_, [u8; 20], ()> = TableDefinition::new("kad-charge-order");
/// Tag of a peer, and the place of a key that is charged to it.
pub(super) const CHARGED_KEYS: TableDefinition<'_, [u8; 48], ()> = TableDefinition::new("kad-charged-keys");
/// Table and place of a row that could not be read, and the row.
pub(super) const DAMAGED: TableDefinition<'_, [u8; 33], &[u8]> = TableDefinition::new("kad-damaged");

/// Stands for a peer under the store's seed.
pub(super) type Tag = [u8; 16];

/// In which table of records something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Value,
    Provided,
}

impl Kind {
    fn byte(self) -> u8 {
        match self {
            Kind::Value => 0,
            Kind::Provided => 1,
        }
    }

    fn of(byte: u8) -> Kind {
        if byte == 0 { Kind::Value } else { Kind::Provided }
    }
}

pub(super) fn expiry_key(at: Timestamp, kind: Kind, place: &Place) -> [u8; 41] {
    let mut key = [0; 41];
    key[..8].copy_from_slice(&at.as_micros().to_be_bytes());
    key[8] = kind.byte();
    key[9..].copy_from_slice(place);
    key
}

pub(super) fn expiry_of(key: &[u8; 41]) -> (Timestamp, Kind, Place) {
    let (at, rest) = key.split_at(8);
    let mut place = [0; 32];
    place.copy_from_slice(&rest[1..]);
    (micros(at), Kind::of(rest[0]), place)
}

pub(super) fn own_key(place: &Place, kind: Kind) -> [u8; 33] {
    let mut key = [0; 33];
    key[..32].copy_from_slice(place);
    key[32] = kind.byte();
    key
}

pub(super) fn own_of(key: &[u8; 33]) -> (Place, Kind) {
    let mut place = [0; 32];
    place.copy_from_slice(&key[..32]);
    (place, Kind::of(key[32]))
}

/// A place in the order of a number: a time, or a lot.
pub(super) fn order_key(number: u64, place: &Place) -> [u8; 40] {
    let mut key = [0; 40];
    key[..8].copy_from_slice(&number.to_be_bytes());
    key[8..].copy_from_slice(place);
    key
}

pub(super) fn order_of(key: &[u8; 40]) -> (u64, Place) {
    let mut place = [0; 32];
    place.copy_from_slice(&key[8..]);
    (number(&key[..8]), place)
}

pub(super) fn size_key(count: u32, lot: u32, place: &Place) -> [u8; 40] {
    order_key((u64::from(count) << 32) | u64::from(lot), place)
}

pub(super) fn charge_key(count: u32, tag: &Tag) -> [u8; 20] {
    let mut key = [0; 20];
    key[..4].copy_from_slice(&count.to_be_bytes());
    key[4..].copy_from_slice(tag);
    key
}

pub(super) fn charge_of(key: &[u8; 20]) -> (u32, Tag) {
    let mut tag = [0; 16];
    tag.copy_from_slice(&key[4..]);
    (key[..4].iter().fold(0, |sum, byte| (sum << 8) | u32::from(*byte)), tag)
}

pub(super) fn charged_key(tag: &Tag, place: &Place) -> [u8; 48] {
    let mut key = [0; 48];
    key[..16].copy_from_slice(tag);
    key[16..].copy_from_slice(place);
    key
}

pub(super) fn charged_of(key: &[u8; 48]) -> Place {
    let mut place = [0; 32];
    place.copy_from_slice(&key[16..]);
    place
}

pub(super) fn place_of(key: &Key) -> Place {
    key.to_bytes()
}

fn micros(bytes: &[u8]) -> Timestamp {
    Timestamp::from_micros(number(bytes))
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |sum, byte| (sum << 8) | u64::from(*byte))
}

/// What is counted, kept in the database so that no start needs to count it anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Remote values, and their bytes with those of their keys.
    pub(super) values: u64,
    pub(super) value_bytes: u64,
    /// Keys with remote providers, remote provider records, and what their addresses take.
    pub(super) provided_keys: u64,
    pub(super) providers: u64,
    pub(super) addr_bytes: u64,
    /// Own values and own provider records.
    pub(super) own: u64,
    pub(super) sequences: u64,
}

impl Counts {
    const FIELDS: usize = 7;

    pub(super) fn encode(&self) -> Vec<u8> {
        let fields = [
            self.values,
            self.value_bytes,
            self.provided_keys,
            self.providers,
            self.addr_bytes,
            self.own,
            self.sequences,
        ];
        fields.iter().flat_map(|field| field.to_be_bytes()).collect()
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Counts> {
        if bytes.len() != Counts::FIELDS * 8 {
            return None;
        }
        let mut fields = bytes.chunks_exact(8).map(number);
        Some(Counts {
            values: fields.next()?,
            value_bytes: fields.next()?,
            provided_keys: fields.next()?,
            providers: fields.next()?,
            addr_bytes: fields.next()?,
            own: fields.next()?,
            sequences: fields.next()?,
        })
    }

    pub(super) fn usage(&self) -> Usage {
        let count = |number| usize::try_from(number).unwrap_or(usize::MAX);
        let mut usage = Usage::default();
        (usage.values, usage.providers, usage.own) = (count(self.values), count(self.providers), count(self.own));
        usage
    }
}

/// All tables of one transaction that writes.
pub(super) struct Writable<'t> {
    pub(super) meta: Table<'t, &'static str, &'static [u8]>,
    pub(super) values: Table<'t, Place, &'static [u8]>,
    pub(super) provided: Table<'t, Place, &'static [u8]>,
    pub(super) expiry: Table<'t, [u8; 41], ()>,
    pub(super) own: Table<'t, [u8; 33], ()>,
    pub(super) sequences: Table<'t, Place, (u64, u64)>,
    pub(super) sequence_order: Table<'t, [u8; 40], ()>,
    pub(super) value_lots: Table<'t, [u8; 40], ()>,
    pub(super) sizes: Table<'t, [u8; 40], ()>,
    pub(super) addr_sizes: Table<'t, [u8; 40], ()>,
    pub(super) charges: Table<'t, Tag, u32>,
    pub(super) charge_order: Table<'t, [u8; 20], ()>,
    pub(super) charged_keys: Table<'t, [u8; 48], ()>,
    pub(super) damaged: Table<'t, [u8; 33], &'static [u8]>,
}

impl<'t> Writable<'t> {
    /// Opens them; those that are missing are made.
    pub(super) fn open(transaction: &'t WriteTransaction) -> Result<Writable<'t>, TableError> {
        Ok(Writable {
            meta: transaction.open_table(META)?,
            values: transaction.open_table(VALUES)?,
            provided: transaction.open_table(PROVIDED)?,
            expiry: transaction.open_table(EXPIRY)?,
            own: transaction.open_table(OWN)?,
            sequences: transaction.open_table(SEQUENCES)?,
            sequence_order: transaction.open_table(SEQUENCE_ORDER)?,
            value_lots: transaction.open_table(VALUE_LOTS)?,
            sizes: transaction.open_table(SIZES)?,
            addr_sizes: transaction.open_table(ADDR_SIZES)?,
            charges: transaction.open_table(CHARGES)?,
            charge_order: transaction.open_table(CHARGE_ORDER)?,
            charged_keys: transaction.open_table(CHARGED_KEYS)?,
            damaged: transaction.open_table(DAMAGED)?,
        })
    }
}

/// When the first item is over.
pub(super) fn first_expiry(expiry: &impl ReadableTable<[u8; 41], ()>) -> Result<Option<Timestamp>, StorageError> {
    Ok(expiry.first()?.map(|(key, _)| expiry_of(&key.value()).0))
}
