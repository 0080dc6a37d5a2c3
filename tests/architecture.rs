//! The house stands: floors import downwards only and never in a circle, the core stays pure, and names and sizes keep
//! to the conventions.
//!
//! Reads `src/**` as text, and the crate of the disk store as if it were a module `disk`. The tables are in
//! `architecture/floors.rs`; a new module needs a place there. Each rule is also tried on a breach of it, at the end of
//! this file.

#[path = "architecture/floors.rs"]
mod floors;
#[path = "architecture/source.rs"]
mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::{fs, io};

use source::{Named, Tokens};

/// Maximum number of lines of a file.
const MAX_LINES: usize = 700;
/// Words that no type and no module may have in its name: they say nothing.
const EMPTY_NAMES: &[&str] = &["Manager", "Helper", "Util"];

/// Path below `src`, and text.
type Files = BTreeMap<String, String>;

fn walk(dir: &Path, prefix: &str, files: &mut Files) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let name = format!("{prefix}{}", path.file_name().unwrap_or_default().to_string_lossy());
        if path.is_dir() {
            walk(&path, &format!("{name}/"), files)?;
        } else if name.ends_with(".rs") {
            files.insert(name, fs::read_to_string(&path)?);
        }
    }
    Ok(())
}

fn read() -> io::Result<Files> {
    let mut files = Files::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    walk(&root.join("src"), "", &mut files)?;
    // Not in a package of this crate alone.
    if root.join("crates/disk/src").is_dir() {
        walk(&root.join("crates/disk/src"), "disk/", &mut files)?;
    }
    Ok(files)
}

/// The module of a file: `core/store/mod.rs` is `core::store`, `lib.rs` is the root.
fn module(file: &str) -> Vec<String> {
    let path = file.trim_end_matches(".rs");
    let parts = path.split('/').filter(|part| !matches!(*part, "mod" | "lib"));
    parts.map(str::to_owned).collect()
}

/// Whether a file has tests only, which may import anything.
fn is_test(file: &str) -> bool {
    file.ends_with("/tests.rs") || file.contains("/tests/")
}

/// A path from the root of the crate; `None` if it leads out of the crate, or to a child of the module.
fn within(module: &[String], path: &[String]) -> Option<Vec<String>> {
    let (first, rest) = path.split_first()?;
    match first.as_str() {
        "crate" => Some(rest.to_vec()),
        "self" => Some([module, rest].concat()),
        "super" => {
            let ups = path.iter().take_while(|part| *part == "super").count();
            let base = &module[..module.len().saturating_sub(ups)];
            Some([base, &path[ups..]].concat())
        }
        _ => None,
    }
}

/// The re-exports of `core/mod.rs`, and the path that each comes from.
fn re_exports(files: &Files) -> BTreeMap<String, Vec<String>> {
    let tokens = files.get("core/mod.rs").map(|text| source::tokens(text)).unwrap_or_default();
    let used = source::paths(&tokens).into_iter().filter(|named| named.used);
    used.filter_map(|named| Some((named.path.last()?.clone(), named.path))).collect()
}

/// Every file except for tests, with its module and its tokens.
fn sources(files: &Files) -> impl Iterator<Item = (&String, Vec<String>, Tokens)> {
    let files = files.iter().filter(|(file, _)| !is_test(file));
    files.map(|(file, text)| (file, module(file), source::tokens(text)))
}

fn upward_imports(files: &Files) -> Vec<String> {
    let re_exports = re_exports(files);
    let mut found = Vec::new();
    for (file, module, tokens) in sources(files) {
        let Some(floor) = module.first() else { continue };
        let Some((_, below)) = floors::FLOORS.iter().find(|(name, _)| name == floor) else {
            found.push(format!("{file}: `{floor}` has no floor in tests/architecture/floors.rs"));
            continue;
        };
        for Named { line, path, .. } in source::paths(&tokens) {
            let Some(target) = within(&module, &path) else { continue };
            let breach = match target.first() {
                Some(other) if other != floor => !below.contains(&other.as_str()),
                Some(_) if floor == "core" => !core_import(&module, &target, &re_exports),
                _ => false,
            };
            if breach {
                found.push(format!("{file}:{line}: names {}", path.join("::")));
            }
        }
    }
    found
}

