//! `src/wire/pb.rs` is what `proto/dht.proto` generates, byte for byte.
//!
//! After a change to the schema, or to prost-build: `UPDATE=1 cargo test --test generated`, and commit the result.
//! The compiler is protox, so nobody needs `protoc`.
#![cfg(feature = "wire")]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs, process};

const HEADER: &str = "\
//! The wire schema as Rust types: generated from `proto/dht.proto` by `tests/generated.rs`, never edited by hand.
//!
//! Enumerations are open: their fields are `i32`, so that an unknown value decodes.
";

fn generate(root: &Path, out: &Path) -> Result<String, Box<dyn Error>> {
    let schema = protox::compile([root.join("proto/dht.proto")], [root.join("proto")])?;
    let mut config = prost_build::Config::new();
    config.bytes(["."]).out_dir(out);
    config.compile_fds(schema)?;
    let code = fs::read_to_string(out.join("dht.pb.rs"))?;
    Ok(format!("{HEADER}{code}"))
}

#[test]
fn the_committed_code_is_the_generated_code() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let out = env::temp_dir().join(format!("kad-generated-{}", process::id()));
    fs::create_dir_all(&out)?;
    let fresh = generate(&root, &out)?;
    fs::remove_dir_all(&out)?;

    let committed = root.join("src/wire/pb.rs");
    if env::var_os("UPDATE").is_some() {
        fs::write(&committed, &fresh)?;
    }
    let committed = fs::read_to_string(committed).unwrap_or_default();
    assert!(committed == fresh, "src/wire/pb.rs is stale: run `UPDATE=1 cargo test --test generated` and commit it");
    Ok(())
}
