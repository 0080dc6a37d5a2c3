//! A store whose file was changed, opened and used.
#![no_main]

#[path = "../../crates/disk/tests/disk.rs"]
mod disk;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| disk::harm::use_mutated(bytes));