/// The row that a module of the core needs in the table: one for itself, or for the child of it that is named. `path`
/// begins below `core`.
fn row_of(path: &[String]) -> Option<String> {
    let parent = path.first()?;
    match path.get(1) {
        Some(child) if floors::has_rows_for_children(parent) => Some(format!("{parent}::{child}")),
        _ => Some(parent.clone()),
    }
}

/// Whether this module of the core may name that one.
fn core_import(module: &[String], target: &[String], re_exports: &BTreeMap<String, Vec<String>>) -> bool {
    let Some(own) = row_of(&module[1..]) else { return true };
    let target = match target.get(1) {
        Some(name) => re_exports.get(name).map_or(&target[1..], Vec::as_slice),
        // The core as a whole would be every floor of it.
        None => return false,
    };
    let Some(parent) = target.first() else { return false };
    if own == *parent {
        return true;
    }
    // A sibling counts as itself; a child of another module, and an item of the parent, count as the module.
    let is_sibling = |row: &String| own.starts_with(&format!("{parent}::")) && floors::core_allows(row, "").is_some();
    let row = row_of(target).filter(is_sibling);
    floors::core_allows(&own, row.as_ref().unwrap_or(parent)).unwrap_or(false)
}

fn modules_without_floor(files: &Files) -> Vec<String> {
    let core = files.keys().filter(|file| file.starts_with("core/") && !is_test(file));
    let has_no_row = |row: String| floors::core_allows(&row, "").is_none();
    let unknown = core.filter(|file| row_of(&module(file)[1..]).is_some_and(has_no_row));
    unknown.map(|file| format!("{file}: has no floor in tests/architecture/floors.rs")).collect()
}

fn forbidden_paths(files: &Files) -> Vec<String> {
    let mut found = Vec::new();
    for (file, module, tokens) in sources(files) {
        // The binding's clock is the only one.
        let Some(floor) = module.first().filter(|_| file != "net/clock.rs") else { continue };
        let never: Vec<_> = floors::never(floor).collect();
        for Named { line, path, .. } in source::paths(&tokens) {
            if never.iter().any(|forbidden| reaches(&path, forbidden)) {
                found.push(format!("{file}:{line}: names {}", path.join("::")));
            }
        }
        if floors::is_pure(floor) {
            let statics = source::changing_statics(&tokens);
            found.extend(statics.iter().map(|line| format!("{file}:{line}: a static that can change")));
        }
    }
    found
}

/// Whether a path is this one, below it, a glob above it, or its end behind a `use` of its middle.
fn reaches(path: &[String], forbidden: &[&str]) -> bool {
    let starts =
        |path: &[String], with: &[&str]| path.len() >= with.len() && path.iter().zip(with).all(|(a, b)| a == b);
    let glob = path.split_last().is_some_and(|(last, above)| {
        last == "*" && above.len() < forbidden.len() && above.iter().zip(forbidden).all(|(a, b)| a == b)
    });
    glob || starts(path, forbidden) || (forbidden.len() > 2 && starts(path, &forbidden[1..]))
}

fn foreign_crates(files: &Files) -> Vec<String> {
    let mut found = Vec::new();
    for (file, module, tokens) in sources(files).filter(|(_, module, _)| module.first().is_some_and(|m| m == "core")) {
        let children = source::declared(&tokens, &["mod", "enum"]);
        let named = source::paths(&tokens);
        let imported: Vec<_> =
            named.iter().filter(|n| n.used && n.path.len() > 1).filter_map(|n| n.path.last()).collect();
        for Named { line, path, used } in &named {
            let Some(root) = path.first().filter(|_| *used) else { continue };
            let known = within(&module, path).is_some()
                || imported.contains(&root)
                || floors::CORE_CRATES.contains(&root.as_str())
                || children.iter().any(|(_, name)| name == root);
            if !known {
                found.push(format!("{file}:{line}: uses {}", path.join("::")));
            }
        }
    }
    found
}

