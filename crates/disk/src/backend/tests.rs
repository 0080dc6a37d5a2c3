//! Every kind of damage to a file: the database below the store never sees it, so it has no reason to panic.
//!
//! The tests use memory instead of a file, through the same code. `DAMAGE_SEED` and `DAMAGE_ROUNDS` repeat a run.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

use redb::{Builder, Database, Durability, ReadableDatabase as _, ReadableTable as _, StorageError};

use super::super::DiskStoreConfig;
use super::super::tables::{META, PROVIDED, VALUES, Writable};
use super::*;

/// A file in memory that outlives the database in it.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Vec<u8>>>);

impl Memory {
    fn of(bytes: &[u8]) -> Memory {
        Memory(Arc::new(Mutex::new(bytes.to_vec())))
    }

    fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap().clone()
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Memory")
    }
}

impl StorageBackend for Memory {
    fn len(&self) -> io::Result<u64> {
        Ok(wide(self.0.lock().unwrap().len()))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let bytes = self.0.lock().unwrap();
        let from = narrow(offset);
        let found = bytes.get(from..from.saturating_add(out.len())).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(found);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.lock().unwrap().resize(narrow(len), 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut bytes = self.0.lock().unwrap();
        let end = narrow(offset) + data.len();
        if bytes.len() < end {
            bytes.resize(end, 0);
        }
        bytes[narrow(offset)..end].copy_from_slice(data);
        Ok(())
    }
}

fn open(memory: &Memory, access: Access) -> Result<Database, DatabaseError> {
    let disk = Disk::on(Box::new(memory.clone()), access, &DiskStoreConfig::default());
    Builder::new().set_cache_size(1 << 20).create_with_backend(disk)
}

/// A disk that may lose power before each sync: any of the sectors written since the last sync may have reached it.
#[derive(Clone)]
struct Unsure {
    memory: Memory,
    state: Arc<Mutex<Losses>>,
}

struct Losses {
    synced: Vec<u8>,
    /// Writes since the last sync, sector by sector, and new lengths of the file.
    pending: Vec<(usize, Vec<u8>)>,
    random: u64,
    /// The file after a power cut, and the number of transactions acknowledged by then.
    cuts: Vec<(usize, Vec<u8>)>,
    acknowledged: usize,
}

impl fmt::Debug for Unsure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Unsure")
    }
}

impl StorageBackend for Unsure {
    fn len(&self) -> io::Result<u64> {
        self.memory.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.memory.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.state.lock().unwrap().pending.push((narrow(len), Vec::new()));
        self.memory.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state.lock().unwrap();
        for _ in 0..3 {
            let mut cut = state.synced.clone();
            let pending = std::mem::take(&mut state.pending);
            for (at, bytes) in &pending {
                match bytes.len() {
                    0 => cut.resize(*at, 0),
                    len if next(&mut state.random).is_multiple_of(2) => {
                        let end = cut.len().max(at + len);
                        cut.resize(end, 0);
                        cut[*at..at + len].copy_from_slice(bytes);
                    }
                    _ => {}
                }
            }
            state.pending = pending;
            let acknowledged = state.acknowledged;
            state.cuts.push((acknowledged, cut));
        }
        state.pending.clear();
        state.synced = self.memory.bytes();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.state.lock().unwrap();
        let (mut at, mut rest) = (narrow(offset), data);
        while !rest.is_empty() {
            let (sector, others) = rest.split_at(rest.len().min(512 - at % 512));
            state.pending.push((at, sector.to_vec()));
            (at, rest) = (at + sector.len(), others);
        }
        self.memory.write(offset, data)
    }
}

