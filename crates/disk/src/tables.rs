//! The tables of the database, and the counts of their rows.
//!
//! Knows: keys and the fixed-size rows. Must not know: the content of record rows, or which operation changes them.
//!
//! All providers of a key share one row, and the expiry index has one entry per key, for its earliest expiry: a read is
//! one look-up. The counts are a row that the same transaction writes, so a crash cannot make them wrong, and a start
//! need not count. A row that cannot be read is moved to a table of its own and reported once; then everything is
//! counted again.

use redb::{ReadableTable, StorageError, Table, TableDefinition, TableError, WriteTransaction};

use libp2p_kad_dht::core::Key;
use libp2p_kad_dht::core::Timestamp;
use libp2p_kad_dht::core::store::Usage;
use libp2p_kad_dht::core::store::eviction::{Account, Size};

/// The format that this version reads and writes. The first two had no checksums, and only unreleased versions wrote
/// them.
pub(super) const FORMAT: u64 = 3;

pub(super) type Place = [u8; 32];

/// `made_by`, `seed`, `counts`, `peers`.
pub(super) const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("kad-meta");
/// Place of a value: its row.
pub(super) const VALUES: TableDefinition<'_, Place, &[u8]> = TableDefinition::new("kad-values");
/// Place of a key with providers: the row of all of them.
pub(super) const PROVIDED: TableDefinition<'_, Place, &[u8]> = TableDefinition::new("kad-provided");
/// Time of expiry, table and place.
pub(super) const EXPIRY: TableDefinition<'_, [u8; 41], ()> = TableDefinition::new("kad-expiry");
/// Place and table of the records that this node published.
pub(super) const OWN: TableDefinition<'_, [u8; 33], ()> = TableDefinition::new("kad-own");
/// Place of a value that was removed or expired: its sequence number, and until when it is remembered.
pub(super) const SEQUENCES: TableDefinition<'_, Place, (u64, u64)> = TableDefinition::new("kad-sequences");
/// End of a remembered sequence number, and its place.
pub(super) const SEQUENCE_ORDER: TableDefinition<'_, [u8; 40], ()> = TableDefinition::new("kad-sequence-order");

/// Pool and account: the number of shares of the store that the account uses. No row if there are none.
pub(super) const WEIGHTS: TableDefinition<'_, WeightKey, u64> = TableDefinition::new("kad-weights");
/// Pool, an account's parent, its weight and the account: the last account of each parent is the first to lose records.
pub(super) const HEAVIEST: TableDefinition<'_, HeavyKey, ()> = TableDefinition::new("kad-heaviest");
/// Pool, account, tier, inverted rank and place of each remote record: the first of each account is the first to be
/// evicted.
pub(super) const CHARGED: TableDefinition<'_, ChargedKey, ()> = TableDefinition::new("kad-charged");
/// Table and place of a row that could not be read, and the row.
pub(super) const DAMAGED: TableDefinition<'_, [u8; 33], &[u8]> = TableDefinition::new("kad-damaged");

pub(super) type WeightKey = [u8; 9];
pub(super) type HeavyKey = [u8; 25];
pub(super) type ChargedKey = [u8; 50];

/// A remote record: its place, and its rank, which distinguishes the records at one place.
pub(super) type Id = (Place, u64);

/// The table of a record. Each table is a pool of its own, with its own bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum TableKind {
    Value,
    Provided,
}

impl TableKind {
    fn byte(self) -> u8 {
        match self {
            TableKind::Value => 0,
            TableKind::Provided => 1,
        }
    }

    fn of(byte: u8) -> TableKind {
        if byte == 0 { TableKind::Value } else { TableKind::Provided }
    }
}

pub(super) fn expiry_key(at: Timestamp, kind: TableKind, place: &Place) -> [u8; 41] {
    let mut key = [0; 41];
    key[..8].copy_from_slice(&at.as_micros().to_be_bytes());
    key[8] = kind.byte();
    key[9..].copy_from_slice(place);
    key
}

pub(super) fn expiry_of(key: &[u8; 41]) -> (Timestamp, TableKind, Place) {
    let (at, rest) = key.split_at(8);
    let mut place = [0; 32];
    place.copy_from_slice(&rest[1..]);
    (micros(at), TableKind::of(rest[0]), place)
}

pub(super) fn own_key(place: &Place, kind: TableKind) -> [u8; 33] {
    let mut key = [0; 33];
    key[..32].copy_from_slice(place);
    key[32] = kind.byte();
    key
}

pub(super) fn own_of(key: &[u8; 33]) -> (Place, TableKind) {
    let mut place = [0; 32];
    place.copy_from_slice(&key[..32]);
    (place, TableKind::of(key[32]))
}

/// A place, ordered by a time first.
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

pub(super) fn weight_key(kind: TableKind, account: Account) -> WeightKey {
    let mut key = [kind.byte(); 9];
    key[1..].copy_from_slice(&account.to_bits().to_be_bytes());
    key
}

