//! Rows that cannot be read: each is reported, loses only its own records, and is moved aside.

use libp2p_kad_dht_disk::open_database;
use redb::ReadableTable as _;

use super::*;

const BROKEN: &[u8] = &[9, 9, 9];

fn place(key: &str) -> [u8; 32] {
    RecordKey::from(key).key().to_bytes()
}

fn break_rows(path: &Path, rows: &[(&str, &str)]) {
    let database = open_database(path).unwrap();
    let transaction = database.begin_write().unwrap();
    for (table, key) in rows {
        let table = redb::TableDefinition::<[u8; 32], &[u8]>::new(table);
        assert!(transaction.open_table(table).unwrap().insert(place(key), BROKEN).unwrap().is_some());
    }
    transaction.commit().unwrap();
}

/// The rows that were moved aside.
fn aside(path: &Path) -> Vec<([u8; 33], Vec<u8>)> {
    let database = open_database(path).unwrap();
    let read = redb::ReadableDatabase::begin_read(&database).unwrap();
    let table = read.open_table(redb::TableDefinition::<[u8; 33], &[u8]>::new("kad-damaged")).unwrap();
    table.iter().unwrap().map(|row| row.unwrap()).map(|(key, row)| (key.value(), row.value().to_vec())).collect()
}

/// A store with three values, one of them its own, and two keys of three providers.
fn filled(path: &Path) {
    let mut store = open(path);
    let mut own = value("/a/own", b"v");
    own.own = true;
    for record in [value("/a/bad", b"v"), value("/a/good", b"v"), own] {
        let write = store.put(NOW, record);
        stored(&mut store, write).unwrap();
    }
    for n in 0..6 {
        let write = store.add_provider(NOW, provider(if n % 2 == 0 { "bad" } else { "good" }, n));
        stored(&mut store, write).unwrap();
    }
}

const ROWS: [(&str, &str); 3] = [("kad-values", "/a/bad"), ("kad-values", "/a/own"), ("kad-provided", "bad")];

fn usage(store: &DiskStore) -> (usize, usize, usize) {
    let usage = store.usage();
    (usage.values, usage.providers, usage.own)
}