/// After a power cut, whichever unsynced writes are lost, everything acknowledged is there and nothing looks damaged.
#[test]
fn a_power_cut_leaves_every_acknowledged_transaction() {
    let memory = Memory::default();
    let database = open(&memory, Access::Create).unwrap();
    drop(database);
    let synced = memory.bytes();
    let losses =
        Losses { synced, pending: Vec::new(), random: 88_172_645_463_325_252, cuts: Vec::new(), acknowledged: 0 };
    let disk = Unsure { memory, state: Arc::new(Mutex::new(losses)) };
    let on = Disk::on(Box::new(disk.clone()), Access::Write, &DiskStoreConfig::default());
    let database = Builder::new().create_with_backend(on).unwrap();
    for at in 0..30 {
        fill_one(&database, at);
        disk.state.lock().unwrap().acknowledged += 1;
    }
    let cuts = std::mem::take(&mut disk.state.lock().unwrap().cuts);
    assert!(cuts.len() > 150, "{}", cuts.len());
    for (n, (acknowledged, image)) in cuts.into_iter().enumerate() {
        let (found, errors) = read_all(&Memory::of(&image), Access::Write);
        assert!(errors.is_empty() || acknowledged == 0, "cut {n} after {acknowledged}: {errors:?}");
        let rows = found.keys().filter(|(table, _)| *table == 0).count();
        let after = |transactions: usize| if transactions == 0 { 0 } else { transactions * 12 + 12 };
        assert!([after(acknowledged), after(acknowledged + 1)].contains(&rows), "cut {n} after {acknowledged}: {rows}");
        assert!(write(&Memory::of(&image)).is_ok(), "cut {n}: it goes on");
    }
}

type Rows = BTreeMap<(u8, Vec<u8>), Vec<u8>>;

fn row(n: u64) -> ([u8; 32], Vec<u8>) {
    let mut place = [0; 32];
    place[..8].copy_from_slice(&n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    (place, vec![(n % 250) as u8 + 1; 40 + narrow(n * 97 % 900)])
}

/// Commits some transactions as the store does.
fn fill(database: &Database, transactions: u64) {
    (0..transactions).for_each(|at| fill_one(database, at));
}

fn fill_one(database: &Database, at: u64) {
    let mut transaction = database.begin_write().unwrap();
    transaction.set_quick_repair(true);
    transaction.set_durability(Durability::Immediate).unwrap();
    let mut tables = Writable::open(&transaction).unwrap();
    tables.meta.insert("seed", [7; 32].as_slice()).unwrap();
    for n in at * 12..at * 12 + 24 {
        let (place, bytes) = row(n);
        tables.values.insert(place, bytes.as_slice()).unwrap();
        tables.provided.insert(place, bytes.as_slice()).unwrap();
    }
    drop(tables);
    transaction.commit().unwrap();
}

/// The image of a file that was closed and of one that `kill -9` left, and the rows in both.
fn images() -> ([Vec<u8>; 2], Rows) {
    let memory = Memory::default();
    let database = open(&memory, Access::Create).unwrap();
    fill(&database, 6);
    let killed = memory.bytes();
    drop(database);
    let images = [memory.bytes(), killed];
    let (rows, errors) = read_all(&Memory::of(&images[0]), Access::Look);
    assert!(rows.len() > 150 && errors.is_empty(), "{} rows, {errors:?}", rows.len());
    (images, rows)
}

/// All rows that can be read, and the errors of the others.
fn read_all(memory: &Memory, access: Access) -> (Rows, Vec<String>) {
    let (mut rows, mut errors) = (Rows::new(), Vec::new());
    // After an error the database has to be reopened.
    let mut database = None;
    let mut read = |table: u8| -> Result<(), redb::Error> {
        let open = match database.take() {
            Some(open) => open,
            None => open(memory, access)?,
        };
        let read = open.begin_read()?;
        if table == 2 {
            for row in read.open_table(META)?.iter()? {
                let (name, row) = row?;
                rows.insert((table, name.value().as_bytes().to_vec()), row.value().to_vec());
            }
            return Ok(());
        }
        for row in read.open_table(if table == 0 { VALUES } else { PROVIDED })?.iter()? {
            let (place, row) = row?;
            rows.insert((table, place.value().to_vec()), row.value().to_vec());
        }
        database = Some(open);
        Ok(())
    };
    errors.extend((0..3).filter_map(|table| read(table).err().map(|error| error.to_string())));
    (rows, errors)
}

fn write(memory: &Memory) -> Result<(), redb::Error> {
    let database = open(memory, Access::Write)?;
    let mut transaction = database.begin_write()?;
    transaction.set_quick_repair(true);
    let mut tables = Writable::open(&transaction)?;
    for n in 0..100 {
        let (place, bytes) = row(n);
        tables.values.insert(place, bytes.as_slice())?;
        tables.provided.remove(place)?;
    }
    drop(tables);
    transaction.commit()?;
    Ok(())
}

/// Whatever is done with such a file, each row is as it was written or missing, nothing panics, and looking alone
/// changes nothing. Returns whether any damage was noticed.
fn examine(what: &str, image: &[u8], rows: &Rows) -> bool {
    let run = || {
        let memory = Memory::of(image);
        let (found, errors) = read_all(&memory, Access::Look);
        assert!(memory.bytes() == image, "{what}: changed");
        for (key, row) in &found {
            assert_eq!(rows.get(key), Some(row), "{what}: {key:?}");
        }
        assert!(found.len() == rows.len() || !errors.is_empty(), "{what}: lost without a word");
        let _ = read_all(&memory, Access::Write);
        let _ = write(&memory);
        !errors.is_empty()
    };
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| panic!("{what}: panicked"))
}

