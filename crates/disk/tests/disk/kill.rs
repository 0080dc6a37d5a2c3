//! `kill -9` at random moments: acknowledged records are there, removed ones are not, and the store opens at once.
//!
//! `KILL_ROUNDS` sets the number of rounds, `KILL_SEED` repeats a run.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::Stdio;

use super::*;

/// The parent's knowledge of one item.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Known {
    Kept,
    /// Its removal was requested but not acknowledged.
    Leaving,
    Gone,
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// The name of an item: kind, round and number.
fn name(item: &Item) -> String {
    match item {
        Item::Value(record) => String::from_utf8_lossy(&record.value).into_owned(),
        Item::Provider(record) => {
            let peer = u64::from_be_bytes(record.provider.peer().to_bytes()[6..14].try_into().unwrap());
            format!("p {} {}", peer >> 32, peer & 0xffff_ffff)
        }
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the time of a start is what is measured")]
fn nothing_acknowledged_is_lost_to_kill_9() {
    let rounds = number("KILL_ROUNDS", 10);
    let mut random = number("KILL_SEED", 0x2545_f491_4f6c_dd1d);
    println!("KILL_SEED={random}");
    let dir = Dir::new();
    let mut known: BTreeMap<String, Known> = BTreeMap::new();
    let (mut slowest, mut acknowledged) = (Duration::ZERO, 0);
    for round in 0..rounds {
        let mut child = helper("kill::helper_that_writes", &dir.file())
            .env("KAD_DISK_ROUND", round.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let reading = std::thread::spawn(move || lines.map_while(Result::ok).collect::<Vec<_>>());
        std::thread::sleep(Duration::from_millis(30 + next(&mut random) % 600));
        child.kill().unwrap();
        child.wait().unwrap();
        for line in reading.join().unwrap() {
            // A line that was cut off has no end mark.
            let Some(line) = line.split_once('@').and_then(|(_, line)| line.strip_suffix(" .")) else { continue };
            let (what, item) = line.split_once(' ').unwrap();
            let state = match what {
                "kept" => Known::Kept,
                "leaving" => Known::Leaving,
                "gone" => Known::Gone,
                other => panic!("{other}"),
            };
            acknowledged += usize::from(state != Known::Leaving);
            known.insert(item.to_owned(), state);
        }
        let before = std::time::Instant::now();
        let mut store = open(&dir.file());
        slowest = slowest.max(before.elapsed());
        let found: Vec<_> = all(&mut store, Scan::All).iter().map(name).collect();
        let usage = store.usage();
        assert_eq!(usage.values + usage.providers + usage.own, found.len(), "round {round}: counts follow");
        let found: std::collections::BTreeSet<_> = found.into_iter().collect();
        for (item, state) in &known {
            match state {
                Known::Kept => assert!(found.contains(item), "round {round}: {item} was acknowledged and is lost"),
                Known::Gone => assert!(!found.contains(item), "round {round}: {item} was removed and is back"),
                Known::Leaving => {}
            }
        }
    }
    println!("{acknowledged} acknowledged writes in {rounds} rounds, slowest start {slowest:?}");
    assert!(acknowledged > 50 * usize::try_from(rounds).unwrap(), "{acknowledged}");
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
}

/// Puts, provides and removes, many at once, and prints each acknowledgement.
#[test]
fn helper_that_writes() {
    let Some(path) = helper_path() else { return };
    let round = number("KAD_DISK_ROUND", 0);
    let mut store = open(&path);
    let mut waiting: BTreeMap<Ticket, String> = BTreeMap::new();
    let say = |line: String| {
        let mut out = std::io::stdout().lock();
        out.write_all(format!("@{line} .\n").as_bytes()).unwrap();
        out.flush().unwrap();
    };
    let mut n = 0;
    loop {
        while waiting.len() < 48 {
            n += 1;
            let (what, write) = match n % 4 {
                0 => {
                    let name = format!("p {round} {n}");
                    let record = provider(&format!("c {round} {}", n / 40), (round << 32) | n);
                    (format!("kept {name}"), store.add_provider(NOW, record))
                }
                // An item put two hundred steps ago has been acknowledged long since.
                1 if n > 200 => {
                    let name = format!("v {round} {}", n - 199);
                    say(format!("leaving {name}"));
                    (format!("gone {name}"), store.remove(&name.as_str().into()))
                }
                _ => {
                    let name = format!("v {round} {n}");
                    let mut record = value(&name, name.as_bytes());
                    record.own = n % 3 == 0;
                    (format!("kept {name}"), store.put(NOW, record))
                }
            };
            waiting.insert(write, what);
        }
        while let Some((ticket, done)) = store.poll_done(Waker::noop()) {
            done.unwrap();
            say(waiting.remove(&ticket).unwrap());
        }
        std::thread::sleep(Duration::from_micros(200));
    }
}