/// Repeats an operation until it no longer reports damage, since the row is moved aside in the background.
fn after_the_report(store: &mut Opened, op: &Op) -> OpOutput {
    for _ in 0..1_000 {
        match store.run(NOW, op.clone()) {
            Ok(found) => return found,
            Err(why) => assert_eq!(why, StoreError::Damaged),
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("a row that cannot be read is in the way for ever")
}

#[test]
fn a_read_reports_what_is_damaged_and_the_next_finds_nothing() {
    let dir = Dir::new();
    filled(&dir.file());
    break_rows(&dir.file(), &ROWS);
    let mut no_cache = config();
    no_cache.cache_bytes = 0;
    let mut store = Opened::at(dir.file(), no_cache).unwrap();
    for key in ["/a/bad", "/a/own"] {
        let op = Op::Get(key.into());
        assert!(matches!(store.run(NOW, op.clone()), Err(StoreError::Damaged)), "{key}");
        let next = after_the_report(&mut store, &op);
        assert!(matches!(next, OpOutput::Value(None)), "{key}: {next:?}");
    }
    let op = Op::Providers("bad".into());
    assert!(matches!(store.run(NOW, op.clone()), Err(StoreError::Damaged)));
    let next = after_the_report(&mut store, &op);
    assert!(matches!(next, OpOutput::Providers(found) if found.is_empty()));
    assert_eq!(usage(&store), (1, 3, 0), "counted again");
    assert_eq!(all(&mut store, Scan::All).len(), 4);
    drop(store);
    let aside = aside(&dir.file());
    assert_eq!(aside.len(), 3);
    assert!(aside.iter().all(|(_, row)| row == BROKEN));
    for (kind, (_, key)) in [0, 0, 1].into_iter().zip(ROWS) {
        assert!(aside.iter().any(|(at, _)| at[..32] == place(key) && at[32] == kind), "{key}");
    }
    assert_eq!(usage(&open(&dir.file())), (1, 3, 0), "and for good");
}

#[test]
fn a_write_finds_its_way_past_what_is_damaged() {
    let dir = Dir::new();
    filled(&dir.file());
    break_rows(&dir.file(), &ROWS);
    let mut store = open(&dir.file());
    for record in [value("/a/bad", b"new"), value("/a/own", b"new")] {
        let write = store.put(NOW, record);
        stored(&mut store, write).unwrap();
    }
    let write = store.add_provider(NOW, provider("bad", 9));
    stored(&mut store, write).unwrap();
    assert_eq!(get(&mut store, NOW, "/a/bad").unwrap().value[..], *b"new");
    assert_eq!(providers(&mut store, "bad").len(), 1);
    assert_eq!(usage(&store), (3, 4, 0), "what went is not counted any more");
    assert!(all(&mut store, Scan::Own).is_empty());
    assert_eq!(expire(&mut store, LATER), 7);
    assert_eq!((store.next_expiry(), usage(&store)), (None, (0, 0, 0)));
    drop(store);
    assert_eq!(aside(&dir.file()).len(), 3, "nothing is written over");
}

#[test]
fn removal_and_expiry_find_their_way_past_what_is_damaged() {
    let dir = Dir::new();
    filled(&dir.file());
    break_rows(&dir.file(), &ROWS);
    let mut store = open(&dir.file());
    for write in [store.remove(&"/a/own".into()), store.remove_provider(&"bad".into(), &peer(0))] {
        stored(&mut store, write).unwrap();
    }
    assert_eq!(expire(&mut store, LATER), 4, "the rest has expired too");
    assert_eq!((store.next_expiry(), usage(&store)), (None, (0, 0, 0)), "nothing is met for ever");
    drop(store);
    assert_eq!(aside(&dir.file()).len(), 3);
}

/// Index rows that lead to a missing record must not keep new records from finding room.
#[test]
fn a_full_store_with_damage_still_makes_room() {
    let dir = Dir::new();
    let mut tight = config();
    (tight.max_values, tight.max_providers) = (20, 20);
    let mut store = Opened::at(dir.file(), tight.clone()).unwrap();
    for n in 0..20 {
        let write = store.put(NOW, value(&format!("/a/{n}"), b"v"));
        stored(&mut store, write).unwrap();
        let write = store.add_provider(NOW, provider(&format!("key {n}"), n));
        stored(&mut store, write).unwrap();
    }
    drop(store);
    let names: Vec<_> = (0..20).step_by(2).flat_map(|n| [format!("/a/{n}"), format!("key {n}")]).collect();
    let rows: Vec<_> = names
        .iter()
        .map(|name| (if name.starts_with('/') { "kad-values" } else { "kad-provided" }, name.as_str()))
        .collect();
    break_rows(&dir.file(), &rows);
    let mut store = Opened::at(dir.file(), tight).unwrap();
    let mut taken = (0, 0);
    for n in 100..200 {
        let write = store.put(NOW, value(&format!("/a/{n}"), b"v"));
        taken.0 += usize::from(stored(&mut store, write).is_ok());
        let write = store.add_provider(NOW, provider(&format!("key {n}"), n));
        taken.1 += usize::from(stored(&mut store, write).is_ok());
    }
    assert!(taken.0 >= 10 && taken.1 >= 10, "{taken:?}");
    assert_eq!(usage(&store), (20, 20, 0));
    assert_eq!(all(&mut store, Scan::All).len(), 40);
}

#[test]
fn saved_peers_that_cannot_be_read_are_reported_and_replaced() {
    let dir = Dir::new();
    let mut store = open(&dir.file());
    let write = store.save_peers(vec![provider("x", 1).provider]);
    stored(&mut store, write).unwrap();
    drop(store);
    let database = open_database(&dir.file()).unwrap();
    let transaction = database.begin_write().unwrap();
    let meta = redb::TableDefinition::<&str, &[u8]>::new("kad-meta");
    transaction.open_table(meta).unwrap().insert("peers", BROKEN).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let mut store = open(&dir.file());
    assert_eq!(saved_peers(&mut store), Err(StoreError::Damaged));
    let write = store.save_peers(vec![provider("x", 2).provider]);
    stored(&mut store, write).unwrap();
    assert_eq!(saved_peers(&mut store).unwrap().len(), 1);
}
