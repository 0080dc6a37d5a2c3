//! Compares the manual's page of defaults with the code: every field of every configuration, and every number.

#![expect(clippy::panic, reason = "a page or a source that cannot be read fails the test with its name")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use libp2p_kad_dht::core::{DhtConfig, MAX_ADDR_LEN, MAX_ADDRS, MemoryStoreConfig};

/// The sources of the disk store. The packaged crate does not contain them.
const DISK: &str = "crates/disk/src";
const INBOUND: &str = "DEFAULT_INBOUND_BUFFER";
const BOOK: &str = "MAX_BYTES";

/// The source files of the library and of the disk store.
fn sources() -> Vec<String> {
    fn collect(directory: &Path, found: &mut Vec<String>) {
        let entries = fs::read_dir(directory).unwrap_or_else(|why| panic!("{}: {why}", directory.display()));
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            if path.is_dir() {
                collect(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(read(&path));
            }
        }
    }
    let mut found = Vec::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for directory in [root.join("src"), root.join(DISK)].iter().filter(|directory| directory.is_dir()) {
        collect(directory, &mut found);
    }
    found
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|why| panic!("{}: {why}", path.display()))
}

/// One public field of a configuration, and the constant that its documentation names as the default.
#[derive(Debug)]
struct Field {
    name: String,
    constant: Option<String>,
}

/// The configurations of one source file with their fields. `DhtConfig` has other configurations as its fields, and no
/// page.
fn configurations(source: &str) -> Vec<(String, Vec<Field>)> {
    let mut all = Vec::new();
    let mut lines = source.lines();
    while let Some(line) = lines.next() {
        let Some(name) = line.strip_prefix("pub struct ").and_then(|rest| rest.strip_suffix("Config {")) else {
            continue;
        };
        let (mut fields, mut docs) = (Vec::new(), String::new());
        for line in lines.by_ref().take_while(|line| *line != "}").map(str::trim) {
            if let Some(doc) = line.strip_prefix("///") {
                docs += doc;
            } else if let Some((name, _)) = line.strip_prefix("pub ").and_then(|line| line.split_once(':')) {
                let constant = docs.split_once("Default:").and_then(|(_, rest)| rest.trim().strip_prefix("[`DEFAULT_"));
                let constant = constant.and_then(|rest| rest.split('`').next()).map(|rest| format!("DEFAULT_{rest}"));
                fields.push(Field { name: name.to_owned(), constant });
                docs.clear();
            }
        }
        if name != "Dht" && !fields.is_empty() {
            all.push((format!("{name}Config"), fields));
        }
    }
    all
}

/// The value of a constant in microseconds, bytes or as a plain number.
fn constant(source: &str, name: &str) -> u128 {
    let declared = format!(" const {name}:");
    let rest = source.split_once(&declared).unwrap_or_else(|| panic!("{name} is declared")).1;
    let expression = rest.split_once('=').and_then(|(_, rest)| rest.split_once(';')).map(|(value, _)| value.trim());
    let expression = expression.unwrap_or_else(|| panic!("{name} has a value"));
    let inner = |prefix: &str, suffix: &str| expression.strip_prefix(prefix).and_then(|rest| rest.strip_suffix(suffix));
    let units = [("Duration::from_secs(", ")", 1_000_000), ("Duration::from_millis(", ")", 1_000)];
    for (prefix, suffix, unit) in units {
        if let Some(product) = inner(prefix, suffix) {
            return unit * multiplied(source, product);
        }
    }
    let pieces = inner("NonZeroUsize::new(", ").unwrap()").unwrap_or(expression);
    multiplied(source, pieces)
}

fn multiplied(source: &str, product: &str) -> u128 {
    let factor = |factor: &str| {
        let factor = factor.trim();
        let number = factor.replace('_', "").parse();
        number.unwrap_or_else(|_| constant(source, factor))
    };
    product.split('*').map(factor).product()
}

/// The value of a number as the page writes it, such as `10 min`.
fn written(text: &str) -> Option<u128> {
    let (number, unit) = text.split_once(' ').unwrap_or((text, ""));
    let unit = match unit {
        "" => 1,
        "ms" => 1_000,
        "s" => 1_000_000,
        "min" => 60_000_000,
        "h" => 3_600_000_000,
        "KiB" => 1_024,
        "MiB" => 1_024 * 1_024,
        _ => return None,
    };
    Some(number.parse::<u128>().ok()? * unit)
}

/// The tables of the page: for each configuration its fields, with their defaults as text.
fn page() -> BTreeMap<String, BTreeMap<String, String>> {
    let mut page: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    let mut section = String::new();
    for line in include_str!("../src/manual/defaults.md").lines() {
        if let Some(name) = line.strip_prefix("## `") {
            section = name.trim_end_matches('`').to_owned();
        } else if let Some(row) = line.strip_prefix("| `") {
            let mut cells = row.split('|').map(str::trim);
            let (Some(name), Some(default), Some(_)) = (cells.next(), cells.next(), cells.next()) else { continue };
            let of = page.entry(section.clone()).or_default();
            of.insert(name.trim_end_matches('`').to_owned(), default.to_owned());
        }
    }
    page
}