pub(super) fn heavy_key(kind: TableKind, parent: Account, (weight, account): (u64, Account)) -> HeavyKey {
    let mut key = [kind.byte(); 25];
    for (at, part) in [parent.to_bits(), weight, account.to_bits()].into_iter().enumerate() {
        key[1 + 8 * at..9 + 8 * at].copy_from_slice(&part.to_be_bytes());
    }
    key
}

pub(super) fn heavy_of(key: &HeavyKey) -> (u64, Account) {
    (number(&key[9..17]), Account::from_bits(number(&key[17..])))
}

pub(super) fn charged_key(kind: TableKind, account: Account, tier: u8, (place, rank): Id) -> ChargedKey {
    let mut key = [0; 50];
    key[0] = kind.byte();
    key[1..9].copy_from_slice(&account.to_bits().to_be_bytes());
    key[9] = tier;
    key[10..18].copy_from_slice(&(!rank).to_be_bytes());
    key[18..].copy_from_slice(&place);
    key
}

/// The tier and the id of a record.
pub(super) fn charged_of(key: &ChargedKey) -> (u8, Id) {
    let mut place = [0; 32];
    place.copy_from_slice(&key[18..]);
    (key[9], (place, !number(&key[10..18])))
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

/// The counts of records, stored in the database so that no start has to count again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Remote values, and their bytes including their keys.
    pub(super) values: u64,
    pub(super) value_bytes: u64,
    /// Remote provider records, and their bytes including their keys.
    pub(super) providers: u64,
    pub(super) provider_bytes: u64,
    /// Own values and own provider records.
    pub(super) own: u64,
    pub(super) sequences: u64,
}

impl Counts {
    const FIELDS: usize = 6;

    pub(super) fn encode(&self) -> Vec<u8> {
        let fields = [self.values, self.value_bytes, self.providers, self.provider_bytes, self.own, self.sequences];
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
            providers: fields.next()?,
            provider_bytes: fields.next()?,
            own: fields.next()?,
            sequences: fields.next()?,
        })
    }

    /// The number and bytes of the remote records of one kind.
    pub(super) fn total(&self, kind: TableKind) -> Size {
        match kind {
            TableKind::Value => Size { records: self.values, bytes: self.value_bytes },
            TableKind::Provided => Size { records: self.providers, bytes: self.provider_bytes },
        }
    }

    pub(super) fn usage(&self) -> Usage {
        let count = |number| usize::try_from(number).unwrap_or(usize::MAX);
        let mut usage = Usage::default();
        (usage.values, usage.providers, usage.own) = (count(self.values), count(self.providers), count(self.own));
        usage
    }
}

/// All tables of one write transaction.
pub(super) struct Writable<'t> {
    pub(super) meta: Table<'t, &'static str, &'static [u8]>,
    pub(super) values: Table<'t, Place, &'static [u8]>,
    pub(super) provided: Table<'t, Place, &'static [u8]>,
    pub(super) expiry: Table<'t, [u8; 41], ()>,
    pub(super) own: Table<'t, [u8; 33], ()>,
    pub(super) sequences: Table<'t, Place, (u64, u64)>,
    pub(super) sequence_order: Table<'t, [u8; 40], ()>,
    pub(super) weights: Table<'t, WeightKey, u64>,
    pub(super) heaviest: Table<'t, HeavyKey, ()>,
    pub(super) charged: Table<'t, ChargedKey, ()>,
    pub(super) damaged: Table<'t, [u8; 33], &'static [u8]>,
}

impl<'t> Writable<'t> {
    /// Opens all tables, and creates those that are missing.
    pub(super) fn open(transaction: &'t WriteTransaction) -> Result<Writable<'t>, TableError> {
        Ok(Writable {
            meta: transaction.open_table(META)?,
            values: transaction.open_table(VALUES)?,
            provided: transaction.open_table(PROVIDED)?,
            expiry: transaction.open_table(EXPIRY)?,
            own: transaction.open_table(OWN)?,
            sequences: transaction.open_table(SEQUENCES)?,
            sequence_order: transaction.open_table(SEQUENCE_ORDER)?,
            weights: transaction.open_table(WEIGHTS)?,
            heaviest: transaction.open_table(HEAVIEST)?,
            charged: transaction.open_table(CHARGED)?,
            damaged: transaction.open_table(DAMAGED)?,
        })
    }
}

/// When the first and the last item expire.
pub(super) fn expiry_span(expiry: &impl ReadableTable<[u8; 41], ()>) -> Result<Option<Span>, StorageError> {
    let (first, last) = (expiry.first()?, expiry.last()?);
    let at = |(key, _): (redb::AccessGuard<'_, [u8; 41]>, _)| expiry_of(&key.value()).0;
    Ok(first.map(at).zip(last.map(at)))
}

/// The earliest and the latest time.
pub(super) type Span = (Timestamp, Timestamp);
