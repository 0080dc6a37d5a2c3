//! Errors of opening, and a full disk: each error is clear, and no existing file is changed.

use std::fs;

use libp2p_kad_dht_disk::DiskFaults;
use libp2p_kad_dht_disk::OpenError;

use super::*;

fn error(path: &Path) -> OpenError {
    Opened::at(path, config()).err().unwrap()
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

/// Checks that opening is refused without changing one byte of the file.
fn refused(path: &Path) -> OpenError {
    let before = fs::read(path).unwrap();
    let error = error(path);
    assert!(fs::read(path).unwrap() == before, "changed: {error}");
    error
}

/// What `path` looks like if the power fails after the change: redb repairs such a file when it opens it.
fn changed_by_another_program(path: &Path, change: impl FnOnce(&redb::WriteTransaction)) -> [PathBuf; 2] {
    let database = redb::Database::create(path).unwrap();
    let transaction = database.begin_write().unwrap();
    change(&transaction);
    transaction.commit().unwrap();
    let crashed = path.with_extension("crashed");
    fs::copy(path, &crashed).unwrap();
    drop(database);
    assert!(fs::read(path).unwrap() != fs::read(&crashed).unwrap(), "one was closed and the other was not");
    [path.into(), crashed]
}

#[test]
fn a_database_of_another_program_is_left_as_it_is() {
    let dir = Dir::new();
    let table = redb::TableDefinition::<&str, &[u8]>::new("theirs");
    let files = changed_by_another_program(&dir.0.join("other"), |transaction| {
        transaction.open_table(table).unwrap().insert("a", b"b".as_slice()).unwrap();
    });
    for file in files {
        let error = refused(&file);
        assert!(matches!(error, OpenError::Foreign { .. }), "{error}");
    }
}

/// Files of the first two formats, which only unreleased versions wrote, are bare databases.
#[test]
fn an_old_store_is_left_as_it_is() {
    let dir = Dir::new();
    let meta = redb::TableDefinition::<&str, &[u8]>::new("kad-meta");
    let files = changed_by_another_program(&dir.0.join("old"), |transaction| {
        transaction.open_table(meta).unwrap().insert("format", 2_u64.to_be_bytes().as_slice()).unwrap();
    });
    for file in files {
        let error = refused(&file);
        assert!(matches!(error, OpenError::Older { found: 2, known: 3, .. }), "{error}");
        assert!(error.to_string().contains("move it away"), "it says what to do: {error}");
    }
}

#[test]
fn another_format_is_left_as_it_is() {
    for format in [0_u64, 1, 4, u64::MAX] {
        let dir = Dir::new();
        filled(&dir.file());
        let mut bytes = fs::read(dir.file()).unwrap();
        bytes[8..16].copy_from_slice(&format.to_le_bytes());
        fs::write(dir.file(), &bytes).unwrap();
        assert!(matches!(refused(&dir.file()), OpenError::Damaged { .. }), "{format}: its checksum is wrong");
        let mut sum = crc32fast::Hasher::new();
        sum.update(&[0; 8]);
        sum.update(&bytes[..16]);
        bytes[16..24].copy_from_slice(&((1 << 32) | u64::from(sum.finalize())).to_le_bytes());
        fs::write(dir.file(), &bytes).unwrap();
        let error = refused(&dir.file());
        match format {
            0 | 1 => assert!(matches!(error, OpenError::Damaged { .. }), "{error}"),
            _ => assert!(matches!(error, OpenError::Newer { found, known: 3, .. } if found == format), "{error}"),
        }
    }
}

#[test]
fn a_file_that_ends_too_early_is_damaged_and_left_as_it_is() {
    let dir = Dir::new();
    filled(&dir.file());
    let whole = fs::read(dir.file()).unwrap();
    for len in [9, 23, 24, 320, 4_096, 8_192, 12_288, whole.len() / 2, whole.len() - 4_096, whole.len() - 1] {
        let cut = dir.0.join(format!("cut-{len}"));
        fs::write(&cut, &whole[..len]).unwrap();
        let error = refused(&cut);
        assert!(matches!(error, OpenError::Damaged { .. }), "{len} bytes: {error}");
    }
    assert_eq!(all(&mut open(&dir.file()), Scan::All).len(), 10);
}

#[test]
fn a_store_is_open_once() {
    let dir = Dir::new();
    let store = open(&dir.file());
    let error = refused(&dir.file());
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

/// Without the right to write to the directory or the file. The superuser is denied nothing, so another user has to
/// try.
#[cfg(unix)]
#[test]
fn what_may_not_be_written_is_denied_and_left_as_it_is() {
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::process::CommandExt as _;
    const NOBODY: u32 = 65_534;
    let allow = |path: &Path, mode: u32| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let dir = Dir::new();
    filled(&dir.file());
    let whole = fs::read(dir.file()).unwrap();
    let program = dir.0.join("program");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    for (path, mode) in [(&program, 0o555), (&dir.file(), 0o444), (&dir.0, 0o555)] {
        allow(path, mode);
    }
    let superuser = fs::OpenOptions::new().write(true).open(dir.file()).is_ok();
    for path in [dir.file(), dir.0.join("new")] {
        let mut run = std::process::Command::new(&program);
        run.args(["errors::helper_that_is_denied", "--exact", "--nocapture", "--test-threads=1"]);
        run.env("KAD_DISK_PATH", &path);
        if superuser {
            run.gid(NOBODY).uid(NOBODY);
        }
        let output = run.output().unwrap();
        assert!(String::from_utf8_lossy(&output.stdout).contains("@denied"), "{path:?}: {output:?}");
    }
    assert!(fs::read(dir.file()).unwrap() == whole, "untouched");
    assert_eq!(fs::read_dir(&dir.0).unwrap().count(), 2, "nothing is made");
    allow(&dir.0, 0o755);
}

#[test]
fn helper_that_is_denied() {
    let Some(path) = helper_path() else { return };
    match error(&path) {
        OpenError::Denied { .. } => println!("@denied"),
        error => println!("{error:?}"),
    }
}

#[test]
fn a_full_disk_fails_writes_and_nothing_else() {
    let dir = Dir::new();
    filled(&dir.file());
    let faults = DiskFaults::default();
    let mut config = config().with_faults(&faults);
    config.cache_bytes = 0;
    let mut store = Opened::at(dir.file(), config).unwrap();
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

/// The same with a limit of the operating system, which applies wherever the file grows.
#[cfg(unix)]
#[test]
fn a_limit_of_the_operating_system_fails_writes_and_nothing_else() {
    let dir = Dir::new();
    let run = helper("errors::helper_that_fills", &dir.file());
    let quoted = |text: &std::ffi::OsStr| format!("'{}'", text.to_str().unwrap());
    let words: Vec<_> = std::iter::once(run.get_program()).chain(run.get_args()).map(quoted).collect();
    // In units of 512 bytes.
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
