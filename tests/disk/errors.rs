//! What opening can meet, and a disk that is full: a clear error, and nothing that was there is changed.

use std::fs;

use libp2p_kad_dht::OpenError;
use libp2p_kad_dht::persist::DiskFaults;

use super::*;

fn error(path: &Path) -> OpenError {
    DiskStore::open(path, config()).err().unwrap()
}

/// A store with ten values in it.
fn filled(path: &Path) {
    let mut store = open(path);
    for n in 0..10_u8 {
        let write = store.put(NOW, value(&format!("/a/{n}"), &[n; 2_000]));
        stored(&mut store, write).unwrap();
    }
}

#[test]
fn what_is_not_a_store_is_left_as_it_is() {
    let dir = Dir::new();
    let path = dir.file();
    let text = "not a store\n".repeat(1_000);
    let files: [&[u8]; 5] = [b"", b"\xff\xd8\xff\xe0\0\x10JFIF", b"SQLite format 3\0 and more", b"r", text.as_bytes()];
    for bytes in files {
        fs::write(&path, bytes).unwrap();
        let error = error(&path);
        assert!(matches!(error, OpenError::Foreign { .. }), "{error}");
        assert_eq!(fs::read(&path).unwrap(), bytes, "untouched");
    }
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(matches!(error(&path), OpenError::Foreign { .. }));
    assert!(matches!(error(&path.join("no").join("way")), OpenError::Io { .. }));
    let file = dir.0.join("file");
    fs::write(&file, "x").unwrap();
    assert!(matches!(error(&file.join("below")), OpenError::Io { .. }), "a file is no directory");
    assert_eq!(fs::read_dir(&dir.0).unwrap().count(), 2, "no drafts are left");
}

#[test]
fn a_database_of_another_program_or_of_a_later_version_is_refused() {
    let dir = Dir::new();
    let other = dir.0.join("other");
    let table = redb::TableDefinition::<&str, &[u8]>::new("theirs");
    let database = redb::Database::create(&other).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(table).unwrap().insert("a", b"b".as_slice()).unwrap();
    transaction.commit().unwrap();
    drop(database);
    assert!(matches!(error(&other), OpenError::Foreign { .. }));

    filled(&dir.file());
    let database = redb::Database::open(dir.file()).unwrap();
    let transaction = database.begin_write().unwrap();
    let meta = redb::TableDefinition::<&str, &[u8]>::new("kad-meta");
    transaction.open_table(meta).unwrap().insert("format", 3_u64.to_be_bytes().as_slice()).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let error = error(&dir.file());
    assert!(matches!(error, OpenError::Newer { found: 3, known: 2, .. }), "{error}");
}

#[test]
fn a_file_that_ends_too_early_is_damaged_and_left_as_it_is() {
    let dir = Dir::new();
    filled(&dir.file());
    let whole = fs::read(dir.file()).unwrap();
    for len in [9, 100, 320, 4_096, whole.len() / 2, whole.len() - 4_096, whole.len() - 1] {
        let cut = dir.0.join(format!("cut-{len}"));
        fs::write(&cut, &whole[..len]).unwrap();
        let error = error(&cut);
        assert!(matches!(error, OpenError::Damaged { .. }), "{len} bytes: {error}");
        assert!(fs::read(&cut).unwrap() == whole[..len], "{len} bytes: changed");
    }
    assert_eq!(all(&mut open(&dir.file()), Scan::All).len(), 10);
}

#[test]
fn a_store_is_open_once() {
    let dir = Dir::new();
    let store = open(&dir.file());
    let error = error(&dir.file());
    assert!(matches!(error, OpenError::Locked { .. }), "{error}");
    let output = helper("errors::helper_that_meets_a_lock", &dir.file()).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("@locked"), "{output:?}");
    drop(store);
    open(&dir.file());
}

#[test]
fn helper_that_meets_a_lock() {
    let Some(path) = helper_path() else { return };
    if matches!(error(&path), OpenError::Locked { .. }) {
        println!("@locked");
    }
}

#[test]
fn a_full_disk_fails_writes_and_nothing_else() {
    let dir = Dir::new();
    filled(&dir.file());
    let faults = DiskFaults::default();
    let mut config = config().with_faults(&faults);
    config.cache_bytes = 0;
    let mut store = DiskStore::open(dir.file(), config).unwrap();
    for round in 0..3 {
        faults.set_full(true);
        for n in 0..3 {
            let write = store.put(NOW, value(&format!("/full/{round}/{n}"), b"v"));
            assert_eq!(stored(&mut store, write), Err(StoreError::Full));
            for n in 0..10_u8 {
                let found = get(&mut store, NOW, &format!("/a/{n}"));
                assert_eq!(found.unwrap().value[..], [n; 2_000], "reads go on");
            }
        }
        assert_eq!(store.usage().values, 10 + round, "what failed is not counted");
        faults.set_full(false);
        let write = store.put(NOW, value(&format!("/room/{round}"), b"v"));
        assert_eq!(stored(&mut store, write), Ok(()), "with room again it goes on");
    }
    drop(store);
    let mut store = open(&dir.file());
    assert_eq!((all(&mut store, Scan::All).len(), store.usage().values), (13, 13));
}

/// The same with a limit of the operating system, which hits wherever the file grows.
#[cfg(unix)]
#[test]
fn a_limit_of_the_operating_system_fails_writes_and_nothing_else() {
    let dir = Dir::new();
    let run = helper("errors::helper_that_fills", &dir.file());
    let quoted = |text: &std::ffi::OsStr| format!("'{}'", text.to_str().unwrap());
    let words: Vec<_> = std::iter::once(run.get_program()).chain(run.get_args()).map(quoted).collect();
    // 512 bytes each.
    let script = format!("trap '' XFSZ; ulimit -f 12000; exec {}", words.join(" "));
    let output =
        std::process::Command::new("sh").args(["-c", &script]).env("KAD_DISK_PATH", dir.file()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let kept = text.lines().find_map(|line| line.split_once("@filled ")).map(|(_, n)| n.parse::<usize>().unwrap());
    let kept = kept.unwrap_or_else(|| panic!("{output:?}"));
    assert!(kept > 20, "{kept}");
    let mut store = open(&dir.file());
    assert_eq!(all(&mut store, Scan::All).len(), kept);
    let write = store.put(NOW, value("/more", b"v"));
    stored(&mut store, write).unwrap();
}

#[test]
fn helper_that_fills() {
    let Some(path) = helper_path() else { return };
    let mut store = open(&path);
    let mut kept = 0;
    for n in 0..1_000 {
        let write = store.put(NOW, value(&format!("/fill/{n}"), &[n as u8; 32_000]));
        match stored(&mut store, write) {
            Ok(()) => kept += 1,
            Err(why) => {
                assert_eq!(why, StoreError::Full);
                break;
            }
        }
    }
    assert!(kept < 1_000);
    for n in 0..kept {
        assert_eq!(get(&mut store, NOW, &format!("/fill/{n}")).unwrap().value[..], [n as u8; 32_000]);
    }
    println!("@filled {kept}");
}