/// The files that each file imports from, with re-exports resolved to the file that defines the item. A folder is one
/// unit: arrows between a module and its own children, which share their names by `super` and by re-exports, are left
/// out.
fn imports(files: &Files) -> BTreeMap<String, BTreeSet<String>> {
    let mut named: BTreeMap<Vec<String>, Vec<Vec<String>>> = BTreeMap::new();
    for (_, module, tokens) in sources(files) {
        let children = source::declared(&tokens, &["mod"]);
        let absolute = |path: &[String]| {
            let child = children.iter().any(|(_, name)| path.first() == Some(name));
            if child { Some([&module, path].concat()) } else { within(&module, path) }
        };
        let paths = source::paths(&tokens).into_iter().filter_map(|named| absolute(&named.path)).collect();
        named.insert(module, paths);
    }
    // The longest part of a path that is a module defines the rest of it, unless it imports that from elsewhere.
    let home = |path: &[String]| {
        let mut path = path.to_vec();
        for _ in 0..4 {
            let len = (0..=path.len()).rev().find(|len| named.contains_key(&path[..*len]))?;
            let from_elsewhere = |to: &&Vec<String>| len < path.len() && to.last() == path.get(len) && **to != path;
            match named[&path[..len]].iter().find(from_elsewhere) {
                Some(to) => path = to.clone(),
                None => return Some(path[..len].to_vec()),
            }
        }
        None
    };
    let arrows = named.iter().map(|(module, paths)| {
        let others = paths.iter().filter_map(|path| home(path));
        let others = others.filter(|other| !module.starts_with(other) && !other.starts_with(module));
        (module.join("::"), others.map(|other| other.join("::")).collect())
    });
    arrows.collect()
}

/// Modules that import each other, directly or through others.
fn circles(files: &Files) -> Vec<String> {
    let imports = imports(files);
    let way_back = |start: &String| {
        let (mut seen, mut open) = (BTreeMap::new(), vec![start]);
        while let Some(from) = open.pop() {
            for to in imports.get(from).into_iter().flatten() {
                if to == start {
                    return Some(format!(
                        "{from} imports {start}, and is imported by {:?}",
                        seen.get(from).unwrap_or(&from)
                    ));
                } else if !seen.contains_key(to) {
                    seen.insert(to, from);
                    open.push(to);
                }
            }
        }
        None
    };
    imports.keys().filter_map(way_back).collect()
}

fn empty_names(files: &Files) -> Vec<String> {
    let mut found = Vec::new();
    for (file, _, tokens) in sources(files) {
        for (line, name) in source::declared(&tokens, &["struct", "enum", "trait", "type", "union"]) {
            if EMPTY_NAMES.iter().any(|empty| name.contains(empty)) {
                found.push(format!("{file}:{line}: {name}"));
            }
        }
        let words = module(file);
        let empty = |part: &String| EMPTY_NAMES.iter().any(|empty| part.contains(&empty.to_lowercase()));
        found.extend(words.iter().filter(|part| empty(part)).map(|part| format!("{file}: module {part}")));
    }
    found
}

fn long_files(files: &Files) -> Vec<String> {
    let lines = files.iter().map(|(file, text)| (file, text.lines().count()));
    lines.filter(|(_, lines)| *lines > MAX_LINES).map(|(file, lines)| format!("{file}: {lines} lines")).collect()
}

