//! Checks that the generated files, from `proto/` and by hashing, are committed byte for byte.
//!
//! After a change to the schema, or to prost-build: `UPDATE=1 cargo test --test generated`, and commit the result.
//! The compiler is protox, so `protoc` is not needed.
#![cfg(feature = "driver")]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs, process};

use libp2p_kad_dht::core::Key;

/// A schema, the code that it generates, and the first line of that code.
const GENERATED: &[(&str, &str, &str)] = &[
    ("dht", "src/wire/pb.rs", "The wire schema as Rust types"),
    ("ipns", "src/validators/ipns/pb.rs", "An IPNS record as Rust types"),
];

fn header(schema: &str, what: &str) -> String {
    format!(
        "\
//! {what}: generated from `proto/{schema}.proto` by `tests/generated.rs`, never edited by hand.
//!
//! Enumerations are open: their fields are `i32`, so that an unknown value decodes.
"
    )
}

fn generate(root: &Path, out: &Path, schema: &str) -> Result<String, Box<dyn Error>> {
    let compiled = protox::compile([root.join(format!("proto/{schema}.proto"))], [root.join("proto")])?;
    let mut config = prost_build::Config::new();
    config.bytes(["."]).out_dir(out);
    config.compile_fds(compiled)?;
    Ok(without_names(&fs::read_to_string(out.join(format!("{schema}.pb.rs")))?))
}

/// The generated code without its only `impl` blocks: the names of enumeration values as text, which no code uses.
fn without_names(code: &str) -> String {
    let (mut kept, mut within) = (String::new(), false);
    for line in code.lines() {
        within |= line.starts_with("impl ");
        if !within {
            kept += line;
            kept += "\n";
        }
        within &= line != "}";
    }
    kept
}

#[test]
fn the_committed_code_is_the_generated_code() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let out = env::temp_dir().join(format!("kad-generated-{}", process::id()));
    fs::create_dir_all(&out)?;
    for (schema, path, what) in GENERATED {
        let fresh = header(schema, what) + &generate(&root, &out, schema)?;
        let committed = root.join(path);
        if env::var_os("UPDATE").is_some() {
            fs::write(&committed, &fresh)?;
        }
        let committed = fs::read_to_string(committed).unwrap_or_default();
        assert!(committed == fresh, "{path} is stale: run `UPDATE=1 cargo test --test generated` and commit it");
    }
    fs::remove_dir_all(&out)?;
    Ok(())
}

/// For each of 2^16 prefixes the least number whose preimage hashes there, as `src/core/preimage.rs` describes it.
fn preimages() -> Vec<u8> {
    let mut found = vec![None; 1 << 16];
    let mut missing = found.len();
    for number in 0u32.. {
        let number = &number.to_be_bytes()[1..];
        let key = Key::hash(&[&[0x12, 0x20], &[0; 29][..], number].concat());
        let found: &mut Option<Vec<u8>> = &mut found[(key.head() >> 48) as usize];
        if found.is_none() {
            *found = Some(number.to_vec());
            missing -= 1;
        }
        if missing == 0 {
            break;
        }
    }
    found.into_iter().flatten().flatten().collect()
}

#[test]
fn the_committed_preimages_are_the_first_of_each_prefix() -> Result<(), Box<dyn Error>> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/core/preimages.bin");
    let fresh = preimages();
    if env::var_os("UPDATE").is_some() {
        fs::write(&path, &fresh)?;
    }
    assert!(fs::read(path)? == fresh, "it is stale: run `UPDATE=1 cargo test --test generated` and commit it");
    Ok(())
}
