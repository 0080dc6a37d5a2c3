//! Values of each namespace.
#![no_main]

#[path = "../../tests/fuzzed/entries.rs"]
mod entries;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = entries::values(bytes);
});