fn defaults_without_source(files: &Files) -> Vec<String> {
    let mut found = Vec::new();
    for (file, text) in files {
        let mut comment = String::new();
        for (number, line) in text.lines().map(str::trim).enumerate() {
            if let Some(doc) = line.strip_prefix("///") {
                comment.push_str(doc);
                continue;
            }
            if line.starts_with("pub const DEFAULT_") && !comment.contains("Source:") {
                found.push(format!("{file}:{}: {line}", number + 1));
            }
            if !line.starts_with("#[") {
                comment.clear();
            }
        }
    }
    found
}

type Rule = fn(&Files) -> Vec<String>;

const RULES: &[(&str, Rule)] = &[
    ("imports point downwards", upward_imports),
    ("every module of the core has a floor", modules_without_floor),
    ("floors do not name what they must not know", forbidden_paths),
    ("the core uses few crates", foreign_crates),
    ("names say what a thing is", empty_names),
    ("files can be read in one go", long_files),
    ("every default has a source", defaults_without_source),
    ("files do not import each other in a circle", circles),
];

#[test]
fn the_house_stands() -> io::Result<()> {
    let files = read()?;
    assert!(files.contains_key("core/mod.rs") && files.contains_key("core/store/mod.rs"), "the sources were not found");
    let broken: Vec<_> = RULES
        .iter()
        .flat_map(|(rule, check)| check(&files).into_iter().map(move |at| format!("{rule}: {at}")))
        .collect();
    assert!(broken.is_empty(), "\n{}\n", broken.join("\n"));
    Ok(())
}

/// The simulator and the node are crates of their own: only circles are looked for in them.
#[test]
fn the_crates_beside_have_no_circles() -> io::Result<()> {
    for sources in ["crates/sim/src", "crates/node/src"] {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join(sources);
        // Not in a package of this crate alone.
        if dir.is_dir() {
            let mut files = Files::new();
            walk(&dir, "", &mut files)?;
            assert!(files.len() > 5, "the sources were not found");
            let circles = circles(&files);
            assert!(circles.is_empty(), "{sources}:\n{}\n", circles.join("\n"));
        }
    }
    Ok(())
}

#[test]
fn a_circle_is_seen() {
    let circle = |files: &[(&str, &str)]| {
        let files = files.iter().map(|(file, text)| ((*file).to_owned(), (*text).to_owned()));
        !circles(&files.collect()).is_empty()
    };
    assert!(circle(&[("core/a.rs", "use super::b::B;"), ("core/b.rs", "fn f() { crate::core::a::g() }")]));
    let (third, back) = (("net/c.rs", "use super::a;"), ("net/a.rs", "use crate::net::b::B;"));
    assert!(circle(&[back, ("net/b.rs", "use super::c::*;"), third]));
    assert!(!circle(&[back, ("net/b.rs", "#[cfg(test)]\nuse super::c::*;"), third]));
    // By way of a re-export.
    let root = ("core/mod.rs", "mod a; mod b; pub use a::A; pub use b::B;");
    assert!(circle(&[root, ("core/a.rs", "use super::B;"), ("core/b.rs", "use crate::core::A;")]));
    assert!(!circle(&[root, ("core/a.rs", "use super::B;"), ("core/b.rs", "use super::Other;")]));
}

/// The rules that a house of `core/mod.rs` and this one file breaks.
fn broken_by(file: &str, text: &str) -> Vec<&'static str> {
    let root =
        "mod io; mod key; pub use key::Key; pub mod query; pub use query::{Quorum, QueryPool}; pub use io::QueryId;";
    let files = Files::from([("core/mod.rs".into(), root.into()), (file.into(), text.into())]);
    RULES.iter().filter(|(_, check)| !check(&files).is_empty()).map(|(rule, _)| *rule).collect()
}

