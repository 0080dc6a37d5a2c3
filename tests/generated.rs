//! What is generated from `proto/` is committed, byte for byte.
//!
//! After a change to the schema, or to prost-build: `UPDATE=1 cargo test --test generated`, and commit the result.
//! The compiler is protox, so nobody needs `protoc`.
#![cfg(feature = "wire")]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs, process};

/// A schema, the code that it generates, and what that code is.
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
    Ok(fs::read_to_string(out.join(format!("{schema}.pb.rs")))?)
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