#[test]
fn every_default_is_on_the_page_and_true() {
    let mut page = page();
    if !Path::new(env!("CARGO_MANIFEST_DIR")).join(DISK).is_dir() {
        page.remove("DiskStoreConfig");
    }
    let mut numbers = 0;
    for source in sources() {
        for (name, fields) in configurations(&source) {
            let mut rows = page.remove(&name).unwrap_or_else(|| panic!("{name} has no table"));
            for field in fields {
                let field_name = &field.name;
                let row = rows.remove(field_name).unwrap_or_else(|| panic!("{name}::{field_name} has no row"));
                if let Some(constant_name) = field.constant {
                    let value = constant(&source, &constant_name);
                    assert_eq!(
                        written(&row),
                        Some(value),
                        "{name}::{field_name}, {constant_name}: the page says {row}"
                    );
                    numbers += 1;
                }
            }
            assert!(rows.is_empty(), "{name} has no such fields: {:?}", rows.keys());
        }
    }
    assert!(page.is_empty(), "no such configurations: {:?}", page.keys());
    assert!(numbers >= 50, "only {numbers} numbers were compared: the sources are read wrongly");
}

#[test]
fn defaults_outside_the_tables_are_true() {
    let source = read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/net/config.rs"));
    let page = include_str!("../src/manual/defaults.md");
    let hold = page.lines().find_map(|line| line.strip_prefix("* `with_server_hold`: ")?.split('.').next());
    assert_eq!(hold.and_then(written), Some(constant(&source, "DEFAULT_SERVER_HOLD")), "{hold:?}");
}

/// Each claim about a single peer names the tests that bear it out: functions, or stories of `tests/scripts`.
#[test]
fn what_no_peer_can_do_is_tested() {
    fn collect(directory: &Path, names: &mut String) {
        let entries = fs::read_dir(directory).unwrap_or_else(|why| panic!("{}: {why}", directory.display()));
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            if path.is_dir() {
                collect(&path, names);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                names.push_str(&read(&path));
            } else if let Some(story) = path.file_stem() {
                names.push_str(&format!("fn {}() {{\n", story.to_string_lossy()));
            }
        }
    }
    let mut names = String::new();
    for part in ["src", "tests"] {
        collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join(part), &mut names);
    }
    let page = include_str!("../src/manual/security.md");
    let claims = page.split("\n## ").nth(1).map(|part| part.split("\n* **").skip(1).collect::<Vec<_>>());
    let claims = claims.filter(|claims| claims.len() >= 5).unwrap_or_else(|| panic!("the page has no claims"));
    for claim in claims.iter().skip(1) {
        let tests = claim.split("Tested by ").nth(1).unwrap_or_else(|| panic!("nothing bears out: {claim}"));
        for test in tests.split('`').skip(1).step_by(2) {
            assert!(names.contains(&format!("fn {test}() {{")), "there is no test {test}");
        }
    }
}

#[test]
fn the_sum_of_what_strangers_may_cost_is_true() {
    let (core, store) = (DhtConfig::default(), MemoryStoreConfig::default());
    let inbound = constant(&read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/net/stream/config.rs")), INBOUND);
    let of_peer = constant(&read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/core/peers/addresses/mod.rs")), BOOK);
    let contact = MAX_ADDRS * MAX_ADDR_LEN;
    let bounds = [
        ("requests", inbound as usize),
        ("what answers say", core.limit.query_bytes),
        ("records", store.memory_bound()),
        ("addresses", core.limit.address_book * of_peer as usize),
        ("peers that wait", core.limit.candidates * contact),
    ];
    let page = include_str!("../src/manual/defaults.md");
    let section = page.split_once("## What strangers may cost in all").unwrap_or_else(|| panic!("no such section")).1;
    let row = |name: &str| {
        let row = section.lines().find_map(|line| line.strip_prefix("| ").filter(|row| row.starts_with(name)));
        let cell = row.and_then(|row| row.split('|').map(str::trim).nth(2));
        cell.and_then(written).unwrap_or_else(|| panic!("{name} has no row"))
    };
    for (name, bytes) in bounds {
        assert_eq!(row(name), bytes as u128, "{name}");
    }
    let all = bounds.iter().map(|(_, bytes)| *bytes as u128).sum::<u128>();
    assert_eq!(row("all of these"), all);
    assert!(store.memory_bound() <= 24 << 20 && all <= 64 << 20, "{all} bytes are more than strangers may cost");
}

/// The README is read as a plain page too, where hidden lines would show. Its program is run as a documentation test.
#[test]
fn the_readme_has_one_whole_program_and_no_hidden_lines() {
    let readme = include_str!("../README.md");
    let program: Vec<&str> =
        readme.lines().skip_while(|line| *line != "```rust").skip(1).take_while(|line| *line != "```").collect();
    assert!(program.iter().any(|line| line.starts_with("async fn main()")));
    assert!(program.len() <= 60, "{} lines", program.len());
    assert!(program.iter().all(|line| !line.starts_with("# ")), "a hidden line");
    assert_eq!(readme.matches("```rust").count(), 1);
}