#[test]
fn a_breach_is_seen() {
    let (down, floor, never, few) = (RULES[0].0, RULES[1].0, RULES[2].0, RULES[3].0);
    let (names, length, defaults) = (RULES[4].0, RULES[5].0, RULES[6].0);
    let breaches: &[(&str, &str, &[&str])] = &[
        // Between floors.
        ("core/key.rs", "use crate::wire::MAX_IN;", &[down]),
        ("core/key.rs", "fn f() { crate::net::Behaviour::new() }", &[down]),
        ("wire/mod.rs", "use crate::{core::Key, handle::DhtHandle};", &[down]),
        ("handle/mod.rs", "use super::net::Behaviour;", &[down]),
        ("testing/mod.rs", "use crate::handle::DhtHandle;", &[down]),
        ("disk/reader.rs", "use std::time::Instant;", &[never]),
        ("net/handler/inbound.rs", "use super::super::super::testing;", &[down]),
        ("validators/mod.rs", "use crate::wire::MAX_IN;", &[down]),
        ("core/validate/mod.rs", "use crate::validators::Ipns;", &[down]),
        ("stuff.rs", "", &[down]),
        // Within the core.
        ("core/routing/mod.rs", "use super::lookup::Lookup;", &[down]),
        ("core/routing/bucket.rs", "use super::super::query::QueryPool;", &[down]),
        ("core/routing/mod.rs", "use crate::core::QueryPool;", &[down]),
        ("core/lookup/mod.rs", "use crate::core::{Key, QueryId};", &[down]),
        ("core/message.rs", "use super::io::QueryId;", &[down]),
        ("core/key.rs", "use super::contact::Contact;", &[down]),
        ("core/server/mod.rs", "use crate::core::maintain;", &[down]),
        ("core/server/mod.rs", "use super::query::received;", &[down]),
        ("core/store_ops.rs", "use super::peers::Peers;", &[down]),
        ("core/server/mod.rs", "use crate::core;", &[down]),
        ("core/server/mod.rs", "use super::*;", &[down]),
        ("core/gossip.rs", "", &[floor]),
        // Within a module whose children have rows.
        ("core/peers/host.rs", "use super::dials::Referrer;", &[down]),
        ("core/peers/addresses.rs", "use crate::core::peers::back_off::BackOffs;", &[down]),
        ("core/peers/addresses.rs", "use super::Peers;", &[down]),
        ("core/peers/dials/mod.rs", "use crate::core::routing::RoutingTable;", &[down]),
        ("core/peers/back_off.rs", "use super::{dials::DialHistory, host::Host};", &[down]),
        ("core/peers/gossip.rs", "", &[floor]),
        ("core/routing/mod.rs", "use super::peers::host::Host;", &[down]),
        // Purity.
        ("core/key.rs", "use std::time::{Duration, Instant};", &[never]),
        ("core/key.rs", "use std::time; fn f() { let _ = time::SystemTime::now(); }", &[never]),
        ("core/key.rs", "use std::time::*;", &[never]),
        ("core/key.rs", "fn f() { std::thread::spawn(g); }", &[never]),
        ("core/key.rs", "use std::{fmt, sync::{Arc, Mutex}};", &[never]),
        ("core/key.rs", "use std::collections::HashMap as Map;", &[never]),
        ("core/key.rs", "use std::net::UdpSocket;", &[never]),
        ("core/key.rs", "static COUNT: AtomicU64 = AtomicU64::new(0);", &[never]),
        ("core/key.rs", "thread_local! { static COUNT: u8 = 0; }", &[never]),
        ("core/key.rs", "fn f() { getrandom::fill(&mut [0]); }", &[never]),
        ("core/key.rs", "use prost::Message as _;", &[never, few]),
        ("core/key.rs", "use libp2p_swarm::NetworkBehaviour;", &[never, few]),
        ("core/key.rs", "use futures::StreamExt;", &[never, few]),
        ("core/key.rs", "use tokio::sync::mpsc;", &[few]),
        ("core/key.rs", "use itertools::Itertools;", &[few]),
        ("core/key.rs", "#[cfg(any(test, feature = \"testing\"))]\nuse std::fs;", &[never]),
        ("testing/mod.rs", "use std::time::Instant;", &[never]),
        ("wire/mod.rs", "use futures::io::AsyncRead;", &[never]),
        ("handle/mod.rs", "use libp2p_swarm::Swarm;", &[never]),
        ("net/mode.rs", "use std::net::UdpSocket;", &[never]),
        // Conventions.
        ("core/key.rs", "pub(crate) struct PeerManager;", &[names]),
        ("net/util.rs", "", &[names]),
        ("core/key.rs", "trait KeyHelpers {}", &[names]),
        ("core/key.rs", &"\n".repeat(MAX_LINES + 1), &[length]),
        ("core/config.rs", "/// How many.\npub const DEFAULT_MANY: usize = 1;", &[defaults]),
        ("core/config.rs", "/// Default for `many`.\npub const DEFAULT_MANY: usize = 1;", &[defaults]),
        ("core/config.rs", "/// Source: a guess.\nconst A: u8 = 1;\npub const DEFAULT_MANY: usize = 1;", &[defaults]),
    ];
    for (file, text, rules) in breaches {
        assert_eq!(broken_by(file, text), *rules, "{file}: {text}");
    }
}

