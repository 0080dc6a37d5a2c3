//! The rules of `docs/rules.md` and the places that cite them: each must know all rules of the other.
#![expect(clippy::unwrap_used, reason = "a test that cannot read the sources fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// For each rule the modules that follow it, such as `core::server`; `host` is the application.
fn table() -> BTreeMap<String, Vec<String>> {
    let page = fs::read_to_string("docs/rules.md").unwrap();
    let rows = page.lines().filter_map(|line| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, rule, demands, section, places, _, _] = cells[..] else { return None };
        let is_rule = rule.starts_with(['A', 'L', 'N']) && rule[1..].parse::<u8>().is_ok();
        is_rule.then(|| {
            assert!(!demands.is_empty() && !section.is_empty(), "{rule} says nothing");
            let places = places.split(',').map(|place| place.trim().trim_matches('`').to_owned());
            (rule.to_owned(), places.collect())
        })
    });
    rows.collect()
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    // The package of this crate alone has no `crates`.
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten().map(|entry| entry.path()) {
        let name = entry.file_name().unwrap().to_string_lossy().into_owned();
        if entry.is_dir() && name != "target" {
            sources(&entry, found);
        } else if name.ends_with(".rs") || name.ends_with(".md") && name != "rules.md" {
            found.push(entry);
        }
    }
}

/// Rule numbers in comments and prose, each with the file that cites it.
fn citations() -> BTreeSet<(String, String)> {
    let mut files = vec![PathBuf::from("README.md"), PathBuf::from("CHANGELOG.md")];
    ["src", "crates", "tests", "docs", "benches", "examples"]
        .iter()
        .for_each(|top| sources(Path::new(top), &mut files));
    let mut cited = BTreeSet::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let is_code = file.extension().is_some_and(|extension| extension == "rs");
        for line in text.lines().map(str::trim).filter(|line| !is_code || line.starts_with("//")) {
            let words = line.split(|letter: char| !letter.is_ascii_alphanumeric());
            let rules = words.filter(|word| {
                (2..=3).contains(&word.len())
                    && word.starts_with(['A', 'L', 'N'])
                    && word[1..].bytes().all(|digit| digit.is_ascii_digit())
            });
            cited.extend(rules.map(|rule| (rule.to_owned(), file.display().to_string())));
        }
    }
    cited
}

/// The module that a source file of the library is; `None` for tests, which check rules that others follow.
fn module(file: &str) -> Option<String> {
    let path = file.strip_prefix("src/")?.strip_suffix(".rs")?;
    let names: Vec<&str> = path.split('/').filter(|name| *name != "mod").collect();
    (!names.contains(&"tests")).then(|| names.join("::"))
}

/// Whether a module is this place of the table, or below it.
fn is_within(module: &str, place: &str) -> bool {
    module == place || module.starts_with(&format!("{place}::"))
}

#[test]
fn every_rule_that_is_cited_has_an_entry_and_a_place() {
    let table = table();
    for (rule, file) in citations() {
        let places = table.get(&rule).unwrap_or_else(|| panic!("{file} cites {rule}, which docs/rules.md lacks"));
        let Some(module) = module(&file).filter(|module| module != "lib") else { continue };
        let is_here = places.iter().any(|place| is_within(&module, place));
        assert!(is_here, "{file} cites {rule}, which docs/rules.md places in {places:?}");
    }
}

#[test]
fn every_module_cites_the_rules_that_it_follows() {
    let citations = citations();
    for (rule, places) in table() {
        for place in places.iter().filter(|place| *place != "host") {
            let mut modules = citations.iter().filter(|(cited, _)| *cited == rule).filter_map(|(_, file)| module(file));
            let is_cited = modules.any(|module| is_within(&module, place));
            assert!(is_cited, "docs/rules.md places {rule} in {place}, where no comment cites it");
        }
    }
}

#[test]
fn every_rule_names_modules_that_exist() {
    let table = table();
    assert_eq!(table.len(), 40 + 65 + 24, "the specifications have this many rules");
    for (rule, places) in table {
        for place in places.iter().filter(|place| *place != "host") {
            let path = format!("src/{}", place.replace("::", "/"));
            let exists = Path::new(&format!("{path}.rs")).exists() || Path::new(&path).join("mod.rs").exists();
            assert!(exists, "{rule} is placed in {place}, which does not exist");
        }
    }
}