fn number_of(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn next(state: &mut u64) -> usize {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    narrow(*state >> 8)
}

/// Blocks that contain data.
fn used(image: &[u8]) -> Vec<usize> {
    let blocks = image.chunks(narrow(BLOCK)).enumerate();
    blocks.filter(|(_, block)| block.iter().any(|byte| *byte != 0)).map(|(at, _)| at).collect()
}

#[test]
fn every_byte_of_a_file_may_change() {
    let (images, rows) = images();
    for (name, image) in ["closed", "killed"].into_iter().zip(images) {
        assert!(!examine(name, &image, &rows));
        // Each byte of each block is covered by its checksum, under each mask.
        let disk = |image: &[u8]| Disk::on(Box::new(Memory::of(image)), Access::Look, &DiskStoreConfig::default());
        let whole = disk(&image);
        let (mut blocks, mut changes) = (0, 0);
        let mut out = vec![0; narrow(BLOCK)];
        for block in 1..whole.len().unwrap() / BLOCK {
            if whole.read(block * BLOCK, &mut out).is_err() {
                continue; // Nothing was written there.
            }
            blocks += 1;
            let sum = sum_of(block, &out);
            for at in 0..out.len() {
                for mask in [0x01, 0x80, 0xff] {
                    out[at] ^= mask;
                    // Every 16th goes through all of the code, since a checksum takes time.
                    if at % 16 == 0 {
                        assert_ne!(sum_of(block, &out), sum, "block {block}, byte {at}, mask {mask:02x}");
                        changes += 1;
                    }
                    out[at] ^= mask;
                }
            }
        }
        assert!(blocks > 20, "{blocks}");
        // The heads and checksums byte by byte and a sample of the blocks, through everything that is done with a file.
        let (mut random, mut noticed) = (0x9e37_79b9_7f4a_7c15, 0);
        let fixed =
            (narrow(HEADS[0])..narrow(HEADS[0]) + HEAD).chain((narrow(GROUPS)..narrow(GROUPS) + 8 * 40).step_by(3));
        let blocks = used(&image);
        let some = blocks
            .iter()
            .flat_map(|block| [block * 4_096, block * 4_096 + 1, block * 4_096 + 4 + next(&mut random) % 4_092]);
        for at in fixed.chain(some) {
            let mut image = image.clone();
            image[at] ^= [0x01, 0x80, 0xff][at % 3];
            noticed += usize::from(examine(&format!("{name}, byte {at}"), &image, &rows));
            changes += 1;
        }
        println!("{name}: {changes} changes, {noticed} of them noticed by who reads everything");
        assert!(noticed > 20);
    }
}

/// Truncated files, holes of any length, swapped and repeated blocks, single and many random bytes.
#[test]
fn random_damage_is_an_error_and_never_a_panic() {
    let mut seed = number_of("DAMAGE_SEED", 0x2545_f491_4f6c_dd1d);
    println!("DAMAGE_SEED={seed}");
    let (images, rows) = images();
    let used = images.each_ref().map(|image| used(image));
    let mut noticed = 0;
    for round in 0..number_of("DAMAGE_ROUNDS", 10_000) {
        let what = format!("DAMAGE_SEED={seed}, round {round}");
        let which = next(&mut seed) % 2;
        let mut image = images[which].clone();
        for _ in 0..1 + next(&mut seed) % 3 {
            damage(&mut image, &used[which], &mut seed);
        }
        noticed += usize::from(examine(&what, &image, &rows));
    }
    println!("{noticed} noticed by who reads everything");
}

fn damage(image: &mut Vec<u8>, used: &[usize], random: &mut u64) {
    let size = narrow(BLOCK);
    let block = |random: &mut u64| used[next(random) % used.len()] * size;
    let (one, other) = (block(random), block(random));
    let within = one + next(random) % size;
    let len = image.len();
    match next(random) % 7 {
        0 => image.truncate(next(random) % len),
        1 => image.truncate(one.min(len)),
        2 if within < len => image[within..len.min(within + 1 + next(random) % (3 * size))].fill(0),
        3 if one + size <= len => image[one..one + size].fill(if next(random).is_multiple_of(2) { 0 } else { 0xff }),
        4 if one.max(other) + size <= len => {
            for at in 0..size {
                image.swap(one + at, other + at);
            }
        }
        5 if one.max(other) + size <= len => image.copy_within(other..other + size, one),
        _ => {
            for _ in 0..1 + next(random) % 40 {
                let at = block(random) + next(random) % size;
                if let Some(byte) = image.get_mut(at) {
                    *byte ^= 1 + (next(random) % 255) as u8;
                }
            }
        }
    }
}

/// A block that was moved together with its checksum is not accepted at its new place.
#[test]
fn a_block_counts_only_where_it_was_written() {
    let (images, rows) = images();
    let used: Vec<_> = used(&images[0]).into_iter().filter(|at| *at > 3).collect();
    for pair in used.windows(2) {
        let mut image = images[0].clone();
        for at in 0..narrow(BLOCK) {
            image.swap(pair[0] * 4_096 + at, pair[1] * 4_096 + at);
        }
        for at in 0..8 {
            let sum = |block: usize| narrow(GROUPS) + 8 * (block - 4) + at;
            image.swap(sum(pair[0]), sum(pair[1]));
        }
        examine(&format!("{pair:?}"), &image, &rows);
    }
}

#[test]
fn blocks_have_their_places() {
    assert_eq!((data_at(1), sum_at(1)), (GROUPS + BLOCK, GROUPS));
    assert_eq!((data_at(512), sum_at(512)), (GROUPS + 512 * BLOCK, GROUPS + 8 * 511));
    assert_eq!((data_at(513), sum_at(513)), (GROUPS + 514 * BLOCK, GROUPS + 513 * BLOCK));
    assert_eq!((file_len(0), file_len(2 * BLOCK)), (GROUPS, data_at(1) + BLOCK));
    assert_eq!(runs(511, 4 * 4_096).collect::<Vec<_>>(), [511..513, 513..515]);
    assert!(runs(1, 4_096).eq(std::iter::once(1..2)));
    let error: StorageError = damaged("x").into();
    assert!(matches!(error, StorageError::Io(_)));
}