#[test]
fn what_is_allowed_is_not_a_breach() {
    for (file, text) in [
        ("core/config.rs", "use super::quorum::Quorum;"),
        ("core/dht.rs", "use super::{key::Key, server::Server}; use crate::core::QueryPool;"),
        ("core/peers/address_book/mod.rs", "use super::addresses::Addresses; use super::host::Host;"),
        ("core/peers/mod.rs", "use dials::DialHistory; use super::routing::RoutingTable; mod dials;"),
        ("core/peers/addr_choice.rs", "use super::Peers; use super::dials::Referrer;"),
        ("core/server/mod.rs", "use super::peers::host::Host; use super::peers::Peers;"),
        ("core/query/pool.rs", "use super::find::Find; use crate::core::{Key, QueryId, lookup::Lookup};"),
        ("core/store/memory/values.rs", "use super::super::{Read, Write}; use super::config::MemoryStoreConfig;"),
        ("core/routing/diversity.rs", "use std::net::{IpAddr, Ipv4Addr}; use std::time::Duration;"),
        ("core/key.rs", "// use std::fs;\n/* static A */ const A: &'static str = \"crate::net::X static B\";"),
        (
            "core/key.rs",
            "const A: &str = r#\"use \"std::fs\" \"#; const B: u8 = b'\"'; const C: char = '\\''; fn r#static() {}",
        ),
        ("core/key.rs", "#[cfg(test)]\nmod tests { use std::fs; fn f() { crate::net::g(); } }"),
        ("core/key.rs", "#[cfg(test)]\nuse std::{fs, thread};\n#[cfg(test)]\nmod tests;"),
        ("core/query/tests.rs", "use crate::net; use std::thread;"),
        (
            "core/key.rs",
            "enum Side { Left } use Side::Left; fn f<'a>(a: &'a u8) -> impl Iterator<Item = u8> + use<'a> {}",
        ),
        ("net/behaviour.rs", "use crate::{core, handle::DhtHandle, wire}; use std::sync::Mutex; use super::mode;"),
        ("net/clock.rs", "use std::time::{Instant, SystemTime};"),
        ("wire/mod.rs", "static LENGTHS: [u8; 2] = [1, 2]; const A: &'static mut u8 = b;"),
        ("net/stream/framed.rs", "use std::io;"),
        ("lib.rs", "pub mod core; pub use crate::net::Behaviour; mod testing;"),
        (
            "core/config.rs",
            "/// Default k. Source: the paper.\n#[doc(alias = \"k\")]\npub const DEFAULT_K: usize = 20;",
        ),
    ] {
        assert!(broken_by(file, text).is_empty(), "{:?} by {file}: {text}", broken_by(file, text));
    }
    // A breach behind all that is still seen.
    assert!(!broken_by("core/key.rs", "const B: char = '\"'; #[cfg(test)] mod t {} use std::fs; // \"").is_empty());
}
