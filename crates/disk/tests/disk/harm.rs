//! Damaged files, opened as a node opens them: either an error that says so and an untouched file, or a store without
//! the damaged records. No thread panics, and opening a store repeatedly makes it no worse.
//!
//! `src/backend/tests.rs` tests every byte and ten thousand random damages, on memory instead of a file; these tests
//! use files and threads. `HARM_SEED` and `HARM_ROUNDS` repeat a run.

use std::fs;
use std::sync::LazyLock;

use super::*;

type Values = BTreeMap<String, Vec<u8>>;

/// Stores values and providers, and as many again after a restart.
fn filled(path: &Path) -> Values {
    let mut values = BTreeMap::new();
    for half in 0..2_u64 {
        let mut store = open(path);
        let mut last = None;
        for n in half * 60..half * 60 + 60 {
            let (key, bytes) = (format!("/a/{n}"), vec![n as u8; 20 + (n as usize * 37) % 700]);
            store.put(NOW, value(&key, &bytes));
            values.insert(key, bytes);
            last = Some(store.add_provider(NOW, provider(&format!("content {}", n % 20), n)));
        }
        stored(&mut store, last.unwrap()).unwrap();
        let write = store.save_peers(vec![provider("x", 1).provider]);
        stored(&mut store, write).unwrap();
    }
    values
}

/// Opens and uses a damaged file, and counts the lost values. `None` if opening is refused.
fn use_it(what: &str, path: &Path, values: &Values) -> Option<usize> {
    let before = fs::read(path).unwrap();
    let mut store = match Opened::at(path, config()) {
        Ok(store) => store,
        Err(why) => {
            assert!(matches!(why, OpenError::Damaged { .. } | OpenError::Foreign { .. }), "{what}: {why}");
            assert!(fs::read(path).unwrap() == before, "{what}: changed, though refused: {why}");
            return None;
        }
    };
    let mut lost = 0;
    for (key, bytes) in values {
        match store.run(NOW, Op::Get(key.as_str().into())) {
            Ok(OpOutput::Value(Some(found))) => assert_eq!(found.value[..], bytes[..], "{what}: {key}"),
            Ok(OpOutput::Value(None)) | Err(StoreError::Damaged | StoreError::Failed) => lost += 1,
            other => panic!("{what}: {key}: {other:?}"),
        }
    }
    // A scan finds every record that a single read finds, except for neighbours of the damage.
    let found = store.run(NOW, Op::Scan { what: Scan::Values, after: None, limit: usize::MAX });
    match found {
        Ok(OpOutput::Items(items)) if lost == 0 => assert_eq!(items.len(), values.len(), "{what}"),
        Ok(OpOutput::Items(items)) => {
            assert!(items.len() + 3 * lost >= values.len(), "{what}: {lost}, {}", items.len())
        }
        other => panic!("{what}: {other:?}"),
    }
    let ops = [
        Op::Providers("content 3".into()),
        Op::Scan { what: Scan::All, after: None, limit: usize::MAX },
        Op::SavedPeers,
        Op::Remove("/a/7".into()),
        Op::SavePeers(Vec::new()),
        Op::Expire { limit: 10, latest: Timestamp::MAX },
    ];
    for op in ops {
        if let Err(why) = store.run(LATER, op) {
            assert!(matches!(why, StoreError::Damaged | StoreError::Failed), "{what}: {why}");
        }
    }
    Some(lost)
}

/// A good file of a store, and the values in it.
static GOOD: LazyLock<(Vec<u8>, Values)> = LazyLock::new(|| {
    let dir = Dir::new();
    let values = filled(&dir.file());
    (fs::read(dir.file()).unwrap(), values)
});

/// Opens and uses a good file in which these bytes change others: each five of them are a place and what is xored into
/// the byte there; a last one to four cut the file.
pub(crate) fn use_mutated(bytes: &[u8]) {
    let (good, values) = &*GOOD;
    let mut file = good.clone();
    let (changes, cut) = bytes.as_chunks::<5>();
    let place = |place: &[u8]| place.iter().fold(0, |at, byte| at << 8 | usize::from(*byte)) % good.len();
    for change in changes {
        file[place(&change[..4])] ^= change[4];
    }
    if !cut.is_empty() {
        file.truncate(place(cut));
    }
    let dir = Dir::new();
    fs::write(dir.file(), &file).unwrap();
    use_it("mutated", &dir.file(), values);
}

fn number_of(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn next(state: &mut u64) -> usize {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    (*state >> 8) as usize
}

#[test]
fn a_harmed_file_is_refused_or_opened_without_what_is_harmed() {
    let mut seed = number_of("HARM_SEED", 0x2545_f491_4f6c_dd1d);
    println!("HARM_SEED={seed}");
    let dir = Dir::new();
    let values = filled(&dir.file());
    let whole = fs::read(dir.file()).unwrap();
    let used: Vec<_> = whole
        .chunks(4_096)
        .enumerate()
        .filter(|(_, block)| block.iter().any(|byte| *byte != 0))
        .map(|(at, _)| at)
        .collect();
    let path = dir.0.join("harmed");
    let (mut refused, mut opened, mut lost) = (0, 0, 0);
    for round in 0..number_of("HARM_ROUNDS", 100) {
        let mut bytes = whole.clone();
        let mut block = || used[next(&mut seed) % used.len()] * 4_096;
        let (one, other) = (block(), block());
        let within = next(&mut seed) % 4_096;
        match round % 5 {
            0 => bytes[one + within] ^= 1 + (next(&mut seed) % 255) as u8,
            1 => bytes.truncate(one + within),
            2 => bytes[one + within..].iter_mut().take(6_000).for_each(|byte| *byte = 0),
            3 => (0..4_096).for_each(|at| bytes.swap(one + at, other + at)),
            _ => bytes[one..one + 4_096].iter_mut().for_each(|byte| *byte = next(&mut seed) as u8),
        }
        fs::write(&path, &bytes).unwrap();
        let what = format!("HARM_SEED={seed}, round {round}");
        match use_it(&what, &path, &values) {
            Some(count) => (opened, lost) = (opened + 1, lost + count),
            None => refused += 1,
        }
    }
    println!("{refused} refused, {opened} opened, {lost} values of those not found");
    assert!(refused >= 10 && opened >= 10 && lost > 0, "{refused}, {opened}, {lost}");
}

/// What the fuzzer of `fuzz/` calls.
#[test]
fn a_mutated_file_is_refused_or_opened_too() {
    let mut seed = number_of("HARM_SEED", 0x2545_f491_4f6c_dd1d);
    for round in 0..20 {
        let bytes: Vec<u8> = (0..round).map(|_| next(&mut seed) as u8).collect();
        use_mutated(&bytes);
    }
}

/// In a program that aborts on any panic, no thread of the store panics.
#[test]
fn a_panic_anywhere_would_end_the_program() {
    let dir = Dir::new();
    let output = helper("harm::helper_that_ends_at_a_panic", &dir.0).env("HARM_ROUNDS", "40").output().unwrap();
    assert!(output.status.success() && String::from_utf8_lossy(&output.stdout).contains("@whole"), "{output:?}");
}

#[test]
fn helper_that_ends_at_a_panic() {
    let Some(_) = helper_path() else { return };
    std::panic::set_hook(Box::new(|panic| {
        println!("@panic {panic}");
        std::process::abort();
    }));
    a_harmed_file_is_refused_or_opened_without_what_is_harmed();
    println!("@whole");
}
